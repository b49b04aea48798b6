/* onednn/blocked_maxpool.c - max pooling in blocks of 16 channels; layers/pool.c has the definition.
 *
 * The maximum over a window is the maximum over its rows of the maximum within a row, and neighbouring windows share
 * rows. So each row of the image is reduced once, into a ring of the last k rows. The winning tap is kept as one byte
 * per output; of equal values the first wins, and NaN wins over all. Backward gathers: an input pixel sums the
 * gradients of the windows that it won. */
#include "onednn/blocked_vec.h"

struct pool_job {
	struct step *s;
	const struct run *r;
};
struct best {
	v16 v;
	b16 tap;
}; /* the maximum of one output so far, and its tap */

static size_t ring_values(const struct step *s)
{
	return (size_t)s->node->kh * (size_t)s->node->shape.w * LANES;
}
static size_t ring_bytes(const struct step *s)
{
	return (ring_values(s) * (sizeof(float) + 1) + 63) / 64 * 64;
}

BLOCKED_INLINE b16 tap_set(int tap)
{
	return (uint8_t)tap - (b16){0};
}

BLOCKED_INLINE struct best better(struct best a, v16 v, b16 tap)
{
	uint16_t m = m_greater(v, a.v) | m_nan(v);
	return (struct best){m_select(m, v, a.v), m_select_bytes(m, tap, a.tap)};
}

/* Maximum over taps kx0..kx1-1 of the window whose first column is block `at` of x. */
BLOCKED_INLINE struct best within_row(const void *x, size_t at, int kx0, int kx1, bool bf16)
{
	struct best b = {v_load(x, at + (size_t)kx0, bf16), tap_set(kx0)};
	for (int kx = kx0 + 1; kx < kx1; kx++)
		b = better(b, v_load(x, at + (size_t)kx, bf16), tap_set(kx));
	return b;
}

/* Reduces one row of the image, beginning at block `from`, to one value per window column. */
BLOCKED_INLINE void reduce_row(const struct tensor *x, size_t from, const struct node *nd, int k, float *values,
                               uint8_t *taps, bool bf16)
{
	int W = nd->in.w, st = nd->stride;
	for (int ox = 0; ox < nd->shape.w; ox++) {
		int x0 = ox * st - nd->pad_top;
		size_t at = from + (size_t)x0; /* x0 < 0: adding kx brings it back into the row */
		struct best b;
		if (x0 >= 0 && x0 + k <= W)
			b = within_row(x->data, at, 0, k, bf16);
		else
			b = within_row(x->data, at, most(0, -x0), least(k, W - x0), bf16);
		v_store(values, (size_t)ox, b.v, false);
		__builtin_memcpy(taps + ox * LANES, &b.tap, sizeof b.tap);
	}
}

BLOCKED_HOT static void reduce_any(const struct tensor *x, size_t from, const struct node *nd, float *values,
                                   uint8_t *taps)
{
	bool bf16 = blocked_of(x)->bf16;
	if (nd->kh == 3 && !bf16)
		reduce_row(x, from, nd, 3, values, taps, false);
	else if (nd->kh == 3)
		reduce_row(x, from, nd, 3, values, taps, true);
	else if (nd->kh == 2 && !bf16)
		reduce_row(x, from, nd, 2, values, taps, false);
	else
		reduce_row(x, from, nd, nd->kh, values, taps, bf16);
}

BLOCKED_HOT static void fwd_items(void *ctx, int begin, int end, int thread)
{
	const struct pool_job *j = ctx;
	const struct step *s = j->s;
	const struct node *nd = s->node;
	const struct tensor *x = s->x[0], *y = s->y;
	int H = nd->in.h, OH = nd->shape.h, OW = nd->shape.w, k = nd->kh, cb = blocked_count(y);
	float *values = (float *)((char *)j->r->scratch + (size_t)thread * ring_bytes(s));
	uint8_t *taps = (uint8_t *)(values + ring_values(s));
	bool bf16 = blocked_of(y)->bf16;
	for (int i = begin; i < end; i++) {
		size_t from = blocked_at(x, i / cb, i % cb), to = blocked_at(y, i / cb, i % cb);
		uint8_t *won = j->r->training ? (uint8_t *)s->saved + (size_t)i * (size_t)(OH * OW * LANES) : NULL;
		for (int oy = 0, ready = 0; oy < OH; oy++) {
			int y0 = oy * nd->stride - nd->pad_top, first = most(0, y0), last = least(H, y0 + k);
			for (ready = most(ready, first); ready < last; ready++)
				reduce_any(x, from + (size_t)(ready * nd->in.w), nd, values + ready % k * OW * LANES,
				           taps + ready % k * OW * LANES);
			for (int ox = 0; ox < OW; ox++) {
				struct best b = {0};
				for (int iy = first; iy < last; iy++) {
					size_t at = (size_t)(iy % k * OW + ox);
					b16 tap;
					__builtin_memcpy(&tap, taps + at * LANES, sizeof tap);
					tap += tap_set((iy - y0) * k);
					v16 v = v_load(values, at, false);
					b = iy == first ? (struct best){v, tap} : better(b, v, tap);
				}
				v_store(y->data, to++, b.v, bf16);
				if (won)
					__builtin_memcpy(won + (size_t)(oy * OW + ox) * LANES, &b.tap, sizeof b.tap);
			}
		}
	}
}

