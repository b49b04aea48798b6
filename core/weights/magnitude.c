/* weights/magnitude.c - gradual magnitude pruning, after Zhu and Gupta (arXiv 1710.01878): at the events of schedule.h
 * the smallest weights die, so that prune_keep_count of a layer, or of all layers, are left. web/docs/strategies.md.
 *
 * With `retrain`, the dense training of `end` epochs is followed by the epochs from `to_epoch` to `end` once more
 * (Renda, Frankle, Carbin, arXiv 2003.02389): with the last rate (finetune), with the rates of those epochs (lr), or
 * with their rates and the weights, optimizer state and statistics of `to_epoch` (weights).
 *
 * Cascade weight shedding (after Azarian and Porikli, arXiv 2103.10629) is measured: living weights below 1e-3 of the
 * root mean square that those of their layer had at the last event are shed. */
#include "weights/layers.h"
#include "weights/prune.h"
#include "weights/schedule.h"

#include "base/fields.h"
#include "wasd/optim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SHED 1e-3

/* The options, in their order. */
enum { SPARSITY, INITIAL, BEGIN, END, EVERY, POWER, SCOPE, CRITERION, RULE, COLLECT, RETRAIN, TO_EPOCH };
enum criterion { MAGNITUDE, RANDOM };
enum retrain { NONE, FINETUNE, WEIGHTS, RATE };

/* A block as it was at to_epoch. */
struct kept {
	char name[40];
	size_t n;
	real *values;
};

struct magnitude {
	struct prune masks; /* first: prune_resumed */
	struct prune_schedule when;
	enum prune_scope scope;
	enum criterion criterion;
	enum prune_rule rule;
	enum retrain retrain;
	bool collect;
	double to_epoch;
	char retrain_at[FIELDS_POINTER];
	uint64_t seed;
	real *shed_below; /* per layer */
	size_t params, stats;
	struct kept kept[WASD_OPTIM_STATES + 2]; /* with WEIGHTS; ends at n = 0 */
	size_t shed;                             /* at the end of the last epoch */
	uint64_t *salt;                          /* per layer, of the event in progress */
	const real *master;
};

/* ---- creation ------------------------------------------------------------------------------------------- */

static void destroy(void *self)
{
	struct magnitude *m = self;
	prune_done(&m->masks);
	wasd_free(m->shed_below);
	wasd_free(m->salt);
	for (size_t i = 0; i < sizeof m->kept / sizeof *m->kept; i++)
		wasd_free(m->kept[i].values);
	wasd_free(m);
}

static double or_else(double v, double def)
{
	return isnan(v) ? def : v;
}

/* The run has the dense epochs, 0 to end, and those from to_epoch to end again. */
static enum wasd_status read_retrain(struct magnitude *m, const struct weight_setup *s, struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	double epochs = s->epochs, end = or_else(s->option[END], (epochs + m->to_epoch) / 2);
	fields_pointer(ptr, s->at, "to_epoch");
	m->when.end = end;
	m->when.begin = or_else(s->option[BEGIN], end);
	if (end != floor(end) || m->to_epoch >= end)
		return wasd_fail_at(
			err, WASD_EINVAL, ptr,
			"%s is %g and pruning ends after %g epochs: that must be a whole number, and the larger one", ptr,
			m->to_epoch, end);
	if (m->retrain != FINETUNE && 2 * end - m->to_epoch != epochs)
		return wasd_fail_at(err, WASD_EINVAL, ptr,
		                    "%g dense epochs and those from %g on once more are %g, /train/epochs is %g", end,
		                    m->to_epoch, 2 * end - m->to_epoch, epochs);
	return WASD_OK;
}

