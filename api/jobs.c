/* api/jobs.c - jobs: submit, list, show, change, cancel, delete.
 *
 * A job object is its spec (members at the top level, every default written out) plus its state and results. Its
 * ETag is "REVISION.DIGEST": the digest covers all members, progress included, and serves If-None-Match; If-Match
 * compares only the revision, so that a running job's progress does not make an edit stale. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

/* Replaces the member of that name with v, or appends v. Takes v; NULL = out of memory. */
static void put(cJSON *obj, const char *name, cJSON *v)
{
	cJSON *old = v ? cJSON_GetObjectItemCaseSensitive(obj, name) : NULL;
	if (!old) {
		api_add_take(obj, name, v);
		return;
	}
	cJSON_free(v->string);
	v->string = old->string; /* hand over the name: nothing can fail */
	old->string = NULL;
	cJSON_ReplaceItemViaPointer(obj, old, v);
}

/* Moves the members of `from` into `to`, replacing those of the same name. Takes from. */
static void merge_take(cJSON *to, cJSON *from)
{
	while (from && from->child) {
		cJSON *m = cJSON_DetachItemViaPointer(from, from->child);
		put(to, m->string, m);
	}
	cJSON_Delete(from);
}

static cJSON *attempts_json(struct api_ctx *c, const char *job)
{
	struct storage_attempt_list l;
	if (storage_attempt_list(c->db, job, &l, NULL))
		return NULL;
	cJSON *out = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		const struct storage_attempt *a = &l.items[i];
		cJSON *j = cJSON_CreateObject();
		api_add_int(j, "number", a->number);
		api_add_str(j, "outcome", a->outcome);
		api_add_str(j, "exit_reason", a->exit_reason);
		api_add_maybe(j, "exit_code", a->ended_at && !a->signal, (double)a->exit_code);
		api_add_maybe(j, "signal", a->signal, (double)a->signal);
		api_add_str(j, "log_tail", a->log_tail);
		api_add_str(j, "resume_from", a->resume_from);
		api_add_maybe(j, "pid", a->pid && !a->ended_at, (double)a->pid);
		api_add_raw(j, "build", a->build);
		api_add_time(j, "started_at", a->started_at);
		api_add_time(j, "ended_at", a->ended_at);
		api_push(out, j);
	}
	storage_attempt_list_done(&l);
	return out;
}

static cJSON *latest_json(struct api_ctx *c, const char *job)
{
	struct storage_point_list l;
	if (storage_metric_latest(c->db, job, &l, NULL))
		return NULL;
	cJSON *out = cJSON_CreateObject();
	for (size_t i = 0; i < l.n; i++)
		api_add_num(out, l.items[i].name, l.items[i].value);
	storage_point_list_done(&l);
	return out;
}

/* The current "best" checkpoint with its epoch's numbers; null before the first. */
static cJSON *best_json(struct api_ctx *c, const struct storage_job *job)
{
	struct storage_ckpt k;
	enum wasd_status st = storage_ckpt_pick(c->db, job->id, "best", &k, NULL);
	if (st)
		return st == WASD_ENOTFOUND ? cJSON_CreateNull() : NULL;
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "checkpoint", k.id);
	api_add_int(j, "epoch", k.epoch);
	api_add_str(j, "metric", job->keep_metric);
	api_add_maybe(j, "value", k.has_score, k.score);
	api_add_raw(j, "metrics", k.metrics);
	storage_ckpt_done(&k);
	return j;
}

static cJSON *warnings_json(struct api_ctx *c, const char *job)
{
	struct storage_warning_list l;
	if (storage_warning_list(c->db, job, &l, NULL))
		return NULL;
	cJSON *out = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		cJSON *j = cJSON_CreateObject();
		api_add_str(j, "code", l.items[i].code);
		api_add_int(j, "epoch", l.items[i].epoch);
		api_add_str(j, "message", l.items[i].message);
		api_push(out, j);
	}
	storage_warning_list_done(&l);
	return out;
}

static cJSON *links_json(const char *id)
{
	static const char *const parts[] = {"metrics", "logs", "events", "transitions", "checkpoints"};
	char url[160];
	cJSON *j = cJSON_CreateObject();
	snprintf(url, sizeof url, "/v1/jobs/%s", id);
	api_add_str(j, "self", url);
	for (size_t i = 0; i < API_LEN(parts); i++) {
		snprintf(url, sizeof url, "/v1/jobs/%s/%s", id, parts[i]);
		api_add_str(j, parts[i], url);
	}
	return j;
}

