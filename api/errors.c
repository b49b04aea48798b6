/* api/errors.c - the one table of answers that are not a success, and their format.
 *
 * Every such answer is a problem document (RFC 9457). On /v2 the document also has "error" and is plain
 * application/json, because stock clients read only that; that protocol does not define 422, so a 422 becomes 400
 * there. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

const struct api_error_row api_errors[] = {
	{"bad_request", 400, "Malformed request",
     "The request breaks the rules of HTTP or of this interface in a way that no other code describes."},
	{"bad_json", 400, "Not valid JSON",
     "The body is not one strict JSON value (RFC 8259, UTF-8, no member twice). The pointer says where, the detail at which byte."},
	{"bad_parameter", 400, "Bad query parameter",
     "A query parameter has a value that cannot be used; the pointer is its name."},
	{"unknown_parameter", 400, "Unknown query parameter",
     "The route has no query parameter of that name. Names are case-sensitive."},
	{"body_not_allowed", 400, "No body expected", "The route takes no body, but one was sent."},
	{"body_required", 400, "Body missing", "The route needs a body and none was sent."},
	{"bad_multipart", 400, "Malformed multipart body",
     "The multipart/form-data body breaks RFC 7578: boundary, part headers or the closing line."},
	{"mode_conflict", 400, "Two different modes asked for",
     "Path, parameter, header, query or alias of one request name different modes. Send one."},
	{"bad_tensor", 400, "Tensor does not fit the model",
     "Name, datatype, shape or data of an input tensor differ from the model's metadata."},
	{"cross_origin", 403, "Cross-origin write refused", "A web page of another origin may not change anything here."},
	{"not_found", 404, "Not found", "There is no such object or route."},
	{"method_not_allowed", 405, "Method not allowed",
     "The path exists with other methods; the Allow header lists them."},
	{"conflict", 409, "Conflict", "The object's state does not allow this now."},
	{"name_taken", 409, "Name taken", "There is already an object of that name."},
	{"idempotency_conflict", 409, "Idempotency key used before",
     "The same Idempotency-Key came with another body earlier."},
	{"job_active", 409, "Job still active",
     "Only a job that is completed, failed or cancelled can be deleted. Cancel it first."},
	{"referenced", 409, "Still referenced", "Something else uses the object; the detail names it."},
	{"in_use", 409, "Dataset in use", "A job that has not ended uses the dataset, or it is being scanned."},
	{"dataset_not_ready", 409, "Dataset not ready",
     "The dataset is still being scanned. Ask again with ?wait=60s on the dataset."},
	{"invalid_transition", 409, "State does not allow this", "The job cannot go from its state `from` to `to`."},
	{"no_checkpoint", 409, "No checkpoint yet", "The job has not stored a checkpoint that could be served."},
	{"bundle_not_ready", 409, "Mode not available", "The deployment has no loaded bundle for that mode."},
	{"nothing_to_roll_back", 409, "No earlier mode", "The deployment's mode has never been switched."},
	{"stale", 412, "Precondition failed",
     "If-Match or If-None-Match does not fit the object's current ETag, which the answer carries."},
	{"too_large", 413, "Too large", "The body is larger than the route takes."},
	{"uri_too_long", 414, "URI too long", "The request line is longer than 8 KiB."},
	{"unsupported_media_type", 415, "Unsupported media type",
     "The route does not take a body of that Content-Type or Content-Encoding."},
	{"range_not_satisfiable", 416, "Range not satisfiable", "The Range header lies outside the file."},
	{"invalid_field", 422, "Invalid field",
     "A member of the body is unknown, missing, ill-typed or out of range. errors[] lists every one with its JSON pointer."},
	{"unsupported", 422, "Not supported",
     "The request is well-formed, but this build or this data does not offer what it asks for."},
	{"bad_image", 422, "Image cannot be decoded",
     "An image is broken, truncated, too large or neither PNG nor JPEG; the pointer says which one."},
	{"bad_dataset", 422, "Dataset refused", "The uploaded data were refused; the pointer is the file at fault."},
	{"bad_weights", 422, "Weights refused",
     "The blob is not a safetensors file that fits the network; the pointer is the tensor or the metadata's key at fault, the detail says what is wrong with it."},
	{"load_failed", 422, "Model cannot be loaded",
     "The deployment's checkpoint could not be loaded; the detail says why."},
	{"headers_too_large", 431, "Headers too large", "The request headers are larger than 16 KiB."},
	{"internal", 500, "Internal error", "A fault of the daemon itself. The log has more under the request id."},
	{"io_error", 500, "Storage error", "The operating system refused a read or write."},
	{"corrupt", 500, "Stored data damaged", "Stored bytes fail their checksum. They are never handed out."},
	{"not_implemented", 501, "Not implemented", "The method or transfer coding is not known here."},
	{"busy", 503, "Try again later",
     "The engine is restarting, a queue is full, or the daemon is at a limit. Retry-After says when to come back."},
	{"not_ready", 503, "Not ready", "The deployment or the daemon is not ready to answer yet."},
	{"suspended", 503, "Deployment suspended",
     "The inference process ended again and again at this deployment's work, so it waits while the others are served. Retry-After says when it is tried again; POST /v1/deployments/NAME:reload does it at once."},
	{"draining", 503, "Shutting down", "The daemon is ending and takes no new work."},
	{"no_memory", 503, "Out of memory", "There was not enough memory for this request."},
	{"deadline", 504, "Deadline exceeded", "The answer was not there in time."},
	{"disk_full", 507, "Disk full",
     "There is too little free space to accept this; the detail has the numbers. Free some, or try again later."},
	{"quota_full", 507, "Quota full",
     "It would take more than the setting quota_mb allows; the detail has the numbers. Delete something, or raise it."},
	{0},
};

const struct api_error_row *api_error_find(const char *code)
{
	for (const struct api_error_row *e = api_errors; e->code; e++)
		if (!strcmp(e->code, code))
			return e;
	return NULL;
}

bool api_on_v2(const struct api_request *q)
{
	return !strncmp(q->path, "/v2", 3) && (q->path[3] == 0 || q->path[3] == '/');
}

/* Clients of the Open Inference Protocol, and of the servers that shims.c stands in for, want a problem in their own
 * form. */
