/* Which channels matter to the logits (wasd/alive.h): the golden cases of $WASD_SHARED/strategies/part1.json, units of
 * every kind of join, and that networks of every kind compute the same without the channels that do not matter. */
#include "golden.h"
#include "wasd/alive.h"
#include "wasd/json.h"
#include "wasd/model.h"

static cJSON *golden;

/* A network with values and an exec for n images. */
struct bed {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct wasd_exec *e;
	real *x, *w, *stats;
	int n;
};

static void bed_values(struct bed *b, int n)
{
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = n, .keep_all = true, .unmeasured = true};
	b->n = n;
	CHECK_MSG(!wasd_model_create(b->g, 1, &b->m, &err), "%s", err.msg);
	CHECK_MSG(!wasd_exec_create(b->m, &o, &b->e, &err), "%s", err.msg);
	b->w = wasd_model_master(b->m);
	b->stats = wasd_model_stats(b->m, WASD_STATS_AOM);
	b->x = wasd_calloc((size_t)n * wasd_shape_count(wasd_graph_input_shape(b->g)), sizeof *b->x);
}

static void bed_done(struct bed *b)
{
	wasd_exec_destroy(b->e);
	wasd_model_destroy(b->m);
	wasd_graph_destroy(b->g);
	wasd_free(b->x);
}

