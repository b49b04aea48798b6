/* attempt.c - one attempt of a training job, from the launch of its task (process/task.h) to the last row.
 *
 *   launched -> hello and checkpoint loaded -> told (row: running) -> metrics, checkpoints, logs -> ended -> row closed
 *                                                    with profiles, after success: row closed, the job stays running
 *                                                    until storage has all profiles
 *
 * Invariants:
 *  - A metrics or checkpoint frame is acknowledged only after its COMMIT.
 *  - The attempt's number fences every write, so a process that should be dead cannot write.
 *  - A row is closed only after the last checkpoint from the process is stored or refused.
 *  - A job is completed only when all its profiles are settled. This is decided by rows alone (storage/job_profiles.c),
 *    whichever process dies in between.
 *  - Every message of the process is checked (attempt_messages.c) before it reaches storage.
 */
#include "jobs/attempt.h"
#include "log.h"
#include "wasd/protocol.h"
#include "wasd/spec.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- starting ---------------------------------------------------------------------------------------------- */

static void load_over(void *ctx)
{
	struct attempt *a = ctx;
	a->loading = false;
	a->loaded = true;
	if (a->load_err.status)
		task_kill(&a->task, a->load_err.msg);
	else
		attempt_maybe_start(a);
	attempt_maybe_finish(a);
}

/* On the loader thread: loads the checkpoint to resume from into a sealed memory file. Storage marks a damaged one, and
 * the one before it is used. */
static void load_checkpoint(struct pool_job *job)
{
	struct attempt *a = (struct attempt *)((char *)job - offsetof(struct attempt, load_job));
	struct storage *db = a->jobs->cfg.db;
	char **id = a->resume ? &a->resume : &a->init;
	enum wasd_status s = storage_ckpt_memfd(db, *id, &a->load_fd, &a->load_bytes, a->load_sha, &a->load_err);
	while (s == WASD_ECORRUPT && a->resume) {
		struct storage_ckpt c = {0};
		log_about(a->id, LOG_ERROR, "checkpoint damaged", "job=%s checkpoint=%s", a->id, a->resume);
		s = storage_ckpt_pick(db, a->id, "latest", &c, &a->load_err);
		if (s == WASD_OK && !strcmp(c.id, a->resume))
			s = WASD_EINTERNAL; /* storage would return the same checkpoint forever */
		wasd_free(a->resume);
		a->resume = s == WASD_OK ? wasd_strdup(c.id) : NULL;
		storage_ckpt_done(&c);
		if (s == WASD_ENOTFOUND) { /* none is left: start from scratch */
			a->load_err = (struct wasd_err){0};
			s = WASD_OK;
		} else if (s == WASD_OK && a->resume) {
			s = storage_ckpt_memfd(db, a->resume, &a->load_fd, &a->load_bytes, a->load_sha, &a->load_err);
		}
	}
	struct storage_ckpt c = {0};
	if (s == WASD_OK && a->resume && storage_ckpt_get(db, a->resume, &c, &a->load_err) == WASD_OK) {
		a->load_epoch = c.epoch;
		a->load_step = c.step;
	}
	storage_ckpt_done(&c);
	if (s == WASD_OK)
		a->load_err = (struct wasd_err){0};
	else if (!a->load_err.status)
		wasd_fail(&a->load_err, s, "the checkpoint to go on from cannot be read");
	supervisor_post(a->jobs->cfg.sup, &a->load_post);
}

