/* datasets.c - versions of named datasets. Rows are never removed, so that jobs can still
 * refer to the version they were trained on. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define DATASET_COLS(T, I, D, X) \
	T(X, id) T(X, name) I(X, version) T(X, state) T(X, format) T(X, digest) T(X, source_digest) T(X, path) \
	T(X, info) T(X, error) I(X, bytes) I(X, created_at) I(X, updated_at)
/* clang-format on */
ROW_TYPE(dataset_type, storage_dataset, DATASET_COLS);

void storage_dataset_done(struct storage_dataset *d)
{
	row_done(&dataset_type, d);
}

void storage_dataset_list_done(struct storage_dataset_list *l)
{
	rows_done(&dataset_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_dataset_list){0};
}

static enum wasd_status put_event(struct storage *s, const char *id, const char *name, int64_t version,
                                  const char *state, struct wasd_err *err)
{
	return event_put(s, "datasets", "dataset.state", name,
	                 make_object("ssis", "id", id, "name", name, "version", version, "state", state), err);
}

/* ---- begin ---- */

struct begin_args {
	const char *name, *format, *source_digest, *actor;
	struct storage_dataset *out;
	bool existing;
};

static enum wasd_status begin_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct begin_args *a = ctx;
	struct conn *c = tx_conn(s);
	char object[100];
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		SELECT(
			DATASET_COLS,
			"datasets WHERE name=?1 AND source_digest=?2 AND state IN ('ready','scanning') ORDER BY version DESC LIMIT 1"),
		&st, err, "tt", a->name, a->source_digest);
	if (q_row(c, q, &st, err)) {
		a->existing = true;
		st = row_read(&dataset_type, q, a->out, err);
	}
	q_end(c, q);
	if (st || a->existing || (st = storage_space(s, 0, err)))
		return st;
	char id[32];
	wasd_ulid("ds_", id);
	st = q_run(c,
	           "INSERT INTO datasets(id,name,version,state,format,source_digest,created_at,updated_at)"
	           " VALUES(?1,?2,(SELECT coalesce(max(version),0)+1 FROM datasets WHERE name=?2),'scanning',?3,?4,?5,?5)",
	           err, "tttti", id, a->name, a->format, a->source_digest, wasd_now_ms());
	q = q_begin(c, SELECT(DATASET_COLS, "datasets WHERE id=?1"), &st, err, "t", id);
	st = row_one(c, q, st, &dataset_type, a->out, "dataset", id, err);
	if (!st)
		st = put_event(s, id, a->name, a->out->version, "scanning", err);
	sqlite3_snprintf(sizeof object, object, "dataset/%s", a->name);
	return st ? st :
	            audit_change(s, (struct audit_in){.actor = a->actor, .action = "dataset.add", .object = object}, true,
	                         NULL, make_object("is", "version", a->out->version, "source_digest", a->source_digest),
	                         err);
}

enum wasd_status storage_dataset_begin(struct storage *s, const char *name, const char *format,
                                       const char *source_digest, const char *actor, struct storage_dataset *out,
                                       bool *existing, struct wasd_err *err)
{
	if (!wasd_name_ok(name))
		return wasd_fail_at(err, WASD_EINVAL, "/name", "%s is not a name for a dataset", name);
	struct storage_dataset row = {0};
	struct begin_args a = {name, format, source_digest, actor, &row, false};
	enum wasd_status st = write_op(s, begin_tx, &a, err);
	if (st) {
		storage_dataset_done(&row);
		return st;
	}
	*out = row;
	if (existing)
		*existing = a.existing;
	return WASD_OK;
}

/* ---- the end of a scan ---- */

struct end_args {
	const char *id, *format, *digest, *path, *info, *error;
	int64_t bytes;
};

/* Jobs waiting for a dataset that turned out to be unusable would wait forever. */
static enum wasd_status fail_waiting_jobs(struct storage *s, const char *id, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	for (;;) {
		char job[40] = "";
		sqlite3_stmt *q = q_begin(
			c,
			"SELECT j.id FROM jobs j JOIN datasets d ON d.name=j.dataset AND d.version=j.dataset_version WHERE d.id=?1 AND j.state='queued' LIMIT 1",
			&st, err, "t", id);
		if (q_row(c, q, &st, err))
			sqlite3_snprintf(sizeof job, job, "%s", q_text(q, 0));
		q_end(c, q);
		if (st || !job[0])
			return st;
		if ((st = job_move(s, job,
		                   &(struct storage_move){.to = "failed",
		                                          .reason = "bad_data",
		                                          .message = "its dataset is invalid"},
		                   err)))
			return st;
	}
}

