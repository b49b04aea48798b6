/* graph/draw_json.c - the JSON form of a draw, with the names of a graph's layers:
 *     [{"layer":"layer1.0.conv1","op":"translate","params":{"dx":1,"dy":0}},
 *     {"layer":"layer1.0.conv2","groups":[{"op":...,"params":...}, ...]}, ...]
 * Checkpoints, bundles and the golden fixtures use it. */
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "wasd/graph.h"
#include "wasd/weights.h"

/* ---- writing ------------------------------------------------------------------------------------------- */

static bool transform_to_json(cJSON *o, const struct wasd_transform *t)
{
	bool ok = cJSON_AddStringToObject(o, "op", t->op->name);
	cJSON *params = ok ? cJSON_AddObjectToObject(o, "params") : NULL;
	return fields_put(params, t->op->params, t->p);
}

static bool parts_to_json(cJSON *o, const struct wasd_draw_layer *l)
{
	cJSON *list = cJSON_AddArrayToObject(o, "groups");
	for (int i = 0; i < l->parts; i++) {
		cJSON *part = cJSON_CreateObject();
		if (part && transform_to_json(part, wasd_draw_part(l, i)) && cJSON_AddItemToArray(list, part))
			continue;
		cJSON_Delete(part);
		return false;
	}
	return list;
}

static cJSON *layer_to_json(const struct wasd_draw_layer *l, const struct wasd_aug_info *a)
{
	cJSON *o = cJSON_CreateObject();
	bool ok = cJSON_AddStringToObject(o, "layer", a->layer) &&
	          (l->parts > 1 ? parts_to_json(o, l) : transform_to_json(o, &l->t));
	if (ok && l->alpha_one && a->alpha_param >= 0)
		ok = cJSON_AddNumberToObject(o, "alpha", 1);
	if (ok)
		return o;
	cJSON_Delete(o);
	return NULL;
}

