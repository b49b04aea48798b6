/* merge.c - see merge.h.
 *
 *   asked for, its file written -> WAITING -> LOADING, its checkpoints are read (loader) -> RUNNING, a task
 *   (process/task.h) -> STORING, its checkpoint, then its file (loader) -> ENDED
 *
 * All decisions are made from the files: a merge whose file has no "state" has not ended. When the daemon stops, the
 * file stays as it is. What cannot be stored at the end for lack of room or memory is tried again. */
#include "jobs/merge.h"

#include "jobs/scheduler.h"
#include "log.h"
#include "pool.h"
#include "process/task.h"
#include "wasd/protocol.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* FILE_MAX: above what a message of the engine and a request can hold, unless printing them anew makes them longer. */
enum { MERGE_NICE = 10, KEPT_MAX = 100, WAITING_MAX = 16, FILE_MAX = 4 << 20, AGAIN_MS = 1000 };
enum state { WAITING, LOADING, RUNNING, STORING, ENDED };

struct merge {
	struct merge *next;
	struct merges *g;
	char id[40];
	/* with lock */
	enum state state;
	bool dropped;  /* deleted while it ran: it ends without a file */
	bool held;     /* from LOADING until the loader and [S] have let go of it: only `ended` frees it */
	cJSON *record; /* the file */
	int64_t done, of;
	/* the loader's, or [S] */
	struct pool_job job;
	struct sup_post post;
	int fd;
	int64_t bytes, more; /* of the first checkpoint, and of the others */
	char sha[WASD_SHA256_HEX];
	cJSON *list; /* [{"checkpoint","bytes"}] */
	char *path;  /* of the dataset; "" if there is none */
	struct wasd_err err;
	struct task task;
	const void *file; /* the merged checkpoint */
	size_t file_bytes;
	char made[32];    /* the id of the stored checkpoint; "": not stored */
	int64_t again_us; /* when to try again to store how it ended; 0: it has not failed */
};

struct merges {
	struct merges_config cfg;
	char *dir;
	struct pool *loader;
	struct sup_post poke;
	pthread_mutex_t lock;
	struct merge *list; /* oldest first */
	bool poked;         /* with lock */
	/* [S] */
	struct merge *current;
	bool stopping;
};

/* Lets go of what a merge needs only while it runs. */
static void release(struct merge *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
	if (m->file)
		wasd_memfd_unmap(m->file, m->file_bytes);
	m->file = NULL;
	cJSON_Delete(m->list);
	m->list = NULL;
	wasd_free(m->path);
	m->path = NULL;
	task_done(&m->task);
	m->task = (struct task){0};
}

static void merge_free(struct merge *m)
{
	if (!m)
		return;
	release(m);
	cJSON_Delete(m->record);
	wasd_free(m);
}

/* ---- the file; with lock ---------------------------------------------------------------------------------------- */

static enum wasd_status write_record(const struct merge *m, const cJSON *record, struct wasd_err *err)
{
	char *path = wasd_asprintf("%s/%s.json", m->g->dir, m->id), *text = wasd_json_print(record);
	enum wasd_status s = WASD_OK;
	if (!path || !text)
		s = wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	else if (strlen(text) > FILE_MAX)
		s = wasd_fail(err, WASD_ETOOBIG, "the merge's file would have %zu bytes, the limit is %d", strlen(text),
		              FILE_MAX);
	else
		s = wasd_file_write_atomic(path, text, strlen(text), err);
	wasd_free(path);
	wasd_free(text);
	return s;
}

/* A file that is not there is fine. */
static enum wasd_status remove_record(const struct merge *m, struct wasd_err *err)
{
	char *path = wasd_asprintf("%s/%s.json", m->g->dir, m->id);
	enum wasd_status s = WASD_OK;
	if (!path)
		s = wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	else if (unlink(path) && errno != ENOENT)
		s = wasd_fail_errno(err, errno, "%s", path);
	else
		s = wasd_fsync_dir(m->g->dir, err);
	wasd_free(path);
	return s;
}

static struct merge **find(struct merges *g, const char *id)
{
	struct merge **at = &g->list;
	while (*at && strcmp((*at)->id, id))
		at = &(*at)->next;
	return at;
}

