/* weights/slices.c - one set of weights for networks of several widths, after DS-Net, stage I (arXiv 2103.13258;
 * train_slim.py, dyn_slim_ops.py). web/docs/strategies.md.
 *
 *     width w     the first channels of every group (wasd/slice.h): W[:o, :i], the first of biases, scales and shifts,
 *                 with BatchNorm statistics of its own
 *     a step      whole network: cross-entropy with the labels, dropout
 *                 two middle widths at random, and the smallest: cross-entropy with the teacher's softmax
 *                 gradients are summed, and the optimizer makes one step
 *     teacher     the whole network under EMA weights and statistics: e <- d e + (1 - d) w after every step, with
 *                 d = min(0.997, (1 + t)/(10 + t)); or the whole network's output of the same step
 *     ensemble    the smallest learns from the mean of the teacher's softmaxes at the whole and the middle widths
 *     at first    in the first label_epochs epochs all networks learn from the labels (a reading): the softmax of a
 *                 network that has learned nothing is near uniform, and teaches the shared weights to stay so
 *
 * The gradient of a slice is added to its place in that of the whole weights; other places get none. A width whose
 * layers all have the channels of another's is left out.
 *
 * With WAS, W is sliced first and T drawn once a step for all widths: T acts on taps alone, so T(slice(W)) =
 * slice(T(W)). The EMA teacher computes with plain weights, as AOM does. Running statistics are then a mixture over
 * the draws, which fits no weights: it normalises every batch by the batch's own. */
#include "weights/slices.h"
#include "weights/strategy.h"

#include "base/fields.h"
#include "wasd/slice.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTHS, TEACHER, ENSEMBLE, LABEL_EPOCHS };
enum teacher { EMA, LARGEST };
enum { WIDTHS_MAX = 8, MIDDLES = 2 };
enum { USUAL_LABEL_STEPS = 1000 }; /* three horizons of the EMA */
#define SET_TRAIN WASD_STATS_TRAIN /* of a width's model: running values of its training passes, */
#define SET_EMA WASD_STATS_DOM     /* and their EMA */

struct width {
	double width;
	char mode[WASD_MODE_LEN], label[24], recipe[40], running[40], average[40]; /* the last two: names in the state */
	struct wasd_slim *slim;
	struct slice_runs runs;
	struct wasd_model *model;
	struct wasd_exec *exec;
};

struct slices {
	struct wasd_graph *graph;
	struct wasd_model *whole, *ema;
	struct wasd_exec *ema_exec;
	struct width width[WIDTHS_MAX]; /* without the whole network, smallest first */
	int n;
	enum teacher teacher;
	bool ensemble;
	bool draws;           /* as in struct weight_plan */
	double label_epochs;  /* NaN: as many as have USUAL_LABEL_STEPS */
	uint64_t label_steps; /* from begin on */
	uint64_t seed;
	real *taught, *mixed; /* (batch, classes): the teacher's softmax; the mean for the smallest */
};

/* ---- slices of a block ---------------------------------------------------------------------------------- */

static void add_run(struct slice_runs *r, int param, size_t whole, size_t small, size_t n)
{
	struct slice_run *last = r->n ? &r->run[r->n - 1] : NULL;
	if (last && last->param == param && last->whole + last->n == whole && last->small + last->n == small)
		last->n += n;
	else
		r->run[r->n++] = (struct slice_run){param, whole, small, n};
}

static void add_param(struct slice_runs *r, const struct wasd_slim_part *p, size_t whole, size_t small)
{
	for (int row = 0; row < p->rows; row++)
		for (int k = 0; k < p->columns; k++, small += p->taps) {
			size_t at_row = p->row ? (size_t)p->row[row] : (size_t)row,
				   at = p->column ? (size_t)p->column[k] : (size_t)k;
			add_run(r, p->from, whole + p->first + (at_row * p->row_length + at) * p->taps, small, p->taps);
		}
}

