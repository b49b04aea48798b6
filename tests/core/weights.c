/* tests/core/weights.c - transforms of kernels without a network: matrices of the algorithm's tables, adjointness, the
 * live rectangle, the laws of the draws, rejected input. The golden numbers are in fixtures_transforms.c. */
#include "fixture.h"
#include "wasd/graph.h"
#include "weights/apply.h"
#include "weights/strategy.h"

#include <float.h>

/* Every op with parameters that have an effect at k = 3 and 5. */
static const struct {
	const char *op;
	double p[6];
} sample[] = {
	{"identity", {0}},
	{"translate", {1, 0}},
	{"translate", {-1, 1}},
	{"translate", {0, -2}},
	{"translate", {7, 0}},
	{"crop_resize", {0, 1, 2, 2}},
	{"crop_resize", {0, 0, 3, 2}},
	{"scale", {3.2}},
	{"scale", {0.7}},
	{"shear", {135, 0}},
	{"rotate", {30}},
	{"affine", {20, 1, 0, 1.1, 10, -15}},
	{"hflip", {0}},
	{"vflip", {0}},
};
enum { SAMPLES = sizeof sample / sizeof *sample };

static double real_eps(void)
{
	return sizeof(real) == 8 ? 1e-12 : 1e-4;
}

static void fill(struct wasd_rng *r, real *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		v[i] = (real)wasd_rng_between(r, -1, 1);
}

/* <SW(x), y> = <x, SW^T(y)>, in the rectangle; and dalpha = <dSW, T PW>. From one row to thousands: one chunk and
 * many. */
static void dot_test(void)
{
	static const size_t rows_of[] = {1, 3, 700, 5000};
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "dot", 0, 0);
	for (int k = 1; k <= 7; k += 2)
		for (int s = 0; s < SAMPLES; s++)
			for (int n = 0; n < 4; n++) {
				struct wasd_transform t;
				if (wasd_transform_make(sample[s].op, k, sample[s].p, &t, NULL))
					continue;
				size_t rows = rows_of[n], kk = (size_t)(k * k), m = (size_t)(t.live.h * t.live.w);
				real *x = wasd_alloc_aligned(4 * rows * kk, sizeof *x), *y = x + rows * kk, *sx = y + rows * kk,
					 *ty = sx + rows * kk;
				real alpha = (real)0.7;
				fill(&r, x, rows * kk);
				fill(&r, y, rows * m);
				wasd_transform_forward(&t, alpha, x, rows, t.live, sx);
				double dalpha = wasd_transform_backward(&t, alpha, x, y, rows, t.live, ty), left = 0, right = 0;
				for (size_t i = 0; i < rows * m; i++)
					left += (double)sx[i] * y[i];
				for (size_t i = 0; i < rows * kk; i++)
					right += (double)x[i] * ty[i];
				double tol = real_eps() * sqrt((double)(rows * kk));
				CHECK_MSG(fabs(left - right) <= tol, "%s k=%d rows=%zu: %g and %g", sample[s].op, k, rows, left, right);
				CHECK_MSG(fabs(left - alpha * dalpha) <= tol, "%s k=%d rows=%zu: dalpha %g, want %g", sample[s].op, k,
				          rows, dalpha, left / alpha);
				wasd_free(x);
			}
}

/* ---- the kernels that apply a transform -------------------------------------------------------------------- */

struct apply_case {
	struct wasd_transform t;
	struct wasd_rect at;
	size_t rows, kk, m;
	real alpha, *pw, *dsw, *dpw;
};

struct apply_result {
	real *sw, *dpw, *dsw;
	double dot;
};

static void result_done(struct apply_result *r)
{
	wasd_free(r->sw);
	wasd_free(r->dpw);
	wasd_free(r->dsw);
}

