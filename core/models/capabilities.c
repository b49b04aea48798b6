/* core/models/capabilities.c - every table of core as one JSON object (format: wasd/model.h). All lists come from the
 * tables, except the augmentations, which are members of the job spec and not rows. */
#include <string.h>

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

/* ---- networks ------------------------------------------------------------------------------------------- */

static int choices(const struct wasd_arch_option *o)
{
	int n = 0;
	while (o->choices[n])
		n++;
	return o->boolean ? 2 : n;
}

static int choice(const struct wasd_arch_option *o, int i)
{
	return o->boolean ? i : o->choices[i];
}

static bool arch_options(cJSON *list, const struct wasd_arch *a)
{
	for (const struct wasd_arch_option *o = a->options; list && o->name; o++) {
		cJSON *j = append(list, cJSON_CreateObject());
		bool ok = put_str(j, "name", o->name) && put_str(j, "summary", o->summary);
		ok = ok && (o->boolean ? put_str(j, "type", "boolean") && put(j, "default", cJSON_CreateBool(o->def)) :
		                         put_num(j, "default", o->def) &&
		                             put(j, "choices", cJSON_CreateIntArray(o->choices, choices(o))));
		if (!ok)
			return false;
	}
	return list;
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

/* Appends every combination of option values, counting through them like digits, defaults first. */
static bool arch_variants(cJSON *list, const struct wasd_arch *a)
{
	int digit[WASD_ARCH_OPTIONS] = {0}, n = 0;
	bool first = true;
	while (a->options[n].name)
		n++;
	for (;;) {
		bool is_default = true;
		cJSON *model = cJSON_CreateObject();
		if (!model)
			return false;
		for (int i = 0; i < n; i++) {
			int v = first ? a->options[i].def : choice(&a->options[i], digit[i]);
			is_default = is_default && v == a->options[i].def;
			if (!put(model, a->options[i].name, a->options[i].boolean ? cJSON_CreateBool(v) : cJSON_CreateNumber(v))) {
				cJSON_Delete(model);
				return false;
			}
		}
		if (is_default && !first)
			cJSON_Delete(model);
		else if (!arch_variant(list, a, model))
			return false;
		if (first) {
			first = false;
			continue;
		}
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
		    (sides && !put(j, "sides", cJSON_CreateIntArray(a->sides, sides))) ||
		    !arch_options(put(j, "options", cJSON_CreateArray()), a) ||
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
		cJSON *j = append(list, cJSON_CreateObject()), *options;
		if (!put_str(j, "type", op->type) || !put_str(j, "op", op->name) || !put_str(j, "summary", op->summary) ||
		    !(options = put(j, "options", cJSON_CreateArray())))
			return false;
		for (const struct wasd_law_option *l = op->law; l->name; l++) {
			cJSON *o = append(options, cJSON_CreateObject());
			if (!put_str(o, "name", l->name) || !put_num(o, "n", l->n) ||
			    !put(o, "default", l->n == 1 ? cJSON_CreateNumber(l->def[0]) : cJSON_CreateDoubleArray(l->def, l->n)) ||
			    !put_num(o, "min", l->min) || !put_num(o, "max", l->max))
				return false;
		}
	}
	return true;
}

static bool options(cJSON *list, const struct wasd_optim_option *o, bool integer)
{
	for (; list && o->name; o++) {
		cJSON *j = append(list, cJSON_CreateObject());
		bool ok = put_str(j, "name", o->name) && put_str(j, "type",
		                                                 o->boolean ? "boolean" :
		                                                 integer    ? "integer" :
		                                                              "number");
		ok = ok &&
		     (o->boolean ? put(j, "default", cJSON_CreateBool(o->def != 0)) != NULL : put_num(j, "default", o->def));
		if (ok && !o->boolean)
			ok = put_num(j, "min", o->min) && put_num(j, "max", o->max) &&
			     (!o->above_min || cJSON_AddTrueToObject(j, "above_min")) &&
			     (!o->below_max || cJSON_AddTrueToObject(j, "below_max"));
		if (!ok)
			return false;
	}
	return list;
}

static bool named(cJSON *list, const char *name, const char *summary, const struct wasd_optim_option *o, bool integer)
{
	cJSON *j = append(list, cJSON_CreateObject());
	return put_str(j, "name", name) && put_str(j, "summary", summary) &&
	       options(put(j, "options", cJSON_CreateArray()), o, integer);
}

static bool optimizers(cJSON *list)
{
	const struct wasd_optim_kind *k;
	for (int i = 0; (k = wasd_optim_kind_at(i)); i++)
		if (!named(list, k->name, k->summary, k->options, false))
			return false;
	return true;
}

static bool schedules(cJSON *list)
{
	const struct wasd_schedule_kind *k;
	for (int i = 0; (k = wasd_schedule_kind_at(i)); i++)
		if (!named(list, k->name, k->summary, k->options, false))
			return false;
	return true;
}

static bool strategy_options(cJSON *list, const struct weight_option *o)
{
	for (; list && o && o->name; o++) {
		cJSON *j = append(list, cJSON_CreateObject());
		if (!put_str(j, "name", o->name) || !put_str(j, "summary", o->summary) ||
		    !put_str(j, "type",
		             o->kind == WEIGHT_FORM    ? "form" :
		             o->kind == WEIGHT_INTEGER ? "integer" :
		                                         "number") ||
		    (o->kind != WEIGHT_FORM &&
		     (!put_num(j, "default", o->def) || !put_num(j, "min", o->min) || !put_num(j, "max", o->max))))
			return false;
	}
	return list;
}

static bool strategies(cJSON *list)
{
	const struct weight_strategy *s;
	for (int i = 0; (s = weight_strategy_at(i)); i++) {
		cJSON *j = append(list, cJSON_CreateObject());
		if (!put_str(j, "type", s->name) || !put_str(j, "summary", s->summary) ||
		    !strategy_options(put(j, "options", cJSON_CreateArray()), s->options))
			return false;
	}
	return true;
}

static bool mode_kinds(cJSON *list)
{
	const struct mode_kind *k;
	for (int i = 0; (k = mode_kind_at(i)); i++) {
		cJSON *j = append(list, cJSON_CreateObject());
		if (!put_str(j, "name", k->name) || !put_str(j, "summary", k->summary) ||
		    !put(j, "family", k->family ? cJSON_CreateString(k->family) : cJSON_CreateNull()))
			return false;
	}
	return true;
}

static bool augmentations(cJSON *list)
{
	static const struct wasd_optim_option none[] = {{0}}, pad[] = {{.name = "pad", .def = 4, .min = 1, .max = 64}, {0}};
	return named(list, "flip", "left to right, half of the time", none, true) &&
	       named(list, "crop", "shifted by up to `pad` pixels; black enters", pad, true);
}

/* ---- layers of custom networks --------------------------------------------------------------------------------- */

static bool layer_field(cJSON *list, const struct layer_field *f)
{
	cJSON *o = append(list, cJSON_CreateObject());
	bool ok = put_str(o, "name", f->name) &&
	          put_str(o, "type",
	                  f->kind == FIELD_BOOL ? "boolean" :
	                  f->kind == FIELD_INT  ? "integer" :
	                                          "number") &&
	          (!*f->summary || put_str(o, "summary", f->summary));
	if (f->kind == FIELD_BOOL)
		return ok && put(o, "default", cJSON_CreateBool(f->def != 0));
	return ok && (f->def < f->min || put_num(o, "default", f->def)) && put_num(o, "min", f->min) &&
	       put_num(o, "max", f->max) && (!f->required || cJSON_AddTrueToObject(o, "required")) &&
	       (!f->classes || cJSON_AddTrueToObject(o, "classes"));
}

static bool layers(cJSON *list)
{
	static const struct layer_field augment = {.name = "augment",
	                                           .summary = "one of the convolutions that \"was\" transforms",
	                                           .kind = FIELD_BOOL};
	const struct layer *l;
	for (int i = 0; (l = layer_at(i)); i++) {
		if (!l->summary)
			continue;
		cJSON *j = append(list, cJSON_CreateObject()), *fields;
		if (!put_str(j, "type", l->op) || !put_str(j, "summary", l->summary) ||
		    !(l->inputs < 0 ? put_str(j, "inputs", "many") : put_num(j, "inputs", l->inputs ? l->inputs : 1)) ||
		    !(fields = put(j, "options", cJSON_CreateArray())))
			return false;
		for (const struct layer_field *f = l->fields; f->name; f++)
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

cJSON *wasd_capabilities(void)
{
	static const struct {
		const char *name;
		bool (*fill)(cJSON *list);
	} part[] = {
		{"archs", archs},           {"layers", layers},         {"strategies", strategies}, {"transforms", transforms},
		{"mode_kinds", mode_kinds}, {"optimizers", optimizers}, {"schedules", schedules},   {"augment", augmentations},
		{"precisions", precisions}, {"backends", backends},     {"formats", formats},       {"synthetic", synthetic},
	};
	cJSON *all = cJSON_CreateObject();
	for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
		cJSON *list = put(all, part[i].name, cJSON_CreateArray());
		if (list && part[i].fill(list))
			continue;
		cJSON_Delete(all);
		return NULL;
	}
	return all;
}
