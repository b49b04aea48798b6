/* graph/graph.h - a network as its nodes, parameters and statistics, and a model as their values: for what reads a
 * finished one (bundles, ONNX) and what adds nodes of a general form (models/own.c). Networks are built by
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
};

struct stats {
	char *name;
	int channels;
	size_t offset;
	double eps, momentum;
}; /* mean at offset, variance right behind */
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
	wasd_node output;        /* -1 until finished */
	enum wasd_status status; /* first failed call */
	struct wasd_err err;
};

struct wasd_model {
	struct wasd_graph *graph;
	real *master, *grad, *stats[WASD_STATS_SETS];
	real *effective;     /* values of the linked parameters, at the offsets of master; NULL: there are none */
	bool *linked;        /* per parameter, with effective */
	struct packs *packs; /* made by the first exec with constant weights */
};

/* The general form of every building call: a node of layer l, whose numbers the caller sets before it is added. */
struct node graph_node(const struct layer *l);
wasd_node graph_add(struct wasd_graph *g, const struct node *n, const char *name, const wasd_node *x, int n_in);

/* Whether convolution n with weights of that shape is computed as one tap behind the sums over its window: all its taps
 * are equal, and it has input channels to sum, so that the sums, once a channel, are the smaller part. */
bool graph_boxed(const struct node *n, const struct weight_shape *shape);

/* Appends a copy of node n of graph `from` with its parameters and statistics, reading the nodes x of g instead of n's
 * inputs. It is not augmentable. -1 after a failure, which sticks to g as those of the public calls do. */
wasd_node graph_copy_node(struct wasd_graph *g, const struct wasd_graph *from, const struct node *n,
                          const wasd_node *x);

#endif
