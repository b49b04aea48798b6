/* loads.c - keeps the infer process in line with the database rows; see serving.c. All of it except the queueing runs
 * on one thread, one load at a time: bundles and their profiles are loaded, warmed up and published, and unused ones
 * are unloaded. */
#include "serving/internal.h"

#include "log.h"
#include "metrics.h"
#include "wasd/protocol.h"
#include "wasd/tensor.h"

#include <stdio.h>
#include <string.h>

enum { WARM_REPLY_MAX = 64 << 20, LOAD_TIMEOUT_S = 120 };

struct load_job {
	struct pool_job job;
	struct serving *s;
	char name[72]; /* deployment, or checkpoint */
	void (*run)(struct pool_job *job);
	struct log_cause cause;
};

/* ---- a bundle ---------------------------------------------------------------------------------------------- */

static bool bundle_in_process(struct serving *s, const char *id)
{
	pthread_mutex_lock(&s->lock);
	struct bundle *b = serving_bundle(s, id);
	bool in = b && b->loaded;
	if (in)
		b->retired = false;
	pthread_mutex_unlock(&s->lock);
	return in;
}

static enum wasd_status remember_bundle(struct serving *s, const char *id, cJSON *loaded, int64_t threads,
                                        struct wasd_err *err)
{
	struct api_facts *facts = api_facts_create(loaded);
	pthread_mutex_lock(&s->lock);
	struct bundle *b = serving_bundle(s, id);
	if (!b && (b = wasd_calloc(1, sizeof *b))) {
		snprintf(b->id, sizeof b->id, "%s", id);
		b->next = s->bundles;
		s->bundles = b;
	}
	if (b) {
		serving_set_facts(b, facts);
		b->threads = threads;
	} else {
		api_facts_unref(facts);
	}
	pthread_mutex_unlock(&s->lock);
	return b && facts ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a bundle");
}

/* Checks the shape and names that the other process sent, once, so that the rest of the daemon can rely on them. */
static enum wasd_status check_loaded(const cJSON *j, const char *id, struct wasd_err *err)
{
	const char *bundle = "";
	const cJSON *input = wasd_json_get(j, "input");
	if (!wasd_json_str(j, "bundle", &bundle) || strcmp(bundle, id) || !wasd_json_get(wasd_json_get(j, "modes"), "aom"))
		return wasd_fail(err, WASD_ECORRUPT, "the engine's answer to a load is for bundle %.60s or has no mode aom",
		                 bundle);
	for (const cJSON *v = input->child; v; v = v->next)
		if (!cJSON_IsNumber(v) || v->valuedouble < 1 || v->valuedouble > 65536)
			return wasd_fail(err, WASD_ECORRUPT, "the engine's answer to a load has an invalid input shape");
	return WASD_OK;
}

static enum wasd_status load_bundle(struct serving *s, const char *id, int64_t threads, struct wasd_err *err)
{
	if (bundle_in_process(s, id))
		return WASD_OK;
	int fd;
	int64_t bytes;
	char sha[WASD_SHA256_HEX];
	enum wasd_status st = storage_ckpt_memfd(s->cfg.db, id, &fd, &bytes, sha, err);
	if (st != WASD_OK)
		return st;
	if (threads < 1 || threads > WASD_THREADS_MAX)
		threads = s->cfg.threads;
	struct api_call call = {.who = s->loading,
	                        .json = wasd_message("load", "bundle:s bytes:i sha256:s threads:i", id, bytes, sha,
	                                             threads)};
	st = helper_ask(&s->helper, &call, fd, wasd_mono_us() + LOAD_TIMEOUT_S * 1000000ll, err);
	if (st == WASD_OK)
		st = check_loaded(call.reply, id, err);
	if (st == WASD_OK) {
		st = remember_bundle(s, id, call.reply, threads, err);
		call.reply = NULL;
	}
	api_call_done(&call);
	return st;
}

/* The largest batch that the deployments of a bundle allow; at least 1. */
static int64_t largest_batch(struct serving *s, const char *id)
{
	int64_t most = s->loading_batch > 1 ? s->loading_batch : 1;
	pthread_mutex_lock(&s->lock);
	for (const struct deployment *d = s->deployments; d; d = d->next)
		if (!strcmp(d->bundle, id) && d->options.max_batch > most)
			most = d->options.max_batch;
	pthread_mutex_unlock(&s->lock);
	return most;
}

