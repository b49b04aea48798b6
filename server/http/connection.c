/* connection.c - connections, over libmicrohttpd 0.9.75: two epoll threads that never block. This file works around the
 * following undocumented behaviour of the library (each item has a test in tests/server/http_*.c or
 * tests/e2e/test_daemon.py):
 *  - Its timeout covers idle time only: the reaper gives every phase of a connection an absolute deadline and then
 *    shuts the socket down.
 *  - It never notices that the peer of a suspended connection has gone, and misses some others: the reaper polls the
 *    sockets.
 *  - It aborts if it is stopped with a connection suspended: http_stop resumes all of them first.
 *  - It decodes URLs before the handler sees them: log_uri copies the raw text and parse.c decodes it.
 *  - It accepts two Content-Length headers, and Content-Length with Transfer-Encoding: framing_check refuses both.
 *  - Its own refusals send the status line twice: strictness is 0, and framing_check does the checks of strictness 1.
 *  - It splits query and cookies into lists in a connection's memory, and answers twice or never when that memory is
 *    full: hide_lists hides both from it.
 *  - A head that nearly fills a connection's memory leaves no room for a reply: on_head writes a short one directly.
 *  - When its connection table is full, new clients stay in the backlog without a reply: our limit is lower and answers
 *    503.
 *
 * Locks: http.lock guards the list of connections. It is taken before an exchange's lock, never while one is held.
 */
#include "http/connection.h"
#include "address.h"
#include "log.h"
#include "wasd/cond.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum connection_phase { C_IDLE, C_HEADER, C_BODY, C_WORK, C_REPLY, C_STREAM, C_REJECTED };

struct connection {
	struct connection *next, **pprev;
	struct http *http;
	struct MHD_Connection *mhd;
	int fd;
	char peer[INET6_ADDRSTRLEN];
	bool loopback, rejected; /* rejected never changes after the start */
	enum connection_phase phase;
	int64_t since_us; /* start of the phase; for streams: time of the last acknowledged byte */
	uint64_t mark;    /* bytes received or acknowledged at the start of the phase */
	bool hung_up;     /* at the last poll the peer had closed its half, during a request or between two */
	struct exchange *x;
};

struct http {
	struct http_config cfg;
	struct exchange_env env;
	struct MHD_Daemon *mhd;
	char address[80];
	char *staging;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct connection *connections;
	int n_connections, n_busy; /* busy: connections with an exchange */
	pthread_t reaper;
	bool reaping, stopping;
	struct log_rate reject_rate, refuse_rate;
};

/* Bytes of the library's memory for one connection, which holds the heads of request and reply; bytes that each header
 * takes there in addition to its text; bytes reserved for the reply. */
enum { CONNECTION_MEMORY = 64 << 10, HEADER_MEMORY = 64, ANSWER_MEMORY = 8 << 10 };

static const char canned_431[] =
	"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 183\r\n\r\n"
	"{\"type\":\"/docs/errors#headers_too_large\",\"title\":\"Headers too large\",\"status\":431,\"code\":\"headers_too_large\",\"detail\":\"the headers are too large\",\"error\":\"the headers are too large\"}\n";

static const char canned_503[] =
	"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 145\r\n\r\n"
	"{\"type\":\"/docs/errors#busy\",\"title\":\"Try again later\",\"status\":503,\"code\":\"busy\",\"detail\":\"too many connections\",\"error\":\"too many connections\"}\n";

/* ---- the list of connections --------------------------------------------------------------------------- */

static struct tcp_info tcp_state(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	return ti;
}

/* The mark of a phase that begins now; 0 if the phase has none. Asks the kernel, so it is better done unlocked. */
static uint64_t mark_of(const struct connection *c, enum connection_phase phase)
{
	if (phase == C_IDLE || phase == C_BODY)
		return tcp_state(c->fd).tcpi_bytes_received;
	return phase == C_REPLY || phase == C_STREAM ? tcp_state(c->fd).tcpi_bytes_acked : 0;
}

