/* The synthetic set: repeatable, a prefix of itself, balanced, and neither empty nor trivial. */
#include "check.h"
#include "wasd/data.h"

#include <dirent.h>
#include <unistd.h>

static char dir[64];

static struct wasd_dataset *make(const char *name, size_t train, size_t test, uint64_t seed)
{
	char path[128];
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	struct wasd_ingest_info info;
	snprintf(path, sizeof path, "%s/%s.wds", dir, name);
	CHECK_MSG(!wasd_synthetic("glyphs", train, test, seed, path, NULL, &info, &err), "%s", err.msg);
	CHECK_MSG(!wasd_dataset_open(path, &d, &err), "%s", err.msg);
	if (d) {
		CHECK_STR(info.digest, wasd_dataset_digest(d));
		CHECK_STR(info.format, "glyphs");
		CHECK(info.classes == 10 && info.n_train == train && info.n_test == test && info.shape.c == 3 &&
		      info.shape.h == 32);
	}
	return d;
}

static bool same_image(const struct wasd_dataset *a, enum wasd_split s, size_t i, const struct wasd_dataset *b,
                       enum wasd_split t, size_t j)
{
	return !memcmp(wasd_dataset_image(a, s, i), wasd_dataset_image(b, t, j), 3072);
}

static void repeatable(void)
{
	struct wasd_dataset *a = make("a", 50, 20, 5), *b = make("b", 50, 20, 5), *big = make("big", 70, 30, 5),
						*other = make("c", 50, 20, 6);
	if (a && b && big && other) {
		CHECK_STR(wasd_dataset_digest(a), wasd_dataset_digest(b));
		CHECK(strcmp(wasd_dataset_digest(a), wasd_dataset_digest(other)));
		for (size_t i = 0; i < 50; i++) {
			CHECK(same_image(a, WASD_TRAIN, i, big, WASD_TRAIN, i));
			CHECK(!same_image(a, WASD_TRAIN, i, other, WASD_TRAIN, i));
			CHECK_INT(wasd_dataset_label(a, WASD_TRAIN, i), i % 10);
			if (i < 20)
				CHECK(same_image(a, WASD_TEST, i, big, WASD_TEST, i) && !same_image(a, WASD_TEST, i, a, WASD_TRAIN, i));
		}
	}
	wasd_dataset_close(a), wasd_dataset_close(b), wasd_dataset_close(big), wasd_dataset_close(other);
}

/* Only exactly rounded operations are used, so the bytes are the same for every compiler and machine. */
static void golden(void)
{
	struct wasd_dataset *d = make("golden", 100, 20, 123);
	if (d)
		CHECK_STR(wasd_dataset_digest(d), "3fba400b9e352a9dc92b558de350acfe171d4db5de1c2bb1b5f63234bb328758");
	wasd_dataset_close(d);
}

/* Nearest class mean on raw pixels must do badly (the set is not trivial). */
static void not_trivial(void)
{
	static double mean[10][3072];
	struct wasd_dataset *d = make("hard", 1000, 500, 1);
	if (!d)
		return;
	for (size_t i = 0; i < 1000; i++)
		for (int k = 0; k < 3072; k++)
			mean[i % 10][k] += wasd_dataset_image(d, WASD_TRAIN, i)[k] / 100.0;
	int right = 0;
	for (size_t i = 0; i < 500; i++) {
		int best = 0;
		double least = 1e300;
		for (int c = 0; c < 10; c++) {
			double e = 0;
			for (int k = 0; k < 3072; k++)
				e += pow(wasd_dataset_image(d, WASD_TEST, i)[k] - mean[c][k], 2);
			if (e < least)
				least = e, best = c;
		}
		right += best == wasd_dataset_label(d, WASD_TEST, i);
	}
	CHECK_MSG(right < 200, "nearest mean gets %d of 500", right);
	wasd_dataset_close(d);
}

static int calls;
static void count_calls(void *ctx, uint64_t images, uint64_t bytes)
{
	CHECK(bytes == images * 3072);
	*(uint64_t *)ctx = images;
	calls++;
}
static bool stop_at_15(void *ctx)
{
	return *(uint64_t *)ctx >= 14;
}

static int files(void)
{
	int n = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void refuses(void)
{
	char path[128];
	struct wasd_err err;
	uint64_t images = 0;
	struct wasd_ingest_opts small = {.max_bytes = 100 * 3072, .max_images = 200},
							cancel = {.progress = count_calls, .cancelled = stop_at_15, .ctx = &images};
	snprintf(path, sizeof path, "%s/x.wds", dir);
	int before = files();
	static const struct {
		const char *kind;
		size_t train, test;
		bool limits;
		enum wasd_status status;
		const char *pointer;
	} rows[] = {
		{"moons", 100, 10, false, WASD_EINVAL, "/synthetic/kind"},
		{"glyphs", 9, 10, false, WASD_EINVAL, "/synthetic/train"},
		{"glyphs", 10, 0, false, WASD_EINVAL, "/synthetic/test"},
		{"glyphs", 91, 10, true, WASD_ETOOBIG, "/synthetic"},
		{"glyphs", 191, 10, true, WASD_ETOOBIG, "/synthetic"},
		{"glyphs", (size_t)-5, 10, false, WASD_ETOOBIG, "/synthetic"},
		{"glyphs", 100, (size_t)-5, false, WASD_ETOOBIG, "/synthetic"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		CHECK_INT(wasd_synthetic(rows[i].kind, rows[i].train, rows[i].test, 1, path, rows[i].limits ? &small : NULL,
		                         NULL, &err),
		          rows[i].status);
		CHECK_STR(err.pointer, rows[i].pointer);
	}
	CHECK_INT(wasd_synthetic("glyphs", 1000, 10, 1, path, &cancel, NULL, &err), WASD_ECANCELLED);
	CHECK(calls >= 14 && calls <= 16);
	CHECK_INT(files(), before);
}

int main(void)
{
	check_temp(dir, sizeof dir, "wasd-glyphs");
	if (!mkdtemp(dir))
		return 1;
	TEST_RUN(repeatable);
	TEST_RUN(golden);
	TEST_RUN(not_trivial);
	TEST_RUN(refuses);
	wasd_remove_tree(dir, NULL);
	TEST_END();
}
