/* samples.c - what the process of a job uses, over time.
 *
 * A row is the mean of n samples and has the time, the step and the epoch of the last of them. The oldest row has the
 * greatest n; a new sample joins the newest row of its attempt until that has as many. When a metric has
 * STORAGE_SAMPLES rows, each pair is merged, so that all have about the same n again: the rows stay evenly spread over
 * the job's time, however long it runs. */
#include "internal.h"

#include <math.h>
#include <string.h>

struct args {
	const char *job;
	int64_t attempt;
	const struct storage_sample *in;
};

/* The newest row of a metric, how many rows it has, and the greatest n. */
struct newest {
	int64_t ts, attempt, n, rows, most;
	double value;
};

static enum wasd_status newest_of(struct conn *c, const char *job, const char *name, struct newest *out,
                                  struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	*out = (struct newest){.ts = -1};
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT ts,attempt,n,value,(SELECT count(*) FROM job_samples WHERE job=?1 AND name=?2),"
		"(SELECT max(n) FROM job_samples WHERE job=?1 AND name=?2) FROM job_samples WHERE job=?1 AND name=?2 ORDER BY ts DESC LIMIT 1",
		&st, err, "tt", job, name);
	if (q && q_row(c, q, &st, err))
		*out = (struct newest){.ts = sqlite3_column_int64(q, 0),
		                       .attempt = sqlite3_column_int64(q, 1),
		                       .n = sqlite3_column_int64(q, 2),
		                       .value = sqlite3_column_double(q, 3),
		                       .rows = sqlite3_column_int64(q, 4),
		                       .most = sqlite3_column_int64(q, 5)};
	if (q)
		q_end(c, q);
	return st;
}

static enum wasd_status drop_row(struct conn *c, const char *job, const char *name, int64_t ts, struct wasd_err *err)
{
	return q_run(c, "DELETE FROM job_samples WHERE job=?1 AND name=?2 AND ts=?3", err, "tti", job, name, ts);
}

struct pair {
	int64_t drop, into, n;
	double value;
};

static enum wasd_status merge_pairs(struct conn *c, const char *job, const char *name, struct wasd_err *err)
{
	struct pair *pairs = wasd_calloc(STORAGE_SAMPLES / 2, sizeof *pairs);
	enum wasd_status st = pairs ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for samples");
	size_t n = 0, i = 0;
	sqlite3_stmt *q = st ? NULL :
	                       q_begin(c, "SELECT ts,n,value FROM job_samples WHERE job=?1 AND name=?2 ORDER BY ts", &st,
	                               err, "tt", job, name);
	for (; q && n < STORAGE_SAMPLES / 2 && q_row(c, q, &st, err); i++) {
		const int64_t ts = sqlite3_column_int64(q, 0), of = sqlite3_column_int64(q, 1);
		const double value = sqlite3_column_double(q, 2);
		struct pair *p = &pairs[n];
		if (i % 2 == 0) {
			*p = (struct pair){.drop = ts, .n = of, .value = value};
			continue;
		}
		p->into = ts;
		p->value = (p->value * (double)p->n + value * (double)of) / (double)(p->n + of);
		p->n += of;
		n++;
	}
	if (q)
		q_end(c, q);
	for (i = 0; i < n && !st; i++) {
		st = drop_row(c, job, name, pairs[i].drop, err);
		if (!st)
			st = q_run(c, "UPDATE job_samples SET n=?4, value=?5 WHERE job=?1 AND name=?2 AND ts=?3", err, "ttiid", job,
			           name, pairs[i].into, pairs[i].n, pairs[i].value);
	}
	wasd_free(pairs);
	return st;
}

static enum wasd_status put_one(struct conn *c, const struct args *a, const struct storage_metric *m,
                                struct wasd_err *err)
{
	struct newest last;
	int64_t ts = a->in->ts, n = 1;
	double value = m->value;
	enum wasd_status st = newest_of(c, a->job, m->name, &last, err);
	if (!st && last.attempt == a->attempt && last.n < last.most) {
		n = last.n + 1;
		value = (last.value * (double)last.n + value) / (double)n;
		st = drop_row(c, a->job, m->name, last.ts, err);
		last.rows--;
	}
	if (ts <= last.ts)
		ts = last.ts + 1; /* the clock was set back */
	if (!st)
		st = q_run(c, "INSERT INTO job_samples(job,name,ts,attempt,epoch,step,n,value) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
		           err, "ttiiiiid", a->job, m->name, ts, a->attempt, a->in->epoch, a->in->step, n, value);
	return !st && last.rows + 1 >= STORAGE_SAMPLES ? merge_pairs(c, a->job, m->name, err) : st;
}

static enum wasd_status sample_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct args *a = ctx;
	const struct storage_sample *in = a->in;
	struct conn *c = tx_conn(s);
	enum wasd_status st = job_fence(c, a->job, a->attempt, err);
	if (!st)
		st = q_run(c, "DELETE FROM job_samples WHERE job=?1 AND attempt<?2 AND step>?3", err, "tii", a->job, a->attempt,
		           in->from_step);
	for (size_t i = 0; i < in->n && !st; i++)
		if (isfinite(in->m[i].value))
			st = put_one(c, a, &in->m[i], err);
	if (st)
		return st;
	return event_put(s, "jobs", "job.sample", a->job,
	                 make_object("siiiij", "id", a->job, "attempt", a->attempt, "epoch", in->epoch, "step", in->step,
	                             "ts", in->ts, "metrics", metrics_object(in->m, in->n)),
	                 err);
}

enum wasd_status storage_sample_put(struct storage *s, const char *job, int64_t attempt,
                                    const struct storage_sample *in, struct wasd_err *err)
{
	struct args a = {job, attempt, in};
	return write_op(s, sample_tx, &a, err);
}
