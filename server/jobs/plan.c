/* plan.c - which job starts next. */
#include "jobs/plan.h"

#include <string.h>

enum wasd_status plan_read(struct storage *db, int most, struct plan *p, struct wasd_err *err)
{
	*p = (struct plan){0};
	enum wasd_status s = storage_job_runnable(db, most, &p->jobs, err);
	if (s == WASD_OK)
		s = storage_queue_list(db, &p->queues, err);
	if (s == WASD_OK && p->jobs.n && !(p->taken = wasd_calloc(p->jobs.n, sizeof *p->taken)))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the queue");
	return s;
}

void plan_done(struct plan *p)
{
	storage_job_list_done(&p->jobs);
	storage_queue_list_done(&p->queues);
	wasd_free(p->taken);
	*p = (struct plan){0};
}

static struct storage_queue *queue_of(struct plan *p, const struct storage_job *job)
{
	for (size_t i = 0; i < p->queues.n; i++)
		if (!strcmp(p->queues.items[i].name, job->queue))
			return &p->queues.items[i];
	return NULL;
}

static bool has_room(const struct storage_queue *q)
{
	return q && !q->paused && (!q->max_running || q->running < q->max_running);
}

const struct storage_job *plan_next(struct plan *p)
{
	const struct storage_job *best = NULL;
	double load = 0;
	size_t at = 0;
	for (size_t i = 0; i < p->jobs.n; i++) {
		const struct storage_job *job = &p->jobs.items[i];
		const struct storage_queue *q = queue_of(p, job);
		if (best && job->priority < best->priority)
			break;
		if (p->taken[i] || !has_room(q))
			continue;
		double its = (double)q->running / q->weight;
		if (best && its >= load)
			continue;
		best = job;
		load = its;
		at = i;
	}
	if (!best)
		return NULL;
	p->taken[at] = true;
	queue_of(p, best)->running++;
	return best;
}

double plan_eta(double *free_s, int busy, int workers, int64_t k, double usual_s)
{
	for (int i = 0; i < workers; i++) {
		if (i >= busy)
			free_s[i] = 0;
		if (free_s[i] < 0)
			return -1;
	}
	for (;; k--) {
		int first = 0;
		for (int i = 1; i < workers; i++)
			if (free_s[i] < free_s[first])
				first = i;
		if (k <= 0)
			return free_s[first];
		if (usual_s <= 0)
			return -1;
		free_s[first] += usual_s;
	}
}
