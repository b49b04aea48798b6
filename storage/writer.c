/* writer.c - the thread that writes wasd.db and moves its log.
 *
 * Calls queue an op and wait (or leave a callback). The thread takes queued ops, up to 64 or 5 ms of work, and runs
 * them in one BEGIN IMMEDIATE ... COMMIT, each in its own savepoint so that a failed one does not affect the others.
 * Success is reported only after the COMMIT has returned, which with synchronous=FULL is after the fdatasync of the
 * log.
 *
 * Invariants: a failed COMMIT is never retried. An I/O error, a corrupt page or a database file that is no longer at
 * its path sets `failed`, after which every op is refused. A full disk fails only the ops of that transaction. */
#include "internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH_OPS = 64, BATCH_US = 5000 };

/* The store whose transaction this thread is in, and the store whose writer it is. */
static _Thread_local const struct storage *inside, *writer_of;

bool in_transaction(const struct storage *s)
{
	return inside == s;
}

void storage_mark_failed(struct storage *s, const char *message)
{
	pthread_mutex_lock(&s->stats_lock);
	if (!atomic_load(&s->failed))
		snprintf(s->stats.message, sizeof s->stats.message, "%s", message);
	pthread_mutex_unlock(&s->stats_lock);
	atomic_store(&s->failed, true);
}

enum wasd_status tx_drop_payload(struct storage *s, const char *id, struct wasd_err *err)
{
	struct writer *w = &s->writer;
	char **slot = array_push((void **)&w->dropped, &w->n_dropped, sizeof *slot);
	if (slot && (*slot = wasd_strdup(id)))
		return WASD_OK;
	if (slot)
		w->n_dropped--;
	return wasd_fail(err, WASD_ENOMEM, "no memory");
}

static void forget_dropped(struct writer *w, size_t from)
{
	while (w->n_dropped > from)
		wasd_free(w->dropped[--w->n_dropped]);
	if (from)
		return;
	wasd_free(w->dropped);
	w->dropped = NULL;
}

/* Runs fn in a savepoint; rolls everything back when fn fails. */
enum wasd_status tx_try(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err)
{
	struct writer *w = &s->writer;
	const int64_t last_event = w->last_event;
	const size_t n_dropped = w->n_dropped;
	enum wasd_status st = q_run(&w->conn, "SAVEPOINT op", err, "");
	if (st)
		return st;
	st = fn(s, ctx, err);
	if (!st)
		st = q_run(&w->conn, "RELEASE op", err, "");
	if (!st)
		return WASD_OK;
	if (!sqlite3_get_autocommit(
			w->conn.db)) { /* SQLite may already have rolled back everything (disk full, I/O error) */
		struct wasd_err e2;
		if (q_run(&w->conn, "ROLLBACK TO op", &e2, "") || q_run(&w->conn, "RELEASE op", &e2, ""))
			w->conn.io_error = true;
	}
	w->last_event = last_event;
	forget_dropped(w, n_dropped);
	return st;
}

/* ---- the thread ---- */

static void count_commit(struct storage *s, int64_t us)
{
	static const int64_t edges[STORAGE_COMMIT_BUCKETS - 1] = {1000, 2000, 5000, 10000, 50000, 100000, 500000};
	int b = 0;
	while (b < STORAGE_COMMIT_BUCKETS - 1 && us > edges[b])
		b++;
	pthread_mutex_lock(&s->stats_lock);
	s->stats.commits++;
	s->stats.commit_us += (uint64_t)us;
	s->stats.commit_hist[b]++;
	pthread_mutex_unlock(&s->stats_lock);
}

static enum wasd_status commit(struct storage *s, struct wasd_err *err)
{
	struct writer *w = &s->writer;
	int64_t t0 = wasd_mono_us();
	enum wasd_status st = q_run(&w->conn, "COMMIT", err, "");
	if (!st)
		count_commit(s, wasd_mono_us() - t0);
	return st;
}

