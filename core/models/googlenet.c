/* core/models/googlenet.c - GoogLeNet as in the published script: 3x3 stem of 192 channels, nine inception blocks in
 * three stages with max pooling between them, no auxiliary heads. Every convolution has a bias, batch norm and ReLU.
 * The 3x3 and the 5x5 of each block are augmented; each block has a vector "param" of eight alphas, of which the first
 * two are used.
 *
 * Names follow the reference's sequences: convolution, batch norm and ReLU each take a number within a branch, as does
 * the pool that opens branch 4. The final 8x8 average pool is the mean over the whole map, which is the same at
 * 32x32. */
#include <stdio.h>

#include "models/models.h"

struct inception {
	const char *name;
	int n1, r3, n3, r5, n5, pool;
};

/* Convolution `at` of a branch, its batch norm (at + 1) and ReLU. alpha_param NULL: the paper does not augment it. */
static wasd_node unit(struct wasd_graph *g, wasd_node x, const char *branch, int at, int out, int k,
                      const char *alpha_param, int alpha)
{
	char conv[NAME_SIZE], bn[NAME_SIZE];
	snprintf(conv, sizeof conv, "%.40s.%d", branch, at);
	snprintf(bn, sizeof bn, "%.40s.%d", branch, at + 1);
	x = wasd_graph_conv(g, x, conv, out, k, 1, (k - 1) / 2, 1, true);
	if (k > 1)
		wasd_graph_augmentable(g, conv, alpha_param, alpha);
	return wasd_graph_relu(g, wasd_graph_batchnorm(g, x, bn, BN_EPS, BN_MOMENTUM));
}

static wasd_node inception(struct wasd_graph *g, wasd_node x, const struct inception *b)
{
	char param[NAME_SIZE], branch[4][NAME_SIZE];
	for (int i = 0; i < 4; i++)
		snprintf(branch[i], sizeof branch[i], "%s.block%d", b->name, i + 1);
	snprintf(param, sizeof param, "%s.param", b->name);
	wasd_graph_param(g, param, 8, WASD_INIT_UNIT);
	wasd_node y[4];
	y[0] = unit(g, x, branch[0], 0, b->n1, 1, NULL, 0);
	y[1] = unit(g, unit(g, x, branch[1], 0, b->r3, 1, NULL, 0), branch[1], 3, b->n3, 3, param, 0);
	y[2] = unit(g, unit(g, x, branch[2], 0, b->r5, 1, NULL, 0), branch[2], 3, b->n5, 5, param, 1);
	y[3] = unit(g, wasd_graph_maxpool(g, x, 3, 1, 1), branch[3], 1, b->pool, 1, NULL, 0);
	return wasd_graph_concat(g, y, 4);
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	static const struct inception stage[3][6] = {
		{{"a3", 64, 96, 128, 16, 32, 32}, {"b3", 128, 128, 192, 32, 96, 64}},
		{{"a4", 192, 96, 208, 16, 48, 64},
	     {"b4", 160, 112, 224, 24, 64, 64},
	     {"c4", 128, 128, 256, 24, 64, 64},
	     {"d4", 112, 144, 288, 32, 64, 64},
	     {"e4", 256, 160, 320, 32, 128, 128}},
		{{"a5", 256, 160, 320, 32, 128, 128}, {"b5", 384, 192, 384, 48, 128, 128}},
	};
	(void)options;
	wasd_node x = unit(g, wasd_graph_input(g), "pre_layers", 0, 192, 3, NULL, 0);
	for (int i = 0; i < 3; i++) {
		if (i)
			x = wasd_graph_maxpool(g, x, 3, 2, 1);
		for (const struct inception *b = stage[i]; b->name; b++)
			x = inception(g, x, b);
	}
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	return wasd_graph_finish(g, wasd_graph_linear(g, x, "linear", classes, true), err);
}

static const char *paper_was(const int *options)
{
	(void)options;
	return "{\"transforms\":[" PAPER_TRANSLATE "," PAPER_CROP_HARD "]}";
}

const struct wasd_arch arch_googlenet = {
	.name = "googlenet",
	.summary = "GoogLeNet for small images: nine inception blocks, 18 augmented 3x3 and 5x5 convolutions",
	.paper_was = paper_was,
	.min_side = 8,
	.build = build,
};
