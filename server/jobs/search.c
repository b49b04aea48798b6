/* search.c - see search.h. A search makes one mode of any kind, or measures the modes of a checkpoint's own list.
 *
 *   row queued -> row searching, checkpoint and data set loaded -> a task (process/task.h) -> ended -> row ready or
 *   failed
 *
 * One search at a time, the longest-waiting first. All decisions are made from the rows, so that no state is lost in a
 * restart. A profile becomes ready only if the task succeeded and sent the overlay that it announced; otherwise the row
 * becomes failed with the reason. When the daemon stops, the row stays unchanged and is queued again at the next start.
 */
#include "jobs/search.h"

#include "log.h"
#include "wasd/protocol.h"
#include "pool.h"
#include "process/task.h"
#include "jobs/scheduler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SEARCH_NICE = 10, LOOK_AGAIN_MS = 1000 };

struct search {
	struct profiles *g;
	char id[48], checkpoint[48], name[72], mode[WASD_MODE_LEN];
	bool measures; /* the checkpoint's own modes, and makes none */
	char *dataset;
	int64_t dataset_version;
	cJSON *request;
	/* the loader's */
	struct pool_job load_job;
	struct sup_post load_post;
	int fd;
	int64_t bytes, base_bytes; /* of the checkpoint; of the base mode's file behind it */
	char sha[WASD_SHA256_HEX];
	bool own; /* the checkpoint's own modes have not been measured yet */
	char *path;
	struct wasd_err load_err;
	/* [S] */
	struct task task;
	bool dropped, over; /* dropped: the profile is no longer wanted; over: only its row is still to be written */
	const void *overlay;
	size_t overlay_bytes;
	char too_large[200]; /* "", or why the overlay is rejected */
};

struct profiles {
	struct profiles_config cfg;
	char *data_dir;
	struct pool *loader;
	struct sup_post poke_post;
	_Atomic bool poke_pending;
	/* [S] */
	struct search *current;
	bool stopping;
	int64_t look_us;
	/* progress of the current search for other threads */
	pthread_mutex_t lock;
	char live[48];
	int64_t done, of, first_done, first_us; /* first_*: first progress report, for the estimate */
};

static void search_free(struct search *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		close(w->fd);
	if (w->overlay)
		wasd_memfd_unmap(w->overlay, w->overlay_bytes);
	cJSON_Delete(w->request);
	wasd_free(w->dataset);
	wasd_free(w->path);
	task_done(&w->task);
	wasd_free(w);
}

static void show(struct profiles *g, const char *id, int64_t done, int64_t of)
{
	pthread_mutex_lock(&g->lock);
	if (strcmp(g->live, id) || g->first_done > done || !of)
		g->first_us = 0;
	if (!g->first_us && of) {
		g->first_us = wasd_mono_us();
		g->first_done = done;
	}
	snprintf(g->live, sizeof g->live, "%s", id);
	g->done = done;
	g->of = of;
	pthread_mutex_unlock(&g->lock);
}

/* ---- the end of a search; [S] ----------------------------------------------------------------------------------- */

static void search_next(struct profiles *g);

/* False: storage cannot write the row now. A row that was deleted or failed meanwhile is ignored. */
static bool make_failed(struct profiles *g, const char *id, const char *message)
{
	struct wasd_err err = {0};
	enum wasd_status s = storage_profile_fail(g->cfg.db, id, message, &err);
	if (s == WASD_OK)
		log_about(id, LOG_WARN, "profile failed", "profile=%s why=%s", id, LOG_Q(message));
	else if (s != WASD_ENOTFOUND && s != WASD_ESTATE)
		log_about(id, LOG_ERROR, "cannot mark the profile failed", "profile=%s why=%s", id, LOG_Q(err.msg));
	return s == WASD_OK || s == WASD_ENOTFOUND || s == WASD_ESTATE;
}

