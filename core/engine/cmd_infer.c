/* engine/cmd_infer.c - wasd-engine infer: the bundles of every deployment, and answers to requests (protocol.h).
 *
 * link.c's thread reads the stream into a bounded inbox; the main thread, owner of the thread team, takes one message after the
 * other. Each request is computed by itself, its images as one batch: in a matrix product the last bits of a column depend on
 * how many columns there are, and a request's answer must not depend on who else happens to ask at that moment. */
#include "engine/commands.h"
#include "engine/link.h"
#include "wasd/data.h"
#include "wasd/infer.h"
#include "wasd/profile.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUNDLES_MAX 64
#define REQUEST_IMAGES_MAX 1024
#define ID_MAX 64
#define NAME_SIZE 80
#define PROFILES_MAX 32                                 /* as many as a checkpoint may have (storage) */

/* One mode of a bundle: "aom", "dom", or "dom:" and a profile's name. */
struct mode {
	char name[NAME_SIZE];
	struct wasd_bundle *bundle;
	struct wasd_predictor *predictor;
};

struct loaded {
	char id[ID_MAX];
	struct mode mode[WASD_MODES + PROFILES_MAX];
	int n;
};

struct request;
struct request_kind {
	const char *type;
	/* Fills r->x and r->n from the payload. */
	enum wasd_status (*read)(struct request *r, const char *payload, size_t len, struct wasd_err *err, const char **code);
	void (*answer)(struct engine_link *l, const struct request *r, const real *logits);
};

struct request {
	const struct request_kind *kind;
	uint32_t seq;
	const struct mode *on;
	int n, k;
	const cJSON *json;                              /* borrowed while reading */
	real *x;
	int64_t queue_us, decode_us, compute_us;
};

struct server {
	struct engine_link *link;
	struct loaded bundles[BUNDLES_MAX];
	int n_bundles;
	bool team;                                      /* the thread team has been started */
	struct wasd_arena *arena;                       /* where every prediction computes: they come one after the other */
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

static void close_mode(struct mode *m)
{
	wasd_predictor_destroy(m->predictor);
	wasd_bundle_unref(m->bundle);
	*m = (struct mode){0};
}

static void drop(struct loaded *b)
{
	for (int i = 0; i < b->n; i++)
		close_mode(&b->mode[i]);
	*b = (struct loaded){0};
}

static struct mode *find_mode(struct loaded *b, const char *name)
{
	for (int i = 0; i < b->n; i++)
		if (!strcmp(b->mode[i].name, name))
			return &b->mode[i];
	return NULL;
}

/* One image of zeros: makes the plan for single images and finds weights that overflow before anyone asks. */
static enum wasd_status warm(const struct mode *m, struct wasd_err *err)
{
	int classes = wasd_bundle_classes(m->bundle);
	real *x = wasd_calloc(wasd_shape_count(wasd_bundle_shape(m->bundle)), sizeof *x);
	real *y = wasd_calloc((size_t)classes, sizeof *y);
	enum wasd_status s = x && y ? wasd_predictor_run(m->predictor, x, 1, y, err) : wasd_fail(err, WASD_ENOMEM, "first prediction");
	for (int i = 0; !s && i < classes; i++)
		if (!isfinite(y[i]))
			s = wasd_fail(err, WASD_ENUMERIC, "%s weights give %g for class %d of a grey image", m->name, (double)y[i], i);
	wasd_free(x);
	wasd_free(y);
	return s;
}

/* Adds a mode of the checkpoint; nothing is added when it fails. */
static enum wasd_status open_mode(struct loaded *b, struct wasd_arena *arena, const void *bytes, size_t len, enum wasd_mode mode, const char *name, struct wasd_err *err)
{
	struct mode m = {0};
	snprintf(m.name, sizeof m.name, "%s", name);
	enum wasd_status s = wasd_bundle_create(bytes, len, mode, &m.bundle, err);
	if (!s)
		s = wasd_predictor_create(m.bundle, &(struct wasd_predictor_opts){.arena = arena}, &m.predictor, err);
	if (!s)
		s = warm(&m, err);
	if (s)
		close_mode(&m);
	else
		b->mode[b->n++] = m;
	return s;
}

static enum wasd_status open_modes(struct loaded *b, struct wasd_arena *arena, const void *bytes, size_t len, struct wasd_err *err)
{
	for (int m = 0; m < WASD_MODES; m++) {
		struct wasd_err e = {0};
		enum wasd_status s = open_mode(b, arena, bytes, len, m, wasd_mode_name(m), &e);
		if (s == WASD_ENOTFOUND && m == WASD_DOM)
			continue;
		if (s) {
			*err = e;
			return s;
		}
	}
	return WASD_OK;
}

/* The payload that came with a message: its own bytes, or a memory file that is mapped here. */
struct payload { const char *data; size_t len; const void *map; };

static enum wasd_status open_payload(const struct wasd_msg *m, struct payload *p, struct wasd_err *err)
{
	int64_t bytes;
	*p = (struct payload){m->bin, m->bin_len, NULL};
	if (m->fd < 0)
		return WASD_OK;
	if (!wasd_json_i64(m->json, "bytes", &bytes) || bytes < 1)
		engine_protocol_error("%s: a memory file without bytes", m->type);
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes, &p->map, err);
	if (s)
		return s;
	p->data = p->map;
	p->len = (size_t)bytes;
	return WASD_OK;
}

