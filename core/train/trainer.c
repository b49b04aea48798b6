/* train/trainer.c - one training run.
 *
 *                 last batch            batches done          both modes measured
 *     TRAINING ──────────────▶ CALIBRATING ────────▶ EVALUATING ────────▶ CLOSING ──▶ TRAINING (next epoch)
 *        │  │                      │                     │                   │   └────▶ COMPLETED (last epoch, or early stop)
 *        │  └─ loss not finite     └─────────┬───────────┘                   │
 *        ▼        ▼                          ▼ should_stop()                 └ a hook failed ─▶ FAILED
 *     STOPPED   FAILED                    STOPPED
 *
 * The position is (epoch, next): `next` training batches of epoch `epoch` (from 0) are behind us. Everything else follows from it:
 * step = epoch * batches + next, the learning rate, what the loader gives, which state a resumed run starts in.
 *
 * Invariants
 *   - next < batches in TRAINING; next == batches in CALIBRATING, EVALUATING; CLOSING ends with (epoch + 1, 0).
 *   - A checkpoint is written between two batches only, and holds all that the later ones depend on: weights, optimizer state, the
 *     running statistics, both generators, position, the epoch's sums so far, best values. Hence a run that was cut anywhere goes
 *     on with equal bits. Calibration and evaluation change nothing that training reads, and start over when cut.
 *   - A step allocates nothing. Forward never changes master weights; only the optimizer does.
 *   - The recorded DOM draw is made once, from stream "dom" of the seed, and travels in every checkpoint.
 *
 * Transitions: train_epoch, calibrate, evaluate, close_epoch; stop() and the loop in wasd_trainer_run. */
#include "wasd/train.h"
#include "wasd/data.h"
#include "wasd/model.h"
#include "wasd/optim.h"
#include "wasd/weights.h"
#include "train/checkpoint.h"
#include "train/fingerprint.h"
#include "train/measure.h"
#include "train/spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum trainer_state { TRAINING, CALIBRATING, EVALUATING, CLOSING, COMPLETED, STOPPED };

#define METRICS_MAX 24

struct wasd_trainer {
	enum trainer_state state;
	struct train_spec spec;
	const cJSON *spec_json;
	const struct wasd_dataset *data;
	const char **class_names;

	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_exec *exec, *eval_exec;
	struct wasd_was *was;                      /* NULL: plain weights */
	cJSON *was_json;                           /* object or false */
	bool draw_per_epoch;
	struct wasd_draw draw, dom;
	cJSON *dom_json, *info, *fingerprint;
	struct wasd_optim *optim;
	struct wasd_schedule schedule;
	struct wasd_loader *train, *calib, *test;  /* test NULL: the set has no test images */
	uint32_t *subset;
	bool has_batchnorm;

	/* position and what travels with it */
	int epoch;
	uint32_t next, batches;
	struct wasd_rng rng_was, rng_was_before /* this epoch's draw */, rng_dropout;
	double loss_sum;
	uint64_t hits, seen;
	double best, stop_best;                    /* NaN: none yet */
	int stop_bad;                              /* evaluations since stop_best */
	bool measured[WASD_STATS_SETS];            /* the set has been written by a calibration */

	/* this attempt only */
	const struct wasd_train_hooks *hooks;
	double lr;
	int64_t epoch_us, train_us;                /* when the epoch began here; training time of the epoch */
	uint64_t trained, stalled_us;              /* images trained and stall since then */
	double step_us, close_us;                  /* averages for the ETA: one batch; the end of an epoch */
	uint64_t phase_ns[WASD_PHASES];
	char phase_names[WASD_PHASES][40];
	struct wasd_metric metric[METRICS_MAX];
	int n_metrics;
	bool improved;
	char differs[32];                          /* resumed, and this member of the fingerprint is another one */
};

const char *wasd_train_phase_name(enum wasd_train_phase p)
{
	static const char *const names[] = {"train", "calibrate", "eval", "checkpoint"};
	return names[p];
}

const char *wasd_train_end_name(enum wasd_train_end e)
{
	static const char *const names[] = {"done", "early_stopped", "cancelled"};
	return names[e];
}

static uint64_t step_of(const struct wasd_trainer *t)
{
	return (uint64_t)t->epoch * t->batches + t->next;
}

/* From 1: the epoch that is being trained or was trained last. */
static int begun_epoch(const struct wasd_trainer *t)
{
	return t->epoch + (t->next > 0 || !t->epoch);
}

/* ---- hooks ------------------------------------------------------------------------------------------- */

static bool should_stop(const struct wasd_trainer *t)
{
	return t->hooks->should_stop && t->hooks->should_stop(t->hooks->ctx);
}

