/* wasd/weights.h - the weights that a pass computes with, and WAS (arXiv 2405.19590; web/docs/was.md).
 *
 * A spatial transform of a k x k kernel is a matrix T of k*k x k*k over taps (index y*k+x, row = output tap):
 *     SW = alpha * PW * T^t  over rows (o,i);   dPW += alpha * dSW * T;   dalpha += <dSW, PW * T^t>
 * Zero rows of T are dead taps: the plan computes only the live rectangle. */
#ifndef WASD_WEIGHTS_H
#define WASD_WEIGHTS_H

#include "wasd/tensor.h"
#include "wasd/spec.h"

struct wasd_graph;

/* ---- one transform -------------------------------------------------------------------------- */

#define WASD_K_MAX 7
struct wasd_rect {
	int y, x, h, w;
}; /* live taps of SW inside the k x k grid; h = w = 0: none */

struct wasd_transform {
	const struct wasd_transform_op *op; /* row of the table: "identity", "translate", "crop_resize", ... */
	double p[6];                        /* parameters in the row's order */
	int k;
	bool identity; /* T is exactly the unit matrix */
	bool box;  /* the live taps fill their rectangle, there are at least two, and all have the same row of T, so SW is
	              constant there */
	bool copy; /* every row of T has at most one entry, which is 1; from[] then describes T completely */
	struct wasd_rect live;                /* smallest rectangle that holds every nonzero row of T */
	int8_t from[WASD_K_MAX * WASD_K_MAX]; /* with copy: source tap of each output tap, -1 = dead */
	double T[WASD_K_MAX * WASD_K_MAX * WASD_K_MAX * WASD_K_MAX]; /* k*k x k*k, row-major, packed */
};

/* A kind of transform: one row in the table of weights/was_ops.c. A new kind is a new row. */
struct wasd_transform_op {
	const char *name; /* in draws: "crop_resize" */
	const char *summary;
	struct wasd_field params[7]; /* ends at a NULL name */
	/* A constraint between parameters, or between parameters and k; NULL = the ranges above suffice. Returns the
	 * faulty parameter or -1. */
	int (*check)(int k, const double *p);
	/* Fills t->T (zeroed) from t->k and t->p, whose ranges have been checked. The other members are derived
	 * afterwards. */
	void (*matrix)(struct wasd_transform *t);
	/* As a training option: its type in the job spec ("resized_crop"), the options of its law (values packed in
	 * this order), and the function that draws p for a kernel of side k by that law. false = the law leaves the
	 * kernel unchanged in this draw (op "identity", p unused). type NULL = never drawn. */
	const char *type;
	struct wasd_field law[4]; /* numbers and pairs; ends at a NULL name */
	bool (*sample)(int k, const double *law, struct wasd_rng *r, double *p);
};
#define WASD_LAW_MAX 8 /* maximum number of values of a law */
const struct wasd_transform_op *wasd_transform_op_find(const char *name);
const struct wasd_transform_op *wasd_transform_op_at(int i); /* NULL after the last */
/* Further rows, defined by the program that core is linked into; they follow those of the table and end at NULL.
 * Optional: the symbol is weak. */
extern const struct wasd_transform_op *const wasd_transform_op_more[] __attribute__((weak));
/* Builds t for op with params[] = p. WASD_EINVAL names the parameter. k: 1 to WASD_K_MAX. */
enum wasd_status wasd_transform_make(const char *op, int k, const double *p, struct wasd_transform *t,
                                     struct wasd_err *err);

/* pw: rows x k*k taps of PW in the row-major weight order (rows = O*I/groups). sw and dsw hold the rectangle `at`
 * of every row, compact: rows x at.h*at.w (t->live is the smallest that loses nothing; k x k is the plain form).
 * sw must not alias pw. Both functions run on the thread team (wasd_parallel); the result does not depend on the
 * team's size. */
void wasd_transform_forward(const struct wasd_transform *t, real alpha, const real *pw, size_t rows,
                            struct wasd_rect at, real *sw);
/* dpw += alpha * dsw * T; returns <dsw, pw * T^t> (accumulated in double, fixed order). */
double wasd_transform_backward(const struct wasd_transform *t, real alpha, const real *pw, const real *dsw, size_t rows,
                               struct wasd_rect at, real *dpw);

/* ---- a recipe: forms the weights of a pass ----------------------------------------------------- */

struct weight_strategy; /* core's weights/strategy.h */
extern const struct weight_strategy weight_was;
/* The strategy `by` makes a recipe, and only that strategy can read it. Wherever a recipe is passed, NULL means
 * the weights as they are. */
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
		int parts; /* number of parts of the output channels, each with its own transform: part i begins at channel
		              out*i/parts. 0 and 1: one transform for all */
		struct wasd_transform *more; /* of parts 1 to parts-1, owned; NULL if there is one part */
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
/* Whether SW is constant in that rectangle, in every part. */
bool wasd_draw_box(const struct wasd_draw_layer *l);
/* Both passes above (wasd_transform_forward, _backward) for a layer of `outs` output channels and its parts; rows
 * = outs * I/groups. dsw is zero afterwards. */
