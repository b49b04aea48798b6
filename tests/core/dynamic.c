/* The gate of a mode `dynamic` (core/modes/gate.c) with the golden numbers of $WASD_SHARED/strategies/part2.json, and
 * the mode from the request to the answers (core/modes/dynamic.c): every answer has the bits of the width that the
 * image was sent to. */
#include "golden.h"
#include "tiny.h"

#include "backend/backend.h"
#include "infer/bundle.h"
#include "modes/gate.h"
#include "wasd/convert.h"
#include "wasd/making.h"
#include "wasd/model.h"
#include "wasd/safetensors.h"
#include "wasd/slim.h"

enum { N = 64, CLASSES = 10, IMAGE = 3 * 16 * 16 };
static cJSON *golden;
static struct wasd_dataset *data;
static struct tiny_run run;
static real x[N * IMAGE];

static const cJSON *of(const char *name)
{
	return wasd_json_get(wasd_json_get(golden, "dsnet"), name);
}

static double at(const cJSON *j, int i)
{
	const cJSON *v = cJSON_GetArrayItem(j, i);
	return v ? v->valuedouble : NAN;
}

/* ---- the gate ------------------------------------------------------------------------------------------------ */

static void gumbel(void)
{
	const cJSON *t = of("gumbel");
	static const double dhard[4] = {1, 2, 3, 4};
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(t, "logits")), 2);
	for (int i = 0; i < 2; i++) {
		double logits[4], e[4], soft[4], back[4];
		for (int k = 0; k < 4; k++) {
			logits[k] = at(cJSON_GetArrayItem(wasd_json_get(t, "logits"), i), k);
			e[k] = at(cJSON_GetArrayItem(wasd_json_get(t, "exponential_noise"), i), k);
		}
		int hard = gate_gumbel(logits, e, 4, 1, soft);
		CHECK_INT(hard, at(wasd_json_get(t, "index"), i));
		gate_gumbel_back(soft, dhard, 4, 1, back);
		for (int k = 0; k < 4; k++) {
			CHECK_NEAR(soft[k], at(cJSON_GetArrayItem(wasd_json_get(t, "soft"), i), k), 1e-7);
			CHECK_INT(k == hard, at(cJSON_GetArrayItem(wasd_json_get(t, "hard"), i), k));
			CHECK_NEAR(back[k], at(cJSON_GetArrayItem(wasd_json_get(t, "grad_of_sum_hard_times_1234"), i), k), 1e-6);
		}
	}
}

/* 16 channels at the widest of the authors' slices: weights and biases of the two layers, none behind the second. */
static void parameters(void)
{
	const cJSON *t = of("gate_params"), *in = wasd_json_get(t, "in");
	struct gate g = {0};
	CHECK(gate_create((int)at(in, cJSON_GetArraySize(in) - 1), 4, &g));
	CHECK_INT(g.reduced, wasd_json_get(t, "reduced")->valueint);
	CHECK(g.reduced == at(wasd_json_get(t, "reduce"), 0) && g.in == at(wasd_json_get(t, "reduce"), 1));
	CHECK(g.choices == at(wasd_json_get(t, "slim_head"), 0) && g.reduced == at(wasd_json_get(t, "slim_head"), 1));
	CHECK(cJSON_IsFalse(wasd_json_get(t, "slim_head_bias")));
	CHECK_INT(gate_macs(g.in, g.choices), 4 * 16 + 4 * 4);
	CHECK(g.bias == g.reduce + 64 && g.head == g.bias + 4);
	gate_done(&g);
	CHECK_INT(gate_reduced(3), 1);
	CHECK_INT(gate_reduced(11), 2);
}

/* The authors train at full width with the channels of two images multiplied by 1 up to the chosen width and 0 behind
 * it (the input, 1 2 3 4, and the widths, 3 and 2, are a reading of the eight numbers). Ours is computed in the chosen
 * width's own network, which has the same channels and no others. */