/* The phase of a job that has not ended: in the queue, in an attempt, or waiting for its profile searches. */
static cJSON *live_json(struct api_ctx *c, const char *job)
{
	cJSON *live = c->jobs.live(c->jobs.self, job);
	return live ? live : c->profiles.live(c->profiles.self, job);
}

static cJSON *job_json(struct api_ctx *c, const struct storage_job *s, bool full)
{
	cJSON *j = cJSON_CreateObject();
	if (!j)
		return NULL;
	api_add_str(j, "id", s->id);
	api_add_str(j, "state", s->state);
	api_add_str(j, "reason", s->reason);
	api_add_str(j, "message", s->message);
	cJSON *spec = api_parse_trusted(s->spec);
	if (!spec)
		api_poison(j);
	merge_take(j, spec);
	put(j, "name", cJSON_CreateString(s->name ? s->name : ""));
	put(j, "labels", api_parse_trusted(s->labels));
	put(j, "note", cJSON_CreateString(s->note ? s->note : ""));
	put(j, "priority", cJSON_CreateNumber((double)s->priority));
	api_add_take(j, "progress", s->progress ? api_parse_trusted(s->progress) : cJSON_CreateObject());
	api_add_int(j, "attempt", s->attempt);
	if (full)
		api_add_take(j, "attempts", attempts_json(c, s->id));
	else
		cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(j, "model"),
		                                        "layers"); /* the full job object has them */
	api_add_take(j, "metrics_latest", latest_json(c, s->id));
	api_add_take(j, "best", best_json(c, s));
	api_add_take(j, "warnings", warnings_json(c, s->id));
	api_add_str(j, "spec_digest", s->spec_digest);
	api_add_str(j, "dataset_digest", s->dataset_digest);
	api_add_raw(j, "build", s->build);
	api_add_str(j, "created_by", s->created_by);
	api_add_time(j, "created_at", s->created_at);
	api_add_time(j, "started_at", s->started_at);
	api_add_time(j, "finished_at", s->finished_at);
	api_add_time(j, "updated_at", s->updated_at);
	api_add_take(j, "links", links_json(s->id));
	if (!storage_job_terminal(s->state))
		merge_take(j, live_json(c, s->id));
	return j;
}

/* Keeps only the id and the members in a comma-separated list. */
static void select_fields(cJSON *j, const char *fields)
{
	for (cJSON *m = j ? j->child : NULL, *next; m; m = next) {
		next = m->next;
		bool keep = !strcmp(m->string, "id");
		for (const char *s = fields; *s && !keep; s += strcspn(s, ","), s += *s == ',') {
			size_t n = strcspn(s, ",");
			keep = strlen(m->string) == n && !strncmp(s, m->string, n);
		}
		if (!keep)
			cJSON_Delete(cJSON_DetachItemViaPointer(j, m));
	}
}

static void send_job(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                     const struct storage_job *s)
{
	cJSON *j = job_json(c, s, true);
	const char *fields = api_query(q, "fields");
	if (fields)
		select_fields(j, fields);
	api_send_json(r, status, j);
	if (r->status != status)
		return;
	char hex[WASD_SHA256_HEX];
	wasd_sha256_of(r->body.data, r->body.len, hex);
	api_set_header(r, "ETag", "\"%lld.%.16s\"", (long long)s->rev, hex);
}

/* ---- submit ---- */

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

