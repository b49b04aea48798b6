/* idx.c - the MNIST family: four IDX files, each plain or gzipped, uploaded one by one or inside an archive.
 *
 *     images   00 00 08 03, then big-endian count, rows, columns, then the pixels
 *     labels   00 00 08 01, then count, then one byte each; classes "0" to "9"
 *
 * Which split a file is for is in its name only (train-, or t10k- or test-); what it holds is said by name and magic number, which
 * must agree. The labels are read first, in a replay of their own, because each image is written together with its label. */
#include "data/ingest.h"

#include <string.h>

enum { CLASSES = 10, LABELS, IMAGES };

struct reading { struct stream *st; struct gunzip *gz; };

struct plan {
	struct ingest *in;
	size_t file[2][2];                      /* [split][0 labels, 1 images]; SIZE_MAX: absent */
	uint8_t *label[2]; size_t n[2];
	int what;                               /* LABELS or IMAGES: of the present replay */
	bool begun;
};

static int split_of(const char *base)
{
	return name_has(base, "train") ? WASD_TRAIN : name_has(base, "t10k") || name_has(base, "test") ? WASD_TEST : -1;
}

static int kind_of(const struct ingest *in, size_t i)
{
	const char *base = entry_base(in, i);
	const uint8_t *h = in->entry[i].head;
	if (name_has(base, "label") || name_has(base, "idx1"))
		return LABELS;
	if (name_has(base, "image") || name_has(base, "idx3"))
		return IMAGES;
	return !h[0] && !h[1] && h[2] == 8 ? h[3] == 1 ? LABELS : h[3] == 3 ? IMAGES : -1 : -1;
}

static bool idx_claims(const struct ingest *in)
{
	for (size_t i = 0; i < in->n && i < INGEST_HEADS; i++) {
		const uint8_t *h = in->entry[i].head;
		if (name_has(entry_base(in, i), "-idx") || name_has(entry_base(in, i), ".idx") ||
		    (in->entry[i].size >= 8 && !h[0] && !h[1] && h[2] == 8 && (h[3] == 1 || h[3] == 3)))
			return true;
	}
	return false;
}

static enum wasd_status find_files(struct plan *p, struct wasd_err *err)
{
	static const char *const name[2][2] = { { "train-labels-idx1-ubyte", "train-images-idx3-ubyte" },
	                                        { "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte" } };
	memset(p->file, 0xff, sizeof p->file);
	for (size_t i = 0; i < p->in->n; i++) {
		int split = split_of(entry_base(p->in, i)), kind = kind_of(p->in, i);
		if (kind < 0)
			return entry_fail(p->in, i, err, WASD_EINVAL, "not an IDX file of images or labels");
		if (split < 0)
			return entry_fail(p->in, i, err, WASD_EINVAL, "neither train nor t10k nor test in the name: which split is it?");
		size_t *slot = &p->file[split][kind == IMAGES];
		if (*slot != SIZE_MAX)
			return entry_fail(p->in, i, err, WASD_EINVAL, "a second file of %s %s", split ? "test" : "train", kind == IMAGES ? "images" : "labels");
		*slot = i;
	}
	for (int split = 0; split < 2; split++)
		for (int k = 0; k < 2; k++)
			if (p->file[split][k] == SIZE_MAX)
				return wasd_fail_at(err, WASD_EINVAL, name[split][k], "missing: four IDX files make a dataset");
	return WASD_OK;
}

/* ---- one file ---------------------------------------------------------------------------------- */

static enum wasd_status from_stream(void *ctx, void *p, size_t n, size_t *got, struct wasd_err *err) { return stream_read(ctx, p, n, got, err); }

static enum wasd_status read_up_to(struct reading *r, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	return r->gz ? gunzip_next(r->gz, p, n, got, err) : stream_read(r->st, p, n, got, err);
}

/* n bytes, which are image or label number `at` of `count` (or the header: count 0). */
static enum wasd_status read_exactly(const struct plan *p, size_t i, struct reading *r, void *buf, size_t n, size_t at, size_t count, struct wasd_err *err)
{
	size_t got;
	enum wasd_status s = read_up_to(r, buf, n, &got, err);
	if (s || got == n)
		return entry_blame(p->in, i, err, s);
	return count ? entry_fail(p->in, i, err, WASD_ECORRUPT, "ends in item %zu, its header promises %zu", at, count)
	             : entry_fail(p->in, i, err, WASD_ECORRUPT, "too short for an IDX header");
}

static enum wasd_status expect_end(const struct plan *p, size_t i, struct reading *r, size_t count, struct wasd_err *err)
{
	uint8_t one;
	size_t got;
	enum wasd_status s = read_up_to(r, &one, 1, &got, err);
	if (s || !got)
		return entry_blame(p->in, i, err, s);
	return entry_fail(p->in, i, err, WASD_ECORRUPT, "goes on after the %zu items that its header promises", count);
}

static uint32_t be32(const uint8_t *b) { return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]; }

