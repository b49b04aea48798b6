/* Networks of several widths in one set of weights (core/weights/slices.c) and the modes that serve them
 * (core/modes/width.c): the golden numbers of $WASD_SHARED/strategies/part2.json, runs, checkpoints and bundles. */
#include "golden.h"
#include "tiny.h"

#include "infer/bundle.h"
#include "layers/layer.h"
#include "train/checkpoint.h"
#include "train/trainer.h"
#include "wasd/convert.h"
#include "wasd/model.h"
#include "wasd/slice.h"
#include "weights/slices.h"

static cJSON *golden;
static struct wasd_dataset *data;

static double at(const cJSON *j, int i)
{
	const cJSON *v = cJSON_GetArrayItem(j, i);
	return v ? v->valuedouble : NAN;
}

static const cJSON *of(const char *name)
{
	return wasd_json_get(wasd_json_get(golden, "dsnet"), name);
}

static struct wasd_graph *network(const char *model, struct wasd_shape in, int classes)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse(model);
	CHECK_MSG(j && !wasd_network_build(j, in, classes, &g, &err), "%s: %s", model, err.msg);
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

static real *param(struct wasd_model *m, const char *name)
{
	int i = wasd_graph_param_find(wasd_model_graph(m), name);
	CHECK_MSG(i >= 0, "%s", name);
	return wasd_model_master(m) + wasd_graph_param_info(wasd_model_graph(m), i).offset;
}

/* ---- golden numbers ----------------------------------------------------------------------------------------- */

static void rounds_to_eight(void)
{
	const cJSON *one;
	int n = 0;
	cJSON_ArrayForEach(one, of("make_divisible_8")) {
		double v = strtod(one->string, NULL);
		CHECK_MSG(wasd_slice_channels(1000, v / 1000) == one->valueint, "%s: %d, want %d", one->string,
		          wasd_slice_channels(1000, v / 1000), one->valueint);
		n++;
	}
	CHECK_INT(n, 13);
	CHECK_INT(wasd_slice_channels(6, 0.5), 6);
	CHECK_INT(wasd_slice_channels(512, 1), 512);
	CHECK_INT(wasd_slice_channels(64, 0.01), 8);
}

/* A slice of the four channels in front of a layer and of those behind it. "pre" makes the four of the quarters of an
 * image (as_image). */
struct sliced {
	struct wasd_graph *g;
	struct wasd_model *whole, *small;
	struct wasd_slim *slim;
	struct wasd_exec *e;
	struct slice_runs runs;
};

/* "layer": a convolution or batch norm of maps of side x side. */
static struct sliced sliced_of(bool conv, int images, int side, int ins, int outs)
{
	struct sliced s = {0};
	CHECK(!wasd_graph_create((struct wasd_shape){1, 2 * side, 2 * side}, &s.g, NULL));
	wasd_node x = wasd_graph_conv(s.g, wasd_graph_input(s.g), "pre", 4, 2, 2, 0, 1, false);
	x = conv ? wasd_graph_conv(s.g, x, "layer", 4, 3, 1, 1, 1, false) :
	           wasd_graph_batchnorm(s.g, x, "layer", 1e-5, 0.1);
	x = wasd_graph_conv(s.g, x, "post", 2, 1, 1, 0, 1, false);
	CHECK(!wasd_graph_finish(s.g, wasd_graph_globalpool(s.g, x), NULL));
	uint8_t alive[8][4];
	const uint8_t *sets[8];
	struct wasd_err err = {0};
	wasd_node pre = node(s.g, "pre"), layer = node(s.g, "layer");
	for (wasd_node n = 0; n < wasd_graph_nodes(s.g); n++) {
		int keep = n == pre ? ins : n == layer ? outs : 4;
		for (int c = 0; c < 4; c++)
			alive[n][c] = c < keep; /* fewer where a node has fewer */
		sets[n] = alive[n];
	}
	CHECK(!wasd_model_create(s.g, 1, &s.whole, NULL));
	CHECK_MSG(!wasd_slim_create(s.g, sets, "slice", &s.slim, &err), "%s", err.msg);
	CHECK(!wasd_model_create(wasd_slim_graph(s.slim), 2, &s.small, NULL));
	CHECK(!slice_runs_create(s.slim, s.g, &s.runs, NULL));
	struct wasd_exec_opts o = {.batch = images,
	                           .training = true,
	                           .keep_all = true,
	                           .precision = WASD_PRECISION_FP32_STRICT,
	                           .unmeasured = true};
	CHECK(!wasd_exec_create(s.small, &o, &s.e, NULL));
	real *quarter = param(s.whole, "pre.weight");
	for (int i = 0; i < 16; i++)
		quarter[i] = i % 5 == 0;
	return s;
}

/* Element (channel, y, x) of n images as the pixel that "pre" puts there. */
static void as_image(const real *v, int n, int side, real *image)
{
	for (int i = 0; i < n * 4 * side * side; i++) {
		int x = i % side, y = i / side % side, c = i / side / side % 4, of_image = i / side / side / 4;
		image[(of_image * 2 * side + 2 * y + c / 2) * 2 * side + 2 * x + c % 2] = v[i];
	}
}

static void sliced_done(struct sliced *s)
{
	wasd_exec_destroy(s->e);
	wasd_model_destroy(s->small);
	wasd_model_destroy(s->whole);
	wasd_slim_destroy(s->slim);
	wasd_graph_destroy(s->g);
	wasd_free(s->runs.run);
}

