/* core/models/efficientnet_lite.c - EfficientNet-Lite0 as in the published script: 3x3 stem of stride 2, 16 MBConv
 * blocks in seven stages, 1x1 head; convolutions without bias, ReLU6, no squeeze-and-excite, batch norm with eps 1e-3
 * and momentum 0.01. The depthwise convolution of every block is augmented; each block has a vector "param" of two
 * alphas, of which the first is used.
 *
 * Drop-connect of block b = 0..15 has rate 0.2 b/7: as published, it divides by the seven stages and not by the blocks,
 * so the rate reaches 0.43. At 32x32 the last stages and the head see 1x1 maps, so a training batch needs two images
 * (graph/exec.c rejects one). */
#include <stdio.h>

#include "models/models.h"

#define LITE_EPS 1e-3
#define LITE_MOMENTUM 0.01
#define DROP_CONNECT 0.2
#define DROPOUT 0.2
#define STAGES 7

struct mbconv {
	char name[NAME_SIZE];
	int in, out, expand, k, stride;
	double drop;
};

static const char *sub(char out[NAME_SIZE], const struct mbconv *b, const char *what)
{
	snprintf(out, NAME_SIZE, "%.40s.%s", b->name, what);
	return out;
}

static wasd_node bn(struct wasd_graph *g, wasd_node x, const char *name)
{
	return wasd_graph_batchnorm(g, x, name, LITE_EPS, LITE_MOMENTUM);
}

static wasd_node conv1x1(struct wasd_graph *g, wasd_node x, const char *name, int out)
{
	return wasd_graph_conv(g, x, name, out, 1, 1, 0, 1, false);
}

/* 1x1 to expand*in (skipped for expand 1), depthwise k x k, 1x1 to out without activation. Where the shapes allow it,
 * the branch may be dropped and the input is added. */
static wasd_node mbconv(struct wasd_graph *g, wasd_node x, const struct mbconv *b)
{
	char param[NAME_SIZE], name[NAME_SIZE];
	int wide = b->expand * b->in;
	wasd_node y = x;
	wasd_graph_param(g, sub(param, b, "param"), 2, WASD_INIT_UNIT);
	if (b->expand != 1) {
		y = conv1x1(g, y, sub(name, b, "_expand_conv"), wide);
		y = wasd_graph_relu6(g, bn(g, y, sub(name, b, "_bn0")));
	}
	y = wasd_graph_conv(g, y, sub(name, b, "_depthwise_conv"), wide, b->k, b->stride, (b->k - 1) / 2, wide, false);
	wasd_graph_augmentable(g, name, param, 0);
	y = wasd_graph_relu6(g, bn(g, y, sub(name, b, "_bn1")));
	y = conv1x1(g, y, sub(name, b, "_project_conv"), b->out);
	y = bn(g, y, sub(name, b, "_bn2"));
	if (b->stride != 1 || b->in != b->out)
		return y;
	return wasd_graph_add(g, wasd_graph_dropconnect(g, y, b->drop), x);
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	static const struct {
		int n, k, stride, expand, out;
	} stage[STAGES] = {
		{1, 3, 1, 1, 16},  {2, 3, 2, 6, 24},  {2, 5, 2, 6, 40},  {3, 3, 2, 6, 80},
		{3, 5, 1, 6, 112}, {4, 5, 2, 6, 192}, {1, 3, 1, 6, 320},
	};
	(void)options;
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "stem.0", 32, 3, 2, 1, 1, false);
	wasd_graph_augmentable(g, "stem.0", NULL, 0);
	x = wasd_graph_relu6(g, bn(g, x, "stem.1"));
	struct mbconv b = {.in = 32};
	for (int s = 0, block = 0; s < STAGES; s++)
		for (int i = 0; i < stage[s].n; i++, block++, b.in = b.out) {
			snprintf(b.name, sizeof b.name, "blocks.%d.%d", s, i);
			b.out = stage[s].out;
			b.expand = stage[s].expand;
			b.k = stage[s].k;
			b.stride = i ? 1 : stage[s].stride;
			b.drop = DROP_CONNECT * block / STAGES;
			x = mbconv(g, x, &b);
		}
	x = wasd_graph_relu6(g, bn(g, conv1x1(g, x, "head.0", 1280), "head.1"));
	x = wasd_graph_dropout(g, wasd_graph_flatten(g, wasd_graph_globalpool(g, x)), DROPOUT);
	return wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", classes, true), err);
}

static const char *paper_was(const int *options)
{
	(void)options;
	return "{\"transforms\":[" PAPER_TRANSLATE "," PAPER_CROP "]}";
}

const struct wasd_arch arch_efficientnet_lite0 = {
	.name = "efficientnet_lite0",
	.summary =
		"EfficientNet-Lite0 for small images: 16 MBConv blocks with augmented depthwise 3x3 and 5x5 convolutions",
	.paper_was = paper_was,
	.min_side = 16,
	.build = build,
};