static void mask(void)
{
	static const int chosen[2] = {3, 2};
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){1, 1, 1}, &g, NULL));
	wasd_node four = wasd_graph_conv(g, wasd_graph_input(g), "four", 4, 1, 1, 0, 1, false);
	wasd_node out = wasd_graph_linear(g, wasd_graph_flatten(g, four), "out", 2, false);
	CHECK(!wasd_graph_finish(g, out, NULL));
	for (int i = 0; i < 2; i++) {
		uint8_t alive[8][4] = {{0}};
		const uint8_t *sets[8];
		struct wasd_slim *slim = NULL;
		struct wasd_model *whole = NULL, *small = NULL;
		struct wasd_exec *e = NULL;
		real one = 1, y[4] = {0};
		for (wasd_node n = 0; n < wasd_graph_nodes(g); n++) {
			for (int c = 0; c < wasd_graph_node_info(g, n).shape.c; c++)
				alive[n][c] = wasd_graph_node_info(g, n).shape.c < 4 || c < chosen[i];
			sets[n] = alive[n];
		}
		CHECK(!wasd_slim_create(g, sets, "chosen", &slim, NULL) && !wasd_model_create(g, 1, &whole, NULL));
		for (int c = 0; c < 4; c++)
			wasd_model_master(
				whole)[wasd_graph_param_info(g, wasd_graph_param_find(g, "four.weight")).offset + (size_t)c] =
				(real)(c + 1);
		CHECK(!wasd_slim_carry(slim, whole, &small, NULL));
		CHECK(!wasd_exec_create(small, &(struct wasd_exec_opts){.batch = 1, .keep_all = true}, &e, NULL));
		CHECK(!wasd_exec_forward(e, &one, &(struct wasd_pass){.n = 1, .bn = WASD_BN_SET}, NULL));
		CHECK(!wasd_exec_activation(e, four, y, NULL));
		for (int c = 0; c < 4; c++)
			CHECK_NEAR((double)y[c], at(of("gate_mask"), 4 * i + c), 0);
		wasd_exec_destroy(e);
		wasd_model_destroy(small);
		wasd_model_destroy(whole);
		wasd_slim_destroy(slim);
	}
	wasd_graph_destroy(g);
}

static bool go_on(void *ctx)
{
	return !ctx || --*(int *)ctx >= 0;
}

/* Of images with z_0 > 0 the smallest of three networks is right, of the others only the last. */
static struct gate_set hard_and_easy(void)
{
	struct gate_set s;
	struct wasd_rng r;
	CHECK(gate_set_create(600, 8, 3, &s));
	wasd_rng_init(&r, 1, "images", 0, 0);
	for (s.n = 0; s.n < 600; s.n++) {
		float *z = s.z + s.n * 8;
		for (int c = 0; c < 8; c++)
			z[c] = (float)(5 + 0.1 * wasd_rng_between(&r, -1, 1));
		z[7] = 3; /* tells nothing */
		for (int k = 0; k < 3; k++) {
			s.right[s.n * 3 + k] = z[0] > 5 || k == 2;
			s.loss[s.n * 3 + k] = s.right[s.n * 3 + k] ? 0.1f : 2;
		}
	}
	return s;
}

/* Images that the gate sends to each network, and of how many that is their target. */
static int sent(const struct gate *g, const struct gate_set *s, int to[3])
{
	float h[2];
	int fit = 0;
	memset(to, 0, 3 * sizeof *to);
	for (int i = 0; i < s->n; i++) {
		int k = gate_choose(g, s->z + (size_t)i * 8, h);
		to[k]++;
		fit += k == (s->right[i * 3] ? 0 : 2);
	}
	return fit;
}

static void learns(void)
{
	struct gate_set s = hard_and_easy();
	struct gate g = {0}, again = {0};
	int to[3], left = 3;
	struct gate_training t = {.cost = {0.1, 0.4, 1.1}, .epochs = 30, .seed = 4, .go_on = go_on};
	CHECK(gate_create(8, 3, &g) && gate_create(8, 3, &again));
	CHECK(!gate_train(&g, &s, &t, NULL) && !gate_train(&again, &s, &t, NULL));
	int fit = sent(&g, &s, to);
	CHECK_MSG(fit > 520 && to[0] > 200 && to[2] > 200, "%d: %d %d %d", fit, to[0], to[1], to[2]);
	CHECK(!memcmp(g.reduce, again.reduce, (8 + 1 + 3) * 2 * sizeof *g.reduce));
	t.lambda = 50;
	CHECK(!gate_train(&g, &s, &t, NULL));
	CHECK_MSG((sent(&g, &s, to), to[0]) > 580, "%d", to[0]);
	t.lambda = -50;
	CHECK(!gate_train(&g, &s, &t, NULL));
	CHECK_MSG((sent(&g, &s, to), to[2]) > 580, "%d", to[2]);
	t.ctx = &left;
	CHECK(gate_train(&g, &s, &t, NULL) == WASD_ECANCELLED && left == -1);
	gate_done(&g);
	gate_done(&again);
	gate_set_done(&s);
}

/* ---- the mode ------------------------------------------------------------------------------------------------ */

