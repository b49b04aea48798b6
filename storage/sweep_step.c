/* sweep_step.c - carries sweeps on, from rows alone: takes the results of trials, promotes and prunes (sweep_plan.c),
 * makes and queues jobs, ends sweeps.
 *
 * A trial whose point is null is made of what the one before it has found: the member "adjusted" of its last
 * checkpoint's info (wasd/train.h), whose "next" has the point, and the members of the spec that differ.
 *
 * A trial's job pauses by itself at the epoch `until` of its row, with reason "rung". Its value at the rung is the best
 * one up to that epoch; it may have none. Each step of a sweep is one transaction, so that a kill at any moment leaves
 * rows from which the next step goes on; doing a step twice changes nothing. */
#include "internal.h"
#include "sweep_plan.h"
#include <string.h>

struct step {
	struct storage *s;
	struct storage_sweep w;
	struct storage_trial_list l; /* by number */
	int64_t *rungs;
	size_t n_rungs;
	bool no_room; /* a job could not be made now */
	struct storage_sweep_orders *orders;
};

static bool in(const char *s, const char *list)
{
	size_t n = strlen(s);
	for (const char *at = strstr(list, s); at; at = strstr(at + 1, s))
		if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ' '))
			return true;
	return false;
}

static bool has_reason(const struct storage_trial *t, const char *reason)
{
	return t->reason && !strcmp(t->reason, reason);
}

/* At its rung, with its result taken: it needs no worker until it is promoted. */
static bool parked(const struct storage_trial *t)
{
	return !strcmp(t->state, "paused") && (has_reason(t, "rung") || (has_reason(t, "sweep") && t->results > t->rung));
}

static enum wasd_status put_event(struct step *p, const struct storage_trial *t, const char *what, int64_t rung,
                                  cJSON *value, struct wasd_err *err)
{
	return event_put(p->s, "sweeps", "sweep.trial", p->w.id,
	                 make_object("sisoiij", "id", p->w.id, "trial", t->number, "what", what, "job", t->job, "rung",
	                             rung, "epoch", p->rungs[rung], "value", value),
	                 err);
}

/* ---- reading ---- */

static enum wasd_status read_rungs(struct step *p, struct wasd_err *err)
{
	cJSON *list = cJSON_Parse(p->w.rungs);
	size_t n = list ? (size_t)cJSON_GetArraySize(list) : 0;
	p->rungs = n ? wasd_calloc(n, sizeof *p->rungs) : NULL;
	const cJSON *one;
	cJSON_ArrayForEach(one, list)
		if (p->rungs)
			p->rungs[p->n_rungs++] = (int64_t)one->valuedouble;
	cJSON_Delete(list);
	return p->rungs ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "sweep %s: no memory, or no rungs", p->w.id);
}

static enum wasd_status read_trials(struct step *p, struct wasd_err *err)
{
	storage_trial_list_done(&p->l);
	return sweep_trials(tx_conn(p->s), &p->w, &p->l, err);
}

/* ---- results ---- */

/* The best value of the metric up to an epoch. */
static enum wasd_status best_value(struct step *p, const struct storage_trial *t, int64_t epoch,
                                   struct sweep_result *out, struct wasd_err *err)
{
	struct conn *c = tx_conn(p->s);
	enum wasd_status st = WASD_OK;
	*out = (struct sweep_result){.known = true};
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT CASE WHEN ?4 THEN max(value) ELSE min(value) END FROM metrics WHERE job=?1 AND name=?2 AND epoch<=?3",
		&st, err, "ttii", t->job, p->w.metric, epoch, p->w.goal_max);
	if (q_row(c, q, &st, err) && sqlite3_column_type(q, 0) != SQLITE_NULL) {
		out->has = true;
		out->value = sqlite3_column_double(q, 0);
	}
	q_end(c, q);
	return st;
}

/* Has the job trained to its rung? The epoch of the trial is that of its last value. */
static bool at_rung(struct step *p, const struct storage_trial *t, enum wasd_status *st, struct wasd_err *err)
{
	struct conn *c = tx_conn(p->s);
	int64_t epoch = p->rungs[t->rung];
	if (strcmp(t->state, "paused") || t->epoch >= epoch || !has_reason(t, "rung"))
		return !strcmp(t->state, "paused") && t->epoch >= epoch;
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM metrics WHERE job=?1 AND epoch>=?2 LIMIT 1", st, err, "ti", t->job,
	                          epoch);
	bool found = q_row(c, q, st, err);
	q_end(c, q);
	return found;
}

