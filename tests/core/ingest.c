/* Ingest of good uploads: every format, every packing; equal content gives an equal dataset; cancellation; no memory;
 * random damage. */
#include "core/data_samples.h"
#include "data/image.h"

#include <dirent.h>

static struct wasd_dataset *take(struct upload *u, struct wasd_ingest_info *info)
{
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	const char *out = sample_path("out.wds");
	enum wasd_status s = wasd_ingest(u->f, u->n, out, &u->o, info, &err);
	CHECK_MSG(!s, "%s: %s: %s", wasd_status_name(s), err.pointer, err.msg);
	if (!s)
		CHECK(!wasd_dataset_open(out, &d, NULL));
	if (d)
		CHECK_STR(wasd_dataset_digest(d), info->digest);
	CHECK_INT(files_in(samples_dir), u->n + !s);
	for (int i = 0; i < u->n; i++)
		unlink(u->path[i]);
	unlink(out);
	*u = (struct upload){0};
	return d;
}

/* ---- folders ------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	int seed;
} pictures[] = {
	/* sorted as the dataset is: split, class, name */
	{"train/ant/0.png", 1}, {"train/ant/1.png", 2}, {"train/ant-eater/x.png", 3}, {"train/bee/7.PNG", 4},
	{"test/ant/a.png", 5},  {"test/bee/b.png", 6},  {"test/bee/c.png", 7},
};
enum { N_PICTURES = 7 };

/* how: bit 0 backwards, bit 1 a leading directory, bit 2 with junk to be ignored, bit 3 names begin with ./ */
static void pack_folder(struct upload *u, enum pack pack, int how, int c)
{
	struct packer p = pack_open(upload_add(u, "pictures"), pack);
	const char *lead = how & 2 ? "my set/" : how & 8 ? "./" : "";
	char name[128];
	if (how & 8)
		pack_entry(p, "./", AE_IFDIR, NULL, NULL, 0);
	if (how & 4) {
		pack_entry(p, "train/", AE_IFDIR, NULL, NULL, 0);
		pack_file(p, "__MACOSX/train/ant/._0.png", "x", 1);
		pack_file(p, "train/.DS_Store", "x", 1);
		pack_file(p, "README.md", "hello", 5);
		pack_file(p, "train/ant/Thumbs.db", "x", 1);
	}
	for (int k = 0; k < N_PICTURES; k++) {
		int i = how & 1 ? N_PICTURES - 1 - k : k;
		blob b = {0};
		make_png(&b, c, 6, 9, pictures[i].seed);
		snprintf(name, sizeof name, "%s%s", lead, pictures[i].name);
		pack_blob(p, name, &b);
	}
	pack_close(p);
}

static void check_folder(const struct wasd_dataset *d, int c)
{
	static const int label[] = {0, 0, 1, 2, 0, 2, 2};
	struct wasd_shape s = wasd_dataset_shape(d);
	CHECK(s.c == c && s.h == 6 && s.w == 9);
	CHECK_INT(wasd_dataset_classes(d), 3);
	CHECK_STR(wasd_dataset_class(d, 0), "ant");
	CHECK_STR(wasd_dataset_class(d, 1), "ant-eater");
	CHECK_STR(wasd_dataset_class(d, 2), "bee");
	CHECK(wasd_dataset_count(d, WASD_TRAIN) == 4 && wasd_dataset_count(d, WASD_TEST) == 3);
	for (int i = 0; i < N_PICTURES; i++) {
		enum wasd_split split = i < 4 ? WASD_TRAIN : WASD_TEST;
		size_t at = (size_t)(i < 4 ? i : i - 4);
		uint8_t want[6 * 9 * 3];
		sample_pixels(want, c, 6, 9, pictures[i].seed);
		const uint8_t *got = wasd_dataset_image(d, split, at);
		int wrong = 0;
		for (int k = 0; k < c; k++)
			for (int j = 0; j < 54; j++)
				wrong += got[k * 54 + j] != want[j * c + k];
		CHECK_INT(wrong, 0);
		CHECK_INT(wasd_dataset_label(d, split, at), label[i]);
	}
}

