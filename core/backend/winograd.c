/* backend/winograd.c - minimal filtering for stride-1 kernels of 2 or 3 taps per side (Winograd; Lavin and Gray, arXiv
 * 1509.09308).
 *
 * Outputs are computed in 2x2 tiles. Per axis, F(2,r) needs r+1 products where the plain sum needs 2r:
 *
 *     y = A^t [ (G g) * (B^t d) ]                 d: r+1 inputs, g: r taps, y: 2 outputs
 *
 *     r = 3:  B^t = 1  0 -1  0     G = 1   0   0      A^t = 1 1  1  0
 *                   0  1  1  0         .5  .5  .5           0 1 -1 -1
 *                   0 -1  1  0         .5 -.5  .5
 *                   0  1  0 -1         0   0   1
 *     r = 2:  B^t = 1 -1  0        G = 1 0            A^t = 1 1  0
 *                   0  1  0            1 1                  0 1 -1
 *                   0  1 -1            0 1
 *
 * The two axes nest: a 3x3 kernel takes 16 products per tile instead of 36, 2x3 takes 12 instead of 24, 2x2 takes 9
 * instead of 16. So taps dropped from a shadow kernel still save work. Over channels, each of the P = (kh+1)(kw+1)
 * positions is a matrix product:
 *
 *     forward        M_p (O x tiles) = U_p (O x C) V_p (C x tiles),   U = G w G^t,  V = B^t x B,  y = A^t M A
 *     weights        S_p (O x C)    += D_p (O x tiles) V_p^t,         D = A dy A^t,  dw = G^t S G
 *
 * All factors are 1 or 1/2, so the result is as precise as the direct sum. Threads divide blocks of tile rows; for the
 * weights each thread sums its own S, and these are added in fixed order. */
#include "backend/conv_job.h"
#include "backend/gemm.h"

#include <string.h>

#define MAX_SIDE 4 /* positions per axis */
#define BLOCK_TILES 256
#define SKEW 80
#define LINES (MAX_SIDE + 2)

bool winograd_fits(const struct window *g, int n, int channels, int outs)
{
	/* Transforming the weights costs about as much as a few hundred pixels save. */
	return g->stride == 1 && g->oh == g->h && g->ow == g->w && g->h % 2 == 0 && g->w % 2 == 0 &&
	       (g->kh == 2 || g->kh == 3) && (g->kw == 2 || g->kw == 3) && g->pad_top >= 0 && g->pad_top < g->kh &&
	       g->pad_left >= 0 && g->pad_left < g->kw && channels >= 16 && outs >= 16 && (int64_t)n * g->h * g->w >= 512;
}

static int block_rows(int tiles_wide)
{
	return tiles_wide >= BLOCK_TILES ? 1 : BLOCK_TILES / tiles_wide;
}

static size_t pad16(size_t n)
{
	return (n + 15) / 16 * 16;
}

/* Columns of V, M and D of one block. Rows are an odd number of cache lines long, and positions are SKEW apart from a
 * multiple of a page, so that values written together do not fall into the same cache sets. */
static size_t block_columns(int tiles_wide)
{
	return pad16((size_t)block_rows(tiles_wide) * (size_t)tiles_wide) + 16;
}

static size_t position_size(int channels, int tiles_wide)
{
	return (size_t)channels * block_columns(tiles_wide) + SKEW;
}

/* Pitch of one flattened line of a block, with margin on both sides. */
static size_t line_pitch(int tiles_wide)
{
	return 2 * block_columns(tiles_wide) + 16;
}

/* Elements per thread: V and M (or D), then the lines: one of zeros, MAX_SIDE of data, and the margin of the last
 * one. */
static size_t thread_size(int channels, int outs, int tiles_wide)
{
	return MAX_SIDE * MAX_SIDE * (position_size(channels, tiles_wide) + position_size(outs, tiles_wide)) +
	       LINES * line_pitch(tiles_wide);
}

size_t winograd_scratch(int channels, int outs, int tiles_wide, int threads, bool weights)
{
	size_t u = pad16(MAX_SIDE * MAX_SIDE * (size_t)channels * (size_t)outs);
	return (weights ? u * (size_t)threads : u) + thread_size(channels, outs, tiles_wide) * (size_t)threads;
}

