/* tests/core/extend.c - a network, a transform, a layer, a weight strategy, an optimizer and a kind of mode that core
 * does not have, each one file and one row: they are listed, described, built, drawn, trained, stored and deployed like
 * those of core. */
#include "tiny.h"

#include "compare_nets.h"
#include "onnx_run.h"
#include "train/checkpoint.h"
#include "train/measure.h"
#include "train/mode_file.h"
#include "wasd/making.h"
#include "wasd/convert.h"
#include "wasd/safetensors.h"

#include "extend_compose.h"
#include "extend_layer.h"
#include "extend_mask.h"
#include "extend_mode.h"
#include "extend_network.h"
#include "extend_optimizer.h"
#include "extend_strategy.h"
#include "extend_transform.h"

static const struct layer layer_hollow = {.op = "hollow", .summary = "has no kernel", .shape = square_shape};

const struct layer *const layer_more[] = {&layer_square, &layer_hollow, NULL};
const struct wasd_arch *const wasd_arch_more[] = {&arch_speck, NULL};
const struct wasd_optim_kind *const wasd_optim_more[] = {&optim_signsgd, NULL};
const struct mode_kind *const mode_kind_more[] = {&mode_halved, NULL};
const struct weight_strategy *const weight_strategy_more[] = {&weight_sparse, &weight_thin, &weight_tied, NULL};
const struct wasd_transform_op *const wasd_transform_op_more[] = {&op_transpose, NULL};

static bool listed(const cJSON *caps, const char *table, const char *key, const char *name)
{
	const cJSON *row;
	const char *s;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table))
		if (wasd_json_str(row, key, &s) && !strcmp(s, name))
			return true;
	return false;
}

static bool prunes(const cJSON *caps, const char *strategy)
{
	const cJSON *row;
	const char *s;
	cJSON_ArrayForEach(row, wasd_json_get(caps, "strategies"))
		if (wasd_json_str(row, "type", &s) && !strcmp(s, strategy))
			return cJSON_IsTrue(wasd_json_get(row, "prunes"));
	return false;
}

static void are_listed(void)
{
	cJSON *caps = wasd_capabilities();
	CHECK(listed(caps, "archs", "name", "speck") && listed(caps, "transforms", "type", "transpose") &&
	      listed(caps, "layers", "type", "square") && listed(caps, "strategies", "type", "sparse") &&
	      listed(caps, "strategies", "type", "was") && listed(caps, "strategies", "type", "thin") &&
	      listed(caps, "optimizers", "name", "signsgd") && listed(caps, "mode_kinds", "name", "halved") &&
	      listed(caps, "mode_kinds", "name", "plain") && listed(caps, "mode_kinds", "name", "draw"));
	CHECK(listed(caps, "archs", "name", "resnet18") && !listed(caps, "archs", "name", "speck2"));
	CHECK(prunes(caps, "thin") && prunes(caps, "magnitude") && prunes(caps, "weightmom") && prunes(caps, "structured"));
	CHECK(!prunes(caps, "was") && !prunes(caps, "compander") && !prunes(caps, "sparse"));
	cJSON_Delete(caps);
}

/* Builds the network by its name, and draws the transform that only this program has. */
static void network_and_transform_train(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("glyphs", 96, 32, 16, path);
	struct tiny_run r = {0};
	cJSON *d = NULL, *model = cJSON_Parse("{\"arch\":\"speck\"}");
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_network_describe(model, NULL, (struct wasd_shape){3, 16, 16}, 10, &d, &err), "%s", err.msg);
	CHECK_INT(wasd_json_get(wasd_json_get(d, "augmented"), "layers")->valueint, 1);
	tiny_go(&r, "{\"model\":{\"arch\":\"speck\"},\"train\":{\"epochs\":2,\"batch\":32}}", data);
	CHECK_MSG(!r.status && r.end == WASD_TRAIN_DONE, "%s", r.err.msg);
	CHECK(r.len && memmem(r.file, r.len, "transpose", 9)); /* the recorded draw names it */
	tiny_done(&r);
	wasd_dataset_close(data);
	cJSON_Delete(d);
	cJSON_Delete(model);
}

/* ---- the layer in custom networks, on every row of the backends -------------------------------------------- */

#define HEAD "{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}"
/* %d: channels. The square layer stands behind and before convolutions, directly after the images, twice on one input
 * (whose gradient is then summed), and among the rows that lead to the logits. */
static const char *const squares[] = {
	"{\"layers\":[{\"type\":\"conv\",\"out\":%d},{\"type\":\"square\"}," HEAD,
	"{\"layers\":[{\"type\":\"square\"},{\"type\":\"conv\",\"out\":%d},{\"type\":\"relu\"}," HEAD,
	"{\"layers\":[{\"type\":\"conv\",\"out\":%d,\"name\":\"a\"},{\"type\":\"square\",\"name\":\"b\"},{\"type\":\"relu\",\"from\":\"a\",\"name\":\"c\"},"
	"{\"type\":\"add\",\"from\":[\"b\",\"c\"]},{\"type\":\"conv\",\"out\":18}," HEAD,
	"{\"layers\":[{\"type\":\"conv\",\"out\":%d,\"name\":\"a\"},{\"type\":\"square\",\"name\":\"b\"},{\"type\":\"square\",\"name\":\"c\",\"from\":\"a\"},"
	"{\"type\":\"concat\",\"from\":[\"b\",\"c\"]},{\"type\":\"batchnorm\"}," HEAD,
	"{\"layers\":[{\"type\":\"conv\",\"out\":%d},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":7,\"name\":\"a\"},{\"type\":\"square\",\"name\":\"b\"},"
	"{\"type\":\"linear\",\"out\":7,\"name\":\"c\"},{\"type\":\"add\",\"from\":[\"c\",\"b\"]},{\"type\":\"linear\",\"out\":\"classes\"}]}",
	"{\"layers\":[{\"type\":\"conv\",\"out\":%d},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":7},{\"type\":\"square\"},{\"type\":\"conv\",\"out\":9,\"kernel\":1}," HEAD,
	"{\"layers\":[{\"type\":\"conv\",\"out\":%d},{\"type\":\"square\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":20},{\"type\":\"conv\",\"out\":9,\"kernel\":1}," HEAD,
};

