/* onednn/int8_maps.c - everything but convolutions on channels-last maps: pooling, concat, add, activations, flatten.
 * Values of another type or scale than y's are brought to it: y = round(act(scale * q) / sy). */
#include "onednn/int8.h"

#include <string.h>

struct map_job {
	const struct step *s;
	int n;
	float factor; /* of a sum over a window */
};

INT8_HOT void int8_bring(const void *x, const struct tensor *xt, void *y, const struct tensor *yt, enum act act,
                         size_t n)
{
	if (act == ACT_NONE && int8_same(xt, yt)) {
		memcpy(y, x, n * int8_size(yt));
		return;
	}
	__m512 scale = _mm512_set1_ps(int8_scale(xt)), inv = _mm512_set1_ps(int8_inverse(yt));
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = int8_lanes(n - i);
		__m512 v = int8_act(act, _mm512_mul_ps(scale, int8_load(x, i, m, int8_type(xt))), 6);
		int8_store(y, i, m, _mm512_mul_ps(v, inv), int8_type(yt));
	}
}

static const char *pixel(const struct tensor *t, size_t i)
{
	return (const char *)t->data + i * (size_t)t->shape.c * int8_size(t);
}

/* ---- activations and add ---- */

#define PIECE 4096 /* elements of one item of work */

static int pieces(const struct tensor *t, int n)
{
	return (int)(((size_t)n * t->sn + PIECE - 1) / PIECE);
}

static size_t piece_end(const struct map_job *j, size_t begin)
{
	size_t all = (size_t)j->n * j->s->y->sn;
	return begin + PIECE < all ? begin + PIECE : all;
}

static void relu_pieces(void *ctx, int begin, int end, int thread)
{
	const struct map_job *j = ctx;
	const struct tensor *x = j->s->x[0], *y = j->s->y;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t at = (size_t)i * PIECE;
		int8_bring((const char *)x->data + at * int8_size(x), x, (char *)y->data + at * int8_size(y), y,
		           j->s->node->layer->is_act, piece_end(j, at) - at);
	}
}

static void relu_forward(struct step *s, const struct run *r)
{
	wasd_parallel(pieces(s->y, r->n), relu_pieces, &(struct map_job){.s = s, .n = r->n});
}

INT8_HOT static void add_pieces(void *ctx, int begin, int end, int thread)
{
	const struct map_job *j = ctx;
	const struct tensor *a = j->s->x[0], *b = j->s->x[1], *y = j->s->y;
	__m512 sa = _mm512_set1_ps(int8_scale(a)), sb = _mm512_set1_ps(int8_scale(b)),
		   inv = _mm512_set1_ps(int8_inverse(y));
	(void)thread;
	for (int p = begin; p < end; p++)
		for (size_t i = (size_t)p * PIECE, last = piece_end(j, i); i < last; i += 16) {
			__mmask16 m = int8_lanes(last - i);
			__m512 v = _mm512_mul_ps(sa, int8_load(a->data, i, m, int8_type(a)));
			v = int8_act(j->s->act, _mm512_fmadd_ps(sb, int8_load(b->data, i, m, int8_type(b)), v), 6);
			int8_store(y->data, i, m, _mm512_mul_ps(v, inv), int8_type(y));
		}
}

static void add_forward(struct step *s, const struct run *r)
{
	wasd_parallel(pieces(s->y, r->n), add_pieces, &(struct map_job){.s = s, .n = r->n});
}

/* ---- windows ---- */

struct window {
	int y0, y1, x0, x1; /* the part inside the image */
};

static int inside(int v, int end)
{
	return v < 0 ? 0 : v > end ? end : v;
}

static struct window window_of(const struct node *nd, int kh, int kw, int oy, int ox)
{
	int y = oy * nd->stride - nd->pad_top, x = ox * nd->stride - nd->pad_left;
	return (struct window){inside(y, nd->in.h), inside(y + kh, nd->in.h), inside(x, nd->in.w),
	                       inside(x + kw, nd->in.w)};
}