static bool of_protocol(const struct api_request *q)
{
	size_t n = strlen(q->path);
	bool predict = n > 8 && !strcmp(q->path + n - 7, "predict") && strchr(":/", q->path[n - 8]);
	return api_on_v2(q) || !strncmp(q->path, "/predictions/", 13) || (predict && !strncmp(q->path, "/v1/models/", 11));
}

/* The 32 hex digits in the middle of a traceparent. */
static const char *trace_id(const struct api_request *q, char out[33])
{
	if (!q->traceparent || strlen(q->traceparent) < 35)
		return NULL;
	memcpy(out, q->traceparent + 3, 32);
	out[32] = 0;
	return out;
}

/* Takes errors. */
static void send(const struct api_request *q, struct api_response *r, const struct api_error_row *e, const char *detail,
                 cJSON *errors)
{
	char type[96], trace[33];
	bool v2 = of_protocol(q);
	int status = v2 && e->status == 422 ? 400 : e->status;
	cJSON *j = cJSON_CreateObject();
	snprintf(type, sizeof type, "/docs/errors#%s", e->code);
	bool ok = j && api_add_str(j, "type", type) && api_add_str(j, "title", e->title) &&
	          api_add_int(j, "status", status) && api_add_str(j, "detail", detail) &&
	          api_add_str(j, "instance", q->path) && api_add_str(j, "code", e->code) &&
	          api_add_str(j, "request_id", q->request_id) && api_add_str(j, "trace_id", trace_id(q, trace)) &&
	          (!v2 || api_add_str(j, "error", detail));
	if (!ok || !errors || !cJSON_AddItemToObject(j, "errors", errors)) {
		cJSON_Delete(errors);
		cJSON_Delete(j);
		api_send_no_memory(r);
		return;
	}
	api_send_json(r, status, j);
	if (r->status != status)
		return;
	wasd_line(r->problem, sizeof r->problem, "%s: %s", e->code, detail);
	r->content_type = v2 ? "application/json" : "application/problem+json";
	if (status == 503 || status == 507)
		api_set_header(r, "Retry-After", status == 503 ? "1" : "60");
}

/* Appends one entry of errors[]; false: no memory. */
static bool add_entry(cJSON *list, const char *pointer, const char *detail, const char *code)
{
	cJSON *e = cJSON_CreateObject();
	if (!e || !cJSON_AddItemToArray(list, e)) {
		cJSON_Delete(e);
		return false;
	}
	return api_add_str(e, "pointer", pointer) && api_add_str(e, "detail", detail) &&
	       (!code || api_add_str(e, "code", code));
}

