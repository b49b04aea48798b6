/* sweeps.c - sweeps and their trials: creation, lists, requests, deletion. sweep_step.c carries them on. */
#include "internal.h"
#include "sweep_plan.h"
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define SWEEP_COLS(T, I, D, X) \
	T(X, id) T(X, name) T(X, state) T(X, reason) T(X, message) T(X, template) T(X, space) T(X, search) T(X, rungs) \
	I(X, divisor) I(X, concurrency) T(X, metric) I(X, goal_max) T(X, created_by) I(X, created_at) I(X, finished_at) \
	I(X, updated_at)
#define TRIAL_COLS(T, I, D, X) \
	I(X, number) T(X, point) T(X, job) T(X, state) T(X, reason) T(X, message) I(X, rung) I(X, epoch) I(X, has_value) \
	D(X, value) I(X, results)
#define RESULT_COLS(T, I, D, X) \
	I(X, trial) I(X, rung) I(X, has_value) D(X, value)
/* clang-format on */
ROW_TYPE(sweep_type, storage_sweep, SWEEP_COLS);
ROW_TYPE(trial_type, storage_trial, TRIAL_COLS);
ROW_TYPE(result_type, storage_result, RESULT_COLS);

void storage_sweep_done(struct storage_sweep *w)
{
	row_done(&sweep_type, w);
}

void storage_sweep_list_done(struct storage_sweep_list *l)
{
	rows_done(&sweep_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_sweep_list){0};
}

void storage_trial_list_done(struct storage_trial_list *l)
{
	rows_done(&trial_type, l->items, l->n);
	rows_done(&result_type, l->results, l->n_results);
	*l = (struct storage_trial_list){0};
}

enum wasd_status sweep_row(struct conn *c, const char *id, struct storage_sweep *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(SWEEP_COLS, "sweeps WHERE id=?1"), &st, err, "t", id);
	return row_one(c, q, st, &sweep_type, out, "sweep", id, err);
}

