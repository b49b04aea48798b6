/* jobs.c - jobs: creation with idempotency, moves, lists, deletion. The legal moves are in job_states.c. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define JOB_COLS(T, I, D, X) \
	T(X, id) T(X, name) T(X, state) T(X, reason) T(X, message) I(X, priority) T(X, queue) T(X, spec) \
	T(X, spec_digest) T(X, labels) T(X, note) T(X, dataset) I(X, dataset_version) T(X, dataset_digest) \
	T(X, created_by) T(X, progress) T(X, build) T(X, init_checkpoint) I(X, keep_best) I(X, keep_latest) \
	T(X, keep_metric) I(X, keep_max) I(X, attempt) I(X, retries) I(X, retry_at) T(X, trained) I(X, created_at) \
	I(X, started_at) I(X, finished_at) I(X, updated_at) I(X, rev) T(X, cloned_from) \
	T(X, sweep) I(X, trial) I(X, until) I(X, deadline) T(X, on_complete) I(X, max_wall_s)
/* clang-format on */
ROW_TYPE(job_type, storage_job, JOB_COLS);

void storage_job_done(struct storage_job *j)
{
	row_done(&job_type, j);
}

void storage_job_list_done(struct storage_job_list *l)
{
	rows_done(&job_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_job_list){0};
}

static enum wasd_status job_get(struct conn *c, const char *id, struct storage_job *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(JOB_COLS, "jobs WHERE id=?1"), &st, err, "t", id);
	return row_one(c, q, st, &job_type, out, "job", id, err);
}

enum wasd_status storage_job_get(struct storage *s, const char *id, struct storage_job *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = job_get(c, id, out, err);
	read_end(s, c);
	return st;
}

/* ---- moves ---- */

static enum wasd_status put_transition(struct storage *s, const char *job, const char *from, const char *to,
                                       const char *reason, const char *message, int64_t attempt, struct wasd_err *err)
{
	int64_t now = wasd_now_ms();
	enum wasd_status st =
		q_run(tx_conn(s),
	          "INSERT INTO transitions(job,\"from\",\"to\",reason,message,attempt,at) VALUES(?1,?2,?3,?4,?5,?6,?7)",
	          err, "tttttii", job, from, to, reason, message, attempt, now);
	if (st)
		return st;
	cJSON *d = make_object("sssooii", "id", job, "from", from, "to", to, "reason", reason, "message", message,
	                       "attempt", attempt, "at", now);
	return event_put(s, "jobs", from ? "job.state" : "job.created", job, d, err);
}

/* State and attempt of a job; state has room for 16 bytes. */
static enum wasd_status job_state(struct conn *c, const char *id, char state[16], int64_t *attempt,
                                  struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT state,attempt FROM jobs WHERE id=?1", &st, err, "t", id);
	if (q_row(c, q, &st, err)) {
		strncpy(state, q_text(q, 0), 15);
		state[15] = 0;
		*attempt = sqlite3_column_int64(q, 1);
	} else if (!st) {
		st = wasd_fail(err, WASD_ENOTFOUND, "no job %s", id);
	}
	q_end(c, q);
	return st;
}

enum wasd_status job_fence(struct conn *c, const char *id, int64_t attempt, struct wasd_err *err)
{
	char state[16];
	int64_t latest = 0;
	enum wasd_status st = job_state(c, id, state, &latest, err);
	if (st)
		return st;
	if (attempt != latest)
		return wasd_fail_at(err, WASD_ESTATE, state, "job %s: attempt %lld is stale, the latest is %lld", id,
		                    (long long)attempt, (long long)latest);
	if (!storage_job_active(state))
		return wasd_fail_at(err, WASD_ESTATE, state, "job %s is %s and has no worker", id, state);
	return WASD_OK;
}

static enum wasd_status audit_move(struct storage *s, const char *id, const char *from, const struct storage_move *m,
                                   struct wasd_err *err)
{
	char action[32], object[80], before[40], after[40];
	sqlite3_snprintf(sizeof action, action, "job.%s", m->action);
	sqlite3_snprintf(sizeof object, object, "job/%s", id);
	sqlite3_snprintf(sizeof before, before, "{\"state\":\"%s\"}", from);
	sqlite3_snprintf(sizeof after, after, "{\"state\":\"%s\"}", m->to);
	struct audit_in a =
		{.actor = m->actor, .action = action, .object = object, .before = before, .after = after, .reason = m->message};
	return audit_put(s, &a, NULL, err);
}

