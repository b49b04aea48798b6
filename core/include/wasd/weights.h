/* wasd/weights.h - what a pass computes with, and WAS (arXiv 2405.19590; web/docs/was.md).
 *
 * A spatial transform of a k x k kernel is a matrix T of k*k x k*k over taps (index y*k+x, row = output tap):
 *     SW = alpha * PW * T^t  over rows (o,i);   dPW += alpha * dSW * T;   dalpha += <dSW, PW * T^t>
 * Rows of T that are zero are dead taps: the plan computes only the live rectangle.
 */
#ifndef WASD_WEIGHTS_H
#define WASD_WEIGHTS_H

#include "wasd/tensor.h"
#include "wasd/spec.h"

struct wasd_graph;

/* ---- one transform -------------------------------------------------------------------------- */

#define WASD_K_MAX 7
struct wasd_rect {
	int y, x, h, w;
}; /* live taps of SW inside the k x k grid; h = w = 0: none is live */

struct wasd_transform {
	const struct wasd_transform_op *op; /* row of the table: "identity", "translate", "crop_resize", ... */
	double p[6];                        /* parameters in the row's order */
	int k;
	bool identity; /* T is exactly the unit matrix */
	bool box;      /* the live taps fill their rectangle, there are several, and all have the same row of T: SW is equal
	                  there */
	bool copy;     /* every row of T has at most one entry, and that is 1: from[] says it all */
	struct wasd_rect live;                /* smallest rectangle that holds every nonzero row of T */
	int8_t from[WASD_K_MAX * WASD_K_MAX]; /* with copy: source tap of each output tap, -1 = dead */
	double T[WASD_K_MAX * WASD_K_MAX * WASD_K_MAX * WASD_K_MAX]; /* k*k x k*k, row-major, packed */
};

/* A kind of transform: one row of weights/was_ops.c's table. Later kinds are further rows. */
struct wasd_transform_op {
	const char *name; /* in draws: "crop_resize" */
	const char *summary;
	struct wasd_field params[7]; /* ends at a NULL name */
	/* A rule that ties parameters to each other and to k; NULL = the ranges above say everything. Returns the faulty
	 * parameter or -1. */
	int (*check)(int k, const double *p);
	/* Fills t->T (zeroed) from t->k and t->p, already range-checked. The other members are derived afterwards. */
	void (*matrix)(struct wasd_transform *t);
	/* As a training option: its type in the job spec ("resized_crop"), the options of its law (values packed in this
	 * order), and the draw of p for a kernel of side k by that law; false = by the law this draw leaves the kernel as
	 * it is (op "identity", p unused). type NULL = never drawn. */
	const char *type;
	struct wasd_field law[4]; /* numbers and pairs; ends at a NULL name */
	bool (*sample)(int k, const double *law, struct wasd_rng *r, double *p);
};
#define WASD_LAW_MAX 8 /* values of one law at most */
const struct wasd_transform_op *wasd_transform_op_find(const char *name);
const struct wasd_transform_op *wasd_transform_op_at(int i); /* NULL after the last */
/* Rows of the program that core is linked into, after those of the table; ended by NULL. A program without any defines
 * nothing. */
extern const struct wasd_transform_op *const wasd_transform_op_more[] __attribute__((weak));
/* Builds t for op with params[] = p; WASD_EINVAL names the parameter. k 1..WASD_K_MAX. */
enum wasd_status wasd_transform_make(const char *op, int k, const double *p, struct wasd_transform *t,
                                     struct wasd_err *err);

/* rows x k*k taps of PW in the row-major weight order (rows = O*I/groups). sw and dsw hold the rectangle `at` of every
 * row, compact: rows x at.h*at.w (t->live is the smallest that loses nothing; k x k is the plain form). sw may not
 * alias pw. Both run on the thread team (wasd_parallel); the result does not depend on its size. */
void wasd_transform_forward(const struct wasd_transform *t, real alpha, const real *pw, size_t rows,
                            struct wasd_rect at, real *sw);
/* dpw += alpha * dsw * T; returns <dsw, pw * T^t> (accumulated in double, fixed order). */
double wasd_transform_backward(const struct wasd_transform *t, real alpha, const real *pw, const real *dsw, size_t rows,
                               struct wasd_rect at, real *dpw);

/* ---- a recipe: what one pass computes with ----------------------------------------------------- */

struct weight_strategy; /* core's weights/strategy.h */
extern const struct weight_strategy weight_was;
/* Made by the strategy `by` and understood by it alone. Wherever one is passed, NULL stands for the weights as they
 * are. */
struct wasd_recipe {
	const struct weight_strategy *by;
};

/* ---- a draw: the recipe of WAS, one transform for every augmented layer ------------------------ */