/* ---- one axis of each transform, on values ------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline))

/* B^t d */
INLINE void input3(real d0, real d1, real d2, real d3, real v[4])
{
	v[0] = d0 - d2;
	v[1] = d1 + d2;
	v[2] = d2 - d1;
	v[3] = d1 - d3;
}
INLINE void input2(real d0, real d1, real d2, real v[4])
{
	v[0] = d0 - d1;
	v[1] = d1;
	v[2] = d1 - d2;
}
/* A^t m */
INLINE void output(int r, const real m[4], real y[2])
{
	y[0] = r == 3 ? m[0] + m[1] + m[2] : m[0] + m[1];
	y[1] = r == 3 ? m[1] - m[2] - m[3] : m[1] - m[2];
}
/* A y */
INLINE void spread(int r, real y0, real y1, real d[4])
{
	d[0] = y0;
	d[1] = y0 + y1;
	d[2] = r == 3 ? y0 - y1 : -y1;
	d[3] = -y1;
}
/* G g */
INLINE void weight(int r, const real g[3], real u[4])
{
	if (r == 3) {
		real even = (g[0] + g[2]) * (real)0.5, odd = g[1] * (real)0.5;
		u[0] = g[0];
		u[1] = even + odd;
		u[2] = even - odd;
		u[3] = g[2];
	} else {
		u[0] = g[0];
		u[1] = g[0] + g[1];
		u[2] = g[1];
	}
}
/* G^t s */
INLINE void gather(int r, const real s[4], real g[3])
{
	if (r == 3) {
		g[0] = s[0] + (s[1] + s[2]) * (real)0.5;
		g[1] = (s[1] - s[2]) * (real)0.5;
		g[2] = (s[1] + s[2]) * (real)0.5 + s[3];
	} else {
		g[0] = s[0] + s[1];
		g[1] = s[1] + s[2];
	}
}

/* ---- two axes over one channel of a block ------------------------------------------------------------
 *
 * A block is a number of tile rows, counted over all images; its tile j covers pixels 2j, 2j+1 of the flattened upper
 * (and lower) rows, as W is even. So the horizontal parts run over the whole block in one loop whatever the width, and
 * redo the border tiles afterwards. The vertical parts take rows of W; common widths get specialised copies. */

/* Calls f(..., w) with w as a constant where that helps. */
#define BY_WIDTH(w, call) \
	do { \
		switch (w) { \
		case 4: { \
			enum { W = 4 }; \
			call; \
			break; \
		} \
		case 8: { \
			enum { W = 8 }; \
			call; \
			break; \
		} \
		case 16: { \
			enum { W = 16 }; \
			call; \
			break; \
		} \
		case 32: { \
			enum { W = 32 }; \
			call; \
			break; \
		} \
		default: { \
			const int W = (w); \
			call; \
		} \
		} \
	} while (0)
/* Makes the taps per side constants, so that loops over positions unroll. */
#define BY_TAPS(r, call) \
	do { \
		if ((r) == 3) { \
			enum { R = 3 }; \
			call; \
		} else { \
			enum { R = 2 }; \
			call; \
		} \
	} while (0)
#define BY_SIZE(kh, kw, call) \
	do { \
		if ((kh) == 3 && (kw) == 3) { \
			enum { RV = 3, RH = 3 }; \
			call; \
		} else if ((kh) == 3) { \
			enum { RV = 3, RH = 2 }; \
			call; \
		} else if ((kw) == 3) { \
			enum { RV = 2, RH = 3 }; \
			call; \
		} else { \
			enum { RV = 2, RH = 2 }; \
			call; \
		} \
	} while (0)

/* Transforms tile rows q0..q0+rows-1 of one channel into kh+1 flattened lines l + a*pitch. zeros: a row of zeros, for
 * positions outside. */
