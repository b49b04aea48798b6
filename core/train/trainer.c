/* train/trainer.c - one training run.
 *
 *               last batch          batches done       modes measured
 *     TRAINING ────────────▶ CALIBRATING ───────▶ EVALUATING ───────▶ CLOSING ─┬▶ TRAINING (next epoch)
 *        │  │                     │                   │                  │     ├▶ PAUSED (opts.until)
 *        │  │                     │                   │                  │     └▶ COMPLETED (last epoch, early stop)
 *        │  └ loss not finite     └────────┬──────────┘                  └ a hook failed ─▶ FAILED
 *        │      ─▶ FAILED                  │
 *        ▼ should_stop()                   ▼ should_stop()
 *     STOPPED                           STOPPED; a loss not finite ─▶ FAILED
 *
 * The position is (epoch, next): `next` training batches of epoch `epoch` (counted from 0) are done. It determines
 * everything else: step = epoch * batches + next, the learning rate, the loader's output, and the state in which a
 * resumed run starts.
 *
 * With an optimizer that searches (search.c), "batches" are the steps of a whole search: the loader goes on from pass
 * to pass over the images without regard to the run's epochs.
 *
 * Invariants
 *   - next < batches in TRAINING; next == batches in CALIBRATING and EVALUATING; CLOSING ends with (epoch + 1, 0).
 *   - A checkpoint is written only between two batches and holds everything that later batches depend on: weights,
 *     optimizer state, running statistics, both generators, the position, the epoch's sums so far, the best values.
 *     A run that was interrupted anywhere therefore resumes with equal bits. Calibration and evaluation change nothing
 *     that training reads, and start over if interrupted.
 *   - A step allocates nothing. The forward pass never changes master weights; only the optimizer does.
 *   - What a strategy of the weights does between two steps depends on the step alone (weights/strategy.h). It does so
 *     before the step, so a checkpoint has the weights from before it.
 *   - Before an epoch the network may lose its dead channels (surgery.c). The checkpoint that ends the epoch before has
 *     the whole network, and a run that resumes from it does the surgery again; all later ones name the smaller one,
 *     also that of a stop before the first step, whose position is the same.
 *   - The recorded DOM draw is made once, from stream "dom" of the seed, and is stored in every checkpoint.
 *
 * All transitions are in this file: train_epoch, calibrate, evaluate, close_epoch; stop() and the loop in
 * wasd_trainer_run. */
#include "train/trainer.h"
#include "wasd/slim.h"
#include "train/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *wasd_train_phase_name(enum wasd_train_phase p)
{
	static const char *const names[] = {WASD_TRAIN_PHASES};
	return names[p];
}

const char *wasd_train_end_name(enum wasd_train_end e)
{
	static const char *const names[] = {"done", "early_stopped", "cancelled", "paused"};
	return names[e];
}

/* Counted from 1: the epoch in training, or the last one trained. */
static int begun_epoch(const struct wasd_trainer *t)
{
	return t->epoch + (t->next > 0 || !t->epoch);
}

/* ---- hooks ------------------------------------------------------------------------------------------- */

static bool should_stop(const struct wasd_trainer *t)
{
	return t->hooks->should_stop && t->hooks->should_stop(t->hooks->ctx);
}

void trainer_say(const struct wasd_trainer *t, const char *level, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	if (!t->hooks->log)
		return;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	t->hooks->log(t->hooks->ctx, level, text);
}

static void say_for_strategy(void *ctx, const char *level, const char *text)
{
	trainer_say(ctx, level, "%s", text);
}

const struct weight_run *trainer_run_at(struct wasd_trainer *t, uint64_t step)
{
	t->run = (struct weight_run){
		.step = step,
		.batches = t->batches,
		.epochs = t->spec.epochs,
		.master = wasd_model_master(t->model),
		.optim = t->blocks,
		.stats = wasd_model_stats(t->model, WASD_STATS_TRAIN),
		.smaller = t->network != NULL,
		.log = t->hooks ? say_for_strategy : NULL,
		.ctx = t,
	};
	return &t->run;
}

