/* sweep_plan.h - which trials of a sweep go on, as a function of their results alone. Private to storage.
 *
 * Asynchronous successive halving (Li et al. 2018): a trial trains to the epoch of its rung and pauses; the best
 * 1/divisor of a rung go on to the next. In the original a rung is what has arrived so far, so that a decision depends
 * on the order in which workers finish. Here a rung is read in a fixed order, up to the first result that is not there
 * yet: rung 0 by the numbers of the trials, each further rung in the order in which its trials were promoted. After
 * each result, those among the best floor(n / divisor) of the n read so far are promoted. So no rung waits for
 * its last trial, and equal results give equal promotions, whatever the times, the workers and the restarts are. */
#ifndef STORAGE_SWEEP_PLAN_H
#define STORAGE_SWEEP_PLAN_H

#include "wasd/base.h"

struct sweep_rules {
	size_t trials, rungs; /* at least 1 */
	int64_t divisor;      /* at least 2 */
	bool max;             /* a larger value is better */
};

struct sweep_result {
	bool known; /* the trial has been there, or has ended before */
	bool has;   /* and has a value */
	double value;
};

struct sweep_verdict {
	size_t rung; /* the highest rung that the trial is to reach */
	bool pruned; /* it will never go on from there */
};

/* results: `rungs` of each trial, one trial after the other; out: one of each trial. Verdicts are final: with more
 * results a rung only rises, and a pruned trial stays so. WASD_ENOMEM. */
enum wasd_status sweep_decide(const struct sweep_rules *r, const struct sweep_result *results,
                              struct sweep_verdict *out, struct wasd_err *err);
/* Whether a is better than b; equal values, and two without one, rank by number (na, nb). */
bool sweep_better(bool max, const struct sweep_result *a, size_t na, const struct sweep_result *b, size_t nb);

#endif
