/* base/fields.c - functions on one row (wasd/spec.h): its range in words, its default as numbers, its JSON form;
 * and reading members by a row (fields.h). */
#include "base/fields.h"

#include <assert.h>
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

/* `"a", "b" or "c"`; of numbers `[1,2]`. Cut where the room ends. */
static void list_choices(const struct wasd_field *f, const char *last, char *out, size_t size)
{
	const char *s, *quote = f->type == WASD_INT ? "" : "\"";
	size_t n = 0;
	out[0] = 0;
	for (int i = 0; (s = wasd_field_choice(f, i)) && n + 16 < size; i++) {
		if (i)
			n += wasd_line(out + n, size - n,
			               f->type == WASD_INT         ? "," :
			               wasd_field_choice(f, i + 1) ? ", " :
			                                             " %s ",
			               last);
		n += wasd_line(out + n, size - n, "%s%s%s", quote, s, quote);
	}
}

void wasd_field_choices(const struct wasd_field *f, const char *last, char out[WASD_FIELD_RANGE])
{
	list_choices(f, last, out, WASD_FIELD_RANGE);
}

void wasd_field_range(const struct wasd_field *f, char out[WASD_FIELD_RANGE])
{
	enum { ROOM = WASD_FIELD_RANGE };
	char list[ROOM - 32];
	const char *or_null = f->null_ok ? " or null" : "";
	switch (f->type) {
	case WASD_BOOL:
		wasd_line(out, ROOM, "true or false");
		return;
	case WASD_PAIR:
		wasd_line(out, ROOM, "two numbers [low, high] from %.10g to %.10g", f->min, f->max);
		return;
	case WASD_INT:
		list_choices(f, "", list, sizeof list);
		if (*list)
			wasd_line(out, ROOM, "one of [%s]", list);
		else
			wasd_line(out, ROOM, "a whole number from %.0f to %.0f", f->min, f->max);
		return;
	case WASD_NUM:
		wasd_line(out, ROOM, "a number %s %.10g and %s %.10g", f->above_min ? "above" : "of at least", f->min,
		          f->below_max ? "below" : "at most", f->max);
		return;
	case WASD_STR:
		if (f->min > 0)
			wasd_line(out, ROOM, "a string of %.0f to %.0f bytes", f->min, f->max);
		else
			wasd_line(out, ROOM, "a string of at most %.0f bytes", f->max);
		return;
	case WASD_NAME:
		wasd_line(out, ROOM, "a name");
		return;
	case WASD_CHOICE:
		list_choices(f, "or", out, ROOM);
		return;
	case WASD_OBJECT:
		if (f->max > 0)
			wasd_line(out, ROOM, "an object of at most %.0f members%s", f->max, or_null);
		else
			wasd_line(out, ROOM, "an object%s", or_null);
		return;
	case WASD_TYPED:
		wasd_line(out, ROOM, "an object with a \"type\"");
		return;
	case WASD_LIST:
		list_choices(f, "and", list, sizeof list);
		if (*list)
			wasd_line(out, ROOM, "an array with some of %s, each once", list);
		else if (f->max > 0)
			wasd_line(out, ROOM, "an array of %.0f to %.0f %s", f->min, f->max, f->items ? f->items : "items");
		else
			wasd_line(out, ROOM, "an array");
		return;
	case WASD_ANY:
		wasd_line(out, ROOM, "any value");
		return;
	case WASD_REFUSED:
		wasd_line(out, ROOM, "not offered");
		return;
	}
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
	return wasd_json_put(o, "choices", list);
}

static bool has_range(const struct wasd_field *f)
{
	return f->max > f->min && !f->choices && !f->choice_at;
}

