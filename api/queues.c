/* api/queues.c - the queues that jobs wait in. */
#include "internal.h"
#include <string.h>

bool api_queue_there(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name)
{
	struct storage_queue row = {0};
	struct wasd_err err = {0};
	enum wasd_status st = storage_queue_get(c->db, name, &row, &err);
	storage_queue_done(&row);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "invalid_field", "/queue",
		                 "/queue: there is no queue %s; GET /v1/queues lists them, PATCH /v1/queues/%s makes it", name,
		                 name);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

static cJSON *queue_json(const struct storage_queue *q)
{
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "name", q->name);
	api_add_int(j, "max_running", q->max_running);
	api_add_num(j, "weight", q->weight);
	api_add_take(j, "paused", cJSON_CreateBool(q->paused != 0));
	api_add_int(j, "running", q->running);
	api_add_int(j, "waiting", q->waiting);
	api_add_time(j, "created_at", q->created_at);
	api_add_time(j, "updated_at", q->updated_at);
	return j;
}

enum api_result api_queues_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_queue_list l = {0};
	struct wasd_err err = {0};
	if (storage_queue_list(c->db, &l, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++)
		api_push(items, queue_json(&l.items[i]));
	storage_queue_list_done(&l);
	api_send_list(q, r, items, NULL);
	return API_DONE;
}

enum api_result api_queues_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char name[128];
	struct wasd_err err = {0};
	api_param(q, "q", name);
	enum wasd_status st = storage_queue_delete(c->db, name, q->actor, &err);
	if (st == WASD_ESTATE)
		api_send_problem(q, r, strcmp(name, "default") ? "referenced" : "conflict", NULL, "%s", err.msg);
	else if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no queue %s", name);
	else if (st)
		api_send_error(q, r, &err);
	else
		r->status = 204;
	return API_DONE;
}

static const struct wasd_field patch_fields[] = {
	{"max_running", WASD_INT, .min = 0, .max = 100000},
	{"weight", WASD_NUM, .min = 0, .max = 1e6, .above_min = true},
	{"paused", WASD_BOOL, .min = 0},
	{0},
};

enum api_result api_queues_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char name[128];
	struct storage_queue now = {0};
	struct storage_queue_in in = {.name = name, .actor = q->actor, .max_running = -1, .paused = -1};
	struct wasd_err err = {0};
	bool created = false;
	api_param(q, "q", name);
	if (!wasd_name_ok(name)) {
		api_send_problem(q, r, "bad_parameter", "q", "\"%.80s\" is not a name: lower-case letters, digits, . _ and -",
		                 name);
		return API_DONE;
	}
	cJSON *body = api_body_fields(q, r, patch_fields, NULL, false);
	if (!body)
		return API_DONE;
	const cJSON *paused = wasd_json_get(body, "paused");
	wasd_json_i64(body, "max_running", &in.max_running);
	wasd_json_num(body, "weight", &in.weight);
	if (paused)
		in.paused = cJSON_IsTrue(paused);
	cJSON_Delete(body);
	if (storage_queue_put(c->db, &in, &now, &created, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	c->jobs.queued(c->jobs.self, NULL);
	api_send_json(r, created ? 201 : 200, queue_json(&now));
	storage_queue_done(&now);
	return API_DONE;
}
