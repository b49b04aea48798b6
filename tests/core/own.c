/* tests/core/own.c - custom networks: the published LeNet written as layers gives the same bits; what is rejected and
 * where; random networks on every backend against the reference, and folded against unfolded; training with a resume,
 * both modes; hostile input. */
#include "tiny.h"

#include "backends.h"
#include "infer/bundle.h"
#include "wasd/infer.h"
#include "wasd/model.h"
#include "wasd/weights.h"

static const struct wasd_shape cifar = {3, 32, 32};

static cJSON *parse(const char *layers)
{
	char *text = wasd_asprintf("{\"layers\":%s}", layers);
	cJSON *j = NULL;
	CHECK_MSG(!wasd_json_parse(text, strlen(text), WASD_JSON_REQUEST, &j, NULL), "%s", text);
	wasd_free(text);
	return j;
}

/* ---- the same network, written both ways ------------------------------------------------------------------------ */

#define LENET \
	"[{\"type\":\"conv\",\"name\":\"conv1\",\"out\":6,\"kernel\":5,\"padding\":0},{\"type\":\"relu\"},{\"type\":\"maxpool\",\"kernel\":2}," \
	"{\"type\":\"conv\",\"name\":\"conv2\",\"out\":16,\"kernel\":5,\"padding\":0},{\"type\":\"relu\"},{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"flatten\"}," \
	"{\"type\":\"linear\",\"name\":\"f1\",\"out\":120},{\"type\":\"relu\"},{\"type\":\"linear\",\"name\":\"f2\",\"out\":84},{\"type\":\"relu\"}," \
	"{\"type\":\"linear\",\"name\":\"f3\",\"out\":\"classes\"},{\"type\":\"relu\"}]"

static void logits_of(struct wasd_graph *g, const real *x, int n, real *out)
{
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	CHECK(!wasd_model_create(g, 5, &m, &err) && !wasd_exec_create(m, &(struct wasd_exec_opts){.batch = n}, &e, &err) &&
	      !wasd_exec_forward(e, x, &(struct wasd_pass){.n = n, .bn = WASD_BN_BATCH}, &err));
	memcpy(out, wasd_exec_logits(e), (size_t)n * 10 * sizeof *out);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
}