static double eta(const struct wasd_trainer *t)
{
	if (t->step_us <= 0)
		return -1;
	double batches = (double)t->spec.epochs * t->batches - (double)trainer_step(t);
	int closes = t->spec.epochs - t->epoch;
	return (batches * t->step_us + closes * t->close_us) * 1e-6;
}

static void report_progress(const struct wasd_trainer *t, enum wasd_train_phase phase, uint32_t done, uint32_t total)
{
	if (!t->hooks->progress)
		return;
	struct wasd_train_progress p = {
		.epoch = phase == WASD_TRAIN_CHECKPOINT ? begun_epoch(t) : t->epoch + 1,
		.epochs = t->spec.epochs,
		.step = phase == WASD_TRAIN_CHECKPOINT && !t->next ? t->batches : t->next,
		.steps = t->batches,
		.done = done,
		.total = total,
		.phase = phase,
		.img_per_s = t->train_us ? (double)t->trained * 1e6 / (double)t->train_us : 0,
		.eta_s = eta(t),
		.loss = t->seen ? t->loss_sum / (double)t->seen : NAN,
	};
	t->hooks->progress(t->hooks->ctx, &p);
}

/* ---- the epochs ----------------------------------------------------------------------------------------------- */

enum wasd_status trainer_diverged(const struct wasd_trainer *t, const char *what, struct wasd_err *err)
{
	return wasd_fail(
		err, WASD_ENUMERIC,
		"%s is NaN or infinite in epoch %d: take a lower learning rate (/train/optimizer/lr), or warm it up "
		"(/train/schedule/warmup_epochs)",
		what, t->state == TRAINING ? t->epoch + 1 : begun_epoch(t));
}

uint64_t wasd_loss_stride(uint64_t step)
{
	uint64_t stride = 1;
	while (step > WASD_LOSS_POINTS * stride)
		stride *= 2;
	return stride;
}

/* Adds the loss and the time of the step just counted. Checkpoints store the sum of the losses, so that a resumed run
 * reports the same ones. */
static void note_step(struct wasd_trainer *t, double loss, int images)
{
	uint64_t step = trainer_step(t);
	t->point_sum += loss;
	t->point_n++;
	t->point_us += wasd_mono_us() - t->step_begun_us;
	t->point_images += (uint64_t)images;
	if (step % wasd_loss_stride(step))
		return;
	struct wasd_train_point p = {
		.epoch = t->epoch + 1,
		.step = step,
		.loss = t->point_sum / (double)t->point_n,
		.lr = t->lr,
		.images_per_s = t->point_us > 0 ? (double)t->point_images * 1e6 / (double)t->point_us : 0,
	};
	if (t->hooks->loss)
		t->hooks->loss(t->hooks->ctx, &p);
	t->point_sum = 0;
	t->point_n = 0;
	t->point_us = 0;
	t->point_images = 0;
}

/* Once for a step: that of an epoch's first one may have come before the surgery. */
static void act(struct wasd_trainer *t)
{
	if (t->acted == trainer_step(t) + 1)
		return;
	t->acted = trainer_step(t) + 1;
	chain_event(t->weights, trainer_run_at(t, trainer_step(t)));
}

static enum wasd_status gradient_step(struct wasd_trainer *t, const struct wasd_batch *b,
                                      const struct wasd_targets *targets, double *loss, int *hits, struct wasd_err *err)
{
	struct wasd_pass pass = {.n = b->n,
	                         .bn = WASD_BN_BATCH,
	                         .set = WASD_STATS_TRAIN,
	                         .update = true,
	                         .dropout = &t->rng_dropout};
	struct weight_when now = {.epoch = t->epoch, .batch = t->next};
	act(t);
	struct weight_passes passes = {trainer_step(t), t->exec, b->x, &pass, targets};
	enum wasd_status s = chain_draw(t->weights, &now, NULL, &pass.recipe, err);
	wasd_model_grad_zero(t->model);
	if (!s)
		s = chain_passes(t->weights, &passes, loss, hits, err);
	if (s == WASD_ENUMERIC || (!s && !isfinite(*loss)))
		return trainer_diverged(t, "loss", err);
	if (s)
		return s;
	struct weight_pace pace = chain_pace(t->weights, trainer_run_at(t, trainer_step(t)));
	t->lr = wasd_schedule_lr(&t->schedule, wasd_optim_lr(t->optim), pace.step, t->batches, pace.epochs);
	wasd_optim_set_steps(t->optim, pace.optim_steps);
	chain_pull(t->weights);
	chain_learn(t->weights, t->lr, pace.optim_steps);
	wasd_optim_step(t->optim, wasd_model_master(t->model), wasd_model_grad(t->model), t->lr);
	chain_after_step(t->weights, trainer_run_at(t, trainer_step(t) + 1));
	chain_apply(t->weights);
	return WASD_OK;
}

