/* api/deployment_patch.c - changes of a deployment while it serves: its options, and its reload. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- PATCH ---- */

static const struct wasd_field patch_fields[] = {
	{"name", WASD_REFUSED, .summary = "the name of a deployment does not change; create another deployment"},
	{"source", WASD_OBJECT, .form = "source"},
	{"mode", WASD_STR, .form = "wished mode"},
	{"reason", WASD_STR, .min = 0, .max = 500},
	API_DEPLOYMENT_OPTIONS,
	{0},
};

/* The merge patch (RFC 7396) of one option: null sets the default, an object changes the members that it has. */
static cJSON *merge(const struct wasd_field *f, const cJSON *have, const cJSON *patch)
{
	if (cJSON_IsNull(patch))
		return cJSON_Parse(f->def);
	if (!cJSON_IsObject(patch) || !cJSON_IsObject(have))
		return cJSON_Duplicate(patch, 1);
	cJSON *out = cJSON_Duplicate(have, 1);
	const cJSON *m;
	cJSON_ArrayForEach(m, patch) {
		cJSON_DeleteItemFromObjectCaseSensitive(out, m->string);
		if (!cJSON_IsNull(m))
			api_add_take(out, m->string, cJSON_Duplicate(m, 1));
	}
	return out;
}

/* The members of the patch in canonical form, merged with what the deployment has now. NULL: the answer is in r. */
static cJSON *read_patch(const struct api_request *q, struct api_response *r, const struct storage_deployment *d)
{
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	cJSON *patch = api_body_json(q, r, WASD_JSON_REQUEST, false), *all = cJSON_CreateObject(),
		  *now = cJSON_CreateObject();
	const cJSON *m;
	api_deployment_options_show(now, d);
	cJSON_ArrayForEach(m, patch) {
		const struct wasd_field *f = wasd_field_find(api_deployment_options, m->string);
		api_add_take(all, m->string, f ? merge(f, wasd_json_get(now, m->string), m) : cJSON_Duplicate(m, 1));
	}
	cJSON *out = patch && !api_poisoned(all) ? fields_canon(&fc, "", patch_fields, all) : NULL;
	for (const struct wasd_field *f = api_deployment_options; out && f->name;
	     f++) /* defaults of members that it lacks */
		if (!wasd_json_get(patch, f->name))
			cJSON_DeleteItemFromObjectCaseSensitive(out, f->name);
	if (patch && !out)
		api_send_faults(q, r, &faults);
	cJSON_Delete(patch);
	cJSON_Delete(all);
	cJSON_Delete(now);
	return out;
}

/* Does the patch have options? Stores them and applies them. */
static enum wasd_status set_options(struct api_ctx *c, const struct api_request *q, const char *name, const cJSON *in,
                                    struct wasd_err *err)
{
	const char *reason = NULL;
	bool any = false;
	for (const struct wasd_field *f = api_deployment_options; f->name; f++)
		any |= wasd_json_get(in, f->name) != NULL;
	if (!any)
		return WASD_OK;
	wasd_json_str(in, "reason", &reason);
	char *options = api_deployment_options_text(in);
	struct storage_options_in set = {.name = name, .options = options, .actor = q->actor, .reason = reason};
	enum wasd_status st = options ? storage_deployment_options(c->db, &set, err) :
	                                wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(options);
	return st ? st : c->serving.tuned(c->serving.self, name, err);
}

/* The checkpoint is to be served: stores that and has it loaded. */
static enum wasd_status want(struct api_ctx *c, const struct api_request *q, const char *name, const cJSON *source,
                             const char *checkpoint, const char *mode, const char *reason, struct wasd_err *err)
{
	char *text = wasd_json_print(source);
	struct storage_source_in in =
		{.name = name, .source = text, .checkpoint = checkpoint, .mode = mode, .actor = q->actor, .reason = reason};
	struct storage_deployment now;
	enum wasd_status st = text ? storage_deployment_source(c->db, &in, &now, err) :
	                             wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(text);
	if (st)
		return st;
	bool load = now.wanted != NULL;
	storage_deployment_done(&now);
	return load ? c->serving.changed(c->serving.self, name, err) : WASD_OK;
}