INLINE void columns_body(const struct window *g, int r, int width, const real *x, int q0, int rows, const real *zeros,
                         real *restrict l, size_t pitch)
{
	int th = g->h / 2, ty = q0 % th;
	const real *plane = x + (size_t)(q0 / th) * (size_t)(g->h * width);
	real *restrict l0 = l, *restrict l1 = l + pitch, *restrict l2 = l + 2 * pitch, *restrict l3 = l + 3 * pitch;
	for (int q = 0; q < rows; q++, l0 += width, l1 += width, l2 += width, l3 += width) {
		const real *d[4];
		for (int k = 0; k <= r; k++) {
			int y = 2 * ty - g->pad_top + k;
			d[k] = y >= 0 && y < g->h ? plane + (ptrdiff_t)y * width : zeros;
		}
		for (int i = 0; i < width; i++) {
			if (r == 3) {
				l0[i] = d[0][i] - d[2][i];
				l1[i] = d[1][i] + d[2][i];
				l2[i] = d[2][i] - d[1][i];
				l3[i] = d[1][i] - d[3][i];
			} else {
				l0[i] = d[0][i] - d[1][i];
				l1[i] = d[1][i];
				l2[i] = d[1][i] - d[2][i];
			}
		}
		if (++ty == th) {
			ty = 0;
			plane += (size_t)(g->h * width);
		}
	}
}

/* Transforms one flattened line into kw+1 rows of V. l has readable elements on both sides. */
INLINE void rows_body(int r, int pad, int tw, int tiles, const real *l, real *restrict v, size_t stride)
{
	real *restrict v0 = v, *restrict v1 = v + stride, *restrict v2 = v + 2 * stride, *restrict v3 = v + 3 * stride;
	const real *d = l - pad;
	for (int t = 0; t < tiles; t++) {
		if (r == 3) {
			v0[t] = d[2 * t] - d[2 * t + 2];
			v1[t] = d[2 * t + 1] + d[2 * t + 2];
			v2[t] = d[2 * t + 2] - d[2 * t + 1];
			v3[t] = d[2 * t + 1] - d[2 * t + 3];
		} else {
			v0[t] = d[2 * t] - d[2 * t + 1];
			v1[t] = d[2 * t + 1];
			v2[t] = d[2 * t + 1] - d[2 * t + 2];
		}
	}
	/* The first and the last tile of every row read across the border. With the usual paddings, one value in each is
	 * wrong. */
	bool usual = pad == 1 || (r == 2 && pad == 0);
	for (int t = 0; usual && pad == 1 && t < tiles; t += tw)
		v0[t] = -d[2 * t + r - 1];
	for (int t = tw - 1; usual && (r == 3 || pad == 0) && t < tiles; t += tw)
		(r == 3 ? v3 : v2)[t] = d[2 * t + 1];
	for (int side = 0; !usual && side < 2; side++)
		for (int t = side ? tw - 1 : 0; t < tiles; t += tw) {
			real c[4], p[4];
			for (int k = 0; k <= r; k++) {
				int x = (side ? 2 * tw - 2 : 0) - pad + k;
				c[k] = x >= 0 && x < 2 * tw ? d[2 * t + k] : 0;
			}
			if (r == 3)
				input3(c[0], c[1], c[2], c[3], p);
			else
				input2(c[0], c[1], c[2], p);
			v0[t] = p[0];
			v1[t] = p[1];
			v2[t] = p[2];
			if (r == 3)
				v3[t] = p[3];
		}
}

/* One channel of a block: position p at v + p*stride, tiles next to each other. lines: MAX_SIDE lines behind a row of
 * zeros. */
WASD_HOT static void input_channel(const struct window *g, const real *x, int q0, int rows, real *v, size_t stride,
                                   real *lines, size_t pitch)
{
	real *l = lines + pitch + 16;
	BY_TAPS(g->kh, BY_WIDTH(g->w, columns_body(g, R, W, x, q0, rows, lines, l, pitch)));
	for (int a = 0; a <= g->kh; a++, l += pitch, v += (size_t)(g->kw + 1) * stride)
		BY_TAPS(g->kw, rows_body(R, g->pad_left, g->w / 2, rows * (g->w / 2), l, v, stride));
}

/* Computes the flattened upper and lower rows of outputs from M; up, low: 2 values per tile. */
INLINE void output_body(int rv, int rh, const real *m, size_t stride, int tiles, real *restrict up, real *restrict low)
{
	int nh = rh + 1;
	for (int t = 0; t < tiles; t++) {
		real s[2][4], a[2], b[2];
		for (int h = 0; h <= rh; h++) {
			real c[4], o[2];
			for (int k = 0; k <= rv; k++)
				c[k] = m[(size_t)(k * nh + h) * stride + (size_t)t];
			output(rv, c, o);
			s[0][h] = o[0];
			s[1][h] = o[1];
		}
		output(rh, s[0], a);
		output(rh, s[1], b);
		up[2 * t] = a[0];
		up[2 * t + 1] = a[1];
		low[2 * t] = b[0];
		low[2 * t + 1] = b[1];
	}
}

