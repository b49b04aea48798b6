/* api/job_submit.c - jobs: submit a spec, or clone a job with changes. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* null means the data set's own validation images, which are also the default. */
static void choose_validation(cJSON *spec, const cJSON *info, bool given, struct api_faults *faults)
{
	cJSON *data = cJSON_GetObjectItemCaseSensitive(spec, "data");
	int64_t val = 0;
	wasd_json_i64(info, "val", &val);
	if (!given && val > 0 && !cJSON_ReplaceItemInObjectCaseSensitive(data, "val_fraction", cJSON_CreateNull()))
		faults->no_memory = true;
	if (!val && cJSON_IsNull(wasd_json_get(data, "val_fraction")))
		api_fault(
			faults, "invalid_field", "/data/val_fraction",
			"/data/val_fraction: null stands for the dataset's own validation images, and it has none; give a share of the training images");
}

static bool resolve_dataset(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *spec,
                            bool val_given, int64_t *version, char name[64], cJSON **warnings)
{
	struct storage_dataset d;
	cJSON *ref = cJSON_GetObjectItemCaseSensitive(spec, "dataset");
	const char *s = "";
	*version = 0;
	wasd_json_str(ref, "name", &s);
	wasd_json_i64(ref, "version", version);
	snprintf(name, 64, "%s", s);
	int64_t wanted = *version;
	struct api_faults faults = {0};
	bool fits = true;
	if (!api_dataset_ready(c, q, r, name, wanted, &d))
		return false;
	cJSON *info = api_parse_trusted(d.info);
	choose_validation(spec, info, val_given, &faults);
	spec_check_dataset(spec, c->engine.capabilities(c->engine.self), info, &faults);
	if (!faults.n && !faults.no_memory)
		fits = api_job_check(c, q, r, spec, d.path, warnings);
	cJSON_Delete(info);
	*version = d.version;
	if (!wanted)
		api_add_int(ref, "version", d.version);
	storage_dataset_done(&d);
	if (faults.n || faults.no_memory) {
		api_send_faults(q, r, &faults);
		return false;
	}
	return fits;
}

/* "draw": "profile:NAME" is the profile of that name of the initial weights: its draw is copied into the spec, so
 * the job does not need the profile afterwards. */
static bool take_profile(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *spec)
{
	char at[32], pointer[48];
	cJSON *was = spec_was(spec, at);
	const char *draw, *id, *name;
	struct storage_profile p = {0};
	struct wasd_err err = {0};
	if (!wasd_json_str(was, "draw", &draw) || strncmp(draw, WASD_DRAW_PROFILE, sizeof WASD_DRAW_PROFILE - 1) ||
	    wasd_json_get(was, "profile"))
		return true;
	name = draw + sizeof WASD_DRAW_PROFILE - 1;
	snprintf(pointer, sizeof pointer, "%s/draw", at);
	if (!wasd_json_str(spec, "init_from", &id)) {
		api_send_problem(
			q, r, "invalid_field", pointer,
			"%s: a profile belongs to a checkpoint: name it in /init_from, or give the draw itself in %s/profile",
			pointer, at);
		return false;
	}
	enum wasd_status st = storage_profile_get(c->db, id, name, &p, &err);
	cJSON *info = !st && !strcmp(p.state, "ready") ? api_parse_trusted(p.info) : NULL,
		  *recorded = cJSON_DetachItemFromObjectCaseSensitive(info, "draw");
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "invalid_field", pointer, "%s: checkpoint %s has no profile %s", pointer, id, name);
	else if (st)
		api_send_error(q, r, &err);
	else if (!recorded)
		api_send_problem(q, r, "invalid_field", pointer, "%s: profile %s of checkpoint %s is %s, not ready", pointer,
		                 name, id, p.state);
	bool ok = recorded && api_add_take(was, "profile", recorded);
	if (recorded && !ok)
		api_send_no_memory(r);
	cJSON_Delete(info);
	storage_profile_done(&p);
	return ok;
}

/* Initial weights from a blob: checks them against the job's network and data, stores them as a checkpoint and puts
 * its id into the spec. */
static bool import_init(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *spec,
                        const char *dataset, int64_t version, bool dry)
{
	struct storage_dataset d;
	struct wasd_err err = {0};
	char id[32];
	if (storage_dataset_get(c->db, dataset, version, &d, &err)) {
		api_send_error(q, r, &err);
		return false;
	}
	cJSON *info = api_parse_trusted(d.info);
	struct api_import in = api_import_read(wasd_json_get(spec, "init_from"), "/init_from");
	in.data_pointer = "/dataset";
	in.model = wasd_json_get(spec, "model");
	in.classes = wasd_json_get(info, "classes");
	in.input = wasd_json_get(info, "shape");
	in.dry = dry;
	bool ok = api_import(c, q, r, &in, id);
	if (ok && !dry) {
		cJSON_DeleteItemFromObjectCaseSensitive(spec, "init_from");
		api_add_str(spec, "init_from", id);
	}
	cJSON_Delete(info);
	storage_dataset_done(&d);
	return ok;
}

