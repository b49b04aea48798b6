/* api/jobs.c - jobs: list, show, change, delete. See also job_submit.c and job_actions.c.
 *
 * A job object is its spec (members at the top level, every default written out) plus its state and results. Its
 * ETag is "REVISION.DIGEST": the digest covers all members, progress included, and serves If-None-Match; If-Match
 * compares only the revision, so that a running job's progress does not make an edit stale. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

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

static cJSON *time_json(int64_t unix_ms)
{
	char text[WASD_RFC3339_LEN];
	wasd_rfc3339(unix_ms, text);
	return cJSON_CreateString(text);
}

static cJSON *keep_json(const struct storage_job *s)
{
	cJSON *j = cJSON_CreateObject();
	api_add_int(j, "best", s->keep_best);
	api_add_int(j, "latest", s->keep_latest);
	api_add_str(j, "metric", s->keep_metric);
	api_add_str(j, "mode", s->keep_max ? "max" : "min");
	return j;
}

void api_job_as_now(cJSON *j, const struct storage_job *s)
{
	cJSON *limits = cJSON_GetObjectItemCaseSensitive(j, "limits"),
		  *checkpoint = cJSON_GetObjectItemCaseSensitive(j, "checkpoint");
	api_put(j, "name", cJSON_CreateString(s->name ? s->name : ""));
	api_put(j, "labels", api_parse_trusted(s->labels));
	api_put(j, "note", cJSON_CreateString(s->note ? s->note : ""));
	api_put(j, "priority", cJSON_CreateNumber((double)s->priority));
	api_put(j, "queue", cJSON_CreateString(s->queue));
	if (limits)
		api_put(limits, "max_wall_s", cJSON_CreateNumber((double)s->max_wall_s));
	if (checkpoint && s->keep_metric)
		api_put(checkpoint, "keep", keep_json(s));
}

/* What a member costs beyond the row. */
enum { SPEC = 1, LIVE = 2, ATTEMPTS = 4, LATEST = 8, BEST = 16, WARNINGS = 32, ALL = 63 };
static const struct {
	const char *name;
	int parts;
} members[] = {
	{"id", 0},
	{"name", 0},
	{"state", 0},
	{"reason", 0},
	{"message", 0},
	{"labels", 0},
	{"note", 0},
	{"priority", 0},
	{"queue", LIVE},
	{"deadline", 0},
	{"progress", LIVE},
	{"attempt", LIVE},
	{"attempts", ATTEMPTS},
	{"metrics_latest", LATEST},
	{"best", BEST},
	{"warnings", WARNINGS},
	{"spec_digest", 0},
	{"dataset_digest", 0},
	{"build", 0},
	{"created_by", 0},
	{"cloned_from", 0},
	{"sweep", 0},
	{"trial", 0},
	{"created_at", 0},
	{"started_at", 0},
	{"finished_at", 0},
	{"updated_at", 0},
	{"links", 0},
};

/* What the members in a comma-separated list cost; NULL: all members. Those without a row above are of the spec, or of
 * what runs now. */
static int parts_of(const char *fields)
{
	int parts = fields ? 0 : ALL;
	for (const char *s = fields; s && *s; s += strcspn(s, ","), s += *s == ',') {
		size_t n = strcspn(s, ","), i = 0;
		while (i < API_LEN(members) && (strlen(members[i].name) != n || strncmp(s, members[i].name, n)))
			i++;
		parts |= i < API_LEN(members) ? members[i].parts : SPEC | LIVE;
	}
	return parts;
}