static void unlist(struct merge *m)
{
	struct merge **at = find(m->g, m->id);
	*at = m->next;
}

/* The oldest that have ended make room. */
static void trim(struct merges *g)
{
	int n = 0;
	for (struct merge *m = g->list; m; m = m->next)
		n++;
	for (struct merge **at = &g->list; *at && n >= KEPT_MAX;) {
		struct merge *m = *at;
		if (m->held || m->state != ENDED || remove_record(m, NULL)) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		merge_free(m);
		n--;
	}
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void launch_next(struct merges *g);

/* Stores the checkpoint, once. */
static enum wasd_status store(struct merge *m, struct wasd_err *err)
{
	if (m->made[0])
		return WASD_OK;
	const char *sha = "";
	wasd_json_str(m->task.end.said, "sha256", &sha);
	char *info = wasd_json_print(wasd_json_get(m->task.end.said, "info")),
		 *metrics = wasd_json_print(wasd_json_get(m->task.end.said, "metrics"));
	struct storage_ckpt_in in = {.data = m->file,
	                             .bytes = m->file_bytes,
	                             .sha256 = sha,
	                             .reason = "merge",
	                             .info = info,
	                             .metrics_json = metrics};
	enum wasd_status s = info && metrics ? storage_ckpt_store(m->g->cfg.db, &in, m->made, err) :
	                                       wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	wasd_free(info);
	wasd_free(metrics);
	return s;
}

/* What the file says about the end. NULL: no memory. */
static cJSON *end_record(const struct merge *m)
{
	cJSON *r = cJSON_Duplicate(m->record, true);
	const cJSON *said = m->task.end.said;
	bool failed = m->err.status != WASD_OK;
	bool ok = r && wasd_json_put(r, "state", cJSON_CreateString(failed ? "failed" : "ready")) &&
	          wasd_json_put(r, "finished_at", cJSON_CreateNumber((double)wasd_now_ms()));
	if (failed)
		ok = ok && wasd_json_put(r, "message", cJSON_CreateString(m->err.msg)) &&
		     wasd_json_put(r, "pointer", cJSON_CreateString(m->err.pointer));
	else
		ok = ok && wasd_json_put(r, "checkpoint", cJSON_CreateString(m->made)) &&
		     wasd_json_put(r, "metrics", cJSON_Duplicate(wasd_json_get(said, "metrics"), true)) &&
		     wasd_json_put(r, "merge", cJSON_Duplicate(wasd_json_get(wasd_json_get(said, "info"), "merge"), true));
	if (ok)
		return r;
	cJSON_Delete(r);
	return NULL;
}

/* With lock: the file, then the record in memory. */
static enum wasd_status write_end(struct merge *m, struct wasd_err *err)
{
	cJSON *r = end_record(m);
	enum wasd_status s = r ? write_record(m, r, err) : wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	if (s) {
		cJSON_Delete(r);
		return s;
	}
	cJSON_Delete(m->record);
	m->record = r;
	m->state = ENDED;
	return WASD_OK;
}

static void tell_end(struct merge *m)
{
	cJSON *data = wasd_message(NULL, "state:s checkpoint:s", m->err.status ? "failed" : "ready", m->made);
	char *text = data ? wasd_json_print(data) : NULL;
	if (text)
		storage_event_add(m->g->cfg.db, "checkpoints", "checkpoint.merge", m->id, text, NULL, NULL);
	cJSON_Delete(data);
	wasd_free(text);
	if (m->err.status)
		log_about(m->id, LOG_WARN, "merge failed", "merge=%s why=%s", m->id, LOG_Q(m->err.msg));
	else
		log_about(m->id, LOG_INFO, "merge ready", "merge=%s checkpoint=%s bytes=%zu", m->id, m->made, m->file_bytes);
}

/* [S] */
static void ended(void *ctx)
{
	struct merge *m = ctx;
	struct merges *g = m->g;
	g->current = NULL;
	pthread_mutex_lock(&g->lock);
	release(m);
	m->held = false;
	const bool gone = m->dropped;
	if (gone)
		unlist(m);
	pthread_mutex_unlock(&g->lock);
	if (gone)
		merge_free(m);
	launch_next(g);
}

/* [S] */
static void not_yet(void *ctx)
{
	struct merge *m = ctx;
	m->again_us = wasd_mono_us() + AGAIN_MS * 1000ll;
}

static bool is_dropped(struct merge *m)
{
	pthread_mutex_lock(&m->g->lock);
	bool dropped = m->dropped;
	pthread_mutex_unlock(&m->g->lock);
	return dropped;
}

static bool may_pass(enum wasd_status s)
{
	return s == WASD_ENOMEM || s == WASD_EBUSY || s == WASD_EFULL;
}

/* Stores the checkpoint, then the file. A kill in between repeats the merge, which finds its checkpoint stored. False:
 * to be tried again. */
static bool settle(struct merge *m)
{
	struct wasd_err err = {0};
	enum wasd_status s = m->err.status ? WASD_OK : store(m, &err);
	if (s && !may_pass(s))
		m->err = err;
	if (!may_pass(s)) {
		pthread_mutex_lock(&m->g->lock);
		s = m->dropped ? WASD_OK : write_end(m, &err);
		pthread_mutex_unlock(&m->g->lock);
	}
	if (s == WASD_ETOOBIG)
		m->err = err; /* the file says so the next time */
	if (s && !m->again_us)
		log_about(m->id, LOG_WARN, "cannot store how a merge ended yet", "merge=%s why=%s", m->id, LOG_Q(err.msg));
	return !s;
}

/* Loader */
static void finish(struct pool_job *job)
{
	struct merge *m = (struct merge *)((char *)job - offsetof(struct merge, job));
	bool over = is_dropped(m) || settle(m);
	if (over && !is_dropped(m))
		tell_end(m);
	m->post = (struct sup_post){.fn = over ? ended : not_yet, .ctx = m};
	supervisor_post(m->g->cfg.sup, &m->post);
}

static void set_state(struct merge *m, enum state state)
{
	pthread_mutex_lock(&m->g->lock);
	m->state = state;
	pthread_mutex_unlock(&m->g->lock);
}

/* [S] The process has ended, or there was none. When the daemon stops, the merge stays unfinished. */
static void conclude(struct merge *m)
{
	if (m->g->stopping)
		return;
	set_state(m, STORING);
	m->job.run = finish;
	pool_submit(m->g->loader, &m->job);
}

/* ---- the process; [S] ------------------------------------------------------------------------------------------- */

static enum wasd_status on_progress(void *self, struct wasd_frame *f, struct wasd_err *err)
{
	struct merge *m = self;
	int64_t done = 0, of = 0;
	if (!wasd_json_i64(f->json, "done", &done) || !wasd_json_i64(f->json, "of", &of) || of < done)
		return wasd_fail(err, WASD_ECORRUPT, "progress of %lld of %lld", (long long)done, (long long)of);
	pthread_mutex_lock(&m->g->lock);
	m->done = done;
	m->of = of;
	pthread_mutex_unlock(&m->g->lock);
	return WASD_OK;
}

static enum wasd_status on_merged(void *self, struct wasd_frame *f, struct wasd_err *err)
{
	struct merge *m = self;
	int64_t bytes = 0;
	const cJSON *info = wasd_json_get(f->json, "info");
	if (!cJSON_IsObject(wasd_json_get(info, "merge")) || !wasd_json_i64(f->json, "bytes", &bytes))
		return wasd_fail(err, WASD_ECORRUPT, "merged has no valid info");
	m->file_bytes = (size_t)bytes;
	return wasd_memfd_map(f->fd, m->file_bytes, &m->file, err);
}

static void task_over(void *self, const struct task_end *end)
{
	struct merge *m = self;
	const char *message = "it gave no reason", *pointer = "";
	if (end->outcome == TASK_ENDED_FAILED) {
		wasd_json_str(end->said, "message", &message);
		wasd_json_str(end->said, "pointer", &pointer);
		wasd_fail_at(&m->err, WASD_EINVAL, pointer, "%s", message);
	} else if (end->outcome != TASK_ENDED_DONE || !m->file) {
		wasd_fail(&m->err, WASD_EINTERNAL, "the process ended early: %.100s %.100s", end->how.reason, end->how.tail);
	}
	conclude(m);
}

static const struct task_message merge_messages[] = {
	{.type = "log"},
	{.type = "progress", .take = on_progress, .from = TASK_TOLD},
	{.type = "merged", .take = on_merged, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind merge_kind = {
	.role = WASD_ROLE_PROFILE,
	.let_go = true,
	.messages = merge_messages,
	.ended = task_over,
};

static void loaded(void *ctx)
{
	struct merge *m = ctx;
	pthread_mutex_lock(&m->g->lock);
	bool dropped = m->dropped;
	m->state = RUNNING;
	cJSON *request = cJSON_Duplicate(wasd_json_get(m->record, "request"), true);
	pthread_mutex_unlock(&m->g->lock);
	if (dropped && !m->err.status)
		wasd_fail(&m->err, WASD_ECANCELLED, "deleted");
	task_init(&m->task, m->g->cfg.sup, &merge_kind, m);
	if (m->err.status || m->g->stopping || task_launch(&m->task, &m->err) != WASD_OK) {
		cJSON_Delete(request);
		conclude(m);
		return;
	}
	task_start(&m->task,
	           wasd_message("merge",
	                        "bytes:i sha256:s profile_bytes:i dataset:s threads:i nice:i checkpoints:j request:j",
	                        m->bytes, m->sha, m->more, m->path, (int64_t)m->g->cfg.threads, (int64_t)MERGE_NICE,
	                        m->list, request),
	           m->fd);
	m->list = NULL;
	m->fd = -1;
}

/* ---- the files of a merge; on the loader's thread --------------------------------------------------------------- */

struct parts {
	int n, fd[WASD_MERGE_MAX];
	struct iovec at[WASD_MERGE_MAX];
};

static enum wasd_status add_part(struct merge *m, const char *checkpoint, struct parts *p, struct wasd_err *err)
{
	char sha[WASD_SHA256_HEX];
	int64_t bytes = 0;
	const void *data = NULL;
	int k = p->n;
	enum wasd_status s = storage_ckpt_memfd(m->g->cfg.db, checkpoint, &p->fd[k], &bytes, k ? sha : m->sha, err);
	if (s)
		return s;
	p->n++;
	p->at[k] = (struct iovec){NULL, (size_t)bytes};
	if ((s = wasd_memfd_map(p->fd[k], (size_t)bytes, &data, err)))
		return s;
	p->at[k].iov_base = (void *)(uintptr_t)data;
	*(k ? &m->more : &m->bytes) += bytes;
	bool ok = wasd_json_push(m->list, wasd_message(NULL, "checkpoint:s bytes:i", checkpoint, bytes));
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
}

static void parts_done(struct parts *p)
{
	for (int i = 0; i < p->n; i++) {
		if (p->at[i].iov_base)
			wasd_memfd_unmap(p->at[i].iov_base, p->at[i].iov_len);
		close(p->fd[i]);
	}
}

static enum wasd_status load_checkpoints(struct merge *m, const cJSON *ids, struct wasd_err *err)
{
	struct parts p = {0};
	const cJSON *id;
	enum wasd_status s = (m->list = cJSON_CreateArray()) ? WASD_OK :
	                                                       wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	cJSON_ArrayForEach(id, ids)
		if (!s && p.n < WASD_MERGE_MAX && cJSON_IsString(id))
			s = add_part(m, id->valuestring, &p, err);
	if (!s)
		s = wasd_memfd_gather("wasd-merge", p.at, p.n, &m->fd, err);
	parts_done(&p);
	return s;
}

static enum wasd_status load_dataset(struct merge *m, const cJSON *dataset, struct wasd_err *err)
{
	const char *name = NULL;
	int64_t version = 0;
	bool wait = false;
	if (!wasd_json_str(dataset, "name", &name))
		return (m->path = wasd_strdup("")) ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	wasd_json_i64(dataset, "version", &version);
	enum wasd_status s = dataset_file(m->g->cfg.db, m->g->cfg.data_dir, name, version, &m->path, &wait, err);
	return !s && wait ? wasd_fail(err, WASD_ESTATE, "data set %s is still being scanned", name) : s;
}

static void load(struct pool_job *job)
{
	struct merge *m = (struct merge *)((char *)job - offsetof(struct merge, job));
	pthread_mutex_lock(&m->g->lock);
	cJSON *record = cJSON_Duplicate(m->record, true);
	pthread_mutex_unlock(&m->g->lock);
	enum wasd_status s = record ? load_dataset(m, wasd_json_get(record, "dataset"), &m->err) :
	                              wasd_fail(&m->err, WASD_ENOMEM, "no memory for a merge");
	if (!s)
		load_checkpoints(m, wasd_json_get(record, "checkpoints"), &m->err);
	cJSON_Delete(record);
	m->post = (struct sup_post){.fn = loaded, .ctx = m};
	supervisor_post(m->g->cfg.sup, &m->post);
}

/* ---- one after the other; [S] ----------------------------------------------------------------------------------- */

static void launch_next(struct merges *g)
{
	if (g->current || g->stopping)
		return;
	pthread_mutex_lock(&g->lock);
	struct merge *m = g->list;
	while (m && m->state != WAITING)
		m = m->next;
	if (m) {
		m->state = LOADING;
		m->held = true;
	}
	pthread_mutex_unlock(&g->lock);
	if (!m)
		return;
	g->current = m;
	log_about(m->id, LOG_INFO, "merge started", "merge=%s", m->id);
	m->job.run = load;
	pool_submit(g->loader, &m->job);
}

static void on_poke(void *ctx)
{
	struct merges *g = ctx;
	pthread_mutex_lock(&g->lock);
	g->poked = false;
	pthread_mutex_unlock(&g->lock);
	launch_next(g);
}

void merges_poke(struct merges *g)
{
	pthread_mutex_lock(&g->lock);
	bool post = !g->poked;
	g->poked = true;
	pthread_mutex_unlock(&g->lock);
	if (post)
		supervisor_post(g->cfg.sup, &g->poke);
}

static void merges_tick(void *ctx)
{
	struct merges *g = ctx;
	struct merge *m = g->current;
	if (!m || !m->again_us || wasd_mono_us() < m->again_us)
		return;
	m->again_us = INT64_MAX;
	conclude(m);
}

static bool has_task(struct merges *g, bool dropped)
{
	pthread_mutex_lock(&g->lock);
	bool has = g->current && g->current->state == RUNNING && (g->current->dropped || !dropped);
	pthread_mutex_unlock(&g->lock);
	return has;
}

static void kill_dropped(void *ctx)
{
	struct merges *g = ctx;
	if (has_task(g, true))
		task_kill(&g->current->task, "the merge was deleted");
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static enum wasd_status begin(void *self, cJSON *record, char id[40], struct wasd_err *err)
{
	struct merges *g = self;
	struct merge *m = wasd_calloc(1, sizeof *m);
	enum wasd_status s = WASD_OK;
	int waiting = 0;
	if (!m) {
		cJSON_Delete(record);
		return wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	}
	*m = (struct merge){.g = g, .fd = -1, .record = record};
	wasd_ulid("merge_", m->id);
	pthread_mutex_lock(&g->lock);
	for (const struct merge *o = g->list; o; o = o->next)
		waiting += o->state != ENDED;
	if (waiting >= WAITING_MAX)
		s = wasd_fail(err, WASD_EBUSY, "%d merges wait", waiting);
	else if (!wasd_json_put(record, "id", cJSON_CreateString(m->id)) ||
	         !wasd_json_put(record, "created_at", cJSON_CreateNumber((double)wasd_now_ms())))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	else if ((s = write_record(m, record, err)))
		remove_record(m, NULL); /* it may have its name already */
	if (!s) {
		trim(g);
		memcpy(id, m->id, sizeof m->id);
		log_remember(id);
		*find(g, "") = m;
		m = NULL;
	}
	pthread_mutex_unlock(&g->lock);
	merge_free(m);
	if (!s)
		merges_poke(g);
	return s;
}

/* A copy of the file, with the state and the progress of a merge that has not ended. */
static cJSON *show(const struct merge *m)
{
	cJSON *j = cJSON_Duplicate(m->record, true);
	bool running = m->state == RUNNING || m->state == STORING;
	bool ok = m->state == ENDED || (j && wasd_json_put(j, "state", cJSON_CreateString(running ? "running" : "queued")));
	if (ok && j && running)
		ok = wasd_json_put(j, "progress", wasd_message(NULL, "done:i of:i", m->done, m->of));
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static enum wasd_status get(void *self, const char *id, cJSON **out, struct wasd_err *err)
{
	struct merges *g = self;
	pthread_mutex_lock(&g->lock);
	const struct merge *m = *find(g, id);
	bool there = m && !m->dropped;
	cJSON *j = there ? show(m) : NULL;
	pthread_mutex_unlock(&g->lock);
	*out = j;
	return j     ? WASD_OK :
	       there ? wasd_fail(err, WASD_ENOMEM, "no memory for a merge") :
	               wasd_fail(err, WASD_ENOTFOUND, "no merge %.60s", id);
}

/* Newest first. */
static cJSON *list(void *self)
{
	struct merges *g = self;
	cJSON *all = cJSON_CreateArray();
	pthread_mutex_lock(&g->lock);
	for (const struct merge *m = g->list; m && all; m = m->next) {
		cJSON *j = m->dropped ? NULL : show(m);
		if (!m->dropped && (!j || !cJSON_InsertItemInArray(all, 0, j))) {
			cJSON_Delete(j);
			cJSON_Delete(all);
			all = NULL;
		}
	}
	pthread_mutex_unlock(&g->lock);
	return all;
}

static enum wasd_status forget(void *self, const char *id, struct wasd_err *err)
{
	struct merges *g = self;
	pthread_mutex_lock(&g->lock);
	struct merge *m = *find(g, id), *free_now = NULL;
	enum wasd_status s = m && !m->dropped ? remove_record(m, err) :
	                                        wasd_fail(err, WASD_ENOTFOUND, "no merge %.60s", id);
	bool held = !s && m->held;
	if (held)
		m->dropped = true;
	if (!s && !held) {
		unlist(m);
		free_now = m;
	}
	pthread_mutex_unlock(&g->lock);
	merge_free(free_now);
	if (held)
		supervisor_call(g->cfg.sup, kill_dropped, g);
	return s;
}

struct api_records merges_api(struct merges *g)
{
	return (struct api_records){.self = g, .begin = begin, .get = get, .list = list, .forget = forget};
}

/* A merge that has not ended needs its checkpoints, also after a restart. Nothing is asked of storage with lock. */
static bool needs(void *ctx, const char *checkpoint, char by[64])
{
	struct merges *g = ctx;
	bool found = false;
	pthread_mutex_lock(&g->lock);
	for (const struct merge *m = g->list; m && !found; m = m->next) {
		const cJSON *id, *ids = wasd_json_get(m->record, "checkpoints");
		if (m->state == ENDED || m->dropped)
			continue;
		cJSON_ArrayForEach(id, ids)
			found |= cJSON_IsString(id) && !strcmp(id->valuestring, checkpoint);
		if (found)
			snprintf(by, 64, "merge %s", m->id);
	}
	pthread_mutex_unlock(&g->lock);
	return found;
}

/* The data set that it measures on. */
static bool needs_dataset(void *ctx, const char *name, int64_t version, char by[64])
{
	struct merges *g = ctx;
	bool found = false;
	pthread_mutex_lock(&g->lock);
	for (const struct merge *m = g->list; m && !found; m = m->next) {
		const cJSON *d = wasd_json_get(m->record, "dataset");
		const char *its = NULL;
		int64_t n = 0;
		wasd_json_i64(d, "version", &n);
		found = m->state != ENDED && !m->dropped && wasd_json_str(d, "name", &its) && !strcmp(its, name) &&
		        (!version || n == version);
		if (found)
			snprintf(by, 64, "merge %s", m->id);
	}
	pthread_mutex_unlock(&g->lock);
	return found;
}

/* ---- start and end ---------------------------------------------------------------------------------------------- */

static enum wasd_status read_record(struct merges *g, const char *name, struct wasd_err *err)
{
	const struct wasd_json_limits limits = {FILE_MAX, WASD_JSON_BULK.depth, 2 * WASD_JSON_BULK.nodes};
	char *path = wasd_asprintf("%s/%s", g->dir, name), *text = NULL;
	size_t len = strlen(name), bytes = 0;
	const char *state;
	struct merge *m = wasd_calloc(1, sizeof *m);
	enum wasd_status s = path && m ? wasd_file_read(path, FILE_MAX, &text, &bytes, err) :
	                                 wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	if (m)
		*m = (struct merge){.g = g, .fd = -1};
	if (!s)
		s = wasd_json_parse(text, bytes, limits, &m->record, err);
	if (!s && !cJSON_IsObject(m->record))
		s = wasd_fail(err, WASD_ECORRUPT, "it is no merge");
	if (!s) {
		snprintf(m->id, sizeof m->id, "%.*s", (int)len - 5, name);
		m->state = wasd_json_str(m->record, "state", &state) ? ENDED : WAITING;
		*find(g, "") = m;
		m = NULL;
	}
	merge_free(m);
	wasd_free(text);
	wasd_free(path);
	return s;
}

static bool is_record(const struct merges *g, const char *name)
{
	size_t len = strlen(name);
	return len > 5 && len - 5 < sizeof g->list->id && !strcmp(name + len - 5, ".json");
}

/* What a kill left of wasd_file_write_atomic. */
static void remove_leftover(const struct merges *g, const char *name)
{
	char *path = strstr(name, ".json.tmp-") ? wasd_asprintf("%s/%s", g->dir, name) : NULL;
	if (path)
		unlink(path);
	wasd_free(path);
}

/* In the order of their ids, which is that of their time. A file that cannot be read stays. */
static enum wasd_status read_records(struct merges *g, struct wasd_err *err)
{
	struct dirent **names = NULL;
	enum wasd_status s = WASD_OK;
	int n = scandir(g->dir, &names, NULL, alphasort);
	if (n < 0)
		return wasd_fail_errno(err, errno, "%s", g->dir);
	for (int i = 0; i < n; i++) {
		struct wasd_err why = {0};
		const char *name = names[i]->d_name;
		if (!is_record(g, name))
			remove_leftover(g, name);
		else if (!s && read_record(g, name, &why) == WASD_ENOMEM)
			s = wasd_fail(err, WASD_ENOMEM, "%s/%s: %.200s", g->dir, name, why.msg);
		else if (why.status)
			log_line(LOG_ERROR, "cannot read a merge", "file=%s/%s why=%s", g->dir, name, LOG_Q(why.msg));
		free(names[i]);
	}
	free(names);
	return s;
}

static void do_register(void *ctx)
{
	struct merges *g = ctx;
	supervisor_every(g->cfg.sup, merges_tick, g);
}

enum wasd_status merges_create(const struct merges_config *cfg, struct merges **out, struct wasd_err *err)
{
	struct merges *g = wasd_calloc(1, sizeof *g);
	if (!g)
		return wasd_fail(err, WASD_ENOMEM, "no memory for merges");
	g->cfg = *cfg;
	g->poke = (struct sup_post){.fn = on_poke, .ctx = g};
	pthread_mutex_init(&g->lock, NULL);
	g->dir = wasd_asprintf("%s/merges", cfg->data_dir);
	enum wasd_status s = g->dir ? wasd_mkdirs(g->dir, err) : wasd_fail(err, WASD_ENOMEM, "no memory for merges");
	if (!s)
		s = read_records(g, err);
	if (!s)
		s = pool_create("merge-load", 1, 4, &g->loader, err);
	if (s) {
		merges_destroy(g);
		return s;
	}
	storage_hold(cfg->db, &(struct storage_holder){.checkpoint = needs, .dataset = needs_dataset, .ctx = g});
	supervisor_call(cfg->sup, do_register, g);
	*out = g;
	return WASD_OK;
}

static void do_stop(void *ctx)
{
	struct merges *g = ctx;
	g->stopping = true;
	if (has_task(g, false))
		task_kill(&g->current->task, "the daemon is stopping");
}

void merges_stop(struct merges *g)
{
	if (g)
		supervisor_call(g->cfg.sup, do_stop, g);
}

void merges_destroy(struct merges *g)
{
	if (!g)
		return;
	pool_destroy(g->loader);
	storage_unhold(g->cfg.db, g);
	for (struct merge *m = g->list, *next; m; m = next) {
		next = m->next;
		merge_free(m);
	}
	pthread_mutex_destroy(&g->lock);
	wasd_free(g->dir);
	wasd_free(g);
}
