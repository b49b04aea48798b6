/* api/shims.c - the inference requests of two other protocols, so that their clients work unchanged: KServe v1 (which
 * is TensorFlow Serving's) and TorchServe. Only the forms of request and answer are theirs; modes, queue and errors are
 * those of every inference request.
 *
 * Numbers are cut out of the JSON like the tensors of /v2 (tensor.h). */
#include "classify.h"
#include "tensor.h"
#include "v2.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Kept while the process computes. */
struct shim {
	struct inference s;
	struct images im;   /* encoded images, or ... */
	struct tensor_in t; /* ... numbers, if t.n */
	int64_t k;
	void (*answer)(struct api_response *r, struct shim *h, const float *probs, int64_t n);
};

static void shim_done(struct shim *h)
{
	api_inference_end(&h->s);
	wasd_buf_done(&h->im.bytes);
	tensor_in_done(&h->t);
	wasd_free(h);
}

static bool bad(const struct api_request *q, struct api_response *r, const char *pointer, const char *what)
{
	api_send_problem(q, r, "bad_tensor", pointer, "%s: %s", *pointer ? pointer : "body", what);
	return false;
}

/* ---- numbers ----------------------------------------------------------------------------------------------- */

/* The images of one array's text: [n][c][h][w], or [n][c*h*w]. */
static bool read_numbers(const struct api_request *q, struct api_response *r, struct shim *h, const char *text,
                         size_t len, const char *pointer)
{
	const int64_t *in = h->s.input;
	int depth = tensor_text_depth(text, len);
	char what[160];
	struct wasd_err err = {0};
	struct tensor_data from = {.text = text, .text_len = len};
	struct tensor_wanted want = {.dims = {-1, in[0], in[1], in[2]},
	                             .rank = 4,
	                             .most = h->s.max_batch,
	                             .pixels = &h->s.pixels};
	if (depth == 2)
		want = (struct tensor_wanted){.dims = {-1, in[0] * in[1] * in[2]}, .rank = 2, .most = h->s.max_batch};
	if (depth != 2 && depth != 4) {
		snprintf(what, sizeof what, "an image is an array of numbers, nested [%lld][%lld][%lld] or flat",
		         (long long)in[0], (long long)in[1], (long long)in[2]);
		return bad(q, r, pointer, what);
	}
	cJSON *tensor = cJSON_CreateObject(), *shape = cJSON_CreateArray();
	api_push(shape, cJSON_CreateNumber((double)tensor_text_count(text, len)));
	for (int i = 1; i < want.rank; i++)
		api_push(shape, cJSON_CreateNumber((double)want.dims[i]));
	api_add_str(tensor, "name", "input");
	api_add_str(tensor, "datatype", "FP32");
	api_add_take(tensor, "shape", shape);
	enum wasd_status st = api_poisoned(tensor) ? WASD_ENOMEM : tensor_read(tensor, "", &want, &from, &h->t, &err);
	cJSON_Delete(tensor);
	if (st == WASD_ENOMEM)
		api_send_no_memory(r);
	else if (st)
		return bad(q, r, pointer, err.msg);
	return st == WASD_OK;
}

/* One image's text, [c][h][w] or flat: the same with brackets around it. */
static bool read_single(const struct api_request *q, struct api_response *r, struct shim *h, const char *text,
                        size_t len)
{
	struct wasd_buf b = {0};
	bool ok = wasd_buf_puts(&b, "[") && wasd_buf_append(&b, text, len) && wasd_buf_puts(&b, "]");
	if (!ok)
		api_send_no_memory(r);
	ok = ok && read_numbers(q, r, h, b.data, b.len, "");
	wasd_buf_done(&b);
	return ok;
}

/* ---- KServe v1: {"instances": [...]} ------------------------------------------------------------------------- */

/* {"b64": STRING}, alone or as the one member of an object that names the input. */
static const char *base64_of(const cJSON *v)
{
	const char *text = NULL;
	if (cJSON_IsObject(v) && v->child && !v->child->next && cJSON_IsObject(v->child))
		v = v->child;
	return cJSON_IsObject(v) && wasd_json_str(v, "b64", &text) ? text : NULL;
}

static bool read_pictures(const struct api_request *q, struct api_response *r, struct shim *h, const cJSON *list)
{
	const cJSON *v;
	cJSON_ArrayForEach(v, list) {
		char pointer[40];
		struct wasd_buf one = {0};
		const char *text = base64_of(v);
		snprintf(pointer, sizeof pointer, "/instances/%zu", h->im.n);
		bool ok = text && base64_or_uri(text, strlen(text), &one);
		if (!ok)
			bad(q, r, pointer, "must be {\"b64\": an image in base64}, unless every instance is an array of numbers");
		else
			ok = images_add(q, r, &h->im, one.data ? one.data : "", one.len, pointer);
		wasd_buf_done(&one);
		if (!ok)
			return false;
	}
	return h->im.n || bad(q, r, "/instances", "has no element");
}

