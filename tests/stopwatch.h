/* tests/stopwatch.h - measures how long a promised action took: the monotonic clock minus the time that this process
 * was kept from running, so that a promise is checked at its own figure even on a machine that stalls. Call
 * stopwatch_start() once, at the beginning of main. */
#ifndef TESTS_STOPWATCH_H
#define TESTS_STOPWATCH_H

#include "wasd/base.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

static _Atomic int64_t stopwatch_stalled_;

static void *stopwatch_main_(void *unused)
{
	for (;;) {
		int64_t t = wasd_mono_us();
		poll(NULL, 0, 20);
		int64_t late = wasd_mono_us() - t - 20000;
		if (late > 50000)
			atomic_fetch_add(&stopwatch_stalled_, late);
	}
	return unused;
}

static void stopwatch_start(void)
{
	pthread_t t;
	if (!pthread_create(&t, NULL, stopwatch_main_, NULL))
		pthread_detach(t);
}

/* Microseconds; only differences are meaningful. */
static int64_t stopwatch_us(void)
{
	return wasd_mono_us() - atomic_load(&stopwatch_stalled_);
}

#endif
