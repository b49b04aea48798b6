/* logs.c - the last lines of each job's output, numbered from 1. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define LOG_COLS(T, I, D, X) \
	I(X, n) I(X, attempt) I(X, ts) T(X, level) T(X, text)
/* clang-format on */
ROW_TYPE(log_type, storage_log, LOG_COLS);

void storage_log_done(struct storage_log *l)
{
	row_done(&log_type, l);
}

void storage_log_list_done(struct storage_log_list *l)
{
	rows_done(&log_type, l->items, l->n);
	*l = (struct storage_log_list){0};
}

static int level_rank(const char *level)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	for (int i = 0; level && i < 4; i++)
		if (!strcmp(level, names[i]))
			return i;
	return -1;
}

struct add_args {
	const char *job;
	int64_t attempt;
	const struct storage_log_in *lines;
	size_t n;
};

static enum wasd_status add_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct add_args *a = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	int64_t last = 0, now = wasd_now_ms();
	sqlite3_stmt *q = q_begin(c, "SELECT coalesce((SELECT max(n) FROM logs WHERE job=?1),0) FROM jobs WHERE id=?1", &st,
	                          err, "t", a->job);
	if (q_row(c, q, &st, err))
		last = sqlite3_column_int64(q, 0);
	else if (!st)
		st = wasd_fail(err, WASD_ENOTFOUND, "no job %s", a->job);
	q_end(c, q);
	for (size_t i = 0; i < a->n && !st; i++)
		st = q_run(c, "INSERT INTO logs(job,n,attempt,ts,level,text) VALUES(?1,?2,?3,?4,?5,?6)", err, "tiiitt", a->job,
		           ++last, a->attempt, a->lines[i].ts ? a->lines[i].ts : now,
		           level_rank(a->lines[i].level) < 0 ? "info" : a->lines[i].level, a->lines[i].text);
	if (!st)
		st = q_run(c, "DELETE FROM logs WHERE job=?1 AND n<=?2", err, "ti", a->job, last - s->opts.log_lines);
	return st;
}

enum wasd_status storage_log_add(struct storage *s, const char *job, int64_t attempt,
                                 const struct storage_log_in *lines, size_t n, struct wasd_err *err)
{
	struct add_args a = {job, attempt, lines, n};
	return write_op(s, add_tx, &a, err);
}

#define LOG_FILTER \
	"job=?1 AND n>?2 AND ts>=?3 AND (?4=0 OR attempt=?4)" \
	" AND CASE level WHEN 'debug' THEN 0 WHEN 'info' THEN 1 WHEN 'warn' THEN 2 ELSE 3 END>=?5 AND (?6 IS NULL OR instr(text,?6))"

enum wasd_status storage_log_read(struct storage *s, const char *job, const struct storage_log_query *query,
                                  struct storage_log_list *out, struct wasd_err *err)
{
	struct storage_log_query qu = query ? *query : (struct storage_log_query){0};
	if (qu.limit == 0)
		qu.limit = 1000;
	if (qu.limit < 0 || qu.limit > 10000)
		return wasd_fail_at(err, WASD_EINVAL, "/limit", "limit is %d, 1 to 10,000 is possible", qu.limit);
	if (qu.level && level_rank(qu.level) < 0)
		return wasd_fail_at(err, WASD_EINVAL, "/level", "level %s is not debug, info, warn or error", qu.level);
	int64_t rank = qu.level ? level_rank(qu.level) : 0;
	struct storage_log_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT coalesce(min(n),0),coalesce(max(n),0) FROM logs WHERE job=?1", &st, err, "t",
	                          job);
	if (q_row(c, q, &st, err)) {
		l.first_n = sqlite3_column_int64(q, 0);
		l.last_n = sqlite3_column_int64(q, 1);
	}
	q_end(c, q);
	q = q_begin(c,
	            qu.tail ?
	                SELECT(LOG_COLS, "(SELECT * FROM logs WHERE " LOG_FILTER " ORDER BY n DESC LIMIT ?7) ORDER BY n") :
	                SELECT(LOG_COLS, "logs WHERE " LOG_FILTER " ORDER BY n LIMIT ?7"),
	            &st, err, "tiiiiti", job, qu.after_n, qu.since, qu.attempt, rank, qu.contains, (int64_t)qu.limit);
	st = row_all(c, q, st, &log_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}
