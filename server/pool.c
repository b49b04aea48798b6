#include "pool.h"

#include <pthread.h>

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct pool_job *head, **tail;
	int waiting, reserved, limit, idle, n_threads;
	bool stopping;
	pthread_t threads[];
};

static void *pool_main(void *arg)
{
	struct pool *p = arg;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->head && !p->stopping)
			p->idle++, pthread_cond_wait(&p->work, &p->lock), p->idle--;
		struct pool_job *job = p->head;
		if (!job)
			break;
		p->head = job->next;
		if (!p->head)
			p->tail = &p->head;
		p->waiting--;
		pthread_mutex_unlock(&p->lock);
		job->run(job); /* may free the job */
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

enum wasd_status pool_create(const char *name, int threads, int limit, struct pool **out, struct wasd_err *err)
{
	struct pool *p = wasd_calloc(1, sizeof *p + (size_t)threads * sizeof p->threads[0]);
	if (!p)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the %s threads", name);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	p->tail = &p->head;
	p->limit = limit;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	for (int i = 0; i < threads; i++) {
		int e = pthread_create(&p->threads[i], &attr, pool_main, p);
		if (e) {
			pthread_attr_destroy(&attr);
			pool_destroy(p);
			return wasd_fail_errno(err, e, "cannot start %s thread %d of %d", name, i + 1, threads);
		}
		pthread_setname_np(p->threads[i], name);
		p->n_threads = i + 1;
	}
	pthread_attr_destroy(&attr);
	*out = p;
	return WASD_OK;
}

/* Called with the lock held. */
static void push(struct pool *p, struct pool_job *job)
{
	job->next = NULL;
	*p->tail = job;
	p->tail = &job->next;
	p->waiting++;
	pthread_cond_signal(&p->work);
}

bool pool_reserve(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	bool room = p->waiting + p->reserved - p->idle < p->limit;
	p->reserved += room;
	pthread_mutex_unlock(&p->lock);
	return room;
}

void pool_submit_reserved(struct pool *p, struct pool_job *job)
{
	pthread_mutex_lock(&p->lock);
	p->reserved--;
	push(p, job);
	pthread_mutex_unlock(&p->lock);
}

void pool_submit(struct pool *p, struct pool_job *job)
{
	pthread_mutex_lock(&p->lock);
	push(p, job);
	pthread_mutex_unlock(&p->lock);
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	wasd_free(p);
}