static void layer_computes_on_every_backend(void)
{
	static const int channels[] = {3, 5, 16, 37};
	for (size_t k = 0; k < sizeof squares / sizeof *squares * 4; k++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		char text[700], what[40];
		snprintf(text, sizeof text, squares[k / 4], channels[k % 4]);
		snprintf(what, sizeof what, "net %zu, %d channels", k / 4, channels[k % 4]);
		cJSON *model = cJSON_Parse(text);
		CHECK_MSG(!wasd_network_build(model, compared_input, CLASSES, &g, &err), "%s: %s", what, err.msg);
		compare_everywhere(what, g);
		wasd_graph_destroy(g);
		cJSON_Delete(model);
	}
}

/* --explain names the step that copies, and only for the backend that copies. */
static void copies_are_explained(void)
{
	const struct backend *b;
	char text[700];
	snprintf(text, sizeof text, squares[0], 5);
	cJSON *model = cJSON_Parse(text);
	for (int i = 0; (b = backend_at(i)) != NULL; i++) {
		struct wasd_graph *g = NULL;
		struct wasd_model *m = NULL;
		struct wasd_exec *e = NULL;
		struct wasd_err err = {0};
		if (backend_choose(b->name, WASD_PRECISION_FP32, &b, NULL))
			continue;
		CHECK(!wasd_network_build(model, compared_input, CLASSES, &g, &err) && !wasd_model_create(g, 1, &m, &err));
		CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 2, .backend = b->name}, &e, &err));
		cJSON *list = wasd_exec_explain(e), *row;
		bool told = false;
		cJSON_ArrayForEach(row, list)
			told |= !strcmp(wasd_json_get(row, "algorithm")->valuestring, "planes, re-laid");
		CHECK_MSG(told == !b->planes, "%s", b->name);
		cJSON_Delete(list);
		wasd_exec_destroy(e);
		wasd_model_destroy(m);
		wasd_graph_destroy(g);
	}
	cJSON_Delete(model);
}

/* A layer without any kernel is rejected by name. */
static void layer_without_any_kernel_is_refused(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	const struct backend *b;
	cJSON *model = cJSON_Parse("{\"layers\":[{\"type\":\"conv\",\"out\":4},{\"type\":\"hollow\"}," HEAD);
	CHECK_MSG(!wasd_network_build(model, compared_input, CLASSES, &g, &err) && !wasd_model_create(g, 1, &m, &err), "%s",
	          err.msg);
	for (int i = 0; (b = backend_at(i)) != NULL; i++) {
		if (backend_choose(b->name, WASD_PRECISION_FP32, &b, NULL))
			continue;
		CHECK_INT(wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 2, .backend = b->name}, &e, &err),
		          WASD_EUNSUPPORTED);
		CHECK_MSG(strstr(err.msg, "hollow") && strstr(err.msg, b->name), "%s", err.msg);
	}
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
}

/* Training with the default backend and with the plain one gives the same result. */
static void layer_trains(void)
{
	char path[96], spec[900], text[700];
	struct wasd_dataset *data = tiny_glyphs("glyphs", 96, 32, 16, path);
	struct tiny_run r = {0};
	snprintf(text, sizeof text, squares[3], 5);
	snprintf(spec, sizeof spec,
	         "{\"model\":%s,\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01}}}", text);
	tiny_go(&r, spec, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	cJSON *j = cJSON_Parse(spec);
	struct tiny_run plain = {0};
	struct wasd_trainer *t = NULL;
	struct wasd_train_hooks h = {.ctx = &plain, .metrics = tiny_metrics};
	CHECK(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j, .data = data, .backend = "ref"}, &t, &plain.err) &&
	      !wasd_trainer_run(t, &h, &plain.end, NULL, &plain.err));
	for (int e = 1; e <= 2; e++)
		for (int k = 0; k < 4; k += 2)
			CHECK_MSG(fabs(r.value[e][k] - plain.value[e][k]) < 1e-3, "epoch %d: %s is %g, by plain loops %g", e,
			          tiny_names[k], r.value[e][k], plain.value[e][k]);
	wasd_trainer_destroy(t);
	tiny_done(&r);
	wasd_dataset_close(data);
	cJSON_Delete(j);
}

/* ---- the strategy ------------------------------------------------------------------------------------- */

#define SPARSE_NET \
	"\"model\":{\"name\":\"net\",\"layers\":[{\"type\":\"conv\",\"out\":16,\"bias\":false,\"name\":\"a\"},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"conv\",\"bias\":false,\"augment\":true,\"name\":\"b\"},{\"type\":\"batchnorm\"},{\"type\":\"relu\"},{\"type\":\"conv\",\"depthwise\":true,\"stride\":2,\"name\":\"d\"}," \
	"{\"type\":\"conv\",\"out\":32,\"kernel\":1,\"name\":\"p\"},{\"type\":\"relu\"},{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\",\"name\":\"f\"}]}"
static const char *const sparse_kernels[] = {"a.weight", "b.weight", "p.weight", "f.weight"};
enum { SPARSE_KERNELS = 4 };

static const real *tensor_of(const struct wasd_st *st, const char *prefix, const char *name, size_t *n)
{
	char full[96];
	snprintf(full, sizeof full, "%s%s", prefix, name);
	const struct wasd_st_tensor *t = wasd_st_find(st, full);
	CHECK_MSG(t, "%s is not there", full);
	*n = t ? t->count : 0;
	return t ? t->data : NULL;
}

/* The tensor with the plain name holds the weights that passes compute with: the master weights, masked. Half of them
 * are zero. */
static void sparse_file(const struct tiny_run *r)
{
	struct wasd_st *st = NULL;
	CHECK(!wasd_st_open(r->file, r->len, &st, NULL));
	for (int i = 0; i < SPARSE_KERNELS; i++) {
		size_t n, nm, nv, dead = 0, wrong = 0;
		const real *w = tensor_of(st, "", sparse_kernels[i], &n),
				   *mask = tensor_of(st, "weights.sparse.", sparse_kernels[i], &nm),
				   *v = tensor_of(st, "weights.master.", sparse_kernels[i], &nv);
		for (size_t k = 0; n == nm && n == nv && k < n; k++) {
			dead += mask[k] == 0;
			wrong += (mask[k] != 0 && mask[k] != 1) || w[k] != mask[k] * v[k];
		}
		CHECK_MSG(n == nm && n == nv && !wrong && dead > n / 3 && dead < n * 2 / 3,
		          "%s: %zu of %zu are zero, %zu wrong", sparse_kernels[i], dead, n, wrong);
	}
	CHECK(!wasd_st_find(st, "weights.master.d.weight") && !wasd_st_find(st, "weights.sparse.d.weight"));
	wasd_st_close(st);
}

