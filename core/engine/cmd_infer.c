/* engine/cmd_infer.c - wasd-engine infer: holds the bundles of every deployment and answers requests (protocol.h).
 *
 * link.c's thread reads the stream into a bounded inbox. The main thread, which owns the thread team, handles one
 * message at a time. The images of one request form one batch, and requests are never merged: in a matrix product
 * the last bits of a column depend on the number of columns, and an answer must not depend on concurrent requests.
 *
 * With WASD_CROPS an encoded image may become several rows of that batch; the answer has the mean of their logits. */
#include "engine/commands.h"
#include "engine/link.h"
#include "wasd/data.h"
#include "wasd/infer.h"
#include "wasd/mode.h"
#include "wasd/pixel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUNDLES_MAX 64
#define REQUEST_IMAGES_MAX 1024
#define ID_MAX 64
#define MODES_MAX 64 /* more than a checkpoint can have (the limit is in storage) */

/* One mode of a bundle. */
struct served {
	char name[WASD_MODE_LEN];
	struct wasd_bundle *bundle;
	struct wasd_predictor *predictor;
};

struct loaded {
	char id[ID_MAX];
	struct served mode[MODES_MAX];
	int n;
};

struct request;
struct request_kind {
	const char *type;
	/* Reads the payload into r->x and sets r->n and r->rows. */
	enum wasd_status (*read)(struct request *r, const char *payload, size_t len, struct wasd_err *err,
	                         const char **code);
	void (*answer)(struct engine_link *l, const struct request *r, const real *logits);
};

struct request {
	const struct request_kind *kind;
	uint32_t seq;
	const struct served *on;
	int n, k;
	int rows;          /* images that the network computes */
	uint8_t *crops;    /* how many of them are those of image i; NULL: one each */
	const cJSON *json; /* borrowed during read */
	real *x;
	int64_t queue_us, decode_us, compute_us;
};

struct server {
	struct engine_link *link;
	struct loaded bundles[BUNDLES_MAX];
	int n_bundles;
	bool team;                /* the thread team has been started */
	struct wasd_arena *arena; /* shared by all predictions, since they never overlap */
};

static const struct wasd_bundle *bundle_of(const struct request *r)
{
	return r->on->bundle;
}

/* ---- loading --------------------------------------------------------------------------------------------- */

static struct loaded *find(struct server *s, const char *id)
{
	for (int i = 0; i < s->n_bundles; i++)
		if (!strcmp(s->bundles[i].id, id))
			return &s->bundles[i];
	return NULL;
}

static void close_mode(struct served *m)
{
	wasd_predictor_destroy(m->predictor);
	wasd_bundle_unref(m->bundle);
	*m = (struct served){0};
}

static void drop(struct loaded *b)
{
	for (int i = 0; i < b->n; i++)
		close_mode(&b->mode[i]);
	*b = (struct loaded){0};
}

static struct served *find_mode(struct loaded *b, const char *name)
{
	for (int i = 0; i < b->n; i++)
		if (!strcmp(b->mode[i].name, name))
			return &b->mode[i];
	return NULL;
}

static struct wasd_predictor *loaded_predictor(void *ctx, const struct wasd_bundle *bundle)
{
	struct loaded *b = ctx;
	for (int i = 0; i < b->n; i++)
		if (b->mode[i].bundle == bundle)
			return b->mode[i].predictor;
	return NULL;
}

/* Adds a mode; a failure adds nothing. Its first image makes the plans for single images and detects weights that
 * overflow before the first request. */
