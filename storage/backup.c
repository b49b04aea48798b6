/* backup.c - copies of both databases and of the dataset files, made while others write.
 *
 * The copies are of one moment: read transactions on both databases begin on the thread that alone adds and removes
 * payloads, so no payload of a listed checkpoint can be missing. The pages are copied from these transactions;
 * writers go on, and their logs are moved without waiting for them (conn.patient). A dataset file that is deleted in
 * the meantime makes the backup begin again, from a moment in which its row is gone too. The directory gets its name
 * once everything has been read back and checked. */
#include "internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PAGES_PER_STEP = 512, TRIES = 5, MANIFEST_VERSION = 1 };

struct run {
	struct storage *s;
	struct conn m, k; /* the snapshots: wasd.db, ckpt.db */
	const char *to;   /* "PATH.partial" */
	cJSON *files;
	int64_t n_files, bytes, checkpoints;
};

/* ---- one moment ---- */

static enum wasd_status take_moment(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct run *r = ctx;
	enum wasd_status st;
	int64_t n = 0;
	(void)s;
	if ((st = conn_exec(&r->m, "BEGIN", err)) || (st = conn_exec(&r->k, "BEGIN", err)))
		return st;
	/* A transaction begins with its first read. */
	if ((st = conn_int(&r->m, "SELECT count(*) FROM checkpoints", &n, err)))
		return st;
	return conn_int(&r->k, "SELECT count(*) FROM payloads", &n, err);
}

static void close_moment(struct run *r)
{
	conn_close(&r->m);
	conn_close(&r->k);
	atomic_store(&r->s->writer.conn.patient, false);
	atomic_store(&r->s->payloads.conn.patient, false);
}

static enum wasd_status open_moment(struct run *r, struct wasd_err *err)
{
	struct storage *s = r->s;
	enum wasd_status st;
	atomic_store(&s->writer.conn.patient, true);
	atomic_store(&s->payloads.conn.patient, true);
	if (!(st = conn_open(&r->m, s->main_path, schema_main.file, true, err)) &&
	    !(st = conn_open(&r->k, s->ckpt_path, schema_ckpt.file, true, err)))
		st = payloads_run(s, take_moment, r, err);
	return st;
}

/* ---- space ---- */

static enum wasd_status check_space(struct run *r, const char *parent, struct wasd_err *err)
{
	int64_t pages = 0, more = 0, files = 0;
	struct statvfs v;
	enum wasd_status st;
	if ((st = conn_int(&r->m, "PRAGMA page_count", &pages, err)) ||
	    (st = conn_int(&r->k, "PRAGMA page_count", &more, err)) ||
	    (st = conn_int(&r->m, "SELECT coalesce(sum(bytes),0) FROM datasets WHERE state='ready'", &files, err)))
		return st;
	const uint64_t need = (uint64_t)(pages * r->m.page_size + more * r->k.page_size + files) +
	                      r->s->opts.low_water_bytes;
	if (!statvfs(parent, &v) && (uint64_t)v.f_bavail * v.f_frsize < need)
		return wasd_fail(err, WASD_EFULL, "%s: %llu MiB free, the backup needs %llu MiB", parent,
		                 (unsigned long long)(((uint64_t)v.f_bavail * v.f_frsize) >> 20),
		                 (unsigned long long)(need >> 20));
	return WASD_OK;
}

/* ---- copying ---- */

static enum wasd_status copy_database(struct run *r, struct conn *from, const char *name, struct wasd_err *err)
{
	struct conn to = {.name = name};
	char *path = wasd_asprintf("%s/%s", r->to, name);
	if (!path)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	enum wasd_status st = WASD_OK;
	if (sqlite3_open_v2(path, &to.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE, NULL) !=
	    SQLITE_OK)
		st = conn_fail(&to, "create", err);
	sqlite3_backup *b = st ? NULL : sqlite3_backup_init(to.db, "main", from->db, "main");
	if (!st && !b)
		st = conn_fail(&to, "backup", err);
	for (int rc = SQLITE_OK; b && rc != SQLITE_DONE && !st;) {
		rc = sqlite3_backup_step(b, PAGES_PER_STEP);
		if (rc != SQLITE_OK && rc != SQLITE_DONE)
			st = wasd_fail(err, (rc & 0xff) == SQLITE_FULL ? WASD_EFULL : WASD_EIO, "copy of %s: %s (SQLite %d)", name,
			               sqlite3_errstr(rc), rc);
		else if (atomic_load(&r->s->backup.stop))
			st = wasd_fail(err, WASD_ECANCELLED, "the daemon is ending");
	}
	if (b && sqlite3_backup_finish(b) != SQLITE_OK && !st)
		st = conn_fail(&to, "backup", err);
	sqlite3_close(to.db);
	wasd_free(path);
	return st;
}

