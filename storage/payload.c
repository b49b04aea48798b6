/* payload.c - the bytes of checkpoints: rows of 1 MiB in ckpt.db, written by a separate thread so that metrics never
 * wait.
 *
 * Storing: (1) check the announced SHA-256; (2) write chunks, at most 16 per transaction, the last of which sets
 * complete = 1; (3) only then list the checkpoint in wasd.db. A crash in (2) or before (3) leaves an orphan, which
 * the next start removes. Removal works in the opposite order: first the row in wasd.db, then the bytes. */
#include "internal.h"
#include "ckpt_rows.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNKS_PER_TX = 16, VACUUM_ABOVE = 64 << 20 };

/* payloads_run: lives on the caller's stack. */
struct call {
	payloads_fn *fn;
	void *ctx;
	enum wasd_status status;
	struct wasd_err *err;
	bool finished; /* with payloads.lock */
	pthread_cond_t cond;
};

struct payload_job {
	struct payload_job *next;
	struct call *call;         /* to run, or NULL */
	char *drop;                /* id to remove, or NULL: store `in` */
	struct storage_ckpt_in in; /* strings point into `strings` */
	char *strings;
	struct storage_metric *metrics;
	storage_ckpt_done_fn *done;
	void *ctx;
};

/* ---- writing ---- */

static enum wasd_status write_chunks(struct conn *c, int64_t num, const char *data, size_t bytes, size_t from,
                                     size_t to, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	for (size_t n = from; n < to && !st; n++) {
		char hex[WASD_SHA256_HEX];
		size_t at = n * CHUNK, len = bytes - at < CHUNK ? bytes - at : CHUNK;
		wasd_sha256_of(data + at, len, hex);
		st = q_run(c, "INSERT INTO chunks(payload,n,sha256,data) VALUES(?1,?2,?3,?4)", err, "iitb", num, (int64_t)n,
		           hex, data + at, len);
	}
	return st;
}

static enum wasd_status remove_payload(struct conn *c, const char *id, struct wasd_err *err)
{
	return q_run(c, "DELETE FROM payloads WHERE id=?1", err, "t", id);
}

/* All transactions of one payload. After a failure the chunks are removed at once if possible, else at the next
 * start. */
static enum wasd_status write_payload(struct storage *s, const char *id, const struct storage_ckpt_in *in,
                                      struct wasd_err *err)
{
	struct conn *c = &s->payloads.conn;
	const size_t chunks = in->bytes / CHUNK + (in->bytes % CHUNK != 0);
	int64_t num = 0;
	enum wasd_status st = WASD_OK;
	size_t n = 0;
	do {
		size_t to = n + CHUNKS_PER_TX < chunks ? n + CHUNKS_PER_TX : chunks;
		if ((st = q_run(c, "BEGIN IMMEDIATE", err, "")))
			break;
		if (n == 0) {
			st = q_run(c, "INSERT INTO payloads(id,bytes,sha256,complete) VALUES(?1,?2,?3,0)", err, "tit", id,
			           (int64_t)in->bytes, in->sha256);
			num = sqlite3_last_insert_rowid(c->db);
		}
		if (!st)
			st = write_chunks(c, num, in->data, in->bytes, n, to, err);
		if (!st && to == chunks)
			st = q_run(c, "UPDATE payloads SET complete=1 WHERE num=?1", err, "i", num);
		if (!st)
			st = q_run(c, "COMMIT", err, "");
		if (st && !sqlite3_get_autocommit(c->db))
			q_run(c, "ROLLBACK", NULL, "");
		if (!st)
			st = conn_checkpoint(c, err);
		n = to;
	} while (n < chunks && !st);
	if (st == WASD_EFULL)
		disk_refused(s, in->bytes);
	if (c->io_error)
		storage_mark_failed(s, err->msg);
	else if (st)
		remove_payload(c, id, NULL);
	return st;
}

