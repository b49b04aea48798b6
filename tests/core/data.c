/* The dataset file: written data are read back, equal content has an equal digest, and a damaged file is rejected. */
#include "check.h"
#include "data/wds.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[96];

static int files_in_dir(void)
{
	int n = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static const char *const three[] = {"cat", "dög", "bird"};
enum { C = 2, H = 3, W = 5, IMAGE = C * H * W };

static void pixels(int split, int i, uint8_t *p)
{
	for (int k = 0; k < IMAGE; k++)
		p[k] = (uint8_t)(split * 101 + i * 31 + k * 7);
}

/* Writes 7 training and 4 test images with label i mod 3; interleaved and backwards if `shuffled`. */
static enum wasd_status write_set(const char *to, bool shuffled, struct wasd_err *err)
{
	struct wasd_dataset_writer *w;
	uint8_t p[IMAGE];
	enum wasd_status s = wasd_dataset_writer_create(to, (struct wasd_shape){C, H, W}, three, 3, "test", &w, err);
	if (s)
		return s;
	for (int k = 0; k < 11 && !s; k++) {
		int i = shuffled ? 10 - k : k, split = i >= 7, at = i - 7 * split;
		pixels(split, at, p);
		s = shuffled ? dataset_writer_put(w, (enum wasd_split)split, (size_t)at, p, at % 3, err) :
		               wasd_dataset_writer_add(w, (enum wasd_split)split, p, at % 3, err);
	}
	if (!s)
		s = wasd_dataset_writer_finish(w, err);
	wasd_dataset_writer_abort(w);
	return s;
}

static void round_trip(void)
{
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	for (int twice = 0; twice < 2; twice++) { /* the second replaces the first */
		CHECK_MSG(!write_set(path, false, &err), "%s", err.msg);
		CHECK_INT(files_in_dir(), 1);
	}
	CHECK_MSG(!wasd_dataset_open(path, &d, &err), "%s", err.msg);
	if (!d)
		return;
	struct wasd_shape s = wasd_dataset_shape(d);
	CHECK(s.c == C && s.h == H && s.w == W);
	CHECK_INT(wasd_dataset_classes(d), 3);
	CHECK_STR(wasd_dataset_class(d, 1), "dög");
	CHECK_INT(wasd_dataset_count(d, WASD_TRAIN), 7);
	CHECK_INT(wasd_dataset_count(d, WASD_TEST), 4);
	for (int split = 0; split < 2; split++)
		for (int i = 0; i < (split ? 4 : 7); i++) {
			uint8_t p[IMAGE];
			pixels(split, i, p);
			CHECK(!memcmp(p, wasd_dataset_image(d, (enum wasd_split)split, (size_t)i), IMAGE));
			CHECK_INT(wasd_dataset_label(d, (enum wasd_split)split, (size_t)i), i % 3);
		}
	double mean[3], std[3];
	wasd_dataset_moments(d, mean, std);
	for (int c = 0; c < C; c++) {
		double a = 0, b = 0, n = 7.0 * H * W;
		for (int i = 0; i < 7; i++)
			for (int k = 0; k < H * W; k++) {
				double v = wasd_dataset_image(d, WASD_TRAIN, (size_t)i)[c * H * W + k] / 255.0;
				a += v / n, b += v * v / n;
			}
		CHECK_NEAR(mean[c], a, 1e-12);
		CHECK_NEAR(std[c], sqrt(b - a * a), 1e-12);
	}
	CHECK(mean[2] == 0 && std[2] == 0);
	wasd_dataset_close(d);
}

/* The recorded preparation is read back; a file without a record gives the old defaults, and a record with invalid
 * values is rejected. */
static void how_pictures_were_made(void)
{
	static const struct {
		const char *from, *to;
		enum wasd_status status;
		struct wasd_prepare want;
	} rows[] = {
		{"", "", WASD_OK, {WASD_CROP, {1, 0xab, 0xff}, false, true}},
		{"\"prepare\"", "\"unknown\"", WASD_OK, {WASD_SQUEEZE, {0}, false, false}},
		{"\"crop\"", "\"corp\"", WASD_ECORRUPT, {0}},
	};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		struct wasd_dataset_writer *w;
		struct wasd_dataset *d = NULL;
		uint8_t p[IMAGE] = {0};
		char head[4096];
		CHECK(!wasd_dataset_writer_create(path, (struct wasd_shape){C, H, W}, three, 3, "test", &w, NULL));
		CHECK(!wasd_dataset_writer_add(w, WASD_TRAIN, p, 0, NULL) &&
		      !wasd_dataset_writer_add(w, WASD_TEST, p, 0, NULL));
		dataset_writer_prepare(w, &rows[0].want);
		CHECK(!wasd_dataset_writer_finish(w, NULL));
		wasd_dataset_writer_abort(w);
		int fd = open(path, O_RDWR);
		CHECK(pread(fd, head, sizeof head, 0) == sizeof head);
		char *at = memmem(head + 64, sizeof head - 64, rows[r].from, strlen(rows[r].from));
		CHECK(at && pwrite(fd, rows[r].to, strlen(rows[r].to), at - head) == (ssize_t)strlen(rows[r].to));
		close(fd);
		CHECK_INT(wasd_dataset_open(path, &d, NULL), rows[r].status);
		if (d) {
			const struct wasd_prepare *got = wasd_dataset_prepare(d), *want = &rows[r].want;
			CHECK_MSG(got->fit == want->fit && !memcmp(got->background, want->background, 3) &&
			              got->upright == want->upright && got->reduce == want->reduce,
			          "row %zu", r);
		}
		wasd_dataset_close(d);
	}
}

