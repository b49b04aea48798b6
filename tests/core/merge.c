/* Merging of networks (core/merge): assignment against all permutations, weight matching against the golden numbers of
 * $WASD_SHARED/strategies/part2.json, permutations that change no logit, recovery of a permuted copy, mixing, views. */
#include "golden.h"
#include "merge/assign.h"
#include "merge/match.h"
#include "merge/views.h"
#include "wasd/model.h"
#include "wasd/weights.h"

static const cJSON *golden;
static const struct merge_tick no_tick;

/* ---- assignment ------------------------------------------------------------------------------------------------- */

static double value_of(int n, const double *gain, const int *to)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += gain[i * n + to[i]];
	return sum;
}

/* The largest value of all ways to give rows `from` and up the columns that are left in v. */
static double best_of(int n, const double *gain, int *v, int from)
{
	double best = -INFINITY;
	if (from == n)
		return value_of(n, gain, v);
	for (int k = from; k < n; k++) {
		int x = v[from];
		v[from] = v[k], v[k] = x;
		double one = best_of(n, gain, v, from + 1);
		best = one > best ? one : best;
		v[k] = v[from], v[from] = x;
	}
	return best;
}

static bool is_permutation(int n, const int *v)
{
	int seen = 0;
	for (int i = 0; i < n; i++)
		if (v[i] >= 0 && v[i] < n)
			seen |= 1 << v[i];
	return seen == (1 << n) - 1;
}

static void assignments_are_the_best(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 3, "assign", 0, 0);
	for (int n = 1; n <= 7; n++)
		for (int turn = 0; turn < 60; turn++) {
			double gain[49];
			int to[7], all[7];
			for (int i = 0; i < n * n; i++) /* every second turn with many ties */
				gain[i] = turn % 2 ? wasd_rng_between(&r, -1, 1) : (double)wasd_rng_below(&r, 3) - 1;
			for (int i = 0; i < n; i++)
				all[i] = i;
			CHECK(!merge_assign(n, gain, to, NULL));
			CHECK(is_permutation(n, to));
			CHECK_NEAR(value_of(n, gain, to), best_of(n, gain, all, 0), 1e-12);
			for (int i = 0; i < n; i++)
				for (int k = i + 1; k < n; k++)
					CHECK_MSG(to[i] < to[k] ||
					              gain[i * n + to[k]] + gain[k * n + to[i]] < gain[i * n + to[i]] + gain[k * n + to[k]],
					          "n %d, turn %d: rows %d and %d could change for free", n, turn, i, k);
		}
}

static void ties_take_the_first(void)
{
	double zero[36] = {0}, bad[4] = {1, 2, NAN, 3};
	int to[6], left[2] = {7, 7};
	struct wasd_err err = {0};
	CHECK(!merge_assign(6, zero, to, NULL));
	for (int i = 0; i < 6; i++)
		CHECK_INT(to[i], i);
	CHECK(!merge_assign(0, zero, to, NULL));
	CHECK_INT(merge_assign(2, bad, left, &err), WASD_ENUMERIC);
	CHECK(left[0] == 7 && left[1] == 7 && strstr(err.msg, "nan"));
}

/* ---- the golden network ----------------------------------------------------------------------------------------- */

enum { MLP = 53 };

/* Three linear layers, 3 -> 4 -> 5 -> 2: tensors 4x3, 4, 5x4, 5, 2x5, 2, in the order of the master block. */
static struct wasd_graph *mlp(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){3, 1, 1}, &g, NULL));
	wasd_node x = wasd_graph_flatten(g, wasd_graph_input(g));
	x = wasd_graph_relu(g, wasd_graph_linear(g, x, "l0", 4, true));
	x = wasd_graph_relu(g, wasd_graph_linear(g, x, "l1", 5, true));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "l2", 2, true), NULL));
	CHECK_INT(wasd_graph_param_count(g), MLP);
	return g;
}

