/* checkpoints.c - the manifest rows of checkpoints: which exist, which is best, which may be deleted. payload.c
 * stores their bytes.
 *
 * Invariant: a row here that is not marked corrupt has a complete, durable payload in ckpt.db. Rows are inserted
 * after the bytes and removed before them; after a crash in between, the next start collects the remains. */
#include "internal.h"
#include "ckpt_rows.h"
#include <assert.h>
#include <math.h>
#include <string.h>

/* clang-format off */
#define CKPT_COLS(T, I, D, X) \
	T(X, id) T(X, job) I(X, attempt) I(X, epoch) I(X, step) T(X, metrics) T(X, info) D(X, score) I(X, has_score) \
	I(X, bytes) T(X, sha256) T(X, reason) I(X, pinned) I(X, corrupt) I(X, created_at)
/* clang-format on */
ROW_TYPE(ckpt_type, storage_ckpt, CKPT_COLS);

void storage_ckpt_done(struct storage_ckpt *k)
{
	row_done(&ckpt_type, k);
}

void storage_ckpt_list_done(struct storage_ckpt_list *l)
{
	rows_done(&ckpt_type, l->items, l->n);
	*l = (struct storage_ckpt_list){0};
}

/* ---- reading ---- */

enum wasd_status storage_ckpt_get(struct storage *s, const char *id, struct storage_ckpt *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(CKPT_COLS, "checkpoints WHERE id=?1"), &st, err, "t", id);
	st = row_one(c, q, st, &ckpt_type, out, "checkpoint", id, err);
	read_end(s, c);
	return st;
}

static enum wasd_status list(struct conn *c, const char *job, struct storage_ckpt_list *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c,
	                          SELECT(CKPT_COLS, "checkpoints WHERE job IS ?1 ORDER BY epoch DESC, step DESC, id DESC"),
	                          &st, err, "t", job);
	return row_all(c, q, st, &ckpt_type, (void **)&out->items, &out->n, err);
}

enum wasd_status storage_ckpt_list(struct storage *s, const char *job, struct storage_ckpt_list *out,
                                   struct wasd_err *err)
{
	struct storage_ckpt_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = list(c, job, &l, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status ckpt_newest(struct conn *c, const char *job, char **id, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char *found = NULL;
	sqlite3_stmt *q = q_begin(
		c, "SELECT id FROM checkpoints WHERE job=?1 AND NOT corrupt ORDER BY epoch DESC, step DESC, id DESC LIMIT 1",
		&st, err, "t", job);
	if (q_row(c, q, &st, err) && !(found = wasd_strdup(q_text(q, 0))))
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	q_end(c, q);
	if (!st)
		*id = found;
	return st;
}

struct policy {
	int64_t best, latest;
	bool max, ended;
};

static enum wasd_status job_policy(struct conn *c, const char *job, struct policy *p, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT keep_best,keep_latest,keep_max,state FROM jobs WHERE id=?1", &st, err, "t",
	                          job);
	if (q_row(c, q, &st, err))
		*p = (struct policy){sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), sqlite3_column_int(q, 2) != 0,
		                     storage_job_terminal(q_text(q, 3))};
	else if (!st)
		st = wasd_fail(err, WASD_ENOTFOUND, "no job %s", job);
	q_end(c, q);
	return st;
}

/* Index of the best checkpoint in a list ordered newest first, among those not marked corrupt or in skip; -1 when
 * none has a score. Ties: the earlier. */
static int best_of(const struct storage_ckpt_list *l, bool max, const bool *skip)
{
	int best = -1;
	for (size_t i = 0; i < l->n; i++) {
		const struct storage_ckpt *k = &l->items[i];
		if (k->corrupt || !k->has_score || (skip && skip[i]))
			continue;
		if (best < 0 || (max ? k->score >= l->items[best].score : k->score <= l->items[best].score))
			best = (int)i;
	}
	return best;
}

