/* onednn/int8_depthwise.c - convolutions with one input channel per filter, in 8-bit integers with sums of 32 bits.
 *
 * Channels are taken 64 at a time. For one row of outputs, every column of the input becomes four vectors of 4 x 16
 * bytes: vector j holds, for channels 4j..4j+3 of each quarter of the 64, the values of four rows of the kernel's
 * window, so that vpdpbusd adds the products of four taps at once. An output is then a sum over the columns of its
 * window, and a column is made once for all outputs that see it. The four sums are packed to bytes in channel order.
 *
 * vpdpbusd multiplies u8 by s8. For s8 maps, x + 128 takes the place of x, padding included, and 128 times the sum of
 * the filter is subtracted. */
#include "onednn/int8.h"

#include <string.h>

#define BLOCK 64
#define SIDE 7 /* largest kernel side */

struct filters { /* of one block of channels; float members in the order of the sums */
	float bias[BLOCK], scale[BLOCK];
	int32_t shift[BLOCK]; /* added to the sums */
};

struct job {
	const struct step *s;
	const int8_t *w; /* (blocks, kw, groups, 4, 64) */
	const struct filters *f;
	char *columns;
	size_t columns_bytes; /* per thread */
	float six;
	int blocks, groups;
};

bool int8_depthwise_takes(const struct step *s)
{
	const struct node *nd = s->node;
	return nd->layer == &layer_conv && nd->groups == nd->in.c && nd->out == nd->in.c && nd->groups > 1 &&
	       nd->kh <= SIDE && nd->kw <= SIDE && !s->has_res;
}

static int blocks_of(const struct step *s)
{
	return (s->node->in.c + BLOCK - 1) / BLOCK;
}

static int groups_of(const struct step *s)
{
	return (s->node->kh + 3) / 4;
}

static size_t filters_bytes(const struct step *s)
{
	return (size_t)blocks_of(s) * (size_t)groups_of(s) * (size_t)s->node->kw * 4 * BLOCK;
}

/* Columns from -pad_left to the end of the last window. */
static int columns_of(const struct node *nd)
{
	return (nd->shape.w - 1) * nd->stride + nd->kw;
}

static size_t columns_bytes(const struct step *s)
{
	return (size_t)columns_of(s->node) * (size_t)groups_of(s) * 4 * BLOCK;
}

/* The packed taps, followed by the sum of each filter. */
size_t int8_depthwise_weight_bytes(const struct step *s)
{
	return filters_bytes(s) + (size_t)blocks_of(s) * BLOCK * sizeof(int32_t);
}

size_t int8_depthwise_scratch_bytes(const struct step *s, int threads)
{
	return (size_t)threads * columns_bytes(s);
}

size_t int8_depthwise_filters_bytes(const struct step *s)
{
	return (size_t)blocks_of(s) * sizeof(struct filters);
}

/* Where channel c of a block stands among the 64 sums: quarter c/16, vector c/4%4. */
static int place_of(int c)
{
	return c / 4 % 4 * 16 + c / 16 * 4 + c % 4;
}

void int8_depthwise_weights_in(const struct step *s, void *to)
{
	const struct node *nd = s->node;
	int groups = groups_of(s);
	int32_t *sums = (int32_t *)((char *)to + filters_bytes(s));
	for (int c = 0; c < nd->in.c; c++)
		for (int y = 0; y < nd->kh; y++)
			for (int x = 0; x < nd->kw; x++) {
				int8_t w = s->quant->w[(c * nd->kh + y) * nd->kw + x];
				size_t row = (size_t)((c / BLOCK * nd->kw + x) * groups + y / 4) * 4 * BLOCK;
				((int8_t *)to)[row + (size_t)(place_of(c % BLOCK) * 4 + y % 4)] = w;
				sums[c / BLOCK * BLOCK + place_of(c % BLOCK)] += w;
			}
}

