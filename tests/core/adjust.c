/* tests/core/adjust.c - network adjustment: the golden multiply-adds, rates and steps of the authors' code on its
 * ResNets, written as layers; front padding and channel dropout; what is refused; a run that measures, cut anywhere. */
#include "golden.h"
#include "tiny.h"

#include "graph/graph.h"
#include "models/adjust.h"
#include "wasd/model.h"

#include <math.h>

static const cJSON *golden;

enum { MOST = 64 };

static int ints(const cJSON *list, int *out)
{
	int n = 0;
	const cJSON *one;
	cJSON_ArrayForEach(one, list)
		if (n < MOST)
			out[n++] = one->valueint;
	return n;
}

static void numbers(const cJSON *list, double *out)
{
	int n = 0;
	const cJSON *one;
	cJSON_ArrayForEach(one, list)
		if (n < MOST)
			out[n++] = one->valuedouble;
}

static double member(const cJSON *j, const char *name)
{
	double v = NAN;
	wasd_json_num(j, name, &v);
	return v;
}

/* ---- networks --------------------------------------------------------------------------------------------------- */

/* The basic block i of widths inner and out; project: a convolution in the shortcut, else means of 2x2. */
static void put_block(struct wasd_buf *b, int i, int inner, int out, int stride, int project, const char *in)
{
	const char *cut = in;
	char own[20];
	wasd_buf_printf(
		b, "{\"type\":\"conv\",\"out\":%d,\"stride\":%d,\"bias\":false,\"from\":\"%s\"},{\"type\":\"batchnorm\"},",
		inner, stride, in);
	wasd_buf_printf(b, "{\"type\":\"relu\"},{\"type\":\"dropchannel\"},{\"type\":\"conv\",\"out\":%d,\"bias\":false},",
	                out);
	wasd_buf_printf(b, "{\"type\":\"batchnorm\"},{\"type\":\"dropchannel\",\"name\":\"m%d\"},", i);
	if (stride > 1) {
		snprintf(own, sizeof own, "s%d", i);
		cut = own;
		if (project)
			wasd_buf_printf(
				b,
				"{\"type\":\"conv\",\"out\":%d,\"kernel\":%d,\"stride\":2,\"bias\":false,\"from\":\"%s\",\"name\":\"s%d\"},",
				out, project, in, i);
		else
			wasd_buf_printf(b, "{\"type\":\"avgpool\",\"kernel\":2,\"from\":\"%s\",\"name\":\"s%d\"},", in, i);
	}
	wasd_buf_printf(b, "{\"type\":\"addpad\",\"from\":[\"%s\",\"m%d\"]},{\"type\":\"relu\",\"name\":\"b%d\"},", cut, i,
	                i);
}

/* A ResNet of basic blocks, `stages` of them, for images of 32x32. c: n widths. */
static cJSON *resnet(int stem, int stages, const int *c, int n, int project)
{
	struct wasd_buf b = {0};
	char in[20] = "b";
	wasd_buf_printf(
		&b,
		"{\"layers\":[{\"type\":\"conv\",\"out\":%d,\"bias\":false},{\"type\":\"batchnorm\"},{\"type\":\"relu\",\"name\":\"b\"},",
		stem);
	for (int i = 0; i < n / 2; i++) {
		int per = n / 2 / stages;
		put_block(&b, i, c[2 * i], c[2 * i + 1], i && i % per == 0 ? 2 : 1, project, in);
		snprintf(in, sizeof in, "b%d", i);
	}
	wasd_buf_printf(&b, "{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}");
	cJSON *j = cJSON_Parse(wasd_buf_cstr(&b));
	CHECK(j);
	wasd_buf_done(&b);
	return j;
}

static uint64_t macs_of(const cJSON *model, int classes)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){3, 32, 32}, classes, &g, &err), "%s", err.msg);
	uint64_t macs = g ? wasd_graph_macs(g, NULL) : 0;
	wasd_graph_destroy(g);
	return macs;
}

static void find_in(const cJSON *model, int classes, struct adjust_net *a)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){3, 32, 32}, classes, &g, &err) &&
	              !adjust_find(model, g, a, &err),
	          "%s", err.msg);
	wasd_graph_destroy(g);
}

/* ---- golden numbers --------------------------------------------------------------------------------------------- */

