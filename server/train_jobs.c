/* train_jobs.c - one attempt of a training job, from spawn to the last row.
 *
 *   spawned -> hello and checkpoint loaded -> start sent (row: running) -> metrics, checkpoints, logs -> gone -> row closed
 *                                                    after a good end: gone -> profiles asked for -> all ready or failed -> row closed
 *
 * Invariants: a metrics or checkpoint frame is acknowledged only after its COMMIT; the attempt's number fences every write, so a process
 * that should be dead cannot write; a row is closed only after the last checkpoint that the process handed over is stored or refused;
 * the rows of a job's profiles are there before it is completed, so that whatever ends the waiting, they are searched;
 * whatever the process says is checked here before it reaches storage.
 */
#include "scheduler_internal.h"
#include "api.h"
#include "log.h"
#include "message.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { METRICS_MAX = 64, FRAMES_A_TICK = 50, LINE_MAX_BYTES = 2000 };

/* ---- logs ------------------------------------------------------------------------------------------------ */

static void flush_logs(struct run *r)
{
	if (!r->n_batch)
		return;
	struct storage_log_in in[LOG_BATCH + 1];
	char note[80];
	size_t n = 0;
	for (int i = 0; i < r->n_batch; i++)
		in[n++] = (struct storage_log_in){ r->batch[i].ts, r->batch[i].level, r->batch[i].text };
	if (r->dropped) {
		snprintf(note, sizeof note, "%d more lines came too fast and were left out", r->dropped);
		in[n++] = (struct storage_log_in){ 0, "warn", note };
	}
	if (storage_log_add(r->jobs->cfg.db, r->id, r->attempt, in, n, NULL) == WASD_OK) {
		cJSON *e = cJSON_CreateObject(), *lines = cJSON_AddArrayToObject(e, "lines");
		cJSON_AddStringToObject(e, "job", r->id);
		cJSON_AddNumberToObject(e, "attempt", (double)r->attempt);
		for (size_t i = 0; i < n && i < 20 && lines; i++) {
			cJSON *l = cJSON_CreateObject();
			cJSON_AddStringToObject(l, "level", in[i].level);
			cJSON_AddStringToObject(l, "text", in[i].text);
			cJSON_AddItemToArray(lines, l);
		}
		char *text = wasd_json_print(e);
		int64_t seq;
		if (text)
			storage_event_add(r->jobs->cfg.db, "jobs", "job.log", r->id, text, &seq, NULL);
		wasd_free(text);
		cJSON_Delete(e);
	}
	for (int i = 0; i < r->n_batch; i++)
		wasd_free(r->batch[i].text);
	r->n_batch = r->dropped = 0;
}

/* From the process, or our own notes between its lines (which are no part of its last words). */
static void add_line(struct run *r, const char *level, const char *text, bool own)
{
	char *line = wasd_strndup(text, strnlen(text, LINE_MAX_BYTES)), *again = line && !own ? wasd_strdup(line) : NULL;
	if (!line)
		return;
	if (again && r->n_tail == TAIL_LINES) {
		wasd_free(r->tail[0]);
		memmove(r->tail, r->tail + 1, (TAIL_LINES - 1) * sizeof r->tail[0]);
		r->n_tail--;
	}
	if (again)
		r->tail[r->n_tail++] = again;
	if (r->n_batch == LOG_BATCH) {
		r->dropped++;
		wasd_free(line);
		return;
	}
	struct log_entry *e = &r->batch[r->n_batch++];
	*e = (struct log_entry){ .ts = wasd_now_ms(), .text = line };
	snprintf(e->level, sizeof e->level, "%s", level);
}

