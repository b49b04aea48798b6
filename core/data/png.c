/* png.c - PNG by libspng, any colour type and depth. 16-bit samples are cut to 8; alpha is blended over the requested
 * background.
 *
 * A picture of more than IMAGE_MAX_PIXELS is decoded row by row into boxes, each the average of its pixels, so memory
 * is needed only for the boxes. Interlaced pictures come in seven passes, each with some of the pixels; their order
 * does not matter. */
#include "data/image.h"

#include <spng.h>

/* Text and profile chunks are never used, so their unpacked size is tightly limited. libspng limits their number to
 * 1000; its option for that rejects every value in 0.7.3. */
enum {
	CHUNK_BYTES = 8 << 20,
	CHUNKS_BYTES = 16 << 20,
	BOX_SIDE = 4096 /* the sum over a box fits 32 bits */,
	FINE_PIXELS = 2 << 20
};

/* libspng and zlib report a failed allocation inside the pixel stream as damaged data, and their allocators take no
 * context: this flag tells the two apart. */
static _Thread_local bool out_of_memory;

static void *noted(void *p)
{
	out_of_memory = out_of_memory || !p;
	return p;
}
static void *counted_malloc(size_t n)
{
	return noted(wasd_malloc(n));
}
static void *counted_realloc(void *p, size_t n)
{
	return noted(wasd_realloc(p, n));
}
static void *counted_calloc(size_t n, size_t size)
{
	return noted(wasd_calloc(n, size));
}

static spng_ctx *context(int flags)
{
	struct spng_alloc a = {counted_malloc, counted_realloc, counted_calloc, wasd_free};
	out_of_memory = false;
	return spng_ctx_new2(&a, flags);
}

static enum wasd_status fail(int code, struct wasd_err *err)
{
	if (code == SPNG_EMEM || out_of_memory)
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	return wasd_fail(err, code == SPNG_ECHUNK_LIMITS ? WASD_ETOOBIG : WASD_ECORRUPT, "PNG: %s", spng_strerror(code));
}

/* Blends RGBA over the background, in place, into grey (the red channel of a grey picture) or RGB, rounding to nearest.
 * Returns false if nothing was transparent. */
static bool flatten(uint8_t *p, size_t pixels, int c, const uint8_t background[3])
{
	const uint8_t *q = p;
	unsigned opaque = 255;
	for (size_t i = 0; i < pixels; i++, q += 4) {
		unsigned a = q[3];
		opaque &= a;
		for (int k = 0; k < c; k++)
			*p++ = (uint8_t)((q[k] * a + background[k] * (255 - a) + 127) / 255);
	}
	return opaque != 255;
}

/* Checks the size, which stands at a fixed place, before the decoder multiplies it. */
static enum wasd_status check_dimensions(const uint8_t *p, size_t len, struct wasd_err *err)
{
	uint64_t side[2] = {0};
	if (len < 24)
		return wasd_fail(err, WASD_ECORRUPT, "PNG: %zu bytes is too short", len);
	for (int i = 0; i < 8; i++)
		side[i / 4] = side[i / 4] << 8 | p[16 + i];
	return image_check_size("PNG", side[0], side[1], err);
}

/* ---- one picture ------------------------------------------------------------------------------------ */

struct reading {
	spng_ctx *ctx;
	const struct wanted *want;
	struct spng_ihdr head;
	int c;            /* output channels */
	bool transparent; /* some pixel was transparent */
	uint8_t *data;
};

static bool has_grey(const struct spng_ihdr *h)
{
	return h->color_type == SPNG_COLOR_TYPE_GRAYSCALE || h->color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
}

/* Grey stays grey unless it may be blended over a colour. Reads up to the pixels. */
static enum wasd_status find_channels(struct reading *r, struct wasd_err *err)
{
	const uint8_t *b = r->want->how->background;
	struct spng_trns t;
	int e = spng_get_trns(r->ctx, &t);
	if (e && e != SPNG_ECHUNKAVAIL)
		return fail(e, err);
	bool alpha = (r->head.color_type & 4) || !e;
	r->c = has_grey(&r->head) && (!alpha || (b[0] == b[1] && b[1] == b[2])) ? 1 : 3;
	return WASD_OK;
}

static enum wasd_status read_full(struct reading *r, struct picture *out, struct wasd_err *err)
{
	size_t size;
	int e = spng_decoded_image_size(r->ctx, SPNG_FMT_RGBA8, &size);
	if (e)
		return fail(e, err);
	if (!(r->data = wasd_malloc(size)))
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory for %ux%u pixels", r->head.width, r->head.height);
	if ((e = spng_decode_image(r->ctx, r->data, size, SPNG_FMT_RGBA8, SPNG_DECODE_TRNS)))
		return fail(e, err);
	r->transparent = flatten(r->data, size / 4, r->c, r->want->how->background);
	*out = (struct picture){.c = r->c, .h = (int)r->head.height, .w = (int)r->head.width};
	return WASD_OK;
}