#define CONV "{\"type\":\"conv\",\"out\":32,\"bias\":false},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}"
#define RUN(more) \
	"{\"model\":{\"layers\":[" CONV ",{\"type\":\"maxpool\",\"kernel\":2}," CONV \
	",{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"conv\",\"name\":\"last\",\"out\":32},{\"type\":\"relu\"}," \
	"{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}," more \
	"\"train\":{\"epochs\":3,\"batch\":32,\"seed\":2,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.003}}," \
	"\"checkpoint\":{\"every\":1}}"
#define SLICED RUN("\"weights\":[{\"type\":\"slices\",\"teacher\":\"largest\",\"widths\":[0.25,0.5,1]}],")
static const char *const parts[3] = {"width:0.25", "width:0.5", "aom"};

struct made {
	void *file;
	size_t len;
	cJSON *info;
};

static enum wasd_status make(const struct tiny_run *r, const char *request, struct made *out, struct wasd_err *err)
{
	cJSON *j = cJSON_Parse(request);
	*out = (struct made){0};
	*err = (struct wasd_err){0};
	enum wasd_status s = wasd_mode_make(&(struct wasd_making){r->file, r->len, .data = data, .request = j,
	                                                          .backend = "openblas"},
	                                    &out->file, &out->len, &out->info, err);
	cJSON_Delete(j);
	return s;
}

static void done(struct made *m)
{
	wasd_free(m->file);
	cJSON_Delete(m->info);
	*m = (struct made){0};
}

static struct wasd_bundle *bundle(const char *name, const struct made *m)
{
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	struct wasd_mode_source from = {.file = run.file,
	                                .len = run.len,
	                                .mode_file = m ? m->file : NULL,
	                                .mode_len = m ? m->len : 0,
	                                .name = name};
	CHECK_MSG(!wasd_bundle_create(&from, &b, &err), "%s: %s", name, err.msg);
	return b;
}

/* Without races between algorithms, which would take a minute for the sizes of all batches. */
static struct wasd_predictor *predictor(struct wasd_bundle *b, const char *backend)
{
	struct wasd_predictor *p = NULL;
	struct wasd_predictor_opts o = {.precision = WASD_PRECISION_FP32_STRICT, .backend = backend};
	CHECK(!wasd_predictor_create(b, &o, &p, NULL));
	return p;
}

static double number(const cJSON *j, const char *name)
{
	double v = NAN;
	wasd_json_num(j, name, &v);
	return v;
}

/* n images at once: the first width's answers to all of them, and the others' to those that go there. */
static void check_batch(struct wasd_predictor *p, struct wasd_predictor *const width[3], int n, const real *images,
                        int to[3])
{
	real got[N * CLASSES], want[N * CLASSES], some[N * CLASSES];
	real *group = wasd_calloc((size_t)n * IMAGE, sizeof *group);
	CHECK(!wasd_predictor_run(p, images, n, got, NULL));
	CHECK(!wasd_predictor_run(width[0], images, n, want, NULL));
	for (int k = 0; k < 3; k++) {
		int row[N], rows = 0;
		for (int i = 0; i < n; i++)
			if (predictor_choice(p, i) == k) {
				memcpy(group + rows * IMAGE, images + i * IMAGE, IMAGE * sizeof *group);
				row[rows++] = i;
			}
		to[k] += rows;
		CHECK(!k || !rows || !wasd_predictor_run(width[k], group, rows, some, NULL));
		for (int i = 0; k && i < rows; i++)
			memcpy(want + row[i] * CLASSES, some + i * CLASSES, CLASSES * sizeof *some);
	}
	for (int i = 0; i < n; i++)
		CHECK_MSG(!memcmp(got + i * CLASSES, want + i * CLASSES, CLASSES * sizeof *got),
		          "%d images: other bits in %d, %s", n, i, parts[predictor_choice(p, i)]);
	wasd_free(group);
}

