/* api/deployments.c - deployments: create, show, switch mode, delete. classify.c and v2.c serve requests to them. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

enum { PROFILE_LOAD_US = 10000000 };

/* ---- the object ---- */

/* Adds the origin of the checkpoint: network, data, name of the job. */
static void add_origin(struct api_ctx *c, cJSON *j, const struct storage_deployment *d)
{
	struct storage_ckpt k;
	struct storage_job job;
	const char *arch = NULL;
	cJSON *info = d->checkpoint && !storage_ckpt_get(c->db, d->checkpoint, &k, NULL) ? api_parse_trusted(k.info) : NULL;
	wasd_json_str(info, "arch", &arch);
	api_add_str(j, "arch", arch);
	if (d->job && !storage_job_get(c->db, d->job, &job, NULL)) {
		api_add_str(j, "job_name", job.name);
		api_add_str(j, "dataset", job.dataset);
		api_add_int(j, "dataset_version", job.dataset_version);
		storage_job_done(&job);
	}
	if (info)
		storage_ckpt_done(&k);
	cJSON_Delete(info);
}

/* The images on which a mode's accuracy was measured (NULL: not measured), and *acc. For aom and dom both come from
 * the checkpoint's metrics, from the test images if they were used; for a profile from its search. */
static const char *mode_acc(struct api_ctx *c, const char *checkpoint, const cJSON *metrics, const char *mode,
                            double *acc)
{
	struct storage_profile p;
	const char *name = wasd_mode_member(mode);
	char metric[32];
	if (name && !storage_profile_get(c->db, checkpoint, mode, &p, NULL)) {
		cJSON *info = api_parse_trusted(p.info);
		bool known = wasd_json_num(info, "val_acc", acc);
		cJSON_Delete(info);
		storage_profile_done(&p);
		return known ? "validation" : NULL;
	}
	snprintf(metric, sizeof metric, "test_acc_%.8s", mode);
	if (wasd_json_num(metrics, metric, acc))
		return "test";
	snprintf(metric, sizeof metric, "val_acc_%.8s", mode);
	return wasd_json_num(metrics, metric, acc) ? "validation" : NULL;
}

/* {"aom":{"acc","acc_images","macs","bytes"},"dom":...,"dom:fast":...}: costs from info, the loaded bundle's facts. */
static cJSON *modes_json(struct api_ctx *c, const struct storage_deployment *d, const cJSON *info)
{
	cJSON *out = cJSON_CreateObject(), *metrics = NULL;
	struct storage_ckpt k;
	if (d->checkpoint && !storage_ckpt_get(c->db, d->checkpoint, &k, NULL)) {
		metrics = api_parse_trusted(k.metrics);
		storage_ckpt_done(&k);
	}
	const cJSON *loaded;
	cJSON_ArrayForEach(loaded, wasd_json_get(info, "modes")) {
		double acc = 0;
		const char *images = mode_acc(c, d->checkpoint, metrics, loaded->string, &acc);
		cJSON *one = cJSON_CreateObject();
		api_add_maybe(one, "acc", images, acc);
		api_add_str(one, "acc_images", images);
		for (const cJSON *m = loaded->child; m; m = m->next)
			if (!wasd_json_get(one, m->string))
				api_add_take(one, m->string, cJSON_Duplicate(m, 1));
		if (!one || !api_add_take(out, loaded->string, one))
			break;
	}
	cJSON_Delete(metrics);
	return out;
}