/* The gradient of the slice, and of nothing else: with 0.09 and 0 behind the layer, and the mean of 9 pixels, it is
 * 0.01 dz_0 times that of the sum of its outputs. */
static void conv_gradient(struct sliced *s, int outs)
{
	const cJSON *want = wasd_json_get(of("conv"), "grad_slice");
	size_t n = wasd_graph_param_count(s->g);
	struct wasd_param_info w = wasd_graph_param_info(s->g, wasd_graph_param_find(s->g, "layer.weight"));
	real soft[2] = {1, 0}, *all = wasd_calloc(n, sizeof *all);
	double loss, p0;
	int hits;
	const real *z = wasd_exec_logits(s->e);
	p0 = exp((double)z[0]) / (exp((double)z[0]) + exp((double)z[1]));
	CHECK(!wasd_exec_loss_of(s->e, &(struct wasd_targets){.soft = soft}, &loss, &hits, NULL));
	wasd_model_grad_zero(s->small);
	CHECK(!wasd_exec_backward(s->e, NULL));
	slice_scatter(&s->runs, wasd_model_grad(s->small), all);
	for (size_t i = 0; i < w.count; i++) {
		int o = (int)i / 36, in = (int)i / 9 % 4, k = (int)i % 9;
		double v = (double)all[w.offset + i];
		CHECK_MSG((o < outs && in < 2) || v == 0, "%d %d: %g outside the slice", o, in, v);
		if (o < 2 && in < 2)
			CHECK_NEAR(v / (0.01 * (p0 - 1)), at(want, o * 18 + in * 9 + k), 1e-4);
	}
	wasd_free(all);
}

static void conv_slices(void)
{
	const cJSON *ys = wasd_json_get(of("conv"), "y");
	for (int ins = 2; ins <= 4; ins += 2)
		for (int choice = 0; choice < 3; choice++) {
			struct sliced s = sliced_of(true, 1, 3, ins, choice + 2);
			real v[36], x[36], y[36], *w = param(s.whole, "layer.weight"), *post = param(s.whole, "post.weight");
			CHECK_INT(wasd_graph_param_count(s.g), 16 + 144 + 8);
			char name[24];
			for (int i = 0; i < 144; i++)
				w[i] = (real)((5 * (i / 36) + 3 * (i / 9 % 4) + 2 * (i / 3 % 3) + i % 3) % 7 - 3);
			for (int i = 0; i < 36; i++)
				v[i] = (real)((3 * (i / 9) + 2 * (i / 3 % 3) + i % 3) % 5 - 2);
			as_image(v, 1, 3, x);
			slice_gather(&s.runs, s.whole, wasd_model_master(s.small));
			CHECK(!wasd_exec_forward(s.e, x, &(struct wasd_pass){.n = 1, .bn = WASD_BN_BATCH}, NULL));
			CHECK(!wasd_exec_activation(s.e, node(wasd_slim_graph(s.slim), "layer"), y, NULL));
			snprintf(name, sizeof name, "in%d_choice%d", ins, choice);
			CHECK_INT(cJSON_GetArraySize(wasd_json_get(ys, name)), 9 * (choice + 2));
			for (int i = 0; i < 9 * (choice + 2); i++)
				CHECK_NEAR((double)y[i], at(wasd_json_get(ys, name), i), 1e-5);
			if (ins == 2 && !choice) {
				for (int i = 0; i < 8; i++)
					post[i] = i < 4 ? (real)0.09 : 0;
				slice_gather(&s.runs, s.whole, wasd_model_master(s.small));
				CHECK(!wasd_exec_forward(s.e, x, &(struct wasd_pass){.n = 1, .bn = WASD_BN_BATCH}, NULL));
				conv_gradient(&s, 2);
			}
			sliced_done(&s);
		}
}

/* Shared scale and shift, statistics of its own: the other width's, and the whole network's, stay. */
static void batchnorm_of_a_width(void)
{
	const cJSON *t = of("bn");
	for (int n = 2; n <= 4; n += 2) {
		struct sliced s = sliced_of(false, 2, 2, n, n);
		real v[32], x[32], y[32], kept[8];
		for (int i = 0; i < 32; i++)
			v[i] = (real)((i / 4 % 4 + 1) * ((2 * (i / 16) + 3 * (i / 2 % 2) + i % 2) % 4));
		as_image(v, 2, 2, x);
		for (int c = 0; c < 4; c++) {
			param(s.whole, "layer.weight")[c] = (real)(c + 1);
			param(s.whole, "layer.bias")[c] = (real)(c % 2 ? -0.5 : 0.5);
		}
		memcpy(kept, wasd_model_stats(s.whole, WASD_STATS_TRAIN), sizeof kept);
		slice_gather(&s.runs, s.whole, wasd_model_master(s.small));
		struct wasd_pass pass = {.n = 2, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN, .update = true};
		CHECK(!wasd_exec_forward(s.e, x, &pass, NULL));
		CHECK(!wasd_exec_activation(s.e, node(wasd_slim_graph(s.slim), "layer"), y, NULL));
		const real *stats = wasd_model_stats(s.small, WASD_STATS_TRAIN);
		for (int c = 0; c < n; c++) {
			CHECK_NEAR((double)stats[c], at(wasd_json_get(t, n == 2 ? "mean2" : "mean4"), c), 1e-6);
			CHECK_NEAR((double)stats[n + c], at(wasd_json_get(t, n == 2 ? "var2" : "var4"), c), 1e-6);
		}
		for (int i = 0; i < (n == 2 ? 16 : 8); i++)
			CHECK_NEAR((double)y[i], at(wasd_json_get(t, n == 2 ? "y2" : "y4_first8"), i), 1e-5);
		CHECK(!memcmp(kept, wasd_model_stats(s.whole, WASD_STATS_TRAIN), sizeof kept));
		sliced_done(&s);
	}
}

