/* core/models/lenet.c - LeNet: 5x5 6, pool, 5x5 16, pool, 400-120-84-C, with ReLU. The authors' script has a ReLU
 * behind the last linear layer too ("published"): a class whose logit is below 0 for every image then has no gradient
 * and is never predicted again. The classic network has linear logits. Specs stored before the option existed mean the
 * published network. 28x28 images are padded by 2 in conv1, as in the classic network, so that both sizes match the 400
 * inputs of the head. The published network augments nothing; a job may. */
#include "models/models.h"

static wasd_node conv_pool(struct wasd_graph *g, wasd_node x, const char *name, int out, int padding)
{
	x = wasd_graph_conv(g, x, name, out, 5, 1, padding, 1, true);
	wasd_graph_augmentable(g, name, NULL, 0);
	return wasd_graph_maxpool(g, wasd_graph_relu(g, x), 2, 2, 0);
}

static wasd_node linear_relu(struct wasd_graph *g, wasd_node x, const char *name, int out)
{
	return wasd_graph_relu(g, wasd_graph_linear(g, x, name, out, true));
}

static enum wasd_status build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	wasd_node x = conv_pool(g, wasd_graph_input(g), "conv1", 6, wasd_graph_input_shape(g).h == 28 ? 2 : 0);
	x = wasd_graph_flatten(g, conv_pool(g, x, "conv2", 16, 0));
	x = linear_relu(g, x, "f1", 120);
	x = linear_relu(g, x, "f2", 84);
	return wasd_graph_finish(g,
	                         options[0] ? linear_relu(g, x, "f3", classes) :
	                                      wasd_graph_linear(g, x, "f3", classes, true),
	                         err);
}

static const char *paper_was(const int *options)
{
	(void)options;
	return "false";
}

const struct wasd_arch arch_lenet = {
	.name = "lenet",
	.summary = "LeNet-5: two 5x5 convolutions, three linear layers; 28x28 or 32x32",
	.options = {{"published", WASD_BOOL, "false", .stored = "true",
                 .summary = "the authors' own network: a ReLU on the logits too"}},
	.paper_was = paper_was,
	.min_side = 28,
	.sides = {28, 32},
	.build = build,
};
