/* train/surgery.c - a run goes on with a smaller network: without the channels that its strategy has made dead, or with
 * two layers for each that its strategy composes of two factors. Weights, optimizer state and statistics of what stays
 * are carried over by their indices (wasd/slim.h) and names (wasd/factor.h), so the logits stay the same but for
 * rounding. */
#include "train/trainer.h"
#include "wasd/model.h"
#include "wasd/slim.h"
#include "wasd/factor.h"

#include <stdio.h>
#include <string.h>

/* ---- the list of layers of the network with two for each that is split --------------------------------------- */

static enum wasd_status list_splits(const struct wasd_trainer *t, struct wasd_factor **out, int *n,
                                    struct wasd_err *err)
{
	struct weight_split one;
	for (*n = 0; chain_split(t->weights, *n, &one); (*n)++)
		;
	if (!(*out = wasd_calloc((size_t)*n + 1, sizeof **out)))
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	for (int i = 0; i < *n && chain_split(t->weights, i, &one); i++)
		(*out)[i] = (struct wasd_factor){wasd_graph_node_info(t->graph, one.param->node).name, one.rank};
	return WASD_OK;
}

static enum wasd_status make_split(const struct wasd_trainer *t, const struct wasd_slim *list, cJSON **model,
                                   struct wasd_err *err)
{
	struct wasd_factor *split;
	int n;
	char name[WASD_FACTOR_NAME];
	enum wasd_status s = list_splits(t, &split, &n, err);
	wasd_factor_name(t->spec.arch, name);
	if (!s)
		s = wasd_factor_model(wasd_slim_model(list), split, n, name, model, err);
	wasd_free(split);
	return s;
}

static bool splits(const struct wasd_trainer *t)
{
	struct weight_split one;
	return chain_split(t->weights, 0, &one);
}

/* ---- before the run ------------------------------------------------------------------------------------------ */

static enum wasd_status try_split(const struct wasd_trainer *t, const struct wasd_slim *list, struct wasd_err *err)
{
	cJSON *model = NULL;
	struct wasd_graph *g = NULL;
	enum wasd_status s = make_split(t, list, &model, err);
	if (!s)
		s = wasd_network_build(model, wasd_graph_input_shape(t->graph), wasd_graph_classes(t->graph), &g, err);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
	return s;
}

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
	if (!st && splits(t))
		st = try_split(t, s, &why);
	wasd_slim_destroy(s);
	if (st == WASD_ENOMEM)
		return wasd_fail(err, st, "trainer");
	return st ? wasd_fail_at(err, WASD_EINVAL, at, "%s: the network cannot become smaller: %.180s", at, why.msg) :
	            WASD_OK;
}

/* ---- during the run ------------------------------------------------------------------------------------------- */

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

/* The weights of both halves, in a block of the values or of a state of the optimizer. */
static void carry_halves(const struct wasd_trainer *t, const struct trainer_net *from, int block, real *to)
{
	struct weight_split one;
	for (int i = 0; chain_split(from->weights, i, &one); i++) {
		char name[2][WASD_FACTOR_NAME + 16];
		const char *layer = wasd_graph_node_info(from->graph, one.param->node).name;
		snprintf(name[0], sizeof name[0], "%s.weight", layer);
		snprintf(name[1], sizeof name[1], "%s" WASD_FACTOR_SUFFIX ".weight", layer);
		for (int half = 0; half < 2; half++) {
			struct wasd_param_info p = wasd_graph_param_info(t->graph, wasd_graph_param_find(t->graph, name[half]));
			memcpy(to + p.offset, chain_split_values(from->weights, half ? one.second : one.first, block),
			       p.count * sizeof *to);
		}
	}
}

/* Values by the names of the list, of which the halves' weights are none. listed: room for a block of the list. */
static void carry_split(const struct wasd_slim *s, const struct wasd_trainer *t, const struct trainer_net *from,
                        real *listed)
{
	const struct wasd_graph *list = wasd_slim_graph(s);
	for (int i = -1; i < 0 || t->blocks[i].name; i++) {
		real *to = i < 0 ? wasd_model_master(t->model) : t->blocks[i].values;
		wasd_slim_copy_params(s, i < 0 ? wasd_model_master(from->model) : from->blocks[i].values, listed);
		wasd_factor_copy_params(list, listed, t->graph, to);
		carry_halves(t, from, i, to);
	}
	for (int set = 0; set < WASD_STATS_SETS; set++) {
		wasd_slim_copy_stats(s, wasd_model_stats(from->model, (enum wasd_stats_set)set), listed);
		wasd_factor_copy_stats(list, listed, t->graph, wasd_model_stats(t->model, (enum wasd_stats_set)set));
	}
}

/* The draws go on where they were. */
static enum wasd_status carry_draw(struct wasd_trainer *t, const struct trainer_net *from, struct wasd_err *err)
{
	const char *stream;
	struct weight_when at = {.epoch = t->epoch};
	struct trainer_mode *last = &t->mode[t->n_modes - 1];
	enum wasd_status s = chain_resume(t->weights, chain_generator(from->weights, 0, &stream), last->recipe_json, &at,
	                                  err);
	last->recipe = s ? NULL : chain_recorded(t->weights);
	return s;
}

static enum wasd_status go_on_split(struct wasd_trainer *t, const struct wasd_slim *s, struct trainer_net *old,
                                    struct wasd_err *err)
{
	cJSON *model = NULL;
	const struct wasd_graph *list = wasd_slim_graph(s);
	size_t n = wasd_graph_param_count(list) + wasd_graph_stats_count(list);
	real *listed = wasd_calloc(n + 1, sizeof *listed);
	enum wasd_status st = listed ? make_split(t, s, &model, err) : wasd_fail(err, WASD_ENOMEM, "trainer");
	if (!st && !(st = trainer_reshape(t, model, old, err))) {
		carry_split(s, t, old, listed);
		st = carry_draw(t, old, err);
	}
	if (!st)
		trainer_say(t, "info",
		            "before epoch %d %d layers became two each: %zu of %zu parameters and %.2f %% of the multiply-adds "
		            "are left",
		            t->epoch + 1, wasd_graph_nodes(t->graph) - wasd_graph_nodes(list), wasd_graph_param_count(t->graph),
		            wasd_graph_param_count(old->graph),
		            100 * (double)wasd_graph_macs(t->graph, NULL) / (double)wasd_graph_macs(old->graph, NULL));
	cJSON_Delete(model);
	wasd_free(listed);
	return st ? st : renew_info(t, err);
}

/* The statistics are left out of the question: what is dead is dead in training, too, where a batch has its own. A
 * network whose layers are split keeps its channels. */
enum wasd_status trainer_cut(struct wasd_trainer *t, struct wasd_err *err)
{
	struct trainer_net old = {0};
	struct wasd_slim *s = NULL;
	char name[WASD_SLIM_NAME];
	bool two = splits(t);
	wasd_slim_name(t->spec.arch, name);
	enum wasd_status st = wasd_slim_of(t->graph, two ? NULL : wasd_model_master(t->model), NULL, name, &s, err);
	if (!st && two)
		st = go_on_split(t, s, &old, err);
	else if (!st && wasd_slim_removed(s))
		st = go_on(t, s, &old, err);
	wasd_slim_destroy(s); /* before the graph that it borrows */
	trainer_net_done(&old);
	return st;
}
