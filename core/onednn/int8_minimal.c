/* onednn/int8_minimal.c - see int8_minimal.h. Each thread works on blocks of tiles that stay in its core's cache: their
 * inputs are transformed; then, for 32 output channels at a time, come the products at all points and the transform of
 * their sums. */
#include "onednn/int8_minimal.h"
#include "onednn/int8.h"

#include <string.h>

#define SIDE 6 /* points per side */
#define POINTS (SIDE * SIDE)
#define LANES16 32 /* input channels in a vector of 16-bit integers */
#define GROUP 32   /* output channels of a product kernel */
#define HALF 16    /* of one vector */
#define ROWS 8     /* tiles of a product kernel */
#define BLOCK_TILES 16
#define WEIGHTS_MAX (8u << 20) /* bytes; each thread reads all of them for every block */
#define INVERSE_OF_9 954437177 /* modulo 2^32 */
#define SHIFT 6                /* 576 = 9 * 64 */
#define EXACT (1 << 25)

bool int8_minimal_exact(const struct prim8_conv *c, const int8_t *oihw)
{
	size_t each = (size_t)c->c * 9;
	int64_t most = c->x == WASD_QUANT_U8 ? 255 : 128;
	for (int o = 0; o < c->out; o++) {
		int64_t plus = 0, minus = 0;
		for (size_t i = 0; i < each; i++, oihw++)
			*(*oihw > 0 ? &plus : &minus) += *oihw;
		int64_t bound = c->x == WASD_QUANT_S8 ? plus - minus : plus > -minus ? plus : -minus;
		if (bound * most >= EXACT)
			return false;
	}
	return true;
}

static int tiles_of(const struct prim8_conv *c)
{
	return c->n * ((c->oh + 3) / 4) * ((c->ow + 3) / 4);
}
static int whole_rows(int tiles)
{
	return (tiles + ROWS - 1) / ROWS * ROWS;
}

/* Distances between the matrices of two points, in elements: one cache line more than their size, or all of them would
 * fall into the same cache set. */
static size_t weight_step(const struct prim8_conv *c)
{
	return (size_t)c->c * (size_t)c->out + LANES16;
}
static size_t tile_step(const struct prim8_conv *c, int tiles)
{
	return (size_t)c->c * (size_t)tiles + LANES16;
}
static size_t sum_step(int tiles)
{
	return (size_t)tiles * GROUP + HALF;
}

size_t int8_minimal_weight_bytes(const struct prim8_conv *c)
{
	return POINTS * weight_step(c) * sizeof(int16_t);
}

bool int8_minimal_fits(const struct prim8_conv *c)
{
	return c->kh == 3 && c->kw == 3 && c->stride == 1 && c->groups == 1 && c->c % LANES16 == 0 && c->out % GROUP == 0 &&
	       !c->add && int8_minimal_weight_bytes(c) <= WEIGHTS_MAX;
}

static int block_tiles(const struct prim8_conv *c, int threads)
{
	int each = (tiles_of(c) + threads - 1) / threads;
	return whole_rows(each < BLOCK_TILES ? each : BLOCK_TILES);
}

static size_t tiles_bytes(const struct prim8_conv *c, int tiles)
{
	return POINTS * tile_step(c, tiles) * sizeof(int16_t);
}
static size_t sums_bytes(int tiles)
{
	return POINTS * sum_step(tiles) * sizeof(int32_t);
}

size_t int8_minimal_scratch_bytes(const struct prim8_conv *c, int threads)
{
	int tiles = block_tiles(c, threads);
	return (size_t)threads * (sums_bytes(tiles) + tiles_bytes(c, tiles));
}

struct job {
	const struct prim8_conv *c;
	const int8_t *oihw;
	int16_t *to;
	const void *x;
	const int16_t *own;
	const float *bias;
	void *y;
	int16_t *tiles; /* [point][tile][C] of the running block */
	char *scratch;
	int all, from, count, room; /* all tiles; of the running block: first tile, count, capacity */
};

/* ---- the three small matrices, applied to one side: elements si and so apart ---- */