static void folders(void)
{
	char digest[2][WASD_SHA256_HEX] = {"", ""};
	for (int grey = 0; grey < 2; grey++)
		for (int pack = TAR; pack <= ZIP; pack++)
			for (int how = 0; how < 16; how += how < 8 ? 1 : 3) {
				if ((how & 10) == 10 || (how & 6) == 6)
					continue;
				struct upload u = {0};
				struct wasd_ingest_info info = {0};
				pack_folder(&u, (enum pack)pack, how, grey ? 1 : 3);
				struct wasd_dataset *d = take(&u, &info);
				if (!d)
					continue;
				check_folder(d, grey ? 1 : 3);
				CHECK_STR(info.format, "images");
				if (!digest[grey][0])
					strcpy(digest[grey], info.digest);
				CHECK_STR(info.digest, digest[grey]);
				wasd_dataset_close(d);
			}
}

/* Grey and colour, PNG and JPEG in one set: three channels, in any order of the files; resized to one size. */
static void mixed(void)
{
	char digest[WASD_SHA256_HEX] = "";
	for (int backwards = 0; backwards < 2; backwards++) {
		struct upload u = {.o = {.size = 8}};
		struct wasd_ingest_info info;
		struct packer p = pack_open(upload_add(&u, ""), ZIP);
		for (int k = 0; k < 4; k++) {
			static const char *const names[] = {"train/a/0.png", "train/b/1.jpg", "test/a/0.JPEG", "test/b/1.png"};
			int i = backwards ? 3 - k : k;
			blob b = {0};
			if (i == 1 || i == 2)
				make_jpeg(&b, i == 1 ? 3 : 1, 8 + i, 12, i);
			else
				make_png(&b, 1, 8 + i, 8, i);
			pack_blob(p, names[i], &b);
		}
		pack_close(p);
		struct wasd_dataset *d = take(&u, &info);
		if (!d)
			return;
		CHECK(info.shape.c == 3 && info.shape.h == 8 && info.shape.w == 8 && info.n_train == 2 && info.n_test == 2);
		if (backwards)
			CHECK_STR(info.digest, digest);
		strcpy(digest, info.digest);
		/* The first picture had the right size and was grey: three equal planes of it. */
		uint8_t want[64];
		sample_pixels(want, 1, 8, 8, 0);
		for (int c = 0; c < 3; c++)
			CHECK(!memcmp(wasd_dataset_image(d, WASD_TRAIN, 0) + c * 64, want, 64));
		wasd_dataset_close(d);
	}
}

/* ---- CIFAR -------------------------------------------------------------------------------- */

static void cifar10(void)
{
	char digest[WASD_SHA256_HEX] = "";
	for (int how = 0; how < 3; how++) {
		struct upload u = {0};
		struct wasd_ingest_info info;
		struct packer p = pack_open(upload_add(&u, "cifar-10-binary.tar.gz"), how == 1 ? ZIP : TAR_GZ);
		pack_entry(p, "cifar-10-batches-bin/", AE_IFDIR, NULL, NULL, 0);
		for (int k = 0; k < 5; k++) {
			static const char *const names[2][5] = {{"data_batch_1.bin", "data_batch_2.bin", "test_batch.bin",
			                                         "batches.meta.txt", "readme.html"},
			                                        {"batches.meta.txt", "test_batch.bin", "data_batch_2.bin",
			                                         "readme.html", "data_batch_1.bin"}};
			const char *n = names[how > 0][k];
			char full[64];
			blob b = {0};
			if (strstr(n, "batch_1"))
				cifar_records(&b, 7, 1, 10, 0);
			else if (strstr(n, "batch_2"))
				cifar_records(&b, 70, 1, 10, 7);
			else if (strstr(n, "test"))
				cifar_records(&b, 3, 1, 10, 200);
			else
				wasd_buf_puts(&b, strstr(n, "meta") ? CIFAR10_NAMES : "<html>");
			snprintf(full, sizeof full, "%s%s", how == 2 ? "" : "cifar-10-batches-bin/", n);
			pack_blob(p, full, &b);
		}
		pack_close(p);
		struct wasd_dataset *d = take(&u, &info);
		if (!d)
			continue;
		CHECK_STR(info.format, "cifar10");
		CHECK(info.n_train == 77 && info.n_test == 3 && info.shape.c == 3 && info.shape.h == 32 && info.shape.w == 32);
		CHECK_STR(wasd_dataset_class(d, 1), "automobile");
		CHECK_STR(wasd_dataset_class(d, 9), "truck");
		for (size_t i = 0; i < 77; i++) {
			CHECK_INT(wasd_dataset_label(d, WASD_TRAIN, i), i % 10);
			int v = i < 7 ? (int)i * 3 : 7 + ((int)i - 7) * 3;
			CHECK(wasd_dataset_image(d, WASD_TRAIN, i)[0] == v && wasd_dataset_image(d, WASD_TRAIN, i)[3071] == v + 2);
		}
		if (how)
			CHECK_STR(info.digest, digest);
		strcpy(digest, info.digest);
		wasd_dataset_close(d);
	}
}

