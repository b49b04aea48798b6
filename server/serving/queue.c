/* queue.c - the queue of inference requests; see queue.h.
 *
 *   WAITING -> ASKED         dispatch: the request is in a batch whose question is in the process
 *   WAITING, ASKED -> over   finish: the answer has arrived, the deadline has passed, the request was forgotten, or the
 *                            process has died
 *
 * A batch lives until the process has answered it or has died, even if all its members have ended, because the process
 * is busy with it. It occupies a place in the process until then, or until the latest deadline of its members. If a
 * batch fails, each member is asked again alone, so that one bad request cannot fail the others. All state changes
 * happen under `lock`; requests that have ended are collected and their done is called after the unlock.
 */
#include "serving/queue.h"

#include "metrics.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { BATCH_MAX = 64 };

struct batch {
	struct question question;
	struct queue *queue;
	struct api_ask *member[BATCH_MAX]; /* NULL: this request has already ended */
	int64_t images[BATCH_MAX];
	int n;
	int64_t total, deadline_us; /* the latest deadline of its members */
	char who[72], mode[WASD_MODE_LEN];
	bool uncounted;
};

/* Statistics of one deployment; times in microseconds. */
struct tally {
	struct tally *next;
	char name[72];
	int64_t last_ms, images, executions;
	struct counted {
		int64_t count, us;
	} success, fail, queue, input, compute, batches[BATCH_MAX + 1]; /* batches[n]: executions with n images */
};

struct queue {
	struct asker *asker;
	struct metrics *metrics;
	int most;
	pthread_mutex_t lock;
	struct api_ask *first, **last; /* waiting, in order of arrival */
	int waiting, asked;
	struct batch *in_process[QUEUE_DEPTH]; /* `asked` entries are used */
	struct tally *tallies;
};

/* ---- the list; lock held ----------------------------------------------------------------------------------- */

static void append(struct queue *q, struct api_ask *a)
{
	a->next = NULL;
	*q->last = a;
	q->last = &a->next;
	q->waiting++;
}

static void take_out(struct queue *q, struct api_ask **at)
{
	struct api_ask *a = *at;
	*at = a->next;
	if (q->last == &a->next)
		q->last = at;
	q->waiting--;
}

/* Puts a member that is asked again back at the head. */
static void put_first(struct queue *q, struct api_ask *a)
{
	a->next = q->first;
	if (!q->first)
		q->last = &a->next;
	q->first = a;
	q->waiting++;
}

/* ---- requests that have ended ------------------------------------------------------------------------------ */

static void add_count(struct counted *c, int64_t us)
{
	c->count++;
	c->us += us > 0 ? us : 0;
}

/* NULL: no memory; the request is then not counted. */
static struct tally *tally_of(struct queue *q, const char *name)
{
	struct tally *t = q->tallies;
	while (t && strcmp(t->name, name))
		t = t->next;
	if (t || !*name || !(t = wasd_calloc(1, sizeof *t)))
		return t;
	snprintf(t->name, sizeof t->name, "%s", name);
	t->next = q->tallies;
	q->tallies = t;
	return t;
}

/* Lock held. Ends a: sets its status and adds it to `over`, whose done functions are called after the unlock. */
static void finish(struct queue *q, struct api_ask *a, enum wasd_status status, struct api_ask **over)
{
	int64_t now = wasd_mono_us();
	struct tally *t = a->uncounted ? NULL : tally_of(q, a->call.who ? a->call.who : "");
	a->status = status;
	if (t && status == WASD_OK) {
		metric_observe(q->metrics, METRIC_INFER_QUEUE, (double)a->queue_us / 1e6, LABELS(a->call.who, a->mode));
		add_count(&t->success, now - a->came_us);
		add_count(&t->queue, a->queue_us);
		t->images += a->images;
		t->last_ms = wasd_now_ms();
	} else if (t) {
		add_count(&t->fail, now - a->came_us);
	}
	a->next = *over;
	*over = a;
}

static void fail(struct queue *q, struct api_ask *a, enum wasd_status status, const char *why, struct api_ask **over)
{
	wasd_fail(&a->err, status, "%s", why);
	finish(q, a, status, over);
}

void queue_done(struct api_ask *a)
{
	cJSON_Delete(a->call.json);
	a->call.json = NULL;
	a->done(a->ctx);
}

static void tell(struct api_ask *over)
{
	while (over) {
		struct api_ask *a = over;
		over = a->next;
		if (a->over)
			a->over(a);
		else
			queue_done(a);
	}
}

/* ---- asking; lock held ------------------------------------------------------------------------------------- */

