/* estimate.c - see estimate.h.
 *
 *   asked for -> in the cache: answered at once
 *             -> WAITING -> RUNNING, a task (process/task.h) -> in the cache, everyone who waits is answered
 *                  |           |  all have gone: its process is killed
 *                  |           +-> asked for again before it has died: WAITING
 *                  +-> all have gone: dropped
 *
 * Those who ask for the same steps share one measurement. */
#include "jobs/estimate.h"

#include "process/helper.h"
#include "process/task.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { IDLE_MS = 60000, ASKED_MAX = 8, WAITING_MAX = 8, CACHE = 64, NICE = 10, GRACE_MS = 500 };
enum state { WAITING, RUNNING };

struct waiter {
	struct waiter *next;
	struct api_ask *ask;
	void (*done)(void *ctx);
	void *ctx;
};

struct timing {
	struct timing *next;
	struct estimates *g;
	char key[WASD_SHA256_HEX];
	enum state state; /* this and the waiters with lock */
	bool killed;
	struct waiter *waiters;
	cJSON *question;  /* without its type; "beside" only tells questions apart */
	struct task task; /* [S] */
};

struct estimates {
	struct estimates_config cfg;
	struct helper sizer;
	pthread_mutex_t lock;
	struct timing *list; /* oldest first */
	struct {
		char key[WASD_SHA256_HEX];
		cJSON *times;
	} cache[CACHE];
	int next; /* the oldest entry, to be replaced */
	bool stopping, posted;
	struct sup_post post;
};

