/* Decoding one picture: every supported variant, every rejected variant, and damage of all kinds. */
#include "core/data_samples.h"
#include "fixtures/pictures.h"
#include "data/image.h"

#include <zlib.h>

static enum wasd_status decode_how(const blob *b, int c, int h, int w, const struct wasd_prepare *how,
                                   struct image *out, struct wasd_err *err)
{
	/* Exactly as long as the data, so that the sanitizer detects a read past the end. */
	void *p = malloc(b->len ? b->len : 1);
	if (b->len)
		memcpy(p, b->data, b->len);
	enum wasd_status s = image_decode(p, b->len, c, h, w, how, out, err);
	free(p);
	return s;
}

static enum wasd_status decode(const blob *b, int c, int h, int w, uint8_t **out, int *oh, int *ow,
                               struct wasd_err *err)
{
	struct image im = {0};
	enum wasd_status s = decode_how(b, c, h, w, &wasd_prepare_default, &im, err);
	if (s)
		return s;
	*out = im.chw;
	if (oh)
		*oh = im.h;
	if (ow)
		*ow = im.w;
	return WASD_OK;
}

static const struct wasd_prepare unrecorded; /* the preparation used before it became an option */

/* Largest difference between a decoded (c,h,w) image and the interleaved source of sc channels, with grey
 * replicated. */
static int worst(const uint8_t *chw, int c, int h, int w, const uint8_t *hwc, int sc)
{
	int most = 0;
	for (int k = 0; k < c; k++)
		for (int i = 0; i < h * w; i++) {
			int d = abs(chw[k * h * w + i] - hwc[i * sc + (sc == 1 ? 0 : k)]);
			most = d > most ? d : most;
		}
	return most;
}

static void reads_png(void)
{
	enum { H = 13, W = 21 };
	static const struct {
		enum spng_color_type type;
		int depth, c;
	} rows[] = {
		{SPNG_COLOR_TYPE_GRAYSCALE, 8, 1},       {SPNG_COLOR_TYPE_TRUECOLOR, 8, 3},
		{SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, 2}, {SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 8, 4},
		{SPNG_COLOR_TYPE_GRAYSCALE, 16, 1},      {SPNG_COLOR_TYPE_TRUECOLOR, 16, 3},
	};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
		for (int interlace = 0; interlace < 2; interlace++) {
			int c = rows[r].c, colours = c > 2 ? 3 : 1;
			struct image got = {0};
			uint8_t raw[H * W * 8], want[H * W * 3];
			blob b = {0};
			struct wasd_err err = {0};
			sample_pixels(raw, c, H, W, (int)r);
			for (int i = 0; i < H * W; i++)
				for (int k = 0; k < colours; k++) {
					int v = raw[i * c + k], a = c % 2 ? 255 : raw[i * c + c - 1];
					want[i * colours + k] = (uint8_t)((v * a + 255 * (255 - a) + 127) / 255);
				}
			if (rows[r].depth == 16)
				for (int i = H * W * c; i--;)
					raw[2 * i] = raw[2 * i + 1] = raw[i];
			make_png_raw(&b, rows[r].type, rows[r].depth, interlace, H, W, raw, (size_t)(H * W * c * rows[r].depth / 8),
			             NULL);
			CHECK_MSG(!decode_how(&b, 0, 0, 0, &wasd_prepare_default, &got, &err), "row %zu: %s", r, err.msg);
			if (!got.chw)
				continue;
			CHECK(got.c == colours && got.h == H && got.w == W);
			CHECK_INT(got.notes, c % 2 ? 0 : NOTE_FLATTENED);
			CHECK_MSG(worst(got.chw, colours, H, W, want, colours) == 0, "row %zu interlace %d: off by %d", r,
			          interlace, worst(got.chw, colours, H, W, want, colours));
			wasd_free(got.chw);
			wasd_buf_done(&b);
		}
}

static void reads_palette_and_bits(void)
{
	struct spng_plte plte = {.n_entries = 4};
	for (int i = 0; i < 4; i++)
		plte.entries[i] = (struct spng_plte_entry){(uint8_t)(i * 60), (uint8_t)(255 - i), (uint8_t)(i * 9), 255};
	uint8_t raw[2] = {0x1b, 0xe4}, *got = NULL; /* two rows of 0 1 2 3 / 3 2 1 0 in 2 bits */
	int h, w;
	blob b = {0};
	make_png_raw(&b, SPNG_COLOR_TYPE_INDEXED, 2, 0, 2, 4, raw, 2, &plte);
	CHECK(!decode(&b, 3, 0, 0, &got, &h, &w, NULL));
	for (int i = 0; i < 8; i++) {
		int k = i < 4 ? i : 7 - i;
		CHECK(got[i] == k * 60 && got[8 + i] == 255 - k && got[16 + i] == k * 9);
	}
	wasd_free(got);
	wasd_buf_done(&b);
	b = (blob){0};
	make_png_raw(&b, SPNG_COLOR_TYPE_GRAYSCALE, 1, 0, 2, 8, (uint8_t[]){0xa5, 0x0f}, 2, NULL);
	CHECK(!decode(&b, 1, 0, 0, &got, &h, &w, NULL));
	CHECK(got[0] == 255 && got[1] == 0 && got[7] == 255 && got[8] == 0 && got[15] == 255);
	wasd_free(got);
	wasd_buf_done(&b);
}

