/* archive.c - see archive.h.
 *
 *   asked for -> WAITING -> RUNNING, a task (process/task.h), which asks for one checkpoint after the other; each is
 *   read by the loader and sent to it -> ENDED; if it has failed, the loader has removed its files before
 *
 * The process writes ID.tar.part and renames it when it is complete. Files may be large, so the loader alone removes
 * them, without the lock. */
#include "jobs/archive.h"

#include "log.h"
#include "pool.h"
#include "process/task.h"
#include "wasd/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARCHIVE_NICE = 10, KEPT_MAX = 16 };
enum state { WAITING, RUNNING, ENDED };

struct archive {
	struct archive *next;
	struct archives *g;
	char id[40];
	const char *const *ids; /* of the checkpoints, in record; immutable */
	int n;
	/* with lock */
	enum state state;
	bool dropped;  /* deleted while it ran: it ends without a file */
	cJSON *record; /* what was asked for, and at the end what came of it; its checkpoints are immutable */
	int64_t done, of, used_us;
	char sha256[WASD_SHA256_HEX];
	int64_t bytes;
	/* [S] */
	struct task task;
	bool reading, over; /* over: the process ended while a checkpoint was read */
	struct wasd_err err;
	/* [S], or the loader's while it reads a checkpoint */
	struct pool_job job;
	struct sup_post post;
	int index, fd;
	int64_t planned; /* the size of the whole */
	bool checked;    /* whether there is room for that */
	cJSON *given;
	struct wasd_err why; /* it cannot be read */
};

struct archives {
	struct archives_config cfg;
	char *dir;
	struct pool *loader;
	struct sup_post poke;
	pthread_mutex_t lock;
	struct archive *list; /* oldest first */
	bool poked;           /* with lock */
	/* [S] */
	struct archive *current;
	bool stopping;
};

/* ---- the files -------------------------------------------------------------------------------------------------- */

static char *path_of(const struct archive *a, const char *end)
{
	return wasd_asprintf("%s/%s.tar%s", a->g->dir, a->id, end);
}

static void remove_file(const struct archive *a, const char *end)
{
	char *path = path_of(a, end);
	if (path)
		unlink(path);
	wasd_free(path);
}

static void remove_files(const struct archive *a)
{
	remove_file(a, "");
	remove_file(a, ".part");
}

/* With its file. */
static void archive_free(struct archive *a)
{
	if (!a)
		return;
	if (a->state != WAITING)
		remove_files(a);
	if (a->fd >= 0)
		close(a->fd);
	task_done(&a->task);
	cJSON_Delete(a->given);
	cJSON_Delete(a->record);
	wasd_free((void *)(uintptr_t)a->ids);
	wasd_free(a);
}

/* ---- the list; with lock ---------------------------------------------------------------------------------------- */

static struct archive **find(struct archives *g, const char *id)
{
	struct archive **at = &g->list;
	while (*at && strcmp((*at)->id, id))
		at = &(*at)->next;
	return at;
}

/* Moves it to the list `out`, for discard(). */
static void unlist(struct archive *a, struct archive **out)
{
	struct archive **at = find(a->g, a->id);
	*at = a->next;
	a->next = *out;
	*out = a;
}

static void free_job(struct pool_job *job)
{
	archive_free((struct archive *)((char *)job - offsetof(struct archive, job)));
}

/* Without lock; none of them runs. */
static void discard(struct archive *list)
{
	for (struct archive *next; list; list = next) {
		next = list->next;
		list->job.run = free_job;
		pool_submit(list->g->loader, &list->job);
	}
}

/* ---- the end; [S] ----------------------------------------------------------------------------------------------- */

static void launch_next(struct archives *g);

static enum wasd_status put_event(struct storage *db, void *ctx, struct wasd_err *err)
{
	return storage_event_add(db, "checkpoints", "checkpoint.archive", ctx, "{}", NULL, err);
}

static void event_put(void *ctx, enum wasd_status status, const struct wasd_err *err)
{
	(void)status, (void)err;
	wasd_free(ctx);
}

/* With lock. False: no memory. */
static bool put_result(struct archive *a, const cJSON *said)
{
	const char *sha = "";
	wasd_json_i64(said, "bytes", &a->bytes);
	wasd_json_str(said, "sha256", &sha);
	snprintf(a->sha256, sizeof a->sha256, "%s", sha);
	return wasd_json_put(a->record, "files", cJSON_Duplicate(wasd_json_get(said, "files"), true)) &&
	       wasd_json_put(a->record, "bytes", cJSON_CreateNumber((double)a->bytes)) &&
	       wasd_json_put(a->record, "sha256", cJSON_CreateString(sha));
}

