/* engine/cmd_train.c - wasd-engine train: one attempt of a job, directed by the daemon over the stream
 * (protocol.h).
 *
 * The main thread waits for `start`, trains, and sends the trainer's reports; link.c's thread receives `cancel`
 * and `ack`. At most one checkpoint and one epoch's metrics are unacknowledged at any time, and none when `done`
 * is sent. */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/protocol.h"
#include "wasd/spec.h"
#include "wasd/train.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_US 250000
#define LOSSES_US 1000000
#define SLOW_US 1000000 /* the log mentions slower steps of the preparation */

struct attempt {
	struct engine_link *link;
	struct wasd_frame start;
	const cJSON *spec;
	struct wasd_dataset *data;
	struct wasd_payload file; /* the checkpoint to resume from or to initialise from */
	bool is_resume;
	struct wasd_trainer *trainer;
	int64_t next_progress, next_losses;
	enum wasd_train_phase phase;                     /* the last phase reported */
	struct wasd_train_point points[WASD_LOSSES_MAX]; /* not sent yet */
	int n_points;
	uint32_t metrics_seq, checkpoint_seq; /* the last ones sent, possibly not acknowledged */
};

static bool should_stop(void *ctx)
{
	const struct attempt *a = ctx;
	return engine_link_cancelled(a->link);
}

static void send_losses(struct attempt *a)
{
	if (!a->n_points)
		return;
	cJSON *list = cJSON_CreateArray();
	for (int i = 0; i < a->n_points; i++) {
		const struct wasd_train_point *p = &a->points[i];
		cJSON *row =
			cJSON_CreateDoubleArray((const double[]){(double)p->step, p->epoch, p->loss, p->lr, p->images_per_s}, 5);
		if (!cJSON_AddItemToArray(list, row))
			cJSON_Delete(row);
	}
	a->n_points = 0;
	engine_send(a->link, wasd_message("losses", "points:j", list), NULL);
}

static void on_loss(void *ctx, const struct wasd_train_point *p)
{
	struct attempt *a = ctx;
	a->points[a->n_points++] = *p;
	if (a->n_points == WASD_LOSSES_MAX)
		send_losses(a);
}

/* Starts a progress message; a change of phase is sent at once. */
static cJSON *progress_json(struct attempt *a, enum wasd_train_phase phase, uint32_t done, uint32_t total)
{
	a->phase = phase;
	a->next_progress = wasd_mono_us() + PROGRESS_US;
	const char *name = wasd_train_phase_name(phase);
	return total ? wasd_message("progress", "phase:s phase_done:i phase_total:i", name, (int64_t)done, (int64_t)total) :
	               wasd_message("progress", "phase:s", name);
}

static void on_planned(void *ctx, int done, int of)
{
	struct attempt *a = ctx;
	if (a->phase != WASD_TRAIN_PLAN || wasd_mono_us() >= a->next_progress)
		engine_send(a->link, progress_json(a, WASD_TRAIN_PLAN, (uint32_t)done, (uint32_t)of), NULL);
}

static void on_progress(void *ctx, const struct wasd_train_progress *p)
{
	struct attempt *a = ctx;
	int64_t now = wasd_mono_us();
	if (now >= a->next_losses && a->n_points) {
		send_losses(a);
		a->next_losses = now + LOSSES_US;
	}
	if (now < a->next_progress && p->phase == a->phase)
		return;
	cJSON *j = progress_json(a, p->phase, p->done, p->total);
	cJSON_AddNumberToObject(j, "epoch", p->epoch);
	cJSON_AddNumberToObject(j, "epochs", p->epochs);
	cJSON_AddNumberToObject(j, "step", p->step);
	cJSON_AddNumberToObject(j, "steps", p->steps);
	cJSON_AddNumberToObject(j, "img_per_s", p->img_per_s);
	if (p->eta_s >= 0)
		cJSON_AddNumberToObject(j, "eta_s", p->eta_s);
	if (isfinite(p->loss))
		cJSON_AddNumberToObject(j, "loss", p->loss);
	engine_send(a->link, j, NULL);
}

