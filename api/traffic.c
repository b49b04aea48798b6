/* api/traffic.c - the traffic policy of a deployment: which modes answer the requests that name none. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the body ---- */

cJSON *api_live_mode_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	(void)f;
	if (cJSON_IsString(v) && (wasd_mode_ok(v->valuestring) || wasd_mode_chooses(v->valuestring)))
		return cJSON_CreateString(v->valuestring);
	if (cJSON_IsObject(v))
		return api_wish_canon(c, pointer, v);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer,
	          "%s must be \"aom\", \"dom\", \"slim\", \"FAMILY:NAME\", \"auto\", \"cascade\" or a wish such as "
	          "{\"within_us\": 900}, not %s",
	          pointer, shown);
	return NULL;
}

/* A field name of RFC 9110. */
cJSON *api_header_name_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	static const char others[] = "!#$%&'*+-.^_`|~";
	const char *s = cJSON_IsString(v) ? v->valuestring : "";
	bool ok = *s && strlen(s) <= (size_t)f->max;
	for (; ok && *s; s++)
		ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr(others, *s);
	if (ok)
		return cJSON_CreateString(v->valuestring);
	char shown[80];
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be the name of a header, at most %.0f bytes, not %s",
	          pointer, f->max, shown);
	return NULL;
}

enum { SPLIT_MAX = 16, WEIGHT_MAX = 1000000 };

/* {MODE: WEIGHT, ...} with at least one weight above 0; weights of 0 are left out. */
cJSON *api_split_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	static const struct wasd_field weight = {"", WASD_INT, .max = WEIGHT_MAX};
	char at[256], shown[80];
	const cJSON *one;
	int faults = c->faults->n;
	(void)f;
	fields_show(shown, v);
	if (!cJSON_IsObject(v) || cJSON_GetArraySize(v) > SPLIT_MAX) {
		api_fault(
			c->faults, "invalid_field", pointer,
			"%s must be an object of at most %d modes with their weights, such as {\"aom\":90,\"dom\":10}, not %s",
			pointer, SPLIT_MAX, shown);
		return NULL;
	}
	cJSON *out = cJSON_CreateObject();
	cJSON_ArrayForEach(one, v) {
		fields_pointer(at, pointer, one->string);
		if (!wasd_mode_ok(one->string)) {
			api_fault(c->faults, "invalid_field", at, "%s: only aom, dom, slim and FAMILY:NAME can have a share", at);
			continue;
		}
		cJSON *n = field_value(c, at, &weight, one);
		if (n && n->valuedouble > 0)
			api_add_take(out, one->string, n);
		else
			cJSON_Delete(n);
	}
	if (c->faults->n == faults && !cJSON_GetArraySize(out))
		api_fault(c->faults, "invalid_field", pointer, "%s must give at least one mode a weight above 0", pointer);
	if (c->faults->n == faults)
		return out;
	cJSON_Delete(out);
	return NULL;
}

static const struct wasd_field shadow_fields[] = {
	{"mode", WASD_STR, .required = true, .form = "mode"},
	{"percent", WASD_NUM, "10", 0, 100, .above_min = true},
	{"examples", WASD_INT, "0", .min = 0, .max = 16},
	{0},
};
static const struct wasd_field auto_fields[] = {
	{"cheap", WASD_STR, "\"" WASD_MODE_DOM "\"", .form = "mode"},
	{"target_p99_us", WASD_INT, "50000", .min = 100, .max = 60e6},
	{"window_ms", WASD_INT, "2000", .min = 100, .max = 60000},
	{"hold_ms", WASD_INT, "5000", .min = 100, .max = 600000},
	{0},
};
static const struct wasd_field cascade_fields[] = {
	{"cheap", WASD_STR, "\"" WASD_MODE_DOM "\"", .form = "mode"},
	{"threshold", WASD_NUM, "null", 0, 1, .null_ok = true},
	{"keep", WASD_NUM, "null", 0, 1, .above_min = true, .null_ok = true},
	{0},
};
static const struct wasd_field traffic_fields[] = {
	{"split", WASD_OBJECT, "null", .null_ok = true, .form = "split"},
	{"sticky_header", WASD_STR, "null", .max = 64, .null_ok = true, .form = "header name"},
	{"shadow", WASD_OBJECT, "null", .null_ok = true, .sub = shadow_fields},
	{"auto", WASD_OBJECT, "null", .null_ok = true, .sub = auto_fields},
	{"cascade", WASD_OBJECT, "null", .null_ok = true, .sub = cascade_fields},
	{0},
};

/* ---- modes that it names ---- */

