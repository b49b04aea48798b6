/* api/backups.c - copies of everything that is stored, made while the daemon works. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

static void send_backup(const struct api_request *q, struct api_response *r, const struct storage_backup *b)
{
	const bool running = !strcmp(b->state, "running"), done = !strcmp(b->state, "done");
	if (b->status) {
		struct wasd_err err = {0};
		wasd_fail(&err, b->status == WASD_ENOTFOUND ? WASD_ECORRUPT : b->status, "the backup to %.200s failed: %s",
		          b->path, b->message);
		api_send_error(q, r, &err);
		return;
	}
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "path", b->path[0] ? b->path : NULL);
	api_add_str(j, "state", b->state);
	api_add_maybe(j, "files", done, (double)b->files);
	api_add_maybe(j, "bytes", done, (double)b->bytes);
	api_add_maybe(j, "checkpoints", done, (double)b->checkpoints);
	api_add_time(j, "started_at", b->started_at);
	api_add_time(j, "finished_at", b->finished_at);
	api_send_json(r, running ? 202 : !strcmp(q->method, "POST") ? 201 : 200, j);
}

/* Answers with the last backup, or waits for its end. */
static enum api_result answer(struct api_ctx *c, const struct api_request *q, struct api_response *r, int64_t wait)
{
	struct storage_backup b;
	if (!storage_backup_last(c->db, &b))
		snprintf(b.state, sizeof b.state, "none");
	if (!strcmp(b.state, "running") && api_again(q, r, "backup", wait))
		return API_AGAIN;
	send_backup(q, r, &b);
	return API_DONE;
}

static const struct wasd_field backup_fields[] = {{"path", WASD_STR, "null", .min = 2, .max = STORAGE_PATH - 16,
                                                   .null_ok = true},
                                                  {0}};

enum api_result api_backup_start(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	int64_t wait = 0;
	if (!api_query_wait(q, r, &wait))
		return API_DONE;
	if (q->waited)
		return answer(c, q, r, wait);
	cJSON *in = api_body_fields(q, r, backup_fields, NULL, true);
	if (!in)
		return API_DONE;
	const char *path = NULL;
	wasd_json_str(in, "path", &path);
	enum wasd_status st = storage_backup_start(c->db, path, q->actor, NULL, &err);
	cJSON_Delete(in);
	if (!st)
		return answer(c, q, r, wait);
	if (st == WASD_EBUSY)
		api_send_problem(q, r, "conflict", NULL, "%s", err.msg);
	else
		api_send_error(q, r, &err);
	return API_DONE;
}

enum api_result api_backup_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	int64_t wait = 0;
	return api_query_wait(q, r, &wait) ? answer(c, q, r, wait) : API_DONE;
}