static bool describe(const struct wasd_field *f, const char *type, cJSON *o)
{
	bool numbers = f->type == WASD_INT || f->type == WASD_NUM || f->type == WASD_PAIR;
	return cJSON_AddStringToObject(o, "type", type) &&
	       (!numbers || f->choices || cJSON_AddNumberToObject(o, "n", f->type == WASD_PAIR ? 2 : 1)) &&
	       (!f->required || cJSON_AddTrueToObject(o, "required")) &&
	       (!f->def || wasd_json_put(o, "default", cJSON_Parse(f->def))) &&
	       (!f->null_ok || cJSON_AddTrueToObject(o, "null")) &&
	       (!has_range(f) ||
	        (cJSON_AddNumberToObject(o, "min", f->min) && cJSON_AddNumberToObject(o, "max", f->max))) &&
	       (!f->above_min || cJSON_AddTrueToObject(o, "above_min")) &&
	       (!f->below_max || cJSON_AddTrueToObject(o, "below_max")) &&
	       (!wasd_field_choice(f, 0) || put_choices(f, o)) &&
	       (!f->table || cJSON_AddStringToObject(o, "table", f->table)) &&
	       (!f->form || cJSON_AddStringToObject(o, "form", f->form)) &&
	       (!f->summary || cJSON_AddStringToObject(o, "summary", f->summary));
}

cJSON *wasd_field_to_json(const struct wasd_field *f)
{
	cJSON *o = cJSON_CreateObject();
	/* Plain values and lists of numbers have a type here; of other options, only the row's owner knows the form. */
	bool plain = !f->form && (f->type < WASD_OBJECT || (f->type == WASD_LIST && !f->sub && !f->table && f->def));
	if (o && cJSON_AddStringToObject(o, "name", f->name) && describe(f, plain ? type_names[f->type] : "form", o))
		return o;
	cJSON_Delete(o);
	return NULL;
}

/* ---- the job spec ------------------------------------------------------------------------------------------------ */

#define PATH 128

/* Writes the path at which the members of a row's sub are. */
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

double wasd_spec_number(const cJSON *spec, const char *path)
{
	const struct wasd_field *f = wasd_spec_at(path);
	double v[2];
	char key[32];
	wasd_field_numbers(f, f->def, v);
	for (const char *s = path; spec && *s; s += strcspn(s, "/")) {
		snprintf(key, sizeof key, "%.*s", (int)strcspn(s + 1, "/"), s + 1);
		spec = wasd_json_get(spec, key);
		s++;
	}
	return cJSON_IsNumber(spec) ? spec->valuedouble : v[0];
}