enum wasd_status slice_runs_create(const struct wasd_slim *s, const struct wasd_graph *whole, struct slice_runs *out,
                                   struct wasd_err *err)
{
	const struct wasd_graph *small = wasd_slim_graph(s);
	struct slice_runs r = {0};
	size_t most = 0;
	for (int i = 0; i < wasd_graph_params(small); i++) {
		struct wasd_slim_part p = wasd_slim_param(s, i);
		most += (size_t)p.rows * (size_t)p.columns;
	}
	if (!(r.run = wasd_calloc(most, sizeof *r.run)))
		return wasd_fail(err, WASD_ENOMEM, "slices");
	for (int i = 0; i < wasd_graph_params(small); i++) {
		struct wasd_slim_part p = wasd_slim_param(s, i);
		add_param(&r, &p, wasd_graph_param_info(whole, p.from).offset, wasd_graph_param_info(small, i).offset);
	}
	*out = r;
	return WASD_OK;
}

void slice_gather(const struct slice_runs *r, const struct wasd_model *whole, real *small)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct slice_run *at = &r->run[i];
		size_t within = at->whole - wasd_graph_param_info(wasd_model_graph(whole), at->param).offset;
		memcpy(small + at->small, wasd_model_weights(whole, at->param) + within, at->n * sizeof *small);
	}
}

void slice_scatter(const struct slice_runs *r, const real *small, real *whole)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct slice_run *at = &r->run[i];
		for (size_t k = 0; k < at->n; k++)
			whole[at->whole + k] += small[at->small + k];
	}
}

/* ---- teacher -------------------------------------------------------------------------------------------- */

double slice_decay(uint64_t t)
{
	return fmin(0.997, (1 + (double)t) / (10 + (double)t));
}

void slice_softmax(const real *z, int n, int classes, double factor, real *p)
{
	for (int i = 0; i < n; i++, z += classes, p += classes) {
		double top = (double)z[0], sum = 0;
		for (int c = 1; c < classes; c++)
			top = fmax(top, (double)z[c]);
		for (int c = 0; c < classes; c++)
			sum += exp((double)z[c] - top);
		for (int c = 0; c < classes; c++)
			p[c] += (real)(factor * exp((double)z[c] - top) / sum);
	}
}

static void average(double d, const real *now, real *ema, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ema[i] = (real)(d * (double)ema[i] + (1 - d) * (double)now[i]);
}

/* The EMA of the weights and statistics that `step` steps have made. Before the first one it is the weights. */
static void follow(struct slices *s, uint64_t step)
{
	double d = step ? slice_decay(step - 1) : 0;
	for (int i = 0; i < wasd_graph_params(s->graph); i++) {
		struct wasd_param_info p = wasd_graph_param_info(s->graph, i);
		average(d, wasd_model_weights(s->whole, i), wasd_model_master(s->ema) + p.offset, p.count);
	}
	average(d, wasd_model_stats(s->whole, WASD_STATS_TRAIN), wasd_model_stats(s->ema, SET_EMA),
	        wasd_graph_stats_count(s->graph));
	for (int i = 1; s->ensemble && i < s->n; i++)
		average(d, wasd_model_stats(s->width[i].model, SET_TRAIN), wasd_model_stats(s->width[i].model, SET_EMA),
		        wasd_graph_stats_count(wasd_slim_graph(s->width[i].slim)));
}

static enum wasd_status taught_by(const struct slices *sl, struct wasd_exec *e, const struct weight_passes *p,
                                  double factor, real *out, struct wasd_err *err)
{
	struct wasd_pass pass = {.n = p->pass->n, .bn = sl->draws ? WASD_BN_BATCH : WASD_BN_SET, .set = SET_EMA};
	enum wasd_status s = wasd_exec_forward(e, p->x, &pass, err);
	if (!s)
		slice_softmax(wasd_exec_logits(e), pass.n, wasd_exec_classes(e), factor, out);
	return s;
}

