/* wasd/quant.h - what makes a folded network (infer/bundle.h) an int8 network: the type and the scale of every value
 * that is stored between layers, and 8-bit weights. quant/ makes it, the plans of an exec compute with it.
 *
 * A value is scale * q. u8 holds 0..255, s8 -128..127, both without a zero point. A convolution or linear layer with
 * `on` computes, with x and w in integers and everything behind the sum in float32,
 *
 *     acc = sum of w[o,i,ky,kx] * x[i,...]                       exact, in 32 bits
 *     t   = (acc + b[o] / (sx sw[o])) * (sx sw[o] / sy)          b: the bias of the folded network
 *     t  += sx sc[o] / sy * (sum of coarse[o,i] * x[i, at the centre tap])        with coarse weights
 *     t  += sr / sy * r                                          with a residual r that is added behind it
 *     y   = saturate(round to nearest even(act(t)))              act: ReLU, or ReLU6 = clip(0, 6/sy), if one follows
 *
 * where sy = 1, without rounding and saturation, if y is float. quant/model.h is the definition, quant_model_run() its
 * plain form; kernels agree with it bit for bit. The same images give the same bits with any batch size and number of
 * threads.
 *
 * Everything else computes in float32 on what it reads and is rounded to the type of what it writes. */
#ifndef WASD_QUANT_H
#define WASD_QUANT_H

#include "wasd/base.h"

enum wasd_quant_type { WASD_QUANT_F32, WASD_QUANT_U8, WASD_QUANT_S8 };

struct wasd_quant_tensor {
	enum wasd_quant_type type;
	float scale; /* above 0; not read for F32 */
};

/* A convolution or a linear layer. on false: it computes in float with its folded weights. All pointers are borrowed.
 */
struct wasd_quant_conv {
	bool on;
	const int8_t *w;      /* (O,I/groups,kh,kw), linear: (O,I) */
	const float *scale;   /* sw: (O), above 0 */
	const int8_t *coarse; /* (O,I/groups), a 1x1 kernel at the tap (kh/2, kw/2); NULL: none, as in depthwise layers.
	                         Of groups only where each has a multiple of 16 filters */
	const float *coarse_scale; /* sc: (O), above 0 */
};

/* Both arrays have one element per node of the folded graph. An add and an activation that follow a layer, as the only
 * readers of the values in between, are computed with it (graph/plan.c): of such a chain only the last node's tensor is
 * stored, the others are ignored. tensor[0] is the images: s8 of scale 1/127 for pixels in -1..1. The output is F32.
 * A layer with `on` reads u8 or s8. Best to share one type and scale among the inputs and the output of a concat and
 * of a max-pool: other scales cost a rounding. */
struct wasd_quant {
	int nodes;
	struct wasd_quant_tensor *tensor;
	struct wasd_quant_conv *conv;
};

#endif
