/* Archives as found in practice: how folders, tables and names are understood, what is left out and reported, and that
 * the order inside does not matter. */
#include "core/data_samples.h"

static struct wasd_ingest_report told;

/* The content of a row's archive besides pictures: a name that begins with '=' is a text whose content follows the
 * second '='. */
static const struct row {
	const char *name;
	const char *files[14];
	const char *link; /* "new=old": a hard link at the end, in a tar */
	int train, test, val;
	const char *classes; /* joined with a comma */
	const char *remark;
	int count;
} rows[] = {
	{"as ever", {"train/a/1.png", "train/b/1.png", "test/a/1.png"}, NULL, 2, 1, 0, "a,b", NULL, 0},
	{"val beside test",
     {"train/a/1.png", "train/a/2.png", "val/a/1.png", "test/a/1.png", "train/b/9.png"},
     NULL,
     3,
     1,
     1,
     "a,b",
     NULL,
     0},
	{"validation beside testing",
     {"training/a/1.png", "validation/a/2.png", "testing/a/1.png"},
     NULL,
     1,
     1,
     1,
     "a",
     NULL,
     0},
	{"val in place of test", {"train/a/1.png", "valid/a/1.png", "valid/a/2.png"}, NULL, 1, 2, 0, "a", "val_as_test", 2},
	{"capitals", {"Train/a/1.png", "Test/a/1.png"}, NULL, 1, 1, 0, "a", NULL, 0},
	{"two folders around", {"my set/v2/train/a/1.png", "my set/v2/test/a/1.png"}, NULL, 1, 1, 0, "a", NULL, 0},
	{"a class called train",
     {"train/train/1.png", "train/car/1.png", "test/train/1.png"},
     NULL,
     2,
     1,
     0,
     "car,train",
     NULL,
     0},
	{"classes alone",
     {"a/1.png", "a/2.png", "a/3.png", "a/4.png", "a/5.png", "b/1.png", "b/2.png", "b/3.png", "b/4.png", "b/5.png"},
     NULL,
     8,
     2,
     0,
     "a,b",
     "split_by_seed",
     2},
	{"classes alone in a folder",
     {"pets/a/1.png", "pets/a/2.png", "pets/b/1.png", "pets/b/2.png"},
     NULL,
     2,
     2,
     0,
     "a,b",
     "split_by_seed",
     2},
	{"a class of one picture", {"a/1.png", "b/1.png", "b/2.png"}, NULL, 2, 1, 0, "a,b", "split_by_seed", 1},
	{"labels.csv",
     {"1.png", "2.png", "3.png", "4.png", "=labels.csv=filename,label\r\n1.png,x\r\n2.png,x\r\n3.png,y\r\n4.png,y\r\n"},
     NULL,
     2,
     2,
     0,
     "x,y",
     "split_by_seed",
     2},
	{"ids and breeds",
     {"train/01.png", "train/02.png", "test/77.png", "=labels.csv=id;breed\n02;\"great dane\"\n01;\"great dane\""},
     NULL,
     1,
     1,
     0,
     "great dane",
     "unlabelled",
     1},
	{"a column for the split",
     {"i/1.png", "i/2.png", "i/3.png",
      "=t.csv=Image Path,Class,Split\ni/1.png,x,train\ni/2.png,x,val\n.\\i\\3.png,x,test\n"},
     NULL,
     1,
     1,
     1,
     "x",
     NULL,
     0},
	{"no header", {"1.png", "2.png", "=labels.csv=1.png,x\n2.png,x\n"}, NULL, 1, 1, 0, "x", "split_by_seed", 1},
	{"quoted names",
     {"a, b.png", "c.png",
      "=labels.csv=\xef\xbb\xbf"
      "file_name\tlabel\n\"a, b.png\"\t\"say \"\"x\"\"\"\nc\tsay \"x\"\n"},
     NULL,
     1,
     1,
     0,
     "say \"x\"",
     "split_by_seed",
     1},
	{"texts beside",
     {"train/a/1.png", "test/a/1.png", "=classes.txt=a", "=data.yaml=nc: 1", "=train/a/notes.json={}"},
     NULL,
     1,
     1,
     0,
     "a",
     "ignored",
     3},
	{"papers and licences",
     {"Set/train/a/1.png", "Set/test/a/1.png", "=Set/papers/set.pdf=%PDF-1.4", "=MSR-LA.docx=PK", "=licence.rtf=x"},
     NULL,
     1,
     1,
     0,
     "a",
     "ignored",
     3},
	{"a form beside the table",
     {"i/1.png", "i/2.png", "=sample_submission.csv=id,label\n1,z\n2,z\n", "=train_labels.csv=id,label\n1,x\n2,x\n"},
     NULL,
     1,
     1,
     0,
     "x",
     "ignored",
     1},
	{"another table beside it",
     {"i/1.png", "i/2.png", "=a.csv=key,value\n1,2\n", "=t.csv=id,ClassId\n1,x\n2,x\n"},
     NULL,
     1,
     1,
     0,
     "x",
     "ignored",
     1},
	{"classes called train and test",
     {"train/1.png", "train/2.png", "car/1.png", "car/2.png"},
     NULL,
     2,
     2,
     0,
     "car,train",
     "split_by_seed",
     2},
	{"file managers",
     {"train/a/1.png", "test/a/1.png", "=train/a/@eaDir/1.png/SYNOPHOTO_THUMB.png=x",
      "=train/Icon\r=", "=Icon\r=", "=train/a/Thumbs.db=x", "=.DS_Store=x", "=__MACOSX/train/a/._1.png=x"},
     NULL,
     1,
     1,
     0,
     "a",
     "ignored",
     6},
	{"a hard link",
     {"train/a/1.png", "test/a/1.png", "train/b/1.png"},
     "test/b/2.png=train/b/1.png",
     2,
     2,
     0,
     "a,b",
     NULL,
     0},
	{"-idx in names", {"train/a/0-idx1.png", "train/a/0.idx3.png", "test/a/1-idx1.png"}, NULL, 2, 1, 0, "a", NULL, 0},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

/* The picture with a given name does not depend on its place in the archive. */
static int seed_of(const char *name)
{
	int s = 0;
	for (; *name; name++)
		s = (s * 31 + *name) % 97;
	return s;
}

static void pack_row(struct packer p, const struct row *r, bool backwards)
{
	int n = 0;
	while (n < 14 && r->files[n])
		n++;
	for (int k = 0; k < n; k++) {
		const char *f = r->files[backwards ? n - 1 - k : k];
		blob b = {0};
		if (*f == '=') {
			char name[64];
			const char *text = strchr(f + 1, '=') + 1;
			snprintf(name, sizeof name, "%.*s", (int)(text - f - 2), f + 1);
			pack_file(p, name, text, strlen(text));
			continue;
		}
		make_png(&b, 3, 8, 8, seed_of(f));
		pack_blob(p, f, &b);
	}
	if (r->link) {
		char name[64];
		const char *old = strchr(r->link, '=') + 1;
		snprintf(name, sizeof name, "%.*s", (int)(old - r->link - 1), r->link);
		pack_entry(p, name, AE_IFREG, old, NULL, 0);
	}
	pack_close(p);
}

static const struct wasd_remark *remark(const char *code)
{
	for (int i = 0; i < told.remarks; i++)
		if (!strcmp(told.remark[i].code, code))
			return &told.remark[i];
	return NULL;
}

static struct wasd_dataset *take(struct upload *u, const char *what, struct wasd_ingest_info *info)
{
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	u->o.report = &told;
	enum wasd_status s = wasd_ingest(u->f, u->n, sample_path("out.wds"), &u->o, info, &err);
	CHECK_MSG(!s, "%s: %s: %s: %s", what, wasd_status_name(s), err.pointer, err.msg);
	if (!s)
		CHECK(!wasd_dataset_open(sample_path("out.wds"), &d, NULL));
	CHECK_MSG(files_in(samples_dir) == u->n + !s, "%s: files are left", what);
	for (int i = 0; i < u->n; i++)
		unlink(u->path[i]);
	unlink(sample_path("out.wds"));
	return d;
}

static void check_row(const struct row *r, const struct wasd_dataset *d, const struct wasd_ingest_info *info)
{
	char classes[256] = "";
	for (int i = 0; i < info->classes; i++)
		snprintf(classes + strlen(classes), sizeof classes - strlen(classes), "%s%s", i ? "," : "",
		         wasd_dataset_class(d, i));
	CHECK_MSG(!strcmp(classes, r->classes), "%s: classes %s", r->name, classes);
	CHECK_MSG((int)info->n_train == r->train + r->val && (int)info->n_test == r->test && (int)info->n_val == r->val &&
	              (int)wasd_dataset_val(d) == r->val,
	          "%s: %zu %zu %zu", r->name, info->n_train, info->n_test, info->n_val);
	const struct wasd_remark *m = r->remark ? remark(r->remark) : NULL;
	CHECK_MSG(!r->remark || (m && (int)m->count == r->count && m->examples > 0 && *m->message), "%s: %s %d", r->name,
	          r->remark, m ? (int)m->count : -1);
	CHECK_MSG(r->remark || !told.remarks, "%s: %s is told", r->name, told.remark[0].code);
}

static void layouts(void)
{
	for (int i = 0; i < N_ROWS; i++) {
		char digest[WASD_SHA256_HEX] = "";
		for (int how = 0; how < 4; how++) {
			struct upload u = {0};
			struct wasd_ingest_info info = {0};
			if (rows[i].link && how)
				continue;
			pack_row(pack_open(upload_add(&u, "set"), how & 2 ? ZIP : TAR), &rows[i], how & 1);
			struct wasd_dataset *d = take(&u, rows[i].name, &info);
			if (!d)
				continue;
			check_row(&rows[i], d, &info);
			CHECK_MSG(!*digest || !strcmp(digest, info.digest), "%s: the order or the packing matters", rows[i].name);
			strcpy(digest, info.digest);
			wasd_dataset_close(d);
		}
	}
}

/* The linked picture has the bytes of its target. */
static void hard_link_pixels(void)
{
	struct upload u = {0};
	struct wasd_ingest_info info;
	const struct row *r = rows;
	while (!r->link)
		r++;
	pack_row(pack_open(upload_add(&u, "set"), TAR_GZ), r, false);
	struct wasd_dataset *d = take(&u, r->name, &info);
	if (d)
		CHECK(!memcmp(wasd_dataset_image(d, WASD_TEST, 1), wasd_dataset_image(d, WASD_TRAIN, 1), 192) &&
		      memcmp(wasd_dataset_image(d, WASD_TEST, 1), wasd_dataset_image(d, WASD_TEST, 0), 192));
	wasd_dataset_close(d);
}

/* The set's own validation images are the hold-out; its mean covers the others. */
static void own_validation(void)
{
	struct upload u = {0};
	struct wasd_ingest_info info;
	struct wasd_holdout h = {0};
	double mean[3], std[3], sum = 0;
	pack_row(pack_open(upload_add(&u, "set"), TAR), &rows[1], false);
	struct wasd_dataset *d = take(&u, rows[1].name, &info);
	if (!d)
		return;
	CHECK(!wasd_holdout_own(d, 0, 1, true, &h, NULL) && h.n_train == 3 && h.n_val == 1 && h.train[2] == 2 &&
	      h.val[0] == 3);
	CHECK_INT(wasd_dataset_label(d, WASD_TRAIN, 3), 0);
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 64; k++)
			sum += wasd_dataset_image(d, WASD_TRAIN, (size_t)i)[k] / 255.0;
	wasd_dataset_moments(d, mean, std);
	CHECK_NEAR(mean[0], sum / 192, 1e-12);
	wasd_holdout_done(&h);
	wasd_dataset_close(d);
	u = (struct upload){0};
	pack_row(pack_open(upload_add(&u, "set"), TAR), &rows[0], false);
	if ((d = take(&u, rows[0].name, &info)))
		CHECK_INT(wasd_holdout_own(d, 0, 1, true, &h, NULL), WASD_EINVAL);
	wasd_dataset_close(d);
}

