/* int8 networks: the plain model against the golden numbers, and the kernels against the plain model, bit for bit. */
#include "int8_nets.h"

#include "golden.h"
#include "quant/model.h"
#include "wasd/cpu.h"

#include <sys/wait.h>
#include <unistd.h>

static bool offered(void)
{
	return wasd_int8_offers(NULL) == WASD_OK;
}

static struct wasd_model *model_of(struct wasd_graph *g, uint64_t seed)
{
	struct wasd_model *m = NULL;
	CHECK(!wasd_model_create(g, seed, &m, NULL));
	return m;
}

/* Logits of n images by the kernels; false: the reason is reported. */
static bool run_kernels(struct wasd_model *m, const struct wasd_quant *q, const real *x, int n, real *logits)
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = n, .constant_weights = true, .quant = q};
	struct wasd_pass p = {.n = n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	bool ok = !wasd_exec_create(m, &o, &e, &err) && !wasd_exec_forward(e, x, &p, &err);
	CHECK_MSG(ok, "%s", err.msg);
	if (ok)
		memcpy(logits, wasd_exec_logits(e), (size_t)(n * wasd_exec_classes(e)) * sizeof *logits);
	wasd_exec_destroy(e);
	return ok;
}

/* ---- golden numbers ---- */

static double member(const cJSON *o, const char *name)
{
	double v = NAN;
	wasd_json_num(o, name, &v);
	return v;
}

/* The golden layer in a network: its image and its residual are channels of one input, whose integers they are. conv:
 * both go in, the residual's channels with weights 0; pick: a 1x1 kernel that copies the residual. */
struct golden_net {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct nets_quant *q;
	wasd_node conv, pick, last;
	real x[4 * 16];
};

static void golden_weights(struct golden_net *n, const cJSON *want)
{
	int8_t *w = wasd_calloc(2 * 4 * 9, 1), *one = wasd_calloc(2 * 4, 1);
	float *sw = wasd_calloc(2, sizeof *sw), *so = wasd_calloc(2, sizeof *so);
	real *bias = wasd_model_master(n->m) + wasd_graph_param_info(n->g, n->g->nodes[n->conv].bias).offset;
	for (int o = 0; o < 2; o++) {
		for (int i = 0; i < 2; i++)
			for (int y = 0; y < 3; y++)
				for (int k = 0; k < 3; k++)
					w[((o * 4 + i) * 3 + y) * 3 + k] = (int8_t)((7 * o + 5 * i + 3 * y + 2 * k) * 37 % 255 - 127);
		one[o * 4 + 2 + o] = 1;
		so[o] = 0.6f;
		sw[o] = (float)cJSON_GetNumberValue(cJSON_GetArrayItem(wasd_json_get(want, "sw"), o));
		bias[o] = (real)cJSON_GetNumberValue(cJSON_GetArrayItem(wasd_json_get(want, "bias"), o));
	}
	n->q->q.conv[n->conv] = (struct wasd_quant_conv){.on = true, .w = w, .scale = sw};
	if (n->pick >= 0) {
		n->q->q.conv[n->pick] = (struct wasd_quant_conv){.on = true, .w = one, .scale = so};
		return;
	}
	wasd_free(one);
	wasd_free(so);
}

static void golden_build(struct golden_net *n, const cJSON *want, bool residual)
{
	CHECK(!wasd_graph_create((struct wasd_shape){4, 4, 4}, &n->g, NULL));
	n->pick = residual ? wasd_graph_conv(n->g, 0, "pick", 2, 1, 1, 0, 1, false) : -1;
	n->conv = wasd_graph_conv(n->g, 0, "conv", 2, 3, 1, 1, 1, true);
	wasd_node sum = residual ? wasd_graph_add(n->g, n->conv, n->pick) : n->conv;
	n->last = wasd_graph_relu(n->g, sum);
	CHECK(!wasd_graph_finish(n->g, wasd_graph_flatten(n->g, n->last), NULL));
	n->m = model_of(n->g, 1);
	n->q = nets_quant(n->g);
	n->q->q.tensor[0] = (struct wasd_quant_tensor){WASD_QUANT_U8, (float)member(want, "sx")};
	n->q->q.tensor[n->last] = (struct wasd_quant_tensor){WASD_QUANT_U8, (float)member(want, "sy")};
	if (residual)
		n->q->q.tensor[n->pick] = (struct wasd_quant_tensor){WASD_QUANT_U8, 0.03f};
	golden_weights(n, want);
	for (int c = 0; c < 4; c++)
		for (int y = 0; y < 4; y++)
			for (int x = 0; x < 4; x++) {
				int q = c < 2 ? (37 * c + 11 * y + 29 * x) % 256 : (13 * (c - 2) + 7 * y + 5 * x) % 60;
				n->x[(c * 4 + y) * 4 + x] = (real)member(want, "sx") * q;
			}
}