/* The initial weights must be of the same network. */
static bool check_init(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *spec,
                       const char *dataset, int64_t version, bool dry)
{
	const char *id, *arch = spec_network(spec), *has = "";
	struct storage_ckpt k;
	struct wasd_err err = {0};
	if (cJSON_IsObject(wasd_json_get(spec, "init_from")))
		return import_init(c, q, r, spec, dataset, version, dry);
	if (!wasd_json_str(spec, "init_from", &id))
		return true;
	enum wasd_status st = storage_ckpt_get(c->db, id, &k, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "invalid_field", "/init_from", "/init_from: there is no checkpoint %s", id);
	else if (st)
		api_send_error(q, r, &err);
	if (st)
		return false;
	cJSON *info = api_parse_trusted(k.info);
	bool ok = !wasd_json_str(info, "arch", &has) || !strcmp(has, arch);
	if (!ok)
		api_send_problem(q, r, "invalid_field", "/init_from", "/init_from: checkpoint %s is of %s, the job trains %s",
		                 id, has, arch);
	cJSON_Delete(info);
	storage_ckpt_done(&k);
	return ok;
}

bool api_idempotency_ok(const struct api_request *q, struct api_response *r)
{
	const char *key = api_header(q, "idempotency-key");
	size_t n = key ? strlen(key) : 1;
	bool ok = n >= 1 && n <= 200;
	for (size_t i = 0; key && i < n; i++)
		ok &= key[i] > ' ' && key[i] < 127;
	if (!ok)
		api_send_problem(q, r, "bad_request", "Idempotency-Key",
		                 "Idempotency-Key must have 1 to 200 printable ASCII characters");
	return ok;
}

/* Stores the warnings known now. A failure loses nothing: the job's process sends the warnings again. */
static void keep_warnings(struct api_ctx *c, struct storage_job *job, const cJSON *warnings)
{
	const cJSON *w;
	const char *code, *message;
	struct storage_job now;
	cJSON_ArrayForEach(w, warnings)
		if (wasd_json_str(w, "code", &code) && wasd_json_str(w, "message", &message))
			storage_warning_put(c->db, job->id, 0, code, 0, message, NULL);
	if (!cJSON_GetArraySize(warnings) || storage_job_get(c->db, job->id, &now, NULL))
		return;
	storage_job_done(job);
	*job = now;
}

/* The digest of what the client asks: a clone's depends on its path too. */
static void request_digest(const struct api_request *q, bool clone, char digest[WASD_SHA256_HEX])
{
	struct wasd_buf b = {.max = 1 << 20};
	if (clone)
		wasd_buf_printf(&b, "%s ", q->path);
	wasd_buf_append(&b, q->body, q->body_len);
	wasd_sha256_of(wasd_buf_cstr(&b), b.len, digest);
	wasd_buf_done(&b);
}

static void create(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *spec,
                   const cJSON *warnings, const char *cloned_from)
{
	char digest[WASD_SHA256_HEX], body_digest[WASD_SHA256_HEX];
	const char *after[WASD_AFTER_MAX];
	char *text = api_poisoned(spec) ? NULL : wasd_json_print(spec),
		 *labels = wasd_json_print(wasd_json_get(spec, "labels"));
	struct storage_job_in in = storage_job_in_of(spec, after);
	struct storage_job job = {0};
	struct wasd_err err = {0};
	bool existing = false;
	if (!text || !labels) {
		api_send_no_memory(r);
		goto done;
	}
	wasd_sha256_of(text, strlen(text), digest);
	request_digest(q, cloned_from, body_digest);
	in.spec = text;
	in.labels = labels;
	in.spec_digest = digest;
	in.request_digest = body_digest;
	in.created_by = q->actor;
	in.cloned_from = cloned_from;
	in.idempotency_key = api_header(q, "idempotency-key");
	enum wasd_status st = storage_job_create(c->db, &in, &job, &existing, &err);
	if (st == WASD_EEXIST) {
		api_send_problem(q, r, "idempotency_conflict", "Idempotency-Key",
		                 "Idempotency-Key %.100s came with another body before", in.idempotency_key);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		if (!existing) {
			keep_warnings(c, &job, warnings);
			c->jobs.queued(c->jobs.self, job.id);
		}
		api_send_job(c, q, r, 201, &job);
		api_set_header(r, "Location", "/v1/jobs/%s", job.id);
		if (existing)
			api_set_header(r, "Idempotency-Replayed", "true");
	}
	storage_job_done(&job);
done:
	wasd_free(text);
	wasd_free(labels);
}

static bool check_queue(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *spec)
{
	const char *name = "";
	wasd_json_str(spec, "queue", &name);
	return api_queue_there(c, q, r, name);
}