static bool mergeable(const struct api_ask *a)
{
	return a->most_images > 1 && !a->alone && a->call.who;
}

static bool together(const struct api_ask *a, const struct api_ask *b)
{
	return mergeable(b) && !strcmp(a->call.who, b->call.who) && !strcmp(a->bundle, b->bundle) &&
	       !strcmp(a->mode, b->mode);
}

static void add_member(struct batch *b, struct api_ask *a, int64_t now)
{
	a->queue_us = now - a->came_us;
	b->images[b->n] = a->images;
	b->member[b->n++] = a;
	b->total += a->images;
	if (a->deadline_us > b->deadline_us)
		b->deadline_us = a->deadline_us;
}

/* Takes the oldest request, and others for the same bundle and mode that may be batched with it. NULL: no memory. */
static struct batch *gather(struct queue *q)
{
	struct batch *b = wasd_calloc(1, sizeof *b);
	if (!b)
		return NULL;
	int64_t now = wasd_mono_us();
	struct api_ask *first = q->first;
	take_out(q, &q->first);
	add_member(b, first, now);
	if (mergeable(first))
		for (struct api_ask **at = &q->first; *at && b->n < BATCH_MAX && b->total < first->most_images;) {
			struct api_ask *a = *at;
			if (together(first, a) && b->total + a->images <= first->most_images) {
				take_out(q, at);
				add_member(b, a, now);
			} else {
				at = &a->next;
			}
		}
	snprintf(b->who, sizeof b->who, "%s", first->call.who ? first->call.who : "");
	snprintf(b->mode, sizeof b->mode, "%s", first->mode ? first->mode : "");
	b->uncounted = first->uncounted;
	b->queue = q;
	return b;
}

/* Concatenates the tensors of all members. False: no memory. */
static bool join(const struct batch *b, struct wasd_buf *out)
{
	for (int i = 0; i < b->n; i++)
		wasd_buf_append(out, b->member[i]->call.bin, b->member[i]->call.bin_len);
	return !out->failed;
}

static void answered(struct question *question);

static enum wasd_status post(struct queue *q, struct batch *b, struct wasd_err *err)
{
	const struct api_call *first = &b->member[0]->call;
	struct wasd_buf joined = {0};
	struct api_call call = {.json = cJSON_Duplicate(first->json, 1), .bin = first->bin, .bin_len = first->bin_len};
	b->question = (struct question){.who = b->who, .done = answered};
	for (int i = 0; i < b->n; i++)
		b->question.bulk_max += b->member[i]->call.reply_max;
	if (b->n > 1) {
		cJSON *n = cJSON_GetObjectItemCaseSensitive(call.json, "n");
		if (!n || !join(b, &joined)) {
			wasd_buf_done(&joined);
			cJSON_Delete(call.json);
			return wasd_fail(err, WASD_ENOMEM, "no memory for a batch");
		}
		cJSON_SetNumberValue(n, (double)b->total);
		call.bin = joined.data;
		call.bin_len = joined.len;
	}
	enum wasd_status s = asker_post(q->asker, &b->question, &call, err);
	wasd_buf_done(&joined);
	return s;
}

/* Sends waiting requests to the process while it has free places. */
static void dispatch(struct queue *q, struct api_ask **over)
{
	while (q->first && q->asked < QUEUE_DEPTH) {
		struct wasd_err err = {0};
		struct batch *b = gather(q);
		enum wasd_status s = b ? post(q, b, &err) : wasd_fail(&err, WASD_ENOMEM, "no memory for a batch");
		if (s == WASD_OK) {
			q->in_process[q->asked++] = b;
			continue;
		}
		if (!b) {
			struct api_ask *a = q->first;
			take_out(q, &q->first);
			fail(q, a, s, err.msg, over);
		}
		for (int i = 0; b && i < b->n; i++)
			fail(q, b->member[i], s, err.msg, over);
		wasd_free(b);
	}
}

/* ---- answers ----------------------------------------------------------------------------------------------- */

static void count_batch(struct queue *q, const struct batch *b, const cJSON *reply)
{
	int64_t decode = 0, compute = 0, macs = 0;
	const char *const labels[] = {b->who, b->mode};
	struct tally *t = tally_of(q, b->who);
	const cJSON *timing = wasd_json_get(reply, "timing_us");
	wasd_json_i64(timing, "decode", &decode);
	wasd_json_i64(timing, "compute", &compute);
	wasd_json_i64(reply, "macs", &macs);
	if (!t)
		return;
	metric_observe(q->metrics, METRIC_INFER_BATCH, (double)b->total, labels);
	metric_add(q->metrics, METRIC_INFER_MACS, (double)macs * (double)b->total, labels);
	t->executions++;
	for (int i = 0; i < b->n; i++) {
		add_count(&t->input, decode);
		add_count(&t->compute, compute);
		metric_observe(q->metrics, METRIC_INFER_COMPUTE, (double)compute / 1e6, labels);
	}
	add_count(&t->batches[b->total < BATCH_MAX ? b->total > 0 ? b->total : 1 : BATCH_MAX], compute);
}

