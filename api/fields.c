/* api/fields.c - JSON objects checked against tables, and brought to their canonical form.
 *
 * Canonical: every member checked, every default written out, members in the order of the table, so that equal requests
 * have equal text and digest. All faults are collected, each with its JSON pointer, before anything is answered. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void fields_pointer(char out[256], const char *base, const char *key)
{
	size_t n = (size_t)snprintf(out, 256, "%s/", base);
	for (; *key && n < 250; key++) {
		if (*key == '~' || *key == '/') {
			out[n++] = '~';
			out[n++] = *key == '~' ? '0' : '1';
		} else {
			out[n++] = *key;
		}
	}
	out[n < 255 ? n : 255] = 0;
}

void fields_show(char out[80], const cJSON *v)
{
	if (cJSON_IsArray(v) || cJSON_IsObject(v)) {
		snprintf(out, 80, "%s", cJSON_IsArray(v) ? "an array" : "an object");
		return;
	}
	char *text = wasd_json_print(v);
	if (!text || strlen(text) <= 60)
		snprintf(out, 80, "%s", text ? text : "?");
	else
		snprintf(out, 80, "%.40s... (%zu bytes)", text, strlen(text));
	wasd_free(text);
}

cJSON *array_canon(struct field_ctx *c, const char *pointer, const cJSON *v, int least, int most, const char *what)
{
	char shown[80];
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1;
	if (n >= least && n <= most)
		return cJSON_Duplicate(v, 1);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be an array of %d to %d %s, not %s", pointer, least, most,
	          what, shown);
	return NULL;
}

static void range_text(char out[120], const struct field *f)
{
	if (f->type == FIELD_INT)
		snprintf(out, 120, "a whole number from %.0f to %.0f", f->min, f->max);
	else
		snprintf(out, 120, "a number %s %.10g and %s %.10g", f->above_min ? "above" : "of at least", f->min,
		         f->below_max ? "below" : "at most", f->max);
}

static cJSON *number_canon(struct field_ctx *c, const char *pointer, const struct field *f, const cJSON *v)
{
	double x = cJSON_IsNumber(v) ? v->valuedouble : NAN;
	bool ok = isfinite(x) && x >= f->min && x <= f->max && !(f->above_min && x == f->min) &&
	          !(f->below_max && x == f->max);
	if (ok && f->type == FIELD_INT)
		ok = x == floor(x) && fabs(x) <= (double)WASD_JSON_INT_MAX;
	if (ok)
		return cJSON_CreateNumber(x == 0 ? 0 : x); /* -0 is 0 */
	char range[120], shown[80];
	range_text(range, f);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be %s, not %s", pointer, range, shown);
	return NULL;
}

static cJSON *choice_canon(struct field_ctx *c, const char *pointer, const struct field *f, const cJSON *v)
{
	char list[256] = "", shown[80];
	for (size_t i = 0; f->choices[i]; i++) {
		if (cJSON_IsString(v) && !strcmp(v->valuestring, f->choices[i]))
			return cJSON_CreateString(f->choices[i]);
		size_t n = strlen(list);
		snprintf(list + n, sizeof list - n, "%s\"%s\"", i ? (f->choices[i + 1] ? ", " : " or ") : "", f->choices[i]);
	}
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be %s, not %s", pointer, list, shown);
	return NULL;
}

static cJSON *string_canon(struct field_ctx *c, const char *pointer, const struct field *f, const cJSON *v)
{
	char shown[80];
	size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;
	if (cJSON_IsString(v) && n >= (size_t)f->min && n <= (size_t)f->max)
		return cJSON_CreateString(v->valuestring);
	fields_show(shown, v);
	if (f->min > 0)
		api_fault(c->faults, "invalid_field", pointer, "%s must be a string of %.0f to %.0f bytes, not %s", pointer,
		          f->min, f->max, shown);
	else
		api_fault(c->faults, "invalid_field", pointer, "%s must be a string of at most %.0f bytes, not %s", pointer,
		          f->max, shown);
	return NULL;
}