/* fields: only these members are needed; NULL: all. */
static cJSON *job_json(struct api_ctx *c, const struct storage_job *s, bool full, const char *fields)
{
	const int parts = parts_of(fields);
	cJSON *j = cJSON_CreateObject();
	if (!j)
		return NULL;
	api_add_str(j, "id", s->id);
	api_add_str(j, "state", s->state);
	api_add_str(j, "reason", s->reason);
	api_add_str(j, "message", s->message);
	cJSON *spec = parts & SPEC ? api_parse_trusted(s->spec) : NULL;
	if (!spec && parts & SPEC)
		api_poison(j);
	api_merge_take(j, spec);
	api_job_as_now(j, s);
	if (wasd_json_get(j, "on_complete"))
		api_put(j, "on_complete", api_on_complete_json(wasd_json_get(j, "on_complete"), s));
	api_put(j, "deadline", s->deadline ? time_json(s->deadline) : cJSON_CreateNull());
	api_add_take(j, "progress", s->progress ? api_parse_trusted(s->progress) : cJSON_CreateObject());
	api_add_int(j, "attempt", s->attempt);
	if (full && parts & ATTEMPTS)
		api_add_take(j, "attempts", attempts_json(c, s->id));
	if (!full)
		cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(j, "model"),
		                                        "layers"); /* the full job object has them */
	if (parts & LATEST)
		api_add_take(j, "metrics_latest", latest_json(c, s->id));
	if (parts & BEST)
		api_add_take(j, "best", best_json(c, s));
	if (parts & WARNINGS)
		api_add_take(j, "warnings", warnings_json(c, s->id));
	api_add_str(j, "spec_digest", s->spec_digest);
	api_add_str(j, "dataset_digest", s->dataset_digest);
	api_add_raw(j, "build", s->build);
	api_add_str(j, "created_by", s->created_by);
	api_add_str(j, "cloned_from", s->cloned_from);
	api_add_str(j, "sweep", s->sweep);
	api_add_maybe(j, "trial", s->trial, (double)s->trial);
	api_add_time(j, "created_at", s->created_at);
	api_add_time(j, "started_at", s->started_at);
	api_add_time(j, "finished_at", s->finished_at);
	api_add_time(j, "updated_at", s->updated_at);
	api_add_take(j, "links", links_json(s->id));
	if (parts & LIVE && !storage_job_terminal(s->state))
		api_merge_take(j, live_json(c, s->id));
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

void api_send_job(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                  const struct storage_job *s)
{
	const char *fields = api_query(q, "fields");
	cJSON *j = job_json(c, s, true, fields);
	if (fields)
		select_fields(j, fields);
	api_send_json(r, status, j);
	if (r->status != status)
		return;
	char hex[WASD_SHA256_HEX];
	wasd_sha256_of(r->body.data, r->body.len, hex);
	api_set_header(r, "ETag", "\"%lld.%.16s\"", (long long)s->rev, hex);
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
	                               .contains = api_query(q, "q"),
	                               .sweep = api_query(q, "sweep")};
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
			cJSON *j = job_json(c, &l.items[i], false, fields);
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
	api_send_job(c, q, r, 200, &job);
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

/* A row of the spec without its default. */
static struct wasd_field open_row(const char *path)
{
	struct wasd_field row = *wasd_spec_at(path);
	row.def = NULL;
	return row;
}

/* The members of the spec that can be changed after submission; none has a default. */
static cJSON *patch_canon(struct field_ctx *c, const cJSON *v)
{
	static const char *const open[] = {"/name", "/labels", "/note", "/priority", "/queue", "/deadline"};
	struct wasd_field rows[API_LEN(open) + 3] = {{0}}, limits[16] = {{0}}, keep[8] = {{0}};
	size_t n = 0;
	for (; n < API_LEN(open); n++) {
		rows[n] = open_row(open[n]);
		rows[n].form = !strcmp(open[n], "/labels")   ? "labels patch" :
		               !strcmp(open[n], "/deadline") ? rows[n].form :
		                                               NULL;
	}
	const struct wasd_field *f = wasd_spec_at("/limits")->sub;
	for (size_t i = 0; f[i].name && i + 1 < API_LEN(limits); i++) {
		limits[i] = f[i];
		limits[i].def = NULL;
		if (strcmp(f[i].name, "max_wall_s")) {
			limits[i].type = WASD_REFUSED;
			limits[i].summary = "it is fixed when the job is submitted";
		}
	}
	f = wasd_spec_at("/checkpoint/keep")->sub;
	for (size_t i = 0; f[i].name && i + 1 < API_LEN(keep); i++) {
		keep[i] = f[i];
		keep[i].def = NULL;
	}
	rows[n++] = (struct wasd_field){"limits", WASD_OBJECT, .sub = limits};
	rows[n++] = (struct wasd_field){"keep", WASD_OBJECT, .sub = keep};
	return fields_canon(c, "", rows, v);
}

