/* onednn/minimal.c - see minimal.h. Tiles are processed in blocks that stay in cache: transform, products, inverse
 * transform. If the weights are small, each thread works on its own blocks. If they are large (many channels) or tiles
 * are few, the team shares each block, so that each core reads only its part of the matrices. */
#include "onednn/minimal.h"
#include "onednn/blocked_vec.h"
#include "onednn/taps.h"

#include <string.h>

#define POINTS 6               /* most products per side */
#define PAIR (2 * LANES)       /* output channels per product kernel */
#define ROWS 8                 /* tiles, or input channels, per product kernel */
#define OWN_TILES 64           /* block of one thread */
#define TEAM_TILES 128         /* block of the team */
#define OWN_WEIGHTS (4u << 20) /* bytes of weights up to which threads work on their own blocks */

/* Interpolation points: 0, +-A, +-B and infinity for three taps (chosen for small rounding errors); 0, +-E, F and
 * infinity for two. */
#define A 0.625f
#define B 1.5f
#define E 1.0f
#define F 0.5f

bool minimal_fits(const struct minimal *s)
{
	return s->c % PAIR == 0 && s->out % PAIR == 0 && s->kh >= 2 && s->kh <= 3 && s->kw >= 2 && s->kw <= 3;
}

static int points(const struct minimal *s)
{
	return (s->kh + 3) * (s->kw + 3);
}
static int tiles_of(const struct minimal *s)
{
	return s->n * ((s->oh + 3) / 4) * ((s->ow + 3) / 4);
}

/* Distance between the matrices of two points, in floats: one cache line more than their size, or all of them would
 * fall into the same cache set. */
static size_t weight_step(const struct minimal *s)
{
	return (size_t)s->c * (size_t)s->out + LANES;
}
static size_t tile_step(int channels, int tiles)
{
	return (size_t)channels * (size_t)tiles + LANES;
}

size_t minimal_weight_bytes(const struct minimal *s)
{
	return (size_t)points(s) * weight_step(s) * sizeof(float);
}

static bool heavy(const struct minimal *s)
{
	return minimal_weight_bytes(s) > OWN_WEIGHTS;
}
/* Whether the team shares each block: large weights, or too few tiles for one block per thread. */
static bool shared(const struct minimal *s, int threads)
{
	return heavy(s) || tiles_of(s) < threads * OWN_TILES;
}

static int block_tiles(const struct minimal *s, int threads)
{
	int whole = (tiles_of(s) + ROWS - 1) / ROWS * ROWS;
	return !shared(s, threads) ? OWN_TILES : whole < TEAM_TILES || !heavy(s) ? whole : TEAM_TILES;
}

/* Floats for V and M, or V and W, of one block. */
static size_t block_floats(const struct minimal *s, int tiles)
{
	return (size_t)points(s) * (tile_step(s->c, tiles) + tile_step(s->out, tiles));
}

size_t minimal_scratch_bytes(const struct minimal *s, int threads)
{
	/* The weight gradient needs the most scratch: a block, plus the products of each worker. The data gradient uses the
	 * same with the sides swapped. */
	size_t products = minimal_weight_bytes(s) / sizeof(float);
	int workers = shared(s, threads) ? 1 : threads,
		other = tiles_of(&(struct minimal){.n = s->n, .oh = s->h, .ow = s->w}), room = block_tiles(s, threads);
	/* The data gradient may have more tiles, up to those of a shared block. */
	if (workers == 1 && other > room)
		room = heavy(s) ? TEAM_TILES : threads * OWN_TILES;
	return (size_t)workers * (block_floats(s, room) + products) * sizeof(float);
}

/* ---- the four small matrices, applied to one side: elements si and so apart ---- */

