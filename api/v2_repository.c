/* api/v2_repository.c - load and unload of the Open Inference Protocol: both answer when they are done. */
#include "v2.h"
#include <stdio.h>
#include <string.h>

enum { LOAD_US = 120000000, UNLOAD_US = 120000000 };

/* ---- the configuration of a load: Triton's names for a deployment's options ---- */

static const struct wasd_field dynamic_fields[] = {
	{"preferred_batch_size", WASD_LIST, .min = 0, .max = 16, .items = "sizes"},
	{"max_queue_delay_microseconds", WASD_INT, "0", .min = 0, .max = 1000000},
	{0},
};
#define DERIVED "it follows from the checkpoint and cannot be set"
static const struct wasd_field config_fields[] = {
	{"name", WASD_ANY, .def = NULL},
	{"platform", WASD_ANY, .def = NULL},
	{"backend", WASD_ANY, .def = NULL},
	{"max_batch_size", WASD_INT, .min = 1, .max = 64},
	{"dynamic_batching", WASD_OBJECT, .null_ok = true, .sub = dynamic_fields},
	{"input", WASD_REFUSED, .summary = DERIVED},
	{"output", WASD_REFUSED, .summary = DERIVED},
	{"version_policy", WASD_REFUSED, .summary = "a deployment serves one version; PATCH its source"},
	{"instance_group", WASD_REFUSED, .summary = "one process computes for every deployment"},
	{0},
};

/* The largest preferred size, at most max_batch_size; without preferred sizes max_batch_size, else 32. 0: a size is
 * wrong. */
static int64_t largest(const cJSON *dynamic, int64_t most)
{
	int64_t best = 0;
	const cJSON *v;
	cJSON_ArrayForEach(v, wasd_json_get(dynamic, "preferred_batch_size")) {
		if (!cJSON_IsNumber(v) || v->valuedouble < 1 || v->valuedouble > 64 ||
		    v->valuedouble != (double)(int64_t)v->valuedouble)
			return 0;
		if ((int64_t)v->valuedouble > best)
			best = (int64_t)v->valuedouble;
	}
	best = best ? best : most ? most : 32;
	return most && best > most ? most : best;
}

/* {"batching":{...}|null} from a configuration, or {} when it has nothing about it. NULL: the answer is in r. */
static cJSON *options_of(const struct api_request *q, struct api_response *r, const char *config)
{
	static const char at[] = "/parameters/config";
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	struct wasd_err err = {0};
	cJSON *given = NULL, *out = NULL;
	int64_t most = 0, delay = 0;
	if (wasd_json_parse(config, strlen(config), WASD_JSON_REQUEST, &given, &err) || !cJSON_IsObject(given)) {
		api_send_problem(q, r, "bad_json", at, "%s is not a JSON object: %s", at, err.msg);
		cJSON_Delete(given);
		return NULL;
	}
	cJSON *canon = fields_canon(&fc, at, config_fields, given);
	const cJSON *dynamic = wasd_json_get(canon, "dynamic_batching");
	wasd_json_i64(canon, "max_batch_size", &most);
	wasd_json_i64(dynamic, "max_queue_delay_microseconds", &delay);
	if (canon && dynamic && !cJSON_IsNull(dynamic) && !largest(dynamic, most))
		api_fault(&faults, "invalid_field", "/parameters/config/dynamic_batching/preferred_batch_size",
		          "preferred_batch_size must be whole numbers from 1 to 64");
	if (canon && !faults.n) {
		out = cJSON_CreateObject();
		if (cJSON_IsObject(dynamic)) {
			cJSON *batching = cJSON_CreateObject();
			api_add_int(batching, "max_batch", largest(dynamic, most));
			api_add_int(batching, "max_queue_delay_us", delay);
			api_add_take(out, "batching", batching);
		} else if (dynamic || most == 1) {
			api_add_take(out, "batching", cJSON_CreateNull());
		} else if (most) {
			cJSON *batching = cJSON_CreateObject();
			api_add_int(batching, "max_batch", most);
			api_add_int(batching, "max_queue_delay_us", 0);
			api_add_take(out, "batching", batching);
		}
	} else {
		api_send_faults(q, r, &faults);
	}
	cJSON_Delete(canon);
	cJSON_Delete(given);
	return out;
}