static bool make_ready(struct search *w)
{
	struct profiles *g = w->g;
	struct wasd_err err = {0};
	const char *sha = "";
	wasd_json_str(w->task.end.said, "sha256", &sha);
	cJSON *found = cJSON_GetObjectItemCaseSensitive(w->task.end.said, "info"),
		  *own = cJSON_DetachItemFromObjectCaseSensitive(found, "own");
	char *info = wasd_json_print(found), *measured = own ? wasd_json_print(own) : NULL;
	enum wasd_status s = info && (!own || measured) ? storage_profile_ready(g->cfg.db, w->id, info, measured,
	                                                                        w->overlay, w->overlay_bytes, sha, &err) :
	                                                  WASD_ENOMEM;
	wasd_free(info);
	wasd_free(measured);
	if (own) /* for a repetition */
		cJSON_AddItemToObject(found, "own", own);
	if (s == WASD_ENOMEM || s == WASD_EBUSY || s == WASD_EFULL)
		return false;
	if (s != WASD_OK)
		return make_failed(g, w->id, err.msg);
	log_about(w->id, LOG_INFO, "profile ready", "profile=%s checkpoint=%s name=%s bytes=%zu", w->id, w->checkpoint,
	          w->name, w->overlay_bytes);
	if (g->cfg.changed)
		g->cfg.changed(g->cfg.ctx, w->checkpoint);
	return true;
}

static bool keep_measured(struct search *w)
{
	struct profiles *g = w->g;
	struct wasd_err err = {0};
	char *own = wasd_json_print(wasd_json_get(w->task.end.said, "own"));
	enum wasd_status s = own ? storage_modes_measured(g->cfg.db, w->id, own, &err) : WASD_ENOMEM;
	wasd_free(own);
	if (s == WASD_ENOMEM || s == WASD_EBUSY || s == WASD_EFULL)
		return false;
	if (s != WASD_OK)
		return make_failed(g, w->id, err.msg);
	log_about(w->id, LOG_INFO, "modes measured", "checkpoint=%s", w->checkpoint);
	return true;
}

/* Writes the reason why the search failed. */
static void describe_failure(const struct search *w, char out[700])
{
	const struct task_end *end = &w->task.end;
	const char *message = "", *pointer = "";
	if (w->load_err.status || *w->too_large) {
		snprintf(out, 700, "%s", *w->too_large ? w->too_large : w->load_err.msg);
	} else if (end->outcome == TASK_ENDED_FAILED) {
		wasd_json_str(end->said, "message", &message);
		wasd_json_str(end->said, "pointer", &pointer);
		size_t n = strlen(pointer);
		bool told = !n || !strncmp(message, pointer, n); /* the message already starts with the pointer */
		snprintf(out, 700, "%.190s%s%.500s", told ? "" : pointer, told ? "" : ": ", message);
	} else {
		snprintf(out, 700, "the search ended early: %.200s %.400s", end->how.reason, end->how.tail);
	}
}

static bool finish(struct search *w)
{
	char message[700];
	if (w->g->stopping || w->dropped)
		return true;
	if (!w->load_err.status && !*w->too_large && w->task.end.outcome == TASK_ENDED_DONE)
		return w->measures ? keep_measured(w) : make_ready(w);
	describe_failure(w, message);
	return make_failed(w->g, w->id, message);
}

/* Writes the row when the search has ended; called again at the next tick if storage fails. */
static void end_search(struct search *w)
{
	struct profiles *g = w->g;
	show(g, "", 0, 0);
	w->over = true;
	if (!finish(w))
		return;
	g->current = NULL;
	search_free(w);
	if (g->cfg.settled)
		g->cfg.settled(g->cfg.ctx);
	search_next(g);
}

/* The progress of a job that only waits for its profiles: that of its training, with the progress of the current
 * search. NULL: the job is in another state. */
