/* idx.c - the MNIST family: four IDX files, each plain or gzipped, uploaded one by one or inside an archive.
 *
 *     images   00 00 08 03, then big-endian count, rows, columns, then the pixels
 *     labels   00 00 08 01, then count, then one byte each; classes "0" to "n-1", or "1" to "n"
 *
 * Only the name of a file (train-, or t10k- or test-) says which split it is for. Both the name and the magic number
 * say what it holds, and they must agree. A replay of its own reads the labels first, because each image is written
 * together with its label. */
#include "data/ingest.h"

#include <stdio.h>
#include <string.h>

#define DUPLICATES "files present more than once, or both packed and plain, were read once"
enum { LABEL_VALUES = 256, LABELS = 0, IMAGES };

struct reading {
	struct stream *st;
	struct gunzip *gz;
};

struct plan {
	struct ingest *in;
	size_t file[2][2]; /* [split][LABELS, IMAGES]; SIZE_MAX: absent */
	bool *same;        /* per entry: a duplicate of one of these files */
	uint8_t *label[2];
	size_t n[2];
	int first, classes; /* the label of the first class, 0 or 1 */
	int what;           /* LABELS or IMAGES: what the current replay reads */
	bool begun;
	char (*hash)[WASD_SHA256_HEX]; /* for files present more than once: the digest of the unpacked content */
};

static int split_of(const char *base)
{
	return name_has(base, "train") ? WASD_TRAIN : name_has(base, "t10k") || name_has(base, "test") ? WASD_TEST : -1;
}

static uint32_t be32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Recognises a file by its magic number and by dimensions that match its size. */
static int kind_by_bytes(const struct entry *e)
{
	uint64_t n = be32(e->head + 4), image;
	if (be32(e->head) == 0x801)
		return e->gz || e->size == 8 + n ? LABELS : -1;
	if (be32(e->head) != 0x803)
		return -1;
	image = (uint64_t)be32(e->head + 8) * be32(e->head + 12);
	return e->gz || (image < UINT32_MAX && e->size == 16 + n * image) ? IMAGES : -1;
}

static int kind_of(const struct ingest *in, size_t i)
{
	const char *base = entry_base(in, i);
	const uint8_t *h = in->entry[i].head;
	if (name_has(base, "label") || name_has(base, "idx1"))
		return LABELS;
	if (name_has(base, "image") || name_has(base, "idx3"))
		return IMAGES;
	return be32(h) == 0x801 ? LABELS : be32(h) == 0x803 ? IMAGES : -1;
}

static bool named_idx(const char *base)
{
	return name_has(base, "-idx") || name_has(base, ".idx");
}

/* Claims a set with all the names, one bare file, or a file recognised by its first bytes in an archive without
 * pictures. */
static bool idx_claims(const struct ingest *in)
{
	bool have[2][2] = {{false}}, bytes = false, pictures = false;
	for (size_t i = 0; i < in->n; i++) {
		const char *base = entry_base(in, i);
		if (in->entry[i].bare)
			return true;
		pictures = pictures || is_picture(base);
		if (is_picture(base) || is_text(base))
			continue;
		bytes = bytes || kind_by_bytes(&in->entry[i]) >= 0;
		if ((named_idx(base) || kind_by_bytes(&in->entry[i]) >= 0) && split_of(base) >= 0 && kind_of(in, i) >= 0)
			have[split_of(base)][kind_of(in, i)] = true;
	}
	return (have[0][LABELS] && have[0][IMAGES] && have[1][LABELS] && have[1][IMAGES]) || (bytes && !pictures);
}

/* ---- the same file more than once ------------------------------------------------------------------------ */

/* Prefers the shorter name, then the name that sorts first. */
static bool preferred(const struct ingest *in, size_t i, size_t k)
{
	size_t a = strlen(entry_name(in, i)), b = strlen(entry_name(in, k));
	return a != b ? a < b : strcmp(entry_name(in, i), entry_name(in, k)) < 0;
}

static bool is_twice(const void *plan, size_t i)
{
	return ((const struct plan *)plan)->same[i];
}

static enum wasd_status from_stream(void *ctx, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	return stream_read(ctx, p, n, got, err);
}

static enum wasd_status read_up_to(struct reading *r, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	return r->gz ? gunzip_next(r->gz, p, n, got, err) : stream_read(r->st, p, n, got, err);
}

