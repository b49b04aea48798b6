/* attempts.c - the runs of a job, one row per worker process, and the history of its states. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define ATTEMPT_COLS(T, I, D, X) \
	T(X, job) I(X, number) I(X, pid) T(X, build) T(X, resume_from) I(X, started_at) I(X, ended_at) T(X, outcome) \
	T(X, exit_reason) I(X, exit_code) I(X, signal) T(X, log_tail)
/* clang-format on */
ROW_TYPE(attempt_type, storage_attempt, ATTEMPT_COLS);
/* clang-format off */
#define TRANSITION_COLS(T, I, D, X) \
	I(X, seq) T(X, job) T(X, from) T(X, to) T(X, reason) T(X, message) I(X, attempt) I(X, at)
/* clang-format on */
ROW_TYPE(transition_type, storage_transition, TRANSITION_COLS);

void storage_attempt_done(struct storage_attempt *a)
{
	row_done(&attempt_type, a);
}
void storage_transition_done(struct storage_transition *t)
{
	row_done(&transition_type, t);
}

void storage_attempt_list_done(struct storage_attempt_list *l)
{
	rows_done(&attempt_type, l->items, l->n);
	*l = (struct storage_attempt_list){0};
}

void storage_transition_list_done(struct storage_transition_list *l)
{
	rows_done(&transition_type, l->items, l->n);
	*l = (struct storage_transition_list){0};
}

enum wasd_status storage_attempt_list(struct storage *s, const char *job, struct storage_attempt_list *out,
                                      struct wasd_err *err)
{
	struct storage_attempt_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(ATTEMPT_COLS, "attempts WHERE job=?1 ORDER BY number"), &st, err, "t", job);
	st = row_all(c, q, st, &attempt_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status storage_transition_list(struct storage *s, const char *job, struct storage_transition_list *out,
                                         struct wasd_err *err)
{
	struct storage_transition_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(TRANSITION_COLS, "transitions WHERE job=?1 ORDER BY seq"), &st, err, "t", job);
	st = row_all(c, q, st, &transition_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

/* ---- start ---- */

struct start_args {
	const char *job;
	int64_t number;
	char *resume_from;
};

static enum wasd_status start_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct start_args *a = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st = q_run(c, "UPDATE jobs SET attempt=attempt+1 WHERE id=?1", err, "t", a->job);
	if (!st)
		st = job_move(s, a->job, &(struct storage_move){.to = "starting", .from = "queued"}, err);
	if (!st)
		st = ckpt_newest(c, a->job, &a->resume_from, err);
	sqlite3_stmt *q = q_begin(c, "SELECT attempt FROM jobs WHERE id=?1", &st, err, "t", a->job);
	if (q_row(c, q, &st, err))
		a->number = sqlite3_column_int64(q, 0);
	q_end(c, q);
	if (!st)
		st = q_run(c, "INSERT INTO attempts(job,number,resume_from,started_at) VALUES(?1,?2,?3,?4)", err, "titi",
		           a->job, a->number, a->resume_from, wasd_now_ms());
	return st;
}

enum wasd_status storage_attempt_start(struct storage *s, const char *job, int64_t *number, char **resume_from,
                                       struct wasd_err *err)
{
	struct start_args a = {job, 0, NULL};
	enum wasd_status st = write_op(s, start_tx, &a, err);
	if (st || !resume_from)
		wasd_free(a.resume_from);
	if (st)
		return st;
	*number = a.number;
	if (resume_from)
		*resume_from = a.resume_from;
	return WASD_OK;
}

/* ---- running ---- */

static enum wasd_status build_put(struct conn *c, const char *job, int64_t number, const char *build,
                                  struct wasd_err *err)
{
	enum wasd_status st = q_run(c, "UPDATE attempts SET build=?3 WHERE job=?1 AND number=?2", err, "tit", job, number,
	                            build);
	return st ? st : q_run(c, "UPDATE jobs SET build=?2 WHERE id=?1", err, "tt", job, build);
}

struct running_args {
	const char *job;
	int64_t number, pid;
	const char *build;
};

static enum wasd_status running_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct running_args *a = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st =
		job_move(s, a->job, &(struct storage_move){.to = "running", .from = "starting", .attempt = a->number}, err);
	if (!st)
		st = q_run(c, "UPDATE attempts SET pid=?3 WHERE job=?1 AND number=?2", err, "tiz", a->job, a->number, a->pid);
	return st ? st : build_put(c, a->job, a->number, a->build, err);
}

