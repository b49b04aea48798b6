/* internal.h - shared by the files of storage: the open store, its writer, and the building blocks of transactions. */
#ifndef STORAGE_INTERNAL_H
#define STORAGE_INTERNAL_H

#include "storage.h"
#include "db.h"
#include "schema.h"
#include "wasd/json.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* A pool of read-only connections to one database; each has one user at a time. */
struct readers {
	pthread_mutex_t lock;
	pthread_cond_t free;
	struct conn *all;
	struct conn **idle;
	unsigned n, n_idle;
};
enum wasd_status readers_open(struct readers *r, unsigned n, const char *path, const char *name, struct wasd_err *err);
void readers_close(struct readers *r);
struct conn *readers_take(struct readers *r);
void readers_give(struct readers *r, struct conn *c);

/* One queued write. */
struct op {
	storage_tx_fn *fn;
	void *ctx;
	storage_done_fn *done; /* asynchronous when `heap` */
	bool heap, finished;
	bool frees_space; /* a delete: may run again after the ballast was released */
	bool urgent;      /* so may this one, which frees nothing but must be possible on a full disk */
	enum wasd_status status;
	struct wasd_err err;
	pthread_cond_t cond; /* synchronous: signalled when finished; with writer.lock */
	struct op *next;
};

struct writer {
	struct conn conn;
	pthread_t thread;
	bool running, closing;
	bool settling; /* jobs_after_settle is in its loop; only the writer's thread */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct op *head, **tail; /* under lock */
	unsigned queued;         /* under lock */
	/* used only by the writer's thread */
	int64_t last_event; /* stored in this transaction, or 0 */
	char **dropped;
	size_t n_dropped; /* payloads to remove after this COMMIT */
	bool shorten;     /* move the whole log and shorten the files after this commit */
	dev_t dev;
	ino_t ino; /* inode of the open file, which must still be the one at its path */
};

/* The backup that runs or has run last; one at a time. */
struct backup_state {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool started, joined; /* started: there is a thread to join unless joined */
	bool recorded;        /* the audit row and the event of `now` are stored */
	atomic_bool stop;     /* the store is closing */
	struct storage_backup now;
};

/* What disk.c remembers between two looks at the disk. */
struct disk_state {
	pthread_mutex_t lock;
	bool low, told;   /* told: the last event said so */
	uint64_t reserve; /* size of the ballast, if it was released */
	uint64_t refused; /* the largest write that found no room since the disk was not low */
	int64_t until_us; /* low at least until then: the disk refused a write although it reports free space */
	bool over;        /* the quota refused a checkpoint, which would have added `growth` bytes */
	uint64_t growth;
	uint64_t used; /* what was used when it could last be told */
};

struct payload_job; /* payload.c */
struct payloads {
	struct conn conn;
	struct readers readers;
	pthread_t thread;
	bool running, closing;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct payload_job *head, **tail;
};

struct storage {
	char *dir, *main_path, *ckpt_path, *ballast_path, *lock_path;
	struct storage_opts opts;
	int lock_fd;
	struct writer writer;
	struct readers readers;
	struct payloads payloads;
	struct backup_state backup;
	struct disk_state disk;
	storage_event_fn *on_events;
	void *on_events_ctx;
	atomic_bool failed, ballast; /* ballast: the file exists */
	atomic_bool sweeps_due;      /* a row that sweeps depend on has changed */
	atomic_bool sweeps_no_room;  /* trials wait for room */
	pthread_mutex_t holders_lock;
	struct storage_holder holders[STORAGE_HOLDERS]; /* under holders_lock; ctx NULL: free */
	pthread_mutex_t stats_lock;
	struct storage_health stats; /* counters and message; under stats_lock */
};

/* ---- connections for reading: the writer's own inside a transaction, else one of the pool ---- */
struct conn *read_begin(struct storage *s);
void read_end(struct storage *s, struct conn *c);

/* ---- writer.c ---- */
enum wasd_status writer_start(struct storage *s, struct wasd_err *err);
void writer_stop(struct storage *s); /* runs the queued ops, then ends the thread */
bool in_transaction(const struct storage *s);
/* The body of every write function: runs fn in its own transaction, or as part of the transaction that this thread
 * is in. */
