/* api/system.c - the daemon itself: audit, system, capabilities, health, metrics. */
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
	cJSON *j = cJSON_CreateObject();
	storage_health(c->db, &h);
	api_add_take(j, "failed", cJSON_CreateBool(h.failed));
	api_add_str(j, "message", h.message[0] ? h.message : NULL);
	api_add_take(j, "disk_low", cJSON_CreateBool(h.disk_low));
	api_add_int(j, "disk_free_bytes", (int64_t)h.disk_free);
	api_add_int(j, "low_water_bytes", (int64_t)h.low_water);
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

static void metric_head(struct wasd_buf *b, const char *name, const char *type, const char *help)
{
	wasd_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void commit_histogram(struct wasd_buf *b, const struct storage_health *h)
{
	static const char *const edges[STORAGE_COMMIT_BUCKETS] = {"0.001", "0.002", "0.005", "0.01",
	                                                          "0.05",  "0.1",   "0.5",   "+Inf"};
	uint64_t sum = 0;
	metric_head(b, "wasd_sqlite_commit_seconds", "histogram", "Time of a durable commit.");
	for (int i = 0; i < STORAGE_COMMIT_BUCKETS; i++) {
		sum += h->commit_hist[i];
		wasd_buf_printf(b, "wasd_sqlite_commit_seconds_bucket{le=\"%s\"} %llu\n", edges[i], (unsigned long long)sum);
	}
	wasd_buf_printf(b, "wasd_sqlite_commit_seconds_sum %.6f\nwasd_sqlite_commit_seconds_count %llu\n",
	                (double)h->commit_us / 1e6, (unsigned long long)sum);
}

static void mode_info(struct api_ctx *c, struct wasd_buf *b)
{
	struct storage_deployment_list l;
	if (storage_deployment_list(c->db, NULL, (struct storage_page){.limit = 500}, &l, NULL))
		return;
	metric_head(b, "wasd_mode_info", "gauge", "The mode that a deployment serves by default.");
	for (size_t i = 0; i < l.n; i++)
		wasd_buf_printf(b, "wasd_mode_info{deployment=\"%s\",mode=\"%s\"} 1\n", l.items[i].name, l.items[i].mode);
	storage_deployment_list_done(&l);
}

enum api_result api_metrics_text(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_count counts[STORAGE_JOB_STATES];
	struct storage_health h;
	struct wasd_err err = {0};
	struct wasd_buf *b = &r->body;
	if (storage_job_counts(c->db, counts, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	storage_health(c->db, &h);
	metric_head(b, "wasd_build_info", "gauge", "Version of the daemon.");
	wasd_buf_printf(b, "wasd_build_info{version=\"%s\"} 1\n", WASD_VERSION);
	metric_head(b, "wasd_jobs", "gauge", "Jobs by state.");
	for (int i = 0; i < STORAGE_JOB_STATES; i++)
		wasd_buf_printf(b, "wasd_jobs{state=\"%s\"} %lld\n", counts[i].state, (long long)counts[i].n);
	mode_info(c, b);
	metric_head(b, "wasd_checkpoint_bytes", "gauge", "Size of the checkpoint database.");
	wasd_buf_printf(b, "wasd_checkpoint_bytes %llu\n", (unsigned long long)h.ckpt_bytes);
	metric_head(b, "wasd_disk_free_bytes", "gauge", "Free space of the data directory.");
	wasd_buf_printf(b, "wasd_disk_free_bytes %llu\n", (unsigned long long)h.disk_free);
	commit_histogram(b, &h);
	r->status = 200;
	r->content_type = "text/plain; version=0.0.4";
	r->etag_auto = false;
	if (b->failed)
		api_send_no_memory(r);
	return API_DONE;
}
