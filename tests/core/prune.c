/* Pruning against golden numbers ($WASD_SHARED/strategies/part1.json): schedules, counts, masks, thresholds of other
 * programs, retraining's counts, decay without a gradient; and the rules that hold for any weights. */
#include "golden.h"
#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/optim.h"
#include "weights/prune.h"
#include "weights/schedule.h"
#include "weights/weightmom.h"

static cJSON *golden;

static const cJSON *at(const char *a, const char *b)
{
	const cJSON *j = wasd_json_get(wasd_json_get(golden, a), b);
	CHECK_MSG(j, "%s.%s is not there", a, b);
	return j;
}

static double num(const cJSON *j, const char *key)
{
	double v = NAN;
	wasd_json_num(j, key, &v);
	return v;
}

/* One or two layers without a bias, of na and nb weights, and their weights. */
struct bed {
	struct wasd_graph *g;
	struct weight_param param[2];
	struct prune p;
	real *w;
};

static struct bed bed_of(size_t na, size_t nb)
{
	struct bed b = {0};
	struct wasd_err err = {0};
	CHECK(!wasd_graph_create((struct wasd_shape){(int)na, 1, 1}, &b.g, &err));
	wasd_node x = wasd_graph_linear(b.g, wasd_graph_input(b.g), "a", 1, false);
	b.param[0].node = x;
	if (nb) {
		x = wasd_graph_linear(b.g, x, "b", (int)nb, false);
		b.param[1] = (struct weight_param){.index = 1, .node = x};
	}
	CHECK_MSG(!wasd_graph_finish(b.g, x, &err), "%s", err.msg);
	int n = nb ? 2 : 1;
	for (int i = 0; i < n; i++)
		b.param[i].info = wasd_graph_param_info(b.g, i);
	b.w = wasd_calloc(na + nb, sizeof *b.w);
	return b;
}

/* Call it when b is where it stays: the masks point to its parameters. */
static void bed_masks(struct bed *b, int n)
{
	struct weight_setup s = {.graph = b->g, .param = b->param, .n_params = n};
	CHECK(!prune_create(&b->p, &s, NULL));
}

static void bed_done(struct bed *b)
{
	prune_done(&b->p);
	wasd_graph_destroy(b->g);
	wasd_free(b->w);
}

static uint64_t size_of(const void *ctx, int layer, size_t i)
{
	const struct bed *b = ctx;
	return prune_key_of(fabs((double)b->w[b->param[layer].info.offset + i]));
}

static void schedule(void)
{
	static const struct {
		const char *name;
		struct prune_schedule s;
	} c[] = {
		{"0_to_0.9_t0_100_t1_1100", {100, 1100, 100, 0, 0.9, 3}},
		{"0.5_to_0.875_t0_0_t1_10", {0, 10, 1, 0.5, 0.875, 3}},
	};
	for (size_t i = 0; i < 2; i++) {
		const cJSON *row;
		int n = 0;
		cJSON_ArrayForEach(row, wasd_json_get(at("c_gmp", "schedule"), c[i].name)) {
			CHECK_NEAR(prune_sparsity(&c[i].s, (uint64_t)atoi(row->string), 1), row->valuedouble, 1e-12);
			n++;
		}
		CHECK(n > 5);
	}
}

/* Events at the begin, every D steps, and at the end although D does not divide the ramp; one event if it has no
 * length; no sparsity above the last. */
static void events(void)
{
	struct prune_schedule s = {0.5, 2, 4, 0, 0.8, 3}, once = {1, 1, 4, 0, 0.5, 3};
	char got[200] = "", one[64] = "";
	for (uint64_t t = 0; t < 40; t++) {
		size_t n = strlen(got), k = strlen(one);
		if (prune_is_event(&s, t, 10))
			snprintf(got + n, sizeof got - n, "%d ", (int)t);
		if (prune_is_event(&once, t, 10))
			snprintf(one + k, sizeof one - k, "%d ", (int)t);
	}
	CHECK_STR(got, "5 9 13 17 20 ");
	CHECK_STR(one, "10 ");
	CHECK(prune_sparsity(&s, 20, 10) == 0.8 && prune_sparsity(&once, 10, 10) == 0.5);
}

static void counts(void)
{
	const cJSON *row;
	int n = 0;
	cJSON_ArrayForEach(row, wasd_json_get(at("c_gmp", "keep_count"), "n@s")) {
		double s = atof(strchr(row->string, '@') + 1);
		CHECK_MSG(prune_keep_count((size_t)atoi(row->string), s) == (size_t)row->valuedouble, "%s", row->string);
		n++;
	}
	CHECK_INT(n, 90);
}