static void close_payload(struct payload *p)
{
	if (p->map)
		wasd_memfd_unmap(p->map, p->len);
}

static void add_size(cJSON *j, const struct mode *m)
{
	cJSON_AddNumberToObject(j, "macs", (double)wasd_bundle_macs(m->bundle));
	cJSON_AddNumberToObject(j, "bytes", (double)wasd_bundle_bytes(m->bundle));
}

static void send_loaded(struct server *s, uint32_t re, const struct loaded *b)
{
	const struct wasd_bundle *any = b->mode[0].bundle;
	struct wasd_shape in = wasd_bundle_shape(any);
	cJSON *j = cJSON_CreateObject(), *classes = cJSON_CreateArray(), *modes = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "loaded");
	cJSON_AddNumberToObject(j, "re", re);
	cJSON_AddStringToObject(j, "bundle", b->id);
	cJSON_AddStringToObject(j, "arch", wasd_bundle_arch(any));
	cJSON_AddItemToObject(j, "input", cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3));
	for (int i = 0; i < wasd_bundle_classes(any); i++)
		cJSON_AddItemToArray(classes, cJSON_CreateString(wasd_bundle_class(any, i)));
	cJSON_AddItemToObject(j, "classes", classes);
	wasd_prepare_add(j, wasd_bundle_prepare(any));
	cJSON_AddNumberToObject(j, "max_batch", WASD_PREDICT_MAX);
	for (int m = 0; m < b->n; m++)
		add_size(cJSON_AddObjectToObject(modes, b->mode[m].name), &b->mode[m]);
	cJSON_AddItemToObject(j, "modes", modes);
	struct wasd_err err = {0};
	if (engine_send(s->link, j, &err))      /* too many class names for a frame */
		engine_error(s->link, re, &err, NULL);
}

static enum wasd_status start_team(struct server *s, const struct wasd_msg *m, struct wasd_err *err)
{
	int64_t threads = 0;
	if (s->team)
		return WASD_OK;
	wasd_json_i64(m->json, "threads", &threads);
	enum wasd_status st = wasd_threads_init(threads > 0 && threads <= WASD_THREADS_MAX ? (int)threads : 0, err);
	s->team = !st;
	return st;
}

