/* extend_network.h - a network that core does not have. */
#include "wasd/model.h"

static enum wasd_status speck_build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	(void)options;
	wasd_graph_param(g, "alpha", 1, WASD_INIT_UNIT);
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "conv", 4, 3, 1, 1, 1, true);
	wasd_graph_augmentable(g, "conv", "alpha", 0);
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, wasd_graph_relu(g, x)));
	return wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", classes, true), err);
}

static const char *speck_was(const int *options)
{
	(void)options;
	return "{\"transforms\":[{\"type\":\"transpose\"}]}";
}

static const struct wasd_arch arch_speck = {.name = "speck",
                                            .summary = "one convolution",
                                            .paper_was = speck_was,
                                            .min_side = 4,
                                            .build = speck_build};