/* Runs zeros through a mode, so that buffers are touched and kernels chosen before the first request: one batch for
 * each size of which the engine keeps a plan (core/infer/predictor.c), up to the largest batch allowed. */
static enum wasd_status warm_mode(struct serving *s, const char *id, const char *mode, struct wasd_err *err)
{
	size_t n = 1;
	int64_t most = largest_batch(s, id), size = 1;
	enum wasd_status st = WASD_OK;
	pthread_mutex_lock(&s->lock);
	const struct bundle *b = serving_bundle(s, id);
	for (const cJSON *v = b && b->loaded ? wasd_json_get(b->loaded, "input")->child : NULL; v; v = v->next)
		n *= (size_t)v->valuedouble;
	pthread_mutex_unlock(&s->lock);
	float *zeros = wasd_calloc(n * (size_t)most, sizeof *zeros);
	if (!zeros)
		return wasd_fail(err, WASD_ENOMEM, "no memory to warm a bundle up");
	for (bool more = true; more && st == WASD_OK; more = size < most, size = 2 * size < most ? 2 * size : most) {
		struct api_call call = {.who = s->loading,
		                        .json = wasd_message("infer", "bundle:s mode:s n:i", id, mode, size),
		                        .bin = zeros,
		                        .bin_len = n * (size_t)size * sizeof *zeros,
		                        .reply_max = WARM_REPLY_MAX};
		st = helper_ask_running(&s->helper, &call, -1, wasd_mono_us() + LOAD_TIMEOUT_S * 1000000ll, err);
		api_call_done(&call);
	}
	wasd_free(zeros);
	return st;
}

bool serving_mode_in_process(struct serving *s, const char *id, const char *mode)
{
	pthread_mutex_lock(&s->lock);
	bool has = serving_has_mode(serving_bundle(s, id), mode);
	pthread_mutex_unlock(&s->lock);
	return has;
}

/* Mode i of those that are loaded; false after the last. */
static bool mode_at(struct serving *s, const char *id, int i, char mode[WASD_MODE_LEN])
{
	pthread_mutex_lock(&s->lock);
	const struct bundle *b = serving_bundle(s, id);
	const cJSON *m = b && b->loaded ? wasd_json_get(b->loaded, "modes")->child : NULL;
	while (m && i--)
		m = m->next;
	if (m)
		snprintf(mode, WASD_MODE_LEN, "%s", m->string);
	pthread_mutex_unlock(&s->lock);
	return m;
}

static enum wasd_status warm_up(struct serving *s, const char *id, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char mode[WASD_MODE_LEN];
	for (int i = 0; st == WASD_OK && mode_at(s, id, i, mode); i++)
		st = warm_mode(s, id, mode, err);
	return st;
}

/* ---- its profiles ------------------------------------------------------------------------------------------ */

/* Lock held. The bundle's facts with another entry of "modes" (taken; NULL: without that mode). False: no memory. */
static bool change_mode(struct bundle *b, const char *mode, cJSON *one)
{
	cJSON *json = cJSON_Duplicate(b->loaded, true), *modes = cJSON_GetObjectItemCaseSensitive(json, "modes");
	cJSON_DeleteItemFromObjectCaseSensitive(modes, mode);
	if (one && !cJSON_AddItemToObject(modes, mode, one)) {
		cJSON_Delete(one);
		cJSON_Delete(json);
		return false;
	}
	struct api_facts *facts = api_facts_create(json);
	if (facts)
		serving_set_facts(b, facts);
	return facts != NULL;
}

/* Makes the mode available to requests. */
static enum wasd_status add_mode(struct serving *s, const char *id, const char *mode, const char *profile, int64_t macs,
                                 int64_t bytes, struct wasd_err *err)
{
	cJSON *one = wasd_message(NULL, "macs:i bytes:i profile:s", macs, bytes, profile);
	pthread_mutex_lock(&s->lock);
	struct bundle *b = serving_bundle(s, id);
	bool there = b && b->loaded, added = there && one && change_mode(b, mode, one);
	pthread_mutex_unlock(&s->lock);
	if (!there)
		cJSON_Delete(one);
	return added ? WASD_OK :
	       there ? wasd_fail(err, WASD_ENOMEM, "no memory for a mode") :
	               wasd_fail(err, WASD_EBUSY, "the inference process is being restarted");
}