/* An export has the masks as they are in the checkpoint, and can be imported again. */
static void masks_go_out(const struct tiny_run *r)
{
	struct wasd_err err = {0};
	struct wasd_st *in = NULL, *out = NULL;
	void *file = NULL, *again = NULL;
	size_t len, again_len;
	cJSON *info = NULL;
	CHECK(!wasd_export_safetensors(r->file, r->len, &file, &len, &err));
	CHECK(!wasd_st_open(r->file, r->len, &in, &err) && !wasd_st_open(file, len, &out, &err));
	for (int i = 0; i < SPARSE_KERNELS; i++) {
		char name[96];
		snprintf(name, sizeof name, "weights.thin.%s", sparse_kernels[i]);
		const struct wasd_st_tensor *a = wasd_st_find(in, name), *b = wasd_st_find(out, name);
		CHECK(a && b && a->count == b->count && !memcmp(a->data, b->data, a->count));
	}
	CHECK_MSG(!wasd_import(file, len, &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, &err), "%s",
	          err.msg);
	wasd_free(again);
	wasd_free(file);
	wasd_st_close(in);
	wasd_st_close(out);
	cJSON_Delete(info);
}

/* Deployments and exports contain the masked weights, and no state that only the run needs. */
static void sparse_goes_out(const struct tiny_run *r, bool dom)
{
	struct wasd_err err = {0};
	struct wasd_st *in = NULL, *out = NULL;
	void *file = NULL, *again = NULL, *onnx = NULL;
	size_t len, again_len, onnx_len, n, m;
	cJSON *info = NULL;
	CHECK_MSG(!wasd_export_safetensors(r->file, r->len, &file, &len, &err), "%s", err.msg);
	CHECK(!wasd_st_open(r->file, r->len, &in, &err) && !wasd_st_open(file, len, &out, &err));
	for (size_t i = 0; i < wasd_st_count(out); i++)
		CHECK(strncmp(wasd_st_at(out, i)->name, "weights.", 8) || wasd_st_at(out, i)->dtype == WASD_U8);
	for (int at = 0; at <= dom; at++) {
		const char *mode = tiny_modes[at];
		struct wasd_bundle *b = NULL;
		CHECK_MSG(!wasd_bundle_create(TINY_MODE(r->file, r->len, mode), &b, &err), "%s", err.msg);
		CHECK_MSG(!wasd_export_onnx(TINY_MODE(r->file, r->len, mode), &onnx, &onnx_len, &err), "%s", err.msg);
		wasd_free(onnx);
		if (b && !at) {
			struct wasd_model *model = bundle_model(b);
			for (int i = 0; i < SPARSE_KERNELS; i++) {
				const struct wasd_graph *g = wasd_model_graph(model);
				const real *w = tensor_of(out, "", sparse_kernels[i], &n),
						   *served = wasd_model_weights(model, wasd_graph_param_find(g, sparse_kernels[i]));
				CHECK(!memcmp(w, tensor_of(in, "", sparse_kernels[i], &m), n * sizeof *w) && n == m);
				for (size_t k = 0; k < n; k++)
					CHECK((w[k] == 0) == (served[k] == 0));
			}
		}
		wasd_bundle_unref(b);
	}
	CHECK_MSG(!wasd_import(r->file, r->len, &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, &err),
	          "%s", err.msg);
	wasd_free(again);
	wasd_free(file);
	wasd_st_close(in);
	wasd_st_close(out);
	cJSON_Delete(info);
}

enum { ANSWERED = 6 };

static void answer(const void *file, size_t len, const char *mode, const real *x, real *logits)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, mode), &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err) &&
	              !wasd_predictor_run(p, x, ANSWERED, logits, &err),
	          "%s: %s", mode, err.msg);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

/* The network as plain loops compute it, with the weights under the plain names. */
static void answer_by_loops(const struct tiny_run *r, const real *x, real *logits)
{
	bool present = false;
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	CHECK(!checkpoint_open(r->file, r->len, &c, NULL) && !checkpoint_graph(&c, &g, NULL));
	CHECK(!wasd_model_create(g, 1, &m, NULL) && !checkpoint_load_params(&c, g, "", wasd_model_master(m), NULL));
	CHECK(!checkpoint_load_stats(&c, g, "", wasd_model_stats(m, WASD_STATS_AOM), &present, NULL) && present);
	CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = ANSWERED, .backend = "ref"}, &e, NULL));
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = ANSWERED, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, NULL));
	memcpy(logits, wasd_exec_logits(e), ANSWERED * 10 * sizeof *logits);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
}

static void agree(const real *got, const real *want, const char *what)
{
	double scale, d = distance(got, want, ANSWERED * 10, &scale);
	CHECK_MSG(d <= 2e-4 * scale && scale > 0, "%s: logits differ by %g of %g", what, d, scale);
}

/* Computes the ONNX file. Of each kernel, at least the weights that are zero in the checkpoint are zero in it. */
static void answer_by_onnx(const struct tiny_run *r, const char *mode, const real *x, real *logits)
{
	static struct onnx_run run;
	static float xf[ANSWERED * 3 * 16 * 16];
	float got[ANSWERED * 10];
	struct wasd_st *st = NULL;
	void *onnx = NULL;
	size_t len = 0;
	for (int i = 0; i < ANSWERED * 3 * 16 * 16; i++)
		xf[i] = (float)x[i];
	CHECK(!wasd_export_onnx(TINY_MODE(r->file, r->len, mode), &onnx, &len, NULL));
	onnx_execute(&run, onnx, len, xf, ANSWERED, 3, 16, 16, 10, got);
	CHECK_MSG(!run.fault[0], "%s: %s", mode, run.fault);
	CHECK(!wasd_st_open(r->file, r->len, &st, NULL));
	for (int i = 0; i < SPARSE_KERNELS && !strcmp(mode, "aom"); i++) {
		size_t n, wrong = 0;
		const real *w = tensor_of(st, "", sparse_kernels[i], &n);
		const struct onnx_value *v = onnx_find(&run, sparse_kernels[i]);
		CHECK(v && onnx_count(v) == n);
		for (size_t k = 0; v && k < n; k++)
			wrong += (w[k] == 0) != (v->f[k] == 0);
		CHECK_MSG(!wrong, "%s: %zu of %zu weights of the ONNX file", sparse_kernels[i], wrong, n);
	}
	for (int i = 0; i < ANSWERED * 10; i++)
		logits[i] = (real)got[i];
	onnx_done(&run);
	wasd_st_close(st);
	wasd_free(onnx);
}

