/* optim/rso.h - the inside of the search "rso", for its tests. */
#ifndef OPTIM_RSO_H
#define OPTIM_RSO_H

#include "graph/graph.h"
#include "wasd/optim.h"

/* A tensor in the order of the visits. A conv or linear tensor that the search can change in its layer's output
 * without computing the layer again has `direct` set. */
struct rso_place {
	wasd_node node;
	int param;
	bool bias, direct;
	double sigma;   /* of the change in the first cycle */
	double share;   /* of a pass that a candidate costs: the multiply-adds behind the layer */
	uint32_t first; /* step of the epoch; it has ceil(count / weights_per_batch) of them */
};

struct rso {
	const struct wasd_graph *graph;
	double anneal, decay;
	bool spares;
	int batch, epochs;
	uint64_t seed;
	size_t per_batch;
	struct rso_place *place;
	int n_places;
	uint32_t steps;
	size_t in, out, plane; /* largest input, output and output plane of a direct layer, for one image */
	real *x, *y, *channel; /* NCHW: its input, its output, and the part of the output that a scalar changes */
	double *delta;         /* per_batch */
	bool whole;            /* tests: every candidate by a pass of its own over the whole network */
};

/* Scalars [from, from + n) of a place are tried one after the other on the step's batch, with the changes d[]. */
struct rso_visit {
	const struct rso_place *place;
	size_t from, n;
	const double *d;
};
enum wasd_status rso_visit(struct rso *r, const struct rso_visit *v, const struct wasd_search_step *s,
                           struct wasd_search_result *out, struct wasd_err *err);
/* Adds to r->y, the output of the layer for n images, what `delta` on scalar k of a direct place changes in it; r->x is
 * the layer's input. */
void rso_add_change(struct rso *r, const struct rso_place *p, size_t k, int n, real delta);
/* The factor on sigma in cycle c, from 0. */
double rso_anneal(const struct rso *r, int cycle);

#endif
