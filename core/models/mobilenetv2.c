/* core/models/mobilenetv2.c - MobileNetV2 as in the published script: 1x1 stem, 17 inverted bottlenecks, 1x1 head. All
 * convolutions have a bias; activations are ReLU6. The depthwise 3x3 of every bottleneck is augmented; each has a
 * vector "param" of two alphas, of which the first is used. The classifier is a 1x1 convolution of the averaged map. */
#include <stdio.h>

#include "models/models.h"

struct bottleneck {
	char name[NAME_SIZE];
	int in, out, expand, stride;
};

static const char *sub(char out[NAME_SIZE], const struct bottleneck *b, const char *what)
{
	snprintf(out, NAME_SIZE, "%.40s.%s", b->name, what);
	return out;
}

static wasd_node conv1x1_bn(struct wasd_graph *g, wasd_node x, const char *conv, const char *bn, int out)
{
	x = wasd_graph_conv(g, x, conv, out, 1, 1, 0, 1, true);
	return wasd_graph_batchnorm(g, x, bn, BN_EPS, BN_MOMENTUM);
}

/* 1x1 to expand*in, depthwise 3x3, 1x1 to out without activation. The input is added where the shapes allow it. */
static wasd_node bottleneck(struct wasd_graph *g, wasd_node x, const struct bottleneck *b)
{
	char param[NAME_SIZE], conv[NAME_SIZE], bn[NAME_SIZE];
	int wide = b->expand * b->in;
	wasd_graph_param(g, sub(param, b, "param"), 2, WASD_INIT_UNIT);
	wasd_node y = wasd_graph_relu6(g, conv1x1_bn(g, x, sub(conv, b, "residual.0"), sub(bn, b, "residual.1"), wide));
	y = wasd_graph_conv(g, y, sub(conv, b, "conv"), wide, 3, b->stride, 1, wide, true);
	wasd_graph_augmentable(g, conv, param, 0);
	y = wasd_graph_relu6(g, wasd_graph_batchnorm(g, y, sub(bn, b, "residual_1.0"), BN_EPS, BN_MOMENTUM));
	y = conv1x1_bn(g, y, sub(conv, b, "residual_1.2"), sub(bn, b, "residual_1.3"), b->out);
	return b->stride == 1 && b->in == b->out ? wasd_graph_add(g, y, x) : y;
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	/* A stage of one bottleneck has no index of its own in the names. Stages 5 and 6 keep the size, as published. */
	static const struct {
		int expand, out, n, stride;
	} stage[7] = {
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 1}, {6, 320, 1, 1},
	};
	(void)options;
	wasd_node x = wasd_graph_relu6(g, conv1x1_bn(g, wasd_graph_input(g), "pre.0", "pre.1", 32));
	struct bottleneck b = {.in = 32};
	for (int s = 0; s < 7; s++)
		for (int i = 0; i < stage[s].n; i++, b.in = b.out) {
			int end = snprintf(b.name, sizeof b.name, "stage%d", s + 1);
			if (stage[s].n > 1)
				snprintf(b.name + end, sizeof b.name - (size_t)end, ".%d", i);
			b.expand = stage[s].expand;
			b.out = stage[s].out;
			b.stride = i ? 1 : stage[s].stride;
			x = bottleneck(g, x, &b);
		}
	x = wasd_graph_globalpool(g, wasd_graph_relu6(g, conv1x1_bn(g, x, "conv1.0", "conv1.1", 1280)));
	return wasd_graph_finish(g, wasd_graph_conv(g, x, "conv2", classes, 1, 1, 0, 1, true), err);
}

static const char *paper_was(const int *options)
{
	(void)options;
	return "{\"transforms\":[" PAPER_TRANSLATE "," PAPER_CROP "]}";
}

const struct wasd_arch arch_mobilenetv2 = {
	.name = "mobilenetv2",
	.summary = "MobileNetV2 for small images: 17 inverted bottlenecks with augmented depthwise 3x3 convolutions",
	.paper_was = paper_was,
	.min_side = 8,
	.build = build,
};