/* http.lock held. */
static void enter(struct connection *c, enum connection_phase phase, uint64_t mark)
{
	c->phase = phase;
	c->hung_up = false;
	c->since_us = wasd_mono_us();
	c->mark = mark;
}

static void enter_unlocked(struct connection *c, enum connection_phase phase)
{
	uint64_t mark = mark_of(c, phase);
	pthread_mutex_lock(&c->http->lock);
	if (c->phase != C_REJECTED)
		enter(c, phase, mark);
	pthread_mutex_unlock(&c->http->lock);
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
	if (sa->sa_family != AF_INET6)
		return false;
	const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

static void peer_name(struct MHD_Connection *mc, struct connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	strcpy(c->peer, "unknown");
	if (!info || !info->client_addr)
		return;
	const struct sockaddr *sa = info->client_addr;
	if (sa->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, c->peer, sizeof c->peer);
	else if (sa->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, c->peer, sizeof c->peer);
	c->loopback = is_loopback(sa);
}

/* Refuses a connection over a limit: writes 503 directly into the socket's empty buffer and closes our half. The
 * library keeps reading until the peer closes or the reaper shuts the socket down, because an unread byte would make
 * the kernel send a reset that overtakes the 503. */
static void reject(struct http *h, struct connection *c, const char *why)
{
	c->phase = C_REJECTED;
	c->rejected = true;
	if (send(c->fd, canned_503, sizeof canned_503 - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		shutdown(c->fd, SHUT_WR);
	int dropped;
	if (log_allow(&h->reject_rate, 5, &dropped))
		log_line(LOG_WARN, "connection refused", "peer=%s why=%s more=%d", c->peer, why, dropped);
}

static void connection_opened(struct http *h, struct MHD_Connection *mc, void **socket_context)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct connection *c = wasd_calloc(1, sizeof *c);
	*socket_context = c;
	if (!c)
		return; /* log_uri refuses every request on this connection */
	c->http = h;
	c->mhd = mc;
	c->fd = info ? info->connect_fd : -1;
	peer_name(mc, c);
	/* Lets the kernel drop peers that acknowledge nothing. */
	unsigned user_timeout = (unsigned)h->cfg.grace_ms + 20000u;
	setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
	pthread_mutex_lock(&h->lock);
	int same = 0, most = c->loopback ? h->cfg.max_per_loopback : h->cfg.max_per_ip;
	for (struct connection *o = h->connections; o && most; o = o->next)
		same += o->phase != C_REJECTED && !strcmp(o->peer, c->peer);
	enter(c, C_IDLE, mark_of(c, C_IDLE));
	c->next = h->connections;
	c->pprev = &h->connections;
	if (c->next)
		c->next->pprev = &c->next;
	h->connections = c;
	h->n_connections++;
	if (h->n_connections > h->cfg.max_connections - h->cfg.max_connections / 10)
		reject(h, c, "total");
	else if (most && same >= most)
		reject(h, c, "address");
	pthread_mutex_unlock(&h->lock);
}

static void connection_closed(struct http *h, struct connection *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&h->lock);
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	h->n_connections--;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	wasd_free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
	struct http *h = cls;
	if (what == MHD_CONNECTION_NOTIFY_STARTED)
		connection_opened(h, mc, socket_context);
	else
		connection_closed(h, *socket_context);
}

static struct connection *connection_of(struct MHD_Connection *mc)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info ? info->socket_context : NULL;
}

/* ---- the reaper ------------------------------------------------------------------------------------------- */

static bool too_slow(const struct http *h, int64_t elapsed_us, uint64_t bytes)
{
	int64_t over = elapsed_us - h->cfg.grace_ms * 1000ll;
	return over > 0 && (int64_t)bytes < over / 1000 * h->cfg.min_rate / 1000;
}

