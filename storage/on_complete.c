/* on_complete.c - what follows the completion of a job: a version in the registry, an alias, a deployment.
 *
 * The transaction that completes the job does all of it, so it happens once, whenever the daemon dies; a refusal (a
 * profile that is not ready, a deployment that is being deleted) rolls back what follows and leaves the completion. The
 * outcome is a column of the job: {"state": done | skipped | failed, "why", "checkpoint_id", "version", "deployment",
 * "at"}. Deployments that changed stand in deployment_loads until the daemon loads them; a daemon that
 * starts loads every deployment. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct follow {
	const struct storage_job *job;
	const cJSON *asked;
	struct storage_ckpt k;
	char reason[80], why[400];
	int64_t version;
};

/* ---- conditions ---- */

static bool compares(double a, const char *op, double b)
{
	return !strcmp(op, ">=") ? a >= b : !strcmp(op, ">") ? a > b : !strcmp(op, "<=") ? a <= b : a < b;
}

/* Do all conditions hold? If not, why says what does not. */
static bool holds(struct follow *f)
{
	const cJSON *one;
	cJSON *metrics = NULL;
	bool ok = true;
	if (f->k.metrics)
		wasd_json_parse(f->k.metrics, strlen(f->k.metrics), WASD_JSON_BULK, &metrics, NULL);
	cJSON_ArrayForEach(one, wasd_json_get(f->asked, "if")) {
		const char *metric = "", *op = "";
		double want = 0, is = NAN;
		wasd_json_str(one, "metric", &metric);
		wasd_json_str(one, "op", &op);
		wasd_json_num(one, "value", &want);
		if (!wasd_json_num(metrics, metric, &is))
			snprintf(f->why, sizeof f->why, "%s was not measured at epoch %lld", metric, (long long)f->k.epoch);
		else if (!compares(is, op, want))
			snprintf(f->why, sizeof f->why, "%s is %.6g at epoch %lld, not %s %.6g", metric, is, (long long)f->k.epoch,
			         op, want);
		else
			continue;
		ok = false;
		break;
	}
	cJSON_Delete(metrics);
	return ok;
}

/* ---- actions ---- */

static enum wasd_status to_load(struct storage *s, const char *name, struct wasd_err *err)
{
	return q_run(tx_conn(s), "INSERT OR IGNORE INTO deployment_loads(name) VALUES(?1)", err, "t", name);
}

static enum wasd_status set_alias(struct storage *s, const struct follow *f, const char *model, const char *alias,
                                  struct wasd_err *err)
{
	struct storage_names moved = {0};
	struct storage_alias_in in = {.model = model,
	                              .alias = alias,
	                              .version = f->version,
	                              .expected = -1,
	                              .actor = f->job->created_by,
	                              .reason = f->reason};
	enum wasd_status st = storage_alias_set(s, &in, &moved, err);
	for (size_t i = 0; i < moved.n && !st; i++)
		st = to_load(s, moved.items[i], err);
	storage_names_done(&moved);
	return st;
}

static enum wasd_status do_register(struct storage *s, struct follow *f, const cJSON *what, struct wasd_err *err)
{
	const char *model = "", *alias = NULL, *note = NULL;
	struct storage_model m = {0};
	struct wasd_err none = {0};
	wasd_json_str(what, "model", &model);
	wasd_json_str(what, "note", &note);
	enum wasd_status st = storage_model_get(s, model, &m, &none);
	if (st == WASD_ENOTFOUND)
		st = storage_model_create(s, model, NULL, f->job->created_by, err);
	else if (st)
		wasd_fail(err, st, "%s", none.msg);
	struct storage_version_in in = {.model = model, .checkpoint = f->k.id, .note = note, .actor = f->job->created_by};
	if (!st)
		st = storage_version_add(s, &in, &f->version, err);
	if (!st && wasd_json_str(what, "alias", &alias))
		st = set_alias(s, f, model, alias, err);
	storage_model_done(&m);
	return st;
}

