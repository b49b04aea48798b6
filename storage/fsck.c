/* fsck.c - reads a whole data directory and reports what is damaged, missing or left over. */
#include "internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct check {
	const struct storage_fsck_hooks *h;
	struct storage_fsck *sum;
	const char *dir;
	struct conn m, k;
	bool damaged; /* a database is: its rows are not read */
};

static void found(struct check *c, bool fault, const char *object, const char *detail)
{
	if (fault)
		c->sum->faults++;
	else
		c->sum->leftovers++;
	if (c->h->found)
		c->h->found(c->h->ctx, fault, object, detail);
}

static void payload_fault(void *ctx, const char *object, const char *detail)
{
	found(ctx, true, object, detail);
}

/* Closing must neither move the log nor remove it, not even an empty one: nothing may change, and a daemon that died
 * does not start again without its log. */
static enum wasd_status open_database(struct check *c, struct conn *to, const struct schema *sc, struct wasd_err *err)
{
	char path[STORAGE_PATH + 16], wal[STORAGE_PATH + 32];
	struct stat sb;
	snprintf(path, sizeof path, "%s/%s", c->dir, sc->file);
	snprintf(wal, sizeof wal, "%s-wal", path);
	bool log = !lstat(wal, &sb);
	enum wasd_status st = lstat(path, &sb) ? wasd_fail(err, WASD_ENOTFOUND, "%s is missing", path) :
	                                         schema_inspect(sc, path, err);
	if (!st)
		st = conn_open(to, path, sc->file, false, err);
	int64_t version = 0;
	if (!st)
		st = conn_int(to, "PRAGMA user_version", &version, err);
	if (!st && version != sc->n_steps)
		st = wasd_fail(err, WASD_EUNSUPPORTED,
		               "%s is of an earlier wasd (schema %lld); start the daemon once to bring it to %d", path,
		               (long long)version, sc->n_steps);
	if (to->db && log)
		sqlite3_db_config(to->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	return st;
}

static enum wasd_status check_database(struct check *c, struct conn *db, struct wasd_err *err)
{
	struct wasd_err why = {0};
	enum wasd_status st = conn_check(db, true, &why);
	if (st == WASD_ECORRUPT) {
		found(c, true, db->name, why.msg);
		c->damaged = true;
		return WASD_OK;
	}
	return st ? wasd_fail(err, st, "%s", why.msg) : WASD_OK;
}

static enum wasd_status check_references(struct check *c, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(&c->m, "PRAGMA foreign_key_check", &st, err, "");
	while (q_row(&c->m, q, &st, err)) {
		char text[200];
		snprintf(text, sizeof text, "row %lld of %.60s refers to a row of %.60s that is not there",
		         (long long)sqlite3_column_int64(q, 1), q_text(q, 0), q_text(q, 2));
		found(c, true, c->m.name, text);
	}
	q_end(&c->m, q);
	q = q_begin(&c->m, "SELECT id FROM checkpoints WHERE corrupt", &st, err, "");
	while (q_row(&c->m, q, &st, err)) {
		char object[80];
		snprintf(object, sizeof object, "checkpoint/%.60s", q_text(q, 0));
		found(c, true, object, "it was found damaged earlier and is not used");
	}
	q_end(&c->m, q);
	return st;
}

static enum wasd_status check_modes(struct check *c, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(&c->m, "SELECT id,file,bytes,sha256 FROM modes WHERE file IS NOT NULL", &st, err, "");
	while (q_row(&c->m, q, &st, err)) {
		char hex[WASD_SHA256_HEX], object[80];
		const void *data = sqlite3_column_blob(q, 1);
		const int64_t n = sqlite3_column_bytes(q, 1);
		wasd_sha256_of(data ? data : "", (size_t)n, hex);
		snprintf(object, sizeof object, "mode/%.60s", q_text(q, 0));
		if (n != sqlite3_column_int64(q, 2) || !q_text(q, 3) || strcmp(hex, q_text(q, 3)))
			found(c, true, object, "its bytes do not match their digest");
		c->sum->modes++;
	}
	q_end(&c->m, q);
	return st;
}

static enum wasd_status check_dataset(struct check *c, sqlite3_stmt *q, struct wasd_err *err)
{
	char object[160], text[160], *path = wasd_asprintf("%s/%s", c->dir, q_text(q, 2));
	const int64_t bytes = sqlite3_column_int64(q, 3);
	struct wasd_err why = {0};
	struct stat sb;
	enum wasd_status st = WASD_OK;
	if (!path)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	snprintf(object, sizeof object, "dataset/%.100s/%lld", q_text(q, 0), (long long)sqlite3_column_int64(q, 1));
	if (!copy_path_ok(q_text(q, 2)) || lstat(path, &sb) || !S_ISREG(sb.st_mode)) {
		snprintf(text, sizeof text, "its file %.100s is missing", q_text(q, 2));
		found(c, true, object, text);
	} else if (sb.st_size != bytes) {
		snprintf(text, sizeof text, "its file has %lld bytes, its row says %lld", (long long)sb.st_size,
		         (long long)bytes);
		found(c, true, object, text);
	} else if (c->h->dataset && (st = c->h->dataset(c->h->ctx, path, q_text(q, 4), &why)) == WASD_ECORRUPT) {
		found(c, true, object, why.msg);
		st = WASD_OK;
	}
	c->sum->datasets++;
	c->sum->dataset_bytes += bytes;
	wasd_free(path);
	return st ? wasd_fail(err, st, "%s", why.msg) : WASD_OK;
}

static enum wasd_status check_datasets(struct check *c, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		&c->m,
		"SELECT name,version,path,bytes,digest FROM datasets WHERE state='ready' AND path IS NOT NULL ORDER BY name,version",
		&st, err, "");
	while (q_row(&c->m, q, &st, err))
		st = check_dataset(c, q, err);
	q_end(&c->m, q);
	return st;
}