static enum wasd_status open_mode(struct loaded *b, struct wasd_arena *arena, const struct wasd_mode_source *from,
                                  struct wasd_err *err)
{
	struct served m = {0};
	if (b->n == MODES_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%d modes are loaded, which is the limit", MODES_MAX);
	snprintf(m.name, sizeof m.name, "%s", from->name);
	enum wasd_status s = wasd_bundle_create(from, &m.bundle, err);
	if (!s)
		s = wasd_predictor_create(m.bundle,
		                          &(struct wasd_predictor_opts){.arena = arena, .have = loaded_predictor, .ctx = b},
		                          &m.predictor, err);
	if (!s)
		s = wasd_predictor_warm(m.predictor, err);
	if (s)
		close_mode(&m);
	else
		b->mode[b->n++] = m;
	return s;
}

static enum wasd_status open_modes(struct loaded *b, struct wasd_arena *arena, const void *bytes, size_t len,
                                   struct wasd_err *err)
{
	char name[WASD_MODE_LEN];
	enum wasd_status s;
	for (int i = 0; !(s = wasd_mode_at(bytes, len, i, name, err)); i++)
		if ((s = open_mode(b, arena, &(struct wasd_mode_source){.file = bytes, .len = len, .name = name}, err)))
			return s;
	return s == WASD_ENOTFOUND ? WASD_OK : s;
}

static cJSON *size_json(const struct served *m)
{
	return wasd_message(NULL, "macs:i bytes:i", (int64_t)wasd_bundle_macs(m->bundle),
	                    (int64_t)wasd_bundle_bytes(m->bundle));
}

static void send_loaded(struct server *s, uint32_t re, const struct loaded *b)
{
	const struct wasd_bundle *any = b->mode[0].bundle;
	struct wasd_shape in = wasd_bundle_shape(any);
	cJSON *classes = cJSON_CreateArray(), *modes = cJSON_CreateObject();
	for (int i = 0; i < wasd_bundle_classes(any); i++)
		cJSON_AddItemToArray(classes, cJSON_CreateString(wasd_bundle_class(any, i)));
	for (int m = 0; m < b->n; m++)
		cJSON_AddItemToObject(modes, b->mode[m].name, size_json(&b->mode[m]));
	cJSON *j = wasd_message("loaded", "re:i bundle:s arch:s input:j classes:j max_batch:i modes:j", (int64_t)re, b->id,
	                        wasd_bundle_arch(any), cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3), classes,
	                        (int64_t)WASD_PREDICT_MAX, modes);
	struct wasd_err err = {0};
	if (j)
		wasd_prepare_add(j, wasd_bundle_prepare(any));
	if (j && !wasd_pixels_are_half(wasd_bundle_pixels(any)))
		cJSON_AddItemToObject(j, "normalize", wasd_pixels_to_json(wasd_bundle_pixels(any), in.c));
	if (engine_send(s->link, j, &err)) /* fails if the class names do not fit into a frame */
		engine_error(s->link, re, &err, NULL);
}

static enum wasd_status start_team(struct server *s, const struct wasd_frame *m, struct wasd_err *err)
{
	int64_t threads = 0;
	if (s->team)
		return WASD_OK;
	wasd_json_i64(m->json, "threads", &threads);
	enum wasd_status st = wasd_threads_init(threads > 0 && threads <= WASD_THREADS_MAX ? (int)threads : 0, err);
	s->team = !st;
	return st;
}