static void as_published(void)
{
	enum { N = 4 };
	static real x[N * 3 * 32 * 32], a[N * 10], b[N * 10];
	struct wasd_graph *own = NULL, *published = NULL;
	struct wasd_err err = {0};
	struct wasd_rng r;
	wasd_rng_init(&r, 2, "x", 0, 0);
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	cJSON *j = parse(LENET);
	CHECK_MSG(!wasd_network_build(j, cifar, 10, &own, &err), "%s", err.msg);
	CHECK(!wasd_arch_build("lenet", cifar, 10, NULL, &published, &err));
	CHECK_INT(wasd_graph_param_count(own), 62006);
	CHECK_INT(wasd_graph_macs(own, NULL), wasd_graph_macs(published, NULL));
	CHECK_INT(wasd_graph_augs(own), 2);
	logits_of(own, x, N, a);
	logits_of(published, x, N, b);
	CHECK(!memcmp(a, b, sizeof a));
	CHECK_STR(wasd_network_name(j), "custom");
	wasd_graph_destroy(own);
	wasd_graph_destroy(published);
	cJSON_Delete(j);
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

#define HEAD ",{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]"
#define CONV(rest) "[{\"type\":\"conv\",\"name\":\"first\"" rest "}" HEAD

static const struct {
	const char *layers, *pointer, *says, *why;
} bad[] = {
	{"[7" HEAD, "/model/layers/0", "object", "no object"},
	{"[{}" HEAD, "/model/layers/0/type", "type", "no type"},
	{"[{\"type\":\"lstm\"}" HEAD, "/model/layers/0/type", "known: conv", "unknown layer"},
	{"[{\"type\":\"input\"}" HEAD, "/model/layers/0/type", "unknown layer", "the images are no layer"},
	{CONV(",\"width\":3"), "/model/layers/0/width", "unknown field", "unknown member"},
	{CONV(",\"out\":0"), "/model/layers/0/out", "first: out", "no channels"},
	{CONV(",\"out\":2.5"), "/model/layers/0/out", "whole", "half a channel"},
	{CONV(",\"out\":\"many\""), "/model/layers/0/out", "\"classes\"", "another word"},
	{CONV(",\"kernel\":\"classes\""), "/model/layers/0/kernel", "whole", "kernel is no count of classes"},
	{CONV(",\"kernel\":65"), "/model/layers/0/kernel", "64", "too large a kernel"},
	{CONV(",\"kernel\":40,\"padding\":0"), "/model/layers/0/kernel", "first: kernel 40x40", "does not fit 32x32"},
	{CONV(",\"stride\":0"), "/model/layers/0/stride", "stride", "no stride"},
	{CONV(",\"out\":8,\"groups\":2"), "/model/layers/0/groups", "do not divide", "3 channels in 2 groups"},
	{CONV(",\"out\":4,\"depthwise\":true"), "/model/layers/0/out", "do not divide", "4 outputs of 3 groups"},
	{CONV(",\"depthwise\":true,\"groups\":3"), "/model/layers/0/groups", "not both", "both"},
	{CONV(",\"bias\":1"), "/model/layers/0/bias", "true or false", "a number for a switch"},
	{CONV(",\"augment\":\"yes\""), "/model/layers/0/augment", "true or false", "a word for a switch"},
	{CONV(",\"kernel\":1,\"augment\":true"), "/model/layers/0/augment", "not 1x1", "nothing to transform"},
	{CONV(",\"kernel\":9,\"augment\":true"), "/model/layers/0/augment", "7x7", "beyond 7x7"},
	{"[{\"type\":\"relu\",\"augment\":true}" HEAD, "/model/layers/0/augment", "unknown field", "only convolutions"},
	{"[{\"type\":\"relu\",\"name\":\"\"}" HEAD, "/model/layers/0/name", "letters", "empty name"},
	{"[{\"type\":\"relu\",\"name\":\"a/b\"}" HEAD, "/model/layers/0/name", "letters", "a slash"},
	{"[{\"type\":\"relu\",\"name\":\".a\"}" HEAD, "/model/layers/0/name", "letters", "a dot in front"},
	{"[{\"type\":\"relu\",\"name\":\"0123456789012345678901234567890123456789012345678\"}" HEAD, "/model/layers/0/name",
     "48", "49 bytes"},
	{"[{\"type\":\"relu\",\"name\":\"input\"}" HEAD, "/model/layers/0/name", "prefix is reserved", "the images' name"},
	{"[{\"type\":\"relu\",\"name\":\"dom.x\"}" HEAD, "/model/layers/0/name", "prefix is reserved",
     "a checkpoint's prefix"},
	{"[{\"type\":\"relu\",\"name\":\"relu1\"},{\"type\":\"relu\"}" HEAD, "/model/layers/1", "has this name",
     "taken by a generated name"},
	{"[{\"type\":\"relu\",\"name\":\"a\"},{\"type\":\"relu\",\"name\":\"a\"}" HEAD, "/model/layers/1/name",
     "has this name", "twice"},
	{"[{\"type\":\"relu\",\"from\":\"later\"},{\"type\":\"relu\",\"name\":\"later\"}" HEAD, "/model/layers/0/from",
     "later", "reads what comes later"},
	{"[{\"type\":\"relu\",\"from\":3}" HEAD, "/model/layers/0/from", "name", "a number"},
	{"[{\"type\":\"relu\",\"from\":[\"input\",\"input\"]}" HEAD, "/model/layers/0/from", "twice", "the same twice"},
	{"[{\"type\":\"relu\",\"from\":[]}" HEAD, "/model/layers/0/from", "needs 1 input", "none"},
	{"[{\"type\":\"add\"}" HEAD, "/model/layers/0/from", "needs 2 inputs", "a sum of nothing"},
	{"[{\"type\":\"relu\",\"name\":\"a\"},{\"type\":\"add\",\"from\":\"a\"}" HEAD, "/model/layers/1/from",
     "needs 2 inputs", "a sum of one"},
	{"[{\"type\":\"conv\",\"name\":\"a\",\"out\":4},{\"type\":\"add\",\"name\":\"sum\",\"from\":[\"a\",\"input\"]}" HEAD,
     "/model/layers/1/from", "sum: cannot add 4x32x32 and 3x32x32", "shapes differ"},
	{"[{\"type\":\"maxpool\",\"name\":\"a\",\"kernel\":2},{\"type\":\"concat\",\"from\":[\"a\",\"input\"]}" HEAD,
     "/model/layers/1/from", "maps of 32x32", "sizes differ"},
	{"[{\"type\":\"maxpool\"}" HEAD, "/model/layers/0/kernel", "missing", "no window"},
	{"[{\"type\":\"maxpool\",\"kernel\":2,\"padding\":2}" HEAD, "/model/layers/0/kernel", "invalid pooling",
     "more padding than half the window"},
	{"[{\"type\":\"avgpool\",\"kernel\":15,\"stride\":15},{\"type\":\"avgpool\",\"kernel\":3}" HEAD,
     "/model/layers/1/kernel", "does not fit a map of 2x2", "the second pooling"},
	{"[{\"type\":\"dropout\",\"p\":1}" HEAD, "/model/layers/0/p", "below 1", "drops everything"},
	{"[{\"type\":\"linear\",\"out\":10}]", "/model/layers/0", "flatten it first", "maps into linear"},
	{"[{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":11}]", "/model/layers/1", "10 classes need 10x1x1",
     "eleven of ten classes"},
	{"[{\"type\":\"relu\"},{\"type\":\"flatten\",\"from\":\"input\"},{\"type\":\"linear\",\"out\":10}]",
     "/model/layers/0", "no other layer reads it", "a loose end"},
	{"[{\"type\":\"conv\",\"out\":65536},{\"type\":\"conv\",\"out\":4096}" HEAD, "/model/layers/1", "2^31",
     "too many parameters"},
	{"[{\"type\":\"conv\",\"out\":65536},{\"type\":\"conv\",\"out\":512,\"kernel\":7,\"padding\":60}" HEAD,
     "/model/layers/1", "multiply-adds", "too much to compute"},
	{"[]", "/model/layers", "1 to 1000", "none"},
};