static cJSON *job_progress(struct profiles *g, const char *id)
{
	struct storage_job job = {0};
	struct storage_profile p = {0};
	int64_t done = 0, of = 0, waiting = 0;
	double eta_s = -1;
	cJSON *o = NULL;
	if (storage_profile_of_job(g->cfg.db, id, &p, &waiting, NULL) == WASD_OK &&
	    storage_job_get(g->cfg.db, id, &job, NULL) == WASD_OK) {
		char phase[100];
		profiles_progress(g, p.id, &done, &of, &eta_s);
		bool searches = !strcmp(p.kind, "draw");
		snprintf(phase, sizeof phase, searches ? "searching profile %.63s" : "making mode %.70s",
		         searches ? p.name : p.mode);
		if (!job.progress ||
		    wasd_json_parse(job.progress, strlen(job.progress), WASD_JSON_REQUEST, &o, NULL) != WASD_OK)
			o = cJSON_CreateObject();
		cJSON_DeleteItemFromObjectCaseSensitive(o, "phase");
		cJSON_DeleteItemFromObjectCaseSensitive(o, "eta_s");
		cJSON_AddStringToObject(o, "phase", phase);
		if (of) {
			cJSON_AddNumberToObject(o, "phase_done", (double)done);
			cJSON_AddNumberToObject(o, "phase_total", (double)of);
		}
		/* Assume that the searches waiting behind it take as long. */
		if (eta_s >= 0)
			cJSON_AddNumberToObject(o, "eta_s",
			                        of > done ? eta_s * (1 + (double)((waiting - 1) * of) / (double)(of - done)) :
			                                    eta_s);
	}
	storage_profile_done(&p);
	storage_job_done(&job);
	return o;
}

/* ---- the process; [S] ------------------------------------------------------------------------------------------- */

/* Publishes the progress to followers of the job that waits for this search. */
static void search_changed(void *self)
{
	struct search *w = self;
	struct profiles *g = w->g;
	struct storage_ckpt k = {0};
	if (storage_ckpt_get(g->cfg.db, w->checkpoint, &k, NULL) == WASD_OK && k.job) {
		cJSON *progress = job_progress(g, k.job);
		char *text = progress ? wasd_json_print(progress) : NULL;
		if (text)
			storage_steps(g->cfg.db, k.job, 0, NULL, 0, text, NULL);
		wasd_free(text);
		cJSON_Delete(progress);
	}
	storage_ckpt_done(&k);
}

static enum wasd_status on_progress(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct search *w = self;
	int64_t done = 0, of = 0;
	if (!wasd_json_i64(m->json, "done", &done) || !wasd_json_i64(m->json, "of", &of) || of < done)
		return wasd_fail(err, WASD_ECORRUPT, "progress of %lld of %lld", (long long)done, (long long)of);
	show(w->g, w->id, done, of);
	task_changed(&w->task);
	return WASD_OK;
}

/* Checks the members that other code relies on: finite numbers. */
static bool info_ok(const cJSON *info)
{
	static const char *const numbers[] = {"macs",           "macs_share",      "val_loss",  "val_acc",
	                                      "images_per_s_1", "images_per_s_64", "latency_us"};
	double x;
	bool ok = cJSON_IsObject(wasd_json_get(info, "aom"));
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && ok; i++)
		ok = wasd_json_num(info, numbers[i], &x);
	return ok;
}

static enum wasd_status on_measured(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	const struct search *w = self;
	(void)m;
	return w->measures ? WASD_OK : wasd_fail(err, WASD_ECORRUPT, "measured in answer to make");
}

static enum wasd_status on_made(void *self, struct wasd_frame *m, struct wasd_err *err)
{
	struct search *w = self;
	int64_t bytes = 0;
	if (w->measures)
		return wasd_fail(err, WASD_ECORRUPT, "made in answer to measure");
	wasd_json_i64(m->json, "bytes", &bytes);
	if (!info_ok(wasd_json_get(m->json, "info")))
		return wasd_fail(err, WASD_ECORRUPT, "the mode has no valid info");
	if (bytes > STORAGE_OVERLAY_MAX) {
		snprintf(w->too_large, sizeof w->too_large, "the file of mode %s would have %lld bytes, the limit is %d",
		         w->mode, (long long)bytes, STORAGE_OVERLAY_MAX);
		return WASD_OK;
	}
	w->overlay_bytes = (size_t)bytes;
	return wasd_memfd_map(m->fd, w->overlay_bytes, &w->overlay, err);
}

