/* Structured pruning: the golden numbers of $WASD_SHARED/strategies/part1.json (schedules, scores, thresholds, masks,
 * batch norms), exact counts at every event with and without rounding, layers that are coupled, and that what it zeroes
 * is what wasd/alive.h calls dead. */
#include "golden.h"
#include "wasd/alive.h"
#include "wasd/model.h"
#include "weights/chain.h"
#include "weights/prune.h"
#include "weights/schedule.h"
#include "weights/structured.h"

static cJSON *golden;

static const cJSON *gold(const char *name)
{
	const cJSON *all = wasd_json_get(wasd_json_get(golden, "d_induced_feature_selection"), "criteria_masks_schedules");
	const cJSON *j = wasd_json_get(all, name);
	CHECK_MSG(j, "%s is not there", name);
	return j;
}

static double at(const cJSON *j, size_t i)
{
	const cJSON *v = cJSON_GetArrayItem(j, (int)i);
	return v ? v->valuedouble : NAN;
}

/* ---- a run ---------------------------------------------------------------------------------------------- */

enum { EPOCHS = 4, BATCHES = 5 };

struct bed {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct weight_chain *c;
	real *momentum;
	struct weight_block optim[2];
	struct weight_run run;
};

/* Takes the graph. */
static struct bed bed_of(struct wasd_graph *g, const char *options)
{
	struct bed b = {.g = g};
	struct wasd_err err = {0};
	char *text = wasd_asprintf("[{\"type\":\"structured\",%s}]", options);
	cJSON *list = cJSON_Parse(text);
	struct chain_spec spec = {.weights = list, .seed = 3, .epochs = EPOCHS};
	CHECK_MSG(!wasd_model_create(g, 1, &b.m, &err) && !chain_create(g, &spec, &b.c, &err) &&
	              !chain_attach(b.c, b.m, &err),
	          "%s: %s", text, err.msg);
	b.momentum = wasd_calloc(wasd_graph_param_count(g), sizeof *b.momentum);
	for (size_t i = 0; i < wasd_graph_param_count(g); i++)
		b.momentum[i] = 1;
	b.run = (struct weight_run){.batches = BATCHES, .epochs = EPOCHS, .master = wasd_model_master(b.m)};
	cJSON_Delete(list);
	wasd_free(text);
	return b;
}

/* Call it when b is where it stays. */
static void bed_begin(struct bed *b)
{
	b->optim[0] = (struct weight_block){"momentum", b->momentum};
	b->run.optim = b->optim;
	CHECK(!chain_begin(b->c, NULL, &b->run, NULL));
}

static void bed_done(struct bed *b)
{
	chain_destroy(b->c);
	wasd_model_destroy(b->m);
	wasd_graph_destroy(b->g);
	wasd_free(b->momentum);
}

static real *param(const struct bed *b, const char *name, size_t *n)
{
	int i = wasd_graph_param_find(b->g, name);
	CHECK_MSG(i >= 0, "%s", name);
	struct wasd_param_info p = wasd_graph_param_info(b->g, i);
	if (n)
		*n = p.count;
	return b->run.master + p.offset;
}

/* The mask of a layer's weights; NULL: it has none. */
static const uint8_t *mask(const struct bed *b, const char *name)
{
	struct chain_state one;
	for (int i = 0; chain_state(b->c, i, &one); i++)
		if (one.tensor.bits && !strcmp(one.tensor.name, name))
			return one.tensor.bits;
	CHECK_MSG(false, "%s", name);
	return NULL;
}