/* True when the connection has passed its deadline. http.lock held. */
static bool overdue(struct http *h, struct connection *c, int64_t now)
{
	int64_t elapsed = now - c->since_us;
	struct tcp_info ti;
	switch (c->phase) {
	case C_IDLE:
		ti = tcp_state(c->fd);
		if (ti.tcpi_bytes_received > c->mark) {
			c->phase = C_HEADER;
			c->since_us = now;
			return false;
		}
		return elapsed > h->cfg.idle_ms * 1000ll;
	case C_HEADER:
		return elapsed > h->cfg.header_ms * 1000ll;
	case C_BODY:
		return elapsed > h->cfg.grace_ms * 1000ll &&
		       too_slow(h, elapsed, tcp_state(c->fd).tcpi_bytes_received - c->mark);
	case C_REPLY:
		return elapsed > h->cfg.grace_ms * 1000ll && too_slow(h, elapsed, tcp_state(c->fd).tcpi_bytes_acked - c->mark);
	case C_STREAM:
		ti = tcp_state(c->fd);
		if (ti.tcpi_bytes_acked != c->mark || !(ti.tcpi_unacked || ti.tcpi_notsent_bytes)) {
			c->mark = ti.tcpi_bytes_acked;
			c->since_us = now;
		}
		return now - c->since_us > (h->cfg.grace_ms + 20000) * 1000ll;
	case C_REJECTED:
		return elapsed > 2000000;
	case C_WORK:
		break;
	}
	return false;
}

/* The peer will send no more. A request that waits for an answer is ended. A half-received request can never be
 * completed: the library misses a close that arrives with the last bytes (edge-triggered, no EPOLLRDHUP), so this poll
 * has to find it. It takes two polls, because the first may fall between the last byte and the call of the handler. */
static void hung_up(struct connection *c)
{
	int unread = 0;
	if (c->phase == C_WORK || c->phase == C_STREAM) {
		if (c->x)
			exchange_peer_gone(c->x);
	} else if (ioctl(c->fd, FIONREAD, &unread) == 0 && !unread) {
		if (c->hung_up)
			shutdown(c->fd, SHUT_RDWR);
		c->hung_up = true;
	}
}