static enum wasd_status open_file(const struct plan *p, size_t i, struct stream *st, struct reading *r,
                                  struct wasd_err *err)
{
	*r = (struct reading){.st = st};
	if (p->in->entry[i].gz && !(r->gz = gunzip_create(from_stream, st)))
		return wasd_fail(err, WASD_ENOMEM, "no memory to unpack gzip");
	return WASD_OK;
}

static enum wasd_status hash_file(void *plan, size_t i, struct stream *st, struct wasd_err *err)
{
	struct plan *p = plan;
	struct reading r = {NULL};
	uint8_t buf[16 << 10];
	size_t got = 0;
	struct wasd_sha256 *h = wasd_sha256_create();
	enum wasd_status s = h ? open_file(p, i, st, &r, err) : wasd_fail(err, WASD_ENOMEM, "no memory for a digest");
	while (!s && !(s = entry_blame(p->in, i, err, read_up_to(&r, buf, sizeof buf, &got, err))) && got)
		wasd_sha256_update(h, buf, got);
	if (h) {
		wasd_sha256_hex(h, p->hash[i]);
		gunzip_destroy(r.gz);
	}
	wasd_sha256_destroy(h);
	return s;
}

/* Files that compete for one place must have the same content, plain or packed. The extra ones become a remark. */
static enum wasd_status check_twice(struct plan *p, bool any, struct wasd_err *err)
{
	struct ingest *in = p->in;
	if (!any)
		return WASD_OK;
	if (!(p->hash = wasd_calloc(in->n, sizeof *p->hash)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu digests", in->n);
	for (int k = 0; k < 4; k++)
		if (p->file[k / 2][k % 2] != SIZE_MAX)
			p->same[p->file[k / 2][k % 2]] = true;
	enum wasd_status s = ingest_replay(in, is_twice, hash_file, p, err);
	in->replaying = false;
	for (size_t i = 0; i < in->n && !s; i++) {
		int split = split_of(entry_base(in, i)), kind = kind_of(in, i);
		size_t taken = p->same[i] ? p->file[split][kind] : i;
		if (taken != i && strcmp(p->hash[i], p->hash[taken]))
			s = entry_fail(in, i, err, WASD_EINVAL, "a second file of %s %s", split ? "test" : "train",
			               kind == IMAGES ? "images" : "labels");
		else if (taken != i)
			ingest_remark(in, "duplicates", entry_name(in, i), "%s", DUPLICATES);
	}
	return s;
}

/* Decides about a file without a place: texts and pictures may lie beside a complete set. */
static enum wasd_status leave_out(struct ingest *in, size_t i, struct wasd_err *err)
{
	if (!is_text(entry_base(in, i)) && !is_picture(entry_base(in, i)))
		return entry_fail(in, i, err, WASD_EINVAL, "not an IDX file of images or labels");
	ingest_remark(in, "ignored", entry_name(in, i), "%s", INGEST_IGNORED);
	return WASD_OK;
}

static enum wasd_status find_files(struct plan *p, struct wasd_err *err)
{
	static const char *const name[2][2] = {{"train-labels-idx1-ubyte", "train-images-idx3-ubyte"},
	                                       {"t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"}};
	struct ingest *in = p->in;
	enum wasd_status s = WASD_OK;
	bool twice = false;
	memset(p->file, 0xff, sizeof p->file);
	for (size_t i = 0; i < in->n && !s; i++) {
		const char *base = entry_base(in, i);
		bool beside = is_text(base) || is_picture(base);
		int split = split_of(base), kind = beside ? -1 : kind_of(in, i);
		if (in->entry[i].link != SIZE_MAX) {
			ingest_remark(in, "duplicates", entry_name(in, i), "%s", DUPLICATES);
			continue;
		}
		if (kind < 0) {
			s = leave_out(in, i, err);
			continue;
		}
		if (split < 0)
			return entry_fail(in, i, err, WASD_EINVAL,
			                  "the name contains neither train nor t10k nor test, so its split is unknown");
		size_t *slot = &p->file[split][kind];
		p->same[i] = *slot != SIZE_MAX;
		twice = twice || p->same[i];
		if (*slot != SIZE_MAX && preferred(in, i, *slot))
			p->same[*slot] = true;
		if (*slot == SIZE_MAX || preferred(in, i, *slot))
			*slot = i;
	}
	if (!s)
		s = check_twice(p, twice, err);
	for (int split = 0; split < 2 && !s; split++)
		for (int k = 0; k < 2; k++)
			if (p->file[split][k] == SIZE_MAX)
				return wasd_fail_at(err, WASD_EINVAL, name[split][k], "missing: a dataset needs four IDX files");
	return s;
}

/* ---- one file ---------------------------------------------------------------------------------- */

/* Reads n bytes, which are image or label number `at` of `count` (count 0: the header). */
static enum wasd_status read_exactly(const struct plan *p, size_t i, struct reading *r, void *buf, size_t n, size_t at,
                                     size_t count, struct wasd_err *err)
{
	size_t got;
	enum wasd_status s = read_up_to(r, buf, n, &got, err);
	if (s || got == n)
		return entry_blame(p->in, i, err, s);
	return count ?
	           entry_fail(p->in, i, err, WASD_ECORRUPT, "ends in item %zu, but its header says %zu items", at, count) :
	           entry_fail(p->in, i, err, WASD_ECORRUPT, "too short for an IDX header");
}

static enum wasd_status expect_end(const struct plan *p, size_t i, struct reading *r, size_t count,
                                   struct wasd_err *err)
{
	uint8_t one;
	size_t got;
	enum wasd_status s = read_up_to(r, &one, 1, &got, err);
	if (s || !got)
		return entry_blame(p->in, i, err, s);
	return entry_fail(p->in, i, err, WASD_ECORRUPT, "has data after the %zu items that its header declares", count);
}

/* Reads magic and count. dims: 1 for labels, 3 for images (rows and columns follow). */
static enum wasd_status read_head(const struct plan *p, size_t i, struct reading *r, uint32_t dims, size_t *count,
                                  struct wasd_err *err)
{
	uint8_t b[8];
	enum wasd_status s = read_exactly(p, i, r, b, sizeof b, 0, 0, err);
	if (s)
		return s;
	if (be32(b) != (0x800u | dims))
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "has magic number 0x%08x, but %s have 0x%08x", be32(b),
		                  dims == 1 ? "labels" : "images", 0x800u | dims);
	*count = be32(b + 4);
	if (!*count)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "no samples");
	if (*count > p->in->o.max_images)
		return entry_fail(p->in, i, err, WASD_ETOOBIG, "%zu samples, but the limit is %zu images", *count,
		                  p->in->o.max_images);
	return WASD_OK;
}

