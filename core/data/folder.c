/* folder.c - archives of pictures. layout.c decides where each picture goes; this file decodes the pictures and puts
 * them there.
 *
 * The set has one channel if every picture is grey, else three. The replay assumes grey and starts over at the first
 * colour picture. It also starts over to skip bad pictures, because the places of the others depend on them. */
#include "data/layout.h"
#include "data/image.h"

#include <string.h>

enum { MAX_ENCODED = 32 << 20 };

struct plan {
	struct layout l;
	int channels;          /* 1 until a colour picture turns up */
	bool colour;           /* a colour picture turned up: start over */
	size_t bad, other;     /* pictures that cannot be read; pictures of another size */
	struct wasd_err first; /* the first error */
	uint8_t *buf;
	size_t cap; /* capacity of buf, encoded bytes */
};

static enum wasd_status read_whole(struct plan *p, size_t i, struct stream *st, size_t *n, struct wasd_err *err)
{
	uint64_t size = p->l.in->entry[i].size;
	if (size + 1 > p->cap) {
		uint8_t *b = wasd_realloc(p->buf, size + 1 + size / 2);
		if (!b)
			return wasd_fail(err, WASD_ENOMEM, "no memory for a picture of %llu bytes", (unsigned long long)size);
		p->buf = b;
		p->cap = size + 1 + size / 2;
	}
	return stream_read(st, p->buf, size + 1, n,
	                   err); /* asks for one byte more, which detects the end and checks the size */
}

/* Records a fault of one picture and lets the replay go on; any other error ends it. */
static enum wasd_status note_bad(struct plan *p, size_t i, enum wasd_status s, const struct wasd_err *err)
{
	struct ingest *in = p->l.in;
	if (s != WASD_ECORRUPT && s != WASD_EUNSUPPORTED && s != WASD_EINVAL && s != WASD_ETOOBIG)
		return s;
	if (!p->bad++ && !p->other)
		p->first = *err;
	p->l.item[i].bad = true;
	ingest_culprit(in, err);
	return WASD_OK;
}

/* Mixed picture sizes concern the whole set, so on_bad=skip does not apply. */
static void note_other_size(struct plan *p, size_t i, int h, int w)
{
	struct ingest *in = p->l.in;
	struct wasd_err e = {0};
	entry_fail(in, i, &e, WASD_EINVAL, "%dx%d pixels, but the pictures before it have %dx%d (give \"size\" to resize)",
	           w, h, in->shape.w, in->shape.h);
	if (!p->other++ && (!p->bad || in->o.skip_bad))
		p->first = e;
	ingest_culprit(in, &e);
}

static enum wasd_status put(struct plan *p, size_t i, const struct image *im, struct wasd_err *err)
{
	struct ingest *in = p->l.in;
	const size_t *count = p->l.count;
	enum wasd_status s = WASD_OK;
	if (!in->writer) {
		s = ingest_begin(in, (struct wasd_shape){im->c, im->h, im->w}, p->l.classes, p->l.n_classes,
		                 count[PART_TRAIN] + count[PART_VAL], count[PART_TEST], err);
		if (!s)
			s = dataset_writer_val(in->writer, count[PART_TRAIN], count[PART_VAL], err);
		entry_blame(in, i, err, s);
	} else if (im->h != in->shape.h || im->w != in->shape.w) {
		note_other_size(p, i, im->h, im->w);
		return WASD_OK;
	}
	for (size_t k = i; !s && k != SIZE_MAX; k = in->entry[k].next_link) {
		const struct item *it = &p->l.item[k];
		if (!it->out)
			s = ingest_put(in, it->part == PART_TEST ? WASD_TEST : WASD_TRAIN,
			               it->rank + (it->part == PART_VAL ? count[PART_TRAIN] : 0), im->chw, it->label, k, err);
	}
	return s;
}