static void golden_done(struct golden_net *n)
{
	nets_done(n->q);
	wasd_model_destroy(n->m);
	wasd_graph_destroy(n->g);
}

static void check_golden(const cJSON *want, const char *name, bool residual)
{
	struct golden_net n = {0};
	real plain[32], fast[32];
	golden_build(&n, want, residual);
	CHECK(!quant_check(n.m, &n.q->q, NULL) && !quant_model_run(n.m, &n.q->q, n.x, 1, plain, NULL));
	if (offered())
		run_kernels(n.m, &n.q->q, n.x, 1, fast);
	for (int i = 0; i < 32; i++) {
		double y = cJSON_GetNumberValue(cJSON_GetArrayItem(wasd_json_get(want, name), i)) *
		           (double)(float)member(want, "sy");
		CHECK_MSG(fabs((double)plain[i] - y) < 1e-6, "%s: %d is %g, want %g", name, i, (double)plain[i], y);
		CHECK_MSG(!offered() || fast[i] == plain[i], "%s: kernels have %g at %d, not %g", name, (double)fast[i], i,
		          (double)plain[i]);
	}
	golden_done(&n);
}

/* The sums themselves: scales of 1, no bias, a float output. */
static void check_golden_sums(const cJSON *want)
{
	struct golden_net n = {0};
	real plain[32], fast[32];
	golden_build(&n, want, false);
	float *sw = (float *)(uintptr_t)n.q->q.conv[n.conv].scale;
	real *bias = wasd_model_master(n.m) + wasd_graph_param_info(n.g, n.g->nodes[n.conv].bias).offset;
	sw[0] = sw[1] = 1;
	bias[0] = bias[1] = 40000; /* above every negative sum, since the layer ends in a ReLU */
	n.q->q.tensor[0].scale = 1;
	n.q->q.tensor[n.last].type = WASD_QUANT_F32;
	for (int i = 0; i < 64; i++)
		n.x[i] = (real)nearbyint((double)n.x[i] / member(want, "sx"));
	CHECK(!quant_model_run(n.m, &n.q->q, n.x, 1, plain, NULL));
	if (offered())
		run_kernels(n.m, &n.q->q, n.x, 1, fast);
	for (int i = 0; i < 32; i++) {
		double acc = cJSON_GetNumberValue(cJSON_GetArrayItem(wasd_json_get(want, "acc"), i));
		CHECK_MSG((double)plain[i] - 40000 == acc, "sum %d is %g, want %g", i, (double)plain[i] - 40000, acc);
		CHECK_MSG(!offered() || fast[i] == plain[i], "kernels: sum %d is %g", i, (double)fast[i]);
	}
	golden_done(&n);
}

static void golden_layer(void)
{
	cJSON *all = golden_part2();
	if (!all)
		TEST_SKIP("no golden numbers");
	const cJSON *want = wasd_json_get(all, "int8");
	check_golden_sums(want);
	check_golden(want, "yq_relu", false);
	check_golden(want, "yq_sum_relu", true);
	cJSON_Delete(all);
}

/* ---- kernels against the plain model ---- */

enum { IMAGES = 9 };

static int differing(const real *a, const real *b, size_t n)
{
	int k = 0;
	for (size_t i = 0; i < n; i++)
		k += memcmp(&a[i], &b[i], sizeof a[i]) != 0;
	return k;
}