static enum wasd_status load(struct server *s, const struct wasd_msg *m, const char *id, struct loaded *b, struct wasd_err *err)
{
	const char *sha;
	char what[ID_MAX + 8];
	struct payload p;
	if (!wasd_json_str(m->json, "sha256", &sha) || strlen(id) >= ID_MAX)
		engine_protocol_error("load: needs bundle, bytes, sha256 and the file");
	if (s->n_bundles == BUNDLES_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%d bundles are loaded, which is the limit", BUNDLES_MAX);
	enum wasd_status st = start_team(s, m, err);
	if (st || (st = open_payload(m, &p, err)))
		return st;
	snprintf(what, sizeof what, "bundle %s", id);
	st = engine_check_digest(p.data, p.len, sha, what, err);
	if (!st)
		st = open_modes(b, s->arena, p.data, p.len, err);
	close_payload(&p);
	snprintf(b->id, sizeof b->id, "%s", id);
	return st;
}

static void on_load(struct server *s, struct wasd_msg *m)
{
	struct loaded b = {0};
	struct wasd_err err = {0};
	const char *id;
	if (!wasd_json_str(m->json, "bundle", &id))
		engine_protocol_error("load: needs bundle");
	struct loaded *there = find(s, id);           /* the same checkpoint again is the same bundle */
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

static void on_unload(struct server *s, struct wasd_msg *m)
{
	const char *id;
	if (!wasd_json_str(m->json, "bundle", &id))
		engine_protocol_error("unload: needs bundle");
	struct loaded *b = find(s, id);
	if (b) {
		drop(b);
		*b = s->bundles[--s->n_bundles];
		s->bundles[s->n_bundles] = (struct loaded){0};
	}
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "unloaded");
	cJSON_AddNumberToObject(j, "re", m->seq);
	engine_send(s->link, j, NULL);
}

/* ---- profiles ------------------------------------------------------------------------------------------------ */

/* The checkpoint and its overlay came in one file. A profile that is there already is taken anew. */
static enum wasd_status add_profile(struct server *s, const struct wasd_msg *m, struct loaded *b, const char *name, struct wasd_err *err)
{
	int64_t bytes, over;
	const void *all = NULL;
	void *laid = NULL;
	size_t len;
	if (m->fd < 0 || !wasd_json_i64(m->json, "bytes", &bytes) || bytes < 1 || !wasd_json_i64(m->json, "profile_bytes", &over) || over < 1 || over > INT64_MAX - bytes)
		engine_protocol_error("profile: needs bytes, profile_bytes and the file");
	if (!b)
		return wasd_fail(err, WASD_ENOTFOUND, "its bundle is not loaded");
	struct mode *there = find_mode(b, name);
	if (!there && b->n == WASD_MODES + PROFILES_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%d profiles are loaded, which is the limit", PROFILES_MAX);
	enum wasd_status st = wasd_memfd_map(m->fd, (size_t)(bytes + over), &all, err);
	if (st)
		return st;
	st = engine_check_digest(all, (size_t)bytes, engine_need_string(m->json, "sha256"), "checkpoint", err);
	if (!st)
		st = wasd_profile_lay(all, (size_t)bytes, (const char *)all + bytes, (size_t)over, &laid, &len, err);
	wasd_memfd_unmap(all, (size_t)(bytes + over));
	if (!st && there) {
		close_mode(there);
		*there = b->mode[--b->n];
	}
	if (!st)
		st = open_mode(b, s->arena, laid, len, WASD_DOM, name, err);
	wasd_free(laid);
	return st;
}

/* "dom:" and the profile's name, as requests have it. */
static void mode_of_profile(const struct wasd_msg *m, char out[NAME_SIZE])
{
	const char *name = engine_need_string(m->json, "name");
	if (!*name || strlen(name) > NAME_SIZE - 8)
		engine_protocol_error("%s: a name of %zu bytes", m->type, strlen(name));
	snprintf(out, NAME_SIZE, "dom:%s", name);
}

static void on_profile(struct server *s, struct wasd_msg *m)
{
	char name[NAME_SIZE];
	struct wasd_err err = {0};
	mode_of_profile(m, name);
	struct loaded *b = find(s, engine_need_string(m->json, "bundle"));
	if (add_profile(s, m, b, name, &err)) {
		engine_error(s->link, m->seq, &err, NULL);
		return;
	}
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "profiled");
	cJSON_AddNumberToObject(j, "re", m->seq);
	cJSON_AddStringToObject(j, "bundle", b->id);
	cJSON_AddStringToObject(j, "name", name + 4);
	add_size(j, &b->mode[b->n - 1]);
	engine_send(s->link, j, NULL);
}

static void on_unprofile(struct server *s, struct wasd_msg *m)
{
	char name[NAME_SIZE];
	mode_of_profile(m, name);
	struct loaded *b = find(s, engine_need_string(m->json, "bundle"));
	struct mode *there = b ? find_mode(b, name) : NULL;
	if (there) {
		close_mode(there);
		*there = b->mode[--b->n];
		b->mode[b->n] = (struct mode){0};
	}
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "unprofiled");
	cJSON_AddNumberToObject(j, "re", m->seq);
	engine_send(s->link, j, NULL);
}

