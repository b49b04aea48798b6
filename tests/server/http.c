/* The HTTP front with routes of its own, spoken to over raw sockets: what may not pass, what must, and how it ends. */
#include "check.h"
#include "http/connection.h"
#include "stopwatch.h"

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

static enum api_result do_echo(struct api_ctx *c, const struct api_request *q, struct api_response *r)
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

static enum api_result do_smuggled(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	atomic_fetch_add(&smuggled, 1);
	return do_echo(c, q, r);
}

static enum api_result do_big(struct api_ctx *c, const struct api_request *q, struct api_response *r)
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

static int64_t read_pattern(void *ctx, uint64_t off, void *buf, size_t max)
{
	(void)ctx;
	for (size_t i = 0; i < max; i++)
		((unsigned char *)buf)[i] = (unsigned char)((off + i) % 251);
	return (int64_t)max;
}

static enum api_result do_file(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)c;
	const char *size = api_query(q, "size");
	r->status = 200;
	r->content_type = "application/octet-stream";
	r->source = (struct api_source){.read = read_pattern, .size = size ? (uint64_t)atoll(size) : 1000};
	api_set_header(r, "ETag", "\"f1\"");
	return API_DONE;
}

static enum api_result do_upload(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)c;
	r->status = 201;
	r->content_type = "text/plain";
	if (q->n_uploads)
		wasd_buf_printf(&r->body, "%llu %s", (unsigned long long)q->uploads[0].bytes, q->uploads[0].sha256);
	return API_DONE;
}

/* Waits for an event of job_a, or 2 s. */
static enum api_result do_wait(struct api_ctx *c, const struct api_request *q, struct api_response *r)
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

static enum api_result do_events(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)c;
	const char *last = api_query(q, "last_event_id");
	r->status = 200;
	r->events.on = true;
	r->events.after_seq = last ? atoll(last) : -1;
	return API_DONE;
}

static enum api_result do_slow(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	atomic_fetch_add(&slow_running, 1);
	struct timespec ts = {0, 700000000};
	nanosleep(&ts, NULL); /* a handler that takes its time */
	atomic_fetch_sub(&slow_running, 1);
	return do_echo(c, q, r);
}

static _Atomic bool let_go;

/* Holds its worker until the test lets it go. */
static enum api_result do_held(struct api_ctx *c, const struct api_request *q, struct api_response *r)
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

static enum api_result handle(struct api_ctx *c, const struct api_route *rt, const struct api_request *q,
                              struct api_response *r)
{
	return rt->handle(c, q, r);
}

static enum wasd_status events_after(void *ctx, int64_t after, int max, hub_event_fn *fn, void *to,
                                     struct wasd_err *err)
{
	(void)ctx, (void)err;
	for (int64_t s = after + 1; s <= atomic_load(&fake_seq) && max-- > 0; s++) {
		char data[64];
		snprintf(data, sizeof data, "{\"n\":%lld}", (long long)s);
		fn(to, &(struct hub_event){s, last_type, last_object, data});
	}
	return WASD_OK;
}

static enum wasd_status events_bounds(void *ctx, int64_t *first, int64_t *last, struct wasd_err *err)
{
	(void)ctx, (void)err;
	*first = 3; /* 1 and 2 are pruned */
	*last = atomic_load(&fake_seq);
	return WASD_OK;
}

static enum wasd_status no_log(void *ctx, const char *object, const struct api_log_filter *filter, int64_t *n, int max,
                               struct wasd_buf *out, struct wasd_err *err)
{
	(void)ctx, (void)object, (void)filter, (void)n, (void)max, (void)out, (void)err;
	return WASD_OK;
}

static bool log_over(void *ctx, const char *object)
{
	(void)ctx, (void)object;
	return true;
}

static struct hub *hub;
static struct http *http;
static char staging[64];
static int port;

static void start(void (*tune)(struct http_config *c))
{
	struct wasd_err err = {0};
	struct http_config cfg;
	http_config_default(&cfg);
	cfg.listen = "127.0.0.1:0";
	cfg.worker_threads = 4;
	cfg.lim.low_water = 0;
	cfg.lim.upload_bytes = 8 << 20;
	check_temp(staging, sizeof staging, "wasd-test");
	CHECK(mkdtemp(staging) != NULL);
	cfg.staging = staging;
	if (tune)
		tune(&cfg);
	struct hub_source src = {.after = events_after, .bounds = events_bounds, .log_after = no_log, .log_over = log_over};
	CHECK_INT(hub_create(&src, (struct hub_config){cfg.heartbeat_ms, cfg.max_streams}, &hub, &err), WASD_OK);
	struct exchange_app app = {find, handle, NULL};
	CHECK_INT(http_start(&cfg, &app, hub, &http, &err), WASD_OK);
	port = atoi(strrchr(http_address(http), ':') + 1);
}

static int staged_files(void)
{
	int n = 0;
	DIR *d = opendir(staging);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static void stop(void)
{
	http_stop(http, 5000);
	hub_destroy(hub);
	CHECK_INT(staged_files(), 0);
	rmdir(staging);
}

/* ---- a client without manners ------------------------------------------------------------------------------ */

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
	return fd;
}

static void put(int fd, const void *p, size_t n)
{
	for (size_t k = 0; k < n;) {
		ssize_t w = send(fd, (const char *)p + k, n - k, MSG_NOSIGNAL);
		if (w <= 0)
			return;
		k += (size_t)w;
	}
}

static void say(int fd, const char *s)
{
	put(fd, s, strlen(s));
}