static void print_graph(const struct wasd_graph *g, const struct wasd_quant *q)
{
	for (int i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		printf("#   %d %s %s of %d %d: %dx%dx%d, %dx%d stride %d pad %d %d groups %d, type %d%s%s\n", i, n->layer->op,
		       n->name, n->n_in ? n->inputs[0] : -1, n->n_in > 1 ? n->inputs[1] : -1, n->shape.c, n->shape.h,
		       n->shape.w, n->kh, n->kw, n->stride, n->pad_top, n->pad_left, n->groups, (int)q->tensor[i].type,
		       q->conv[i].on ? ", 8-bit" : "", q->conv[i].coarse ? ", coarse" : "");
	}
}

static void check_random(int seed, double floats, int *outputs)
{
	struct wasd_err err = {0};
	wasd_rng_init(&dice, (uint64_t)seed, "int8", 0, 0);
	struct wasd_graph *g = random_graph();
	struct wasd_model *m = model_of(g, (uint64_t)seed);
	struct nets_quant *q = random_quant(g, floats);
	size_t image = wasd_shape_count(g->nodes[0].shape), classes = (size_t)wasd_graph_classes(g);
	real *x = wasd_calloc(IMAGES * image, sizeof *x), *want = wasd_calloc(IMAGES * classes, sizeof *want),
		 *got = wasd_calloc(IMAGES * classes, sizeof *got);
	for (size_t i = 0; i < IMAGES * image; i++)
		x[i] = (real)between(-1.5, 2.5);
	CHECK_MSG(!quant_check(m, &q->q, &err), "%s", err.msg);
	CHECK_MSG(!quant_model_run(m, &q->q, x, IMAGES, want, &err), "%s", err.msg);
	for (int n = 1; n <= IMAGES; n += n == 1 ? 1 : 7) {
		if (!run_kernels(m, &q->q, x, n, got))
			break;
		int apart = differing(want, got, (size_t)n * classes);
		CHECK_MSG(!apart, "network %d, %g float: %d of %zu outputs of %d images differ", seed, floats, apart,
		          (size_t)n * classes, n);
		if (apart) {
			print_graph(g, &q->q);
			break;
		}
		*outputs += (int)((size_t)n * classes);
	}
	wasd_free(x);
	wasd_free(want);
	wasd_free(got);
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

static void kernels_equal_the_plain_model(void)
{
	int outputs = 0;
	if (!offered())
		TEST_SKIP("no int8 here");
	for (int threads = 1; threads <= 3; threads += 2) {
		CHECK(!wasd_threads_init(threads, NULL));
		for (int seed = 0; seed < 150; seed++)
			check_random(seed, seed % 3 == 2 ? 0.3 : 0, &outputs);
		wasd_threads_done();
	}
	printf("# %d outputs\n", outputs);
}

/* ---- what follows from the definition ---- */

static void identity_layer(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){5, 3, 4}, &g, NULL));
	wasd_node c = wasd_graph_conv(g, 0, "id", 5, 1, 1, 0, 1, false);
	CHECK(!wasd_graph_finish(g, wasd_graph_flatten(g, c), NULL));
	struct wasd_model *m = model_of(g, 1);
	struct nets_quant *q = nets_quant(g);
	int8_t *w = wasd_calloc(25, 1);
	float *s = wasd_calloc(5, sizeof *s);
	real x[60], plain[60], fast[60];
	for (int i = 0; i < 60; i++)
		x[i] = (real)(i * 4);
	for (int i = 0; i < 5; i++) {
		w[i * 6] = 1;
		s[i] = 1;
	}
	q->q.conv[c] = (struct wasd_quant_conv){.on = true, .w = w, .scale = s};
	q->q.tensor[0].type = q->q.tensor[c].type = WASD_QUANT_U8;
	CHECK(!quant_model_run(m, &q->q, x, 1, plain, NULL) && !memcmp(plain, x, sizeof x));
	CHECK(!offered() || (run_kernels(m, &q->q, x, 1, fast) && !memcmp(fast, x, sizeof x)));
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* Weights and images that are rounded to a network's 8 bits stay within |x| sw/2 + sx/2 |w| + sy/2 of the float layer.
 */