/* ---- the split by seed --------------------------------------------------------------------------------- */

static void split_options(void)
{
	char digest[3][WASD_SHA256_HEX];
	for (int k = 0; k < 3; k++) {
		struct upload u = {.o = {.test_fraction = 0.5, .split_seed = k == 2}};
		struct wasd_ingest_info info = {0};
		struct packer p = pack_open(upload_add(&u, "set"), ZIP);
		for (int i = 0; i < 20; i++) {
			char name[32];
			blob b = {0};
			snprintf(name, sizeof name, "%s/%d.png", i % 2 ? "cat" : "dog", i);
			make_png(&b, 1, 8, 8, i);
			pack_blob(p, name, &b);
		}
		pack_close(p);
		struct wasd_dataset *d = take(&u, "split", &info);
		CHECK(info.n_train == 10 && info.n_test == 10);
		strcpy(digest[k], info.digest);
		wasd_dataset_close(d);
	}
	CHECK_STR(digest[0], digest[1]);
	CHECK(strcmp(digest[0], digest[2]));
}

/* ---- pictures that cannot be read ---------------------------------------------------------------------- */

/* Fills *u, whose files name paths within it. */
static void with_bad(struct upload *u, int bad, bool only_bees)
{
	*u = (struct upload){0};
	struct packer p = pack_open(upload_add(u, "set"), ZIP);
	static const char *const good[] = {"train/ant/1.png", "train/bee/1.png", "test/ant/1.png", "test/bee/1.png"};
	for (int i = 0; i < 4; i++) {
		blob b = {0};
		make_png(&b, i == 2 ? 3 : 1, 8, 8, i);
		if (only_bees && i == 1)
			b.len /= 2;
		pack_blob(p, good[i], &b);
	}
	for (int i = 0; i < bad; i++) {
		char name[40];
		snprintf(name, sizeof name, "train/ant/bad%03d.png", i);
		pack_file(p, name, i % 2 ? "GIF89a.." : "", i % 2 ? 8 : 0);
	}
	pack_close(p);
}

