/* What a run takes of its data set: the weights of unbalanced classes. */
#include "tiny.h"

enum { CLASSES = 3, SIDE = 32, IMAGE = 3 * SIDE * SIDE };
static const int images_of[CLASSES] = {60, 24, 4};
static struct wasd_dataset *data;

/* Glyphs of the first classes, in these numbers. */
static bool make_data(const struct wasd_dataset *glyphs, const char *path)
{
	struct wasd_dataset_writer *w = NULL;
	const char *names[CLASSES];
	int n[CLASSES] = {0};
	for (int c = 0; c < CLASSES; c++)
		names[c] = wasd_dataset_class(glyphs, c);
	bool ok = !wasd_dataset_writer_create(path, (struct wasd_shape){3, SIDE, SIDE}, names, CLASSES, "test", &w, NULL);
	for (int split = WASD_TRAIN; split <= WASD_TEST; split++)
		for (size_t i = 0; i < wasd_dataset_count(glyphs, split); i++) {
			int c = wasd_dataset_label(glyphs, split, i);
			if (c < CLASSES && (split == WASD_TEST || n[c]++ < images_of[c]))
				ok = ok && !wasd_dataset_writer_add(w, split, wasd_dataset_image(glyphs, split, i), c, NULL);
		}
	ok = ok && !wasd_dataset_writer_finish(w, NULL);
	wasd_dataset_writer_abort(w);
	return ok && !wasd_dataset_open(path, &data, NULL);
}

#define SPEC(weights) \
	"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"val_fraction\":0},\"train\":{\"epochs\":1,\"batch\":11,\"class_weights\":" weights \
	"}}"

static void run(struct tiny_run *r, const char *spec)
{
	tiny_go(r, spec, data);
	CHECK_MSG(!r->status, "%s: %s", spec, r->err.msg);
}

/* 88 images of 3 classes. */
static void balanced(void)
{
	struct tiny_run plain = {0}, even = {0}, even_list = {0}, by_name = {0}, by_list = {0};
	run(&plain, SPEC("null"));
	run(&even, SPEC("[1,1,1]"));
	run(&even_list, SPEC("[2,2,2]"));
	run(&by_name, SPEC("\"balanced\""));
	run(&by_list, SPEC("[0.48888888888888887,1.2222222222222223,7.333333333333333]"));
	CHECK_NEAR(even.value[1][0], plain.value[1][0], 1e-5);
	CHECK_NEAR(even_list.value[1][0], plain.value[1][0], 1e-5);
	CHECK_STR(by_name.sha, by_list.sha);
	CHECK(strcmp(by_name.sha, plain.sha));
	tiny_done(&plain);
	tiny_done(&even);
	tiny_done(&even_list);
	tiny_done(&by_name);
	tiny_done(&by_list);
}

static void refused(void)
{
	static const struct {
		const char *spec, *pointer;
	} rows[] = {
		{SPEC("[1,2]"), "/train/class_weights"},
		{SPEC("[1,2,0]"), "/train/class_weights/2"},
		{SPEC("[1,2,\"3\"]"), "/train/class_weights/2"},
		{SPEC("\"even\""), "/train/class_weights"},
		{SPEC("3"), "/train/class_weights"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tiny_run r = {0};
		tiny_go(&r, rows[i].spec, data);
		CHECK_INT(r.status, WASD_EINVAL);
		CHECK_STR(r.err.pointer, rows[i].pointer);
		tiny_done(&r);
	}
}

static void note(void *ctx, const char *code, int epoch, const char *message)
{
	int *n = ctx;
	if (strcmp(code, "classes_unbalanced"))
		return;
	CHECK_INT(epoch, 0);
	CHECK_MSG(strstr(message, "1 of 3 classes") && strstr(message, "(4 of") && strstr(message, "60 of"), "%s", message);
	(*n)++;
}

static void unbalanced_is_told(void)
{
	int n = 0;
	cJSON *spec = cJSON_Parse(SPEC("null"));
	struct wasd_train_hooks h = {.ctx = &n, .warning = note};
	CHECK(!wasd_train_check(&(struct wasd_train_opts){.spec = spec, .data = data}, &h, NULL));
	CHECK_INT(n, 1);
	cJSON_Delete(spec);
}

int main(void)
{
	char path[96], file[96];
	struct wasd_err err = {0};
	tiny_begin();
	CHECK_MSG(!wasd_threads_init(2, &err), "%s", err.msg);
	struct wasd_dataset *glyphs = tiny_glyphs("selection", 800, 60, SIDE, path);
	snprintf(file, sizeof file, "%s/few.wds", tiny_dir);
	if (!make_data(glyphs, file))
		return 1;
	TEST_RUN(balanced);
	TEST_RUN(refused);
	TEST_RUN(unbalanced_is_told);
	wasd_dataset_close(data);
	wasd_dataset_close(glyphs);
	wasd_threads_done();
	tiny_end();
	TEST_END();
}
