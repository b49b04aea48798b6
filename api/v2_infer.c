/* api/v2_infer.c - POST /v2/models/{m}/infer: JSON and binary tensors, encoded images, classification.
 *
 * A body is JSON followed by the binary tensors in the order of the inputs; Inference-Header-Content-Length gives
 * the length of the JSON. An answer has the same form. */
#include "tensor.h"
#include "v2.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One output of the answer. */
struct output {
	const char *name;
	int64_t classes; /* "classification": this many of the best classes, as strings; 0: the numbers */
	bool binary;
};
#define OUTPUTS 2
static const char *const output_names[OUTPUTS] = {"logits", "probs"};

struct infer_request {
	const char *id, *mode;
	const cJSON *input;
	struct tensor_data data;
	int64_t deadline_us; /* 0: the deployment's */
	int priority;
	struct output output[OUTPUTS];
	int outputs;
};

static bool bad(const struct api_request *q, struct api_response *r, const char *pointer, const char *what)
{
	api_send_problem(q, r, "bad_tensor", pointer, "%s: %s", *pointer ? pointer : "body", what);
	return false;
}

/* ---- the request ------------------------------------------------------------------------------------------- */

static bool read_parameters(const struct api_request *q, struct api_response *r, const cJSON *p, bool *binary,
                            struct infer_request *out)
{
	const cJSON *flag = wasd_json_get(p, "binary_data_output"), *mode = wasd_json_get(p, "was_mode"),
				*timeout = wasd_json_get(p, "timeout"), *priority = wasd_json_get(p, "priority");
	int64_t us = 0, level = 0;
	if (p && !cJSON_IsObject(p))
		return bad(q, r, "/parameters", "must be an object");
	if (flag && !cJSON_IsBool(flag))
		return bad(q, r, "/parameters/binary_data_output", "must be true or false");
	*binary = cJSON_IsTrue(flag);
	if (mode && !cJSON_IsString(mode))
		return bad(q, r, "/parameters/was_mode", "must be \"aom\", \"dom\", \"slim\" or \"FAMILY:NAME\"");
	if (mode)
		out->mode = mode->valuestring;
	if (timeout && (!wasd_json_i64(p, "timeout", &us) || us < 0))
		return bad(q, r, "/parameters/timeout", "must be a whole number of microseconds");
	if (us > 0)
		out->deadline_us = api_inference_deadline(q, us);
	if (priority && (!wasd_json_i64(p, "priority", &level) || level < 0 || level > API_PRIORITIES))
		return bad(q, r, "/parameters/priority", "must be 0 (default), or 1 (first) to 4 (last)");
	out->priority = (int)level;
	return true;
}

static bool read_output(const struct api_request *q, struct api_response *r, const cJSON *o, int i, bool binary,
                        struct infer_request *out)
{
	char at[80];
	const char *name = "";
	const cJSON *p = wasd_json_get(o, "parameters"), *flag = wasd_json_get(p, "binary_data"),
				*classes = wasd_json_get(p, "classification");
	struct output one = {.binary = flag ? cJSON_IsTrue(flag) : binary};
	wasd_json_str(o, "name", &name);
	for (int k = 0; k < OUTPUTS; k++)
		if (!strcmp(name, output_names[k]))
			one.name = output_names[k];
	snprintf(at, sizeof at, "/outputs/%d/name", i);
	if (!one.name) {
		api_send_problem(q, r, "bad_tensor", at, "%s: the model's outputs are \"logits\" and \"probs\", not \"%.60s\"",
		                 at, name);
		return false;
	}
	for (int k = 0; k < out->outputs; k++)
		if (out->output[k].name == one.name)
			return bad(q, r, at, "the same output twice");
	snprintf(at, sizeof at, "/outputs/%d/parameters/binary_data", i);
	if (flag && !cJSON_IsBool(flag))
		return bad(q, r, at, "must be true or false");
	snprintf(at, sizeof at, "/outputs/%d/parameters/classification", i);
	if (classes && (!wasd_json_i64(p, "classification", &one.classes) || one.classes < 0))
		return bad(q, r, at, "must be a whole number of classes");
	out->output[out->outputs++] = one;
	return true;
}