static bool apply_by(const struct apply_kernel *kn, const struct apply_case *c, bool clear, struct apply_result *out)
{
	*out = (struct apply_result){wasd_calloc(c->rows * c->m + 1, sizeof(real)),
	                             wasd_calloc(c->rows * c->kk + 1, sizeof(real)),
	                             wasd_calloc(c->rows * c->m + 1, sizeof(real)), 0};
	memcpy(out->dpw, c->dpw, c->rows * c->kk * sizeof(real));
	memcpy(out->dsw, c->dsw, c->rows * c->m * sizeof(real));
	out->sw[c->rows * c->m] = out->dpw[c->rows * c->kk] = 77; /* nothing may be written behind the rows */
	bool forward = apply_forward(kn, &c->t, c->alpha, c->pw, c->rows, c->at, out->sw);
	bool backward = apply_backward(kn, &c->t, c->alpha, c->pw, out->dsw, clear, c->rows, c->at, out->dpw, &out->dot);
	if (forward && backward)
		return true;
	result_done(out);
	return false;
}

/* The formulas as loops in double. A result is a float sum of a few products: it may be off by some units in the last
 * place of its terms. */
static void check_values(const char *name, const struct apply_case *c, const struct apply_result *got)
{
	double eps = sizeof(real) == 8 ? DBL_EPSILON : FLT_EPSILON, dot = 0, dot_size = 0;
	size_t bad_sw = 0, bad_dpw = 0;
	int k = c->t.k;
	for (size_t r = 0; r < c->rows; r++) {
		double g[WASD_K_MAX * WASD_K_MAX] = {0}, size[WASD_K_MAX * WASD_K_MAX] = {0};
		for (size_t o = 0; o < c->m; o++) {
			const double *row = c->t.T + ((c->at.y + (int)o / c->at.w) * k + c->at.x + (int)o % c->at.w) * k * k;
			double want = 0, terms = 0, d = c->dsw[r * c->m + o];
			for (size_t i = 0; i < c->kk; i++) {
				double x = row[i] * c->pw[r * c->kk + i];
				want += c->alpha * x;
				terms += fabs(c->alpha * x);
				g[i] += d * row[i];
				size[i] += fabs(d * row[i]);
				dot += d * x;
				dot_size += fabs(d * x);
			}
			bad_sw += !(fabs(got->sw[r * c->m + o] - want) <= 8 * eps * terms);
		}
		for (size_t i = 0; i < c->kk; i++) {
			double before = c->dpw[r * c->kk + i], want = before + c->alpha * g[i];
			bad_dpw += !(fabs(got->dpw[r * c->kk + i] - want) <=
			             (4 + (double)c->m) * eps * (fabs(before) + fabs(c->alpha) * size[i]));
		}
	}
	CHECK_MSG(!bad_sw && !bad_dpw, "%s %s k=%d rows=%zu %dx%d: %zu of SW and %zu of dPW are wrong", name, c->t.op->name,
	          k, c->rows, c->at.h, c->at.w, bad_sw, bad_dpw);
	CHECK_MSG(fabs(got->dot - dot) <= (4 + (double)c->m) * eps * dot_size, "%s %s k=%d rows=%zu: dot %.9g, want %.9g",
	          name, c->t.op->name, k, c->rows, got->dot, dot);
	CHECK_MSG(got->sw[c->rows * c->m] == 77 && got->dpw[c->rows * c->kk] == 77,
	          "%s %s k=%d rows=%zu: written behind the end", name, c->t.op->name, k, c->rows);
}

static bool same_result(const struct apply_case *c, const struct apply_result *a, const struct apply_result *b)
{
	return !memcmp(a->sw, b->sw, c->rows * c->m * sizeof(real)) &&
	       !memcmp(a->dpw, b->dpw, c->rows * c->kk * sizeof(real)) && a->dot == b->dot;
}

static void check_kernels(struct apply_case *c)
{
	struct apply_result two, one, plain;
	const struct apply_kernel *kn;
	CHECK(apply_by(&apply_portable, c, false, &plain));
	for (int i = 0; (kn = apply_kernel_at(i)) != NULL; i++) {
		wasd_threads_init(2, NULL);
		if (!apply_by(kn, c, false, &two))
			continue;
		check_values(kn->name, c, &two);
		CHECK_MSG(!memcmp(two.dsw, c->dsw, c->rows * c->m * sizeof(real)), "%s: dSW was written", kn->name);
		wasd_threads_init(1, NULL);
		CHECK(apply_by(kn, c, true, &one));
		size_t left = 0, differ = 0;
		for (size_t n = 0; n < c->rows * c->m; n++) {
			left += one.dsw[n] != 0;
			differ += two.sw[n] != plain.sw[n];
		}
		CHECK_MSG(left == 0, "%s: %zu values of dSW are not cleared", kn->name, left);
		CHECK_MSG(differ == 0, "%s %s k=%d rows=%zu: %zu of SW are not the portable kernel's", kn->name, c->t.op->name,
		          c->t.k, c->rows, differ);
		CHECK_MSG(same_result(c, &one, &two), "%s %s k=%d rows=%zu: one thread and two give different bits", kn->name,
		          c->t.op->name, c->t.k, c->rows);
		result_done(&one);
		result_done(&two);
	}
	result_done(&plain);
}