static bool bit(const uint8_t *bits, size_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

static double metric(const struct bed *b, const char *want)
{
	const char *name;
	double v = NAN;
	for (int i = 0; chain_metric(b->c, i, 0, &name, &v); i++)
		if (!strcmp(name, want))
			return v;
	CHECK_MSG(false, "%s", want);
	return NAN;
}

/* Steps with any gradient, up to `to`. */
static void go(struct bed *b, uint64_t to)
{
	struct wasd_rng r;
	for (; b->run.step < to; b->run.step++) {
		chain_event(b->c, &b->run);
		wasd_rng_init(&r, 3, "gradient", b->run.step, 0);
		for (size_t i = 0; i < wasd_graph_param_count(b->g); i++) {
			b->momentum[i] = (real)wasd_rng_between(&r, -0.01, 0.01);
			b->run.master[i] += b->momentum[i];
		}
		struct weight_run after = b->run;
		after.step++;
		chain_after_step(b->c, &after);
	}
}

/* ---- golden numbers ------------------------------------------------------------------------------------- */

static void schedules(void)
{
	static const struct {
		const char *name;
		enum structured_curve curve;
		double final;
	} c[] = {{"one_cycle_end100", STRUCTURED_ONE_CYCLE, 100},
	         {"agp_end100", STRUCTURED_CUBIC, 100},
	         {"iterative3_end90", STRUCTURED_ITERATIVE, 90}};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		const cJSON *row;
		int n = 0;
		cJSON_ArrayForEach(row, gold(c[i].name)) {
			CHECK_NEAR(structured_sparsity(c[i].curve, c[i].final, atof(row->string)), row->valuedouble, 1e-10);
			n++;
		}
		CHECK_INT(n, 15);
	}
	for (int k = 0; k <= STRUCTURED_ONE_SHOT; k++)
		CHECK(structured_sparsity((enum structured_curve)k, 0.3, 1) == 0.3);
	CHECK(structured_sparsity(STRUCTURED_ONE_SHOT, 0.3, 0.49) == 0);
}

static real conv_w(size_t i)
{
	return (real)((int)(5 * i % 37) - 18);
}

static real linear_w(size_t i)
{
	return (real)((int)(7 * i % 31) - 15);
}

static void fill(real *w, size_t n, real (*value)(size_t i))
{
	for (size_t i = 0; i < n; i++)
		w[i] = value(i);
}

static void scores(void)
{
	const cJSON *conv = gold("conv_mean_abs"), *linear = gold("linear_mean_abs");
	real w[72], v[30];
	fill(w, 72, conv_w);
	fill(v, 30, linear_w);
	for (size_t o = 0; o < 4; o++)
		CHECK_NEAR(structured_mean(w + 18 * o, 1, 0, 18), at(wasd_json_get(conv, "filter"), o), 1e-5);
	for (size_t i = 0; i < 2; i++)
		CHECK_NEAR(structured_mean(w + 9 * i, 4, 18, 9), at(wasd_json_get(conv, "shared_kernel"), i), 1e-5);
	for (size_t j = 0; j < 6; j++)
		CHECK_NEAR(structured_mean(v + j, 5, 6, 1), at(wasd_json_get(linear, "column"), j), 1e-5);
	for (size_t o = 0; o < 5; o++)
		CHECK_NEAR(structured_mean(v + 6 * o, 1, 0, 6), at(wasd_json_get(linear, "row"), o), 1e-5);
}

static struct wasd_graph *conv_net(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){2, 5, 5}, &g, NULL));
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "a", 4, 3, 1, 1, 1, false);
	x = wasd_graph_relu(g, wasd_graph_batchnorm(g, x, "bn", 1e-5, 0.1));
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", 3, true), NULL));
	return g;
}

static struct wasd_graph *linear_net(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){6, 1, 1}, &g, NULL));
	wasd_node x = wasd_graph_relu(g, wasd_graph_linear(g, wasd_graph_input(g), "a", 5, true));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", 3, true), NULL));
	return g;
}

