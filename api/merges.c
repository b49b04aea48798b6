/* api/merges.c - merges of checkpoints: begin, show, delete. The daemon runs them (wasd/merge.h). */
#include "internal.h"
#include "wasd/merge.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

/* Takes the daemon's record, whose times are numbers. */
static cJSON *merge_json(cJSON *record)
{
	static const char *const times[] = {"created_at", "finished_at"}, *const later[] = {"checkpoint", "message"};
	cJSON *links = cJSON_CreateObject();
	const char *id = "", *checkpoint = NULL;
	char url[120];
	for (size_t i = 0; i < API_LEN(times); i++) {
		double at = 0;
		wasd_json_num(record, times[i], &at);
		cJSON_DeleteItemFromObjectCaseSensitive(record, times[i]);
		api_add_time(record, times[i], (int64_t)at);
	}
	wasd_json_str(record, "id", &id);
	wasd_json_str(record, "checkpoint", &checkpoint);
	snprintf(url, sizeof url, "/v1/merges/%s", id);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", checkpoint ? checkpoint : "");
	if (checkpoint)
		api_add_str(links, "checkpoint", url);
	for (size_t i = 0; i < API_LEN(later); i++)
		if (!wasd_json_get(record, later[i]))
			api_add_str(record, later[i], NULL);
	api_add_take(record, "links", links);
	return record;
}

static void send_merge(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                       const char *id)
{
	struct wasd_err err = {0};
	cJSON *record = NULL;
	if (c->merges.get(c->merges.self, id, &record, &err))
		api_send_error(q, r, &err);
	else
		api_send_json(r, status, merge_json(record));
}

/* ---- asking ---- */

/* The members of the request, and of the merge itself. */
static cJSON *read_request(const struct api_request *q, struct api_response *r)
{
	struct wasd_field rows[16] = {
		{"checkpoints", WASD_LIST, NULL, 2, WASD_MERGE_MAX, .required = true, .items = "checkpoints"},
		*wasd_spec_at("/dataset"),
	};
	size_t n = 2;
	rows[1].required = false;
	for (const struct wasd_field *f = wasd_merge_fields; f->name; f++) {
		assert(n + 1 < API_LEN(rows));
		rows[n++] = *f;
	}
	return api_body_fields(q, r, rows, NULL, false);
}

/* False: the answer is in r. */
static bool find_checkpoint(struct api_ctx *c, const struct api_request *q, struct api_response *r, int i,
                            const cJSON *id, struct storage_ckpt *out)
{
	char at[40];
	snprintf(at, sizeof at, "/checkpoints/%d", i);
	if (cJSON_IsString(id))
		return api_ckpt_named(c, q, r, at, id->valuestring, out);
	api_send_problem(q, r, "invalid_field", at, "%s must be the id of a checkpoint", at);
	return false;
}

/* All checkpoints exist; *first is theirs that the data set is found by. */
static bool find_checkpoints(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *ids,
                             struct storage_ckpt *first)
{
	struct storage_ckpt k = {0};
	const cJSON *id;
	int i = 0;
	cJSON_ArrayForEach(id, ids) {
		bool ok = find_checkpoint(c, q, r, i, id, i ? &k : first);
		if (ok && i)
			storage_ckpt_done(&k);
		if (!ok && i)
			storage_ckpt_done(first);
		if (!ok)
			return false;
		i++;
	}
	return true;
}

/* Adds the data set as {"name","version"}. */
static bool add_dataset(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                        const struct storage_ckpt *k, const cJSON *in, cJSON *record)
{
	struct storage_dataset d;
	if (!api_dataset_of(c, q, r, k, in, &d))
		return false;
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "name", d.name);
	api_add_int(j, "version", d.version);
	api_add_take(record, "dataset", j);
	storage_dataset_done(&d);
	return true;
}

/* False: the answer is in r. */
static bool audit(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *action,
                  const char *id)
{
	char object[140];
	struct wasd_err err = {0};
	snprintf(object, sizeof object, "merge/%s", id);
	enum wasd_status st = storage_audit_add(c->db, q->actor, action, object, NULL, NULL, NULL, NULL, &err);
	if (st)
		api_send_error(q, r, &err);
	return !st;
}

/* Takes the record. */
static void begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *record)
{
	struct wasd_err err = {0};
	char id[40];
	if (api_poisoned(record)) {
		cJSON_Delete(record);
		api_send_no_memory(r);
	} else if (c->merges.begin(c->merges.self, record, id, &err)) {
		api_send_error(q, r, &err);
	} else if (audit(c, q, r, "merge.create", id)) {
		send_merge(c, q, r, 202, id);
		api_set_header(r, "Location", "/v1/merges/%s", id);
	}
}

/* What the daemon keeps: the checkpoints, the data set, and the members of wasd_merge_fields as "request". */
static cJSON *make_record(const struct api_request *q, const cJSON *in)
{
	cJSON *record = cJSON_CreateObject(), *request = cJSON_CreateObject();
	api_add_take(record, "checkpoints", cJSON_Duplicate(wasd_json_get(in, "checkpoints"), 1));
	for (const struct wasd_field *f = wasd_merge_fields; f->name; f++)
		if (wasd_json_get(in, f->name))
			api_add_take(request, f->name, cJSON_Duplicate(wasd_json_get(in, f->name), 1));
	api_add_take(record, "request", request);
	api_add_str(record, "created_by", q->actor);
	return record;
}

enum api_result api_merges_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt first = {0};
	struct wasd_merge_how how;
	struct wasd_err err = {0};
	cJSON *in = read_request(q, r);
	const cJSON *ids = wasd_json_get(in, "checkpoints");
	if (!in)
		return API_DONE;
	if (wasd_merge_read(in, cJSON_GetArraySize(ids), &how, &err)) {
		api_send_problem(q, r, "invalid_field", err.pointer, "%s", err.msg);
	} else if (find_checkpoints(c, q, r, ids, &first)) {
		cJSON *record = make_record(q, in);
		if (!wasd_merge_measures(&how) || add_dataset(c, q, r, &first, in, record))
			begin(c, q, r, record);
		else
			cJSON_Delete(record);
		storage_ckpt_done(&first);
	}
	cJSON_Delete(in);
	return API_DONE;
}

/* ---- the rest ---- */

enum api_result api_merges_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	cJSON *items = c->merges.list(c->merges.self), *one;
	cJSON_ArrayForEach(one, items)
		merge_json(one);
	if (items)
		api_send_list(q, r, items, NULL);
	else
		api_send_no_memory(r);
	return API_DONE;
}

enum api_result api_merges_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	char id[128];
	const char *state = "";
	cJSON *record = NULL;
	int64_t wait = 0;
	if (!api_query_wait(q, r, &wait))
		return API_DONE;
	api_param(q, "id", id);
	if (c->merges.get(c->merges.self, id, &record, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	wasd_json_str(record, "state", &state);
	bool settled = !strcmp(state, "ready") || !strcmp(state, "failed"), again = !settled && api_again(q, r, id, wait);
	if (again)
		cJSON_Delete(record);
	else
		api_send_json(r, 200, merge_json(record));
	return again ? API_AGAIN : API_DONE;
}

enum api_result api_merges_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	char id[128];
	api_param(q, "id", id);
	if (c->merges.forget(c->merges.self, id, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	if (audit(c, q, r, "merge.delete", id))
		r->status = 204;
	return API_DONE;
}
