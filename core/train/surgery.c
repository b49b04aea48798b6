/* train/surgery.c - a run goes on with a smaller network: without the channels that its strategy has made dead.
 * Weights, optimizer state and statistics of the channels that stay are carried over by their indices (wasd/slim.h),
 * so the logits stay the same but for rounding. */
#include "wasd/slim.h"
#include "train/trainer.h"

#include <string.h>

enum wasd_status trainer_check_cut(const struct wasd_trainer *t, struct wasd_err *err)
{
	const char *at = chain_cuts_at(t->weights);
	struct wasd_slim *s = NULL;
	struct wasd_err why = {0};
	char name[WASD_SLIM_NAME];
	if (!at)
		return WASD_OK;
	wasd_slim_name(t->spec.arch, name);
	enum wasd_status st = wasd_slim_of(t->graph, NULL, NULL, name, &s, &why);
	wasd_slim_destroy(s);
	if (st == WASD_ENOMEM)
		return wasd_fail(err, st, "trainer");
	return st ? wasd_fail_at(err, WASD_EINVAL, at, "%s: the network cannot become smaller: %.180s", at, why.msg) :
	            WASD_OK;
}

static void carry(const struct wasd_slim *s, const struct wasd_trainer *t, const struct trainer_net *from)
{
	wasd_slim_copy_params(s, wasd_model_master(from->model), wasd_model_master(t->model));
	for (int i = 0; t->blocks[i].name; i++)
		wasd_slim_copy_params(s, from->blocks[i].values, t->blocks[i].values);
	for (int set = 0; set < WASD_STATS_SETS; set++)
		wasd_slim_copy_stats(s, wasd_model_stats(from->model, (enum wasd_stats_set)set),
		                     wasd_model_stats(t->model, (enum wasd_stats_set)set));
	chain_apply(t->weights);
}

static enum wasd_status renew_info(struct wasd_trainer *t, struct wasd_err *err)
{
	cJSON *info = trainer_make_info(t);
	if (!info)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	cJSON_Delete(t->info);
	t->info = info;
	return WASD_OK;
}

static enum wasd_status go_on(struct wasd_trainer *t, const struct wasd_slim *s, struct trainer_net *old,
                              struct wasd_err *err)
{
	enum wasd_status st = trainer_reshape(t, wasd_slim_model(s), old, err);
	if (st)
		return st;
	carry(s, t, old);
	trainer_say(t, "info",
	            "before epoch %d the network lost %zu dead channels: %zu of %zu parameters and %.2f %% of the "
	            "multiply-adds are left",
	            t->epoch + 1, wasd_slim_removed(s), wasd_graph_param_count(t->graph),
	            wasd_graph_param_count(old->graph),
	            100 * (double)wasd_graph_macs(t->graph, NULL) / (double)wasd_graph_macs(old->graph, NULL));
	return renew_info(t, err);
}

/* The statistics are left out of the question: what is dead is dead in training, too, where a batch has its own. */
enum wasd_status trainer_cut(struct wasd_trainer *t, struct wasd_err *err)
{
	struct trainer_net old = {0};
	struct wasd_slim *s = NULL;
	char name[WASD_SLIM_NAME];
	wasd_slim_name(t->spec.arch, name);
	enum wasd_status st = wasd_slim_of(t->graph, wasd_model_master(t->model), NULL, name, &s, err);
	if (!st && wasd_slim_removed(s))
		st = go_on(t, s, &old, err);
	wasd_slim_destroy(s); /* before the graph that it borrows */
	trainer_net_done(&old);
	return st;
}
