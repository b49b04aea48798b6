/* api/spec.c - the job spec: the tables of its members and the rules between them.
 *
 * What has a name in core (networks, transforms, optimizers, schedules, augmentations, precisions) is checked against
 * the capabilities object, so that a new row there is accepted here without an edit. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const draws[] = {"step", "epoch", NULL};
static const char *const alphas[] = {"learned", "fixed", NULL};
static const char *const metrics[] = {"val_acc_aom", "val_acc_dom", "val_loss_aom", "val_loss_dom", "train_acc",
                                      "train_loss",  NULL};
static const char *const goals[] = {"max", "min", NULL};

/* An object {"type": NAME, options...} of one of core's tables. key: the member of a table row that NAME is compared
 * with. */
static cJSON *typed_canon(struct field_ctx *c, const char *pointer, const char *table, const char *key,
                          const char *const *known, const cJSON *v)
{
	char at[256], names[256], shown[80];
	const char *type = NULL;
	fields_pointer(at, pointer, "type");
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object with a \"type\", not %s", pointer, shown);
		return NULL;
	}
	const cJSON *row = wasd_json_str(v, "type", &type) ? caps_row(c->caps, table, key, type) : NULL;
	if (!row) {
		const cJSON *got = wasd_json_get(v, "type");
		caps_names(c->caps, table, key, names);
		if (got)
			fields_show(shown, got);
		api_fault(c->faults, "invalid_field", at, "%s must be %s, not %s", at, names, got ? shown : "left out");
		return NULL;
	}
	cJSON *out = cJSON_CreateObject();
	if (!api_add_str(out, "type", type))
		c->faults->no_memory = true;
	if (options_canon(c, pointer, wasd_json_get(row, "options"), known, v, out))
		return out;
	cJSON_Delete(out);
	return NULL;
}

static cJSON *optimizer_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const known[] = {"type", NULL};
	return typed_canon(c, pointer, "optimizers", "name", known, v);
}

static cJSON *number_member(struct field_ctx *c, const char *pointer, const cJSON *obj, const struct field *f)
{
	char at[256];
	cJSON *one = cJSON_CreateObject(), *got = NULL;
	const cJSON *v = wasd_json_get(obj, f->name);
	struct field table[2] = {*f};
	if (v && !api_add_take(one, f->name, cJSON_Duplicate(v, 1)))
		c->faults->no_memory = true;
	fields_pointer(at, pointer, f->name);
	cJSON *canon = fields_canon(c, pointer, table, one);
	if (canon)
		got = cJSON_DetachItemFromObjectCaseSensitive(canon, f->name);
	cJSON_Delete(canon);
	cJSON_Delete(one);
	return got;
}

static cJSON *schedule_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const known[] = {"type", "warmup_epochs", NULL};
	static const struct field warmup = {"warmup_epochs", FIELD_NUM, "0", RANGE(0, 1e6), .below_max = false};
	cJSON *out = typed_canon(c, pointer, "schedules", "name", known, v);
	cJSON *w = out ? number_member(c, pointer, v, &warmup) : NULL;
	if (w && api_add_take(out, "warmup_epochs", w))
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* "flip", or {"type":"crop","pad":4}; each kind at most once. */
static cJSON *augment_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const known[] = {"type", NULL};
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
		cJSON *canon = typed_canon(c, at, "augment", "name", known, obj ? obj : one);
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

static cJSON *precision_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	const cJSON *p;
	char names[256], shown[80];
	cJSON_ArrayForEach(p, wasd_json_get(c->caps, "precisions"))
		if (cJSON_IsString(v) && cJSON_IsString(p) && !strcmp(v->valuestring, p->valuestring))
			return cJSON_CreateString(v->valuestring);
	bool known = cJSON_IsString(v) && !strcmp(v->valuestring, "bf16");
	caps_names(c->caps, "precisions", NULL, names);
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
	return wasd_json_str(model, "arch", &arch) ? caps_row(c->caps, "archs", "name", arch) : NULL;
}