static void say(const struct wasd_trainer *t, const char *level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(const struct wasd_trainer *t, const char *level, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	if (!t->hooks->log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	t->hooks->log(t->hooks->ctx, level, text);
}

static double eta(const struct wasd_trainer *t)
{
	if (t->step_us <= 0)
		return -1;
	double batches = (double)t->spec.epochs * t->batches - (double)step_of(t);
	int closes = t->spec.epochs - t->epoch;
	return (batches * t->step_us + closes * t->close_us) * 1e-6;
}

static void report_progress(const struct wasd_trainer *t, enum wasd_train_phase phase, uint32_t step, uint32_t steps)
{
	if (!t->hooks->progress)
		return;
	struct wasd_train_progress p = {
		.epoch = t->epoch + 1, .epochs = t->spec.epochs, .step = step, .steps = steps, .phase = phase,
		.img_per_s = t->train_us ? (double)t->trained * 1e6 / (double)t->train_us : 0,
		.eta_s = eta(t), .loss = t->seen ? t->loss_sum / (double)t->seen : 0,
	};
	t->hooks->progress(t->hooks->ctx, &p);
}

/* ---- building ------------------------------------------------------------------------------------------ */

static enum wasd_status create_graph(struct wasd_trainer *t, struct wasd_err *err)
{
	int classes = wasd_dataset_classes(t->data);
	enum wasd_status s = wasd_arch_build(t->spec.arch, wasd_dataset_shape(t->data), classes, t->spec.model, &t->graph, err);
	if (s)
		return s;
	t->class_names = wasd_calloc((size_t)classes, sizeof *t->class_names);
	if (!t->class_names)
		return wasd_fail(err, WASD_ENOMEM, "class names");
	for (int i = 0; i < classes; i++)
		t->class_names[i] = wasd_dataset_class(t->data, i);
	/* Spare statistics belong to no node: a network may have those and no batch normalisation (VGG-16). */
	for (wasd_node n = 0; n < wasd_graph_nodes(t->graph); n++)
		for (int i = 0; i < wasd_graph_stats(t->graph); i++)
			t->has_batchnorm |= !strcmp(wasd_graph_node_info(t->graph, n).name, wasd_graph_stats_info(t->graph, i).name);
	return WASD_OK;
}

/* The strategy, the buffers of both draws, and the recorded one. */
static enum wasd_status create_was(struct wasd_trainer *t, struct wasd_err *err)
{
	const char *paper;
	enum wasd_status s = wasd_arch_paper_was(t->spec.arch, t->spec.model, &paper, err);
	if (s)
		return s;
	if ((s = wasd_was_create(t->graph, t->spec.was, paper, &t->was, err)))
		return s;
	if (!t->was) {
		t->was_json = cJSON_CreateFalse();
		t->dom_json = cJSON_CreateNull();
		return t->was_json && t->dom_json ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "trainer");
	}
	t->draw_per_epoch = wasd_was_per_epoch(t->was);
	struct wasd_rng r;
	wasd_rng_init(&r, t->spec.seed, "dom", 0, 0);
	if ((s = wasd_was_draw(t->was, &r, &t->dom, err)))
		return s;
	if ((s = wasd_was_draw(t->was, &r, &t->draw, err)))      /* sizes the buffer, so that no step does */
		return s;
	t->was_json = wasd_was_to_json(t->was);
	t->dom_json = wasd_draw_to_json(&t->dom, t->graph);
	return t->was_json && t->dom_json ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "trainer");
}

static enum wasd_status create_values(struct wasd_trainer *t, const char *backend, struct wasd_err *err)
{
	struct wasd_exec_opts train = {.batch = t->spec.batch, .training = true, .strict = t->spec.strict, .backend = backend};
	struct wasd_exec_opts eval = {.batch = t->spec.batch, .strict = t->spec.strict, .backend = backend};
	enum wasd_status s;
	if ((s = wasd_model_create(t->graph, t->spec.seed, &t->model, err)) || (s = wasd_exec_create(t->model, &train, &t->exec, err)) ||
	    (s = wasd_exec_create(t->model, &eval, &t->eval_exec, err)) ||
	    (s = wasd_optim_create(t->spec.optimizer, wasd_graph_param_count(t->graph), &t->optim, err)) ||
	    (s = wasd_schedule_init(&t->schedule, t->spec.schedule, err)))
		return s;
	size_t planned = wasd_trainer_info(t).planned_bytes;
	if (t->spec.memory_bytes && planned > t->spec.memory_bytes)
		return wasd_fail_at(err, WASD_ENOMEM, "/limits/memory_mb", "%s with batch %d needs %zu MiB, limits.memory_mb is %zu", t->spec.arch,
		                    t->spec.batch, (planned >> 20) + 1, t->spec.memory_bytes >> 20);
	return WASD_OK;
}

