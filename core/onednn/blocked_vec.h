/* onednn/blocked_vec.h - one block of 16 channels as a vector, stored as float32 or bfloat16. */
#ifndef ONEDNN_BLOCKED_VEC_H
#define ONEDNN_BLOCKED_VEC_H

#include "onednn/blocked.h"

#include <string.h>

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef uint32_t u16 __attribute__((vector_size(64)));
typedef uint16_t h16 __attribute__((vector_size(32)));

#define BLOCKED_HOT __attribute__((target("arch=skylake-avx512,avx512bf16")))
#define BLOCKED_INLINE static inline __attribute__((always_inline, target("arch=skylake-avx512,avx512bf16")))

/* Block i of p. */
BLOCKED_INLINE v16 v_load(const void *p, size_t i, bool bf16)
{
	v16 v;
	if (bf16) {
		h16 h;
		__builtin_memcpy(&h, (const uint16_t *)p + i * LANES, sizeof h);
		u16 u = __builtin_convertvector(h, u16) << 16;
		__builtin_memcpy(&v, &u, sizeof v);
	} else {
		__builtin_memcpy(&v, (const float *)p + i * LANES, sizeof v);
	}
	return v;
}

/* bfloat16 rounds to nearest, ties to even; NaN stays NaN, subnormals become zero. */
BLOCKED_INLINE void v_store(void *p, size_t i, v16 v, bool bf16)
{
	if (bf16) {
		typedef short s16 __attribute__((vector_size(32)));
#ifdef __clang__
		s16 h = __builtin_ia32_cvtneps2bf16_512_mask(v, (s16){0}, (uint16_t)-1);
#else
		s16 h = __builtin_ia32_cvtneps2bf16_v16sf(v);
#endif
		__builtin_memcpy((uint16_t *)p + i * LANES, &h, sizeof h);
	} else {
		__builtin_memcpy((float *)p + i * LANES, &v, sizeof v);
	}
}

BLOCKED_INLINE v16 v_set(float f)
{
	return f - (v16){0};
}

/* a where the mask is all ones, else b. */
BLOCKED_INLINE v16 v_select(i16 mask, v16 a, v16 b)
{
	i16 x, y;
	__builtin_memcpy(&x, &a, sizeof x);
	__builtin_memcpy(&y, &b, sizeof y);
	x = (mask & x) | (~mask & y);
	__builtin_memcpy(&a, &x, sizeof a);
	return a;
}

BLOCKED_INLINE v16 v_act(enum act act, v16 v)
{
	if (act != ACT_NONE)
		v = v_select(v < 0, v_set(0), v);
	if (act == ACT_RELU6)
		v = v_select(v > 6, v_set(6), v);
	return v;
}

/* g where the activation whose output is y passes, else 0. */
BLOCKED_INLINE v16 v_mask(enum act act, v16 y, v16 g)
{
	if (act == ACT_NONE)
		return g;
	i16 pass = y > 0;
	if (act == ACT_RELU6)
		pass &= y < 6;
	return v_select(pass, g, v_set(0));
}

/* ---- lanes as bits of a mask ---- */

typedef uint8_t b16 __attribute__((vector_size(16)));

BLOCKED_INLINE uint16_t m_greater(v16 a, v16 b)
{
	return (uint16_t)__builtin_ia32_cmpps512_mask(a, b, 30, (uint16_t)-1, 4);
}
BLOCKED_INLINE uint16_t m_nan(v16 a)
{
	return (uint16_t)__builtin_ia32_cmpps512_mask(a, a, 3, (uint16_t)-1, 4);
}

typedef char c16 __attribute__((vector_size(16)));

BLOCKED_INLINE uint16_t m_equal(b16 a, b16 b)
{
	return (uint16_t)__builtin_ia32_cmpb128_mask((c16)a, (c16)b, 0, (uint16_t)-1);
}

/* a where the bit is set, else b. */
BLOCKED_INLINE v16 m_select(uint16_t m, v16 a, v16 b)
{
#ifdef __clang__
	return __builtin_ia32_selectps_512(m, a, b);
#else
	return __builtin_ia32_blendmps_512_mask(b, a, m);
#endif
}

BLOCKED_INLINE b16 m_select_bytes(uint16_t m, b16 a, b16 b)
{
#ifdef __clang__
	return (b16)__builtin_ia32_selectb_128(m, (c16)a, (c16)b);
#else
	return (b16)__builtin_ia32_blendmb_128_mask((c16)b, (c16)a, m);
#endif
}

/* Block b of image n of a blocked tensor, as an index of blocks for v_load and v_store. */
static inline size_t blocked_at(const struct tensor *t, int n, int b)
{
	return ((size_t)n * t->sn + (size_t)b * t->sc) / LANES;
}

#endif
