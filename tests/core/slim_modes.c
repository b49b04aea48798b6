/* tests/core/slim_modes.c - the mode slim of a checkpoint: offered where channels are dead and only there, with the
 * same answers as aom; in the facts of a checkpoint; exported and imported again, as it is and as a network of its own.
 */
#include "halving.h"
#include "tiny.h"

#include "infer/bundle.h"
#include "train/checkpoint.h"
#include "wasd/convert.h"
#include "wasd/safetensors.h"

enum { N = 3 };
static struct wasd_dataset *data;
static cJSON *last_info;

#define SPEC(weights) \
	"{\"model\":{\"arch\":\"mobilenetv2\"}," weights \
	",\"train\":{\"epochs\":1,\"batch\":16,\"seed\":2},\"checkpoint\":{\"every\":1}}"
static const char halved[] = SPEC("\"weights\":[{\"type\":\"halving\"}]"), plain[] = SPEC("\"was\":false"),
				  drawn[] = SPEC("\"weights\":[{\"type\":\"was\"},{\"type\":\"halving\"}]");

static enum wasd_status keep_checkpoint(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	cJSON_Delete(last_info);
	last_info = cJSON_Duplicate(c->info, true);
	return tiny_checkpoint(ctx, c, err);
}

static void train(struct tiny_run *r, const char *spec)
{
	cJSON *j = cJSON_Parse(spec);
	struct wasd_trainer *t = NULL;
	struct wasd_err err = {0};
	struct wasd_train_hooks h = {.ctx = r, .checkpoint = keep_checkpoint};
	CHECK_MSG(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j, .data = data}, &t, &err), "%s", err.msg);
	CHECK_MSG(!wasd_trainer_run(t, &h, &r->end, NULL, &err), "%s", err.msg);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
}

static void names_of(const void *file, size_t len, char out[80])
{
	char name[WASD_MODE_LEN];
	out[0] = 0;
	for (int i = 0; !wasd_mode_at(file, len, i, name, NULL); i++)
		snprintf(out + strlen(out), 80 - strlen(out), "%s%s", i ? " " : "", name);
}

static double macs_of(const cJSON *info, const char *mode)
{
	double v = NAN;
	wasd_json_num(wasd_json_get(info, "macs"), mode, &v);
	return v;
}

/* The logits of a mode, and its multiply-adds. */
static double answer(const void *file, size_t len, const char *mode, real logits[N * 10])
{
	static real x[N * 3 * 16 * 16];
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	for (size_t i = 0; i < N; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * 3 * 16 * 16);
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, mode), &b, &err), "%s: %s", mode, err.msg);
	if (!b)
		return NAN;
	CHECK_MSG(!wasd_predictor_create(b, &(struct wasd_predictor_opts){.precision = WASD_PRECISION_FP32_STRICT}, &p,
	                                 &err) &&
	              !wasd_predictor_run(p, x, N, logits, &err),
	          "%s: %s", mode, err.msg);
	CHECK_STR(wasd_bundle_mode(b), mode);
	double macs = (double)wasd_bundle_macs(b);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	return macs;
}

static void same_logits(const real a[N * 10], const real b[N * 10])
{
	double largest = 0, worst = 0;
	for (int i = 0; i < N * 10; i++) {
		largest = fmax(largest, fabs((double)a[i]));
		worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
	}
	CHECK_MSG(largest > 0 && worst <= (sizeof(real) == 8 ? 1e-12 : 1e-5) * largest, "%g of %g", worst, largest);
}

