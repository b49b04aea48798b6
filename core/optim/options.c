/* core/optim/options.c - reads and writes the option objects of optimizers and schedules, driven by their tables. */
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "optim/kinds.h"

int optim_read_type(const cJSON *obj, const char *at, const char *(*name_at)(int i), struct wasd_err *err)
{
	char ptr[FIELDS_POINTER], list[96] = "";
	if (obj && !cJSON_IsObject(obj)) {
		wasd_fail_at(err, WASD_EINVAL, at, "must be an object");
		return -1;
	}
	const cJSON *type = obj ? wasd_json_get(obj, "type") : NULL;
	if (!type)
		return 0; /* the first row is the default */
	const char *name;
	for (int i = 0; (name = name_at(i)); i++)
		if (cJSON_IsString(type) && !strcmp(type->valuestring, name))
			return i;
	size_t len = 0;
	for (int i = 0; (name = name_at(i)) && len < sizeof list; i++)
		len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", name);
	fields_pointer(ptr, at, "type");
	wasd_fail_at(err, WASD_EINVAL, ptr, "must be one of %s", list);
	return -1;
}

static enum wasd_status read_option(const cJSON *m, const char *at, const struct wasd_optim_option *o, double *v,
                                    struct wasd_err *err)
{
	if (!o->boolean)
		return fields_number(m, at, (struct fields_range){o->min, o->max, o->above_min, o->below_max}, v, err);
	if (!cJSON_IsBool(m))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be true or false");
	*v = cJSON_IsTrue(m);
	return WASD_OK;
}

enum wasd_status optim_read_options(const cJSON *obj, const char *at, const struct wasd_optim_option *options,
                                    const char *extra, double *v, struct wasd_err *err)
{
	const char *names[WASD_OPTIM_OPTIONS + 3] = {"type"};
	int n = 1;
	for (int i = 0; options[i].name; i++) {
		names[n++] = options[i].name;
		v[i] = options[i].def;
	}
	names[n] = extra;
	if (!obj)
		return WASD_OK;
	enum wasd_status s = fields_known(obj, at, names, err);
	for (int i = 0; s == WASD_OK && options[i].name; i++) {
		const cJSON *m = wasd_json_get(obj, options[i].name);
		char ptr[FIELDS_POINTER];
		fields_pointer(ptr, at, options[i].name);
		if (m)
			s = read_option(m, ptr, &options[i], &v[i], err);
	}
	return s;
}

cJSON *optim_options_to_json(const char *name, const struct wasd_optim_option *options, const double *v)
{
	cJSON *o = cJSON_CreateObject();
	bool ok = cJSON_AddStringToObject(o, "type", name);
	for (int i = 0; ok && options[i].name; i++)
		ok = options[i].boolean ? cJSON_AddBoolToObject(o, options[i].name, v[i] != 0) :
		                          cJSON_AddNumberToObject(o, options[i].name, v[i]);
	if (ok)
		return o;
	cJSON_Delete(o);
	return NULL;
}