static enum wasd_status load(struct server *s, const struct wasd_frame *m, const char *id, struct loaded *b,
                             struct wasd_err *err)
{
	char what[ID_MAX + 8];
	struct wasd_payload p;
	if (strlen(id) >= ID_MAX)
		engine_protocol_error("load: a bundle's name of %zu bytes", strlen(id));
	if (s->n_bundles == BUNDLES_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%d bundles are loaded, which is the limit", BUNDLES_MAX);
	enum wasd_status st = start_team(s, m, err);
	if (st || (st = wasd_frame_payload(m, &p, err)))
		return st;
	snprintf(what, sizeof what, "bundle %s", id);
	st = engine_check_digest(p.data, p.len, engine_need_string(m->json, "sha256"), what, err);
	if (!st)
		st = open_modes(b, s->arena, p.data, p.len, err);
	wasd_payload_done(&p);
	snprintf(b->id, sizeof b->id, "%s", id);
	return st;
}

static void on_load(struct server *s, struct wasd_frame *m)
{
	struct loaded b = {0};
	struct wasd_err err = {0};
	const char *id = engine_need_string(m->json, "bundle");
	struct loaded *there = find(s, id); /* the same checkpoint has the same bundle */
	if (!there && load(s, m, id, &b, &err)) {
		drop(&b);
		engine_error(s->link, m->seq, &err, NULL);
		return;
	}
	if (!there) {
		there = &s->bundles[s->n_bundles++];
		*there = b;
	}
	send_loaded(s, m->seq, there);
}

static void on_unload(struct server *s, struct wasd_frame *m)
{
	struct loaded *b = find(s, engine_need_string(m->json, "bundle"));
	if (b) {
		drop(b);
		*b = s->bundles[--s->n_bundles];
		s->bundles[s->n_bundles] = (struct loaded){0};
	}
	engine_send(s->link, wasd_message("unloaded", "re:i", (int64_t)m->seq), NULL);
}

/* ---- profiles ------------------------------------------------------------------------------------------------ */

static struct wasd_bundle *loaded_bundle(void *ctx, const char *mode)
{
	struct served *m = find_mode(ctx, mode);
	return m ? m->bundle : NULL;
}

/* The checkpoint and its mode file come in one payload. The new mode replaces an existing one of the same name. */
static enum wasd_status add_profile(struct server *s, const struct wasd_frame *m, struct loaded *b, const char *name,
                                    struct wasd_err *err)
{
	int64_t bytes = 0;
	struct wasd_payload p;
	if (!b)
		return wasd_fail(err, WASD_ENOTFOUND, "its bundle is not loaded");
	enum wasd_status st = wasd_frame_payload(m, &p, err);
	if (st)
		return st;
	wasd_json_i64(m->json, "bytes", &bytes);
	st = engine_check_digest(p.data, (size_t)bytes, engine_need_string(m->json, "sha256"), "checkpoint", err);
	if (!st)
		st = open_mode(b, s->arena,
		               &(struct wasd_mode_source){.file = p.data,
		                                          .len = (size_t)bytes,
		                                          .mode_file = (const char *)p.data + bytes,
		                                          .mode_len = p.len - (size_t)bytes,
		                                          .name = name,
		                                          .have = loaded_bundle,
		                                          .ctx = b},
		               err);
	wasd_payload_done(&p);
	struct served *there = st ? NULL : find_mode(b, name), *made = &b->mode[b->n - 1];
	if (there && there != made) {
		close_mode(there);
		*there = *made;
		b->n--;
	}
	return st;
}

static void mode_of_profile(const struct wasd_frame *m, char out[WASD_MODE_LEN])
{
	const char *mode = engine_need_string(m->json, "mode");
	if (!wasd_mode_ok(mode) || !wasd_mode_member(mode))
		engine_protocol_error("%s: \"%.80s\" is no name of a mode that was made", m->type, mode);
	snprintf(out, WASD_MODE_LEN, "%s", mode);
}

static void on_profile(struct server *s, struct wasd_frame *m)
{
	char name[WASD_MODE_LEN];
	struct wasd_err err = {0};
	mode_of_profile(m, name);
	struct loaded *b = find(s, engine_need_string(m->json, "bundle"));
	if (add_profile(s, m, b, name, &err)) {
		engine_error(s->link, m->seq, &err, NULL);
		return;
	}
	const struct wasd_bundle *made = find_mode(b, name)->bundle;
	engine_send(s->link,
	            wasd_message("profiled", "re:i bundle:s mode:s macs:i bytes:i", (int64_t)m->seq, b->id, name,
	                         (int64_t)wasd_bundle_macs(made), (int64_t)wasd_bundle_bytes(made)),
	            NULL);
}

static void on_unprofile(struct server *s, struct wasd_frame *m)
{
	char name[WASD_MODE_LEN];
	mode_of_profile(m, name);
	struct loaded *b = find(s, engine_need_string(m->json, "bundle"));
	struct served *there = b ? find_mode(b, name) : NULL;
	if (there) {
		close_mode(there);
		*there = b->mode[--b->n];
		b->mode[b->n] = (struct served){0};
	}
	engine_send(s->link, wasd_message("unprofiled", "re:i", (int64_t)m->seq), NULL);
}

/* ---- reading requests -------------------------------------------------------------------------------------- */

static enum wasd_status take_images(struct request *r, int n, int crops, struct wasd_err *err)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(bundle_of(r)));
	r->n = n;
	r->x = wasd_calloc((size_t)n * (size_t)crops * image, sizeof *r->x);
	r->crops = crops > 1 ? wasd_calloc((size_t)n, sizeof *r->crops) : NULL;
	return r->x && (crops == 1 || r->crops) ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "%d images", n);
}