static void reads_jpeg(void)
{
	enum { H = 37, W = 50 };
	uint8_t want[H * W * 3], *got = NULL;
	for (int c = 1; c <= 3; c += 2)
		for (int progressive = 0; progressive < 2; progressive++) {
			blob b = {0};
			int oh, ow;
			struct image im;
			make_jpeg_how(&b, (struct jpeg_how){c == 1 ? JCS_GRAYSCALE : JCS_RGB, c, progressive, 98, false, 0}, H, W,
			              3);
			sample_pixels(want, c, H, W, 3);
			CHECK(!decode_how(&b, 0, 0, 0, &wasd_prepare_default, &im, NULL));
			CHECK(im.c == c && im.h == H && im.w == W && !im.notes);
			CHECK_MSG(worst(im.chw, c, H, W, want, c) <= 12, "off by %d", worst(im.chw, c, H, W, want, c));
			wasd_free(im.chw);
			CHECK(!decode(&b, 3, 0, 0, &got, &oh, &ow, NULL));
			CHECK(worst(got, 3, H, W, want, c) <= 12);
			wasd_free(got);
			wasd_buf_done(&b);
		}
}

/* Colour becomes grey by luma, with either codec. */
static void grey_of_colour(void)
{
	enum { H = 20, W = 20 };
	uint8_t src[H * W * 3], want[H * W], *got = NULL;
	int h, w;
	sample_pixels(src, 3, H, W, 5);
	for (int i = 0; i < H * W; i++)
		want[i] = (uint8_t)lround(0.299 * src[3 * i] + 0.587 * src[3 * i + 1] + 0.114 * src[3 * i + 2]);
	for (int jpeg = 0; jpeg < 2; jpeg++) {
		blob b = {0};
		if (jpeg)
			make_jpeg(&b, 3, H, W, 5);
		else
			make_png(&b, 3, H, W, 5);
		CHECK(!decode(&b, 1, 0, 0, &got, &h, &w, NULL));
		CHECK_MSG(worst(got, 1, H, W, want, 1) <= (jpeg ? 6 : 1), "off by %d", worst(got, 1, H, W, want, 1));
		wasd_free(got);
		wasd_buf_done(&b);
	}
}

static void resizes(void)
{
	uint8_t ramp[3 * 8 * 8], out[3 * 64 * 64];
	for (int i = 0; i < 3 * 64; i++)
		ramp[i] = (uint8_t)(i % 8 * 32);
	/* A constant image stays constant at any size. */
	uint8_t flat[8 * 8];
	memset(flat, 77, sizeof flat);
	static const int sizes[] = {1, 2, 3, 5, 8, 13, 64};
	for (size_t i = 0; i < 7; i++)
		for (size_t j = 0; j < 7; j++) {
			CHECK(!image_resize(flat, 1, 8, 8, sizes[i], sizes[j], out, NULL));
			for (int k = 0; k < sizes[i] * sizes[j]; k++)
				CHECK_INT(out[k], 77);
		}
	/* Same size is the identity; half size of a ramp: weights 1/8 3/8 3/8 1/8 inside. */
	CHECK(!image_resize(ramp, 3, 8, 8, 8, 8, out, NULL));
	CHECK(!memcmp(ramp, out, sizeof ramp));
	CHECK(!image_resize(ramp, 3, 8, 8, 4, 4, out, NULL));
	for (int k = 0; k < 3; k++)
		for (int y = 0; y < 4; y++) {
			const uint8_t *row = out + (k * 4 + y) * 4;
			CHECK_INT(row[1], (32 * 1 + 3 * 32 * 2 + 3 * 32 * 3 + 32 * 4) / 8);
			CHECK_INT(row[2], (32 * 3 + 3 * 32 * 4 + 3 * 32 * 5 + 32 * 6) / 8);
			CHECK_INT(row[0], (3 * 0 + 3 * 32 + 64) / 7.0 + 0.5);
		}
	/* Twice the size: output 2i+1 lies at i + 1/4, so 3/4 and 1/4 of its neighbours. */
	CHECK(!image_resize(ramp, 1, 8, 8, 8, 16, out, NULL));
	for (int i = 0; i < 7; i++) {
		CHECK_INT(out[2 * i + 1], (3 * 32 * i + 32 * (i + 1)) / 4.0);
		CHECK_INT(out[2 * i + 2], (32 * i + 3 * 32 * (i + 1)) / 4.0);
	}
	CHECK_INT(out[0], 0);
	CHECK_INT(out[15], 224);
	/* A checkerboard shrinks to grey, not to one of its colours. */
	uint8_t board[64 * 64];
	for (int i = 0; i < 64 * 64; i++)
		board[i] = (i / 64 + i) % 2 ? 255 : 0;
	CHECK(!image_resize(board, 1, 64, 64, 8, 8, out, NULL));
	for (int i = 0; i < 64; i++)
		CHECK(out[i] >= 126 && out[i] <= 129);
}

static void round_trip_preview(void)
{
	enum { H = 9, W = 7 };
	for (int c = 1; c <= 3; c++) {
		uint8_t chw[3 * H * W], *got;
		int h, w;
		void *png;
		size_t n;
		for (int i = 0; i < c * H * W; i++)
			chw[i] = (uint8_t)(i * 11);
		CHECK(!wasd_image_png(chw, (struct wasd_shape){c, H, W}, &png, &n, NULL));
		CHECK(!wasd_image_decode(png, n, c == 3 ? 3 : 1, 0, 0, &unrecorded, &got, &h, &w, NULL, NULL));
		CHECK(h == H && w == W && !memcmp(got, chw, (size_t)(c == 3 ? 3 : 1) * H * W));
		wasd_free(got);
		wasd_free(png);
	}
}