/* Takes the results that are there. *any: there was one. */
static enum wasd_status take_results(struct step *p, bool *any, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	for (size_t i = 0; i < p->l.n && !st; i++) {
		struct storage_trial *t = &p->l.items[i];
		struct sweep_result v = {.known = true};
		if (t->results > t->rung || !(storage_job_terminal(t->state) || at_rung(p, t, &st, err)))
			continue;
		if (!st && t->job && in(t->state, "completed paused"))
			st = best_value(p, t, p->rungs[t->rung], &v, err);
		if (!st)
			st = q_run(tx_conn(p->s),
			           v.has ? "INSERT INTO sweep_results(sweep,trial,rung,value,at) VALUES(?1,?2,?3,?5,?4)" :
			                   "INSERT INTO sweep_results(sweep,trial,rung,at) VALUES(?1,?2,?3,?4)",
			           err, v.has ? "tiiid" : "tiii", p->w.id, t->number, t->rung, wasd_now_ms(), v.value);
		if (!st)
			st = put_event(p, t, "result", t->rung, v.has ? cJSON_CreateNumber(v.value) : cJSON_CreateNull(), err);
		*any = true;
	}
	return st;
}

/* ---- decisions ---- */

static enum wasd_status promote(struct step *p, const struct storage_trial *t, size_t rung, struct wasd_err *err)
{
	enum wasd_status st = q_run(tx_conn(p->s), "UPDATE sweep_trials SET rung=?3 WHERE sweep=?1 AND number=?2", err,
	                            "tii", p->w.id, t->number, (int64_t)rung);
	if (!st)
		st = q_run(tx_conn(p->s), "UPDATE jobs SET until=?2 WHERE id=?1", err, "tz", t->job,
		           rung + 1 < p->n_rungs ? p->rungs[rung] : 0);
	return st ? st : put_event(p, t, "promoted", (int64_t)rung, cJSON_CreateNull(), err);
}

static enum wasd_status prune(struct step *p, const struct storage_trial *t, struct wasd_err *err)
{
	char text[100];
	sqlite3_snprintf(sizeof text, text, "not among the best 1/%lld after %lld epochs", (long long)p->w.divisor,
	                 (long long)p->rungs[t->rung]);
	enum wasd_status st =
		job_move(p->s, t->job,
	             &(struct storage_move){.to = "completed", .from = "paused", .reason = "pruned", .message = text}, err);
	return st ? st : put_event(p, t, "pruned", t->rung, cJSON_CreateNull(), err);
}

/* Promotes and prunes. *any: something changed. */
static enum wasd_status decide(struct step *p, bool *any, struct wasd_err *err)
{
	size_t n = p->l.n;
	struct sweep_rules rules = {n, p->n_rungs, p->w.divisor, p->w.goal_max};
	struct sweep_result *results = wasd_calloc(n * p->n_rungs, sizeof *results);
	struct sweep_verdict *verdicts = wasd_calloc(n, sizeof *verdicts);
	enum wasd_status st = results && verdicts ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for a sweep");
	for (size_t i = 0; i < p->l.n_results && !st; i++) {
		const struct storage_result *r = &p->l.results[i];
		results[(size_t)(r->trial - 1) * p->n_rungs + (size_t)r->rung] = (struct sweep_result){true, r->has_value,
		                                                                                       r->value};
	}
	if (!st)
		st = sweep_decide(&rules, results, verdicts, err);
	for (size_t i = 0; i < n && !st; i++) {
		const struct storage_trial *t = &p->l.items[i];
		bool up = (int64_t)verdicts[i].rung > t->rung, out = verdicts[i].pruned && !strcmp(t->state, "paused");
		if (up)
			st = promote(p, t, verdicts[i].rung, err);
		else if (out)
			st = prune(p, t, err);
		*any |= up || out;
	}
	wasd_free(verdicts);
	wasd_free(results);
	return st;
}

/* A promoted trial whose training has ended has its next result at once. */
static enum wasd_status settle(struct step *p, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	for (bool any = true; any && !st;) {
		any = false;
		st = take_results(p, &any, err);
		if (!st && any)
			st = read_trials(p, err);
		if (!st)
			st = decide(p, &any, err);
		if (!st && any)
			st = read_trials(p, err);
	}
	return st;
}

