/* scheduler.c - starts the next job (plan.c) when a worker is free, or interrupts one of lower priority for it. All
 * decisions are made on the supervisor's thread from the database rows, so that no state is lost in a restart. */
#include "jobs/attempt.h"
#include "jobs/plan.h"
#include "log.h"
#include "wasd/protocol.h"
#include "wasd/spec.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void set_blocked(struct sched *j, const char *why, int64_t until_us)
{
	pthread_mutex_lock(&j->lock);
	wasd_line(j->blocked, sizeof j->blocked, "%s", why);
	pthread_mutex_unlock(&j->lock);
	j->blocked_until_us = until_us;
}

enum wasd_status dataset_file(struct storage *db, const char *data_dir, const char *name, int64_t version, char **path,
                              bool *wait, struct wasd_err *err)
{
	struct storage_dataset d = {0};
	enum wasd_status s = storage_dataset_get(db, name, version, &d, err);
	*wait = false;
	if (s == WASD_OK && !strcmp(d.state, "scanning")) {
		*wait = true;
	} else if (s == WASD_OK && (strcmp(d.state, "ready") || !d.path)) {
		s = wasd_fail(err, WASD_ESTATE, "dataset %s version %lld is %s", name, (long long)version, d.state);
	} else if (s == WASD_OK) {
		*path = wasd_asprintf("%s/%s", data_dir, d.path);
		if (!*path)
			s = wasd_fail(err, WASD_ENOMEM, "no memory");
		else if (access(*path, R_OK)) {
			s = wasd_fail(err, WASD_ENOTFOUND, "dataset %s version %lld: its file %s is missing", name,
			              (long long)version, d.path);
			wasd_free(*path);
			*path = NULL;
		}
	}
	storage_dataset_done(&d);
	return s;
}

/* False: no more jobs can be started now. */
static bool start_one(struct sched *j, const struct storage_job *job)
{
	struct wasd_err err = {0};
	char *path = NULL;
	bool wait;
	enum wasd_status s = dataset_file(j->cfg.db, j->data_dir, job->dataset, job->dataset_version, &path, &wait, &err);
	if (s == WASD_OK && wait)
		return true; /* waits for its dataset; later jobs may start before it */
	if (s == WASD_ENOMEM || s == WASD_EIO) {
		set_blocked(j, err.msg, wasd_mono_us() + 1000000);
		return false;
	}
	if (s != WASD_OK) {
		struct storage_move m = {.to = "failed", .from = "queued", .reason = "bad_data", .message = err.msg};
		storage_job_move(j->cfg.db, job->id, &m, NULL);
		log_about(job->id, LOG_WARN, "job failed", "job=%s reason=%s", job->id, LOG_Q(err.msg));
		return true;
	}
	s = attempt_start(j, job, path, &err);
	wasd_free(path);
	if (s == WASD_OK || s == WASD_ESTATE || s == WASD_ENOTFOUND)
		return true; /* running, or cancelled meanwhile */
	char why[200];
	wasd_line(why, sizeof why, "cannot start a worker: %s", err.msg);
	log_about(job->id, LOG_WARN, "job not started", "job=%s why=%s", job->id, LOG_Q(err.msg));
	set_blocked(j, why, wasd_mono_us() + 5000000);
	return false;
}

static int free_workers(struct sched *j)
{
	pthread_mutex_lock(&j->lock);
	int n = j->draining ? 0 : j->cfg.workers - j->n_running - (int)j->n_searching;
	pthread_mutex_unlock(&j->lock);
	return n;
}

static void count_searching(struct sched *j)
{
	int64_t n;
	if (storage_job_searching(j->cfg.db, &n, NULL) != WASD_OK)
		return;
	pthread_mutex_lock(&j->lock);
	j->n_searching = n;
	pthread_mutex_unlock(&j->lock);
}

/* The running attempt that a job of this priority may displace: of the lowest priority, and of those the newest. */
static struct attempt *victim(struct sched *j, int64_t priority)
{
	struct attempt *found = NULL;
	int64_t lowest = priority;
	for (struct attempt *a = j->attempts; a; a = a->next) {
		struct storage_job job = {0};
		if (a->stop || !a->number || a->task.ended || cJSON_IsFalse(wasd_json_get(a->spec, "preemptible")) ||
		    storage_job_get(j->cfg.db, a->id, &job, NULL) != WASD_OK)
			continue;
		if (!strcmp(job.state, "running") && job.priority < lowest) {
			lowest = job.priority;
			found = a;
		}
		storage_job_done(&job);
	}
	return found;
}

/* No worker is free: interrupts a job for each waiting one of higher priority, unless a worker is being freed for it.
 */