static void answers_of_the_widths(const struct made *m)
{
	static const int sizes[] = {1, 7, N};
	for (int way = 0; way < 4; way++) {
		int threads = 2 - way / 2;
		const char *backend = way % 2 ? "openblas" : NULL;
		CHECK(!wasd_threads_init(threads, NULL));
		struct wasd_bundle *b = bundle("dynamic:x", m), *of_width[3];
		struct wasd_predictor *p = predictor(b, backend), *width[3];
		int to[3] = {0};
		for (int k = 0; k < 3; k++) {
			of_width[k] = bundle(parts[k], NULL);
			width[k] = predictor(of_width[k], backend);
		}
		CHECK_INT(wasd_bundle_parts(b), 3);
		for (int k = 0; k < 3; k++)
			for (int i = 0; i + sizes[k] <= N; i += sizes[k])
				check_batch(p, width, sizes[k], x + i * IMAGE, to);
		CHECK_MSG(to[0] && to[1] + to[2], "images to each width: %d %d %d", to[0], to[1], to[2]);
		uint64_t first = wasd_bundle_macs(of_width[0]) + bundle_router(b)->own, last;
		real y[CLASSES];
		for (int i = 0; i < N; i++) { /* what single images cost */
			CHECK(!wasd_predictor_run(p, x + i * IMAGE, 1, y, NULL));
			int k = predictor_choice(p, 0);
			last = wasd_predictor_macs(p);
			CHECK_INT(last, first + (k ? wasd_bundle_macs(of_width[k]) : 0));
		}
		CHECK(wasd_bundle_bytes(b) > wasd_bundle_bytes(of_width[2]) && wasd_predictor_bytes(p) > 0);
		for (int k = 0; k < 3; k++) {
			wasd_predictor_destroy(width[k]);
			wasd_bundle_unref(of_width[k]);
		}
		wasd_predictor_destroy(p);
		wasd_bundle_unref(b);
	}
	CHECK(!wasd_threads_init(2, NULL));
}

/* The means over the maps that a plan keeps, of every backend and with maps of several sizes. */
static void check_means(struct wasd_bundle *b, const char *backend, enum wasd_precision precision, wasd_node at)
{
	enum { SOME = 5 };
	struct wasd_model *m = wasd_bundle_model(b);
	struct wasd_shape map = wasd_graph_node_info(wasd_model_graph(m), at).shape;
	struct wasd_exec_opts o = {.batch = 8,
	                           .constant_weights = true,
	                           .kept = at,
	                           .precision = precision,
	                           .backend = backend};
	struct wasd_exec *e = NULL;
	float means[64];
	real *maps = wasd_calloc(SOME * wasd_shape_count(map), sizeof *maps), *v = maps;
	CHECK(map.c <= 64 && !wasd_exec_create(m, &o, &e, NULL));
	for (int n = SOME; n > 0; n -= SOME - 1, v = maps) {
		CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = n, .bn = WASD_BN_SET}, NULL));
		CHECK(!wasd_exec_activation(e, at, maps, NULL));
		for (int i = 0; i < n; i++) {
			wasd_exec_means(e, i, means);
			for (int c = 0; c < map.c; c++) {
				double sum = 0;
				for (int k = 0; k < map.h * map.w; k++)
					sum += (double)*v++;
				CHECK_MSG(means[c] == (float)(sum / (map.h * map.w)), "%s node %d, image %d, channel %d: %g",
				          backend ? backend : "default", at, i, c, (double)means[c]);
			}
		}
	}
	wasd_exec_destroy(e);
	wasd_free(maps);
}

static void means_of_the_maps(void)
{
	struct wasd_bundle *b = bundle("width:0.5", NULL);
	const struct wasd_graph *g = wasd_model_graph(wasd_bundle_model(b));
	int kept = 0;
	for (wasd_node n = 1; n < wasd_graph_nodes(g); n++) {
		const char *op = wasd_graph_node_info(g, n).op;
		if (strcmp(op, "relu") && strcmp(op, "maxpool") && strcmp(op, "globalpool"))
			continue;
		kept++;
		check_means(b, NULL, WASD_PRECISION_FP32, n);
		check_means(b, "openblas", WASD_PRECISION_FP32, n);
		check_means(b, "ref", WASD_PRECISION_FP32, n);
		const struct backend *half;
		if (!backend_choose(NULL, WASD_PRECISION_BF16, &half, NULL) && (!half->open || !half->open(NULL)))
			check_means(b, NULL, WASD_PRECISION_BF16, n);
	}
	CHECK_INT(kept, 6);
	wasd_bundle_unref(b);
}

/* Beside the plans, which are those of the widths: a map of the layer that the gate reads, the gate's numbers, and room
 * for as many images as went to a wider width at once. */
