/* deployment_source.c - what a deployment serves next, and its end; see storage.h.
 *
 * `checkpoint` is what it serves (or, while it loads for the first time, what it will), `wanted` what it is to serve
 * next. A swap moves wanted to checkpoint and checkpoint to previous. The daemon may die between any two of these
 * transactions: it then loads `checkpoint` first and goes on with `wanted`, unless update_info has an error. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

static enum wasd_status put_event(struct storage *s, const struct storage_deployment *d, const char *reason,
                                  struct wasd_err *err)
{
	return event_put(s, "deployments", "deployment.state", d->name, deployment_view(d, d->message, NULL, reason, NULL),
	                 err);
}

/* The member of update_info as text; NULL: absent or null. The caller deletes *o. */
static const char *info_text(const struct storage_deployment *d, const char *name, cJSON **o)
{
	const char *text = NULL;
	if (!*o && d->update_info &&
	    wasd_json_parse(d->update_info, strlen(d->update_info), WASD_JSON_REQUEST, o, NULL) != WASD_OK)
		*o = NULL;
	wasd_json_str(*o, name, &text);
	return text;
}

/* The source that the deployment follows: the one asked for last. NULL: no memory. */
static char *active_source(const struct storage_deployment *d)
{
	cJSON *o = NULL;
	info_text(d, "by", &o);
	const cJSON *source = wasd_json_get(o, "source");
	char *text = source && !cJSON_IsNull(source) ? wasd_json_print(source) : wasd_strdup(d->source);
	cJSON_Delete(o);
	return text;
}

/* ---- the wish ---- */

struct source_args {
	const struct storage_source_in *in;
	struct storage_deployment *out;
};

static char *info_of(const struct storage_source_in *in, const char *source)
{
	cJSON *o = NULL, *parsed = NULL;
	if (!wasd_json_parse(source, strlen(source), WASD_JSON_REQUEST, &parsed, NULL))
		o = make_object("jssssi", "source", parsed, "mode", in->mode, "by", in->actor, "reason", in->reason, "error",
		                NULL, "at", wasd_now_ms());
	char *text = o ? wasd_json_print(o) : NULL;
	cJSON_Delete(o);
	return text;
}

/* An unloaded deployment has nothing to keep serving: it will load the new checkpoint. */
static enum wasd_status write_source(struct storage *s, const struct storage_deployment *before,
                                     const struct storage_source_in *in, const char *source,
                                     const struct storage_ckpt *k, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	bool same = !strcmp(before->checkpoint, in->checkpoint), idle = !strcmp(before->state, "unloaded");
	int64_t now = wasd_now_ms();
	if (same)
		return q_run(c, "UPDATE deployments SET source=?2, wanted=NULL, update_info=NULL, updated_at=?3 WHERE name=?1",
		             err, "tti", in->name, source, now);
	if (idle)
		return q_run(
			c,
			"UPDATE deployments SET source=?2, previous=checkpoint, checkpoint=?3, job=?4, mode=coalesce(?5,mode), generation=generation+1, version=version+1, wanted=NULL, update_info=NULL, updated_at=?6 WHERE name=?1",
			err,
			"tttt"
			"ti",
			in->name, source, in->checkpoint, k->job, in->mode, now);
	char *info = info_of(in, source);
	enum wasd_status st = info ?
	                          q_run(c, "UPDATE deployments SET wanted=?2, update_info=?3, updated_at=?4 WHERE name=?1",
	                                err, "ttti", in->name, in->checkpoint, info, now) :
	                          wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(info);
	return st;
}

static enum wasd_status source_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct source_args *a = ctx;
	const struct storage_source_in *in = a->in;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0};
	struct storage_ckpt k = {0};
	enum wasd_status st = deployment_row(c, in->name, &before, err);
	if (st)
		return st;
	char *source = in->source ? wasd_strdup(in->source) : active_source(&before);
	if (!source)
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	else if (before.deleted)
		st = wasd_fail_at(err, WASD_ESTATE, before.state, "deployment %s is being deleted", in->name);
	else if (in->expected_generation && in->expected_generation != before.generation)
		st = wasd_fail_at(err, WASD_ESTATE, "generation", "deployment %s is at generation %lld, not %lld", in->name,
		                  (long long)before.generation, (long long)in->expected_generation);
	if (!st)
		st = mode_check(c, in->checkpoint, in->mode ? in->mode : before.mode, err);
	if (!st)
		st = ckpt_usable(s, in->checkpoint, &k, err);
	if (!st)
		st = write_source(s, &before, in, source, &k, err);
	if (!st)
		st = deployment_row(c, in->name, a->out, err);
	if (!st)
		st = deployment_audit(s, in->name, "deployment.source", in->actor, in->reason, &before, a->out, NULL, err);
	if (!st)
		st = put_event(s, a->out, in->reason, err);
	wasd_free(source);
	storage_deployment_done(&before);
	storage_ckpt_done(&k);
	return st;
}