static const real *forward(struct bed *b)
{
	struct wasd_err err = {0};
	struct wasd_pass p = {.n = b->n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	CHECK_MSG(!wasd_exec_forward(b->e, b->x, &p, &err), "%s", err.msg);
	return wasd_exec_logits(b->e);
}

static real *param(struct bed *b, const char *name)
{
	int i = wasd_graph_param_find(b->g, name);
	CHECK_MSG(i >= 0, "%s", name);
	return b->w + wasd_graph_param_info(b->g, i).offset;
}

static wasd_node node(const struct wasd_graph *g, const char *name)
{
	for (wasd_node n = 0; n < wasd_graph_nodes(g); n++)
		if (!strcmp(wasd_graph_node_info(g, n).name, name))
			return n;
	CHECK_MSG(false, "%s", name);
	return 0;
}

static struct wasd_alive *alive_of(const struct bed *b, const real *stats)
{
	struct wasd_alive *a = NULL;
	CHECK(!wasd_alive_create(b->g, b->w, stats, &a, NULL));
	return a;
}

/* "1011" of a node. */
static const char *text(const struct wasd_alive *a, const struct wasd_graph *g, wasd_node n)
{
	static char out[80];
	int c = wasd_graph_node_info(g, n).shape.c;
	CHECK(c < (int)sizeof out);
	for (int i = 0; i < c; i++)
		out[i] = wasd_alive_of(a, n)[i] ? '1' : '0';
	out[c] = 0;
	return out;
}

/* ---- golden cases --------------------------------------------------------------------------------------- */

static double at(const cJSON *j, int i)
{
	const cJSON *v = cJSON_GetArrayItem(j, i);
	return v ? v->valuedouble : NAN;
}

static void kept_is(const cJSON *list, const uint8_t *alive, int n)
{
	const cJSON *v;
	int want = 0, kept = 0;
	cJSON_ArrayForEach(v, list) {
		CHECK_MSG(alive[(int)v->valuedouble], "%d is not alive", (int)v->valuedouble);
		want++;
	}
	for (int i = 0; i < n; i++)
		kept += alive[i];
	CHECK_INT(kept, want);
}

static void fixpoint(void)
{
	const cJSON *t = wasd_json_get(wasd_json_get(golden, "d_induced_feature_selection"), "dead_unit_fixpoint"),
				*w1 = wasd_json_get(t, "W1"), *w2 = wasd_json_get(t, "W2");
	struct bed b = {0};
	CHECK(!wasd_graph_create((struct wasd_shape){6, 1, 1}, &b.g, NULL));
	wasd_node h = wasd_graph_linear(b.g, wasd_graph_input(b.g), "a", 5, false), r = wasd_graph_relu(b.g, h);
	CHECK(!wasd_graph_finish(b.g, wasd_graph_linear(b.g, r, "b", 3, false), NULL));
	bed_values(&b, 4);
	for (int i = 0; i < 30; i++)
		param(&b, "a.weight")[i] = (real)at(cJSON_GetArrayItem(w1, i / 6), i % 6);
	for (int i = 0; i < 15; i++)
		param(&b, "b.weight")[i] = (real)at(cJSON_GetArrayItem(w2, i / 5), i % 5);
	struct wasd_alive *a = alive_of(&b, NULL);
	kept_is(wasd_json_get(t, "kept_features"), wasd_alive_of(a, 0), 6);
	kept_is(wasd_json_get(t, "kept_units"), wasd_alive_of(a, h), 5);
	kept_is(wasd_json_get(t, "kept_units"), wasd_alive_of(a, r), 5);
	CHECK_INT(wasd_alive_macs(a), 2 * 3 + 3 * 3);
	for (int i = 0; i < 24; i++)
		b.x[i] = (real)((11 * i) % 17 - 8);
	const real *y = forward(&b);
	for (int i = 0; i < 12; i++)
		CHECK_NEAR((double)y[i], at(cJSON_GetArrayItem(wasd_json_get(t, "out"), i / 3), i % 3), 1e-9);
	wasd_alive_destroy(a);
	bed_done(&b);
}

/* The second convolution of `dead_filter`, whose maps are 6x6, and its output. */
enum { MAPS = 2 * 3 * 6 * 6 };

static void maps_of(struct bed *b, real *out)
{
	forward(b);
	CHECK(!wasd_exec_activation(b->e, node(b->g, "second"), out, NULL));
}

static double furthest(const real *a, const real *b, bool border)
{
	double most = 0;
	for (int i = 0; i < MAPS; i++) {
		int y = i / 6 % 6, x = i % 6;
		bool edge = y == 0 || y == 5 || x == 0 || x == 5;
		if (edge == border)
			most = fmax(most, fabs((double)(a[i] - b[i])));
	}
	return most;
}

static struct bed filter_bed(const cJSON *t)
{
	struct bed b = {0};
	CHECK(!wasd_graph_create((struct wasd_shape){2, 6, 6}, &b.g, NULL));
	wasd_node x = wasd_graph_conv(b.g, wasd_graph_input(b.g), "first", 4, 3, 1, 1, 1, false);
	x = wasd_graph_relu(b.g, wasd_graph_batchnorm(b.g, x, "bn", wasd_json_get(t, "eps")->valuedouble, 0.1));
	x = wasd_graph_conv(b.g, x, "second", 3, 3, 1, 1, 1, false);
	CHECK(!wasd_graph_finish(b.g, wasd_graph_globalpool(b.g, x), NULL));
	bed_values(&b, 2);
	for (int i = 0; i < 2 * 2 * 36; i++)
		b.x[i] = (real)((7 * i) % 11 - 5);
	for (int i = 0; i < 4 * 2 * 9; i++)
		param(&b, "first.weight")[i] = i / 18 == 1 ? 0 : (real)((5 * i) % 9 - 4);
	for (int i = 0; i < 3 * 4 * 9; i++)
		param(&b, "second.weight")[i] = (real)((3 * i) % 7 - 3);
	for (int c = 0; c < 4; c++) {
		param(&b, "bn.weight")[c] = (real)at(wasd_json_get(t, "gamma"), c);
		param(&b, "bn.bias")[c] = (real)at(wasd_json_get(t, "beta"), c);
		b.stats[c] = (real)at(wasd_json_get(t, "mean"), c);
		b.stats[4 + c] = (real)at(wasd_json_get(t, "var"), c);
	}
	return b;
}

/* A zero filter is dead only if what the batch norm and the activation make of it is 0. Folding another constant into
 * the bias of the reader is wrong on the border. */
static void dead_filter(void)
{
	const cJSON *t = wasd_json_get(wasd_json_get(golden, "d_induced_feature_selection"), "dead_filter"),
				*folded = wasd_json_get(t, "constant_folded_into_next_bias");
	struct bed b = filter_bed(t);
	real whole[MAPS], cut[MAPS], *w2 = param(&b, "second.weight");
	double tol = sizeof(real) == 8 ? 1e-6 : 1e-4, c = wasd_json_get(t, "constant_behind_relu")->valuedouble;
	struct wasd_alive *a = alive_of(&b, b.stats);
	CHECK_STR(text(a, b.g, node(b.g, "first")), "1111");
	maps_of(&b, whole);

	real column[27];
	for (int i = 0; i < 27; i++) {
		column[i] = w2[i / 9 * 36 + 9 + i % 9];
		w2[i / 9 * 36 + 9 + i % 9] = 0;
	}
	maps_of(&b, cut);
	CHECK_NEAR(fmax(furthest(whole, cut, false), furthest(whole, cut, true)),
	           wasd_json_get(t, "max_abs_full_minus_cut_with_beta_kept")->valuedouble, tol);
	for (int i = 0; i < MAPS; i++)
		for (int k = 0; k < 9; k++)
			cut[i] += (real)c * column[i / 36 % 3 * 9 + k];
	CHECK_NEAR(furthest(whole, cut, false), 0, tol);
	CHECK_NEAR(furthest(whole, cut, true), wasd_json_get(folded, "border_max_abs_diff")->valuedouble, tol);

	wasd_alive_update(a, b.w, b.stats); /* the cut network: nobody reads the filter */
	CHECK_STR(text(a, b.g, node(b.g, "first")), "1011");
	CHECK_INT(wasd_alive_macs(a), (3 * 2 + 3 * 3) * 9 * 36);
	for (int i = 0; i < 27; i++)
		w2[i / 9 * 36 + 9 + i % 9] = column[i];
	param(&b, "bn.bias")[1] = -5; /* a constant below 0, with these statistics */
	wasd_alive_update(a, b.w, b.stats);
	CHECK_STR(text(a, b.g, node(b.g, "bn")), "1011");
	wasd_alive_update(a, b.w, NULL);
	CHECK_STR(text(a, b.g, node(b.g, "bn")), "1111");
	param(&b, "bn.weight")[1] = param(&b, "bn.bias")[1] = 0;
	wasd_alive_update(a, b.w, NULL);
	CHECK_STR(text(a, b.g, node(b.g, "first")), "1011");
	wasd_alive_destroy(a);
	bed_done(&b);
}

/* ---- any network ---------------------------------------------------------------------------------------- */

/* Layer i of a list is node i + 1. */
static const char *const networks[] = {
	/* residual, with a batch norm behind the add, read by a concat beside the stem */
	"{'layers':[{'type':'conv','name':'a','out':6},{'type':'batchnorm'},{'type':'relu','name':'ar'},"
	"{'type':'conv','name':'b','out':6},{'type':'batchnorm','name':'bbn'},{'type':'add','from':['bbn','ar']},"
	"{'type':'batchnorm'},{'type':'relu','name':'sr'},{'type':'concat','from':['sr','a']},"
	"{'type':'conv','name':'d','out':6,'kernel':1},{'type':'globalpool'},{'type':'flatten'},"
	"{'type':'linear','name':'fc','out':'classes'}]}",
	/* depthwise and grouped, flattened maps */
	"{'layers':[{'type':'conv','name':'a','out':6,'stride':2},{'type':'relu6'},{'type':'conv','depthwise':true},"
	"{'type':'batchnorm'},{'type':'relu6'},{'type':'conv','out':6,'kernel':1},{'type':'maxpool','kernel':2},"
	"{'type':'conv','name':'g','out':6},{'type':'conv','name':'gg','out':6,'groups':2},"
	"{'type':'conv','name':'h','out':6},{'type':'avgpool','kernel':2},{'type':'flatten'},"
	"{'type':'linear','out':12},{'type':'relu'},{'type':'linear','name':'fc','out':'classes'}]}",
	/* pixels */
	"{'layers':[{'type':'flatten'},{'type':'linear','out':9},{'type':'relu'},{'type':'dropout'},"
	"{'type':'linear','out':7},{'type':'relu'},{'type':'linear','name':'fc','out':'classes'}]}",
	"{'arch':'resnet18'}",
	"{'arch':'mobilenetv2'}",
	"{'arch':'efficientnet_lite0'}",
	"{'arch':'lenet'}",
};

/* A convolution beside the images, and a linear layer beside their pixels. */
static const char added_to_images[] =
	"{'layers':[{'type':'conv','name':'a','out':3},{'type':'add','from':['a','input']},"
	"{'type':'conv','name':'b','out':6},{'type':'flatten'},{'type':'linear','name':'d','out':192},"
	"{'type':'flatten','name':'pixels','from':'input'},{'type':'add','from':['d','pixels']},"
	"{'type':'linear','name':'fc','out':'classes'}]}";

static struct bed network_bed(const char *model)
{
	struct bed b = {0};
	struct wasd_err err = {0};
	struct wasd_rng r;
	char *text = wasd_strdup(model);
	for (char *c = text; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	cJSON *j = cJSON_Parse(text);
	wasd_free(text);
	int side = strstr(model, "arch") ? 32 : 8;
	CHECK_MSG(!wasd_network_build(j, (struct wasd_shape){3, side, side}, 5, &b.g, &err), "%s: %s", model, err.msg);
	cJSON_Delete(j);
	bed_values(&b, 2);
	wasd_rng_init(&r, 3, "images", 0, 0);
	for (size_t i = 0; i < 2 * wasd_shape_count(wasd_graph_input_shape(b.g)); i++)
		b.x[i] = (real)wasd_rng_between(&r, -1, 1);
	/* shifts that differ from channel to channel, of either sign */
	for (int i = 0; i < wasd_graph_params(b.g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(b.g, i);
		for (size_t k = 0; p.ndims == 1 && k < p.count; k++)
			b.w[p.offset + k] += (real)wasd_rng_between(&r, -0.3, 0.3);
	}
	for (size_t i = 0; i < wasd_graph_stats_count(b.g); i++)
		b.stats[i] += (real)wasd_rng_between(&r, 0, 0.3);
	return b;
}

static bool has_kernel(const struct wasd_graph *g, wasd_node n)
{
	struct wasd_node_info i = wasd_graph_node_info(g, n);
	return i.weight >= 0 && wasd_graph_param_info(g, i.weight).ndims > 1;
}

/* A value that writes channel `out` of node n; in >= 0: by reading that channel of node x. */
struct place {
	wasd_node n, x;
	int out, in;
	size_t row; /* values with that `out` */
	bool kernel;
};
typedef void change(const struct place *p, real *w, void *ctx);

static void each_weight(struct bed *b, change *fn, void *ctx)
{
	for (wasd_node n = 0; n < wasd_graph_nodes(b->g); n++) {
		struct wasd_node_info i = wasd_graph_node_info(b->g, n);
		if (i.weight < 0)
			continue;
		struct wasd_param_info p = wasd_graph_param_info(b->g, i.weight);
		struct place at = {n, i.inputs[0], 0, -1, p.count / (size_t)i.shape.c, has_kernel(b->g, n)};
		bool dense = at.kernel && i.groups < 2;
		size_t ins = dense ? (size_t)wasd_graph_node_info(b->g, at.x).shape.c : 1, taps = at.row / ins;
		for (size_t k = 0; k < p.count; k++) {
			at.out = (int)(k / at.row);
			at.in = dense ? (int)(k % at.row / taps) : -1;
			fn(&at, b->w + p.offset + k, ctx);
		}
		char name[200];
		snprintf(name, sizeof name, "%s.bias", i.name);
		real *bias = wasd_graph_param_find(b->g, name) < 0 ? NULL : param(b, name);
		for (int c = 0; bias && c < i.shape.c; c++)
			fn(&(struct place){n, at.x, c, -1, 1, false}, bias + c, ctx);
	}
}

/* How a unit is damaged: nothing, what writes it is 0, what reads it is 0, the kernels that write it are 0. */
enum damage { NONE, WRITERS, READERS, KERNELS, DAMAGES };

struct damaged {
	const struct wasd_alive *a;
	const uint8_t *how; /* per unit */
};

static void damage(const struct place *p, real *w, void *ctx)
{
	const struct damaged *d = ctx;
	int how = d->how[wasd_alive_unit(d->a, p->n)[p->out]];
	if (how == WRITERS || (how == KERNELS && p->kernel))
		*w = 0;
	if (p->in >= 0 && d->how[wasd_alive_unit(d->a, p->x)[p->in]] == READERS)
		*w = 0;
}

/* What is removed can hold other values; only what living channels read of it counts, and that is 0. */
static void remove_dead(const struct place *p, real *w, void *ctx)
{
	const struct wasd_alive *a = ctx;
	if (!wasd_alive_of(a, p->n)[p->out])
		*w = 1 / (real)p->row;
	else if (p->in >= 0 && !wasd_alive_of(a, p->x)[p->in])
		*w = 0;
}

/* Half of the units, in one of three ways. No layer writes images and pixels, and outputs stay. */
static void choose_damage(const struct bed *b, const struct wasd_alive *units, struct wasd_rng *r, uint8_t *how)
{
	for (int u = 0; u < wasd_alive_units(units); u++)
		how[u] = READERS;
	for (wasd_node n = 1; n < wasd_graph_nodes(b->g); n++)
		for (int c = 0; has_kernel(b->g, n) && c < wasd_graph_node_info(b->g, n).shape.c; c++)
			how[wasd_alive_unit(units, n)[c]] = DAMAGES;
	for (int u = 0; u < wasd_alive_units(units); u++)
		if (wasd_alive_fixed(units, u) || wasd_rng_below(r, 2))
			how[u] = NONE;
		else if (how[u] == DAMAGES)
			how[u] = (uint8_t)(WRITERS + wasd_rng_below(r, DAMAGES - WRITERS));
}

static void logits_stay(const char *model, uint64_t seed)
{
	struct bed b = network_bed(model);
	struct wasd_rng r;
	struct wasd_alive *units = NULL, *a;
	wasd_rng_init(&r, seed, "damage", 0, 0);
	CHECK(!wasd_alive_create(b.g, NULL, NULL, &units, NULL));
	CHECK(wasd_alive_macs(units) == wasd_graph_macs(b.g, NULL));
	int n = wasd_alive_units(units), dead = 0, want = 0;
	uint8_t *how = wasd_calloc((size_t)n, 1), *left = wasd_calloc((size_t)n, 1);
	choose_damage(&b, units, &r, how);
	each_weight(&b, damage, &(struct damaged){units, how});
	a = alive_of(&b, b.stats);
	for (wasd_node i = 0; i < wasd_graph_nodes(b.g); i++)
		for (int c = 0; c < wasd_graph_node_info(b.g, i).shape.c; c++)
			left[wasd_alive_unit(a, i)[c]] |= wasd_alive_of(a, i)[c];
	for (int u = 0; u < n; u++) {
		dead += !left[u];
		want += how[u] == WRITERS || how[u] == READERS;
		CHECK(left[u] || !wasd_alive_fixed(units, u));
	}
	CHECK_MSG(dead * 2 > want, "%s: %d of %d units are dead, %d were damaged", model, dead, n, want);
	CHECK(wasd_alive_macs(a) < wasd_graph_macs(b.g, NULL));
	const real *y = forward(&b);
	real before[10], most = 0;
	memcpy(before, y, sizeof before);
	each_weight(&b, remove_dead, a);
	y = forward(&b);
	for (int i = 0; i < 10; i++) {
		most = fabs((double)before[i]) > (double)most ? (real)fabs((double)before[i]) : most;
		CHECK_MSG(fabs((double)(before[i] - y[i])) <= 1e-5 * (1 + fabs((double)before[i])), "%s: logit %d: %g, %g",
		          model, i, (double)before[i], (double)y[i]);
	}
	CHECK(most > 0);
	wasd_alive_destroy(a);
	wasd_alive_destroy(units);
	wasd_free(how);
	wasd_free(left);
	bed_done(&b);
}

static void any_network(void)
{
	for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
		for (uint64_t seed = 0; seed < (strstr(networks[i], "arch") ? 1 : 30); seed++)
			logits_stay(networks[i], seed);
}

/* Which channels are one unit. */
static void units(void)
{
	struct wasd_alive *a = NULL;
	struct bed b = network_bed(networks[0]);
	CHECK(!wasd_alive_create(b.g, NULL, NULL, &a, NULL));
	const int *of_a = wasd_alive_unit(a, node(b.g, "a")), *of_b = wasd_alive_unit(a, node(b.g, "b")),
			  *of_sr = wasd_alive_unit(a, 8), *of_c = wasd_alive_unit(a, 9), *of_d = wasd_alive_unit(a, node(b.g, "d"));
	for (int c = 0; c < 6; c++)
		CHECK(of_a[c] == of_b[c] && of_a[c] == of_sr[c] && of_a[c] == of_c[c] && of_a[c] == of_c[6 + c] &&
		      of_a[c] != of_d[c] && (!c || of_a[c] != of_a[0]) && !wasd_alive_fixed(a, of_a[c]));
	CHECK_INT(wasd_alive_units(a), 3 + 6 + 6 + 5);
	CHECK(wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "fc"))[4]));
	wasd_alive_destroy(a);
	bed_done(&b);

	b = network_bed(networks[1]);
	CHECK(!wasd_alive_create(b.g, NULL, NULL, &a, NULL));
	CHECK(wasd_alive_unit(a, node(b.g, "a"))[5] == wasd_alive_unit(a, 5)[5]);
	CHECK(wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "g"))[0]));
	CHECK(wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "gg"))[0]));
	CHECK(!wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "h"))[0]));
	CHECK(wasd_alive_unit(a, 11)[3] == wasd_alive_unit(a, node(b.g, "h"))[3]);
	wasd_alive_destroy(a);
	bed_done(&b);

	b = network_bed(networks[2]);
	CHECK(!wasd_alive_create(b.g, NULL, NULL, &a, NULL));
	CHECK_INT(wasd_alive_units(a), 3 + 3 * 64 + 9 + 7 + 5);
	wasd_alive_destroy(a);
	bed_done(&b);

	b = network_bed(added_to_images);
	CHECK(!wasd_alive_create(b.g, NULL, NULL, &a, NULL));
	CHECK(wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "a"))[0]));
	CHECK(wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "d"))[3]));
	CHECK(!wasd_alive_fixed(a, wasd_alive_unit(a, node(b.g, "b"))[0]));
	wasd_alive_destroy(a);
	bed_done(&b);
}