/* ---- what nothing names ---- */

static enum wasd_status orphan_payloads(struct check *c, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(&c->k, "SELECT id,bytes FROM payloads ORDER BY num", &st, err, "");
	while (q_row(&c->k, q, &st, err)) {
		sqlite3_stmt *r = q_begin(&c->m, "SELECT 1 FROM checkpoints WHERE id=?1", &st, err, "t", q_text(q, 0));
		bool listed = q_row(&c->m, r, &st, err);
		q_end(&c->m, r);
		if (listed || st)
			continue;
		char object[80], text[100];
		snprintf(object, sizeof object, "checkpoint/%.60s", q_text(q, 0));
		snprintf(text, sizeof text, "%lld bytes that no checkpoint names", (long long)sqlite3_column_int64(q, 1));
		found(c, false, object, text);
	}
	q_end(&c->k, q);
	return st;
}

static enum wasd_status orphan_files(struct check *c, const char *name, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char *dir = wasd_asprintf("%s/datasets/%s", c->dir, name);
	DIR *d = dir ? opendir(dir) : NULL;
	for (struct dirent *e; !st && d && (e = readdir(d));) {
		char relative[STORAGE_PATH];
		if (e->d_name[0] == '.')
			continue;
		snprintf(relative, sizeof relative, "datasets/%.300s/%.300s", name, e->d_name);
		sqlite3_stmt *q = q_begin(&c->m, "SELECT 1 FROM datasets WHERE path=?1", &st, err, "t", relative);
		if (!q_row(&c->m, q, &st, err) && !st)
			found(c, false, relative, "a file that no dataset names");
		q_end(&c->m, q);
	}
	if (d)
		closedir(d);
	wasd_free(dir);
	return st;
}

static enum wasd_status orphans(struct check *c, struct wasd_err *err)
{
	enum wasd_status st = orphan_payloads(c, err);
	char *top = wasd_asprintf("%s/datasets", c->dir);
	DIR *d = top ? opendir(top) : NULL;
	for (struct dirent *e; !st && d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			st = orphan_files(c, e->d_name, err);
	if (d)
		closedir(d);
	wasd_free(top);
	return st;
}

/* Keeps a daemon out; a backup has no lock file, and none is made. *fd: -1 without one. */
static enum wasd_status lock_out(const char *dir, int *fd, struct wasd_err *err)
{
	char path[STORAGE_PATH + 16];
	snprintf(path, sizeof path, "%s/daemon.lock", dir);
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0)
		return errno == ENOENT ? WASD_OK : wasd_fail_errno(err, errno, "%s", path);
	if (!flock(*fd, LOCK_EX | LOCK_NB))
		return WASD_OK;
	close(*fd);
	*fd = -1;
	return wasd_fail(err, WASD_EBUSY, "%s is in use by a daemon; stop it, or check a backup", dir);
}

enum wasd_status storage_fsck(const char *data_dir, const struct storage_fsck_hooks *h, struct storage_fsck *out,
                              struct wasd_err *err)
{
	struct storage_fsck sum = {0};
	struct check c = {.h = h, .sum = &sum, .m = {.name = schema_main.file}, .k = {.name = schema_ckpt.file}};
	char *real = realpath(data_dir, NULL); /* SQLite is told not to follow links */
	int lock = -1;
	if (!real || strlen(real) >= STORAGE_PATH) {
		free(real);
		return wasd_fail(err, WASD_ENOTFOUND, "%s is not a directory", data_dir);
	}
	c.dir = real;
	enum wasd_status st = lock_out(real, &lock, err);
	if (!st)
		st = open_database(&c, &c.m, &schema_main, err);
	if (!st)
		st = open_database(&c, &c.k, &schema_ckpt, err);
	if (!st)
		st = check_database(&c, &c.m, err);
	if (!st)
		st = check_database(&c, &c.k, err);
	if (!st && !c.damaged) {
		st = check_references(&c, err);
		if (!st)
			st = scrub_payloads(&c.m, &c.k, NULL, payload_fault, &c, &sum.checkpoints, &sum.checkpoint_bytes, err);
		if (!st)
			st = check_modes(&c, err);
		if (!st)
			st = check_datasets(&c, err);
		if (!st)
			st = orphans(&c, err);
	}
	conn_close(&c.m);
	conn_close(&c.k);
	if (lock >= 0)
		close(lock);
	free(real);
	if (!st)
		*out = sum;
	return st;
}