static bool check_key(const struct api_request *q, struct api_response *r, const char *key)
{
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

static void create(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *spec,
                   const char *dataset, int64_t version, const cJSON *warnings)
{
	char digest[WASD_SHA256_HEX], body_digest[WASD_SHA256_HEX];
	const cJSON *keep = wasd_json_get(wasd_json_get(spec, "checkpoint"), "keep");
	const char *mode = "max";
	char *text = api_poisoned(spec) ? NULL : wasd_json_print(spec),
		 *labels = wasd_json_print(wasd_json_get(spec, "labels"));
	struct storage_job_in in = {.dataset = dataset,
	                            .dataset_version = version,
	                            .spec = text,
	                            .labels = labels,
	                            .spec_digest = digest,
	                            .request_digest = body_digest,
	                            .created_by = q->actor,
	                            .idempotency_key = api_header(q, "idempotency-key")};
	struct storage_job job = {0};
	struct wasd_err err = {0};
	bool existing = false;
	if (!text || !labels) {
		api_send_no_memory(r);
		goto done;
	}
	wasd_sha256_of(text, strlen(text), digest);
	wasd_sha256_of(q->body, q->body_len, body_digest);
	wasd_json_str(spec, "name", &in.name);
	wasd_json_str(spec, "queue", &in.queue);
	wasd_json_str(spec, "note", &in.note);
	wasd_json_str(spec, "init_from", &in.init_checkpoint);
	wasd_json_i64(spec, "priority", &in.priority);
	wasd_json_i64(keep, "best", &in.keep_best);
	wasd_json_i64(keep, "latest", &in.keep_latest);
	wasd_json_str(keep, "metric", &in.keep_metric);
	wasd_json_str(keep, "mode", &mode);
	in.keep_max = !strcmp(mode, "max");
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
		send_job(c, q, r, 201, &job);
		api_set_header(r, "Location", "/v1/jobs/%s", job.id);
		if (existing)
			api_set_header(r, "Idempotency-Replayed", "true");
	}
	storage_job_done(&job);
done:
	wasd_free(text);
	wasd_free(labels);
}

enum api_result api_jobs_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	bool dry = false;
	char dataset[64];
	int64_t version;
	struct api_faults faults = {0};
	if (!api_query_bool(q, r, "dry_run", &dry) || !check_key(q, r, api_header(q, "idempotency-key")))
		return API_DONE;
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (!body)
		return API_DONE;
	cJSON *spec = spec_canon(body, c->engine.capabilities(c->engine.self), &faults);
	bool val_given = wasd_json_get(wasd_json_get(body, "data"), "val_fraction");
	cJSON_Delete(body);
	cJSON *warnings = NULL;
	if (!spec) {
		api_send_faults(q, r, &faults);
	} else if (take_profile(c, q, r, spec) && resolve_dataset(c, q, r, spec, val_given, &version, dataset, &warnings) &&
	           check_init(c, q, r, spec, dataset, version, dry)) {
		if (!dry) {
			create(c, q, r, spec, dataset, version, warnings);
		} else {
			api_send_json(r, 200, spec);
			spec = NULL;
		}
	}
	cJSON_Delete(warnings);
	cJSON_Delete(spec);
	return API_DONE;
}

/* ---- list and get ---- */

static bool states_ok(const struct api_request *q, struct api_response *r, const char *states)
{
	const char *const *known = storage_job_states();
	for (const char *s = states; s && *s; s += strcspn(s, ","), s += *s == ',') {
		size_t n = strcspn(s, ",");
		bool found = false;
		for (size_t i = 0; known[i]; i++)
			found |= strlen(known[i]) == n && !strncmp(known[i], s, n);
		if (found)
			continue;
		api_send_problem(q, r, "bad_parameter", "state", "query parameter state: \"%.*s\" is not a job state",
		                 n > 40 ? 40 : (int)n, s);
		return false;
	}
	return true;
}

/* label.k=v in the query: the job must have every such label. */
static bool labels_match(const struct api_request *q, const char *labels)
{
	bool ok = true;
	cJSON *have = NULL;
	for (size_t i = 0; ok && i < q->n_query; i++) {
		const char *v;
		if (strncmp(q->query[i].name, "label.", 6))
			continue;
		if (!have)
			have = api_parse_trusted(labels);
		ok = wasd_json_str(have, q->query[i].name + 6, &v) && !strcmp(v, q->query[i].value);
	}
	cJSON_Delete(have);
	return ok;
}

/* Reads pages from storage, at most this many, until `limit` jobs have the labels; the cursor continues from there. */
#define LABEL_ROUNDS 20