static void refusals(void)
{
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		cJSON *j = parse(bad[i].layers);
		enum wasd_status s = wasd_network_build(j, cifar, 10, &g, &err);
		CHECK_MSG((s == WASD_EINVAL || s == WASD_ETOOBIG) && !g && !strcmp(err.pointer, bad[i].pointer) &&
		              strstr(err.msg, bad[i].says),
		          "%s: %s %s \"%s\"", bad[i].why, wasd_status_name(s), err.pointer, err.msg);
		wasd_graph_destroy(g);
		cJSON_Delete(j);
	}
	static const struct {
		const char *model, *pointer;
	} objects[] = {
		{"{\"layers\":[{\"type\":\"flatten\"}],\"arch\":\"lenet\"}", "/model/layers"},
		{"{\"layers\":3}", "/model/layers"},
		{"{}", "/model/arch"},
		{"{\"layers\":[{\"type\":\"flatten\"}],\"name\":\"resnet18\"}", "/model/name"},
		{"{\"layers\":[{\"type\":\"flatten\"}],\"name\":\"A b\"}", "/model/name"},
		{"{\"layers\":[{\"type\":\"flatten\"}],\"head\":512}", "/model/head"},
		{"[]", "/model"},
	};
	for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		cJSON *j = cJSON_Parse(objects[i].model);
		CHECK_INT(wasd_network_build(j, cifar, 10, &g, &err), WASD_EINVAL);
		CHECK_STR(err.pointer, objects[i].pointer);
		cJSON_Delete(j);
	}
}