INLINE void weave(int width, int rows, const real *restrict up, const real *restrict low, real *restrict y, bool add)
{
	for (int q = 0; q < rows; q++, up += width, low += width, y += 2 * width)
		for (int i = 0; i < width; i++) {
			y[i] = add ? y[i] + up[i] : up[i];
			y[width + i] = add ? y[width + i] + low[i] : low[i];
		}
}

WASD_HOT static void output_channel(const struct window *g, const real *m, size_t stride, int rows, real *y, bool add,
                                    real *lines, size_t pitch)
{
	BY_SIZE(g->kh, g->kw, output_body(RV, RH, m, stride, rows * (g->w / 2), lines, lines + pitch));
	if (add)
		BY_WIDTH(g->w, weave(W, rows, lines, lines + pitch, y, true));
	else
		BY_WIDTH(g->w, weave(W, rows, lines, lines + pitch, y, false));
}

INLINE void unweave(int width, int rows, const real *restrict y, real *restrict up, real *restrict low)
{
	for (int q = 0; q < rows; q++, up += width, low += width, y += 2 * width)
		for (int i = 0; i < width; i++) {
			up[i] = y[i];
			low[i] = y[width + i];
		}
}

INLINE void spread_body(int rv, int rh, const real *up, const real *low, size_t stride, int tiles, real *restrict d)
{
	int nh = rh + 1;
	LAYER_IVDEP
	for (int t = 0; t < tiles; t++) {
		real e[4], o[4], p[4];
		spread(rv, up[2 * t], low[2 * t], e);
		spread(rv, up[2 * t + 1], low[2 * t + 1], o);
		for (int a = 0; a <= rv; a++) {
			spread(rh, e[a], o[a], p);
			for (int h = 0; h <= rh; h++)
				d[(size_t)(a * nh + h) * stride + (size_t)t] = p[h];
		}
	}
}

WASD_HOT static void spread_channel(const struct window *g, const real *dy, int rows, real *d, size_t stride,
                                    real *lines, size_t pitch)
{
	BY_WIDTH(g->w, unweave(W, rows, dy, lines, lines + pitch));
	BY_SIZE(g->kh, g->kw, spread_body(RV, RH, lines, lines + pitch, stride, rows * (g->w / 2), d));
}

/* ---- weights of one output channel ------------------------------------------------------------------------ */

#define WEIGHT_RUN 64 /* input channels at a time */

/* u[p*stride + c] from w[c*taps + tap]. Sorts by tap first, so that the rest runs over channels. */
INLINE void weight_body(int rv, int rh, const real *w, int channels, real *u, size_t stride)
{
	int nh = rh + 1, taps = rv * rh;
	for (int c0 = 0; c0 < channels; c0 += WEIGHT_RUN, w += WEIGHT_RUN * taps, u += WEIGHT_RUN) {
		real by_tap[9][WEIGHT_RUN];
		int run = channels - c0 < WEIGHT_RUN ? channels - c0 : WEIGHT_RUN;
		for (int c = 0; c < run; c++)
			for (int t = 0; t < taps; t++)
				by_tap[t][c] = w[c * taps + t];
		LAYER_IVDEP
		for (int c = 0; c < run; c++) {
			real rows[4][3], p[4], col[3];
			for (int x = 0; x < rh; x++) {
				for (int y = 0; y < rv; y++)
					col[y] = by_tap[y * rh + x][c];
				weight(rv, col, p);
				for (int a = 0; a <= rv; a++)
					rows[a][x] = p[a];
			}
			for (int a = 0; a <= rv; a++) {
				weight(rh, rows[a], p);
				for (int h = 0; h <= rh; h++)
					u[(size_t)(a * nh + h) * stride + (size_t)c] = p[h];
			}
		}
	}
}

WASD_HOT static void weight_output(const struct window *g, const real *w, int channels, real *u, size_t stride)
{
	BY_SIZE(g->kh, g->kw, weight_body(RV, RH, w, channels, u, stride));
}

