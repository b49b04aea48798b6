/* api/v2.c - the Open Inference Protocol (KServe v2, Triton's HTTP form) for deployments. Each deployment is a model
 * of the same name. */
#include "v2.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void send_plain(struct api_response *r, int status, cJSON *j)
{
	api_send_json(r, status, j); /* exactly application/json: the KServe SDK compares the whole Content-Type */
}

enum api_result api_v2_server(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const extensions[] = {"binary_tensor_data",  "classification", "model_repository",
	                                         "model_configuration", "statistics",     "schedule_policy",
	                                         "parameters"};
	cJSON *j = cJSON_CreateObject();
	(void)c, (void)q;
	api_add_str(j, "name", "wasd");
	api_add_str(j, "version", WASD_VERSION);
	api_add_take(j, "extensions", cJSON_CreateStringArray(extensions, (int)API_LEN(extensions)));
	send_plain(r, 200, j);
	return API_DONE;
}

/* s: the daemon's report on its serving. */
static bool all_ready(struct api_ctx *c, const cJSON *s)
{
	int64_t wait;
	return c->system.ready(c->system.self) && !wasd_json_i64(s, "restart_in_s", &wait) &&
	       !cJSON_GetArraySize(wasd_json_get(s, "not_loaded"));
}

bool v2_is_ready(struct api_ctx *c)
{
	cJSON *s = c->serving.health(c->serving.self);
	bool ready = all_ready(c, s);
	cJSON_Delete(s);
	return ready;
}

/* The KServe SDK reads "live" and "ready" from the body; other clients read only the status. */
static void send_health(struct api_ctx *c, struct api_response *r, bool ask_ready)
{
	cJSON *j = cJSON_CreateObject(), *s = c->serving.health(c->serving.self);
	cJSON *suspended = cJSON_DetachItemFromObjectCaseSensitive(s, "suspended");
	int64_t wait = 0;
	int out = cJSON_GetArraySize(wasd_json_get(s, "not_loaded"));
	bool ready = all_ready(c, s);
	wasd_json_i64(s, "restart_in_s", &wait);
	int status = ask_ready && !ready ? 503 : 200;
	api_add_take(j, "live", cJSON_CreateTrue());
	api_add_take(j, "ready", cJSON_CreateBool(ready));
	if (wait)
		api_add_str(j, "reason", "the inference process has ended too often and waits before it starts again");
	else if (out)
		api_add_str(j, "reason", "the inference process is being restarted");
	if (cJSON_GetArraySize(suspended))
		api_add_take(j, "suspended", suspended);
	else
		cJSON_Delete(suspended);
	cJSON_Delete(s);
	send_plain(r, status, j);
	r->etag_auto = false;
	if (status == 503)
		api_set_header(r, "Retry-After", "%lld", (long long)(wait ? wait : 1));
}

enum api_result api_v2_live(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)q;
	send_health(c, r, false);
	return API_DONE;
}

enum api_result api_v2_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)q;
	send_health(c, r, true);
	return API_DONE;
}

/* Calls each for every deployment. False: the answer is in r. */
static bool each_model(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *list,
                       void (*each)(struct api_ctx *c, cJSON *list, const struct storage_deployment *d))
{
	struct storage_page page = {.limit = 500};
	struct wasd_err err = {0};
	char *cursor = NULL;
	do {
		struct storage_deployment_list l;
		page.cursor = cursor;
		enum wasd_status st = storage_deployment_list(c->db, NULL, page, &l, &err);
		wasd_free(cursor);
		if (st) {
			api_send_error(q, r, &err);
			return false;
		}
		for (size_t i = 0; i < l.n; i++)
			each(c, list, &l.items[i]);
		cursor = l.next_cursor ? wasd_strdup(l.next_cursor) : NULL;
		storage_deployment_list_done(&l);
	} while (cursor);
	return true;
}

static void add_name(struct api_ctx *c, cJSON *list, const struct storage_deployment *d)
{
	(void)c;
	api_push(list, cJSON_CreateString(d->name));
}

enum api_result api_v2_models(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	cJSON *names = cJSON_CreateArray();
	if (!each_model(c, q, r, names, add_name)) {
		cJSON_Delete(names);
		return API_DONE;
	}
	cJSON *j = cJSON_CreateObject();
	api_add_take(j, "models", names);
	send_plain(r, 200, j);
	return API_DONE;
}

