/* api/spec.c - the job spec: members that have several notations, and rules between members. The members, their
 * defaults and their ranges are rows of wasd_spec (core/base/spec.c).
 *
 * Names defined in core (networks, transforms, optimizers, schedules, augmentations, precisions) are checked against
 * the capabilities object, so a new row there is accepted here without an edit. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* "flip", or {"type":"crop","pad":4}; each kind at most once. */
cJSON *spec_augment_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80], at[256];
	if (!cJSON_IsArray(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array, not %s", pointer, shown);
		return NULL;
	}
	int before = c->faults->n, i = 0;
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		cJSON *obj = cJSON_IsString(one) ? cJSON_CreateObject() : NULL;
		if (obj)
			api_add_str(obj, "type", one->valuestring);
		cJSON *canon = field_typed(c, at, f, obj ? obj : one);
		cJSON_Delete(obj);
		const char *type = "";
		if (canon)
			wasd_json_str(canon, "type", &type);
		const cJSON *other, *twice = NULL;
		const char *other_type;
		cJSON_ArrayForEach(other, out)
			if (wasd_json_str(other, "type", &other_type) && !strcmp(other_type, type))
				twice = other;
		if (twice)
			api_fault(c->faults, "invalid_field", at, "%s: %s is there twice", at, type);
		if (twice)
			cJSON_Delete(canon);
		else if (canon)
			api_push(out, canon);
		else if (c->faults->n == before)
			c->faults->no_memory = true;
	}
	if (c->faults->n == before && out)
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* A precision that is known but not available on this processor is unsupported. */
cJSON *spec_precision_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char names[256], shown[80];
	const char *s = cJSON_IsString(v) ? v->valuestring : "", *name;
	bool known = false;
	if (caps_row(c->caps, "precisions", s))
		return cJSON_CreateString(s);
	for (int i = 0; (name = wasd_field_choice(f, i)); i++)
		known |= !strcmp(name, s);
	caps_names(c->caps, "precisions", names);
	fields_show(shown, v);
	api_fault(c->faults, known ? "unsupported" : "invalid_field", pointer, "%s must be %s, not %s%s", pointer, names,
	          shown, known ? ", which this machine does not offer" : "");
	return NULL;
}

/* ---- model and was ---- */

static const cJSON *arch_row(const struct field_ctx *c)
{
	const char *arch;
	const cJSON *model = wasd_json_get(c->root, "model");
	return wasd_json_str(model, "arch", &arch) ? caps_row(c->caps, "archs", arch) : NULL;
}

const char *spec_network(const cJSON *spec)
{
	const cJSON *model = wasd_json_get(spec, "model");
	const char *name;
	if (wasd_json_get(model, "layers"))
		return wasd_json_str(model, "name", &name) ? name : WASD_NETWORK_CUSTOM;
	return wasd_json_str(model, "arch", &name) ? name : "";
}

/* A network of the table with its options, or a network defined in the job, whose layers the engine checks
 * (api/networks.c). */
cJSON *spec_model_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80], names[256];
	const char *arch;
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object with \"arch\" or \"layers\", not %s",
		          pointer, shown);
		return NULL;
	}
	if (wasd_json_get(v, "layers"))
		return field_value(c, pointer, f, v);
	const cJSON *row = arch_row(c), *got = wasd_json_get(v, "arch");
	if (!row) {
		caps_names(c->caps, "archs", names);
		if (got)
			fields_show(shown, got);
		api_fault(c->faults, "invalid_field", "/model/arch", "/model/arch must be %s, not %s", names,
		          got ? shown : "left out, unless /model/layers describe a network");
		return NULL;
	}
	cJSON *out = cJSON_CreateObject();
	if (!wasd_json_str(v, "arch", &arch) || !api_add_str(out, "arch", arch))
		c->faults->no_memory = true;
	if (options_canon(c, pointer, "arch", wasd_json_get(row, "options"), wasd_spec_network, v, out))
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* Always a fault: a network defined by layers has no arch. */
cJSON *spec_arch_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	(void)f, (void)v;
	api_fault(c->faults, "unsupported", pointer, "%s: arch and layers exclude each other", pointer);
	return NULL;
}

