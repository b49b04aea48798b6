/* api/inference.c - the steps common to all inference requests: find the deployment, choose the mode, ask the infer
 * process one question.
 *
 * On admission a request takes one snapshot of (mode, generation, bundle) and is answered from it, even if the mode
 * is switched meanwhile. */
#include "internal.h"
#include "metrics.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKS = 8 }; /* at a deployment whose bundle is replaced meanwhile */

static bool settle_mode(const struct api_request *q, struct api_response *r, const struct mode_asked *asked, size_t n,
                        struct inference *s)
{
	const struct mode_asked *first = NULL;
	for (size_t i = 0; i < n; i++) {
		if (!asked[i].value)
			continue;
		if (!wasd_mode_ok(asked[i].value)) {
			api_send_problem(q, r, "bad_parameter", asked[i].where,
			                 "%s: mode \"%.80s\" is neither aom nor dom nor slim nor FAMILY:NAME", asked[i].where,
			                 asked[i].value);
			return false;
		}
		if (first && strcmp(first->value, asked[i].value)) {
			api_send_problem(q, r, "mode_conflict", asked[i].where, "%s asks for %s, %s for %s", first->where,
			                 first->value, asked[i].where, asked[i].value);
			return false;
		}
		if (!first)
			first = &asked[i];
	}
	const struct api_pick *pick = &s->live.pick;
	s->governed = !first;
	snprintf(s->computes, sizeof s->computes, "%s", first ? first->value : pick->mode);
	snprintf(s->mode, sizeof s->mode, "%s", first || !pick->cascade ? s->computes : WASD_MODE_CASCADE);
	s->cascade = !first && pick->cascade;
	s->asked = first ? first->where : "mode";
	return true;
}

/* The bundle is not loaded. For a profile the rows give the reason. */
static void send_no_bundle(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                           const struct inference *s)
{
	if (!wasd_mode_member(s->computes))
		api_send_problem(q, r, "bundle_not_ready", NULL, "deployment %s has no %s bundle: %s", s->name, s->computes,
		                 api_mode_lacking(s->computes));
	else if (api_mode_there(c, q, r, s->live.bundle, s->computes, "bad_parameter", s->asked))
		api_send_problem(q, r, "bundle_not_ready", s->asked, "deployment %s is about to load %s", s->name, s->computes);
}

static bool read_info(struct inference *s)
{
	const cJSON *in = wasd_json_get(s->info, "input");
	if (cJSON_GetArraySize(in) != 3)
		return false;
	for (int i = 0; i < 3; i++)
		s->input[i] = (int64_t)cJSON_GetArrayItem(in, i)->valuedouble;
	s->classes = cJSON_GetArraySize(wasd_json_get(s->info, "classes"));
	s->max_batch = 256;
	wasd_json_i64(s->info, "max_batch", &s->max_batch);
	const cJSON *pixels = wasd_json_get(s->info, "normalize");
	s->pixels = wasd_pixels_half;
	return s->classes > 0 && s->max_batch > 0 &&
	       (!pixels || !wasd_pixels_read(pixels, "", (int)s->input[0], &s->pixels, NULL));
}

static void send_not_ready(const struct api_request *q, struct api_response *r, const struct api_live *live,
                           const struct storage_deployment *row)
{
	const char *why = row->message                 ? row->message :
	                  !strcmp(row->state, "ready") ? "the inference process is being restarted" :
	                                                 "";
	bool ready = !live->suspended && !strcmp(row->state, "ready");
	api_send_problem(q, r, live->suspended ? "suspended" : "not_ready", NULL, "deployment %s %s%s%s%s", row->name,
	                 ready ? "cannot answer now" : "is ",
	                 ready           ? "" :
	                 live->suspended ? "suspended" :
	                                   row->state,
	                 *why ? ": " : "", why);
	if (r->status == 503 && live->retry_s > 0)
		api_set_header(r, "Retry-After", "%lld", (long long)live->retry_s);
}

size_t api_modes_asked(const struct api_request *q, struct mode_asked *out, size_t room)
{
	size_t n = 0;
	for (size_t i = 0; i < q->n_headers && n < room; i++)
		if (!strcmp(q->headers[i].name, "wasd-mode"))
			out[n++] = (struct mode_asked){q->headers[i].value, "header WASD-Mode"};
	for (size_t i = 0; i < q->n_query && n < room; i++)
		if (!strcmp(q->query[i].name, "mode"))
			out[n++] = (struct mode_asked){q->query[i].value, "query parameter mode"};
	return n;
}

static void drop_facts(struct inference *s)
{
	api_facts_unref(s->facts);
	s->facts = NULL;
	s->info = NULL;
}

/* The facts of the very bundle that will answer: a swap may come between the two questions. admit: an inference
 * request, which takes its turn of a split. */
