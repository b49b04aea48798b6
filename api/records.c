/* api/records.c - what merges and archives share: begin, list, show, delete. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* Takes the daemon's record, whose times are numbers. */
static cJSON *show(const struct record_kind *k, cJSON *record)
{
	static const char *const times[] = {"created_at", "finished_at"};
	cJSON *links = cJSON_CreateObject();
	const char *id = "";
	char url[120];
	for (size_t i = 0; i < API_LEN(times); i++) {
		double at = 0;
		wasd_json_num(record, times[i], &at);
		cJSON_DeleteItemFromObjectCaseSensitive(record, times[i]);
		api_add_time(record, times[i], (int64_t)at);
	}
	wasd_json_str(record, "id", &id);
	snprintf(url, sizeof url, "%s/%s", k->path, id);
	api_add_str(links, "self", url);
	k->link(record, links);
	for (const char *const *name = k->later; *name; name++)
		if (!wasd_json_get(record, *name))
			api_add_str(record, *name, NULL);
	api_add_take(record, "links", links);
	return record;
}

/* False: the answer is in r. */
static bool audit(const struct record_kind *k, struct api_ctx *c, const struct api_request *q, struct api_response *r,
                  const char *verb, const char *id)
{
	char action[40], object[140];
	struct wasd_err err = {0};
	snprintf(action, sizeof action, "%s.%s", k->name, verb);
	snprintf(object, sizeof object, "%s/%s", k->name, id);
	enum wasd_status st = storage_audit_add(c->db, q->actor, action, object, NULL, NULL, NULL, NULL, &err);
	if (st)
		api_send_error(q, r, &err);
	return !st;
}

/* NULL: the answer is in r. */
static cJSON *find(const struct api_records *w, const struct api_request *q, struct api_response *r, const char *id)
{
	struct wasd_err err = {0};
	cJSON *record = NULL;
	if (w->get(w->self, id, &record, &err))
		api_send_error(q, r, &err);
	return record;
}

cJSON *api_record_make(const struct record_kind *k, const struct api_request *q, const cJSON *in, cJSON *ids)
{
	cJSON *record = cJSON_CreateObject(), *request = cJSON_CreateObject();
	api_add_take(record, "checkpoints", ids);
	for (const struct wasd_field *f = k->fields; f->name; f++)
		if (wasd_json_get(in, f->name))
			api_add_take(request, f->name, cJSON_Duplicate(wasd_json_get(in, f->name), 1));
	api_add_take(record, "request", request);
	api_add_str(record, "created_by", q->actor);
	return record;
}

void api_record_begin(const struct record_kind *k, const struct api_records *w, struct api_ctx *c,
                      const struct api_request *q, struct api_response *r, cJSON *record)
{
	struct wasd_err err = {0};
	char id[40];
	if (api_poisoned(record)) {
		cJSON_Delete(record);
		api_send_no_memory(r);
	} else if (w->begin(w->self, record, id, &err)) {
		api_send_error(q, r, &err);
	} else if (!audit(k, c, q, r, "create", id)) {
		w->forget(w->self, id, NULL); /* nobody was told its id */
	} else {
		cJSON *now = find(w, q, r, id);
		if (now)
			api_send_json(r, 202, show(k, now));
		api_set_header(r, "Location", "%s/%s", k->path, id);
	}
}

enum api_result api_record_list(const struct record_kind *k, const struct api_records *w, const struct api_request *q,
                                struct api_response *r)
{
	cJSON *items = w->list(w->self), *one;
	cJSON_ArrayForEach(one, items)
		show(k, one);
	if (items)
		api_send_list(q, r, items, NULL);
	else
		api_send_no_memory(r);
	return API_DONE;
}

enum api_result api_record_get(const struct record_kind *k, const struct api_records *w, const struct api_request *q,
                               struct api_response *r)
{
	char id[128];
	const char *state = "";
	int64_t wait = 0;
	if (!api_query_wait(q, r, &wait))
		return API_DONE;
	api_param(q, "id", id);
	cJSON *record = find(w, q, r, id);
	if (!record)
		return API_DONE;
	wasd_json_str(record, "state", &state);
	bool settled = !strcmp(state, "ready") || !strcmp(state, "failed"), again = !settled && api_again(q, r, id, wait);
	if (again)
		cJSON_Delete(record);
	else
		api_send_json(r, 200, show(k, record));
	return again ? API_AGAIN : API_DONE;
}

enum api_result api_record_delete(const struct record_kind *k, const struct api_records *w, struct api_ctx *c,
                                  const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	char id[128];
	api_param(q, "id", id);
	cJSON *record = find(w, q, r, id);
	if (record && audit(k, c, q, r, "delete", id)) { /* else it stays, to be deleted again */
		r->status = 204;
		if (w->forget(w->self, id, &err))
			api_send_error(q, r, &err);
	}
	cJSON_Delete(record);
	return API_DONE;
}
