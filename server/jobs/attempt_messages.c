/* attempt_messages.c - what a training process says: checked, stored, acknowledged. See attempt.c. */
#include "jobs/attempt.h"
#include "log.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { METRICS_MAX = 64, FRAMES_A_TICK = 50, LINE_MAX_BYTES = 2000, TELL_US = 1000000 };

/* ---- logs ------------------------------------------------------------------------------------------------ */

void run_flush_logs(struct run *r)
{
	if (!r->n_batch)
		return;
	struct storage_log_in in[LOG_BATCH + 1];
	char note[80];
	size_t n = 0;
	for (int i = 0; i < r->n_batch; i++)
		in[n++] = (struct storage_log_in){r->batch[i].ts, r->batch[i].level, r->batch[i].text};
	if (r->dropped) {
		snprintf(note, sizeof note, "%d more lines came too fast and were left out", r->dropped);
		in[n++] = (struct storage_log_in){0, "warn", note};
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
	*e = (struct log_entry){.ts = wasd_now_ms(), .text = line};
	snprintf(e->level, sizeof e->level, "%s", level);
}

void run_note(struct run *r, const char *level, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	add_line(r, level, text, true);
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static enum wasd_status missing(struct wasd_err *err, const char *type, const char *what)
{
	return wasd_fail(err, WASD_ECORRUPT, "%s without a proper %s", type, what);
}

/* Members that the message's row demands: without them the frame had not come this far. */
static const char *string_of(const struct wasd_msg *m, const char *name)
{
	const char *s = "";
	wasd_json_str(m->json, name, &s);
	return s;
}

static int64_t number_of(const struct wasd_msg *m, const char *name)
{
	int64_t v = 0;
	wasd_json_i64(m->json, name, &v);
	return v;
}

static void acknowledge(struct run *r, uint32_t seq)
{
	if (!r->proc)
		return; /* it ended while storage was at it */
	if (!proc_send(r->proc, wasd_message("ack", "seq:i", (int64_t)seq), NULL, 0, -1))
		proc_end(r->proc, true, "does not take its acknowledgements");
}

/* Storage said no to something the process sent: it cannot go on. */
static void refused(struct run *r, const char *what, const struct wasd_err *err)
{
	char why[170];
	wasd_line(why, sizeof why, "%s could not be stored: %s", what, err->msg);
	if (r->proc)
		proc_end(r->proc, true, why);
}

char *run_progress_text(struct run *r)
{
	return r->progress ? wasd_json_print(r->progress) : NULL;
}

void run_set_progress(struct run *r, cJSON *p)
{
	pthread_mutex_lock(&r->jobs->lock);
	cJSON_Delete(r->progress);
	r->progress = p;
	r->untold = true;
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
		run_maybe_start(r);
	return WASD_OK;
}

static enum wasd_status on_started(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	(void)m;
	if (r->started)
		return wasd_fail(err, WASD_ECORRUPT, "started twice");
	r->started = true;
	return WASD_OK;
}

static void set_member(cJSON *p, const char *name, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(p, name);
	if (v && !cJSON_AddItemToObject(p, name, v))
		cJSON_Delete(v);
}

/* A copy of what is known with another phase, about which nothing is known yet; NULL: no memory. */
static cJSON *progress_in(const struct run *r, const char *phase)
{
	cJSON *p = r->progress ? cJSON_Duplicate(r->progress, true) : cJSON_CreateObject();
	if (!p)
		return NULL;
	set_member(p, "phase_done", NULL);
	set_member(p, "phase_total", NULL);
	set_member(p, "phase", phase ? cJSON_CreateString(phase) : NULL);
	return p;
}

void run_show_phase(struct run *r, const char *phase)
{
	cJSON *p = progress_in(r, phase);
	if (p)
		run_set_progress(r, p);
}

/* Followers are told about once a second at most, and of the last state in any case. */
void run_tell_progress(struct run *r)
{
	int64_t now = wasd_mono_us();
	if (!r->untold || now < r->tell_us || !r->attempt)
		return;
	char *text = run_progress_text(r);
	r->untold = false;
	r->tell_us = now + TELL_US;
	if (text)
		storage_steps(r->jobs->cfg.db, r->id, 0, NULL, 0, text, NULL);
	wasd_free(text);
}

static enum wasd_status on_progress(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	static const char *const members[] = {"phase_done", "phase_total", "epoch", "epochs", "step",
	                                      "steps",      "img_per_s",   "eta_s", "loss"};
	(void)err;
	cJSON *p = progress_in(r, string_of(m, "phase"));
	for (size_t i = 0; p && i < sizeof members / sizeof members[0]; i++) {
		const cJSON *v = wasd_json_get(m->json, members[i]);
		if (cJSON_IsNumber(v))
			set_member(p, members[i], cJSON_CreateNumber(v->valuedouble));
	}
	if (p)
		run_set_progress(r, p);
	run_tell_progress(r);
	return WASD_OK;
}

/* [[step, epoch, loss], ...] in order. */
static bool read_losses(const cJSON *points, struct storage_step *out, size_t *n)
{
	const cJSON *row;
	*n = 0;
	if (!cJSON_IsArray(points))
		return false;
	cJSON_ArrayForEach(row, points) {
		const cJSON *step = cJSON_GetArrayItem(row, 0), *epoch = cJSON_GetArrayItem(row, 1),
					*loss = cJSON_GetArrayItem(row, 2);
		bool numbers = cJSON_GetArraySize(row) == 3 && cJSON_IsNumber(step) && cJSON_IsNumber(epoch) &&
		               cJSON_IsNumber(loss);
		if (*n == WASD_LOSSES_MAX || !numbers || !(step->valuedouble >= 1 && step->valuedouble <= 9007199254740991.0) ||
		    !(epoch->valuedouble >= 1 && epoch->valuedouble <= 2147483647.0) || !isfinite(loss->valuedouble))
			return false;
		out[*n] = (struct storage_step){(int64_t)step->valuedouble, (int64_t)epoch->valuedouble, loss->valuedouble};
		if (*n && out[*n].step <= out[*n - 1].step)
			return false;
		++*n;
	}
	return *n > 0;
}

static enum wasd_status on_losses(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	struct storage_step points[WASD_LOSSES_MAX];
	struct wasd_err e = {0};
	size_t n;
	if (!read_losses(wasd_json_get(m->json, "points"), points, &n))
		return missing(err, m->type, "points");
	char *progress = run_progress_text(r);
	if (storage_steps(r->jobs->cfg.db, r->id, r->attempt, points, n, progress, &e) != WASD_OK)
		refused(r, "losses", &e);
	wasd_free(progress);
	r->untold = false;
	r->tell_us = wasd_mono_us() + TELL_US;
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
			continue; /* null and no flag: not measured */
		out[(*n)++] = (struct storage_metric){v->string, x};
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
	set_member(p, "epoch", cJSON_CreateNumber((double)epoch));
	set_member(p, "step", cJSON_Duplicate(steps, true));
	if (wasd_json_num(p, "epochs", &epochs) && (double)epoch >= epochs)
		set_member(p, "eta_s", cJSON_CreateNumber(0));
	run_set_progress(r, p);
}

static enum wasd_status on_metrics(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	int64_t epoch = number_of(m, "epoch"), step = number_of(m, "step");
	struct storage_metric metrics[METRICS_MAX];
	size_t n;
	if (!read_metrics(wasd_json_get(m->json, "values"), wasd_json_get(m->json, "nonfinite"), metrics, &n))
		return missing(err, m->type, "values");
	end_of_epoch(r, epoch);
	char *progress = run_progress_text(r);
	struct wasd_err e;
	enum wasd_status s = storage_epoch(r->jobs->cfg.db, r->id, r->attempt, epoch, step, 0, metrics, n, progress, &e);
	wasd_free(progress);
	if (s == WASD_OK) {
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
		run_note(r, "info", "checkpoint %s stored: %zu bytes", r->store_id, r->ckpt_bytes);
		acknowledge(r, r->ckpt_seq);
	} else {
		run_note(r, "error", "checkpoint not stored: %s", r->store_err.msg);
		log_line(LOG_WARN, "checkpoint not stored", "job=%s why=%s", r->id, LOG_Q(r->store_err.msg));
		refused(r, "a checkpoint", &r->store_err);
	}
	run_maybe_finish(r);
}

static void stored(void *ctx, enum wasd_status status, const char *id, const struct wasd_err *err)
{
	struct run *r = ctx;
	snprintf(r->store_id, sizeof r->store_id, "%s", id);
	r->store_status = status;
	r->store_err = *err;
	supervisor_post(r->jobs->cfg.sup, &r->store_post);
}

static bool sha_ok(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static enum wasd_status on_checkpoint(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	int64_t bytes = number_of(m, "bytes");
	const char *sha = string_of(m, "sha256");
	if (!sha_ok(sha))
		return missing(err, m->type, "sha256");
	if (r->storing)
		return wasd_fail(err, WASD_ECORRUPT, "a checkpoint while the one before is not acknowledged");
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes, &r->ckpt_data, err);
	if (s != WASD_OK)
		return s;
	r->ckpt_bytes = (size_t)bytes;
	r->ckpt_seq = m->seq;
	r->storing = true;
	r->store_post = (struct sup_post){.fn = store_over, .ctx = r};
	const cJSON *metrics = wasd_json_get(m->json, "metrics"), *info = wasd_json_get(m->json, "info");
	char *metrics_text = metrics ? wasd_json_print(metrics) : NULL, *info_text = info ? wasd_json_print(info) : NULL,
		 *progress = run_progress_text(r);
	struct storage_ckpt_in in = {
		.job = r->id,
		.attempt = r->attempt,
		.epoch = number_of(m, "epoch"),
		.step = number_of(m, "step"),
		.data = r->ckpt_data,
		.bytes = r->ckpt_bytes,
		.sha256 = sha,
		.reason = string_of(m, "reason"),
		.info = info_text,
		.metrics_json = metrics_text,
		.progress = progress,
	};
	storage_ckpt_store_async(r->jobs->cfg.db, &in, stored, r);
	wasd_free(metrics_text);
	wasd_free(info_text);
	wasd_free(progress);
	return WASD_OK;
}

static enum wasd_status on_log(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	(void)err;
	add_line(r, string_of(m, "level"), string_of(m, "text"), false);
	return WASD_OK;
}

/* What the engine warns of is kept with the job; its log has a line of its own. */
static enum wasd_status on_warning(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	const char *code = string_of(m, "code"), *message = string_of(m, "message");
	if (!wasd_name_ok(code) || strlen(message) > LINE_MAX_BYTES)
		return missing(err, m->type, "code and message");
	struct wasd_err e = {0};
	if (storage_warning_put(r->jobs->cfg.db, r->id, r->attempt, code, number_of(m, "epoch"), message, &e) != WASD_OK)
		log_line(LOG_WARN, "warning not stored", "job=%s code=%s why=%s", r->id, code, LOG_Q(e.msg));
	return WASD_OK;
}

static enum wasd_status on_done(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	if (r->done_reason || r->fail_reason)
		return wasd_fail(err, WASD_ECORRUPT, "two ends");
	r->done_reason = wasd_strdup(string_of(m, "reason"));
	return WASD_OK;
}

static enum wasd_status on_failed(struct run *r, struct wasd_msg *m, struct wasd_err *err)
{
	if (r->done_reason || r->fail_reason)
		return wasd_fail(err, WASD_ECORRUPT, "two ends");
	r->fail_reason = wasd_strdup(string_of(m, "reason"));
	r->fail_status = wasd_strdup(string_of(m, "status"));
	r->fail_message = wasd_strdup(string_of(m, "message"));
	return WASD_OK;
}

/* When a message may come: at any time, after we said start, after it said started. */
enum when { ALWAYS, TOLD, STARTED };
static const struct {
	const char *type;
	enum wasd_status (*take)(struct run *r, struct wasd_msg *m, struct wasd_err *err);
	enum when when;
	bool costly;
} messages[] = {
	{"hello", on_hello, ALWAYS, false},
	{"log", on_log, ALWAYS, false},
	{"started", on_started, TOLD, false},
	{"failed", on_failed, TOLD, false},
	{"done", on_done, TOLD, false},
	{"progress", on_progress, TOLD, false},
	{"losses", on_losses, STARTED, true},
	{"metrics", on_metrics, STARTED, true},
	{"checkpoint", on_checkpoint, STARTED, true},
	{"warning", on_warning, STARTED, true},
};

enum wasd_status run_message(struct proc *p, struct wasd_msg *m, struct wasd_err *err)
{
	struct run *r = proc_owner(p);
	const char *job;
	int64_t attempt;
	/* Neither is needed on a stream of its own, but one that names another job is not to be believed. */
	if (wasd_json_str(m->json, "job", &job) && strcmp(job, r->id))
		return wasd_fail(err, WASD_ECORRUPT, "%s of another job, %.48s", m->type, job);
	if (wasd_json_i64(m->json, "attempt", &attempt) && attempt != r->attempt)
		return wasd_fail(err, WASD_ECORRUPT, "%s of attempt %lld, this is %lld", m->type, (long long)attempt,
		                 (long long)r->attempt);
	for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
		if (strcmp(m->type, messages[i].type))
			continue;
		if ((messages[i].when == TOLD && !r->sent_start) || (messages[i].when == STARTED && !r->started))
			return wasd_fail(err, WASD_ECORRUPT, "%s before it was started", m->type);
		/* A process that sends rows faster than they should be stored waits; everybody else does not. */
		if (messages[i].costly && ++r->round_frames > FRAMES_A_TICK)
			proc_pause(p, true);
		return messages[i].take(r, m, err);
	}
	return wasd_fail(err, WASD_ECORRUPT, "unknown message %.40s", m->type);
}
