/* api/sweeps.c - sweeps: list, show, pause, resume, cancel, delete. sweep_submit.c makes them. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

/* "active" stands for every state in which a job waits for a worker or has one, "waiting" also for held jobs. */
static const char *const kinds[] = {"waiting", "active", "paused", "completed", "pruned", "failed", "cancelled"};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static size_t kind_of(const struct storage_trial *t)
{
	if (!strcmp(t->state, "completed") && t->reason && !strcmp(t->reason, "pruned"))
		return 4;
	if (!strcmp(t->state, "held"))
		return 0;
	for (size_t i = 0; i < N_KINDS; i++)
		if (!strcmp(t->state, kinds[i]))
			return i;
	return 1;
}

static cJSON *counts_json(const struct storage_trial_list *l)
{
	int64_t n[N_KINDS] = {0};
	cJSON *j = cJSON_CreateObject();
	for (size_t i = 0; i < l->n; i++)
		n[kind_of(&l->items[i])]++;
	api_add_int(j, "trials", (int64_t)l->n);
	for (size_t i = 0; i < N_KINDS; i++)
		api_add_int(j, kinds[i], n[i]);
	return j;
}

static int64_t rung_epoch(const cJSON *rungs, int64_t i)
{
	const cJSON *one = cJSON_GetArrayItem(rungs, (int)i);
	return one ? (int64_t)one->valuedouble : 0;
}

/* The trial's value at each rung that it has reached. */
static cJSON *reached_json(const struct storage_trial_list *l, const struct storage_trial *t, const cJSON *rungs)
{
	cJSON *out = cJSON_CreateArray();
	for (size_t i = 0; i < l->n_results; i++) {
		const struct storage_result *v = &l->results[i];
		if (v->trial != t->number)
			continue;
		cJSON *j = cJSON_CreateObject();
		api_add_int(j, "epoch", rung_epoch(rungs, v->rung));
		api_add_maybe(j, "value", v->has_value, v->value);
		api_push(out, j);
	}
	return out;
}

static cJSON *trial_json(const struct storage_trial_list *l, size_t i, const cJSON *rungs)
{
	const struct storage_trial *t = &l->items[i];
	cJSON *j = cJSON_CreateObject();
	api_add_int(j, "rank", (int64_t)i + 1);
	api_add_int(j, "trial", t->number);
	api_add_raw(j, "values", t->point);
	api_add_maybe(j, "value", t->has_value, t->value);
	api_add_int(j, "epoch", t->epoch);
	api_add_int(j, "to_epoch", rung_epoch(rungs, t->rung));
	api_add_take(j, "rungs", reached_json(l, t, rungs));
	api_add_str(j, "job", t->job);
	api_add_str(j, "state", t->state);
	api_add_str(j, "reason", t->reason);
	api_add_str(j, "message", t->message);
	return j;
}

/* The trial that ranks first, if it has a value. */
static cJSON *best_json(const struct storage_trial_list *l)
{
	const struct storage_trial *t = l->items;
	if (!l->n || !t->has_value)
		return cJSON_CreateNull();
	cJSON *j = cJSON_CreateObject();
	api_add_int(j, "trial", t->number);
	api_add_str(j, "job", t->job);
	api_add_num(j, "value", t->value);
	api_add_raw(j, "values", t->point);
	return j;
}

static cJSON *sweep_json(struct api_ctx *c, const struct storage_sweep *w, bool full, struct wasd_err *err)
{
	struct storage_trial_list l = {0};
	char url[120];
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *trials = cJSON_CreateArray(),
		  *rungs = api_parse_trusted(w->rungs);
	if (storage_trial_list(c->db, w, &l, err))
		api_poison(j);
	api_add_str(j, "id", w->id);
	api_add_str(j, "name", w->name);
	api_add_str(j, "state", w->state);
	api_add_str(j, "reason", w->reason);
	api_add_str(j, "message", w->message);
	if (full)
		api_add_raw(j, "template", w->template);
	api_add_raw(j, "space", w->space);
	api_add_raw(j, "search", w->search);
	api_add_take(j, "counts", counts_json(&l));
	api_add_take(j, "best", best_json(&l));
	for (size_t i = 0; i < l.n && full; i++)
		api_push(trials, trial_json(&l, i, rungs));
	if (full)
		api_add_take(j, "trials", trials);
	else
		cJSON_Delete(trials);
	api_add_take(j, "rungs", rungs);
	api_add_str(j, "created_by", w->created_by);
	api_add_time(j, "created_at", w->created_at);
	api_add_time(j, "finished_at", w->finished_at);
	api_add_time(j, "updated_at", w->updated_at);
	snprintf(url, sizeof url, "/v1/sweeps/%s", w->id);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/jobs?sweep=%s", w->id);
	api_add_str(links, "jobs", url);
	api_add_take(j, "links", links);
	storage_trial_list_done(&l);
	return j;
}