/* The hello and the checkpoint are there: update the row, then start the process. */
void attempt_maybe_start(struct attempt *a)
{
	int pid = (int)task_pid(&a->task);
	if (!a->task.hello || !a->loaded || a->task.state != TASK_LAUNCHED || !pid || a->load_err.status || a->stop)
		return;
	struct wasd_err err;
	if (storage_attempt_running(a->jobs->cfg.db, a->id, a->number, pid, a->build ? a->build : "{}", &err) != WASD_OK) {
		if (err.status == WASD_EFULL)
			attempt_no_room(a, err.pointer, err.msg);
		task_kill(&a->task, err.msg);
		return;
	}
	int64_t nice = (int64_t)wasd_spec_number(a->spec, "/limits/nice");
	bool file = a->load_fd >= 0;
	cJSON *from = file && a->resume ? wasd_message(NULL, "epoch:i step:i", a->load_epoch, a->load_step) : NULL;
	cJSON *m = wasd_message("start",
	                        file && a->resume ? "job:s attempt:i spec:j dataset:s threads:i nice:i resume:j" :
	                                            "job:s attempt:i spec:j dataset:s threads:i nice:i resume:?j",
	                        a->id, a->number, cJSON_Duplicate(a->spec, true), a->dataset_path, a->threads, nice, from);
	if (m && file &&
	    !(cJSON_AddNumberToObject(m, "bytes", (double)a->load_bytes) &&
	      cJSON_AddStringToObject(m, "sha256", a->load_sha))) {
		cJSON_Delete(m);
		m = NULL;
	}
	if (m && ((a->until && !cJSON_AddNumberToObject(m, "until", (double)a->until)) ||
	          (task_has_cgroup(&a->task) && !cJSON_AddTrueToObject(m, "cgroup")))) {
		cJSON_Delete(m);
		m = NULL;
	}
	task_start(&a->task, m, a->load_fd);
	a->load_fd = -1;
	attempt_note(a, "info", "attempt %lld started: process %d, %lld threads%s%s", (long long)a->number, pid,
	             (long long)a->threads,
	             a->resume ? ", goes on from " :
	             a->init   ? ", weights of " :
	                         "",
	             a->resume ? a->resume :
	             a->init   ? a->init :
	                         "");
	log_about(a->id, LOG_INFO, "job started", "job=%s attempt=%lld pid=%d resume=%s", a->id, (long long)a->number, pid,
	          a->resume ? a->resume : "-");
	schedule(a->jobs); /* it can be preempted now */
}

static void attempt_free(struct attempt *a)
{
	cJSON_Delete(a->spec);
	cJSON_Delete(a->progress);
	cJSON_Delete(a->usage);
	task_done(&a->task);
	wasd_free(a->dataset_path);
	wasd_free(a->resume);
	wasd_free(a->init);
	wasd_free(a->build);
	for (int i = 0; i < a->n_batch; i++)
		wasd_free(a->batch[i].text);
	for (int i = 0; i < a->n_tail; i++)
		wasd_free(a->tail[i]);
	if (a->load_fd >= 0)
		close(a->load_fd);
	wasd_free(a);
}

static void link_attempt(struct attempt *a)
{
	struct sched *j = a->jobs;
	pthread_mutex_lock(&j->lock);
	a->next = j->attempts;
	a->pprev = &j->attempts;
	if (a->next)
		a->next->pprev = &a->next;
	j->attempts = a;
	j->n_running++;
	pthread_mutex_unlock(&j->lock);
}

static void forget(struct attempt *a)
{
	struct sched *j = a->jobs;
	pthread_mutex_lock(&j->lock);
	*a->pprev = a->next;
	if (a->next)
		a->next->pprev = a->pprev;
	j->n_running--;
	pthread_mutex_unlock(&j->lock);
	attempt_free(a);
	schedule(j);
}

static const struct task_kind attempt_kind;