/* The states of a deployment in Triton's words. */
static const char *index_state(const struct storage_deployment *d, bool ready)
{
	static const char *const states[][2] = {{"created", "LOADING"},
	                                        {"loading", "LOADING"},
	                                        {"warming", "LOADING"},
	                                        {"draining", "UNLOADING"}};
	for (size_t i = 0; i < API_LEN(states); i++)
		if (!strcmp(d->state, states[i][0]))
			return states[i][1];
	return ready ? "READY" : "UNAVAILABLE";
}

static void add_index(struct api_ctx *c, cJSON *list, const struct storage_deployment *d)
{
	char version[24];
	cJSON *j = cJSON_CreateObject();
	struct api_live live;
	bool ready = !strcmp(d->state, "ready") && c->serving.live(c->serving.self, d->name, &live) && live.ready;
	snprintf(version, sizeof version, "%lld", (long long)d->version);
	api_add_str(j, "name", d->name);
	api_add_str(j, "version", version);
	api_add_str(j, "state", index_state(d, ready));
	api_add_str(j, "reason", ready ? "" : d->message && *d->message ? d->message : d->state);
	api_push(list, j);
}

/* The body may be {"ready":true}: list only models that are ready. */
enum api_result api_v2_index(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	bool ready = false;
	const char *state;
	cJSON *list = cJSON_CreateArray(), *body = NULL, *one, *next;
	struct wasd_err err = {0};
	if (q->body_len && wasd_json_parse(q->body, q->body_len, WASD_JSON_REQUEST, &body, &err)) {
		cJSON_Delete(list);
		api_send_problem(q, r, "bad_json", err.pointer, "%s", err.msg);
		return API_DONE;
	}
	wasd_json_bool(body, "ready", &ready);
	cJSON_Delete(body);
	if (!each_model(c, q, r, list, add_index)) {
		cJSON_Delete(list);
		return API_DONE;
	}
	for (one = list ? list->child : NULL; ready && one; one = next) {
		next = one->next;
		if (wasd_json_str(one, "state", &state) && strcmp(state, "READY"))
			cJSON_Delete(cJSON_DetachItemViaPointer(list, one));
	}
	send_plain(r, 200, list);
	return API_DONE;
}

/* ---- which model ---- */

void v2_read_ref(const struct api_request *q, struct model_ref *m)
{
	api_param(q, "m", m->name);
	api_param(q, "v", m->version);
	m->alias = strchr(m->name, '@');
	if (m->alias)
		*m->alias++ = 0;
	m->version_mode = strchr(m->version, '-');
	if (m->version_mode)
		*m->version_mode++ = 0;
}

size_t v2_ref_modes(const struct model_ref *m, struct mode_asked out[2])
{
	out[0] = (struct mode_asked){m->version_mode, "version path"};
	out[1] = (struct mode_asked){m->alias, "model alias"};
	return 2;
}

bool v2_version_ok(const struct api_request *q, struct api_response *r, const struct model_ref *m, int64_t version)
{
	char have[24];
	snprintf(have, sizeof have, "%lld", (long long)version);
	if (!*m->version || !strcmp(m->version, have))
		return true;
	api_send_problem(q, r, "not_found", NULL, "model %s has no version %.40s; it has %s", m->name, m->version, have);
	return false;
}

static cJSON *dims_json(const int64_t *dims, int n, bool batch)
{
	cJSON *a = cJSON_CreateArray();
	if (batch)
		api_push(a, cJSON_CreateNumber(-1));
	for (int i = 0; i < n; i++)
		api_push(a, cJSON_CreateNumber((double)dims[i]));
	return a;
}

/* One tensor of the metadata (type "FP32", leading -1) or of the configuration ("TYPE_FP32", without batch
 * dimension). */
static cJSON *add_tensor(cJSON *list, const char *name, const char *type, const int64_t *dims, int n, bool config)
{
	char typed[24];
	cJSON *t = cJSON_CreateObject();
	snprintf(typed, sizeof typed, "%s%s", config ? "TYPE_" : "", type);
	api_add_str(t, "name", name);
	api_add_str(t, config ? "data_type" : "datatype", typed);
	api_add_take(t, config ? "dims" : "shape", dims_json(dims, n, !config));
	api_push(list, t);
	return t;
}