enum wasd_status storage_sweep_get(struct storage *s, const char *id, struct storage_sweep *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = sweep_row(c, id, out, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_sweep_list(struct storage *s, const char *states, struct storage_page page,
                                    struct storage_sweep_list *out, struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "swp_", err);
	if (st)
		return st;
	struct storage_sweep_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(
		c,
		page.oldest_first ?
			SELECT(
				SWEEP_COLS,
				"sweeps WHERE (?1 IS NULL OR instr(','||?1||',',','||state||',')) AND id>coalesce(?2,'') ORDER BY id LIMIT ?3") :
			SELECT(
				SWEEP_COLS,
				"sweeps WHERE (?1 IS NULL OR instr(','||?1||',',','||state||',')) AND id<coalesce(?2,'~') ORDER BY id DESC LIMIT ?3"),
		&st, err, "tti", states, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &sweep_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

/* ---- trials ---- */

/* The value of a trial whose job is gone is that of its last rung. */
#define TRIALS \
	"(SELECT t.number, t.point, t.job, coalesce(j.state,t.state,'waiting') AS state," \
	" CASE WHEN j.id IS NULL THEN t.reason ELSE j.reason END AS reason," \
	" CASE WHEN j.id IS NULL THEN t.message ELSE j.message END AS message, t.rung," \
	" coalesce((SELECT max(m.epoch) FROM metrics m WHERE m.job=t.job AND m.name=?2),0) AS epoch," \
	" b.value IS NOT NULL AS has_value, coalesce(b.value,0.0) AS value," \
	" (SELECT count(*) FROM sweep_results r WHERE r.sweep=t.sweep AND r.trial=t.number) AS results" \
	" FROM sweep_trials t LEFT JOIN jobs j ON j.id=t.job LEFT JOIN (" \
	"SELECT t2.number, coalesce((SELECT CASE WHEN ?3 THEN max(m.value) ELSE min(m.value) END FROM metrics m WHERE m.job=t2.job AND m.name=?2)," \
	" (SELECT r.value FROM sweep_results r WHERE r.sweep=t2.sweep AND r.trial=t2.number ORDER BY r.rung DESC LIMIT 1)) AS value" \
	" FROM sweep_trials t2 WHERE t2.sweep=?1) b ON b.number=t.number WHERE t.sweep=?1)"

enum wasd_status sweep_trials(struct conn *c, const struct storage_sweep *w, struct storage_trial_list *out,
                              struct wasd_err *err)
{
	struct storage_trial_list l = {0};
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(TRIAL_COLS, TRIALS " ORDER BY number"), &st, err, "tti", w->id, w->metric,
	                          w->goal_max);
	st = row_all(c, q, st, &trial_type, (void **)&l.items, &l.n, err);
	if (!st) {
		q = q_begin(
			c,
			SELECT(
				RESULT_COLS,
				"(SELECT trial, rung, value IS NOT NULL AS has_value, coalesce(value,0.0) AS value FROM sweep_results WHERE sweep=?1) ORDER BY trial, rung"),
			&st, err, "t", w->id);
		st = row_all(c, q, st, &result_type, (void **)&l.results, &l.n_results, err);
	}
	if (st)
		storage_trial_list_done(&l);
	else
		*out = l;
	return st;
}

/* For qsort_r: the list and the direction. */
struct ranking {
	const struct storage_trial_list *l;
	bool max;
};

static int by_trial(const void *a, const void *b)
{
	const struct storage_result *x = a, *y = b;
	int64_t d = x->trial != y->trial ? x->trial - y->trial : x->rung - y->rung;
	return d < 0 ? -1 : d > 0;
}

/* The last rung at which the trial has a value, from 1; 0: none, and the value is the best so far. */
static int64_t standing(const struct ranking *r, const struct storage_trial *t, struct sweep_result *out)
{
	for (int64_t rung = t->results; rung > 0; rung--) {
		struct storage_result key = {.trial = t->number, .rung = rung - 1};
		const struct storage_result *v = bsearch(&key, r->l->results, r->l->n_results, sizeof key, by_trial);
		*out = (struct sweep_result){true, v && v->has_value, v ? v->value : 0};
		if (out->has)
			return rung;
	}
	*out = (struct sweep_result){true, t->has_value, t->value};
	return 0;
}

static int compare(const void *a, const void *b, void *ctx)
{
	const struct ranking *r = ctx;
	const struct storage_trial *x = a, *y = b;
	struct sweep_result vx, vy;
	int64_t rx = standing(r, x, &vx), ry = standing(r, y, &vy);
	if (rx != ry)
		return rx > ry ? -1 : 1;
	return sweep_better(r->max, &vx, (size_t)x->number, &vy, (size_t)y->number) ? -1 : 1;
}

enum wasd_status storage_trial_list(struct storage *s, const struct storage_sweep *w, struct storage_trial_list *out,
                                    struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = sweep_trials(c, w, out, err);
	read_end(s, c);
	if (st)
		return st;
	struct ranking r = {out, w->goal_max};
	if (out->n > 1)
		qsort_r(out->items, out->n, sizeof *out->items, compare, &r);
	return WASD_OK;
}

/* ---- moves ---- */

enum wasd_status sweep_move(struct storage *s, const struct storage_sweep *w, const char *to, const char *reason,
                            const char *message, struct wasd_err *err)
{
	int64_t now = wasd_now_ms(), ended = storage_job_terminal(to) ? now : 0;
	enum wasd_status st =
		q_run(tx_conn(s),
	          "UPDATE sweeps SET state=?2, reason=?3, message=?4, finished_at=?5, updated_at=?6 WHERE id=?1", err,
	          "ttttzi", w->id, to, reason, message, ended, now);
	atomic_store(&s->sweeps_due, true);
	return st ? st :
	            event_put(s, "sweeps", "sweep.state", w->id,
	                      make_object("sssooi", "id", w->id, "from", w->state, "to", to, "reason", reason, "message",
	                                  message, "at", now),
	                      err);
}

static enum wasd_status audit(struct storage *s, const char *id, const char *action, const char *actor,
                              const char *reason, const char *from, const char *to, struct wasd_err *err)
{
	char object[60], name[40];
	sqlite3_snprintf(sizeof object, object, "sweep/%s", id);
	sqlite3_snprintf(sizeof name, name, "sweep.%s", action);
	return audit_change(s, (struct audit_in){.actor = actor, .action = name, .object = object, .reason = reason}, !from,
	                    from ? make_object("s", "state", from) : NULL, make_object("s", "state", to), err);
}

/* ---- creation ---- */

struct create_args {
	const struct storage_sweep_in *in;
	struct storage_sweep *out;
	bool existing;
};

static enum wasd_status put_rows(struct storage *s, const struct storage_sweep_in *in, const char *id, int64_t now,
                                 struct wasd_err *err)
{
	enum wasd_status st = q_run(
		tx_conn(s),
		"INSERT INTO sweeps(id,name,state,template,space,search,rungs,divisor,concurrency,metric,goal_max,created_by,created_at,updated_at)"
		" VALUES(?1,?2,'running',?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?12)",
		err, "ttttttiititi", id, in->name, in->template, in->space, in->search, in->rungs, in->divisor, in->concurrency,
		in->metric, (int64_t)in->goal_max, in->created_by, now);
	for (size_t i = 0; i < in->n_trials && !st; i++)
		st = q_run(tx_conn(s), "INSERT INTO sweep_trials(sweep,number,point,spec,rung) VALUES(?1,?2,?3,?4,0)", err,
		           "titt", id, (int64_t)i + 1, in->trials[i].point, in->trials[i].spec);
	return st;
}

static enum wasd_status create_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct create_args *a = ctx;
	const struct storage_sweep_in *in = a->in;
	/* Keys have no blank, so that no job's key is the same. */
	const struct idem key = {in->created_by, "sweep ", in->idempotency_key, in->request_digest};
	char id[40] = "";
	int64_t now = wasd_now_ms();
	enum wasd_status st = key.key ? idem_find(s, &key, id, err) : WASD_OK;
	a->existing = id[0] != 0;
	if (st || a->existing)
		return st ? st : sweep_row(tx_conn(s), id, a->out, err);
	wasd_ulid("swp_", id);
	if ((st = storage_space(s, 0, err)) || (st = put_rows(s, in, id, now, err)))
		return st;
	if (key.key)
		st = idem_put(s, &key, id, now, err);
	if (!st)
		st = event_put(s, "sweeps", "sweep.state", id,
		               make_object("sssi", "id", id, "from", NULL, "to", "running", "at", now), err);
	if (!st)
		st = audit(s, id, "create", in->created_by, NULL, NULL, "running", err);
	atomic_store(&s->sweeps_due, true);
	return st ? st : sweep_row(tx_conn(s), id, a->out, err);
}

enum wasd_status storage_sweep_create(struct storage *s, const struct storage_sweep_in *in, struct storage_sweep *out,
                                      bool *existing, struct wasd_err *err)
{
	struct storage_sweep row = {0};
	struct create_args a = {in, &row, false};
	enum wasd_status st = write_op(s, create_tx, &a, err);
	if (st) {
		storage_sweep_done(&row); /* filled if the COMMIT failed */
		return st;
	}
	*out = row;
	*existing = a.existing;
	return WASD_OK;
}

/* ---- requests ---- */

struct ask_args {
	const char *id;
	enum storage_sweep_ask what;
	const struct storage_request *r;
};

/* What a request makes of a state; NULL: nothing, since it holds already; "": impossible. */
static const char *asked(enum storage_sweep_ask what, const char *state)
{
	bool running = !strcmp(state, "running"), paused = !strcmp(state, "pausing") || !strcmp(state, "paused"),
		 cancelled = !strcmp(state, "cancelling") || !strcmp(state, "cancelled");
	switch (what) {
	case STORAGE_SWEEP_PAUSE:
		return running ? "pausing" : paused ? NULL : "";
	case STORAGE_SWEEP_RESUME:
		return paused ? "running" : running ? NULL : "";
	default:
		return running || paused ? "cancelling" : cancelled ? NULL : "";
	}
}

static enum wasd_status ask_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	static const char *const names[] = {"pause", "resume", "cancel"};
	struct ask_args *a = ctx;
	struct storage_sweep w = {0};
	enum wasd_status st = sweep_row(tx_conn(s), a->id, &w, err);
	const char *to = st ? NULL : asked(a->what, w.state);
	if (to && !*to) {
		st = wasd_fail_at(err, WASD_ESTATE, w.state, "sweep %s is %s", w.id, w.state);
	} else if (to) {
		st = sweep_move(s, &w, to, "user", a->r->reason, err);
		if (!st)
			st = audit(s, w.id, names[a->what], a->r->actor, a->r->reason, w.state, to, err);
	}
	storage_sweep_done(&w);
	return st;
}