enum wasd_status write_op(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err);
enum wasd_status delete_op(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err);
enum wasd_status urgent_op(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err);
/* Inside a transaction: runs fn, and undoes what it did if it fails. */
enum wasd_status tx_try(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err);
/* The writer's connection; only inside a transaction. */
static inline struct conn *tx_conn(struct storage *s)
{
	return &s->writer.conn;
}
/* Marks a payload for removal once this transaction, which deletes its last reference, has committed. */
enum wasd_status tx_drop_payload(struct storage *s, const char *id, struct wasd_err *err);
void storage_mark_failed(struct storage *s, const char *message);

/* ---- disk.c ---- */
/* Chooses the default of the low-water mark, and makes room for the start on a full disk. Before the databases open. */
void disk_init(struct storage *s);
void disk_make_room(struct storage *s); /* moves the logs into the databases, if the disk is full; after they opened */
bool disk_low(struct storage *s, uint64_t *free_bytes); /* free space is below the low-water mark */
bool disk_scarce(struct storage *s);                    /* so it is, or was, and has not ceased to be low */
/* A write of so many bytes found no room: the disk counts as low until there is more. */
void disk_refused(struct storage *s, uint64_t bytes);
bool ballast_release(struct storage *s); /* false when there was no ballast */
void ballast_restore(struct storage *s);
/* Room for the checkpoint of a running job, which may use the space below the low-water mark. */
enum wasd_status ckpt_space(struct storage *s, uint64_t bytes, struct wasd_err *err);
/* Bytes that count against the quota; 0 without one. */
enum wasd_status quota_used(struct storage *s, uint64_t *out, struct wasd_err *err);
/* Those of them that are not in files; reads no folder. */
enum wasd_status quota_rows(struct storage *s, uint64_t *out, struct wasd_err *err);
/* WASD_EFULL if the transaction under way, which adds no files and began with quota_rows `before`, exceeds the quota.
 */
enum wasd_status quota_check(struct storage *s, uint64_t before, struct wasd_err *err);

/* ---- events.c ---- */
/* Builds an object from pairs of key and value, one letter of `kinds` per pair: s text (NULL: null), o text, omitted
 * when NULL, i int64_t, d double, j cJSON *, taken. NULL: no memory for some part. */
cJSON *make_object(const char *kinds, ...);
/* Stores an event in the current transaction; takes data (NULL = out of memory). */
enum wasd_status event_put(struct storage *s, const char *topic, const char *type, const char *object, cJSON *data,
                           struct wasd_err *err);

/* ---- audit.c ---- */
struct audit_in {
	const char *actor, *action, *object, *before, *after, *reason;
};
enum wasd_status audit_put(struct storage *s, const struct audit_in *in, char *id, struct wasd_err *err);
/* The same with the object's members before and after, both taken; is_new: there is no before. Another NULL counts as
 * out of memory. */
enum wasd_status audit_change(struct storage *s, struct audit_in in, bool is_new, cJSON *before, cJSON *after,
                              struct wasd_err *err);

/* ---- jobs.c ---- */
/* What a client calls a request, so that it can repeat it; the kind keeps the keys of different requests apart. */
struct idem {
	const char *owner, *kind, *key, *digest; /* owner and digest may be NULL */
};
/* Inside a transaction: what the request made before, or "". WASD_EEXIST: the key was used for another request. */
enum wasd_status idem_find(struct storage *s, const struct idem *k, char id[40], struct wasd_err *err);
enum wasd_status idem_put(struct storage *s, const struct idem *k, const char *id, int64_t now, struct wasd_err *err);
/* Inside a transaction: makes a job. */
enum wasd_status job_create(struct storage *s, const struct storage_job_in *in, struct storage_job *out,
                            struct wasd_err *err);
enum wasd_status job_move(struct storage *s, const char *id, const struct storage_move *m, struct wasd_err *err);
/* The attempt must be the job's latest and the job must have a worker. */
enum wasd_status job_fence(struct conn *c, const char *id, int64_t attempt, struct wasd_err *err);

/* queued -> held, if it waits for others */
enum wasd_status job_hold_for_others(struct storage *s, const char *id, struct wasd_err *err);

/* ---- on_complete.c ---- */
/* What the spec of a job that completes asks for, in the transaction that completes it. */
enum wasd_status job_on_complete(struct storage *s, const char *id, struct wasd_err *err);

/* ---- job_after.c ---- */
/* Stores what a new job waits for. WASD_EINVAL with the pointer: no such job, or it has failed. */
enum wasd_status job_after_put(struct storage *s, const char *job, const char *const *after, size_t n,
                               struct wasd_err *err);
