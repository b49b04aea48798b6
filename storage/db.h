/* db.h - one SQLite connection with its prepared statements, and rows described by tables. Private to storage. */
#ifndef STORAGE_DB_H
#define STORAGE_DB_H

#include "wasd/base.h"
#include <sqlite3.h>
#include <stdatomic.h>

/* ---- connections ---- */

enum { CONN_STATEMENTS = 320 }; /* more than the number of statements in this folder */

struct conn {
	sqlite3 *db;
	const char *name; /* "wasd.db": for messages */
	bool io_error;    /* an I/O error or bad data: no more writes allowed */
	int64_t page_size;
	atomic_bool patient; /* a backup reads: moving the log must not wait for readers */
	int wal_frames;      /* frames in the write-ahead log after the last commit */
	struct {
		const char *sql;
		sqlite3_stmt *st;
		bool busy;
	} cache[CONN_STATEMENTS];
};

struct schema; /* schema.h */
/* Opens an existing database, sets the pragmas that durability needs and reads each of them back. */
enum wasd_status conn_open(struct conn *c, const char *path, const char *name, bool read_only, struct wasd_err *err);
void conn_close(struct conn *c);
/* The status of the last failed call on c, with SQLite's message in err. */
enum wasd_status conn_fail(struct conn *c, const char *what, struct wasd_err *err);
enum wasd_status conn_exec(struct conn *c, const char *sql, struct wasd_err *err);
/* Reads one integer, e.g. a pragma. */
enum wasd_status conn_int(struct conn *c, const char *sql, int64_t *out, struct wasd_err *err);
/* PRAGMA quick_check or integrity_check. */
enum wasd_status conn_check(struct conn *c, bool full, struct wasd_err *err);
/* Moves the log into the database once the log has grown; only for the connection that writes. */
enum wasd_status conn_checkpoint(struct conn *c, struct wasd_err *err);

/* ---- statements: sql must be a literal, because its address is the cache key ----
 *
 *     enum wasd_status s = WASD_OK;
 *     sqlite3_stmt *q = q_begin(c, "SELECT a FROM t WHERE id = ?1", &s, err, "t", id);
 *     while (q_row(c, q, &s, err)) use(sqlite3_column_int64(q, 0));
 *     q_end(c, q);
 *
 * Letters of `kinds`, one per parameter: t text or NULL; i int64_t; z int64_t, 0 becomes NULL; d double; b const
 * void *, size_t. */
sqlite3_stmt *q_begin(struct conn *c, const char *sql, enum wasd_status *s, struct wasd_err *err, const char *kinds,
                      ...);
bool q_row(struct conn *c, sqlite3_stmt *q, enum wasd_status *s, struct wasd_err *err);
void q_end(struct conn *c, sqlite3_stmt *q);
/* Runs a statement and ignores its rows. */
enum wasd_status q_run(struct conn *c, const char *sql, struct wasd_err *err, const char *kinds, ...);
static inline const char *q_text(sqlite3_stmt *q, int i)
{
	return (const char *)sqlite3_column_text(q, i);
}

/* ---- rows ---- */

/* One X-macro per table lists the members; it gives the column list of a SELECT and the offsets in the struct. The
 * SELECT begins with "SELECT 0", so columns count from 1. */
enum col_kind { COL_TEXT, COL_INT, COL_REAL };
struct col {
	enum col_kind kind;
	size_t offset;
};
struct row_type {
	const struct col *cols;
	int n;
	size_t size;
};

#define COL_NAME(m) ",\"" #m "\""
#define ROW_TYPE(var, type, COLS) \
	static const struct col var##_cols[] = {COLS(COL_T_, COL_I_, COL_D_, struct type)}; \
	static const struct row_type var = {var##_cols, sizeof var##_cols / sizeof *var##_cols, sizeof(struct type)}
#define COL_T_(type, m) {COL_TEXT, offsetof(type, m)},
#define COL_I_(type, m) {COL_INT, offsetof(type, m)},
#define COL_D_(type, m) {COL_REAL, offsetof(type, m)},
#define COL_N_(type, m) COL_NAME(m)
#define SELECT(COLS, from) "SELECT 0" COLS(COL_N_, COL_N_, COL_N_, 0) " FROM " from

/* Overwrites *row with the current row of q. */
enum wasd_status row_read(const struct row_type *t, sqlite3_stmt *q, void *row, struct wasd_err *err);
void row_done(const struct row_type *t, void *row);
/* Frees items[0..n) and the array. */
void rows_done(const struct row_type *t, void *items, size_t n);
/* The only row of a query; WASD_ENOTFOUND with "what: no such ..." when there is none. Ends q. */
enum wasd_status row_one(struct conn *c, sqlite3_stmt *q, enum wasd_status s, const struct row_type *t, void *row,
                         const char *what, const char *id, struct wasd_err *err);
/* All rows of a query, appended to a fresh array. Ends q. On failure the array is freed. */
enum wasd_status row_all(struct conn *c, sqlite3_stmt *q, enum wasd_status s, const struct row_type *t, void **items,
                         size_t *n, struct wasd_err *err);
/* The same for one page: the query had a limit of limit + 1; if there are more rows, *next is the id of the last one
 * returned (the first member of the struct). */
enum wasd_status row_page(struct conn *c, sqlite3_stmt *q, enum wasd_status s, const struct row_type *t, int limit,
                          void **items, size_t *n, char **next, struct wasd_err *err);

/* Grows an array by one zeroed item of `size` bytes; NULL: no memory. */
void *array_push(void **items, size_t *n, size_t size);

#endif
