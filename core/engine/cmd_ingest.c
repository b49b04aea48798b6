/* engine/cmd_ingest.c - wasd-engine ingest: makes dataset files from uploads and synthetic kinds, and previews of
 * them, directed by the daemon over descriptor 3 (protocol.h). Its input may be hostile, so it runs under resource
 * limits: a decoder that fails takes down only this process. */
#include "data/image.h"
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/data.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 64, PROGRESS_US = 200000, CPU_RENEW_US = 1000000, CPU_SECONDS = 60, PREVIEW_SIDE = 512 };
#define ADDRESS_SPACE ((rlim_t)2 << 30)
#define FILE_SLACK ((rlim_t)256 << 20) /* for labels and class names, in addition to the pixels */

struct job {
	struct engine_link *link;
	int64_t told, renewed; /* wasd_mono_us of the last progress frame and of the last CPU limit */
};

/* ---- limits -------------------------------------------------------------------------------------- */

static void limit(int what, rlim_t soft)
{
	struct rlimit r;
	if (!getrlimit(what, &r)) {
		r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
		setrlimit(what, &r);
	}
}

/* Sets the CPU time allowed until the next progress: SIGXCPU ends the process on an endless file, but not on a
 * large upload. */
static void renew_cpu(void)
{
	struct rusage u;
	if (!getrusage(RUSAGE_SELF, &u))
		limit(RLIMIT_CPU, (rlim_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec + CPU_SECONDS));
}

static void limits_on(size_t max_bytes)
{
#ifndef WASD_SANITIZED /* the sanitizer's shadow memory alone exceeds any limit */
	limit(RLIMIT_AS, ADDRESS_SPACE);
#endif
	signal(SIGXFSZ, SIG_IGN); /* write then fails with EFBIG */
	limit(RLIMIT_FSIZE, (max_bytes ? max_bytes : WASD_INGEST_MAX_BYTES) + FILE_SLACK);
	renew_cpu();
}

/* Lifts the limits, so that the finished file can be mapped whole. */
static void limits_off(void)
{
	limit(RLIMIT_AS, RLIM_INFINITY);
	limit(RLIMIT_FSIZE, RLIM_INFINITY);
	limit(RLIMIT_CPU, RLIM_INFINITY);
}

/* ---- reports ------------------------------------------------------------------------------------- */

static void on_progress(void *ctx, uint64_t images, uint64_t bytes)
{
	struct job *j = ctx;
	int64_t now = wasd_mono_us();
	if (now - j->renewed >= CPU_RENEW_US) {
		renew_cpu();
		j->renewed = now;
	}
	if (now - j->told < PROGRESS_US)
		return;
	j->told = now;
	engine_send(j->link, wasd_message("progress", "images:i bytes:i", (int64_t)images, (int64_t)bytes), NULL);
}

static bool on_cancelled(void *ctx)
{
	const struct job *j = ctx;
	return engine_link_cancelled(j->link);
}

static cJSON *remarks_json(const struct wasd_ingest_report *r)
{
	cJSON *list = cJSON_CreateArray();
	for (int i = 0; i < r->remarks; i++) {
		const struct wasd_remark *m = &r->remark[i];
		cJSON *j = cJSON_CreateObject(), *examples;
		cJSON_AddStringToObject(j, "code", m->code);
		cJSON_AddNumberToObject(j, "count", (double)m->count);
		cJSON_AddStringToObject(j, "message", m->message);
		examples = cJSON_AddArrayToObject(j, "examples");
		for (int k = 0; k < m->examples; k++)
			cJSON_AddItemToArray(examples, cJSON_CreateString(m->example[k]));
		cJSON_AddItemToArray(list, j);
	}
	return list;
}

static cJSON *culprits_json(const struct wasd_ingest_report *r)
{
	cJSON *list = cJSON_CreateArray();
	for (uint64_t i = 0; i < r->culprits && i < WASD_CULPRITS_MAX; i++) {
		cJSON *j = cJSON_CreateObject();
		cJSON_AddStringToObject(j, "file", r->culprit[i].file);
		cJSON_AddStringToObject(j, "detail", r->culprit[i].detail);
		cJSON_AddItemToArray(list, j);
	}
	return list;
}

/* told: names the faulty files; may be NULL. */
static void send_failed(struct engine_link *link, uint32_t re, enum wasd_status s, const struct wasd_err *e,
                        const struct wasd_ingest_report *told)
{
	cJSON *m = wasd_message("failed", "re:i status:s pointer:s message:s", (int64_t)re, wasd_status_name(s), e->pointer,
	                        e->msg);
	if (told && told->culprits) {
		cJSON_AddItemToObject(m, "errors", culprits_json(told));
		cJSON_AddNumberToObject(m, "count", (double)told->culprits);
	}
	engine_send(link, m, NULL);
}