const char *spec_network(const cJSON *spec)
{
	const cJSON *model = wasd_json_get(spec, "model");
	const char *name;
	if (wasd_json_get(model, "layers"))
		return wasd_json_str(model, "name", &name) ? name : "custom";
	return wasd_json_str(model, "arch", &name) ? name : "";
}

/* A network of the job's own. Whether its layers make one is the engine's to say (api/networks.c). */
static cJSON *layers_of_own_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	return array_canon(c, pointer, v, 1, 1000, "layers");
}

static cJSON *model_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const known[] = {"arch", NULL};
	static const struct field own[] = {
		{"name", FIELD_NAME, .def = "\"custom\""},
		{"layers", FIELD_OTHER, .canon = layers_of_own_canon},
		{"arch", FIELD_UNSUPPORTED, .what = "arch and layers exclude each other"},
		{0},
	};
	char shown[80], names[256];
	const char *arch;
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object with \"arch\" or \"layers\", not %s",
		          pointer, shown);
		return NULL;
	}
	if (wasd_json_get(v, "layers"))
		return fields_canon(c, pointer, own, v);
	const cJSON *row = arch_row(c), *got = wasd_json_get(v, "arch");
	if (!row) {
		caps_names(c->caps, "archs", "name", names);
		if (got)
			fields_show(shown, got);
		api_fault(c->faults, "invalid_field", "/model/arch", "/model/arch must be %s, not %s", names,
		          got ? shown : "left out, unless /model/layers describe a network");
		return NULL;
	}
	cJSON *out = cJSON_CreateObject();
	if (!wasd_json_str(v, "arch", &arch) || !api_add_str(out, "arch", arch))
		c->faults->no_memory = true;
	if (options_canon(c, pointer, wasd_json_get(row, "options"), known, v, out))
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* The variant of an architecture that a model object means; options left out have their default. */
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

/* How many convolutions the network itself has augmented: as published, or marked so in the job's own layers. */
static int64_t augmented(const struct field_ctx *c)
{
	const cJSON *model = wasd_json_get(c->root, "model"), *row = arch_row(c), *layer;
	int64_t n = 0;
	cJSON_ArrayForEach(layer, wasd_json_get(model, "layers"))
		n += cJSON_IsTrue(wasd_json_get(layer, "augment"));
	return row && wasd_json_i64(arch_variant(row, model), "augmented", &n) ? n :
	       wasd_json_get(model, "layers")                                  ? n :
	                                        1; /* an unknown arch is a fault of its own */
}

/* What the authors draw from for this network; NULL where they draw nothing. */
static const cJSON *own_transforms(const struct field_ctx *c)
{
	const cJSON *row = arch_row(c);
	return row ? wasd_json_get(wasd_json_get(arch_variant(row, wasd_json_get(c->root, "model")), "was"), "transforms") :
	             NULL;
}

static cJSON *transforms_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const known[] = {"type", "weight", NULL};
	static const struct field weight = {"weight", FIELD_NUM, "1", RANGE(0, 1e6), .above_min = true};
	char at[256], shown[80];
	cJSON *usual = NULL;
	if (cJSON_IsNull(v) && !(v = own_transforms(c)))
		v = usual = cJSON_Parse("[{\"type\":\"translate\"},{\"type\":\"resized_crop\"}]");
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0, before = c->faults->n, i = 0;
	if (n < 1 || n > 16) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of 1 to 16 transforms, not %s%s", pointer,
		          shown, cJSON_IsArray(v) ? (n ? " of more" : " of none; \"was\": false trains plain weights") : "");
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		cJSON *canon = typed_canon(c, at, "transforms", "type", known, one);
		cJSON *w = canon ? number_member(c, at, one, &weight) : NULL;
		if (w && api_add_take(canon, "weight", w)) {
			api_push(out, canon);
		} else {
			cJSON_Delete(canon);
			if (c->faults->n == before)
				c->faults->no_memory = true;
		}
	}
	cJSON_Delete(usual);
	if (c->faults->n == before && out)
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* Whether it means a convolution of the network is the engine's to say (api_network_check). */
static bool pattern_ok(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsString(v) && v->valuestring[0] && strlen(v->valuestring) <= 64)
		return true;
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be the name of a convolution or a pattern of names (at most 64 bytes), not %s", pointer, shown);
	return false;
}