static void search_ended(void *self, const struct task_end *end)
{
	(void)end; /* the task keeps it */
	end_search(self);
}

static const struct task_message search_messages[] = {
	{.type = "log"},
	{.type = "progress", .take = on_progress, .from = TASK_TOLD},
	{.type = "made", .take = on_made, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "measured", .take = on_measured, .from = TASK_TOLD, .to = TASK_DONE},
	{.type = "failed", .from = TASK_TOLD, .to = TASK_FAILED},
	{0},
};
static const struct task_kind search_kind = {
	.role = WASD_ROLE_PROFILE,
	.let_go = true,
	.messages = search_messages,
	.changed = search_changed,
	.ended = search_ended,
};

/* ---- from the row to the process --------------------------------------------------------------------------- */

/* Tells the process what to do. */
static void tell(struct search *w)
{
	int64_t threads = w->g->cfg.threads, nice = SEARCH_NICE;
	cJSON *m = w->measures ?
	               wasd_message("measure", "name:s bytes:i sha256:s dataset:s threads:i nice:i", w->name, w->bytes,
	                            w->sha, w->path, threads, nice) :
	               wasd_message("make",
	                            "name:s bytes:i sha256:s profile_bytes:i dataset:s threads:i nice:i own:b request:j",
	                            w->name, w->bytes, w->sha, w->base_bytes, w->path, threads, nice, w->own, w->request);
	if (!w->measures)
		w->request = NULL;
	task_start(&w->task, m, w->fd);
	w->fd = -1;
}

static void loaded(void *ctx)
{
	struct search *w = ctx;
	struct profiles *g = w->g;
	struct wasd_err err = {0};
	if (g->stopping || w->dropped || w->load_err.status) {
		end_search(w);
		return;
	}
	if (task_launch(&w->task, &err) != WASD_OK) {
		w->load_err = err;
		end_search(w);
		return;
	}
	tell(w);
}

/* The checkpoint, and behind it the file of the base mode if that was made. */
static enum wasd_status load_files(struct search *w, struct wasd_err *err)
{
	struct storage *db = w->g->cfg.db;
	struct storage_profile p = {0};
	const char *base = "";
	if (!wasd_json_str(w->request, "base", &base) || !wasd_mode_member(base))
		return storage_ckpt_memfd(db, w->checkpoint, &w->fd, &w->bytes, w->sha, err);
	enum wasd_status s = storage_profile_get(db, w->checkpoint, base, &p, err);
	if (s == WASD_OK && strcmp(p.state, "ready"))
		s = wasd_fail(err, WASD_ESTATE, "its base, mode %s, is %s", base, p.state);
	if (s == WASD_OK)
		s = storage_profile_memfd(db, p.id, &w->fd, &w->bytes, w->sha, &w->base_bytes, err);
	storage_profile_done(&p);
	return s;
}

static void look_measured(struct search *w)
{
	struct storage_ckpt k = {0};
	cJSON *info = NULL;
	if (storage_ckpt_get(w->g->cfg.db, w->checkpoint, &k, NULL) == WASD_OK && k.info &&
	    wasd_json_parse(k.info, strlen(k.info), WASD_JSON_BULK, &info, NULL) == WASD_OK)
		w->own = !wasd_json_get(info, "measured");
	cJSON_Delete(info);
	storage_ckpt_done(&k);
}