BLOCKED_INLINE void input_side(int k, const v16 *d, int si, v16 *o, int so)
{
	if (k == 3) {
		v16 x0 = d[0], x1 = d[si], x2 = d[2 * si], x3 = d[3 * si], x4 = d[4 * si], x5 = d[5 * si];
		v16 ea = x4 - B * B * x2, oa = A * (x3 - B * B * x1), eb = x4 - A * A * x2, ob = B * (x3 - A * A * x1);
		o[0] = A * A * B * B * x0 - (A * A + B * B) * x2 + x4;
		o[so] = ea + oa;
		o[2 * so] = ea - oa;
		o[3 * so] = eb + ob;
		o[4 * so] = eb - ob;
		o[5 * so] = A * A * B * B * x1 - (A * A + B * B) * x3 + x5;
	} else {
		v16 x0 = d[0], x1 = d[si], x2 = d[2 * si], x3 = d[3 * si], x4 = d[4 * si];
		o[0] = E * E * F * x0 - E * E * x1 - F * x2 + x3;
		o[so] = x3 + (E - F) * x2 - E * F * x1;
		o[2 * so] = x3 - (E + F) * x2 + E * F * x1;
		o[3 * so] = x3 - E * E * x1;
		o[4 * so] = x4 - F * x3 - E * E * x2 + E * E * F * x1;
	}
}

BLOCKED_INLINE void output_side(int k, const v16 *m, int si, v16 *y, int so)
{
	if (k == 3) {
		v16 sa = m[si] + m[2 * si], da = m[si] - m[2 * si], sb = m[3 * si] + m[4 * si], db = m[3 * si] - m[4 * si];
		y[0] = m[0] + sa + sb;
		y[so] = A * da + B * db;
		y[2 * so] = A * A * sa + B * B * sb;
		y[3 * so] = A * A * A * da + B * B * B * db + m[5 * si];
	} else {
		v16 s = m[si] + m[2 * si], d = m[si] - m[2 * si], b = m[3 * si];
		y[0] = m[0] + s + b;
		y[so] = E * d + F * b;
		y[2 * so] = E * E * s + F * F * b;
		y[3 * so] = E * E * E * d + F * F * F * b + m[4 * si];
	}
}

/* A: the transpose of output_side. */
BLOCKED_INLINE void gradient_side(int k, const v16 *y, int si, v16 *o, int so)
{
	v16 y0 = y[0], y1 = y[si], y2 = y[2 * si], y3 = y[3 * si];
	o[0] = y0;
	if (k == 3) {
		v16 ea = y0 + A * A * y2, oa = A * y1 + A * A * A * y3, eb = y0 + B * B * y2, ob = B * y1 + B * B * B * y3;
		o[so] = ea + oa;
		o[2 * so] = ea - oa;
		o[3 * so] = eb + ob;
		o[4 * so] = eb - ob;
		o[5 * so] = y3;
	} else {
		v16 e = y0 + E * E * y2, d = E * y1 + E * E * E * y3;
		o[so] = e + d;
		o[2 * so] = e - d;
		o[3 * so] = y0 + F * y1 + F * F * y2 + F * F * F * y3;
		o[4 * so] = y3;
	}
}

#define G0 (1 / (A * A * B * B))
#define GA (1 / (2 * A * A * (A * A - B * B)))
#define GB (1 / (2 * B * B * (B * B - A * A)))
#define H0 (1 / (E * E * F))
#define HP (1 / (2 * E * E * (E - F)))
#define HM (-1 / (2 * E * E * (E + F)))
#define HF (1 / (F * (F * F - E * E)))

BLOCKED_INLINE void kernel_side(int k, const v16 *g, int si, v16 *o, int so)
{
	if (k == 3) {
		v16 ea = g[0] + A * A * g[2 * si], oa = A * g[si], eb = g[0] + B * B * g[2 * si], ob = B * g[si];
		o[0] = G0 * g[0];
		o[so] = GA * (ea + oa);
		o[2 * so] = GA * (ea - oa);
		o[3 * so] = GB * (eb + ob);
		o[4 * so] = GB * (eb - ob);
		o[5 * so] = g[2 * si];
	} else {
		o[0] = H0 * g[0];
		o[so] = HP * (g[0] + E * g[si]);
		o[2 * so] = HM * (g[0] - E * g[si]);
		o[3 * so] = HF * (g[0] + F * g[si]);
		o[4 * so] = g[si];
	}
}

