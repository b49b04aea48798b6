/* server/pool.h - a fixed number of threads with one queue. Jobs are intrusive, so submitting one never allocates. */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include "wasd/base.h"

struct pool;
struct pool_job {
	void (*run)(struct pool_job *self);
	struct pool_job *next;
};

/* name: thread name, at most 15 bytes. limit: most jobs that may wait for a thread (pool_reserve). */
enum wasd_status pool_create(const char *name, int threads, int limit, struct pool **out, struct wasd_err *err);
/* Takes a place in the queue, to be filled by pool_submit_reserved. False if the queue is full. */
bool pool_reserve(struct pool *p);
void pool_submit_reserved(struct pool *p, struct pool_job *job);
/* Submits a job even above the limit: for work that was already admitted and is bounded elsewhere. */
void pool_submit(struct pool *p, struct pool_job *job);
/* Runs the queued jobs, then joins the threads. NULL is fine. */
void pool_destroy(struct pool *p);

#endif
