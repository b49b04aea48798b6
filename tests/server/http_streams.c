/* Requests that wait for an event, and event streams. */
#include "http.h"

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
	/* No event occurs: the handler runs at the deadline. */
	int64_t t0 = wasd_mono_us();
	CHECK_INT(ask("GET /wait?more=1 HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 4000, &closed), 200);
	CHECK(wasd_mono_us() - t0 > 1900000);
	/* Clients that disconnect while they wait free their slots. */
	int fds[50];
	for (int i = 0; i < 50; i++) {
		fds[i] = dial();
		say(fds[i], "GET /wait HTTP/1.1\r\n" H "\r\n");
	}
	for (int i = 0; i < 50; i++)
		close(fds[i]);
	int64_t until = wasd_mono_us() + 60000000;
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
	/* A last event id that has been pruned: a reset, then all events that are kept. */
	fd = dial();
	say(fd, "GET /events?last_event_id=0 HTTP/1.0\r\n" H "\r\n");
	await(fd, "id: 3\n", 1, &closed);
	CHECK(strstr(answer, "event: reset") && strstr(answer, "id: 3\nevent: job.state"));
	CHECK(strstr(answer, "event: reset") < strstr(answer, "event: job.state"));
	/* 10^4 events: in order, none lost, none repeated. */
	int64_t first = atomic_load(&fake_seq) + 1, next = first;
	for (int i = 0; i < 10000; i++) {
		atomic_fetch_add(&fake_seq, 1);
		if (i % 100 == 0)
			hub_poke(hub);
	}
	hub_poke(hub);
	char line[200];
	size_t len = 0;
	int64_t until = wasd_mono_us() + 60000000;
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
	take(fd[0], answer, 40, 20000, &closed);
	CHECK(strstr(answer, ":\n\n") != NULL);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	int64_t until = wasd_mono_us() + 60000000;
	while (hub_streams(hub) && wasd_mono_us() < until)
		poll(NULL, 0, 10);
	CHECK_INT(hub_streams(hub), 0);
	stop();
}

/* Connections that are constantly suspended and resumed must not delay others (a defect of older library
 * versions). */
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
		int64_t t0 = wasd_mono_us();
		say(other, "GET /echo HTTP/1.1\r\n" H "\r\n");
		struct pollfd p = {.fd = other, .events = POLLIN};
		CHECK(poll(&p, 1, 60000) == 1);
		CHECK(read(other, answer, sizeof answer) > 0);
		if (wasd_mono_us() - t0 > worst)
			worst = wasd_mono_us() - t0;
	}
	CHECK_MSG(worst < 20000000, "a request took %lld ms beside %d streams", (long long)worst / 1000, N);
	for (int i = 0; i < N; i++) {
		take(fds[i], answer, sizeof answer, 0, &closed);
		close(fds[i]);
	}
	close(other);
	stop();
}

int main(void)
{
	TEST_RUN(waits);
	TEST_RUN(event_streams);
	TEST_RUN(stream_limits);
	TEST_RUN(suspended_do_not_starve_others);
	TEST_END();
}
