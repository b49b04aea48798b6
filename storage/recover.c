/* recover.c - repairs, in one transaction, the rows left by a daemon that did not shut down properly. */
#include "internal.h"
#include <string.h>

void storage_recovered_list_done(struct storage_recovered_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		wasd_free(l->items[i].job);
		wasd_free(l->items[i].from);
		wasd_free(l->items[i].to);
	}
	wasd_free(l->items);
	*l = (struct storage_recovered_list){0};
}

static const char *state_after(const char *state)
{
	return !strcmp(state, "pausing") ? "paused" : !strcmp(state, "cancelling") ? "cancelled" : "queued";
}

static enum wasd_status find_interrupted(struct conn *c, struct storage_recovered_list *l, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT id,state FROM jobs WHERE state IN ('starting','running','pausing','preempting','cancelling') AND (trained IS NULL OR state<>'running') ORDER BY id",
		&st, err, "");
	while (q_row(c, q, &st, err)) {
		struct storage_recovered *r = array_push((void **)&l->items, &l->n, sizeof *r);
		if (r) {
			r->job = wasd_strdup(q_text(q, 0));
			r->from = wasd_strdup(q_text(q, 1));
			r->to = wasd_strdup(state_after(q_text(q, 1)));
		}
		if (!r || !r->job || !r->from || !r->to)
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	q_end(c, q);
	return st;
}

/* A pause for lack of room stays one, which ends by itself. */
static enum wasd_status put_back(struct storage *s, const struct storage_recovered *r, struct wasd_err *err)
{
	struct storage_job j = {0};
	enum wasd_status st = storage_job_get(s, r->job, &j, err);
	bool sweeps = !st && j.reason && !strcmp(j.reason, "sweep") &&
	              (!strcmp(j.state, "pausing") || !strcmp(j.state, "cancelling"));
	struct storage_move m = {.to = r->to,
	                         .reason = sweeps                     ? "sweep" :
	                                   strcmp(r->to, "cancelled") ? "interrupted" :
	                                                                "user",
	                         .message = "the daemon ended while it was active"};
	if (!st && storage_job_paused_for_room(&j)) {
		m.reason = j.reason;
		m.message = j.message;
	}
	if (!st)
		st = job_move(s, r->job, &m, err);
	storage_job_done(&j);
	return st;
}

static enum wasd_status invalidate_scans(struct storage *s, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	for (;;) {
		char id[40] = "";
		sqlite3_stmt *q = q_begin(c, "SELECT id FROM datasets WHERE state='scanning' LIMIT 1", &st, err, "");
		if (q_row(c, q, &st, err))
			sqlite3_snprintf(sizeof id, id, "%s", q_text(q, 0));
		q_end(c, q);
		if (st || !id[0])
			return st;
		if ((st = storage_dataset_invalid(
				 s, id, "{\"code\":\"interrupted\",\"message\":\"the daemon ended during the scan; send it again\"}",
				 err)))
			return st;
	}
}

static enum wasd_status recover_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct storage_recovered_list *l = ctx;
	struct conn *c = tx_conn(s);
	storage_recovered_list_done(l); /* in case this runs a second time */
	const int64_t now = wasd_now_ms(), week = INT64_C(7) * 24 * 3600 * 1000;
	enum wasd_status st = find_interrupted(c, l, err);
	/* Nobody recorded when they ended: not long after the last that is stored of the job. */
	if (!st)
		st = q_run(
			c,
			"UPDATE attempts SET ended_at=max(started_at,(SELECT updated_at FROM jobs WHERE id=job)), outcome='interrupted',"
			" exit_reason='the daemon ended' WHERE ended_at IS NULL",
			err, "");
	for (size_t i = 0; i < l->n && !st; i++)
		st = put_back(s, &l->items[i], err);
	if (!st)
		st = invalidate_scans(s, err);
	if (!st)
		st = profiles_requeue(s, err);
	if (!st)
		st = jobs_settle(s, err);
	/* Nothing is loaded yet; unloaded and failed deployments stay as they are. */
	if (!st)
		st = q_run(
			c,
			"UPDATE deployments SET state='created', message=NULL, updated_at=?1 WHERE state IN ('loading','warming','ready')",
			err, "i", now);
	if (!st)
		st = deployments_drained(s, err);
	if (!st)
		st = q_run(c, "DELETE FROM idempotency WHERE created_at<?1", err, "i", now - week);
	return st;
}

/* Reads the whole checkpoint; the reader marks it corrupt if a check fails. */
static enum wasd_status verify(struct storage *s, const char *id, struct wasd_err *err)
{
	struct storage_ckpt_reader *r = NULL;
	enum wasd_status st = storage_ckpt_open(s, id, &r, err);
	if (st == WASD_ENOTFOUND) {
		st = ckpt_mark_corrupt(s, id, err);
		return st ? st : WASD_ECORRUPT;
	}
	if (st)
		return st;
	char *buf = wasd_malloc(CHUNK);
	if (!buf)
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	for (int64_t at = 0; at < storage_ckpt_size(r) && !st;) {
		size_t got = 0;
		st = storage_ckpt_read(r, at, buf, CHUNK, &got, err);
		at += (int64_t)got;
	}
	wasd_free(buf);
	storage_ckpt_close(r);
	return st;
}

/* Verifies the newest checkpoint of every job that may resume, and earlier ones as long as they fail. */
static enum wasd_status verify_resume_points(struct storage *s, struct wasd_err *err)
{
	struct storage_job_list jobs = {0};
	struct storage_page page = {.limit = 500, .oldest_first = true};
	struct storage_job_filter unfinished = {.states = "queued,held,paused,retry_wait"};
	enum wasd_status st = WASD_OK;
	char *cursor = NULL;
	do {
		page.cursor = cursor;
		st = storage_job_list(s, &unfinished, page, &jobs, err);
		wasd_free(cursor);
		cursor = NULL;
		for (size_t i = 0; i < jobs.n && !st; i++) {
			for (;;) {
				char *id = NULL;
				struct conn *c = read_begin(s);
				st = ckpt_newest(c, jobs.items[i].id, &id, err);
				read_end(s, c);
				if (st || !id)
					break;
				st = verify(s, id, err);
				wasd_free(id);
				if (st != WASD_ECORRUPT)
					break;
			}
		}
		if (!st) {
			cursor = jobs.next_cursor;
			jobs.next_cursor = NULL;
		}
		storage_job_list_done(&jobs);
	} while (cursor && !st);
	return st;
}

enum wasd_status storage_recover(struct storage *s, struct storage_recovered_list *out, struct wasd_err *err)
{
	struct storage_recovered_list l = {0};
	enum wasd_status st = urgent_op(s, recover_tx, &l, err);
	if (!st)
		st = verify_resume_points(s, err);
	if (st || !out)
		storage_recovered_list_done(&l);
	else
		*out = l;
	return st;
}
