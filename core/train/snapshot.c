/* train/snapshot.c - saves a run as a checkpoint file and resumes it. The top of trainer.c lists what a file must
 * hold for a resumed run to give equal bits. */
#include "train/trainer.h"
#include "train/checkpoint.h"
#include "train/fingerprint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- saving ---------------------------------------------------------------------------------------------- */

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
	cJSON_AddNumberToObject(j, "step", (double)trainer_step(t));
	cJSON_AddNumberToObject(j, "loss_sum", t->loss_sum);
	cJSON_AddNumberToObject(j, "hits", (double)t->hits);
	cJSON_AddNumberToObject(j, "seen", (double)t->seen);
	cJSON_AddNumberToObject(j, "point_sum", t->point_sum);
	cJSON_AddNumberToObject(j, "point_n", (double)t->point_n);
	cJSON_AddNumberToObject(j, "lr", t->lr);
	add_number(j, "best", t->best);
	add_number(j, "stop_best", t->stop_best);
	cJSON_AddNumberToObject(j, "stop_bad", t->stop_bad);
	cJSON_AddStringToObject(j, "holdout", t->holdout_digest);
	if (t->spec.limit > 0)
		cJSON_AddNumberToObject(j, "limit", t->spec.limit);
	if (t->search) {
		cJSON_AddNumberToObject(j, "tried", (double)t->tried);
		cJSON_AddNumberToObject(j, "changed", (double)t->changed);
	}
	metrics = cJSON_AddObjectToObject(j, "metrics");
	for (int i = 0; i < t->n_metrics; i++)
		add_number(metrics, t->metric[i].name, t->metric[i].value);
	int members = 14 + (t->spec.limit > 0) + (t->search ? 2 : 0);
	return trainer_complete(j, cJSON_GetArraySize(metrics) == t->n_metrics ? members : 0);
}

/* An entry of the list, with further facts about the mode. It may have the weights, statistics and metrics of mode m
 * under a name, kind and number of multiply-adds of its own. */
static cJSON *mode_json(const struct wasd_trainer *t, const struct trainer_mode *m, const char *name,
                        const struct mode_kind *kind, uint64_t macs)
{
	cJSON *j = mode_entry(name, kind, cJSON_Duplicate(m->recipe_json, true), m->statistics, m->measured);
	bool ok = j && cJSON_AddNumberToObject(j, "macs", (double)macs);
	for (int i = 0; ok && !t->next && i < t->n_metrics; i++)
		if (!strcmp(t->metric[i].name, m->metric[VAL_ACC]) && isfinite(t->metric[i].value))
			ok = cJSON_AddNumberToObject(j, "val_acc", t->metric[i].value);
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static cJSON *modes_json(const struct wasd_trainer *t)
{
	cJSON *list = cJSON_CreateArray();
	for (int i = 0; list && i < t->n_modes + (t->slim_macs > 0); i++) {
		const struct trainer_mode *m = &t->mode[i < t->n_modes ? i : 0];
		cJSON *j = i < t->n_modes ? mode_json(t, m, m->name, m->kind, trainer_macs(t, m)) :
		                            mode_json(t, m, WASD_MODE_SLIM, &mode_slim, t->slim_macs);
		if (!j || !cJSON_AddItemToArray(list, j)) {
			cJSON_Delete(j);
			cJSON_Delete(list);
			return NULL;
		}
	}
	return list;
}

static bool all_finite(const real *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(v[i]))
			return false;
	return true;
}

/* Refuses to save weights or statistics that cannot produce an answer. */
static enum wasd_status check_finite(const struct wasd_trainer *t, struct wasd_err *err)
{
	for (int i = 0; i < wasd_graph_params(t->graph); i++) {
		struct wasd_param_info p = wasd_graph_param_info(t->graph, i);
		if (!all_finite(wasd_model_master(t->model) + p.offset, p.count))
			return trainer_diverged(t, p.name, err);
	}
	for (int set = 0; set < WASD_STATS_SETS; set++)
		for (int i = 0; i < wasd_graph_stats(t->graph); i++) {
			struct wasd_stats_info st = wasd_graph_stats_info(t->graph, i);
			const real *v = wasd_model_stats(t->model, set);
			if (!all_finite(v + st.mean_offset, (size_t)st.channels) ||
			    !all_finite(v + st.var_offset, (size_t)st.channels))
				return trainer_diverged(t, st.name, err);
		}
	for (int i = t->n_own; i < t->n_modes; i++)
		if (!all_finite(wasd_model_stats(t->mode[i].network.model, t->mode[i].set),
		                wasd_graph_stats_count(wasd_slim_graph(t->mode[i].network.slim))))
			return trainer_diverged(t, t->mode[i].name, err);
	return WASD_OK;
}

