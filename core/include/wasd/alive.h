/* wasd/alive.h - which channels of a network matter to its logits: what a smaller network with the same logits keeps.
 *
 * A unit is a set of channels of several nodes that can only be removed together: channel c of both inputs and of the
 * output of an add; of the input and the output of a batch norm, an activation, a pooling, a dropout, a depthwise
 * convolution; a channel of a part and its place in the concatenation; a channel and the H*W features that flatten
 * makes of it. Flattened images are the exception: each pixel is a unit.
 *
 * A unit is fixed if it is an output of the network, or touches a grouped convolution that is not depthwise, or a layer
 * that does not say how its channels depend on each other (layer.h, channels), or if an add joins it with the images,
 * which come whole. Any other unit is alive if a convolution or linear layer with a living output reads it: by a weight
 * that is not 0, from a channel whose value is not always 0. After Induced Feature Selection (arXiv 2303.10999): dead
 * units, useless units and input features without a reader in one rule. Every node keeps at least one channel. Without
 * the others, the logits are the same in every pass that uses the statistics given.
 *
 * Borrows the graph. Belongs to one thread at a time. */
#ifndef WASD_ALIVE_H
#define WASD_ALIVE_H

#include "wasd/graph.h"

struct wasd_alive;

/* master: the weights that passes compute with, in the layout of wasd_model_master. stats: the statistics that they
 * use; NULL: any, also those of a batch; then a batch norm ends in a constant only where its scale is 0. Both are read
 * only during the call. master NULL: everything is alive. The caller frees *out with wasd_alive_destroy. WASD_ENOMEM,
 * or WASD_ETOOBIG for a network with more than 2^31 channels. */
enum wasd_status wasd_alive_create(const struct wasd_graph *g, const real *master, const real *stats,
                                   struct wasd_alive **out, struct wasd_err *err);
/* The same for other weights. Does not allocate. */
void wasd_alive_update(struct wasd_alive *a, const real *master, const real *stats);
void wasd_alive_destroy(struct wasd_alive *a);

/* One byte for each channel of node n's output (info.shape.c of them), 1: alive. Of node 0, the input, a channel is
 * alive if one of its pixels is. Valid until the next update. */
const uint8_t *wasd_alive_of(const struct wasd_alive *a, wasd_node n);
int wasd_alive_count(const struct wasd_alive *a, wasd_node n); /* of the living among them, at least 1 */
/* Multiply-adds of a network of the living channels, for one image (wasd_graph_macs without a recipe). */
uint64_t wasd_alive_macs(const struct wasd_alive *a);

/* The unit of each channel of node n's output, 0 .. wasd_alive_units - 1. They follow from the graph alone. */
const int *wasd_alive_unit(const struct wasd_alive *a, wasd_node n);
int wasd_alive_units(const struct wasd_alive *a);
bool wasd_alive_fixed(const struct wasd_alive *a, int unit);

#endif
