/* quant/range.h - the range of a value from a histogram of what it was on calibration images.
 *
 * A KL search in the way of TensorRT (from memory of its description), with the divergence in one of two forms: of the
 * bins that both sides have,
 *
 *     kl       sum of p/P ln((p/P) / (q/Q))
 *     kl-clip  sum of p/P ln(P p / (Q q))  =  kl + 2 (P'/P) ln(P/Q)         P': the p of those bins
 *
 * with P and Q the sums over all bins. The second is the only form that the authors of CFWS (arXiv 2312.10588) have
 * published, in statistic.py of their code; that it is the improved metric of their paper cannot be verified. It
 * charges a tail that is clipped, which P counts and Q does not. The search itself is our reconstruction.
 *
 * p has the clipped tail in the last part that is kept. If that part is empty, the first form does not see the tail,
 * and it is 0 where a single part with values is left. So at most a hundredth of the values is clipped; of normal
 * values with 4 bits the least squared error clips as many, with 8 bits far less.
 */
#ifndef QUANT_RANGE_H
#define QUANT_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#define QUANT_BINS 2048
#define QUANT_CLIPPED 100 /* at most one of that many values is clipped */

double quant_divergence(const double *p, const double *q, int n, bool clip);

/* hist: how many values are in each of QUANT_BINS equal parts of (0, max]. levels: of one side, 255 or 127. The number
 * of parts to keep, at least `levels`, the rest being clipped: that of the least divergence between the values and
 * those rounded to levels. */
int quant_threshold(const uint64_t hist[QUANT_BINS], int levels, bool clip);

#endif
