/* infer/fold.h - the network that a mode is served with: the checkpoint's with its normalisations and parallel branches
 * folded into convolutions. */
#ifndef INFER_FOLD_H
#define INFER_FOLD_H

#include "wasd/graph.h"

struct folded {
	struct wasd_graph *graph;
	struct wasd_model *model; /* the statistics of normalisations that stay are in WASD_STATS_AOM */
	bool *summed;             /* per node of the graph: a convolution made of several branches */
};

/* Folds the weights of m, as recipe r forms them (NULL: as they are), with the statistics of `set`. The caller frees
 * *out with folded_done. */
enum wasd_status fold_network(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                              struct folded *out, struct wasd_err *err);
void folded_done(struct folded *f); /* safe on a zeroed struct */

#endif
