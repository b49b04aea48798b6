/* compare_nets.h - a network that a job describes, on one backend in one precision, against the plain loops in float32:
 * logits and gradients of a training pass, and the logits of the network as it is served. */
#ifndef TESTS_COMPARE_NETS_H
#define TESTS_COMPARE_NETS_H

#include "check.h"
#include "backend/backend.h"
#include "infer/bundle.h"
#include "wasd/model.h"

enum { IMAGES = 3, CLASSES = 2, SIDE = 6 };
static const struct wasd_shape compared_input = {3, SIDE, SIDE};
static const int32_t compared_labels[IMAGES] = {1, 0, 1};

struct compared {
	double loss;
	real logits[IMAGES * CLASSES], served[IMAGES * CLASSES];
};

static void compared_images(real x[IMAGES * 3 * SIDE * SIDE])
{
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "x", 0, 0);
	for (int i = 0; i < IMAGES * 3 * SIDE * SIDE; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
}

/* One forward and backward pass, with the same dropout every time. Gradients stay in the model. */
static double compared_pass(struct wasd_exec *e, struct wasd_model *m, const real *x, bool back)
{
	struct wasd_err err = {0};
	struct wasd_rng drop;
	double loss = NAN;
	int hits;
	wasd_rng_init(&drop, 5, "dropout", 0, 0);
	CHECK_MSG(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = IMAGES, .bn = WASD_BN_BATCH, .dropout = &drop}, &err) &&
	              !wasd_exec_loss(e, compared_labels, 0, &loss, &hits, &err),
	          "%s", err.msg);
	if (back) {
		wasd_model_grad_zero(m);
		CHECK_MSG(!wasd_exec_backward(e, &err), "%s", err.msg);
	}
	return loss;
}

static struct wasd_exec *compared_exec(struct wasd_model *m, const char *backend, enum wasd_precision p, bool training)
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = IMAGES,
	                           .training = training,
	                           .constant_weights = !training,
	                           .precision = p,
	                           .backend = backend};
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err), "%s: %s", backend, err.msg);
	return e;
}

static void compared_run(struct wasd_model *m, const char *backend, enum wasd_precision p, const real *x,
                         struct compared *out)
{
	struct wasd_exec *e = compared_exec(m, backend, p, true);
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	out->loss = compared_pass(e, m, x, true);
	memcpy(out->logits, wasd_exec_logits(e), sizeof out->logits);
	wasd_exec_destroy(e);
	CHECK_MSG(!bundle_compile(m, NULL, WASD_STATS_AOM, &b, &err), "%s", err.msg);
	e = compared_exec(bundle_model(b), backend, p, false);
	for (int i = 0; i < IMAGES; i++) { /* fewer images than were planned for */
		CHECK(!wasd_exec_forward(e, x + i * 3 * SIDE * SIDE,
		                         &(struct wasd_pass){.n = 1, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, &err));
		memcpy(out->served + i * CLASSES, wasd_exec_logits(e), CLASSES * sizeof *out->served);
	}
	wasd_exec_destroy(e);
	wasd_bundle_unref(b);
}

static double distance(const real *a, const real *b, size_t n, double *scale)
{
	double d = 0;
	*scale = 1e-6;
	for (size_t i = 0; i < n; i++) {
		d = fmax(d, isfinite(a[i]) ? fabs((double)a[i] - (double)b[i]) : INFINITY);
		*scale = fmax(*scale, fabs((double)b[i]));
	}
	return d;
}

static void compare_net(const char *what, struct wasd_graph *g, const char *backend, enum wasd_precision p)
{
	struct wasd_model *a = NULL, *b = NULL;
	struct wasd_err err = {0};
	struct compared got, want;
	real x[IMAGES * 3 * SIDE * SIDE];
	double d, scale,
		tol = p == WASD_PRECISION_BF16 ? 0.06 :
	                                     2e-4; /* bfloat16 has 8 bits, and these nets have few values to average over */
	const char *name = wasd_precision_name(p);
	compared_images(x);
	CHECK(!wasd_model_create(g, 1, &a, &err) && !wasd_model_create(g, 1, &b, &err));
	compared_run(a, backend, p, x, &got);
	compared_run(b, "ref", WASD_PRECISION_FP32, x, &want);
	d = distance(got.logits, want.logits, IMAGES * CLASSES, &scale);
	CHECK_MSG(d <= tol * scale, "%s on %s in %s: logits differ by %g of %g", what, backend, name, d, scale);
	d = distance(got.served, want.served, IMAGES * CLASSES, &scale);
	CHECK_MSG(d <= tol * scale, "%s on %s in %s: served logits differ by %g of %g", what, backend, name, d, scale);
	d = distance(wasd_model_grad(a), wasd_model_grad(b), wasd_graph_param_count(g), &scale);
	CHECK_MSG(d <= 3 * tol * scale, "%s on %s in %s: gradients differ by %g of %g", what, backend, name, d, scale);
	wasd_model_destroy(a);
	wasd_model_destroy(b);
}

/* On every row of the backends, in every precision that it offers on this machine. */
static void compare_everywhere(const char *what, struct wasd_graph *g)
{
	const struct backend *b, *can;
	for (int i = 0; (b = backend_at(i)) != NULL; i++)
		for (int p = 0; p < WASD_PRECISIONS; p++)
			if (!backend_choose(b->name, (enum wasd_precision)p, &can, NULL))
				compare_net(what, g, b->name, (enum wasd_precision)p);
}

#endif