/* Remarks on what was done to the picture of entry i. */
static void tell(struct ingest *in, size_t i, const struct image *im)
{
	static const struct {
		unsigned note;
		const char *code, *text;
	} rows[] = {
		{NOTE_TURNED, "oriented",
	     "turned upright according to their EXIF orientation (orientation=keep leaves them as stored)"},
		{NOTE_FLATTENED, "alpha_flattened", "transparent pixels blended over the background"},
		{NOTE_CMYK, "cmyk_converted", "CMYK or YCCK converted to RGB without a colour profile"},
		{NOTE_REDUCED, "decoded_reduced", "large pictures decoded at a reduced scale"},
	};
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
		if (im->notes & rows[k].note)
			ingest_remark(in, rows[k].code, entry_name(in, i), "%s", rows[k].text);
	if (im->notes & NOTE_ODD)
		ingest_remark(in, "jpeg_remark", entry_name(in, i),
		              "JPEG files read despite a fault that does not affect their pixels: %s", im->odd);
}

static enum wasd_status decode_entry(void *plan, size_t i, struct stream *st, struct wasd_err *err)
{
	struct plan *p = plan;
	struct ingest *in = p->l.in;
	struct image im = {0};
	size_t n;
	if (in->entry[i].size > MAX_ENCODED) {
		enum wasd_status e = entry_fail(in, i, err, WASD_ETOOBIG, "a picture of %llu bytes; at most %d are allowed",
		                                (unsigned long long)in->entry[i].size, MAX_ENCODED);
		return note_bad(p, i, e, err);
	}
	enum wasd_status s = read_whole(p, i, st, &n, err);
	if (s)
		return s;
	if ((s = image_decode(p->buf, n, p->channels == 1 ? 0 : 3, in->o.size, in->o.size, in->o.prepare, &im, err)))
		return note_bad(p, i, entry_blame(in, i, err, s), err);
	tell(in, i, &im);
	if (im.c != p->channels) {
		p->colour = true; /* ends this replay; the caller never sees this error */
		s = wasd_fail(err, WASD_ESTATE, "the first colour picture");
	} else
		s = put(p, i, &im, err);
	wasd_free(im.chw);
	return s;
}

/* A picture is also read if only its hard links are used. */
static bool wanted(const void *plan, size_t i)
{
	const struct plan *p = plan;
	const struct item *it = &p->l.item[i];
	if (it->bad || p->l.in->entry[i].link != SIZE_MAX)
		return false;
	for (size_t k = i; k != SIZE_MAX; k = p->l.in->entry[k].next_link)
		if (!p->l.item[k].out)
			return true;
	return false;
}

static enum wasd_status replay(struct plan *p, struct wasd_err *err)
{
	enum wasd_status s = ingest_replay(p->l.in, wanted, decode_entry, p, err);
	if (!p->colour || p->channels == 3)
		return s;
	*err = (struct wasd_err){0};
	ingest_restart(p->l.in);
	ingest_pardon(p->l.in);
	for (size_t i = 0; i < p->l.in->n; i++)
		p->l.item[i].bad = false;
	p->bad = p->other = 0;
	p->channels = 3;
	return ingest_replay(p->l.in, wanted, decode_entry, p, err);
}

/* A bad picture makes its hard links bad. */
static void spread_bad(struct plan *p)
{
	struct ingest *in = p->l.in;
	for (size_t i = 0; i < in->n; i++)
		if (in->entry[i].link != SIZE_MAX)
			p->l.item[i].bad = p->l.item[in->entry[i].link].bad;
}

static enum wasd_status skip_bad(struct plan *p, struct wasd_err *err)
{
	struct ingest *in = p->l.in;
	enum wasd_status s;
	spread_bad(p);
	ingest_restart(in);
	for (size_t i = 0; i < in->n; i++)
		if (p->l.item[i].bad)
			ingest_remark(in, "bad_skipped", entry_name(in, i),
			              "pictures that cannot be read were left out (on_bad=skip)");
	if ((s = layout_again(&p->l, err)))
		return s;
	p->bad = 0;
	return replay(p, err);
}

static enum wasd_status folder_convert(struct ingest *in, struct wasd_err *err)
{
	struct plan p = {.l = {.in = in}, .channels = 1};
	enum wasd_status s = layout_make(&p.l, err);
	if (!s)
		s = replay(&p, err);
	if (!s && in->o.skip_bad && p.bad && !p.other)
		s = skip_bad(&p, err);
	if (!s && (p.bad || p.other)) {
		*err = p.first;
		s = p.first.status;
	}
	layout_done(&p.l);
	wasd_free(p.buf);
	return s;
}

static bool folder_claims(const struct ingest *in)
{
	return in->n > 0;
}

const struct format format_folder = {.name = "images", .claims = folder_claims, .convert = folder_convert};
