/* api/profiles.c - profiles of a checkpoint: asked for by what a user desires, looked at, deleted. The draws are
 * searched by the daemon. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- what can be asked for ---- */

/* Its items are the engine's to judge. */
static cJSON *draw_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	return array_canon(c, pointer, v, 1, 1000, "transforms, one for each augmented layer");
}

static cJSON *profile_name_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsString(v) && storage_profile_name_ok(v->valuestring))
		return cJSON_CreateString(v->valuestring);
	fields_show(shown, v);
	api_fault(
		c->faults, "invalid_field", pointer,
		"%s must be a name: 1 to 63 of a-z 0-9 . _ - beginning with a letter or digit, and not that of a mode; it is %s",
		pointer, shown);
	return NULL;
}

static const char *const desires[] = {"macs", "latency", "draw", NULL};
#define REQUEST_FIELDS \
	{"name", FIELD_OTHER, "", .canon = profile_name_canon}, {"desire", FIELD_CHOICE, "", .choices = desires}, \
		{"budget", FIELD_NUM, "", RANGE(0, 1), .above_min = true}, {"budget_us", FIELD_INT, "", RANGE(1, 1e9)}, \
		{"draw", FIELD_OTHER, "", .canon = draw_canon}, \
	{ \
		"evaluations", FIELD_INT, "", RANGE(1, 5000) \
	}
static const struct field body_fields[] = {REQUEST_FIELDS,
                                           {"dataset", FIELD_OTHER, "", .canon = api_dataset_canon},
                                           {0}};
static const struct field job_fields[] = {
	REQUEST_FIELDS,
	{"dataset", FIELD_UNSUPPORTED, "", .what = "the profiles of a job are judged on its own data set"},
	{0},
};

/* Every desire has a member that says how much, and those of the others have no place beside it. */
static void check_members(struct field_ctx *c, const char *base, const cJSON *in, const char *desire)
{
	static const struct {
		const char *member, *of;
	} rows[] = {{"budget", "macs"}, {"budget_us", "latency"}, {"draw", "draw"}};
	char at[256];
	for (size_t i = 0; i < API_LEN(rows); i++) {
		bool there = wasd_json_get(in, rows[i].member) != NULL, wanted = !strcmp(desire, rows[i].of);
		fields_pointer(at, base, rows[i].member);
		if (wanted && !there)
			api_fault(c->faults, "invalid_field", at, "%s is missing: desire \"%s\" needs it", at, desire);
		if (!wanted && there)
			api_fault(c->faults, "invalid_field", at, "%s does not go with desire \"%s\"", at, desire);
	}
	fields_pointer(at, base, "evaluations");
	if (!strcmp(desire, "draw") && wasd_json_get(in, "evaluations"))
		api_fault(c->faults, "invalid_field", at, "%s: a given draw is not searched for", at);
}

/* "macs-70", "latency-900us", "draw-1f2e3d4c": the same request always has the same name. */
static void default_name(const cJSON *in, const char *desire, char out[64])
{
	double x = 0;
	char *text, hex[WASD_SHA256_HEX] = "";
	if (wasd_json_num(in, "budget", &x)) {
		snprintf(out, 64, "%s-%.6g", desire, x * 100);
	} else if (wasd_json_num(in, "budget_us", &x)) {
		snprintf(out, 64, "%s-%.0fus", desire, x);
	} else {
		text = wasd_json_print(wasd_json_get(in, "draw"));
		if (text)
			wasd_sha256_of(text, strlen(text), hex);
		snprintf(out, 64, "%s-%.8s", desire, hex);
		wasd_free(text);
	}
}

static cJSON *request_canon(struct field_ctx *c, const char *base, const struct field *fields, const cJSON *v)
{
	char at[256], shown[80], name[64];
	const char *desire = NULL;
	int before = c->faults->n;
	if (!cJSON_IsObject(v)) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", base, "%s must be an object, not %s", base, shown);
		return NULL;
	}
	cJSON *in = fields_canon(c, base, fields, v);
	if (!in)
		return NULL;
	if (!wasd_json_str(in, "desire", &desire) && wasd_json_get(in, "draw"))
		api_add_str(in, "desire", "draw");
	if (wasd_json_str(in, "desire", &desire)) {
		check_members(c, base, in, desire);
	} else {
		fields_pointer(at, base, "desire");
		api_fault(c->faults, "invalid_field", at,
		          "%s is missing: \"macs\" with a budget, or \"latency\" with a budget_us; a draw goes without", at);
	}
	if (c->faults->n == before && !wasd_json_get(in, "name")) {
		default_name(in, desire, name);
		api_add_str(in, "name", name);
	}
	if (api_poisoned(in))
		c->faults->no_memory = true;
	if (c->faults->n == before && !c->faults->no_memory)
		return in;
	cJSON_Delete(in);
	return NULL;
}

cJSON *api_profiles_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	char at[256], shown[80];
	const char *name = "", *other;
	int n = cJSON_GetArraySize(v), before = c->faults->n, i = 0;
	if (!cJSON_IsArray(v) || n > API_JOB_PROFILES_MAX) {
		fields_show(shown, v);
		api_fault(c->faults, "invalid_field", pointer, "%s must be an array of at most %d profiles, not %s%s", pointer,
		          API_JOB_PROFILES_MAX, shown, cJSON_IsArray(v) ? " of more" : "");
		return NULL;
	}
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, v) {
		snprintf(at, sizeof at, "%s/%d", pointer, i++);
		cJSON *canon = request_canon(c, at, job_fields, one);
		if (!canon)
			continue;
		wasd_json_str(canon, "name", &name);
		for (const cJSON *have = out ? out->child : NULL; have; have = have->next) {
			if (!wasd_json_str(have, "name", &other) || strcmp(name, other))
				continue;
			strcat(at, "/name");
			api_fault(c->faults, "invalid_field", at, "%s: two profiles are called %s", at, name);
			break;
		}
		api_push(out, canon);
	}
	if (c->faults->n == before && out && !c->faults->no_memory)
		return out;
	cJSON_Delete(out);
	return NULL;
}