static void bad_pictures(void)
{
	struct wasd_err err = {0};
	struct wasd_ingest_info info = {0};
	struct upload u;
	with_bad(&u, 120, false);
	u.o.report = &told;
	CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_ECORRUPT);
	CHECK_STR(err.pointer, "train/ant/bad000.png");
	CHECK_INT(told.culprits, 120);
	CHECK_STR(told.culprit[0].file, "train/ant/bad000.png");
	CHECK_STR(told.culprit[99].file, "train/ant/bad099.png");
	CHECK_MSG(strstr(told.culprit[99].detail, "GIF"), "%s", told.culprit[99].detail);
	CHECK_INT(files_in(samples_dir), 1);
	u.o.skip_bad = true;
	struct wasd_dataset *d = take(&u, "skipped", &info);
	CHECK(info.n_train == 2 && info.n_test == 2 && info.classes == 2 && info.shape.c == 3);
	const struct wasd_remark *m = remark("bad_skipped");
	CHECK(m && m->count == 120 && m->examples == 5 && told.culprits == 120);
	wasd_dataset_close(d);
	with_bad(&u, 3, true);
	u.o = (struct wasd_ingest_opts){.skip_bad = true, .report = &told};
	CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_EINVAL);
	CHECK_MSG(strstr(err.msg, "class bee has no training image left"), "%s", err.msg);
	CHECK_INT(files_in(samples_dir), 1);
	unlink(u.path[0]);
}