static bool read_instances(const struct api_request *q, struct api_response *r, struct shim *h)
{
	static const struct wasd_json_limits limits = {16 << 20, 16, 4000};
	struct tensor_texts texts;
	struct wasd_buf head = {0};
	struct wasd_err err = {0};
	cJSON *body = NULL;
	bool ok = false;
	enum wasd_status st = tensor_cut_member(q->body, q->body_len, "instances", &head, &texts) ?
	                          wasd_json_parse(head.data, head.len, limits, &body, &err) :
	                          WASD_ENOMEM;
	const cJSON *list = wasd_json_get(body, "instances");
	h->s.images_at = "/instances";
	if (st == WASD_ENOMEM)
		api_send_no_memory(r);
	else if (st)
		api_send_problem(q, r, "bad_json", err.pointer, "%s", err.msg);
	else if (!cJSON_IsArray(list))
		bad(q, r, "/instances", "must be an array of images");
	else if (texts.begin[0])
		ok = read_numbers(q, r, h, texts.begin[0], texts.len[0], "/instances");
	else
		ok = read_pictures(q, r, h, list);
	cJSON_Delete(body);
	wasd_buf_done(&head);
	return ok;
}

/* ---- TorchServe: a picture, a form, or JSON ------------------------------------------------------------------ */

/* {"data": BASE64}: what its clients send for a picture in JSON. */
static bool read_data(const struct api_request *q, struct api_response *r, struct shim *h)
{
	static const struct wasd_json_limits limits = {16 << 20, 8, 100};
	const char *text = "";
	struct wasd_buf one = {0};
	cJSON *body = api_body_json(q, r, limits, false);
	if (!body)
		return false;
	bool ok = wasd_json_str(body, "data", &text) && base64_or_uri(text, strlen(text), &one);
	if (!ok)
		bad(q, r, "", "JSON must be an array of numbers, {\"instances\": [...]}, or {\"data\": an image in base64}");
	else
		ok = images_add(q, r, &h->im, one.data ? one.data : "", one.len, "/data");
	wasd_buf_done(&one);
	cJSON_Delete(body);
	return ok;
}

static bool read_prediction(const struct api_request *q, struct api_response *r, struct shim *h)
{
	size_t blank = strspn(q->body, " \t\r\n");
	char first = q->body[blank], type[80];
	api_media_type(q, type);
	bool json = !strcmp(type, "application/json") ||
	            ((first == '[' || first == '{') && strncmp(type, "image/", 6) && strcmp(type, "multipart/form-data"));
	if (!json)
		return images_read(q, r, &h->im);
	if (first == '[') {
		int depth = tensor_text_depth(q->body, q->body_len);
		return depth % 2 ? read_single(q, r, h, q->body, q->body_len) : read_numbers(q, r, h, q->body, q->body_len, "");
	}
	return strstr(q->body, "\"instances\"") ? read_instances(q, r, h) : read_data(q, r, h);
}

/* ---- answers ----------------------------------------------------------------------------------------------- */

/* {"predictions": [[p of class 0, ...], ...]} */
static void answer_kserve(struct api_response *r, struct shim *h, const float *probs, int64_t n)
{
	cJSON *j = cJSON_CreateObject(), *list = cJSON_CreateArray();
	for (int64_t i = 0; i < n; i++)
		api_push(list, cJSON_CreateFloatArray(probs + i * h->s.classes, (int)h->s.classes));
	api_add_take(j, "predictions", list);
	api_send_json(r, 200, j);
}

/* {"label": p, ...} of the k likeliest classes, descending; an array of these for several images. */
static void answer_torchserve(struct api_response *r, struct shim *h, const float *probs, int64_t n)
{
	struct ranking g;
	cJSON *list = ranking_init(&g, &h->s) ? cJSON_CreateArray() : NULL, *one;
	for (int64_t i = 0; list && i < n; i++) {
		const float *p = probs + i * h->s.classes;
		ranking_sort(&g, p);
		one = cJSON_CreateObject();
		for (int64_t m = 0; m < h->k && m < h->s.classes; m++)
			api_add_num(one, g.label[g.order[m]], p[g.order[m]]);
		api_push(list, one);
	}
	ranking_done(&g);
	if (!list) {
		api_send_no_memory(r);
	} else if (n == 1) {
		api_send_json(r, 200, cJSON_DetachItemFromArray(list, 0));
		cJSON_Delete(list);
	} else {
		api_send_json(r, 200, list);
	}
}