/* The variant of an architecture selected by a model object; absent options have their defaults. */
static const cJSON *arch_variant(const cJSON *row, const cJSON *model)
{
	const cJSON *variant, *opt;
	cJSON_ArrayForEach(variant, wasd_json_get(row, "variants")) {
		bool same = true;
		cJSON_ArrayForEach(opt, wasd_json_get(row, "options")) {
			const char *name = "";
			wasd_json_str(opt, "name", &name);
			const cJSON *want = wasd_json_get(model, name);
			same &= cJSON_Compare(want ? want : wasd_json_get(opt, "default"),
			                      wasd_json_get(wasd_json_get(variant, "model"), name), true);
		}
		if (same)
			return variant;
	}
	return NULL;
}

/* The number of convolutions that the network augments: as published, or as marked in the job's own layers. */
static int64_t augmented(const struct field_ctx *c)
{
	const cJSON *model = wasd_json_get(c->root, "model"), *row = arch_row(c), *layer;
	int64_t n = 0;
	cJSON_ArrayForEach(layer, wasd_json_get(model, "layers"))
		n += cJSON_IsTrue(wasd_json_get(layer, "augment"));
	return row && wasd_json_i64(arch_variant(row, model), "augmented", &n) ? n :
	       wasd_json_get(model, "layers")                                  ? n :
	                                        1; /* an unknown arch is reported elsewhere */
}

/* The transforms that the authors draw from for this network; NULL where they draw none. */
static const cJSON *own_transforms(const struct field_ctx *c)
{
	const cJSON *row = arch_row(c);
	return row ? wasd_json_get(wasd_json_get(arch_variant(row, wasd_json_get(c->root, "model")), "was"), "transforms") :
	             NULL;
}

cJSON *spec_transforms_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	cJSON *usual = NULL;
	if (cJSON_IsNull(v) && !(v = own_transforms(c)))
		v = usual = cJSON_Parse("[{\"type\":\"translate\"},{\"type\":\"resized_crop\"}]");
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0, before = c->faults->n, i = 0;
	if (n < f->min || n > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of %.0f to %.0f transforms, not %s%s",
		          pointer, f->min, f->max, shown,
		          cJSON_IsArray(v) ? (n ? " of more" : " of none; \"was\": false trains plain weights") : "");
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		cJSON *canon = field_typed(c, at, f, one);
		if (canon)
			api_push(out, canon);
		else if (c->faults->n == before)
			c->faults->no_memory = true;
	}
	cJSON_Delete(usual);
	if (c->faults->n == before && out)
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* The engine checks whether it matches a convolution of the network (api_network_check). */
static bool pattern_ok(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsString(v) && v->valuestring[0] && strlen(v->valuestring) <= WASD_PATTERN_MAX)
		return true;
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be the name of a convolution or a pattern of names (at most %d bytes), not %s", pointer,
	          WASD_PATTERN_MAX, shown);
	return false;
}

/* "paper", "all", a name or pattern of convolutions, or a list of these. */
cJSON *spec_layers_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80], at[256];
	if (cJSON_IsString(v) && !strcmp(v->valuestring, "paper")) {
		if (augmented(c))
			return cJSON_CreateString(v->valuestring);
		api_fault(
			c->faults, "invalid_field", pointer,
			"%s: the published network augments no layer of this architecture; use \"all\", a list of names, or \"was\": false",
			pointer);
		return NULL;
	}
	if (cJSON_IsString(v) && *v->valuestring)
		return !strcmp(v->valuestring, "all") || pattern_ok(c, pointer, v) ? cJSON_CreateString(v->valuestring) : NULL;
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0, i = 0;
	if (n < f->min || n > f->max) {
		fields_show(shown, v);
		api_fault(
			c->faults, "invalid_field", pointer,
			"%s must be \"paper\", \"all\", a name or pattern of layers, or an array of %.0f to %.0f of these, not %s",
			pointer, f->min, f->max, shown);
		return NULL;
	}
	const cJSON *one;
	bool ok = true;
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		ok = pattern_ok(c, at, one) && ok;
		for (const cJSON *before = v->child; before != one && cJSON_IsString(one); before = before->next) {
			if (!cJSON_IsString(before) || strcmp(before->valuestring, one->valuestring))
				continue;
			api_fault(c->faults, "invalid_field", at, "%s: \"%.64s\" is there twice", at, one->valuestring);
			ok = false;
		}
	}
	return ok ? cJSON_Duplicate(v, 1) : NULL;
}