/* The maxima of 64 bytes, or of 16 floats, of channels c... over a window of image n. */
INT8_INLINE __m512i max_bytes(const struct tensor *x, int n, const struct window *w, size_t c, __mmask64 m, bool u8)
{
	__m512i best = u8 ? _mm512_setzero_si512() : _mm512_set1_epi8(-128);
	for (int iy = w->y0; iy < w->y1; iy++)
		for (int ix = w->x0; ix < w->x1; ix++) {
			__m512i v = _mm512_maskz_loadu_epi8(m, pixel(x, ((size_t)n * (size_t)x->shape.h + (size_t)iy) *
			                                                        (size_t)x->shape.w +
			                                                    (size_t)ix) +
			                                           c);
			best = u8 ? _mm512_max_epu8(best, v) : _mm512_max_epi8(best, v);
		}
	return best;
}

INT8_INLINE __m512 max_floats(const struct tensor *x, int n, const struct window *w, size_t c, __mmask16 m)
{
	__m512 best = _mm512_set1_ps(-__builtin_inff());
	for (int iy = w->y0; iy < w->y1; iy++)
		for (int ix = w->x0; ix < w->x1; ix++) {
			const char *p = pixel(x, ((size_t)n * (size_t)x->shape.h + (size_t)iy) * (size_t)x->shape.w + (size_t)ix);
			best = _mm512_max_ps(best, _mm512_maskz_loadu_ps(m, (const float *)p + c));
		}
	return best;
}

INT8_HOT static void max_pixel(const struct step *s, int n, const struct window *w, char *to)
{
	const struct tensor *x = s->x[0], *y = s->y;
	size_t C = (size_t)y->shape.c, bytes = int8_size(y), step = int8_type(x) == WASD_QUANT_F32 ? 16 : 64;
	for (size_t c = 0; c < C; c += step) {
		size_t left = C - c < step ? C - c : step;
		char found[64];
		if (step == 16) {
			_mm512_storeu_ps(found, max_floats(x, n, w, c, int8_lanes(left)));
		} else {
			__mmask64 m = left < 64 ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
			__m512i v = max_bytes(x, n, w, c, m, int8_type(x) == WASD_QUANT_U8);
			if (int8_same(x, y)) {
				_mm512_mask_storeu_epi8(to + c, m, v);
				continue;
			}
			_mm512_storeu_si512(found, v);
		}
		int8_bring(found, x, to + c * bytes, y, ACT_NONE, left);
	}
}

static void max_rows(void *ctx, int begin, int end, int thread)
{
	const struct map_job *j = ctx;
	const struct node *nd = j->s->node;
	(void)thread;
	for (int i = begin; i < end; i++)
		for (int ox = 0; ox < nd->shape.w; ox++) {
			struct window w = window_of(nd, nd->kh, nd->kh, i % nd->shape.h, ox);
			max_pixel(j->s, i / nd->shape.h, &w,
			          (char *)(uintptr_t)pixel(j->s->y, (size_t)i * (size_t)nd->shape.w + (size_t)ox));
		}
}

static void max_forward(struct step *s, const struct run *r)
{
	wasd_parallel(r->n * s->y->shape.h, max_rows, &(struct map_job){.s = s, .n = r->n});
}

/* Sums of 16 channels: of integers exactly, of floats in row order. */
INT8_INLINE __m512 sum_window(const struct tensor *x, int n, const struct window *w, size_t c, __mmask16 m)
{
	__m512i q = _mm512_setzero_si512();
	__m512 f = _mm512_setzero_ps();
	enum wasd_quant_type type = int8_type(x);
	for (int iy = w->y0; iy < w->y1; iy++)
		for (int ix = w->x0; ix < w->x1; ix++) {
			const char *p = pixel(x, ((size_t)n * (size_t)x->shape.h + (size_t)iy) * (size_t)x->shape.w + (size_t)ix);
			if (type == WASD_QUANT_F32) {
				f = _mm512_add_ps(f, _mm512_maskz_loadu_ps(m, (const float *)p + c));
			} else {
				__m128i v = _mm_maskz_loadu_epi8(m, p + c);
				q = _mm512_add_epi32(q, type == WASD_QUANT_U8 ? _mm512_cvtepu8_epi32(v) : _mm512_cvtepi8_epi32(v));
			}
		}
	return type == WASD_QUANT_F32 ? f : _mm512_cvtepi32_ps(q);
}