static void ended(void *ctx)
{
	struct archive *a = ctx, *gone = NULL;
	struct archives *g = a->g;
	char *id = wasd_strdup(a->id);
	g->current = NULL;
	pthread_mutex_lock(&g->lock);
	wasd_json_put(a->record, "finished_at", cJSON_CreateNumber((double)wasd_now_ms()));
	wasd_json_put(a->record, "state", cJSON_CreateString(a->err.status ? "failed" : "ready"));
	if (a->err.status) {
		wasd_json_put(a->record, "message", cJSON_CreateString(a->err.msg));
		wasd_json_put(a->record, "pointer", cJSON_CreateString(a->err.pointer));
	}
	a->used_us = wasd_mono_us();
	a->state = ENDED;
	if (a->dropped)
		unlist(a, &gone);
	else if (a->err.status)
		log_about(a->id, LOG_WARN, "archive failed", "archive=%s why=%s", a->id, LOG_Q(a->err.msg));
	else
		log_about(a->id, LOG_INFO, "archive ready", "archive=%s bytes=%lld", a->id, (long long)a->bytes);
	pthread_mutex_unlock(&g->lock);
	discard(gone);
	if (id)
		storage_tx_async(g->cfg.db, put_event, id, event_put);
	launch_next(g);
}

/* Loader */
static void clean(struct pool_job *job)
{
	struct archive *a = (struct archive *)((char *)job - offsetof(struct archive, job));
	remove_files(a);
	a->post = (struct sup_post){.fn = ended, .ctx = a};
	supervisor_post(a->g->cfg.sup, &a->post);
}

static void end_archive(struct archive *a)
{
	struct archives *g = a->g;
	pthread_mutex_lock(&g->lock);
	if (!a->err.status && !put_result(a, a->task.end.said))
		wasd_fail(&a->err, WASD_ENOMEM, "no memory for an archive");
	const bool kept = !a->err.status && !a->dropped;
	pthread_mutex_unlock(&g->lock);
	if (kept) {
		ended(a);
		return;
	}
	a->job.run = clean;
	pool_submit(g->loader, &a->job);
}

/* ---- one checkpoint --------------------------------------------------------------------------------------------- */

/* The message that gives it, and its bytes. Loader. */
static enum wasd_status read_checkpoint(struct archive *a, struct wasd_err *err)
{
	struct storage *db = a->g->cfg.db;
	struct storage_ckpt k = {0};
	char sha[WASD_SHA256_HEX];
	int64_t bytes = 0;
	enum wasd_status s = storage_ckpt_get(db, a->ids[a->index], &k, err);
	if (s)
		return s;
	cJSON *metrics = k.metrics ? cJSON_Parse(k.metrics) : cJSON_CreateObject();
	s = storage_ckpt_memfd(db, k.id, &a->fd, &bytes, sha, err);
	if (!s) {
		a->given = wasd_message("given", "bytes:i sha256:s checkpoint:s job:?s metrics:j", bytes, sha, k.id, k.job,
		                        metrics);
		metrics = NULL;
		if (!a->given)
			s = wasd_fail(err, WASD_ENOMEM, "no memory for an archive");
	}
	cJSON_Delete(metrics);
	storage_ckpt_done(&k);
	return s;
}

static void given(void *ctx)
{
	struct archive *a = ctx;
	a->reading = false;
	if (a->over) {
		end_archive(a);
		return;
	}
	if (a->why.status) {
		a->err = a->why;
		task_kill(&a->task, "a checkpoint cannot be read");
		return;
	}
	task_send_file(&a->task, a->given, a->fd, "cannot send it a checkpoint");
	a->given = NULL;
	a->fd = -1;
}

static void load(struct pool_job *job)
{
	struct archive *a = (struct archive *)((char *)job - offsetof(struct archive, job));
	struct wasd_err err = {0};
	char at[40];
	snprintf(at, sizeof at, "/checkpoints/%d", a->index);
	if (storage_space(a->g->cfg.db, a->checked ? 0 : (uint64_t)a->planned, &err))
		wasd_fail(&a->why, err.status, "%s", err.msg);
	else if (read_checkpoint(a, &err))
		wasd_fail_at(&a->why, err.status, at, "%s: %.60s: %.200s", at, a->ids[a->index], err.msg);
	a->checked = a->planned > 0;
	a->post = (struct sup_post){.fn = given, .ctx = a};
	supervisor_post(a->g->cfg.sup, &a->post);
}

/* ---- the process; [S] ------------------------------------------------------------------------------------------- */

