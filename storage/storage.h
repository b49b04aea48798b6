/* storage.h - all persistent data of the daemon: datasets, jobs, metrics, checkpoints, logs, events, deployments,
 * audit.
 *
 * One data directory holds wasd.db (rows), ckpt.db (checkpoint bytes), daemon.lock and ballast. The process that
 * opened it is the only writer. All functions may be called from any thread. Conventions:
 *
 * - A write returns after its COMMIT is on disk (synchronous=FULL); concurrent writes share commits. A write that fails
 *   stores nothing. After an I/O error of a commit every further write gives WASD_EIO and storage_health().failed
 *   is set: the process must exit and be restarted (a failed fsync is never retried). WASD_EFULL is not such a
 *   failure: space may become free again.
 * - Reads use read-only connections, see the last commit, and never wait for the writer.
 * - storage_tx() runs a function on the writer's thread inside one transaction; the ordinary functions called from
 *   there, reads and writes, join that transaction. storage_tx_async() does the same without waiting, for threads that
 *   must not block.
 * - ids are strings ("job_01J..."), times are Unix milliseconds (0 = never, in C; NULL in SQL), JSON columns are text
 *   that the caller has made with wasd/json.h. Names of states are the strings of the API, never numbers.
 * - The caller owns returned rows: each type has a _done function that frees its members, accepts a zeroed row and may
 *   be called twice. A text member is NULL where the column is NULL.
 * - Unless stated otherwise: WASD_ENOTFOUND for an unknown id, WASD_EINVAL for a bad argument, WASD_ENOMEM, WASD_EIO.
 */
#ifndef WASD_STORAGE_H
#define WASD_STORAGE_H

#include "wasd/base.h"
#include "wasd/mode.h"
#include "wasd/spec.h"

struct storage;

/* ---- open, close, health --------------------------------------------------------------- */

struct storage_opts {       /* zero = the default in brackets */
	uint64_t ballast_bytes; /* size of a file that is deleted when the disk is full, so that deletes can run [64 MiB] */
	uint64_t low_water_bytes; /* with less free space, new work is refused and running jobs are to pause
	                             [1 % of the file system, 256 MiB to 4 GiB] */
	uint64_t quota_bytes;     /* limit of what is stored, see struct storage_disk [none] */
	int64_t log_lines;        /* limit per job [10,000] */
	int64_t event_rows;       /* limit in total [100,000] */
	unsigned readers;         /* read-only connections [4] */
};

/* Locks the directory (created if absent), checks and migrates both databases, collects orphans. opts may be NULL.
 * WASD_EBUSY: another process has it open (the message names its pid); WASD_ECORRUPT: a check failed, a database is
 * foreign or a file is missing; WASD_EUNSUPPORTED: a database is newer than this program. In these cases no file was
 * changed. */
enum wasd_status storage_open(const char *data_dir, const struct storage_opts *opts, struct storage **out,
                              struct wasd_err *err);
/* Finishes the queued writes first. No other call may be running. s may be NULL. */
void storage_close(struct storage *s);

#define STORAGE_COMMIT_BUCKETS 8 /* upper bounds: 1, 2, 5, 10, 50, 100, 500 ms, infinity */
struct storage_health {
	bool failed;       /* an I/O error has stopped all writes: exit for a restart */
	char message[256]; /* of the failure or of the last refused write, else "" */
	uint64_t db_bytes, wal_bytes, ckpt_bytes;
	uint64_t commits, commit_us;                  /* number and total duration of the commits so far */
	uint64_t commit_hist[STORAGE_COMMIT_BUCKETS]; /* not cumulative */
	unsigned queued_writes;
};
void storage_health(struct storage *s, struct storage_health *out);
bool storage_failed(struct storage *s); /* only the flag; cheap */
/* Runs PRAGMA integrity_check (full) or quick_check on both databases. WASD_ECORRUPT with the first error found. */
enum wasd_status storage_check(struct storage *s, bool full, struct wasd_err *err);

/* Room in the data directory. It becomes low when free space falls below the low-water mark or a write found no room,
 * and stays low until there is noticeably more. The quota counts datasets, checkpoints and modes, blobs, exports,
 * staged uploads, backups in the data directory and the used pages of wasd.db. */
struct storage_disk {
	bool low;
	const char *reason; /* when low: "disk_low" or "quota_full"; else NULL */
	char message[256];  /* when low: the numbers, and what to do */
	uint64_t free, low_water;
	uint64_t quota, used; /* 0: no quota */
};
#define STORAGE_DISK_LOW "disk_low"
#define STORAGE_QUOTA_FULL "quota_full"
void storage_disk(struct storage *s, struct storage_disk *out);
/* The same; stores an event "system.disk" when it has become low or has ceased to be, and makes the ballast again. To
 * be called about once a second. *changed: such an event was stored. */
void storage_disk_watch(struct storage *s, struct storage_disk *out, bool *changed);
/* Is there room for `need` more bytes of new work? WASD_EFULL with the numbers; err->pointer is the reason. */
enum wasd_status storage_space(struct storage *s, uint64_t need, struct wasd_err *err);
enum wasd_status storage_disk_space(const struct storage_disk *d, uint64_t need, struct wasd_err *err);

/* ---- transactions ------------------------------------------------------------------------ */

/* Runs on the writer's thread. A status other than WASD_OK rolls back everything the function did and is returned to
 * the caller. The function must not block on another thread and must not rely on anything else in the same commit. */
typedef enum wasd_status storage_tx_fn(struct storage *s, void *ctx, struct wasd_err *err);
enum wasd_status storage_tx(struct storage *s, storage_tx_fn *fn, void *ctx, struct wasd_err *err);

/* Called on the writer's thread after the COMMIT or the failure. Must be short; a write from there (other than an
 * asynchronous one) is WASD_EINTERNAL. err is never NULL. */
typedef void storage_done_fn(void *ctx, enum wasd_status status, const struct wasd_err *err);
/* Never blocks. The caller keeps ctx until done (may be NULL) is called, which happens exactly once, also on failure
 * and on storage_close; on the calling thread when there is no memory to queue the call. Keeps the order of calls
 * from one thread. */
void storage_tx_async(struct storage *s, storage_tx_fn *fn, void *ctx, storage_done_fn *done);

/* Called on the writer's thread after each commit that stored events; last_seq is the newest. There is one listener;
 * set it before the first write. */
typedef void storage_event_fn(void *ctx, int64_t last_seq);
void storage_on_events(struct storage *s, storage_event_fn *fn, void *ctx);

/* ---- start-up ------------------------------------------------------------------------------ */

struct storage_recovered {
	char *job, *from, *to;
};
struct storage_recovered_list {
	struct storage_recovered *items;
	size_t n;
};
void storage_recovered_list_done(struct storage_recovered_list *l);
/* Call it once after storage_open, before anything runs. Closes open attempts as "interrupted" and moves their jobs
 * (starting, running, preempting -> queued; pausing -> paused; cancelling -> cancelled; a job that runs only for its
 * profiles continues). Turns datasets left in "scanning" into "invalid", deployments that were loaded into
 * "created", profiles that were being searched into "queued". Checks the newest checkpoint of every unfinished job:
 * one that does not verify is marked corrupt, so that the job resumes from an earlier one. */
enum wasd_status storage_recover(struct storage *s, struct storage_recovered_list *out, struct wasd_err *err);

/* ---- lists ---------------------------------------------------------------------------------- */

/* Newest first unless oldest_first. cursor: the next_cursor of the previous page, or NULL; opaque, stable under
 * inserts (WASD_EINVAL if it is not one of ours). limit 0 = 50, at most 500. A filter that is NULL matches
 * everything. */
struct storage_page {
	const char *cursor;
	int limit;
	bool oldest_first;
};

struct storage_names {
	char **items;
	size_t n;
};
void storage_names_done(struct storage_names *l);

/* ---- datasets --------------------------------------------------------------------------------- */

struct storage_dataset {
	char *id; /* "ds_..." */
	char *name;
	int64_t version;     /* 1, 2, ... per name, never reused */
	char *state;         /* scanning | ready | invalid | deleted */
	char *format;        /* cifar10, idx, images, glyphs, ... */
	char *digest;        /* of the prepared data; NULL until ready */
	char *source_digest; /* SHA-256 of the upload (or of the synthetic request) */
	char *path;          /* relative to the data directory; NULL until ready and after deletion */
	char *info;          /* JSON: classes, counts, shape, mean, std ... */
	char *error;         /* JSON, when invalid */
	int64_t bytes;       /* on disk */
	int64_t created_at, updated_at;
};
void storage_dataset_done(struct storage_dataset *d);
struct storage_dataset_list {
	struct storage_dataset *items;
	size_t n;
	char *next_cursor;
};
void storage_dataset_list_done(struct storage_dataset_list *l);

