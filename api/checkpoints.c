/* api/checkpoints.c - checkpoints: show, pin, download as stored or in another program's format. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

enum api_result api_checkpoints_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	api_send_json(r, 200, api_ckpt_json(&k));
	storage_ckpt_done(&k);
	return API_DONE;
}

enum api_result api_checkpoints_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const struct wasd_field fields[] = {{"pinned", WASD_BOOL, .required = true}, {0}};
	struct storage_ckpt k;
	struct wasd_err err = {0};
	bool pinned = false;
	cJSON *in = api_body_fields(q, r, fields, NULL, false);
	if (in && api_ckpt_find(c, q, r, &k)) {
		wasd_json_bool(in, "pinned", &pinned);
		enum wasd_status st = storage_ckpt_pin(c->db, k.id, pinned, q->actor, &err);
		k.pinned = pinned;
		if (st)
			api_send_error(q, r, &err);
		else
			api_send_json(r, 200, api_ckpt_json(&k));
		storage_ckpt_done(&k);
	}
	cJSON_Delete(in);
	return API_DONE;
}

enum api_result api_checkpoints_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	enum wasd_status st = storage_ckpt_delete(c->db, k.id, q->actor, &err);
	if (st == WASD_ESTATE)
		api_send_problem(q, r, "referenced", NULL, "checkpoint %s: %s", k.id, err.msg);
	else if (st)
		api_send_error(q, r, &err);
	else
		r->status = 204;
	storage_ckpt_done(&k);
	return API_DONE;
}

/* ---- download ---- */

static int64_t stored_read(void *ctx, uint64_t off, void *buf, size_t max)
{
	size_t got = 0;
	return storage_ckpt_read(ctx, (int64_t)off, buf, max, &got, NULL) ? -1 : (int64_t)got;
}

static void stored_done(void *ctx)
{
	storage_ckpt_close(ctx);
}

/* As stored, including the state of the optimizer and the generators. */
static bool open_stored(struct api_ctx *c, const struct storage_ckpt *k, struct api_response *r, struct wasd_err *err)
{
	struct storage_ckpt_reader *reader = NULL;
	if (storage_ckpt_open(c->db, k->id, &reader, err))
		return false;
	r->source = (struct api_source){.read = stored_read,
	                                .done = stored_done,
	                                .ctx = reader,
	                                .size = (uint64_t)storage_ckpt_size(reader)};
	api_set_header(r, "ETag", "\"%s\"", k->sha256);
	return true;
}

static bool open_made(struct api_ctx *c, const struct api_request *q, const struct storage_ckpt *k, const char *format,
                      const char *mode, struct api_response *r, struct wasd_err *err)
{
	struct api_file f;
	if (c->files.export_ckpt(c->files.self, k->id, format, mode, q->deadline_us, &f, err))
		return false;
	return api_send_file(r, &f) || (wasd_fail(err, WASD_ENOMEM, "no memory"), false);
}

static void send_export_error(const struct api_request *q, struct api_response *r, const struct storage_ckpt *k,
                              const char *mode, const struct wasd_err *err)
{
	if (err->status == WASD_ENOTFOUND || err->status == WASD_EUNSUPPORTED)
		api_send_problem(q, r, "unsupported", "mode", "checkpoint %s as mode %s: %s", k->id, mode, err->msg);
	else if (err->status == WASD_ESTATE)
		api_send_problem(q, r, "conflict", "mode", "checkpoint %s: %s", k->id, err->msg);
	else
		api_send_error(q, r, err);
}

enum api_result api_checkpoints_file(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const formats[] = {"safetensors", "onnx", "wasd", NULL};
	const char *format = formats[0], *mode = api_query(q, "mode") ? api_query(q, "mode") : "aom";
	struct storage_ckpt k;
	struct wasd_err err = {0};
	if (!api_query_choice(q, r, "format", formats, &format))
		return API_DONE;
	if (!wasd_mode_ok(mode)) {
		api_send_problem(q, r, "bad_parameter", "mode",
		                 "query parameter mode must be aom, dom, slim or FAMILY:NAME, not \"%.80s\"", mode);
		return API_DONE;
	}
	bool stored = !strcmp(format, "wasd"), one_mode = !strcmp(format, "onnx") || (!stored && wasd_mode_smaller(mode));
	if (!one_mode && api_query(q, "mode")) {
		api_send_problem(q, r, "bad_parameter", "mode", "mode: a file of format %s holds every mode", format);
		return API_DONE;
	}
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	if (k.corrupt) {
		api_send_problem(q, r, "corrupt", NULL, "checkpoint %s fails its checksum", k.id);
	} else if (!api_mode_there(c, q, r, k.id, mode, "unsupported", "mode")) {
		/* already answered */
	} else if (!(stored ? open_stored(c, &k, r, &err) : open_made(c, q, &k, format, mode, r, &err))) {
		send_export_error(q, r, &k, mode, &err);
	} else {
		r->status = 200;
		r->content_type = "application/octet-stream";
		/* No colon in a file name: some systems do not allow it. */
		char name[WASD_MODE_LEN], *colon;
		snprintf(name, sizeof name, "%s", mode);
		if ((colon = strchr(name, ':')))
			*colon = '-';
		api_set_header(r, "Content-Disposition", "attachment; filename=\"%s-epoch%lld%s%s.%s\"", k.job ? k.job : k.id,
		               (long long)k.epoch, one_mode ? "-" : "", one_mode ? name : "", format);
		api_set_header(r, "Cache-Control", stored ? "private, max-age=31536000, immutable" : "private, max-age=0");
	}
	storage_ckpt_done(&k);
	return API_DONE;
}

/* ---- what the weights are ---- */

/* Sends what the engine finds. kernels: NULL, or the window of a layer; taken. */
static void send_inspected(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *kernels)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	cJSON *found = NULL;
	if (api_ckpt_find(c, q, r, &k)) {
		if (k.corrupt)
			api_send_problem(q, r, "corrupt", NULL, "checkpoint %s fails its checksum", k.id);
		else if (kernels && api_poisoned(kernels))
			api_send_no_memory(r);
		else if (c->files.inspect(c->files.self, k.id, kernels, q->deadline_us, &found, &err) == WASD_OK)
			api_send_json(r, 200, found);
		else if (err.status == WASD_EINVAL)
			api_send_problem(q, r, "bad_parameter", err.pointer + (*err.pointer == '/'), "%s", err.msg);
		else
			api_send_error(q, r, &err);
		storage_ckpt_done(&k);
	}
	cJSON_Delete(kernels);
}

enum api_result api_checkpoints_layers(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	send_inspected(c, q, r, NULL);
	return API_DONE;
}

enum api_result api_checkpoints_layer(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const numbers[] = {"output", "outputs", "input", "inputs"};
	char layer[128];
	cJSON *kernels = cJSON_CreateObject();
	if (!kernels) {
		api_send_no_memory(r);
		return API_DONE;
	}
	api_param(q, "layer", layer);
	api_add_str(kernels, "layer", layer);
	for (size_t i = 0; i < API_LEN(numbers); i++) {
		int64_t n = -1;
		if (!api_query_int(q, r, numbers[i], strchr(numbers[i], 's') ? 1 : 0, INT32_MAX, &n)) {
			cJSON_Delete(kernels);
			return API_DONE;
		}
		if (n >= 0)
			api_add_int(kernels, numbers[i], n);
	}
	send_inspected(c, q, r, kernels);
	return API_DONE;
}