/* The source: the alias or the version in the registry, or else the job. NULL: no memory. */
static char *source_of(const struct follow *f)
{
	const cJSON *registered = wasd_json_get(f->asked, "register");
	const char *model, *alias, *pick = "best";
	cJSON *o;
	wasd_json_str(f->asked, "checkpoint", &pick);
	if (!wasd_json_str(registered, "model", &model))
		o = make_object("ss", "job", f->job->id, "follow", pick);
	else if (wasd_json_str(registered, "alias", &alias))
		o = make_object("ss", "model", model, "alias", alias);
	else
		o = make_object("si", "model", model, "version", f->version);
	char *text = o ? wasd_json_print(o) : NULL;
	cJSON_Delete(o);
	return text;
}

/* The members of a deployment that are options. NULL: no memory. */
static char *options_of(const cJSON *what)
{
	cJSON *o = cJSON_Duplicate(what, 1);
	cJSON_DeleteItemFromObjectCaseSensitive(o, "name");
	cJSON_DeleteItemFromObjectCaseSensitive(o, "mode");
	char *text = o ? wasd_json_print(o) : NULL;
	cJSON_Delete(o);
	return text;
}

static enum wasd_status change_deployment(struct storage *s, const struct follow *f, const char *name,
                                          const char *source, const char *mode, const char *options,
                                          struct wasd_err *err)
{
	struct storage_source_in to = {.name = name,
	                               .source = source,
	                               .checkpoint = f->k.id,
	                               .mode = mode,
	                               .actor = f->job->created_by,
	                               .reason = f->reason};
	struct storage_options_in o = {.name = name, .options = options, .actor = f->job->created_by, .reason = f->reason};
	enum wasd_status st = storage_deployment_source(s, &to, NULL, err);
	return st || !strcmp(options, "{}") ? st : storage_deployment_options(s, &o, err);
}

static enum wasd_status do_deploy(struct storage *s, struct follow *f, const cJSON *what, struct wasd_err *err)
{
	const char *name = "", *mode = NULL;
	struct storage_deployment d = {0};
	struct wasd_err none = {0};
	char *source = source_of(f), *options = options_of(what);
	wasd_json_str(what, "name", &name);
	wasd_json_str(what, "mode", &mode);
	enum wasd_status st = source && options ? storage_deployment_get(s, name, &d, &none) :
	                                          wasd_fail(&none, WASD_ENOMEM, "no memory");
	struct storage_deployment_in in = {.name = name,
	                                   .source = source,
	                                   .checkpoint = f->k.id,
	                                   .mode = mode ? mode : WASD_MODE_AOM,
	                                   .options = options,
	                                   .actor = f->job->created_by};
	if (!st)
		st = change_deployment(s, f, name, source, mode, options, err);
	else if (st == WASD_ENOTFOUND)
		st = storage_deployment_create(s, &in, &d, err);
	else
		wasd_fail(err, st, "%s", none.msg);
	storage_deployment_done(&d);
	wasd_free(source);
	wasd_free(options);
	return st ? st : to_load(s, name, err);
}

static enum wasd_status act_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct follow *f = ctx;
	const cJSON *registration = wasd_json_get(f->asked, "register"), *deployment = wasd_json_get(f->asked, "deploy");
	enum wasd_status st = WASD_OK;
	if (cJSON_IsObject(registration))
		st = do_register(s, f, registration, err);
	if (!st && cJSON_IsObject(deployment))
		st = do_deploy(s, f, deployment, err);
	return st;
}

/* ---- the outcome ---- */

