/* tests/core/extend.c - a network, a transform and a layer that core does not have, each one file and one row: they are listed, described,
 * built, drawn and trained like those that it has. */
#include "tiny.h"

#include "backend/backend.h"
#include "infer/bundle.h"
#include "wasd/model.h"

#include "extend_layer.h"
#include "extend_network.h"
#include "extend_transform.h"

static const struct layer layer_hollow = { .op = "hollow", .summary = "has no kernel", .shape = square_shape };

const struct layer *const layer_more[] = { &layer_square, &layer_hollow, NULL };
const struct wasd_arch *const wasd_arch_more[] = { &arch_speck, NULL };
const struct wasd_transform_op *const wasd_transform_op_more[] = { &op_transpose, NULL };

static bool listed(const cJSON *caps, const char *table, const char *key, const char *name)
{
	const cJSON *row;
	const char *s;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table))
		if (wasd_json_str(row, key, &s) && !strcmp(s, name))
			return true;
	return false;
}

static void are_listed(void)
{
	cJSON *caps = wasd_capabilities();
	CHECK(listed(caps, "archs", "name", "speck") && listed(caps, "transforms", "type", "transpose") && listed(caps, "layers", "type", "square"));
	CHECK(listed(caps, "archs", "name", "resnet18") && !listed(caps, "archs", "name", "speck2"));
	cJSON_Delete(caps);
}

/* The network by its name, drawing the transform that only this program has. */
static void network_and_transform_train(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("glyphs", 96, 32, 16, path);
	struct tiny_run r = { 0 };
	cJSON *d = NULL, *model = cJSON_Parse("{\"arch\":\"speck\"}");
	struct wasd_err err = { 0 };
	CHECK_MSG(!wasd_network_describe(model, NULL, (struct wasd_shape){ 3, 16, 16 }, 10, &d, &err), "%s", err.msg);
	CHECK_INT(wasd_json_get(wasd_json_get(d, "augmented"), "layers")->valueint, 1);
	tiny_go(&r, "{\"model\":{\"arch\":\"speck\"},\"train\":{\"epochs\":2,\"batch\":32}}", data);
	CHECK_MSG(!r.status && r.end == WASD_TRAIN_DONE, "%s", r.err.msg);
	CHECK(r.len && memmem(r.file, r.len, "transpose", 9));       /* the recorded draw names it */
	tiny_done(&r);
	wasd_dataset_close(data);
	cJSON_Delete(d);
	cJSON_Delete(model);
}

/* ---- the layer in networks of a job's own, on every row of the backends ------------------------------------------------ */

#define HEAD "{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}"
/* %d: channels. The square stands behind and before convolutions, at the images, twice at one input (whose gradient is then added to), and
 * among the rows that lead to the logits. */
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

enum { IMAGES = 3, CLASSES = 2, SIDE = 6 };

/* One forward and backward pass and one of the compiled network; the gradients stay in the model. */
static void run_squares(struct wasd_model *m, const char *backend, enum wasd_precision p, const real *x, double *loss, real logits[IMAGES * CLASSES], real served[IMAGES * CLASSES])
{
	static const int32_t y[IMAGES] = { 1, 0, 1 };
	struct wasd_exec *e = NULL;
	struct wasd_bundle *b = NULL;
	struct wasd_exec *net = NULL;
	struct wasd_err err = { 0 };
	int hits;
	CHECK_MSG(!wasd_exec_create(m, &(struct wasd_exec_opts){ .batch = IMAGES, .training = true, .precision = p, .backend = backend }, &e, &err), "%s: %s", backend, err.msg);
	wasd_model_grad_zero(m);
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){ .n = IMAGES, .bn = WASD_BN_BATCH }, &err) && !wasd_exec_loss(e, y, 0, loss, &hits, &err));
	memcpy(logits, wasd_exec_logits(e), IMAGES * CLASSES * sizeof *logits);
	CHECK(!wasd_exec_backward(e, &err));
	CHECK_MSG(!bundle_compile(m, NULL, WASD_STATS_AOM, WASD_AOM, &b, &err), "%s", err.msg);
	CHECK_MSG(!wasd_exec_create(bundle_model(b), &(struct wasd_exec_opts){ .batch = IMAGES, .constant_weights = true, .precision = p, .backend = backend }, &net, &err), "%s", err.msg);
	for (int i = 0; i < IMAGES; i++) {      /* fewer images than were planned for */
		CHECK(!wasd_exec_forward(net, x + i * 3 * SIDE * SIDE, &(struct wasd_pass){ .n = 1, .bn = WASD_BN_SET, .set = WASD_STATS_AOM }, &err));
		memcpy(served + i * CLASSES, wasd_exec_logits(net), CLASSES * sizeof *served);
	}
	wasd_exec_destroy(net);
	wasd_bundle_unref(b);
	wasd_exec_destroy(e);
}

static double distance(const real *a, const real *b, size_t n, double *scale)
{
	double d = 0;
	*scale = 1e-6;
	for (size_t i = 0; i < n; i++) {
		d = fmax(d, isfinite(a[i]) ? fabs((double)a[i] - (double)b[i]) : INFINITY);
		*scale = fmax(*scale, fabs((double)b[i]));
	}
	return d;
}

