/* attempt_profiles.c - the profiles in a job's spec, as they are queued in storage when the training has succeeded. See
 * attempt.c. */
#include "jobs/attempt.h"
#include "api.h"

void wanted_done(struct wanted *w)
{
	for (size_t i = 0; i < w->n; i++)
		wasd_free((char *)(uintptr_t)w->items[i].request);
	wasd_free(w->items);
	*w = (struct wanted){0};
}

bool attempt_wanted(const struct attempt *a, struct wanted *out)
{
	const cJSON *list = wasd_json_get(a->spec, "profiles"), *item;
	int n = cJSON_GetArraySize(list);
	struct wanted w = {.items = n ? wasd_calloc((size_t)n, sizeof *w.items) : NULL};
	bool ok = !n || w.items;
	cJSON_ArrayForEach(item, list) {
		if (!ok)
			break;
		struct storage_wanted *one = &w.items[w.n++];
		*one = (struct storage_wanted){.name = "", .desire = "", .request = api_profile_request(item)};
		wasd_json_str(item, "name", &one->name);
		wasd_json_str(item, "desire", &one->desire);
		ok = one->request != NULL;
	}
	if (ok)
		*out = w;
	else
		wanted_done(&w);
	return ok;
}