static cJSON *name_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsString(v) && wasd_name_ok(v->valuestring))
		return cJSON_CreateString(v->valuestring);
	fields_show(shown, v);
	api_fault(
		c->faults, "invalid_field", pointer,
		"%s must be a name: 1 to 63 of a-z 0-9 . _ - beginning with a letter or digit, and not \"stats\"; it is %s",
		pointer, shown);
	return NULL;
}

static cJSON *value_canon(struct field_ctx *c, const char *pointer, const struct field *f, const cJSON *v)
{
	char shown[80];
	if (f->null_ok && cJSON_IsNull(v))
		return cJSON_CreateNull();
	switch (f->type) {
	case FIELD_BOOL:
		if (cJSON_IsBool(v))
			return cJSON_CreateBool(cJSON_IsTrue(v));
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be true or false, not %s", pointer, shown);
		return NULL;
	case FIELD_INT:
	case FIELD_NUM:
		return number_canon(c, pointer, f, v);
	case FIELD_STR:
		return string_canon(c, pointer, f, v);
	case FIELD_CHOICE:
		return choice_canon(c, pointer, f, v);
	case FIELD_NAME:
		return name_canon(c, pointer, v);
	case FIELD_OBJECT:
		if (cJSON_IsObject(v))
			return fields_canon(c, pointer, f->sub, v);
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object%s, not %s", pointer,
		          f->null_ok ? " or null" : "", shown);
		return NULL;
	case FIELD_OTHER:
		return f->canon(c, pointer, v);
	case FIELD_UNSUPPORTED:
		api_fault(c->faults, "unsupported", pointer, "%s: %s", pointer, f->what);
		return NULL;
	}
	return NULL;
}

static void unknown_field(struct field_ctx *c, const char *base, const char *key, const char *near_by)
{
	char pointer[256];
	fields_pointer(pointer, base, key);
	if (near_by)
		api_fault(c->faults, "invalid_field", pointer, "%.200s is not a known field; did you mean \"%s\"?", pointer,
		          near_by);
	else
		api_fault(c->faults, "invalid_field", pointer, "%.200s is not a known field", pointer);
}

static void check_known(struct field_ctx *c, const char *base, const struct field *fields, const cJSON *in)
{
	for (const cJSON *m = in ? in->child : NULL; m; m = m->next) {
		const char *near_by = NULL;
		const struct field *f = fields;
		for (; f->name && strcmp(f->name, m->string); f++)
			if (!strcasecmp(f->name, m->string))
				near_by = f->name;
		if (!f->name)
			unknown_field(c, base, m->string, near_by);
	}
}

cJSON *fields_canon(struct field_ctx *c, const char *base, const struct field *fields, const cJSON *in)
{
	int before = c->faults->n;
	cJSON *out = cJSON_CreateObject();
	if (!out)
		c->faults->no_memory = true;
	check_known(c, base, fields, in);
	for (const struct field *f = fields; f->name; f++) {
		char pointer[256];
		fields_pointer(pointer, base, f->name);
		const cJSON *given = in ? wasd_json_get(in, f->name) : NULL;
		if (!given && !f->def) {
			if (f->type != FIELD_UNSUPPORTED)
				api_fault(c->faults, "invalid_field", pointer, "%s is missing", pointer);
			continue;
		}
		if (!given && !*f->def)
			continue;
		cJSON *def = given ? NULL : cJSON_Parse(f->def);
		int n = c->faults->n;
		cJSON *v = given || def ? value_canon(c, pointer, f, given ? given : def) : NULL;
		cJSON_Delete(def);
		if (!v && c->faults->n > n)
			continue;
		if (!v || !api_add_take(out, f->name, v))
			c->faults->no_memory = true;
	}
	if (c->faults->n == before && !c->faults->no_memory)
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* ---- options described by core's tables ---- */

const cJSON *caps_row(const cJSON *caps, const char *table, const char *key, const char *name)
{
	const cJSON *row;
	const char *s;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table))
		if (wasd_json_str(row, key, &s) && !strcmp(s, name))
			return row;
	return NULL;
}

void caps_names(const cJSON *caps, const char *table, const char *key, char out[256])
{
	const cJSON *row;
	out[0] = 0;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table)) {
		const char *s = cJSON_IsString(row) ? row->valuestring : "";
		if (key)
			wasd_json_str(row, key, &s);
		size_t n = strlen(out);
		snprintf(out + n, 256 - n, "%s%s", n ? (row->next ? ", " : " or ") : "", s);
	}
}

