/* report.c - see report.h.
 *
 *   asked for -> files opened -> WAITING -> RUNNING, a task (process/task.h) -> DONE or FAILED -> told and forgotten
 *
 * The end stores an event of the job, which wakes those who wait; the first of them to ask writes the file. A failure
 * is told once, so that the next request tries again. A kept report is computed again when the checkpoint has got or
 * lost a profile. */
#include "jobs/report.h"

#include "jobs/scheduler.h"
#include "log.h"
#include "process/task.h"
#include "wasd/protocol.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { AT_ONCE = 8, FILE_MAX = 4 << 20, REPORT_NICE = 10 };
enum state { WAITING, RUNNING, DONE, FAILED };

struct report {
	struct report *next;
	struct reports *g;
	enum state state; /* with lock */
	char job[48], checkpoint[48], sha[WASD_SHA256_HEX];
	char *dataset; /* its name */
	int64_t version;
	char *path; /* of its file */
	int fd;
	int64_t bytes, more, done, of; /* more: of the modes' files behind the checkpoint */
	bool test;
	cJSON *modes, *profiles; /* [{"mode","bytes"}], and their ids */
	char *text;              /* DONE */
	struct wasd_err err;
	struct task task; /* [S] */
};

struct reports {
	struct reports_config cfg;
	pthread_mutex_t lock;
	struct report *list; /* oldest first */
	bool stopping;
	struct sup_post post;
	bool posted;
};

static void report_free(struct report *t)
{
	if (!t)
		return;
	if (t->fd >= 0)
		close(t->fd);
	task_done(&t->task);
	cJSON_Delete(t->modes);
	cJSON_Delete(t->profiles);
	wasd_free(t->dataset);
	wasd_free(t->path);
	wasd_free(t->text);
	wasd_free(t);
}

/* ---- the process; [S] ------------------------------------------------------------------------------------------ */

static void launch_next(void *ctx);

static enum wasd_status put_event(struct storage *db, void *ctx, struct wasd_err *err)
{
	return storage_event_add(db, "jobs", "job.report", ctx, "{}", NULL, err);
}

static void event_put(void *ctx, enum wasd_status status, const struct wasd_err *err)
{
	(void)status, (void)err;
	wasd_free(ctx);
}

/* Called without the lock. */
static void end_report(struct report *t, enum state state)
{
	struct reports *g = t->g;
	char *job = wasd_strdup(t->job);
	pthread_mutex_lock(&g->lock);
	t->state = state;
	pthread_mutex_unlock(&g->lock);
	if (job)
		storage_tx_async(g->cfg.db, put_event, job, event_put);
	launch_next(g);
}

static enum wasd_status on_progress(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct report *t = self;
	(void)err;
	pthread_mutex_lock(&t->g->lock);
	wasd_json_i64(m->json, "done", &t->done);
	wasd_json_i64(m->json, "of", &t->of);
	pthread_mutex_unlock(&t->g->lock);
	return WASD_OK;
}

static enum wasd_status on_reported(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct report *t = self;
	cJSON *info = cJSON_Duplicate(wasd_json_get(m->json, "info"), true);
	if (info && cJSON_AddItemToObject(info, "profiles", t->profiles)) {
		t->profiles = NULL;
		t->text = wasd_json_print(info);
	}
	cJSON_Delete(info);
	return t->text ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a report");
}

static void report_ended(void *self, const struct task_end *end)
{
	struct report *t = self;
	const char *message = "it gave no reason";
	if (end->outcome == TASK_ENDED_FAILED) {
		wasd_json_str(end->said, "message", &message);
		wasd_fail(&t->err, WASD_EINVAL, "%.400s", message);
	} else if (end->outcome != TASK_ENDED_DONE || !t->text) {
		wasd_fail(&t->err, WASD_EINTERNAL, "the process ended early: %.200s %.200s", end->how.reason, end->how.tail);
	}
	end_report(t, t->err.status ? FAILED : DONE);
}

