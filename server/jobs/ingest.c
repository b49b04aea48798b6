/* ingest.c - see ingest.h.
 *
 *   requested -> waiting -> a task (process/task.h) -> ended -> row ready or invalid, staged files removed
 *                  ^------------ the disk was full --------'
 *
 * A dataset becomes ready only if the task succeeded and its file exists with the reported size. Otherwise the row
 * becomes invalid with the reason, and no file stays on disk.
 */
#include "jobs/ingest.h"

#include "process/helper.h"
#include "process/task.h"
#include "log.h"
#include "wasd/protocol.h"

#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PREVIEW_TIMEOUT_MS = 10000,
	PREVIEW_IDLE_MS = 5000,
	RETRY_US = 600000000,
	PREVIEWS_MAX = 64,
	FILES_MAX = 64,
	REMARKS_MAX = 32,
	EXAMPLES_MAX = 5,
	CULPRITS_MAX = 100,
	TEXT_MAX = 255
};

struct upload {
	struct ingest *g;
	struct upload *next; /* in the list of waiting or of running uploads */
	char id[48], name[72];
	int64_t version;
	char *relative, *path; /* path of the prepared file */
	cJSON *request;        /* the message that starts the task */
	bool told;             /* the row says that it waits for room */
	uint64_t need;         /* so many bytes found no room; 0: none were refused */
	int64_t again_us;      /* tries then even with less room */
	char *staged[FILES_MAX];
	size_t n_staged;
	struct task task;
	cJSON *options; /* options of the request */
};

struct ingest {
	struct ingest_config cfg;
	char *data_dir;
	/* [S] */
	struct upload *waiting, *running;
	int n_running;
	bool stopping;
	int64_t look_us; /* the next look at the disk */
	struct helper previews;
};

static void upload_free(struct upload *u)
{
	if (!u)
		return;
	cJSON_Delete(u->request);
	cJSON_Delete(u->options);
	task_done(&u->task);
	for (size_t i = 0; i < u->n_staged; i++)
		wasd_free(u->staged[i]);
	wasd_free(u->relative);
	wasd_free(u->path);
	wasd_free(u);
}

/* ---- the end of an upload ---------------------------------------------------------------------------------- */

static void make_invalid(struct upload *u, const char *code, const char *file, const char *message)
{
	cJSON *e = cJSON_CreateObject(), *said = u->task.end.said;
	int64_t n;
	cJSON_AddStringToObject(e, "code", code);
	cJSON_AddStringToObject(e, "message", message);
	if (file && *file)
		cJSON_AddStringToObject(e, "file", file);
	/* The bad files that are listed, and the total number of bad files. */
	if (u->task.state == TASK_FAILED && wasd_json_get(said, "errors") && wasd_json_i64(said, "count", &n) && n > 0) {
		cJSON_AddItemToObject(e, "errors", cJSON_DetachItemFromObjectCaseSensitive(said, "errors"));
		cJSON_AddNumberToObject(e, "count", (double)n);
	}
	char *text = wasd_json_print(e);
	cJSON_Delete(e);
	struct wasd_err err;
	unlink(u->path);
	if (!text || storage_dataset_invalid(u->g->cfg.db, u->id, text, &err) != WASD_OK)
		log_about(u->id, LOG_ERROR, "cannot mark the dataset invalid", "dataset=%s version=%lld", u->name,
		          (long long)u->version);
	log_about(u->id, LOG_INFO, "dataset refused", "dataset=%s version=%lld why=%s", u->name, (long long)u->version,
	          LOG_Q(message));
	wasd_free(text);
}

