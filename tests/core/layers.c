/* Layers in company, in small graphs: gradients against finite differences, and every backend against the plain loops.
 * Each case is conv -> the layer under test -> flatten -> linear -> loss, so that the layer's input gradient is checked
 * through the first convolution's weights. Both checks run on every row of the table. */
#include "check.h"
#include "backend/backend.h"
#include "graph/graph.h"
#include "wasd/cpu.h"
#include "wasd/graph.h"
#include "wasd/weights.h"

#include <float.h>

struct setup {
	struct wasd_shape in;
	int batch, n; /* planned, used */
	struct wasd_draw *draw;
	enum wasd_bn bn;
	bool dropout, keep_all;
	double smoothing;
};

typedef wasd_node (*layer_fn)(struct wasd_graph *g, wasd_node x);

/* clang-format off */
#define LAYER(name, expr) static wasd_node name(struct wasd_graph *g, wasd_node x) { return expr; }
/* clang-format on */
#define BN(x, name) wasd_graph_batchnorm(g, x, name, 1e-3, 0.1)
LAYER(conv3, wasd_graph_conv(g, x, "l", 5, 3, 1, 1, 1, true))
LAYER(conv5, wasd_graph_conv(g, x, "l", 3, 5, 1, 0, 1, false))
LAYER(conv3s2, wasd_graph_conv(g, x, "l", 5, 3, 2, 1, 1, true))
LAYER(conv2s3, wasd_graph_conv(g, x, "l", 5, 2, 3, 0, 1, true))
LAYER(conv1, wasd_graph_conv(g, x, "l", 7, 1, 1, 0, 1, true))
LAYER(conv1s2, wasd_graph_conv(g, x, "l", 7, 1, 2, 0, 1, false))
LAYER(conv1p1, wasd_graph_conv(g, x, "l", 3, 1, 1, 1, 1, true))
LAYER(conv_pad2, wasd_graph_conv(g, x, "l", 3, 3, 1, 2, 1, true))
LAYER(conv_groups, wasd_graph_conv(g, x, "l", 6, 3, 1, 1, 2, true))
LAYER(conv_groups_s2, wasd_graph_conv(g, x, "l", 4, 3, 2, 1, 2, false))
LAYER(depthwise, wasd_graph_conv(g, x, "l", 4, 3, 1, 1, 4, true))
LAYER(depthwise_s2, wasd_graph_conv(g, x, "l", 4, 5, 2, 2, 4, false))
LAYER(depthwise_x2, wasd_graph_conv(g, x, "l", 8, 3, 1, 1, 4, true))
LAYER(rect23, wasd_graph_conv_rect(g, x, "l", 3, 2, 3, 1, 0, 1, 6, 7, 1, true))
LAYER(rect32, wasd_graph_conv_rect(g, x, "l", 3, 3, 2, 2, 1, 0, 3, 4, 1, false))
LAYER(rect_crop, wasd_graph_conv_rect(g, x, "l", 3, 2, 2, 1, -1, -2, 5, 4, 1, true))
LAYER(rect_far, wasd_graph_conv_rect(g, x, "l", 3, 1, 2, 1, 5, 3, 6, 7, 1, true))
LAYER(rect_none, wasd_graph_conv_rect(g, x, "l", 3, 0, 0, 1, 0, 0, 6, 7, 1, true))
LAYER(relu, wasd_graph_relu(g, x))
LAYER(relu6, wasd_graph_relu6(g, x))
LAYER(bn, BN(x, "l"))
LAYER(bn_relu, wasd_graph_relu(g, BN(x, "l")))
LAYER(bn_relu6, wasd_graph_relu6(g, BN(x, "l")))
LAYER(bn_add, wasd_graph_add(g, BN(x, "l"), x))
LAYER(bn_add_relu, wasd_graph_relu(g, wasd_graph_add(g, BN(x, "l"), x)))
LAYER(bn_add_relu6,
      wasd_graph_relu6(g, wasd_graph_add(g, x, BN(wasd_graph_conv(g, x, "m", 4, 3, 1, 1, 1, false), "l"))))
LAYER(bn_add_bn,
      wasd_graph_relu(g, wasd_graph_add(g, BN(x, "l"), BN(wasd_graph_conv(g, x, "m", 4, 3, 1, 1, 1, false), "k"))))
