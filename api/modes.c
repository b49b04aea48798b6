/* api/modes.c - the modes of a checkpoint: first those made by its run, then those added afterwards. */
#include "internal.h"
#include "wasd/spec.h"
#include <stdio.h>
#include <string.h>

/* Adds a search's measurements of a mode; null for missing ones. Times are for one image and for 64 together. */
static void add_figures(cJSON *j, const cJSON *found, const char *const *members)
{
	double v;
	for (; *members; members++) {
		bool known = wasd_json_num(found, *members, &v);
		api_add_maybe(j, *members, known, known ? v : 0);
	}
	bool one = wasd_json_num(found, "latency_us", &v);
	api_add_maybe(j, "us_1", one, one ? v : 0);
	bool many = wasd_json_num(found, "images_per_s_64", &v) && v > 0;
	api_add_maybe(j, "us_64", many, many ? 64e6 / v : 0);
}

static cJSON *item(const char *name, const char *kind, const char *state)
{
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "name", name);
	api_add_str(j, "kind", kind);
	api_add_str(j, "state", state);
	return j;
}

static const char *own_kind(const char *mode)
{
	return !strcmp(mode, WASD_MODE_AOM)  ? "plain" :
	       !wasd_mode_smaller(mode)      ? "draw" :
	       !strcmp(mode, WASD_MODE_SLIM) ? "slim" :
	                                       WASD_FAMILY_WIDTH;
}

/* One of the run's own modes: accuracy of the epoch, multiply-adds of the run. `found`: from a search, or NULL. */
static cJSON *own_json(const char *mode, const cJSON *info, const cJSON *metrics, const cJSON *found)
{
	static const char *const members[] = {"bytes", NULL};
	double acc = 0, macs = 0;
	char metric[WASD_MODE_LEN + 10];
	snprintf(metric, sizeof metric, "val_acc_%s", wasd_mode_measured(mode));
	cJSON *j = item(mode, own_kind(mode), "ready");
	bool judged = wasd_json_num(metrics, metric, &acc) || wasd_json_num(found, "val_acc", &acc),
		 counted = wasd_json_num(wasd_json_get(info, "macs"), mode, &macs) || wasd_json_num(found, "macs", &macs);
	api_add_maybe(j, "val_acc", judged, acc);
	api_add_maybe(j, "macs", counted, macs);
	add_figures(j, found, members);
	api_add_str(j, "profile", NULL);
	return j;
}

static cJSON *made_json(const struct storage_profile *p, const cJSON *info)
{
	static const char *const members[] = {"val_acc", "macs", "bytes", NULL};
	cJSON *j = item(p->mode, p->kind, p->state);
	add_figures(j, info, members);
	api_add_str(j, "profile", p->id);
	return j;
}

/* The newest search's measurement of the plain weights; NULL: there is none, or no memory. */
static cJSON *plain_found(const struct storage_profile_list *l)
{
	cJSON *aom = NULL;
	int64_t newest = 0;
	for (size_t i = 0; i < l->n; i++) {
		const struct storage_profile *p = &l->items[i];
		if (!p->info || p->finished_at <= newest)
			continue;
		cJSON *info = api_parse_trusted(p->info);
		newest = p->finished_at;
		cJSON_Delete(aom);
		aom = cJSON_DetachItemFromObjectCaseSensitive(info, "aom");
		cJSON_Delete(info);
	}
	return aom;
}

static cJSON *items_json(const struct storage_ckpt *k, const struct storage_profile_list *l)
{
	cJSON *list = cJSON_CreateArray(), *aom = plain_found(l);
	cJSON *info = api_parse_trusted(k->info), *metrics = api_parse_trusted(k->metrics);
	for (int i = 0; wasd_modes[i]; i++) {
		bool plain = !strcmp(wasd_modes[i], WASD_MODE_AOM);
		if (api_ckpt_has(k, wasd_modes[i]))
			api_push(list, own_json(wasd_modes[i], info, metrics, plain ? aom : NULL));
	}
	const cJSON *own;
	cJSON_ArrayForEach(own, wasd_json_get(info, "macs"))
		if (wasd_mode_smaller(own->string))
			api_push(list, own_json(own->string, info, metrics, NULL));
	for (size_t i = 0; i < l->n; i++) {
		cJSON *found = l->items[i].info ? api_parse_trusted(l->items[i].info) : NULL;
		api_push(list, made_json(&l->items[i], found));
		cJSON_Delete(found);
	}
	cJSON_Delete(aom);
	cJSON_Delete(metrics);
	cJSON_Delete(info);
	return list;
}

enum api_result api_modes_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	struct storage_profile_list l;
	struct wasd_err err = {0};
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	if (storage_profile_list(c->db, k.id, NULL, &l, &err)) {
		api_send_error(q, r, &err);
	} else {
		api_send_list(q, r, items_json(&k, &l), NULL);
		storage_profile_list_done(&l);
	}
	storage_ckpt_done(&k);
	return API_DONE;
}
