/* metrics.c - one number per job, name and epoch. The key makes replays harmless; a later attempt may overwrite an
 * epoch. Some numbers are also stored along the steps: a value is the mean over the steps since the previous
 * point; when a curve is full, each pair of points is merged into one, which preserves that. A resumed run repeats
 * the steps after its checkpoint with the same losses, so points up to the last stored one are ignored. */
#include "internal.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

/* The name of a non-finite value, which neither SQL nor JSON can represent (SQL would store NaN as NULL). */
static const char *nonfinite(double v)
{
	return isfinite(v) ? NULL : isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
}

cJSON *metrics_object(const struct storage_metric *m, size_t n)
{
	cJSON *o = cJSON_CreateObject();
	for (size_t i = 0; i < n && o; i++) {
		if (wasd_json_add_real(o, m[i].name, m[i].value))
			continue;
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
		st = q_run(
			c,
			"INSERT INTO metrics(job,name,epoch,step,attempt,ts,value,nonfinite) VALUES(?1,?2,?3,?4,?5,?6,CASE WHEN ?8 IS NULL THEN ?7 END,?8)"
			" ON CONFLICT(job,name,epoch) DO UPDATE SET step=excluded.step, attempt=excluded.attempt, ts=excluded.ts, value=excluded.value, nonfinite=excluded.nonfinite"
			" WHERE excluded.attempt>attempt OR excluded.value IS NOT value OR excluded.nonfinite IS NOT nonfinite",
			err, "ttiiiidt", job, m[i].name, epoch, step, attempt, ts, m[i].value, nonfinite(m[i].value));
		changed += sqlite3_changes(c->db) != 0;
	}
	if (!st)
		st = q_run(c, "UPDATE jobs SET progress=coalesce(?2,progress), updated_at=?3, rev=rev+1 WHERE id=?1", err,
		           "tti", job, progress, wasd_now_ms());
	if (st || !changed)
		return st; /* no event for a replay */
	cJSON *values = metrics_object(m, n);
	cJSON *d = make_object("siiiij", "id", job, "attempt", attempt, "epoch", epoch, "step", step, "ts", ts, "metrics",
	                       values);
	return event_put(s, "jobs", "job.metric", job, d, err);
}

struct epoch_args {
	const char *job;
	int64_t attempt, epoch, step, ts;
	const struct storage_metric *m;
	size_t n;
	const char *progress;
};

static enum wasd_status epoch_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct epoch_args *a = ctx;
	return epoch_put(s, a->job, a->attempt, a->epoch, a->step, a->ts, a->m, a->n, a->progress, err);
}

enum wasd_status storage_epoch(struct storage *s, const char *job, int64_t attempt, int64_t epoch, int64_t step,
                               int64_t ts, const struct storage_metric *m, size_t n, const char *progress,
                               struct wasd_err *err)
{
	struct epoch_args a = {job, attempt, epoch, step, ts_or_now(ts), m, n, progress};
	return write_op(s, epoch_tx, &a, err);
}

/* ---- along the steps ---- */

static const struct curve {
	const char *name;
	size_t at;  /* of its value in struct storage_step */
	bool exact; /* the value of that very step, not a mean */
} curves[] = {
	{"train_loss_step", offsetof(struct storage_step, loss), false},
	{"lr_step", offsetof(struct storage_step, lr), true},
	{"images_per_s_step", offsetof(struct storage_step, images_per_s), false},
};

/* A point to merge into the next one. */
struct half {
	int64_t step, into;
	double value;
};

