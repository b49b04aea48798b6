/* api/modes.c - the modes of a checkpoint: first those of its own list, made by its run, then those made of it
 * afterwards; making, measuring and deleting them. */
#include "internal.h"
#include "wasd/spec.h"
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

/* Adds the figures of a mode; null for missing ones. Times are for one image and for 64 together. */
static void add_figures(cJSON *j, const cJSON *found)
{
	static const char *const members[] = {"val_acc", "macs", "macs_share", "bytes"};
	double v = 0;
	for (size_t i = 0; i < API_LEN(members); i++) {
		bool known = wasd_json_num(found, members[i], &v);
		api_add_maybe(j, members[i], known, known ? v : 0);
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

static void add_links(cJSON *j, const char *ckpt, const char *mode)
{
	cJSON *links = cJSON_CreateObject();
	char url[240];
	snprintf(url, sizeof url, "/v1/checkpoints/%s/modes/%s", ckpt, mode);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", ckpt);
	api_add_str(links, "checkpoint", url);
	api_add_take(j, "links", links);
}

/* What is known of a mode that was never measured as served: the epoch's accuracy, the run's multiply-adds. */
static cJSON *by_run(const char *mode, const cJSON *info, const cJSON *metrics)
{
	double v;
	char metric[WASD_MODE_LEN + 10];
	cJSON *j = cJSON_CreateObject();
	snprintf(metric, sizeof metric, "val_acc_%s", wasd_mode_measured(mode));
	if (wasd_json_num(metrics, metric, &v))
		api_add_num(j, "val_acc", v);
	if (wasd_json_num(wasd_json_get(info, "macs"), mode, &v))
		api_add_num(j, "macs", v);
	return j;
}

static cJSON *own_json(const struct storage_ckpt *k, const char *mode, const char *kind, const cJSON *found,
                       const cJSON *at)
{
	cJSON *j = item(mode, kind, "ready");
	add_figures(j, found);
	api_add_str(j, "profile", NULL);
	api_add_time(j, "measured_at", cJSON_IsNumber(at) ? (int64_t)at->valuedouble : 0);
	add_links(j, k->id, mode);
	return j;
}

static cJSON *made_json(struct api_ctx *c, const struct storage_profile *p)
{
	cJSON *j = item(p->mode, p->kind, p->state), *dataset = cJSON_CreateObject();
	cJSON *options = api_parse_trusted(p->request), *info = p->info ? api_parse_trusted(p->info) : NULL;
	add_figures(j, info);
	cJSON_Delete(info);
	cJSON_DeleteItemFromObjectCaseSensitive(options, "desire");
	api_add_str(j, "profile", p->id);
	api_add_str(j, "desire", p->desire);
	api_add_take(j, "options", options);
	if (!strcmp(p->state, "searching"))
		api_add_progress(c, j, p);
	api_add_str(dataset, "name", p->dataset);
	api_add_int(dataset, "version", p->dataset_version);
	api_add_take(j, "dataset", dataset);
	api_add_str(j, "message", p->message);
	api_add_time(j, "created_at", p->created_at);
	api_add_time(j, "measured_at", p->info ? p->finished_at : 0);
	api_add_time(j, "finished_at", p->finished_at);
	add_links(j, p->checkpoint, p->mode);
	return j;
}

/* ---- the list ---- */

/* The newest making's measurement of the plain weights, for checkpoints whose modes were not measured together; NULL:
 * there is none, or no memory. */
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

static const char *own_kind(const char *mode)
{
	return !strcmp(mode, WASD_MODE_AOM)  ? "plain" :
	       !wasd_mode_smaller(mode)      ? "draw" :
	       !strcmp(mode, WASD_MODE_SLIM) ? "slim" :
	                                       WASD_FAMILY_WIDTH;
}

/* What is known of the modes of the checkpoint's list. */
struct own {
	const struct storage_ckpt *k;
	cJSON *info, *metrics, *aom; /* aom: of plain_found */
	cJSON *list;
};

static void push_own(const struct own *o, const char *mode)
{
	const cJSON *measured = wasd_json_get(o->info, "measured"), *found = wasd_json_get(measured, mode);
	cJSON *known = by_run(mode, o->info, o->metrics);
	const cJSON *best = found ? found : o->aom && !strcmp(mode, WASD_MODE_AOM) ? o->aom : known;
	api_push(o->list, own_json(o->k, mode, own_kind(mode), best, found ? wasd_json_get(measured, "at") : NULL));
	cJSON_Delete(known);
}

static cJSON *items_json(struct api_ctx *c, const struct storage_ckpt *k, const struct storage_profile_list *l)
{
	struct own o = {k, api_parse_trusted(k->info), api_parse_trusted(k->metrics), plain_found(l), cJSON_CreateArray()};
	const cJSON *one;
	for (int i = 0; wasd_modes[i]; i++)
		if (api_ckpt_has(k, wasd_modes[i]))
			push_own(&o, wasd_modes[i]);
	cJSON_ArrayForEach(one, wasd_json_get(o.info, "macs"))
		if (wasd_mode_smaller(one->string))
			push_own(&o, one->string);
	for (size_t i = 0; i < l->n; i++)
		api_push(o.list, made_json(c, &l->items[i]));
	cJSON_Delete(o.aom);
	cJSON_Delete(o.metrics);
	cJSON_Delete(o.info);
	return o.list;
}

cJSON *api_mode_items(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      const struct storage_ckpt *k)
{
	struct storage_profile_list l;
	struct wasd_err err = {0};
	if (storage_profile_list(c->db, k->id, NULL, &l, &err)) {
		api_send_error(q, r, &err);
		return NULL;
	}
	cJSON *items = items_json(c, k, &l);
	storage_profile_list_done(&l);
	if (!items)
		api_send_no_memory(r);
	return items;
}

static bool settled(const char *state)
{
	return !strcmp(state, "ready") || !strcmp(state, "failed");
}

static bool all_settled(const cJSON *items)
{
	const cJSON *one;
	const char *state = "";
	cJSON_ArrayForEach(one, items)
		if (wasd_json_str(one, "state", &state) && !settled(state))
			return false;
	return true;
}

/* How the measuring of the own modes stands; null: none was asked for since the last one ended. */
static cJSON *measuring_json(struct api_ctx *c, const struct storage_ckpt *k, bool *over)
{
	struct storage_profile p = {0};
	*over = true;
	if (storage_profile_get(c->db, k->id, STORAGE_MEASURING, &p, NULL))
		return cJSON_CreateNull();
	cJSON *j = cJSON_CreateObject();
	*over = settled(p.state);
	api_add_str(j, "state", p.state);
	if (!strcmp(p.state, "searching"))
		api_add_progress(c, j, &p);
	api_add_str(j, "message", p.message);
	storage_profile_done(&p);
	return j;
}

enum api_result api_modes_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	int64_t wait;
	bool over;
	if (!api_query_wait(q, r, &wait) || !api_ckpt_find(c, q, r, &k))
		return API_DONE;
	cJSON *items = api_mode_items(c, q, r, &k), *j = items ? cJSON_CreateObject() : NULL;
	if (!items) {
		storage_ckpt_done(&k);
		return API_DONE;
	}
	bool rest = all_settled(items);
	api_add_take(j, "items", items);
	api_add_str(j, "next_cursor", NULL);
	api_add_take(j, "measuring", measuring_json(c, &k, &over));
	bool again = !(rest && over) && api_again(q, r, k.id, wait);
	if (again)
		cJSON_Delete(j);
	else
		api_send_json(r, 200, j);
	storage_ckpt_done(&k);
	return again ? API_AGAIN : API_DONE;
}

/* ---- asking ---- */

static void send_made(struct api_ctx *c, struct api_response *r, int status, const struct storage_profile *p)
{
	api_send_json(r, status, made_json(c, p));
	api_set_header(r, "Location", "/v1/checkpoints/%s/modes/%s", p->checkpoint, p->mode);
}

/* The base mode must be there. */
static bool base_there(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                       const struct storage_ckpt *k, const cJSON *in)
{
	const char *base;
	if (!wasd_json_str(in, "base", &base))
		return true;
	if (wasd_mode_member(base))
		return api_mode_there(c, q, r, k->id, base, "invalid_field", "/base");
	if (api_ckpt_has(k, base))
		return true;
	api_send_problem(q, r, "invalid_field", "/base", "/base: checkpoint %s has no mode %s: %s", k->id, base,
	                 api_mode_lacking(base));
	return false;
}

static void begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct storage_ckpt *k,
                  const cJSON *in)
{
	struct storage_profile p;
	char mode[WASD_MODE_LEN];
	const char *of = api_mode_asked(c->engine.capabilities(c->engine.self), in, mode);
	if (!base_there(c, q, r, k, in) || !api_mode_begin(c, q, r, k, in, of, mode, &p))
		return;
	send_made(c, r, r->status, &p);
	storage_profile_done(&p);
}