/* sum + the gradients of windows ox0..ox1-1 in one row of windows, where the winner is tap_row + (column in the
 * window). */
BLOCKED_INLINE v16 gather_row(v16 sum, const uint8_t *won, const void *dy, size_t at, int tap, int ox0, int ox1,
                              int stride, bool bf16)
{
	for (int ox = ox0; ox < ox1; ox++) {
		b16 w;
		__builtin_memcpy(&w, won + (size_t)ox * LANES, sizeof w);
		v16 g = v_load(dy, at + (size_t)ox, bf16);
		sum = m_select(m_equal(w, tap_set(tap - ox * stride)), sum + g, sum);
	}
	return sum;
}

BLOCKED_INLINE void gather_plane(const struct step *s, size_t from, size_t to, const uint8_t *won, int k, int stride,
                                 bool dx16, bool dy16)
{
	const struct node *nd = s->node;
	const struct tensor *dx = s->dx[0], *dy = s->dy;
	int H = nd->in.h, W = nd->in.w, OH = nd->shape.h, OW = nd->shape.w, p = nd->pad_top;
	for (int iy = 0; iy < H; iy++) {
		/* windows oy with oy*stride - p <= iy < oy*stride - p + k; the same for columns */
		int oy0 = most(iy + p - k + stride, 0) / stride, oy1 = least((iy + p) / stride + 1, OH);
		for (int ix = 0; ix < W; ix++, to++) {
			int ox0 = most(ix + p - k + stride, 0) / stride, ox1 = least((ix + p) / stride + 1, OW);
			v16 sum = s->dx_add[0] ? v_load(dx->data, to, dx16) : v_set(0);
			for (int oy = oy0; oy < oy1; oy++) {
				const uint8_t *w = won + (size_t)(oy * OW) * LANES;
				int tap = (iy - oy * stride + p) * k + ix + p;
				if (stride == 1 && ox1 - ox0 == k)
					sum = gather_row(sum, w, dy->data, from + (size_t)(oy * OW), tap, ox0, ox0 + k, stride, dy16);
				else
					sum = gather_row(sum, w, dy->data, from + (size_t)(oy * OW), tap, ox0, ox1, stride, dy16);
			}
			v_store(dx->data, to, sum, dx16);
		}
	}
}

BLOCKED_HOT static void bwd_items(void *ctx, int begin, int end, int thread)
{
	const struct pool_job *j = ctx;
	const struct step *s = j->s;
	const struct node *nd = s->node;
	int cb = blocked_count(s->y), k = nd->kh;
	bool dx16 = blocked_of(s->dx[0])->bf16, dy16 = blocked_of(s->dy)->bf16, f32 = !dx16 && !dy16;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t from = blocked_at(s->dy, i / cb, i % cb), to = blocked_at(s->dx[0], i / cb, i % cb);
		const uint8_t *won = (const uint8_t *)s->saved + (size_t)i * (size_t)(nd->shape.h * nd->shape.w * LANES);
		if (k == 3 && nd->stride == 1 && f32)
			gather_plane(s, from, to, won, 3, 1, false, false);
		else if (k == 3 && nd->stride == 1)
			gather_plane(s, from, to, won, 3, 1, dx16, dy16);
		else if (nd->stride == 2 && f32)
			gather_plane(s, from, to, won, k, 2, false, false);
		else
			gather_plane(s, from, to, won, k, nd->stride, dx16, dy16);
	}
}

static void max_plan(struct step *s, int batch, bool training, int threads)
{
	s->saved_bytes = training ?
	                     (size_t)batch * (size_t)blocked_count(s->y) * (size_t)(s->y->shape.h * s->y->shape.w) * LANES :
	                     0;
	s->scratch_bytes = (size_t)threads * ring_bytes(s);
}

static void max_forward(struct step *s, const struct run *r)
{
	wasd_parallel(r->n * blocked_count(s->y), fwd_items, &(struct pool_job){s, r});
}

static void max_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(r->n * blocked_count(s->y), bwd_items, &(struct pool_job){s, r});
}

const struct layer_kernel blocked_maxpool = {.plan = max_plan, .forward = max_forward, .backward = max_backward};
