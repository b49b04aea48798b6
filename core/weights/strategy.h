/* weights/strategy.h - the interface between the trained weights and the weights that a pass computes with.
 *
 * A strategy forms the latter from the former. It is one file that ends with a descriptor, and one row in table.c.
 * Trainer, checkpoints, graph, bundles and backends do not depend on the kind of strategy: they call the chain
 * (chain.h), or hold a recipe and call through its descriptor.
 *
 *     master weights V  --links, once per step-->  effective weights W  --draw, in every pass-->  S, read by the layer
 *     dV  <--links, in reverse, once per step--   dW                   <--draw, after the layer--  dS
 *
 *   composition  forms V itself, of tensors that the strategy learns in its place (struct weight_learned): their values
 *          are the strategy's, the optimizer of the run updates them, and V is written anew after each of its steps. A
 *          composed parameter has no gradient, no decay and no optimizer state of its own, and no other strategy forms
 *          it (a link, a mask); a draw is applied to it as to any other. Tensors may serve several parameters.
 *   link   acts on a whole parameter: the weights of a convolution with any kernel size, depthwise or not, or of a
 *          linear layer. The optimizer sees V, all other code W. A parameter without a link has W = V and is not
 *          copied. Links are applied in the order of the job's list.
 *   draw   acts on a kernel in one pass, after the links, and may drop taps: its result is compact, and the layer
 *          gets a kernel with its own size and padding. At most one strategy of a chain draws, so a pass has at most
 *          one recipe.
 *   step   makes the passes of a training step itself, over networks of its own beside the run's, and adds the
 *          gradients of W. At most one strategy of a chain does, and none then composes. A draw acts on the kernels of
 *          those networks as on the run's.
 *   mask   acts on the master weights themselves, between the steps: event, after_step. All readers see its zeros, and
 *          nothing is copied.
 *
 * Deployment and export use W: a checkpoint stores it under the parameter's own name, so that its readers need no
 * strategy, unless a composition is compact. The V of a link is stored beside it as weights.master.NAME, a strategy's
 * own state and the tensors that it learns as weights.STRATEGY.NAME; with all of them a run resumes bit for bit. DOM
 * serves the recorded recipe.
 *
 * Only name, summary, create and destroy are required; a NULL member is skipped. All calls come from the thread that
 * owns the team and may use wasd_parallel; calls of a training step must not allocate. Results must not depend on the
 * number of threads. Random numbers come from the generator that is passed in, or from a stream of the seed named after
 * the strategy.
 */
#ifndef WEIGHTS_STRATEGY_H
#define WEIGHTS_STRATEGY_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/slim.h"
#include "wasd/weights.h"

/* ---- creation ------------------------------------------------------------------------------------ */

#define WEIGHT_OPTIONS 16 /* of one strategy, and their values, at most */

/* A parameter that the strategy forms. */
struct weight_param {
	int index;      /* among the parameters of this strategy, from 0 */
	wasd_node node; /* the layer that the weights belong to */
	struct wasd_param_info info;
};

struct weight_setup {
	const struct wasd_graph *graph; /* borrowed for the lifetime of the strategy, like param */
	const cJSON *spec;              /* the strategy's object; NULL: absent, use the network's default */
	const char *at;                 /* the object's JSON pointer */
	const double *option; /* the numbers of its table's options, one after the other (base/fields.h); of a choice its
	                         index; NaN: absent, and without a default */
	const struct weight_param *param; /* empty for a strategy that only draws */
	int n_params;
	int epochs;        /* of the run; 0: unknown, there is no run */
	const char *paper; /* JSON text of the settings of the network's authors (wasd_network_was) */
	uint64_t seed;
	size_t stored; /* for the reader of a file: values that it has of the strategy; 0: for a run */
	bool smaller;  /* as in struct weight_run: a strategy that composes has no parameters then */
};

/* A tensor of the strategy's own state: values or bits. A scalar has one value. */
struct weight_state {
	const char *name;
	int ndims;
	size_t dims[4];
	real *values;
	uint8_t *bits; /* element 8 i + k is bit k of byte i; the bits after the last element are 0 */
};

static inline size_t weight_state_elements(const struct weight_state *t)
{
	size_t n = 1;
	for (int d = 0; d < t->ndims; d++)
		n *= t->dims[d];
	return n;
}

/* In memory and in a file of this build. */
static inline size_t weight_state_bytes(const struct weight_state *t)
{
	size_t n = weight_state_elements(t);
	return t->bits ? (n + 7) / 8 : n * sizeof(real);
}

/* ---- a run between two steps ---------------------------------------------------------------------- */