static void hundred_names(blob *b)
{
	for (int i = 0; i < 100; i++)
		wasd_buf_printf(b, "class_%d\r\n", i);
}

static void cifar100(void)
{
	struct upload u = {0};
	struct wasd_ingest_info info;
	struct packer p = pack_open(upload_add(&u, "c100"), TAR_GZ);
	blob b = {0};
	wasd_buf_puts(&b, "a\nb\n");
	pack_blob(p, "cifar-100-binary/coarse_label_names.txt", &b);
	cifar_records(&b, 100, 2, 100, 50);
	pack_blob(p, "cifar-100-binary/train.bin", &b);
	cifar_records(&b, 2, 2, 100, 98);
	pack_blob(p, "cifar-100-binary/test.bin", &b);
	hundred_names(&b);
	pack_blob(p, "cifar-100-binary/fine_label_names.txt", &b);
	pack_close(p);
	struct wasd_dataset *d = take(&u, &info);
	if (!d)
		return;
	CHECK_STR(info.format, "cifar100");
	CHECK_INT(info.classes, 100);
	CHECK_INT(wasd_dataset_label(d, WASD_TRAIN, 3), 53);
	CHECK_INT(wasd_dataset_label(d, WASD_TEST, 1), 99);
	CHECK_STR(wasd_dataset_class(d, 99), "class_99");
	CHECK_INT(wasd_dataset_image(d, WASD_TEST, 1)[1024], 98 + 3 + 1);
	wasd_dataset_close(d);
}

/* ---- IDX ---------------------------------------------------------------------------------- */

/* 0 four plain files, 1 four gzipped, 2 tar, 3 tar.gz, 4 zip, 5 tar of gzipped files, 6 plain and gzipped mixed. */
static void idx(void)
{
	char digest[WASD_SHA256_HEX] = "";
	for (int how = 0; how < 7; how++) {
		struct upload u = {0};
		struct wasd_ingest_info info;
		blob f[2][2] = {0};
		char name[64];
		struct packer p = {0};
		idx_files(f, 23, 12);
		if (how >= 2 && how < 6)
			p = pack_open(upload_add(&u, "mnist"), how == 3 ? TAR_GZ : how == 4 ? ZIP : TAR);
		for (int i = 0; i < 4; i++) {
			int k = how % 2 ? 3 - i : i;
			blob *b = &f[k / 2][k % 2];
			bool gz = how == 1 || how == 5 || (how == 6 && k % 2);
			snprintf(name, sizeof name, "%s%s", idx_names[k / 2][k % 2], gz ? ".gz" : "");
			if (gz)
				gzip_blob(b);
			if (p.a)
				pack_blob(p, name, b);
			else
				upload_blob(&u, idx_names[k / 2][k % 2], b);
		}
		if (p.a)
			pack_close(p);
		struct wasd_dataset *d = take(&u, &info);
		idx_done(f);
		if (!d)
			continue;
		CHECK_STR(info.format, "idx");
		CHECK(info.n_train == 23 && info.n_test == 12 && info.shape.c == 1 && info.shape.h == 5 && info.shape.w == 4 &&
		      info.classes == 10);
		CHECK_STR(wasd_dataset_class(d, 3), "3");
		CHECK_INT(wasd_dataset_label(d, WASD_TEST, 11), 1);
		CHECK_INT(wasd_dataset_image(d, WASD_TEST, 11)[19], 100 + 33 + 19);
		if (how)
			CHECK_STR(info.digest, digest);
		strcpy(digest, info.digest);
		wasd_dataset_close(d);
	}
}