static void note(struct run *r, const char *level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void note(struct run *r, const char *level, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	add_line(r, level, text, true);
}

/* ---- starting ---------------------------------------------------------------------------------------------- */

static void maybe_start(struct run *r);
static void maybe_finish(struct run *r);

static void load_over(void *ctx)
{
	struct run *r = ctx;
	r->loading = false;
	r->loaded = true;
	if (r->load_err.status && r->proc)
		proc_end(r->proc, true, r->load_err.msg);
	else
		maybe_start(r);
	maybe_finish(r);
}

/* On the loader's thread: the checkpoint to go on from, as a sealed memory file. A damaged one is marked by storage, and the one before
 * it is taken. */
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
			s = WASD_EINTERNAL;     /* storage would hand out the same one for ever */
		wasd_free(r->resume);
		r->resume = s == WASD_OK ? wasd_strdup(c.id) : NULL;
		storage_ckpt_done(&c);
		if (s == WASD_ENOTFOUND) {      /* none is left: from the beginning */
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
	supervisor_post(r->jobs->cfg.sup, &r->load_task);
}

/* Both halves are there: tell storage, then the process. */
static void maybe_start(struct run *r)
{
	if (!r->hello || !r->loaded || r->sent_start || !r->proc || r->load_err.status || r->cancelling || r->draining)
		return;
	struct wasd_err err;
	if (storage_attempt_running(r->jobs->cfg.db, r->id, r->attempt, proc_pid(r->proc), r->build ? r->build : "{}", &err) != WASD_OK) {
		proc_end(r->proc, true, err.msg);
		return;
	}
	cJSON *m = message("start", "job:s attempt:i spec:j dataset:s threads:i nice:i", r->id, r->attempt, cJSON_Duplicate(r->spec, true), r->dataset_path,
	                   r->threads, r->nice);
	if (m && r->load_fd >= 0) {
		cJSON *c = message("checkpoint", r->resume ? "bytes:i sha256:s epoch:i step:i" : "bytes:i sha256:s", r->load_bytes, r->load_sha, r->load_epoch, r->load_step);
		if (!c || !cJSON_AddItemToObject(m, r->resume ? "resume" : "init", c)) {
			cJSON_Delete(c);
			cJSON_Delete(m);
			m = NULL;
		}
	}
	int fd = r->load_fd;
	r->load_fd = -1;
	r->sent_start = true;
	if (!proc_send(r->proc, m, NULL, 0, fd))
		proc_end(r->proc, true, "cannot be told to start");
	note(r, "info", "attempt %lld started: process %d, %lld threads%s%s", (long long)r->attempt, (int)proc_pid(r->proc), (long long)r->threads,
	     r->resume ? ", goes on from " : r->init ? ", weights of " : "", r->resume ? r->resume : r->init ? r->init : "");
	log_line(LOG_INFO, "job started", "job=%s attempt=%lld pid=%d resume=%s", r->id, (long long)r->attempt, (int)proc_pid(r->proc), r->resume ? r->resume : "-");
}

static int64_t spec_int(const cJSON *spec, const char *group, const char *name, int64_t otherwise)
{
	int64_t v;
	const cJSON *g = wasd_json_get(spec, group);
	return g && wasd_json_i64(g, name, &v) ? v : otherwise;
}

static const struct proc_class train_class;

enum wasd_status run_start(struct sched *j, const struct storage_job *job, const char *dataset_path, struct wasd_err *err)
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
		r->load_task = (struct sup_task){ .fn = load_over, .ctx = r };
		pool_submit(j->loader, &r->load_job);
	} else {
		r->loaded = true;
	}
	return WASD_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static enum wasd_status missing(struct wasd_err *err, const char *type, const char *what)
{
	return wasd_fail(err, WASD_ECORRUPT, "%s without a proper %s", type, what);
}

static void acknowledge(struct run *r, uint32_t seq)
{
	if (!r->proc)
		return;                 /* it ended while storage was at it */
	if (!proc_send(r->proc, message("ack", "seq:i", (int64_t)seq), NULL, 0, -1))
		proc_end(r->proc, true, "does not take its acknowledgements");
}

/* Storage said no to something the process sent: it cannot go on. */
static void refused(struct run *r, const char *what, const struct wasd_err *err)
{
	char why[170];
	snprintf(why, sizeof why, "%s could not be stored: %.120s", what, err->msg);
	if (r->proc)
		proc_end(r->proc, true, why);
}

static char *progress_text(struct run *r)
{
	return r->progress ? wasd_json_print(r->progress) : NULL;
}