/* Checks the size of the process's file and syncs it. */
static enum wasd_status check_result(const struct upload *u, int64_t bytes, struct wasd_err *err)
{
	struct stat st;
	int fd = open(u->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return wasd_fail_errno(err, errno, "the ingest process wrote no file");
	enum wasd_status s = WASD_OK;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size != bytes)
		s = wasd_fail(err, WASD_ECORRUPT, "the size of the ingest process's file differs from the reported one");
	else if (fsync(fd))
		s = wasd_fail_errno(err, errno, "cannot sync the dataset");
	close(fd);
	if (s == WASD_OK) {
		char *dir = wasd_strndup(u->path, (size_t)(strrchr(u->path, '/') - u->path));
		s = dir ? wasd_fsync_dir(dir, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
		wasd_free(dir);
	}
	return s;
}

/* Stores the process's report about the dataset in its row. */
static enum wasd_status make_ready(struct upload *u, cJSON *made, struct wasd_err *err)
{
	const char *format = "", *digest = "";
	int64_t bytes = 0;
	wasd_json_i64(made, "bytes", &bytes);
	enum wasd_status s = check_result(u, bytes, err);
	if (s != WASD_OK)
		return s;
	cJSON_DeleteItemFromObjectCaseSensitive(made, "type");
	cJSON_DeleteItemFromObjectCaseSensitive(made, "re");
	if (u->options && cJSON_AddItemToObject(made, "options", u->options))
		u->options = NULL;
	wasd_json_str(made, "format", &format);
	wasd_json_str(made, "digest", &digest);
	char *info = wasd_json_print(made);
	s = info ? storage_dataset_ready(u->g->cfg.db, u->id, format, digest, u->relative, info, bytes, err) :
	           wasd_fail(err, WASD_ENOMEM, "no memory");
	if (s == WASD_OK)
		log_about(u->id, LOG_INFO, "dataset ready", "dataset=%s version=%lld format=%s bytes=%lld", u->name,
		          (long long)u->version, LOG_Q(format), (long long)bytes);
	wasd_free(info);
	return s;
}

static void as_told(struct upload *u, const cJSON *failed)
{
	const char *status = "", *message = "", *pointer = "";
	wasd_json_str(failed, "status", &status);
	wasd_json_str(failed, "message", &message);
	wasd_json_str(failed, "pointer", &pointer);
	make_invalid(u, status, pointer, message);
}

static void ended_early(struct upload *u, bool oom, const char *reason, const char *tail)
{
	char message[600];
	snprintf(message, sizeof message, "the ingest process ended early: %.200s %.300s", reason, tail);
	make_invalid(u, oom ? "etoobig" : "einternal", NULL, message);
}

/* Call before the row is written: a caller who sees the final row must not find the upload running. */
static void remove_staged(const struct upload *u)
{
	for (size_t i = 0; i < u->n_staged; i++)
		unlink(u->staged[i]);
}

static void forget(struct upload *u)
{
	struct ingest *g = u->g;
	upload_free(u);
	if (g->cfg.dataset_ready)
		g->cfg.dataset_ready(g->cfg.ctx);
}

/* ---- reports of the process, which are shown to users: limit their size, allow only plain text ------------------ */

static bool text_ok(const cJSON *obj, const char *key)
{
	const char *s;
	return wasd_json_str(obj, key, &s) && strlen(s) <= TEXT_MAX &&
	       strcspn(s, "\x01\x02\x03\x04\x05\x06\x07\b\t\n\v\f\r\x1b\x7f") == strlen(s);
}

static bool culprits_ok(const cJSON *list)
{
	const cJSON *c;
	if (!list)
		return true;
	if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > CULPRITS_MAX)
		return false;
	cJSON_ArrayForEach(c, list)
		if (cJSON_GetArraySize(c) != 2 || !text_ok(c, "file") || !text_ok(c, "detail"))
			return false;
	return true;
}

static bool remark_ok(const cJSON *m)
{
	const cJSON *examples = wasd_json_get(m, "examples"), *e;
	int64_t count;
	if (cJSON_GetArraySize(m) != 4 || !text_ok(m, "code") || !text_ok(m, "message") ||
	    !wasd_json_i64(m, "count", &count) || count < 0)
		return false;
	if (!cJSON_IsArray(examples) || cJSON_GetArraySize(examples) > EXAMPLES_MAX)
		return false;
	cJSON_ArrayForEach(e, examples)
		if (!cJSON_IsString(e) || strlen(e->valuestring) > TEXT_MAX)
			return false;
	return true;
}

static bool remarks_ok(const cJSON *list)
{
	const cJSON *m;
	if (!list)
		return true;
	if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > REMARKS_MAX)
		return false;
	cJSON_ArrayForEach(m, list)
		if (!remark_ok(m))
			return false;
	return true;
}

/* ---- the process; [S] ------------------------------------------------------------------------------------------ */

static void start_waiting(struct ingest *g);

static enum wasd_status on_done(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	(void)self;
	return remarks_ok(wasd_json_get(m->json, "remarks")) && culprits_ok(wasd_json_get(m->json, "skipped")) ?
	           WASD_OK :
	           wasd_fail(err, WASD_ECORRUPT, "\"done\" has remarks that exceed their limits");
}

