/* api/classify.c - images in, class names out: raw bytes, multipart, or base64 in JSON. */
#include "classify.h"
#include "wasd/foreign.h"
#include "wasd/wire.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool images_is(const char *p, size_t n)
{
	return (n >= 8 && !memcmp(p, "\x89PNG\r\n\x1a\n", 8)) || (n >= 3 && !memcmp(p, "\xff\xd8\xff", 3));
}

bool images_add(const struct api_request *q, struct api_response *r, struct images *im, const char *p, size_t n,
                const char *pointer)
{
	char text[WASD_FOREIGN_TEXT];
	const char *name = im->n < IMAGES_MAX ? im->names[im->n] : "", *comma = *name ? ", " : "";
	if (!images_is(p, n) && wasd_foreign(WASD_READS_IMAGE, p, n, text))
		api_send_problem(q, r, "bad_image", pointer, "%s%s%s: %s", pointer, comma, name, text);
	else if (!images_is(p, n))
		api_send_problem(q, r, "bad_image", pointer, "%s%s%s: %zu bytes that are neither PNG nor JPEG", pointer, comma,
		                 name, n);
	else if (im->n == IMAGES_MAX)
		api_send_problem(q, r, "too_large", pointer, "more than %d images in one request", IMAGES_MAX);
	else if (!wasd_buf_append(&im->bytes, p, n))
		api_send_no_memory(r);
	else
		return im->size[im->n++] = n, true;
	return false;
}

/* A text field of a form: stores the fields that classify knows and ignores the others. */
static bool take_field(const struct api_request *q, struct api_response *r, struct images *im,
                       const struct multipart_part *p)
{
	const struct {
		const char *name;
		char *to;
		size_t room;
	} fields[] = {
		{"k", im->k, sizeof im->k},
		{"mode", im->mode, sizeof im->mode},
		{"logits", im->logits, sizeof im->logits},
	};
	for (size_t i = 0; i < API_LEN(fields); i++) {
		if (strcmp(p->name, fields[i].name))
			continue;
		if (p->len >= fields[i].room || memchr(p->data, 0, p->len)) {
			api_send_problem(q, r, "bad_parameter", p->name, "form field %s: %zu bytes, which is not a valid value",
			                 p->name, p->len);
			return false;
		}
		snprintf(fields[i].to, fields[i].room, "%.*s", (int)p->len, p->data);
	}
	return true;
}

/* The bytes decide whether a part is an image, not its Content-Type. A part that is no image and has no file name is
 * a field. */
static bool take_part(const struct api_request *q, struct api_response *r, struct images *im,
                      const struct multipart_part *p)
{
	char pointer[32], *name = im->n < IMAGES_MAX ? im->names[im->n] : pointer;
	struct wasd_buf b = {0};
	const char *data = p->data;
	size_t len = p->len;
	bool claimed = *p->filename || !strncasecmp(p->type, "image/", 6);
	if (!images_is(data, len) && len > 5 && !strncasecmp(data, "data:", 5) && base64_or_uri(data, len, &b))
		data = b.data ? b.data : "", len = b.len;
	bool ok = true;
	if (!claimed && !images_is(data, len)) {
		ok = take_field(q, r, im, p);
	} else {
		snprintf(pointer, sizeof pointer, "/images/%zu", im->n);
		if (im->n < IMAGES_MAX)
			snprintf(name, sizeof im->names[0], "part \"%.24s\"%s%.24s", p->name, *p->filename ? " " : "", p->filename);
		ok = images_add(q, r, im, data, len, pointer);
	}
	wasd_buf_done(&b);
	return ok;
}

static bool from_multipart(const struct api_request *q, struct api_response *r, struct images *im)
{
	struct multipart m;
	struct wasd_err err = {0};
	if (multipart_parse(api_header(q, "content-type"), q->body, q->body_len, &m, &err)) {
		if (err.status == WASD_EINVAL || err.status == WASD_ETOOBIG)
			api_send_problem(q, r, "bad_multipart", NULL, "%s", err.msg);
		else
			api_send_error(q, r, &err);
		return false;
	}
	bool ok = true;
	for (size_t i = 0; ok && i < m.n; i++)
		ok = take_part(q, r, im, &m.part[i]);
	multipart_done(&m);
	if (ok && !im->n)
		api_send_problem(q, r, "invalid_field", "/images", "the multipart body has no part that is an image");
	return ok && im->n;
}

