/* train/search.c - a run whose optimizer searches (wasd/optim.h): what its spec may say, its steps, and what they cost.
 *
 * An epoch has as many steps as the search needs to try every scalar once, so the epochs of the loader, which are
 * passes over the images, have nothing to do with those of the run. */
#include "train/trainer.h"

#include "graph/graph.h"

#include <math.h>
#include <string.h>

static enum wasd_status refuse(const struct wasd_trainer *t, const char *at, const char *why, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_EINVAL, at, "%s: optimizer \"%s\" %s", at, t->optim_kind->name, why);
}

static enum wasd_status check(const struct wasd_trainer *t, struct wasd_err *err)
{
	bool listed = cJSON_GetArraySize(t->spec.weights) > 0;
	if (trainer_draws(t) || listed)
		return refuse(t, listed ? "/weights" : "/was",
		              "compares losses of weights as they are, which no strategy may form: \"was\" must be false", err);
	if (t->spec.precision == WASD_PRECISION_BF16)
		return refuse(t, "/train/precision", "compares losses that bfloat16 cannot tell apart", err);
	if (t->spec.label_smoothing > 0)
		return refuse(t, "/train/label_smoothing", "compares plain losses: it must be 0", err);
	if (t->spec.balanced || t->spec.class_weights)
		return refuse(t, "/train/class_weights", "compares plain losses: leave them out", err);
	if (augment_mixes(&t->spec.augment))
		return refuse(t, "/train/augment", "compares plain losses: no augmentation may mix images", err);
	if (t->schedule.kind != wasd_schedule_kind_at(0) || t->schedule.warmup > 0)
		return refuse(t, "/train/schedule", "has no learning rate: leave the schedule out", err);
	return WASD_OK;
}

enum wasd_status train_search_create(struct wasd_trainer *t, struct wasd_err *err)
{
	struct wasd_optim *settings = NULL; /* of a single parameter: only its options matter here */
	enum wasd_status s = wasd_optim_create(t->spec.optimizer, 1, &settings, err);
	if (s)
		return s;
	t->optim_kind = wasd_optim_kind_of(settings);
	const struct wasd_search *search = t->optim_kind->search;
	struct wasd_search_setup setup = {.opt = wasd_optim_options(settings),
	                                  .spares = wasd_optim_spares(settings),
	                                  .graph = t->graph,
	                                  .batch = t->spec.batch,
	                                  .epochs = t->spec.epochs,
	                                  .seed = t->spec.seed};
	if (search && !(s = check(t, err)) && !(s = search->create(&setup, &t->searching, err)))
		t->search = search;
	wasd_optim_destroy(settings);
	return s;
}

enum wasd_status train_search_begin(struct wasd_trainer *t, struct wasd_err *err)
{
	return t->search ? t->search->begin(t->searching, err) : WASD_OK;
}

void train_search_destroy(struct wasd_trainer *t)
{
	if (t->search)
		t->search->destroy(t->searching);
}

size_t train_search_bytes(const struct wasd_trainer *t)
{
	return t->search ? t->search->bytes(t->searching) : 0;
}

void train_search_plan(const struct wasd_trainer *t, struct wasd_exec_opts *o)
{
	o->training = !t->search;
	o->keep_all = t->search != NULL;
}

enum wasd_status train_search_step(struct wasd_trainer *t, const struct wasd_batch *b,
                                   const struct wasd_targets *targets, double *loss, int *hits, struct wasd_err *err)
{
	struct wasd_search_step step = {.model = t->model,
	                                .exec = t->exec,
	                                .epoch = t->epoch,
	                                .step = t->next,
	                                .x = b->x,
	                                .n = b->n,
	                                .targets = targets};
	struct wasd_search_result r;
	enum wasd_status s = t->search->step(t->searching, &step, &r, err);
	if (s)
		return s;
	t->tried += r.tried;
	t->changed += r.changed;
	*loss = r.loss;
	*hits = r.hits;
	return WASD_OK;
}

/* ---- costs ------------------------------------------------------------------------------------------------------ */

/* Forward passes of a batch that an epoch costs. */
static double passes(const struct wasd_trainer *t)
{
	return t->search->passes(t->searching, 0, t->search->steps(t->searching));
}

double train_search_mean_step(const struct wasd_trainer *t, uint32_t from, uint32_t to)
{
	return passes(t) / t->search->steps(t->searching) / (t->search->passes(t->searching, from, to) / (to - from));
}

/* Epochs of training by gradients that compute as much as one of the search: three passes for each image. */
static double epochs_by_gradients(const struct wasd_trainer *t)
{
	return passes(t) * t->spec.batch / (3.0 * (double)t->holdout.n_train);
}

void train_search_describe(const struct wasd_trainer *t, char *text, size_t size)
{
	uint32_t steps = t->search->steps(t->searching);
	bool he = t->graph->initial == WASD_INITIAL_HE;
	wasd_line(text, size,
	          "%s tries every weight once per epoch: %u steps of %d images, as much computing as %.3g epochs by "
	          "gradients, %.3g in all%s",
	          t->optim_kind->name, (unsigned)steps, t->spec.batch, epochs_by_gradients(t),
	          epochs_by_gradients(t) * t->spec.epochs,
	          he ? "" : "; its changes are made for \"init\": \"he\" in model");
}

enum { TIMED = 16 };

void train_search_say_time(const struct wasd_trainer *t, uint64_t begun)
{
	uint64_t done = trainer_step(t);
	uint32_t from = t->next > TIMED ? t->next - TIMED : 0;
	if (!t->search || done != begun + TIMED)
		return;
	double epoch_s = t->step_us * 1e-6 * train_search_mean_step(t, from, t->next) * t->batches,
		   left = (double)t->spec.epochs - (double)done / t->batches;
	trainer_say(t, "info", "by the first %d steps an epoch takes about %.0f s, the rest of the run %.3g h", TIMED,
	            epoch_s, epoch_s * left / 3600);
}
