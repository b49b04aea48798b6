/* onednn/int8.h - the kernels of int8 networks (wasd/quant.h), for the backend in int8.c. Activations are
 * channels-last: element (n,c,y,x) is data[((n*H + y)*W + x)*C + c], of the tensor's own type u8, s8 or float.
 *
 * Every kernel computes an image's values by the same sequence of roundings whatever the batch and the threads: sums of
 * integers are exact, and sums of floats have one order. Where a product is followed by a sum, it is written as one
 * fused operation, so that a compiler has nothing to contract. quant/model.c is the definition.
 *
 * Needs AVX-512 with VNNI; the backend checks that before anything here runs. */
#ifndef ONEDNN_INT8_H
#define ONEDNN_INT8_H

#include "backend/backend.h"

#include <immintrin.h>

#define INT8_HOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")))
#define INT8_INLINE \
	static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")))

static inline enum wasd_quant_type int8_type(const struct tensor *t)
{
	return t->quant->type;
}
static inline size_t int8_size(const struct tensor *t)
{
	return int8_type(t) == WASD_QUANT_F32 ? sizeof(float) : 1;
}
/* 1 for floats. */
static inline float int8_scale(const struct tensor *t)
{
	return int8_type(t) == WASD_QUANT_F32 ? 1 : t->quant->scale;
}
static inline float int8_inverse(const struct tensor *t)
{
	return (float)(1 / (double)int8_scale(t));
}
static inline bool int8_same(const struct tensor *a, const struct tensor *b)
{
	return int8_type(a) == int8_type(b) && int8_scale(a) == int8_scale(b);
}

INT8_INLINE __mmask16 int8_lanes(size_t left)
{
	return left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)-1;
}

/* Lanes in m of 16 values: q as float, without the scale. */
INT8_INLINE __m512 int8_load(const void *p, size_t i, __mmask16 m, enum wasd_quant_type type)
{
	if (type == WASD_QUANT_F32)
		return _mm512_maskz_loadu_ps(m, (const float *)p + i);
	__m128i q = _mm_maskz_loadu_epi8(m, (const char *)p + i);
	return _mm512_cvtepi32_ps(type == WASD_QUANT_U8 ? _mm512_cvtepu8_epi32(q) : _mm512_cvtepi8_epi32(q));
}

/* Stores v rounded to nearest even and saturated, or as it is. */
INT8_INLINE void int8_store(void *p, size_t i, __mmask16 m, __m512 v, enum wasd_quant_type type)
{
	if (type == WASD_QUANT_F32) {
		_mm512_mask_storeu_ps((float *)p + i, m, v);
		return;
	}
	bool u8 = type == WASD_QUANT_U8;
	v = _mm512_max_ps(_mm512_min_ps(v, _mm512_set1_ps(u8 ? 255 : 127)), _mm512_set1_ps(u8 ? 0 : -128));
	_mm_mask_storeu_epi8((char *)p + i, m, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

INT8_INLINE __m512 int8_act(enum act act, __m512 v, float six)
{
	if (act != ACT_NONE)
		v = _mm512_max_ps(v, _mm512_setzero_ps());
	return act == ACT_RELU6 ? _mm512_min_ps(v, _mm512_set1_ps(six)) : v;
}

/* y of the step = act(scale * q) of x over n elements, which are at the same places in both. */
void int8_bring(const void *x, const struct tensor *xt, void *y, const struct tensor *yt, enum act act, size_t n);

/* Appends to explain()'s array `to` how a convolution or linear layer is computed. images 0: any number; measured may
 * be NULL. */
struct tune_result;
void int8_describe(const struct step *s, const char *algorithm, const char *implementation, int images,
                   const struct tune_result *measured, struct cJSON *to);

/* Convolutions with one input channel per filter, by integers of 32 bits (int8_depthwise.c). Weights are packed once
 * for all plans, filters (bias, scale) once for a step. */
bool int8_depthwise_takes(const struct step *s);
size_t int8_depthwise_weight_bytes(const struct step *s);
size_t int8_depthwise_filters_bytes(const struct step *s);
size_t int8_depthwise_scratch_bytes(const struct step *s, int threads);
void int8_depthwise_weights_in(const struct step *s, void *to);
/* w: packed weights; scale: (O), bias: (O) in units of acc, as for prim8.h. */
void int8_depthwise_filters(const struct step *s, const void *w, const float *bias, const float *scale, void *to);
void int8_depthwise_run(const struct step *s, const struct run *r, const void *w, const void *filters, float six);

extern const struct layer_kernel int8_conv, int8_float_conv, int8_relu, int8_add, int8_concat, int8_maxpool,
	int8_avgpool, int8_globalpool, int8_boxsum, int8_flatten;

#endif