/* The deployment answers as plain loops with the formed weights do; so does the ONNX file, and the deployment of an
 * export that was imported again. */
static void answers_agree(const struct tiny_run *r, const struct wasd_dataset *data, bool dom)
{
	real x[ANSWERED * 3 * 16 * 16], served[ANSWERED * 10], other[ANSWERED * 10];
	void *file = NULL, *again = NULL;
	size_t len = 0, again_len = 0;
	cJSON *info = NULL;
	for (size_t i = 0; i < ANSWERED; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * 3 * 16 * 16);
	for (int at = 0; at <= dom; at++) {
		answer(r->file, r->len, tiny_modes[at], x, served);
		answer_by_onnx(r, tiny_modes[at], x, other);
		agree(other, served, "ONNX");
	}
	answer(r->file, r->len, "aom", x, served);
	answer_by_loops(r, x, other);
	agree(other, served, "plain loops");
	CHECK(!wasd_export_safetensors(r->file, r->len, &file, &len, NULL));
	CHECK(!wasd_import(file, len, &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, NULL));
	answer(again, again_len, "aom", x, other);
	CHECK_MSG(!memcmp(other, served, sizeof served), "the imported export answers otherwise");
	wasd_free(file);
	wasd_free(again);
	cJSON_Delete(info);
}

/* Cut anywhere, a run resumes to the same bits: master weights, statistics, and the file except for its times. */
static void sparse_trains(const struct wasd_dataset *data, const char *backend, const char *precision,
                          const char *weights, bool dom)
{
	char *spec = wasd_asprintf(
		"{" SPARSE_NET
		",\"weights\":%s,\"train\":{\"epochs\":2,\"batch\":16,\"precision\":\"%s\",\"optimizer\":{\"type\":\"adamw\",\"weight_decay\":0.1}}}",
		weights, precision);
	struct tiny_run whole = {.backend = backend}, cut = {.backend = backend, .stop_at = 3};
	tiny_go(&whole, spec, data);
	tiny_go(&cut, spec, data);
	CHECK_MSG(!whole.status && !cut.status && cut.end == WASD_TRAIN_CANCELLED, "%s %s: %s%s", backend, precision,
	          whole.err.msg, cut.err.msg);
	sparse_file(&cut);
	cut.stop_at = 0;
	tiny_go(&cut, spec, data);
	CHECK_MSG(!cut.status && !strcmp(cut.sha, whole.sha), "%s %s %s: resumed to other bits. %s", backend, precision,
	          weights, cut.err.msg);
	CHECK(whole.value[2][0] < whole.value[1][0] + 0.5 && isnan(whole.value[2][4]) == !dom);
	sparse_file(&whole);
	sparse_goes_out(&whole, dom);
	answers_agree(&whole, data, dom);
	tiny_done(&whole);
	tiny_done(&cut);
	wasd_free(spec);
}

static void strategy_trains_and_is_deployed(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("sparse", 64, 16, 16, path);
	const struct backend *b, *can;
	for (int i = 0; (b = backend_at(i)); i++)
		for (int p = 0; p < WASD_PRECISIONS; p++) {
			if (backend_choose(b->name, p, &can, NULL))
				continue;
			sparse_trains(data, b->name, wasd_precision_name(p), "[{\"type\":\"sparse\"}]", false);
			sparse_trains(data, b->name, wasd_precision_name(p),
			              "[{\"type\":\"sparse\"},{\"type\":\"was\",\"layers\":\"all\",\"draw\":\"epoch\"}]", true);
		}
	wasd_dataset_close(data);
}

/* A mask: before step 2 n - 1 (from 0) the nth weight of every kernel has died. */
static void thin_file(const struct tiny_run *r, int steps)
{
	struct wasd_st *st = NULL;
	CHECK(!wasd_st_open(r->file, r->len, &st, NULL));
	for (int i = 0; i < SPARSE_KERNELS; i++) {
		size_t n, dead = (size_t)steps / 2, wrong = 0;
		char name[96];
		const real *w = tensor_of(st, "", sparse_kernels[i], &n);
		snprintf(name, sizeof name, "weights.thin.%s", sparse_kernels[i]);
		const struct wasd_st_tensor *alive = wasd_st_find(st, name);
		CHECK(alive && alive->dtype == WASD_U8 && alive->count == (n + 7) / 8);
		for (size_t k = 0; alive && k < n; k++)
			wrong += (((const uint8_t *)alive->data)[k / 8] >> k % 8 & 1) != (k >= dead) || (w[k] == 0) != (k < dead);
		CHECK_MSG(!wrong, "%s: %zu of %zu bits are wrong after %d steps", name, wrong, n, steps);
	}
	wasd_st_close(st);
}

/* A composition: the file has what it learned and the optimizer's state of that, W under the plain name, no other copy
 * of W, and no optimizer state of it. */
static void tied_file(const struct tiny_run *r)
{
	struct wasd_st *st = NULL;
	size_t n, nt, nc, nm, wrong = 0;
	CHECK(!wasd_st_open(r->file, r->len, &st, NULL));
	const real *w = tensor_of(st, "", "b.weight", &n), *t = tensor_of(st, "weights.tied.", "t", &nt),
			   *c = tensor_of(st, "weights.tied.", "c", &nc);
	tensor_of(st, "weights.tied.learned.momentum.", "m", &nm);
	CHECK(nm && nt >= n && nc == 5);
	for (size_t k = 0; k < n; k++)
		wrong += w[k] != c[1] * t[k];
	CHECK_MSG(!wrong, "%zu of %zu values of b are not composed", wrong, n);
	for (size_t i = 0; i < wasd_st_count(st); i++)
		CHECK(strncmp(wasd_st_at(st, i)->name, "weights.master.", 15));
	CHECK(!wasd_st_find(st, "optim.momentum.b.weight") && wasd_st_find(st, "optim.momentum.f.bias"));
	wasd_st_close(st);
}

