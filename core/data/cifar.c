/* cifar.c - the binary version of CIFAR-10 and CIFAR-100: records of one or two label bytes and 3*32*32 pixels, plane
 * by plane.
 *
 *     CIFAR-10   data_batch_1.bin ... test_batch.bin   <label>          batches.meta.txt: ten names
 *     CIFAR-100  train.bin test.bin                    <coarse><fine>   fine_label_names.txt: a hundred names */
#include "data/ingest.h"

#include <string.h>

enum { PIXELS = 3 * 32 * 32, RECORDS = 64 };

struct cifar {
	const char *train, *test, *names; /* base names; train is a prefix if parts is set */
	bool parts;                       /* the training images are in several files: prefix, a number, ".bin" */
	const char *skip;                 /* belongs to the set, but is not needed */
	int classes, labels, label;       /* labels: label bytes per record; label: the one that counts */
};

static const struct cifar cifar10 = {"data_batch_", "test_batch.bin", "batches.meta.txt", true, NULL, 10, 1, 0};
static const struct cifar cifar100 =
	{"train.bin", "test.bin", "fine_label_names.txt", false, "coarse_label_names.txt", 100, 2, 1};

/* Part number of a training file, -1 if it is not one. */
static int train_part(const struct cifar *c, const char *base)
{
	if (!c->parts)
		return strcmp(base, c->train) ? -1 : 0;
	size_t n = strlen(c->train);
	if (strncmp(base, c->train, n) || base[n] < '1' || base[n] > '9' || strcmp(base + n + 1, ".bin"))
		return -1;
	return base[n] - '0';
}

/* Whether entry i, which has the right name, may hold records: its size is a whole number of records and the first
 * labels are in range. */
static bool has_records(const struct ingest *in, size_t i, const struct cifar *c)
{
	const struct entry *e = &in->entry[i];
	return e->size && e->size % ((uint64_t)c->labels + PIXELS) == 0 && e->head[c->label] < c->classes;
}

/* Claims a set with all the names, or a file that holds records in an archive without pictures. */
static bool claims(const struct ingest *in, const struct cifar *c)
{
	bool train = false, test = false, names = false, records = false, pictures = false;
	for (size_t i = 0; i < in->n; i++) {
		const char *base = entry_base(in, i);
		bool is_train = train_part(c, base) >= 0, is_test = !strcmp(base, c->test);
		train = train || is_train;
		test = test || is_test;
		names = names || !strcmp(base, c->names);
		records = records || ((is_train || is_test) && has_records(in, i, c));
		pictures = pictures || is_picture(base);
	}
	return (train && test && names) || (records && !pictures);
}

struct plan {
	struct ingest *in;
	const struct cifar *c;
	size_t part[10], test, names; /* entries; SIZE_MAX: absent */
	size_t first[10];             /* index of a part's first image */
	size_t n_train, n_test;
	bool seen[100];
};

static enum wasd_status count_records(const struct plan *p, size_t i, size_t *n, struct wasd_err *err)
{
	uint64_t size = p->in->entry[i].size, record = (uint64_t)p->c->labels + PIXELS;
	if (!size || size % record)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "%llu bytes is not a whole number of records of %llu bytes",
		                  (unsigned long long)size, (unsigned long long)record);
	*n = size / record;
	return WASD_OK;
}

static enum wasd_status find_files(struct plan *p, struct wasd_err *err)
{
	struct ingest *in = p->in;
	p->test = p->names = SIZE_MAX;
	for (int k = 0; k < 10; k++)
		p->part[k] = SIZE_MAX;
	for (size_t i = 0; i < in->n; i++) {
		const char *base = entry_base(in, i);
		int part = train_part(p->c, base);
		if (in->entry[i].link != SIZE_MAX)
			return entry_fail(in, i, err, WASD_EINVAL, "a hard link; only archives of pictures may contain them");
		size_t *slot = part >= 0                  ? &p->part[part] :
		               !strcmp(base, p->c->test)  ? &p->test :
		               !strcmp(base, p->c->names) ? &p->names :
		                                            NULL;
		if (!slot && (is_text(base) || is_picture(base)) && (!p->c->skip || strcmp(base, p->c->skip))) {
			ingest_remark(in, "ignored", entry_name(in, i), "%s", INGEST_IGNORED);
			continue;
		}
		if (!slot && (!p->c->skip || strcmp(base, p->c->skip)))
			return entry_fail(in, i, err, WASD_EINVAL, "does not belong to a %s archive", in->format);
		if (slot && *slot != SIZE_MAX)
			return entry_fail(in, i, err, WASD_EINVAL, "a second %s in the archive", base);
		if (slot)
			*slot = i;
	}
	if (p->test == SIZE_MAX)
		return wasd_fail_at(err, WASD_EINVAL, p->c->test, "missing in the %s archive", in->format);
	if (p->names == SIZE_MAX)
		return wasd_fail_at(err, WASD_EINVAL, p->c->names, "missing in the %s archive", in->format);
	enum wasd_status s = count_records(p, p->test, &p->n_test, err);
	for (int k = 0; k < 10 && !s; k++)
		if (p->part[k] != SIZE_MAX) {
			size_t n = 0;
			p->first[k] = p->n_train;
			if (!(s = count_records(p, p->part[k], &n, err)))
				p->n_train += n;
		}
	if (!s && !p->n_train)
		return wasd_fail_at(err, WASD_EINVAL, p->c->parts ? "data_batch_1.bin" : p->c->train,
		                    "missing in the %s archive", in->format);
	return s;
}