/* The code's derivative is our difference, up or down: it counts a width that several layers share for one of them. */
static void golden_multiply_adds(void)
{
	static const struct {
		const char *name;
		int classes;
	} nets[] = {{"resnet20_c100_max", 100}, {"resnet20_c10_max", 10}, {"resnet32_c100_max", 100}};
	for (size_t k = 0; k < sizeof nets / sizeof *nets; k++) {
		const cJSON *want = wasd_json_get(golden, nets[k].name);
		int c[MOST], n = ints(wasd_json_get(want, "channels"), c);
		double d[MOST], m[MOST];
		cJSON *model = resnet(16, 3, c, n, 0);
		struct adjust_net a = {0};
		CHECK_NEAR((double)macs_of(model, nets[k].classes), member(want, "flops"), 0);
		find_in(model, nets[k].classes, &a);
		CHECK_INT(a.n, n);
		CHECK(!adjust_costs(&a, m, NULL));
		numbers(wasd_json_get(want, "dF_dc"), d);
		for (int i = 0; i < a.n; i++) {
			uint64_t less = 0;
			CHECK_INT(a.channels[i], c[i]);
			a.channels[i]--;
			CHECK(!adjust_macs(&a, a.channels, &less, NULL));
			a.channels[i]++;
			bool up = m[i] == d[i] * c[i], down = member(want, "flops") - (double)less == d[i];
			CHECK_MSG(up || (down && i % 2), "%s: layer %d: %g or %g, not %g", nets[k].name, i, m[i] / c[i],
			          member(want, "flops") - (double)less, d[i]);
		}
		adjust_net_done(&a);
		cJSON_Delete(model);
	}
}

static void golden_resnet18(void)
{
	const cJSON *want = wasd_json_get(golden, "wasd_resnet18");
	static const char *const by[] = {"one_channel_more", "one_channel_less"};
	int c[16];
	double d[MOST];
	for (int i = 0; i < 16; i++)
		c[i] = 64 << i / 4;
	cJSON *model = resnet(64, 4, c, 16, 3);
	uint64_t base = macs_of(model, 10);
	cJSON_Delete(model);
	CHECK_NEAR((double)base, member(want, "base"), 0);
	for (int k = 0; k < 2; k++) {
		numbers(wasd_json_get(want, by[k]), d);
		for (int i = 0; i < 16; i++) {
			c[i] += k ? -1 : 1;
			model = resnet(64, 4, c, 16, 3);
			double other = (double)macs_of(model, 10);
			CHECK_MSG(fabs(other - (double)base) == d[i], "%s %d: %g", by[k], i, other - (double)base);
			c[i] -= k ? -1 : 1;
			cJSON_Delete(model);
		}
	}
}

static void golden_rates(void)
{
	static const char *const nets[] = {"resnet20_c100_max", "resnet20_c100_local", "resnet20_c10_max",
	                                   "resnet32_c100_max", "resnet18_imagenet_max"};
	for (size_t k = 0; k < sizeof nets / sizeof *nets; k++) {
		const cJSON *want = wasd_json_get(golden, nets[k]);
		double m[MOST], p[MOST], rates[MOST];
		int n = cJSON_GetArraySize(wasd_json_get(want, "c_dF_dc"));
		numbers(wasd_json_get(want, "c_dF_dc"), m);
		numbers(wasd_json_get(want, "drop_at_base_0.05"), p);
		CHECK(adjust_rates(0.05, m, n, rates));
		for (int i = 0; i < n; i++)
			CHECK_NEAR(rates[i], p[i], 1e-10);
	}
}

static void golden_steps(void)
{
	static const char *const steps[] = {"adjust_fur_i", "adjust_fur_rev", "adjust_fur_mod"};
	int first[MOST], n = ints(wasd_json_get(wasd_json_get(golden, "resnet20_c100_max"), "channels"), first);
	cJSON *model = resnet(16, 3, first, n, 0);
	struct adjust_net a = {0};
	find_in(model, 100, &a);
	for (size_t k = 0; k < 3; k++) {
		const cJSON *want = wasd_json_get(golden, steps[k]);
		int c[MOST], adjusted[MOST], scaled[MOST];
		double fur[MOST];
		uint64_t macs = 0;
		memcpy(c, first, sizeof c);
		numbers(wasd_json_get(want, "fur"), fur);
		CHECK_INT(ints(wasd_json_get(want, "after_update"), adjusted), n);
		CHECK_INT(ints(wasd_json_get(want, "after_rescale"), scaled), n);
		CHECK(!adjust_step(fur, n, (int)member(want, "update_num"), member(want, "arch_lr"),
		                   member(want, "arch_lr_decay"), first, c, NULL));
		CHECK_MSG(!memcmp(c, adjusted, (size_t)n * sizeof *c), "%s: step", steps[k]);
		CHECK(!adjust_macs(&a, c, &macs, NULL));
		CHECK_NEAR((double)macs, member(want, "flops_after_update"), 0);
		CHECK(!adjust_rescale(&a, (uint64_t)member(want, "flops_original"), c, NULL));
		CHECK_MSG(!memcmp(c, scaled, (size_t)n * sizeof *c), "%s: rescale", steps[k]);
		CHECK(!adjust_macs(&a, c, &macs, NULL));
		CHECK_NEAR((double)macs, member(want, "flops_after_rescale"), 0);
	}
	adjust_net_done(&a);
	cJSON_Delete(model);
}