enum wasd_status storage_ckpt_pick(struct storage *s, const char *job, const char *which, struct storage_ckpt *out,
                                   struct wasd_err *err)
{
	bool best = !strcmp(which, "best");
	if (!best && strcmp(which, "latest"))
		return wasd_fail(err, WASD_EINVAL, "checkpoint %s is neither the best nor the latest", which);
	struct storage_ckpt_list l = {0};
	struct policy p;
	struct conn *c = read_begin(s);
	enum wasd_status st = job_policy(c, job, &p, err);
	if (!st)
		st = list(c, job, &l, err);
	read_end(s, c);
	if (st)
		return st;
	int at = best ? best_of(&l, p.max, NULL) : -1;
	for (size_t i = 0; i < l.n && at < 0; i++)
		if (!l.items[i].corrupt)
			at = (int)i;
	if (at < 0) {
		st = wasd_fail(err, WASD_ENOTFOUND, "job %s has no checkpoint", job);
	} else {
		*out = l.items[at];
		l.items[at] = (struct storage_ckpt){0};
	}
	storage_ckpt_list_done(&l);
	return st;
}

/* ---- users of a checkpoint ---- */

/* A deployment can go back to the checkpoint that it served before. That keeps it from retention, not from deletion. */
static enum wasd_status to_go_back(struct conn *c, const char *ckpt, bool *is, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM deployments WHERE previous=?1 LIMIT 1", &st, err, "t", ckpt);
	*is = q_row(c, q, &st, err);
	q_end(c, q);
	return st;
}

enum wasd_status ckpt_user(struct conn *c, const char *ckpt, char **deployment, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char *name = NULL;
	sqlite3_stmt *q = q_begin(c, "SELECT name FROM deployments WHERE checkpoint=?1 OR wanted=?1 LIMIT 1", &st, err, "t",
	                          ckpt);
	if (q_row(c, q, &st, err) && !(name = wasd_strdup(q_text(q, 0))))
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	q_end(c, q);
	if (!st)
		*deployment = name;
	return st;
}

/* Finds an unfinished job that starts from the checkpoint. */
static enum wasd_status starter(struct conn *c, const char *ckpt, char job[40], struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	job[0] = 0;
	sqlite3_stmt *q = q_begin(
		c, "SELECT id FROM jobs WHERE init_checkpoint=?1 AND state NOT IN ('completed','failed','cancelled') LIMIT 1",
		&st, err, "t", ckpt);
	if (q_row(c, q, &st, err))
		sqlite3_snprintf(40, job, "%s", q_text(q, 0));
	q_end(c, q);
	return st;
}

static enum wasd_status remove_row(struct storage *s, const char *id, struct wasd_err *err)
{
	enum wasd_status st = q_run(tx_conn(s), "DELETE FROM checkpoints WHERE id=?1", err, "t", id);
	return st ? st : tx_drop_payload(s, id, err);
}

/* A checkpoint with a profile is kept: the search cost more than the bytes do. */
static enum wasd_status has_profile(struct conn *c, const char *ckpt, bool *has, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM modes WHERE checkpoint=?1 AND state<>'failed' LIMIT 1", &st, err, "t",
	                          ckpt);
	*has = q_row(c, q, &st, err);
	q_end(c, q);
	return st;
}

void storage_hold(struct storage *s, const struct storage_holder *h)
{
	pthread_mutex_lock(&s->holders_lock);
	int i = 0;
	while (i < STORAGE_HOLDERS && s->holders[i].ctx)
		i++;
	assert(i < STORAGE_HOLDERS);
	s->holders[i] = *h;
	pthread_mutex_unlock(&s->holders_lock);
}

void storage_unhold(struct storage *s, const void *ctx)
{
	pthread_mutex_lock(&s->holders_lock);
	for (int i = 0; i < STORAGE_HOLDERS; i++)
		if (s->holders[i].ctx == ctx)
			s->holders[i] = (struct storage_holder){0};
	pthread_mutex_unlock(&s->holders_lock);
}