/* The statistics of a strategy's network, in the layout of the whole one: channels that it does not have keep the mean
 * 0 and the variance 1. */
static void spread_stats(const struct wasd_trainer *t, const struct trainer_mode *m, real *out)
{
	for (int i = 0; i < wasd_graph_stats(t->graph); i++) {
		struct wasd_stats_info s = wasd_graph_stats_info(t->graph, i);
		for (int c = 0; c < s.channels; c++) {
			out[s.mean_offset + (size_t)c] = 0;
			out[s.var_offset + (size_t)c] = 1;
		}
	}
	wasd_slim_spread_stats(m->network.slim, wasd_model_stats(m->network.model, m->set), out);
}

/* The statistics of every mode; *made: a block to free. false: no memory. */
static bool list_stats(const struct wasd_trainer *t, const real *stats[TRAINER_MODES + 1], real **made)
{
	size_t n = wasd_graph_stats_count(t->graph), own = (size_t)t->n_own;
	*made = wasd_calloc((size_t)t->n_modes - own + 1, n * sizeof **made + 1);
	for (int i = 0; *made && i < t->n_modes; i++) {
		real *at = *made + ((size_t)i - own) * n;
		if (t->mode[i].network.slim)
			spread_stats(t, &t->mode[i], at);
		stats[i] = t->mode[i].network.slim ? at : wasd_model_stats(t->model, trainer_stats(t, i));
	}
	return *made;
}

enum wasd_status snapshot_write(const struct wasd_trainer *t, void **bytes, size_t *len, struct wasd_err *err)
{
	enum wasd_status s = check_finite(t, err);
	if (s)
		return s;
	const char *stream;
	const uint64_t *rng = chain_generator(t->weights, t->next, &stream);
	char drawing[64];
	snprintf(drawing, sizeof drawing, "rng.%s", stream);
	cJSON *progress = progress_json(t), *modes = modes_json(t);
	const real *stats[TRAINER_MODES + 1] = {0}; /* slim has those of AOM */
	real *made;
	bool listed = list_stats(t, stats, &made);
	struct checkpoint_source src = {
		.graph = t->graph,
		.model = t->model,
		.weights = t->weights,
		.optim = t->blocks,
		.train = wasd_model_stats(t->model, WASD_STATS_TRAIN),
		.modes = modes,
		.stats = stats,
		.words = {{drawing, rng, 4}, {"rng.dropout", t->rng_dropout.s, 4}},
		.arch = t->spec.arch,
		.network = t->network,
		.dataset_digest = wasd_dataset_digest(t->data),
		.class_names = t->class_names,
		.spec = t->spec_json,
		.was = t->was_json,
		.progress = progress,
		.fingerprint = t->fingerprint,
		.prepare = wasd_dataset_prepare(t->data),
		.pixels = &t->pixels,
	};
	s = progress && modes && listed ? checkpoint_write(&src, bytes, len, err) :
	                                  wasd_fail(err, WASD_ENOMEM, "checkpoint");
	cJSON_Delete(progress);
	cJSON_Delete(modes);
	wasd_free(made);
	return s;
}

/* ---- resuming -------------------------------------------------------------------------------------------- */

static enum wasd_status bad_progress(const char *key, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_ECORRUPT, "progress", "checkpoint: progress lacks a sound \"%s\"", key);
}

static enum wasd_status read_progress(struct wasd_trainer *t, const cJSON *j, struct wasd_err *err)
{
	int64_t epoch, next, hits, seen, bad, points, tried = 0, changed = 0;
	double v;
	if (!wasd_json_i64(j, "epoch", &epoch) || epoch < 0 || epoch > t->spec.epochs)
		return bad_progress("epoch", err);
	if (!wasd_json_i64(j, "next_batch", &next) || next < 0 || next > t->batches || (next && epoch == t->spec.epochs))
		return bad_progress("next_batch", err);
	if (!wasd_json_i64(j, "hits", &hits) || !wasd_json_i64(j, "seen", &seen) || hits < 0 || hits > seen ||
	    (next && !seen))
		return bad_progress("hits", err);
	if (t->search && (!wasd_json_i64(j, "tried", &tried) || !wasd_json_i64(j, "changed", &changed) || changed < 0 ||
	                  changed > tried || (next && !tried)))
		return bad_progress("changed", err);
	if (!wasd_json_i64(j, "stop_bad", &bad) || bad < 0 || bad > INT32_MAX)
		return bad_progress("stop_bad", err);
	if (!wasd_json_num(j, "loss_sum", &t->loss_sum))
		return bad_progress("loss_sum", err);
	/* Older files have no loss points; no point is open then. */
	if (!wasd_json_num(j, "point_sum", &t->point_sum) || !wasd_json_i64(j, "point_n", &points) || points < 0) {
		t->point_sum = 0;
		points = 0;
	}
	t->point_n = (uint64_t)points;
	t->epoch = (int)epoch;
	t->next = (uint32_t)next;
	t->hits = (uint64_t)hits;
	t->seen = (uint64_t)seen;
	t->tried = (uint64_t)tried;
	t->changed = (uint64_t)changed;
	t->stop_bad = (int)bad;
	t->best = wasd_json_num(j, "best", &v) ? v : NAN;
	t->stop_best = wasd_json_num(j, "stop_best", &v) ? v : NAN;
	t->lr = wasd_json_num(j, "lr", &v) ? v : 0;
	return WASD_OK;
}