static enum wasd_status still_our_file(struct storage *s, struct wasd_err *err)
{
	struct stat st;
	if (!stat(s->main_path, &st) && st.st_dev == s->writer.dev && st.st_ino == s->writer.ino)
		return WASD_OK;
	s->writer.conn.io_error = true;
	return wasd_fail(err, WASD_EIO, "%s was removed or replaced while it was open", s->main_path);
}

static void finish(struct storage *s, struct op *o)
{
	if (o->status && o->status != WASD_OK &&
	    (o->status == WASD_EIO || o->status == WASD_EFULL || o->status == WASD_ECORRUPT)) {
		pthread_mutex_lock(&s->stats_lock);
		if (!atomic_load(&s->failed))
			memcpy(s->stats.message, o->err.msg, sizeof s->stats.message);
		pthread_mutex_unlock(&s->stats_lock);
	}
	if (o->status == WASD_EFULL && !*o->err.pointer)
		disk_refused(s, 0);
	if (o->heap) {
		if (o->done)
			o->done(o->ctx, o->status, &o->err);
		wasd_free(o);
		return;
	}
	pthread_mutex_lock(&s->writer.lock);
	o->finished = true;
	pthread_cond_signal(&o->cond);
	pthread_mutex_unlock(&s->writer.lock);
}

/* Runs ops from *list in one transaction; ops that were not run stay in *list. Returns the finished ones. */
static struct op *run_batch(struct storage *s, struct op **list)
{
	struct writer *w = &s->writer;
	struct op *done = *list, **end = list;
	struct wasd_err err = {0};
	enum wasd_status st = atomic_load(&s->failed) ? wasd_fail(&err, WASD_EIO, "writes are stopped after an I/O error") :
	                                                still_our_file(s, &err);
	if (!st)
		st = q_run(&w->conn, "BEGIN IMMEDIATE", &err, "");
	const int64_t t0 = wasd_mono_us();
	bool any = false;
	w->last_event = 0;
	inside = s;
	for (int n = 0; *end && n < BATCH_OPS; end = &(*end)->next, n++) {
		struct op *o = *end;
		if (n && wasd_mono_us() - t0 > BATCH_US)
			break;
		if (st)
			continue;
		o->status = tx_try(s, o->fn, o->ctx, &o->err);
		any |= o->status == WASD_OK;
		if (w->conn.io_error || sqlite3_get_autocommit(w->conn.db)) {
			st = o->status ? o->status : WASD_EIO;
			err = o->err;
		}
	}
	inside = NULL;
	*list = *end;
	*end = NULL;
	if (!st && any)
		st = commit(s, &err);
	if ((st || !any) && !sqlite3_get_autocommit(w->conn.db))
		q_run(&w->conn, "ROLLBACK", NULL, "");
	if (w->conn.io_error)
		storage_mark_failed(s, err.msg);
	if (st) {
		for (struct op *o = done; o; o = o->next)
			if (!o->status)
				o->status = st, o->err = err;
		w->last_event = 0;
		forget_dropped(w, 0);
	}
	return done;
}

static void after_commit(struct storage *s)
{
	struct writer *w = &s->writer;
	for (size_t i = 0; i < w->n_dropped; i++)
		payload_drop_async(s, w->dropped[i]);
	w->n_dropped = 0;
	forget_dropped(w, 0);
	if (w->last_event && s->on_events)
		s->on_events(s->on_events_ctx, w->last_event);
	w->last_event = 0;
}

/* The deletes and urgent ops that failed on a full disk run again after the ballast is released. */
static void retry_with_ballast(struct storage *s, struct op *done)
{
	bool released = false;
	for (struct op *o = done; o; o = o->next) {
		if (o->status != WASD_EFULL || !(o->frees_space || o->urgent))
			continue;
		released = released || ballast_release(s);
		if (!released)
			continue;
		struct op *rest = o->next, *alone = o;
		o->next = NULL;
		o->status = WASD_OK;
		run_batch(s, &alone);
		o->next = rest;
		if (!o->status)
			after_commit(s);
	}
}