/* Creates an attempt and launches its process. On failure there is no attempt. */
static enum wasd_status launch(struct sched *j, const struct storage_job *job, const char *dataset_path,
                               struct attempt **out, struct wasd_err *err)
{
	struct attempt *a = wasd_calloc(1, sizeof *a);
	if (!a)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an attempt");
	a->jobs = j;
	a->load_fd = -1;
	task_init(&a->task, j->cfg.sup, &attempt_kind, a);
	snprintf(a->id, sizeof a->id, "%s", job->id);
	a->dataset_path = wasd_strdup(dataset_path);
	if (job->progress)
		wasd_json_parse(job->progress, strlen(job->progress), WASD_JSON_REQUEST, &a->progress, NULL);
	attempt_show_phase(a, "starting");
	enum wasd_status s = a->dataset_path ?
	                         wasd_json_parse(job->spec, strlen(job->spec), WASD_JSON_BULK, &a->spec, err) :
	                         wasd_fail(err, WASD_ENOMEM, "no memory for an attempt");
	if (s == WASD_OK)
		s = task_launch(&a->task, err);
	if (s != WASD_OK) {
		attempt_free(a);
		return s;
	}
	a->threads = sched_threads(j, a->spec);
	a->until = job->until;
	a->retry_max = (int64_t)wasd_spec_number(a->spec, "/retry/max");
	a->backoff_s = wasd_spec_number(a->spec, "/retry/backoff_s");
	task_limit(&a->task, (int64_t)wasd_spec_number(a->spec, "/limits/memory_mb"), 0, j->cfg.cancel_ms);
	*out = a;
	return WASD_OK;
}

enum wasd_status attempt_start(struct sched *j, const struct storage_job *job, const char *dataset_path,
                               struct wasd_err *err)
{
	struct attempt *a = NULL;
	enum wasd_status s = launch(j, job, dataset_path, &a, err);
	if (s != WASD_OK)
		return s;
	s = storage_attempt_start(j->cfg.db, job->id, &a->number, &a->resume, err);
	link_attempt(a); /* even on failure: the end of its process is still to be handled */
	if (s != WASD_OK) {
		task_kill(&a->task, "its job must not start");
		return s;
	}
	storage_job_ran(j->cfg.db, job->id, &a->ran_ms, NULL);
	attempt_limit_time(a);
	if (!a->resume && job->init_checkpoint)
		a->init = wasd_strdup(job->init_checkpoint);
	a->loading = a->resume || a->init;
	a->loaded = !a->loading;
	if (a->loading) {
		a->load_job.run = load_checkpoint;
		a->load_post = (struct sup_post){.fn = load_over, .ctx = a};
		pool_submit(j->loader, &a->load_job);
	}
	return WASD_OK;
}

/* ---- ending ----------------------------------------------------------------------------------------------------- */

void attempt_cancel(struct attempt *a, bool kill, const char *reason)
{
	snprintf(a->cancel_reason, sizeof a->cancel_reason, "%s", reason);
	attempt_stop(a, STOP_CANCEL);
	if (kill)
		task_kill(&a->task, "killed on request");
}

void attempt_stop(struct attempt *a, enum attempt_stop why)
{
	static const char *const before[] = {
		[STOP_PREEMPT] = "preempted before it began", [STOP_DEADLINE] = "its deadline passed before it began",
		[STOP_DRAIN] = "the daemon is stopping",      [STOP_ROOM] = "paused for lack of room before it began",
		[STOP_PAUSE] = "paused before it began",      [STOP_CANCEL] = "cancelled before it began",
	};
	bool told = a->stop != STOP_NONE;
	if (why > a->stop)
		a->stop = why;
	if (!told)
		task_cancel(&a->task, a->jobs->cfg.cancel_ms, before[why]);
}

void attempt_limit_time(struct attempt *a)
{
	int64_t max_s;
	if (!a->number || storage_job_max_wall(a->jobs->cfg.db, a->id, &max_s, NULL) != WASD_OK)
		return;
	int64_t left_ms = max_s * 1000 - a->ran_ms;
	task_limit_time(&a->task, !max_s ? 0 : left_ms > 0 ? left_ms * 1000 : 1);
}

void attempt_tick(struct attempt *a)
{
	attempt_flush_logs(a);
	attempt_sample(a);
	attempt_maybe_finish(a);
}

/* A member of the process's failure message; NULL: there is no such message. */
static const char *why_failed(const struct attempt *a, const char *member)
{
	const char *s;
	return a->task.state == TASK_FAILED && wasd_json_str(a->task.end.said, member, &s) ? s : NULL;
}

