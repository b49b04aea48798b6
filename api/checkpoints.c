/* api/checkpoints.c - checkpoints: what they hold, pinning, download. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

cJSON *api_ckpt_json(const struct storage_ckpt *k)
{
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject();
	char url[160];
	api_add_str(j, "id", k->id);
	api_add_str(j, "job", k->job);
	api_add_int(j, "attempt", k->attempt);
	api_add_int(j, "epoch", k->epoch);
	api_add_int(j, "step", k->step);
	api_add_take(j, "metrics", k->metrics ? api_parse_trusted(k->metrics) : cJSON_CreateObject());
	api_add_raw(j, "info", k->info);
	api_add_int(j, "bytes", k->bytes);
	api_add_str(j, "sha256", k->sha256);
	api_add_str(j, "reason", k->reason);
	api_add_take(j, "pinned", cJSON_CreateBool(k->pinned != 0));
	api_add_take(j, "corrupt", cJSON_CreateBool(k->corrupt != 0));
	api_add_time(j, "created_at", k->created_at);
	snprintf(url, sizeof url, "/v1/checkpoints/%s/file", k->id);
	api_add_str(links, "file", url);
	snprintf(url, sizeof url, "/v1/jobs/%s", k->job);
	api_add_str(links, "job", url);
	api_add_take(j, "links", links);
	return j;
}

static bool find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_ckpt *out)
{
	char id[128];
	struct wasd_err err = {0};
	api_param(q, "id", id);
	enum wasd_status st = storage_ckpt_get(c->db, id, out, &err);
	if (st == WASD_ENOTFOUND) api_send_problem(q, r, "not_found", NULL, "no checkpoint %s", id);
	else if (st) api_send_error(q, r, &err);
	return !st;
}

enum api_result api_checkpoints_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	if (!find(c, q, r, &k)) return API_DONE;
	api_send_json(r, 200, api_ckpt_json(&k));
	storage_ckpt_done(&k);
	return API_DONE;
}

enum api_result api_checkpoints_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const struct field fields[] = {{"pinned", FIELD_BOOL, .def = NULL}, {0}};
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	struct storage_ckpt k;
	struct wasd_err err = {0};
	bool pinned = false;
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (!body) return API_DONE;
	cJSON *in = fields_canon(&fc, "", fields, body);
	cJSON_Delete(body);
	if (!in) {
		api_send_faults(q, r, &faults);
	} else if (find(c, q, r, &k)) {
		wasd_json_bool(in, "pinned", &pinned);
		enum wasd_status st = storage_ckpt_pin(c->db, k.id, pinned, &err);
		k.pinned = pinned;
		if (st) api_send_error(q, r, &err);
		else api_send_json(r, 200, api_ckpt_json(&k));
		storage_ckpt_done(&k);
	}
	cJSON_Delete(in);
	return API_DONE;
}

enum api_result api_checkpoints_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	if (!find(c, q, r, &k)) return API_DONE;
	enum wasd_status st = storage_ckpt_delete(c->db, k.id, q->actor, &err);
	if (st == WASD_ESTATE) api_send_problem(q, r, "referenced", NULL, "checkpoint %s: %s", k.id, err.msg);
	else if (st) api_send_error(q, r, &err);
	else r->status = 204;
	storage_ckpt_done(&k);
	return API_DONE;
}

/* ---- download ---- */

static int64_t file_read(void *ctx, uint64_t off, void *buf, size_t max)
{
	size_t got = 0;
	return storage_ckpt_read(ctx, (int64_t)off, buf, max, &got, NULL) ? -1 : (int64_t)got;
}

static void file_done(void *ctx) { storage_ckpt_close(ctx); }

/* The stored file is one safetensors file that also holds all a run needs to go on, so both formats are the same bytes. */
enum api_result api_checkpoints_file(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const formats[] = {"safetensors", "wasd", "onnx", NULL};
	const char *format = formats[0];
	struct storage_ckpt k;
	struct storage_ckpt_reader *reader = NULL;
	struct wasd_err err = {0};
	if (!api_query_choice(q, r, "format", formats, &format)) return API_DONE;
	if (!strcmp(format, "onnx")) {
		api_send_problem(q, r, "unsupported", "format", "format onnx is not offered; safetensors is");
		return API_DONE;
	}
	if (api_query(q, "mode")) {
		api_send_problem(q, r, "unsupported", "mode", "mode: a file of one mode's folded weights is not offered; the checkpoint holds both modes");
		return API_DONE;
	}
	if (!find(c, q, r, &k)) return API_DONE;
	if (k.corrupt) {
		api_send_problem(q, r, "corrupt", NULL, "checkpoint %s fails its checksum", k.id);
	} else if (storage_ckpt_open(c->db, k.id, &reader, &err)) {
		api_send_error(q, r, &err);
	} else {
		r->status = 200;
		r->content_type = "application/octet-stream";
		r->source = (struct api_source){.read = file_read, .done = file_done, .ctx = reader, .size = (uint64_t)storage_ckpt_size(reader)};
		api_set_header(r, "ETag", "\"%s\"", k.sha256);
		api_set_header(r, "Content-Disposition", "attachment; filename=\"%s-epoch%lld.safetensors\"", k.job, (long long)k.epoch);
		api_set_header(r, "Cache-Control", "private, max-age=31536000, immutable");
	}
	storage_ckpt_done(&k);
	return API_DONE;
}