/* Reads encoded images, stored back to back; "sizes" has the length of each. */
static enum wasd_status read_images(struct request *r, const char *payload, size_t len, struct wasd_err *err,
                                    const char **code)
{
	const cJSON *sizes = wasd_json_get(r->json, "sizes"), *size;
	const struct wasd_prepare *how = wasd_bundle_prepare(bundle_of(r));
	int n = cJSON_GetArraySize(sizes), i = 0;
	struct wasd_shape in = wasd_bundle_shape(bundle_of(r));
	size_t image = wasd_shape_count(in), at = 0;
	if (n > REQUEST_IMAGES_MAX)
		return wasd_fail_at(err, WASD_ETOOBIG, "/images", "%d images in one request, at most %d", n,
		                    REQUEST_IMAGES_MAX);
	enum wasd_status s = take_images(r, n, how->fit == WASD_CROPS ? WASD_CROPS_MAX : 1, err);
	cJSON_ArrayForEach(size, sizes) {
		if (s)
			return s;
		if (!cJSON_IsNumber(size) || size->valuedouble < 0 || size->valuedouble > (double)(len - at))
			engine_protocol_error("%s: sizes do not fit the payload", r->kind->type);
		uint8_t *px = NULL;
		int crops = 0;
		s = wasd_image_decode(payload + at, (size_t)size->valuedouble, in.c, in.h, in.w, how, &px, NULL, NULL, &crops,
		                      err);
		for (int k = 0; k < crops; k++)
			wasd_normalise(wasd_bundle_pixels(bundle_of(r)), in, px + (size_t)k * image,
			               r->x + (size_t)r->rows++ * image);
		if (r->crops)
			r->crops[i] = (uint8_t)crops;
		if (s && s != WASD_ENOMEM)
			*code = "bad_image";
		if (s)
			snprintf(err->pointer, sizeof err->pointer, "/images/%d", i);
		wasd_free(px);
		at += (size_t)size->valuedouble;
		i++;
	}
	return s;
}

/* Reads n images as float32, already normalised. */
static enum wasd_status read_tensor(struct request *r, const char *payload, size_t len, struct wasd_err *err,
                                    const char **code)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(bundle_of(r)));
	int64_t n = 0;
	wasd_json_i64(r->json, "n", &n);
	*code = "bad_tensor";
	if (n > REQUEST_IMAGES_MAX)
		return wasd_fail_at(err, WASD_ETOOBIG, "/inputs/0/shape", "%lld images in one request, at most %d",
		                    (long long)n, REQUEST_IMAGES_MAX);
	if (len != (size_t)n * image * 4)
		return wasd_fail_at(err, WASD_EINVAL, "/inputs/0/data",
		                    "%zu bytes of data, %lld images of this network are %zu", len, (long long)n,
		                    (size_t)n * image * 4);
	enum wasd_status s = take_images(r, (int)n, 1, err);
	r->rows = (int)n;
	for (size_t i = 0; !s && i < (size_t)n * image; i++) {
		float v;
		memcpy(&v, payload + 4 * i, 4);
		if (!isfinite(v))
			return wasd_fail_at(err, WASD_EINVAL, "/inputs/0/data", "element %zu of the input is %g", i, (double)v);
		r->x[i] = (real)v;
	}
	return s;
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static cJSON *timing_json(const struct request *r)
{
	return wasd_message(NULL, "decode:i queue:i compute:i", r->decode_us, r->queue_us, r->compute_us);
}