/* ---- size, fit and what is told ------------------------------------------------------------ */

/* A size applies to every format, with the same resampling as for pictures. */
static void sizes(void)
{
	for (int cifar = 0; cifar < 2; cifar++)
		for (int fit = WASD_SQUEEZE; fit <= WASD_CROPS; fit++) {
			struct wasd_prepare how = wasd_prepare_default;
			struct upload u = {.o = {.size = 12, .prepare = &how}};
			struct wasd_ingest_info info;
			blob f[2][2] = {0};
			how.fit = (enum wasd_fit)fit;
			if (cifar) {
				struct packer p = pack_open(upload_add(&u, ""), TAR);
				cifar_records(&f[0][0], 10, 1, 10, 0);
				pack_blob(p, "data_batch_1.bin", &f[0][0]);
				cifar_records(&f[0][0], 3, 1, 10, 200);
				pack_blob(p, "test_batch.bin", &f[0][0]);
				wasd_buf_puts(&f[0][0], CIFAR10_NAMES);
				pack_blob(p, "batches.meta.txt", &f[0][0]);
				pack_close(p);
			} else {
				idx_files(f, 23, 12);
				for (int i = 0; i < 4; i++)
					upload_blob(&u, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
			}
			struct wasd_dataset *d = take(&u, &info);
			if (!d)
				continue;
			uint8_t src[3 * 32 * 32], want[3 * 12 * 12];
			int c = cifar ? 3 : 1, h = cifar ? 32 : 5, w = cifar ? 32 : 4;
			for (int k = 0; k < 20; k++) /* train image 1 */
				src[k] = (uint8_t)(3 + k);
			for (int k = 0; k < 3 && cifar; k++)
				memset(src + 1024 * k, 3 + k, 1024);
			CHECK(info.shape.c == c && info.shape.h == 12 && info.shape.w == 12);
			CHECK(!image_fit(src, c, h, w, how.fit, 12, 12, want, NULL));
			CHECK(!memcmp(wasd_dataset_image(d, WASD_TRAIN, 1), want, (size_t)(c * 12 * 12)));
			CHECK_INT(wasd_dataset_prepare(d)->fit, how.fit);
			wasd_dataset_close(d);
		}
}

static const struct wasd_remark *remark(const struct wasd_ingest_report *r, const char *code)
{
	for (int i = 0; i < r->remarks; i++)
		if (!strcmp(r->remark[i].code, code))
			return &r->remark[i];
	return NULL;
}

/* Grey, then colour: remarks counted before the replay restarted are not counted twice. Black on transparent, over
 * black: nothing to see. */
static void what_was_done_is_told(void)
{
	static struct wasd_ingest_report told;
	static const struct {
		const char *background;
		int clear, flat;
	} rows[] = {{"\xff\xff\xff", 4, 0}, {"\0\0\0", 4, 1}};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		struct wasd_prepare how = wasd_prepare_default;
		struct upload u = {.o = {.prepare = &how, .report = &told}};
		struct wasd_ingest_info info;
		struct packer p = pack_open(upload_add(&u, ""), TAR);
		memcpy(how.background, rows[r].background, 3);
		for (int i = 0; i < 4; i++) {
			static const char *const names[] = {"train/a/0.png", "train/b/1.png", "test/a/0.png", "test/b/1.png"};
			int c = i ? 4 : 2; /* a grey one first */
			uint8_t *px = calloc(64, (size_t)c);
			blob b = {0};
			for (int k = 0; k < 20; k++)
				px[k * c + c - 1] = 255;
			make_png_raw(&b, c == 4 ? SPNG_COLOR_TYPE_TRUECOLOR_ALPHA : SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, 0, 8, 8, px,
			             (size_t)(64 * c), NULL);
			free(px);
			pack_blob(p, names[i], &b);
		}
		pack_close(p);
		struct wasd_dataset *d = take(&u, &info);
		const struct wasd_remark *clear = remark(&told, "alpha_flattened"), *flat = remark(&told, "std_zero");
		CHECK_INT(clear ? (int)clear->count : 0, rows[r].clear);
		CHECK_INT(flat ? (int)flat->count : 0, rows[r].flat);
		if (clear)
			CHECK_STR(clear->example[0], "train/a/0.png");
		wasd_dataset_close(d);
	}
}