/* A number, or a linear ramp over epochs. */
cJSON *spec_probability_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char range[WASD_FIELD_RANGE], shown[80];
	if (cJSON_IsObject(v))
		return fields_canon(c, pointer, f->sub, v);
	if (cJSON_IsNumber(v) && wasd_field_takes(f, v->valuedouble))
		return field_value(c, pointer, f, v);
	wasd_field_range(f, range);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be %s, or an object with \"from\", \"to\" and \"epochs\", not %s", pointer, range, shown);
	return NULL;
}

cJSON *spec_draw_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	const char *s = cJSON_IsString(v) ? v->valuestring : "", *word;
	if (!strncmp(s, WASD_DRAW_PROFILE, sizeof WASD_DRAW_PROFILE - 1) &&
	    wasd_mode_member_ok(s + sizeof WASD_DRAW_PROFILE - 1))
		return cJSON_CreateString(s);
	for (int i = 0; (word = wasd_field_choice(f, i)); i++)
		if (!strcmp(s, word))
			return cJSON_CreateString(word);
	char shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be \"step\", \"epoch\" or \"" WASD_DRAW_PROFILE "\" and a profile's name, not %s", pointer,
	          shown);
	return NULL;
}

cJSON *spec_odds_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	double sum = 0;
	fields_show(shown, v);
	if (!cJSON_IsObject(v)) {
		api_fault(c->faults, "invalid_field", pointer,
		          "%s must be an object with \"plain\", \"profile\" and \"fresh\", not %s", pointer, shown);
		return NULL;
	}
	cJSON *out = fields_canon(c, pointer, f->sub, v), *one;
	cJSON_ArrayForEach(one, out)
		sum += one->valuedouble;
	if (!out || sum > 0)
		return out;
	api_fault(c->faults, "invalid_field", pointer, "%s must not all be 0", pointer);
	cJSON_Delete(out);
	return NULL;
}

/* Canonical "was"; refuses members that are valid only when training for a profile. */
static cJSON *was_object(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	static const char *const own[] = {"profile", "odds"};
	cJSON *out = fields_canon(c, pointer, f->sub, v);
	const char *draw;
	if (!out || (wasd_json_str(out, "draw", &draw) && !strncmp(draw, WASD_DRAW_PROFILE, sizeof WASD_DRAW_PROFILE - 1)))
		return out;
	for (size_t i = 0; i < 2; i++) {
		char at[256];
		if (!wasd_json_get(out, own[i]))
			continue;
		fields_pointer(at, pointer, own[i]);
		api_fault(c->faults, "invalid_field", at, "%s goes with \"draw\": \"" WASD_DRAW_PROFILE "NAME\" only", at);
		cJSON_Delete(out);
		return NULL;
	}
	return out;
}

/* false = plain weights; null or absent = the setting of the method's authors for this network. */
cJSON *spec_was_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsNull(v)) {
		const cJSON *row = arch_row(c), *own = NULL;
		if (row)
			own = wasd_json_get(arch_variant(row, wasd_json_get(c->root, "model")), "was");
		if (!row && wasd_json_get(wasd_json_get(c->root, "model"), "layers") && augmented(c))
			return fields_canon(c, pointer, f->sub, NULL);
		if (!own || cJSON_IsNull(own))
			return cJSON_CreateFalse(); /* an unknown arch is reported elsewhere */
		v = own;
	}
	if (cJSON_IsFalse(v))
		return cJSON_CreateFalse();
	if (cJSON_IsObject(v))
		return was_object(c, pointer, f, v);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be an object, false or null, not %s", pointer, shown);
	return NULL;
}

/* ---- weights: an ordered list of strategies; "was" is short for a list with one entry ---- */

cJSON *spec_was(const cJSON *spec, char at[32])
{
	cJSON *entry, *was = cJSON_GetObjectItemCaseSensitive(spec, "was");
	const char *type;
	int i = 0;
	snprintf(at, 32, "/was");
	cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(spec, "weights")) {
		if (wasd_json_str(entry, "type", &type) && !strcmp(type, "was")) {
			snprintf(at, 32, "/weights/%d", i);
			return entry;
		}
		i++;
	}
	return cJSON_IsObject(was) ? was : NULL;
}