static void set_progress(struct run *r, cJSON *p)
{
	cJSON_DeleteItemFromObjectCaseSensitive(p, "type");
	pthread_mutex_lock(&r->jobs->lock);
	cJSON_Delete(r->progress);
	r->progress = p;
	pthread_mutex_unlock(&r->jobs->lock);
}

static enum wasd_status on_hello(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	if (r->hello)
		return wasd_fail(err, WASD_ECORRUPT, "a second hello");
	r->hello = true;
	const cJSON *fp = wasd_json_get(m->json, "fingerprint");
	r->build = fp ? wasd_json_print(fp) : NULL;
	if (r->attempt)
		maybe_start(r);
	return WASD_OK;
}

static enum wasd_status on_started(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	int64_t epochs;
	if (r->started)
		return wasd_fail(err, WASD_ECORRUPT, "started twice");
	if (!wasd_json_i64(m->json, "epochs", &epochs))
		return missing(err, m->type, "epochs");
	r->started = true;
	return WASD_OK;
}

static enum wasd_status on_progress(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	int64_t epoch, step;
	if (!wasd_json_i64(m->json, "epoch", &epoch) || !wasd_json_i64(m->json, "step", &step))
		return missing(err, m->type, "epoch and step");
	cJSON *p = cJSON_Duplicate(m->json, true);
	if (p)
		set_progress(r, p);
	return WASD_OK;
}

/* {"name": number | null} and {"name": "nan" | "inf" | "-inf"} into a list. False: ill-typed or too many. */
static bool read_metrics(const cJSON *values, const cJSON *nonfinite, struct storage_metric *out, size_t *n)
{
	*n = 0;
	if (!cJSON_IsObject(values))
		return false;
	for (const cJSON *v = values->child; v; v = v->next) {
		if (*n == METRICS_MAX || !v->string || !*v->string || strlen(v->string) > 64)
			return false;
		double x = NAN;
		const char *what;
		if (cJSON_IsNumber(v))
			x = v->valuedouble;
		else if (!cJSON_IsNull(v))
			return false;
		else if (nonfinite && wasd_json_str(nonfinite, v->string, &what))
			x = !strcmp(what, "inf") ? INFINITY : !strcmp(what, "-inf") ? -INFINITY : NAN;
		else
			continue;               /* null and no flag: not measured */
		out[(*n)++] = (struct storage_metric){ v->string, x };
	}
	return true;
}

/* Progress comes four times a second at most; an epoch's metrics say that all of its steps are done. */
static void end_of_epoch(struct run *r, int64_t epoch)
{
	const cJSON *steps = r->progress ? wasd_json_get(r->progress, "steps") : NULL;
	cJSON *p = steps ? cJSON_Duplicate(r->progress, true) : NULL;
	double epochs;
	if (!p)
		return;
	cJSON_ReplaceItemInObjectCaseSensitive(p, "epoch", cJSON_CreateNumber((double)epoch));
	cJSON_ReplaceItemInObjectCaseSensitive(p, "step", cJSON_Duplicate(steps, true));
	if (wasd_json_num(p, "epochs", &epochs) && (double)epoch >= epochs)
		cJSON_ReplaceItemInObjectCaseSensitive(p, "eta_s", cJSON_CreateNumber(0));
	set_progress(r, p);
}

static void note_epoch(struct run *r, int64_t epoch, const struct storage_metric *m, size_t n)
{
	static const char *const told[] = { "train_loss", "train_acc", "val_loss_aom", "val_acc_aom", "val_loss_dom", "val_acc_dom",
	                                    "test_acc_aom", "test_acc_dom", "images_per_s", "epoch_s" };
	char text[500];
	int k = snprintf(text, sizeof text, "epoch %lld:", (long long)epoch);
	for (size_t t = 0; t < sizeof told / sizeof told[0]; t++)
		for (size_t i = 0; i < n; i++)
			if (!strcmp(m[i].name, told[t]) && k < (int)sizeof text - 60)
				k += snprintf(text + k, sizeof text - (size_t)k, " %s %.5g", told[t], m[i].value);
	note(r, "info", "%s", text);
}

