/* db.c - SQLite connections, statements and rows. */
#include "db.h"
#include <stdlib.h>
#include <string.h>

/* ---- connections ---- */

enum wasd_status conn_fail(struct conn *c, const char *what, struct wasd_err *err)
{
	int rc = c->db ? sqlite3_extended_errcode(c->db) : SQLITE_NOMEM;
	const char *msg = c->db ? sqlite3_errmsg(c->db) : "out of memory";
	enum wasd_status s = WASD_EINTERNAL;
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		s = WASD_ENOMEM;
		break;
	case SQLITE_FULL:
		s = WASD_EFULL;
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		s = WASD_EBUSY;
		break;
	case SQLITE_TOOBIG:
		s = WASD_ETOOBIG;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		s = WASD_ECORRUPT;
		c->io_error = true;
		break;
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM || rc == SQLITE_IOERR_SHMSIZE) { /* no room for the index of the log */
			s = rc == SQLITE_IOERR_NOMEM ? WASD_ENOMEM : WASD_EFULL;
			break;
		} /* fall through */
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		s = WASD_EIO;
		c->io_error = true;
		break;
	}
	return wasd_fail(err, s, "%s: %s: %s (SQLite %d)", c->name, what, msg, rc);
}

enum wasd_status conn_exec(struct conn *c, const char *sql, struct wasd_err *err)
{
	return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? WASD_OK : conn_fail(c, "exec", err);
}

enum wasd_status conn_int(struct conn *c, const char *sql, int64_t *out, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	sqlite3_stmt *q = q_begin(c, sql, &s, err, "");
	if (q_row(c, q, &s, err))
		*out = sqlite3_column_int64(q, 0);
	else if (!s)
		s = wasd_fail(err, WASD_EINTERNAL, "%s: no answer to %s", c->name, sql);
	q_end(c, q);
	return s;
}

static int on_wal(void *arg, sqlite3 *db, const char *schema, int frames)
{
	(void)db, (void)schema;
	((struct conn *)arg)->wal_frames = frames;
	return SQLITE_OK;
}

/* The durability guarantees depend on these pragmas. Each is set and then read back: a build of SQLite that ignores
 * one must not be used. */
static const struct {
	const char *set, *get;
	int64_t want;
	bool writer_only;
} pragmas[] = {
	{"PRAGMA busy_timeout=5000", "PRAGMA busy_timeout", 5000, false},
	{"PRAGMA trusted_schema=OFF", "PRAGMA trusted_schema", 0, false},
	{"PRAGMA cell_size_check=ON", "PRAGMA cell_size_check", 1, false},
	{"PRAGMA temp_store=MEMORY", "PRAGMA temp_store", 2, false},
	{"PRAGMA mmap_size=0", NULL, 0, false},
	{"PRAGMA foreign_keys=ON", "PRAGMA foreign_keys", 1, true},
	{"PRAGMA synchronous=FULL", "PRAGMA synchronous", 2, true},
	{"PRAGMA secure_delete=OFF", "PRAGMA secure_delete", 0, true},
	{"PRAGMA journal_size_limit=67108864", "PRAGMA journal_size_limit", 67108864, true},
	{"PRAGMA wal_autocheckpoint=0", "PRAGMA wal_autocheckpoint", 0,
     true},                                                   /* conn_checkpoint moves the log between batches */
	{"PRAGMA query_only=OFF", "PRAGMA auto_vacuum", 2, true}, /* fixed when the file was created */
};

static enum wasd_status set_pragmas(struct conn *c, bool read_only, struct wasd_err *err)
{
	enum wasd_status s;
	for (size_t i = 0; i < sizeof pragmas / sizeof *pragmas; i++) {
		int64_t got = -1;
		if (read_only && pragmas[i].writer_only)
			continue;
		if ((s = conn_exec(c, pragmas[i].set, err)))
			return s;
		if (!pragmas[i].get)
			continue;
		if ((s = conn_int(c, pragmas[i].get, &got, err)))
			return s;
		if (got != pragmas[i].want)
			return wasd_fail(err, WASD_EUNSUPPORTED, "%s: %s gives %lld, %lld is needed", c->name, pragmas[i].get,
			                 (long long)got, (long long)pragmas[i].want);
	}
	s = WASD_OK;
	sqlite3_stmt *q = q_begin(c, read_only ? "PRAGMA journal_mode" : "PRAGMA journal_mode=WAL", &s, err, "");
	if (q_row(c, q, &s, err) && strcmp(q_text(q, 0), "wal"))
		s = wasd_fail(err, WASD_EUNSUPPORTED, "%s: journal mode is %s, wal is needed", c->name, q_text(q, 0));
	q_end(c, q);
	return s;
}