static cJSON *done_message(uint32_t re, const struct wasd_dataset *d, const char *format, uint64_t bytes,
                           const struct wasd_ingest_report *told)
{
	struct wasd_shape s = wasd_dataset_shape(d);
	double mean[3], std[3];
	wasd_dataset_moments(d, mean, std);
	cJSON *classes = cJSON_CreateArray();
	for (int i = 0; i < wasd_dataset_classes(d); i++)
		cJSON_AddItemToArray(classes, cJSON_CreateString(wasd_dataset_class(d, i)));
	cJSON *m = wasd_message("done", "re:i format:s shape:j classes:j train:i test:i digest:s bytes:i mean:j std:j",
	                        (int64_t)re, format, cJSON_CreateIntArray((int[]){s.c, s.h, s.w}, 3), classes,
	                        (int64_t)(wasd_dataset_count(d, WASD_TRAIN) - wasd_dataset_val(d)),
	                        (int64_t)wasd_dataset_count(d, WASD_TEST), wasd_dataset_digest(d), (int64_t)bytes,
	                        cJSON_CreateDoubleArray(mean, s.c), cJSON_CreateDoubleArray(std, s.c));
	if (!m)
		return NULL;
	if (wasd_dataset_val(d))
		cJSON_AddNumberToObject(m, "val", (double)wasd_dataset_val(d));
	wasd_prepare_add(m, wasd_dataset_prepare(d));
	if (told)
		cJSON_AddItemToObject(m, "remarks", remarks_json(told));
	if (told && told->culprits)
		cJSON_AddItemToObject(m, "skipped", culprits_json(told));
	return m;
}

/* Reports the result of making a dataset: done, or failed with the file removed. */
static void report(struct engine_link *link, uint32_t re, enum wasd_status s, const char *out, const char *format,
                   const struct wasd_ingest_report *told, struct wasd_err *err)
{
	struct wasd_dataset *d = NULL;
	struct stat st = {0};
	limits_off();
	if (!s && !(s = wasd_dataset_open(out, &d, err))) {
		stat(out, &st);
		s = engine_send(link, done_message(re, d, format, (uint64_t)st.st_size, told),
		                err); /* fails if the class names do not fit into a frame */
	}
	wasd_dataset_close(d);
	if (!s)
		return;
	if (d)
		unlink(out);
	send_failed(link, re, s, err, told);
}

/* ---- messages ------------------------------------------------------------------------------------ */

/* Reads an optional member; 0 if absent. */
static uint64_t count_of(const cJSON *m, const char *key)
{
	int64_t v = 0;
	if (wasd_json_get(m, key) && (!wasd_json_i64(m, key, &v) || v < 0))
		engine_protocol_error("\"%s\" is not a count", key);
	return (uint64_t)v;
}

static int read_files(const cJSON *m, struct wasd_ingest_file files[MAX_FILES])
{
	const cJSON *list = wasd_json_get(m, "files"), *f;
	int n = 0;
	if (!cJSON_IsArray(list) || !cJSON_GetArraySize(list) || cJSON_GetArraySize(list) > MAX_FILES)
		engine_protocol_error("\"files\" is not a list of 1 to %d files", MAX_FILES);
	cJSON_ArrayForEach(f, list)
		files[n++] = (struct wasd_ingest_file){engine_need_string(f, "path"), engine_need_string(f, "name")};
	return n;
}

/* Members missing from "options" keep their defaults. */
static void read_options(const cJSON *j, struct wasd_ingest_opts *o)
{
	const char *on_bad = "";
	uint64_t size = count_of(j, "size");
	o->size = size > INT32_MAX ? INT32_MAX : (int)size;
	o->split_seed = count_of(j, "split_seed");
	wasd_json_str(j, "on_bad", &on_bad);
	o->skip_bad = !strcmp(on_bad, "skip");
	wasd_json_str(j, "names", &o->names);
	if (wasd_json_get(j, "test_fraction") &&
	    (!wasd_json_num(j, "test_fraction", &o->test_fraction) || !(o->test_fraction > 0 && o->test_fraction < 1)))
		engine_protocol_error("\"test_fraction\" is not between 0 and 1");
}

static void ingest(struct engine_link *link, const struct wasd_frame *m)
{
	struct wasd_ingest_file files[MAX_FILES];
	struct job job = {.link = link};
	const char *out = engine_need_string(m->json, "out");
	const cJSON *limits = wasd_json_get(m->json, "limits");
	const cJSON *options = wasd_json_get(m->json, "options");
	struct wasd_ingest_report *told = wasd_calloc(1, sizeof *told);
	int n = read_files(m->json, files);
	struct wasd_prepare prepare = wasd_prepare_default;
	struct wasd_ingest_opts o = {.prepare = &prepare,
	                             .max_bytes = count_of(limits, "max_bytes"),
	                             .max_images = count_of(limits, "max_images"),
	                             .progress = on_progress,
	                             .cancelled = on_cancelled,
	                             .ctx = &job,
	                             .report = told};
	struct wasd_ingest_info info = {0};
	struct wasd_err err = {0};
	read_options(options, &o);
	if (wasd_prepare_read(options, &prepare, &err))
		engine_protocol_error("options: %s", err.msg);
	limits_on(o.max_bytes);
	enum wasd_status s = told ? wasd_ingest(files, n, out, &o, &info, &err) :
	                            wasd_fail(&err, WASD_ENOMEM, "no memory for an ingest");
	report(link, m->seq, s, out, info.format, told, &err);
	wasd_free(told);
}

