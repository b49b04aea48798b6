/* api/archives.c - archives of checkpoints and their views: begin, show, download, delete. The daemon makes them
 * (wasd/archive.h). */
#include "internal.h"
#include "wasd/archive.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the object ---- */

static void link_file(const cJSON *record, cJSON *links)
{
	const char *id = "", *state = "";
	char url[120];
	wasd_json_str(record, "id", &id);
	wasd_json_str(record, "state", &state);
	snprintf(url, sizeof url, "/v1/archives/%s/file", id);
	if (!strcmp(state, "ready"))
		api_add_str(links, "file", url);
}

static const char *const later[] = {"message", NULL};
static const struct record_kind archive_kind = {
	.name = "archive",
	.path = "/v1/archives",
	.fields = wasd_archive_fields,
	.later = later,
	.link = link_file,
};

/* ---- which checkpoints ---- */

/* How many names of jobs or sweeps; a sweep may have many checkpoints. */
enum { NAMES_MAX = 100 };

struct choice {
	struct api_ctx *c;
	const struct api_request *q;
	struct api_response *r; /* has the answer if something failed */
	const char *which;      /* "all", "best" or "latest" */
	cJSON *ids;
	int n;
};

static bool add_id(struct choice *o, const char *id)
{
	const cJSON *there;
	cJSON_ArrayForEach(there, o->ids)
		if (cJSON_IsString(there) && !strcmp(there->valuestring, id))
			return true;
	if (++o->n > WASD_ARCHIVE_MAX) {
		api_send_problem(
			o->q, o->r, "invalid_field", "/checkpoints",
			"/checkpoints: an archive has at most %d checkpoints; choose fewer jobs, or \"which\":\"best\"",
			WASD_ARCHIVE_MAX);
		return false;
	}
	api_push(o->ids, cJSON_CreateString(id));
	return true;
}

static bool add_all(struct choice *o, const char *job)
{
	struct storage_ckpt_list l = {0};
	struct wasd_err err = {0};
	bool ok = !storage_ckpt_list(o->c->db, job, &l, &err);
	if (!ok)
		api_send_error(o->q, o->r, &err);
	for (size_t i = l.n; i-- > 0 && ok;) /* the list begins with the newest */
		ok = l.items[i].corrupt || add_id(o, l.items[i].id);
	storage_ckpt_list_done(&l);
	return ok;
}

/* Those of a job; there may be none. */
static bool add_job(struct choice *o, const char *job)
{
	struct storage_ckpt k = {0};
	struct wasd_err err = {0};
	if (!strcmp(o->which, "all"))
		return add_all(o, job);
	enum wasd_status st = storage_ckpt_pick(o->c->db, job, o->which, &k, &err);
	if (st && st != WASD_ENOTFOUND)
		api_send_error(o->q, o->r, &err);
	bool ok = st ? st == WASD_ENOTFOUND : add_id(o, k.id);
	storage_ckpt_done(&k);
	return ok;
}

static bool unknown(struct choice *o, enum wasd_status st, const struct wasd_err *err, const char *at, const char *kind,
                    const char *id)
{
	if (st == WASD_ENOTFOUND)
		api_send_problem(o->q, o->r, "invalid_field", at, "%s: there is no %s %.60s", at, kind, id);
	else if (st)
		api_send_error(o->q, o->r, err);
	return st != WASD_OK;
}

static bool take_checkpoint(struct choice *o, const char *at, const char *id)
{
	struct storage_ckpt k = {0};
	bool ok = api_ckpt_named(o->c, o->q, o->r, at, id, &k) && add_id(o, k.id);
	storage_ckpt_done(&k);
	return ok;
}

static bool take_job(struct choice *o, const char *at, const char *id)
{
	struct storage_job job = {0};
	struct wasd_err err = {0};
	if (unknown(o, storage_job_get(o->c->db, id, &job, &err), &err, at, "job", id))
		return false;
	bool ok = add_job(o, job.id);
	storage_job_done(&job);
	return ok;
}

static int by_number(const void *a, const void *b)
{
	const struct storage_trial *x = a, *y = b;
	return (x->number > y->number) - (x->number < y->number);
}