/* Adds "crops" to an answer: how many images were computed for each, unless it is one each. */
static cJSON *with_crops(cJSON *j, const struct request *r)
{
	if (r->rows == r->n || !j)
		return j;
	cJSON *list = cJSON_AddArrayToObject(j, "crops");
	bool ok = list;
	for (int i = 0; ok && i < r->n; i++) {
		cJSON *count = cJSON_CreateNumber(r->crops[i]);
		ok = count && cJSON_AddItemToArray(list, count);
		if (!ok)
			cJSON_Delete(count);
	}
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static void send_or_error(struct engine_link *l, uint32_t re, cJSON *j, const void *bin, size_t len, int fd)
{
	struct wasd_err err = {0};
	if (engine_send_full(l, j, bin, len, fd, NULL, &err))
		engine_error(l, re, &err, NULL);
}

/* The k most likely classes, by softmax over the logits. */
static cJSON *top_json(const struct wasd_bundle *b, const real *logit, int k)
{
	int classes = wasd_bundle_classes(b);
	cJSON *list = cJSON_CreateArray();
	double top = -INFINITY, sum = 0;
	for (int c = 0; c < classes; c++)
		top = logit[c] > top ? (double)logit[c] : top;
	for (int c = 0; c < classes; c++)
		sum += exp((double)logit[c] - top);
	int last = -1;
	for (int i = 0; i < k && i < classes; i++) {
		/* Find the class that follows `last` in order of falling logit, then rising index. */
		int best = -1;
		for (int c = 0; c < classes; c++) {
			bool after = last < 0 || logit[c] < logit[last] || (logit[c] == logit[last] && c > last);
			if (after && (best < 0 || logit[c] > logit[best]))
				best = c;
		}
		if (best < 0)
			break;
		cJSON *one = cJSON_CreateObject();
		cJSON_AddNumberToObject(one, "index", best);
		cJSON_AddStringToObject(one, "label", wasd_bundle_class(b, best));
		cJSON_AddNumberToObject(one, "p", exp((double)logit[best] - top) / sum);
		cJSON_AddItemToArray(list, one);
		last = best;
	}
	return list;
}

static void answer_classes(struct engine_link *l, const struct request *r, const real *logits)
{
	const struct wasd_bundle *b = bundle_of(r);
	cJSON *results = cJSON_CreateArray();
	for (int i = 0; i < r->n; i++) {
		cJSON *one = cJSON_CreateObject();
		cJSON_AddItemToObject(one, "top", top_json(b, logits + (size_t)i * (size_t)wasd_bundle_classes(b), r->k));
		cJSON_AddItemToArray(results, one);
	}
	cJSON *j = wasd_message("classified", "re:i results:j macs:i timing_us:j", (int64_t)r->seq, results,
	                        (int64_t)wasd_predictor_macs(r->on->predictor), timing_json(r));
	send_or_error(l, r->seq, with_crops(j, r), NULL, 0, -1);
}

static void answer_logits(struct engine_link *l, const struct request *r, const real *logits)
{
	size_t classes = (size_t)wasd_bundle_classes(bundle_of(r)), count = (size_t)r->n * classes, len = count * 4;
	struct wasd_err err = {.status = WASD_ENOMEM, .msg = "logits"};
	int fd = -1;
	float *out = wasd_calloc(count, 4);
	for (size_t i = 0; out && i < count; i++)
		out[i] = (float)logits[i];
	if (!out || (len > WASD_WIRE_MAX && wasd_memfd_sealed("wasd-logits", out, len, &fd, &err))) {
		wasd_free(out);
		engine_error(l, r->seq, &err, NULL);
		return;
	}
	cJSON *j = wasd_message("inferred", "re:i n:i classes:i bytes:i macs:i timing_us:j", (int64_t)r->seq, (int64_t)r->n,
	                        (int64_t)classes, (int64_t)len, (int64_t)wasd_predictor_macs(r->on->predictor),
	                        timing_json(r));
	j = with_crops(j, r);
	if (fd < 0) {
		send_or_error(l, r->seq, j, out, len, -1);
	} else {
		send_or_error(l, r->seq, j, NULL, 0, fd);
		close(fd);
	}
	wasd_free(out);
}

static const struct request_kind kinds[] = {
	{"classify", read_images, answer_classes},
	{"logits", read_images, answer_logits},
	{"infer", read_tensor, answer_logits},
};

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static enum wasd_status find_bundle(struct server *s, const struct wasd_frame *m, struct request *r,
                                    struct wasd_err *err, const char **code)
{
	const char *id = engine_need_string(m->json, "bundle"), *mode = engine_need_string(m->json, "mode");
	struct loaded *b = find(s, id);
	r->on = b ? find_mode(b, mode) : NULL;
	if (r->on)
		return WASD_OK;
	*code = "bundle_not_ready";
	return b ? wasd_fail(err, WASD_ENOTFOUND, "bundle %s has no %s mode", id, mode) :
	           wasd_fail(err, WASD_ENOTFOUND, "bundle %s is not loaded", id);
}

/* (rows,classes) -> (n,classes), in place: the mean over the crops of each image, added in their order. */
static void mean_of_crops(const struct request *r, real *logits)
{
	int classes = wasd_bundle_classes(bundle_of(r));
	const real *from = logits;
	for (int i = 0; r->crops && i < r->n; i++) {
		for (int c = 0; c < classes; c++) {
			double sum = 0;
			for (int k = 0; k < r->crops[i]; k++)
				sum += from[k * classes + c];
			logits[c] = (real)(sum / r->crops[i]);
		}
		from += r->crops[i] * classes;
		logits += classes;
	}
}

static void on_request(struct server *s, const struct wasd_frame *m, const struct request_kind *kind, int64_t arrived)
{
	int64_t begin = wasd_mono_us(), k = 1;
	struct request r = {.kind = kind, .seq = m->seq, .json = m->json, .queue_us = begin - arrived};
	struct wasd_err err = {0};
	struct wasd_payload p = {0};
	real *logits = NULL;
	const char *code = NULL;
	wasd_json_i64(m->json, "k", &k);
	r.k = k < 1 ? 1 : k > 65536 ? 65536 : (int)k;
	enum wasd_status st = find_bundle(s, m, &r, &err, &code);
	if (!st)
		st = wasd_frame_payload(m, &p, &err);
	if (!st)
		st = kind->read(&r, p.data, p.len, &err, &code);
	wasd_payload_done(&p);
	r.decode_us = wasd_mono_us() - begin;
	if (!st && !(logits = wasd_calloc((size_t)r.rows * (size_t)wasd_bundle_classes(bundle_of(&r)), sizeof *logits)))
		st = wasd_fail(&err, WASD_ENOMEM, "logits");
	begin = wasd_mono_us();
	if (!st)
		st = wasd_predictor_run(r.on->predictor, r.x, r.rows, logits, &err);
	if (!st)
		mean_of_crops(&r, logits);
	r.compute_us = wasd_mono_us() - begin;
	if (st)
		engine_error(s->link, m->seq, &err, code);
	else
		kind->answer(s->link, &r, logits);
	wasd_free(r.x);
	wasd_free(r.crops);
	wasd_free(logits);
}

static void handle(struct server *s, struct wasd_frame *m, int64_t arrived)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(m->type, kinds[i].type)) {
			on_request(s, m, &kinds[i], arrived);
			return;
		}
	if (!strcmp(m->type, "load"))
		on_load(s, m);
	else if (!strcmp(m->type, "unload"))
		on_unload(s, m);
	else if (!strcmp(m->type, "profile"))
		on_profile(s, m);
	else if (!strcmp(m->type, "unprofile"))
		on_unprofile(s, m);
	else
		engine_protocol_error("unknown message '%s'", m->type);
}

int cmd_infer(int argc, char **argv)
{
	if (argc > 1) {
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n",
		        argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	struct wasd_err err = {0};
	struct server *s = wasd_calloc(1, sizeof *s);
	if (!s || wasd_arena_create(&s->arena, &err) || engine_link_open(WASD_ROLE_INFER, &s->link, &err)) {
		fprintf(stderr, "wasd-engine infer: %s\n", s ? err.msg : "out of memory");
		return 1;
	}
	/* The loop does not return: when the stream ends, link.c ends the process. */
	for (;;) {
		struct wasd_frame m;
		int64_t arrived;
		engine_link_next(s->link, &m, &arrived);
		handle(s, &m, arrived);
		wasd_frame_done(&m);
	}
}