static enum wasd_status create_loaders(struct wasd_trainer *t, struct wasd_err *err)
{
	size_t images = wasd_dataset_count(t->data, WASD_TRAIN), n_subset;
	if (!images)
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "the dataset has no training images");
	enum wasd_status s = measure_subset(images, t->spec.batch, t->spec.seed, &t->subset, &n_subset, err);
	if (s)
		return s;
	struct wasd_loader_opts train = {.data = t->data, .split = WASD_TRAIN, .batch = t->spec.batch, .shuffle = true, .flip = t->spec.flip,
	                                 .crop_pad = t->spec.crop_pad, .seed = t->spec.seed, .prefetch = true};
	struct wasd_loader_opts calib = {.data = t->data, .split = WASD_TRAIN, .subset = t->subset, .n_subset = n_subset,
	                                 .batch = t->spec.batch, .prefetch = true};
	struct wasd_loader_opts test = {.data = t->data, .split = WASD_TEST, .batch = t->spec.batch, .prefetch = true};
	if ((s = wasd_loader_create(&train, &t->train, err)) || (s = wasd_loader_create(&calib, &t->calib, err)))
		return s;
	if (wasd_dataset_count(t->data, WASD_TEST))
		s = wasd_loader_create(&test, &t->test, err);
	t->batches = wasd_loader_batches(t->train);
	return s;
}

/* A goal must name a number that this run will have. */
static enum wasd_status check_goal(const struct wasd_trainer *t, const char *metric, const char *pointer, struct wasd_err *err)
{
	bool val = !strncmp(metric, "val_", 4), dom = strstr(metric, "_dom") != NULL;
	if (val && !t->test)
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: the dataset has no test images", metric);
	if (val && dom && !t->was)
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: a run without WAS has no DOM mode", metric);
	if (val && !(dom ? t->spec.eval_dom : t->spec.eval_aom))
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: eval.modes leaves it out", metric);
	return WASD_OK;
}

static enum wasd_status check_goals(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (t->spec.early_stop)
		s = check_goal(t, t->spec.stop_metric, "/train/early_stop/metric", err);
	/* A run that cannot be ranked this way is still a run: it has no best checkpoint. */
	if (check_goal(t, t->spec.best_metric, "", NULL))
		t->spec.keep_best = false;
	return s;
}

/* cJSON says nothing when memory ends between two members: j if it has all of them, else NULL. */
static cJSON *complete(cJSON *j, int members)
{
	if (j && cJSON_GetArraySize(j) == members)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static cJSON *make_info(const struct wasd_trainer *t)
{
	struct wasd_shape in = wasd_graph_input_shape(t->graph);
	struct wasd_train_info i = wasd_trainer_info(t);
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "arch", t->spec.arch);
	cJSON_AddItemToObject(j, "classes", cJSON_CreateStringArray((const char *const *)t->class_names, wasd_graph_classes(t->graph)));
	cJSON_AddItemToObject(j, "input", cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3));
	cJSON_AddItemToObject(j, "was", cJSON_Duplicate(t->was_json, true));
	cJSON_AddItemToObject(j, "draw", cJSON_Duplicate(t->dom_json, true));
	cJSON *macs = cJSON_AddObjectToObject(j, "macs");
	cJSON_AddNumberToObject(macs, "aom", (double)i.macs_aom);
	if (t->was)
		cJSON_AddNumberToObject(macs, "dom", (double)i.macs_dom);
	return complete(j, cJSON_GetArraySize(macs) == 1 + (t->was != NULL) ? 6 : 0);
}

/* ---- saving and resuming --------------------------------------------------------------------------------- */

static void add_number(cJSON *j, const char *key, double v)
{
	if (isfinite(v))
		cJSON_AddNumberToObject(j, key, v);
	else
		cJSON_AddNullToObject(j, key);
}

static cJSON *progress_json(const struct wasd_trainer *t)
{
	cJSON *j = cJSON_CreateObject(), *metrics;
	cJSON_AddNumberToObject(j, "epoch", t->epoch);
	cJSON_AddNumberToObject(j, "next_batch", t->next);
	cJSON_AddNumberToObject(j, "step", (double)step_of(t));
	cJSON_AddNumberToObject(j, "loss_sum", t->loss_sum);
	cJSON_AddNumberToObject(j, "hits", (double)t->hits);
	cJSON_AddNumberToObject(j, "seen", (double)t->seen);
	cJSON_AddNumberToObject(j, "lr", t->lr);
	add_number(j, "best", t->best);
	add_number(j, "stop_best", t->stop_best);
	cJSON_AddNumberToObject(j, "stop_bad", t->stop_bad);
	cJSON_AddBoolToObject(j, "measured_aom", t->measured[WASD_STATS_AOM]);
	cJSON_AddBoolToObject(j, "measured_dom", t->measured[WASD_STATS_DOM]);
	metrics = cJSON_AddObjectToObject(j, "metrics");
	for (int i = 0; i < t->n_metrics; i++)
		add_number(metrics, t->metric[i].name, t->metric[i].value);
	return complete(j, cJSON_GetArraySize(metrics) == t->n_metrics ? 13 : 0);
}

