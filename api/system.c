/* api/system.c - the daemon itself: audit, system, capabilities, health. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

enum api_result api_audit_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_page page;
	struct storage_audit_list l;
	struct wasd_err err = {0};
	int64_t since = 0;
	if (!api_query_page(q, r, &page) || !api_query_time(q, r, "since", &since))
		return API_DONE;
	enum wasd_status st = storage_audit_list(c->db, api_query(q, "object"), api_query(q, "actor"), since, page, &l,
	                                         &err);
	if (!api_page_ok(q, r, st, &err))
		return API_DONE;
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		const struct storage_audit *a = &l.items[i];
		cJSON *j = cJSON_CreateObject();
		api_add_str(j, "id", a->id);
		api_add_str(j, "actor", a->actor);
		api_add_str(j, "action", a->action);
		api_add_str(j, "object", a->object);
		api_add_raw(j, "before", a->before);
		api_add_raw(j, "after", a->after);
		api_add_str(j, "reason", a->reason);
		api_add_time(j, "at", a->at);
		api_push(items, j);
	}
	api_send_list(q, r, items, l.next_cursor);
	storage_audit_list_done(&l);
	return API_DONE;
}

static cJSON *storage_json(struct api_ctx *c)
{
	struct storage_health h;
	struct storage_disk d;
	cJSON *j = cJSON_CreateObject();
	storage_health(c->db, &h);
	storage_disk(c->db, &d);
	api_add_take(j, "failed", cJSON_CreateBool(h.failed));
	api_add_str(j, "message", h.message[0] ? h.message : NULL);
	api_add_take(j, "disk_low", cJSON_CreateBool(d.low));
	api_add_int(j, "disk_free_bytes", (int64_t)d.free);
	api_add_int(j, "low_water_bytes", (int64_t)d.low_water);
	api_add_int(j, "db_bytes", (int64_t)h.db_bytes);
	api_add_int(j, "wal_bytes", (int64_t)h.wal_bytes);
	api_add_int(j, "checkpoint_bytes", (int64_t)h.ckpt_bytes);
	api_add_int(j, "commits", (int64_t)h.commits);
	api_add_num(j, "commit_mean_us", h.commits ? (double)h.commit_us / (double)h.commits : 0);
	api_add_int(j, "queued_writes", h.queued_writes);
	return j;
}

enum api_result api_system_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	cJSON *j = c->system.report(c->system.self);
	(void)q;
	if (!j)
		j = cJSON_CreateObject();
	if (!wasd_json_get(j, "version"))
		api_add_str(j, "version", WASD_VERSION);
	if (!wasd_json_get(j, "storage"))
		api_add_take(j, "storage", storage_json(c));
	api_send_json(r, 200, j);
	return API_DONE;
}

enum api_result api_capabilities_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	cJSON *all = cJSON_Duplicate(c->engine.capabilities(c->engine.self), 1), *row;
	(void)q;
	cJSON_ArrayForEach(row, wasd_json_get(all, "archs")) {
		const char *name = "";
		char url[160];
		wasd_json_str(row, "name", &name);
		snprintf(url, sizeof url, "/v1/capabilities/archs/%.60s", name);
		api_add_str(api_add_take(row, "links", cJSON_CreateObject()), "layers", url);
	}
	api_send_json(r, 200, all);
	return API_DONE;
}

enum api_result api_healthz(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	bool failed = storage_failed(c->db);
	cJSON *j = cJSON_CreateObject();
	(void)q;
	api_add_str(j, "status", failed ? "failed" : "ok");
	api_add_str(j, "version", WASD_VERSION);
	if (failed)
		api_add_str(j, "detail", "a write to the disk has failed; the daemon must be started again");
	api_send_json(r, failed ? 503 : 200, j);
	r->etag_auto = false;
	return API_DONE;
}