cJSON *wasd_draw_to_json(const struct wasd_draw *d, const struct wasd_graph *g)
{
	cJSON *list = cJSON_CreateArray();
	for (int i = 0; list && i < d->n; i++) {
		struct wasd_aug_info a = wasd_graph_aug_info(g, d->layer[i].aug);
		cJSON *o = layer_to_json(&d->layer[i], &a);
		if (!o || !cJSON_AddItemToArray(list, o)) {
			cJSON_Delete(o);
			cJSON_Delete(list);
			return NULL;
		}
	}
	return list;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static enum wasd_status params_from_json(const cJSON *j, const char *at, const struct wasd_transform_op *op, double *p,
                                         struct wasd_err *err)
{
	if (!cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be an object");
	enum wasd_status s = fields_known_rows(j, at, NULL, op->params, NULL, err);
	return s ? s : fields_numbers(j, at, op->params, p, err);
}

/* "op" and "params" of j, for kernels of side k. */
static enum wasd_status transform_from_json(const cJSON *j, const char *at, int k, struct wasd_transform *t,
                                            struct wasd_err *err)
{
	const char *op_name;
	char ptr[FIELDS_POINTER];
	fields_pointer(ptr, at, "op");
	if (!wasd_json_str(j, "op", &op_name))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be the name of a transform");
	const struct wasd_transform_op *op = wasd_transform_op_find(op_name);
	if (!op)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "unknown transform \"%.60s\"", op_name);

	double p[6] = {0};
	enum wasd_status s = WASD_OK;
	fields_pointer(ptr, at, "params");
	const cJSON *params = wasd_json_get(j, "params");
	if (params || op->params[0].name)
		s = params_from_json(params, ptr, op, p, err);
	struct wasd_err detail;
	if (s == WASD_OK && (s = wasd_transform_make(op->name, k, p, t, &detail)) != WASD_OK)
		wasd_fail_at(err, s, ptr, "%s", detail.msg);
	return s;
}

static enum wasd_status parts_from_json(const cJSON *list, const char *at, const struct wasd_aug_info *a,
                                        struct wasd_draw_layer *l, struct wasd_err *err)
{
	static const char *const names[] = {"op", "params", NULL};
	int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0, i = 0;
	if (n < 1 || n > a->out || n > WASD_DRAW_PARTS)
		return wasd_fail_at(err, WASD_EINVAL, at,
		                    "must be an array of 1 to %d transforms, at most one for each of %d output channels",
		                    WASD_DRAW_PARTS, a->out);
	if (n > 1 && !(l->more = wasd_calloc((size_t)n - 1, sizeof *l->more)))
		return wasd_fail(err, WASD_ENOMEM, "draw of %d groups", n);
	l->parts = n;
	const cJSON *item;
	cJSON_ArrayForEach(item, list) {
		char number[16], ptr[FIELDS_POINTER];
		snprintf(number, sizeof number, "%d", i);
		fields_pointer(ptr, at, number);
		enum wasd_status s = cJSON_IsObject(item) ? fields_known(item, ptr, names, err) :
		                                            wasd_fail_at(err, WASD_EINVAL, ptr, "must be an object");
		if (s == WASD_OK)
			s = transform_from_json(item, ptr, a->k, i ? &l->more[i - 1] : &l->t, err);
		if (s != WASD_OK)
			return s;
		i++;
	}
	return WASD_OK;
}

static enum wasd_status layer_from_json(const cJSON *j, const char *at, const struct wasd_graph *g,
                                        struct wasd_draw_layer *l, struct wasd_err *err)
{
	static const char *const whole[] = {"layer", "op", "params", "alpha", NULL}, *const in_parts[] = {"layer", "groups",
	                                                                                                  "alpha", NULL};
	const cJSON *parts = wasd_json_get(j, "groups");
	const char *layer;
	char ptr[FIELDS_POINTER];
	if (!cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be an object");
	enum wasd_status s = fields_known(j, at, parts ? in_parts : whole, err);
	if (s != WASD_OK)
		return s;

	fields_pointer(ptr, at, "layer");
	if (!wasd_json_str(j, "layer", &layer))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be the name of a layer");
	int n = wasd_graph_augs(g);
	struct wasd_aug_info a = {0};
	for (l->aug = 0; l->aug < n; l->aug++) {
		a = wasd_graph_aug_info(g, l->aug);
		if (!strcmp(a.layer, layer))
			break;
	}
	if (l->aug == n)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "\"%.60s\" is not an augmentable convolution of this network",
		                    layer);

	fields_pointer(ptr, at, "groups");
	s = parts ? parts_from_json(parts, ptr, &a, l, err) : transform_from_json(j, at, a.k, &l->t, err);
	if (s != WASD_OK)
		return s;

	const cJSON *alpha = wasd_json_get(j, "alpha");
	fields_pointer(ptr, at, "alpha");
	if (alpha && !(cJSON_IsNumber(alpha) && alpha->valuedouble == 1))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be 1 or absent");
	l->alpha_one = alpha || a.alpha_param < 0;
	return WASD_OK;
}

enum wasd_status wasd_draw_from_json(const cJSON *j, const struct wasd_graph *g, struct wasd_draw *out,
                                     struct wasd_err *err)
{
	struct wasd_draw d = {.recipe = {&weight_was}};
	int n = wasd_graph_augs(g), count = cJSON_IsArray(j) ? cJSON_GetArraySize(j) : -1;
	if (count < 0)
		return wasd_fail_at(err, WASD_EINVAL, "", "a draw is an array with one object per augmented layer");
	if (count > n)
		return wasd_fail_at(err, WASD_EINVAL, "", "%d transforms for %d augmentable layers", count, n);
	if (count && !(d.layer = wasd_calloc((size_t)count, sizeof *d.layer)))
		return wasd_fail(err, WASD_ENOMEM, "draw of %d layers", count);
	enum wasd_status s = WASD_OK;
	const cJSON *item;
	cJSON_ArrayForEach(item, j) {
		char at[24];
		snprintf(at, sizeof at, "/%d", d.n);
		s = layer_from_json(item, at, g, &d.layer[d.n], err);
		if (s == WASD_OK && d.n && d.layer[d.n].aug <= d.layer[d.n - 1].aug)
			s = wasd_fail_at(err, WASD_EINVAL, at, "layers must be in execution order, each once");
		if (s != WASD_OK)
			break;
		d.n++;
	}
	if (s != WASD_OK && d.n < count)
		wasd_free(d.layer[d.n].more); /* the layer that failed is not counted in n */
	if (s != WASD_OK)
		wasd_draw_done(&d);
	else
		*out = d;
	return s;
}
