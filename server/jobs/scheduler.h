/* server/jobs/scheduler.h - training jobs: which job runs next (scheduler.c) and how an attempt runs (attempt.c). */
#ifndef SERVER_JOBS_SCHEDULER_H
#define SERVER_JOBS_SCHEDULER_H

#include "api.h"
#include "storage.h"
#include "process/supervisor.h"

struct sched;

struct sched_config {
	struct storage *db;
	struct supervisor *sup;
	struct metrics *metrics;     /* NULL is fine */
	const cJSON *capabilities;   /* as of struct api_engine; borrowed. NULL: jobs of profiles alone */
	const char *data_dir;        /* absolute */
	int workers;                 /* training processes at the same time */
	int threads;                 /* compute threads, divided among the workers */
	int reserved;                /* of them are left free while deployed(ctx) */
	bool (*deployed)(void *ctx); /* any thread; NULL: never */
	int cancel_ms;               /* time for a graceful cancellation before SIGTERM */
	/* [S] Profiles of a job were queued for a search, or removed from it; NULL is fine. */
	void (*profiles_changed)(void *ctx);
	void (*checkpoint_stored)(void *ctx, const char *job); /* [S] NULL is fine */
	void (*to_load)(void *ctx);                            /* [S] storage_loads_waiting; NULL is fine */
	void *ctx;
	int sample_ms;        /* between two samples of what a process uses; 0: none */
	int backoff_scale_ms; /* length of a second of a job's retry.backoff_s: 1000; less in tests */
};

enum wasd_status sched_create(const struct sched_config *cfg, struct sched **out, struct wasd_err *err);
/* Ends the loader thread. After supervisor_stop, before the storage closes; NULL is fine. */
void sched_stop(struct sched *j);
void sched_destroy(struct sched *j); /* after the storage is closed; NULL is fine */
/* Finds the file of a dataset; free *path with wasd_free. *wait: the file is still being made. */
enum wasd_status dataset_file(struct storage *db, const char *data_dir, const char *name, int64_t version, char **path,
                              bool *wait, struct wasd_err *err);
void sched_poke(struct sched *j); /* a job may be runnable now; any thread */
/* control.c; see struct api_jobs. Any thread but the supervisor's. */
enum wasd_status sched_cancel(struct sched *j, const char *id, bool kill, const char *reason, const char *actor,
                              struct wasd_err *err);
enum wasd_status sched_change(struct sched *j, const char *id, enum api_job_change what,
                              const struct storage_request *r, struct wasd_err *err);
/* {"progress","usage","attempt","threads"} of a running job, {"queue"} of a waiting one; NULL for other jobs. Any
 * thread. */
cJSON *sched_live(struct sched *j, const char *id);
int64_t sched_threads(const struct sched *j, const cJSON *spec); /* compute threads of a job; any thread */
cJSON *sched_workers(struct sched *j);                           /* {"total","busy","jobs":[...]}; any thread */
/* Starts no more attempts; running ones store a checkpoint and their jobs go back to the queue. Any thread. */
void sched_drain(struct sched *j);
bool sched_idle(struct sched *j); /* no attempt is running; any thread */
struct api_jobs sched_api(struct sched *j);

#endif