/* Adds a version in state scanning. If this name already has a version with the same source_digest that is ready or
 * scanning, gives that row and *existing = true. format may be NULL until known. WASD_EFULL below the low-water
 * mark. */
enum wasd_status storage_dataset_begin(struct storage *s, const char *name, const char *format,
                                       const char *source_digest, const char *actor, struct storage_dataset *out,
                                       bool *existing, struct wasd_err *err);
/* scanning -> ready. The files at path must be durable before this call. WASD_ESTATE if not scanning. */
enum wasd_status storage_dataset_ready(struct storage *s, const char *id, const char *format, const char *digest,
                                       const char *path, const char *info, int64_t bytes, struct wasd_err *err);
/* scanning -> invalid; error is JSON ({"code","message","file"}). */
enum wasd_status storage_dataset_invalid(struct storage *s, const char *id, const char *error, struct wasd_err *err);
/* Says in the row why the scan does not go on now; error as above, NULL: it goes on. */
enum wasd_status storage_dataset_waits(struct storage *s, const char *id, const char *error, struct wasd_err *err);
/* version 0: the latest that is ready, else the latest that is not deleted. A deleted version is found only by its
 * number. */
enum wasd_status storage_dataset_get(struct storage *s, const char *name, int64_t version, struct storage_dataset *out,
                                     struct wasd_err *err);
/* name NULL: the latest version of every name; else all versions of that name. Omits deleted versions. */
enum wasd_status storage_dataset_list(struct storage *s, const char *name, const char *state, struct storage_page page,
                                      struct storage_dataset_list *out, struct wasd_err *err);
/* version 0: all versions. WASD_ESTATE: a job that is not terminal uses it (the message names the job), or a scan is
 * in progress. Rows stay as "deleted". *paths (may be NULL, wasd_free) gets the newline-separated relative paths of
 * the files that the caller must now remove. */
enum wasd_status storage_dataset_delete(struct storage *s, const char *name, int64_t version, const char *actor,
                                        char **paths, struct wasd_err *err);
/* Does a live dataset use this relative path? For the removal of leftover files at start. */
enum wasd_status storage_dataset_path_used(struct storage *s, const char *path, bool *used, struct wasd_err *err);

/* ---- jobs ------------------------------------------------------------------------------------- */

struct storage_job {
	char *id; /* "job_..." */
	char *name;
	char *state;            /* job_states.c has the table of legal moves */
	char *reason, *message; /* of the last move; NULL when it has none */
	int64_t priority;
	char *queue;
	char *spec; /* JSON, complete with defaults */
	char *spec_digest;
	char *labels; /* JSON object */
	char *note;
	char *dataset;
	int64_t dataset_version;
	char *dataset_digest;
	char *created_by;
	char *progress;                 /* JSON at the last epoch end or move, or NULL */
	char *build;                    /* JSON: fingerprint of the last attempt, or NULL */
	char *init_checkpoint;          /* id or NULL */
	int64_t keep_best, keep_latest; /* retention policy */
	char *keep_metric;
	int64_t keep_max; /* direction of the metric that defines "best"; 1 = larger is better */
	int64_t attempt;  /* number of the latest attempt, 0 before the first */
	int64_t retries;  /* failed attempts since the last stored checkpoint */
	int64_t retry_at; /* in retry_wait: the time to queue it again */
	char *trained; /* done | early_stopped: training has ended, and the job runs until its profiles are searched; NULL:
	                  not yet */
	int64_t created_at, started_at, finished_at, updated_at;
	int64_t rev;        /* +1 with every change of the row: the ETag */
	char *cloned_from;  /* id of the job whose spec was its base, or NULL */
	char *sweep;        /* id of the sweep of which it is a trial, or NULL */
	int64_t trial;      /* its number in that sweep, from 1 */
	int64_t until;      /* an attempt pauses at the end of this epoch; 0: it trains to its end */
	int64_t deadline;   /* 0: none */
	char *on_complete;  /* JSON: what has followed its completion; NULL: nothing yet, or nothing was asked */
	int64_t max_wall_s; /* limit of the running time of all its attempts since the last retry on request; 0: none */
};
void storage_job_done(struct storage_job *j);
struct storage_job_list {
	struct storage_job *items;
	size_t n;
	char *next_cursor;
};
void storage_job_list_done(struct storage_job_list *l);

bool storage_job_terminal(const char *state);               /* completed, failed, cancelled; of a sweep too */
bool storage_job_active(const char *state);                 /* a worker process exists or is being started */
bool storage_job_move_ok(const char *from, const char *to); /* the table of legal moves */
const char *const *storage_job_states(void);                /* NULL-terminated */

struct storage_job_in {
	const char *name, *queue, *spec, *spec_digest, *labels, *note, *created_by, *init_checkpoint,
		*cloned_from; /* labels NULL = {}; note NULL = "" */
	int64_t priority;
	int64_t deadline, max_wall_s; /* 0: none */
	const char *const *after;     /* n_after ids of jobs; it is held until all of them have completed */
	size_t n_after;
	const char *dataset;
	int64_t dataset_version; /* must be ready or scanning */
	int64_t keep_best, keep_latest;
	const char *keep_metric;
	bool keep_max;
	bool held;                   /* starts in "held" instead of "queued" */
	const char *idempotency_key; /* NULL: none. Unique per created_by */
	const char *request_digest;  /* of the request that carries the key */
	const char *sweep;           /* NULL: not a trial of a sweep */
	int64_t trial, until;
};
/* The time of a deadline in canonical form, whose seconds count from now; 0: none. */
int64_t storage_deadline_ms(const cJSON *deadline);
/* What the row repeats from a canonical spec with a version of its dataset; borrowed from it. The caller sets the rest:
 * spec, digests and labels as text, created_by ... after has room for the ids. */
struct storage_job_in storage_job_in_of(const cJSON *spec, const char *after[WASD_AFTER_MAX]);
/* Stores job, transition, event and idempotency key in one transaction. A known key with an equal digest gives the
 * earlier job and *existing = true; with another digest WASD_EEXIST. WASD_ENOTFOUND: dataset or init_checkpoint;
 * WASD_EFULL: disk space is low. */
enum wasd_status storage_job_create(struct storage *s, const struct storage_job_in *in, struct storage_job *out,
                                    bool *existing, struct wasd_err *err);
enum wasd_status storage_job_get(struct storage *s, const char *id, struct storage_job *out, struct wasd_err *err);

/* Members that can change after submission; NULL and -1 leave a member unchanged, and the last ones change only if
 * their flag is set. Priority, queue, max_wall_s and keep only while the job is not terminal, the deadline only while
 * it has not completed (WASD_ESTATE); WASD_ENOTFOUND: the queue. What is kept is applied with the next checkpoint. Row,
 * event and audit row in one transaction; out is the row afterwards. */
struct storage_keep {
	int64_t best, latest;
	const char *metric;
	bool max;
};
struct storage_job_patch {
	const char *name, *note, *labels, *queue;
	int64_t priority;
	bool set_deadline, set_max_wall_s, set_keep;
	int64_t deadline, max_wall_s;
	struct storage_keep keep;
};
enum wasd_status storage_job_update(struct storage *s, const char *id, const struct storage_job_patch *p,
                                    const char *actor, struct storage_job *out, struct wasd_err *err);

struct storage_job_filter {
	const char *states; /* comma-separated */
	const char *name, *queue, *dataset;
	const char *contains; /* in name or note */
	const char *sweep;
};
enum wasd_status storage_job_list(struct storage *s, const struct storage_job_filter *f, struct storage_page page,
                                  struct storage_job_list *out, struct wasd_err *err);
/* Of each queue that is not paused, the first `limit` queued jobs whose dataset is ready; by priority (larger first),
 * then age. */
enum wasd_status storage_job_runnable(struct storage *s, int limit, struct storage_job_list *out, struct wasd_err *err);
/* Queues. Each change stores its event (topic "jobs", queue.updated) and audit row. */
struct storage_queue {
	char *name;
	int64_t max_running; /* jobs of it that may run at the same time; 0: no limit of its own */
	double weight;       /* its share among jobs of equal priority */
	int64_t paused;      /* 1: no job of it is started */
	int64_t running, waiting;
	int64_t created_at, updated_at;
};
void storage_queue_done(struct storage_queue *q);
struct storage_queue_list {
	struct storage_queue *items;
	size_t n;
};
void storage_queue_list_done(struct storage_queue_list *l);
enum wasd_status storage_queue_get(struct storage *s, const char *name, struct storage_queue *out,
                                   struct wasd_err *err);