static void counts_its_memory(const struct made *m)
{
	struct wasd_bundle *b = bundle("dynamic:x", m);
	const struct mode_router *r = bundle_router(b);
	struct wasd_shape map = wasd_graph_node_info(wasd_model_graph(wasd_bundle_model(b)), r->at).shape;
	struct wasd_arena *arena = NULL;
	struct wasd_predictor *p = NULL, *width[3] = {NULL};
	struct wasd_predictor_opts o = {.precision = WASD_PRECISION_FP32_STRICT, .backend = "openblas"};
	real y[N * CLASSES];
	CHECK(!wasd_arena_create(&arena, NULL));
	o.arena = arena;
	CHECK(!wasd_predictor_create(b, &o, &p, NULL));
	for (int k = 0; k < 3; k++)
		CHECK(!wasd_predictor_create(bundle_part(b, k), &o, &width[k], NULL));
	for (int n = 1; n <= N; n += N - 1) {
		int most = 0, room = 1;
		for (int i = 0; i < N; i += n) {
			int to[3] = {n, 0, 0};
			CHECK(!wasd_predictor_run(p, x + i * IMAGE, n, y, NULL));
			for (int j = 0; j < n; j++)
				to[predictor_choice(p, j)] += predictor_choice(p, j) > 0;
			for (int k = 0; k < 3; k++)
				CHECK(!to[k] || !wasd_predictor_run(width[k], x, to[k], y, NULL));
			most = to[1] > most ? to[1] : most;
			most = to[2] > most ? to[2] : most;
		}
		while (room < most)
			room *= 2;
		size_t want = (size_t)(n == 1 ? 1 : 2) * (size_t)(map.h * map.w) * sizeof(real) + (size_t)n * sizeof(int) +
		              (size_t)(r->channels + r->scratch) * sizeof(float) +
		              (size_t)room * (IMAGE + CLASSES) * sizeof(real);
		for (int k = 0; k < 3; k++)
			want += wasd_predictor_bytes(width[k]);
		CHECK_MSG(most && wasd_predictor_bytes(p) == want, "%d images: told %zu bytes, want %zu", n,
		          wasd_predictor_bytes(p), want);
	}
	for (int k = 0; k < 3; k++)
		wasd_predictor_destroy(width[k]);
	wasd_predictor_destroy(p);
	wasd_arena_destroy(arena);
	wasd_bundle_unref(b);
}

/* What a deployment has: the bundles of the widths and their predictors. */
struct served {
	struct wasd_bundle *bundle[3];
	struct wasd_predictor *predictor[3];
};

static struct wasd_bundle *have_bundle(void *ctx, const char *mode)
{
	struct served *s = ctx;
	for (int k = 0; k < 3; k++)
		if (!strcmp(mode, parts[k]))
			return s->bundle[k];
	return NULL;
}

static struct wasd_predictor *have_predictor(void *ctx, const struct wasd_bundle *b)
{
	struct served *s = ctx;
	for (int k = 0; k < 3; k++)
		if (b == s->bundle[k])
			return s->predictor[k];
	return NULL;
}

/* Bundles and predictors that there are already are shared, but for the predictor of the first part, which keeps what
 * the gate reads. A warm predictor has all that single images need, and lives on without those that it shares. */
static void shares_what_there_is(const struct made *m)
{
	struct served s = {{NULL}, {NULL}};
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL, *alone;
	struct wasd_mode_source from = {run.file, run.len, m->file, m->len, "dynamic:x", have_bundle, &s};
	struct wasd_arena *arena = NULL;
	CHECK(!wasd_arena_create(&arena, NULL));
	struct wasd_predictor_opts o = {.precision = WASD_PRECISION_FP32_STRICT, .backend = "openblas", .arena = arena};
	real y[CLASSES], want[N * CLASSES], got[N * CLASSES];
	int to[3] = {0};
	for (int k = 0; k < 3; k++) {
		s.bundle[k] = bundle(parts[k], NULL);
		CHECK(!wasd_predictor_create(s.bundle[k], &o, &s.predictor[k], NULL));
	}
	CHECK(!wasd_bundle_create(&from, &b, NULL));
	for (int k = 0; k < 3; k++)
		CHECK(bundle_part(b, k) == s.bundle[k]);
	CHECK_INT(wasd_bundle_classes(b), CLASSES);
	CHECK(!wasd_predictor_create(b, &o, &alone, NULL));
	o.have = have_predictor;
	o.ctx = &s;
	CHECK(!wasd_predictor_create(b, &o, &p, NULL));
	CHECK(!wasd_predictor_warm(p, NULL) && !wasd_predictor_warm(alone, NULL));
	size_t widths = wasd_predictor_bytes(s.predictor[1]) + wasd_predictor_bytes(s.predictor[2]);
	CHECK(widths > 0 && wasd_predictor_bytes(s.predictor[0]) == 0);
	CHECK_INT(wasd_predictor_bytes(alone), wasd_predictor_bytes(p) + widths);
	uint64_t before = wasd_mem_stats().allocs;
	for (int i = 0; i < N; i++) {
		CHECK(!wasd_predictor_run(p, x + i * IMAGE, 1, y, NULL) &&
		      !wasd_predictor_run(alone, x + i * IMAGE, 1, y, NULL));
		to[predictor_choice(p, 0)]++;
	}
	CHECK_INT(wasd_mem_stats().allocs - before, 0);
	CHECK(to[0] && to[1] + to[2]);
	check_batch(p, s.predictor, N, x, to);
	CHECK(!wasd_predictor_run(p, x, N, want, NULL));
	for (int k = 0; k < 3; k++) {
		wasd_predictor_destroy(s.predictor[k]);
		wasd_bundle_unref(s.bundle[k]);
	}
	CHECK(!wasd_predictor_run(p, x, N, got, NULL) && !memcmp(got, want, sizeof got));
	wasd_predictor_destroy(p);
	wasd_predictor_destroy(alone);
	wasd_arena_destroy(arena);
	wasd_bundle_unref(b);
}

