/* tune.c - finds the thresholds of cascades in the background.
 *
 * Whether a deployment needs a tuning is read from its row: its policy wants a share of AOM's accuracy (cascade.keep)
 * and its member "tuned" is not for this checkpoint, cheap mode and share. So a restart, another version and a change
 * of the policy all lead to the same question, and nothing else is kept.
 *
 *   wanted -> files loaded -> a task (process/task.h) -> ended -> member "tuned": the curve, or why there is none
 *
 * One tuning at a time. Reading files and writing rows is done on the loading thread.
 */
#include "serving/internal.h"

#include "jobs/scheduler.h"
#include "log.h"
#include "process/task.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TUNE_NICE = 10 };

struct tuning {
	struct tuning *next;
	struct serving *s;
	struct pool_job job; /* reads the files, and later writes the row */
	struct sup_post post;
	char name[72], checkpoint[48], cheap[WASD_MODE_LEN];
	double keep;
	int fd;
	int64_t bytes, overlay, done, of;
	char sha[WASD_SHA256_HEX];
	char *path;
	struct wasd_err err; /* status WASD_OK: none so far */
	cJSON *info;
	struct task task; /* [S] */
};

/* ---- the list; lock held ---------------------------------------------------------------------------------------- */

static struct tuning *tuning_of(struct serving *s, const char *name)
{
	for (struct tuning *t = s->tunings; t; t = t->next)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

static void tuning_free(struct tuning *t)
{
	if (t->fd >= 0)
		close(t->fd);
	cJSON_Delete(t->info);
	wasd_free(t->path);
	task_done(&t->task);
	wasd_free(t);
}

/* Starts the first of the list, if it has not begun. */
static void begin_next(struct serving *s)
{
	if (s->tunings && !s->tuning && !atomic_load(&s->stopping)) {
		s->tuning = s->tunings;
		pool_submit(s->loads, &s->tuning->job);
	}
}

/* ---- the row ------------------------------------------------------------------------------------------------------
 */

/* The row's wish. False: it has none. */
static bool wanted(const struct storage_deployment *row, struct tuning *out)
{
	struct traffic_policy p;
	traffic_policy_of(row->options, row->checkpoint, &p);
	if (p.cascade.keep <= 0 || p.cascade.threshold >= 0 || traffic_tuning_failed(row->options, row->checkpoint))
		return false;
	out->keep = p.cascade.keep;
	snprintf(out->cheap, sizeof out->cheap, "%s", p.cascade.cheap);
	snprintf(out->checkpoint, sizeof out->checkpoint, "%s", row->checkpoint);
	return true;
}

/* Members that tell whose result it is, and the result or the reason of the failure. */
static char *tuned_text(struct tuning *t)
{
	cJSON *o = t->err.status ? cJSON_CreateObject() : t->info;
	t->info = t->err.status ? t->info : NULL;
	bool ok = cJSON_AddStringToObject(o, "checkpoint", t->checkpoint) &&
	          cJSON_AddStringToObject(o, "cheap", t->cheap) && cJSON_AddNumberToObject(o, "keep", t->keep) &&
	          (!t->err.status || cJSON_AddStringToObject(o, "failed", t->err.msg));
	char *text = ok ? wasd_json_print(o) : NULL;
	cJSON_Delete(o);
	return text;
}

/* On the loading thread: the task has ended, or could not begin. */
static void store(struct pool_job *job)
{
	struct tuning *t = (struct tuning *)((char *)job - offsetof(struct tuning, job));
	struct serving *s = t->s;
	struct wasd_err err = {0};
	struct storage_deployment row = {0};
	char *text = tuned_text(t);
	if (t->err.status)
		log_line(LOG_WARN, "cascade not tuned", "deployment=%s why=%s", t->name, LOG_Q(t->err.msg));
	else
		log_line(LOG_INFO, "cascade tuned", "deployment=%s checkpoint=%s cheap=%s", t->name, t->checkpoint, t->cheap);
	pthread_mutex_lock(&s->lock);
	s->tuning = NULL;
	s->tunings = t->next;
	pthread_mutex_unlock(&s->lock);
	struct storage_traffic_in in = {.name = t->name,
	                                .actor = "daemon",
	                                .reason = "cascade:tune",
	                                .set_tuned = true,
	                                .tuned = text,
	                                .checkpoint = t->checkpoint};
	enum wasd_status st = text ? serve_traffic(s, &in, &row, &err) : WASD_ENOMEM; /* looks at the row again */
	if (st != WASD_OK && st != WASD_ENOTFOUND && st != WASD_ESTATE)
		log_line(LOG_ERROR, "cannot keep the tuning of a cascade", "deployment=%s why=%s", t->name, LOG_Q(err.msg));
	if (st == WASD_ESTATE && storage_deployment_get(s->cfg.db, t->name, &row, NULL) == WASD_OK)
		serving_tune(s, &row); /* it has another checkpoint now */
	storage_deployment_done(&row);
	wasd_free(text);
	tuning_free(t);
	pthread_mutex_lock(&s->lock);
	begin_next(s);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the process; [S] ---------------------------------------------------------------------------------------------
 */

static void end_tuning(struct tuning *t)
{
	if (atomic_load(&t->s->stopping))
		return; /* serving_tunings_done frees it; the row still wants it at the next start */
	t->job.run = store;
	pool_submit(t->s->loads, &t->job);
}

static enum wasd_status on_progress(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct tuning *t = self;
	(void)err;
	pthread_mutex_lock(&t->s->lock);
	wasd_json_i64(m->json, "done", &t->done);
	wasd_json_i64(m->json, "of", &t->of);
	pthread_mutex_unlock(&t->s->lock);
	return WASD_OK;
}

static enum wasd_status on_tuned(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct tuning *t = self;
	double threshold;
	const cJSON *info = wasd_json_get(m->json, "info");
	if (!wasd_json_num(info, "threshold", &threshold) || !(threshold >= 0 && threshold <= 1))
		return wasd_fail(err, WASD_ECORRUPT, "a cascade without a threshold");
	t->info = cJSON_Duplicate(info, true);
	return t->info ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a cascade");
}

static void tuning_ended(void *self, const struct task_end *end)
{
	struct tuning *t = self;
	const char *message = "it gave no reason";
	t->s->tuning_task = NULL;
	if (end->outcome == TASK_ENDED_FAILED) {
		wasd_json_str(end->said, "message", &message);
		wasd_fail(&t->err, WASD_EINVAL, "%.400s", message);
	} else if (end->outcome != TASK_ENDED_DONE) {
		wasd_fail(&t->err, WASD_EINTERNAL, "the process ended early: %.200s %.200s", end->how.reason, end->how.tail);
	}
	end_tuning(t);
}

static const struct task_message tuning_messages[] = {
	{.type = "log"},
	{.type = "progress", .take = on_progress, .from = TASK_TOLD},
	{.type = "tuned", .take = on_tuned, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind tuning_kind = {
	.role = WASD_ROLE_PROFILE,
	.let_go = true,
	.messages = tuning_messages,
	.ended = tuning_ended,
};

static void launch(void *ctx)
{
	struct tuning *t = ctx;
	struct serving *s = t->s;
	if (atomic_load(&s->stopping) || t->err.status) {
		end_tuning(t);
		return;
	}
	task_init(&t->task, s->cfg.sup, &tuning_kind, t);
	if (task_launch(&t->task, &t->err) != WASD_OK) {
		end_tuning(t);
		return;
	}
	s->tuning_task = &t->task;
	task_start(&t->task,
	           wasd_message("tune", "mode:s bytes:i sha256:s profile_bytes:i dataset:s threads:i nice:i keep:d",
	                        t->cheap, t->bytes, t->sha, t->overlay, t->path, (int64_t)s->cfg.tune_threads,
	                        (int64_t)TUNE_NICE, t->keep),
	           t->fd);
	t->fd = -1;
}

/* ---- the files ----------------------------------------------------------------------------------------------------
 */

static enum wasd_status find_images(struct tuning *t, struct wasd_err *err)
{
	struct storage_ckpt k = {0};
	struct storage_job job = {0};
	bool wait = false;
	enum wasd_status st = storage_ckpt_get(t->s->cfg.db, t->checkpoint, &k, err);
	if (st == WASD_OK && !k.job)
		st = wasd_fail(err, WASD_ESTATE,
		               "checkpoint %s was not trained here, so there are no validation images: give a threshold",
		               t->checkpoint);
	if (st == WASD_OK)
		st = storage_job_get(t->s->cfg.db, k.job, &job, err);
	if (st == WASD_OK)
		st = dataset_file(t->s->cfg.db, t->s->cfg.data_dir, job.dataset, job.dataset_version, &t->path, &wait, err);
	if (st == WASD_OK && wait)
		st = wasd_fail(err, WASD_ESTATE, "its data set is still being scanned");
	storage_job_done(&job);
	storage_ckpt_done(&k);
	return st;
}

static enum wasd_status find_weights(struct tuning *t, struct wasd_err *err)
{
	struct storage_profile p = {0};
	if (!wasd_mode_member(t->cheap))
		return storage_ckpt_memfd(t->s->cfg.db, t->checkpoint, &t->fd, &t->bytes, t->sha, err);
	enum wasd_status st = storage_profile_get(t->s->cfg.db, t->checkpoint, t->cheap, &p, err);
	if (st == WASD_OK)
		st = storage_profile_memfd(t->s->cfg.db, p.id, &t->fd, &t->bytes, t->sha, &t->overlay, err);
	storage_profile_done(&p);
	return st;
}

static void prepare(struct pool_job *job)
{
	struct tuning *t = (struct tuning *)((char *)job - offsetof(struct tuning, job));
	enum wasd_status st = find_images(t, &t->err);
	if (st == WASD_OK)
		find_weights(t, &t->err);
	t->post = (struct sup_post){.fn = launch, .ctx = t};
	supervisor_post(t->s->cfg.sup, &t->post);
}

/* ---- any thread -----------------------------------------------------------------------------------------------------
 */

void serving_tune(struct serving *s, const struct storage_deployment *row)
{
	struct tuning *t = row->checkpoint ? wasd_calloc(1, sizeof *t) : NULL;
	if (!t)
		return;
	t->s = s;
	t->fd = -1;
	t->job.run = prepare;
	snprintf(t->name, sizeof t->name, "%s", row->name);
	bool due = wanted(row, t);
	pthread_mutex_lock(&s->lock);
	struct tuning **at = &s->tunings;
	while (*at && strcmp((*at)->name, t->name))
		at = &(*at)->next;
	/* One that runs with other wishes is followed by another look at the row. */
	if (due && !*at && !atomic_load(&s->stopping)) {
		*at = t;
		t = NULL;
		begin_next(s);
	} else if (due && *at && *at != s->tuning) {
		snprintf((*at)->checkpoint, sizeof t->checkpoint, "%s", t->checkpoint);
		snprintf((*at)->cheap, sizeof t->cheap, "%s", t->cheap);
		(*at)->keep = t->keep;
	}
	pthread_mutex_unlock(&s->lock);
	if (t)
		tuning_free(t);
}

void serving_add_tuning(struct serving *s, const char *name, cJSON *o)
{
	const struct tuning *t = tuning_of(s, name);
	if (!t) {
		cJSON_AddNullToObject(o, "tuning");
		return;
	}
	cJSON *j = cJSON_AddObjectToObject(o, "tuning");
	cJSON_AddStringToObject(j, "state", t == s->tuning ? "running" : "waiting");
	cJSON_AddStringToObject(j, "cheap", t->cheap);
	cJSON_AddNumberToObject(j, "keep", t->keep);
	cJSON_AddNumberToObject(j, "done", (double)t->done);
	cJSON_AddNumberToObject(j, "of", (double)t->of);
}

void serving_tunings_stop(struct serving *s)
{
	if (s->tuning_task)
		task_kill(s->tuning_task, "the daemon is stopping");
}

void serving_tunings_done(struct serving *s)
{
	for (struct tuning *t = s->tunings, *next; t; t = next) {
		next = t->next;
		tuning_free(t);
	}
	s->tunings = s->tuning = NULL;
}