static enum wasd_status load_profile(struct serving *s, const char *id, int64_t threads,
                                     const struct storage_profile *p, struct wasd_err *err)
{
	int fd;
	int64_t bytes, overlay, macs, size;
	char sha[WASD_SHA256_HEX], mode[WASD_MODE_LEN];
	const char *bundle, *of;
	enum wasd_status st = storage_profile_memfd(s->cfg.db, p->id, &fd, &bytes, sha, &overlay, err);
	if (st != WASD_OK)
		return st;
	struct api_call call = {.who = s->loading,
	                        .json = wasd_message("profile",
	                                             "bundle:s mode:s bytes:i sha256:s profile_bytes:i threads:i", id,
	                                             p->mode, bytes, sha, overlay, threads)};
	st = helper_ask_running(&s->helper, &call, fd, wasd_mono_us() + LOAD_TIMEOUT_S * 1000000ll, err);
	if (st == WASD_OK && (!wasd_json_str(call.reply, "bundle", &bundle) || strcmp(bundle, id) ||
	                      !wasd_json_str(call.reply, "mode", &of) || strcmp(of, p->mode) ||
	                      !wasd_json_i64(call.reply, "macs", &macs) || !wasd_json_i64(call.reply, "bytes", &size)))
		st = wasd_fail(err, WASD_ECORRUPT, "the engine's answer to a profile is for another profile");
	api_call_done(&call);
	snprintf(mode, sizeof mode, "%s", p->mode);
	if (st == WASD_OK)
		st = warm_mode(s, id, mode, err);
	if (st == WASD_OK)
		st = add_mode(s, id, mode, p->id, macs, size, err);
	return st;
}

/* Hides the mode from requests, then unloads it from the process. */
static void drop_profile(struct serving *s, const char *id, const char *mode)
{
	pthread_mutex_lock(&s->lock);
	struct bundle *b = serving_bundle(s, id);
	if (b && b->loaded)
		change_mode(b, mode, NULL);
	pthread_mutex_unlock(&s->lock);
	struct api_call call = {.who = s->loading, .json = wasd_message("unprofile", "bundle:s mode:s", id, mode)};
	helper_ask_running(&s->helper, &call, -1, wasd_mono_us() + 10000000, NULL);
	api_call_done(&call);
}

/* Finds a loaded profile without a row: deleted, or deleted and searched again under its old name. */
static bool find_stale(struct serving *s, const char *id, const struct storage_profile_list *rows,
                       char mode[WASD_MODE_LEN])
{
	const char *profile;
	mode[0] = 0;
	pthread_mutex_lock(&s->lock);
	const struct bundle *b = serving_bundle(s, id);
	for (const cJSON *m = b && b->loaded ? wasd_json_get(b->loaded, "modes")->child : NULL; m && !*mode; m = m->next) {
		bool known = !wasd_json_str(m, "profile", &profile); /* aom, dom and slim have none */
		for (size_t i = 0; i < rows->n && !known; i++)
			known = !strcmp(rows->items[i].id, profile);
		if (!known)
			snprintf(mode, WASD_MODE_LEN, "%s", m->string);
	}
	pthread_mutex_unlock(&s->lock);
	return *mode != 0;
}

/* Why the mode that is waited for was not loaded. */
struct wanted {
	const char *mode;
	struct wasd_err why; /* zeroed: nothing was tried */
};

/* Makes the loaded profiles of a bundle match the rows; sets *changed if any was loaded or unloaded. A profile that
 * cannot be loaded does not affect the others, and is retried at the next change. wanted: NULL, or the mode whose error
 * is kept. */