/* ---- the real thing ----------------------------------------------------------------------------- */

/* The 60,000 CIFAR-10 pictures as JPEG files. Mean and standard deviation are those published for the pixels, up to
 * JPEG losses. */
static void real_cifar10(void)
{
	const char *shared = getenv("WASD_SHARED");
	struct wasd_ingest_info info;
	struct wasd_err err = {0};
	struct wasd_dataset *d = NULL;
	char path[1024];
	snprintf(path, sizeof path, "%s/data/cifar10-images.tar.gz", shared ? shared : "");
	if (!shared || access(path, R_OK))
		TEST_SKIP("no cifar10-images.tar.gz in WASD_SHARED");
	int64_t t0 = wasd_mono_us();
	CHECK_MSG(!wasd_ingest(&(struct wasd_ingest_file){path, "cifar10-images.tar.gz"}, 1, sample_path("out.wds"), NULL,
	                       &info, &err),
	          "%s", err.msg);
	printf("# 60,000 JPEGs in %.1f s\n", (double)(wasd_mono_us() - t0) / 1e6);
	if (!wasd_dataset_open(sample_path("out.wds"), &d, NULL)) {
		static const double mean[3] = {0.4914, 0.4822, 0.4465}, std[3] = {0.2470, 0.2435, 0.2616};
		double m[3], s[3];
		wasd_dataset_moments(d, m, s);
		CHECK(info.n_train == 50000 && info.n_test == 10000 && info.classes == 10 && info.shape.c == 3 &&
		      info.shape.h == 32 && info.shape.w == 32);
		CHECK_STR(wasd_dataset_class(d, 6), "frog");
		for (int c = 0; c < 3; c++) {
			CHECK_NEAR(m[c], mean[c], 0.002);
			CHECK_NEAR(s[c], std[c], 0.005);
		}
	}
	CHECK(d);
	wasd_dataset_close(d);
	unlink(sample_path("out.wds"));
}

/* ---- the ways it can end ---------------------------------------------------------------------- */

static int countdown;
static bool stop(void *ctx)
{
	(void)ctx;
	return countdown-- <= 0;
}

static void cancel(void)
{
	struct upload u = {.o = {.cancelled = stop}};
	int n = 0;
	pack_folder(&u, TAR_GZ, 0, 3);
	for (;; n++) {
		struct wasd_err err;
		countdown = n;
		enum wasd_status s = wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err);
		if (!s)
			break;
		CHECK_INT(s, WASD_ECANCELLED);
		CHECK_INT(files_in(samples_dir), 1);
	}
	CHECK_MSG(n > 3 * N_PICTURES, "%d places to cancel", n);
	unlink(sample_path("out.wds"));
	unlink(u.path[0]);
}

