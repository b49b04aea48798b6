/* wasd/cond.h - condition variables with deadlines in wasd_mono_us, so that setting the clock does not move a
 * deadline. */
#ifndef WASD_COND_H
#define WASD_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Initialises a condition for wasd_cond_wait_until; destroy it with pthread_cond_destroy. */
void wasd_cond_init(pthread_cond_t *c);
/* The caller holds the lock. False: the deadline has passed. May return true spuriously, like pthread_cond_wait. */
bool wasd_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_us);

#endif