/* ---- other kinds of the same file ------------------------------------------------------------------------- */

/* IDX: plain, packed and in folders, read once; labels with other ranges; recognised by bytes, not by name. */
static void idx_sets(void)
{
	static const struct {
		const char *name;
		int low, classes;
		const char *first;
		bool twice, other;
	} cases[] = {
		{"ten digits", 0, 10, "0", false, false},          {"there twice", 0, 10, "0", true, false},
		{"seven classes", 0, 7, "0", false, false},        {"letters from 1", 1, 9, "1", false, false},
		{"two files that differ", 0, 10, "0", true, true},
	};
	for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
		struct upload u = {.o = {.report = &told}};
		struct wasd_ingest_info info = {0};
		blob f[2][2] = {0};
		idx_files(f, 30, 20);
		for (int s = 0; s < 2; s++)
			for (size_t k = 8; k < f[s][0].len; k++)
				f[s][0].data[k] = (char)(cases[c].low + (int)(k - 8) % cases[c].classes);
		struct packer p = pack_open(upload_add(&u, "m.tar"), TAR);
		pack_file(p, "notes.txt", "x", 1);
		pack_file(p, "sample.png", "x", 1);
		for (int i = 0; i < 4; i++) {
			blob copy = {0};
			char name[80];
			wasd_buf_append(&copy, f[i / 2][i % 2].data, f[i / 2][i % 2].len);
			if (cases[c].other)
				copy.data[copy.len - 1] ^= 1;
			gzip_blob(&copy);
			snprintf(name, sizeof name, "packed/%s.gz", idx_names[i / 2][i % 2]);
			if (cases[c].twice)
				pack_blob(p, name, &copy);
			wasd_buf_done(&copy);
			pack_blob(p, idx_names[i / 2][i % 2], &f[i / 2][i % 2]);
		}
		pack_close(p);
		if (cases[c].other) {
			struct wasd_err err;
			CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_EINVAL);
			CHECK_MSG(strstr(err.msg, "a second file of"), "%s", err.msg);
			unlink(u.path[0]);
			continue;
		}
		struct wasd_dataset *d = take(&u, cases[c].name, &info);
		if (!d)
			continue;
		CHECK_STR(info.format, "idx");
		CHECK_INT(info.classes, cases[c].classes);
		CHECK_STR(wasd_dataset_class(d, 0), cases[c].first);
		CHECK_INT(wasd_dataset_label(d, WASD_TRAIN, 1), 1);
		CHECK(remark("ignored") && remark("ignored")->count == 2);
		CHECK_MSG(!cases[c].twice || (remark("duplicates") && remark("duplicates")->count == 4), "%s", cases[c].name);
		wasd_dataset_close(d);
	}
}