static void case_init(struct apply_case *c, struct wasd_rng *r, size_t rows, struct wasd_rect at, real alpha)
{
	c->rows = rows;
	c->at = at;
	c->alpha = alpha;
	c->kk = (size_t)(c->t.k * c->t.k);
	c->m = (size_t)(at.h * at.w);
	c->pw = wasd_calloc(rows * c->kk, sizeof(real));
	c->dsw = wasd_calloc(rows * c->m + 1, sizeof(real));
	c->dpw = wasd_calloc(rows * c->kk, sizeof(real));
	fill(r, c->pw, rows * c->kk);
	fill(r, c->dsw, rows * c->m);
	fill(r, c->dpw, rows * c->kk);
}

static void case_done(struct apply_case *c)
{
	wasd_free(c->pw);
	wasd_free(c->dsw);
	wasd_free(c->dpw);
}

/* Numbers of rows around a block of 16, around one and two chunks; and more rows than the smallest chunks hold. */
static void kernels(void)
{
	static const size_t rows_of[] = {1, 15, 16, 17, 33, 511, 512, 513, 1041, 40007};
	struct wasd_rng r;
	wasd_rng_init(&r, 2, "kernels", 0, 0);
	for (int k = 1; k <= 7; k++)
		for (int s = 0; s < SAMPLES; s++)
			for (size_t n = 0; n < sizeof rows_of / sizeof *rows_of; n++) {
				struct apply_case c;
				if (wasd_transform_make(sample[s].op, k, sample[s].p, &c.t, NULL) ||
				    (rows_of[n] > 2000 && (k != 3 || s > 5)))
					continue;
				case_init(&c, &r, rows_of[n], c.t.live, n % 3 == 0 ? 1 : (real)-0.7);
				check_kernels(&c);
				case_done(&c);
				if (n == 3) {
					case_init(&c, &r, rows_of[n], (struct wasd_rect){0, 0, k, k}, (real)1.3);
					check_kernels(&c);
					case_done(&c);
				}
			}
}

/* A NaN or infinite row affects only itself, whatever rows are processed with it. */
static void kernels_keep_rows_apart(void)
{
	static const int k = 3, rows = 32;
	const struct apply_kernel *kn;
	struct wasd_rng r;
	wasd_rng_init(&r, 3, "kernels", 0, 0);
	for (int s = 0; s < SAMPLES; s++)
		for (int i = 0; (kn = apply_kernel_at(i)) != NULL; i++) {
			struct apply_case c;
			struct apply_result got;
			wasd_transform_make(sample[s].op, k, sample[s].p, &c.t, NULL);
			case_init(&c, &r, (size_t)rows, c.t.live, (real)0.7);
			for (size_t t = 0; t < c.kk; t++)
				c.pw[5 * c.kk + t] = NAN;
			for (size_t t = 0; t < c.m; t++)
				c.dsw[20 * c.m + t] = INFINITY;
			int spoilt = 0, noticed = 0;
			if (apply_by(kn, &c, false, &got)) {
				for (size_t n = 0; n < c.rows; n++) {
					for (size_t t = 0; t < c.m; t++)
						*(n == 5 ? &noticed : &spoilt) += !isfinite(got.sw[n * c.m + t]);
					for (size_t t = 0; t < c.kk; t++)
						*(n == 20 ? &noticed : &spoilt) += !isfinite(got.dpw[n * c.kk + t]);
				}
				CHECK_MSG(!spoilt && (noticed || !c.m) && (!c.m || !isfinite(got.dot)),
				          "%s %s: %d values of finite rows are not finite, %d of others", kn->name, sample[s].op,
				          spoilt, noticed);
				result_done(&got);
			}
			case_done(&c);
		}
}