enum api_result api_jobs_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_page page;
	struct storage_job_filter f = {.states = api_query(q, "state"),
	                               .name = api_query(q, "name"),
	                               .queue = api_query(q, "queue"),
	                               .dataset = api_query(q, "dataset"),
	                               .contains = api_query(q, "q")};
	struct wasd_err err = {0};
	const char *fields = api_query(q, "fields");
	char *cursor = NULL;
	if (!api_query_page(q, r, &page) || !states_ok(q, r, f.states))
		return API_DONE;
	cJSON *items = cJSON_CreateArray();
	int want = page.limit, got = 0;
	for (int round = 0; items && got < want && round < LABEL_ROUNDS; round++) {
		struct storage_job_list l;
		page.limit = want - got;
		enum wasd_status st = storage_job_list(c->db, &f, page, &l, &err);
		wasd_free(cursor);
		cursor = NULL;
		if (!api_page_ok(q, r, st, &err)) {
			cJSON_Delete(items);
			return API_DONE;
		}
		for (size_t i = 0; i < l.n; i++) {
			if (!labels_match(q, l.items[i].labels))
				continue;
			cJSON *j = job_json(c, &l.items[i], false);
			if (fields)
				select_fields(j, fields);
			api_push(items, j);
			got++;
		}
		cursor = l.next_cursor ? wasd_strdup(l.next_cursor) : NULL;
		page.cursor = cursor;
		storage_job_list_done(&l);
		if (!cursor)
			break;
	}
	api_send_list(q, r, items, cursor);
	wasd_free(cursor);
	return API_DONE;
}

enum api_result api_jobs_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const ends[] = {"terminal", "change", NULL};
	struct storage_job job;
	int64_t wait;
	const char *until = ends[0], *have = api_header(q, "if-none-match");
	if (!api_query_wait(q, r, &wait) || !api_query_choice(q, r, "until", ends, &until) || !api_job_find(c, q, r, &job))
		return API_DONE;
	bool terminal = storage_job_terminal(job.state), again = false;
	send_job(c, q, r, 200, &job);
	if (!strcmp(until, "terminal")) {
		again = !terminal;
	} else {
		/* A change is any event of the job or, if the client sends an ETag, a difference from that ETag. */
		const char *etag = api_response_header(r, "ETag");
		again = !terminal && !q->waited && !(have && etag && !api_etag_listed(have, etag, false));
	}
	if (again)
		again = api_again(q, r, job.id, wait);
	storage_job_done(&job);
	return again ? API_AGAIN : API_DONE;
}

/* ---- change ---- */

/* Merge patch of the labels: null removes a label. */
static cJSON *patch_labels(const char *labels, const cJSON *patch)
{
	cJSON *j = api_parse_trusted(labels);
	const cJSON *m;
	if (!j)
		return NULL;
	cJSON_ArrayForEach(m, patch) {
		cJSON_DeleteItemFromObjectCaseSensitive(j, m->string);
		if (!cJSON_IsNull(m))
			api_add_take(j, m->string, cJSON_Duplicate(m, 1));
	}
	return j;
}

cJSON *api_labels_patch_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char at[256], shown[80];
	const cJSON *m;
	int before = c->faults->n;
	const struct wasd_field *text = f->sub;
	if (!cJSON_IsObject(v) || cJSON_GetArraySize(v) > 2 * f->max) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an object of strings and nulls, not %s", pointer,
		          shown);
		return NULL;
	}
	cJSON_ArrayForEach(m, v) {
		fields_pointer(at, pointer, m->string);
		if (*m->string && strlen(m->string) <= WASD_LABEL_MAX &&
		    (cJSON_IsNull(m) || (cJSON_IsString(m) && strlen(m->valuestring) <= text->max)))
			continue;
		fields_show(shown, m);
		api_fault(c->faults, "invalid_field", at,
		          "%.120s must be a string of at most %.0f bytes or null, with a name of 1 to %d bytes, not %s", at,
		          text->max, WASD_LABEL_MAX, shown);
	}
	return c->faults->n == before ? cJSON_Duplicate(v, 1) : NULL;
}

static const struct wasd_field fixed_fields[] = {
	{"queue", WASD_REFUSED, .summary = "there is one queue; a job cannot be moved"},
	{"limits", WASD_REFUSED, .summary = "limits are fixed when the job is submitted"},
	{"keep", WASD_REFUSED, .summary = "what is kept is fixed when the job is submitted; pin a checkpoint to keep it"},
};