static enum wasd_status train_step(struct wasd_trainer *t, struct wasd_err *err)
{
	const struct wasd_batch *b = wasd_loader_next(t->train);
	struct wasd_targets targets = {.y = b->y,
	                               .other = b->other,
	                               .rest = b->rest,
	                               .smoothing = t->spec.label_smoothing,
	                               .weights = t->class_weights};
	double loss;
	int hits;
	enum wasd_status s = (t->search ? train_search_step : gradient_step)(t, b, &targets, &loss, &hits, err);
	if (s)
		return s;
	t->loss_sum += loss * b->n;
	t->hits += (uint64_t)hits;
	t->seen += (uint64_t)b->n;
	t->trained += (uint64_t)b->n;
	t->next++;
	note_step(t, loss, b->n);
	return WASD_OK;
}

static double metric_value(const struct wasd_trainer *t, const char *name)
{
	for (int i = 0; i < t->n_metrics; i++)
		if (!strcmp(t->metric[i].name, name))
			return t->metric[i].value;
	return NAN;
}

/* Finite weights can still overflow. Before saving weights that were not evaluated, checks that they give a finite
 * loss on one batch. */
static enum wasd_status check_loss(struct wasd_trainer *t, struct wasd_err *err)
{
	double loss = NAN;
	int hits;
	const struct wasd_recipe *recipe = NULL;
	for (int i = t->n_modes - 1; i >= 0; i--) {
		if (!t->next && !isnan(metric_value(t, t->mode[i].metric[VAL_LOSS])))
			return WASD_OK;
		if (t->mode[i].evaluated)
			recipe = t->mode[i].recipe;
	}
	wasd_loader_seek(t->calib, 0, 0);
	const struct wasd_batch *b = wasd_loader_next(t->calib);
	struct wasd_pass pass = {.n = b->n, .recipe = recipe, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN};
	enum wasd_status s = wasd_exec_forward(t->exec, b->x, &pass, err);
	if (!s)
		s = wasd_exec_loss(t->exec, b->y, 0, &loss, &hits, err);
	return s == WASD_ENUMERIC ? trainer_diverged(t, "loss", err) : s;
}

/* The weights that passes compute with, as one block; *made: the block, if it had to be made. */
static const real *effective_weights(struct wasd_trainer *t, real **made)
{
	*made = NULL;
	if (!wasd_model_effective(t->model))
		return wasd_model_master(t->model);
	if (!(*made = wasd_calloc(wasd_graph_param_count(t->graph), sizeof **made)))
		return NULL;
	for (int i = 0; i < wasd_graph_params(t->graph); i++) {
		struct wasd_param_info p = wasd_graph_param_info(t->graph, i);
		memcpy(*made + p.offset, wasd_model_weights(t->model, i), p.count * sizeof **made);
	}
	return *made;
}

static bool put_slim_macs(struct wasd_trainer *t)
{
	cJSON *macs = cJSON_GetObjectItemCaseSensitive(t->info, "macs");
	cJSON_DeleteItemFromObjectCaseSensitive(macs, WASD_MODE_SLIM);
	return !t->slim_macs || cJSON_AddNumberToObject(macs, WASD_MODE_SLIM, (double)t->slim_macs);
}

/* The daemon takes no such checkpoint for the best. */
static bool put_rehearsal(struct wasd_trainer *t)
{
	cJSON_DeleteItemFromObjectCaseSensitive(t->info, "rehearsal");
	return !chain_rehearses(t->weights) || cJSON_AddTrueToObject(t->info, "rehearsal");
}

