/* base/fields.c - see fields.h. */
#include "base/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void fields_pointer(char out[FIELDS_POINTER], const char *at, const char *name)
{
	size_t n = (size_t)snprintf(out, FIELDS_POINTER, "%s/", at);
	for (; *name && n + 2 < FIELDS_POINTER; name++) {
		if (*name == '~' || *name == '/') {
			out[n++] = '~';
			out[n++] = *name == '~' ? '0' : '1';
		} else {
			out[n++] = *name;
		}
	}
	if (n < FIELDS_POINTER)
		out[n] = 0;
}

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
		return wasd_fail_at(err, WASD_EINVAL, ptr, "unknown field; known here: %s", list);
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
