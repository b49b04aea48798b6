#include "http/exchange.h"

#include "http/assets.h"
#include "metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { QUICK_BODY = 64 << 10, QUICK_ANSWER = 4 << 10, WRITE_PIECE = 256 << 10, SINK_MAX = 16 << 20, PACK_MIN = 1024 };

static const char page_csp[] =
	"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'";

/* ---- create and free ------------------------------------------------------------------------------- */

struct exchange *exchange_create(struct exchange_env *env, const char *raw_uri)
{
	struct exchange *x = wasd_calloc(1, sizeof *x);
	if (!x)
		return NULL;
	x->env = env;
	x->refs = 1;
	pthread_mutex_init(&x->lock, NULL);
	api_response_init(&x->resp);
	wasd_ulid("req_", x->request_id);
	x->cause = log_cause_of(x->request_id, "");
	x->q.request_id = x->request_id;
	x->q.method = x->q.path = x->q.traceparent = "";
	x->q.actor = x->actor;
	x->q.uploads_taken = &x->uploads_taken;
	x->q.first_us = wasd_mono_us();
	x->q.deadline_us = x->q.first_us + env->lim.request_ms * 1000ll;
	x->raw_uri = arena_strndup(&x->arena, raw_uri, strlen(raw_uri));
	if (!strncmp(raw_uri, "/v2/", 4) || !strcmp(raw_uri, "/v2"))
		x->q.path = "/v2"; /* until the path is parsed: the prefix decides the format of a refusal */
	if (!x->raw_uri) {
		exchange_unref(x);
		return NULL;
	}
	return x;
}

void exchange_unref(struct exchange *x)
{
	pthread_mutex_lock(&x->lock);
	bool last = --x->refs == 0;
	pthread_mutex_unlock(&x->lock);
	if (!last)
		return;
	hub_stream_close(x->reply.stream);
	api_response_done(&x->resp);
	if (x->stage && x->uploads_taken)
		stage_keep(x->stage);
	stage_destroy(x->stage);
	wasd_buf_done(&x->body);
	wasd_buf_done(&x->writing_buf);
	wasd_buf_done(&x->packed);
	arena_done(&x->arena);
	pthread_mutex_destroy(&x->lock);
	wasd_free(x);
}

/* ---- the reply ------------------------------------------------------------------------------------------- */

static void reply_header(struct reply *r, const char *name, const char *value)
{
	if (r->n_headers < (int)(sizeof r->headers / sizeof r->headers[0]))
		r->headers[r->n_headers].name = name, r->headers[r->n_headers++].value = value;
}

