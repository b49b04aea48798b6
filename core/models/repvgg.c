/* core/models/repvgg.c - RepVGG (Ding et al., arXiv 2101.03697), from memory of the authors' code and not checked
 * against it: a stem and four stages of blocks
 *
 *     relu(BN(conv3x3(x)) + BN(conv1x1(x)) + BN(x))          the last one where the shape stays
 *
 * which a bundle folds into one 3x3 convolution each (infer/fold.h); then the mean of each map and a linear layer. The
 * stages have 64a, 128a, 256a, 512b channels and the stem at most 64; A0, A1, B0 and B1 are pairs of options below. The
 * published networks read images of 224x224 with stride 2 in the stem and in every stage; for small images the first
 * two strides are 1 here, which is our own choice. A job may augment the 3x3 convolutions. */
#include <stdio.h>

#include "models/models.h"

enum { OPT_BLOCKS, OPT_WIDTH };

static wasd_node conv_bn(struct wasd_graph *g, wasd_node x, const char *branch, int out, int k, int stride)
{
	char conv[NAME_SIZE + 8], bn[NAME_SIZE + 8];
	snprintf(conv, sizeof conv, "%s.conv", branch);
	snprintf(bn, sizeof bn, "%s.bn", branch);
	x = wasd_graph_conv(g, x, conv, out, k, stride, k / 2, 1, false);
	if (k > 1)
		wasd_graph_augmentable(g, conv, NULL, 0);
	return wasd_graph_batchnorm(g, x, bn, BN_EPS, BN_MOMENTUM);
}

static wasd_node block(struct wasd_graph *g, wasd_node x, const char *name, int in, int out, int stride)
{
	char branch[NAME_SIZE];
	snprintf(branch, sizeof branch, "%.40s.rbr_dense", name);
	wasd_node y = conv_bn(g, x, branch, out, 3, stride);
	snprintf(branch, sizeof branch, "%.40s.rbr_1x1", name);
	y = wasd_graph_add(g, y, conv_bn(g, x, branch, out, 1, stride));
	if (in == out && stride == 1) {
		snprintf(branch, sizeof branch, "%.40s.rbr_identity", name);
		y = wasd_graph_add(g, y, wasd_graph_batchnorm(g, x, branch, BN_EPS, BN_MOMENTUM));
	}
	return wasd_graph_relu(g, y);
}

/* Channels of the stages, by per cent of the width. */
static const struct {
	int percent, stage[4];
} widths[] = {
	{25, {16, 32, 64, 256}}, /* not published */
	{75, {48, 96, 192, 1280}},
	{100, {64, 128, 256, 1280}},
	{200, {128, 256, 512, 2048}},
};

static const int *channels(int percent)
{
	int i = 0;
	while (widths[i].percent != percent)
		i++;
	return widths[i].stage;
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	static const int a[4] = {2, 4, 14, 1}, b[4] = {4, 6, 16, 1};
	const int *blocks = options[OPT_BLOCKS] == 22 ? a : b, *out = channels(options[OPT_WIDTH]);
	int in = out[0] < 64 ? out[0] : 64;
	char name[NAME_SIZE];
	wasd_node x = block(g, wasd_graph_input(g), "stage0", wasd_graph_input_shape(g).c, in, 1);
	for (int stage = 0; stage < 4; stage++)
		for (int i = 0; i < blocks[stage]; i++, in = out[stage]) {
			snprintf(name, sizeof name, "stage%d.%d", stage + 1, i);
			x = block(g, x, name, in, out[stage], stage && !i ? 2 : 1);
		}
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	return wasd_graph_finish(g, wasd_graph_linear(g, x, "linear", classes, true), err);
}

static const char *paper_was(const int *options)
{
	(void)options;
	return "false";
}

static const char *const blocks_of[] = {"22", "28", NULL}, *const percents[] = {"25", "75", "100", "200", NULL};

const struct wasd_arch arch_repvgg = {
	.name = "repvgg",
	.summary = "RepVGG: blocks of three branches that are served as one 3x3 convolution",
	.options = {[OPT_BLOCKS] = {"blocks", WASD_INT, "22", .choices = blocks_of,
                                .summary = "with the stem: 22 (A0, A1) or 28 (B0, B1)"},
                [OPT_WIDTH] = {"width", WASD_INT, "75", .choices = percents,
                               .summary = "per cent: 75 (A0), 100 (A1, B0), 200 (B1); 25 is not published"}},
	.paper_was = paper_was,
	.min_side = 16,
	.build = build,
};
