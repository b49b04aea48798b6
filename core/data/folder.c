/* folder.c - archives of pictures: train/CLASS/name.png and test/CLASS/name.jpg, perhaps under one common leading directory.
 *
 * Classes are the sorted directory names of train. An image's place in its split is the rank of (class, name), so the dataset does
 * not depend on the order inside the archive. It has one channel when every picture is grey, else three: pictures are taken for
 * grey until one is not, and then the replay starts again. */
#include "data/ingest.h"
#include "data/image.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_ENCODED = 32 << 20 };

struct item { uint32_t split, rank; int32_t label; const char *cls; uint32_t cls_len; };  /* one per entry */

struct plan {
	struct ingest *in;
	struct item *item;
	const char **classes; int n_classes;        /* class names: fresh strings */
	size_t count[2];
	int channels;                               /* 1 until a colour picture turns up */
	bool colour;                                /* it did: start again */
	uint8_t *buf; size_t cap;                   /* encoded bytes of one picture */
};

/* ---- the plan ------------------------------------------------------------------------------------ */

static int split_of(const char *p, size_t n)
{
	return n == 5 && !strncmp(p, "train", 5) ? WASD_TRAIN : n == 4 && !strncmp(p, "test", 4) ? WASD_TEST : -1;
}

/* Length of the leading directory with its slash, from the first entry; 0 when that begins with train/ or test/. */
static size_t lead_of(const struct ingest *in)
{
	const char *name = entry_name(in, 0);
	size_t k = strcspn(name, "/");
	if (!name[k] || split_of(name, k) >= 0)
		return 0;
	return split_of(name + k + 1, strcspn(name + k + 1, "/")) >= 0 ? k + 1 : 0;
}

static enum wasd_status place(struct plan *p, size_t i, size_t lead, struct wasd_err *err)
{
	const char *name = entry_name(p->in, i), *path = name + lead;
	struct item *it = &p->item[i];
	if (!name_ends(name, ".png") && !name_ends(name, ".jpg") && !name_ends(name, ".jpeg"))
		return entry_fail(p->in, i, err, WASD_EINVAL, "unexpected: an image archive has train/CLASS/*.png|jpg|jpeg and test/CLASS/* only");
	size_t k = strlen(name) < lead || strncmp(name, entry_name(p->in, 0), lead) ? 0 : strcspn(path, "/");
	int split = k ? split_of(path, k) : -1;
	if (split < 0)
		return entry_fail(p->in, i, err, WASD_EINVAL, "not in train/ or test/");
	it->split = (uint32_t)split;
	it->cls = path + k + 1;
	it->cls_len = (uint32_t)strcspn(it->cls, "/");
	if (!it->cls[it->cls_len])
		return entry_fail(p->in, i, err, WASD_EINVAL, "directly in %s/, not in a folder of its class", split ? "test" : "train");
	if (strchr(it->cls + it->cls_len + 1, '/'))
		return entry_fail(p->in, i, err, WASD_EINVAL, "deeper than %s/CLASS/", split ? "test" : "train");
	if (it->cls_len > WDS_MAX_CLASS_NAME)
		return entry_fail(p->in, i, err, WASD_EINVAL, "a class name of more than %d bytes", WDS_MAX_CLASS_NAME);
	p->count[split]++;
	return WASD_OK;
}

static int compare_class(const struct item *a, const struct item *b)
{
	size_t n = a->cls_len < b->cls_len ? a->cls_len : b->cls_len;
	int c = memcmp(a->cls, b->cls, n);
	return c ? c : a->cls_len < b->cls_len ? -1 : a->cls_len > b->cls_len;
}

/* Split, then class, then name. The class's terminator must not decide: "a/" sorts behind "a-b/" by plain comparison. */
static int by_place(const void *x, const void *y, void *ctx)
{
	const struct plan *p = ctx;
	const struct item *a = &p->item[*(const size_t *)x], *b = &p->item[*(const size_t *)y];
	if (a->split != b->split)
		return a->split < b->split ? -1 : 1;
	int c = compare_class(a, b);
	return c ? c : strcmp(a->cls, b->cls);
}

static enum wasd_status add_class(struct plan *p, const struct item *it, size_t i, struct wasd_err *err)
{
	if (p->n_classes == WDS_MAX_CLASSES)
		return entry_fail(p->in, i, err, WASD_ETOOBIG, "more than %d classes", WDS_MAX_CLASSES);
	if (!(p->n_classes & (p->n_classes - 1))) {     /* full at every power of two */
		size_t cap = p->n_classes ? 2 * (size_t)p->n_classes : 1;
		const char **more = wasd_realloc((void *)p->classes, cap * sizeof *more);
		if (!more)
			return wasd_fail(err, WASD_ENOMEM, "no memory for %zu classes", cap);
		p->classes = more;
	}
	char *name = wasd_strndup(it->cls, it->cls_len);
	if (!name)
		return wasd_fail(err, WASD_ENOMEM, "no memory for class names");
	p->classes[p->n_classes++] = name;
	return WASD_OK;
}