static enum wasd_status check_finite(const struct wasd_trainer *t, struct wasd_err *err)
{
	const real *w = wasd_model_master(t->model);
	for (int i = 0; i < wasd_graph_params(t->graph); i++) {
		struct wasd_param_info p = wasd_graph_param_info(t->graph, i);
		for (size_t k = 0; k < p.count; k++)
			if (!isfinite(w[p.offset + k]))
				return wasd_fail(err, WASD_ENUMERIC, "%s: element %zu became %g in step %llu", p.name, k, (double)w[p.offset + k],
				                 (unsigned long long)step_of(t));
	}
	return WASD_OK;
}

static enum wasd_status save(struct wasd_trainer *t, const char *reason, struct wasd_err *err)
{
	if (!t->hooks->checkpoint)
		return WASD_OK;
	enum wasd_status s = check_finite(t, err);
	if (s)
		return s;
	report_progress(t, WASD_TRAIN_CHECKPOINT, 0, 1);
	/* Draw per epoch: inside an epoch the state before its draw is kept, and resuming draws again. */
	const struct wasd_rng *rng = t->draw_per_epoch && t->next ? &t->rng_was_before : &t->rng_was;
	real *aom = wasd_model_stats(t->model, t->was ? WASD_STATS_AOM : WASD_STATS_TRAIN);     /* see calibrate() */
	struct checkpoint_source src = {
		.graph = t->graph, .master = wasd_model_master(t->model),
		.stats = {[WASD_STATS_AOM] = aom, [WASD_STATS_TRAIN] = wasd_model_stats(t->model, WASD_STATS_TRAIN),
		          [WASD_STATS_DOM] = t->was ? wasd_model_stats(t->model, WASD_STATS_DOM) : NULL},
		.words = {{"rng.was", rng->s, 4}, {"rng.dropout", t->rng_dropout.s, 4}},
		.arch = t->spec.arch, .dataset_digest = wasd_dataset_digest(t->data), .class_names = t->class_names,
		.spec = t->spec_json, .was = t->was_json, .draw = t->dom_json, .fingerprint = t->fingerprint,
	};
	for (int i = 0; i < CHECKPOINT_STATES - 1; i++) {
		const char *name;
		real *block = wasd_optim_state(t->optim, i, &name);
		if (!block)
			break;
		src.optim[i].name = name;
		src.optim[i].block = block;
	}
	cJSON *progress = progress_json(t);
	void *bytes = NULL;
	size_t len = 0;
	if (!(src.progress = progress))
		s = wasd_fail(err, WASD_ENOMEM, "checkpoint");
	else
		s = checkpoint_write(&src, &bytes, &len, err);
	if (!s) {
		struct wasd_train_checkpoint c = {
			.epoch = begun_epoch(t), .step = step_of(t), .reason = reason, .bytes = bytes, .len = len, .info = t->info,
			.metrics = {.epoch = t->epoch, .step = step_of(t), .n = t->next ? 0 : t->n_metrics, .v = t->metric},
		};
		s = t->hooks->checkpoint(t->hooks->ctx, &c, err);
	}
	cJSON_Delete(progress);
	wasd_free(bytes);
	return s;
}

static enum wasd_status bad_progress(const char *key, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_ECORRUPT, "progress", "checkpoint: progress lacks a sound \"%s\"", key);
}

static enum wasd_status read_progress(struct wasd_trainer *t, const cJSON *j, struct wasd_err *err)
{
	int64_t epoch, next, hits, seen, bad;
	double v;
	if (!wasd_json_i64(j, "epoch", &epoch) || epoch < 0 || epoch > t->spec.epochs)
		return bad_progress("epoch", err);
	if (!wasd_json_i64(j, "next_batch", &next) || next < 0 || next > t->batches)
		return bad_progress("next_batch", err);
	if (!wasd_json_i64(j, "hits", &hits) || !wasd_json_i64(j, "seen", &seen) || hits < 0 || hits > seen)
		return bad_progress("hits", err);
	if (!wasd_json_i64(j, "stop_bad", &bad) || bad < 0 || bad > INT32_MAX)
		return bad_progress("stop_bad", err);
	if (!wasd_json_num(j, "loss_sum", &t->loss_sum))
		return bad_progress("loss_sum", err);
	t->epoch = (int)epoch;
	t->next = (uint32_t)next;
	t->hits = (uint64_t)hits;
	t->seen = (uint64_t)seen;
	t->stop_bad = (int)bad;
	t->best = wasd_json_num(j, "best", &v) ? v : NAN;
	t->stop_best = wasd_json_num(j, "stop_best", &v) ? v : NAN;
	t->lr = wasd_json_num(j, "lr", &v) ? v : 0;
	if (!wasd_json_bool(j, "measured_aom", &t->measured[WASD_STATS_AOM]) || !wasd_json_bool(j, "measured_dom", &t->measured[WASD_STATS_DOM]))
		return bad_progress("measured_aom", err);
	return WASD_OK;
}

