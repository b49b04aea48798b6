/* job_update.c - changes to a job after its submission. */
#include "internal.h"
#include <string.h>

struct update_args {
	const char *id;
	const struct storage_job_patch *p;
	const char *actor;
	struct storage_job *out;
};

static cJSON *view(const struct storage_job *j)
{
	return make_object("sssj"
	                   "isiij",
	                   "id", j->id, "name", j->name, "note", j->note, "labels", cJSON_Parse(j->labels), "priority",
	                   j->priority, "queue", j->queue, "deadline", j->deadline, "max_wall_s", j->max_wall_s, "keep",
	                   make_object("iiss", "best", j->keep_best, "latest", j->keep_latest, "metric", j->keep_metric,
	                               "mode", j->keep_max ? "max" : "min"));
}

static enum wasd_status put_audit(struct storage *s, const struct update_args *a, const struct storage_job *before,
                                  struct wasd_err *err)
{
	char object[80];
	sqlite3_snprintf(sizeof object, object, "job/%s", a->id);
	return audit_change(s, (struct audit_in){.actor = a->actor, .action = "job.update", .object = object}, false,
	                    view(before), view(a->out), err);
}

static enum wasd_status may_change(const struct storage_job_patch *p, const struct storage_job *j, struct wasd_err *err)
{
	bool live = p->priority >= 0 || p->queue || p->set_max_wall_s || p->set_keep;
	if (live && storage_job_terminal(j->state))
		return wasd_fail_at(err, WASD_ESTATE, j->state,
		                    "job %s is %s; its priority, queue, time limit and what it keeps cannot change", j->id,
		                    j->state);
	if (p->set_deadline && !strcmp(j->state, "completed"))
		return wasd_fail_at(err, WASD_ESTATE, j->state, "job %s is %s; its deadline cannot change", j->id, j->state);
	return WASD_OK;
}

static enum wasd_status set_limits(struct storage *s, const struct update_args *a, struct wasd_err *err)
{
	const struct storage_job_patch *p = a->p;
	enum wasd_status st = WASD_OK;
	if (p->set_deadline)
		st = q_run(tx_conn(s), "UPDATE jobs SET deadline=?2 WHERE id=?1", err, "tz", a->id, p->deadline);
	if (!st && p->set_max_wall_s)
		st = q_run(tx_conn(s), "UPDATE jobs SET max_wall_s=?2 WHERE id=?1", err, "ti", a->id, p->max_wall_s);
	if (!st && p->set_keep)
		st = q_run(tx_conn(s), "UPDATE jobs SET keep_best=?2, keep_latest=?3, keep_metric=?4, keep_max=?5 WHERE id=?1",
		           err, "tiiti", a->id, p->keep.best, p->keep.latest, p->keep.metric, (int64_t)p->keep.max);
	/* Which checkpoint is best depends on the metric. */
	if (!st && p->set_keep)
		st = q_run(
			tx_conn(s),
			"UPDATE checkpoints SET score=(SELECT m.value FROM metrics m WHERE m.job=?1 AND m.name=?2 AND m.epoch=checkpoints.epoch) WHERE job=?1",
			err, "tt", a->id, p->keep.metric);
	return st;
}

static enum wasd_status update_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct update_args *a = ctx;
	struct storage_job before = {0};
	enum wasd_status st = storage_job_get(s, a->id, &before, err);
	if (st)
		return st;
	st = may_change(a->p, &before, err);
	struct storage_queue queue = {0};
	if (!st && a->p->queue)
		st = storage_queue_get(s, a->p->queue, &queue, err);
	storage_queue_done(&queue);
	if (!st)
		st = q_run(
			tx_conn(s),
			"UPDATE jobs SET name=coalesce(?2,name), note=coalesce(?3,note), labels=coalesce(?4,labels),"
			" priority=CASE WHEN ?5>=0 THEN ?5 ELSE priority END, queue=coalesce(?7,queue), updated_at=?6, rev=rev+1 WHERE id=?1",
			err, "ttttiit", a->id, a->p->name, a->p->note, a->p->labels, a->p->priority, wasd_now_ms(), a->p->queue);
	if (!st)
		st = set_limits(s, a, err);
	if (!st)
		st = storage_job_get(s, a->id, a->out, err);
	if (!st)
		st = event_put(s, "jobs", "job.updated", a->id, view(a->out), err);
	if (!st)
		st = put_audit(s, a, &before, err);
	storage_job_done(&before);
	return st;
}

enum wasd_status storage_job_update(struct storage *s, const char *id, const struct storage_job_patch *p,
                                    const char *actor, struct storage_job *out, struct wasd_err *err)
{
	struct storage_job row = {0};
	struct update_args a = {id, p, actor, &row};
	enum wasd_status st = write_op(s, update_tx, &a, err);
	if (st)
		storage_job_done(&row); /* filled if the COMMIT failed */
	else
		*out = row;
	return st;
}