static int find_class(const struct plan *p, const struct item *it)
{
	int lo = 0, hi = p->n_classes;
	while (lo < hi) {
		int mid = (lo + hi) / 2, c = strncmp(p->classes[mid], it->cls, it->cls_len);
		if (!c && !p->classes[mid][it->cls_len])
			return mid;
		if (c < 0)                              /* on a common prefix the longer name is the greater one */
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

static int folded(const void *a, const void *b) { return strcasecmp(*(const char *const *)a, *(const char *const *)b); }

/* Cat and cat would be one class to a person. */
static enum wasd_status check_class_names(const struct plan *p, struct wasd_err *err)
{
	const char **v = wasd_calloc((size_t)p->n_classes, sizeof *v);
	enum wasd_status s = v ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for class names");
	if (!s) {
		memcpy((void *)v, (const void *)p->classes, (size_t)p->n_classes * sizeof *v);
		qsort((void *)v, (size_t)p->n_classes, sizeof *v, folded);
	}
	for (int i = 1; !s && i < p->n_classes; i++)
		if (!strcasecmp(v[i - 1], v[i]))
			s = wasd_fail_at(err, WASD_EINVAL, v[i], "differs in upper and lower case only from class %.100s", v[i - 1]);
	wasd_free((void *)v);
	return s;
}

static enum wasd_status rank(struct plan *p, const size_t *order, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (size_t k = 0; k < p->in->n && !s; k++) {
		struct item *it = &p->item[order[k]];
		if (it->split == WASD_TRAIN) {
			if (!k || compare_class(&p->item[order[k - 1]], it))
				s = add_class(p, it, order[k], err);
			it->label = p->n_classes - 1;
			it->rank = (uint32_t)k;
		} else {
			it->label = find_class(p, it);
			it->rank = (uint32_t)(k - p->count[WASD_TRAIN]);
			if (it->label < 0)
				s = entry_fail(p->in, order[k], err, WASD_EINVAL, "class %.*s has no training image", (int)(it->cls_len < 100 ? it->cls_len : 100), it->cls);
		}
	}
	return s ? s : check_class_names(p, err);
}

static enum wasd_status make_plan(struct plan *p, struct wasd_err *err)
{
	size_t n = p->in->n, lead = lead_of(p->in), *order = wasd_calloc(n, sizeof *order);
	p->item = wasd_calloc(n, sizeof *p->item);
	enum wasd_status s = p->item && order ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory to sort %zu images", n);
	for (size_t i = 0; i < n && !s; i++) {
		order[i] = i;
		s = place(p, i, lead, err);
	}
	if (!s && !p->count[WASD_TRAIN])
		s = wasd_fail_at(err, WASD_EINVAL, "train", "no images in train/CLASS/");
	if (!s && !p->count[WASD_TEST])
		s = wasd_fail_at(err, WASD_EINVAL, "test", "no images in test/CLASS/");
	if (!s) {
		qsort_r(order, n, sizeof *order, by_place, p);
		s = rank(p, order, err);
	}
	wasd_free(order);
	return s;
}

/* ---- the replay ------------------------------------------------------------------------------------ */

static enum wasd_status read_whole(struct plan *p, size_t i, struct stream *st, size_t *n, struct wasd_err *err)
{
	uint64_t size = p->in->entry[i].size;
	if (size > MAX_ENCODED)
		return entry_fail(p->in, i, err, WASD_ETOOBIG, "a picture of %llu bytes, at most %d", (unsigned long long)size, MAX_ENCODED);
	if (size + 1 > p->cap) {
		uint8_t *b = wasd_realloc(p->buf, size + 1 + size / 2);
		if (!b)
			return wasd_fail(err, WASD_ENOMEM, "no memory for a picture of %llu bytes", (unsigned long long)size);
		p->buf = b;
		p->cap = size + 1 + size / 2;
	}
	return stream_read(st, p->buf, size + 1, n, err);       /* one more than there is: the end is seen and the size checked */
}

static enum wasd_status decode_entry(void *plan, size_t i, struct stream *st, struct wasd_err *err)
{
	struct plan *p = plan;
	struct ingest *in = p->in;
	const struct item *it = &p->item[i];
	uint8_t *chw = NULL;
	size_t n;
	int c, h, w;
	enum wasd_status s = read_whole(p, i, st, &n, err);
	if (s)
		return s;
	if ((s = image_decode(p->buf, n, p->channels == 1 ? 0 : 3, in->o.size, in->o.size, &chw, &c, &h, &w, err)))
		return entry_blame(in, i, err, s);
	if (c != p->channels) {
		p->colour = true;                       /* ends this replay; not an error that anyone sees */
		s = wasd_fail(err, WASD_ESTATE, "the first colour picture");
	} else if (!in->writer) {
		s = ingest_begin(in, (struct wasd_shape){ c, h, w }, p->classes, p->n_classes, p->count[0], p->count[1], err);
		entry_blame(in, i, err, s);
	} else if (h != in->shape.h || w != in->shape.w)
		s = entry_fail(in, i, err, WASD_EINVAL, "%dx%d pixels, the pictures before have %dx%d (give \"size\" to resize)", w, h, in->shape.w, in->shape.h);
	if (!s)
		s = ingest_put(in, (enum wasd_split)it->split, it->rank, chw, it->label, i, err);
	wasd_free(chw);
	return s;
}

static enum wasd_status replay(struct plan *p, struct wasd_err *err)
{
	p->channels = 1;
	enum wasd_status s = ingest_replay(p->in, NULL, decode_entry, p, err);
	if (!p->colour)
		return s;
	*err = (struct wasd_err){ 0 };
	ingest_restart(p->in);
	p->channels = 3;
	return ingest_replay(p->in, NULL, decode_entry, p, err);
}

static enum wasd_status folder_convert(struct ingest *in, struct wasd_err *err)
{
	struct plan p = { .in = in };
	enum wasd_status s = make_plan(&p, err);
	if (!s)
		s = replay(&p, err);
	for (int i = 0; i < p.n_classes; i++)
		wasd_free((void *)(uintptr_t)p.classes[i]);
	wasd_free((void *)p.classes);
	wasd_free(p.item);
	wasd_free(p.buf);
	return s;
}

static bool folder_claims(const struct ingest *in) { return in->n > 0; }

const struct format format_folder = { .name = "images", .claims = folder_claims, .convert = folder_convert };