/* Where a strategy sets weights to zero, looks for dead channels: a checkpoint that has some offers the mode slim. A
 * network that cannot be cut has no such mode. */
static enum wasd_status find_slim(struct wasd_trainer *t, struct wasd_err *err)
{
	struct wasd_slim *s = NULL;
	struct wasd_err why = {0};
	real *made;
	t->slim_macs = 0;
	if (!chain_masks(t->weights))
		return WASD_OK;
	const real *weights = effective_weights(t, &made);
	enum wasd_status st = weights ? wasd_slim_of(t->graph, weights, wasd_model_stats(t->model, trainer_stats(t, 0)),
	                                             WASD_MODE_SLIM, &s, &why) :
	                                WASD_ENOMEM;
	if (!st && wasd_slim_removed(s))
		t->slim_macs = wasd_graph_macs(wasd_slim_graph(s), NULL);
	wasd_slim_destroy(s);
	wasd_free(made);
	return st == WASD_ENOMEM || !put_slim_macs(t) ? wasd_fail(err, WASD_ENOMEM, "checkpoint") : WASD_OK;
}

static enum wasd_status save(struct wasd_trainer *t, const char *reason, struct wasd_err *err)
{
	if (!t->hooks->checkpoint)
		return WASD_OK;
	report_progress(t, WASD_TRAIN_CHECKPOINT, 0, 1);
	void *bytes = NULL;
	size_t len = 0;
	enum wasd_status s = check_loss(t, err);
	if (!s)
		s = find_slim(t, err);
	if (!s && !put_rehearsal(t))
		s = wasd_fail(err, WASD_ENOMEM, "checkpoint");
	if (!s)
		s = snapshot_write(t, &bytes, &len, err);
	if (!s) {
		struct wasd_train_checkpoint c = {
			.epoch = begun_epoch(t),
			.step = trainer_step(t),
			.reason = reason,
			.bytes = bytes,
			.len = len,
			.info = t->info,
			.metrics = {.epoch = t->epoch, .step = trainer_step(t), .n = t->next ? 0 : t->n_metrics, .v = t->metric},
		};
		s = t->hooks->checkpoint(t->hooks->ctx, &c, err);
	}
	wasd_free(bytes);
	return s;
}

static enum wasd_status stop(struct wasd_trainer *t, struct wasd_err *err)
{
	t->state = STOPPED;
	return save(t, "cancel", err);
}

/* The event of the step that comes next may be the last one. */
static enum wasd_status cut_if_asked(struct wasd_trainer *t, struct wasd_err *err)
{
	if (!chain_cuts_at(t->weights))
		return WASD_OK;
	act(t);
	if (!chain_cuts(t->weights, trainer_run_at(t, trainer_step(t))))
		return WASD_OK;
	t->acted = 0; /* the strategy of the smaller network has not */
	return trainer_cut(t, err);
}

/* The times of the phases since the last call, of all networks together. */
static void take_times(struct wasd_trainer *t, uint64_t ns[WASD_PHASES])
{
	uint64_t own[WASD_PHASES];
	wasd_exec_times(t->exec, ns, true);
	for (int i = t->n_own; i < t->n_modes; i++) {
		wasd_exec_times(t->mode[i].network.exec, own, true);
		for (int k = 0; k < WASD_PHASES; k++)
			ns[k] += own[k];
	}
}

/* TRAINING -> CALIBRATING | STOPPED */
static enum wasd_status train_epoch(struct wasd_trainer *t, struct wasd_err *err)
{
	uint64_t ns[WASD_PHASES], stalled = wasd_loader_stall_us(t->train);
	int64_t begin = wasd_mono_us();
	t->epoch_us = begin;
	t->train_us = 0;
	t->trained = 0;
	enum wasd_status cut = t->next ? WASD_OK : cut_if_asked(t, err);
	if (cut)
		return cut;
	take_times(t, ns);
	while (t->next < t->batches) {
		if (should_stop(t))
			return stop(t, err);
		t->step_begun_us = wasd_mono_us();
		enum wasd_status s = train_step(t, err);
		if (s)
			return s;
		int64_t now = wasd_mono_us();
		double took = (double)(now - t->step_begun_us);
		t->step_us = t->step_us > 0 ? 0.95 * t->step_us + 0.05 * took : took;
		t->train_us = now - begin;
		train_search_say_time(t, t->begun);
		report_progress(t, WASD_TRAIN_STEP, t->next, t->batches);
	}
	if (t->epoch + 1 == t->spec.epochs)
		chain_event(t->weights, trainer_run_at(t, trainer_step(t)));
	t->stalled_us = wasd_loader_stall_us(t->train) - stalled;
	take_times(t, t->phase_ns);
	t->state = CALIBRATING;
	return WASD_OK;
}