static void masks_of(const char *name, size_t n, real (*weight)(size_t i))
{
	const cJSON *row, *bit;
	int rows = 0, bits = 0;
	cJSON_ArrayForEach(row, wasd_json_get(at("c_gmp", "masks"), name)) {
		rows++;
		for (int rule = PRUNE_EXACT; rule <= PRUNE_TIES; rule++) {
			struct bed b = bed_of(n, 0);
			bed_masks(&b, 1);
			for (size_t i = 0; i < n; i++)
				b.w[i] = weight(i);
			CHECK(prune_key_value(prune_threshold(&b.p, 0, atof(row->string), (enum prune_rule)rule, size_of, &b)) ==
			      num(row, "threshold"));
			prune_to(&b.p, 0, atof(row->string), (enum prune_rule)rule, size_of, &b);
			CHECK_MSG((double)b.p.living == num(row, rule ? "tfmot_kept" : "exact_kept"), "%s at %s: %zu are left",
			          name, row->string, b.p.living);
			size_t i = 0;
			if (!rule && n == 72 && !strcmp(row->string, "0.75"))
				cJSON_ArrayForEach(bit, wasd_json_get(at("c_gmp", "masks"), "conv72_exact_mask_0.75")) {
					CHECK_MSG(prune_lives(&b.p.layer[0], i) == (bit->valuedouble != 0), "weight %zu", i);
					i++;
				}
			bits += (int)i;
			bed_done(&b);
		}
	}
	CHECK(rows == 4 && bits == (n == 72 ? 72 : 0));
}

static real conv72(size_t i)
{
	return (real)((int)(5 * i % 37) - 18);
}

static real w101(size_t i)
{
	return (real)(29 * i % 101 + 1) * (i % 2 ? -1 : 1);
}

static void masks(void)
{
	masks_of("conv72", 72, conv72);
	masks_of("w101", 101, w101);
}

static void histogram(void)
{
	const cJSON *row;
	int n = 0;
	cJSON_ArrayForEach(row, wasd_json_get(at("c_gmp", "contrib_histogram"), "w101")) {
		struct bed b = bed_of(101, 0);
		bed_masks(&b, 1);
		for (size_t i = 0; i < 101; i++)
			b.w[i] = w101(i);
		CHECK_NEAR(prune_key_value(prune_threshold(&b.p, 0, atof(row->string), PRUNE_HISTOGRAM, size_of, &b)),
		           num(row, "threshold"), 1e-12);
		prune_to(&b.p, 0, atof(row->string), PRUNE_HISTOGRAM, size_of, &b);
		CHECK_INT(b.p.living, (int)num(row, "kept"));
		bed_done(&b);
		n++;
	}
	CHECK_INT(n, 2);
}

static struct bed conv_and_fc(void)
{
	struct bed b = bed_of(72, 30);
	for (size_t i = 0; i < 72; i++)
		b.w[b.param[0].info.offset + i] = conv72(i);
	for (size_t i = 0; i < 30; i++)
		b.w[b.param[1].info.offset + i] = (real)((int)(7 * i % 31) - 15);
	return b;
}

static void rewinding_counts(void)
{
	const cJSON *row;
	int n = 0;
	cJSON_ArrayForEach(row, at("c_rewinding", "prune_all_to_global_density")) {
		struct bed b = conv_and_fc();
		bed_masks(&b, 2);
		double sparsity = 1 - atof(row->string) / 100;
		CHECK_NEAR(prune_key_value(prune_threshold(&b.p, PRUNE_ALL, sparsity, PRUNE_PERCENTILE, size_of, &b)),
		           num(row, "threshold"), 1e-12);
		prune_to(&b.p, PRUNE_ALL, sparsity, PRUNE_PERCENTILE, size_of, &b);
		CHECK_MSG((double)b.p.layer[0].living == num(row, "kept_conv") &&
		              (double)b.p.layer[1].living == num(row, "kept_fc"),
		          "density %s: %zu and %zu are left", row->string, b.p.layer[0].living, b.p.layer[1].living);
		bed_done(&b);
		n++;
	}
	CHECK_INT(n, 4);
}

/* 20 % of the living, three times: the sparsity of all weights after each round is 1 - 0.8^round. */
static void rewinding_rounds(void)
{
	struct bed b = conv_and_fc();
	const cJSON *row;
	double density = 1;
	int rounds = 0;
	bed_masks(&b, 2);
	cJSON_ArrayForEach(row, at("c_rewinding", "prune_global_20_percent_of_remaining_three_rounds_[conv,fc]")) {
		density *= 0.8;
		prune_to(&b.p, PRUNE_ALL, 1 - density, PRUNE_PERCENTILE, size_of, &b);
		CHECK_INT(b.p.layer[0].living, (int)cJSON_GetArrayItem(row, 0)->valuedouble);
		CHECK_INT(b.p.layer[1].living, (int)cJSON_GetArrayItem(row, 1)->valuedouble);
		rounds++;
	}
	CHECK_INT(rounds, 3);
	bed_done(&b);
}

