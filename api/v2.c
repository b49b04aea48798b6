/* api/v2.c - the Open Inference Protocol (KServe v2, Triton's HTTP form) over the deployments. A deployment is a model
 * of that name. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void send_plain(struct api_response *r, int status, cJSON *j)
{
	api_send_json(r, status, j); /* Content-Type is exactly application/json, which the KServe SDK compares */
}

enum api_result api_v2_server(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const extensions[] = {"model_configuration", "parameters"};
	cJSON *j = cJSON_CreateObject();
	(void)c, (void)q;
	api_add_str(j, "name", "wasd");
	api_add_str(j, "version", WASD_VERSION);
	api_add_take(j, "extensions", cJSON_CreateStringArray(extensions, (int)API_LEN(extensions)));
	send_plain(r, 200, j);
	return API_DONE;
}

/* The KServe SDK reads "live" and "ready" from the body; other clients look at the status alone. */
static void send_health(struct api_ctx *c, struct api_response *r, bool ask_ready)
{
	cJSON *j = cJSON_CreateObject(), *s = c->serving.health(c->serving.self);
	cJSON *suspended = cJSON_DetachItemFromObjectCaseSensitive(s, "suspended");
	int64_t wait = 0;
	bool ready = c->system.ready(c->system.self) && !wasd_json_i64(s, "restart_in_s", &wait);
	int status = ask_ready && !ready ? 503 : 200;
	api_add_take(j, "live", cJSON_CreateTrue());
	api_add_take(j, "ready", cJSON_CreateBool(ready));
	if (wait)
		api_add_str(j, "reason", "the inference process has ended too often and waits before it starts again");
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

enum api_result api_v2_models(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_page page = {.limit = 500};
	struct wasd_err err = {0};
	cJSON *j = cJSON_CreateObject(), *names = cJSON_CreateArray();
	char *cursor = NULL;
	do {
		struct storage_deployment_list l;
		page.cursor = cursor;
		enum wasd_status st = storage_deployment_list(c->db, NULL, page, &l, &err);
		wasd_free(cursor);
		cursor = NULL;
		if (st) {
			cJSON_Delete(j);
			cJSON_Delete(names);
			api_send_error(q, r, &err);
			return API_DONE;
		}
		for (size_t i = 0; i < l.n; i++)
			api_push(names, cJSON_CreateString(l.items[i].name));
		cursor = l.next_cursor ? wasd_strdup(l.next_cursor) : NULL;
		storage_deployment_list_done(&l);
	} while (cursor);
	api_add_take(j, "models", names);
	send_plain(r, 200, j);
	return API_DONE;
}

/* ---- which model ---- */

/* "name", "name@dom", "name@dom:fast"; version "3", "3-dom", "3-dom:fast". The modes that they ask for, NULL for none.
 */
struct model_ref {
	char name[128], version[128], *alias, *version_mode;
};

static void read_ref(const struct api_request *q, struct model_ref *m)
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

/* Which of these a request names; they must agree. */
static size_t ref_modes(const struct model_ref *m, struct mode_asked out[2])
{
	out[0] = (struct mode_asked){m->version_mode, "version path"};
	out[1] = (struct mode_asked){m->alias, "model alias"};
	return 2;
}

static bool version_ok(const struct api_request *q, struct api_response *r, const struct model_ref *m, int64_t version)
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

/* One tensor of metadata (type_key "datatype", FP32, leading -1) or of the configuration ("data_type", TYPE_FP32,
 * without batch). */
static void add_tensor(cJSON *list, const char *name, const int64_t *dims, int n, bool config)
{
	cJSON *t = cJSON_CreateObject();
	api_add_str(t, "name", name);
	api_add_str(t, config ? "data_type" : "datatype", config ? "TYPE_FP32" : "FP32");
	api_add_take(t, config ? "dims" : "shape", dims_json(dims, n, !config));
	api_push(list, t);
}

static void add_tensors(cJSON *j, const struct inference *s, bool config)
{
	cJSON *in = cJSON_CreateArray(), *out = cJSON_CreateArray();
	add_tensor(in, "input", s->input, 3, config);
	add_tensor(out, "logits", &s->classes, 1, config);
	add_tensor(out, "probs", &s->classes, 1, config);
	api_add_take(j, config ? "input" : "inputs", in);
	api_add_take(j, config ? "output" : "outputs", out);
}

/* A look at the model: like an inference request that ends at once. */
static bool look(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct model_ref *m,
                 struct inference *s)
{
	struct mode_asked asked[2];
	read_ref(q, m);
	size_t n = ref_modes(m, asked);
	if (!api_inference_begin(c, q, r, m->name, asked, n, s))
		return false;
	c->serving.end(c->serving.self, s->name, s->live.generation, true);
	if (version_ok(q, r, m, s->live.version))
		return true;
	api_inference_end(s);
	return false;
}

static void add_version(cJSON *j, const char *name, int64_t version)
{
	char v[24];
	snprintf(v, sizeof v, "%lld", (long long)version);
	api_add_str(j, name, v);
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
	send_plain(r, 200, j);
	api_inference_end(&s);
	return API_DONE;
}

/* ---- infer ---- */

struct infer_request {
	const char *id;
	const cJSON *inputs, *outputs;
	const char *mode;
};

static bool bad(const struct api_request *q, struct api_response *r, const char *pointer, const char *what)
{
	api_send_problem(q, r, "bad_tensor", pointer, "%s: %s", *pointer ? pointer : "body", what);
	return false;
}

/* Members that are not known are ignored, as the protocol asks; those that ask for what is not there are not. */
static bool read_request(const struct api_request *q, struct api_response *r, const cJSON *body,
                         struct infer_request *out)
{
	const cJSON *p = wasd_json_get(body, "parameters"), *id = wasd_json_get(body, "id");
	*out = (struct infer_request){.inputs = wasd_json_get(body, "inputs"), .outputs = wasd_json_get(body, "outputs")};
	if (id && !cJSON_IsString(id))
		return bad(q, r, "/id", "must be a string");
	if (id)
		out->id = id->valuestring;
	if (p && !cJSON_IsObject(p))
		return bad(q, r, "/parameters", "must be an object");
	if (cJSON_IsTrue(wasd_json_get(p, "binary_data_output"))) {
		api_send_problem(
			q, r, "unsupported", "/parameters/binary_data_output",
			"binary outputs are not offered; list the outputs without binary_data, or send binary_data_output false");
		return false;
	}
	const cJSON *mode = wasd_json_get(p, "was_mode");
	if (mode && !cJSON_IsString(mode))
		return bad(q, r, "/parameters/was_mode", "must be \"aom\", \"dom\" or \"dom:PROFILE\"");
	if (mode)
		out->mode = mode->valuestring;
	if (!cJSON_IsArray(out->inputs) || cJSON_GetArraySize(out->inputs) != 1)
		return bad(q, r, "/inputs", "must be an array with the one input \"input\"");
	if (out->outputs && !cJSON_IsArray(out->outputs))
		return bad(q, r, "/outputs", "must be an array");
	return true;
}

/* Which outputs are wanted: bit 0 logits, bit 1 probs, in *order their order in the request. */
static bool read_outputs(const struct api_request *q, struct api_response *r, const cJSON *outputs,
                         const char *order[2], size_t *n)
{
	static const char *const known[] = {"logits", "probs"};
	const cJSON *o;
	char pointer[64];
	int i = 0;
	*n = 0;
	cJSON_ArrayForEach(o, outputs) {
		const char *name = NULL, *match = NULL;
		const cJSON *p = wasd_json_get(o, "parameters");
		wasd_json_str(o, "name", &name);
		for (size_t k = 0; k < API_LEN(known); k++)
			if (name && !strcmp(name, known[k]))
				match = known[k];
		snprintf(pointer, sizeof pointer, "/outputs/%d/name", i);
		for (size_t k = 0; k < *n; k++)
			if (match && match == order[k])
				return bad(q, r, pointer, "the same output twice");
		if (!match) {
			api_send_problem(q, r, "bad_tensor", pointer,
			                 "%s: the model's outputs are \"logits\" and \"probs\", not \"%.60s\"", pointer,
			                 name ? name : "");
			return false;
		}
		bool binary = cJSON_IsTrue(wasd_json_get(p, "binary_data")),
			 classes = wasd_json_get(p, "classification") != NULL;
		if (binary || classes) {
			snprintf(pointer, sizeof pointer, "/outputs/%d/parameters/%s", i,
			         binary ? "binary_data" : "classification");
			api_send_problem(q, r, "unsupported", pointer, "%s is not offered", pointer);
			return false;
		}
		order[(*n)++] = match;
		i++;
	}
	if (!*n)
		order[0] = known[0], order[1] = known[1], *n = 2;
	return true;
}

static cJSON *outputs_json(const struct inference *s, const float *logits, int64_t n, const char *order[2],
                           size_t n_out)
{
	const int64_t shape[2] = {n, s->classes};
	float *probs = wasd_calloc((size_t)(n * s->classes), sizeof *probs);
	cJSON *list = probs ? cJSON_CreateArray() : NULL;
	for (int64_t i = 0; list && i < n; i++)
		api_softmax(logits + i * s->classes, s->classes, probs + i * s->classes);
	for (size_t i = 0; list && i < n_out; i++) {
		cJSON *t = tensor_write_fp32(order[i], shape, 2, !strcmp(order[i], "probs") ? probs : logits);
		api_push(list, t);
	}
	wasd_free(probs);
	return list;
}

static void answer(const struct api_request *q, struct api_response *r, const struct inference *s,
                   const struct api_call *call, const char *id, int64_t n, const char *order[2], size_t n_out)
{
	if (call->reply_bin_len != (size_t)(n * s->classes) * sizeof(float)) {
		api_send_problem(q, r, "internal", NULL, "the engine's answer for %s has %zu bytes of logits", s->name,
		                 call->reply_bin_len);
		return;
	}
	cJSON *outputs = outputs_json(s, (const float *)(const void *)call->reply_bin, n, order, n_out);
	if (!outputs) {
		api_send_no_memory(r);
		return;
	}
	cJSON *j = cJSON_CreateObject(), *p = cJSON_CreateObject();
	int64_t macs = 0;
	wasd_json_i64(call->reply, "macs", &macs);
	api_add_str(j, "model_name", s->name);
	add_version(j, "model_version", s->live.version);
	api_add_str(j, "id", id ? id : q->request_id);
	api_add_str(p, "was_mode", s->mode);
	api_add_int(p, "was_generation", s->live.generation);
	api_add_int(p, "was_macs", macs);
	api_add_take(j, "parameters", p);
	api_add_take(j, "outputs", outputs);
	send_plain(r, 200, j);
	api_inference_headers(r, s);
}

static void infer(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct model_ref *m,
                  const struct infer_request *in)
{
	struct inference s;
	struct mode_asked asked[5];
	struct wasd_err err = {0};
	struct wasd_buf data = {0};
	const char *order[2];
	size_t n_out, n_asked = ref_modes(m, asked);
	int64_t n = 0;
	asked[n_asked++] = (struct mode_asked){in->mode, "parameter was_mode"};
	asked[n_asked++] = (struct mode_asked){api_header(q, "wasd-mode"), "header WASD-Mode"};
	asked[n_asked++] = (struct mode_asked){api_query(q, "mode"), "query parameter mode"};
	if (!read_outputs(q, r, in->outputs, order, &n_out) || !api_inference_begin(c, q, r, m->name, asked, n_asked, &s))
		return;
	const int64_t expect[4] = {-1, s.input[0], s.input[1], s.input[2]};
	bool ok = version_ok(q, r, m, s.live.version), sent = false;
	if (ok && tensor_read_fp32(in->inputs->child, "/inputs/0", "input", expect, 4, s.max_batch, &data, &n, &err)) {
		api_send_problem(q, r,
		                 err.status == WASD_EUNSUPPORTED ? "unsupported" :
		                 err.status == WASD_ENOMEM       ? "no_memory" :
		                                                   "bad_tensor",
		                 err.pointer, "%s", err.msg);
		ok = false;
	}
	if (ok) {
		struct api_call call = {.json = cJSON_CreateObject(),
		                        .bin = data.data,
		                        .bin_len = data.len,
		                        .reply_max = (size_t)(n * s.classes) * sizeof(float)};
		api_add_str(call.json, "type", "infer");
		api_add_int(call.json, "n", n);
		sent = true;
		if (api_inference_ask(c, q, r, &s, &call))
			answer(q, r, &s, &call, in->id, n, order, n_out);
		api_call_done(&call);
	}
	if (!sent)
		c->serving.end(c->serving.self, s.name, s.live.generation, false);
	api_inference_end(&s);
	wasd_buf_done(&data);
}

/* The header says where the JSON ends and binary tensors begin. Some clients always send it; then it must be the whole
 * length. */
static bool all_json(const struct api_request *q, struct api_response *r)
{
	const char *h = api_header(q, "inference-header-content-length");
	if (!h)
		return true;
	size_t n = strlen(h);
	bool number = n && n <= 12 && strspn(h, "0123456789") == n;
	if (number && (size_t)strtoull(h, NULL, 10) == q->body_len)
		return true;
	if (!number || (size_t)strtoull(h, NULL, 10) > q->body_len)
		api_send_problem(q, r, "bad_request", "Inference-Header-Content-Length",
		                 "Inference-Header-Content-Length %.40s does not fit a body of %zu bytes", h, q->body_len);
	else
		api_send_problem(
			q, r, "unsupported", "Inference-Header-Content-Length",
			"binary tensors are not offered; send \"data\" as JSON numbers (Inference-Header-Content-Length %s, body %zu bytes)",
			h, q->body_len);
	return false;
}

/* Before anything about the body: is there such a model and version? */
static bool known(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct model_ref *m)
{
	struct storage_deployment d;
	struct wasd_err err = {0};
	enum wasd_status st = wasd_name_ok(m->name) ? storage_deployment_get(c->db, m->name, &d, &err) : WASD_ENOTFOUND;
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no deployment %s", m->name);
	else if (st)
		api_send_error(q, r, &err);
	if (st)
		return false;
	bool ok = version_ok(q, r, m, d.version);
	storage_deployment_done(&d);
	return ok;
}

enum api_result api_v2_infer(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	struct infer_request in;
	struct wasd_err err = {0};
	cJSON *body = NULL;
	read_ref(q, &m);
	if (!known(c, q, r, &m) || !all_json(q, r))
		return API_DONE;
	if (!q->body_len) {
		api_send_problem(q, r, "body_required", NULL, "%s needs a JSON body", q->path);
	} else if (wasd_json_parse(q->body, q->body_len, WASD_JSON_BULK, &body, &err)) {
		if (err.status == WASD_ENOMEM)
			api_send_error(q, r, &err);
		else
			api_send_problem(q, r, q->body_len > WASD_JSON_BULK.bytes ? "too_large" : "bad_json", err.pointer, "%s",
			                 err.msg);
	} else if (!cJSON_IsObject(body)) {
		bad(q, r, "", "must be a JSON object");
	} else if (read_request(q, r, body, &in)) {
		infer(c, q, r, &m, &in);
	}
	cJSON_Delete(body);
	return API_DONE;
}