enum wasd_status storage_attempt_running(struct storage *s, const char *job, int64_t number, int64_t pid,
                                         const char *build, struct wasd_err *err)
{
	struct running_args a = {job, number, pid, build};
	return urgent_op(s, running_tx, &a, err);
}

static enum wasd_status build_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct running_args *a = ctx;
	return build_put(tx_conn(s), a->job, a->number, a->build, err);
}

enum wasd_status storage_attempt_build(struct storage *s, const char *job, int64_t number, const char *build,
                                       struct wasd_err *err)
{
	struct running_args a = {job, number, 0, build};
	return write_op(s, build_tx, &a, err);
}

/* ---- end ---- */

struct end_args {
	const char *job;
	int64_t number;
	const struct storage_exit *x;
	const struct storage_move *m;
};

static enum wasd_status pausing(struct storage *s, const char *job, const struct storage_move *m, struct wasd_err *err)
{
	struct storage_job j = {0};
	enum wasd_status st = storage_job_get(s, job, &j, err);
	if (!st && strcmp(j.state, "pausing"))
		st = job_move(s, job, &(struct storage_move){.to = "pausing", .attempt = m->attempt, .reason = m->reason}, err);
	storage_job_done(&j);
	return st;
}

static enum wasd_status end_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct end_args *a = ctx;
	struct conn *c = tx_conn(s);
	const struct storage_exit *x = a->x;
	enum wasd_status st =
		q_run(c,
	          "UPDATE attempts SET ended_at=?3, outcome=?4, exit_reason=?5, exit_code=?6, signal=?7, log_tail=?8"
	          " WHERE job=?1 AND number=?2 AND ended_at IS NULL",
	          err, "tiittiit", a->job, a->number, wasd_now_ms(), x->outcome, x->exit_reason, x->exit_code, x->signal,
	          x->log_tail);
	if (st)
		return st;
	if (!sqlite3_changes(c->db))
		return wasd_fail(err, WASD_ESTATE, "job %s: attempt %lld is not open", a->job, (long long)a->number);
	if (!strcmp(x->outcome, "failed") &&
	    (st = q_run(c, "UPDATE jobs SET retries=retries+1 WHERE id=?1", err, "t", a->job)))
		return st;
	struct storage_move m = *a->m;
	m.attempt = a->number;
	if (!strcmp(m.to, "paused") && (st = pausing(s, a->job, &m, err))) /* by itself: a trial at its rung */
		return st;
	if (x->n_profiles && !strcmp(m.to, "completed"))
		return job_ask_profiles(s, a->job, &m, x->profiles, x->n_profiles, err);
	return job_move(s, a->job, &m, err);
}

enum wasd_status storage_attempt_end(struct storage *s, const char *job, int64_t number, const struct storage_exit *x,
                                     const struct storage_move *m, struct wasd_err *err)
{
	static const char *const outcomes[] = {"completed", "failed", "cancelled", "paused", "preempted", "interrupted"};
	for (int i = 0; i < 6; i++) {
		if (strcmp(x->outcome, outcomes[i]))
			continue;
		struct end_args a = {job, number, x, m};
		return urgent_op(s, end_tx, &a, err);
	}
	return wasd_fail(err, WASD_EINVAL, "attempt outcome %s is unknown", x->outcome);
}