/* One event of an own run leaves the masks, zeros and batch norms of the library. */
static void masks(void)
{
	static const struct {
		const char *name, *mask, *zeros, *granularity;
		bool conv, columns;
	} c[] = {
		{"sparsify_filter_local_50", "conv_mask", "conv_zero_weights", "filter", true, false},
		{"sparsify_filter_local_75", "conv_mask", "conv_zero_weights", "filter", true, false},
		{"sparsify_shared_kernel_local_50", "conv_mask", "conv_zero_weights", "channel", true, true},
		{"sparsify_column_local_50", "linear_mask", "linear_zero_weights", "channel", false, true},
		{"sparsify_row_local_40", "linear_mask", "linear_zero_weights", "filter", false, false},
	};
	for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
		const cJSON *t = gold(c[k].name), *want = wasd_json_get(t, c[k].mask),
					*all = wasd_json_get(gold(c[k].conv ? "conv_mean_abs" : "linear_mean_abs"),
		                                 !c[k].columns ? (c[k].conv ? "filter" : "row") :
		                                 c[k].conv     ? "shared_kernel" :
		                                                 "column");
		char options[200];
		snprintf(options, sizeof options,
		         "\"sparsity\":%g,\"begin\":1,\"end\":1,\"round_to\":1,\"layers\":\"a\",\"granularity\":\"%s\"",
		         wasd_json_get(t, "sparsity")->valuedouble / 100, c[k].granularity);
		struct bed b = bed_of(c[k].conv ? conv_net() : linear_net(), options);
		size_t n, zeros = 0, ins = c[k].conv ? 2 : 6, taps = c[k].conv ? 9 : 1;
		real *w = param(&b, "a.weight", &n);
		bed_begin(&b);
		fill(w, n, c[k].conv ? conv_w : linear_w);
		for (int i = 0; c[k].conv && i < 4; i++) {
			param(&b, "bn.weight", NULL)[i] = (real)(1 + i);
			param(&b, "bn.bias", NULL)[i] = (real)(5 + i);
		}
		b.run.step = BATCHES;
		chain_event(b.c, &b.run);
		for (size_t i = 0; i < n; i++) {
			size_t at_group = c[k].columns ? i / taps % ins : i / (ins * taps);
			CHECK_MSG(bit(mask(&b, "a.weight"), i) == (at(want, at_group) != 0), "%s: weight %zu", c[k].name, i);
			zeros += w[i] == 0;
		}
		CHECK_INT(zeros, (int)wasd_json_get(t, c[k].zeros)->valuedouble);
		for (int i = 0; i < cJSON_GetArraySize(all); i++)
			CHECK((at(all, (size_t)i) >= wasd_json_get(t, "threshold")->valuedouble) == (at(want, (size_t)i) != 0));
		for (size_t i = 0; c[k].conv && i < 4; i++) {
			CHECK((double)param(&b, "bn.weight", NULL)[i] == at(wasd_json_get(t, "bn_weight"), i));
			CHECK((double)param(&b, "bn.bias", NULL)[i] == at(wasd_json_get(t, "bn_bias"), i));
		}
		bed_done(&b);
	}
}

/* ---- counts and coupled layers -------------------------------------------------------------------------- */

