#include "http/events.h"
#include "wasd/cond.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { RING = 2048, BATCH = 256, BUFFER_FULL = 64 << 10, BUFFER_LOW = 16 << 10 };

struct ring_event {
	int64_t seq;
	char *type, *object, *data;
};

struct hub_stream {
	struct hub *hub;
	struct hub_stream *next, **pprev; /* hub lock */
	enum hub_format format;
	struct api_log_filter filter;
	char topics[128], object[64];
	bool fresh;   /* SSE: cursor not yet checked against the rows kept; TEXT: there may be new lines. Hub thread */
	int64_t line; /* TEXT: number of the last line copied; hub thread */
	void (*park)(void *ctx);
	void (*wake)(void *ctx);
	void *ctx;

	pthread_mutex_t lock; /* guards the members below */
	struct wasd_buf out;
	size_t taken;   /* bytes of out already read */
	int64_t cursor; /* seq of the last event seen */
	int64_t spoke_us;
	bool parked, ended, behind; /* behind: stopped filling because the buffer was full */
};

struct hub {
	struct hub_source src;
	struct hub_config cfg;
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t thread;
	bool running, poked, stopping;
	int64_t seq;
	struct ring_event ring[RING]; /* ordered by seq, oldest at `first` */
	size_t first, count;
	struct hub_wait *waits;
	struct hub_stream *streams;
	int n_streams;
};

/* ---- streams ---------------------------------------------------------------------------------- */

/* Matches "jobs,deployment.mode" against "job.state": the word before the dot, with or without a plural s, or the full
 * type. */
static bool topic_matches(const char *topics, const char *type)
{
	if (!*topics)
		return true;
	size_t head = strcspn(type, ".");
	for (const char *t = topics; *t;) {
		size_t n = strcspn(t, ",");
		if ((n == head && !strncmp(t, type, n)) || (n == head + 1 && t[head] == 's' && !strncmp(t, type, head)) ||
		    (n == strlen(type) && !strncmp(t, type, n)))
			return true;
		t += n + (t[n] == ',');
	}
	return false;
}

static size_t pending(const struct hub_stream *s)
{
	return s->out.len - s->taken;
}

static void wake_locked(struct hub_stream *s)
{
	if (s->parked && (pending(s) || s->ended)) {
		s->parked = false;
		s->wake(s->ctx);
	}
}

static void append_event(struct hub_stream *s, const struct hub_event *e)
{
	if (*s->object && strcmp(s->object, e->object))
		return;
	if (s->format == HUB_TEXT) { /* any event of the object: look for new lines */
		s->fresh = true;
		return;
	}
	if (!topic_matches(s->topics, e->type))
		return;
	wasd_buf_printf(&s->out, "id: %lld\nevent: %s\ndata: ", (long long)e->seq, e->type);
	for (const char *p = e->data;;) {
		size_t n = strcspn(p, "\r\n");
		wasd_buf_append(&s->out, p, n);
		if (!p[n])
			break;
		wasd_buf_puts(&s->out, "\ndata: ");
		p += n + 1;
	}
	wasd_buf_puts(&s->out, "\n\n");
}

static void stored_event(void *to, const struct hub_event *e)
{
	struct hub_stream *s = to;
	append_event(s, e);
	s->cursor = e->seq;
}

static void reset_to(struct hub_stream *s, int64_t seq)
{
	if (s->format == HUB_SSE)
		wasd_buf_printf(&s->out, "id: %lld\nevent: reset\ndata: {\"seq\":%lld}\n\n", (long long)seq, (long long)seq);
	s->cursor = seq;
}

static void fill_lines(struct hub *h, struct hub_stream *s)
{
	/* Ask before reading the lines: then all lines written before the end are read below. */
	bool over = h->src.log_over(h->src.ctx, s->object);
	s->fresh = false;
	for (int64_t before;;) {
		if (pending(s) >= BUFFER_FULL) {
			s->fresh = s->behind = true;
			return;
		}
		before = s->line;
		if (h->src.log_after(h->src.ctx, s->object, &s->filter, &s->line, BATCH, &s->out, NULL) != WASD_OK) {
			s->ended = true;
			return;
		}
		if (s->line == before)
			break;
	}
	if (over)
		s->ended = true;
}