INT8_INLINE void input_side(const __m512i *d, int si, __m512i *o, int so)
{
	__m512i x0 = d[0], x1 = d[si], x2 = d[2 * si], x3 = d[3 * si], x4 = d[4 * si], x5 = d[5 * si];
	__m512i a = _mm512_sub_epi16(x4, _mm512_slli_epi16(x2, 2)), b = _mm512_sub_epi16(x3, _mm512_slli_epi16(x1, 2)),
			c = _mm512_sub_epi16(x4, x2), d1 = _mm512_slli_epi16(_mm512_sub_epi16(x3, x1), 1);
	o[0] = _mm512_add_epi16(_mm512_slli_epi16(_mm512_sub_epi16(x0, x2), 2), c);
	o[so] = _mm512_add_epi16(a, b);
	o[2 * so] = _mm512_sub_epi16(a, b);
	o[3 * so] = _mm512_add_epi16(c, d1);
	o[4 * so] = _mm512_sub_epi16(c, d1);
	o[5 * so] = _mm512_add_epi16(_mm512_slli_epi16(_mm512_sub_epi16(x1, x3), 2), _mm512_sub_epi16(x5, x3));
}

INT8_INLINE void output_side(const __m512i *m, int si, __m512i *y, int so)
{
	__m512i sa = _mm512_add_epi32(m[si], m[2 * si]), da = _mm512_sub_epi32(m[si], m[2 * si]),
			sb = _mm512_add_epi32(m[3 * si], m[4 * si]), db = _mm512_sub_epi32(m[3 * si], m[4 * si]);
	db = _mm512_slli_epi32(db, 1);
	y[0] = _mm512_add_epi32(m[0], _mm512_add_epi32(sa, sb));
	y[so] = _mm512_add_epi32(da, db);
	y[2 * so] = _mm512_add_epi32(sa, _mm512_slli_epi32(sb, 2));
	y[3 * so] = _mm512_add_epi32(da, _mm512_slli_epi32(_mm512_add_epi32(_mm512_slli_epi32(db, 1), m[5 * si]), 1));
}

static void kernel_side(const int *g, int si, int *o)
{
	int even = g[0] + g[2 * si], far = g[0] + 4 * g[2 * si];
	o[0] = 6 * g[0];
	o[1] = -4 * (even + g[si]);
	o[2] = -4 * (even - g[si]);
	o[3] = far + 2 * g[si];
	o[4] = far - 2 * g[si];
	o[5] = 12 * g[2 * si];
}

/* ---- weights: [point][O/GROUP][C/2][GROUP][2] ---- */

static void filters_in(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	const struct prim8_conv *c = j->c;
	(void)thread;
	for (int k = begin; k < end; k++) {
		int o = k / c->c, i = k % c->c, g[9], a[3 * SIDE], u[SIDE];
		size_t place = (size_t)(o / GROUP) * (size_t)c->c * GROUP + (size_t)(i / 2) * 2 * GROUP +
		               (size_t)(o % GROUP) * 2 + (size_t)(i % 2);
		for (int t = 0; t < 9; t++)
			g[t] = j->oihw[(size_t)k * 9 + (size_t)t];
		for (int x = 0; x < 3; x++)
			kernel_side(g + x, 3, a + x * SIDE);
		for (int r = 0; r < SIDE; r++) {
			kernel_side(a + r, SIDE, u);
			for (int x = 0; x < SIDE; x++)
				j->to[(size_t)(r * SIDE + x) * weight_step(c) + place] = (int16_t)u[x];
		}
	}
}

void int8_minimal_weights_in(const struct prim8_conv *c, const int8_t *oihw, void *own)
{
	wasd_parallel(c->out * c->c, filters_in, &(struct job){.c = c, .oihw = oihw, .to = own});
}

/* ---- inputs ---- */

struct tile {
	int n, y, x; /* image; first output row and column */
};

static struct tile tile_at(const struct prim8_conv *c, int t)
{
	int tw = (c->ow + 3) / 4, th = (c->oh + 3) / 4;
	return (struct tile){t / (tw * th), t / tw % th * 4, t % tw * 4};
}

INT8_INLINE __m512i widened(const char *p, bool u8)
{
	__m256i q = _mm256_loadu_si256((const __m256i *)(const void *)p);
	return u8 ? _mm512_cvtepu8_epi16(q) : _mm512_cvtepi8_epi16(q);
}

