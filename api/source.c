/* api/source.c - the source of a deployment: its canonical form, and the checkpoint that it names. */
#include "internal.h"
#include <string.h>

static const char *const follows[] = {"best", "latest", NULL};

/* {"job":ID,"follow":"best"|"latest"}, {"checkpoint":ID}, or {"blob":SHA256} with the fields missing from its
 * metadata. */
cJSON *api_source_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	static const struct wasd_field by_job[] = {
		{"job", WASD_STR, NULL, 1, 63, .required = true},
		{"follow", WASD_CHOICE, "\"best\"", .choices = follows},
		{0},
	};
	static const struct wasd_field by_checkpoint[] = {{"checkpoint", WASD_STR, NULL, 1, 63, .required = true}, {0}};
	char shown[80];
	(void)f;
	if (cJSON_IsObject(v) && wasd_json_get(v, "blob"))
		return fields_canon(c, pointer, api_import_fields, v);
	if (cJSON_IsObject(v) && wasd_json_get(v, "model")) {
		api_fault(c->faults, "unsupported", "/source/model",
		          "/source/model: a registry of models is not offered; name a job, a checkpoint or a blob");
		return NULL;
	}
	if (cJSON_IsObject(v) && wasd_json_get(v, "checkpoint"))
		return fields_canon(c, pointer, by_checkpoint, v);
	if (cJSON_IsObject(v))
		return fields_canon(c, pointer, by_job, v);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be {\"job\",\"follow\"}, {\"checkpoint\"} or {\"blob\"}, not %s", pointer, shown);
	return NULL;
}

bool api_source_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *source,
                     const char *mode, struct storage_ckpt *out)
{
	const char *job = NULL, *follow = NULL, *id = NULL;
	struct storage_job row;
	struct wasd_err err = {0};
	enum wasd_status st;
	char imported[32];
	if (wasd_json_get(source, "blob")) {
		struct api_import in = api_import_read(source, "/source");
		in.to_serve = true;
		if (!api_import(c, q, r, &in, imported))
			return false;
		st = storage_ckpt_get(c->db, imported, out, &err);
	} else if (wasd_json_str(source, "checkpoint", &id)) {
		st = storage_ckpt_get(c->db, id, out, &err);
		if (st == WASD_ENOTFOUND)
			api_send_problem(q, r, "invalid_field", "/source/checkpoint",
			                 "/source/checkpoint: there is no checkpoint %s", id);
	} else {
		wasd_json_str(source, "job", &job);
		wasd_json_str(source, "follow", &follow);
		st = storage_job_get(c->db, job, &row, &err);
		if (st == WASD_ENOTFOUND) {
			api_send_problem(q, r, "invalid_field", "/source/job", "/source/job: there is no job %s", job);
		} else if (!st) {
			st = storage_ckpt_pick(c->db, job, follow, out, &err);
			if (st == WASD_ENOTFOUND)
				api_send_problem(q, r, "no_checkpoint", "/source/job",
				                 "/source/job: job %s is %s and has no checkpoint yet", job, row.state);
			storage_job_done(&row);
		}
	}
	if (st && st != WASD_ENOTFOUND)
		api_send_error(q, r, &err);
	if (st)
		return false;
	if (out->corrupt)
		api_send_problem(q, r, "corrupt", "/source", "/source: checkpoint %s fails its checksum", out->id);
	else if (api_ckpt_plain(out) && !strcmp(mode, "dom"))
		api_send_problem(q, r, "unsupported", "/mode",
		                 "/mode: checkpoint %s has no dom bundle: it was trained without WAS, or came without a draw",
		                 out->id);
	else if (api_mode_there(c, q, r, out->id, mode, "invalid_field", "/mode"))
		return true;
	storage_ckpt_done(out);
	return false;
}