static enum wasd_status store(struct storage *s, const struct storage_ckpt_in *in, char id[32], struct wasd_err *err)
{
	char hex[WASD_SHA256_HEX];
	enum wasd_status st;
	if (atomic_load(&s->failed))
		return wasd_fail(err, WASD_EIO, "writes are stopped after an I/O error");
	wasd_sha256_of(in->data, in->bytes, hex);
	if (strcmp(hex, in->sha256))
		return wasd_fail(err, WASD_ECORRUPT,
		                 "checkpoint of job %s, epoch %lld: its bytes have SHA-256 %.16s..., announced was %.16s...",
		                 in->job ? in->job : "(none)", (long long)in->epoch, hex, in->sha256);
	if ((st = ckpt_find_same(s, in, id, err)) || id[0])
		return st;
	/* The transaction at the end checks the attempt again; this check saves writing the bytes of a stale one. */
	struct conn *c = read_begin(s);
	st = in->job ? job_fence(c, in->job, in->attempt, err) : WASD_OK;
	read_end(s, c);
	if (st || (st = in->job ? ckpt_space(s, in->bytes, err) : storage_space(s, in->bytes, err)))
		return st;
	wasd_ulid("ckpt_", id);
	if ((st = write_payload(s, id, in, err)))
		return st;
	struct ckpt_insert a = {in, id};
	/* After an I/O error it is unknown whether the row is on disk; the next start finds out and removes payloads
	 * without a row. */
	if ((st = write_op(s, ckpt_insert_tx, &a, err)) && !storage_failed(s))
		remove_payload(&s->payloads.conn, id, NULL);
	return st;
}

/* Returns pages to the file system when many are free or when the disk is low. */
static void vacuum_some(struct storage *s)
{
	struct conn *c = &s->payloads.conn;
	int64_t free_pages = 0;
	if (conn_int(c, "PRAGMA freelist_count", &free_pages, NULL))
		return;
	bool scarce = disk_scarce(s);
	if (free_pages * schema_ckpt.page_size > VACUUM_ABOVE || (free_pages && scarce))
		conn_exec(c, "PRAGMA incremental_vacuum", NULL);
	if (scarce)
		payloads_shorten(s);
}

static void free_job(struct payload_job *j)
{
	if (!j)
		return;
	wasd_free(j->drop);
	wasd_free(j->strings);
	wasd_free(j->metrics);
	wasd_free(j);
}

static void run_call(struct storage *s, struct call *c)
{
	c->status = c->fn(s, c->ctx, c->err);
	pthread_mutex_lock(&s->payloads.lock);
	c->finished = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&s->payloads.lock);
}

static void run_job(struct storage *s, struct payload_job *j)
{
	struct conn *c = &s->payloads.conn;
	struct wasd_err err = {0};
	if (j->call) {
		run_call(s, j->call);
	} else if (j->drop) {
		/* A failure only leaves an orphan for the next start. */
		if (!atomic_load(&s->failed) && remove_payload(c, j->drop, &err) == WASD_OK) {
			vacuum_some(s);
			conn_checkpoint(c, &err);
		}
		if (c->io_error)
			storage_mark_failed(s, err.msg);
	} else {
		char id[32] = "";
		enum wasd_status st = store(s, &j->in, id, &err);
		if (j->done)
			j->done(j->ctx, st, st ? "" : id, &err);
	}
	free_job(j);
}

static _Thread_local const struct storage *thread_of; /* the store whose checkpoint thread this is */

static void *payloads_main(void *arg)
{
	struct storage *s = arg;
	thread_of = s;
	struct payloads *p = &s->payloads;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->head && !p->closing)
			pthread_cond_wait(&p->wake, &p->lock);
		struct payload_job *j = p->head;
		if (!j)
			break;
		if (!(p->head = j->next))
			p->tail = &p->head;
		pthread_mutex_unlock(&p->lock);
		run_job(s, j);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

enum wasd_status payloads_start(struct storage *s, struct wasd_err *err)
{
	int rc = pthread_create(&s->payloads.thread, NULL, payloads_main, s);
	if (rc)
		return wasd_fail_errno(err, rc, "checkpoint thread");
	s->payloads.running = true;
	return WASD_OK;
}

/* Finishes the queued work. Drops that the writer adds afterwards are left to the next start. */
void payloads_stop(struct storage *s)
{
	struct payloads *p = &s->payloads;
	if (!p->running)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	p->running = false;
}