/* Copies the member's rows of the batch's logits. */
static enum wasd_status hand_out(const struct batch *b, int i, int64_t before, const struct api_call *whole,
                                 struct api_ask *a)
{
	size_t row = whole->reply_bin_len / (size_t)b->total, len = row * (size_t)b->images[i];
	a->computed_with = b->total;
	a->call.reply = cJSON_Duplicate(whole->reply, 1);
	a->call.reply_bin = wasd_malloc(len ? len : 1);
	if (!a->call.reply || !a->call.reply_bin)
		return wasd_fail(&a->err, WASD_ENOMEM, "no memory for an answer");
	memcpy(a->call.reply_bin, whole->reply_bin + row * (size_t)before, len);
	a->call.reply_bin_len = len;
	return WASD_OK;
}

/* Lock held. */
static void deliver(struct queue *q, struct batch *b, enum wasd_status s, struct api_call *whole,
                    const struct wasd_err *err, struct api_ask **over)
{
	int64_t before = 0;
	if (s == WASD_OK && !b->uncounted)
		count_batch(q, b, whole->reply);
	for (int i = b->n - 1; s != WASD_OK && !b->question.lost && b->n > 1 && i >= 0; i--)
		if (b->member[i]) {
			b->member[i]->alone = true;
			put_first(q, b->member[i]);
			b->member[i] = NULL;
		}
	for (int i = 0; i < b->n; before += b->images[i++]) {
		struct api_ask *a = b->member[i];
		if (!a)
			continue;
		a->err = *err;
		if (b->n > 1 && s == WASD_OK) {
			finish(q, a, hand_out(b, i, before, whole, a), over);
			continue;
		}
		a->computed_with = b->total;
		a->call.reply = whole->reply;
		a->call.reply_bin = whole->reply_bin;
		a->call.reply_bin_len = whole->reply_bin_len;
		whole->reply = NULL;
		whole->reply_bin = NULL;
		finish(q, a, s, over);
	}
}

static void answered(struct question *question)
{
	struct batch *b = (struct batch *)((char *)question - offsetof(struct batch, question));
	struct queue *q = b->queue;
	struct api_call whole = {0};
	struct wasd_err err = {0};
	struct api_ask *over = NULL;
	enum wasd_status s = asker_take(q->asker, question, &whole, &err);
	pthread_mutex_lock(&q->lock);
	for (int i = 0; i < q->asked; i++)
		if (q->in_process[i] == b) {
			q->in_process[i] = q->in_process[--q->asked];
			break;
		}
	deliver(q, b, s, &whole, &err, &over);
	dispatch(q, &over);
	pthread_mutex_unlock(&q->lock);
	api_call_done(&whole);
	wasd_free(b);
	tell(over);
}

/* ---- the daemon's functions -------------------------------------------------------------------------------- */

void queue_ask(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx)
{
	struct api_ask *over = NULL;
	ask->done = done;
	ask->ctx = ctx;
	ask->came_us = wasd_mono_us();
	pthread_mutex_lock(&q->lock);
	append(q, ask);
	if (q->waiting > q->most) {
		char why[80];
		struct api_ask **at = &q->first;
		while (*at != ask)
			at = &(*at)->next;
		take_out(q, at);
		snprintf(why, sizeof why, "the queue of %d inference requests is full", q->waiting);
		ask->outcome = API_REJECTED;
		fail(q, ask, WASD_EBUSY, why, &over);
	}
	dispatch(q, &over);
	pthread_mutex_unlock(&q->lock);
	tell(over);
}

bool queue_ask_idle(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx)
{
	struct api_ask *over = NULL;
	ask->done = done;
	ask->ctx = ctx;
	ask->came_us = wasd_mono_us();
	pthread_mutex_lock(&q->lock);
	bool idle = !q->waiting && !q->asked;
	if (idle) {
		append(q, ask);
		dispatch(q, &over);
	}
	pthread_mutex_unlock(&q->lock);
	tell(over);
	return idle;
}