static void digest_is_of_content(void)
{
	char other[128], hex[WASD_SHA256_HEX];
	struct wasd_dataset *a = NULL, *b = NULL;
	snprintf(other, sizeof other, "%s/b.wds", dir);
	CHECK(!write_set(path, false, NULL) && !write_set(other, true, NULL));
	CHECK(!wasd_dataset_open(path, &a, NULL) && !wasd_dataset_open(other, &b, NULL));
	if (!a || !b)
		return;
	CHECK_STR(wasd_dataset_digest(b), wasd_dataset_digest(a));
	/* Compute the digest again by its definition. */
	struct wds_header h = {.c = C, .h = H, .w = W, .classes = 3, .n_train = 7, .n_test = 4};
	struct wasd_sha256 *sha = wasd_sha256_create();
	wds_digest_head(sha, &h, three);
	for (int s = 0; s < 2; s++) {
		for (int i = 0; i < (s ? 4 : 7); i++)
			wasd_sha256_update(sha, (uint8_t[2]){(uint8_t)(i % 3), 0}, 2);
		wasd_sha256_update(sha, wasd_dataset_image(a, (enum wasd_split)s, 0), (size_t)IMAGE * (s ? 4 : 7));
	}
	wasd_sha256_hex(sha, hex);
	wasd_sha256_destroy(sha);
	CHECK_STR(wasd_dataset_digest(a), hex);
	wasd_dataset_close(a);
	wasd_dataset_close(b);
	unlink(other);
}

