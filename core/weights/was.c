/* core/weights/was.c - the strategy of a job: which layers are augmented, by which transforms with which probabilities. The
 * spec's "was" object (api.md section 2) is compiled once for a graph; a draw then costs a few numbers of the run's generator
 * per layer. */
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "wasd/graph.h"
#include "wasd/weights.h"

#define CHOICES_MAX 16

struct choice { const struct wasd_transform_op *op; double weight, law[WASD_LAW_MAX]; };

struct wasd_was {
	int n_choices, n_layers;
	struct choice choice[CHOICES_MAX];
	double total;                                /* of the weights */
	double probability;                          /* that a layer is transformed in a draw */
	struct layer { int aug, k; bool alpha_one; } *layer;
	bool fixed, per_epoch;
	cJSON *layers;                               /* the member as given, "paper" or "all" when it was not */
};

/* ---- reading the object ---------------------------------------------------------------------------- */

static enum wasd_status read_law(const cJSON *j, const char *at, struct choice *c, struct wasd_err *err)
{
	double *v = c->law;
	for (const struct wasd_law_option *o = c->op->law; o->name; v += o->n, o++) {
		struct fields_range range = { o->min, o->max, false, false };
		const cJSON *m = wasd_json_get(j, o->name);
		char ptr[FIELDS_POINTER], item[FIELDS_POINTER];
		fields_pointer(ptr, at, o->name);
		memcpy(v, o->def, (size_t)o->n * sizeof *v);
		if (!m)
			continue;
		if (o->n == 1) {
			enum wasd_status s = fields_number(m, ptr, range, v, err);
			if (s != WASD_OK)
				return s;
			continue;
		}
		if (!cJSON_IsArray(m) || cJSON_GetArraySize(m) != o->n)
			return wasd_fail_at(err, WASD_EINVAL, ptr, "must be an array [lo, hi]");
		for (int i = 0; i < o->n; i++) {
			fields_pointer(item, ptr, i ? "1" : "0");
			enum wasd_status s = fields_number(cJSON_GetArrayItem(m, i), item, range, &v[i], err);
			if (s != WASD_OK)
				return s;
		}
		if (v[0] > v[1])
			return wasd_fail_at(err, WASD_EINVAL, ptr, "%g is above %g: the lower bound comes first", v[0], v[1]);
	}
	return WASD_OK;
}

static const struct wasd_transform_op *op_of_type(const char *type)
{
	const struct wasd_transform_op *op;
	for (int i = 0; (op = wasd_transform_op_at(i)); i++)
		if (op->type && !strcmp(op->type, type))
			return op;
	return NULL;
}