static void read_logits(const char *name, real out[6])
{
	const cJSON *j = wasd_json_get(wasd_json_get(of("ib_losses"), "logits"), name);
	for (int i = 0; i < 6; i++)
		out[i] = (real)at(cJSON_GetArrayItem(j, i / 3), i % 3);
}

static double soft_loss(const char *name, const real *soft, real *dz)
{
	real z[6];
	double loss = NAN;
	int hits = -1;
	read_logits(name, z);
	CHECK(!loss_softmax_xent(z, &(struct wasd_targets){.soft = soft}, 2, 3, &loss, &hits, dz, NULL));
	CHECK_INT(hits, 0);
	return loss;
}

static void losses(void)
{
	const cJSON *t = of("ib_losses");
	const int32_t labels[2] = {0, 1};
	real z[6], soft[6] = {0}, mixed[6] = {0}, dz[6];
	double loss;
	int hits;
	read_logits("largest", z);
	CHECK(!loss_softmax_xent(z, &(struct wasd_targets){.y = labels}, 2, 3, &loss, &hits, NULL, NULL));
	CHECK_NEAR(loss, wasd_json_get(t, "ce_largest")->valuedouble, 1e-6);
	read_logits("ema_largest", z);
	slice_softmax(z, 2, 3, 1, soft);
	slice_softmax(z, 2, 3, 0.5, mixed);
	CHECK_NEAR(soft_loss("mid", soft, dz), wasd_json_get(t, "ib_mid")->valuedouble, 1e-6);
	for (int i = 0; i < 6; i++)
		CHECK_NEAR((double)dz[i], at(wasd_json_get(t, "d_ib_mid"), i), 1e-6);
	CHECK_NEAR(soft_loss("small", soft, NULL), wasd_json_get(t, "ib_small")->valuedouble, 1e-6);
	read_logits("ema_mid", z);
	slice_softmax(z, 2, 3, 0.5, mixed);
	CHECK_NEAR(soft_loss("small", mixed, NULL), wasd_json_get(t, "ieb_small")->valuedouble, 1e-6);
	CHECK_NEAR(slice_decay(0), 0.1, 1e-15);
	CHECK_NEAR(slice_decay(5), 0.4, 1e-15);
	CHECK_NEAR(slice_decay(1000000), 0.997, 1e-15);
}

static void counts(void)
{
	const cJSON *t = wasd_json_get(wasd_json_get(golden, "counts"), "resnet18_width");
	struct wasd_graph *g = network("{\"arch\":\"resnet18\"}", (struct wasd_shape){3, 32, 32}, 10);
	for (int k = 1; k <= 4; k++) {
		struct wasd_slim *s = NULL;
		struct wasd_err err = {0};
		char name[8];
		snprintf(name, sizeof name, "%d", 16 * k);
		const cJSON *want = wasd_json_get(t, name);
		CHECK_MSG(!wasd_slice_create(g, k / 4.0, "narrow", &s, &err), "%s", err.msg);
		const struct wasd_graph *small = wasd_slim_graph(s);
		size_t params = wasd_graph_param_count(small);
		for (int i = 0; i < wasd_graph_params(small); i++) {
			struct wasd_param_info p = wasd_graph_param_info(small, i);
			params -= strstr(p.name, "alpha") ? p.count : 0;
		}
		CHECK_INT(wasd_graph_macs(small, NULL), wasd_json_get(want, "macs")->valuedouble);
		CHECK_INT(params, wasd_json_get(want, "params_without_alpha")->valuedouble);
		wasd_slim_destroy(s);
	}
	wasd_graph_destroy(g);
}

static void every_network(void)
{
	static const char *const archs[] = {"lenet", "vgg16", "resnet18", "googlenet", "mobilenetv2", "efficientnet_lite0"};
	for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
		char model[64];
		struct wasd_slim *s = NULL;
		struct wasd_err err = {0};
		snprintf(model, sizeof model, "{\"arch\":\"%s\"}", archs[i]);
		struct wasd_graph *g = network(model, (struct wasd_shape){3, 32, 32}, 10);
		CHECK_MSG(!wasd_slice_create(g, 0.5, "narrow", &s, &err), "%s: %s", archs[i], err.msg);
		const struct wasd_graph *small = wasd_slim_graph(s);
		double share = (double)wasd_graph_macs(small, NULL) / (double)wasd_graph_macs(g, NULL);
		CHECK_MSG(share < 0.8, "%s: %.3f of the multiply-adds", archs[i], share);
		/* so that a draw of the whole network is one of the narrow one */
		CHECK_INT(wasd_graph_augs(small), wasd_graph_augs(g));
		for (int k = 0; k < wasd_graph_augs(g); k++) {
			struct wasd_aug_info a = wasd_graph_aug_info(g, k), b = wasd_graph_aug_info(small, k);
			CHECK_STR(b.layer, a.layer);
			CHECK(b.k == a.k && (b.alpha_param < 0) == (a.alpha_param < 0));
		}
		wasd_slim_destroy(s);
		wasd_graph_destroy(g);
	}
}

