/* job_limits.c - jobs whose deadline has passed, or that have used up their running time. The daemon asks for them once
 * a second; the end of one without a worker is decided here, so that it happens also to jobs that are held or paused,
 * and to those whose time has passed while no daemon ran. */
#include "internal.h"

/* The running time of a job j, in milliseconds. */
#define RAN \
	"(SELECT coalesce(sum(max(a.ended_at-a.started_at,0)),0) FROM attempts a WHERE a.job=j.id AND a.number>j.wall_from AND a.ended_at IS NOT NULL)"
#define TOO_LATE "j.deadline<=?1 AND j.finished_at IS NULL"
#define TOO_LONG \
	"j.state IN ('queued','retry_wait') AND j.max_wall_s>0 AND j.attempt>j.wall_from AND " RAN ">=j.max_wall_s*1000"

static enum wasd_status number_of(struct storage *s, const char *sql, const char *job, int64_t *out,
                                  struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, sql, &st, err, "t", job);
	if (q_row(c, q, &st, err))
		*out = sqlite3_column_int64(q, 0);
	else if (!st)
		st = wasd_fail(err, WASD_ENOTFOUND, "no job %s", job);
	q_end(c, q);
	read_end(s, c);
	return st;
}

enum wasd_status storage_job_ran(struct storage *s, const char *job, int64_t *ms, struct wasd_err *err)
{
	return number_of(s, "SELECT " RAN " FROM jobs j WHERE j.id=?1", job, ms, err);
}

enum wasd_status storage_job_max_wall(struct storage *s, const char *job, int64_t *seconds, struct wasd_err *err)
{
	return number_of(s, "SELECT max_wall_s FROM jobs WHERE id=?1", job, seconds, err);
}

enum wasd_status storage_job_overdue(struct storage *s, struct storage_names *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c,
	                          "SELECT j.id FROM jobs j WHERE " TOO_LATE " UNION SELECT j.id FROM jobs j WHERE " TOO_LONG
	                          " ORDER BY 1",
	                          &st, err, "i", wasd_now_ms());
	st = q_names(c, q, st, out, err);
	read_end(s, c);
	return st;
}

/* Which of its limits is over; NULL: none. */
static const char *limit_over(struct storage *s, const char *job, enum wasd_status *st, struct wasd_err *err)
{
	const char *over = NULL;
	struct conn *c = tx_conn(s);
	sqlite3_stmt *q = q_begin(c, "SELECT " TOO_LATE "," TOO_LONG " FROM jobs j WHERE j.id=?2", st, err, "it",
	                          wasd_now_ms(), job);
	if (q_row(c, q, st, err))
		over = sqlite3_column_int(q, 0) ? STORAGE_DEADLINE_OVER : sqlite3_column_int(q, 1) ? STORAGE_WALL_OVER : NULL;
	q_end(c, q);
	return *st ? NULL : over;
}

static enum wasd_status expire_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const char *id = ctx;
	struct storage_job j = {0};
	enum wasd_status st = storage_job_get(s, id, &j, err);
	bool worker = !st && storage_job_active(j.state) && !j.trained;
	const char *why = st || worker ? NULL : limit_over(s, id, &st, err);
	struct storage_move m = {.to = "failed", .reason = "deadline_exceeded", .message = why};
	if (!st && !why)
		st = wasd_fail_at(err, WASD_ESTATE, j.state, "job %s is %s and within its limits, or has a worker", id,
		                  j.state);
	if (!st)
		st = job_move(s, id, &m, err);
	if (!st && j.trained)
		st = job_drop_searches(s, id, "its job has failed", err);
	storage_job_done(&j);
	return st;
}

enum wasd_status storage_job_expire(struct storage *s, const char *id, struct wasd_err *err)
{
	return write_op(s, expire_tx, (void *)(uintptr_t)id, err);
}
