/* space.c - what takes the room of the data directory, and giving back what nothing uses. */
#include "internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGES_AT_ONCE = 1024 };

/* ---- files ---- */

static int64_t bytes_of(int dir, const char *name)
{
	struct stat sb;
	return !fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) && S_ISREG(sb.st_mode) ? (int64_t)sb.st_size : -1;
}

/* Adds up the regular files below a folder; absent: none. */
static void measure(const char *path, struct storage_part *sum)
{
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat sb;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW))
			continue;
		if (S_ISREG(sb.st_mode)) {
			sum->n++;
			sum->bytes += sb.st_size;
		} else if (S_ISDIR(sb.st_mode)) {
			char *below = wasd_asprintf("%s/%s", path, e->d_name);
			if (below)
				measure(below, sum);
			wasd_free(below);
		}
	}
	if (d)
		closedir(d);
}

struct storage_part measure_folder(struct storage *s, const char *name)
{
	struct storage_part sum = {0};
	char *path = wasd_asprintf("%s/%s", s->dir, name);
	if (path)
		measure(path, &sum);
	wasd_free(path);
	return sum;
}

static int64_t file_bytes(const char *path, const char *tail)
{
	char *p = wasd_asprintf("%s%s", path, tail);
	int64_t n = p ? bytes_of(AT_FDCWD, p) : 0;
	wasd_free(p);
	return n > 0 ? n : 0;
}

/* ---- usage ---- */

void storage_usage_done(struct storage_usage *u)
{
	for (size_t i = 0; i < u->n_jobs; i++) {
		wasd_free(u->jobs[i].id);
		wasd_free(u->jobs[i].name);
	}
	wasd_free(u->jobs);
	*u = (struct storage_usage){0};
}

/* One row of two numbers. */
static enum wasd_status part(struct conn *c, const char *sql, struct storage_part *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, sql, &st, err, "");
	if (q_row(c, q, &st, err))
		*out = (struct storage_part){sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1)};
	q_end(c, q);
	return st;
}

/* The number of lines from the first and last of each job, which the key gives at once; their bytes from the mean of a
 * sample, because adding up millions of lines would take seconds. */
static enum wasd_status log_part(struct conn *c, struct storage_part *out, struct wasd_err *err)
{
	struct storage_part sample = {0};
	enum wasd_status st = part(
		c,
		"SELECT coalesce(sum((SELECT max(n) FROM logs WHERE job=j.id)-(SELECT min(n) FROM logs WHERE job=j.id)+1),0),0 FROM jobs j",
		out, err);
	if (!st)
		st = part(c, "SELECT count(*),coalesce(sum(length(text)),0) FROM (SELECT text FROM logs LIMIT 2000)", &sample,
		          err);
	out->bytes = sample.n ? out->n * sample.bytes / sample.n : 0;
	return st;
}

static enum wasd_status job_parts(struct conn *c, int64_t top, struct storage_usage *u, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT k.job,j.name,count(*),sum(k.bytes),sum(coalesce((SELECT sum(m.bytes) FROM modes m WHERE m.checkpoint=k.id),0)) AS more"
		" FROM checkpoints k JOIN jobs j ON j.id=k.job GROUP BY k.job ORDER BY sum(k.bytes)+more DESC, k.job LIMIT ?1",
		&st, err, "i", top);
	while (q_row(c, q, &st, err)) {
		struct storage_job_bytes *j = array_push((void **)&u->jobs, &u->n_jobs, sizeof *j);
		if (!j || !(j->id = wasd_strdup(q_text(q, 0))) || !(j->name = wasd_strdup(q_text(q, 1)))) {
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
			break;
		}
		j->checkpoints = (struct storage_part){sqlite3_column_int64(q, 2), sqlite3_column_int64(q, 3)};
		j->modes = sqlite3_column_int64(q, 4);
	}
	q_end(c, q);
	return st;
}

static enum wasd_status free_bytes(struct conn *c, int64_t *out, struct wasd_err *err)
{
	enum wasd_status st = conn_int(c, "PRAGMA freelist_count", out, err);
	*out *= c->page_size;
	return st;
}

