/* api/estimate.c - the answer of a dry run: the spec, and what such a job would take. */
#include "internal.h"
#include "wasd/machine.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A dry run whose times are being measured. */
struct dry_run {
	struct api_ask ask;
	cJSON *answer, *estimate, *warnings, *sizes; /* the second and third are members of the first */
	int64_t threads, running;
};

static double number(const cJSON *j, const char *part, const char *name)
{
	double v = 0;
	wasd_json_num(part ? wasd_json_get(j, part) : j, name, &v);
	return v;
}

static void warn(cJSON *list, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void warn(cJSON *list, const char *code, const char *fmt, ...)
{
	char text[300];
	cJSON *w = cJSON_CreateObject();
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	api_add_str(w, "code", code);
	api_add_str(w, "message", text);
	api_push(list, w);
}

static double mib(double bytes)
{
	return ceil(bytes / 1048576);
}

/* Whether it fits; adds the parts, their sum, and what there is. The limit is on private memory, and on what is
 * resident. */
static bool add_memory(struct dry_run *d, const struct wasd_machine *m)
{
	cJSON *parts = cJSON_DetachItemFromObjectCaseSensitive(d->sizes, "memory");
	double need = 0, limit = number(d->answer, "limits", "memory_mb") * 1048576;
	const cJSON *p;
	cJSON_ArrayForEach(p, parts)
		need += p->valuedouble;
	cJSON *memory = cJSON_CreateObject();
	bool in_limit = limit <= 0 || need <= limit, in_machine = !m->available || need <= (double)m->available;
	api_add_num(memory, "bytes", need);
	api_add_take(memory, "parts", parts);
	api_add_num(memory, "limit_bytes", limit > 0 ? limit : NAN);
	api_add_num(memory, "available_bytes", m->available ? (double)m->available : NAN);
	api_add_take(memory, "fits", cJSON_CreateBool(in_limit && in_machine));
	api_add_take(d->estimate, "memory", memory);
	if (!in_limit)
		warn(d->warnings, "memory_over_limit", "it needs about %.0f MiB, limits.memory_mb is %.0f", mib(need),
		     mib(limit));
	if (!in_machine)
		warn(d->warnings, "memory_over_machine", "it needs about %.0f MiB, and the machine has %.0f MiB left",
		     mib(need), mib((double)m->available));
	return in_limit && in_machine;
}

/* What is kept: the best and the latest checkpoints, but no more than epochs. */
static void add_checkpoints(struct api_ctx *c, struct dry_run *d)
{
	const cJSON *keep = wasd_json_get(wasd_json_get(d->answer, "checkpoint"), "keep");
	double each = number(d->sizes, NULL, "checkpoint_bytes"), epochs = number(d->sizes, NULL, "epochs"),
		   kept = number(keep, NULL, "best") + number(keep, NULL, "latest");
	struct storage_disk disk;
	storage_disk(c->db, &disk);
	kept = kept > epochs ? epochs : kept;
	double room = (double)(disk.free > disk.low_water ? disk.free - disk.low_water : 0);
	cJSON *j = cJSON_CreateObject();
	api_add_num(j, "bytes", each);
	api_add_num(j, "kept", kept);
	api_add_num(j, "kept_bytes", kept * each);
	api_add_num(j, "free_bytes", room);
	api_add_take(j, "fits", cJSON_CreateBool(kept * each <= room));
	api_add_take(d->estimate, "checkpoints", j);
	if (kept * each > room)
		warn(d->warnings, "disk_full", "its checkpoints need about %.0f MiB, and the disk has room for %.0f",
		     mib(kept * each), mib(room));
}

static void add_macs(struct dry_run *d)
{
	cJSON *macs = cJSON_DetachItemFromObjectCaseSensitive(d->sizes, "macs");
	if (wasd_json_get(macs, "dom"))
		api_add_str(macs, "dom_of", "the recorded draw");
	api_add_take(d->estimate, "macs", macs);
}

static void add_sizes(struct dry_run *d)
{
	cJSON *images = cJSON_Duplicate(wasd_json_get(d->sizes, "images"), 1);
	cJSON_DeleteItemFromObjectCaseSensitive(images, "evaluated");
	cJSON_DeleteItemFromObjectCaseSensitive(images, "epoch");
	api_add_num(d->estimate, "params", number(d->sizes, NULL, "params"));
	add_macs(d);
	api_add_take(d->estimate, "images", images);
	api_add_num(d->estimate, "epochs", number(d->sizes, NULL, "epochs"));
	api_add_num(d->estimate, "steps_per_epoch", number(d->sizes, NULL, "steps"));
}

/* What is made of the best checkpoint at the end. */
static void add_modes(struct api_ctx *c, struct dry_run *d)
{
	cJSON *names = cJSON_CreateArray();
	const cJSON *one;
	char mode[WASD_MODE_LEN];
	for (const char *const *list = (const char *const[]){"profiles", "modes", NULL}; *list; list++)
		cJSON_ArrayForEach(one, wasd_json_get(d->answer, *list)) {
			api_mode_asked(c->engine.capabilities(c->engine.self), one, mode);
			api_push(names, cJSON_CreateString(mode));
		}
	api_add_take(d->estimate, "modes", names);
}

/* A job that waits for others has no place yet. */
static void add_queue(struct dry_run *d, cJSON *would)
{
	cJSON *queue = cJSON_DetachItemFromObjectCaseSensitive(would, "queue");
	wasd_json_i64(would, "threads", &d->threads);
	wasd_json_i64(would, "running", &d->running);
	api_add_int(d->estimate, "threads", d->threads);
	if (cJSON_GetArraySize(wasd_json_get(d->answer, "after"))) {
		cJSON_ReplaceItemInObjectCaseSensitive(queue, "reason", cJSON_CreateString("dependency"));
		cJSON_ReplaceItemInObjectCaseSensitive(queue, "message",
		                                       cJSON_CreateString("it is held until the jobs in after have completed"));
		cJSON_ReplaceItemInObjectCaseSensitive(queue, "eta_s", cJSON_CreateNull());
		cJSON_ReplaceItemInObjectCaseSensitive(queue, "position", cJSON_CreateNull());
	}
	api_add_take(d->estimate, "queue", queue);
}

/* times NULL: there are none, and why. */
static void add_times(struct dry_run *d, const cJSON *times, const char *why)
{
	if (!times) {
		api_add_take(d->estimate, "time", cJSON_CreateNull());
		api_add_str(d->estimate, "time_missing", why);
		return;
	}
	double step = number(times, NULL, "step_s"), image = number(times, NULL, "image_s"),
		   epochs = number(d->sizes, NULL, "epochs"), steps = number(d->sizes, NULL, "steps"),
		   evaluated = number(d->sizes, "images", "evaluated"), total = epochs * steps * step + evaluated * image;
	cJSON *j = cJSON_CreateObject(), *how = cJSON_CreateObject();
	api_add_num(j, "step_s", step);
	api_add_num(j, "images_per_s", number(d->sizes, "images", "epoch") / (steps * step));
	api_add_num(j, "epoch_s", total / epochs);
	api_add_num(j, "total_s", total);
	api_add_num(how, "steps", number(times, NULL, "steps"));
	api_add_num(how, "batch", number(times, NULL, "batch"));
	api_add_int(how, "beside", d->running);
	api_add_take(j, "measured", how);
	api_add_take(d->estimate, "time", j);
	api_add_take(d->estimate, "time_missing", cJSON_CreateNull());
}

static void send(struct api_response *r, struct dry_run *d)
{
	if (api_poisoned(d->answer)) {
		api_send_no_memory(r);
	} else {
		api_send_json(r, 200, d->answer);
		d->answer = NULL;
	}
}

static void dry_run_done(struct dry_run *d)
{
	api_call_done(&d->ask.call);
	cJSON_Delete(d->answer);
	cJSON_Delete(d->sizes);
	wasd_free(d);
}

static void finish(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct api_ask *ask)
{
	struct dry_run *d = (struct dry_run *)((char *)ask - offsetof(struct dry_run, ask));
	char why[320];
	(void)c, (void)q;
	wasd_line(why, sizeof why, "the measurement failed: %s", ask->err.msg);
	add_times(d, ask->status == WASD_OK ? ask->call.reply : NULL, why);
	send(r, d);
	dry_run_done(d);
}

/* False: no memory. */
static bool ask_times(struct dry_run *d, struct api_response *r, const char *dataset, const struct wasd_machine *m)
{
	double limit = number(d->answer, "limits", "memory_mb"), left = floor((double)m->available / 1048576);
	cJSON *spec = cJSON_Duplicate(d->answer, 1), *question = cJSON_CreateObject();
	cJSON_DeleteItemFromObjectCaseSensitive(spec, "estimate");
	api_add_take(question, "spec", spec);
	api_add_str(question, "dataset", dataset);
	api_add_int(question, "threads", d->threads);
	api_add_num(question, "memory_mb", limit > 0 && (limit < left || left <= 0) ? limit : left);
	api_add_int(question, "beside", d->running);
	d->ask.call.json = question;
	d->ask.timing = true;
	d->ask.finish = finish;
	r->ask = &d->ask;
	return !api_poisoned(question);
}

/* Sends the error of the sizes. */
static void refuse(const struct api_request *q, struct api_response *r, const struct wasd_err *err)
{
	bool theirs = err->status == WASD_EINVAL || err->status == WASD_ETOOBIG || err->status == WASD_EUNSUPPORTED;
	if (theirs)
		api_send_problem(q, r, "invalid_field", err->pointer, "%s%s%s", err->pointer, *err->pointer ? ": " : "",
		                 err->msg);
	else
		api_send_error(q, r, err);
}

/* Takes spec and warnings. */
static struct dry_run *dry_run_create(cJSON *spec, cJSON *warnings)
{
	struct dry_run *d = wasd_calloc(1, sizeof *d);
	if (!d) {
		cJSON_Delete(spec);
		cJSON_Delete(warnings);
		return NULL;
	}
	d->answer = spec;
	d->estimate = cJSON_CreateObject();
	d->warnings = warnings ? warnings : cJSON_CreateArray();
	bool added = api_add_take(spec, "estimate", d->estimate);
	if (!added)
		cJSON_Delete(d->warnings);
	if (!added || !api_add_take(d->estimate, "warnings", d->warnings)) {
		dry_run_done(d);
		return NULL;
	}
	return d;
}

/* The path of the spec's dataset below the data directory; the caller frees it. */
static enum wasd_status dataset_path(struct api_ctx *c, const cJSON *spec, char **path, struct wasd_err *err)
{
	const cJSON *ref = wasd_json_get(spec, "dataset");
	struct storage_dataset d = {0};
	const char *name = "";
	int64_t version = 0;
	wasd_json_str(ref, "name", &name);
	wasd_json_i64(ref, "version", &version);
	enum wasd_status s = storage_dataset_get(c->db, name, version, &d, err);
	if (!s && !(*path = wasd_strdup(d.path ? d.path : "")))
		s = wasd_fail(err, WASD_ENOMEM, "no memory");
	storage_dataset_done(&d);
	return s;
}

static enum wasd_status read_sizes(struct api_ctx *c, const cJSON *spec, const cJSON *would, char **path, cJSON **sizes,
                                   struct wasd_err *err)
{
	int64_t threads = 1;
	wasd_json_i64(would, "threads", &threads);
	enum wasd_status s = would ? dataset_path(c, spec, path, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
	return s ? s : c->estimates.sizes(c->estimates.self, spec, *path, threads, sizes, err);
}

enum api_result api_job_estimate(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *spec,
                                 cJSON *warnings, bool bench)
{
	struct wasd_err err = {0};
	struct wasd_machine m;
	cJSON *sizes = NULL, *would = c->jobs.would(c->jobs.self, spec);
	char *path = NULL;
	enum wasd_status s = read_sizes(c, spec, would, &path, &sizes, &err);
	struct dry_run *d = s ? NULL : dry_run_create(spec, warnings);
	if (!d) {
		if (s) {
			cJSON_Delete(spec);
			cJSON_Delete(warnings);
			refuse(q, r, &err);
		} else {
			api_send_no_memory(r);
		}
		cJSON_Delete(sizes);
		cJSON_Delete(would);
		wasd_free(path);
		return API_DONE;
	}
	d->sizes = sizes;
	add_queue(d, would);
	cJSON_Delete(would);
	add_sizes(d);
	add_modes(c, d);
	c->system.machine(c->system.self, &m);
	bool fits = add_memory(d, &m);
	add_checkpoints(c, d);
	bool asks = bench && fits && ask_times(d, r, path, &m);
	wasd_free(path);
	if (asks)
		return API_ASK;
	add_times(d, NULL, !bench ? "not asked for" : fits ? "no memory" : "it would not fit into memory");
	r->ask = NULL;
	send(r, d);
	dry_run_done(d);
	return API_DONE;
}
