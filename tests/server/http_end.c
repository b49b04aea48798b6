/* Stopping the server while connections and requests are open. */
#include "http.h"

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

static void few_seconds(struct http_config *c)
{
	many_streams(c);
	c->grace_ms = 3000; /* of an upload that does not go on */
}

static void stop_with_everything_open(void)
{
	int before = open_fds();
	start(few_seconds);
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
	http_stop(http, 60000);
	hub_destroy(hub);
	for (int i = 0; i < N + 22; i++) {
		take(fds[i], answer, sizeof answer, 20000, &closed);
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
	take(fd, answer, sizeof answer, 20000, &closed);
	CHECK_INT(status_of(answer), 503);
	close(fd);
	hub_destroy(hub);
	rmdir(staging);
}

int main(void)
{
	TEST_RUN(stop_with_everything_open);
	TEST_RUN(hung_handler_is_given_up);
	TEST_END();
}