/* A job that is tried again does not wait for jobs that have failed or were cancelled. */
enum wasd_status job_after_forget(struct storage *s, const char *job, struct wasd_err *err);
/* who: a job for which it still waits, or ""; text says so. */
enum wasd_status job_waits_for(struct storage *s, const char *job, char who[40], char text[80], struct wasd_err *err);
/* Queues the held jobs that need not wait any more, cancels those that wait in vain. */
enum wasd_status jobs_after_settle(struct storage *s, struct wasd_err *err);

/* ---- sweeps.c ---- */
enum wasd_status sweep_row(struct conn *c, const char *id, struct storage_sweep *out, struct wasd_err *err);
/* By number. */
enum wasd_status sweep_trials(struct conn *c, const struct storage_sweep *w, struct storage_trial_list *out,
                              struct wasd_err *err);
/* Changes the state, with its event. */
enum wasd_status sweep_move(struct storage *s, const struct storage_sweep *w, const char *to, const char *reason,
                            const char *message, struct wasd_err *err);
/* sweep: the one of which the job is a trial, if that has not ended; else "". */
enum wasd_status job_sweep(struct conn *c, const char *job, char sweep[40], struct wasd_err *err);

/* ---- job_profiles.c ---- */
/* Replaces the move to completed: see storage_attempt_end. */
enum wasd_status job_ask_profiles(struct storage *s, const char *id, const struct storage_move *m,
                                  const struct storage_wanted *w, size_t n, struct wasd_err *err);
/* Handles a new state of p: if p is ready or failed, logs it for the job that waits for p, and completes that job if
 * p was the last. */
enum wasd_status jobs_profile_settled(struct storage *s, const struct storage_profile *p, struct wasd_err *err);
/* Fails the searches of a job's profiles that are still pending. */
enum wasd_status job_drop_searches(struct storage *s, const char *job, const char *why, struct wasd_err *err);
/* Completes every trained job whose profiles are all searched; part of each transaction that settles one. */
enum wasd_status jobs_settle(struct storage *s, struct wasd_err *err);

/* ---- metrics.c ---- */
cJSON *metrics_object(const struct storage_metric *m, size_t n); /* NULL: no memory */
enum wasd_status epoch_put(struct storage *s, const char *job, int64_t attempt, int64_t epoch, int64_t step, int64_t ts,
                           const struct storage_metric *m, size_t n, const char *progress, struct wasd_err *err);

/* ---- models.c ---- */
/* Finds a version of the registry that is this checkpoint: "NAME version N", or "". */
enum wasd_status ckpt_version(struct conn *c, const char *ckpt, char version[100], struct wasd_err *err);

/* ---- checkpoints.c ---- */
enum wasd_status ckpt_retention(struct storage *s, const char *job, struct wasd_err *err);
/* The newest checkpoint that is not corrupt; *id NULL when there is none. */
enum wasd_status ckpt_newest(struct conn *c, const char *job, char **id, struct wasd_err *err);
/* Sets *id to the deployment that uses the checkpoint, or NULL. */
bool ckpt_needed(struct storage *s, const char *ckpt, char by[64]); /* by a holder */
bool dataset_needed(struct storage *s, const char *name, int64_t version, char by[64]);
enum wasd_status ckpt_user(struct conn *c, const char *ckpt, char **deployment, struct wasd_err *err);
enum wasd_status ckpt_mark_corrupt(struct storage *s, const char *id, struct wasd_err *err);

/* ---- deployments.c ---- */
enum wasd_status deployment_row(struct conn *c, const char *name, struct storage_deployment *out, struct wasd_err *err);
/* The members of a deployment in events and audit rows; message, previous, reason and audit_id unless they are NULL. */
cJSON *deployment_view(const struct storage_deployment *d, const char *message, const char *previous,
                       const char *reason, const char *audit_id);
/* Adds the audit row of a change from *before (NULL: created) to *after (NULL: deleted). */
enum wasd_status deployment_audit(struct storage *s, const char *name, const char *action, const char *actor,
                                  const char *reason, const struct storage_deployment *before,
                                  const struct storage_deployment *after, char *id, struct wasd_err *err);
/* The checkpoint, unless it is corrupt. */
enum wasd_status ckpt_usable(struct storage *s, const char *id, struct storage_ckpt *k, struct wasd_err *err);

/* ---- deployment_source.c ---- */
/* SQL: the source that a deployment follows, which is the one asked for last. */
#define ACTIVE_SOURCE "coalesce(json_extract(update_info,'$.source'),source)"
/* Ends what was draining when the daemon ended. */
enum wasd_status deployments_drained(struct storage *s, struct wasd_err *err);

