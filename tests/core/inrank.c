/* tests/core/inrank.c - the strategy inrank and its parts: the golden numbers of the authors' code
 * ($WASD_SHARED/strategies/part2.json), the decomposition, runs whose network becomes one of two layers for each, and
 * what such a run writes. */
#include "golden.h"
#include "tiny.h"

#include "backend/backend.h"
#include "backend/svd.h"
#include "train/checkpoint.h"
#include "train/trainer.h"
#include "wasd/factor.h"
#include "wasd/infer.h"
#include "wasd/model.h"
#include "wasd/safetensors.h"
#include "wasd/slim.h"
#include "weights/inrank.h"

static const cJSON *golden;

static double number(const cJSON *j, const char *key)
{
	double v = NAN;
	CHECK(wasd_json_num(j, key, &v));
	return v;
}

static double at(const cJSON *list, int i)
{
	const cJSON *v = cJSON_GetArrayItem(list, i);
	return v ? v->valuedouble : NAN;
}

/* ---- golden numbers -------------------------------------------------------------------------------------- */

static void explained(void)
{
	static const char *const keys[][2] = {{"explained", "ratio_r0_to_r4"}, {"explained2", "ratio_r0_to_r5"}};
	if (!golden)
		TEST_SKIP("no part2.json");
	for (int i = 0; i < 2; i++) {
		const cJSON *j = wasd_json_get(golden, keys[i][0]), *s = wasd_json_get(j, "s"),
					*want = wasd_json_get(j, keys[i][1]);
		int n = cJSON_GetArraySize(s);
		double sv[16];
		for (int k = 0; k < n; k++)
			sv[k] = at(s, k);
		CHECK(cJSON_GetArraySize(want) > 4);
		for (int k = 0; k < cJSON_GetArraySize(want); k++) {
			CHECK_NEAR(inrank_explained(sv, n, n, k), at(want, k), 1e-7);
			CHECK_NEAR(inrank_explained(sv, i ? 5 : 3, n, k), at(want, k), 1e-7); /* without the zeros */
		}
	}
	CHECK_NEAR(inrank_explained((double[]){0, 0, 0}, 3, 3, 1), 1, 0);
	CHECK_NEAR(inrank_explained((double[]){2, 2, 2}, 3, 3, 1), 1, 0);
	CHECK_NEAR(inrank_explained((double[]){2}, 1, 1, 1), 1, 0);
}

/* The factors of the golden cases, by the formula of the file. */
struct factors {
	int in, out, r, most, q;
	real a[8 * 16], b[16 * 8];
};

static struct factors factors_of(const cJSON *j)
{
	struct factors f = {.in = (int)number(j, "in"), .out = (int)number(j, "out"), .most = (int)number(j, "max_rank")};
	f.r = (int)number(j, "rank_before");
	f.q = f.r + (int)number(j, "buffer");
	for (int r = 0; r < f.most; r++) {
		for (int i = 0; i < f.in; i++)
			f.a[r * f.in + i] = (real)(((3 * r + 5 * i + r * i) % 7 - 3) / 4.0 * pow(0.5, r));
		for (int o = 0; o < f.out; o++)
			f.b[o * f.most + r] = (real)(((2 * o + 3 * r + o * r) % 5 - 2) / 2.0);
	}
	return f;
}

static double product(const real *b, int ldb, const real *a, int in, int q, int o, int i)
{
	double sum = 0;
	for (int k = 0; k < q; k++)
		sum += (double)b[o * ldb + k] * (double)a[k * in + i];
	return sum;
}

/* y = x W^t with the rank and its buffer, before the check. */
static void outputs(const struct factors *f, const cJSON *want)
{
	for (int n = 0; n < 2; n++)
		for (int o = 0; o < f->out; o++) {
			double y = 0;
			for (int i = 0; i < f->in; i++)
				y += (n ? i % 3 - 1 : (i % 5 - 2) / 2.0) * product(f->b, f->most, f->a, f->in, f->q, o, i);
			CHECK_NEAR(y, at(want, n * f->out + o), 1e-6);
		}
}

static void resized(const struct factors *f, const double *sv, const double *u, const double *v, int r, const cJSON *j)
{
	real a[8 * 16], b[16 * 8];
	double fro = 0, off = 0;
	const cJSON *shapes = wasd_json_get(j, "resized_shapes"), *row = wasd_json_get(j, "resized_product_row0");
	inrank_balance(u, sv, v, f->out, f->in, r, b, a);
	CHECK(at(cJSON_GetArrayItem(shapes, 0), 0) == r && at(cJSON_GetArrayItem(shapes, 1), 1) == r &&
	      at(cJSON_GetArrayItem(shapes, 0), 1) == f->in && at(cJSON_GetArrayItem(shapes, 1), 0) == f->out);
	for (int o = 0; o < f->out; o++)
		for (int i = 0; i < f->in; i++) {
			double w = product(b, r, a, f->in, r, o, i);
			fro += w * w;
			if (!i)
				CHECK_NEAR(w, at(row, o), 2e-6);
		}
	CHECK_NEAR(sqrt(fro), number(j, "resized_fro"), 5e-6);
	for (int x = 0; x < r; x++)
		for (int y = 0; y < r; y++) {
			double aa = 0, bb = 0, want = x == y ? sv[x] : 0;
			for (int i = 0; i < f->in; i++)
				aa += (double)(a[x * f->in + i] * a[y * f->in + i]);
			for (int o = 0; o < f->out; o++)
				bb += (double)(b[o * r + x] * b[o * r + y]);
			off = fmax(off, fmax(fabs(aa - want), fabs(bb - want)));
		}
	CHECK_MSG(off < 5e-6, "the factors are out of balance by %g", off);
}

