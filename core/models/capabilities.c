/* core/models/capabilities.c - every table of core as one JSON object (format: wasd/model.h). All lists come from the
 * tables. */
#include <string.h>

#include "augment/augment.h"
#include "backend/backend.h"
#include "modes/mode.h"
#include "wasd/data.h"
#include "wasd/model.h"
#include "wasd/optim.h"
#include "weights/strategy.h"

/* Appends a member and returns it; NULL (and v deleted) when out of memory. */
static cJSON *put(cJSON *o, const char *key, cJSON *v)
{
	if (v && cJSON_AddItemToObject(o, key, v))
		return v;
	cJSON_Delete(v);
	return NULL;
}

static cJSON *append(cJSON *list, cJSON *v)
{
	if (v && cJSON_AddItemToArray(list, v))
		return v;
	cJSON_Delete(v);
	return NULL;
}

static bool put_str(cJSON *o, const char *key, const char *s)
{
	return cJSON_AddStringToObject(o, key, s);
}
static bool put_num(cJSON *o, const char *key, double v)
{
	return cJSON_AddNumberToObject(o, key, v);
}

/* Appends rows of options. */
static bool options(cJSON *list, const struct wasd_field *f)
{
	for (; list && f && f->name; f++)
		if (!append(list, wasd_field_to_json(f)))
			return false;
	return list;
}

static bool put_options(cJSON *o, const struct wasd_field *f)
{
	return options(put(o, "options", cJSON_CreateArray()), f);
}

/* ---- networks ------------------------------------------------------------------------------------------- */

static int choices(const struct wasd_field *o)
{
	int n = 0;
	while (wasd_field_choice(o, n))
		n++;
	return o->type == WASD_BOOL ? 2 : n;
}

/* Choice i of an option as JSON; -1: the default. */
static cJSON *choice(const struct wasd_field *o, int i)
{
	if (i >= 0 && o->type == WASD_BOOL)
		return cJSON_CreateBool(i);
	return cJSON_Parse(i < 0 ? o->def : wasd_field_choice(o, i));
}

/* Appends one choice of option values. model: the spec's object without "arch"; takes ownership. */
static bool arch_variant(cJSON *list, const struct wasd_arch *a, cJSON *model)
{
	cJSON *j = append(list, cJSON_CreateObject());
	if (!put(j, "model", model))
		return false;
	int side = a->min_side > 32 ? a->min_side : 32, augmented = 0;
	const char *paper;
	struct wasd_graph *g = NULL;
	if (wasd_arch_paper_was(a->name, model, &paper, NULL) ||
	    wasd_arch_build(a->name, (struct wasd_shape){3, side, side}, 10, model, &g, NULL))
		return false;
	for (int i = 0; i < wasd_graph_augs(g); i++)
		augmented += wasd_graph_aug_info(g, i).alpha_param >= 0;
	bool ok = put_num(j, "params", (double)wasd_graph_param_count(g)) &&
	          put_num(j, "macs", (double)wasd_graph_macs(g, NULL)) && put_num(j, "augmented", augmented);
	struct wasd_was *w = NULL;
	ok = ok && wasd_was_create(g, NULL, paper, &w, NULL) == WASD_OK &&
	     put(j, "was", w ? wasd_was_to_json(w) : cJSON_CreateFalse());
	wasd_was_destroy(w);
	wasd_graph_destroy(g);
	return ok;
}

/* The model object that has choice digit[i] of each option i. *is_default: all are the defaults. NULL: no memory. */
static cJSON *model_of(const struct wasd_arch *a, const int *digit, bool *is_default)
{
	cJSON *model = cJSON_CreateObject();
	*is_default = true;
	for (int i = 0; model && a->options[i].name; i++) {
		const struct wasd_field *o = &a->options[i];
		cJSON *def = choice(o, -1), *v = put(model, o->name, choice(o, digit[i]));
		bool ok = def && v;
		*is_default = *is_default && cJSON_Compare(v, def, true);
		cJSON_Delete(def);
		if (ok)
			continue;
		cJSON_Delete(model);
		return NULL;
	}
	return model;
}