/* Ignores unknown members, as the protocol requires. */
static bool read_request(const struct api_request *q, struct api_response *r, const cJSON *body,
                         struct infer_request *out)
{
	const cJSON *id = wasd_json_get(body, "id"), *inputs = wasd_json_get(body, "inputs"),
				*outputs = wasd_json_get(body, "outputs"), *o;
	bool binary = false;
	int i = 0;
	if (id && !cJSON_IsString(id))
		return bad(q, r, "/id", "must be a string");
	if (id)
		out->id = id->valuestring;
	if (!read_parameters(q, r, wasd_json_get(body, "parameters"), &binary, out))
		return false;
	if (!cJSON_IsArray(inputs) || cJSON_GetArraySize(inputs) != 1)
		return bad(q, r, "/inputs", "must be an array with the one input \"input\"");
	out->input = inputs->child;
	if (outputs && !cJSON_IsArray(outputs))
		return bad(q, r, "/outputs", "must be an array");
	cJSON_ArrayForEach(o, outputs) {
		if (!read_output(q, r, o, i++, binary, out))
			return false;
	}
	for (int k = 0; !i && k < OUTPUTS; k++)
		out->output[out->outputs++] = (struct output){.name = output_names[k], .binary = binary};
	return true;
}

/* The length of the body's JSON; without the header, the whole body. 0: the body is the tensor. */
static bool json_length(const struct api_request *q, struct api_response *r, size_t *out)
{
	const char *h = api_header(q, "inference-header-content-length");
	*out = q->body_len;
	if (!h)
		return true;
	size_t n = strlen(h);
	bool number = n && n <= 12 && strspn(h, "0123456789") == n;
	if (number)
		*out = (size_t)strtoull(h, NULL, 10);
	if (number && *out <= q->body_len)
		return true;
	api_send_problem(q, r, "bad_request", "Inference-Header-Content-Length",
	                 "Inference-Header-Content-Length %.40s does not fit a body of %zu bytes", h, q->body_len);
	return false;
}

/* ---- the answer -------------------------------------------------------------------------------------------- */

/* The numbers behind an output: n rows, of which all numbers or the best classes are returned. */
struct rows {
	const float *v;
	int64_t n, width;
	struct ranking *ranking; /* made when an output asks for classes */
};

/* Calls put for each string "value:index:label" of the k best classes of every row. */
static bool each_class(const struct rows *rows, int64_t k, bool (*put)(void *to, const char *s, size_t len), void *to)
{
	struct wasd_buf text = {0};
	bool ok = true;
	for (int64_t i = 0; ok && i < rows->n; i++) {
		const float *v = rows->v + i * rows->width;
		ranking_sort(rows->ranking, v);
		for (int64_t j = 0; ok && j < k; j++) {
			int32_t best = rows->ranking->order[j];
			text.len = 0;
			ok = wasd_buf_printf(&text, "%f:%d:%s", (double)v[best], (int)best, rows->ranking->label[best]) &&
			     put(to, text.data, text.len);
		}
	}
	wasd_buf_done(&text);
	return ok;
}

static bool put_json(void *to, const char *s, size_t len)
{
	char *text = wasd_calloc(len + 1, 1);
	cJSON *one = NULL;
	if (text) {
		memcpy(text, s, len);
		one = cJSON_CreateString(text);
	}
	wasd_free(text);
	return one && cJSON_AddItemToArray(to, one);
}

static bool put_binary(void *to, const char *s, size_t len)
{
	uint32_t n = (uint32_t)len;
	return wasd_buf_append(to, &n, sizeof n) && wasd_buf_append(to, s, len);
}

/* Numbers as JSON; NaN and infinities are null. */
static cJSON *numbers_json(const struct rows *rows)
{
	cJSON *data = cJSON_CreateArray();
	for (int64_t i = 0; i < rows->n * rows->width; i++)
		api_push(data, isfinite(rows->v[i]) ? cJSON_CreateNumber(rows->v[i]) : cJSON_CreateNull());
	return data;
}

