/* attempt.c - one attempt of a training job, from spawn to the last row.
 *
 *   spawned -> hello and checkpoint loaded -> start sent (row: running) -> metrics, checkpoints, logs -> gone -> row
 *   closed
 *                                                    with profiles, after a good end: row closed, the job stays running
 *                                                    until storage has them all
 *
 * Invariants: a metrics or checkpoint frame is acknowledged only after its COMMIT; the attempt's number fences every
 * write, so a process that should be dead cannot write; a row is closed only after the last checkpoint that the process
 * handed over is stored or refused; a job whose profiles are not settled is not completed: rows alone say so
 * (storage/job_profiles.c), whatever dies in between; whatever the process says is checked (attempt_messages.c) before
 * it reaches storage.
 */
#include "jobs/attempt.h"
#include "log.h"
#include "wasd/protocol.h"

#include <stdio.h>
#include <string.h>

/* ---- starting ---------------------------------------------------------------------------------------------- */

static void load_over(void *ctx)
{
	struct run *r = ctx;
	r->loading = false;
	r->loaded = true;
	if (r->load_err.status && r->proc)
		proc_end(r->proc, true, r->load_err.msg);
	else
		run_maybe_start(r);
	run_maybe_finish(r);
}

/* On the loader's thread: the checkpoint to go on from, as a sealed memory file. A damaged one is marked by storage,
 * and the one before it is taken. */
static void load_checkpoint(struct pool_job *job)
{
	struct run *r = (struct run *)((char *)job - offsetof(struct run, load_job));
	struct storage *db = r->jobs->cfg.db;
	char **id = r->resume ? &r->resume : &r->init;
	enum wasd_status s = storage_ckpt_memfd(db, *id, &r->load_fd, &r->load_bytes, r->load_sha, &r->load_err);
	while (s == WASD_ECORRUPT && r->resume) {
		struct storage_ckpt c = {0};
		log_line(LOG_ERROR, "checkpoint damaged", "job=%s checkpoint=%s", r->id, r->resume);
		s = storage_ckpt_pick(db, r->id, "latest", &c, &r->load_err);
		if (s == WASD_OK && !strcmp(c.id, r->resume))
			s = WASD_EINTERNAL; /* storage would hand out the same one for ever */
		wasd_free(r->resume);
		r->resume = s == WASD_OK ? wasd_strdup(c.id) : NULL;
		storage_ckpt_done(&c);
		if (s == WASD_ENOTFOUND) { /* none is left: from the beginning */
			r->load_err = (struct wasd_err){0};
			s = WASD_OK;
		} else if (s == WASD_OK && r->resume) {
			s = storage_ckpt_memfd(db, r->resume, &r->load_fd, &r->load_bytes, r->load_sha, &r->load_err);
		}
	}
	struct storage_ckpt c = {0};
	if (s == WASD_OK && r->resume && storage_ckpt_get(db, r->resume, &c, &r->load_err) == WASD_OK) {
		r->load_epoch = c.epoch;
		r->load_step = c.step;
	}
	storage_ckpt_done(&c);
	if (s == WASD_OK)
		r->load_err = (struct wasd_err){0};
	else if (!r->load_err.status)
		wasd_fail(&r->load_err, s, "the checkpoint to go on from cannot be read");
	supervisor_post(r->jobs->cfg.sup, &r->load_post);
}

