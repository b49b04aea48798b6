/* serving.c - deployments in memory.
 *
 * A bundle (a checkpoint compiled for AOM, DOM and every ready profile) is loaded in the one infer process. A
 * deployment refers to a bundle, a mode and a generation. This triple changes under `lock` in one step, after its
 * commit, so a request sees either the old or the new one, never a mix. Profiles are added and deleted while a bundle
 * is served: loads.c makes the process follow the rows, one change at a time.
 *
 *   created -> loading -> warming -> ready   states of the row; ready stays ready while the process restarts or a new
 *                                            version loads
 *   any of these -> failed                   unless an older bundle still answers: then ready, with a message
 *
 * The process: down -> up (by the first load) -> dead -> up again, with everything reloaded; see deaths.c. Loads run
 * one at a time on their own thread.
 */
#include "serving/internal.h"

#include "log.h"
#include "metrics.h"

#include <stdio.h>
#include <string.h>

/* ---- the tables; lock held ------------------------------------------------------------------------------- */

struct deployment *serving_find(struct serving *s, const char *name)
{
	for (struct deployment *d = s->deployments; d; d = d->next)
		if (!strcmp(d->name, name))
			return d;
	return NULL;
}

struct bundle *serving_bundle(struct serving *s, const char *id)
{
	for (struct bundle *b = s->bundles; b; b = b->next)
		if (!strcmp(b->id, id))
			return b;
	return NULL;
}

void serving_set_facts(struct bundle *b, struct api_facts *facts)
{
	api_facts_unref(b->facts);
	b->facts = facts;
	b->loaded = facts ? facts->json : NULL;
}

bool serving_has_mode(const struct bundle *b, const char *mode)
{
	return b && b->loaded && wasd_json_get(wasd_json_get(b->loaded, "modes"), mode) != NULL;
}

static void snapshot(struct serving *s, struct deployment *d, const struct api_request *q, struct api_live *out)
{
	*out = (struct api_live){.generation = d->generation,
	                         .version = d->version,
	                         .max_batch = d->options.max_batch,
	                         .max_queue_delay_us = d->options.max_queue_delay_us,
	                         .queue_max = d->options.queue_max,
	                         .default_timeout_us = d->options.default_timeout_us,
	                         .suspended = d->aside_until_us != 0,
	                         .retry_s = serving_retry_s(s, d),
	                         .ready = !d->aside_until_us &&
	                                  serving_has_mode(serving_bundle(s, d->bundle), serving_base_mode(d))};
	snprintf(out->mode, sizeof out->mode, "%s", d->mode);
	snprintf(out->bundle, sizeof out->bundle, "%s", d->bundle);
	serving_pick(s, d, q, out);
}

int64_t serving_in_flight(const struct deployment *d, int64_t generation)
{
	int64_t n = 0;
	for (int i = 0; i < IN_FLIGHT_SLOTS; i++)
		if (d->in_flight[i].generation != generation)
			n += d->in_flight[i].count;
	return n;
}

/* ---- the process; [S] --------------------------------------------------------------------------------------- */

static enum wasd_status may_start(void *self, struct wasd_err *err)
{
	struct serving *s = self;
	if (atomic_load(&s->stopping))
		return wasd_fail(err, WASD_EBUSY, "the daemon is stopping");
	if (atomic_load(&s->up_at_us))
		return wasd_fail(err, WASD_EBUSY, "the inference process keeps crashing; its restart is delayed");
	return WASD_OK;
}

static void infer_log(void *self, const char *level, const char *text)
{
	(void)self;
	log_line(!strcmp(level, "info") ? LOG_DEBUG : LOG_WARN, "infer", "text=%s", LOG_Q(text));
}

/* Unload before the open questions end: a caller who sees one end must not find the deployment ready. */
static void infer_dying(void *self, const char *who, const char *reason)
{
	struct serving *s = self;
	pthread_mutex_lock(&s->lock);
	for (struct bundle *b = s->bundles; b; b = b->next) {
		serving_set_facts(b, NULL);
	}
	pthread_mutex_unlock(&s->lock);
	serving_died(s, who, reason);
}

static const struct helper_kind infer_kind = {
	.role = WASD_ROLE_INFER,
	.down = "the inference process is being restarted",
	.may_start = may_start,
	.log = infer_log,
	.dying = infer_dying,
	.died = serving_tick,
};

/* ---- the daemon's functions -------------------------------------------------------------------------------- */

bool serve_live(struct serving *s, const char *name, struct api_live *out)
{
	return serve_admit(s, name, NULL, out);
}