/* {"type":"was"} plus the members of "was". */
static cJSON *was_entry(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	cJSON *own = cJSON_Duplicate(v, 1), *canon = NULL, *out = NULL;
	cJSON_DeleteItemFromObjectCaseSensitive(own, "type");
	if (own && (canon = was_object(c, pointer, wasd_field_find(wasd_spec, "was"), own)) &&
	    (out = cJSON_CreateObject()) && !api_add_str(out, "type", "was"))
		c->faults->no_memory = true;
	for (cJSON *m; out && canon->child && !c->faults->no_memory;) {
		char *name = wasd_strdup(canon->child->string);
		m = cJSON_DetachItemViaPointer(canon, canon->child);
		if (!name || !api_add_take(out, name, m))
			c->faults->no_memory = true;
		wasd_free(name);
	}
	cJSON_Delete(own);
	cJSON_Delete(canon);
	return out;
}

static const cJSON *of_type(const cJSON *list, const char *type)
{
	const cJSON *one;
	const char *s;
	cJSON_ArrayForEach(one, list)
		if (wasd_json_str(one, "type", &s) && !strcmp(s, type))
			return one;
	return NULL;
}

cJSON *spec_weights_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	int before = c->faults->n, i = 0;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of at most %.0f strategies, not %s",
		          pointer, f->max, shown);
		return NULL;
	}
	const cJSON *was = wasd_json_get(c->root, "was");
	if (was && !cJSON_IsNull(was)) {
		api_fault(c->faults, "invalid_field", pointer, "%s goes without /was, which is its short form", pointer);
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, v) {
		const char *type = "";
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		wasd_json_str(one, "type", &type);
		bool twice = *type && of_type(out, type);
		cJSON *canon = twice ? NULL : !strcmp(type, "was") ? was_entry(c, at, one) : field_typed(c, at, f, one);
		if (twice)
			api_fault(c->faults, "invalid_field", at, "%s: %.64s is there twice", at, type);
		else if (canon)
			api_push(out, canon);
		else if (c->faults->n == before)
			c->faults->no_memory = true;
	}
	if (c->faults->n == before && out)
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* Gives equal specs one canonical form: WAS alone, or no strategy, is "was"; any other list is "weights", which then
 * replaces "was". */
static bool settle_weights(cJSON *spec)
{
	cJSON *list = cJSON_DetachItemFromObjectCaseSensitive(spec, "weights");
	int n = cJSON_GetArraySize(list);
	if (!list)
		return true;
	if (n > 1 || (n && !of_type(list, "was"))) {
		cJSON_DeleteItemFromObjectCaseSensitive(spec, "was");
		return api_add_take(spec, "weights", list);
	}
	cJSON *was = n ? cJSON_DetachItemFromArray(list, 0) : cJSON_CreateFalse();
	cJSON_DeleteItemFromObjectCaseSensitive(was, "type");
	cJSON_Delete(list);
	if (was && cJSON_ReplaceItemInObjectCaseSensitive(spec, "was", was))
		return true;
	cJSON_Delete(was);
	return false;
}

/* ---- the rest ---- */

/* {"metric","mode", more}: the default direction follows from the metric. */
cJSON *spec_goal_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	cJSON *out = field_value(c, pointer, f, v);
	const char *metric;
	if (out && !wasd_json_get(out, "mode") && wasd_json_str(out, "metric", &metric) &&
	    !api_add_str(out, "mode", wasd_metric_find(metric)->less ? "min" : "max"))
		c->faults->no_memory = true;
	return out;
}

static bool has_word(const cJSON *list, const char *word)
{
	const cJSON *m;
	cJSON_ArrayForEach(m, list)
		if (cJSON_IsString(m) && !strcmp(m->valuestring, word))
			return true;
	return false;
}

/* A subset of the choices, in table order. */
cJSON *spec_modes_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char list[WASD_FIELD_RANGE], shown[80];
	const char *mode;
	cJSON *out = cJSON_CreateArray();
	for (int i = 0; (mode = wasd_field_choice(f, i)); i++)
		if (cJSON_IsArray(v) && has_word(v, mode))
			api_push(out, cJSON_CreateString(mode));
	/* An unknown mode or a duplicate is in v and not in out. */
	if (!out || (cJSON_GetArraySize(out) && cJSON_GetArraySize(out) == cJSON_GetArraySize(v)))
		return out;
	char *text = wasd_json_print(v);
	snprintf(shown, sizeof shown, "%.70s", text ? text : "?");
	wasd_free(text);
	wasd_field_choices(f, "and", list);
	api_fault(c->faults, "invalid_field", pointer, "%s must be an array with some of %s, each once, not %s", pointer,
	          list, shown);
	cJSON_Delete(out);
	return NULL;
}

