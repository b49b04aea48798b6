/* png.c - PNG by libspng, any colour type and depth; 16 bit is cut to 8, alpha is laid over black. */
#include "data/image.h"

#include <spng.h>

/* Text and profile chunks are never wanted: small bounds for what they may unpack to. Their number is bounded by libspng (1000),
 * whose option for that refuses every value in 0.7.3. */
enum { CHUNK_BYTES = 8 << 20, CHUNKS_BYTES = 16 << 20 };

/* libspng and zlib report a refused allocation inside the pixel stream as damaged data, and their allocators have no context:
 * the flag tells the two apart. */
static _Thread_local bool out_of_memory;

static void *noted(void *p)
{
	out_of_memory = out_of_memory || !p;
	return p;
}
static void *counted_malloc(size_t n) { return noted(wasd_malloc(n)); }
static void *counted_realloc(void *p, size_t n) { return noted(wasd_realloc(p, n)); }
static void *counted_calloc(size_t n, size_t size) { return noted(wasd_calloc(n, size)); }

static spng_ctx *context(int flags)
{
	struct spng_alloc a = { counted_malloc, counted_realloc, counted_calloc, wasd_free };
	out_of_memory = false;
	return spng_ctx_new2(&a, flags);
}

static enum wasd_status fail(int code, struct wasd_err *err)
{
	if (code == SPNG_EMEM || out_of_memory)
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	return wasd_fail(err, code == SPNG_ECHUNK_LIMITS ? WASD_ETOOBIG : WASD_ECORRUPT, "PNG: %s", spng_strerror(code));
}

/* RGBA over black, in place, to grey (the red of a grey picture), or to RGB. v*a/255 rounded to nearest. */
static void drop_alpha(uint8_t *p, size_t pixels, int c)
{
	const uint8_t *q = p;
	for (size_t i = 0; i < pixels; i++, q += 4)
		for (int k = 0; k < c; k++)
			*p++ = (uint8_t)((q[k] * q[3] + 127) / 255);
}

/* The size stands at a fixed place, and is looked at before the decoder multiplies it. */
static enum wasd_status check_dimensions(const uint8_t *p, size_t len, struct wasd_err *err)
{
	uint64_t side[2] = { 0 };
	if (len < 24)
		return wasd_fail(err, WASD_ECORRUPT, "PNG: %zu bytes, too short", len);
	for (int i = 0; i < 8; i++)
		side[i / 4] = side[i / 4] << 8 | p[16 + i];
	return image_check_size("PNG", side[0], side[1], err);
}

static enum wasd_status png_decode(const void *bytes, size_t len, bool grey, struct picture *out, struct wasd_err *err)
{
	struct spng_ihdr head;
	uint8_t *data = NULL;
	size_t size;
	int e;
	enum wasd_status s = WASD_OK;
	(void)grey;                             /* image.c weighs colours to grey */
	if ((s = check_dimensions(bytes, len, err)))
		return s;
	spng_ctx *ctx = context(0);
	if (!ctx)
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	if ((e = spng_set_crc_action(ctx, SPNG_CRC_ERROR, SPNG_CRC_ERROR)) || (e = spng_set_chunk_limits(ctx, CHUNK_BYTES, CHUNKS_BYTES)) ||
	    (e = spng_set_png_buffer(ctx, bytes, len)) || (e = spng_get_ihdr(ctx, &head))) {
		s = fail(e, err);
		goto done;
	}
	if ((e = spng_decoded_image_size(ctx, SPNG_FMT_RGBA8, &size))) {
		s = fail(e, err);
		goto done;
	}
	if (!(data = wasd_malloc(size))) {
		s = wasd_fail(err, WASD_ENOMEM, "PNG: no memory for %ux%u pixels", head.width, head.height);
		goto done;
	}
	/* Reading on to the end chunk makes a file that is cut after its last row an error, too. */
	if ((e = spng_decode_image(ctx, data, size, SPNG_FMT_RGBA8, SPNG_DECODE_TRNS)) || (e = spng_decode_chunks(ctx))) {
		s = fail(e, err);
		goto done;
	}
	int c = head.color_type == SPNG_COLOR_TYPE_GRAYSCALE || head.color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA ? 1 : 3;
	drop_alpha(data, size / 4, c);
	*out = (struct picture){ c, (int)head.height, (int)head.width, data };
	data = NULL;
done:
	spng_ctx_free(ctx);
	wasd_free(data);
	return s;
}

const struct codec codec_png = {
	.name = "PNG", .magic = "\x89PNG", .magic_len = 4, .decode = png_decode,
};

/* hwc: interleaved, c 1 or 3. The encoder's buffer comes from its own allocator, which is ours. */
static enum wasd_status encode(const uint8_t *hwc, int c, int h, int w, void **out, size_t *len, struct wasd_err *err)
{
	int e;
	spng_ctx *ctx = context(SPNG_CTX_ENCODER);
	if (!ctx)
		return wasd_fail(err, WASD_ENOMEM, "PNG: no memory");
	struct spng_ihdr head = { .width = (uint32_t)w, .height = (uint32_t)h, .bit_depth = 8,
	                          .color_type = c == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR };
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
		return wasd_fail(err, WASD_EINVAL, "PNG: cannot write %dx%dx%d", s.c, s.h, s.w);
	int c = s.c >= 3 ? 3 : 1;               /* two channels: the first is shown */
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