LAYER(add_self, wasd_graph_add(g, x, x))
LAYER(add_self_relu, wasd_graph_relu(g, wasd_graph_add(g, x, x)))
LAYER(add_relu, wasd_graph_relu(g, wasd_graph_add(g, wasd_graph_maxpool(g, x, 3, 1, 1), x)))
LAYER(conv_add_relu, wasd_graph_relu(g, wasd_graph_add(g, wasd_graph_conv(g, x, "l", 4, 3, 1, 1, 1, true), x)))
LAYER(dw_add_relu, wasd_graph_relu(g, wasd_graph_add(g, wasd_graph_conv(g, x, "l", 4, 3, 1, 1, 4, true), x)))
LAYER(max2, wasd_graph_maxpool(g, x, 2, 2, 0))
LAYER(max3s2, wasd_graph_maxpool(g, x, 3, 2, 1))
LAYER(max3s1, wasd_graph_maxpool(g, x, 3, 1, 1))
LAYER(avg2, wasd_graph_avgpool(g, x, 2, 2))
LAYER(avg3s1, wasd_graph_avgpool(g, x, 3, 1))
LAYER(box3, wasd_graph_boxsum(g, x, 3, 3, 1, 1, 1, 6, 7))
LAYER(box3s2, wasd_graph_boxsum(g, x, 3, 3, 2, 1, 1, 3, 4))
LAYER(box_conv, wasd_graph_relu(g, wasd_graph_add(g,
                                                  wasd_graph_conv(g, wasd_graph_boxsum(g, x, 5, 5, 1, 2, 2, 6, 7), "l",
                                                                  4, 1, 1, 0, 1, true),
                                                  wasd_graph_boxsum(g, x, 1, 1, 1, 0, 0, 6, 7))))
LAYER(box_gaps, wasd_graph_boxsum(g, x, 1, 2, 3, 1, -1, 2, 2))
LAYER(box_far, wasd_graph_boxsum(g, x, 2, 7, 1, 5, 9, 9, 20))
LAYER(global, wasd_graph_globalpool(g, x))
LAYER(dropout, wasd_graph_dropout(g, x, 0.4))
LAYER(dropconnect, wasd_graph_dropconnect(g, x, 0.4))
LAYER(drop_residual, wasd_graph_add(g, wasd_graph_dropconnect(g, BN(x, "l"), 0.4), x))
LAYER(linear2, wasd_graph_linear(g, wasd_graph_relu(g, wasd_graph_linear(g, wasd_graph_flatten(g, x), "l", 6, true)),
                                 "m", 4, false))

/* The wider input first, or second. */
static wasd_node add_padded(struct wasd_graph *g, wasd_node x, bool wider_first)
{
	struct node n = graph_node(&layer_addpad);
	wasd_node narrow = wasd_graph_conv(g, x, "l", 3, 1, 1, 0, 1, true);
	wasd_node sum = graph_add(g, &n, "", (wasd_node[]){wider_first ? x : narrow, wider_first ? narrow : x}, 2);
	return wasd_graph_add(g, sum, x);
}
LAYER(addpad, add_padded(g, x, false))
LAYER(addpad_wide, wasd_graph_relu(g, add_padded(g, x, true)))

static wasd_node dropchannel(struct wasd_graph *g, wasd_node x)
{
	struct node n = graph_node(&layer_dropchannel);
	n.p = 0.4;
	return wasd_graph_add(g, graph_add(g, &n, "", &x, 1), x);
}

static wasd_node concat(struct wasd_graph *g, wasd_node x)
{
	wasd_node parts[] = {wasd_graph_conv(g, x, "l", 3, 1, 1, 0, 1, true), x, wasd_graph_maxpool(g, x, 3, 1, 1), x};
	return wasd_graph_relu(g, wasd_graph_concat(g, parts, 4));
}

/* A value with several readers, and a branch that the output does not need. */
static wasd_node diamond(struct wasd_graph *g, wasd_node x)
{
	wasd_node a = wasd_graph_relu(g, BN(wasd_graph_conv(g, x, "l", 4, 3, 1, 1, 1, false), "la")),
			  b = wasd_graph_relu(g, a);
	wasd_graph_conv(g, a, "unused", 2, 1, 1, 0, 1, false);
	return wasd_graph_add(g, wasd_graph_add(g, a, b), wasd_graph_relu(g, wasd_graph_add(g, b, x)));
}

/* clang-format off */
#define ROW(f) { #f, f }
/* clang-format on */
static const struct {
	const char *name;
	layer_fn fn;
} table[] = {
	ROW(conv3),         ROW(conv5),        ROW(conv3s2),     ROW(conv2s3),        ROW(conv1),         ROW(conv1s2),
	ROW(conv1p1),       ROW(conv_pad2),    ROW(conv_groups), ROW(conv_groups_s2), ROW(depthwise),     ROW(depthwise_s2),
	ROW(depthwise_x2),  ROW(rect23),       ROW(rect32),      ROW(rect_crop),      ROW(rect_far),      ROW(rect_none),
	ROW(relu),          ROW(relu6),        ROW(bn),          ROW(bn_relu),        ROW(bn_relu6),      ROW(bn_add),
	ROW(bn_add_relu),   ROW(bn_add_relu6), ROW(bn_add_bn),   ROW(add_self),       ROW(add_self_relu), ROW(add_relu),
	ROW(conv_add_relu), ROW(dw_add_relu),  ROW(max2),        ROW(max3s2),         ROW(max3s1),        ROW(avg2),
	ROW(avg3s1),        ROW(box3),         ROW(box3s2),      ROW(box_conv),       ROW(box_gaps),      ROW(box_far),
	ROW(global),        ROW(dropout),      ROW(dropconnect), ROW(drop_residual),  ROW(linear2),       ROW(concat),
	ROW(diamond),       ROW(addpad),       ROW(addpad_wide), ROW(dropchannel),
};
#define ROWS (sizeof table / sizeof table[0])