static void writer_refuses(void)
{
	struct wasd_dataset_writer *w = NULL;
	struct wasd_err err;
	uint8_t p[IMAGE] = {0};
	char nowhere[96];
	unlink(path);
	snprintf(nowhere, sizeof nowhere, "%s/absent/x.wds", dir);
	CHECK_INT(wasd_dataset_writer_create(nowhere, (struct wasd_shape){C, H, W}, three, 3, "test", &w, &err), WASD_EIO);
	CHECK_INT(wasd_dataset_writer_create(path, (struct wasd_shape){4, H, W}, three, 3, "test", &w, &err), WASD_EINVAL);
	CHECK_INT(wasd_dataset_writer_create(path, (struct wasd_shape){3, H, 5000}, three, 3, "test", &w, &err),
	          WASD_EINVAL);
	CHECK_INT(wasd_dataset_writer_create(path, (struct wasd_shape){C, H, W}, three, 0, "test", &w, &err), WASD_EINVAL);
	CHECK_INT(wasd_dataset_writer_create(path, (struct wasd_shape){C, H, W}, (const char *[]){"a\xff"}, 1, "test", &w,
	                                     &err),
	          WASD_EINVAL);
	CHECK_INT(files_in_dir(), 0);
	CHECK(!wasd_dataset_writer_create(path, (struct wasd_shape){C, H, W}, three, 3, "test", &w, &err));
	CHECK(files_in_dir() <= 1); /* 0, except on file systems without unnamed files */
	CHECK_INT(wasd_dataset_writer_add(w, WASD_TRAIN, p, 3, &err), WASD_EINVAL);
	CHECK_INT(wasd_dataset_writer_finish(w, &err), WASD_EINVAL);
	CHECK(strstr(err.msg, "no train images"));
	CHECK(!wasd_dataset_writer_add(w, WASD_TRAIN, p, 2, &err));
	CHECK_INT(wasd_dataset_writer_finish(w, &err), WASD_EINVAL);
	CHECK(strstr(err.msg, "no test images"));
	CHECK(!dataset_writer_put(w, WASD_TEST, 1, p, 0, &err));
	CHECK_INT(wasd_dataset_writer_finish(w, &err), WASD_EINTERNAL);
	CHECK_INT(dataset_writer_put(w, WASD_TEST, 1, p, 0, &err), WASD_EINTERNAL);
	wasd_dataset_writer_abort(w);
	CHECK_INT(files_in_dir(), 0);
	wasd_dataset_writer_abort(NULL);
}

/* Every allocation fails once: an error, no leaked files, then success. */
static void writer_without_memory(void)
{
	int failures = 0;
	for (uint64_t n = 1; n < 1000; n++) {
		struct wasd_mem_stats before = wasd_mem_stats();
		unlink(path);
		wasd_mem_fail_at(n);
		enum wasd_status s = write_set(path, false, NULL);
		wasd_mem_fail_at(0);
		struct wasd_mem_stats after = wasd_mem_stats();
		CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
		if (!s)
			break;
		failures++;
		CHECK_INT(s, WASD_ENOMEM);
		CHECK_INT(files_in_dir(), 0);
	}
	CHECK_MSG(failures > 5, "%d allocations failed", failures);
}

static void open_without_memory(void)
{
	CHECK(!write_set(path, false, NULL));
	int failures = 0;
	for (uint64_t n = 1; n < 1000; n++) {
		struct wasd_dataset *d = NULL;
		wasd_mem_fail_at(n);
		enum wasd_status s = wasd_dataset_open(path, &d, NULL);
		wasd_mem_fail_at(0);
		if (!s) {
			wasd_dataset_close(d);
			break;
		}
		failures++;
		CHECK_INT(s, WASD_ENOMEM);
	}
	CHECK_MSG(failures >= 2, "%d allocations failed", failures);
}

static void put_file(const void *p, size_t n)
{
	FILE *f = fopen(path, "wb");
	fwrite(p, 1, n, f);
	fclose(f);
}

static enum wasd_status try_open(struct wasd_err *err)
{
	struct wasd_dataset *d = NULL;
	enum wasd_status s = wasd_dataset_open(path, &d, err);
	wasd_dataset_close(d);
	return s;
}