/* ---- chains ---- */

/* A trial that ends without a job. */
static enum wasd_status end_trial(struct step *p, const struct storage_trial *t, const char *state, const char *reason,
                                  const char *message, struct wasd_err *err)
{
	return q_run(
		tx_conn(p->s),
		"UPDATE sweep_trials SET state=?3, reason=?4, message=?5, spec=NULL WHERE sweep=?1 AND number=?2 AND job IS NULL",
		err, "tittt", p->w.id, t->number, state, reason, message);
}

static bool unknown(const struct storage_trial *t)
{
	return !t->job && !strcmp(t->state, "waiting") && !strcmp(t->point, "null");
}

/* A training process says what it found: only the members that core/train/adjust.c writes are taken. */
static bool next_ok(const cJSON *next)
{
	const cJSON *spec = wasd_json_get(next, "spec"), *adjust = wasd_json_get(spec, "adjust");
	return cJSON_IsObject(wasd_json_get(next, "values")) && cJSON_IsObject(wasd_json_get(spec, "model")) &&
	       (cJSON_IsObject(adjust) || cJSON_IsNull(adjust));
}

/* What a trial found for the one after it, as next_ok wants it; NULL: nothing. The caller deletes it. */
static cJSON *found_next(struct step *p, const struct storage_trial *t, enum wasd_status *st, struct wasd_err *err)
{
	struct conn *c = tx_conn(p->s);
	cJSON *next = NULL;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT CASE WHEN json_valid(info) THEN json_extract(info,'$.adjusted.next') END FROM checkpoints WHERE job=?1 ORDER BY epoch DESC, step DESC, id DESC LIMIT 1",
		st, err, "t", t->job);
	if (q_row(c, q, st, err) && q_text(q, 0))
		next = cJSON_Parse(q_text(q, 0));
	q_end(c, q);
	if (next_ok(next))
		return next;
	cJSON_Delete(next);
	return NULL;
}

static char *spec_of_trial(struct step *p, const struct storage_trial *t, enum wasd_status *st, struct wasd_err *err)
{
	struct conn *c = tx_conn(p->s);
	char *spec = NULL;
	sqlite3_stmt *q = q_begin(c, "SELECT spec FROM sweep_trials WHERE sweep=?1 AND number=?2", st, err, "ti", p->w.id,
	                          t->number);
	if (q_row(c, q, st, err) && q_text(q, 0))
		spec = wasd_strdup(q_text(q, 0));
	q_end(c, q);
	if (!*st && !spec)
		*st = wasd_fail(err, WASD_ENOMEM, "no memory for a trial");
	return spec;
}

/* The spec with the model and the member "adjust" of `change`; without "adjust" if that is null there. NULL: no memory.
 */
static char *changed_spec(const char *text, const cJSON *change)
{
	static const char *const members[] = {"model", "adjust"};
	cJSON *spec = cJSON_Parse(text);
	bool ok = spec != NULL;
	for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
		const cJSON *one = wasd_json_get(change, members[i]);
		cJSON_DeleteItemFromObjectCaseSensitive(spec, members[i]);
		ok = ok && (cJSON_IsNull(one) || cJSON_AddItemToObject(spec, members[i], cJSON_Duplicate(one, true)));
	}
	char *out = ok ? wasd_json_print(spec) : NULL;
	cJSON_Delete(spec);
	return out;
}

static enum wasd_status continue_with(struct step *p, const struct storage_trial *t, const cJSON *next,
                                      struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char *before = spec_of_trial(p, t, &st, err), *point = wasd_json_print(wasd_json_get(next, "values")),
		 *spec = before ? changed_spec(before, wasd_json_get(next, "spec")) : NULL;
	if (!st && !(point && spec))
		st = wasd_fail(err, WASD_ENOMEM, "no memory for a trial");
	if (!st)
		st = q_run(tx_conn(p->s), "UPDATE sweep_trials SET point=?3, spec=?4 WHERE sweep=?1 AND number=?2", err, "titt",
		           p->w.id, t->number, point, spec);
	wasd_free(before);
	wasd_free(point);
	wasd_free(spec);
	return st;
}

/* Makes known what the first trial of a chain found that has ended with others behind it; one without a result ends the
 * one behind it. *any: there was one. */