/* 6x6 pixels from (y,x) on of one vector of channels; zero outside the image. */
INT8_INLINE void load_pixels(const struct prim8_conv *c, const char *from, int y, int x, bool u8, __m512i *d)
{
	size_t row = (size_t)c->w * (size_t)c->c, pixel = (size_t)c->c;
	if (y >= 0 && x >= 0 && y + SIDE <= c->h && x + SIDE <= c->w) {
		from += (size_t)y * row + (size_t)x * pixel;
		for (size_t r = 0; r < SIDE; r++)
			for (size_t k = 0; k < SIDE; k++)
				d[r * SIDE + k] = widened(from + r * row + k * pixel, u8);
		return;
	}
	for (int r = 0; r < SIDE; r++)
		for (int k = 0; k < SIDE; k++) {
			bool in = y + r >= 0 && y + r < c->h && x + k >= 0 && x + k < c->w;
			d[r * SIDE + k] = in ? widened(from + (size_t)(y + r) * row + (size_t)(x + k) * pixel, u8) :
			                       _mm512_setzero_si512();
		}
}

INT8_INLINE void tile_in(const struct job *j, int t, bool u8)
{
	const struct prim8_conv *c = j->c;
	size_t step = tile_step(c, j->room), image = (size_t)c->h * (size_t)c->w * (size_t)c->c;
	struct tile at = tile_at(c, j->from + t);
	int16_t *to = j->tiles + (size_t)t * (size_t)c->c;
	for (int b = 0; b < c->c; b += LANES16) {
		__m512i d[POINTS], a[POINTS], o[SIDE];
		load_pixels(c, (const char *)j->x + (size_t)at.n * image + b, at.y - c->pad_top, at.x - c->pad_left, u8, d);
#pragma GCC unroll 6
		for (int k = 0; k < SIDE; k++)
			input_side(d + k, SIDE, a + k, SIDE);
#pragma GCC unroll 6
		for (int r = 0; r < SIDE; r++) {
			input_side(a + r * SIDE, 1, o, 1);
#pragma GCC unroll 6
			for (int k = 0; k < SIDE; k++)
				_mm512_storeu_si512(to + (size_t)(r * SIDE + k) * step + b, o[k]);
		}
	}
}

INT8_HOT static void tiles_in(const struct job *j)
{
	bool u8 = j->c->x == WASD_QUANT_U8;
	for (int t = 0; t < j->count; t++)
		if (u8)
			tile_in(j, t, true);
		else
			tile_in(j, t, false);
}

/* ---- products ---- */

/* m[ROWS][GROUP] = v[ROWS][C] u[C/2][GROUP][2], rows of v C elements apart */
INT8_HOT static void product(const int16_t *v, const int16_t *u, int channels, int32_t *m)
{
	__m512i acc[ROWS][2];
	for (int r = 0; r < ROWS; r++)
		acc[r][0] = acc[r][1] = _mm512_setzero_si512();
	for (int i = 0; i < channels; i += 2) {
		__m512i u0 = _mm512_loadu_si512(u + (size_t)i * GROUP),
				u1 = _mm512_loadu_si512(u + (size_t)i * GROUP + 2 * HALF);
#pragma GCC unroll 8
		for (int r = 0; r < ROWS; r++) {
			int32_t pair;
			memcpy(&pair, v + (size_t)r * (size_t)channels + (size_t)i, sizeof pair);
			__m512i a = _mm512_set1_epi32(pair);
			acc[r][0] = _mm512_dpwssd_epi32(acc[r][0], a, u0);
			acc[r][1] = _mm512_dpwssd_epi32(acc[r][1], a, u1);
		}
	}
	for (int r = 0; r < ROWS; r++) {
		_mm512_storeu_si512(m + r * GROUP, acc[r][0]);
		_mm512_storeu_si512(m + r * GROUP + HALF, acc[r][1]);
	}
}

static void products(const struct job *j, int group, int32_t *sums)
{
	const struct prim8_conv *c = j->c;
	for (size_t p = 0; p < POINTS; p++)
		for (int t = 0; t < whole_rows(j->count); t += ROWS)
			product(j->tiles + p * tile_step(c, j->room) + (size_t)t * (size_t)c->c,
			        j->own + p * weight_step(c) + (size_t)group * (size_t)c->c * GROUP, c->c,
			        sums + p * sum_step(j->room) + (size_t)t * GROUP);
}

/* ---- outputs ---- */

/* What a group of outputs has in common, known to the compiler. */
struct form {
	enum wasd_quant_type y, residual_type;
	bool residual;
};