/* Sizes that result from many harmless layers: each is rejected, none computed. */
static void limits(void)
{
	struct wasd_buf b = {0};
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	cJSON *j;
	wasd_buf_puts(&b, "[{\"type\":\"relu\",\"name\":\"c0\"}");
	for (int i = 1; i <= 40; i++)
		wasd_buf_printf(
			&b,
			",{\"type\":\"relu\",\"name\":\"r%d\",\"from\":\"c%d\"},{\"type\":\"concat\",\"name\":\"c%d\",\"from\":[\"c%d\",\"r%d\"]}",
			i, i - 1, i, i - 1, i);
	wasd_buf_puts(&b, HEAD);
	j = parse(wasd_buf_cstr(&b));
	CHECK_INT(wasd_network_build(j, cifar, 10, &g, &err), WASD_ETOOBIG);
	CHECK_MSG(strstr(err.pointer, "/model/layers/") && strstr(err.msg, "may have at most"), "%s %s", err.pointer,
	          err.msg);
	cJSON_Delete(j);
	b.len = 0;
	for (int i = 0; i <= 1000; i++)
		wasd_buf_puts(&b, i ? ",{\"type\":\"relu\"}" : "[{\"type\":\"relu\"}");
	wasd_buf_puts(&b, "]");
	j = parse(wasd_buf_cstr(&b));
	CHECK_INT(wasd_network_build(j, cifar, 10, &g, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/model/layers");
	cJSON_Delete(j);
	wasd_buf_done(&b);
}

/* ---- random networks --------------------------------------------------------------------------------------- */

enum { IMAGES = 3, SIDE_H = 13, SIDE_W = 11 };
static const struct wasd_shape odd = {3, SIDE_H, SIDE_W};

/* One more layer, which may not fit. */
static cJSON *random_layer(struct wasd_rng *r, const cJSON *list)
{
	static const char *const types[] = {"conv",    "conv",    "conv", "batchnorm", "relu",   "relu6",
	                                    "maxpool", "avgpool", "add",  "concat",    "dropout"};
	const char *type = types[wasd_rng_below(r, sizeof types / sizeof *types)];
	int n = cJSON_GetArraySize(list);
	cJSON *l = cJSON_CreateObject();
	char name[16];
	snprintf(name, sizeof name, "n%d", n);
	cJSON_AddStringToObject(l, "type", type);
	cJSON_AddStringToObject(l, "name", name);
	if (!strcmp(type, "conv")) {
		int groups = (int)wasd_rng_below(r, 5);
		cJSON_AddNumberToObject(l, "kernel", 1 + wasd_rng_below(r, 7));
		if (wasd_rng_below(r, 3) == 0)
			cJSON_AddNumberToObject(l, "padding", wasd_rng_below(r, 4));
		cJSON_AddNumberToObject(l, "stride", 1 + wasd_rng_below(r, 4) / 3 * (1 + wasd_rng_below(r, 2)));
		cJSON_AddBoolToObject(l, "bias", wasd_rng_below(r, 2));
		if (groups == 4)
			cJSON_AddTrueToObject(l, "depthwise");
		else
			cJSON_AddNumberToObject(l, "out", (1 + wasd_rng_below(r, 20)) * (groups ? (uint32_t)groups : 1));
		if (groups < 4)
			cJSON_AddNumberToObject(l, "groups", groups ? groups : 1);
	} else if (strstr(type, "pool")) {
		cJSON_AddNumberToObject(l, "kernel", 2 + wasd_rng_below(r, 2));
		cJSON_AddNumberToObject(l, "stride", 1 + wasd_rng_below(r, 2));
	} else if ((!strcmp(type, "add") || !strcmp(type, "concat")) && n) {
		cJSON *from = cJSON_AddArrayToObject(l, "from");
		snprintf(name, sizeof name, "n%d", n - 1);
		cJSON_AddItemToArray(from, cJSON_CreateString(name));
		snprintf(name, sizeof name, "n%d", (int)wasd_rng_below(r, (uint32_t)n));
		cJSON_AddItemToArray(from, cJSON_CreateString(name));
	}
	return l;
}

/* Layers that fit, one after the other, and a head. */
static cJSON *random_network(struct wasd_rng *r, int layers)
{
	cJSON *model = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(model, "layers");
	static const char *const head[] = {"{\"type\":\"globalpool\"}", "{\"type\":\"flatten\"}",
	                                   "{\"type\":\"linear\",\"out\":\"classes\"}"};
	for (int tries = 0; cJSON_GetArraySize(list) < layers && tries < 1000; tries++) {
		struct wasd_graph *g = NULL;
		cJSON_AddItemToArray(list, random_layer(r, list));
		int n = cJSON_GetArraySize(list);
		for (int i = 0; i < 3; i++)
			cJSON_AddItemToArray(list, cJSON_Parse(head[i]));
		enum wasd_status s = wasd_network_build(model, odd, 5, &g, NULL);
		wasd_graph_destroy(g);
		for (int i = 0; i < 3; i++)
			cJSON_DeleteItemFromArray(list, n);
		if (s)
			cJSON_DeleteItemFromArray(list, n - 1);
	}
	for (int i = 0; i < 3; i++)
		cJSON_AddItemToArray(list, cJSON_Parse(head[i]));
	return model;
}

/* One training step with every kernel shifted; loss and gradient. */
static double step(struct wasd_graph *g, const char *backend, const real *x, real *grad)
{
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	static const int32_t y[IMAGES] = {0, 4, 2};
	struct wasd_draw d = {.recipe = {&weight_was}};
	double loss = NAN;
	int hits, n = wasd_graph_augs(g);
	d.layer = wasd_calloc((size_t)n + 1, sizeof *d.layer);
	d.n = n;
	for (int i = 0; i < n; i++) {
		d.layer[i].aug = i;
		d.layer[i].alpha_one = true;
		CHECK(!wasd_transform_make("translate", wasd_graph_aug_info(g, i).k, (double[6]){i % 3 - 1, i % 2},
		                           &d.layer[i].t, &err));
	}
	CHECK_MSG(!wasd_model_create(g, 5, &m, &err) &&
	              !wasd_exec_create(m,
	                                &(struct wasd_exec_opts){.batch = IMAGES,
	                                                         .training = true,
	                                                         .backend = backend,
	                                                         .precision = WASD_PRECISION_FP32_STRICT},
	                                &e, &err) &&
	              !wasd_exec_forward(e, x, &(struct wasd_pass){.n = IMAGES, .bn = WASD_BN_BATCH, .recipe = &d.recipe},
	                                 &err) &&
	              !wasd_exec_loss(e, y, 0, &loss, &hits, &err),
	          "%s: %s", backend, err.msg);
	wasd_model_grad_zero(m);
	CHECK_MSG(!wasd_exec_backward(e, &err), "%s: %s", backend, err.msg);
	memcpy(grad, wasd_model_grad(m), wasd_graph_param_count(g) * sizeof *grad);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_draw_done(&d);
	return loss;
}

/* Folded for inference, compared with a pass with stored statistics. */
static double folding_error(struct wasd_graph *g, const real *x)
{
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	real got[IMAGES * 5];
	double worst = 0, scale = 1;
	CHECK(!wasd_model_create(g, 5, &m, &err) &&
	      !wasd_exec_create(m, &(struct wasd_exec_opts){.batch = IMAGES}, &e, &err));
	CHECK(!wasd_exec_forward(e, x,
	                         &(struct wasd_pass){.n = IMAGES,
	                                             .bn = WASD_BN_BATCH,
	                                             .update = true,
	                                             .momentum = 1,
	                                             .set = WASD_STATS_AOM},
	                         &err));
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = IMAGES, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, &err));
	CHECK_MSG(!bundle_compile(m, NULL, WASD_STATS_AOM, &b, &err), "%s", err.msg);
	CHECK(b && !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err) &&
	      !wasd_predictor_run(p, x, IMAGES, got, &err));
	for (int i = 0; i < IMAGES * 5; i++)
		scale = fmax(scale, fabs((double)wasd_exec_logits(e)[i]));
	for (int i = 0; i < IMAGES * 5; i++)
		worst = fmax(worst, fabs((double)got[i] - (double)wasd_exec_logits(e)[i]) / scale);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	return worst;
}

