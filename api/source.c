/* api/source.c - the source of a deployment: its canonical form, and the checkpoint that it names. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

static const char *const follows[] = {"best", "latest", NULL};

/* {"job":ID,"follow":"best"|"latest"}, {"checkpoint":ID}, {"model":NAME} with "version" or "alias", or
 * {"blob":SHA256} with the fields missing from its metadata. */
cJSON *api_source_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	static const struct wasd_field by_job[] = {
		{"job", WASD_STR, NULL, 1, 63, .required = true},
		{"follow", WASD_CHOICE, "\"best\"", .choices = follows},
		{0},
	};
	static const struct wasd_field by_checkpoint[] = {{"checkpoint", WASD_STR, NULL, 1, 63, .required = true}, {0}};
	static const struct wasd_field by_model[] = {
		{"model", WASD_NAME, .required = true},
		{"version", WASD_INT, NULL, .min = 1, .max = 1e15},
		{"alias", WASD_NAME, NULL, .required = false},
		{0},
	};
	char shown[80];
	(void)f;
	if (cJSON_IsObject(v) && wasd_json_get(v, "blob"))
		return fields_canon(c, pointer, api_import_fields, v);
	if (cJSON_IsObject(v) && wasd_json_get(v, "model")) {
		if (!wasd_json_get(v, "version") == !wasd_json_get(v, "alias")) {
			api_fault(c->faults, "invalid_field", pointer, "%s: beside model give version or alias, one of the two",
			          pointer);
			return NULL;
		}
		return fields_canon(c, pointer, by_model, v);
	}
	if (cJSON_IsObject(v) && wasd_json_get(v, "checkpoint"))
		return fields_canon(c, pointer, by_checkpoint, v);
	if (cJSON_IsObject(v))
		return fields_canon(c, pointer, by_job, v);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be {\"job\",\"follow\"}, {\"checkpoint\"}, {\"model\",\"alias\"} or {\"blob\"}, not %s", pointer,
	          shown);
	return NULL;
}

/* {"model","version"} or {"model","alias"}. False: the answer is in r. */
static bool find_version(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *source,
                         const char *at, struct storage_ckpt *out)
{
	const char *model = "", *alias = NULL;
	int64_t version = 0;
	struct storage_version v = {0};
	struct wasd_err err = {0};
	enum wasd_status st = WASD_OK;
	wasd_json_str(source, "model", &model);
	char pointer[80];
	snprintf(pointer, sizeof pointer, "%s/%s", at, wasd_json_str(source, "alias", &alias) ? "alias" : "version");
	if (alias)
		st = storage_alias_get(c->db, model, alias, &version, &err);
	else
		wasd_json_i64(source, "version", &version);
	if (!st)
		st = storage_version_get(c->db, model, version, &v, &err);
	if (!st)
		st = storage_ckpt_get(c->db, v.checkpoint, out, &err);
	storage_version_done(&v);
	if (st == WASD_ENOTFOUND && alias)
		api_send_problem(q, r, "invalid_field", pointer, "%s: no model %s has an alias %s", pointer, model, alias);
	else if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "invalid_field", pointer, "%s: no model %s has a version %lld", pointer, model,
		                 (long long)version);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

bool api_source_find_at(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *source,
                        const char *at, const char *mode, struct storage_ckpt *out)
{
	const char *job = NULL, *follow = NULL, *id = NULL;
	struct storage_job row;
	struct wasd_err err = {0};
	enum wasd_status st;
	char imported[32], pointer[80];
	if (wasd_json_get(source, "blob")) {
		struct api_import in = api_import_read(source, at);
		in.to_serve = true;
		if (!api_import(c, q, r, &in, imported))
			return false;
		st = storage_ckpt_get(c->db, imported, out, &err);
	} else if (wasd_json_get(source, "model")) {
		if (!find_version(c, q, r, source, at, out))
			return false;
		st = WASD_OK;
	} else if (wasd_json_str(source, "checkpoint", &id)) {
		st = storage_ckpt_get(c->db, id, out, &err);
		snprintf(pointer, sizeof pointer, "%s/checkpoint", at);
		if (st == WASD_ENOTFOUND)
			api_send_problem(q, r, "invalid_field", pointer, "%s: there is no checkpoint %s", pointer, id);
	} else {
		wasd_json_str(source, "job", &job);
		wasd_json_str(source, "follow", &follow);
		st = storage_job_get(c->db, job, &row, &err);
		snprintf(pointer, sizeof pointer, "%s/job", at);
		if (st == WASD_ENOTFOUND) {
			api_send_problem(q, r, "invalid_field", pointer, "%s: there is no job %s", pointer, job);
		} else if (!st) {
			st = storage_ckpt_pick(c->db, job, follow, out, &err);
			if (st == WASD_ENOTFOUND)
				api_send_problem(q, r, "no_checkpoint", pointer, "%s: job %s is %s and has no checkpoint yet", pointer,
				                 job, row.state);
			storage_job_done(&row);
		}
	}
	if (st && st != WASD_ENOTFOUND)
		api_send_error(q, r, &err);
	if (st)
		return false;
	if (out->corrupt)
		api_send_problem(q, r, "corrupt", at, "checkpoint %s fails its checksum", out->id);
	else if (wasd_mode_ok(mode) && !wasd_mode_member(mode) && !api_ckpt_has(out, mode))
		api_send_problem(q, r, "unsupported", "/mode", "/mode: checkpoint %s has no %s bundle: %s", out->id, mode,
		                 api_mode_lacking(mode));
	else if (api_mode_there(c, q, r, out->id, mode, "invalid_field", "/mode"))
		return true;
	storage_ckpt_done(out);
	return false;
}

bool api_source_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *source,
                     const char *mode, struct storage_ckpt *out)
{
	return api_source_find_at(c, q, r, source, "/source", mode, out);
}