static void composition_trains_and_is_deployed(void)
{
	static const char *const lists[] =
		{"[{\"type\":\"tied\"}]", "[{\"type\":\"was\",\"layers\":\"all\",\"draw\":\"epoch\"},{\"type\":\"tied\"}]"};
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("tied", 64, 16, 16, path);
	for (int i = 0; i < 2; i++) {
		char *spec = wasd_asprintf("{" SPARSE_NET
		                           ",\"weights\":%s,\"train\":{\"epochs\":3,\"batch\":16,\"optimizer\":{\"type\":"
		                           "\"sgd\",\"lr\":0.05,\"momentum\":0.9,\"weight_decay\":0.01}}}",
		                           lists[i]);
		struct tiny_run whole = {0};
		tiny_go(&whole, spec, data);
		CHECK_MSG(!whole.status, "%s", whole.err.msg);
		tied_file(&whole);
		answers_agree(&whole, data, i);
		for (int at = 2; at < 12; at += 3) {
			struct tiny_run cut = {.stop_at = at};
			tiny_go(&cut, spec, data);
			CHECK(!cut.status && cut.end == WASD_TRAIN_CANCELLED);
			tied_file(&cut);
			cut.stop_at = 0;
			tiny_go(&cut, spec, data);
			CHECK_MSG(!cut.status && !strcmp(cut.sha, whole.sha), "cut at %d: resumed to other bits. %s", at,
			          cut.err.msg);
			tiny_done(&cut);
		}
		tiny_done(&whole);
		wasd_free(spec);
	}
	wasd_dataset_close(data);
}

static void mask_trains_and_is_deployed(void)
{
	static const char *const lists[] =
		{"[{\"type\":\"thin\"}]", "[{\"type\":\"sparse\",\"share\":0},{\"type\":\"thin\"}]",
	     "[{\"type\":\"thin\"},{\"type\":\"was\",\"layers\":\"all\",\"draw\":\"epoch\"}]"};
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("thin", 64, 16, 16, path);
	for (int i = 0; i < 3; i++) {
		char *spec = wasd_asprintf("{" SPARSE_NET
		                           ",\"weights\":%s,\"train\":{\"epochs\":2,\"batch\":16,\"optimizer\":{\"type\":"
		                           "\"sgd\",\"lr\":0.05,\"weight_decay\":0.01}}}",
		                           lists[i]);
		struct tiny_run whole = {0}, cut = {.stop_at = 4};
		tiny_go(&whole, spec, data);
		tiny_go(&cut, spec, data);
		CHECK_MSG(!whole.status && !cut.status && cut.end == WASD_TRAIN_CANCELLED, "%s%s", whole.err.msg, cut.err.msg);
		thin_file(&cut, 3);
		cut.stop_at = 0;
		tiny_go(&cut, spec, data);
		CHECK_MSG(!cut.status && !strcmp(cut.sha, whole.sha), "%s: resumed to other bits. %s", lists[i], cut.err.msg);
		thin_file(&whole, 8);
		sparse_goes_out(&whole, i == 2);
		masks_go_out(&whole);
		answers_agree(&whole, data, i == 2);
		tiny_done(&whole);
		tiny_done(&cut);
		wasd_free(spec);
	}
	wasd_dataset_close(data);
}

/* A list is rejected at its faulty member. */
static void strategies_are_refused(void)
{
	static const struct {
		const char *members, *pointer;
	} c[] = {
		{"\"weights\":{}", "/weights"},
		{"\"weights\":[7]", "/weights/0"},
		{"\"weights\":[{\"share\":1}]", "/weights/0/type"},
		{"\"weights\":[{\"type\":\"sparse\"},{\"type\":\"dense\"}]", "/weights/1/type"},
		{"\"weights\":[{\"type\":\"sparse\",\"share\":2}]", "/weights/0/share"},
		{"\"weights\":[{\"type\":\"sparse\",\"part\":0.5}]", "/weights/0/part"},
		{"\"weights\":[{\"type\":\"sparse\"},{\"type\":\"sparse\"}]", "/weights/1"},
		{"\"weights\":[{\"type\":\"sparse\"},{\"type\":\"was\",\"layers\":\"z.*\"}]", "/weights/1/layers"},
		{"\"weights\":[{\"type\":\"was\",\"groups\":99}]", "/weights/0/groups"},
		{"\"weights\":[{\"type\":\"was\"}],\"was\":false", "/weights"},
		{"\"was\":{\"type\":\"was\"}", "/was/type"},
	};
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("refused", 32, 16, 16, path);
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct tiny_run r = {0};
		char *spec = wasd_asprintf("{" SPARSE_NET ",%s}", c[i].members);
		tiny_go(&r, spec, data);
		CHECK_MSG(r.status == WASD_EINVAL && !strcmp(r.err.pointer, c[i].pointer), "%s: at \"%s\", want \"%s\" (%s)",
		          c[i].members, r.err.pointer, c[i].pointer, r.err.msg);
		wasd_free(spec);
		tiny_done(&r);
	}
	wasd_dataset_close(data);
}

/* A list with the single entry WAS equals its short form: the same run. */
static void list_of_was_is_was(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("short", 48, 16, 16, path);
	struct tiny_run one = {0}, list = {0};
	tiny_go(&one, "{" SPARSE_NET ",\"was\":{\"layers\":\"all\"},\"train\":{\"epochs\":1,\"batch\":16}}", data);
	tiny_go(&list,
	        "{" SPARSE_NET
	        ",\"weights\":[{\"type\":\"was\",\"layers\":\"all\"}],\"train\":{\"epochs\":1,\"batch\":16}}",
	        data);
	CHECK_MSG(!one.status && !list.status && !strcmp(one.sha, list.sha), "%s%s", one.err.msg, list.err.msg);
	tiny_done(&one);
	tiny_done(&list);
	wasd_dataset_close(data);
}

/* ---- the optimizer ------------------------------------------------------------------------------------ */

/* With a learning rate that a float holds exactly, every weight moves by exactly that much in every step. */
static void optimizer_steps(void)
{
	enum { N = 9001 };
	struct wasd_optim *o = NULL;
	real *w = wasd_calloc(N, sizeof *w), *g = wasd_calloc(N, sizeof *g), *v = wasd_calloc(N, sizeof *v);
	cJSON *j = cJSON_Parse("{\"type\":\"signsgd\",\"momentum\":0.5}");
	const char *name = NULL;
	CHECK(!wasd_optim_create(j, N, &o, NULL));
	for (int step = 0; step < 3; step++) {
		for (int i = 0; i < N; i++)
			g[i] = (real)((i + step * 5) % 7 - 3);
		wasd_optim_step(o, w, g, 0.25);
		for (int i = 0; i < N; i++)
			v[i] = v[i] / 2 + g[i] / 2;
	}
	const real *kept = wasd_optim_state(o, 0, &name);
	CHECK(!strcmp(name, "momentum") && !memcmp(kept, v, N * sizeof *v) && !wasd_optim_state(o, 1, NULL));
	CHECK(w[0] == -0.25 && w[3] == 0); /* gradients -3, 2, 0: momenta -1.5, 0.25, 0.125; 0, -2, 3: 0, -1, 1 */
	wasd_optim_destroy(o);
	cJSON_Delete(j);
	wasd_free(w);
	wasd_free(g);
	wasd_free(v);
}