#define NET \
	"{\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":20},{\"type\":\"batchnorm\",\"name\":\"abn\"}," \
	"{\"type\":\"relu\",\"name\":\"ar\"},{\"type\":\"conv\",\"name\":\"b\",\"out\":24}," \
	"{\"type\":\"batchnorm\",\"name\":\"bbn\"},{\"type\":\"relu\"},{\"type\":\"conv\",\"name\":\"c\",\"out\":20}," \
	"{\"type\":\"batchnorm\",\"name\":\"cbn\"},{\"type\":\"add\",\"name\":\"s\",\"from\":[\"cbn\",\"ar\"]}," \
	"{\"type\":\"relu\"},{\"type\":\"conv\",\"name\":\"d\",\"depthwise\":true},{\"type\":\"batchnorm\",\"name\":\"dbn\"}," \
	"{\"type\":\"maxpool\",\"kernel\":4},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"e\",\"out\":18}," \
	"{\"type\":\"relu\"},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]}"

static struct wasd_graph *net(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse(NET);
	CHECK_MSG(!wasd_network_build(j, (struct wasd_shape){3, 8, 8}, 5, &g, &err), "%s", err.msg);
	cJSON_Delete(j);
	return g;
}

static wasd_node node(const struct wasd_graph *g, const char *name)
{
	for (wasd_node n = 0; n < wasd_graph_nodes(g); n++)
		if (!strcmp(wasd_graph_node_info(g, n).name, name))
			return n;
	CHECK_MSG(false, "%s", name);
	return 0;
}

/* Rows (or columns) of a layer with a living weight. */
static size_t living(const struct bed *b, const char *layer, bool columns)
{
	char name[40];
	size_t n = 0, count;
	snprintf(name, sizeof name, "%s.weight", layer);
	const uint8_t *m = mask(b, name);
	struct wasd_node_info i = wasd_graph_node_info(b->g, node(b->g, layer));
	param(b, name, &count);
	size_t outs = (size_t)i.shape.c, ins = (size_t)wasd_graph_node_info(b->g, i.inputs[0]).shape.c,
		   taps = count / outs / ins;
	for (size_t k = 0; k < (columns ? ins : outs); k++) {
		bool any = false;
		for (size_t x = 0; x < count; x++)
			any |= (columns ? x / taps % ins : x / taps / ins) == k && bit(m, x);
		n += any;
	}
	return n;
}

static size_t up(size_t n, size_t most, size_t to)
{
	size_t k = (n + to - 1) / to * to;
	return k < most ? k : most;
}

/* At every event each pool keeps what the schedule says, rounded up: a and c, which an add couples, together; b; e. */
static void counts(void)
{
	static const char *const curve[] = {"one_cycle", "cubic", "iterative", "one_shot"};
	for (size_t k = 0; k < 4; k++)
		for (size_t round = 1; round < 30; round += 7) {
			struct prune_schedule when = {.begin = 0.6, .end = 2.8, .every = 2, .final = 0.7};
			char options[200];
			snprintf(options, sizeof options,
			         "\"sparsity\":0.7,\"begin\":0.6,\"end\":2.8,\"every\":2,\"round_to\":%zu,\"schedule\":\"%s\"",
			         round, curve[k]);
			struct bed b = bed_of(net(), options);
			bed_begin(&b);
			size_t of_a = 20, of_b = 24, of_e = 18;
			for (uint64_t step = 0; step <= EPOCHS * BATCHES; step++) {
				go(&b, step);
				chain_event(b.c, &b.run);
				if (prune_is_event(&when, step, BATCHES)) {
					double s = structured_sparsity((enum structured_curve)k, 0.7, prune_progress(&when, step, BATCHES));
					of_a = up(prune_keep_count(20, s), 20, round);
					of_b = up(prune_keep_count(24, s), 24, round);
					of_e = up(prune_keep_count(18, s), 18, round);
				}
				CHECK_INT(living(&b, "a", false), of_a);
				CHECK_INT(living(&b, "c", false), of_a);
				CHECK_INT(living(&b, "b", false), of_b);
				CHECK_INT(living(&b, "e", false), of_e);
				CHECK_INT(living(&b, "fc", false), 5);
				CHECK_NEAR(metric(&b, "structured_alive"), (double)(of_a + of_b + of_e) / 62, 1e-12);
			}
			CHECK(of_a < 20 || round > 20);
			bed_done(&b);
		}
}

/* What it zeroes the network does not need: the same channels are dead by alive.h, whatever the statistics, and the
 * optimizer's state of what died is 0 at the event. */
static void is_dead(void)
{
	struct bed b = bed_of(net(), "\"begin\":1,\"end\":1,\"round_to\":1");
	struct wasd_alive *a = NULL;
	bed_begin(&b);
	go(&b, BATCHES);
	for (size_t i = 0; i < wasd_graph_param_count(b.g); i++)
		b.momentum[i] = 1;
	chain_event(b.c, &b.run);
	size_t n = wasd_graph_param_count(b.g), zeros = 0;
	for (size_t i = 0; i < n; i++) {
		zeros += b.momentum[i] == 0;
		CHECK(b.momentum[i] != 0 || b.run.master[i] == 0);
	}
	/* rows of a, b, c, e; scales and shifts of their batch norms, d's rows and batch norm; biases of all of them */
	CHECK_INT(zeros,
	          10 * 27 + 12 * 20 * 9 + 10 * 24 * 9 + 9 * 80 + 2 * (10 + 12 + 10 + 10) + 10 * 9 + 10 + 12 + 10 + 10 + 9);
	go(&b, 2 * BATCHES);
	CHECK(!wasd_alive_create(b.g, b.run.master, NULL, &a, NULL));
	CHECK_INT(wasd_alive_count(a, node(b.g, "a")), 10);
	CHECK_INT(wasd_alive_count(a, node(b.g, "b")), 12);
	CHECK_INT(wasd_alive_count(a, node(b.g, "d")), 10);
	CHECK_INT(wasd_alive_count(a, node(b.g, "e")), 9);
	chain_at_epoch(b.c, &b.run);
	CHECK_NEAR(metric(&b, "structured_macs"), (double)wasd_alive_macs(a) / (double)wasd_graph_macs(b.g, NULL), 1e-12);
	CHECK(metric(&b, "structured_macs") < 0.4);
	wasd_alive_destroy(a);
	bed_done(&b);
}

/* Input channels of coupled readers die together, so that what writes them is not needed either. */
static void channels(void)
{
	struct bed b = bed_of(net(), "\"begin\":1,\"end\":1,\"round_to\":1,\"granularity\":\"channel\"");
	struct wasd_alive *a = NULL;
	bed_begin(&b);
	go(&b, BATCHES + 1);
	CHECK_INT(living(&b, "a", true), 2); /* of 3, half to even */
	CHECK_INT(living(&b, "b", true), 10);
	CHECK_INT(living(&b, "c", true), 12);
	CHECK_INT(living(&b, "e", true), 40);
	CHECK_INT(living(&b, "fc", true), 9);
	CHECK(!wasd_alive_create(b.g, b.run.master, NULL, &a, NULL));
	CHECK_INT(wasd_alive_count(a, 0), 2);
	CHECK_INT(wasd_alive_count(a, node(b.g, "a")), 10);
	CHECK_INT(wasd_alive_count(a, node(b.g, "b")), 12);
	CHECK_INT(wasd_alive_count(a, node(b.g, "e")), 9);
	wasd_alive_destroy(a);
	bed_done(&b);
}

static void linear_units(void)
{
	struct bed b = bed_of(linear_net(), "\"begin\":1,\"end\":1,\"round_to\":1,\"granularity\":\"unit\"");
	bed_begin(&b);
	go(&b, BATCHES + 1);
	CHECK_INT(living(&b, "a", false), 2);
	CHECK_INT(living(&b, "a", true), 3);
	CHECK_INT(living(&b, "fc", true), 2);
	bed_done(&b);
}

static struct wasd_graph *flat_net(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){2, 2, 2}, &g, NULL));
	wasd_node x = wasd_graph_relu(g, wasd_graph_flatten(g, wasd_graph_input(g)));
	x = wasd_graph_relu(g, wasd_graph_linear(g, x, "a", 6, true));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", 3, true), NULL));
	return g;
}

