/* onednn/taps.h - direct convolution as sums of products over taps, in blocks of 16 channels, float32 or bfloat16, any
 * kernel up to 25 taps, stride 1 or 2.
 *
 *   forward   y[oy,ox]  = act(bias + residual + sum over taps (ky,kx) of W[ky,kx] x[oy s - top + ky, ox s - left + kx])
 *   data      dx[iy,ix] = sum over the taps that reach it, of W'[ky,kx] dy[(iy + top - ky) / s, (ix + left - kx) / s]
 *   weights   dW[ky,kx] = sum over images, oy, ox of x[oy s - top + ky, ox s - left + kx] dy[oy,ox]'
 *
 * Covers the cases where a general library is slow: few images, where each weight should be read from memory only once;
 * strides, where the input gradient splits into s x s phases of pixels reached by different taps, so that no product is
 * with a zero; and small kernels on large maps.
 *
 * bfloat16: products of pairs, summed in float32. Needs AVX-512 (bfloat16: the AVX-512 bf16 instructions). Every
 * function runs on the thread team; no result depends on the team's size. Nothing allocates. */
#ifndef ONEDNN_TAPS_H
#define ONEDNN_TAPS_H

#include "layers/layer.h"

#define TAPS_MOST 25 /* largest number of taps of a kernel */

struct taps {
	int n, c, h, w;  /* images, channels and size of the input side */
	int out, oh, ow; /* of the output side */
	int kh, kw, stride, pad_top, pad_left;
	enum act act;
	bool bf16; /* precision of activations and converted weights; biases and master weights are float32 */
};

/* Requires stride 1 or 2, at most 25 taps, whole blocks of output channels, and rows (of the phases, for the data
 * gradient) of a multiple of four pixels. */
bool taps_fit(const struct taps *s, bool back);
size_t taps_weight_bytes(const struct taps *s, bool back);
size_t taps_scratch_bytes(const struct taps *s, int threads); /* enough for any of the three passes */

/* Converts (O,I,kh,kw) to the form used here; back: for the input gradient. own: taps_weight_bytes. */
void taps_weights_in(const struct taps *s, bool back, const float *oihw, void *own);
/* bias and residual (laid out as y) may be NULL. */
void taps_forward(const struct taps *s, const void *x, const void *own, const float *bias, const void *residual,
                  void *y, void *scratch);
/* dx = or += */
void taps_data(const struct taps *s, const void *dy, const void *own, void *dx, bool add, void *scratch);
/* Adds to dw (O,I,kh,kw) and, unless NULL, to dbias. */
void taps_weights(const struct taps *s, const void *x, const void *dy, float *dw, float *dbias, void *scratch);

/* dbias[out] += the sums of dy over n images of `pixels` pixels. */
void taps_bias(int n, int out, int pixels, bool bf16, const void *dy, float *dbias);

#endif