static enum wasd_status store(struct storage *s, const struct follow *f, const char *state, struct wasd_err *err)
{
	bool done = !strcmp(state, "done");
	const char *deployment = NULL, *why = *f->why ? f->why : NULL;
	char object[80];
	if (done)
		wasd_json_str(wasd_json_get(f->asked, "deploy"), "name", &deployment);
	cJSON *o = make_object("sssjsi", "state", state, "why", why, "checkpoint_id", f->k.id, "version",
	                       done && f->version ? cJSON_CreateNumber((double)f->version) : cJSON_CreateNull(),
	                       "deployment", deployment, "at", wasd_now_ms());
	char *text = o ? wasd_json_print(o) : NULL;
	enum wasd_status st = text ? q_run(tx_conn(s), "UPDATE jobs SET on_complete=?2, rev=rev+1 WHERE id=?1", err, "tt",
	                                   f->job->id, text) :
	                             wasd_fail(err, WASD_ENOMEM, "no memory for what follows a job");
	wasd_free(text);
	sqlite3_snprintf(sizeof object, object, "job/%s", f->job->id);
	struct audit_in in = {.actor = f->job->created_by, .action = "job.on_complete", .object = object, .reason = why};
	if (!st)
		st = audit_change(s, in, true, NULL, cJSON_Duplicate(o, 1), err);
	if (!st && !cJSON_AddStringToObject(o, "id", f->job->id))
		st = wasd_fail(err, WASD_ENOMEM, "no memory for an event");
	if (st) {
		cJSON_Delete(o);
		return st;
	}
	return event_put(s, "jobs", "job.on_complete", f->job->id, o, err);
}

/* An error that would recur is the outcome; any other rolls back the completion too, which is then tried again. */
static bool refusal(enum wasd_status st)
{
	return st == WASD_EINVAL || st == WASD_ENOTFOUND || st == WASD_EEXIST || st == WASD_ESTATE || st == WASD_ECORRUPT ||
	       st == WASD_EBUSY;
}

static enum wasd_status follow(struct storage *s, struct follow *f, struct wasd_err *err)
{
	const char *pick = "best", *state = "done";
	struct wasd_err why = {0};
	wasd_json_str(f->asked, "checkpoint", &pick);
	snprintf(f->reason, sizeof f->reason, "on_complete of job %.40s", f->job->id);
	enum wasd_status st = storage_ckpt_pick(s, f->job->id, pick, &f->k, &why);
	if (f->job->reason && !strcmp(f->job->reason, "pruned")) {
		snprintf(f->why, sizeof f->why, "its sweep pruned it");
		return store(s, f, "skipped", err);
	}
	if (!st && !holds(f))
		return store(s, f, "skipped", err);
	if (!st)
		st = tx_try(s, act_tx, f, &why);
	if (st && !refusal(st))
		return wasd_fail(err, st, "%s", why.msg);
	if (st) {
		state = "failed";
		snprintf(f->why, sizeof f->why, "%s", why.msg);
	}
	return store(s, f, state, err);
}

enum wasd_status job_on_complete(struct storage *s, const char *id, struct wasd_err *err)
{
	struct storage_job job = {0};
	cJSON *spec = NULL;
	enum wasd_status st = storage_job_get(s, id, &job, err);
	if (!st && strstr(job.spec, "\"on_complete\""))
		st = wasd_json_parse(job.spec, strlen(job.spec), WASD_JSON_BULK, &spec, err);
	struct follow f = {.job = &job, .asked = wasd_json_get(spec, "on_complete")};
	if (!st && cJSON_IsObject(f.asked))
		st = follow(s, &f, err);
	storage_ckpt_done(&f.k);
	cJSON_Delete(spec);
	storage_job_done(&job);
	return st;
}

/* ---- the deployments to load ---- */

bool storage_loads_waiting(struct storage *s)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM deployment_loads LIMIT 1", &st, NULL, "");
	bool found = q_row(c, q, &st, NULL);
	q_end(c, q);
	read_end(s, c);
	return found;
}

static enum wasd_status take_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct storage_names *l = ctx;
	struct conn *c = tx_conn(s);
	storage_names_done(l); /* the transaction may run twice */
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT name FROM deployment_loads ORDER BY name", &st, err, "");
	st = q_names(c, q, st, l, err);
	return st ? st : q_run(c, "DELETE FROM deployment_loads", err, "");
}

enum wasd_status storage_loads_take(struct storage *s, struct storage_names *out, struct wasd_err *err)
{
	struct storage_names l = {0};
	enum wasd_status st = write_op(s, take_tx, &l, err);
	if (st)
		storage_names_done(&l);
	else
		*out = l;
	return st;
}
