/* layers/conv.c - convolution: y[o,v,u] = b[o] + sum over i,ky,kx of w[o,i,ky,kx] * x[i, v*stride - pad_top + ky, u*stride - pad_left + kx],
 * zero outside the image; with groups, output channels of group g see the input channels of group g only. The kernels belong to the
 * backends: there is no layout in which one version serves all. */
#include "layers/layer.h"

static enum wasd_status conv_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (n->out < 1 || n->stride < 1 || n->groups < 1 || n->kh < 0 || n->kw < 0 || (n->kh == 0) != (n->kw == 0))
		return wasd_fail(err, WASD_EINVAL, "%d output channels, kernel %dx%d, stride %d, %d groups make no convolution", n->out, n->kh, n->kw,
		                 n->stride, n->groups);
	if (n->kh > 64 || n->kw > 64 || n->stride > 64 || n->out > 65536)
		return wasd_fail(err, WASD_ETOOBIG, "kernel %dx%d, stride %d or %d channels beyond 64, 64, 65536", n->kh, n->kw, n->stride, n->out);
	if (in->c % n->groups || n->out % n->groups)
		return wasd_fail(err, WASD_EINVAL, "%d groups do not divide %d input and %d output channels", n->groups, in->c, n->out);
	if (n->shape.h == 0) {          /* square kernel, padding on all sides */
		int h = in->h + 2 * n->pad_top - n->kh, w = in->w + 2 * n->pad_left - n->kw;
		if (n->kh < 1 || n->pad_top < 0 || n->pad_top > 64 || h < 0 || w < 0)
			return wasd_fail(err, WASD_EINVAL, "kernel %dx%d with padding %d does not fit a map of %dx%d", n->kh, n->kw, n->pad_top, in->h, in->w);
		n->shape.h = h / n->stride + 1;
		n->shape.w = w / n->stride + 1;
	}
	if (n->shape.h < 1 || n->shape.w < 1 || n->shape.h > 8192 || n->shape.w > 8192)
		return wasd_fail(err, WASD_EINVAL, "output map of %dx%d is not within 1..8192", n->shape.h, n->shape.w);
	n->shape.c = n->out;
	return WASD_OK;
}

static uint64_t conv_macs(const struct node *n, int taps)
{
	return (uint64_t)wasd_shape_count(n->shape) * (uint64_t)(n->in.c / n->groups) * (uint64_t)taps;
}

static unsigned conv_keeps(enum act act, bool has_res)
{
	(void)act; (void)has_res;
	return LAYER_KEEPS_X;
}

const struct layer layer_conv = {
	.op = "conv", .phase_fwd = WASD_PHASE_CONV_FWD, .phase_bwd = WASD_PHASE_CONV_BWD,
	.shape = conv_shape, .macs = conv_macs, .keeps = conv_keeps, .fuses_inference = true,
};