/* A file among pictures whose name belongs to another format is itself rejected, not the pictures; the order does not
 * matter. */
static void strangers(void)
{
	static const struct {
		const char *name, *bytes;
		size_t n;
	} stray[] = {
		{"train.bin", "0123456789", 10},
		{"data_batch_1.bin", "x", 1},
		{"extra-idx1-ubyte", "\0\0\x08\x01\0\0\0\1\7", 9},
		{"test_batch.bin", "", 0},
	};
	for (size_t i = 0; i < 2 * sizeof stray / sizeof *stray; i++) {
		struct upload u = {.o = {.report = &told}};
		struct wasd_err err = {0};
		struct packer p = pack_open(upload_add(&u, "s.tar"), i % 2 ? ZIP : TAR);
		for (int k = 0; k < 3; k++) {
			static const char *const names[] = {"train/a/1.png", "test/a/1.png"};
			blob b = {0};
			if ((k == 2) == (i % 2)) {
				if (k == 0 || k == 2)
					pack_file(p, stray[i / 2].name, stray[i / 2].bytes, stray[i / 2].n);
				continue;
			}
			make_png(&b, 1, 8, 8, k);
			pack_blob(p, names[k % 2], &b);
		}
		pack_close(p);
		CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_EINVAL);
		CHECK_MSG(!strcmp(err.pointer, stray[i / 2].name), "%s: %s: %s", stray[i / 2].name, err.pointer, err.msg);
		unlink(u.path[0]);
	}
}

/* Whole sets of other programs, recognised by names and first bytes: their names in the message, and the advice. */
static void foreign_sets(void)
{
	static const struct {
		const char *files[7], *bytes;
		size_t n;
		const char *words, *way;
	} sets[] = {
		{{"stl10_binary/train_X.bin", "stl10_binary/train_y.bin", "stl10_binary/test_X.bin", "stl10_binary/test_y.bin",
	      "stl10_binary/unlabeled_X.bin", "stl10_binary/class_names.txt", NULL},
	     "\1\1",
	     2,
	     "STL-10 in its binary version",
	     "as PNG files into train/CLASS/"},
		{{"cifar-100-python/file.txt~", "cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta",
	      NULL},
	     "\x80\2}q\1",
	     5,
	     "CIFAR in its Python version",
	     "send the binary version"},
		{{"cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta",
	      "cifar-10-batches-py/readme.html", NULL},
	     "\x80\2}q\1",
	     5,
	     "CIFAR in its Python version",
	     "send the binary version"},
	};
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		struct upload u = {0};
		struct wasd_err err = {0};
		struct packer p = pack_open(upload_add(&u, "set.tar.gz"), TAR_GZ);
		for (int k = 0; sets[i].files[k]; k++)
			pack_file(p, sets[i].files[k], sets[i].bytes, sets[i].n);
		pack_close(p);
		CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_EINVAL);
		CHECK_MSG(strstr(err.msg, sets[i].words) && strstr(err.msg, sets[i].way), "%s: %s", sets[i].words, err.msg);
		unlink(u.path[0]);
	}
}

/* Archives that would be misunderstood are rejected: the file named, and the message. */
static void refused(void)
{
	static const struct {
		struct row r;
		const char *pointer, *words;
	} cases[] = {
		{{"Kaggle's dogs and cats",
	      {"train/cat.0.jpg", "train/dog.0.png", "test1/1.png"},
	      NULL,
	      0,
	      0,
	      0,
	      NULL,
	      NULL,
	      0},
	     "train/cat.0.jpg",
	     "directly in train/"},
		{{"splits by other names", {"set/train_images/1.png", "set/test_images/2.png"}, NULL, 0, 0, 0, NULL, NULL, 0},
	     "set/train_images/1.png",
	     "directly in train_images/"},
		{{"two tables",
	      {"1.png", "2.png", "=test.csv=id,label\n1,x\n", "=train.csv=id,label\n2,x\n"},
	      NULL,
	      0,
	      0,
	      0,
	      NULL,
	      NULL,
	      0},
	     "train.csv",
	     "a second table of labels besides test.csv"},
	};
	for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		struct upload u = {0};
		struct wasd_err err = {0};
		pack_row(pack_open(upload_add(&u, "set"), ZIP), &cases[i / 2].r, i % 2);
		CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_EINVAL);
		CHECK_MSG(!strcmp(err.pointer, cases[i / 2].pointer) && strstr(err.msg, cases[i / 2].words), "%s: %s: %s",
		          cases[i / 2].r.name, err.pointer, err.msg);
		unlink(u.path[0]);
	}
}

