/* Minimal filtering of 8-bit integers against explicit sums, bit for bit: every type, odd maps, extreme operands, one
 * and several threads; and inside a network, against the plain model. */
#include "check.h"
#include "wasd/cpu.h"

#ifdef WASD_ONEDNN

#include "int8_nets.h"
#include "onednn/int8_minimal.h"
#include "onednn/prim.h"
#include "onednn/tune.h"
#include "quant/model.h"

static bool offered(void)
{
	return wasd_int8_offers(NULL) == WASD_OK;
}

/* ---- a layer ---- */

struct sample {
	struct prim8_conv c;
	int8_t *w;
	char *x, *residual;
	float *scale, *bias;
	size_t nx, ny;
};

static size_t size_of(enum wasd_quant_type t)
{
	return t == WASD_QUANT_F32 ? sizeof(float) : 1;
}

static float value_at(const char *p, size_t i, enum wasd_quant_type t)
{
	return t == WASD_QUANT_F32 ? ((const float *)(const void *)p)[i] :
	       t == WASD_QUANT_U8  ? (float)((const uint8_t *)p)[i] :
	                             (float)((const int8_t *)p)[i];
}

/* n bytes or floats; extreme: only the largest magnitudes. */
static char *values(size_t n, enum wasd_quant_type t, bool extreme)
{
	char *p = tensor_alloc(n * size_of(t));
	for (size_t i = 0; i < n; i++) {
		if (t == WASD_QUANT_F32)
			((float *)(void *)p)[i] = (float)between(-50, 50);
		else
			p[i] = (char)(extreme ? t == WASD_QUANT_U8 ? 255 : -128 : below(256));
	}
	return p;
}

static struct sample sample_of(struct prim8_conv c, bool extreme)
{
	struct sample l = {.c = c, .nx = (size_t)(c.n * c.c * c.h * c.w), .ny = (size_t)(c.n * c.out * c.oh * c.ow)};
	size_t fan = (size_t)c.c * 9, spread = extreme ? 128 : 100;
	l.w = tensor_alloc(fan * (size_t)c.out);
	for (size_t i = 0; i < fan * (size_t)c.out; i++)
		l.w[i] = (int8_t)(extreme ? (i / fan) % 2 ? -128 : 127 : below((int)(2 * spread)) - (int)spread);
	l.x = values(l.nx, c.x, extreme);
	l.residual = values(l.ny, c.residual_type, false);
	l.scale = tensor_alloc((size_t)c.out * sizeof(float));
	l.bias = tensor_alloc((size_t)c.out * sizeof(float));
	for (int o = 0; o < c.out; o++) {
		l.scale[o] = (float)between(0.0005, 0.002);
		l.bias[o] = (float)between(-20000, 20000);
	}
	l.c.scale = l.scale;
	return l;
}

static void sample_done(struct sample *l)
{
	tensor_free(l->w);
	tensor_free(l->x);
	tensor_free(l->residual);
	tensor_free(l->scale);
	tensor_free(l->bias);
}

static int32_t sum_at(const struct sample *l, int n, int o, int y, int x)
{
	const struct prim8_conv *c = &l->c;
	int32_t acc = 0;
	for (int i = 0; i < c->c; i++)
		for (int t = 0; t < 9; t++) {
			int py = y - c->pad_top + t / 3, px = x - c->pad_left + t % 3;
			if (py < 0 || py >= c->h || px < 0 || px >= c->w)
				continue;
			size_t at = ((size_t)(n * c->h + py) * (size_t)c->w + (size_t)px) * (size_t)c->c + (size_t)i;
			acc += l->w[(size_t)(o * c->c + i) * 9 + (size_t)t] * (int32_t)value_at(l->x, at, c->x);
		}
	return acc;
}

/* As wasd/quant.h defines it, stored as y is. */
static void store_wanted(const struct sample *l, int32_t acc, int o, size_t at, char *y)
{
	const struct prim8_conv *c = &l->c;
	float t = ((float)acc + (c->bias ? l->bias[o] : 0)) * l->scale[o];
	if (c->residual)
		t = fmaf(c->residual_scale, value_at(l->residual, at, c->residual_type), t);
	if (c->act != ACT_NONE)
		t = fmaxf(t, 0);
	if (c->act == ACT_RELU6)
		t = fminf(t, c->six);
	if (c->y == WASD_QUANT_F32)
		((float *)(void *)y)[at] = t;
	else
		y[at] = (char)(c->y == WASD_QUANT_U8 ? (int)rintf(fminf(fmaxf(t, 0), 255)) :
		                                       (int)rintf(fminf(fmaxf(t, -128), 127)));
}