/* a: ((3i^2 + (5+t)i + 2t) * 7) mod 19 - 9; c: ((5i^2 + (3+t)i + 4t+1) * 11) mod 23 - 11. */
static void fill(real *a, real *c)
{
	static const int counts[] = {12, 4, 20, 5, 10, 2};
	for (int t = 0, at = 0; t < 6; t++)
		for (int i = 0; i < counts[t]; i++, at++) {
			a[at] = (real)(((3 * i * i + (5 + t) * i + 2 * t) * 7) % 19 - 9);
			c[at] = (real)(((5 * i * i + (3 + t) * i + 4 * t + 1) * 11) % 23 - 11);
		}
}

static struct merge_groups *groups_of(const struct wasd_graph *g, const struct wasd_draw *d)
{
	struct merge_groups *out = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!merge_groups_create(g, d, &out, &err), "%s", err.msg);
	return out;
}

/* Columns of group p: position i takes the place of to[i]. */
static void set_group(const struct merge_groups *g, int p, const int *to, int *perm)
{
	for (int i = 0; i < g->group[p].n; i++)
		perm[g->group[p].unit[i]] = g->group[p].unit[to[i]];
}

static void read_ints(const cJSON *list, int *out)
{
	for (int i = 0; i < cJSON_GetArraySize(list); i++)
		out[i] = cJSON_GetArrayItem(list, i)->valueint;
}

static void check_group(const struct merge_groups *g, int p, const int *perm, const cJSON *want)
{
	CHECK_INT(g->group[p].n, cJSON_GetArraySize(want));
	for (int i = 0; i < g->group[p].n; i++)
		CHECK_INT(g->index[perm[g->group[p].unit[i]]], cJSON_GetArrayItem(want, i)->valueint);
}

static void check_gain(struct merge_groups *g, const real *a, const real *b, int p, const cJSON *rows,
                       const cJSON *best, double *value)
{
	int n = g->group[p].n, to[5];
	double gain[25];
	CHECK(!merge_gain(g, a, b, p, gain, NULL));
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			CHECK_NEAR(gain[i * n + j], cJSON_GetArrayItem(cJSON_GetArrayItem(rows, i), j)->valuedouble, 0);
	CHECK(!merge_assign(n, gain, to, NULL));
	for (int i = 0; i < n; i++)
		CHECK_INT(to[i], cJSON_GetArrayItem(best, i)->valueint);
	*value = value_of(n, gain, to);
}

static void golden_mlp(void)
{
	const cJSON *t = wasd_json_get(golden, "mlp"), *found = wasd_json_get(t, "perm_found");
	struct wasd_graph *graph = mlp();
	struct merge_groups *g = groups_of(graph, NULL);
	real a[MLP], b[MLP], c[MLP], back[MLP];
	int perm[64], to[5];
	double value, want;
	struct merge_match m;
	fill(a, c);
	CHECK(g->n == 2 && g->units <= 64);
	merge_groups_identity(g, perm);
	read_ints(wasd_json_get(t, "p0"), to);
	set_group(g, 0, to, perm);
	read_ints(wasd_json_get(t, "p1"), to);
	set_group(g, 1, to, perm);
	merge_groups_place(g, perm);
	merge_permute_params(g, a, b);
	merge_groups_identity(g, perm);
	merge_groups_place(g, perm);
	check_gain(g, a, b, 0, wasd_json_get(t, "gain_P0_start"), wasd_json_get(t, "best_P0_start"), &value);
	CHECK(wasd_json_num(t, "best_value_P0", &want));
	CHECK_NEAR(value, want, 0);
	check_gain(g, a, b, 1, wasd_json_get(t, "gain_P1_start"), wasd_json_get(t, "best_P1_start"), &value);
	CHECK(!merge_match_weights(g, a, b, NULL, perm, no_tick, &m, NULL));
	check_group(g, 0, perm, wasd_json_get(found, "P_0"));
	check_group(g, 1, perm, wasd_json_get(found, "P_1"));
	merge_permute_params(g, b, back);
	CHECK(!memcmp(a, back, sizeof a) && cJSON_IsTrue(wasd_json_get(t, "recovered")));
	merge_groups_destroy(g);
	wasd_graph_destroy(graph);
}