void int8_depthwise_filters(const struct step *s, const void *w, const float *bias, const float *scale, void *to)
{
	const int32_t *sums = (const int32_t *)((const char *)w + filters_bytes(s));
	bool s8 = int8_type(s->x[0]) == WASD_QUANT_S8;
	for (int c = 0; c < blocks_of(s) * BLOCK; c++) {
		struct filters *f = (struct filters *)to + c / BLOCK;
		int at = place_of(c % BLOCK);
		bool there = c < s->node->in.c;
		f->bias[at] = there ? bias[c] : 0;
		f->scale[at] = there ? scale[c] : 0;
		f->shift[at] = s8 ? -128 * sums[c / BLOCK * BLOCK + at] : 0;
	}
}

/* The bytes of one pixel; zeros outside the image. */
INT8_INLINE __m512i pixel_at(const char *row, int x, const struct node *nd, __mmask64 m)
{
	return row && x >= 0 && x < nd->in.w ? _mm512_maskz_loadu_epi8(m, row + (size_t)x * (size_t)nd->in.c) :
	                                       _mm512_setzero_si512();
}

/* Four pixels above each other, byte by byte: vector k/2+... of channels 4j..4j+3 of each quarter. */
INT8_INLINE void interleave(const __m512i p[4], __m512i flip, __m512i *to)
{
	__m512i a = _mm512_xor_si512(p[0], flip), b = _mm512_xor_si512(p[1], flip), c = _mm512_xor_si512(p[2], flip),
			d = _mm512_xor_si512(p[3], flip);
	__m512i ab0 = _mm512_unpacklo_epi8(a, b), ab1 = _mm512_unpackhi_epi8(a, b);
	__m512i cd0 = _mm512_unpacklo_epi8(c, d), cd1 = _mm512_unpackhi_epi8(c, d);
	_mm512_store_si512(to, _mm512_unpacklo_epi16(ab0, cd0));
	_mm512_store_si512(to + 1, _mm512_unpackhi_epi16(ab0, cd0));
	_mm512_store_si512(to + 2, _mm512_unpacklo_epi16(ab1, cd1));
	_mm512_store_si512(to + 3, _mm512_unpackhi_epi16(ab1, cd1));
}

/* All columns of output row oy of image n. */
INT8_HOT static void fill_columns(const struct job *j, int n, int oy, int block, __m512i *to)
{
	const struct node *nd = j->s->node;
	const struct tensor *x = j->s->x[0];
	size_t line = (size_t)nd->in.w * (size_t)nd->in.c;
	int left = nd->in.c - block * BLOCK;
	__mmask64 m = left < BLOCK ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
	__m512i flip = int8_type(x) == WASD_QUANT_S8 ? _mm512_set1_epi8(-128) : _mm512_setzero_si512();
	for (int g = 0; g < j->groups; g++) {
		const char *row[4];
		for (int k = 0; k < 4; k++) {
			int y = oy * nd->stride - nd->pad_top + 4 * g + k;
			row[k] = 4 * g + k < nd->kh && y >= 0 && y < nd->in.h ?
			             (const char *)x->data + ((size_t)n * (size_t)nd->in.h + (size_t)y) * line + block * BLOCK :
			             NULL;
		}
		for (int i = 0; i < columns_of(nd); i++) {
			__m512i p[4];
			for (int k = 0; k < 4; k++)
				p[k] = pixel_at(row[k], i - nd->pad_left, nd, m);
			interleave(p, flip, to + ((size_t)i * (size_t)j->groups + (size_t)g) * 4);
		}
	}
}

/* act((sum + bias) * scale) as integers. */
INT8_INLINE __m512i rounded(__m512i sum, const struct filters *f, int at, enum act act, float six, float least)
{
	__m512 v = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_loadu_si512(f->shift + at)));
	v = _mm512_mul_ps(_mm512_add_ps(v, _mm512_loadu_ps(f->bias + at)), _mm512_loadu_ps(f->scale + at));
	v = int8_act(act, v, six);
	return _mm512_cvtps_epi32(_mm512_max_ps(_mm512_min_ps(v, _mm512_set1_ps(255)), _mm512_set1_ps(least)));
}

