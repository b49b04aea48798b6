/* layers/relu.c - y = max(x, 0), and ReLU6 y = min(max(x, 0), 6). dx = dy where 0 < y (< 6), else 0. NaN passes
 * through, so that the loss shows it. */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <math.h>

static enum wasd_status relu_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	(void)err;
	n->shape = *in;
	return WASD_OK;
}

static unsigned relu_keeps(enum act act, bool has_res)
{
	(void)act;
	(void)has_res;
	return LAYER_KEEPS_Y;
}

struct relu_job {
	struct step *s;
	const struct run *r;
	enum act act;
};

WASD_HOT static void relu_run(enum act act, const real *x, real *y, size_t len)
{
	if (act == ACT_RELU) {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++)
			y[i] = x[i] < 0 ? 0 : x[i];
	} else {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++) {
			real v = x[i] < 0 ? 0 : x[i];
			y[i] = v > 6 ? 6 : v;
		}
	}
}

WASD_HOT void act_backward(enum act act, const real *y, const real *dy, real *dx, bool add, size_t len)
{
	real hi = act == ACT_RELU6 ? 6 : (real)INFINITY;
	if (act == ACT_NONE && add) {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++)
			dx[i] += dy[i];
	} else if (act == ACT_NONE) {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++)
			dx[i] = dy[i];
	} else if (add) {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++)
			dx[i] += y[i] > 0 && y[i] < hi ? dy[i] : 0;
	} else {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++)
			dx[i] = y[i] > 0 && y[i] < hi ? dy[i] : 0;
	}
}

static void relu_fwd_channels(void *ctx, int begin, int end, int thread)
{
	struct relu_job *j = ctx;
	(void)thread;
	size_t len;
	int runs = tensor_runs(j->s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++)
			relu_run(j->act, tensor_plane(j->s->x[0], i, c), tensor_plane(j->s->y, i, c), len);
}

static void relu_bwd_channels(void *ctx, int begin, int end, int thread)
{
	struct relu_job *j = ctx;
	(void)thread;
	size_t len;
	int runs = tensor_runs(j->s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++)
			act_backward(j->act, tensor_plane(j->s->y, i, c), tensor_plane(j->s->dy, i, c),
			             tensor_plane(j->s->dx[0], i, c), j->s->dx_add[0], len);
}

static void relu_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, relu_fwd_channels, &(struct relu_job){s, r, s->node->layer->is_act});
}

static void relu_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(s->y->shape.c, relu_bwd_channels, &(struct relu_job){s, r, s->node->layer->is_act});
}

static void relu_onnx(struct onnx *o, const struct node *n)
{
	bool flat, six = n->layer->is_act == ACT_RELU6;
	const char *x = onnx_value(o, 0, &flat), *lo = six ? onnx_number(o, "min", 0) : NULL,
			   *hi = six ? onnx_number(o, "max", 6) : NULL;
	onnx_begin(o, six ? "Clip" : "Relu");
	onnx_in(o, x);
	onnx_in(o, lo);
	onnx_in(o, hi);
	onnx_end(o, "", flat);
}

static const struct layer_kernel relu_kernel = {.forward = relu_forward, .backward = relu_backward};

const struct layer layer_relu = {
	.op = "relu",
	.summary = "max(x, 0)",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = relu_shape,
	.onnx = relu_onnx,
	.keeps = relu_keeps,
	.in_place = true,
	.in_place_bwd = true,
	.is_act = ACT_RELU,
	.kernel = &relu_kernel,
};
const struct layer layer_relu6 = {
	.op = "relu6",
	.summary = "min(max(x, 0), 6)",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = relu_shape,
	.onnx = relu_onnx,
	.keeps = relu_keeps,
	.in_place = true,
	.in_place_bwd = true,
	.is_act = ACT_RELU6,
	.kernel = &relu_kernel,
};
