/* The bound of a pool's queue is exact, also for threads that ask for a place at the same time. */
#include "check.h"
#include "pool.h"

#include <pthread.h>

enum { LIMIT = 5, ASKERS = 8, ROUNDS = 200 };

static struct pool *pool;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool held, running;
static int done;

static void hold(struct pool_job *job)
{
	(void)job;
	pthread_mutex_lock(&lock);
	running = true;
	pthread_cond_broadcast(&changed);
	while (held)
		pthread_cond_wait(&changed, &lock);
	running = false;
	pthread_mutex_unlock(&lock);
}

static void count(struct pool_job *job)
{
	(void)job;
	pthread_mutex_lock(&lock);
	done++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static pthread_barrier_t together;

static void *ask(void *got)
{
	pthread_barrier_wait(&together);
	*(bool *)got = pool_reserve(pool);
	return NULL;
}

/* While the only thread is busy, exactly LIMIT of ASKERS threads get a place, before any of them submits a job. */
static void places_are_counted_when_taken(void)
{
	CHECK_INT(pool_create("pool", 1, LIMIT, &pool, NULL), WASD_OK);
	pthread_barrier_init(&together, NULL, ASKERS);
	for (int round = 0; round < ROUNDS; round++) {
		struct pool_job holder = {.run = hold}, jobs[ASKERS];
		pthread_t threads[ASKERS];
		bool got[ASKERS];
		int places = 0;
		held = true;
		pool_submit(pool, &holder);
		pthread_mutex_lock(&lock);
		while (!running)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
		for (int i = 0; i < ASKERS; i++)
			pthread_create(&threads[i], NULL, ask, &got[i]);
		for (int i = 0; i < ASKERS; i++) {
			pthread_join(threads[i], NULL);
			places += got[i];
		}
		CHECK_INT(places, LIMIT);
		done = 0;
		for (int i = 0; i < ASKERS; i++) {
			jobs[i] = (struct pool_job){.run = count};
			if (got[i])
				pool_submit_reserved(pool, &jobs[i]);
		}
		pthread_mutex_lock(&lock);
		held = false;
		pthread_cond_broadcast(&changed);
		while (done < places || running)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
	}
	pthread_barrier_destroy(&together);
	pool_destroy(pool);
}

int main(void)
{
	TEST_RUN(places_are_counted_when_taken);
	TEST_END();
}