/* ---- runs --------------------------------------------------------------------------------------------------- */

/* Residual, concatenated, depthwise, dropout; 8, 16 and 24 or 32 channels at the widths below. a: of the layers' width.
 */
#define MODEL_OF(a, b, e) \
	"{\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":" a \
	",\"bias\":false},{\"type\":\"batchnorm\",\"name\":\"1\"}," \
	"{\"type\":\"relu\",\"name\":\"ar\"},{\"type\":\"maxpool\",\"kernel\":2,\"name\":\"p\"}," \
	"{\"type\":\"conv\",\"name\":\"b\",\"out\":" b "},{\"type\":\"batchnorm\"},{\"type\":\"relu\",\"name\":\"br\"}," \
	"{\"type\":\"conv\",\"name\":\"c\",\"out\":" a "},{\"type\":\"batchnorm\",\"name\":\"cbn\"}," \
	"{\"type\":\"add\",\"from\":[\"cbn\",\"p\"],\"name\":\"s\"},{\"type\":\"concat\",\"from\":[\"s\",\"br\"]}," \
	"{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"conv\",\"name\":\"d\",\"depthwise\":true},{\"type\":\"batchnorm\"}," \
	"{\"type\":\"relu\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"e\",\"out\":" e \
	"},{\"type\":\"relu\"}," \
	"{\"type\":\"dropout\",\"p\":0.2},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]}"
#define MODEL MODEL_OF("32", "16", "32")
#define SPEC_FOR(epochs, weights) \
	"{\"model\":" MODEL "," weights ",\"train\":{\"epochs\":" epochs ",\"batch\":32,\"precision\":\"fp32-strict\"," \
	"\"optimizer\":{\"type\":\"adamw\",\"lr\":0.002}},\"checkpoint\":{\"every\":1}}"
#define SPEC_OF(weights) SPEC_FOR("3", weights)
#define SLICES(options) SPEC_OF("\"weights\":[{\"type\":\"slices\"" options "}]")
#define LAW "\"transforms\":[{\"type\":\"rotate\"},{\"type\":\"translate\"}]"
#define BOTH(options) "\"weights\":[{\"type\":\"slices\"" options "},{\"type\":\"was\",\"probability\":0.7," LAW "}]"
#define WITH_WAS(options) SPEC_OF(BOTH(options))