/* G': the transpose of kernel_side. */
BLOCKED_INLINE void tap_side(int k, const v16 *u, int si, v16 *g, int so)
{
	if (k == 3) {
		v16 sa = GA * (u[si] + u[2 * si]), da = GA * (u[si] - u[2 * si]), sb = GB * (u[3 * si] + u[4 * si]),
			db = GB * (u[3 * si] - u[4 * si]);
		g[0] = G0 * u[0] + sa + sb;
		g[so] = A * da + B * db;
		g[2 * so] = A * A * sa + B * B * sb + u[5 * si];
	} else {
		v16 p = HP * u[si], m = HM * u[2 * si], f = HF * u[3 * si];
		g[0] = H0 * u[0] + p + m + f;
		g[so] = E * (p - m) + F * f + u[4 * si];
	}
}

/* ---- tiles ---- */

struct tile {
	int n, y, x;
}; /* image; first output row and column */

static struct tile tile_at(const struct minimal *s, int t)
{
	int tw = (s->ow + 3) / 4, th = (s->oh + 3) / 4;
	return (struct tile){t / (tw * th), t / tw % th * 4, t % tw * 4};
}

/* Loads rows x cols vectors of a plane, starting at (y,x), zero outside. d has POINTS columns. */
BLOCKED_INLINE void load_tile(const float *plane, int h, int w, int y, int x, int rows, int cols, v16 *d)
{
	if (y >= 0 && x >= 0 && y + rows <= h && x + cols <= w) {
		for (int r = 0; r < rows; r++)
			for (int c = 0; c < cols; c++)
				d[r * POINTS + c] = v_load(plane, (size_t)((y + r) * w + x + c), false);
		return;
	}
	for (int r = 0; r < rows; r++)
		for (int c = 0; c < cols; c++) {
			bool in = y + r >= 0 && y + r < h && x + c >= 0 && x + c < w;
			d[r * POINTS + c] = in ? v_load(plane, (size_t)((y + r) * w + x + c), false) : v_set(0);
		}
}

struct job {
	const struct minimal *s;
	const float *x, *own, *bias, *residual, *dy;
	float *y, *du, *dw, *oihw_own;
	const float *oihw;
	float *scratch;
	int tiles, from, count, room; /* all tiles; of the running block: first tile, count, capacity */
	bool back, add;
	int parts; /* partial sums of products, one per thread */
	size_t part_step;
};

static float *v_of(const struct job *j)
{
	return j->scratch;
} /* [point][tile][C] */
static float *m_of(const struct job *j)
{
	return j->scratch + (size_t)points(j->s) * tile_step(j->s->c, j->room);
} /* [point][tile][O] */

/* Transforms tile t of the block into V; zero beyond the last tile. */
BLOCKED_INLINE void tile_in(const struct job *j, int t, int kh, int kw)
{
	const struct minimal *s = j->s;
	int ph = kh + 3, pw = kw + 3;
	size_t step = tile_step(s->c, j->room);
	float *to = v_of(j) + (size_t)t * (size_t)s->c;
	struct tile at = tile_at(s, j->from + t);
	bool there = j->from + t < j->tiles;
	size_t hw = (size_t)(s->h * s->w) * LANES;
	for (int b = 0; b < s->c / LANES; b++) {
		v16 d[POINTS * POINTS], a[POINTS * POINTS], o[POINTS];
		if (!there) {
			for (int p = 0; p < ph * pw; p++)
				v_store(to + (size_t)p * step + b * LANES, 0, v_set(0), false);
			continue;
		}
		load_tile(j->x + ((size_t)at.n * (size_t)(s->c / LANES) + (size_t)b) * hw, s->h, s->w, at.y - s->pad_top,
		          at.x - s->pad_left, ph, pw, d);
		for (int c = 0; c < pw; c++)
			input_side(kh, d + c, POINTS, a + c, POINTS);
		for (int r = 0; r < ph; r++) {
			input_side(kw, a + r * POINTS, 1, o, 1);
			for (int c = 0; c < pw; c++)
				v_store(to + (size_t)(r * pw + c) * step + b * LANES, 0, o[c], false);
		}
	}
}