cJSON *spec_labels_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	const cJSON *m;
	int before = c->faults->n;
	if (!cJSON_IsObject(v) || cJSON_GetArraySize(v) > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object of at most %.0f strings, not %s", pointer,
		          f->max, shown);
		return NULL;
	}
	cJSON_ArrayForEach(m, v) {
		fields_pointer(at, pointer, m->string);
		if (!*m->string || strlen(m->string) > WASD_LABEL_MAX)
			api_fault(c->faults, "invalid_field", at, "%.120s: a label's name has 1 to %d bytes", at, WASD_LABEL_MAX);
		if (cJSON_IsString(m) && strlen(m->valuestring) <= f->sub->max)
			continue;
		fields_show(shown, m);
		api_fault(c->faults, "invalid_field", at, "%.120s must be a string of at most %.0f bytes, not %s", at,
		          f->sub->max, shown);
	}
	return c->faults->n == before ? cJSON_Duplicate(v, 1) : NULL;
}

/* The checkpoint with the initial weights. */
cJSON *spec_init_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	const char *id = cJSON_IsString(v) ? v->valuestring : NULL;
	if (cJSON_IsObject(v) && cJSON_GetArraySize(v) == 1)
		wasd_json_str(v, "checkpoint", &id);
	if (id && strlen(id) >= f->min && strlen(id) <= f->max)
		return cJSON_CreateString(id);
	const cJSON *blob = cJSON_IsObject(v) && cJSON_GetArraySize(v) == 1 ? wasd_json_get(v, "blob") : NULL;
	if (blob) {
		char at[160];
		cJSON *out = cJSON_CreateObject();
		snprintf(at, sizeof at, "%s/blob", pointer);
		cJSON *sha256 = api_blob_canon(c, at, f, blob);
		if (sha256 && api_add_take(out, "blob", sha256))
			return out;
		cJSON_Delete(out);
		return NULL;
	}
	char shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be null, the id of a checkpoint or {\"blob\":SHA256}, not %s", pointer, shown);
	return NULL;
}

/* A number of training images, or a fraction of them. */
cJSON *spec_limit_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	double x = cJSON_IsNumber(v) ? v->valuedouble : 0;
	if (wasd_field_takes(f, x) && (x < 1 || x == floor(x)))
		return cJSON_CreateNumber(x);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be a whole number of images, at least 1, or a share of them above 0 and below 1, not %s",
	          pointer, shown);
	return NULL;
}

/* "balanced", or numbers; the engine checks that there is one for each class. */
cJSON *spec_class_weights_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0, i = 0, before = c->faults->n;
	const cJSON *one;
	if (cJSON_IsString(v) && !strcmp(v->valuestring, "balanced"))
		return cJSON_CreateString("balanced");
	if (n < f->min || n > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer,
		          "%s must be \"balanced\" or an array with a number for each class, not %s", pointer, shown);
		return NULL;
	}
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		if (cJSON_IsNumber(one) && one->valuedouble > 0 && one->valuedouble <= WASD_CLASS_WEIGHT_MAX)
			continue;
		fields_show(shown, one);
		api_fault(c->faults, "invalid_field", at, "%s must be a number above 0 and at most %g, not %s", at,
		          WASD_CLASS_WEIGHT_MAX, shown);
		break;
	}
	return c->faults->n == before ? cJSON_Duplicate(v, 1) : NULL;
}

/* Names or indices; the engine checks that the data set has them. */
cJSON *spec_classes_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0, i = 0, before = c->faults->n;
	const cJSON *one;
	if (n < f->min || n > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of %.0f to %.0f classes, not %s", pointer,
		          f->min, f->max, shown);
		return NULL;
	}
	cJSON_ArrayForEach(one, v) {
		double x = cJSON_IsNumber(one) ? one->valuedouble : -1;
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		if ((cJSON_IsString(one) && *one->valuestring) || (x >= 0 && x < f->max && x == floor(x)))
			continue;
		fields_show(shown, one);
		api_fault(c->faults, "invalid_field", at, "%s must be the name of a class, or its index from 0, not %s", at,
		          shown);
		break;
	}
	return c->faults->n == before ? cJSON_Duplicate(v, 1) : NULL;
}