bool serve_admit(struct serving *s, const char *name, const struct api_request *q, struct api_live *out)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	bool is = d && d->wanted && (*d->bundle || d->aside_until_us);
	if (is)
		snapshot(s, d, q, out);
	pthread_mutex_unlock(&s->lock);
	return is;
}

struct api_facts *serve_facts(struct serving *s, const char *name)
{
	pthread_mutex_lock(&s->lock);
	const struct deployment *d = serving_find(s, name);
	const struct bundle *b = d ? serving_bundle(s, d->bundle) : NULL;
	struct api_facts *f = b ? b->facts : NULL;
	if (f)
		atomic_fetch_add(&f->refs, 1);
	pthread_mutex_unlock(&s->lock);
	return f;
}

cJSON *serving_add_condition(cJSON *o, const char *type, const char *reason)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "conditions"), *one = cJSON_CreateObject();
	cJSON_AddStringToObject(one, "type", type);
	cJSON_AddStringToObject(one, "reason", reason);
	cJSON_AddItemToArray(list ? list : cJSON_AddArrayToObject(o, "conditions"), one);
	return one;
}

static void add_full(cJSON *o, const struct queue_refusals *r)
{
	char why[160], when[WASD_RFC3339_LEN];
	if (!r->count)
		return;
	snprintf(why, sizeof why, "%lld requests were refused: the queue was full, the last time with %d that waited",
	         (long long)r->count, r->waiting);
	wasd_rfc3339(r->since_ms, when);
	cJSON_AddStringToObject(serving_add_condition(o, "QueueFull", why), "since", when);
}

cJSON *serve_info(struct serving *s, const char *name)
{
	cJSON *o = NULL;
	struct queue_refusals refused = queue_refusals(s->queue, name);
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	struct bundle *b = d ? serving_bundle(s, d->bundle) : NULL;
	if (b && b->loaded) {
		static const char *const members[] = {"bundle",      "arch",      "input",   "fit",       "background",
		                                      "orientation", "normalize", "classes", "max_batch", "modes"};
		o = cJSON_CreateObject();
		for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
			if (wasd_json_get(b->loaded, members[i]))
				cJSON_AddItemToObject(o, members[i], cJSON_Duplicate(wasd_json_get(b->loaded, members[i]), true));
	}
	if (d && (o || (*d->condition && (o = cJSON_CreateObject())))) {
		if (*d->condition)
			cJSON_AddStringToObject(o, "condition", d->condition);
		if (d->swapped)
			cJSON_AddNumberToObject(o, "swap_us", (double)d->swap_us);
		if (d->aside_until_us)
			serving_add_suspended(d, o);
		serving_add_degraded(d, o);
		if (*d->not_following)
			serving_add_condition(o, "NotFollowing", d->not_following);
		add_full(o, &refused);
	}
	pthread_mutex_unlock(&s->lock);
	return o;
}

enum wasd_status serve_mode(struct serving *s, const char *name, const char *mode, int64_t expect, const char *actor,
                            const char *reason, struct api_live *now, struct api_live *before, int64_t *swap_us,
                            int64_t *in_flight_old, char audit_id[64], struct wasd_err *err)
{
	struct storage_deployment row = {0};
	struct storage_mode_out out = {0};
	bool behind = false;
	pthread_mutex_lock(&s->switching);
	enum wasd_status st = storage_deployment_get(s->cfg.db, name, &row, err);
	if (st == WASD_OK) {
		pthread_mutex_lock(&s->lock);
		struct deployment *d = serving_find(s, name);
		if (!d || !serving_has_mode(serving_bundle(s, d->bundle), wasd_mode_chooses(mode) ? WASD_MODE_AOM : mode))
			st = wasd_fail(err, WASD_EBUSY, "mode %s of deployment %s is not loaded", mode, name);
		else if (!row.checkpoint || strcmp(row.checkpoint, d->bundle))
			st = wasd_fail(err, WASD_EBUSY, "deployment %s is loading another version", name);
		pthread_mutex_unlock(&s->lock);
	}
	storage_deployment_done(&row);
	int64_t t0 = wasd_mono_us();
	if (st == WASD_OK) {
		struct storage_mode_in in = {.name = name,
		                             .mode = mode,
		                             .actor = actor,
		                             .reason = reason,
		                             .expected_generation = expect > 0 ? expect : 0};
		st = storage_deployment_mode(s->cfg.db, &in, &out, err);
		t0 = wasd_mono_us();
	}
	if (st == WASD_OK) {
		pthread_mutex_lock(&s->lock);
		struct deployment *d = serving_find(s, name);
		if (d) {
			snapshot(s, d, NULL, before);
			behind = out.changed && *d->not_following; /* the new mode may allow what the old one did not */
			if (out.changed) {
				snprintf(d->mode, sizeof d->mode, "%s", mode);
				d->generation = out.generation;
				metric_add(s->cfg.metrics, METRIC_MODE_SWITCHES, 1, LABELS(name, mode));
				d->traffic.load = (struct traffic_load){0};
			}
			snapshot(s, d, NULL, now);
			*in_flight_old = serving_in_flight(d, d->generation);
		} else {
			st = wasd_fail(err, WASD_ENOTFOUND, "no deployment %s", name);
		}
		pthread_mutex_unlock(&s->lock);
		*swap_us = wasd_mono_us() - t0;
		snprintf(audit_id, 64, "%s", out.audit_id);
	}
	pthread_mutex_unlock(&s->switching);
	if (behind)
		serving_queue_load(s, name);
	return st;
}