static bool in_choices(const cJSON *choices, double x)
{
	const cJSON *v;
	cJSON_ArrayForEach(v, choices)
		if (v->valuedouble == x)
			return true;
	return false;
}

/* [lo, hi] with min <= lo <= hi <= max. */
static cJSON *pair_canon(struct field_ctx *c, const char *pointer, const struct field *f, const cJSON *v)
{
	const cJSON *lo = cJSON_GetArrayItem(v, 0), *hi = cJSON_GetArrayItem(v, 1);
	char shown[80];
	if (cJSON_IsArray(v) && cJSON_GetArraySize(v) == 2 && cJSON_IsNumber(lo) && cJSON_IsNumber(hi) &&
	    lo->valuedouble >= f->min && hi->valuedouble <= f->max && lo->valuedouble <= hi->valuedouble) {
		double d[2] = {lo->valuedouble, hi->valuedouble};
		return cJSON_CreateDoubleArray(d, 2);
	}
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be two numbers [low, high] from %.10g to %.10g, not %s",
	          pointer, f->min, f->max, shown);
	return NULL;
}

static cJSON *option_canon(struct field_ctx *c, const char *pointer, const cJSON *opt, const cJSON *v)
{
	const char *type = "number";
	bool above = false, below = false;
	int64_t n = 1;
	double min = 0, max = 0;
	wasd_json_str(opt, "type", &type);
	wasd_json_bool(opt, "above_min", &above);
	wasd_json_bool(opt, "below_max", &below);
	wasd_json_i64(opt, "n", &n);
	wasd_json_num(opt, "min", &min);
	wasd_json_num(opt, "max", &max);
	const cJSON *choices = wasd_json_get(opt, "choices");
	struct field f = {.min = min,
	                  .max = max,
	                  .above_min = above,
	                  .below_max = below,
	                  .type = !strcmp(type, "boolean") ? FIELD_BOOL :
	                          !strcmp(type, "integer") ? FIELD_INT :
	                                                     FIELD_NUM};
	if (choices) {
		if (cJSON_IsNumber(v) && in_choices(choices, v->valuedouble))
			return cJSON_CreateNumber(v->valuedouble);
		char *list = wasd_json_print(choices), shown[80];
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be one of %s, not %s", pointer,
		          list ? list : "its choices", shown);
		wasd_free(list);
		return NULL;
	}
	return n == 2 ? pair_canon(c, pointer, &f, v) : value_canon(c, pointer, &f, v);
}

bool options_canon(struct field_ctx *c, const char *base, const cJSON *options, const char *const *known,
                   const cJSON *in, cJSON *out)
{
	int before = c->faults->n;
	const cJSON *m, *opt;
	const char *name;
	cJSON_ArrayForEach(m, in) {
		const char *near_by = NULL;
		bool found = false;
		for (size_t i = 0; known[i]; i++) {
			found |= !strcmp(known[i], m->string);
			if (!strcasecmp(known[i], m->string))
				near_by = known[i];
		}
		cJSON_ArrayForEach(opt, options) {
			if (!wasd_json_str(opt, "name", &name))
				continue;
			found |= !strcmp(name, m->string);
			if (!strcasecmp(name, m->string))
				near_by = name;
		}
		if (!found)
			unknown_field(c, base, m->string, near_by);
	}
	cJSON_ArrayForEach(opt, options) {
		char pointer[256];
		if (!wasd_json_str(opt, "name", &name))
			continue;
		fields_pointer(pointer, base, name);
		const cJSON *v = wasd_json_get(in, name);
		if (!v)
			v = wasd_json_get(opt, "default");
		int n = c->faults->n;
		cJSON *canon = v ? option_canon(c, pointer, opt, v) : cJSON_CreateNull();
		if (!canon && c->faults->n > n)
			continue;
		if (!canon || !api_add_take(out, name, canon))
			c->faults->no_memory = true;
	}
	return c->faults->n == before && !c->faults->no_memory;
}