enum wasd_status storage_queue_list(struct storage *s, struct storage_queue_list *out, struct wasd_err *err);
struct storage_queue_in {
	const char *name, *actor;
	int64_t max_running, paused; /* -1: unchanged */
	double weight;               /* 0: unchanged */
};
/* Changes the queue, or makes it. */
enum wasd_status storage_queue_put(struct storage *s, const struct storage_queue_in *in, struct storage_queue *out,
                                   bool *created, struct wasd_err *err);

/* WASD_ESTATE: it is "default", or an unfinished job is in it, which err->pointer names. */
enum wasd_status storage_queue_delete(struct storage *s, const char *name, const char *actor, struct wasd_err *err);

/* Where a queued job stands. WASD_ENOTFOUND: it is not queued. */
struct storage_place {
	int64_t before; /* queued jobs of higher priority, or of equal priority and older; not those of paused queues */
	bool scanning;  /* its dataset is being scanned */
	double usual_s; /* mean time from start to end of the last completed jobs; 0: none yet */
};
enum wasd_status storage_job_place(struct storage *s, const char *id, struct storage_place *out, struct wasd_err *err);
/* Where a job of this priority would stand if it were submitted now; scanning is false. */
enum wasd_status storage_job_place_new(struct storage *s, int64_t priority, struct storage_place *out,
                                       struct wasd_err *err);

struct storage_count {
	const char *state;
	int64_t n;
};
#define STORAGE_JOB_STATES 12
enum wasd_status storage_job_counts(struct storage *s, struct storage_count out[STORAGE_JOB_STATES],
                                    struct wasd_err *err);

struct storage_move {
	const char *to;
	const char *from;                        /* NULL: any state from which the move is legal */
	int64_t attempt;                         /* nonzero: only if this is the job's latest attempt (fencing) */
	const char *reason, *message, *progress; /* progress NULL: unchanged */
	int64_t retry_at;
	const char *action, *actor; /* on request: an audit row "job.ACTION"; NULL: none */
};
/* Job row, transition row and event row in one transaction. WASD_ESTATE: the table does not have the move, `from`
 * differs, or the attempt is stale; err->pointer is then the job's state. A move to a terminal state applies the
 * retention policy. */
enum wasd_status storage_job_move(struct storage *s, const char *id, const struct storage_move *m,
                                  struct wasd_err *err);
/* Changes of a job without a worker on request, each with its audit row. WASD_ESTATE: not from its state, which is then
 * err->pointer. What is asked for already holds: WASD_OK, and nothing is written. */
struct storage_request {
	const char *actor, *reason; /* reason: the user's text or NULL */
};
/* Is it paused, or pausing, because the disk or the quota was full? */
bool storage_job_paused_for_room(const struct storage_job *j);
/* The ids of all that are paused for it, oldest first. The caller frees out (storage_names_done). */
enum wasd_status storage_job_without_room(struct storage *s, struct storage_names *out, struct wasd_err *err);
/* queued, retry_wait -> held, reason "user". A job held for another reason is then held for this one; a job paused for
 * lack of room is then paused by the user. */
enum wasd_status storage_job_hold(struct storage *s, const char *id, const struct storage_request *r,
                                  struct wasd_err *err);
/* held (by a user), paused -> queued. */
enum wasd_status storage_job_release(struct storage *s, const char *id, const struct storage_request *r,
                                     struct wasd_err *err);
/* failed, cancelled, retry_wait -> queued: another attempt; after an end with all its retries. WASD_ESTATE with the
 * pointer /deadline or /queue: its deadline has passed, its queue was deleted. */
enum wasd_status storage_job_retry(struct storage *s, const char *id, const struct storage_request *r,
                                   struct wasd_err *err);
/* The jobs that have not ended and whose deadline has passed, also those with a worker, and the queued jobs that have
 * used up their max_wall_s. */
enum wasd_status storage_job_overdue(struct storage *s, struct storage_names *out, struct wasd_err *err);
#define STORAGE_DEADLINE_OVER "its deadline has passed"
#define STORAGE_WALL_OVER "limits.max_wall_s is over"
/* Fails such a job, if it has no worker, with reason deadline_exceeded; its profiles not ready become failed.
 * WASD_ESTATE: it has a worker, or is not overdue. */
enum wasd_status storage_job_expire(struct storage *s, const char *id, struct wasd_err *err);
/* Cancels a job without a worker, including a job that runs only for its profiles: those not ready become failed.
 * With an audit row, unless actor is NULL. WASD_ESTATE otherwise. */
enum wasd_status storage_job_cancel(struct storage *s, const char *id, const char *reason, const char *message,
                                    const char *actor, struct wasd_err *err);
enum wasd_status storage_job_searching(struct storage *s, int64_t *n,
                                       struct wasd_err *err); /* number of jobs that run only for their profiles */
/* Terminal jobs only. WASD_ESTATE otherwise, or when a deployment or another job references one of its checkpoints (the
 * name or id is in err->pointer). Removes the job's attempts, transitions, metrics, logs and checkpoints; events stay
 * until pruned. */
enum wasd_status storage_job_delete(struct storage *s, const char *id, const char *actor, struct wasd_err *err);

/* ---- sweeps ---------------------------------------------------------------------------------------------------- */

/* A sweep makes jobs, its trials, of one template. States: running -> completed | failed; running -> pausing -> paused
 * -> running; any of these -> cancelling -> cancelled. Which trial goes on is decided by rows alone (sweep_plan.h). */
struct storage_sweep {
	char *id; /* "swp_..." */
	char *name, *state, *reason, *message;
	char *template, *space, *search; /* JSON */
	char *rungs;                     /* JSON: the epochs at which a trial's value counts, ascending */
	int64_t divisor, concurrency;
	char *metric;
	int64_t goal_max; /* 1: a larger value is better */
	char *created_by;
	int64_t created_at, finished_at, updated_at;
};
void storage_sweep_done(struct storage_sweep *w);
struct storage_sweep_list {
	struct storage_sweep *items;
	size_t n;
	char *next_cursor;
};
void storage_sweep_list_done(struct storage_sweep_list *l);

struct storage_trial_in {
	const char *point; /* JSON: the values of the space; null: what the trial before it finds */
	const char *spec;  /* JSON, complete */
};
struct storage_sweep_in {
	const char *name, *template, *space, *search, *rungs, *metric, *created_by;
	int64_t divisor, concurrency;
	bool goal_max;
	const struct storage_trial_in *trials;
	size_t n_trials;
	const char *idempotency_key, *request_digest; /* as in struct storage_job_in */
};
/* Rows, event (topic "sweeps", sweep.state), audit row and idempotency key in one transaction; no job is made yet.
 * WASD_EEXIST and *existing as in storage_job_create. */
enum wasd_status storage_sweep_create(struct storage *s, const struct storage_sweep_in *in, struct storage_sweep *out,
                                      bool *existing, struct wasd_err *err);
enum wasd_status storage_sweep_get(struct storage *s, const char *id, struct storage_sweep *out, struct wasd_err *err);
enum wasd_status storage_sweep_list(struct storage *s, const char *states, struct storage_page page,
                                    struct storage_sweep_list *out, struct wasd_err *err);

struct storage_trial {
	int64_t number;
	char *point, *job, *state, *reason, *message; /* of its job; state "waiting": it has none yet */
	int64_t rung;                                 /* the index of the epoch it trains to */
	int64_t epoch;                                /* the last one measured */
	int64_t has_value;
	double value;    /* the best value of the metric so far */
	int64_t results; /* how many rungs it has reached */
};
struct storage_result {
	int64_t trial, rung;
	int64_t has_value;
	double value;
};
/* The best first: by the rungs reached, then by the value at the last of them, then by number. */
struct storage_trial_list {
	struct storage_trial *items;
	size_t n;
	struct storage_result *results; /* by trial and rung */
	size_t n_results;
};
void storage_trial_list_done(struct storage_trial_list *l);
enum wasd_status storage_trial_list(struct storage *s, const struct storage_sweep *w, struct storage_trial_list *out,
                                    struct wasd_err *err);

