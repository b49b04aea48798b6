/* onednn/minimal.h - minimal filtering F(4x4, kh x kw) for kernels with 2 or 3 taps per side, in blocks of 16 channels,
 * float32, stride 1.
 *
 * One side with k taps gives four outputs from P = k + 3 products instead of 4 k (Winograd; Lavin and Gray, arXiv
 * 1509.09308):
 *
 *     y = A' [ (G g) . (B' d) ]            forward; d: P inputs, g: k taps, y: 4 outputs; applied to both sides in turn
 *     dg = G' [ (B' d) . (A dy) ]          the same bilinear form, differentiated
 *
 * So a 3x3 kernel takes 36 products for 16 outputs. The kernels left after a shift by one tap, 2x3 and 2x2, take 30 and
 * 25: dropped taps still save work. The input gradient is the forward pass of dy with the kernel rotated by 180
 * degrees. Between the transforms there are P*P matrix products over tiles x channels.
 *
 * Needs AVX-512. Every function runs on the thread team; only the weight gradient depends on the team's size, in the
 * last bits. Nothing allocates. */
#ifndef ONEDNN_MINIMAL_H
#define ONEDNN_MINIMAL_H

#include "layers/layer.h"

struct minimal {
	int n, c, h, w;  /* images, channels and size of the input side */
	int out, oh, ow; /* of the output side */
	int kh, kw, pad_top, pad_left;
	enum act act; /* y = act(conv + bias + residual) */
};

/* Both channel counts must be whole pairs of blocks, with 2 or 3 taps per side. */
bool minimal_fits(const struct minimal *s);
size_t minimal_weight_bytes(const struct minimal *s);
size_t minimal_scratch_bytes(const struct minimal *s, int threads); /* enough for any of the three passes */

/* Converts (O,I,kh,kw) to P*P matrices; back: for the input gradient. own: minimal_weight_bytes. */
void minimal_weights_in(const struct minimal *s, bool back, const float *oihw, float *own);
/* bias and residual (laid out as y) may be NULL. */
void minimal_forward(const struct minimal *s, const float *x, const float *own, const float *bias,
                     const float *residual, float *y, void *scratch);
/* dx = or += */
void minimal_data(const struct minimal *s, const float *dy, const float *own, float *dx, bool add, void *scratch);
/* Adds to dw (O,I,kh,kw) and, unless NULL, to dbias. */
void minimal_weights(const struct minimal *s, const float *x, const float *dy, float *dw, float *dbias, void *scratch);

#endif