static void without_memory(void)
{
	for (int kind = 0; kind < 2; kind++) {
		struct upload u = {0};
		int failures = 0;
		if (kind == 0)
			pack_folder(&u, TAR_GZ, 0, 3);
		else {
			blob f[2][2] = {0};
			idx_files(f, 10, 1);
			for (int i = 0; i < 4; i++) {
				gzip_blob(&f[i / 2][i % 2]);
				upload_blob(&u, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
			}
		}
		for (uint64_t n = 1;; n++) {
			struct wasd_mem_stats before = wasd_mem_stats(), after;
			wasd_mem_fail_at(n);
			enum wasd_status s = wasd_ingest(u.f, u.n, sample_path("out.wds"), NULL, NULL, NULL);
			wasd_mem_fail_at(0);
			after = wasd_mem_stats();
			CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
			if (!s)
				break;
			failures++;
			CHECK_MSG(s == WASD_ENOMEM, "allocation %llu: %s", (unsigned long long)n, wasd_status_name(s));
			CHECK_INT(files_in(samples_dir), u.n);
		}
		CHECK_MSG(failures > 20, "%d allocations failed", failures);
		unlink(sample_path("out.wds"));
		for (int i = 0; i < u.n; i++)
			unlink(u.path[i]);
	}
}

/* A good upload truncated anywhere is rejected (a few bytes of padding at the very end may be missing). With flipped
 * bits it is rejected or, where nothing protects the bytes or they do not matter, accepted. Nothing is left behind and
 * nothing crashes. */
static void damage(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 4, "damage", 0, 0);
	static const struct {
		enum pack pack;
		size_t slack;
		bool checksummed;
	} rows[] = {
		{TAR, 1024, false},
		{TAR_GZ, 0, true},
		{TAR_XZ, 0, true},
		{ZIP, 0, false},
	};
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		struct upload u = {0};
		char *good;
		size_t n;
		int changed = 0;
		struct wasd_ingest_info whole = {0};
		pack_folder(&u, rows[k].pack, 0, 3);
		CHECK(!wasd_file_read(u.path[0], 1 << 24, &good, &n, NULL));
		CHECK(!wasd_ingest(u.f, u.n, sample_path("out.wds"), NULL, &whole, NULL));
		unlink(sample_path("out.wds"));
		for (size_t cut = 0; cut + rows[k].slack < n; cut += 1 + wasd_rng_below(&r, (uint32_t)n / 60)) {
			struct wasd_err err = {0};
			put_file(u.path[0], good, cut);
			enum wasd_status s = wasd_ingest(u.f, u.n, sample_path("out.wds"), NULL, NULL, &err);
			CHECK_MSG(s == WASD_ECORRUPT || s == WASD_EINVAL, "row %zu cut to %zu of %zu: %s %s", k, cut, n,
			          wasd_status_name(s), err.msg);
			CHECK_MSG(err.pointer[0] && err.msg[0], "row %zu cut to %zu of %zu: '%s' '%s'", k, cut, n, err.pointer,
			          err.msg);
			CHECK_INT(files_in(samples_dir), 1);
		}
		for (int turn = 0; turn < 300; turn++) {
			size_t at = wasd_rng_below(&r, (uint32_t)n);
			char old = good[at];
			good[at] = (char)(old ^ (1 << wasd_rng_below(&r, 8)));
			put_file(u.path[0], good, n);
			good[at] = old;
			struct wasd_ingest_info info;
			bool ok = !wasd_ingest(u.f, u.n, sample_path("out.wds"), NULL, &info, NULL);
			changed += ok && strcmp(info.digest, whole.digest);
			if (ok)
				unlink(sample_path("out.wds"));
			CHECK_INT(files_in(samples_dir), 1);
		}
		CHECK_MSG(!rows[k].checksummed || !changed, "row %zu: %d damaged uploads were taken for something else", k,
		          changed);
		unlink(u.path[0]);
		wasd_free(good);
	}
}

/* The same for IDX, whose files have no checksum, so only sizes are checked. */
static void damage_idx(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 5, "damage", 0, 0);
	for (int turn = 0; turn < 400; turn++) {
		struct upload u = {0};
		blob f[2][2] = {0};
		idx_files(f, 12, 3);
		int k = (int)wasd_rng_below(&r, 4);
		blob *b = &f[k / 2][k % 2];
		size_t at = wasd_rng_below(&r, turn % 2 ? (uint32_t)b->len : 16);
		bool cut = turn % 4 == 3;
		if (cut)
			b->len = at;
		else
			b->data[at % b->len] ^= (char)(1 << wasd_rng_below(&r, 8));
		for (int i = 0; i < 4; i++)
			upload_blob(&u, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
		enum wasd_status s = wasd_ingest(u.f, u.n, sample_path("out.wds"), NULL, NULL, NULL);
		CHECK(!cut || s);
		unlink(sample_path("out.wds"));
		CHECK_INT(files_in(samples_dir), 4);
		for (int i = 0; i < u.n; i++)
			unlink(u.path[i]);
	}
}

int main(void)
{
	samples_begin();
	TEST_RUN(folders);
	TEST_RUN(mixed);
	TEST_RUN(cifar10);
	TEST_RUN(cifar100);
	TEST_RUN(idx);
	TEST_RUN(sizes);
	TEST_RUN(what_was_done_is_told);
	TEST_RUN(real_cifar10);
	TEST_RUN(cancel);
	TEST_RUN(without_memory);
	TEST_RUN(damage);
	TEST_RUN(damage_idx);
	samples_end();
	TEST_END();
}
