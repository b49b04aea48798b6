/* onednn/prim8.h - one oneDNN convolution primitive of 8-bit integers, with the reorder of its weights. Activations are
 * channels-last, the only layout in which oneDNN 2.6 has fast kernels for them. As prim.h: any buffers of its shapes,
 * one thread at a time.
 *
 *     t = (acc + bias) * scale[o]  [+ add]  [+ residual_scale * y]        y = saturate(round(act(t))), or t if float
 *
 * with one rounding for every operation but the sum with y, which is a fused product and sum (tests/core/int8.c). */
#ifndef ONEDNN_PRIM8_H
#define ONEDNN_PRIM8_H

#include "layers/layer.h"
#include "wasd/quant.h"

struct prim8_conv {
	int n, c, h, w, out, oh, ow, kh, kw, stride, pad_top, pad_left, groups;
	enum wasd_quant_type x, y; /* x: U8 or S8 */
	const float *scale;        /* per output channel; borrowed during create */
	bool bias;                 /* float, in units of acc */
	bool add;                  /* a float tensor of y's shape is added behind the scale */
	bool residual;             /* what y holds before, of type residual_type, is added, times residual_scale */
	enum wasd_quant_type residual_type;
	float residual_scale;
	enum act act;
	float six; /* the upper bound of ReLU6 in units of y */
};

struct prim8;

/* Whether u8 x s8 products are exact here: all bits of oneDNN's avx512_core_vnni. Without them it adds pairs of
 * products in 16 bits, which saturate. WASD_EUNSUPPORTED otherwise. */
enum wasd_status prim8_offers(struct wasd_err *err);
/* NULL: oneDNN has no such primitive, or no memory. */
struct prim8 *prim8_create(const struct prim8_conv *c);
void prim8_destroy(struct prim8 *p);
size_t prim8_weight_bytes(const struct prim8 *p);
size_t prim8_scratch_bytes(const struct prim8 *p);
uint64_t prim8_weights_form(const struct prim8 *p); /* as prim_weights_form */
const char *prim8_info(const struct prim8 *p);
/* Converts (O,I/groups,kh,kw) to the primitive's form. */
bool prim8_weights_in(struct prim8 *p, const int8_t *oihw, void *own, void *scratch);
/* add: (N,oh,ow,O) float, NULL without c.add. */
bool prim8_run(struct prim8 *p, const void *x, const void *own, const float *bias, const float *add, void *y,
               void *scratch);

#endif
