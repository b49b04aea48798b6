/* onednn/blocked.h - activations in blocks of 16 channels (nChw16c), float32 or bfloat16, and the kernels of everything
 * but matrix products. Element (n,c,y,x) is data[n*sn + (c/16)*sc + (y*W + x)*16 + c%16]; lanes beyond the last channel
 * are kept at zero. Images of few channels that only convolutions read stay NCHW (`plain`).
 *
 * Needs AVX-512; the backend checks that before anything here runs. */
#ifndef ONEDNN_BLOCKED_H
#define ONEDNN_BLOCKED_H

#include "backend/backend.h"

#define LANES 16

struct blocked_layout {
	bool bf16, plain;
};

static inline int least(int a, int b)
{
	return a < b ? a : b;
}
static inline int most(int a, int b)
{
	return a > b ? a : b;
}

static inline const struct blocked_layout *blocked_of(const struct tensor *t)
{
	return t->layout;
}
static inline int blocked_count(const struct tensor *t)
{
	return (t->shape.c + LANES - 1) / LANES;
}
static inline size_t blocked_size(const struct tensor *t)
{
	return blocked_of(t)->bf16 ? 2 : 4;
}

/* Sets strides and bytes of t for n images. bf16: the precision of the backend (small tensors stay float32). */
void blocked_layout_set(struct tensor *t, int n, bool bf16);
void blocked_import(const struct tensor *t, int n, const real *nchw);
void blocked_export(const struct tensor *t, int first, int count, real *nchw);

/* dst = (or +=) src over n images of two tensors of the same shape and any precision. y = act(y + bias) is
 * blocked_finish with res NULL. */
void blocked_copy(const struct tensor *src, const struct tensor *dst, int n, bool add);

/* blocked_box_sum: sums of `from` over windows of box.h x box.w that begin box.y above and box.x left of each element,
 * stride 1, into `to`, over n images. The backward form writes or adds the gradient. */
void blocked_box_sum(const struct tensor *from, const struct tensor *to, struct wasd_rect box, int n);
void blocked_box_back(const struct tensor *from, const struct tensor *to, struct wasd_rect box, int n, bool add);

extern const struct layer_kernel blocked_batchnorm, blocked_relu, blocked_add, blocked_concat, blocked_maxpool,
	blocked_avgpool, blocked_globalpool, blocked_boxsum, blocked_flatten, blocked_dropout, blocked_dropchannel,
	blocked_dropconnect;

#endif