static void compare(const struct sample *l)
{
	const struct prim8_conv *c = &l->c;
	size_t bytes = l->ny * size_of(c->y);
	char *want = tensor_alloc(bytes), *got = tensor_alloc(bytes);
	void *own = tensor_alloc(int8_minimal_weight_bytes(c)),
		 *scratch = tensor_alloc(int8_minimal_scratch_bytes(c, wasd_threads()));
	CHECK(int8_minimal_fits(c) && int8_minimal_exact(c, l->w));
	size_t at = 0;
	for (int n = 0; n < c->n; n++)
		for (int y = 0; y < c->oh; y++)
			for (int x = 0; x < c->ow; x++)
				for (int o = 0; o < c->out; o++, at++)
					store_wanted(l, sum_at(l, n, o, y, x), o, at, want);
	if (c->residual)
		memcpy(got, l->residual, bytes);
	int8_minimal_weights_in(c, l->w, own);
	int8_minimal_run(c, l->x, own, l->bias, got, scratch);
	size_t apart = 0;
	for (size_t i = 0; i < bytes; i++)
		apart += want[i] != got[i];
	CHECK_MSG(!apart, "%zu of %zu bytes differ: %d images, %dx%dx%d to %d, types %d to %d, residual %d, act %d", apart,
	          bytes, c->n, c->c, c->h, c->w, c->out, (int)c->x, (int)c->y, c->residual ? (int)c->residual_type : -1,
	          (int)c->act);
	tensor_free(want);
	tensor_free(got);
	tensor_free(own);
	tensor_free(scratch);
}

static void check_sample(struct prim8_conv shape, bool extreme)
{
	struct sample l = sample_of(shape, extreme);
	compare(&l);
	sample_done(&l);
}

static struct prim8_conv shape_of(int n, int c, int h, int w, int out)
{
	return (struct prim8_conv){.n = n,
	                           .c = c,
	                           .h = h,
	                           .w = w,
	                           .out = out,
	                           .oh = h,
	                           .ow = w,
	                           .kh = 3,
	                           .kw = 3,
	                           .stride = 1,
	                           .pad_top = 1,
	                           .pad_left = 1,
	                           .groups = 1,
	                           .x = WASD_QUANT_U8,
	                           .y = WASD_QUANT_U8,
	                           .bias = true,
	                           .residual_scale = 0.7f,
	                           .act = ACT_RELU,
	                           .six = 90};
}

static void check_types(int threads)
{
	if (!offered())
		TEST_SKIP("no int8 here");
	CHECK(!wasd_threads_init(threads, NULL));
	const enum wasd_quant_type types[] = {WASD_QUANT_U8, WASD_QUANT_S8, WASD_QUANT_F32};
	const enum act acts[] = {ACT_NONE, ACT_RELU, ACT_RELU6};
	wasd_rng_init(&dice, 5, "int8_minimal", 0, 0);
	for (int i = 0; i < 36; i++) {
		struct prim8_conv c = shape_of(1 + below(3), 32 * (1 + below(2)), 1 + below(13), 1 + below(13), 32);
		c.x = types[i % 2];
		c.y = types[i / 2 % 3];
		c.act = acts[i / 6 % 3];
		c.bias = below(3);
		c.residual = i >= 18;
		/* what is added is either float, as y, or both are integers */
		c.residual_type = c.y == WASD_QUANT_F32 ? WASD_QUANT_F32 : types[below(2)];
		check_sample(c, false);
	}
	struct prim8_conv valid = shape_of(2, 32, 9, 6, 64);
	valid.pad_top = valid.pad_left = 0;
	valid.oh -= 2;
	valid.ow -= 2;
	check_sample(valid, false);
	wasd_threads_done();
}

static void one_thread(void)
{
	check_types(1);
}
static void three_threads(void)
{
	check_types(3);
}

/* The transforms reach their largest values, and the sums wrap. */
static void extreme_operands(void)
{
	if (!offered())
		TEST_SKIP("no int8 here");
	struct prim8_conv c = shape_of(1, 96, 8, 8, 32);
	check_sample(c, true);
	c.x = WASD_QUANT_S8;
	check_sample(c, true);
}