static enum wasd_status on_metrics(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	int64_t epoch, step;
	struct storage_metric metrics[METRICS_MAX];
	size_t n;
	if (!wasd_json_i64(m->json, "epoch", &epoch) || !wasd_json_i64(m->json, "step", &step) || epoch < 0 || step < 0)
		return missing(err, m->type, "epoch and step");
	if (!read_metrics(wasd_json_get(m->json, "values"), wasd_json_get(m->json, "nonfinite"), metrics, &n))
		return missing(err, m->type, "values");
	end_of_epoch(r, epoch);
	char *progress = progress_text(r);
	struct wasd_err e;
	enum wasd_status s = storage_epoch(r->jobs->cfg.db, r->id, r->attempt, epoch, step, 0, metrics, n, progress, &e);
	wasd_free(progress);
	if (s == WASD_OK) {
		note_epoch(r, epoch, metrics, n);
		acknowledge(r, m->seq);
	} else {
		refused(r, "metrics", &e);
	}
	return WASD_OK;
}

static void store_over(void *ctx)
{
	struct run *r = ctx;
	r->storing = false;
	wasd_memfd_unmap(r->ckpt_data, r->ckpt_bytes);
	r->ckpt_data = NULL;
	if (r->store_status == WASD_OK) {
		note(r, "info", "checkpoint %s stored: %zu bytes", r->store_id, r->ckpt_bytes);
		acknowledge(r, r->ckpt_seq);
	} else {
		note(r, "error", "checkpoint not stored: %s", r->store_err.msg);
		log_line(LOG_WARN, "checkpoint not stored", "job=%s why=%s", r->id, LOG_Q(r->store_err.msg));
		refused(r, "a checkpoint", &r->store_err);
	}
	maybe_finish(r);
}

static void stored(void *ctx, enum wasd_status status, const char *id, const struct wasd_err *err)
{
	struct run *r = ctx;
	snprintf(r->store_id, sizeof r->store_id, "%s", id);
	r->store_status = status;
	r->store_err = *err;
	supervisor_post(r->jobs->cfg.sup, &r->store_task);
}

static bool sha_ok(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static enum wasd_status on_checkpoint(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	int64_t epoch, step, bytes;
	const char *sha, *reason;
	if (!wasd_json_i64(m->json, "epoch", &epoch) || !wasd_json_i64(m->json, "step", &step) || !wasd_json_i64(m->json, "bytes", &bytes) ||
	    !wasd_json_str(m->json, "sha256", &sha) || !wasd_json_str(m->json, "reason", &reason) || epoch < 0 || step < 0 || bytes < 1 || !sha_ok(sha))
		return missing(err, m->type, "epoch, step, bytes, sha256 and reason");
	if (m->fd < 0)
		return missing(err, m->type, "memory file");
	if (r->storing)
		return wasd_fail(err, WASD_ECORRUPT, "a checkpoint while the one before is not acknowledged");
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes, &r->ckpt_data, err);
	if (s != WASD_OK)
		return s;
	r->ckpt_bytes = (size_t)bytes;
	r->ckpt_seq = m->seq;
	r->storing = true;
	r->store_task = (struct sup_task){ .fn = store_over, .ctx = r };
	const cJSON *metrics = wasd_json_get(m->json, "metrics"), *info = wasd_json_get(m->json, "info");
	char *metrics_text = metrics ? wasd_json_print(metrics) : NULL, *info_text = info ? wasd_json_print(info) : NULL, *progress = progress_text(r);
	struct storage_ckpt_in in = {
		.job = r->id, .attempt = r->attempt, .epoch = epoch, .step = step, .data = r->ckpt_data, .bytes = r->ckpt_bytes, .sha256 = sha,
		.reason = reason, .info = info_text, .metrics_json = metrics_text, .progress = progress,
	};
	storage_ckpt_store_async(r->jobs->cfg.db, &in, stored, r);
	wasd_free(metrics_text);
	wasd_free(info_text);
	wasd_free(progress);
	return WASD_OK;
}

