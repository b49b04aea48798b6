/* modes/table.c - the table of mode kinds, and the entries of a checkpoint's list. */
#include "modes/mode.h"

#include <string.h>

const struct mode_kind *mode_kind_at(int i)
{
	static const struct mode_kind *const table[] = {&mode_plain, &mode_draw, &mode_slim,
	                                                &mode_width, &mode_int8, &mode_dynamic};
	int n = (int)(sizeof table / sizeof table[0]);
	if (i < n)
		return i >= 0 ? table[i] : NULL;
	for (int k = 0; mode_kind_more && mode_kind_more[k]; k++)
		if (k == i - n)
			return mode_kind_more[k];
	return NULL;
}

const struct mode_kind *mode_kind_find(const char *name)
{
	const struct mode_kind *k;
	for (int i = 0; (k = mode_kind_at(i)); i++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}

/* ---- an entry ---- */

static enum wasd_status bad(const char *what, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_ECORRUPT, "modes", "an entry of the list of modes has no sound \"%s\"", what);
}

enum wasd_status mode_read(const cJSON *entry, struct mode *out, struct wasd_err *err)
{
	struct mode m = {.recipe = wasd_json_get(entry, "recipe")};
	const char *name, *kind;
	if (!wasd_json_str(entry, "name", &name) || !wasd_mode_ok(name))
		return bad("name", err);
	if (!wasd_json_str(entry, "kind", &kind))
		return bad("kind", err);
	if (!(m.kind = mode_kind_find(kind)))
		return wasd_fail_at(err, WASD_ECORRUPT, "modes",
		                    "mode %s is of kind \"%.40s\", which this program does not know", name, kind);
	if (!wasd_json_str(entry, "statistics", &m.statistics) || strlen(m.statistics) > WASD_MODE_LEN)
		return bad("statistics", err);
	if (!wasd_json_bool(entry, "measured", &m.measured))
		return bad("measured", err);
	strcpy(m.name, name); /* wasd_mode_ok has checked the length */
	*out = m;
	return WASD_OK;
}

cJSON *mode_entry(const char *name, const struct mode_kind *kind, cJSON *recipe, const char *statistics, bool measured)
{
	cJSON *j = cJSON_CreateObject();
	bool ok = cJSON_AddStringToObject(j, "name", name) && cJSON_AddStringToObject(j, "kind", kind->name) &&
	          cJSON_AddStringToObject(j, "statistics", statistics) && cJSON_AddBoolToObject(j, "measured", measured);
	if (!recipe)
		recipe = cJSON_CreateNull();
	if (ok && recipe && cJSON_AddItemToObject(j, "recipe", recipe))
		return j;
	cJSON_Delete(recipe);
	cJSON_Delete(j);
	return NULL;
}
