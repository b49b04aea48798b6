/* base/cond.c - see wasd/cond.h. */
#include "wasd/cond.h"
#include <errno.h>
#include <time.h>

void wasd_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

bool wasd_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_us)
{
	struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
	return pthread_cond_timedwait(c, lock, &until) != ETIMEDOUT;
}
