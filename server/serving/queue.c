/* queue.c - the life of a request in the queue; see queue.h, and queue_internal.h for the other files.
 *
 *   WAITING -> ASKED         dispatch: a part of the request is in a batch whose question is in the process
 *   WAITING, ASKED -> over   end: the answers to all parts have arrived, the deadline has passed, the request was
 *                            forgotten, or the process has died
 *
 * A batch lives until the process has answered it or has died, even if all its members have ended, because the process
 * is busy with it. It occupies a place in the process until then, or until the latest deadline of its members. If a
 * batch fails, each member is asked again alone, so that one bad request cannot fail the others.
 *
 * All state changes happen under `lock`. A batch is posted without it, straight from the buffers of its members, which
 * are pinned meanwhile: a request that is to end then ends when the batch has been posted. Requests that have ended are
 * collected and their done is called after the unlock. */
#include "serving/queue_internal.h"

#include "wasd/cond.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* ---- the end of a request; lock held ------------------------------------------------------------------------- */

static void unlink_whole(struct whole *w)
{
	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	w->pprev = NULL;
}

/* Takes the request out of the lane and out of its batches, and adds it to *over; if it is pinned, posted() does. */
static void end(struct queue *q, struct whole *w, enum wasd_status status, struct whole **over)
{
	struct api_ask *a = w->ask;
	for (int i = 0; i < w->n && w->waiting; i++)
		if (w->part[i].pprev)
			lane_take_out(q, &w->part[i]);
	for (int i = 0; i < q->asked; i++)
		for (int k = 0; k < q->in_process[i]->n && !q->in_process[i]->posting; k++)
			if (q->in_process[i]->member[k] && q->in_process[i]->member[k]->whole == w)
				q->in_process[i]->member[k] = NULL;
	a->status = status;
	w->ending = w->pinned > 0;
	if (w->ending)
		return;
	if (w->n > 1 && status != WASD_OK) {
		wasd_free(a->call.reply_bin);
		a->call.reply_bin = NULL;
		a->call.reply_bin_len = 0;
	}
	stats_ended(q, w, wasd_mono_us());
	unlink_whole(w);
	w->lane->wholes--;
	if (w->lane->dropped)
		lane_free_dropped(q);
	w->next = *over;
	*over = w;
}

static void fail(struct queue *q, struct whole *w, enum wasd_status status, const char *why, struct whole **over)
{
	wasd_fail(&w->ask->err, status, "%s", why);
	end(q, w, status, over);
}

void queue_done(struct api_ask *a)
{
	cJSON_Delete(a->call.json);
	a->call.json = NULL;
	a->done(a->ctx);
}

/* No lock held. */
static void tell_one(struct api_ask *a)
{
	if (a->over)
		a->over(a);
	else
		queue_done(a);
}

static void tell(struct whole *over)
{
	while (over) {
		struct whole *w = over;
		struct api_ask *a = w->ask;
		over = w->next;
		wasd_free(w);
		tell_one(a);
	}
}

/* ---- answers; lock held ---------------------------------------------------------------------------------------- */

static void free_batch(struct batch *b)
{
	api_call_done(&b->answer);
	wasd_free(b);
}

/* in_process[0] begins to be computed. */
static void estimate(struct queue *q, int64_t now)
{
	const struct batch *b = q->asked ? q->in_process[0] : NULL;
	const struct lane *l = b ? lane_find(q, b->who) : NULL;
	double us = !l ? 0 : b->total <= BATCH_MAX ? l->batch_us[b->total] : 0;
	q->busy_until_us = us > 0 ? now + (int64_t)us : 0;
}

static void leave_process(struct queue *q, const struct batch *b)
{
	for (int i = 0; i < q->asked; i++)
		if (q->in_process[i] == b) {
			memmove(&q->in_process[i], &q->in_process[i + 1], (size_t)(--q->asked - i) * sizeof *q->in_process);
			if (!i)
				estimate(q, wasd_mono_us());
			break;
		}
}

static void ask_again_alone(struct queue *q, struct batch *b)
{
	for (int i = b->n - 1; i >= 0; i--)
		if (b->member[i] && !b->member[i]->whole->ending) {
			b->member[i]->alone = true;
			lane_put_first(q, b->member[i]);
			b->member[i] = NULL;
		}
}