static void reap(struct http *h, struct pollfd *polled, struct connection **who)
{
	int64_t now = wasd_mono_us();
	int n = 0;
	pthread_mutex_lock(&h->lock);
	for (struct connection *c = h->connections; c; c = c->next) {
		if (overdue(h, c, now)) {
			log_line(LOG_DEBUG, "connection cut", "peer=%s phase=%d", c->peer, (int)c->phase);
			shutdown(c->fd, SHUT_RDWR);
			c->since_us = now;
		}
		if (c->phase != C_REPLY && c->phase != C_REJECTED && n < h->cfg.max_connections) {
			polled[n] = (struct pollfd){.fd = c->fd, .events = POLLRDHUP};
			who[n++] = c;
		}
	}
	if (n && poll(polled, (nfds_t)n, 0) > 0)
		for (int i = 0; i < n; i++)
			if (polled[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
				hung_up(who[i]);
	pthread_mutex_unlock(&h->lock);
}

static void *reaper_main(void *arg)
{
	struct http *h = arg;
	struct pollfd *polled = wasd_calloc((size_t)h->cfg.max_connections, sizeof *polled);
	struct connection **who = wasd_calloc((size_t)h->cfg.max_connections, sizeof *who);
	int tick_ms = h->cfg.header_ms / 4 < 250 ? h->cfg.header_ms / 4 + 1 : 250;
	while (polled && who) {
		int64_t until = wasd_mono_us() + tick_ms * 1000ll;
		pthread_mutex_lock(&h->lock);
		while (h->reaping && wasd_cond_wait_until(&h->changed, &h->lock, until))
			;
		bool go_on = h->reaping;
		pthread_mutex_unlock(&h->lock);
		if (!go_on)
			break;
		reap(h, polled, who);
	}
	wasd_free(polled);
	wasd_free(who);
	return NULL;
}

/* ---- replies -------------------------------------------------------------------------------------------------- */

static ssize_t stream_reader(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct exchange *x = cls;
	(void)pos;
	int64_t n = hub_stream_read(x->reply.stream, buf, max);
	return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : (ssize_t)n;
}

static ssize_t source_reader(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct exchange *x = cls;
	if (pos >= x->reply.length)
		return MHD_CONTENT_READER_END_OF_STREAM;
	uint64_t left = x->reply.length - pos;
	int64_t n = x->resp.source.read(x->resp.source.ctx, x->reply.offset + pos, buf, max < left ? max : (size_t)left);
	return n <= 0 ? MHD_CONTENT_READER_END_WITH_ERROR : (ssize_t)n;
}

/* The library first treats a resumed connection as if it were waiting for a request. If the client has sent everything
 * and closed its half, the library takes it for gone and the reply is lost. It checks the real state of the connection
 * before reading only if the connection has its own timeout, so the connection gets one of a day from its pause to its
 * reply. */
static void own_timeout(struct exchange *x, bool on)
{
	MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, on ? 86400u : 0u);
}

static void log_refusal(struct connection *c, const struct exchange *x)
{
	int dropped;
	log_begin(&x->cause);
	if (log_allow(&c->http->refuse_rate, 5, &dropped))
		log_line(LOG_INFO, "request refused", "peer=%s status=%d method=%s uri=%s why=%s more=%d", c->peer,
		         x->reply.status, LOG_Q(x->q.method), LOG_Q(x->raw_uri), LOG_Q(x->resp.problem), dropped);
	log_begin(NULL);
}

static enum MHD_Result send_reply(struct connection *c, struct exchange *x)
{
	const struct reply *r = &x->reply;
	struct MHD_Response *m;
	/* The body stays in the exchange, which lives until request_over. */
	if (r->stream)
		m = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_reader, x, NULL);
	else if (r->from_source)
		m = MHD_create_response_from_callback(r->length, 64 << 10, source_reader, x, NULL);
	else
		m = MHD_create_response_from_buffer(r->length, (void *)(uintptr_t)r->data, MHD_RESPMEM_PERSISTENT);
	if (!m)
		return MHD_NO;
	for (int i = 0; i < r->n_headers; i++)
		MHD_add_response_header(m, r->headers[i].name, r->headers[i].value ? r->headers[i].value : "");
	if (r->close || x->env->stopping)
		MHD_add_response_header(m, MHD_HTTP_HEADER_CONNECTION, "close");
	exchange_account(x);
	enter_unlocked(c, r->stream ? C_STREAM : C_REPLY);
	own_timeout(x, false);
	enum MHD_Result ok = MHD_queue_response(x->connection, (unsigned)r->status, m);
	MHD_destroy_response(m);
	if (r->status >= 400 && r->status < 500 && r->close)
		log_refusal(c, x);
	return ok;
}

/* ---- libmicrohttpd's callbacks ---------------------------------------------------------------------------------- */

static void resume(struct exchange *x)
{
	MHD_resume_connection(x->connection);
}

static void park(struct exchange *x)
{
	MHD_suspend_connection(x->connection);
}

/* After this call the library parses the query in place, and later the first header named Cookie. Makes it find both
 * empty. */
static const char no_cookie[] = "";
static void hide_lists(struct MHD_Connection *mc, const char *uri)
{
	char *mark = strchr((char *)(uintptr_t)uri, '?');
	if (mark && mark[1])
		mark[1] = 0; /* the library's own writable buffer; it has already found the end of the line */
	MHD_set_connection_value(mc, MHD_HEADER_KIND, "Cookie", no_cookie);
}

/* First callback of a request, with the request target as sent. The return value becomes *req of on_request. */
static void *log_uri(void *cls, const char *uri, struct MHD_Connection *mc)
{
	struct http *h = cls;
	struct connection *c = connection_of(mc);
	if (!c || c->rejected)
		return NULL;
	struct exchange *x = exchange_create(&h->env, uri);
	hide_lists(mc, uri);
	if (!x)
		return NULL;
	x->connection = mc;
	pthread_mutex_lock(&h->lock);
	c->x = x;
	h->n_busy++;
	if (c->phase == C_IDLE)
		enter(c, C_HEADER, 0);
	pthread_mutex_unlock(&h->lock);
	return x;
}