/* "paper", "all", a name or pattern of convolutions, or several of these. */
static cJSON *layers_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
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
	if (n < 1 || n > 512) {
		fields_show(shown, v);
		api_fault(
			c->faults, "invalid_field", pointer,
			"%s must be \"paper\", \"all\", a name or pattern of layers, or an array of 1 to 512 of these, not %s",
			pointer, shown);
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
static cJSON *probability_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const struct field ramp[] = {
		{"from", FIELD_NUM, "0", RANGE(0, 1)},
		{"to", FIELD_NUM, "1", RANGE(0, 1)},
		{"epochs", FIELD_INT, NULL, RANGE(1, 1000000)},
		{0},
	};
	char shown[80];
	if (cJSON_IsObject(v))
		return fields_canon(c, pointer, ramp, v);
	double p = cJSON_IsNumber(v) ? v->valuedouble : -1;
	if (p >= 0 && p <= 1)
		return cJSON_CreateNumber(p == 0 ? 0 : p); /* -0 is 0 */
	fields_show(shown, v);
	api_fault(
		c->faults, "invalid_field", pointer,
		"%s must be a number of at least 0 and at most 1, or an object with \"from\", \"to\" and \"epochs\", not %s",
		pointer, shown);
	return NULL;
}

static cJSON *draw_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const struct field f = {.type = FIELD_CHOICE, .choices = draws};
	if (cJSON_IsString(v) && !strncmp(v->valuestring, API_DRAW_PROFILE, sizeof API_DRAW_PROFILE - 1) &&
	    wasd_mode_member_ok(v->valuestring + sizeof API_DRAW_PROFILE - 1))
		return cJSON_CreateString(v->valuestring);
	for (size_t i = 0; draws[i]; i++)
		if (cJSON_IsString(v) && !strcmp(v->valuestring, draws[i]))
			return cJSON_CreateString(f.choices[i]);
	char shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be \"step\", \"epoch\" or \"profile:\" and a profile's name, not %s", pointer, shown);
	return NULL;
}

/* A profile's draw; its layers and transforms are the engine's to check. */
static cJSON *recorded_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	return array_canon(c, pointer, v, 0, 1000, "transforms");
}

static cJSON *odds_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const struct field fields[] = {
		{"plain", FIELD_NUM, "0", RANGE(0, 1e6)},
		{"profile", FIELD_NUM, "0", RANGE(0, 1e6)},
		{"fresh", FIELD_NUM, "0", RANGE(0, 1e6)},
		{0},
	};
	char shown[80];
	double sum = 0;
	fields_show(shown, v);
	if (!cJSON_IsObject(v)) {
		api_fault(c->faults, "invalid_field", pointer,
		          "%s must be an object with \"plain\", \"profile\" and \"fresh\", not %s", pointer, shown);
		return NULL;
	}
	cJSON *out = fields_canon(c, pointer, fields, v), *one;
	cJSON_ArrayForEach(one, out)
		sum += one->valuedouble;
	if (!out || sum > 0)
		return out;
	api_fault(c->faults, "invalid_field", pointer, "%s must not all be 0", pointer);
	cJSON_Delete(out);
	return NULL;
}

static const struct field was_fields[] = {
	{"transforms", FIELD_OTHER, "null", .canon = transforms_canon},
	{"layers", FIELD_OTHER, "\"paper\"", .canon = layers_canon},
	{"alpha", FIELD_CHOICE, "\"learned\"", .choices = alphas},
	{"draw", FIELD_OTHER, "\"step\"", .canon = draw_canon},
	{"probability", FIELD_OTHER, "1", .canon = probability_canon},
	{"groups", FIELD_INT, "1", RANGE(1, 64)},
	{"profile", FIELD_OTHER, "", .canon = recorded_canon},
	{"odds", FIELD_OTHER, "", .canon = odds_canon},
	{0},
};