static bool add_rows(cJSON *list, const struct wasd_field *rows, const char *at)
{
	for (const struct wasd_field *f = rows; f && f->name; f++) {
		char path[PATH];
		cJSON *o = cJSON_CreateObject();
		snprintf(path, sizeof path, "%s/%s", at, f->name);
		if (!o || !cJSON_AddStringToObject(o, "path", path) || !describe(f, type_names[f->type], o) ||
		    !cJSON_AddItemToArray(list, o)) {
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

enum wasd_status fields_known_rows(const cJSON *obj, const char *at, const char *key, const struct wasd_field *rows,
                                   const struct wasd_field *more, struct wasd_err *err)
{
	const char *names[32] = {NULL};
	size_t n = 0;
	if (key)
		names[n++] = key;
	for (; rows && rows->name; rows++)
		names[n++] = rows->name;
	for (; more && more->name; more++)
		names[n++] = more->name;
	assert(n < sizeof names / sizeof *names);
	return fields_known(obj, at, names, err);
}

static enum wasd_status refuse(const cJSON *v, const char *at, const char *want, struct wasd_err *err)
{
	char *got = cJSON_IsArray(v) || cJSON_IsObject(v) ? NULL : wasd_json_print(v);
	wasd_fail_at(err, WASD_EINVAL, at, "%s must be %s, not %.60s", at, want,
	             got              ? got :
	             cJSON_IsArray(v) ? "an array" :
	                                "an object");
	wasd_free(got);
	return WASD_EINVAL;
}

static enum wasd_status left_out(const char *at, const struct wasd_field *f, struct wasd_err *err)
{
	return f->required ? wasd_fail_at(err, WASD_EINVAL, at, "%s is needed", f->name) : WASD_OK;
}

static enum wasd_status one_number(const cJSON *v, const char *at, const struct wasd_field *f, double *out,
                                   struct wasd_err *err)
{
	char range[WASD_FIELD_RANGE];
	bool ok = f->type == WASD_BOOL ? cJSON_IsBool(v) : cJSON_IsNumber(v) && wasd_field_takes(f, v->valuedouble);
	if (ok) {
		*out = f->type == WASD_BOOL ? cJSON_IsTrue(v) : v->valuedouble;
		return WASD_OK;
	}
	wasd_field_range(f, range);
	return refuse(v, at, range, err);
}

static enum wasd_status pair(const cJSON *v, const char *at, const struct wasd_field *f, double *out,
                             struct wasd_err *err)
{
	struct wasd_field each = *f;
	double d[2];
	each.type = WASD_NUM;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2)
		return wasd_fail_at(err, WASD_EINVAL, at, "%s must be an array [low, high]", at);
	for (int i = 0; i < 2; i++) {
		char item[FIELDS_POINTER];
		fields_pointer(item, at, i ? "1" : "0");
		enum wasd_status s = one_number(cJSON_GetArrayItem(v, i), item, &each, &d[i], err);
		if (s != WASD_OK)
			return s;
	}
	if (d[0] > d[1])
		return wasd_fail_at(err, WASD_EINVAL, at, "%g is above %g: the lower bound comes first", d[0], d[1]);
	memcpy(out, d, sizeof d);
	return WASD_OK;
}

enum wasd_status fields_number(const cJSON *v, const char *at, const struct wasd_field *f, double *out,
                               struct wasd_err *err)
{
	if (v)
		return f->type == WASD_PAIR ? pair(v, at, f, out, err) : one_number(v, at, f, out, err);
	double d[2];
	enum wasd_status s = left_out(at, f, err);
	if (s != WASD_OK)
		return s;
	wasd_field_numbers(f, f->def, d);
	memcpy(out, d, (f->type == WASD_PAIR ? 2 : 1) * sizeof *out);
	return WASD_OK;
}

static bool is_numeric(const struct wasd_field *f)
{
	return f->type == WASD_BOOL || f->type == WASD_INT || f->type == WASD_NUM || f->type == WASD_PAIR;
}

enum wasd_status fields_numbers(const cJSON *obj, const char *at, const struct wasd_field *rows, double *v,
                                struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (const struct wasd_field *f = rows; f && f->name && s == WASD_OK; v += f->type == WASD_PAIR ? 2 : 1, f++) {
		char pointer[FIELDS_POINTER];
		fields_pointer(pointer, at, f->name);
		*v = 0;
		if (is_numeric(f))
			s = fields_number(obj ? wasd_json_get(obj, f->name) : NULL, pointer, f, v, err);
	}
	return s;
}

bool fields_put(cJSON *obj, const struct wasd_field *rows, const double *v)
{
	bool ok = obj;
	for (const struct wasd_field *f = rows; ok && f && f->name; v += f->type == WASD_PAIR ? 2 : 1, f++)
		ok = f->type == WASD_BOOL ? cJSON_AddBoolToObject(obj, f->name, *v != 0) != NULL :
		     f->type == WASD_PAIR ? wasd_json_put(obj, f->name, cJSON_CreateDoubleArray(v, 2)) :
		                            cJSON_AddNumberToObject(obj, f->name, *v) != NULL;
	return ok;
}

enum wasd_status fields_choice(const cJSON *v, const char *at, const struct wasd_field *f, int *out,
                               struct wasd_err *err)
{
	char word[64] = "", range[WASD_FIELD_RANGE];
	const char *s;
	if (v && cJSON_IsString(v))
		snprintf(word, sizeof word, "%s", v->valuestring);
	else if (!v)
		wasd_field_word(f, word, sizeof word);
	if (!v && !*word) {
		*out = -1;
		return left_out(at, f, err);
	}
	for (int i = 0; (s = wasd_field_choice(f, i)); i++)
		if (!strcmp(word, s)) {
			*out = i;
			return WASD_OK;
		}
	wasd_field_range(f, range);
	return refuse(v, at, range, err);
}