static void check_order(const cJSON *row, const int *order)
{
	struct wasd_graph *graph = mlp();
	struct merge_groups *g = groups_of(graph, NULL);
	real a[MLP], c[MLP];
	int perm[64];
	double want;
	struct merge_match m;
	fill(a, c);
	merge_groups_identity(g, perm);
	CHECK(!merge_match_weights(g, a, c, order, perm, no_tick, &m, NULL));
	const cJSON *in = wasd_json_get(row, "perm") ? wasd_json_get(row, "perm") : row;
	check_group(g, 0, perm, wasd_json_get(in, "P_0"));
	check_group(g, 1, perm, wasd_json_get(in, "P_1"));
	CHECK(wasd_json_num(row, "inner_product", &want));
	CHECK_NEAR(m.after, want, 0);
	CHECK_NEAR(m.before, 11, 0);
	if (wasd_json_num(row, "passes", &want))
		CHECK_NEAR(m.sweeps, want, 0);
	merge_groups_destroy(g);
	wasd_graph_destroy(graph);
}

/* The authors' runs take the groups in a random order: each is one of our two. */
static void golden_orders(void)
{
	const cJSON *row, *other = wasd_json_get(golden, "other");
	double before, first;
	CHECK(wasd_json_num(other, "inner_before", &before));
	CHECK_NEAR(before, 11, 0);
	cJSON_ArrayForEach(row, wasd_json_get(golden, "match_order")) {
		int order[2];
		read_ints(wasd_json_get(row, "order"), order);
		check_order(row, order);
	}
	check_order(cJSON_GetArrayItem(wasd_json_get(golden, "match_order"), 0), NULL);
	cJSON_ArrayForEach(row, wasd_json_get(other, "runs")) {
		int order[2] = {0, 1};
		CHECK(wasd_json_num(row, "inner_product", &first));
		order[0] = first > 905;
		order[1] = !order[0];
		check_order(row, order);
	}
}

/* A copy that is aligned first gives the original for any share; the authors' variant with a random permutation of both
 * gives the same numbers. */
static void golden_mixing(void)
{
	const cJSON *pair = wasd_json_get(golden, "mixup_perm_pair"), *w0 = wasd_json_get(golden, "mixup_naive_W0");
	double share;
	real a[MLP], c[MLP], mixed[MLP];
	fill(a, c);
	CHECK(wasd_json_num(pair, "alpha", &share) && cJSON_IsTrue(wasd_json_get(pair, "equals_a")));
	merge_mix((const real *[]){a, a}, (double[]){share, 1 - share}, 2, MLP, mixed);
	CHECK(!memcmp(a, mixed, sizeof a));
	for (int i = 0; i < 12; i++)
		CHECK_NEAR(mixed[i], cJSON_GetArrayItem(w0, i)->valuedouble, 0);
}

static void golden_views(void)
{
	static const char *const options[][2] = {{"dropout", "dropout"},
	                                         {"noise", "noise_times_std"},
	                                         {"scale", "scale"},
	                                         {"quantile", "quantile"}};
	const cJSON *defaults = wasd_json_get(golden, "defaults");
	real a[MLP], c[MLP], four[] = {1, 2, 3, 4};
	double want, count, quantile;
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		const struct wasd_view *v = wasd_views;
		while (v->name && strcmp(v->name, options[i][0]))
			v++;
		CHECK(v->name && wasd_json_num(defaults, options[i][1], &want));
		CHECK_NEAR(atof(v->option.def), want, 0);
	}
	CHECK(wasd_json_num(golden, "std_unbiased_1234", &want));
	CHECK_NEAR(merge_std(four, 4), want, 1e-7); /* theirs in float32 */
	fill(a, c);
	CHECK(wasd_json_num(golden, "count", &count) && wasd_json_num(golden, "quantile_0.1_of_abs_a", &quantile));
	CHECK_NEAR(count, MLP, 0);
	CHECK_NEAR(merge_quantile(a, MLP, 0.1), quantile, 1e-6); /* theirs in float32 */
	CHECK(wasd_json_num(golden, "zeroed_by_it", &want));
	int zeroed = 0;
	for (int i = 0; i < MLP; i++)
		zeroed += fabs((double)a[i]) < quantile;
	CHECK_INT(zeroed, (int)want);
}

