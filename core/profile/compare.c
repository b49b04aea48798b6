/* profile/compare.c - compares a searched profile with random draws of the same cost (wasd/profile.h): the benchmark of
 * the search. */
#include "profile/maker.h"

#include <string.h>

enum { CALIBRATION = 4, TEST = 10 }; /* batches; each evaluation uses both */

static bool told(struct maker *m, int done, int of)
{
	return !m->o->go_on || m->o->go_on(m->o->ctx, done, of);
}

static void shuffled(struct wasd_rng *r, uint32_t *order, int n)
{
	for (int i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	wasd_rng_shuffle(r, order, (size_t)n);
}

/* Gives layers random transforms in random order until they save `need`. If all layers have one and that is not enough,
 * replaces them in random order by a transform with the largest saving. */
static void random_pick(const struct search_space *space, struct wasd_rng *r, uint64_t need, int *pick)
{
	uint32_t order[256];
	int n = space->n < 256 ? space->n : 256;
	memset(pick, 0, (size_t)space->n * sizeof *pick);
	shuffled(r, order, n);
	for (int i = 0; i < n && search_saving(space, pick) < need; i++) {
		const struct search_layer *l = &space->layer[order[i]];
		if (l->n > 1)
			pick[order[i]] = 1 + (int)wasd_rng_below(r, (uint32_t)l->n - 1);
	}
	shuffled(r, order, n);
	for (int i = 0; i < n && search_saving(space, pick) < need; i++) {
		const struct search_layer *l = &space->layer[order[i]];
		int dearest = l->n - 1, same = dearest;
		while (same > 0 && l->option[same - 1].saves == l->option[dearest].saves)
			same--;
		pick[order[i]] = same + (int)wasd_rng_below(r, (uint32_t)(dearest - same) + 1);
	}
}

static bool add_row(cJSON *o, double macs, double plain, double accuracy)
{
	return cJSON_AddNumberToObject(o, "macs_share", macs / plain) && cJSON_AddNumberToObject(o, "accuracy", accuracy);
}

struct judged {
	const struct wasd_recipe *recipe;
};

static enum wasd_status own_statistics(void *ctx, struct wasd_pass *p, struct wasd_err *err)
{
	(void)err;
	p->recipe = ((const struct judged *)ctx)->recipe;
	p->set = p->recipe ? WASD_STATS_DOM : WASD_STATS_AOM;
	return WASD_OK;
}

/* Accuracy on the images of `test` with freshly measured statistics (r NULL: plain weights). Does not compile a bundle
 * as serving does: for a few images that costs more than the passes. */
static enum wasd_status judge(struct maker *m, const struct wasd_recipe *r, struct wasd_loader *test,
                              struct measure_result *out, struct wasd_err *err)
{
	struct judged j = {r};
	struct measure_tick tick = maker_tick(m);
	enum wasd_status s = measure_statistics(m->exec, m->calib, r, r ? WASD_STATS_DOM : WASD_STATS_AOM, tick, err);
	return s ? s : measure_accuracy(m->exec, test, &(struct measure_pass){own_statistics, &j}, tick, NULL, out, err);
}

static enum wasd_status draw_at_random(struct maker *m, struct wasd_loader *test, int draws, uint64_t need, cJSON *list,
                                       struct wasd_err *err)
{
	double plain = (double)wasd_graph_macs(m->graph, NULL);
	struct measure_result r;
	struct wasd_rng rng;
	int *pick = wasd_calloc((size_t)m->space.n, sizeof *pick);
	enum wasd_status s = pick ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "random draws");
	wasd_rng_init(&rng, m->spec.seed, "random draws", 0, 0);
	for (int i = 0; i < draws && !s; i++) {
		random_pick(&m->space, &rng, need, pick);
		maker_set_draw(m, pick);
		if ((s = judge(m, &m->draw.recipe, test, &r, err)))
			break;
		cJSON *row = cJSON_CreateObject();
		if (!cJSON_AddItemToArray(list, row) ||
		    !add_row(row, plain - (double)search_saving(&m->space, pick), plain, r.accuracy))
			s = wasd_fail(err, WASD_ENOMEM, "random draws");
		else if (!told(m, i + 1, draws))
			s = WASD_ECANCELLED;
	}
	wasd_free(pick);
	return s;
}

static enum wasd_status compare(struct maker *m, const struct request *r, struct wasd_loader *test, size_t images,
                                int draws, cJSON *o, struct wasd_err *err)
{
	struct measure_result aom, found;
	struct verdict v;
	enum wasd_status s;
	uint64_t plain = wasd_graph_macs(m->graph, NULL), allowed = (uint64_t)(r->budget * (double)plain);
	if ((s = judge(m, NULL, test, &aom, err)) || (s = maker_search(m, r, &v, err)) ||
	    (s = judge(m, &m->draw.recipe, test, &found, err)))
		return s;
	cJSON *searched, *list;
	if (!cJSON_AddNumberToObject(o, "budget", r->budget) || !cJSON_AddNumberToObject(o, "images", (double)images) ||
	    !cJSON_AddNumberToObject(o, "aom", aom.accuracy) || !(searched = cJSON_AddObjectToObject(o, "searched")) ||
	    !add_row(searched, (double)v.macs, (double)plain, found.accuracy) ||
	    !cJSON_AddNumberToObject(o, "evaluations", m->done) || !(list = cJSON_AddArrayToObject(o, "random")))
		return wasd_fail(err, WASD_ENOMEM, "comparison");
	return draw_at_random(m, test, draws, plain - (allowed < plain ? allowed : plain), list, err);
}

enum wasd_status wasd_profile_compare(const struct wasd_making *o, int draws, cJSON **out, struct wasd_err *err)
{
	struct maker m;
	struct request r;
	struct wasd_loader *test = NULL;
	uint32_t *all = NULL, *subset = NULL;
	size_t n = wasd_dataset_count(o->data, WASD_TEST), n_subset = 0;
	cJSON *j = cJSON_CreateObject();
	enum wasd_status s = maker_open(&m, o, CALIBRATION, err);
	if (!s)
		s = maker_request(&m, &r, err);
	if (!s && r.desire != MACS)
		s = wasd_fail_at(err, WASD_EINVAL, "/desire", "must be \"macs\"");
	if (!s && n < 2)
		s = wasd_fail_at(err, WASD_EINVAL, "/dataset", "has no test images");
	if (!s && (!j || !(all = wasd_calloc(n, sizeof *all))))
		s = wasd_fail(err, WASD_ENOMEM, "comparison");
	for (size_t i = 0; all && i < n; i++)
		all[i] = (uint32_t)i;
	if (!s)
		s = measure_subset(all, n, MAKER_BATCH, m.spec.seed, &subset, &n_subset, err);
	if (n_subset > TEST * MAKER_BATCH)
		n_subset = TEST * MAKER_BATCH;
	if (!s)
		s = wasd_loader_create(&(struct wasd_loader_opts){.data = o->data,
		                                                  .split = WASD_TEST,
		                                                  .subset = subset,
		                                                  .n_subset = n_subset,
		                                                  .batch = MAKER_BATCH,
		                                                  .pixels = &m.ckpt.pixels,
		                                                  .prefetch = true},
		                       &test, err);
	if (!s)
		s = compare(&m, &r, test, n_subset, draws, j, err);
	if (!s) {
		*out = j;
		j = NULL;
	}
	cJSON_Delete(j);
	wasd_loader_destroy(test);
	wasd_free(all);
	wasd_free(subset);
	maker_done(&m);
	return s;
}
