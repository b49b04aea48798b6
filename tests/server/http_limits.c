/* Slow clients, too many clients, and no memory. */
#include "http.h"

static void short_times(struct http_config *c)
{
	c->header_ms = 400;
	c->idle_ms = 900;
	c->grace_ms = 500;
	c->min_rate = 100000;
}

/* The connection was made after began_us. */
static void check_took(const char *what, int64_t began_us, int at_least_ms)
{
	int64_t ms = (wasd_mono_us() - began_us) / 1000;
	CHECK_MSG(ms >= at_least_ms && ms < 60000, "%s: %lld ms", what, (long long)ms);
}

static void is_closed(const char *what, const char *request, const char *drip, int at_least_ms)
{
	int64_t began = wasd_mono_us();
	bool closed = false;
	int fd = dial();
	say(fd, request);
	while (!closed && wasd_mono_us() - began < 60000000) {
		if (*drip)
			put(fd, drip++, 1);
		take(fd, answer, sizeof answer, 50, &closed);
	}
	close(fd);
	check_took(what, began, at_least_ms);
}

static void slow_clients(void)
{
	start(short_times);
	bool closed = false;
	is_closed(
		"a header, a byte at a time", "",
		"GET /echo HTTP/1.1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\nX-Header: 1\r\n",
		400);
	char body[101] = "";
	memset(body, 'b', sizeof body - 1);
	is_closed("a body, a byte at a time", "POST /echo HTTP/1.1\r\n" H "Content-Length: 200\r\n\r\n", body, 500);
	is_closed("nothing at all", "", "", 900);
	/* A large reply that the client does not read. */
	int64_t began = wasd_mono_us();
	int fd = dial();
	int small = 4096;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	say(fd, "GET /file?size=50000000 HTTP/1.1\r\n" H "\r\n");
	take(fd, answer, 100, 20000, &closed);
	while (http_connections(http) && wasd_mono_us() - began < 60000000)
		poll(NULL, 0, 20);
	check_took("a reply that is not read", began, 500);
	close(fd);
	/* A client that reads gets all of it. */
	fd = dial();
	say(fd, "GET /file?size=5000000 HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	size_t got = 0;
	while (!closed) {
		size_t n = take(fd, answer, sizeof answer, 20000, &closed);
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
		/* Two threads accept connections in any order, so the test checks how many are served, not which. */
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
		int64_t until = wasd_mono_us() + 60000000;
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

/* One request holds the worker, two wait for it, and three are refused, before the first is released. */
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
	int64_t until = wasd_mono_us() + 60000000;
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

/* The nth allocation fails, for every n until none fails: the client gets an answer or a closed connection, and
 * the server keeps running. */
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
			/* Background threads allocate as well, so stop only after several successes in a row. */
			in_a_row = status == asks[i].good ? in_a_row + 1 : 0;
		}
		CHECK_MSG(n < 400, "%s never worked", asks[i].what);
	}
	/* An event stream that cannot allocate. */
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

int main(void)
{
	TEST_RUN(slow_clients);
	TEST_RUN(connection_limits);
	TEST_RUN(queue_full);
	TEST_RUN(no_memory);
	TEST_END();
}