/* Appends every combination of option values, counting through them like digits, defaults first. */
static bool arch_variants(cJSON *list, const struct wasd_arch *a)
{
	int digit[WASD_ARCH_OPTIONS], n = 0;
	bool is_default;
	for (; a->options[n].name; n++)
		digit[n] = -1;
	cJSON *model = model_of(a, digit, &is_default);
	if (!model || !arch_variant(list, a, model))
		return false;
	memset(digit, 0, sizeof digit);
	for (;;) {
		if (!(model = model_of(a, digit, &is_default)))
			return false;
		if (is_default)
			cJSON_Delete(model);
		else if (!arch_variant(list, a, model))
			return false;
		int i = n - 1;
		while (i >= 0 && ++digit[i] == choices(&a->options[i]))
			digit[i--] = 0;
		if (i < 0)
			return true;
	}
}

static bool archs(cJSON *list)
{
	const struct wasd_arch *a;
	for (int i = 0; (a = wasd_arch_at(i)); i++) {
		cJSON *j = append(list, cJSON_CreateObject());
		int sides = 0;
		while (a->sides[sides])
			sides++;
		if (!put_str(j, "name", a->name) || !put_str(j, "summary", a->summary) ||
		    !put_num(j, "min_side", a->min_side) ||
		    (sides && !put(j, "sides", cJSON_CreateIntArray(a->sides, sides))) || !put_options(j, a->options) ||
		    !arch_variants(put(j, "variants", cJSON_CreateArray()), a))
			return false;
	}
	return true;
}

/* ---- transforms, optimizers, schedules ---------------------------------------------------------------------- */

static bool transforms(cJSON *list)
{
	const struct wasd_transform_op *op;
	for (int i = 0; (op = wasd_transform_op_at(i)); i++) {
		if (!op->type)
			continue;
		cJSON *j = append(list, cJSON_CreateObject());
		if (!put_str(j, "type", op->type) || !put_str(j, "op", op->name) || !put_str(j, "summary", op->summary) ||
		    !put_options(j, op->law))
			return false;
	}
	return true;
}

/* Appends a row whose member `key` is its name. */
static bool named(cJSON *list, const char *key, const char *name, const char *summary, const struct wasd_field *rows)
{
	cJSON *j = append(list, cJSON_CreateObject());
	return put_str(j, key, name) && put_str(j, "summary", summary) && put_options(j, rows);
}

static bool optimizers(cJSON *list)
{
	const struct wasd_optim_kind *k;
	for (int i = 0; (k = wasd_optim_kind_at(i)); i++)
		if (!named(list, "name", k->name, k->summary, k->options))
			return false;
	return true;
}

static bool schedules(cJSON *list)
{
	const struct wasd_schedule_kind *k;
	for (int i = 0; (k = wasd_schedule_kind_at(i)); i++)
		if (!named(list, "name", k->name, k->summary, k->options))
			return false;
	return true;
}

static bool strategies(cJSON *list)
{
	const struct weight_strategy *s;
	for (int i = 0; (s = weight_strategy_at(i)); i++)
		if (!named(list, "type", s->name, s->summary, s->options) ||
		    !cJSON_AddBoolToObject(cJSON_GetArrayItem(list, i), "prunes", weight_strategy_prunes(s)))
			return false;
	return true;
}

static bool desires(cJSON *list, const struct mode_desire *d)
{
	for (int i = 0; list && d && d->name; d++, i++)
		if (!named(list, "name", d->name, d->summary, d->options) ||
		    !cJSON_AddBoolToObject(cJSON_GetArrayItem(list, i), "based", d->based))
			return false;
	return list;
}

static bool mode_kinds(cJSON *list)
{
	const struct mode_kind *k;
	for (int i = 0; (k = mode_kind_at(i)); i++) {
		cJSON *j = append(list, cJSON_CreateObject());
		if (!put_str(j, "name", k->name) || !put_str(j, "summary", k->summary) ||
		    !put(j, "family", k->family ? cJSON_CreateString(k->family) : cJSON_CreateNull()) ||
		    !desires(put(j, "desires", cJSON_CreateArray()), k->desires))
			return false;
	}
	return true;
}