/* False when the thread accepts no more work. */
static bool enqueue(struct payloads *p, struct payload_job *j)
{
	pthread_mutex_lock(&p->lock);
	const bool open = !p->closing;
	if (open) {
		*p->tail = j;
		p->tail = &j->next;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	return open;
}

void payload_drop_async(struct storage *s, char *id)
{
	struct payload_job *j = wasd_calloc(1, sizeof *j);
	if (j)
		j->drop = id;
	else
		wasd_free(id);
	if (j && !enqueue(&s->payloads, j))
		free_job(j); /* an orphan for the next start, as when there is no memory */
}

enum wasd_status payloads_run(struct storage *s, payloads_fn *fn, void *ctx, struct wasd_err *err)
{
	struct call c = {.fn = fn, .ctx = ctx, .err = err};
	struct payload_job *j = in_transaction(s) || thread_of == s ? NULL : wasd_calloc(1, sizeof *j);
	if (!j)
		return wasd_fail(err, WASD_ENOMEM, "no memory, or called from a thread of the store");
	j->call = &c;
	pthread_cond_init(&c.cond, NULL);
	if (enqueue(&s->payloads, j)) {
		pthread_mutex_lock(&s->payloads.lock);
		while (!c.finished)
			pthread_cond_wait(&c.cond, &s->payloads.lock);
		pthread_mutex_unlock(&s->payloads.lock);
	} else {
		free_job(j);
		c.status = wasd_fail(err, WASD_ECANCELLED, "the store is closing");
	}
	pthread_cond_destroy(&c.cond);
	return c.status;
}

/* ---- the call ---- */

/* Copies every string of *in into one block, so that the caller may free its own. */
static bool copy_in(struct payload_job *j, const struct storage_ckpt_in *in)
{
	const char *text[] = {in->job, in->sha256, in->reason, in->info, in->metrics_json, in->progress};
	const char **to[] = {&j->in.job, &j->in.sha256, &j->in.reason, &j->in.info, &j->in.metrics_json, &j->in.progress};
	enum { N = sizeof text / sizeof *text };
	size_t bytes = 1;
	for (int i = 0; i < N; i++)
		bytes += text[i] ? strlen(text[i]) + 1 : 0;
	for (size_t i = 0; i < in->n_metrics; i++)
		bytes += strlen(in->metrics[i].name) + 1;
	j->in = *in;
	char *p = j->strings = wasd_malloc(bytes);
	j->metrics = wasd_calloc(in->n_metrics ? in->n_metrics : 1, sizeof *j->metrics);
	if (!p || !j->metrics)
		return false;
	for (int i = 0; i < N; i++) {
		if (!text[i])
			continue;
		*to[i] = p;
		p = stpcpy(p, text[i]) + 1;
	}
	for (size_t i = 0; i < in->n_metrics; i++) {
		j->metrics[i] = (struct storage_metric){p, in->metrics[i].value};
		p = stpcpy(p, in->metrics[i].name) + 1;
	}
	j->in.metrics = j->metrics;
	return true;
}

void storage_ckpt_store_async(struct storage *s, const struct storage_ckpt_in *in, storage_ckpt_done_fn *done,
                              void *ctx)
{
	struct payload_job *j = wasd_calloc(1, sizeof *j);
	struct wasd_err err;
	enum wasd_status st = WASD_ENOMEM;
	if (j && copy_in(j, in)) {
		j->done = done;
		j->ctx = ctx;
		if (enqueue(&s->payloads, j))
			return;
		st = WASD_ECANCELLED;
	}
	free_job(j);
	wasd_fail(&err, st, "checkpoint of job %s: %s", in->job ? in->job : "(none)",
	          st == WASD_ENOMEM ? "no memory" : "the store is closing");
	if (done)
		done(ctx, st, "", &err);
}

struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool finished;
	enum wasd_status st;
	char id[32];
	struct wasd_err err;
};

