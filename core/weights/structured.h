/* weights/structured.h - the parts of structured.c that its golden numbers are about. */
#ifndef WEIGHTS_STRUCTURED_H
#define WEIGHTS_STRUCTURED_H

#include "wasd/tensor.h"

/* How the sparsity grows with the share p of the time that has passed, as fasterai's schedule.py has it:
 *     one_cycle   s (1 + exp(-14 + 6)) / (1 + exp(-14 p + 6))
 *     cubic       s (1 - (1 - p)^3), Zhu and Gupta's
 *     iterative   in three equal steps, at the beginning of each third
 *     one_shot    all at p = 1/2 */
enum structured_curve { STRUCTURED_ONE_CYCLE, STRUCTURED_CUBIC, STRUCTURED_ITERATIVE, STRUCTURED_ONE_SHOT };
double structured_sparsity(enum structured_curve c, double final, double p);
/* The mean of |w| over `runs` pieces of n weights that begin `stride` apart. */
double structured_mean(const real *w, size_t runs, size_t stride, size_t n);

#endif