static bool augmentations(cJSON *list)
{
	const struct augment_kind *a;
	for (int i = 0; (a = augment_kind_at(i)); i++)
		if (!named(list, "name", a->name, a->summary, a->options))
			return false;
	return true;
}

/* ---- layers of custom networks --------------------------------------------------------------------------------- */

static bool layer_field(cJSON *list, const struct layer_field *f)
{
	cJSON *o = append(list, wasd_field_to_json(&f->row));
	return o && (!f->classes || cJSON_AddTrueToObject(o, "classes"));
}

static bool layers(cJSON *list)
{
	static const struct layer_field augment = {{"augment", WASD_BOOL, "false",
	                                            .summary = "one of the convolutions that \"was\" transforms"},
	                                           .at = 0};
	const struct layer *l;
	for (int i = 0; (l = layer_at(i)); i++) {
		if (!l->summary)
			continue;
		cJSON *j = append(list, cJSON_CreateObject()), *fields;
		if (!put_str(j, "type", l->op) || !put_str(j, "summary", l->summary) ||
		    !(l->inputs < 0 ? put_str(j, "inputs", "many") : put_num(j, "inputs", l->inputs ? l->inputs : 1)) ||
		    !(fields = put(j, "options", cJSON_CreateArray())))
			return false;
		for (const struct layer_field *f = l->fields; f->row.name; f++)
			if (!layer_field(fields, f))
				return false;
		if (l->augmentable && !layer_field(fields, &augment))
			return false;
	}
	return true;
}

/* ---- lists of names -------------------------------------------------------------------------------------------- */

static bool precisions(cJSON *list)
{
	const struct backend *b;
	for (int p = 0; p < WASD_PRECISIONS; p++)
		if (!backend_choose(NULL, (enum wasd_precision)p, &b, NULL) &&
		    !append(list, cJSON_CreateString(wasd_precision_name((enum wasd_precision)p))))
			return false;
	return true;
}

static bool backends(cJSON *list)
{
	const struct backend *b;
	for (int i = 0; (b = backend_at(i)); i++)
		if (!append(list, cJSON_CreateString(b->name)))
			return false;
	return true;
}

static bool formats(cJSON *list)
{
	const char *s;
	for (int i = 0; (s = wasd_ingest_format_at(i)); i++)
		if (!append(list, cJSON_CreateString(s)))
			return false;
	return true;
}

static bool synthetic(cJSON *list)
{
	const char *s;
	for (int i = 0; (s = wasd_synthetic_at(i)); i++)
		if (!append(list, cJSON_CreateString(s)))
			return false;
	return true;
}

static bool modes(cJSON *list)
{
	for (int i = 0; wasd_modes[i]; i++)
		if (!append(list, cJSON_CreateString(wasd_modes[i])))
			return false;
	return true;
}

cJSON *wasd_capabilities(void)
{
	static const struct {
		const char *name;
		bool (*fill)(cJSON *list);
	} part[] = {
		{"archs", archs},           {"layers", layers},         {"strategies", strategies}, {"transforms", transforms},
		{"mode_kinds", mode_kinds}, {"optimizers", optimizers}, {"schedules", schedules},   {"augment", augmentations},
		{"precisions", precisions}, {"backends", backends},     {"formats", formats},       {"synthetic", synthetic},
		{"modes", modes},
	};
	cJSON *all = cJSON_CreateObject();
	for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
		cJSON *list = put(all, part[i].name, cJSON_CreateArray());
		if (list && part[i].fill(list))
			continue;
		cJSON_Delete(all);
		return NULL;
	}
	if (put(all, "metrics", wasd_metrics_to_json()) && put(all, "spec", wasd_spec_to_json()))
		return all;
	cJSON_Delete(all);
	return NULL;
}