struct header_list {
	struct api_pair h[HEADER_COUNT_MAX + 1];
	size_t n;
	bool nul;
};

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_size,
                                   const char *value, size_t value_size)
{
	struct header_list *l = cls;
	(void)kind;
	if (value == no_cookie)
		return MHD_YES;
	if (l->n <= HEADER_COUNT_MAX)
		l->h[l->n++] = (struct api_pair){key, value ? value : ""};
	l->nul |= strlen(key) != key_size || (value && strlen(value) != value_size);
	return MHD_YES;
}

/* Writes the reply directly: the library would close the connection after it without reading the body. The socket's
 * buffer is empty, so a short reply fits. */
static enum MHD_Result answer_and_drain(struct connection *c, struct exchange *x)
{
	const char *reason = MHD_get_reason_phrase_for((unsigned)x->reply.status);
	struct wasd_buf text = {0};
	exchange_account(x);
	bool sent = exchange_text(x, reason ? reason : "Refused", &text) &&
	            send(c->fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)text.len;
	wasd_buf_done(&text);
	if (!sent)
		return MHD_NO;
	shutdown(c->fd, SHUT_WR);
	log_refusal(c, x);
	enter_unlocked(c, C_BODY);
	return MHD_YES;
}

static enum MHD_Result on_head(struct connection *c, struct exchange *x, struct MHD_Connection *mc, const char *method,
                               const char *version)
{
	struct header_list l = {.n = 0};
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	size_t bytes = info ? info->header_size : 0;
	int n = MHD_get_connection_values_n(mc, MHD_HEADER_KIND, take_header, &l);
	/* The library would have no room for a reply and would close without one. */
	if (bytes + (size_t)n * HEADER_MEMORY > CONNECTION_MEMORY - ANSWER_MEMORY) {
		send(c->fd, canned_431, sizeof canned_431 - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		return MHD_NO;
	}
	if (l.nul)
		l.h[0].name = ""; /* a NUL inside: an empty name is not a token, so framing_check refuses the request */
	if (exchange_head(x, method, version, l.h, l.n, bytes, c->peer)) {
		if (x->drains)
			return answer_and_drain(c, x);
		/* A reply queued now ends the connection; one queued after the (empty) body keeps it open. */
		if (x->reply.close)
			return send_reply(c, x);
		return MHD_YES;
	}
	enter_unlocked(c, C_BODY);
	return MHD_YES;
}

static enum MHD_Result proceed(struct connection *c, struct exchange *x, enum exchange_next next, bool at_end)
{
	switch (next) {
	case X_CUT:
		return MHD_NO;
	case X_REPLY:
		return send_reply(c, x);
	case X_PAUSE:
		if (at_end)
			enter_unlocked(c, C_WORK);
		own_timeout(x, true);
		MHD_suspend_connection(x->connection);
		exchange_paused(x); /* from here on another thread may resume the connection at any time */
		return MHD_YES;
	case X_GO_ON:
		break;
	}
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **req)
{
	struct exchange *x = *req;
	struct connection *c = connection_of(mc);
	(void)cls, (void)url;
	if (!x || !c || c->rejected)
		return MHD_NO;
	pthread_mutex_lock(&x->lock);
	enum exchange_phase phase = x->phase;
	pthread_mutex_unlock(&x->lock);
	if (phase == X_HEAD)
		return on_head(c, x, mc, method, version);
	if (*size) {
		size_t n = *size;
		*size = 0;
		return proceed(c, x, exchange_data(x, data, n), false);
	}
	return proceed(c, x, exchange_end(x), true);
}

static void request_over(void *cls, struct MHD_Connection *mc, void **req, enum MHD_RequestTerminationCode code)
{
	struct http *h = cls;
	struct exchange *x = *req;
	struct connection *c = connection_of(mc);
	(void)code;
	if (!x)
		return;
	*req = NULL;
	pthread_mutex_lock(&h->lock);
	if (c) {
		c->x = NULL;
		if (c->phase != C_REJECTED)
			enter(c, C_IDLE, mark_of(c, C_IDLE));
	}
	h->n_busy--;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	hub_stream_close(x->reply.stream); /* before the connection is freed: nothing may wake it after this */
	x->reply.stream = NULL;
	exchange_unref(x);
}

static size_t keep_escapes(void *cls, struct MHD_Connection *mc, char *s)
{
	(void)cls, (void)mc;
	return strlen(s);
}

static void library_says(void *cls, const char *fmt, va_list ap)
{
	struct http *h = cls;
	char text[300];
	int dropped;
	wasd_vline(text, sizeof text, fmt, ap);
	text[strcspn(text, "\n")] = 0;
	if (log_allow(&h->refuse_rate, 5, &dropped))
		log_line(LOG_DEBUG, "libmicrohttpd", "text=%s", LOG_Q(text));
}

static void library_panic(void *cls, const char *file, unsigned int line, const char *reason)
{
	(void)cls;
	log_line(LOG_ERROR, "libmicrohttpd panic", "file=%s line=%u reason=%s", LOG_Q(file), line,
	         LOG_Q(reason ? reason : ""));
	abort();
}

/* ---- start and stop ---------------------------------------------------------------------------------------- */

void http_config_default(struct http_config *c)
{
	*c = (struct http_config){
		.listen = "127.0.0.1:8080",
		.io_threads = 2,
		.worker_threads = 32,
		.queue = 256,
		.max_connections = 1536,
		.max_per_ip = 128,
		.max_streams = 200,
		.heartbeat_ms = 15000,
		.header_ms = 10000,
		.idle_ms = 60000,
		.grace_ms = 10000,
		.min_rate = 1024,
		.lim = {.json_bytes = 256 << 10,
	            .bulk_bytes = 16 << 20,
	            .upload_bytes = 2ull << 30,
	            .request_ms = 30000,
	            .hold_ms = 120000},
	};
}

static enum wasd_status listen_on(const char *spec, bool insecure, char address[80], int *out, struct wasd_err *err)
{
	char host[ADDRESS_HOST], number[ADDRESS_PORT];
	if (!address_split(spec, host, number))
		return wasd_fail(err, WASD_EINVAL, "listen address %.100s is not ADDR:PORT with a port from 0 to 65535", spec);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *ai;
	int e = getaddrinfo(*host ? host : NULL, number, &hints, &ai);
	if (e)
		return wasd_fail(err, WASD_EINVAL, "listen address %s: %s", spec, gai_strerror(e));
	if (!insecure && !is_loopback(ai->ai_addr)) {
		freeaddrinfo(ai);
		return wasd_fail(
			err, WASD_EINVAL,
			"%.60s is not a loopback address and wasd has no login: anyone who can reach the port can submit jobs and read, replace or delete data and models. "
			"Listen on 127.0.0.1 behind a proxy with a login, or give --insecure to allow it",
			spec);
	}
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, ai->ai_addr, ai->ai_addrlen) ||
	    listen(fd, 511) || getsockname(fd, (struct sockaddr *)&ss, &len)) {
		e = errno;
		freeaddrinfo(ai);
		if (fd >= 0)
			close(fd);
		return wasd_fail_errno(err, e, "cannot listen on %s", spec);
	}
	freeaddrinfo(ai);
	char num[NI_MAXHOST], port[NI_MAXSERV];
	getnameinfo((struct sockaddr *)&ss, len, num, sizeof num, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(address, 80, strchr(num, ':') ? "[%.60s]:%.8s" : "%.60s:%.8s", num, port);
	*out = fd;
	return WASD_OK;
}