/* ---- networks --------------------------------------------------------------------------------------------------- */

static const char concat[] =
	"{\"name\":\"parts\",\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":6,\"augment\":true},{\"type\":"
	"\"batchnorm\"},{\"type\":\"relu\",\"name\":\"ar\"},{\"type\":\"conv\",\"name\":\"b\",\"out\":4},{\"type\":"
	"\"batchnorm\",\"name\":\"bbn\"},{\"type\":\"conv\",\"name\":\"c\",\"out\":6},{\"type\":\"add\",\"from\":[\"c\","
	"\"ar\"],\"name\":\"sum\"},{\"type\":\"concat\",\"from\":[\"sum\",\"bbn\"]},{\"type\":\"conv\",\"name\":\"d\",\"out\":5,"
	"\"kernel\":1},{\"type\":\"maxpool\",\"kernel\":4},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"fc\",\"out\":"
	"\"classes\"}]}";
/* A convolution around which its input is added: both axes of its weights are one group. */
static const char coupled[] =
	"{\"name\":\"coupled\",\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":7},{\"type\":\"relu\",\"name\":\"r\"},{"
	"\"type\":\"conv\",\"name\":\"b\",\"out\":7},{\"type\":\"add\",\"from\":[\"b\",\"r\"]},{\"type\":\"globalpool\"},{"
	"\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}";

/* A model with parameters and statistics of no special value. */
static struct wasd_model *model_of(const cJSON *network, struct wasd_shape in, uint64_t seed)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_err err = {0};
	struct wasd_rng r;
	CHECK_MSG(!wasd_network_build(network, in, 5, &g, &err) && !wasd_model_create(g, seed, &m, &err), "%s", err.msg);
	wasd_rng_init(&r, seed, "statistics", 0, 0);
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(g, i);
		real *v = wasd_model_stats(m, WASD_STATS_AOM);
		for (int c = 0; c < b.channels; c++) {
			v[b.mean_offset + (size_t)c] = (real)wasd_rng_between(&r, -0.1, 0.1);
			v[b.var_offset + (size_t)c] = (real)wasd_rng_between(&r, 0.5, 2);
		}
	}
	for (int i = 0; i < wasd_graph_params(g); i++) { /* biases, scales and shifts begin as constants */
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		for (size_t k = 0; p.ndims == 1 && k < p.count; k++)
			wasd_model_master(m)[p.offset + k] += (real)wasd_rng_between(&r, -0.1, 0.1);
	}
	wasd_graph_destroy(g);
	return m;
}

enum { IMAGES = 2, CLASSES = 5 };

static void logits_of(struct wasd_model *m, const struct wasd_recipe *recipe, real *out)
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_rng r;
	size_t count = IMAGES * wasd_shape_count(wasd_graph_input_shape(wasd_model_graph(m)));
	real *x = wasd_calloc(count, sizeof *x);
	wasd_rng_init(&r, 1, "x", 0, 0);
	for (size_t i = 0; i < count; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	struct wasd_exec_opts o = {.batch = IMAGES, .precision = WASD_PRECISION_FP32_STRICT};
	struct wasd_pass p = {.n = IMAGES, .bn = WASD_BN_SET, .set = WASD_STATS_AOM, .recipe = recipe};
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err) && !wasd_exec_forward(e, x, &p, &err), "%s", err.msg);
	memcpy(out, wasd_exec_logits(e), IMAGES * CLASSES * sizeof *out);
	wasd_exec_destroy(e);
	wasd_free(x);
}