static void timing_free(struct timing *t)
{
	if (!t)
		return;
	task_done(&t->task);
	cJSON_Delete(t->question);
	wasd_free(t);
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

static enum wasd_status sizes(struct estimates *g, const cJSON *spec, const char *dataset, int64_t threads, cJSON **out,
                              struct wasd_err *err)
{
	struct api_call call = {.json = wasd_message("estimate", "spec:j data:s dataset:s threads:i",
	                                             cJSON_Duplicate(spec, 1), g->cfg.data_dir, dataset, threads)};
	enum wasd_status s = call.json ? helper_ask(&g->sizer, &call, -1, wasd_mono_us() + g->cfg.answer_ms * 1000ll, err) :
	                                 wasd_fail(err, WASD_ENOMEM, "no memory");
	if (s == WASD_OK)
		*out = cJSON_DetachItemFromObjectCaseSensitive(call.reply, "sizes");
	else if (s == WASD_EBUSY && !call.reply)
		helper_end(&g->sizer, "gave no answer in time");
	api_call_done(&call);
	return s;
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

/* times: a copy goes to the one who waits; NULL: the measurement failed. */
static void answer(struct waiter *w, const cJSON *times, const struct wasd_err *failed)
{
	struct api_ask *ask = w->ask;
	ask->status = times ? WASD_OK : failed->status;
	if (times && !(ask->call.reply = cJSON_Duplicate(times, 1)))
		ask->status = wasd_fail(&ask->err, WASD_ENOMEM, "no memory");
	else if (!times)
		ask->err = *failed;
	w->done(w->ctx);
	wasd_free(w);
}

static void answer_all(struct waiter *list, const cJSON *times, const struct wasd_err *failed)
{
	for (struct waiter *w = list, *next; w; w = next) {
		next = w->next;
		answer(w, times, failed);
	}
}

static const cJSON *cached(const struct estimates *g, const char *key)
{
	for (int i = 0; i < CACHE; i++)
		if (g->cache[i].times && !strcmp(g->cache[i].key, key))
			return g->cache[i].times;
	return NULL;
}

/* With lock; takes times. */
static void remember(struct estimates *g, const char *key, cJSON *times)
{
	cJSON_Delete(g->cache[g->next].times);
	memcpy(g->cache[g->next].key, key, WASD_SHA256_HEX);
	g->cache[g->next].times = times;
	g->next = (g->next + 1) % CACHE;
}

/* ---- the process; [S] ---------------------------------------------------------------------------------------- */

static void launch_next(struct estimates *g);

static void unlink_timing(struct estimates *g, struct timing *t)
{
	struct timing **at = &g->list;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
}

/* The failure, or WASD_OK. */
static enum wasd_status failure(const struct timing *t, const struct task_end *end, struct wasd_err *err)
{
	const char *message = "it gave no reason", *status = "";
	if (end->outcome == TASK_ENDED_DONE)
		return WASD_OK;
	if (t->task.over_time)
		return wasd_fail(err, WASD_EBUSY, "it did not end within %d s", t->g->cfg.limit_s);
	if (end->how.oom)
		return wasd_fail(err, WASD_ENOMEM, "%.200s", end->how.reason);
	if (end->outcome != TASK_ENDED_FAILED)
		return wasd_fail(err, WASD_EINTERNAL, "its process ended early: %.200s", end->how.reason);
	wasd_json_str(end->said, "message", &message);
	wasd_json_str(end->said, "status", &status);
	enum wasd_status s = wasd_status_from_name(status);
	return wasd_fail(err, s ? s : WASD_EINTERNAL, "%.200s", message);
}

static void timing_ended(void *self, const struct task_end *end)
{
	struct timing *t = self;
	struct estimates *g = t->g;
	struct wasd_err err = {0};
	cJSON *times = failure(t, end, &err) == WASD_OK ? t->task.end.said : NULL;
	if (times)
		t->task.end.said = NULL;
	pthread_mutex_lock(&g->lock);
	struct waiter *waiters = t->waiters;
	bool again = t->killed && waiters && !times && !g->stopping;
	t->waiters = again ? waiters : NULL;
	t->killed = false;
	t->state = WAITING;
	cJSON *kept = times ? cJSON_Duplicate(times, 1) : NULL;
	if (kept)
		remember(g, t->key, kept);
	if (!again)
		unlink_timing(g, t);
	pthread_mutex_unlock(&g->lock);
	if (!again) {
		answer_all(waiters, times, &err);
		timing_free(t);
	}
	cJSON_Delete(times);
	launch_next(g);
}

static const struct task_message timing_messages[] = {
	{.type = "log"},
	{.type = "measured", .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "error", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind timing_kind = {
	.role = WASD_ROLE_CHECK,
	.let_go = true,
	.messages = timing_messages,
	.ended = timing_ended,
};

/* The oldest becomes the running one, unless one runs. */
static struct timing *take_next(struct estimates *g)
{
	struct timing *next = NULL;
	pthread_mutex_lock(&g->lock);
	bool runs = g->stopping;
	for (struct timing *t = g->list; t; t = t->next)
		runs |= t->state == RUNNING;
	if (!runs && (next = g->list))
		next->state = RUNNING;
	pthread_mutex_unlock(&g->lock);
	return next;
}

static cJSON *question_of(const struct timing *t)
{
	cJSON *m = cJSON_Duplicate(t->question, 1);
	cJSON_DeleteItemFromObjectCaseSensitive(m, "beside");
	if (m && cJSON_AddStringToObject(m, "type", "measure") && cJSON_AddStringToObject(m, "data", t->g->cfg.data_dir) &&
	    cJSON_AddNumberToObject(m, "nice", NICE) && cJSON_AddNumberToObject(m, "budget_ms", t->g->cfg.budget_ms) &&
	    (!task_has_cgroup(&t->task) || cJSON_AddTrueToObject(m, "cgroup")))
		return m;
	cJSON_Delete(m);
	return NULL;
}

static void launch_next(struct estimates *g)
{
	struct timing *t;
	struct wasd_err err = {0};
	while ((t = take_next(g))) {
		int64_t mb = 0;
		task_done(&t->task);
		t->task = (struct task){0};
		task_init(&t->task, g->cfg.sup, &timing_kind, t);
		if (task_launch(&t->task, &err) == WASD_OK) {
			wasd_json_i64(t->question, "memory_mb", &mb);
			task_limit(&t->task, mb, g->cfg.limit_s, GRACE_MS);
			task_start(&t->task, question_of(t), -1);
			return;
		}
		pthread_mutex_lock(&g->lock);
		struct waiter *waiters = t->waiters;
		unlink_timing(g, t);
		pthread_mutex_unlock(&g->lock);
		answer_all(waiters, NULL, &err);
		timing_free(t);
	}
}

/* Kills the running one if nobody waits for it, or in any case at the end. */
static void kill_unwanted(struct estimates *g)
{
	pthread_mutex_lock(&g->lock);
	struct timing *t = g->list;
	while (t && (t->state != RUNNING || (t->waiters && !g->stopping)))
		t = t->next;
	if (t)
		t->killed = true;
	pthread_mutex_unlock(&g->lock);
	if (t) /* only this thread ends it */
		task_kill(&t->task, "nobody waits for it");
}

static void on_post(void *ctx)
{
	struct estimates *g = ctx;
	pthread_mutex_lock(&g->lock);
	g->posted = false;
	pthread_mutex_unlock(&g->lock);
	kill_unwanted(g);
	launch_next(g);
}

/* With lock. */
static void post(struct estimates *g)
{
	if (!g->posted)
		supervisor_post(g->cfg.sup, &g->post);
	g->posted = true;
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/* The digest of what the times depend on. */
static bool key_of(const cJSON *question, char key[WASD_SHA256_HEX])
{
	static const char *const other[] = {"epochs", "seed", "schedule", "early_stop", "label_smoothing"};
	const cJSON *spec = wasd_json_get(question, "spec"), *train = wasd_json_get(spec, "train");
	cJSON *k = cJSON_Duplicate(question, 1), *part = k ? cJSON_CreateObject() : NULL;
	static const char *const parts[] = {"model", "was", "weights", "data"};
	bool ok = part;
	for (size_t i = 0; ok && i < sizeof parts / sizeof *parts; i++)
		if (wasd_json_get(spec, parts[i]))
			ok = cJSON_AddItemToObject(part, parts[i], cJSON_Duplicate(wasd_json_get(spec, parts[i]), 1));
	cJSON_DeleteItemFromObjectCaseSensitive(k, "memory_mb");
	cJSON *steps = ok && train ? cJSON_Duplicate(train, 1) : NULL;
	for (size_t i = 0; steps && i < sizeof other / sizeof *other; i++)
		cJSON_DeleteItemFromObjectCaseSensitive(steps, other[i]);
	ok = ok && cJSON_AddItemToObject(part, "train", steps ? steps : cJSON_CreateNull()) &&
	     cJSON_ReplaceItemInObjectCaseSensitive(k, "spec", part);
	char *text = ok ? wasd_json_print(k) : NULL;
	if (text)
		wasd_sha256_of(text, strlen(text), key);
	cJSON_Delete(k);
	wasd_free(text);
	return text;
}

static struct timing *find(struct estimates *g, const char *key, int *n)
{
	struct timing *found = NULL;
	*n = 0;
	for (struct timing *t = g->list; t; t = t->next, ++*n)
		if (!strcmp(t->key, key))
			found = t;
	return found;
}

/* With lock: takes w and the question, unless there is a failure. */
static enum wasd_status join(struct estimates *g, const char *key, struct api_ask *ask, struct waiter *w,
                             struct wasd_err *err)
{
	int n;
	struct timing *t = find(g, key, &n);
	if (g->stopping)
		return wasd_fail(err, WASD_ECANCELLED, "the daemon is stopping");
	if (!t && n >= WAITING_MAX)
		return wasd_fail(err, WASD_EBUSY, "%d other measurements are waiting", n);
	if (!t) {
		if (!(t = wasd_calloc(1, sizeof *t)))
			return wasd_fail(err, WASD_ENOMEM, "no memory");
		t->g = g;
		memcpy(t->key, key, sizeof t->key);
		t->question = ask->call.json;
		ask->call.json = NULL;
		struct timing **end = &g->list;
		while (*end)
			end = &(*end)->next;
		*end = t;
		post(g);
	}
	w->next = t->waiters;
	t->waiters = w;
	return WASD_OK;
}

static void ask_times(struct estimates *g, struct api_ask *ask, void (*done)(void *ctx), void *ctx)
{
	char key[WASD_SHA256_HEX];
	struct wasd_err err = {0};
	struct waiter *w = wasd_calloc(1, sizeof *w);
	enum wasd_status s = w && key_of(ask->call.json, key) ? WASD_OK : wasd_fail(&err, WASD_ENOMEM, "no memory");
	cJSON *known = NULL;
	if (w)
		*w = (struct waiter){.ask = ask, .done = done, .ctx = ctx};
	if (s == WASD_OK) {
		pthread_mutex_lock(&g->lock);
		const cJSON *times = cached(g, key);
		known = times ? cJSON_Duplicate(times, 1) : NULL;
		if (!known)
			s = join(g, key, ask, w, &err);
		pthread_mutex_unlock(&g->lock);
		if (s == WASD_OK && !known)
			return;
	}
	ask->status = s;
	ask->err = err;
	ask->call.reply = known;
	wasd_free(w);
	done(ctx);
}

static void forget(struct estimates *g, const void *ctx)
{
	static const struct wasd_err gone = {.status = WASD_ECANCELLED, .msg = "the client has gone"};
	struct waiter *found = NULL;
	struct timing *unused = NULL;
	pthread_mutex_lock(&g->lock);
	for (struct timing **at = &g->list, *t; (t = *at) && !found; at = &t->next) {
		struct waiter **w = &t->waiters;
		while (*w && (*w)->ctx != ctx)
			w = &(*w)->next;
		if (!(found = *w))
			continue;
		*w = found->next;
		if (t->waiters)
			break;
		if (t->state == RUNNING) {
			post(g);
		} else {
			*at = t->next;
			unused = t;
		}
		break;
	}
	pthread_mutex_unlock(&g->lock);
	if (found)
		answer(found, NULL, &gone);
	timing_free(unused);
}

struct api_estimates estimates_api(struct estimates *g)
{
	return (struct api_estimates){.self = g, .sizes = sizes, .ask = ask_times, .forget = forget};
}

/* ---- start and end ----------------------------------------------------------------------------------------------- */

static const struct helper_kind sizer_kind = {
	.role = WASD_ROLE_CHECK,
	.idle_ms = IDLE_MS,
	.down = "its process ended",
};

enum wasd_status estimates_create(const struct estimates_config *cfg, struct estimates **out, struct wasd_err *err)
{
	struct estimates *g = wasd_calloc(1, sizeof *g);
	if (!g || helper_init(&g->sizer, cfg->sup, &sizer_kind, ASKED_MAX, g) != WASD_OK) {
		wasd_free(g);
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	g->cfg = *cfg;
	g->post = (struct sup_post){.fn = on_post, .ctx = g};
	pthread_mutex_init(&g->lock, NULL);
	*out = g;
	return WASD_OK;
}

static void do_stop(void *ctx)
{
	struct estimates *g = ctx;
	helper_stop(&g->sizer);
	kill_unwanted(g);
}

void estimates_stop(struct estimates *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->stopping = true;
	pthread_mutex_unlock(&g->lock);
	supervisor_call(g->cfg.sup, do_stop, g);
}

void estimates_destroy(struct estimates *g)
{
	if (!g)
		return;
	for (struct timing *t = g->list, *next; t; t = next) {
		next = t->next;
		timing_free(t);
	}
	for (int i = 0; i < CACHE; i++)
		cJSON_Delete(g->cache[i].times);
	helper_done(&g->sizer);
	pthread_mutex_destroy(&g->lock);
	wasd_free(g);
}