static struct tiny_run run_of(const char *spec, const char *backend)
{
	struct tiny_run r = {.backend = backend};
	tiny_go(&r, spec, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	return r;
}

/* The whole network alone is plain training, or that with WAS. */
static void one_width_is_plain(void)
{
	static const char *const specs[][2] = {{SPEC_OF("\"was\":false"), SLICES(",\"widths\":[1]")},
	                                       {SPEC_OF("\"was\":{\"probability\":0.7," LAW "}"),
	                                        WITH_WAS(",\"widths\":[1]")}};
	for (int i = 0; i < 2; i++) {
		struct tiny_run plain = run_of(specs[i][0], NULL), one = run_of(specs[i][1], NULL);
		CHECK_STR(one.sha, plain.sha);
		CHECK(one.value[3][0] == plain.value[3][0] && one.value[3][3] == plain.value[3][3]);
		CHECK(!i == isnan(one.value[3][5]) && (!i || one.value[3][5] == plain.value[3][5]));
		tiny_done(&plain);
		tiny_done(&one);
	}
}

/* Three of them change from the labels to the teacher after the first epoch. */
static const char *const variants[] = {SLICES(",\"label_epochs\":1"),
                                       SLICES(",\"label_epochs\":0,\"teacher\":\"largest\",\"ensemble\":true"),
                                       SLICES(",\"label_epochs\":1,\"widths\":[0.25,0.4,0.5,0.75,1],\"ensemble\":true"),
                                       WITH_WAS(",\"label_epochs\":1,\"widths\":[0.25,0.5,1],\"ensemble\":true")};

static const struct wasd_st_tensor *tensor(const struct checkpoint *c, const char *name)
{
	const struct wasd_st_tensor *t = wasd_st_find(c->st, name);
	CHECK_MSG(t, "%s", name);
	return t;
}

/* Every tensor of one file has the bits of the other's. */
static void same_tensors(const struct tiny_run *a, const struct tiny_run *b)
{
	struct checkpoint x = {0}, y = {0};
	CHECK(!checkpoint_open(a->file, a->len, &x, NULL) && !checkpoint_open(b->file, b->len, &y, NULL));
	CHECK_INT(wasd_st_count(x.st), wasd_st_count(y.st));
	for (size_t i = 0; i < wasd_st_count(x.st); i++) {
		const struct wasd_st_tensor *s = wasd_st_at(x.st, i), *t = tensor(&y, s->name);
		CHECK_MSG(t && s->count == t->count && s->dtype == t->dtype &&
		              !memcmp(s->data, t->data, s->count * wasd_dtype_size(s->dtype)),
		          "%s", s->name);
	}
	checkpoint_done(&x);
	checkpoint_done(&y);
}

static void a_cut_run_has_the_same_bits(void)
{
	for (size_t k = 0; k < sizeof variants / sizeof *variants; k++) {
		struct tiny_run straight = run_of(variants[k], NULL);
		for (int stop = 1; stop < straight.polls; stop += 1 + straight.polls / 5) {
			struct tiny_run cut = {.stop_at = stop};
			tiny_go(&cut, variants[k], data);
			CHECK_MSG(!cut.status && cut.end == WASD_TRAIN_CANCELLED, "%s", cut.err.msg);
			cut.stop_at = 0;
			tiny_go(&cut, variants[k], data);
			CHECK_MSG(!cut.status, "%s", cut.err.msg);
			CHECK_MSG(sizeof(real) == 8 || !strcmp(cut.sha, straight.sha), "%s: stopped at poll %d: other bits",
			          variants[k], stop);
			same_tensors(&cut, &straight);
			tiny_done(&cut);
		}
		tiny_done(&straight);
	}
}

/* Of which teacher the narrower networks learn plays no part while they learn from the labels: by default in all of a
 * run as short as this. */
static void labels_need_no_teacher(void)
{
	static const char *const lists[] = {SLICES(",\"teacher\":\"largest\""),
	                                    SLICES(",\"teacher\":\"largest\",\"ensemble\":true"),
	                                    SLICES(",\"teacher\":\"largest\",\"ensemble\":true,\"label_epochs\":3"),
	                                    SLICES(",\"teacher\":\"largest\",\"ensemble\":true,\"label_epochs\":2")};
	struct tiny_run r[4];
	for (int i = 0; i < 4; i++)
		r[i] = run_of(lists[i], NULL);
	same_tensors(&r[0], &r[1]);
	same_tensors(&r[0], &r[2]);
	CHECK(r[0].value[2][0] == r[3].value[2][0] && r[0].value[3][0] != r[3].value[3][0]);
	for (int i = 0; i < 4; i++)
		tiny_done(&r[i]);
}

static void threads_do_not_matter(void)
{
	static const char spec[] = SPEC_FOR("1", BOTH(",\"label_epochs\":0,\"widths\":[0.25,0.5,1],\"ensemble\":true"));
	CHECK(!wasd_threads_init(2, NULL));
	struct tiny_run two = run_of(spec, "ref");
	CHECK(!wasd_threads_init(1, NULL));
	struct tiny_run one = run_of(spec, "ref");
	CHECK_STR(one.sha, two.sha);
	same_tensors(&one, &two);
	tiny_done(&one);
	tiny_done(&two);
}

/* The list, the numbers and the statistics of the modes in a checkpoint. */
static void modes_of_a_checkpoint(void)
{
	static const char *const names[] = {"aom", "dom", "width:0.25", "width:0.5", "width:0.75"};
	struct tiny_run r = run_of(WITH_WAS(",\"teacher\":\"largest\""), NULL);
	struct checkpoint c = {0};
	char name[WASD_MODE_LEN];
	double macs[5] = {0}, acc;
	CHECK(!checkpoint_open(r.file, r.len, &c, NULL));
	CHECK_INT(cJSON_GetArraySize(c.modes), 5);
	for (int i = 0; i < 5; i++) {
		const cJSON *entry = cJSON_GetArrayItem(c.modes, i);
		CHECK(!wasd_mode_at(r.file, r.len, i, name, NULL));
		CHECK_STR(name, names[i]);
		CHECK(wasd_mode_ok(name));
		CHECK(wasd_json_num(entry, "macs", &macs[i]) && wasd_json_num(entry, "val_acc", &acc) && acc >= 0 && acc <= 1);
		CHECK(cJSON_IsTrue(wasd_json_get(entry, "measured")));
	}
	CHECK(macs[2] < macs[3] && macs[3] < macs[4] && macs[4] < macs[0] && macs[1] < macs[0]);
	/* of a width's statistics the channels that it does not have are never written */
	const float *v = (const float *)tensor(&c, "width:0.25.1.running_var")->data;
	for (int i = 0; sizeof(real) == 4 && i < 32; i++)
		CHECK_MSG((v[i] == 1) == (i >= 8), "%d: %g", i, (double)v[i]);
	checkpoint_done(&c);
	tiny_done(&r);
}

static bool is_alpha(const struct wasd_graph *g, size_t i)
{
	for (int k = 0; k < wasd_graph_augs(g); k++) {
		int p = wasd_graph_aug_info(g, k).alpha_param;
		if (p >= 0 && wasd_graph_param_info(g, p).offset == i)
			return true;
	}
	return false;
}

/* The gradient that a narrow network adds in a step, by differences of its own loss, with the labels, or with the
 * teacher held; with a draw, through its transpose into the weights and alphas of `model`. */
static void narrow_gradient_of(const char *model, const char *draw, bool labels)
{
	enum { N = 4 };
	struct wasd_graph *g = network(model, (struct wasd_shape){3, 16, 16}, 10);
	struct wasd_model *m = NULL, *small = NULL;
	struct wasd_exec *e = NULL, *narrow = NULL;
	struct wasd_slim *slim = NULL;
	struct wasd_err err = {0};
	struct weight_chain *c[2] = {NULL};
	struct wasd_exec_opts o = {.batch = N,
	                           .training = true,
	                           .backend = "openblas",
	                           .precision = WASD_PRECISION_FP32_STRICT,
	                           .unmeasured = true};
	struct wasd_pass pass = {.n = N, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN};
	static const int32_t y[N] = {2, 0, 1, 7};
	const char *step[] = {"", labels ? "{\"type\":\"slices\",\"widths\":[0.5,1]}" :
	                                   "{\"type\":\"slices\",\"widths\":[0.5,1],\"teacher\":\"largest\","
	                                   "\"label_epochs\":0}"};
	size_t n = wasd_graph_param_count(g);
	real *x = wasd_calloc(N * 3 * 16 * 16, sizeof *x), soft[N * 10] = {0}, *grad[2];
	struct wasd_rng r;
	double loss, h = sizeof(real) == 8 ? 1e-5 : 1e-2;
	int hits;
	wasd_rng_init(&r, 5, "x", 0, 0);
	for (int i = 0; i < N * 3 * 16 * 16; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	for (int k = 0; k < 2; k++) {
		char *text = wasd_asprintf("[%s%s%s]", step[k], k && *draw ? "," : "", draw);
		cJSON *list = cJSON_Parse(text);
		CHECK(!wasd_model_create(g, 1, &m, NULL) &&
		      !chain_create(g, &(struct chain_spec){.weights = list, .paper = "{}", .seed = 1}, &c[k], &err));
		CHECK(!chain_attach(c[k], m, NULL) && !wasd_exec_create(m, &o, &e, NULL) &&
		      !chain_plan(c[k], &(struct weight_plan){.graph = g, .model = m, .exec = &o}, NULL) &&
		      !chain_begin(c[k], NULL, &(struct weight_run){.batches = 1, .master = wasd_model_master(m)}, NULL));
		CHECK(!chain_draw(c[k], &(struct weight_when){0}, NULL, &pass.recipe, NULL) && !pass.recipe == !*draw);
		wasd_model_grad_zero(m);
		CHECK(!chain_passes(c[k], &(struct weight_passes){0, e, x, &pass, &(struct wasd_targets){.y = y}}, &loss, &hits,
		                    NULL));
		grad[k] = wasd_calloc(n, sizeof(real));
		memcpy(grad[k], wasd_model_grad(m), n * sizeof(real));
		if (!k)
			slice_softmax(wasd_exec_logits(e), N, 10, 1, soft);
		cJSON_Delete(list);
		wasd_free(text);
		wasd_exec_destroy(e);
		if (!k)
			wasd_model_destroy(m);
	}
	CHECK(!wasd_slice_create(g, 0.5, "narrow", &slim, NULL) &&
	      !wasd_model_create(wasd_slim_graph(slim), 2, &small, NULL));
	CHECK(!wasd_exec_create(small, &o, &narrow, NULL));
	struct wasd_targets hard = {.y = y}, taught = {.soft = soft};
	size_t wrong = 0, seen = 0;
	real *w = wasd_model_master(m);
	for (size_t i = 0; i < n; i++) {
		double v[2];
		if (i % 37 && !is_alpha(g, i))
			continue;
		real was = w[i];
		for (int side = 0; side < 2; side++) {
			w[i] = was + (real)(side ? -h : h);
			wasd_slim_copy_params(slim, w, wasd_model_master(small));
			CHECK(!wasd_exec_forward(narrow, x, &pass, NULL) &&
			      !wasd_exec_loss_of(narrow, labels ? &hard : &taught, &v[side], &hits, NULL));
		}
		w[i] = was;
		double want = (v[0] - v[1]) / (2 * h), got = (double)(grad[1][i] - grad[0][i]);
		wrong += !(fabs(want - got) < (sizeof(real) == 8 ? 1e-6 : labels ? 3e-2 : 5e-3)); /* float: kinks within h */
		seen += fabs(got) > 1e-6;
	}
	CHECK_MSG(!wrong && seen > 50, "%s%s: %zu wrong, %zu seen", draw, labels ? "labels" : "", wrong, seen);
	for (int k = 0; k < 2; k++)
		chain_destroy(c[k]);
	wasd_exec_destroy(narrow);
	wasd_model_destroy(small);
	wasd_model_destroy(m);
	wasd_slim_destroy(slim);
	wasd_graph_destroy(g);
	wasd_free(x);
	wasd_free(grad[0]);
	wasd_free(grad[1]);
}

static void the_narrow_gradient(void)
{
	narrow_gradient_of(MODEL, "", false);
	narrow_gradient_of(MODEL, "", true);
	/* "a" and "c" have an alpha */
	narrow_gradient_of(MODEL_OF("32,\"augment\":true", "16", "32"), "{\"type\":\"was\"," LAW "}", false);
}

/* ---- serving ------------------------------------------------------------------------------------------------ */

/* logits of four images with the statistics served. */
static void served(struct wasd_model *m, real out[40])
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = 4, .precision = WASD_PRECISION_FP32_STRICT, .unmeasured = true};
	struct wasd_rng r;
	real x[4 * 3 * 16 * 16];
	wasd_rng_init(&r, 1, "images", 0, 0);
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err), "%s", err.msg);
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = 4, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, NULL));
	memcpy(out, wasd_exec_logits(e), 40 * sizeof *out);
	wasd_exec_destroy(e);
}

