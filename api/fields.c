/* api/fields.c - checks JSON objects against tables and brings them to canonical form.
 *
 * Canonical: every member checked, every default written out, members in the order of the table, so that equal
 * requests have equal text and digest. Every fault is collected, with its JSON pointer, before anything is answered. */
#include "internal.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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

static cJSON *out_of_range(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char range[WASD_FIELD_RANGE], shown[80];
	wasd_field_range(f, range);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be %s, not %s", pointer, range, shown);
	return NULL;
}

static cJSON *number_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	double x = cJSON_IsNumber(v) ? v->valuedouble : NAN;
	if (wasd_field_takes(f, x))
		return cJSON_CreateNumber(x == 0 ? 0 : x); /* -0 is 0 */
	return out_of_range(c, pointer, f, v);
}

static cJSON *pair_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	const cJSON *lo = cJSON_GetArrayItem(v, 0), *hi = cJSON_GetArrayItem(v, 1);
	if (cJSON_GetArraySize(v) != 2 || !cJSON_IsArray(v) || !cJSON_IsNumber(lo) || !cJSON_IsNumber(hi) ||
	    !wasd_field_takes(f, lo->valuedouble) || !wasd_field_takes(f, hi->valuedouble) ||
	    lo->valuedouble > hi->valuedouble)
		return out_of_range(c, pointer, f, v);
	double d[2] = {lo->valuedouble, hi->valuedouble};
	return cJSON_CreateDoubleArray(d, 2);
}

static cJSON *choice_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	const char *s;
	for (int i = 0; (s = wasd_field_choice(f, i)); i++)
		if (cJSON_IsString(v) && !strcmp(v->valuestring, s))
			return cJSON_CreateString(s);
	return out_of_range(c, pointer, f, v);
}

static cJSON *string_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;
	if (cJSON_IsString(v) && n >= (size_t)f->min && n <= (size_t)f->max)
		return cJSON_CreateString(v->valuestring);
	return out_of_range(c, pointer, f, v);
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

static cJSON *list_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1;
	return n >= f->min && n <= f->max ? cJSON_Duplicate(v, 1) : out_of_range(c, pointer, f, v);
}

/* The type that an object without one has: that of the row's default; NULL: it must be given. Frees with *def. */
static const char *usual_type(const struct wasd_field *f, cJSON **def)
{
	const char *type = NULL;
	*def = f->def ? cJSON_Parse(f->def) : NULL;
	return wasd_json_str(*def, "type", &type) ? type : NULL;
}

cJSON *field_typed(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], names[256], shown[80];
	const char *type = NULL;
	fields_pointer(at, pointer, "type");
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object with a \"type\", not %s", pointer, shown);
		return NULL;
	}
	const cJSON *got = wasd_json_get(v, "type");
	cJSON *def = NULL;
	if (!got)
		type = usual_type(f, &def);
	const cJSON *row = type || wasd_json_str(v, "type", &type) ? caps_row(c->caps, f->table, type) : NULL;
	if (!row) {
		caps_names(c->caps, f->table, names);
		if (got)
			fields_show(shown, got);
		api_fault(c->faults, "invalid_field", at, "%s must be %s, not %s", at, names, got ? shown : "left out");
		cJSON_Delete(def);
		return NULL;
	}
	cJSON *out = cJSON_CreateObject();
	if (!api_add_str(out, "type", type))
		c->faults->no_memory = true;
	cJSON_Delete(def);
	if (options_canon(c, pointer, "type", wasd_json_get(row, "options"), f->sub, v, out))
		return out;
	cJSON_Delete(out);
	return NULL;
}

cJSON *field_value(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	switch (f->type) {
	case WASD_BOOL:
		return cJSON_IsBool(v) ? cJSON_CreateBool(cJSON_IsTrue(v)) : out_of_range(c, pointer, f, v);
	case WASD_INT:
	case WASD_NUM:
		return number_canon(c, pointer, f, v);
	case WASD_PAIR:
		return pair_canon(c, pointer, f, v);
	case WASD_STR:
		return string_canon(c, pointer, f, v);
	case WASD_CHOICE:
		return choice_canon(c, pointer, f, v);
	case WASD_NAME:
		return name_canon(c, pointer, v);
	case WASD_OBJECT:
		return cJSON_IsObject(v) ? fields_canon(c, pointer, f->sub, v) : out_of_range(c, pointer, f, v);
	case WASD_TYPED:
		return field_typed(c, pointer, f, v);
	case WASD_LIST:
		return list_canon(c, pointer, f, v);
	case WASD_ANY:
		return cJSON_Duplicate(v, 1);
	case WASD_REFUSED:
		api_fault(c->faults, "unsupported", pointer, "%s: %s", pointer, f->summary);
		return NULL;
	}
	return NULL;
}

static cJSON *value_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	const struct field_form *form = field_forms;
	if (f->null_ok && cJSON_IsNull(v))
		return cJSON_CreateNull();
	if (!f->form)
		return field_value(c, pointer, f, v);
	while (form->name && strcmp(form->name, f->form))
		form++;
	assert(form->name);
	return form->canon(c, pointer, f, v);
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

/* Finds the member, or one whose name differs only in case. */
static bool is_row(const struct wasd_field *rows, const char *name, const char **near_by)
{
	for (const struct wasd_field *f = rows; f && f->name; f++) {
		if (!strcmp(f->name, name))
			return true;
		if (!strcasecmp(f->name, name))
			*near_by = f->name;
	}
	return false;
}