/* On the loader thread, because reading and checking a checkpoint takes a while. */
static void load(struct pool_job *job)
{
	struct search *w = (struct search *)((char *)job - offsetof(struct search, load_job));
	struct profiles *g = w->g;
	bool wait = false;
	enum wasd_status s = dataset_file(g->cfg.db, g->data_dir, w->dataset, w->dataset_version, &w->path, &wait,
	                                  &w->load_err);
	if (s == WASD_OK && wait)
		s = wasd_fail(&w->load_err, WASD_ESTATE, "dataset %s version %lld is still being scanned", w->dataset,
		              (long long)w->dataset_version);
	if (s == WASD_OK)
		load_files(w, &w->load_err);
	look_measured(w);
	supervisor_post(g->cfg.sup, &w->load_post);
}

static enum wasd_status search_create(struct profiles *g, const struct storage_profile *row, struct search **out,
                                      struct wasd_err *err)
{
	struct search *w = wasd_calloc(1, sizeof *w);
	if (!w)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a search");
	w->g = g;
	w->fd = -1;
	task_init(&w->task, g->cfg.sup, &search_kind, w);
	snprintf(w->id, sizeof w->id, "%s", row->id);
	snprintf(w->checkpoint, sizeof w->checkpoint, "%s", row->checkpoint);
	snprintf(w->name, sizeof w->name, "%s", row->name);
	snprintf(w->mode, sizeof w->mode, "%s", row->mode);
	w->measures = !strcmp(row->mode, STORAGE_MEASURING);
	w->dataset_version = row->dataset_version;
	w->dataset = wasd_strdup(row->dataset);
	enum wasd_status s = w->dataset ?
	                         wasd_json_parse(row->request, strlen(row->request), WASD_JSON_REQUEST, &w->request, err) :
	                         wasd_fail(err, WASD_ENOMEM, "no memory for a search");
	if (s == WASD_OK) {
		*out = w;
		return WASD_OK;
	}
	search_free(w);
	return s;
}

/* [S] A search that cannot start for lack of memory or disk space stays queued and is retried. */
static void search_next(struct profiles *g)
{
	struct storage_profile row = {0};
	struct search *w = NULL;
	struct wasd_err err = {0};
	g->look_us = wasd_mono_us() + LOOK_AGAIN_MS * 1000ll;
	if (g->current || g->stopping || storage_profile_next(g->cfg.db, &row, NULL) != WASD_OK)
		return;
	enum wasd_status s = search_create(g, &row, &w, &err);
	if (s == WASD_OK)
		s = storage_profile_searching(g->cfg.db, row.id, &err);
	if (s == WASD_OK) {
		g->current = w;
		show(g, w->id, 0, 0);
		w->load_job.run = load;
		w->load_post = (struct sup_post){.fn = loaded, .ctx = w};
		log_about(w->id, LOG_INFO, "profile search started", "profile=%s checkpoint=%s name=%s", w->id, w->checkpoint,
		          w->name);
		search_changed(w);
		task_changes_told(&w->task);
		pool_submit(g->loader, &w->load_job);
	} else {
		search_free(w);
		if (s == WASD_ECORRUPT || s == WASD_EINVAL)
			make_failed(g, row.id, err.msg);
	}
	storage_profile_done(&row);
}

static void profiles_tick(void *ctx)
{
	struct profiles *g = ctx;
	if (g->current && g->current->over)
		end_search(g->current);
	else if (!g->current && wasd_mono_us() >= g->look_us)
		search_next(g);
}

/* ---- for other threads ------------------------------------------------------------------------------------- */

static void drop(struct search *w, const char *why)
{
	w->dropped = true;
	task_kill(&w->task, why);
}

/* The row of the current search may be deleted, or failed with its job. */
static void drop_unwanted(struct profiles *g)
{
	struct storage_profile p = {0};
	enum wasd_status s = storage_profile_get(g->cfg.db, NULL, g->current->id, &p, NULL);
	if (s == WASD_ENOTFOUND || (s == WASD_OK && strcmp(p.state, "searching")))
		drop(g->current, "the profile is no longer wanted");
	storage_profile_done(&p);
}