static cJSON *deployment_json(struct api_ctx *c, const struct storage_deployment *d)
{
	static const char *const parts[] = {"mode", "classify", "stats"};
	char url[160];
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *info = c->serving.info(c->serving.self, d->name);
	if (!j) {
		cJSON_Delete(links);
		cJSON_Delete(info);
		return NULL;
	}
	api_add_str(j, "id", d->id);
	api_add_str(j, "name", d->name);
	api_add_str(j, "state", d->state);
	api_add_str(j, "message", d->message && *d->message ? d->message : NULL);
	api_add_raw(j, "source", d->source);
	api_add_str(j, "job", d->job);
	api_add_str(j, "checkpoint", d->checkpoint);
	api_add_str(j, "mode", d->mode);
	api_add_int(j, "generation", d->generation);
	api_add_int(j, "version", d->version);
	cJSON *options = api_parse_trusted(d->options);
	for (const struct wasd_field *f = api_deployment_options; f->name; f++)
		if (f->type != WASD_REFUSED) {
			cJSON *v = cJSON_DetachItemFromObjectCaseSensitive(options, f->name);
			api_add_take(j, f->name, v ? v : cJSON_Parse(f->def));
		}
	cJSON_Delete(options);
	add_origin(c, j, d);
	if (wasd_json_get(info, "modes"))
		api_add_take(j, "modes", modes_json(c, d, info));
	/* Facts from the loaded bundle: input, classes, max_batch, modes, conditions. */
	for (cJSON *m = info ? info->child : NULL, *next; m; m = next) {
		next = m->next;
		const cJSON *have = wasd_json_get(j, m->string);
		if (have && !cJSON_IsNull(have))
			continue;
		cJSON_DeleteItemFromObjectCaseSensitive(j, m->string);
		api_add_take(j, m->string, cJSON_DetachItemViaPointer(info, m));
	}
	if (!wasd_json_get(j, "conditions"))
		api_add_take(j, "conditions", cJSON_CreateArray());
	api_add_time(j, "created_at", d->created_at);
	api_add_time(j, "updated_at", d->updated_at);
	snprintf(url, sizeof url, "/v1/deployments/%s", d->name);
	api_add_str(links, "self", url);
	for (size_t i = 0; i < API_LEN(parts); i++) {
		snprintf(url, sizeof url, "/v1/deployments/%s/%s", d->name, parts[i]);
		api_add_str(links, parts[i], url);
	}
	snprintf(url, sizeof url, "/v2/models/%s", d->name);
	api_add_str(links, "v2", url);
	api_add_take(j, "links", links);
	cJSON_Delete(info);
	return j;
}

static bool settled(const struct storage_deployment *d)
{
	return !strcmp(d->state, "ready") || !strcmp(d->state, "failed") || !strcmp(d->state, "unloaded");
}

/* ---- create ---- */

cJSON *api_mode_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	(void)f;
	if (cJSON_IsString(v) && wasd_mode_ok(v->valuestring))
		return cJSON_CreateString(v->valuestring);
	bool later = cJSON_IsString(v) && (!strcmp(v->valuestring, "auto") || !strcmp(v->valuestring, "cascade"));
	fields_show(shown, v);
	api_fault(c->faults, later ? "unsupported" : "invalid_field", pointer,
	          "%s must be \"aom\", \"dom\" or \"dom:PROFILE\", not %s%s", pointer, shown,
	          later ? ", which is not offered" : "");
	return NULL;
}

static const struct wasd_field batching_fields[] = {
	{"max_batch", WASD_INT, "32", .min = 1, .max = 64},
	{"max_queue_delay_us", WASD_INT, "0", .min = 0, .max = 1000000},
	{0},
};
static const struct wasd_field queue_fields[] = {
	{"max", WASD_INT, "0", .min = 0, .max = 1000000},
	{"default_timeout_us", WASD_INT, "0", .min = 0, .max = 3600e6},
	{0},
};
/* clang-format off */
#define OPTIONS \
	{"required", WASD_BOOL, .def = "true"}, \
	{"batching", WASD_OBJECT, "null", .null_ok = true, .sub = batching_fields}, \
	{"queue", WASD_OBJECT, "null", .null_ok = true, .sub = queue_fields}, \
	{"limits", WASD_REFUSED, .summary = "limits of a deployment are not offered"}
/* clang-format on */
const struct wasd_field api_deployment_options[] = {
	OPTIONS,
	{0},
};

char *api_deployment_options_text(const cJSON *in)
{
	cJSON *chosen = cJSON_CreateObject();
	for (const struct wasd_field *f = api_deployment_options; f->name; f++) {
		const cJSON *v = wasd_json_get(in, f->name);
		if (v && !cJSON_IsNull(v))
			api_add_take(chosen, f->name, cJSON_Duplicate(v, 1));
	}
	char *text = api_poisoned(chosen) ? NULL : wasd_json_print(chosen);
	cJSON_Delete(chosen);
	return text;
}