static void preempt(struct sched *j, struct plan *p)
{
	int coming = 0;
	const struct storage_job *job;
	for (struct attempt *a = j->attempts; a; a = a->next)
		coming += a->stop || a->task.ended;
	while ((job = plan_next(p))) {
		char text[120];
		if (coming-- > 0)
			continue;
		struct attempt *a = victim(j, job->priority);
		snprintf(text, sizeof text, "job %s of priority %lld takes its worker", job->id, (long long)job->priority);
		struct storage_move m = {.to = "preempting", .from = "running", .reason = "preempted", .message = text};
		if (!a || storage_job_move(j->cfg.db, a->id, &m, NULL) != WASD_OK)
			return;
		attempt_stop(a, STOP_PREEMPT);
	}
}

/* Carries the sweeps on: jobs of them are made, queued or stopped. */
static void step_sweeps(struct sched *j)
{
	struct storage_sweep_orders orders = {0};
	struct wasd_err err = {0};
	if (storage_sweeps_step(j->cfg.db, &orders, &err) != WASD_OK)
		log_line(LOG_WARN, "a sweep could not go on", "why=%s", LOG_Q(err.msg)); /* the next tick tries again */
	for (size_t i = 0; i < orders.n; i++)
		control_stop(j, &orders.items[i]);
	wasd_free(orders.items);
}

/* Ends the jobs whose deadline has passed or whose time is used up; a running one stores a checkpoint first. */
static void end_overdue(struct sched *j)
{
	struct storage_names late = {0};
	bool any = false;
	if (storage_job_overdue(j->cfg.db, &late, NULL) != WASD_OK)
		return;
	for (size_t i = 0; i < late.n; i++) {
		struct attempt *a = attempt_of(j, late.items[i]);
		if (a) {
			attempt_stop(a, STOP_DEADLINE);
		} else if (storage_job_expire(j->cfg.db, late.items[i], NULL) == WASD_OK) {
			log_about(late.items[i], LOG_WARN, "job failed", "job=%s reason=deadline_exceeded", late.items[i]);
			any = true;
		}
	}
	storage_names_done(&late);
	if (any && j->cfg.profiles_changed)
		j->cfg.profiles_changed(j->cfg.ctx);
}

void schedule(struct sched *j)
{
	struct plan p;
	const struct storage_job *job;
	end_overdue(j);
	if (j->cfg.to_load && storage_loads_waiting(j->cfg.db))
		j->cfg.to_load(j->cfg.ctx);
	count_searching(j);
	pthread_mutex_lock(&j->lock);
	bool draining = j->draining, low = j->room.low;
	pthread_mutex_unlock(&j->lock);
	if (draining)
		return;
	step_sweeps(j);
	if (low || wasd_mono_us() < j->blocked_until_us)
		return;
	if (plan_read(j->cfg.db, j->cfg.workers + 16, &p, NULL) == WASD_OK) {
		set_blocked(j, "", 0);
		while (free_workers(j) > 0 && (job = plan_next(&p)) && start_one(j, job))
			;
		if (free_workers(j) <= 0)
			preempt(j, &p);
	}
	plan_done(&p);
}

/* Jobs whose backoff after a failure has passed go back to the queue. */
static void requeue_due(struct sched *j)
{
	struct storage_job_filter f = {.states = "retry_wait"};
	struct storage_job_list list = {0};
	if (storage_job_list(j->cfg.db, &f, (struct storage_page){.limit = 500}, &list, NULL) != WASD_OK)
		return;
	bool any = false;
	for (size_t i = 0; i < list.n; i++) {
		if (list.items[i].retry_at > wasd_now_ms())
			continue;
		struct storage_move m = {.to = "queued", .from = "retry_wait", .reason = "retry"};
		any |= storage_job_move(j->cfg.db, list.items[i].id, &m, NULL) == WASD_OK;
	}
	storage_job_list_done(&list);
	if (any)
		schedule(j);
}

static void sched_tick(void *ctx)
{
	struct sched *j = ctx;
	for (struct attempt *a = j->attempts, *next; a; a = next) {
		next = a->next;
		attempt_tick(a);
	}
	int64_t now = wasd_mono_us();
	if (now >= j->next_retry_us) {
		j->next_retry_us = now + 1000000;
		room_watch(j);
		requeue_due(j);
		schedule(j); /* retry jobs that waited for a dataset, or whose worker could not be started */
	}
}

/* ---- for other threads ---------------------------------------------------------------------------------- */

static void poked(void *ctx)
{
	struct sched *j = ctx;
	atomic_store(&j->poke_pending, false);
	j->blocked_until_us = 0;
	for (struct attempt *a = j->attempts; a; a = a->next)
		attempt_limit_time(a);
	schedule(j);
}

void sched_poke(struct sched *j)
{
	if (!atomic_exchange(&j->poke_pending, true))
		supervisor_post(j->cfg.sup, &j->poke_post);
}

