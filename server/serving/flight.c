/* flight.c - a request from the daemon's question to its end: counted in its deployment's window, repeated in AOM where
 * a cascade is not sure, mirrored to a shadow mode.
 *
 *   asked -> over                      any request
 *   asked -> over -> repeated -> over  a cascade with images below its threshold
 *
 * The queue calls over without locks. The ask, and the payload that it borrows, belong to the handler again after
 * queue_done, so a shadow copies what it needs before that. */
#include "serving/internal.h"

#include "log.h"
#include "metrics.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { MIRROR_MAX = 8 << 20 }; /* bytes of a request that is mirrored; one at a time */
static const int64_t MIRROR_US = 30000000;

/* ---- logits -------------------------------------------------------------------------------------------------- */

static const float *logits_of(const struct api_ask *a, int64_t *classes)
{
	size_t row = a->images > 0 ? a->call.reply_bin_len / (size_t)a->images : 0;
	*classes = (int64_t)(row / sizeof(float));
	return a->call.reply_bin && *classes > 0 ? (const float *)(const void *)a->call.reply_bin : NULL;
}

static int32_t likeliest(const float *x, int64_t n)
{
	int32_t best = 0;
	for (int32_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

/* The probability of the likeliest class minus that of the second, by softmax. */
static double margin(const float *x, int64_t n)
{
	double first = -INFINITY, second = -INFINITY, sum = 0;
	for (int64_t i = 0; i < n; i++) {
		if (x[i] > first) {
			second = first;
			first = x[i];
		} else if (x[i] > second) {
			second = x[i];
		}
	}
	for (int64_t i = 0; i < n; i++)
		sum += exp(x[i] - first);
	return n > 1 ? (1 - exp(second - first)) / sum : 1;
}

/* The likeliest class of every image: from logits, or from the engine's list of classes. NULL: no memory, or no
 * answer of this form. */
static int32_t *tops_of(const struct api_ask *a)
{
	int64_t classes;
	const float *x = logits_of(a, &classes);
	const cJSON *one, *results = wasd_json_get(a->call.reply, "results");
	if (a->images < 1 || (!x && cJSON_GetArraySize(results) != a->images))
		return NULL;
	int32_t *tops = wasd_calloc((size_t)a->images, sizeof *tops);
	for (int64_t i = 0; tops && x && i < a->images; i++)
		tops[i] = likeliest(x + i * classes, classes);
	int64_t k = 0;
	if (tops && !x)
		cJSON_ArrayForEach(one, results) {
			int64_t index = -1;
			wasd_json_i64(cJSON_GetArrayItem(wasd_json_get(one, "top"), 0), "index", &index);
			tops[k++] = (int32_t)index;
		}
	return tops;
}

/* ---- one image of a payload -------------------------------------------------------------------------------------- */

/* The bytes of image i: an encoded file, or pixels as float32. */
static const char *image_at(const struct api_ask *a, int64_t i, size_t *len)
{
	const cJSON *sizes = wasd_json_get(a->call.json, "sizes"), *v;
	size_t at = 0;
	int64_t k = 0;
	if (!sizes) {
		*len = a->call.bin_len / (size_t)a->images;
		return (const char *)a->call.bin + (size_t)i * *len;
	}
	*len = 0;
	cJSON_ArrayForEach(v, sizes) {
		*len = (size_t)v->valuedouble;
		if (k++ == i)
			break;
		at += *len;
	}
	return (const char *)a->call.bin + at;
}

static const char *type_of(const struct api_ask *a, const char *bytes, size_t len)
{
	if (!wasd_json_get(a->call.json, "sizes"))
		return "application/octet-stream";
	return len > 3 && !memcmp(bytes, "\xff\xd8\xff", 3) ? "image/jpeg" : "image/png";
}

/* ---- the shadow -------------------------------------------------------------------------------------------------- */

struct mirror {
	struct api_ask ask;
	struct serving *s;
	char name[72], bundle[48], mode[WASD_MODE_LEN];
	int32_t *answer; /* the classes that were answered */
	char *bin;
};

static void mirror_free(struct mirror *m)
{
	if (!m)
		return;
	api_call_done(&m->ask.call);
	wasd_free(m->answer);
	wasd_free(m->bin);
	wasd_free(m);
}

/* The answers of both modes are there: counts, and keeps images on which they differ. */
static void mirror_compare(struct mirror *m, struct shadow *shadow, int64_t examples, struct metrics *metrics)
{
	int32_t *tops = tops_of(&m->ask);
	if (!tops) {
		shadow->failed++;
		return;
	}
	for (int64_t i = 0; i < m->ask.images; i++) {
		bool same = tops[i] == m->answer[i];
		shadow_compare(shadow, m->answer[i], tops[i]);
		metric_add(metrics, METRIC_SHADOW, 1, LABELS(m->name, same ? "true" : "false"));
		size_t len;
		const char *bytes = image_at(&m->ask, i, &len);
		if (!same)
			shadow_keep(shadow, examples, bytes, len, type_of(&m->ask, bytes, len), m->answer[i], tops[i],
			            wasd_now_ms());
	}
	wasd_free(tops);
}

static void mirrored(struct api_ask *a)
{
	struct mirror *m = a->owner;
	struct serving *s = m->s;
	pthread_mutex_lock(&s->lock);
	s->mirroring = false;
	struct deployment *d = serving_find(s, m->name);
	/* A policy or version that came meanwhile has begun to count anew. */
	if (d && !strcmp(d->traffic.shadow.mode, m->mode) && !strcmp(d->traffic.shadow.bundle, m->bundle)) {
		d->traffic.shadow.pending -= d->traffic.shadow.pending > 0;
		if (a->status == WASD_OK)
			mirror_compare(m, &d->traffic.shadow, d->traffic.policy.shadow.examples, s->cfg.metrics);
		else
			d->traffic.shadow.failed++;
	}
	pthread_mutex_unlock(&s->lock);
	mirror_free(m);
}

static void nobody(void *ctx)
{
	(void)ctx;
}

/* The same question in another mode, with a copy of the images. NULL: no memory, or nothing to compare with. */
static struct mirror *mirror_create(struct serving *s, const struct deployment *d, const struct api_ask *a)
{
	const char *type = "";
	struct mirror *m = wasd_calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->s = s;
	snprintf(m->name, sizeof m->name, "%s", d->name);
	snprintf(m->bundle, sizeof m->bundle, "%s", a->bundle);
	snprintf(m->mode, sizeof m->mode, "%s", d->traffic.policy.shadow.mode);
	m->answer = tops_of(a);
	m->bin = wasd_malloc(a->call.bin_len ? a->call.bin_len : 1);
	cJSON *json = cJSON_Duplicate(a->call.json, true);
	wasd_json_str(json, "type", &type);
	bool named = !strcmp(type, "classify");
	cJSON_DeleteItemFromObjectCaseSensitive(json, "mode");
	cJSON_DeleteItemFromObjectCaseSensitive(json, "k");
	bool ok = m->answer && m->bin && cJSON_AddStringToObject(json, "mode", m->mode) &&
	          (!named || cJSON_AddNumberToObject(json, "k", 1));
	m->ask = (struct api_ask){.call = {.json = json,
	                                   .bin = m->bin,
	                                   .bin_len = a->call.bin_len,
	                                   .who = m->name,
	                                   .reply_max = a->call.reply_max},
	                          .bundle = m->bundle,
	                          .mode = m->mode,
	                          .images = a->images,
	                          .deadline_us = wasd_mono_us() + MIRROR_US,
	                          .over = mirrored,
	                          .owner = m,
	                          .alone = true,
	                          .uncounted = true};
	if (ok) {
		memcpy(m->bin, a->call.bin, a->call.bin_len);
		return m;
	}
	mirror_free(m);
	return NULL;
}

/* Lock held. The shadow of a request that was answered; NULL: none. */
static struct mirror *shadow_of(struct serving *s, struct deployment *d, const struct api_ask *a)
{
	const struct traffic_policy *p = &d->traffic.policy;
	const struct bundle *b = serving_bundle(s, d->bundle);
	struct shadow *shadow = &d->traffic.shadow;
	int waiting, asked;
	if (!*p->shadow.mode || !a->governed || a->status != WASD_OK || (!a->cascade && !strcmp(a->mode, p->shadow.mode)) ||
	    strcmp(a->bundle, d->bundle) || !serving_has_mode(b, p->shadow.mode) ||
	    !traffic_sample(&d->traffic.shadow_owed, p->shadow.percent))
		return NULL;
	shadow_begin(shadow, p->shadow.mode, d->bundle, cJSON_GetArraySize(wasd_json_get(b->loaded, "classes")));
	queue_length(s->queue, &waiting, &asked);
	struct mirror *m = NULL;
	if (!s->mirroring && !waiting && !asked && a->call.bin_len <= MIRROR_MAX)
		m = mirror_create(s, d, a);
	if (m) {
		s->mirroring = true;
		shadow->pending++;
	} else {
		shadow->dropped++;
	}
	return m;
}

static void mirror_ask(struct mirror *m)
{
	struct serving *s = m->s;
	if (queue_ask_idle(s->queue, &m->ask, nobody, m))
		return;
	pthread_mutex_lock(&s->lock);
	s->mirroring = false;
	struct deployment *d = serving_find(s, m->name);
	if (d && !strcmp(d->traffic.shadow.mode, m->mode) && !strcmp(d->traffic.shadow.bundle, m->bundle)) {
		d->traffic.shadow.pending -= d->traffic.shadow.pending > 0;
		d->traffic.shadow.dropped++;
	}
	pthread_mutex_unlock(&s->lock);
	mirror_free(m);
}

/* ---- the end of a request ---------------------------------------------------------------------------------------- */

/* Lock held. */
static void note_window(struct deployment *d, const struct api_ask *a, int64_t repeated, int64_t now)
{
	window_add(&d->traffic.window, a->cascade ? WASD_MODE_CASCADE : a->mode,
	           &(struct window_request){.ok = a->status == WASD_OK,
	                                    .images = a->images,
	                                    .batch = a->computed_with,
	                                    .total_us = now - a->came_us,
	                                    .queue_us = a->queue_us,
	                                    .macs = (double)a->macs * (double)a->images,
	                                    .repeated = repeated},
	           now);
}

/* Lock held. */
static void note_load(struct deployment *d, const struct api_ask *a, int64_t now)
{
	const struct traffic_auto *p = &d->traffic.policy.brownout;
	if (strcmp(d->mode, WASD_MODE_AUTO))
		return;
	if (a->status != WASD_OK) {
		/* Refused by a full queue, or too late; a client that has gone says nothing. */
		if (a->outcome && strcmp(a->outcome, API_CANCELLED))
			traffic_waited(p, &d->traffic.load, INT64_MAX, now);
		return;
	}
	traffic_waited(p, &d->traffic.load, a->queue_us, now);
	bool aom = !strcmp(a->mode, WASD_MODE_AOM);
	if ((aom || !strcmp(a->mode, p->cheap)) && a->computed_with > 0)
		traffic_computed(&d->traffic.load, !aom, a->images, a->compute_us * a->images / a->computed_with);
}

/* Counts the request and gives it back to its handler. */
static void end(struct serving *s, struct api_ask *a, int64_t repeated)
{
	struct mirror *m = NULL;
	int64_t now = wasd_mono_us();
	pthread_mutex_lock(&s->lock);
	struct deployment *d = a->call.who ? serving_find(s, a->call.who) : NULL;
	if (d) {
		note_window(d, a, repeated, now);
		note_load(d, a, now);
		m = shadow_of(s, d, a);
	}
	pthread_mutex_unlock(&s->lock);
	queue_done(a);
	if (m)
		mirror_ask(m);
}

static void plain_over(struct api_ask *a)
{
	end(a->owner, a, 0);
}

/* ---- a cascade --------------------------------------------------------------------------------------------------- */

struct cascade {
	struct serving *s;
	struct api_ask *outer, inner;
	int64_t *at; /* the images that are repeated */
	struct wasd_buf bin;
};

static void cascade_free(struct cascade *c)
{
	api_call_done(&c->inner.call);
	wasd_buf_done(&c->bin);
	wasd_free(c->at);
	wasd_free(c);
}

/* Puts the answers of the second pass into those of the first. False: no memory, or they do not fit. */
static bool merge(struct cascade *c)
{
	struct api_ask *a = c->outer;
	int64_t classes, n = c->inner.images;
	float *x = (float *)(uintptr_t)logits_of(a, &classes);
	size_t row = (size_t)classes * sizeof *x;
	if (!a->call.reply)
		a->call.reply = cJSON_CreateObject();
	cJSON *list = cJSON_AddArrayToObject(a->call.reply, "repeated");
	if (!x || !list || (n && c->inner.call.reply_bin_len != row * (size_t)n))
		return false;
	for (int64_t i = 0; i < n; i++) {
		memcpy(x + c->at[i] * classes, c->inner.call.reply_bin + row * (size_t)i, row);
		cJSON_AddItemToArray(list, cJSON_CreateNumber((double)c->at[i]));
	}
	a->macs = (int64_t)round((double)a->macs + (double)c->inner.macs * (double)n / (double)a->images);
	a->decode_us += c->inner.decode_us;
	a->compute_us += c->inner.compute_us;
	a->queue_us += c->inner.queue_us;
	a->process_queue_us += c->inner.process_queue_us;
	return true;
}

static void cascade_end(struct cascade *c)
{
	struct api_ask *a = c->outer;
	int64_t n = c->inner.images;
	if (a->status == WASD_OK && !merge(c))
		a->status = wasd_fail(&a->err, WASD_EINTERNAL, "the two passes of the cascade do not fit together");
	struct serving *s = c->s;
	cascade_free(c);
	end(s, a, n);
}

static void repeated_over(struct api_ask *inner)
{
	struct cascade *c = inner->owner;
	if (inner->status != WASD_OK) {
		c->outer->status = inner->status;
		c->outer->err = inner->err;
		c->outer->outcome = inner->outcome;
	}
	cascade_end(c);
}

/* Collects the images below the threshold. False: no memory. */
static bool choose(struct cascade *c)
{
	const struct api_ask *a = c->outer;
	int64_t classes, n = 0;
	const float *x = logits_of(a, &classes);
	c->at = wasd_calloc((size_t)a->images, sizeof *c->at);
	for (int64_t i = 0; c->at && x && i < a->images; i++)
		if (margin(x + i * classes, classes) < a->threshold)
			c->at[n++] = i;
	c->inner.images = n;
	return c->at && x;
}

static bool build(struct cascade *c)
{
	const struct api_ask *a = c->outer;
	const char *type = "";
	int64_t classes;
	bool encoded = wasd_json_get(a->call.json, "sizes") != NULL;
	cJSON *sizes = encoded ? cJSON_CreateArray() : NULL;
	for (int64_t i = 0; i < c->inner.images; i++) {
		size_t len;
		const char *bytes = image_at(a, c->at[i], &len);
		wasd_buf_append(&c->bin, bytes, len);
		if (encoded)
			cJSON_AddItemToArray(sizes, cJSON_CreateNumber((double)len));
	}
	wasd_json_str(a->call.json, "type", &type);
	cJSON *json = encoded ? wasd_message(type, "bundle:s mode:s sizes:j", a->bundle, WASD_MODE_AOM, sizes) :
	                        wasd_message(type, "bundle:s mode:s n:i", a->bundle, WASD_MODE_AOM, c->inner.images);
	logits_of(a, &classes);
	c->inner.call = (struct api_call){.json = json,
	                                  .bin = c->bin.data,
	                                  .bin_len = c->bin.len,
	                                  .who = a->call.who,
	                                  .reply_max = (size_t)(c->inner.images * classes) * sizeof(float)};
	c->inner.bundle = a->bundle;
	c->inner.mode = WASD_MODE_AOM;
	c->inner.max_batch = a->max_batch;
	c->inner.max_queue_delay_us = a->max_queue_delay_us;
	c->inner.queue_max = a->queue_max;
	c->inner.priority = a->priority;
	c->inner.deadline_us = a->deadline_us;
	c->inner.over = repeated_over;
	c->inner.owner = c;
	return json && !c->bin.failed;
}

static void cascade_over(struct api_ask *a)
{
	struct cascade *c = a->owner;
	if (a->status == WASD_OK && !choose(c))
		a->status = wasd_fail(&a->err, WASD_ENOMEM, "no memory for a cascade");
	if (a->status == WASD_OK && c->inner.images && !build(c))
		a->status = wasd_fail(&a->err, WASD_ENOMEM, "no memory for a cascade");
	if (a->status != WASD_OK || !c->inner.images)
		cascade_end(c);
	else
		queue_ask(c->s->queue, &c->inner, a->done, a->ctx); /* a client that goes takes this one with it */
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

void serve_ask(struct serving *s, struct api_ask *ask, void (*done)(void *ctx), void *ctx)
{
	struct cascade *c = ask->cascade ? wasd_calloc(1, sizeof *c) : NULL;
	pthread_mutex_lock(&s->lock);
	struct deployment *d = ask->call.who ? serving_find(s, ask->call.who) : NULL;
	if (d && !strcmp(d->mode, WASD_MODE_AUTO))
		traffic_arrived(&d->traffic.policy.brownout, &d->traffic.load, ask->images, wasd_mono_us());
	pthread_mutex_unlock(&s->lock);
	ask->over = plain_over;
	ask->owner = s;
	if (c) {
		c->s = s;
		c->outer = ask;
		ask->over = cascade_over;
		ask->owner = c;
	} else if (ask->cascade) {
		ask->done = done;
		ask->ctx = ctx;
		ask->status = wasd_fail(&ask->err, WASD_ENOMEM, "no memory for a cascade");
		queue_done(ask);
		return;
	}
	queue_ask(s->queue, ask, done, ctx);
}

/* ---- what was answered ------------------------------------------------------------------------------------------- */

cJSON *serve_window(struct serving *s, const char *name, int64_t seconds)
{
	cJSON *o = NULL;
	pthread_mutex_lock(&s->lock);
	const struct deployment *d = serving_find(s, name);
	const struct bundle *b = d ? serving_bundle(s, d->bundle) : NULL;
	if (d && (o = cJSON_CreateObject())) {
		cJSON_AddItemToObject(o, "window", window_json(&d->traffic.window, seconds, wasd_mono_us()));
		cJSON_AddItemToObject(o, "shadow",
		                      *d->traffic.policy.shadow.mode ?
		                          shadow_json(&d->traffic.shadow, b ? wasd_json_get(b->loaded, "classes") : NULL) :
		                          cJSON_CreateNull());
	}
	pthread_mutex_unlock(&s->lock);
	return o;
}

bool serve_example(struct serving *s, const char *name, int64_t id, struct wasd_buf *out, const char **type)
{
	pthread_mutex_lock(&s->lock);
	const struct deployment *d = serving_find(s, name);
	const struct shadow_example *e = d ? shadow_example(&d->traffic.shadow, id) : NULL;
	if (e) {
		*type = e->type;
		wasd_buf_append(out, e->bytes, e->len);
	}
	pthread_mutex_unlock(&s->lock);
	return e && !out->failed;
}