static enum wasd_status read_transform(const cJSON *j, const char *at, struct choice *c, struct wasd_err *err)
{
	const char *type, *names[8] = { "type", "weight" };
	char ptr[FIELDS_POINTER];
	if (!cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be an object");
	fields_pointer(ptr, at, "type");
	if (!wasd_json_str(j, "type", &type))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be the name of a transform");
	if (!(c->op = op_of_type(type))) {
		char list[128] = "";
		size_t n = 0;
		const struct wasd_transform_op *op;
		for (int i = 0; (op = wasd_transform_op_at(i)) && n < sizeof list; i++)
			if (op->type)
				n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", op->type);
		return wasd_fail_at(err, WASD_EINVAL, ptr, "unknown transform \"%.60s\"; known: %s", type, list);
	}
	for (int i = 0; c->op->law[i].name; i++)
		names[2 + i] = c->op->law[i].name;
	enum wasd_status s = fields_known(j, at, names, err);
	if (s != WASD_OK)
		return s;
	c->weight = 1;
	fields_pointer(ptr, at, "weight");
	const cJSON *w = wasd_json_get(j, "weight");
	if (w && (s = fields_number(w, ptr, (struct fields_range){ 0, 1e6, true, false }, &c->weight, err)) != WASD_OK)
		return s;
	return read_law(j, at, c, err);
}

static enum wasd_status read_transforms(const cJSON *j, struct wasd_was *w, struct wasd_err *err)
{
	if (!cJSON_IsArray(j) || !j->child)
		return wasd_fail_at(err, WASD_EINVAL, "/was/transforms", "must be an array of at least one transform");
	const cJSON *item;
	cJSON_ArrayForEach(item, j) {
		char at[40];
		snprintf(at, sizeof at, "/was/transforms/%d", w->n_choices);
		if (w->n_choices == CHOICES_MAX)
			return wasd_fail_at(err, WASD_ETOOBIG, "/was/transforms", "more than %d transforms", CHOICES_MAX);
		struct choice *c = &w->choice[w->n_choices++];
		enum wasd_status s = read_transform(item, at, c, err);
		if (s != WASD_OK)
			return s;
		w->total += c->weight;
	}
	return WASD_OK;
}

static void use_layer(struct wasd_was *w, int aug, const struct wasd_aug_info *a)
{
	w->layer[w->n_layers++] = (struct layer){ aug, a->k, w->fixed || a->alpha_param < 0 };
}

/* Names may come in any order; the draw keeps execution order. */
static enum wasd_status read_layer_names(const cJSON *list, const struct wasd_graph *g, struct wasd_was *w, struct wasd_err *err)
{
	int i = 0, n = wasd_graph_augs(g);
	const cJSON *item;
	cJSON_ArrayForEach(item, list) {
		char at[40];
		snprintf(at, sizeof at, "/was/layers/%d", i++);
		if (!cJSON_IsString(item))
			return wasd_fail_at(err, WASD_EINVAL, at, "must be the name of a layer");
		int found = 0;
		while (found < n && strcmp(wasd_graph_aug_info(g, found).layer, item->valuestring))
			found++;
		if (found == n)
			return wasd_fail_at(err, WASD_EINVAL, at, "\"%.60s\" is not a convolution with k > 1 of this network", item->valuestring);
		for (const cJSON *before = list->child; before != item; before = before->next)
			if (!strcmp(before->valuestring, item->valuestring))
				return wasd_fail_at(err, WASD_EINVAL, at, "\"%.60s\" is listed twice", item->valuestring);
	}
	for (int aug = 0; aug < n; aug++) {
		struct wasd_aug_info a = wasd_graph_aug_info(g, aug);
		cJSON_ArrayForEach(item, list)
			if (!strcmp(a.layer, item->valuestring))
				use_layer(w, aug, &a);
	}
	return WASD_OK;
}

static enum wasd_status read_layers(const cJSON *j, const struct wasd_graph *g, struct wasd_was *w, struct wasd_err *err)
{
	int n = wasd_graph_augs(g), paper = 0;
	for (int i = 0; i < n; i++)
		paper += wasd_graph_aug_info(g, i).alpha_param >= 0;
	if (!n)
		return wasd_fail_at(err, WASD_EINVAL, "/was", "this network has no convolution to augment");
	if (!(w->layer = wasd_calloc((size_t)n, sizeof *w->layer)) ||
	    !(w->layers = j ? cJSON_Duplicate(j, true) : cJSON_CreateString(paper ? "paper" : "all")))
		return wasd_fail(err, WASD_ENOMEM, "was: %d layers", n);

	if (cJSON_IsArray(w->layers) && w->layers->child)
		return read_layer_names(w->layers, g, w, err);
	const char *which = cJSON_IsString(w->layers) ? w->layers->valuestring : "";
	bool all = !strcmp(which, "all");
	if (!all && strcmp(which, "paper"))
		return wasd_fail_at(err, WASD_EINVAL, "/was/layers", "must be \"paper\", \"all\" or an array of layer names");
	if (!all && !paper)
		return wasd_fail_at(err, WASD_EINVAL, "/was/layers", "the published method augments no layer of this network: use \"all\" or a list of names");
	for (int i = 0; i < n; i++) {
		struct wasd_aug_info a = wasd_graph_aug_info(g, i);
		if (all || a.alpha_param >= 0)
			use_layer(w, i, &a);
	}
	return WASD_OK;
}

/* A member that is one of two words; absent = the first. */
static enum wasd_status read_word(const cJSON *was, const char *name, const char *first, const char *second, bool *is_second, struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	const cJSON *m = wasd_json_get(was, name);
	fields_pointer(ptr, "/was", name);
	const char *v = cJSON_IsString(m) ? m->valuestring : m ? "" : first;
	*is_second = !strcmp(v, second);
	if (!*is_second && strcmp(v, first))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be \"%s\" or \"%s\"", first, second);
	return WASD_OK;
}

static enum wasd_status read_object(const struct wasd_graph *g, const cJSON *was, const cJSON *paper, struct wasd_was *w, struct wasd_err *err)
{
	static const char *const names[] = { "transforms", "layers", "alpha", "draw", "probability", NULL };
	enum wasd_status s = fields_known(was, "/was", names, err);
	const cJSON *probability = wasd_json_get(was, "probability");
	w->probability = 1;
	if (s == WASD_OK && probability)
		s = fields_number(probability, "/was/probability", (struct fields_range){ 0, 1, false, false }, &w->probability, err);
	if (s == WASD_OK)
		s = read_word(was, "alpha", "learned", "fixed", &w->fixed, err);
	if (s == WASD_OK)
		s = read_word(was, "draw", "step", "epoch", &w->per_epoch, err);
	if (s != WASD_OK)
		return s;
	const cJSON *transforms = wasd_json_get(was, "transforms");
	if (!transforms && !(transforms = wasd_json_get(paper, "transforms")))
		return wasd_fail_at(err, WASD_EINVAL, "/was/transforms", "needed: the published method has none for this network");
	s = read_transforms(transforms, w, err);
	return s != WASD_OK ? s : read_layers(wasd_json_get(was, "layers"), g, w, err);
}