static enum wasd_status read(struct magnitude *m, const struct weight_setup *s, struct wasd_err *err)
{
	const double *o = s->option;
	char ptr[FIELDS_POINTER];
	m->seed = s->seed;
	m->scope = (enum prune_scope)o[SCOPE];
	m->criterion = (enum criterion)o[CRITERION];
	m->rule = (enum prune_rule)o[RULE];
	m->retrain = (enum retrain)o[RETRAIN];
	m->collect = o[COLLECT] != 0;
	m->to_epoch = o[TO_EPOCH];
	fields_pointer(m->retrain_at, s->at, "retrain");
	m->when = (struct prune_schedule){.begin = or_else(o[BEGIN], 0.1 * s->epochs),
	                                  .end = or_else(o[END], 0.75 * s->epochs),
	                                  .every = (uint64_t)o[EVERY],
	                                  .initial = o[INITIAL],
	                                  .final = o[SPARSITY],
	                                  .power = o[POWER]};
	fields_pointer(ptr, s->at, "initial");
	if (m->when.initial > m->when.final)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "%s is %g, above the sparsity %g", ptr, m->when.initial,
		                    m->when.final);
	fields_pointer(ptr, s->at, "rule");
	if ((m->criterion == RANDOM || m->collect) && m->rule > PRUNE_TIES)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "%s must be \"exact\" or \"ties\" with %s", ptr,
		                    m->collect ? "collect" : "the criterion random");
	enum wasd_status st = m->retrain && s->epochs ? read_retrain(m, s, err) : WASD_OK;
	if (m->when.final == 0)
		m->retrain = NONE; /* there is nothing to train again */
	return st ? st : prune_check_times(m->when.begin, m->when.end, s->epochs, s->at, err);
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct magnitude *m = *self = wasd_calloc(1, sizeof *m);
	size_t layers = (size_t)setup->n_params + 1;
	if (!m)
		return wasd_fail(err, WASD_ENOMEM, "magnitude");
	enum wasd_status s = read(m, setup, err);
	if (s || (s = prune_create(&m->masks, setup, err)))
		return s;
	m->params = wasd_graph_param_count(setup->graph);
	m->stats = wasd_graph_stats_count(setup->graph);
	m->shed_below = wasd_calloc(layers, sizeof *m->shed_below);
	m->salt = wasd_calloc(layers, sizeof *m->salt);
	if (!m->shed_below || !m->salt)
		return wasd_fail(err, WASD_ENOMEM, "magnitude");
	return WASD_OK;
}

static enum wasd_status keep_room(struct kept *k, const char *name, size_t n, struct wasd_err *err)
{
	snprintf(k->name, sizeof k->name, "kept.%.30s", name);
	k->n = n;
	k->values = wasd_calloc(n + 1, sizeof *k->values);
	return k->values ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "magnitude: a copy of %zu values", n);
}

static enum wasd_status begin(void *self, const struct weight_run *r, struct wasd_err *err)
{
	struct magnitude *m = self;
	struct kept *k = m->kept;
	if (m->retrain != WEIGHTS)
		return WASD_OK;
	enum wasd_status s = keep_room(k++, "master", m->params, err);
	for (const struct weight_block *b = r->optim; !s && b->name; b++)
		s = keep_room(k++, b->name, m->params, err);
	return s || !m->stats ? s : keep_room(k, "statistics", m->stats, err);
}

static size_t begin_bytes(const void *self, int states)
{
	const struct magnitude *m = self;
	return m->retrain == WEIGHTS ? ((size_t)(1 + states) * m->params + m->stats) * sizeof(real) : 0;
}

static bool state(void *self, int i, struct weight_state *out)
{
	struct magnitude *m = self;
	if (prune_state(&m->masks, i, out))
		return true;
	i -= m->masks.n_layers;
	if (i == 0) {
		*out = (struct weight_state){.name = "shed_below",
		                             .ndims = 1,
		                             .dims = {(size_t)m->masks.n_layers},
		                             .values = m->shed_below};
		return true;
	}
	const struct kept *k = i - 1 < WASD_OPTIM_STATES + 2 ? &m->kept[i - 1] : NULL;
	if (!k || !k->n)
		return false;
	*out = (struct weight_state){.name = k->name, .ndims = 1, .dims = {k->n}, .values = k->values};
	return true;
}

/* ---- events --------------------------------------------------------------------------------------------- */

static bool is_shed(const struct magnitude *m, int layer, size_t i)
{
	real w = m->master[m->masks.layer[layer].param->info.offset + i];
	return (w < 0 ? -w : w) < m->shed_below[layer];
}

static uint64_t key(const void *ctx, int layer, size_t i)
{
	const struct magnitude *m = ctx;
	uint64_t k = m->criterion == RANDOM ?
	                 prune_random_key(m->salt[layer], i) :
	                 prune_key_of(fabs((double)m->master[m->masks.layer[layer].param->info.offset + i]));
	return m->collect && !is_shed(m, layer, i) ? k | UINT64_C(1) << 63 : k;
}