enum wasd_status storage_usage(struct storage *s, int64_t top, struct storage_usage *out, struct wasd_err *err)
{
	struct storage_usage u = {0};
	enum wasd_status st;
	struct conn *c = read_begin(s);
	if (!(st = part(c, "SELECT count(*),coalesce(sum(bytes),0) FROM datasets WHERE state='ready'", &u.datasets, err)) &&
	    !(st = part(c, "SELECT count(*),coalesce(sum(bytes),0) FROM checkpoints", &u.checkpoints, err)) &&
	    !(st = part(c, "SELECT count(*),coalesce(sum(bytes),0) FROM modes", &u.modes, err)) &&
	    !(st = part(c, "SELECT count(*),coalesce(sum(length(data)),0) FROM events", &u.events, err)) &&
	    !(st = log_part(c, &u.logs, err)) && !(st = job_parts(c, top, &u, err)))
		st = free_bytes(c, &u.db_free, err);
	read_end(s, c);
	c = readers_take(&s->payloads.readers);
	if (!st)
		st = free_bytes(c, &u.ckpt_free, err);
	readers_give(&s->payloads.readers, c);
	if (st) {
		storage_usage_done(&u);
		return st;
	}
	u.blobs = measure_folder(s, "blobs");
	u.exports = measure_folder(s, "exports");
	u.staging = measure_folder(s, "staging");
	u.backups = measure_folder(s, "backups");
	u.db_bytes = file_bytes(s->main_path, "");
	u.db_wal = file_bytes(s->main_path, "-wal");
	u.ckpt_bytes = file_bytes(s->ckpt_path, "");
	u.ckpt_wal = file_bytes(s->ckpt_path, "-wal");
	u.ballast = file_bytes(s->ballast_path, "");
	u.low_water = (int64_t)s->opts.low_water_bytes;
	struct storage_disk d;
	storage_disk(s, &d);
	u.disk_free = d.free > INT64_MAX ? 0 : (int64_t)d.free;
	u.quota = (int64_t)d.quota;
	u.quota_used = (int64_t)d.used;
	*out = u;
	return WASD_OK;
}

/* ---- collection ---- */

/* Blobs that were uploaded, or used by an upload, at least this long ago. */
static void collect_blobs(struct storage *s, bool dry, int64_t age_s, struct storage_gc *g)
{
	char *path = wasd_asprintf("%s/blobs", s->dir);
	DIR *d = path ? opendir(path) : NULL;
	const time_t now = time(NULL);
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat sb;
		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) || !S_ISREG(sb.st_mode) ||
		    now - sb.st_mtime < age_s || (!dry && unlinkat(dirfd(d), e->d_name, 0)))
			continue;
		g->blobs.n++;
		g->blobs.bytes += sb.st_size;
	}
	if (d)
		closedir(d);
	wasd_free(path);
}

/* A file is used when a row names it, or when a version of its dataset is being scanned, which may just have made it.
 */
static bool dataset_used(struct storage *s, const char *name, const char *relative)
{
	enum wasd_status st = WASD_OK;
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM datasets WHERE path=?1 OR (name=?2 AND state='scanning') LIMIT 1", &st,
	                          NULL, "tt", relative, name);
	bool used = q_row(c, q, &st, NULL);
	q_end(c, q);
	read_end(s, c);
	return used || st;
}

static void collect_datasets(struct storage *s, bool dry, struct storage_gc *g)
{
	char *top = wasd_asprintf("%s/datasets", s->dir);
	DIR *names = top ? opendir(top) : NULL;
	for (struct dirent *n; names && (n = readdir(names));) {
		char *dir = n->d_name[0] == '.' ? NULL : wasd_asprintf("%s/%s", top, n->d_name);
		DIR *files = dir ? opendir(dir) : NULL;
		for (struct dirent *f; files && (f = readdir(files));) {
			int64_t bytes = f->d_name[0] == '.' ? -1 : bytes_of(dirfd(files), f->d_name);
			char *relative = bytes < 0 ? NULL : wasd_asprintf("datasets/%s/%s", n->d_name, f->d_name);
			if (relative && !dataset_used(s, n->d_name, relative) && (dry || !unlinkat(dirfd(files), f->d_name, 0))) {
				g->datasets.n++;
				g->datasets.bytes += bytes;
			}
			wasd_free(relative);
		}
		if (files)
			closedir(files);
		wasd_free(dir);
	}
	if (names)
		closedir(names);
	wasd_free(top);
}

struct gc {
	bool dry;
	struct storage_gc *g;
};