static enum wasd_status link_chain(struct step *p, bool *any, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	size_t i = 1;
	while (i < p->l.n && !(unknown(&p->l.items[i]) && storage_job_terminal(p->l.items[i - 1].state)))
		i++;
	*any = i < p->l.n;
	if (!*any)
		return WASD_OK;
	const struct storage_trial *before = &p->l.items[i - 1], *t = &p->l.items[i];
	cJSON *next = before->job && !strcmp(before->state, "completed") ? found_next(p, before, &st, err) : NULL;
	if (!st)
		st = next ? continue_with(p, t, next, err) :
		            end_trial(p, t, "failed", "bad_data", "the trial before it found nothing", err);
	cJSON_Delete(next);
	return st ? st : read_trials(p, err);
}

/* ---- running ---- */

struct start_args {
	struct step *p;
	const struct storage_trial *t;
	const char *spec;
};

static enum wasd_status start_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct start_args *a = ctx;
	const char *after[WASD_AFTER_MAX];
	char digest[WASD_SHA256_HEX];
	struct storage_job job = {0};
	cJSON *spec = cJSON_Parse(a->spec);
	char *labels = spec ? wasd_json_print(wasd_json_get(spec, "labels")) : NULL;
	if (!labels) {
		cJSON_Delete(spec);
		return wasd_fail(err, WASD_ENOMEM, "no memory for a trial");
	}
	struct storage_job_in in = storage_job_in_of(spec, after);
	wasd_sha256_of(a->spec, strlen(a->spec), digest);
	in.spec = a->spec;
	in.labels = labels;
	in.spec_digest = digest;
	in.created_by = a->p->w.created_by;
	in.sweep = a->p->w.id;
	in.trial = a->t->number;
	in.until = a->p->n_rungs > 1 ? a->p->rungs[0] : 0;
	struct storage_queue queue = {0}; /* it may have been deleted while the trial waited */
	enum wasd_status st = storage_queue_get(s, in.queue, &queue, err);
	storage_queue_done(&queue);
	if (!st)
		st = job_create(s, &in, &job, err);
	if (!st)
		st = q_run(tx_conn(s), "UPDATE sweep_trials SET job=?3, spec=NULL WHERE sweep=?1 AND number=?2", err, "tit",
		           a->p->w.id, a->t->number, job.id);
	struct storage_trial made = {.number = a->t->number, .job = job.id};
	if (!st)
		st = put_event(a->p, &made, "started", 0, cJSON_CreateNull(), err);
	storage_job_done(&job);
	wasd_free(labels);
	cJSON_Delete(spec);
	return st;
}

/* Makes the trial's job. What the job would meet again and again ends the trial; a full disk is waited for. */
static enum wasd_status start(struct step *p, const struct storage_trial *t, struct wasd_err *err)
{
	struct wasd_err why = {0};
	enum wasd_status st = WASD_OK;
	char *spec = spec_of_trial(p, t, &st, err);
	struct start_args a = {p, t, spec};
	if (!st)
		st = tx_try(p->s, start_tx, &a, &why);
	wasd_free(spec);
	if (why.status == WASD_EFULL)
		p->no_room = true;
	if (!why.status || why.status == WASD_EFULL)
		return st == why.status ? WASD_OK : st;
	if (why.status == WASD_ENOTFOUND || why.status == WASD_EINVAL)
		return end_trial(p, t, "failed", "bad_data", why.msg, err);
	return wasd_fail(err, why.status, "%s", why.msg);
}

/* Puts a held or paused job back into the queue. */
static enum wasd_status release(struct step *p, const struct storage_trial *t, const char *reason, struct wasd_err *err)
{
	enum wasd_status st = job_move(p->s, t->job, &(struct storage_move){.to = "queued", .reason = reason}, err);
	return st ? st : job_hold_for_others(p->s, t->job, err);
}

/* Of the promoted trials that wait, the one of the highest rung, and of those the first; else the first that has no
 * job.
 */
static const struct storage_trial *next_trial(const struct step *p, bool *taken)
{
	size_t found = p->l.n;
	for (size_t i = 0; i < p->l.n; i++) {
		const struct storage_trial *t = &p->l.items[i];
		bool waits = !taken[i] && !unknown(t) && (!strcmp(t->state, "waiting") || (parked(t) && t->results <= t->rung));
		if (waits && (found == p->l.n || t->rung > p->l.items[found].rung))
			found = i;
	}
	if (found == p->l.n)
		return NULL;
	taken[found] = true;
	return &p->l.items[found];
}

