/* api/job_actions.c - what a client asks of a job besides showing and changing it: cancel, pause, resume, hold,
 * release, retry. Each gives 200 when what was asked for holds, 202 when it is on its way, 409 when it is impossible.
 */
#include "internal.h"
#include <string.h>

static const char *const cancel_modes[] = {"graceful", "kill", NULL};
static const struct wasd_field cancel_fields[] = {
	{"mode", WASD_CHOICE, "\"graceful\"", .choices = cancel_modes},
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};

static void send_refused_move(const struct api_request *q, struct api_response *r, const struct storage_job *job,
                              const char *to)
{
	api_send_problem(q, r, "invalid_transition", NULL, "job %s is %s and cannot become %s", job->id, job->state, to);
	api_problem_member(r, "from", job->state);
	api_problem_member(r, "to", to);
}

enum api_result api_jobs_cancel(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_job job, now = {0};
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	struct wasd_err err = {0};
	const char *mode = "", *reason = "";
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, true);
	if (!body || !api_job_find(c, q, r, &job)) {
		cJSON_Delete(body);
		return API_DONE;
	}
	cJSON *in = fields_canon(&fc, "", cancel_fields, body);
	if (!in) {
		api_send_faults(q, r, &faults);
	} else if (!strcmp(job.state, "cancelled")) {
		api_send_job(c, q, r, 200, &job);
	} else if (storage_job_terminal(job.state)) {
		send_refused_move(q, r, &job, "cancelled");
	} else {
		wasd_json_str(in, "mode", &mode);
		wasd_json_str(in, "reason", &reason);
		enum wasd_status st = c->jobs.cancel(c->jobs.self, job.id, !strcmp(mode, "kill"), reason, q->actor, &err);
		struct wasd_err get_err = {0};
		if (storage_job_get(c->db, job.id, &now, &get_err))
			api_send_error(q, r, st ? &err : &get_err);
		else if (st == WASD_ESTATE && strcmp(now.state, "cancelled"))
			send_refused_move(q, r, &now, "cancelled");
		else if (st && st != WASD_ESTATE)
			api_send_error(q, r, &err);
		else
			api_send_job(c, q, r, storage_job_terminal(now.state) ? 200 : 202, &now);
	}
	cJSON_Delete(in);
	cJSON_Delete(body);
	storage_job_done(&now);
	storage_job_done(&job);
	return API_DONE;
}

/* ---- the others ---- */

static const struct wasd_field change_fields[] = {
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};

static enum api_result change(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                              enum api_job_change what, const char *to)
{
	struct storage_job job, now = {0};
	struct wasd_err err = {0};
	const char *reason = "";
	cJSON *in = api_body_fields(q, r, change_fields, NULL, true);
	if (!in || !api_job_find(c, q, r, &job)) {
		cJSON_Delete(in);
		return API_DONE;
	}
	wasd_json_str(in, "reason", &reason);
	struct storage_request by = {.actor = q->actor, .reason = *reason ? reason : NULL};
	enum wasd_status st = c->jobs.change(c->jobs.self, job.id, what, &by, &err);
	struct wasd_err get_err = {0};
	if (storage_job_get(c->db, job.id, &now, &get_err))
		api_send_error(q, r, &get_err);
	else if (st == WASD_ESTATE && err.pointer[0] == '/')
		api_send_problem(q, r, "conflict", err.pointer, "%s: %s", err.pointer, err.msg);
	else if (st == WASD_ESTATE)
		send_refused_move(q, r, &now, to);
	else if (st)
		api_send_error(q, r, &err);
	else
		api_send_job(c, q, r, !strcmp(now.state, "pausing") ? 202 : 200, &now);
	cJSON_Delete(in);
	storage_job_done(&now);
	storage_job_done(&job);
	return API_DONE;
}

enum api_result api_jobs_pause(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return change(c, q, r, API_JOB_PAUSE, "paused");
}

enum api_result api_jobs_hold(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return change(c, q, r, API_JOB_HOLD, "held");
}

enum api_result api_jobs_resume(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return change(c, q, r, API_JOB_RESUME, "queued");
}

enum api_result api_jobs_retry(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return change(c, q, r, API_JOB_RETRY, "queued");
}