enum wasd_status job_move(struct storage *s, const char *id, const struct storage_move *m, struct wasd_err *err)
{
	char from[16], sweep[40];
	int64_t attempt = 0, now = wasd_now_ms();
	enum wasd_status st = job_state(tx_conn(s), id, from, &attempt, err);
	if (st)
		return st;
	if (m->attempt && m->attempt != attempt)
		return wasd_fail_at(err, WASD_ESTATE, from, "job %s: attempt %lld is stale, the latest is %lld", id,
		                    (long long)m->attempt, (long long)attempt);
	if (m->from && strcmp(m->from, from))
		return wasd_fail_at(err, WASD_ESTATE, from, "job %s is %s, not %s", id, from, m->from);
	if (!storage_job_move_ok(from, m->to))
		return wasd_fail_at(err, WASD_ESTATE, from, "job %s cannot go from %s to %s", id, from, m->to);

	const bool ends = storage_job_terminal(m->to), again = storage_job_terminal(from),
			   starts = !strcmp(m->to, "running");
	st = q_run(
		tx_conn(s),
		"UPDATE jobs SET state=?2, reason=?3, message=?4, progress=coalesce(?5,progress), retry_at=?6,"
		" started_at=CASE WHEN ?7 THEN coalesce(started_at,?10) ELSE started_at END, finished_at=CASE WHEN ?8 THEN ?10 END,"
		" trained=CASE WHEN ?2='queued' THEN NULL ELSE trained END,"
		" retries=CASE WHEN ?9 THEN 0 ELSE retries END, wall_from=CASE WHEN ?9 THEN attempt ELSE wall_from END,"
		" updated_at=?10, rev=rev+1 WHERE id=?1",
		err, "tttttziiii", id, m->to, m->reason, m->message, m->progress, m->retry_at, (int64_t)starts, (int64_t)ends,
		(int64_t)again, now);
	if (!st)
		st = put_transition(s, id, from, m->to, m->reason, m->message, attempt, err);
	if (!st && m->action)
		st = audit_move(s, id, from, m, err);
	if (!st && !strcmp(m->to, "completed"))
		st = job_on_complete(s, id, err);
	if (!st && ends)
		st = ckpt_retention(s, id, err);
	if (!st && ends)
		st = jobs_after_settle(s, err);
	if (!st && !(st = job_sweep(tx_conn(s), id, sweep, err)) && sweep[0])
		atomic_store(&s->sweeps_due, true);
	return st;
}

struct move_args {
	const char *id;
	const struct storage_move *m;
};

static enum wasd_status move_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct move_args *a = ctx;
	return job_move(s, a->id, a->m, err);
}

enum wasd_status storage_job_move(struct storage *s, const char *id, const struct storage_move *m, struct wasd_err *err)
{
	struct move_args a = {id, m};
	return urgent_op(s, move_tx, &a, err);
}

/* ---- creation ---- */

struct create_args {
	const struct storage_job_in *in;
	struct storage_job *out;
	bool existing;
};

enum wasd_status idem_find(struct storage *s, const struct idem *k, char id[40], struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	id[0] = 0;
	sqlite3_stmt *q = q_begin(c, "SELECT request_digest,response FROM idempotency WHERE owner=?1 AND key=?2||?3", &st,
	                          err, "ttt", k->owner ? k->owner : "", k->kind, k->key);
	if (q_row(c, q, &st, err)) {
		sqlite3_snprintf(40, id, "%s", q_text(q, 1));
		if (strcmp(q_text(q, 0), k->digest ? k->digest : ""))
			st = wasd_fail(err, WASD_EEXIST, "idempotency key %s was used for another request", k->key);
	}
	q_end(c, q);
	return st;
}

enum wasd_status idem_put(struct storage *s, const struct idem *k, const char *id, int64_t now, struct wasd_err *err)
{
	return q_run(tx_conn(s),
	             "INSERT INTO idempotency(owner,key,request_digest,response,created_at) VALUES(?1,?2||?3,?4,?5,?6)",
	             err, "ttttti", k->owner ? k->owner : "", k->kind, k->key, k->digest ? k->digest : "", id, now);
}

