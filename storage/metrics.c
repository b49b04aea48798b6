/* metrics.c - one number per job, name and epoch. The key makes replays harmless; a later attempt may write an epoch again. */
#include "internal.h"
#include <math.h>
#include <string.h>

/* The name of a value that SQL has no place for (NaN would be stored as NULL, and JSON has neither). */
static const char *nonfinite(double v) { return isfinite(v) ? NULL : isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"; }

cJSON *metrics_object(const struct storage_metric *m, size_t n)
{
	cJSON *o = cJSON_CreateObject();
	for (size_t i = 0; i < n && o; i++) {
		if (wasd_json_add_real(o, m[i].name, m[i].value)) continue;
		cJSON_Delete(o);
		o = NULL;
	}
	return o;
}

enum wasd_status epoch_put(struct storage *s, const char *job, int64_t attempt, int64_t epoch, int64_t step, int64_t ts,
                           const struct storage_metric *m, size_t n, const char *progress, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = job_fence(c, job, attempt, err);
	int changed = 0;
	for (size_t i = 0; i < n && !st; i++) {
		st = q_run(c, "INSERT INTO metrics(job,name,epoch,step,attempt,ts,value,nonfinite) VALUES(?1,?2,?3,?4,?5,?6,CASE WHEN ?8 IS NULL THEN ?7 END,?8)"
		           " ON CONFLICT(job,name,epoch) DO UPDATE SET step=excluded.step, attempt=excluded.attempt, ts=excluded.ts, value=excluded.value, nonfinite=excluded.nonfinite"
		           " WHERE excluded.attempt>attempt OR excluded.value IS NOT value OR excluded.nonfinite IS NOT nonfinite",
		           err, "ttiiiidt", job, m[i].name, epoch, step, attempt, ts, m[i].value, nonfinite(m[i].value));
		changed += sqlite3_changes(c->db) != 0;
	}
	if (!st) st = q_run(c, "UPDATE jobs SET progress=coalesce(?2,progress), updated_at=?3, rev=rev+1 WHERE id=?1", err, "tti", job, progress, wasd_now_ms());
	if (st || !changed) return st; /* a replay is not news */
	cJSON *values = metrics_object(m, n);
	cJSON *d = make_object("siiiij", "id", job, "attempt", attempt, "epoch", epoch, "step", step, "ts", ts, "metrics", values);
	return event_put(s, "jobs", "job.metric", job, d, err);
}

struct epoch_args { const char *job; int64_t attempt, epoch, step, ts; const struct storage_metric *m; size_t n; const char *progress; };

static enum wasd_status epoch_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct epoch_args *a = ctx;
	return epoch_put(s, a->job, a->attempt, a->epoch, a->step, a->ts, a->m, a->n, a->progress, err);
}

enum wasd_status storage_epoch(struct storage *s, const char *job, int64_t attempt, int64_t epoch, int64_t step, int64_t ts,
                               const struct storage_metric *m, size_t n, const char *progress, struct wasd_err *err)
{
	struct epoch_args a = {job, attempt, epoch, step, ts_or_now(ts), m, n, progress};
	return write_op(s, epoch_tx, &a, err);
}

/* ---- reading ---- */

void storage_point_done(struct storage_point *p)
{
	wasd_free(p->name);
	*p = (struct storage_point){0};
}

void storage_point_list_done(struct storage_point_list *l)
{
	for (size_t i = 0; i < l->n; i++) storage_point_done(&l->items[i]);
	wasd_free(l->items);
	*l = (struct storage_point_list){0};
}

static double value_of(sqlite3_stmt *q, int value, int flag)
{
	const char *f = q_text(q, flag);
	if (!f) return sqlite3_column_double(q, value);
	return !strcmp(f, "nan") ? NAN : !strcmp(f, "inf") ? INFINITY : -INFINITY;
}

static enum wasd_status points(struct storage *s, struct conn *c, sqlite3_stmt *q, enum wasd_status st, struct storage_point_list *out, struct wasd_err *err)
{
	struct storage_point_list l = {0};
	while (q_row(c, q, &st, err)) {
		struct storage_point *p = array_push((void **)&l.items, &l.n, sizeof *p);
		if (!p || !(p->name = wasd_strdup(q_text(q, 0)))) {
			st = wasd_fail(err, WASD_ENOMEM, "no memory for %zu points", l.n);
			break;
		}
		p->epoch = sqlite3_column_int64(q, 1);
		p->step = sqlite3_column_int64(q, 2);
		p->ts = sqlite3_column_int64(q, 3);
		p->value = value_of(q, 4, 5);
	}
	q_end(c, q);
	read_end(s, c);
	if (st) storage_point_list_done(&l);
	else *out = l;
	return st;
}

enum wasd_status storage_metric_series(struct storage *s, const char *job, const char *names, int64_t from_step,
                                       struct storage_point_list *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(c, "SELECT name,epoch,step,ts,value,nonfinite FROM metrics WHERE job=?1 AND (?2 IS NULL OR instr(','||?2||',',','||name||',')) AND step>=?3"
	                          " ORDER BY name,epoch", &st, err, "tti", job, names, from_step);
	return points(s, c, q, st, out, err);
}

enum wasd_status storage_metric_latest(struct storage *s, const char *job, struct storage_point_list *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	struct conn *c = read_begin(s);
	/* With max() the other columns come from the row that has the maximum (SQLite's documented rule). */
	sqlite3_stmt *q = q_begin(c, "SELECT name,max(epoch),step,ts,value,nonfinite FROM metrics WHERE job=?1 GROUP BY name ORDER BY name", &st, err, "t", job);
	return points(s, c, q, st, out, err);
}