static enum wasd_status halve(struct storage *s, const char *job, const struct curve *k, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	struct half *pairs = wasd_calloc(STORAGE_STEP_POINTS, sizeof *pairs);
	enum wasd_status st = pairs ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a curve");
	size_t n = 0, i = 0;
	sqlite3_stmt *q = st ? NULL :
	                       q_begin(c, "SELECT step,value FROM step_metrics WHERE job=?1 AND name=?2 ORDER BY step", &st,
	                               err, "tt", job, k->name);
	for (; q && q_row(c, q, &st, err) && n < STORAGE_STEP_POINTS; i++) {
		int64_t step = sqlite3_column_int64(q, 0);
		double value = sqlite3_column_double(q, 1);
		if (i % 2)
			pairs[n] = (struct half){pairs[n].step, step, k->exact ? value : (pairs[n].value + value) / 2}, n++;
		else
			pairs[n] = (struct half){.step = step, .value = value};
	}
	if (q)
		q_end(c, q);
	for (i = 0; i < n && !st; i++) {
		st = q_run(c, "DELETE FROM step_metrics WHERE job=?1 AND name=?2 AND step=?3", err, "tti", job, k->name,
		           pairs[i].step);
		if (!st)
			st = q_run(c, "UPDATE step_metrics SET value=?4 WHERE job=?1 AND name=?2 AND step=?3", err, "ttid", job,
			           k->name, pairs[i].into, pairs[i].value);
	}
	wasd_free(pairs);
	return st;
}

struct steps_args {
	const char *job;
	int64_t attempt;
	const struct storage_step *p;
	size_t n;
	const char *progress;
};

/* The event carries the new points. */
static enum wasd_status put_steps_event(struct storage *s, const struct steps_args *a, size_t first, int64_t now,
                                        struct wasd_err *err)
{
	const struct storage_step *last = &a->p[a->n - 1];
	cJSON *points = cJSON_CreateArray();
	for (size_t i = first; i < a->n; i++) {
		cJSON *row = cJSON_CreateDoubleArray((const double[]){(double)a->p[i].step, (double)a->p[i].epoch, (double)now,
		                                                      a->p[i].loss},
		                                     4);
		if (row && cJSON_AddItemToArray(points, row))
			continue;
		cJSON_Delete(row);
		cJSON_Delete(points);
		return wasd_fail(err, WASD_ENOMEM, "no memory for an event");
	}
	return event_put(s, "jobs", "job.metric", a->job,
	                 make_object("siiiijj", "id", a->job, "attempt", a->attempt, "epoch", last->epoch, "step",
	                             last->step, "ts", now, "metrics", make_object("d", "train_loss_step", last->loss),
	                             "points", points),
	                 err);
}

static enum wasd_status put_progress_event(struct storage *s, const struct steps_args *a, struct wasd_err *err)
{
	return event_put(s, "jobs", "job.progress", a->job,
	                 make_object("sij", "id", a->job, "attempt", a->attempt, "progress", cJSON_Parse(a->progress)),
	                 err);
}

/* Appends the points behind the curve's last one. *first: the first of them. */
static enum wasd_status put_curve(struct storage *s, const struct steps_args *a, const struct curve *k, int64_t now,
                                  size_t *first, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	int64_t have = 0, last = -1;
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT count(*),coalesce(max(step),-1) FROM step_metrics WHERE job=?1 AND name=?2",
	                          &st, err, "tt", a->job, k->name);
	if (q && q_row(c, q, &st, err)) {
		have = sqlite3_column_int64(q, 0);
		last = sqlite3_column_int64(q, 1);
	}
	if (q)
		q_end(c, q);
	for (*first = 0; *first < a->n && a->p[*first].step <= last;)
		++*first;
	for (size_t i = *first; i < a->n && !st; i++) {
		double value = *(const double *)((const char *)&a->p[i] + k->at);
		if (!isfinite(value))
			continue;
		st = q_run(c, "INSERT INTO step_metrics(job,name,step,epoch,ts,value) VALUES(?1,?2,?3,?4,?5,?6)", err, "ttiiid",
		           a->job, k->name, a->p[i].step, a->p[i].epoch, now, value);
		if (!st && ++have == STORAGE_STEP_POINTS) {
			st = halve(s, a->job, k, err);
			have /= 2;
		}
	}
	return st;
}

static enum wasd_status steps_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct steps_args *a = ctx;
	int64_t now = wasd_now_ms();
	size_t first = a->n, of_curve;
	enum wasd_status st = a->attempt ? job_fence(tx_conn(s), a->job, a->attempt, err) : WASD_OK;
	for (size_t i = 0; i < sizeof curves / sizeof *curves && a->n && !st; i++)
		st = put_curve(s, a, &curves[i], now, i ? &of_curve : &first, err); /* the event tells the first curve */
	if (!st && first < a->n)
		st = put_steps_event(s, a, first, now, err);
	if (!st && a->progress)
		st = put_progress_event(s, a, err);
	return st;
}