INT8_HOT static void sum_pixels(void *ctx, int begin, int end, int thread)
{
	const struct map_job *j = ctx;
	const struct node *nd = j->s->node;
	const struct tensor *x = j->s->x[0], *y = j->s->y;
	int kh = nd->kh ? nd->kh : nd->in.h, kw = nd->kh ? nd->kw : nd->in.w, OW = nd->shape.w;
	__m512 factor = _mm512_set1_ps(j->factor);
	(void)thread;
	for (int i = begin; i < end; i++) {
		struct window w = window_of(nd, kh, kw, i / OW % nd->shape.h, i % OW);
		if (!nd->kh)
			w = (struct window){0, kh, 0, kw};
		for (size_t c = 0; c < (size_t)nd->shape.c; c += 16) {
			__mmask16 m = int8_lanes((size_t)nd->shape.c - c);
			__m512 sum = sum_window(x, i / OW / nd->shape.h, &w, c, m);
			int8_store(y->data, (size_t)i * (size_t)nd->shape.c + c, m, _mm512_mul_ps(sum, factor), int8_type(y));
		}
	}
}

/* y = (sum over the window) * (sx / count / sy) */
static void sum_forward(struct step *s, const struct run *r, int count)
{
	double f = (double)int8_scale(s->x[0]) / count / (double)int8_scale(s->y);
	wasd_parallel(r->n * s->y->shape.h * s->y->shape.w, sum_pixels,
	              &(struct map_job){.s = s, .n = r->n, .factor = (float)f});
}

static void avg_forward(struct step *s, const struct run *r)
{
	sum_forward(s, r, s->node->kh * s->node->kw);
}

static void global_forward(struct step *s, const struct run *r)
{
	sum_forward(s, r, s->node->in.h * s->node->in.w);
}

static void box_forward(struct step *s, const struct run *r)
{
	sum_forward(s, r, 1);
}

/* ---- places ---- */

static void concat_pixels(void *ctx, int begin, int end, int thread)
{
	const struct map_job *j = ctx;
	const struct step *s = j->s;
	(void)thread;
	for (int i = begin; i < end; i++) {
		char *to = (char *)(uintptr_t)pixel(s->y, (size_t)i);
		for (int k = 0; k < s->n_in; k++) {
			size_t c = (size_t)s->x[k]->shape.c;
			int8_bring(pixel(s->x[k], (size_t)i), s->x[k], to, s->y, ACT_NONE, c);
			to += c * int8_size(s->y);
		}
	}
}

static void concat_forward(struct step *s, const struct run *r)
{
	wasd_parallel(r->n * s->y->shape.h * s->y->shape.w, concat_pixels, &(struct map_job){.s = s, .n = r->n});
}

/* Channel by channel, through a piece of one channel's bytes. */
static void flatten_channels(void *ctx, int begin, int end, int thread)
{
	const struct map_job *j = ctx;
	const struct tensor *x = j->s->x[0], *y = j->s->y;
	size_t C = (size_t)x->shape.c, hw = (size_t)x->shape.h * (size_t)x->shape.w, size = int8_size(x);
	char piece[256];
	(void)thread;
	for (int i = begin; i < end; i++) {
		const char *from = pixel(x, (size_t)i / C * hw) + (size_t)i % C * size;
		char *to = (char *)y->data + (size_t)i * hw * int8_size(y);
		for (size_t p = 0; p < hw;) {
			size_t k = 0;
			for (; k < sizeof piece / size && p < hw; k++, p++)
				memcpy(piece + k * size, from + p * C * size, size);
			int8_bring(piece, x, to, y, ACT_NONE, k);
			to += k * int8_size(y);
		}
	}
}

static void flatten_forward(struct step *s, const struct run *r)
{
	if (s->x[0]->shape.h * s->x[0]->shape.w == 1)
		int8_bring(s->x[0]->data, s->x[0], s->y->data, s->y, ACT_NONE, (size_t)r->n * s->y->sn);
	else
		wasd_parallel(r->n * s->x[0]->shape.c, flatten_channels, &(struct map_job){.s = s, .n = r->n});
}

const struct layer_kernel int8_relu = {.forward = relu_forward}, int8_add = {.forward = add_forward},
						  int8_concat = {.forward = concat_forward}, int8_maxpool = {.forward = max_forward},
						  int8_avgpool = {.forward = avg_forward}, int8_globalpool = {.forward = global_forward},
						  int8_boxsum = {.forward = box_forward}, int8_flatten = {.forward = flatten_forward};
