/* backend/openblas.c - convolution and linear layers as matrix products of OpenBLAS; portable to every CPU that
 * OpenBLAS supports.
 *
 * Layout: channel-major. Channel c is one row of n*H*W values, image after image, so that
 *
 *     forward        Y (O x NHW)   = W (O x CKK) * col(X)
 *     backward data  dX (C x NHW)  = W' (C x OKK) * col(dY)            stride 1: W' = W rotated by 180 degrees, o and c
 *                    swapped
 *                    dX            = col2im(W^t * dY)                  other strides
 *     weights        dW (O x CKK) += dY * col(X)^t
 *
 * are products with long rows whatever the size of the map. Tiles may span images, and results land in place. Rows are
 * an odd number of cache lines apart: with a power of two, a column of a tile would fall into one cache set.
 *
 * OpenBLAS runs single-threaded inside each thread of our own team. Forward and backward data divide tiles of columns
 * among the threads; each thread gathers its tile's columns for one block of channels at a time. The weight gradient
 * divides channels, so that there are no partial sums to join and the order of every sum is fixed. */
#include "backend/backend.h"
#include "backend/conv_job.h"
#include "backend/gemm.h"
#include "wasd/cpu.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

/* Gathered columns: upper limits per thread, in tap rows (GEMM depth) and columns (length). */
#define DEPTH 640
#define TILE 512
#define TILE_WEIGHTS 1024
#define FEW 128 /* below this many columns per thread, divide output channels instead */

static size_t round_up(size_t v, size_t to)
{
	return (v + to - 1) / to * to;
}

static void openblas_layout(struct tensor *t, int n, enum wasd_precision p)
{
	(void)p;
	t->sn = (size_t)t->shape.h * (size_t)t->shape.w;
	t->sc = round_up(t->sn * (size_t)n, 16);
	if (t->sc / 16 % 2 == 0)
		t->sc += 16;
	t->bytes = t->sc * (size_t)t->shape.c * sizeof(real);
}

/* ---- one convolution as tiles of columns: forward, and backward data of stride 1 --------------------------- */

static bool pointwise(const struct window *g)
{
	return g->kh == 1 && g->kw == 1 && g->stride == 1 && g->pad_top == 0 && g->pad_left == 0 && g->oh == g->h &&
	       g->ow == g->w;
}

/* Number of channels per product, such that the depth stays near DEPTH and blocks are equal. */
static int channel_block(int channels, int taps)
{
	int blocks = (int)(((int64_t)channels * taps + DEPTH - 1) / DEPTH);
	if (blocks > channels)
		blocks = channels;
	return blocks > 1 ? (channels + blocks - 1) / blocks : channels;
}

/* Output rows per tile for about `tile` columns, divided evenly among the threads. */
static int tile_rows(int rows, int ow, int tile, int threads)
{
	int each = (rows + threads - 1) / threads, pieces = (int)(((int64_t)each * ow + tile - 1) / tile);
	if (pieces > each)
		pieces = each;
	return pieces > 1 ? (each + pieces - 1) / pieces : each;
}

WASD_HOT static void finish_row(real *y, const real *res, real bias, enum act act, int len)
{
	real lo = act == ACT_NONE ? -(real)__builtin_inff() : 0, hi = act == ACT_RELU6 ? 6 : (real)__builtin_inff();
	if (res)
		for (int i = 0; i < len; i++) {
			real v = y[i] + bias + res[i];
			v = v < lo ? lo : v;
			y[i] = v > hi ? hi : v;
		}
	else
		for (int i = 0; i < len; i++) {
			real v = y[i] + bias;
			v = v < lo ? lo : v;
			y[i] = v > hi ? hi : v;
		}
}

void conv_finish(const struct conv_job *j, int o0, int o1, size_t first, int cols)
{
	if (!j->bias && !j->res && j->act == ACT_NONE)
		return;
	for (int o = o0; o < o1; o++)
		finish_row(j->y + (size_t)o * j->ysc + first, j->res ? j->res + (size_t)o * j->rsc + first : NULL,
		           j->bias ? j->bias[o] : 0, j->act, cols);
}

