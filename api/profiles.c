/* api/profiles.c - profiles of a checkpoint: request (profile_request.c), show, delete. The daemon runs the
 * searches. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the object ---- */

/* Copies the named members of an object into another; null for absent ones. */
static void copy_members(cJSON *to, const cJSON *from, const char *const *names)
{
	for (; *names; names++) {
		const cJSON *v = wasd_json_get(from, *names);
		api_add_take(to, *names, v ? cJSON_Duplicate(v, 1) : cJSON_CreateNull());
	}
}

void api_add_progress(struct api_ctx *c, cJSON *j, const struct storage_profile *p)
{
	int64_t done = 0, of = 0;
	double eta_s = -1;
	cJSON *progress = cJSON_CreateObject();
	c->profiles.progress(c->profiles.self, p->id, &done, &of, &eta_s);
	api_add_int(progress, "done", done);
	api_add_int(progress, "of", of);
	api_add_maybe(progress, "eta_s", eta_s >= 0, eta_s);
	api_add_take(j, "progress", progress);
}

static cJSON *profile_json(struct api_ctx *c, const struct storage_profile *p)
{
	static const char *const found[] = {"macs",           "macs_share",      "val_acc",    "val_loss",
	                                    "images_per_s_1", "images_per_s_64", "latency_us", NULL};
	static const char *const budget[] = {"budget", NULL}, *const budget_us[] = {"budget_us", NULL},
							 *const evaluations[] = {"evaluations", NULL}, *const draw[] = {"draw", NULL};
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *dataset = cJSON_CreateObject();
	cJSON *request = api_parse_trusted(p->request), *info = p->info ? api_parse_trusted(p->info) : NULL;
	char url[240];
	if (!request || (p->info && !info))
		api_poison(j);
	api_add_str(j, "id", p->id);
	api_add_str(j, "name", p->name);
	api_add_str(j, "checkpoint", p->checkpoint);
	api_add_str(j, "state", p->state);
	api_add_str(j, "desire", p->desire);
	if (!strcmp(p->desire, "macs"))
		copy_members(j, request, budget);
	if (!strcmp(p->desire, "latency"))
		copy_members(j, request, budget_us);
	if (!strcmp(p->state, "searching"))
		api_add_progress(c, j, p);
	copy_members(j, info, found);
	copy_members(j, info ? info : request, evaluations);
	copy_members(j, info ? info : request, draw);
	api_add_str(dataset, "name", p->dataset);
	api_add_int(dataset, "version", p->dataset_version);
	api_add_take(j, "dataset", dataset);
	api_add_str(j, "message", p->message);
	api_add_time(j, "created_at", p->created_at);
	api_add_time(j, "finished_at", p->finished_at);
	snprintf(url, sizeof url, "/v1/checkpoints/%s/profiles/%s", p->checkpoint, p->name);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", p->checkpoint);
	api_add_str(links, "checkpoint", url);
	api_add_take(j, "links", links);
	cJSON_Delete(info);
	cJSON_Delete(request);
	return j;
}

/* ---- asking ---- */

static void send_one(struct api_ctx *c, struct api_response *r, int status, const struct storage_profile *p)
{
	api_send_json(r, status, profile_json(c, p));
}

/* An imported checkpoint has no job with a law to check: its search reports what the request alone does not show. */
static bool possible(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                     const struct storage_ckpt *k, const cJSON *in)
{
	struct storage_job job = {0};
	if (k->job && storage_job_get(c->db, k->job, &job, NULL))
		return true;
	bool ok = api_profile_check(c, q, r, job.spec, k->info, in);
	storage_job_done(&job);
	return ok;
}

