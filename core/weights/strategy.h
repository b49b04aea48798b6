/* weights/strategy.h - the seam between the weights that are trained and the weights that a pass computes with.
 *
 * A strategy forms the second from the first. It is one file that ends with a descriptor, and one row in table.c.
 * Trainer, checkpoints, graph, bundles and backends never ask which strategy is at work: they call the chain (chain.h),
 * or hold a recipe and call through its descriptor.
 *
 *     master weights V  --links, once a step-->  effective weights W  --draw, in every pass-->  S, read by the layer
 *     dV  <--links, in reverse, once a step--    dW                   <--draw, after the layer--  dS
 *
 *   link   acts on a whole parameter: a convolution's weights of any kernel size, depthwise or not, a linear layer's.
 *          The optimizer sees V, everything else W. A parameter without a link has W = V: nothing is copied. Links
 *          follow each other in the order of the job's list.
 *   draw   acts on a kernel in one pass, after the links, and may leave out taps: what it makes is compact, and the
 *          layer meets a kernel with its own size and padding. At most one strategy of a chain draws, so that a pass
 *          has at most one recipe.
 *
 * What deployment and export get is W: a checkpoint has it under the parameter's own name, so that its readers need no
 * strategy. V is kept beside it as weights.master.NAME, and a strategy's own state as weights.STRATEGY.NAME; both are
 * for the run to go on with, to the last bit. The recorded recipe is what DOM serves.
 *
 * Everything is optional but name, summary, create and destroy; what is left out is not done. All calls come from the
 * thread that owns the team and may use wasd_parallel; those of a training step do not allocate. Results must not
 * depend on the number of threads. Random numbers come from the generator that is handed in, or from a stream of the
 * seed that is named after the strategy.
 */
#ifndef WEIGHTS_STRATEGY_H
#define WEIGHTS_STRATEGY_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/weights.h"

/* ---- making one ---------------------------------------------------------------------------------- */

#define WEIGHT_OPTIONS 16 /* of one strategy, and their values, at most */

/* A parameter that the strategy's link forms. */
struct weight_param {
	int index;      /* among those of this strategy, from 0 */
	wasd_node node; /* whose weights they are */
	struct wasd_param_info info;
};

struct weight_setup {
	const struct wasd_graph *graph; /* borrowed for as long as the strategy lives; so are params */
	const cJSON *spec;              /* its object; NULL: left out, the network's own */
	const char *at;                 /* the object's JSON pointer */
	const double *option;           /* the numbers of its table's options, one after the other (base/fields.h) */
	const struct weight_param *param;
	int n_params;
	const char *paper; /* JSON text of what the network's authors did (wasd_network_was) */
	uint64_t seed;
};

/* A tensor of the strategy's own. A scalar is one of one value. */
struct weight_state {
	const char *name;
	int ndims;
	size_t dims[4];
	real *values;
};

/* ---- a draw -------------------------------------------------------------------------------------- */

struct weight_when {
	int epoch;       /* from 0 */
	uint32_t batch;  /* of that epoch, from 0 */
	bool evaluation; /* not for a training step: fresh, by the law of that epoch alone */
};

/* A kernel as a draw meets it: rows of k x k taps, (o, i) slices of (O, I/groups, k, k). Everything is borrowed. */
struct weight_kernel {
	const struct wasd_graph *graph;
	int index;          /* for wasd_graph_aug_info */
	const real *w;      /* its effective weights, rows x k*k */
	real *dw;           /* their gradient, added to; NULL in inference */
	const real *master; /* all parameters of the model: a strategy may have some of its own among them */
	real *grad;         /* their gradients, added to; NULL in inference */
	size_t rows;
	int outs, k; /* output channels: rows / outs rows each */
};

/* What a plan has to provide for, and what counts as multiply-adds. */
struct weight_shape {
	struct wasd_rect live; /* taps outside are zero and not computed */
	bool equal; /* all taps inside are equal: they may be computed as one behind the sums over their window */
};

/* ---- the descriptor ------------------------------------------------------------------------------ */

struct weight_strategy {
	const char *name;                 /* "type" in a job's list; [a-z0-9_]+, not "master" */
	const char *summary;              /* one line for people */
	const struct wasd_field *options; /* members of its object; ends at a NULL name; NULL: it has none */
	bool reads_spec; /* create reads the object itself and refuses what it does not know; else that is done by the table
	                  */

	/* *self NULL, with WASD_OK: there is nothing to do. Errors carry the JSON pointer below setup->at. */
	enum wasd_status (*create)(const struct weight_setup *setup, void **self, struct wasd_err *err);
	void (*destroy)(void *self);
	cJSON *(*to_json)(const void *self); /* its object with every default written out; of a strategy that draws */
	/* Tensor i of its state. false after the last. */
	bool (*state)(void *self, int i, struct weight_state *out);
	/* Metric i of an epoch. false after the last. */
	bool (*metric)(const void *self, int i, int epoch, const char **name, double *value);
	/* Warning i of those that hold at the end of an epoch, with a code that does not change ("alpha_negative"). false
	 * after the last. */
	bool (*warning)(const void *self, int i, const real *master, const char **code, char *text, size_t size);

	/* -- a link: both or none -- */

	/* Which weights it forms. NULL: those of every convolution and linear layer. */
	bool (*applies)(const struct wasd_graph *g, wasd_node n);
	/* w = psi(v), info.count values in the parameter's order; w may be v. */
	void (*link)(void *self, const struct weight_param *p, const real *v, real *w);
	/* g: the gradient of w, becomes that of v. */
	void (*link_back)(void *self, const struct weight_param *p, const real *v, real *g);

	/* -- a draw: all but holds, or none -- */

	/* *out: the recipe of a pass, valid until the next call; NULL: W as it is. */
	enum wasd_status (*draw)(void *self, const struct weight_when *when, struct wasd_rng *r,
	                         const struct wasd_recipe **out, struct wasd_err *err);
	bool (*holds)(const void *self); /* a recipe holds for an epoch; NULL: for a step */
	/* The recipe that is recorded in checkpoints and served as DOM; it, as JSON; and the one of a checkpoint in its
	 * place. */
	const struct wasd_recipe *(*recorded)(const void *self);
	cJSON *(*recorded_json)(const void *self);
	enum wasd_status (*recall)(void *self, const cJSON *recorded, struct wasd_err *err);

	/* WASD_EINVAL: the recipe is not for this graph. Called before every pass. */
	enum wasd_status (*check)(const struct wasd_recipe *r, const struct wasd_graph *g, struct wasd_err *err);
	/* What becomes of kernel `index` of the recipe's graph; false: its effective weights are used as they are. */
	bool (*shape)(const struct wasd_recipe *r, int index, struct weight_shape *out);
	/* s = taps `at` of every row, compact: rows x at.h*at.w. `at` is shape's rectangle, or one tap of it when all are
	 * equal; at.h = 0: nothing is written. s does not overlap k->w. */
	void (*forward)(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s);
	/* ds: gradient of s, in the same compact form (of one tap for all that are equal: the sum of theirs); it is taken
	 * and left zero. Adds to k->dw, and to the strategy's own parameters in k->grad. */
	void (*backward)(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *ds);
};

const struct weight_strategy *weight_strategy_at(int i);              /* table.c; NULL after the last */
const struct weight_strategy *weight_strategy_find(const char *name); /* NULL */
/* Rows of the program that core is linked into, after those of the table; ended by NULL. A program without any defines
 * nothing. */
extern const struct weight_strategy *const weight_strategy_more[] __attribute__((weak));

#endif
