/* What a run takes of its data set: chosen classes, a hold-out with a seed of its own, the weights of unbalanced
 * classes. */
#include "tiny.h"

#include "train/checkpoint.h"
#include "wasd/profile.h"

enum { CLASSES = 3, SIDE = 32, IMAGE = 3 * SIDE * SIDE };
static const int images_of[CLASSES] = {60, 24, 4};
static struct wasd_dataset *data, *glyphs;
static char glyphs_path[96], few_path[96];

/* Glyphs of the first classes, in these numbers; those for tests from the last to the first. */
static bool make_data(const char *path)
{
	struct wasd_dataset_writer *w = NULL;
	const char *names[CLASSES];
	int n[CLASSES] = {0};
	for (int c = 0; c < CLASSES; c++)
		names[c] = wasd_dataset_class(glyphs, c);
	bool ok = !wasd_dataset_writer_create(path, (struct wasd_shape){3, SIDE, SIDE}, names, CLASSES, "test", &w, NULL);
	for (int split = WASD_TRAIN; split <= WASD_TEST; split++)
		for (size_t k = 0, all = wasd_dataset_count(glyphs, split); k < all; k++) {
			size_t i = split == WASD_TEST ? all - 1 - k : k;
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

/* ---- classes ---- */

static struct wasd_dataset *selected_of(const char *path, const char *classes, enum wasd_status want,
                                        const char *pointer)
{
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	cJSON *list = cJSON_Parse(classes);
	CHECK(!wasd_dataset_open(path, &d, &err));
	CHECK_MSG(wasd_dataset_select(d, list, &err) == want, "%s: %s", classes, err.msg);
	if (want)
		CHECK_STR(err.pointer, pointer);
	cJSON_Delete(list);
	return d;
}

static struct wasd_dataset *selected(const char *classes, enum wasd_status want, const char *pointer)
{
	return selected_of(glyphs_path, classes, want, pointer);
}

/* Of every split the images of the chosen classes, in order, with the new labels; digest and moments are the whole's.
 */
static void chosen_classes(void)
{
	static const int kept[] = {7, 2, 9};
	struct wasd_dataset *d = selected("[\"7\",2,\"9\"]", WASD_OK, NULL);
	double a[3], b[3], std[3];
	CHECK_INT(wasd_dataset_classes(d), 3);
	for (int c = 0; c < 3; c++)
		CHECK_STR(wasd_dataset_class(d, c), wasd_dataset_class(glyphs, kept[c]));
	for (int s = WASD_TRAIN; s <= WASD_TEST; s++) {
		size_t n = 0;
		for (size_t i = 0; i < wasd_dataset_count(glyphs, s); i++)
			for (int c = 0; c < 3; c++) {
				if (wasd_dataset_label(glyphs, s, i) != kept[c])
					continue;
				CHECK_INT(wasd_dataset_original(d, s, n), i);
				CHECK_INT(wasd_dataset_label(d, s, n), c);
				CHECK(!memcmp(wasd_dataset_image(d, s, n), wasd_dataset_image(glyphs, s, i), IMAGE));
				n++;
			}
		CHECK_INT(wasd_dataset_count(d, s), n);
	}
	wasd_dataset_moments(d, a, std);
	wasd_dataset_moments(glyphs, b, std);
	CHECK(!memcmp(a, b, sizeof a));
	CHECK_STR(wasd_dataset_digest(d), wasd_dataset_digest(glyphs));
	CHECK(!wasd_dataset_verify(d, wasd_dataset_digest(d), NULL));
	wasd_dataset_close(d);
}

static void refused_classes(void)
{
	static const struct {
		const char *list, *pointer;
	} rows[] = {
		{"[\"7\",\"cat\"]", "/data/classes/1"},
		{"[7,\"7\"]", "/data/classes/1"},
		{"[1,10]", "/data/classes/1"},
		{"[1,-1]", "/data/classes/1"},
		{"[1,2.5]", "/data/classes/1"},
		{"[1,null]", "/data/classes/1"},
		{"[1]", "/data/classes"},
		{"\"7\"", "/data/classes"},
		{"{}", "/data/classes"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		wasd_dataset_close(selected(rows[i].list, WASD_EINVAL, rows[i].pointer));
	wasd_dataset_close(selected("null", WASD_OK, NULL));
}

static bool go_on(void *ctx, int done, int of)
{
	(void)ctx, (void)done, (void)of;
	return true;
}

/* Its worst mistakes name images by their number in the whole split; kept: the classes of the two labels. */
static void check_report(const struct tiny_run *r, const struct wasd_dataset *d, const struct wasd_dataset *whole,
                         enum wasd_split split, const int kept[2])
{
	cJSON *j = NULL;
	const cJSON *one;
	struct wasd_err err = {0};
	struct wasd_report_opts o = {.file = r->file, .len = r->len, .data = d, .test = split == WASD_TEST, .go_on = go_on};
	CHECK_MSG(!wasd_report_make(&o, &j, &err), "%s", err.msg);
	const cJSON *aom = wasd_json_get(wasd_json_get(j, "modes"), "aom"), *worst = wasd_json_get(aom, "worst");
	CHECK(cJSON_GetArraySize(wasd_json_get(aom, "per_class")) == 2 && cJSON_IsArray(worst));
	fprintf(stderr, "%s\n", cJSON_PrintUnformatted(worst));
	cJSON_ArrayForEach(one, worst) {
		int image = cJSON_GetArrayItem(one, 0)->valueint, label = cJSON_GetArrayItem(one, 1)->valueint;
		CHECK((size_t)image < wasd_dataset_count(whole, split));
		CHECK_INT(wasd_dataset_label(whole, split, (size_t)image), kept[label]);
	}
	CHECK_MSG(cJSON_GetArraySize(worst) > 0, "a network of two steps makes no mistake");
	cJSON_Delete(j);
}

/* A run on chosen classes has their names and as many outputs; it resumes with equal bits, and not on other classes. */
static void run_on_classes(void)
{
	static const char spec[] =
		"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"classes\":[8,3],\"val_fraction\":0.25},\"train\":{\"epochs\":2,\"batch\":16}}";
	struct tiny_run whole = {0}, cut = {.stop_at = 5};
	struct checkpoint c = {0};
	struct wasd_err err = {0};
	struct wasd_dataset *d = selected("[8,3]", WASD_OK, NULL), *other = selected("[3,8]", WASD_OK, NULL), *again = NULL;
	tiny_go(&whole, spec, d);
	tiny_go(&cut, spec, d);
	cut.stop_at = 0;
	tiny_go(&cut, spec, other);
	CHECK_INT(cut.status, WASD_ECORRUPT);
	tiny_go(&cut, spec, d);
	CHECK_MSG(!whole.status && !cut.status && !strcmp(whole.sha, cut.sha), "%s", cut.err.msg);
	CHECK_MSG(!checkpoint_open(whole.file, whole.len, &c, &err), "%s", err.msg);
	CHECK(c.classes == 2 && !strcmp(cJSON_GetArrayItem(c.class_names, 0)->valuestring, "8") &&
	      !strcmp(cJSON_GetArrayItem(c.class_names, 1)->valuestring, "3"));
	CHECK(!wasd_dataset_open(glyphs_path, &again, &err) && !wasd_train_select_as(again, whole.file, whole.len, &err));
	CHECK_INT(wasd_dataset_classes(again), 2);
	check_report(&whole, again, glyphs, WASD_TRAIN, (const int[]){8, 3});
	checkpoint_done(&c);
	wasd_dataset_close(d);
	wasd_dataset_close(other);
	wasd_dataset_close(again);
	tiny_done(&whole);
	tiny_done(&cut);
}

/* The test images of `few.wds` have another order of classes than its training images. */
static void report_on_tests(void)
{
	struct wasd_dataset *d = selected_of(few_path, "[1,2]", WASD_OK, NULL);
	struct tiny_run r = {0};
	tiny_go(
		&r,
		"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"classes\":[1,2],\"val_fraction\":0},\"train\":{\"epochs\":1,\"batch\":16}}",
		d);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	check_report(&r, d, data, WASD_TEST, (const int[]){1, 2});
	tiny_done(&r);
	wasd_dataset_close(d);
}

/* ---- split ---- */

static bool same_val(const struct wasd_holdout *a, const struct wasd_holdout *b)
{
	return a->n_val == b->n_val && !memcmp(a->val, b->val, a->n_val * sizeof *a->val);
}

static void split(void)
{
	struct wasd_holdout h[4];
	uint32_t of_class[CLASSES] = {0};
	CHECK(!wasd_holdout_make(data, 0, 0.25, 5, true, &h[0], NULL));
	CHECK(!wasd_holdout_make(data, 0, 0.25, 5, false, &h[1], NULL));
	CHECK(!wasd_holdout_make(data, 0, 0.25, 5, false, &h[2], NULL));
	CHECK(!wasd_holdout_make(data, 0, 0.25, 6, false, &h[3], NULL));
	CHECK(same_val(&h[1], &h[2]) && !same_val(&h[1], &h[3]) && !same_val(&h[0], &h[1]));
	for (int i = 0; i < 4; i++)
		CHECK(h[i].n_val == 22 && h[i].n_train == 66);
	for (size_t i = 0; i < h[0].n_val; i++)
		of_class[wasd_dataset_label(data, WASD_TRAIN, h[0].val[i])]++;
	CHECK(of_class[0] == 15 && of_class[1] == 6 && of_class[2] == 1);
	for (int i = 0; i < 4; i++)
		wasd_holdout_done(&h[i]);
}

/* The seed of the split replaces that of the run for the hold-out alone. */
static void seed_of_the_split(void)
{
#define SPLIT(seed, split) \
	"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"val_fraction\":0.25" split \
	"},\"train\":{\"epochs\":1,\"batch\":11,\"seed\":" seed "}}"
	struct tiny_run a = {0}, b = {0}, c = {.stop_at = 3};
	run(&a, SPLIT("9", ""));
	run(&b, SPLIT("9", ",\"split\":{\"seed\":9,\"stratified\":true}"));
	CHECK_STR(a.sha, b.sha);
	run(&c, SPLIT("9", ",\"split\":{\"seed\":4}"));
	c.stop_at = 0;
	tiny_go(&c, SPLIT("9", ",\"split\":{\"seed\":5}"), data);
	CHECK_INT(c.status, WASD_ECORRUPT);
	tiny_done(&a);
	tiny_done(&b);
	tiny_done(&c);
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
	struct wasd_err err = {0};
	tiny_begin();
	CHECK_MSG(!wasd_threads_init(2, &err), "%s", err.msg);
	glyphs = tiny_glyphs("selection", 800, 60, SIDE, glyphs_path);
	snprintf(few_path, sizeof few_path, "%s/few.wds", tiny_dir);
	if (!make_data(few_path))
		return 1;
	TEST_RUN(balanced);
	TEST_RUN(refused);
	TEST_RUN(unbalanced_is_told);
	TEST_RUN(chosen_classes);
	TEST_RUN(refused_classes);
	TEST_RUN(run_on_classes);
	TEST_RUN(report_on_tests);
	TEST_RUN(split);
	TEST_RUN(seed_of_the_split);
	wasd_dataset_close(data);
	wasd_dataset_close(glyphs);
	wasd_threads_done();
	tiny_end();
	TEST_END();
}
