/* api/networks.c - networks layer by layer. The engine builds and counts them; this file turns its answer into a
 * resource or into the check of a job. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "3x32x32" */
static bool query_shape(const struct api_request *q, struct api_response *r, int out[3])
{
	const char *s = api_query(q, "input");
	char rest;
	out[0] = 3, out[1] = out[2] = 32;
	if (!s ||
	    (sscanf(s, "%5dx%5dx%5d%c", &out[0], &out[1], &out[2], &rest) == 3 && out[0] > 0 && out[1] > 0 && out[2] > 0))
		return true;
	api_send_problem(q, r, "bad_parameter", "input",
	                 "query parameter input must be a shape such as 3x32x32, not \"%.60s\"", s);
	return false;
}

/* model.head=4096 becomes "head": 4096; the engine checks which options exist. */
static bool query_options(const struct api_request *q, struct api_response *r, cJSON *model)
{
	for (size_t i = 0; i < q->n_query; i++) {
		const char *name = q->query[i].name, *value = q->query[i].value;
		if (strncmp(name, "model.", 6))
			continue;
		char *end;
		long v = strtol(value, &end, 10);
		bool truth = !strcmp(value, "true");
		if (truth || !strcmp(value, "false")) {
			api_add_take(model, name + 6, cJSON_CreateBool(truth));
			continue;
		}
		if (!strcmp(name + 6, "arch") || *end || end == value || labs(v) > 1 << 30) {
			api_send_problem(
				q, r, "bad_parameter", name,
				"query parameter %.60s must be a whole number, true or false for an option of the network, not \"%.60s\"",
				name, value);
			return false;
		}
		api_add_int(model, name + 6, v);
	}
	return true;
}

static cJSON *request(cJSON *model, cJSON *was, const int input[3], int64_t classes)
{
	cJSON *j = cJSON_CreateObject();
	api_add_take(j, "model", model);
	if (was)
		api_add_take(j, "was", was);
	api_add_take(j, "input", cJSON_CreateIntArray(input, 3));
	api_add_int(j, "classes", classes);
	return j;
}

static enum wasd_status ask(struct api_ctx *c, const cJSON *question, cJSON **out, struct wasd_err *err)
{
	if (api_poisoned(question))
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	return c->engine.describe(c->engine.self, question, out, err);
}

enum api_result api_networks_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char arch[128];
	int input[3];
	int64_t classes = 10;
	struct wasd_err err = {0};
	cJSON *answer = NULL;
	api_param(q, "arch", arch);
	if (!caps_row(c->engine.capabilities(c->engine.self), "archs", arch)) {
		api_send_problem(q, r, "not_found", NULL, "no network %s", arch);
		return API_DONE;
	}
	if (!query_shape(q, r, input) || !api_query_int(q, r, "classes", 2, 65535, &classes))
		return API_DONE;
	cJSON *model = cJSON_CreateObject();
	api_add_str(model, "arch", arch);
	if (!query_options(q, r, model)) {
		cJSON_Delete(model);
		return API_DONE;
	}
	cJSON *question = request(model, NULL, input, classes);
	enum wasd_status s = ask(c, question, &answer, &err);
	cJSON_Delete(question);
	if (s == WASD_EINVAL || s == WASD_ETOOBIG)
		api_send_problem(q, r, "bad_parameter", strcmp(err.pointer, "/dataset") ? "model" : "input", "%s: %s",
		                 strcmp(err.pointer, "/dataset") ? err.pointer : "input", err.msg);
	else if (s)
		api_send_error(q, r, &err);
	else
		api_send_json(r, 200, answer);
	return API_DONE;
}

/* What the engine is asked for each of them. */
static cJSON *requests(const cJSON *profiles)
{
	cJSON *out = cJSON_CreateArray();
	const cJSON *one;
	cJSON_ArrayForEach(one, profiles) {
		char *text = api_profile_request(one);
		api_push(out, text ? cJSON_Parse(text) : NULL);
		wasd_free(text);
	}
	return out;
}

/* Sends the question, which it takes. Removes `prefix` from the engine's pointers. */
static bool check(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *question,
                  const char *prefix, cJSON **out)
{
	struct wasd_err err = {0};
	enum wasd_status s = ask(c, question, out, &err);
	size_t n = strlen(prefix);
	const char *pointer = err.pointer + (strncmp(err.pointer, prefix, n) ? 0 : n);
	cJSON_Delete(question);
	bool refused = s == WASD_EINVAL || s == WASD_ETOOBIG ||
	               ((s == WASD_ENOTFOUND || s == WASD_EUNSUPPORTED) && *pointer);
	if (refused)
		api_send_problem(q, r, "invalid_field", pointer, "%s%s%s", pointer, *pointer ? ": " : "", err.msg);
	else if (s)
		api_send_error(q, r, &err);
	return s == WASD_OK;
}

bool api_job_check(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *spec,
                   const char *dataset, cJSON **warnings)
{
	cJSON *question = cJSON_CreateObject(), *answer = NULL;
	api_add_take(question, "spec", cJSON_Duplicate(spec, 1));
	api_add_str(question, "dataset", dataset);
	api_add_take(question, "profiles", requests(wasd_json_get(spec, "profiles")));
	api_add_take(question, "modes", requests(wasd_json_get(spec, "modes")));
	bool ok = check(c, q, r, question, "", &answer);
	if (ok)
		*warnings = cJSON_DetachItemFromObjectCaseSensitive(answer, "warnings");
	cJSON_Delete(answer);
	return ok;
}

bool api_profile_check(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *spec,
                       const char *ckpt_info, const cJSON *profile)
{
	cJSON *question = cJSON_CreateObject(), *info = api_parse_trusted(ckpt_info), *list = cJSON_CreateArray(),
		  *answer = NULL;
	const cJSON *input = wasd_json_get(info, "input"), *classes = wasd_json_get(info, "classes");
	bool known = input && classes;
	api_push(list, cJSON_Duplicate(profile, 1));
	if (spec)
		api_add_take(question, "spec", api_parse_trusted(spec));
	api_add_take(question, "input", cJSON_Duplicate(input, 1));
	api_add_int(question, "classes", cJSON_GetArraySize(classes));
	cJSON *asked = requests(list);
	api_add_take(question, "profiles", asked);
	cJSON_Delete(list);
	cJSON_Delete(info);
	bool ok = true;
	if (known)
		ok = check(c, q, r, question, "/profiles/0", &answer);
	else
		cJSON_Delete(question);
	cJSON_Delete(answer);
	return ok;
}