static enum wasd_status read_labels(struct plan *p, size_t i, int split, struct reading *r, struct wasd_err *err)
{
	size_t n, got = 0;
	enum wasd_status s = read_head(p, i, r, 1, &n, err);
	if (s)
		return s;
	/* Check the count against the size of a bare file before allocating memory for it. */
	if (!r->gz && p->in->entry[i].size != 8 + (uint64_t)n)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "%zu labels need %zu bytes, but the file has %llu", n, n + 8,
		                  (unsigned long long)p->in->entry[i].size);
	if (!(p->label[split] = wasd_malloc(n)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu labels", n);
	if ((s = read_up_to(r, p->label[split], n, &got, err)))
		return entry_blame(p->in, i, err, s);
	if (got < n)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "ends in item %zu, but its header says %zu items", got, n);
	p->n[split] = n;
	return expect_end(p, i, r, n, err);
}

/* The classes are the labels of the training images, 0 to n-1 or 1 to n. Each must have at least one training image,
 * and no test image may have another label. */
static enum wasd_status check_labels(struct plan *p, struct wasd_err *err)
{
	bool seen[LABEL_VALUES] = {false};
	int last = 0;
	for (size_t k = 0; k < p->n[WASD_TRAIN]; k++) {
		int v = p->label[WASD_TRAIN][k];
		seen[v] = true;
		last = v > last ? v : last;
	}
	p->first = !seen[0] && seen[1];
	p->classes = last + 1 - p->first;
	for (int c = p->first; c <= last; c++)
		if (!seen[c])
			return entry_fail(p->in, p->file[WASD_TRAIN][LABELS], err, WASD_EINVAL, "class %d has no training image",
			                  c);
	for (size_t k = 0; k < p->n[WASD_TEST]; k++) {
		int v = p->label[WASD_TEST][k];
		if (v < p->first || v > last)
			return entry_fail(p->in, p->file[WASD_TEST][LABELS], err, WASD_ECORRUPT,
			                  "label %zu is %d, but the training images have labels %d to %d", k, v, p->first, last);
	}
	if (p->first)
		ingest_remark(p->in, "labels_from_1", NULL, "the labels start at 1: class \"1\" is the first class");
	return WASD_OK;
}