/* ---- reading requests -------------------------------------------------------------------------------------- */

static enum wasd_status take_images(struct request *r, int n, struct wasd_err *err)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(bundle_of(r)));
	r->n = n;
	r->x = wasd_calloc((size_t)n * image, sizeof *r->x);
	return r->x ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "%d images", n);
}

/* Encoded images, one after the other; "sizes" says where each ends. */
static enum wasd_status read_images(struct request *r, const char *payload, size_t len, struct wasd_err *err, const char **code)
{
	const cJSON *sizes = wasd_json_get(r->json, "sizes"), *size;
	int n = cJSON_GetArraySize(sizes), i = 0;
	struct wasd_shape in = wasd_bundle_shape(bundle_of(r));
	size_t image = wasd_shape_count(in), at = 0;
	if (!cJSON_IsArray(sizes) || n < 1)
		engine_protocol_error("%s: needs sizes", r->kind->type);
	if (n > REQUEST_IMAGES_MAX)
		return wasd_fail_at(err, WASD_ETOOBIG, "/images", "%d images in one request, at most %d", n, REQUEST_IMAGES_MAX);
	enum wasd_status s = take_images(r, n, err);
	cJSON_ArrayForEach(size, sizes) {
		if (s)
			return s;
		if (!cJSON_IsNumber(size) || size->valuedouble < 0 || size->valuedouble > (double)(len - at))
			engine_protocol_error("%s: sizes do not fit the payload", r->kind->type);
		uint8_t *px = NULL;
		int h, w;
		s = wasd_image_decode(payload + at, (size_t)size->valuedouble, in.c, in.h, in.w, wasd_bundle_prepare(bundle_of(r)), &px, &h, &w, err);
		if (!s)
			wasd_normalise(px, image, r->x + (size_t)i * image);
		else if (s != WASD_ENOMEM)
			*code = "bad_image";
		if (s)
			snprintf(err->pointer, sizeof err->pointer, "/images/%d", i);
		wasd_free(px);
		at += (size_t)size->valuedouble;
		i++;
	}
	return s;
}

/* n images as float32, already normalised. */
static enum wasd_status read_tensor(struct request *r, const char *payload, size_t len, struct wasd_err *err, const char **code)
{
	size_t image = wasd_shape_count(wasd_bundle_shape(bundle_of(r)));
	int64_t n;
	if (!wasd_json_i64(r->json, "n", &n) || n < 1)
		engine_protocol_error("infer: needs n");
	*code = "bad_tensor";
	if (n > REQUEST_IMAGES_MAX)
		return wasd_fail_at(err, WASD_ETOOBIG, "/inputs/0/shape", "%lld images in one request, at most %d", (long long)n, REQUEST_IMAGES_MAX);
	if (len != (size_t)n * image * 4)
		return wasd_fail_at(err, WASD_EINVAL, "/inputs/0/data", "%zu bytes of data, %lld images of this network are %zu", len, (long long)n,
		                    (size_t)n * image * 4);
	enum wasd_status s = take_images(r, (int)n, err);
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

static void add_costs(cJSON *j, const struct request *r)
{
	cJSON *t = cJSON_CreateObject();
	cJSON_AddNumberToObject(j, "macs", (double)wasd_bundle_macs(bundle_of(r)));
	cJSON_AddNumberToObject(t, "decode", (double)r->decode_us);
	cJSON_AddNumberToObject(t, "queue", (double)r->queue_us);
	cJSON_AddNumberToObject(t, "compute", (double)r->compute_us);
	cJSON_AddItemToObject(j, "timing_us", t);
}

static void send_or_error(struct engine_link *l, uint32_t re, cJSON *j, const void *bin, size_t len, int fd)
{
	struct wasd_err err = {0};
	if (engine_send_full(l, j, bin, len, fd, NULL, &err))
		engine_error(l, re, &err, NULL);
}

/* The k likeliest classes, by softmax over the logits. */
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
		/* The next in the order (logit falling, index rising) after `last`. */
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
	cJSON *j = cJSON_CreateObject(), *results = cJSON_CreateArray();
	cJSON_AddStringToObject(j, "type", "classified");
	cJSON_AddNumberToObject(j, "re", r->seq);
	for (int i = 0; i < r->n; i++) {
		cJSON *one = cJSON_CreateObject();
		cJSON_AddItemToObject(one, "top", top_json(b, logits + (size_t)i * (size_t)wasd_bundle_classes(b), r->k));
		cJSON_AddItemToArray(results, one);
	}
	cJSON_AddItemToObject(j, "results", results);
	add_costs(j, r);
	send_or_error(l, r->seq, j, NULL, 0, -1);
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
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "type", "inferred");
	cJSON_AddNumberToObject(j, "re", r->seq);
	cJSON_AddNumberToObject(j, "n", r->n);
	cJSON_AddNumberToObject(j, "classes", (double)classes);
	cJSON_AddNumberToObject(j, "bytes", (double)len);
	add_costs(j, r);
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