enum api_result api_modes_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults, .caps = c->engine.capabilities(c->engine.self)};
	struct storage_ckpt k;
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (!body || !api_ckpt_find(c, q, r, &k)) {
		cJSON_Delete(body);
		return API_DONE;
	}
	cJSON *in = api_mode_request_canon(&fc, "", body);
	if (!in)
		api_send_faults(q, r, &faults);
	else if (k.corrupt)
		api_send_problem(q, r, "corrupt", NULL, "checkpoint %s fails its checksum", k.id);
	else
		begin(c, q, r, &k, in);
	cJSON_Delete(in);
	cJSON_Delete(body);
	storage_ckpt_done(&k);
	return API_DONE;
}

enum api_result api_modes_measure(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_field fields[] = {*wasd_spec_at("/dataset"), {0}};
	struct storage_ckpt k;
	struct storage_profile p;
	bool over;
	fields[0].required = false;
	cJSON *in = api_body_fields(q, r, fields, c->engine.capabilities(c->engine.self), true);
	if (!in || !api_ckpt_find(c, q, r, &k)) {
		cJSON_Delete(in);
		return API_DONE;
	}
	api_add_str(in, "desire", "measure");
	if (api_mode_begin(c, q, r, &k, in, NULL, STORAGE_MEASURING, &p)) {
		api_send_json(r, r->status, measuring_json(c, &k, &over));
		api_set_header(r, "Location", "/v1/checkpoints/%s/modes", k.id);
		storage_profile_done(&p);
	}
	cJSON_Delete(in);
	storage_ckpt_done(&k);
	return API_DONE;
}