/* False: the answer is in r. */
static bool mode_exists(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                        const struct storage_deployment *d, const char *mode, const char *pointer)
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	if (wasd_mode_member(mode))
		return api_mode_there(c, q, r, d->checkpoint, mode, "invalid_field", pointer);
	if (!strcmp(mode, WASD_MODE_AOM))
		return true;
	if (storage_ckpt_get(c->db, d->checkpoint, &k, &err)) {
		api_send_error(q, r, &err);
		return false;
	}
	bool there = api_ckpt_has(&k, mode);
	storage_ckpt_done(&k);
	if (!there)
		api_send_problem(q, r, "unsupported", pointer, "%s: deployment %s has no %s bundle: %s", pointer, d->name, mode,
		                 api_mode_lacking(mode));
	return there;
}

static bool cheap_ok(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                     const struct storage_deployment *d, const char *mode, const char *pointer)
{
	if (strcmp(mode, WASD_MODE_AOM))
		return mode_exists(c, q, r, d, mode, pointer);
	api_send_problem(q, r, "invalid_field", pointer, "%s must be another mode than aom, which it replaces", pointer);
	return false;
}

static bool modes_ok(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                     const struct storage_deployment *d, const cJSON *in)
{
	char at[256];
	const char *mode;
	const cJSON *one;
	cJSON_ArrayForEach(one, wasd_json_get(in, "split")) {
		fields_pointer(at, "/split", one->string);
		if (!mode_exists(c, q, r, d, one->string, at))
			return false;
	}
	if (wasd_json_str(wasd_json_get(in, "shadow"), "mode", &mode) && !mode_exists(c, q, r, d, mode, "/shadow/mode"))
		return false;
	if (wasd_json_str(wasd_json_get(in, "auto"), "cheap", &mode) && !cheap_ok(c, q, r, d, mode, "/auto/cheap"))
		return false;
	return !wasd_json_str(wasd_json_get(in, "cascade"), "cheap", &mode) || cheap_ok(c, q, r, d, mode, "/cascade/cheap");
}

/* Two members that contradict each other, or the mode of the deployment. */
static bool members_ok(const struct api_request *q, struct api_response *r, const struct storage_deployment *d,
                       const cJSON *in)
{
	const cJSON *split = wasd_json_get(in, "split"), *cascade = wasd_json_get(in, "cascade");
	if (cJSON_IsObject(split) && wasd_mode_chooses(d->mode))
		api_send_problem(q, r, "conflict", "/split",
		                 "/split: deployment %s is in mode %s, which chooses the mode of each request; switch it to "
		                 "another mode first",
		                 d->name, d->mode);
	else if (cJSON_IsString(wasd_json_get(in, "sticky_header")) && !cJSON_IsObject(split))
		api_send_problem(q, r, "invalid_field", "/sticky_header", "/sticky_header: there is no split to stick to");
	else if (cJSON_IsNumber(wasd_json_get(cascade, "threshold")) && cJSON_IsNumber(wasd_json_get(cascade, "keep")))
		api_send_problem(q, r, "invalid_field", "/cascade/keep",
		                 "/cascade/keep: give a threshold, or the share of aom's accuracy to find one for, not both");
	else
		return true;
	return false;
}

/* ---- the answer ---- */

/* The members of the stored options; the caller frees *options. */
static const cJSON *stored(const struct storage_deployment *d, const char *name, cJSON **options)
{
	*options = d->options ? api_parse_trusted(d->options) : NULL;
	return wasd_json_get(*options, name);
}

void api_add_traffic(cJSON *j, const struct storage_deployment *d)
{
	cJSON *options;
	const cJSON *traffic = stored(d, "traffic", &options);
	api_add_take(j, "traffic", traffic ? cJSON_Duplicate(traffic, 1) : cJSON_CreateNull());
	cJSON_Delete(options);
}

/* The generation and the digest of the policy. */
static void make_etag(const struct storage_deployment *d, char out[64])
{
	cJSON *options;
	char hex[WASD_SHA256_HEX];
	char *text = wasd_json_print(stored(d, "traffic", &options));
	wasd_sha256_of(text ? text : "", text ? strlen(text) : 0, hex);
	snprintf(out, 64, "\"g%lld-%.16s\"", (long long)d->generation, hex);
	wasd_free(text);
	cJSON_Delete(options);
}

static void send_traffic(struct api_ctx *c, struct api_response *r, const struct storage_deployment *d)
{
	char etag[64];
	cJSON *options, *j = cJSON_CreateObject();
	const cJSON *traffic = stored(d, "traffic", &options), *tuned = wasd_json_get(options, "tuned");
	for (const struct wasd_field *f = traffic_fields; f->name; f++) {
		const cJSON *v = wasd_json_get(traffic, f->name);
		api_add_take(j, f->name, v ? cJSON_Duplicate(v, 1) : cJSON_CreateNull());
	}
	api_add_str(j, "mode", d->mode);
	api_add_int(j, "generation", d->generation);
	cJSON *now = c->serving.traffic_now(c->serving.self, d->name);
	api_add_take(j, "now", now ? now : cJSON_CreateNull());
	api_add_take(j, "tuned", tuned ? cJSON_Duplicate(tuned, 1) : cJSON_CreateNull());
	cJSON_Delete(options);
	make_etag(d, etag);
	api_send_json(r, 200, j);
	api_set_header(r, "ETag", "%s", etag);
	api_set_header(r, "Cache-Control", "no-store");
	r->always_whole = true; /* the tag identifies the policy; "now" changes under it */
}