/* Does the trial take one of the places of search.concurrency? Not while someone holds it back. */
static bool occupies(const struct storage_trial *t)
{
	return in(t->state, "queued starting running pausing preempting cancelling retry_wait") ||
	       (!strcmp(t->state, "held") && !has_reason(t, "user"));
}

static enum wasd_status go_on(struct step *p, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	const struct storage_trial *t;
	int64_t active = 0;
	for (size_t i = 0; i < p->l.n && !st; i++) {
		t = &p->l.items[i];
		bool stopped = in(t->state, "held paused") && has_reason(t, "sweep") && !parked(t);
		active += stopped || occupies(t);
		if (stopped)
			st = release(p, t, "resumed", err);
		if (stopped && !st)
			st = put_event(p, t, "resumed", t->rung, cJSON_CreateNull(), err);
	}
	bool *taken = st ? NULL : wasd_calloc(p->l.n, sizeof *taken);
	if (!st && !taken)
		st = wasd_fail(err, WASD_ENOMEM, "no memory for a sweep");
	while (!st && !p->no_room && active < p->w.concurrency && (t = next_trial(p, taken))) {
		st = t->job ? release(p, t, "promoted", err) : start(p, t, err);
		active++;
	}
	wasd_free(taken);
	return st;
}

/* ---- stopping ---- */

static enum wasd_status order(struct step *p, const struct storage_trial *t, bool cancel, struct wasd_err *err)
{
	struct storage_sweep_order *o = array_push((void **)&p->orders->items, &p->orders->n, sizeof *o);
	if (!o)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a sweep");
	sqlite3_snprintf(sizeof o->job, o->job, "%s", t->job);
	o->cancel = cancel;
	return WASD_OK;
}

/* Also what would go on by itself, once there is room or the jobs that it waits for have ended. */
static enum wasd_status pause_trial(struct step *p, const struct storage_trial *t, struct wasd_err *err)
{
	static const struct storage_move hold = {.to = "held", .reason = "sweep", .message = "its sweep is paused"},
									 stay = {.to = "paused", .reason = "sweep", .message = "its sweep is paused"};
	bool room = has_reason(t, STORAGE_DISK_LOW) || has_reason(t, STORAGE_QUOTA_FULL);
	if (in(t->state, "queued retry_wait") || (!strcmp(t->state, "held") && has_reason(t, "dependency")))
		return job_move(p->s, t->job, &hold, err);
	if (!strcmp(t->state, "paused") && room)
		return job_move(p->s, t->job, &stay, err);
	return in(t->state, "starting running preempting") || (!strcmp(t->state, "pausing") && room) ?
	           order(p, t, false, err) :
	           WASD_OK;
}

static enum wasd_status cancel_trial(struct step *p, const struct storage_trial *t, struct wasd_err *err)
{
	static const struct storage_move cancelled = {.to = "cancelled",
	                                              .reason = "sweep",
	                                              .message = "its sweep was cancelled"};
	if (!strcmp(t->state, "waiting"))
		return end_trial(p, t, "cancelled", "sweep", cancelled.message, err);
	if (in(t->state, "queued held paused retry_wait"))
		return job_move(p->s, t->job, &cancelled, err);
	return in(t->state, "starting running pausing preempting") ? order(p, t, true, err) : WASD_OK;
}

static enum wasd_status stop(struct step *p, struct wasd_err *err)
{
	bool cancel = !strcmp(p->w.state, "cancelling");
	enum wasd_status st = WASD_OK;
	for (size_t i = 0; i < p->l.n && !st; i++)
		st = cancel ? cancel_trial(p, &p->l.items[i], err) : pause_trial(p, &p->l.items[i], err);
	return st;
}

/* ---- the end ---- */

static enum wasd_status finish(struct step *p, struct wasd_err *err)
{
	bool any = false, cancelled = !strcmp(p->w.state, "cancelling");
	char text[120];
	for (size_t i = 0; i < p->l.n_results; i++)
		any |= p->l.results[i].has_value != 0;
	enum wasd_status st = q_run(tx_conn(p->s), "UPDATE jobs SET until=NULL WHERE sweep=?1 AND until IS NOT NULL", err,
	                            "t", p->w.id);
	sqlite3_snprintf(sizeof text, text, "no trial has a value of %s", p->w.metric);
	if (st)
		return st;
	return cancelled ? sweep_move(p->s, &p->w, "cancelled", "user", NULL, err) :
	       any       ? sweep_move(p->s, &p->w, "completed", "done", NULL, err) :
	                   sweep_move(p->s, &p->w, "failed", "no_result", text, err);
}