/* The mode without another checkpoint is switched at once, as by PUT .../mode. */
static enum wasd_status set_mode(struct api_ctx *c, const struct api_request *q, const char *name, const char *mode,
                                 const char *reason, struct wasd_err *err)
{
	struct api_live now, before;
	int64_t swap_us, in_flight_old;
	char audit_id[64];
	return c->serving.switch_mode(c->serving.self, name, mode, -1, q->actor, reason ? reason : "", &now, &before,
	                              &swap_us, &in_flight_old, audit_id, err);
}

/* What a patch asks for. */
struct change {
	const cJSON *source;       /* NULL: the one that it has */
	struct storage_ckpt k;     /* of source */
	const char *mode, *reason; /* NULL: none */
	char chosen[WASD_MODE_LEN], *wish;
};

static void change_done(struct change *to)
{
	storage_ckpt_done(&to->k);
	wasd_free(to->wish);
}

/* The mode that a wish chooses; without a reason the wish is the reason. False: the answer is in r. */
static bool choose(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *checkpoint,
                   const cJSON *wish, struct change *to)
{
	if (!api_wish_choose(c, q, r, checkpoint, wish, to->chosen))
		return false;
	to->mode = to->chosen;
	if (!to->reason && !(to->reason = to->wish = wasd_json_print(wish)))
		api_send_no_memory(r);
	return to->reason != NULL;
}

/* False: the answer is in r. */
static bool read_change(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                        const struct storage_deployment *d, const cJSON *in, struct change *to)
{
	const cJSON *mode = wasd_json_get(in, "mode"), *wish = cJSON_IsObject(mode) ? mode : NULL;
	to->source = wasd_json_get(in, "source");
	wasd_json_str(in, "mode", &to->mode);
	wasd_json_str(in, "reason", &to->reason);
	const char *has = wish ? WASD_MODE_AOM : to->mode ? to->mode : d->mode;
	if (to->source && !api_source_find(c, q, r, to->source, has, &to->k))
		return false;
	if (wish && !choose(c, q, r, to->source ? to->k.id : d->checkpoint, wish, to))
		return false;
	return to->source || !to->mode ||
	       (api_mode_there(c, q, r, d->checkpoint, to->mode, "invalid_field", "/mode") &&
	        api_mode_fits_traffic(c, q, r, d, to->mode));
}

/* False: the answer is in r. */
static bool apply(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                  const struct storage_deployment *d, const cJSON *in, const struct change *to)
{
	struct wasd_err err = {0};
	const char *mode = to->mode, *reason = to->reason;
	enum wasd_status st = WASD_OK;
	bool other = to->source && strcmp(to->k.id, d->checkpoint);
	if (mode && !other && (st = set_mode(c, q, d->name, mode, reason, &err)) == WASD_EBUSY)
		api_send_problem(q, r, "bundle_not_ready", "/mode", "deployment %s: %s", d->name, err.msg);
	if (!st)
		st = set_options(c, q, d->name, in, &err);
	if (!st && to->source)
		st = want(c, q, d->name, to->source, to->k.id, other ? mode : NULL, reason, &err);
	if (st && !r->status)
		api_send_error(q, r, &err);
	return !st;
}

/* A request at fault changes nothing. False: the answer is in r. */
static bool change(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                   const struct storage_deployment *d, const cJSON *in)
{
	struct change to = {0};
	bool ok = read_change(c, q, r, d, in, &to) && apply(c, q, r, d, in, &to);
	change_done(&to);
	return ok;
}