static enum wasd_status on_failed(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	(void)self;
	return culprits_ok(wasd_json_get(m->json, "errors")) ?
	           WASD_OK :
	           wasd_fail(err, WASD_ECORRUPT, "\"failed\" has errors that exceed their limits");
}

/* The row stays as it is and says why. */
static void say_waiting(struct upload *u, const struct wasd_err *why)
{
	char message[300];
	cJSON *e = u->told ? NULL : cJSON_CreateObject();
	wasd_line(message, sizeof message, "waits for room: %s", why->msg);
	cJSON_AddStringToObject(e, "code",
	                        strcmp(why->pointer, STORAGE_QUOTA_FULL) ? STORAGE_DISK_LOW : STORAGE_QUOTA_FULL);
	cJSON_AddStringToObject(e, "message", message);
	char *text = e ? wasd_json_print(e) : NULL;
	cJSON_Delete(e);
	u->told = u->told || (text && storage_dataset_waits(u->g->cfg.db, u->id, text, NULL) == WASD_OK);
	wasd_free(text);
}

/* The disk was full: removes what was written, and tries again when there is more room. Only this upload waits for
 * that much; jobs go on with the room that the removal leaves. A file without a name is gone already, and had no more
 * than what is free now. */
static void wait_for_room(struct upload *u, const struct wasd_err *why)
{
	struct ingest *g = u->g;
	struct stat st;
	struct storage_disk d;
	const bool named = !stat(u->path, &st);
	unlink(u->path);
	storage_disk(g->cfg.db, &d);
	u->need = named ? (uint64_t)st.st_size : d.free;
	u->again_us = wasd_mono_us() + RETRY_US;
	log_about(u->id, LOG_WARN, "no room, dataset waits", "dataset=%s version=%lld why=%s", u->name,
	          (long long)u->version, LOG_Q(why->msg));
	say_waiting(u, why);
	task_done(&u->task);
	u->task = (struct task){0};
	u->next = g->waiting;
	g->waiting = u;
}

/* Did the process, or storing its result, find the disk full? */
static bool found_full(struct upload *u, const struct task_end *end, struct wasd_err *err)
{
	const char *status = "", *message = "";
	if (end->outcome == TASK_ENDED_FAILED && wasd_json_str(end->said, "status", &status) && !strcmp(status, "efull")) {
		wasd_json_str(end->said, "message", &message);
		wasd_fail(err, WASD_EFULL, "%s", message);
	} else if (end->outcome == TASK_ENDED_DONE) {
		make_ready(u, end->said, err);
	}
	return err->status == WASD_EFULL && !u->g->stopping;
}

static void upload_ended(void *self, const struct task_end *end)
{
	struct upload *u = self;
	struct ingest *g = u->g;
	struct wasd_err err = {0};
	for (struct upload **at = &g->running; *at; at = &(*at)->next)
		if (*at == u) {
			*at = u->next;
			break;
		}
	g->n_running--;
	if (found_full(u, end, &err)) {
		wait_for_room(u, &err);
		return;
	}
	remove_staged(u);
	if (end->outcome == TASK_ENDED_FAILED)
		as_told(u, end->said);
	else if (end->outcome != TASK_ENDED_DONE)
		ended_early(u, end->how.oom, end->how.reason, end->how.tail);
	else if (err.status != WASD_OK)
		make_invalid(u, wasd_status_name(err.status), NULL, err.msg);
	forget(u);
	start_waiting(g);
}