cJSON *api_images_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char shown[80];
	int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0;
	if (n >= f->min && n <= f->max)
		return cJSON_CreateArray(); /* the strings are read in place */
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be an array of %.0f to %.0f base64 strings, not %s%s",
	          pointer, f->min, f->max, shown, cJSON_IsArray(v) ? (n ? " of more" : " of none") : "");
	return NULL;
}

static bool from_json(const struct api_request *q, struct api_response *r, struct images *im)
{
	static const struct wasd_json_limits limits = {16 << 20, 8, 1000};
	static const struct wasd_field fields[] = {{"images", WASD_LIST, NULL, 1, IMAGES_MAX, .required = true,
	                                            .form = "images"},
	                                           {0}};
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	cJSON *body = api_body_json(q, r, limits, false);
	if (!body)
		return false;
	cJSON *in = fields_canon(&fc, "", fields, body);
	bool ok = in != NULL;
	if (!ok)
		api_send_faults(q, r, &faults);
	const cJSON *v;
	const cJSON *list = ok ? wasd_json_get(body, "images") : NULL;
	cJSON_ArrayForEach(v, list) {
		char pointer[32];
		struct wasd_buf one = {0};
		snprintf(pointer, sizeof pointer, "/images/%zu", im->n);
		if (!cJSON_IsString(v) || !base64_or_uri(v->valuestring, strlen(v->valuestring), &one)) {
			api_send_problem(q, r, "invalid_field", pointer,
			                 "%s is not a base64 string (RFC 4648) or a URI data:TYPE;base64,...", pointer);
			ok = false;
		} else {
			ok = images_add(q, r, im, one.data, one.len, pointer);
		}
		wasd_buf_done(&one);
		if (!ok)
			break;
	}
	cJSON_Delete(in);
	cJSON_Delete(body);
	return ok;
}

/* Clients' default Content-Types count as either. */
bool images_read(const struct api_request *q, struct api_response *r, struct images *im)
{
	char type[80];
	api_media_type(q, type);
	if (!q->body_len) {
		api_send_problem(q, r, "body_required", NULL, "%s needs an image as its body", q->path);
		return false;
	}
	if (!strcmp(type, "multipart/form-data"))
		return from_multipart(q, r, im);
	bool meant = !strcmp(type, "image/png") || !strcmp(type, "image/jpeg") || !strcmp(type, "image/jpg") ||
	             !strcmp(type, "application/octet-stream");
	if (meant || images_is(q->body, q->body_len))
		return images_add(q, r, im, q->body, q->body_len, "/images/0");
	bool open = !*type || !strcmp(type, "application/x-www-form-urlencoded");
	if (!strcmp(type, "application/json") || (open && q->body[0] == '{'))
		return from_json(q, r, im);
	char text[WASD_FOREIGN_TEXT] =
		"classify takes image/png, image/jpeg, application/octet-stream, multipart/form-data or application/json";
	wasd_foreign(WASD_READS_IMAGE, q->body, q->body_len, text);
	api_send_problem(q, r, "unsupported_media_type", NULL, "Content-Type %s: %s", *type ? type : "(none)", text);
	api_set_header(r, "Accept",
	               "image/png, image/jpeg, application/octet-stream, multipart/form-data, application/json");
	return false;
}

cJSON *images_question(const char *type, const struct images *im)
{
	cJSON *j = cJSON_CreateObject(), *sizes = cJSON_CreateArray();
	api_add_str(j, "type", type);
	for (size_t i = 0; i < im->n; i++)
		api_push(sizes, cJSON_CreateNumber((double)im->size[i]));
	api_add_take(j, "sizes", sizes);
	return j;
}

