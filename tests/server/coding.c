/* Content codings: negotiation, exact bytes, and limits on what clients send. */
#include "check.h"
#include "http/coding.h"

#include <zlib.h>
#include <zstd.h>

static void negotiation(void)
{
	static const struct {
		const char *accept;
		enum coding want;
	} rows[] = {
		{NULL, CODING_NONE},
		{"", CODING_NONE},
		{"identity", CODING_NONE},
		{"br", CODING_NONE},
		{"gzip", CODING_GZIP},
		{"x-gzip", CODING_GZIP},
		{"GZip", CODING_GZIP},
		{"deflate", CODING_DEFLATE},
		{"zstd", CODING_ZSTD},
		{"gzip, deflate", CODING_GZIP},           /* httpx, requests */
		{"gzip, deflate, br, zstd", CODING_ZSTD}, /* browsers */
		{"deflate, gzip, br", CODING_GZIP},
		{"gzip;q=0.5, deflate;q=0.6", CODING_DEFLATE},
		{"gzip ; q=0.5 , deflate ;q=0.4", CODING_GZIP},
		{"zstd;q=0.1,gzip;q=0.2", CODING_GZIP},
		{"gzip;q=0", CODING_NONE},
		{"gzip;q=0.000, zstd;q=0", CODING_NONE},
		{"*", CODING_ZSTD},
		{"*;q=0", CODING_NONE},
		{"zstd;q=0, *", CODING_GZIP},
		{"*;q=0.1, deflate;q=0.2", CODING_DEFLATE},
		{"identity;q=1, gzip;q=0.5", CODING_NONE},
		{"identity;q=0.5, gzip;q=0.5", CODING_GZIP},
		{"identity;q=0, gzip", CODING_GZIP},
		{"gzip;level=9;q=0", CODING_NONE},
		{"gzipped, xgzip", CODING_NONE},
		{",,,;;q=1,", CODING_NONE},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		CHECK_MSG(coding_choose(rows[i].accept) == rows[i].want, "%s: %s", rows[i].accept ? rows[i].accept : "none",
		          coding_name(coding_choose(rows[i].accept)));
}

static void names(void)
{
	static const struct {
		const char *value;
		bool known;
		enum coding want;
	} rows[] = {
		{NULL, true, CODING_NONE},     {"", true, CODING_NONE},          {"identity", true, CODING_NONE},
		{"gzip", true, CODING_GZIP},   {"X-GZIP", true, CODING_GZIP},    {"Deflate", true, CODING_DEFLATE},
		{"zstd", true, CODING_ZSTD},   {"br", false, CODING_NONE},       {"gzip, zstd", false, CODING_NONE},
		{"gzip ", false, CODING_NONE}, {"compress", false, CODING_NONE},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum coding c = CODINGS;
		CHECK_MSG(coding_read(rows[i].value, &c) == rows[i].known && (!rows[i].known || c == rows[i].want), "row %zu",
		          i);
	}
}

/* What the libraries' own functions read and write. */
static void exact_bytes(void)
{
	char text[70001], back[70001];
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = "{\"name\":[0.125,"[i % 15 * (i / 999 % 3 + 1) % 15];
	static const size_t sizes[] = {1024, 16384, 65536, sizeof text};
	for (int c = CODING_ZSTD; c < CODINGS; c++)
		for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
			struct wasd_buf packed = {0}, out = {0};
			struct wasd_err err = {0};
			size_t n = sizes[k], got = 0;
			CHECK(coding_pack((enum coding)c, text, n, &packed) && packed.len < n);
			memset(back, 0, sizeof back);
			if (c == CODING_ZSTD) {
				got = ZSTD_decompress(back, sizeof back, packed.data, packed.len);
			} else {
				z_stream z = {.next_in = (Bytef *)packed.data,
				              .avail_in = (uInt)packed.len,
				              .next_out = (Bytef *)back,
				              .avail_out = sizeof back};
				CHECK_INT(inflateInit2(&z, c == CODING_GZIP ? 15 + 16 : 15), Z_OK);
				CHECK_INT(inflate(&z, Z_FINISH), Z_STREAM_END);
				got = z.total_out;
				inflateEnd(&z);
			}
			CHECK_MSG(got == n && !memcmp(back, text, n), "%s of %zu bytes", coding_name((enum coding)c), n);
			CHECK_INT(coding_unpack((enum coding)c, packed.data, packed.len, n, &out, &err), WASD_OK);
			CHECK_MSG(out.len == n && !memcmp(out.data, text, n), "%s of %zu bytes", coding_name((enum coding)c), n);
			wasd_buf_done(&out);
			out = (struct wasd_buf){0};
			CHECK_INT(coding_unpack((enum coding)c, packed.data, packed.len, n - 1, &out, &err), WASD_ETOOBIG);
			wasd_buf_done(&out);
			for (size_t cut = 0; cut < packed.len; cut += cut < 40 ? 1 : packed.len / 7) {
				out = (struct wasd_buf){0};
				CHECK_INT(coding_unpack((enum coding)c, packed.data, cut, n, &out, &err), WASD_EINVAL);
				wasd_buf_done(&out);
			}
			out = (struct wasd_buf){0};
			CHECK(wasd_buf_append(&packed, "x", 1));
			CHECK_INT(coding_unpack((enum coding)c, packed.data, packed.len, n, &out, &err), WASD_EINVAL);
			wasd_buf_done(&out);
			wasd_buf_done(&packed);
		}
	struct wasd_buf none = {0};
	unsigned char noise[2000];
	wasd_random_bytes(noise, sizeof noise);
	for (int c = CODING_ZSTD; c < CODINGS; c++)
		CHECK(!coding_pack((enum coding)c, noise, sizeof noise, &none)); /* would not be shorter */
	wasd_buf_done(&none);
}