/* Fills one stream up to the limit of its buffer. Hub lock held. */
static void stream_fill(struct hub *h, struct hub_stream *s)
{
	pthread_mutex_lock(&s->lock);
	size_t had = pending(s);
	if (s->fresh && s->format == HUB_SSE) {
		int64_t first = 0, last = 0;
		s->fresh = false;
		if (h->src.bounds(h->src.ctx, &first, &last, NULL) == WASD_OK &&
		    (s->cursor > last || (first > 0 && s->cursor + 1 < first)))
			reset_to(s, s->cursor > last ? last : first - 1);
	}
	if (s->taken == s->out.len)
		s->out.len = s->taken = 0;
	s->behind = false;
	while (!s->ended && s->cursor < h->seq) {
		if (pending(s) >= BUFFER_FULL) {
			s->behind = true;
			break;
		}
		if (h->count && s->cursor + 1 >= h->ring[h->first].seq) {
			for (size_t i = 0; i < h->count && pending(s) < BUFFER_FULL; i++) {
				const struct ring_event *r = &h->ring[(h->first + i) % RING];
				if (r->seq > s->cursor)
					stored_event(s, &(struct hub_event){r->seq, r->type, r->object, r->data});
			}
		} else {
			int64_t before = s->cursor;
			if (h->src.after(h->src.ctx, s->cursor, BATCH, stored_event, s, NULL) != WASD_OK || s->cursor == before) {
				s->cursor = h->seq; /* unreadable or pruned meanwhile: send a reset and continue from here */
				reset_to(s, h->seq);
			}
		}
	}
	if (s->format == HUB_TEXT && s->fresh)
		fill_lines(h, s);
	int64_t now = wasd_mono_us();
	if (pending(s) > had)
		s->spoke_us = now;
	else if (now - s->spoke_us >= h->cfg.heartbeat_ms * 1000ll && !pending(s) && s->format == HUB_SSE) {
		wasd_buf_puts(&s->out, ":\n\n");
		s->spoke_us = now;
	}
	if (s->out.failed) /* out of memory: the client reconnects with its last id */
		s->ended = true;
	wake_locked(s);
	pthread_mutex_unlock(&s->lock);
}

enum wasd_status hub_stream_open(struct hub *h, enum hub_format format, const char *topics, const char *object,
                                 const struct api_log_filter *filter, int64_t after_seq, void (*park)(void *ctx),
                                 void (*wake)(void *ctx), void *ctx, struct hub_stream **out, struct wasd_err *err)
{
	struct hub_stream *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an event stream");
	s->hub = h;
	s->format = format;
	snprintf(s->topics, sizeof s->topics, "%s", topics);
	snprintf(s->object, sizeof s->object, "%s", object);
	if (filter)
		s->filter = *filter;
	s->park = park;
	s->wake = wake;
	s->ctx = ctx;
	s->spoke_us = wasd_mono_us();
	if (format == HUB_SSE)
		wasd_buf_puts(&s->out, "retry: 2000\n\n");
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_lock(&h->lock);
	if (h->n_streams >= h->cfg.max_streams || h->stopping) {
		bool stopping = h->stopping;
		pthread_mutex_unlock(&h->lock);
		pthread_mutex_destroy(&s->lock);
		wasd_buf_done(&s->out);
		wasd_free(s);
		return stopping ?
		           wasd_fail(err, WASD_EBUSY, "the daemon is stopping") :
		           wasd_fail(err, WASD_EBUSY, "%d event streams are open, which is the limit", h->cfg.max_streams);
	}
	s->fresh = after_seq >= 0 || format == HUB_TEXT;
	s->cursor = after_seq >= 0 && format == HUB_SSE ? after_seq : h->seq;
	s->line = after_seq;
	s->next = h->streams;
	s->pprev = &h->streams;
	if (s->next)
		s->next->pprev = &s->next;
	h->streams = s;
	h->n_streams++;
	h->poked = true;
	pthread_cond_signal(&h->work);
	pthread_mutex_unlock(&h->lock);
	*out = s;
	return WASD_OK;
}