enum storage_sweep_ask {
	STORAGE_SWEEP_PAUSE,
	STORAGE_SWEEP_RESUME,
	STORAGE_SWEEP_CANCEL,
};
/* Row, event and audit row in one transaction; storage_sweeps_step does the rest. WASD_ESTATE: not from its state,
 * which is then err->pointer. What is asked for already holds: WASD_OK. */
enum wasd_status storage_sweep_ask(struct storage *s, const char *id, enum storage_sweep_ask what,
                                   const struct storage_request *r, struct wasd_err *err);
/* An ended sweep. Its jobs stay, without their sweep, or are deleted with it. WASD_ESTATE: it has not ended, or one of
 * the jobs cannot be deleted, which err->pointer names. */
enum wasd_status storage_sweep_delete(struct storage *s, const char *id, bool with_jobs, const char *actor,
                                      struct wasd_err *err);

/* A job with a worker that is to be stopped for its sweep. */
struct storage_sweep_order {
	char job[40];
	bool cancel; /* false: pause */
};
struct storage_sweep_orders {
	struct storage_sweep_order *items;
	size_t n;
};
/* Does what the rows of all sweeps call for, if a row of a job or a sweep has changed since the last call: takes the
 * results of trials, promotes and prunes, makes and queues jobs, ends sweeps. Each sweep in one transaction with its
 * events. The caller frees orders->items (wasd_free). After a failure, or without room on the disk, the next call
 * tries again. */
enum wasd_status storage_sweeps_step(struct storage *s, struct storage_sweep_orders *orders, struct wasd_err *err);

struct storage_attempt {
	char *job;
	int64_t number;
	int64_t pid;       /* 0 until known */
	char *build;       /* JSON: program, libraries, instruction set, threads */
	char *resume_from; /* checkpoint id or NULL */
	int64_t started_at, ended_at;
	char *outcome;     /* NULL while open; completed failed cancelled paused preempted interrupted */
	char *exit_reason; /* text: "signal 9 (Killed)", "exit code 3: ..." */
	int64_t exit_code, signal;
	char *log_tail; /* last lines of the output */
};
void storage_attempt_done(struct storage_attempt *a);
struct storage_attempt_list {
	struct storage_attempt *items;
	size_t n;
};
void storage_attempt_list_done(struct storage_attempt_list *l);
enum wasd_status storage_attempt_list(struct storage *s, const char *job, struct storage_attempt_list *out,
                                      struct wasd_err *err);

/* queued -> starting with a new attempt row, in one transaction. *resume_from (wasd_free) is the checkpoint to
 * resume from, or NULL. */
enum wasd_status storage_attempt_start(struct storage *s, const char *job, int64_t *number, char **resume_from,
                                       struct wasd_err *err);
/* Running time, in milliseconds, of the job's attempts that have ended since its last retry on request. */
enum wasd_status storage_job_ran(struct storage *s, const char *job, int64_t *ms, struct wasd_err *err);
/* What it may run; 0: no limit. */
enum wasd_status storage_job_max_wall(struct storage *s, const char *job, int64_t *seconds, struct wasd_err *err);
/* starting -> running once the worker has said hello. */
enum wasd_status storage_attempt_running(struct storage *s, const char *job, int64_t number, int64_t pid,
                                         const char *build, struct wasd_err *err);
/* What the worker turned out to be, in place of the earlier text. */
enum wasd_status storage_attempt_build(struct storage *s, const char *job, int64_t number, const char *build,
                                       struct wasd_err *err);
struct storage_wanted {
	const char *name, *desire, *request, *kind;
}; /* a profile or another mode, as in storage_profile_in; its name has a family if it stands among the job's modes */
struct storage_exit {
	const char *outcome, *exit_reason, *log_tail;
	int64_t exit_code, signal;
	const struct storage_wanted *profiles;
	size_t n_profiles; /* profiles of its best checkpoint, to be settled before the job is completed */
};
/* Closes the attempt and moves the job in one transaction (move.attempt is set to number). A failed outcome adds 1
 * to retries. With profiles, a move to completed instead requests them in the same transaction: the job stays
 * running without a worker (`trained`). The transaction in which the last profile becomes ready, failed or deleted
 * completes the job, with a message that names each missing profile. */
enum wasd_status storage_attempt_end(struct storage *s, const char *job, int64_t number, const struct storage_exit *x,
                                     const struct storage_move *m, struct wasd_err *err);

struct storage_transition {
	int64_t seq;
	char *job, *from, *to, *reason, *message;
	int64_t attempt, at;
};
void storage_transition_done(struct storage_transition *t);
struct storage_transition_list {
	struct storage_transition *items;
	size_t n;
};
void storage_transition_list_done(struct storage_transition_list *l);
enum wasd_status storage_transition_list(struct storage *s, const char *job, struct storage_transition_list *out,
                                         struct wasd_err *err);

/* ---- metrics ------------------------------------------------------------------------------------- */

struct storage_metric {
	const char *name;
	double value;
}; /* NaN and infinities are stored as such */
/* One epoch: metrics, progress and a job.metric event in one transaction. Replays are harmless; a stale attempt or a
 * job that is not active gives WASD_ESTATE and stores nothing. ts 0 = now. */
enum wasd_status storage_epoch(struct storage *s, const char *job, int64_t attempt, int64_t epoch, int64_t step,
                               int64_t ts, const struct storage_metric *m, size_t n, const char *progress,
                               struct wasd_err *err);

/* Warnings of a run: one row for each code with its latest epoch, at most STORAGE_WARNINGS_MAX. Stores a job.warning
 * event; a stale attempt gives WASD_ESTATE. attempt 0: not from a worker. */
#define STORAGE_WARNINGS_MAX 16
enum wasd_status storage_warning_put(struct storage *s, const char *job, int64_t attempt, const char *code,
                                     int64_t epoch, const char *message, struct wasd_err *err);
struct storage_warning {
	char *code;
	int64_t epoch;
	char *message;
	int64_t at;
};
struct storage_warning_list {
	struct storage_warning *items;
	size_t n;
};
void storage_warning_list_done(struct storage_warning_list *l);
enum wasd_status storage_warning_list(struct storage *s, const char *job, struct storage_warning_list *out,
                                      struct wasd_err *err); /* by epoch */

/* The curves along the steps, metrics "train_loss_step" and "images_per_s_step" (each value is the mean over the steps
 * since the previous point) and "lr_step" (of that step). Steps must ascend (WASD_EINVAL); points up to the last
 * stored one of a curve are replays and ignored. At STORAGE_STEP_POINTS points of a curve, each pair is merged into
 * one. One transaction with a job.metric event ("points": [[step,epoch,ts,loss],...]) and, if progress (JSON) is not
 * NULL, a job.progress event. attempt 0: not from a worker (n is 0). */
enum { STORAGE_STEP_POINTS = 1000 };
struct storage_step {
	int64_t step, epoch;
	double loss, lr, images_per_s; /* NaN: not measured */
};
enum wasd_status storage_steps(struct storage *s, const char *job, int64_t attempt, const struct storage_step *p,
                               size_t n, const char *progress, struct wasd_err *err);

/* What a job's process uses, sampled while it runs. */
enum { STORAGE_SAMPLES = 720 };
struct storage_sample {
	int64_t epoch, step, ts;
	int64_t from_step; /* of the checkpoint that the attempt resumed from; 0: none */
	const struct storage_metric *m;
	size_t n;
};
/* Each metric has at most STORAGE_SAMPLES rows: when they are full, each pair is merged into its mean, and from then on
 * as many samples as the older rows contain share one row. Samples of earlier attempts behind from_step are removed:
 * this attempt trains those steps again. One transaction with a job.sample event; a stale attempt gives WASD_ESTATE. */
enum wasd_status storage_sample_put(struct storage *s, const char *job, int64_t attempt,
                                    const struct storage_sample *in, struct wasd_err *err);

struct storage_point {
	char *name;
	int64_t epoch, step, ts;
	double value;
};
void storage_point_done(struct storage_point *p);
struct storage_point_list {
	struct storage_point *items;
	size_t n;
};
void storage_point_list_done(struct storage_point_list *l);
/* Ordered by name, epoch, step and time; includes the curves along the steps and the samples. names: comma-separated,
 * NULL = all. Only points with step >= from_step. */
enum wasd_status storage_metric_series(struct storage *s, const char *job, const char *names, int64_t from_step,
                                       struct storage_point_list *out, struct wasd_err *err);
/* The newest point of every per-epoch metric. */
enum wasd_status storage_metric_latest(struct storage *s, const char *job, struct storage_point_list *out,
                                       struct wasd_err *err);

/* ---- checkpoints ------------------------------------------------------------------------------------ */