static enum wasd_status end_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct end_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_dataset d = {0};
	enum wasd_status st = WASD_OK;
	const char *state = a->error ? "invalid" : "ready";
	sqlite3_stmt *q = q_begin(c, SELECT(DATASET_COLS, "datasets WHERE id=?1"), &st, err, "t", a->id);
	if ((st = row_one(c, q, st, &dataset_type, &d, "dataset", a->id, err)))
		return st;
	if (strcmp(d.state, "scanning"))
		st = wasd_fail_at(err, WASD_ESTATE, d.state, "dataset %s version %lld is %s, not scanning", d.name,
		                  (long long)d.version, d.state);
	if (!st)
		st = q_run(
			c,
			"UPDATE datasets SET state=?2, format=coalesce(?3,format), digest=?4, path=?5, info=?6, error=?7, bytes=?8, updated_at=?9 WHERE id=?1",
			err, "tttttttii", a->id, state, a->format, a->digest, a->path, a->info, a->error, a->bytes, wasd_now_ms());
	if (!st)
		st = q_run(
			c, "UPDATE jobs SET dataset_digest=?3 WHERE dataset=?1 AND dataset_version=?2 AND dataset_digest IS NULL",
			err, "tit", d.name, d.version, a->digest);
	if (!st && a->error)
		st = fail_waiting_jobs(s, a->id, err);
	if (!st)
		st = put_event(s, d.id, d.name, d.version, state, err);
	storage_dataset_done(&d);
	return st;
}

struct waits_args {
	const char *id, *error;
};

static enum wasd_status waits_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct waits_args *a = ctx;
	return q_run(tx_conn(s), "UPDATE datasets SET error=?2, updated_at=?3 WHERE id=?1 AND state='scanning'", err, "tti",
	             a->id, a->error, wasd_now_ms());
}

enum wasd_status storage_dataset_waits(struct storage *s, const char *id, const char *error, struct wasd_err *err)
{
	struct waits_args a = {id, error};
	return urgent_op(s, waits_tx, &a, err);
}

enum wasd_status storage_dataset_ready(struct storage *s, const char *id, const char *format, const char *digest,
                                       const char *path, const char *info, int64_t bytes, struct wasd_err *err)
{
	struct end_args a = {id, format, digest, path, info, NULL, bytes};
	return write_op(s, end_tx, &a, err);
}

enum wasd_status storage_dataset_invalid(struct storage *s, const char *id, const char *error, struct wasd_err *err)
{
	struct end_args a = {.id = id, .error = error ? error : "{}"};
	return urgent_op(s, end_tx, &a, err);
}

/* ---- reading ---- */

enum wasd_status storage_dataset_get(struct storage *s, const char *name, int64_t version, struct storage_dataset *out,
                                     struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q =
		version ?
			q_begin(c, SELECT(DATASET_COLS, "datasets WHERE name=?1 AND version=?2"), &st, err, "ti", name, version) :
			q_begin(
				c,
				SELECT(DATASET_COLS,
	                   "datasets WHERE name=?1 AND state<>'deleted' ORDER BY state='ready' DESC, version DESC LIMIT 1"),
				&st, err, "t", name);
	st = row_one(c, q, st, &dataset_type, out, "dataset", name, err);
	read_end(s, c);
	return st;
}

#define LATEST \
	"(?1 IS NOT NULL OR version=(SELECT max(version) FROM datasets n WHERE n.name=datasets.name AND n.state<>'deleted'))"
#define DATASET_FILTER "(?1 IS NULL OR name=?1) AND (?2 IS NULL OR state=?2) AND state<>'deleted' AND " LATEST

