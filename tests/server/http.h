/* tests/server/http.h - shared by the programs http_*.c: the HTTP front with routes of its own, and clients on raw
 * sockets. */
#ifndef TESTS_SERVER_HTTP_H
#define TESTS_SERVER_HTTP_H

#include "check.h"
#include "http/connection.h"

#include <dirent.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a small application ------------------------------------------------------------------------------ */

static _Atomic int smuggled, slow_running;
static _Atomic int64_t fake_seq = 7;
static char last_object[64] = "job_a", last_type[32] = "job.state";

__attribute__((unused)) static enum api_result do_echo(struct api_ctx *c, const struct api_request *q,
                                                       struct api_response *r)
{
	(void)c;
	r->status = 200;
	r->content_type = "text/plain";
	if (q->body_len)
		wasd_buf_append(&r->body, q->body, q->body_len);
	const char *v = api_query(q, "v");
	if (v)
		wasd_buf_puts(&r->body, v);
	return API_DONE;
}

__attribute__((unused)) static enum api_result do_smuggled(struct api_ctx *c, const struct api_request *q,
                                                           struct api_response *r)
{
	atomic_fetch_add(&smuggled, 1);
	return do_echo(c, q, r);
}

__attribute__((unused)) static enum api_result do_big(struct api_ctx *c, const struct api_request *q,
                                                      struct api_response *r)
{
	(void)c, (void)q;
	r->status = 200;
	r->content_type = "application/json";
	wasd_buf_puts(&r->body, "[0");
	for (int i = 1; i < 2000; i++)
		wasd_buf_printf(&r->body, ",%d", i);
	wasd_buf_puts(&r->body, "]");
	return API_DONE;
}

__attribute__((unused)) static int64_t read_pattern(void *ctx, uint64_t off, void *buf, size_t max)
{
	(void)ctx;
	for (size_t i = 0; i < max; i++)
		((unsigned char *)buf)[i] = (unsigned char)((off + i) % 251);
	return (int64_t)max;
}

__attribute__((unused)) static enum api_result do_file(struct api_ctx *c, const struct api_request *q,
                                                       struct api_response *r)
{
	(void)c;
	const char *size = api_query(q, "size");
	r->status = 200;
	r->content_type = "application/octet-stream";
	r->source = (struct api_source){.read = read_pattern, .size = size ? (uint64_t)atoll(size) : 1000};
	api_set_header(r, "ETag", "\"f1\"");
	return API_DONE;
}

__attribute__((unused)) static enum api_result do_upload(struct api_ctx *c, const struct api_request *q,
                                                         struct api_response *r)
{
	(void)c;
	r->status = 201;
	r->content_type = "text/plain";
	if (q->n_uploads)
		wasd_buf_printf(&r->body, "%llu %s", (unsigned long long)q->uploads[0].bytes, q->uploads[0].sha256);
	return API_DONE;
}

/* Waits for an event of job_a, or 2 s. */
__attribute__((unused)) static enum api_result do_wait(struct api_ctx *c, const struct api_request *q,
                                                       struct api_response *r)
{
	(void)c;
	if (!q->waited || (wasd_mono_us() < q->first_us + 2000000 && api_query(q, "more"))) {
		snprintf(r->again.object, sizeof r->again.object, "job_a");
		r->again.until_us = q->first_us + 2000000;
		return API_AGAIN;
	}
	r->status = 200;
	wasd_buf_printf(&r->body, "waited %d", q->waited);
	return API_DONE;
}

__attribute__((unused)) static enum api_result do_events(struct api_ctx *c, const struct api_request *q,
                                                         struct api_response *r)
{
	(void)c;
	const char *last = api_query(q, "last_event_id");
	r->status = 200;
	r->events.on = true;
	r->events.after_seq = last ? atoll(last) : -1;
	return API_DONE;
}

__attribute__((unused)) static enum api_result do_slow(struct api_ctx *c, const struct api_request *q,
                                                       struct api_response *r)
{
	atomic_fetch_add(&slow_running, 1);
	struct timespec ts = {0, 700000000};
	nanosleep(&ts, NULL); /* simulates a slow handler */
	atomic_fetch_sub(&slow_running, 1);
	return do_echo(c, q, r);
}