static const struct wasd_field create_fields[] = {
	{"name", WASD_NAME, .required = true},
	{"source", WASD_OBJECT, .required = true, .form = "source"},
	{"mode", WASD_STR, "\"" WASD_MODE_AOM "\"", .form = "mode"},
	OPTIONS,
	{0},
};

static enum api_result send_created(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                    const struct storage_deployment *d, int64_t wait)
{
	if (!settled(d) && api_again(q, r, d->name, wait))
		return API_AGAIN;
	if (q->waited && !strcmp(d->state, "failed")) {
		api_send_problem(q, r, "load_failed", NULL, "deployment %s: %s", d->name,
		                 d->message ? d->message : "its checkpoint could not be loaded");
	} else {
		api_send_json(r, !strcmp(d->state, "ready") ? 201 : 202, deployment_json(c, d));
	}
	api_set_header(r, "Location", "/v1/deployments/%s", d->name);
	return API_DONE;
}

static bool create(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *in,
                   struct storage_deployment *out)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	struct storage_deployment_in row = {.actor = q->actor};
	wasd_json_str(in, "name", &row.name);
	wasd_json_str(in, "mode", &row.mode);
	if (!api_source_find(c, q, r, wasd_json_get(in, "source"), row.mode, &k))
		return false;
	char *source = wasd_json_print(wasd_json_get(in, "source")), *options = api_deployment_options_text(in);
	row.source = source;
	row.options = options;
	row.checkpoint = k.id;
	enum wasd_status st = source && options ? storage_deployment_create(c->db, &row, out, &err) :
	                                          wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (!st) {
		storage_deployment_done(out);
		st = c->serving.changed(c->serving.self, row.name, &err);
	}
	if (!st)
		st = storage_deployment_get(c->db, row.name, out, &err);
	if (st)
		api_send_error(q, r, &err);
	wasd_free(source);
	wasd_free(options);
	storage_ckpt_done(&k);
	return !st;
}

enum api_result api_deployments_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	const char *name = "";
	int64_t wait;
	enum api_result res = API_DONE;
	if (!api_query_wait(q, r, &wait))
		return API_DONE;
	cJSON *in = api_body_fields(q, r, create_fields, NULL, false);
	if (!in)
		return API_DONE;
	bool have = false;
	if (q->waited) {
		wasd_json_str(in, "name", &name);
		have = !storage_deployment_get(c->db, name, &d, &err);
		if (!have)
			api_send_error(q, r, &err);
	} else {
		have = create(c, q, r, in, &d);
	}
	if (have) {
		res = send_created(c, q, r, &d, wait);
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return res;
}

/* ---- the rest ---- */

enum api_result api_deployments_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const states[] = {"created",  "loading",  "warming", "ready",
	                                     "draining", "unloaded", "failed",  NULL};
	struct storage_page page;
	struct storage_deployment_list l;
	struct wasd_err err = {0};
	const char *state = NULL;
	if (!api_query_page(q, r, &page) || !api_query_choice(q, r, "state", states, &state))
		return API_DONE;
	enum wasd_status st = storage_deployment_list(c->db, state, page, &l, &err);
	if (!api_page_ok(q, r, st, &err))
		return API_DONE;
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		cJSON *j = deployment_json(c, &l.items[i]);
		api_push(items, j);
	}
	api_send_list(q, r, items, l.next_cursor);
	storage_deployment_list_done(&l);
	return API_DONE;
}

/* Counters are a separate resource: traffic does not change the deployment's entity tag. */
enum api_result api_deployments_stats(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	int64_t last = 0;
	if (!api_deployment_find(c, q, r, &d))
		return API_DONE;
	cJSON *j = c->serving.stats(c->serving.self, d.name);
	wasd_json_i64(j, "last_inference", &last);
	cJSON_DeleteItemFromObjectCaseSensitive(j, "last_inference");
	api_add_time(j, "last_inference_at", last);
	api_send_json(r, 200, j);
	r->etag_auto = false;
	storage_deployment_done(&d);
	return API_DONE;
}

enum api_result api_deployments_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	int64_t wait;
	if (!api_query_wait(q, r, &wait) || !api_deployment_find(c, q, r, &d))
		return API_DONE;
	bool again = !settled(&d) && api_again(q, r, d.name, wait);
	if (!again)
		api_send_json(r, 200, deployment_json(c, &d));
	storage_deployment_done(&d);
	return again ? API_AGAIN : API_DONE;
}