/* The members of the spec that can be changed after submission; none has a default. */
static cJSON *patch_canon(struct field_ctx *c, const cJSON *v)
{
	static const struct {
		const char *path, *form;
	} open[] = {{"/name", NULL}, {"/labels", "labels patch"}, {"/note", NULL}, {"/priority", NULL}};
	struct wasd_field rows[API_LEN(open) + API_LEN(fixed_fields) + 1] = {{0}};
	for (size_t i = 0; i < API_LEN(open); i++) {
		rows[i] = *wasd_spec_at(open[i].path);
		rows[i].form = open[i].form;
		rows[i].def = NULL;
	}
	memcpy(rows + API_LEN(open), fixed_fields, sizeof fixed_fields);
	return fields_canon(c, "", rows, v);
}

enum api_result api_jobs_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_job job, changed = {0};
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	struct wasd_err err = {0};
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (!body || !api_job_find(c, q, r, &job)) {
		cJSON_Delete(body);
		return API_DONE;
	}
	cJSON *patch = patch_canon(&fc, body), *labels = NULL;
	char *labels_text = NULL;
	struct storage_job_patch p = {.priority = -1};
	if (!patch) {
		api_send_faults(q, r, &faults);
		goto done;
	}
	wasd_json_str(patch, "name", &p.name);
	wasd_json_str(patch, "note", &p.note);
	wasd_json_i64(patch, "priority", &p.priority);
	if (p.priority >= 0 && storage_job_terminal(job.state)) {
		api_send_problem(q, r, "conflict", "/priority",
		                 "/priority: job %s is %s; only name, labels and note can still change", job.id, job.state);
		goto done;
	}
	if (wasd_json_get(patch, "labels")) {
		labels = patch_labels(job.labels, wasd_json_get(patch, "labels"));
		double most = wasd_spec_at("/labels")->max;
		if (cJSON_GetArraySize(labels) > most) {
			api_send_problem(q, r, "invalid_field", "/labels", "/labels: a job has at most %.0f labels", most);
			goto done;
		}
		p.labels = labels_text = api_poisoned(labels) ? NULL : wasd_json_print(labels);
		if (!labels_text) {
			api_send_no_memory(r);
			goto done;
		}
	}
	if (storage_job_update(c->db, job.id, &p, q->actor, &changed, &err)) {
		api_send_error(q, r, &err);
	} else {
		if (p.priority >= 0)
			c->jobs.queued(c->jobs.self, job.id);
		send_job(c, q, r, 200, &changed);
	}
done:
	cJSON_Delete(body);
	cJSON_Delete(patch);
	cJSON_Delete(labels);
	wasd_free(labels_text);
	storage_job_done(&changed);
	storage_job_done(&job);
	return API_DONE;
}

enum api_result api_jobs_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_job job;
	struct wasd_err err = {0};
	if (!api_job_find(c, q, r, &job))
		return API_DONE;
	enum wasd_status st = WASD_OK;
	if (!storage_job_terminal(job.state)) {
		api_send_problem(q, r, "job_active", NULL, "job %s is %s; cancel it first", job.id, job.state);
	} else if ((st = storage_job_delete(c->db, job.id, q->actor, &err)) == WASD_ESTATE) {
		api_send_problem(q, r, "referenced", NULL, "job %s: %s", job.id, err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		r->status = 204;
	}
	storage_job_done(&job);
	return API_DONE;
}

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
		send_job(c, q, r, 200, &job);
	} else if (storage_job_terminal(job.state)) {
		send_refused_move(q, r, &job, "cancelled");
	} else {
		wasd_json_str(in, "mode", &mode);
		wasd_json_str(in, "reason", &reason);
		enum wasd_status st = c->jobs.cancel(c->jobs.self, job.id, !strcmp(mode, "kill"), reason, &err);
		struct wasd_err get_err = {0};
		if (storage_job_get(c->db, job.id, &now, &get_err))
			api_send_error(q, r, st ? &err : &get_err);
		else if (st == WASD_ESTATE && strcmp(now.state, "cancelled"))
			send_refused_move(q, r, &now, "cancelled");
		else if (st && st != WASD_ESTATE)
			api_send_error(q, r, &err);
		else
			send_job(c, q, r, storage_job_terminal(now.state) ? 200 : 202, &now);
	}
	cJSON_Delete(in);
	cJSON_Delete(body);
	storage_job_done(&now);
	storage_job_done(&job);
	return API_DONE;
}