static _Atomic bool let_go;

/* Holds its worker until the test releases it. */
__attribute__((unused)) static enum api_result do_held(struct api_ctx *c, const struct api_request *q,
                                                       struct api_response *r)
{
	atomic_fetch_add(&slow_running, 1);
	while (!atomic_load(&let_go))
		poll(NULL, 0, 1);
	atomic_fetch_sub(&slow_running, 1);
	return do_echo(c, q, r);
}

static const struct api_route routes[] = {
	{"GET", "/echo", API_BODY_NONE, do_echo, "", NULL},
	{"POST", "/echo", API_BODY_JSON, do_echo, "", NULL},
	{"GET", "/smuggled", API_BODY_NONE, do_smuggled, "", NULL},
	{"POST", "/smuggled", API_BODY_JSON, do_smuggled, "", NULL},
	{"GET", "/big", API_BODY_NONE, do_big, "", NULL},
	{"GET", "/file", API_BODY_NONE, do_file, "", NULL},
	{"PUT", "/upload", API_BODY_UPLOAD, do_upload, "", NULL},
	{"GET", "/wait", API_BODY_NONE, do_wait, "", NULL},
	{"GET", "/events", API_BODY_NONE, do_events, "", NULL},
	{"GET", "/slow", API_BODY_NONE, do_slow, "", NULL},
	{"GET", "/held", API_BODY_NONE, do_held, "", NULL},
};

static const struct api_route *find(const char *method, const char *path, char allow[64])
{
	allow[0] = 0;
	for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
		if (!strcmp(routes[i].pattern, path)) {
			if (!strcmp(routes[i].method, method))
				return allow[0] = 0, &routes[i];
			strcpy(allow, "GET, POST");
		}
	return NULL;
}

__attribute__((unused)) static enum api_result handle(struct api_ctx *c, const struct api_route *rt,
                                                      const struct api_request *q, struct api_response *r)
{
	return rt->handle(c, q, r);
}

__attribute__((unused)) static enum wasd_status events_after(void *ctx, int64_t after, int max, hub_event_fn *fn,
                                                             void *to, struct wasd_err *err)
{
	(void)ctx, (void)err;
	for (int64_t s = after + 1; s <= atomic_load(&fake_seq) && max-- > 0; s++) {
		char data[64];
		snprintf(data, sizeof data, "{\"n\":%lld}", (long long)s);
		fn(to, &(struct hub_event){s, last_type, last_object, data});
	}
	return WASD_OK;
}

__attribute__((unused)) static enum wasd_status events_bounds(void *ctx, int64_t *first, int64_t *last,
                                                              struct wasd_err *err)
{
	(void)ctx, (void)err;
	*first = 3; /* 1 and 2 have been pruned */
	*last = atomic_load(&fake_seq);
	return WASD_OK;
}

__attribute__((unused)) static enum wasd_status no_log(void *ctx, const char *object,
                                                       const struct api_log_filter *filter, int64_t *n, int max,
                                                       struct wasd_buf *out, struct wasd_err *err)
{
	(void)ctx, (void)object, (void)filter, (void)n, (void)max, (void)out, (void)err;
	return WASD_OK;
}

__attribute__((unused)) static bool log_over(void *ctx, const char *object)
{
	(void)ctx, (void)object;
	return true;
}

static struct hub *hub;
static struct http *http;
static char staging[64];
static int port;

__attribute__((unused)) static void start(void (*tune)(struct http_config *c))
{
	struct wasd_err err = {0};
	struct http_config cfg;
	http_config_default(&cfg);
	cfg.listen = "127.0.0.1:0";
	cfg.worker_threads = 4;
	cfg.lim.upload_bytes = 8 << 20;
	check_temp(staging, sizeof staging, "wasd-test");
	CHECK(mkdtemp(staging) != NULL);
	cfg.staging = staging;
	if (tune)
		tune(&cfg);
	struct hub_source src = {.after = events_after, .bounds = events_bounds, .log_after = no_log, .log_over = log_over};
	CHECK_INT(hub_create(&src, (struct hub_config){cfg.heartbeat_ms, cfg.max_streams}, &hub, &err), WASD_OK);
	struct exchange_app app = {.find = find, .handle = handle};
	CHECK_INT(http_start(&cfg, &app, hub, &http, &err), WASD_OK);
	port = atoi(strrchr(http_address(http), ':') + 1);
}

