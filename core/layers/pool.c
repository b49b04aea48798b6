/* layers/pool.c - max, average and global average pooling.
 *
 * Max: padding never wins (it counts as minus infinity). Of equal values the first in row order wins; NaN wins over
 * all. In training, forward stores the winning tap of each output in one byte. Average: no padding, every window is
 * full. Global: mean over the map. */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <math.h>
#include <string.h>

static enum wasd_status pool_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	int k = n->kh, p = n->pad_top;
	if (k < 1 || k > 15 || n->stride < 1 || p < 0 || 2 * p > k)
		return wasd_fail(err, WASD_EINVAL,
		                 "invalid pooling: window %d (must be 1..15), stride %d, padding %d (at most half the window)",
		                 k, n->stride, p);
	if (in->h + 2 * p < k || in->w + 2 * p < k)
		return wasd_fail(err, WASD_EINVAL, "window %d with padding %d does not fit a map of %dx%d", k, p, in->h, in->w);
	n->shape = (struct wasd_shape){in->c, (in->h + 2 * p - k) / n->stride + 1, (in->w + 2 * p - k) / n->stride + 1};
	return WASD_OK;
}

static const char *pool_settle(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	(void)in;
	(void)err;
	n->kw = n->kh;
	n->pad_left = n->pad_top;
	if (!n->stride)
		n->stride = n->kh;
	return NULL;
}

static enum wasd_status globalpool_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	(void)err;
	n->shape = (struct wasd_shape){in->c, 1, 1};
	return WASD_OK;
}

struct pool_job {
	struct step *s;
	const struct run *r;
};

static inline int clip(int v, int lo, int hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* ---- max ------------------------------------------------------------------------------------------- */

WASD_HOT static void max_plane(const struct node *nd, const real *x, real *y, uint8_t *won)
{
	int H = nd->in.h, W = nd->in.w, OH = nd->shape.h, OW = nd->shape.w, k = nd->kh, st = nd->stride, p = nd->pad_top;
	for (int oy = 0; oy < OH; oy++)
		for (int ox = 0; ox < OW; ox++) {
			int y0 = oy * st - p, x0 = ox * st - p, best_tap = -1;
			real best = (real)-INFINITY;
			for (int ky = clip(-y0, 0, k); ky < clip(H - y0, 0, k); ky++)
				for (int kx = clip(-x0, 0, k); kx < clip(W - x0, 0, k); kx++) {
					real v = x[(y0 + ky) * W + x0 + kx];
					if (v > best || best_tap < 0 || v != v) {
						best = v;
						best_tap = ky * k + kx;
					}
				}
			y[oy * OW + ox] = best;
			if (won)
				won[oy * OW + ox] = (uint8_t)best_tap;
		}
}

/* Branch-free version of the common case: 2x2, stride 2, no padding. */
WASD_HOT static void max_plane_2x2(const struct node *nd, const real *x, real *y, uint8_t *won)
{
	int W = nd->in.w, OH = nd->shape.h, OW = nd->shape.w;
	for (int oy = 0; oy < OH; oy++, y += OW) {
		const real *a = x + 2 * oy * W, *b = a + W;
		for (int ox = 0; ox < OW; ox++) {
			real v0 = a[2 * ox], v1 = a[2 * ox + 1], v2 = b[2 * ox], v3 = b[2 * ox + 1], m = v0;
			uint8_t t = 0;
			t = v1 > m || v1 != v1 ? 1 : t, m = v1 > m || v1 != v1 ? v1 : m;
			t = v2 > m || v2 != v2 ? 2 : t, m = v2 > m || v2 != v2 ? v2 : m;
			t = v3 > m || v3 != v3 ? 3 : t, m = v3 > m || v3 != v3 ? v3 : m;
			y[ox] = m;
			if (won)
				won[oy * OW + ox] = t;
		}
	}
}

static void max_fwd_planes(void *ctx, int begin, int end, int thread)
{
	struct pool_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	size_t out = (size_t)nd->shape.h * (size_t)nd->shape.w;
	bool two = nd->kh == 2 && nd->stride == 2 && nd->pad_top == 0;
	for (int i = begin; i < end; i++) {
		int c = i / j->r->n, n = i % j->r->n;
		uint8_t *won = j->r->training ? (uint8_t *)s->saved + (size_t)i * out : NULL;
		(two ? max_plane_2x2 : max_plane)(nd, tensor_plane(s->x[0], n, c), tensor_plane(s->y, n, c), won);
	}
}

static void max_bwd_planes(void *ctx, int begin, int end, int thread)
{
	struct pool_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	int H = nd->in.h, W = nd->in.w, OH = nd->shape.h, OW = nd->shape.w, k = nd->kh;
	size_t out = (size_t)OH * (size_t)OW;
	for (int i = begin; i < end; i++) {
		int c = i / j->r->n, n = i % j->r->n;
		const uint8_t *won = (const uint8_t *)s->saved + (size_t)i * out;
		const real *dy = tensor_plane(s->dy, n, c);
		real *dx = tensor_plane(s->dx[0], n, c);
		if (!s->dx_add[0])
			memset(dx, 0, (size_t)H * (size_t)W * sizeof(real));
		for (int oy = 0; oy < OH; oy++)
			for (int ox = 0; ox < OW; ox++) {
				int t = won[oy * OW + ox];
				dx[(oy * nd->stride - nd->pad_top + t / k) * W + ox * nd->stride - nd->pad_top + t % k] +=
					dy[oy * OW + ox];
			}
	}
}

static void max_plan(struct step *s, int batch, bool training, int threads)
{
	(void)threads;
	s->saved_bytes = training ? (size_t)batch * wasd_shape_count(s->y->shape) : 0;
}

static void max_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c * r->n, max_fwd_planes, &(struct pool_job){s, r});
}

