/* job_profiles.c - the profiles and other modes that a job names, and the job's completion.
 *
 * The transaction that ends the training requests them (job_ask_profiles): from then on the job is
 * `trained`, has no worker, and stays running until each profile is ready, failed or deleted. The transaction that
 * settles the last profile completes the job (jobs_settle). So a kill at any moment leaves neither a completed job
 * whose profiles are missing nor a job that nobody completes. */
#include "internal.h"
#include <string.h>

/* Adds a line to the job's log, and the event for those who follow the log. */
static enum wasd_status put_line(struct storage *s, const char *job, const char *level, const char *text,
                                 struct wasd_err *err)
{
	int64_t attempt = 0;
	enum wasd_status st = WASD_OK;
	struct conn *c = tx_conn(s);
	sqlite3_stmt *q = q_begin(c, "SELECT attempt FROM jobs WHERE id=?1", &st, err, "t", job);
	if (q_row(c, q, &st, err))
		attempt = sqlite3_column_int64(q, 0);
	q_end(c, q);
	if (!st)
		st = storage_log_add(s, job, attempt, &(struct storage_log_in){.level = level, .text = text}, 1, err);
	if (st)
		return st;
	cJSON *lines = cJSON_CreateArray(), *line = make_object("ss", "level", level, "text", text);
	if (!line || !cJSON_AddItemToArray(lines, line)) {
		cJSON_Delete(line);
		cJSON_Delete(lines);
		return wasd_fail(err, WASD_ENOMEM, "no memory for an event");
	}
	return event_put(s, "jobs", "job.log", job, make_object("sij", "job", job, "attempt", attempt, "lines", lines),
	                 err);
}

/* ---- asking ---- */

static enum wasd_status ask_for(struct storage *s, const struct storage_job *job, const char *ckpt,
                                const struct storage_wanted *w, struct wasd_err *err)
{
	struct storage_profile p = {0};
	struct storage_profile_in in = {.checkpoint = ckpt,
	                                .name = w->name,
	                                .kind = w->kind,
	                                .desire = w->desire,
	                                .request = w->request,
	                                .dataset = job->dataset,
	                                .dataset_version = job->dataset_version,
	                                .actor = job->created_by};
	struct wasd_err why = {0};
	enum wasd_status st = ckpt ? storage_profile_begin(s, &in, &p, NULL, &why) :
	                             wasd_fail(&why, WASD_ENOTFOUND, "the job has no checkpoint");
	/* An error that would recur is reported when the job ends; any other rolls the transaction back and is retried. */
	bool refused = st == WASD_EINVAL || st == WASD_ENOTFOUND || st == WASD_EEXIST || st == WASD_ESTATE ||
	               st == WASD_ECORRUPT;
	if (st && !refused)
		return wasd_fail(err, st, "%s", why.msg);
	st = q_run(tx_conn(s), "INSERT INTO job_profiles(job,name,profile,message) VALUES(?1,?2,?3,?4)", err, "tttt",
	           job->id, w->name, p.id, refused ? why.msg : NULL);
	storage_profile_done(&p);
	return st;
}

enum wasd_status job_ask_profiles(struct storage *s, const char *id, const struct storage_move *m,
                                  const struct storage_wanted *w, size_t n, struct wasd_err *err)
{
	struct storage_job job = {0};
	struct storage_ckpt best = {0};
	char text[120];
	bool modes = false;
	enum wasd_status st = storage_job_get(s, id, &job, err);
	if (st)
		return st;
	if (!storage_job_move_ok(job.state, "completed"))
		st = wasd_fail_at(err, WASD_ESTATE, job.state, "job %s cannot go from %s to completed", id, job.state);
	if (!st)
		st = storage_ckpt_pick(s, id, "best", &best, err);
	if (st == WASD_ENOTFOUND)
		st = WASD_OK;
	if (!st)
		st = q_run(tx_conn(s),
		           "UPDATE jobs SET trained=?2, progress=coalesce(?3,progress), updated_at=?4, rev=rev+1 WHERE id=?1",
		           err, "ttti", id, m->reason, m->progress, wasd_now_ms());
	if (!st)
		st = q_run(tx_conn(s), "DELETE FROM job_profiles WHERE job=?1", err, "t", id);
	for (size_t i = 0; i < n && !st; i++) {
		st = ask_for(s, &job, best.id, &w[i], err);
		modes |= wasd_mode_member(w[i].name) != NULL;
	}
	sqlite3_snprintf(sizeof text, text, "%s %d %s%s of checkpoint %s", modes ? "making" : "searching", (int)n,
	                 modes ? "mode" : "profile", n > 1 ? "s" : "", best.id ? best.id : "(none)");
	if (!st)
		st = put_line(s, id, "info", text, err);
	storage_ckpt_done(&best);
	storage_job_done(&job);
	return st ? st : jobs_settle(s, err);
}

/* ---- settling ---- */

/* A job names its profiles without the family. */
static const char *called(const char *name)
{
	return wasd_mode_member(name) ? "mode" : "profile";
}

