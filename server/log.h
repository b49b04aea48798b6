/* server/log.h - the daemon's log: one line per event on stderr, "TIME level message key=value ...". */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include "wasd/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level min);
bool log_level_from_name(const char *name, enum log_level *out);
/* msg: a fixed phrase; fmt: "key=value" pairs ("" for none). Untrusted values must go through log_quote. Thread-safe;
 * each line is one write. */
void log_line(enum log_level level, const char *msg, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Copies s as a value that cannot forge a log line: quoted and escaped unless all its characters are plain, truncated
 * to fit. */
const char *log_quote(char *out, size_t size, const char *s);
#define LOG_Q(s) log_quote((char[160]){0}, 160, (s))

/* Limits one place to `burst` lines per second. True: write the line; *dropped is the number of lines suppressed since
 * the last report. */
struct log_rate {
	_Atomic int64_t second;
	_Atomic int count, dropped;
};
bool log_allow(struct log_rate *r, int burst, int *dropped);

#endif
