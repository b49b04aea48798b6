/* train/adjust.c - at the end of a run, measures what the multiply-adds of each width are worth (FLOPs utilisation),
 * and finds the widths of the next network (models/adjust.h).
 *
 * The loss is that of the validation images with plain weights and stored statistics. Each pass with channel dropout
 * draws from a stream of its own, so that the result depends on weights and seed alone. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

/* ---- what can be adjusted --------------------------------------------------------------------------------------- */

static enum wasd_status check_first(const struct wasd_trainer *t, struct wasd_err *err)
{
	const cJSON *first = t->spec.adjust.first, *one;
	bool ok = !first || (cJSON_IsArray(first) && cJSON_GetArraySize(first) == t->widths.n);
	cJSON_ArrayForEach(one, first)
		ok &= cJSON_IsNumber(one) && one->valuedouble >= 1 && one->valuedouble <= 1e6;
	return ok ? WASD_OK :
	            wasd_fail_at(err, WASD_EINVAL, "/adjust/first", "/adjust/first must have the %d widths of a network",
	                         t->widths.n);
}

enum wasd_status train_adjust_create(struct wasd_trainer *t, struct wasd_err *err)
{
	if (!t->spec.adjust.on)
		return WASD_OK;
	if (chain_cuts_at(t->weights))
		return wasd_fail_at(err, WASD_EINVAL, "/adjust",
		                    "cannot adjust a network that becomes smaller while it trains");
	struct weight_network network;
	if (chain_network(t->weights, 0, &network))
		return wasd_fail_at(err, WASD_EINVAL, "/adjust", "cannot adjust a network that is trained in several widths");
	if (!t->holdout.n_val)
		return wasd_fail_at(err, WASD_EINVAL, "/adjust", "needs validation images: see /data/val_fraction");
	if (t->spec.adjust.iteration > t->spec.adjust.iterations)
		return wasd_fail_at(err, WASD_EINVAL, "/adjust/iteration", "there are only %d iterations",
		                    t->spec.adjust.iterations);
	enum wasd_status s = adjust_find(t->spec.model, t->graph, &t->widths, err);
	double *m = s ? NULL : wasd_calloc((size_t)t->widths.n, sizeof *m);
	if (!s && !m)
		s = wasd_fail(err, WASD_ENOMEM, "adjust");
	if (!s && !(s = check_first(t, err)))
		s = adjust_costs(&t->widths, m, err); /* also shows that the widths may differ */
	wasd_free(m);
	return s;
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

/* The channel dropout of a pass over the images; drop 0: none. */
struct dropping {
	wasd_node drop;
	double rate;
	struct wasd_rng rng;
};

static enum wasd_status prepare(void *ctx, struct wasd_pass *p, struct wasd_err *err)
{
	struct dropping *d = ctx;
	(void)err;
	p->bn = WASD_BN_SET;
	p->set = WASD_STATS_AOM;
	p->dropout = d->drop ? &d->rng : NULL;
	p->drop = d->drop;
	p->drop_p = d->rate;
	return WASD_OK;
}

static enum wasd_status loss_of(struct wasd_trainer *t, struct dropping *d, struct measure_tick tick, double *loss,
                                struct wasd_err *err)
{
	struct measure_result r;
	enum wasd_status s = measure_accuracy(t->exec, t->val, &(struct measure_pass){prepare, d}, tick, NULL, &r, err);
	if (s)
		return s;
	*loss = r.loss;
	return isfinite(r.loss) ? WASD_OK : trainer_diverged(t, "the loss with channel dropout", err);
}

static enum wasd_status measure_fur(struct wasd_trainer *t, const double *rates, struct measure_tick tick, double *base,
                                    double *fur, struct wasd_err *err)
{
	struct dropping none = {0};
	double loss, sum;
	enum wasd_status s = loss_of(t, &none, tick, base, err);
	for (int i = 0; !s && i < t->widths.n; i++) {
		sum = 0;
		for (int k = 0; !s && k < t->spec.adjust.times; k++) {
			struct dropping d = {.drop = t->widths.width[i].drop, .rate = rates[i]};
			wasd_rng_init(&d.rng, t->spec.seed, "adjust", (uint64_t)i, (uint64_t)k);
			if (!(s = loss_of(t, &d, tick, &loss, err)))
				sum += loss - *base;
		}
		fur[i] = sum / t->spec.adjust.times;
	}
	return s;
}

/* ---- the next network ------------------------------------------------------------------------------------------- */

/* next: on input the widths as they are, on output those of the next network. */
static enum wasd_status decide(const struct wasd_trainer *t, const double *fur, const int *first, int *next,
                               struct wasd_err *err)
{
	const struct train_adjust_spec *a = &t->spec.adjust;
	uint64_t target = a->macs ? a->macs : wasd_graph_macs(t->graph, NULL);
	int k = adjust_count(a->update, a->update_decay, a->iteration - 1);
	enum wasd_status s = adjust_step(fur, t->widths.n, k, a->step, a->step_decay, first, next, err);
	return s ? s : adjust_rescale(&t->widths, target, next, err);
}

/* The member "adjust" of the next job: null behind the last iteration. */
static cJSON *next_adjust(const struct wasd_trainer *t, const int *first)
{
	const struct train_adjust_spec *a = &t->spec.adjust;
	if (a->iteration == a->iterations)
		return cJSON_CreateNull();
	cJSON *j = cJSON_Duplicate(wasd_json_get(t->spec_json, "adjust"), true);
	static const char *const own[] = {"iteration", "first", "macs"};
	for (int i = 0; i < 3; i++)
		cJSON_DeleteItemFromObjectCaseSensitive(j, own[i]);
	cJSON_AddNumberToObject(j, own[0], a->iteration + 1);
	trainer_add(j, own[1], cJSON_CreateIntArray(first, t->widths.n));
	cJSON_AddNumberToObject(j, own[2], a->macs ? (double)a->macs : (double)wasd_graph_macs(t->graph, NULL));
	return j;
}

static cJSON *next_json(const struct wasd_trainer *t, const int *first, const int *next, uint64_t macs)
{
	cJSON *j = cJSON_CreateObject(), *values = cJSON_AddObjectToObject(j, "values"),
		  *spec = cJSON_AddObjectToObject(j, "spec");
	trainer_add(values, "channels", cJSON_CreateIntArray(next, t->widths.n));
	cJSON_AddNumberToObject(values, "macs", (double)macs);
	trainer_add(spec, "model", adjust_model(&t->widths, next));
	trainer_add(spec, "adjust", next_adjust(t, first));
	return trainer_complete(j, cJSON_GetArraySize(values) == 2 && cJSON_GetArraySize(spec) == 2 ? 2 : 0);
}

static enum wasd_status report(struct wasd_trainer *t, double base, const double *rates, const double *fur,
                               const int *first, const int *next, struct wasd_err *err)
{
	uint64_t macs;
	int n = t->widths.n;
	enum wasd_status s = adjust_macs(&t->widths, next, &macs, err);
	if (s)
		return s;
	cJSON *j = cJSON_CreateObject();
	trainer_add(j, "channels", cJSON_CreateIntArray(t->widths.channels, n));
	cJSON_AddNumberToObject(j, "macs", (double)wasd_graph_macs(t->graph, NULL));
	cJSON_AddNumberToObject(j, "loss", base);
	trainer_add(j, "rates", cJSON_CreateDoubleArray(rates, n));
	trainer_add(j, "fur", cJSON_CreateDoubleArray(fur, n));
	trainer_add(j, "next", next_json(t, first, next, macs));
	j = trainer_complete(j, 6);
	cJSON_DeleteItemFromObjectCaseSensitive(t->info, "adjusted");
	if (!j || !cJSON_AddItemToObject(t->info, "adjusted", j)) {
		cJSON_Delete(j);
		return wasd_fail(err, WASD_ENOMEM, "adjust");
	}
	trainer_say(t, "info", "adjusted the widths of iteration %d of %d: %.0f multiply-adds before, %.0f after",
	            t->spec.adjust.iteration, t->spec.adjust.iterations, (double)wasd_graph_macs(t->graph, NULL),
	            (double)macs);
	return WASD_OK;
}

enum wasd_status train_adjust_measure(struct wasd_trainer *t, struct measure_tick tick, struct wasd_err *err)
{
	size_t n = (size_t)t->widths.n;
	double *m = wasd_calloc(3 * n, sizeof *m), *rates = m + n, *fur = m + 2 * n, base = 0;
	int *first = wasd_calloc(2 * n, sizeof *first), *next = first + n;
	enum wasd_status s = m && first ? adjust_costs(&t->widths, m, err) : wasd_fail(err, WASD_ENOMEM, "adjust");
	if (!s && !adjust_rates(t->spec.adjust.rate, m, t->widths.n, rates))
		trainer_say(t, "warn", "the rate of channel dropout would exceed %g in some layers and is %g there",
		            ADJUST_RATE_MAX, ADJUST_RATE_MAX);
	if (!s)
		s = measure_fur(t, rates, tick, &base, fur, err);
	for (size_t i = 0; !s && i < n; i++) {
		const cJSON *given = cJSON_GetArrayItem(t->spec.adjust.first, (int)i);
		first[i] = given ? given->valueint : t->widths.channels[i];
		next[i] = t->widths.channels[i];
	}
	if (!s)
		s = decide(t, fur, first, next, err);
	if (!s)
		s = report(t, base, rates, fur, first, next, err);
	wasd_free(m);
	wasd_free(first);
	return s;
}