/* Both halves are there: tell storage, then the process. */
void run_maybe_start(struct run *r)
{
	if (!r->hello || !r->loaded || r->sent_start || !r->proc || r->load_err.status || r->cancelling || r->draining)
		return;
	struct wasd_err err;
	if (storage_attempt_running(r->jobs->cfg.db, r->id, r->attempt, proc_pid(r->proc), r->build ? r->build : "{}",
	                            &err) != WASD_OK) {
		proc_end(r->proc, true, err.msg);
		return;
	}
	bool file = r->load_fd >= 0;
	cJSON *from = file && r->resume ? wasd_message(NULL, "epoch:i step:i", r->load_epoch, r->load_step) : NULL;
	cJSON *m = wasd_message("start",
	                        file && r->resume ? "job:s attempt:i spec:j dataset:s threads:i nice:i resume:j" :
	                                            "job:s attempt:i spec:j dataset:s threads:i nice:i resume:?j",
	                        r->id, r->attempt, cJSON_Duplicate(r->spec, true), r->dataset_path, r->threads, r->nice,
	                        from);
	if (m && file &&
	    !(cJSON_AddNumberToObject(m, "bytes", (double)r->load_bytes) &&
	      cJSON_AddStringToObject(m, "sha256", r->load_sha))) {
		cJSON_Delete(m);
		m = NULL;
	}
	int fd = r->load_fd;
	r->load_fd = -1;
	r->sent_start = true;
	if (!proc_send(r->proc, m, NULL, 0, fd))
		proc_end(r->proc, true, "cannot be told to start");
	run_note(r, "info", "attempt %lld started: process %d, %lld threads%s%s", (long long)r->attempt,
	         (int)proc_pid(r->proc), (long long)r->threads,
	         r->resume ? ", goes on from " :
	         r->init   ? ", weights of " :
	                     "",
	         r->resume ? r->resume :
	         r->init   ? r->init :
	                     "");
	log_line(LOG_INFO, "job started", "job=%s attempt=%lld pid=%d resume=%s", r->id, (long long)r->attempt,
	         (int)proc_pid(r->proc), r->resume ? r->resume : "-");
}

static int64_t spec_int(const cJSON *spec, const char *group, const char *name, int64_t otherwise)
{
	int64_t v;
	const cJSON *g = wasd_json_get(spec, group);
	return g && wasd_json_i64(g, name, &v) ? v : otherwise;
}

static const struct proc_class train_class;

enum wasd_status run_start(struct sched *j, const struct storage_job *job, const char *dataset_path,
                           struct wasd_err *err)
{
	struct run *r = wasd_calloc(1, sizeof *r);
	enum wasd_status s = WASD_OK;
	if (!r)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an attempt");
	r->jobs = j;
	r->load_fd = -1;
	snprintf(r->id, sizeof r->id, "%s", job->id);
	r->dataset_path = wasd_strdup(dataset_path);
	r->started_ms = wasd_now_ms();
	if (job->progress)
		wasd_json_parse(job->progress, strlen(job->progress), WASD_JSON_REQUEST, &r->progress, NULL);
	run_show_phase(r, "starting");
	if (!r->dataset_path)
		s = wasd_fail(err, WASD_ENOMEM, "no memory for an attempt");
	if (s == WASD_OK)
		s = wasd_json_parse(job->spec, strlen(job->spec), WASD_JSON_BULK, &r->spec, err);
	if (s == WASD_OK)
		s = proc_spawn(j->cfg.sup, &train_class, r, &r->proc, err);
	if (s == WASD_OK) {
		s = storage_attempt_start(j->cfg.db, job->id, &r->attempt, &r->resume, err);
		if (s != WASD_OK)
			proc_end(r->proc, true, "its job was not to be started");
	}
	int64_t share = j->cfg.threads / j->cfg.workers, asked = r->spec ? spec_int(r->spec, "limits", "threads", 0) : 0;
	r->threads = asked > 0 ? (asked < j->cfg.threads ? asked : j->cfg.threads) : share > 0 ? share : 1;
	/* Linked also when it failed after the spawn: the process is still to be waited for. */
	pthread_mutex_lock(&j->lock);
	r->next = j->runs;
	r->pprev = &j->runs;
	if (r->next)
		r->next->pprev = &r->next;
	j->runs = r;
	j->n_runs++;
	pthread_mutex_unlock(&j->lock);
	if (s != WASD_OK) {
		if (!r->proc) {
			pthread_mutex_lock(&j->lock);
			j->runs = r->next;
			if (r->next)
				r->next->pprev = &j->runs;
			j->n_runs--;
			pthread_mutex_unlock(&j->lock);
			cJSON_Delete(r->spec);
			cJSON_Delete(r->progress);
			wasd_free(r->dataset_path);
			wasd_free(r);
		}
		return s;
	}
	r->nice = spec_int(r->spec, "limits", "nice", 10);
	r->memory_mb = spec_int(r->spec, "limits", "memory_mb", 0);
	r->max_wall_us = spec_int(r->spec, "limits", "max_wall_s", 0) * 1000000;
	r->retry_max = spec_int(r->spec, "retry", "max", 2);
	r->backoff_s = spec_int(r->spec, "retry", "backoff_s", 5);
	proc_limit_memory(r->proc, r->memory_mb);
	if (!r->resume && job->init_checkpoint)
		r->init = wasd_strdup(job->init_checkpoint);
	if (r->resume || r->init) {
		r->loading = true;
		r->load_job.run = load_checkpoint;
		r->load_post = (struct sup_post){.fn = load_over, .ctx = r};
		pool_submit(j->loader, &r->load_job);
	} else {
		r->loaded = true;
	}
	return WASD_OK;
}