static struct wasd_model *make_model(layer_fn fn, struct wasd_shape in, int classes, uint64_t seed)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_graph_create(in, &g, &err), "%s", err.msg);
	wasd_graph_param(g, "alpha", 2, WASD_INIT_UNIT);
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "first", 4, 3, 1, 1, 1, true);
	x = fn(g, x);
	x = wasd_graph_linear(g, wasd_graph_flatten(g, x), "fc", classes, true);
	CHECK_MSG(!wasd_graph_finish(g, x, &err), "%s", err.msg);
	CHECK_MSG(!wasd_model_create(g, seed, &m, &err), "%s", err.msg);
	/* Scales and shifts away from 1 and 0, some of them negative; statistics away from their initial values. */
	struct wasd_rng r;
	wasd_rng_init(&r, seed, "test", 0, 0);
	for (int i = 0; m && i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		for (size_t k = 0; k < p.count; k++)
			wasd_model_master(m)[p.offset + k] += (real)wasd_rng_between(&r, -0.4, 0.4);
	}
	for (size_t k = 0; m && k < wasd_graph_stats_count(g); k++)
		wasd_model_stats(m, WASD_STATS_AOM)[k] = (real)wasd_rng_between(&r, 0.2, 1.5);
	wasd_graph_destroy(g);
	return m;
}

static void make_batch(struct wasd_shape in, int n, int classes, real **x, int32_t **y)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 77, "batch", 0, 0);
	*x = malloc((size_t)n * wasd_shape_count(in) * sizeof(real));
	*y = malloc((size_t)n * sizeof **y);
	for (size_t i = 0; i < (size_t)n * wasd_shape_count(in); i++)
		(*x)[i] = (real)wasd_rng_between(&r, -2, 2);
	for (int i = 0; i < n; i++)
		(*y)[i] = (int32_t)wasd_rng_below(&r, (uint32_t)classes);
}

/* Runs one pass and returns the loss. back: gradients into the model, starting from zero. */
static double pass(struct wasd_exec *e, struct wasd_model *m, const struct setup *s, const real *x, const int32_t *y,
                   bool back)
{
	struct wasd_err err = {0};
	struct wasd_rng drop;
	wasd_rng_init(&drop, 5, "dropout", 0, 0);
	struct wasd_pass p = {.n = s->n,
	                      .recipe = wasd_draw_recipe(s->draw),
	                      .bn = s->bn,
	                      .set = s->bn == WASD_BN_SET ? WASD_STATS_AOM : WASD_STATS_TRAIN,
	                      .update = back,
	                      .dropout = s->dropout ? &drop : NULL};
	double loss = NAN;
	int hits;
	CHECK_MSG(!wasd_exec_forward(e, x, &p, &err), "%s", err.msg);
	CHECK_MSG(!wasd_exec_loss(e, y, s->smoothing, &loss, &hits, &err), "%s", err.msg);
	if (back) {
		wasd_model_grad_zero(m);
		CHECK_MSG(!wasd_exec_backward(e, &err), "%s", err.msg);
	}
	return loss;
}

static struct wasd_exec *make_exec(struct wasd_model *m, const struct setup *s, const char *backend, bool training)
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = s->batch, .training = training, .keep_all = s->keep_all, .backend = backend};
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err), "%s", err.msg);
	return e;
}

/* Central differences on up to 24 elements of every parameter. In double the step is small and the bound strict. In
 * float the step must be coarse, a ReLU may flip within it, and only gross errors show. */