static bool worth_retrying(const struct attempt *a)
{
	static const char *const hopeless[] = {"einval", "eunsupported", "enumeric", "etoobig"};
	const char *reason = why_failed(a, "reason"), *status = why_failed(a, "status");
	const struct proc_end *how = &a->task.end.how;
	bool limited = wasd_spec_number(a->spec, "/limits/memory_mb") > 0;
	/* It will need as much the next time. */
	if (limited && ((how->oom && how->stopped) || (reason && !strcmp(reason, "oom"))))
		return false;
	if (!reason)
		return true;
	if (!strcmp(reason, "nan_loss") || !strcmp(reason, "bad_data"))
		return false;
	for (size_t i = 0; i < sizeof hopeless / sizeof hopeless[0]; i++)
		if (!strcmp(status, hopeless[i]))
			return false;
	return true;
}

/* The next state after a failed attempt: another attempt after a backoff, or failed. */
static void after_failure(struct attempt *a, struct storage_move *m)
{
	struct storage_job job = {0};
	const char *said = why_failed(a, "reason"), *kind = a->task.end.how.oom ? "oom" : said ? said : "error";
	m->to = "failed";
	m->reason = kind;
	if (worth_retrying(a) && storage_job_get(a->jobs->cfg.db, a->id, &job, NULL) == WASD_OK) {
		if (job.retries < a->retry_max) {
			int64_t wait = (int64_t)(a->backoff_s * a->jobs->cfg.backoff_scale_ms);
			for (int64_t i = 0; i < job.retries && wait < 3600000; i++)
				wait *= 4;
			m->to = "retry_wait";
			m->retry_at = wasd_now_ms() + wait;
		} else if (a->retry_max > 0 && strcmp(kind, "oom")) {
			m->reason = "retries_exhausted";
		}
	}
	storage_job_done(&job);
}

static void outcome_paused(struct attempt *a, struct storage_exit *x, struct storage_move *m)
{
	x->outcome = "paused";
	m->to = "paused";
	m->reason = a->stop == STOP_ROOM ? a->room : a->pause_reason;
	m->message = a->stop == STOP_ROOM ? a->room_why : NULL;
	m->retry_at = 0;
}

/* The outcome and the next state of an attempt that has ended. */
static void outcome(struct attempt *a, struct storage_exit *x, struct storage_move *m)
{
	bool clean = a->task.end.outcome == TASK_ENDED_DONE;
	const char *done = "";
	if (clean)
		wasd_json_str(a->task.end.said, "reason", &done);
	bool at_rung = clean && !strcmp(done, "paused"), completed = clean && !at_rung && strcmp(done, "cancelled") != 0;
	if (a->stop == STOP_CANCEL) {
		x->outcome = "cancelled";
		m->to = "cancelled";
		m->reason = a->cancel_reason;
	} else if (at_rung && a->stop != STOP_PAUSE) {
		x->outcome = "paused";
		m->to = "paused";
		m->reason = "rung";
	} else if (!completed && a->stop == STOP_DRAIN) {
		x->outcome = "interrupted";
		m->to = "queued";
		m->reason = "daemon_stopped";
		m->message = "the daemon was stopped; the job goes on from its last checkpoint";
	} else if (completed) {
		x->outcome = "completed";
		m->to = "completed";
		m->reason = done;
	} else if (a->task.over_time || a->stop == STOP_DEADLINE) {
		x->outcome = "failed";
		m->to = "failed";
		m->reason = "deadline_exceeded";
		m->message = a->task.over_time ? STORAGE_WALL_OVER : STORAGE_DEADLINE_OVER;
	} else if (a->stop == STOP_PREEMPT && !why_failed(a, "reason")) {
		x->outcome = "preempted";
		m->to = "queued";
		m->reason = "preempted";
		m->message = "a job of higher priority took its worker; the job goes on from its last checkpoint";
	} else if ((a->stop == STOP_PAUSE || a->stop == STOP_ROOM) && !why_failed(a, "reason")) {
		outcome_paused(a, x, m);
	} else {
		x->outcome = "failed";
		if (why_failed(a, "message"))
			x->exit_reason = why_failed(a, "message");
		m->message = x->exit_reason;
		after_failure(a, m);
		if ((a->stop == STOP_PAUSE || a->stop == STOP_ROOM) && !strcmp(m->to, "retry_wait"))
			outcome_paused(a, x, m); /* not before it is resumed */
	}
}