/* Moves the whole log into the file and shortens both. Readers may prevent it; a later one succeeds. */
static enum wasd_status shorten(struct conn *c, struct wasd_err *err)
{
	if (atomic_load(&c->patient))
		return WASD_OK;
	sqlite3_busy_timeout(c->db, 200);
	int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_busy_timeout(c->db, 5000);
	if (rc == SQLITE_OK)
		c->wal_frames = 0;
	return rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_FULL || rc == SQLITE_IOERR_SHMSIZE ?
	           WASD_OK :
	           conn_fail(c, "checkpoint", err);
}

/* One step: false when nothing is free any more. */
static bool vacuum_step(struct conn *c, enum wasd_status *st, struct wasd_err *err)
{
	int64_t pages = 0;
	char sql[64];
	if (*st || (*st = conn_int(c, "PRAGMA freelist_count", &pages, err)) || !pages)
		return false;
	snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", PAGES_AT_ONCE);
	*st = conn_exec(c, sql, err);
	return !*st && pages > PAGES_AT_ONCE;
}

/* On the thread of payloads, where every payload with a row is listed. */
static enum wasd_status collect_payloads(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct gc *a = ctx;
	struct conn *k = &s->payloads.conn;
	enum wasd_status st = payload_orphans(s, a->dry, &a->g->payloads.n, &a->g->payloads.bytes, err);
	if (!st)
		st = free_bytes(k, &a->g->ckpt_pages, err);
	if (st || a->dry)
		return st;
	while (vacuum_step(k, &st, err) && !(st = conn_checkpoint(k, err))) {
	}
	if (!st)
		st = shorten(k, err);
	if (k->io_error)
		storage_mark_failed(s, err->msg);
	return st;
}

struct pages {
	bool more;
};

/* In small transactions, so that other writes pass in between. */
static enum wasd_status vacuum_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct pages *p = ctx;
	enum wasd_status st = WASD_OK;
	p->more = vacuum_step(tx_conn(s), &st, err);
	if (!p->more)
		s->writer.shorten = true;
	return st;
}

void writer_shorten(struct storage *s)
{
	struct wasd_err err;
	if (!atomic_load(&s->failed) && shorten(&s->writer.conn, &err))
		storage_mark_failed(s, err.msg);
}

void writer_give_back(struct storage *s)
{
	/* If this fails, later writes reuse the pages. */
	conn_exec(&s->writer.conn, "PRAGMA incremental_vacuum", NULL);
	writer_shorten(s);
}

void payloads_shorten(struct storage *s)
{
	struct wasd_err err;
	if (!atomic_load(&s->failed) && shorten(&s->payloads.conn, &err))
		storage_mark_failed(s, err.msg);
}

static int64_t databases(struct storage *s)
{
	return file_bytes(s->main_path, "") + file_bytes(s->main_path, "-wal") + file_bytes(s->ckpt_path, "") +
	       file_bytes(s->ckpt_path, "-wal");
}

static enum wasd_status nothing_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	(void)s, (void)ctx, (void)err;
	return WASD_OK;
}

enum wasd_status storage_gc(struct storage *s, bool dry, int64_t blob_age_s, const char *actor, struct storage_gc *out,
                            struct wasd_err *err)
{
	struct storage_gc g = {0};
	struct gc a = {dry, &g};
	uint64_t room;
	disk_low(s, &room);
	g.disk_free_before = (int64_t)room;
	const int64_t before = databases(s);
	collect_blobs(s, dry, blob_age_s, &g);
	collect_datasets(s, dry, &g);
	enum wasd_status st = payloads_run(s, collect_payloads, &a, err);
	struct conn *c = st ? NULL : read_begin(s);
	if (c) {
		st = free_bytes(c, &g.db_pages, err);
		read_end(s, c);
	}
	struct pages p = {.more = !st && !dry};
	while (p.more && !st)
		st = write_op(s, vacuum_tx, &p, err);
	if (!st && !dry)
		st = storage_audit_add(s, actor, "storage.gc", "storage", NULL, NULL, NULL, NULL, err);
	if (!st && !dry)
		st = write_op(s, nothing_tx, NULL, err); /* after the log was shortened */
	const int64_t shrunk = before - databases(s);
	g.databases = dry ? g.db_pages + g.ckpt_pages + g.payloads.bytes : shrunk > 0 ? shrunk : 0;
	g.bytes = g.blobs.bytes + g.datasets.bytes + g.databases;
	disk_low(s, &room);
	g.disk_free_after = (int64_t)room;
	if (!st)
		*out = g;
	return st;
}
