/* control.c - changes of jobs on request: cancel, pause, hold, release, resume, retry. A job that has an attempt is
 * changed here, on the supervisor's thread; of the others only the rows change. */
#include "jobs/attempt.h"
#include "log.h"

#include <stdio.h>
#include <string.h>

struct attempt *attempt_of(struct sched *j, const char *id)
{
	struct attempt *a = j->attempts;
	while (a && (strcmp(a->id, id) || !a->number))
		a = a->next;
	return a;
}

/* ---- cancel ---- */

struct cancel_call {
	struct sched *j;
	const char *id, *reason, *actor;
	bool kill;
	enum wasd_status status;
	struct wasd_err *err;
};

/* A job that is being cancelled is killed, or the same is asked again. */
static enum wasd_status kill_too(struct sched *j, const struct cancel_call *c)
{
	char object[80];
	snprintf(object, sizeof object, "job/%s", c->id);
	return !c->kill ? WASD_OK :
	                  storage_audit_add(j->cfg.db, c->actor, "job.cancel", object, NULL, "{\"mode\":\"kill\"}",
	                                    c->reason, NULL, c->err);
}

static void do_cancel(void *ctx)
{
	struct cancel_call *c = ctx;
	struct sched *j = c->j;
	struct attempt *a = attempt_of(j, c->id);
	if (a) {
		struct storage_move m = {.to = "cancelling",
		                         .reason = c->kill ? "kill" : "user",
		                         .message = c->reason,
		                         .action = "cancel",
		                         .actor = c->actor};
		c->status = a->stop == STOP_CANCEL ? kill_too(j, c) : storage_job_move(j->cfg.db, c->id, &m, c->err);
		if (c->status == WASD_OK)
			attempt_cancel(a, c->kill, c->kill ? "kill" : "user");
		return;
	}
	c->status = storage_job_cancel(j->cfg.db, c->id, c->kill ? "kill" : "user", c->reason, c->actor, c->err);
	if (c->status == WASD_OK && j->cfg.profiles_changed)
		j->cfg.profiles_changed(j->cfg.ctx);
}

enum wasd_status sched_cancel(struct sched *j, const char *id, bool kill, const char *reason, const char *actor,
                              struct wasd_err *err)
{
	struct cancel_call c =
		{.j = j, .id = id, .reason = reason && *reason ? reason : NULL, .actor = actor, .kill = kill, .err = err};
	log_remember(id);
	supervisor_call(j->cfg.sup, do_cancel, &c);
	return c.status;
}

/* ---- the others ---- */

struct change_call {
	struct sched *j;
	const char *id;
	enum api_job_change what;
	const struct storage_request *r;
	enum wasd_status status;
	struct wasd_err *err;
};

/* m: the move to pausing. */
static enum wasd_status pause_attempt(struct attempt *a, const struct storage_move *m, struct wasd_err *err)
{
	if (a->stop == STOP_PAUSE)
		return WASD_OK;
	enum wasd_status s = storage_job_move(a->jobs->cfg.db, a->id, m, err);
	if (s == WASD_OK) {
		a->pause_reason = m->reason;
		attempt_stop(a, STOP_PAUSE);
	}
	return s;
}

/* A job without an attempt. */
static enum wasd_status pause_row(struct storage *db, const char *id, const struct storage_request *r,
                                  struct wasd_err *err)
{
	enum wasd_status s = storage_job_hold(db, id, r, err);
	if (s != WASD_ESTATE || strcmp(err->pointer, "paused"))
		return s;
	*err = (struct wasd_err){0};
	return WASD_OK;
}

static void do_change(void *ctx)
{
	struct change_call *c = ctx;
	struct storage *db = c->j->cfg.db;
	struct attempt *a = attempt_of(c->j, c->id);
	struct storage_move pausing = {.to = "pausing",
	                               .reason = "user",
	                               .message = c->r->reason,
	                               .action = "pause",
	                               .actor = c->r->actor};
	switch (c->what) {
	case API_JOB_PAUSE:
		c->status = a ? pause_attempt(a, &pausing, c->err) : pause_row(db, c->id, c->r, c->err);
		break;
	case API_JOB_HOLD:
		/* One that pauses for lack of room remains paused for the user. */
		c->status = a && a->stop == STOP_ROOM ? pause_attempt(a, &pausing, c->err) :
		                                        storage_job_hold(db, c->id, c->r, c->err);
		break;
	case API_JOB_RESUME:
		c->status = storage_job_release(db, c->id, c->r, c->err);
		break;
	case API_JOB_RETRY:
		c->status = storage_job_retry(db, c->id, c->r, c->err);
		break;
	}
	if (c->status == WASD_OK)
		schedule(c->j);
}

enum wasd_status sched_change(struct sched *j, const char *id, enum api_job_change what,
                              const struct storage_request *r, struct wasd_err *err)
{
	struct change_call c = {.j = j, .id = id, .what = what, .r = r, .err = err};
	log_remember(id);
	supervisor_call(j->cfg.sup, do_change, &c);
	return c.status;
}

/* ---- on behalf of a sweep ---- */

void control_stop(struct sched *j, const struct storage_sweep_order *o)
{
	static const struct storage_move pausing = {.to = "pausing", .reason = "sweep", .message = "its sweep is paused"},
									 cancelling = {.to = "cancelling",
	                                               .reason = "sweep",
	                                               .message = "its sweep was cancelled"};
	struct attempt *a = attempt_of(j, o->job);
	if (a && !o->cancel)
		pause_attempt(a, &pausing, NULL);
	else if (a && a->stop != STOP_CANCEL && storage_job_move(j->cfg.db, o->job, &cancelling, NULL) == WASD_OK)
		attempt_cancel(a, false, "sweep");
	else if (!a && o->cancel &&
	         storage_job_cancel(j->cfg.db, o->job, "sweep", cancelling.message, NULL, NULL) == WASD_OK &&
	         j->cfg.profiles_changed)
		j->cfg.profiles_changed(j->cfg.ctx);
}