static void offered_where_channels_are_dead(void)
{
	struct tiny_run r = {0};
	char names[80];
	real aom[N * 10], slim[N * 10];
	train(&r, halved);
	names_of(r.file, r.len, names);
	CHECK_STR(names, "aom slim");
	double whole = answer(r.file, r.len, "aom", aom), small = answer(r.file, r.len, "slim", slim);
	same_logits(aom, slim);
	CHECK_MSG(small < 0.5 * whole && small > 0.2 * whole, "%g of %g multiply-adds", small, whole);
	CHECK(macs_of(last_info, "aom") == whole && macs_of(last_info, "slim") == small);
	tiny_done(&r);
	train(&r, drawn);
	names_of(r.file, r.len, names);
	CHECK_STR(names, "aom dom slim");
	answer(r.file, r.len, "aom", aom);
	answer(r.file, r.len, "slim", slim);
	same_logits(aom, slim);
	tiny_done(&r);
	train(&r, plain);
	names_of(r.file, r.len, names);
	CHECK_STR(names, "aom");
	CHECK(isnan(macs_of(last_info, "slim")));
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	CHECK_INT(wasd_bundle_create(TINY_MODE(r.file, r.len, "slim"), &b, &err), WASD_ENOTFOUND);
	CHECK(strstr(err.msg, "aom"));
	void *made = NULL;
	size_t len;
	CHECK_INT(wasd_export_smaller(r.file, r.len, WASD_MODE_SLIM, &made, &len, &err), WASD_ENOTFOUND);
	tiny_done(&r);
}

/* An export of all modes gives all of them back; one of the smaller network gives that as aom. */
static void exported_and_imported(void)
{
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	void *made = NULL, *again = NULL;
	size_t len, again_len;
	char names[80];
	cJSON *info = NULL;
	real want[N * 10], got[N * 10];
	train(&r, drawn);
	double small = answer(r.file, r.len, "slim", want);
	CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &made, &len, &err) &&
	              !wasd_import(made, len, &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, &err),
	          "%s", err.msg);
	names_of(again, again_len, names);
	CHECK_STR(names, "aom dom slim");
	CHECK(macs_of(info, "slim") == small);
	answer(again, again_len, "slim", got);
	same_logits(want, got);
	cJSON_Delete(info);
	wasd_free(made);
	wasd_free(again);
	info = NULL;

	CHECK_MSG(!wasd_export_smaller(r.file, r.len, WASD_MODE_SLIM, &made, &len, &err) &&
	              !wasd_import(made, len, &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, &err),
	          "%s", err.msg);
	names_of(again, again_len, names);
	CHECK_STR(names, "aom");
	CHECK_STR(wasd_json_get(info, "arch")->valuestring, "mobilenetv2-slim");
	CHECK(answer(again, again_len, "aom", got) == small && macs_of(info, "aom") == small);
	same_logits(want, got);
	CHECK_MSG(len < r.len / 4, "%zu of %zu bytes", len, r.len);
	cJSON_Delete(info);
	wasd_free(made);
	wasd_free(again);
	tiny_done(&r);
}

static const char tiny[] =
	"{\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":8},{\"type\":\"batchnorm\"},{\"type\":\"conv\",\"out\":8},"
	"{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},"
	"\"weights\":[{\"type\":\"halving\"}],\"train\":{\"epochs\":1,\"batch\":16}}";

static void lack_of_memory(void)
{
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	void *made = NULL;
	size_t len = 0;
	train(&r, tiny);
	enum wasd_status s = WASD_ENOMEM;
	uint64_t n = 1;
	for (; s == WASD_ENOMEM; n += 1 + n / 16) {
		wasd_mem_fail_at(n);
		s = wasd_export_smaller(r.file, r.len, WASD_MODE_SLIM, &made, &len, &err);
		wasd_mem_fail_at(0);
	}
	CHECK_MSG(!s && n > 100, "%s after %llu", err.msg, (unsigned long long)n);
	wasd_free(made);
	tiny_done(&r);
}

int main(void)
{
	char path[96];
	CHECK(!wasd_threads_init(2, NULL));
	tiny_begin();
	data = tiny_glyphs("slim", 48, 16, 16, path);
	TEST_RUN(offered_where_channels_are_dead);
	TEST_RUN(exported_and_imported);
	TEST_RUN(lack_of_memory);
	wasd_dataset_close(data);
	cJSON_Delete(last_info);
	tiny_end();
	TEST_END();
}
