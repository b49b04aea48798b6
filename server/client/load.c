/* load.c - see load.h. One thread and one epoll set, so that the generator takes as little as possible of the machine
 * that it measures. */
#include "client/load.h"

#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_US = 30000000, REPLY_MAX = 16 << 20 };

struct connection {
	int fd; /* -1: not open */
	bool busy;
	uint32_t watched;
	const struct load_request *request;
	size_t sent;
	int64_t begin_us; /* when its request should have been sent */
	struct wasd_buf reply;
	size_t head, body; /* lengths of head and body; 0: the head has not been read */
	int status;
};

struct runner {
	const struct load *l;
	struct load_result *out;
	struct connection *c;
	int epoll, next_request;
	int64_t begin_us, from_us, to_us; /* counted are requests of this time */
	int64_t due_us;                   /* with a rate: when the next request should be sent */
	int64_t last_us;                  /* the last counted answer */
	uint64_t random;
	bool failed; /* no memory */
};

static double random_gap(struct runner *r)
{
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return -log(((double)(r->random >> 11) + 1) / 9007199254740993.0);
}

static void plan_next(struct runner *r)
{
	double gap = 1e6 / r->l->rate;
	r->due_us += (int64_t)(r->l->fixed ? gap : gap * random_gap(r));
}

static bool counted(const struct runner *r, int64_t begin_us)
{
	return begin_us >= r->from_us && begin_us < r->to_us;
}

/* ---- connections ------------------------------------------------------------------------------------------- */

static bool connect_to(struct runner *r, struct connection *c)
{
	char where[CLIENT_WHERE];
	int one = 1;
	c->fd = client_dial(r->l->url, where);
	if (c->fd < 0)
		return false;
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	c->watched = EPOLLIN;
	epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &ev);
	return true;
}

static void disconnect(struct connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->busy = false;
}

static void watch(struct runner *r, struct connection *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};
	if (events != c->watched)
		epoll_ctl(r->epoll, EPOLL_CTL_MOD, c->fd, &ev);
	c->watched = events;
}

static void lose(struct runner *r, struct connection *c)
{
	if (c->busy && counted(r, c->begin_us))
		r->out->broken++;
	disconnect(c);
}