static void rank_cases(void)
{
	const cJSON *j;
	int n = 0;
	if (!golden)
		TEST_SKIP("no part2.json");
	cJSON_ArrayForEach(j, wasd_json_get(golden, "rank_cases")) {
		struct factors f = factors_of(j);
		double sv[8], *work = wasd_calloc(svd_doubles(f.out, f.in, f.q), sizeof *work);
		const double *u, *v;
		const cJSON *want = wasd_json_get(j, "s");
		int least = f.in < f.out ? f.in : f.out;
		CHECK(!svd_of(&(struct svd_factors){f.out, f.in, f.q, f.b, f.a, f.most, f.in}, work, sv, NULL, NULL));
		CHECK(cJSON_GetArraySize(want) <= least);
		for (int k = 0; k < cJSON_GetArraySize(want); k++)
			CHECK_NEAR(k < f.q ? sv[k] : 0, at(want, k), 2e-6);
		outputs(&f, wasd_json_get(j, "y"));
		int r = inrank_grow(sv, f.q, least, f.r, f.q - f.r, f.most, number(j, "threshold"));
		CHECK_INT(r, (int)number(j, "rank_after"));
		CHECK_NEAR(inrank_explained(sv, f.q, least, r), number(j, "ratio"), 1e-6);
		f.q = r + f.q - f.r;
		CHECK(!svd_of(&(struct svd_factors){f.out, f.in, f.q, f.b, f.a, f.most, f.in}, work, sv, &u, &v));
		resized(&f, sv, u, v, r, j);
		wasd_free(work);
		n++;
	}
	CHECK_INT(n, 5);
}

static void ranks_end_at_the_ceiling(void)
{
	const double flat[] = {1, 1, 1, 1, 1, 1, 1, 1};
	CHECK_INT(inrank_grow(flat, 4, 16, 2, 2, 8, 0.9), 3);  /* [2,4): the last of the range */
	CHECK_INT(inrank_grow(flat, 7, 16, 5, 2, 8, 0.9), 5);  /* [5,6) */
	CHECK_INT(inrank_grow(flat, 8, 16, 6, 2, 8, 0.9), 6);  /* empty */
	CHECK_INT(inrank_grow(flat, 3, 16, 1, 2, 8, 0.1), 1);  /* explains enough already */
	CHECK_INT(inrank_grow(flat, 0, 16, 1, 2, 8, 0.99), 1); /* all zero: nothing is left to explain */
}

/* ---- the decomposition --------------------------------------------------------------------------------------- */

/* Any shape and rank: all singular values together give the product back. */
static void full_rank_is_exact(void)
{
	static const int shapes[][3] = {{8, 45, 8}, {40, 12, 12}, {7, 7, 3}, {1, 5, 1}, {33, 90, 20}};
	for (int c = 0; c < 5; c++) {
		int m = shapes[c][0], n = shapes[c][1], q = shapes[c][2];
		size_t nb = (size_t)(m * q), na = (size_t)(q * n);
		real *b = wasd_calloc(2 * (nb + na), sizeof *b), *a = b + nb, *b2 = a + na, *a2 = b2 + nb;
		double *work = wasd_calloc(svd_doubles(m, n, q), sizeof *work), s[64], worst = 0;
		const double *u, *v;
		struct wasd_rng r;
		wasd_rng_init(&r, 1, "svd", (uint64_t)c, 0);
		for (size_t i = 0; i < nb + na; i++)
			b[i] = (real)wasd_rng_between(&r, -1, 1);
		for (int i = 0; c == 2 && i < m; i++) /* two equal columns: a singular value is 0 */
			b[i * q + 1] = b[i * q];
		CHECK(!svd_of(&(struct svd_factors){m, n, q, b, a, q, n}, work, s, &u, &v));
		for (int k = 1; k < q; k++)
			CHECK(s[k] <= s[k - 1] && s[k] >= 0);
		inrank_balance(u, s, v, m, n, q, b2, a2);
		for (int o = 0; o < m; o++)
			for (int i = 0; i < n; i++)
				worst = fmax(worst, fabs(product(b, q, a, n, q, o, i) - product(b2, q, a2, n, q, o, i)));
		CHECK_MSG(worst < (sizeof(real) == 8 ? 1e-12 : 5e-6), "%dx%d of rank %d: off by %g", m, n, q, worst);
		b[0] = NAN;
		CHECK_INT(svd_of(&(struct svd_factors){m, n, q, b, a, q, n}, work, s, NULL, NULL), WASD_ENUMERIC);
		wasd_free(work);
		wasd_free(b);
	}
}