static void wake(void *ctx, enum wasd_status st, const char *id, const struct wasd_err *err)
{
	struct waiting *w = ctx;
	pthread_mutex_lock(&w->lock);
	w->st = st;
	w->err = *err;
	snprintf(w->id, sizeof w->id, "%s", id);
	w->finished = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

enum wasd_status storage_ckpt_store(struct storage *s, const struct storage_ckpt_in *in, char id[32],
                                    struct wasd_err *err)
{
	/* The writer's thread must not wait for the checkpoint thread, which waits for the writer, nor the checkpoint
	 * thread for itself. */
	if (in_transaction(s) || thread_of == s)
		return wasd_fail(err, WASD_EINTERNAL, "a transaction or a callback must not wait for a checkpoint");
	struct waiting w = {.finished = false};
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.cond, NULL);
	storage_ckpt_store_async(s, in, wake, &w);
	pthread_mutex_lock(&w.lock);
	while (!w.finished)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_mutex_destroy(&w.lock);
	pthread_cond_destroy(&w.cond);
	if (w.st && err)
		*err = w.err;
	if (!w.st)
		memcpy(id, w.id, sizeof w.id);
	return w.st;
}

/* ---- at start ---- */

static enum wasd_status collect_orphans(struct storage *s, struct wasd_err *err)
{
	struct conn *m = &s->writer.conn, *c = &s->payloads.conn;
	enum wasd_status st = WASD_OK;
	struct {
		char **ids;
		size_t n;
	} gone = {0};
	sqlite3_stmt *q = q_begin(c, "SELECT id,complete FROM payloads", &st, err, "");
	while (q_row(c, q, &st, err)) {
		bool listed = false;
		sqlite3_stmt *r = q_begin(m, "SELECT 1 FROM checkpoints WHERE id=?1", &st, err, "t", q_text(q, 0));
		if (sqlite3_column_int(q, 1))
			listed = q_row(m, r, &st, err);
		q_end(m, r);
		if (listed || st)
			continue;
		char **slot = array_push((void **)&gone.ids, &gone.n, sizeof *slot);
		if (!slot || !(*slot = wasd_strdup(q_text(q, 0))))
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
	}
	q_end(c, q);
	for (size_t i = 0; i < gone.n; i++) {
		if (!st)
			st = remove_payload(c, gone.ids[i], err);
		wasd_free(gone.ids[i]);
	}
	wasd_free(gone.ids);
	return st;
}

/* Marks rows whose bytes are missing, which happens only if a file was replaced or restored from elsewhere. */
static enum wasd_status mark_missing(struct storage *s, struct wasd_err *err)
{
	struct conn *m = &s->writer.conn, *c = &s->payloads.conn;
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(m, "SELECT id FROM checkpoints WHERE NOT corrupt", &st, err, "");
	while (q_row(m, q, &st, err)) {
		sqlite3_stmt *r = q_begin(c, "SELECT 1 FROM payloads WHERE id=?1 AND complete", &st, err, "t", q_text(q, 0));
		bool there = q_row(c, r, &st, err);
		q_end(c, r);
		if (!there && !st)
			st = q_run(m, "UPDATE checkpoints SET corrupt=1 WHERE id=?1", err, "t", q_text(q, 0));
	}
	q_end(m, q);
	return st;
}

struct orphan {
	char *id;
	int64_t bytes;
};

enum wasd_status payload_orphans(struct storage *s, bool dry, int64_t *n, int64_t *bytes, struct wasd_err *err)
{
	struct conn *k = &s->payloads.conn, *m = read_begin(s);
	struct orphan *list = NULL;
	size_t count = 0;
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(k, "SELECT id,bytes FROM payloads ORDER BY num", &st, err, "");
	while (q_row(k, q, &st, err)) {
		sqlite3_stmt *r = q_begin(m, "SELECT 1 FROM checkpoints WHERE id=?1", &st, err, "t", q_text(q, 0));
		bool listed = q_row(m, r, &st, err);
		q_end(m, r);
		struct orphan *o = listed || st ? NULL : array_push((void **)&list, &count, sizeof *o);
		if (!listed && !st && (!o || !(o->id = wasd_strdup(q_text(q, 0)))))
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
		if (o)
			o->bytes = sqlite3_column_int64(q, 1);
	}
	q_end(k, q);
	read_end(s, m);
	*n = *bytes = 0;
	for (size_t i = 0; i < count; i++) {
		if (!st && !dry)
			st = remove_payload(k, list[i].id, err);
		if (!st) {
			++*n;
			*bytes += list[i].bytes;
		}
		wasd_free(list[i].id);
	}
	wasd_free(list);
	return st;
}