bool api_mode_begin(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                    const struct storage_ckpt *k, const cJSON *in, const char *kind, const char *mode,
                    struct storage_profile *out)
{
	struct storage_dataset d;
	struct wasd_err err = {0};
	bool existing = false;
	struct storage_profile_in row = {.checkpoint = k->id, .kind = kind, .actor = q->actor};
	if (!api_dataset_of(c, q, r, k, in, &d))
		return false;
	if (kind && !possible(c, q, r, k, in)) {
		storage_dataset_done(&d);
		return false;
	}
	char *request = api_profile_request(in);
	row.request = request;
	row.dataset = d.name;
	row.dataset_version = d.version;
	row.name = mode;
	wasd_json_str(in, "desire", &row.desire);
	enum wasd_status st = request ? storage_profile_begin(c->db, &row, out, &existing, &err) :
	                                wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (st == WASD_EEXIST && !kind) {
		api_send_problem(
			q, r, "conflict", "/dataset",
			"/dataset: the modes of checkpoint %s are being measured already, on another data set; wait for it, or DELETE /v1/checkpoints/%s/modes:measure",
			k->id, k->id);
	} else if (st == WASD_EEXIST) {
		api_send_problem(q, r, "name_taken", "/name", "/name: %s", err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		if (!existing)
			c->profiles.queued(c->profiles.self, out->id);
		r->status = existing ? 200 : 202;
	}
	wasd_free(request);
	storage_dataset_done(&d);
	return !st;
}

static void begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct storage_ckpt *k,
                  const cJSON *in)
{
	struct storage_profile p;
	const char *name = "";
	char mode[WASD_MODE_LEN];
	wasd_json_str(in, "name", &name);
	wasd_mode_join(WASD_FAMILY_DRAW, name, mode);
	if (!api_mode_begin(c, q, r, k, in, "draw", mode, &p))
		return;
	send_one(c, r, r->status, &p);
	api_set_header(r, "Location", "/v1/checkpoints/%s/profiles/%s", p.checkpoint, p.name);
	storage_profile_done(&p);
}

enum api_result api_profiles_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	struct storage_ckpt k;
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (!body)
		return API_DONE;
	if (!api_ckpt_find(c, q, r, &k)) {
		cJSON_Delete(body);
		return API_DONE;
	}
	cJSON *in = api_profile_canon(&fc, "", body);
	if (!in)
		api_send_faults(q, r, &faults);
	else if (k.corrupt)
		api_send_problem(q, r, "corrupt", NULL, "checkpoint %s fails its checksum", k.id);
	else
		begin(c, q, r, &k, in);
	cJSON_Delete(in);
	cJSON_Delete(body);
	storage_ckpt_done(&k);
	return API_DONE;
}

/* ---- the rest ---- */

static bool is_profile(const struct storage_profile *p)
{
	char mode[WASD_MODE_LEN];
	wasd_mode_join(WASD_FAMILY_DRAW, p->name, mode);
	return !strcmp(p->mode, mode);
}

/* In addition to the profiles: what the checkpoint does without a profile, as measured by the newest search. */
enum api_result api_profiles_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_ckpt k;
	struct storage_profile_list l;
	struct wasd_err err = {0};
	int64_t newest = 0;
	cJSON *aom = NULL;
	if (!api_ckpt_find(c, q, r, &k))
		return API_DONE;
	if (storage_profile_list(c->db, k.id, NULL, &l, &err)) {
		api_send_error(q, r, &err);
		storage_ckpt_done(&k);
		return API_DONE;
	}
	cJSON *j = cJSON_CreateObject(), *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		const struct storage_profile *p = &l.items[i];
		if (!is_profile(p))
			continue;
		api_push(items, profile_json(c, p));
		if (!p->info || p->finished_at <= newest)
			continue;
		cJSON *info = api_parse_trusted(p->info);
		newest = p->finished_at;
		cJSON_Delete(aom);
		aom = cJSON_DetachItemFromObjectCaseSensitive(info, "aom");
		cJSON_Delete(info);
	}
	api_add_take(j, "items", items);
	api_add_str(j, "next_cursor", NULL);
	api_add_take(j, "aom", aom ? aom : cJSON_CreateNull());
	api_send_json(r, 200, j);
	storage_profile_list_done(&l);
	storage_ckpt_done(&k);
	return API_DONE;
}

enum api_result api_profiles_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_profile p;
	int64_t wait;
	if (!api_query_wait(q, r, &wait) || !api_profile_find(c, q, r, &p))
		return API_DONE;
	bool settled = !strcmp(p.state, "ready") || !strcmp(p.state, "failed"),
		 again = !settled && api_again(q, r, p.checkpoint, wait);
	if (!again)
		send_one(c, r, 200, &p);
	storage_profile_done(&p);
	return again ? API_AGAIN : API_DONE;
}

void api_mode_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                     const struct storage_profile *p)
{
	struct wasd_err err = {0};
	enum wasd_status st = storage_profile_delete(c->db, p->checkpoint, p->id, q->actor, &err);
	if (st == WASD_ESTATE) {
		api_send_problem(q, r, "referenced", NULL, "%s", err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		c->profiles.gone(c->profiles.self, p->checkpoint, p->id);
		r->status = 204;
	}
}

enum api_result api_profiles_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_profile p;
	if (!api_profile_find(c, q, r, &p))
		return API_DONE;
	api_mode_delete(c, q, r, &p);
	storage_profile_done(&p);
	return API_DONE;
}