void serve_forget(struct serving *s, const void *ctx)
{
	queue_forget(s->queue, ctx);
}

cJSON *serve_stats(struct serving *s, const char *name)
{
	cJSON *o = queue_stats(s->queue, name);
	pthread_mutex_lock(&s->lock);
	const struct deployment *d = serving_find(s, name);
	cJSON_AddNumberToObject(o, "requests", d ? (double)d->served : 0);
	cJSON_AddNumberToObject(o, "failed", d ? (double)d->failed : 0);
	cJSON_AddNumberToObject(o, "in_flight", d ? (double)serving_in_flight(d, -1) : 0);
	pthread_mutex_unlock(&s->lock);
	return o;
}

void serve_settle(struct serving *s)
{
	pthread_mutex_lock(&s->switching);
	pthread_mutex_unlock(&s->switching);
}

static void count_in_flight(struct deployment *d, int64_t generation)
{
	int slot = -1;
	for (int i = 0; i < IN_FLIGHT_SLOTS; i++) {
		if (d->in_flight[i].count && d->in_flight[i].generation == generation) {
			slot = i;
			break;
		}
		if (slot < 0 && !d->in_flight[i].count)
			slot = i;
	}
	if (slot >= 0) {
		d->in_flight[slot].generation = generation;
		d->in_flight[slot].count++;
	}
	d->in_flight_all++;
}

bool serve_begin(struct serving *s, const char *name, const struct api_live *live)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	struct bundle *b = serving_bundle(s, live->bundle);
	bool is = d && d->wanted && b && b->loaded;
	if (is) {
		b->users++;
		count_in_flight(d, live->generation);
	}
	pthread_mutex_unlock(&s->lock);
	return is;
}

void serve_end(struct serving *s, const char *name, const struct api_live *live, bool ok)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	struct bundle *b = serving_bundle(s, live->bundle);
	for (int i = 0; d && i < IN_FLIGHT_SLOTS; i++)
		if (d->in_flight[i].count && d->in_flight[i].generation == live->generation) {
			d->in_flight[i].count--;
			break;
		}
	if (d) {
		d->in_flight_all--;
		*(ok ? &d->served : &d->failed) += 1;
	}
	if (b)
		b->users--;
	bool last = (d && !d->wanted && !d->in_flight_all) || (b && b->retired && !b->users);
	pthread_mutex_unlock(&s->lock);
	if (last && !atomic_load(&s->stopping))
		serving_queue_drained(s, name);
}

bool serve_any(struct serving *s)
{
	bool any = false;
	pthread_mutex_lock(&s->lock);
	for (struct deployment *d = s->deployments; d; d = d->next)
		any |= d->wanted;
	pthread_mutex_unlock(&s->lock);
	return any;
}

cJSON *serve_status(struct serving *s)
{
	cJSON *o = cJSON_CreateObject();
	int waiting, asked, in_process;
	queue_length(s->queue, &waiting, &asked);
	cJSON_AddBoolToObject(o, "up", asker_up(&s->helper.asker, &in_process));
	cJSON_AddNumberToObject(o, "calls", in_process);
	cJSON_AddNumberToObject(o, "waiting", waiting);
	cJSON_AddNumberToObject(o, "requests", queue_requests(s->queue));
	cJSON_AddNumberToObject(o, "restarts", atomic_load(&s->restarts));
	int64_t wait = serving_restart_s(s);
	if (wait)
		cJSON_AddNumberToObject(o, "restart_in_s", (double)wait);
	else
		cJSON_AddNullToObject(o, "restart_in_s");
	cJSON *aside = cJSON_AddArrayToObject(o, "suspended"), *out = cJSON_AddArrayToObject(o, "not_loaded");
	pthread_mutex_lock(&s->lock);
	for (struct deployment *d = s->deployments; d; d = d->next) {
		if (d->wanted && d->aside_until_us)
			cJSON_AddItemToArray(aside, cJSON_CreateString(d->name));
		else if (d->wanted && d->options.required && *d->bundle &&
		         !serving_has_mode(serving_bundle(s, d->bundle), serving_base_mode(d)))
			cJSON_AddItemToArray(out, cJSON_CreateString(d->name));
	}
	pthread_mutex_unlock(&s->lock);
	return o;
}