static enum wasd_status follow_profiles(struct serving *s, const char *id, bool *changed, struct wanted *wanted,
                                        struct wasd_err *err)
{
	struct storage_profile_list rows = {0};
	char mode[WASD_MODE_LEN];
	int64_t threads = 0;
	pthread_mutex_lock(&s->lock);
	const struct bundle *b = serving_bundle(s, id);
	if (b && b->loaded)
		threads = b->threads;
	pthread_mutex_unlock(&s->lock);
	if (!threads)
		return WASD_OK; /* the bundle is not served */
	enum wasd_status st = storage_profile_list(s->cfg.db, id, "ready", &rows, err);
	while (st == WASD_OK && find_stale(s, id, &rows, mode)) {
		drop_profile(s, id, mode);
		*changed = true;
	}
	for (size_t i = rows.n; i-- > 0 && st == WASD_OK;) { /* oldest first */
		struct wasd_err why = {0};
		snprintf(mode, sizeof mode, "%s", rows.items[i].mode);
		if (serving_mode_in_process(s, id, mode))
			continue;
		enum wasd_status one = load_profile(s, id, threads, &rows.items[i], &why);
		*changed |= one == WASD_OK;
		if (one == WASD_OK)
			log_line(LOG_INFO, "profile served", "checkpoint=%s mode=%s", id, mode);
		else
			log_line(LOG_WARN, "profile not served", "checkpoint=%s mode=%s why=%s", id, mode, LOG_Q(why.msg));
		if (one && wanted && !strcmp(mode, wanted->mode))
			wanted->why = why;
		if (one == WASD_EBUSY) { /* the process has gone; everything is loaded again after its restart */
			st = one;
			if (err)
				*err = why;
		}
	}
	storage_profile_list_done(&rows);
	return st;
}

/* ---- unused bundles ---------------------------------------------------------------------------------------- */

static bool bundle_used(struct serving *s, const char *id)
{
	for (struct deployment *d = s->deployments; d; d = d->next)
		if (!strcmp(d->bundle, id))
			return true;
	return false;
}

static void unload_unused(struct serving *s)
{
	for (;;) {
		char id[48] = "";
		bool in_process = false;
		pthread_mutex_lock(&s->lock);
		for (struct bundle **at = &s->bundles; *at && !*id;) {
			struct bundle *b = *at;
			b->retired = !bundle_used(s, b->id);
			if (!b->retired || b->users) { /* the last user's end unloads it */
				at = &b->next;
				continue;
			}
			snprintf(id, sizeof id, "%s", b->id);
			in_process = b->loaded != NULL;
			*at = b->next;
			serving_set_facts(b, NULL);
			wasd_free(b);
		}
		pthread_mutex_unlock(&s->lock);
		if (!*id)
			return;
		if (!in_process)
			continue;
		struct api_call call = {.who = s->loading, .json = wasd_message("unload", "bundle:s", id)};
		helper_ask_running(&s->helper, &call, -1, wasd_mono_us() + 10000000, NULL);
		api_call_done(&call);
	}
}

/* ---- a deployment ------------------------------------------------------------------------------------------ */

void serving_set_live(struct deployment *d, const struct storage_deployment *row)
{
	snprintf(d->mode, sizeof d->mode, "%s", row->mode);
	snprintf(d->bundle, sizeof d->bundle, "%s", row->checkpoint);
	d->generation = row->generation;
	d->version = row->version;
	serving_options_read(row->options, &d->options);
	serving_follow_policy(d, row);
	d->condition[0] = 0;
}

/* Makes the row's mode, generation and version live together with the bundle that is now loaded for them. */
static bool publish(struct serving *s, const char *name, const char *id, struct wasd_err *err)
{
	struct storage_deployment row = {0};
	bool same = false;
	pthread_mutex_lock(&s->switching);
	if (storage_deployment_get(s->cfg.db, name, &row, err) == WASD_OK && row.checkpoint &&
	    !strcmp(row.checkpoint, id)) {
		pthread_mutex_lock(&s->lock);
		struct deployment *d = serving_find(s, name);
		same = d != NULL;
		if (d)
			serving_set_live(d, &row);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&s->switching);
	if (same)
		serving_tune(s, &row);
	storage_deployment_done(&row);
	return same;
}