static enum wasd_status find_dataset(struct storage *s, const struct storage_job_in *in, struct storage_dataset *d,
                                     struct wasd_err *err)
{
	enum wasd_status st = storage_dataset_get(s, in->dataset, in->dataset_version, d, err);
	if (st || !strcmp(d->state, "ready") || !strcmp(d->state, "scanning"))
		return st;
	st = wasd_fail_at(err, WASD_ENOTFOUND, "/dataset", "dataset %s version %lld is %s", d->name, (long long)d->version,
	                  d->state);
	storage_dataset_done(d);
	return st;
}

/* Holds a queued job as long as one of those that it waits for has not ended. */
enum wasd_status job_hold_for_others(struct storage *s, const char *id, struct wasd_err *err)
{
	char who[40], text[80];
	enum wasd_status st = job_waits_for(s, id, who, text, err);
	if (st || !who[0])
		return st;
	return job_move(s, id,
	                &(struct storage_move){.to = "held", .from = "queued", .reason = "dependency", .message = text},
	                err);
}

int64_t storage_deadline_ms(const cJSON *deadline)
{
	int64_t ms = 0;
	if (cJSON_IsNumber(deadline))
		return wasd_now_ms() + (int64_t)(deadline->valuedouble * 1000);
	if (cJSON_IsString(deadline))
		wasd_rfc3339_parse(deadline->valuestring, &ms);
	return ms;
}

struct storage_job_in storage_job_in_of(const cJSON *spec, const char *after[WASD_AFTER_MAX])
{
	struct storage_job_in in = {.after = after};
	const cJSON *dataset = wasd_json_get(spec, "dataset"), *one,
				*keep = wasd_json_get(wasd_json_get(spec, "checkpoint"), "keep");
	const char *mode = "max";
	wasd_json_str(spec, "name", &in.name);
	wasd_json_str(spec, "queue", &in.queue);
	wasd_json_str(spec, "note", &in.note);
	wasd_json_str(spec, "init_from", &in.init_checkpoint);
	wasd_json_i64(spec, "priority", &in.priority);
	in.deadline = storage_deadline_ms(wasd_json_get(spec, "deadline"));
	wasd_json_i64(wasd_json_get(spec, "limits"), "max_wall_s", &in.max_wall_s);
	wasd_json_str(dataset, "name", &in.dataset);
	wasd_json_i64(dataset, "version", &in.dataset_version);
	cJSON_ArrayForEach(one, wasd_json_get(spec, "after"))
		if (in.n_after < WASD_AFTER_MAX)
			after[in.n_after++] = one->valuestring;
	wasd_json_i64(keep, "best", &in.keep_best);
	wasd_json_i64(keep, "latest", &in.keep_latest);
	wasd_json_str(keep, "metric", &in.keep_metric);
	wasd_json_str(keep, "mode", &mode);
	in.keep_max = !strcmp(mode, "max");
	return in;
}

/* Of a trial the audit row of its sweep tells. */
static enum wasd_status audit_created(struct storage *s, const char *id, const struct storage_job_in *in,
                                      struct wasd_err *err)
{
	char object[80];
	sqlite3_snprintf(sizeof object, object, "job/%s", id);
	return audit_change(s, (struct audit_in){.actor = in->created_by, .action = "job.create", .object = object}, true,
	                    NULL,
	                    make_object("sso", "name", in->name, "spec_digest", in->spec_digest, "cloned_from",
	                                in->cloned_from),
	                    err);
}