enum api_result api_deployments_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	if (!api_deployment_find(c, q, r, &d))
		return API_DONE;
	enum wasd_status st = storage_deployment_delete(c->db, d.name, q->actor, &err);
	if (!st)
		st = c->serving.gone(c->serving.self, d.name, &err);
	if (st)
		api_send_error(q, r, &err);
	else
		r->status = 204;
	storage_deployment_done(&d);
	return API_DONE;
}

/* ---- mode ---- */

static void mode_etag(struct api_response *r, int64_t generation)
{
	api_set_header(r, "ETag", "\"g%lld\"", (long long)generation);
}

enum api_result api_mode_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	char etag[32];
	if (!api_deployment_find(c, q, r, &d))
		return API_DONE;
	cJSON *j = cJSON_CreateObject();
	snprintf(etag, sizeof etag, "\"g%lld\"", (long long)d.generation);
	api_add_str(j, "mode", d.mode);
	api_add_int(j, "generation", d.generation);
	api_add_int(j, "version", d.version);
	api_add_str(j, "etag", etag);
	api_add_time(j, "since", d.mode_since);
	api_add_str(j, "by", d.mode_by);
	api_add_str(j, "traffic", NULL);
	cJSON *info = c->serving.info(c->serving.self, d.name), *bundles = modes_json(c, &d, info);
	bool profiles = false;
	for (const cJSON *b = bundles ? bundles->child : NULL; b; b = b->next)
		profiles |= wasd_mode_member(b->string) != NULL;
	api_add_take(j, "bundles", bundles);
	cJSON_Delete(info);
	api_send_json(r, 200, j);
	/* For If-Match the ETag is the generation. Profiles come and go within a generation, so the tag does not
	 * identify the whole answer. */
	mode_etag(r, d.generation);
	r->always_whole = profiles;
	api_set_header(r, "Cache-Control", "no-store");
	storage_deployment_done(&d);
	return API_DONE;
}

/* The generation that If-Match allows: -1 = any, -2 = none (the answer is in r). */
static int64_t expected(const struct api_request *q, struct api_response *r, const struct storage_deployment *d)
{
	const char *list = api_header(q, "if-match");
	char etag[32];
	if (!list || *list == '*')
		return -1;
	snprintf(etag, sizeof etag, "\"g%lld\"", (long long)d->generation);
	if (api_etag_listed(list, etag, true))
		return d->generation;
	api_send_problem(q, r, "stale", NULL, "If-Match %.100s: deployment %s is at %s, mode %s", list, d->name, etag,
	                 d->mode);
	mode_etag(r, d->generation);
	return -2;
}

static void send_switched(struct api_response *r, const char *mode, const struct api_live *now,
                          const struct api_live *before, int64_t swap_us, int64_t in_flight_old, const char *audit_id)
{
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "mode", mode);
	api_add_int(j, "generation", now->generation);
	api_add_str(j, "previous", before->mode);
	api_add_int(j, "swap_us", swap_us);
	api_add_int(j, "in_flight_old", in_flight_old);
	api_add_str(j, "audit_id", *audit_id ? audit_id : NULL);
	api_send_json(r, 200, j);
	mode_etag(r, now->generation);
}

/* The process loads a profile shortly after its row is ready: the switch waits for the load, but with a limit, since
 * the load may fail. */
static enum api_result no_bundle(const struct api_request *q, struct api_response *r,
                                 const struct storage_deployment *d, const char *mode, const struct wasd_err *err)
{
	if (wasd_mode_member(mode) && api_again(q, r, d->name, PROFILE_LOAD_US))
		return API_AGAIN;
	api_send_problem(q, r, "bundle_not_ready", "/mode", "deployment %s: %s", d->name, err->msg);
	return API_DONE;
}

