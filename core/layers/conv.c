/* layers/conv.c - convolution: y[o,v,u] = b[o] + sum over i,ky,kx of w[o,i,ky,kx] * x[i, v*stride - pad_top + ky,
 * u*stride - pad_left + kx], zero outside the image. With groups, output channels of group g see only the input
 * channels of group g. The kernels belong to the backends: no single layout suits all of them. */
#include "layers/onnx.h"
#include "layers/layer.h"

static enum wasd_status conv_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (n->out < 1 || n->stride < 1 || n->groups < 1 || n->kh < 0 || n->kw < 0 || (n->kh == 0) != (n->kw == 0))
		return wasd_fail(err, WASD_EINVAL,
		                 "invalid convolution: %d output channels, kernel %dx%d, stride %d, %d groups", n->out, n->kh,
		                 n->kw, n->stride, n->groups);
	if (n->kh > 64 || n->kw > 64 || n->stride > 64 || n->out > 65536)
		return wasd_fail(err, WASD_ETOOBIG, "kernel %dx%d, stride %d or %d channels exceed 64, 64 or 65536", n->kh,
		                 n->kw, n->stride, n->out);
	if (in->c % n->groups || n->out % n->groups)
		return wasd_fail(err, WASD_EINVAL, "%d groups do not divide %d input and %d output channels", n->groups, in->c,
		                 n->out);
	if ((int64_t)(in->c / n->groups) * n->kh * n->kw > 1 << 24)
		return wasd_fail(err, WASD_ETOOBIG,
		                 "kernels of %dx%d taps over %d channels exceed %d weights per output channel", n->kh, n->kw,
		                 in->c / n->groups, 1 << 24);
	if (n->shape.h == 0) { /* h = 0: square kernel, equal padding on all sides */
		int h = in->h + 2 * n->pad_top - n->kh, w = in->w + 2 * n->pad_left - n->kw;
		if (n->kh < 1 || n->pad_top < 0 || n->pad_top > 64 || h < 0 || w < 0)
			return wasd_fail(err, WASD_EINVAL, "kernel %dx%d with padding %d does not fit a map of %dx%d", n->kh, n->kw,
			                 n->pad_top, in->h, in->w);
		n->shape.h = h / n->stride + 1;
		n->shape.w = w / n->stride + 1;
	}
	if (n->shape.h < 1 || n->shape.w < 1 || n->shape.h > 8192 || n->shape.w > 8192)
		return wasd_fail(err, WASD_EINVAL, "an output map of %dx%d: sides must be within 1..8192", n->shape.h,
		                 n->shape.w);
	n->shape.c = n->out;
	return WASD_OK;
}

/* weight (out,in/groups,kh,kw), bias (out) */
static void conv_params(struct wasd_graph *g, struct node *n)
{
	int ipg = n->in.c / n->groups, dims[4] = {n->out, ipg, n->kh, n->kw}, fan_in = ipg * n->kh * n->kw;
	n->weight = graph_add_param(g, n->name, "weight", 4, dims, PARAM_FAN_IN, fan_in);
	n->bias = n->biased ? graph_add_param(g, n->name, "bias", 1, dims, PARAM_FAN_IN, fan_in) : -1;
}

static const char *conv_settle(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	n->kw = n->kh;
	if (n->pad_top < 0)
		n->pad_top = (n->kh - 1) / 2;
	n->pad_left = n->pad_top;
	if (!n->out)
		n->out = in->c;
	if (n->depthwise && n->groups != 1) {
		wasd_fail(err, WASD_EINVAL,
		          "a depthwise convolution has one group per channel: give depthwise or groups, not both");
		return "groups";
	}
	if (n->depthwise)
		n->groups = in->c;
	if (in->c % n->groups || n->out % n->groups) {
		wasd_fail(err, WASD_EINVAL, "%d groups do not divide %d input and %d output channels", n->groups, in->c,
		          n->out);
		return n->depthwise ? "out" : "groups";
	}
	return NULL;
}

static uint64_t conv_macs(const struct node *n, int taps)
{
	return (uint64_t)wasd_shape_count(n->shape) * (uint64_t)(n->in.c / n->groups) * (uint64_t)taps;
}

static unsigned conv_keeps(enum act act, bool has_res)
{
	(void)act;
	(void)has_res;
	return LAYER_KEEPS_X;
}