static void golden_schedule(void)
{
	const cJSON *want = wasd_json_get(golden, "update_num_schedule_readme"), *one;
	int i = 0;
	cJSON_ArrayForEach(one, want)
		CHECK_INT(adjust_count(6, 0.5, i++), one->valueint);
	CHECK_INT(i, 10);
	CHECK_INT(adjust_count(6, 0.5, 40), 0);
}

/* ---- rules of our own ------------------------------------------------------------------------------------------- */

static void quirks(void)
{
	int first[4] = {16, 16, 16, 8}, c[4] = {16, 16, 16, 4};
	double fur[4] = {1, 1, 1, -2}, rates[4];
	CHECK(!adjust_step(fur, 4, 0, 0.15, 0.01, first, c, NULL));
	CHECK(c[0] == 16 && c[1] == 16 && c[2] == 16 && c[3] == 4); /* k = 0 changes nothing */
	CHECK(!adjust_step(fur, 4, 1, 0.5, 0, first, c, NULL));
	CHECK(c[0] == 24 && c[1] == 16 && c[2] == 16 && c[3] == 4); /* equal values by their order; at least 4 */
	CHECK(!adjust_step(fur, 4, 9, 0, 0, first, c, NULL));
	CHECK(c[0] == 24 && c[1] == 16 && c[2] == 16 && c[3] == 4); /* a step of 0, and more than there are */
	CHECK(!adjust_rates(0.5, (double[]){1, 1, 1, 97}, 4, rates));
	CHECK_NEAR(rates[0], 0.9, 0);
	CHECK_NEAR(rates[3], 0.5 * 25 / 97, 1e-15);
}

/* Up and down; the widths at the target stay; below 4 none falls. */
static void rescales(void)
{
	int c[6] = {16, 16, 32, 32, 64, 64}, was[6];
	cJSON *model = resnet(16, 3, c, 6, 0);
	struct adjust_net a = {0};
	uint64_t base = 0, macs = 0;
	find_in(model, 10, &a);
	CHECK(!adjust_macs(&a, c, &base, NULL));
	memcpy(was, c, sizeof c);
	CHECK(!adjust_rescale(&a, base, c, NULL));
	CHECK(!memcmp(was, c, sizeof c));
	for (int up = 0; up < 2; up++) {
		uint64_t target = up ? base * 3 / 2 : base / 2;
		memcpy(c, was, sizeof c);
		CHECK(!adjust_rescale(&a, target, c, NULL) && !adjust_macs(&a, c, &macs, NULL));
		CHECK_MSG(fabs((double)macs - (double)target) <= 0.03 * (double)macs, "%g for %g", (double)macs,
		          (double)target);
	}
	CHECK(!adjust_rescale(&a, 1, c, NULL));
	for (int i = 0; i < 6; i++)
		CHECK(c[i] >= ADJUST_LEAST);
	adjust_net_done(&a);
	cJSON_Delete(model);
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

/* conv 1x1 of weights 0 and bias 10, 20, ... beside the images, as the golden cells have it. */
static void cell(int in, int out, const char *name)
{
	const cJSON *want = wasd_json_get(wasd_json_get(golden, name), "y"), *one;
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct node pad = graph_node(&layer_addpad);
	real x[16], y[16];
	for (int i = 0; i < 16; i++)
		x[i] = (real)(i + 1);
	CHECK(!wasd_graph_create((struct wasd_shape){in, 2, 2}, &g, &err));
	wasd_node conv = wasd_graph_conv(g, 0, "c", out, 1, 1, 0, 1, true);
	wasd_node sum = graph_add(g, &pad, "", (wasd_node[]){0, conv}, 2);
	CHECK_MSG(!wasd_graph_finish(g, wasd_graph_globalpool(g, sum), &err) && !wasd_model_create(g, 1, &m, &err) &&
	              !wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 1, .keep_all = true}, &e, &err),
	          "%s", err.msg);
	struct wasd_param_info w = wasd_graph_param_info(g, 0), b = wasd_graph_param_info(g, 1);
	for (size_t i = 0; i < w.count; i++)
		wasd_model_master(m)[w.offset + i] = 0;
	for (size_t i = 0; i < b.count; i++)
		wasd_model_master(m)[b.offset + i] = in > out ? (real)(10 * (i + 1)) : 0;
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = 1}, &err) && !wasd_exec_activation(e, sum, y, &err));
	int i = 0;
	cJSON_ArrayForEach(one, want)
		CHECK_NEAR((double)y[i++], one->valuedouble, 1e-6);
	CHECK_INT(i, 16);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