/* Reads until the peer closes (*closed) or ms pass without a byte. */
static size_t take(int fd, char *buf, size_t max, int ms, bool *closed)
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

static int status_of(const char *answer)
{
	return !strncmp(answer, "HTTP/1.", 7) ? atoi(answer + 9) : 0;
}

static int count(const char *s, const char *what)
{
	int n = 0;
	for (const char *p = s; (p = strstr(p, what)); p++)
		n++;
	return n;
}

/* Status lines: at the start, or right after another answer's body. */
static int answers(const char *s)
{
	int n = 0;
	for (const char *p = s; (p = strstr(p, "HTTP/1.")); p++)
		n += p[8] == ' ' && p[9] >= '1' && p[9] <= '5' && p[12] == ' ';
	return n;
}

static char answer[1 << 20];

/* Reads into `answer` until `what` is in it n times, however busy the machine is, and then what follows within a
 * moment. */
static void await(int fd, const char *what, int n, bool *closed)
{
	size_t k = 0;
	*closed = false;
	answer[0] = 0;
	while (!*closed) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, count(answer, what) < n ? 20000 : 100) <= 0)
			break;
		ssize_t r = read(fd, answer + k, sizeof answer - 1 - k);
		*closed = r <= 0;
		k += r > 0 ? (size_t)r : 0;
		answer[k] = 0;
	}
}

static int ask(const char *request, int ms, bool *closed)
{
	int fd = dial();
	put(fd, request, strlen(request));
	take(fd, answer, sizeof answer, ms, closed);
	close(fd);
	return status_of(answer);
}

/* ---- framing and addresses --------------------------------------------------------------------------------------- */

#define H "Host: x\r\n"
#define NEXT "GET /smuggled HTTP/1.1\r\n" H "\r\n"