static void damaged(void)
{
	char *good;
	size_t n;
	struct wasd_err err;
	CHECK(!write_set(path, false, NULL));
	CHECK(!wasd_file_read(path, 1 << 20, &good, &n, NULL));
	static const struct {
		size_t at;
		uint32_t value;
		const char *message;
	} rows[] = {
		{0, 0, "not a dataset file"},
		{8, 2, "version 2"},
		{12, 0, "description"},
		{12, 0xffffffff, "impossible"},
		{16, 0, "impossible"},
		{16, 4, "impossible"},
		{16, 1, ""},
		{20, 0xffffffff, "impossible"},
		{24, 5000, "impossible"},
		{28, 0, "impossible"},
		{28, 2, "2 classes"},
		{28, 70000, "impossible"},
		{32, 0x10000000, "its header says"},
		{36, 0xffffffff, "its header says"},
		{44, 0x7fffffff, "its header says"},
		{48, 1, "its header says"},
		{64, 0x20202020, "description"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint32_t old;
		memcpy(&old, good + rows[i].at, 4);
		memcpy(good + rows[i].at, &rows[i].value, 4);
		put_file(good, n);
		memcpy(good + rows[i].at, &old, 4);
		enum wasd_status s = try_open(&err);
		CHECK_MSG(s == WASD_ECORRUPT && strstr(err.msg, rows[i].message), "row %zu: %s %s", i, wasd_status_name(s),
		          err.msg);
	}
	good[n - 1] = 1; /* change the last test label to 256 */
	put_file(good, n);
	CHECK_INT(try_open(&err), WASD_ECORRUPT);
	CHECK_MSG(strstr(err.msg, "test label 3 is 256"), "%s", err.msg);
	good[n - 1] = 0;
	for (size_t cut = 0; cut < n; cut += cut < 600 ? 7 : 997) {
		put_file(good, cut);
		CHECK_INT(try_open(&err), WASD_ECORRUPT);
	}
	/* Flip any byte of header and description: the file is rejected or, if the description stays valid, opened; never a
	 * crash. */
	for (size_t at = 0; at < 64 + 300; at++) {
		good[at] = (char)(good[at] ^ (1 << at % 8));
		put_file(good, n);
		good[at] = (char)(good[at] ^ (1 << at % 8));
		enum wasd_status s = try_open(&err);
		CHECK(s == WASD_OK || s == WASD_ECORRUPT);
	}
	unlink(path);
	CHECK_INT(try_open(&err), WASD_ENOTFOUND);
	mkdir(path, 0700);
	CHECK_INT(try_open(&err), WASD_ECORRUPT);
	rmdir(path);
	wasd_free(good);
}

/* A set with the given number of training images per class; classes take turns while they have images left. */
static struct wasd_dataset *set_of(const int *images, int classes)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	struct wasd_dataset_writer *w = NULL;
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	uint8_t p[IMAGE];
	bool more = true;
	CHECK(!wasd_dataset_writer_create(path, (struct wasd_shape){C, H, W}, names, classes, "test", &w, &err));
	for (int i = 0; more; i++) {
		more = false;
		for (int c = 0; c < classes; c++)
			if (i < images[c]) {
				more = true;
				pixels(0, i * classes + c, p);
				CHECK(!wasd_dataset_writer_add(w, WASD_TRAIN, p, c, &err));
			}
	}
	pixels(1, 0, p);
	CHECK(!wasd_dataset_writer_add(w, WASD_TEST, p, 0, &err));
	CHECK_MSG(!wasd_dataset_writer_finish(w, &err), "%s", err.msg);
	wasd_dataset_writer_abort(w);
	CHECK_MSG(!wasd_dataset_open(path, &d, &err), "%s", err.msg);
	return d;
}