static void compare_squares(const char *backend, enum wasd_precision p, size_t which, int channels)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *a = NULL, *b = NULL;
	struct wasd_err err = { 0 };
	struct wasd_rng r;
	real x[IMAGES * 3 * SIDE * SIDE], la[IMAGES * CLASSES], lb[IMAGES * CLASSES], sa[IMAGES * CLASSES], sb[IMAGES * CLASSES];
	double va, vb, d, scale, tol = p == WASD_PRECISION_BF16 ? 0.06 : 2e-4;      /* bfloat16 has 8 bits, and these nets have few values to average over */
	char text[700];
	snprintf(text, sizeof text, squares[which], channels);
	cJSON *model = cJSON_Parse(text);
	wasd_rng_init(&r, 1, "x", 0, 0);
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){ 3, SIDE, SIDE }, CLASSES, &g, &err), "%s", err.msg);
	CHECK(!wasd_model_create(g, 1, &a, &err) && !wasd_model_create(g, 1, &b, &err));
	run_squares(a, backend, p, x, &va, la, sa);
	run_squares(b, "ref", WASD_PRECISION_FP32, x, &vb, lb, sb);
	size_t n = wasd_graph_param_count(g);
	const char *name = wasd_precision_name(p);
	d = distance(la, lb, IMAGES * CLASSES, &scale);
	CHECK_MSG(d <= tol * scale, "%s %s, net %zu, %d channels: logits differ by %g of %g", backend, name, which, channels, d, scale);
	d = distance(sa, sb, IMAGES * CLASSES, &scale);
	CHECK_MSG(d <= tol * scale, "%s %s, net %zu, %d channels: served logits differ by %g of %g", backend, name, which, channels, d, scale);
	d = distance(wasd_model_grad(a), wasd_model_grad(b), n, &scale);
	CHECK_MSG(d <= 3 * tol * scale, "%s %s, net %zu, %d channels: gradients differ by %g of %g", backend, name, which, channels, d, scale);
	wasd_model_destroy(a);
	wasd_model_destroy(b);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
}

static void layer_computes_on_every_backend(void)
{
	static const int channels[] = { 3, 5, 16, 37 };
	const struct backend *b;
	for (int i = 0; (b = backend_at(i)) != NULL; i++)
		for (int p = 0; p < WASD_PRECISIONS; p++) {
			if (backend_choose(b->name, (enum wasd_precision)p, &b, NULL))
				continue;               /* not offered here */
			for (size_t k = 0; k < sizeof squares / sizeof *squares * 4; k++)
				compare_squares(b->name, (enum wasd_precision)p, k / 4, channels[k % 4]);
		}
}

/* --explain names the step that copies, and no other backend's. */
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
		struct wasd_err err = { 0 };
		if (backend_choose(b->name, WASD_PRECISION_FP32, &b, NULL))
			continue;
		CHECK(!wasd_network_build(model, (struct wasd_shape){ 3, SIDE, SIDE }, CLASSES, &g, &err) && !wasd_model_create(g, 1, &m, &err));
		CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){ .batch = 2, .backend = b->name }, &e, &err));
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

/* A layer that nobody has a kernel for is refused by name. */
static void layer_without_any_kernel_is_refused(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = { 0 };
	const struct backend *b;
	cJSON *model = cJSON_Parse("{\"layers\":[{\"type\":\"conv\",\"out\":4},{\"type\":\"hollow\"}," HEAD);
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){ 3, SIDE, SIDE }, CLASSES, &g, &err) && !wasd_model_create(g, 1, &m, &err), "%s", err.msg);
	for (int i = 0; (b = backend_at(i)) != NULL; i++) {
		if (backend_choose(b->name, WASD_PRECISION_FP32, &b, NULL))
			continue;
		CHECK_INT(wasd_exec_create(m, &(struct wasd_exec_opts){ .batch = 2, .backend = b->name }, &e, &err), WASD_EUNSUPPORTED);
		CHECK_MSG(strstr(err.msg, "hollow") && strstr(err.msg, b->name), "%s", err.msg);
	}
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
}

/* In training: the default backend and the plain one go the same way. */
static void layer_trains(void)
{
	char path[96], spec[900], text[700];
	struct wasd_dataset *data = tiny_glyphs("glyphs", 96, 32, 16, path);
	struct tiny_run r = { 0 };
	snprintf(text, sizeof text, squares[3], 5);
	snprintf(spec, sizeof spec, "{\"model\":%s,\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01}}}", text);
	tiny_go(&r, spec, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	cJSON *j = cJSON_Parse(spec);
	struct tiny_run plain = { 0 };
	struct wasd_trainer *t = NULL;
	struct wasd_train_hooks h = { .ctx = &plain, .metrics = tiny_metrics };
	CHECK(!wasd_trainer_create(&(struct wasd_train_opts){ .spec = j, .data = data, .backend = "ref" }, &t, &plain.err) && !wasd_trainer_run(t, &h, &plain.end, NULL, &plain.err));
	for (int e = 1; e <= 2; e++)
		for (int k = 0; k < 4; k += 2)
			CHECK_MSG(fabs(r.value[e][k] - plain.value[e][k]) < 1e-3, "epoch %d: %s is %g, by plain loops %g", e, tiny_names[k], r.value[e][k], plain.value[e][k]);
	wasd_trainer_destroy(t);
	tiny_done(&r);
	wasd_dataset_close(data);
	cJSON_Delete(j);
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
	tiny_end();
	TEST_END();
}