static void deliver(struct queue *q, struct batch *b, struct whole **over)
{
	int64_t before = 0;
	leave_process(q, b);
	if (b->status == WASD_OK && !b->uncounted)
		stats_computed(q, b);
	else if (b->status != WASD_OK && !b->question.lost && b->n > 1)
		ask_again_alone(q, b);
	for (int i = 0; i < b->n; before += b->images[i++]) {
		struct part *p = b->member[i];
		struct whole *w = p ? p->whole : NULL;
		enum wasd_status s = b->status;
		b->member[i] = NULL;
		if (!p || w->ending)
			continue;
		if (s == WASD_OK) {
			s = batch_hand_out(b, p, before, &w->ask->err);
		} else {
			w->ask->err = b->err;
			batch_shift_pointer(&w->ask->err, p->first);
			if (b->n == 1 && w->n == 1) {
				w->ask->computed_with = b->total;
				w->ask->call.reply = b->answer.reply;
				b->answer.reply = NULL;
			}
		}
		if (s != WASD_OK) {
			for (int k = i + 1; k < b->n; k++) /* other parts of the same request */
				if (b->member[k] && b->member[k]->whole == w)
					b->member[k] = NULL;
			end(q, w, s, over);
		} else if (!--w->open) {
			end(q, w, WASD_OK, over);
		}
	}
	free_batch(b);
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

/* Lock held. Fills the free places in the process. Returns the batches to post. */
static struct batch *dispatch(struct queue *q)
{
	struct batch *first = NULL, **last = &first;
	int64_t now = wasd_mono_us();
	q->due_us = q->deadline_us;
	while (q->asked < QUEUE_DEPTH) {
		int64_t due = INT64_MAX;
		struct batch *b = lanes_gather(q, now, &due);
		if (!b) {
			q->due_us = due < q->due_us ? due : q->due_us;
			break;
		}
		q->in_process[q->asked++] = b;
		if (q->asked == 1)
			estimate(q, now);
		*last = b;
		last = &b->next;
	}
	if (q->due_us < q->asleep_until_us)
		pthread_cond_signal(&q->earlier);
	return first;
}

/* Lock held. The members' payload has been read. */
static void posted(struct queue *q, struct batch *b, enum wasd_status s, const struct wasd_err *err,
                   struct whole **over)
{
	b->posting = false;
	for (int i = 0; i < b->n; i++)
		if (b->member[i])
			b->member[i]->whole->pinned--;
	for (int i = 0; i < b->n; i++) {
		struct whole *w = b->member[i] ? b->member[i]->whole : NULL;
		if (w && w->ending && !w->pinned)
			end(q, w, w->ask->status, over);
	}
	if (s == WASD_OK && !b->answered)
		return;
	if (s != WASD_OK) {
		b->question.lost = true; /* the members end: asking each alone would fail, too */
		b->status = s;
		b->err = *err;
	}
	deliver(q, b, over);
}

static void answered(struct question *question);

/* Ends what a function under the lock has begun: lock held on entry, not on return. */
static void leave(struct queue *q, struct whole *over)
{
	struct batch *todo = dispatch(q);
	pthread_mutex_unlock(&q->lock);
	while (todo) {
		struct batch *b = todo;
		struct wasd_err err = {0};
		todo = b->next;
		enum wasd_status s = batch_post(q, b, answered, &err);
		pthread_mutex_lock(&q->lock);
		posted(q, b, s, &err, &over);
		struct batch **last = &todo;
		while (*last)
			last = &(*last)->next;
		*last = dispatch(q);
		pthread_mutex_unlock(&q->lock);
	}
	tell(over);
}

static void answered(struct question *question)
{
	struct batch *b = (struct batch *)((char *)question - offsetof(struct batch, question));
	struct queue *q = b->queue;
	struct whole *over = NULL;
	b->status = asker_take(q->asker, question, &b->answer, &b->err);
	if (b->status == WASD_OK && (b->status = batch_check(b, &b->err)) != WASD_OK) {
		api_call_done(&b->answer);
		b->answer = (struct api_call){0};
	}
	pthread_mutex_lock(&q->lock);
	b->answered = true;
	if (!b->posting)
		deliver(q, b, &over);
	leave(q, over);
}

/* ---- the daemon's functions -------------------------------------------------------------------------------- */

/* Number of parts of a request with that many images. */
static int parts_of(const struct lane *l, const struct api_ask *a)
{
	if (!l->max_batch || a->alone || a->images <= l->max_batch)
		return 1;
	return (int)((a->images + l->max_batch - 1) / l->max_batch);
}

/* NULL: no memory. */
static struct whole *whole_of(struct lane *l, struct api_ask *a)
{
	int n = parts_of(l, a);
	const char *bin = a->call.bin;
	const cJSON *sizes = wasd_json_get(a->call.json, "sizes"), *size = sizes ? sizes->child : NULL;
	struct whole *w = wasd_calloc(1, sizeof *w + (size_t)n * sizeof *w->part);
	if (!w)
		return NULL;
	*w = (struct whole){.ask = a, .lane = l, .n = n, .open = n};
	w->level = a->priority < 1 ? API_PRIORITY_DEFAULT - 1 : a->priority > LEVELS ? LEVEL_IDLE : a->priority - 1;
	for (int i = 0; i < n; i++) {
		struct part *p = &w->part[i];
		int64_t most = n > 1 ? l->max_batch : a->images;
		p->whole = w;
		p->first = i * most;
		p->images = a->images - p->first < most ? a->images - p->first : most;
		p->bin = bin;
		p->len = n == 1 ? a->call.bin_len : sizes ? 0 : a->call.bin_len / (size_t)a->images * (size_t)p->images;
		for (int64_t k = 0; n > 1 && size && k < p->images; k++, size = size->next)
			p->len += (size_t)size->valuedouble;
		bin += p->len;
	}
	return w;
}

static bool refusals_over(const struct lane *l)
{
	return wasd_mono_us() - l->refused_us > QUEUE_FULL_S * 1000000ll;
}

/* Lock held. The request is in no lane. */
static void reject(struct queue *q, struct whole *w, int waiting, const char *where, struct whole **over)
{
	char why[140];
	snprintf(why, sizeof why, "the queue of %s is full: %d inference requests wait", where, waiting);
	struct queue_refusals *r = &w->lane->refused;
	if (!r->count || refusals_over(w->lane))
		*r = (struct queue_refusals){.since_ms = wasd_now_ms()};
	r->count++;
	r->waiting = waiting;
	w->lane->refused_us = wasd_mono_us();
	w->ask->outcome = API_REJECTED;
	w->ask->retry_s = lanes_wait_s(q);
	fail(q, w, WASD_EBUSY, why, over);
}

/* Lock held. The request is in the queue's list, and in no lane's. NULL: no memory. */
static struct whole *enter(struct queue *q, struct api_ask *a)
{
	struct lane *l = lane_of(q, a->call.who ? a->call.who : "");
	if (l && !a->uncounted) {
		l->max_batch = a->max_batch < BATCH_MAX ? a->max_batch : BATCH_MAX;
		l->max_queue_delay_us = a->max_queue_delay_us;
		l->most = a->queue_max;
	}
	struct whole *w = l ? whole_of(l, a) : NULL;
	if (!w)
		return NULL;
	w->next = q->wholes;
	w->pprev = &q->wholes;
	if (w->next)
		w->next->pprev = &w->next;
	q->wholes = w;
	l->wholes++;
	if (a->deadline_us < q->deadline_us)
		q->deadline_us = a->deadline_us;
	return w;
}

static void begin(struct api_ask *a, void (*done)(void *ctx), void *ctx)
{
	a->done = done;
	a->ctx = ctx;
	a->came_us = wasd_mono_us();
}

static void no_memory(struct api_ask *a)
{
	a->status = wasd_fail(&a->err, WASD_ENOMEM, "no memory for a request");
	tell_one(a);
}

void queue_ask(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx)
{
	struct whole *over = NULL;
	begin(ask, done, ctx);
	pthread_mutex_lock(&q->lock);
	struct whole *w = enter(q, ask);
	if (!w) {
		pthread_mutex_unlock(&q->lock);
		no_memory(ask);
		return;
	}
	const struct lane *l = w->lane;
	if (l->most && l->waiting >= l->most)
		reject(q, w, l->waiting, l->name, &over);
	else if (q->waiting >= q->most)
		reject(q, w, q->waiting, "the daemon", &over);
	for (int i = 0; !over && i < w->n; i++)
		lane_append(q, &w->part[i]);
	leave(q, over);
}

bool queue_ask_idle(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx)
{
	begin(ask, done, ctx);
	pthread_mutex_lock(&q->lock);
	bool idle = !q->waiting && !q->asked;
	struct whole *w = idle ? enter(q, ask) : NULL;
	for (int i = 0; w && i < w->n; i++)
		lane_append(q, &w->part[i]);
	if (w) {
		leave(q, NULL);
		return true;
	}
	pthread_mutex_unlock(&q->lock);
	if (idle)
		no_memory(ask);
	return idle;
}

/* Lock held. Ends all requests for which off(a, by) returns true, with that outcome. */
static void end_some(struct queue *q, bool (*off)(const struct api_ask *a, const void *by), const void *by,
                     const char *outcome, const char *why, struct whole **over)
{
	for (struct whole *w = q->wholes, *next; w; w = next) {
		next = w->next;
		if (w->ending || !off(w->ask, by))
			continue;
		w->ask->outcome = outcome;
		fail(q, w, WASD_EBUSY, why, over);
	}
}

static bool of_context(const struct api_ask *a, const void *ctx)
{
	return a->ctx == ctx;
}

static bool is_late(const struct api_ask *a, const void *now)
{
	return a->deadline_us <= *(const int64_t *)now;
}

void queue_forget(struct queue *q, const void *ctx)
{
	struct whole *over = NULL;
	pthread_mutex_lock(&q->lock);
	end_some(q, of_context, ctx, API_CANCELLED, "the client has closed the connection", &over);
	leave(q, over);
}

void queue_length(struct queue *q, int *waiting, int *asked)
{
	pthread_mutex_lock(&q->lock);
	*waiting = q->waiting;
	*asked = q->asked;
	pthread_mutex_unlock(&q->lock);
}

struct queue_refusals queue_refusals(struct queue *q, const char *name)
{
	struct queue_refusals r = {0};
	pthread_mutex_lock(&q->lock);
	const struct lane *l = lane_find(q, name);
	if (l && !refusals_over(l))
		r = l->refused;
	pthread_mutex_unlock(&q->lock);
	return r;
}

int queue_requests(struct queue *q)
{
	int n = 0;
	pthread_mutex_lock(&q->lock);
	for (const struct whole *w = q->wholes; w; w = w->next)
		n++;
	pthread_mutex_unlock(&q->lock);
	return n;
}

/* ---- the timer --------------------------------------------------------------------------------------------- */

/* Lock held. Ends requests whose deadline has passed, and frees the places of batches without a member left. */
static void expire(struct queue *q, int64_t now, struct whole **over)
{
	if (now < q->deadline_us)
		return;
	end_some(q, is_late, &now, API_LATE, "the inference process did not answer before the deadline", over);
	for (int i = q->asked - 1; i >= 0; i--)
		if (!q->in_process[i]->posting && q->in_process[i]->deadline_us <= now)
			leave_process(q, q->in_process[i]);
	q->deadline_us = INT64_MAX;
	for (const struct whole *w = q->wholes; w; w = w->next)
		if (!w->ending && w->ask->deadline_us < q->deadline_us)
			q->deadline_us = w->ask->deadline_us;
}

static void *timer_main(void *arg)
{
	struct queue *q = arg;
	prctl(PR_SET_TIMERSLACK, 10000ul); /* nanoseconds */
	pthread_mutex_lock(&q->lock);
	while (!q->over) {
		struct whole *over = NULL;
		int64_t now = wasd_mono_us();
		if (q->due_us > now) {
			int64_t longest = now + 3600000000ll;
			q->asleep_until_us = q->due_us < longest ? q->due_us : longest;
			wasd_cond_wait_until(&q->earlier, &q->lock, q->asleep_until_us);
			q->asleep_until_us = 0;
			continue;
		}
		expire(q, now, &over);
		leave(q, over);
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/* ---- create and destroy ------------------------------------------------------------------------------------ */

enum wasd_status queue_create(struct asker *asker, int most, struct metrics *metrics, struct queue **out,
                              struct wasd_err *err)
{
	struct queue *q = wasd_calloc(1, sizeof *q);
	if (!q)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the queue");
	q->asker = asker;
	q->metrics = metrics;
	q->most = most;
	q->due_us = q->deadline_us = INT64_MAX;
	pthread_mutex_init(&q->lock, NULL);
	wasd_cond_init(&q->earlier);
	int e = pthread_create(&q->timer, NULL, timer_main, q);
	if (e) {
		queue_destroy(q);
		return wasd_fail_errno(err, e, "cannot start the queue's timer");
	}
	pthread_setname_np(q->timer, "queue");
	q->timing = true;
	*out = q;
	return WASD_OK;
}

void queue_destroy(struct queue *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	q->over = true;
	pthread_cond_signal(&q->earlier);
	pthread_mutex_unlock(&q->lock);
	if (q->timing)
		pthread_join(q->timer, NULL);
	for (struct lane *l = q->lanes, *next; l; l = next) {
		next = l->next;
		wasd_free(l);
	}
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->earlier);
	wasd_free(q);
}