/* Splits the text of the names file into lines, in place; skips empty lines. */
static enum wasd_status read_names(struct plan *p, const char **names, struct wasd_err *err)
{
	char *text = p->in->entry[p->names].text, *save = NULL;
	int n = 0;
	if (!text)
		return entry_fail(p->in, p->names, err, WASD_ECORRUPT, "larger than %d bytes", INGEST_NAMES_MAX);
	for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		size_t len = strlen(line);
		while (len && (line[len - 1] == ' ' || line[len - 1] == '\t'))
			line[--len] = 0;
		if (!len)
			continue;
		if (n == p->c->classes)
			return entry_fail(p->in, p->names, err, WASD_ECORRUPT, "more than %d class names", n);
		if (len > WDS_MAX_CLASS_NAME || !wasd_utf8_ok(line, len))
			return entry_fail(p->in, p->names, err, WASD_ECORRUPT, "class name %d is too long or not UTF-8", n);
		for (int k = 0; k < n; k++)
			if (!strcmp(names[k], line))
				return entry_fail(p->in, p->names, err, WASD_ECORRUPT, "class name %s occurs twice", line);
		names[n++] = line;
	}
	if (n != p->c->classes)
		return entry_fail(p->in, p->names, err, WASD_ECORRUPT, "%d class names, but %d are needed", n, p->c->classes);
	return WASD_OK;
}

static bool is_data(const void *plan, size_t i)
{
	const struct plan *p = plan;
	return i != p->names && (i == p->test || train_part(p->c, entry_base(p->in, i)) >= 0);
}

static enum wasd_status read_records(void *plan, size_t i, struct stream *st, struct wasd_err *err)
{
	struct plan *p = plan;
	enum wasd_split split = i == p->test ? WASD_TEST : WASD_TRAIN;
	size_t record = (size_t)p->c->labels + PIXELS, got, at = 0,
		   first = split == WASD_TEST ? 0 : p->first[train_part(p->c, entry_base(p->in, i))];
	uint8_t *buf = wasd_malloc(RECORDS * record);
	if (!buf)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	enum wasd_status s;
	while (!(s = stream_read(st, buf, RECORDS * record, &got, err)) && got >= record) {
		for (size_t k = 0; k < got / record && !s; k++, at++) {
			const uint8_t *r = buf + k * record;
			int label = r[p->c->label];
			if (label >= p->c->classes) {
				s = entry_fail(p->in, i, err, WASD_ECORRUPT, "image %zu has label %d, but there are only %d classes",
				               at, label, p->c->classes);
				break;
			}
			p->seen[label] = p->seen[label] || split == WASD_TRAIN;
			s = ingest_put(p->in, split, first + at, r + p->c->labels, label, i, err);
		}
		if (s)
			break;
	}
	wasd_free(buf);
	return s;
}

static enum wasd_status convert(struct ingest *in, const struct cifar *c, struct wasd_err *err)
{
	struct plan p = {.in = in, .c = c};
	const char *names[100];
	enum wasd_status s;
	if ((s = find_files(&p, err)) || (s = read_names(&p, names, err)) ||
	    (s = ingest_begin(in, (struct wasd_shape){3, 32, 32}, names, c->classes, p.n_train, p.n_test, err)) ||
	    (s = ingest_replay(in, is_data, read_records, &p, err)))
		return s;
	for (int k = 0; k < c->classes; k++)
		if (!p.seen[k])
			return entry_fail(in, p.names, err, WASD_EINVAL, "class %d (%s) has no training image", k, names[k]);
	return WASD_OK;
}

static bool claims10(const struct ingest *in)
{
	return claims(in, &cifar10);
}
static bool claims100(const struct ingest *in)
{
	return claims(in, &cifar100);
}
static enum wasd_status convert10(struct ingest *in, struct wasd_err *err)
{
	return convert(in, &cifar10, err);
}
static enum wasd_status convert100(struct ingest *in, struct wasd_err *err)
{
	return convert(in, &cifar100, err);
}

const struct format format_cifar10 = {.name = "cifar10", .claims = claims10, .convert = convert10};
const struct format format_cifar100 = {.name = "cifar100", .claims = claims100, .convert = convert100};