static void optimizer_trains_on(const struct wasd_dataset *data, const char *backend, const char *precision)
{
	char *spec = wasd_asprintf(
		"{" SPARSE_NET
		",\"was\":{\"layers\":\"all\"},\"train\":{\"epochs\":3,\"batch\":16,\"precision\":\"%s\",\"optimizer\":{\"type\":\"signsgd\",\"lr\":0.003}}}",
		precision);
	struct tiny_run whole = {.backend = backend}, cut = {.backend = backend, .stop_at = 5};
	tiny_go(&whole, spec, data);
	tiny_go(&cut, spec, data);
	CHECK_MSG(!whole.status && !cut.status && cut.end == WASD_TRAIN_CANCELLED, "%s %s: %s%s", backend, precision,
	          whole.err.msg, cut.err.msg);
	cut.stop_at = 0;
	tiny_go(&cut, spec, data);
	CHECK_MSG(!cut.status && !strcmp(cut.sha, whole.sha), "%s %s: resumed to other bits. %s", backend, precision,
	          cut.err.msg);
	CHECK_MSG(whole.value[3][0] < whole.value[1][0], "%s %s: losses %g, %g", backend, precision, whole.value[1][0],
	          whole.value[3][0]);
	CHECK(memmem(whole.file, whole.len, "optim.momentum", 14));
	tiny_done(&whole);
	tiny_done(&cut);
	wasd_free(spec);
}

static void optimizer_trains(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("signs", 64, 16, 16, path);
	const struct backend *b, *can;
	for (int i = 0; (b = backend_at(i)); i++)
		for (int p = 0; p < WASD_PRECISIONS; p++)
			if (!backend_choose(b->name, p, &can, NULL))
				optimizer_trains_on(data, b->name, wasd_precision_name(p));
	wasd_dataset_close(data);
}

/* ---- the kind of mode --------------------------------------------------------------------------------- */

#define HALVED_NET \
	"\"model\":{\"name\":\"net\",\"layers\":[{\"type\":\"conv\",\"out\":16,\"bias\":false,\"augment\":true,\"name\":\"a\"},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"conv\",\"out\":20,\"stride\":2,\"augment\":true,\"name\":\"b\"},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\",\"name\":\"f\"}]}"
#define HALVED_RECIPE "{\"factor\":0.5}"
enum { SHOWN = 5 }; /* images that both are asked */

static bool never_stop(void *ctx, uint32_t done, uint32_t of)
{
	(void)ctx, (void)done, (void)of;
	return true;
}

/* The trained network from its file. */
static struct wasd_model *loaded(const struct tiny_run *r, struct wasd_graph **g)
{
	struct checkpoint c = {0};
	struct wasd_model *m = NULL;
	CHECK(!checkpoint_open(r->file, r->len, &c, NULL) && !checkpoint_graph(&c, g, NULL));
	CHECK(!wasd_model_create(*g, 1, &m, NULL) && !checkpoint_load_params(&c, *g, "", wasd_model_master(m), NULL));
	checkpoint_done(&c);
	return m;
}

/* A mode file of the trained network, its statistics measured under the recipe by that backend. */
static void *halved_file(struct wasd_graph *g, struct wasd_model *m, const struct wasd_dataset *data,
                         const char *backend, enum wasd_precision p, size_t *len)
{
	struct wasd_err err = {0};
	struct wasd_recipe *recipe = NULL;
	struct wasd_loader *l = NULL;
	struct wasd_exec *e = NULL;
	const struct mode_kind *kind = mode_kind_find("halved");
	cJSON *j = cJSON_Parse(HALVED_RECIPE);
	void *bytes = NULL;
	struct mode_made made = {.recipe = j};
	CHECK(kind == &mode_halved && !kind->open(&(struct mode){.recipe = j}, g, &recipe, &err));
	CHECK(!wasd_loader_create(&(struct wasd_loader_opts){.data = data, .split = WASD_TRAIN, .batch = 16}, &l, &err));
	CHECK_MSG(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 16, .precision = p, .backend = backend}, &e, &err),
	          "%s", err.msg);
	CHECK_MSG(!measure_statistics(e, l, recipe, WASD_STATS_DOM, (struct measure_tick){never_stop, NULL}, &err), "%s",
	          err.msg);
	CHECK(!mode_file_write(g, "net", kind, &made, wasd_model_stats(m, WASD_STATS_DOM), &bytes, len, &err));
	CHECK(wasd_graph_macs(g, recipe) < wasd_graph_macs(g, NULL));
	kind->close(recipe);
	wasd_exec_destroy(e);
	wasd_loader_destroy(l);
	cJSON_Delete(j);
	return bytes;
}

/* The same written out: kernels are halved by hand and their last columns cleared, and plain loops compute the rest. */
static void halved_by_hand(struct wasd_graph *g, struct wasd_model *m, const real *x, real *logits)
{
	static const char *const kernels[] = {"a.weight", "b.weight"};
	struct wasd_exec *e = NULL;
	for (int i = 0; i < 2; i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, wasd_graph_param_find(g, kernels[i]));
		real *w = wasd_model_master(m) + p.offset;
		for (size_t k = 0; k < p.count; k++)
			w[k] = k % 3 == 2 ? 0 : (real)(0.5 * (double)w[k]);
	}
	CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = SHOWN, .backend = "ref"}, &e, NULL));
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = SHOWN, .bn = WASD_BN_SET, .set = WASD_STATS_DOM}, NULL));
	memcpy(logits, wasd_exec_logits(e), SHOWN * 10 * sizeof *logits);
	wasd_exec_destroy(e);
}

