/* layers/flatten.c - (C,H,W) to (C*H*W,1,1) in the order c, h, w. A transposition in channel-major layout, a copy in
 * NCHW. */
#include "layers/onnx.h"
#include "layers/layer.h"

static enum wasd_status flatten_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	size_t f = wasd_shape_count(*in);
	if (f > 1 << 24)
		return wasd_fail(err, WASD_ETOOBIG, "%zu features exceed %d", f, 1 << 24);
	n->shape = (struct wasd_shape){(int)f, 1, 1};
	return WASD_OK;
}

static void flatten_forward(struct step *s, const struct run *r)
{
	const struct tensor *x = s->x[0];
	int hw = x->shape.h * x->shape.w;
	for (int c = 0; c < x->shape.c; c++)
		for (int n = 0; n < r->n; n++) {
			const real *src = tensor_plane(x, n, c);
			for (int i = 0; i < hw; i++)
				*tensor_plane(s->y, n, c * hw + i) = src[i];
		}
}

static void flatten_backward(struct step *s, const struct run *r)
{
	const struct tensor *dx = s->dx[0];
	if (!dx)
		return;
	int hw = dx->shape.h * dx->shape.w;
	for (int c = 0; c < dx->shape.c; c++)
		for (int n = 0; n < r->n; n++) {
			real *dst = tensor_plane(dx, n, c);
			for (int i = 0; i < hw; i++) {
				real g = *tensor_plane(s->dy, n, c * hw + i);
				dst[i] = s->dx_add[0] ? dst[i] + g : g;
			}
		}
}

static void flatten_onnx(struct onnx *o, const struct node *n)
{
	(void)n;
	const char *x = onnx_maps(o, 0);
	onnx_begin(o, "Flatten");
	onnx_in(o, x);
	onnx_attr_int(o, "axis", 1);
	onnx_end(o, "", true);
}

static const struct layer_kernel flatten_kernel = {.forward = flatten_forward, .backward = flatten_backward};

const struct layer layer_flatten = {
	.op = "flatten",
	.summary = "flattens maps to one vector, for linear",
	.channels = LAYER_CHANNELS_SPREAD,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = flatten_shape,
	.onnx = flatten_onnx,
	.kernel = &flatten_kernel,
};
