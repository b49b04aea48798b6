/* api/space.c - what takes the room of the data directory, and giving back what nothing uses. */
#include "internal.h"

static void add_part(cJSON *j, const char *name, const char *unit, struct storage_part p)
{
	cJSON *o = api_add_take(j, name, cJSON_CreateObject());
	api_add_int(o, unit, p.n);
	api_add_int(o, "bytes", p.bytes);
}

static void add_database(cJSON *j, const char *name, int64_t bytes, int64_t wal, int64_t unused)
{
	cJSON *o = api_add_take(j, name, cJSON_CreateObject());
	api_add_int(o, "bytes", bytes);
	api_add_int(o, "log_bytes", wal);
	api_add_int(o, "free_bytes", unused);
}

static cJSON *usage_json(const struct storage_usage *u)
{
	cJSON *j = cJSON_CreateObject(), *kinds = api_add_take(j, "kinds", cJSON_CreateObject());
	add_part(kinds, "datasets", "versions", u->datasets);
	add_part(kinds, "checkpoints", "checkpoints", u->checkpoints);
	add_part(kinds, "modes", "modes", u->modes);
	add_part(kinds, "logs", "lines", u->logs);
	add_part(kinds, "events", "events", u->events);
	add_part(kinds, "blobs", "files", u->blobs);
	add_part(kinds, "exports", "files", u->exports);
	add_part(kinds, "staging", "files", u->staging);
	add_part(kinds, "backups", "files", u->backups);
	cJSON *files = api_add_take(j, "databases", cJSON_CreateObject());
	add_database(files, "wasd.db", u->db_bytes, u->db_wal, u->db_free);
	add_database(files, "ckpt.db", u->ckpt_bytes, u->ckpt_wal, u->ckpt_free);
	cJSON *disk = api_add_take(j, "disk", cJSON_CreateObject());
	api_add_int(disk, "used_bytes",
	            u->datasets.bytes + u->blobs.bytes + u->exports.bytes + u->staging.bytes + u->backups.bytes +
	                u->db_bytes + u->db_wal + u->ckpt_bytes + u->ckpt_wal + u->ballast);
	api_add_int(disk, "ballast_bytes", u->ballast);
	api_add_int(disk, "free_bytes", u->disk_free);
	api_add_int(disk, "low_water_bytes", u->low_water);
	cJSON *quota = api_add_take(j, "quota", u->quota ? cJSON_CreateObject() : cJSON_CreateNull());
	if (u->quota) {
		api_add_int(quota, "bytes", u->quota);
		api_add_int(quota, "used_bytes", u->quota_used);
	}
	cJSON *jobs = api_add_take(j, "jobs", cJSON_CreateArray());
	for (size_t i = 0; i < u->n_jobs; i++) {
		cJSON *o = cJSON_CreateObject();
		api_add_str(o, "id", u->jobs[i].id);
		api_add_str(o, "name", u->jobs[i].name);
		api_add_int(o, "checkpoints", u->jobs[i].checkpoints.n);
		api_add_int(o, "bytes", u->jobs[i].checkpoints.bytes + u->jobs[i].modes);
		api_push(jobs, o);
	}
	return j;
}

enum api_result api_storage_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_usage u;
	struct wasd_err err = {0};
	int64_t top = 10;
	if (!api_query_int(q, r, "top", 0, 500, &top))
		return API_DONE;
	if (storage_usage(c->db, top, &u, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	api_send_json(r, 200, usage_json(&u));
	storage_usage_done(&u);
	return API_DONE;
}

enum api_result api_storage_gc(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_gc g;
	struct wasd_err err = {0};
	bool dry = false;
	int64_t age = 3600;
	if (!api_query_bool(q, r, "dry_run", &dry) || !api_query_int(q, r, "blob_age_s", 0, 86400, &age))
		return API_DONE;
	if (storage_gc(c->db, dry, age, q->actor, &g, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	cJSON *j = cJSON_CreateObject();
	api_add_take(j, "dry_run", cJSON_CreateBool(dry));
	add_part(j, "blobs", "files", g.blobs);
	add_part(j, "datasets", "files", g.datasets);
	add_part(j, "checkpoints", "payloads", g.payloads);
	cJSON *pages = api_add_take(j, "free_pages", cJSON_CreateObject());
	api_add_int(pages, "wasd.db", g.db_pages);
	api_add_int(pages, "ckpt.db", g.ckpt_pages);
	api_add_int(j, "databases_bytes", g.databases);
	api_add_int(j, "bytes", g.bytes);
	api_add_int(j, "disk_free_before", g.disk_free_before);
	api_add_int(j, "disk_free_after", g.disk_free_after);
	api_send_json(r, 200, j);
	return API_DONE;
}