INT8_INLINE void store_bytes(const struct job *j, const struct filters *f, const __m512i sum[4], char *to, int left)
{
	enum act act = j->s->act;
	bool u8 = int8_type(j->s->y) == WASD_QUANT_U8;
	__mmask64 m = left < BLOCK ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
	float least = u8 ? 0 : -128;
	__m512i a = _mm512_packs_epi32(rounded(sum[0], f, 0, act, j->six, least),
	                               rounded(sum[1], f, 16, act, j->six, least));
	__m512i b = _mm512_packs_epi32(rounded(sum[2], f, 32, act, j->six, least),
	                               rounded(sum[3], f, 48, act, j->six, least));
	_mm512_mask_storeu_epi8(to, m, u8 ? _mm512_packus_epi16(a, b) : _mm512_packs_epi16(a, b));
}

INT8_INLINE void store_floats(const struct job *j, const struct filters *f, const __m512i sum[4], float *to, int left)
{
	float v[BLOCK];
	for (int k = 0; k < 4; k++) {
		__m512 t = _mm512_cvtepi32_ps(_mm512_add_epi32(sum[k], _mm512_loadu_si512(f->shift + 16 * k)));
		t = _mm512_mul_ps(_mm512_add_ps(t, _mm512_loadu_ps(f->bias + 16 * k)), _mm512_loadu_ps(f->scale + 16 * k));
		_mm512_storeu_ps(v + 16 * k, int8_act(j->s->act, t, j->six));
	}
	for (int c = 0; c < left && c < BLOCK; c++)
		to[c] = v[place_of(c)];
}

/* columns: kw x groups, known to the compiler for 3x3 kernels. */
INT8_INLINE void sum_row(const struct job *j, const __m512i *columns, const __m512i *w, const struct filters *f,
                         size_t pixel, int block, int steps, int stride)
{
	const struct node *nd = j->s->node;
	const struct tensor *y = j->s->y;
	int left = nd->in.c - block * BLOCK;
	for (int ox = 0; ox < nd->shape.w; ox++, pixel++) {
		const __m512i *x = columns + (size_t)(ox * stride * j->groups) * 4;
		__m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
		                  _mm512_setzero_si512()};
		for (int i = 0; i < steps; i++)
			for (int k = 0; k < 4; k++)
				sum[k] = _mm512_dpbusd_epi32(sum[k], x[4 * i + k], w[4 * i + k]);
		size_t at = pixel * (size_t)nd->in.c + (size_t)(block * BLOCK);
		if (int8_type(y) == WASD_QUANT_F32)
			store_floats(j, f, sum, (float *)y->data + at, left);
		else
			store_bytes(j, f, sum, (char *)y->data + at, left);
	}
}

/* Item i: block i % blocks of output row i / blocks. */
INT8_HOT static void rows(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	const struct node *nd = j->s->node;
	__m512i *columns = (__m512i *)(j->columns + (size_t)thread * j->columns_bytes);
	int steps = nd->kw * j->groups;
	for (int i = begin; i < end; i++) {
		int block = i % j->blocks, row = i / j->blocks;
		const __m512i *w = (const __m512i *)j->w + (size_t)block * (size_t)steps * 4;
		size_t pixel = (size_t)row * (size_t)nd->shape.w;
		fill_columns(j, row / nd->shape.h, row % nd->shape.h, block, columns);
		if (steps == 3 && nd->stride == 1)
			sum_row(j, columns, w, &j->f[block], pixel, block, 3, 1);
		else
			sum_row(j, columns, w, &j->f[block], pixel, block, steps, nd->stride);
	}
}

void int8_depthwise_run(const struct step *s, const struct run *r, const void *w, const void *filters, float six)
{
	struct job j = {.s = s,
	                .w = w,
	                .f = filters,
	                .columns = r->scratch,
	                .columns_bytes = columns_bytes(s),
	                .six = six,
	                .blocks = blocks_of(s),
	                .groups = groups_of(s)};
	wasd_parallel(r->n * s->y->shape.h * j.blocks, rows, &j);
}