/* The softmax that all narrower networks learn from; call between the whole network's forward and backward pass. */
static enum wasd_status teach(struct slices *s, const struct weight_passes *p, struct wasd_err *err)
{
	int classes = wasd_graph_classes(s->graph);
	memset(s->taught, 0, (size_t)p->pass->n * (size_t)classes * sizeof *s->taught);
	if (s->teacher == EMA)
		return taught_by(s, s->ema_exec, p, 1, s->taught, err);
	slice_softmax(wasd_exec_logits(p->exec), p->pass->n, classes, 1, s->taught);
	return WASD_OK;
}

/* ---- passes --------------------------------------------------------------------------------------------- */

/* The width's slice of the weights that the run computes with. */
static void take_weights(const struct slices *s, struct width *w)
{
	slice_gather(&w->runs, s->whole, wasd_model_master(w->model));
}

static enum wasd_status narrow_pass(struct slices *s, struct width *w, const struct weight_passes *p,
                                    const struct wasd_targets *targets, struct wasd_err *err)
{
	struct wasd_pass pass = {.n = p->pass->n,
	                         .recipe = p->pass->recipe,
	                         .bn = WASD_BN_BATCH,
	                         .set = SET_TRAIN,
	                         .update = s->ensemble};
	double loss;
	int hits;
	take_weights(s, w);
	wasd_model_grad_zero(w->model);
	enum wasd_status st = wasd_exec_forward(w->exec, p->x, &pass, err);
	if (!st)
		st = wasd_exec_loss_of(w->exec, targets, &loss, &hits, err);
	if (!st)
		st = wasd_exec_backward(w->exec, err);
	if (!st)
		slice_scatter(&w->runs, wasd_model_grad(w->model), wasd_model_grad(s->whole));
	return st;
}

/* The share of a middle width in what the smallest learns from. */
static enum wasd_status mix(struct slices *s, struct width *w, const struct weight_passes *p, double share,
                            struct wasd_err *err)
{
	if (s->teacher == LARGEST) {
		slice_softmax(wasd_exec_logits(w->exec), p->pass->n, wasd_graph_classes(s->graph), share, s->mixed);
		return WASD_OK;
	}
	slice_gather(&w->runs, s->ema, wasd_model_master(w->model));
	return taught_by(s, w->exec, p, share, s->mixed, err);
}

/* Chooses up to two of the widths between the smallest and the whole one. Returns how many. */
static int choose_middles(const struct slices *s, uint64_t step, uint32_t out[WIDTHS_MAX])
{
	struct wasd_rng r;
	size_t n = s->n > 1 ? (size_t)s->n - 1 : 0;
	for (size_t i = 0; i < n; i++)
		out[i] = (uint32_t)i + 1;
	wasd_rng_init(&r, s->seed, "slices", step, 0);
	if (n > MIDDLES)
		wasd_rng_shuffle(&r, out, n);
	return n < MIDDLES ? (int)n : MIDDLES;
}

static bool learns_labels(const struct slices *s, const struct weight_passes *p)
{
	return p->step < s->label_steps;
}

static enum wasd_status narrow_passes(struct slices *s, const struct weight_passes *p, struct wasd_err *err)
{
	uint32_t middle[WIDTHS_MAX];
	int n = choose_middles(s, p->step, middle), values = p->pass->n * wasd_graph_classes(s->graph);
	bool labels = learns_labels(s, p), mixes = s->ensemble && !labels;
	struct wasd_targets taught = {.soft = s->taught}, mixed = {.soft = s->mixed};
	enum wasd_status st = WASD_OK;
	for (int i = 0; mixes && i < values; i++)
		s->mixed[i] = s->taught[i] / (real)(n + 1);
	for (int i = 0; !st && i < n; i++) {
		struct width *w = &s->width[middle[i]];
		st = narrow_pass(s, w, p, labels ? p->targets : &taught, err);
		if (!st && mixes)
			st = mix(s, w, p, 1.0 / (n + 1), err);
	}
	return st ? st : narrow_pass(s, &s->width[0], p, labels ? p->targets : mixes ? &mixed : &taught, err);
}