/* The second input is an alternative form of the first: a request has one of them. */
static void add_tensors(cJSON *j, const struct inference *s, bool config)
{
	static const int64_t one = 1;
	cJSON *in = cJSON_CreateArray(), *out = cJSON_CreateArray();
	add_tensor(in, "input", "FP32", s->input, 3, config);
	/* The configuration calls BYTES a string; clients that read the configuration may omit optional inputs. */
	cJSON *image = add_tensor(in, "image", config ? "STRING" : "BYTES", &one, config ? 1 : 0, config);
	api_add_take(image, "optional", cJSON_CreateTrue());
	add_tensor(out, "logits", "FP32", &s->classes, 1, config);
	add_tensor(out, "probs", "FP32", &s->classes, 1, config);
	api_add_take(j, config ? "input" : "inputs", in);
	api_add_take(j, config ? "output" : "outputs", out);
}

static char *pixels_text(const struct inference *s)
{
	char *rule = wasd_pixels_are_half(&s->pixels) ? wasd_strdup("(v/255 - 0.5)/0.5") :
	                                                wasd_pixels_rule(&s->pixels, (int)s->input[0]);
	char *text = rule ? wasd_asprintf("input, FP32: %s for a pixel v from 0 to 255, NCHW; input, UINT8: the pixels "
	                                  "themselves; image, BYTES: JPEG or PNG files of any size",
	                                  rule) :
	                    NULL;
	wasd_free(rule);
	return text;
}

/* What a client must know to send correct numbers and to read the answer; all strings, as the protocol requires. */
static void add_properties(cJSON *p, const struct inference *s)
{
	char *classes = wasd_json_print(wasd_json_get(s->info, "classes")), *pixels = pixels_text(s);
	const char *how[] = {"fit", "background", "orientation"}, *v;
	if (pixels)
		api_add_str(p, "pixels", pixels);
	else
		api_poison(p);
	api_add_str(p, "channels", s->input[0] == 1 ? "grey" : "RGB");
	if (classes)
		api_add_str(p, "classes", classes);
	else
		api_poison(p);
	for (size_t i = 0; i < API_LEN(how); i++)
		if (wasd_json_str(s->info, how[i], &v))
			api_add_str(p, how[i], v);
	wasd_free(pixels);
	wasd_free(classes);
}

/* Finds the model of the path as an inference request would. */
static bool look(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct model_ref *m,
                 struct inference *s)
{
	struct mode_asked asked[2];
	v2_read_ref(q, m);
	size_t n = v2_ref_modes(m, asked);
	if (!api_inference_look(c, q, r, m->name, asked, n, s))
		return false;
	if (v2_version_ok(q, r, m, s->live.version))
		return true;
	api_inference_end(s);
	return false;
}

enum api_result api_v2_model(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	struct inference s;
	char version[24], generation[24];
	const char *arch = "";
	if (!look(c, q, r, &m, &s))
		return API_DONE;
	cJSON *j = cJSON_CreateObject(), *p = cJSON_CreateObject();
	snprintf(version, sizeof version, "%lld", (long long)s.live.version);
	snprintf(generation, sizeof generation, "%lld", (long long)s.live.generation);
	const char *versions[] = {version};
	api_add_str(j, "name", s.name);
	api_add_take(j, "versions", cJSON_CreateStringArray(versions, 1));
	api_add_str(j, "platform", "wasd_cnn");
	add_tensors(j, &s, false);
	wasd_json_str(s.info, "arch", &arch);
	api_add_str(p, "arch", arch);
	api_add_str(p, "was_mode", s.mode);
	api_add_str(p, "was_generation", generation);
	add_properties(p, &s);
	api_add_take(j, "properties", p);
	send_plain(r, 200, j);
	api_inference_end(&s);
	return API_DONE;
}

enum api_result api_v2_model_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	struct inference s;
	if (!look(c, q, r, &m, &s))
		return API_DONE;
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "name", s.name);
	api_add_take(j, "ready", cJSON_CreateTrue());
	send_plain(r, 200, j);
	r->etag_auto = false;
	api_inference_end(&s);
	return API_DONE;
}