static const struct {
	const char *what, *request;
	int status;
	bool closes;
	int answers;
} cases[] = {
	{"a plain request keeps the connection", "GET /echo HTTP/1.1\r\n" H "\r\n", 200, false, 1},
	{"two requests in one packet are both answered", "GET /echo HTTP/1.1\r\n" H "\r\nGET /echo HTTP/1.1\r\n" H "\r\n",
     200, false, 2},
	{"a body with its length", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}", 200, false, 1},
	{"a chunked body", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, false,
     1},
	{"chunk extensions and trailers",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX-T: 1\r\n\r\n", 200, false, 1},
	{"HTTP/1.0 closes", "GET /echo HTTP/1.0\r\n\r\n", 200, true, 1},
	{"Connection: close closes", "GET /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 200, true, 1},
	{"length and chunked, chunked first",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"length and chunked, length first",
     "POST /echo HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"two equal lengths", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" NEXT, 400,
     true, 1},
	{"two differing lengths", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" NEXT, 400,
     true, 1},
	{"a length list", "POST /echo HTTP/1.1\r\n" H "Content-Length: 2, 2\r\n\r\n{}" NEXT, 400, true, 1},
	{"a blank before the colon", "POST /echo HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n" NEXT, 400, true, 1},
	{"an unknown coding", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" NEXT, 501, true,
     1},
	{"identity coding", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n" NEXT, 501, true, 1},
	{"chunked twice in one line",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" NEXT, 501, true, 1},
	{"chunked on two lines",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400,
     true, 1},
	{"gzip, chunked", "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT, 501, true,
     1},
	{"chunked in HTTP/1.0", "POST /echo HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400, true,
     1},
	{"a negative length", "POST /echo HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n" NEXT, 400, true, 1},
	{"a length with a plus", "POST /echo HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n" NEXT, 400, true, 1},
	{"a hexadecimal length", "POST /echo HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n" NEXT, 400, true, 1},
	{"a length of 2^64", "POST /echo HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n" NEXT, 413, true, 1},
	{"a length over the limit", "POST /echo HTTP/1.1\r\n" H "Content-Length: 262145\r\n\r\n", 413, true, 1},
	{"a length over the upload limit", "PUT /upload HTTP/1.1\r\n" H "Content-Length: 8388609\r\n\r\n", 413, true, 1},
	{"an empty length", "POST /echo HTTP/1.1\r\n" H "Content-Length: \r\n\r\n" NEXT, 400, true, 1},
	{"a chunk size that is no number",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"a chunk size of 17 digits",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n{}\r\n0\r\n\r\n" NEXT, 413,
     true, 1},
	{"chunk data longer than said",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\n{}{}{}\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"a negative chunk size",
     "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n" NEXT, 400, true, 1},
	{"no Host", "GET /echo HTTP/1.1\r\n\r\n", 400, true, 1},
	{"two Hosts", "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, true, 1},
	{"a Host with a slash", "GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, true, 1},
	{"a header name with a blank", "GET /echo HTTP/1.1\r\n" H "X y: 1\r\n\r\n", 400, true, 1},
	{"a header without a colon", "GET /echo HTTP/1.1\r\n" H "nonsense\r\n\r\n", 400, true, 1},
	{"a header name with a bracket", "GET /echo HTTP/1.1\r\n" H "X(y): 1\r\n\r\n", 400, true, 1},
	{"an unknown expectation", "POST /echo HTTP/1.1\r\n" H "Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 400, true,
     1},
	{"HTTP/9.9", "GET /echo HTTP/9.9\r\n" H "\r\n", 505, true, 1},
	{"HTTP/2.0", "GET /echo HTTP/2.0\r\n" H "\r\n", 505, true, 1},
	{"a blank in the address", "GET /echo /smuggled HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"no version at all", "GET /echo\r\n" H "\r\n", 400, true, 1},
	{"%00 in the path", "GET /echo%00b HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"an encoded slash", "GET /a%2fb HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"encoded dots", "GET /%2e%2e/etc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"encoded dots and slash", "GET /%2e%2e%2fetc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"plain dots", "GET /../etc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"dots and a semicolon", "GET /..;/etc HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"a double slash", "GET //echo HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"a backslash", "GET /a%5cb HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"overlong UTF-8", "GET /%c0%af HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"half an escape", "GET /a%2 HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"an encoded newline", "GET /echo%0d%0aX:1 HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"a NUL in the query", "GET /echo?v=%00 HTTP/1.1\r\n" H "\r\n", 400, true, 1},
	{"an unknown path", "GET /nothing HTTP/1.1\r\n" H "\r\n", 404, false, 1},
	{"a wrong method", "DELETE /echo HTTP/1.1\r\n" H "\r\n", 405, false, 1},
	{"a body where none is taken", "GET /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}" NEXT, 400, true, 1},
	{"an unknown content coding", "POST /echo HTTP/1.1\r\n" H "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
     415, true, 1},
	{"not gzip though it says so", "POST /echo HTTP/1.1\r\n" H "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
     400, false, 1},
	{"an absolute address", "GET http://x/echo HTTP/1.1\r\n" H "\r\n", 200, false, 1},
	{"TRACE is not answered with what came", "TRACE /echo HTTP/1.1\r\n" H "Cookie: secret\r\n\r\n", 405, false, 1},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 400, true, 1},
};

static void framing_cases(void)
{
	start(NULL);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bool closed;
		int fd = dial();
		say(fd, cases[i].request);
		await(fd, "HTTP/1.", cases[i].closes ? INT_MAX : cases[i].answers, &closed);
		close(fd);
		int status = status_of(answer);
		CHECK_MSG(status == cases[i].status, "%s: status %d, want %d", cases[i].what, status, cases[i].status);
		CHECK_MSG(closed == cases[i].closes, "%s: %s", cases[i].what, closed ? "closed" : "not closed");
		/* The library's own refusal of a malformed length repeats its status line; that nothing ran is what counts
		 * there. */
		CHECK_MSG(strstr(cases[i].what, "length") || answers(answer) == cases[i].answers, "%s: %d answers, want %d",
		          cases[i].what, answers(answer), cases[i].answers);
		CHECK_MSG(!strstr(answer, "secret"), "%s", cases[i].what);
	}
	CHECK_INT(atomic_load(&smuggled), 0);
	stop();
}

static const char *address;
static bool insecure;
static void other_address(struct http_config *c)
{
	c->listen = address;
	c->insecure = insecure;
}

/* No login: what other machines reach is refused unless that is meant. A port that is none is none. */
static void addresses(void)
{
	static const struct {
		const char *listen;
		bool insecure;
		const char *refused;
	} rows[] = {
		{"127.0.0.1:0", false, NULL},
		{"127.3.2.1:0", false, NULL},
		{"localhost:0", false, NULL},
		{"0.0.0.0:0", false, "--insecure"},
		{":0", false, "--insecure"},
		{"[::]:0", false, "--insecure"},
		{"[::ffff:0.0.0.0]:0", false, "--insecure"},
		{"192.0.2.1:0", false, "--insecure"},
		{"0.0.0.0:0", true, NULL},
		{"127.0.0.1:99999", false, "0 to 65535"},
		{"127.0.0.1:65536", true, "0 to 65535"},
		{"127.0.0.1:+1", true, "0 to 65535"},
		{"127.0.0.1", true, "ADDR:PORT"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct http_config c;
		struct http *none;
		struct wasd_err err = {0};
		address = rows[i].listen;
		insecure = rows[i].insecure;
		if (!rows[i].refused) {
			start(other_address);
			stop();
			continue;
		}
		http_config_default(&c);
		other_address(&c);
		c.staging = P_tmpdir;
		CHECK_MSG(http_start(&c, &(struct exchange_app){find, handle, NULL}, NULL, &none, &err) == WASD_EINVAL &&
		              strstr(err.msg, rows[i].refused),
		          "%s: %s", address, err.msg);
	}
}

static void long_heads(void)
{
	start(NULL);
	static char req[80 << 10];
	bool closed;
	/* An address of 40 KiB, of 9 KiB; headers of 40 KiB, of 17 KiB; 2,000 headers. */
	static const struct {
		int uri, header, headers, status;
	} rows[] = {
		{40000, 0, 0, 414},  {9000, 0, 0, 414},   {10, 40000, 0, 431},
		{10, 17000, 0, 431}, {10, 10, 2000, 431}, {8000, 4000, 10, 404},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int n = sprintf(req, "GET /");
		memset(req + n, 'a', (size_t)rows[i].uri);
		n += rows[i].uri;
		n += sprintf(req + n, " HTTP/1.1\r\n" H "X-A: ");
		memset(req + n, 'b', (size_t)rows[i].header);
		n += rows[i].header;
		n += sprintf(req + n, "\r\n");
		for (int k = 0; k < rows[i].headers; k++)
			n += sprintf(req + n, "X-%d: 1\r\n", k);
		sprintf(req + n, "\r\n");
		int status = ask(req, 3000, &closed);
		CHECK_MSG(status == rows[i].status && answers(answer) == 1, "row %zu: status %d, want %d; %d answers", i,
		          status, rows[i].status, answers(answer));
	}
	/* Lists that the library would cut into pieces: a query and cookies, of what is allowed and of more. */
	static const struct {
		const char *before, *piece, *after;
		int bytes, status;
	} lists[] = {
		{"GET /nowhere?", "a=b&", "c HTTP/1.1\r\n" H "\r\n", 100, 404},
		{"GET /nowhere?", "a=b&", "c HTTP/1.1\r\n" H "\r\n", 2000, 400},
		{"GET /nowhere?", "a&", "c HTTP/1.1\r\n" H "\r\n", 8000, 400},
		{"GET /nowhere?", "a=b&", "c HTTP/1.1\r\n" H "\r\n", 17000, 414},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a=b; ", "c=d\r\n\r\n", 3000, 200},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a=b; ", "c=d\r\n\r\n", 15000, 200},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a=b; ", "c=d\r\n\r\n", 17000, 431},
		{"GET /echo HTTP/1.1\r\n" H "Cookie: ", "a;", "c=d\r\n\r\n", 30000, 431},
	};
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		int n = sprintf(req, "%s", lists[i].before);
		while (n < lists[i].bytes)
			n += sprintf(req + n, "%s", lists[i].piece);
		sprintf(req + n, "%s", lists[i].after);
		int status = ask(req, 1000, &closed);
		CHECK_MSG(status == lists[i].status && answers(answer) == 1, "list %zu: status %d, want %d; %d answers", i,
		          status, lists[i].status, answers(answer));
		CHECK_MSG(status < 400 || status == 404 || closed, "list %zu: not closed", i);
	}
	/* Where a head just fills the memory that a connection has there is no room for an answer: one comes all the same.
	 */
	for (int size = 16000; size <= 65000;
	     size += (size < 47000 || size > 50000) && (size < 57000 || size > 58000) ? 2001 : 64) {
		int n = sprintf(req, "GET /echo HTTP/1.1\r\n" H "X-A: ");
		memset(req + n, 'b', (size_t)size);
		sprintf(req + n + size, "\r\n\r\n");
		int status = ask(req, 3000, &closed);
		CHECK_MSG(status == (size < 16384 ? 200 : 431) && answers(answer) == 1,
		          "a head of %d bytes: status %d, %d answers", n + size + 4, status, answers(answer));
	}
	for (int headers = 100; headers <= 1600; headers += 25) {
		int n = sprintf(req, "GET /echo HTTP/1.1\r\n" H);
		for (int k = 0; k < headers; k++)
			n += sprintf(req + n, "a:\r\n");
		sprintf(req + n, "\r\n");
		int status = ask(req, 3000, &closed);
		CHECK_MSG(status == (headers < 127 ? 200 : 431) && answers(answer) == 1, "%d headers: status %d, %d answers",
		          headers, status, answers(answer));
	}
	/* A megabyte of noise, and a TLS hello. */
	int fd = dial();
	for (size_t i = 0; i < sizeof req; i++)
		req[i] = (char)(i * 2654435761u >> 13);
	for (int i = 0; i < 16; i++)
		put(fd, req, sizeof req);
	take(fd, answer, sizeof answer, 2000, &closed);
	CHECK(closed);
	close(fd);
	fd = dial();
	put(fd, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\n\n", 12);
	take(fd, answer, sizeof answer, 2000, &closed);
	CHECK(closed);
	close(fd);
	CHECK_INT(ask("GET /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 2000, &closed), 200);
	stop();
}

static void chunked_over_the_limit(void)
{
	start(NULL);
	bool closed;
	int fd = dial();
	say(fd, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
	/* 300,000 chunks of one byte. */
	static char many[6 * 1000];
	for (int i = 0; i < 1000; i++)
		memcpy(many + 6 * i, "1\r\nx\r\n", 6);
	for (int i = 0; i < 300; i++)
		put(fd, many, sizeof many);
	say(fd, "0\r\n\r\n");
	take(fd, answer, sizeof answer, 3000, &closed);
	CHECK_INT(status_of(answer), 413);
	close(fd);
	stop();
}

/* ---- replies ----------------------------------------------------------------------------------------------- */

static const char *body_of(void)
{
	const char *b = strstr(answer, "\r\n\r\n");
	return b ? b + 4 : "";
}

static void replies(void)
{
	start(NULL);
	bool closed;
	CHECK_INT(ask("GET /echo?v=a%20b+c HTTP/1.1\r\n" H
	              "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: close\r\n\r\n",
	              2000, &closed),
	          200);
	CHECK_STR(body_of(), "a b c");
	CHECK(strstr(answer, "X-Request-Id: req_") != NULL);
	CHECK(strstr(answer, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") != NULL);
	char etag[80] = "";
	const char *e = strstr(answer, "ETag: ");
	CHECK(e && sscanf(e, "ETag: %79s", etag) == 1);
	char req[300];
	snprintf(req, sizeof req,
	         "GET /echo?v=a%%20b+c HTTP/1.1\r\n" H "If-None-Match: \"zz\", %s\r\nConnection: close\r\n\r\n", etag);
	CHECK_INT(ask(req, 2000, &closed), 304);
	CHECK_STR(body_of(), "");
	CHECK_INT(ask("HEAD /echo?v=abc HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 2000, &closed), 200);
	CHECK(strstr(answer, "Content-Length: 3") != NULL);
	CHECK_STR(body_of(), "");
	CHECK_INT(ask("GET /big HTTP/1.1\r\n" H "Accept-Encoding: gzip;q=0.5, br\r\nConnection: close\r\n\r\n", 2000,
	              &closed),
	          200);
	CHECK(strstr(answer, "Content-Encoding: gzip") != NULL);
	CHECK_INT(ask("GET /big HTTP/1.1\r\n" H "Accept-Encoding: gzip;q=0\r\nConnection: close\r\n\r\n", 2000, &closed),
	          200);
	CHECK(!strstr(answer, "Content-Encoding"));
	static const struct {
		const char *range, *if_range, *content_range;
		int status, length;
	} ranges[] = {
		{NULL, NULL, NULL, 200, 1000},
		{"bytes=0-9", NULL, "bytes 0-9/1000", 206, 10},
		{"bytes=990-", NULL, "bytes 990-999/1000", 206, 10},
		{"bytes=-5", NULL, "bytes 995-999/1000", 206, 5},
		{"bytes=990-2000", NULL, "bytes 990-999/1000", 206, 10},
		{"bytes=-5000", NULL, "bytes 0-999/1000", 206, 1000},
		{"bytes=1000-", NULL, "bytes */1000", 416, -1},
		{"bytes=5-2", NULL, NULL, 200, 1000},
		{"bytes=0-1,5-6", NULL, NULL, 200, 1000},
		{"lines=1-2", NULL, NULL, 200, 1000},
		{"bytes=99999999999999999999-", NULL, "bytes */1000", 416, -1},
		{"bytes=0-9", "\"f1\"", "bytes 0-9/1000", 206, 10},
		{"bytes=0-9", "\"other\"", NULL, 200, 1000},
	};
	for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
		int n = sprintf(req, "GET /file HTTP/1.1\r\n" H "Connection: close\r\n");
		if (ranges[i].range)
			n += sprintf(req + n, "Range: %s\r\n", ranges[i].range);
		if (ranges[i].if_range)
			n += sprintf(req + n, "If-Range: %s\r\n", ranges[i].if_range);
		sprintf(req + n, "\r\n");
		int fd = dial();
		put(fd, req, strlen(req));
		size_t got = take(fd, answer, sizeof answer, 2000, &closed);
		close(fd);
		int length = (int)(got - (size_t)(body_of() - answer));
		CHECK_MSG(status_of(answer) == ranges[i].status && (length == ranges[i].length || ranges[i].length < 0),
		          "row %zu: status %d, %d bytes", i, status_of(answer), length);
		CHECK_MSG(!ranges[i].content_range || strstr(answer, ranges[i].content_range), "row %zu: %s", i, answer);
		if (ranges[i].status == 206) {
			int from;
			sscanf(ranges[i].content_range, "bytes %d", &from);
			CHECK_INT((unsigned char)body_of()[0], from % 251);
		}
	}
	/* A gzip request body (of "{}"), and a bomb. */
	static const unsigned char packed[] = {0x1f, 0x8b, 8, 0,    0,    0,    0,    0, 0, 3, 0xab,
	                                       0xae, 5,    0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0};
	int fd = dial();
	int n = sprintf(req,
	                "POST /echo HTTP/1.1\r\n" H
	                "Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
	                sizeof packed);
	put(fd, req, (size_t)n);
	put(fd, packed, sizeof packed);
	take(fd, answer, sizeof answer, 2000, &closed);
	close(fd);
	CHECK_INT(status_of(answer), 200);
	CHECK_STR(body_of(), "{}");
	stop();
}

static void uploads(void)
{
	start(NULL);
	bool closed;
	size_t n = 3 << 20;
	char *data = malloc(n), hex[WASD_SHA256_HEX], want[100], req[200];
	for (size_t i = 0; i < n; i++)
		data[i] = (char)(i * 2654435761u >> 17);
	wasd_sha256_of(data, n, hex);
	for (int chunked = 0; chunked < 2; chunked++) {
		int fd = dial();
		int k = chunked ?
		            sprintf(req,
		                    "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n") :
		            sprintf(req, "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: %zu\r\n\r\n", n);
		put(fd, req, (size_t)k);
		for (size_t off = 0, piece; off < n; off += piece) {
			piece = n - off < 1000 + off % 70001 ? n - off : 1000 + off % 70001;
			if (chunked) {
				k = sprintf(req, "%zx\r\n", piece);
				put(fd, req, (size_t)k);
			}
			put(fd, data + off, piece);
			if (chunked)
				say(fd, "\r\n");
		}
		if (chunked)
			say(fd, "0\r\n\r\n");
		take(fd, answer, sizeof answer, 5000, &closed);
		close(fd);
		CHECK_INT(status_of(answer), 201);
		snprintf(want, sizeof want, "%zu %s", n, hex);
		CHECK_STR(body_of(), want);
	}
	/* Cut in the middle: nothing stays (stop() looks). */
	int fd = dial();
	int k = sprintf(req, "PUT /upload HTTP/1.1\r\n" H "Content-Length: %zu\r\n\r\n", n);
	put(fd, req, (size_t)k);
	put(fd, data, n / 2);
	close(fd);
	/* Chunked beyond the limit of 8 MiB. */
	fd = dial();
	k = sprintf(req, "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	put(fd, req, (size_t)k);
	for (int i = 0; i < 3; i++) {
		k = sprintf(req, "%zx\r\n", n);
		put(fd, req, (size_t)k);
		put(fd, data, n);
		say(fd, "\r\n");
	}
	say(fd, "0\r\n\r\n");
	take(fd, answer, sizeof answer, 5000, &closed);
	close(fd);
	CHECK_INT(status_of(answer), 413);
	free(data);
	stop();
}

/* ---- waiting, streams -------------------------------------------------------------------------------------- */

static void publish(void)
{
	atomic_fetch_add(&fake_seq, 1);
	hub_poke(hub);
}

static void waits(void)
{
	start(NULL);
	bool closed;
	int fd = dial();
	say(fd, "GET /wait HTTP/1.1\r\n" H "\r\n");
	take(fd, answer, sizeof answer, 200, &closed);
	CHECK_STR(answer, "");
	publish();
	await(fd, "waited", 1, &closed);
	CHECK_INT(status_of(answer), 200);
	CHECK_STR(body_of(), "waited 1");
	close(fd);
	/* Nothing happens: the deadline runs the handler. */
	int64_t t0 = wasd_mono_us();
	CHECK_INT(ask("GET /wait?more=1 HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 4000, &closed), 200);
	CHECK(wasd_mono_us() - t0 > 1900000);
	/* Clients that go away while they wait free their places. */
	int fds[50];
	for (int i = 0; i < 50; i++) {
		fds[i] = dial();
		say(fds[i], "GET /wait HTTP/1.1\r\n" H "\r\n");
	}
	for (int i = 0; i < 50; i++)
		close(fds[i]);
	int64_t until = wasd_mono_us() + 20000000;
	while (http_connections(http) && wasd_mono_us() < until)
		poll(NULL, 0, 10);
	CHECK_INT(http_connections(http), 0);
	stop();
}

static void event_streams(void)
{
	start(NULL);
	bool closed;
	int fd = dial();
	say(fd, "GET /events?last_event_id=5 HTTP/1.1\r\n" H "\r\n");
	await(fd, "id: 6\n", 1, &closed);
	CHECK_INT(status_of(answer), 200);
	CHECK(strstr(answer, "text/event-stream") && strstr(answer, "retry: 2000\n"));
	CHECK(!strstr(answer, "id: 5\n") && strstr(answer, "id: 6\nevent: job.state\ndata: {\"n\":6}\n\n"));
	publish();
	await(fd, "id: ", 1, &closed);
	CHECK(count(answer, "id: ") == 1);
	close(fd);
	/* From before what is kept: reset, then everything that is. */
	fd = dial();
	say(fd, "GET /events?last_event_id=0 HTTP/1.0\r\n" H "\r\n");
	await(fd, "id: 3\n", 1, &closed);
	CHECK(strstr(answer, "event: reset") && strstr(answer, "id: 3\nevent: job.state"));
	CHECK(strstr(answer, "event: reset") < strstr(answer, "event: job.state"));
	/* 10^4 events: in order, none lost, none twice. */
	int64_t first = atomic_load(&fake_seq) + 1, next = first;
	for (int i = 0; i < 10000; i++) {
		atomic_fetch_add(&fake_seq, 1);
		if (i % 100 == 0)
			hub_poke(hub);
	}
	hub_poke(hub);
	char line[200];
	size_t len = 0;
	int64_t until = wasd_mono_us() + 20000000;
	while (next < first + 10000 && wasd_mono_us() < until) {
		size_t n = take(fd, answer, 60000, 50, &closed);
		for (size_t i = 0; i < n; i++) {
			if (answer[i] != '\n') {
				if (len + 1 < sizeof line)
					line[len++] = answer[i];
				continue;
			}
			line[len] = 0;
			len = 0;
			if (!strncmp(line, "id: ", 4)) {
				CHECK_INT(atoll(line + 4), next);
				next = atoll(line + 4) + 1;
			}
		}
	}
	CHECK_INT(next, first + 10000);
	close(fd);
	stop();
}

static void heartbeat_fast(struct http_config *c)
{
	c->heartbeat_ms = 100;
	c->max_streams = 3;
}

static void stream_limits(void)
{
	start(heartbeat_fast);
	bool closed;
	int fd[4];
	for (int i = 0; i < 4; i++) {
		fd[i] = dial();
		say(fd[i], "GET /events HTTP/1.1\r\n" H "\r\n");
		await(fd[i], "\r\n\r\n", 1, &closed);
		CHECK_INT(status_of(answer), i < 3 ? 200 : 503);
	}
	take(fd[0], answer, 40, 5000, &closed);
	CHECK(strstr(answer, ":\n\n") != NULL);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	int64_t until = wasd_mono_us() + 20000000;
	while (hub_streams(hub) && wasd_mono_us() < until)
		poll(NULL, 0, 10);
	CHECK_INT(hub_streams(hub), 0);
	stop();
}

static void many_streams(struct http_config *c)
{
	c->max_streams = 300;
}

/* Connections that are suspended and resumed all the time must not hold up one that is not (a fault of older
 * libraries). */
static void suspended_do_not_starve_others(void)
{
	start(many_streams);
	enum { N = 250 };
	int fds[N], other = dial();
	bool closed;
	for (int i = 0; i < N; i++) {
		fds[i] = dial();
		say(fds[i], "GET /events HTTP/1.1\r\n" H "\r\n");
	}
	while (hub_streams(hub) < N)
		poll(NULL, 0, 5);
	int64_t worst = 0;
	for (int i = 0; i < 300; i++) {
		publish();
		int64_t t0 = stopwatch_us();
		say(other, "GET /echo HTTP/1.1\r\n" H "\r\n");
		struct pollfd p = {.fd = other, .events = POLLIN};
		CHECK(poll(&p, 1, 20000) == 1);
		CHECK(read(other, answer, sizeof answer) > 0);
		if (stopwatch_us() - t0 > worst)
			worst = stopwatch_us() - t0;
	}
	CHECK_MSG(worst < 500000, "a request took %lld ms beside %d streams", (long long)worst / 1000, N);
	for (int i = 0; i < N; i++) {
		take(fds[i], answer, sizeof answer, 0, &closed);
		close(fds[i]);
	}
	close(other);
	stop();
}

/* ---- slow and many ----------------------------------------------------------------------------------------- */

static void short_times(struct http_config *c)
{
	c->header_ms = 400;
	c->idle_ms = 900;
	c->grace_ms = 500;
	c->min_rate = 100000;
}

/* Not before the first, and not much later: what the test itself was kept from running is no time of the server's. */
static void check_took(const char *what, int64_t began_us, int64_t watch_us, int at_least_ms, int below_ms)
{
	int64_t ms = (wasd_mono_us() - began_us) / 1000, of_it = (stopwatch_us() - watch_us) / 1000;
	CHECK_MSG(ms >= at_least_ms && of_it < below_ms, "%s: %lld ms, stalls left out %lld ms", what, (long long)ms,
	          (long long)of_it);
}

static void is_closed(const char *what, int fd, const char *drip, int at_least_ms, int below_ms)
{
	int64_t began = wasd_mono_us(), watch = stopwatch_us();
	bool closed = false;
	while (!closed && wasd_mono_us() - began < 60000000) {
		if (*drip)
			put(fd, drip++, 1);
		take(fd, answer, sizeof answer, 50, &closed);
	}
	close(fd);
	check_took(what, began, watch, at_least_ms, below_ms);
}

static void slow_clients(void)
{
	start(short_times);
	bool closed = false;
	is_closed(
		"a header, a byte at a time", dial(),
		"GET /echo HTTP/1.1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\n",
		350, 1500);
	int fd = dial();
	say(fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 200\r\n\r\n");
	char body[101] = "";
	memset(body, 'b', sizeof body - 1);
	is_closed("a body, a byte at a time", fd, body, 450, 2000);
	is_closed("nothing at all", dial(), "", 850, 2500);
	/* A large reply that nobody reads. */
	fd = dial();
	int small = 4096;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	say(fd, "GET /file?size=50000000 HTTP/1.1\r\n" H "\r\n");
	take(fd, answer, 100, 1000, &closed);
	int64_t began = wasd_mono_us(), watch = stopwatch_us();
	while (http_connections(http) && wasd_mono_us() - began < 60000000)
		poll(NULL, 0, 20);
	check_took("a reply that is not read", began, watch, 450, 2500);
	close(fd);
	/* One that reads gets all of it. */
	fd = dial();
	say(fd, "GET /file?size=5000000 HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	size_t got = 0;
	while (!closed) {
		size_t n = take(fd, answer, sizeof answer, 2000, &closed);
		got += n;
		if (!n && !closed)
			break;
	}
	CHECK(got > 5000000);
	close(fd);
	stop();
}

static void few_places(struct http_config *c)
{
	c->max_connections = 20;
	c->max_per_loopback = 0;
}
static void per_address(struct http_config *c)
{
	c->max_per_loopback = 5;
}

static void connection_limits(void)
{
	for (int kind = 0; kind < 2; kind++) {
		start(kind ? per_address : few_places);
		/* The two accepting threads take them in any order, so the numbers count, not which client it hits. */
		int most = kind ? 5 : 18, fds[25], served = 0, refused = 0;
		bool closed;
		for (int i = 0; i < 25; i++)
			fds[i] = dial();
		for (int i = 0; i < 25; i++) {
			say(fds[i], "GET /echo HTTP/1.1\r\n" H "\r\n");
			await(fds[i], "\r\n\r\n", 1, &closed);
			served += status_of(answer) == 200 && !closed;
			refused += status_of(answer) == 503 && closed && strstr(answer, "Connection: close");
		}
		CHECK_INT(served, most);
		CHECK_INT(refused, 25 - most);
		for (int i = 0; i < 25; i++)
			close(fds[i]);
		int64_t until = wasd_mono_us() + 20000000;
		while (http_connections(http) && wasd_mono_us() < until)
			poll(NULL, 0, 10);
		CHECK_INT(http_connections(http), 0);
		stop();
	}
}

static void one_worker(struct http_config *c)
{
	c->worker_threads = 1;
	c->queue = 2;
}

/* One request holds the worker, two wait for it, and three are turned away, which is seen before the first is let go.
 */
static void queue_full(void)
{
	start(one_worker);
	struct pollfd fds[6];
	int ok = 0, busy = 0, answered = 0;
	bool closed;
	for (int i = 0; i < 6; i++) {
		fds[i] = (struct pollfd){.fd = dial(), .events = POLLIN};
		say(fds[i].fd, "GET /held HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
		while (i == 0 && !atomic_load(&slow_running))
			poll(NULL, 0, 1);
	}
	int64_t until = wasd_mono_us() + 20000000;
	while (answered < 3 && wasd_mono_us() < until) {
		poll(NULL, 0, 5);
		answered = poll(fds, 6, 0);
	}
	CHECK_INT(answered, 3);
	atomic_store(&let_go, true);
	for (int i = 0; i < 6; i++) {
		take(fds[i].fd, answer, sizeof answer, 20000, &closed);
		ok += status_of(answer) == 200;
		busy += status_of(answer) == 503 && strstr(answer, "Retry-After: ");
		close(fds[i].fd);
	}
	CHECK_INT(ok, 3);
	CHECK_INT(busy, 3);
	stop();
}

/* The nth allocation fails, for every n until nothing fails any more: an answer of ours or a closed connection, and all
 * goes on. */
static void no_memory(void)
{
	static const struct {
		const char *what, *request;
		int good;
	} asks[] = {
		{"echo",
	     "POST /echo?v=1&w=2 HTTP/1.1\r\n" H "Connection: close\r\ntraceparent: x\r\nContent-Length: 2\r\n\r\n{}", 200},
		{"gzip", "GET /big HTTP/1.1\r\n" H "Connection: close\r\nAccept-Encoding: gzip\r\n\r\n", 200},
		{"page", "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 200},
		{"range", "GET /file HTTP/1.1\r\n" H "Connection: close\r\nRange: bytes=1-5\r\n\r\n", 206},
		{"upload", "PUT /upload HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 5\r\n\r\nabcde", 201},
		{"unknown", "GET /nothing HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 404},
		{"bad", "GET /a%00 HTTP/1.1\r\n" H "\r\n", 400},
	};
	start(NULL);
	bool closed;
	for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
		int n = 1, in_a_row = 0;
		for (; n < 400 && in_a_row < 3; n++) {
			wasd_mem_fail_at((uint64_t)n);
			int status = ask(asks[i].request, 3000, &closed);
			wasd_mem_fail_at(0);
			CHECK_MSG(closed &&
			              (status == asks[i].good || status == 503 || status == 500 || status == 200 || status == 0),
			          "%s, allocation %d: status %d", asks[i].what, n, status);
			/* Threads of the background allocate, too: the end is where it stays good. */
			in_a_row = status == asks[i].good ? in_a_row + 1 : 0;
		}
		CHECK_MSG(n < 400, "%s never worked", asks[i].what);
	}
	/* A stream that cannot have its memory. */
	for (int n = 1; n < 30; n++) {
		int fd = dial();
		wasd_mem_fail_at((uint64_t)n);
		say(fd, "GET /events?last_event_id=3 HTTP/1.1\r\n" H "\r\n");
		take(fd, answer, sizeof answer, 20, &closed);
		publish();
		take(fd, answer, sizeof answer, 20, &closed);
		wasd_mem_fail_at(0);
		close(fd);
	}
	CHECK_INT(ask("GET /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 2000, &closed), 200);
	stop();
}

/* ---- the end
 * -------------------------------------------------------------------------------------------------------------------------
 */

static int open_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void stop_with_everything_open(void)
{
	int before = open_fds();
	start(many_streams);
	enum { N = 200 };
	int fds[N + 22];
	bool closed;
	for (int i = 0; i < N; i++) {
		fds[i] = dial();
		say(fds[i], "GET /events HTTP/1.1\r\n" H "\r\n");
	}
	for (int i = 0; i < 20; i++) {
		fds[N + i] = dial();
		say(fds[N + i], "GET /wait HTTP/1.1\r\n" H "\r\n");
	}
	fds[N + 20] = dial();
	say(fds[N + 20], "GET /slow HTTP/1.1\r\n" H "\r\n");
	fds[N + 21] = dial();
	say(fds[N + 21], "PUT /upload HTTP/1.1\r\n" H "Content-Length: 1000000\r\n\r\nxx");
	while (hub_streams(hub) < N || !atomic_load(&slow_running))
		poll(NULL, 0, 5);
	int64_t t0 = wasd_mono_us();
	http_stop(http, 3000);
	hub_destroy(hub);
	CHECK(wasd_mono_us() - t0 < 8000000);
	for (int i = 0; i < N + 22; i++) {
		take(fds[i], answer, sizeof answer, 1000, &closed);
		CHECK(closed);
		if (i < N)
			CHECK(!strcmp(answer + strlen(answer) - 5, "0\r\n\r\n"));
		else if (i < N + 20)
			CHECK_INT(status_of(answer), 503);
		else if (i == N + 20)
			CHECK_INT(status_of(answer), 200);
		close(fds[i]);
	}
	CHECK_INT(staged_files(), 0);
	rmdir(staging);
	CHECK_INT(open_fds(), before);
}

static void hung_handler_is_given_up(void)
{
	start(NULL);
	int fd = dial();
	bool closed;
	say(fd, "GET /slow HTTP/1.1\r\n" H "\r\n");
	while (!atomic_load(&slow_running))
		poll(NULL, 0, 1);
	http_stop(http, 50);
	take(fd, answer, sizeof answer, 5000, &closed);
	CHECK_INT(status_of(answer), 503);
	close(fd);
	hub_destroy(hub);
	rmdir(staging);
}

int main(void)
{
	stopwatch_start();
	TEST_RUN(framing_cases);
	TEST_RUN(addresses);
	TEST_RUN(long_heads);
	TEST_RUN(chunked_over_the_limit);
	TEST_RUN(replies);
	TEST_RUN(uploads);
	TEST_RUN(waits);
	TEST_RUN(event_streams);
	TEST_RUN(stream_limits);
	TEST_RUN(suspended_do_not_starve_others);
	TEST_RUN(slow_clients);
	TEST_RUN(connection_limits);
	TEST_RUN(queue_full);
	TEST_RUN(no_memory);
	TEST_RUN(stop_with_everything_open);
	TEST_RUN(hung_handler_is_given_up);
	TEST_END();
}