/* ---- ending ----------------------------------------------------------------------------------------------------- */

/* The message may be lost for want of memory; the time limit holds all the same. */
static void ask_to_stop(struct run *r)
{
	proc_send(r->proc, wasd_message("cancel", ""), NULL, 0, -1);
	r->cancel_by_us = wasd_mono_us() + r->jobs->cfg.cancel_ms * 1000ll;
}

void run_cancel(struct run *r, bool kill, const char *reason)
{
	snprintf(r->cancel_reason, sizeof r->cancel_reason, "%s", reason);
	bool again = r->cancelling;
	r->cancelling = true;
	r->kill |= kill;
	if (!r->proc)
		return;
	if (kill || !r->sent_start) {
		proc_end(r->proc, true, kill ? "killed on request" : "cancelled before it began");
		return;
	}
	if (again)
		return;
	ask_to_stop(r);
}

void run_drain(struct run *r)
{
	if (r->cancelling || r->draining)
		return;
	r->draining = true;
	if (!r->proc)
		return;
	if (!r->sent_start) {
		proc_end(r->proc, true, "the daemon is stopping");
		return;
	}
	ask_to_stop(r);
}

void run_tick(struct run *r)
{
	int64_t now = wasd_mono_us();
	run_flush_logs(r);
	run_tell_progress(r);
	r->round_frames = 0;
	if (!r->proc) {
		run_maybe_finish(r);
		return;
	}
	proc_pause(r->proc, false);
	if (r->cancel_by_us && now > r->cancel_by_us) {
		r->cancel_by_us = 0;
		proc_end(r->proc, false, "did not stop in time");
	}
	if (r->max_wall_us && !r->over_time && now - proc_started_us(r->proc) > r->max_wall_us && r->sent_start &&
	    !r->cancelling && !r->draining) {
		r->over_time = true;
		ask_to_stop(r);
	}
}

static bool worth_retrying(const struct run *r)
{
	static const char *const hopeless[] = {"einval", "eunsupported", "enumeric", "etoobig"};
	if (!r->fail_reason)
		return true;
	if (!strcmp(r->fail_reason, "nan_loss") || !strcmp(r->fail_reason, "bad_data"))
		return false;
	for (size_t i = 0; i < sizeof hopeless / sizeof hopeless[0]; i++)
		if (r->fail_status && !strcmp(r->fail_status, hopeless[i]))
			return false;
	return true;
}

/* Where a failed attempt leads: another one after a pause, or the end. */
static void after_failure(struct run *r, struct storage_move *m)
{
	struct storage_job job = {0};
	const char *kind = r->end.oom ? "oom" : r->fail_reason ? r->fail_reason : "error";
	m->to = "failed";
	m->reason = kind;
	if (worth_retrying(r) && storage_job_get(r->jobs->cfg.db, r->id, &job, NULL) == WASD_OK) {
		if (job.retries < r->retry_max) {
			int64_t wait = r->backoff_s * r->jobs->cfg.backoff_scale_ms;
			for (int64_t i = 0; i < job.retries && wait < 3600000; i++)
				wait *= 4;
			m->to = "retry_wait";
			m->retry_at = wasd_now_ms() + wait;
		} else if (r->retry_max > 0 && strcmp(kind, "oom")) {
			m->reason = "retries_exhausted";
		}
	}
	storage_job_done(&job);
}

