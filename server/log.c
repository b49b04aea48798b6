#include "log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int min_level = LOG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level min)
{
	atomic_store(&min_level, min);
}

bool log_level_from_name(const char *name, enum log_level *out)
{
	for (int i = 0; i <= LOG_ERROR; i++)
		if (!strcmp(name, level_names[i])) {
			*out = (enum log_level)i;
			return true;
		}
	return false;
}

const char *log_quote(char *out, size_t size, const char *s)
{
	bool plain = *s != 0;
	for (const char *p = s; *p && plain; p++)
		plain = (unsigned char)*p > ' ' && (unsigned char)*p < 127 && *p != '"' && *p != '=' && *p != '\\';
	if (plain && strlen(s) < size)
		return strcpy(out, s);
	size_t n = 0;
	out[n++] = '"';
	for (; *s && n + 9 < size; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < ' ' || c == 127) {
			n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
		} else {
			out[n++] = (char)c;
		}
	}
	n += (size_t)snprintf(out + n, 5, "%s\"", *s ? "..." : "");
	return out;
}

void log_line(enum log_level level, const char *msg, const char *fmt, ...)
{
	if ((int)level < atomic_load_explicit(&min_level, memory_order_relaxed))
		return;
	char line[1024], when[WASD_RFC3339_LEN];
	wasd_rfc3339(wasd_now_ms(), when);
	int n = snprintf(line, sizeof line, "%s %s %s", when, level_names[level], msg);
	if (*fmt && n < (int)sizeof line - 2) {
		line[n++] = ' ';
		va_list ap;
		va_start(ap, fmt);
		n += (int)wasd_vline(line + n, sizeof line - (size_t)n - 1, fmt, ap);
		va_end(ap);
	}
	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* there is no other place to report it */
}

bool log_allow(struct log_rate *r, int burst, int *dropped)
{
	int64_t now = wasd_mono_us() / 1000000, was = atomic_load(&r->second);
	*dropped = 0;
	if (was != now && atomic_compare_exchange_strong(&r->second, &was, now)) {
		atomic_store(&r->count, 1);
		*dropped = atomic_exchange(&r->dropped, 0);
		return true;
	}
	if (atomic_fetch_add(&r->count, 1) < burst)
		return true;
	atomic_fetch_add(&r->dropped, 1);
	return false;
}