static void do_drain(void *ctx)
{
	struct sched *j = ctx;
	pthread_mutex_lock(&j->lock);
	j->draining = true;
	pthread_mutex_unlock(&j->lock);
	for (struct attempt *a = j->attempts, *next; a; a = next) {
		next = a->next;
		attempt_stop(a, STOP_DRAIN);
	}
}

void sched_drain(struct sched *j)
{
	supervisor_call(j->cfg.sup, do_drain, j);
}

bool sched_idle(struct sched *j)
{
	pthread_mutex_lock(&j->lock);
	bool idle = !j->n_running;
	pthread_mutex_unlock(&j->lock);
	return idle;
}

/* Seconds until the worker of each attempt is free; -1: unknown. Under lock. */
static int free_times(struct sched *j, double *out)
{
	int n = 0;
	for (struct attempt *a = j->attempts; a && n < j->cfg.workers; a = a->next, n++)
		if (!a->progress || !wasd_json_num(a->progress, "eta_s", &out[n]))
			out[n] = -1;
	for (int64_t i = 0; i < j->n_searching && n < j->cfg.workers; i++)
		out[n++] = -1;
	return n;
}

/* Why the job waits: code and sentence. */
static const char *why_queued(struct sched *j, const struct storage_queue *q, const struct storage_place *place,
                              int busy, char text[300])
{
	pthread_mutex_lock(&j->lock);
	bool draining = j->draining;
	struct storage_disk room = j->room;
	wasd_line(text, 300, "%s", j->blocked);
	pthread_mutex_unlock(&j->lock);
	if (draining) {
		snprintf(text, 300, "the daemon is stopping");
		return "draining";
	}
	if (room.low) {
		snprintf(text, 300, "%s", room.message);
		return room.reason;
	}
	if (place->scanning) {
		snprintf(text, 300, "its dataset is being scanned");
		return "dataset_scanning";
	}
	if (q->paused) {
		snprintf(text, 300, "queue %s is paused", q->name);
		return "queue_paused";
	}
	if (*text)
		return "worker_not_started";
	if (q->max_running && q->running >= q->max_running) {
		snprintf(text, 300, "%lld jobs of queue %s are running, and no more may", (long long)q->running, q->name);
		return "queue_limit";
	}
	if (busy < j->cfg.workers) {
		snprintf(text, 300, "it is about to start");
		return "starting";
	}
	int n = snprintf(text, 300, "%d of %d workers are busy", busy, j->cfg.workers);
	if (place->before)
		snprintf(text + n, 300 - (size_t)n, ", and %lld job%s come%s first", (long long)place->before,
		         place->before > 1 ? "s" : "", place->before > 1 ? "" : "s");
	return "workers_busy";
}

/* Would it not be over before its deadline? If so, text says it. usual_s: as in struct storage_place. */
static bool too_late(int64_t deadline, double eta_s, double usual_s, char text[300])
{
	double left_s = (double)(deadline - wasd_now_ms()) / 1000;
	if (!deadline || eta_s < 0 || eta_s + usual_s <= left_s)
		return false;
	size_t n = strlen(text);
	snprintf(text + n, 300 - n, "; its deadline is before it would %s", eta_s > left_s ? "start" : "usually end");
	return true;
}

/* The object of a job that waits there, in queue q; deadline 0: it has none. */
static cJSON *place_json(struct sched *j, const struct storage_queue *q, const struct storage_place *place,
                         int64_t deadline)
{
	char text[300];
	double *free_s = wasd_calloc((size_t)j->cfg.workers, sizeof *free_s), eta = -1;
	if (!free_s)
		return NULL;
	pthread_mutex_lock(&j->lock);
	int busy = free_times(j, free_s);
	pthread_mutex_unlock(&j->lock);
	const char *reason = why_queued(j, q, place, busy, text);
	if (!strcmp(reason, "workers_busy") || !strcmp(reason, "starting"))
		eta = plan_eta(free_s, busy, j->cfg.workers, place->before, place->usual_s);
	wasd_free(free_s);
	bool late = too_late(deadline, eta, place->usual_s, text);
	cJSON *o = wasd_message(NULL, "name:s position:i reason:s message:s", q->name, place->before + 1, reason, text);
	if (eta >= 0)
		cJSON_AddNumberToObject(o, "eta_s", eta);
	else
		cJSON_AddNullToObject(o, "eta_s");
	if (deadline)
		cJSON_AddBoolToObject(o, "late", late);
	return o;
}

static cJSON *queue_place(struct sched *j, const char *id)
{
	struct storage_job job = {0};
	struct storage_queue q = {0};
	struct storage_place place;
	cJSON *o = NULL;
	if (storage_job_get(j->cfg.db, id, &job, NULL) == WASD_OK &&
	    storage_job_place(j->cfg.db, id, &place, NULL) == WASD_OK &&
	    storage_queue_get(j->cfg.db, job.queue, &q, NULL) == WASD_OK)
		o = place_json(j, &q, &place, job.deadline);
	storage_queue_done(&q);
	storage_job_done(&job);
	return o;
}