/* Triton's names. Timeouts refuse a request that waits; a queue without a limit of its own has size 0. */
static cJSON *batching_json(const struct api_request *q, const struct api_live *live)
{
	cJSON *j = cJSON_CreateObject(), *policy = cJSON_CreateObject();
	const double size[] = {(double)live->max_batch};
	int64_t most_us = q->deadline_us - q->first_us;
	api_add_take(j, "preferred_batch_size", cJSON_CreateDoubleArray(size, 1));
	api_add_int(j, "max_queue_delay_microseconds", live->max_queue_delay_us);
	api_add_take(j, "preserve_ordering", cJSON_CreateFalse());
	api_add_int(j, "priority_levels", API_PRIORITIES);
	api_add_int(j, "default_priority_level", API_PRIORITY_DEFAULT);
	api_add_str(policy, "timeout_action", "REJECT");
	api_add_int(policy, "default_timeout_microseconds",
	            live->default_timeout_us && live->default_timeout_us < most_us ? live->default_timeout_us : most_us);
	api_add_take(policy, "allow_timeout_override", cJSON_CreateTrue());
	api_add_int(policy, "max_queue_size", live->queue_max);
	api_add_take(j, "default_queue_policy", policy);
	return j;
}

enum api_result api_v2_config(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	struct inference s;
	if (!look(c, q, r, &m, &s))
		return API_DONE;
	cJSON *j = cJSON_CreateObject(), *policy = cJSON_CreateObject(), *specific = cJSON_CreateObject(),
		  *versions = cJSON_CreateArray();
	api_add_str(j, "name", s.name);
	api_add_str(j, "platform", "wasd_cnn");
	api_add_int(j, "max_batch_size", s.max_batch);
	add_tensors(j, &s, true);
	api_push(versions, cJSON_CreateNumber((double)s.live.version));
	api_add_take(specific, "versions", versions);
	api_add_take(policy, "specific", specific);
	api_add_take(j, "version_policy", policy);
	if (s.live.max_batch)
		api_add_take(j, "dynamic_batching", batching_json(q, &s.live));
	send_plain(r, 200, j);
	api_inference_end(&s);
	return API_DONE;
}

/* ---- statistics -------------------------------------------------------------------------------------------- */

static void add_stats(struct api_ctx *c, cJSON *list, const char *name, int64_t version)
{
	static const char *const members[] = {"last_inference", "inference_count", "execution_count", "inference_stats",
	                                      "batch_stats"};
	char text[24];
	cJSON *j = cJSON_CreateObject(), *done = c->serving.stats(c->serving.self, name);
	snprintf(text, sizeof text, "%lld", (long long)version);
	api_add_str(j, "name", name);
	api_add_str(j, "version", text);
	for (size_t i = 0; i < API_LEN(members); i++)
		if (wasd_json_get(done, members[i]))
			api_add_take(j, members[i], cJSON_DetachItemFromObjectCaseSensitive(done, members[i]));
	cJSON_Delete(done);
	api_add_take(j, "memory_usage", cJSON_CreateArray());
	api_add_take(j, "response_stats", cJSON_CreateObject());
	api_push(list, j);
}

static void send_stats(struct api_response *r, cJSON *list)
{
	cJSON *j = cJSON_CreateObject();
	api_add_take(j, "model_stats", list);
	send_plain(r, 200, j);
	r->etag_auto = false;
}

enum api_result api_v2_model_stats(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	struct inference s;
	if (!look(c, q, r, &m, &s))
		return API_DONE;
	cJSON *list = cJSON_CreateArray();
	add_stats(c, list, s.name, s.live.version);
	send_stats(r, list);
	api_inference_end(&s);
	return API_DONE;
}

static void add_model_stats(struct api_ctx *c, cJSON *list, const struct storage_deployment *d)
{
	add_stats(c, list, d->name, d->version);
}

enum api_result api_v2_stats(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	cJSON *list = cJSON_CreateArray();
	if (each_model(c, q, r, list, add_model_stats))
		send_stats(r, list);
	else
		cJSON_Delete(list);
	return API_DONE;
}

enum api_result api_v2_not_offered(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)c;
	api_send_problem(q, r, "not_implemented", NULL, "%s is not offered; GET /v2 lists the extensions that are",
	                 q->path);
	return API_DONE;
}
