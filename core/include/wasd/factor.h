/* wasd/factor.h - surgery: a network in which some layers are two, as a job's own list of layers (wasd/model.h).
 *
 *     NAME, outs x ins   ->   NAME, r x ins, without bias;   NAME.mix, outs x r, with the bias: a convolution of one
 *                             tap behind a convolution, a linear layer behind a linear layer
 *
 * Kernel, stride, padding and augmentation stay those of the first. Whatever read NAME reads NAME.mix. */
#ifndef WASD_FACTOR_H
#define WASD_FACTOR_H

#include "wasd/graph.h"
#include "wasd/json.h"

#define WASD_FACTOR_SUFFIX ".mix"
#define WASD_FACTOR_NAME 64

struct wasd_factor {
	const char *layer; /* without groups, and not the one that gives the logits */
	int rank;          /* outputs of its first half */
};
/* list: a network as {"name","layers":[...]} in which every layer has a name (wasd_slim_model). *out: the other one, of
 * that name; deleted by the caller. WASD_EINVAL: the list has no such layer, or a layer is the one that gives the
 * logits. */
enum wasd_status wasd_factor_model(const cJSON *list, const struct wasd_factor *split, int n, const char *name,
                                   cJSON **out, struct wasd_err *err);
/* The name of the network: base with "-lowrank" behind it, once. */
void wasd_factor_name(const char *base, char out[WASD_FACTOR_NAME]);
/* The other half of node i; -1: it is not the second half of any. */
wasd_node wasd_factor_first(const struct wasd_graph *g, wasd_node i);
/* True if node i is a half already, or another node has the name that its second half would have. */
bool wasd_factor_taken(const struct wasd_graph *g, wasd_node i);
/* True if node i is the last layer with weights in front of the logits. */
bool wasd_factor_classifies(const struct wasd_graph *g, wasd_node i);

/* Copies a block with one value per parameter (stats: one set of statistics) of the list's network to that of the split
 * one, by the names. The weights of both halves are left alone. */
void wasd_factor_copy_params(const struct wasd_graph *list, const real *from, const struct wasd_graph *split, real *to);
void wasd_factor_copy_stats(const struct wasd_graph *list, const real *from, const struct wasd_graph *split, real *to);

#endif