/* Answers a change: 200, 202 while it is being loaded, or after `wait` 422 if it could not be. */
static enum api_result send_changed(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                    const char *name, int64_t wait)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	const char *error = NULL;
	if (storage_deployment_get(c->db, name, &d, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	cJSON *update = d.wanted ? api_parse_trusted(d.update_info) : NULL;
	wasd_json_str(update, "error", &error);
	if (!update)
		c->serving.settle(c->serving.self); /* who is told of the new version is answered by it from now on */
	bool again = update && !error && api_again(q, r, name, wait);
	if (again)
		;
	else if (error && q->waited)
		api_send_problem(q, r, "load_failed", "/source", "deployment %s still serves checkpoint %s: %s", name,
		                 d.checkpoint, error);
	else
		api_send_json(r, update && !error ? 202 : 200, api_deployment_json(c, &d));
	cJSON_Delete(update);
	storage_deployment_done(&d);
	return again ? API_AGAIN : API_DONE;
}

enum api_result api_deployments_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	int64_t wait = 0;
	enum api_result res = API_DONE;
	if (!api_query_wait(q, r, &wait) || !api_deployment_find(c, q, r, &d))
		return API_DONE;
	cJSON *in = q->waited ? NULL : read_patch(q, r, &d);
	if (q->waited || (in && change(c, q, r, &d, in)))
		res = send_changed(c, q, r, d.name, wait);
	cJSON_Delete(in);
	storage_deployment_done(&d);
	return res;
}

/* ---- rollback and reload ---- */

static const struct wasd_field reason_fields[] = {{"reason", WASD_STR, "\"\"", .min = 0, .max = 500}, {0}};

static bool go_back(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                    const struct storage_deployment *d, const char *reason)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	if (!d->previous) {
		api_send_problem(q, r, "nothing_to_roll_back", NULL,
		                 "deployment %s has not served another checkpoint before, or that was deleted", d->name);
		return false;
	}
	cJSON *source = cJSON_CreateObject();
	api_add_str(source, "checkpoint", d->previous);
	bool found = api_source_find(c, q, r, source, d->mode, &k);
	enum wasd_status st = found ? want(c, q, d->name, source, k.id, NULL, *reason ? reason : "rollback", &err) :
	                              WASD_OK;
	if (found)
		storage_ckpt_done(&k);
	if (st)
		api_send_error(q, r, &err);
	cJSON_Delete(source);
	return found && !st;
}

enum api_result api_deployments_rollback(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	const char *reason = "";
	int64_t wait = 0;
	enum api_result res = API_DONE;
	if (!api_query_wait(q, r, &wait))
		return API_DONE;
	cJSON *in = api_body_fields(q, r, reason_fields, NULL, true);
	if (in && api_deployment_find(c, q, r, &d)) {
		wasd_json_str(in, "reason", &reason);
		if (q->waited || go_back(c, q, r, &d, reason))
			res = send_changed(c, q, r, d.name, wait);
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return res;
}

/* An update that has failed is tried again. */
static enum wasd_status try_again(struct api_ctx *c, const struct api_request *q, const struct storage_deployment *d,
                                  struct wasd_err *err)
{
	const char *error = NULL, *mode = NULL;
	cJSON *update = d->wanted ? api_parse_trusted(d->update_info) : NULL;
	enum wasd_status st = WASD_OK;
	wasd_json_str(update, "mode", &mode);
	if (wasd_json_str(update, "error", &error))
		st = want(c, q, d->name, wasd_json_get(update, "source"), d->wanted, mode, "reload", err);
	cJSON_Delete(update);
	return st;
}

enum api_result api_deployments_reload(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	cJSON *in = api_body_fields(q, r, reason_fields, NULL, true);
	if (in && api_deployment_find(c, q, r, &d)) {
		const char *reason = "";
		char object[100];
		wasd_json_str(in, "reason", &reason);
		snprintf(object, sizeof object, "deployment/%s", d.name);
		enum wasd_status st = storage_audit_add(c->db, q->actor, "deployment.reload", object, NULL, NULL, reason, NULL,
		                                        &err);
		if (!st)
			st = try_again(c, q, &d, &err);
		if (!st)
			st = c->serving.changed(c->serving.self, d.name, &err);
		if (st)
			api_send_error(q, r, &err);
		else
			api_send_json(r, 202, api_deployment_json(c, &d));
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return API_DONE;
}