INLINE void gather_body(int rv, int rh, const real *s, size_t stride, int channels, real *dw)
{
	int nh = rh + 1, taps = rv * rh;
	for (int c0 = 0; c0 < channels; c0 += WEIGHT_RUN, dw += WEIGHT_RUN * taps, s += WEIGHT_RUN) {
		real by_tap[9][WEIGHT_RUN];
		int run = channels - c0 < WEIGHT_RUN ? channels - c0 : WEIGHT_RUN;
		LAYER_IVDEP
		for (int c = 0; c < run; c++) {
			real rows[3][4], p[4], g[3];
			for (int h = 0; h <= rh; h++) {
				for (int a = 0; a <= rv; a++)
					p[a] = s[(size_t)(a * nh + h) * stride + (size_t)c];
				gather(rv, p, g);
				for (int y = 0; y < rv; y++)
					rows[y][h] = g[y];
			}
			for (int y = 0; y < rv; y++) {
				gather(rh, rows[y], g);
				for (int x = 0; x < rh; x++)
					by_tap[y * rh + x][c] = g[x];
			}
		}
		for (int c = 0; c < run; c++)
			for (int t = 0; t < taps; t++)
				dw[c * taps + t] += by_tap[t][c];
	}
}

WASD_HOT static void gather_output(const struct window *g, const real *s, size_t stride, int channels, real *dw)
{
	BY_SIZE(g->kh, g->kw, gather_body(RV, RH, s, stride, channels, dw));
}

/* ---- blocks ---------------------------------------------------------------------------------------------- */

struct wino_job {
	const struct conv_job *j;
	int positions, rows, step, blocks; /* rows: tile rows of all images; step: of one block */
	size_t columns, pitch;
	real *u;       /* U, or one S per part */
	real *scratch; /* of thread 0 */
	size_t scratch_each;
	const real *dy;
	size_t dysc;
	real *dw;
	int parts; /* partial sums of the weight gradient: one per thread with work */
};

static struct wino_job job_of(const struct conv_job *j, int threads, bool weights)
{
	int tw = j->win.w / 2;
	size_t u = pad16(MAX_SIDE * MAX_SIDE * (size_t)j->channels * (size_t)j->outs);
	struct wino_job w = {.j = j,
	                     .positions = (j->win.kh + 1) * (j->win.kw + 1),
	                     .rows = j->n * j->win.h / 2,
	                     .columns = block_columns(tw),
	                     .pitch = line_pitch(tw),
	                     .u = j->scratch,
	                     .scratch_each = thread_size(j->channels, j->outs, tw)};
	/* Blocks of equal size, the same number for each thread. */
	int each = (w.rows + threads - 1) / threads, pieces = (each + block_rows(tw) - 1) / block_rows(tw);
	w.step = (each + pieces - 1) / pieces;
	w.blocks = (w.rows + w.step - 1) / w.step;
	w.parts = w.blocks < threads ? w.blocks : threads;
	w.scratch = w.u + (weights ? u * (size_t)threads : u);
	return w;
}

static void weight_outputs(void *ctx, int begin, int end, int thread)
{
	struct wino_job *w = ctx;
	const struct conv_job *j = w->j;
	(void)thread;
	size_t c = (size_t)j->channels;
	for (int o = begin; o < end; o++)
		weight_output(&j->win, j->w + (size_t)o * c * (size_t)(j->win.kh * j->win.kw), j->channels,
		              w->u + (size_t)o * c, c * (size_t)j->outs);
}

/* Computes V of a block; returns the first element behind it. */
static real *block_input(const struct wino_job *w, int q0, int rows, real *v, real *lines)
{
	const struct conv_job *j = w->j;
	memset(lines, 0, (size_t)j->win.w * sizeof(real));
	size_t stride = position_size(j->channels, j->win.w / 2);
	for (int c = 0; c < j->channels; c++)
		input_channel(&j->win, j->x + (size_t)c * j->xsc, q0, rows, v + (size_t)c * w->columns, stride, lines,
		              w->pitch);
	return v + (size_t)w->positions * stride;
}