static void served(const struct wasd_mode_source *from, const char *backend, enum wasd_precision p, const real *x,
                   real *logits)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *pr = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_bundle_create(from, &b, &err), "%s %s: %s", backend, from->name, err.msg);
	CHECK_STR(b ? wasd_bundle_mode(b) : NULL, from->name);
	CHECK_MSG(b &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){.precision = p, .backend = backend}, &pr,
	                                     &err) &&
	              !wasd_predictor_run(pr, x, SHOWN, logits, &err),
	          "%s %s: %s", backend, from->name, err.msg);
	wasd_predictor_destroy(pr);
	wasd_bundle_unref(b);
}

/* A checkpoint whose list has the mode as well, with its statistics among its own tensors. */
static void *with_one_more(const struct tiny_run *r, const void *file, size_t len, size_t *out_len)
{
	static const char *const keys[] = {"format",   "arch",        "dataset_digest", "spec", "was",
	                                   "progress", "fingerprint", "classes",        "input"};
	struct wasd_st *st = NULL, *over = NULL;
	struct wasd_st_writer *w = wasd_st_writer_create();
	void *bytes = NULL;
	CHECK(!wasd_st_open(r->file, r->len, &st, NULL) && !wasd_st_open(file, len, &over, NULL));
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		wasd_st_writer_meta(w, keys[i], wasd_st_meta(st, keys[i]));
	cJSON *list = cJSON_Parse(wasd_st_meta(st, "modes"));
	cJSON_AddItemToArray(list, mode_entry("halved:listed", &mode_halved, cJSON_Parse(HALVED_RECIPE), "halved.", true));
	char *text = wasd_json_print(list);
	wasd_st_writer_meta(w, "modes", text);
	for (size_t i = 0; i < wasd_st_count(st) + wasd_st_count(over); i++) {
		bool own = i < wasd_st_count(st);
		const struct wasd_st_tensor *t = wasd_st_at(own ? st : over, own ? i : i - wasd_st_count(st));
		char name[96];
		snprintf(name, sizeof name, "%s%s", own ? "" : "halved.", t->name);
		wasd_st_writer_add(w, name, t->dtype, t->ndims, t->dims, t->data);
	}
	CHECK(!wasd_st_writer_block(w, &bytes, out_len, NULL));
	wasd_free(text);
	cJSON_Delete(list);
	wasd_st_writer_destroy(w);
	wasd_st_close(st);
	wasd_st_close(over);
	return bytes;
}

static void serve_halved(const struct tiny_run *r, const struct wasd_dataset *data, const char *backend,
                         enum wasd_precision p)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = loaded(r, &g);
	real x[SHOWN * 3 * 16 * 16], want[SHOWN * 10], got[SHOWN * 10], listed_too[SHOWN * 10];
	/* what bfloat16 has of 8 bits, through two convolutions */
	double scale, d, tol = p == WASD_PRECISION_BF16 ? 0.06 : 2e-4;
	size_t len = 0, more_len = 0, onnx_len = 0;
	void *file = halved_file(g, m, data, backend, p, &len), *more = with_one_more(r, file, len, &more_len),
		 *onnx = NULL;
	for (int i = 0; i < SHOWN; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, (size_t)i),
		               x + i * 3 * 16 * 16);
	struct wasd_mode_source from = {.file = r->file,
	                                .len = r->len,
	                                .mode_file = file,
	                                .mode_len = len,
	                                .name = "halved:x"};
	served(&from, backend, p, x, got);
	served(TINY_MODE(more, more_len, "halved:listed"), backend, p, x, listed_too);
	CHECK_MSG(!memcmp(got, listed_too, sizeof got), "%s: in a list it is another one", backend);
	CHECK(!wasd_export_onnx(&from, &onnx, &onnx_len, NULL) && onnx_len > 0);
	halved_by_hand(g, m, x, want);
	d = distance(got, want, SHOWN * 10, &scale);
	CHECK_MSG(d <= tol * scale, "%s %s: logits differ by %g of %g", backend, wasd_precision_name(p), d, scale);
	wasd_free(onnx);
	wasd_free(file);
	wasd_free(more);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

static void mode_is_served_on_every_backend(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("halved", 64, 16, 16, path);
	struct tiny_run r = {0};
	const struct backend *b, *can;
	tiny_go(&r, "{" HALVED_NET ",\"train\":{\"epochs\":1,\"batch\":16}}", data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	for (int i = 0; (b = backend_at(i)); i++)
		for (int p = 0; p < WASD_PRECISIONS; p++)
			if (!backend_choose(b->name, (enum wasd_precision)p, &can, NULL))
				serve_halved(&r, data, b->name, (enum wasd_precision)p);
	tiny_done(&r);
	wasd_dataset_close(data);
}

/* A kind that is made has a family, and its desires are found by their names; every option has a value. */
static void check_desires(const struct mode_kind *k)
{
	CHECK_MSG(!k->desires || k->family, "%s", k->name);
	CHECK_MSG(!k->prefix || k->prefix[strlen(k->prefix) - 1] == '.', "%s", k->name);
	for (const struct mode_desire *d = k->desires; d && d->name; d++) {
		const struct mode_kind *of = NULL;
		CHECK_MSG(mode_desire_find(d->name, &of) == d && of == k && *d->summary && d->make, "%s", d->name);
		for (const struct wasd_field *f = d->options; f && f->name; f++)
			CHECK_MSG(f->summary && f->type < WASD_OBJECT ? f->type != WASD_PAIR : f->type == WASD_LIST, "%s %s",
			          d->name, f->name);
	}
}

/* ---- a mode that is made ---- */

struct making_run {
	void *file;
	size_t len;
	cJSON *info;
	enum wasd_status status;
	struct wasd_err err;
	int told;
};

static bool count_up(void *ctx, int done, int of)
{
	struct making_run *m = ctx;
	m->told += done == 1 && of == 1;
	return true;
}

static bool stop_making(void *ctx, int done, int of)
{
	(void)ctx, (void)done, (void)of;
	return false;
}

static struct making_run make_halved(const struct tiny_run *r, const struct wasd_dataset *data, const char *request,
                                     bool (*go_on)(void *, int, int))
{
	struct making_run m = {0};
	cJSON *j = cJSON_Parse(request);
	struct wasd_making o = {.file = r->file, .len = r->len, .data = data, .request = j, .go_on = go_on, .ctx = &m};
	m.status = wasd_mode_make(&o, &m.file, &m.len, &m.info, &m.err);
	CHECK(m.status ? !m.file && !m.info : m.file && m.info);
	cJSON_Delete(j);
	return m;
}

static void making_done(struct making_run *m)
{
	wasd_free(m->file);
	cJSON_Delete(m->info);
}

static double figure(const cJSON *info, const char *name)
{
	double v = NAN;
	CHECK_MSG(wasd_json_num(info, name, &v), "%s", name);
	return v;
}

/* The second kernel counts twice: what a mode file's own tensor says is computed. */
static void check_made(const struct tiny_run *r, const struct wasd_dataset *data)
{
	struct making_run m = make_halved(r, data, "{\"desire\":\"halved\",\"last\":\"twice\"}", count_up),
					  same = make_halved(r, data, "{\"desire\":\"halved\",\"factor\":0.5}", NULL);
	CHECK_MSG(!m.status && !same.status, "%s %s", m.err.msg, same.err.msg);
	if (m.status || same.status)
		return;
	CHECK(m.told > 0);
	CHECK_STR(wasd_json_get(m.info, "kind")->valuestring, "halved");
	CHECK_NEAR(figure(m.info, "macs_share"), figure(m.info, "macs") / figure(wasd_json_get(m.info, "aom"), "macs"),
	           1e-12);
	CHECK(figure(m.info, "macs_share") < 0.7 && figure(m.info, "latency_us") > 0 && figure(m.info, "bytes") > 0);
	struct mode_file f = {0};
	CHECK(!mode_file_open(m.file, m.len, "net", &f, NULL));
	const struct wasd_st_tensor *t = wasd_st_find(f.st, "h.scale");
	CHECK(t && t->dims[0] == 2 && ((const float *)t->data)[0] == 1 && ((const float *)t->data)[1] == 2);
	mode_file_done(&f);
	/* Normalisation behind it takes a factor of the first kernel away, and the statistics are the mode's own. */
	real x[SHOWN * 3 * 16 * 16], by[2][SHOWN * 10];
	double scale, d;
	for (int i = 0; i < SHOWN; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, (size_t)i),
		               x + i * 3 * 16 * 16);
	for (int i = 0; i < 2; i++) {
		struct making_run *of = i ? &same : &m;
		served(&(struct wasd_mode_source){.file = r->file,
		                                  .len = r->len,
		                                  .mode_file = of->file,
		                                  .mode_len = of->len,
		                                  .name = "halved:x"},
		       "ref", WASD_PRECISION_FP32, x, by[i]);
	}
	d = distance(by[0], by[1], SHOWN * 10, &scale);
	CHECK_MSG(d > 0 && d < 1e-3 * scale, "logits differ by %g of %g", d, scale);
	making_done(&m);
	making_done(&same);
}