enum wasd_status payloads_collect(struct storage *s, struct wasd_err *err)
{
	enum wasd_status st = collect_orphans(s, err);
	return st ? st : mark_missing(s, err);
}

/* ---- reading ---- */

struct storage_ckpt_reader {
	struct storage *s;
	char id[32], sha256[WASD_SHA256_HEX];
	int64_t num, bytes;
	int64_t chunk; /* index of the chunk in `data`, or -1 */
	size_t chunk_len;
	char *data;
	struct wasd_sha256 *whole; /* digest of everything read from 0 on without a gap; NULL after a gap */
	int64_t hashed;
};

enum wasd_status storage_ckpt_open(struct storage *s, const char *id, struct storage_ckpt_reader **out,
                                   struct wasd_err *err)
{
	struct storage_ckpt_reader *r = wasd_calloc(1, sizeof *r);
	if (!r || !(r->data = wasd_malloc(CHUNK)) || !(r->whole = wasd_sha256_create())) {
		storage_ckpt_close(r);
		return wasd_fail(err, WASD_ENOMEM, "checkpoint %s: no memory", id);
	}
	r->s = s;
	r->chunk = -1;
	struct conn *c = readers_take(&s->payloads.readers);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT num,bytes,sha256,id FROM payloads WHERE id=?1 AND complete", &st, err, "t",
	                          id);
	if (q_row(c, q, &st, err)) {
		r->num = sqlite3_column_int64(q, 0);
		r->bytes = sqlite3_column_int64(q, 1);
		snprintf(r->sha256, sizeof r->sha256, "%s", q_text(q, 2));
		snprintf(r->id, sizeof r->id, "%s", q_text(q, 3));
	} else if (!st) {
		st = wasd_fail(err, WASD_ENOTFOUND, "no checkpoint %s", id);
	}
	q_end(c, q);
	readers_give(&s->payloads.readers, c);
	if (st)
		storage_ckpt_close(r);
	else
		*out = r;
	return st;
}

int64_t storage_ckpt_size(const struct storage_ckpt_reader *r)
{
	return r->bytes;
}

void storage_ckpt_close(struct storage_ckpt_reader *r)
{
	if (!r)
		return;
	wasd_sha256_destroy(r->whole);
	wasd_free(r->data);
	wasd_free(r);
}

static enum wasd_status corrupt(struct storage_ckpt_reader *r, const char *what, int64_t n, struct wasd_err *err)
{
	r->chunk = -1;
	ckpt_mark_corrupt(r->s, r->id, NULL);
	return wasd_fail(err, WASD_ECORRUPT, "checkpoint %s: %s (chunk %lld)", r->id, what, (long long)n);
}

static enum wasd_status load_chunk(struct storage_ckpt_reader *r, int64_t n, struct wasd_err *err)
{
	if (r->chunk == n)
		return WASD_OK;
	const int64_t left = r->bytes - n * CHUNK;
	const size_t want = left < CHUNK ? (size_t)left : CHUNK;
	char hex[WASD_SHA256_HEX], stored[WASD_SHA256_HEX] = "";
	struct conn *c = readers_take(&r->s->payloads.readers);
	enum wasd_status st = WASD_OK;
	bool found = false, there = false, full = false;
	sqlite3_stmt *q = q_begin(c, "SELECT sha256,data FROM chunks WHERE payload=?1 AND n=?2", &st, err, "ii", r->num, n);
	if ((found = q_row(c, q, &st, err))) {
		const void *data = sqlite3_column_blob(q, 1);
		full = data && (size_t)sqlite3_column_bytes(q, 1) == want;
		if (full)
			memcpy(r->data, data, want);
		snprintf(stored, sizeof stored, "%s", q_text(q, 0) ? q_text(q, 0) : "");
	}
	q_end(c, q);
	q = q_begin(c, "SELECT 1 FROM payloads WHERE num=?1", &st, err, "i", r->num);
	there = q_row(c, q, &st, err);
	q_end(c, q);
	readers_give(&r->s->payloads.readers, c);
	if (st == WASD_ECORRUPT)
		return corrupt(r, "the database page is damaged", n, err);
	if (st)
		return st;
	if (!there)
		return wasd_fail(err, WASD_ENOTFOUND, "checkpoint %s was deleted", r->id);
	if (!found || !full)
		return corrupt(r, "bytes are missing", n, err);
	wasd_sha256_of(r->data, want, hex);
	if (strcmp(hex, stored))
		return corrupt(r, "SHA-256 does not match", n, err);
	r->chunk = n;
	r->chunk_len = want;
	return WASD_OK;
}

