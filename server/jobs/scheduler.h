/* server/jobs/scheduler.h - training jobs: who runs next (scheduler.c) and how an attempt goes (attempt.c). */
#ifndef SERVER_JOBS_SCHEDULER_H
#define SERVER_JOBS_SCHEDULER_H

#include "api.h"
#include "storage.h"
#include "process/supervisor.h"

struct sched;

struct sched_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir;                /* absolute */
	int workers;                         /* training processes at a time */
	int threads;                         /* compute threads of the machine, shared out over the workers */
	int cancel_ms;                       /* a graceful cancellation may take this long before SIGTERM */
	void (*profiles_changed)(void *ctx); /* [S] profiles of a job are to be searched, or not any more; NULL is fine */
	void *ctx;
	int backoff_scale_ms; /* what a second of a job's retry.backoff_s lasts: 1000; less in tests */
};

enum wasd_status sched_create(const struct sched_config *cfg, struct sched **out, struct wasd_err *err);
void sched_stop(struct sched *j); /* ends its thread; after supervisor_stop, before the storage closes; NULL is fine */
void sched_destroy(struct sched *j); /* after the storage is closed; NULL is fine */
/* The file of a dataset when it is there (wasd_free). *wait: it is still being made. */
enum wasd_status dataset_file(struct storage *db, const char *data_dir, const char *name, int64_t version, char **path,
                              bool *wait, struct wasd_err *err);
void sched_poke(struct sched *j); /* something may be runnable now; any thread */
/* Any thread but the supervisor's. After WASD_OK the job is cancelled, or cancelling and will be; WASD_ESTATE when it
 * is terminal. */
enum wasd_status sched_cancel(struct sched *j, const char *id, bool kill, const char *reason, struct wasd_err *err);
/* {"progress","attempt","worker","queue"} of a job that runs or waits; NULL when there is nothing to say. Any thread.
 */
cJSON *sched_live(struct sched *j, const char *id);
cJSON *sched_workers(struct sched *j); /* {"total","busy","jobs":[...]}; any thread */
/* No further starts; running attempts store a checkpoint and go back to the queue. Any thread. */
void sched_drain(struct sched *j);
bool sched_idle(struct sched *j); /* no attempt is running; any thread */
struct api_jobs sched_api(struct sched *j);

#endif