static void random_networks(void)
{
	struct wasd_rng r;
	static real x[IMAGES * 3 * SIDE_H * SIDE_W];
	double worst[2] = {0}, folded = 0;
	int backends = 0;
	wasd_rng_init(&r, 8, "networks", 0, 0);
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	for (int net = 0; net < 60; net++) {
		cJSON *model = random_network(&r, 2 + net / 4);
		struct wasd_graph *g = NULL;
		CHECK(!wasd_network_build(model, odd, 5, &g, NULL));
		size_t n = wasd_graph_param_count(g);
		real *want = wasd_calloc(n, sizeof *want), *got = wasd_calloc(n, sizeof *got);
		double loss = step(g, "ref", x, want), size = 1e-3;
		for (size_t i = 0; i < n; i++)
			size = fmax(size, fabs((double)want[i]));
		const struct backend *b;
		for (int k = 0; (b = backend_at(k)) && strcmp(b->name, "ref"); k++) {
			if (!strcmp(b->name, "onednn") && !fast_backend_runs())
				continue;
			double l = step(g, b->name, x, got), apart = fabs(l - loss);
			for (size_t i = 0; i < n; i++)
				apart = fmax(apart, fabs((double)got[i] - (double)want[i]) / size);
			worst[k] = fmax(worst[k], apart);
			backends = k + 1;
			char *text = apart > (sizeof(real) == 8 ? 1e-9 : 2e-3) ? wasd_json_print(model) : NULL;
			CHECK_MSG(!text, "%s is %g from the reference: %s", b->name, apart, text);
			wasd_free(text);
		}
		double f = folding_error(g, x);
		CHECK_MSG(f < (sizeof(real) == 8 ? 1e-9 : 2e-3), "network %d: folded is %g from unfolded", net, f);
		folded = fmax(folded, f);
		wasd_free(want);
		wasd_free(got);
		wasd_graph_destroy(g);
		cJSON_Delete(model);
	}
	for (int k = 0; k < backends; k++)
		printf("# %s: at most %.2g from the reference\n", backend_at(k)->name, worst[k]);
	printf("# folded: at most %.2g from unfolded\n", folded);
}

