/* api/find.c - resolves what a request names: the row of its path, the data set and the mode of its body; and
 * answers with checkpoints. Handlers of every resource call these functions, which call no handler. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- by the path ---- */

/* Handles the status st of a look-up. False: the answer is in r. */
static bool found(const struct api_request *q, struct api_response *r, enum wasd_status st, const struct wasd_err *err,
                  const char *kind, const char *name)
{
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no %s %s", kind, name);
	else if (st)
		api_send_error(q, r, err);
	return !st;
}

bool api_job_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_job *out)
{
	char id[128];
	struct wasd_err err = {0};
	api_param(q, "id", id);
	return found(q, r, storage_job_get(c->db, id, out, &err), &err, "job", id);
}

bool api_ckpt_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_ckpt *out)
{
	char id[128];
	struct wasd_err err = {0};
	api_param(q, "id", id);
	return found(q, r, storage_ckpt_get(c->db, id, out, &err), &err, "checkpoint", id);
}

bool api_deployment_find(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                         struct storage_deployment *out)
{
	char name[128];
	struct wasd_err err = {0};
	api_param(q, "d", name);
	return found(q, r, storage_deployment_get(c->db, name, out, &err), &err, "deployment", name);
}

bool api_dataset_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, int64_t version,
                      struct storage_dataset *out)
{
	char name[128];
	struct wasd_err err = {0};
	api_param(q, "name", name);
	enum wasd_status st = storage_dataset_get(c->db, name, version, out, &err);
	if (!st && !strcmp(out->state, "deleted")) {
		storage_dataset_done(out);
		st = WASD_ENOTFOUND;
	}
	if (st == WASD_ENOTFOUND && version)
		api_send_problem(q, r, "not_found", NULL, "dataset %s has no version %lld", name, (long long)version);
	else if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no dataset %s", name);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

bool api_profile_find(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      struct storage_profile *out)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	char name[128];
	if (!api_ckpt_find(c, q, r, &k))
		return false;
	api_param(q, "p", name);
	enum wasd_status st = storage_profile_get(c->db, k.id, name, out, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "checkpoint %s has no profile %s", k.id, name);
	else if (st)
		api_send_error(q, r, &err);
	storage_ckpt_done(&k);
	return !st;
}

/* ---- by the body ---- */

bool api_ckpt_named(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *at,
                    const char *id, struct storage_ckpt *out)
{
	struct wasd_err err = {0};
	enum wasd_status st = storage_ckpt_get(c->db, id, out, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "invalid_field", at, "%s: there is no checkpoint %.60s", at, id);
	else if (st)
		api_send_error(q, r, &err);
	else if (out->corrupt)
		api_send_problem(q, r, "corrupt", at, "%s: checkpoint %s fails its checksum", at, out->id);
	if (!st && !out->corrupt)
		return true;
	if (!st)
		storage_ckpt_done(out);
	return false;
}

/* "cifar10" or {"name":"cifar10","version":2}; without a version the latest at submission. */
cJSON *api_dataset_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	if (cJSON_IsObject(v))
		return fields_canon(c, pointer, f->sub, v);
	char shown[80];
	if (cJSON_IsString(v) && wasd_name_ok(v->valuestring)) {
		cJSON *out = cJSON_CreateObject();
		if (!api_add_str(out, "name", v->valuestring))
			c->faults->no_memory = true;
		return out;
	}
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be the name of a dataset or {\"name\",\"version\"}, not %s",
	          pointer, shown);
	return NULL;
}

bool api_dataset_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                       int64_t version, struct storage_dataset *out)
{
	struct wasd_err err = {0};
	enum wasd_status st = storage_dataset_get(c->db, name, version, out, &err);
	if (st == WASD_ENOTFOUND || (!st && !strcmp(out->state, "deleted"))) {
		if (version)
			api_send_problem(q, r, "invalid_field", "/dataset", "/dataset: dataset %s has no version %lld", name,
			                 (long long)version);
		else
			api_send_problem(q, r, "invalid_field", "/dataset", "/dataset: there is no dataset %s", name);
	} else if (st) {
		api_send_error(q, r, &err);
	} else if (!strcmp(out->state, "scanning")) {
		api_send_problem(q, r, "dataset_not_ready", "/dataset", "/dataset: %s is still being scanned", name);
	} else if (strcmp(out->state, "ready")) {
		api_send_problem(q, r, "invalid_field", "/dataset", "/dataset: %s version %lld is %s", name,
		                 (long long)out->version, out->state);
	} else {
		return true;
	}
	if (!st)
		storage_dataset_done(out);
	return false;
}

static bool fits(const struct storage_ckpt *k, const struct storage_dataset *d)
{
	cJSON *info = api_parse_trusted(k->info), *data = api_parse_trusted(d->info);
	const cJSON *input = wasd_json_get(info, "input"), *classes = wasd_json_get(info, "classes");
	bool ok = (!input || cJSON_Compare(input, wasd_json_get(data, "shape"), 1)) &&
	          (!classes || cJSON_GetArraySize(classes) == cJSON_GetArraySize(wasd_json_get(data, "classes")));
	cJSON_Delete(data);
	cJSON_Delete(info);
	return ok;
}