int64_t hub_stream_read(struct hub_stream *s, void *buf, size_t max)
{
	pthread_mutex_lock(&s->lock);
	size_t n = pending(s);
	int64_t got;
	bool hungry = false;
	if (n) {
		n = n < max ? n : max;
		memcpy(buf, s->out.data + s->taken, n);
		s->taken += n;
		hungry = s->behind && pending(s) < BUFFER_LOW;
		got = (int64_t)n;
	} else if (s->ended) {
		got = -1;
	} else {
		s->parked = true;
		s->park(s->ctx);
		got = 0;
	}
	pthread_mutex_unlock(&s->lock);
	if (hungry)
		hub_poke(s->hub);
	return got;
}

void hub_stream_end(struct hub_stream *s)
{
	pthread_mutex_lock(&s->lock);
	s->ended = true;
	wake_locked(s);
	pthread_mutex_unlock(&s->lock);
}

void hub_stream_close(struct hub_stream *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->hub->lock);
	*s->pprev = s->next;
	if (s->next)
		s->next->pprev = s->pprev;
	s->hub->n_streams--;
	pthread_mutex_unlock(&s->hub->lock);
	pthread_mutex_destroy(&s->lock);
	wasd_buf_done(&s->out);
	wasd_free(s);
}

int hub_streams(struct hub *h)
{
	pthread_mutex_lock(&h->lock);
	int n = h->n_streams;
	pthread_mutex_unlock(&h->lock);
	return n;
}

/* ---- waits ------------------------------------------------------------------------------------- */

static void wait_unlink(struct hub_wait *w)
{
	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	w->pprev = NULL;
}

static bool wait_matches(const struct hub_wait *w, const char *object)
{
	return !*w->object || !strcmp(w->object, object);
}

void hub_wait_add(struct hub *h, struct hub_wait *w, int64_t since)
{
	pthread_mutex_lock(&h->lock);
	bool now = h->stopping || wasd_mono_us() >= w->until_us;
	w->gone = h->stopping;
	if (!now && since < h->seq) {
		if (h->count && since + 1 < h->ring[h->first].seq)
			now = true; /* the ring no longer holds all of them: assume a match */
		for (size_t i = 0; i < h->count && !now; i++) {
			const struct ring_event *r = &h->ring[(h->first + i) % RING];
			now = r->seq > since && wait_matches(w, r->object);
		}
	}
	if (!now) {
		w->next = h->waits;
		w->pprev = &h->waits;
		if (w->next)
			w->next->pprev = &w->next;
		h->waits = w;
		pthread_cond_signal(&h->work); /* its deadline may be the earliest */
	}
	pthread_mutex_unlock(&h->lock);
	if (now)
		w->fire(w);
}

bool hub_wait_cancel(struct hub *h, struct hub_wait *w)
{
	pthread_mutex_lock(&h->lock);
	bool mine = w->pprev != NULL;
	if (mine)
		wait_unlink(w);
	pthread_mutex_unlock(&h->lock);
	return mine;
}

/* ---- the thread ----------------------------------------------------------------------------------- */

static void ring_free(struct ring_event *r)
{
	wasd_free(r->type);
	wasd_free(r->object);
	wasd_free(r->data);
	*r = (struct ring_event){0};
}

static void ring_add(void *to, const struct hub_event *e)
{
	struct hub *h = to;
	struct ring_event r = {e->seq, wasd_strdup(e->type), wasd_strdup(e->object), wasd_strdup(e->data)};
	if (!r.type || !r.object || !r.data) {
		/* Out of memory: the ring must not have holes, so it restarts after this event. Streams read the event from the
		 * table. */
		ring_free(&r);
		for (size_t i = 0; i < h->count; i++)
			ring_free(&h->ring[(h->first + i) % RING]);
		h->first = h->count = 0;
	} else {
		if (h->count == RING) {
			ring_free(&h->ring[h->first]);
			h->first = (h->first + 1) % RING;
			h->count--;
		}
		h->ring[(h->first + h->count++) % RING] = r;
	}
	h->seq = e->seq;
}

