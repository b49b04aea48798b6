/* open.c - opening and closing the store, its lock, readers and health. */
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- readers ---- */

enum wasd_status readers_open(struct readers *r, unsigned n, const char *path, const char *name, struct wasd_err *err)
{
	r->all = wasd_calloc(n, sizeof *r->all);
	r->idle = wasd_calloc(n, sizeof *r->idle);
	if (!r->all || !r->idle)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", name);
	for (; r->n < n; r->n++) {
		enum wasd_status st = conn_open(&r->all[r->n], path, name, true, err);
		if (st)
			return st;
		r->idle[r->n_idle++] = &r->all[r->n];
	}
	return WASD_OK;
}

void readers_close(struct readers *r)
{
	for (unsigned i = 0; i < r->n; i++)
		conn_close(&r->all[i]);
	wasd_free(r->all);
	wasd_free(r->idle);
	r->all = NULL;
	r->idle = NULL;
	r->n = r->n_idle = 0;
}

struct conn *readers_take(struct readers *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->n_idle)
		pthread_cond_wait(&r->free, &r->lock);
	struct conn *c = r->idle[--r->n_idle];
	pthread_mutex_unlock(&r->lock);
	return c;
}

void readers_give(struct readers *r, struct conn *c)
{
	pthread_mutex_lock(&r->lock);
	r->idle[r->n_idle++] = c;
	pthread_cond_signal(&r->free);
	pthread_mutex_unlock(&r->lock);
}

struct conn *read_begin(struct storage *s)
{
	return in_transaction(s) ? tx_conn(s) : readers_take(&s->readers);
}

void read_end(struct storage *s, struct conn *c)
{
	if (c != tx_conn(s))
		readers_give(&s->readers, c);
}

/* ---- the lock file ----
 *
 * flock excludes a second process, and the lock ends with its owner. The text in the file says whether the last
 * owner closed the store. If it did not, there is a log beside wasd.db; when that log is missing, somebody has
 * removed acknowledged rows. */

static enum wasd_status lock_dir(struct storage *s, bool *was_running, struct wasd_err *err)
{
	char text[64] = "";
	s->lock_fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (s->lock_fd < 0)
		return wasd_fail_errno(err, errno, "%s", s->lock_path);
	bool locked = flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0;
	int e = errno;
	ssize_t k = pread(s->lock_fd, text, sizeof text - 1, 0);
	text[k > 0 ? k : 0] = 0;
	if (!locked && e == EWOULDBLOCK)
		return wasd_fail(err, WASD_EBUSY, "%s is in use by another wasd (process %d)", s->dir,
		                 strncmp(text, "running ", 8) ? 0 : atoi(text + 8));
	if (!locked)
		return wasd_fail_errno(err, e, "lock of %s", s->lock_path);
	*was_running = !strncmp(text, "running ", 8);
	return WASD_OK;
}

static enum wasd_status write_lock_text(struct storage *s, bool running, struct wasd_err *err)
{
	char text[64];
	int n = running ? snprintf(text, sizeof text, "running %d\n", (int)getpid()) :
	                  snprintf(text, sizeof text, "closed\n");
	/* In this order it needs no room on a full disk. */
	if (pwrite(s->lock_fd, text, (size_t)n, 0) != n || ftruncate(s->lock_fd, n) || fsync(s->lock_fd))
		return wasd_fail_errno(err, errno, "%s", s->lock_path);
	return WASD_OK;
}

/* ---- open ---- */

static bool exists(const char *path, const char *tail)
{
	char p[PATH_MAX];
	struct stat st;
	return snprintf(p, sizeof p, "%s%s", path, tail) < (int)sizeof p && lstat(p, &st) == 0;
}

/* Refuses every state of the directory in which going on could hide lost rows. Changes nothing. */
static enum wasd_status inspect(struct storage *s, bool was_running, struct wasd_err *err)
{
	enum wasd_status st;
	if (!exists(s->main_path, "")) {
		if (exists(s->main_path, "-wal") || exists(s->ckpt_path, ""))
			return wasd_fail(err, WASD_ECORRUPT,
			                 "%s is missing but %s is there: restore it, or move the rest away to start empty",
			                 s->main_path, exists(s->ckpt_path, "") ? "ckpt.db" : "its log");
		return WASD_OK;
	}
	if ((st = schema_inspect(&schema_main, s->main_path, err)))
		return st;
	if (exists(s->ckpt_path, "") && (st = schema_inspect(&schema_ckpt, s->ckpt_path, err)))
		return st;
	if (was_running && !exists(s->main_path, "-wal"))
		return wasd_fail(
			err, WASD_ECORRUPT,
			"%s-wal is missing although the last run did not close: acknowledged rows would be lost. Restore it, or remove %s to go on without it",
			s->main_path, s->lock_path);
	return WASD_OK;
}