/* {"name","datatype","shape", "data" or "parameters"}; appends binary data to tail. */
static cJSON *output_json(const struct output *o, const struct rows *rows, struct wasd_buf *tail)
{
	int64_t k = o->classes < rows->width ? o->classes : rows->width;
	const double shape[2] = {(double)rows->n, (double)(k ? k : rows->width)};
	cJSON *t = cJSON_CreateObject(), *data = NULL;
	size_t before = tail->len;
	bool ok = true;
	api_add_str(t, "name", o->name);
	api_add_str(t, "datatype", k ? "BYTES" : "FP32");
	api_add_take(t, "shape", cJSON_CreateDoubleArray(shape, 2));
	if (o->binary && k)
		ok = each_class(rows, k, put_binary, tail);
	else if (o->binary)
		ok = wasd_buf_append(tail, rows->v, (size_t)(rows->n * rows->width) * sizeof *rows->v);
	else if (k)
		ok = (data = cJSON_CreateArray()) && each_class(rows, k, put_json, data);
	else
		ok = (data = numbers_json(rows)) != NULL;
	if (data)
		api_add_take(t, "data", data);
	if (o->binary) {
		cJSON *p = cJSON_CreateObject();
		api_add_int(p, "binary_data_size", (int64_t)(tail->len - before));
		api_add_take(t, "parameters", p);
	}
	if (!ok)
		api_poison(t);
	return t;
}

/* The images that a cascade repeated: their number, and their positions as text, since a parameter is no list. */
static void add_repeated(cJSON *p, const struct inference *s)
{
	const cJSON *v, *list = wasd_json_get(s->ask.call.reply, "repeated");
	struct wasd_buf text = {0};
	cJSON_ArrayForEach(v, list)
		wasd_buf_printf(&text, "%s%.0f", text.len ? "," : "", v->valuedouble);
	api_add_int(p, "was_repeated", cJSON_GetArraySize(list));
	api_add_str(p, "was_repeated_images", text.data ? text.data : "");
	if (text.failed)
		api_poison(p);
	wasd_buf_done(&text);
}

static cJSON *answer_json(const struct api_request *q, const struct inference *s, const struct infer_request *in)
{
	cJSON *j = cJSON_CreateObject(), *p = cJSON_CreateObject();
	char version[24];
	snprintf(version, sizeof version, "%lld", (long long)s->live.version);
	api_add_str(j, "model_name", s->name);
	api_add_str(j, "model_version", version);
	api_add_str(j, "id", in->id ? in->id : q->request_id);
	api_add_str(p, "was_mode", s->mode);
	api_add_int(p, "was_generation", s->live.generation);
	api_add_int(p, "was_macs", s->ask.macs);
	struct inference_times t = api_inference_times(s);
	api_add_int(p, "was_batch", s->ask.computed_with);
	api_add_int(p, "was_decode_us", t.decode);
	api_add_int(p, "was_queue_us", t.queue);
	api_add_int(p, "was_compute_us", t.compute);
	if (s->cascade)
		add_repeated(p, s);
	api_add_take(j, "parameters", p);
	return j;
}

/* Sends JSON alone, or followed by the binary data. Takes j. */
static void send(struct api_response *r, cJSON *j, const struct wasd_buf *tail, bool binary)
{
	api_send_json(r, 200, j); /* exactly application/json: the KServe SDK compares the whole Content-Type */
	if (r->status != 200 || !binary)
		return;
	api_set_header(r, "Inference-Header-Content-Length", "%zu", r->body.len);
	r->content_type = "application/octet-stream";
	if (tail->len && !wasd_buf_append(&r->body, tail->data, tail->len))
		api_send_no_memory(r);
}

/* NULL: no memory. */
static float *probs_of(const float *logits, int64_t n, int64_t classes)
{
	float *probs = wasd_calloc((size_t)(n * classes), sizeof *probs);
	for (int64_t i = 0; probs && i < n; i++)
		api_softmax(logits + i * classes, classes, probs + i * classes);
	return probs;
}