static void http_free(struct http *h)
{
	pool_destroy(h->env.workers);
	pool_destroy(h->env.writers);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	wasd_free(h->staging);
	wasd_free(h);
}

enum wasd_status http_start(const struct http_config *cfg, const struct exchange_app *app, struct hub *hub,
                            struct http **out, struct wasd_err *err)
{
	struct http *h = wasd_calloc(1, sizeof *h);
	if (!h)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the HTTP front");
	h->cfg = *cfg;
	pthread_mutex_init(&h->lock, NULL);
	wasd_cond_init(&h->changed);
	h->staging = wasd_strdup(cfg->staging);
	h->env = (struct exchange_env){.app = *app,
	                               .lim = cfg->lim,
	                               .hub = hub,
	                               .staging = h->staging,
	                               .resume = resume,
	                               .park = park};
	int fd = -1;
	enum wasd_status s = h->staging ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for the HTTP front");
	if (s == WASD_OK)
		s = pool_create("api", cfg->worker_threads, cfg->queue, &h->env.workers, err);
	if (s == WASD_OK)
		s = pool_create("uploads", 2, cfg->max_connections, &h->env.writers, err);
	if (s == WASD_OK)
		s = listen_on(cfg->listen, cfg->insecure, h->address, &fd, err);
	if (s != WASD_OK)
		goto fail;
	MHD_set_panic_func(library_panic, NULL);
	/* The library splits its connection limit over the threads. Four times ours is never reached, so that ours answers.
	 */
	h->mhd =
		MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_ITC, 0,
	                     NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, library_says, h,
	                     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)cfg->io_threads,
	                     MHD_OPTION_CONNECTION_LIMIT, (unsigned)cfg->max_connections * 4u,
	                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
	                     0u, MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, h,
	                     MHD_OPTION_URI_LOG_CALLBACK, log_uri, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
	                     MHD_OPTION_NOTIFY_COMPLETED, request_over, h, MHD_OPTION_END);
	if (!h->mhd) {
		close(fd);
		s = wasd_fail(err, WASD_EINTERNAL, "libmicrohttpd did not start");
		goto fail;
	}
	h->reaping = true;
	int e = pthread_create(&h->reaper, NULL, reaper_main, h);
	if (e) {
		MHD_stop_daemon(h->mhd);
		s = wasd_fail_errno(err, e, "cannot start the reaper thread");
		goto fail;
	}
	pthread_setname_np(h->reaper, "reaper");
	*out = h;
	return WASD_OK;