static size_t prune_all(struct magnitude *m, double sparsity, uint64_t step)
{
	size_t died = 0;
	for (int l = 0; l < m->masks.n_layers && m->criterion == RANDOM; l++)
		m->salt[l] = prune_random_salt(m->seed, step, l);
	if (m->scope == PRUNE_GLOBAL)
		return prune_to(&m->masks, PRUNE_ALL, sparsity, m->rule, key, m);
	for (int l = 0; l < m->masks.n_layers; l++)
		died += prune_to(&m->masks, l, sparsity, m->rule, key, m);
	return died;
}

static uint64_t shed_key(const void *ctx, int layer, size_t i)
{
	return !is_shed(ctx, layer, i);
}

/* 1e-3 of the root mean square of the living weights of each layer. */
static void set_shed(struct magnitude *m)
{
	for (int l = 0; l < m->masks.n_layers; l++) {
		const struct prune_layer *at = &m->masks.layer[l];
		double sum = 0;
		for (size_t i = 0; i < at->n; i++)
			if (prune_lives(at, i))
				sum += (double)m->master[at->param->info.offset + i] * (double)m->master[at->param->info.offset + i];
		m->shed_below[l] = at->living ? (real)(SHED * sqrt(sum / (double)at->living)) : 0;
	}
}

static void copy_kept(struct magnitude *m, const struct weight_run *r, bool restore)
{
	for (struct kept *k = m->kept; k->n; k++) {
		real *live = !strcmp(k->name, "kept.master") ? r->master : r->stats;
		for (const struct weight_block *b = r->optim; b->name; b++)
			live = !strcmp(k->name + 5, b->name) ? b->values : live;
		memcpy(restore ? live : k->values, restore ? k->values : live, k->n * sizeof *live);
	}
}

static void say_event(const struct magnitude *m, const struct weight_run *r, size_t died, const char *more)
{
	weight_say(r, "info", "magnitude: before step %llu, %zu weights died: %zu of %zu are zero (%.2f %%)%s",
	           (unsigned long long)r->step + 1, died, m->masks.n - m->masks.living, m->masks.n,
	           100 * (1 - (double)m->masks.living / (double)m->masks.n), more);
}

/* The event of the schedule at this step. */
static size_t scheduled(struct magnitude *m, const struct weight_run *r)
{
	bool last = r->step == prune_step_of(m->when.end, r->batches);
	size_t died = prune_all(m, prune_sparsity(&m->when, r->step, r->batches), r->step);
	prune_mask(&m->masks, r->master);
	set_shed(m);
	if (last && m->retrain == WEIGHTS) {
		copy_kept(m, r, true);
		prune_mask(&m->masks, r->master);
	}
	if (prune_is_told(&m->when, r->step, r->batches))
		say_event(m, r, died,
		          !last || !m->retrain   ? "" :
		          m->retrain == FINETUNE ? "; retraining goes on with the last rate" :
		          m->retrain == WEIGHTS  ? "; weights, optimizer and rate are rewound" :
		                                   "; the rate is rewound");
	return died;
}

static bool event(void *self, const struct weight_run *r)
{
	struct magnitude *m = self;
	bool at_end = r->step == (uint64_t)r->epochs * r->batches, changed = false;
	m->master = r->master;
	if (m->retrain == WEIGHTS && r->step == prune_step_of(m->to_epoch, r->batches))
		copy_kept(m, r, false);
	if (m->when.final > 0 && prune_is_event(&m->when, r->step, r->batches))
		changed = scheduled(m, r) || m->retrain == WEIGHTS;
	if (m->collect && at_end) {
		size_t died = 0;
		for (int l = 0; l < m->masks.n_layers; l++)
			died += prune_kill_below(&m->masks, l, 1, shed_key, m);
		prune_mask(&m->masks, r->master);
		say_event(m, r, died, ", with those that were shed");
		changed |= died > 0;
	}
	return changed;
}