static void answer(const struct api_request *q, struct api_response *r, const struct inference *s,
                   const struct infer_request *in, int64_t n)
{
	const struct api_call *call = &s->ask.call;
	size_t count = (size_t)(n * s->classes);
	if (call->reply_bin_len != count * sizeof(float)) {
		api_send_problem(q, r, "internal", NULL, "the engine's answer for %s has %zu bytes of logits", s->name,
		                 call->reply_bin_len);
		return;
	}
	const float *logits = (const float *)(const void *)call->reply_bin;
	float *probs = NULL;
	struct ranking ranking = {0};
	struct wasd_buf tail = {0};
	bool binary = false, ok = true;
	for (int i = 0; ok && i < in->outputs; i++) {
		const struct output *o = &in->output[i];
		binary |= o->binary;
		if (o->name != output_names[0])
			ok = (probs = probs_of(logits, n, s->classes)) != NULL;
		if (ok && o->classes && !ranking.order)
			ok = ranking_init(&ranking, s);
	}
	cJSON *j = answer_json(q, s, in), *outputs = cJSON_CreateArray();
	if (!ok)
		api_poison(j);
	for (int i = 0; ok && i < in->outputs; i++) {
		const struct output *o = &in->output[i];
		const struct rows rows = {.v = o->name == output_names[0] ? logits : probs,
		                          .n = n,
		                          .width = s->classes,
		                          .ranking = &ranking};
		api_push(outputs, output_json(o, &rows, &tail));
	}
	api_add_take(j, "outputs", outputs);
	send(r, j, &tail, binary);
	api_inference_headers(r, s);
	wasd_buf_done(&tail);
	ranking_done(&ranking);
	wasd_free(probs);
}

/* ---- the route --------------------------------------------------------------------------------------------- */

static cJSON *question(const struct tensor_in *t)
{
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "type", t->sizes ? "logits" : "infer");
	if (t->sizes)
		api_add_take(j, "sizes", cJSON_Duplicate(t->sizes, 1));
	else
		api_add_int(j, "n", t->n);
	return j;
}

/* The tensor of a request; without JSON, the body is one image. */
static bool read_input(const struct api_request *q, struct api_response *r, const struct inference *s,
                       struct infer_request *in, struct tensor_in *out)
{
	struct wasd_err err = {0};
	const struct tensor_wanted want = {
		.dims = {-1, s->input[0], s->input[1], s->input[2]},
		.rank = 4,
		.most = s->max_batch,
		.pixels = &s->pixels,
	};
	if (!in->input) {
		size_t image = (size_t)(s->input[0] * s->input[1] * s->input[2]) * sizeof(float);
		*out = (struct tensor_in){.n = 1, .bytes = q->body, .len = q->body_len};
		if (q->body_len == image)
			return true;
		api_send_problem(q, r, "bad_tensor", "Inference-Header-Content-Length",
		                 "a body without JSON is one image as FP32, %zu bytes; this one has %zu", image, q->body_len);
		return false;
	}
	enum wasd_status st = tensor_read(in->input, "/inputs/0", &want, &in->data, out, &err);
	if (!st && in->data.binary == in->data.binary_end)
		return true;
	if (st)
		api_send_problem(q, r, st == WASD_ENOMEM ? "no_memory" : "bad_tensor", err.pointer, "%s", err.msg);
	else
		api_send_problem(q, r, "bad_tensor", "Inference-Header-Content-Length",
		                 "%zu bytes remain after the last tensor", (size_t)(in->data.binary_end - in->data.binary));
	tensor_in_done(out);
	return false;
}

/* Kept while the process computes. */
struct inferring {
	struct inference s;
	struct infer_request in;
	struct tensor_in t;
	cJSON *body; /* in borrows from it */
};

static void inferring_done(struct inferring *k)
{
	api_inference_end(&k->s);
	tensor_in_done(&k->t);
	cJSON_Delete(k->body);
	wasd_free(k);
}

static void finish(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct api_ask *ask)
{
	struct inferring *k = (struct inferring *)((char *)ask - offsetof(struct inferring, s.ask));
	(void)c;
	if (api_inference_answered(q, r, &k->s))
		answer(q, r, &k->s, &k->in, k->t.n);
	inferring_done(k);
}