/* The file belongs to this run: same network, data and every setting that the numbers depend on. */
static enum wasd_status check_identity(const struct wasd_trainer *t, const struct checkpoint *c, struct wasd_err *err)
{
	static const char *const parts[] = {"model", "was", "train"};
	if (strcmp(c->arch, t->spec.arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "checkpoint of a %.40s, the job trains a %s", c->arch, t->spec.arch);
	if (strcmp(c->dataset_digest, wasd_dataset_digest(t->data)))
		return wasd_fail_at(err, WASD_ECORRUPT, "dataset_digest", "checkpoint of a run on other data: digest %.16s..., here %.16s...",
		                    c->dataset_digest, wasd_dataset_digest(t->data));
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		const cJSON *a = wasd_json_get(c->spec, parts[i]), *b = wasd_json_get(t->spec_json, parts[i]);
		if ((a || b) && !cJSON_Compare(a, b, true))
			return wasd_fail_at(err, WASD_ECORRUPT, "spec", "checkpoint of another job spec: /%s differs", parts[i]);
	}
	return WASD_OK;
}

static enum wasd_status resume(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err)
{
	struct checkpoint c = {0};
	bool present;
	enum wasd_status s = checkpoint_open(bytes, len, &c, err);
	if (s || (s = check_identity(t, &c, err)) || (s = checkpoint_check_names(&c, t->graph, err)) ||
	    (s = checkpoint_load_params(&c, t->graph, "", wasd_model_master(t->model), err)))
		goto end;
	for (int set = 0; set < WASD_STATS_SETS; set++) {
		if ((s = checkpoint_load_stats(&c, t->graph, set, wasd_model_stats(t->model, set), &present, err)))
			goto end;
		if (!present && (set != WASD_STATS_DOM || t->was)) {
			s = wasd_fail_at(err, WASD_ECORRUPT, "", "checkpoint: BatchNorm statistics of one mode are missing");
			goto end;
		}
	}
	const char *name;
	real *block;
	for (int i = 0; (block = wasd_optim_state(t->optim, i, &name)); i++) {
		char prefix[64];
		snprintf(prefix, sizeof prefix, "optim.%s.", name);
		if ((s = checkpoint_load_params(&c, t->graph, prefix, block, err)))
			goto end;
	}
	if ((s = checkpoint_load_u64(&c, "state.rng.was", t->rng_was.s, 4, err)) ||
	    (s = checkpoint_load_u64(&c, "state.rng.dropout", t->rng_dropout.s, 4, err)) || (s = read_progress(t, c.progress, err)))
		goto end;
	if (t->was) {
		struct wasd_draw recorded = {0};
		if ((s = wasd_draw_from_json(c.draw, t->graph, &recorded, err)))
			goto end;
		wasd_draw_done(&t->dom);
		t->dom = recorded;
		cJSON_Delete(t->dom_json);
		t->dom_json = c.draw;
		c.draw = NULL;
		if (t->draw_per_epoch && t->next) {
			t->rng_was_before = t->rng_was;
			if ((s = wasd_was_draw(t->was, &t->rng_was, &t->draw, err)))
				goto end;
		}
	}
	if ((name = train_fingerprint_diff(t->fingerprint, c.fingerprint)))
		snprintf(t->differs, sizeof t->differs, "%s", name);
	wasd_optim_set_steps(t->optim, step_of(t));
	t->state = t->next == t->batches ? CALIBRATING : TRAINING;
end:
	checkpoint_done(&c);
	return s;
}

/* Weights of another run as the start of this one: parameters and the statistics that training updates. */
static enum wasd_status start_from(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err)
{
	struct checkpoint c = {0};
	bool present;
	enum wasd_status s = checkpoint_open(bytes, len, &c, err);
	if (!s && strcmp(c.arch, t->spec.arch))
		s = wasd_fail_at(err, WASD_EINVAL, "/init_from", "the weights are of a %.40s, the job trains a %s", c.arch, t->spec.arch);
	if (!s)
		s = checkpoint_check_names(&c, t->graph, err);
	if (!s)
		s = checkpoint_load_params(&c, t->graph, "", wasd_model_master(t->model), err);
	if (!s)
		s = checkpoint_load_stats(&c, t->graph, WASD_STATS_TRAIN, wasd_model_stats(t->model, WASD_STATS_TRAIN), &present, err);
	checkpoint_done(&c);
	return s;
}

