/* api/sweep_space.c - see sweep_space.h. */
#include "sweep_space.h"
#include "wasd/tensor.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sweep_space_pointer(char out[256], const char *pointer)
{
	fields_pointer(out, "/space", pointer);
}

/* ---- reading ---- */

static bool pointer_ok(const char *s)
{
	bool ok = *s == '/' && s[1] && strlen(s) < SWEEP_POINTER;
	for (; *s; s++)
		ok &= *s != '~' || s[1] == '0' || s[1] == '1';
	return ok;
}

/* Is a the same member as b, or one that contains it? */
static bool contains(const char *a, const char *b)
{
	size_t n = strlen(a);
	return !strncmp(a, b, n) && (!b[n] || b[n] == '/');
}

static const struct wasd_field range_fields[] = {
	{"values", WASD_LIST, .min = 1, .max = SWEEP_TRIALS, .items = "values"},
	{"min", WASD_NUM, .min = -1e300, .max = 1e300},
	{"max", WASD_NUM, .min = -1e300, .max = 1e300},
	{"log", WASD_BOOL, .def = NULL},
	{"int", WASD_BOOL, .def = NULL},
	{0},
};

/* The bounds of a range must make sense. */
static void check_range(const struct sweep_dim *d, const char *at, bool both, struct api_faults *faults)
{
	if (!both)
		api_fault(faults, "invalid_field", at, "%s must have \"values\", or \"min\" and \"max\"", at);
	else if (!(d->min < d->max))
		api_fault(faults, "invalid_field", at, "%s: min must be below max", at);
	else if (d->log && d->min <= 0)
		api_fault(faults, "invalid_field", at, "%s: with \"log\", min must be above 0", at);
	else if (d->whole && (d->min != floor(d->min) || d->max != floor(d->max) || d->max - d->min > 1e9))
		api_fault(faults, "invalid_field", at, "%s: with \"int\", min and max must be whole numbers, at most 1e9 apart",
		          at);
}

static void read_dim(const cJSON *v, bool grid, struct sweep_dim *d, struct api_faults *faults)
{
	char at[256];
	struct field_ctx c = {.faults = faults};
	int before = faults->n;
	sweep_space_pointer(at, d->pointer);
	cJSON *canon = cJSON_IsObject(v) ? fields_canon(&c, at, range_fields, v) : NULL;
	if (!cJSON_IsObject(v))
		api_fault(faults, "invalid_field", at, "%s must be an object with \"values\", or \"min\" and \"max\"", at);
	d->values = wasd_json_get(v, "values");
	bool both = wasd_json_num(v, "min", &d->min) & wasd_json_num(v, "max", &d->max);
	d->log = cJSON_IsTrue(wasd_json_get(v, "log"));
	d->whole = cJSON_IsTrue(wasd_json_get(v, "int"));
	if (faults->n == before && d->values && cJSON_GetArraySize(v) > 1)
		api_fault(faults, "invalid_field", at, "%s: \"values\" goes without the other members", at);
	else if (faults->n == before && !d->values && grid)
		api_fault(faults, "invalid_field", at, "%s: a grid needs \"values\"", at);
	else if (faults->n == before && !d->values)
		check_range(d, at, both, faults);
	cJSON_Delete(canon);
}

bool sweep_space_read(const cJSON *in, bool grid, struct sweep_space *out, struct api_faults *faults)
{
	int n = cJSON_IsObject(in) ? cJSON_GetArraySize(in) : 0, before = faults->n;
	const cJSON *one;
	char at[256];
	out->n = 0;
	if (n < 1 || n > SWEEP_DIMS) {
		api_fault(
			faults, "invalid_field", "/space",
			"/space must be an object of 1 to %d JSON pointers into the template, such as \"/train/optimizer/lr\"",
			SWEEP_DIMS);
		return false;
	}
	cJSON_ArrayForEach(one, in) {
		struct sweep_dim *d = &out->dims[out->n++];
		*d = (struct sweep_dim){.pointer = one->string};
		sweep_space_pointer(at, one->string);
		if (!pointer_ok(one->string) || contains("/name", one->string))
			api_fault(faults, "invalid_field", at,
			          "%s: \"%.80s\" is not a JSON pointer of a member that trials can differ in", at, one->string);
		else
			read_dim(one, grid, d, faults);
		for (size_t i = 0; i + 1 < out->n; i++)
			if (contains(out->dims[i].pointer, d->pointer) || contains(d->pointer, out->dims[i].pointer))
				api_fault(faults, "invalid_field", at, "%s: %.80s is part of the same member", at,
				          out->dims[i].pointer);
	}
	return faults->n == before;
}

/* ---- points ---- */

static cJSON *grid_point(const struct sweep_space *s, int64_t i)
{
	cJSON *p = cJSON_CreateObject();
	const cJSON *chosen[SWEEP_DIMS];
	for (size_t k = s->n; k-- > 0;) {
		int n = cJSON_GetArraySize(s->dims[k].values);
		chosen[k] = cJSON_GetArrayItem(s->dims[k].values, (int)(i % n));
		i /= n;
	}
	for (size_t k = 0; k < s->n; k++)
		api_add_take(p, s->dims[k].pointer, cJSON_Duplicate(chosen[k], 1));
	return p;
}

cJSON *sweep_points_grid(const struct sweep_space *s, int64_t most, struct api_faults *faults)
{
	int64_t n = 1;
	for (size_t k = 0; k < s->n && n <= most; k++)
		n *= cJSON_GetArraySize(s->dims[k].values);
	if (n > most) {
		api_fault(faults, "invalid_field", "/search/max_trials",
		          "/search/max_trials: the grid has more than %lld combinations", (long long)most);
		return NULL;
	}
	cJSON *list = cJSON_CreateArray();
	for (int64_t i = 0; i < n; i++)
		api_push(list, grid_point(s, i));
	return list;
}