static enum wasd_status list_file(struct run *r, const char *relative, const char *sha256, int64_t bytes,
                                  struct wasd_err *err)
{
	cJSON *f = make_object("sis", "path", relative, "bytes", bytes, "sha256", sha256);
	if (!f || !cJSON_AddItemToArray(r->files, f)) {
		cJSON_Delete(f);
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	r->n_files++;
	r->bytes += bytes;
	return WASD_OK;
}

/* Copies one file, reads the copy back and lists it. */
static enum wasd_status copy_dataset(struct run *r, const char *relative, struct wasd_err *err)
{
	char sha[WASD_SHA256_HEX], again[WASD_SHA256_HEX];
	int64_t bytes, back;
	if (!copy_path_ok(relative))
		return wasd_fail(err, WASD_ECORRUPT, "%.100s is not the path of a dataset file", relative);
	char *from = wasd_asprintf("%s/%s", r->s->dir, relative), *to = wasd_asprintf("%s/%s", r->to, relative);
	char *slash = to ? strrchr(to, '/') : NULL;
	enum wasd_status st = from && to ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st) {
		*slash = 0;
		st = wasd_mkdirs(to, err);
		*slash = '/';
	}
	if (!st)
		st = copy_file(from, to, &r->s->backup.stop, sha, &bytes, err);
	if (!st)
		st = hash_file(to, &r->s->backup.stop, again, &back, err);
	if (!st && strcmp(sha, again))
		st = wasd_fail(err, WASD_ECORRUPT, "%s: the copy differs from what was written", to);
	if (!st) {
		*slash = 0;
		st = wasd_fsync_dir(to, err);
	}
	wasd_free(from);
	wasd_free(to);
	return st ? st : list_file(r, relative, sha, bytes, err);
}

static enum wasd_status copy_datasets(struct run *r, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q =
		q_begin(&r->m, "SELECT DISTINCT path FROM datasets WHERE state='ready' AND path IS NOT NULL ORDER BY path", &st,
	            err, "");
	while (q_row(&r->m, q, &st, err))
		st = copy_dataset(r, q_text(q, 0), err);
	q_end(&r->m, q);
	return st;
}

/* ---- checking the copies ---- */

static void first_fault(void *ctx, const char *object, const char *detail)
{
	struct wasd_err *err = ctx;
	if (!err->status)
		wasd_fail(err, WASD_ECORRUPT, "%s: %s", object, detail);
}