struct storage_ckpt {
	char *id;  /* "ckpt_..." */
	char *job; /* NULL: imported */
	int64_t attempt, epoch, step;
	char *metrics; /* JSON */
	char *info;    /* JSON: draw, shapes and other facts from the engine; or NULL */
	double score;
	int64_t has_score; /* score, the value of the job's keep_metric, is set */
	int64_t bytes;
	char *sha256;
	char *reason; /* epoch, cancel, pause, preempt, final */
	int64_t pinned, corrupt;
	int64_t created_at;
};
void storage_ckpt_done(struct storage_ckpt *c);
struct storage_ckpt_list {
	struct storage_ckpt *items;
	size_t n;
};
void storage_ckpt_list_done(struct storage_ckpt_list *l);

struct storage_ckpt_in {
	const char *job;
	int64_t attempt, epoch, step; /* job NULL: an import, which stores only bytes and manifest; no retention applies */
	const void *data;
	size_t bytes;
	const char *sha256;                       /* e.g. a mapped memory file; the hash is checked */
	const char *reason, *info, *metrics_json; /* metrics_json NULL: made from `metrics` */
	const struct storage_metric *metrics;
	size_t n_metrics; /* stored as by storage_epoch */
	const char *progress;
	int64_t ts;
};
/* Stores the bytes durably, then manifest, metrics, progress, events and the retention in one transaction. Storing
 * the same checkpoint again gives the same id. Resets the job's retries. id: room for 32 bytes. WASD_ECORRUPT when
 * the hash does not match; WASD_ESTATE for a stale attempt; WASD_EFULL. */
enum wasd_status storage_ckpt_store(struct storage *s, const struct storage_ckpt_in *in, char id[32],
                                    struct wasd_err *err);
/* Never blocks: copies everything but in->data, which must stay valid until done is called (on a storage thread). id
 * is "" on failure. */
typedef void storage_ckpt_done_fn(void *ctx, enum wasd_status status, const char *id, const struct wasd_err *err);
void storage_ckpt_store_async(struct storage *s, const struct storage_ckpt_in *in, storage_ckpt_done_fn *done,
                              void *ctx);

enum wasd_status storage_ckpt_get(struct storage *s, const char *id, struct storage_ckpt *out, struct wasd_err *err);
/* Newest first; includes corrupt checkpoints, marked. job NULL: the imported ones. */
enum wasd_status storage_ckpt_list(struct storage *s, const char *job, struct storage_ckpt_list *out,
                                   struct wasd_err *err);
/* which: "best" by the job's keep_metric (ties: the earlier; without any score the latest) or "latest". Ignores
 * corrupt checkpoints. */
enum wasd_status storage_ckpt_pick(struct storage *s, const char *job, const char *which, struct storage_ckpt *out,
                                   struct wasd_err *err);
enum wasd_status storage_ckpt_pin(struct storage *s, const char *id, bool pinned, const char *actor,
                                  struct wasd_err *err);
/* Work outside the database that needs checkpoints and data sets until it has ended. Each function says whether it
 * needs the object, and what does ("merge merge_1"); NULL: it needs none. On the writer's thread; they may not call
 * storage. */
struct storage_holder {
	bool (*checkpoint)(void *ctx, const char *checkpoint, char by[64]);
	bool (*dataset)(void *ctx, const char *name, int64_t version, char by[64]); /* version 0: any */
	void *ctx;
};
enum { STORAGE_HOLDERS = 4 };
void storage_hold(struct storage *s, const struct storage_holder *h); /* copied; at most STORAGE_HOLDERS */
/* When this returns, the functions with that ctx are not called any more. Not held: no effect. */
void storage_unhold(struct storage *s, const void *ctx);
/* WASD_ESTATE when a deployment uses it (its name in err->pointer), an unfinished job resumes or starts from it, it is
 * pinned, or held (storage_hold). */
enum wasd_status storage_ckpt_delete(struct storage *s, const char *id, const char *actor, struct wasd_err *err);

/* Reads checkpoint bytes. Every 1 MiB chunk is checked against its own SHA-256; a read from 0 to the end also checks
 * the whole. WASD_ECORRUPT when a check fails (the row is then marked corrupt). One thread at a time per reader. */
struct storage_ckpt_reader;
enum wasd_status storage_ckpt_open(struct storage *s, const char *id, struct storage_ckpt_reader **out,
                                   struct wasd_err *err);
int64_t storage_ckpt_size(const struct storage_ckpt_reader *r);
/* *got < len only at the end. */
enum wasd_status storage_ckpt_read(struct storage_ckpt_reader *r, int64_t offset, void *buf, size_t len, size_t *got,
                                   struct wasd_err *err);
void storage_ckpt_close(struct storage_ckpt_reader *r);
/* The whole checkpoint as a sealed, checked memory file to pass to train and infer processes. The caller closes *fd. */
enum wasd_status storage_ckpt_memfd(struct storage *s, const char *id, int *fd, int64_t *bytes,
                                    char sha256[WASD_SHA256_HEX], struct wasd_err *err);

/* ---- modes made of a checkpoint: profiles, and those of other kinds -------------------------------------- */

/* Each is a mode FAMILY:NAME of its checkpoint (wasd/mode.h): a profile is "dom:NAME". "profile" below means any of
 * them. While the modes of the checkpoint's own list are measured there is a row STORAGE_MEASURING as well: it ends
 * with the figures in the checkpoint's info ("measured"), or fails, and is never ready. */
enum {
	STORAGE_PROFILES_MAX = 32,      /* per checkpoint */
	STORAGE_OVERLAY_MAX = 24 << 20, /* one transaction; a ResNet-34 in int8 has some 20 MiB */
};
#define STORAGE_MEASURING "own:modes"

struct storage_profile {
	char *id; /* "prof_..." */
	char *checkpoint;
	char *mode, *kind; /* "dom:fast", "draw" */
	char *name;        /* "fast" */
	char *state;       /* queued | searching | ready | failed */
	char *desire;      /* macs | latency | draw | the name of another kind's desire */
	char *request;     /* JSON, canonical: what the engine is asked for */
	char *dataset;
	int64_t dataset_version; /* version of the dataset whose validation images are used */
	char *info;              /* JSON, when ready: draw, macs, accuracy, speed ... */
	int64_t bytes;
	char *sha256;  /* of the overlay, when ready */
	char *message; /* when failed */
	char *created_by;
	int64_t created_at, updated_at, finished_at;
};
void storage_profile_done(struct storage_profile *p);
struct storage_profile_list {
	struct storage_profile *items;
	size_t n;
};
void storage_profile_list_done(struct storage_profile_list *l);

struct storage_profile_in {
	const char *checkpoint;
	const char *name; /* with or without the family, which is "dom" by default */
	const char *kind; /* NULL: "draw" */
	const char *desire, *request, *dataset;
	int64_t dataset_version;
	const char *actor;
};
/* Adds a profile in state queued. If the same request was made under this name before, gives that profile and
 * *existing = true; a failed one starts again. out and existing may be NULL. WASD_EEXIST: the name belongs to
 * another request; WASD_ENOTFOUND, WASD_ECORRUPT: the checkpoint; WASD_ESTATE: too many profiles; WASD_EFULL. */
enum wasd_status storage_profile_begin(struct storage *s, const struct storage_profile_in *in,
                                       struct storage_profile *out, bool *existing, struct wasd_err *err);
/* name: with or without the family, or the id. checkpoint NULL: by id only. */
enum wasd_status storage_profile_get(struct storage *s, const char *checkpoint, const char *name,
                                     struct storage_profile *out, struct wasd_err *err);
/* Newest first, without STORAGE_MEASURING; state NULL = all. */
enum wasd_status storage_profile_list(struct storage *s, const char *checkpoint, const char *state,
                                      struct storage_profile_list *out, struct wasd_err *err);
/* The profile queued for longest whose base is not to be made yet; WASD_ENOTFOUND when none is. */
enum wasd_status storage_profile_next(struct storage *s, struct storage_profile *out, struct wasd_err *err);
/* The profile that a trained job waits for: the one being searched, else the next one; and the number of profiles it
 * waits for (may be NULL). WASD_ENOTFOUND when it waits for none. */
enum wasd_status storage_profile_of_job(struct storage *s, const char *job, struct storage_profile *out,
                                        int64_t *waiting, struct wasd_err *err);
/* queued -> searching -> ready, or -> failed from both; WASD_ESTATE otherwise. Checks the overlay: WASD_ECORRUPT
 * (hash), WASD_ETOOBIG; WASD_EFULL before it is read. own: JSON for the checkpoint's "measured", or NULL. */
