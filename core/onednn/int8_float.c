/* onednn/int8_float.c - convolutions and linear layers of int8 networks that keep float weights. The sum of an output
 * has one order, whatever the batch and the threads: taps in rows, at each tap the channels of the group, each product
 * added with one rounding; integers of x are converted, and the sum is multiplied by their scale:
 *
 *     t = sx * sum + b        t = sr * r + t        y = round(act(t) / sy)
 *
 * Filters are taken 16 at a time, a lane each, for a few pixels. Groups of several channels are computed as if they
 * were one, with zeros between; one channel per filter has a loop of its own. */
#include "onednn/int8.h"

#include <string.h>

#define TILE 6 /* pixels whose sums are held in registers */

struct geometry {
	int h, w, c, oh, ow, out, kh, kw, stride, pad_top, pad_left, groups;
};

struct job {
	const struct step *s;
	struct geometry g;
	const float *x, *w, *zeros;
	int tiles; /* of all pixels of the pass */
	size_t pixels;
	__m512 sx, sr, inv;
};

static struct geometry geometry_of(const struct node *nd)
{
	struct geometry g = {.h = 1,
	                     .w = 1,
	                     .c = nd->in.c,
	                     .oh = 1,
	                     .ow = 1,
	                     .out = nd->shape.c,
	                     .kh = 1,
	                     .kw = 1,
	                     .stride = 1,
	                     .groups = 1};
	if (nd->layer == &layer_linear)
		return g;
	return (struct geometry){nd->in.h, nd->in.w, nd->in.c,   nd->shape.h, nd->shape.w,  nd->out,
	                         nd->kh,   nd->kw,   nd->stride, nd->pad_top, nd->pad_left, nd->groups};
}

static bool lone(const struct geometry *g)
{
	return g->groups > 1 && g->groups == g->c && g->groups == g->out;
}

/* ---- weights: dense (O/16, kh, kw, I, 16), one channel per filter (O/16, kh, kw, 16) ---- */

static size_t packed_count(const struct geometry *g)
{
	return (size_t)((g->out + 15) / 16) * (size_t)(g->kh * g->kw) * (size_t)(lone(g) ? 1 : g->c) * 16;
}

static bool fill_weights(void *ctx, void *to)
{
	const struct step *s = ctx;
	struct geometry g = geometry_of(s->node);
	int each = g.c / g.groups, taps = g.kh * g.kw, wide = lone(&g) ? 1 : g.c;
	for (int o = 0; o < g.out; o++)
		for (int i = 0; i < each; i++)
			for (int t = 0; t < taps; t++) {
				int c = lone(&g) ? 0 : o / (g.out / g.groups) * each + i;
				((float *)to)[(((size_t)(o / 16) * (size_t)taps + (size_t)t) * (size_t)wide + (size_t)c) * 16 +
				              (size_t)(o % 16)] =
					(float)s->weight[((size_t)o * (size_t)each + (size_t)i) * (size_t)taps + (size_t)t];
			}
	return true;
}

/* ---- scratch: x as float, a row of zeros ---- */

static size_t wide_bytes(const struct step *s, int n)
{
	return int8_type(s->x[0]) == WASD_QUANT_F32 ? 0 : wasd_aligned((size_t)n * s->x[0]->sn * sizeof(float));
}

static void float_plan(struct step *s, int batch, bool training, int threads)
{
	(void)training;
	(void)threads;
	s->scratch_bytes = wide_bytes(s, batch) + wasd_aligned((size_t)s->node->in.c * sizeof(float) + 64);
}

INT8_HOT static void widen_images(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	const struct tensor *x = j->s->x[0];
	(void)thread;
	for (size_t i = (size_t)begin * x->sn; i < (size_t)end * x->sn; i += 16) {
		__mmask16 m = int8_lanes((size_t)end * x->sn - i);
		_mm512_mask_storeu_ps((float *)(uintptr_t)j->x + i, m, int8_load(x->data, i, m, int8_type(x)));
	}
}

/* ---- sums ---- */

/* What tap (ky,kx) of the output pixel reads. */
static const float *under(const struct job *j, size_t pixel, int ky, int kx)
{
	const struct geometry *g = &j->g;
	size_t ox = pixel % (size_t)g->ow, oy = pixel / (size_t)g->ow % (size_t)g->oh,
		   n = pixel / (size_t)g->ow / (size_t)g->oh;
	int y = (int)oy * g->stride - g->pad_top + ky, x = (int)ox * g->stride - g->pad_left + kx;
	if (y < 0 || y >= g->h || x < 0 || x >= g->w)
		return j->zeros;
	return j->x + ((n * (size_t)g->h + (size_t)y) * (size_t)g->w + (size_t)x) * (size_t)g->c;
}

