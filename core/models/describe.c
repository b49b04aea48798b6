/* core/models/describe.c - describes a network as JSON (format: wasd/model.h). It reads the graph that the builder
 * makes, so the description cannot differ from the network that trains. */
#include <string.h>

#include "models/models.h"
#include "wasd/weights.h"

static bool put_num(cJSON *o, const char *key, double v)
{
	return cJSON_AddNumberToObject(o, key, v);
}
static bool put_str(cJSON *o, const char *key, const char *s)
{
	return cJSON_AddStringToObject(o, key, s);
}
static bool put_shape(cJSON *o, const char *key, struct wasd_shape s)
{
	return wasd_json_put(o, key, cJSON_CreateIntArray((int[]){s.c, s.h, s.w}, 3));
}

static bool layer(cJSON *list, const struct wasd_node_info *n, const struct wasd_draw *augmented)
{
	cJSON *j = cJSON_CreateObject();
	if (!j || !cJSON_AddItemToArray(list, j)) {
		cJSON_Delete(j);
		return false;
	}
	return put_str(j, "op", n->op) && (!*n->name || put_str(j, "name", n->name)) &&
	       wasd_json_put(j, "inputs",
	                     n->n_inputs ? cJSON_CreateIntArray(n->inputs, n->n_inputs) : cJSON_CreateArray()) &&
	       put_shape(j, "shape", n->shape) && put_num(j, "params", (double)n->params) &&
	       put_num(j, "macs", (double)n->macs) &&
	       (!n->kh || (wasd_json_put(j, "kernel", cJSON_CreateIntArray((int[]){n->kh, n->kw}, 2)) &&
	                   put_num(j, "stride", n->stride))) &&
	       (n->groups < 2 || put_num(j, "groups", n->groups)) &&
	       (n->aug < 0 || wasd_json_put(j, "augmented", cJSON_CreateBool(wasd_draw_find(augmented, n->aug) != NULL)));
}

/* Multiply-adds when every layer of d is shifted by (dx, dy). */
static double shifted_macs(const struct wasd_graph *g, struct wasd_draw *d, int dx, int dy)
{
	for (int i = 0; i < d->n; i++) {
		d->layer[i].parts = 1;
		wasd_transform_make("translate", d->layer[i].t.k, (double[6]){dx, dy}, &d->layer[i].t, NULL);
	}
	return (double)wasd_graph_macs(g, wasd_draw_recipe(d));
}

/* Needs the layers filled in; adds the members that sum them up. */
static bool totals(cJSON *j, const struct wasd_graph *g, struct wasd_draw *d)
{
	double macs = (double)wasd_graph_macs(g, NULL), augmented = 0, of_layers = 0;
	int n = 0;
	for (wasd_node i = 0; i < wasd_graph_nodes(g); i++) {
		struct wasd_node_info info = wasd_graph_node_info(g, i);
		of_layers += (double)info.params;
		if (info.aug < 0 || !wasd_draw_find(d, info.aug))
			continue;
		augmented += (double)info.macs;
		n++;
	}
	cJSON *a, *dom;
	return put_num(j, "params", (double)wasd_graph_param_count(g)) &&
	       put_num(j, "other_params", (double)wasd_graph_param_count(g) - of_layers) && put_num(j, "macs", macs) &&
	       (a = cJSON_AddObjectToObject(j, "augmented")) && put_num(a, "layers", n) && put_num(a, "macs", augmented) &&
	       put_num(a, "share", macs > 0 ? augmented / macs : 0) && (dom = cJSON_AddObjectToObject(a, "dom_macs")) &&
	       put_num(dom, "one_axis", shifted_macs(g, d, 1, 0)) && put_num(dom, "both_axes", shifted_macs(g, d, 1, 1));
}

static bool fill(cJSON *j, const cJSON *model, const struct wasd_graph *g, const struct wasd_was *w,
                 struct wasd_draw *d)
{
	const char *name = wasd_network_name(model);
	const struct wasd_arch *a = wasd_arch_find(name);
	cJSON *list;
	if (!put_str(j, "arch", name) || (a && !put_str(j, "summary", a->summary)) ||
	    !wasd_json_put(j, "model", cJSON_Duplicate(model, true)) || !put_shape(j, "input", wasd_graph_input_shape(g)) ||
	    !put_num(j, "classes", wasd_graph_classes(g)) || !totals(j, g, d) ||
	    !wasd_json_put(j, "was", w ? wasd_was_to_json(w) : cJSON_CreateFalse()) ||
	    !(list = cJSON_AddArrayToObject(j, "layers")))
		return false;
	for (wasd_node i = 0; i < wasd_graph_nodes(g); i++) {
		struct wasd_node_info info = wasd_graph_node_info(g, i);
		if (!layer(list, &info, d))
			return false;
	}
	return true;
}

enum wasd_status wasd_network_describe(const cJSON *model, const cJSON *was, struct wasd_shape in, int classes,
                                       cJSON **out, struct wasd_err *err)
{
	struct wasd_graph *g = NULL;
	struct wasd_was *w = NULL;
	struct wasd_draw d = {0};
	struct wasd_rng r;
	const char *own;
	cJSON *j = NULL;
	enum wasd_status s = wasd_network_build(model, in, classes, &g, err);
	if (!s)
		s = wasd_network_was(model, &own, err);
	if (!s)
		s = wasd_was_create(g, was, own, &w, err);
	wasd_rng_init(&r, 0, "describe", 0, 0);
	if (!s && w) /* only the set of layers matters, not the draw */
		s = wasd_was_draw(w, &r, &d, err);
	if (!s && (!(j = cJSON_CreateObject()) || !fill(j, model, g, w, &d)))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the description");
	if (s == WASD_OK)
		*out = j;
	else
		cJSON_Delete(j);
	wasd_draw_done(&d);
	wasd_was_destroy(w);
	wasd_graph_destroy(g);
	return s;
}