/* What is told, and that the mean over the validation images is what the shares say. */
static void check_info(const struct made *m, double budget)
{
	const cJSON *widths = wasd_json_get(m->info, "widths");
	struct wasd_bundle *b = bundle("dynamic:x", m);
	double sum = 0, macs = 0;
	CHECK_INT(cJSON_GetArraySize(widths), 3);
	for (int k = 0; k < 3; k++) {
		const cJSON *w = cJSON_GetArrayItem(widths, k);
		const char *name = "";
		CHECK(wasd_json_str(w, "mode", &name) && !strcmp(name, parts[k]));
		sum += number(w, "share");
		macs += (k ? number(w, "share") : 1) * (double)wasd_bundle_macs(bundle_part(b, k));
	}
	CHECK_NEAR(sum, 1, 1e-9);
	CHECK_NEAR(number(m->info, "macs"), macs + number(m->info, "gate_macs"), 1);
	CHECK_NEAR(number(m->info, "macs"), (double)wasd_bundle_macs(b), 0);
	CHECK_MSG(number(m->info, "macs_share") <= budget && number(m->info, "macs_share") > 0.6 * budget,
	          "%g of budget %g", number(m->info, "macs_share"), budget);
	double acc = number(m->info, "val_acc"), least = number(m->info, "gate_macs");
	CHECK(acc >= 0 && acc <= 1 && least == 2 * (8 + 3) && number(m->info, "latency_us") > 0);
	wasd_bundle_unref(b);
}

static void made_and_served(void)
{
	struct made m, again, wider;
	struct wasd_err err;
	CHECK_MSG(!make(&run, "{\"desire\":\"dynamic\",\"budget\":0.5}", &m, &err), "%s", err.msg);
	CHECK(!make(&run, "{\"desire\":\"dynamic\",\"budget\":0.5}", &again, &err));
	CHECK(m.len == again.len && !memcmp(m.file, again.file, m.len));
	check_info(&m, 0.5);
	answers_of_the_widths(&m);
	shares_what_there_is(&m);
	counts_its_memory(&m);
	CHECK(!make(&run, "{\"desire\":\"dynamic\",\"budget\":0.8,\"at\":\"last\",\"images\":128}", &wider, &err));
	check_info(&wider, 0.8);
	answers_of_the_widths(&wider);
	done(&wider);
	done(&again);
	done(&m);
}