/* Continues the digest of a read that began at 0 without gaps; a read elsewhere discards it. */
static enum wasd_status hash_along(struct storage_ckpt_reader *r, int64_t offset, const void *p, size_t n,
                                   struct wasd_err *err)
{
	char hex[WASD_SHA256_HEX];
	if (!r->whole || offset + (int64_t)n <= r->hashed)
		return WASD_OK;
	if (offset != r->hashed) {
		wasd_sha256_destroy(r->whole);
		r->whole = NULL;
		return WASD_OK;
	}
	wasd_sha256_update(r->whole, p, n);
	r->hashed += (int64_t)n;
	if (r->hashed < r->bytes)
		return WASD_OK;
	wasd_sha256_hex(r->whole, hex);
	return strcmp(hex, r->sha256) ? corrupt(r, "SHA-256 of the whole does not match", r->chunk, err) : WASD_OK;
}

enum wasd_status storage_ckpt_read(struct storage_ckpt_reader *r, int64_t offset, void *buf, size_t len, size_t *got,
                                   struct wasd_err *err)
{
	if (offset < 0)
		return wasd_fail(err, WASD_EINVAL, "offset %lld", (long long)offset);
	size_t done = 0;
	while (done < len && offset < r->bytes) {
		enum wasd_status st = load_chunk(r, offset / CHUNK, err);
		if (st)
			return st;
		size_t in = (size_t)(offset % CHUNK), k = r->chunk_len - in;
		if (k > len - done)
			k = len - done;
		memcpy((char *)buf + done, r->data + in, k);
		if ((st = hash_along(r, offset, r->data + in, k, err)))
			return st;
		done += k;
		offset += (int64_t)k;
	}
	*got = done;
	return WASD_OK;
}

enum wasd_status ckpt_memfd_with(struct storage *s, const char *id, const void *tail, size_t n, int *fd, int64_t *bytes,
                                 char sha256[WASD_SHA256_HEX], struct wasd_err *err)
{
	struct storage_ckpt_reader *r = NULL;
	enum wasd_status st = storage_ckpt_open(s, id, &r, err);
	if (st)
		return st;
	int f = memfd_create("checkpoint", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f < 0)
		st = wasd_fail_errno(err, errno, "memory file for checkpoint %s", id);
	for (int64_t at = 0; at < r->bytes && !st;) {
		size_t got = 0;
		if (!(st = load_chunk(r, at / CHUNK, err)) && !(st = hash_along(r, at, r->data, r->chunk_len, err)))
			st = wasd_write_full(f, r->data, got = r->chunk_len, err);
		at += (int64_t)got;
	}
	if (!st && n)
		st = wasd_write_full(f, tail, n, err);
	if (!st && fcntl(f, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW))
		st = wasd_fail_errno(err, errno, "seals of checkpoint %s", id);
	if (!st) {
		*fd = f;
		if (bytes)
			*bytes = r->bytes;
		if (sha256)
			memcpy(sha256, r->sha256, WASD_SHA256_HEX);
	} else if (f >= 0) {
		close(f);
	}
	storage_ckpt_close(r);
	return st;
}

enum wasd_status storage_ckpt_memfd(struct storage *s, const char *id, int *fd, int64_t *bytes,
                                    char sha256[WASD_SHA256_HEX], struct wasd_err *err)
{
	return ckpt_memfd_with(s, id, NULL, 0, fd, bytes, sha256, err);
}