/* Whether a coordinate of the whole network's parameter is in the half: of the two parts of the concatenation (32 and
 * 16 channels, 16 and 8 in the half) and of what follows it, whose maps are 4 x 4. */
static bool in_half(const char *layer, bool column, int i)
{
	if (!column)
		return !strcmp(layer, "d") || !strcmp(layer, "batchnorm13") ? i < 16 || (i >= 32 && i < 40) :
		       !strcmp(layer, "b") || !strcmp(layer, "batchnorm5")  ? i < 8 :
		       !strcmp(layer, "fc")                                 ? true :
		                                                              i < 16;
	if (!strcmp(layer, "a") || !strcmp(layer, "d"))
		return true;
	if (!strcmp(layer, "c"))
		return i < 8;
	if (!strcmp(layer, "e"))
		return i / 16 < 16 || (i / 16 >= 32 && i / 16 < 40);
	return i < 16;
}

/* Copies the half of a tensor of rows x columns x taps. */
static size_t copy_half(const char *layer, const struct wasd_st_tensor *t, real *to)
{
	size_t n = 0, columns = t->ndims > 1 ? t->dims[1] : 1, taps = t->count / t->dims[0] / columns;
	for (size_t i = 0; i < t->count; i++) {
		int row = (int)(i / taps / columns), column = (int)(i / taps % columns);
		if (in_half(layer, false, row) && (t->ndims < 2 || in_half(layer, true, column)))
			to[n++] = t->dtype == WASD_F64 ? (real)((const double *)t->data)[i] : (real)((const float *)t->data)[i];
	}
	return n;
}