enum wasd_status wasd_was_create(const struct wasd_graph *g, const cJSON *was, const char *paper, struct wasd_was **out, struct wasd_err *err)
{
	cJSON *own = NULL;
	struct wasd_was *w = NULL;
	if (was && !cJSON_IsObject(was) && !cJSON_IsFalse(was))
		return wasd_fail_at(err, WASD_EINVAL, "/was", "must be an object, or false for plain weights");
	enum wasd_status s = wasd_json_parse(paper, strlen(paper), WASD_JSON_REQUEST, &own, err);
	if (s != WASD_OK)
		return s;
	if (!was)
		was = own;
	if (!cJSON_IsFalse(was)) {
		w = wasd_calloc(1, sizeof *w);
		s = w ? read_object(g, was, own, w, err) : wasd_fail(err, WASD_ENOMEM, "was");
	}
	cJSON_Delete(own);
	if (s != WASD_OK) {
		wasd_was_destroy(w);
		return s;
	}
	*out = w;
	return WASD_OK;
}

void wasd_was_destroy(struct wasd_was *w)
{
	if (!w)
		return;
	cJSON_Delete(w->layers);
	wasd_free(w->layer);
	wasd_free(w);
}

bool wasd_was_per_epoch(const struct wasd_was *w) { return w->per_epoch; }

/* ---- writing it ----------------------------------------------------------------------------------------- */

static bool add_transform(cJSON *list, const struct choice *c)
{
	cJSON *o = cJSON_CreateObject();
	bool ok = cJSON_AddStringToObject(o, "type", c->op->type);
	const double *v = c->law;
	for (const struct wasd_law_option *l = c->op->law; ok && l->name; v += l->n, l++) {
		if (l->n == 1) {
			ok = cJSON_AddNumberToObject(o, l->name, *v);
			continue;
		}
		cJSON *pair = cJSON_CreateDoubleArray(v, l->n);
		ok = cJSON_AddItemToObject(o, l->name, pair);
		if (!ok)
			cJSON_Delete(pair);
	}
	ok = ok && cJSON_AddNumberToObject(o, "weight", c->weight) && cJSON_AddItemToArray(list, o);
	if (!ok)
		cJSON_Delete(o);
	return ok;
}

cJSON *wasd_was_to_json(const struct wasd_was *w)
{
	cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "transforms"), *layers = cJSON_Duplicate(w->layers, true);
	bool ok = list && layers;
	for (int i = 0; ok && i < w->n_choices; i++)
		ok = add_transform(list, &w->choice[i]);
	if (ok && layers && cJSON_AddItemToObject(o, "layers", layers))
		layers = NULL;
	ok = ok && !layers && cJSON_AddStringToObject(o, "alpha", w->fixed ? "fixed" : "learned") &&
	     cJSON_AddStringToObject(o, "draw", w->per_epoch ? "epoch" : "step") && cJSON_AddNumberToObject(o, "probability", w->probability);
	if (ok)
		return o;
	cJSON_Delete(layers);
	cJSON_Delete(o);
	return NULL;
}

/* ---- drawing -------------------------------------------------------------------------------------------- */

static const struct choice *choose(const struct wasd_was *w, struct wasd_rng *r)
{
	double u = wasd_rng_uniform(r) * w->total;
	int i = 0;
	for (; i < w->n_choices - 1 && u >= w->choice[i].weight; i++)
		u -= w->choice[i].weight;
	return &w->choice[i];
}

/* The kind of a layer's transform in this draw, and its parameters. Probability 1, the published law, takes no number of its own. */
static const struct wasd_transform_op *draw_op(const struct wasd_was *w, int k, struct wasd_rng *r, double *p)
{
	if (w->probability < 1 && wasd_rng_uniform(r) >= w->probability)
		return wasd_transform_op_find("identity");
	const struct choice *c = choose(w, r);
	return c->op->sample(k, c->law, r, p) ? c->op : wasd_transform_op_find("identity");
}

enum wasd_status wasd_was_draw(const struct wasd_was *w, struct wasd_rng *r, struct wasd_draw *d, struct wasd_err *err)
{
	if (!d->layer) {
		d->layer = wasd_calloc((size_t)w->n_layers, sizeof *d->layer);
		if (!d->layer)
			return wasd_fail(err, WASD_ENOMEM, "draw of %d layers", w->n_layers);
		d->n = w->n_layers;
	}
	for (int i = 0; i < w->n_layers; i++) {
		const struct layer *l = &w->layer[i];
		double p[6] = { 0 };
		const struct wasd_transform_op *op = draw_op(w, l->k, r, p);
		d->layer[i].aug = l->aug;
		d->layer[i].alpha_one = l->alpha_one;
		enum wasd_status s = wasd_transform_make(op->name, l->k, p, &d->layer[i].t, err);
		if (s != WASD_OK)
			return s;
	}
	return WASD_OK;
}