/* Converts numbers to a JSON object. NaN and infinite values become null and are named in nonfinite (may be NULL). */
static cJSON *values_json(const struct wasd_train_metrics *m, cJSON *nonfinite)
{
	cJSON *j = cJSON_CreateObject();
	for (int i = 0; i < m->n; i++) {
		double v = m->v[i].value;
		if (isfinite(v)) {
			cJSON_AddNumberToObject(j, m->v[i].name, v);
			continue;
		}
		cJSON_AddNullToObject(j, m->v[i].name);
		if (nonfinite)
			cJSON_AddStringToObject(nonfinite, m->v[i].name, isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
	}
	return j;
}

static enum wasd_status on_metrics(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err)
{
	struct attempt *a = ctx;
	send_losses(a);
	engine_wait_ack(a->link, a->metrics_seq);
	cJSON *nonfinite = cJSON_CreateObject(), *values = values_json(m, nonfinite);
	cJSON *j = wasd_message("metrics", "epoch:i step:i values:j nonfinite:j images:i", (int64_t)m->epoch,
	                        (int64_t)m->step, values, nonfinite, (int64_t)m->images);
	return engine_send_full(a->link, j, NULL, 0, -1, &a->metrics_seq, err);
}

static enum wasd_status on_checkpoint(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	struct attempt *a = ctx;
	char sha[WASD_SHA256_HEX];
	int fd;
	send_losses(a);
	engine_wait_ack(a->link, a->checkpoint_seq);
	enum wasd_status s = wasd_memfd_sealed("wasd-checkpoint", c->bytes, c->len, &fd, err);
	if (s)
		return s;
	wasd_sha256_of(c->bytes, c->len, sha);
	cJSON *j = wasd_message("checkpoint", "epoch:i step:i bytes:i sha256:s reason:s metrics:j info:j",
	                        (int64_t)c->epoch, (int64_t)c->step, (int64_t)c->len, sha, c->reason,
	                        values_json(&c->metrics, NULL), cJSON_Duplicate(c->info, true));
	s = engine_send_full(a->link, j, NULL, 0, fd, &a->checkpoint_seq, err);
	close(fd);
	return s;
}

static void on_log(void *ctx, const char *level, const char *text)
{
	struct attempt *a = ctx;
	engine_log(a->link, level, "%s", text);
}

static void on_warning(void *ctx, const char *code, int epoch, const char *message)
{
	struct attempt *a = ctx;
	engine_send(a->link, wasd_message("warning", "code:s epoch:i message:s", code, (int64_t)epoch, message), NULL);
}

static enum wasd_status send_started(struct attempt *a, struct wasd_err *err)
{
	struct wasd_train_info i = wasd_trainer_info(a->trainer);
	cJSON *classes = cJSON_CreateArray();
	for (int c = 0; c < wasd_dataset_classes(a->data); c++)
		cJSON_AddItemToArray(classes, cJSON_CreateString(wasd_dataset_class(a->data, c)));
	return engine_send(a->link,
	                   wasd_message("started",
	                                "params:i macs:i epochs:i steps_per_epoch:i epoch:i threads:i classes:j was:j",
	                                (int64_t)i.params, (int64_t)i.macs, (int64_t)i.epochs, (int64_t)i.steps_per_epoch,
	                                (int64_t)i.first_epoch, (int64_t)wasd_threads(), classes,
	                                cJSON_Duplicate(i.was, true)),
	                   err);
}

/* ---- start ------------------------------------------------------------------------------------------------- */

/* Maps the checkpoint that came with `start`, if any, and compares its digest. */
static enum wasd_status open_file(struct attempt *a, struct wasd_err *err)
{
	if (a->start.fd < 0)
		return WASD_OK;
	a->is_resume = cJSON_IsObject(wasd_json_get(a->start.json, "resume"));
	enum wasd_status s = wasd_frame_payload(&a->start, &a->file, err);
	return s ? s :
	           engine_check_digest(a->file.data, a->file.len, engine_need_string(a->start.json, "sha256"),
	                               "checkpoint to start from", err);
}

static int64_t memory_mb(const struct attempt *a)
{
	return (int64_t)wasd_spec_number(a->spec, "/limits/memory_mb");
}

static void say_slow(const struct attempt *a, const char *what, int64_t begun)
{
	int64_t took = wasd_mono_us() - begun;
	if (took >= SLOW_US)
		engine_log(a->link, "info", "%s took %.1f s", what, (double)took * 1e-6);
}

/* A run that goes on keeps its threads, so that its losses are those of an uninterrupted one, bit for bit. */
static int threads_of(const struct attempt *a, int given)
{
	int before = a->is_resume ? wasd_train_threads(a->file.data, a->file.len) : 0;
	if (before && before != given)
		engine_log(a->link, "info", "goes on with %d threads as before; its share is %d now", before, given);
	return before ? before : given;
}

static enum wasd_status prepare(struct attempt *a, struct wasd_err *err)
{
	const char *path = engine_need_string(a->start.json, "dataset");
	int64_t threads = 0, until = 0;
	enum wasd_status s;
	a->spec = wasd_json_get(a->start.json, "spec");
	wasd_json_i64(a->start.json, "threads", &threads);
	wasd_json_i64(a->start.json, "until", &until);
	engine_be_nice(a->start.json);
	int64_t begun = wasd_mono_us();
	engine_send(a->link, progress_json(a, WASD_TRAIN_LOAD, 0, 0), NULL);
	/* A control group with the limit has been set up already. */
	bool limited = cJSON_IsTrue(wasd_json_get(a->start.json, "cgroup"));
	if ((s = engine_limit_memory(limited ? 0 : memory_mb(a), err)) || (s = wasd_dataset_open(path, &a->data, err)) ||
	    (s = wasd_train_select(a->data, a->spec, err)) || (s = open_file(a, err)) ||
	    (s = wasd_threads_init(threads_of(a, (int)threads), err)))
		return s;
	say_slow(a, "loading data", begun);
	struct wasd_train_opts o = {.spec = a->spec, .data = a->data, .until = (int)until, .planned = on_planned, .ctx = a};
	if (a->is_resume) {
		o.resume = a->file.data;
		o.resume_len = a->file.len;
	} else if (a->file.data) {
		o.init = a->file.data;
		o.init_len = a->file.len;
	}
	begun = wasd_mono_us();
	s = wasd_trainer_create(&o, &a->trainer, err);
	if (!s)
		say_slow(a, "measuring algorithms", begun);
	return s;
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

static const char *failure_reason(const struct attempt *a, enum wasd_status s)
{
	if (s == WASD_ENUMERIC)
		return "nan_loss";
	if (s == WASD_ENOMEM)
		return "oom";
	return a->data ? "error" : "bad_data";
}

/* An allocation that the limit has refused does not say so itself. */
static void name_limit(const struct attempt *a, struct wasd_err *e)
{
	int64_t mb = memory_mb(a);
	size_t n = strlen(e->msg);
	if (e->status == WASD_ENOMEM && mb > 0 && !strstr(e->msg, "limits.memory_mb"))
		wasd_line(e->msg + n, sizeof e->msg - n, "; limits.memory_mb is %lld", (long long)mb);
}

static void send_failed(struct attempt *a, struct wasd_err *e)
{
	name_limit(a, e);
	engine_send(a->link,
	            wasd_message("failed", "reason:s status:s pointer:s message:s", failure_reason(a, e->status),
	                         wasd_status_name(e->status), e->pointer, e->msg),
	            NULL);
}

static void send_done(struct attempt *a, enum wasd_train_end end, int epoch)
{
	engine_send(a->link, wasd_message("done", "reason:s epoch:i", wasd_train_end_name(end), (int64_t)epoch), NULL);
}

int cmd_train(int argc, char **argv)
{
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n",
		        argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	struct attempt a = {.start.fd = -1};
	struct wasd_err err = {0};
	enum wasd_train_end end;
	int epoch;
	if (engine_link_open(WASD_ROLE_TRAIN, &a.link, &err)) {
		fprintf(stderr, "wasd-engine train: %s\n", err.msg);
		return 1;
	}
	engine_link_next(a.link, &a.start, NULL);
	if (strcmp(a.start.type, "start"))
		engine_protocol_error("first message is '%s', want 'start'", a.start.type);
	struct wasd_train_hooks hooks = {&a,     should_stop, on_progress, on_metrics, on_checkpoint,
	                                 on_log, on_warning,  on_loss};
	enum wasd_status s = prepare(&a, &err);
	if (!s)
		s = send_started(&a, &err);
	if (!s)
		s = wasd_trainer_run(a.trainer, &hooks, &end, &epoch, &err);
	send_losses(&a);
	engine_wait_ack(a.link, a.metrics_seq);
	engine_wait_ack(a.link, a.checkpoint_seq);
	if (s)
		send_failed(&a, &err);
	else
		send_done(&a, end, epoch);
	wasd_trainer_destroy(a.trainer);
	wasd_dataset_close(a.data);
	wasd_payload_done(&a.file);
	wasd_frame_done(&a.start);
	engine_link_close(a.link);
	wasd_threads_done();
	return 0;
}
