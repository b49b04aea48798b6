/* base/err.c - statuses and error details. */
#include "wasd/base.h"
#include "base/utf8.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const status_names[WASD_STATUS_COUNT] = {
	[WASD_OK] = "ok",
	[WASD_EINVAL] = "einval",
	[WASD_ENOMEM] = "enomem",
	[WASD_EIO] = "eio",
	[WASD_ENOTFOUND] = "enotfound",
	[WASD_EEXIST] = "eexist",
	[WASD_ESTATE] = "estate",
	[WASD_ECORRUPT] = "ecorrupt",
	[WASD_ETOOBIG] = "etoobig",
	[WASD_EUNSUPPORTED] = "eunsupported",
	[WASD_EFULL] = "efull",
	[WASD_EBUSY] = "ebusy",
	[WASD_ECANCELLED] = "ecancelled",
	[WASD_ENUMERIC] = "enumeric",
	[WASD_EINTERNAL] = "einternal",
};

const char *wasd_status_name(enum wasd_status s)
{
	return (unsigned)s < WASD_STATUS_COUNT ? status_names[s] : "einternal";
}

enum wasd_status wasd_status_from_name(const char *name)
{
	for (int i = 0; name && i < WASD_STATUS_COUNT; i++)
		if (strcmp(name, status_names[i]) == 0)
			return (enum wasd_status)i;
	return WASD_EINTERNAL;
}

size_t wasd_vline(char *out, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(out, size, fmt, ap);
	if (n >= 0 && (size_t)n < size)
		return (size_t)n;
	size_t at = n < 0 ? 0 : size - 4;
	for (int i = 0; i < 3 && at && ((unsigned char)out[at] & 0xc0) == 0x80; i++)
		at--;
	memcpy(out + at, n < 0 ? "" : "...", n < 0 ? 1 : 4);
	return strlen(out);
}

size_t wasd_line(char *out, size_t size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	size_t n = wasd_vline(out, size, fmt, ap);
	va_end(ap);
	return n;
}

/* Copies src into dst[cap] as one clean line: whole UTF-8 sequences only; control and ill-formed bytes become '?'. */
static void copy_line(char *dst, size_t cap, const char *src)
{
	size_t n = strlen(src), o = 0;
	for (size_t i = 0; i < n;) {
		size_t k = utf8_step((const unsigned char *)src + i, n - i);
		if (o + (k ? k : 1) >= cap)
			break;
		if (k == 0 || (unsigned char)src[i] < 0x20 || src[i] == 0x7f) {
			dst[o++] = '?';
			i++;
			continue;
		}
		memcpy(dst + o, src + i, k);
		o += k;
		i += k;
	}
	dst[o] = 0;
}

/* The text is formatted separately first, because the arguments may point into *err itself. */
static void fill(struct wasd_err *err, enum wasd_status s, const char *pointer, const char *suffix, const char *fmt,
                 va_list ap)
{
	char msg[sizeof err->msg], ptr[sizeof err->pointer];
	size_t n = wasd_vline(msg, sizeof msg, fmt, ap);
	if (suffix && n + 8 < sizeof msg)
		wasd_line(msg + n, sizeof msg - n, ": %s", suffix);
	copy_line(ptr, sizeof ptr, pointer);
	err->status = s;
	copy_line(err->msg, sizeof err->msg, msg);
	memcpy(err->pointer, ptr, sizeof ptr);
}

enum wasd_status wasd_fail(struct wasd_err *err, enum wasd_status s, const char *fmt, ...)
{
	if (!err)
		return s;
	va_list ap;
	va_start(ap, fmt);
	fill(err, s, "", NULL, fmt, ap);
	va_end(ap);
	return s;
}

enum wasd_status wasd_fail_at(struct wasd_err *err, enum wasd_status s, const char *pointer, const char *fmt, ...)
{
	if (!err)
		return s;
	va_list ap;
	va_start(ap, fmt);
	fill(err, s, pointer ? pointer : "", NULL, fmt, ap);
	va_end(ap);
	return s;
}

enum wasd_status wasd_fail_errno(struct wasd_err *err, int errnum, const char *fmt, ...)
{
	enum wasd_status s = errnum == ENOSPC || errnum == EDQUOT ? WASD_EFULL : errnum == ENOMEM ? WASD_ENOMEM : WASD_EIO;
	if (!err)
		return s;
	char buf[128];
	const char *text = strerror_r(errnum, buf, sizeof buf);
	va_list ap;
	va_start(ap, fmt);
	fill(err, s, "", text, fmt, ap);
	va_end(ap);
	return s;
}