static enum wasd_status on_log(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	const char *level, *text;
	if (!wasd_json_str(m->json, "level", &level) || !wasd_json_str(m->json, "text", &text))
		return missing(err, m->type, "level and text");
	if (strcmp(level, "debug") && strcmp(level, "info") && strcmp(level, "warn") && strcmp(level, "error"))
		return missing(err, m->type, "level");
	add_line(r, level, text, false);
	return WASD_OK;
}

static enum wasd_status on_done(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	const char *reason;
	if (!wasd_json_str(m->json, "reason", &reason) || (strcmp(reason, "done") && strcmp(reason, "early_stopped") && strcmp(reason, "cancelled")))
		return missing(err, m->type, "reason");
	if (r->done_reason || r->fail_reason)
		return wasd_fail(err, WASD_ECORRUPT, "two ends");
	r->done_reason = wasd_strdup(reason);
	return WASD_OK;
}

static enum wasd_status on_failed(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	const char *reason, *status, *message;
	if (!wasd_json_str(m->json, "reason", &reason) || !wasd_json_str(m->json, "status", &status) || !wasd_json_str(m->json, "message", &message))
		return missing(err, m->type, "reason, status and message");
	if (strcmp(reason, "error") && strcmp(reason, "nan_loss") && strcmp(reason, "bad_data") && strcmp(reason, "oom"))
		return missing(err, m->type, "reason");
	if (r->done_reason || r->fail_reason)
		return wasd_fail(err, WASD_ECORRUPT, "two ends");
	r->fail_reason = wasd_strdup(reason);
	r->fail_status = wasd_strdup(status);
	r->fail_message = wasd_strdup(message);
	return WASD_OK;
}

/* When a message may come: at any time, after we said start, after it said started. */
enum when { ALWAYS, TOLD, STARTED };
static const struct { const char *type; enum wasd_status (*take)(struct run *r, struct wasd_msg *m, struct wasd_err *err); enum when when; bool costly; } messages[] = {
	{ "hello", on_hello, ALWAYS, false },
	{ "log", on_log, ALWAYS, false },
	{ "started", on_started, TOLD, false },
	{ "failed", on_failed, TOLD, false },
	{ "done", on_done, TOLD, false },
	{ "progress", on_progress, STARTED, false },
	{ "metrics", on_metrics, STARTED, true },
	{ "checkpoint", on_checkpoint, STARTED, true },
};

static enum wasd_status train_message(struct proc *p, struct wasd_msg *m, struct wasd_err *err)
{
	struct run *r = proc_owner(p);
	const char *job;
	int64_t attempt;
	/* Neither is needed on a stream of its own, but one that names another job is not to be believed. */
	if (wasd_json_str(m->json, "job", &job) && strcmp(job, r->id))
		return wasd_fail(err, WASD_ECORRUPT, "%s of another job, %.48s", m->type, job);
	if (wasd_json_i64(m->json, "attempt", &attempt) && attempt != r->attempt)
		return wasd_fail(err, WASD_ECORRUPT, "%s of attempt %lld, this is %lld", m->type, (long long)attempt, (long long)r->attempt);
	for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
		if (strcmp(m->type, messages[i].type))
			continue;
		if (m->fd >= 0 && messages[i].take != on_checkpoint)
			return wasd_fail(err, WASD_ECORRUPT, "%s with a descriptor", m->type);
		if ((messages[i].when == TOLD && !r->sent_start) || (messages[i].when == STARTED && !r->started))
			return wasd_fail(err, WASD_ECORRUPT, "%s before it was started", m->type);
		/* A process that sends rows faster than they should be stored waits; everybody else does not. */
		if (messages[i].costly && ++r->round_frames > FRAMES_A_TICK)
			proc_pause(p, true);
		return messages[i].take(r, m, err);
	}
	return wasd_fail(err, WASD_ECORRUPT, "unknown message %.40s", m->type);
}

/* ---- ending --------------------------------------------------------------------------------------------------------- */