static void refused(void)
{
	static const struct {
		const char *request, *pointer, *what;
		enum wasd_status status;
	} wrong[] = {
		{"{\"desire\":\"dynamic\",\"budget\":0.001}", "/budget", "smallest width", WASD_ENOTFOUND},
		{"{\"desire\":\"dynamic\"}", "/budget", "", WASD_EINVAL},
		{"{\"desire\":\"dynamic\",\"budget\":1.5}", "/budget", "", WASD_EINVAL},
		{"{\"desire\":\"dynamic\",\"budget\":0.5,\"at\":\"nowhere\"}", "/at", "nowhere", WASD_EINVAL},
		{"{\"desire\":\"dynamic\",\"budget\":0.5,\"at\":3}", "/at", "name", WASD_EINVAL},
		{"{\"desire\":\"dynamic\",\"budget\":0.5,\"base\":\"width:0.5\"}", "/base", "", WASD_EINVAL},
		{"{\"desire\":\"dynamic\",\"budget\":0.5,\"images\":1}", "/images", "", WASD_EINVAL},
	};
	struct made m;
	struct wasd_err err;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		enum wasd_status s = make(&run, wrong[i].request, &m, &err);
		CHECK_MSG(s == wrong[i].status && !strcmp(err.pointer, wrong[i].pointer) && strstr(err.msg, wrong[i].what),
		          "%s: %s %s", wrong[i].request, err.pointer, err.msg);
	}
	struct tiny_run plain = {0};
	tiny_go(&plain, RUN("\"was\":false,"), data);
	CHECK(make(&plain, "{\"desire\":\"dynamic\",\"budget\":0.5}", &m, &err) == WASD_EINVAL);
	CHECK_MSG(!strcmp(err.pointer, "/desire") && strstr(err.msg, "slices"), "%s %s", err.pointer, err.msg);
	cJSON *request = cJSON_Parse("{\"desire\":\"dynamic\",\"budget\":0.5}"), *spec = cJSON_Parse(RUN("\"was\":false,")),
		  *sliced = cJSON_Parse(SLICED);
	CHECK(wasd_mode_check(spec, (struct wasd_shape){3, 16, 16}, 10, request, &err) == WASD_EINVAL);
	CHECK(!wasd_mode_check(sliced, (struct wasd_shape){3, 16, 16}, 10, request, &err));
	CHECK(!wasd_mode_check(NULL, (struct wasd_shape){3, 16, 16}, 10, request, &err));
	cJSON_Delete(request);
	cJSON_Delete(spec);
	cJSON_Delete(sliced);
	tiny_done(&plain);
}

/* ---- files that anyone may have written ------------------------------------------------------------------------- */

struct change {
	const char *what;   /* of the message */
	const char *recipe; /* in place of the file's; NULL: that */
	const char *tensor; /* left out, or with the values below; NULL: none */
	const char *name;   /* its name; NULL: it is left out */
	enum wasd_dtype dtype;
	size_t rows; /* 0: as in the file */
	float first; /* its first value; 0: as in the file */
};

#define W(mode, share) "{\"mode\":\"" mode "\",\"share\":" share "}"
static const struct change changes[] = {
	{"reduce.weight", .tensor = "dynamic.reduce.weight"},
	{"reduce.bias", .tensor = "dynamic.reduce.bias"},
	{"head.weight", .tensor = "dynamic.head.weight"},
	{"3x2x1x1", .tensor = "dynamic.head.weight", .name = "dynamic.head.weight", .rows = 2},
	{"F32", .tensor = "dynamic.reduce.bias", .name = "dynamic.reduce.bias", .dtype = WASD_I32},
	{"nan", .tensor = "dynamic.reduce.weight", .name = "dynamic.reduce.weight", .first = NAN},
	{"more", .tensor = "", .name = "dynamic.more"},
	{"no statistics", .tensor = "", .name = "other"},
	{"list of 2", .recipe = "{\"at\":null}"},
	{"list of 2", .recipe = "{\"widths\":[" W("aom", "1") "]}"},
	{"add up", .recipe = "{\"widths\":[" W("width:0.25", "0.5") "," W("width:0.5", "0.2") "," W("aom", "0.2") "]}"},
	{"share", .recipe = "{\"widths\":[" W("width:0.25", "-1") "," W("width:0.5", "1") "," W("aom", "1") "]}"},
	{"mode", .recipe = "{\"widths\":[" W("dynamic:x", "1") "," W("aom", "0") "]}"},
	{"width:0.75", .recipe = "{\"widths\":[" W("width:0.25", "1") "," W("width:0.75", "0") "," W("aom", "0") "]}"},
	{"nowhere",
     .recipe = "{\"at\":\"nowhere\",\"widths\":[" W("width:0.25", "1") "," W("width:0.5", "0") "," W("aom", "0") "]}"},
	{"32x", .recipe = "{\"widths\":[" W("aom", "1") "," W("width:0.5", "0") "," W("width:0.25", "0") "]}"},
};