/* ---- as Pillow reads it (tests/fixtures/pictures.py) ------------------------------------------- */

#define BLOB(a) (&(blob){.data = (char *)(uintptr_t)(a), .len = sizeof(a)})

static int worst_value(const uint8_t *a, const uint8_t *b, size_t n)
{
	int most = 0;
	for (size_t i = 0; i < n; i++)
		most = abs(a[i] - b[i]) > most ? abs(a[i] - b[i]) : most;
	return most;
}

static void four_inks(void)
{
	struct image im = {0};
	struct wasd_err err = {0};
	CHECK_MSG(!decode_how(BLOB(cmyk_jpeg), 0, 0, 0, &wasd_prepare_default, &im, &err), "%s", err.msg);
	if (!im.chw)
		return;
	CHECK(im.c == 3 && im.h == 8 && im.w == 12 && im.notes == NOTE_CMYK);
	CHECK_MSG(worst_value(im.chw, cmyk_rgb, sizeof cmyk_rgb) <= 1, "off by %d",
	          worst_value(im.chw, cmyk_rgb, sizeof cmyk_rgb));
	wasd_free(im.chw);
	/* YCCK: the same inks, coded as luma and chroma. Without black ink (0), the colours themselves. */
	blob b = {0};
	make_jpeg_how(&b, (struct jpeg_how){JCS_CMYK, 4, false, 95, false, JCS_YCCK}, 24, 24, 3);
	uint8_t inks[24 * 24 * 4], rgb[24 * 24 * 3];
	sample_pixels(inks, 4, 24, 24, 3);
	for (int i = 0; i < 24 * 24 * 3; i++)
		rgb[i] = (uint8_t)((inks[i / 3 * 4 + i % 3] * inks[i / 3 * 4 + 3] + 127) / 255);
	CHECK(!decode_how(&b, 3, 0, 0, &wasd_prepare_default, &im, NULL));
	CHECK_MSG(worst(im.chw, 3, 24, 24, rgb, 3) <= 14, "off by %d",
	          worst(im.chw, 3, 24, 24, rgb, 3)); /* the same as for YCbCr of this quality */
	wasd_free(im.chw);
	wasd_buf_done(&b);
}

static void orientations(void)
{
	static const struct {
		const uint8_t *png;
		size_t len;
		const uint8_t *want;
	} rows[] = {
#define ROW(n) {turned##n##_png, sizeof turned##n##_png, turned##n}
		ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8),
	};
	for (int i = 0; i < 8; i++) {
		blob b = {.data = (char *)(uintptr_t)rows[i].png, .len = rows[i].len};
		struct image im;
		const uint8_t *want = rows[i].want;
		CHECK(!decode_how(&b, 0, 0, 0, &wasd_prepare_default, &im, NULL));
		CHECK_MSG(im.w == want[0] && im.h == want[1] && !memcmp(im.chw, want + 2, 6), "orientation %d", i + 1);
		CHECK_INT(im.notes, i ? NOTE_TURNED : 0);
		wasd_free(im.chw);
		CHECK(!decode_how(&b, 0, 0, 0, &unrecorded, &im, NULL));
		CHECK_MSG(im.w == 3 && im.h == 2 && !memcmp(im.chw, turned1 + 2, 6), "orientation %d, as stored", i + 1);
		wasd_free(im.chw);
	}
}

/* Exif before a JPEG's other markers, in either byte order; and no byte sequence makes the parser read past its end. */
static void exif_blocks(void)
{
	static const uint8_t le[] = {'I', 'I', 42, 0, 8, 0,    0, 0, 2, 0, 0x0f, 1, 2, 0, 1, 0, 0,
	                             0,   0,   0,  0, 0, 0x12, 1, 3, 0, 1, 0,    0, 0, 6, 0, 0, 0};
	static const uint8_t be[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0};
	CHECK_INT(exif_orientation(le, sizeof le), 6);
	CHECK_INT(exif_orientation(be, sizeof be), 8);
	blob good = {0}, b = {0};
	struct image plain, turned;
	make_jpeg(&good, 3, 24, 16, 2);
	wasd_buf_append(&b, good.data, 2);
	wasd_buf_append(&b,
	                "\xff\xe1\0\x2a"
	                "Exif\0\0",
	                10);
	wasd_buf_append(&b, le, sizeof le);
	wasd_buf_append(&b, good.data + 2, good.len - 2);
	CHECK(!decode_how(&good, 1, 0, 0, &wasd_prepare_default, &plain, NULL) &&
	      !decode_how(&b, 1, 0, 0, &wasd_prepare_default, &turned, NULL));
	CHECK(turned.h == 16 && turned.w == 24 && turned.notes == NOTE_TURNED);
	int wrong = 0;
	for (int y = 0; y < 24; y++)
		for (int x = 0; x < 16; x++)
			wrong += turned.chw[x * 24 + 23 - y] != plain.chw[y * 16 + x];
	CHECK_INT(wrong, 0);
	wasd_free(plain.chw);
	wasd_free(turned.chw);
	wasd_buf_done(&good);
	wasd_buf_done(&b);
	struct wasd_rng r;
	wasd_rng_init(&r, 5, "exif", 0, 0);
	for (int turn = 0; turn < 20000; turn++) {
		size_t n = wasd_rng_below(&r, sizeof le + 1);
		uint8_t *p = malloc(n ? n : 1); /* the sanitizer detects a read past the end */
		memcpy(p, le, n);
		for (int k = 0; n && k < 3; k++)
			p[wasd_rng_below(&r, (uint32_t)n)] ^= (uint8_t)(1u << wasd_rng_below(&r, 8));
		int o = exif_orientation(p, n);
		CHECK(o >= 0 && o <= 8);
		free(p);
	}
}