static enum wasd_status on_progress(void *self, struct wasd_frame *f, struct wasd_err *err)
{
	struct archive *a = self;
	(void)err;
	pthread_mutex_lock(&a->g->lock);
	wasd_json_i64(f->json, "done", &a->done);
	wasd_json_i64(f->json, "of", &a->of);
	pthread_mutex_unlock(&a->g->lock);
	return WASD_OK;
}

static enum wasd_status on_need(void *self, struct wasd_frame *f, struct wasd_err *err)
{
	struct archive *a = self;
	int64_t index = 0;
	wasd_json_i64(f->json, "index", &index);
	wasd_json_i64(f->json, "bytes", &a->planned);
	if (a->reading || index >= a->n)
		return wasd_fail(err, WASD_ECORRUPT, "need: checkpoint %lld of %d", (long long)index, a->n);
	a->reading = true;
	a->index = (int)index;
	a->job.run = load;
	pool_submit(a->g->loader, &a->job);
	return WASD_OK;
}

static void task_over(void *self, const struct task_end *end)
{
	struct archive *a = self;
	const char *message = "it gave no reason", *pointer = "";
	if (a->err.status) {
		/* why it was killed */
	} else if (end->outcome == TASK_ENDED_FAILED) {
		wasd_json_str(end->said, "message", &message);
		wasd_json_str(end->said, "pointer", &pointer);
		wasd_fail_at(&a->err, WASD_EINVAL, pointer, "%s", message);
	} else if (end->outcome != TASK_ENDED_DONE) {
		wasd_fail(&a->err, WASD_EINTERNAL, "the process ended early: %.100s %.100s", end->how.reason, end->how.tail);
	}
	a->over = a->reading;
	if (!a->over)
		end_archive(a);
}