static void poked(void *ctx)
{
	struct profiles *g = ctx;
	atomic_store(&g->poke_pending, false);
	if (g->current && !g->current->dropped)
		drop_unwanted(g);
	search_next(g);
}

void profiles_poke(struct profiles *g)
{
	if (!atomic_exchange(&g->poke_pending, true))
		supervisor_post(g->cfg.sup, &g->poke_post);
}

struct gone_call {
	struct profiles *g;
	const char *id;
};

static void do_gone(void *ctx)
{
	struct gone_call *c = ctx;
	struct search *w = c->g->current;
	if (!w || strcmp(w->id, c->id))
		return;
	drop(w, "the profile was deleted");
}

void profiles_gone(struct profiles *g, const char *checkpoint, const char *id)
{
	struct gone_call c = {.g = g, .id = id};
	supervisor_call(g->cfg.sup, do_gone, &c);
	if (g->cfg.changed)
		g->cfg.changed(g->cfg.ctx, checkpoint);
}

bool profiles_progress(struct profiles *g, const char *id, int64_t *done, int64_t *of, double *eta_s)
{
	pthread_mutex_lock(&g->lock);
	bool is = !strcmp(g->live, id);
	if (is) {
		*done = g->done;
		*of = g->of;
		*eta_s = g->done > g->first_done ? (double)(wasd_mono_us() - g->first_us) * 1e-6 * (double)(g->of - g->done) /
		                                       (double)(g->done - g->first_done) :
		                                   -1;
	}
	pthread_mutex_unlock(&g->lock);
	return is;
}

/* ---- create and destroy ----------------------------------------------------------------------------------------- */

static void do_register(void *ctx)
{
	struct profiles *g = ctx;
	supervisor_every(g->cfg.sup, profiles_tick, g);
}

enum wasd_status profiles_create(const struct profiles_config *cfg, struct profiles **out, struct wasd_err *err)
{
	struct profiles *g = wasd_calloc(1, sizeof *g);
	if (!g)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the profiles");
	g->cfg = *cfg;
	g->poke_post = (struct sup_post){.fn = poked, .ctx = g};
	pthread_mutex_init(&g->lock, NULL);
	g->data_dir = wasd_strdup(cfg->data_dir);
	enum wasd_status s = g->data_dir ? pool_create("search-load", 1, 4, &g->loader, err) :
	                                   wasd_fail(err, WASD_ENOMEM, "no memory for the profiles");
	if (s != WASD_OK) {
		profiles_destroy(g);
		return s;
	}
	supervisor_call(cfg->sup, do_register, g);
	*out = g;
	return WASD_OK;
}

static void do_stop(void *ctx)
{
	struct profiles *g = ctx;
	g->stopping = true;
	if (g->current)
		task_kill(&g->current->task, "the daemon is stopping");
}

void profiles_stop(struct profiles *g)
{
	if (g)
		supervisor_call(g->cfg.sup, do_stop, g);
}

void profiles_destroy(struct profiles *g)
{
	if (!g)
		return;
	pool_destroy(g->loader);
	search_free(g->current); /* still loading when the supervisor stopped */
	pthread_mutex_destroy(&g->lock);
	wasd_free(g->data_dir);
	wasd_free(g);
}

/* ---- for the API ---- */

static cJSON *live(struct profiles *g, const char *job)
{
	cJSON *progress = job_progress(g, job), *o = progress ? cJSON_CreateObject() : NULL;
	if (o)
		cJSON_AddItemToObject(o, "progress", progress);
	else
		cJSON_Delete(progress);
	return o;
}

static void queued(struct profiles *g, const char *id)
{
	log_remember(id);
	profiles_poke(g);
}

struct api_profiles profiles_api(struct profiles *g)
{
	return (struct api_profiles){.self = g,
	                             .queued = queued,
	                             .gone = profiles_gone,
	                             .progress = profiles_progress,
	                             .live = live};
}
