/* graph/internal.h - what build, model, plan and exec share. */
#ifndef GRAPH_INTERNAL_H
#define GRAPH_INTERNAL_H

#include "backend/backend.h"
#include "layers/layer.h"
#include "weights/strategy.h"

#include <stdatomic.h>

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

/* An allocation of the plan: `bytes` needed from time `first` to time `last`. */
struct slot {
	size_t bytes, at;
	int first, last;
};

/* Times of a plan with S steps: step i runs forward at i, the loss at S, step i backward at 2S - i. */
struct plan {
	struct step *steps;
	int n_steps;
	struct tensor *value, *grad; /* per node: output and its gradient; data NULL = not in this plan */
	int *value_slot, *grad_slot; /* per node, -1 = none */
	int *step_of;                /* per node: the step that makes it, -1 = none (dead or fused away) */
	struct slot *slots;
	int n_slots;
	int *saved_slot; /* per step */
	struct tensor **pointers;
	bool *flags; /* what the steps' x, dx, dx_add point into */
	int n_nodes;
	struct wasd_arena *arena; /* whose block it is; NULL: the plan's own */
	char *block;              /* all of it; then scratch */
	size_t bytes, scratch_at;
	void *scratch;
};

struct wasd_arena {
	char *block;
	size_t bytes;
};
/* At least so many bytes from now on. The block may move. */
enum wasd_status arena_reserve(struct wasd_arena *a, size_t bytes, struct wasd_err *err);

/* packs: where constant weights are kept packed; NULL = they may change. */
enum wasd_status plan_create(const struct wasd_graph *g, const struct backend *b, const struct wasd_exec_opts *o,
                             int threads, struct packs *packs, struct plan *p, struct wasd_err *err);
/* Points tensors and steps into the block, which in an arena may have moved. */
void plan_bind(struct plan *p);
void plan_done(struct plan *p);

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