enum wasd_status storage_dataset_list(struct storage *s, const char *name, const char *state, struct storage_page page,
                                      struct storage_dataset_list *out, struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "ds_", err);
	if (st)
		return st;
	struct storage_dataset_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(c,
	                          page.oldest_first ?
	                              SELECT(DATASET_COLS, "datasets WHERE " DATASET_FILTER
	                                                   " AND id>coalesce(?3,'') ORDER BY id LIMIT ?4") :
	                              SELECT(DATASET_COLS, "datasets WHERE " DATASET_FILTER
	                                                   " AND id<coalesce(?3,'~') ORDER BY id DESC LIMIT ?4"),
	                          &st, err, "ttti", name, state, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &dataset_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status storage_dataset_path_used(struct storage *s, const char *path, bool *used, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM datasets WHERE path=?1", &st, err, "t", path);
	bool hit = q_row(c, q, &st, err);
	q_end(c, q);
	read_end(s, c);
	if (!st)
		*used = hit;
	return st;
}

/* ---- deletion ---- */

struct delete_args {
	const char *name;
	int64_t version;
	const char *actor;
	struct wasd_buf paths;
};

/* A mode that is to be made, or the checkpoint's own that are to be measured. */
static enum wasd_status refuse_made(struct conn *c, const struct delete_args *a, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT mode,checkpoint FROM modes WHERE dataset=?1 AND (?2=0 OR dataset_version=?2) AND state IN ('queued','searching') LIMIT 1",
		&st, err, "ti", a->name, a->version);
	if (q_row(c, q, &st, err))
		st = !strcmp(q_text(q, 0), STORAGE_MEASURING) ?
		         wasd_fail_at(err, WASD_ESTATE, q_text(q, 1),
		                      "dataset %s: the modes of checkpoint %s are measured on it", a->name, q_text(q, 1)) :
		         wasd_fail_at(err, WASD_ESTATE, q_text(q, 1), "dataset %s: mode %s of checkpoint %s is made on it",
		                      a->name, q_text(q, 0), q_text(q, 1));
	q_end(c, q);
	return st;
}

static enum wasd_status refuse_used(struct storage *s, const struct delete_args *a, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	char by[64];
	enum wasd_status st = refuse_made(c, a, err);
	if (!st && dataset_needed(s, a->name, a->version, by))
		st = wasd_fail_at(err, WASD_ESTATE, by, "dataset %s: %s needs it", a->name, by);
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT id FROM jobs WHERE dataset=?1 AND (?2=0 OR dataset_version=?2) AND state NOT IN ('completed','failed','cancelled') LIMIT 1",
		&st, err, "ti", a->name, a->version);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, q_text(q, 0), "dataset %s is referenced by job %s", a->name, q_text(q, 0));
	q_end(c, q);
	q = q_begin(c, "SELECT version FROM datasets WHERE name=?1 AND (?2=0 OR version=?2) AND state='scanning' LIMIT 1",
	            &st, err, "ti", a->name, a->version);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, "scanning", "dataset %s version %d is still being scanned", a->name,
		                  sqlite3_column_int(q, 0));
	q_end(c, q);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st = refuse_used(s, a, err);
	int n = 0;
	wasd_buf_done(&a->paths); /* in case this runs a second time */
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT id,version,path FROM datasets WHERE name=?1 AND (?2=0 OR version=?2) AND state<>'deleted' ORDER BY version",
		&st, err, "ti", a->name, a->version);
	while (q_row(c, q, &st, err)) {
		n++;
		if (q_text(q, 2))
			wasd_buf_printf(&a->paths, "%s%s", a->paths.len ? "\n" : "", q_text(q, 2));
		st = put_event(s, q_text(q, 0), a->name, sqlite3_column_int64(q, 1), "deleted", err);
	}
	q_end(c, q);
	if (st)
		return st;
	if (!n)
		return wasd_fail(err, WASD_ENOTFOUND, "no dataset %s", a->name);
	if (a->paths.failed)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	st = q_run(
		c,
		"UPDATE datasets SET state='deleted', path=NULL, bytes=0, updated_at=?3 WHERE name=?1 AND (?2=0 OR version=?2) AND state<>'deleted'",
		err, "tii", a->name, a->version, wasd_now_ms());
	if (st)
		return st;
	char object[100];
	sqlite3_snprintf(sizeof object, object, "dataset/%s", a->name);
	return audit_put(s, &(struct audit_in){.actor = a->actor, .action = "dataset.delete", .object = object}, NULL, err);
}

enum wasd_status storage_dataset_delete(struct storage *s, const char *name, int64_t version, const char *actor,
                                        char **paths, struct wasd_err *err)
{
	struct delete_args a = {name, version, actor, {0}};
	enum wasd_status st = delete_op(s, delete_tx, &a, err);
	char *text = st ? NULL : wasd_buf_cstr(&a.paths);
	if (!paths || !text)
		wasd_buf_done(&a.paths);
	if (!st && paths)
		*paths = text;
	return st;
}