static void conv_blocks(void *ctx, int begin, int end, int thread)
{
	struct wino_job *w = ctx;
	const struct conv_job *j = w->j;
	int tw = j->win.w / 2, step = w->step;
	size_t vs = position_size(j->channels, tw), ms = position_size(j->outs, tw),
		   us = (size_t)j->channels * (size_t)j->outs;
	real *v = w->scratch + (size_t)thread * w->scratch_each, *lines = v + w->scratch_each - LINES * w->pitch;
	for (int b = begin; b < end; b++) {
		int q0 = b * step, rows = w->rows - q0 < step ? w->rows - q0 : step;
		real *m = block_input(w, q0, rows, v, lines);
		for (int p = 0; p < w->positions; p++)
			gemm(false, false, j->outs, rows * tw, j->channels, w->u + (size_t)p * us, (size_t)j->channels,
			     v + (size_t)p * vs, w->columns, 0, m + (size_t)p * ms, w->columns);
		size_t first = (size_t)q0 * 4 * (size_t)tw;
		for (int o = 0; o < j->outs; o++)
			output_channel(&j->win, m + (size_t)o * w->columns, ms, rows, j->y + (size_t)o * j->ysc + first, j->add,
			               lines, w->pitch);
		conv_finish(j, 0, j->outs, first, rows * 4 * tw);
	}
}

void winograd_run(const struct conv_job *j, int threads)
{
	struct wino_job w = job_of(j, threads, false);
	wasd_parallel(j->outs, weight_outputs, &w);
	wasd_parallel(w.blocks, conv_blocks, &w);
}

static void weight_part(const struct wino_job *w, int part, real *v, real *lines)
{
	const struct conv_job *j = w->j;
	int tw = j->win.w / 2, step = w->step, begin = (int)((int64_t)w->blocks * part / w->parts),
		end = (int)((int64_t)w->blocks * (part + 1) / w->parts);
	size_t vs = position_size(j->channels, tw), ds = position_size(j->outs, tw),
		   us = (size_t)j->channels * (size_t)j->outs;
	real *s = w->u + (size_t)part * pad16(MAX_SIDE * MAX_SIDE * us);
	for (int b = begin; b < end; b++) {
		int q0 = b * step, rows = w->rows - q0 < step ? w->rows - q0 : step;
		real *d = block_input(w, q0, rows, v, lines);
		for (int o = 0; o < j->outs; o++)
			spread_channel(&j->win, w->dy + (size_t)o * w->dysc + (size_t)q0 * 4 * (size_t)tw, rows,
			               d + (size_t)o * w->columns, ds, lines, w->pitch);
		for (int p = 0; p < w->positions; p++)
			gemm(false, true, j->outs, j->channels, rows * tw, d + (size_t)p * ds, w->columns, v + (size_t)p * vs,
			     w->columns, b > begin, s + (size_t)p * us, (size_t)j->channels);
	}
}

static void weight_parts(void *ctx, int begin, int end, int thread)
{
	struct wino_job *w = ctx;
	real *v = w->scratch + (size_t)thread * w->scratch_each;
	for (int k = begin; k < end; k++)
		weight_part(w, k, v, v + w->scratch_each - LINES * w->pitch);
}

static void gather_outputs(void *ctx, int begin, int end, int thread)
{
	struct wino_job *w = ctx;
	const struct conv_job *j = w->j;
	(void)thread;
	size_t c = (size_t)j->channels, us = c * (size_t)j->outs, each = pad16(MAX_SIDE * MAX_SIDE * us);
	for (int o = begin; o < end; o++) {
		for (int t = 1; t < w->parts; t++)
			for (int p = 0; p < w->positions; p++) {
				real *to = w->u + (size_t)p * us + (size_t)o * c;
				const real *from = to + (size_t)t * each;
				for (size_t i = 0; i < c; i++)
					to[i] += from[i];
			}
		gather_output(&j->win, w->u + (size_t)o * c, us, j->channels,
		              w->dw + (size_t)o * c * (size_t)(j->win.kh * j->win.kw));
	}
}

void winograd_weights(const struct conv_job *j, const real *dy, size_t dysc, real *dw, int threads)
{
	struct wino_job w = job_of(j, threads, true);
	w.dy = dy;
	w.dysc = dysc;
	w.dw = dw;
	wasd_parallel(w.parts, weight_parts, &w);
	wasd_parallel(j->outs, gather_outputs, &w);
}