static void send_some(struct runner *r, struct connection *c)
{
	while (c->sent < c->request->len) {
		ssize_t n = send(c->fd, c->request->bytes + c->sent, c->request->len - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			watch(r, c, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0) {
			lose(r, c);
			return;
		}
		c->sent += (size_t)n;
	}
	watch(r, c, EPOLLIN);
}

static bool start(struct runner *r, struct connection *c, int64_t begin_us)
{
	if (c->fd < 0 && !connect_to(r, c))
		return false;
	c->busy = true;
	c->request = &r->l->requests[r->next_request++ % r->l->n_requests];
	c->sent = c->head = c->body = 0;
	c->reply.len = 0;
	c->begin_us = begin_us;
	send_some(r, c);
	return true;
}

/* ---- answers ----------------------------------------------------------------------------------------------- */

/* The number after `"name":` in the first len bytes; -1: there is none. */
static int64_t number_in(const char *p, size_t len, const char *name)
{
	const char *at = memmem(p, len, name, strlen(name));
	return at ? strtoll(at + strlen(name), NULL, 10) : -1;
}

static void count(struct runner *r, const struct connection *c, int64_t now)
{
	struct load_result *o = r->out;
	const char *body = c->reply.data + c->head;
	o->status[c->status > 0 && c->status < LOAD_STATUSES ? c->status : 0]++;
	r->last_us = now;
	if (c->status != 200)
		return;
	if (o->n == o->room) {
		size_t room = o->room ? 2 * o->room : 1 << 16;
		int64_t *more = wasd_realloc(o->latency, room * sizeof *more);
		if (!more) {
			r->failed = true;
			return;
		}
		o->latency = more;
		o->room = room;
	}
	o->latency[o->n++] = now - c->begin_us;
	int64_t batch = number_in(body, c->body, "\"was_batch\":"), queue = number_in(body, c->body, "\"was_queue_us\":"),
			compute = number_in(body, c->body, "\"was_compute_us\":");
	o->batch[batch > 0 && batch < LOAD_BATCHES ? batch : 0]++;
	if (queue >= 0 && compute >= 0) {
		o->timed++;
		o->queue_us += queue;
		o->compute_us += compute;
	}
}

/* Reads the head's status and length. False: this is not HTTP, or too long. */
static bool read_head(struct connection *c)
{
	const char *end = memmem(c->reply.data, c->reply.len, "\r\n\r\n", 4);
	if (!end)
		return c->reply.len < 65536;
	c->head = (size_t)(end - c->reply.data) + 4;
	if (c->head < 16 || memcmp(c->reply.data, "HTTP/1.", 7))
		return false;
	c->status = atoi(c->reply.data + 9);
	for (const char *line = c->reply.data; line < end; line++) {
		if (!strncasecmp(line, "Content-Length:", 15))
			c->body = (size_t)strtoull(line + 15, NULL, 10);
		line = memchr(line, '\n', (size_t)(end + 2 - line));
		if (!line)
			break;
	}
	return c->body <= REPLY_MAX;
}

/* True: the answer is complete. */
static bool receive(struct runner *r, struct connection *c)
{
	char piece[16384];
	for (;;) {
		ssize_t n = recv(c->fd, piece, sizeof piece, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n <= 0 || !c->busy || !wasd_buf_append(&c->reply, piece, (size_t)n) || (!c->head && !read_head(c))) {
			lose(r, c);
			return false;
		}
		if (c->head && c->reply.len >= c->head + c->body)
			return true;
	}
}

/* ---- the run ----------------------------------------------------------------------------------------------- */

static struct connection *idle(struct runner *r)
{
	for (int i = 0; i < r->l->clients; i++)
		if (!r->c[i].busy)
			return &r->c[i];
	return NULL;
}

/* Sends what is due. False: no connection can be made. */
static bool send_due(struct runner *r, int64_t now)
{
	if (r->l->rate > 0) {
		struct connection *c;
		while (r->due_us <= now && r->due_us < r->to_us && (c = idle(r))) {
			if (!start(r, c, r->due_us))
				return false;
			plan_next(r);
		}
		return true;
	}
	for (int i = 0; now < r->to_us && i < r->l->clients; i++)
		if (!r->c[i].busy && !start(r, &r->c[i], wasd_mono_us()))
			return false;
	return true;
}

static bool any_busy(const struct runner *r)
{
	for (int i = 0; i < r->l->clients; i++)
		if (r->c[i].busy)
			return true;
	return r->l->rate > 0 && r->due_us < r->to_us;
}

static void wait_for_events(struct runner *r, int64_t now)
{
	struct epoll_event ev[64];
	int64_t us = r->to_us > now ? r->to_us - now : 100000;
	if (r->l->rate > 0 && r->due_us < r->to_us && idle(r) && r->due_us - now < us)
		us = r->due_us > now ? r->due_us - now : 0;
	struct timespec wait = {us / 1000000, us % 1000000 * 1000};
	int n = epoll_pwait2(r->epoll, ev, 64, &wait, NULL);
	for (int i = 0; i < n; i++) {
		struct connection *c = ev[i].data.ptr;
		if (c->fd >= 0 && (ev[i].events & EPOLLOUT) && c->busy)
			send_some(r, c);
		if (c->fd < 0 || !(ev[i].events & ~(uint32_t)EPOLLOUT) || !receive(r, c))
			continue;
		if (counted(r, c->begin_us))
			count(r, c, wasd_mono_us());
		c->busy = false;
		if (r->l->rate <= 0 && (now = wasd_mono_us()) < r->to_us)
			start(r, c, now);
	}
}

static enum wasd_status run(struct runner *r, struct wasd_err *err)
{
	for (;;) {
		int64_t now = wasd_mono_us();
		if (r->failed)
			return wasd_fail(err, WASD_ENOMEM, "no memory for the results");
		if (!send_due(r, now))
			return wasd_fail(err, WASD_EIO, "cannot connect to %s", r->l->url);
		if (now >= r->to_us && !any_busy(r))
			break;
		if (now >= r->to_us + PATIENCE_US) {
			for (int i = 0; i < r->l->clients; i++)
				r->out->unfinished += r->c[i].busy && counted(r, r->c[i].begin_us);
			for (; r->l->rate > 0 && r->due_us < r->to_us; plan_next(r)) /* these were never sent */
				r->out->unfinished += counted(r, r->due_us);
			break;
		}
		wait_for_events(r, now);
	}
	r->out->seconds = (double)((r->last_us > r->to_us ? r->last_us : r->to_us) - r->from_us) / 1e6;
	return WASD_OK;
}

enum wasd_status load_run(const struct load *l, struct load_result *out, struct wasd_err *err)
{
	struct runner r = {.l = l, .out = out, .random = l->seed * 2654435769u + 88172645463325252u};
	*out = (struct load_result){0};
	r.c = wasd_calloc((size_t)l->clients, sizeof *r.c);
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	prctl(PR_SET_TIMERSLACK, 1000ul); /* nanoseconds */
	if (!r.c || r.epoll < 0) {
		wasd_free(r.c);
		if (r.epoll >= 0)
			close(r.epoll);
		return wasd_fail(err, WASD_ENOMEM, "no memory for %d connections", l->clients);
	}
	for (int i = 0; i < l->clients; i++)
		r.c[i].fd = -1;
	r.begin_us = r.due_us = wasd_mono_us();
	r.from_us = r.begin_us + (int64_t)(l->warmup_s * 1e6);
	r.to_us = r.from_us + (int64_t)(l->seconds * 1e6);
	enum wasd_status s = run(&r, err);
	for (int i = 0; i < l->clients; i++) {
		disconnect(&r.c[i]);
		wasd_buf_done(&r.c[i].reply);
	}
	close(r.epoll);
	wasd_free(r.c);
	return s;
}

void load_result_done(struct load_result *r)
{
	wasd_free(r->latency);
	*r = (struct load_result){0};
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

void load_sort(struct load_result *r)
{
	if (r->n)
		qsort(r->latency, r->n, sizeof *r->latency, by_value);
}

int64_t load_percentile(const struct load_result *r, double p)
{
	if (!r->n)
		return 0;
	size_t rank = (size_t)ceil(p * (double)r->n);
	return r->latency[rank < 1 ? 0 : rank > r->n ? r->n - 1 : rank - 1];
}