/* Transforms tile t of M back into the outputs. */
BLOCKED_INLINE void tile_out(const struct job *j, int t, int kh, int kw)
{
	const struct minimal *s = j->s;
	int ph = kh + 3, pw = kw + 3;
	size_t step = tile_step(s->out, j->room), hw = (size_t)(s->oh * s->ow) * LANES;
	const float *from = m_of(j) + (size_t)t * (size_t)s->out;
	struct tile at = tile_at(s, j->from + t);
	int rows = s->oh - at.y < 4 ? s->oh - at.y : 4, cols = s->ow - at.x < 4 ? s->ow - at.x : 4;
	for (int b = 0; b < s->out / LANES; b++) {
		v16 m[POINTS], a[4 * POINTS], y[4];
		size_t plane = ((size_t)at.n * (size_t)(s->out / LANES) + (size_t)b) * hw;
		v16 bias = j->bias ? v_load(j->bias, (size_t)b, false) : v_set(0);
		for (int c = 0; c < pw; c++) {
			for (int r = 0; r < ph; r++)
				m[r] = v_load(from + (size_t)(r * pw + c) * step + b * LANES, 0, false);
			output_side(kh, m, 1, a + c, POINTS);
		}
		for (int r = 0; r < rows; r++) {
			output_side(kw, a + r * POINTS, 1, y, 1);
			for (int c = 0; c < cols; c++) {
				size_t i = (size_t)((at.y + r) * s->ow + at.x + c);
				v16 v = y[c] + bias;
				if (j->residual)
					v += v_load(j->residual + plane, i, false);
				v_store(j->y + plane, i, v_act(s->act, v), false);
			}
		}
	}
}

/* Transforms tile t of the block's dy into M. */
BLOCKED_INLINE void tile_gradient(const struct job *j, int t, int kh, int kw)
{
	const struct minimal *s = j->s;
	int ph = kh + 3, pw = kw + 3;
	size_t step = tile_step(s->out, j->room), hw = (size_t)(s->oh * s->ow) * LANES;
	float *to = m_of(j) + (size_t)t * (size_t)s->out;
	struct tile at = tile_at(s, j->from + t);
	bool there = j->from + t < j->tiles;
	for (int b = 0; b < s->out / LANES; b++) {
		v16 d[4 * POINTS], a[POINTS * POINTS], o[POINTS];
		if (!there) {
			for (int p = 0; p < ph * pw; p++)
				v_store(to + (size_t)p * step + b * LANES, 0, v_set(0), false);
			continue;
		}
		load_tile(j->dy + ((size_t)at.n * (size_t)(s->out / LANES) + (size_t)b) * hw, s->oh, s->ow, at.y, at.x, 4, 4,
		          d);
		for (int c = 0; c < 4; c++)
			gradient_side(kh, d + c, POINTS, a + c, POINTS);
		for (int r = 0; r < ph; r++) {
			gradient_side(kw, a + r * POINTS, 1, o, 1);
			for (int c = 0; c < pw; c++)
				v_store(to + (size_t)(r * pw + c) * step + b * LANES, 0, o[c], false);
		}
	}
}

/* Instantiates the code for each kernel size, so that the small loops are unrolled. */
#define BY_KERNEL(name) \
	BLOCKED_HOT static void name##_rows(const struct job *j, int begin, int end) \
	{ \
		const struct minimal *s = j->s; \
		for (int t = begin; t < end; t++) { \
			if (s->kh == 3 && s->kw == 3) \
				name(j, t, 3, 3); \
			else if (s->kh == 3) \
				name(j, t, 3, 2); \
			else if (s->kw == 3) \
				name(j, t, 2, 3); \
			else \
				name(j, t, 2, 2); \
		} \
	}
BY_KERNEL(tile_in)
BY_KERNEL(tile_out)
BY_KERNEL(tile_gradient)

/* ---- products ---- */