/* Lock held. Ends all waiting and asked requests for which off(a, by) returns true, with that outcome. */
static void end_some(struct queue *q, bool (*off)(const struct api_ask *a, const void *by), const void *by,
                     const char *outcome, const char *why, struct api_ask **over)
{
	for (struct api_ask **at = &q->first; *at;) {
		struct api_ask *a = *at;
		if (!off(a, by)) {
			at = &a->next;
			continue;
		}
		take_out(q, at);
		a->outcome = outcome;
		fail(q, a, WASD_EBUSY, why, over);
	}
	for (int i = 0; i < q->asked; i++)
		for (int k = 0; k < q->in_process[i]->n; k++) {
			struct api_ask *a = q->in_process[i]->member[k];
			if (!a || !off(a, by))
				continue;
			q->in_process[i]->member[k] = NULL;
			a->outcome = outcome;
			fail(q, a, WASD_EBUSY, why, over);
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
	struct api_ask *over = NULL;
	pthread_mutex_lock(&q->lock);
	end_some(q, of_context, ctx, API_CANCELLED, "the client has closed the connection", &over);
	pthread_mutex_unlock(&q->lock);
	tell(over);
}

void queue_tick(struct queue *q)
{
	struct api_ask *over = NULL;
	int64_t now = wasd_mono_us();
	pthread_mutex_lock(&q->lock);
	end_some(q, is_late, &now, API_LATE, "the inference process did not answer before the deadline", &over);
	for (int i = 0; i < q->asked;)
		if (q->in_process[i]->deadline_us <= now)
			q->in_process[i] = q->in_process[--q->asked]; /* a late answer has no member left */
		else
			i++;
	dispatch(q, &over);
	pthread_mutex_unlock(&q->lock);
	tell(over);
}

void queue_length(struct queue *q, int *waiting, int *asked)
{
	pthread_mutex_lock(&q->lock);
	*waiting = q->waiting;
	*asked = q->asked;
	pthread_mutex_unlock(&q->lock);
}

static void add_stat(cJSON *o, const char *name, const struct counted *c)
{
	cJSON *one = cJSON_AddObjectToObject(o, name);
	cJSON_AddNumberToObject(one, "count", (double)c->count);
	cJSON_AddNumberToObject(one, "ns", (double)c->us * 1000);
}

cJSON *queue_stats(struct queue *q, const char *name)
{
	static const struct counted none;
	cJSON *o = cJSON_CreateObject();
	pthread_mutex_lock(&q->lock);
	struct tally *t = tally_of(q, name);
	int waiting = 0;
	for (const struct api_ask *a = q->first; a; a = a->next)
		waiting += a->call.who && !strcmp(a->call.who, name);
	cJSON_AddNumberToObject(o, "waiting", waiting);
	cJSON_AddNumberToObject(o, "last_inference", t ? (double)t->last_ms : 0);
	cJSON_AddNumberToObject(o, "inference_count", t ? (double)t->images : 0);
	cJSON_AddNumberToObject(o, "execution_count", t ? (double)t->executions : 0);
	cJSON *stats = cJSON_AddObjectToObject(o, "inference_stats"), *batches = cJSON_AddArrayToObject(o, "batch_stats");
	add_stat(stats, "success", t ? &t->success : &none);
	add_stat(stats, "fail", t ? &t->fail : &none);
	add_stat(stats, "queue", t ? &t->queue : &none);
	add_stat(stats, "compute_input", t ? &t->input : &none);
	add_stat(stats, "compute_infer", t ? &t->compute : &none);
	add_stat(stats, "compute_output", &none);
	add_stat(stats, "cache_hit", &none);
	add_stat(stats, "cache_miss", &none);
	for (int i = 1; t && i <= BATCH_MAX; i++)
		if (t->batches[i].count) {
			cJSON *one = cJSON_CreateObject();
			cJSON_AddNumberToObject(one, "batch_size", i);
			add_stat(one, "compute_input", &none);
			add_stat(one, "compute_infer", &t->batches[i]);
			add_stat(one, "compute_output", &none);
			cJSON_AddItemToArray(batches, one);
		}
	pthread_mutex_unlock(&q->lock);
	return o;
}

void queue_drop_stats(struct queue *q, const char *name)
{
	pthread_mutex_lock(&q->lock);
	struct tally **at = &q->tallies;
	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	struct tally *t = *at;
	if (t)
		*at = t->next;
	pthread_mutex_unlock(&q->lock);
	wasd_free(t);
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
	q->last = &q->first;
	pthread_mutex_init(&q->lock, NULL);
	*out = q;
	return WASD_OK;
}

void queue_destroy(struct queue *q)
{
	if (!q)
		return;
	for (struct tally *t = q->tallies, *next; t; t = next) {
		next = t->next;
		wasd_free(t);
	}
	pthread_mutex_destroy(&q->lock);
	wasd_free(q);
}