static void error_bound(void)
{
	enum { I = 7, O = 6, HW = 25 };
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){I, 5, 5}, &g, NULL));
	wasd_node c = wasd_graph_conv(g, 0, "c", O, 3, 1, 1, 1, true);
	CHECK(!wasd_graph_finish(g, wasd_graph_flatten(g, c), NULL));
	struct wasd_model *m = model_of(g, 3);
	struct nets_quant *q = nets_quant(g);
	const real *w = wasd_model_weights(m, g->nodes[c].weight), *b = wasd_model_weights(m, g->nodes[c].bias);
	int8_t *wq = wasd_calloc(O * I * 9, 1);
	float *sw = wasd_calloc(O, sizeof *sw);
	real x[I * HW], y[O * HW];
	const double sx = 1.0 / 127, sy = 0.02;
	wasd_rng_init(&dice, 5, "bound", 0, 0);
	for (int i = 0; i < I * HW; i++)
		x[i] = (real)between(-1, 1);
	for (int o = 0; o < O; o++) {
		double top = 0;
		for (int i = 0; i < I * 9; i++)
			top = fmax(top, fabs((double)w[o * I * 9 + i]));
		sw[o] = (float)(top / 127);
		for (int i = 0; i < I * 9; i++)
			wq[o * I * 9 + i] = (int8_t)nearbyint((double)w[o * I * 9 + i] / (double)sw[o]);
	}
	q->q.conv[c] = (struct wasd_quant_conv){.on = true, .w = wq, .scale = sw};
	q->q.tensor[0] = (struct wasd_quant_tensor){WASD_QUANT_S8, (float)sx};
	q->q.tensor[c] = (struct wasd_quant_tensor){WASD_QUANT_S8, (float)sy};
	CHECK(!quant_model_run(m, &q->q, x, 1, y, NULL));
	double worst = 0;
	for (int o = 0; o < O; o++)
		for (int p = 0; p < HW; p++) {
			double t = (double)b[o], xs = 0, ws = 0;
			for (int i = 0; i < I * 9; i++) {
				int v = p / 5 - 1 + i % 9 / 3, u = p % 5 - 1 + i % 3;
				double in = v < 0 || v > 4 || u < 0 || u > 4 ? 0 : (double)x[i / 9 * HW + v * 5 + u];
				t += in * (double)w[o * I * 9 + i];
				xs += fabs(in);
				ws += fabs((double)w[o * I * 9 + i]);
			}
			/* The product of both errors is left out of the bound; it is below a hundredth of it here. */
			double bound = (xs * (double)sw[o] / 2 + sx / 2 * ws + sy / 2) * 1.01;
			worst = fmax(worst, fabs((double)y[o * HW + p] - t) / bound);
		}
	CHECK_MSG(worst <= 1 && worst > 0.1, "%g of the bound", worst);
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* ---- bundles ---- */

/* Weights in 8 bits. */
static size_t eighths(const struct wasd_graph *g, const struct wasd_quant *q)
{
	size_t n = 0;
	for (int i = 0; i < g->n_nodes; i++)
		n += q->conv[i].on ? fan_of(&g->nodes[i]) * (size_t)g->nodes[i].shape.c : 0;
	return n;
}

static void bundles_compute_in_int8(void)
{
	if (!offered())
		TEST_SKIP("no int8 here");
	wasd_rng_init(&dice, 77, "int8", 0, 0);
	struct wasd_graph *g = random_graph();
	struct wasd_model *m = model_of(g, 77);
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	enum { N = 70 };
	size_t image = wasd_shape_count(g->nodes[0].shape), classes = (size_t)wasd_graph_classes(g);
	real *x = wasd_calloc(N * image, sizeof *x), *want = wasd_calloc(N * classes, sizeof *want),
		 *got = wasd_calloc(N * classes, sizeof *got);
	for (size_t i = 0; i < N * image; i++)
		x[i] = (real)between(-1, 1);
	CHECK(!wasd_threads_init(2, NULL));
	CHECK_MSG(!bundle_compile(m, NULL, WASD_STATS_AOM, &b, &err), "%s", err.msg);
	const struct wasd_graph *folded = wasd_model_graph(bundle_model(b));
	struct nets_quant *q = random_quant(folded, 0);
	size_t floats = wasd_bundle_bytes(b);
	CHECK_MSG(!bundle_quantise(b, &q->q, &err) && bundle_quant(b), "%s", err.msg);
	CHECK(!quant_model_run(bundle_model(b), &q->q, x, N, want, NULL));
	nets_done(q); /* the bundle has its own */
	size_t left = (size_t)(m->graph->param_count * sizeof(real)) - eighths(folded, bundle_quant(b)) * sizeof(real);
	CHECK_INT(floats, m->graph->param_count * sizeof(real));
	CHECK_INT(wasd_bundle_bytes(b), left + quant_bytes(folded, bundle_quant(b)));
	CHECK_INT(bundle_quantise(b, bundle_quant(b), NULL), WASD_ESTATE);
	CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err));
	for (int n = 1; n <= N; n = n < 8 ? n + 1 : 3 * n - 4) {
		CHECK_MSG(!wasd_predictor_run(p, x, n, got, &err), "%s", err.msg);
		CHECK_MSG(!differing(want, got, (size_t)n * classes), "%d images", n);
	}
	CHECK_MSG(!wasd_predictor_run(p, x, N, got, &err) && !differing(want, got, N * classes), "%s", err.msg);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	wasd_threads_done();
	wasd_free(x);
	wasd_free(want);
	wasd_free(got);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* ---- what is refused ---- */

