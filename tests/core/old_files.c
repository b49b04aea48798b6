/* Files of earlier formats (tests/fixtures/checkpoint-1; its make.py describes them): their modes give the recorded
 * answers, and a resumed run has the losses of an uninterrupted one. */
#include "tiny.h"

#include "wasd/infer.h"
#include "wasd/safetensors.h"

#define FOLDER "tests/fixtures/checkpoint-1/"

struct file {
	char *bytes;
	size_t len;
};
static struct file checkpoint, cut, profile;
static cJSON *answers;

static struct file file_read(const char *path)
{
	struct file f = {0};
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_file_read(path, 1 << 20, &f.bytes, &f.len, &err), "%s: %s", path, err.msg);
	return f;
}

/* Another machine sums in another order, and another precision rounds differently. */
static void near(double got, double want, double tolerance, const char *what)
{
	CHECK_MSG(fabs(got - want) <= tolerance, "%s is %.9g, recorded was %.9g", what, got, want);
}

static void answers_as_recorded(const char *mode, const struct file *extra)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	const cJSON *images = wasd_json_get(answers, "images"),
				*want = wasd_json_get(wasd_json_get(answers, "logits"), mode);
	real x[2 * 3 * 8 * 8], y[2 * 3];
	struct wasd_mode_source from = {.file = checkpoint.bytes, .len = checkpoint.len, .name = mode};
	if (extra) {
		from.mode_file = extra->bytes;
		from.mode_len = extra->len;
	}
	CHECK_MSG(!wasd_bundle_create(&from, &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err),
	          "%s: %s", mode, err.msg);
	for (int i = 0; i < 2 * 3 * 8 * 8; i++)
		x[i] = (real)cJSON_GetArrayItem(cJSON_GetArrayItem(images, i / 192), i % 192)->valuedouble;
	CHECK_STR(b ? wasd_bundle_mode(b) : NULL, mode);
	CHECK(p && !wasd_predictor_run(p, x, 2, y, &err));
	for (int i = 0; i < 2 * 3; i++)
		near((double)y[i], cJSON_GetArrayItem(want, i)->valuedouble, 1e-5, mode);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

static void modes_answer_as_recorded(void)
{
	static const char *const listed[] = {"aom", "dom"};
	char name[WASD_MODE_LEN];
	int i = 0;
	while (!wasd_mode_at(checkpoint.bytes, checkpoint.len, i, name, NULL)) {
		CHECK(i < 2 && !strcmp(name, listed[i]));
		answers_as_recorded(name, NULL);
		i++;
	}
	CHECK_INT(i, 2);
	answers_as_recorded("dom:fast", &profile);
}

/* The list of such a file is made from its metadata, which is trusted no more than any. */
static void draw_of_another_kind_is_refused(void)
{
	static const char *const keys[] = {"format", "arch",     "dataset_digest", "spec",    "was",
	                                   "draw",   "progress", "fingerprint",    "classes", "input"};
	struct wasd_st *st = NULL;
	struct wasd_st_writer *w = wasd_st_writer_create();
	struct wasd_err err = {0};
	char name[WASD_MODE_LEN];
	void *bytes = NULL;
	size_t len;
	CHECK(!wasd_st_open(checkpoint.bytes, checkpoint.len, &st, NULL));
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		wasd_st_writer_meta(w, keys[i], strcmp(keys[i], "draw") ? wasd_st_meta(st, keys[i]) : "\"left\"");
	CHECK(!wasd_st_writer_block(w, &bytes, &len, NULL));
	CHECK_INT(wasd_mode_at(bytes, len, 0, name, &err), WASD_ECORRUPT);
	CHECK_STR(err.pointer, "draw");
	wasd_free(bytes);
	wasd_st_writer_destroy(w);
	wasd_st_close(st);
}

static double recorded(const char *curve, int epoch)
{
	const cJSON *point;
	cJSON_ArrayForEach(point, wasd_json_get(wasd_json_get(answers, "curves"), curve))
		if ((int)point->child->valuedouble == epoch)
			return point->child->next->valuedouble;
	return NAN;
}

/* A few hundred steps amplify a difference in the last bits. */
static void run_goes_on(void)
{
	static const char *const curves[] = {"train_loss", "val_loss_aom", "val_loss_dom"};
	struct wasd_err err = {0};
	struct wasd_dataset *data = NULL;
	struct wasd_st *st = NULL;
	struct tiny_run r = {.file = wasd_malloc(cut.len), .len = cut.len};
	int epochs = 0, values = 0;
	memcpy(r.file, cut.bytes, cut.len);
	CHECK_MSG(!wasd_dataset_open(FOLDER "patches.wds", &data, &err) && !wasd_st_open(cut.bytes, cut.len, &st, &err),
	          "%s", err.msg);
	tiny_go(&r, wasd_st_meta(st, "spec"), data);
	CHECK_MSG(!r.status && r.end == WASD_TRAIN_DONE && r.epoch == 12, "%s", r.err.msg);
	for (int e = 1; e <= 12; e++)
		for (int k = 0; k < TINY_NAMES && r.value[e][6] > 0; k++) { /* lr: of the epochs trained here */
			epochs += k == 0;
			for (size_t c = 0; c < sizeof curves / sizeof *curves; c++)
				if (!strcmp(tiny_names[k], curves[c]) && !isnan(recorded(curves[c], e))) {
					near(r.value[e][k], recorded(curves[c], e), 2e-3, curves[c]);
					values++;
				}
		}
	CHECK_MSG(epochs >= 2 && epochs <= 10 && values >= 2 * epochs - 1, "%d epochs, %d values", epochs, values);
	wasd_st_close(st);
	wasd_dataset_close(data);
	tiny_done(&r);
}

int main(void)
{
	struct file text = file_read(FOLDER "answers.json");
	answers = cJSON_Parse(text.bytes);
	checkpoint = file_read(FOLDER "checkpoint.wasd");
	cut = file_read(FOLDER "cut.wasd");
	profile = file_read(FOLDER "profile.wasd");
	if (!answers || !checkpoint.len || !cut.len || !profile.len)
		return 1;
	TEST_RUN(modes_answer_as_recorded);
	TEST_RUN(draw_of_another_kind_is_refused);
	TEST_RUN(run_goes_on);
	wasd_free(text.bytes);
	wasd_free(checkpoint.bytes);
	wasd_free(cut.bytes);
	wasd_free(profile.bytes);
	cJSON_Delete(answers);
	TEST_END();
}