enum wasd_status wasd_trainer_create(const struct wasd_train_opts *o, struct wasd_trainer **out, struct wasd_err *err)
{
	struct wasd_trainer *t = wasd_calloc(1, sizeof *t);
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	t->spec_json = o->spec;
	t->data = o->data;
	t->best = t->stop_best = NAN;
	enum wasd_status s;
	if ((s = train_spec_read(o->spec, &t->spec, err)) || (s = create_graph(t, err)) || (s = create_was(t, err)) ||
	    (s = create_values(t, o->backend, err)) || (s = create_loaders(t, err)) || (s = check_goals(t, err)))
		goto fail;
	t->measured[WASD_STATS_AOM] = t->measured[WASD_STATS_DOM] = !t->was || !t->has_batchnorm;
	wasd_rng_init(&t->rng_was, t->spec.seed, "was", 0, 0);
	wasd_rng_init(&t->rng_dropout, t->spec.seed, "dropout", 0, 0);
	for (int i = 0; i < WASD_PHASES; i++)
		snprintf(t->phase_names[i], sizeof t->phase_names[i], "%s_s", wasd_phase_name(i));
	if (!(t->fingerprint = wasd_fingerprint()))
		s = wasd_fail(err, WASD_ENOMEM, "trainer");
	else if (o->resume)
		s = resume(t, o->resume, o->resume_len, err);
	else if (o->init)
		s = start_from(t, o->init, o->init_len, err);
	if (s)
		goto fail;
	t->info = make_info(t);
	if (!t->info) {
		s = wasd_fail(err, WASD_ENOMEM, "trainer");
		goto fail;
	}
	if (t->next < t->batches)
		wasd_loader_seek(t->train, (uint64_t)t->epoch, t->next);
	else
		wasd_loader_seek(t->train, (uint64_t)t->epoch + 1, 0);
	*out = t;
	return WASD_OK;
fail:
	wasd_trainer_destroy(t);
	return s;
}

void wasd_trainer_destroy(struct wasd_trainer *t)
{
	if (!t)
		return;
	wasd_loader_destroy(t->train);
	wasd_loader_destroy(t->calib);
	wasd_loader_destroy(t->test);
	wasd_optim_destroy(t->optim);
	wasd_exec_destroy(t->exec);
	wasd_exec_destroy(t->eval_exec);
	wasd_model_destroy(t->model);
	wasd_draw_done(&t->draw);
	wasd_draw_done(&t->dom);
	wasd_was_destroy(t->was);
	wasd_graph_destroy(t->graph);
	cJSON_Delete(t->was_json);
	cJSON_Delete(t->dom_json);
	cJSON_Delete(t->info);
	cJSON_Delete(t->fingerprint);
	wasd_free(t->subset);
	wasd_free(t->class_names);
	wasd_free(t);
}

struct wasd_train_info wasd_trainer_info(const struct wasd_trainer *t)
{
	size_t params = wasd_graph_param_count(t->graph), blocks = 2;
	const char *name;
	while (t->optim && wasd_optim_state(t->optim, (int)blocks - 2, &name))
		blocks++;
	return (struct wasd_train_info){
		.params = params, .macs_aom = wasd_graph_macs(t->graph, NULL), .macs_dom = t->was ? wasd_graph_macs(t->graph, &t->dom) : 0,
		.epochs = t->spec.epochs, .first_epoch = t->epoch + 1, .steps_per_epoch = t->batches,
		.planned_bytes = wasd_exec_bytes(t->exec) + wasd_exec_bytes(t->eval_exec) + blocks * params * sizeof(real), .was = t->was_json,
	};
}

struct wasd_model *wasd_trainer_model(struct wasd_trainer *t)
{
	return t->model;
}

/* ---- running ----------------------------------------------------------------------------------------------- */

static enum wasd_status train_step(struct wasd_trainer *t, struct wasd_err *err)
{
	const struct wasd_batch *b = wasd_loader_next(t->train);
	struct wasd_pass pass = {.n = b->n, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN, .update = true, .dropout = &t->rng_dropout};
	enum wasd_status s = WASD_OK;
	double loss;
	int hits;
	if (t->was) {
		if (!t->draw_per_epoch || !t->next) {
			t->rng_was_before = t->rng_was;
			s = wasd_was_draw(t->was, &t->rng_was, &t->draw, err);
		}
		pass.draw = &t->draw;
	}
	wasd_model_grad_zero(t->model);
	if (s || (s = wasd_exec_forward(t->exec, b->x, &pass, err)))
		return s;
	s = wasd_exec_loss(t->exec, b->y, t->spec.label_smoothing, &loss, &hits, err);
	if (s == WASD_ENUMERIC || (!s && !isfinite(loss)))
		return wasd_fail(err, WASD_ENUMERIC, "the loss is no number in epoch %d, step %llu", t->epoch + 1, (unsigned long long)step_of(t) + 1);
	if (s || (s = wasd_exec_backward(t->exec, err)))
		return s;
	t->lr = wasd_schedule_lr(&t->schedule, wasd_optim_lr(t->optim), step_of(t), t->batches, t->spec.epochs);
	wasd_optim_step(t->optim, wasd_model_master(t->model), wasd_model_grad(t->model), t->lr);
	t->loss_sum += loss * b->n;
	t->hits += (uint64_t)hits;
	t->seen += (uint64_t)b->n;
	t->trained += (uint64_t)b->n;
	t->next++;
	return WASD_OK;
}

static enum wasd_status stop(struct wasd_trainer *t, struct wasd_err *err)
{
	t->state = STOPPED;
	return save(t, "cancel", err);
}