enum wasd_status storage_profile_searching(struct storage *s, const char *id, struct wasd_err *err);
enum wasd_status storage_profile_ready(struct storage *s, const char *id, const char *info, const char *own,
                                       const void *overlay, size_t bytes, const char *sha256, struct wasd_err *err);
/* The row STORAGE_MEASURING ends: `own` becomes the checkpoint's "measured". */
enum wasd_status storage_modes_measured(struct storage *s, const char *id, const char *own, struct wasd_err *err);
enum wasd_status storage_profile_fail(struct storage *s, const char *id, const char *message, struct wasd_err *err);
/* WASD_ESTATE when a deployment of its checkpoint answers in this mode (its name in err->pointer). */
enum wasd_status storage_profile_delete(struct storage *s, const char *checkpoint, const char *name, const char *actor,
                                        struct wasd_err *err);
/* The bytes of a ready profile's overlay, checked (wasd_free). WASD_ECORRUPT. */
enum wasd_status storage_profile_overlay(struct storage *s, const char *id, char **data, size_t *bytes,
                                         struct wasd_err *err);
/* Its checkpoint, as from storage_ckpt_memfd (bytes and sha256 cover only that part), followed by the overlay. */
enum wasd_status storage_profile_memfd(struct storage *s, const char *id, int *fd, int64_t *bytes,
                                       char sha256[WASD_SHA256_HEX], int64_t *overlay_bytes, struct wasd_err *err);

/* ---- logs --------------------------------------------------------------------------------------------- */

struct storage_log_in {
	int64_t ts;
	const char *level;
	const char *text;
}; /* ts 0 = now; level debug info warn error */
/* Deletes the oldest lines beyond the limit. The caller must repair ill-formed UTF-8 in text. */
enum wasd_status storage_log_add(struct storage *s, const char *job, int64_t attempt,
                                 const struct storage_log_in *lines, size_t n, struct wasd_err *err);
struct storage_log {
	int64_t n, attempt, ts;
	char *level, *text;
}; /* n: 1, 2, ... per job */
void storage_log_done(struct storage_log *l);
struct storage_log_list {
	struct storage_log *items;
	size_t n;
	int64_t first_n, last_n;
}; /* numbers of the first and last line still stored; 0 0 = none */
void storage_log_list_done(struct storage_log_list *l);
struct storage_log_query {
	int64_t after_n;   /* lines after this number */
	int64_t since;     /* lines not older than this time */
	int64_t attempt;   /* 0 = all */
	const char *level; /* this level and above; NULL = all */
	const char *contains;
	int limit; /* 0 = 1,000, at most 10,000 */
	bool tail; /* the last `limit` lines instead of the first */
};
enum wasd_status storage_log_read(struct storage *s, const char *job, const struct storage_log_query *q,
                                  struct storage_log_list *out, struct wasd_err *err);

/* ---- events ---------------------------------------------------------------------------------------------- */

struct storage_event {
	int64_t seq;
	char *topic, *type, *object, *data;
	int64_t ts;
};
void storage_event_done(struct storage_event *e);
struct storage_event_list {
	struct storage_event *items;
	size_t n;
	int64_t first_seq, last_seq;
}; /* of the whole log, without pruned events */
void storage_event_list_done(struct storage_event_list *l);
/* The functions above store these events. jobs: job.created job.updated job.state job.metric job.progress
 * job.checkpoint job.deleted; datasets: dataset.state; deployments: deployment.state deployment.mode deployment.traffic
 * deployment.deleted; checkpoints: checkpoint.profile. This function adds others (system, job.log,
 * checkpoint.merge checkpoint.archive). data is JSON. */
enum wasd_status storage_event_add(struct storage *s, const char *topic, const char *type, const char *object,
                                   const char *data, int64_t *seq, struct wasd_err *err);
/* Events after a number, oldest first. topics: comma-separated, NULL = all; object NULL = all. The client must be
 * sent "reset" when after + 1 < first_seq. limit 0 = 500. If nothing matches, continue from last_seq. */
enum wasd_status storage_event_read(struct storage *s, int64_t after, const char *topics, const char *object, int limit,
                                    struct storage_event_list *out, struct wasd_err *err);

/* ---- deployments -------------------------------------------------------------------------------------------- */

struct storage_deployment {
	char *id; /* "dep_..." */
	char *name;
	char *source; /* JSON as requested */
	char *job;    /* of the checkpoint; NULL if the job was deleted */
	char *checkpoint;
	char *mode;         /* aom | dom | slim | FAMILY:NAME | auto | cascade */
	int64_t generation; /* +1 with every change of mode or checkpoint; the ETag "gN" */
	int64_t version;    /* +1 with every change of checkpoint */
	char *state, *message;
	char *options; /* JSON: batching, queue, limits, required, traffic, tuned */
	char *mode_by;
	int64_t mode_since;
	int64_t created_at, updated_at;
	char *wanted; /* the checkpoint that it is to serve next; NULL: none */
	char
		*update_info; /* with wanted, JSON: {"source","mode","by","reason","error","at"}; error: why it is not served */
	char *previous;   /* the checkpoint that it served before; NULL: none, or it was deleted */
	int64_t deleted;  /* draining to be deleted, else to be unloaded */
};
void storage_deployment_done(struct storage_deployment *d);
struct storage_deployment_list {
	struct storage_deployment *items;
	size_t n;
	char *next_cursor;
};
void storage_deployment_list_done(struct storage_deployment_list *l);

struct storage_deployment_in {
	const char *name, *source, *checkpoint, *mode, *options, *actor, *reason; /* reason: of the mode; NULL: none */
};
/* Creates it in state created, generation 1, version 1. WASD_EEXIST: the name is taken; WASD_ENOTFOUND: checkpoint;
 * WASD_EBUSY: the profile of its mode is not ready. */
enum wasd_status storage_deployment_create(struct storage *s, const struct storage_deployment_in *in,
                                           struct storage_deployment *out, struct wasd_err *err);
enum wasd_status storage_deployment_get(struct storage *s, const char *name, struct storage_deployment *out,
                                        struct wasd_err *err);
enum wasd_status storage_deployment_list(struct storage *s, const char *state, struct storage_page page,
                                         struct storage_deployment_list *out, struct wasd_err *err);
/* Legal moves: created loading warming ready draining unloaded failed as in the API; WASD_ESTATE otherwise. Setting
 * the current state only updates the message. */
enum wasd_status storage_deployment_state(struct storage *s, const char *name, const char *state, const char *message,
                                          struct wasd_err *err);

struct storage_mode_in {
	const char *name, *mode, *actor, *reason;
	int64_t expected_generation; /* 0: unconditional */
};
struct storage_mode_out {
	int64_t generation;
	char previous[WASD_MODE_LEN];
	bool changed;
	char audit_id[32];
	int64_t since;
};
/* Deployment row, audit row and event row in one transaction. The current mode: changed = false, nothing written.
 * WASD_ESTATE: the generation differs (the current one is in out->generation) or the deployment is not ready;
 * WASD_EBUSY: the checkpoint has no such profile that is ready. */
enum wasd_status storage_deployment_mode(struct storage *s, const struct storage_mode_in *in,
                                         struct storage_mode_out *out, struct wasd_err *err);

/* ---- deployments: another checkpoint ----
 *
 * storage_deployment_source stores the wish; the old checkpoint is served until the new one is loaded. Then
 * storage_deployment_swap makes it the one that is served, or storage_deployment_update_failed says why it is not. */

struct storage_source_in {
	const char *name;
	const char *source;     /* JSON; NULL: the source that the deployment follows now */
	const char *checkpoint; /* of that source */
	const char *mode;       /* after the swap; NULL: the mode at that time */
	const char *actor, *reason;
	int64_t expected_generation; /* 0: unconditional */
};
/* A later wish replaces an earlier one. A deployment that serves the checkpoint already, or that is unloaded, gets the
 * source at once: out->wanted is then NULL. Audit row deployment.source and event in the same transaction. out may be
 * NULL. WASD_EBUSY: the checkpoint has no such mode; WASD_ESTATE: it is being deleted, or the generation differs. */
enum wasd_status storage_deployment_source(struct storage *s, const struct storage_source_in *in,
                                           struct storage_deployment *out, struct wasd_err *err);
/* Serves the wanted checkpoint from now on: generation and version +1, audit row deployment.swap and event.
 * WASD_ESTATE: the deployment wants another checkpoint by now; WASD_EBUSY: its mode belongs to a profile that the
 * checkpoint does not have. */
