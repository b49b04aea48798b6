/* weights/slices.h - the parts of slices.c that its golden numbers are about. */
#ifndef WEIGHTS_SLICES_H
#define WEIGHTS_SLICES_H

#include "wasd/slim.h"

/* Runs of values that a smaller network's parameters and the whole one's have in common, in the order of the smaller
 * one's. */
struct slice_run {
	int param; /* of the whole network */
	size_t whole, small, n;
};
struct slice_runs {
	struct slice_run *run;
	size_t n;
};
/* For the blocks of wasd_slim_copy_params. The caller frees run. WASD_ENOMEM. */
enum wasd_status slice_runs_create(const struct wasd_slim *s, const struct wasd_graph *whole, struct slice_runs *out,
                                   struct wasd_err *err);
/* The slice of the weights that the whole network computes with; and of a block the gradient, added to its own. */
void slice_gather(const struct slice_runs *r, const struct wasd_model *whole, real *small);
void slice_scatter(const struct slice_runs *r, const real *small, real *whole);

/* Of the EMA after step t, counted from 0: min(0.997, (1 + t)/(10 + t)). */
double slice_decay(uint64_t t);
/* Adds factor * softmax(z) to p, for n images. */
void slice_softmax(const real *z, int n, int classes, double factor, real *p);

#endif