/* Places b's channels as perm says, weights and statistics. */
static void place(struct merge_groups *g, const int *perm, struct wasd_model *from, struct wasd_model *to)
{
	merge_groups_place(g, perm);
	merge_permute_params(g, wasd_model_master(from), wasd_model_master(to));
	merge_permute_stats(g, wasd_model_stats(from, WASD_STATS_AOM), wasd_model_stats(to, WASD_STATS_AOM));
}

static bool moves(const struct merge_groups *g, const int *perm)
{
	bool all = true;
	for (int p = 0; p < g->n; p++) {
		bool one = false;
		for (int i = 0; i < g->group[p].n; i++)
			one |= perm[g->group[p].unit[i]] != g->group[p].unit[i];
		all &= one;
	}
	return all;
}

static void shuffle(const struct merge_groups *g, uint64_t seed, int *perm)
{
	struct wasd_rng r;
	uint32_t order[4096];
	wasd_rng_init(&r, seed, "perm", 0, 0);
	merge_groups_identity(g, perm);
	for (int p = 0; p < g->n; p++) {
		int n = g->group[p].n;
		for (int i = 0; i < n; i++)
			order[i] = (uint32_t)i;
		do
			wasd_rng_shuffle(&r, order, (size_t)n);
		while (order[0] == 0 && n == 2);
		for (int i = 0; i < n; i++)
			perm[g->group[p].unit[i]] = g->group[p].unit[order[i]];
	}
}

static void near(const real *a, const real *b, const char *what)
{
	double size = 1;
	for (int i = 0; i < IMAGES * CLASSES; i++)
		size = fmax(size, fabs((double)a[i]));
	for (int i = 0; i < IMAGES * CLASSES; i++)
		CHECK_MSG(fabs((double)a[i] - (double)b[i]) <= 1e-5 * size, "%s: logit %d is %g, want %g", what, i,
		          (double)b[i], (double)a[i]);
}

/* Aligns b to a, mixes, and compares with a bit by bit. */
static void recover(struct merge_groups *g, const struct wasd_model *a, const struct wasd_model *b, const char *name)
{
	size_t n = wasd_graph_param_count(g->graph);
	struct wasd_model *x = (struct wasd_model *)(uintptr_t)a, *y = (struct wasd_model *)(uintptr_t)b;
	int *found = wasd_calloc((size_t)g->units, sizeof *found);
	real *back = wasd_calloc(n, sizeof *back), *mixed = wasd_calloc(n, sizeof *mixed);
	struct merge_match m;
	struct wasd_err err = {0};
	merge_groups_identity(g, found);
	CHECK_MSG(!merge_match_weights(g, wasd_model_master(x), wasd_model_master(y), NULL, found, no_tick, &m, &err),
	          "%s: %s", name, err.msg);
	CHECK(m.after >= m.before);
	merge_permute_params(g, wasd_model_master(y), back);
	CHECK_MSG(!memcmp(back, wasd_model_master(x), n * sizeof *back), "%s: not recovered", name);
	merge_mix((const real *[]){wasd_model_master(x), back}, (double[]){0.3, 0.7}, 2, n, mixed);
	for (size_t i = 0; i < n; i++)
		if (fabs((double)mixed[i] - (double)back[i]) > (sizeof(real) == 4 ? 0 : 1e-15)) {
			CHECK_MSG(false, "%s: weight %zu of the mix differs", name, i);
			break;
		}
	wasd_free(found);
	wasd_free(back);
	wasd_free(mixed);
}