static enum api_result switch_mode(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                   const struct storage_deployment *d, const char *mode, const char *reason)
{
	struct api_live now = {0}, before = {0};
	struct wasd_err err = {0};
	char audit_id[64] = "";
	int64_t swap_us = 0, in_flight_old = 0, expect = expected(q, r, d);
	if (expect == -2 || !api_mode_there(c, q, r, d->checkpoint, mode, "invalid_field", "/mode"))
		return API_DONE;
	enum wasd_status st = c->serving.switch_mode(c->serving.self, d->name, mode, expect, q->actor, reason, &now,
	                                             &before, &swap_us, &in_flight_old, audit_id, &err);
	if (!st) {
		send_switched(r, mode, &now, &before, swap_us, in_flight_old, audit_id);
	} else if (st == WASD_EBUSY) {
		return no_bundle(q, r, d, mode, &err);
	} else if (st == WASD_ESTATE) {
		/* Either another client switched between our read and the switch, or the deployment is not ready. */
		struct storage_deployment fresh;
		bool have = !storage_deployment_get(c->db, d->name, &fresh, NULL);
		bool stale = have && expect >= 0 && fresh.generation != expect;
		api_send_problem(q, r, stale ? "stale" : "conflict", NULL, "%s", err.msg);
		if (have)
			mode_etag(r, fresh.generation);
		if (have)
			storage_deployment_done(&fresh);
	} else {
		api_send_error(q, r, &err);
	}
	return API_DONE;
}

static const struct wasd_field mode_fields[] = {
	{"mode", WASD_STR, .required = true, .form = "mode"},
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};
static const struct wasd_field rollback_fields[] = {{"reason", WASD_STR, "\"rollback\"", .min = 0, .max = 500}, {0}};

static const struct wasd_field reload_fields[] = {{"reason", WASD_STR, "\"\"", .min = 0, .max = 500}, {0}};

enum api_result api_mode_put(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	const char *mode = "", *reason = "";
	enum api_result done = API_DONE;
	cJSON *in = api_body_fields(q, r, mode_fields, NULL, false);
	if (in && api_deployment_find(c, q, r, &d)) {
		wasd_json_str(in, "mode", &mode);
		wasd_json_str(in, "reason", &reason);
		done = switch_mode(c, q, r, &d, mode, reason);
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return done;
}

/* The mode before the last switch, from the audit; "" when there was no switch. */
static void previous_mode(struct api_ctx *c, const char *name, char out[WASD_MODE_LEN])
{
	struct storage_audit_list l;
	char object[100];
	const char *mode = "";
	snprintf(object, sizeof object, "deployment/%s", name);
	out[0] = 0;
	if (storage_audit_list(c->db, object, NULL, 0, (struct storage_page){.limit = 100}, &l, NULL))
		return;
	for (size_t i = 0; i < l.n && !out[0]; i++) {
		if (!strcmp(l.items[i].action, "deployment.create"))
			break;
		if (strcmp(l.items[i].action, "deployment.mode"))
			continue;
		cJSON *before = api_parse_trusted(l.items[i].before);
		wasd_json_str(before, "mode", &mode);
		snprintf(out, WASD_MODE_LEN, "%s", mode);
		cJSON_Delete(before);
	}
	storage_audit_list_done(&l);
}

enum api_result api_mode_rollback(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	char mode[WASD_MODE_LEN];
	const char *reason = "";
	enum api_result done = API_DONE;
	cJSON *in = api_body_fields(q, r, rollback_fields, NULL, true);
	if (in && api_deployment_find(c, q, r, &d)) {
		wasd_json_str(in, "reason", &reason);
		previous_mode(c, d.name, mode);
		if (*mode)
			done = switch_mode(c, q, r, &d, mode, reason);
		else
			api_send_problem(q, r, "nothing_to_roll_back", NULL, "the mode of deployment %s has never been switched",
			                 d.name);
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return done;
}

/* ---- again ---- */

enum api_result api_deployments_reload(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	cJSON *in = api_body_fields(q, r, reload_fields, NULL, true);
	if (in && api_deployment_find(c, q, r, &d)) {
		const char *reason = "";
		char object[100];
		wasd_json_str(in, "reason", &reason);
		snprintf(object, sizeof object, "deployment/%s", d.name);
		enum wasd_status st = storage_audit_add(c->db, q->actor, "deployment.reload", object, NULL, NULL, reason, NULL,
		                                        &err);
		if (!st)
			st = c->serving.changed(c->serving.self, d.name, &err);
		if (st)
			api_send_error(q, r, &err);
		else
			api_send_json(r, 202, deployment_json(c, &d));
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return API_DONE;
}
