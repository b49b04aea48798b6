/* base/buf.c - a growing byte buffer, and checks of text. */
#include "wasd/base.h"
#include "base/utf8.h"
#include <stdio.h>
#include <string.h>

/* Makes room for n more bytes and the NUL that wasd_buf_cstr appends. */
static bool reserve(struct wasd_buf *b, size_t n)
{
	size_t len, need;
	if (b->failed)
		return false;
	if (!wasd_add_size(b->len, n, &len) || !wasd_add_size(len, 1, &need) || (b->max && len > b->max))
		return !(b->failed = true);
	if (need <= b->cap)
		return true;
	size_t cap = b->cap < 64 ? 64 : b->cap;
	while (cap < need && cap <= SIZE_MAX / 2)
		cap *= 2;
	if (cap < need)
		cap = need;
	char *p = wasd_realloc(b->data, cap);
	if (!p)
		return !(b->failed = true);
	b->data = p;
	b->cap = cap;
	return true;
}

bool wasd_buf_append(struct wasd_buf *b, const void *p, size_t n)
{
	if (!reserve(b, n))
		return false;
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	return true;
}

bool wasd_buf_puts(struct wasd_buf *b, const char *s)
{
	return wasd_buf_append(b, s, strlen(s));
}

bool wasd_buf_printf(struct wasd_buf *b, const char *fmt, ...)
{
	if (!reserve(b, 0))
		return false;
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	bool ok = n >= 0 && reserve(b, (size_t)n);
	if (ok) {
		vsnprintf(b->data + b->len, b->cap - b->len, fmt, again);
		b->len += (size_t)n;
	} else {
		b->failed = true;
	}
	va_end(again);
	va_end(ap);
	return ok;
}

char *wasd_buf_cstr(struct wasd_buf *b)
{
	if (!reserve(b, 0))
		return NULL;
	b->data[b->len] = 0;
	return b->data;
}

void wasd_buf_done(struct wasd_buf *b)
{
	wasd_free(b->data);
	*b = (struct wasd_buf){0};
}

bool wasd_utf8_ok(const char *s, size_t n)
{
	for (size_t i = 0, k; i < n; i += k)
		if (s[i] == 0 || !(k = utf8_step((const unsigned char *)s + i, n - i)))
			return false;
	return true;
}

bool wasd_name_ok(const char *s)
{
	size_t n = 0;
	for (; s[n]; n++) {
		bool alnum = (s[n] >= 'a' && s[n] <= 'z') || (s[n] >= '0' && s[n] <= '9');
		if (n == 63 || (!alnum && (n == 0 || !strchr("._-", s[n]))))
			return false;
	}
	return n > 0 && strcmp(s, "stats") != 0;
}
