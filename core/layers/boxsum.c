/* layers/boxsum.c - the sum over a window of kh x kw: y[c,v,u] = sum over ky,kx of x[c, v*stride - pad_top + ky,
 * u*stride - pad_left + kx], zero outside the image. A convolution with equal taps, w[o,i,ky,kx] = w[o,i], is a 1x1
 * convolution of this sum, which does not depend on o and is computed once. Backward: dx at each pixel is the sum of dy
 * over all windows that contain the pixel. */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <string.h>

static enum wasd_status box_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (n->kh < 1 || n->kw < 1 || n->kh > WASD_K_MAX || n->kw > WASD_K_MAX || n->stride < 1 || n->stride > 64)
		return wasd_fail(
			err, WASD_EINVAL,
			"a window of %dx%d with stride %d: the window must be within 1..%d and the stride within 1..64", n->kh,
			n->kw, n->stride, WASD_K_MAX);
	if (n->shape.h < 1 || n->shape.w < 1 || n->shape.h > 8192 || n->shape.w > 8192)
		return wasd_fail(err, WASD_EINVAL, "an output map of %dx%d: sides must be within 1..8192", n->shape.h,
		                 n->shape.w);
	n->shape.c = in->c;
	return WASD_OK;
}

struct box_job {
	struct step *s;
	const struct run *r;
};

/* Output columns [*u0, *u1) whose tap kx lies inside a row of w pixels. */
static void columns_inside(const struct node *nd, int kx, int *u0, int *u1)
{
	int off = kx - nd->pad_left, last = nd->in.w - 1 - off;
	*u0 = off < 0 ? (-off + nd->stride - 1) / nd->stride : 0;
	*u1 = last < 0 ? 0 : last / nd->stride + 1;
	*u1 = *u1 > nd->shape.w ? nd->shape.w : *u1;
}

/* Row of x under tap row `tap` of output row v; -1: outside. */
static int row_inside(const struct node *nd, int v, int tap)
{
	int y = v * nd->stride - nd->pad_top + tap;
	return y < nd->in.h ? y : -1; /* above the image, y itself is negative */
}

static void forward_planes(void *ctx, int begin, int end, int thread)
{
	const struct box_job *j = ctx;
	const struct node *nd = j->s->node;
	int W = nd->in.w, OW = nd->shape.w;
	(void)thread;
	for (int i = begin; i < end; i++) {
		const real *x = tensor_plane(j->s->x[0], i % j->r->n, i / j->r->n);
		real *y = tensor_plane(j->s->y, i % j->r->n, i / j->r->n);
		memset(y, 0, (size_t)nd->shape.h * (size_t)OW * sizeof *y);
		for (int v = 0; v < nd->shape.h; v++, y += OW)
			for (int ky = 0; ky < nd->kh; ky++) {
				int row = row_inside(nd, v, ky), u0, u1;
				for (int kx = 0; kx < nd->kw && row >= 0; kx++) {
					columns_inside(nd, kx, &u0, &u1);
					for (int u = u0; u < u1; u++)
						y[u] += x[row * W + u * nd->stride - nd->pad_left + kx];
				}
			}
	}
}

static void backward_planes(void *ctx, int begin, int end, int thread)
{
	const struct box_job *j = ctx;
	const struct node *nd = j->s->node;
	int W = nd->in.w, OW = nd->shape.w;
	(void)thread;
	for (int i = begin; i < end; i++) {
		const real *dy = tensor_plane(j->s->dy, i % j->r->n, i / j->r->n);
		real *dx = tensor_plane(j->s->dx[0], i % j->r->n, i / j->r->n);
		if (!j->s->dx_add[0])
			memset(dx, 0, (size_t)nd->in.h * (size_t)W * sizeof *dx);
		for (int v = 0; v < nd->shape.h; v++, dy += OW)
			for (int ky = 0; ky < nd->kh; ky++) {
				int row = row_inside(nd, v, ky), u0, u1;
				for (int kx = 0; kx < nd->kw && row >= 0; kx++) {
					columns_inside(nd, kx, &u0, &u1);
					for (int u = u0; u < u1; u++)
						dx[row * W + u * nd->stride - nd->pad_left + kx] += dy[u];
				}
			}
	}
}

static void box_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c * r->n, forward_planes, &(struct box_job){s, r});
}

static void box_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(s->y->shape.c * r->n, backward_planes, &(struct box_job){s, r});
}

/* ONNX has no such pooling: exported as a convolution of each channel with ones. */
static void box_onnx(struct onnx *o, const struct node *n)
{
	int64_t dims[] = {n->in.c, 1, n->kh, n->kw};
	onnx_conv(o, n, n->kh, n->kw, n->in.c, onnx_filled(o, "ones", dims, 4, (size_t)(n->in.c * n->kh * n->kw), 1), NULL);
}

static const struct layer_kernel box_kernel = {.forward = box_forward, .backward = box_backward};

const struct layer layer_boxsum = {
	.op = "boxsum",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_CONV_FWD,
	.phase_bwd = WASD_PHASE_CONV_BWD,
	.shape = box_shape,
	.onnx = box_onnx,
	.kernel = &box_kernel,
};