/* The picture in boxes of fw x fh pixels; the boxes at the right and lower border are smaller. */
struct boxes {
	uint32_t fw, fh, w, h;
	uint32_t *sum;
	uint8_t *row;
};

/* The largest box side that divides n pixels into at least `least` boxes. */
static uint32_t box_side(uint32_t n, uint64_t least)
{
	uint64_t f = n / least;
	return f < 1 ? 1 : f > BOX_SIDE ? BOX_SIDE : (uint32_t)f;
}

/* Chooses boxes that leave at least `least` pixels a side. Returns their number. */
static uint64_t choose_boxes(struct boxes *b, const struct reading *r, uint64_t least)
{
	b->fw = box_side(r->head.width, least);
	b->fh = box_side(r->head.height, least);
	if (r->want->how->fit != WASD_SQUEEZE) /* the shorter side counts for both */
		b->fw = b->fh = b->fw < b->fh ? b->fw : b->fh;
	b->w = (r->head.width + b->fw - 1) / b->fw;
	b->h = (r->head.height + b->fh - 1) / b->fh;
	return (uint64_t)b->w * b->h;
}

static enum wasd_status boxes_init(struct boxes *b, const struct reading *r, struct wasd_err *err)
{
	uint32_t w = r->head.width, h = r->head.height;
	uint64_t side = (uint64_t)r->want->side, n = IMAGE_MAX_PIXELS + 1;
	/* Prefer many boxes, which come closer to resampling the whole picture: the last box of a row is smaller but
	 * weighted as a whole one. */
	for (uint64_t times = 32; side && times && n > (times > 4 ? FINE_PIXELS : IMAGE_MAX_PIXELS); times /= 2)
		n = choose_boxes(b, r, times * side);
	if (n > IMAGE_MAX_PIXELS)
		return image_not_reducible("PNG", w, h, r->want, err);
	b->sum = wasd_calloc(n * (size_t)r->c, sizeof *b->sum);
	b->row = wasd_malloc((size_t)w * 4);
	return b->sum && b->row ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "PNG: no memory for %ux%u pixels", b->w, b->h);
}

/* Adds the pixels of one row of one pass; pass 6, and every row of a file without passes, has all columns. */
static void add_row(struct boxes *b, struct reading *r, const struct spng_row_info *at)
{
	static const uint8_t first[7] = {0, 4, 0, 2, 0, 1, 0}, step[7] = {8, 8, 4, 4, 2, 2, 1};
	uint32_t x = r->head.interlace_method ? first[at->pass] : 0, dx = r->head.interlace_method ? step[at->pass] : 1;
	size_t c = (size_t)r->c;
	uint32_t *row = b->sum + (size_t)(at->row_num / b->fh) * b->w * c;
	for (; x < r->head.width; x += dx) {
		uint8_t *p = b->row + (size_t)x * 4;
		uint32_t *sum = row + x / b->fw * c;
		r->transparent |= flatten(p, 1, r->c, r->want->how->background);
		for (size_t k = 0; k < c; k++)
			sum[k] += p[k];
	}
}

static uint32_t extent(uint32_t i, uint32_t f, uint32_t n)
{
	return n - i * f < f ? n - i * f : f;
}

static void average(const struct boxes *b, const struct reading *r)
{
	size_t c = (size_t)r->c;
	for (uint32_t y = 0; y < b->h; y++)
		for (uint32_t x = 0; x < b->w; x++) {
			size_t at = ((size_t)y * b->w + x) * c;
			uint32_t n = extent(x, b->fw, r->head.width) * extent(y, b->fh, r->head.height);
			for (size_t k = 0; k < c; k++)
				r->data[at + k] = (uint8_t)(((uint64_t)b->sum[at + k] + n / 2) / n);
		}
}

static enum wasd_status read_rows(struct reading *r, struct boxes *b, struct wasd_err *err)
{
	struct spng_row_info at;
	int e = spng_decode_image(r->ctx, NULL, 0, SPNG_FMT_RGBA8, SPNG_DECODE_TRNS | SPNG_DECODE_PROGRESSIVE);
	while (!e && !(e = spng_get_row_info(r->ctx, &at))) {
		e = spng_decode_row(r->ctx, b->row, (size_t)r->head.width * 4);
		if (!e || e == SPNG_EOI)
			add_row(b, r, &at);
	}
	return e == SPNG_EOI ? WASD_OK : fail(e, err);
}