static void load_failed(struct serving *s, const struct storage_deployment *row, const struct wasd_err *err)
{
	char message[300];
	log_line(LOG_WARN, "deployment not loaded", "deployment=%s checkpoint=%s why=%s", row->name,
	         row->checkpoint ? row->checkpoint : "-", LOG_Q(err->msg));
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, row->name);
	struct bundle *old = d && *d->bundle ? serving_bundle(s, d->bundle) : NULL;
	bool answers = old && old->loaded;
	snprintf(message, sizeof message, "%s%s", answers ? "UpdateFailed: " : "", err->msg);
	if (d)
		snprintf(d->condition, sizeof d->condition, "%.190s", message);
	pthread_mutex_unlock(&s->lock);
	storage_deployment_state(s->cfg.db, row->name, answers ? "ready" : "failed", message, NULL);
}

enum wasd_status serving_prepare(struct serving *s, const char *id, const char *mode, int64_t threads, bool tell,
                                 struct wasd_err *err)
{
	bool changed = false;
	struct wanted wanted = {.mode = mode};
	struct storage_deployment row = {0};
	struct serving_options options = {0};
	if (storage_deployment_get(s->cfg.db, s->loading, &row, NULL) == WASD_OK)
		serving_options_read(row.options, &options);
	storage_deployment_done(&row);
	s->loading_batch = options.max_batch;
	enum wasd_status st = load_bundle(s, id, threads, err);
	if (st == WASD_OK && tell)
		storage_deployment_state(s->cfg.db, s->loading, "warming", NULL, NULL);
	if (st == WASD_OK)
		st = warm_up(s, id, err);
	if (st == WASD_OK)
		st = follow_profiles(s, id, &changed, &wanted, err);
	bool may_lack = wasd_mode_member(mode) || wasd_mode_smaller(mode);
	if (st == WASD_OK && may_lack && !serving_mode_in_process(s, id, mode))
		st = wasd_fail(err, wanted.why.status ? wanted.why.status : WASD_ECORRUPT, "mode %s could not be loaded%s%s",
		               mode, wanted.why.status ? ": " : "", wanted.why.msg);
	s->loading_batch = 0;
	return st;
}

/* Serves the checkpoint of the row. */
static void bring_up(struct serving *s, const struct storage_deployment *row)
{
	struct wasd_err err = {0};
	struct serving_options options;
	serving_options_read(row->options, &options);
	enum wasd_status st = serving_prepare(s, row->checkpoint, row->mode, options.threads,
	                                      strcmp(row->state, "ready") != 0, &err);
	if (st == WASD_OK) {
		if (publish(s, row->name, row->checkpoint, &err)) {
			storage_deployment_state(s->cfg.db, row->name, "ready", NULL, NULL);
			log_line(LOG_INFO, "deployment ready", "deployment=%s checkpoint=%s", row->name, row->checkpoint);
		}
	} else if (st != WASD_EBUSY) {
		load_failed(s, row, &err);
	} /* busy: the process has gone; wanted deployments are loaded again when it is up */
}

static void load(struct serving *s, const char *name)
{
	struct storage_deployment row = {0};
	serving_catch_up(s, name);
	if (storage_deployment_get(s->cfg.db, name, &row, NULL) == WASD_OK && row.checkpoint &&
	    strcmp(row.state, "draining")) {
		bool update = serving_update_pending(&row), failed = !strcmp(row.state, "failed");
		if (strcmp(row.state, "ready"))
			storage_deployment_state(s->cfg.db, name, "loading", NULL, NULL);
		if (!update || !(failed || serving_serves(s, name, row.checkpoint)))
			bring_up(s, &row);
		if (update)
			serving_update(s, name);
	}
	storage_deployment_done(&row);
	unload_unused(s);
}

/* A suspended deployment is loaded when its suspension ends, and one that is not served when somebody asks for it. */
static void load_one(struct serving *s, const char *name)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	bool load_it = d && d->wanted && !d->aside_until_us && !atomic_load(&s->stopping);
	pthread_mutex_unlock(&s->lock);
	if (!load_it)
		return;
	snprintf(s->loading, sizeof s->loading, "%s", name);
	load(s, name);
	s->loading[0] = 0;
}

static void run_load(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	load_one(l->s, l->name);
	wasd_free(l);
}

