/* core/weights/apply_avx512.c - transforms of float32 rows on CPUs with AVX-512, bound by memory bandwidth.
 *
 * A block of 16 rows of n taps is n whole vectors, so a tap is in the same lane of the same vector in every block. A
 * vector of the result y = M x is a sum of terms: the permuted lanes of one vector of x times a vector of entries of M,
 * with unused lanes masked. A copy needs one term for each of the two to four vectors of x that hold the rows of y. If
 * several taps of a lane's sum are in one vector of x, that vector has one term for each. Terms are ordered so that
 * each lane adds in the order of the entries: forward gives the same bits as the portable kernel.
 *
 * The portable kernel processes the rows left over at the end of the last chunk.
 */
#if defined(__x86_64__) && !defined(WASD_DOUBLE)

#include <immintrin.h>

#include "weights/apply.h"

#define LANES APPLY_LANES
#define AVX512 __attribute__((target("avx512f")))
#define AVX512_INLINE static inline __attribute__((always_inline, target("avx512f")))

/* ---- the terms of a job ------------------------------------------------------------------------------ */

/* Taps of a row of y and of x; tap t of y is the sum of the entries row[t] to row[t+1]-1. */
struct layout {
	int to, from, row[APPLY_TAPS + 1];
};

/* Adds the product for lane l, read from place x of the block, to a term of the current vector of y: to one that reads
 * the same vector of x and has lane l free, else to a new one. False: too many terms. */
static bool add_product(struct apply_job *j, int first, int *n, int l, int x, real w)
{
	struct apply_term *t = &j->term[first], *end = &j->term[*n];
	while (t < end && (t->from != x / LANES || t->mask >> l & 1))
		t++;
	if (t == end) {
		if (*n == APPLY_TERMS)
			return false;
		*t = (struct apply_term){.from = (uint16_t)(x / LANES)};
		(*n)++;
	}
	t->mask |= (uint16_t)(1u << l);
	t->lane[l] = (uint8_t)(x % LANES);
	t->w[l] = w;
	return true;
}

/* Stable sort by the vector of x that the terms read. */
static void sort_terms(struct apply_term *t, int n)
{
	for (int i = 1; i < n; i++)
		for (int k = i; k > 0 && t[k].from < t[k - 1].from; k--) {
			struct apply_term swap = t[k];
			t[k] = t[k - 1];
			t[k - 1] = swap;
		}
}

static bool prepare(struct apply_job *j)
{
	bool backward = j->dsw != NULL;
	struct layout at = {backward ? j->kk : j->m, backward ? j->m : j->kk, {0}};
	int n = 0;
	if (!__builtin_cpu_supports("avx512f"))
		return false;
	for (int i = 0; i < j->n; i++)
		at.row[j->e[i].to + 1] = i + 1;
	for (int to = 0; to < at.to; to++)
		if (at.row[to + 1] < at.row[to])
			at.row[to + 1] = at.row[to];
	for (int v = 0; v < at.to; v++) {
		j->first[v] = n;
		for (int l = 0; l < LANES; l++) {
			int row = (v * LANES + l) / at.to, to = (v * LANES + l) % at.to;
			for (int i = at.row[to]; i < at.row[to + 1]; i++)
				if (!add_product(j, j->first[v], &n, l, row * at.from + j->e[i].from,
				                 j->e[i].w * (backward ? 1 : j->alpha)))
					return false;
		}
		sort_terms(&j->term[j->first[v]], n - j->first[v]);
	}
	j->first[at.to] = n;
	return true;
}

/* ---- kernels ------------------------------------------------------------------------------------------ */

/* Computes vector v of the block's y. copy: all entries are 1. */
AVX512_INLINE __m512 sum_terms(const struct apply_job *j, int v, const float *x, bool copy)
{
	__m512 y = _mm512_setzero_ps();
	for (int i = j->first[v]; i < j->first[v + 1]; i++) {
		const struct apply_term *t = &j->term[i];
		__m512i lane = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)t->lane));
		__m512 p = _mm512_maskz_permutexvar_ps(t->mask, lane, _mm512_loadu_ps(x + (size_t)t->from * LANES));
		y = _mm512_add_ps(y, copy ? p : _mm512_mul_ps(_mm512_loadu_ps(t->w), p));
	}
	return y;
}

AVX512_INLINE void forward_blocks(const struct apply_job *j, size_t begin, size_t end, bool copy)
{
	const float *x = j->pw + begin * (size_t)j->kk;
	float *y = j->sw + begin * (size_t)j->m;
	__m512 alpha = _mm512_set1_ps(j->alpha);
	for (size_t r = begin; r < end; r += LANES, x += j->kk * LANES)
		for (int v = 0; v < j->m; v++, y += LANES) {
			__m512 s = sum_terms(j, v, x, copy);
			_mm512_storeu_ps(y, copy ? _mm512_mul_ps(alpha, s) : s);
		}
}

AVX512_INLINE double backward_blocks(const struct apply_job *j, size_t begin, size_t end, bool copy)
{
	const float *x = j->dsw + begin * (size_t)j->m, *w = j->pw + begin * (size_t)j->kk;
	float *d = j->dpw + begin * (size_t)j->kk;
	__m512 alpha = _mm512_set1_ps(j->alpha);
	__m512d low = _mm512_setzero_pd(), high = low;
	for (size_t r = begin; r < end; r += LANES, x += j->m * LANES)
		for (int v = 0; v < j->kk; v++, w += LANES, d += LANES) {
			if (j->first[v] == j->first[v + 1])
				continue;
			__m512 g = sum_terms(j, v, x, copy);
			_mm512_storeu_ps(d, _mm512_add_ps(_mm512_loadu_ps(d), _mm512_mul_ps(alpha, g)));
			__m256 g1 = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(g), 1));
			low = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(g)), _mm512_cvtps_pd(_mm256_loadu_ps(w)), low);
			high = _mm512_fmadd_pd(_mm512_cvtps_pd(g1), _mm512_cvtps_pd(_mm256_loadu_ps(w + LANES / 2)), high);
		}
	return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
}

AVX512 static void forward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	size_t whole = end - (end - begin) % LANES;
	if (j->copy)
		forward_blocks(j, begin, whole, true);
	else
		forward_blocks(j, begin, whole, false);
	if (whole < end)
		apply_portable.forward(j, whole, end, dot);
}

AVX512 static void backward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	size_t whole = end - (end - begin) % LANES;
	double rest = 0, sum = j->copy ? backward_blocks(j, begin, whole, true) : backward_blocks(j, begin, whole, false);
	if (whole < end)
		apply_portable.backward(j, whole, end, &rest);
	*dot = sum + rest;
}

const struct apply_kernel apply_avx512 = {.name = "avx512",
                                          .prepare = prepare,
                                          .forward = forward,
                                          .backward = backward};

#endif
