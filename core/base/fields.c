/* base/fields.c - what can be asked of a row (wasd/spec.h): its range in words, its default as numbers, its JSON form;
 * and reading by it (fields.h). */
#include "base/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct wasd_field *wasd_field_find(const struct wasd_field *rows, const char *name)
{
	for (const struct wasd_field *f = rows; f && f->name; f++)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

const char *wasd_field_choice(const struct wasd_field *f, int i)
{
	return f->choice_at ? f->choice_at(i) : f->choices ? f->choices[i] : NULL;
}

static bool is_choice(const struct wasd_field *f, double v)
{
	const char *s;
	for (int i = 0; (s = wasd_field_choice(f, i)); i++)
		if (strtod(s, NULL) == v)
			return true;
	return false;
}

bool wasd_field_takes(const struct wasd_field *f, double v)
{
	if (f->choices)
		return is_choice(f, v);
	bool in = isfinite(v) && v >= f->min && v <= f->max && !(f->above_min && v == f->min) &&
	          !(f->below_max && v == f->max);
	return in && (f->type != WASD_INT || (v == floor(v) && fabs(v) <= (double)WASD_JSON_INT_MAX));
}

void wasd_field_range(const struct wasd_field *f, char out[WASD_FIELD_RANGE])
{
	const char *s;
	size_t n = 0;
	if (f->choices)
		n = wasd_line(out, WASD_FIELD_RANGE, "one of [");
	for (int i = 0; f->choices && (s = wasd_field_choice(f, i)); i++)
		n += wasd_line(out + n, WASD_FIELD_RANGE - n, "%s%s", i ? "," : "", s);
	if (f->choices)
		wasd_line(out + n, WASD_FIELD_RANGE - n, "]");
	else if (f->type == WASD_BOOL)
		wasd_line(out, WASD_FIELD_RANGE, "true or false");
	else if (f->type == WASD_PAIR)
		wasd_line(out, WASD_FIELD_RANGE, "two numbers [low, high] from %.10g to %.10g", f->min, f->max);
	else if (f->type == WASD_INT)
		wasd_line(out, WASD_FIELD_RANGE, "a whole number from %.0f to %.0f", f->min, f->max);
	else
		wasd_line(out, WASD_FIELD_RANGE, "a number %s %.10g and %s %.10g", f->above_min ? "above" : "of at least",
		          f->min, f->below_max ? "below" : "at most", f->max);
}

void wasd_field_numbers(const struct wasd_field *f, const char *json, double v[2])
{
	char *rest = NULL;
	v[0] = v[1] = 0;
	if (!json)
		return;
	if (f->type == WASD_BOOL) {
		v[0] = !strcmp(json, "true");
	} else if (f->type == WASD_PAIR) {
		v[0] = strtod(json + 1, &rest);
		v[1] = strtod(rest + 1, NULL);
	} else {
		v[0] = strtod(json, NULL);
	}
}

void wasd_field_word(const struct wasd_field *f, char *out, size_t size)
{
	size_t n = f->def && *f->def == '"' ? strlen(f->def) - 2 : 0;
	snprintf(out, size, "%.*s", (int)n, n ? f->def + 1 : "");
}

/* ---- as JSON ----------------------------------------------------------------------------------------------------- */

static const char *const type_names[] = {
	[WASD_BOOL] = "boolean", [WASD_INT] = "integer", [WASD_NUM] = "number",    [WASD_PAIR] = "number",
	[WASD_STR] = "string",   [WASD_NAME] = "string", [WASD_CHOICE] = "string", [WASD_OBJECT] = "object",
	[WASD_TYPED] = "object", [WASD_LIST] = "array",  [WASD_ANY] = "any",       [WASD_REFUSED] = "refused",
};

static bool put(cJSON *o, const char *key, cJSON *v)
{
	if (v && cJSON_AddItemToObject(o, key, v))
		return true;
	cJSON_Delete(v);
	return false;
}

static bool put_choices(const struct wasd_field *f, cJSON *o)
{
	cJSON *list = cJSON_CreateArray();
	const char *s;
	for (int i = 0; list && (s = wasd_field_choice(f, i)); i++) {
		cJSON *v = f->type == WASD_INT ? cJSON_CreateNumber(strtod(s, NULL)) : cJSON_CreateString(s);
		if (v && cJSON_AddItemToArray(list, v))
			continue;
		cJSON_Delete(v);
		cJSON_Delete(list);
		return false;
	}
	return put(o, "choices", list);
}

static bool has_range(const struct wasd_field *f)
{
	return f->max > f->min && !f->choices && !f->choice_at;
}

static bool describe(const struct wasd_field *f, cJSON *o)
{
	bool numbers = f->type == WASD_INT || f->type == WASD_NUM || f->type == WASD_PAIR;
	return cJSON_AddStringToObject(o, "type", type_names[f->type]) &&
	       (!numbers || f->choices || cJSON_AddNumberToObject(o, "n", f->type == WASD_PAIR ? 2 : 1)) &&
	       (!f->required || cJSON_AddTrueToObject(o, "required")) &&
	       (!f->def || put(o, "default", cJSON_Parse(f->def))) && (!f->null_ok || cJSON_AddTrueToObject(o, "null")) &&
	       (!has_range(f) ||
	        (cJSON_AddNumberToObject(o, "min", f->min) && cJSON_AddNumberToObject(o, "max", f->max))) &&
	       (!f->above_min || cJSON_AddTrueToObject(o, "above_min")) &&
	       (!f->below_max || cJSON_AddTrueToObject(o, "below_max")) &&
	       (!wasd_field_choice(f, 0) || put_choices(f, o)) &&
	       (!f->table || cJSON_AddStringToObject(o, "table", f->table)) &&
	       (!f->summary || cJSON_AddStringToObject(o, "summary", f->summary));
}

cJSON *wasd_field_to_json(const struct wasd_field *f)
{
	cJSON *o = cJSON_CreateObject();
	if (o && cJSON_AddStringToObject(o, "name", f->name) && describe(f, o))
		return o;
	cJSON_Delete(o);
	return NULL;
}

/* ---- the job spec ------------------------------------------------------------------------------------------------ */

#define PATH 128

/* Where the members of a row's sub stand. */
static void inside(char out[PATH], const char *at, const struct wasd_field *f)
{
	snprintf(out, PATH, "%s/%s%s", at, f->name, f->type == WASD_LIST ? "/N" : "");
}

const struct wasd_field *wasd_spec_at(const char *path)
{
	const struct wasd_field *rows = wasd_spec, *f = NULL;
	while (rows && *path == '/') {
		size_t n = strcspn(++path, "/");
		for (f = rows; f->name && (strncmp(f->name, path, n) || f->name[n]); f++)
			;
		if (!f->name)
			return NULL;
		path += n;
		rows = f->sub;
		if (f->type == WASD_LIST && !strncmp(path, "/N", 2))
			path += 2;
	}
	return *path ? NULL : f;
}

static bool add_rows(cJSON *list, const struct wasd_field *rows, const char *at)
{
	for (const struct wasd_field *f = rows; f && f->name; f++) {
		char path[PATH];
		cJSON *o = cJSON_CreateObject();
		snprintf(path, sizeof path, "%s/%s", at, f->name);
		if (!o || !cJSON_AddStringToObject(o, "path", path) || !describe(f, o) || !cJSON_AddItemToArray(list, o)) {
			cJSON_Delete(o);
			return false;
		}
		inside(path, at, f);
		if (!add_rows(list, f->sub, path))
			return false;
	}
	return true;
}

cJSON *wasd_spec_to_json(void)
{
	cJSON *list = cJSON_CreateArray();
	if (list && add_rows(list, wasd_spec, ""))
		return list;
	cJSON_Delete(list);
	return NULL;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

enum wasd_status fields_known(const cJSON *obj, const char *at, const char *const *names, struct wasd_err *err)
{
	for (const cJSON *m = obj->child; m; m = m->next) {
		int i = 0;
		while (names[i] && strcmp(names[i], m->string))
			i++;
		if (names[i])
			continue;
		char ptr[FIELDS_POINTER], list[160] = "";
		fields_pointer(ptr, at, m->string);
		for (size_t n = 0, k = 0; names[k] && n < sizeof list; k++)
			n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", k ? ", " : "", names[k]);
		return wasd_fail_at(err, WASD_EINVAL, ptr, "unknown field; known fields: %s", list);
	}
	return WASD_OK;
}

enum wasd_status fields_number(const cJSON *v, const char *at, struct fields_range r, double *out, struct wasd_err *err)
{
	if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be a number");
	double d = v->valuedouble;
	if (d < r.min || d > r.max || (r.above_min && d == r.min) || (r.below_max && d == r.max))
		return wasd_fail_at(err, WASD_EINVAL, at, "%g is outside %c%g, %g%c", d, r.above_min ? '(' : '[', r.min, r.max,
		                    r.below_max ? ')' : ']');
	*out = d;
	return WASD_OK;
}
