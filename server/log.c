#include "log.h"

#include <pthread.h>
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

/* ---- causes ------------------------------------------------------------------------------------------------ */

enum { REMEMBERED = 512 };

static _Thread_local struct log_cause mine;
static struct {
	pthread_mutex_t lock;
	struct {
		char object[48];
		struct log_cause cause;
	} ring[REMEMBERED];
	unsigned next;
} remembered = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct log_cause log_cause_of(const char *request_id, const char *traceparent)
{
	struct log_cause c = {.id = ""};
	snprintf(c.id, sizeof c.id, "%s", request_id);
	if (strlen(traceparent) > 35) /* "00-" trace-id "-" parent-id "-" flags */
		snprintf(c.trace, sizeof c.trace, "%.32s", traceparent + 3);
	return c;
}

void log_begin(const struct log_cause *cause)
{
	mine = cause ? *cause : (struct log_cause){.id = ""};
}

struct log_cause log_cause(void)
{
	return mine;
}

/* The object's place in the ring, or REMEMBERED; lock held. */
static unsigned place_of(const char *object)
{
	unsigned i = 0;
	while (i < REMEMBERED && strcmp(remembered.ring[i].object, object))
		i++;
	return i;
}

void log_remember(const char *object)
{
	pthread_mutex_lock(&remembered.lock);
	unsigned i = place_of(object);
	if (i == REMEMBERED)
		i = remembered.next++ % REMEMBERED;
	snprintf(remembered.ring[i].object, sizeof remembered.ring[i].object, "%s", object);
	remembered.ring[i].cause = mine;
	pthread_mutex_unlock(&remembered.lock);
}

/* ---- lines ------------------------------------------------------------------------------------------------- */

static void write_line(const struct log_cause *cause, enum log_level level, const char *msg, const char *fmt,
                       va_list ap)
{
	enum { IDS = sizeof(struct log_cause) + 16 }; /* always fit, behind a line that was cut */
	char line[1024], when[WASD_RFC3339_LEN];
	wasd_rfc3339(wasd_now_ms(), when);
	int room = (int)sizeof line - IDS, n = snprintf(line, (size_t)room, "%s %s %s", when, level_names[level], msg);
	if (*fmt && n < room - 2) {
		line[n++] = ' ';
		n += (int)wasd_vline(line + n, (size_t)(room - n - 1), fmt, ap);
	}
	if (*cause->id)
		n += snprintf(line + n, sizeof line - (size_t)n, " id=%s", cause->id);
	if (*cause->trace)
		n += snprintf(line + n, sizeof line - (size_t)n, " trace=%s", cause->trace);
	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* there is no other place to report it */
}

static bool wanted(enum log_level level)
{
	return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

void log_line(enum log_level level, const char *msg, const char *fmt, ...)
{
	if (!wanted(level))
		return;
	va_list ap;
	va_start(ap, fmt);
	write_line(&mine, level, msg, fmt, ap);
	va_end(ap);
}

void log_about(const char *object, enum log_level level, const char *msg, const char *fmt, ...)
{
	if (!wanted(level))
		return;
	pthread_mutex_lock(&remembered.lock);
	unsigned i = place_of(object);
	struct log_cause cause = i < REMEMBERED ? remembered.ring[i].cause : mine;
	pthread_mutex_unlock(&remembered.lock);
	va_list ap;
	va_start(ap, fmt);
	write_line(&cause, level, msg, fmt, ap);
	va_end(ap);
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