static void conv_tile(const struct conv_job *j, int row0, int rows, int o0, int o1, real *col)
{
	int taps = j->win.kh * j->win.kw, block = channel_block(j->channels, taps), cols = rows * j->win.ow;
	size_t first = (size_t)row0 * (size_t)j->win.ow, ldw = (size_t)j->channels * (size_t)taps;
	real *y = j->y + (size_t)o0 * j->ysc + first;
	bool direct = pointwise(&j->win);
	for (int c = 0; c < j->channels && taps; c += block) {
		int cc = j->channels - c < block ? j->channels - c : block;
		const real *b = j->x + (size_t)c * j->xsc + first;
		if (!direct)
			im2col(&j->win, j->x + (size_t)c * j->xsc, j->xsc, j->n, cc, row0, rows, col);
		gemm(false, false, o1 - o0, cols, cc * taps, j->w + (size_t)o0 * ldw + (size_t)c * (size_t)taps, ldw,
		     direct ? b : col, direct ? j->xsc : (size_t)cols, c || j->add, y, j->ysc);
	}
	for (int o = o0; o < o1 && !taps && !j->add; o++, y += j->ysc)
		memset(y, 0, (size_t)cols * sizeof(real));
	conv_finish(j, o0, o1, first, cols);
}

static void conv_items(void *ctx, int begin, int end, int thread)
{
	const struct conv_job *j = ctx;
	int rows = j->n * j->win.oh;
	for (int i = begin; i < end; i++) {
		int tile = i / j->parts, part = i % j->parts, row0 = tile * j->tile_rows;
		int count = rows - row0 < j->tile_rows ? rows - row0 : j->tile_rows;
		conv_tile(j, row0, count, (int)((int64_t)j->outs * part / j->parts),
		          (int)((int64_t)j->outs * (part + 1) / j->parts), j->scratch + (size_t)thread * j->scratch_each);
	}
}

static void conv_run(struct conv_job *j, int threads)
{
	int rows = j->n * j->win.oh;
	j->parts = 1;
	j->tile_rows = tile_rows(rows, j->win.ow, TILE, threads);
	if ((int64_t)rows * j->win.ow < FEW * (int64_t)threads) {
		/* Few columns (small batch): every thread takes all columns and a part of the output channels. */
		j->tile_rows = rows;
		j->parts = threads < j->outs ? threads : j->outs;
	}
	j->tiles = (rows + j->tile_rows - 1) / j->tile_rows;
	wasd_parallel(j->tiles * j->parts, conv_items, j);
}

/* Upper limit of the elements that one thread's columns take, for kernels of up to `taps` taps. */
static size_t columns_size(int channels, int taps, int rows, int ow, int tile, int threads)
{
	size_t depth = (size_t)channels * (size_t)taps, cols = (size_t)(tile + ow), all = (size_t)rows * (size_t)ow;
	if (depth > (size_t)(DEPTH + taps))
		depth = (size_t)(DEPTH + taps);
	if (cols < FEW * (size_t)threads)
		cols = FEW * (size_t)threads;
	return round_up(depth * (cols < all ? cols : all), 16);
}

/* ---- backward ---------------------------------------------------------------------------------------------- */

struct back_job {
	struct step *s;
	const struct run *r;
	struct window win;
	int group, ipg, opg;
	bool by_output; /* weights: divide output instead of input channels */
	real *turned;   /* (ipg, opg*taps) */
	real *scratch;
	size_t scratch_each;
};

static void bias_rows(void *ctx, int begin, int end, int thread)
{
	struct back_job *j = ctx;
	(void)thread;
	size_t len = (size_t)j->r->n * j->s->dy->sn;
	for (int o = begin; o < end; o++) {
		const real *dy = tensor_plane(j->s->dy, 0, o);
		double sum = 0;
		for (size_t at = 0; at < len; at += 256) {
			real part[8] = {0};
			size_t l = len - at < 256 ? len - at : 256, i = 0;
			for (; i + 8 <= l; i += 8)
				for (int k = 0; k < 8; k++)
					part[k] += dy[at + i + (size_t)k];
			for (; i < l; i++)
				part[0] += dy[at + i];
			for (int k = 0; k < 8; k++)
				sum += (double)part[k];
		}
		j->s->dbias[o] += (real)sum;
	}
}