static void validation_images(void)
{
	static const struct {
		int images[4], classes;
		double fraction;
		int held[4];
		const char *why;
	} rows[] = {
		{{20, 40, 10, 30}, 4, 0.1, {2, 4, 1, 3}, "of every class its tenth"},
		{{20, 40, 10, 30}, 4, 0, {0, 0, 0, 0}, "none"},
		{{25, 25, 25, 25}, 4, 0.1, {3, 3, 2, 2}, "ten in all: what does not divide goes to the first classes"},
		{{14, 17, 19}, 3, 0.1, {1, 2, 2}, "remainders .4 .7 .9: the largest are rounded up"},
		{{1, 1, 8}, 3, 0.5, {0, 0, 5}, "a class of one keeps it, another gives for it"},
		{{2, 2, 2}, 3, 0.5, {1, 1, 1}, "half"},
		{{30, 2, 2}, 3, 0.001, {1, 0, 0}, "always one, of the class that should give most"},
		{{1, 1, 1}, 3, 0.1, {1, 0, 0}, "always one, also when a class is left without"},
		{{0, 5, 0}, 3, 0.2, {0, 1, 0}, "classes without images"},
	};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		struct wasd_dataset *d = set_of(rows[r].images, rows[r].classes);
		struct wasd_holdout a = {0}, b = {0}, other = {0};
		struct wasd_err err = {0};
		size_t n = wasd_dataset_count(d, WASD_TRAIN);
		uint8_t *seen = wasd_calloc(n, 1);
		int held[4] = {0};
		CHECK_MSG(!wasd_holdout_make(d, 0, rows[r].fraction, 5, true, &a, &err), "%s: %s", rows[r].why, err.msg);
		CHECK(!wasd_holdout_make(d, 0, rows[r].fraction, 5, true, &b, &err) &&
		      !wasd_holdout_make(d, 0, rows[r].fraction, 6, true, &other, &err));
		CHECK_INT(a.n_train + a.n_val, n);
		for (size_t i = 0; i < a.n_val; i++) {
			held[wasd_dataset_label(d, WASD_TRAIN, a.val[i])]++;
			seen[a.val[i]]++;
			CHECK(!i || a.val[i] > a.val[i - 1]);
		}
		for (size_t i = 0; i < a.n_train; i++) {
			seen[a.train[i]]++;
			CHECK(!i || a.train[i] > a.train[i - 1]);
		}
		for (size_t i = 0; i < n; i++)
			CHECK_INT(seen[i], 1);
		for (int c = 0; c < rows[r].classes; c++)
			CHECK_MSG(held[c] == rows[r].held[c], "%s: %d of class %d", rows[r].why, held[c], c);
		CHECK(a.n_val == b.n_val && !memcmp(a.val, b.val, a.n_val * sizeof *a.val));
		if (n >= 50 && a.n_val)
			CHECK_MSG(memcmp(a.val, other.val, a.n_val * sizeof *a.val), "%s: another seed holds out the same",
			          rows[r].why);
		wasd_holdout_done(&a);
		wasd_holdout_done(&b);
		wasd_holdout_done(&other);
		wasd_free(seen);
		wasd_dataset_close(d);
	}
}

/* data.limit: which of the training images a run uses, before some of these are held out. */
static void limited_images(void)
{
	static const struct {
		int images[4], classes;
		double limit, fraction;
		int train[4], val[4];
		const char *why;
	} rows[] = {
		{{20, 40, 10, 30}, 4, 50, 0, {10, 20, 5, 15}, {0}, "half of every class"},
		{{20, 40, 10, 30}, 4, 0.5, 0, {10, 20, 5, 15}, {0}, "the same as a share"},
		{{20, 40, 10, 30}, 4, 0.5, 0.2, {8, 16, 4, 12}, {2, 4, 1, 3}, "a fifth of what the limit leaves is held out"},
		{{14, 17, 19}, 3, 5, 0, {1, 2, 2}, {0}, "parts 1.4 1.7 1.9: the largest remainders are rounded up"},
		{{3, 5}, 2, 8, 0, {3, 5}, {0}, "as many as there are"},
		{{3, 5}, 2, 1e9, 0.25, {2, 4}, {1, 1}, "more than there are"},
		{{3, 5}, 2, 7, 0, {3, 4}, {0}, "one less: parts 2.6 and 4.4"},
		{{30, 60}, 2, 1, 0, {0, 1}, {0}, "one image, not everything"},
		{{30, 60}, 2, 1e-6, 0, {0, 1}, {0}, "a share has one at least"},
		{{90, 2, 2}, 3, 10, 0, {10, 0, 0}, {0}, "small classes are left without"},
	};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		struct wasd_dataset *d = set_of(rows[r].images, rows[r].classes);
		struct wasd_holdout a = {0}, b = {0}, other = {0};
		struct wasd_err err = {0};
		int train[4] = {0}, val[4] = {0};
		CHECK_MSG(!wasd_holdout_make(d, rows[r].limit, rows[r].fraction, 5, true, &a, &err), "%s: %s", rows[r].why,
		          err.msg);
		CHECK(!wasd_holdout_make(d, rows[r].limit, rows[r].fraction, 5, true, &b, &err) &&
		      !wasd_holdout_make(d, rows[r].limit, rows[r].fraction, 6, true, &other, &err));
		for (size_t i = 0; i < a.n_train; i++) {
			train[wasd_dataset_label(d, WASD_TRAIN, a.train[i])]++;
			CHECK(!i || a.train[i] > a.train[i - 1]);
			for (size_t k = 0; k < a.n_val; k++)
				CHECK(a.train[i] != a.val[k]);
		}
		for (size_t i = 0; i < a.n_val; i++) {
			val[wasd_dataset_label(d, WASD_TRAIN, a.val[i])]++;
			CHECK(!i || a.val[i] > a.val[i - 1]);
		}
		for (int c = 0; c < rows[r].classes; c++)
			CHECK_MSG(train[c] == rows[r].train[c] && val[c] == rows[r].val[c], "%s: class %d has %d and %d",
			          rows[r].why, c, train[c], val[c]);
		CHECK(a.n_train == b.n_train && !memcmp(a.train, b.train, a.n_train * sizeof *a.train));
		if (a.n_train >= 40)
			CHECK_MSG(memcmp(a.train, other.train, a.n_train * sizeof *a.train), "%s: another seed chooses the same",
			          rows[r].why);
		wasd_holdout_done(&a);
		wasd_holdout_done(&b);
		wasd_holdout_done(&other);
		wasd_dataset_close(d);
	}
}