/* Checks that the file belongs to this run: the same network, data and every setting that affects the numbers. */
static enum wasd_status check_identity(const struct wasd_trainer *t, const struct checkpoint *c, struct wasd_err *err)
{
	static const char *const parts[] = {"model", "was", "weights", "train"};
	const char *holdout = "";
	double limit = 0;
	if (strcmp(c->arch, t->spec.arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "checkpoint of a %.40s, the job trains a %s", c->arch,
		                    t->spec.arch);
	if (strcmp(c->dataset_digest, wasd_dataset_digest(t->data)))
		return wasd_fail_at(err, WASD_ECORRUPT, "dataset_digest",
		                    "checkpoint of a run on other data: digest %.16s..., here %.16s...", c->dataset_digest,
		                    wasd_dataset_digest(t->data));
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		const cJSON *a = wasd_json_get(c->spec, parts[i]), *b = wasd_json_get(t->spec_json, parts[i]);
		if ((a || b) && !cJSON_Compare(a, b, true))
			return wasd_fail_at(err, WASD_ECORRUPT, "spec", "checkpoint of another job spec: /%s differs", parts[i]);
	}
	if (memcmp(&c->pixels, &t->pixels, sizeof c->pixels))
		return wasd_fail_at(err, WASD_ECORRUPT, "normalize",
		                    "checkpoint of a run that normalised its images otherwise (data.normalize)");
	/* Files without a limit come from runs on all images. */
	wasd_json_num(c->progress, "limit", &limit);
	if (limit != t->spec.limit)
		return wasd_fail_at(err, WASD_ECORRUPT, "progress",
		                    "checkpoint of a run on another number of the training images (data.limit)");
	/* Older files have no hold-out. */
	wasd_json_str(c->progress, "holdout", &holdout);
	if (strcmp(holdout, t->holdout_digest))
		return wasd_fail_at(err, WASD_ECORRUPT, "progress",
		                    "checkpoint of a run that held other images out for validation (data.val_fraction)");
	return WASD_OK;
}

/* Restores the state of the strategies; the recorded draw comes from the file. */
static enum wasd_status resume_weights(struct wasd_trainer *t, const struct checkpoint *c, struct wasd_err *err)
{
	uint64_t generator[4];
	const char *stream;
	char name[64];
	struct weight_when at = {.epoch = t->epoch, .batch = t->next};
	struct trainer_mode *last = trainer_drawn(t);
	struct mode drawn;
	const cJSON *recorded = checkpoint_mode(c, last->name, &drawn, NULL) ? NULL : drawn.recipe;
	chain_generator(t->weights, 0, &stream);
	snprintf(name, sizeof name, "state.rng.%s", stream);
	enum wasd_status s = checkpoint_load_weights(c, t->graph, t->weights, wasd_model_master(t->model), err);
	if (s || (s = checkpoint_load_u64(c, name, generator, 4, err)) ||
	    (s = chain_resume(t->weights, generator, recorded, &at, err)))
		return s;
	last->recipe = chain_recorded(t->weights);
	cJSON_Delete(last->recipe_json);
	last->recipe_json = recorded ? cJSON_Duplicate(recorded, true) : cJSON_CreateNull();
	return last->recipe_json ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "trainer");
}

static enum wasd_status stats_missing(struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_ECORRUPT, "", "checkpoint: BatchNorm statistics of one mode are missing");
}

/* Those measured for mode m. block: room for a set of the whole network. */
static enum wasd_status resume_mode(struct wasd_trainer *t, const struct checkpoint *c, struct trainer_mode *m,
                                    real *block, struct wasd_err *err)
{
	struct mode at;
	bool present, own = !m->network.slim;
	if (checkpoint_mode(c, m->name, &at, NULL))
		return stats_missing(err);
	enum wasd_status s = checkpoint_load_stats(c, t->graph, at.statistics,
	                                           own ? wasd_model_stats(t->model, m->set) : block, &present, err);
	if (s || !present)
		return s ? s : stats_missing(err);
	if (!own)
		wasd_slim_copy_stats(m->network.slim, block, wasd_model_stats(m->network.model, m->set));
	m->measured = at.measured;
	return WASD_OK;
}