static enum wasd_status passes(void *self, const struct weight_passes *p, double *loss, int *hits, struct wasd_err *err)
{
	struct slices *s = self;
	if (s->teacher == EMA)
		follow(s, p->step);
	enum wasd_status st = wasd_exec_forward(p->exec, p->x, p->pass, err);
	if (!st)
		st = wasd_exec_loss_of(p->exec, p->targets, loss, hits, err);
	if (!st && !learns_labels(s, p))
		st = teach(s, p, err);
	if (!st)
		st = wasd_exec_backward(p->exec, err);
	return st ? st : narrow_passes(s, p, err);
}

static enum wasd_status begin(void *self, const struct weight_run *r, struct wasd_err *err)
{
	struct slices *s = self;
	(void)err;
	double epochs = isnan(s->label_epochs) ? ceil(USUAL_LABEL_STEPS / (double)r->batches) : s->label_epochs;
	s->label_steps = (uint64_t)epochs * r->batches;
	return WASD_OK;
}

static void at_epoch(void *self, const struct weight_run *r)
{
	struct slices *s = self;
	(void)r;
	for (int i = 0; i < s->n; i++)
		take_weights(s, &s->width[i]);
}

/* ---- memory --------------------------------------------------------------------------------------------- */

static size_t values_bytes(const struct wasd_graph *g, int params)
{
	return ((size_t)params * wasd_graph_param_count(g) + WASD_STATS_SETS * wasd_graph_stats_count(g)) * sizeof(real);
}

static struct wasd_exec_opts teacher_opts(const struct wasd_exec_opts *o)
{
	struct wasd_exec_opts t = *o;
	t.training = t.keep_all = false;
	return t;
}

static enum wasd_status price(const void *self, const struct wasd_exec_opts *o, size_t *bytes, struct wasd_err *err)
{
	const struct slices *s = self;
	struct wasd_exec_opts opts = teacher_opts(o);
	struct wasd_exec_price p = {0};
	size_t sum = 2 * (size_t)o->batch * (size_t)wasd_graph_classes(s->graph) * sizeof(real);
	enum wasd_status st = s->teacher == EMA ? wasd_exec_price(s->graph, &opts, &p, err) : WASD_OK;
	if (s->teacher == EMA)
		sum += p.activations + p.workspace + values_bytes(s->graph, 1);
	for (int i = 0; !st && i < s->n; i++) {
		const struct wasd_graph *g = wasd_slim_graph(s->width[i].slim);
		st = wasd_exec_price(g, o, &p, err);
		sum += p.activations + p.workspace + values_bytes(g, 2);
	}
	*bytes = sum;
	return st;
}

static enum wasd_status plan_width(struct slices *s, struct width *w, const struct weight_plan *p, struct wasd_err *err)
{
	enum wasd_status st = slice_runs_create(w->slim, s->graph, &w->runs, err);
	if (!st)
		st = wasd_model_create(wasd_slim_graph(w->slim), 0, &w->model, err);
	return st ? st : wasd_exec_create(w->model, p->exec, &w->exec, err);
}

static enum wasd_status plan_teacher(struct slices *s, const struct weight_plan *p, struct wasd_err *err)
{
	struct wasd_exec_opts o = teacher_opts(p->exec);
	enum wasd_status st = wasd_model_create(p->graph, 0, &s->ema, err);
	return st ? st : wasd_exec_create(s->ema, &o, &s->ema_exec, err);
}

static enum wasd_status plan(void *self, const struct weight_plan *p, struct wasd_err *err)
{
	struct slices *s = self;
	size_t values = (size_t)p->exec->batch * (size_t)wasd_graph_classes(p->graph);
	enum wasd_status st = WASD_OK;
	s->whole = p->model;
	s->draws = p->draws;
	s->taught = wasd_calloc(values, sizeof *s->taught);
	s->mixed = wasd_calloc(values, sizeof *s->mixed);
	if (!s->taught || !s->mixed)
		return wasd_fail(err, WASD_ENOMEM, "slices");
	for (int i = 0; !st && i < s->n; i++)
		st = plan_width(s, &s->width[i], p, err);
	return st || s->teacher != EMA ? st : plan_teacher(s, p, err);
}

/* ---- creation ------------------------------------------------------------------------------------------- */