static bool is_due(const struct wasd_trainer *t, int every)
{
	return t->epoch + 1 == t->spec.epochs || (t->epoch + 1) % every == 0;
}

static void add_metric(struct wasd_trainer *t, const char *name, double value)
{
	t->metric[t->n_metrics++] = (struct wasd_metric){name, value};
}

static bool has_metric(const struct wasd_trainer *t, const char *name)
{
	bool has = false;
	for (int i = 0; i < t->n_metrics; i++)
		has |= !strcmp(t->metric[i].name, name);
	return has;
}

static bool is_better(double v, double than, bool max)
{
	return !isnan(v) && (isnan(than) || (max ? v > than : v < than));
}

/* What the epoch's numbers say: whether it is the best so far, how many evaluations passed since the best, whether
 * it is the last epoch. These functions change nothing, so that an interrupted evaluation can start over. */
static bool improves(const struct wasd_trainer *t)
{
	return t->spec.keep_best && !chain_rehearses(t->weights) &&
	       is_better(metric_value(t, t->spec.best.metric->name), t->best, t->spec.best.max);
}

/* Early stopping does not count the evaluation of a pause, so that the run stops where it would without it; nor what a
 * strategy trains before the run begins again. */
static bool counts(const struct wasd_trainer *t)
{
	return !chain_rehearses(t->weights) && (!t->spec.stop.metric->mode || is_due(t, t->spec.eval_every));
}

static bool outdoes(const struct wasd_trainer *t)
{
	return counts(t) && is_better(metric_value(t, t->spec.stop.metric->name), t->stop_best, t->spec.stop.max);
}

static int bad_evaluations(const struct wasd_trainer *t)
{
	return outdoes(t) ? 0 : t->stop_bad + counts(t);
}

static bool ends(const struct wasd_trainer *t)
{
	return t->epoch + 1 == t->spec.epochs || (t->spec.early_stop && bad_evaluations(t) >= t->spec.patience);
}

/* Is the end of this epoch where the run is to pause? */
static bool pauses(const struct wasd_trainer *t)
{
	return t->until && t->epoch + 1 >= t->until;
}

struct tick_ctx {
	struct wasd_trainer *t;
	enum wasd_train_phase phase;
};

static bool tick(void *ctx, uint32_t done, uint32_t of)
{
	struct tick_ctx *c = ctx;
	report_progress(c->t, c->phase, done, of);
	return !should_stop(c->t);
}

static enum wasd_status calibrate_mode(struct wasd_trainer *t, struct trainer_mode *m, struct wasd_err *err)
{
	struct tick_ctx c = {t, WASD_TRAIN_CALIBRATE};
	enum wasd_stats_set set = trainer_parts_statistics(t) ? m->set : WASD_STATS_TRAIN;
	enum wasd_status s = measure_statistics(trainer_exec(t, m), t->calib, m->recipe, set,
	                                        (struct measure_tick){tick, &c}, err);
	if (!s)
		m->measured = true;
	return s;
}

/* CALIBRATING -> EVALUATING | STOPPED. Without DOM, AOM uses the training statistics, which an optimizer that searches
 * does not update, so they are measured; without BatchNorm there is nothing to measure. */