static bool snapshot(struct api_ctx *c, const struct api_request *q, bool admit, struct inference *s)
{
	const char *bundle = "";
	for (int i = 0; i < LOOKS; i++) {
		if (!(admit ? c->serving.admit(c->serving.self, s->name, q, &s->live) :
		              c->serving.live(c->serving.self, s->name, &s->live)) ||
		    !s->live.ready)
			return false;
		drop_facts(s);
		s->facts = c->serving.facts(c->serving.self, s->name);
		s->info = s->facts ? s->facts->json : NULL;
		if (!wasd_json_str(s->info, "bundle", &bundle) || !strcmp(bundle, s->live.bundle))
			return true;
	}
	return false;
}

static bool look(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                 const struct mode_asked *asked, size_t n, bool admit, struct inference *s)
{
	struct storage_deployment row;
	*s = (struct inference){0};
	snprintf(s->name, sizeof s->name, "%.63s", name);
	bool named = false;
	for (size_t i = 0; i < n; i++)
		named |= asked[i].value != NULL;
	if (!wasd_name_ok(name) || !snapshot(c, q, admit && !named, s)) {
		drop_facts(s);
		if (!wasd_name_ok(name) || storage_deployment_get(c->db, name, &row, NULL)) {
			api_send_problem(q, r, "not_found", NULL, "no deployment %s", name);
		} else {
			send_not_ready(q, r, &s->live, &row);
			storage_deployment_done(&row);
		}
		return false;
	}
	if (!settle_mode(q, r, asked, n, s)) {
		drop_facts(s);
		return false;
	}
	if (!s->info || !read_info(s)) {
		api_send_problem(q, r, "not_ready", NULL, "deployment %s is being loaded", name);
	} else if (!wasd_json_get(wasd_json_get(s->info, "modes"), s->computes)) {
		send_no_bundle(c, q, r, s);
	} else {
		s->deadline_us = q->deadline_us;
		if (s->live.default_timeout_us && q->first_us + s->live.default_timeout_us < q->deadline_us)
			s->deadline_us = q->first_us + s->live.default_timeout_us;
		return true;
	}
	drop_facts(s);
	return false;
}

int64_t api_inference_deadline(const struct api_request *q, int64_t timeout_us)
{
	return timeout_us < q->deadline_us - q->first_us ? q->first_us + timeout_us : q->deadline_us;
}

bool api_inference_look(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                        const struct mode_asked *asked, size_t n, struct inference *s)
{
	return look(c, q, r, name, asked, n, false, s);
}

bool api_inference_begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                         const struct mode_asked *asked, size_t n, struct inference *s)
{
	for (int i = 0; i < LOOKS; i++) {
		if (!look(c, q, r, name, asked, n, true, s))
			return false;
		if (c->serving.begin(c->serving.self, s->name, &s->live)) {
			s->counted = &c->serving;
			s->metrics = c->metrics;
			s->begun_us = wasd_mono_us();
			return true;
		}
		api_inference_end(s); /* its bundle was replaced and unloaded since the look */
	}
	api_send_problem(q, r, "not_ready", NULL, "deployment %s is being unloaded", name);
	return false;
}

/* A fault of one image has a pointer "/images/N" and is the client's; any other is ours. */
static void send_engine_error(const struct api_request *q, struct api_response *r, const struct inference *s,
                              const struct wasd_err *err)
{
	bool image = !strncmp(err->pointer, "/images/", 8);
	bool theirs = err->status == WASD_EINVAL || err->status == WASD_ECORRUPT || err->status == WASD_ETOOBIG ||
	              err->status == WASD_EUNSUPPORTED;
	size_t i = image ? (size_t)atol(err->pointer + 8) : 0;
	const char *part = i < s->n_parts ? s->parts[i] : "";
	if (image && theirs && s->images_at)
		api_send_problem(q, r, "bad_image", s->images_at, "element %zu: %s", i, err->msg);
	else if (image && theirs)
		api_send_problem(q, r, "bad_image", err->pointer, "%s%s%s", part, *part ? ": " : "", err->msg);
	else if (err->status == WASD_EBUSY && wasd_mono_us() >= s->deadline_us)
		api_send_problem(q, r, "deadline", NULL, "%s", err->msg);
	else
		api_send_error(q, r, err);
	if (r->status == 503 && s->ask.retry_s)
		api_set_header(r, "Retry-After", "%lld", (long long)s->ask.retry_s);
}