static void exact_up_to_the_bound(void)
{
	struct prim8_conv c = shape_of(1, 128, 4, 4, 32);
	size_t fan = 128 * 9;
	int8_t *w = wasd_calloc(fan * 32, 1);
	for (size_t i = 0; i < fan; i++)
		w[31 * fan + i] = i < 1036 ? 127 : 0;
	w[31 * fan + 1036] = 14;
	CHECK(int8_minimal_exact(&c, w)); /* 255 * 131586 = 2^25 - 2 */
	w[31 * fan + 1036] = 15;
	CHECK(!int8_minimal_exact(&c, w));
	w[31 * fan] = -127; /* u8 cannot subtract from the sum of the others what it adds */
	CHECK(int8_minimal_exact(&c, w));
	c.x = WASD_QUANT_S8;
	w[31 * fan] = 127;
	CHECK(int8_minimal_exact(&c, w)); /* 128 * 131587 */
	for (size_t i = 0; i < fan; i++)
		w[31 * fan + i] = i % 2 ? 127 : -127;
	CHECK(int8_minimal_exact(&c, w));
	for (size_t i = 0; i < fan; i++)
		w[31 * fan + i] = -128;
	CHECK(int8_minimal_exact(&c, w));
	wasd_free(w);
	c.c = 256; /* 128 * 128 * 2304 > 2^25 */
	w = wasd_calloc(2 * fan * 32, 1);
	memset(w, -128, 2 * fan);
	CHECK(!int8_minimal_exact(&c, w));
	wasd_free(w);
}

/* Factors at the ends of float: both kernels round in the same places. */
static void extreme_factors(void)
{
	if (!offered())
		TEST_SKIP("no int8 here");
	const struct {
		double scale, bias;
	} rows[] = {{1e-36, 1e37}, {1e-38, 1e4}, {1e-44, 1e30}, {1e30, 1e30}, {3e38, 1}};
	wasd_rng_init(&dice, 7, "int8_minimal", 0, 0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int y = 0; y < 2; y++) {
			struct prim8_conv c = shape_of(1, 32, 8, 8, 32);
			c.y = y ? WASD_QUANT_F32 : WASD_QUANT_U8;
			struct sample l = sample_of(c, false);
			for (int o = 0; o < c.out; o++) {
				l.scale[o] = (float)(rows[i].scale * between(0.5, 1));
				l.bias[o] = (float)(rows[i].bias * between(-1, 1));
			}
			compare(&l);
			sample_done(&l);
		}
}

/* What is measured is remembered, and later answers need no measuring. */
static void measures_once(void)
{
	if (!offered())
		TEST_SKIP("no int8 here");
	struct tune_result first, again, none;
	struct prim8_conv c = shape_of(3, 32, 12, 12, 32);
	float scale[32] = {0};
	c.scale = scale;
	CHECK(!wasd_threads_init(2, NULL) && !prim_open(wasd_threads(), NULL));
	CHECK(!int8_minimal_wins(&c, &c, true, &none) && none.us[TUNE_LIBRARY] <= 0 && none.us[TUNE_OURS] <= 0);
	bool wins = int8_minimal_wins(&c, &c, false, &first);
	CHECK(first.us[TUNE_LIBRARY] > 0 && first.us[TUNE_OURS] > 0);
	CHECK(first.us[wins ? TUNE_OURS : TUNE_LIBRARY] <= first.us[wins ? TUNE_LIBRARY : TUNE_OURS]);
	c.n = 1; /* about as many */
	CHECK(int8_minimal_wins(&c, &c, true, &again) == wins && !memcmp(first.us, again.us, sizeof first.us));
	wasd_threads_done();
}

static void what_fits(void)
{
	struct prim8_conv c = shape_of(1, 64, 8, 8, 32);
	CHECK(int8_minimal_fits(&c));
	struct prim8_conv no[] = {c, c, c, c, c, c, c};
	no[0].kh = 2;
	no[1].stride = 2;
	no[2].groups = 2;
	no[3].c = 48;
	no[4].out = 16;
	no[5].add = true;
	no[6].c = no[6].out = 512; /* 18 MiB of weights */
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		CHECK_MSG(!int8_minimal_fits(&no[i]), "case %zu", i);
}