bool api_dataset_of(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                    const struct storage_ckpt *k, const cJSON *in, struct storage_dataset *out)
{
	struct storage_job job = {0};
	struct wasd_err err = {0};
	const cJSON *ref = wasd_json_get(in, "dataset");
	const char *name = "";
	int64_t version = 0;
	if (!ref && !k->job) {
		api_send_problem(q, r, "invalid_field", "/dataset",
		                 "/dataset is missing: checkpoint %s has no job; name the data set to measure on", k->id);
		return false;
	}
	if (!ref && storage_job_get(c->db, k->job, &job, &err)) {
		api_send_error(q, r, &err);
		return false;
	}
	wasd_json_str(ref, "name", &name);
	wasd_json_i64(ref, "version", &version);
	bool ok = api_dataset_ready(c, q, r, ref ? name : job.dataset, ref ? version : job.dataset_version, out);
	storage_job_done(&job);
	if (!ok || fits(k, out))
		return ok;
	api_send_problem(q, r, "invalid_field", "/dataset",
	                 "/dataset: %s does not have the image shape and the number of classes of checkpoint %s", out->name,
	                 k->id);
	storage_dataset_done(out);
	return false;
}

bool api_ckpt_has(const struct storage_ckpt *k, const char *mode)
{
	cJSON *info = api_parse_trusted(k->info);
	bool has = strcmp(mode, WASD_MODE_DOM) ?
	               !strcmp(mode, WASD_MODE_AOM) || wasd_json_get(wasd_json_get(info, "macs"), mode) :
	               !cJSON_IsFalse(wasd_json_get(info, "was"));
	cJSON_Delete(info);
	return has;
}

const char *api_mode_lacking(const char *mode)
{
	return !wasd_mode_smaller(mode)     ? "it was trained without WAS, or came without a draw" :
	       strcmp(mode, WASD_MODE_SLIM) ? "no network of this width was trained with it" :
	                                      "its network has no dead channels";
}

/* "aom, dom, slim, width:0.5, dom:fast" */
static void modes_text(struct api_ctx *c, const struct storage_ckpt *k, char *out, size_t room)
{
	struct storage_profile_list l;
	cJSON *info = api_parse_trusted(k->info), *own;
	size_t n = (size_t)snprintf(out, room, "aom%s", api_ckpt_has(k, WASD_MODE_DOM) ? ", dom" : "");
	cJSON_ArrayForEach(own, wasd_json_get(info, "macs"))
		if (wasd_mode_smaller(own->string) && n + WASD_MODE_LEN < room)
			n += (size_t)snprintf(out + n, room - n, ", %s", own->string);
	cJSON_Delete(info);
	if (storage_profile_list(c->db, k->id, "ready", &l, NULL))
		return;
	for (size_t i = 0; i < l.n && n + WASD_MODE_LEN < room; i++)
		n += (size_t)snprintf(out + n, room - n, ", %s", l.items[i].mode);
	storage_profile_list_done(&l);
}

bool api_mode_there(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *checkpoint,
                    const char *mode, const char *code, const char *pointer)
{
	struct storage_ckpt k;
	struct storage_profile p = {0};
	struct wasd_err err = {0};
	char modes[600];
	if (!wasd_mode_member(mode))
		return true;
	enum wasd_status st = storage_profile_get(c->db, checkpoint, mode, &p, &err);
	bool there = !st, ready = there && !strcmp(p.state, "ready");
	if (st && st != WASD_ENOTFOUND) {
		api_send_error(q, r, &err);
	} else if (there && !ready && strcmp(p.state, "failed")) {
		api_send_problem(q, r, "bundle_not_ready", pointer, "%s: mode %s is still %s", pointer, mode, p.state);
	} else if (!ready && storage_ckpt_get(c->db, checkpoint, &k, &err)) {
		api_send_error(q, r, &err);
	} else if (!ready) {
		modes_text(c, &k, modes, sizeof modes);
		api_send_problem(q, r, code, pointer, "%s: there is no mode %s%s; the modes of checkpoint %s are %s", pointer,
		                 mode, there ? ", its making has failed" : "", checkpoint, modes);
		storage_ckpt_done(&k);
	}
	storage_profile_done(&p);
	return ready;
}

/* ---- checkpoints as an answer ---- */

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
	snprintf(url, sizeof url, "/v1/checkpoints/%s/modes", k->id);
	api_add_str(links, "modes", url);
	snprintf(url, sizeof url, "/v1/checkpoints/%s/profiles", k->id);
	api_add_str(links, "profiles", url);
	snprintf(url, sizeof url, "/v1/jobs/%s", k->job ? k->job : "");
	if (k->job)
		api_add_str(links, "job", url);
	api_add_take(j, "links", links);
	return j;
}

enum api_result api_send_checkpoints(struct api_ctx *c, const char *job, const struct api_request *q,
                                     struct api_response *r)
{
	struct storage_ckpt_list l;
	struct wasd_err err = {0};
	if (storage_ckpt_list(c->db, job, &l, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++)
		api_push(items, api_ckpt_json(&l.items[i]));
	storage_ckpt_list_done(&l);
	api_send_list(q, r, items, NULL);
	return API_DONE;
}