/* ---- archives ------------------------------------------------------------------------------------------- */

static void inner_archives(void)
{
	for (int how = 0; how < 6; how++) {
		struct upload u = {.o = {.report = &told}};
		struct wasd_ingest_info info = {0};
		char *data;
		size_t n;
		pack_row(pack_open(sample_path("inner"), how % 3 == 0 ? TAR : how % 3 == 1 ? TAR_GZ : ZIP), &rows[0], false);
		CHECK(!wasd_file_read(sample_path("inner"), 1 << 20, &data, &n, NULL));
		unlink(sample_path("inner"));
		struct packer p = pack_open(upload_add(&u, "outer"), how < 3 ? TAR_GZ : ZIP);
		pack_file(p, "download/inner.tar", data, n);
		pack_close(p);
		wasd_free(data);
		struct wasd_dataset *d = take(&u, "inner", &info);
		CHECK(info.n_train == 2 && info.n_test == 1 && remark("inner_archive"));
		wasd_dataset_close(d);
	}
}

/* Zip names without a declared encoding: built by hand, since the library marks its own names. */
static void zip_names(void)
{
	static const struct {
		const char *raw, *names, *want;
	} cases[] = {
		{"Gr\x81n", NULL, "Gr\xc3\xbcn"},
		{"\xc3\xa8", "GBK", "\xe7\x8c\xab"},
		{"Gr\xc3\xbcn", NULL, "Gr\xc3\xbcn"},
		{"a\\b", NULL, NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct upload u = {.o = {.names = cases[i].names, .report = &told}};
		struct wasd_ingest_info info = {0};
		struct packer p = pack_open(upload_add(&u, "w.zip"), ZIP);
		size_t k = strlen(cases[i].raw);
		for (int s = 0; s < 2; s++) {
			char name[40];
			blob b = {0};
			snprintf(name, sizeof name, "%s/%.*s/1.png", s ? "test" : "train", (int)k, "XXXXXXXX");
			make_png(&b, 1, 8, 8, s);
			pack_blob(p, name, &b);
		}
		pack_close(p);
		char *data;
		size_t n;
		CHECK(!wasd_file_read(u.path[0], 1 << 20, &data, &n, NULL));
		for (char *at; (at = memmem(data, n, "XXXXXXXX", k));)
			memcpy(at, cases[i].raw, k);
		for (char *at = data; (at = memmem(at, n - (size_t)(at - data), "train", 5)); at += 5)
			if (!cases[i].want) /* train\a\b/1.png: the last folder is the class */
				at[5] = '/';
		put_file(u.path[0], data, n);
		wasd_free(data);
		if (!cases[i].want) { /* one folder too deep, and no backslash left */
			struct wasd_err err;
			CHECK_INT(wasd_ingest(u.f, u.n, sample_path("out.wds"), &u.o, NULL, &err), WASD_EINVAL);
			CHECK_STR(err.pointer, "train/a/b/1.png");
			unlink(u.path[0]);
			continue;
		}
		struct wasd_dataset *d = take(&u, cases[i].raw, &info);
		if (d)
			CHECK_STR(wasd_dataset_class(d, 0), cases[i].want);
		wasd_dataset_close(d);
	}
}

int main(void)
{
	samples_begin();
	TEST_RUN(layouts);
	TEST_RUN(hard_link_pixels);
	TEST_RUN(own_validation);
	TEST_RUN(split_options);
	TEST_RUN(bad_pictures);
	TEST_RUN(idx_sets);
	TEST_RUN(strangers);
	TEST_RUN(foreign_sets);
	TEST_RUN(refused);
	TEST_RUN(inner_archives);
	TEST_RUN(zip_names);
	samples_end();
	TEST_END();
}