static cJSON *sgd_of(double lr, double momentum, double decay)
{
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "sgd");
	cJSON_AddNumberToObject(j, "lr", lr);
	cJSON_AddNumberToObject(j, "momentum", momentum);
	cJSON_AddNumberToObject(j, "weight_decay", decay);
	return j;
}

static void masked_sgd(void)
{
	const cJSON *t = at("c_gmp", "masked_sgd_trace"), *g;
	cJSON *j = sgd_of(num(t, "lr"), num(t, "momentum"), num(t, "wd"));
	struct wasd_optim *o = NULL;
	struct bed b = bed_of(4, 0);
	real grad[4];
	int step = 0;
	bed_masks(&b, 1);
	CHECK(!wasd_optim_create(j, 4, &o, NULL));
	for (int i = 0; i < 4; i++) {
		b.w[i] = (real)cJSON_GetArrayItem(wasd_json_get(t, "w0"), i)->valuedouble;
		if (cJSON_GetArrayItem(wasd_json_get(t, "mask"), i)->valuedouble == 0)
			b.p.layer[0].alive[0] &= ~(UINT64_C(1) << i);
	}
	prune_recount(&b.p);
	cJSON_ArrayForEach(g, wasd_json_get(t, "grads")) {
		for (int i = 0; i < 4; i++)
			grad[i] = (real)cJSON_GetArrayItem(g, i)->valuedouble;
		wasd_optim_step(o, b.w, grad, num(t, "lr"));
		prune_mask(&b.p, b.w);
		for (int i = 0; i < 4; i++)
			CHECK_NEAR((double)b.w[i],
			           cJSON_GetArrayItem(cJSON_GetArrayItem(wasd_json_get(t, "w"), step), i)->valuedouble,
			           sizeof(real) == 8 ? 1e-12 : 1e-6);
		step++;
	}
	CHECK_INT(step, 3);
	wasd_optim_destroy(o);
	cJSON_Delete(j);
	bed_done(&b);
}

/* A weight without a data gradient decays as fast as the formula says: what shedding is made of. */
static void decay_without_gradient(void)
{
	const cJSON *row;
	int n = 0;
	cJSON_ArrayForEach(row, at("c_shedding", "decay_without_data_gradient")) {
		cJSON *j = sgd_of(num(row, "lr"), num(row, "mu"), num(row, "wd"));
		struct wasd_optim *o = NULL;
		real w = 1, none = 0;
		CHECK(!wasd_optim_create(j, 1, &o, NULL));
		for (int i = 0; i < (int)num(row, "steps"); i++)
			wasd_optim_step(o, &w, &none, num(row, "lr"));
		CHECK_NEAR((double)w, num(row, "w_over_w0"), sizeof(real) == 8 ? 1e-10 : 1e-4);
		CHECK_NEAR(exp(-num(row, "lr") * num(row, "wd") * num(row, "steps") / (1 - num(row, "mu"))), num(row, "approx"),
		           1e-12);
		CHECK_NEAR((double)w, num(row, "approx"), 5e-3);
		if (!n)
			CHECK_NEAR((double)w, at("c_shedding", "torch_391_steps_lr0.1_wd5e-4_mu0.9")->valuedouble,
			           sizeof(real) == 8 ? 1e-10 : 1e-4);
		wasd_optim_destroy(o);
		cJSON_Delete(j);
		n++;
	}
	CHECK_INT(n, 6);
}

/* WeightMom: every moment, mask and weight of the trace. */
static uint64_t moment_of(const void *ctx, int layer, size_t i)
{
	const real *const *m = ctx;
	return prune_key_of((double)m[layer][i]);
}