__attribute__((unused)) static int staged_files(void)
{
	int n = 0;
	DIR *d = opendir(staging);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

__attribute__((unused)) static void stop(void)
{
	http_stop(http, 5000);
	hub_destroy(hub);
	CHECK_INT(staged_files(), 0);
	rmdir(staging);
}

/* ---- a misbehaving client ---------------------------------------------------------------------------------- */

__attribute__((unused)) static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
	return fd;
}

__attribute__((unused)) static void put(int fd, const void *p, size_t n)
{
	for (size_t k = 0; k < n;) {
		ssize_t w = send(fd, (const char *)p + k, n - k, MSG_NOSIGNAL);
		if (w <= 0)
			return;
		k += (size_t)w;
	}
}

__attribute__((unused)) static void say(int fd, const char *s)
{
	put(fd, s, strlen(s));
}

/* Reads until the peer closes (*closed) or no byte arrives for ms. */
__attribute__((unused)) static size_t take(int fd, char *buf, size_t max, int ms, bool *closed)
{
	size_t n = 0;
	*closed = false;
	while (n + 1 < max) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, ms) <= 0)
			break;
		ssize_t r = read(fd, buf + n, max - 1 - n);
		if (r <= 0) {
			*closed = true;
			break;
		}
		n += (size_t)r;
	}
	buf[n] = 0;
	return n;
}

__attribute__((unused)) static int status_of(const char *answer)
{
	return !strncmp(answer, "HTTP/1.", 7) ? atoi(answer + 9) : 0;
}

__attribute__((unused)) static int count(const char *s, const char *what)
{
	int n = 0;
	for (const char *p = s; (p = strstr(p, what)); p++)
		n++;
	return n;
}

/* Counts status lines: at the start, or right after the body of another answer. */
__attribute__((unused)) static int answers(const char *s)
{
	int n = 0;
	for (const char *p = s; (p = strstr(p, "HTTP/1.")); p++)
		n += p[8] == ' ' && p[9] >= '1' && p[9] <= '5' && p[12] == ' ';
	return n;
}

static char answer[1 << 20];

/* Reads into `answer` until it contains `what` n times, however slow the machine is, and then what follows within
 * a moment. */
__attribute__((unused)) static void await(int fd, const char *what, int n, bool *closed)
{
	size_t k = 0;
	*closed = false;
	answer[0] = 0;
	while (!*closed) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, count(answer, what) < n ? 60000 : 100) <= 0)
			break;
		ssize_t r = read(fd, answer + k, sizeof answer - 1 - k);
		*closed = r <= 0;
		k += r > 0 ? (size_t)r : 0;
		answer[k] = 0;
	}
}

/* Reads an answer, however slow the machine is: until the peer closes, which it does if it says so, or no byte follows
 * for ms. Returns the length. */
__attribute__((unused)) static size_t take_answer(int fd, int ms, bool *closed)
{
	size_t k = 0;
	*closed = false;
	answer[0] = 0;
	while (!*closed && k + 1 < sizeof answer) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, !k || strstr(answer, "Connection: close") ? 60000 : ms) <= 0)
			break;
		ssize_t r = read(fd, answer + k, sizeof answer - 1 - k);
		*closed = r <= 0;
		k += r > 0 ? (size_t)r : 0;
		answer[k] = 0;
	}
	return k;
}

__attribute__((unused)) static int ask(const char *request, int ms, bool *closed)
{
	int fd = dial();
	put(fd, request, strlen(request));
	take_answer(fd, ms, closed);
	close(fd);
	return status_of(answer);
}

#define H "Host: x\r\n"
#define NEXT "GET /smuggled HTTP/1.1\r\n" H "\r\n"

__attribute__((unused)) static void publish(void)
{
	atomic_fetch_add(&fake_seq, 1);
	hub_poke(hub);
}

__attribute__((unused)) static const char *body_of(void)
{
	const char *b = strstr(answer, "\r\n\r\n");
	return b ? b + 4 : "";
}

__attribute__((unused)) static void many_streams(struct http_config *c)
{
	c->max_streams = 300;
}

#endif