/* The k likeliest classes by softmax over the logits: the same numbers as the engine's answer to "classify". */
static cJSON *top_json(const struct inference *s, struct ranking *g, const float *x, int64_t k)
{
	cJSON *top = cJSON_CreateArray();
	double most = -INFINITY, sum = 0;
	for (int64_t n = 0; n < s->classes; n++)
		most = x[n] > most ? (double)x[n] : most;
	for (int64_t n = 0; n < s->classes; n++)
		sum += exp((double)x[n] - most);
	ranking_sort(g, x);
	for (int64_t i = 0; i < k && i < s->classes; i++) {
		cJSON *one = cJSON_CreateObject();
		api_add_str(one, "label", g->label[g->order[i]]);
		api_add_int(one, "index", g->order[i]);
		api_add_num(one, "p", exp((double)x[g->order[i]] - most) / sum);
		api_push(top, one);
	}
	return top;
}

/* How to ask the engine, and whether the client gets the logits. */
struct wanted {
	int64_t k, priority, timeout_us; /* 0: the deployment's */
	bool logits, from_logits;
};

/* Builds the results here, from the raw logits. */
static cJSON *logits_results(const struct inference *s, const struct api_call *call, size_t n, const struct wanted *w)
{
	const float *x = (const float *)(const void *)call->reply_bin;
	struct ranking g;
	cJSON *results = ranking_init(&g, s) ? cJSON_CreateArray() : NULL;
	for (size_t i = 0; results && i < n; i++, x += s->classes) {
		cJSON *one = cJSON_CreateObject(), *raw = w->logits ? cJSON_CreateArray() : NULL;
		for (int64_t m = 0; raw && m < s->classes; m++)
			api_push(raw, cJSON_CreateNumber(x[m]));
		api_add_take(one, "top", top_json(s, &g, x, w->k));
		if (w->logits)
			api_add_take(one, "logits", raw);
		api_push(results, one);
	}
	ranking_done(&g);
	return results;
}

/* The engine's "classified" must fit one frame of JSON. If the names may make it larger, ask for the logits instead,
 * whose size is not limited. */
static bool fits_a_frame(const struct inference *s, size_t n, int64_t k)
{
	enum { ENTRY = 80, ESCAPED = 6, REST = 1024 }; /* {"index":,"label":,"p":}; one byte of a name as \u00xx */
	const cJSON *names = wasd_json_get(s->info, "classes"), *v;
	size_t longest = 0;
	cJSON_ArrayForEach(v, names)
		if (cJSON_IsString(v) && strlen(v->valuestring) > longest)
			longest = strlen(v->valuestring);
	return n * (size_t)(k < s->classes ? k : s->classes) * (ENTRY + ESCAPED * longest) + REST <= WASD_WIRE_MAX;
}

static void answer(const struct api_request *q, struct api_response *r, struct inference *s, size_t n,
                   const struct wanted *w)
{
	struct api_call *call = &s->ask.call;
	cJSON *results = NULL;
	if (w->from_logits && call->reply_bin_len == call->reply_max)
		results = logits_results(s, call, n, w);
	if (!w->from_logits)
		results = cJSON_DetachItemFromObjectCaseSensitive(call->reply, "results");
	if (cJSON_GetArraySize(results) != (int)n) {
		cJSON_Delete(results);
		api_send_problem(q, r, "internal", NULL, "the engine's answer for %s does not hold %zu results", s->name, n);
		return;
	}
	cJSON *j = cJSON_CreateObject();
	api_add_str(j, "model", s->name);
	api_add_int(j, "version", s->live.version);
	api_add_str(j, "mode", s->mode);
	api_add_int(j, "generation", s->live.generation);
	api_add_take(j, "results", results);
	struct inference_times t = api_inference_times(s);
	cJSON *timing = cJSON_CreateObject();
	api_add_int(timing, "decode", t.decode);
	api_add_int(timing, "queue", t.queue);
	api_add_int(timing, "compute", t.compute);
	api_add_take(j, "timing_us", timing);
	api_add_int(j, "batch", s->ask.computed_with);
	api_add_int(j, "macs", s->ask.macs);
	if (s->cascade)
		api_add_take(j, "repeated", cJSON_DetachItemFromObjectCaseSensitive(call->reply, "repeated"));
	api_send_json(r, 200, j);
	api_inference_headers(r, s);
}

static bool twice(const struct api_request *q, struct api_response *r, const char *name, const char *form)
{
	const char *query = api_query(q, name);
	if (!query || !strcmp(query, form))
		return false;
	api_send_problem(q, r, "bad_parameter", name, "query parameter %s is \"%.40s\", form field %s is \"%.40s\"", name,
	                 query, name, form);
	return true;
}