static enum wasd_status open_one(const struct schema *sc, const char *path, struct conn *c, bool check,
                                 struct wasd_err *err)
{
	enum wasd_status st = conn_open(c, path, sc->file, false, err);
	if (st)
		return st;
	/* A refusal must not change the file, so closing must not move the log into it. */
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (check)
		st = conn_check(c, false, err);
	if (!st)
		st = schema_migrate(sc, c, err);
	if (!st)
		sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	else
		conn_close(c);
	return st;
}

static enum wasd_status open_files(struct storage *s, struct wasd_err *err)
{
	/* Checkpoint bytes have their own digests; reading gigabytes of them at every start would only delay it. */
	enum { CHECK_CKPT_BELOW = 256 << 20 };
	enum wasd_status st;
	struct stat sb;
	int64_t n = 0;
	if (!exists(s->main_path, "") &&
	    ((st = schema_create(&schema_main, s->main_path, err)) || (st = wasd_fsync_dir(s->dir, err))))
		return st;
	if ((st = open_one(&schema_main, s->main_path, &s->writer.conn, true, err)))
		return st;
	if (!exists(s->ckpt_path, "")) {
		if ((st = conn_int(&s->writer.conn, "SELECT count(*) FROM checkpoints WHERE NOT corrupt", &n, err)))
			return st;
		if (n)
			return wasd_fail(err, WASD_ECORRUPT, "%s is missing but %lld checkpoints are listed: restore it",
			                 s->ckpt_path, (long long)n);
		if ((st = schema_create(&schema_ckpt, s->ckpt_path, err)) || (st = wasd_fsync_dir(s->dir, err)))
			return st;
	}
	if (stat(s->ckpt_path, &sb))
		return wasd_fail_errno(err, errno, "%s", s->ckpt_path);
	return open_one(&schema_ckpt, s->ckpt_path, &s->payloads.conn, sb.st_size < CHECK_CKPT_BELOW, err);
}

static enum wasd_status make_paths(struct storage *s, const char *data_dir, struct wasd_err *err)
{
	enum wasd_status st = wasd_mkdirs(data_dir, err);
	if (st)
		return st;
	char *real = realpath(data_dir, NULL); /* SQLite is told not to follow links */
	if (!real)
		return wasd_fail_errno(err, errno, "%s", data_dir);
	s->dir = wasd_strdup(real);
	free(real);
	if (!s->dir || !(s->main_path = wasd_asprintf("%s/%s", s->dir, schema_main.file)) ||
	    !(s->ckpt_path = wasd_asprintf("%s/%s", s->dir, schema_ckpt.file)) ||
	    !(s->ballast_path = wasd_asprintf("%s/ballast", s->dir)) ||
	    !(s->lock_path = wasd_asprintf("%s/daemon.lock", s->dir)))
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", data_dir);
	return WASD_OK;
}

static void init_locks(struct storage *s)
{
	pthread_mutex_init(&s->holders_lock, NULL);
	pthread_mutex_init(&s->stats_lock, NULL);
	pthread_mutex_init(&s->disk.lock, NULL);
	pthread_mutex_init(&s->writer.lock, NULL);
	pthread_cond_init(&s->writer.wake, NULL);
	s->writer.tail = &s->writer.head;
	pthread_mutex_init(&s->payloads.lock, NULL);
	pthread_cond_init(&s->payloads.wake, NULL);
	s->payloads.tail = &s->payloads.head;
	pthread_mutex_init(&s->readers.lock, NULL);
	pthread_cond_init(&s->readers.free, NULL);
	pthread_mutex_init(&s->payloads.readers.lock, NULL);
	pthread_cond_init(&s->payloads.readers.free, NULL);
	backup_init(s);
}

static struct storage_opts with_defaults(const struct storage_opts *opts)
{
	struct storage_opts o = opts ? *opts : (struct storage_opts){0};
	if (!o.ballast_bytes)
		o.ballast_bytes = 64 << 20;
	if (!o.log_lines)
		o.log_lines = 10000;
	if (!o.event_rows)
		o.event_rows = 100000;
	if (!o.readers)
		o.readers = 4;
	return o;
}