/* The message may be lost for want of memory; the time limit holds all the same. */
static void ask_to_stop(struct run *r)
{
	proc_send(r->proc, message("cancel", ""), NULL, 0, -1);
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
	if (run_profiles_waived(r) || !r->proc)
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
	flush_logs(r);
	r->round_frames = 0;
	if (!r->proc) {
		maybe_finish(r);
		return;
	}
	proc_pause(r->proc, false);
	if (r->cancel_by_us && now > r->cancel_by_us) {
		r->cancel_by_us = 0;
		proc_end(r->proc, false, "did not stop in time");
	}
	if (r->max_wall_us && !r->over_time && now - proc_started_us(r->proc) > r->max_wall_us && r->sent_start && !r->cancelling && !r->draining) {
		r->over_time = true;
		ask_to_stop(r);
	}
}

static bool worth_retrying(const struct run *r)
{
	static const char *const hopeless[] = { "einval", "eunsupported", "enumeric", "etoobig" };
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

/* ---- profiles ---- */

/* The training came to its own end. */
static bool ended_well(const struct run *r)
{
	return r->done_reason && r->end.exit_code == 0 && !r->cancelling && !r->over_time && !(r->draining && !strcmp(r->done_reason, "cancelled"));
}

static void show_phase(struct run *r, const char *phase)
{
	cJSON *p = r->progress ? cJSON_Duplicate(r->progress, true) : cJSON_CreateObject();
	cJSON_DeleteItemFromObjectCaseSensitive(p, "phase");
	if (p && cJSON_AddStringToObject(p, "phase", phase))
		set_progress(r, p);
	else
		cJSON_Delete(p);
}

/* One row. False: to be tried again. */
static bool ask_for(struct run *r, const struct storage_job *job, const cJSON *item)
{
	struct wasd_err err = {0};
	char *request = api_profile_request(item);
	struct storage_profile_in in = { .checkpoint = r->profiles_of, .name = "", .desire = "", .request = request, .dataset = job->dataset,
	                                 .dataset_version = job->dataset_version, .actor = job->created_by };
	wasd_json_str(item, "name", &in.name);
	wasd_json_str(item, "desire", &in.desire);
	enum wasd_status s = request ? storage_profile_begin(r->jobs->cfg.db, &in, NULL, NULL, &err) : WASD_ENOMEM;
	wasd_free(request);
	if (s == WASD_ENOMEM || s == WASD_EBUSY)
		return false;
	if (s != WASD_OK)
		note(r, "warn", "profile %s is not searched: %s", in.name, err.msg);
	return true;
}

/* Idempotent, so that a job which ends twice (the daemon was killed in between) has each of them once. False: to be tried again. */
static bool ask_for_profiles(struct run *r, const cJSON *list)
{
	struct storage_job job = {0};
	struct storage_ckpt k = {0};
	struct wasd_err err = {0};
	const cJSON *item;
	bool ok = true;
	enum wasd_status s = storage_job_get(r->jobs->cfg.db, r->id, &job, &err);
	if (s == WASD_OK)
		s = storage_ckpt_pick(r->jobs->cfg.db, r->id, "best", &k, &err);
	if (s == WASD_OK) {
		snprintf(r->profiles_of, sizeof r->profiles_of, "%s", k.id);
		cJSON_ArrayForEach(item, list)
			ok = ok && ask_for(r, &job, item);
	} else if (s == WASD_ENOMEM || s == WASD_EBUSY) {
		ok = false;
	} else {
		note(r, "warn", "no profiles are searched: %s", err.msg);
	}
	if (ok && s == WASD_OK && r->jobs->cfg.profile_queued) {
		note(r, "info", "searching %d profile%s of checkpoint %s", cJSON_GetArraySize(list), cJSON_GetArraySize(list) > 1 ? "s" : "", k.id);
		show_phase(r, "profiles");
		r->jobs->cfg.profile_queued(r->jobs->cfg.ctx);
	}
	storage_ckpt_done(&k);
	storage_job_done(&job);
	return ok;
}

/* One that was deleted is settled as well. */
static bool settled(struct run *r, const char *name, bool tell)
{
	struct storage_profile p = {0};
	enum wasd_status s = storage_profile_get(r->jobs->cfg.db, r->profiles_of, name, &p, NULL);
	bool over = s == WASD_ENOTFOUND || (s == WASD_OK && (!strcmp(p.state, "ready") || !strcmp(p.state, "failed")));
	if (tell && s == WASD_OK && !strcmp(p.state, "failed"))
		note(r, "warn", "profile %s: %s", name, p.message ? p.message : "its search has failed");
	else if (tell && s == WASD_OK && over)
		note(r, "info", "profile %s is ready", name);
	storage_profile_done(&p);
	return over;
}

/* True: nothing more is to be done for them. */
static bool profiles_over(struct run *r)
{
	const cJSON *list = wasd_json_get(r->spec, "profiles"), *item;
	const char *name;
	if (!cJSON_GetArraySize(list) || !ended_well(r) || r->closing)
		return true;
	if (!r->profiles_asked && !(r->profiles_asked = ask_for_profiles(r, list)))
		return false;
	if (r->draining || r->profiles_waived || !*r->profiles_of || !r->jobs->cfg.profile_queued)
		return true;
	cJSON_ArrayForEach(item, list)
		if (wasd_json_str(item, "name", &name) && !settled(r, name, false))
			return false;
	cJSON_ArrayForEach(item, list)
		if (wasd_json_str(item, "name", &name))
			settled(r, name, true);
	return true;
}

bool run_profiles_waived(struct run *r)
{
	if (!r->gone || !r->profiles_asked)
		return false;
	r->profiles_waived = true;
	maybe_finish(r);
	return true;
}

/* False: storage could not take it now; to be tried again. */
static bool close_rows(struct run *r)
{
	struct storage_exit x = { .exit_reason = r->end.reason, .exit_code = r->end.exit_code, .signal = r->end.signal };
	struct storage_move m = { .attempt = r->attempt };
	struct wasd_buf tail = { .max = 32 << 10 };
	for (int i = 0; i < r->n_tail; i++)
		wasd_buf_printf(&tail, "%s\n", r->tail[i]);
	wasd_buf_puts(&tail, r->end.tail);
	x.log_tail = wasd_buf_cstr(&tail);
	char *progress = progress_text(r);
	m.progress = progress;
	bool clean = r->done_reason && r->end.exit_code == 0;
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
	} else {
		x.outcome = "failed";
		if (r->fail_message)
			x.exit_reason = r->fail_message;
		m.message = x.exit_reason;
		after_failure(r, &m);
	}
	if (!r->closing)
		note(r, clean || r->cancelling || r->draining ? "info" : "error", "attempt %lld over: %s, job is %s%s%s", (long long)r->attempt, x.exit_reason, m.to,
		     m.reason ? ", " : "", m.reason ? m.reason : "");
	r->closing = true;
	flush_logs(r);
	struct wasd_err err = {0};
	enum wasd_status s = storage_attempt_end(r->jobs->cfg.db, r->id, r->attempt, &x, &m, &err);
	log_line(s == WASD_OK ? LOG_INFO : LOG_ERROR, s == WASD_OK ? "job attempt over" : "job attempt could not be closed", "job=%s attempt=%lld to=%s reason=%s exit=%s %s%s", r->id,
	         (long long)r->attempt, m.to, m.reason ? m.reason : "-", LOG_Q(x.exit_reason), s == WASD_OK ? "" : "error=", s == WASD_OK ? "" : LOG_Q(err.msg));
	wasd_free(progress);
	wasd_buf_done(&tail);
	return s != WASD_ENOMEM && s != WASD_EBUSY && s != WASD_EFULL;
}

static void maybe_finish(struct run *r)
{
	if (!r->gone || r->loading || r->storing)
		return;
	if (r->attempt && (!profiles_over(r) || !close_rows(r)))
		return;                 /* the next tick */
	run_forget(r);
}

static void train_gone(struct proc *p, const struct proc_end *end)
{
	struct run *r = proc_owner(p);
	r->proc = NULL;
	r->gone = true;
	r->end = *end;
	maybe_finish(r);
}

static const struct proc_class train_class = { .role = "train", .message = train_message, .gone = train_gone };