/* Where the network is to become smaller, what surgery cannot remove does not die: channels and pixels of the images.
 */
static void whole_images(void)
{
	static const struct {
		struct wasd_graph *(*net)(void);
		const char *granularity, *inner;
		size_t columns, of_inner;
	} c[] = {{net, "channel", "b", 3, 10},
	         {linear_net, "unit", "fc", 6, 2},
	         {flat_net, "unit", "fc", 8, 3},
	         {flat_net, "channel", "fc", 8, 3}};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		char options[120];
		snprintf(options, sizeof options,
		         "\"begin\":1,\"end\":1,\"round_to\":1,\"remove\":\"train\",\"granularity\":\"%s\"", c[i].granularity);
		struct bed b = bed_of(c[i].net(), options);
		bed_begin(&b);
		go(&b, BATCHES + 1);
		CHECK_INT(living(&b, "a", true), c[i].columns);
		CHECK_INT(living(&b, c[i].inner, true), c[i].of_inner);
		bed_done(&b);
	}
}

static void taps(void)
{
	struct bed b = bed_of(net(), "\"begin\":1,\"end\":1,\"granularity\":\"tap\",\"sparsity\":0.6");
	bed_begin(&b);
	go(&b, BATCHES + 1);
	size_t dead = 0;
	for (size_t t = 0; t < 9; t++) {
		size_t left = 0;
		for (size_t i = t; i < 24 * 20 * 9; i += 9)
			left += bit(mask(&b, "b.weight"), i);
		CHECK(left == 0 || left == 480);
		dead += !left;
	}
	CHECK_INT(dead, 5);
	chain_at_epoch(b.c, &b.run);
	double conv = (3 * 20 + 20 * 24 + 24 * 20) * 64 * 9.0, all = (double)wasd_graph_macs(b.g, NULL);
	CHECK_NEAR(metric(&b, "structured_macs"), (all - conv * 5 / 9) / all, 1e-12);
	bed_done(&b);
}

