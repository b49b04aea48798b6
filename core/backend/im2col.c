/* backend/im2col.c - gather and scatter for convolutions as matrix products. */
#include "backend/im2col.h"

#include <string.h>

static inline int clip(int v, int lo, int hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* Output columns lo..hi-1 have a source inside a row of width w; the source of column u is u*stride + off. */
static void inside(int off, int stride, int w, int ow, int *lo, int *hi)
{
	*lo = off >= 0 ? 0 : clip((-off + stride - 1) / stride, 0, ow);
	*hi = off >= w ? 0 : clip((w - 1 - off) / stride + 1, 0, ow);
	if (*hi < *lo)
		*hi = *lo;
}

/* Stride 1 and equal input and output size: a tap sees the channel shifted by dy rows and dx columns, for all images at
 * once. Copies it whole, then clears the rows and columns that came from a neighbouring row or image. */
static void shifted(const struct window *g, const real *x, int n, int row0, int rows, int dy, int dx, real *d)
{
	ptrdiff_t w = g->w, len = (ptrdiff_t)rows * w, first = (ptrdiff_t)row0 * w + (ptrdiff_t)dy * w + dx,
			  all = (ptrdiff_t)n * g->h * w;
	ptrdiff_t lo = first < 0 ? -first : 0, hi = first + len > all ? all - first : len;
	if (lo > len)
		lo = len;
	if (hi < lo)
		hi = lo;
	/* Positions before the first image or after the last are outside for every tap; clear them here. */
	if (lo > 0)
		memset(d, 0, (size_t)lo * sizeof(real));
	if (hi > lo)
		memcpy(d + lo, x + first + lo, (size_t)(hi - lo) * sizeof(real));
	if (hi < len)
		memset(d + hi, 0, (size_t)(len - hi) * sizeof(real));
	if (dy) {
		int from = dy < 0 ? 0 : clip(g->h - dy, 0, g->h), to = dy < 0 ? clip(-dy, 0, g->h) : g->h;
		for (int r = row0 - row0 % g->h; r < row0 + rows; r += g->h) {
			int b = clip(r + from, row0, row0 + rows), e = clip(r + to, row0, row0 + rows);
			if (e > b)
				memset(d + (ptrdiff_t)(b - row0) * w, 0, (size_t)(e - b) * (size_t)w * sizeof(real));
		}
	}
	int blank = dx < 0 ? clip(-dx, 0, g->w) : clip(dx, 0, g->w), at = dx < 0 ? 0 : g->w - blank;
	if (blank == 1)
		for (real *p = d + at, *end = d + len; p < end; p += w)
			*p = 0;
	else if (blank)
		for (real *p = d + at, *end = d + len; p < end; p += w)
			memset(p, 0, (size_t)blank * sizeof(real));
}

WASD_HOT static void gather2(const real *src, real *d, int count)
{
	for (int u = 0; u < count; u++)
		d[u] = src[2 * u];
}

static void strided(const struct window *g, const real *x, int row0, int rows, int ky, int kx, real *d)
{
	int off = kx - g->pad_left, lo, hi;
	inside(off, g->stride, g->w, g->ow, &lo, &hi);
	int n = row0 / g->oh, v = row0 % g->oh;
	for (int r = 0; r < rows; r++, d += g->ow) {
		int y = v * g->stride - g->pad_top + ky;
		if (y < 0 || y >= g->h || hi == lo) {
			memset(d, 0, (size_t)g->ow * sizeof(real));
		} else {
			const real *src = x + ((size_t)n * (size_t)g->h + (size_t)y) * (size_t)g->w;
			for (int u = 0; u < lo; u++)
				d[u] = 0;
			if (g->stride == 1)
				memcpy(d + lo, src + lo + off, (size_t)(hi - lo) * sizeof(real));
			else if (g->stride == 2)
				gather2(src + 2 * lo + off, d + lo, hi - lo);
			else
				for (int u = lo; u < hi; u++)
					d[u] = src[u * g->stride + off];
			for (int u = hi; u < g->ow; u++)
				d[u] = 0;
		}
		if (++v == g->oh) {
			v = 0;
			n++;
		}
	}
}

void im2col(const struct window *g, const real *x, size_t sc, int n, int channels, int row0, int rows, real *col)
{
	bool same = g->stride == 1 && g->oh == g->h && g->ow == g->w;
	size_t cols = (size_t)rows * (size_t)g->ow;
	for (int c = 0; c < channels; c++, x += sc)
		for (int ky = 0; ky < g->kh; ky++)
			for (int kx = 0; kx < g->kw; kx++, col += cols) {
				if (same)
					shifted(g, x, n, row0, rows, ky - g->pad_top, kx - g->pad_left, col);
				else
					strided(g, x, row0, rows, ky, kx, col);
			}
}

WASD_HOT static void scatter(const real *d, real *dst, int stride, int count)
{
	if (stride == 1)
		for (int u = 0; u < count; u++)
			dst[u] += d[u];
	else if (stride == 2)
		for (int u = 0; u < count; u++)
			dst[2 * u] += d[u];
	else
		for (int u = 0; u < count; u++)
			dst[u * stride] += d[u];
}

void col2im(const struct window *g, real *x, size_t sc, int channels, int row0, int rows, const real *col)
{
	for (int c = 0; c < channels; c++, x += sc)
		for (int ky = 0; ky < g->kh; ky++)
			for (int kx = 0; kx < g->kw; kx++) {
				int off = kx - g->pad_left, lo, hi;
				inside(off, g->stride, g->w, g->ow, &lo, &hi);
				for (int r = 0; r < rows; r++, col += g->ow) {
					int n = (row0 + r) / g->oh, y = (row0 + r) % g->oh * g->stride - g->pad_top + ky;
					if (y >= 0 && y < g->h)
						scatter(col + lo,
						        x + ((size_t)n * (size_t)g->h + (size_t)y) * (size_t)g->w + lo * g->stride + off,
						        g->stride, hi - lo);
				}
			}
}