/* The recorded draw of the network's own law, in `parts` parts; false: it transforms nothing. */
static bool draw_of(const struct wasd_graph *g, const cJSON *network, int parts, struct wasd_draw *d)
{
	const char *paper;
	struct wasd_was *w = NULL;
	if (wasd_network_was(network, &paper, NULL) || !strcmp(paper, "false"))
		return false;
	cJSON *was = cJSON_Parse(paper);
	cJSON_DeleteItemFromObjectCaseSensitive(was, "groups");
	cJSON_AddNumberToObject(was, "groups", parts);
	struct wasd_err err = {0};
	bool ok = !wasd_was_create(g, was, paper, &w, &err) && w && !wasd_was_record(w, g, 4, d, &err);
	CHECK_MSG(ok || !err.status, "%s", err.msg);
	wasd_was_destroy(w);
	cJSON_Delete(was);
	return ok;
}

/* The largest networks would take long, and have nothing that the others have not. */
enum { RECOVER_MAX = 6000000 };

/* Permuted weights give the same logits, plain and under a draw (in one part, or with the groups that four parts
 * leave); a permuted copy is recovered. */
static void check_network(const cJSON *network, struct wasd_shape in)
{
	const char *name = wasd_network_name(network);
	struct wasd_model *a = model_of(network, in, 1), *b = model_of(network, in, 2);
	const struct wasd_graph *graph = wasd_model_graph(a);
	real want[IMAGES * CLASSES], have[IMAGES * CLASSES];
	for (int parts = 1; parts <= 4; parts += 3) {
		struct wasd_draw d = {0};
		bool drawn = draw_of(graph, network, parts, &d);
		struct merge_groups *g = groups_of(graph, drawn ? &d : NULL);
		int *perm = wasd_calloc((size_t)g->units, sizeof *perm);
		CHECK_MSG(g->n > 0, "%s has no groups", name);
		shuffle(g, 5, perm);
		CHECK_MSG(moves(g, perm), "%s", name);
		place(g, perm, a, b);
		logits_of(a, NULL, want);
		logits_of(b, NULL, have);
		near(want, have, name);
		if (drawn) {
			logits_of(a, &d.recipe, want);
			logits_of(b, &d.recipe, have);
			near(want, have, name);
		}
		if (parts == 1 && wasd_graph_param_count(graph) < RECOVER_MAX)
			recover(g, a, b, name);
		wasd_free(perm);
		merge_groups_destroy(g);
		wasd_draw_done(&d);
	}
	wasd_model_destroy(a);
	wasd_model_destroy(b);
}

static void every_network_computes_the_same(void)
{
	const struct wasd_arch *arch;
	for (int i = 0; (arch = wasd_arch_at(i)); i++) {
		int side = arch->sides[0] ? arch->sides[0] : arch->min_side;
		cJSON *network = cJSON_CreateObject();
		cJSON_AddStringToObject(network, "arch", arch->name);
		check_network(network, (struct wasd_shape){3, side, side});
		cJSON_Delete(network);
	}
	const char *const own[] = {concat, coupled};
	for (int i = 0; i < 2; i++) {
		cJSON *network = cJSON_Parse(own[i]);
		check_network(network, (struct wasd_shape){3, 8, 8});
		cJSON_Delete(network);
	}
}

/* ---- matching --------------------------------------------------------------------------------------------------- */

struct watch {
	struct merge_groups *g;
	const real *a, *b;
	double last;
	int calls, stop_at;
};

static bool watch(void *ctx)
{
	struct watch *w = ctx;
	double now = merge_inner(w->g, w->a, w->b);
	CHECK_MSG(now >= w->last - 1e-9 * fabs(w->last), "the inner product falls from %.17g to %.17g", w->last, now);
	w->last = now;
	return ++w->calls != w->stop_at;
}