enum wasd_status storage_deployment_source(struct storage *s, const struct storage_source_in *in,
                                           struct storage_deployment *out, struct wasd_err *err)
{
	struct storage_deployment row = {0};
	struct source_args a = {in, &row};
	enum wasd_status st = write_op(s, source_tx, &a, err);
	if (st || !out)
		storage_deployment_done(&row);
	else
		*out = row;
	return st;
}

enum wasd_status storage_deployment_followers(struct storage *s, const char *job, struct storage_names *out,
                                              struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c,
	                          "SELECT name FROM deployments WHERE json_extract(" ACTIVE_SOURCE
	                          ",'$.job')=?1 AND NOT deleted ORDER BY id",
	                          &st, err, "t", job);
	st = q_names(c, q, st, out, err);
	read_end(s, c);
	return st;
}

/* ---- its end: served, or not ---- */

struct end_args {
	const char *name, *checkpoint, *why;
	struct storage_deployment *out;
};

static enum wasd_status wanted_row(struct conn *c, const struct end_args *a, struct storage_deployment *d,
                                   struct wasd_err *err)
{
	enum wasd_status st = deployment_row(c, a->name, d, err);
	if (!st && (!d->wanted || strcmp(d->wanted, a->checkpoint)))
		st = wasd_fail_at(err, WASD_ESTATE, "checkpoint", "deployment %s no longer wants checkpoint %s", a->name,
		                  a->checkpoint);
	return st;
}

static enum wasd_status swap_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct end_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0};
	struct storage_ckpt k = {0};
	cJSON *info = NULL;
	enum wasd_status st = wanted_row(c, a, &before, err);
	const char *mode = info_text(&before, "mode", &info), *by = info_text(&before, "by", &info),
			   *reason = info_text(&before, "reason", &info);
	char *source = st ? NULL : active_source(&before);
	if (!st)
		st = mode_check(c, a->checkpoint, mode ? mode : before.mode, err);
	if (!st)
		st = ckpt_usable(s, a->checkpoint, &k, err);
	if (!st && !source)
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st)
		st = q_run(
			c,
			"UPDATE deployments SET source=?2, previous=checkpoint, checkpoint=wanted, job=?3, wanted=NULL, update_info=NULL, mode_since=CASE WHEN mode=coalesce(?4,mode) THEN mode_since ELSE ?5 END, mode=coalesce(?4,mode), generation=generation+1, version=version+1, updated_at=?5 WHERE name=?1",
			err, "tttti", a->name, source, k.job, mode, wasd_now_ms());
	if (!st)
		st = deployment_row(c, a->name, a->out, err);
	if (!st)
		st = deployment_audit(s, a->name, "deployment.swap", by ? by : "daemon", reason, &before, a->out, NULL, err);
	if (!st)
		st = put_event(s, a->out, reason, err);
	wasd_free(source);
	cJSON_Delete(info);
	storage_deployment_done(&before);
	storage_ckpt_done(&k);
	return st;
}

enum wasd_status storage_deployment_swap(struct storage *s, const char *name, const char *checkpoint,
                                         struct storage_deployment *out, struct wasd_err *err)
{
	struct storage_deployment row = {0};
	struct end_args a = {.name = name, .checkpoint = checkpoint, .out = &row};
	enum wasd_status st = write_op(s, swap_tx, &a, err);
	if (st)
		storage_deployment_done(&row);
	else
		*out = row;
	return st;
}

static enum wasd_status failed_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct end_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0}, after = {0};
	enum wasd_status st = wanted_row(c, a, &before, err);
	if (!st)
		st = q_run(c,
		           "UPDATE deployments SET update_info=json_set(update_info,'$.error',?2), updated_at=?3 WHERE name=?1",
		           err, "tti", a->name, a->why, wasd_now_ms());
	if (!st)
		st = deployment_row(c, a->name, &after, err);
	if (!st)
		st = deployment_audit(s, a->name, "deployment.update_failed", "daemon", a->why, &before, &after, NULL, err);
	if (!st)
		st = put_event(s, &after, a->why, err);
	storage_deployment_done(&before);
	storage_deployment_done(&after);
	return st;
}

enum wasd_status storage_deployment_update_failed(struct storage *s, const char *name, const char *checkpoint,
                                                  const char *why, struct wasd_err *err)
{
	struct end_args a = {.name = name, .checkpoint = checkpoint, .why = why};
	return write_op(s, failed_tx, &a, err);
}