/* ---- two layers in the place of one -------------------------------------------------------------------------- */

/* Every 3x3 convolution of ResNet-18 but the stem at a third of its outputs. */
static void third_of_resnet18(void)
{
	cJSON *all = golden_part2();
	struct wasd_graph *g = NULL, *low = NULL;
	struct wasd_slim *list = NULL;
	struct wasd_factor split[32];
	struct wasd_err err = {0};
	cJSON *model = NULL, *spec = cJSON_Parse("{\"arch\":\"resnet18\"}");
	int n = 0;
	size_t alphas = 0;
	if (!all) {
		cJSON_Delete(spec);
		TEST_SKIP("no part2.json");
	}
	const cJSON *want = wasd_json_get(wasd_json_get(all, "counts"), "resnet18_rank_third"),
				*even = wasd_json_get(wasd_json_get(all, "counts"), "break_even");
	CHECK(!wasd_network_build(spec, (struct wasd_shape){3, 32, 32}, 10, &g, &err));
	for (wasd_node i = 1; i < wasd_graph_nodes(g); i++) {
		struct wasd_node_info node = wasd_graph_node_info(g, i);
		if (node.kh == 3 && node.weight >= 0 && node.inputs[0] != 0)
			split[n++] = (struct wasd_factor){node.name, (node.shape.c + 2) / 3};
	}
	CHECK(!wasd_slim_of(g, NULL, NULL, "low", &list, &err));
	CHECK_MSG(!wasd_factor_model(wasd_slim_model(list), split, n, "low", &model, &err), "%s", err.msg);
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){3, 32, 32}, 10, &low, &err), "%s", err.msg);
	for (int i = 0; i < wasd_graph_params(low); i++)
		alphas += strstr(wasd_graph_param_info(low, i).name, ".alpha") ? wasd_graph_param_info(low, i).count : 0;
	CHECK_NEAR((double)wasd_graph_macs(low, NULL), number(want, "macs"), 0);
	CHECK_NEAR((double)(wasd_graph_param_count(low) - alphas), number(want, "params"), 0);
	CHECK_NEAR((double)wasd_graph_macs(low, NULL) / (double)wasd_graph_macs(g, NULL), number(want, "share_macs"), 1e-8);
	CHECK_NEAR(inrank_break_even(64, 64 * 9), number(even, "64->64 k3"), 1e-6);
	CHECK_NEAR(inrank_break_even(128, 64 * 9), number(even, "64->128 k3"), 1e-6);
	CHECK_NEAR(inrank_break_even(512, 512 * 9), number(even, "512->512 k3"), 1e-6);
	CHECK_NEAR(inrank_break_even(16, 16 * 9), number(even, "16->16 k3"), 1e-6);
	cJSON_Delete(model);
	cJSON_Delete(spec);
	cJSON_Delete(all);
	wasd_slim_destroy(list);
	wasd_graph_destroy(g);
	wasd_graph_destroy(low);
}

/* Every published network can have two layers for each that has factors, and needs less at their first ranks. */
static void every_network(void)
{
	const struct wasd_arch *a;
	for (int i = 0; (a = wasd_arch_at(i)); i++) {
		int side = a->sides[0] ? a->sides[0] : a->min_side > 32 ? a->min_side : 32, n = 0;
		struct wasd_shape in = {3, side, side};
		struct wasd_graph *g = NULL, *low = NULL;
		struct wasd_slim *list = NULL;
		struct weight_chain *c = NULL;
		struct weight_split one;
		struct wasd_factor split[200];
		struct wasd_err err = {0};
		cJSON *model = NULL, *weights = cJSON_Parse("[{\"type\":\"inrank\"}]");
		CHECK_MSG(!wasd_arch_build(a->name, in, 10, NULL, &g, &err), "%s: %s", a->name, err.msg);
		CHECK_MSG(!chain_create(g, &(struct chain_spec){.weights = weights, .seed = 1}, &c, &err), "%s: %s", a->name,
		          err.msg);
		for (; n < 200 && chain_split(c, n, &one); n++)
			split[n] = (struct wasd_factor){wasd_graph_node_info(g, one.param->node).name, one.rank};
		CHECK_MSG(!wasd_slim_of(g, NULL, NULL, "low", &list, &err) &&
		              !wasd_factor_model(wasd_slim_model(list), split, n, "low", &model, &err) &&
		              !wasd_network_build(model, in, 10, &low, &err),
		          "%s: %s", a->name, err.msg);
		CHECK_MSG(n > 0 && wasd_graph_nodes(low) == wasd_graph_nodes(g) + n &&
		              wasd_graph_macs(low, NULL) < wasd_graph_macs(g, NULL) &&
		              wasd_graph_stats_count(low) <= wasd_graph_stats_count(g),
		          "%s: %d layers", a->name, n);
		cJSON_Delete(model);
		cJSON_Delete(weights);
		wasd_slim_destroy(list);
		chain_destroy(c);
		wasd_graph_destroy(g);
		wasd_graph_destroy(low);
	}
}