static void check_gradients(const char *name, layer_fn fn, struct setup s, const char *backend)
{
	struct wasd_model *m = make_model(fn, s.in, 3, 11);
	struct wasd_exec *e = make_exec(m, &s, backend, true);
	real *x;
	int32_t *y;
	make_batch(s.in, s.n, 3, &x, &y);
	pass(e, m, &s, x, y, true);
	const struct wasd_graph *g = wasd_model_graph(m);
	size_t count = wasd_graph_param_count(g);
	real *grad = malloc(count * sizeof *grad), *w = wasd_model_master(m);
	memcpy(grad, wasd_model_grad(m), count * sizeof *grad);
	double top = 0, step = sizeof(real) == 8 ? 1e-6 : 4e-3, tol = sizeof(real) == 8 ? 2e-6 : 0.08;
	for (size_t i = 0; i < count; i++)
		top = fmax(top, fabs((double)grad[i]));
	int bad = 0;
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		size_t stride = p.count / 24 + 1;
		for (size_t k = 0; k < p.count; k += stride) {
			real *at = &w[p.offset + k], keep = *at;
			*at = (real)((double)keep + step);
			double up = pass(e, m, &s, x, y, false), hi = (double)*at;
			*at = (real)((double)keep - step);
			double down = pass(e, m, &s, x, y, false), lo = (double)*at;
			*at = keep;
			double want = (up - down) / (hi - lo), got = (double)grad[p.offset + k];
			if (!(fabs(want - got) <= tol * fmax(top, 0.1)))
				if (bad++ < 3)
					CHECK_MSG(false, "%s on %s: d/d %s[%zu] = %.9g, difference quotient %.9g (largest gradient %.3g)",
					          name, backend, p.name, k, got, want, top);
		}
	}
	CHECK(top > 1e-4);
	free(grad);
	free(x);
	free(y);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
}

static const struct setup small = {.in = {2, 6, 7}, .batch = 3, .n = 3, .bn = WASD_BN_BATCH, .dropout = true};

/* On every row of the backends that this machine's processor can run. */
static void check_gradients_everywhere(const char *name, layer_fn fn, struct setup s)
{
	const struct backend *b, *can;
	for (int i = 0; (b = backend_at(i)); i++)
		if (!backend_choose(b->name, WASD_PRECISION_FP32, &can, NULL))
			check_gradients(name, fn, s, b->name);
}

static void gradients(void)
{
	for (size_t i = 0; i < ROWS; i++)
		check_gradients_everywhere(table[i].name, table[i].fn, small);
}

static void gradients_stored_statistics(void)
{
	struct setup s = small;
	s.bn = WASD_BN_SET;
	s.smoothing = 0.1;
	check_gradients_everywhere("bn", bn, s);
	check_gradients_everywhere("bn_relu", bn_relu, s);
	check_gradients_everywhere("bn_add_relu", bn_add_relu, s);
}

static wasd_node shadowed(struct wasd_graph *g, wasd_node x)
{
	x = wasd_graph_conv(g, x, "l", 4, 3, 1, 1, 1, false);
	wasd_graph_augmentable(g, "l", "alpha", 1);
	x = wasd_graph_relu(g, x);
	x = wasd_graph_conv(g, x, "d", 4, 5, 2, 2, 4, true);
	wasd_graph_augmentable(g, "d", NULL, 0);
	return x;
}

/* Through shadow weights: compact kernels, alpha, the depthwise path, and a draw that leaves nothing of a kernel. */
static void gradients_shadow(void)
{
	static const struct {
		const char *op;
		double p[6];
	} ops[][2] = {
		{{"translate", {1, 0}}, {"translate", {-2, 1}}},    {{"translate", {-1, 1}}, {"crop_resize", {0, 1, 4, 3}}},
		{{"crop_resize", {1, 0, 2, 2}}, {"identity", {0}}}, {{"translate", {3, 0}}, {"translate", {0, 4}}},
		{{"translate", {2, 2}}, {"translate", {-2, -2}}},
	};
	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
		static struct wasd_draw_layer layers[2];
		struct wasd_draw d = {{&weight_was}, 2, layers};
		struct wasd_err err = {0};
		struct setup s = small;
		s.draw = &d;
		for (int k = 0; k < 2; k++) {
			layers[k] = (struct wasd_draw_layer){.aug = k};
			CHECK_MSG(!wasd_transform_make(ops[i][k].op, k ? 5 : 3, ops[i][k].p, &layers[k].t, &err), "%s", err.msg);
		}
		check_gradients_everywhere("shadowed", shadowed, s);
		s.keep_all = true;
		check_gradients_everywhere("shadowed", shadowed, s);
	}
}

/* The same with output channels in groups: groups that leave different taps, a group that leaves none, and more groups
 * than threads. */