static void send_one(const struct api_request *q, struct api_response *r, const struct api_error_row *e,
                     const char *pointer, const char *detail)
{
	cJSON *errors = cJSON_CreateArray();
	if (errors && pointer && *pointer && !add_entry(errors, pointer, detail, NULL)) {
		cJSON_Delete(errors);
		errors = NULL;
	}
	send(q, r, e, detail, errors);
}

void api_send_problem(const struct api_request *q, struct api_response *r, const char *code, const char *pointer,
                      const char *fmt, ...)
{
	char detail[512];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(detail, sizeof detail, fmt, ap);
	va_end(ap);
	const struct api_error_row *e = api_error_find(code);
	send_one(q, r, e ? e : api_error_find("internal"), pointer, detail);
}

static const char *const status_codes[WASD_STATUS_COUNT] = {
	[WASD_OK] = "internal",         [WASD_EINVAL] = "invalid_field",
	[WASD_ENOMEM] = "no_memory",    [WASD_EIO] = "io_error",
	[WASD_ENOTFOUND] = "not_found", [WASD_EEXIST] = "name_taken",
	[WASD_ESTATE] = "conflict",     [WASD_ECORRUPT] = "corrupt",
	[WASD_ETOOBIG] = "too_large",   [WASD_EUNSUPPORTED] = "unsupported",
	[WASD_EFULL] = "disk_full",     [WASD_EBUSY] = "busy",
	[WASD_ECANCELLED] = "busy",     [WASD_ENUMERIC] = "internal",
	[WASD_EINTERNAL] = "internal",
};

void api_send_error(const struct api_request *q, struct api_response *r, const struct wasd_err *err)
{
	const char *code = (unsigned)err->status < WASD_STATUS_COUNT ? status_codes[err->status] : "internal";
	bool full = err->status == WASD_EFULL; /* the pointer is then the reason, not a place in the request */
	if (full && !strcmp(err->pointer, STORAGE_QUOTA_FULL))
		code = "quota_full";
	send_one(q, r, api_error_find(code), full ? NULL : err->pointer, err->msg);
}

void api_send_unrouted(const struct api_request *q, struct api_response *r, const char *allow)
{
	if (*allow) {
		api_send_problem(q, r, "method_not_allowed", NULL, "%s does not take %s; it takes %s", q->path, q->method,
		                 allow);
		api_set_header(r, "Allow", "%s", allow);
	} else {
		api_send_problem(q, r, "not_found", NULL, "no route %s %s", q->method, q->path);
	}
}

void api_problem_member(struct api_response *r, const char *name, const char *value)
{
	/* The body is an object printed just now: reopen it at its closing brace. */
	cJSON *v = cJSON_CreateString(value);
	char *text = v ? wasd_json_print(v) : NULL;
	if (text && r->body.len && r->body.data[r->body.len - 1] == '}') {
		r->body.len--;
		wasd_buf_printf(&r->body, ",\"%s\":%s}", name, text);
		if (r->body.failed)
			api_send_no_memory(r);
	}
	wasd_free(text);
	cJSON_Delete(v);
}

/* ---- many faults at once ---- */

void api_fault(struct api_faults *f, const char *code, const char *pointer, const char *fmt, ...)
{
	char detail[512];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(detail, sizeof detail, fmt, ap);
	va_end(ap);
	if (f->n++ >= API_FAULTS_MAX)
		return;
	if (!f->list)
		f->list = cJSON_CreateArray();
	if (!f->list || !add_entry(f->list, pointer, detail, code))
		f->no_memory = true;
}

void api_faults_done(struct api_faults *f)
{
	cJSON_Delete(f->list);
	*f = (struct api_faults){0};
}

void api_send_faults(const struct api_request *q, struct api_response *r, struct api_faults *f)
{
	const char *code = NULL, *detail = NULL, *pointer = NULL;
	const cJSON *first = f->list ? f->list->child : NULL;
	if (f->no_memory || !first || !wasd_json_str(first, "code", &code) || !wasd_json_str(first, "detail", &detail) ||
	    !wasd_json_str(first, "pointer", &pointer)) {
		api_send_no_memory(r);
	} else {
		char text[640];
		if (f->n > 1)
			snprintf(text, sizeof text, "%s (and %d more)", detail, f->n - 1);
		else
			snprintf(text, sizeof text, "%s", detail);
		cJSON *list = f->list;
		f->list = NULL;
		send(q, r, api_error_find(code), text, list);
	}
	api_faults_done(f);
}