enum wasd_status conn_open(struct conn *c, const char *path, const char *name, bool read_only, struct wasd_err *err)
{
	*c = (struct conn){.name = name};
	int flags = (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_EXRESCODE |
	            SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX;
	enum wasd_status s = sqlite3_open_v2(path, &c->db, flags, NULL) == SQLITE_OK ? WASD_OK : conn_fail(c, "open", err);
	if (!s && (sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) ||
	           sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL) ||
	           sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL)))
		s = conn_fail(c, "configure", err);
	if (!s)
		s = set_pragmas(c, read_only, err);
	if (!s)
		s = conn_int(c, "PRAGMA page_size", &c->page_size, err);
	if (!s && !read_only)
		sqlite3_wal_hook(c->db, on_wal, c);
	if (s)
		conn_close(c);
	return s;
}

void conn_close(struct conn *c)
{
	for (int i = 0; i < CONN_STATEMENTS; i++)
		sqlite3_finalize(c->cache[i].st);
	sqlite3_close(c->db);
	*c = (struct conn){.name = c->name};
}

enum wasd_status conn_check(struct conn *c, bool full, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	sqlite3_stmt *q = q_begin(c, full ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)", &s, err, "");
	if (q_row(c, q, &s, err) && strcmp(q_text(q, 0), "ok"))
		s = wasd_fail(err, WASD_ECORRUPT, "%s: %s", c->name, q_text(q, 0));
	q_end(c, q);
	return s;
}

enum wasd_status conn_checkpoint(struct conn *c, struct wasd_err *err)
{
	enum { SOON = 4 << 20, LARGE = 16 << 20 };
	int in_log = 0, moved = 0;
	const int64_t bytes = c->wal_frames * c->page_size;
	if (bytes < SOON)
		return WASD_OK;
	bool restart = bytes >= LARGE &&
	               !atomic_load(&c->patient); /* waits briefly for readers, so that the log restarts at its beginning */
	if (restart)
		sqlite3_busy_timeout(c->db, 200);
	int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE,
	                                   &in_log, &moved);
	if (restart)
		sqlite3_busy_timeout(c->db, 5000);
	if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_FULL && rc != SQLITE_IOERR_SHMSIZE)
		return conn_fail(c, "checkpoint", err);
	if (rc == SQLITE_OK && in_log == moved)
		c->wal_frames = 0;
	return WASD_OK;
}

/* ---- statements ---- */

static sqlite3_stmt *prepare(struct conn *c, const char *sql)
{
	sqlite3_stmt *st = NULL;
	size_t h = ((uintptr_t)sql >> 3) % CONN_STATEMENTS;
	for (int probe = 0; probe < CONN_STATEMENTS; probe++, h = (h + 1) % CONN_STATEMENTS) {
		if (c->cache[h].sql == sql) {
			if (c->cache[h].busy)
				break; /* in use by a caller further up: prepare a second one for this call */
			c->cache[h].busy = true;
			return c->cache[h].st;
		}
		if (c->cache[h].sql)
			continue;
		if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK)
			return NULL;
		c->cache[h].sql = sql;
		c->cache[h].st = st;
		c->cache[h].busy = true;
		return st;
	}
	return sqlite3_prepare_v2(c->db, sql, -1, &st, NULL) == SQLITE_OK ? st : NULL;
}

static int bind(sqlite3_stmt *q, const char *kinds, va_list ap)
{
	int rc = SQLITE_OK;
	for (int i = 1; *kinds && rc == SQLITE_OK; kinds++, i++) {
		int64_t v;
		const char *t;
		const void *p;
		switch (*kinds) {
		case 't':
			t = va_arg(ap, const char *);
			rc = t ? sqlite3_bind_text(q, i, t, -1, SQLITE_STATIC) : sqlite3_bind_null(q, i);
			break;
		case 'i':
			rc = sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
			break;
		case 'z':
			v = va_arg(ap, int64_t);
			rc = v ? sqlite3_bind_int64(q, i, v) : sqlite3_bind_null(q, i);
			break;
		case 'd':
			rc = sqlite3_bind_double(q, i, va_arg(ap, double));
			break;
		case 'b':
			p = va_arg(ap, const void *);
			rc = sqlite3_bind_blob64(q, i, p, va_arg(ap, size_t), SQLITE_STATIC);
			break;
		default:
			rc = SQLITE_MISUSE;
		}
	}
	return rc;
}

static sqlite3_stmt *begin(struct conn *c, const char *sql, enum wasd_status *s, struct wasd_err *err,
                           const char *kinds, va_list ap)
{
	if (*s)
		return NULL;
	sqlite3_stmt *q = prepare(c, sql);
	if (!q) {
		*s = conn_fail(c, "prepare", err);
	} else if (bind(q, kinds, ap) != SQLITE_OK) {
		*s = conn_fail(c, "bind", err);
		q_end(c, q);
		q = NULL;
	}
	return q;
}

sqlite3_stmt *q_begin(struct conn *c, const char *sql, enum wasd_status *s, struct wasd_err *err, const char *kinds,
                      ...)
{
	va_list ap;
	va_start(ap, kinds);
	sqlite3_stmt *q = begin(c, sql, s, err, kinds, ap);
	va_end(ap);
	return q;
}