INT8_INLINE void store_pixel(const struct job *j, struct form f, __m512i sum, __m512 bias, __m512 scale, size_t at)
{
	const struct prim8_conv *c = j->c;
	__m512i acc = _mm512_srai_epi32(_mm512_mullo_epi32(sum, _mm512_set1_epi32(INVERSE_OF_9)), SHIFT);
	__m512 v = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(acc), bias), scale);
	if (f.residual)
		v = _mm512_fmadd_ps(_mm512_set1_ps(c->residual_scale), int8_load(j->y, at, (__mmask16)-1, f.residual_type), v);
	int8_store(j->y, at, (__mmask16)-1, int8_act(c->act, v, c->six), f.y);
}

INT8_INLINE void tile_out(const struct job *j, struct form f, struct tile at, const int32_t *from, __m512 bias,
                          __m512 scale, size_t channel)
{
	const struct prim8_conv *c = j->c;
	size_t step = sum_step(j->room), O = (size_t)c->out,
		   first = ((size_t)(at.n * c->oh + at.y) * (size_t)c->ow + (size_t)at.x) * O + channel;
	__m512i m[SIDE], a[4 * SIDE], y[4];
#pragma GCC unroll 6
	for (int k = 0; k < SIDE; k++) {
#pragma GCC unroll 6
		for (int r = 0; r < SIDE; r++)
			m[r] = _mm512_loadu_si512(from + (size_t)(r * SIDE + k) * step);
		output_side(m, 1, a + k, SIDE);
	}
	int rows = c->oh - at.y < 4 ? c->oh - at.y : 4, columns = c->ow - at.x < 4 ? c->ow - at.x : 4;
#pragma GCC unroll 4
	for (int r = 0; r < 4; r++) {
		output_side(a + r * SIDE, 1, y, 1);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			if (r < rows && k < columns)
				store_pixel(j, f, y[k], bias, scale, first + (size_t)(r * c->ow + k) * O);
	}
}

INT8_INLINE void tiles_out(const struct job *j, struct form f, int group, const int32_t *sums)
{
	const struct prim8_conv *c = j->c;
	for (int half = 0; half < GROUP; half += HALF) {
		size_t channel = (size_t)(group * GROUP + half);
		__m512 scale = _mm512_loadu_ps(c->scale + channel),
			   bias = c->bias ? _mm512_loadu_ps(j->bias + channel) : _mm512_setzero_ps();
		for (int t = 0; t < j->count; t++)
			tile_out(j, f, tile_at(c, j->from + t), sums + (size_t)(t * GROUP + half), bias, scale, channel);
	}
}

INT8_HOT static void group_out(const struct job *j, int group, const int32_t *sums)
{
	const struct prim8_conv *c = j->c;
	if (c->y != WASD_QUANT_U8 || (c->residual && c->residual_type != WASD_QUANT_U8))
		tiles_out(j, (struct form){c->y, c->residual_type, c->residual}, group, sums);
	else if (c->residual)
		tiles_out(j, (struct form){WASD_QUANT_U8, WASD_QUANT_U8, true}, group, sums);
	else
		tiles_out(j, (struct form){WASD_QUANT_U8, WASD_QUANT_U8, false}, group, sums);
}

/* ---- the pass ---- */

static void blocks(void *ctx, int begin, int end, int thread)
{
	struct job j = *(const struct job *)ctx;
	char *own = j.scratch + (size_t)thread * (sums_bytes(j.room) + tiles_bytes(j.c, j.room));
	int32_t *sums = (int32_t *)(void *)own;
	j.tiles = (int16_t *)(void *)(own + sums_bytes(j.room));
	for (int b = begin; b < end; b++) {
		j.from = b * j.room;
		j.count = j.all - j.from < j.room ? j.all - j.from : j.room;
		tiles_in(&j);
		for (int group = 0; group < j.c->out / GROUP; group++) {
			products(&j, group, sums);
			group_out(&j, group, sums);
		}
	}
}

void int8_minimal_run(const struct prim8_conv *c, const void *x, const void *own, const float *bias, void *y,
                      void *scratch)
{
	struct job j = {.c = c, .x = x, .own = own, .bias = bias, .y = y, .scratch = scratch, .all = tiles_of(c)};
	j.room = block_tiles(c, wasd_threads());
	wasd_parallel((j.all + j.room - 1) / j.room, blocks, &j);
}