/* A job for pool_submit; its run function frees it. NULL: no memory. */
/* The lines of a load belong to the request that has caused it. */
static void run_one(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	log_begin(&l->cause);
	l->run(job);
	log_begin(NULL);
}

static struct load_job *job_create(struct serving *s, void (*run)(struct pool_job *job), const char *name)
{
	struct load_job *l = wasd_calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->job.run = run_one;
	l->run = run;
	l->cause = log_cause();
	l->s = s;
	snprintf(l->name, sizeof l->name, "%s", name);
	return l;
}

/* After serve_stop there is no loading thread, and the job is dropped. */
static void submit(struct serving *s, struct load_job *l)
{
	pthread_mutex_lock(&s->submitting);
	bool open = s->loads != NULL;
	if (open)
		pool_submit(s->loads, &l->job);
	pthread_mutex_unlock(&s->submitting);
	if (!open)
		wasd_free(l);
}

void serving_queue_load(struct serving *s, const char *name)
{
	struct load_job *l = job_create(s, run_load, name);
	if (!l) {
		log_line(LOG_ERROR, "deployment not loaded", "deployment=%s why=memory", name);
		return;
	}
	submit(s, l);
}

/* The modes that are loaded get the plans for larger batches. */
static void run_warm(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	struct serving *s = l->s;
	char id[48] = "", mode[WASD_MODE_LEN] = "";
	for (int i = 0; !atomic_load(&s->stopping); i++) {
		int k = 0;
		mode[0] = 0;
		pthread_mutex_lock(&s->lock);
		const struct deployment *d = serving_find(s, l->name);
		const struct bundle *b = d ? serving_bundle(s, d->bundle) : NULL;
		const cJSON *m = b && b->loaded ? wasd_json_get(b->loaded, "modes")->child : NULL;
		for (; m && k < i; k++)
			m = m->next;
		if (m) {
			snprintf(id, sizeof id, "%s", b->id);
			snprintf(mode, sizeof mode, "%s", m->string);
		}
		pthread_mutex_unlock(&s->lock);
		if (!*mode || warm_mode(s, id, mode, NULL) != WASD_OK)
			break;
	}
	wasd_free(l);
}

enum wasd_status serve_tuned(struct serving *s, const char *name, struct wasd_err *err)
{
	struct storage_deployment row = {0};
	pthread_mutex_lock(&s->switching); /* the last reader of the row has the last word */
	enum wasd_status st = storage_deployment_get(s->cfg.db, name, &row, err);
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	int64_t before = d ? d->options.max_batch : 0;
	if (d && st == WASD_OK)
		serving_options_read(row.options, &d->options);
	struct load_job *l = d && d->options.max_batch > before ? job_create(s, run_warm, name) : NULL;
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_unlock(&s->switching);
	storage_deployment_done(&row);
	if (l)
		pool_submit(s->loads, &l->job);
	return st;
}

/* Publishes an event for each deployment of the bundle, whose modes have changed. Only this thread changes a
 * deployment's state, except for suspension. */
static void tell_modes(struct serving *s, const char *id)
{
	char name[72] = "", message[400];
	for (bool more = true; more;) {
		struct storage_deployment row = {0};
		pthread_mutex_lock(&s->lock);
		struct deployment *d = *name ? serving_find(s, name) : NULL;
		d = d ? d->next : *name ? NULL : s->deployments;
		while (d && !(d->wanted && !strcmp(d->bundle, id)))
			d = d->next;
		more = d != NULL;
		snprintf(name, sizeof name, "%s", d ? d->name : "");
		snprintf(message, sizeof message, "%s", d ? d->condition : "");
		pthread_mutex_unlock(&s->lock);
		if (more && storage_deployment_get(s->cfg.db, name, &row, NULL) == WASD_OK && !strcmp(row.state, "ready"))
			storage_deployment_state(s->cfg.db, name, "ready", *message ? message : NULL, NULL);
		storage_deployment_done(&row);
	}
}

static void run_follow(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	bool changed = false;
	if (!atomic_load(&l->s->stopping))
		follow_profiles(l->s, l->name, &changed, NULL, NULL);
	if (changed)
		tell_modes(l->s, l->name);
	wasd_free(l);
}