static const struct task_message report_messages[] = {
	{.type = "log"},
	{.type = "progress", .take = on_progress, .from = TASK_TOLD},
	{.type = "reported", .take = on_reported, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind report_kind = {
	.role = WASD_ROLE_PROFILE,
	.let_go = true,
	.messages = report_messages,
	.ended = report_ended,
};

/* The first that waits becomes the running one, unless one runs. */
static struct report *take_next(struct reports *g)
{
	struct report *next = NULL;
	pthread_mutex_lock(&g->lock);
	for (struct report *t = g->list; t; t = t->next) {
		if (t->state == RUNNING || g->stopping) {
			next = NULL;
			break;
		}
		if (t->state == WAITING && !next)
			next = t;
	}
	if (next)
		next->state = RUNNING;
	pthread_mutex_unlock(&g->lock);
	return next;
}

static void launch_next(void *ctx)
{
	struct reports *g = ctx;
	struct report *t = take_next(g);
	if (!t)
		return;
	task_init(&t->task, g->cfg.sup, &report_kind, t);
	if (task_launch(&t->task, &t->err) != WASD_OK) {
		end_report(t, FAILED);
		return;
	}
	task_start(&t->task,
	           wasd_message("report", "bytes:i sha256:s profile_bytes:i dataset:s threads:i nice:i test:b modes:j",
	                        t->bytes, t->sha, t->more, t->path, (int64_t)g->cfg.threads, (int64_t)REPORT_NICE, t->test,
	                        t->modes),
	           t->fd);
	t->modes = NULL;
	t->fd = -1;
}

static void on_post(void *ctx)
{
	struct reports *g = ctx;
	pthread_mutex_lock(&g->lock);
	g->posted = false;
	pthread_mutex_unlock(&g->lock);
	launch_next(g);
}

static void kill_running(void *ctx)
{
	struct reports *g = ctx;
	pthread_mutex_lock(&g->lock);
	struct report *t = g->list;
	while (t && t->state != RUNNING)
		t = t->next;
	pthread_mutex_unlock(&g->lock);
	if (t) /* only this thread ends it */
		task_kill(&t->task, "the daemon is stopping");
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/* Which report is asked for. */
struct wanted_report {
	const struct storage_job *job;
	const char *checkpoint;
	bool test;
};

static char *file_of(struct reports *g, const struct wanted_report *w)
{
	return wasd_asprintf("%s/reports/%s%s.json", g->cfg.data_dir, w->checkpoint, w->test ? ".test" : "");
}

static struct report **find(struct reports *g, const char *checkpoint, bool test)
{
	struct report **at = &g->list;
	while (*at && (strcmp((*at)->checkpoint, checkpoint) || (*at)->test != test))
		at = &(*at)->next;
	return at;
}

/* The file of a mode behind the others. */
static enum wasd_status add_mode(struct report *t, const struct storage_profile *p, struct wasd_buf *files,
                                 struct storage *db, struct wasd_err *err)
{
	char *data = NULL;
	size_t bytes;
	enum wasd_status st = storage_profile_overlay(db, p->id, &data, &bytes, err);
	if (st)
		return st;
	cJSON *id = cJSON_CreateString(p->id), *row = wasd_message(NULL, "mode:s bytes:i", p->mode, (int64_t)bytes);
	bool ok = id && cJSON_AddItemToArray(t->profiles, id) && row && cJSON_AddItemToArray(t->modes, row) &&
	          wasd_buf_append(files, data, bytes);
	wasd_free(data);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a report");
}

/* Puts the files of the modes behind the checkpoint in t->fd. */
static enum wasd_status append_files(struct report *t, struct wasd_buf *files, struct wasd_err *err)
{
	const void *p = NULL;
	int fd = -1;
	enum wasd_status st = wasd_memfd_map(t->fd, (size_t)t->bytes, &p, err);
	if (st)
		return st;
	const struct iovec parts[] = {{(void *)p, (size_t)t->bytes}, {files->data, files->len}};
	st = wasd_memfd_gather("wasd-report", parts, 2, &fd, err);
	wasd_memfd_unmap(p, (size_t)t->bytes);
	if (st)
		return st;
	close(t->fd);
	t->fd = fd;
	t->more = (int64_t)files->len;
	return WASD_OK;
}

/* The checkpoint's searched modes. */
static enum wasd_status add_modes(struct report *t, struct storage *db, struct wasd_err *err)
{
	struct storage_profile_list l = {0};
	struct wasd_buf files = {0};
	t->modes = cJSON_CreateArray();
	t->profiles = cJSON_CreateArray();
	enum wasd_status st = t->modes && t->profiles ? storage_profile_list(db, t->checkpoint, "ready", &l, err) :
	                                                wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	for (size_t i = 0; i < l.n && i < WASD_REPORT_MODES_MAX && !st; i++)
		st = add_mode(t, &l.items[i], &files, db, err);
	if (!st && files.len)
		st = append_files(t, &files, err);
	wasd_buf_done(&files);
	storage_profile_list_done(&l);
	return st;
}

static enum wasd_status prepare(struct reports *g, const struct wanted_report *w, struct report **out,
                                struct wasd_err *err)
{
	struct report *t = wasd_calloc(1, sizeof *t);
	bool wait = false;
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	t->g = g;
	t->fd = -1;
	t->test = w->test;
	snprintf(t->job, sizeof t->job, "%s", w->job->id);
	snprintf(t->checkpoint, sizeof t->checkpoint, "%s", w->checkpoint);
	t->version = w->job->dataset_version;
	if (!(t->dataset = wasd_strdup(w->job->dataset))) {
		report_free(t);
		return wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	}
	enum wasd_status st = dataset_file(g->cfg.db, g->cfg.data_dir, w->job->dataset, w->job->dataset_version, &t->path,
	                                   &wait, err);
	if (!st && wait)
		st = wasd_fail(err, WASD_ESTATE, "data set %s is still being scanned", w->job->dataset);
	if (!st)
		st = storage_ckpt_memfd(g->cfg.db, w->checkpoint, &t->fd, &t->bytes, t->sha, err);
	if (!st)
		st = add_modes(t, g->cfg.db, err);
	if (st)
		report_free(t);
	else
		*out = t;
	return st;
}

/* Adds t unless the checkpoint is in the list by now; takes t. */
static enum wasd_status enqueue(struct reports *g, struct report *t, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	bool post = false;
	int n = 0;
	pthread_mutex_lock(&g->lock);
	for (struct report *o = g->list; o; o = o->next)
		n++;
	struct report **at = find(g, t->checkpoint, t->test);
	if (g->stopping)
		st = wasd_fail(err, WASD_ECANCELLED, "the daemon is stopping");
	else if (!*at && n >= AT_ONCE)
		st = wasd_fail(err, WASD_EBUSY, "%d reports are being computed", n);
	if (!st && !*at) {
		*at = t;
		t = NULL;
		post = !g->posted;
		g->posted = true;
	}
	pthread_mutex_unlock(&g->lock);
	report_free(t);
	if (post)
		supervisor_post(g->cfg.sup, &g->post);
	return st;
}

/* Takes an ended report out of the list: its text, or its failure. False: there is none. */
static bool take_ended(struct reports *g, const struct wanted_report *w, char **text, struct wasd_err *err)
{
	pthread_mutex_lock(&g->lock);
	struct report **at = find(g, w->checkpoint, w->test), *t = *at;
	const bool ended = t && (t->state == DONE || t->state == FAILED);
	if (ended)
		*at = t->next;
	pthread_mutex_unlock(&g->lock);
	if (!ended)
		return false;
	*text = t->text;
	t->text = NULL;
	if (t->err.status)
		*err = t->err;
	report_free(t);
	return true;
}

static bool running(struct reports *g, const struct wanted_report *w, int64_t *done, int64_t *of)
{
	pthread_mutex_lock(&g->lock);
	const struct report *t = *find(g, w->checkpoint, w->test);
	if (t) {
		*done = t->done;
		*of = t->of;
	}
	pthread_mutex_unlock(&g->lock);
	return t != NULL;
}

/* Whether a kept report has the profiles that the checkpoint has now. One of an earlier version has none. */
static bool is_current(struct reports *g, const char *checkpoint, const char *text)
{
	struct storage_profile_list l = {0};
	cJSON *report = NULL;
	bool same = wasd_json_parse(text, strlen(text), WASD_JSON_BULK, &report, NULL) == WASD_OK &&
	            storage_profile_list(g->cfg.db, checkpoint, "ready", &l, NULL) == WASD_OK;
	const cJSON *ids = wasd_json_get(report, "profiles");
	same = same && cJSON_GetArraySize(ids) == (int)(l.n < WASD_REPORT_MODES_MAX ? l.n : WASD_REPORT_MODES_MAX);
	for (size_t i = 0; same && i < l.n && i < WASD_REPORT_MODES_MAX; i++) {
		const cJSON *id = cJSON_GetArrayItem(ids, (int)i);
		same = cJSON_IsString(id) && !strcmp(id->valuestring, l.items[i].id);
	}
	storage_profile_list_done(&l);
	cJSON_Delete(report);
	return same;
}

static bool read_kept(struct reports *g, const struct wanted_report *w, const char *path, char **text)
{
	size_t len;
	if (wasd_file_read(path, FILE_MAX, text, &len, NULL) != WASD_OK)
		return false;
	if (is_current(g, w->checkpoint, *text))
		return true;
	wasd_free(*text);
	*text = NULL;
	return false;
}

static enum wasd_status reports_get(struct reports *g, const struct storage_job *job, const char *checkpoint, bool test,
                                    char **text, int64_t *done, int64_t *of, struct wasd_err *err)
{
	const struct wanted_report w = {job, checkpoint, test};
	char *path = file_of(g, &w);
	*text = NULL;
	*done = *of = 0;
	struct wasd_err failed = {0};
	enum wasd_status st = path ? WASD_EBUSY : wasd_fail(err, WASD_ENOMEM, "no memory for a report");
	if (path && read_kept(g, &w, path, text)) {
		st = WASD_OK;
	} else if (path && take_ended(g, &w, text, &failed)) {
		/* A file that cannot be written is computed again next time. */
		if (*text && wasd_file_write_atomic(path, *text, strlen(*text), &failed) != WASD_OK)
			log_line(LOG_WARN, "cannot keep a report", "why=%s", LOG_Q(failed.msg));
		st = *text ? WASD_OK : wasd_fail(err, failed.status, "%s", failed.msg);
	} else if (path && !running(g, &w, done, of)) {
		struct report *t = NULL;
		st = prepare(g, &w, &t, err);
		if (!st)
			st = enqueue(g, t, err);
		if (!st)
			st = wasd_fail(err, WASD_EBUSY, "it is being computed");
	}
	wasd_free(path);
	return st;
}

struct api_reports reports_api(struct reports *g)
{
	return (struct api_reports){.self = g, .get = reports_get};
}

static bool needs_dataset(void *ctx, const char *name, int64_t version, char by[64])
{
	struct reports *g = ctx;
	bool found = false;
	pthread_mutex_lock(&g->lock);
	for (const struct report *t = g->list; t && !found; t = t->next) {
		found = (t->state == WAITING || t->state == RUNNING) && !strcmp(t->dataset, name) &&
		        (!version || t->version == version);
		if (found)
			snprintf(by, 64, "a report on %s", t->checkpoint);
	}
	pthread_mutex_unlock(&g->lock);
	return found;
}

/* ---- start and end ----------------------------------------------------------------------------------------------- */

static void sweep(struct reports *g, const char *dir)
{
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		char id[64];
		struct storage_ckpt k = {0};
		snprintf(id, sizeof id, "%.*s", (int)strcspn(e->d_name, "."), e->d_name);
		if (e->d_name[0] != '.' && storage_ckpt_get(g->cfg.db, id, &k, NULL) == WASD_ENOTFOUND)
			unlinkat(dirfd(d), e->d_name, 0);
		storage_ckpt_done(&k);
	}
	if (d)
		closedir(d);
}

enum wasd_status reports_create(const struct reports_config *cfg, struct reports **out, struct wasd_err *err)
{
	struct reports *g = wasd_calloc(1, sizeof *g);
	char *dir = wasd_asprintf("%s/reports", cfg->data_dir);
	enum wasd_status st = g && dir ? wasd_mkdirs(dir, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st) {
		g->cfg = *cfg;
		g->post = (struct sup_post){.fn = on_post, .ctx = g};
		pthread_mutex_init(&g->lock, NULL);
		sweep(g, dir);
		storage_hold(cfg->db, &(struct storage_holder){.dataset = needs_dataset, .ctx = g});
		*out = g;
	} else {
		wasd_free(g);
	}
	wasd_free(dir);
	return st;
}

void reports_stop(struct reports *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->stopping = true;
	pthread_mutex_unlock(&g->lock);
	supervisor_call(g->cfg.sup, kill_running, g);
	storage_unhold(g->cfg.db, g);
}

void reports_destroy(struct reports *g)
{
	if (!g)
		return;
	for (struct report *t = g->list, *next; t; t = next) {
		next = t->next;
		report_free(t);
	}
	pthread_mutex_destroy(&g->lock);
	wasd_free(g);
}