static void fits(void)
{
	struct wasd_prepare how = wasd_prepare_default;
	for (int crop = 0; crop < 2; crop++) {
		struct image im;
		const uint8_t *want = crop ? wide_cropped : wide_squeezed;
		how.fit = crop ? WASD_CROP : WASD_SQUEEZE;
		CHECK(!decode_how(BLOB(wide_png), 1, 5, 5, &how, &im, NULL));
		CHECK_MSG(im.h == 5 && im.w == 5 && worst_value(im.chw, want, 25) <= 1, "crop %d: off by %d", crop,
		          worst_value(im.chw, want, 25));
		wasd_free(im.chw);
	}
}

/* The crops of WASD_CROPS are Pillow's at the start, the centre and the end; a data set gets the one at the centre. */
static void several_crops(void)
{
	static const struct {
		enum wasd_fit fit;
		int n;
	} rows[] = {{WASD_CROPS, 3}, {WASD_CROP, 1}, {WASD_SQUEEZE, 1}};
	for (int tall = 0; tall < 2; tall++)
		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
			const blob *b = tall ? BLOB(tall_png) : BLOB(wide_png);
			const uint8_t *want = tall ? tall_crops : wide_crops;
			struct wasd_prepare how = wasd_prepare_default;
			uint8_t *got = NULL;
			struct image one;
			int n = 0, h = 0, w = 0;
			how.fit = rows[i].fit;
			CHECK(!wasd_image_decode(b->data, b->len, 1, 5, 5, &how, &got, &h, &w, &n, NULL));
			CHECK(h == 5 && w == 5);
			CHECK_INT(n, rows[i].n);
			if (n == 3)
				CHECK_MSG(worst_value(got, want, 75) <= 1, "tall %d: off by %d", tall, worst_value(got, want, 75));
			CHECK(!decode_how(b, 1, 5, 5, &how, &one, NULL));
			CHECK(!memcmp(one.chw, n == 3 ? got + 25 : got, 25));
			wasd_free(one.chw);
			wasd_free(got);
		}
}

