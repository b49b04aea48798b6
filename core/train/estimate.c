/* train/estimate.c - what a run would take: its sizes, from spec and dataset alone, and the times of its steps, from a
 * few of them on this machine. Nothing here changes what later runs compute: no algorithm is measured or remembered. */
#include "backend/backend.h"
#include "train/measure.h"
#include "train/trainer.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes ------------------------------------------------------------------------------------------------ */

static size_t optimizer_states(const struct wasd_trainer *t)
{
	struct wasd_optim *o = NULL;
	const char *name;
	int n = 0;
	if (wasd_optim_create(t->spec.optimizer, 1, &o, NULL) == WASD_OK)
		while (wasd_optim_state(o, n, &name))
			n++;
	wasd_optim_destroy(o);
	return (size_t)n;
}

/* Values of the parameters that links form: a checkpoint has them twice. */
static size_t linked(const struct wasd_trainer *t)
{
	size_t n = 0;
	for (int i = 0; i < wasd_graph_params(t->graph); i++)
		n += chain_links(t->weights, i) ? wasd_graph_param_info(t->graph, i).count : 0;
	return n;
}

/* Values of the parameters that are composed: a checkpoint has no optimizer state for them. */
static size_t composed(const struct wasd_trainer *t)
{
	size_t n = 0;
	for (int i = 0; i < wasd_graph_params(t->graph); i++)
		n += chain_composes(t->weights, i) ? wasd_graph_param_info(t->graph, i).count : 0;
	return n;
}

/* Those among them that it does not have at all. */
static size_t left_out(const struct wasd_trainer *t)
{
	size_t n = 0;
	for (int i = 0; i < wasd_graph_params(t->graph); i++)
		n += chain_compact(t->weights, i) ? wasd_graph_param_info(t->graph, i).count : 0;
	return n;
}

/* Without the text at the head of the file, some kilobytes. states: of the optimizer. */
static size_t checkpoint_bytes(const struct wasd_trainer *t, size_t states)
{
	struct chain_state own;
	size_t values = wasd_graph_param_count(t->graph) * (1 + states) + linked(t) - composed(t) * states - left_out(t) +
	                wasd_graph_stats_count(t->graph) * (size_t)(1 + t->n_modes);
	size_t bytes = values * sizeof(real);
	for (int i = 0; chain_state(t->weights, i, &own); i++)
		bytes += weight_state_bytes(&own.tensor) * (own.learned ? 1 + states : 1);
	return bytes;
}

/* Epochs after which something is due that is due every `every` epochs and at the end. */
static int due(int epochs, int every)
{
	return epochs / every + (epochs % every != 0);
}

/* Forward passes of single images in all evaluations of the run, and in the measurements of statistics before them. */
static double evaluated_images(const struct wasd_trainer *t)
{
	double val = (double)t->holdout.n_val, test = (double)wasd_dataset_count(t->data, WASD_TEST), modes = 0;
	double images = (double)t->holdout.n_train, batches = floor(images / t->spec.batch);
	double calibrated = batches < 1 ? images : fmin(batches, CALIBRATION_BATCHES) * t->spec.batch;
	int evaluations = due(t->spec.epochs, t->spec.eval_every), saves = due(t->spec.epochs, t->spec.checkpoint_every);
	int tests = !val || t->spec.test_when != TEST_LAST ? evaluations : 1;
	for (int i = 0; i < t->n_modes; i++)
		modes += t->mode[i].evaluated;
	double sum = modes * (evaluations * val + tests * test);
	if (t->widths.n)
		sum += (1.0 + (double)t->widths.n * t->spec.adjust.times) * val;
	if (trainer_measures(t))
		sum += t->n_modes * (double)(evaluations > saves ? evaluations : saves) * calibrated;
	return sum;
}

static cJSON *images_json(const struct wasd_trainer *t)
{
	cJSON *j = cJSON_CreateObject();
	cJSON_AddNumberToObject(j, "train", (double)t->holdout.n_train);
	cJSON_AddNumberToObject(j, "val", (double)t->holdout.n_val);
	cJSON_AddNumberToObject(j, "test", (double)wasd_dataset_count(t->data, WASD_TEST));
	cJSON_AddNumberToObject(j, "evaluated", evaluated_images(t));
	cJSON_AddNumberToObject(j, "epoch",
	                        t->search ? (double)t->search->steps(t->searching) * t->spec.batch :
	                                    (double)t->holdout.n_train);
	return trainer_complete(j, 5);
}

static cJSON *macs_json(const struct wasd_trainer *t)
{
	cJSON *j = cJSON_CreateObject();
	for (int i = 0; i < t->n_modes; i++)
		cJSON_AddNumberToObject(j, t->mode[i].name, (double)trainer_macs(t, &t->mode[i]));
	return trainer_complete(j, t->n_modes);
}

