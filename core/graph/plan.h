/* graph/plan.h - the steps of a pass and where their tensors lie: what plan, exec and arena share. */
#ifndef GRAPH_PLAN_H
#define GRAPH_PLAN_H

#include "backend/backend.h"
#include "graph/graph.h"

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

#endif
