/* onednn/int8_minimal.h - minimal filtering F(4x4, 3x3) of 8-bit integers in exact arithmetic, stride 1.
 *
 * As in minimal.h, 36 products give 16 outputs of a 3x3 kernel instead of 144. Interpolation points 0, +-1, +-2 and
 * infinity, whose matrices are scaled to whole numbers (ours): per side
 *
 *     B' d    at most 10 * |d| in the sum: both sides of u8 stay below 100 * 255 < 2^15
 *     G g     rows (6,0,0) (-4,-4,-4) (-4,4,-4) (1,2,4) (1,-2,4) (0,0,12): at most 12 * 12 * 128 < 2^15
 *     A' m    rows (1,1,1,1,1,0) (0,1,-1,2,-2,0) (0,1,1,4,4,0) (0,1,-1,8,-8,2): 24 times the outputs
 *
 * So products are of 16-bit integers, summed in 32 bits. Sums may wrap: the result is 576 acc modulo 2^32, and 576 = 9
 * * 64, so that a product with the inverse of 9 and a shift by 6 give acc itself if |acc| < 2^25, which follows from
 * the weights of each filter (int8_minimal_exact). Two 16-bit products cost what four of 8 bits do: half of the 144.
 *
 * Weights are converted, and passes run, on the thread team. Only the race allocates. Needs AVX-512 VNNI. */
#ifndef ONEDNN_INT8_MINIMAL_H
#define ONEDNN_INT8_MINIMAL_H

#include "onednn/prim8.h"
#include "onednn/tune.h"

/* A 3x3 kernel of stride 1 without groups, whole vectors of channels on both sides, no coarse part, and weights that
 * stay in a cache. */
bool int8_minimal_fits(const struct prim8_conv *c);
/* Whether |acc| < 2^25 for every input. oihw: (O,I,3,3). */
bool int8_minimal_exact(const struct prim8_conv *c, const int8_t *oihw);
size_t int8_minimal_weight_bytes(const struct prim8_conv *c);
size_t int8_minimal_scratch_bytes(const struct prim8_conv *c, int threads);
void int8_minimal_weights_in(const struct prim8_conv *c, const int8_t *oihw, void *own);
/* As prim8_run. bias: (O), in units of acc. */
void int8_minimal_run(const struct prim8_conv *c, const void *x, const void *own, const float *bias, void *y,
                      void *scratch);
/* Whether it is faster for `minimal` than oneDNN's kernel for `direct`, the same layer with its kernel as it is; both
 * have the same n. Measured once per machine, shape and about so many images (int8_race.c); *r has the times, all 0 if
 * nothing was measured. unmeasured: only if that is known. */
bool int8_minimal_wins(const struct prim8_conv *direct, const struct prim8_conv *minimal, bool unmeasured,
                       struct tune_result *r);

#endif