/* dW for input channels begin..end-1, or for output channels if there are too few input channels to divide. */
static void weight_channels(void *ctx, int begin, int end, int thread)
{
	struct back_job *j = ctx;
	const struct step *s = j->s;
	int taps = s->kh * s->kw, c0 = j->by_output ? 0 : begin, c1 = j->by_output ? j->ipg : end;
	int o0 = j->group * j->opg + (j->by_output ? begin : 0), outs = j->by_output ? end - begin : j->opg;
	int rows = j->r->n * j->win.oh, block = channel_block(c1 - c0, taps),
		step = tile_rows(rows, j->win.ow, TILE_WEIGHTS, 1);
	size_t ldw = (size_t)j->ipg * (size_t)taps;
	real *col = j->scratch + (size_t)thread * j->scratch_each;
	for (int row0 = 0; row0 < rows; row0 += step) {
		int count = rows - row0 < step ? rows - row0 : step, cols = count * j->win.ow;
		size_t first = (size_t)row0 * (size_t)j->win.ow;
		for (int c = c0; c < c1; c += block) {
			int cc = c1 - c < block ? c1 - c : block;
			const real *x = tensor_plane(s->x[0], 0, j->group * j->ipg + c), *b = col;
			size_t ldb = (size_t)cols;
			if (pointwise(&j->win)) {
				b = x + first;
				ldb = s->x[0]->sc;
			} else {
				im2col(&j->win, x, s->x[0]->sc, j->r->n, cc, row0, count, col);
			}
			gemm(false, true, outs, cc * taps, cols, tensor_plane(s->dy, 0, o0) + first, s->dy->sc, b, ldb, 1,
			     s->dweight + (size_t)o0 * ldw + (size_t)c * (size_t)taps, ldw);
		}
	}
}

/* turned[c][o][ky][kx] = w[o][c][kh-1-ky][kw-1-kx] */
static void turn_channels(void *ctx, int begin, int end, int thread)
{
	struct back_job *j = ctx;
	(void)thread;
	int taps = j->s->kh * j->s->kw;
	size_t ldw = (size_t)j->ipg * (size_t)taps, ldt = (size_t)j->opg * (size_t)taps;
	const real *w = j->s->weight + (size_t)j->group * (size_t)j->opg * ldw;
	for (int c0 = begin; c0 < end; c0 += 16)
		for (int o = 0; o < j->opg; o++)
			for (int c = c0; c < end && c < c0 + 16; c++) {
				const real *src = w + (size_t)o * ldw + (size_t)c * (size_t)taps;
				real *dst = j->turned + (size_t)c * ldt + (size_t)o * (size_t)taps;
				for (int t = 0; t < taps; t++)
					dst[t] = src[taps - 1 - t];
			}
}

static void data_channels(void *ctx, int begin, int end, int thread)
{
	struct back_job *j = ctx;
	const struct step *s = j->s;
	int taps = s->kh * s->kw, rows = j->r->n * j->win.oh, block = channel_block(end - begin, taps),
		step = tile_rows(rows, j->win.ow, TILE, 1);
	size_t ldw = (size_t)j->ipg * (size_t)taps, len = (size_t)j->r->n * s->dx[0]->sn;
	real *col = j->scratch + (size_t)thread * j->scratch_each;
	for (int c = begin; c < end && !s->dx_add[0]; c++)
		memset(tensor_plane(s->dx[0], 0, j->group * j->ipg + c), 0, len * sizeof(real));
	for (int row0 = 0; row0 < rows && taps; row0 += step) {
		int count = rows - row0 < step ? rows - row0 : step, cols = count * j->win.ow;
		for (int c = begin; c < end; c += block) {
			int cc = end - c < block ? end - c : block;
			gemm(true, false, cc * taps, cols, j->opg,
			     s->weight + (size_t)j->group * (size_t)j->opg * ldw + (size_t)c * (size_t)taps, ldw,
			     tensor_plane(s->dy, 0, j->group * j->opg) + (size_t)row0 * (size_t)j->win.ow, s->dy->sc, 0, col,
			     (size_t)cols);
			col2im(&j->win, tensor_plane(s->dx[0], 0, j->group * j->ipg + c), s->dx[0]->sc, cc, row0, count, col);
		}
	}
}

/* ---- the layer --------------------------------------------------------------------------------------------- */

static bool is_depthwise(const struct step *s)
{
	return s->node->groups > 1 && s->node->groups == s->node->in.c;
}

static struct window window_of(const struct step *s)
{
	const struct node *nd = s->node;
	return (struct window){nd->in.h, nd->in.w,   nd->shape.h, nd->shape.w, s->kh,
	                       s->kw,    nd->stride, s->pad_top,  s->pad_left};
}

/* Scratch is planned for the node's full kernel; the kernel of the pass may be a part of it. Limits the memory for
 * per-thread sums. */