static bool same_member(const cJSON *a, const cJSON *b, const char *name)
{
	return cJSON_Compare(wasd_json_get(a, name), wasd_json_get(b, name), true);
}

/* The policy wants a threshold, and there is neither one for this checkpoint nor a reason why not. From the row alone:
 * its event tells when that changes. */
static bool awaits_tuning(const struct storage_deployment *d)
{
	cJSON *options;
	const char *on = "";
	const cJSON *cascade = wasd_json_get(stored(d, "traffic", &options), "cascade"),
				*tuned = wasd_json_get(options, "tuned");
	wasd_json_str(tuned, "checkpoint", &on);
	bool waits = cJSON_IsNumber(wasd_json_get(cascade, "keep")) &&
	             (strcmp(on, d->checkpoint ? d->checkpoint : "") || !same_member(cascade, tuned, "cheap") ||
	              !same_member(cascade, tuned, "keep"));
	cJSON_Delete(options);
	return waits;
}

enum api_result api_traffic_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	int64_t wait;
	if (!api_query_wait(q, r, &wait) || !api_deployment_find(c, q, r, &d))
		return API_DONE;
	bool again = wait && awaits_tuning(&d) && api_again(q, r, d.name, wait);
	if (!again)
		send_traffic(c, r, &d);
	storage_deployment_done(&d);
	return again ? API_AGAIN : API_DONE;
}

/* ---- PUT ---- */

/* If-Match: the tag of GET .../traffic, or "gN" of the mode. *bound: the change is tied to the row as it was read. */
static bool match_ok(const struct api_request *q, struct api_response *r, const struct storage_deployment *d,
                     bool *bound)
{
	const char *list = api_header(q, "if-match");
	char etag[64], generation[32];
	*bound = list && *list != '*';
	if (!*bound)
		return true;
	make_etag(d, etag);
	snprintf(generation, sizeof generation, "\"g%lld\"", (long long)d->generation);
	if (api_etag_listed(list, etag, true) || api_etag_listed(list, generation, true))
		return true;
	api_send_problem(q, r, "stale", NULL, "If-Match %.100s: the traffic policy of deployment %s is at %s", list,
	                 d->name, etag);
	api_set_header(r, "ETag", "%s", etag);
	return false;
}

/* The members that were set; NULL for none. False: no memory. */
static bool policy_text(const cJSON *in, char **out)
{
	cJSON *set = cJSON_CreateObject();
	const cJSON *m;
	*out = NULL;
	cJSON_ArrayForEach(m, in) {
		cJSON *one = cJSON_IsNull(m) ? NULL : cJSON_Duplicate(m, 1);
		if (!cJSON_IsNull(m))
			api_add_take(set, m->string, one);
	}
	bool ok = !api_poisoned(set);
	if (ok && set->child)
		ok = (*out = wasd_json_print(set)) != NULL;
	cJSON_Delete(set);
	return ok;
}

/* Commits the policy text (NULL: none) and answers with it. bound: only if the row is as it was read. */
static void commit(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                   const struct storage_deployment *d, const char *text, bool bound, bool anew)
{
	struct wasd_err err = {0};
	struct storage_deployment now;
	struct storage_traffic_in change = {.name = d->name,
	                                    .actor = q->actor,
	                                    .set_traffic = true,
	                                    .traffic = text,
	                                    .set_tuned = anew,
	                                    .expected_options = bound || anew ? d->options : NULL,
	                                    .checkpoint = d->checkpoint};
	enum wasd_status st = c->serving.traffic(c->serving.self, &change, &now, &err);
	if (st == WASD_ESTATE && bound)
		api_send_problem(q, r, "stale", NULL, "%s", err.msg);
	else if (st == WASD_ESTATE)
		api_send_problem(q, r, "conflict", NULL, "%s", err.msg);
	else if (st)
		api_send_error(q, r, &err);
	if (st)
		return;
	send_traffic(c, r, &now);
	if (r->status == 200 && anew)
		r->status = 202;
	storage_deployment_done(&now);
}

