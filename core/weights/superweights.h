/* weights/superweights.h - the parts of superweights.c, by the code of SuperWeights (arXiv 2312.01274,
 * github.com/piotr-teterwak/SuperWeights, models/): which layers share, how many templates they have, and how weights
 * are composed of them.
 *
 * Layers are in clusters. The shapes of a cluster nest: in rising order of size, each has at least the outputs and the
 * inputs of the one before it. What a shape has beyond the one before it is a strip, and every strip has a bank of K
 * templates of its size:
 *
 *     W = [[ W of the shape before | inputs ], [ outputs ]]      a strip's flat weights: inputs first, then outputs
 *     strip = sum over k of c_k t_k                              t of the bank, c of the layer
 *
 * A layer has the strips from the first one to that of its own shape. */
#ifndef WEIGHTS_SUPERWEIGHTS_H
#define WEIGHTS_SUPERWEIGHTS_H

#include "wasd/tensor.h"

#define SW_TEMPLATES 8 /* of a bank, at most */

/* Weights (outs, ins, kh, kw); ins: of a group. */
struct sw_layer {
	int outs, ins, kh, kw;
};

static inline size_t sw_count(const struct sw_layer *l)
{
	return (size_t)l->outs * (size_t)l->ins * (size_t)l->kh * (size_t)l->kw;
}

/* A strip and its bank. */
struct sw_strip {
	int cluster;
	int outs0, ins0, outs, ins; /* from the shape before it, (0,0) for the first, to its own */
	size_t taps, n;             /* n: weights */
	int layers;                 /* that have it */
	int templates;
	size_t at; /* of its first template in the block of all banks; templates follow each other */
};

/* All arrays have room for one element per layer. */
struct sw_plan {
	int n_layers, n_strips;
	int *cluster;           /* of each layer */
	int *first, *strips;    /* of each layer: its first strip, and how many it has */
	struct sw_strip *strip; /* by cluster, then by size */
	size_t values;          /* of all banks */
};
/* False: no memory. done is safe on a zeroed struct. */
bool sw_plan_init(struct sw_plan *p, int n_layers);
void sw_plan_done(struct sw_plan *p);

/* ---- clusters and banks (superweights_plan.c) */

/* Puts the layers of each kernel size, in their order, into bins: a share of `bins` by the number of layers, at least
 * one. Bins of smaller kernels come first. */
void sw_bins(const struct sw_layer *layer, int n, int bins, int *cluster);
/* Splits clusters whose shapes do not nest, and numbers them anew in their order. */
void sw_nest(const struct sw_layer *layer, int n, int *cluster);
/* Fills the plan from p->cluster, whose shapes nest: one template for each bank. */
void sw_plan_banks(struct sw_plan *p, const struct sw_layer *layer);
/* Adds templates while more than their size is left of `room` values: first, in rounds, up to as many as the bank has
 * layers, then up to `most`. */
void sw_plan_fill(struct sw_plan *p, size_t room, int most);

/* ---- similarity (superweights_share.c) */

/* The cosine of two gradients, in the outputs and inputs that both have; of kernels of one size. 0 if one is zero. */
double sw_cosine(const struct sw_layer *a, const real *ga, const struct sw_layer *b, const real *gb);
struct sw_pair {
	double similar;
	int i, j;
};
/* Pairs in falling order of similarity: j joins the cluster that i has then, while they are above the threshold. */
void sw_queue(const struct sw_pair *pair, size_t n, double threshold, int *cluster);
/* All pairs (i,j) and (j,i) of layers in one bin, in falling order; of equal ones the last comes first. pair: room for
 * n (n - 1). Returns how many. */
size_t sw_pairs(const struct sw_layer *layer, int n, const int *bin, const real *const *grad, struct sw_pair *pair);
/* Clusters by similarity: every layer alone, then the queue with the threshold 0.1, or the first below it in steps of
 * 0.05 whose banks have at most `room` values with one template each. False: none has; p->cluster is then unknown. */
bool sw_cluster(struct sw_plan *p, const struct sw_layer *layer, const struct sw_pair *pair, size_t n, size_t room,
                double *threshold);
/* A random (rows, cols) matrix with orthonormal rows, or columns if they are fewer. */
void sw_orthogonal(struct wasd_rng *r, int rows, int cols, double *m);

/* ---- composition (superweights_compose.c) */

/* w = sum over k of c_k t_k; n values; template k begins at t + k * stride. */
void sw_compose(size_t n, int k, const real *t, size_t stride, const real *c, real *w);
/* dt_k += c_k dw, dc_k += <t_k, dw>. */
void sw_compose_back(size_t n, int k, const real *t, size_t stride, const real *c, const real *dw, real *dt,
                     double *dc);
/* The weights of output o, below s->outs, that are the strip's: n values, at w of a layer with `ins` inputs and at t of
 * the strip. */
struct sw_run {
	size_t w, t, n;
};
struct sw_run sw_run_of(const struct sw_strip *s, int ins, int o);

#endif
