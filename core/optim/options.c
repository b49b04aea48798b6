/* core/optim/options.c - reads and writes the option objects of optimizers and schedules, driven by their tables. */
#include <string.h>

#include "base/fields.h"
#include "optim/kinds.h"

enum wasd_status optim_read_type(const cJSON *obj, const char *at, const char *(*name_at)(int i), int *row,
                                 struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	if (obj && !cJSON_IsObject(obj))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be an object");
	const cJSON *type = obj ? wasd_json_get(obj, "type") : NULL;
	cJSON *def = type ? NULL : cJSON_Parse(wasd_spec_at(at)->def);
	if (!type && !def)
		return wasd_fail(err, WASD_ENOMEM, "%s", at);
	struct wasd_field names = {.name = "type", .type = WASD_CHOICE, .choice_at = name_at};
	fields_pointer(ptr, at, "type");
	enum wasd_status s = fields_choice(type ? type : wasd_json_get(def, "type"), ptr, &names, row, err);
	cJSON_Delete(def);
	return s;
}

enum wasd_status optim_read_options(const cJSON *obj, const char *at, const struct wasd_field *options,
                                    const struct wasd_field *common, double *v, struct wasd_err *err)
{
	enum wasd_status s = obj ? fields_known_rows(obj, at, "type", options, common, err) : WASD_OK;
	return s ? s : fields_numbers(obj, at, options, v, err);
}

cJSON *optim_options_to_json(const char *name, const struct wasd_field *options, const double *v)
{
	cJSON *o = cJSON_CreateObject();
	if (cJSON_AddStringToObject(o, "type", name) && fields_put(o, options, v))
		return o;
	cJSON_Delete(o);
	return NULL;
}