enum api_result api_modes_measure_stop(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	struct storage_profile p;
	struct wasd_err err = {0};
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	enum wasd_status st = storage_profile_get(c->db, k.id, STORAGE_MEASURING, &p, &err);
	if (st == WASD_ENOTFOUND) {
		api_send_problem(q, r, "not_found", NULL, "the modes of checkpoint %s are not being measured", k.id);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		api_mode_delete(c, q, r, &p);
		storage_profile_done(&p);
	}
	storage_ckpt_done(&k);
	return API_DONE;
}

/* ---- one mode ---- */

/* The item of that name; NULL: the answer is in r. */
static cJSON *find(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct storage_ckpt *k)
{
	char mode[128];
	const char *name = "";
	cJSON *items = api_mode_items(c, q, r, k), *one;
	api_param(q, "m", mode);
	cJSON_ArrayForEach(one, items)
		if (wasd_json_str(one, "name", &name) && !strcmp(name, mode))
			break;
	if (items && !one)
		api_send_problem(q, r, "not_found", NULL, "checkpoint %s has no mode %s", k->id, mode);
	if (one)
		cJSON_DetachItemViaPointer(items, one);
	cJSON_Delete(items);
	return one;
}

enum api_result api_modes_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	int64_t wait;
	const char *state = "";
	if (!api_query_wait(q, r, &wait) || !api_ckpt_find(c, q, r, &k))
		return API_DONE;
	cJSON *one = find(c, q, r, &k);
	bool again = wasd_json_str(one, "state", &state) && !settled(state) && api_again(q, r, k.id, wait);
	if (again)
		cJSON_Delete(one);
	else if (one)
		api_send_json(r, 200, one);
	storage_ckpt_done(&k);
	return again ? API_AGAIN : API_DONE;
}

enum api_result api_modes_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	struct storage_profile p;
	struct wasd_err err = {0};
	const char *id;
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	cJSON *one = find(c, q, r, &k);
	if (one && !wasd_json_str(one, "profile", &id)) {
		api_send_problem(q, r, "conflict", NULL, "a mode of the checkpoint's own list goes with the checkpoint");
	} else if (one && storage_profile_get(c->db, k.id, id, &p, &err)) {
		api_send_error(q, r, &err);
	} else if (one) {
		api_mode_delete(c, q, r, &p);
		storage_profile_done(&p);
	}
	cJSON_Delete(one);
	storage_ckpt_done(&k);
	return API_DONE;
}