static void numbers_of_crops(void)
{
	static const struct {
		int h, w, oh, ow, n;
		const char *why;
	} rows[] = {
		{64, 64, 32, 32, 1, "the same aspect ratio"},
		{10, 40, 8, 32, 1, "the same that is not 1"},
		{64, 65, 32, 32, 1, "a column too many"},
		{65, 64, 32, 32, 1, "a row too many"},
		{64, 66, 32, 32, 3, "two columns too many"},
		{66, 64, 32, 32, 3, "two rows too many"},
		{10, 41, 8, 32, 1, "a column too many for a wide target"},
		{10, 42, 8, 32, 3, "two columns too many for it"},
		{11, 40, 8, 32, 1, "a row too many for it"},
		{12, 40, 8, 32, 3, "two rows too many for it"},
		{1, 1 << 26, 512, 8, 3, "a picture of one row"},
		{1 << 26, 1, 8, 512, 3, "a picture of one column"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		CHECK_MSG(image_crops(rows[i].h, rows[i].w, rows[i].oh, rows[i].ow) == rows[i].n, "%s", rows[i].why);
}

static void backgrounds(void)
{
	static const struct {
		uint8_t colour[3];
		const uint8_t *want;
	} rows[] = {{{255, 255, 255}, clear_on_white}, {{255, 128, 0}, clear_on_orange}};
	static const uint8_t black[] = {0, 3, 8, 10, 0, 50, 157, 200, 0, 8, 24, 30}; /* v * a / 255, as before */
	struct wasd_prepare how = wasd_prepare_default;
	struct image im;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		memcpy(how.background, rows[i].colour, 3);
		CHECK(!decode_how(BLOB(clear_png), 3, 0, 0, &how, &im, NULL));
		CHECK_MSG(worst_value(im.chw, rows[i].want, 12) <= 1 && im.notes == NOTE_FLATTENED, "row %zu: off by %d", i,
		          worst_value(im.chw, rows[i].want, 12));
		wasd_free(im.chw);
	}
	CHECK(!decode_how(BLOB(clear_png), 3, 0, 0, &unrecorded, &im, NULL));
	CHECK(!memcmp(im.chw, black, 12));
	wasd_free(im.chw);
	/* Grey with alpha stays grey over grey and becomes colour over a colour. */
	blob b = {0};
	make_png_raw(&b, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, 0, 1, 2, (uint8_t[]){7, 0, 9, 255}, 4, NULL);
	for (int colour = 0; colour < 2; colour++) {
		memcpy(how.background, colour ? "\xff\x80" : "\x50\x50\x50", 3);
		CHECK(!decode_how(&b, 0, 0, 0, &how, &im, NULL));
		CHECK_INT(im.c, colour ? 3 : 1);
		CHECK(!memcmp(im.chw, colour ? "\xff\x09\x80\x09\x00\x09" : "\x50\x09", colour ? 6 : 2));
		wasd_free(im.chw);
	}
	wasd_buf_done(&b);
}

/* A transparent entry of a palette, and the transparent grey of a grey picture. */
static void transparent_chunks(void)
{
	struct spng_plte plte = {.n_entries = 2, .entries = {{10, 20, 30, 255}, {40, 50, 60, 255}}};
	struct spng_trns trns = {.n_type3_entries = 1, .type3_alpha = {0}, .gray = 7};
	for (int grey = 0; grey < 2; grey++) {
		blob b = {0};
		struct image im;
		spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
		struct spng_ihdr head = {.width = 2,
		                         .height = 1,
		                         .bit_depth = 8,
		                         .color_type = grey ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_INDEXED};
		size_t n = 0;
		int e;
		spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
		CHECK(!spng_set_ihdr(ctx, &head) && (grey || !spng_set_plte(ctx, &plte)) && !spng_set_trns(ctx, &trns));
		CHECK(!spng_encode_image(ctx, grey ? "\7\x28" : "\0\1", 2, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE));
		void *p = spng_get_png_buffer(ctx, &n, &e);
		wasd_buf_append(&b, p, n);
		free(p);
		spng_ctx_free(ctx);
		CHECK(!decode_how(&b, 3, 0, 0, &wasd_prepare_default, &im, NULL));
		CHECK(!memcmp(im.chw, grey ? "\xff\x28\xff\x28\xff\x28" : "\xff\x28\xff\x32\xff\x3c", 6));
		CHECK_INT(im.notes, NOTE_FLATTENED);
		wasd_free(im.chw);
		wasd_buf_done(&b);
	}
}

/* ---- remarks of libjpeg ------------------------------------------------------------------------ */

static size_t find_marker(const blob *b, int marker)
{
	size_t i = 2;
	while ((uint8_t)b->data[i] != 0xff || (uint8_t)b->data[i + 1] != marker)
		i++;
	return i;
}

static void insert(blob *b, size_t at, const char *bytes, size_t n)
{
	blob out = {0};
	wasd_buf_append(&out, b->data, at);
	wasd_buf_append(&out, bytes, n);
	wasd_buf_append(&out, b->data + at, b->len - at);
	wasd_buf_done(b);
	*b = out;
}

static void version_000(blob *b)
{
	memcpy(b->data + 11, "\0\0", 2);
}
static void version_201(blob *b)
{
	memcpy(b->data + 11, "\2\1", 2);
}
static void spare_before_tables(blob *b)
{
	insert(b, find_marker(b, 0xdb), "\0\1\2", 3);
}
static void spare_before_scan(blob *b)
{
	insert(b, find_marker(b, 0xda), "spare", 5);
}
static void spare_before_end(blob *b)
{
	insert(b, find_marker(b, 0xd9), "\0\0\0\0\0\0\0\0", 8);
}
static void spectrum(blob *b)
{
	b->data[find_marker(b, 0xda) + 12] = 62;
} /* "Se" of a baseline file, which is 63 */
static void cut_out(blob *b, size_t at, size_t n)
{
	memmove(b->data + at, b->data + at + n, b->len - at - n);
	b->len -= n;
}
static void adobe_code(blob *b)
{
	cut_out(b, 2, 18);
	insert(b, 2,
	       "\xff\xee\0\x0e"
	       "Adobe\0\x64\0\0\0\0\x07",
	       16);
}

static void harmless_remarks(void)
{
	static const struct {
		const char *what;
		void (*change)(blob *b);
		const char *odd;
	} rows[] = {
		{"JFIF 0.00", version_000, "revision number 0.00"},
		{"JFIF 2.01", version_201, "revision number 2.01"},
		{"spare bytes before the tables", spare_before_tables, "3 extraneous bytes"},
		{"spare bytes before the scan", spare_before_scan, "5 extraneous bytes"},
		{"spare bytes before the end", spare_before_end, "extraneous bytes before marker 0xd9"},
		{"spectral parameters in a baseline file", spectrum, "SOS parameters"},
		{"code in Adobe's marker", adobe_code, "color transform code 7"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		blob b = {0};
		struct image good, odd = {0};
		struct wasd_err err = {0};
		make_jpeg(&b, 3, 40, 40, 1);
		CHECK(!decode_how(&b, 0, 0, 0, &wasd_prepare_default, &good, NULL));
		rows[i].change(&b);
		CHECK_MSG(!decode_how(&b, 0, 0, 0, &wasd_prepare_default, &odd, &err), "%s: %s", rows[i].what, err.msg);
		CHECK_MSG(odd.chw && !memcmp(odd.chw, good.chw, 3 * 40 * 40), "%s: other pixels", rows[i].what);
		CHECK_MSG(odd.notes == NOTE_ODD && strstr(odd.odd, rows[i].odd), "%s: notes %u, %s", rows[i].what, odd.notes,
		          odd.odd);
		wasd_free(good.chw);
		wasd_free(odd.chw);
		wasd_buf_done(&b);
	}
}

/* ---- large pictures ------------------------------------------------------------------------------- */

/* A smooth grey picture with edges, one of them far to the right, where an error of the reduction would show. */
static uint8_t large_pixel(int x, int y, int h, int w)
{
	return (uint8_t)(20 + 40 * x / w + 40 * y / h + (x > w / 3 && y > h / 2 ? 30 : 0) +
	                 (x % (w / 16) > w / 32 ? 120 : 0));
}

static uint8_t *large_pixels(int h, int w)
{
	uint8_t *p = malloc((size_t)h * (size_t)w);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			p[(size_t)y * (size_t)w + (size_t)x] = large_pixel(x, y, h, w);
	return p;
}

static void large_pictures(void)
{
	static const struct {
		const char *what;
		bool png;
		int interlace, h, w, side;
		enum wasd_fit fit;
		bool reduced;
	} rows[] = {
		{"JPEG of 24 Mpixel", false, 0, 4000, 6000, 32, WASD_SQUEEZE, true},
		{"JPEG of 48 Mpixel, cropped", false, 0, 6000, 8000, 64, WASD_CROP, true},
		{"progressive JPEG of 24 Mpixel", false, 1, 4000, 6000, 224, WASD_SQUEEZE, true},
		{"JPEG of 12 Mpixel", false, 0, 3000, 4000, 32, WASD_SQUEEZE, true},
		{"JPEG of 12 Mpixel to more than an eighth", false, 0, 3000, 4000, 376, WASD_SQUEEZE, false},
		{"PNG of 24 Mpixel", true, 0, 4000, 6000, 32, WASD_SQUEEZE, true},
		{"interlaced PNG of 24 Mpixel", true, 1, 4000, 6000, 32, WASD_CROP, true},
		{"PNG of 24 Mpixel, the crop at its centre", true, 0, 4000, 6000, 32, WASD_CROPS, true},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		blob b = {0};
		struct image im = {0};
		struct wasd_err err = {0};
		struct wasd_prepare how = wasd_prepare_default;
		int side = rows[i].side;
		how.fit = rows[i].fit;
		int h = rows[i].h, w = rows[i].w;
		uint8_t *all = large_pixels(h, w), *want = malloc((size_t)(side * side));
		if (rows[i].png)
			make_png_raw(&b, SPNG_COLOR_TYPE_GRAYSCALE, 8, rows[i].interlace, h, w, all, (size_t)h * (size_t)w, NULL);
		else
			make_jpeg_of(&b, (struct jpeg_how){JCS_GRAYSCALE, 1, rows[i].interlace, 90, false, 0}, h, w, all);
		CHECK(!image_fit(all, 1, h, w, how.fit, side, side, want, NULL));
		CHECK_MSG(!decode_how(&b, 1, side, side, &how, &im, &err), "%s: %s", rows[i].what, err.msg);
		if (im.chw) {
			CHECK_MSG(im.notes == (rows[i].reduced ? NOTE_REDUCED : 0), "%s: notes %u", rows[i].what, im.notes);
			int off = worst_value(im.chw, want, (size_t)(side * side));
			CHECK_MSG(off <= 5, "%s: off by %d", rows[i].what,
			          off); /* the picture has edges of 120 steps; a reduced one may be a third of a box out of place */
		}
		free(all);
		free(want);
		wasd_free(im.chw);
		wasd_buf_done(&b);
	}
}

/* ---- refused ---------------------------------------------------------------------------- */

static void chunk(blob *b, const char *type, const void *data, size_t n)
{
	blob_u32be(b, (uint32_t)n);
	size_t at = b->len;
	wasd_buf_append(b, type, 4);
	wasd_buf_append(b, data, n);
	blob_u32be(b, (uint32_t)crc32(0, (const Bytef *)b->data + at, (uInt)(b->len - at)));
}

static void png_head(blob *b, uint32_t w, uint32_t h, int depth, int type)
{
	blob ihdr = {0};
	wasd_buf_append(b, "\x89PNG\r\n\x1a\n", 8);
	blob_u32be(&ihdr, w);
	blob_u32be(&ihdr, h);
	wasd_buf_append(&ihdr, (uint8_t[]){(uint8_t)depth, (uint8_t)type, 0, 0, 0}, 5);
	chunk(b, "IHDR", ihdr.data, ihdr.len);
	wasd_buf_done(&ihdr);
}

static void png_body(blob *b, int rows, int bytes_per_row)
{
	uint8_t raw[4096] = {0}, z[4200];
	uLongf n = sizeof z;
	compress(z, &n, raw, (uLong)(rows * (1 + bytes_per_row)));
	chunk(b, "IDAT", z, n);
	chunk(b, "IEND", "", 0);
}

static void zipped_chunk(blob *b, const char *type, const char *prefix, size_t prefix_len, size_t unpacked)
{
	blob c = {0};
	uLongf n = compressBound((uLong)unpacked);
	Bytef *z = malloc(n), *zero = calloc(1, unpacked);
	compress(z, &n, zero, (uLong)unpacked);
	wasd_buf_append(&c, prefix, prefix_len);
	wasd_buf_append(&c, z, n);
	chunk(b, type, c.data, c.len);
	wasd_buf_done(&c);
	free(z);
	free(zero);
}

static void bad_magic(blob *b)
{
	wasd_buf_puts(b, "hello, I am text");
}
static void empty(blob *b)
{
	(void)b;
}
static void gif(blob *b)
{
	wasd_buf_append(b, "GIF89a\1\0\1\0\0\0\0", 13);
}
static void webp(blob *b)
{
	wasd_buf_append(b, "RIFF\x10\0\0\0WEBPVP8 ", 16);
}
static void png_huge(blob *b)
{
	png_head(b, 0x7fffffff, 0x7fffffff, 8, 2);
	png_body(b, 1, 3);
}
static void png_17mpx(blob *b)
{
	png_head(b, 17 << 10, 1 << 10, 8, 0);
	png_body(b, 1, 3);
}
static void png_over_2_31(blob *b)
{
	png_head(b, 0x80000000u, 1, 8, 2);
	png_body(b, 1, 3);
}
static void png_empty_picture(blob *b)
{
	png_head(b, 0, 5, 8, 2);
	png_body(b, 1, 3);
}
static void png_depth_3(blob *b)
{
	png_head(b, 4, 4, 3, 0);
	png_body(b, 4, 2);
}
static void png_type_5(blob *b)
{
	png_head(b, 4, 4, 8, 5);
	png_body(b, 4, 4);
}
static void png_no_palette(blob *b)
{
	png_head(b, 4, 4, 8, 3);
	png_body(b, 4, 4);
}
static void png_short_rows(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	png_body(b, 3, 12);
}
static void png_no_idat(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	chunk(b, "IEND", "", 0);
}
static void png_no_end(blob *b)
{
	make_png(b, 3, 8, 8, 1);
	b->len -= 12;
}
static void png_crc(blob *b)
{
	make_png(b, 3, 8, 8, 1);
	b->data[29] ^= 1;
}
static void png_crc_ancillary(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	chunk(b, "tEXt", "a\0b", 3);
	b->data[b->len - 1] ^= 1;
	png_body(b, 4, 12);
}
static void png_iccp_bomb(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	zipped_chunk(b, "iCCP", "x\0\0", 3, 64 << 20);
	png_body(b, 4, 12);
}
static void png_ztxt_bomb(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	zipped_chunk(b, "zTXt", "x\0\0", 3, 64 << 20);
	png_body(b, 4, 12);
}
static void png_many_chunks(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	for (int i = 0; i < 1100; i++)
		chunk(b, "tEXt", "a\0b", 3);
	png_body(b, 4, 12);
}
static void jpeg_cut(blob *b)
{
	make_jpeg(b, 3, 40, 40, 1);
	b->len /= 2;
}
static void jpeg_two_inks(blob *b)
{
	make_jpeg_how(b, (struct jpeg_how){JCS_UNKNOWN, 2, false, 90, false, 0}, 16, 16, 1);
}
static void jpeg_no_picture(blob *b)
{
	wasd_buf_append(b, "\xff\xd8\xff\xd9", 4);
}
/* Modifies the frame header of a good file: at SOF0 + 4 precision, + 5 height, + 7 width. */
static void jpeg_patch(blob *b, int at, const char *bytes, size_t n)
{
	make_jpeg(b, 3, 16, 16, 1);
	for (size_t i = 2; i + 9 < b->len; i++)
		if ((uint8_t)b->data[i] == 0xff && (uint8_t)b->data[i + 1] == 0xc0) {
			memcpy(b->data + i + at, bytes, n);
			return;
		}
}
static void jpeg_25mpx(blob *b)
{
	jpeg_patch(b, 5, "\x13\x88\x13\x88", 4);
}
static void jpeg_65535(blob *b)
{
	jpeg_patch(b, 5, "\xff\xff\xff\xff", 4);
}
static void jpeg_12bit(blob *b)
{
	jpeg_patch(b, 4, "\x0c", 1);
}
static void jpeg_no_height(blob *b)
{
	jpeg_patch(b, 5, "\0\0", 2);
}
static void jpeg_larger_than_data(blob *b)
{
	jpeg_patch(b, 5, "\x01\x00\x01\x00", 4);
}
/* A file of one scan per component whose first scan is repeated a thousand times: legal codes without end. */
static void jpeg_1000_scans(blob *b)
{
	size_t sos = 0, end;
	blob scan = {0};
	make_jpeg_how(b, (struct jpeg_how){JCS_RGB, 3, false, 90, true, 0}, 16, 16, 1);
	while ((uint8_t)b->data[sos] != 0xff || (uint8_t)b->data[sos + 1] != 0xda)
		sos++;
	for (end = sos + 2; (uint8_t)b->data[end] != 0xff || !b->data[end + 1];)
		end++;
	wasd_buf_append(&scan, b->data + sos, end - sos);
	b->len = end;
	for (int i = 0; i < 1000; i++)
		wasd_buf_append(b, scan.data, scan.len);
	wasd_buf_append(b, "\xff\xd9", 2);
	wasd_buf_done(&scan);
}

static const struct {
	const char *name;
	void (*make)(blob *b);
	enum wasd_status status;
	const char *message;
} bad[] = {
	{"text", bad_magic, WASD_EUNSUPPORTED, "neither a PNG nor a JPEG"},
	{"empty", empty, WASD_ECORRUPT, "empty file"},
	{"gif", gif, WASD_EUNSUPPORTED, "GIF"},
	{"webp", webp, WASD_EUNSUPPORTED, "WebP"},
	{"png of 2^31-1 squared", png_huge, WASD_ETOOBIG, "2147483647x2147483647 pixels"},
	{"png of 17 Mpixel", png_17mpx, WASD_ETOOBIG, "17408x1024"},
	{"png wider than the format allows", png_over_2_31, WASD_ETOOBIG, "2147483648x1"},
	{"png without pixels", png_empty_picture, WASD_ECORRUPT, "PNG"},
	{"png of 3 bits", png_depth_3, WASD_ECORRUPT, "PNG"},
	{"png of colour type 5", png_type_5, WASD_ECORRUPT, "PNG"},
	{"png palette missing", png_no_palette, WASD_ECORRUPT, "PNG"},
	{"png with a row too few", png_short_rows, WASD_ECORRUPT, "PNG"},
	{"png without pixel data", png_no_idat, WASD_ECORRUPT, "PNG"},
	{"png without its end", png_no_end, WASD_ECORRUPT, "PNG"},
	{"png header checksum", png_crc, WASD_ECORRUPT, "PNG"},
	{"png text checksum", png_crc_ancillary, WASD_ECORRUPT, "PNG"},
	{"png profile of 64 MiB", png_iccp_bomb, WASD_ETOOBIG, "PNG"},
	{"png text of 64 MiB", png_ztxt_bomb, WASD_ETOOBIG, "PNG"},
	{"png of 1100 text chunks", png_many_chunks, WASD_ETOOBIG, "PNG"},
	{"jpeg cut in the middle", jpeg_cut, WASD_ECORRUPT, "Premature end"},
	{"jpeg of two colours", jpeg_two_inks, WASD_EUNSUPPORTED, "2 components"},
	{"jpeg without a picture", jpeg_no_picture, WASD_ECORRUPT, "JPEG"},
	{"jpeg of 65535 squared", jpeg_65535, WASD_ETOOBIG, "65500 pixels"},
	{"jpeg of 5000 squared", jpeg_25mpx, WASD_ETOOBIG, "5000x5000 pixels"},
	{"jpeg of 12 bits", jpeg_12bit, WASD_EUNSUPPORTED, "12"},
	{"jpeg without height", jpeg_no_height, WASD_ECORRUPT, "JPEG"},
	{"jpeg larger than its data", jpeg_larger_than_data, WASD_ECORRUPT, "JPEG"},
	{"jpeg of 1000 scans", jpeg_1000_scans, WASD_ETOOBIG, "100 scans"},
};

static void refuses(void)
{
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		blob b = {0};
		uint8_t *out = NULL;
		struct wasd_err err = {0};
		struct wasd_mem_stats before, after;
		bad[i].make(&b);
		before = wasd_mem_stats();
		enum wasd_status s = decode(&b, 3, 0, 0, &out, NULL, NULL, &err);
		after = wasd_mem_stats();
		CHECK_MSG(s == bad[i].status, "%s: %s (%s)", bad[i].name, wasd_status_name(s), err.msg);
		CHECK_MSG(strstr(err.msg, bad[i].message), "%s: %s", bad[i].name, err.msg);
		CHECK(!out);
		CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
		wasd_buf_done(&b);
	}
}

/* Every truncated file is rejected; every flipped byte is rejected or gives a picture of sane size. Never a crash. */
static void damage(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 11, "damage", 0, 0);
	for (int kind = 0; kind < 4; kind++) {
		blob b = {0};
		uint8_t flat[512] = {9};
		int opened = 0;
		if (kind == 0)
			make_png(&b, 3, 24, 24, 1);
		else if (kind == 1)
			make_png_raw(&b, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, 1, 16, 16, flat, sizeof flat, NULL);
		else
			make_jpeg_how(&b, (struct jpeg_how){JCS_RGB, 3, kind == 3, 80, false, 0}, 24, 24, 1);
		blob cut = b;
		for (cut.len = 0; cut.len < b.len - (kind < 2 ? 4 : 2); cut.len += 1 + wasd_rng_below(&r, 5)) {
			uint8_t *out = NULL;
			CHECK_MSG(decode(&cut, 3, 0, 0, &out, NULL, NULL, NULL), "kind %d cut to %zu of %zu", kind, cut.len, b.len);
			wasd_free(out);
		}
		for (int turn = 0; turn < 1500; turn++) {
			size_t at = wasd_rng_below(&r, (uint32_t)b.len);
			char old = b.data[at];
			uint8_t *out = NULL;
			int h = 0, w = 0;
			b.data[at] = (char)(old ^ (1 << wasd_rng_below(&r, 8)));
			if (!decode(&b, 3, 16, 16, &out, &h, &w, NULL)) {
				CHECK(h == 16 && w == 16);
				opened++;
			}
			wasd_free(out);
			b.data[at] = old;
		}
		CHECK_MSG(kind >= 2 || opened == 0, "%d damaged PNG files were read", opened);
		wasd_buf_done(&b);
	}
}

