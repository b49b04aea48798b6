#include "http/coding.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

enum {
	PIECE = 16 << 10,
	ZLIB_LEVEL = 5,
	ZSTD_LEVEL = 3,
	/* A client chooses how far back a zstd frame may refer; this bounds the memory that reading it takes to 16 MiB. */
	ZSTD_WINDOW_LOG_MAX = 24
};

static const char *const names[CODINGS] = {"identity", "zstd", "gzip", "deflate"};

const char *coding_name(enum coding c)
{
	return names[c];
}

bool coding_read(const char *value, enum coding *out)
{
	*out = CODING_NONE;
	if (!value || !*value)
		return true;
	for (int i = 0; i < CODINGS; i++)
		if (!strcasecmp(value, names[i])) {
			*out = (enum coding)i;
			return true;
		}
	if (strcasecmp(value, "x-gzip"))
		return false;
	*out = CODING_GZIP;
	return true;
}

/* ---- negotiation ------------------------------------------------------------------------------------------- */

/* The q of "; q=0.5" in the parameters from s to end; 1 without one. */
static double quality(const char *s, const char *end)
{
	for (; s < end; s++) {
		if (*s != ';')
			continue;
		const char *p = s + 1 + strspn(s + 1, " \t");
		if ((*p == 'q' || *p == 'Q') && p[1] == '=')
			return strtod(p + 2, NULL);
	}
	return 1;
}

static bool names_coding(const char *p, size_t n, enum coding c)
{
	return (n == strlen(names[c]) && !strncasecmp(p, names[c], n)) ||
	       (c == CODING_GZIP && n == 6 && !strncasecmp(p, "x-gzip", n));
}

enum coding coding_choose(const char *accept)
{
	double q[CODINGS] = {0}, rest = 0; /* rest: of "*" */
	bool named[CODINGS] = {false};
	for (const char *p = accept; p && *p;) {
		p += strspn(p, " \t,");
		size_t n = strcspn(p, " \t,;");
		const char *end = p + strcspn(p, ",");
		double v = quality(p + n, end);
		if (n == 1 && *p == '*')
			rest = v;
		for (int i = 0; i < CODINGS; i++)
			if (names_coding(p, n, (enum coding)i)) {
				q[i] = v;
				named[i] = true;
			}
		p = end;
	}
	enum coding best = CODING_NONE;
	double most = named[CODING_NONE] ? q[CODING_NONE] : 0;
	for (int i = CODING_NONE + 1; i < CODINGS; i++) {
		double v = named[i] ? q[i] : rest;
		bool better = best == CODING_NONE ? v >= most : v > most;
		if (v > 0 && better) {
			best = (enum coding)i;
			most = v;
		}
	}
	return best;
}

/* ---- zlib -------------------------------------------------------------------------------------------------- */

static bool zlib_pack(int window, const void *p, size_t n, struct wasd_buf *out)
{
	z_stream z = {0};
	char piece[PIECE];
	if (n > UINT32_MAX || deflateInit2(&z, ZLIB_LEVEL, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	int r;
	do {
		z.next_out = (Bytef *)piece;
		z.avail_out = sizeof piece;
		r = deflate(&z, Z_FINISH);
		wasd_buf_append(out, piece, sizeof piece - z.avail_out);
	} while (r == Z_OK && !out->failed);
	deflateEnd(&z);
	return r == Z_STREAM_END && !out->failed;
}

/* True: everything was decoded and fits out. */
static bool zlib_unpack(const void *p, size_t n, struct wasd_buf *out)
{
	z_stream z = {0};
	char piece[PIECE];
	/* +32: clients mix up gzip and zlib; the first bytes tell. */
	if (n > UINT32_MAX || inflateInit2(&z, 15 + 32) != Z_OK)
		return false;
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	int r;
	do {
		z.next_out = (Bytef *)piece;
		z.avail_out = sizeof piece;
		r = inflate(&z, Z_NO_FLUSH);
		if (r != Z_OK && r != Z_STREAM_END)
			break;
		if (!wasd_buf_append(out, piece, sizeof piece - z.avail_out))
			break;
	} while (r != Z_STREAM_END);
	bool whole = r == Z_STREAM_END && z.avail_in == 0;
	inflateEnd(&z);
	return whole;
}

/* ---- zstd -------------------------------------------------------------------------------------------------- */

static bool zstd_pack(const void *p, size_t n, struct wasd_buf *out)
{
	size_t room = ZSTD_compressBound(n);
	void *to = wasd_malloc(room);
	if (!to)
		return false;
	size_t len = ZSTD_compress(to, room, p, n, ZSTD_LEVEL);
	bool ok = !ZSTD_isError(len) && wasd_buf_append(out, to, len);
	wasd_free(to);
	return ok;
}

static bool zstd_unpack(const void *p, size_t n, struct wasd_buf *out)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer in = {p, n, 0};
	size_t left = 1; /* 0: at the end of a frame */
	bool ok = z && !ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX));
	for (bool full = false; ok && (in.pos < in.size || full);) {
		char piece[PIECE];
		ZSTD_outBuffer to = {piece, sizeof piece, 0};
		left = ZSTD_decompressStream(z, &to, &in);
		ok = !ZSTD_isError(left) && wasd_buf_append(out, piece, to.pos);
		full = left && to.pos == sizeof piece;
	}
	ZSTD_freeDStream(z);
	return ok && left == 0;
}

/* ---- all --------------------------------------------------------------------------------------------------- */

bool coding_pack(enum coding c, const void *p, size_t n, struct wasd_buf *out)
{
	bool ok = c == CODING_ZSTD    ? zstd_pack(p, n, out) :
	          c == CODING_GZIP    ? zlib_pack(15 + 16, p, n, out) :
	          c == CODING_DEFLATE ? zlib_pack(15, p, n, out) :
	                                false;
	return ok && out->len < n;
}

enum wasd_status coding_unpack(enum coding c, const void *p, size_t n, size_t max, struct wasd_buf *out,
                               struct wasd_err *err)
{
	out->max = max + 1;
	bool ok = c == CODING_ZSTD ? zstd_unpack(p, n, out) : zlib_unpack(p, n, out);
	if (out->failed || out->len > max)
		return wasd_fail(err, WASD_ETOOBIG, "the inflated body exceeds the limit of %zu bytes", max);
	return ok ? WASD_OK : wasd_fail(err, WASD_EINVAL, "the body is not valid %s data", coding_name(c));
}