static const char *resp_header(const struct api_response *r, const char *name)
{
	for (int i = 0; i < r->n_headers; i++)
		if (!strcasecmp(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

static char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *arena_printf(struct arena *a, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	return arena_strndup(a, text, strlen(text));
}

static bool compressible(const char *type)
{
	return type &&
	       (!strncmp(type, "text/", 5) || strstr(type, "json") || strstr(type, "javascript") || strstr(type, "svg")) &&
	       strncmp(type, "text/event-stream", 17);
}

/* Ranges of a stored file: 206 with the requested part, 416 beyond its end. If-Range must equal the entity tag. */
static void reply_source(struct exchange *x, struct reply *r)
{
	uint64_t size = x->resp.source.size, first, last;
	const char *range = x->head ? NULL : api_header(&x->q, "range"), *if_range = api_header(&x->q, "if-range"),
			   *etag = resp_header(&x->resp, "etag");
	r->from_source = true;
	r->length = size;
	reply_header(r, "Accept-Ranges", "bytes");
	if (!range || r->status != 200 || (if_range && (!etag || strcmp(if_range, etag))))
		return;
	int s = range_parse(range, size, &first, &last);
	if (s == 416) {
		if (x->resp.source.done)
			x->resp.source.done(x->resp.source.ctx);
		x->resp.source = (struct api_source){0};
		api_send_problem(&x->q, &x->resp, "range_not_satisfiable", "Range", "Range %.60s: the file has %llu bytes",
		                 range, (unsigned long long)size);
		r->status = 416;
		r->from_source = false;
		r->data = x->resp.body.data;
		r->length = x->resp.body.len;
		reply_header(r, "Content-Range", arena_printf(&x->arena, "bytes */%llu", (unsigned long long)size));
	} else if (s == 206) {
		r->status = 206;
		r->offset = first;
		r->length = last - first + 1;
		reply_header(r, "Content-Range",
		             arena_printf(&x->arena, "bytes %llu-%llu/%llu", (unsigned long long)first,
		                          (unsigned long long)last, (unsigned long long)size));
	}
}

/* Each representation has its own strong entity tag: "abc" becomes "abc-gzip" (api_etag_listed accepts all of them). */
static void name_coding(struct exchange *x, const char *coding)
{
	for (int i = 0; i < x->resp.n_headers; i++) {
		char *v = x->resp.headers[i].value;
		size_t n = strlen(v), more = strlen(coding);
		if (strcasecmp(x->resp.headers[i].name, "etag") || n < 2 || *v != '"' ||
		    n + more + 2 > sizeof x->resp.headers[i].value)
			continue;
		v[n - 1] = '-';
		memcpy(v + n, coding, more);
		memcpy(v + n + more, "\"", 2);
	}
}

static void reply_body(struct exchange *x, struct reply *r)
{
	struct api_response *resp = &x->resp;
	const char *etag = resp_header(resp, "etag");
	r->data = resp->body.data;
	r->length = resp->body.len;
	bool get = !strcmp(x->q.method, "GET");
	if (!etag && get && r->status == 200 && resp->etag_auto && resp->body.len) {
		char hex[WASD_SHA256_HEX];
		wasd_sha256_of(resp->body.data, resp->body.len, hex);
		hex[32] = 0;
		etag = arena_printf(&x->arena, "W/\"%s\"", hex);
		reply_header(r, "ETag", etag);
	}
	if (etag && get && r->status == 200 &&
	    etag_in_list(api_header(&x->q, "if-none-match"), !strncmp(etag, "W/", 2) ? etag + 2 : etag)) {
		r->status = 304;
		r->data = NULL;
		r->length = 0;
		return;
	}
	if (compressible(resp->content_type) && !resp_header(resp, "content-encoding")) {
		reply_header(r, "Vary", "Accept-Encoding");
		enum coding coding = r->length >= PACK_MIN ? coding_choose(api_header(&x->q, "accept-encoding")) : CODING_NONE;
		if (coding != CODING_NONE && coding_pack(coding, r->data, r->length, &x->packed)) {
			r->data = x->packed.data;
			r->length = x->packed.len;
			reply_header(r, "Content-Encoding", coding_name(coding));
			name_coding(x, coding_name(coding));
		}
	}
}

static enum wasd_status reply_stream(struct exchange *x, struct reply *r);

/* Turns x->resp into the reply to send. */
static void reply_build(struct exchange *x, struct reply *r)
{
	struct api_response *resp = &x->resp;
	struct wasd_err err;
	bool close = r->close;
	for (int tries = 0;; tries++) {
		*r = (struct reply){.status = resp->status, .close = close};
		if (!resp->status || resp->body.failed) {
			/* The handler set no status, or there was no memory for its body. */
			bool oom = resp->body.failed;
			r->status = oom ? 503 : 500;
			break;
		}
		if ((resp->events.on || resp->follow_log.on) && tries == 0) {
			if (reply_stream(x, r) != WASD_OK) {
				wasd_fail(&err, WASD_EBUSY, "too many event streams are open");
				api_response_done(resp);
				api_response_init(resp);
				api_send_error(&x->q, resp, &err);
				continue;
			}
		} else if (resp->source.read) {
			reply_source(x, r);
		} else {
			reply_body(x, r);
		}
		break;
	}
	if (resp->content_type && r->status != 304 && (r->length || r->is_stream || r->from_source))
		reply_header(r, "Content-Type", resp->content_type);
	for (int i = 0; i < resp->n_headers; i++)
		reply_header(r, resp->headers[i].name, resp->headers[i].value);
	if (r->status == 503 && !resp_header(resp, "retry-after"))
		reply_header(r, "Retry-After", "1");
	if (!resp_header(resp, "cache-control"))
		reply_header(r, "Cache-Control", "no-cache");
	reply_header(r, "X-Content-Type-Options", "nosniff");
	reply_header(r, "X-Request-Id", x->request_id);
	if (*x->q.traceparent)
		reply_header(r, "traceparent", x->q.traceparent);
}

/* Makes a reply at once, on the connection's thread. */
static bool refuse(struct exchange *x, bool close, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static bool refuse(struct exchange *x, bool close, const char *code, const char *fmt, ...)
{
	char text[200];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	api_send_problem(&x->q, &x->resp, code, NULL, "%s", text);
	x->reply.close = close;
	reply_build(x, &x->reply);
	x->phase = X_READY;
	return true;
}

static bool refuse_err(struct exchange *x, const struct wasd_err *err)
{
	api_send_error(&x->q, &x->resp, err);
	x->reply.close = true;
	reply_build(x, &x->reply);
	x->phase = X_READY;
	return true;
}

/* ---- head --------------------------------------------------------------------------------------------------- */

static bool unrouted(struct exchange *x, const char *allow)
{
	api_send_unrouted(&x->q, &x->resp, allow);
	reply_build(x, &x->reply);
	x->phase = X_READY;
	return true;
}

/* The file for a path: "/" and "/ui/NAME" for the dashboard, "/docs" and "/docs/NAME" for the reference, whose pages
 * have no file extension in the path. */
static const struct web_asset *asset_find(const char *path)
{
	char name[80] = "";
	if (!strcmp(path, "/"))
		snprintf(name, sizeof name, "index.html");
	else if (!strcmp(path, "/docs") || !strcmp(path, "/docs/"))
		snprintf(name, sizeof name, "docs/index.html");
	else if (!strncmp(path, "/docs/", 6))
		snprintf(name, sizeof name, "%.70s%s", path + 1, strchr(path, '.') ? "" : ".html");
	else if (!strncmp(path, "/ui/", 4) && !strchr(path + 4, '/'))
		snprintf(name, sizeof name, "%.70s", path + 4);
	for (const struct web_asset *a = web_assets; a->name; a++)
		if (!strcmp(a->name, name))
			return a;
	return NULL;
}

static bool asset_reply(struct exchange *x)
{
	const struct web_asset *a = asset_find(x->q.path);
	if (!a)
		return false;
	x->asset = true;
	if (strcmp(x->q.method, "GET"))
		return unrouted(x, "GET, HEAD");
	x->resp.status = 200;
	x->resp.content_type = content_type_of(a->name);
	wasd_buf_append(&x->resp.body, a->data, (size_t)(a->end - a->data));
	x->resp.etag_auto = true;
	api_set_header(&x->resp, "Content-Security-Policy", "%s", page_csp);
	reply_build(x, &x->reply);
	x->phase = X_READY;
	return true;
}

static bool copy_headers(struct exchange *x, const struct api_pair *h, size_t n)
{
	struct api_pair *to = arena_alloc(&x->arena, (n + 1) * sizeof *to);
	if (!to)
		return false;
	for (size_t i = 0; i < n; i++) {
		char *name = arena_strndup(&x->arena, h[i].name, strlen(h[i].name)),
			 *value = arena_strndup(&x->arena, h[i].value, strlen(h[i].value));
		if (!name || !value)
			return false;
		for (char *p = name; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p + 32);
		to[i] = (struct api_pair){name, value};
	}
	x->q.headers = to;
	x->q.n_headers = n;
	return true;
}

static const char *framing_code(int status)
{
	return status == 413 ? "too_large" : status == 501 ? "not_implemented" : "bad_request";
}

/* Applies the route's rules for the body. True: refused. */
static bool body_rules(struct exchange *x)
{
	const struct exchange_limits *lim = &x->env->lim;
	bool has = x->framing.chunked || x->framing.length;
	enum api_body kind = x->route->body;
	x->body_limit = kind == API_BODY_JSON   ? lim->json_bytes :
	                kind == API_BODY_BULK   ? lim->bulk_bytes :
	                kind == API_BODY_UPLOAD ? lim->upload_bytes :
	                                          0;
	if (has && kind == API_BODY_NONE && x->framing.length)
		return refuse(x, true, "body_not_allowed", "%s %s takes no body", x->q.method, x->q.path);
	if (x->framing.length > x->body_limit)
		return refuse(x, true, "too_large", "the body has %llu bytes, the limit for this request is %llu",
		              (unsigned long long)x->framing.length, (unsigned long long)x->body_limit);
	const char *enc = api_header(&x->q, "content-encoding");
	bool known = coding_read(enc, &x->coding);
	if (!known || (x->coding != CODING_NONE && kind == API_BODY_UPLOAD)) {
		refuse(x, true, "unsupported_media_type", "this request does not accept a body with Content-Encoding %.60s",
		       enc);
		reply_header(&x->reply, "Accept-Encoding", kind == API_BODY_UPLOAD ? "identity" : CODINGS_READ);
		return true;
	}
	if (kind != API_BODY_UPLOAD || !has)
		return false;
	struct wasd_err err;
	const struct upload_space space = x->env->app.space;
	if (space.check && space.check(space.ctx, x->framing.length, &err) != WASD_OK)
		return refuse_err(x, &err);
	if (stage_create(x->env->staging, x->body_limit, space, &x->stage, &err) != WASD_OK)
		return refuse_err(x, &err);
	return false;
}

/* True: the reply is ready. */
static bool head_refused(struct exchange *x, const char *method, const char *version, const struct api_pair *headers,
                         size_t n, size_t header_bytes, const char *peer)
{
	const char *why;
	char *path = NULL;
	struct api_pair *query = NULL;
	snprintf(x->actor, sizeof x->actor, "anonymous@%s", peer);
	x->head = !strcmp(method, "HEAD");
	x->q.method = x->head ? "GET" : arena_strndup(&x->arena, method, strnlen(method, 32));
	if (!x->q.method) {
		x->q.method = "GET";
		return refuse(x, true, "no_memory", "out of memory");
	}
	int bad = framing_check(version, headers, n, &x->framing, &why);
	if (bad)
		return refuse(x, true, framing_code(bad), "%s", why);
	if (strlen(x->raw_uri) > URI_MAX)
		return refuse(x, true, "uri_too_long", "the URI has more than %d bytes", URI_MAX);
	if (header_bytes > HEADERS_MAX || n > HEADER_COUNT_MAX)
		return refuse(x, true, "headers_too_large", "the headers have more than %d bytes or %d lines", HEADERS_MAX,
		              HEADER_COUNT_MAX);
	if (!copy_headers(x, headers, n))
		return refuse(x, true, "no_memory", "out of memory");
	x->framed = true;
	const char *tp = api_header(&x->q, "traceparent");
	if (tp && traceparent_ok(tp))
		x->q.traceparent = tp;
	x->cause = log_cause_of(x->request_id, x->q.traceparent);
	if (!uri_parse(&x->arena, x->raw_uri, &path, &query, &x->q.n_query, &why))
		return *why ? refuse(x, true, "bad_request", "%s", why) : refuse(x, true, "no_memory", "out of memory");
	x->q.path = path;
	x->q.query = query;
	if (atomic_load(&x->env->stopping))
		return refuse(x, true, "draining", "the daemon is stopping");
	char allow[64] = "";
	x->route = x->env->app.find(x->q.method, path, allow);
	bool has_body = x->framing.chunked || x->framing.length;
	if (!x->route) {
		if (!*allow && asset_reply(x)) {
			x->reply.close |= has_body;
			return true;
		}
		x->reply.close = has_body;
		return unrouted(x, allow);
	}
	if (body_rules(x))
		return true;
	x->phase = X_BODY;
	return false;
}

/* True if the body must be read and discarded after the reply, up to a limit: closing the connection with unread bytes
 * makes the kernel reset it, and a client that is still sending may lose the reply. A client that waits for "100
 * Continue" has sent nothing. */
static bool drained(const struct exchange *x)
{
	const char *expect = api_header(&x->q, "expect");
	bool has_body = x->framing.chunked || x->framing.length;
	return x->framed && has_body && !(expect && !strcasecmp(expect, "100-continue")) &&
	       x->framing.length <= x->body_limit + SINK_MAX;
}

bool exchange_head(struct exchange *x, const char *method, const char *version, const struct api_pair *headers,
                   size_t n, size_t header_bytes, const char *peer)
{
	if (!head_refused(x, method, version, headers, n, header_bytes, peer))
		return false;
	x->drains = x->reply.close && drained(x);
	return true;
}

bool exchange_text(struct exchange *x, const char *reason, struct wasd_buf *out)
{
	const struct reply *r = &x->reply;
	wasd_buf_printf(out, "HTTP/1.1 %d %s\r\nConnection: close\r\n", r->status, reason);
	for (int i = 0; i < r->n_headers; i++)
		wasd_buf_printf(out, "%s: %s\r\n", r->headers[i].name, r->headers[i].value ? r->headers[i].value : "");
	wasd_buf_printf(out, "Content-Length: %llu\r\n\r\n", (unsigned long long)r->length);
	if (!x->head)
		wasd_buf_append(out, r->data, (size_t)r->length);
	x->phase = X_SINK;
	x->told = true;
	return !out->failed;
}

/* ---- body ------------------------------------------------------------------------------------------------------ */

static void write_piece(struct pool_job *job)
{
	struct exchange *x = (struct exchange *)((char *)job - offsetof(struct exchange, job));
	stage_write(x->stage, x->writing_buf.data, x->writing_buf.len, NULL);
	x->writing_buf.len = 0;
	pthread_mutex_lock(&x->lock);
	x->writing = false;
	x->env->resume(x);
	pthread_mutex_unlock(&x->lock);
	exchange_unref(x);
}

/* The body is over the limit or the disk failed: makes the reply now; it is sent when the client has finished sending.
 */
static enum exchange_next sink(struct exchange *x, const struct wasd_err *err)
{
	refuse_err(x, err);
	x->phase = X_SINK;
	return X_GO_ON;
}

enum exchange_next exchange_data(struct exchange *x, const void *p, size_t n)
{
	struct wasd_err err;
	pthread_mutex_lock(&x->lock);
	enum exchange_next next = X_GO_ON;
	x->seen += n;
	if (x->phase == X_SINK) {
		next = x->seen > x->body_limit + SINK_MAX ? X_CUT : X_GO_ON;
	} else if (x->seen > x->body_limit) {
		wasd_fail(&err, WASD_ETOOBIG, "the body exceeds the limit of %llu bytes for this request",
		          (unsigned long long)x->body_limit);
		next = sink(x, &err);
	} else if (x->stage && !x->writing && stage_write(x->stage, "", 0, &err) != WASD_OK) {
		next = sink(x, &err);
	} else if (!wasd_buf_append(&x->body, p, n)) {
		wasd_fail(&err, WASD_ENOMEM, "no memory for the body");
		next = sink(x, &err);
	} else if (x->stage && !x->writing && x->body.len >= WRITE_PIECE) {
		struct wasd_buf full = x->body;
		x->body = x->writing_buf;
		x->body.len = 0;
		x->writing_buf = full;
		x->writing = true;
		x->job.run = write_piece;
		next = X_PAUSE;
	}
	pthread_mutex_unlock(&x->lock);
	return next;
}

static void run_first(struct pool_job *job);

/* Handing a small inference request to a worker would take longer than its handler, which only queues a question. */
static bool is_quick(const struct exchange *x)
{
	return x->route && x->route->body == API_BODY_BULK && !x->stage && x->coding == CODING_NONE &&
	       x->body.len <= QUICK_BODY;
}

enum exchange_next exchange_end(struct exchange *x)
{
	pthread_mutex_lock(&x->lock);
	enum exchange_next next = X_PAUSE;
	if (x->told) {
		next = X_CUT;
	} else if (x->phase == X_SINK || x->phase == X_READY) {
		x->phase = X_READY;
		next = X_REPLY;
	} else if (x->writing || x->phase == X_WORK) {
		next = X_GO_ON; /* suspended; the library calls again after the resume */
	} else if (is_quick(x)) {
		x->phase = X_WORK;
		x->quick = true;
	} else if (!pool_reserve(x->env->workers)) {
		refuse(x, false, "busy", "all worker threads are busy and the queue is full");
		next = X_REPLY;
	} else {
		x->phase = X_WORK;
		x->job.run = run_first;
	}
	pthread_mutex_unlock(&x->lock);
	return next;
}

void exchange_paused(struct exchange *x)
{
	pthread_mutex_lock(&x->lock);
	x->refs++;
	bool writing = x->writing;
	pthread_mutex_unlock(&x->lock);
	if (writing)
		pool_submit(x->env->writers, &x->job);
	else if (x->quick)
		run_first(&x->job);
	else
		pool_submit_reserved(x->env->workers, &x->job); /* the place that exchange_end took */
}

/* ---- on a worker thread ----------------------------------------------------------------------------------------- */

/* Commits the reply unless the exchange was given up meanwhile, and drops the worker's reference. */
static void finish(struct exchange *x)
{
	struct reply r = {0};
	reply_build(x, &r);
	pthread_mutex_lock(&x->lock);
	bool late = x->phase != X_WORK;
	if (!late) {
		x->reply = r;
		x->phase = X_READY;
		x->env->resume(x);
	}
	pthread_mutex_unlock(&x->lock);
	if (late)
		hub_stream_close(r.stream);
	exchange_unref(x);
}

static void finish_problem(struct exchange *x, const char *code, const char *text)
{
	api_response_done(&x->resp);
	api_response_init(&x->resp);
	api_send_problem(&x->q, &x->resp, code, NULL, "%s", text);
	finish(x);
}

static void stream_park(void *ctx);
static void stream_wake(void *ctx);

static void wait_fired(struct hub_wait *w);

/* ---- questions to engine processes ------------------------------------------------------------------------ */

static void run_answered(struct pool_job *job)
{
	struct exchange *x = (struct exchange *)((char *)job - offsetof(struct exchange, job));
	struct api_ask *ask = x->resp.ask;
	x->resp.ask = NULL;
	log_begin(&x->cause);
	ask->finish(x->env->app.ctx, &x->q, &x->resp, ask);
	log_begin(NULL);
	finish(x);
}

/* Any thread, also the supervisor's, which is to do little: a small answer is built at once, others by a worker. */
static void answered(void *ctx)
{
	struct exchange *x = ctx;
	const struct api_ask *ask = x->resp.ask;
	bool small = ask->status == WASD_OK && ask->call.reply_bin && ask->call.reply_bin_len <= QUICK_ANSWER;
	pthread_mutex_lock(&x->lock);
	x->asking = false;
	pthread_mutex_unlock(&x->lock);
	x->job.run = run_answered;
	if (small)
		run_answered(&x->job);
	else
		pool_submit(x->env->workers, &x->job);
}

static void forget(struct exchange *x)
{
	const struct api_ctx *c = x->env->app.ctx;
	if (x->timing)
		c->estimates.forget(c->estimates.self, x);
	else
		c->serving.forget(c->serving.self, x);
}

/* Blocks no thread: the exchange continues when the answer arrives. */
static void ask(struct exchange *x)
{
	const struct api_ctx *c = x->env->app.ctx;
	pthread_mutex_lock(&x->lock);
	x->asking = true;
	x->timing = x->resp.ask->timing;
	x->refs++;
	pthread_mutex_unlock(&x->lock);
	if (x->timing)
		c->estimates.ask(c->estimates.self, x->resp.ask, answered, x);
	else
		c->serving.ask(c->serving.self, x->resp.ask, answered, x);
	pthread_mutex_lock(&x->lock);
	bool useless = x->asking && (x->peer_gone || x->phase != X_WORK);
	pthread_mutex_unlock(&x->lock);
	if (useless)
		forget(x);
	exchange_unref(x);
}

static void run_handler(struct exchange *x)
{
	api_response_done(&x->resp);
	api_response_init(&x->resp);
	if (atomic_load(&x->env->stopping) && x->q.waited) {
		finish_problem(x, "draining", "the daemon is stopping");
		return;
	}
	x->since_seq = hub_seq(x->env->hub);
	log_begin(&x->cause);
	enum api_result result = x->env->app.handle(x->env->app.ctx, x->route, &x->q, &x->resp);
	log_begin(NULL);
	if (result == API_ASK) {
		ask(x);
		return;
	}
	if (result == API_DONE) {
		finish(x);
		return;
	}
	int64_t most = x->q.first_us + x->env->lim.hold_ms * 1000ll;
	if (wasd_mono_us() >= most) {
		finish_problem(x, "deadline", "the awaited change did not happen before the deadline");
		return;
	}
	x->q.waited++;
	x->wait = (struct hub_wait){.until_us = x->resp.again.until_us < most ? x->resp.again.until_us : most,
	                            .fire = wait_fired};
	snprintf(x->wait.object, sizeof x->wait.object, "%s", x->resp.again.object);
	pthread_mutex_lock(&x->lock);
	x->waiting = true;
	pthread_mutex_unlock(&x->lock);
	hub_wait_add(x->env->hub, &x->wait, x->since_seq);
}

static void run_again(struct pool_job *job)
{
	struct exchange *x = (struct exchange *)((char *)job - offsetof(struct exchange, job));
	pthread_mutex_lock(&x->lock);
	bool useless = x->wait.gone || x->peer_gone;
	pthread_mutex_unlock(&x->lock);
	if (useless)
		finish_problem(x, "draining", "the daemon is stopping");
	else
		run_handler(x);
}

static void wait_fired(struct hub_wait *w)
{
	struct exchange *x = (struct exchange *)((char *)w - offsetof(struct exchange, wait));
	pthread_mutex_lock(&x->lock);
	x->waiting = false;
	pthread_mutex_unlock(&x->lock);
	x->job.run = run_again;
	pool_submit(x->env->workers, &x->job);
}

/* Undoes Content-Encoding. The limit applies to the inflated size. */
static bool inflate_body(struct exchange *x, struct wasd_err *err)
{
	struct wasd_buf out = {0};
	if (coding_unpack(x->coding, x->body.data, x->body.len, (size_t)x->body_limit, &out, err) != WASD_OK) {
		wasd_buf_done(&out);
		return false;
	}
	wasd_buf_done(&x->body);
	x->body = out;
	return true;
}

static void run_first(struct pool_job *job)
{
	struct exchange *x = (struct exchange *)((char *)job - offsetof(struct exchange, job));
	struct wasd_err err;
	bool ok = true;
	if (x->stage) {
		ok = stage_write(x->stage, x->body.data, x->body.len, &err) == WASD_OK &&
		     stage_finish(x->stage, &x->upload, &err) == WASD_OK;
		if (ok && x->upload.bytes) {
			x->q.uploads = &x->upload;
			x->q.n_uploads = 1;
		}
	} else {
		if (x->coding != CODING_NONE && x->body.len)
			ok = inflate_body(x, &err);
		x->q.body = wasd_buf_cstr(&x->body);
		x->q.body_len = x->body.len;
		if (ok && !x->q.body) {
			ok = false;
			wasd_fail(&err, WASD_ENOMEM, "no memory for the body");
		}
	}
	if (!ok) {
		if (err.status == WASD_EINVAL)
			api_send_problem(&x->q, &x->resp, "bad_request", NULL, "%s", err.msg);
		else
			api_send_error(&x->q, &x->resp, &err);
		finish(x);
		return;
	}
	run_handler(x);
}

/* ---- streams ----------------------------------------------------------------------------------------------- */

static enum wasd_status reply_stream(struct exchange *x, struct reply *r)
{
	struct api_response *resp = &x->resp;
	r->is_stream = true;
	resp->content_type = resp->events.on    ? "text/event-stream" :
	                     resp->content_type ? resp->content_type :
	                                          "text/plain; charset=utf-8";
	api_set_header(resp, "X-Accel-Buffering", "no");
	if (x->head)
		return WASD_OK;
	return hub_stream_open(x->env->hub, resp->events.on ? HUB_SSE : HUB_TEXT,
	                       resp->events.on ? resp->events.topics : "job.log",
	                       resp->events.on ? resp->events.object : resp->follow_log.job,
	                       resp->events.on ? NULL : &resp->follow_log.filter,
	                       resp->events.on ? resp->events.after_seq : resp->follow_log.after, stream_park, stream_wake,
	                       x, &r->stream, NULL);
}

static void stream_park(void *ctx)
{
	struct exchange *x = ctx;
	x->env->park(x);
}

static void stream_wake(void *ctx)
{
	struct exchange *x = ctx;
	x->env->resume(x);
}

/* ---- accounting -------------------------------------------------------------------------------------------- */

/* Requests for no route share one label: paths and methods that clients make up must not make series. */
static void count(const struct exchange *x, int64_t us)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
	const struct api_ctx *ctx = x->env->app.ctx;
	const char *method = x->head ? "HEAD" : "other", *route = x->asset ? "asset" : "other";
	char code[8];
	for (size_t i = 0; i < sizeof methods / sizeof methods[0] && !x->head; i++)
		if (!strcmp(x->q.method, methods[i]))
			method = methods[i];
	snprintf(code, sizeof code, "%d", x->reply.status);
	metric_observe(ctx ? ctx->metrics : NULL, METRIC_HTTP_DURATION, (double)us / 1e6,
	               LABELS(x->route ? x->route->pattern : route, method, code));
}

void exchange_account(const struct exchange *x)
{
	int64_t us = wasd_mono_us() - x->q.first_us;
	int dropped = 0;
	count(x, us);
	log_begin(&x->cause);
	if (x->reply.status < 500)
		log_line(LOG_DEBUG, "request", "actor=%s method=%s uri=%s status=%d us=%lld", x->actor,
		         x->head ? "HEAD" : LOG_Q(x->q.method), LOG_Q(x->raw_uri), x->reply.status, (long long)us);
	else if (log_allow(&x->env->failed_rate, 10, &dropped))
		log_line(LOG_WARN, "request failed", "actor=%s method=%s uri=%s status=%d us=%lld why=%s more=%d", x->actor,
		         x->head ? "HEAD" : LOG_Q(x->q.method), LOG_Q(x->raw_uri), x->reply.status, (long long)us,
		         LOG_Q(x->resp.problem), dropped);
	log_begin(NULL);
}

/* ---- ending an exchange early ------------------------------------------------------------------------------ */

void exchange_peer_gone(struct exchange *x)
{
	pthread_mutex_lock(&x->lock);
	x->peer_gone = true;
	bool cut = x->phase == X_WORK && x->waiting;
	bool asking = x->asking;
	struct hub_stream *stream = x->phase == X_READY ? x->reply.stream : NULL;
	pthread_mutex_unlock(&x->lock);
	if (asking)
		forget(x);
	if (stream)
		hub_stream_end(stream);
	if (cut && hub_wait_cancel(x->env->hub, &x->wait))
		wait_fired(&x->wait);
}

void exchange_give_up(struct exchange *x)
{
	static const char text[] =
		"{\"type\":\"/docs/errors#draining\",\"title\":\"The daemon is stopping\",\"status\":503,\"code\":\"draining\","
		"\"detail\":\"the daemon is stopping\",\"error\":\"the daemon is stopping\"}";
	pthread_mutex_lock(&x->lock);
	if (x->phase == X_WORK) {
		x->reply = (struct reply){.status = 503, .data = text, .length = sizeof text - 1, .close = true};
		reply_header(&x->reply, "Content-Type", "application/json");
		reply_header(&x->reply, "Retry-After", "1");
		reply_header(&x->reply, "X-Request-Id", x->request_id);
		x->phase = X_READY;
		x->env->resume(x);
	}
	bool asking = x->asking;
	pthread_mutex_unlock(&x->lock);
	if (asking)
		forget(x);
}
