/* api/base64.c - base64 in the forms that clients send: either alphabet of RFC 4648 (sections 4 and 5), wrapped or
 * not, padded or not, or in a data: URI. The checks on the digits are strict: their number, any padding present, and
 * unused bits, which must be zero. */
#include "internal.h"
#include <string.h>
#include <strings.h>

static int value_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c == '-' ? '+' : c == '_' ? '/' : c) : NULL;
	return p ? (int)(p - digits) : -1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Appends the bytes of n digits, 2 to 4. */
static bool put_group(unsigned v, int n, struct wasd_buf *out)
{
	int bytes = n * 6 / 8, unused = n * 6 - bytes * 8;
	if (n < 2 || v & ((1u << unused) - 1))
		return false;
	v <<= 24 - n * 6;
	unsigned char b[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
	return wasd_buf_append(out, b, (size_t)bytes);
}

bool base64_decode(const char *s, size_t len, struct wasd_buf *out)
{
	unsigned v = 0;
	int n = 0, pad = 0;
	for (size_t i = 0; i < len; i++) {
		int d = value_of(s[i]);
		if (is_blank(s[i]))
			continue;
		if (s[i] == '=' && pad < 2) {
			pad++;
			continue;
		}
		if (d < 0 || pad)
			return false;
		v = v << 6 | (unsigned)d;
		if (++n < 4)
			continue;
		if (!put_group(v, n, out))
			return false;
		n = 0, v = 0;
	}
	if (pad && n + pad != 4)
		return false;
	return !n || put_group(v, n, out);
}

bool base64_or_uri(const char *s, size_t len, struct wasd_buf *out)
{
	static const char scheme[] = "data:", mark[] = ";base64";
	while (len && is_blank(*s))
		s++, len--;
	if (len < sizeof scheme - 1 || strncasecmp(s, scheme, sizeof scheme - 1))
		return base64_decode(s, len, out);
	const char *comma = memchr(s, ',', len);
	size_t head = comma ? (size_t)(comma - s) : 0;
	if (head < sizeof mark - 1 || strncasecmp(comma - (sizeof mark - 1), mark, sizeof mark - 1))
		return false;
	return base64_decode(comma + 1, len - head - 1, out);
}
