/* layers/linear.c - y[o] = b[o] + sum over f of w[o,f] * x[f]. A matrix product; the kernels belong to the backends. */
#include "layers/onnx.h"
#include "layers/layer.h"

static enum wasd_status linear_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (in->h != 1 || in->w != 1)
		return wasd_fail(err, WASD_EINVAL, "the input is %dx%dx%d: flatten it first", in->c, in->h, in->w);
	if (n->out < 1 || n->out > 1 << 20)
		return wasd_fail(err, WASD_EINVAL, "%d outputs are not within 1..%d", n->out, 1 << 20);
	n->shape = (struct wasd_shape){n->out, 1, 1};
	return WASD_OK;
}

/* weight (out,in), bias (out) */
static void linear_params(struct wasd_graph *g, struct node *n)
{
	int dims[2] = {n->out, n->in.c};
	n->weight = graph_add_param(g, n->name, "weight", 2, dims, PARAM_FAN_IN, n->in.c);
	n->bias = n->biased ? graph_add_param(g, n->name, "bias", 1, dims, PARAM_FAN_IN, n->in.c) : -1;
}

static uint64_t linear_macs(const struct node *n, int taps)
{
	(void)taps;
	return (uint64_t)n->in.c * (uint64_t)n->out;
}

static unsigned linear_keeps(enum act act, bool has_res)
{
	(void)act;
	(void)has_res;
	return LAYER_KEEPS_X;
}

static void linear_onnx(struct onnx *o, const struct node *n)
{
	const char *x = onnx_flat(o, 0), *w = onnx_param(o, n->weight), *b = onnx_param(o, n->bias);
	onnx_begin(o, "Gemm");
	onnx_in(o, x);
	onnx_in(o, w);
	onnx_in(o, b);
	onnx_attr_int(o, "transB", 1);
	onnx_end(o, "", true);
}

const struct layer layer_linear = {
	.op = "linear",
	.summary = "every output sees every input; flatten or average maps first",
	.params = linear_params,
	.fields =
		{
			{{"out", WASD_INT, NULL, 1, 1 << 20, .required = true, .summary = "outputs"},
             offsetof(struct node, out),
             .classes = true},
			{{"bias", WASD_BOOL, "true", .summary = "a number added to each output"}, offsetof(struct node, biased)},
		},
	.channels = LAYER_CHANNELS_WEIGHED,
	.phase_fwd = WASD_PHASE_LINEAR,
	.phase_bwd = WASD_PHASE_LINEAR,
	.shape = linear_shape,
	.onnx = linear_onnx,
	.macs = linear_macs,
	.keeps = linear_keeps,
	.fuses_inference = true,
};