/* ---- loading again, draining ---- */

struct drain_args {
	const char *name, *actor;
	bool to_delete;
};

static enum wasd_status drain_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct drain_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0}, after = {0};
	enum wasd_status st = deployment_row(c, a->name, &before, err);
	bool loaded = !st && strcmp(before.state, "unloaded") && strcmp(before.state, "draining");
	if (!st && (before.deleted || (!a->to_delete && !loaded)))
		st = wasd_fail_at(err, WASD_ESTATE, before.state, "deployment %s is %s", a->name,
		                  before.deleted ? "being deleted" : before.state);
	if (!st)
		st = q_run(c, "UPDATE deployments SET state='draining', message=NULL, deleted=?2, updated_at=?3 WHERE name=?1",
		           err, "tii", a->name, (int64_t)a->to_delete, wasd_now_ms());
	if (!st)
		st = deployment_row(c, a->name, &after, err);
	if (!st)
		st = deployment_audit(s, a->name, a->to_delete ? "deployment.delete" : "deployment.unload", a->actor, NULL,
		                      &before, a->to_delete ? NULL : &after, NULL, err);
	if (!st)
		st = put_event(s, &after, NULL, err);
	storage_deployment_done(&before);
	storage_deployment_done(&after);
	return st;
}

static enum wasd_status again_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct drain_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0}, after = {0};
	enum wasd_status st = deployment_row(c, a->name, &before, err);
	bool idle = !st && (!strcmp(before.state, "unloaded") || !strcmp(before.state, "failed"));
	if (!st && !strcmp(before.state, "draining"))
		st = wasd_fail_at(err, WASD_ESTATE, before.state, "deployment %s is %s", a->name,
		                  before.deleted ? "being deleted" : "being unloaded");
	if (!st && idle)
		st = q_run(c, "UPDATE deployments SET state='created', message=NULL, updated_at=?2 WHERE name=?1", err, "ti",
		           a->name, wasd_now_ms());
	if (!st)
		st = deployment_row(c, a->name, &after, err);
	if (!st && idle)
		st = deployment_audit(s, a->name, "deployment.load", a->actor, NULL, &before, &after, NULL, err);
	if (!st && idle)
		st = put_event(s, &after, NULL, err);
	storage_deployment_done(&before);
	storage_deployment_done(&after);
	return st;
}

enum wasd_status storage_deployment_again(struct storage *s, const char *name, const char *actor, struct wasd_err *err)
{
	struct drain_args a = {.name = name, .actor = actor};
	return write_op(s, again_tx, &a, err);
}

enum wasd_status storage_deployment_drain(struct storage *s, const char *name, bool to_delete, const char *actor,
                                          struct wasd_err *err)
{
	struct drain_args a = {name, actor, to_delete};
	return delete_op(s, drain_tx, &a, err);
}

static enum wasd_status drained_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const char *name = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment d = {0};
	enum wasd_status st = deployment_row(c, name, &d, err);
	if (st == WASD_ENOTFOUND)
		return WASD_OK;
	if (st || strcmp(d.state, "draining")) {
		storage_deployment_done(&d);
		return st;
	}
	if (d.deleted)
		st = q_run(c, "DELETE FROM deployments WHERE name=?1", err, "t", name);
	else
		st = q_run(c, "UPDATE deployments SET state='unloaded', updated_at=?2 WHERE name=?1", err, "ti", name,
		           wasd_now_ms());
	if (!st && d.deleted)
		st = event_put(s, "deployments", "deployment.deleted", name, deployment_view(&d, NULL, NULL, NULL, NULL), err);
	else if (!st) {
		storage_deployment_done(&d);
		st = deployment_row(c, name, &d, err);
		if (!st)
			st = put_event(s, &d, NULL, err);
	}
	storage_deployment_done(&d);
	return st;
}

enum wasd_status storage_deployment_drained(struct storage *s, const char *name, struct wasd_err *err)
{
	return delete_op(s, drained_tx, (void *)(uintptr_t)name, err);
}

/* After a start nothing is in flight. */
enum wasd_status deployments_drained(struct storage *s, struct wasd_err *err)
{
	for (;;) {
		char name[72] = "";
		enum wasd_status st = WASD_OK;
		sqlite3_stmt *q = q_begin(tx_conn(s), "SELECT name FROM deployments WHERE state='draining' LIMIT 1", &st, err,
		                          "");
		if (q_row(tx_conn(s), q, &st, err))
			snprintf(name, sizeof name, "%s", q_text(q, 0));
		q_end(tx_conn(s), q);
		if (st || !*name)
			return st;
		if ((st = storage_deployment_drained(s, name, err)))
			return st;
	}
}