/* With every weight 0 a layer still keeps a channel, and the network its shape. */
static void one_stays(void)
{
	for (size_t i = 0; i < 3; i++) {
		struct bed b = network_bed(networks[i]);
		memset(b.w, 0, wasd_graph_param_count(b.g) * sizeof *b.w);
		struct wasd_alive *a = alive_of(&b, b.stats);
		for (wasd_node n = 0; n < wasd_graph_nodes(b.g); n++)
			CHECK(wasd_alive_count(a, n) >= 1);
		CHECK_INT(wasd_alive_count(a, node(b.g, "fc")), 5);
		wasd_alive_destroy(a);
		bed_done(&b);
	}
}

static void memory(void)
{
	struct bed b = network_bed(networks[0]);
	struct wasd_alive *a = NULL;
	enum wasd_status s = WASD_ENOMEM;
	for (uint64_t nth = 1; s; nth++) {
		wasd_mem_fail_at(nth);
		s = wasd_alive_create(b.g, b.w, b.stats, &a, NULL);
		wasd_mem_fail_at(0);
		CHECK(!s || (s == WASD_ENOMEM && !a));
	}
	wasd_alive_destroy(a);
	bed_done(&b);
}

int main(void)
{
	CHECK(!wasd_threads_init(1, NULL));
	golden = golden_part1();
	TEST_RUN(units);
	TEST_RUN(one_stays);
	TEST_RUN(any_network);
	TEST_RUN(memory);
	if (golden) {
		TEST_RUN(fixpoint);
		TEST_RUN(dead_filter);
	}
	cJSON_Delete(golden);
	TEST_END();
}
