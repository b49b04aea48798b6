/* server/pool.h - a fixed number of threads over one queue. Jobs are intrusive, so handing one over never allocates. */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include "wasd/base.h"

struct pool;
struct pool_job {
	void (*run)(struct pool_job *self);
	struct pool_job *next;
};

/* name: thread name, at most 15 bytes. limit: how many jobs may wait for a thread (pool_try). */
enum wasd_status pool_create(const char *name, int threads, int limit, struct pool **out, struct wasd_err *err);
/* False when the queue is full: the job is not taken. */
bool pool_try(struct pool *p, struct pool_job *job);
/* Takes the job also over the limit: for work that was admitted before and is bounded elsewhere. */
void pool_submit(struct pool *p, struct pool_job *job);
/* Room for one more pool_try right now (it may be gone a moment later). */
bool pool_has_room(struct pool *p);
/* Runs what is queued, then ends the threads. NULL is fine. */
void pool_destroy(struct pool *p);

#endif
