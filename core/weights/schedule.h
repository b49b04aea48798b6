/* weights/schedule.h - when a strategy that prunes has an event, and to what sparsity.
 *
 * Zhu and Gupta's schedule (arXiv 1710.01878; TF-MOT pruning_schedule.py), in steps:
 *     s(t) = s_f + (s_i - s_f) (1 - clamp((t - t0) / (t1 - t0), 0, 1))^p
 * Events at t0, t0 + D, ... up to t1, and at t1 itself. t1 = t0 is one event with s_f. */
#ifndef WEIGHTS_SCHEDULE_H
#define WEIGHTS_SCHEDULE_H

#include "weights/strategy.h"

struct prune_schedule {
	double begin, end; /* in epochs */
	uint64_t every;    /* steps */
	double initial, final, power;
};

uint64_t prune_step_of(double epochs, uint32_t batches);
bool prune_is_event(const struct prune_schedule *s, uint64_t step, uint32_t batches);
/* The share of the time from begin to end that has passed, 0..1. */
double prune_progress(const struct prune_schedule *s, uint64_t step, uint32_t batches);
double prune_sparsity(const struct prune_schedule *s, uint64_t step, uint32_t batches);
/* True for events that the log tells: the first and the last one, and the first of an epoch. */
bool prune_is_told(const struct prune_schedule *s, uint64_t step, uint32_t batches);
/* Checks 0 <= begin <= end <= the run (epochs, 0: unknown). at: the JSON pointer of the strategy. */
enum wasd_status prune_check_times(double begin, double end, int epochs, const char *at, struct wasd_err *err);

#endif
