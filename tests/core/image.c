/* Decoding one picture: every variant that is read, every one that is refused, and damage of all kinds. */
#include "core/data_samples.h"
#include "data/image.h"

#include <zlib.h>

static enum wasd_status decode(const blob *b, int c, int h, int w, uint8_t **out, int *oh, int *ow, struct wasd_err *err)
{
	/* Exactly as long as the data, so that a read past the end is seen by the sanitizer. */
	void *p = malloc(b->len ? b->len : 1);
	if (b->len)
		memcpy(p, b->data, b->len);
	enum wasd_status s = wasd_image_decode(p, b->len, c, h, w, out, oh, ow, err);
	free(p);
	return s;
}

/* Greatest difference of a decoded (c,h,w) to the interleaved source of sc channels, grey replicated. */
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
	static const struct { enum spng_color_type type; int depth, c; } rows[] = {
		{ SPNG_COLOR_TYPE_GRAYSCALE, 8, 1 }, { SPNG_COLOR_TYPE_TRUECOLOR, 8, 3 },
		{ SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, 2 }, { SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 8, 4 },
		{ SPNG_COLOR_TYPE_GRAYSCALE, 16, 1 }, { SPNG_COLOR_TYPE_TRUECOLOR, 16, 3 },
	};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
		for (int interlace = 0; interlace < 2; interlace++) {
			int c = rows[r].c, colours = c > 2 ? 3 : 1, oh, ow, oc;
			uint8_t raw[H * W * 8], want[H * W * 3], *got = NULL;
			blob b = { 0 };
			struct wasd_err err = { 0 };
			sample_pixels(raw, c, H, W, (int)r);
			for (int i = 0; i < H * W; i++)
				for (int k = 0; k < colours; k++) {
					int v = raw[i * c + k], a = c % 2 ? 255 : raw[i * c + c - 1];
					want[i * colours + k] = (uint8_t)((v * a + 127) / 255);
				}
			if (rows[r].depth == 16)
				for (int i = H * W * c; i--;)
					raw[2 * i] = raw[2 * i + 1] = raw[i];
			make_png_raw(&b, rows[r].type, rows[r].depth, interlace, H, W, raw, (size_t)(H * W * c * rows[r].depth / 8), NULL);
			CHECK_MSG(!image_decode(b.data, b.len, 0, 0, 0, &got, &oc, &oh, &ow, &err), "row %zu: %s", r, err.msg);
			if (!got)
				continue;
			CHECK(oc == colours && oh == H && ow == W);
			CHECK_MSG(worst(got, colours, H, W, want, colours) == 0, "row %zu interlace %d: off by %d", r, interlace, worst(got, colours, H, W, want, colours));
			wasd_free(got);
			wasd_buf_done(&b);
		}
}

static void reads_palette_and_bits(void)
{
	struct spng_plte plte = { .n_entries = 4 };
	for (int i = 0; i < 4; i++)
		plte.entries[i] = (struct spng_plte_entry){ (uint8_t)(i * 60), (uint8_t)(255 - i), (uint8_t)(i * 9), 255 };
	uint8_t raw[2] = { 0x1b, 0xe4 }, *got;      /* two rows of 0 1 2 3 / 3 2 1 0 in 2 bits */
	int h, w;
	blob b = { 0 };
	make_png_raw(&b, SPNG_COLOR_TYPE_INDEXED, 2, 0, 2, 4, raw, 2, &plte);
	CHECK(!decode(&b, 3, 0, 0, &got, &h, &w, NULL));
	for (int i = 0; i < 8; i++) {
		int k = i < 4 ? i : 7 - i;
		CHECK(got[i] == k * 60 && got[8 + i] == 255 - k && got[16 + i] == k * 9);
	}
	wasd_free(got);
	wasd_buf_done(&b);
	b = (blob){ 0 };
	make_png_raw(&b, SPNG_COLOR_TYPE_GRAYSCALE, 1, 0, 2, 8, (uint8_t[]){ 0xa5, 0x0f }, 2, NULL);
	CHECK(!decode(&b, 1, 0, 0, &got, &h, &w, NULL));
	CHECK(got[0] == 255 && got[1] == 0 && got[7] == 255 && got[8] == 0 && got[15] == 255);
	wasd_free(got);
	wasd_buf_done(&b);
}

