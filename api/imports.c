/* api/imports.c - imported weights: blobs, and checkpoints made from them. The engine reads the file; this file
 * turns its verdict into an answer. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

bool api_digest_ok(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* ---- blobs ---- */

static bool blob_param(const struct api_request *q, struct api_response *r, char sha256[128])
{
	api_param(q, "sha256", sha256);
	if (api_digest_ok(sha256))
		return true;
	api_send_problem(q, r, "bad_parameter", "sha256",
	                 "a blob is named by its SHA-256, 64 of 0-9 and a-f, not \"%.80s\"", sha256);
	return false;
}

static enum wasd_status audit_blob(struct api_ctx *c, const struct api_request *q, const char *sha256,
                                   struct wasd_err *err)
{
	char object[80];
	snprintf(object, sizeof object, "blob/%s", sha256);
	return storage_audit_add(c->db, q->actor, "blob.add", object, NULL, NULL, NULL, NULL, err);
}

enum api_result api_blobs_put(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char sha256[128], url[160];
	struct wasd_err err = {0};
	bool existed = false;
	if (!blob_param(q, r, sha256))
		return API_DONE;
	if (api_header(q, "content-range")) {
		api_send_problem(q, r, "unsupported", "Content-Range", "a blob is sent whole; appending to one is not offered");
	} else if (q->n_uploads != 1 || !q->uploads[0].bytes) {
		api_send_problem(q, r, "body_required", NULL, "PUT %s needs the file as its body (curl -T FILE)", q->path);
	} else if (strcmp(q->uploads[0].sha256, sha256)) {
		api_send_problem(q, r, "conflict", "sha256", "the body's SHA-256 is %s", q->uploads[0].sha256);
	} else if (c->blobs.put(c->blobs.self, &q->uploads[0], &existed, &err)) {
		api_send_error(q, r, &err);
	} else if (*q->uploads_taken = !existed, !existed && audit_blob(c, q, sha256, &err)) {
		api_send_error(q, r, &err);
	} else {
		cJSON *j = cJSON_CreateObject();
		api_add_str(j, "sha256", sha256);
		api_add_int(j, "bytes", (int64_t)q->uploads[0].bytes);
		api_send_json(r, existed ? 200 : 201, j);
		snprintf(url, sizeof url, "/v1/blobs/%s", sha256);
		api_set_header(r, "Location", "%s", url);
	}
	return API_DONE;
}

enum api_result api_blobs_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char sha256[128];
	struct api_file f;
	struct wasd_err err = {0};
	if (!blob_param(q, r, sha256))
		return API_DONE;
	enum wasd_status st = c->blobs.open(c->blobs.self, sha256, &f, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no blob %s", sha256);
	else if (st)
		api_send_error(q, r, &err);
	else if (!api_send_file(r, &f))
		api_send_no_memory(r);
	return API_DONE;
}

/* ---- import ---- */

/* Reports a fault of a field in the request, of the file, or any other. */
static void send_refusal(const struct api_request *q, struct api_response *r, const struct api_import *in,
                         const struct wasd_err *err)
{
	char pointer[256], blob[200];
	bool model = !strncmp(err->pointer, "/model", 6),
		 field = err->status != WASD_ECORRUPT &&
	             (model || !strcmp(err->pointer, "/classes") || !strcmp(err->pointer, "/input"));
	size_t n = strlen(err->pointer);
	const char *text = field && !strncmp(err->msg, err->pointer, n) && err->msg[n] == ':' ?
	                       err->msg + n + 2 :
	                       err->msg; /* without the pointer, which may be renamed */
	snprintf(blob, sizeof blob, "%s/blob", in->at);
	if (field && in->data_pointer)
		snprintf(pointer, sizeof pointer, "%s", model ? err->pointer : in->data_pointer);
	else
		snprintf(pointer, sizeof pointer, "%s%s", in->at, err->pointer);
	switch (err->status) {
	case WASD_ENOTFOUND:
		api_send_problem(q, r, "invalid_field", blob, "%s: there is no blob %s; send it by PUT /v1/blobs/%s", blob,
		                 in->blob, in->blob);
		break;
	case WASD_EINVAL:
	case WASD_ECORRUPT:
	case WASD_ETOOBIG:
	case WASD_EUNSUPPORTED:
		if (field)
			api_send_problem(q, r, "invalid_field", pointer, "%s: %s", pointer, text);
		else
			api_send_problem(q, r, "bad_weights", *err->pointer ? err->pointer : blob, "blob %.12s...: %s", in->blob,
			                 err->msg);
		break;
	default:
		api_send_error(q, r, err);
	}
}

bool api_import(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct api_import *in,
                char id[32])
{
	struct wasd_err err = {0};
	cJSON *how = cJSON_CreateObject();
	if (in->model)
		api_add_take(how, "model", cJSON_Duplicate(in->model, 1));
	if (in->classes)
		api_add_take(how, "classes", cJSON_Duplicate(in->classes, 1));
	if (in->input)
		api_add_take(how, "input", cJSON_Duplicate(in->input, 1));
	api_add_take(how, "to_serve", cJSON_CreateBool(in->to_serve));
	enum wasd_status st = api_poisoned(how) ?
	                          wasd_fail(&err, WASD_ENOMEM, "no memory") :
	                          c->files.import_blob(c->files.self, in->blob, how, in->dry, q->deadline_us, id, &err);
	cJSON_Delete(how);
	if (st)
		send_refusal(q, r, in, &err);
	return !st;
}

cJSON *api_blob_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	(void)f;
	if (cJSON_IsString(v) && api_digest_ok(v->valuestring))
		return cJSON_CreateString(v->valuestring);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be the SHA-256 of a blob, not %s", pointer, shown);
	return NULL;
}

const struct wasd_field api_import_fields[] = {
	{"blob", WASD_STR, .required = true, .form = "blob"},
	/* The engine checks it. */
	{"model", WASD_ANY, .def = NULL},
	{"classes", WASD_ANY, .def = NULL},
	{"input", WASD_ANY, .def = NULL},
	{0},
};

struct api_import api_import_read(const cJSON *fields, const char *at)
{
	struct api_import in = {.at = at,
	                        .blob = "",
	                        .model = wasd_json_get(fields, "model"),
	                        .classes = wasd_json_get(fields, "classes"),
	                        .input = wasd_json_get(fields, "input")};
	wasd_json_str(fields, "blob", &in.blob);
	return in;
}

enum api_result api_checkpoints_import(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	struct storage_ckpt k;
	char id[32];
	cJSON *in = api_body_fields(q, r, api_import_fields, NULL, false);
	if (!in)
		return API_DONE;
	struct api_import how = api_import_read(in, "");
	if (api_import(c, q, r, &how, id)) {
		char object[80];
		snprintf(object, sizeof object, "checkpoint/%s", id);
		enum wasd_status st = storage_audit_add(c->db, q->actor, "checkpoint.import", object, NULL, NULL, NULL, NULL,
		                                        &err);
		if (st || (st = storage_ckpt_get(c->db, id, &k, &err))) {
			api_send_error(q, r, &err);
		} else {
			api_send_json(r, 201, api_ckpt_json(&k));
			api_set_header(r, "Location", "/v1/checkpoints/%s", id);
			storage_ckpt_done(&k);
		}
	}
	cJSON_Delete(in);
	return API_DONE;
}

enum api_result api_checkpoints_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_send_checkpoints(c, NULL, q, r);
}
