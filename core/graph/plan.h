/* graph/plan.h - the steps of a pass and the places of their tensors, shared by plan.c, exec.c and arena.c. */
#ifndef GRAPH_PLAN_H
#define GRAPH_PLAN_H

#include "backend/backend.h"
#include "graph/graph.h"

/* One allocation of the plan: `bytes` at offset `at`, in use from time `first` to time `last`. */
struct slot {
	size_t bytes, at;
	int first, last;
};

/* Times of a plan with S steps: step i runs forward at i, the loss at S, step i backward at 2S - i. */
struct plan {
	struct step *steps;
	int n_steps;
	struct tensor *value, *grad; /* per node: output and its gradient; data NULL = not computed by this plan */
	int *value_slot, *grad_slot; /* per node, -1 = none */
	int *step_of;                /* per node: the step that computes it, -1 = none (unused or fused away) */
	struct slot *slots;
	int n_slots;
	int *saved_slot; /* per step */
	struct tensor **pointers;
	bool *flags; /* storage behind the steps' x, dx (pointers) and dx_add (flags) */
	int n_nodes;
	struct wasd_arena *arena; /* owner of the block; NULL: the plan owns it */
	char *block;              /* all slots, followed by the scratch space */
	size_t bytes, scratch_at;
	void *scratch;
};

struct wasd_arena {
	char *block;
	size_t bytes;
};
/* Grows the block to at least `bytes`. The block may move. */
enum wasd_status arena_reserve(struct wasd_arena *a, size_t bytes, struct wasd_err *err);

/* packs: store for packed constant weights; NULL = the weights may change. */
enum wasd_status plan_create(const struct wasd_graph *g, const struct backend *b, const struct wasd_exec_opts *o,
                             int threads, struct packs *packs, struct plan *p, struct wasd_err *err);
/* Points tensors and steps into the block. Call again after an arena's block has moved. */
void plan_bind(struct plan *p);
void plan_done(struct plan *p);
/* The chains that a plan for serving computes in one step each: an add and an activation behind a layer. Per node: the
 * last node of the chain that it heads (itself: it is alone), the other operand of the chain's add (-1: none), whether
 * it is in a chain without heading it, or not needed at all. False: no memory. */
bool plan_chains(const struct wasd_graph *g, wasd_node *tail, wasd_node *residual, bool *inner);
/* The sizes of such a plan, without its block: the tensors of a pass, and scratch space. */
enum wasd_status plan_price(const struct wasd_graph *g, const struct backend *b, const struct wasd_exec_opts *o,
                            int threads, size_t *tensors, size_t *scratch, struct wasd_err *err);

#endif