/* ONNX pads four sides with non-negative numbers, so a negative padding becomes a crop of the input. The padding below
 * and on the right is what the given output size requires. */
void onnx_conv(struct onnx *o, const struct node *n, int kh, int kw, int groups, const char *w, const char *b)
{
	int top = n->pad_top, left = n->pad_left;
	int bottom = (n->shape.h - 1) * n->stride + kh - n->in.h - top,
		right = (n->shape.w - 1) * n->stride + kw - n->in.w - left;
	if (bottom < 0 && bottom > -n->stride) /* rows that the strided kernel does not reach */
		bottom = 0;
	if (right < 0 && right > -n->stride)
		right = 0;
	const char *x = onnx_maps(o, 0);
	if (top < 0 || left < 0 || bottom < 0 || right < 0) {
		const char *from = onnx_ints(o, "from", (int64_t[]){top < 0 ? -top : 0, left < 0 ? -left : 0}, 2);
		const char *to =
			onnx_ints(o, "to", (int64_t[]){n->in.h + (bottom < 0 ? bottom : 0), n->in.w + (right < 0 ? right : 0)}, 2);
		const char *axes = onnx_ints(o, "crop_axes", (int64_t[]){2, 3}, 2);
		onnx_begin(o, "Slice");
		onnx_in(o, x);
		onnx_in(o, from);
		onnx_in(o, to);
		onnx_in(o, axes);
		x = onnx_end(o, "cropped", false);
	}
	onnx_begin(o, "Conv");
	onnx_in(o, x);
	onnx_in(o, w);
	onnx_in(o, b);
	onnx_attr_ints(o, "kernel_shape", (int64_t[]){kh, kw}, 2);
	onnx_attr_ints(o, "strides", (int64_t[]){n->stride, n->stride}, 2);
	onnx_attr_ints(o, "pads",
	               (int64_t[]){top > 0 ? top : 0, left > 0 ? left : 0, bottom > 0 ? bottom : 0, right > 0 ? right : 0},
	               4);
	onnx_attr_int(o, "group", groups);
	onnx_end(o, "", false);
}

static void conv_onnx(struct onnx *o, const struct node *n)
{
	int64_t none[] = {n->out, n->in.c / n->groups, 1, 1};
	const char *w = n->kh ?
	                    onnx_param(o, n->weight) :
	                    onnx_filled(o, "no_taps", none, 4, (size_t)(none[0] * none[1]), 0); /* a single tap of zero */
	const char *b = onnx_param(o, n->bias);
	onnx_conv(o, n, n->kh ? n->kh : 1, n->kw ? n->kw : 1, n->groups, w, b);
}

const struct layer layer_conv = {
	.op = "conv",
	.summary = "convolution with square kernels",
	.augmentable = true,
	.settle = conv_settle,
	.blame = "kernel",
	.params = conv_params,
	.fields =
		{
			{{"out", WASD_INT, NULL, 1, 65536, .summary = "output channels; default: as many as the input has"},
             offsetof(struct node, out),
             .classes = true},
			{{"kernel", WASD_INT, "3", 1, 64, .summary = "taps per side"}, offsetof(struct node, kh)},
			{{"stride", WASD_INT, "1", 1, 64, .summary = "taps from one output to the next"},
             offsetof(struct node, stride)},
			{{"padding", WASD_INT, NULL, 0, 64,
              .summary = "zeros on all sides; default: (kernel-1)/2, which keeps the size at stride 1"},
             offsetof(struct node, pad_top),
             .unset = -1},
			{{"groups", WASD_INT, "1", 1, 65536, .summary = "groups of channels, each convolved alone"},
             offsetof(struct node, groups)},
			{{"depthwise", WASD_BOOL, "false", .summary = "one group per input channel"},
             offsetof(struct node, depthwise)},
			{{"bias", WASD_BOOL, "true", .summary = "a number added to each output channel"},
             offsetof(struct node, biased)},
		},
	.channels = LAYER_CHANNELS_WEIGHED,
	.phase_fwd = WASD_PHASE_CONV_FWD,
	.phase_bwd = WASD_PHASE_CONV_BWD,
	.shape = conv_shape,
	.onnx = conv_onnx,
	.macs = conv_macs,
	.keeps = conv_keeps,
	.fuses_inference = true,
};
