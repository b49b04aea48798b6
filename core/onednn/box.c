/* onednn/box.c - the sum over a window (layers/boxsum.c) in blocks of 16 channels.
 *
 * The sum is separable: first over the rows of each column, once, then over the columns of the window. Neighbouring
 * outputs share columns, so the last columns are kept in a ring. */
#include "onednn/blocked_vec.h"

#define RING 8 /* columns: a power of two that holds a window */
_Static_assert(WASD_K_MAX <= RING, "the ring of columns must hold the widest window");

/* One pass: `to` (+)= sums of `from` over windows. Backward with stride 1 is the same with the tensors swapped and the
 * padding of the windows' opposite side. */
struct box_pass {
	const struct tensor *from, *to;
	int kh, kw, stride, pad_top, pad_left, blocks;
	bool add;
};

BLOCKED_INLINE v16 column(const struct box_pass *p, size_t plane, int row, int rows, int x)
{
	const struct wasd_shape s = p->from->shape;
	bool half = blocked_of(p->from)->bf16;
	v16 sum = v_set(0);
	for (int y = most(row, 0); y < least(row + rows, s.h) && x >= 0 && x < s.w; y++)
		sum += v_load(p->from->data, plane + (size_t)(y * s.w + x), half);
	return sum;
}

BLOCKED_HOT static void sum_planes(void *ctx, int begin, int end, int thread)
{
	const struct box_pass *p = ctx;
	const struct wasd_shape s = p->to->shape;
	bool half = blocked_of(p->to)->bf16;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t from = blocked_at(p->from, i / p->blocks, i % p->blocks),
			   to = blocked_at(p->to, i / p->blocks, i % p->blocks);
		for (int v = 0; v < s.h; v++) {
			v16 ring[RING];
			int next = -p->pad_left;
			for (int u = 0; u < s.w; u++, to++) {
				int x = u * p->stride - p->pad_left;
				for (next = most(next, x); next < x + p->kw; next++)
					ring[next & (RING - 1)] = column(p, from, v * p->stride - p->pad_top, p->kh, next);
				v16 sum = p->add ? v_load(p->to->data, to, half) : v_set(0);
				for (int k = 0; k < p->kw; k++)
					sum += ring[(x + k) & (RING - 1)];
				v_store(p->to->data, to, sum, half);
			}
		}
	}
}

/* first_window and end_window: the range of the n windows, `stride` apart, that contain position x. */
static inline int first_window(int x, int pad, int k, int stride)
{
	int d = x + pad - k + 1;
	return d <= 0 ? 0 : (d + stride - 1) / stride;
}

static inline int end_window(int x, int pad, int stride, int n)
{
	return x + pad < 0 ? 0 : least((x + pad) / stride + 1, n);
}

/* Backward with stride > 1: dx (in `to`) of each pixel is the sum of dy over the windows that contain it. */
BLOCKED_HOT static void gather_planes(void *ctx, int begin, int end, int thread)
{
	const struct box_pass *p = ctx;
	const struct wasd_shape s = p->to->shape, o = p->from->shape;
	bool half = blocked_of(p->to)->bf16, half_from = blocked_of(p->from)->bf16;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t from = blocked_at(p->from, i / p->blocks, i % p->blocks),
			   to = blocked_at(p->to, i / p->blocks, i % p->blocks);
		for (int y = 0; y < s.h; y++)
			for (int x = 0; x < s.w; x++, to++) {
				v16 sum = p->add ? v_load(p->to->data, to, half) : v_set(0);
				int v1 = end_window(y, p->pad_top, p->stride, o.h), u1 = end_window(x, p->pad_left, p->stride, o.w);
				for (int v = first_window(y, p->pad_top, p->kh, p->stride); v < v1; v++)
					for (int u = first_window(x, p->pad_left, p->kw, p->stride); u < u1; u++)
						sum += v_load(p->from->data, from + (size_t)(v * o.w + u), half_from);
				v_store(p->to->data, to, sum, half);
			}
	}
}

void blocked_box_sum(const struct tensor *from, const struct tensor *to, struct wasd_rect box, int n)
{
	struct box_pass p = {.from = from,
	                     .to = to,
	                     .kh = box.h,
	                     .kw = box.w,
	                     .stride = 1,
	                     .pad_top = box.y,
	                     .pad_left = box.x,
	                     .blocks = blocked_count(to)};
	wasd_parallel(n * p.blocks, sum_planes, &p);
}

void blocked_box_back(const struct tensor *from, const struct tensor *to, struct wasd_rect box, int n, bool add)
{
	struct box_pass p = {.from = from,
	                     .to = to,
	                     .kh = box.h,
	                     .kw = box.w,
	                     .stride = 1,
	                     .pad_top = box.h - 1 - box.y,
	                     .pad_left = box.w - 1 - box.x,
	                     .blocks = blocked_count(to),
	                     .add = add};
	wasd_parallel(n * p.blocks, sum_planes, &p);
}

static void box_forward(struct step *s, const struct run *r)
{
	const struct node *nd = s->node;
	struct box_pass p = {.from = s->x[0],
	                     .to = s->y,
	                     .kh = nd->kh,
	                     .kw = nd->kw,
	                     .stride = nd->stride,
	                     .pad_top = nd->pad_top,
	                     .pad_left = nd->pad_left,
	                     .blocks = blocked_count(s->y)};
	wasd_parallel(r->n * p.blocks, sum_planes, &p);
}

static void box_backward(struct step *s, const struct run *r)
{
	const struct node *nd = s->node;
	if (!s->dx[0])
		return;
	struct box_pass p = {.from = s->dy,
	                     .to = s->dx[0],
	                     .kh = nd->kh,
	                     .kw = nd->kw,
	                     .stride = nd->stride,
	                     .pad_top = nd->pad_top,
	                     .pad_left = nd->pad_left,
	                     .blocks = blocked_count(s->y),
	                     .add = s->dx_add[0]};
	if (nd->stride == 1) {
		p.pad_top = nd->kh - 1 - nd->pad_top;
		p.pad_left = nd->kw - 1 - nd->pad_left;
	}
	wasd_parallel(r->n * p.blocks, nd->stride == 1 ? sum_planes : gather_planes, &p);
}

const struct layer_kernel blocked_boxsum = {.forward = box_forward, .backward = box_backward};