/* What goes only with training for a profile. */
static cJSON *was_object(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const own[] = {"profile", "odds"};
	cJSON *out = fields_canon(c, pointer, was_fields, v);
	const char *draw;
	if (!out || (wasd_json_str(out, "draw", &draw) && !strncmp(draw, API_DRAW_PROFILE, sizeof API_DRAW_PROFILE - 1)))
		return out;
	for (size_t i = 0; i < 2; i++) {
		char at[256];
		if (!wasd_json_get(out, own[i]))
			continue;
		fields_pointer(at, pointer, own[i]);
		api_fault(c->faults, "invalid_field", at, "%s goes with \"draw\": \"" API_DRAW_PROFILE "NAME\" only", at);
		cJSON_Delete(out);
		return NULL;
	}
	return out;
}

/* false = plain weights; null or left out = what the authors of the method use for this network. */
static cJSON *was_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsNull(v)) {
		const cJSON *row = arch_row(c), *own = NULL;
		if (row)
			own = wasd_json_get(arch_variant(row, wasd_json_get(c->root, "model")), "was");
		if (!row && wasd_json_get(wasd_json_get(c->root, "model"), "layers") && augmented(c))
			return fields_canon(c, pointer, was_fields, NULL);
		if (!own || cJSON_IsNull(own))
			return cJSON_CreateFalse(); /* an unknown arch is a fault of its own */
		v = own;
	}
	if (cJSON_IsFalse(v))
		return cJSON_CreateFalse();
	if (cJSON_IsObject(v))
		return was_object(c, pointer, v);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be an object, false or null, not %s", pointer, shown);
	return NULL;
}

/* ---- weights: an ordered list of strategies; "was" is the short form of a list of one ---- */

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

/* {"type":"was"} and the members of "was". */
static cJSON *was_entry(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	cJSON *own = cJSON_Duplicate(v, 1), *canon = NULL, *out = NULL;
	cJSON_DeleteItemFromObjectCaseSensitive(own, "type");
	if (own && (canon = was_object(c, pointer, own)) && (out = cJSON_CreateObject()) &&
	    !api_add_str(out, "type", "was"))
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

static cJSON *weights_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const char *const known[] = {"type", NULL};
	char at[256], shown[80];
	int before = c->faults->n, i = 0;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > 8) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of at most 8 strategies, not %s", pointer,
		          shown);
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
		cJSON *canon = twice                ? NULL :
		               !strcmp(type, "was") ? was_entry(c, at, one) :
		                                      typed_canon(c, at, "strategies", "type", known, one);
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

/* One thing has one canonical form: WAS alone, or nothing, is "was", and "weights" stands for "was" where there is
 * more. */
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

static bool is_loss(const char *metric)
{
	return strstr(metric, "loss") != NULL;
}

/* {"metric","mode", more}: the direction follows the metric when it is not given. */
static cJSON *goal_canon(struct field_ctx *c, const char *pointer, const struct field *fields, const cJSON *v)
{
	char shown[80];
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object, not %s", pointer, shown);
		return NULL;
	}
	cJSON *out = fields_canon(c, pointer, fields, v);
	const char *metric;
	if (out && !wasd_json_get(out, "mode") && wasd_json_str(out, "metric", &metric) &&
	    !api_add_str(out, "mode", is_loss(metric) ? "min" : "max"))
		c->faults->no_memory = true;
	return out;
}

static cJSON *keep_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const struct field fields[] = {
		{"best", FIELD_INT, "1", RANGE(0, 1000)},
		{"latest", FIELD_INT, "1", RANGE(1, 1000)},
		{"metric", FIELD_CHOICE, "\"val_acc_aom\"", .choices = metrics},
		{"mode", FIELD_CHOICE, "", .choices = goals},
		{0},
	};
	return goal_canon(c, pointer, fields, v);
}