static enum wasd_status calibrate(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	const char *name;
	double value;
	t->n_metrics = 0;
	add_metric(t, "train_loss", t->loss_sum / (double)t->seen);
	add_metric(t, "train_acc", (double)t->hits / (double)t->seen);
	if (t->search)
		add_metric(t, t->search->changed, (double)t->changed / (double)t->tried);
	chain_at_epoch(t->weights, trainer_run_at(t, trainer_step(t)));
	for (int i = 0;
	     t->n_metrics < WASD_METRICS_MAX - METRICS_OWN && chain_metric(t->weights, i, t->epoch, &name, &value); i++)
		if (!has_metric(t, name)) /* of two strategies that prune, the first */
			add_metric(t, name, value);
	bool due = is_due(t, t->spec.eval_every) || is_due(t, t->spec.checkpoint_every) || improves(t) || ends(t) ||
	           pauses(t);
	for (int i = 0; trainer_measures(t) && due && !s && i < t->n_modes; i++)
		s = calibrate_mode(t, &t->mode[i], err);
	if (s == WASD_ECANCELLED)
		return stop(t, err);
	if (!trainer_parts_statistics(t))
		memcpy(wasd_model_stats(t->model, WASD_STATS_AOM), wasd_model_stats(t->model, WASD_STATS_TRAIN),
		       wasd_graph_stats_count(t->graph) * sizeof(real));
	t->state = EVALUATING;
	return s;
}

/* The protocol behind the paper's figures (eval.statistics "batch"): each batch is normalised by its own
 * statistics, dropout and drop-connect stay active, and DOM takes a new draw for every batch
 * (web/docs/was.md#batch-statistics). */
struct as_trained {
	struct wasd_trainer *t;
	const struct trainer_mode *mode;
	struct wasd_rng rng;
};

static enum wasd_status as_trained(void *ctx, struct wasd_pass *p, struct wasd_err *err)
{
	struct as_trained *a = ctx;
	p->bn = WASD_BN_BATCH;
	p->dropout = &a->rng;
	if (!a->mode->recipe)
		return WASD_OK;
	struct weight_when now = {.epoch = a->t->epoch, .evaluation = true};
	return chain_draw(a->t->weights, &now, &a->rng, &p->recipe, err);
}

static enum wasd_status measure_mode(struct wasd_trainer *t, struct wasd_loader *images, const struct trainer_mode *m,
                                     struct measure_result *out, struct wasd_err *err)
{
	struct tick_ctx c = {t, WASD_TRAIN_EVAL};
	struct measure_tick tick_of = {tick, &c};
	if (t->spec.statistics == STATISTICS_BATCH) {
		struct as_trained a = {.t = t, .mode = m};
		char stream[WASD_MODE_LEN + 8];
		snprintf(stream, sizeof stream, "eval %s", m->name);
		wasd_rng_init(&a.rng, t->spec.seed, stream, (uint64_t)t->epoch, images == t->test);
		return measure_accuracy(trainer_exec(t, m), images, &(struct measure_pass){as_trained, &a}, tick_of,
		                        t->answered, out, err);
	}
	struct measure_net net = {0};
	enum wasd_status s = measure_net_create(trainer_model(t, m), m->recipe, m->set, &t->eval, &net, err);
	if (!s)
		s = measure_accuracy(net.exec, images, NULL, tick_of, t->answered, out, err);
	measure_net_done(&net);
	return s;
}

static enum wasd_status evaluate_mode(struct wasd_trainer *t, struct wasd_loader *images, struct trainer_mode *m,
                                      struct wasd_err *err)
{
	bool test = images == t->test;
	struct measure_result r;
	char what[40];
	memset(t->answered, 0, (size_t)wasd_graph_classes(t->graph) * sizeof *t->answered);
	enum wasd_status s = measure_mode(t, images, m, &r, err);
	if (s)
		return s;
	snprintf(what, sizeof what, "%s's %s loss", m->label, test ? "test" : "validation");
	if (!isfinite(r.loss))
		return trainer_diverged(t, what, err);
	add_metric(t, m->metric[test ? TEST_LOSS : VAL_LOSS], r.loss);
	add_metric(t, m->metric[test ? TEST_ACC : VAL_ACC], r.accuracy);
	m->images_per_s = r.images_per_s;
	if (!test)
		warnings_evaluated(t, m);
	return WASD_OK;
}

static enum wasd_status evaluate_on(struct wasd_trainer *t, struct wasd_loader *images, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; !s && i < t->n_modes; i++)
		if (t->mode[i].evaluated)
			s = evaluate_mode(t, images, &t->mode[i], err);
	return s;
}