bool dataset_needed(struct storage *s, const char *name, int64_t version, char by[64])
{
	bool needed = false;
	pthread_mutex_lock(&s->holders_lock);
	for (int i = 0; i < STORAGE_HOLDERS && !needed; i++) {
		const struct storage_holder *h = &s->holders[i];
		needed = h->dataset && h->dataset(h->ctx, name, version, by);
	}
	pthread_mutex_unlock(&s->holders_lock);
	return needed;
}

bool ckpt_needed(struct storage *s, const char *ckpt, char by[64])
{
	bool needed = false;
	pthread_mutex_lock(&s->holders_lock);
	for (int i = 0; i < STORAGE_HOLDERS && !needed; i++) {
		const struct storage_holder *h = &s->holders[i];
		needed = h->checkpoint && h->checkpoint(h->ctx, ckpt, by);
	}
	pthread_mutex_unlock(&s->holders_lock);
	return needed;
}

/* Keeps the `latest` newest, the `best` best, pinned and referenced checkpoints (by a deployment, a model, a job a
 * merge or an archive), and those with profiles. While a job may still resume, the two newest stay, so that there is an
 * older one if the newest does not verify; a finished job keeps at least one. */
enum wasd_status ckpt_retention(struct storage *s, const char *job, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	struct storage_ckpt_list l = {0};
	struct policy p;
	enum wasd_status st = job_policy(c, job, &p, err);
	if (!st)
		st = list(c, job, &l, err);
	if (st || l.n < 2)
		goto out;
	bool *keep = wasd_calloc(l.n, sizeof *keep);
	if (!keep) {
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
		goto out;
	}
	int64_t latest = p.ended ? p.latest : p.latest < 2 ? 2 : p.latest;
	if (latest < 1 && p.best < 1)
		latest = 1;
	for (size_t i = 0; i < l.n && latest > 0; i++)
		if (!l.items[i].corrupt)
			keep[i] = true, latest--;
	bool *taken = wasd_calloc(l.n, sizeof *taken);
	if (!taken)
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	for (int64_t k = 0; k < p.best && taken; k++) {
		int i = best_of(&l, p.max, taken);
		if (i < 0)
			break;
		keep[i] = taken[i] = true;
	}
	wasd_free(taken);
	for (size_t i = 0; i < l.n && !st; i++) {
		const struct storage_ckpt *k = &l.items[i];
		char *user = NULL, other[40], version[100], by[64];
		bool searched, back;
		if (keep[i] || k->pinned || ckpt_needed(s, k->id, by))
			continue;
		if ((st = has_profile(c, k->id, &searched, err)) || (st = to_go_back(c, k->id, &back, err)) ||
		    (st = ckpt_version(c, k->id, version, err)) || (st = starter(c, k->id, other, err)) ||
		    (st = ckpt_user(c, k->id, &user, err)))
			break;
		if (!user && !other[0] && !version[0] && !searched && !back)
			st = remove_row(s, k->id, err);
		wasd_free(user);
	}
	wasd_free(keep);
out:
	storage_ckpt_list_done(&l);
	return st;
}

/* ---- changes ---- */

struct pin_args {
	const char *id;
	bool pinned;
	const char *actor;
};

static enum wasd_status pin_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct pin_args *a = ctx;
	struct conn *c = tx_conn(s);
	char object[80];
	enum wasd_status st = q_run(c, "UPDATE checkpoints SET pinned=?2 WHERE id=?1", err, "ti", a->id,
	                            (int64_t)a->pinned);
	if (!st && !sqlite3_changes(c->db))
		st = wasd_fail(err, WASD_ENOTFOUND, "no checkpoint %s", a->id);
	sqlite3_snprintf(sizeof object, object, "checkpoint/%s", a->id);
	return st ? st :
	            audit_change(s, (struct audit_in){.actor = a->actor, .action = "checkpoint.update", .object = object},
	                         true, NULL, make_object("j", "pinned", cJSON_CreateBool(a->pinned)), err);
}