bool q_row(struct conn *c, sqlite3_stmt *q, enum wasd_status *s, struct wasd_err *err)
{
	if (!q || *s)
		return false;
	int rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		return true;
	if (rc != SQLITE_DONE)
		*s = conn_fail(c, "step", err);
	return false;
}

void q_end(struct conn *c, sqlite3_stmt *q)
{
	if (!q)
		return;
	for (int i = 0; i < CONN_STATEMENTS; i++) {
		if (c->cache[i].st != q)
			continue;
		sqlite3_reset(q);
		sqlite3_clear_bindings(q);
		c->cache[i].busy = false;
		return;
	}
	sqlite3_finalize(q);
}

enum wasd_status q_run(struct conn *c, const char *sql, struct wasd_err *err, const char *kinds, ...)
{
	enum wasd_status s = WASD_OK;
	va_list ap;
	va_start(ap, kinds);
	sqlite3_stmt *q = begin(c, sql, &s, err, kinds, ap);
	va_end(ap);
	while (q_row(c, q, &s, err)) {
	}
	q_end(c, q);
	return s;
}

/* ---- rows ---- */

void *array_push(void **items, size_t *n, size_t size)
{
	if ((*n & (*n - 1)) == 0) { /* full at every power of two */
		size_t cap = *n ? 2 * *n : 1, bytes;
		if (!wasd_mul_size(cap, size, &bytes))
			return NULL;
		void *p = wasd_realloc(*items, bytes);
		if (!p)
			return NULL;
		*items = p;
	}
	return memset((char *)*items + (*n)++ * size, 0, size);
}

enum wasd_status row_read(const struct row_type *t, sqlite3_stmt *q, void *row, struct wasd_err *err)
{
	memset(row, 0, t->size);
	for (int i = 0; i < t->n; i++) {
		void *m = (char *)row + t->cols[i].offset;
		int at = i + 1;
		if (sqlite3_column_type(q, at) == SQLITE_NULL)
			continue;
		switch (t->cols[i].kind) {
		case COL_INT:
			*(int64_t *)m = sqlite3_column_int64(q, at);
			break;
		case COL_REAL:
			*(double *)m = sqlite3_column_double(q, at);
			break;
		case COL_TEXT: {
			const char *text = q_text(q, at);
			if (text && (*(char **)m = wasd_strdup(text)))
				break;
			row_done(t, row);
			return wasd_fail(err, WASD_ENOMEM, "no memory for a row");
		}
		}
	}
	return WASD_OK;
}

void row_done(const struct row_type *t, void *row)
{
	for (int i = 0; i < t->n; i++)
		if (t->cols[i].kind == COL_TEXT)
			wasd_free(*(char **)((char *)row + t->cols[i].offset));
	memset(row, 0, t->size);
}

void rows_done(const struct row_type *t, void *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		row_done(t, (char *)items + i * t->size);
	wasd_free(items);
}

enum wasd_status row_one(struct conn *c, sqlite3_stmt *q, enum wasd_status s, const struct row_type *t, void *row,
                         const char *what, const char *id, struct wasd_err *err)
{
	if (q_row(c, q, &s, err))
		s = row_read(t, q, row, err);
	else if (!s)
		s = wasd_fail(err, WASD_ENOTFOUND, "no %s %s", what, id);
	q_end(c, q);
	return s;
}

enum wasd_status row_all(struct conn *c, sqlite3_stmt *q, enum wasd_status s, const struct row_type *t, void **items,
                         size_t *n, struct wasd_err *err)
{
	void *rows = NULL;
	size_t count = 0;
	while (q_row(c, q, &s, err)) {
		void *row = array_push(&rows, &count, t->size);
		s = row ? row_read(t, q, row, err) : wasd_fail(err, WASD_ENOMEM, "no memory for %zu rows", count);
	}
	q_end(c, q);
	if (s) {
		rows_done(t, rows, count);
		return s;
	}
	*items = rows;
	*n = count;
	return WASD_OK;
}

enum wasd_status row_page(struct conn *c, sqlite3_stmt *q, enum wasd_status s, const struct row_type *t, int limit,
                          void **items, size_t *n, char **next, struct wasd_err *err)
{
	void *rows = NULL;
	size_t count = 0;
	char *cursor = NULL;
	if ((s = row_all(c, q, s, t, &rows, &count, err)))
		return s;
	if (count > (size_t)limit) {
		count--;
		row_done(t, (char *)rows + count * t->size);
		cursor = wasd_strdup(*(char **)((char *)rows + (count - 1) * t->size));
		if (!cursor) {
			rows_done(t, rows, count);
			return wasd_fail(err, WASD_ENOMEM, "no memory for a page");
		}
	}
	*items = rows;
	*n = count;
	*next = cursor;
	return WASD_OK;
}