enum wasd_status storage_deployment_swap(struct storage *s, const char *name, const char *checkpoint,
                                         struct storage_deployment *out, struct wasd_err *err);
/* Stores why the wanted checkpoint cannot be served; audit row deployment.update_failed and event. WASD_ESTATE: the
 * deployment wants another checkpoint by now. */
enum wasd_status storage_deployment_update_failed(struct storage *s, const char *name, const char *checkpoint,
                                                  const char *why, struct wasd_err *err);
/* Deployments that a completed job has made or changed since the last call: they are to be loaded, and are forgotten
 * here. */
enum wasd_status storage_loads_take(struct storage *s, struct storage_names *out, struct wasd_err *err);
bool storage_loads_waiting(struct storage *s);
/* The names of the deployments that follow a job's checkpoints. */
enum wasd_status storage_deployment_followers(struct storage *s, const char *job, struct storage_names *out,
                                              struct wasd_err *err);

struct storage_options_in {
	const char *name;
	const char *options; /* JSON object: these members replace those of the row's options; null removes one */
	const char *actor, *reason;
};
/* Row, audit row (deployment.options) and event in one transaction. */
enum wasd_status storage_deployment_options(struct storage *s, const struct storage_options_in *in,
                                            struct wasd_err *err);
/* It is to be loaded (again): an unloaded or failed one gets the state created, with its audit row (deployment.load)
 * and event. WASD_ESTATE: it is draining. */
enum wasd_status storage_deployment_again(struct storage *s, const char *name, const char *actor, struct wasd_err *err);
/* The deployment takes no more requests: state draining, audit row (deployment.delete or deployment.unload) and event.
 * WASD_ESTATE: it is draining to be deleted, or (unload) it is not loaded. */
enum wasd_status storage_deployment_drain(struct storage *s, const char *name, bool to_delete, const char *actor,
                                          struct wasd_err *err);
/* Its last request was answered: the row is deleted, or its state is unloaded. Nothing happens if it is not draining.
 */
enum wasd_status storage_deployment_drained(struct storage *s, const char *name, struct wasd_err *err);

/* The mode auto has switched the mode in force, for a reason: audit row and event deployment.mode (with "effective") in
 * one transaction. The row of the deployment does not change. */
enum wasd_status storage_deployment_turned(struct storage *s, const char *name, const char *from, const char *to,
                                           const char *reason, struct wasd_err *err);

/* ---- registry: models, versions, aliases ----------------------------------------------------------------------- */

struct storage_model {
	char *id; /* "mdl_..." */
	char *name, *note;
	int64_t latest; /* number of the newest version ever; 0: none yet */
	char *created_by;
	int64_t created_at, updated_at;
};
void storage_model_done(struct storage_model *m);
struct storage_model_list {
	struct storage_model *items;
	size_t n;
	char *next_cursor;
};
void storage_model_list_done(struct storage_model_list *l);

struct storage_version {
	char *id; /* "ver_..." */
	char *model;
	int64_t version; /* 1, 2, ...; never given again, even after the model was deleted */
	char *checkpoint;
	char *lineage; /* JSON */
	char *note, *created_by;
	int64_t created_at;
};
void storage_version_done(struct storage_version *v);
struct storage_version_list {
	struct storage_version *items;
	size_t n;
	char *next_cursor;
};
void storage_version_list_done(struct storage_version_list *l);

struct storage_alias {
	char *alias;
	int64_t version;
};
struct storage_alias_list {
	struct storage_alias *items;
	size_t n;
};
void storage_alias_list_done(struct storage_alias_list *l);

struct storage_alias_move {
	char *id; /* "mov_..." */
	char *alias;
	int64_t version, previous; /* 0: none (the alias was deleted, or is new) */
	char *actor, *reason;
	int64_t at;
};
struct storage_alias_move_list {
	struct storage_alias_move *items;
	size_t n;
	char *next_cursor;
};
void storage_alias_move_list_done(struct storage_alias_move_list *l);

/* Each change stores its event (topic "models") and audit row (object "model/NAME") in the same transaction. */

/* WASD_EEXIST: the name is taken. note may be NULL. */
enum wasd_status storage_model_create(struct storage *s, const char *name, const char *note, const char *actor,
                                      struct wasd_err *err);
enum wasd_status storage_model_get(struct storage *s, const char *name, struct storage_model *out,
                                   struct wasd_err *err);
enum wasd_status storage_model_list(struct storage *s, struct storage_page page, struct storage_model_list *out,
                                    struct wasd_err *err);
enum wasd_status storage_model_note(struct storage *s, const char *name, const char *note, const char *actor,
                                    struct wasd_err *err);
/* With its versions and aliases. WASD_ESTATE: it is the source of a deployment, which err->pointer names. */
enum wasd_status storage_model_delete(struct storage *s, const char *name, const char *actor, struct wasd_err *err);

struct storage_version_in {
	const char *model, *checkpoint, *note, *actor; /* note may be NULL */
};
/* The checkpoint is kept as long as the version is. WASD_ENOTFOUND: model or checkpoint. */
enum wasd_status storage_version_add(struct storage *s, const struct storage_version_in *in, int64_t *version,
                                     struct wasd_err *err);
enum wasd_status storage_version_get(struct storage *s, const char *model, int64_t version, struct storage_version *out,
                                     struct wasd_err *err);
enum wasd_status storage_version_list(struct storage *s, const char *model, struct storage_page page,
                                      struct storage_version_list *out, struct wasd_err *err);
/* WASD_ESTATE: an alias or a deployment names it. */
enum wasd_status storage_version_delete(struct storage *s, const char *model, int64_t version, const char *actor,
                                        struct wasd_err *err);

struct storage_alias_in {
	const char *model, *alias, *actor, *reason;
	int64_t version;
	int64_t expected; /* the version that the alias must name now; 0: it must be new; -1: any */
};
/* Also moves the deployments that follow the alias (source {"model","alias"}) to the version's checkpoint; moved, which
 * begins empty, gets their names. Nothing changes if one of them cannot move. WASD_ESTATE: the alias names another
 * version than the expected one; WASD_EBUSY: a deployment's mode belongs to a profile that the checkpoint does not
 * have.
 */
enum wasd_status storage_alias_set(struct storage *s, const struct storage_alias_in *in, struct storage_names *moved,
                                   struct wasd_err *err);
enum wasd_status storage_alias_get(struct storage *s, const char *model, const char *alias, int64_t *version,
                                   struct wasd_err *err);
enum wasd_status storage_alias_list(struct storage *s, const char *model, struct storage_alias_list *out,
                                    struct wasd_err *err);
/* WASD_ESTATE: a deployment follows it. */
enum wasd_status storage_alias_delete(struct storage *s, const char *model, const char *alias, const char *actor,
                                      struct wasd_err *err);
/* Every move of the alias, also of one that was deleted. */
enum wasd_status storage_alias_history(struct storage *s, const char *model, const char *alias,
                                       struct storage_page page, struct storage_alias_move_list *out,
                                       struct wasd_err *err);
/* A change of the members "traffic" (the policy that the API has checked) and "tuned" (what a tuning of its cascade
 * found) of a deployment's options. */
struct storage_traffic_in {
	const char *name, *actor, *reason;
	bool set_traffic, set_tuned;
	const char *traffic, *tuned;  /* JSON; NULL removes the member */
	const char *expected_options; /* NULL: unconditional */
	const char *checkpoint;       /* NULL: whichever it serves */
};
/* Deployment row, audit row and event deployment.traffic in one transaction; nothing is written if nothing changes.
 * WASD_ESTATE: the options or the checkpoint are not the expected ones. out may be NULL. */
enum wasd_status storage_deployment_traffic(struct storage *s, const struct storage_traffic_in *in,
                                            struct storage_deployment *out, struct wasd_err *err);

/* ---- room ---------------------------------------------------------------------------------------------------- */

struct storage_part {
	int64_t n, bytes;
};
struct storage_job_bytes {
	char *id, *name;
	struct storage_part checkpoints;
	int64_t modes; /* bytes */
};
struct storage_usage {
	struct storage_part datasets, checkpoints, modes, events, logs;     /* logs: lines; their bytes are an estimate */
	struct storage_part blobs, exports, staging, backups;               /* files */
	int64_t db_bytes, db_wal, db_free, ckpt_bytes, ckpt_wal, ckpt_free; /* files; free: unused pages inside them */
	int64_t ballast, disk_free, low_water;
	int64_t quota, quota_used;      /* 0: no quota */
	struct storage_job_bytes *jobs; /* those with the most bytes, most first */
	size_t n_jobs;
};
void storage_usage_done(struct storage_usage *u);
enum wasd_status storage_usage(struct storage *s, int64_t top, struct storage_usage *out, struct wasd_err *err);