/* All layers together: the count is exact without rounding, and multiples with it. */
static void global(void)
{
	for (size_t round = 1; round < 6; round += 4) {
		char options[120];
		snprintf(options, sizeof options, "\"begin\":1,\"end\":1,\"round_to\":%zu,\"scope\":\"global\"", round);
		struct bed b = bed_of(net(), options);
		bed_begin(&b);
		go(&b, BATCHES + 1);
		size_t of_a = living(&b, "a", false), of_b = living(&b, "b", false), of_e = living(&b, "e", false);
		CHECK_INT(living(&b, "c", false), of_a);
		if (round == 1)
			CHECK_INT(of_a + of_b + of_e, 31);
		else
			CHECK(of_a % 5 == 0 && of_b % 5 == (of_b == 24 ? 4 : 0) && of_e % 5 == (of_e == 18 ? 3 : 0) &&
			      of_a + of_b + of_e < 62);
		bed_done(&b);
	}
}

/* Two layers, stacked, are added to a third: each of the first two keeps its share. */
static void stacked(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){3, 8, 8}, &g, NULL));
	wasd_node in = wasd_graph_input(g), a = wasd_graph_conv(g, in, "a", 12, 3, 1, 1, 1, true),
			  b = wasd_graph_conv(g, in, "b", 8, 1, 1, 0, 1, true),
			  c = wasd_graph_conv(g, in, "c", 20, 1, 1, 0, 1, true),
			  x = wasd_graph_add(g, wasd_graph_concat(g, (wasd_node[]){a, b}, 2), c);
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", 5, true), NULL));
	struct bed bed = bed_of(g, "\"begin\":1,\"end\":1,\"round_to\":1,\"sparsity\":0.75");
	bed_begin(&bed);
	size_t n;
	real *w = param(&bed, "b.weight", &n);
	for (size_t i = 0; i < n; i++)
		w[i] *= (real)0.01;
	go(&bed, BATCHES + 1);
	CHECK_INT(living(&bed, "a", false), 3);
	CHECK_INT(living(&bed, "b", false), 2);
	CHECK_INT(living(&bed, "c", false), 5);
	for (size_t o = 0; o < 12; o++)
		CHECK(bit(mask(&bed, "a.weight"), o * 27) == bit(mask(&bed, "c.weight"), o * 3));
	bed_done(&bed);
}