static enum wasd_status read_boxes(struct reading *r, struct picture *out, struct wasd_err *err)
{
	struct boxes b = {0};
	enum wasd_status s = boxes_init(&b, r, err);
	if (!s)
		s = read_rows(r, &b, err);
	if (!s && !(r->data = wasd_malloc((size_t)b.w * b.h * (size_t)r->c)))
		s = wasd_fail(err, WASD_ENOMEM, "PNG: no memory for %ux%u pixels", b.w, b.h);
	if (!s) {
		average(&b, r);
		*out = (struct picture){.c = r->c, .h = (int)b.h, .w = (int)b.w, .notes = NOTE_REDUCED};
	}
	wasd_free(b.sum);
	wasd_free(b.row);
	return s;
}

/* Also reads the end chunk, so that a file cut after its last row is an error. */
static enum wasd_status read_picture(struct reading *r, struct picture *out, struct wasd_err *err)
{
	struct spng_exif exif;
	int e;
	bool full = (uint64_t)r->head.width * r->head.height <= IMAGE_MAX_PIXELS;
	enum wasd_status s = find_channels(r, err);
	if (s || (s = full ? read_full(r, out, err) : read_boxes(r, out, err)))
		return s;
	if ((e = spng_decode_chunks(r->ctx)))
		return fail(e, err);
	out->orientation = spng_get_exif(r->ctx, &exif) ? 0 : exif_orientation((const uint8_t *)exif.data, exif.length);
	out->notes |= r->transparent ? NOTE_FLATTENED : 0;
	out->data = r->data;
	r->data = NULL;
	return WASD_OK;
}

static enum wasd_status png_decode(const void *bytes, size_t len, const struct wanted *want, struct picture *out,
                                   struct wasd_err *err)
{
	struct reading r = {.want = want}; /* want->grey is not used here: image.c converts colours to grey */
	int e;
	enum wasd_status s = check_dimensions(bytes, len, err);
	if (s)
		return s;
	if (!(r.ctx = context(0)))
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	if ((e = spng_set_crc_action(r.ctx, SPNG_CRC_ERROR, SPNG_CRC_ERROR)) ||
	    (e = spng_set_chunk_limits(r.ctx, CHUNK_BYTES, CHUNKS_BYTES)) || (e = spng_set_png_buffer(r.ctx, bytes, len)) ||
	    (e = spng_get_ihdr(r.ctx, &r.head)))
		s = fail(e, err);
	else
		s = read_picture(&r, out, err);
	spng_ctx_free(r.ctx);
	wasd_free(r.data);
	return s;
}

const struct codec codec_png = {
	.name = "PNG",
	.magic = "\x89PNG",
	.magic_len = 4,
	.decode = png_decode,
};

/* hwc: interleaved, c = 1 or 3. The encoder allocates its buffer with our allocator. */
static enum wasd_status encode(const uint8_t *hwc, int c, int h, int w, void **out, size_t *len, struct wasd_err *err)
{
	int e;
	spng_ctx *ctx = context(SPNG_CTX_ENCODER);
	if (!ctx)
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	struct spng_ihdr head = {.width = (uint32_t)w,
	                         .height = (uint32_t)h,
	                         .bit_depth = 8,
	                         .color_type = c == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR};
	void *png = NULL;
	size_t n = 0;
	if (!(e = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1)) && !(e = spng_set_ihdr(ctx, &head)) &&
	    !(e = spng_encode_image(ctx, hwc, (size_t)c * (size_t)h * (size_t)w, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE)))
		png = spng_get_png_buffer(ctx, &n, &e);
	spng_ctx_free(ctx);
	if (e)
		return fail(e, err);
	*out = png;
	*len = n;
	return WASD_OK;
}

enum wasd_status wasd_image_png(const uint8_t *chw, struct wasd_shape s, void **out, size_t *len, struct wasd_err *err)
{
	if (s.c < 1 || s.h < 1 || s.w < 1 || (uint64_t)s.h * (uint64_t)s.w > IMAGE_MAX_PIXELS)
		return wasd_fail(err, WASD_EINVAL, "PNG: cannot write an image of shape %dx%dx%d", s.c, s.h, s.w);
	int c = s.c >= 3 ? 3 : 1; /* with two channels, show the first */
	size_t hw = (size_t)s.h * (size_t)s.w;
	uint8_t *hwc = wasd_malloc(hw * (size_t)c);
	if (!hwc)
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	for (size_t i = 0; i < hw; i++)
		for (int k = 0; k < c; k++)
			hwc[i * (size_t)c + (size_t)k] = chw[(size_t)k * hw + i];
	enum wasd_status st = encode(hwc, c, s.h, s.w, out, len, err);
	wasd_free(hwc);
	return st;
}