static cJSON *early_stop_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	static const struct field fields[] = {
		{"patience", FIELD_INT, "5", RANGE(1, 1000000)},
		{"metric", FIELD_CHOICE, "\"val_acc_aom\"", .choices = metrics},
		{"mode", FIELD_CHOICE, "", .choices = goals},
		{0},
	};
	return goal_canon(c, pointer, fields, v);
}

static cJSON *modes_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	bool aom = false, dom = false, bad = !cJSON_IsArray(v) || !v->child;
	const cJSON *m;
	char shown[80];
	cJSON_ArrayForEach(m, v) {
		bool *which = !cJSON_IsString(m)             ? NULL :
		              !strcmp(m->valuestring, "aom") ? &aom :
		              !strcmp(m->valuestring, "dom") ? &dom :
		                                               NULL;
		bad |= !which || *which;
		if (which)
			*which = true;
	}
	if (bad) {
		char *text = wasd_json_print(v);
		snprintf(shown, sizeof shown, "%.70s", text ? text : "?");
		wasd_free(text);
		api_fault(c->faults, "invalid_field", pointer,
		          "%s must be an array with \"aom\", \"dom\" or both, each once, not %s", pointer, shown);
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	if (aom)
		api_push(out, cJSON_CreateString("aom"));
	if (dom)
		api_push(out, cJSON_CreateString("dom"));
	return out;
}

static cJSON *labels_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char at[256], shown[80];
	const cJSON *m;
	int before = c->faults->n;
	if (!cJSON_IsObject(v) || cJSON_GetArraySize(v) > 32) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object of at most 32 strings, not %s", pointer,
		          shown);
		return NULL;
	}
	cJSON_ArrayForEach(m, v) {
		fields_pointer(at, pointer, m->string);
		if (!*m->string || strlen(m->string) > 63)
			api_fault(c->faults, "invalid_field", at, "%.120s: a label's name has 1 to 63 bytes", at);
		if (cJSON_IsString(m) && strlen(m->valuestring) <= 255)
			continue;
		fields_show(shown, m);
		api_fault(c->faults, "invalid_field", at, "%.120s must be a string of at most 255 bytes, not %s", at, shown);
	}
	return c->faults->n == before ? cJSON_Duplicate(v, 1) : NULL;
}

/* A checkpoint whose weights the run starts from. */
static cJSON *init_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	const char *id = cJSON_IsString(v) ? v->valuestring : NULL;
	if (cJSON_IsObject(v) && cJSON_GetArraySize(v) == 1)
		wasd_json_str(v, "checkpoint", &id);
	if (id && *id && strlen(id) < 64)
		return cJSON_CreateString(id);
	const cJSON *blob = cJSON_IsObject(v) && cJSON_GetArraySize(v) == 1 ? wasd_json_get(v, "blob") : NULL;
	if (blob) {
		char at[160];
		cJSON *out = cJSON_CreateObject();
		snprintf(at, sizeof at, "%s/blob", pointer);
		cJSON *sha256 = api_blob_canon(c, at, blob);
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

/* Training images, or a share of them. */
static cJSON *limit_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	double x = cJSON_IsNumber(v) ? v->valuedouble : 0;
	if (x > 0 && (x < 1 || (x <= INT32_MAX && x == floor(x))))
		return cJSON_CreateNumber(x);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be a whole number of images, at least 1, or a share of them above 0 and below 1, not %s",
	          pointer, shown);
	return NULL;
}

static cJSON *queue_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsString(v) && !strcmp(v->valuestring, "default"))
		return cJSON_CreateString("default");
	fields_show(shown, v);
	api_fault(c->faults, cJSON_IsString(v) ? "unsupported" : "invalid_field", pointer,
	          "%s: there is one queue, \"default\", and no %s", pointer, shown);
	return NULL;
}

static cJSON *only_null_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	if (cJSON_IsNull(v))
		return cJSON_CreateNull();
	api_fault(c->faults, "unsupported", pointer, "%s: not offered; leave it out or null", pointer);
	return NULL;
}