static void bad_splits(void)
{
	cJSON *list = cJSON_Parse(
			  "{\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":8},{\"type\":\"linear\",\"name\":\"f\","
			  "\"out\":\"classes\"}]}"),
		  *out = NULL;
	struct wasd_err err = {0};
	CHECK_INT(wasd_factor_model(list, &(struct wasd_factor){"b", 2}, 1, "x", &out, &err), WASD_EINVAL);
	CHECK_INT(wasd_factor_model(list, &(struct wasd_factor){"f", 2}, 1, "x", &out, &err), WASD_EINVAL);
	CHECK_MSG(strstr(err.msg, "logits"), "%s", err.msg);
	CHECK(!out);
	cJSON_Delete(list);
}

static void copied(const struct wasd_graph *list, const real *from, const char *param, const struct wasd_graph *low,
                   const real *to, const char *as)
{
	int a = wasd_graph_param_find(list, param), b = wasd_graph_param_find(low, as);
	CHECK_MSG(a >= 0 && b >= 0, "%s, %s", param, as);
	struct wasd_param_info p = wasd_graph_param_info(list, a), q = wasd_graph_param_info(low, b);
	CHECK_MSG(p.count == q.count && !memcmp(from + p.offset, to + q.offset, p.count * sizeof *to), "%s", as);
}

/* "x.mix" is a layer that somebody named so, beside "a", which becomes two. */
static void names_of_halves(void)
{
	struct wasd_graph *list = NULL, *low = NULL;
	struct wasd_err err = {0};
	struct wasd_shape shape = {3, 16, 16};
	cJSON *split = NULL,
		  *j = cJSON_Parse(
			  "{\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":8},{\"type\":\"conv\",\"name\":\"x\",\"out\":8},"
			  "{\"type\":\"relu\"},{\"type\":\"conv\",\"name\":\"x.mix\",\"out\":8},{\"type\":\"globalpool\"},"
			  "{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"f\",\"out\":\"classes\"}]}");
	CHECK_MSG(!wasd_network_build(j, shape, 10, &list, &err) &&
	              !wasd_factor_model(j, &(struct wasd_factor){"a", 2}, 1, "low", &split, &err) &&
	              !wasd_network_build(split, shape, 10, &low, &err),
	          "%s", err.msg);
	size_t n = wasd_graph_param_count(list);
	real *from = wasd_calloc(n, sizeof *from), *to = wasd_calloc(wasd_graph_param_count(low), sizeof *to);
	for (size_t i = 0; i < n; i++)
		from[i] = (real)i + 1;
	wasd_factor_copy_params(list, from, low, to);
	copied(list, from, "a.bias", low, to, "a.mix.bias");
	copied(list, from, "x.bias", low, to, "x.bias");
	copied(list, from, "x.mix.bias", low, to, "x.mix.bias");
	copied(list, from, "x.mix.weight", low, to, "x.mix.weight");
	wasd_free(from);
	wasd_free(to);
	wasd_graph_destroy(list);
	wasd_graph_destroy(low);
	cJSON_Delete(split);
	cJSON_Delete(j);
}

/* ---- runs ------------------------------------------------------------------------------------------------------ */

static struct wasd_dataset *data;

/* Residual, with a kernel of one tap, a stride, biases, and a hidden linear layer. */
#define MODEL \
	"{\"layers\":[{\"type\":\"conv\",\"name\":\"stem\",\"out\":8,\"bias\":false},{\"type\":\"batchnorm\"}," \
	"{\"type\":\"relu\",\"name\":\"r\"},{\"type\":\"conv\",\"name\":\"a\",\"out\":24,\"augment\":true},{\"type\":\"batchnorm\"}," \
	"{\"type\":\"relu\",\"name\":\"ar\"},{\"type\":\"conv\",\"name\":\"b\",\"out\":24,\"bias\":false},{\"type\":\"add\",\"from\":[\"b\",\"ar\"]}," \
	"{\"type\":\"conv\",\"name\":\"c\",\"out\":32,\"stride\":2},{\"type\":\"relu\"},{\"type\":\"conv\",\"name\":\"p\",\"out\":40,\"kernel\":1}," \
	"{\"type\":\"relu\"},{\"type\":\"maxpool\",\"kernel\":4},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"e\",\"out\":32}," \
	"{\"type\":\"relu\"},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]}"
#define SPEC(inrank, more, optimizer) \
	"{\"model\":" MODEL ",\"weights\":[{\"type\":\"inrank\",\"first\":1,\"every\":2,\"stage\":" inrank "}" more \
	"],\"train\":{\"epochs\":3,\"batch\":16,\"precision\":\"fp32-strict\",\"optimizer\":" optimizer "}," \
	"\"checkpoint\":{\"every\":1}}"
#define ADAMW "{\"type\":\"adamw\",\"lr\":0.003}"
#define SGD "{\"type\":\"sgd\",\"lr\":0.02,\"momentum\":0.9,\"weight_decay\":0.01}"
#define WAS ",{\"type\":\"was\",\"layers\":\"all\"}"
static const char *const layers[] = {"a", "b", "c", "p", "e"};

