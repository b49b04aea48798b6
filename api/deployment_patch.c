/* api/deployment_patch.c - changes of a deployment while it serves: its options, and its reload. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* ---- PATCH ---- */

static const struct wasd_field patch_fields[] = {
	{"name", WASD_REFUSED, .summary = "the name of a deployment does not change; create another deployment"},
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

static enum wasd_status set_options(struct api_ctx *c, const struct api_request *q, const char *name, const cJSON *in,
                                    struct wasd_err *err)
{
	char *options = api_deployment_options_text(in);
	struct storage_options_in set = {.name = name, .options = options, .actor = q->actor};
	enum wasd_status st = options ? storage_deployment_options(c->db, &set, err) :
	                                wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(options);
	return st ? st : c->serving.tuned(c->serving.self, name, err);
}

enum api_result api_deployments_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d, now;
	struct wasd_err err = {0};
	if (!api_deployment_find(c, q, r, &d))
		return API_DONE;
	cJSON *in = read_patch(q, r, &d);
	enum wasd_status st = in ? set_options(c, q, d.name, in, &err) : WASD_OK;
	if (in && !st)
		st = storage_deployment_get(c->db, d.name, &now, &err);
	if (st) {
		api_send_error(q, r, &err);
	} else if (in) {
		api_send_json(r, 200, api_deployment_json(c, &now));
		storage_deployment_done(&now);
	}
	cJSON_Delete(in);
	storage_deployment_done(&d);
	return API_DONE;
}

/* ---- reload ---- */

static const struct wasd_field reload_fields[] = {{"reason", WASD_STR, "\"\"", .min = 0, .max = 500}, {0}};

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
			api_send_json(r, 202, api_deployment_json(c, &d));
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return API_DONE;
}