static struct hub_wait *take_due(struct hub *h, int64_t since, int64_t now)
{
	struct hub_wait *due = NULL, *next;
	for (struct hub_wait *w = h->waits; w; w = next) {
		next = w->next;
		bool fire = h->stopping || now >= w->until_us;
		/* The ring holds all new events unless memory ran out or it overflowed; then every wait fires. */
		if (!fire && h->seq > since && (!h->count || h->ring[h->first].seq > since + 1))
			fire = true;
		for (size_t i = h->count; i-- > 0 && !fire;) {
			const struct ring_event *r = &h->ring[(h->first + i) % RING];
			if (r->seq <= since)
				break;
			fire = wait_matches(w, r->object);
		}
		if (fire) {
			wait_unlink(w);
			w->gone = h->stopping;
			w->next = due;
			due = w;
		}
	}
	return due;
}

static void sleep_until_work(struct hub *h)
{
	int64_t now = wasd_mono_us(), until = now + 1000000;
	for (struct hub_wait *w = h->waits; w; w = w->next)
		if (w->until_us < until)
			until = w->until_us;
	if (h->streams && h->cfg.heartbeat_ms < 1000 && now + h->cfg.heartbeat_ms * 1000ll < until)
		until = now + h->cfg.heartbeat_ms * 1000ll;
	if (until > now && !h->poked && !h->stopping)
		wasd_cond_wait_until(&h->work, &h->lock, until);
}

static void *hub_main(void *arg)
{
	struct hub *h = arg;
	pthread_mutex_lock(&h->lock);
	while (!h->stopping) {
		sleep_until_work(h);
		bool poked = h->poked;
		h->poked = false;
		int64_t since = h->seq, before;
		do {
			before = h->seq;
			if (poked)
				h->src.after(h->src.ctx, h->seq, BATCH, ring_add, h, NULL);
		} while (h->seq != before);
		struct hub_wait *due = take_due(h, since, wasd_mono_us());
		for (struct hub_stream *s = h->streams; s; s = s->next)
			stream_fill(h, s);
		pthread_mutex_unlock(&h->lock);
		for (struct hub_wait *w = due, *next; w; w = next) {
			next = w->next;
			w->fire(w);
		}
		pthread_mutex_lock(&h->lock);
	}
	struct hub_wait *due = take_due(h, h->seq, INT64_MAX);
	for (struct hub_stream *s = h->streams; s; s = s->next)
		hub_stream_end(s);
	pthread_mutex_unlock(&h->lock);
	for (struct hub_wait *w = due, *next; w; w = next) {
		next = w->next;
		w->fire(w);
	}
	return NULL;
}

enum wasd_status hub_create(const struct hub_source *src, struct hub_config cfg, struct hub **out, struct wasd_err *err)
{
	struct hub *h = wasd_calloc(1, sizeof *h);
	if (!h)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the event hub");
	h->src = *src;
	h->cfg = cfg;
	pthread_mutex_init(&h->lock, NULL);
	wasd_cond_init(&h->work);
	int64_t first;
	enum wasd_status s = src->bounds(src->ctx, &first, &h->seq, err);
	if (s == WASD_OK) {
		int e = pthread_create(&h->thread, NULL, hub_main, h);
		if (e)
			s = wasd_fail_errno(err, e, "cannot start the event thread");
	}
	if (s != WASD_OK) {
		hub_destroy(h);
		return s;
	}
	pthread_setname_np(h->thread, "events");
	h->running = true;
	*out = h;
	return WASD_OK;
}

void hub_poke(struct hub *h)
{
	pthread_mutex_lock(&h->lock);
	h->poked = true;
	pthread_cond_signal(&h->work);
	pthread_mutex_unlock(&h->lock);
}

int64_t hub_seq(struct hub *h)
{
	pthread_mutex_lock(&h->lock);
	int64_t seq = h->seq;
	pthread_mutex_unlock(&h->lock);
	return seq;
}

void hub_stop(struct hub *h)
{
	if (!h || !h->running)
		return;
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	pthread_cond_signal(&h->work);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	h->running = false;
}

void hub_destroy(struct hub *h)
{
	if (!h)
		return;
	hub_stop(h);
	for (size_t i = 0; i < h->count; i++)
		ring_free(&h->ring[(h->first + i) % RING]);
	pthread_cond_destroy(&h->work);
	pthread_mutex_destroy(&h->lock);
	wasd_free(h);
}