/* m[ROWS][PAIR] = v[ROWS][c] u[c][PAIR] */
BLOCKED_HOT static void product(const float *v, size_t row, const float *u, int c, float *m, size_t to)
{
	v16 acc[ROWS][2];
	for (int r = 0; r < ROWS; r++)
		acc[r][0] = acc[r][1] = v_set(0);
	for (int i = 0; i < c; i++) {
		v16 u0 = v_load(u, (size_t)(2 * i), false), u1 = v_load(u, (size_t)(2 * i + 1), false);
#pragma GCC unroll 8
		for (int r = 0; r < ROWS; r++) {
			v16 a = v_set(v[(size_t)r * row + (size_t)i]);
			acc[r][0] += a * u0;
			acc[r][1] += a * u1;
		}
	}
	for (int r = 0; r < ROWS; r++) {
		v_store(m + (size_t)r * to, 0, acc[r][0], false);
		v_store(m + (size_t)r * to, 1, acc[r][1], false);
	}
}

/* M for points begin to end: own is [point][O/PAIR][C][PAIR]. */
static void products(const struct job *j, int begin, int end)
{
	const struct minimal *s = j->s;
	size_t C = (size_t)s->c, O = (size_t)s->out, rows = (size_t)(j->count + ROWS - 1) / ROWS * ROWS;
	for (int p = begin; p < end; p++)
		for (size_t o = 0; o < O; o += PAIR)
			for (size_t t = 0; t < rows; t += ROWS)
				product(v_of(j) + (size_t)p * tile_step(s->c, j->room) + t * C, C,
				        j->own + (size_t)p * weight_step(s) + o * C, s->c,
				        m_of(j) + (size_t)p * tile_step(s->out, j->room) + t * O + o, O);
}

/* du[ROWS][PAIR] (+)= sum over tiles of v[t][ROWS] m[t][PAIR] */
BLOCKED_HOT static void outer(const float *v, size_t vrow, const float *m, size_t mrow, int tiles, float *du, size_t to,
                              bool add)
{
	v16 acc[ROWS][2];
	for (int r = 0; r < ROWS; r++)
		acc[r][0] = acc[r][1] = v_set(0);
	for (int t = 0; t < tiles; t++, v += vrow, m += mrow) {
		v16 m0 = v_load(m, 0, false), m1 = v_load(m, 1, false);
#pragma GCC unroll 8
		for (int r = 0; r < ROWS; r++) {
			v16 a = v_set(v[r]);
			acc[r][0] += a * m0;
			acc[r][1] += a * m1;
		}
	}
	for (int r = 0; r < ROWS; r++)
		for (size_t i = 0; i < 2; i++)
			v_store(du + (size_t)r * to, i, add ? acc[r][i] + v_load(du + (size_t)r * to, i, false) : acc[r][i], false);
}

/* ---- forward ---- */

static void own_block(struct job *j, int block)
{
	j->from = block * OWN_TILES;
	j->count = j->tiles - j->from < OWN_TILES ? j->tiles - j->from : OWN_TILES;
	tile_in_rows(j, 0, (j->count + ROWS - 1) / ROWS * ROWS);
	products(j, 0, points(j->s));
	tile_out_rows(j, 0, j->count);
}

static void own_blocks(void *ctx, int begin, int end, int thread)
{
	struct job j = *(const struct job *)ctx;
	j.scratch += (size_t)thread * block_floats(j.s, OWN_TILES);
	for (int b = begin; b < end; b++)
		own_block(&j, b);
}

static void team_in(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	tile_in_rows(ctx, begin, end);
}
static void team_products(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	products(ctx, begin, end);
}
static void team_out(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	tile_out_rows(ctx, begin, end);
}

static void forward(struct job *j)
{
	j->tiles = tiles_of(j->s);
	j->room = block_tiles(j->s, wasd_threads());
	if (!shared(j->s, wasd_threads())) {
		wasd_parallel((j->tiles + OWN_TILES - 1) / OWN_TILES, own_blocks, j);
		return;
	}
	for (j->from = 0; j->from < j->tiles; j->from += j->room) {
		j->count = j->tiles - j->from < j->room ? j->tiles - j->from : j->room;
		wasd_parallel((j->count + ROWS - 1) / ROWS * ROWS, team_in, j);
		wasd_parallel(points(j->s), team_products, j);
		wasd_parallel(j->count, team_out, j);
	}
}