fail:
	http_free(h);
	return s;
}

const char *http_address(const struct http *h)
{
	return h->address;
}

int http_connections(struct http *h)
{
	pthread_mutex_lock(&h->lock);
	int n = h->n_connections;
	pthread_mutex_unlock(&h->lock);
	return n;
}

/* Waits until no request is in flight, at most ms. True: none is left. */
static bool wait_quiet(struct http *h, int ms)
{
	int64_t until = wasd_mono_us() + ms * 1000ll;
	pthread_mutex_lock(&h->lock);
	while (h->n_busy && wasd_cond_wait_until(&h->changed, &h->lock, until))
		;
	bool quiet = !h->n_busy;
	pthread_mutex_unlock(&h->lock);
	return quiet;
}

void http_stop(struct http *h, int grace_ms)
{
	if (!h)
		return;
	atomic_store(&h->env.stopping, true);
	int fd = MHD_quiesce_daemon(h->mhd);
	hub_stop(h->env.hub); /* ends the streams and wakes the waits */
	if (!wait_quiet(h, grace_ms)) {
		pthread_mutex_lock(&h->lock);
		for (struct connection *c = h->connections; c; c = c->next)
			if (c->x)
				exchange_give_up(c->x);
		pthread_mutex_unlock(&h->lock);
		if (!wait_quiet(h, 1000)) {
			/* Half-sent requests and slow readers: shut the sockets down, so that the library ends the requests. */
			pthread_mutex_lock(&h->lock);
			for (struct connection *c = h->connections; c; c = c->next)
				shutdown(c->fd, SHUT_RDWR);
			pthread_mutex_unlock(&h->lock);
			wait_quiet(h, 1000);
		}
	}
	pthread_mutex_lock(&h->lock);
	h->reaping = false;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->reaper, NULL);
	MHD_stop_daemon(h->mhd);
	if (fd >= 0)
		close(fd);
	http_free(h);
}