/* Bytes by what they are for. The evaluation's plan exists beside that of training. states: of the optimizer. */
static enum wasd_status price(const struct wasd_trainer *t, const char *backend, size_t states, size_t checkpoint,
                              cJSON **out, struct wasd_err *err)
{
	struct wasd_exec_opts o = {.batch = t->spec.batch,
	                           .precision = t->spec.precision,
	                           .backend = backend,
	                           .unmeasured = true};
	struct wasd_exec_price train, eval = {0};
	struct wasd_err why = {0};
	size_t params = wasd_graph_param_count(t->graph) * sizeof(real), loaders = 2,
		   learned = trainer_learned(t) * sizeof(real), own = 0;
	train_search_plan(t, &o);
	enum wasd_status s = wasd_exec_price(t->graph, &o, &train, &why);
	if (!s)
		s = chain_price(t->weights, &o, &own, &why);
	o.training = o.keep_all = false;
	if (!s && t->spec.statistics == STATISTICS_OWN)
		s = wasd_exec_price(t->graph, &o, &eval, &why);
	if (s)
		return wasd_fail_at(err, s, "/train/batch", "%s", why.msg);
	loaders += (t->holdout.n_val > 0) + (wasd_dataset_count(t->data, WASD_TEST) > 0);
	size_t batch = (size_t)t->spec.batch * wasd_shape_count(wasd_graph_input_shape(t->graph)) * sizeof(real);
	double evaluation = (double)(eval.activations + eval.workspace) + (eval.activations ? 2.0 * (double)params : 0);
	cJSON *j = cJSON_CreateObject();
	cJSON_AddNumberToObject(j, "parameters", (double)(params * (linked(t) ? 2 : 1) + learned));
	cJSON_AddNumberToObject(j, "gradients", t->search ? 0 : (double)(params + learned));
	cJSON_AddNumberToObject(j, "optimizer", (double)(params + learned) * (double)states);
	cJSON_AddNumberToObject(j, "activations", (double)train.activations);
	cJSON_AddNumberToObject(j, "workspace",
	                        (double)(train.workspace + train_search_bytes(t) + own +
	                                 chain_begin_bytes(t->weights, (int)states)));
	cJSON_AddNumberToObject(j, "evaluation", evaluation);
	cJSON_AddNumberToObject(j, "batches", (double)(2 * loaders * batch));
	cJSON_AddNumberToObject(j, "checkpoint", (double)checkpoint);
	cJSON_AddNumberToObject(j, "program", trainer_rss_bytes());
	*out = trainer_complete(j, 9);
	return *out ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "estimate");
}

static enum wasd_status sizes(const struct wasd_trainer *t, const char *backend, cJSON **out, struct wasd_err *err)
{
	size_t states = optimizer_states(t), checkpoint = checkpoint_bytes(t, states);
	cJSON *memory = NULL, *macs = macs_json(t), *images = images_json(t), *j = NULL;
	enum wasd_status s = macs && images ? price(t, backend, states, checkpoint, &memory, err) :
	                                      wasd_fail(err, WASD_ENOMEM, "estimate");
	if (!s) {
		int batch = t->spec.batch;
		int64_t steps = t->search ? t->search->steps(t->searching) :
		                            (int64_t)((t->holdout.n_train + (size_t)batch - 1) / (size_t)batch);
		j = wasd_message(NULL, "params:i macs:j memory:j images:j checkpoint_bytes:i epochs:i steps:i",
		                 (int64_t)wasd_graph_param_count(t->graph), macs, memory, images, (int64_t)checkpoint,
		                 (int64_t)t->spec.epochs, steps);
		*out = j;
		return j ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "estimate");
	}
	cJSON_Delete(macs);
	cJSON_Delete(images);
	return s;
}

enum wasd_status wasd_train_estimate(const struct wasd_train_opts *o, cJSON **out, struct wasd_err *err)
{
	struct wasd_trainer *t = wasd_calloc(1, sizeof *t);
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	enum wasd_status s = trainer_settings(t, o, err);
	if (!s)
		s = sizes(t, o->backend, out, err);
	wasd_trainer_destroy(t);
	return s;
}

/* ---- times ------------------------------------------------------------------------------------------------ */

enum { FEW = 8, STEPS = 24, EVALUATIONS = 4 };

/* One piece of the measurement: the times at which its batches ended. */
struct clock {
	int64_t until_us, at[STEPS + 1];
	int n, most;
	bool over; /* training of the first epoch is over */
};

static bool goes_on(const struct clock *c)
{
	return c->n <= c->most && (c->n < 2 || wasd_mono_us() < c->until_us);
}