/* The same bits whether a run is cut before, at or after the surgery. */
static void same_bits(const char *spec)
{
	struct tiny_run whole = {0};
	tiny_go(&whole, spec, data);
	CHECK_MSG(!whole.status, "%s: %s", whole.err.pointer, whole.err.msg);
	for (int stop = 2; stop < 24; stop += 3) {
		struct tiny_run cut = {.stop_at = stop};
		tiny_go(&cut, spec, data);
		CHECK_MSG(!cut.status, "stopped at %d: %s", stop, cut.err.msg);
		cut.stop_at = 0;
		if (cut.end != WASD_TRAIN_DONE)
			tiny_go(&cut, spec, data);
		CHECK_MSG(!cut.status && !strcmp(cut.sha, whole.sha), "stopped at %d: other bits. %s", stop, cut.err.msg);
		tiny_done(&cut);
	}
	tiny_done(&whole);
}

static void cut_runs(void)
{
	same_bits(SPEC("1", "", ADAMW));
	same_bits(SPEC("2", "", SGD));
	same_bits(SPEC("1", WAS, SGD));
	same_bits(SPEC("1,\"compute\":\"composed\"", WAS, ADAMW));
}

/* What the factors are after some steps with any gradient, with checks of the ranks and the end of stage 1 among them.
 */
static void steps_with(int threads, real *out, size_t room)
{
	cJSON *model = cJSON_Parse(MODEL),
		  *list = cJSON_Parse("[{\"type\":\"inrank\",\"first\":1,\"every\":2,\"stage\":1,\"threshold\":0.99}]");
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct weight_chain *c = NULL;
	struct wasd_exec *e = NULL;
	struct weight_learned l;
	struct wasd_rng r;
	CHECK(!wasd_threads_init(threads, NULL));
	CHECK(!wasd_network_build(model, (struct wasd_shape){3, 16, 16}, 10, &g, NULL) &&
	      !wasd_model_create(g, 1, &m, NULL));
	CHECK(!chain_create(g, &(struct chain_spec){.weights = list, .seed = 3, .epochs = 2}, &c, NULL));
	CHECK(!chain_attach(c, m, NULL));
	CHECK(
		!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 1, .training = true, .backend = "openblas"}, &e, NULL));
	struct weight_run run = {.batches = 8, .epochs = 2, .master = wasd_model_master(m)};
	CHECK(!chain_begin(c, NULL, &run, NULL));
	wasd_rng_init(&r, 1, "gradient", 0, 0);
	for (; run.step <= 8; run.step++) {
		chain_event(c, &run);
		for (size_t i = 0; i < wasd_graph_param_count(g); i++)
			wasd_model_grad(m)[i] = (real)wasd_rng_between(&r, -1, 1);
		chain_pull(c);
		chain_learn(c, 0.01, run.step);
		chain_apply(c);
	}
	for (int i = 0; chain_learned(c, i, &l); i++) {
		size_t n = weight_learned_elements(&l);
		CHECK(n <= room);
		memcpy(out, l.values, n * sizeof *out);
		out += n;
		room -= n;
	}
	wasd_exec_destroy(e);
	chain_destroy(c);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	cJSON_Delete(list);
	cJSON_Delete(model);
	CHECK(!wasd_threads_init(1, NULL));
}

static void one_thread_and_two(void)
{
	enum { ROOM = 1 << 16 };
	real *one = wasd_calloc(2 * ROOM, sizeof *one), *two = one + ROOM;
	steps_with(1, one, ROOM);
	steps_with(2, two, ROOM);
	CHECK(one[0] != 0 && !memcmp(one, two, ROOM * sizeof *one));
	wasd_free(one);
}

static struct wasd_graph *graph_of(const struct tiny_run *r)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	CHECK(!checkpoint_open(r->file, r->len, &c, NULL) && !checkpoint_graph(&c, &g, NULL));
	checkpoint_done(&c);
	return g;
}

static int rank_in(const struct wasd_graph *g, const char *layer)
{
	char name[32];
	snprintf(name, sizeof name, "%s.weight", layer);
	return wasd_graph_param_info(g, wasd_graph_param_find(g, name)).dims[0];
}

/* The network of the last file has two layers for each, of which the first keeps kernel and stride; nothing of the
 * strategy is left in it. In the first epoch's file W stands under its own name, with factors and ranks beside it. */