static void serve(struct storage *s, struct op *list)
{
	struct writer *w = &s->writer;
	while (list) {
		bool freed = false;
		struct op *done = run_batch(s, &list);
		after_commit(s);
		retry_with_ballast(s, done);
		if (w->shorten) {
			w->shorten = false;
			writer_shorten(s);
		}
		for (struct op *next; done; done = next) {
			next = done->next;
			freed |= done->frees_space && !done->status;
			finish(s, done);
		}
		if (freed && disk_scarce(s))
			writer_give_back(s);
		if (freed)
			ballast_restore(s);
		struct wasd_err err;
		if (!atomic_load(&s->failed) && conn_checkpoint(&w->conn, &err))
			storage_mark_failed(s, err.msg);
	}
}

static void *writer_main(void *arg)
{
	struct storage *s = arg;
	struct writer *w = &s->writer;
	writer_of = s;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->head && !w->closing)
			pthread_cond_wait(&w->wake, &w->lock);
		struct op *list = w->head;
		if (!list)
			break;
		w->head = NULL;
		w->tail = &w->head;
		w->queued = 0;
		pthread_mutex_unlock(&w->lock);
		serve(s, list);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

enum wasd_status writer_start(struct storage *s, struct wasd_err *err)
{
	struct writer *w = &s->writer;
	struct stat st;
	if (stat(s->main_path, &st))
		return wasd_fail_errno(err, errno, "%s", s->main_path);
	w->dev = st.st_dev;
	w->ino = st.st_ino;
	int rc = pthread_create(&w->thread, NULL, writer_main, s);
	if (rc)
		return wasd_fail_errno(err, rc, "writer thread");
	w->running = true;
	return WASD_OK;
}

void writer_stop(struct storage *s)
{
	struct writer *w = &s->writer;
	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	w->closing = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->running = false;
}

/* ---- calls ---- */

static void enqueue(struct writer *w, struct op *o)
{
	*w->tail = o;
	w->tail = &o->next;
	w->queued++;
	pthread_cond_signal(&w->wake);
}

enum op_kind { OP_WRITE, OP_DELETE, OP_URGENT };

static enum wasd_status run_op(struct storage *s, storage_tx_fn *fn, void *ctx, enum op_kind kind, struct wasd_err *err)
{
	if (in_transaction(s))
		return tx_try(s, fn, ctx, err);
	if (writer_of == s)
		return wasd_fail(err, WASD_EINTERNAL,
		                 "a callback on the writer's thread must not wait for a write"); /* it would wait for itself */
	struct writer *w = &s->writer;
	struct op o = {.fn = fn, .ctx = ctx, .frees_space = kind == OP_DELETE, .urgent = kind == OP_URGENT};
	pthread_cond_init(&o.cond, NULL);
	pthread_mutex_lock(&w->lock);
	enqueue(w, &o);
	while (!o.finished)
		pthread_cond_wait(&o.cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	pthread_cond_destroy(&o.cond);
	if (o.status && err) {
		*err = o.err;
		err->status = o.status;
	}
	return o.status;
}

enum wasd_status write_op(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err)
{
	return run_op(s, fn, ctx, OP_WRITE, err);
}
enum wasd_status delete_op(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err)
{
	return run_op(s, fn, ctx, OP_DELETE, err);
}
enum wasd_status urgent_op(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err)
{
	return run_op(s, fn, ctx, OP_URGENT, err);
}
enum wasd_status storage_tx(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err)
{
	return run_op(s, fn, ctx, OP_WRITE, err);
}

void storage_tx_async(struct storage *s, storage_tx_fn *fn, void *ctx, storage_done_fn *done)
{
	struct writer *w = &s->writer;
	struct op *o = wasd_calloc(1, sizeof *o);
	if (!o) {
		struct wasd_err err;
		enum wasd_status st = wasd_fail(&err, WASD_ENOMEM, "no memory to queue a write");
		if (done)
			done(ctx, st, &err);
		return;
	}
	*o = (struct op){.fn = fn, .ctx = ctx, .done = done, .heap = true};
	pthread_mutex_lock(&w->lock);
	enqueue(w, o);
	pthread_mutex_unlock(&w->lock);
}