/* The rectangle holds every live row of T and no row outside is live; backward adds to existing values. */
static void live_rectangle(void)
{
	static const struct {
		const char *op;
		int k;
		double p[6];
		struct wasd_rect live;
	} c[] = {
		{"translate", 3, {1, 0}, {0, 1, 3, 2}},         {"translate", 3, {-1, -1}, {0, 0, 2, 2}},
		{"translate", 3, {0, 1}, {1, 0, 2, 3}},         {"translate", 5, {2, -1}, {0, 2, 4, 3}},
		{"translate", 3, {3, 0}, {0, 0, 0, 0}},         {"translate", 1, {0, 0}, {0, 0, 1, 1}},
		{"crop_resize", 3, {0, 0, 2, 2}, {0, 0, 3, 3}}, {"shear", 3, {135, 0}, {0, 0, 3, 3}},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_transform t;
		CHECK_INT(wasd_transform_make(c[i].op, c[i].k, c[i].p, &t, NULL), WASD_OK);
		CHECK_MSG(!memcmp(&t.live, &c[i].live, sizeof t.live), "%s case %zu: (%d,%d) %dx%d", c[i].op, i, t.live.y,
		          t.live.x, t.live.h, t.live.w);
	}
}

/* Equal taps are recognised exactly when all taps are equal. */
static void boxes(void)
{
	static const struct {
		const char *op;
		int k;
		double p[6];
		bool box;
	} c[] = {
		{"scale", 3, {3.01}, true},
		{"scale", 3, {2.99}, true},
		{"scale", 3, {1.9}, false},
		{"scale", 5, {3.3}, false},
		{"scale", 5, {4.5}, true},
		{"crop_resize", 3, {1, 2, 1, 1}, true},
		{"crop_resize", 3, {0, 0, 1, 2}, false},
		{"identity", 3, {0}, false},
		{"scale", 1, {3}, false},
		{"translate", 3, {2, 2}, false},
		{"translate", 3, {4, 0}, false},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_transform t;
		CHECK_INT(wasd_transform_make(c[i].op, c[i].k, c[i].p, &t, NULL), WASD_OK);
		CHECK_MSG(t.box == c[i].box, "%s k=%d case %zu", c[i].op, c[i].k, i);
	}
}

static void algorithm_tables(void)
{
	struct wasd_transform t;
	/* scale (3,3.5): all nine taps are the centre; at k = 5 the source map is 1,2,2,2,3 per axis. */
	wasd_transform_make("scale", 3, (double[6]){3.3}, &t, NULL);
	for (int o = 0; o < 9; o++)
		CHECK_INT(t.from[o], 4);
	wasd_transform_make("scale", 5, (double[6]){3.3}, &t, NULL);
	static const int map[5] = {1, 2, 2, 2, 3};
	for (int o = 0; o < 25; o++)
		CHECK_INT(t.from[o], map[o / 5] * 5 + map[o % 5]);
	/* shear 135: 2 of 9 and 6 of 25 taps are lost. */
	for (int k = 3, lost = 0; k <= 5; k += 2, lost = 0) {
		wasd_transform_make("shear", k, (double[6]){135, 0}, &t, NULL);
		for (int o = 0; o < k * k; o++)
			lost += t.from[o] < 0;
		CHECK_INT(lost, k == 3 ? 2 : 6);
	}
	/* dx > 0 moves right, dy > 0 down: SW[y,x] = PW[y-dy,x-dx]. */
	wasd_transform_make("translate", 3, (double[6]){1, -1}, &t, NULL);
	CHECK_INT(t.from[0 * 3 + 1], 1 * 3 + 0);
	CHECK(t.copy && !t.identity);
	/* 4 of 5: rows [1],[.3,.7],[.5,.5],[.7,.3],[1]. */
	wasd_transform_make("crop_resize", 5, (double[6]){0, 0, 5, 4}, &t, NULL);
	static const double row[5][4] = {{1}, {.3, .7}, {0, .5, .5}, {0, 0, .7, .3}, {0, 0, 0, 1}};
	for (int x = 0; x < 5; x++)
		for (int i = 0; i < 4; i++)
			CHECK_NEAR(t.T[x * 25 + i], row[x][i], 1e-15);
	wasd_transform_make("crop_resize", 3, (double[6]){0, 0, 3, 3}, &t, NULL);
	CHECK(t.identity && t.copy);
	/* k = 1: every transform that does not shift is the identity. */
	static const char *const any[] = {"identity", "scale", "rotate", "hflip"};
	for (int i = 0; i < 4; i++) {
		wasd_transform_make(any[i], 1, (double[6]){2}, &t, NULL);
		CHECK_MSG(t.identity, "%s at k = 1", any[i]);
	}
}