/* ---- a run ------------------------------------------------------------------------------------------------- */

#define RESIDUAL \
	"{\"model\":{\"name\":\"tiny\",\"layers\":[{\"type\":\"conv\",\"name\":\"stem\",\"out\":8,\"bias\":false},{\"type\":\"batchnorm\"},{\"type\":\"relu\",\"name\":\"a\"}," \
	"{\"type\":\"conv\",\"name\":\"block.conv\",\"bias\":false,\"augment\":true},{\"type\":\"batchnorm\",\"name\":\"b\"},{\"type\":\"add\",\"from\":[\"b\",\"a\"]},{\"type\":\"relu\"}," \
	"{\"type\":\"conv\",\"name\":\"depth\",\"depthwise\":true,\"kernel\":5,\"stride\":2,\"augment\":true},{\"type\":\"batchnorm\"},{\"type\":\"relu6\",\"name\":\"c\"}," \
	"{\"type\":\"maxpool\",\"kernel\":2,\"from\":\"c\",\"name\":\"d\"},{\"type\":\"avgpool\",\"kernel\":2,\"from\":\"c\",\"name\":\"e\"},{\"type\":\"concat\",\"from\":[\"d\",\"e\"]}," \
	"{\"type\":\"flatten\"},{\"type\":\"dropout\",\"p\":0.2},{\"type\":\"linear\",\"out\":\"classes\"}]}," \
	"\"train\":{\"epochs\":3,\"batch\":24,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.003}}}"

static void trains_and_serves(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("glyphs", 120, 40, 16, path);
	struct tiny_run straight = {0}, cut = {.stop_at = 7};
	tiny_go(&straight, RESIDUAL, data);
	CHECK_MSG(!straight.status, "%s", straight.err.msg);
	CHECK_INT(straight.end, WASD_TRAIN_DONE);
	CHECK_MSG(straight.value[3][0] < 0.9 * straight.value[1][0], "train_loss %g, then %g", straight.value[1][0],
	          straight.value[3][0]);
	CHECK(!isnan(straight.value[3][5])); /* DOM was measured: two layers have "augment" */
	tiny_go(&cut, RESIDUAL, data);
	CHECK_INT(cut.end, WASD_TRAIN_CANCELLED);
	cut.stop_at = 0;
	tiny_go(&cut, RESIDUAL, data);
	CHECK_MSG(!cut.status, "%s", cut.err.msg);
	CHECK_STR(cut.sha, straight.sha);
	for (int m = 0; m < 2; m++) {
		struct wasd_bundle *b = NULL;
		struct wasd_err err = {0};
		CHECK_MSG(!wasd_bundle_create(TINY_MODE(straight.file, straight.len, tiny_modes[m]), &b, &err), "%s", err.msg);
		if (!b)
			continue;
		CHECK_STR(wasd_bundle_arch(b), "tiny");
		CHECK_INT(wasd_bundle_classes(b), 10);
		wasd_bundle_unref(b);
	}
	/* A job with another network does not resume from this file. */
	char *other = wasd_strdup(RESIDUAL), *at = strstr(other, "\"out\":8,");
	at[6] = '9';
	struct tiny_run wrong = {.file = wasd_malloc(straight.len), .len = straight.len};
	memcpy(wrong.file, straight.file, straight.len);
	tiny_go(&wrong, other, data);
	CHECK_INT(wrong.status, WASD_ECORRUPT);
	wasd_free(other);
	tiny_done(&wrong);
	tiny_done(&straight);
	tiny_done(&cut);
	wasd_dataset_close(data);
}

/* ---- hostile input ----------------------------------------------------------------------------------------- */

