/* updates.c - another checkpoint for a deployment that serves: the new bundle is loaded and warmed up beside the old
 * one, then one step under `lock`, after its commit, makes it live. Requests that hold the old bundle (serve_begin) are
 * answered by it; the last of them unloads it. All of this runs on the loading thread. */
#include "serving/internal.h"

#include "log.h"

#include <stdio.h>
#include <string.h>

enum { UPDATE_DEATHS = 2 }; /* of the process during one update, before it is given up */

bool serving_update_pending(const struct storage_deployment *row)
{
	cJSON *o = NULL;
	const char *why = NULL;
	if (!row->wanted || !row->update_info ||
	    wasd_json_parse(row->update_info, strlen(row->update_info), WASD_JSON_REQUEST, &o, NULL) != WASD_OK)
		return false;
	bool failed = wasd_json_str(o, "error", &why);
	cJSON_Delete(o);
	return !failed;
}

bool serving_serves(struct serving *s, const char *name, const char *id)
{
	pthread_mutex_lock(&s->lock);
	const struct deployment *d = serving_find(s, name);
	bool is = d && !strcmp(d->bundle, id) && serving_has_mode(serving_bundle(s, id), "aom");
	pthread_mutex_unlock(&s->lock);
	return is;
}

/* ---- the swap ------------------------------------------------------------------------------------------------ */

/* Commits the swap, then makes the row live. */
static enum wasd_status swap(struct serving *s, const char *name, const char *id, struct wasd_err *err)
{
	struct storage_deployment row = {0};
	pthread_mutex_lock(&s->switching);
	enum wasd_status st = storage_deployment_swap(s->cfg.db, name, id, &row, err);
	int64_t t0 = wasd_mono_us(), took = 0;
	if (st == WASD_OK) {
		pthread_mutex_lock(&s->lock);
		struct deployment *d = serving_find(s, name);
		if (d) {
			serving_set_live(d, &row);
			d->swap_us = took = wasd_mono_us() - t0;
			d->swapped = true;
			d->update_deaths = 0;
		}
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&s->switching);
	if (st == WASD_OK)
		log_line(LOG_INFO, "deployment swapped",
		         "deployment=%s checkpoint=%s version=%lld generation=%lld swap_us=%lld", name, id,
		         (long long)row.version, (long long)row.generation, (long long)took);
	if (st == WASD_OK)
		serving_tune(s, &row);
	storage_deployment_done(&row);
	return st;
}

static void to_ready(struct serving *s, const struct storage_deployment *row)
{
	struct storage_deployment now = {0};
	if (storage_deployment_get(s->cfg.db, row->name, &now, NULL) == WASD_OK && strcmp(now.state, "ready")) {
		if (!strcmp(now.state, "failed"))
			storage_deployment_state(s->cfg.db, row->name, "loading", NULL, NULL);
		storage_deployment_state(s->cfg.db, row->name, "ready", NULL, NULL);
	}
	storage_deployment_done(&now);
}

static void update_failed(struct serving *s, const struct storage_deployment *row, const struct wasd_err *err)
{
	log_line(LOG_WARN, "deployment not updated", "deployment=%s checkpoint=%s why=%s", row->name, row->wanted,
	         LOG_Q(err->msg));
	storage_deployment_update_failed(s->cfg.db, row->name, row->wanted, err->msg, NULL);
	if (!serving_serves(s, row->name, row->checkpoint))
		storage_deployment_state(s->cfg.db, row->name, "failed", err->msg, NULL);
}

/* The process died during the update. True: for the last time that is tried. */
static bool died_too_often(struct serving *s, const char *name)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	bool often = d && ++d->update_deaths >= UPDATE_DEATHS;
	if (often)
		d->update_deaths = 0;
	pthread_mutex_unlock(&s->lock);
	return often;
}