static void files(void)
{
	struct tiny_run r = {.until = 1};
	struct wasd_st *st = NULL;
	const char *spec = SPEC("1", "", SGD);
	tiny_go(&r, spec, data);
	CHECK(!r.status && r.end == WASD_TRAIN_PAUSED && !wasd_st_open(r.file, r.len, &st, NULL));
	const struct wasd_st_tensor *a = wasd_st_find(st, "weights.inrank.a.a"),
								*b = wasd_st_find(st, "weights.inrank.a.b"),
								*rank = wasd_st_find(st, "weights.inrank.rank");
	CHECK(a && b && rank && rank->count == 5 && a->dims[0] == 12 && a->dims[1] == 72 && b->dims[1] == 12);
	CHECK(wasd_st_find(st, "weights.inrank.learned.momentum.a.a") && !wasd_st_find(st, "optim.momentum.a.weight"));
	CHECK(wasd_st_find(st, "a.weight")->dims[1] == 8 && !wasd_st_find(st, "weights.master.a.weight"));
	wasd_st_close(st);
	r.until = 0;
	tiny_go(&r, spec, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	struct wasd_graph *g = graph_of(&r);
	CHECK(!wasd_st_open(r.file, r.len, &st, NULL));
	for (size_t i = 0; i < wasd_st_count(st); i++)
		CHECK(strncmp(wasd_st_at(st, i)->name, "weights.", 8));
	for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
		char name[40];
		snprintf(name, sizeof name, "%s.mix.weight", layers[i]);
		int second = wasd_graph_param_find(g, name);
		CHECK(second >= 0 && wasd_graph_param_info(g, second).dims[1] == rank_in(g, layers[i]));
		snprintf(name, sizeof name, "optim.momentum.%s.mix.weight", layers[i]);
		CHECK(wasd_st_find(st, name));
	}
	CHECK(wasd_graph_param_find(g, "a.mix.bias") >= 0 && wasd_graph_param_find(g, "a.bias") < 0 &&
	      wasd_graph_param_find(g, "b.mix.bias") < 0 && wasd_graph_param_find(g, "stem.mix.weight") < 0);
	wasd_st_close(st);
	wasd_graph_destroy(g);
	tiny_done(&r);
}

/* A trainer in front of the epoch in which its network becomes another, after the event of its first step. */
struct paused {
	struct tiny_run run;
	cJSON *spec;
	struct wasd_trainer *t;
	struct wasd_train_hooks hooks;
};

static void paused_at(struct paused *p, const char *spec)
{
	struct wasd_err err = {0};
	*p = (struct paused){.run = {.until = 1}, .spec = cJSON_Parse(spec)};
	tiny_go(&p->run, spec, data);
	CHECK_MSG(!p->run.status, "%s", p->run.err.msg);
	struct wasd_train_opts o = {.spec = p->spec, .data = data, .resume = p->run.file, .resume_len = p->run.len};
	CHECK_MSG(!wasd_trainer_create(&o, &p->t, &err), "%s", err.msg);
	p->t->hooks = &p->hooks;
	chain_event(p->t->weights, trainer_run_at(p->t, trainer_step(p->t)));
}

static void paused_done(struct paused *p)
{
	wasd_trainer_destroy(p->t);
	cJSON_Delete(p->spec);
	tiny_done(&p->run);
}

enum { IMAGES = 8, CLASSES = 10 };

static void logits(struct wasd_trainer *t, bool drawn, real out[IMAGES * CLASSES])
{
	real x[IMAGES * 3 * 16 * 16];
	struct wasd_pass pass = {.n = IMAGES, .bn = WASD_BN_SET, .set = WASD_STATS_TRAIN};
	pass.recipe = drawn ? t->mode[t->n_modes - 1].recipe : NULL;
	for (size_t i = 0; i < IMAGES; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * 3 * 16 * 16);
	CHECK(!wasd_exec_forward(t->exec, x, &pass, NULL));
	memcpy(out, wasd_exec_logits(t->exec), IMAGES * CLASSES * sizeof *out);
}

/* Composed and as two layers the network has the same logits, plain and under the recorded draw; and the optimizer's
 * state that its factors had. */
static void logits_stay(const char *spec)
{
	struct paused p;
	real before[2][IMAGES * CLASSES], after[2][IMAGES * CLASSES];
	double worst = 0, most = 0;
	paused_at(&p, spec);
	int draws = trainer_draws(p.t), blocks = 0;
	for (int d = 0; d <= draws; d++)
		logits(p.t, d, before[d]);
	uint64_t macs = wasd_graph_macs(p.t->graph, NULL);
	while (p.t->blocks[blocks].name)
		blocks++;
	size_t n = (size_t)p.t->spec.batch;
	struct weight_split one;
	real *kept = wasd_calloc(1 << 14, sizeof *kept);
	CHECK(n && chain_split(p.t->weights, 0, &one) && chain_split_values(p.t->weights, one.first, blocks - 1));
	size_t count = (size_t)one.rank * 72;
	memcpy(kept, chain_split_values(p.t->weights, one.first, blocks - 1), count * sizeof *kept);
	CHECK(chain_cuts(p.t->weights, trainer_run_at(p.t, trainer_step(p.t))));
	CHECK(!trainer_cut(p.t, NULL));
	CHECK(!chain_cuts(p.t->weights, trainer_run_at(p.t, trainer_step(p.t))) && p.t->network);
	for (int d = 0; d <= draws; d++) {
		logits(p.t, d, after[d]);
		for (int i = 0; i < IMAGES * CLASSES; i++) {
			worst = fmax(worst, fabs((double)(before[d][i] - after[d][i])));
			most = fmax(most, fabs((double)before[d][i]));
		}
	}
	CHECK_MSG(worst <= 1e-5 * most && most > 0.1, "logits up to %g differ by %g", most, worst);
	int param = wasd_graph_param_find(p.t->graph, "a.weight");
	struct wasd_param_info a = wasd_graph_param_info(p.t->graph, param);
	CHECK(a.count == count && !memcmp(p.t->blocks[blocks - 1].values + a.offset, kept, count * sizeof *kept));
	CHECK(kept[0] != 0 && wasd_graph_macs(p.t->graph, NULL) < macs / 2);
	wasd_free(kept);
	paused_done(&p);
}