/* What the trials' states make of the sweep's: its end, or a pause that is reached. */
static enum wasd_status close_step(struct step *p, struct wasd_err *err)
{
	bool ended = true, idle = true;
	for (size_t i = 0; i < p->l.n; i++) {
		const char *state = p->l.items[i].state;
		ended &= storage_job_terminal(state);
		idle &= !in(state, "queued starting running pausing preempting cancelling retry_wait");
	}
	if (ended)
		return finish(p, err);
	return idle && !strcmp(p->w.state, "pausing") ? sweep_move(p->s, &p->w, "paused", "user", NULL, err) : WASD_OK;
}

/* A trial that has ended keeps its end when its job is deleted. */
static enum wasd_status keep_ends(struct step *p, struct wasd_err *err)
{
	return q_run(
		tx_conn(p->s),
		"UPDATE sweep_trials SET state=j.state, reason=j.reason, message=j.message FROM jobs j"
		" WHERE sweep_trials.sweep=?1 AND j.id=sweep_trials.job AND j.finished_at IS NOT NULL AND sweep_trials.state IS NOT j.state",
		err, "t", p->w.id);
}

static enum wasd_status step(struct step *p, struct wasd_err *err)
{
	enum wasd_status st = read_rungs(p, err);
	if (!st)
		st = read_trials(p, err);
	if (!st)
		st = settle(p, err);
	for (bool any = true; any && !st;)
		st = link_chain(p, &any, err);
	if (!st)
		st = strcmp(p->w.state, "running") ? stop(p, err) : go_on(p, err);
	if (!st)
		st = keep_ends(p, err);
	if (!st)
		st = read_trials(p, err);
	if (!st) /* the pruning above may have ended the last ones; results of trials without a job are still due */
		st = settle(p, err);
	return st ? st : close_step(p, err);
}

/* ---- all sweeps ---- */

struct step_args {
	char id[40];
	struct storage_sweep_orders *orders;
	bool no_room;
};

static enum wasd_status step_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct step_args *a = ctx;
	struct step p = {.s = s, .orders = a->orders};
	enum wasd_status st = sweep_row(tx_conn(s), a->id, &p.w, err);
	if (!st)
		st = step(&p, err);
	a->no_room = p.no_room;
	storage_trial_list_done(&p.l);
	storage_sweep_done(&p.w);
	wasd_free(p.rungs);
	return st;
}

/* The next sweep after *id that has something to do; *id "" at the end. Inside a transaction, which sees what the ones
 * queued before it have written. */
static enum wasd_status next_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct step_args *a = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q =
		q_begin(c,
	            "SELECT id FROM sweeps WHERE state IN ('running','pausing','cancelling') AND id>?1 ORDER BY id LIMIT 1",
	            &st, err, "t", a->id);
	bool found = q_row(c, q, &st, err);
	sqlite3_snprintf(sizeof a->id, a->id, "%s", found ? q_text(q, 0) : "");
	q_end(c, q);
	return st;
}

enum wasd_status storage_sweeps_step(struct storage *s, struct storage_sweep_orders *orders, struct wasd_err *err)
{
	struct step_args a = {.orders = orders};
	enum wasd_status failed = WASD_OK; /* of one sweep, which must not stop the others */
	bool room = atomic_load(&s->sweeps_no_room) && storage_space(s, 0, NULL) == WASD_OK;
	if (!atomic_exchange(&s->sweeps_due, false) && !room)
		return WASD_OK;
	enum wasd_status st = write_op(s, next_tx, &a, err);
	bool again = false, no_room = false;
	while (!st && a.id[0]) {
		size_t n = orders->n;
		enum wasd_status one = write_op(s, step_tx, &a, err);
		if (one)
			orders->n = n; /* its step was rolled back */
		again |= one != WASD_OK;
		no_room |= a.no_room;
		failed = one ? one : failed;
		st = write_op(s, next_tx, &a, err);
	}
	atomic_store(&s->sweeps_no_room, no_room);
	if (again || st)
		atomic_store(&s->sweeps_due, true);
	return st ? st : failed;
}
