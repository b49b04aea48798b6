/* job_control.c - changes of jobs without a worker that someone asks for: hold, release, retry. server/jobs/control.c
 * handles those with a worker. */
#include "internal.h"
#include <string.h>

struct request_args {
	const char *id;
	const struct storage_request *r;
};

static bool one_of(const char *s, const char *a, const char *b, const char *c)
{
	return !strcmp(s, a) || !strcmp(s, b) || (c && !strcmp(s, c));
}

static enum wasd_status refuse(const struct storage_job *j, const char *what, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_ESTATE, j->state, "job %s is %s and cannot be %s", j->id, j->state, what);
}

static bool held_by_user(const struct storage_job *j)
{
	return !strcmp(j->state, "held") && j->reason && !strcmp(j->reason, "user");
}

bool storage_job_paused_for_room(const struct storage_job *j)
{
	return one_of(j->state, "pausing", "paused", NULL) && j->reason &&
	       one_of(j->reason, STORAGE_DISK_LOW, STORAGE_QUOTA_FULL, NULL);
}

enum wasd_status storage_job_without_room(struct storage *s, struct storage_names *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT id FROM jobs WHERE state='paused' AND reason IN (?1,?2) ORDER BY id", &st, err,
	                          "tt", STORAGE_DISK_LOW, STORAGE_QUOTA_FULL);
	st = q_names(c, q, st, out, err);
	read_end(s, c);
	return st;
}

static struct storage_move moved(const struct request_args *a, const char *to, const char *reason, const char *action)
{
	return (struct storage_move){.to = to,
	                             .reason = reason,
	                             .message = a->r->reason,
	                             .action = action,
	                             .actor = a->r->actor};
}

static enum wasd_status hold_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct request_args *a = ctx;
	struct storage_job j = {0};
	struct storage_move m = moved(a, "held", "user", "hold"), stay = moved(a, "paused", "user", "pause");
	enum wasd_status st = storage_job_get(s, a->id, &j, err);
	if (!st && storage_job_paused_for_room(&j) && !strcmp(j.state, "paused"))
		st = job_move(s, a->id, &stay, err);
	else if (!st && !held_by_user(&j))
		st = one_of(j.state, "queued", "retry_wait", "held") ? job_move(s, a->id, &m, err) : refuse(&j, "held", err);
	storage_job_done(&j);
	return st;
}

enum wasd_status storage_job_hold(struct storage *s, const char *id, const struct storage_request *r,
                                  struct wasd_err *err)
{
	struct request_args a = {id, r};
	return urgent_op(s, hold_tx, &a, err);
}

static enum wasd_status release_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct request_args *a = ctx;
	struct storage_job j = {0};
	enum wasd_status st = storage_job_get(s, a->id, &j, err);
	bool paused = !st && !strcmp(j.state, "paused");
	struct storage_move m = moved(a, "queued", paused ? "resumed" : "released", paused ? "resume" : "release");
	if (!st && (paused || held_by_user(&j))) {
		st = job_move(s, a->id, &m, err);
		if (!st)
			st = job_hold_for_others(s, a->id, err);
	} else if (!st && !one_of(j.state, "queued", "starting", "running")) {
		st = refuse(&j, "queued", err);
	}
	storage_job_done(&j);
	return st;
}

enum wasd_status storage_job_release(struct storage *s, const char *id, const struct storage_request *r,
                                     struct wasd_err *err)
{
	struct request_args a = {id, r};
	return urgent_op(s, release_tx, &a, err);
}

static enum wasd_status retry_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct request_args *a = ctx;
	struct storage_job j = {0};
	char sweep[40] = "";
	struct storage_queue queue = {0};
	struct storage_move m = moved(a, "queued", "retry_on_request", "retry");
	enum wasd_status st = storage_job_get(s, a->id, &j, err);
	if (!st)
		st = job_sweep(tx_conn(s), a->id, sweep, err);
	if (!st && storage_queue_get(s, j.queue, &queue, NULL) == WASD_ENOTFOUND)
		st = wasd_fail_at(err, WASD_ESTATE, "/queue", "the queue %s of job %s was deleted; make it again", j.queue,
		                  j.id);
	storage_queue_done(&queue);
	if (!st && sweep[0] && storage_job_terminal(j.state)) { /* the sweep has taken its result */
		st = refuse(&j, "tried again before its sweep has ended", err);
	} else if (!st && one_of(j.state, "failed", "cancelled", NULL) && j.deadline && j.deadline <= wasd_now_ms()) {
		st = wasd_fail_at(err, WASD_ESTATE, "/deadline", "the deadline of job %s has passed; change it first", j.id);
	} else if (!st && one_of(j.state, "failed", "cancelled", "retry_wait")) {
		st = job_after_forget(s, a->id, err);
		if (!st)
			st = job_move(s, a->id, &m, err);
		if (!st)
			st = job_hold_for_others(s, a->id, err);
	} else if (!st && strcmp(j.state, "queued")) {
		st = refuse(&j, "tried again", err);
	}
	storage_job_done(&j);
	return st;
}

enum wasd_status storage_job_retry(struct storage *s, const char *id, const struct storage_request *r,
                                   struct wasd_err *err)
{
	struct request_args a = {id, r};
	return write_op(s, retry_tx, &a, err);
}