/* ---- a network ---- */

enum { IMAGES = 5 };

/* As if about that many images had been measured. */
static void choose(const char *images, int choice)
{
	static const char *const kernels[] = {"k3x3 relu", "k2x3 relu", "k2x2 add u8 relu"};
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
		char key[TUNE_KEY];
		snprintf(key, sizeof key, "%s 32x10x9 u8 o32 u8 %s", images, kernels[i]);
		tune_store(key, &(struct tune_result){.choice = choice});
	}
}

/* Whole 3x3 kernels and what is left of two of them, behind each other and with a residual, computed by minimal
 * filtering because the table says so. */
static void networks_compute_with_it(void)
{
	if (!offered())
		TEST_SKIP("no int8 here");
	CHECK(!wasd_threads_init(2, NULL));
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	wasd_rng_init(&dice, 9, "int8_minimal", 0, 0);
	CHECK(!wasd_graph_create((struct wasd_shape){3, 10, 9}, &g, NULL));
	wasd_node a = wasd_graph_relu(g, wasd_graph_conv(g, 0, "stem", 32, 3, 1, 1, 1, true));
	wasd_node b = wasd_graph_relu(g, wasd_graph_conv(g, a, "whole", 32, 3, 1, 1, 1, true));
	b = wasd_graph_relu(g, wasd_graph_conv_rect(g, b, "wide", 32, 2, 3, 1, 0, 1, 10, 9, 1, true));
	b = wasd_graph_conv_rect(g, b, "small", 32, 2, 2, 1, 1, 0, 10, 9, 1, true);
	b = wasd_graph_relu(g, wasd_graph_add(g, b, a));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, wasd_graph_flatten(g, b), "fc", 7, true), NULL));
	CHECK(!wasd_model_create(g, 3, &m, NULL));
	struct nets_quant *q = random_quant(g, 0);
	for (int i = 0; i < g->n_nodes; i++) {
		q->q.tensor[i].type = i == g->output ? WASD_QUANT_F32 : i == 0 ? WASD_QUANT_S8 : WASD_QUANT_U8;
		wasd_free((void *)(uintptr_t)q->q.conv[i].coarse);
		wasd_free((void *)(uintptr_t)q->q.conv[i].coarse_scale);
		q->q.conv[i].coarse = NULL;
		q->q.conv[i].coarse_scale = NULL;
	}
	real x[IMAGES * 3 * 10 * 9], want[IMAGES * 7];
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)between(-1, 1);
	CHECK(!quant_model_run(m, &q->q, x, IMAGES, want, NULL));
	CHECK(!prim_open(wasd_threads(), NULL)); /* opens the table */
	choose("int8 n1", TUNE_LIBRARY);
	choose("int8 n8", TUNE_OURS);
	for (int n = 1; n <= IMAGES; n += IMAGES - 1) {
		struct wasd_exec_opts o = {.batch = n, .constant_weights = true, .quant = &q->q};
		struct wasd_pass p = {.n = n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
		struct wasd_exec *e = NULL;
		CHECK(!wasd_exec_create(m, &o, &e, NULL) && !wasd_exec_forward(e, x, &p, NULL));
		CHECK(memcmp(want, wasd_exec_logits(e), (size_t)n * 7 * sizeof *want) == 0);
		cJSON *told = wasd_exec_explain(e);
		char *text = cJSON_PrintUnformatted(told);
		int layers = 0;
		for (const char *at = text; (at = strstr(at, "minimal filtering")); at++)
			layers++;
		CHECK_MSG(layers == (n == 1 ? 0 : 3), "%d layers by minimal filtering with %d images: %s", layers, n, text);
		cJSON_free(text);
		cJSON_Delete(told);
		wasd_exec_destroy(e);
	}
	nets_done(q);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	wasd_threads_done();
}

int main(int argc, char **argv)
{
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	TEST_RUN(what_fits);
	TEST_RUN(exact_up_to_the_bound);
	TEST_RUN(one_thread);
	TEST_RUN(three_threads);
	TEST_RUN(extreme_operands);
	TEST_RUN(extreme_factors);
	TEST_RUN(measures_once);
	TEST_RUN(networks_compute_with_it);
	TEST_END();
}

#else

int main(void)
{
	printf("skip int8_minimal: this build has no oneDNN backend\n");
	return 0;
}

#endif