static void weightmom_trace(void)
{
	const cJSON *t = at("b_weightmom", "trace"), *e;
	struct bed b = bed_of(4, 6);
	real m0[4], m1[6], *const m[] = {m0, m1};
	static const size_t n[] = {4, 6};
	struct weightmom_quota quota[2];
	double beta = num(t, "beta");
	int events = 0;
	bed_masks(&b, 2);
	for (int l = 0; l < 2; l++)
		for (size_t i = 0; i < n[l]; i++) {
			real *w = &b.w[b.param[l].info.offset + i];
			*w = (real)cJSON_GetArrayItem(cJSON_GetArrayItem(wasd_json_get(t, "w0"), l), (int)i)->valuedouble;
			m[l][i] = (real)fabs((double)*w);
		}
	cJSON_ArrayForEach(e, wasd_json_get(t, "events")) {
		for (int l = 0; l < 2; l++) {
			real *w = b.w + b.param[l].info.offset;
			for (size_t i = 0; i < n[l]; i++)
				w[i] *= (real)(i % 2 ? 0.75 : 1.25);
			weightmom_follow(beta, n[l], m[l], w);
		}
		size_t dead = b.p.n - b.p.living, total = (size_t)num(e, "pruned_in_total"),
			   before[] = {b.p.layer[0].living, b.p.layer[1].living};
		CHECK_INT(weightmom_kill(&b.p, total - dead, 1, quota, moment_of, m), total - dead);
		prune_mask(&b.p, b.w);
		for (int l = 0; l < 2; l++)
			CHECK_INT(before[l] - b.p.layer[l].living,
			          (int)cJSON_GetArrayItem(wasd_json_get(e, "per_layer"), l)->valuedouble);
		for (int l = 0; l < 2; l++)
			for (int i = 0; i < (int)n[l]; i++) {
				const cJSON *of = cJSON_GetArrayItem(wasd_json_get(e, "M"), l),
							*alive = cJSON_GetArrayItem(wasd_json_get(e, "alive"), l),
							*w = cJSON_GetArrayItem(wasd_json_get(e, "w"), l);
				CHECK((double)m[l][i] == cJSON_GetArrayItem(of, i)->valuedouble);
				CHECK(prune_lives(&b.p.layer[l], (size_t)i) == (cJSON_GetArrayItem(alive, i)->valuedouble != 0));
				CHECK((double)b.w[b.param[l].info.offset + (size_t)i] == cJSON_GetArrayItem(w, i)->valuedouble);
			}
		events++;
	}
	CHECK_INT(events, 3);
	bed_done(&b);
}

/* The number that dies is exact whatever the layers' sizes; a layer keeps one weight. With beta 0 the moments are the
 * magnitudes. */
static void weightmom_quotas(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 6, "quotas", 0, 0);
	for (int round = 0; round < 300; round++) {
		struct bed b = bed_of(1 + wasd_rng_below(&r, 40), 1 + wasd_rng_below(&r, 400));
		struct weightmom_quota quota[2];
		bed_masks(&b, 2);
		for (int k = 0; k < 3; k++) {
			size_t living = b.p.living, n = wasd_rng_below(&r, 300), can = living - 2, want = n < can ? n : can;
			CHECK_INT(weightmom_kill(&b.p, n, round % 3, quota, size_of, &b), want);
			CHECK(b.p.living == living - want && b.p.layer[0].living && b.p.layer[1].living);
		}
		bed_done(&b);
	}
	real m[3] = {7, 8, 9};
	const real w[3] = {-1, 0, 2};
	weightmom_follow(0, 3, m, w);
	CHECK(m[0] == 1 && m[1] == 0 && m[2] == 2);
	CHECK_NEAR(weightmom_share(0.9, 5, 10), 1 - sqrt(0.1), 1e-15);
}

/* Any weights, many with equal keys: the number that die is exact, those that live are never lower than those that
 * died, the dead stay dead, and a layer keeps one. */
static void any_weights(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 5, "prune", 0, 0);
	for (int round = 0; round < 200; round++) {
		size_t na = 1 + wasd_rng_below(&r, 300), nb = 1 + wasd_rng_below(&r, 100);
		struct bed b = bed_of(na, nb);
		bed_masks(&b, 2);
		for (size_t i = 0; i < na + nb; i++)
			b.w[i] = (real)wasd_rng_below(&r, round % 2 ? 4 : 1000000) * (i < na ? 1 : 5);
		for (int k = 0; k < 4; k++) {
			enum prune_ties ties = (enum prune_ties)wasd_rng_below(&r, 2);
			int layer = (int)wasd_rng_below(&r, 3) - 1;
			size_t living = layer < 0 ? b.p.living : b.p.layer[layer].living, n = wasd_rng_below(&r, 120),
				   can = layer < 0 ? living - 2 : living - 1;
			size_t before = b.p.living, died = prune_kill(&b.p, layer, n, size_of, &b, ties);
			CHECK_INT(died, n < can ? n : can);
			CHECK_INT(b.p.living, before - died);
			prune_recount(&b.p);
			CHECK_INT(b.p.living, before - died);
			CHECK(b.p.layer[0].living && b.p.layer[1].living);
		}
		bed_done(&b);
	}
}

int main(void)
{
	CHECK(!wasd_threads_init(1, NULL));
	golden = golden_part1();
	TEST_RUN(events);
	TEST_RUN(any_weights);
	TEST_RUN(weightmom_quotas);
	if (golden) {
		TEST_RUN(schedule);
		TEST_RUN(counts);
		TEST_RUN(masks);
		TEST_RUN(histogram);
		TEST_RUN(rewinding_counts);
		TEST_RUN(rewinding_rounds);
		TEST_RUN(masked_sgd);
		TEST_RUN(decay_without_gradient);
		TEST_RUN(weightmom_trace);
	}
	cJSON_Delete(golden);
	TEST_END();
}