enum wasd_status job_create(struct storage *s, const struct storage_job_in *in, struct storage_job *out,
                            struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	struct storage_dataset d = {0};
	enum wasd_status st;
	if ((st = storage_space(s, 0, err)) || (st = find_dataset(s, in, &d, err)))
		return st;
	if (in->init_checkpoint) {
		struct storage_ckpt k;
		if ((st = storage_ckpt_get(s, in->init_checkpoint, &k, err)))
			goto out;
		storage_ckpt_done(&k);
	}
	char id[32];
	wasd_ulid("job_", id);
	const char *state = in->held ? "held" : "queued";
	int64_t now = wasd_now_ms();
	st = q_run(
		c,
		"INSERT INTO jobs(id,name,state,priority,queue,spec,spec_digest,labels,note,dataset,dataset_version,dataset_digest,created_by,init_checkpoint,"
		"keep_best,keep_latest,keep_metric,keep_max,created_at,updated_at,cloned_from,sweep,trial,until,deadline,max_wall_s) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?19,?20,?21,?22,?23,?24,?25)",
		err,
		"tttittttttittt"
		"iitiittzzzi",
		id, in->name, state, in->priority, in->queue ? in->queue : "default", in->spec, in->spec_digest,
		in->labels ? in->labels : "{}", in->note ? in->note : "", d.name, d.version, d.digest, in->created_by,
		in->init_checkpoint, in->keep_best, in->keep_latest, in->keep_metric, (int64_t)in->keep_max, now,
		in->cloned_from, in->sweep, in->trial, in->until, in->deadline, in->max_wall_s);
	if (!st)
		st = put_transition(s, id, NULL, state, NULL, NULL, 0, err);
	if (!st)
		st = job_after_put(s, id, in->after, in->n_after, err);
	if (!st && in->n_after)
		st = job_hold_for_others(s, id, err);
	if (!st && !in->sweep)
		st = audit_created(s, id, in, err);
	if (!st)
		st = job_get(c, id, out, err);
out:
	storage_dataset_done(&d);
	return st;
}

static enum wasd_status create_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct create_args *a = ctx;
	const struct storage_job_in *in = a->in;
	const struct idem key = {in->created_by, "", in->idempotency_key, in->request_digest};
	char id[40] = "";
	enum wasd_status st = key.key ? idem_find(s, &key, id, err) : WASD_OK;
	a->existing = id[0] != 0;
	if (st || a->existing)
		return st ? st : job_get(tx_conn(s), id, a->out, err);
	st = job_create(s, in, a->out, err);
	if (!st && key.key)
		st = idem_put(s, &key, a->out->id, wasd_now_ms(), err);
	return st;
}

enum wasd_status storage_job_create(struct storage *s, const struct storage_job_in *in, struct storage_job *out,
                                    bool *existing, struct wasd_err *err)
{
	struct storage_job row = {0};
	struct create_args a = {in, &row, false};
	enum wasd_status st = write_op(s, create_tx, &a, err);
	if (st) {
		storage_job_done(&row); /* filled if the COMMIT failed */
		return st;
	}
	*out = row;
	if (existing)
		*existing = a.existing;
	return WASD_OK;
}

/* ---- lists ---- */

#define JOB_FILTER \
	"(?1 IS NULL OR instr(','||?1||',',','||state||',')) AND (?2 IS NULL OR name=?2) AND (?3 IS NULL OR queue=?3)" \
	" AND (?4 IS NULL OR dataset=?4) AND (?5 IS NULL OR instr(name,?5) OR instr(note,?5)) AND (?8 IS NULL OR sweep=?8)"