static void limit_refused(void)
{
	static const double bad[] = {-1, -0.5, 1.5, NAN};
	struct wasd_dataset *d = set_of((int[]){3, 3}, 2);
	struct wasd_holdout h = {0};
	struct wasd_err err = {0};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_INT(wasd_holdout_make(d, bad[i], 0, 1, true, &h, &err), WASD_EINVAL);
	CHECK_INT(wasd_holdout_make(d, 1, 0.1, 1, true, &h, &err), WASD_EINVAL); /* nothing is left to hold out */
	uint64_t n = 0;
	enum wasd_status s = WASD_ENOMEM;
	while (s == WASD_ENOMEM && ++n < 100) {
		wasd_mem_fail_at(n);
		s = wasd_holdout_make(d, 4, 0.5, 1, true, &h, &err);
		wasd_mem_fail_at(0);
	}
	CHECK_MSG(!s && n > 8, "%s after %d allocations", wasd_status_name(s), (int)n);
	wasd_holdout_done(&h);
	wasd_dataset_close(d);
}

static void validation_refused(void)
{
	static const double bad[] = {-0.1, 0.51, 2, NAN};
	struct wasd_dataset *d = set_of((int[]){3, 3}, 2);
	struct wasd_holdout h = {0};
	struct wasd_err err = {0};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_INT(wasd_holdout_make(d, 0, bad[i], 1, true, &h, &err), WASD_EINVAL);
	uint64_t n = 0;
	enum wasd_status s = WASD_ENOMEM;
	while (s == WASD_ENOMEM && ++n < 100) {
		wasd_mem_fail_at(n);
		s = wasd_holdout_make(d, 0, 0.5, 1, true, &h, &err);
		wasd_mem_fail_at(0);
	}
	CHECK_MSG(!s && n > 5, "%s after %d allocations", wasd_status_name(s), (int)n);
	wasd_holdout_done(&h);
	wasd_dataset_close(d);
	d = set_of((int[]){0, 1}, 2);
	CHECK_INT(wasd_holdout_make(d, 0, 0.1, 1, true, &h, &err), WASD_EINVAL);
	CHECK(!wasd_holdout_make(d, 0, 0, 1, true, &h, &err));
	CHECK_INT(h.n_train, 1);
	wasd_holdout_done(&h);
	wasd_dataset_close(d);
}

int main(void)
{
	check_temp(dir, sizeof dir, "wasd-data");
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/a.wds", dir);
	TEST_RUN(round_trip);
	TEST_RUN(how_pictures_were_made);
	TEST_RUN(digest_is_of_content);
	TEST_RUN(writer_refuses);
	TEST_RUN(writer_without_memory);
	TEST_RUN(open_without_memory);
	TEST_RUN(damaged);
	TEST_RUN(validation_images);
	TEST_RUN(limited_images);
	TEST_RUN(limit_refused);
	TEST_RUN(validation_refused);
	wasd_remove_tree(dir, NULL);
	TEST_END();
}
