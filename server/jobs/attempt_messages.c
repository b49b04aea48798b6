/* attempt_messages.c - checks, stores and acknowledges the messages of a training process. See attempt.c. */
#include "jobs/attempt.h"
#include "log.h"
#include "metrics.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 2000 };

/* ---- logs ------------------------------------------------------------------------------------------------ */

void attempt_flush_logs(struct attempt *a)
{
	if (!a->n_batch)
		return;
	struct storage_log_in in[LOG_BATCH + 1];
	char note[80];
	size_t n = 0;
	for (int i = 0; i < a->n_batch; i++)
		in[n++] = (struct storage_log_in){a->batch[i].ts, a->batch[i].level, a->batch[i].text};
	if (a->dropped) {
		snprintf(note, sizeof note, "%d more lines came too fast and were dropped", a->dropped);
		in[n++] = (struct storage_log_in){0, "warn", note};
	}
	enum wasd_status s = storage_log_add(a->jobs->cfg.db, a->id, a->number, in, n, NULL);
	if (s == WASD_EFULL && !a->closing)
		return; /* tried again at the next tick */
	if (s == WASD_OK) {
		cJSON *e = cJSON_CreateObject(), *lines = cJSON_AddArrayToObject(e, "lines");
		cJSON_AddStringToObject(e, "job", a->id);
		cJSON_AddNumberToObject(e, "attempt", (double)a->number);
		for (size_t i = 0; i < n && i < 20 && lines; i++) {
			cJSON *l = cJSON_CreateObject();
			cJSON_AddStringToObject(l, "level", in[i].level);
			cJSON_AddStringToObject(l, "text", in[i].text);
			cJSON_AddItemToArray(lines, l);
		}
		char *text = wasd_json_print(e);
		int64_t seq;
		if (text)
			storage_event_add(a->jobs->cfg.db, "jobs", "job.log", a->id, text, &seq, NULL);
		wasd_free(text);
		cJSON_Delete(e);
	}
	for (int i = 0; i < a->n_batch; i++)
		wasd_free(a->batch[i].text);
	a->n_batch = a->dropped = 0;
}

/* Adds a line from the process, or a note of our own (which is not part of the process's last lines). */
static void add_line(struct attempt *a, const char *level, const char *text, bool own)
{
	char *line = wasd_strndup(text, strnlen(text, LINE_MAX_BYTES)), *again = line && !own ? wasd_strdup(line) : NULL;
	if (!line)
		return;
	if (again && a->n_tail == TAIL_LINES) {
		wasd_free(a->tail[0]);
		memmove(a->tail, a->tail + 1, (TAIL_LINES - 1) * sizeof a->tail[0]);
		a->n_tail--;
	}
	if (again)
		a->tail[a->n_tail++] = again;
	if (a->n_batch == LOG_BATCH) {
		a->dropped++;
		wasd_free(line);
		return;
	}
	struct log_entry *e = &a->batch[a->n_batch++];
	*e = (struct log_entry){.ts = wasd_now_ms(), .text = line};
	snprintf(e->level, sizeof e->level, "%s", level);
}