/* Replaces one value somewhere in the tree by another. */
static void disturb(cJSON *at, struct wasd_rng *r)
{
	static const double numbers[] = {0, -1, 1, 2, 3, 7, 64, 65, 65536, 1e9, 2147483648.0, 1e300, 0.5, -0.0};
	static const char *const words[] = {"classes", "", "input", "conv", "add", "n0", "\xc3\xa9", "dom.x"};
	while (at->child && (at->type != cJSON_Object || wasd_rng_below(r, 8))) {
		int n = (int)wasd_rng_below(r, (uint32_t)cJSON_GetArraySize(at));
		cJSON *c = cJSON_GetArrayItem(at, n);
		if (!c->child && cJSON_IsString(c) && wasd_rng_below(r, 4)) {
			cJSON_SetValuestring(c, "n1");
			return;
		}
		at = c;
	}
	if (cJSON_IsObject(at)) {
		static const char *const keys[] = {"kernel", "stride", "padding", "groups", "out",       "from",
		                                   "name",   "type",   "p",       "eps",    "depthwise", "augment"};
		const char *key = keys[wasd_rng_below(r, sizeof keys / sizeof *keys)];
		cJSON_DeleteItemFromObjectCaseSensitive(at, key);
		switch (wasd_rng_below(r, 5)) {
		case 0:
			break;
		case 1:
			cJSON_AddTrueToObject(at, key);
			break;
		case 2:
			cJSON_AddStringToObject(at, key, words[wasd_rng_below(r, sizeof words / sizeof *words)]);
			break;
		default:
			cJSON_AddNumberToObject(at, key, numbers[wasd_rng_below(r, sizeof numbers / sizeof *numbers)]);
			break;
		}
	} else if (cJSON_IsNumber(at)) {
		cJSON_SetNumberValue(at, numbers[wasd_rng_below(r, sizeof numbers / sizeof *numbers)]);
	}
}

static void hostile(void)
{
	struct wasd_rng r;
	int taken = 0, refused = 0;
	wasd_rng_init(&r, 3, "hostile", 0, 0);
	for (int round = 0; round < 4000; round++) {
		cJSON *spec = cJSON_Parse(RESIDUAL), *model = cJSON_DetachItemFromObject(spec, "model"), *d = NULL;
		struct wasd_err err = {0};
		for (int n = 1 + (int)wasd_rng_below(&r, 3); n; n--)
			disturb(model, &r);
		enum wasd_status s = wasd_network_describe(model, NULL, cifar, 10, &d, &err);
		CHECK_MSG(s == WASD_OK || ((s == WASD_EINVAL || s == WASD_ETOOBIG) && !strncmp(err.pointer, "/model", 6)),
		          "%s %s %s", wasd_status_name(s), err.pointer, err.msg);
		taken += s == WASD_OK;
		refused += s != WASD_OK;
		cJSON_Delete(d);
		cJSON_Delete(model);
		cJSON_Delete(spec);
	}
	CHECK_MSG(taken > 100 && refused > 1000, "%d taken, %d refused", taken, refused);
}

static void every_allocation_may_fail(void)
{
	cJSON *spec = cJSON_Parse(RESIDUAL);
	const cJSON *model = wasd_json_get(spec, "model");
	enum wasd_status s = WASD_ENOMEM;
	int refused = 0;
	for (uint64_t nth = 1; s; nth++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		struct wasd_mem_stats a = wasd_mem_stats();
		wasd_mem_fail_at(nth);
		s = wasd_network_build(model, cifar, 10, &g, &err);
		wasd_mem_fail_at(0);
		CHECK_MSG(s == WASD_OK || (s == WASD_ENOMEM && err.msg[0]), "allocation %d: %s %s", (int)nth,
		          wasd_status_name(s), err.msg);
		wasd_graph_destroy(g);
		struct wasd_mem_stats b = wasd_mem_stats();
		CHECK(b.allocs - a.allocs == b.frees - a.frees);
		refused += s != WASD_OK;
	}
	CHECK_MSG(refused > 40, "%d", refused);
	cJSON_Delete(spec);
}

int main(void)
{
	tiny_begin();
	TEST_RUN(as_published);
	TEST_RUN(refusals);
	TEST_RUN(limits);
	TEST_RUN(random_networks);
	TEST_RUN(trains_and_serves);
	TEST_RUN(hostile);
	TEST_RUN(every_allocation_may_fail);
	tiny_end();
	TEST_END();
}