static void max_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(s->y->shape.c * r->n, max_bwd_planes, &(struct pool_job){s, r});
}

/* ---- average ----------------------------------------------------------------------------------------- */

static void avg_fwd_planes(void *ctx, int begin, int end, int thread)
{
	struct pool_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	int W = nd->in.w, k = nd->kh;
	for (int i = begin; i < end; i++) {
		const real *x = tensor_plane(s->x[0], i % j->r->n, i / j->r->n);
		real *y = tensor_plane(s->y, i % j->r->n, i / j->r->n);
		for (int oy = 0; oy < nd->shape.h; oy++)
			for (int ox = 0; ox < nd->shape.w; ox++) {
				real sum = 0;
				for (int ky = 0; ky < k; ky++)
					for (int kx = 0; kx < k; kx++)
						sum += x[(oy * nd->stride + ky) * W + ox * nd->stride + kx];
				*y++ = sum / (real)(k * k);
			}
	}
}

static void avg_bwd_planes(void *ctx, int begin, int end, int thread)
{
	struct pool_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	int W = nd->in.w, k = nd->kh;
	for (int i = begin; i < end; i++) {
		const real *dy = tensor_plane(s->dy, i % j->r->n, i / j->r->n);
		real *dx = tensor_plane(s->dx[0], i % j->r->n, i / j->r->n);
		if (!s->dx_add[0])
			memset(dx, 0, (size_t)nd->in.h * (size_t)W * sizeof(real));
		for (int oy = 0; oy < nd->shape.h; oy++)
			for (int ox = 0; ox < nd->shape.w; ox++) {
				real g = *dy++ / (real)(k * k);
				for (int ky = 0; ky < k; ky++)
					for (int kx = 0; kx < k; kx++)
						dx[(oy * nd->stride + ky) * W + ox * nd->stride + kx] += g;
			}
	}
}

static void avg_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c * r->n, avg_fwd_planes, &(struct pool_job){s, r});
}

static void avg_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(s->y->shape.c * r->n, avg_bwd_planes, &(struct pool_job){s, r});
}

/* ---- global average ------------------------------------------------------------------------------------ */