static void unsound_networks(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){4, 4, 4}, &g, NULL));
	wasd_node c = wasd_graph_conv(g, 0, "c", 3, 2, 1, 0, 1, true);
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, c), NULL));
	struct wasd_model *m = model_of(g, 1);
	struct nets_quant *q = nets_quant(g);
	struct wasd_err err = {0};
	q->q.tensor[0].type = WASD_QUANT_S8;
	random_conv(&g->nodes[c], &q->q, c, 1, false);
	CHECK(!quant_check(m, &q->q, NULL));
	struct wasd_quant_tensor *t = q->q.tensor;
	struct wasd_quant_conv *w = &q->q.conv[c];
	float *sw = (float *)(uintptr_t)w->scale;
	const int8_t *bytes = w->w;
#define REFUSED(change, back, part) \
	do { \
		change; \
		CHECK_INT(quant_check(m, &q->q, &err), WASD_EINVAL); \
		CHECK_MSG(strstr(err.msg, part), "%s: \"%s\"", part, err.msg); \
		back; \
		CHECK_INT(quant_check(m, &q->q, NULL), WASD_OK); \
	} while (0)
	REFUSED(t[0].scale = 0, t[0].scale = 1, "scale of its values");
	REFUSED(t[0].scale = NAN, t[0].scale = 1, "scale of its values");
	REFUSED(t[0].scale = INFINITY, t[0].scale = 1, "scale of its values");
	REFUSED(t[0].type = WASD_QUANT_F32, t[0].type = WASD_QUANT_S8, "need an input of 8 bits");
	REFUSED(t[0].type = 3, t[0].type = WASD_QUANT_S8, "no known type");
	REFUSED(t[g->output].type = WASD_QUANT_U8, t[g->output].type = WASD_QUANT_F32, "the output must be float");
	REFUSED(sw[2] = -1, sw[2] = 1, "one of their scales");
	REFUSED(sw[2] = 1e-44f, sw[2] = 1, "a bias is too large");
	REFUSED(w->w = NULL, w->w = bytes, "weights are missing");
	REFUSED(w->coarse = bytes, w->coarse = NULL, "a tap in the middle");
	REFUSED(q->q.conv[0].on = true, q->q.conv[0].on = false, "input");
	REFUSED(q->q.nodes--, q->q.nodes++, "layers");
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* A convolution alone with all weights on, and coarse ones if they are asked for. */
static enum wasd_status check_alone(struct wasd_shape in, const struct node *how, bool coarse, struct wasd_err *err)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create(in, &g, NULL));
	wasd_node c = wasd_graph_conv_rect(g, 0, "c", how->out, how->kh, how->kw, 1, how->pad_top, how->pad_left,
	                                   how->shape.h, how->shape.w, 1, true);
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, c), NULL));
	struct wasd_model *m = model_of(g, 1);
	struct nets_quant *q = nets_quant(g);
	q->q.tensor[0].type = WASD_QUANT_U8;
	random_conv(&g->nodes[c], &q->q, c, 1, coarse);
	enum wasd_status s = quant_check(m, &q->q, err);
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	return s;
}