/* The mode computes what a network built with those channels does with the copied slices, bit for bit. */
static void a_bundle_is_the_narrow_network(void)
{
	struct tiny_run r = run_of(WITH_WAS(",\"widths\":[0.5,1]"), NULL);
	struct checkpoint c = {0};
	struct wasd_bundle *mode = NULL, *own = NULL;
	struct wasd_model *m = NULL;
	struct wasd_err err = {0};
	real a[40], b[40], whole[40];
	char name[100], layer[100];
	struct wasd_graph *g = network(MODEL_OF("16", "8", "16"), (struct wasd_shape){3, 16, 16}, 10);
	CHECK(!wasd_model_create(g, 9, &m, NULL) && !checkpoint_open(r.file, r.len, &c, NULL));
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		snprintf(layer, sizeof layer, "%.*s", (int)strcspn(p.name, "."), p.name);
		CHECK_INT(copy_half(layer, tensor(&c, p.name), wasd_model_master(m) + p.offset), p.count);
	}
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info s = wasd_graph_stats_info(g, i);
		real *stats = wasd_model_stats(m, WASD_STATS_AOM);
		snprintf(name, sizeof name, "width:0.5.%s.running_mean", s.name);
		CHECK_INT(copy_half(s.name, tensor(&c, name), stats + s.mean_offset), s.channels);
		snprintf(name, sizeof name, "width:0.5.%s.running_var", s.name);
		CHECK_INT(copy_half(s.name, tensor(&c, name), stats + s.var_offset), s.channels);
	}
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(r.file, r.len, "width:0.5"), &mode, &err), "%s", err.msg);
	CHECK(!bundle_compile(m, NULL, WASD_STATS_AOM, &own, NULL));
	served(bundle_model(mode), a);
	served(bundle_model(own), b);
	CHECK(!memcmp(a, b, sizeof a));
	CHECK(wasd_bundle_macs(mode) == wasd_graph_macs(g, NULL));
	wasd_bundle_unref(own);
	own = NULL;
	CHECK(!wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &own, &err));
	served(bundle_model(own), whole);
	CHECK(memcmp(a, whole, sizeof a));
	wasd_bundle_unref(own);
	wasd_bundle_unref(mode);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
	tiny_done(&r);
}

/* ---- exports ------------------------------------------------------------------------------------------------ */

/* The bundle of a mode on the images of served(). */
static void answer(const void *file, size_t len, const char *mode, real out[40])
{
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, mode), &b, &err), "%s: %s", mode, err.msg);
	served(bundle_model(b), out);
	wasd_bundle_unref(b);
}

/* A width alone, as safetensors and back, has its bits; as ONNX, its classes. An export of the whole is imported with
 * the plain weights. */
static void exports(void)
{
	struct tiny_run r = run_of(WITH_WAS(",\"widths\":[0.5,1]"), NULL);
	struct wasd_import how = {.to_serve = true};
	struct wasd_err err = {0};
	void *made = NULL, *again = NULL;
	size_t len, again_len;
	cJSON *info = NULL;
	real narrow[40], whole[40], got[40];
	answer(r.file, r.len, "width:0.5", narrow);
	answer(r.file, r.len, "aom", whole);
	CHECK_MSG(!wasd_export_smaller(r.file, r.len, "width:0.5", &made, &len, &err) &&
	              !wasd_import(made, len, &how, &again, &again_len, &info, &err),
	          "%s", err.msg);
	CHECK_STR(wasd_json_get(info, "arch")->valuestring, "custom-0.5");
	answer(again, again_len, "aom", got);
	CHECK(!memcmp(narrow, got, sizeof got));
	wasd_free(made);
	wasd_free(again);
	cJSON_Delete(info);
	info = NULL;
	CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &made, &len, &err) &&
	              !wasd_import(made, len, &how, &again, &again_len, &info, &err),
	          "%s", err.msg);
	answer(again, again_len, "aom", got);
	CHECK(!memcmp(whole, got, sizeof got));
	wasd_free(made);
	wasd_free(again);
	cJSON_Delete(info);
	CHECK_INT(wasd_export_smaller(r.file, r.len, "aom", &made, &len, &err), WASD_EINVAL);
	CHECK_INT(wasd_export_smaller(r.file, r.len, "width:0.25", &made, &len, &err), WASD_ENOTFOUND);
	tiny_done(&r);
}

/* ---- refusals ------------------------------------------------------------------------------------------------ */