static void pace(const void *self, const struct weight_run *r, struct weight_pace *out)
{
	const struct magnitude *m = self;
	uint64_t end = prune_step_of(m->when.end, r->batches);
	if (!m->retrain)
		return;
	out->epochs = (int)m->when.end;
	if (r->step < end)
		return;
	out->step = m->retrain == FINETUNE ? end - 1 : prune_step_of(m->to_epoch, r->batches) + r->step - end;
	if (m->retrain == WEIGHTS)
		out->optim_steps = out->step;
}

static const char *paces_at(const void *self)
{
	const struct magnitude *m = self;
	return m->retrain ? m->retrain_at : NULL;
}

/* ---- metrics -------------------------------------------------------------------------------------------- */

static void at_epoch(void *self, const struct weight_run *r)
{
	struct magnitude *m = self;
	m->master = r->master;
	m->shed = 0;
	for (int l = 0; l < m->masks.n_layers; l++)
		for (size_t i = 0; i < m->masks.layer[l].n && m->shed_below[l] > 0; i++)
			m->shed += prune_lives(&m->masks.layer[l], i) && is_shed(m, l, i);
}

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	const struct magnitude *m = self;
	(void)epoch;
	if (i)
		return prune_metric(&m->masks, i - 1, name, value);
	*name = "prune_shed";
	*value = m->masks.living ? (double)m->shed / (double)m->masks.living : 0;
	return true;
}

static const char *const criteria[] = {"magnitude", "random", NULL};
static const char *const rules[] = {"exact", "ties", "percentile", "histogram", NULL};
static const char *const retrains[] = {"none", "finetune", "weights", "lr", NULL};

static const struct wasd_field options[] = {
	[SPARSITY] = {"sparsity", WASD_NUM, "0.9", 0, 1, .below_max = true,
                  .summary = "share of the weights that are zero at the end; 0: off"},
	[INITIAL] = {"initial", WASD_NUM, "0", 0, 1, .below_max = true, .summary = "share at the first event"},
	[BEGIN] = {"begin", WASD_NUM, NULL, 0, 1e5,
               .summary = "first event, in epochs; default: a tenth of the run; with retrain the same as end"},
	[END] =
		{"end", WASD_NUM, NULL, 0, 1e5,
         .summary =
             "last event, in epochs; default: three quarters of the run; with retrain half of the run and of to_epoch"},
	[EVERY] = {"every", WASD_INT, "100", 1, 1e9, .summary = "steps from one event to the next"},
	[POWER] = {"power", WASD_NUM, "3", 0, 100, .above_min = true,
               .summary = "of the ramp; 3: Zhu and Gupta's, 1: a straight line"},
	[SCOPE] = {"scope", WASD_CHOICE, "\"layer\"", .choices = prune_scopes,
               .summary = "the share is that of every layer, or of all layers together"},
	[CRITERION] = {"criterion", WASD_CHOICE, "\"magnitude\"", .choices = criteria,
                   .summary = "which weights die: the smallest, or any"},
	[RULE] =
		{"rule", WASD_CHOICE, "\"exact\"", .choices = rules,
         .summary =
             "exact counts; or as TF-MOT (ties stay), the rewinding code (percentile) or TF contrib (histogram) count"},
	[COLLECT] = {"collect", WASD_BOOL, "false",
                 .summary = "shed weights die first at an event, and all of them at the end of the run"},
	[RETRAIN] =
		{"retrain", WASD_CHOICE, "\"none\"", .choices = retrains,
         .summary =
             "train from to_epoch to end again: with the last rate, the weights and rates of then, or the rates of then"},
	[TO_EPOCH] = {"to_epoch", WASD_INT, "0", 0, 1e5,
                  .summary = "with retrain: the epoch that training goes back to; the run has 2 end - to_epoch epochs"},
	LAYERS_OPTION,
	{0},
};

const struct weight_strategy weight_magnitude = {
	.name = "magnitude",
	.summary =
		"gradual magnitude pruning after Zhu, Gupta 2017; retraining after Renda et al. 2020; shedding is a reading",
	.options = options,
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.begin_bytes = begin_bytes,
	.state = state,
	.metric = metric,
	.applies = prune_applies,
	.event = event,
	.after_step = prune_after_step,
	.at_epoch = at_epoch,
	.pace = pace,
	.paces_at = paces_at,
	.resumed = prune_resumed,
};