enum api_result api_inference_ask(struct api_response *r, struct inference *s,
                                  void (*finish)(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                                 struct api_ask *ask))
{
	struct api_call *call = &s->ask.call;
	api_add_str(call->json, "bundle", s->live.bundle);
	api_add_str(call->json, "mode", s->computes);
	if (api_poisoned(call->json)) {
		api_send_no_memory(r);
		return API_DONE;
	}
	call->who = s->name;
	s->ask.bundle = s->live.bundle;
	s->ask.mode = s->computes;
	s->ask.governed = s->governed;
	s->ask.cascade = s->cascade;
	s->ask.threshold = s->live.pick.threshold;
	s->ask.max_batch = s->live.max_batch;
	s->ask.max_queue_delay_us = s->live.max_queue_delay_us;
	s->ask.queue_max = s->live.queue_max;
	s->ask.deadline_us = s->deadline_us;
	s->ask.finish = finish;
	r->ask = &s->ask;
	return API_ASK;
}

bool api_inference_answered(const struct api_request *q, struct api_response *r, struct inference *s)
{
	s->answered = s->ask.status == WASD_OK;
	if (!s->answered)
		send_engine_error(q, r, s, &s->ask.err);
	return s->answered;
}

struct inference_times api_inference_times(const struct inference *s)
{
	const struct api_ask *a = &s->ask;
	return (struct inference_times){a->decode_us, a->queue_us + a->process_queue_us, a->compute_us};
}

void api_inference_headers(struct api_response *r, const struct inference *s)
{
	struct inference_times t = api_inference_times(s);
	api_set_header(r, "Server-Timing", "decode;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, batch;desc=\"%lld\"",
	               (double)t.decode / 1000, (double)t.queue / 1000, (double)t.compute / 1000,
	               (long long)s->ask.computed_with);
	api_set_header(r, "WASD-Mode", "%s", s->mode);
	api_set_header(r, "WASD-Generation", "%lld", (long long)s->live.generation);
}

static const char *outcome(const struct inference *s)
{
	const struct api_ask *ask = &s->ask;
	if (s->answered)
		return API_ANSWERED;
	if (ask->outcome)
		return ask->outcome;
	bool theirs = ask->status == WASD_OK || ask->status == WASD_EINVAL || ask->status == WASD_ECORRUPT ||
	              ask->status == WASD_ETOOBIG || ask->status == WASD_EUNSUPPORTED;
	return theirs ? API_INVALID : API_FAILED; /* WASD_OK: it was refused before the engine was asked */
}

static void count(const struct inference *s)
{
	metric_add(s->metrics, METRIC_INFER_REQUESTS, 1, LABELS(s->name, s->mode, outcome(s)));
	if (s->answered)
		metric_observe(s->metrics, METRIC_INFER_DURATION, (double)(wasd_mono_us() - s->begun_us) / 1e6,
		               LABELS(s->name, s->mode));
}

void api_inference_end(struct inference *s)
{
	if (s->counted)
		count(s);
	if (s->counted)
		s->counted->end(s->counted->self, s->name, &s->live, s->answered);
	s->counted = NULL;
	drop_facts(s);
	api_call_done(&s->ask.call);
}

/* p_i = exp(x_i - max x) / sum, in double; the shift cancels out and prevents overflow of exp. */
void api_softmax(const float *logits, int64_t n, float *p)
{
	double top = logits[0], sum = 0;
	for (int64_t i = 1; i < n; i++)
		if (logits[i] > top)
			top = logits[i];
	for (int64_t i = 0; i < n; i++)
		sum += exp(logits[i] - top);
	for (int64_t i = 0; i < n; i++)
		p[i] = (float)(exp(logits[i] - top) / sum);
}

bool ranking_init(struct ranking *g, const struct inference *s)
{
	const cJSON *names = wasd_json_get(s->info, "classes"), *v;
	size_t n = 0;
	*g = (struct ranking){wasd_calloc((size_t)s->classes, sizeof *g->label),
	                      wasd_calloc((size_t)s->classes, sizeof *g->order), s->classes};
	if (!g->label || !g->order)
		return false;
	cJSON_ArrayForEach(v, names)
		g->label[n++] = cJSON_IsString(v) ? v->valuestring : "";
	return true;
}

void ranking_done(struct ranking *g)
{
	wasd_free(g->label);
	wasd_free(g->order);
}

/* Descending logits; ties by ascending index. */
static int likelier(const void *va, const void *vb, void *logits)
{
	const float *x = logits;
	int32_t a = *(const int32_t *)va, b = *(const int32_t *)vb;
	return x[a] != x[b] ? (x[a] < x[b]) - (x[a] > x[b]) : (a > b) - (a < b);
}

void ranking_sort(struct ranking *g, const float *x)
{
	for (int64_t n = 0; n < g->classes; n++)
		g->order[n] = (int32_t)n;
	qsort_r(g->order, (size_t)g->classes, sizeof *g->order, likelier, (void *)(uintptr_t)x);
}
