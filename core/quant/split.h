/* quant/split.h - 8-bit weights, one scale for each output channel; and the split of CFWS (arXiv 2312.10588).
 *
 * The sum of parallel branches (infer/fold.h) has centre taps much larger than their neighbours, so that one scale is
 * too coarse for the latter. CFWS splits such a kernel W in two: the centre taps, rounded, and the rest.
 *
 *     d[o] = max over i of |W[o,i,centre]| / top     coarse = floor(W[centre] / d + 1/2) * d     fine = W - coarse
 *
 * both then quantised with scales of their own, max |.| / top. coarse is exact in integers, so that the error is that
 * of fine alone. After rep_conv.py of the authors' code, whose defaults these are; that the two are rounded to the
 * nearest even, and clamped, is our choice: their quantiser is not published. */
#ifndef QUANT_SPLIT_H
#define QUANT_SPLIT_H

#include "wasd/tensor.h"

/* The largest integer of that many bits with a sign, 4 to 8. */
static inline int quant_top(int bits)
{
	return (1 << (bits - 1)) - 1;
}

/* Channels of smaller weights count as zeros: in units of so small a scale, biases would leave the range of float. */
#define QUANT_ZERO 1e-30
/* w: `outs` channels of `fan` weights. scale[o] = max |w[o]| / top, 1 if all are 0; q = round(w / scale), within
 * -top-1 and top. */
void quant_rows(const real *w, int outs, size_t fan, int top, int8_t *q, float *scale);

struct quant_split {
	bool whole; /* all taps are rounded coarsely: the authors' variant with two full kernels; not served */
	bool one;   /* one d for all channels: their variant per tensor; not served */
};
/* w: outs x ins kernels of kh x kw taps, both odd. coarse: what is rounded coarsely, in the shape of w with `whole`,
 * else (outs,ins); fine: in the shape of w. d: one for each channel.
 * In float32, as in their code: which way a half goes depends on it. */
void quant_split(const struct quant_split *how, const real *w, int outs, int ins, int kh, int kw, int top, real *coarse,
                 real *fine, float *d);

#endif