/* Restores the statistics that training updates, and those measured for each mode. */
static enum wasd_status resume_stats(struct wasd_trainer *t, const struct checkpoint *c, struct wasd_err *err)
{
	bool present;
	real *block = wasd_calloc(wasd_graph_stats_count(t->graph) + 1, sizeof *block);
	if (!block)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	enum wasd_status s = checkpoint_load_stats(c, t->graph, CHECKPOINT_TRAIN,
	                                           wasd_model_stats(t->model, WASD_STATS_TRAIN), &present, err);
	if (!s && !present)
		s = stats_missing(err);
	for (int i = 0; !s && i < t->n_modes; i++)
		s = resume_mode(t, c, &t->mode[i], block, err);
	wasd_free(block);
	return s;
}

int wasd_train_threads(const void *checkpoint, size_t len)
{
	struct checkpoint c = {0};
	int64_t n = 0;
	if (checkpoint_open(checkpoint, len, &c, NULL) == WASD_OK)
		wasd_json_i64(c.fingerprint, "threads", &n);
	checkpoint_done(&c);
	return n >= 1 && n <= WASD_THREADS_MAX ? (int)n : 0;
}

/* The run had made its network smaller. */
static enum wasd_status resume_network(struct wasd_trainer *t, const struct checkpoint *c, struct wasd_err *err)
{
	struct trainer_net old;
	struct wasd_err why = {0};
	if (!chain_cuts_at(t->weights))
		return wasd_fail_at(err, WASD_ECORRUPT, "network",
		                    "checkpoint of a smaller network, but the job does not make its network smaller");
	enum wasd_status s = trainer_reshape(t, c->network, &old, &why);
	if (s)
		return wasd_fail_at(err, s == WASD_ENOMEM ? s : WASD_ECORRUPT, "network",
		                    "checkpoint: the smaller network: %.180s", why.msg);
	trainer_net_done(&old);
	return WASD_OK;
}

enum wasd_status snapshot_resume(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err)
{
	struct checkpoint c = {0};
	enum wasd_status s = checkpoint_open(bytes, len, &c, err);
	if (s || (s = check_identity(t, &c, err)) || (c.network && (s = resume_network(t, &c, err))) ||
	    (s = checkpoint_check_names(&c, t->graph, err)) ||
	    (s = checkpoint_load_params(&c, t->graph, "", wasd_model_master(t->model), err)) ||
	    (s = resume_stats(t, &c, err)))
		goto end;
	for (const struct weight_block *b = t->blocks; b->name; b++)
		if ((s = checkpoint_load_optim(&c, t->graph, t->weights, b->name, b->values, err)))
			goto end;
	if ((s = checkpoint_load_u64(&c, "state.rng.dropout", t->rng_dropout.s, 4, err)) ||
	    (s = read_progress(t, c.progress, err)) || (s = resume_weights(t, &c, err)))
		goto end;
	const char *name = train_fingerprint_diff(t->fingerprint, c.fingerprint);
	if (name)
		snprintf(t->differs, sizeof t->differs, "%s", name);
	t->state = t->next == t->batches ? CALIBRATING : TRAINING;
end:
	checkpoint_done(&c);
	return s;
}

enum wasd_status snapshot_start_from(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err)
{
	struct checkpoint c = {0};
	bool present;
	const struct weight_strategy *composer = chain_composer(t->weights);
	if (composer)
		return wasd_fail_at(err, WASD_EINVAL, "/init_from",
		                    "%s composes weights of values of its own, which no other run's weights give",
		                    composer->name);
	enum wasd_status s = checkpoint_open(bytes, len, &c, err);
	if (!s && strcmp(c.arch, t->spec.arch))
		s = wasd_fail_at(err, WASD_EINVAL, "/init_from", "the weights are of a %.40s, the job trains a %s", c.arch,
		                 t->spec.arch);
	if (!s && c.network)
		s = wasd_fail_at(
			err, WASD_EINVAL, "/init_from",
			"the weights are of a %.40s that became smaller while it trained: export them and import that, to "
			"start a job with the smaller network",
			c.arch);
	if (!s)
		s = checkpoint_check_names(&c, t->graph, err);
	if (!s)
		s = checkpoint_load_params(&c, t->graph, "", wasd_model_master(t->model), err);
	if (!s)
		s = checkpoint_load_stats(&c, t->graph, CHECKPOINT_TRAIN, wasd_model_stats(t->model, WASD_STATS_TRAIN),
		                          &present, err);
	chain_apply(t->weights);
	checkpoint_done(&c);
	return s;
}