static const struct task_message archive_messages[] = {
	{.type = "log"},
	{.type = "progress", .take = on_progress, .from = TASK_TOLD},
	{.type = "need", .take = on_need, .from = TASK_TOLD},
	{.type = "archived", .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind archive_kind = {
	.role = WASD_ROLE_PROFILE,
	.let_go = true,
	.messages = archive_messages,
	.ended = task_over,
};

static void launch(struct archive *a)
{
	struct archives *g = a->g;
	char *out = path_of(a, "");
	cJSON *request = cJSON_Duplicate(wasd_json_get(a->record, "request"), true);
	task_init(&a->task, g->cfg.sup, &archive_kind, a);
	if (!out || !request)
		wasd_fail(&a->err, WASD_ENOMEM, "no memory for an archive");
	if (a->err.status || task_launch(&a->task, &a->err) != WASD_OK) {
		cJSON_Delete(request);
		end_archive(a);
	} else {
		log_about(a->id, LOG_INFO, "archive started", "archive=%s checkpoints=%d", a->id, a->n);
		task_start(&a->task,
		           wasd_message("archive", "n:i out:s threads:i nice:i request:j", (int64_t)a->n, out,
		                        (int64_t)g->cfg.threads, (int64_t)ARCHIVE_NICE, request),
		           -1);
	}
	wasd_free(out);
}

static void launch_next(struct archives *g)
{
	if (g->current || g->stopping)
		return;
	pthread_mutex_lock(&g->lock);
	struct archive *a = g->list;
	while (a && a->state != WAITING)
		a = a->next;
	if (a)
		a->state = RUNNING;
	pthread_mutex_unlock(&g->lock);
	g->current = a;
	if (a)
		launch(a);
}

static void on_poke(void *ctx)
{
	struct archives *g = ctx;
	pthread_mutex_lock(&g->lock);
	g->poked = false;
	pthread_mutex_unlock(&g->lock);
	launch_next(g);
}

static void archives_tick(void *ctx)
{
	struct archives *g = ctx;
	struct archive *gone = NULL;
	const int64_t before_us = wasd_mono_us() - g->cfg.idle_ms * 1000;
	pthread_mutex_lock(&g->lock);
	for (struct archive *a = g->list, *next; a; a = next) {
		next = a->next;
		if (a->state == ENDED && a->used_us < before_us)
			unlist(a, &gone);
	}
	pthread_mutex_unlock(&g->lock);
	discard(gone);
}

static void kill_dropped(void *ctx)
{
	struct archives *g = ctx;
	pthread_mutex_lock(&g->lock);
	bool dropped = g->current && g->current->dropped;
	pthread_mutex_unlock(&g->lock);
	if (dropped)
		task_kill(&g->current->task, "the archive was deleted");
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static bool list_ids(struct archive *a)
{
	const cJSON *id, *ids = wasd_json_get(a->record, "checkpoints");
	const char **list = wasd_calloc((size_t)cJSON_GetArraySize(ids), sizeof *list);
	a->ids = list;
	cJSON_ArrayForEach(id, ids)
		if (list)
			list[a->n++] = id->valuestring;
	return list;
}

/* With lock: whether `a` goes before `b`, both of which have ended: failed ones first, then by their last use. */
static bool goes_first(const struct archive *a, const struct archive *b)
{
	const bool failed = a->err.status != WASD_OK, other = b->err.status != WASD_OK;
	return failed == other ? a->used_us < b->used_us : failed;
}

/* With lock: makes room for one more; what goes is in `out`. */
static enum wasd_status admit(struct archives *g, struct archive **out, struct wasd_err *err)
{
	const int64_t before_us = wasd_mono_us() - g->cfg.keep_ms * 1000;
	struct archive *first = NULL;
	int n = 0;
	for (struct archive *a = g->list; a; a = a->next) {
		n++;
		if (a->state == ENDED && (a->err.status || a->used_us < before_us) && (!first || goes_first(a, first)))
			first = a;
	}
	if (n < KEPT_MAX)
		return WASD_OK;
	if (!first)
		return wasd_fail(err, WASD_EBUSY, "%d archives wait, or were asked for a moment ago", n);
	unlist(first, out);
	return WASD_OK;
}

static enum wasd_status begin(void *self, cJSON *record, char id[40], struct wasd_err *err)
{
	struct archives *g = self;
	struct archive *a = wasd_calloc(1, sizeof *a), *gone = NULL;
	bool poke = false;
	if (!a) {
		cJSON_Delete(record);
		return wasd_fail(err, WASD_ENOMEM, "no memory for an archive");
	}
	*a = (struct archive){.g = g, .fd = -1, .record = record};
	wasd_ulid("archive_", a->id);
	bool ok = list_ids(a) && wasd_json_put(record, "id", cJSON_CreateString(a->id)) &&
	          wasd_json_put(record, "created_at", cJSON_CreateNumber((double)wasd_now_ms()));
	enum wasd_status s = ok ? storage_space(g->cfg.db, 0, err) :
	                          wasd_fail(err, WASD_ENOMEM, "no memory for an archive");
	pthread_mutex_lock(&g->lock);
	if (!s)
		s = admit(g, &gone, err);
	if (!s) {
		memcpy(id, a->id, sizeof a->id);
		log_remember(id);
		*find(g, "") = a;
		a = NULL;
		poke = !g->poked;
		g->poked = true;
	}
	pthread_mutex_unlock(&g->lock);
	archive_free(a);
	discard(gone);
	if (poke)
		supervisor_post(g->cfg.sup, &g->poke);
	return s;
}

/* With lock: a copy, with the state and the progress of one that has not ended. */
static cJSON *show(struct archive *a)
{
	static const char *const names[] = {[WAITING] = "queued", [RUNNING] = "running"};
	cJSON *j = cJSON_Duplicate(a->record, true);
	bool ok = j && (a->state == ENDED || wasd_json_put(j, "state", cJSON_CreateString(names[a->state])));
	if (ok && a->state == RUNNING)
		ok = wasd_json_put(j, "progress", wasd_message(NULL, "done:i of:i", a->done, a->of));
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static enum wasd_status missing(const char *id, struct wasd_err *err)
{
	return wasd_fail(err, WASD_ENOTFOUND, "no archive %.60s", id);
}

static enum wasd_status get(void *self, const char *id, cJSON **out, struct wasd_err *err)
{
	struct archives *g = self;
	pthread_mutex_lock(&g->lock);
	struct archive *a = *find(g, id);
	bool there = a && !a->dropped;
	cJSON *j = there ? show(a) : NULL;
	if (there)
		a->used_us = wasd_mono_us();
	pthread_mutex_unlock(&g->lock);
	*out = j;
	return j ? WASD_OK : there ? wasd_fail(err, WASD_ENOMEM, "no memory for an archive") : missing(id, err);
}

/* Newest first. */
static cJSON *list(void *self)
{
	struct archives *g = self;
	cJSON *all = cJSON_CreateArray();
	pthread_mutex_lock(&g->lock);
	for (struct archive *a = g->list; a && all; a = a->next) {
		cJSON *j = a->dropped ? NULL : show(a);
		if (!a->dropped && (!j || !cJSON_InsertItemInArray(all, 0, j))) {
			cJSON_Delete(j);
			cJSON_Delete(all);
			all = NULL;
		}
	}
	pthread_mutex_unlock(&g->lock);
	return all;
}

static enum wasd_status open_file(void *self, const char *id, struct api_file *out, struct wasd_err *err)
{
	struct archives *g = self;
	struct stat st;
	enum wasd_status s = WASD_OK;
	pthread_mutex_lock(&g->lock);
	struct archive *a = *find(g, id);
	char *path = a && !a->dropped ? path_of(a, "") : NULL;
	if (!a || a->dropped)
		s = missing(id, err);
	else if (a->state != ENDED || a->err.status)
		s = wasd_fail(err, WASD_ESTATE, "archive %s %s", id, a->state == ENDED ? "has failed" : "is not ready");
	else if (!path)
		s = wasd_fail(err, WASD_ENOMEM, "no memory for an archive");
	if (!s) {
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		a->used_us = wasd_mono_us();
		if (fd < 0 || fstat(fd, &st))
			s = wasd_fail_errno(err, errno, "archive %s", id);
		else if (st.st_size != a->bytes)
			s = wasd_fail(err, WASD_ECORRUPT, "archive %s has %lld bytes, %lld were written", id, (long long)st.st_size,
			              (long long)a->bytes);
		if (s && fd >= 0)
			close(fd);
		*out = (struct api_file){.fd = s ? -1 : fd, .bytes = a->bytes};
		memcpy(out->sha256, a->sha256, sizeof out->sha256);
	}
	pthread_mutex_unlock(&g->lock);
	wasd_free(path);
	return s;
}

static enum wasd_status forget(void *self, const char *id, struct wasd_err *err)
{
	struct archives *g = self;
	pthread_mutex_lock(&g->lock);
	struct archive *a = *find(g, id), *gone = NULL;
	enum wasd_status s = a && !a->dropped ? WASD_OK : missing(id, err);
	bool runs = !s && a->state == RUNNING;
	if (runs)
		a->dropped = true;
	if (!s && !runs)
		unlist(a, &gone);
	pthread_mutex_unlock(&g->lock);
	discard(gone);
	if (runs)
		supervisor_call(g->cfg.sup, kill_dropped, g);
	return s;
}

struct api_records archives_api(struct archives *g)
{
	return (
		struct api_records){.self = g, .begin = begin, .get = get, .list = list, .open = open_file, .forget = forget};
}

static bool needs(void *ctx, const char *checkpoint, char by[64])
{
	struct archives *g = ctx;
	bool found = false;
	pthread_mutex_lock(&g->lock);
	for (const struct archive *a = g->list; a && !found; a = a->next) {
		for (int i = 0; i < a->n && a->state != ENDED && !a->dropped && !found; i++)
			found = !strcmp(a->ids[i], checkpoint);
		if (found)
			snprintf(by, 64, "archive %s", a->id);
	}
	pthread_mutex_unlock(&g->lock);
	return found;
}

/* ---- start and end ---------------------------------------------------------------------------------------------- */

static void do_register(void *ctx)
{
	struct archives *g = ctx;
	supervisor_every(g->cfg.sup, archives_tick, g);
}

enum wasd_status archives_create(const struct archives_config *cfg, struct archives **out, struct wasd_err *err)
{
	struct archives *g = wasd_calloc(1, sizeof *g);
	if (!g)
		return wasd_fail(err, WASD_ENOMEM, "no memory for archives");
	g->cfg = *cfg;
	g->poke = (struct sup_post){.fn = on_poke, .ctx = g};
	pthread_mutex_init(&g->lock, NULL);
	g->dir = wasd_asprintf("%s/exports", cfg->data_dir);
	enum wasd_status s = g->dir ? wasd_mkdirs(g->dir, err) : wasd_fail(err, WASD_ENOMEM, "no memory for archives");
	if (!s)
		s = pool_create("archive-load", 1, 4, &g->loader, err);
	if (s) {
		archives_destroy(g);
		return s;
	}
	storage_hold(cfg->db, &(struct storage_holder){.checkpoint = needs, .ctx = g});
	supervisor_call(cfg->sup, do_register, g);
	*out = g;
	return WASD_OK;
}

static void do_stop(void *ctx)
{
	struct archives *g = ctx;
	g->stopping = true;
	if (g->current)
		task_kill(&g->current->task, "the daemon is stopping");
}

void archives_stop(struct archives *g)
{
	if (g)
		supervisor_call(g->cfg.sup, do_stop, g);
}

void archives_destroy(struct archives *g)
{
	if (!g)
		return;
	pool_destroy(g->loader);
	storage_unhold(g->cfg.db, g);
	for (struct archive *a = g->list, *next; a; a = next) {
		next = a->next;
		archive_free(a);
	}
	pthread_mutex_destroy(&g->lock);
	wasd_free(g->dir);
	wasd_free(g);
}