struct storage_gc {
	struct storage_part blobs, datasets, payloads; /* removed: files, files without a row, payloads without a row */
	int64_t db_pages, ckpt_pages;                  /* bytes of unused pages that were found */
	int64_t databases;                             /* bytes by which the files of both databases became shorter */
	int64_t bytes, disk_free_before, disk_free_after;
};
/* Removes blobs that are at least blob_age_s old, dataset files and payloads without a row, and returns unused pages of
 * both databases to the file system, in steps between which other writes pass. dry: only counts; databases is then an
 * estimate. A running backup keeps the files from becoming shorter. */
enum wasd_status storage_gc(struct storage *s, bool dry, int64_t blob_age_s, const char *actor, struct storage_gc *out,
                            struct wasd_err *err);

/* Reads everything in a data directory that no daemon uses, or in a backup: integrity of both databases, references
 * between rows, digest of every checkpoint and mode, size and digest of every dataset file. Changes nothing. */
struct storage_fsck {
	int64_t checkpoints, checkpoint_bytes, modes, datasets, dataset_bytes;
	int64_t faults;    /* something stored is damaged or missing */
	int64_t leftovers; /* files or payloads that nothing names; the next start removes them */
};
struct storage_fsck_hooks {
	void *ctx;
	/* A fault or a leftover; object: "checkpoint/ID", "mode/ID", "dataset/NAME/VERSION", "wasd.db" or a file. */
	void (*found)(void *ctx, bool fault, const char *object, const char *detail);
	/* Compares the content of a dataset file with its digest; NULL: only its size is checked. */
	enum wasd_status (*dataset)(void *ctx, const char *path, const char *digest, struct wasd_err *err);
};
/* WASD_EBUSY: a daemon uses it; WASD_ENOTFOUND: no databases there. Faults are not an error. */
enum wasd_status storage_fsck(const char *data_dir, const struct storage_fsck_hooks *h, struct storage_fsck *out,
                              struct wasd_err *err);

/* ---- webhooks ------------------------------------------------------------------------------------------------ */

enum { STORAGE_WEBHOOKS_MAX = 32 };

struct storage_webhook {
	char *id;                    /* "hook_..." */
	char *url, *events, *secret; /* events: JSON list of event types and topics; "*": all */
	int64_t active;
	int64_t cursor;         /* the last event that was delivered or is not asked for */
	int64_t tries, next_at; /* failed attempts at the next event, and when it is sent again */
	int64_t lost;           /* events that were removed before they could be delivered */
	char *error;            /* of the last attempt; NULL: it succeeded */
	char *created_by;
	int64_t created_at, updated_at; /* updated_at differs after every update */
};
void storage_webhook_done(struct storage_webhook *w);
struct storage_webhook_list {
	struct storage_webhook *items;
	size_t n;
};
void storage_webhook_list_done(struct storage_webhook_list *l);
enum wasd_status storage_webhook_get(struct storage *s, const char *id, struct storage_webhook *out,
                                     struct wasd_err *err);
enum wasd_status storage_webhook_list(struct storage *s, struct storage_webhook_list *out, struct wasd_err *err);
struct storage_webhook_in {
	const char *url, *events, *secret, *actor; /* in an update NULL: unchanged */
	int64_t active;                            /* -1: unchanged */
};
/* A new hook gets the events after its creation. WASD_ESTATE: too many. An update sends the next event at once. Both
 * write an audit row without the secret; of the URL it has scheme, host and port, and a hash of the rest. */
enum wasd_status storage_webhook_create(struct storage *s, const struct storage_webhook_in *in,
                                        struct storage_webhook *out, struct wasd_err *err);
enum wasd_status storage_webhook_update(struct storage *s, const char *id, const struct storage_webhook_in *in,
                                        struct storage_webhook *out, struct wasd_err *err);
enum wasd_status storage_webhook_delete(struct storage *s, const char *id, const char *actor, struct wasd_err *err);

struct storage_delivered {
	const char *webhook, *type, *error; /* error NULL: none */
	const char *state;                  /* delivered | failed | lost; NULL: only the cursor moves */
	int64_t seq, attempt, status, ms;   /* status: of HTTP, 0: no answer */
	bool advance;                       /* the cursor moves to seq */
	int64_t tries, next_at, lost;       /* lost: added */
	int64_t updated_at;                 /* of the hook that was used; 0: any */
};
/* Records an attempt and moves the hook on, in one transaction; the last 100 of a hook are kept. A hook that was
 * updated meanwhile does not move: the event is sent again as the update says. */
enum wasd_status storage_webhook_delivered(struct storage *s, const struct storage_delivered *d, struct wasd_err *err);
/* Records a test, which moves nothing, with an audit row. */
enum wasd_status storage_webhook_tested(struct storage *s, const struct storage_delivered *d, const char *actor,
                                        struct wasd_err *err);
struct storage_delivery {
	char *id, *webhook; /* "whd_..." */
	int64_t seq;        /* of the event; 0: a test */
	char *type;
	int64_t attempt;
	char *state;
	int64_t status;
	char *error;
	int64_t ms, at;
};
struct storage_delivery_list {
	struct storage_delivery *items;
	size_t n;
	char *next_cursor;
};
void storage_delivery_list_done(struct storage_delivery_list *l);
enum wasd_status storage_delivery_list(struct storage *s, const char *webhook, struct storage_page page,
                                       struct storage_delivery_list *out, struct wasd_err *err);

/* ---- backup -------------------------------------------------------------------------------------------------- */

/* A backup is a directory with wasd.db, ckpt.db, the files of the ready datasets and, written last, manifest.json with
 * size and SHA-256 of each file. It holds everything that was acknowledged before it began: both databases are copied
 * from one moment in which every listed checkpoint has its bytes. Writers go on meanwhile. */
enum { STORAGE_PATH = 1024 };
struct storage_backup {
	char path[STORAGE_PATH]; /* absolute */
	char state[12];          /* running | done | failed */
	char message[256];       /* when failed */
	enum wasd_status status;
	int64_t files, bytes, checkpoints;
	int64_t started_at, finished_at;
};
/* Starts a backup on a thread of its own. path: absolute, must not exist; NULL: "backups/TIME" in the data directory.
 * When it ends, an event "system.backup" of object "backup" and an audit row are stored. out (may be NULL): as it
 * began. WASD_EINVAL, WASD_EEXIST: the path; WASD_EBUSY: another backup runs; WASD_EFULL. */
enum wasd_status storage_backup_start(struct storage *s, const char *path, const char *actor,
                                      struct storage_backup *out, struct wasd_err *err);
/* The backup that runs or was the last since the start; false when there is none. */
bool storage_backup_last(struct storage *s, struct storage_backup *out);
/* Waits for the running backup; its status. */
enum wasd_status storage_backup_wait(struct storage *s, struct storage_backup *out, struct wasd_err *err);
/* Copies a backup to a data directory that does not exist or is empty, checking each file against the manifest; the
 * directory appears whole or not at all. WASD_ECORRUPT: the backup is damaged; WASD_EEXIST: the directory holds
 * something. out may be NULL. */
struct storage_restored {
	int64_t files, bytes;
	char made_at[WASD_RFC3339_LEN];
};
enum wasd_status storage_restore(const char *backup, const char *data_dir, struct storage_restored *out,
                                 struct wasd_err *err);

/* ---- audit --------------------------------------------------------------------------------------------------- */

struct storage_audit {
	char *id, *actor, *action, *object, *before, *after, *reason;
	int64_t at;
}; /* "aud_..."; object "deployment/NAME" */
void storage_audit_done(struct storage_audit *a);
struct storage_audit_list {
	struct storage_audit *items;
	size_t n;
	char *next_cursor;
};
void storage_audit_list_done(struct storage_audit_list *l);
/* Rows can only be added: triggers refuse update and delete. before, after: JSON or NULL. id may be NULL, else room
 * for 32 bytes. */
enum wasd_status storage_audit_add(struct storage *s, const char *actor, const char *action, const char *object,
                                   const char *before, const char *after, const char *reason, char *id,
                                   struct wasd_err *err);
enum wasd_status storage_audit_list(struct storage *s, const char *object, const char *actor, int64_t since,
                                    struct storage_page page, struct storage_audit_list *out, struct wasd_err *err);

#endif