static void gradients_parts(void)
{
	static const struct {
		const char *op[4];
		double p[4][6];
		int parts;
	} c[] = {
		{{"translate", "translate"}, {{1, 0}, {-1, 0}}, 2},
		{{"translate", "translate", "identity"}, {{5, 0}, {1, 1}}, 3},
		{{"scale", "hflip", "crop_resize", "rotate"}, {{3.2}, {0}, {0, 1, 2, 2}, {40}}, 4},
		{{"translate", "translate"}, {{9, 0}, {0, -9}}, 2},
	};
	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
		static struct wasd_transform more[2][3];
		struct wasd_draw_layer layers[2];
		struct wasd_draw d = {{&weight_was}, 2, layers};
		struct wasd_err err = {0};
		struct setup s = small;
		s.draw = &d;
		for (int k = 0; k < 2; k++) {
			layers[k] = (struct wasd_draw_layer){.aug = k, .parts = c[i].parts, .more = more[k]};
			for (int part = 0; part < c[i].parts; part++)
				CHECK_MSG(!wasd_transform_make(c[i].op[part], k ? 5 : 3, c[i].p[part],
				                               part ? &more[k][part - 1] : &layers[k].t, &err),
				          "%s", err.msg);
		}
		check_gradients_everywhere("shadowed in parts", shadowed, s);
	}
}

/* ---- the fast backend against plain loops --------------------------------------------------------- */

static double worst(const real *a, const real *b, size_t n, double *scale)
{
	double d = 0, top = 0;
	for (size_t i = 0; i < n; i++) {
		top = fmax(top, fabs((double)b[i]));
		d = fmax(d, fabs((double)a[i] - (double)b[i]));
		if (!isfinite((double)a[i]))
			d = INFINITY;
	}
	*scale = top;
	return d;
}

static void check_equal_on(const char *backend, const char *name, layer_fn fn, struct setup s, int threads)
{
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_threads_init(threads, &err), "%s", err.msg);
	struct wasd_model *a = make_model(fn, s.in, 5, 23), *b = make_model(fn, s.in, 5, 23);
	struct setup plain = s;
	plain.batch = s.n;
	struct wasd_exec *ea = make_exec(a, &s, backend, true), *eb = make_exec(b, &plain, "ref", true),
					 *ei = make_exec(a, &s, backend, false);
	const struct wasd_graph *g = wasd_model_graph(a);
	real *x;
	int32_t *y;
	double scale, tol = sizeof(real) == 8 ? 1e-12 : 3e-5;
	make_batch(s.in, s.n, 5, &x, &y);
	if (s.n > 1) { /* run another size first: no trace of it may remain */
		struct setup other = s;
		other.n = s.n - 1;
		pass(ea, a, &other, x, y, false);
		pass(ei, a, &other, x, y, false);
	}
	double la = pass(ea, a, &s, x, y, true), lb = pass(eb, b, &s, x, y, true);
	CHECK_MSG(fabs(la - lb) <= tol * fmax(1, fabs(lb)), "%s on %s: loss %.9g, plain loops %.9g", name, backend, la, lb);
	double d = worst(wasd_exec_logits(ea), wasd_exec_logits(eb), (size_t)s.n * 5, &scale);
	CHECK_MSG(d <= tol * fmax(scale, 1), "%s on %s %dx%d n=%d: logits differ by %g (%g)", name, backend, s.in.h, s.in.w,
	          s.n, d, scale);
	d = worst(wasd_model_grad(a), wasd_model_grad(b), wasd_graph_param_count(g), &scale);
	CHECK_MSG(d <= 3 * tol * fmax(scale, 1), "%s on %s %dx%d n=%d: gradients differ by %g (%g)", name, backend, s.in.h,
	          s.in.w, s.n, d, scale);
	d = worst(wasd_model_stats(a, WASD_STATS_TRAIN), wasd_model_stats(b, WASD_STATS_TRAIN), wasd_graph_stats_count(g),
	          &scale);
	CHECK_MSG(d <= tol * fmax(scale, 1), "%s on %s: statistics differ by %g (%g)", name, backend, d, scale);
	pass(ei, a, &s, x, y, false);
	d = worst(wasd_exec_logits(ei), wasd_exec_logits(eb), (size_t)s.n * 5, &scale);
	CHECK_MSG(d <= tol * fmax(scale, 1), "%s on %s %dx%d n=%d: inference logits differ by %g (%g)", name, backend,
	          s.in.h, s.in.w, s.n, d, scale);
	free(x);
	free(y);
	wasd_exec_destroy(ea);
	wasd_exec_destroy(eb);
	wasd_exec_destroy(ei);
	wasd_model_destroy(a);
	wasd_model_destroy(b);
}

static void check_equal(const char *name, layer_fn fn, struct setup s, int threads)
{
	const struct backend *b, *can;
	for (int i = 0; (b = backend_at(i)); i++)
		if (strcmp(b->name, "ref") && !backend_choose(b->name, WASD_PRECISION_FP32, &can, NULL))
			check_equal_on(b->name, name, fn, s, threads);
}