static void golden_cells(void)
{
	cell(2, 4, "cell_in2_out4_zero_convs");
	cell(4, 2, "cell_in4_out2_zero_convs_bias10_20");
}

/* Two layers in a row, of which a pass may name the only one that drops. */
static void drop(int threads, wasd_node only, double p, real *out)
{
	enum { N = 200, C = 20, HW = 4 };
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_rng r;
	static real ones[N * C * HW];
	struct node nd = graph_node(&layer_dropchannel);
	for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
		ones[i] = 1;
	wasd_rng_init(&r, 4, "dropout", 0, 0);
	CHECK(!wasd_threads_init(threads, &err) && !wasd_graph_create((struct wasd_shape){C, 2, 2}, &g, &err));
	nd.p = 0.3;
	wasd_node a = graph_add(g, &nd, "", (wasd_node[]){0}, 1);
	nd.p = 0;
	wasd_node b = graph_add(g, &nd, "", &a, 1);
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, b), &err) && !wasd_model_create(g, 1, &m, &err));
	CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = N, .keep_all = true}, &e, &err));
	CHECK(!wasd_exec_forward(e, ones, &(struct wasd_pass){.n = N, .dropout = &r, .drop = only, .drop_p = p}, &err));
	CHECK(!wasd_exec_activation(e, b, out, &err));
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	wasd_threads_done();
}

static void drops_channels(void)
{
	enum { N = 200 * 20, HW = 4 };
	static real a[N * HW], b[N * HW];
	static const struct {
		wasd_node only;
		double p, rate;
	} rows[] = {{0, 0.9, 0.3}, {1, 0.05, 0.05}, {2, 0.6, 0.6}, {2, 0, 0}};
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		int zeros = 0, wrong = 0;
		drop(1, rows[k].only, rows[k].p, a);
		drop(3, rows[k].only, rows[k].p, b);
		CHECK(!memcmp(a, b, sizeof a));
		for (int i = 0; i < N * HW; i++) {
			zeros += a[i] == 0;
			wrong += a[i] != a[i / HW * HW] || (a[i] != 0 && fabs((double)a[i] - 1 / (1 - rows[k].rate)) > 1e-6);
		}
		CHECK_INT(wrong, 0);
		double share = (double)zeros / (N * HW), sd = sqrt(rows[k].rate * (1 - rows[k].rate) / N);
		CHECK_MSG(fabs(share - rows[k].rate) <= 5 * sd, "row %zu: %g", k, share);
	}
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

#define BLOCK(o) \
	"{\"type\":\"conv\",\"out\":" #o ",\"bias\":false},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"dropchannel\"},"
#define NET \
	"{\"layers\":[" BLOCK(8) "{\"type\":\"maxpool\",\"kernel\":2,\"name\":\"in\"}," BLOCK( \
		12) "{\"type\":\"addpad\",\"from\":[\"in\",\"dropchannel8\"]},{\"type\":\"globalpool\"},{\"type\":\"flatten\"}," \
			"{\"type\":\"linear\",\"out\":\"classes\"}]}"
#define TRAIN "\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.005}}"

static struct wasd_dataset *data;

/* Of one attempt: what its final checkpoint says, and its file; it is cut after `cut` questions whether to stop. */
struct outcome {
	int asked, cut;
	cJSON *adjusted;
	void *file;
	size_t len;
	bool over;
};

static bool should_stop(void *ctx)
{
	struct outcome *o = ctx;
	return o->cut && ++o->asked > o->cut;
}