void minimal_forward(const struct minimal *s, const float *x, const float *own, const float *bias,
                     const float *residual, float *y, void *scratch)
{
	struct job j = {.s = s, .x = x, .own = own, .bias = bias, .residual = residual, .y = y, .scratch = scratch};
	forward(&j);
}

static struct minimal turned_round(const struct minimal *s)
{
	return (struct minimal){.n = s->n,
	                        .c = s->out,
	                        .h = s->oh,
	                        .w = s->ow,
	                        .out = s->c,
	                        .oh = s->h,
	                        .ow = s->w,
	                        .kh = s->kh,
	                        .kw = s->kw,
	                        .pad_top = s->kh - 1 - s->pad_top,
	                        .pad_left = s->kw - 1 - s->pad_left};
}

void minimal_data(const struct minimal *s, const float *dy, const float *own, float *dx, bool add, void *scratch)
{
	struct minimal back = turned_round(s);
	struct job j = {.s = &back, .x = dy, .own = own, .residual = add ? dx : NULL, .y = dx, .scratch = scratch};
	forward(&j);
}

/* ---- weights ---- */

/* Items: (pair of output blocks, input channel). Lanes are the output channels of the pass: o forward, i for the data
 * gradient. */
BLOCKED_INLINE void kernel_in(const struct job *j, int item, int kh, int kw)
{
	const struct minimal *s = j->s; /* as seen by the pass: c is summed over, out is written */
	int ph = kh + 3, pw = kw + 3, taps = kh * kw, c = item % s->c, o0 = item / s->c * PAIR;
	size_t matrix = weight_step(s), near = (size_t)taps, far = (size_t)(j->back ? s->out : s->c) * near;
	size_t along = j->back ? near : far, base = (size_t)c * (j->back ? far : near) + (size_t)o0 * along;
	for (int half = 0; half < 2; half++) {
		float turned[9][LANES] __attribute__((aligned(64)));
		v16 g[9], a[POINTS * 3], o[POINTS];
		const float *from = j->oihw + base + (size_t)(half * LANES) * along;
		for (int l = 0; l < LANES; l++)
			for (int t = 0; t < taps; t++)
				turned[t][l] = from[(size_t)l * along + (size_t)t];
		for (int t = 0; t < taps; t++)
			g[t] = v_load(turned[j->back ? taps - 1 - t : t], 0, false);
		for (int x = 0; x < kw; x++)
			kernel_side(kh, g + x, kw, a + x, 3);
		for (int r = 0; r < ph; r++) {
			kernel_side(kw, a + r * 3, 1, o, 1);
			for (int x = 0; x < pw; x++)
				v_store(j->oihw_own + (size_t)(r * pw + x) * matrix + (size_t)o0 * (size_t)s->c + (size_t)c * PAIR,
				        (size_t)half, o[x], false);
		}
	}
}

/* Items: (pair, channel), as above. du is [part][point][C][O], to be summed over parts. */
BLOCKED_INLINE void kernel_out(const struct job *j, int item, int kh, int kw)
{
	const struct minimal *s = j->s;
	int ph = kh + 3, pw = kw + 3, taps = kh * kw, c = item % s->c, o0 = item / s->c * PAIR;
	for (int half = 0; half < 2; half++) {
		float turned[9][LANES] __attribute__((aligned(64)));
		v16 u[POINTS], a[3 * POINTS], g[3];
		for (int x = 0; x < pw; x++) {
			for (int r = 0; r < ph; r++) {
				const float *from = j->du + (size_t)(r * pw + x) * weight_step(s) + (size_t)c * (size_t)s->out +
				                    (size_t)o0;
				u[r] = v_load(from, (size_t)half, false);
				for (int part = 1; part < j->parts; part++)
					u[r] += v_load(from + (size_t)part * j->part_step, (size_t)half, false);
			}
			tap_side(kh, u, 1, a + x, POINTS);
		}
		for (int y = 0; y < kh; y++) {
			tap_side(kw, a + y * POINTS, 1, g, 1);
			for (int x = 0; x < kw; x++)
				v_store(turned[y * kw + x], 0, g[x], false);
		}
		float *to = j->dw + ((size_t)(o0 + half * LANES) * (size_t)s->c + (size_t)c) * (size_t)taps;
		for (int l = 0; l < LANES; l++)
			for (int t = 0; t < taps; t++)
				to[(size_t)l * (size_t)s->c * (size_t)taps + (size_t)t] += turned[t][l];
	}
}