enum wasd_status storage_ckpt_pin(struct storage *s, const char *id, bool pinned, const char *actor,
                                  struct wasd_err *err)
{
	struct pin_args a = {id, pinned, actor};
	return write_op(s, pin_tx, &a, err);
}

static enum wasd_status put_event(struct storage *s, const struct storage_ckpt *k, struct wasd_err *err)
{
	if (!k->job)
		return WASD_OK; /* nobody follows an import */
	return event_put(s, "jobs", "job.checkpoint", k->job,
	                 make_object("ssiiissj", "id", k->job, "checkpoint", k->id, "epoch", k->epoch, "step", k->step,
	                             "bytes", k->bytes, "sha256", k->sha256, "reason", k->reason, "corrupt",
	                             cJSON_CreateBool(k->corrupt != 0)),
	                 err);
}

static enum wasd_status corrupt_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const char *id = ctx;
	struct conn *c = tx_conn(s);
	struct storage_ckpt k = {0};
	enum wasd_status st = q_run(c, "UPDATE checkpoints SET corrupt=1 WHERE id=?1 AND NOT corrupt", err, "t", id);
	if (st || !sqlite3_changes(c->db) || (st = storage_ckpt_get(s, id, &k, err)))
		return st;
	st = put_event(s, &k, err);
	storage_ckpt_done(&k);
	return st;
}

enum wasd_status ckpt_mark_corrupt(struct storage *s, const char *id, struct wasd_err *err)
{
	return write_op(s, corrupt_tx, (void *)(uintptr_t)id, err);
}

struct delete_args {
	const char *id, *actor;
};

static enum wasd_status refuse_needed(struct storage *s, const struct storage_ckpt *k, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	struct policy p;
	char *user = NULL, *newest = NULL, other[40], version[100], by[64];
	enum wasd_status st;
	if (ckpt_needed(s, k->id, by))
		return wasd_fail_at(err, WASD_ESTATE, by, "checkpoint %s: %s needs it", k->id, by);
	if (k->pinned)
		return wasd_fail_at(err, WASD_ESTATE, "pinned", "checkpoint %s is pinned", k->id);
	if ((st = ckpt_user(c, k->id, &user, err)))
		return st;
	if (user)
		st = wasd_fail_at(err, WASD_ESTATE, user, "checkpoint %s is referenced by deployment %s", k->id, user);
	wasd_free(user);
	if (st || (st = starter(c, k->id, other, err)))
		return st;
	if (other[0])
		return wasd_fail_at(err, WASD_ESTATE, other, "checkpoint %s: job %s starts from it", k->id, other);
	if ((st = ckpt_version(c, k->id, version, err)))
		return st;
	if (version[0])
		return wasd_fail_at(err, WASD_ESTATE, version, "checkpoint %s is model %s", k->id, version);
	if (!k->job || (st = job_policy(c, k->job, &p, err)) || p.ended || (st = ckpt_newest(c, k->job, &newest, err)))
		return st;
	if (newest && !strcmp(newest, k->id))
		st = wasd_fail_at(err, WASD_ESTATE, k->job, "checkpoint %s: job %s resumes from it", k->id, k->job);
	wasd_free(newest);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct storage_ckpt k = {0};
	char object[80];
	enum wasd_status st = storage_ckpt_get(s, a->id, &k, err);
	if (st)
		return st;
	st = refuse_needed(s, &k, err);
	if (!st)
		st = remove_row(s, a->id, err);
	sqlite3_snprintf(sizeof object, object, "checkpoint/%s", a->id);
	if (!st)
		st = audit_put(s, &(struct audit_in){.actor = a->actor, .action = "checkpoint.delete", .object = object}, NULL,
		               err);
	storage_ckpt_done(&k);
	return st ? st : jobs_settle(s, err);
}

enum wasd_status storage_ckpt_delete(struct storage *s, const char *id, const char *actor, struct wasd_err *err)
{
	struct delete_args a = {id, actor};
	return delete_op(s, delete_tx, &a, err);
}