static void mark(struct clock *c)
{
	if (c->n <= c->most)
		c->at[c->n++] = wasd_mono_us();
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The median, in seconds; the first batch counts only if there is no other: kernels are made during it. 0: none. */
static double usual(const struct clock *c, int *counted)
{
	double s[STEPS];
	int first = c->n > 2 ? 1 : 0, n = c->n - 1 - first;
	for (int i = 0; i < n; i++)
		s[i] = (double)(c->at[i + first + 1] - c->at[i + first]) * 1e-6;
	if (n > 0)
		qsort(s, (size_t)n, sizeof *s, by_value);
	*counted = n > 0 ? n : 0;
	return n > 0 ? s[n / 2] : 0;
}

static bool run_over(void *ctx)
{
	struct clock *c = ctx;
	if (!c->n)
		mark(c);
	return c->over || !goes_on(c);
}

static void run_progress(void *ctx, const struct wasd_train_progress *p)
{
	struct clock *c = ctx;
	if (p->phase == WASD_TRAIN_STEP)
		mark(c);
	c->over |= p->phase != WASD_TRAIN_STEP || p->done == p->total;
}

static bool evaluation_goes_on(void *ctx, uint32_t done, uint32_t of)
{
	struct clock *c = ctx;
	(void)done, (void)of;
	mark(c);
	return goes_on(c);
}

static enum wasd_status time_evaluation(struct wasd_trainer *t, int64_t until_us, struct wasd_train_times *out,
                                        struct wasd_err *err)
{
	struct measure_net net = {0};
	struct measure_result r;
	struct clock c = {.until_us = until_us, .most = EVALUATIONS};
	int n;
	enum wasd_status s = measure_net_create(t->model, NULL, WASD_STATS_TRAIN, &t->eval, &net, err);
	if (!s)
		s = measure_accuracy(net.exec, t->calib, NULL, (struct measure_tick){evaluation_goes_on, &c}, NULL, &r, err);
	if (!s)
		mark(&c);
	measure_net_done(&net);
	out->image_s = usual(&c, &n) / out->batch;
	return s == WASD_ECANCELLED ? WASD_OK : s;
}

/* Trains some steps with batches of this size, then evaluates some batches. */
static enum wasd_status time_batch(const struct wasd_train_opts *o, int batch, int64_t until_us,
                                   struct wasd_train_times *out, struct wasd_err *err)
{
	struct wasd_train_opts quick = *o;
	struct wasd_trainer *t = NULL;
	struct clock c = {.until_us = until_us, .most = STEPS};
	struct wasd_train_hooks h = {.ctx = &c, .should_stop = run_over, .progress = run_progress};
	enum wasd_train_end end;
	quick.unmeasured = true;
	quick.batch = batch;
	enum wasd_status s = wasd_trainer_create(&quick, &t, err);
	if (!s)
		s = wasd_trainer_run(t, &h, &end, NULL, err);
	struct wasd_train_times now = {.batch = batch};
	now.step_s = usual(&c, &now.steps);
	if (!s && t->search)
		now.step_s *= train_search_mean_step(t, 0, t->next ? t->next : t->batches);
	if (s == WASD_ENUMERIC && now.steps) /* how long a step takes does not depend on its numbers */
		s = WASD_OK;
	if (!s)
		s = time_evaluation(t, wasd_mono_us() + (until_us - wasd_mono_us()) / 2, &now, err);
	wasd_trainer_destroy(t);
	if (!s)
		*out = now;
	return s;
}

/* The largest power of two of batches of FEW, up to the whole batch, of which three fit into the time. */
static int affordable(const struct wasd_train_times *few, int batch, int64_t left_us)
{
	double image_s = few->step_s / few->batch;
	int b = few->batch;
	while (b < batch && 4 * image_s * (b * 2 < batch ? b * 2 : batch) < (double)left_us * 1e-6)
		b = b * 2 < batch ? b * 2 : batch;
	return b;
}

enum wasd_status wasd_train_measure(const struct wasd_train_opts *o, int batch, int64_t budget_us,
                                    struct wasd_train_times *out, struct wasd_err *err)
{
	int64_t begun = wasd_mono_us(), until = begun + budget_us;
	int few = batch < FEW ? batch : FEW;
	struct wasd_train_times times = {0};
	enum wasd_status s = time_batch(o, few, begun + budget_us / 4, &times, err);
	int more = s ? 0 : affordable(&times, batch, until - wasd_mono_us());
	if (more > few)
		s = time_batch(o, more, until, &times, err);
	if (s)
		return s;
	times.step_s *= (double)batch / times.batch;
	*out = times;
	return WASD_OK;
}