enum wasd_status storage_job_list(struct storage *s, const struct storage_job_filter *f, struct storage_page page,
                                  struct storage_job_list *out, struct wasd_err *err)
{
	static const struct storage_job_filter none;
	enum wasd_status st = page_check(&page, "job_", err);
	if (st)
		return st;
	if (!f)
		f = &none;
	struct storage_job_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q =
		q_begin(c,
	            page.oldest_first ?
	                SELECT(JOB_COLS, "jobs WHERE " JOB_FILTER " AND id>coalesce(?6,'') ORDER BY id LIMIT ?7") :
	                SELECT(JOB_COLS, "jobs WHERE " JOB_FILTER " AND id<coalesce(?6,'~') ORDER BY id DESC LIMIT ?7"),
	            &st, err,
	            "ttttt"
	            "tit",
	            f->states, f->name, f->queue, f->dataset, f->contains, page.cursor, (int64_t)page.limit + 1, f->sweep);
	st = row_page(c, q, st, &job_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status storage_job_runnable(struct storage *s, int limit, struct storage_job_list *out, struct wasd_err *err)
{
	struct storage_job_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		SELECT(JOB_COLS,
	           "jobs WHERE id IN (SELECT id FROM ("
	           "SELECT j.id, row_number() OVER (PARTITION BY j.queue ORDER BY j.priority DESC, j.id) AS n FROM jobs j"
	           " JOIN datasets d ON d.name=j.dataset AND d.version=j.dataset_version JOIN queues q ON q.name=j.queue"
	           " WHERE j.state='queued' AND d.state='ready' AND NOT q.paused) WHERE n<=?1) ORDER BY priority DESC, id"),
		&st, err, "i", (int64_t)limit);
	st = row_all(c, q, st, &job_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status storage_job_counts(struct storage *s, struct storage_count out[STORAGE_JOB_STATES],
                                    struct wasd_err *err)
{
	struct storage_count n[STORAGE_JOB_STATES];
	for (int i = 0; i < STORAGE_JOB_STATES; i++)
		n[i] = (struct storage_count){storage_job_states()[i], 0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT state,count(*) FROM jobs GROUP BY state", &st, err, "");
	while (q_row(c, q, &st, err))
		for (int i = 0; i < STORAGE_JOB_STATES; i++)
			if (!strcmp(n[i].state, q_text(q, 0)))
				n[i].n = sqlite3_column_int64(q, 1);
	q_end(c, q);
	read_end(s, c);
	if (!st)
		memcpy(out, n, sizeof n);
	return st;
}

/* ---- deletion ---- */

struct delete_args {
	const char *id, *actor;
};

static enum wasd_status drop_checkpoints(struct storage *s, const char *job, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	char by[64];
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c, "SELECT d.name FROM checkpoints k JOIN deployments d ON k.id=d.checkpoint OR k.id=d.wanted WHERE k.job=?1",
		&st, err, "t", job);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, q_text(q, 0), "job %s: a checkpoint of it is referenced by deployment %s",
		                  job, q_text(q, 0));
	q_end(c, q);
	q = q_begin(c,
	            "SELECT v.model,v.version FROM model_versions v JOIN checkpoints k ON k.id=v.checkpoint WHERE k.job=?1",
	            &st, err, "t", job);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, q_text(q, 0), "job %s: a checkpoint of it is model %s version %lld", job,
		                  q_text(q, 0), (long long)sqlite3_column_int64(q, 1));
	q_end(c, q);
	q = q_begin(
		c,
		"SELECT j.id FROM jobs j JOIN checkpoints k ON k.id=j.init_checkpoint WHERE k.job=?1 AND j.state NOT IN ('completed','failed','cancelled') AND j.id<>?1",
		&st, err, "t", job);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, q_text(q, 0), "job %s: a checkpoint of it is referenced by job %s", job,
		                  q_text(q, 0));
	q_end(c, q);
	q = q_begin(c, "SELECT id FROM checkpoints WHERE job=?1", &st, err, "t", job);
	while (q_row(c, q, &st, err))
		st = ckpt_needed(s, q_text(q, 0), by) ?
		         wasd_fail_at(err, WASD_ESTATE, by, "job %s: %s needs a checkpoint of it", job, by) :
		         tx_drop_payload(s, q_text(q, 0), err);
	q_end(c, q);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct conn *c = tx_conn(s);
	char state[16], object[80], sweep[40];
	int64_t attempt = 0;
	enum wasd_status st = job_state(c, a->id, state, &attempt, err);
	if (st)
		return st;
	if (!storage_job_terminal(state))
		return wasd_fail_at(err, WASD_ESTATE, state, "job %s is %s; cancel it first", a->id, state);
	if ((st = job_sweep(c, a->id, sweep, err)))
		return st;
	if (sweep[0])
		return wasd_fail_at(err, WASD_ESTATE, sweep, "job %s is a trial of sweep %s, which has not ended", a->id,
		                    sweep);
	if ((st = drop_checkpoints(s, a->id, err)) || (st = q_run(c, "DELETE FROM jobs WHERE id=?1", err, "t", a->id)))
		return st;
	if ((st = event_put(s, "jobs", "job.deleted", a->id, make_object("s", "id", a->id), err)))
		return st;
	sqlite3_snprintf(sizeof object, object, "job/%s", a->id);
	return audit_put(s, &(struct audit_in){.actor = a->actor, .action = "job.delete", .object = object}, NULL, err);
}

enum wasd_status storage_job_delete(struct storage *s, const char *id, const char *actor, struct wasd_err *err)
{
	struct delete_args a = {id, actor};
	return delete_op(s, delete_tx, &a, err);
}
