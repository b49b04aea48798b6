/* wasd/slim.h - surgery: a network without its dead channels, as a job's own list of layers (wasd/model.h), and where
 * every value of the smaller network stands in the whole one.
 *
 * What is dead is the caller's finding (wasd/alive.h): a channel that is zero whatever the image, or that nobody
 * reads. Leaving it out then changes no answer except by rounding. The surgery itself looks at no weight.
 *
 *     convolution, linear     the rows of the weights (outputs) and the columns (inputs) that are alive;
 *                             bias, BatchNorm and its statistics along with the rows
 *     depthwise, pool, relu   the channels of the input
 *     add                     the same channels of all inputs
 *     concat                  those of its inputs, one behind the other
 *     flatten                 H*W units for each channel
 *
 * Never cut: the images, the outputs of the classifier, and what a convolution with several groups (not depthwise)
 * reads and writes. A layer keeps at least its first channel, since a network has no layers without channels.
 * Parameters that no layer reads (VGG-16's spare BatchNorm, spare alphas) are left out. The smaller network has the
 * layers of the whole one in the same order, so that node i of one is node i of the other. */
#ifndef WASD_SLIM_H
#define WASD_SLIM_H

#include "wasd/graph.h"
#include "wasd/json.h"

struct wasd_slim;

/* The network `g` without what is dead. alive[i]: one byte per output channel of node i (unit, behind a flatten), 1 =
 * alive; borrowed until the return. Sets must agree: over add, BatchNorm, activations and pools with those of the
 * inputs, over concat with their sequence. Behind a flatten a channel stays if any of its units is alive. name: of the
 * new network, in jobs and checkpoints; WASD_EINVAL if no network can be called so. Borrows g for the lifetime of *out.
 * WASD_EINVAL: sets that contradict each other or cut what is never cut; the message begins with the layer's name.
 * WASD_EUNSUPPORTED: a layer that a job's own list cannot have, by name. */
enum wasd_status wasd_slim_create(const struct wasd_graph *g, const uint8_t *const *alive, const char *name,
                                  struct wasd_slim **out, struct wasd_err *err);
/* The same for what wasd/alive.h finds dead under these weights and statistics, which are read only during the call.
 * weights NULL: nothing is dead; if that succeeds, so it does for other weights. */
enum wasd_status wasd_slim_of(const struct wasd_graph *g, const real *weights, const real *stats, const char *name,
                              struct wasd_slim **out, struct wasd_err *err);
/* A model of the smaller network with the weights and all statistics of `whole`, a model of the whole one. */
enum wasd_status wasd_slim_carry(const struct wasd_slim *s, struct wasd_model *whole, struct wasd_model **out,
                                 struct wasd_err *err);
void wasd_slim_destroy(struct wasd_slim *s);

/* {"name","layers":[...]}, for a job's "model"; deleted by wasd_slim_destroy. */
const cJSON *wasd_slim_model(const struct wasd_slim *s);
/* The network that wasd_network_build makes of wasd_slim_model. A model of it (wasd_model_create) keeps it beyond s. */
struct wasd_graph *wasd_slim_graph(const struct wasd_slim *s);
/* Channels of all layers together that were left out; 0: the networks are the same but for their parameters' order. */
size_t wasd_slim_removed(const struct wasd_slim *s);
#define WASD_SLIM_NAME 64
/* The usual name for the smaller network: base with "-slim" behind it, once. */
void wasd_slim_name(const char *base, char out[WASD_SLIM_NAME]);
/* The input features that a layer reads: used has one byte per value of an image (C,H,W), 1 = read. Behind a flatten
 * these are pixels; a convolution shares its weights over positions, so that it reads whole channels. */
void wasd_slim_input(const struct wasd_graph *g, const uint8_t *const *alive, uint8_t *used);
/* Kept output channels of node i, ascending: *n of them, indices of the whole network's. Borrowed. */
const int *wasd_slim_channels(const struct wasd_slim *s, wasd_node i, int *n);

/* Where a parameter of the smaller network, or a set of statistics, stands in the whole one. */
struct wasd_slim_part {
	int from;                /* index of the parameter (statistics) in the whole network */
	size_t first;            /* of the element that is wanted, if it is a single one (an alpha of a vector); else 0 */
	const int *row, *column; /* kept indices of its first two dimensions; NULL: all, in their order */
	int rows, columns;       /* how many; 1 column if there is no second dimension */
	size_t row_length;       /* columns of the whole parameter */
	size_t taps;             /* elements behind one row and column */
};
struct wasd_slim_part wasd_slim_param(const struct wasd_slim *s, int param); /* params of wasd_slim_graph */
struct wasd_slim_part wasd_slim_stats(const struct wasd_slim *s, int stats);
/* Element of the whole parameter for element i of the smaller one, in the order of each: for masks and other tensors
 * that are not blocks. */
size_t wasd_slim_element(const struct wasd_slim_part *p, size_t i);

/* Copies a block with one value per parameter (master weights, a state of the optimizer): whole has
 * wasd_graph_param_count elements of the whole network, small those of wasd_slim_graph. */
void wasd_slim_copy_params(const struct wasd_slim *s, const real *whole, real *small);
/* Does the same for one set of statistics (wasd_graph_stats_count elements); and the other way round: what the smaller
 * network does not have stays. */
void wasd_slim_copy_stats(const struct wasd_slim *s, const real *whole, real *small);
void wasd_slim_spread_stats(const struct wasd_slim *s, const real *small, real *whole);

#endif
