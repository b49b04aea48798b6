/* warnings.c - warnings of runs: one row for each job and code, with the latest epoch. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define WARNING_COLS(T, I, D, X) \
	T(X, code) I(X, epoch) T(X, message) I(X, at)
/* clang-format on */
ROW_TYPE(warning_type, storage_warning, WARNING_COLS);

void storage_warning_list_done(struct storage_warning_list *l)
{
	rows_done(&warning_type, l->items, l->n);
	*l = (struct storage_warning_list){0};
}

struct warning_args {
	const char *job;
	int64_t attempt;
	const char *code;
	int64_t epoch;
	const char *message;
};

static enum wasd_status warning_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct warning_args *a = ctx;
	struct conn *c = tx_conn(s);
	int64_t now = wasd_now_ms();
	enum wasd_status st = a->attempt ? job_fence(c, a->job, a->attempt, err) : WASD_OK;
	/* The insert drops codes beyond the limit: only a faulty process sends more. */
	if (!st)
		st = q_run(
			c,
			"INSERT INTO warnings(job,code,epoch,message,at) SELECT ?1,?2,?3,?4,?5 WHERE (SELECT count(*) FROM warnings WHERE job=?1 AND code!=?2)<?6"
			" ON CONFLICT(job,code) DO UPDATE SET epoch=excluded.epoch, message=excluded.message, at=excluded.at",
			err, "ttitii", a->job, a->code, a->epoch, a->message, now, (int64_t)STORAGE_WARNINGS_MAX);
	if (!st && sqlite3_changes(c->db)) {
		st = q_run(c, "UPDATE jobs SET updated_at=?2, rev=rev+1 WHERE id=?1", err, "ti", a->job, now);
		if (!st)
			st = event_put(s, "jobs", "job.warning", a->job,
			               make_object("sisis", "id", a->job, "attempt", a->attempt, "code", a->code, "epoch", a->epoch,
			                           "message", a->message),
			               err);
	}
	return st;
}

enum wasd_status storage_warning_put(struct storage *s, const char *job, int64_t attempt, const char *code,
                                     int64_t epoch, const char *message, struct wasd_err *err)
{
	struct warning_args a = {job, attempt, code, epoch, message};
	return write_op(s, warning_tx, &a, err);
}

enum wasd_status storage_warning_list(struct storage *s, const char *job, struct storage_warning_list *out,
                                      struct wasd_err *err)
{
	struct storage_warning_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(WARNING_COLS, "warnings WHERE job=?1 ORDER BY epoch, code"), &st, err, "t",
	                          job);
	st = row_all(c, q, st, &warning_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}