static void reads_jpeg(void)
{
	enum { H = 37, W = 50 };
	uint8_t want[H * W * 3], *got;
	for (int c = 1; c <= 3; c += 2)
		for (int progressive = 0; progressive < 2; progressive++) {
			blob b = { 0 };
			int oh, ow, oc;
			make_jpeg_how(&b, (struct jpeg_how){ c == 1 ? JCS_GRAYSCALE : JCS_RGB, c, progressive, 98, false }, H, W, 3);
			sample_pixels(want, c, H, W, 3);
			CHECK(!image_decode(b.data, b.len, 0, 0, 0, &got, &oc, &oh, &ow, NULL));
			CHECK(oc == c && oh == H && ow == W);
			CHECK_MSG(worst(got, c, H, W, want, c) <= 12, "off by %d", worst(got, c, H, W, want, c));
			wasd_free(got);
			CHECK(!decode(&b, 3, 0, 0, &got, &oh, &ow, NULL));
			CHECK(worst(got, 3, H, W, want, c) <= 12);
			wasd_free(got);
			wasd_buf_done(&b);
		}
}

/* Colour to grey is luma, by either codec. */
static void grey_of_colour(void)
{
	enum { H = 20, W = 20 };
	uint8_t src[H * W * 3], want[H * W], *got;
	int h, w;
	sample_pixels(src, 3, H, W, 5);
	for (int i = 0; i < H * W; i++)
		want[i] = (uint8_t)lround(0.299 * src[3 * i] + 0.587 * src[3 * i + 1] + 0.114 * src[3 * i + 2]);
	for (int jpeg = 0; jpeg < 2; jpeg++) {
		blob b = { 0 };
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
	/* A constant stays, whatever the size. */
	uint8_t flat[8 * 8];
	memset(flat, 77, sizeof flat);
	static const int sizes[] = { 1, 2, 3, 5, 8, 13, 64 };
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
		CHECK(!wasd_image_png(chw, (struct wasd_shape){ c, H, W }, &png, &n, NULL));
		CHECK(!wasd_image_decode(png, n, c == 3 ? 3 : 1, 0, 0, &got, &h, &w, NULL));
		CHECK(h == H && w == W && !memcmp(got, chw, (size_t)(c == 3 ? 3 : 1) * H * W));
		wasd_free(got);
		wasd_free(png);
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
	blob ihdr = { 0 };
	wasd_buf_append(b, "\x89PNG\r\n\x1a\n", 8);
	blob_u32be(&ihdr, w);
	blob_u32be(&ihdr, h);
	wasd_buf_append(&ihdr, (uint8_t[]){ (uint8_t)depth, (uint8_t)type, 0, 0, 0 }, 5);
	chunk(b, "IHDR", ihdr.data, ihdr.len);
	wasd_buf_done(&ihdr);
}

static void png_body(blob *b, int rows, int bytes_per_row)
{
	uint8_t raw[4096] = { 0 }, z[4200];
	uLongf n = sizeof z;
	compress(z, &n, raw, (uLong)(rows * (1 + bytes_per_row)));
	chunk(b, "IDAT", z, n);
	chunk(b, "IEND", "", 0);
}

static void zipped_chunk(blob *b, const char *type, const char *prefix, size_t prefix_len, size_t unpacked)
{
	blob c = { 0 };
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

static void bad_magic(blob *b) { wasd_buf_puts(b, "hello, I am text"); }
static void empty(blob *b) { (void)b; }
static void gif(blob *b) { wasd_buf_append(b, "GIF89a\1\0\1\0\0\0\0", 13); }
static void webp(blob *b) { wasd_buf_append(b, "RIFF\x10\0\0\0WEBPVP8 ", 16); }
static void png_huge(blob *b) { png_head(b, 0x7fffffff, 0x7fffffff, 8, 2); png_body(b, 1, 3); }
static void png_17mpx(blob *b) { png_head(b, 17 << 10, 1 << 10, 8, 0); png_body(b, 1, 3); }
static void png_over_2_31(blob *b) { png_head(b, 0x80000000u, 1, 8, 2); png_body(b, 1, 3); }
static void png_empty_picture(blob *b) { png_head(b, 0, 5, 8, 2); png_body(b, 1, 3); }
static void png_depth_3(blob *b) { png_head(b, 4, 4, 3, 0); png_body(b, 4, 2); }
static void png_type_5(blob *b) { png_head(b, 4, 4, 8, 5); png_body(b, 4, 4); }
static void png_no_palette(blob *b) { png_head(b, 4, 4, 8, 3); png_body(b, 4, 4); }
static void png_short_rows(blob *b) { png_head(b, 4, 4, 8, 2); png_body(b, 3, 12); }
static void png_no_idat(blob *b) { png_head(b, 4, 4, 8, 2); chunk(b, "IEND", "", 0); }
static void png_no_end(blob *b) { make_png(b, 3, 8, 8, 1); b->len -= 12; }
static void png_crc(blob *b) { make_png(b, 3, 8, 8, 1); b->data[29] ^= 1; }
static void png_crc_ancillary(blob *b) { png_head(b, 4, 4, 8, 2); chunk(b, "tEXt", "a\0b", 3); b->data[b->len - 1] ^= 1; png_body(b, 4, 12); }
static void png_iccp_bomb(blob *b) { png_head(b, 4, 4, 8, 2); zipped_chunk(b, "iCCP", "x\0\0", 3, 64 << 20); png_body(b, 4, 12); }
static void png_ztxt_bomb(blob *b) { png_head(b, 4, 4, 8, 2); zipped_chunk(b, "zTXt", "x\0\0", 3, 64 << 20); png_body(b, 4, 12); }
static void png_many_chunks(blob *b)
{
	png_head(b, 4, 4, 8, 2);
	for (int i = 0; i < 1100; i++)
		chunk(b, "tEXt", "a\0b", 3);
	png_body(b, 4, 12);
}
static void jpeg_cut(blob *b) { make_jpeg(b, 3, 40, 40, 1); b->len /= 2; }
static void jpeg_cmyk(blob *b) { make_jpeg_how(b, (struct jpeg_how){ JCS_CMYK, 4, false, 90, false }, 16, 16, 1); }
static void jpeg_no_picture(blob *b) { wasd_buf_append(b, "\xff\xd8\xff\xd9", 4); }
/* The frame header of a good file, changed: at SOF0 + 4 precision, + 5 height, + 7 width. */
static void jpeg_patch(blob *b, int at, const char *bytes, size_t n)
{
	make_jpeg(b, 3, 16, 16, 1);
	for (size_t i = 2; i + 9 < b->len; i++)
		if ((uint8_t)b->data[i] == 0xff && (uint8_t)b->data[i + 1] == 0xc0) {
			memcpy(b->data + i + at, bytes, n);
			return;
		}
}
static void jpeg_25mpx(blob *b) { jpeg_patch(b, 5, "\x13\x88\x13\x88", 4); }
static void jpeg_65535(blob *b) { jpeg_patch(b, 5, "\xff\xff\xff\xff", 4); }
static void jpeg_12bit(blob *b) { jpeg_patch(b, 4, "\x0c", 1); }
static void jpeg_no_height(blob *b) { jpeg_patch(b, 5, "\0\0", 2); }
static void jpeg_larger_than_data(blob *b) { jpeg_patch(b, 5, "\x01\x00\x01\x00", 4); }
/* A file of one scan per component whose first scan comes a thousand times: legal codes, without end. */
static void jpeg_1000_scans(blob *b)
{
	size_t sos = 0, end;
	blob scan = { 0 };
	make_jpeg_how(b, (struct jpeg_how){ JCS_RGB, 3, false, 90, true }, 16, 16, 1);
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

static const struct { const char *name; void (*make)(blob *b); enum wasd_status status; const char *message; } bad[] = {
	{ "text", bad_magic, WASD_EUNSUPPORTED, "neither PNG nor JPEG" },
	{ "empty", empty, WASD_ECORRUPT, "empty file" },
	{ "gif", gif, WASD_EUNSUPPORTED, "GIF" },
	{ "webp", webp, WASD_EUNSUPPORTED, "WebP" },
	{ "png of 2^31-1 squared", png_huge, WASD_ETOOBIG, "2147483647x2147483647 pixels" },
	{ "png of 17 Mpixel", png_17mpx, WASD_ETOOBIG, "17408x1024" },
	{ "png wider than the format allows", png_over_2_31, WASD_ETOOBIG, "2147483648x1" },
	{ "png without pixels", png_empty_picture, WASD_ECORRUPT, "PNG" },
	{ "png of 3 bits", png_depth_3, WASD_ECORRUPT, "PNG" },
	{ "png of colour type 5", png_type_5, WASD_ECORRUPT, "PNG" },
	{ "png palette missing", png_no_palette, WASD_ECORRUPT, "PNG" },
	{ "png with a row too few", png_short_rows, WASD_ECORRUPT, "PNG" },
	{ "png without pixel data", png_no_idat, WASD_ECORRUPT, "PNG" },
	{ "png without its end", png_no_end, WASD_ECORRUPT, "PNG" },
	{ "png header checksum", png_crc, WASD_ECORRUPT, "PNG" },
	{ "png text checksum", png_crc_ancillary, WASD_ECORRUPT, "PNG" },
	{ "png profile of 64 MiB", png_iccp_bomb, WASD_ETOOBIG, "PNG" },
	{ "png text of 64 MiB", png_ztxt_bomb, WASD_ETOOBIG, "PNG" },
	{ "png of 1100 text chunks", png_many_chunks, WASD_ETOOBIG, "PNG" },
	{ "jpeg cut in the middle", jpeg_cut, WASD_ECORRUPT, "Premature end" },
	{ "jpeg in CMYK", jpeg_cmyk, WASD_EUNSUPPORTED, "CMYK" },
	{ "jpeg without a picture", jpeg_no_picture, WASD_ECORRUPT, "JPEG" },
	{ "jpeg of 65535 squared", jpeg_65535, WASD_ETOOBIG, "65500 pixels" },
	{ "jpeg of 5000 squared", jpeg_25mpx, WASD_ETOOBIG, "5000x5000 pixels" },
	{ "jpeg of 12 bits", jpeg_12bit, WASD_EUNSUPPORTED, "12" },
	{ "jpeg without height", jpeg_no_height, WASD_ECORRUPT, "JPEG" },
	{ "jpeg larger than its data", jpeg_larger_than_data, WASD_ECORRUPT, "JPEG" },
	{ "jpeg of 1000 scans", jpeg_1000_scans, WASD_ETOOBIG, "100 scans" },
};

static void refuses(void)
{
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		blob b = { 0 };
		uint8_t *out = NULL;
		struct wasd_err err = { 0 };
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

/* Every cut is refused; every flipped byte is refused or gives some picture of sane size. Never a crash. */
static void damage(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 11, "damage", 0, 0);
	for (int kind = 0; kind < 4; kind++) {
		blob b = { 0 };
		uint8_t flat[512] = { 9 };
		int opened = 0;
		if (kind == 0)
			make_png(&b, 3, 24, 24, 1);
		else if (kind == 1)
			make_png_raw(&b, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, 1, 16, 16, flat, sizeof flat, NULL);
		else
			make_jpeg_how(&b, (struct jpeg_how){ JCS_RGB, 3, kind == 3, 80, false }, 24, 24, 1);
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
		blob b = { 0 };
		uint64_t n = 1;
		if (jpeg)
			make_jpeg(&b, 3, 24, 24, 1);
		else
			make_png(&b, 3, 24, 24, 1);
		for (; n < 100; n++) {
			uint8_t *out = NULL;
			struct wasd_mem_stats before = wasd_mem_stats(), after;
			wasd_mem_fail_at(n);
			enum wasd_status s = wasd_image_decode(b.data, b.len, 3, 16, 16, &out, NULL, NULL, NULL);
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
	TEST_RUN(refuses);
	TEST_RUN(damage);
	TEST_RUN(without_memory);
	TEST_END();
}
