/* models/factor.c - see factor.h. The list of layers is rewritten as JSON; building it is own.c's. */
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"
#include "models/models.h"
#include "wasd/factor.h"

static enum wasd_status no_memory(struct wasd_err *err)
{
	return wasd_fail(err, WASD_ENOMEM, "no memory for the network of low rank");
}

static const struct wasd_factor *find(const struct wasd_factor *split, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(split[i].layer, name))
			return &split[i];
	return NULL;
}

static void second_name(const char *first, char out[WASD_FACTOR_NAME])
{
	snprintf(out, WASD_FACTOR_NAME, "%.58s" WASD_FACTOR_SUFFIX, first);
}

static bool put_copy(cJSON *o, const char *key, const cJSON *from)
{
	const cJSON *v = wasd_json_get(from, key);
	return !v || wasd_json_put(o, key, cJSON_Duplicate(v, true));
}

static bool has_kernels(const char *type)
{
	const struct layer *l;
	for (int i = 0; (l = layer_at(i)); i++)
		if (!strcmp(l->op, type))
			return l->augmentable;
	return false;
}

/* The second half of `whole`. */
static cJSON *second_half(const cJSON *whole, const char *name)
{
	const char *type = "";
	cJSON *j = cJSON_CreateObject();
	wasd_json_str(whole, "type", &type);
	bool ok = cJSON_AddStringToObject(j, "type", type) && cJSON_AddStringToObject(j, "name", name) &&
	          put_copy(j, "out", whole) && put_copy(j, "bias", whole) &&
	          (!has_kernels(type) || cJSON_AddNumberToObject(j, "kernel", 1));
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

/* Behind a layer that was split, readers that name it name its second half. */
static bool redirect(cJSON *from, const struct wasd_factor *split, int n)
{
	char name[WASD_FACTOR_NAME];
	if (!cJSON_IsString(from) || !find(split, n, from->valuestring))
		return true;
	second_name(from->valuestring, name);
	return cJSON_SetValuestring(from, name);
}

static bool redirect_all(cJSON *layer, const struct wasd_factor *split, int n)
{
	cJSON *from = cJSON_GetObjectItemCaseSensitive(layer, "from"), *one;
	bool ok = redirect(from, split, n);
	if (cJSON_IsArray(from))
		cJSON_ArrayForEach(one, from)
			ok = ok && redirect(one, split, n);
	return ok;
}

/* The layer, in two if it is among them. */
static enum wasd_status add_layer(cJSON *to, const cJSON *layer, const struct wasd_factor *split, int n,
                                  struct wasd_err *err)
{
	const char *name = "";
	char second[WASD_FACTOR_NAME];
	wasd_json_str(layer, "name", &name);
	const struct wasd_factor *s = find(split, n, name);
	cJSON *first = cJSON_Duplicate(layer, true);
	if (!wasd_json_push(to, first) || !redirect_all(first, split, n))
		return no_memory(err);
	if (!s)
		return WASD_OK;
	if (cJSON_IsString(wasd_json_get(layer, "out")))
		return wasd_fail(err, WASD_EINVAL, "%s: it gives the logits", name);
	second_name(name, second);
	cJSON_DeleteItemFromObjectCaseSensitive(first, "out");
	cJSON_DeleteItemFromObjectCaseSensitive(first, "bias");
	return cJSON_AddNumberToObject(first, "out", s->rank) && cJSON_AddFalseToObject(first, "bias") &&
	               wasd_json_push(to, second_half(layer, second)) ?
	           WASD_OK :
	           no_memory(err);
}

static enum wasd_status check_names(const cJSON *layers, const struct wasd_factor *split, int n, struct wasd_err *err)
{
	for (int i = 0; i < n; i++) {
		bool has = false;
		const cJSON *one;
		const char *name;
		cJSON_ArrayForEach(one, layers)
			has = has || (wasd_json_str(one, "name", &name) && !strcmp(name, split[i].layer));
		if (!has)
			return wasd_fail(err, WASD_EINVAL, "the list has no layer %s", split[i].layer);
	}
	return WASD_OK;
}

enum wasd_status wasd_factor_model(const cJSON *list, const struct wasd_factor *split, int n, const char *name,
                                   cJSON **out, struct wasd_err *err)
{
	cJSON *model = cJSON_CreateObject(), *layers = cJSON_AddArrayToObject(model, "layers");
	const cJSON *from = wasd_json_get(list, "layers"), *one;
	enum wasd_status s = layers && cJSON_AddStringToObject(model, "name", name) ? check_names(from, split, n, err) :
	                                                                              no_memory(err);
	cJSON_ArrayForEach(one, from)
		if (!s)
			s = add_layer(layers, one, split, n, err);
	if (s)
		cJSON_Delete(model);
	else
		*out = model;
	return s;
}

void wasd_factor_name(const char *base, char out[WASD_FACTOR_NAME])
{
	models_suffix(base, "-lowrank", out, WASD_FACTOR_NAME);
}

/* ---- the graph ------------------------------------------------------------------------------------------------ */

wasd_node wasd_factor_first(const struct wasd_graph *g, wasd_node i)
{
	const struct node *n = &g->nodes[i];
	char name[WASD_FACTOR_NAME];
	if (n->n_in != 1 || n->weight < 0 || !*g->nodes[n->inputs[0]].name)
		return -1;
	second_name(g->nodes[n->inputs[0]].name, name);
	return strcmp(n->name, name) ? -1 : n->inputs[0];
}

bool wasd_factor_classifies(const struct wasd_graph *g, wasd_node i)
{
	wasd_node at = g->output;
	while (at > 0 && g->nodes[at].n_in == 1 && (g->nodes[at].weight < 0 || g->params[g->nodes[at].weight].ndims < 2))
		at = g->nodes[at].inputs[0];
	return at == i;
}

bool wasd_factor_taken(const struct wasd_graph *g, wasd_node i)
{
	char name[WASD_FACTOR_NAME];
	second_name(g->nodes[i].name, name);
	for (wasd_node n = 0; n < g->n_nodes; n++)
		if (!strcmp(g->nodes[n].name, name))
			return true;
	return wasd_factor_first(g, i) >= 0;
}

/* The list's parameter of that name, or the bias of the layer whose second half has this one. */
static int listed_param(const struct wasd_graph *list, const char *param)
{
	char name[WASD_FACTOR_NAME + 16];
	const char *half = strstr(param, WASD_FACTOR_SUFFIX ".bias");
	int at = wasd_graph_param_find(list, param);
	if (at >= 0 || !half)
		return at;
	snprintf(name, sizeof name, "%.*s.bias", (int)(half - param), param);
	return wasd_graph_param_find(list, name);
}

void wasd_factor_copy_params(const struct wasd_graph *list, const real *from, const struct wasd_graph *split, real *to)
{
	for (int i = 0; i < split->n_params; i++) {
		struct wasd_param_info p = wasd_graph_param_info(split, i);
		int at = listed_param(list, p.name);
		if (at >= 0 && wasd_graph_param_info(list, at).count == p.count)
			memcpy(to + p.offset, from + wasd_graph_param_info(list, at).offset, p.count * sizeof *to);
	}
}

void wasd_factor_copy_stats(const struct wasd_graph *list, const real *from, const struct wasd_graph *split, real *to)
{
	for (int i = 0; i < split->n_stats; i++)
		for (int k = 0; k < list->n_stats; k++) {
			struct wasd_stats_info a = wasd_graph_stats_info(list, k), b = wasd_graph_stats_info(split, i);
			if (strcmp(a.name, b.name))
				continue;
			memcpy(to + b.mean_offset, from + a.mean_offset, (size_t)b.channels * sizeof *to);
			memcpy(to + b.var_offset, from + a.var_offset, (size_t)b.channels * sizeof *to);
		}
}
