/* server/jobs/plan.h - which job starts next, as a function of rows alone. */
#ifndef SERVER_JOBS_PLAN_H
#define SERVER_JOBS_PLAN_H

#include "storage.h"

/* The jobs that can start, and the queues they are in. */
struct plan {
	struct storage_job_list jobs; /* by priority, then age */
	struct storage_queue_list queues;
	bool *taken; /* of jobs */
};
/* At most `most` jobs of each queue. plan_done in any case. */
enum wasd_status plan_read(struct storage *db, int most, struct plan *p, struct wasd_err *err);
void plan_done(struct plan *p);
/* Takes the next job: of the highest priority for which a queue has room; among equals from the queue with the fewest
 * running jobs for its weight; in it the oldest. NULL: none can start. */
const struct storage_job *plan_next(struct plan *p);

/* Seconds until the k-th waiting job (from 0) starts, when `busy` workers of `workers` become free after those times,
 * and each job takes usual_s; -1: unknown. Changes free_s, which has room for `workers`. */
double plan_eta(double *free_s, int busy, int workers, int64_t k, double usual_s);

#endif