static bool use_winograd(const struct step *s, const struct window *g, int n, int threads)
{
	const struct node *nd = s->node;
	int ipg = nd->in.c / nd->groups, opg = nd->out / nd->groups;
	return !s->strict && nd->kh <= 3 && nd->kw <= 3 && (int64_t)ipg * opg * threads <= 1 << 23 &&
	       winograd_fits(g, n, ipg, opg);
}

static void conv_plan(struct step *s, int batch, bool training, int threads)
{
	const struct node *nd = s->node;
	if (is_depthwise(s))
		return;
	int taps = nd->kh * nd->kw, ipg = nd->in.c / nd->groups, opg = nd->out / nd->groups;
	size_t each = columns_size(ipg, taps, batch * nd->shape.h, nd->shape.w, TILE, threads), turned = 0;
	if (training) {
		size_t b = columns_size(ipg, taps, batch * nd->shape.h, nd->shape.w, TILE_WEIGHTS, threads);
		size_t d = columns_size(opg, taps, batch * nd->in.h, nd->in.w, TILE, threads);
		each = each > b ? each : b;
		each = each > d ? each : d;
		turned = round_up((size_t)ipg * (size_t)opg * (size_t)taps, 16);
	}
	each *= (size_t)threads;
	struct window g = window_of(s);
	if (use_winograd(s, &g, batch, threads)) {
		int tw = nd->in.w / 2;
		size_t forward = winograd_scratch(ipg, opg, tw, threads, false),
			   weights = training ? winograd_scratch(ipg, opg, tw, threads, true) : 0;
		each = each > forward ? each : forward;
		each = each > weights ? each : weights;
	}
	s->scratch_bytes = (turned + each) * sizeof(real);
}

static void conv_forward(struct step *s, const struct run *r)
{
	if (is_depthwise(s)) {
		depthwise_kernel.forward(s, r);
		return;
	}
	const struct node *nd = s->node;
	int ipg = nd->in.c / nd->groups, opg = nd->out / nd->groups;
	for (int g = 0; g < nd->groups; g++) {
		struct conv_job j = {
			.win = window_of(s),
			.n = r->n,
			.channels = ipg,
			.outs = opg,
			.w = s->weight + (size_t)g * (size_t)opg * (size_t)(ipg * s->kh * s->kw),
			.x = tensor_plane(s->x[0], 0, g * ipg),
			.xsc = s->x[0]->sc,
			.y = tensor_plane(s->y, 0, g * opg),
			.ysc = s->y->sc,
			.bias = s->bias ? s->bias + g * opg : NULL,
			.act = s->act,
			.scratch = r->scratch,
			.scratch_each = s->scratch_bytes / sizeof(real) / (size_t)r->threads,
		};
		if (s->has_res) {
			j.res = tensor_plane(s->x[1], 0, g * opg);
			j.rsc = s->x[1]->sc;
		}
		if (use_winograd(s, &j.win, r->n, r->threads))
			winograd_run(&j, r->threads);
		else
			conv_run(&j, r->threads);
	}
}

static void conv_backward(struct step *s, const struct run *r)
{
	if (is_depthwise(s)) {
		depthwise_kernel.backward(s, r);
		return;
	}
	const struct node *nd = s->node;
	struct back_job j = {.s = s,
	                     .r = r,
	                     .win = window_of(s),
	                     .ipg = nd->in.c / nd->groups,
	                     .opg = nd->out / nd->groups};
	int taps = s->kh * s->kw;
	size_t turned = round_up((size_t)j.ipg * (size_t)j.opg * (size_t)(nd->kh * nd->kw), 16);
	j.turned = r->scratch;
	j.scratch = j.turned + turned;
	j.scratch_each = (s->scratch_bytes / sizeof(real) - turned) / (size_t)r->threads;
	j.by_output = j.ipg < 4 * r->threads && j.opg > j.ipg;
	if (s->dbias)
		wasd_parallel(nd->out, bias_rows, &j);
	for (j.group = 0; j.group < nd->groups; j.group++) {
		if (use_winograd(s, &j.win, r->n, r->threads)) {
			struct conv_job w = {.win = j.win,
			                     .n = r->n,
			                     .channels = j.ipg,
			                     .outs = j.opg,
			                     .x = tensor_plane(s->x[0], 0, j.group * j.ipg),
			                     .xsc = s->x[0]->sc,
			                     .scratch = j.scratch};
			winograd_weights(&w, tensor_plane(s->dy, 0, j.group * j.opg), s->dy->sc,
			                 s->dweight + (size_t)j.group * (size_t)(j.opg * j.ipg * taps), r->threads);
		} else if (taps) {
			wasd_parallel(j.by_output ? j.opg : j.ipg, weight_channels, &j);
		}
		if (!s->dx[0])
			continue;
		if (nd->stride > 1) {
			wasd_parallel(j.ipg, data_channels, &j);
			continue;
		}
		if (taps)
			wasd_parallel(j.ipg, turn_channels, &j);
		struct conv_job b = {
			.win = {nd->shape.h, nd->shape.w, nd->in.h, nd->in.w, s->kh, s->kw, 1, s->kh - 1 - s->pad_top,
		            s->kw - 1 - s->pad_left},
			.n = r->n,
			.channels = j.opg,
			.outs = j.ipg,
			.w = j.turned,
			.x = tensor_plane(s->dy, 0, j.group * j.opg),
			.xsc = s->dy->sc,
			.y = tensor_plane(s->dx[0], 0, j.group * j.ipg),
			.ysc = s->dx[0]->sc,
			.add = s->dx_add[0],
			.scratch = j.scratch,
			.scratch_each = j.scratch_each,
		};
		if (use_winograd(s, &b.win, r->n, r->threads))
			winograd_run(&b, r->threads);
		else
			conv_run(&b, r->threads);
	}
}

