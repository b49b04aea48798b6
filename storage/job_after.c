/* job_after.c - jobs that wait for others: held until all have completed, cancelled when one has failed or was
 * cancelled. The transaction that ends a job settles those that wait for it. */
#include "internal.h"
#include <string.h>

/* Finds a job that it waits for and that has not ended; who is "" when there is none. */
static enum wasd_status unmet(struct conn *c, const char *job, char who[40], struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	who[0] = 0;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT p.id FROM job_after a JOIN jobs p ON p.id=a.after WHERE a.job=?1 AND p.state NOT IN ('completed','failed','cancelled') ORDER BY p.id LIMIT 1",
		&st, err, "t", job);
	if (q_row(c, q, &st, err))
		sqlite3_snprintf(40, who, "%s", q_text(q, 0));
	q_end(c, q);
	return st;
}

enum wasd_status job_waits_for(struct storage *s, const char *job, char who[40], char text[80], struct wasd_err *err)
{
	enum wasd_status st = unmet(tx_conn(s), job, who, err);
	sqlite3_snprintf(80, text, "waits for job %s", who);
	return st;
}

enum wasd_status job_after_put(struct storage *s, const char *job, const char *const *after, size_t n,
                               struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	char at[24];
	for (size_t i = 0; i < n; i++) {
		struct storage_job p = {0};
		sqlite3_snprintf(sizeof at, at, "/after/%d", (int)i);
		enum wasd_status st = storage_job_get(s, after[i], &p, err);
		if (st == WASD_ENOTFOUND)
			st = wasd_fail_at(err, WASD_EINVAL, at, "%s: there is no job %s", at, after[i]);
		else if (!st && storage_job_terminal(p.state) && strcmp(p.state, "completed"))
			st = wasd_fail_at(err, WASD_EINVAL, at, "%s: job %s is %s and will not complete", at, after[i], p.state);
		if (!st)
			st = q_run(c, "INSERT OR IGNORE INTO job_after(job,after) VALUES(?1,?2)", err, "tt", job, after[i]);
		storage_job_done(&p);
		if (st)
			return st;
	}
	return WASD_OK;
}

enum wasd_status job_after_forget(struct storage *s, const char *job, struct wasd_err *err)
{
	return q_run(
		tx_conn(s),
		"DELETE FROM job_after WHERE job=?1 AND after IN (SELECT id FROM jobs WHERE state IN ('failed','cancelled'))",
		err, "t", job);
}

/* The first row's texts. */
static enum wasd_status first(struct conn *c, const char *sql, char a[40], char b[40], char state[16],
                              struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	a[0] = 0;
	sqlite3_stmt *q = q_begin(c, sql, &st, err, "");
	if (q_row(c, q, &st, err)) {
		sqlite3_snprintf(40, a, "%s", q_text(q, 0));
		sqlite3_snprintf(40, b, "%s", q_text(q, 1));
		sqlite3_snprintf(16, state, "%s", q_text(q, 2));
	}
	q_end(c, q);
	return st;
}

#define LOST \
	"SELECT d.id,p.id,p.state FROM jobs d JOIN job_after a ON a.job=d.id JOIN jobs p ON p.id=a.after" \
	" WHERE d.state='held' AND p.state IN ('failed','cancelled') LIMIT 1"
#define FREE \
	"SELECT d.id,'','' FROM jobs d WHERE d.state='held' AND d.reason='dependency' AND NOT EXISTS(" \
	"SELECT 1 FROM job_after a JOIN jobs p ON p.id=a.after WHERE a.job=d.id AND p.state<>'completed') LIMIT 1"

enum wasd_status jobs_after_settle(struct storage *s, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	if (s->writer.settling) /* the loop below goes on with it: a chain of jobs needs no deep stack */
		return WASD_OK;
	s->writer.settling = true;
	while (!st) {
		char id[40], other[40], state[16], text[100];
		struct storage_move m = {.to = "cancelled", .reason = "dependency", .message = text};
		st = first(c, LOST, id, other, state, err);
		if (!st && id[0]) {
			sqlite3_snprintf(sizeof text, text, "job %s, for which it waited, is %s", other, state);
		} else if (!st) {
			st = first(c, FREE, id, other, state, err);
			m = (struct storage_move){.to = "queued", .reason = "dependency"};
		}
		if (st || !id[0])
			break;
		st = job_move(s, id, &m, err);
	}
	s->writer.settling = false;
	return st;
}