static enum wasd_status keep(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	struct outcome *o = ctx;
	(void)err;
	wasd_free(o->file);
	o->file = wasd_calloc(1, c->len);
	memcpy(o->file, c->bytes, c->len);
	o->len = c->len;
	o->over = !strcmp(c->reason, "final");
	cJSON_Delete(o->adjusted);
	o->adjusted = cJSON_Duplicate(wasd_json_get(c->info, "adjusted"), true);
	return WASD_OK;
}

/* Goes on from o->file if there is one. */
static enum wasd_status run(const char *text, struct outcome *o, struct wasd_err *err)
{
	cJSON *spec = cJSON_Parse(text);
	struct wasd_trainer *t = NULL;
	struct outcome before = *o;
	struct wasd_train_hooks h = {.ctx = o, .should_stop = should_stop, .checkpoint = keep};
	struct wasd_train_opts opts = {.spec = spec, .data = data, .resume = before.file, .resume_len = before.len};
	enum wasd_train_end end;
	CHECK(spec);
	o->file = NULL;
	o->asked = 0;
	enum wasd_status s = wasd_trainer_create(&opts, &t, err);
	if (!s)
		s = wasd_trainer_run(t, &h, &end, NULL, err);
	wasd_trainer_destroy(t);
	wasd_free(before.file);
	cJSON_Delete(spec);
	return s;
}

static void outcome_done(struct outcome *o)
{
	wasd_free(o->file);
	cJSON_Delete(o->adjusted);
	*o = (struct outcome){0};
}

#define SPEC_OF(adjust) "{\"model\":" NET "," TRAIN ",\"adjust\":" adjust "}"

static void measures_and_adjusts(void)
{
	struct wasd_err err = {0};
	struct outcome o = {0};
	int c[MOST], next[MOST];
	double rates[MOST], fur[MOST];
	CHECK_MSG(!run(SPEC_OF("{\"iterations\":2,\"times\":2,\"update\":1,\"step\":0.5}"), &o, &err), "%s", err.msg);
	const cJSON *to = wasd_json_get(o.adjusted, "next"), *values = wasd_json_get(to, "values"),
				*spec = wasd_json_get(to, "spec"), *adjust = wasd_json_get(spec, "adjust");
	CHECK_INT(ints(wasd_json_get(o.adjusted, "channels"), c), 2);
	CHECK(c[0] == 8 && c[1] == 12);
	CHECK_INT(ints(wasd_json_get(values, "channels"), next), 2);
	numbers(wasd_json_get(o.adjusted, "rates"), rates);
	numbers(wasd_json_get(o.adjusted, "fur"), fur);
	double F = member(o.adjusted, "macs");
	/* 3*9*256*8 + 8*9*64*12 + 12*10, and one channel more of each; the sum is 12 wide in both cases. */
	CHECK_NEAR(F, 3 * 9 * 256 * 8 + 8 * 9 * 64 * 12 + 120, 0);
	double m0 = 8 * (3 * 9 * 256 + 9 * 64 * 12), m1 = 12 * (8 * 9 * 64 + 10);
	CHECK_NEAR(rates[0], 0.05 * (m0 + m1) / 2 / m0, 1e-12);
	CHECK_NEAR(rates[1], 0.05 * (m0 + m1) / 2 / m1, 1e-12);
	CHECK(fur[0] != 0 && fur[1] != 0 && fur[0] != fur[1]);
	/* One grows and the other shrinks by half before both are rescaled. */
	CHECK((next[0] > c[0]) == (fur[0] > fur[1]) && (next[1] > c[1]) == (fur[1] > fur[0]));
	CHECK_NEAR(member(values, "macs"), F, 0.2 * F); /* one channel of so few is 10 % */
	CHECK_INT((int)member(adjust, "iteration"), 2);
	CHECK_INT((int)member(adjust, "iterations"), 2);
	CHECK_NEAR(member(adjust, "macs"), F, 0);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(adjust, "first")), 2);
	struct wasd_graph *g = NULL;
	CHECK(!wasd_network_build(wasd_json_get(spec, "model"), wasd_dataset_shape(data), 10, &g, &err));
	CHECK_NEAR((double)wasd_graph_macs(g, NULL), member(values, "macs"), 0);
	wasd_graph_destroy(g);
	outcome_done(&o);
	/* A step of 0 changes nothing, and behind the last iteration there is none. */
	CHECK_MSG(!run(SPEC_OF("{\"times\":1,\"step\":0}"), &o, &err), "%s", err.msg);
	to = wasd_json_get(o.adjusted, "next");
	CHECK_INT(ints(wasd_json_get(wasd_json_get(to, "values"), "channels"), next), 2);
	CHECK(next[0] == 8 && next[1] == 12);
	CHECK(cJSON_IsNull(wasd_json_get(wasd_json_get(to, "spec"), "adjust")));
	outcome_done(&o);
}