BY_KERNEL(kernel_in)
BY_KERNEL(kernel_out)

static void team_kernel_in(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	kernel_in_rows(ctx, begin, end);
}
static void team_kernel_out(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	kernel_out_rows(ctx, begin, end);
}

void minimal_weights_in(const struct minimal *s, bool back, const float *oihw, float *own)
{
	struct minimal turned = turned_round(s);
	struct job j = {.s = back ? &turned : s, .oihw = oihw, .oihw_own = own, .back = back};
	wasd_parallel(j.s->out / PAIR * j.s->c, team_kernel_in, &j);
}

static void team_tiles(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	tile_in_rows(ctx, begin, end);
	tile_gradient_rows(ctx, begin, end);
}

/* Items: (point, ROWS input channels). */
static void outers(const struct job *j, int begin, int end)
{
	const struct minimal *s = j->s;
	size_t C = (size_t)s->c, O = (size_t)s->out, groups = C / ROWS;
	for (int i = begin; i < end; i++) {
		size_t p = (size_t)i / groups, c = (size_t)i % groups * ROWS;
		for (size_t o = 0; o < O; o += PAIR)
			outer(v_of(j) + p * tile_step(s->c, j->room) + c, C, m_of(j) + p * tile_step(s->out, j->room) + o, O,
			      j->count, j->du + p * weight_step(s) + c * O + o, O, j->add);
	}
}

static void team_outer(void *ctx, int begin, int end, int thread)
{
	(void)thread;
	outers(ctx, begin, end);
}

/* Processes a thread's share of the blocks; the sum of thread t is part t. A part without a block is zero. */
static void own_outer(void *ctx, int begin, int end, int thread)
{
	struct job j = *(const struct job *)ctx;
	j.du += (size_t)thread * j.part_step;
	j.scratch += (size_t)thread * block_floats(j.s, OWN_TILES);
	for (int b = begin; b < end; b++) {
		j.from = b * OWN_TILES;
		j.count = j.tiles - j.from < OWN_TILES ? j.tiles - j.from : OWN_TILES;
		tile_in_rows(&j, 0, j.count);
		tile_gradient_rows(&j, 0, j.count);
		outers(&j, 0, points(j.s) * (j.s->c / ROWS));
		j.add = true;
	}
}

void minimal_weights(const struct minimal *s, const float *x, const float *dy, float *dw, float *dbias, void *scratch)
{
	struct job j = {.s = s, .x = x, .dy = dy, .dw = dw, .scratch = scratch, .tiles = tiles_of(s), .parts = 1};
	j.part_step = minimal_weight_bytes(s) / sizeof(float);
	j.room = block_tiles(s, wasd_threads());
	if (shared(s, wasd_threads())) {
		j.du = j.scratch + block_floats(s, j.room);
		for (; j.from < j.tiles; j.from += j.room) {
			j.count = j.tiles - j.from < j.room ? j.tiles - j.from : j.room;
			wasd_parallel(j.count, team_tiles, &j);
			wasd_parallel(points(s) * (s->c / ROWS), team_outer, &j);
			j.add = true;
		}
	} else {
		j.parts = wasd_threads();
		j.du = j.scratch + (size_t)wasd_threads() * block_floats(s, OWN_TILES);
		if (j.parts == 1)
			own_outer(&j, 0, (j.tiles + OWN_TILES - 1) / OWN_TILES, 0);
		else
			wasd_parallel((j.tiles + OWN_TILES - 1) / OWN_TILES, own_outer, &j);
	}
	wasd_parallel(s->out / PAIR * s->c, team_kernel_out, &j);
	if (dbias)
		taps_bias(s->n, s->out, s->oh * s->ow, false, dy, dbias);
}