static void check_known(struct field_ctx *c, const char *base, const struct wasd_field *fields, const cJSON *in)
{
	for (const cJSON *m = in ? in->child : NULL; m; m = m->next) {
		const char *near_by = NULL;
		if (!is_row(fields, m->string, &near_by))
			unknown_field(c, base, m->string, near_by);
	}
}

/* Adds the members of `fields` to out. */
static void add_members(struct field_ctx *c, const char *base, const struct wasd_field *fields, const cJSON *in,
                        cJSON *out)
{
	for (const struct wasd_field *f = fields; f && f->name; f++) {
		char pointer[256];
		fields_pointer(pointer, base, f->name);
		const cJSON *given = in ? wasd_json_get(in, f->name) : NULL;
		if (!given && f->required)
			api_fault(c->faults, "invalid_field", pointer, "%s is missing", pointer);
		if (!given && (f->required || f->implied || !f->def))
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
}

cJSON *fields_canon(struct field_ctx *c, const char *base, const struct wasd_field *fields, const cJSON *in)
{
	int before = c->faults->n;
	cJSON *out = cJSON_CreateObject();
	if (!out)
		c->faults->no_memory = true;
	check_known(c, base, fields, in);
	add_members(c, base, fields, in, out);
	if (c->faults->n == before && !c->faults->no_memory)
		return out;
	cJSON_Delete(out);
	return NULL;
}

/* ---- options described by core's tables ---- */

/* The name of a row of capabilities. */
static const char *row_name(const cJSON *row)
{
	const char *name = cJSON_IsString(row) ? row->valuestring : "";
	if (!wasd_json_str(row, "type", &name))
		wasd_json_str(row, "name", &name);
	return name;
}

const cJSON *caps_row(const cJSON *caps, const char *table, const char *name)
{
	const cJSON *row;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table))
		if (!strcmp(row_name(row), name))
			return row;
	return NULL;
}

void caps_names(const cJSON *caps, const char *table, char out[256])
{
	const cJSON *row;
	out[0] = 0;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table)) {
		size_t n = strlen(out);
		snprintf(out + n, 256 - n, "%s%s", n ? (row->next ? ", " : " or ") : "", row_name(row));
	}
}

static bool in_choices(const cJSON *choices, const cJSON *x)
{
	const cJSON *v;
	cJSON_ArrayForEach(v, choices)
		if (cJSON_Compare(v, x, true))
			return true;
	return false;
}

/* The row as capabilities describe it; option_canon handles its choices. */
static struct wasd_field option_field(const cJSON *opt)
{
	struct wasd_field f = {.type = WASD_NUM, .items = "numbers"};
	const char *type = "number";
	int64_t n = 1;
	wasd_json_str(opt, "name", &f.name);
	wasd_json_str(opt, "type", &type);
	wasd_json_bool(opt, "above_min", &f.above_min);
	wasd_json_bool(opt, "below_max", &f.below_max);
	wasd_json_i64(opt, "n", &n);
	wasd_json_num(opt, "min", &f.min);
	wasd_json_num(opt, "max", &f.max);
	f.type = !strcmp(type, "boolean") ? WASD_BOOL :
	         !strcmp(type, "integer") ? WASD_INT :
	         !strcmp(type, "string")  ? WASD_STR :
	         !strcmp(type, "array")   ? WASD_LIST :
	         n == 2                   ? WASD_PAIR :
	                                    WASD_NUM;
	return f;
}

static cJSON *option_canon(struct field_ctx *c, const char *pointer, const cJSON *opt, const cJSON *v)
{
	struct wasd_field f = option_field(opt);
	const cJSON *choices = wasd_json_get(opt, "choices");
	if (!choices)
		return field_value(c, pointer, &f, v);
	if (in_choices(choices, v))
		return cJSON_Duplicate(v, true);
	char *list = wasd_json_print(choices), shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be one of %s, not %s", pointer, list ? list : "its choices",
	          shown);
	wasd_free(list);
	return NULL;
}

static bool is_option(const cJSON *options, const char *name, const char **near_by)
{
	const cJSON *opt;
	const char *s;
	cJSON_ArrayForEach(opt, options) {
		if (!wasd_json_str(opt, "name", &s))
			continue;
		if (!strcmp(s, name))
			return true;
		if (!strcasecmp(s, name))
			*near_by = s;
	}
	return false;
}

bool options_canon(struct field_ctx *c, const char *base, const char *key, const cJSON *options,
                   const struct wasd_field *common, const cJSON *in, cJSON *out)
{
	const struct wasd_field of_key[] = {{.name = key}, {0}};
	int before = c->faults->n;
	const cJSON *m, *opt;
	const char *name;
	cJSON_ArrayForEach(m, in) {
		const char *near_by = NULL;
		if (!is_row(of_key, m->string, &near_by) && !is_row(common, m->string, &near_by) &&
		    !is_option(options, m->string, &near_by))
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
		if (!v)
			continue; /* its default is known to the engine alone */
		int n = c->faults->n;
		cJSON *canon = option_canon(c, pointer, opt, v);
		if (!canon && c->faults->n > n)
			continue;
		if (!canon || !api_add_take(out, name, canon))
			c->faults->no_memory = true;
	}
	add_members(c, base, common, in, out);
	return c->faults->n == before && !c->faults->no_memory;
}

cJSON *api_body_fields(const struct api_request *q, struct api_response *r, const struct wasd_field *fields,
                       const cJSON *caps, bool optional)
{
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults, .caps = caps};
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, optional);
	if (!body)
		return NULL;
	cJSON *in = fields_canon(&fc, "", fields, body);
	cJSON_Delete(body);
	if (!in)
		api_send_faults(q, r, &faults);
	return in;
}