static const struct task_message upload_messages[] = {
	{.type = "log"},
	{.type = "progress"},
	{.type = "done", .take = on_done, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .take = on_failed, .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind upload_kind = {
	.role = WASD_ROLE_INGEST,
	.let_go = true,
	.messages = upload_messages,
	.ended = upload_ended,
};

static bool may_start(const struct ingest *g)
{
	return g->waiting && g->n_running < g->cfg.at_once && !g->stopping;
}

static void start_waiting(struct ingest *g)
{
	struct upload **at = &g->waiting;
	struct storage_disk room;
	if (!may_start(g))
		return;
	storage_disk(g->cfg.db, &room);
	while (*at && may_start(g)) {
		struct upload *u = *at;
		struct wasd_err err = {0};
		const uint64_t need = wasd_mono_us() < u->again_us ? u->need : 0;
		if (storage_disk_space(&room, need, &err) == WASD_EFULL) {
			say_waiting(u, &err);
			at = &u->next;
			continue;
		}
		if (u->told)
			u->told = storage_dataset_waits(g->cfg.db, u->id, NULL, NULL) != WASD_OK;
		*at = u->next;
		task_init(&u->task, g->cfg.sup, &upload_kind, u);
		if (task_launch(&u->task, &err) != WASD_OK) {
			remove_staged(u);
			make_invalid(u, "ebusy", NULL, err.msg);
			forget(u);
			continue;
		}
		u->next = g->running;
		g->running = u;
		g->n_running++;
		cJSON *request = cJSON_Duplicate(u->request, true);
		if (request)
			task_start(&u->task, request, -1);
		else
			task_kill(&u->task, "no memory for the request");
	}
}

/* Uploads that wait for room start when there is some. */
static void ingest_tick(void *ctx)
{
	struct ingest *g = ctx;
	int64_t now = wasd_mono_us();
	if (!g->waiting || now < g->look_us)
		return;
	g->look_us = now + 1000000;
	start_waiting(g);
}

struct add_call {
	struct ingest *g;
	struct upload *u;
	bool refused;
};

static void do_add(void *ctx)
{
	struct add_call *c = ctx;
	c->refused = c->g->stopping;
	if (c->refused)
		return;
	struct upload **at = &c->g->waiting;
	while (*at)
		at = &(*at)->next;
	*at = c->u;
	start_waiting(c->g);
}

/* ---- requesting an upload; any thread --------------------------------------------------------------------------- */

static enum wasd_status upload_create(struct ingest *g, const char *dataset, int version, struct upload **out,
                                      struct wasd_err *err)
{
	struct storage_dataset row = {0};
	struct upload *u = wasd_calloc(1, sizeof *u);
	if (!u)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an ingest");
	u->g = g;
	u->version = version;
	snprintf(u->name, sizeof u->name, "%s", dataset);
	enum wasd_status s = storage_dataset_get(g->cfg.db, dataset, version, &row, err);
	if (s == WASD_OK) {
		snprintf(u->id, sizeof u->id, "%s", row.id);
		log_remember(u->id);
		u->relative = wasd_asprintf("datasets/%s/%d.wds", dataset, version);
		u->path = u->relative ? wasd_asprintf("%s/%s", g->data_dir, u->relative) : NULL;
		char *dir = wasd_asprintf("%s/datasets/%s", g->data_dir, dataset);
		s = u->path && dir ? wasd_mkdirs(dir, err) : wasd_fail(err, WASD_ENOMEM, "no memory for an ingest");
		wasd_free(dir);
	}
	storage_dataset_done(&row);
	if (s != WASD_OK) {
		upload_free(u);
		return s;
	}
	*out = u;
	return WASD_OK;
}

/* Out of memory: marks the row invalid; the staged files still belong to the caller. */
static enum wasd_status give_back(struct upload *u, struct wasd_err *err)
{
	make_invalid(u, "enomem", NULL, "out of memory");
	upload_free(u);
	return wasd_fail(err, WASD_ENOMEM, "no memory for an ingest");
}

static enum wasd_status upload_add(struct ingest *g, struct upload *u, struct wasd_err *err)
{
	struct add_call c = {.g = g, .u = u};
	supervisor_call(g->cfg.sup, do_add, &c);
	if (!c.refused)
		return WASD_OK;
	remove_staged(u);
	make_invalid(u, "ebusy", NULL, "the daemon was stopped");
	upload_free(u);
	return wasd_fail(err, WASD_EBUSY, "the daemon is stopping");
}

enum wasd_status ingest_files(struct ingest *g, const char *dataset, int version, const struct api_upload *files,
                              size_t n, const cJSON *options, struct wasd_err *err)
{
	struct upload *u;
	if (n > FILES_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%zu files in one upload, the limit is %d", n, FILES_MAX);
	enum wasd_status s = upload_create(g, dataset, version, &u, err);
	if (s != WASD_OK)
		return s;
	cJSON *list = cJSON_CreateArray();
	bool ok = list != NULL;
	for (size_t i = 0; i < n && ok; i++) {
		cJSON *f = wasd_message(NULL, "path:s name:s", files[i].path, files[i].name ? files[i].name : "");
		ok = f && cJSON_AddItemToArray(list, f);
		if (!ok)
			cJSON_Delete(f);
		u->staged[u->n_staged] = wasd_strdup(files[i].path);
		ok = ok && u->staged[u->n_staged];
		u->n_staged += u->staged[u->n_staged] != NULL;
	}
	if (cJSON_GetArraySize(options)) {
		u->options = cJSON_Duplicate(options, true);
		ok = ok && u->options;
	}
	u->request = wasd_message("ingest", "name:s out:s options:j files:j limits:j", dataset, u->path,
	                          u->options ? cJSON_Duplicate(options, true) : cJSON_CreateObject(), list,
	                          wasd_message(NULL, "max_bytes:i max_images:i", (int64_t)g->cfg.max_bytes,
	                                       g->cfg.max_images));
	if (!ok || !u->request)
		return give_back(u, err);
	return upload_add(g, u, err);
}

enum wasd_status ingest_synthetic(struct ingest *g, const char *dataset, int version, const char *kind, int64_t train,
                                  int64_t test, int64_t seed, struct wasd_err *err)
{
	struct upload *u;
	enum wasd_status s = upload_create(g, dataset, version, &u, err);
	if (s != WASD_OK)
		return s;
	u->request = wasd_message("synthetic", "kind:s train:i test:i seed:i out:s", kind, train, test, seed, u->path);
	if (!u->request)
		return give_back(u, err);
	return upload_add(g, u, err);
}

/* ---- previews ---------------------------------------------------------------------------------------------- */

static const struct helper_kind previews = {
	.role = WASD_ROLE_INGEST,
	.idle_ms = PREVIEW_IDLE_MS,
	.down = "the preview process ended",
};

enum wasd_status ingest_preview(struct ingest *g, const char *path, const char *split, int64_t index,
                                struct api_call *call, struct wasd_err *err)
{
	char *absolute = *path == '/' ? wasd_strdup(path) : wasd_asprintf("%s/%s", g->data_dir, path);
	cJSON_Delete(call->json);
	call->json = absolute ? wasd_message("preview", "path:s split:s index:i", absolute, split, index) : NULL;
	wasd_free(absolute);
	return helper_ask(&g->previews, call, -1, wasd_mono_us() + PREVIEW_TIMEOUT_MS * 1000ll, err);
}

/* ---- create and destroy ----------------------------------------------------------------------------------------- */

static void do_register(void *ctx)
{
	struct ingest *g = ctx;
	supervisor_every(g->cfg.sup, ingest_tick, g);
}

enum wasd_status ingest_create(const struct ingest_config *cfg, struct ingest **out, struct wasd_err *err)
{
	struct ingest *g = wasd_calloc(1, sizeof *g);
	if (!g || !(g->data_dir = wasd_strdup(cfg->data_dir)) ||
	    helper_init(&g->previews, cfg->sup, &previews, PREVIEWS_MAX, g) != WASD_OK) {
		if (g)
			wasd_free(g->data_dir);
		wasd_free(g);
		return wasd_fail(err, WASD_ENOMEM, "no memory for the ingest");
	}
	g->cfg = *cfg;
	supervisor_call(cfg->sup, do_register, g);
	*out = g;
	return WASD_OK;
}

static void do_stop(void *ctx)
{
	struct ingest *g = ctx;
	g->stopping = true;
	helper_stop(&g->previews);
	for (struct upload *u = g->running; u; u = u->next)
		task_kill(&u->task, "the daemon is stopping");
	while (g->waiting) {
		struct upload *u = g->waiting;
		g->waiting = u->next;
		remove_staged(u);
		ended_early(u, false, "the daemon was stopped", "");
		forget(u);
	}
}

void ingest_stop(struct ingest *g)
{
	if (g)
		supervisor_call(g->cfg.sup, do_stop, g);
}

void ingest_destroy(struct ingest *g)
{
	if (!g)
		return;
	helper_done(&g->previews);
	wasd_free(g->data_dir);
	wasd_free(g);
}

/* ---- for the API ---- */

/* The rows are already deleted: a file that cannot be removed now is removed at the next start. */
static void gone(struct ingest *g, const char *paths)
{
	for (const char *p = paths; *p; p += strspn(p, "\n")) {
		int n = (int)strcspn(p, "\n");
		char path[PATH_MAX];
		if (snprintf(path, sizeof path, "%s/%.*s", g->data_dir, n, p) >= (int)sizeof path ||
		    (unlink(path) && errno != ENOENT))
			log_line(LOG_WARN, "cannot remove a dataset file", "path=%.*s why=%s", n, p, LOG_Q(strerror(errno)));
		p += n;
	}
}

struct api_data ingest_api(struct ingest *g)
{
	return (struct api_data){.self = g,
	                         .ingest = ingest_files,
	                         .synthesize = ingest_synthetic,
	                         .preview = ingest_preview,
	                         .gone = gone};
}