/* The job's message: which profiles are missing, and why; NULL when all are ready. */
static enum wasd_status what_failed(struct conn *c, const char *job, char **out, struct wasd_err *err)
{
	struct wasd_buf b = {.max = 64 << 10};
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT w.name, coalesce(w.message, p.message, CASE WHEN p.id IS NULL THEN 'was deleted' ELSE 'its making has failed' END)"
		" FROM job_profiles w LEFT JOIN modes p ON p.id=w.profile WHERE w.job=?1 AND p.state IS NOT 'ready' ORDER BY w.rowid",
		&st, err, "t", job);
	while (q_row(c, q, &st, err))
		wasd_buf_printf(&b, "%s%s %s: %.300s", b.len ? "; " : "", called(q_text(q, 0)), q_text(q, 0), q_text(q, 1));
	q_end(c, q);
	*out = !st && b.len ? wasd_strdup(wasd_buf_cstr(&b)) : NULL;
	if (!st && b.len && !*out)
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_buf_done(&b);
	return st;
}

static enum wasd_status complete(struct storage *s, const char *job, const char *reason, struct wasd_err *err)
{
	char *failed;
	enum wasd_status st = what_failed(tx_conn(s), job, &failed, err);
	if (!st)
		st = job_move(s, job, &(struct storage_move){.to = "completed", .reason = reason, .message = failed}, err);
	if (!st)
		st = put_line(s, job, failed ? "warn" : "info", failed ? failed : "all its modes are ready, job is completed",
		              err);
	wasd_free(failed);
	return st;
}

enum wasd_status jobs_settle(struct storage *s, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	for (;;) {
		char id[40] = "", reason[40] = "";
		sqlite3_stmt *q = q_begin(
			c,
			"SELECT id,trained FROM jobs WHERE state IN ('running','pausing','preempting') AND trained IS NOT NULL AND NOT EXISTS("
			"SELECT 1 FROM job_profiles w JOIN modes p ON p.id=w.profile WHERE w.job=jobs.id AND p.state IN ('queued','searching')) LIMIT 1",
			&st, err, "");
		if (q_row(c, q, &st, err)) {
			sqlite3_snprintf(sizeof id, id, "%s", q_text(q, 0));
			sqlite3_snprintf(sizeof reason, reason, "%s", q_text(q, 1));
		}
		q_end(c, q);
		if (st || !id[0] || (st = complete(s, id, reason, err)))
			return st;
	}
}

enum wasd_status jobs_profile_settled(struct storage *s, const struct storage_profile *p, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	char job[40] = "", name[WASD_MODE_LEN] = "";
	bool failed = !strcmp(p->state, "failed");
	if (!failed && strcmp(p->state, "ready"))
		return WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT w.job, w.name FROM job_profiles w JOIN jobs j ON j.id=w.job WHERE w.profile=?1 AND j.trained IS NOT NULL AND j.finished_at IS NULL",
		&st, err, "t", p->id);
	if (q_row(c, q, &st, err)) {
		sqlite3_snprintf(sizeof job, job, "%s", q_text(q, 0));
		sqlite3_snprintf(sizeof name, name, "%s", q_text(q, 1));
	}
	q_end(c, q);
	if (st || !job[0])
		return st;
	char *text = failed ? wasd_asprintf("%s %s: %.600s", called(name), name, p->message) :
	                      wasd_asprintf("%s %s is ready", called(name), name);
	st = text ? put_line(s, job, failed ? "warn" : "info", text, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(text);
	return st ? st : jobs_settle(s, err);
}

/* ---- cancelling ---- */

enum wasd_status job_drop_searches(struct storage *s, const char *job, const char *why, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	for (;;) {
		char id[40] = "";
		sqlite3_stmt *q = q_begin(
			c,
			"SELECT p.id FROM job_profiles w JOIN modes p ON p.id=w.profile WHERE w.job=?1 AND p.state IN ('queued','searching') LIMIT 1",
			&st, err, "t", job);
		if (q_row(c, q, &st, err))
			sqlite3_snprintf(sizeof id, id, "%s", q_text(q, 0));
		q_end(c, q);
		if (st || !id[0] || (st = storage_profile_fail(s, id, why, err)))
			return st;
	}
}

struct cancel_args {
	const char *id, *reason, *message, *actor;
};

static enum wasd_status cancel_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct cancel_args *a = ctx;
	struct storage_job job = {0};
	struct storage_move m = {.to = "cancelling",
	                         .reason = a->reason,
	                         .message = a->message,
	                         .action = a->actor ? "cancel" : NULL,
	                         .actor = a->actor};
	enum wasd_status st = storage_job_get(s, a->id, &job, err);
	if (st)
		return st;
	if (job.trained && storage_job_active(job.state)) {
		st = job_move(s, a->id, &m, err);
		m.action = NULL;
		if (!st)
			st = job_drop_searches(s, a->id, "its job was cancelled", err);
	}
	m.to = "cancelled";
	if (!st)
		st = job_move(s, a->id, &m, err);
	storage_job_done(&job);
	return st;
}

enum wasd_status storage_job_cancel(struct storage *s, const char *id, const char *reason, const char *message,
                                    const char *actor, struct wasd_err *err)
{
	struct cancel_args a = {id, reason, message, actor};
	return urgent_op(s, cancel_tx, &a, err);
}

enum wasd_status storage_job_searching(struct storage *s, int64_t *n, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT count(*) FROM jobs WHERE state='running' AND trained IS NOT NULL", &st, err,
	                          "");
	if (q_row(c, q, &st, err))
		*n = sqlite3_column_int64(q, 0);
	q_end(c, q);
	read_end(s, c);
	return st;
}