void attempt_note(struct attempt *a, const char *level, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	add_line(a, level, text, true);
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static enum wasd_status missing(struct wasd_err *err, const char *type, const char *what)
{
	return wasd_fail(err, WASD_ECORRUPT, "%s has no valid %s", type, what);
}

/* Reads members that the message's row requires: a frame without them is refused earlier. */
static const char *string_of(const struct wasd_frame *m, const char *name)
{
	const char *s = "";
	wasd_json_str(m->json, name, &s);
	return s;
}

static int64_t number_of(const struct wasd_frame *m, const char *name)
{
	int64_t v = 0;
	wasd_json_i64(m->json, name, &v);
	return v;
}

static void acknowledge(struct attempt *a, uint32_t seq)
{
	task_send(&a->task, wasd_message("ack", "seq:i", (int64_t)seq), "cannot send it an acknowledgement");
}

/* Storage refused data from the process, which therefore cannot continue. Without room the job pauses; it repeats the
 * work since its last checkpoint. */
static void refused(struct attempt *a, const char *what, const struct wasd_err *err)
{
	char why[170];
	wasd_line(why, sizeof why, "%s could not be stored: %s", what, err->msg);
	if (err->status == WASD_EFULL)
		attempt_no_room(a, err->pointer, err->msg);
	task_kill(&a->task, why);
}

char *attempt_progress_text(struct attempt *a)
{
	return a->progress ? wasd_json_print(a->progress) : NULL;
}

void attempt_set_progress(struct attempt *a, cJSON *p)
{
	pthread_mutex_lock(&a->jobs->lock);
	cJSON_Delete(a->progress);
	a->progress = p;
	pthread_mutex_unlock(&a->jobs->lock);
	task_changed(&a->task);
}

static enum wasd_status on_hello(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	(void)err;
	const cJSON *fp = wasd_json_get(m->json, "fingerprint");
	a->build = fp ? wasd_json_print(fp) : NULL;
	if (a->number)
		attempt_maybe_start(a);
	return WASD_OK;
}

static void set_member(cJSON *p, const char *name, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(p, name);
	if (v && !cJSON_AddItemToObject(p, name, v))
		cJSON_Delete(v);
}

/* The hello comes before the threads. */
static void record_threads(struct attempt *a, int64_t n)
{
	cJSON *build = NULL;
	char *text = NULL;
	if (a->build && wasd_json_parse(a->build, strlen(a->build), WASD_JSON_REQUEST, &build, NULL) == WASD_OK) {
		set_member(build, "threads", cJSON_CreateNumber((double)n));
		text = wasd_json_print(build);
	}
	if (text)
		storage_attempt_build(a->jobs->cfg.db, a->id, a->number, text, NULL);
	wasd_free(text);
	cJSON_Delete(build);
}

/* A resumed run keeps its threads, whatever it was given. */
static enum wasd_status on_started(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	int64_t n;
	(void)err;
	if (!wasd_json_i64(m->json, "threads", &n))
		return WASD_OK;
	pthread_mutex_lock(&a->jobs->lock);
	a->threads = n;
	pthread_mutex_unlock(&a->jobs->lock);
	record_threads(a, n);
	return WASD_OK;
}

/* A copy of the progress with a new phase whose progress is unknown; NULL: no memory. */
static cJSON *progress_in(const struct attempt *a, const char *phase)
{
	cJSON *p = a->progress ? cJSON_Duplicate(a->progress, true) : cJSON_CreateObject();
	if (!p)
		return NULL;
	set_member(p, "phase_done", NULL);
	set_member(p, "phase_total", NULL);
	set_member(p, "phase", phase ? cJSON_CreateString(phase) : NULL);
	return p;
}

void attempt_show_phase(struct attempt *a, const char *phase)
{
	cJSON *p = progress_in(a, phase);
	if (p)
		attempt_set_progress(a, p);
}

void attempt_changed(void *self)
{
	struct attempt *a = self;
	char *text = a->number ? attempt_progress_text(a) : NULL;
	if (text)
		storage_steps(a->jobs->cfg.db, a->id, 0, NULL, 0, text, NULL);
	wasd_free(text);
}

static enum wasd_status on_progress(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	static const char *const members[] = {"phase_done", "phase_total", "epoch", "epochs", "step",
	                                      "steps",      "img_per_s",   "eta_s", "loss"};
	(void)err;
	cJSON *p = progress_in(a, string_of(m, "phase"));
	for (size_t i = 0; p && i < sizeof members / sizeof members[0]; i++) {
		const cJSON *v = wasd_json_get(m->json, members[i]);
		if (cJSON_IsNumber(v))
			set_member(p, members[i], cJSON_CreateNumber(v->valuedouble));
	}
	if (p) {
		attempt_set_progress(a, p);
		a->placed |= cJSON_IsNumber(wasd_json_get(m->json, "epoch"));
	}
	return WASD_OK;
}

/* [step, epoch, loss, learning rate, images a second] */
static bool read_point(const cJSON *row, struct storage_step *out)
{
	double v[5];
	int n = 0;
	const cJSON *number;
	cJSON_ArrayForEach(number, row) {
		if (n == 5 || !cJSON_IsNumber(number) || !isfinite(number->valuedouble))
			return false;
		v[n++] = number->valuedouble;
	}
	if (!cJSON_IsArray(row) || n != 5 || !(v[0] >= 1 && v[0] <= 9007199254740991.0) ||
	    !(v[1] >= 1 && v[1] <= 2147483647.0))
		return false;
	*out = (struct storage_step){(int64_t)v[0], (int64_t)v[1], v[2], v[3], v[4] > 0 ? v[4] : NAN};
	return true;
}

/* Points in order. */
static bool read_losses(const cJSON *points, struct storage_step *out, size_t *n)
{
	const cJSON *row;
	*n = 0;
	cJSON_ArrayForEach(row, points) {
		if (*n == WASD_LOSSES_MAX || !read_point(row, &out[*n]) || (*n && out[*n].step <= out[*n - 1].step))
			return false;
		++*n;
	}
	return *n > 0;
}

static enum wasd_status on_losses(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	struct storage_step points[WASD_LOSSES_MAX];
	struct wasd_err e = {0};
	size_t n;
	if (!read_losses(wasd_json_get(m->json, "points"), points, &n))
		return missing(err, m->type, "points");
	char *progress = attempt_progress_text(a);
	if (storage_steps(a->jobs->cfg.db, a->id, a->number, points, n, progress, &e) != WASD_OK)
		refused(a, "losses", &e);
	wasd_free(progress);
	task_changes_told(&a->task);
	return WASD_OK;
}

/* {"name": number | null} and {"name": "nan" | "inf" | "-inf"} into a list. False: ill-typed or too many. */
static bool read_metrics(const cJSON *values, const cJSON *nonfinite, struct storage_metric *out, size_t *n)
{
	*n = 0;
	if (!cJSON_IsObject(values))
		return false;
	for (const cJSON *v = values->child; v; v = v->next) {
		if (*n == WASD_METRICS_MAX || !v->string || !*v->string || strlen(v->string) > WASD_METRIC_NAME)
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
			continue; /* null without a flag: not measured */
		out[(*n)++] = (struct storage_metric){v->string, x};
	}
	return true;
}

/* Progress arrives at most four times a second; an epoch's metrics mean that all its steps are done. */
static void end_of_epoch(struct attempt *a, int64_t epoch)
{
	const cJSON *steps = a->progress ? wasd_json_get(a->progress, "steps") : NULL;
	cJSON *p = steps ? cJSON_Duplicate(a->progress, true) : NULL;
	double epochs;
	if (!p)
		return;
	set_member(p, "epoch", cJSON_CreateNumber((double)epoch));
	set_member(p, "step", cJSON_Duplicate(steps, true));
	if (wasd_json_num(p, "epochs", &epochs) && (double)epoch >= epochs)
		set_member(p, "eta_s", cJSON_CreateNumber(0));
	attempt_set_progress(a, p);
}

/* images: those that this attempt has trained in the epoch; 0: an earlier one has trained them. */
static void count_epoch(struct metrics *to, int64_t images, const struct storage_metric *metrics, size_t n)
{
	metric_add(to, METRIC_TRAIN_IMAGES, (double)images, NULL);
	for (size_t i = 0; i < n && images; i++)
		if (!strcmp(metrics[i].name, "epoch_s"))
			metric_observe(to, METRIC_JOB_EPOCH, metrics[i].value, NULL);
}

static enum wasd_status on_metrics(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	int64_t epoch = number_of(m, "epoch"), step = number_of(m, "step");
	struct storage_metric metrics[WASD_METRICS_MAX];
	size_t n;
	if (!read_metrics(wasd_json_get(m->json, "values"), wasd_json_get(m->json, "nonfinite"), metrics, &n))
		return missing(err, m->type, "values");
	end_of_epoch(a, epoch);
	char *progress = attempt_progress_text(a);
	struct wasd_err e;
	enum wasd_status s = storage_epoch(a->jobs->cfg.db, a->id, a->number, epoch, step, 0, metrics, n, progress, &e);
	wasd_free(progress);
	if (s == WASD_OK) {
		count_epoch(a->jobs->cfg.metrics, number_of(m, "images"), metrics, n);
		acknowledge(a, m->seq);
	} else {
		refused(a, "metrics", &e);
	}
	return WASD_OK;
}

static void store_over(void *ctx)
{
	struct attempt *a = ctx;
	a->storing = false;
	wasd_memfd_unmap(a->ckpt_data, a->ckpt_bytes);
	a->ckpt_data = NULL;
	if (a->store_status == WASD_OK) {
		attempt_note(a, "info", "checkpoint %s stored: %zu bytes", a->store_id, a->ckpt_bytes);
		acknowledge(a, a->ckpt_seq);
		if (a->jobs->cfg.checkpoint_stored)
			a->jobs->cfg.checkpoint_stored(a->jobs->cfg.ctx, a->id);
	} else {
		attempt_note(a, "error", "cannot store a checkpoint: %s", a->store_err.msg);
		log_about(a->id, LOG_WARN, "cannot store a checkpoint", "job=%s why=%s", a->id, LOG_Q(a->store_err.msg));
		refused(a, "a checkpoint", &a->store_err);
	}
	attempt_maybe_finish(a);
}

static void stored(void *ctx, enum wasd_status status, const char *id, const struct wasd_err *err)
{
	struct attempt *a = ctx;
	snprintf(a->store_id, sizeof a->store_id, "%s", id);
	a->store_status = status;
	a->store_err = *err;
	supervisor_post(a->jobs->cfg.sup, &a->store_post);
}

static bool sha_ok(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static enum wasd_status on_checkpoint(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	int64_t bytes = number_of(m, "bytes");
	const char *sha = string_of(m, "sha256");
	if (!sha_ok(sha))
		return missing(err, m->type, "sha256");
	if (a->storing)
		return wasd_fail(err, WASD_ECORRUPT, "a checkpoint arrived before the previous one was acknowledged");
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes, &a->ckpt_data, err);
	if (s != WASD_OK)
		return s;
	a->ckpt_bytes = (size_t)bytes;
	a->ckpt_seq = m->seq;
	a->storing = true;
	a->store_post = (struct sup_post){.fn = store_over, .ctx = a};
	const cJSON *metrics = wasd_json_get(m->json, "metrics"), *info = wasd_json_get(m->json, "info");
	char *metrics_text = metrics ? wasd_json_print(metrics) : NULL, *info_text = info ? wasd_json_print(info) : NULL,
		 *progress = attempt_progress_text(a);
	struct storage_ckpt_in in = {
		.job = a->id,
		.attempt = a->number,
		.epoch = number_of(m, "epoch"),
		.step = number_of(m, "step"),
		.data = a->ckpt_data,
		.bytes = a->ckpt_bytes,
		.sha256 = sha,
		.reason = string_of(m, "reason"),
		.info = info_text,
		.metrics_json = metrics_text,
		.progress = progress,
	};
	storage_ckpt_store_async(a->jobs->cfg.db, &in, stored, a);
	wasd_free(metrics_text);
	wasd_free(info_text);
	wasd_free(progress);
	return WASD_OK;
}

static enum wasd_status on_log(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	(void)err;
	add_line(a, string_of(m, "level"), string_of(m, "text"), false);
	return WASD_OK;
}

/* Stores a warning of the engine with the job; the engine also logs it in a separate line. */
static enum wasd_status on_warning(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct attempt *a = self;
	const char *code = string_of(m, "code"), *message = string_of(m, "message");
	if (!wasd_name_ok(code) || strlen(message) > LINE_MAX_BYTES)
		return missing(err, m->type, "code and message");
	struct wasd_err e = {0};
	if (storage_warning_put(a->jobs->cfg.db, a->id, a->number, code, number_of(m, "epoch"), message, &e) != WASD_OK)
		log_about(a->id, LOG_WARN, "cannot store a warning", "job=%s code=%s why=%s", a->id, code, LOG_Q(e.msg));
	return WASD_OK;
}

const struct task_message attempt_messages[] = {
	{.type = "hello", .take = on_hello},
	{.type = "log", .take = on_log},
	{.type = "progress", .take = on_progress, .from = TASK_TOLD},
	{.type = "started", .take = on_started, .from = TASK_TOLD, .to = TASK_WORKING},
	{.type = "losses", .take = on_losses, .from = TASK_WORKING, .stored = true},
	{.type = "metrics", .take = on_metrics, .from = TASK_WORKING, .stored = true},
	{.type = "checkpoint", .take = on_checkpoint, .from = TASK_WORKING, .stored = true},
	{.type = "warning", .take = on_warning, .from = TASK_WORKING, .stored = true},
	{.type = "done", .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};

/* Each process has its own stream, so job and attempt are redundant, but a message that names another job is wrong. */
enum wasd_status attempt_check(void *self, const struct wasd_frame *m, struct wasd_err *err)
{
	const struct attempt *a = self;
	const char *job;
	int64_t number;
	if (wasd_json_str(m->json, "job", &job) && strcmp(job, a->id))
		return wasd_fail(err, WASD_ECORRUPT, "%s is for another job, %.48s", m->type, job);
	if (wasd_json_i64(m->json, "attempt", &number) && number != a->number)
		return wasd_fail(err, WASD_ECORRUPT, "%s is for attempt %lld, this is %lld", m->type, (long long)number,
		                 (long long)a->number);
	return WASD_OK;
}