struct wasd_draw {
	struct wasd_recipe recipe; /* by &weight_was */
	int n;                     /* one per augmented layer in use, execution order */
	struct wasd_draw_layer {
		int aug;                 /* index for wasd_graph_aug_info */
		bool alpha_one;          /* alpha is the constant 1, not the layer's parameter (which gets no gradient) */
		struct wasd_transform t; /* of all output channels, or of the first part of them */
		int parts; /* of the output channels, with a transform each: part i begins at channel out*i/parts. 0 and 1: one
		              for all */
		struct wasd_transform *more; /* of parts 1 to parts-1, owned; NULL when there are none */
	} * layer;
};
void wasd_draw_done(struct wasd_draw *d);
static inline const struct wasd_recipe *wasd_draw_recipe(const struct wasd_draw *d)
{
	return d && d->recipe.by ? &d->recipe : NULL;
}
#define WASD_DRAW_PARTS WASD_GROUPS_MAX
const struct wasd_transform *wasd_draw_part(const struct wasd_draw_layer *l, int part);
/* The smallest rectangle that holds the live taps of all parts. */
struct wasd_rect wasd_draw_live(const struct wasd_draw_layer *l);
/* SW is constant in that rectangle, in every part. */
bool wasd_draw_box(const struct wasd_draw_layer *l);
/* Both passes above (wasd_transform_forward, _backward) for a layer of `outs` output channels with its parts; rows =
 * outs * I/groups. dsw is left zero. */
void wasd_draw_forward(const struct wasd_draw_layer *l, real alpha, const real *pw, int outs, size_t rows,
                       struct wasd_rect at, real *sw);
double wasd_draw_backward(const struct wasd_draw_layer *l, real alpha, const real *pw, real *dsw, int outs, size_t rows,
                          struct wasd_rect at, real *dpw);
/* The transform of augmentable layer `aug` in d, NULL = plain weights in this draw. */
const struct wasd_draw_layer *wasd_draw_find(const struct wasd_draw *d, int aug);
/* JSON form, also in checkpoints and fixtures: [{"layer":"layer1.0.conv1","op":"translate","params":{"dx":1,"dy":0}},
 * ...]; "alpha":1 is added where alpha is the constant 1 although the layer has a parameter for it. A layer in parts
 * has "groups":[{"op","params"},...] in place of its op and params. */
cJSON *wasd_draw_to_json(const struct wasd_draw *d, const struct wasd_graph *g);
enum wasd_status wasd_draw_from_json(const cJSON *j, const struct wasd_graph *g, struct wasd_draw *out,
                                     struct wasd_err *err);

/* ---- the strategy: how a job draws ---------------------------------------------------------------- */

/* Compiled form of the job spec's "was" object for one graph. */
struct wasd_was;
/* was: the spec's value: an object (transforms with weights, layers, alpha, draw), false = plain weights, NULL = the
 * architecture's own default as given by the JSON text `paper` (wasd_arch_paper_was). *out is NULL, with WASD_OK, when
 * the answer is plain weights: the callers below are then not called. Errors carry the JSON pointer "/was/...".
 * layers: "paper" = those that the published network augments, "all" = every convolution with k > 1, a name or a
 * pattern of names (wasd_glob), or a list of these, each of which has to mean some layer.
 * alpha: "learned" = the layer's parameter, "fixed" = constant 1 (as in layers that the published network does not
 * augment). draw: "step" = fresh transforms in every training pass, "epoch" = once per epoch, "profile:NAME" = training
 * for a profile: "profile" has its draw, which is then also the one recorded for DOM, and "odds" how often a step takes
 * plain weights, that draw, or fresh transforms. probability: the chance that a layer is transformed in a draw, on its
 * own of the others; else its T is the identity, so that SW = alpha PW and the layer's scale is the same in both cases.
 * groups: a layer's output channels in so many parts, each with a draw of its own. As {"from","to","epochs"} it is a
 * linear ramp over so many epochs. */
enum wasd_status wasd_was_create(const struct wasd_graph *g, const cJSON *was, const char *paper, struct wasd_was **out,
                                 struct wasd_err *err);
void wasd_was_destroy(struct wasd_was *w);
/* Fills *d (zeroed, or a draw of the same was: then nothing is allocated) with fresh transforms, layer by layer in
 * execution order; per layer (and part of it) first whether it is transformed (with a probability below 1), then the
 * choice among transforms, then that transform's own draws. */
enum wasd_status wasd_was_draw(const struct wasd_was *w, struct wasd_rng *r, struct wasd_draw *d, struct wasd_err *err);
/* The same by the law of epoch `epoch`, counted from 0; the call above draws by the law that a ramp ends with. */
enum wasd_status wasd_was_draw_in(const struct wasd_was *w, int epoch, struct wasd_rng *r, struct wasd_draw *d,
                                  struct wasd_err *err);
/* from + (to - from) min(epoch / epochs, 1), or the one number that there is. */
double wasd_was_probability(const struct wasd_was *w, int epoch);
/* What a training step takes. Without a profile always fresh transforms, and no number of r is taken. */
enum wasd_was_turn { WASD_TURN_FRESH, WASD_TURN_PLAIN, WASD_TURN_PROFILE, WASD_TURNS };
enum wasd_was_turn wasd_was_turn(const struct wasd_was *w, struct wasd_rng *r);
/* The draw that DOM serves: the profile's, or one by the law from stream "dom" of the seed. *out zeroed before. */
enum wasd_status wasd_was_record(const struct wasd_was *w, const struct wasd_graph *g, uint64_t seed,
                                 struct wasd_draw *out, struct wasd_err *err);
bool wasd_was_per_epoch(const struct wasd_was *w); /* "draw": "epoch" */
cJSON *wasd_was_to_json(const struct wasd_was *w); /* the object with every default written out */

#endif