char *api_profile_request(const cJSON *item)
{
	cJSON *request = cJSON_Duplicate(item, 1);
	cJSON_DeleteItemFromObjectCaseSensitive(request, "name");
	cJSON_DeleteItemFromObjectCaseSensitive(request, "dataset");
	/* In one order, however it was asked. */
	cJSON *desire = cJSON_DetachItemFromObjectCaseSensitive(request, "desire");
	if (desire && !cJSON_InsertItemInArray(request, 0, desire))
		cJSON_Delete(desire);
	char *text = request ? wasd_json_print(request) : NULL;
	cJSON_Delete(request);
	return text;
}

/* ---- the object ---- */

/* {"name": value} members of one object in another, null where they are not there. */
static void copy_members(cJSON *to, const cJSON *from, const char *const *names)
{
	for (; *names; names++) {
		const cJSON *v = wasd_json_get(from, *names);
		api_add_take(to, *names, v ? cJSON_Duplicate(v, 1) : cJSON_CreateNull());
	}
}

static cJSON *profile_json(struct api_ctx *c, const struct storage_profile *p)
{
	static const char *const found[] = {"macs",           "macs_share",      "val_acc",    "val_loss",
	                                    "images_per_s_1", "images_per_s_64", "latency_us", NULL};
	static const char *const budget[] = {"budget", NULL}, *const budget_us[] = {"budget_us", NULL},
							 *const evaluations[] = {"evaluations", NULL}, *const draw[] = {"draw", NULL};
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *dataset = cJSON_CreateObject();
	cJSON *request = api_parse_trusted(p->request), *info = p->info ? api_parse_trusted(p->info) : NULL;
	int64_t done = 0, of = 0;
	double eta_s = -1;
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
	if (!strcmp(p->state, "searching")) {
		cJSON *progress = cJSON_CreateObject();
		c->daemon->profile_progress(c->daemon->self, p->id, &done, &of, &eta_s);
		api_add_int(progress, "done", done);
		api_add_int(progress, "of", of);
		api_add_maybe(progress, "eta_s", eta_s >= 0, eta_s);
		api_add_take(j, "progress", progress);
	}
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

/* The data set that is named, else that of the checkpoint's job. False: the answer is in r. */
static bool find_dataset(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                         const struct storage_ckpt *k, const cJSON *in, struct storage_dataset *out)
{
	struct storage_job job = {0};
	struct wasd_err err = {0};
	const cJSON *ref = wasd_json_get(in, "dataset");
	const char *name = "";
	int64_t version = 0;
	if (!ref && !k->job) {
		api_send_problem(
			q, r, "invalid_field", "/dataset",
			"/dataset is missing: checkpoint %s was imported; name the data set whose validation images are to judge the profile",
			k->id);
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
	                 "/dataset: %s has not the image shape and the number of classes of checkpoint %s", out->name,
	                 k->id);
	storage_dataset_done(out);
	return false;
}

static void send_one(struct api_ctx *c, struct api_response *r, int status, const struct storage_profile *p)
{
	api_send_json(r, status, profile_json(c, p));
}

/* An imported checkpoint has no job whose law could be looked at: its search says what is wrong. */
static bool possible(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                     const struct storage_ckpt *k, const cJSON *in)
{
	struct storage_job job = {0};
	if (!k->job || storage_job_get(c->db, k->job, &job, NULL))
		return true;
	bool ok = api_profile_check(c, q, r, job.spec, k->info, in);
	storage_job_done(&job);
	return ok;
}

static void begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct storage_ckpt *k,
                  const cJSON *in)
{
	struct storage_dataset d;
	struct storage_profile p;
	struct wasd_err err = {0};
	bool existing = false;
	struct storage_profile_in row = {.checkpoint = k->id, .actor = q->actor};
	if (!find_dataset(c, q, r, k, in, &d))
		return;
	if (!possible(c, q, r, k, in)) {
		storage_dataset_done(&d);
		return;
	}
	char *request = api_profile_request(in);
	row.request = request;
	row.dataset = d.name;
	row.dataset_version = d.version;
	wasd_json_str(in, "name", &row.name);
	wasd_json_str(in, "desire", &row.desire);
	enum wasd_status st = request ? storage_profile_begin(c->db, &row, &p, &existing, &err) :
	                                wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (st == WASD_EEXIST) {
		api_send_problem(q, r, "name_taken", "/name", "/name: %s", err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		if (!existing)
			c->daemon->profile_queued(c->daemon->self);
		send_one(c, r, existing ? 200 : 202, &p);
		api_set_header(r, "Location", "/v1/checkpoints/%s/profiles/%s", p.checkpoint, p.name);
		storage_profile_done(&p);
	}
	wasd_free(request);
	storage_dataset_done(&d);
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
	cJSON *in = request_canon(&fc, "", body_fields, body);
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

/* Beside the profiles: what the checkpoint does without any, as the newest search has measured it. */
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

enum api_result api_profiles_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_profile p;
	struct wasd_err err = {0};
	if (!api_profile_find(c, q, r, &p))
		return API_DONE;
	enum wasd_status st = storage_profile_delete(c->db, p.checkpoint, p.id, q->actor, &err);
	if (st == WASD_ESTATE) {
		api_send_problem(q, r, "referenced", NULL, "%s", err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		c->daemon->profile_gone(c->daemon->self, p.checkpoint, p.id);
		r->status = 204;
	}
	storage_profile_done(&p);
	return API_DONE;
}