/* A layer that shares channels with one that is left out stays. */
static void left_out(void)
{
	struct bed b = bed_of(net(), "\"begin\":1,\"end\":1,\"round_to\":1,\"layers\":\"!a\"");
	bed_begin(&b);
	go(&b, BATCHES + 1);
	CHECK_INT(living(&b, "c", false), 20);
	CHECK_INT(living(&b, "b", false), 12);
	bed_done(&b);
}

/* ---- what is refused ------------------------------------------------------------------------------------ */

static void refusals(void)
{
	static const char *const c[][2] = {
		{"\"begin\":3,\"end\":2", "begin"},
		{"\"end\":5", "end"},
		{"\"end\":3.1,\"remove\":\"train\"", "end"},
		{"\"granularity\":\"tap\",\"round_to\":4", "round_to"},
		{"\"granularity\":\"unit\",\"layers\":\"a\"", "granularity"},
		{"\"granularity\":\"tap\",\"layers\":\"e\"", "granularity"},
		{"\"layers\":\"fc\"", "granularity"},
		{"\"layers\":\"d\"", "layers"},
		{"\"layers\":\"a,x*\"", "layers"},
		{"\"schedule\":\"never\"", "schedule"},
		{"\"sparsity\":1", "sparsity"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_graph *g = net();
		struct weight_chain *chain = NULL;
		struct wasd_err err = {0};
		char text[160], pointer[40];
		snprintf(text, sizeof text, "[{\"type\":\"structured\",%s}]", c[i][0]);
		snprintf(pointer, sizeof pointer, "/weights/0/%s", c[i][1]);
		cJSON *list = cJSON_Parse(text);
		struct chain_spec spec = {.weights = list, .epochs = EPOCHS};
		CHECK_MSG(chain_create(g, &spec, &chain, &err) == WASD_EINVAL && !strcmp(err.pointer, pointer),
		          "%s: at \"%s\": %s", text, err.pointer, err.msg);
		cJSON_Delete(list);
		chain_destroy(chain);
		wasd_graph_destroy(g);
	}
}

/* A mask that no choice of filters gives is not a state. */
static void bad_state(void)
{
	static const uint64_t generator[4] = {1, 2, 3, 4};
	for (int bad = 0; bad < 3; bad++) {
		struct bed b = bed_of(net(), "\"begin\":1,\"end\":1,\"round_to\":1");
		struct wasd_err err = {0};
		struct chain_state one;
		bed_begin(&b);
		go(&b, 2 * BATCHES);
		for (int i = 0; bad == 2 && chain_state(b.c, i, &one); i++)
			if (!strcmp(one.tensor.name, "round_to"))
				one.tensor.values[0] = (real)0.5;
		size_t k = 0;
		while (bad == 1 && !bit(mask(&b, "b.weight"), k))
			k++;
		if (bad == 1)
			((uint8_t *)mask(&b, "b.weight"))[k / 8] ^= (uint8_t)(1u << k % 8);
		enum wasd_status s = chain_resume(b.c, generator, NULL, &(struct weight_when){0}, &err);
		CHECK_MSG(s == (bad ? WASD_ECORRUPT : WASD_OK), "%d: %s", bad, err.msg);
		bed_done(&b);
	}
}

int main(void)
{
	CHECK(!wasd_threads_init(1, NULL));
	golden = golden_part1();
	TEST_RUN(counts);
	TEST_RUN(is_dead);
	TEST_RUN(channels);
	TEST_RUN(linear_units);
	TEST_RUN(whole_images);
	TEST_RUN(taps);
	TEST_RUN(global);
	TEST_RUN(stacked);
	TEST_RUN(left_out);
	TEST_RUN(refusals);
	TEST_RUN(bad_state);
	if (golden) {
		TEST_RUN(schedules);
		TEST_RUN(scores);
		TEST_RUN(masks);
	}
	cJSON_Delete(golden);
	TEST_END();
}