static enum wasd_status check_databases(struct run *r, struct wasd_err *err)
{
	const char *names[] = {schema_main.file, schema_ckpt.file};
	struct conn c[2] = {{.name = names[0]}, {.name = names[1]}};
	struct wasd_err fault = {0};
	enum wasd_status st = WASD_OK;
	int64_t bytes;
	for (int i = 0; i < 2 && !st; i++) {
		char *path = wasd_asprintf("%s/%s", r->to, names[i]);
		st = path ? conn_open(&c[i], path, names[i], false, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
		wasd_free(path);
		if (!st)
			st = conn_check(&c[i], true, err);
	}
	if (!st)
		st = scrub_payloads(&c[0], &c[1], &r->s->backup.stop, first_fault, &fault, &r->checkpoints, &bytes, err);
	if (!st && fault.status) {
		st = fault.status;
		*err = fault;
	}
	conn_close(&c[0]);
	conn_close(&c[1]);
	for (int i = 0; i < 2 && !st; i++) {
		char sha[WASD_SHA256_HEX], *path = wasd_asprintf("%s/%s", r->to, names[i]);
		st = path ? hash_file(path, &r->s->backup.stop, sha, &bytes, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
		wasd_free(path);
		if (!st)
			st = list_file(r, names[i], sha, bytes, err);
	}
	return st;
}

/* ---- the whole ---- */

static enum wasd_status write_manifest(struct run *r, int64_t started_at, struct wasd_err *err)
{
	char when[WASD_RFC3339_LEN], *text = NULL, *path = wasd_asprintf("%s/manifest.json", r->to);
	wasd_rfc3339(started_at, when);
	cJSON *j = make_object("sisssiij", "format", "wasd backup", "version", (int64_t)MANIFEST_VERSION, "made_at", when,
	                       "made_by", "wasd " WASD_VERSION, "data", r->s->dir, "schema", (int64_t)schema_main.n_steps,
	                       "checkpoints", r->checkpoints, "files", r->files);
	r->files = NULL; /* taken */
	text = j ? wasd_json_print(j) : NULL;
	enum wasd_status st = text && path ? wasd_file_write_atomic(path, text, strlen(text), err) :
	                                     wasd_fail(err, WASD_ENOMEM, "no memory for the manifest");
	cJSON_Delete(j);
	wasd_free(text);
	wasd_free(path);
	return st;
}

/* One attempt: fills the directory r->to, which does not exist yet. */
static enum wasd_status fill(struct run *r, const char *parent, struct wasd_err *err)
{
	r->n_files = r->bytes = 0;
	cJSON_Delete(r->files);
	r->files = cJSON_CreateArray();
	enum wasd_status st = r->files ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st && mkdir(r->to, 0750))
		st = errno == EEXIST ?
		         wasd_fail(err, WASD_EEXIST, "%s is there, left by a backup that was interrupted: remove it", r->to) :
		         wasd_fail_errno(err, errno, "%s", r->to);
	if (st)
		return st;
	st = open_moment(r, err);
	if (!st)
		st = check_space(r, parent, err);
	if (!st)
		st = copy_database(r, &r->m, schema_main.file, err);
	if (!st)
		st = copy_datasets(r, err);
	if (!st)
		st = copy_database(r, &r->k, schema_ckpt.file, err);
	close_moment(r);
	if (!st)
		st = check_databases(r, err);
	return st;
}

static enum wasd_status make(struct storage *s, struct storage_backup *b, struct wasd_err *err)
{
	struct run r = {.s = s, .m = {.name = schema_main.file}, .k = {.name = schema_ckpt.file}};
	char parent[STORAGE_PATH], partial[STORAGE_PATH + 16];
	snprintf(parent, sizeof parent, "%s", b->path);
	*strrchr(parent, '/') = 0;
	if (!parent[0])
		strcpy(parent, "/");
	snprintf(partial, sizeof partial, "%s.partial", b->path);
	r.to = partial;
	enum wasd_status st = wasd_mkdirs(parent, err);
	bool ours = false;
	for (int i = 0; i < TRIES && !st; i++) {
		st = fill(&r, parent, err);
		ours = ours || st != WASD_EEXIST;
		if (st != WASD_ENOTFOUND || i + 1 == TRIES) /* a dataset may have been deleted under our hands */
			break;
		st = wasd_remove_tree(partial, err);
	}
	if (!st)
		st = write_manifest(&r, b->started_at, err);
	if (!st)
		st = wasd_fsync_dir(partial, err);
	struct stat there;
	if (!st && !lstat(b->path, &there))
		st = wasd_fail(err, WASD_EEXIST, "%s has appeared meanwhile", b->path);
	if (!st && rename(partial, b->path))
		st = wasd_fail_errno(err, errno, "rename of %s to %s", partial, b->path);
	if (!st)
		st = wasd_fsync_dir(parent, err);
	else if (ours)
		wasd_remove_tree(partial, NULL);
	cJSON_Delete(r.files);
	b->files = r.n_files;
	b->bytes = r.bytes;
	b->checkpoints = r.checkpoints;
	return st;
}

/* ---- the thread ---- */

struct task {
	struct storage *s;
	struct storage_backup b;
	char actor[128];
};

static cJSON *backup_object(const struct storage_backup *b)
{
	return make_object("ssoiii", "path", b->path, "state", b->state, "message", b->message[0] ? b->message : NULL,
	                   "files", b->files, "bytes", b->bytes, "checkpoints", b->checkpoints);
}

static enum wasd_status record_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct task *t = ctx;
	cJSON *j = backup_object(&t->b);
	char *text = j ? wasd_json_print(j) : NULL;
	enum wasd_status st =
		text ?
			audit_put(s, &(struct audit_in){.actor = t->actor, .action = "backup", .object = "backup", .after = text},
	                  NULL, err) :
			wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(text);
	if (st) {
		cJSON_Delete(j);
		return st;
	}
	return event_put(s, "system", "system.backup", "backup", j, err);
}

static void *backup_main(void *arg)
{
	struct task *t = arg;
	struct storage *s = t->s;
	struct wasd_err err = {0};
	t->b.status = make(s, &t->b, &err);
	t->b.finished_at = wasd_now_ms();
	snprintf(t->b.state, sizeof t->b.state, "%s", t->b.status ? "failed" : "done");
	snprintf(t->b.message, sizeof t->b.message, "%s", t->b.status ? err.msg : "");
	pthread_mutex_lock(&s->backup.lock);
	s->backup.now = t->b;
	pthread_mutex_unlock(&s->backup.lock);
	write_op(s, record_tx, t, NULL); /* after the state, because the event wakes those who wait for it */
	pthread_mutex_lock(&s->backup.lock);
	s->backup.recorded = true;
	pthread_cond_broadcast(&s->backup.changed);
	pthread_mutex_unlock(&s->backup.lock);
	wasd_free(t);
	return NULL;
}