/* ---- the manifest row, after the bytes ---- */

enum wasd_status ckpt_find_same(struct storage *s, const struct storage_ckpt_in *in, char id[32], struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	id[0] = 0;
	sqlite3_stmt *q =
		q_begin(c, "SELECT id FROM checkpoints WHERE job IS ?1 AND epoch=?2 AND step=?3 AND sha256=?4 AND NOT corrupt",
	            &st, err, "tiit", in->job, in->epoch, in->step, in->sha256);
	if (q_row(c, q, &st, err))
		sqlite3_snprintf(32, id, "%s", q_text(q, 0));
	q_end(c, q);
	read_end(s, c);
	return st;
}

static char *metrics_text(const struct storage_ckpt_in *in)
{
	if (in->metrics_json)
		return wasd_strdup(in->metrics_json);
	cJSON *o = metrics_object(in->metrics, in->n_metrics);
	char *text = wasd_json_print(o);
	cJSON_Delete(o);
	return text;
}

/* Of a run that will begin again: it is not the best of any. */
static bool is_rehearsal(const struct storage_ckpt_in *in)
{
	cJSON *info = in->info ? cJSON_Parse(in->info) : NULL;
	bool is = cJSON_IsTrue(wasd_json_get(info, "rehearsal"));
	cJSON_Delete(info);
	return is;
}

/* The value of the job's keep_metric at this epoch, from the metrics in the call or those stored earlier. */
static enum wasd_status find_score(struct storage *s, const struct storage_ckpt_in *in, double *score,
                                   struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	*score = NAN; /* bound as NULL */
	if (is_rehearsal(in))
		return WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT m.value FROM jobs j JOIN metrics m ON m.job=j.id AND m.name=j.keep_metric WHERE j.id=?1 AND m.epoch=?2 AND m.value IS NOT NULL",
		&st, err, "ti", in->job, in->epoch);
	if (q_row(c, q, &st, err))
		*score = sqlite3_column_double(q, 0);
	q_end(c, q);
	return st;
}

enum wasd_status ckpt_insert_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct ckpt_insert *a = ctx;
	const struct storage_ckpt_in *in = a->in;
	struct conn *c = tx_conn(s);
	double score = NAN;
	int64_t ts = ts_or_now(in->ts);
	uint64_t rows = 0;
	enum wasd_status st = quota_rows(s, &rows, err);
	if (!st && in->job)
		st = epoch_put(s, in->job, in->attempt, in->epoch, in->step, ts, in->metrics, in->n_metrics, in->progress, err);
	if (!st && in->job)
		st = find_score(s, in, &score, err);
	if (st)
		return st;
	char *metrics = metrics_text(in);
	if (!metrics)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	st = q_run(
		c,
		"INSERT INTO checkpoints(id,job,attempt,epoch,step,metrics,info,score,bytes,sha256,reason,created_at) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
		err, "ttiiittditti", a->id, in->job, in->attempt, in->epoch, in->step, metrics, in->info, score,
		(int64_t)in->bytes, in->sha256, in->reason ? in->reason : "epoch", ts);
	wasd_free(metrics);
	if (st || !in->job)
		return st ? st : quota_check(s, rows, err);
	st = q_run(c, "UPDATE jobs SET retries=0 WHERE id=?1", err, "t", in->job);
	struct storage_ckpt k = {.id = (char *)(uintptr_t)a->id,
	                         .job = (char *)(uintptr_t)in->job,
	                         .epoch = in->epoch,
	                         .step = in->step,
	                         .bytes = (int64_t)in->bytes,
	                         .sha256 = (char *)(uintptr_t)in->sha256,
	                         .reason = (char *)(uintptr_t)(in->reason ? in->reason : "epoch")};
	if (!st)
		st = put_event(s, &k, err);
	if (!st)
		st = ckpt_retention(s, in->job, err);
	return st ? st : quota_check(s, rows, err); /* after retention has made what room it may */
}