/* False: storage could not take it now; to be tried again. */
static bool close_rows(struct run *r)
{
	struct storage_exit x = {.exit_reason = r->end.reason, .exit_code = r->end.exit_code, .signal = r->end.signal};
	struct storage_move m = {.attempt = r->attempt};
	struct wanted wanted = {0};
	struct wasd_buf tail = {.max = 32 << 10};
	for (int i = 0; i < r->n_tail; i++)
		wasd_buf_printf(&tail, "%s\n", r->tail[i]);
	wasd_buf_puts(&tail, r->end.tail);
	x.log_tail = wasd_buf_cstr(&tail);
	run_show_phase(r, NULL);
	char *progress = run_progress_text(r);
	m.progress = progress;
	bool clean = r->done_reason && r->end.exit_code == 0, ready = true;
	if (r->cancelling) {
		x.outcome = "cancelled";
		m.to = "cancelled";
		m.reason = r->cancel_reason;
	} else if (r->draining && !(clean && strcmp(r->done_reason, "cancelled"))) {
		x.outcome = "interrupted";
		m.to = "queued";
		m.reason = "daemon_stopped";
		m.message = "the daemon was stopped; the job goes on from its last checkpoint";
	} else if (r->over_time) {
		x.outcome = "failed";
		m.to = "failed";
		m.reason = "deadline_exceeded";
		m.message = "limits.max_wall_s is over";
	} else if (clean) {
		x.outcome = "completed";
		m.to = "completed";
		m.reason = r->done_reason;
		ready = run_wanted(r, &wanted);
		x.profiles = wanted.items;
		x.n_profiles = wanted.n;
	} else {
		x.outcome = "failed";
		if (r->fail_message)
			x.exit_reason = r->fail_message;
		m.message = x.exit_reason;
		after_failure(r, &m);
	}
	if (!r->closing)
		run_note(r, clean || r->cancelling || r->draining ? "info" : "error", "attempt %lld over: %s, job is %s%s%s",
		         (long long)r->attempt, x.exit_reason, wanted.n ? "trained" : m.to, m.reason ? ", " : "",
		         m.reason ? m.reason : "");
	r->closing = true;
	run_flush_logs(r);
	struct wasd_err err = {0};
	enum wasd_status s = ready ? storage_attempt_end(r->jobs->cfg.db, r->id, r->attempt, &x, &m, &err) :
	                             wasd_fail(&err, WASD_ENOMEM, "no memory for its profiles");
	log_line(s == WASD_OK ? LOG_INFO : LOG_ERROR, s == WASD_OK ? "job attempt over" : "job attempt could not be closed",
	         "job=%s attempt=%lld to=%s reason=%s exit=%s %s%s", r->id, (long long)r->attempt, m.to,
	         m.reason ? m.reason : "-", LOG_Q(x.exit_reason),
	         s == WASD_OK ? "" : "error=", s == WASD_OK ? "" : LOG_Q(err.msg));
	if (s == WASD_OK && wanted.n && r->jobs->cfg.profiles_changed)
		r->jobs->cfg.profiles_changed(r->jobs->cfg.ctx);
	wanted_done(&wanted);
	wasd_free(progress);
	wasd_buf_done(&tail);
	return s != WASD_ENOMEM && s != WASD_EBUSY && s != WASD_EFULL;
}

void run_maybe_finish(struct run *r)
{
	if (!r->gone || r->loading || r->storing)
		return;
	if (r->attempt && !close_rows(r))
		return; /* the next tick */
	run_forget(r);
}

static void train_gone(struct proc *p, const struct proc_end *end)
{
	struct run *r = proc_owner(p);
	r->proc = NULL;
	r->gone = true;
	r->end = *end;
	run_maybe_finish(r);
}

static const struct proc_class train_class = {.role = WASD_ROLE_TRAIN, .message = run_message, .gone = train_gone};