static void surgery_keeps_the_logits(void)
{
	logits_stay(SPEC("1", "", ADAMW));
	logits_stay(SPEC("1", WAS, SGD));
}

/* A failed allocation leaves the trainer as it was, until the other network stands. */
static void no_memory(void)
{
	struct paused p;
	struct wasd_err err = {0};
	enum wasd_status s = WASD_ENOMEM;
	real before[IMAGES * CLASSES], after[IMAGES * CLASSES];
	int failed = 0;
	paused_at(&p, SPEC("1", WAS, SGD));
	logits(p.t, true, before);
	for (uint64_t nth = 1; s == WASD_ENOMEM && nth < 6000; nth++) {
		struct wasd_graph *g = p.t->graph;
		wasd_mem_fail_at(nth);
		s = trainer_cut(p.t, &err);
		wasd_mem_fail_at(0);
		failed += s != WASD_OK;
		CHECK_MSG(!s || s == WASD_ENOMEM, "allocation %d: %s", (int)nth, err.msg);
		if (s && p.t->graph != g)
			break;
		CHECK(s || p.t->network);
		if (s)
			logits(p.t, true, after);
		for (int i = 0; s && i < IMAGES * CLASSES; i++)
			CHECK(after[i] == before[i]);
	}
	CHECK(failed > 50 && p.t->network);
	paused_done(&p);
}

/* The deployment of the final file answers as the trainer's network does. */
static void is_served(void)
{
	struct tiny_run r = {0};
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	real x[IMAGES * 3 * 16 * 16], got[IMAGES * CLASSES], want[IMAGES * CLASSES];
	double worst = 0;
	const char *spec = SPEC("1", "", ADAMW);
	tiny_go(&r, spec, data);
	cJSON *j = cJSON_Parse(spec);
	struct wasd_trainer *t = NULL;
	struct wasd_train_opts o = {.spec = j, .data = data, .resume = r.file, .resume_len = r.len};
	CHECK(!wasd_trainer_create(&o, &t, &err));
	logits(t, false, want);
	for (size_t i = 0; i < IMAGES; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * 3 * 16 * 16);
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err) &&
	              !wasd_predictor_run(p, x, IMAGES, got, &err),
	          "%s", err.msg);
	for (int i = 0; i < IMAGES * CLASSES; i++)
		worst = fmax(worst, fabs((double)(got[i] - want[i])));
	CHECK_MSG(worst < 1e-3, "served logits differ by %g", worst);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	tiny_done(&r);
}

/* ---- metrics and the log ------------------------------------------------------------------------------------- */

struct heard {
	double rank[8], macs[8], weights[8];
	int grew, two, began, stays;
};

static enum wasd_status hear_metrics(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err)
{
	struct heard *h = ctx;
	(void)err;
	for (int i = 0; i < m->n; i++) {
		double *to = !strcmp(m->v[i].name, "inrank_rank")    ? h->rank :
		             !strcmp(m->v[i].name, "inrank_macs")    ? h->macs :
		             !strcmp(m->v[i].name, "inrank_weights") ? h->weights :
		                                                       NULL;
		if (to)
			to[m->epoch] = m->v[i].value;
	}
	return WASD_OK;
}

static void hear(void *ctx, const char *level, const char *text)
{
	struct heard *h = ctx;
	(void)level;
	h->began += strstr(text, "5 layers; their ranks may grow up to 11") != NULL;
	h->grew += strstr(text, "the ranks have grown") != NULL;
	h->stays += strstr(text, "stage 2 begins") != NULL;
	h->two += strstr(text, "5 layers became two each") != NULL;
}

