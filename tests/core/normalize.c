/* How pixels become numbers (data.normalize): the loader, a checkpoint, its bundle and exported files have one rule.
 * With every rule, the logits that a deployment computes from an image's bytes give the loss that the run reported. */
#include "tiny.h"

#include "train/checkpoint.h"
#include "wasd/convert.h"
#include "wasd/pixel.h"

enum { TEST_IMAGES = 24, IMAGE = 3 * 32 * 32 };
static struct wasd_dataset *data;

#define SPEC(how) \
	"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"normalize\":" how "},\"train\":{\"epochs\":1,\"batch\":16}," \
	"\"eval\":{\"test\":\"every\"}}"

/* The reported loss on the test images, and that of the bundle's answers to their pixels. */
static void check_served(const struct tiny_run *r, const struct wasd_bundle *b, struct wasd_predictor *p)
{
	static real x[TEST_IMAGES * IMAGE], z[TEST_IMAGES * 10];
	double loss = 0;
	for (size_t i = 0; i < TEST_IMAGES; i++)
		wasd_normalise(wasd_bundle_pixels(b), wasd_bundle_shape(b), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * IMAGE);
	CHECK(!wasd_predictor_run(p, x, TEST_IMAGES, z, NULL));
	for (size_t i = 0; i < TEST_IMAGES; i++) {
		double sum = 0;
		for (int c = 0; c < 10; c++)
			sum += exp((double)z[i * 10 + (size_t)c]);
		loss += (log(sum) - (double)z[i * 10 + (size_t)wasd_dataset_label(data, WASD_TEST, i)]) / TEST_IMAGES;
	}
	CHECK_NEAR(loss, r->value[1][8], 1e-4 * fmax(1, loss));
}

static void check_bundle(const void *file, size_t len, const struct tiny_run *r, const struct wasd_pixels *want)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, "aom"), &b, &err), "%s", err.msg);
	CHECK(!memcmp(wasd_bundle_pixels(b), want, sizeof *want));
	CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err));
	check_served(r, b, p);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

static bool has(const void *bytes, size_t len, const char *text)
{
	return memmem(bytes, len, text, strlen(text)) != NULL;
}

static void check_exports(const struct tiny_run *r, const struct wasd_pixels *want)
{
	void *bytes = NULL, *again = NULL;
	size_t len = 0, len_again = 0;
	cJSON *info = NULL;
	struct wasd_err err = {0};
	char *rule = wasd_pixels_rule(want, 3);
	CHECK_MSG(!wasd_export_safetensors(r->file, r->len, &bytes, &len, &err), "%s", err.msg);
	CHECK(has(bytes, len, rule));
	CHECK_MSG(!wasd_import(bytes, len, &(struct wasd_import){.to_serve = true}, &again, &len_again, &info, &err), "%s",
	          err.msg);
	check_bundle(again, len_again, r, want);
	wasd_free(bytes);
	CHECK_MSG(!wasd_export_onnx(TINY_MODE(r->file, r->len, "aom"), &bytes, &len, &err), "%s", err.msg);
	CHECK(has(bytes, len, rule));
	wasd_free(bytes);
	wasd_free(again);
	wasd_free(rule);
	cJSON_Delete(info);
}