/* ---- create and destroy ------------------------------------------------------------------------------------ */

static void do_register(void *ctx)
{
	struct serving *s = ctx;
	supervisor_every(s->cfg.sup, serving_tick, s);
}

enum wasd_status serve_create(const struct serving_config *cfg, struct serving **out, struct wasd_err *err)
{
	struct serving *s = wasd_calloc(1, sizeof *s);
	if (!s || helper_init(&s->helper, cfg->sup, &infer_kind, cfg->max_questions, s) != WASD_OK) {
		wasd_free(s);
		return wasd_fail(err, WASD_ENOMEM, "no memory for serving");
	}
	s->cfg = *cfg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->switching, NULL);
	pthread_mutex_init(&s->submitting, NULL);
	enum wasd_status st = queue_create(&s->helper.asker, cfg->max_questions, cfg->metrics, &s->queue, err);
	if (st == WASD_OK)
		st = pool_create("loads", 1, 1024, &s->loads, err);
	if (st != WASD_OK) {
		serve_destroy(s);
		return st;
	}
	supervisor_call(cfg->sup, do_register, s);
	*out = s;
	return WASD_OK;
}

void serve_restore(struct serving *s)
{
	struct storage_page page = {.limit = 500};
	for (char *cursor = NULL;;) {
		struct storage_deployment_list list = {0};
		page.cursor = cursor;
		enum wasd_status st = storage_deployment_list(s->cfg.db, NULL, page, &list, NULL);
		for (size_t i = 0; st == WASD_OK && i < list.n; i++)
			if (strcmp(list.items[i].state, "unloaded") && strcmp(list.items[i].state, "draining"))
				serve_changed(s, list.items[i].name, NULL);
		wasd_free(cursor);
		cursor = st == WASD_OK && list.next_cursor ? wasd_strdup(list.next_cursor) : NULL;
		storage_deployment_list_done(&list);
		if (!cursor)
			return;
	}
}

static void do_stop(void *ctx)
{
	struct serving *s = ctx;
	serving_tunings_stop(s);
	helper_stop(&s->helper);
}

void serve_stop(struct serving *s)
{
	if (!s || atomic_exchange(&s->stopping, true))
		return;
	supervisor_call(s->cfg.sup, do_stop, s);
	pthread_mutex_lock(&s->submitting);
	struct pool *loads = s->loads;
	s->loads = NULL;
	pthread_mutex_unlock(&s->submitting);
	pool_destroy(loads);
}

void serve_destroy(struct serving *s)
{
	if (!s)
		return;
	pool_destroy(s->loads);
	for (struct deployment *d = s->deployments, *next; d; d = next) {
		next = d->next;
		serving_traffic_done(d);
		wasd_free(d);
	}
	for (struct bundle *b = s->bundles, *next; b; b = next) {
		next = b->next;
		serving_set_facts(b, NULL);
		wasd_free(b);
	}
	serving_tunings_done(s);
	queue_destroy(s->queue);
	helper_done(&s->helper);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->switching);
	pthread_mutex_destroy(&s->submitting);
	wasd_free(s);
}

struct api_serving serve_api(struct serving *s)
{
	return (struct api_serving){.self = s,
	                            .changed = serve_changed,
	                            .tuned = serve_tuned,
	                            .settle = serve_settle,
	                            .gone = serve_gone,
	                            .live = serve_live,
	                            .admit = serve_admit,
	                            .traffic = serve_traffic,
	                            .traffic_now = serve_traffic_now,
	                            .facts = serve_facts,
	                            .info = serve_info,
	                            .switch_mode = serve_mode,
	                            .ask = serve_ask,
	                            .forget = serve_forget,
	                            .stats = serve_stats,
	                            .window = serve_window,
	                            .example = serve_example,
	                            .begin = serve_begin,
	                            .end = serve_end,
	                            .health = serve_status};
}