void api_send_sweep(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                    const struct storage_sweep *w)
{
	struct wasd_err err = {0};
	char hex[WASD_SHA256_HEX];
	cJSON *j = sweep_json(c, w, true, &err);
	if (err.status) {
		cJSON_Delete(j);
		api_send_error(q, r, &err);
		return;
	}
	api_send_json(r, status, j);
	if (r->status != status)
		return;
	wasd_sha256_of(r->body.data, r->body.len, hex);
	api_set_header(r, "ETag", "\"%.24s\"", hex);
}

static bool find_sweep(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                       struct storage_sweep *out)
{
	char id[128];
	struct wasd_err err = {0};
	api_param(q, "id", id);
	enum wasd_status st = storage_sweep_get(c->db, id, out, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no sweep %s", id);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

/* ---- list and get ---- */

static const char *const sweep_states[] = {"running",   "pausing", "paused",    "cancelling",
                                           "completed", "failed",  "cancelled", NULL};

enum api_result api_sweeps_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_page page;
	struct storage_sweep_list l = {0};
	struct wasd_err err = {0};
	const char *state = NULL;
	if (!api_query_page(q, r, &page) || !api_query_choice(q, r, "state", sweep_states, &state) ||
	    !api_page_ok(q, r, storage_sweep_list(c->db, state, page, &l, &err), &err))
		return API_DONE;
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++)
		api_push(items, sweep_json(c, &l.items[i], false, &err));
	api_send_list(q, r, items, l.next_cursor);
	storage_sweep_list_done(&l);
	return API_DONE;
}

enum api_result api_sweeps_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const ends[] = {"terminal", "change", NULL};
	struct storage_sweep w = {0};
	int64_t wait;
	const char *until = ends[0], *have = api_header(q, "if-none-match");
	if (!api_query_wait(q, r, &wait) || !api_query_choice(q, r, "until", ends, &until) || !find_sweep(c, q, r, &w))
		return API_DONE;
	bool again = !storage_job_terminal(w.state);
	api_send_sweep(c, q, r, 200, &w);
	const char *etag = api_response_header(r, "ETag");
	if (!strcmp(until, "change")) /* any event of the sweep, or a difference from the client's ETag */
		again &= !q->waited && !(have && etag && !api_etag_listed(have, etag, false));
	if (again)
		again = api_again(q, r, w.id, wait);
	storage_sweep_done(&w);
	return again ? API_AGAIN : API_DONE;
}

/* ---- requests ---- */

static const struct wasd_field ask_fields[] = {
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};

static enum api_result ask(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                           enum storage_sweep_ask what, const char *to)
{
	struct storage_sweep w = {0}, now = {0};
	struct wasd_err err = {0};
	const char *reason = "";
	cJSON *in = api_body_fields(q, r, ask_fields, NULL, true);
	if (!in || !find_sweep(c, q, r, &w)) {
		cJSON_Delete(in);
		return API_DONE;
	}
	wasd_json_str(in, "reason", &reason);
	struct storage_request by = {.actor = q->actor, .reason = *reason ? reason : NULL};
	enum wasd_status st = storage_sweep_ask(c->db, w.id, what, &by, &err);
	if (st == WASD_ESTATE) {
		api_send_problem(q, r, "invalid_transition", NULL, "sweep %s is %s and cannot become %s", w.id, err.pointer,
		                 to);
		api_problem_member(r, "from", err.pointer);
		api_problem_member(r, "to", to);
	} else if (st || storage_sweep_get(c->db, w.id, &now, &err)) {
		api_send_error(q, r, &err);
	} else {
		c->jobs.queued(c->jobs.self, NULL);
		api_send_sweep(c, q, r, !strcmp(now.state, "pausing") || !strcmp(now.state, "cancelling") ? 202 : 200, &now);
	}
	cJSON_Delete(in);
	storage_sweep_done(&now);
	storage_sweep_done(&w);
	return API_DONE;
}

enum api_result api_sweeps_pause(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return ask(c, q, r, STORAGE_SWEEP_PAUSE, "paused");
}

enum api_result api_sweeps_resume(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return ask(c, q, r, STORAGE_SWEEP_RESUME, "running");
}

enum api_result api_sweeps_cancel(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return ask(c, q, r, STORAGE_SWEEP_CANCEL, "cancelled");
}

enum api_result api_sweeps_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const choices[] = {"keep", "delete", NULL};
	struct storage_sweep w = {0};
	struct wasd_err err = {0};
	const char *jobs = choices[0];
	if (!api_query_choice(q, r, "jobs", choices, &jobs) || !find_sweep(c, q, r, &w))
		return API_DONE;
	enum wasd_status st = storage_sweep_delete(c->db, w.id, !strcmp(jobs, "delete"), q->actor, &err);
	if (st == WASD_ESTATE)
		api_send_problem(q, r, storage_job_terminal(w.state) ? "referenced" : "conflict", NULL, "%s", err.msg);
	else if (st)
		api_send_error(q, r, &err);
	else
		r->status = 204;
	storage_sweep_done(&w);
	return API_DONE;
}