static enum api_result infer(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                             const struct model_ref *m, struct inferring *k)
{
	struct mode_asked asked[API_MODES_ASKED];
	struct inference *s = &k->s;
	size_t n = v2_ref_modes(m, asked);
	asked[n++] = (struct mode_asked){k->in.mode, "parameter was_mode"};
	n += api_modes_asked(q, asked + n, API_LEN(asked) - n);
	if (!api_inference_begin(c, q, r, m->name, asked, n, s) || !v2_version_ok(q, r, m, s->live.version) ||
	    !read_input(q, r, s, &k->in, &k->t))
		return API_DONE;
	s->ask.images = k->t.n;
	s->ask.priority = k->in.priority;
	s->ask.call = (struct api_call){.json = question(&k->t),
	                                .bin = k->t.bytes,
	                                .bin_len = k->t.len,
	                                .reply_max = (size_t)(k->t.n * s->classes) * sizeof(float)};
	if (k->in.deadline_us)
		s->deadline_us = k->in.deadline_us;
	s->images_at = k->t.sizes ? "/inputs/0/data" : NULL;
	return api_inference_ask(r, s, finish);
}

/* Checks that the model and version exist, before looking at the body. */
static bool known(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct model_ref *m)
{
	struct storage_deployment d;
	struct api_live live;
	struct wasd_err err = {0};
	if (wasd_name_ok(m->name) && c->serving.live(c->serving.self, m->name, &live) && live.ready)
		return v2_version_ok(q, r, m, live.version); /* without a read of the database */
	enum wasd_status st = wasd_name_ok(m->name) ? storage_deployment_get(c->db, m->name, &d, &err) : WASD_ENOTFOUND;
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no deployment %s", m->name);
	else if (st)
		api_send_error(q, r, &err);
	if (st)
		return false;
	bool ok = v2_version_ok(q, r, m, d.version);
	storage_deployment_done(&d);
	return ok;
}

/* Parses the body's JSON without its arrays of numbers. */
static bool parse(const struct api_request *q, struct api_response *r, size_t json, cJSON **body,
                  struct tensor_texts *texts)
{
	struct wasd_buf head = {0};
	struct wasd_err err = {0};
	enum wasd_status st = WASD_ENOMEM;
	if (tensor_cut(q->body, json, &head, texts))
		st = wasd_json_parse(head.data, head.len, WASD_JSON_REQUEST, body, &err);
	bool too_large = head.len > WASD_JSON_REQUEST.bytes;
	wasd_buf_done(&head);
	/* Parse the original text for the message, so that its byte offsets match what the client sent. */
	if (st && st != WASD_ENOMEM && json <= WASD_JSON_BULK.bytes) {
		struct wasd_err whole = {0};
		cJSON *unused = NULL;
		if (wasd_json_parse(q->body, json, WASD_JSON_BULK, &unused, &whole) == WASD_EINVAL)
			err = whole;
		cJSON_Delete(unused);
	}
	if (st == WASD_ENOMEM)
		api_send_no_memory(r);
	else if (st)
		api_send_problem(q, r, too_large ? "too_large" : "bad_json", err.pointer, "%s", err.msg);
	else if (cJSON_IsObject(*body))
		return true;
	else
		bad(q, r, "", "must be a JSON object");
	return false;
}

static enum api_result begin(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                             const struct model_ref *m, size_t json, struct inferring *k)
{
	struct tensor_texts texts;
	if (!json) {
		for (int i = 0; i < OUTPUTS; i++)
			k->in.output[k->in.outputs++] = (struct output){.name = output_names[i], .binary = true};
		return infer(c, q, r, m, k);
	}
	if (!parse(q, r, json, &k->body, &texts) || !read_request(q, r, k->body, &k->in))
		return API_DONE;
	k->in.data = (struct tensor_data){.text = texts.begin[0],
	                                  .text_len = texts.len[0],
	                                  .binary = q->body + json,
	                                  .binary_end = q->body + q->body_len};
	return infer(c, q, r, m, k);
}

enum api_result api_v2_infer(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	size_t json = 0;
	v2_read_ref(q, &m);
	if (!known(c, q, r, &m) || !json_length(q, r, &json))
		return API_DONE;
	if (!q->body_len) {
		api_send_problem(q, r, "body_required", NULL, "%s needs a body: JSON, or JSON and tensors", q->path);
		return API_DONE;
	}
	struct inferring *k = wasd_calloc(1, sizeof *k);
	if (!k) {
		api_send_no_memory(r);
		return API_DONE;
	}
	enum api_result result = begin(c, q, r, &m, json, k);
	if (result != API_ASK)
		inferring_done(k);
	return result;
}