/* TRAINING -> CALIBRATING | STOPPED */
static enum wasd_status train_epoch(struct wasd_trainer *t, struct wasd_err *err)
{
	uint64_t ns[WASD_PHASES], stalled = wasd_loader_stall_us(t->train);
	int64_t begin = wasd_mono_us();
	t->epoch_us = begin;
	t->train_us = 0;
	t->trained = 0;
	wasd_exec_profile(t->exec, ns, true);
	while (t->next < t->batches) {
		if (should_stop(t))
			return stop(t, err);
		int64_t before = wasd_mono_us();
		enum wasd_status s = train_step(t, err);
		if (s)
			return s;
		int64_t now = wasd_mono_us();
		t->step_us = t->step_us > 0 ? 0.95 * t->step_us + 0.05 * (double)(now - before) : (double)(now - before);
		t->train_us = now - begin;
		report_progress(t, WASD_TRAIN_STEP, t->next, t->batches);
	}
	t->stalled_us = wasd_loader_stall_us(t->train) - stalled;
	wasd_exec_profile(t->exec, t->phase_ns, true);
	t->state = CALIBRATING;
	return WASD_OK;
}

static bool is_due(const struct wasd_trainer *t, int every)
{
	return t->epoch + 1 == t->spec.epochs || (every && (t->epoch + 1) % every == 0);
}

struct tick_ctx { struct wasd_trainer *t; enum wasd_train_phase phase; };

static bool tick(void *ctx, uint32_t done, uint32_t of)
{
	struct tick_ctx *c = ctx;
	report_progress(c->t, c->phase, done, of);
	return !should_stop(c->t);
}

static enum wasd_status calibrate_set(struct wasd_trainer *t, const struct wasd_draw *draw, enum wasd_stats_set set, struct wasd_err *err)
{
	struct tick_ctx c = {t, WASD_TRAIN_CALIBRATE};
	enum wasd_status s = measure_statistics(t->exec, t->calib, draw, set, (struct measure_tick){tick, &c}, err);
	if (!s)
		t->measured[set] = true;
	return s;
}

/* CALIBRATING -> EVALUATING | STOPPED. Without WAS the training statistics are AOM's own; without BatchNorm there is nothing to measure. */
static enum wasd_status calibrate(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (!t->was)
		memcpy(wasd_model_stats(t->model, WASD_STATS_AOM), wasd_model_stats(t->model, WASD_STATS_TRAIN),
		       wasd_graph_stats_count(t->graph) * sizeof(real));
	if (t->was && t->has_batchnorm && (is_due(t, t->spec.eval_every) || is_due(t, t->spec.checkpoint_every))) {
		s = calibrate_set(t, NULL, WASD_STATS_AOM, err);
		if (!s)
			s = calibrate_set(t, &t->dom, WASD_STATS_DOM, err);
	}
	if (s == WASD_ECANCELLED)
		return stop(t, err);
	t->state = EVALUATING;
	return s;
}

static void add_metric(struct wasd_trainer *t, const char *name, double value)
{
	t->metric[t->n_metrics++] = (struct wasd_metric){name, value};
}

static double metric_value(const struct wasd_trainer *t, const char *name)
{
	for (int i = 0; i < t->n_metrics; i++)
		if (!strcmp(t->metric[i].name, name))
			return t->metric[i].value;
	return NAN;
}

static enum wasd_status evaluate_mode(struct wasd_trainer *t, const struct wasd_draw *draw, enum wasd_stats_set set, const char *loss_name,
                                      const char *acc_name, struct wasd_err *err)
{
	struct tick_ctx c = {t, WASD_TRAIN_EVAL};
	double loss, acc;
	enum wasd_status s = measure_accuracy(t->eval_exec, t->test, draw, set, (struct measure_tick){tick, &c}, &loss, &acc, err);
	if (s)
		return s;
	add_metric(t, loss_name, loss);
	add_metric(t, acc_name, acc);
	return WASD_OK;
}

/* EVALUATING -> CLOSING | STOPPED */
static enum wasd_status evaluate(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	bool due = t->test && is_due(t, t->spec.eval_every);
	t->n_metrics = 0;
	add_metric(t, "train_loss", t->loss_sum / (double)t->seen);
	add_metric(t, "train_acc", (double)t->hits / (double)t->seen);
	if (due && t->spec.eval_aom)
		s = evaluate_mode(t, NULL, WASD_STATS_AOM, "val_loss_aom", "val_acc_aom", err);
	if (!s && due && t->was && t->spec.eval_dom)
		s = evaluate_mode(t, &t->dom, WASD_STATS_DOM, "val_loss_dom", "val_acc_dom", err);
	if (s == WASD_ECANCELLED)
		return stop(t, err);
	t->state = CLOSING;
	return s;
}