static void backends_agree(void)
{
	static const struct {
		struct wasd_shape in;
		int batch, n, threads;
	} shapes[] = {
		{{3, 6, 7}, 1, 1, 1},   {{3, 6, 7}, 5, 3, 2},   {{1, 9, 9}, 4, 4, 3},   {{3, 16, 16}, 6, 6, 2},
		{{6, 32, 32}, 3, 2, 2}, {{2, 13, 31}, 2, 2, 4}, {{3, 8, 8}, 40, 33, 2}, {{3, 6, 130}, 3, 3, 1},
	};
	for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++)
		for (size_t i = 0; i < ROWS; i++) {
			struct setup s = {.in = shapes[k].in,
			                  .batch = shapes[k].batch,
			                  .n = shapes[k].n,
			                  .bn = WASD_BN_BATCH,
			                  .dropout = true,
			                  .keep_all = k == 3};
			check_equal(table[i].name, table[i].fn, s, shapes[k].threads);
		}
	wasd_threads_done();
}

static wasd_node windows(struct wasd_graph *g, wasd_node x)
{
	x = wasd_graph_relu(g, wasd_graph_conv(g, x, "a", 20, 3, 1, 1, 1, true));
	wasd_graph_augmentable(g, "a", "alpha", 1);
	wasd_node y = wasd_graph_conv(g, x, "b", 20, 5, 1, 2, 1, false);
	wasd_graph_augmentable(g, "b", NULL, 0);
	x = wasd_graph_relu(g, wasd_graph_add(g, BN(y, "bn"), x));
	x = wasd_graph_conv(g, x, "c", 20, 3, 2, 1, 1,
	                    false); /* with a stride, and with one map per group: these remain kernels of equal taps */
	wasd_graph_augmentable(g, "c", NULL, 0);
	x = wasd_graph_conv(g, x, "d", 20, 3, 1, 1, 20, false);
	wasd_graph_augmentable(g, "d", NULL, 0);
	return wasd_graph_globalpool(g, wasd_graph_add(g, x, x));
}

/* Kernels with equal taps, as a whole or in groups of output channels: the sum over a window and one tap, forward and
 * backward. */
static void equal_taps(void)
{
	static const struct {
		struct wasd_shape in;
		int batch, n, threads;
	} shapes[] = {
		{{3, 8, 8}, 9, 9, 2},
		{{1, 6, 11}, 4, 3, 1},
		{{2, 16, 16}, 3, 3, 3},
		{{3, 4, 4}, 33, 32, 2},
	};
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		for (int parts = 1; parts < 3; parts++) {
			struct wasd_draw_layer layers[4];
			struct wasd_transform more[4];
			struct wasd_draw d = {{&weight_was}, 4, layers};
			struct setup s = {.in = shapes[i].in,
			                  .batch = shapes[i].batch,
			                  .n = shapes[i].n,
			                  .bn = WASD_BN_BATCH,
			                  .draw = &d};
			for (int k = 0; k < 4; k++) {
				int side = k == 1 ? 5 : 3;
				layers[k] = (struct wasd_draw_layer){.aug = k, .parts = parts, .more = parts > 1 ? &more[k] : NULL};
				CHECK_INT(wasd_transform_make("crop_resize", side, (double[6]){0, 1, 1, 1}, &layers[k].t, NULL),
				          WASD_OK);
				CHECK_INT(wasd_transform_make("crop_resize", side, (double[6]){1, 2, 1, 1}, &more[k], NULL), WASD_OK);
				CHECK(wasd_draw_box(&layers[k]));
			}
			check_equal("equal taps", windows, s, shapes[i].threads);
		}
	wasd_threads_done();
}

static wasd_node wide(struct wasd_graph *g, wasd_node x)
{
	x = wasd_graph_relu(g, wasd_graph_conv(g, x, "a", 150, 3, 1, 1, 1,
	                                       true)); /* more rows of taps than one product takes */
	x = wasd_graph_conv(g, x, "b", 70, 3, 2, 1, 1, false);
	x = wasd_graph_conv(g, x, "c", 33, 3, 1, 1, 1, false);
	return wasd_graph_globalpool(g, x);
}

/* Sizes that use minimal filtering: every kernel of 2 or 3 taps per side, each padding, with and without a following
 * step. */
static wasd_node minimal(struct wasd_graph *g, wasd_node x)
{
	static const int k[][4] = {{3, 3, 1, 1}, {2, 3, 1, 1}, {2, 3, 0, 2}, {3, 2, 1, 0}, {3, 2, 2, 1},
	                           {2, 2, 0, 0}, {2, 2, 1, 0}, {3, 3, 0, 2}, {2, 2, 1, 1}};
	char name[16];
	for (int i = 0; i < (int)(sizeof k / sizeof k[0]); i++) {
		struct wasd_shape s = wasd_graph_node_info(g, x).shape;
		snprintf(name, sizeof name, "m%d", i);
		wasd_node y = wasd_graph_conv_rect(g, x, name, 17 + i % 2, k[i][0], k[i][1], 1, k[i][2], k[i][3], s.h, s.w, 1,
		                                   i % 2);
		snprintf(name, sizeof name, "b%d", i);
		y = i % 3 ? BN(y, name) : y;
		x = s.c == 17 + i % 2 ? wasd_graph_relu(g, wasd_graph_add(g, y, x)) : wasd_graph_relu(g, y);
	}
	return wasd_graph_globalpool(g, x);
}