void serving_update(struct serving *s, const char *name)
{
	struct storage_deployment row = {0};
	struct serving_options options;
	struct wasd_err err = {0};
	cJSON *info = NULL;
	const char *mode = NULL;
	if (storage_deployment_get(s->cfg.db, name, &row, NULL) != WASD_OK || !serving_update_pending(&row)) {
		storage_deployment_done(&row);
		return;
	}
	serving_options_read(row.options, &options);
	wasd_json_parse(row.update_info, strlen(row.update_info), WASD_JSON_REQUEST, &info, NULL);
	if (!wasd_json_str(info, "mode", &mode))
		mode = row.mode;
	enum wasd_status st = serving_prepare(s, row.wanted, mode, options.threads, false, &err);
	if (st == WASD_OK && wasd_mode_ok(mode) && !serving_mode_in_process(s, row.wanted, mode))
		st = wasd_fail(&err, WASD_EUNSUPPORTED, "checkpoint %s has no mode %s", row.wanted, mode);
	else if (st == WASD_EBUSY && !atomic_load(&s->stopping) && died_too_often(s, name))
		st = wasd_fail(&err, WASD_ECORRUPT, "the inference process died each time that checkpoint %s was loaded",
		               row.wanted);
	else if (st == WASD_OK && (st = swap(s, name, row.wanted, &err)) == WASD_EBUSY)
		st = WASD_EUNSUPPORTED; /* the mode was switched meanwhile to a profile that the checkpoint does not have */
	if (st == WASD_OK)
		to_ready(s, &row);
	else if (st != WASD_EBUSY && st != WASD_ESTATE && st != WASD_ENOTFOUND)
		update_failed(s, &row, &err);
	/* busy: the process has gone and everything is loaded again; state: a later wish has its own load; not found: the
	 * deployment was deleted */
	cJSON_Delete(info);
	storage_deployment_done(&row);
}

/* ---- following a job --------------------------------------------------------------------------------------------- */

/* The source that was asked for last. */
static cJSON *active_source(const struct storage_deployment *row)
{
	cJSON *info = NULL, *source = NULL;
	if (row->update_info)
		wasd_json_parse(row->update_info, strlen(row->update_info), WASD_JSON_REQUEST, &info, NULL);
	if (cJSON_IsObject(wasd_json_get(info, "source")))
		source = cJSON_DetachItemFromObjectCaseSensitive(info, "source");
	else if (row->source)
		wasd_json_parse(row->source, strlen(row->source), WASD_JSON_REQUEST, &source, NULL);
	cJSON_Delete(info);
	return source;
}

/* why: "" = it follows its job, or it has none to follow. */
static void told(struct serving *s, const char *name, const char *why)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	if (d)
		snprintf(d->not_following, sizeof d->not_following, "%s", why);
	pthread_mutex_unlock(&s->lock);
}

bool serving_catch_up(struct serving *s, const char *name)
{
	struct storage_deployment row = {0};
	struct storage_ckpt k = {0};
	struct wasd_err err = {0};
	const char *job = "", *follow = "";
	char why[300] = "";
	bool changed = false;
	if (storage_deployment_get(s->cfg.db, name, &row, NULL) != WASD_OK)
		return false;
	cJSON *source = active_source(&row);
	if (wasd_json_str(source, "job", &job) && wasd_json_str(source, "follow", &follow) &&
	    storage_ckpt_pick(s->cfg.db, job, follow, &k, NULL) == WASD_OK &&
	    strcmp(k.id, row.wanted ? row.wanted : row.checkpoint)) {
		char reason[160];
		snprintf(reason, sizeof reason, "follows the %s checkpoint of job %.63s: epoch %lld", follow, job,
		         (long long)k.epoch);
		struct storage_source_in in = {.name = name, .checkpoint = k.id, .actor = "daemon", .reason = reason};
		changed = storage_deployment_source(s->cfg.db, &in, NULL, &err) == WASD_OK;
		if (!changed)
			log_line(LOG_WARN, "deployment does not follow", "deployment=%s checkpoint=%s why=%s", name, k.id,
			         LOG_Q(err.msg));
		if (!changed)
			snprintf(why, sizeof why, "a newer one is not served: %s", err.msg);
	}
	told(s, name, why);
	cJSON_Delete(source);
	storage_ckpt_done(&k);
	storage_deployment_done(&row);
	return changed;
}