/* The options of the body {"parameters":{"config":"{...}"}}; a body may be absent. NULL: the answer is in r. */
static cJSON *read_body(const struct api_request *q, struct api_response *r)
{
	const char *config = NULL;
	cJSON *body = api_body_json(q, r, WASD_JSON_REQUEST, true), *out = NULL;
	const cJSON *m, *parameters = wasd_json_get(body, "parameters");
	if (!body)
		return NULL;
	cJSON_ArrayForEach(m, parameters) {
		char at[256];
		if (!strcmp(m->string, "config") || !strcmp(m->string, "unload_dependents"))
			continue;
		fields_pointer(at, "/parameters", m->string);
		api_send_problem(q, r, "unsupported", at,
		                 "%.200s: a load takes no files; PUT them to /v1/blobs and PATCH the deployment's source", at);
		cJSON_Delete(body);
		return NULL;
	}
	if (wasd_json_get(parameters, "config") && !wasd_json_str(parameters, "config", &config))
		api_send_problem(q, r, "invalid_field", "/parameters/config",
		                 "/parameters/config must be a string with the JSON of a model configuration");
	else
		out = config ? options_of(q, r, config) : cJSON_CreateObject();
	cJSON_Delete(body);
	return out;
}

/* ---- load and unload ---- */

static bool find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_deployment *d)
{
	char name[128];
	struct wasd_err err = {0};
	api_param(q, "m", name);
	enum wasd_status st = storage_deployment_get(c->db, name, d, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no deployment %s", name);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

static enum wasd_status begin_load(struct api_ctx *c, const struct api_request *q, const struct storage_deployment *d,
                                   const cJSON *options, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	if (options->child) {
		char *text = wasd_json_print(options);
		struct storage_options_in set = {.name = d->name, .options = text, .actor = q->actor, .reason = "load"};
		st = text ? storage_deployment_options(c->db, &set, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
		wasd_free(text);
		if (!st)
			st = c->serving.tuned(c->serving.self, d->name, err);
	}
	if (!st)
		st = storage_deployment_again(c->db, d->name, q->actor, err);
	return st ? st : c->serving.changed(c->serving.self, d->name, err);
}

enum api_result api_v2_load(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	enum api_result res = API_DONE;
	if (!find(c, q, r, &d))
		return API_DONE;
	cJSON *options = q->waited ? NULL : read_body(q, r);
	enum wasd_status st = options ? begin_load(c, q, &d, options, &err) : WASD_OK;
	bool begun = q->waited || (options && !st);
	cJSON_Delete(options);
	if (!q->waited) {
		storage_deployment_done(&d);
		if (st)
			api_send_error(q, r, &err);
		if (!begun || !find(c, q, r, &d))
			return API_DONE;
	}
	if (!strcmp(d.state, "ready")) {
		api_send_json(r, 200, cJSON_CreateObject());
	} else if (!strcmp(d.state, "failed")) {
		api_send_problem(q, r, "load_failed", NULL, "deployment %s: %s", d.name,
		                 d.message ? d.message : "its checkpoint could not be loaded");
	} else if (api_again(q, r, d.name, LOAD_US)) {
		res = API_AGAIN;
	} else {
		api_send_problem(q, r, "not_ready", NULL, "deployment %s is still %s", d.name, d.state);
	}
	storage_deployment_done(&d);
	return res;
}

enum api_result api_v2_unload(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	enum api_result res = API_DONE;
	int64_t in_flight = 0;
	if (!find(c, q, r, &d))
		return API_DONE;
	bool unloaded = !strcmp(d.state, "unloaded");
	cJSON *body = q->waited || unloaded ? NULL : read_body(q, r);
	if (body) {
		enum wasd_status st = storage_deployment_drain(c->db, d.name, false, q->actor, &err);
		if (!st || st == WASD_ESTATE) /* state: another request is unloading it */
			st = c->serving.gone(c->serving.self, d.name, &in_flight, &err);
		if (!st && !in_flight)
			st = storage_deployment_drained(c->db, d.name, &err);
		if (st)
			api_send_error(q, r, &err);
		unloaded = !st && !in_flight;
	}
	cJSON_Delete(body);
	if (unloaded)
		api_send_json(r, 200, cJSON_CreateObject());
	else if (!r->status && api_again(q, r, d.name, UNLOAD_US))
		res = API_AGAIN;
	else if (!r->status)
		api_send_problem(q, r, "not_ready", NULL, "deployment %s still answers requests", d.name);
	storage_deployment_done(&d);
	return res;
}