enum wasd_status storage_sweep_ask(struct storage *s, const char *id, enum storage_sweep_ask what,
                                   const struct storage_request *r, struct wasd_err *err)
{
	struct ask_args a = {id, what, r};
	return write_op(s, ask_tx, &a, err);
}

enum wasd_status job_sweep(struct conn *c, const char *job, char sweep[40], struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sweep[0] = 0;
	sqlite3_stmt *q =
		q_begin(c, "SELECT w.id FROM jobs j JOIN sweeps w ON w.id=j.sweep WHERE j.id=?1 AND w.finished_at IS NULL", &st,
	            err, "t", job);
	if (q_row(c, q, &st, err))
		sqlite3_snprintf(40, sweep, "%s", q_text(q, 0));
	q_end(c, q);
	return st;
}

/* ---- deletion ---- */

struct delete_args {
	const char *id, *actor;
	bool with_jobs;
};

static enum wasd_status delete_jobs(struct storage *s, const struct delete_args *a, const struct storage_sweep *w,
                                    struct wasd_err *err)
{
	struct storage_trial_list l = {0};
	enum wasd_status st = sweep_trials(tx_conn(s), w, &l, err);
	for (size_t i = 0; i < l.n && !st; i++)
		if (l.items[i].job && (st = storage_job_delete(s, l.items[i].job, a->actor, err)) == WASD_ENOTFOUND)
			st = WASD_OK; /* it was deleted before */
	storage_trial_list_done(&l);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct storage_sweep w = {0};
	enum wasd_status st = sweep_row(tx_conn(s), a->id, &w, err);
	if (!st && !storage_job_terminal(w.state))
		st = wasd_fail_at(err, WASD_ESTATE, w.state, "sweep %s is %s; cancel it first", w.id, w.state);
	if (!st && a->with_jobs)
		st = delete_jobs(s, a, &w, err);
	if (!st)
		st = q_run(tx_conn(s), "UPDATE jobs SET sweep=NULL, trial=NULL, rev=rev+1 WHERE sweep=?1", err, "t", w.id);
	if (!st)
		st = q_run(tx_conn(s), "DELETE FROM sweeps WHERE id=?1", err, "t", w.id);
	if (!st)
		st = event_put(s, "sweeps", "sweep.deleted", w.id, make_object("s", "id", w.id), err);
	if (!st)
		st = audit(s, w.id, "delete", a->actor, NULL, w.state, "deleted", err);
	storage_sweep_done(&w);
	return st;
}

enum wasd_status storage_sweep_delete(struct storage *s, const char *id, bool with_jobs, const char *actor,
                                      struct wasd_err *err)
{
	struct delete_args a = {id, actor, with_jobs};
	return delete_op(s, delete_tx, &a, err);
}