enum wasd_status storage_steps(struct storage *s, const char *job, int64_t attempt, const struct storage_step *p,
                               size_t n, const char *progress, struct wasd_err *err)
{
	struct steps_args a = {job, attempt, p, n, progress};
	for (size_t i = 1; i < n; i++)
		if (p[i].step <= p[i - 1].step)
			return wasd_fail(err, WASD_EINVAL, "step %lld after step %lld", (long long)p[i].step,
			                 (long long)p[i - 1].step);
	return write_op(s, steps_tx, &a, err);
}

/* ---- reading ---- */

void storage_point_done(struct storage_point *p)
{
	wasd_free(p->name);
	*p = (struct storage_point){0};
}

void storage_point_list_done(struct storage_point_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		storage_point_done(&l->items[i]);
	wasd_free(l->items);
	*l = (struct storage_point_list){0};
}

static double value_of(sqlite3_stmt *q, int value, int flag)
{
	const char *f = q_text(q, flag);
	if (!f)
		return sqlite3_column_double(q, value);
	return !strcmp(f, "nan") ? NAN : !strcmp(f, "inf") ? INFINITY : -INFINITY;
}

static enum wasd_status points(struct storage *s, struct conn *c, sqlite3_stmt *q, enum wasd_status st,
                               struct storage_point_list *out, struct wasd_err *err)
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
	if (st)
		storage_point_list_done(&l);
	else
		*out = l;
	return st;
}

/* The names as a JSON array, for json_each(). NULL: no memory. */
static char *names_json(const char *names)
{
	cJSON *list = cJSON_CreateArray();
	bool ok = list != NULL;
	for (const char *p = names; *p && ok; p += strcspn(p, ","), p += *p == ',') {
		char *name = wasd_strndup(p, strcspn(p, ","));
		cJSON *item = name ? cJSON_CreateString(name) : NULL;
		ok = item && cJSON_AddItemToArray(list, item);
		wasd_free(name);
	}
	char *text = ok ? wasd_json_print(list) : NULL;
	cJSON_Delete(list);
	return text;
}

/* The keys begin with job and name, so that a list of names reads only their rows. */
#define SERIES(which) \
	"SELECT name,epoch,step,ts,value,nonfinite FROM metrics WHERE job=?1 AND step>=?2" which \
	" UNION ALL SELECT name,epoch,step,ts,value,NULL FROM step_metrics WHERE job=?1 AND step>=?2" which \
	" UNION ALL SELECT name,epoch,step,ts,value,NULL FROM job_samples WHERE job=?1 AND step>=?2" which \
	" ORDER BY name,epoch,step,ts"

enum wasd_status storage_metric_series(struct storage *s, const char *job, const char *names, int64_t from_step,
                                       struct storage_point_list *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char *list = names ? names_json(names) : NULL;
	if (names && !list)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the names of metrics");
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = list ? q_begin(c, SERIES(" AND name IN (SELECT value FROM json_each(?3))"), &st, err, "tit", job,
	                                 from_step, list) :
	                         q_begin(c, SERIES(""), &st, err, "ti", job, from_step);
	st = points(s, c, q, st, out, err);
	wasd_free(list);
	return st;
}

/* Steps from name to name and to the last epoch of each, instead of reading all epochs. */
enum wasd_status storage_metric_latest(struct storage *s, const char *job, struct storage_point_list *out,
                                       struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(
		c,
		"WITH RECURSIVE names(name) AS (SELECT min(name) FROM metrics WHERE job=?1"
		" UNION ALL SELECT (SELECT min(name) FROM metrics WHERE job=?1 AND name>names.name) FROM names WHERE name IS NOT NULL)"
		" SELECT m.name,m.epoch,m.step,m.ts,m.value,m.nonfinite FROM names JOIN metrics m ON m.job=?1 AND m.name=names.name"
		" AND m.epoch=(SELECT max(epoch) FROM metrics WHERE job=?1 AND name=names.name) ORDER BY m.name",
		&st, err, "t", job);
	return points(s, c, q, st, out, err);
}