static void destroy(void *self)
{
	struct slices *s = self;
	for (int i = 0; i < s->n; i++) {
		wasd_exec_destroy(s->width[i].exec);
		wasd_model_destroy(s->width[i].model);
		wasd_slim_destroy(s->width[i].slim);
		wasd_free(s->width[i].runs.run);
	}
	wasd_exec_destroy(s->ema_exec);
	wasd_model_destroy(s->ema);
	wasd_free(s->taught);
	wasd_free(s->mixed);
	wasd_free(s);
}

static void name_width(struct width *w)
{
	wasd_slice_mode(w->width, w->mode);
	snprintf(w->label, sizeof w->label, "width %.4g", w->width);
	snprintf(w->recipe, sizeof w->recipe, "{\"width\":%.4g}", w->width);
	snprintf(w->running, sizeof w->running, "running.%.4g", w->width);
	snprintf(w->average, sizeof w->average, "ema.%.4g", w->width);
}

static bool same_channels(const struct wasd_slim *a, const struct wasd_slim *b)
{
	const struct wasd_graph *g = wasd_slim_graph(a), *h = wasd_slim_graph(b);
	for (wasd_node n = 0; n < wasd_graph_nodes(g); n++)
		if (wasd_graph_node_info(g, n).shape.c != wasd_graph_node_info(h, n).shape.c)
			return false;
	return true;
}

/* Adds the network of a width, unless it is that of the width before, or the whole one. */
static enum wasd_status add_width(struct slices *s, double width, const char *at, struct wasd_err *err)
{
	struct wasd_err why = {0};
	struct width w = {.width = width};
	enum wasd_status st = wasd_slice_create(s->graph, width, WASD_FAMILY_WIDTH, &w.slim, &why);
	if (st)
		return st == WASD_ENOMEM ?
		           wasd_fail(err, st, "slices") :
		           wasd_fail_at(err, WASD_EINVAL, at, "%s: the network cannot be sliced: %.180s", at, why.msg);
	if (!wasd_slim_removed(w.slim) || (s->n && same_channels(w.slim, s->width[s->n - 1].slim))) {
		wasd_slim_destroy(w.slim);
		return WASD_OK;
	}
	name_width(&w);
	s->width[s->n++] = w;
	return WASD_OK;
}

static enum wasd_status check_width(const cJSON *list, int i, const char *at, struct wasd_err *err)
{
	const cJSON *v = cJSON_GetArrayItem(list, i), *before = i ? cJSON_GetArrayItem(list, i - 1) : NULL;
	double w = cJSON_IsNumber(v) ? v->valuedouble : 0;
	if (!(w >= 0.01 && w <= 1) || fabs(w * 1000 - round(w * 1000)) > 1e-9)
		return wasd_fail_at(err, WASD_EINVAL, at, "%s must be a number from 0.01 to 1 with at most three decimals", at);
	if (before && !(before->valuedouble < w))
		return wasd_fail_at(err, WASD_EINVAL, at, "%s: the widths must rise", at);
	return WASD_OK;
}

static enum wasd_status add_widths(struct slices *s, const struct weight_setup *setup, const cJSON *list,
                                   struct wasd_err *err)
{
	char at[FIELDS_POINTER], item[FIELDS_POINTER], number[12];
	int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
	enum wasd_status st = WASD_OK;
	fields_pointer(at, setup->at, "widths");
	if (n < 1 || n > WIDTHS_MAX)
		return wasd_fail_at(err, WASD_EINVAL, at, "%s must be an array of 1 to %d numbers", at, WIDTHS_MAX);
	for (int i = 0; !st && i < n; i++) {
		snprintf(number, sizeof number, "%d", i);
		fields_pointer(item, at, number);
		st = check_width(list, i, item, err);
	}
	if (!st && cJSON_GetArrayItem(list, n - 1)->valuedouble < 1)
		st = wasd_fail_at(err, WASD_EINVAL, at, "%s must end with 1, the whole network", at);
	for (int i = 0; !st && i < n; i++)
		st = add_width(s, cJSON_GetArrayItem(list, i)->valuedouble, at, err);
	return st;
}

