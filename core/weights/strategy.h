/* weights/strategy.h - the seam between the weights that are trained and the weights that a pass computes with.
 *
 * A strategy forms the second from the first. It is one file that ends with a descriptor, and one row in table.c. Graph, plans, bundles and
 * backends never ask which strategy is at work: they hold a recipe, which is what one pass uses, and call through its descriptor.
 *
 *     effective weights W  --draw, in every pass-->  S = what the layer reads        back: dW += (dS/dW)^t dS
 *
 * The draw acts on one kernel at a time and may leave out taps: what it makes is compact, and the layer meets a kernel with its own size and
 * padding. A pass has at most one recipe.
 *
 * All calls come from the thread that owns the team and may use wasd_parallel; none of those of a recipe allocates. Results must not depend on
 * the number of threads.
 */
#ifndef WEIGHTS_STRATEGY_H
#define WEIGHTS_STRATEGY_H

#include "wasd/weights.h"

/* A kernel as a draw meets it: rows of k x k taps, (o, i) slices of (O, I/groups, k, k). Everything is borrowed. */
struct weight_kernel {
	const struct wasd_graph *graph;
	int index;                                    /* for wasd_graph_aug_info */
	const real *w;                                /* its effective weights, rows x k*k */
	real *dw;                                     /* their gradient, added to; NULL in inference */
	const real *master;                           /* all parameters of the model: a strategy may have some of its own among them */
	real *grad;                                   /* their gradients, added to; NULL in inference */
	size_t rows;
	int outs, k;                                  /* output channels: rows / outs rows each */
};

/* What a plan has to provide for, and what counts as multiply-adds. */
struct weight_shape {
	struct wasd_rect live;                        /* taps outside are zero and not computed */
	bool equal;                                   /* all taps inside are equal: they may be computed as one behind the sums over their window */
};

struct weight_strategy {
	const char *name;
	/* WASD_EINVAL: the recipe is not for this graph. Called before every pass. */
	enum wasd_status (*check)(const struct wasd_recipe *r, const struct wasd_graph *g, struct wasd_err *err);
	/* What becomes of kernel `index` of the recipe's graph; false: its effective weights are used as they are. */
	bool (*shape)(const struct wasd_recipe *r, int index, struct weight_shape *out);
	/* s = taps `at` of every row, compact: rows x at.h*at.w. `at` is shape's rectangle, or one tap of it when all are equal; at.h = 0: nothing is
	 * written. s does not overlap k->w. */
	void (*forward)(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s);
	/* ds: gradient of s, in the same compact form (of one tap for all that are equal: the sum of theirs); it is taken and left zero. Adds to k->dw, and
	 * to the strategy's own parameters in k->grad. */
	void (*backward)(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *ds);
};

#endif