/* 255 times -128 as often as 32 bits hold, and a little more: 723 x 7 x 13 and 940 x 7 x 10 taps. */
static void sums_of_32_bits(void)
{
	struct node most = {.out = 1, .kh = 7, .kw = 13, .shape = {0, 1, 1}}, more = most;
	struct wasd_err err = {0};
	more.kw = 10;
	CHECK(QUANT_PRODUCTS_MAX * 255ll * 128 <= INT32_MAX && (QUANT_PRODUCTS_MAX + 1) * 255ll * 128 > INT32_MAX);
	CHECK_INT(QUANT_PRODUCTS_MAX, 723 * 7 * 13);
	CHECK_INT(check_alone((struct wasd_shape){723, 7, 13}, &most, false, &err), WASD_OK);
	CHECK_INT(check_alone((struct wasd_shape){940, 7, 10}, &more, false, &err), WASD_EINVAL);
	CHECK_MSG(strstr(err.msg, "too many"), "%s", err.msg);
}

/* The 1x1 kernel of coarse weights begins at the map's corner: an output that is cut off at the end has another size.
 */
static void coarse_weights_do_not_cut(void)
{
	struct node same = {.out = 16, .kh = 3, .kw = 3, .pad_top = 1, .pad_left = 1, .shape = {0, 16, 16}}, low = same,
				narrow = same;
	struct wasd_err err = {0};
	low.shape.h = narrow.shape.w = 14;
	CHECK_INT(check_alone((struct wasd_shape){16, 16, 16}, &same, true, &err), WASD_OK);
	CHECK_INT(check_alone((struct wasd_shape){16, 16, 16}, &low, false, &err), WASD_OK);
	CHECK_INT(check_alone((struct wasd_shape){16, 16, 16}, &low, true, &err), WASD_EINVAL);
	CHECK_INT(check_alone((struct wasd_shape){16, 16, 16}, &narrow, true, &err), WASD_EINVAL);
	CHECK_MSG(strstr(err.msg, "tap in the middle"), "%s", err.msg);
}

/* Sums of more than 2^24, which float32 does not count to. */
static void large_maps(void)
{
	enum { SIDE = 290, C = 4 };
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){C, SIDE, SIDE}, &g, NULL));
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, 0), NULL));
	struct wasd_model *m = model_of(g, 1);
	struct nets_quant *q = nets_quant(g);
	real *x = wasd_calloc(C * SIDE * SIDE, sizeof *x), plain[C], fast[C];
	q->q.tensor[0].type = WASD_QUANT_U8;
	for (int c = 0; c < C; c++) {
		int64_t sum = 0;
		for (int i = 0; i < SIDE * SIDE; i++) {
			int v = 200 + (i * 7919 + c * 31) % 56;
			x[c * SIDE * SIDE + i] = (real)v;
			sum += v;
		}
		fast[c] = (real)((float)sum * (float)(1.0 / (SIDE * SIDE)));
	}
	CHECK(!quant_model_run(m, &q->q, x, 1, plain, NULL));
	CHECK_INT(differing(plain, fast, C), 0);
	CHECK(!offered() || (run_kernels(m, &q->q, x, 1, fast) && !differing(plain, fast, C)));
	wasd_free(x);
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* oneDNN reads the variable once, so that a process of its own asks. */
static void refused_without_vnni(void)
{
#ifdef WASD_ONEDNN
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct wasd_err err = {0};
		setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE", 1);
		_exit(wasd_int8_offers(&err) == WASD_EUNSUPPORTED && strstr(err.msg, "VNNI") ? 0 : 1);
	}
	int status = -1;
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
#else
	struct wasd_err err = {0};
	CHECK(wasd_int8_offers(&err) == WASD_EUNSUPPORTED && strstr(err.msg, "oneDNN"));
#endif
}

int main(int argc, char **argv)
{
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	TEST_RUN(refused_without_vnni); /* first: before this process asks oneDNN */
	TEST_RUN(golden_layer);
	TEST_RUN(identity_layer);
	TEST_RUN(error_bound);
	TEST_RUN(kernels_equal_the_plain_model);
	TEST_RUN(bundles_compute_in_int8);
	TEST_RUN(unsound_networks);
	TEST_RUN(sums_of_32_bits);
	TEST_RUN(coarse_weights_do_not_cut);
	TEST_RUN(large_maps);
	TEST_END();
}
