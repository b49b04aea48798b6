/* wasd/cond.h - conditions that are waited for until a time of wasd_mono_us, so that a clock that is set moves no
 * deadline. */
#ifndef WASD_COND_H
#define WASD_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* For wasd_cond_wait_until; pthread_cond_destroy ends it. */
void wasd_cond_init(pthread_cond_t *c);
/* lock is held; false: the time has come. May also return true for no reason, as pthread_cond_wait may. */
bool wasd_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_us);

#endif