static bool take_sweep(struct choice *o, const char *at, const char *id)
{
	struct storage_sweep w = {0};
	struct storage_trial_list l = {0};
	struct wasd_err err = {0};
	if (unknown(o, storage_sweep_get(o->c->db, id, &w, &err), &err, at, "sweep", id))
		return false;
	enum wasd_status st = storage_trial_list(o->c->db, &w, &l, &err);
	bool ok = !st;
	if (st)
		api_send_error(o->q, o->r, &err);
	if (ok)
		qsort(l.items, l.n, sizeof *l.items, by_number);
	for (size_t i = 0; i < l.n && ok; i++)
		ok = !l.items[i].job || add_job(o, l.items[i].job);
	storage_trial_list_done(&l);
	storage_sweep_done(&w);
	return ok;
}

static const struct kind {
	const char *name;
	bool (*take)(struct choice *o, const char *at, const char *id);
} kinds[] = {{"checkpoints", take_checkpoint}, {"jobs", take_job}, {"sweeps", take_sweep}};

static bool take_kind(struct choice *o, const struct kind *kind, const cJSON *list)
{
	const cJSON *id;
	char at[40];
	int i = 0;
	cJSON_ArrayForEach(id, list) {
		snprintf(at, sizeof at, "/%s/%d", kind->name, i++);
		if (!cJSON_IsString(id)) {
			api_send_problem(o->q, o->r, "invalid_field", at, "%s must be an id", at);
			return false;
		}
		if (!kind->take(o, at, id->valuestring))
			return false;
	}
	return true;
}

/* The ids of all that the body names, each once. NULL: the answer is in r. */
static cJSON *choose(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *in)
{
	struct choice o = {.c = c, .q = q, .r = r, .which = "all", .ids = cJSON_CreateArray()};
	bool ok = o.ids;
	if (!ok)
		api_send_no_memory(r);
	wasd_json_str(in, "which", &o.which);
	for (size_t i = 0; i < API_LEN(kinds) && ok; i++)
		ok = take_kind(&o, &kinds[i], wasd_json_get(in, kinds[i].name));
	if (ok && !o.n) {
		api_send_problem(q, r, "invalid_field", "/checkpoints",
		                 "/checkpoints: name checkpoints, or jobs or sweeps that have some");
		ok = false;
	}
	if (ok)
		return o.ids;
	cJSON_Delete(o.ids);
	return NULL;
}

/* ---- asking ---- */

static cJSON *read_request(const struct api_request *q, struct api_response *r)
{
	static const char *const which[] = {"all", "best", "latest", NULL};
	struct wasd_field rows[10] = {
		{"checkpoints", WASD_LIST, NULL, 1, WASD_ARCHIVE_MAX, .items = "checkpoints"},
		{"jobs", WASD_LIST, NULL, 1, NAMES_MAX, .items = "jobs"},
		{"sweeps", WASD_LIST, NULL, 1, NAMES_MAX, .items = "sweeps"},
		{"which", WASD_CHOICE, "\"all\"", .choices = which},
	};
	size_t n = 4;
	for (const struct wasd_field *f = wasd_archive_fields; f->name; f++) {
		assert(n + 1 < API_LEN(rows));
		rows[n++] = *f;
	}
	return api_body_fields(q, r, rows, NULL, false);
}

enum api_result api_archives_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_archive_how how;
	struct wasd_err err = {0};
	cJSON *in = read_request(q, r), *ids = in ? choose(c, q, r, in) : NULL;
	if (ids && wasd_archive_read(in, cJSON_GetArraySize(ids), &how, &err)) {
		api_send_problem(q, r, "invalid_field", err.pointer, "%s", err.msg);
		cJSON_Delete(ids);
	} else if (ids) {
		api_record_begin(&archive_kind, &c->archives, c, q, r, api_record_make(&archive_kind, q, in, ids));
	}
	cJSON_Delete(in);
	return API_DONE;
}

/* ---- the rest ---- */

enum api_result api_archives_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_record_list(&archive_kind, &c->archives, q, r);
}

enum api_result api_archives_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_record_get(&archive_kind, &c->archives, q, r);
}

enum api_result api_archives_file(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	struct api_file f;
	char id[128];
	api_param(q, "id", id);
	enum wasd_status st = c->archives.open(c->archives.self, id, &f, &err);
	if (st == WASD_ESTATE) {
		api_send_problem(q, r, "conflict", NULL, "%s", err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else if (!api_send_file(r, &f)) {
		api_send_no_memory(r);
	} else {
		r->status = 200;
		r->content_type = "application/x-tar";
		api_set_header(r, "Content-Disposition", "attachment; filename=\"%s.tar\"", id);
		api_set_header(r, "Cache-Control", "private, max-age=0");
	}
	return API_DONE;
}

enum api_result api_archives_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return api_record_delete(&archive_kind, &c->archives, c, q, r);
}