/* "half", "set", or an object; the engine checks that it has a number for each channel. */
cJSON *spec_normalize_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	struct wasd_pixels p;
	struct wasd_err err = {0};
	const char *word;
	char shown[80], range[WASD_FIELD_RANGE];
	for (int i = 0; cJSON_IsString(v) && (word = wasd_field_choice(f, i)); i++)
		if (!strcmp(v->valuestring, word))
			return cJSON_CreateString(word);
	if (!cJSON_IsObject(v)) {
		wasd_field_range(f, range);
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be %s, or an object with \"mean\" and \"std\", not %s",
		          pointer, range, shown);
		return NULL;
	}
	cJSON *out = fields_canon(c, pointer, f->sub, v);
	if (out && !wasd_pixels_read(out, pointer, 3, &p, &err))
		return out;
	if (out)
		api_fault(c->faults, "invalid_field", err.pointer, "%s", err.msg);
	cJSON_Delete(out);
	return NULL;
}

/* A list of different ids of jobs; storage checks that they exist. */
cJSON *spec_after_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1, i = 0, before = c->faults->n;
	const cJSON *one;
	if (n < f->min || n > f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of %.0f to %.0f ids of jobs, not %s",
		          pointer, f->min, f->max, shown);
		return NULL;
	}
	cJSON_ArrayForEach(one, v) {
		bool ok = cJSON_IsString(one) && !strncmp(one->valuestring, "job_", 4) && strlen(one->valuestring) < 40;
		for (const cJSON *b = v->child; ok && b != one; b = b->next)
			ok = !cJSON_Compare(b, one, true);
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		fields_show(shown, one);
		if (!ok)
			api_fault(c->faults, "invalid_field", at, "%s must be the id of a job that is there once, not %s", at,
			          shown);
	}
	return c->faults->n == before ? cJSON_Duplicate(v, 1) : NULL;
}

/* The default name of a job is made from its network and data. */
cJSON *spec_name_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char name[200];
	if (!cJSON_IsNull(v))
		return field_value(c, pointer, f, v);
	const char *data = "";
	const cJSON *dataset = wasd_json_get(c->root, "dataset");
	if (cJSON_IsString(dataset))
		data = dataset->valuestring;
	else
		wasd_json_str(dataset, "name", &data);
	snprintf(name, sizeof name, "%.63s-%.63s", spec_network(c->root), data);
	return cJSON_CreateString(name);
}

/* Seconds from the submission, or a time. */
cJSON *spec_deadline_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	int64_t ms;
	if (cJSON_IsNumber(v) && wasd_field_takes(f, v->valuedouble))
		return cJSON_CreateNumber(v->valuedouble);
	if (cJSON_IsString(v) && wasd_rfc3339_parse(v->valuestring, &ms))
		return cJSON_CreateString(v->valuestring);
	fields_show(shown, v);
	api_fault(
		c->faults, "invalid_field", pointer,
		"%s must be a number of seconds above 0 and at most %.0f, a time such as \"2030-01-31T18:00:00Z\", or null, "
		"not %s",
		pointer, f->max, shown);
	return NULL;
}

bool api_deadline_ok(const struct api_request *q, struct api_response *r, int64_t deadline_ms)
{
	bool ok = !deadline_ms || deadline_ms > wasd_now_ms();
	if (!ok)
		api_send_problem(q, r, "invalid_field", "/deadline", "/deadline: this time has passed");
	return ok;
}

/* A metric that the run does not measure cannot select the best checkpoint. */
void spec_check_metric(const cJSON *spec, const char *pointer, const cJSON *goal, struct api_faults *faults)
{
	const char *name;
	char at[32];
	const struct wasd_metric_kind *m = wasd_json_str(goal, "metric", &name) ? wasd_metric_find(name) : NULL;
	if (!m || !m->mode)
		return;
	if (!has_word(wasd_json_get(wasd_json_get(spec, "eval"), "modes"), m->mode)) {
		api_fault(faults, "invalid_field", pointer, "%s: %s is not measured, since /eval/modes has no \"%s\"", pointer,
		          name, m->mode);
	} else if (!strcmp(m->mode, WASD_MODE_DOM) && !spec_was(spec, at)) {
		api_fault(faults, "invalid_field", pointer, "%s: %s is not measured, since %s", pointer, name,
		          wasd_json_get(spec, "weights") ? "/weights has no \"was\"" : "/was is false");
	}
}

enum { MADE_MAX = 8 /* modes that a job may ask for */ };