static enum wasd_status name_it(struct storage *s, const char *path, int64_t now, char out[STORAGE_PATH],
                                struct wasd_err *err)
{
	char when[WASD_RFC3339_LEN];
	struct stat sb;
	wasd_rfc3339(now, when);
	for (char *p = when; *p; p++)
		if (*p == ':')
			*p = '-'; /* a name that every file system and shell takes */
	int n = path ? snprintf(out, STORAGE_PATH, "%s", path) :
	               snprintf(out, STORAGE_PATH, "%s/backups/%.19sZ", s->dir, when);
	while (n > 1 && n < STORAGE_PATH && out[n - 1] == '/')
		out[--n] = 0;
	if (n >= STORAGE_PATH - 16)
		return wasd_fail_at(err, WASD_EINVAL, "/path", "the path is longer than %d bytes", STORAGE_PATH - 16);
	if (out[0] != '/' || n < 2 || !copy_path_ok(out + 1))
		return wasd_fail_at(err, WASD_EINVAL, "/path",
		                    "%.200s is not an absolute path without the parts \".\" and \"..\"", out);
	if (!lstat(out, &sb))
		return wasd_fail_at(err, WASD_EEXIST, "/path", "%s exists; give the name of a new directory", out);
	size_t k = strlen(s->dir);
	if (path && !strncmp(out, s->dir, k) && out[k] == '/' && strncmp(out + k, "/backups/", 9))
		return wasd_fail_at(err, WASD_EINVAL, "/path",
		                    "%s lies in the data directory; only %s/backups/ may hold backups", out, s->dir);
	return WASD_OK;
}

enum wasd_status storage_backup_start(struct storage *s, const char *path, const char *actor,
                                      struct storage_backup *out, struct wasd_err *err)
{
	struct backup_state *bs = &s->backup;
	struct task *t = wasd_calloc(1, sizeof *t);
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	t->s = s;
	t->b = (struct storage_backup){.state = "running", .started_at = wasd_now_ms()};
	snprintf(t->actor, sizeof t->actor, "%s", actor);
	enum wasd_status st = name_it(s, path, t->b.started_at, t->b.path, err);
	pthread_mutex_lock(&bs->lock);
	if (!st && atomic_load(&bs->stop))
		st = wasd_fail(err, WASD_ECANCELLED, "the store is closing");
	if (!st && bs->started && !bs->recorded && !strcmp(bs->now.state, "running"))
		st = wasd_fail(err, WASD_EBUSY, "a backup to %s is running", bs->now.path);
	while (!st && bs->started && !bs->recorded) /* it has only its record left to write */
		pthread_cond_wait(&bs->changed, &bs->lock);
	if (!st && bs->started && !bs->joined)
		pthread_join(bs->thread, NULL), bs->joined = true;
	if (!st) {
		const struct storage_backup before = bs->now;
		bs->now = t->b;
		if (out)
			*out = t->b;
		int rc = pthread_create(&bs->thread, NULL, backup_main, t);
		if (rc) {
			bs->now = before;
			st = wasd_fail_errno(err, rc, "backup thread");
		} else {
			bs->started = true;
			bs->joined = bs->recorded = false;
			t = NULL;
		}
	}
	pthread_mutex_unlock(&bs->lock);
	wasd_free(t);
	return st;
}

bool storage_backup_last(struct storage *s, struct storage_backup *out)
{
	pthread_mutex_lock(&s->backup.lock);
	*out = s->backup.now;
	pthread_mutex_unlock(&s->backup.lock);
	return out->state[0] != 0;
}

enum wasd_status storage_backup_wait(struct storage *s, struct storage_backup *out, struct wasd_err *err)
{
	struct backup_state *bs = &s->backup;
	pthread_mutex_lock(&bs->lock);
	while (bs->started && !bs->recorded)
		pthread_cond_wait(&bs->changed, &bs->lock);
	struct storage_backup b = bs->now;
	pthread_mutex_unlock(&bs->lock);
	if (out)
		*out = b;
	return b.status ? wasd_fail(err, b.status, "%s", b.message) : WASD_OK;
}

void backup_init(struct storage *s)
{
	pthread_mutex_init(&s->backup.lock, NULL);
	pthread_cond_init(&s->backup.changed, NULL);
}

void backup_stop(struct storage *s)
{
	struct backup_state *bs = &s->backup;
	pthread_mutex_lock(&bs->lock);
	atomic_store(&bs->stop, true);
	const bool join = bs->started && !bs->joined;
	bs->joined = true;
	pthread_mutex_unlock(&bs->lock);
	if (join)
		pthread_join(bs->thread, NULL);
}

void backup_done(struct storage *s)
{
	pthread_mutex_destroy(&s->backup.lock);
	pthread_cond_destroy(&s->backup.changed);
}