void serve_profiles_changed(struct serving *s, const char *checkpoint)
{
	if (atomic_load(&s->stopping))
		return;
	struct load_job *l = job_create(s, run_follow, checkpoint);
	if (l)
		submit(s, l);
	else
		log_line(LOG_ERROR, "profiles not updated", "checkpoint=%s why=memory", checkpoint);
}

enum wasd_status serve_changed(struct serving *s, const char *name, struct wasd_err *err)
{
	if (atomic_load(&s->stopping))
		return wasd_fail(err, WASD_EBUSY, "the daemon is stopping");
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	if (!d && (d = wasd_calloc(1, sizeof *d))) {
		snprintf(d->name, sizeof d->name, "%s", name);
		d->next = s->deployments;
		s->deployments = d;
	}
	if (d)
		d->wanted = true;
	pthread_mutex_unlock(&s->lock);
	if (!d)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a deployment");
	serving_forgive(s, name);
	serving_queue_load(s, name);
	return WASD_OK;
}

/* Its requests in flight have been answered, unless it is wanted again. */
static void run_drained(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	struct serving *s = l->s;
	bool gone = true;
	pthread_mutex_lock(&s->lock);
	for (struct deployment **at = &s->deployments, *d; (d = *at); at = &d->next) {
		if (strcmp(d->name, l->name))
			continue;
		gone = !d->wanted && !d->in_flight_all;
		if (gone) {
			*at = d->next;
			serving_traffic_done(d);
			wasd_free(d);
			queue_drop_stats(s->queue, l->name);
			metrics_drop_deployment(s->cfg.metrics, l->name);
		}
		break;
	}
	pthread_mutex_unlock(&s->lock);
	if (gone)
		storage_deployment_drained(s->cfg.db, l->name, NULL);
	unload_unused(s);
	wasd_free(l);
}

void serving_queue_drained(struct serving *s, const char *name)
{
	struct load_job *l = job_create(s, run_drained, name);
	if (l)
		submit(s, l);
	else
		log_line(LOG_ERROR, "deployment not unloaded", "deployment=%s why=memory", name);
}

enum wasd_status serve_gone(struct serving *s, const char *name, int64_t *in_flight, struct wasd_err *err)
{
	if (atomic_load(&s->stopping))
		return wasd_fail(err, WASD_EBUSY, "the daemon is stopping");
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	if (d)
		d->wanted = false;
	*in_flight = d ? d->in_flight_all : 0;
	pthread_mutex_unlock(&s->lock);
	if (!*in_flight)
		serving_queue_drained(s, name);
	return WASD_OK;
}

/* ---- what completed jobs deploy ----------------------------------------------------------------------------- */

static void run_deployed(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	struct serving *s = l->s;
	struct storage_names names = {0};
	if (!atomic_load(&s->stopping) && storage_loads_take(s->cfg.db, &names, NULL) == WASD_OK)
		for (size_t i = 0; i < names.n; i++)
			serve_changed(s, names.items[i], NULL);
	storage_names_done(&names);
	wasd_free(l);
}

void serve_deployed(struct serving *s)
{
	struct load_job *l = atomic_load(&s->stopping) ? NULL : job_create(s, run_deployed, "");
	if (l)
		submit(s, l); /* without memory: asked again at the next look */
}

/* ---- followers of a job ------------------------------------------------------------------------------------- */

static void run_followers(struct pool_job *job)
{
	struct load_job *l = (struct load_job *)((char *)job - offsetof(struct load_job, job));
	struct serving *s = l->s;
	struct storage_names names = {0};
	if (!atomic_load(&s->stopping) && !storage_deployment_followers(s->cfg.db, l->name, &names, NULL))
		for (size_t i = 0; i < names.n; i++)
			if (serving_catch_up(s, names.items[i]))
				load_one(s, names.items[i]);
	storage_names_done(&names);
	wasd_free(l);
}

void serve_checkpoint_stored(struct serving *s, const char *job)
{
	if (atomic_load(&s->stopping))
		return;
	struct load_job *l = job_create(s, run_followers, job);
	if (l)
		submit(s, l);
	else
		log_line(LOG_ERROR, "followers not updated", "job=%s why=memory", job);
}
