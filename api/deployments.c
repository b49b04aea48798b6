/* api/deployments.c - deployments: create, show, switch mode, delete. classify.c and v2.c serve requests to them. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

enum { PROFILE_LOAD_US = 10000000 };

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
	bool later = cJSON_IsString(v) && wasd_mode_chooses(v->valuestring);
	fields_show(shown, v);
	api_fault(c->faults, later ? "unsupported" : "invalid_field", pointer,
	          "%s must be \"aom\", \"dom\", \"slim\" or \"FAMILY:NAME\", not %s%s", pointer, shown,
	          later ? "; a deployment is switched to it by PUT /v1/deployments/NAME/mode" : "");
	return NULL;
}

/* Its name, or a wish. */
cJSON *api_wished_mode_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	if (cJSON_IsObject(v))
		return api_wish_canon(c, pointer, v);
	if (cJSON_IsString(v))
		return api_mode_canon(c, pointer, f, v);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be the name of a mode or a wish such as {\"within_us\": 900}, not %s", pointer, shown);
	return NULL;
}

static const struct wasd_field create_fields[] = {
	{"name", WASD_NAME, .required = true},
	{"source", WASD_OBJECT, .required = true, .form = "source"},
	{"mode", WASD_STR, "\"" WASD_MODE_AOM "\"", .form = "wished mode"},
	API_DEPLOYMENT_OPTIONS,
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
		api_send_json(r, !strcmp(d->state, "ready") ? 201 : 202, api_deployment_json(c, d));
	}
	api_set_header(r, "Location", "/v1/deployments/%s", d->name);
	return API_DONE;
}

static bool create(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *in,
                   struct storage_deployment *out)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	struct storage_deployment_in row = {.actor = q->actor, .mode = WASD_MODE_AOM};
	const cJSON *mode = wasd_json_get(in, "mode"), *wish = cJSON_IsObject(mode) ? mode : NULL;
	char chosen[WASD_MODE_LEN];
	wasd_json_str(in, "name", &row.name);
	wasd_json_str(in, "mode", &row.mode);
	if (!api_source_find(c, q, r, wasd_json_get(in, "source"), row.mode, &k))
		return false;
	if (wish && !api_wish_choose(c, q, r, k.id, wish, chosen)) {
		storage_ckpt_done(&k);
		return false;
	}
	char *source = wasd_json_print(wasd_json_get(in, "source")), *options = api_deployment_options_text(in);
	char *reason = wish ? wasd_json_print(wish) : NULL;
	row.source = source;
	row.options = options;
	row.checkpoint = k.id;
	row.mode = wish ? chosen : row.mode;
	row.reason = reason;
	enum wasd_status st = source && options && (reason || !wish) ? storage_deployment_create(c->db, &row, out, &err) :
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
	wasd_free(reason);
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
		cJSON *j = api_deployment_json(c, &l.items[i]);
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
	int64_t last = 0, seconds = 300;
	if (!api_query_span(q, r, "window", 3600, &seconds) || !api_deployment_find(c, q, r, &d))
		return API_DONE;
	cJSON *j = c->serving.stats(c->serving.self, d.name);
	wasd_json_i64(j, "last_inference", &last);
	cJSON_DeleteItemFromObjectCaseSensitive(j, "last_inference");
	api_add_time(j, "last_inference_at", last);
	cJSON *recent = c->serving.window(c->serving.self, d.name, seconds);
	api_add_take(j, "window", cJSON_DetachItemFromObjectCaseSensitive(recent, "window"));
	api_add_take(j, "shadow", cJSON_DetachItemFromObjectCaseSensitive(recent, "shadow"));
	cJSON_Delete(recent);
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
	bool again = (!settled(&d) || api_update_pending(&d)) && api_again(q, r, d.name, wait);
	if (!again && q->waited)
		c->serving.settle(c->serving.self);
	if (!again)
		api_send_json(r, 200, api_deployment_json(c, &d));
	storage_deployment_done(&d);
	return again ? API_AGAIN : API_DONE;
}

/* Requests in flight are still answered: 202 until the last of them has been, 204 when there is none. */
enum api_result api_deployments_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	int64_t in_flight = 0;
	if (!api_deployment_find(c, q, r, &d))
		return API_DONE;
	enum wasd_status st = d.deleted ? WASD_OK : storage_deployment_drain(c->db, d.name, true, q->actor, &err);
	if (!st)
		st = c->serving.gone(c->serving.self, d.name, &in_flight, &err);
	if (!st && !in_flight)
		st = storage_deployment_drained(c->db, d.name, &err);
	if (st) {
		api_send_error(q, r, &err);
	} else if (!in_flight) {
		r->status = 204;
	} else {
		struct storage_deployment now;
		if (storage_deployment_get(c->db, d.name, &now, NULL)) {
			r->status = 204; /* the last answer came meanwhile */
		} else {
			api_send_json(r, 202, api_deployment_json(c, &now));
			storage_deployment_done(&now);
		}
	}
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
	api_add_traffic(j, &d);
	api_add_take(j, "now", c->serving.traffic_now(c->serving.self, d.name));
	cJSON *info = c->serving.info(c->serving.self, d.name), *bundles = api_deployment_modes(c, &d, info);
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
	if (expect == -2 || !api_mode_there(c, q, r, d->checkpoint, mode, "invalid_field", "/mode") ||
	    !api_mode_fits_traffic(c, q, r, d, mode))
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
	{"mode", WASD_STR, .required = true, .form = "live mode"},
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};
static const struct wasd_field rollback_fields[] = {{"reason", WASD_STR, "\"rollback\"", .min = 0, .max = 500}, {0}};

/* Switches to the mode that the wish chooses; without a reason the wish is the reason. */
static enum api_result switch_by_wish(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                      const struct storage_deployment *d, const cJSON *wish, const char *reason)
{
	char mode[WASD_MODE_LEN];
	enum api_result done = API_DONE;
	char *text = wasd_json_print(wish);
	if (!text)
		api_send_no_memory(r);
	else if (api_wish_choose(c, q, r, d->checkpoint, wish, mode))
		done = switch_mode(c, q, r, d, mode, *reason ? reason : text);
	wasd_free(text);
	return done;
}

enum api_result api_mode_put(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	const char *mode = "", *reason = "";
	enum api_result done = API_DONE;
	cJSON *in = api_body_fields(q, r, mode_fields, NULL, false);
	if (in && api_deployment_find(c, q, r, &d)) {
		const cJSON *wanted = wasd_json_get(in, "mode");
		wasd_json_str(in, "mode", &mode);
		wasd_json_str(in, "reason", &reason);
		done = cJSON_IsObject(wanted) ? switch_by_wish(c, q, r, &d, wanted, reason) :
		                                switch_mode(c, q, r, &d, mode, reason);
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