cJSON *sched_live(struct sched *j, const char *id)
{
	cJSON *o = NULL;
	pthread_mutex_lock(&j->lock);
	for (struct attempt *a = j->attempts; a && !o; a = a->next) {
		if (strcmp(a->id, id))
			continue;
		o = cJSON_CreateObject();
		if (a->progress)
			cJSON_AddItemToObject(o, "progress", cJSON_Duplicate(a->progress, true));
		if (a->usage)
			cJSON_AddItemToObject(o, "usage", cJSON_Duplicate(a->usage, true));
		cJSON_AddNumberToObject(o, "attempt", (double)a->number);
		cJSON_AddNumberToObject(o, "threads", (double)a->threads);
	}
	pthread_mutex_unlock(&j->lock);
	if (o)
		return o;
	cJSON *q = queue_place(j, id);
	if (q) {
		o = cJSON_CreateObject();
		cJSON_AddItemToObject(o, "queue", q);
	}
	return o;
}

int64_t sched_threads(const struct sched *j, const cJSON *spec)
{
	int free = j->cfg.reserved && j->cfg.deployed && j->cfg.deployed(j->cfg.ctx) ? j->cfg.reserved : 0;
	int64_t share = (j->cfg.threads - free) / j->cfg.workers,
			asked = (int64_t)wasd_spec_number(spec, "/limits/threads");
	return asked > 0 ? (asked < j->cfg.threads ? asked : j->cfg.threads) : share > 0 ? share : 1;
}

static cJSON *would(struct sched *j, const cJSON *spec)
{
	struct storage_queue q = {0};
	struct storage_place place;
	const char *queue = "";
	cJSON *o = NULL;
	wasd_json_str(spec, "queue", &queue);
	if (storage_job_place_new(j->cfg.db, (int64_t)wasd_spec_number(spec, "/priority"), &place, NULL) == WASD_OK &&
	    storage_queue_get(j->cfg.db, queue, &q, NULL) == WASD_OK)
		o = place_json(j, &q, &place, storage_deadline_ms(wasd_json_get(spec, "deadline")));
	storage_queue_done(&q);
	pthread_mutex_lock(&j->lock);
	int64_t running = j->n_running;
	pthread_mutex_unlock(&j->lock);
	return o ? wasd_message(NULL, "threads:i running:i queue:j", sched_threads(j, spec), running, o) : NULL;
}

cJSON *sched_workers(struct sched *j)
{
	cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "jobs");
	pthread_mutex_lock(&j->lock);
	cJSON_AddNumberToObject(o, "total", j->cfg.workers);
	cJSON_AddNumberToObject(o, "busy", j->n_running + (int)j->n_searching);
	cJSON_AddBoolToObject(o, "draining", j->draining);
	for (struct attempt *a = j->attempts; a && list; a = a->next)
		cJSON_AddItemToArray(list, cJSON_CreateString(a->id));
	pthread_mutex_unlock(&j->lock);
	return o;
}

static void do_register(void *ctx)
{
	struct sched *j = ctx;
	supervisor_every(j->cfg.sup, sched_tick, j);
}

enum wasd_status sched_create(const struct sched_config *cfg, struct sched **out, struct wasd_err *err)
{
	struct sched *j = wasd_calloc(1, sizeof *j);
	if (!j || !(j->data_dir = wasd_strdup(cfg->data_dir))) {
		wasd_free(j);
		return wasd_fail(err, WASD_ENOMEM, "no memory for the scheduler");
	}
	j->cfg = *cfg;
	pthread_mutex_init(&j->lock, NULL);
	j->poke_post = (struct sup_post){.fn = poked, .ctx = j};
	enum wasd_status s = pool_create("ckpt-load", 1, 1024, &j->loader, err);
	if (s != WASD_OK) {
		sched_destroy(j);
		return s;
	}
	supervisor_call(cfg->sup, do_register, j);
	*out = j;
	return WASD_OK;
}

void sched_stop(struct sched *j)
{
	if (!j)
		return;
	pool_destroy(j->loader);
	j->loader = NULL;
}

void sched_destroy(struct sched *j)
{
	if (!j)
		return;
	sched_stop(j);
	pthread_mutex_destroy(&j->lock);
	wasd_free(j->data_dir);
	wasd_free(j);
}

static void queued(struct sched *j, const char *job)
{
	if (job)
		log_remember(job);
	sched_poke(j);
}

struct api_jobs sched_api(struct sched *j)
{
	return (struct api_jobs){.self = j,
	                         .queued = queued,
	                         .cancel = sched_cancel,
	                         .change = sched_change,
	                         .live = sched_live,
	                         .would = would};
}