/* A number of the range, uniform in its logarithm if asked for, of six digits: readable, and the same with any library
 * of mathematics. */
static double number_in(const struct sweep_dim *d, struct wasd_rng *r)
{
	double hi = d->whole ? d->max + 1 : d->max, u = wasd_rng_uniform(r);
	double x = d->log ? exp(log(d->min) + u * (log(hi) - log(d->min))) : d->min + u * (hi - d->min);
	char text[32];
	if (!d->whole) {
		snprintf(text, sizeof text, "%.6g", x);
		x = strtod(text, NULL);
	}
	x = d->whole ? floor(x) : x;
	return x < d->min ? d->min : x > d->max ? d->max : x;
}

static cJSON *random_point(const struct sweep_space *s, struct wasd_rng *r)
{
	cJSON *p = cJSON_CreateObject();
	for (size_t k = 0; k < s->n; k++) {
		const struct sweep_dim *d = &s->dims[k];
		uint32_t n = (uint32_t)cJSON_GetArraySize(d->values);
		api_add_take(p, d->pointer,
		             d->values ? cJSON_Duplicate(cJSON_GetArrayItem(d->values, (int)wasd_rng_below(r, n)), 1) :
		                         cJSON_CreateNumber(number_in(d, r)));
	}
	return p;
}

static bool is_new(const cJSON *list, const cJSON *point)
{
	const cJSON *one;
	cJSON_ArrayForEach(one, list)
		if (cJSON_Compare(one, point, true))
			return false;
	return true;
}

cJSON *sweep_points_random(const struct sweep_space *s, int64_t n, int64_t seed, struct api_faults *faults)
{
	enum { TRIES = 2000 }; /* for a point that was not drawn before */
	struct wasd_rng r;
	wasd_rng_init(&r, (uint64_t)seed, "sweep", 0, 0);
	cJSON *list = cJSON_CreateArray();
	for (int64_t i = 0; i < n && !api_poisoned(list); i++) {
		cJSON *p = NULL;
		for (int k = 0; k < TRIES && (!p || !is_new(list, p)); k++) {
			cJSON_Delete(p);
			p = random_point(s, &r);
		}
		if (p && !is_new(list, p)) {
			api_fault(faults, "invalid_field", "/search/max_trials",
			          "/search/max_trials: the space seems to have no more than %lld different points", (long long)i);
			cJSON_Delete(p);
			cJSON_Delete(list);
			return NULL;
		}
		api_push(list, p);
	}
	return list;
}

/* ---- applying ---- */

/* The next part of a pointer, without its escapes. Returns what follows it. */
static const char *part(const char *s, char out[SWEEP_POINTER])
{
	size_t n = 0;
	for (s++; *s && *s != '/'; s++) {
		char c = *s;
		if (c == '~')
			c = *++s == '1' ? '/' : '~';
		out[n++] = c;
	}
	out[n] = 0;
	return s;
}

/* What a member is by default, if that is an object: {"type":"sgd"} of an optimizer; else an empty object. */
static cJSON *by_default(const char *pointer, const char *rest)
{
	char path[SWEEP_POINTER];
	snprintf(path, sizeof path, "%.*s", (int)(rest - pointer), pointer);
	const struct wasd_field *f = wasd_spec_at(path);
	cJSON *def = f && f->def ? cJSON_Parse(f->def) : NULL;
	if (cJSON_IsObject(def))
		return def;
	cJSON_Delete(def);
	return cJSON_CreateObject();
}

/* The member `name` of a container, at the part of the pointer before `rest`; it is made if it is absent or null. NULL:
 * the path leads nowhere. */
static cJSON *inside(cJSON *at, const char *name, const char *pointer, const char *rest)
{
	if (cJSON_IsArray(at))
		return *name && strspn(name, "0123456789") == strlen(name) && strlen(name) < 6 ?
		           cJSON_GetArrayItem(at, atoi(name)) :
		           NULL;
	cJSON *m = cJSON_GetObjectItemCaseSensitive(at, name);
	if (m && !cJSON_IsNull(m))
		return m;
	cJSON_DeleteItemFromObjectCaseSensitive(at, name);
	return api_add_take(at, name, by_default(pointer, rest));
}

/* False: the path leads through something that has no members. */
static bool set_value(cJSON *spec, const char *pointer, const cJSON *value)
{
	char name[SWEEP_POINTER];
	cJSON *at = spec, *copy = cJSON_Duplicate(value, 1);
	const char *rest = part(pointer, name);
	for (; *rest && (cJSON_IsObject(at) || cJSON_IsArray(at)); rest = part(rest, name))
		at = inside(at, name, pointer, rest);
	if (!*rest && cJSON_IsArray(at) && inside(at, name, pointer, rest) && copy)
		return cJSON_ReplaceItemInArray(at, atoi(name), copy);
	if (!*rest && cJSON_IsObject(at)) {
		cJSON_DeleteItemFromObjectCaseSensitive(at, name);
		api_add_take(at, name, copy);
		return true;
	}
	cJSON_Delete(copy);
	return false;
}

bool sweep_point_apply(cJSON *spec, const cJSON *point, struct api_faults *faults)
{
	const cJSON *one;
	char at[256];
	cJSON_ArrayForEach(one, point) {
		if (set_value(spec, one->string, one))
			continue;
		sweep_space_pointer(at, one->string);
		api_fault(faults, "invalid_field", at, "%s: the template has no place for %.80s", at, one->string);
		return false;
	}
	if (!api_poisoned(spec))
		return true;
	faults->no_memory = true;
	return false;
}