/* Unrelated networks: every step of every group keeps or raises the inner product. */
static void never_falls(void)
{
	const char *const own[] = {concat, coupled, "{\"arch\":\"lenet\"}"};
	for (int i = 0; i < 3; i++) {
		cJSON *network = cJSON_Parse(own[i]);
		struct wasd_shape in = {3, i < 2 ? 8 : 32, i < 2 ? 8 : 32};
		struct wasd_model *a = model_of(network, in, 1), *b = model_of(network, in, 2);
		struct merge_groups *g = groups_of(wasd_model_graph(a), NULL);
		int *perm = wasd_calloc((size_t)g->units, sizeof *perm), *again = wasd_calloc((size_t)g->units, sizeof *perm);
		struct watch w = {g, wasd_model_master(a), wasd_model_master(b), -INFINITY, 0, 0};
		struct merge_match m;
		merge_groups_identity(g, perm);
		CHECK(!merge_match_weights(g, w.a, w.b, NULL, perm, (struct merge_tick){watch, &w}, &m, NULL));
		CHECK(m.after > m.before && m.sweeps > 1 && m.sweeps < MERGE_SWEEPS_MAX && w.calls == m.sweeps * g->n);
		CHECK_INT(g->group[0].coupled, i == 1);
		merge_groups_identity(g, again);
		wasd_threads_init(1 + i % 2, NULL); /* as many threads or others: the same */
		CHECK(!merge_match_weights(g, w.a, w.b, NULL, again, no_tick, &m, NULL));
		CHECK(!memcmp(perm, again, (size_t)g->units * sizeof *perm));
		/* A network and itself: nothing moves, in one sweep. */
		merge_groups_identity(g, again);
		CHECK(!merge_match_weights(g, w.a, w.a, NULL, again, no_tick, &m, NULL));
		CHECK_INT(m.sweeps, 1);
		for (int u = 0; u < g->units; u++)
			CHECK_INT(again[u], u);
		w = (struct watch){g, w.a, w.b, -INFINITY, 0, 2};
		merge_groups_identity(g, again);
		merge_groups_place(g, again);
		CHECK_INT(merge_match_weights(g, w.a, w.b, NULL, again, (struct merge_tick){watch, &w}, &m, NULL),
		          WASD_ECANCELLED);
		wasd_free(perm);
		wasd_free(again);
		merge_groups_destroy(g);
		wasd_model_destroy(a);
		wasd_model_destroy(b);
		cJSON_Delete(network);
	}
	wasd_threads_init(1, NULL);
}