struct weight_block {
	const char *name;
	real *values; /* one per parameter of the model, in its order */
};

struct weight_run {
	uint64_t step;    /* training steps done */
	uint32_t batches; /* steps per epoch */
	int epochs;
	real *master;
	const struct weight_block *optim; /* the optimizer's state; ends at a NULL name */
	real *stats;                      /* the statistics that training updates */
	bool smaller;                     /* the network has become another (cuts) */
	void (*log)(void *ctx, const char *level, const char *text);
	void *ctx;
};

/* The place of a step in the schedule of the learning rate, which a strategy may move. */
struct weight_pace {
	uint64_t step;        /* of the schedule */
	int epochs;           /* that the schedule lasts */
	uint64_t optim_steps; /* that the optimizer has done */
};

/* Adds a line to the job's log. level: "info", "warn". */
void weight_say(const struct weight_run *r, const char *level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The passes of one training step: what the run makes of a batch if no strategy makes more. */
struct weight_passes {
	uint64_t step; /* steps done before it */
	struct wasd_exec *exec;
	const real *x;                      /* images of the batch, pass->n */
	const struct wasd_pass *pass;       /* of exec */
	const struct wasd_targets *targets; /* for the logits of exec */
};

/* What a strategy with networks of its own plans them by. */
struct weight_plan {
	struct wasd_graph *graph; /* of the run */
	struct wasd_model *model;
	const struct wasd_exec_opts *exec; /* of the run's own plan */
	bool draws; /* a strategy of the chain draws: the training statistics belong to no fixed weights; chain_plan sets it
	             */
};

/* A network of a strategy's own that the run measures and checkpoints offer as a mode. All pointers are borrowed. */
struct weight_network {
	const char *mode, *label; /* the name of the mode; for display */
	const char *kind;         /* name of a kind of mode (modes/table.c) */
	const char *recipe;       /* its recipe, as JSON */
	const struct wasd_slim *slim;
	struct wasd_model *model; /* of wasd_slim_graph; NULL before plan */
	struct wasd_exec *exec;   /* its training plan */
};

/* A tensor that is learned with the weights. The optimizer of the run updates `values` from `grad` after every backward
 * pass, with its own learning rate. A strategy has the same tensors during a whole run, but its event may change their
 * sizes: the optimizer's state then keeps the corner that both sizes have, at its indices, and is 0 elsewhere. */
struct weight_learned {
	const char *name; /* as of a weight_state; NULL: its values are one of the strategy's own states */
	int ndims;
	size_t dims[4];
	size_t room;         /* elements at most, ever; 0: the size does not change */
	real *values, *grad; /* of `room` elements: the addresses stay */
	bool decays;         /* by the optimizer's weight decay; false: never */
	unsigned life;       /* with another number than before an event, all of the optimizer's state is 0 */
};

static inline size_t weight_learned_elements(const struct weight_learned *l)
{
	size_t n = 1;
	for (int d = 0; d < l->ndims; d++)
		n *= l->dims[d];
	return n;
}

/* A composed layer of which the network is to become two (wasd/factor.h): NAME with `rank` outputs, whose weights are
 * the learned tensor `first` (rank x ins), and NAME.mix with those of `second` (outs x rank). */
struct weight_split {
	const struct weight_param *param;
	int rank, first, second; /* indices for `learned` */
};

/* ---- a draw -------------------------------------------------------------------------------------- */

struct weight_when {
	int epoch;       /* from 0 */
	uint32_t batch;  /* of that epoch, from 0 */
	bool evaluation; /* not for a training step: a fresh draw by the law of that epoch alone */
};

/* A kernel as passed to a draw: rows of k x k taps, the (o, i) slices of (O, I/groups, k, k). All pointers are
 * borrowed. */
struct weight_kernel {
	const struct wasd_graph *graph;
	int index;          /* for wasd_graph_aug_info */
	const real *w;      /* effective weights, rows x k*k */
	real *dw;           /* gradient of w, added to; NULL in inference */
	const real *master; /* all parameters of the model, which may include parameters of the strategy */
	real *grad;         /* gradients of master, added to; NULL in inference */
	size_t rows;
	int outs, k; /* outs: output channels, with rows / outs rows each */
};

/* The shape of a drawn kernel, for the plan and for the count of multiply-adds. */
struct weight_shape {
	struct wasd_rect live; /* taps outside are zero and not computed */
	bool equal;            /* all taps inside are equal and may be computed as one tap on the sums over their window */
};

/* ---- the descriptor ------------------------------------------------------------------------------ */

struct weight_strategy {
	const char *name;                 /* "type" in a job's list; [a-z0-9_]+, not "master" */
	const char *summary;              /* one line of text for users */
	const struct wasd_field *options; /* members of its object; ends at a NULL name; NULL: it has none */
	bool reads_spec; /* true: create parses the object and refuses unknown members; false: options does that */

	/* WASD_OK with *self NULL: the strategy has nothing to do. Errors carry a JSON pointer below setup->at. */
	enum wasd_status (*create)(const struct weight_setup *setup, void **self, struct wasd_err *err);
	void (*destroy)(void *self);
	cJSON *(*to_json)(
		const void *self); /* the strategy's object with every default written out; required if it draws */
	/* Tensor i of the state, without learned tensors that have a name; false after the last. The list does not change
	 * during a run. */
	bool (*state)(void *self, int i, struct weight_state *out);
	/* Metric i of an epoch; false after the last. */
	bool (*metric)(const void *self, int i, int epoch, const char **name, double *value);
	/* Warning i of those that hold at the end of an epoch, with a code that does not change ("alpha_negative"). false
	 * after the last. */
	bool (*warning)(const void *self, int i, const real *master, const char **code, char *text, size_t size);

	/* True if the strategy forms the weights of node n. NULL: all convolutions and linear layers. A string option
	 * "layers" narrows them further: names or patterns (wasd_glob) with commas between them; those that begin with "!"
	 * leave layers out; "all". */
	bool (*applies)(const struct wasd_graph *g, wasd_node n);

	/* -- during the run; a run that resumes between two steps has the same weights as one that was not cut -- */

	/* Called once, when the blocks of the run exist, before its first step or the loading of its state: may allocate.
	 * WASD_EINVAL with a pointer below setup->at: the strategy does not fit the run. */
	enum wasd_status (*begin)(void *self, const struct weight_run *r, struct wasd_err *err);
	/* Bytes that begin takes, with an optimizer of so many states; may be called before. NULL: 0. */
	size_t (*begin_bytes)(const void *self, int states);
	/* Called before every step, and once more after the last one of the run. What it does depends on r->step, the
	 * strategy's state and the weights alone. True: weights have changed. */
	bool (*event)(void *self, const struct weight_run *r);
	/* Called after every step of the optimizer; r->step includes it. */
	void (*after_step)(void *self, const struct weight_run *r);
	/* Called at the end of an epoch, before its metrics: measures, and changes nothing that training reads. An
	 * interrupted evaluation repeats it. */
	void (*at_epoch)(void *self, const struct weight_run *r);
	/* The place of the step that comes next. At most one strategy of a chain moves it, and one that does not compose
	 * has none beside it that does: what that has learned would not follow. */
	void (*pace)(const void *self, const struct weight_run *r, struct weight_pace *pace);
	const char *(*paces_at)(const void *self); /* the JSON pointer of the member by which pace moves it; NULL: it does
	                                              not. Set with pace */
	/* True: the run will begin again, by an event. What is measured until then is not its best, and does not count for
	 * early stopping. NULL: never. */
	bool (*rehearses)(const void *self);
	/* Asked before an epoch, after the event of its first step: is the network now to become another, without the
	 * channels that are dead (wasd/alive.h), or, of a strategy that composes, with two layers for each of its `split`?
	 * The trainer then goes on with that network and with a strategy created anew for it, whose begin sees r->smaller,
	 * and which must have nothing left to do; its event is called for that step once more. So it is in a run that
	 * resumes with the other network, whatever the step.
	 * Only a draw may stand in the list of one that ever answers true and splits, no other strategy in that of one that
	 * cuts channels (cuts_at). */
	bool (*cuts)(const void *self, const struct weight_run *r);
	bool (*split)(const void *self, int i, struct weight_split *out); /* layer i; false after the last */
	const char *(*cuts_at)(const void *self); /* the JSON pointer of the member that asks for it; NULL: never cuts */
	/* Called after the state has been loaded from a checkpoint. WASD_ECORRUPT: it cannot be a state of this run. */
	enum wasd_status (*resumed)(void *self, const real *master, struct wasd_err *err);

	/* -- a link: set both link and link_back, or neither -- */

	/* w = psi(v), info.count values in the parameter's order; w may be v. */
	void (*link)(void *self, const struct weight_param *p, const real *v, real *w);
	/* Replaces g, the gradient of w, by the gradient of v. */
	void (*link_back)(void *self, const struct weight_param *p, const real *v, real *g);

	/* -- a composition: set both compose and compose_back, and learned; or neither -- */

	/* w = V of parameter p, info.count values in its order, of the learned tensors alone. */
	void (*compose)(void *self, const struct weight_param *p, real *w);
	/* g: the gradient of V. Adds to the gradients of the learned tensors, which the chain has set to 0 before the first
	 * parameter of a step. */
	void (*compose_back)(void *self, const struct weight_param *p, const real *g);
	/* Checkpoints have its tensors instead of V, which their readers compose (checkpoint_param): state, arrange and
	 * compose are then all that they call after create, with setup->stored: before arrange, which checks it, nothing is
	 * allocated whose size follows from the spec. */
	bool compact;

	/* -- what is learned, by a link or a composition -- */

	/* Tensor i; false after the last. They exist, with their first values, from create on. A link writes their
	 * gradients in link_back; after_step may limit the values. The optimizer's state S of a tensor is stored as
	 * learned.S.NAME, or learned.S without a name. */
	bool (*learned)(void *self, int i, struct weight_learned *out);
	/* Called when the state has been loaded from a checkpoint, but not yet the learned tensors: gives them the sizes
	 * that the state says. WASD_ECORRUPT: it says none. NULL: sizes never change. */
	enum wasd_status (*arrange)(void *self, struct wasd_err *err);

	/* -- a step of its own: set passes, price and plan, or none -- */

	/* Adds the gradients of a step to the gradient of the run's effective weights; *loss and *hits are what the run
	 * reports of the step. pass->recipe is for its own networks, too, if they have the first channels of the run's
	 * layers: convolution `index` is then the same one. Must not allocate. */
	enum wasd_status (*passes)(void *self, const struct weight_passes *p, double *loss, int *hits,
	                           struct wasd_err *err);
	/* Bytes that plan takes, for a run's plan with these options. */
	enum wasd_status (*price)(const void *self, const struct wasd_exec_opts *o, size_t *bytes, struct wasd_err *err);
	/* Called once, before begin. graph and model are borrowed for the lifetime of the strategy. */
	enum wasd_status (*plan)(void *self, const struct weight_plan *p, struct wasd_err *err);
	/* Network i; false after the last. The list does not change during a run, except that plan makes models and execs.
	 * After at_epoch a model has the weights of the run. NULL: none. */
	bool (*network)(const void *self, int i, struct weight_network *out);

	/* -- a draw: set all members (holds and parts_at are optional), or none -- */

	/* *out: the recipe of a pass, valid until the next call; NULL: use W unchanged. */
	enum wasd_status (*draw)(void *self, const struct weight_when *when, struct wasd_rng *r,
	                         const struct wasd_recipe **out, struct wasd_err *err);
	bool (*holds)(const void *self); /* true: a recipe holds for an epoch; false or NULL: for a step */
	/* The JSON pointer of the member by which recipes treat parts of a layer's output channels differently, so that
	 * they mean something else with fewer channels; NULL: none does. */
	const char *(*parts_at)(const void *self);
	/* The recipe that checkpoints record and DOM serves; the same as JSON; and recall, which replaces it by the one of
	 * a checkpoint. */
	const struct wasd_recipe *(*recorded)(const void *self);
	cJSON *(*recorded_json)(const void *self);
	enum wasd_status (*recall)(void *self, const cJSON *recorded, struct wasd_err *err);

	/* Called before every pass. WASD_EINVAL: the recipe does not fit this graph. */
	enum wasd_status (*check)(const struct wasd_recipe *r, const struct wasd_graph *g, struct wasd_err *err);
	/* The shape of kernel `index` of the recipe's graph; false: its effective weights are used unchanged. */
	bool (*shape)(const struct wasd_recipe *r, int index, struct weight_shape *out);
	/* Writes taps `at` of every row to s, compact: rows x at.h*at.w. `at` is shape's rectangle, or one tap of it if all
	 * are equal; at.h = 0: writes nothing. s does not overlap k->w. */
	void (*forward)(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s);
	/* ds: gradient of s, in the same compact form (for one tap that stands for equal ones: the sum of their gradients).
	 * Adds to k->dw, and to the strategy's own parameters in k->grad, and leaves ds zero. */
	void (*backward)(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *ds);
};

/* True: it takes weights away for good, a mask in the terms above. */
static inline bool weight_strategy_prunes(const struct weight_strategy *s)
{
	return s->event && !s->link && !s->draw && !s->compose;
}

extern const struct weight_strategy weight_compander, weight_magnitude, weight_weightmom, weight_structured,
	weight_inrank, weight_superweights, weight_slices;
const struct weight_strategy *weight_strategy_at(int i);              /* table.c; NULL after the last */
const struct weight_strategy *weight_strategy_find(const char *name); /* NULL: unknown */
/* Additional rows, defined by the program that core is linked into; ended by NULL. Optional (a weak symbol). */
extern const struct weight_strategy *const weight_strategy_more[] __attribute__((weak));

#endif