static double rss_bytes(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static bool is_better(double v, double than, bool max)
{
	return !isnan(v) && (isnan(than) || (max ? v > than : v < than));
}

static void update_goals(struct wasd_trainer *t)
{
	double v = metric_value(t, t->spec.best_metric);
	t->improved = t->spec.keep_best && is_better(v, t->best, t->spec.best_max);
	if (t->improved)
		t->best = v;
	if (!t->spec.early_stop)
		return;
	v = metric_value(t, t->spec.stop_metric);
	if (is_better(v, t->stop_best, t->spec.stop_max)) {
		t->stop_best = v;
		t->stop_bad = 0;
	} else if (!strncmp(t->spec.stop_metric, "train_", 6) || (t->test && is_due(t, t->spec.eval_every))) {
		t->stop_bad++;
	}
}

static bool stops_early(const struct wasd_trainer *t)
{
	return t->spec.early_stop && t->stop_bad >= t->spec.patience;
}

static void collect_costs(struct wasd_trainer *t)
{
	double train_s = (double)t->train_us * 1e-6;
	add_metric(t, "lr", t->lr);
	add_metric(t, "rss_bytes", rss_bytes());
	if (!t->trained)
		return;                         /* the epoch was trained by an earlier attempt: no times to report */
	add_metric(t, "images_per_s", (double)t->trained / train_s);
	add_metric(t, "epoch_s", (double)(wasd_mono_us() - t->epoch_us) * 1e-6);
	add_metric(t, "stall_s", (double)t->stalled_us * 1e-6);
	for (int i = 0; i < WASD_PHASES; i++)
		add_metric(t, t->phase_names[i], (double)t->phase_ns[i] * 1e-9);
}

/* The epoch in one line of the job's log; what was not measured is left out. */
static void say_epoch(const struct wasd_trainer *t)
{
	static const struct { const char *metric, *form; double unit; } parts[] = {
		{"train_loss", "training loss %.4f", 1}, {"train_acc", "training accuracy %.1f %%", 100}, {"val_acc_aom", "AOM %.1f %%", 100},
		{"val_acc_dom", "DOM %.1f %%", 100}, {"images_per_s", "%.0f images/s", 1}, {"epoch_s", "%.1f s", 1},
	};
	char text[300];
	int n = snprintf(text, sizeof text, "epoch %d of %d", t->epoch + 1, t->spec.epochs);
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		double v = metric_value(t, parts[i].metric);
		if (isnan(v))
			continue;
		char part[64];
		snprintf(part, sizeof part, parts[i].form, v * parts[i].unit);
		n += snprintf(text + n, sizeof text - (size_t)n, ", %.40s", part);
	}
	say(t, "info", "%s", text);
}

/* CLOSING -> TRAINING | COMPLETED: reports the epoch, moves the position, saves when that is due. */
static enum wasd_status close_epoch(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	bool due = is_due(t, t->spec.checkpoint_every);
	update_goals(t);
	collect_costs(t);
	struct wasd_train_metrics m = {.epoch = t->epoch + 1, .step = step_of(t), .n = t->n_metrics, .v = t->metric};
	if (t->hooks->metrics && (s = t->hooks->metrics(t->hooks->ctx, &m, err)))
		return s;
	say_epoch(t);
	t->epoch++;
	t->next = 0;
	t->loss_sum = 0;
	t->hits = t->seen = 0;
	bool last = t->epoch == t->spec.epochs || stops_early(t);
	if (due || last || t->improved)
		s = save(t, last ? "final" : "epoch", err);
	if (t->epoch_us)
		t->close_us = (double)(wasd_mono_us() - t->epoch_us - t->train_us);
	t->state = last ? COMPLETED : TRAINING;
	t->trained = 0;
	return s;
}

enum wasd_status wasd_trainer_run(struct wasd_trainer *t, const struct wasd_train_hooks *h, enum wasd_train_end *end, int *epoch, struct wasd_err *err)
{
	static enum wasd_status (*const act[])(struct wasd_trainer *, struct wasd_err *) = {
		[TRAINING] = train_epoch, [CALIBRATING] = calibrate, [EVALUATING] = evaluate, [CLOSING] = close_epoch,
	};
	enum wasd_status s = WASD_OK;
	t->hooks = h;
	if (*t->differs)
		say(t, "warn", "resumed under another \"%s\" than before: the numbers may differ in the last bits from an uncut run's", t->differs);
	say(t, "info", t->epoch || t->next ? "goes on at batch %u of epoch %d of %d" : "starts at batch %u of epoch %d of %d", (unsigned)t->next + 1, t->epoch + 1, t->spec.epochs);
	if (t->epoch == t->spec.epochs || (stops_early(t) && !t->next))
		t->state = COMPLETED;           /* resumed from a run's own end */
	while (!s && t->state < COMPLETED)
		s = act[t->state](t, err);
	if (epoch)
		*epoch = begun_epoch(t);
	if (!s)
		*end = t->state == STOPPED ? WASD_TRAIN_CANCELLED : t->epoch < t->spec.epochs ? WASD_TRAIN_EARLY_STOPPED : WASD_TRAIN_DONE;
	return s;
}