/* Reads the form fields k and logits; refuses one that contradicts the query. */
static bool read_fields(const struct api_request *q, struct api_response *r, const struct images *im, struct wanted *w)
{
	if (*im->k) {
		int64_t v = strspn(im->k, "0123456789") == strlen(im->k) && strlen(im->k) < 6 ? atoll(im->k) : 0;
		if (twice(q, r, "k", im->k))
			return false;
		if (v < 1 || v > 1000) {
			api_send_problem(q, r, "bad_parameter", "k",
			                 "form field k must be a whole number from 1 to 1000, not \"%s\"", im->k);
			return false;
		}
		w->k = v;
	}
	if (*im->logits) {
		bool yes = !strcmp(im->logits, "true") || !strcmp(im->logits, "1"),
			 no = !strcmp(im->logits, "false") || !strcmp(im->logits, "0");
		if (twice(q, r, "logits", im->logits))
			return false;
		if (!yes && !no) {
			api_send_problem(q, r, "bad_parameter", "logits", "form field logits must be true or false, not \"%s\"",
			                 im->logits);
			return false;
		}
		w->logits = yes;
	}
	return true;
}

/* Kept while the process computes. */
struct classifying {
	struct inference s;
	struct images im;
	struct wanted w;
};

static void classifying_done(struct classifying *k)
{
	api_inference_end(&k->s);
	wasd_buf_done(&k->im.bytes);
	wasd_free(k);
}

static void finish(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct api_ask *ask)
{
	struct classifying *k = (struct classifying *)((char *)ask - offsetof(struct classifying, s.ask));
	(void)c;
	if (api_inference_answered(q, r, &k->s))
		answer(q, r, &k->s, k->im.n, &k->w);
	classifying_done(k);
}

/* False: the answer is in r. */
static bool begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct classifying *k)
{
	char name[128];
	struct mode_asked asked[API_MODES_ASKED];
	size_t n = api_modes_asked(q, asked, API_LEN(asked) - 1);
	api_param(q, "d", name);
	if (!api_query_int(q, r, "k", 1, 1000, &k->w.k) || !api_query_bool(q, r, "logits", &k->w.logits) ||
	    !api_query_int(q, r, "priority", 0, API_PRIORITIES, &k->w.priority) ||
	    !api_query_int(q, r, "timeout", 0, INT32_MAX, &k->w.timeout_us) || !images_read(q, r, &k->im) ||
	    !read_fields(q, r, &k->im, &k->w))
		return false;
	if (*k->im.mode)
		asked[n++] = (struct mode_asked){k->im.mode, "form field mode"};
	return api_inference_begin(c, q, r, name, asked, n, &k->s);
}

enum api_result api_deployments_classify(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct classifying *k = wasd_calloc(1, sizeof *k);
	enum api_result result = API_DONE;
	if (!k) {
		api_send_no_memory(r);
		return API_DONE;
	}
	k->w.k = 5;
	if (begin(c, q, r, k)) {
		struct inference *s = &k->s;
		s->parts = (const char(*)[64])k->im.names;
		s->n_parts = *k->im.names[0] ? k->im.n : 0;
		/* Logits can be computed in a batch with others; the engine's list of classes cannot. */
		k->w.from_logits = s->cascade || k->w.logits || s->live.max_batch || !fits_a_frame(s, k->im.n, k->w.k);
		s->ask.alone = !k->w.from_logits;
		s->ask.images = (int64_t)k->im.n;
		s->ask.priority = (int)k->w.priority;
		if (k->w.timeout_us)
			s->deadline_us = api_inference_deadline(q, k->w.timeout_us);
		s->ask.call = (struct api_call){.json = images_question(k->w.from_logits ? "logits" : "classify", &k->im),
		                                .bin = k->im.bytes.data,
		                                .bin_len = k->im.bytes.len};
		if (k->w.from_logits)
			s->ask.call.reply_max = k->im.n * (size_t)s->classes * sizeof(float);
		else
			api_add_int(s->ask.call.json, "k", k->w.k < s->classes ? k->w.k : s->classes);
		result = api_inference_ask(r, s, finish);
	}
	if (result != API_ASK)
		classifying_done(k);
	return result;
}