/* A convolution of two channels with 3x3 taps, its alpha behind the weights. */
static struct wasd_graph *one_kernel(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK(!wasd_graph_create((struct wasd_shape){1, 3, 3}, &g, &err));
	wasd_node c = wasd_graph_conv(g, wasd_graph_input(g), "c", 2, 3, 1, 0, 1, false);
	wasd_graph_param(g, "alpha", 1, WASD_INIT_UNIT);
	wasd_graph_augmentable(g, "c", "alpha", 0);
	CHECK_MSG(!wasd_graph_finish(g, c, &err), "%s", err.msg);
	return g;
}

/* The draw through the strategy interface that plans and bundles call. */
static void as_a_strategy(void)
{
	enum { ALPHA = 18 };
	struct wasd_graph *g = one_kernel();
	real w[19], grad[19] = {[ALPHA] = 1}, buf[18];
	for (int i = 0; i < 18; i++)
		w[i] = (real)(i + 1);
	w[ALPHA] = (real)0.5;
	struct weight_kernel k = {.graph = g, .w = w, .dw = grad, .master = w, .grad = grad, .rows = 2, .outs = 2, .k = 3};
	struct wasd_draw_layer l = {.parts = 1};
	struct wasd_draw d = {{&weight_was}, 1, &l};
	const struct wasd_recipe *r = &d.recipe;
	struct weight_shape shape;
	CHECK(!weight_was.shape(r, 1, &shape)); /* a kernel that it leaves unchanged */

	wasd_transform_make("translate", 3, (double[6]){1, 1}, &l.t, NULL);
	CHECK(!weight_was.check(r, g, NULL) && weight_was.shape(r, 0, &shape));
	CHECK(shape.live.y == 1 && shape.live.x == 1 && shape.live.h == 2 && shape.live.w == 2 && !shape.equal);
	weight_was.forward(r, &k, shape.live, buf);
	static const double want[8] = {.5, 1, 2, 2.5, 5, 5.5, 6.5, 7};
	for (int i = 0; i < 8; i++)
		CHECK_NEAR(buf[i], want[i], 0);
	real dsw[8] = {1, 0, 0, 0, 0, 0, 0, 1};
	weight_was.backward(r, &k, shape.live, dsw);
	CHECK_NEAR(grad[0], .5, 0);
	CHECK_NEAR(grad[13], .5, 0);
	CHECK_NEAR(grad[ALPHA], 1 + 1 + 14, 1e-6); /* accumulated */
	CHECK(dsw[0] == 0 && dsw[7] == 0);         /* consumed */
	dsw[0] = dsw[7] = 1;
	l.alpha_one = true; /* constant 1 */
	weight_was.forward(r, &k, shape.live, buf);
	CHECK_NEAR(buf[0], 1, 0);
	weight_was.backward(r, &k, shape.live, dsw);
	CHECK_NEAR(grad[0], 1.5, 0);
	CHECK_NEAR(grad[ALPHA], 16, 1e-6);

	wasd_transform_make("translate", 3, (double[6]){5, 0}, &l.t, NULL);
	CHECK(weight_was.shape(r, 0, &shape) && shape.live.h == 0 && shape.live.w == 0);
	weight_was.forward(r, &k, shape.live, buf);
	weight_was.backward(r, &k, shape.live, dsw);
	CHECK_NEAR(grad[0], 1.5, 0);

	/* Two output channels with one shift each, to the right and to the left: the rectangle holds both, with zeros where
	 * one has no tap. */
	struct wasd_transform more;
	l = (struct wasd_draw_layer){.parts = 2, .more = &more};
	wasd_transform_make("translate", 3, (double[6]){2, 0}, &l.t, NULL);
	wasd_transform_make("translate", 3, (double[6]){0, -2}, &more, NULL);
	memset(grad, 0, sizeof grad);
	CHECK(weight_was.shape(r, 0, &shape) && shape.live.y == 0 && shape.live.x == 0 && shape.live.h == 3 &&
	      shape.live.w == 3);
	weight_was.forward(r, &k, shape.live, buf);
	static const double both[18] = {0, 0, .5, 0, 0, 2, 0, 0, 3.5, 8, 8.5, 9};
	for (int i = 0; i < 18; i++)
		CHECK_NEAR(buf[i], both[i], 0);
	real d2[18];
	for (int i = 0; i < 18; i++)
		d2[i] = (real)(i + 1);
	weight_was.backward(r, &k, shape.live, d2);
	CHECK_NEAR(grad[0], .5 * 3, 0);      /* tap (0,2) of the first copies (0,0) */
	CHECK_NEAR(grad[9 + 6], .5 * 10, 0); /* tap (0,0) of the second copies (2,0) */
	CHECK_NEAR(grad[1], 0, 0);
	CHECK_NEAR(grad[ALPHA], 3 * 1 + 6 * 4 + 9 * 7 + 10 * 16 + 11 * 17 + 12 * 18, 1e-4);
	for (int i = 0; i < 18; i++)
		CHECK(d2[i] == 0);
	wasd_graph_destroy(g);
}