/* ---- profiles.c ---- */
/* Do the rows allow serving this checkpoint in this mode? WASD_EINVAL: bad form of the mode; WASD_EBUSY: no such
 * profile, or it is not ready. */
enum wasd_status mode_check(struct conn *c, const char *ckpt, const char *mode, struct wasd_err *err);
enum wasd_status profiles_requeue(struct storage *s, struct wasd_err *err);

/* ---- payload.c: the bytes of checkpoints in ckpt.db ---- */
enum { CHUNK = 1 << 20 };
enum wasd_status payloads_start(struct storage *s, struct wasd_err *err);
void payloads_stop(struct storage *s);
void payload_drop_async(struct storage *s, char *id); /* takes id */
/* Runs fn on the thread that alone adds and removes payloads, and waits for it: until fn returns, every row of
 * checkpoints has its payload. WASD_ECANCELLED: the store is closing. */
typedef enum wasd_status payloads_fn(struct storage *s, void *ctx, struct wasd_err *err);
enum wasd_status payloads_run(struct storage *s, payloads_fn *fn, void *ctx, struct wasd_err *err);
/* Counts, and unless dry removes, payloads without a row; only inside payloads_run. */
enum wasd_status payload_orphans(struct storage *s, bool dry, int64_t *n, int64_t *bytes, struct wasd_err *err);
/* storage_ckpt_memfd with additional bytes after those of the checkpoint. */
enum wasd_status ckpt_memfd_with(struct storage *s, const char *id, const void *tail, size_t n, int *fd, int64_t *bytes,
                                 char sha256[WASD_SHA256_HEX], struct wasd_err *err);
/* Removes payloads without a row in checkpoints and marks rows without a payload; call it before the threads start. */
enum wasd_status payloads_collect(struct storage *s, struct wasd_err *err);

/* ---- backup.c ---- */
void backup_init(struct storage *s);
void backup_stop(struct storage *s); /* ends a running backup; call it before the other threads are stopped */
void backup_done(struct storage *s);

/* ---- scrub.c ---- */
/* Called for each fault; object is "checkpoint/ID", "mode/ID", "dataset/NAME/VERSION" or a file. */
typedef void scrub_fault_fn(void *ctx, const char *object, const char *detail);
/* Reads every payload of the checkpoints that are not marked corrupt, and checks size, chunk digests and digest.
 * stop (may be NULL) ends it with WASD_ECANCELLED. */
enum wasd_status scrub_payloads(struct conn *m, struct conn *k, atomic_bool *stop, scrub_fault_fn *fault, void *ctx,
                                int64_t *checkpoints, int64_t *bytes, struct wasd_err *err);

/* ---- space.c ---- */
struct storage_part measure_folder(struct storage *s, const char *name); /* the regular files below it */
/* On the writer's thread, outside of a transaction; payloads_shorten on that of payloads. Before these threads start,
 * anywhere. */
void writer_shorten(struct storage *s);   /* moves the whole log of wasd.db and shortens both files */
void writer_give_back(struct storage *s); /* the same, after returning unused pages */
void payloads_shorten(struct storage *s); /* moves the whole log of ckpt.db */

/* ---- copy.c: the files of a backup ---- */
/* Copies a regular file to a new one, durably; sha256 and bytes are of what was read. stop may be NULL. */
enum wasd_status copy_file(const char *from, const char *to, atomic_bool *stop, char sha256[WASD_SHA256_HEX],
                           int64_t *bytes, struct wasd_err *err);
enum wasd_status hash_file(const char *path, atomic_bool *stop, char sha256[WASD_SHA256_HEX], int64_t *bytes,
                           struct wasd_err *err);
/* Is this a path that a backup may hold: relative, without "." and ".." and empty parts? */
bool copy_path_ok(const char *relative);

/* ---- small things ---- */
bool id_ok(const char *s, const char *prefix);
/* Checks a page and sets the effective limit. */
enum wasd_status page_check(struct storage_page *p, const char *prefix, struct wasd_err *err);
static inline int64_t ts_or_now(int64_t ts)
{
	return ts ? ts : wasd_now_ms();
}

/* ---- names.c ---- */

/* Reads the first column of a query into out and ends the query. st: the status of q_begin. On failure out is
 * untouched. */
enum wasd_status q_names(struct conn *c, sqlite3_stmt *q, enum wasd_status st, struct storage_names *out,
                         struct wasd_err *err);

#endif
