/* server/http/events.h - the event hub: notifies waiting requests and event streams. The events table is authoritative.
 * The hub's single thread reads new rows after every commit, keeps the latest in a ring, wakes requests that wait for
 * an object, and fills the buffers of event streams.
 *
 * Lock order: hub, stream, then the locks that park and wake take. No code takes the hub's lock while it holds a
 * stream's lock.
 */
#ifndef SERVER_HTTP_EVENTS_H
#define SERVER_HTTP_EVENTS_H

#include "api.h"
#include "wasd/base.h"

struct hub;

/* One row of the events table. The strings are borrowed for the duration of the call. data: JSON text. */
struct hub_event {
	int64_t seq;
	const char *type, *object, *data;
};
typedef void hub_event_fn(void *to, const struct hub_event *e);

/* Where events come from: storage in the daemon, an array in tests. Called on the hub's thread only. */
struct hub_source {
	void *ctx;
	/* Passes up to max rows with seq > after to fn, oldest first. */
	enum wasd_status (*after)(void *ctx, int64_t after, int max, hub_event_fn *fn, void *to, struct wasd_err *err);
	/* The lowest seq still in the table and the highest ever assigned (0, 0 if there are no events). */
	enum wasd_status (*bounds)(void *ctx, int64_t *first, int64_t *last, struct wasd_err *err);
	/* Appends up to max log lines of an object with numbers above *n to out, each followed by a newline, and sets *n to
	 * the number of the last one. */
	enum wasd_status (*log_after)(void *ctx, const char *object, const struct api_log_filter *filter, int64_t *n,
	                              int max, struct wasd_buf *out, struct wasd_err *err);
	/* True when this object will log no more lines. */
	bool (*log_over)(void *ctx, const char *object);
};

struct hub_config {
	int heartbeat_ms;
	int max_streams;
};

enum wasd_status hub_create(const struct hub_source *src, struct hub_config cfg, struct hub **out,
                            struct wasd_err *err);
void hub_poke(struct hub *h);    /* rows were committed; any thread, never blocks for long */
int64_t hub_seq(struct hub *h);  /* highest seq that waiters and streams have seen */
void hub_stop(struct hub *h);    /* ends every stream, fires every wait, joins the thread */
void hub_destroy(struct hub *h); /* after hub_stop, with no stream or wait left; NULL is fine */

/* ---- one-shot waits: a callback when an object changes or the time limit passes ---------- */

struct hub_wait {
	char object[64];  /* "" = any event */
	int64_t until_us; /* monotonic */
	void (*fire)(
		struct hub_wait *w); /* called once, on the hub's thread or in hub_wait_add, without locks; may free w */
	bool gone;               /* the hub has stopped: answer at once */
	/* private */
	struct hub_wait *next, **pprev;
};
/* Waits for events after seq `since`. If one is already there, fires at once. */
void hub_wait_add(struct hub *h, struct hub_wait *w, int64_t since);
/* True: the wait is cancelled and will not fire. False: it has fired or is about to. */
bool hub_wait_cancel(struct hub *h, struct hub_wait *w);

/* ---- event streams -------------------------------------------------------------------------- */

/* How a stream formats events: as Server-Sent Events, or as the log lines of one object in plain text. For text, topics
 * is not used, after_seq is the number of the last line that the reader has, filter selects lines, and the stream ends
 * with the object. */
enum hub_format { HUB_SSE, HUB_TEXT };

struct hub_stream;
/* topics: comma-separated list. An entry matches the part of the type before the dot, in singular or plural ("jobs" =
 * "job.*"), or a full type ("job.log"); "" = all. object: only events of that object; "" = all. after_seq -1: only new
 * events. hub_stream_read calls park(ctx) when there is no data, and the hub calls wake(ctx) once when there is some:
 * MHD's suspend and resume. WASD_EBUSY when max_streams streams are open. */
enum wasd_status hub_stream_open(struct hub *h, enum hub_format format, const char *topics, const char *object,
                                 const struct api_log_filter *filter, int64_t after_seq, void (*park)(void *ctx),
                                 void (*wake)(void *ctx), void *ctx, struct hub_stream **out, struct wasd_err *err);
/* Returns the number of bytes copied (up to max), 0 after calling park, or -1 at the end of the stream. */
int64_t hub_stream_read(struct hub_stream *s, void *buf, size_t max);
void hub_stream_end(
	struct hub_stream *s); /* no more events; wakes the reader, which gets -1 after the buffered bytes */
void hub_stream_close(struct hub_stream *s); /* by the reader, when it is done; NULL is fine */
int hub_streams(struct hub *h);              /* number of open streams */

#endif
