/* queues.c - the queues that jobs wait in: how many may run, their shares, and whether they are paused. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define QUEUE_COLS(T, I, D, X) \
	T(X, name) I(X, max_running) D(X, weight) I(X, paused) I(X, running) I(X, waiting) I(X, created_at) I(X, updated_at)
/* clang-format on */
ROW_TYPE(queue_type, storage_queue, QUEUE_COLS);

#define QUEUES \
	"(SELECT q.*," \
	" (SELECT count(*) FROM jobs j WHERE j.queue=q.name AND j.state IN ('starting','running','pausing','preempting','cancelling')) AS running," \
	" (SELECT count(*) FROM jobs j WHERE j.queue=q.name AND j.state='queued') AS waiting FROM queues q)"

void storage_queue_done(struct storage_queue *q)
{
	row_done(&queue_type, q);
}

void storage_queue_list_done(struct storage_queue_list *l)
{
	rows_done(&queue_type, l->items, l->n);
	*l = (struct storage_queue_list){0};
}

static enum wasd_status queue_get(struct conn *c, const char *name, struct storage_queue *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(QUEUE_COLS, QUEUES " WHERE name=?1"), &st, err, "t", name);
	return row_one(c, q, st, &queue_type, out, "queue", name, err);
}

enum wasd_status storage_queue_get(struct storage *s, const char *name, struct storage_queue *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = queue_get(c, name, out, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_queue_list(struct storage *s, struct storage_queue_list *out, struct wasd_err *err)
{
	struct storage_queue_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(QUEUE_COLS, QUEUES " ORDER BY name"), &st, err, "");
	st = row_all(c, q, st, &queue_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

struct put_args {
	const struct storage_queue_in *in;
	struct storage_queue *out;
	bool created;
};

static cJSON *view(const struct storage_queue *q)
{
	return make_object("sidi", "name", q->name, "max_running", q->max_running, "weight", q->weight, "paused",
	                   q->paused);
}

static enum wasd_status put_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct put_args *a = ctx;
	const struct storage_queue_in *in = a->in;
	struct storage_queue before = {0};
	struct wasd_err none = {0};
	char object[100];
	enum wasd_status st = queue_get(tx_conn(s), in->name, &before, &none);
	a->created = st == WASD_ENOTFOUND;
	if (st && !a->created)
		return wasd_fail(err, st, "%s", none.msg);
	st = q_run(
		tx_conn(s),
		"INSERT INTO queues VALUES(?1, max(?2,0), CASE WHEN ?3>0 THEN ?3 ELSE 1 END, max(?4,0), ?5, ?5)"
		" ON CONFLICT(name) DO UPDATE SET max_running=CASE WHEN ?2>=0 THEN ?2 ELSE max_running END,"
		" weight=CASE WHEN ?3>0 THEN ?3 ELSE weight END, paused=CASE WHEN ?4>=0 THEN ?4 ELSE paused END, updated_at=?5",
		err, "tidii", in->name, in->max_running, in->weight, in->paused, wasd_now_ms());
	if (!st)
		st = queue_get(tx_conn(s), in->name, a->out, err);
	if (!st)
		st = event_put(s, "jobs", "queue.updated", in->name, view(a->out), err);
	sqlite3_snprintf(sizeof object, object, "queue/%s", in->name);
	if (!st)
		st = audit_change(s, (struct audit_in){.actor = in->actor, .action = "queue.update", .object = object},
		                  a->created, a->created ? NULL : view(&before), view(a->out), err);
	storage_queue_done(&before);
	return st;
}

enum wasd_status storage_queue_put(struct storage *s, const struct storage_queue_in *in, struct storage_queue *out,
                                   bool *created, struct wasd_err *err)
{
	struct storage_queue row = {0};
	struct put_args a = {in, &row, false};
	enum wasd_status st = write_op(s, put_tx, &a, err);
	if (st) {
		storage_queue_done(&row); /* filled if the COMMIT failed */
		return st;
	}
	*out = row;
	*created = a.created;
	return WASD_OK;
}

/* ---- deletion ---- */

struct delete_args {
	const char *name, *actor;
};

static enum wasd_status refuse_used(struct conn *c, const char *name, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	if (!strcmp(name, "default"))
		return wasd_fail_at(err, WASD_ESTATE, name, "queue default is always there");
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT id,state FROM jobs WHERE queue=?1 AND state NOT IN ('completed','failed','cancelled') ORDER BY id LIMIT 1",
		&st, err, "t", name);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, q_text(q, 0), "job %s, which is %s, is in queue %s", q_text(q, 0),
		                  q_text(q, 1), name);
	q_end(c, q);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_queue row = {0};
	char object[100];
	enum wasd_status st = queue_get(c, a->name, &row, err);
	if (!st)
		st = refuse_used(c, a->name, err);
	if (!st)
		st = q_run(c, "DELETE FROM queues WHERE name=?1", err, "t", a->name);
	if (!st)
		st = event_put(s, "jobs", "queue.deleted", a->name, make_object("s", "name", a->name), err);
	sqlite3_snprintf(sizeof object, object, "queue/%s", a->name);
	if (!st)
		st = audit_put(s, &(struct audit_in){.actor = a->actor, .action = "queue.delete", .object = object}, NULL, err);
	storage_queue_done(&row);
	return st;
}

enum wasd_status storage_queue_delete(struct storage *s, const char *name, const char *actor, struct wasd_err *err)
{
	struct delete_args a = {name, actor};
	return delete_op(s, delete_tx, &a, err);
}

/* ---- the jobs that wait ---- */

#define USUAL_S \
	"(SELECT avg(finished_at-started_at)/1000.0 FROM (SELECT finished_at, started_at FROM jobs WHERE state='completed' ORDER BY id DESC LIMIT 20))"
#define OPEN_QUEUE " AND b.queue NOT IN (SELECT name FROM queues WHERE paused))"

/* Ends the query, whose row is before, scanning, usual_s. False: there is no row. */
static bool take_place(struct conn *c, sqlite3_stmt *q, struct storage_place *out, enum wasd_status *st,
                       struct wasd_err *err)
{
	bool found = q_row(c, q, st, err);
	if (found) {
		out->before = sqlite3_column_int64(q, 0);
		out->scanning = sqlite3_column_int(q, 1);
		out->usual_s = sqlite3_column_double(q, 2);
	}
	q_end(c, q);
	return found;
}

enum wasd_status storage_job_place(struct storage *s, const char *id, struct storage_place *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	struct storage_place p = {0};
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT (SELECT count(*) FROM jobs b WHERE b.state='queued' AND b.id<>j.id AND (b.priority>j.priority OR (b.priority=j.priority AND b.id<j.id))" OPEN_QUEUE
		", d.state<>'ready'," USUAL_S
		" FROM jobs j JOIN datasets d ON d.name=j.dataset AND d.version=j.dataset_version WHERE j.id=?1 AND j.state='queued'",
		&st, err, "t", id);
	if (!take_place(c, q, &p, &st, err) && !st)
		st = wasd_fail(err, WASD_ENOTFOUND, "no queued job %s", id);
	read_end(s, c);
	if (!st)
		*out = p;
	return st;
}

enum wasd_status storage_job_place_new(struct storage *s, int64_t priority, struct storage_place *out,
                                       struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	struct storage_place p = {0};
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c,
	                          "SELECT (SELECT count(*) FROM jobs b WHERE b.state='queued' AND b.priority>=?1" OPEN_QUEUE
	                          ", 0," USUAL_S,
	                          &st, err, "i", priority);
	take_place(c, q, &p, &st, err);
	read_end(s, c);
	if (!st)
		*out = p;
	return st;
}