static void refused(const char *spec, const char *pointer)
{
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse(spec), *out = NULL;
	CHECK_MSG(j, "%s", spec);
	enum wasd_status s = wasd_train_estimate(&(struct wasd_train_opts){.spec = j, .data = data}, &out, &err);
	CHECK_MSG(s == WASD_EINVAL && !strcmp(err.pointer, pointer), "%s: %s at \"%s\": %s", spec, wasd_status_name(s),
	          err.pointer, err.msg);
	cJSON_Delete(out);
	cJSON_Delete(j);
}

static void refusals(void)
{
	refused(SLICES(",\"widths\":[0.25,0.5]"), "/weights/0/widths");
	refused(SLICES(",\"widths\":[]"), "/weights/0/widths");
	refused(SLICES(",\"widths\":[0.5,0.25,1]"), "/weights/0/widths/1");
	refused(SLICES(",\"widths\":[0,1]"), "/weights/0/widths/0");
	refused(SLICES(",\"widths\":[0.12345,1]"), "/weights/0/widths/0");
	refused(SLICES(",\"widths\":[0.5,\"1\"]"), "/weights/0/widths/1");
	refused(SLICES(",\"widths\":[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,1]"), "/weights/0/widths");
	refused(SLICES(",\"teacher\":\"smallest\""), "/weights/0/teacher");
	refused(SLICES(",\"label_epochs\":-1"), "/weights/0/label_epochs");
	refused(SPEC_OF("\"adjust\":{},\"data\":{\"val_fraction\":0.2},\"weights\":[{\"type\":\"slices\"}]"), "/adjust");
	refused(SPEC_OF("\"weights\":[{\"type\":\"inrank\",\"compute\":\"composed\"},{\"type\":\"slices\"}]"),
	        "/weights/1");
	refused(SPEC_OF("\"weights\":[{\"type\":\"slices\"},{\"type\":\"was\"," LAW ",\"groups\":2}]"),
	        "/weights/1/groups");
	refused(SPEC_OF("\"weights\":[{\"type\":\"was\"," LAW ",\"groups\":2},{\"type\":\"slices\"}]"),
	        "/weights/0/groups");
	refused(SPEC_OF("\"weights\":[{\"type\":\"was\"," LAW ",\"draw\":\"profile:p\",\"profile\":[{\"layer\":\"a\","
	                "\"groups\":[{\"op\":\"hflip\"},{\"op\":\"identity\"}]}]},{\"type\":\"slices\"}]"),
	        "/weights/0/profile");
}

/* The memory of the networks is what the estimate and the run's plan add for them. */
static void memory_is_known(void)
{
	static const char *const specs[] = {SPEC_OF("\"was\":false"), SLICES(",\"teacher\":\"largest\"")};
	double bytes[2] = {0};
	struct wasd_err err = {0};
	size_t own = 2 * 32 * 10 * sizeof(real), planned[2];
	for (int i = 0; i < 2; i++) {
		struct wasd_trainer *t = NULL;
		cJSON *spec = cJSON_Parse(specs[i]), *out = NULL;
		struct wasd_train_opts o = {.spec = spec, .data = data, .unmeasured = true};
		CHECK_MSG(!wasd_train_estimate(&o, &out, &err) && !wasd_trainer_create(&o, &t, &err), "%s", err.msg);
		CHECK(wasd_json_num(wasd_json_get(out, "memory"), "workspace", &bytes[i]));
		CHECK(!i || wasd_json_get(wasd_json_get(out, "macs"), "width:0.25"));
		planned[i] = wasd_trainer_info(t).planned_bytes;
		for (int k = t->n_own; k < t->n_modes; k++) {
			const struct wasd_graph *g = wasd_slim_graph(t->mode[k].network.slim);
			own += wasd_exec_bytes(t->mode[k].network.exec) +
			       (2 * wasd_graph_param_count(g) + 3 * wasd_graph_stats_count(g)) * sizeof(real);
		}
		wasd_trainer_destroy(t);
		cJSON_Delete(spec);
		cJSON_Delete(out);
	}
	CHECK_INT(planned[1] - planned[0], own);
	CHECK_INT(bytes[1] - bytes[0], own);
}

static void without_memory(void)
{
	cJSON *spec = cJSON_Parse(SLICES(",\"widths\":[0.5,1]"));
	tiny_without_memory(&(struct wasd_train_opts){.spec = spec, .data = data, .unmeasured = true});
	cJSON_Delete(spec);
}

int main(void)
{
	char path[96];
	CHECK(!wasd_threads_init(1, NULL));
	tiny_begin();
	data = tiny_glyphs("widths", 160, 40, 16, path);
	golden = golden_part2();
	if (golden) {
		TEST_RUN(rounds_to_eight);
		TEST_RUN(conv_slices);
		TEST_RUN(batchnorm_of_a_width);
		TEST_RUN(losses);
		TEST_RUN(counts);
	}
	TEST_RUN(every_network);
	TEST_RUN(the_narrow_gradient);
	TEST_RUN(one_width_is_plain);
	TEST_RUN(a_cut_run_has_the_same_bits);
	TEST_RUN(labels_need_no_teacher);
	TEST_RUN(threads_do_not_matter);
	TEST_RUN(modes_of_a_checkpoint);
	TEST_RUN(a_bundle_is_the_narrow_network);
	TEST_RUN(exports);
	TEST_RUN(refusals);
	TEST_RUN(memory_is_known);
	TEST_RUN(without_memory);
	wasd_dataset_close(data);
	tiny_end();
	cJSON_Delete(golden);
	TEST_END();
}