static void mode_is_made(void)
{
	static const struct {
		const char *request, *pointer;
		enum wasd_status status;
	} rows[] = {
		{"{}", "/desire", WASD_EINVAL},
		{"{\"desire\":\"quartered\"}", "/desire", WASD_EINVAL},
		{"{\"desire\":\"halved\",\"factor\":3}", "/factor", WASD_EINVAL},
		{"{\"desire\":\"halved\",\"last\":\"thrice\"}", "/last", WASD_EINVAL},
		{"{\"desire\":\"halved\",\"budget\":1}", "/budget", WASD_EINVAL},
		{"{\"desire\":\"halved\",\"base\":\"dom\"}", "/base", WASD_EINVAL},
		{"{\"desire\":\"halved\",\"base\":7}", "/base", WASD_EINVAL},
	};
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("made", 64, 16, 16, path);
	struct tiny_run r = {0};
	tiny_go(&r, "{" HALVED_NET ",\"train\":{\"epochs\":1,\"batch\":16}}", data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	check_made(&r, data);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct making_run m = make_halved(&r, data, rows[i].request, NULL);
		CHECK_MSG(m.status == rows[i].status && !strcmp(m.err.pointer, rows[i].pointer), "%s: %s at \"%s\": %s",
		          rows[i].request, wasd_status_name(m.status), m.err.pointer, m.err.msg);
	}
	struct making_run m = make_halved(&r, data, "{\"desire\":\"halved\"}", stop_making);
	CHECK_INT(m.status, WASD_ECANCELLED);
	tiny_done(&r);
	wasd_dataset_close(data);
}

/* Every row says what it is, and takes what is not its recipe for an error. */
static void kinds_of_modes(void)
{
	const struct mode_kind *k, *other;
	struct wasd_graph *g = NULL;
	cJSON *model = cJSON_Parse("{" HALVED_NET "}"), *wrong = cJSON_CreateString("no recipe of any kind");
	CHECK(!wasd_network_build(wasd_json_get(model, "model"), (struct wasd_shape){3, 16, 16}, 10, &g, NULL));
	for (int i = 0; (k = mode_kind_at(i)); i++) {
		struct wasd_recipe *none = NULL;
		char name[WASD_MODE_LEN];
		CHECK_MSG(*k->name && *k->summary && k->open && mode_kind_find(k->name) == k, "%s", k->name);
		CHECK_MSG(k->open(&(struct mode){.recipe = wrong}, g, &none, NULL) == WASD_EINVAL && !none, "%s", k->name);
		check_desires(k);
		for (int n = 0; (other = mode_kind_at(n)); n++)
			CHECK_MSG(n == i || !k->family || !other->family || strcmp(k->family, other->family), "%s", k->name);
		if (!k->family)
			continue;
		wasd_mode_join(k->family, "x", name);
		CHECK_MSG(wasd_mode_ok(name) && !strcmp(wasd_mode_member(name), "x"), "%s is no name of a mode", name);
	}
	CHECK(!mode_kind_find("quartered"));
	wasd_graph_destroy(g);
	cJSON_Delete(model);
	cJSON_Delete(wrong);
}

int main(void)
{
	tiny_begin();
	TEST_RUN(are_listed);
	TEST_RUN(network_and_transform_train);
	TEST_RUN(layer_computes_on_every_backend);
	TEST_RUN(copies_are_explained);
	TEST_RUN(layer_without_any_kernel_is_refused);
	TEST_RUN(layer_trains);
	TEST_RUN(strategy_trains_and_is_deployed);
	TEST_RUN(composition_trains_and_is_deployed);
	TEST_RUN(mask_trains_and_is_deployed);
	TEST_RUN(strategies_are_refused);
	TEST_RUN(list_of_was_is_was);
	TEST_RUN(kinds_of_modes);
	TEST_RUN(mode_is_served_on_every_backend);
	TEST_RUN(mode_is_made);
	TEST_RUN(optimizer_steps);
	TEST_RUN(optimizer_trains);
	tiny_end();
	TEST_END();
}