static void global_fwd_planes(void *ctx, int begin, int end, int thread)
{
	struct pool_job *j = ctx;
	(void)thread;
	int hw = j->s->node->in.h * j->s->node->in.w;
	for (int i = begin; i < end; i++) {
		const real *x = tensor_plane(j->s->x[0], i % j->r->n, i / j->r->n);
		double sum = 0;
		for (int p = 0; p < hw; p++)
			sum += (double)x[p];
		*tensor_plane(j->s->y, i % j->r->n, i / j->r->n) = (real)(sum / hw);
	}
}

static void global_bwd_planes(void *ctx, int begin, int end, int thread)
{
	struct pool_job *j = ctx;
	(void)thread;
	int hw = j->s->node->in.h * j->s->node->in.w;
	for (int i = begin; i < end; i++) {
		real g = *tensor_plane(j->s->dy, i % j->r->n, i / j->r->n) / (real)hw,
			 *dx = tensor_plane(j->s->dx[0], i % j->r->n, i / j->r->n);
		for (int p = 0; p < hw; p++)
			dx[p] = j->s->dx_add[0] ? dx[p] + g : g;
	}
}

static void global_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c * r->n, global_fwd_planes, &(struct pool_job){s, r});
}

static void global_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(s->y->shape.c * r->n, global_bwd_planes, &(struct pool_job){s, r});
}

static void pool_onnx(struct onnx *o, const struct node *n)
{
	const char *x = onnx_maps(o, 0);
	int64_t k = n->kh, st = n->stride, p = n->pad_top;
	onnx_begin(o, n->layer == &layer_maxpool ? "MaxPool" : "AveragePool");
	onnx_in(o, x);
	onnx_attr_ints(o, "kernel_shape", (int64_t[]){k, k}, 2);
	onnx_attr_ints(o, "strides", (int64_t[]){st, st}, 2);
	onnx_attr_ints(o, "pads", (int64_t[]){p, p, p, p}, 4);
	onnx_end(o, "", false);
}

static void globalpool_onnx(struct onnx *o, const struct node *n)
{
	(void)n;
	const char *x = onnx_maps(o, 0);
	onnx_begin(o, "GlobalAveragePool");
	onnx_in(o, x);
	onnx_end(o, "", false);
}

static const struct layer_kernel max_kernel = {.plan = max_plan, .forward = max_forward, .backward = max_backward};
static const struct layer_kernel avg_kernel = {.forward = avg_forward, .backward = avg_backward};
static const struct layer_kernel global_kernel = {.forward = global_forward, .backward = global_backward};

const struct layer layer_maxpool = {
	.op = "maxpool",
	.summary = "largest value of each window",
	.fields =
		{
			{{"kernel", WASD_INT, NULL, 1, 15, .required = true, .summary = "window side"}, offsetof(struct node, kh)},
			{{"stride", WASD_INT, NULL, 1, 64, .summary = "default: the window"}, offsetof(struct node, stride)},
			{{"padding", WASD_INT, "0", 0, 7, .summary = "on all sides; never wins"}, offsetof(struct node, pad_top)},
		},
	.settle = pool_settle,
	.blame = "kernel",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = pool_shape,
	.onnx = pool_onnx,
	.kernel = &max_kernel,
};
const struct layer layer_avgpool = {
	.op = "avgpool",
	.summary = "mean of each window",
	.fields =
		{
			{{"kernel", WASD_INT, NULL, 1, 15, .required = true, .summary = "window side"}, offsetof(struct node, kh)},
			{{"stride", WASD_INT, NULL, 1, 64, .summary = "default: the window"}, offsetof(struct node, stride)},
		},
	.settle = pool_settle,
	.blame = "kernel",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = pool_shape,
	.onnx = pool_onnx,
	.kernel = &avg_kernel,
};
const struct layer layer_globalpool = {
	.op = "globalpool",
	.summary = "mean of each whole map",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = globalpool_shape,
	.onnx = globalpool_onnx,
	.kernel = &global_kernel,
};
