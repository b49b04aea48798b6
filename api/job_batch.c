/* api/job_batch.c - one action on many jobs. Each job is changed in its own transaction: the answer says of each how it
 * went, and a job that refuses stops nothing. */
#include "internal.h"
#include <string.h>

enum { BATCH_MAX = 1000 };

static const struct batch_action {
	const char *name;
	enum { CHANGE, CANCEL, DELETE } kind;
	enum api_job_change change;
} actions[] = {
	{"cancel", CANCEL, 0},
	{"pause", CHANGE, API_JOB_PAUSE},
	{"hold", CHANGE, API_JOB_HOLD},
	{"resume", CHANGE, API_JOB_RESUME},
	{"release", CHANGE, API_JOB_RESUME},
	{"retry", CHANGE, API_JOB_RETRY},
	{"delete", DELETE, 0},
};

static const char *action_at(int i)
{
	return i < (int)API_LEN(actions) ? actions[i].name : NULL;
}

static const char *const modes[] = {"graceful", "kill", NULL};
static const struct wasd_field filter_fields[] = {
	{"state", WASD_STR, .min = 1, .max = 200},  {"queue", WASD_STR, .min = 1, .max = 63},
	{"dataset", WASD_STR, .min = 1, .max = 63}, {"name", WASD_STR, .min = 1, .max = 199},
	{"q", WASD_STR, .min = 1, .max = 199},      {0},
};
static const struct wasd_field batch_fields[] = {
	{"action", WASD_CHOICE, .required = true, .choice_at = action_at},
	{"ids", WASD_LIST, .min = 0, .max = BATCH_MAX, .items = "ids of jobs"},
	{"filter", WASD_OBJECT, .sub = filter_fields},
	{"mode", WASD_CHOICE, "\"graceful\"", .choices = modes},
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};

/* The ids of the jobs that the filter finds, oldest first. NULL: the answer is in r. */
static cJSON *find(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *filter)
{
	struct storage_job_filter f = {0};
	struct storage_page page = {.limit = 500, .oldest_first = true};
	struct wasd_err err = {0};
	cJSON *ids = cJSON_CreateArray();
	char *cursor = NULL;
	wasd_json_str(filter, "state", &f.states);
	wasd_json_str(filter, "queue", &f.queue);
	wasd_json_str(filter, "dataset", &f.dataset);
	wasd_json_str(filter, "name", &f.name);
	wasd_json_str(filter, "q", &f.contains);
	enum wasd_status st = WASD_OK;
	do {
		struct storage_job_list l = {0};
		page.cursor = cursor;
		st = storage_job_list(c->db, &f, page, &l, &err);
		wasd_free(cursor);
		cursor = !st && l.next_cursor ? wasd_strdup(l.next_cursor) : NULL;
		for (size_t i = 0; !st && i < l.n; i++)
			api_push(ids, cJSON_CreateString(l.items[i].id));
		if (!st)
			storage_job_list_done(&l);
	} while (!st && cursor && cJSON_GetArraySize(ids) <= BATCH_MAX);
	wasd_free(cursor);
	bool many = !st && cJSON_GetArraySize(ids) > BATCH_MAX;
	if (st)
		api_send_error(q, r, &err);
	else if (many)
		api_send_problem(q, r, "invalid_field", "/filter",
		                 "/filter: it finds more than %d jobs; narrow it, or send the ids in parts", BATCH_MAX);
	if (!st && !many)
		return ids;
	cJSON_Delete(ids);
	return NULL;
}

static enum wasd_status act(struct api_ctx *c, const struct api_request *q, const char *id,
                            const struct batch_action *a, bool kill, const struct storage_request *by,
                            struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	struct storage_job job = {0};
	switch (a->kind) {
	case CHANGE:
		return c->jobs.change(c->jobs.self, id, a->change, by, err);
	case DELETE:
		return storage_job_delete(c->db, id, q->actor, err);
	case CANCEL:
		if ((st = storage_job_get(c->db, id, &job, err)))
			return st;
		if (strcmp(job.state, "cancelled"))
			st = c->jobs.cancel(c->jobs.self, id, kill, by->reason ? by->reason : "", by->actor, err);
		storage_job_done(&job);
	}
	return st;
}

/* {"id","state","status","code","detail"}: the status that the request for this job alone would have. */
static cJSON *result(struct api_ctx *c, const char *id, const struct batch_action *a, enum wasd_status st,
                     const struct wasd_err *err)
{
	struct storage_job now = {0};
	bool there = !storage_job_get(c->db, id, &now, NULL);
	bool under_way = there && (!strcmp(now.state, "pausing") || !strcmp(now.state, "cancelling"));
	const char *code = !st                                      ? NULL :
	                   st == WASD_ENOTFOUND                     ? "not_found" :
	                   st != WASD_ESTATE                        ? "internal" :
	                   a->kind != DELETE                        ? "invalid_transition" :
	                   there && storage_job_terminal(now.state) ? "referenced" :
	                                                              "job_active";
	const struct api_error_row *row = code ? api_error_find(code) : NULL;
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "id", id);
	api_add_str(j, "state", there ? now.state : NULL);
	api_add_int(j, "status", row ? row->status : st ? 500 : a->kind == DELETE ? 204 : under_way ? 202 : 200);
	api_add_str(j, "code", code);
	api_add_str(j, "detail", st ? err->msg : NULL);
	storage_job_done(&now);
	return j;
}

enum api_result api_jobs_batch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	const char *name = "", *mode = "", *reason = "";
	const struct batch_action *a = actions;
	cJSON *in = api_body_fields(q, r, batch_fields, NULL, false);
	if (!in)
		return API_DONE;
	const cJSON *filter = wasd_json_get(in, "filter"), *given = wasd_json_get(in, "ids"), *id;
	if (!filter == !given) {
		api_send_problem(q, r, "invalid_field", given ? "/filter" : "/ids", "give either /ids or /filter");
		cJSON_Delete(in);
		return API_DONE;
	}
	wasd_json_str(in, "action", &name);
	wasd_json_str(in, "mode", &mode);
	wasd_json_str(in, "reason", &reason);
	while (strcmp(a->name, name))
		a++;
	struct storage_request by = {.actor = q->actor, .reason = *reason ? reason : NULL};
	cJSON *ids = given ? cJSON_Duplicate(given, 1) : find(c, q, r, filter), *results = cJSON_CreateArray(),
		  *out = cJSON_CreateObject();
	if (ids) {
		cJSON_ArrayForEach(id, ids) {
			struct wasd_err err = {0};
			const char *which = cJSON_IsString(id) ? id->valuestring : "";
			enum wasd_status st = act(c, q, which, a, !strcmp(mode, "kill"), &by, &err);
			api_push(results, result(c, which, a, st, &err));
		}
		api_add_take(out, "results", results);
		api_send_json(r, 200, out);
	} else {
		cJSON_Delete(results);
		cJSON_Delete(out);
		if (!r->status)
			api_send_no_memory(r);
	}
	cJSON_Delete(ids);
	cJSON_Delete(in);
	return API_DONE;
}