static enum wasd_status begin(struct plan *p, size_t i, uint32_t h, uint32_t w, struct wasd_err *err)
{
	char text[LABEL_VALUES][4];
	const char *names[LABEL_VALUES];
	struct ingest *in = p->in;
	for (int c = 0; c < p->classes; c++) {
		snprintf(text[c], sizeof text[c], "%d", (uint8_t)(p->first + c));
		names[c] = text[c];
	}
	if (h < 1 || w < 1 || h > WDS_MAX_SIDE || w > WDS_MAX_SIDE)
		return entry_fail(in, i, err, WASD_ECORRUPT, "images of %ux%u pixels; sides of 1 to %d are allowed", h, w,
		                  WDS_MAX_SIDE);
	if (p->begun && ((int)h != in->given.h || (int)w != in->given.w))
		return entry_fail(in, i, err, WASD_EINVAL, "images of %ux%u pixels, but the other split has %dx%d", h, w,
		                  in->given.h, in->given.w);
	enum wasd_status s = p->begun ? WASD_OK :
	                                ingest_begin(in, (struct wasd_shape){1, (int)h, (int)w}, names, p->classes, p->n[0],
	                                             p->n[1], err);
	p->begun = true;
	return entry_blame(in, i, err, s);
}

static enum wasd_status read_images(struct plan *p, size_t i, int split, struct reading *r, struct wasd_err *err)
{
	uint8_t side[8], *image;
	size_t n;
	enum wasd_status s;
	if ((s = read_head(p, i, r, 3, &n, err)) || (s = read_exactly(p, i, r, side, sizeof side, 0, 0, err)))
		return s;
	if (n != p->n[split])
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "%zu images, but %zu labels", n, p->n[split]);
	if ((s = begin(p, i, be32(side), be32(side + 4), err)))
		return s;
	size_t bytes = wasd_shape_count(p->in->given);
	if (!(image = wasd_malloc(bytes)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for an image");
	for (size_t k = 0; k < n && !s; k++)
		if (!(s = read_exactly(p, i, r, image, bytes, k, n, err)))
			s = ingest_put(p->in, (enum wasd_split)split, k, image, p->label[split][k] - p->first, i, err);
	wasd_free(image);
	return s ? s : expect_end(p, i, r, n, err);
}

static bool wanted(const void *plan, size_t i)
{
	const struct plan *p = plan;
	return p->file[0][p->what] == i || p->file[1][p->what] == i;
}

static enum wasd_status read_file(void *plan, size_t i, struct stream *st, struct wasd_err *err)
{
	struct plan *p = plan;
	struct reading r = {NULL};
	int split = p->file[WASD_TEST][p->what] == i;
	enum wasd_status s = open_file(p, i, st, &r, err);
	if (s)
		return s;
	s = p->what == IMAGES ? read_images(p, i, split, &r, err) : read_labels(p, i, split, &r, err);
	gunzip_destroy(r.gz);
	return s;
}

static enum wasd_status idx_convert(struct ingest *in, struct wasd_err *err)
{
	struct plan p = {.in = in, .same = wasd_calloc(in->n, sizeof *p.same)};
	enum wasd_status s = p.same ? find_files(&p, err) :
	                              wasd_fail(err, WASD_ENOMEM, "no memory to examine %zu files", in->n);
	if (!s && !(s = ingest_replay(in, wanted, read_file, &p, err)))
		s = check_labels(&p, err);
	p.what = IMAGES;
	if (!s)
		s = ingest_replay(in, wanted, read_file, &p, err);
	wasd_free(p.same);
	wasd_free(p.hash);
	wasd_free(p.label[0]);
	wasd_free(p.label[1]);
	return s;
}

const struct format format_idx = {.name = "idx", .claims = idx_claims, .convert = idx_convert};