/* A second run from the network of one: its pairs stay, and the metrics count them before and after. */
static void again_leaves_pairs_alone(const cJSON *network, double whole)
{
	struct heard h = {0};
	struct wasd_train_hooks hooks = {.ctx = &h, .metrics = hear_metrics};
	struct wasd_trainer *t = NULL;
	enum wasd_train_end end;
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse(SPEC("2", "", ADAMW)), *wide = cJSON_CreateObject();
	cJSON *model = cJSON_Duplicate(network, true);
	cJSON *at = cJSON_GetObjectItemCaseSensitive(model, "layers"), *fc;
	CHECK(at);
	fc = cJSON_DetachItemFromArray(at, cJSON_GetArraySize(at) - 1);
	cJSON_AddStringToObject(wide, "type", "linear");
	cJSON_AddStringToObject(wide, "name", "h");
	cJSON_AddNumberToObject(wide, "out", 40);
	cJSON_AddItemToArray(at, wide);
	cJSON_AddItemToArray(at, fc);
	cJSON_ReplaceItemInObject(j, "model", model);
	CHECK_MSG(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j, .data = data}, &t, &err), "%s", err.msg);
	CHECK_MSG(t && !wasd_trainer_run(t, &hooks, &end, NULL, &err), "%s", err.msg);
	CHECK(wasd_graph_param_find(t->graph, "h.mix.weight") >= 0);
	CHECK(wasd_graph_param_find(t->graph, "a.mix.mix.weight") < 0);
	whole += 32 * 40 + 10 * (40 - 32);
	CHECK_NEAR(h.macs[3], (double)wasd_graph_macs(t->graph, NULL) / whole, 1e-12);
	CHECK(h.weights[2] < 1);
	CHECK_NEAR(h.macs[2], h.macs[3], h.macs[3] / 20);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
}

static void metrics_and_log(void)
{
	struct heard h = {0};
	struct wasd_train_hooks hooks = {.ctx = &h, .metrics = hear_metrics, .log = hear};
	cJSON *j = cJSON_Parse(SPEC("1", "", ADAMW));
	struct wasd_trainer *t = NULL;
	enum wasd_train_end end;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j, .data = data}, &t, &err), "%s", err.msg);
	double whole = (double)wasd_graph_macs(t->graph, NULL);
	CHECK(!wasd_trainer_run(t, &hooks, &end, NULL, &err));
	CHECK_INT(h.began, 1);
	CHECK_INT(h.stays, 1);
	CHECK_INT(h.two, 1);
	CHECK(h.grew > 0 && h.rank[1] > 2 && h.rank[3] == h.rank[2] && h.rank[2] >= h.rank[1]);
	CHECK_NEAR(h.macs[3], (double)wasd_graph_macs(t->graph, NULL) / whole, 1e-12);
	CHECK(h.weights[2] < 1 && h.weights[2] == h.weights[3]);
	again_leaves_pairs_alone(t->network, whole);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
}

/* ---- refusals ------------------------------------------------------------------------------------------------ */

static void refused_at(const char *spec, const char *pointer)
{
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse(spec);
	CHECK(j);
	enum wasd_status s = wasd_train_check(&(struct wasd_train_opts){.spec = j, .data = data},
	                                      &(struct wasd_train_hooks){0}, &err);
	CHECK_MSG(s == WASD_EINVAL && !strcmp(err.pointer, pointer), "%s: \"%s\", want \"%s\": %s", spec, err.pointer,
	          pointer, err.msg);
	cJSON_Delete(j);
}

static void refusals(void)
{
	refused_at(SPEC("3", "", SGD), "/weights/0/stage");
	refused_at(SPEC("1,\"threshold\":2", "", SGD), "/weights/0/threshold");
	refused_at(SPEC("1,\"layers\":\"stem\"", "", SGD), "/weights/0/layers");
	refused_at(SPEC("1", ",{\"type\":\"compander\"}", SGD), "/weights/1");
	refused_at(SPEC("1", ",{\"type\":\"compander\",\"layers\":\"stem\"}", SGD), "/weights/0/compute");
	refused_at(SPEC("1,\"compute\":\"composed\"",
	                ",{\"type\":\"magnitude\",\"layers\":\"stem\",\"retrain\":\"weights\",\"to_epoch\":1,\"end\":2}",
	                SGD),
	           "/weights/1/retrain");
	refused_at(SPEC("1", "", "{\"type\":\"rso\"}"), "/weights");
	refused_at(
		"{\"model\":{\"layers\":[{\"type\":\"conv\",\"name\":\"s\",\"out\":16},{\"type\":\"conv\",\"out\":16,\"name\":"
		"\"a2345678901234567890123456789012345678901234567\"},{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":"
		"\"linear\",\"out\":\"classes\"}]},\"weights\":[{\"type\":\"inrank\"}]}",
		"/weights/0/compute");
}

int main(void)
{
	char path[96];
	cJSON *all = golden_part2();
	golden = wasd_json_get(all, "inrank");
	CHECK(!wasd_threads_init(1, NULL));
	tiny_begin();
	data = tiny_glyphs("inrank", 96, 16, 16, path);
	TEST_RUN(explained);
	TEST_RUN(rank_cases);
	TEST_RUN(ranks_end_at_the_ceiling);
	TEST_RUN(full_rank_is_exact);
	TEST_RUN(third_of_resnet18);
	TEST_RUN(every_network);
	TEST_RUN(bad_splits);
	TEST_RUN(names_of_halves);
	TEST_RUN(cut_runs);
	TEST_RUN(one_thread_and_two);
	TEST_RUN(files);
	TEST_RUN(surgery_keeps_the_logits);
	TEST_RUN(no_memory);
	TEST_RUN(is_served);
	TEST_RUN(metrics_and_log);
	TEST_RUN(refusals);
	wasd_dataset_close(data);
	tiny_end();
	cJSON_Delete(all);
	TEST_END();
}
