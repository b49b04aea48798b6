/* train_profiles.c - the profiles that a job's spec names: asked for when its training has come to a good end, and waited for. See train_jobs.c. */
#include "scheduler_internal.h"
#include "api.h"

#include <stdio.h>
#include <string.h>

/* The training came to its own end. */
static bool ended_well(const struct run *r)
{
	return r->done_reason && r->end.exit_code == 0 && !r->cancelling && !r->over_time && !(r->draining && !strcmp(r->done_reason, "cancelled"));
}

static void show_phase(struct run *r, const char *phase)
{
	cJSON *p = r->progress ? cJSON_Duplicate(r->progress, true) : cJSON_CreateObject();
	cJSON_DeleteItemFromObjectCaseSensitive(p, "phase");
	if (p && cJSON_AddStringToObject(p, "phase", phase))
		run_set_progress(r, p);
	else
		cJSON_Delete(p);
}

/* One row. False: to be tried again. */
static bool ask_for(struct run *r, const struct storage_job *job, const cJSON *item)
{
	struct wasd_err err = {0};
	char *request = api_profile_request(item);
	struct storage_profile_in in = { .checkpoint = r->profiles_of, .name = "", .desire = "", .request = request, .dataset = job->dataset,
	                                 .dataset_version = job->dataset_version, .actor = job->created_by };
	wasd_json_str(item, "name", &in.name);
	wasd_json_str(item, "desire", &in.desire);
	enum wasd_status s = request ? storage_profile_begin(r->jobs->cfg.db, &in, NULL, NULL, &err) : WASD_ENOMEM;
	wasd_free(request);
	if (s == WASD_ENOMEM || s == WASD_EBUSY)
		return false;
	if (s != WASD_OK)
		run_note(r, "warn", "profile %s is not searched: %s", in.name, err.msg);
	return true;
}

/* Idempotent, so that a job which ends twice (the daemon was killed in between) has each of them once. False: to be tried again. */
static bool ask_for_profiles(struct run *r, const cJSON *list)
{
	struct storage_job job = {0};
	struct storage_ckpt k = {0};
	struct wasd_err err = {0};
	const cJSON *item;
	bool ok = true;
	enum wasd_status s = storage_job_get(r->jobs->cfg.db, r->id, &job, &err);
	if (s == WASD_OK)
		s = storage_ckpt_pick(r->jobs->cfg.db, r->id, "best", &k, &err);
	if (s == WASD_OK) {
		snprintf(r->profiles_of, sizeof r->profiles_of, "%s", k.id);
		cJSON_ArrayForEach(item, list)
			ok = ok && ask_for(r, &job, item);
	} else if (s == WASD_ENOMEM || s == WASD_EBUSY) {
		ok = false;
	} else {
		run_note(r, "warn", "no profiles are searched: %s", err.msg);
	}
	if (ok && s == WASD_OK && r->jobs->cfg.profile_queued) {
		run_note(r, "info", "searching %d profile%s of checkpoint %s", cJSON_GetArraySize(list), cJSON_GetArraySize(list) > 1 ? "s" : "", k.id);
		show_phase(r, "profiles");
		r->jobs->cfg.profile_queued(r->jobs->cfg.ctx);
	}
	storage_ckpt_done(&k);
	storage_job_done(&job);
	return ok;
}

/* One that was deleted is settled as well. */
static bool settled(struct run *r, const char *name, bool tell)
{
	struct storage_profile p = {0};
	enum wasd_status s = storage_profile_get(r->jobs->cfg.db, r->profiles_of, name, &p, NULL);
	bool over = s == WASD_ENOTFOUND || (s == WASD_OK && (!strcmp(p.state, "ready") || !strcmp(p.state, "failed")));
	if (tell && s == WASD_OK && !strcmp(p.state, "failed"))
		run_note(r, "warn", "profile %s: %s", name, p.message ? p.message : "its search has failed");
	else if (tell && s == WASD_OK && over)
		run_note(r, "info", "profile %s is ready", name);
	storage_profile_done(&p);
	return over;
}

/* True: nothing more is to be done for them. */
bool run_profiles_over(struct run *r)
{
	const cJSON *list = wasd_json_get(r->spec, "profiles"), *item;
	const char *name;
	if (!cJSON_GetArraySize(list) || !ended_well(r) || r->closing)
		return true;
	if (!r->profiles_asked && !(r->profiles_asked = ask_for_profiles(r, list)))
		return false;
	if (r->draining || r->profiles_waived || !*r->profiles_of || !r->jobs->cfg.profile_queued)
		return true;
	cJSON_ArrayForEach(item, list)
		if (wasd_json_str(item, "name", &name) && !settled(r, name, false))
			return false;
	cJSON_ArrayForEach(item, list)
		if (wasd_json_str(item, "name", &name))
			settled(r, name, true);
	return true;
}

bool run_profiles_waived(struct run *r)
{
	if (!r->gone || !r->profiles_asked)
		return false;
	r->profiles_waived = true;
	run_maybe_finish(r);
	return true;
}