/* If the test images rank the run, their numbers are reported under both names. */
static void repeat_as_test(struct wasd_trainer *t)
{
	for (int i = 0, n = t->n_metrics; i < n; i++)
		for (int k = 0; k < t->n_modes; k++)
			for (int v = VAL_LOSS; v <= VAL_ACC; v++)
				if (!strcmp(t->metric[i].name, t->mode[k].metric[v]))
					add_metric(t, t->mode[k].metric[v + TEST_LOSS - VAL_LOSS], t->metric[i].value);
}

/* Test images do not rank this run, so they need to be measured only when eval.test asks for it. */
static bool is_test_due(const struct wasd_trainer *t, bool val_due)
{
	return ends(t) || (t->spec.test_when == TEST_EVERY && val_due) || (t->spec.test_when == TEST_BEST && improves(t));
}

static enum wasd_status adjust_widths(struct wasd_trainer *t, struct wasd_err *err)
{
	struct tick_ctx c = {t, WASD_TRAIN_EVAL};
	return train_adjust_measure(t, (struct measure_tick){tick, &c}, err);
}

/* EVALUATING -> CLOSING | STOPPED */
static enum wasd_status evaluate(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	bool due = is_due(t, t->spec.eval_every) || ends(t) || pauses(t);
	for (int i = 0; i < t->n_modes; i++)
		t->mode[i].images_per_s = 0;
	if (t->val && due)
		s = evaluate_on(t, t->val, err);
	if (!s && t->test && is_test_due(t, due))
		s = evaluate_on(t, t->test, err);
	if (!s && !t->holdout.n_val)
		repeat_as_test(t);
	if (!s && t->widths.n && ends(t))
		s = adjust_widths(t, err);
	if (s == WASD_ECANCELLED)
		return stop(t, err);
	t->state = CLOSING;
	return s;
}

double trainer_rss_bytes(void)
{
	struct wasd_usage used = {0};
	wasd_usage_of(0, &used);
	return (double)used.rss_bytes;
}

static void update_goals(struct wasd_trainer *t)
{
	t->improved = improves(t);
	if (t->improved)
		t->best = metric_value(t, t->spec.best.metric->name);
	if (!t->spec.early_stop)
		return;
	t->stop_bad = bad_evaluations(t);
	if (outdoes(t))
		t->stop_best = metric_value(t, t->spec.stop.metric->name);
}

static bool stops_early(const struct wasd_trainer *t)
{
	return t->spec.early_stop && t->stop_bad >= t->spec.patience;
}

static void collect_costs(struct wasd_trainer *t)
{
	double train_s = (double)t->train_us * 1e-6;
	if (!t->search)
		add_metric(t, "lr", t->lr);
	add_metric(t, "rss_bytes", trainer_rss_bytes());
	for (int i = 0; i < t->n_modes; i++)
		if (t->mode[i].images_per_s > 0)
			add_metric(t, t->mode[i].metric[EVAL_SPEED], t->mode[i].images_per_s);
	if (!t->trained)
		return; /* an earlier attempt trained the epoch: there are no times to report */
	add_metric(t, "images_per_s", (double)t->trained / train_s);
	add_metric(t, "epoch_s", (double)(wasd_mono_us() - t->epoch_us) * 1e-6);
	add_metric(t, "stall_s", (double)t->stalled_us * 1e-6);
	for (int i = 0; i < WASD_PHASES; i++)
		add_metric(t, t->phase_names[i], (double)t->phase_ns[i] * 1e-9);
}

/* Appends one number to the epoch's log line, if it was measured. */
static size_t say_number(const struct wasd_trainer *t, char *text, size_t room, const char *metric, double unit,
                         const char *form, const char *word, const char *label)
{
	double v = metric_value(t, metric);
	if (isnan(v))
		return 0;
	size_t n = wasd_line(text, room, ", %s%s%s", word, label, *label ? " " : "");
	return n + wasd_line(text + n, room - n, form, v * unit);
}