/* A job without a name is called after its network and data. */
static cJSON *job_name_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char name[200], shown[80];
	size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;
	if (n >= 1 && n < sizeof name)
		return cJSON_CreateString(v->valuestring);
	if (!cJSON_IsNull(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be a string of 1 to 199 bytes, not %s", pointer, shown);
		return NULL;
	}
	const char *data = "";
	const cJSON *dataset = wasd_json_get(c->root, "dataset");
	if (cJSON_IsString(dataset))
		data = dataset->valuestring;
	else
		wasd_json_str(dataset, "name", &data);
	snprintf(name, sizeof name, "%.63s-%.63s", spec_network(c->root), data);
	return cJSON_CreateString(name);
}

static const struct field train_fields[] = {
	{"epochs", FIELD_INT, "10", RANGE(1, 100000)},
	{"batch", FIELD_INT, "128", RANGE(1, 65536)},
	{"seed", FIELD_INT, "123", RANGE(0, (double)WASD_JSON_INT_MAX)},
	{"precision", FIELD_OTHER, "\"fp32\"", .canon = precision_canon},
	{"optimizer", FIELD_OTHER, "{\"type\":\"sgd\"}", .canon = optimizer_canon},
	{"schedule", FIELD_OTHER, "{\"type\":\"constant\"}", .canon = schedule_canon},
	{"augment", FIELD_OTHER, "[]", .canon = augment_canon},
	{"label_smoothing", FIELD_NUM, "0", RANGE(0, 1), .below_max = true},
	{"early_stop", FIELD_OTHER, "null", .null_ok = true, .canon = early_stop_canon},
	{0},
};
static const char *const tests[] = {"every", "best", "last", NULL};
static const char *const statistics[] = {"own", "batch", NULL};
static const struct field data_fields[] = {
	{"val_fraction", FIELD_NUM, "0.1", RANGE(0, 0.5), .null_ok = true},
	{"limit", FIELD_OTHER, "", .null_ok = true, .canon = limit_canon},
	{0},
};
static const struct field eval_fields[] = {
	{"every", FIELD_INT, "1", RANGE(1, 100000)},
	{"modes", FIELD_OTHER, "[\"aom\",\"dom\"]", .canon = modes_canon},
	{"test", FIELD_CHOICE, "\"best\"", .choices = tests},
	{"statistics", FIELD_CHOICE, "\"own\"", .choices = statistics},
	{0},
};
static const struct field checkpoint_fields[] = {
	{"every", FIELD_INT, "1", RANGE(1, 100000)},
	{"keep", FIELD_OTHER, "{}", .canon = keep_canon},
	{0},
};
static const struct field limits_fields[] = {
	{"threads", FIELD_INT, "0", RANGE(0, 1024)},
	{"memory_mb", FIELD_INT, "0", RANGE(0, 1 << 24)},
	{"nice", FIELD_INT, "10", RANGE(0, 19)},
	{"max_wall_s", FIELD_INT, "0", RANGE(0, 1e9)},
	{0},
};
static const struct field retry_fields[] = {{"max", FIELD_INT, "2", RANGE(0, 100)},
                                            {"backoff_s", FIELD_NUM, "5", RANGE(0, 86400)},
                                            {0}};