static void minimal_filtering(void)
{
	struct setup s = {.in = {3, 8, 8}, .batch = 9, .n = 9, .bn = WASD_BN_BATCH};
	check_equal("minimal", minimal, s, 1);
	check_equal("minimal", minimal, (struct setup){.in = {2, 32, 16}, .batch = 3, .n = 3}, 2);
	check_equal("minimal", minimal, (struct setup){.in = {1, 6, 10}, .batch = 12, .n = 11}, 5);
	check_equal("minimal", minimal, (struct setup){.in = {1, 16, 34}, .batch = 2, .n = 2, .keep_all = true}, 3);
	check_equal("minimal", minimal, (struct setup){.in = {1, 4, 4}, .batch = 40, .n = 40}, 3);
	check_equal("minimal", minimal, (struct setup){.in = {1, 2, 600}, .batch = 1, .n = 1}, 3);
	wasd_threads_done();
	const struct backend *best;
	CHECK(!backend_choose(NULL, WASD_PRECISION_FP32, &best, NULL));
	check_gradients("minimal", minimal, s, best->name); /* plain loops take long for it */
}

/* Depthwise kernels on channels that fill two blocks and part of a third: sides of 1 to 5 taps, whole and with the
 * edges cut off, both strides, paddings that lie wholly inside the image (crops) or leave rows of taps outside it, and
 * the operations that may follow in the same step. */
static wasd_node depthwise_chain(struct wasd_graph *g, wasd_node x)
{
	static const struct {
		int kh, kw, stride, top, left, trim;
	} k[] = {
		{3, 3, 1, 1, 1, 0}, {2, 3, 1, 0, 1, 0},  {3, 2, 1, 1, 0, 0},  {5, 5, 1, 2, 2, 0},
		{4, 3, 1, 2, 0, 0}, {5, 4, 1, 3, 4, 0},  {1, 2, 1, -1, 3, 0}, {3, 3, 2, 1, 1, 0},
		{5, 5, 1, 2, 2, 0}, {2, 5, 1, 1, -2, 0}, {3, 4, 1, 0, 0, 1},  {5, 5, 2, 2, 2, 0},
		{5, 3, 1, 2, 1, 0}, {4, 5, 2, 1, 2, 0},  {5, 5, 1, 2, 2, 0},  {0, 0, 1, 0, 0, 0},
	};
	char name[16];
	x = wasd_graph_conv(g, x, "wide", 37, 1, 1, 0, 1, true);
	for (int i = 0; i < (int)(sizeof k / sizeof k[0]); i++) {
		struct wasd_shape s = wasd_graph_node_info(g, x).shape;
		int oh = (s.h + k[i].stride - 1) / k[i].stride - k[i].trim,
			ow = (s.w + k[i].stride - 1) / k[i].stride - k[i].trim;
		snprintf(name, sizeof name, "d%d", i);
		wasd_node y = wasd_graph_conv_rect(g, x, name, s.c, k[i].kh, k[i].kw, k[i].stride, k[i].top, k[i].left,
		                                   oh < 1 ? 1 : oh, ow < 1 ? 1 : ow, s.c, i % 2 == 0 || !k[i].kh);
		struct wasd_shape o = wasd_graph_node_info(g, y).shape;
		if (o.h == s.h && o.w == s.w)
			y = wasd_graph_add(g, y, x);
		snprintf(name, sizeof name, "n%d", i);
		x = i % 3 == 0 ? wasd_graph_relu6(g, y) : i % 3 == 1 ? BN(y, name) : y;
	}
	return wasd_graph_globalpool(g, wasd_graph_relu(g, x));
}

/* Pools and concatenations where channels fill blocks, leave part of one, and begin inside one; with a dropout between
 * them. */