static struct made rewritten(const struct made *m, const struct change *c)
{
	struct wasd_st *st = NULL;
	struct wasd_st_writer *w = wasd_st_writer_create();
	struct made out = {0};
	float values[4096] = {0};
	size_t one = 1;
	CHECK(!wasd_st_open(m->file, m->len, &st, NULL));
	static const char *const keys[] = {"format", "arch", "kind", "recipe"};
	for (int i = 0; i < 4; i++)
		wasd_st_writer_meta(w, keys[i], i == 3 && c->recipe ? c->recipe : wasd_st_meta(st, keys[i]));
	for (size_t i = 0; i < wasd_st_count(st); i++) {
		const struct wasd_st_tensor *t = wasd_st_at(st, i);
		size_t dims[4];
		if (!c->tensor || strcmp(t->name, c->tensor)) {
			wasd_st_writer_add(w, t->name, t->dtype, t->ndims, t->dims, t->data);
			continue;
		}
		if (!c->name)
			continue;
		CHECK(t->count <= 4096);
		memcpy(values, t->data, t->count * sizeof *values);
		memcpy(dims, t->dims, sizeof dims);
		dims[0] = c->rows ? c->rows : dims[0];
		values[0] = c->first != 0 ? c->first : values[0];
		wasd_st_writer_add(w, c->name, c->dtype, t->ndims, dims, values);
	}
	if (c->tensor && !*c->tensor)
		wasd_st_writer_add(w, c->name, WASD_F32, 1, &one, values);
	CHECK(!wasd_st_writer_block(w, &out.file, &out.len, NULL));
	wasd_st_writer_destroy(w);
	wasd_st_close(st);
	return out;
}

static void files_of_anyone(void)
{
	struct made m;
	struct wasd_err err;
	CHECK(!make(&run, "{\"desire\":\"dynamic\",\"budget\":0.5,\"images\":64}", &m, &err));
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct made bad = rewritten(&m, &changes[i]);
		struct wasd_bundle *b = NULL;
		struct wasd_mode_source from = {run.file, run.len, bad.file, bad.len, "dynamic:x", NULL, NULL};
		err = (struct wasd_err){0};
		enum wasd_status s = wasd_bundle_create(&from, &b, &err);
		CHECK_MSG(s && s != WASD_ENOMEM && !b && strstr(err.msg, changes[i].what), "%zu: %s: %s", i,
		          wasd_status_name(s), err.msg);
		wasd_bundle_unref(b);
		done(&bad);
	}
	struct wasd_mode_source from = {run.file, run.len, m.file, m.len, "dynamic:x", NULL, NULL};
	void *onnx = NULL;
	size_t len;
	CHECK(wasd_export_onnx(&from, &onnx, &len, &err) == WASD_EUNSUPPORTED && !onnx);
	CHECK_MSG(strstr(err.msg, "dynamic:x") && strstr(err.msg, "3 networks"), "%s", err.msg);
	uint64_t n = 0;
	struct wasd_bundle *b = NULL;
	while (!b && (n += 1 + n / 8) < 1000000) { /* allocations fail, the first ones all */
		wasd_mem_fail_at(n);
		enum wasd_status s = wasd_bundle_create(&from, &b, &err);
		wasd_mem_fail_at(0);
		CHECK_MSG(!s || s == WASD_ENOMEM, "allocation %llu: %s", (unsigned long long)n, err.msg);
	}
	CHECK(b && n > 20);
	struct wasd_predictor *p = NULL;
	for (n = 0; !p && n < 100;) {
		wasd_mem_fail_at(++n);
		enum wasd_status s = wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err);
		wasd_mem_fail_at(0);
		CHECK(!s || s == WASD_ENOMEM);
	}
	CHECK(p && n > 5);
	wasd_predictor_destroy(p);
	real y[N * CLASSES];
	enum wasd_status s = WASD_ENOMEM;
	p = predictor(b, "openblas");
	for (n = 0; s && n < 1000;) { /* plans and groups of the first answers */
		wasd_mem_fail_at(++n);
		s = wasd_predictor_run(p, x, N, y, &err);
		wasd_mem_fail_at(0);
		CHECK(!s || s == WASD_ENOMEM);
	}
	CHECK(!s && n > 10);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	done(&m);
}

int main(void)
{
	char path[96];
	CHECK(!wasd_threads_init(2, NULL));
	if ((golden = golden_part2())) {
		TEST_RUN(gumbel);
		TEST_RUN(parameters);
		TEST_RUN(mask);
	}
	TEST_RUN(learns);
	tiny_begin();
	data = tiny_glyphs("dynamic", 320, 20, 16, path);
	tiny_go(&run, SLICED, data);
	CHECK_MSG(!run.status, "%s", run.err.msg);
	for (int i = 0; i < N; i++) {
		const uint8_t *px = wasd_dataset_image(data, WASD_TRAIN, (size_t)i);
		for (int k = 0; k < IMAGE; k++)
			x[i * IMAGE + k] = (real)(px[k] / 127.5 - 1);
	}
	TEST_RUN(means_of_the_maps);
	TEST_RUN(made_and_served);
	TEST_RUN(refused);
	TEST_RUN(files_of_anyone);
	tiny_done(&run);
	wasd_dataset_close(data);
	tiny_end();
	cJSON_Delete(golden);
	wasd_threads_done();
	TEST_END();
}