static void bad_numbers(void)
{
	struct wasd_graph *graph = mlp();
	struct merge_groups *g = groups_of(graph, NULL);
	real a[MLP], c[MLP];
	int perm[64];
	struct merge_match m;
	struct wasd_err err = {0};
	fill(a, c);
	c[17] = (real)NAN;
	merge_groups_identity(g, perm);
	CHECK_INT(merge_match_weights(g, a, c, NULL, perm, no_tick, &m, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "l1.weight");
	CHECK(strstr(err.msg, "element 1 is"));
	merge_groups_destroy(g);
	wasd_graph_destroy(graph);
}

/* ---- mixing and views ------------------------------------------------------------------------------------------- */

static void mixes(void)
{
	static const real a[] = {1, (real)-0.0, (real)0.1, 3}, b[] = {5, 2, (real)0.7, -3}, c[] = {0, 0, (real)1e-30, 9};
	const real *all[] = {a, b, c};
	real out[4];
	merge_mix(all, (double[]){1, 0, 0}, 3, 4, out);
	CHECK(!memcmp(out, a, sizeof a));
	merge_mix(all, (double[]){0, 0, 1}, 3, 4, out);
	CHECK(!memcmp(out, c, sizeof c));
	merge_mix(all, (double[]){0.25, 0.5, 0.25}, 3, 4, out);
	CHECK_NEAR(out[0], 2.75, 1e-6);
	CHECK_NEAR(out[3], 1.5, 1e-6);
}

/* Each view with its default: the same generator gives the same bits, another gives others; what no layer reads stays.
 */
static void views(void)
{
	cJSON *network = cJSON_Parse(concat);
	struct wasd_model *m = model_of(network, (struct wasd_shape){3, 8, 8}, 1);
	const struct wasd_graph *graph = wasd_model_graph(m);
	struct merge_groups *g = groups_of(graph, NULL);
	size_t n = wasd_graph_param_count(graph);
	real *v[3] = {wasd_calloc(n, sizeof(real)), wasd_calloc(n, sizeof(real)), wasd_calloc(n, sizeof(real))};
	for (const struct wasd_view *view = wasd_views; view->name; view++) {
		for (int k = 0; k < 2; k++) {
			struct wasd_rng r;
			wasd_rng_init(&r, 9, view->name, 0, 0);
			memcpy(v[k], wasd_model_master(m), n * sizeof(real));
			CHECK(!merge_view((int)(view - wasd_views), g, view->option.name ? atof(view->option.def) : 0, &r, v[k],
			                  v[2], NULL));
		}
		CHECK_MSG(!memcmp(v[0], v[1], n * sizeof(real)), "%s", view->name);
		CHECK_MSG(memcmp(v[0], wasd_model_master(m), n * sizeof(real)), "%s", view->name);
		for (int k = 0; k < wasd_graph_augs(graph); k++) {
			struct wasd_aug_info a = wasd_graph_aug_info(graph, k);
			if (a.alpha_param < 0)
				continue;
			size_t at = wasd_graph_param_info(graph, a.alpha_param).offset;
			CHECK(v[0][at] == wasd_model_master(m)[at]);
		}
		/* The first tensor is the first layer's weights; its bias follows. */
		size_t zeros = 0, stem = wasd_graph_param_info(graph, wasd_graph_param_find(graph, "a.weight")).count;
		for (size_t k = 0; k < n; k++)
			zeros += v[0][k] == 0;
		if (!strcmp(view->name, "dropout"))
			CHECK_NEAR((double)zeros / (double)n, 0.1, 0.03);
		if (!strcmp(view->name, "quantile"))
			CHECK(zeros < n / 9);
		if (!strcmp(view->name, "scale"))
			CHECK(v[0][stem + 5] == wasd_model_master(m)[stem + 5]);
	}
	for (int k = 0; k < 3; k++)
		wasd_free(v[k]);
	merge_groups_destroy(g);
	wasd_model_destroy(m);
	cJSON_Delete(network);
}

/* Allocation after allocation fails; nothing is lost. */
static void without_memory(void)
{
	cJSON *network = cJSON_Parse(concat);
	struct wasd_model *a = model_of(network, (struct wasd_shape){3, 8, 8}, 1);
	enum wasd_status s = WASD_ENOMEM;
	for (uint64_t nth = 1; s == WASD_ENOMEM; nth++) {
		struct merge_groups *g = NULL;
		int perm[256];
		struct merge_match m;
		wasd_mem_fail_at(nth);
		s = merge_groups_create(wasd_model_graph(a), NULL, &g, NULL);
		if (!s) {
			merge_groups_identity(g, perm);
			s = merge_match_weights(g, wasd_model_master(a), wasd_model_master(a), NULL, perm, no_tick, &m, NULL);
		}
		wasd_mem_fail_at(0);
		merge_groups_destroy(g);
	}
	CHECK_INT(s, WASD_OK);
	wasd_model_destroy(a);
	cJSON_Delete(network);
}

int main(void)
{
	cJSON *all = golden_part2();
	golden = wasd_json_get(all, "dws");
	wasd_threads_init(1, NULL);
	TEST_RUN(assignments_are_the_best);
	TEST_RUN(ties_take_the_first);
	if (golden) {
		TEST_RUN(golden_mlp);
		TEST_RUN(golden_orders);
		TEST_RUN(golden_mixing);
		TEST_RUN(golden_views);
	} else {
		printf("skip golden: no part2.json\n");
	}
	TEST_RUN(every_network_computes_the_same);
	TEST_RUN(never_falls);
	TEST_RUN(bad_numbers);
	TEST_RUN(mixes);
	TEST_RUN(views);
	TEST_RUN(without_memory);
	cJSON_Delete(all);
	wasd_threads_done();
	TEST_END();
}
