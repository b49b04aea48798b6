/* server/jobs/attempt.h - shared by scheduler.c and attempt*.c. */
#ifndef SERVER_JOBS_ATTEMPT_H
#define SERVER_JOBS_ATTEMPT_H

#include "jobs/scheduler.h"
#include "pool.h"
#include "process/task.h"

#include <pthread.h>

enum { TAIL_LINES = 20, LOG_BATCH = 200 };

struct log_entry {
	int64_t ts;
	char level[8];
	char *text;
};

/* Why an attempt is to end before its training does; a later reason replaces a lower one. */
enum attempt_stop {
	STOP_NONE,
	STOP_PREEMPT, /* its worker is for a job of higher priority */
	STOP_DEADLINE,
	STOP_DRAIN, /* the daemon is stopping */
	STOP_ROOM,  /* the disk or the quota is full */
	STOP_PAUSE,
	STOP_CANCEL,
};

/* One attempt: from the start of its process until its rows are closed. [S] unless marked. */
struct attempt {
	struct sched *jobs;
	struct attempt *next, **pprev; /* under sched.lock */
	char id[48];
	int64_t number; /* number of the attempt within the job; 0: it has no row yet */
	struct task task;
	cJSON *spec;
	char *dataset_path;  /* absolute */
	char *resume, *init; /* checkpoint ids or NULL */
	int64_t threads, retry_max;
	int64_t ran_ms; /* running time of the attempts before it that count */
	double backoff_s;
	int64_t until; /* it pauses at the end of this epoch; 0: it does not */
	/* state */
	bool loaded, closing;
	enum attempt_stop stop;
	char cancel_reason[64];
	const char *pause_reason; /* "user" or "sweep" */
	const char *room;         /* STOP_ROOM: the reason of the pause, and the sentence */
	char room_why[256];
	bool room_shown; /* the job's row is pausing for it */
	char *build;     /* fingerprint of the engine, JSON */
	/* owned by the loader thread while `loading` */
	struct pool_job load_job;
	struct sup_post load_post;
	bool loading;
	int load_fd;
	int64_t load_bytes, load_epoch, load_step;
	char load_sha[WASD_SHA256_HEX];
	struct wasd_err load_err;
	/* the checkpoint that is being stored */
	bool storing;
	const void *ckpt_data;
	size_t ckpt_bytes;
	uint32_t ckpt_seq;
	struct sup_post store_post;
	enum wasd_status store_status;
	char store_id[32];
	struct wasd_err store_err;
	/* log lines: the batch to store, and the last lines */
	struct log_entry batch[LOG_BATCH];
	int n_batch, dropped;
	char *tail[TAIL_LINES];
	int n_tail;
	/* samples of what the process uses (attempt_samples.c) */
	bool placed; /* progress tells an epoch and step of this attempt */
	int64_t sampled_us;
	double sampled_cpu_s;
	/* for other threads, under sched.lock */
	cJSON *progress;
	cJSON *usage; /* the last sample; NULL: none yet */
};

struct sched {
	struct sched_config cfg;
	char *data_dir;
	struct pool *loader;
	pthread_mutex_t lock;
	struct attempt *attempts;
	int n_running;
	int64_t n_searching; /* running jobs that only wait for their profiles: a search occupies a worker. Under lock */
	bool draining;
	struct storage_disk room;                /* at the last tick. Under lock */
	char blocked[200];                       /* why the head of the queue does not start; "" = it will. Under lock */
	int64_t blocked_until_us, next_retry_us; /* [S] */
	_Atomic bool poked;
	struct sup_post poke_post;
	_Atomic bool poke_pending;
};

/* attempt.c. [S] */
enum wasd_status attempt_start(struct sched *j, const struct storage_job *job, const char *dataset_path,
                               struct wasd_err *err);
void attempt_tick(struct attempt *a);
void attempt_limit_time(struct attempt *a); /* applies the time limit of its row, which may have changed */
void attempt_cancel(struct attempt *a, bool kill, const char *reason);
/* Ends it as soon as its checkpoint is stored, at most cfg.cancel_ms later. The job's row has moved already. */
void attempt_stop(struct attempt *a, enum attempt_stop why);
void attempt_maybe_start(struct attempt *a);  /* starts it after its hello, when its checkpoint is loaded */
void attempt_maybe_finish(struct attempt *a); /* closes its row and frees a, if no operation is in progress */
/* attempt_messages.c. [S] */
extern const struct task_message attempt_messages[];
enum wasd_status attempt_check(void *self, const struct wasd_frame *m, struct wasd_err *err);
void attempt_changed(void *self); /* a job.progress event */
void attempt_note(struct attempt *a, const char *level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void attempt_flush_logs(struct attempt *a);
void attempt_set_progress(struct attempt *a, cJSON *p);        /* takes p */
void attempt_show_phase(struct attempt *a, const char *phase); /* NULL: no phase */
char *attempt_progress_text(struct attempt *a);                /* for wasd_free; NULL: none */
void attempt_sample(struct attempt *a);                        /* attempt_samples.c. [S] If one is due */
/* attempt_profiles.c. [S] */
struct wanted {
	struct storage_wanted *items;
	char (*modes)[WASD_MODE_LEN]; /* names of items */
	size_t n;
};
/* The profiles and modes in its spec; names and kinds may be borrowed from a. False: no memory. */
bool attempt_wanted(const struct attempt *a, struct wanted *out);
void wanted_done(struct wanted *w);
/* control.c. [S] Stops a job that has a worker, or waits for its profiles, since its sweep is being stopped. */
void control_stop(struct sched *j, const struct storage_sweep_order *o);
/* room.c. [S] */
void room_watch(struct sched *j); /* at every tick: pauses jobs when the disk is low, and resumes them */
/* Pauses the attempt for lack of room: reason STORAGE_DISK_LOW or STORAGE_QUOTA_FULL. */
void attempt_no_room(struct attempt *a, const char *reason, const char *why);
enum wasd_status attempt_show_no_room(struct attempt *a, struct wasd_err *err); /* moves its row to pausing */
/* scheduler.c. [S] */
void schedule(struct sched *j);
/* control.c. [S] The attempt of a job; NULL also for a job whose attempt could not be stored (it has no number, and its
 * process is being ended). */
struct attempt *attempt_of(struct sched *j, const char *id);

#endif