/* False: storage failed; call again later. */
static bool close_rows(struct attempt *a)
{
	const struct proc_end *how = &a->task.end.how;
	struct storage_exit x = {.exit_reason = how->reason, .exit_code = how->exit_code, .signal = how->signal};
	struct storage_move m = {.attempt = a->number};
	struct wanted wanted = {0};
	struct wasd_buf tail = {.max = 32 << 10};
	for (int i = 0; i < a->n_tail; i++)
		wasd_buf_printf(&tail, "%s\n", a->tail[i]);
	wasd_buf_puts(&tail, how->tail);
	x.log_tail = wasd_buf_cstr(&tail);
	attempt_show_phase(a, NULL);
	char *progress = attempt_progress_text(a);
	m.progress = progress;
	outcome(a, &x, &m);
	bool ready = true, failed = !strcmp(x.outcome, "failed");
	if (!strcmp(m.to, "completed")) {
		ready = attempt_wanted(a, &wanted);
		x.profiles = wanted.items;
		x.n_profiles = wanted.n;
	}
	if (!a->closing)
		attempt_note(a, failed ? "error" : "info", "attempt %lld over: %s, job is %s%s%s", (long long)a->number,
		             x.exit_reason, wanted.n ? "trained" : m.to, m.reason ? ", " : "", m.reason ? m.reason : "");
	a->closing = true;
	attempt_flush_logs(a);
	struct wasd_err err = {0};
	enum wasd_status s = ready ? WASD_OK : wasd_fail(&err, WASD_ENOMEM, "no memory for its profiles");
	if (s == WASD_OK && a->stop == STOP_ROOM)
		s = attempt_show_no_room(a, &err);
	if (s == WASD_OK || s == WASD_ESTATE)
		s = storage_attempt_end(a->jobs->cfg.db, a->id, a->number, &x, &m, &err);
	log_about(a->id, s == WASD_OK ? LOG_INFO : LOG_ERROR,
	          s == WASD_OK ? "job attempt over" : "job attempt could not be closed",
	          "job=%s attempt=%lld to=%s reason=%s exit=%s %s%s", a->id, (long long)a->number, m.to,
	          m.reason ? m.reason : "-", LOG_Q(x.exit_reason),
	          s == WASD_OK ? "" : "error=", s == WASD_OK ? "" : LOG_Q(err.msg));
	if (s == WASD_OK && wanted.n && a->jobs->cfg.profiles_changed)
		a->jobs->cfg.profiles_changed(a->jobs->cfg.ctx);
	wanted_done(&wanted);
	wasd_free(progress);
	wasd_buf_done(&tail);
	return s != WASD_ENOMEM && s != WASD_EBUSY && s != WASD_EFULL;
}

void attempt_maybe_finish(struct attempt *a)
{
	if (!a->task.ended || a->loading || a->storing)
		return;
	if (a->number && !close_rows(a))
		return; /* retried at the next tick */
	forget(a);
}

static void attempt_ended(void *self, const struct task_end *end)
{
	(void)end; /* the task keeps it */
	attempt_maybe_finish(self);
}

static const struct task_kind attempt_kind = {
	.role = WASD_ROLE_TRAIN,
	.messages = attempt_messages,
	.check = attempt_check,
	.changed = attempt_changed,
	.ended = attempt_ended,
};