enum wasd_status storage_open(const char *data_dir, const struct storage_opts *opts, struct storage **out,
                              struct wasd_err *err)
{
	struct storage *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", data_dir);
	atomic_init(&s->sweeps_due, true);
	atomic_init(&s->sweeps_no_room, false);
	s->lock_fd = -1;
	s->opts = with_defaults(opts);
	init_locks(s);
	bool was_running = false;
	enum wasd_status st = make_paths(s, data_dir, err);
	if (!st)
		st = lock_dir(s, &was_running, err);
	if (!st)
		disk_init(s);
	if (!st)
		st = inspect(s, was_running, err);
	if (!st)
		st = open_files(s, err);
	if (!st) {
		disk_make_room(s);
		st = payloads_collect(s, err);
	}
	if (!st) { /* a killed daemon leaves its logs as long as they were */
		writer_shorten(s);
		payloads_shorten(s);
	}
	if (!st)
		st = readers_open(&s->readers, s->opts.readers, s->main_path, schema_main.file, err);
	if (!st)
		st = readers_open(&s->payloads.readers, 2, s->ckpt_path, schema_ckpt.file, err);
	if (!st)
		st = write_lock_text(s, true, err);
	if (!st)
		st = writer_start(s, err);
	if (!st)
		st = payloads_start(s, err);
	if (st) {
		storage_close(s);
		return st;
	}
	ballast_restore(s);
	*out = s;
	return WASD_OK;
}

/* After an I/O error the next start must read the log as it is, so nothing is moved out of it any more. */
static void keep_logs(struct storage *s)
{
	struct conn *both[] = {&s->writer.conn, &s->payloads.conn};
	for (int i = 0; i < 2; i++)
		if (both[i]->db)
			sqlite3_db_config(both[i]->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}

void storage_close(struct storage *s)
{
	if (!s)
		return;
	bool was_open = s->payloads.running;
	backup_stop(s);
	payloads_stop(s); /* first, because it writes through the writer */
	writer_stop(s);
	if (was_open && !atomic_load(&s->failed))
		write_lock_text(s, false, NULL); /* before the log is removed: see inspect() */
	else
		keep_logs(s);
	readers_close(&s->readers);
	readers_close(&s->payloads.readers);
	conn_close(&s->writer.conn);
	conn_close(&s->payloads.conn);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	pthread_mutex_destroy(&s->holders_lock);
	pthread_mutex_destroy(&s->stats_lock);
	pthread_mutex_destroy(&s->disk.lock);
	pthread_mutex_destroy(&s->writer.lock);
	pthread_cond_destroy(&s->writer.wake);
	pthread_mutex_destroy(&s->payloads.lock);
	pthread_cond_destroy(&s->payloads.wake);
	pthread_mutex_destroy(&s->readers.lock);
	pthread_cond_destroy(&s->readers.free);
	pthread_mutex_destroy(&s->payloads.readers.lock);
	pthread_cond_destroy(&s->payloads.readers.free);
	backup_done(s);
	wasd_free(s->dir);
	wasd_free(s->main_path);
	wasd_free(s->ckpt_path);
	wasd_free(s->ballast_path);
	wasd_free(s->lock_path);
	wasd_free(s);
}

/* ---- health ---- */

bool storage_failed(struct storage *s)
{
	return atomic_load(&s->failed);
}

static uint64_t file_bytes(const char *path, const char *tail)
{
	char p[PATH_MAX];
	struct stat st;
	return snprintf(p, sizeof p, "%s%s", path, tail) < (int)sizeof p && stat(p, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void storage_health(struct storage *s, struct storage_health *out)
{
	struct storage_health h;
	pthread_mutex_lock(&s->stats_lock);
	h = s->stats;
	pthread_mutex_unlock(&s->stats_lock);
	h.failed = atomic_load(&s->failed);
	h.db_bytes = file_bytes(s->main_path, "");
	h.wal_bytes = file_bytes(s->main_path, "-wal");
	h.ckpt_bytes = file_bytes(s->ckpt_path, "");
	pthread_mutex_lock(&s->writer.lock);
	h.queued_writes = s->writer.queued;
	pthread_mutex_unlock(&s->writer.lock);
	*out = h;
}

enum wasd_status storage_check(struct storage *s, bool full, struct wasd_err *err)
{
	struct conn *c = readers_take(&s->readers);
	enum wasd_status st = conn_check(c, full, err);
	readers_give(&s->readers, c);
	if (st)
		return st;
	c = readers_take(&s->payloads.readers);
	st = conn_check(c, full, err);
	readers_give(&s->payloads.readers, c);
	return st;
}

/* ---- small things ---- */

bool id_ok(const char *id, const char *prefix)
{
	size_t n = strlen(prefix);
	return id && !strncmp(id, prefix, n) && strlen(id) == n + WASD_ULID_LEN &&
	       strspn(id + n, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == WASD_ULID_LEN;
}

enum wasd_status page_check(struct storage_page *p, const char *prefix, struct wasd_err *err)
{
	if (p->limit == 0)
		p->limit = 50;
	if (p->limit < 0 || p->limit > 500)
		return wasd_fail_at(err, WASD_EINVAL, "/limit", "limit is %d, 1 to 500 is possible", p->limit);
	if (p->cursor && !id_ok(p->cursor, prefix))
		return wasd_fail_at(err, WASD_EINVAL, "/cursor", "the cursor does not come from this list");
	return WASD_OK;
}