static void without_memory(void)
{
	for (int jpeg = 0; jpeg < 2; jpeg++) {
		blob b = {0};
		uint64_t n = 1;
		if (jpeg)
			make_jpeg(&b, 3, 24, 24, 1);
		else
			make_png(&b, 3, 24, 24, 1);
		for (; n < 100; n++) {
			uint8_t *out = NULL;
			struct wasd_mem_stats before = wasd_mem_stats(), after;
			wasd_mem_fail_at(n);
			enum wasd_status s = wasd_image_decode(b.data, b.len, 3, 16, 16, &wasd_prepare_default, &out, NULL, NULL,
			                                       NULL, NULL);
			wasd_mem_fail_at(0);
			wasd_free(out);
			after = wasd_mem_stats();
			CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
			if (!s)
				break;
			CHECK_MSG(s == WASD_ENOMEM, "allocation %llu: %s", (unsigned long long)n, wasd_status_name(s));
		}
		CHECK(n > 5 && n < 100);
		wasd_buf_done(&b);
	}
}

int main(void)
{
	TEST_RUN(reads_png);
	TEST_RUN(reads_palette_and_bits);
	TEST_RUN(reads_jpeg);
	TEST_RUN(grey_of_colour);
	TEST_RUN(resizes);
	TEST_RUN(round_trip_preview);
	TEST_RUN(four_inks);
	TEST_RUN(orientations);
	TEST_RUN(exif_blocks);
	TEST_RUN(fits);
	TEST_RUN(several_crops);
	TEST_RUN(numbers_of_crops);
	TEST_RUN(backgrounds);
	TEST_RUN(transparent_chunks);
	TEST_RUN(harmless_remarks);
	TEST_RUN(large_pictures);
	TEST_RUN(refuses);
	TEST_RUN(damage);
	TEST_RUN(without_memory);
	TEST_END();
}