/* A search draws from the job's law, or from the network's published law if the job trains plain weights; an
 * explicit draw needs no law. */
static void check_profiles(struct field_ctx *c, const cJSON *spec, const char *list)
{
	const cJSON *p, *layer;
	const char *desire;
	char at[256];
	int i = 0;
	bool law = !cJSON_IsFalse(wasd_json_get(spec, "was")) || own_transforms(c);
	cJSON_ArrayForEach(layer, wasd_json_get(wasd_json_get(spec, "model"), "layers"))
		law |= cJSON_IsTrue(wasd_json_get(layer, "augment"));
	cJSON_ArrayForEach(p, wasd_json_get(spec, list)) {
		snprintf(at, sizeof at, "/%s/%d/desire", list, i++);
		if (!law && api_profile_asked(p) && wasd_json_str(p, "desire", &desire) && strcmp(desire, "draw"))
			api_fault(
				c->faults, "invalid_field", at,
				"%s: a %s trained with \"was\": false has no law to draw from: give a \"draw\", or train with \"was\"",
				at, spec_network(spec));
	}
}

/* Does the job ask for the mode, in its profiles or in the first n of its modes? */
static bool asks_for(const cJSON *spec, const cJSON *caps, const char *mode, int n)
{
	const cJSON *p;
	char its[WASD_MODE_LEN];
	bool found = false;
	cJSON_ArrayForEach(p, wasd_json_get(spec, "profiles")) {
		api_mode_asked(caps, p, its);
		found |= !strcmp(its, mode);
	}
	cJSON_ArrayForEach(p, wasd_json_get(spec, "modes")) {
		if (n-- <= 0)
			break;
		api_mode_asked(caps, p, its);
		found |= !strcmp(its, mode);
	}
	return found;
}

/* Has the canonical spec a strategy that may leave dead channels? */
static bool prunes(const cJSON *spec, const cJSON *caps)
{
	const cJSON *entry;
	const char *type;
	cJSON_ArrayForEach(entry, wasd_json_get(spec, "weights"))
		if (wasd_json_str(entry, "type", &type) &&
		    cJSON_IsTrue(wasd_json_get(caps_row(caps, "strategies", type), "prunes")))
			return true;
	return false;
}

/* Does a strategy train networks of several widths, that of the mode among them? */
static bool trains_width(const cJSON *spec, const char *mode)
{
	const cJSON *entry, *one;
	char name[WASD_MODE_LEN];
	cJSON_ArrayForEach(entry, wasd_json_get(spec, "weights"))
		cJSON_ArrayForEach(one, wasd_json_get(entry, "widths")) {
			snprintf(name, sizeof name, WASD_FAMILY_WIDTH ":%.4g", one->valuedouble);
			if (cJSON_IsNumber(one) && one->valuedouble < 1 && !strcmp(name, mode))
				return true;
		}
	return false;
}

/* Faults a mode that the job will not have: neither its run nor its profiles nor the first n of its modes have it. */
static void check_mode(const cJSON *spec, const cJSON *caps, const char *mode, int n, const char *at,
                       struct api_faults *faults)
{
	char was[32];
	bool made = wasd_mode_member(mode) != NULL;
	if (!strcmp(mode, WASD_MODE_AOM))
		return;
	if (made && !asks_for(spec, caps, mode, n))
		api_fault(faults, "invalid_field", at, "%s: neither /profiles nor %s/modes has %s", at,
		          n < MADE_MAX ? "an earlier item of " : "", mode);
	else if (!strcmp(mode, WASD_MODE_SLIM) && !prunes(spec, caps))
		api_fault(faults, "invalid_field", at, "%s: without a strategy that prunes (/weights) the job has no mode %s",
		          at, mode);
	else if (wasd_mode_smaller(mode) && strcmp(mode, WASD_MODE_SLIM) && !trains_width(spec, mode))
		api_fault(faults, "invalid_field", at, "%s: no strategy of the job (/weights) has the width of %s", at, mode);
	else if (!made && !wasd_mode_smaller(mode) && !spec_was((cJSON *)(uintptr_t)spec, was))
		api_fault(faults, "invalid_field", at, "%s: without WAS the job has no mode %s", at, mode);
}