/* Whenever it is cut, in training or while it measures, a run finds the same widths. */
static void survives_cuts(void)
{
	static const char spec[] = SPEC_OF("{\"times\":2,\"update\":1}");
	struct wasd_err err = {0};
	struct outcome whole = {.cut = 100000}, o = {0};
	CHECK_MSG(!run(spec, &whole, &err), "%s", err.msg);
	int total = whole.asked;
	CHECK(total > 20);
	for (int cut = 1; cut < total; cut += 1 + total / 12) {
		o = (struct outcome){.cut = cut};
		CHECK_MSG(!run(spec, &o, &err) && !o.over, "cut %d: %s", cut, err.msg);
		CHECK(!o.adjusted);
		o.cut = 0;
		CHECK_MSG(!run(spec, &o, &err) && o.over, "cut %d: %s", cut, err.msg);
		CHECK_MSG(o.adjusted && cJSON_Compare(o.adjusted, whole.adjusted, true), "cut %d", cut);
		outcome_done(&o);
	}
	outcome_done(&whole);
}

static void refuses(void)
{
	static const struct {
		const char *spec, *pointer;
	} rows[] = {
		{"{\"model\":{\"arch\":\"resnet18\"},\"adjust\":{}}", "/adjust"},
		{"{\"model\":{\"layers\":[{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},"
	     "\"adjust\":{}}",
	     "/adjust"},
		{"{\"model\":" NET ",\"data\":{\"val_fraction\":0},\"adjust\":{}}", "/adjust"},
		{"{\"model\":" NET ",\"adjust\":{\"first\":[8]}}", "/adjust/first"},
		{"{\"model\":" NET ",\"adjust\":{\"iteration\":3,\"iterations\":2}}", "/adjust/iteration"},
		{"{\"model\":" NET ",\"adjust\":{\"rate\":1}}", "/adjust/rate"},
		{"{\"model\":{\"layers\":[{\"type\":\"dropchannel\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},"
	     "\"adjust\":{}}",
	     "/model/layers"},
		{"{\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":3},{\"type\":\"dropchannel\"},{\"type\":\"flatten\"},"
	     "{\"type\":\"linear\",\"out\":\"classes\"}]},\"adjust\":{}}",
	     "/model/layers"},
		/* a plain sum holds both widths together */
		{"{\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":8,\"name\":\"a\"},{\"type\":\"conv\",\"out\":8},"
	     "{\"type\":\"dropchannel\",\"name\":\"d\"},{\"type\":\"add\",\"from\":[\"a\",\"d\"]},{\"type\":\"flatten\"},"
	     "{\"type\":\"linear\",\"out\":\"classes\"}]},\"adjust\":{}}",
	     "/model/layers/3/from"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_err err = {0};
		cJSON *spec = cJSON_Parse(rows[i].spec);
		enum wasd_status s = wasd_train_check(&(struct wasd_train_opts){.spec = spec, .data = data},
		                                      &(struct wasd_train_hooks){0}, &err);
		CHECK_MSG(s == WASD_EINVAL && !strcmp(err.pointer, rows[i].pointer), "row %zu: %s: %s", i, err.pointer,
		          err.msg);
		cJSON_Delete(spec);
	}
}

int main(void)
{
	struct wasd_err err = {0};
	char path[96];
	cJSON *all = golden_part1();
	golden = wasd_json_get(all, "f_network_adjustment");
	TEST_RUN(drops_channels);
	CHECK(!wasd_threads_init(2, &err));
	TEST_RUN(quirks);
	TEST_RUN(rescales);
	if (golden) {
		TEST_RUN(golden_multiply_adds);
		TEST_RUN(golden_resnet18);
		TEST_RUN(golden_rates);
		TEST_RUN(golden_steps);
		TEST_RUN(golden_schedule);
		TEST_RUN(golden_cells);
	}
	tiny_begin();
	data = tiny_glyphs("adjust", 200, 50, 16, path);
	TEST_RUN(refuses);
	TEST_RUN(measures_and_adjusts);
	TEST_RUN(survives_cuts);
	wasd_dataset_close(data);
	tiny_end();
	wasd_threads_done();
	cJSON_Delete(all);
	TEST_END();
}
