/* base/utf8.h - one step of a strict UTF-8 decoder, shared by the checks and cuts of base. Private to core/base. */
#ifndef WASD_BASE_UTF8_H
#define WASD_BASE_UTF8_H

#include <stddef.h>

/* Length of the well-formed sequence at s[0..n), or 0. Rejects overlong forms, surrogates, values above U+10FFFF and
 * truncated sequences (Unicode 15, table 3-7). NUL counts as a sequence of one. */
static inline size_t utf8_step(const unsigned char *s, size_t n)
{
	if (n == 0)
		return 0;
	unsigned c = s[0], lo = 0x80, hi = 0xbf;
	size_t len;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		len = 2;
	else if (c >= 0xe0 && c <= 0xef) {
		len = 3;
		if (c == 0xe0)
			lo = 0xa0;
		if (c == 0xed)
			hi = 0x9f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		len = 4;
		if (c == 0xf0)
			lo = 0x90;
		if (c == 0xf4)
			hi = 0x8f;
	} else
		return 0;
	if (n < len || s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return len;
}

#endif