/* Few bytes that become many, and a frame that asks for much memory. */
static void bombs(void)
{
	size_t big = 64 << 20, room = ZSTD_compressBound(big);
	char *zeros = calloc(1, big), *to = malloc(room);
	struct wasd_err err = {0};
	struct wasd_buf out = {0};
	size_t n = ZSTD_compress(to, room, zeros, big, 19);
	CHECK(n < 100000);
	CHECK_INT(coding_unpack(CODING_ZSTD, to, n, 16 << 20, &out, &err), WASD_ETOOBIG);
	CHECK_MSG(out.cap <= (33 << 20), "%zu bytes were allocated", out.cap);
	wasd_buf_done(&out);
	uLongf len = (uLongf)room;
	CHECK_INT(compress2((Bytef *)to, &len, (Bytef *)zeros, big, 9), Z_OK);
	out = (struct wasd_buf){0};
	CHECK_INT(coding_unpack(CODING_DEFLATE, to, len, 16 << 20, &out, &err), WASD_ETOOBIG);
	wasd_buf_done(&out);
	ZSTD_CCtx *z = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, 27);
	ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, 0);
	ZSTD_inBuffer in = {zeros, 1000, 0};
	ZSTD_outBuffer o = {to, room, 0};
	CHECK_INT(ZSTD_compressStream2(z, &o, &in, ZSTD_e_flush), 0);
	CHECK_INT(ZSTD_compressStream2(z, &o, &in, ZSTD_e_end), 0);
	ZSTD_freeCCtx(z);
	out = (struct wasd_buf){0};
	CHECK_INT(coding_unpack(CODING_ZSTD, to, o.pos, 16 << 20, &out, &err), WASD_EINVAL);
	wasd_buf_done(&out);
	free(zeros);
	free(to);
}

int main(void)
{
	TEST_RUN(negotiation);
	TEST_RUN(names);
	TEST_RUN(exact_bytes);
	TEST_RUN(bombs);
	TEST_END();
}