static enum wasd_status find_bundle(struct server *s, const struct wasd_msg *m, struct request *r, struct wasd_err *err, const char **code)
{
	const char *id, *mode;
	enum wasd_mode plain;
	if (!wasd_json_str(m->json, "bundle", &id) || !wasd_json_str(m->json, "mode", &mode) || (strncmp(mode, "dom:", 4) && !wasd_mode_from_name(mode, &plain)))
		engine_protocol_error("%s: needs bundle and mode", m->type);
	struct loaded *b = find(s, id);
	r->on = b ? find_mode(b, mode) : NULL;
	if (r->on)
		return WASD_OK;
	*code = "bundle_not_ready";
	return b ? wasd_fail(err, WASD_ENOTFOUND, "bundle %s has no %s mode", id, mode) : wasd_fail(err, WASD_ENOTFOUND, "bundle %s is not loaded", id);
}

static void on_request(struct server *s, const struct wasd_msg *m, const struct request_kind *kind, int64_t arrived)
{
	int64_t begin = wasd_mono_us(), k = 1;
	struct request r = {.kind = kind, .seq = m->seq, .json = m->json, .queue_us = begin - arrived};
	struct wasd_err err = {0};
	struct payload p = {0};
	real *logits = NULL;
	const char *code = NULL;
	wasd_json_i64(m->json, "k", &k);
	r.k = k < 1 ? 1 : k > 65536 ? 65536 : (int)k;
	enum wasd_status st = find_bundle(s, m, &r, &err, &code);
	if (!st)
		st = open_payload(m, &p, &err);
	if (!st)
		st = kind->read(&r, p.data, p.len, &err, &code);
	close_payload(&p);
	r.decode_us = wasd_mono_us() - begin;
	if (!st && !(logits = wasd_calloc((size_t)r.n * (size_t)wasd_bundle_classes(bundle_of(&r)), sizeof *logits)))
		st = wasd_fail(&err, WASD_ENOMEM, "logits");
	begin = wasd_mono_us();
	if (!st)
		st = wasd_predictor_run(r.on->predictor, r.x, r.n, logits, &err);
	r.compute_us = wasd_mono_us() - begin;
	if (st)
		engine_error(s->link, m->seq, &err, code);
	else
		kind->answer(s->link, &r, logits);
	wasd_free(r.x);
	wasd_free(logits);
}

static void handle(struct server *s, struct wasd_msg *m, int64_t arrived)
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
		fprintf(stderr, "usage: wasd-engine %s    (started by the daemon, which talks to it over descriptor 3)\n", argv[0]);
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	struct wasd_err err = {0};
	struct server *s = wasd_calloc(1, sizeof *s);
	if (!s || wasd_arena_create(&s->arena, &err) || engine_link_open("infer", &s->link, &err)) {
		fprintf(stderr, "wasd-engine infer: %s\n", s ? err.msg : "out of memory");
		return 1;
	}
	/* Ends when the stream does: link.c then ends the process. */
	for (;;) {
		struct wasd_msg m;
		int64_t arrived;
		engine_link_next(s->link, &m, &arrived);
		handle(s, &m, arrived);
		wasd_msg_done(&m);
	}
}
