/* server/http/events.h - who is told when something happened. The events table is the truth; the hub's one thread reads
 * new rows after every commit, keeps the latest in a ring, wakes requests that wait for an object, and fills the
 * buffers of event streams.
 *
 * Locks, in this order: hub, stream, then whatever park/wake take. Nothing takes the hub's lock while it holds a
 * stream's.
 */
#ifndef SERVER_HTTP_EVENTS_H
#define SERVER_HTTP_EVENTS_H

#include "api.h"
#include "wasd/base.h"

struct hub;

/* One row of the events table; strings borrowed during the call. data: JSON text. */
struct hub_event {
	int64_t seq;
	const char *type, *object, *data;
};
typedef void hub_event_fn(void *to, const struct hub_event *e);

/* Where events come from: storage in the daemon, an array in tests. Called on the hub's thread only. */
struct hub_source {
	void *ctx;
	/* Up to max rows with seq > after, oldest first, each to fn. */
	enum wasd_status (*after)(void *ctx, int64_t after, int max, hub_event_fn *fn, void *to, struct wasd_err *err);
	/* Lowest seq kept and highest ever given (0, 0 when there is none). */
	enum wasd_status (*bounds)(void *ctx, int64_t *first, int64_t *last, struct wasd_err *err);
	/* Appends up to max log lines with a number over *n of an object to out, each ended by a newline, and moves *n on.
	 */
	enum wasd_status (*log_after)(void *ctx, const char *object, const struct api_log_filter *filter, int64_t *n,
	                              int max, struct wasd_buf *out, struct wasd_err *err);
	/* No more lines will come of this object. */
	bool (*log_over)(void *ctx, const char *object);
};

struct hub_config {
	int heartbeat_ms;
	int max_streams;
};

enum wasd_status hub_create(const struct hub_source *src, struct hub_config cfg, struct hub **out,
                            struct wasd_err *err);
void hub_poke(struct hub *h);    /* rows were committed; any thread, never blocks for long */
int64_t hub_seq(struct hub *h);  /* highest seq that waiters and streams have been told of */
void hub_stop(struct hub *h);    /* ends every stream and fires every wait; then the thread ends */
void hub_destroy(struct hub *h); /* after hub_stop and when no stream and no wait is left; NULL is fine */

/* ---- one shot: run something when an object changes or the time is over ------------------- */

struct hub_wait {
	char object[64];                  /* "" = any event */
	int64_t until_us;                 /* monotonic */
	void (*fire)(struct hub_wait *w); /* hub's thread, once, without locks; w is free to go */
	bool gone;                        /* the hub stopped: answer at once */
	/* private */
	struct hub_wait *next, **pprev;
};
/* Waits for events after seq `since`: one that came between fires at once. */
void hub_wait_add(struct hub *h, struct hub_wait *w, int64_t since);
/* True: taken back, fire will not come. False: it has fired or is about to. */
bool hub_wait_cancel(struct hub *h, struct hub_wait *w);

/* ---- event streams -------------------------------------------------------------------------- */

/* How events become bytes: Server-Sent Events, or the log lines of one object as text (topics is then not used,
 * after_seq is the number of the last line that the reader has; filter says which lines; the stream ends with the
 * object). */
enum hub_format { HUB_SSE, HUB_TEXT };

struct hub_stream;
/* topics: comma list matched against the part of the type before the dot in the plural or singular ("jobs" = "job.*")
 * or a full type ("job.log"); "" = all. object: only events of that object; "" = all. after_seq -1: only new ones.
 * park(ctx) is called inside hub_stream_read when nothing is there, wake(ctx) once when that has changed: MHD's suspend
 * and resume. WASD_EBUSY when max_streams are open. */
enum wasd_status hub_stream_open(struct hub *h, enum hub_format format, const char *topics, const char *object,
                                 const struct api_log_filter *filter, int64_t after_seq, void (*park)(void *ctx),
                                 void (*wake)(void *ctx), void *ctx, struct hub_stream **out, struct wasd_err *err);
/* Bytes copied (up to max), 0 after park was called, -1 at the end of the stream. */
int64_t hub_stream_read(struct hub_stream *s, void *buf, size_t max);
void hub_stream_end(struct hub_stream *s);   /* no more events; wakes the reader, which then sees -1 */
void hub_stream_close(struct hub_stream *s); /* the reader is gone; NULL is fine */
int hub_streams(struct hub *h);              /* open now */

#endif