static const char default_widths[] = "[0.25,0.5,0.75,1]";

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct slices *s = wasd_calloc(1, sizeof *s);
	const cJSON *given = setup->spec ? wasd_json_get(setup->spec, "widths") : NULL;
	cJSON *usual = given ? NULL : cJSON_Parse(default_widths);
	if (!s || (!given && !usual)) {
		wasd_free(s);
		cJSON_Delete(usual);
		return wasd_fail(err, WASD_ENOMEM, "slices");
	}
	s->graph = (struct wasd_graph *)(uintptr_t)setup->graph; /* models of it count themselves there */
	s->seed = setup->seed;
	s->teacher = (enum teacher)setup->option[TEACHER];
	s->ensemble = setup->option[ENSEMBLE] != 0;
	s->label_epochs = setup->option[LABEL_EPOCHS];
	enum wasd_status st = add_widths(s, setup, given ? given : usual, err);
	cJSON_Delete(usual);
	if (!st && s->n)
		*self = s;
	else
		destroy(s);
	return st;
}

/* ---- state and modes ------------------------------------------------------------------------------------ */

static struct weight_state block(const char *name, size_t n, real *values)
{
	return (struct weight_state){.name = name, .ndims = 1, .dims = {n}, .values = values};
}

/* The EMA of the weights and of the statistics; with an ensemble those of the middle widths, and the running values
 * that they follow. Before plan, a list without values tells the sizes. */
static bool state(void *self, int i, struct weight_state *out)
{
	struct slices *s = self;
	size_t stats = wasd_graph_stats_count(s->graph);
	if (s->teacher != EMA)
		return false;
	if (i == 0)
		*out = block("ema", wasd_graph_param_count(s->graph), s->ema ? wasd_model_master(s->ema) : NULL);
	if (i == 1 && stats)
		*out = block("ema_stats", stats, s->ema ? wasd_model_stats(s->ema, SET_EMA) : NULL);
	if (i < 2)
		return !i || stats;
	int w = i / 2;
	if (!s->ensemble || w >= s->n)
		return false;
	struct width *at = &s->width[w];
	size_t n = wasd_graph_stats_count(wasd_slim_graph(at->slim));
	*out = i % 2 ? block(at->average, n, at->model ? wasd_model_stats(at->model, SET_EMA) : NULL) :
	               block(at->running, n, at->model ? wasd_model_stats(at->model, SET_TRAIN) : NULL);
	return true;
}

static bool network(const void *self, int i, struct weight_network *out)
{
	const struct slices *s = self;
	if (i >= s->n)
		return false;
	const struct width *w = &s->width[i];
	*out = (struct weight_network){w->mode, w->label, "width", w->recipe, w->slim, w->model, w->exec};
	return true;
}

static const char *const teachers[] = {"ema", "largest", NULL};

static const struct wasd_field options[] = {
	[WIDTHS] = {"widths", WASD_LIST, default_widths, 1, WIDTHS_MAX, .items = "numbers",
                .summary = "shares of the channels that each network has, rising, 1 last; rounded to multiples of 8"},
	[TEACHER] = {"teacher", WASD_CHOICE, "\"ema\"", .choices = teachers,
                 .summary = "what the narrower networks learn from: the whole one's moving average, or itself"},
	[ENSEMBLE] = {"ensemble", WASD_BOOL, "false",
                  .summary = "the smallest learns from the mean over the whole and the middle widths"},
	[LABEL_EPOCHS] = {"label_epochs", WASD_INT, NULL, 0, 100000,
                      .summary = "first epochs, in which all widths learn from the labels; default: as many as have "
                                 "1000 steps; 0: none, as published"},
	{0},
};

const struct weight_strategy weight_slices = {
	.name = "slices",
	.summary = "networks of several widths share their first channels and are trained together, after DS-Net 2021",
	.options = options,
	.create = create,
	.destroy = destroy,
	.state = state,
	.begin = begin,
	.at_epoch = at_epoch,
	.passes = passes,
	.price = price,
	.plan = plan,
	.network = network,
};
