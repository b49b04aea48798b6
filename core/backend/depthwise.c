/* backend/depthwise.c - convolution with one input channel per group and O/groups outputs each: y[o] = b[o] + sum over
 * taps of w[o,tap] * x[o/m]. There are so few operations per value that a matrix product would mostly move data.
 * Instead, each tap adds a scaled row to a row. Plane layouts. */
#include "backend/backend.h"

#include <string.h>

struct dw_job {
	struct step *s;
	const struct run *r;
	int m;
};

/* Sets lo..hi-1 to the output columns u whose source u*stride + off is inside a row. */
static void inside(const struct node *nd, int off, int *lo, int *hi)
{
	int st = nd->stride, w = nd->in.w, ow = nd->shape.w;
	*lo = off >= 0 ? 0 : (-off + st - 1) / st;
	*hi = off >= w ? 0 : (w - 1 - off) / st + 1;
	if (*hi > ow)
		*hi = ow;
	if (*lo > *hi)
		*lo = *hi;
}

WASD_HOT static void axpy(real a, const real *x, int stride, real *y, int n)
{
	if (stride == 1)
		for (int i = 0; i < n; i++)
			y[i] += a * x[i];
	else if (stride == 2)
		for (int i = 0; i < n; i++)
			y[i] += a * x[2 * i];
	else
		for (int i = 0; i < n; i++)
			y[i] += a * x[i * stride];
}

WASD_HOT static void axpy_scatter(real a, const real *dy, real *dx, int stride, int n)
{
	if (stride == 1)
		for (int i = 0; i < n; i++)
			dx[i] += a * dy[i];
	else
		for (int i = 0; i < n; i++)
			dx[i * stride] += a * dy[i];
}

WASD_HOT static real dot(const real *x, int stride, const real *dy, int n)
{
	real acc[8] = {0}, s = 0;
	int i = 0;
	for (; i + 8 <= n; i += 8)
		for (int j = 0; j < 8; j++)
			acc[j] += x[(i + j) * stride] * dy[i + j];
	for (int j = 0; j < 8; j++)
		s += acc[j];
	for (; i < n; i++)
		s += x[i * stride] * dy[i];
	return s;
}

static void fwd_channels(void *ctx, int begin, int end, int thread)
{
	struct dw_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	int oh = nd->shape.h, ow = nd->shape.w;
	for (int o = begin; o < end; o++)
		for (int n = 0; n < j->r->n; n++) {
			const real *x = tensor_plane(s->x[0], n, o / j->m), *w = s->weight + (size_t)o * (size_t)(s->kh * s->kw);
			real *y = tensor_plane(s->y, n, o);
			for (int i = 0; i < oh * ow; i++)
				y[i] = s->bias ? s->bias[o] : 0;
			for (int v = 0; v < oh; v++)
				for (int ky = 0; ky < s->kh; ky++) {
					int iy = v * nd->stride - s->pad_top + ky;
					for (int kx = 0; iy >= 0 && iy < nd->in.h && kx < s->kw; kx++) {
						int off = kx - s->pad_left, lo, hi;
						inside(nd, off, &lo, &hi);
						axpy(w[ky * s->kw + kx], x + iy * nd->in.w + lo * nd->stride + off, nd->stride, y + v * ow + lo,
						     hi - lo);
					}
				}
			const real *res = s->has_res ? tensor_plane(s->x[1], n, o) : NULL;
			for (int i = 0; (res || s->act != ACT_NONE) && i < oh * ow; i++)
				y[i] = act_apply(s->act, res ? y[i] + res[i] : y[i]);
		}
}

/* Items are input channels: one thread handles all m outputs of a channel. */
static void bwd_channels(void *ctx, int begin, int end, int thread)
{
	struct dw_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	int oh = nd->shape.h, ow = nd->shape.w, kk = s->kh * s->kw;
	for (int c = begin; c < end; c++)
		for (int n = 0; n < j->r->n; n++) {
			const real *x = tensor_plane(s->x[0], n, c);
			real *dx = s->dx[0] ? tensor_plane(s->dx[0], n, c) : NULL;
			if (dx && !s->dx_add[0])
				memset(dx, 0, (size_t)nd->in.h * (size_t)nd->in.w * sizeof(real));
			for (int o = c * j->m; o < (c + 1) * j->m; o++) {
				const real *w = s->weight + (size_t)o * (size_t)kk, *dy = tensor_plane(s->dy, n, o);
				real *dw = s->dweight + (size_t)o * (size_t)kk;
				if (s->dbias)
					for (int i = 0; i < oh * ow; i++)
						s->dbias[o] += dy[i];
				for (int t = 0; t < kk; t++) {
					int off = t % s->kw - s->pad_left, lo, hi;
					real sum = 0;
					inside(nd, off, &lo, &hi);
					for (int v = 0; v < oh; v++) {
						int iy = v * nd->stride - s->pad_top + t / s->kw;
						if (iy < 0 || iy >= nd->in.h)
							continue;
						ptrdiff_t at = (ptrdiff_t)iy * nd->in.w + lo * nd->stride + off;
						sum += dot(x + at, nd->stride, dy + v * ow + lo, hi - lo);
						if (dx)
							axpy_scatter(w[t], dy + v * ow + lo, dx + at, nd->stride, hi - lo);
					}
					dw[t] += sum;
				}
			}
		}
}

static void depthwise_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, fwd_channels, &(struct dw_job){s, r, s->y->shape.c / s->node->in.c});
}

static void depthwise_backward(struct step *s, const struct run *r)
{
	wasd_parallel(s->node->in.c, bwd_channels, &(struct dw_job){s, r, s->y->shape.c / s->node->in.c});
}

const struct layer_kernel depthwise_kernel = {.forward = depthwise_forward, .backward = depthwise_backward};