INT8_INLINE void finish(const struct job *j, size_t pixel, int o, __mmask16 m, __m512 sum)
{
	const struct step *s = j->s;
	size_t at = pixel * (size_t)j->g.out + (size_t)o;
	__m512 t = s->bias ? _mm512_maskz_loadu_ps(m, (const float *)s->bias + o) : _mm512_setzero_ps();
	t = _mm512_fmadd_ps(j->sx, sum, t);
	if (s->has_res)
		t = _mm512_fmadd_ps(j->sr, int8_load(s->x[1]->data, at, m, int8_type(s->x[1])), t);
	int8_store(s->y->data, at, m, _mm512_mul_ps(int8_act(s->act, t, 6), j->inv), int8_type(s->y));
}

INT8_INLINE void dense_tile(const struct job *j, size_t first, int count, int block)
{
	const struct geometry *g = &j->g;
	const float *w = j->w + (size_t)block * (size_t)(g->kh * g->kw) * (size_t)g->c * 16;
	__m512 sum[TILE];
	for (int p = 0; p < TILE; p++)
		sum[p] = _mm512_setzero_ps();
	for (int t = 0; t < g->kh * g->kw; t++) {
		const float *x[TILE];
		for (int p = 0; p < TILE; p++)
			x[p] = p < count ? under(j, first + (size_t)p, t / g->kw, t % g->kw) : j->zeros;
		for (int i = 0; i < g->c; i++, w += 16) {
			__m512 v = _mm512_load_ps(w);
			for (int p = 0; p < TILE; p++)
				sum[p] = _mm512_fmadd_ps(_mm512_set1_ps(x[p][i]), v, sum[p]);
		}
	}
	for (int p = 0; p < count; p++)
		finish(j, first + (size_t)p, 16 * block, int8_lanes((size_t)(g->out - 16 * block)), sum[p]);
}

INT8_HOT static void dense(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t first = (size_t)(i % j->tiles) * TILE, left = j->pixels - first;
		dense_tile(j, first, left < TILE ? (int)left : TILE, i / j->tiles);
	}
}

INT8_HOT static void lone_pixels(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	const struct geometry *g = &j->g;
	(void)thread;
	for (size_t p = (size_t)begin; p < (size_t)end; p++)
		for (int o = 0; o < g->out; o += 16) {
			__mmask16 m = int8_lanes((size_t)(g->out - o));
			__m512 sum = _mm512_setzero_ps();
			for (int t = 0; t < g->kh * g->kw; t++)
				sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, under(j, p, t / g->kw, t % g->kw) + o),
				                      _mm512_load_ps(j->w + ((size_t)(o / 16 * g->kh * g->kw) + (size_t)t) * 16), sum);
			finish(j, p, o, m, sum);
		}
}

INT8_HOT static void float_forward(struct step *s, const struct run *r)
{
	struct job j = {.s = s,
	                .g = geometry_of(s->node),
	                .x = wide_bytes(s, r->n) ? r->scratch : s->x[0]->data,
	                .zeros = (const float *)((char *)r->scratch + wide_bytes(s, r->n)),
	                .sx = _mm512_set1_ps(int8_scale(s->x[0])),
	                .sr = _mm512_set1_ps(s->has_res ? int8_scale(s->x[1]) : 1),
	                .inv = _mm512_set1_ps(int8_inverse(s->y))};
	size_t count = packed_count(&j.g);
	j.pixels = (size_t)r->n * (size_t)j.g.oh * (size_t)j.g.ow;
	j.tiles = (int)((j.pixels + TILE - 1) / TILE);
	if (count && !(j.w = packs_get(s->packs, s->weight, 0, count * sizeof(float), fill_weights, s))) {
		s->status = WASD_ENOMEM;
		return;
	}
	memset((char *)(uintptr_t)j.zeros, 0, (size_t)j.g.c * sizeof(float));
	if (wide_bytes(s, r->n))
		wasd_parallel(r->n, widen_images, &j);
	if (lone(&j.g))
		wasd_parallel((int)j.pixels, lone_pixels, &j);
	else
		wasd_parallel(j.tiles * ((j.g.out + 15) / 16), dense, &j);
}

static void float_explain(const struct step *s, cJSON *to)
{
	int8_describe(s, "float", "wasd", 0, NULL, to);
}

const struct layer_kernel int8_float_conv = {.plan = float_plan, .forward = float_forward, .explain = float_explain};
