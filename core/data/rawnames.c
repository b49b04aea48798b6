/* rawnames.c - checks what libarchive hides: it ends a name at its first NUL, and it accepts zip entries that share
 * bytes.
 *
 * For a zip, we walk the directory at its end before libarchive sees the file. For a tar that arrives plain or gzipped,
 * a tap follows the stream of 512-byte blocks and looks into the headers that carry long names (pax "x", GNU "L"). */
#include "data/ingest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- zip -------------------------------------------------------------------------------------- */

static uint32_t le16(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}
static uint32_t le32(const uint8_t *p)
{
	return le16(p) | le16(p + 2) << 16;
}
static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

enum { END = 22, END64 = 56, LOCATOR = 20, ENTRY = 46, LOCAL = 30, COMMENT = 65535 };

/* Finds offset and length of the directory, from the end record (searched backwards over a comment) or the zip64 record
 * before it. False if there is none; libarchive reports that. */
static bool find_directory(struct source *src, uint8_t *buf, uint64_t *at, uint64_t *n)
{
	uint64_t size = source_size(src), tail = size < END + COMMENT ? size : END + COMMENT, i;
	if (tail < END || !source_read_at(src, size - tail, buf, tail))
		return false;
	for (i = tail - END + 1; i-- > 0;)
		if (le32(buf + i) == 0x06054b50)
			break;
	if (i == UINT64_MAX)
		return false;
	*n = le32(buf + i + 12);
	*at = le32(buf + i + 16);
	uint8_t end64[END64];
	if (i >= LOCATOR && le32(buf + i - LOCATOR) == 0x07064b50 &&
	    source_read_at(src, le64(buf + i - LOCATOR + 8), end64, END64)) {
		*n = le64(end64 + 40);
		*at = le64(end64 + 48);
	}
	return *at <= size && *n <= size - *at;
}

enum wasd_status zip_check_names(struct source *src, char name[RAW_NAME], bool *unmarked, struct wasd_err *err)
{
	uint64_t at, n, packed = 0;
	uint8_t *buf = wasd_malloc(END + COMMENT);
	enum wasd_status s = buf ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
	*unmarked = false;
	bool found = !s && find_directory(src, buf, &at, &n);
	while (found && !s && n >= ENTRY && source_read_at(src, at, buf, ENTRY) && le32(buf) == 0x02014b50) {
		uint64_t len = le16(buf + 28), all = ENTRY + len + le16(buf + 30) + le16(buf + 32);
		uint32_t bytes = le32(buf + 20), utf8 = le16(buf + 8) & 1 << 11;
		if (all > n || !source_read_at(src, at + ENTRY, buf, len))
			break;
		*unmarked = *unmarked || (!utf8 && !memchr(buf, 0, len) && !wasd_utf8_ok((char *)buf, len));
		packed += LOCAL + len + (bytes == UINT32_MAX ? 0 : bytes);
		snprintf(name, RAW_NAME, "%.*s", (int)len, (char *)buf);
		if (memchr(buf, 0, len))
			s = wasd_fail(err, WASD_EINVAL, "a NUL in a name");
		else if (packed > source_size(src))
			s = wasd_fail(err, WASD_EINVAL, "the entries of the zip archive overlap");
		at += all;
		n -= all;
	}
	wasd_free(buf);
	return s;
}

/* ---- tar -------------------------------------------------------------------------------------- */

/* The tap is inside a header block, in content that it keeps (a long name), or in content that it skips. */
struct tar_tap {
	uint64_t pass; /* bytes of content and padding still to skip */
	uint8_t block[512];
	size_t have;
	struct wasd_buf kept;
	size_t want; /* length of the current long name; 0: none */
	char type;
};

enum { BLOCK = 512, LONGEST = 1 << 20 };

struct tar_tap *tar_tap_create(void)
{
	return wasd_calloc(1, sizeof(struct tar_tap));
}

void tar_tap_destroy(struct tar_tap *t)
{
	if (t)
		wasd_buf_done(&t->kept);
	wasd_free(t);
}

/* Parses octal digits, or a big-endian number behind a byte of 0x80. */
static uint64_t tar_size(const uint8_t *p)
{
	uint64_t v = 0;
	if (p[0] & 0x80) {
		for (int i = 4; i < 12; i++)
			v = v << 8 | p[i];
		return v;
	}
	for (int i = 0; i < 12 && (p[i] == ' ' || (p[i] >= '0' && p[i] <= '7')); i++)
		v = p[i] == ' ' ? v : v * 8 + (uint64_t)(p[i] - '0');
	return v;
}

/* A record of a pax header is "LENGTH key=value\n". */
static bool pax_has_nul(const char *p, size_t n)
{
	while (n) {
		char *end;
		if (!memchr(p, ' ', n < 20 ? n : 20))
			return false;
		unsigned long len = strtoul(p, &end, 10);
		size_t head = (size_t)(end - p) + 1;
		if (*end != ' ' || len > n || len <= head)
			return false;
		bool path = len > head + 5 && !memcmp(p + head, "path=", 5);
		if (path && memchr(p + head + 5, 0, len - head - 5))
			return true;
		p += len;
		n -= len;
	}
	return false;
}

/* A GNU long name ends with NULs; no NUL may come before those. */
static bool gnu_has_nul(const char *p, size_t n)
{
	while (n && !p[n - 1])
		n--;
	return memchr(p, 0, n);
}

static void header(struct tar_tap *t)
{
	uint64_t size = tar_size(t->block + 124);
	t->type = (char)t->block[156];
	t->have = 0;
	t->kept.len = 0;
	t->want = (t->type == 'x' || t->type == 'L') && size <= LONGEST ? (size_t)size : 0;
	if (t->type >= '1' &&
	    t->type <= '6') /* links, devices and directories have no content, whatever their size field says */
		size = 0;
	t->pass = size > UINT64_MAX - BLOCK ? UINT64_MAX : (size + BLOCK - 1) / BLOCK * BLOCK;
}

enum wasd_status tar_tap_feed(struct tar_tap *t, const void *bytes, size_t n, char name[RAW_NAME], struct wasd_err *err)
{
	const uint8_t *p = bytes;
	while (n) {
		size_t k;
		if (t->pass) {
			k = n < t->pass ? n : (size_t)t->pass;
			size_t keep = t->want - t->kept.len < k ? t->want - t->kept.len : k;
			if (keep && !wasd_buf_append(&t->kept, p, keep))
				return wasd_fail(err, WASD_ENOMEM, "no memory for a long name");
			t->pass -= k;
			if (keep && t->kept.len == t->want) {
				if (!wasd_buf_cstr(&t->kept))
					return wasd_fail(err, WASD_ENOMEM, "no memory for a long name");
				if (t->type == 'x' ? pax_has_nul(t->kept.data, t->want) : gnu_has_nul(t->kept.data, t->want)) {
					const char *path = t->type == 'x' ? memmem(t->kept.data, t->want, "path=", 5) : NULL;
					snprintf(name, RAW_NAME, "%s", path ? path + 5 : t->kept.data);
					return wasd_fail(err, WASD_EINVAL, "a NUL in a name");
				}
			}
		} else {
			k = n < BLOCK - t->have ? n : BLOCK - t->have;
			memcpy(t->block + t->have, p, k);
			if ((t->have += k) == BLOCK)
				header(t);
		}
		p += k;
		n -= k;
	}
	return WASD_OK;
}
