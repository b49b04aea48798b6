/* core/models/resnet.c - ResNet-18 and -34 as in the published script: 3x3 stem, four stages of basic blocks; shortcuts
 * that change the shape are 3x3 convolutions. Both convolutions of every block are augmented; each block has a vector
 * "param" of four alphas, of which the first two are used. The final 4x4 average pool is the mean over the whole map,
 * which is the same at 32x32. */
#include <stdio.h>

#include "models/models.h"

struct block {
	char name[NAME_SIZE];
	int in, out, stride;
};

static const char *sub(char out[NAME_SIZE], const struct block *b, const char *what)
{
	snprintf(out, NAME_SIZE, "%.40s.%s", b->name, what);
	return out;
}

static wasd_node conv_bn(struct wasd_graph *g, wasd_node x, const char *conv, const char *bn, int out, int stride)
{
	x = wasd_graph_conv(g, x, conv, out, 3, stride, 1, 1, false);
	return wasd_graph_batchnorm(g, x, bn, BN_EPS, BN_MOMENTUM);
}

static wasd_node basic_block(struct wasd_graph *g, wasd_node x, const struct block *b)
{
	char param[NAME_SIZE], conv[NAME_SIZE], bn[NAME_SIZE];
	wasd_graph_param(g, sub(param, b, "param"), 4, WASD_INIT_UNIT);
	wasd_node y = conv_bn(g, x, sub(conv, b, "conv1"), sub(bn, b, "bn1"), b->out, b->stride);
	wasd_graph_augmentable(g, conv, param, 0);
	y = conv_bn(g, wasd_graph_relu(g, y), sub(conv, b, "conv2"), sub(bn, b, "bn2"), b->out, 1);
	wasd_graph_augmentable(g, conv, param, 1);
	if (b->stride != 1 || b->in != b->out) {
		x = conv_bn(g, x, sub(conv, b, "shortcut.0"), sub(bn, b, "shortcut.1"), b->out, b->stride);
		wasd_graph_augmentable(g, conv, NULL, 0);
	}
	return wasd_graph_relu(g, wasd_graph_add(g, y, x));
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int blocks[4], struct wasd_err *err)
{
	wasd_node x = wasd_graph_relu(g, conv_bn(g, wasd_graph_input(g), "conv", "bn", 64, 1));
	wasd_graph_augmentable(g, "conv", NULL, 0);
	struct block b = {.in = 64, .out = 64};
	for (int stage = 0; stage < 4; stage++, b.out *= 2)
		for (int i = 0; i < blocks[stage]; i++) {
			snprintf(b.name, sizeof b.name, "layer%d.%d", stage + 1, i);
			b.stride = stage && !i ? 2 : 1;
			x = basic_block(g, x, &b);
			b.in = b.out;
		}
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	return wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", classes, true), err);
}

static enum wasd_status build18(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	(void)options;
	return build(g, classes, (const int[4]){2, 2, 2, 2}, err);
}

static enum wasd_status build34(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	(void)options;
	return build(g, classes, (const int[4]){3, 4, 6, 3}, err);
}

static const char *paper_was(const int *options)
{
	(void)options;
	return "{\"transforms\":[" PAPER_TRANSLATE "," PAPER_CROP "]}";
}

const struct wasd_arch arch_resnet18 = {
	.name = "resnet18",
	.summary = "ResNet-18 for small images: 3x3 stem and shortcuts, 16 augmented convolutions",
	.paper_was = paper_was,
	.min_side = 16,
	.build = build18,
};
const struct wasd_arch arch_resnet34 = {
	.name = "resnet34",
	.summary = "ResNet-34 for small images: 3x3 stem and shortcuts, 32 augmented convolutions",
	.paper_was = paper_was,
	.min_side = 16,
	.build = build34,
};