static void refusals(void)
{
	static const struct {
		const char *op;
		int k;
		double p[6];
		const char *says;
	} bad[] = {
		{"warp", 3, {0}, "warp"},
		{"translate", 0, {0}, "kernel side 0"},
		{"translate", 8, {0}, "kernel side 8"},
		{"translate", 3, {0.5, 0}, "dx"},
		{"translate", 3, {0, 1e9}, "dy"},
		{"translate", 3, {NAN, 0}, "dx"},
		{"crop_resize", 3, {0, 0, 4, 1}, "h = 4"},
		{"crop_resize", 3, {0, 0, 1, 4}, "w = 4"},
		{"crop_resize", 3, {2, 0, 2, 2}, "i = 2"},
		{"crop_resize", 3, {0, 3, 1, 1}, "j = 3"},
		{"crop_resize", 3, {0, 0, 0, 1}, "h = 0"},
		{"scale", 3, {0}, "scale"},
		{"rotate", 3, {INFINITY}, "angle"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wasd_transform t;
		struct wasd_err err = {0};
		CHECK_INT(wasd_transform_make(bad[i].op, bad[i].k, bad[i].p, &t, &err), WASD_EINVAL);
		CHECK_MSG(strstr(err.msg, bad[i].says), "case %zu: \"%s\" does not name %s", i, err.msg, bad[i].says);
	}
}

/* ---- laws ----------------------------------------------------------------------------------------------------- */

#define DRAWS 100000

/* Upper 1e-4 point of chi-square with df degrees of freedom (Wilson and Hilferty). */
static double chi_limit(int df)
{
	double a = 2.0 / (9 * df), c = 1 - a + 3.719 * sqrt(a);
	return df * c * c * c;
}

static void check_chi(const char *what, int k, const double *seen, const double *prob, int n)
{
	double chi = 0;
	int df = -1;
	for (int i = 0; i < n; i++) {
		if (prob[i] == 0) {
			CHECK_MSG(seen[i] == 0, "%s k=%d: cell %d has probability 0 and was drawn", what, k, i);
			continue;
		}
		if (prob[i] * DRAWS < 5)
			continue; /* too rare for the approximation */
		chi += (seen[i] - prob[i] * DRAWS) * (seen[i] - prob[i] * DRAWS) / (prob[i] * DRAWS);
		df++;
	}
	CHECK_MSG(df < 1 || chi < chi_limit(df), "%s k=%d: chi-square %g of %d degrees of freedom, limit %g", what, k, chi,
	          df, chi_limit(df));
}

static const cJSON *member(const cJSON *o, const char *key)
{
	return wasd_json_get(o, key);
}

static void translate_law(const cJSON *laws)
{
	const struct wasd_transform_op *op = wasd_transform_op_find("translate");
	const cJSON *law, *it;
	cJSON_ArrayForEach(law, member(laws, "translate")) {
		int k = (int)json_num(law, "k");
		double t = json_num(law, "t"), opt[2] = {t, t}, prob[64] = {0}, seen[64] = {0}, want[64 * 64] = {0},
			   both[64 * 64] = {0};
		const cJSON *shift = member(law, "shift"), *p = member(law, "prob")->child;
		cJSON_ArrayForEach(it, shift) {
			prob[it->valueint + 32] = p->valuedouble;
			p = p->next;
		}
		struct wasd_rng r;
		wasd_rng_init(&r, 7, "law", (uint64_t)k, (uint64_t)(t * 100));
		double zero = 0;
		for (int i = 0; i < DRAWS; i++) {
			double d[6];
			op->sample(k, opt, &r, d);
			seen[(int)d[0] + 32]++;
			both[((int)d[1] + 32) * 64 + (int)d[0] + 32]++;
			zero += 1 - fmax(k - fabs(d[0]), 0) * fmax(k - fabs(d[1]), 0) / (k * k);
		}
		for (int i = 0; i < 64 * 64; i++)
			want[i] = prob[i / 64] * prob[i % 64];
		check_chi("translate dx", k, seen, prob, 64);
		check_chi("translate (dx,dy)", k, both, want, 64 * 64);
		CHECK_NEAR(zero / DRAWS, json_num(law, "expected_zero_fraction"), 4 * 0.5 / sqrt(DRAWS));
	}
}

static void crop_law(const cJSON *laws)
{
	const struct wasd_transform_op *op = wasd_transform_op_find("crop_resize");
	const cJSON *law, *it;
	cJSON_ArrayForEach(law, member(laws, "crop_resize")) {
		int k = (int)json_num(law, "k");
		double opt[4], prob[64] = {0}, seen[64] = {0}, cell[7 * 7 * 64] = {0}, want[7 * 7 * 64] = {0};
		for (int i = 0; i < 2; i++) {
			opt[i] = cJSON_GetArrayItem(member(law, "scale"), i)->valuedouble;
			opt[2 + i] = cJSON_GetArrayItem(member(law, "ratio"), i)->valuedouble;
		}
		const cJSON *p = member(law, "prob")->child;
		cJSON_ArrayForEach(it, member(law, "hw")) {
			int h = it->child->valueint, w = it->child->next->valueint, places = (k - h + 1) * (k - w + 1);
			prob[h * 8 + w] = p->valuedouble;
			for (int at = 0; at < places; at++)
				want[((at / (k - w + 1)) * 7 + at % (k - w + 1)) * 64 + h * 8 + w] = p->valuedouble / places;
			p = p->next;
		}
		struct wasd_rng r;
		wasd_rng_init(&r, 8, "law", (uint64_t)k, (uint64_t)(opt[0] * 100));
		for (int i = 0; i < DRAWS; i++) {
			double d[6];
			op->sample(k, opt, &r, d);
			seen[(int)d[2] * 8 + (int)d[3]]++;
			cell[((int)d[0] * 7 + (int)d[1]) * 64 + (int)d[2] * 8 + (int)d[3]]++;
		}
		check_chi("crop_resize (h,w)", k, seen, prob, 64);
		check_chi("crop_resize (i,j,h,w)", k, cell, want, 7 * 7 * 64);
	}
}

/* U(lo,hi) of one parameter in ten equal parts: scale, shear, rotate. A range of zero width gives its value; the other
 * parameter stays 0. */
static void uniform_laws(void)
{
	static const struct {
		const char *op;
		double law[2], lo, hi;
	} c[] = {
		{"scale", {3, 3.5}, 3, 3.5}, {"shear", {-20, 40}, -20, 40}, {"shear", {135, 135}, 135, 135},
		{"rotate", {90}, -90, 90},   {"rotate", {0}, 0, 0},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		const struct wasd_transform_op *op = wasd_transform_op_find(c[i].op);
		double seen[10] = {0}, prob[10];
		int outside = 0;
		struct wasd_rng r;
		wasd_rng_init(&r, 12, "law", i, 0);
		for (int n = 0; n < DRAWS; n++) {
			double p[6] = {0}, width = c[i].hi - c[i].lo;
			outside += !op->sample(3, c[i].law, &r, p) || p[0] < c[i].lo || p[0] > c[i].hi || p[1] != 0;
			seen[width > 0 ? (int)((p[0] - c[i].lo) / width * 10) : 0]++;
		}
		for (int b = 0; b < 10; b++)
			prob[b] = c[i].hi > c[i].lo ? 0.1 : b == 0;
		CHECK_MSG(outside == 0, "%s [%g,%g]: %d outside", c[i].op, c[i].lo, c[i].hi, outside);
		check_chi(c[i].op, 3, seen, prob, 10);
	}
}

/* The effect of the default laws of the algorithm's table on kernels: scale and shear have one T for every draw; of
 * rotated 3x3 kernels no tap is ever lost, of 5x5 9.9 % on average; half of the flips are the identity. */
static void law_tables(void)
{
	static const struct {
		const char *op;
		int k;
		double law[2], lost;
	} c[] = {
		{"scale", 3, {3, 3.5}, 0},          {"scale", 5, {3, 3.5}, 0}, {"shear", 3, {135, 135}, 2.0 / 9},
		{"shear", 5, {135, 135}, 6.0 / 25}, {"rotate", 3, {90}, 0},    {"rotate", 5, {90}, 0.099},
	};
	enum { N = 20000 };
	struct wasd_rng r;
	wasd_rng_init(&r, 13, "law", 0, 0);
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		double lost = 0, first[WASD_K_MAX * WASD_K_MAX] = {0};
		int other = 0;
		for (int n = 0; n < N; n++) {
			struct wasd_transform t;
			double p[6] = {0};
			wasd_transform_op_find(c[i].op)->sample(c[i].k, c[i].law, &r, p);
			CHECK_INT(wasd_transform_make(c[i].op, c[i].k, p, &t, NULL), WASD_OK);
			for (int o = 0; o < c[i].k * c[i].k; o++) {
				lost += t.from[o] < 0;
				other += n && t.from[o] != first[o];
				first[o] = n ? first[o] : t.from[o];
			}
		}
		CHECK_NEAR(lost / N / (c[i].k * c[i].k), c[i].lost, c[i].lost == 0.099 ? 0.0005 + 4 * 0.08 / sqrt(N) : 1e-12);
		CHECK_MSG((other == 0) == (strcmp(c[i].op, "rotate") != 0), "%s k=%d: %d taps of other draws differ", c[i].op,
		          c[i].k, other);
	}
	for (int i = 0; i < 2; i++) {
		int flipped = 0;
		for (int n = 0; n < DRAWS; n++) {
			double p[6], half = 0.5;
			flipped += wasd_transform_op_find(i ? "vflip" : "hflip")->sample(3, &half, &r, p);
		}
		CHECK_NEAR(flipped, DRAWS / 2, 4 * sqrt(DRAWS / 4.0));
	}
}

static void sampling_laws(void)
{
	char *text;
	size_t len;
	cJSON *laws = NULL;
	if (wasd_file_read("tests/fixtures/sampling_laws.json", 1 << 20, &text, &len, NULL))
		TEST_SKIP("tests/fixtures/sampling_laws.json is not below the working directory");
	CHECK_INT(wasd_json_parse(text, len, fixture_json, &laws, NULL), WASD_OK);
	translate_law(laws);
	crop_law(laws);
	cJSON_Delete(laws);
	wasd_free(text);
}

int main(void)
{
	TEST_RUN(boxes);
	TEST_RUN(algorithm_tables);
	TEST_RUN(live_rectangle);
	TEST_RUN(dot_test);
	TEST_RUN(kernels);
	TEST_RUN(kernels_keep_rows_apart);
	TEST_RUN(as_a_strategy);
	TEST_RUN(refusals);
	TEST_RUN(uniform_laws);
	TEST_RUN(law_tables);
	TEST_RUN(sampling_laws);
	TEST_END();
}
