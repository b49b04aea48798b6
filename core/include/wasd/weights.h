/* wasd/weights.h - the weight-strategy seam and WAS (arXiv 2405.19590; was-algorithm.md).
 *
 * A spatial transform of a k x k kernel is a matrix T of k*k x k*k over taps (index y*k+x, row = output tap):
 *     SW = alpha * PW * T^t  over rows (o,i);   dPW += alpha * dSW * T;   dalpha += <dSW, PW * T^t>
 * Rows of T that are zero are dead taps: the plan computes only the live rectangle.
 */
#ifndef WASD_WEIGHTS_H
#define WASD_WEIGHTS_H

#include "wasd/tensor.h"
#include "wasd/json.h"

struct wasd_graph;

/* ---- one transform -------------------------------------------------------------------------- */

#define WASD_K_MAX 7
struct wasd_rect { int y, x, h, w; };                /* live taps of SW inside the k x k grid; h = w = 0: none is live */

struct wasd_transform {
	const char *op;                               /* row name: "identity", "translate", "crop_resize", ... */
	double p[6];                                  /* parameters in the row's order */
	int k;
	bool identity;                                /* T is exactly the unit matrix */
	struct wasd_rect live;                        /* smallest rectangle that holds every nonzero row of T */
	double T[WASD_K_MAX * WASD_K_MAX * WASD_K_MAX * WASD_K_MAX]; /* k*k x k*k, row-major, packed */
};

/* A kind of transform: one row of weights/was_ops.c's table. Later kinds are further rows. */
struct wasd_transform_op {
	const char *name;
	const char *params[6];                        /* names for JSON, NULL-terminated */
	/* Fills t->T from t->k and t->p (already range-checked). live and identity are derived afterwards. */
	void (*matrix)(struct wasd_transform *t);
	/* Draws parameters by the law of the training option object (NULL for ops that are never drawn). */
	void (*sample)(struct wasd_transform *t, const double *law, struct wasd_rng *r);
	const char *law[6];                           /* option names of the law ("x","y" | "scale_lo","scale_hi",...) */
};
const struct wasd_transform_op *wasd_transform_op_find(const char *name);
const struct wasd_transform_op *wasd_transform_op_at(int i);     /* NULL after the last */
/* Builds t for op with params[] = p; WASD_EINVAL names the parameter. k 1..WASD_K_MAX. */
enum wasd_status wasd_transform_make(const char *op, int k, const double *p, struct wasd_transform *t, struct wasd_err *err);

/* rows x k*k taps in the row-major weight order (rows = O*I/groups). sw may not alias pw. */
void wasd_transform_forward(const struct wasd_transform *t, real alpha, const real *pw, size_t rows, real *sw);
/* dpw += alpha * dsw * T; returns <dsw, pw * T^t> (accumulated in double, fixed order). */
double wasd_transform_backward(const struct wasd_transform *t, real alpha, const real *pw, const real *dsw, size_t rows, real *dpw);

/* ---- a draw: one transform for every augmented layer ------------------------------------------ */

struct wasd_draw {
	int n;                                        /* one per augmented layer in use, execution order */
	struct wasd_draw_layer { int aug /* index for wasd_graph_aug_info */; struct wasd_transform t; } *layer;
};
void wasd_draw_done(struct wasd_draw *d);
/* JSON form, also in checkpoints and fixtures: [{"layer":"layer1.0.conv1","op":"translate","params":{"dx":1,"dy":0}}, ...] */
cJSON *wasd_draw_to_json(const struct wasd_draw *d, const struct wasd_graph *g);
enum wasd_status wasd_draw_from_json(const cJSON *j, const struct wasd_graph *g, struct wasd_draw *out, struct wasd_err *err);

/* ---- the strategy: how a job draws ---------------------------------------------------------------- */

/* Compiled form of the job spec's "was" object for one graph. */
struct wasd_was;
/* was: the spec's object (transforms with weights, layers, alpha, draw); NULL = the architecture's own default as given by
 * `paper` (from the model table). Errors carry the JSON pointer below "/was". */
enum wasd_status wasd_was_create(const struct wasd_graph *g, const cJSON *was, const char *paper, struct wasd_was **out, struct wasd_err *err);
void wasd_was_destroy(struct wasd_was *w);
/* Fills *d (zeroed, or a draw of the same was: then nothing is allocated) with fresh transforms, layer by layer in
 * execution order; per layer first the choice among transforms, then that transform's own draws. */
enum wasd_status wasd_was_draw(const struct wasd_was *w, struct wasd_rng *r, struct wasd_draw *d, struct wasd_err *err);
cJSON *wasd_was_to_json(const struct wasd_was *w);   /* the object with every default written out */

/* ---- the seam on the parameter (weights/chain.c): what graph/exec.c calls -------------------------- */

/* Effective weights of one parameter in one pass. When the chain is empty, data is the master itself and nothing is copied. */
struct wasd_effective {
	const real *data;                             /* (O,I/groups,live.h,live.w), compact */
	struct wasd_rect live;                        /* where the compact kernel sits in the k x k grid */
};

#endif