void wasd_draw_forward(const struct wasd_draw_layer *l, real alpha, const real *pw, int outs, size_t rows,
                       struct wasd_rect at, real *sw);
double wasd_draw_backward(const struct wasd_draw_layer *l, real alpha, const real *pw, real *dsw, int outs, size_t rows,
                          struct wasd_rect at, real *dpw);
/* The entry of augmentable layer `aug` in d; NULL = this draw leaves the layer's weights plain. */
const struct wasd_draw_layer *wasd_draw_find(const struct wasd_draw *d, int aug);
/* The JSON form, also used in checkpoints and fixtures:
 * [{"layer":"layer1.0.conv1","op":"translate","params":{"dx":1,"dy":0}}, ...]. "alpha":1 is added if alpha is the
 * constant 1 although the layer has a parameter for it. A layer in parts has "groups":[{"op","params"},...]
 * instead of op and params. */
cJSON *wasd_draw_to_json(const struct wasd_draw *d, const struct wasd_graph *g);
enum wasd_status wasd_draw_from_json(const cJSON *j, const struct wasd_graph *g, struct wasd_draw *out,
                                     struct wasd_err *err);

/* ---- the strategy: how a job draws ---------------------------------------------------------------- */

/* The job spec's "was" object, compiled for one graph. */
struct wasd_was;
/* was: the spec's value: an object (transforms with weights, layers, alpha, draw), false = plain weights, NULL =
 * the architecture's default, given as the JSON text `paper` (wasd_arch_paper_was). *out is NULL, with WASD_OK,
 * for plain weights; the functions below must not be called then. Errors carry the JSON pointer "/was/...".
 * layers: "paper" = the layers that the published network augments, "all" = every convolution with k > 1, a name
 * or a pattern of names (wasd_glob), or a list of these, each of which must match at least one layer.
 * alpha: "learned" = the layer's parameter, "fixed" = constant 1 (as in layers that the published network does not
 * augment).
 * draw: "step" = new transforms in every training pass, "epoch" = once per epoch, "profile:NAME" = training for a
 * profile. In that case "profile" has its draw, which is also the draw recorded for DOM, and "odds" how often a
 * step takes plain weights, that draw, or new transforms.
 * probability: the chance that a layer is transformed in a draw, independently of the other layers. Otherwise its
 * T is the identity, so that SW = alpha PW and the layer's scale is the same in both cases. {"from","to","epochs"}
 * is a linear ramp over that number of epochs.
 * groups: the number of parts of a layer's output channels, each with its own draw. */
enum wasd_status wasd_was_create(const struct wasd_graph *g, const cJSON *was, const char *paper, struct wasd_was **out,
                                 struct wasd_err *err);
void wasd_was_destroy(struct wasd_was *w);
/* Fills *d with new transforms, layer by layer in execution order. *d is zeroed, or a draw of the same was, in
 * which case nothing is allocated. Numbers are drawn per layer (and part): first whether it is transformed (with a
 * probability below 1), then which transform, then that transform's parameters. */
enum wasd_status wasd_was_draw(const struct wasd_was *w, struct wasd_rng *r, struct wasd_draw *d, struct wasd_err *err);
/* Does the same by the law of epoch `epoch`, counted from 0; wasd_was_draw uses the law at the end of the ramp. */
enum wasd_status wasd_was_draw_in(const struct wasd_was *w, int epoch, struct wasd_rng *r, struct wasd_draw *d,
                                  struct wasd_err *err);
/* from + (to - from) min(epoch / epochs, 1), or the constant probability. */
double wasd_was_probability(const struct wasd_was *w, int epoch);
/* The weights of a training step. Without a profile the turn is always FRESH, and no number is drawn from r. */
enum wasd_was_turn { WASD_TURN_FRESH, WASD_TURN_PLAIN, WASD_TURN_PROFILE, WASD_TURNS };
enum wasd_was_turn wasd_was_turn(const struct wasd_was *w, struct wasd_rng *r);
/* The draw that DOM serves: the profile's, or one by the law from stream "dom" of the seed. *out must be zeroed. */
enum wasd_status wasd_was_record(const struct wasd_was *w, const struct wasd_graph *g, uint64_t seed,
                                 struct wasd_draw *out, struct wasd_err *err);
bool wasd_was_per_epoch(const struct wasd_was *w); /* "draw": "epoch" */
cJSON *wasd_was_to_json(const struct wasd_was *w); /* the object with every default written out */

#endif
