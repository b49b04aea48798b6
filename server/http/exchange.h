/* server/http/exchange.h - one request and its reply, without a socket: early checks, body, handler, reply.
 * connection.c feeds it from libmicrohttpd's callbacks and sends the reply.
 *
 * States. HEAD: headers are arriving. BODY: the body is arriving. SINK: the request is refused; the rest of the body is
 * read and discarded, before or after the reply is sent, so that the client gets to read the reply. WORK: a worker, a
 * disk writer or the hub holds the exchange and the connection is suspended. READY: the reply can be sent. Every state
 * change happens under `lock`. A worker that finishes after the exchange was given up finds READY and drops its result.
 */
#ifndef SERVER_HTTP_EXCHANGE_H
#define SERVER_HTTP_EXCHANGE_H

#include "api.h"
#include "http/coding.h"
#include "http/events.h"
#include "http/parse.h"
#include "log.h"
#include "pool.h"
#include "http/upload.h"

#include <pthread.h>

struct exchange;

/* Entry points of the API; tests put their own routes here. */
struct exchange_app {
	const struct api_route *(*find)(const char *method, const char *path, char allow[64]);
	enum api_result (*handle)(struct api_ctx *c, const struct api_route *rt, const struct api_request *q,
	                          struct api_response *r);
	struct api_ctx *ctx;
	struct upload_space space; /* room for uploads */
};

struct exchange_limits {
	uint64_t json_bytes, bulk_bytes, upload_bytes;
	int request_ms; /* a handler's deadline */
	int hold_ms;    /* the longest time that API_AGAIN may hold a request */
};

struct exchange_env {
	struct exchange_app app;
	struct exchange_limits lim;
	struct hub *hub;
	struct pool *workers, *writers;
	const char *staging;
	void (*resume)(struct exchange *x); /* called once after each exchange_paused, with x->lock held */
	void (*park)(struct exchange *x);   /* suspends a stream's connection; called inside its content callback */
	_Atomic bool stopping;
	struct log_rate failed_rate;
};

enum exchange_phase { X_HEAD, X_BODY, X_SINK, X_WORK, X_READY };

struct reply {
	int status;
	struct {
		const char *name, *value;
	} headers[32];
	int n_headers;
	const char *data; /* the body, or ... */
	uint64_t length;
	uint64_t offset; /* ... the part of resp.source that starts here */
	bool from_source, close;
	struct hub_stream *stream; /* ... or events */
	bool is_stream;
};

struct exchange {
	struct exchange_env *env;
	void *connection; /* owned by connection.c */
	pthread_mutex_t lock;
	int refs; /* one for the connection, one for a job that a pool or the hub holds */
	enum exchange_phase phase;
	bool writing, peer_gone, waiting, asking;
	bool timing; /* the question is for api_estimates */
	struct arena arena;
	char *raw_uri;
	struct api_request q;
	struct api_response resp;
	const struct api_route *route;
	bool asset; /* a file of the dashboard or the reference */
	struct framing framing;
	char request_id[40];
	struct log_cause cause;
	char actor[80];
	bool head, uploads_taken;
	bool framed; /* the end of the body is known */
	bool drains; /* refused: exchange_text gives the reply, and the body is discarded after it */
	bool told;   /* the reply has been sent or is being sent */
	bool quick;  /* handled on the connection's thread */
	uint64_t body_limit, seen;
	enum coding coding; /* Content-Encoding of the body */
	struct wasd_buf body, writing_buf, packed;
	struct stage *stage;
	struct api_upload upload;
	struct pool_job job;
	struct hub_wait wait;
	int64_t since_seq;
	struct reply reply;
};

struct exchange *exchange_create(struct exchange_env *env, const char *raw_uri); /* NULL: no memory */
void exchange_unref(struct exchange *x);

/* Call when the headers are complete. Copies what it needs. True: the reply is ready in x->reply and the body will not
 * be read. */
bool exchange_head(struct exchange *x, const char *method, const char *version, const struct api_pair *headers,
                   size_t n, size_t header_bytes, const char *peer);

/* Appends the whole reply in wire format to out. From here on the body is discarded, and the connection is closed at
 * its end. reason: the status's reason phrase. False: no memory. */
bool exchange_text(struct exchange *x, const char *reason, struct wasd_buf *out);

/* What the connection does next. PAUSE: suspend it, then call exchange_paused. */
enum exchange_next { X_GO_ON, X_PAUSE, X_REPLY, X_CUT };
enum exchange_next exchange_data(struct exchange *x, const void *p, size_t n);
enum exchange_next exchange_end(struct exchange *x);
void exchange_paused(struct exchange *x);

/* Counts and logs the request, whose reply is about to be sent. */
void exchange_account(const struct exchange *x);

/* The client has closed the connection or the daemon is stopping: ends a wait at once, but not a running handler. */
void exchange_peer_gone(struct exchange *x);
/* Answers 503 without waiting for the worker that still holds the exchange. */
void exchange_give_up(struct exchange *x);

#endif