/* Magic and count; dims 1 (labels) or 3 (images, then rows and columns follow). */
static enum wasd_status read_head(const struct plan *p, size_t i, struct reading *r, uint32_t dims, size_t *count, struct wasd_err *err)
{
	uint8_t b[8];
	enum wasd_status s = read_exactly(p, i, r, b, sizeof b, 0, 0, err);
	if (s)
		return s;
	if (be32(b) != (0x800u | dims))
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "magic number 0x%08x, %s have 0x%08x", be32(b), dims == 1 ? "labels" : "images", 0x800u | dims);
	*count = be32(b + 4);
	if (!*count)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "no samples");
	if (*count > p->in->o.max_images)
		return entry_fail(p->in, i, err, WASD_ETOOBIG, "%zu samples, the limit is %zu images", *count, p->in->o.max_images);
	return WASD_OK;
}

static enum wasd_status read_labels(struct plan *p, size_t i, int split, struct reading *r, struct wasd_err *err)
{
	size_t n, got = 0;
	enum wasd_status s = read_head(p, i, r, 1, &n, err);
	if (s)
		return s;
	/* A bare file's promise is held against its size before memory is taken for it. */
	if (!r->gz && p->in->entry[i].size != 8 + (uint64_t)n)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "%zu labels need %zu bytes, it has %llu", n, n + 8, (unsigned long long)p->in->entry[i].size);
	if (!(p->label[split] = wasd_malloc(n)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu labels", n);
	if ((s = read_up_to(r, p->label[split], n, &got, err)))
		return entry_blame(p->in, i, err, s);
	if (got < n)
		return entry_fail(p->in, i, err, WASD_ECORRUPT, "ends in item %zu, its header promises %zu", got, n);
	bool seen[CLASSES] = { false };
	for (size_t k = 0; k < n; k++) {
		if (p->label[split][k] >= CLASSES)
			return entry_fail(p->in, i, err, WASD_ECORRUPT, "label %zu is %d, there are %d classes", k, p->label[split][k], CLASSES);
		seen[p->label[split][k]] = true;
	}
	for (int c = 0; c < CLASSES && split == WASD_TRAIN; c++)
		if (!seen[c])
			return entry_fail(p->in, i, err, WASD_EINVAL, "class %d has no training image", c);
	p->n[split] = n;
	return expect_end(p, i, r, n, err);
}

static enum wasd_status begin(struct plan *p, size_t i, uint32_t h, uint32_t w, struct wasd_err *err)
{
	static const char *const names[CLASSES] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" };
	struct ingest *in = p->in;
	if (h < 1 || w < 1 || h > WDS_MAX_SIDE || w > WDS_MAX_SIDE)
		return entry_fail(in, i, err, WASD_ECORRUPT, "images of %ux%u pixels, 1 to %d a side are possible", h, w, WDS_MAX_SIDE);
	if (p->begun && ((int)h != in->shape.h || (int)w != in->shape.w))
		return entry_fail(in, i, err, WASD_EINVAL, "images of %ux%u pixels, the other split has %dx%d", h, w, in->shape.h, in->shape.w);
	enum wasd_status s = p->begun ? WASD_OK : ingest_begin(in, (struct wasd_shape){ 1, (int)h, (int)w }, names, CLASSES, p->n[0], p->n[1], err);
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
	size_t bytes = wasd_shape_count(p->in->shape);
	if (!(image = wasd_malloc(bytes)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for an image");
	for (size_t k = 0; k < n && !s; k++)
		if (!(s = read_exactly(p, i, r, image, bytes, k, n, err)))
			s = ingest_put(p->in, (enum wasd_split)split, k, image, p->label[split][k], i, err);
	wasd_free(image);
	return s ? s : expect_end(p, i, r, n, err);
}

static bool wanted(const void *plan, size_t i)
{
	const struct plan *p = plan;
	return p->file[0][p->what == IMAGES] == i || p->file[1][p->what == IMAGES] == i;
}

static enum wasd_status read_file(void *plan, size_t i, struct stream *st, struct wasd_err *err)
{
	struct plan *p = plan;
	const uint8_t *h = p->in->entry[i].head;
	struct reading r = { .st = st };
	int split = p->file[WASD_TEST][p->what == IMAGES] == i;
	if (h[0] == 0x1f && h[1] == 0x8b && !(r.gz = gunzip_create(from_stream, st)))
		return wasd_fail(err, WASD_ENOMEM, "no memory to unpack gzip");
	enum wasd_status s = p->what == IMAGES ? read_images(p, i, split, &r, err) : read_labels(p, i, split, &r, err);
	gunzip_destroy(r.gz);
	return s;
}

static enum wasd_status idx_convert(struct ingest *in, struct wasd_err *err)
{
	struct plan p = { .in = in };
	enum wasd_status s = find_files(&p, err);
	for (p.what = LABELS; p.what <= IMAGES && !s; p.what++)
		s = ingest_replay(in, wanted, read_file, &p, err);
	wasd_free(p.label[0]);
	wasd_free(p.label[1]);
	return s;
}

const struct format format_idx = { .name = "idx", .claims = idx_claims, .convert = idx_convert };
