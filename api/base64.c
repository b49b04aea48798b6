/* api/base64.c - strict base64 (RFC 4648, section 4): no blanks, padding required, unused bits zero. */
#include "internal.h"
#include <string.h>

static int value_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;
	return p ? (int)(p - digits) : -1;
}

bool base64_decode(const char *s, struct wasd_buf *out)
{
	size_t n = strlen(s);
	if (n % 4) return false;
	for (size_t i = 0; i < n; i += 4) {
		bool last = i + 4 == n;
		int pad = last && s[i + 3] == '=' ? (s[i + 2] == '=' ? 2 : 1) : 0;
		unsigned v = 0;
		for (int k = 0; k < 4; k++) {
			int d = k >= 4 - pad ? 0 : value_of(s[i + (size_t)k]);
			if (d < 0) return false;
			v = v << 6 | (unsigned)d;
		}
		if (pad && v & ((1u << 8 * pad) - 1)) return false;
		unsigned char b[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
		if (!wasd_buf_append(out, b, (size_t)(3 - pad))) return false;
	}
	return true;
}