static void one_rule(const char *spec, const struct wasd_pixels *want)
{
	struct tiny_run r = {0};
	tiny_go(&r, spec, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	if (!r.status) {
		check_bundle(r.file, r.len, &r, want);
		check_exports(&r, want);
		CHECK_INT(has(r.file, r.len, "\"normalize\":\"{"), memcmp(want, &wasd_pixels_half, sizeof *want) != 0);
	}
	tiny_done(&r);
}

static void half(void)
{
	one_rule(SPEC("\"half\""), &wasd_pixels_half);
}

static void of_the_set(void)
{
	struct wasd_pixels want;
	wasd_dataset_moments(data, want.mean, want.std);
	one_rule(SPEC("\"set\""), &want);
}

static void given(void)
{
	one_rule(SPEC("{\"mean\":[0.4914,0.4822,0.4465],\"std\":[0.247,0.2435,0.2616]}"),
	         &(struct wasd_pixels){{0.4914, 0.4822, 0.4465}, {0.247, 0.2435, 0.2616}});
	one_rule(SPEC("{\"mean\":[0.25],\"std\":[0.5]}"), &(struct wasd_pixels){{0.25, 0.25, 0.25}, {0.5, 0.5, 0.5}});
}

/* The loader's numbers over the training images have mean 0 and deviation 1, with and without a crop beside it. */
static void moments(void)
{
	struct wasd_pixels p;
	struct wasd_loader *l = NULL;
	double sum[3] = {0}, squares[3] = {0};
	size_t n = wasd_dataset_count(data, WASD_TRAIN);
	wasd_dataset_moments(data, p.mean, p.std);
	struct wasd_loader_opts o = {.data = data, .split = WASD_TRAIN, .batch = (int)n, .pixels = &p};
	CHECK(!wasd_loader_create(&o, &l, NULL));
	const struct wasd_batch *b = wasd_loader_next(l);
	for (size_t i = 0; i < n * IMAGE; i++) {
		size_t c = i / 1024 % 3;
		sum[c] += (double)b->x[i];
		squares[c] += (double)b->x[i] * (double)b->x[i];
	}
	for (int c = 0; c < 3; c++) {
		CHECK_NEAR(sum[c] / (double)(n * 1024), 0, 1e-4);
		CHECK_NEAR(squares[c] / (double)(n * 1024), 1, 1e-4);
	}
	wasd_loader_destroy(l);
}

static void refused(void)
{
	static const struct {
		const char *how, *pointer;
	} rows[] = {
		{"3", "/data/normalize"},
		{"\"whole\"", "/data/normalize"},
		{"{\"mean\":[0.5]}", "/data/normalize/std"},
		{"{\"mean\":[0.5,0.5],\"std\":[0.5]}", "/data/normalize/mean"},
		{"{\"mean\":[0.5],\"std\":[0.5,0.5,0]}", "/data/normalize/std/2"},
		{"{\"mean\":[1.5],\"std\":[0.5]}", "/data/normalize/mean/0"},
		{"{\"mean\":[\"a\"],\"std\":[0.5]}", "/data/normalize/mean/0"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char spec[400];
		struct tiny_run r = {0};
		snprintf(spec, sizeof spec, "{\"model\":{\"arch\":\"lenet\"},\"data\":{\"normalize\":%s}}", rows[i].how);
		tiny_go(&r, spec, data);
		CHECK_INT(r.status, WASD_EINVAL);
		CHECK_STR(r.err.pointer, rows[i].pointer);
		tiny_done(&r);
	}
}

/* A run does not resume from a checkpoint of another rule. */
static void resume_needs_the_same(void)
{
	struct tiny_run r = {.stop_at = 3};
	tiny_go(&r, SPEC("\"set\""), data);
	CHECK_INT(r.end, WASD_TRAIN_CANCELLED);
	tiny_go(&r, SPEC("\"half\""), data);
	CHECK_INT(r.status, WASD_ECORRUPT);
	CHECK_STR(r.err.pointer, "normalize");
	r.stop_at = 0;
	tiny_go(&r, SPEC("\"set\""), data);
	CHECK_MSG(!r.status && r.end == WASD_TRAIN_DONE, "%s", r.err.msg);
	tiny_done(&r);
}

int main(void)
{
	char path[96];
	struct wasd_err err = {0};
	tiny_begin();
	CHECK_MSG(!wasd_threads_init(2, &err), "%s", err.msg);
	data = tiny_glyphs("normalize", 160, TEST_IMAGES, 32, path);
	TEST_RUN(half);
	TEST_RUN(of_the_set);
	TEST_RUN(given);
	TEST_RUN(moments);
	TEST_RUN(refused);
	TEST_RUN(resume_needs_the_same);
	wasd_dataset_close(data);
	wasd_threads_done();
	tiny_end();
	TEST_END();
}