cJSON *api_spec_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *body,
                      bool dry, cJSON **warnings)
{
	char dataset[64];
	int64_t version;
	struct api_faults faults = {0};
	cJSON *spec = spec_canon(body, c->engine.capabilities(c->engine.self), &faults);
	bool val_given = wasd_json_get(wasd_json_get(body, "data"), "val_fraction");
	*warnings = NULL;
	if (!spec)
		api_send_faults(q, r, &faults);
	else if (check_queue(c, q, r, spec) &&
	         api_deadline_ok(q, r, storage_deadline_ms(wasd_json_get(spec, "deadline"))) &&
	         take_profile(c, q, r, spec) && resolve_dataset(c, q, r, spec, val_given, &version, dataset, warnings) &&
	         check_init(c, q, r, spec, dataset, version, dry))
		return spec;
	cJSON_Delete(*warnings);
	*warnings = NULL;
	cJSON_Delete(spec);
	return NULL;
}

struct dry {
	bool run, bench;
};

/* The parameters of the request. */
static bool query_dry(const struct api_request *q, struct api_response *r, struct dry *dry)
{
	*dry = (struct dry){.bench = true};
	return api_query_bool(q, r, "dry_run", &dry->run) && api_query_bool(q, r, "bench", &dry->bench);
}

/* Submits the spec in body (taken). */
static enum api_result submit(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *body,
                              const char *cloned_from, struct dry dry)
{
	cJSON *warnings, *spec = api_spec_ready(c, q, r, body, dry.run, &warnings);
	cJSON_Delete(body);
	if (spec && dry.run)
		return api_job_estimate(c, q, r, spec, warnings, dry.bench);
	if (spec)
		create(c, q, r, spec, warnings, cloned_from);
	cJSON_Delete(spec);
	cJSON_Delete(warnings);
	return API_DONE;
}

enum api_result api_jobs_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct dry dry;
	if (!query_dry(q, r, &dry) || !api_idempotency_ok(q, r))
		return API_DONE;
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	return body ? submit(c, q, r, body, NULL, dry) : API_DONE;
}

/* ---- clone ---- */

/* Applies a JSON merge patch (RFC 7396) to an object. A failed allocation poisons it. */
static void merge_patch(cJSON *to, const cJSON *patch)
{
	const cJSON *m;
	cJSON_ArrayForEach(m, patch) {
		cJSON *old = cJSON_GetObjectItemCaseSensitive(to, m->string);
		if (cJSON_IsObject(m) && cJSON_IsObject(old)) {
			merge_patch(old, m);
			continue;
		}
		cJSON_DeleteItemFromObjectCaseSensitive(to, m->string);
		cJSON *v = cJSON_IsNull(m) ? NULL : cJSON_IsObject(m) ? cJSON_CreateObject() : cJSON_Duplicate(m, 1);
		if (!cJSON_IsNull(m) && api_add_take(to, m->string, v) && cJSON_IsObject(m))
			merge_patch(v, m);
	}
}

/* Is the job's deadline still that of its spec? If so, seconds count again from the clone's submission. */
static bool deadline_kept(const cJSON *spec, const struct storage_job *job)
{
	const cJSON *v = wasd_json_get(spec, "deadline");
	int64_t ms = cJSON_IsNumber(v) ? job->created_at + (int64_t)(v->valuedouble * 1000) : storage_deadline_ms(v);
	return llabs(ms - job->deadline) < 1000;
}

/* The spec of a job as it is now; NULL: no memory. */
static cJSON *spec_now(const struct storage_job *job)
{
	cJSON *spec = api_parse_trusted(job->spec);
	if (!spec)
		return NULL;
	api_job_as_now(spec, job);
	if (!deadline_kept(spec, job)) {
		cJSON_DeleteItemFromObjectCaseSensitive(spec, "deadline");
		if (job->deadline)
			api_add_time(spec, "deadline", job->deadline);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(spec, "after"); /* the clone waits for nothing, unless the patch says so */
	return spec;
}

enum api_result api_jobs_clone(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct dry dry;
	struct storage_job job;
	if (!query_dry(q, r, &dry) || !api_idempotency_ok(q, r))
		return API_DONE;
	cJSON *patch = api_body_json(q, r, WASD_JSON_REQUEST, true);
	if (!patch || !api_job_find(c, q, r, &job)) {
		cJSON_Delete(patch);
		return API_DONE;
	}
	cJSON *spec = spec_now(&job);
	if (spec)
		merge_patch(spec, patch);
	cJSON_Delete(patch);
	enum api_result result = API_DONE;
	if (api_poisoned(spec)) {
		api_send_no_memory(r);
		cJSON_Delete(spec);
	} else {
		result = submit(c, q, r, spec, job.id, dry);
	}
	storage_job_done(&job);
	return result;
}
