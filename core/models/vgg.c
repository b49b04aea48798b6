/* core/models/vgg.c - VGG-16 with batch norm, as published: 13 3x3 convolutions with bias in five stages with max
 * pooling after each, head 512-H-H-C with dropout. A convolution is augmented if and only if it has as many input as
 * output channels.
 *
 * Names follow the reference's two sequences: convolution, batch norm, ReLU and pool each take a number of "conv", so
 * the layer after a pool skips one. All alphas are in the vector "param" of 45, at 1, 3, ... 17; a batch norm "BN" is
 * registered but unused.
 *
 * Sizes other than 32x32: a pool is omitted once the map is 1x1 (16x16 images). Whatever the fifth pool leaves larger
 * than 1x1 is averaged before the head; at 32x32 this is the identity. */
#include <stdio.h>

#include "models/models.h"

enum { OPT_HEAD };

static wasd_node conv_bn_relu(struct wasd_graph *g, wasd_node x, int in, int out, int *index, int *alpha)
{
	char conv[NAME_SIZE], bn[NAME_SIZE];
	bool same = in == out;
	snprintf(conv, sizeof conv, "conv.%d", *index);
	snprintf(bn, sizeof bn, "conv.%d", *index + 1);
	*index += 3;
	x = wasd_graph_conv(g, x, conv, out, 3, 1, 1, 1, true);
	wasd_graph_augmentable(g, conv, same ? "param" : NULL, same ? *alpha : 0);
	*alpha += same ? 2 : 0;
	return wasd_graph_relu(g, wasd_graph_batchnorm(g, x, bn, BN_EPS, BN_MOMENTUM));
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	static const struct {
		int channels, convs;
	} stage[5] = {{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}};
	struct wasd_shape s = wasd_graph_input_shape(g);
	int in = s.c, index = 0, alpha = 1;
	wasd_graph_param(g, "param", 45, WASD_INIT_UNIT);
	wasd_node x = wasd_graph_input(g);
	for (int i = 0; i < 5; i++) {
		for (int j = 0; j < stage[i].convs; j++, in = stage[i].channels)
			x = conv_bn_relu(g, x, in, stage[i].channels, &index, &alpha);
		index++;
		if (s.h == 1 || s.w == 1)
			continue;
		x = wasd_graph_maxpool(g, x, 2, 2, 0);
		s.h /= 2;
		s.w /= 2;
	}
	if (s.h > 1 || s.w > 1)
		x = wasd_graph_globalpool(g, x);
	x = wasd_graph_flatten(g, x);

	int head = options[OPT_HEAD];
	x = wasd_graph_dropout(g, wasd_graph_relu(g, wasd_graph_linear(g, x, "fc.0", head, true)), 0.5);
	x = wasd_graph_dropout(g, wasd_graph_relu(g, wasd_graph_linear(g, x, "fc.3", head, true)), 0.5);
	x = wasd_graph_linear(g, x, "fc.6", classes, true);
	wasd_graph_param(g, "BN.weight", 512, WASD_INIT_ONE);
	wasd_graph_param(g, "BN.bias", 512, WASD_INIT_ZERO);
	wasd_graph_spare_stats(g, "BN", 512);
	return wasd_graph_finish(g, x, err);
}

static const char *paper_was(const int *options)
{
	return options[OPT_HEAD] == 512 ? "{\"transforms\":[" PAPER_TRANSLATE "]}" : "{\"transforms\":[" PAPER_CROP "]}";
}

static const char *const heads[] = {"512", "4096", NULL};

const struct wasd_arch arch_vgg16 = {
	.name = "vgg16",
	.summary = "VGG-16 with batch norm: 13 3x3 convolutions, head of 512 or 4096",
	.options = {[OPT_HEAD] = {"head", WASD_INT, "512", .choices = heads,
                              .summary = "width of the two hidden linear layers"}},
	.paper_was = paper_was,
	.min_side = 16,
	.build = build,
};