/* Logs the epoch in one line; numbers that were not measured are left out. */
static void say_epoch(const struct wasd_trainer *t)
{
	static const struct {
		enum trainer_metric metric;
		const char *word;
	} parts[] = {{VAL_ACC, "validation "}, {TEST_ACC, "test "}};
	char text[400];
	size_t room = sizeof text, n = wasd_line(text, room, "epoch %d of %d", t->epoch + 1, t->spec.epochs);
	n += say_number(t, text + n, room - n, "train_loss", 1, "%.5g", "training loss ", "");
	n += say_number(t, text + n, room - n, "train_acc", 100, "%.1f %%", "training accuracy ", "");
	for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
		for (int i = 0; i < t->n_modes; i++)
			n += say_number(t, text + n, room - n, t->mode[i].metric[parts[k].metric], 100, "%.1f %%",
			                i ? "" : parts[k].word, t->mode[i].label);
	n += say_number(t, text + n, room - n, "images_per_s", 1, "%.0f images/s", "", "");
	say_number(t, text + n, room - n, "epoch_s", 1, "%.1f s", "", "");
	trainer_say(t, "info", "%s", text);
}

/* CLOSING -> TRAINING | COMPLETED | PAUSED: reports the epoch, advances the position, saves a checkpoint if one is due.
 */
static enum wasd_status close_epoch(struct wasd_trainer *t, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	bool due = is_due(t, t->spec.checkpoint_every), pause = pauses(t);
	update_goals(t);
	collect_costs(t);
	struct wasd_train_metrics m = {.epoch = t->epoch + 1,
	                               .step = trainer_step(t),
	                               .images = t->trained,
	                               .n = t->n_metrics,
	                               .v = t->metric};
	if (t->hooks->metrics && (s = t->hooks->metrics(t->hooks->ctx, &m, err)))
		return s;
	say_epoch(t);
	warnings_epoch(t, metric_value(t, "train_loss"));
	t->epoch++;
	t->next = 0;
	t->loss_sum = 0;
	t->hits = t->seen = t->tried = t->changed = 0;
	bool last = t->epoch == t->spec.epochs || stops_early(t);
	if (due || last || pause || t->improved)
		s = save(t, last ? "final" : "epoch", err);
	if (t->epoch_us)
		t->close_us = (double)(wasd_mono_us() - t->epoch_us - t->train_us);
	t->state = last ? COMPLETED : pause ? PAUSED : TRAINING;
	t->trained = 0;
	return s;
}

enum wasd_status wasd_trainer_run(struct wasd_trainer *t, const struct wasd_train_hooks *h, enum wasd_train_end *end,
                                  int *epoch, struct wasd_err *err)
{
	static enum wasd_status (*const act[])(struct wasd_trainer *, struct wasd_err *) = {
		[TRAINING] = train_epoch,
		[CALIBRATING] = calibrate,
		[EVALUATING] = evaluate,
		[CLOSING] = close_epoch,
	};
	enum wasd_status s = WASD_OK;
	t->hooks = h;
	if (*t->differs)
		trainer_say(
			t, "warn",
			"resumed under another \"%s\" than before: the numbers may differ in the last bits from an uncut run's",
			t->differs);
	trainer_say(t, "info",
	            t->epoch || t->next ? "goes on at batch %u of epoch %d of %d" : "starts at batch %u of epoch %d of %d",
	            (unsigned)t->next + 1, t->epoch + 1, t->spec.epochs);
	warnings_begin(t);
	t->begun = trainer_step(t);
	if (t->epoch == t->spec.epochs || (stops_early(t) && !t->next))
		t->state = COMPLETED; /* resumed from the final checkpoint of a run */
	else if (t->until && t->epoch >= t->until)
		t->state = PAUSED; /* resumed where it is to pause */
	while (!s && t->state < COMPLETED)
		s = act[t->state](t, err);
	if (epoch)
		*epoch = begun_epoch(t);
	if (!s)
		*end = t->state == STOPPED       ? WASD_TRAIN_CANCELLED :
		       t->state == PAUSED        ? WASD_TRAIN_PAUSED :
		       t->epoch < t->spec.epochs ? WASD_TRAIN_EARLY_STOPPED :
		                                   WASD_TRAIN_DONE;
	return s;
}
