/* graph/graph.h - the inside of a graph (nodes, parameters, statistics) and of a model (their values), for code that
 * reads a finished graph (bundles, ONNX) or adds nodes in the general form (models/own.c). Networks are built with
 * wasd/graph.h. */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include "layers/layer.h"

#include <stdatomic.h>

struct weight_shape; /* weights/strategy.h */

struct param {
	char *name;
	int dims[4], ndims;
	size_t count, offset;
	enum param_init init;
	int fan_in;
	bool dropped; /* model_drop has freed its values */
};

struct stats {
	char *name;
	int channels;
	size_t offset;
	double eps, momentum;
}; /* mean at offset, followed by the variance */
struct aug {
	wasd_node conv;
	char *alpha_name;
	int alpha_param, alpha_index;
};

struct wasd_graph {
	atomic_int refs;
	struct node *nodes;
	int n_nodes, cap_nodes;
	struct param *params;
	int n_params, cap_params;
	struct stats *stats;
	int n_stats, cap_stats;
	struct aug *augs;
	int n_augs, cap_augs;
	size_t param_count, stats_count;
	enum wasd_initial initial;
	wasd_node output;        /* -1 until finished */
	enum wasd_status status; /* first failed call */
	struct wasd_err err;
};

struct wasd_model {
	struct wasd_graph *graph;
	real *master, *grad, *stats[WASD_STATS_SETS];
	real *effective;     /* values of the linked parameters, at their offsets in master; NULL: none is linked */
	bool *linked;        /* per parameter; allocated together with effective */
	struct packs *packs; /* created by the first exec with constant weights */
};

/* Frees the values of the parameters with drop[i]: wasd_model_weights is NULL for them, and the others move together in
 * the master block. Only for a model with no exec and nothing linked, whose graph no other model has. */
enum wasd_status model_drop(struct wasd_model *m, const bool *drop, struct wasd_err *err);

/* The general form of every building call: graph_node gives a node of layer l, the caller sets its members, and
 * graph_add adds it with n_in inputs x. */
struct node graph_node(const struct layer *l);
wasd_node graph_add(struct wasd_graph *g, const struct node *n, const char *name, const wasd_node *x, int n_in);

/* True if convolution n with weights of that shape is computed as one tap on the sums over its window. That needs equal
 * taps, and several input channels per group: the sums are computed once per channel, so they are then the smaller part
 * of the work. */
bool graph_boxed(const struct node *n, const struct weight_shape *shape);

/* Appends a copy of node n of graph `from`, with its parameters and statistics, whose inputs are the nodes x of g. The
 * copy is not augmentable. Returns -1 on failure, which sticks to g like failures of the public calls. */
wasd_node graph_copy_node(struct wasd_graph *g, const struct wasd_graph *from, const struct node *n,
                          const wasd_node *x);

#endif