static wasd_node pool_chain(struct wasd_graph *g, wasd_node x)
{
	static const struct {
		int k, stride, pad;
	} pool[] = {{3, 1, 1}, {2, 1, 0}, {3, 2, 1}, {2, 2, 0}, {3, 3, 1}};
	static const int width[][3] = {{16, 32, 5}, {20, 3, 16}, {7, 40, 9}, {48, 16, 16}, {1, 1, 15}};
	char name[16];
	for (int i = 0; i < (int)(sizeof pool / sizeof pool[0]); i++) {
		wasd_node part[4];
		for (int k = 0; k < 3; k++) {
			snprintf(name, sizeof name, "c%d%d", i, k);
			part[k] = wasd_graph_conv(g, x, name, width[i][k], 1, 1, 0, 1, true);
			name[0] = 'b';
			part[k] = BN(part[k], name);
		}
		part[3] = x;
		x = wasd_graph_dropout(g, wasd_graph_concat(g, part, 4), 0.3);
		if (wasd_graph_node_info(g, x).shape.h >= 2)
			x = wasd_graph_maxpool(g, x, pool[i].k, pool[i].stride, pool[i].pad);
	}
	return wasd_graph_globalpool(g, x);
}

/* Sums over windows of all sides, strides and paddings, on channels that fill a block and part of another, each behind
 * a mixing tap. */
static wasd_node box_chain(struct wasd_graph *g, wasd_node x)
{
	static const struct {
		int kh, kw, stride, top, left, more;
	} k[] = {
		{3, 3, 1, 1, 1, 0},  {2, 3, 1, 0, 2, 0}, {5, 5, 1, 2, 2, 0}, {1, 7, 1, 0, 3, 0},
		{7, 1, 1, 8, -2, 3}, {3, 3, 2, 1, 1, 0}, {2, 1, 3, 0, 1, 0}, {4, 6, 2, 3, 5, 2},
	};
	char name[16];
	for (int i = 0; i < (int)(sizeof k / sizeof k[0]); i++) {
		struct wasd_shape s = wasd_graph_node_info(g, x).shape;
		snprintf(name, sizeof name, "c%d", i);
		x = BN(wasd_graph_conv(g, x, name, 19 + i, 1, 1, 0, 1, true), name + 1);
		x = wasd_graph_boxsum(g, x, k[i].kh, k[i].kw, k[i].stride, k[i].top, k[i].left,
		                      (s.h - 1) / k[i].stride + 1 + k[i].more, (s.w - 1) / k[i].stride + 1 + k[i].more);
	}
	return wasd_graph_globalpool(g, x);
}

static void boxes_agree(void)
{
	check_equal("box_chain", box_chain, (struct setup){.in = {2, 17, 19}, .batch = 5, .n = 4, .bn = WASD_BN_BATCH}, 2);
	check_equal("box_chain", box_chain,
	            (struct setup){.in = {1, 3, 70}, .batch = 2, .n = 2, .bn = WASD_BN_BATCH, .keep_all = true}, 1);
	wasd_threads_done();
}

static void pools_agree(void)
{
	check_equal("pool_chain", pool_chain, (struct setup){.in = {2, 17, 19}, .batch = 3, .n = 3, .dropout = true}, 2);
	check_equal("pool_chain", pool_chain,
	            (struct setup){.in = {1, 12, 7}, .batch = 6, .n = 5, .bn = WASD_BN_BATCH, .dropout = true}, 3);
	check_equal("pool_chain", pool_chain, (struct setup){.in = {1, 7, 33}, .batch = 1, .n = 1}, 1);
	wasd_threads_done();
}

static void depthwise_agrees(void)
{
	check_equal("depthwise_chain", depthwise_chain, (struct setup){.in = {2, 17, 19}, .batch = 5, .n = 5}, 2);
	check_equal("depthwise_chain", depthwise_chain,
	            (struct setup){.in = {1, 6, 5}, .batch = 9, .n = 7, .bn = WASD_BN_BATCH}, 3);
	check_equal("depthwise_chain", depthwise_chain, (struct setup){.in = {1, 16, 70}, .batch = 1, .n = 1}, 1);
	check_equal("depthwise_chain", depthwise_chain,
	            (struct setup){.in = {1, 200, 23}, .batch = 2, .n = 2, .keep_all = true}, 2);
	wasd_threads_done();
}

static void backends_agree_on_many_channels(void)
{
	check_equal("wide", wide, (struct setup){.in = {3, 12, 12}, .batch = 7, .n = 7}, 2);
	check_equal("wide", wide, (struct setup){.in = {3, 4, 4}, .batch = 1, .n = 1}, 3);
	check_equal("wide", wide, (struct setup){.in = {40, 20, 17}, .batch = 4, .n = 4}, 2);
	wasd_threads_done();
}

int main(int argc, char **argv)
{
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	TEST_RUN(gradients);
	TEST_RUN(gradients_stored_statistics);
	TEST_RUN(gradients_shadow);
	TEST_RUN(gradients_parts);
	TEST_RUN(backends_agree);
	TEST_RUN(backends_agree_on_many_channels);
	TEST_RUN(equal_taps);
	TEST_RUN(minimal_filtering);
	TEST_RUN(depthwise_agrees);
	TEST_RUN(boxes_agree);
	TEST_RUN(pools_agree);
	TEST_END();
}