/* Their number, names and bases. */
static void check_made(struct field_ctx *c, const cJSON *spec)
{
	const cJSON *modes = wasd_json_get(spec, "modes"), *one;
	int profiles = cJSON_GetArraySize(wasd_json_get(spec, "profiles")), i = 0;
	const char *base;
	char at[256], mode[WASD_MODE_LEN];
	if (cJSON_GetArraySize(modes) + profiles > MADE_MAX)
		api_fault(c->faults, "invalid_field", "/modes", "/modes: with the %d of /profiles there may be %d", profiles,
		          MADE_MAX - profiles);
	cJSON_ArrayForEach(one, modes) {
		snprintf(at, sizeof at, "/modes/%d/name", i);
		api_mode_asked(c->caps, one, mode);
		if (asks_for(spec, c->caps, mode, i))
			api_fault(c->faults, "invalid_field", at, "%s: two modes are called %s", at, mode);
		snprintf(at, sizeof at, "/modes/%d/base", i);
		if (wasd_json_str(one, "base", &base))
			check_mode(spec, c->caps, base, i, at, c->faults);
		i++;
	}
}

/* Does what is to follow the completion fit the rest of the canonical spec? */
static void check_on_complete(const cJSON *spec, const cJSON *caps, struct api_faults *faults)
{
	static const char at[] = "/on_complete/deploy/mode";
	const cJSON *asked = wasd_json_get(spec, "on_complete"), *one;
	const char *mode = "";
	char pointer[48];
	int i = 0;
	cJSON_ArrayForEach(one, wasd_json_get(asked, "if")) {
		snprintf(pointer, sizeof pointer, "/on_complete/if/%d/metric", i++);
		spec_check_metric(spec, pointer, one, faults);
	}
	if (wasd_json_str(wasd_json_get(asked, "deploy"), "mode", &mode))
		check_mode(spec, caps, mode, MADE_MAX, at, faults);
}

cJSON *spec_canon(const cJSON *in, const cJSON *caps, struct api_faults *faults)
{
	struct field_ctx c = {.faults = faults, .caps = caps, .root = in};
	cJSON *out = fields_canon(&c, "", wasd_spec, in);
	if (!out)
		return NULL;
	if (!settle_weights(out))
		faults->no_memory = true;
	spec_check_metric(out, "/checkpoint/keep/metric", wasd_json_get(wasd_json_get(out, "checkpoint"), "keep"), faults);
	spec_check_metric(out, "/train/early_stop/metric", wasd_json_get(wasd_json_get(out, "train"), "early_stop"),
	                  faults);
	check_profiles(&c, out, "profiles");
	check_profiles(&c, out, "modes");
	check_made(&c, out);
	check_on_complete(out, caps, faults);
	if (api_poisoned(out))
		faults->no_memory = true;
	if (!faults->n && !faults->no_memory)
		return out;
	cJSON_Delete(out);
	return NULL;
}

void spec_check_dataset(const cJSON *spec, const cJSON *caps, const cJSON *info, struct api_faults *faults)
{
	const char *arch;
	const cJSON *shape = wasd_json_get(info, "shape"), *side;
	if (!wasd_json_str(wasd_json_get(spec, "model"), "arch", &arch) || cJSON_GetArraySize(shape) != 3)
		return;
	int classes = cJSON_GetArraySize(wasd_json_get(info, "classes"));
	if (wasd_json_get(info, "classes") && classes < 2)
		api_fault(faults, "invalid_field", "/dataset", "/dataset: it has %d class%s, %s needs at least 2 to tell apart",
		          classes, classes == 1 ? "" : "es", arch);
	const cJSON *row = caps_row(caps, "archs", arch), *sides = wasd_json_get(row, "sides");
	double h = cJSON_GetArrayItem(shape, 1)->valuedouble, w = cJSON_GetArrayItem(shape, 2)->valuedouble, min_side = 1;
	wasd_json_num(row, "min_side", &min_side);
	bool fits = h >= min_side && w >= min_side;
	if (sides && fits) {
		fits = false;
		cJSON_ArrayForEach(side, sides)
			fits |= h == w && h == side->valuedouble;
	}
	if (fits)
		return;
	char *list = sides ? wasd_json_print(sides) : NULL, want[80];
	if (list)
		snprintf(want, sizeof want, "square images with a side of one of %.40s", list);
	else
		snprintf(want, sizeof want, "images of at least %.0fx%.0f", min_side, min_side);
	wasd_free(list);
	api_fault(faults, "invalid_field", "/dataset", "/dataset: its images are %.0fx%.0f, %s needs %s", h, w, arch, want);
}