static const struct field spec_fields[] = {
	{"name", FIELD_OTHER, "null", .canon = job_name_canon},
	{"labels", FIELD_OTHER, "{}", .canon = labels_canon},
	{"note", FIELD_STR, "\"\"", RANGE(0, 4096)},
	{"dataset", FIELD_OTHER, NULL, .canon = api_dataset_canon},
	{"data", FIELD_OBJECT, "{}", .sub = data_fields},
	{"model", FIELD_OTHER, NULL, .canon = model_canon},
	{"was", FIELD_OTHER, "null", .canon = was_canon},
	{"weights", FIELD_OTHER, "", .canon = weights_canon},
	{"train", FIELD_OBJECT, "{}", .sub = train_fields},
	{"eval", FIELD_OBJECT, "{}", .sub = eval_fields},
	{"checkpoint", FIELD_OBJECT, "{}", .sub = checkpoint_fields},
	{"profiles", FIELD_OTHER, "[]", .canon = api_profiles_canon},
	{"init_from", FIELD_OTHER, "null", .null_ok = true, .canon = init_canon},
	{"limits", FIELD_OBJECT, "{}", .sub = limits_fields},
	{"priority", FIELD_INT, "50", RANGE(0, 100)},
	{"queue", FIELD_OTHER, "\"default\"", .canon = queue_canon},
	{"preemptible", FIELD_BOOL, .def = "true"},
	{"retry", FIELD_OBJECT, "{}", .sub = retry_fields},
	{"on_complete", FIELD_OTHER, "null", .canon = only_null_canon},
	{"sweep", FIELD_UNSUPPORTED, .what = "sweeps are not offered; submit one job for each trial"},
	{"resources", FIELD_UNSUPPORTED, .what = "a job runs on this machine; use limits.threads"},
	{"after", FIELD_UNSUPPORTED, .what = "dependencies between jobs are not offered"},
	{0},
};

/* A metric that the run will not measure cannot choose its best checkpoint. */
static void check_metric(const cJSON *spec, const char *pointer, const cJSON *goal, struct api_faults *faults)
{
	const char *metric;
	if (!cJSON_IsObject(goal) || !wasd_json_str(goal, "metric", &metric) || strncmp(metric, "val_", 4))
		return;
	const char *mode = metric + strlen(metric) - 3;
	const cJSON *m;
	bool measured = false;
	char at[32];
	cJSON_ArrayForEach(m, wasd_json_get(wasd_json_get(spec, "eval"), "modes"))
		measured |= !strcmp(m->valuestring, mode);
	if (!measured) {
		api_fault(faults, "invalid_field", pointer, "%s: %s is not measured, since /eval/modes has no \"%s\"", pointer,
		          metric, mode);
	} else if (!strcmp(mode, "dom") && !spec_was(spec, at)) {
		api_fault(faults, "invalid_field", pointer, "%s: %s is not measured, since %s", pointer, metric,
		          wasd_json_get(spec, "weights") ? "/weights has no \"was\"" : "/was is false");
	}
}

/* A search draws from the job's law, or from the network's own where the job trains plain weights; a draw that is given
 * needs none. */
static void check_profiles(struct field_ctx *c, const cJSON *spec)
{
	const cJSON *p, *layer;
	const char *desire;
	char at[256];
	int i = 0;
	bool law = !cJSON_IsFalse(wasd_json_get(spec, "was")) || own_transforms(c);
	cJSON_ArrayForEach(layer, wasd_json_get(wasd_json_get(spec, "model"), "layers"))
		law |= cJSON_IsTrue(wasd_json_get(layer, "augment"));
	cJSON_ArrayForEach(p, wasd_json_get(spec, "profiles")) {
		snprintf(at, sizeof at, "/profiles/%d/desire", i++);
		if (!law && wasd_json_str(p, "desire", &desire) && strcmp(desire, "draw"))
			api_fault(
				c->faults, "invalid_field", at,
				"%s: a %s trained with \"was\": false has no law to draw from: give a \"draw\", or train with \"was\"",
				at, spec_network(spec));
	}
}

cJSON *spec_canon(const cJSON *in, const cJSON *caps, struct api_faults *faults)
{
	struct field_ctx c = {.faults = faults, .caps = caps, .root = in};
	cJSON *out = fields_canon(&c, "", spec_fields, in);
	if (!out)
		return NULL;
	if (!settle_weights(out))
		faults->no_memory = true;
	check_metric(out, "/checkpoint/keep/metric", wasd_json_get(wasd_json_get(out, "checkpoint"), "keep"), faults);
	check_metric(out, "/train/early_stop/metric", wasd_json_get(wasd_json_get(out, "train"), "early_stop"), faults);
	check_profiles(&c, out);
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
	const cJSON *row = caps_row(caps, "archs", "name", arch), *sides = wasd_json_get(row, "sides");
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
