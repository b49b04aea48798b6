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
/* Whose work this thread does: every line that it writes ends with id=req_... and, if the client sent a traceparent,
 * trace=... A worker sets the cause while it handles a request, and takes it along to threads that go on with it. */
struct log_cause {
	char id[40];    /* of the request, "": none */
	char trace[33]; /* trace-id of its traceparent, "": none */
};
struct log_cause log_cause_of(const char *request_id, const char *traceparent);
void log_begin(const struct log_cause *cause); /* NULL: this thread works for no request from here on */
struct log_cause log_cause(void);              /* this thread's */
/* The same for work that starts later, on another thread, as with a job in its queue: remembers this thread's cause as
 * that of the object with this id. The last 512 objects are kept; a line about another one has no ids. */
void log_remember(const char *object);
/* log_line about an object, with the cause remembered for it. */
void log_about(const char *object, enum log_level level, const char *msg, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#define LOG_Q(s) log_quote((char[160]){0}, 160, (s))

/* Limits one place to `burst` lines per second. True: write the line; *dropped is the number of lines suppressed since
 * the last report. */
struct log_rate {
	_Atomic int64_t second;
	_Atomic int count, dropped;
};
bool log_allow(struct log_rate *r, int burst, int *dropped);

#endif