static void synthetic(struct engine_link *link, const struct wasd_frame *m)
{
	struct job job = {.link = link};
	const char *out = engine_need_string(m->json, "out"), *kind = engine_need_string(m->json, "kind");
	struct wasd_ingest_opts o = {.progress = on_progress, .cancelled = on_cancelled, .ctx = &job};
	struct wasd_ingest_info info = {0};
	struct wasd_err err = {0};
	limits_on(0);
	enum wasd_status s = wasd_synthetic(kind, count_of(m->json, "train"), count_of(m->json, "test"),
	                                    count_of(m->json, "seed"), out, &o, &info, &err);
	report(link, m->seq, s, out, info.format, NULL, &err);
}

/* Shrinks images with a side over PREVIEW_SIDE, so that every preview fits into one frame. */
static enum wasd_status preview_png(const struct wasd_dataset *d, enum wasd_split split, size_t i, void **png,
                                    size_t *n, struct wasd_err *err)
{
	struct wasd_shape s = wasd_dataset_shape(d), t = s;
	const uint8_t *chw = wasd_dataset_image(d, split, i);
	int most = s.h > s.w ? s.h : s.w;
	if (most <= PREVIEW_SIDE)
		return wasd_image_png(chw, s, png, n, err);
	t.h = s.h * PREVIEW_SIDE / most;
	t.w = s.w * PREVIEW_SIDE / most;
	t.h += !t.h;
	t.w += !t.w;
	uint8_t *small = wasd_malloc(wasd_shape_count(t));
	enum wasd_status e = small ? image_resize(chw, s.c, s.h, s.w, t.h, t.w, small, err) :
	                             wasd_fail(err, WASD_ENOMEM, "no memory for a preview");
	if (!e)
		e = wasd_image_png(small, t, png, n, err);
	wasd_free(small);
	return e;
}

static void preview(struct engine_link *link, const struct wasd_frame *m)
{
	const char *path = engine_need_string(m->json, "path"), *split_name = engine_need_string(m->json, "split");
	uint64_t i = count_of(m->json, "index");
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	void *png = NULL;
	size_t n = 0;
	bool test = !strcmp(split_name, "test"), val = !strcmp(split_name, "val");
	enum wasd_split split = test ? WASD_TEST : WASD_TRAIN;
	if (!test && !val && strcmp(split_name, "train"))
		engine_protocol_error("split \"%.20s\"", split_name);
	enum wasd_status s = wasd_dataset_open(path, &d, &err);
	size_t own = s ? 0 : wasd_dataset_val(d), all = s    ? 0 :
	                                                test ? wasd_dataset_count(d, WASD_TEST) :
	                                                val  ? own :
	                                                       wasd_dataset_count(d, WASD_TRAIN) - own;
	if (!s && i >= all)
		s = wasd_fail_at(&err, WASD_ENOTFOUND, "/index", "image %llu of %zu %s images", (unsigned long long)i, all,
		                 split_name);
	if (!s && val)
		i += wasd_dataset_count(d, WASD_TRAIN) - own;
	if (!s)
		s = preview_png(d, split, i, &png, &n, &err);
	if (!s) {
		int label = wasd_dataset_label(d, split, i);
		s = engine_send_full(link,
		                     wasd_message("previewed", "re:i label:i class:s", (int64_t)m->seq, (int64_t)label,
		                                  wasd_dataset_class(d, label)),
		                     png, n, -1, NULL, &err);
	}
	if (s)
		engine_error(link, m->seq, &err, NULL);
	wasd_free(png);
	wasd_dataset_close(d);
}

static const struct engine_handler handlers[] = {
	{"ingest", ingest},
	{"synthetic", synthetic},
	{"preview", preview},
};

int cmd_ingest(int argc, char **argv)
{
	struct engine_link *link;
	struct wasd_err err = {0};
	if (argc > 1) {
		fprintf(stderr, "wasd-engine %s: unexpected argument '%s'\n", argv[0], argv[1]);
		return 2;
	}
	if (engine_link_open(WASD_ROLE_INGEST, &link, &err)) {
		fprintf(stderr, "wasd-engine ingest: %s\n", err.msg);
		return 1;
	}
	engine_confine();
	engine_serve(link, handlers, sizeof handlers / sizeof *handlers);
	engine_link_close(link);
	return 0;
}
