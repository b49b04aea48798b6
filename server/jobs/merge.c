/* merge.c - see merge.h.
 *
 *   asked for, its file written -> WAITING -> LOADING, its checkpoints are read (loader) -> RUNNING, a task
 *   (process/task.h) -> STORING, its checkpoint, then its file (loader) -> ENDED
 *
 * All decisions are made from the files: a merge whose file has no "state" has not ended. When the daemon stops, the
 * file stays as it is. */
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

enum { MERGE_NICE = 10, KEPT_MAX = 100, WAITING_MAX = 16, FILE_MAX = 1 << 20 };
enum state { WAITING, LOADING, RUNNING, STORING, ENDED };

struct merge {
	struct merge *next;
	struct merges *g;
	char id[40];
	/* with lock */
	enum state state;
	bool dropped;  /* deleted while it ran: it ends without a file */
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

static enum wasd_status write_record(const struct merge *m, struct wasd_err *err)
{
	char *path = wasd_asprintf("%s/%s.json", m->g->dir, m->id), *text = wasd_json_print(m->record);
	enum wasd_status s = path && text ? wasd_file_write_atomic(path, text, strlen(text), err) :
	                                    wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	wasd_free(path);
	wasd_free(text);
	return s;
}

static void remove_record(const struct merge *m)
{
	char *path = wasd_asprintf("%s/%s.json", m->g->dir, m->id);
	if (path && unlink(path) && errno != ENOENT)
		log_line(LOG_WARN, "cannot remove a merge's file", "merge=%s", m->id);
	wasd_free(path);
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
		if (m->state != ENDED) {
			at = &m->next;
			continue;
		}
		remove_record(m);
		*at = m->next;
		merge_free(m);
		n--;
	}
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void launch_next(struct merges *g);

static bool put(cJSON *j, const char *key, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(j, key);
	if (v && cJSON_AddItemToObject(j, key, v))
		return true;
	cJSON_Delete(v);
	return false;
}

static enum wasd_status store(struct merge *m, char id[32], struct wasd_err *err)
{
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
	enum wasd_status s = info && metrics ? storage_ckpt_store(m->g->cfg.db, &in, id, err) :
	                                       wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	wasd_free(info);
	wasd_free(metrics);
	return s;
}

/* What the file says about the end. False: no memory. */
static bool end_record(struct merge *m, const char *checkpoint)
{
	cJSON *r = m->record;
	const cJSON *said = m->task.end.said;
	bool ok = put(r, "state", cJSON_CreateString(m->err.status ? "failed" : "ready")) &&
	          put(r, "finished_at", cJSON_CreateNumber((double)wasd_now_ms()));
	if (m->err.status)
		return ok && put(r, "message", cJSON_CreateString(m->err.msg)) &&
		       put(r, "pointer", cJSON_CreateString(m->err.pointer));
	return ok && put(r, "checkpoint", cJSON_CreateString(checkpoint)) &&
	       put(r, "metrics", cJSON_Duplicate(wasd_json_get(said, "metrics"), true)) &&
	       put(r, "merge", cJSON_Duplicate(wasd_json_get(wasd_json_get(said, "info"), "merge"), true));
}

static void tell_end(struct merge *m, const char *checkpoint)
{
	cJSON *data = wasd_message(NULL, "state:s checkpoint:s", m->err.status ? "failed" : "ready", checkpoint);
	char *text = data ? wasd_json_print(data) : NULL;
	if (text)
		storage_event_add(m->g->cfg.db, "checkpoints", "checkpoint.merge", m->id, text, NULL, NULL);
	cJSON_Delete(data);
	wasd_free(text);
	if (m->err.status)
		log_about(m->id, LOG_WARN, "merge failed", "merge=%s why=%s", m->id, LOG_Q(m->err.msg));
	else
		log_about(m->id, LOG_INFO, "merge ready", "merge=%s checkpoint=%s bytes=%zu", m->id, checkpoint, m->file_bytes);
}

/* [S] */
static void ended(void *ctx)
{
	struct merge *m = ctx;
	struct merges *g = m->g;
	pthread_mutex_lock(&g->lock);
	const bool gone = m->dropped;
	if (gone)
		unlist(m);
	pthread_mutex_unlock(&g->lock);
	g->current = NULL;
	if (gone)
		merge_free(m);
	else
		release(m);
	launch_next(g);
}

/* Loader: stores the checkpoint, then the file. A kill in between repeats the merge, which finds its checkpoint stored.
 */
static void finish(struct pool_job *job)
{
	struct merge *m = (struct merge *)((char *)job - offsetof(struct merge, job));
	char id[32] = "";
	struct wasd_err err = {0};
	if (!m->err.status)
		store(m, id, &m->err);
	pthread_mutex_lock(&m->g->lock);
	if (!m->dropped) {
		if (!end_record(m, id) || write_record(m, &err))
			log_line(LOG_WARN, "cannot write how a merge ended", "merge=%s why=%s", m->id, LOG_Q(err.msg));
		m->state = ENDED;
	}
	pthread_mutex_unlock(&m->g->lock);
	tell_end(m, id);
	m->post = (struct sup_post){.fn = ended, .ctx = m};
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
	(void)err;
	pthread_mutex_lock(&m->g->lock);
	wasd_json_i64(f->json, "done", &m->done);
	wasd_json_i64(f->json, "of", &m->of);
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
	cJSON *row = wasd_message(NULL, "checkpoint:s bytes:i", checkpoint, bytes);
	if (row && cJSON_AddItemToArray(m->list, row))
		return WASD_OK;
	cJSON_Delete(row);
	return wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
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
	if (m)
		m->state = LOADING;
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

static void kill_dropped(void *ctx)
{
	struct merges *g = ctx;
	pthread_mutex_lock(&g->lock);
	bool dropped = g->current && g->current->dropped && g->current->state == RUNNING;
	pthread_mutex_unlock(&g->lock);
	if (dropped)
		task_kill(&g->current->task, "the merge was deleted");
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static enum wasd_status begin(struct merges *g, cJSON *record, char id[40], struct wasd_err *err)
{
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
	trim(g);
	for (const struct merge *o = g->list; o; o = o->next)
		waiting += o->state != ENDED;
	if (waiting >= WAITING_MAX)
		s = wasd_fail(err, WASD_EBUSY, "%d merges wait", waiting);
	else if (!put(record, "id", cJSON_CreateString(m->id)) ||
	         !put(record, "created_at", cJSON_CreateNumber((double)wasd_now_ms())))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for a merge");
	else
		s = write_record(m, err);
	if (!s) {
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
	bool ok = m->state == ENDED || (j && put(j, "state", cJSON_CreateString(running ? "running" : "queued")));
	if (ok && j && running)
		ok = put(j, "progress", wasd_message(NULL, "done:i of:i", m->done, m->of));
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static enum wasd_status get(struct merges *g, const char *id, cJSON **out, struct wasd_err *err)
{
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
static cJSON *list(struct merges *g)
{
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

static enum wasd_status forget(struct merges *g, const char *id, struct wasd_err *err)
{
	pthread_mutex_lock(&g->lock);
	struct merge *m = *find(g, id), *free_now = NULL;
	bool there = m && !m->dropped, runs = there && m->state != WAITING && m->state != ENDED;
	if (there) {
		remove_record(m);
		m->dropped = true;
	}
	if (there && !runs) {
		unlist(m);
		free_now = m;
	}
	pthread_mutex_unlock(&g->lock);
	merge_free(free_now);
	if (runs)
		supervisor_call(g->cfg.sup, kill_dropped, g);
	return there ? WASD_OK : wasd_fail(err, WASD_ENOTFOUND, "no merge %.60s", id);
}

struct api_merges merges_api(struct merges *g)
{
	return (struct api_merges){.self = g, .begin = begin, .get = get, .list = list, .forget = forget};
}

/* ---- start and end ---------------------------------------------------------------------------------------------- */

static bool read_record(struct merges *g, const char *name)
{
	char *path = wasd_asprintf("%s/%s", g->dir, name), *text = NULL;
	size_t len = strlen(name), bytes;
	const char *state;
	struct merge *m = wasd_calloc(1, sizeof *m);
	bool ok = path && m && len > 5 && len - 5 < sizeof m->id && !strcmp(name + len - 5, ".json") &&
	          wasd_file_read(path, FILE_MAX, &text, &bytes, NULL) == WASD_OK;
	if (m)
		*m = (struct merge){.g = g, .fd = -1};
	ok = ok && wasd_json_parse(text, bytes, WASD_JSON_BULK, &m->record, NULL) == WASD_OK && cJSON_IsObject(m->record);
	if (ok) {
		snprintf(m->id, sizeof m->id, "%.*s", (int)len - 5, name);
		m->state = wasd_json_str(m->record, "state", &state) ? ENDED : WAITING;
		*find(g, "") = m;
		m = NULL;
	}
	merge_free(m);
	wasd_free(text);
	wasd_free(path);
	return ok;
}

/* In the order of their ids, which is that of their time. Files that are none of ours are removed. */
static enum wasd_status read_records(struct merges *g, struct wasd_err *err)
{
	struct dirent **names = NULL;
	int n = scandir(g->dir, &names, NULL, alphasort);
	if (n < 0)
		return wasd_fail_errno(err, errno, "%s", g->dir);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' && !read_record(g, names[i]->d_name)) {
			char *path = wasd_asprintf("%s/%s", g->dir, names[i]->d_name);
			if (path)
				unlink(path);
			wasd_free(path);
		}
		free(names[i]);
	}
	free(names);
	return WASD_OK;
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
	if (s)
		merges_destroy(g);
	else
		*out = g;
	return s;
}

static void do_stop(void *ctx)
{
	struct merges *g = ctx;
	g->stopping = true;
	if (g->current && g->current->state == RUNNING)
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
	for (struct merge *m = g->list, *next; m; m = next) {
		next = m->next;
		merge_free(m);
	}
	pthread_mutex_destroy(&g->lock);
	wasd_free(g->dir);
	wasd_free(g);
}