/* ---- linear: the same with one column per image ------------------------------------------------------------ */

struct linear_job {
	struct step *s;
	const struct run *r;
};

static void linear_outputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	size_t f = (size_t)s->node->in.c;
	gemm(false, false, end - begin, j->r->n, (int)f, s->weight + (size_t)begin * f, f, s->x[0]->data, s->x[0]->sc, 0,
	     tensor_plane(s->y, 0, begin), s->y->sc);
	for (int o = begin; o < end; o++)
		finish_row(tensor_plane(s->y, 0, o), s->has_res ? tensor_plane(s->x[1], 0, o) : NULL, s->bias ? s->bias[o] : 0,
		           s->act, j->r->n);
}

static void linear_dw_outputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	size_t f = (size_t)s->node->in.c;
	gemm(false, true, end - begin, (int)f, j->r->n, tensor_plane(s->dy, 0, begin), s->dy->sc, s->x[0]->data,
	     s->x[0]->sc, 1, s->dweight + (size_t)begin * f, f);
	for (int o = begin; o < end && s->dbias; o++) {
		double sum = 0;
		for (int i = 0; i < j->r->n; i++)
			sum += (double)tensor_plane(s->dy, 0, o)[i];
		s->dbias[o] += (real)sum;
	}
}

static void linear_dx_inputs(void *ctx, int begin, int end, int thread)
{
	struct linear_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	gemm(true, false, end - begin, j->r->n, s->node->out, s->weight + begin, (size_t)s->node->in.c, s->dy->data,
	     s->dy->sc, s->dx_add[0], tensor_plane(s->dx[0], 0, begin), s->dx[0]->sc);
}

static void linear_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->node->out, linear_outputs, &(struct linear_job){s, r});
}

static void linear_backward(struct step *s, const struct run *r)
{
	wasd_parallel(s->node->out, linear_dw_outputs, &(struct linear_job){s, r});
	if (s->dx[0])
		wasd_parallel(s->node->in.c, linear_dx_inputs, &(struct linear_job){s, r});
}

static enum wasd_status openblas_open(struct wasd_err *err)
{
	openblas_set_num_threads(1);
	return wasd_cpu_check(err);
}

static void openblas_library(char *out, size_t size)
{
	snprintf(out, size, "%s", openblas_get_config());
}

static const struct layer_kernel conv_kernel = {.plan = conv_plan, .forward = conv_forward, .backward = conv_backward};
static const struct layer_kernel linear_kernel = {.forward = linear_forward, .backward = linear_backward};
static const struct backend_kernel kernels[] = {{"conv", &conv_kernel}, {"linear", &linear_kernel}, {NULL, NULL}};

extern const struct backend backend_openblas;
const struct backend backend_openblas = {
	.name = "openblas",
	.summary = "matrix products of OpenBLAS, channel-major",
	.library = openblas_library,
	.open = openblas_open,
	.layout = openblas_layout,
	.import = planes_import,
	.export = planes_export,
	.kernels = kernels,
	.planes = true,
	.block = 8,
};