/* What the job keeps after the patch, in which out->metric may lie. False: the answer is in r. */
static bool patch_keep(const struct api_request *q, struct api_response *r, const struct storage_job *job,
                       const cJSON *patch, struct storage_keep *out)
{
	struct api_faults faults = {0};
	const char *mode = NULL;
	*out = (struct storage_keep){job->keep_best, job->keep_latest, job->keep_metric, job->keep_max != 0};
	wasd_json_i64(patch, "best", &out->best);
	wasd_json_i64(patch, "latest", &out->latest);
	if (wasd_json_str(patch, "metric", &out->metric))
		out->max = !wasd_metric_find(out->metric)->less;
	if (wasd_json_str(patch, "mode", &mode))
		out->max = !strcmp(mode, "max");
	cJSON *spec = api_parse_trusted(job->spec);
	spec_check_metric(spec, "/keep/metric", patch, &faults);
	cJSON_Delete(spec);
	bool ok = !faults.n && !faults.no_memory;
	if (!ok)
		api_send_faults(q, r, &faults);
	return ok;
}

/* The labels after the patch as text (wasd_free); NULL: the answer is in r. */
static char *patched_labels(const struct api_request *q, struct api_response *r, const struct storage_job *job,
                            const cJSON *patch)
{
	cJSON *labels = patch_labels(job->labels, patch);
	double most = wasd_spec_at("/labels")->max;
	bool many = cJSON_GetArraySize(labels) > most;
	char *text = many || api_poisoned(labels) ? NULL : wasd_json_print(labels);
	if (many)
		api_send_problem(q, r, "invalid_field", "/labels", "/labels: a job has at most %.0f labels", most);
	else if (!text)
		api_send_no_memory(r);
	cJSON_Delete(labels);
	return text;
}

/* Reads a canonical patch, and checks it against the job. False: the answer is in r. */
static bool read_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                       const struct storage_job *job, const cJSON *patch, struct storage_job_patch *p)
{
	const cJSON *keep = wasd_json_get(patch, "keep"), *deadline = wasd_json_get(patch, "deadline");
	wasd_json_str(patch, "name", &p->name);
	wasd_json_str(patch, "note", &p->note);
	wasd_json_str(patch, "queue", &p->queue);
	wasd_json_i64(patch, "priority", &p->priority);
	p->set_max_wall_s = wasd_json_i64(wasd_json_get(patch, "limits"), "max_wall_s", &p->max_wall_s);
	p->set_keep = keep != NULL;
	p->set_deadline = deadline != NULL;
	p->deadline = storage_deadline_ms(deadline);
	const char *late = p->priority >= 0  ? "/priority" :
	                   p->queue          ? "/queue" :
	                   p->set_max_wall_s ? "/limits/max_wall_s" :
	                   p->set_keep       ? "/keep" :
	                                       NULL;
	if (late && storage_job_terminal(job->state)) {
		api_send_problem(q, r, "conflict", late, "%s: job %s is %s; only name, labels and note can still change", late,
		                 job->id, job->state);
		return false;
	}
	if (deadline && !strcmp(job->state, "completed")) {
		api_send_problem(q, r, "conflict", "/deadline", "/deadline: job %s is %s", job->id, job->state);
		return false;
	}
	return (!deadline || api_deadline_ok(q, r, p->deadline)) && (!keep || patch_keep(q, r, job, keep, &p->keep)) &&
	       (!p->queue || api_queue_there(c, q, r, p->queue));
}

static void update(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *id,
                   const struct storage_job_patch *p)
{
	struct storage_job changed = {0};
	struct wasd_err err = {0};
	if (storage_job_update(c->db, id, p, q->actor, &changed, &err)) {
		api_send_error(q, r, &err);
		return;
	}
	if (p->priority >= 0 || p->queue || p->set_max_wall_s || p->set_deadline)
		c->jobs.queued(c->jobs.self, id);
	api_send_job(c, q, r, 200, &changed);
	storage_job_done(&changed);
}

enum api_result api_jobs_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_job job;
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	struct storage_job_patch p = {.priority = -1};
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (!body || !api_job_find(c, q, r, &job)) {
		cJSON_Delete(body);
		return API_DONE;
	}
	cJSON *patch = patch_canon(&fc, body);
	const cJSON *labels = wasd_json_get(patch, "labels");
	char *text = NULL;
	if (!patch) {
		api_send_faults(q, r, &faults);
	} else if (read_patch(c, q, r, &job, patch, &p) && (!labels || (text = patched_labels(q, r, &job, labels)))) {
		p.labels = text;
		update(c, q, r, job.id, &p);
	}
	wasd_free(text);
	cJSON_Delete(body);
	cJSON_Delete(patch);
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