static void put(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                const struct storage_deployment *d, const cJSON *in)
{
	char *text = NULL;
	bool bound = false;
	if (!match_ok(q, r, d, &bound) || !members_ok(q, r, d, in) || !modes_ok(c, q, r, d, in))
		return;
	if (policy_text(in, &text))
		commit(c, q, r, d, text, bound, false);
	else
		api_send_no_memory(r);
	wasd_free(text);
}

enum api_result api_traffic_put(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	cJSON *in = api_body_fields(q, r, traffic_fields, NULL, false);
	if (in && api_deployment_find(c, q, r, &d)) {
		put(c, q, r, &d, in);
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return API_DONE;
}

/* ---- cascade:tune ---- */

static const struct wasd_field tune_fields[] = {
	{"cheap", WASD_STR, "\"" WASD_MODE_DOM "\"", .form = "mode"},
	{"keep", WASD_NUM, "0.99", 0, 1, .above_min = true},
	{0},
};

/* The policy with this cascade, whose threshold is to be found anew. */
static void tune(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                 const struct storage_deployment *d, const cJSON *in)
{
	const char *cheap = "";
	bool bound = false;
	cJSON *options;
	wasd_json_str(in, "cheap", &cheap);
	if (!match_ok(q, r, d, &bound) || !cheap_ok(c, q, r, d, cheap, "/cheap"))
		return;
	const cJSON *have = stored(d, "traffic", &options);
	cJSON *policy = have ? cJSON_Duplicate(have, 1) : cJSON_CreateObject(), *cascade = cJSON_Duplicate(in, 1);
	api_add_take(cascade, "threshold", cJSON_CreateNull());
	cJSON_DeleteItemFromObjectCaseSensitive(policy, "cascade");
	api_add_take(policy, "cascade", cascade);
	char *text = api_poisoned(policy) ? NULL : wasd_json_print(policy);
	if (text)
		commit(c, q, r, d, text, bound, true);
	else
		api_send_no_memory(r);
	wasd_free(text);
	cJSON_Delete(policy);
	cJSON_Delete(options);
}

enum api_result api_cascade_tune(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	cJSON *in = api_body_fields(q, r, tune_fields, NULL, true);
	if (in && api_deployment_find(c, q, r, &d)) {
		tune(c, q, r, &d, in);
		storage_deployment_done(&d);
	}
	cJSON_Delete(in);
	return API_DONE;
}

/* ---- the switch to auto and cascade ---- */

/* The daemon knows whether a threshold was given or found for this checkpoint. */
static bool threshold_ok(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                         const struct storage_deployment *d)
{
	cJSON *now = c->serving.traffic_now(c->serving.self, d->name);
	bool known = !now || cJSON_IsNumber(wasd_json_get(now, "threshold"));
	cJSON_Delete(now);
	if (!known)
		api_send_problem(
			q, r, "conflict", "/mode",
			"/mode: the cascade of deployment %s has no threshold yet: PUT /v1/deployments/%s/traffic with "
			"{\"cascade\":{\"threshold\":X}}, or have one found: POST /v1/deployments/%s/cascade:tune",
			d->name, d->name, d->name);
	return known;
}

bool api_mode_fits_traffic(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                           const struct storage_deployment *d, const char *mode)
{
	const char *cheap = WASD_MODE_DOM;
	cJSON *options;
	if (!wasd_mode_chooses(mode))
		return true;
	const cJSON *traffic = stored(d, "traffic", &options);
	bool ok = !cJSON_IsObject(wasd_json_get(traffic, "split"));
	if (!ok) {
		api_send_problem(q, r, "conflict", "/mode",
		                 "/mode: the traffic policy of deployment %s has a split, which chooses the mode of each "
		                 "request; remove it first",
		                 d->name);
	} else {
		wasd_json_str(wasd_json_get(traffic, mode), "cheap", &cheap);
		ok = cheap_ok(c, q, r, d, cheap, "/mode") && (strcmp(mode, WASD_MODE_CASCADE) || threshold_ok(c, q, r, d));
	}
	cJSON_Delete(options);
	return ok;
}

/* ---- examples of the shadow ---- */

enum api_result api_traffic_example(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_deployment d;
	char id[128];
	const char *type = NULL;
	if (!api_deployment_find(c, q, r, &d))
		return API_DONE;
	api_param(q, "i", id);
	bool number = *id && strlen(id) <= 15 && strspn(id, "0123456789") == strlen(id);
	if (number && c->serving.example(c->serving.self, d.name, strtoll(id, NULL, 10), &r->body, &type)) {
		r->status = 200;
		r->content_type = type;
		api_set_header(r, "Cache-Control", "no-store");
	} else {
		api_send_problem(q, r, "not_found", NULL,
		                 "deployment %s keeps no example %.40s; GET /v1/deployments/%s/stats lists those that it keeps",
		                 d.name, id, d.name);
	}
	storage_deployment_done(&d);
	return API_DONE;
}
