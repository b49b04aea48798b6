/* attempt_profiles.c - the profiles and modes in a job's spec, as they are queued in storage when the training has
 * succeeded. See attempt.c. */
#include "jobs/attempt.h"
#include "api.h"

void wanted_done(struct wanted *w)
{
	for (size_t i = 0; i < w->n; i++)
		wasd_free((char *)(uintptr_t)w->items[i].request);
	wasd_free(w->items);
	wasd_free(w->modes);
	*w = (struct wanted){0};
}

/* False: no memory. */
static bool add(struct wanted *w, const cJSON *item)
{
	struct storage_wanted *one = &w->items[w->n++];
	*one = (struct storage_wanted){.name = "", .desire = "", .request = api_profile_request(item)};
	wasd_json_str(item, "name", &one->name);
	wasd_json_str(item, "desire", &one->desire);
	return one->request != NULL;
}

bool attempt_wanted(const struct attempt *a, struct wanted *out)
{
	const cJSON *profiles = wasd_json_get(a->spec, "profiles"), *modes = wasd_json_get(a->spec, "modes"), *item;
	size_t n = (size_t)cJSON_GetArraySize(profiles) + (size_t)cJSON_GetArraySize(modes);
	struct wanted w = {.items = wasd_calloc(n + 1, sizeof *w.items), .modes = wasd_calloc(n + 1, sizeof *w.modes)};
	bool ok = w.items && w.modes;
	cJSON_ArrayForEach(item, profiles)
		ok = ok && add(&w, item);
	cJSON_ArrayForEach(item, modes) {
		if (!(ok = ok && add(&w, item)))
			break;
		struct storage_wanted *one = &w.items[w.n - 1];
		one->kind = api_mode_asked(a->jobs->cfg.capabilities, item, w.modes[w.n - 1]);
		one->name = w.modes[w.n - 1];
	}
	if (ok)
		*out = w;
	else
		wanted_done(&w);
	return ok;
}