static void finish(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct api_ask *ask)
{
	struct shim *h = (struct shim *)((char *)ask - offsetof(struct shim, s.ask));
	int64_t n = h->s.ask.images, classes = h->s.classes;
	(void)c;
	if (api_inference_answered(q, r, &h->s)) {
		const float *logits = (const float *)(const void *)ask->call.reply_bin;
		float *probs = wasd_calloc((size_t)(n * classes), sizeof *probs);
		if (ask->call.reply_bin_len != ask->call.reply_max) {
			api_send_problem(q, r, "internal", NULL, "the engine's answer for %s has %zu bytes of logits", h->s.name,
			                 ask->call.reply_bin_len);
		} else if (!probs) {
			api_send_no_memory(r);
		} else {
			for (int64_t i = 0; i < n; i++)
				api_softmax(logits + i * classes, classes, probs + i * classes);
			h->answer(r, h, probs, n);
			api_inference_headers(r, &h->s);
		}
		wasd_free(probs);
	}
	shim_done(h);
}

/* ---- the routes -------------------------------------------------------------------------------------------- */

static cJSON *numbers_question(int64_t n)
{
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "type", "infer");
	api_add_int(j, "n", n);
	return j;
}

static enum api_result run(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                           const struct model_ref *m, struct shim *h,
                           bool (*read)(const struct api_request *q, struct api_response *r, struct shim *h))
{
	struct inference *s = &h->s;
	struct mode_asked asked[API_MODES_ASKED];
	size_t n = v2_ref_modes(m, asked);
	n += api_modes_asked(q, asked + n, API_LEN(asked) - n);
	if (!api_inference_begin(c, q, r, m->name, asked, n, s) || !v2_version_ok(q, r, m, s->live.version) ||
	    !read(q, r, h))
		return API_DONE;
	bool pictures = !h->t.n;
	s->parts = (const char(*)[64])h->im.names;
	s->n_parts = *h->im.names[0] ? h->im.n : 0;
	s->ask.images = pictures ? (int64_t)h->im.n : h->t.n;
	s->ask.call = (struct api_call){.json = pictures ? images_question("logits", &h->im) : numbers_question(h->t.n),
	                                .bin = pictures ? h->im.bytes.data : h->t.bytes,
	                                .bin_len = pictures ? h->im.bytes.len : h->t.len,
	                                .reply_max = (size_t)(s->ask.images * s->classes) * sizeof(float)};
	return api_inference_ask(r, s, finish);
}

static enum api_result start(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                             const struct model_ref *m,
                             bool (*read)(const struct api_request *q, struct api_response *r, struct shim *h),
                             void (*answer)(struct api_response *r, struct shim *h, const float *probs, int64_t n))
{
	int64_t k = 5;
	if (!q->body_len) {
		api_send_problem(q, r, "body_required", NULL, "%s needs a body", q->path);
		return API_DONE;
	}
	if (!api_query_int(q, r, "k", 1, 1000, &k))
		return API_DONE;
	struct shim *h = wasd_calloc(1, sizeof *h);
	if (!h) {
		api_send_no_memory(r);
		return API_DONE;
	}
	h->k = k;
	h->answer = answer;
	enum api_result result = run(c, q, r, m, h, read);
	if (result != API_ASK)
		shim_done(h);
	return result;
}

enum api_result api_kserve_predict(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m = {.version = ""};
	api_param(q, "model", m.name);
	m.alias = strchr(m.name, '@');
	if (m.alias)
		*m.alias++ = 0;
	return start(c, q, r, &m, read_instances, answer_kserve);
}

bool api_kserve_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name)
{
	struct storage_deployment row;
	struct inference s;
	if (!wasd_name_ok(name) || storage_deployment_get(c->db, name, &row, NULL))
		return false;
	storage_deployment_done(&row);
	if (!api_inference_look(c, q, r, name, NULL, 0, &s))
		return true;
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "name", s.name);
	api_add_take(j, "ready", cJSON_CreateTrue());
	api_send_json(r, 200, j);
	r->etag_auto = false;
	api_inference_end(&s);
	return true;
}

enum api_result api_torchserve_predict(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct model_ref m;
	v2_read_ref(q, &m);
	return start(c, q, r, &m, read_prediction, answer_torchserve);
}

enum api_result api_torchserve_ping(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	(void)q;
	bool healthy = v2_is_ready(c);
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "status", healthy ? "Healthy" : "Unhealthy");
	api_send_json(r, healthy ? 200 : 503, j);
	r->etag_auto = false;
	return API_DONE;
}
