/* onednn/depthwise.c - depthwise convolution, i.e. one kernel per channel (groups = channels), in blocks of 16
 * channels.
 *
 *   forward   y[oy,ox] = b + sum over ky,kx of w[ky,kx] x[oy*s - top + ky, ox*s - left + kx]
 *   data      dx[iy,ix] = sum over ky,kx of w[ky,kx] D[iy + top - ky, ix + left - kx],  D = dy with s-1 zeros between
 *             its values
 *   weights   dw[ky,kx] = sum over images, oy, ox of dy[oy,ox] x[oy*s - top + ky, ox*s - left + kx]
 *
 * Sixteen channels are one vector, and with a few operations per value memory is the limit. So rows of a plane are
 * copied once into a small buffer, widened to float32 and extended by the padding columns (or cropped). From there
 * every output column is the same sum without conditions, eight columns at a time in registers. Rows beyond the image
 * are skipped, and so are taps that lie outside the image for every output: a 5x5 kernel on a 1x1 map is one tap.
 * Backward reads a plane of dy from memory once for both gradients. */
#include "onednn/blocked_vec.h"
#include "onednn/depthwise.h"

#include <stdio.h>

#define SIDE 5      /* largest kernel side */
#define TILE 8      /* columns held in registers */
#define STRIP 16384 /* approximate bytes of buffered rows: a part of the L1 cache */

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Rows ky0..ky1-1 and columns kx0..kx1-1 of the kernel overlap the image. */
struct taps {
	int ky0, ky1, kx0, kx1;
};
struct lanes {
	float v[LANES];
};
/* strip: rows of output (forward, weights) or of dx computed from one filling of the buffer. */
struct dw_plan {
	int batch;
	bool training;
	struct tune_result measured;
	int parts, strip, strip_data;
	size_t fill_bytes, rows_bytes, weights_bytes;
};
struct dw_job {
	struct step *s;
	const struct run *r;
	const struct dw_plan *p;
	struct taps t;
	int parts;
	struct lanes *w, *bias, *sums;
	char *buffers;
};

bool depthwise_takes(const struct step *s)
{
	const struct node *nd = s->node;
	return !blocked_of(s->x[0])->plain && nd->groups == nd->in.c && nd->out == nd->in.c && nd->kh <= SIDE &&
	       nd->kw <= SIDE && nd->stride <= 2;
}

static void live(int k, int pad, int in, int out, int stride, int *k0, int *k1)
{
	*k0 = most(0, pad - (out - 1) * stride);
	*k1 = most(*k0, least(k, in + pad));
}

static struct taps taps_of(const struct step *s)
{
	const struct node *nd = s->node;
	struct taps t;
	live(s->kh, s->pad_top, nd->in.h, nd->shape.h, nd->stride, &t.ky0, &t.ky1);
	live(s->kw, s->pad_left, nd->in.w, nd->shape.w, nd->stride, &t.kx0, &t.kx1);
	if (t.kx0 == t.kx1 || t.ky0 == t.ky1)
		t = (struct taps){0, 0, 0, 0};
	return t;
}

static int parts_for(const struct step *s, int n, int threads)
{
	int blocks = blocked_count(s->y);
	return most(1, least(n, (4 * threads + blocks - 1) / blocks));
}

static void dw_plan(struct step *s, int batch, bool training, int threads)
{
	const struct node *nd = s->node;
	struct dw_plan *p = s->plan = wasd_calloc(1, sizeof *p);
	if (!p) {
		s->status = WASD_ENOMEM;
		return;
	}
	int blocks = blocked_count(s->y), width = (nd->shape.w - 1) * nd->stride + SIDE, width_data = nd->in.w + SIDE - 1,
		fit = STRIP / (int)sizeof(struct lanes);
	p->batch = batch;
	p->training = training;
	p->parts = parts_for(s, batch, threads);
	p->strip = most(1, least(nd->shape.h, (fit / width - SIDE) / nd->stride + 1));
	p->strip_data = most(1, least(nd->in.h, fit / width_data - SIDE + 1));
	int rows = (p->strip - 1) * nd->stride + SIDE, rows_data = p->strip_data + SIDE - 1;
	p->fill_bytes = (size_t)most(rows * width, rows_data * width_data) * sizeof(struct lanes);
	p->rows_bytes = training ? (size_t)p->strip * (size_t)nd->shape.w * sizeof(struct lanes) : 0;
	p->weights_bytes = (size_t)blocks * (SIDE * SIDE + 1) * sizeof(struct lanes);
	s->scratch_bytes = p->weights_bytes + (size_t)threads * (p->fill_bytes + p->rows_bytes);
	if (training)
		s->scratch_bytes += p->weights_bytes * (size_t)p->parts;
}

static void dw_unplan(struct step *s)
{
	wasd_free(s->plan);
	s->plan = NULL;
}

/* Weights as (block, tap, lane), then the bias. flip: columns of the live taps in reverse, for the data gradient. */
static struct dw_job job_of(struct step *s, const struct run *r, bool flip)
{
	const struct dw_plan *p = s->plan;
	struct dw_job j = {.s = s, .r = r, .p = p, .t = taps_of(s), .parts = least(p->parts, r->n), .w = r->scratch};
	int kw = j.t.kx1 - j.t.kx0, kh = j.t.ky1 - j.t.ky0, C = s->y->shape.c, blocks = blocked_count(s->y);
	j.bias = j.w + (size_t)blocks * SIDE * SIDE;
	j.buffers = (char *)r->scratch + p->weights_bytes;
	j.sums = (struct lanes *)(j.buffers + (size_t)r->threads * (p->fill_bytes + p->rows_bytes));
	memset(j.w, 0, p->weights_bytes);
	for (int c = 0; c < C; c++) {
		const real *w = s->weight + (size_t)c * (size_t)(s->kh * s->kw);
		struct lanes *to = j.w + (size_t)(c / LANES) * (size_t)(kh * kw);
		for (int y = 0; y < kh; y++)
			for (int x = 0; x < kw; x++)
				to[y * kw + (flip ? kw - 1 - x : x)].v[c % LANES] = (float)w[(j.t.ky0 + y) * s->kw + j.t.kx0 + x];
		if (s->bias)
			j.bias[c / LANES].v[c % LANES] = (float)s->bias[c];
	}
	return j;
}

/* ---- rows in the buffer ---- */

struct filled {
	const float *at;
	size_t pitch;
	int row0;
}; /* row iy begins at at + (iy - row0)*pitch */

/* Loads rows row0..row1-1 of a plane of width W that begins at block `from`, as `width` columns: column u is the
 * plane's column u + shift. With a gap, the plane's columns lie gap + 1 apart. A plane that needs no change is used in
 * place. */
BLOCKED_INLINE struct filled fill(const struct tensor *t, size_t from, int W, int row0, int row1, int shift, int width,
                                  int gap, void *buffer)
{
	bool bf16 = blocked_of(t)->bf16;
	struct filled f = {buffer, (size_t)width * LANES, row0};
	if (!bf16 && !gap && shift >= 0 && shift + width <= W) {
		f.at = (const float *)t->data + (from + (size_t)row0 * (size_t)W + (size_t)shift) * LANES;
		f.pitch = (size_t)W * LANES;
		return f;
	}
	/* u0..u1-1: columns that hold a value of the plane */
	int step = gap + 1, c0 = most(0, (shift + gap) / step), u0 = least(width, most(0, c0 * step - shift)),
		u1 = most(u0, least(width, (W - 1) * step + 1 - shift));
	for (int y = row0; y < row1; y++) {
		float *to = (float *)buffer + (size_t)(y - row0) * f.pitch;
		size_t src = from + (size_t)y * (size_t)W + (size_t)c0;
		for (int u = 0; u < u0; u++)
			v_store(to, (size_t)u, v_set(0), false);
		if (gap) {
			for (int u = u0; u < u1; u += step) {
				v_store(to, (size_t)u, v_load(t->data, src++, bf16), false);
				for (int z = u + 1; z < least(u1, u + step); z++)
					v_store(to, (size_t)z, v_set(0), false);
			}
		} else if (bf16) {
			for (int u = u0; u < u1; u++)
				v_store(to, (size_t)u, v_load(t->data, src++, true), false);
		} else {
			for (int u = u0; u < u1; u++)
				v_store(to, (size_t)u, v_load(t->data, src++, false), false);
		}
		for (int u = u1; u < width; u++)
			v_store(to, (size_t)u, v_set(0), false);
	}
	return f;
}

/* ---- one row of outputs ---- */

struct out_row {
	int rows;             /* number of tap rows inside the image */
	const float *x[SIDE]; /* first column of the buffered row under each tap row */
	const float *w[SIDE];
	v16 bias;
	void *y;         /* output, at block `at` */
	const void *res; /* added, read at `res_at`; NULL: nothing to add */
	size_t at, res_at;
	bool bf16, res_bf16;
	enum act act;
};

BLOCKED_INLINE void out_tile(const struct out_row *r, int ox, int kw, int stride, int tile)
{
	v16 acc[TILE];
	UNROLL for (int t = 0; t < tile; t++) acc[t] = r->bias;
	for (int k = 0; k < r->rows; k++) {
		const float *x = r->x[k] + (size_t)(ox * stride) * LANES;
		UNROLL for (int j = 0; j < kw; j++)
		{
			v16 w = v_load(r->w[k], (size_t)j, false);
			UNROLL for (int t = 0; t < tile; t++) acc[t] += w * v_load(x, (size_t)(t * stride + j), false);
		}
	}
	UNROLL for (int t = 0; t < tile; t++)
	{
		size_t i = (size_t)(ox + t);
		if (r->res)
			acc[t] += v_load(r->res, r->res_at + i, r->res_bf16);
		v_store(r->y, r->at + i, v_act(r->act, acc[t]), r->bf16);
	}
}

BLOCKED_INLINE void out_columns(const struct out_row *r, int width, int kw, int stride)
{
	int ox = 0;
	for (; ox + TILE <= width; ox += TILE)
		out_tile(r, ox, kw, stride, TILE);
	if (ox + 4 <= width) {
		out_tile(r, ox, kw, stride, 4);
		ox += 4;
	}
	if (ox + 2 <= width) {
		out_tile(r, ox, kw, stride, 2);
		ox += 2;
	}
	if (ox < width)
		out_tile(r, ox, kw, stride, 1);
}

/* Calls F with the number of taps as a constant; without taps any constant will do. */
#define BY_TAPS(kw, F) \
	switch (kw) { \
	case 1: \
		F(1); \
		break; \
	case 2: \
		F(2); \
		break; \
	case 3: \
		F(3); \
		break; \
	case 4: \
		F(4); \
		break; \
	default: \
		F(5); \
		break; \
	}

BLOCKED_HOT static void out_any(const struct out_row *r, int width, int kw, int stride)
{
#define STRIDE1(k) out_columns(r, width, k, 1)
#define STRIDE2(k) out_columns(r, width, k, 2)
	if (stride == 1)
		BY_TAPS(kw, STRIDE1)
	else
		BY_TAPS(kw, STRIDE2)
#undef STRIDE1
#undef STRIDE2
}

/* ---- forward: one plane of one image is one work item ---- */

BLOCKED_HOT static void fwd_plane(const struct dw_job *j, int n, int b, void *buffer)
{
	const struct step *s = j->s;
	const struct node *nd = s->node;
	const struct taps *t = &j->t;
	int st = nd->stride, H = nd->in.h, OH = nd->shape.h, OW = nd->shape.w, kw = t->kx1 - t->kx0;
	struct out_row r = {.y = s->y->data, .bf16 = blocked_of(s->y)->bf16, .act = s->act};
	size_t from = blocked_at(s->x[0], n, b), to = blocked_at(s->y, n, b),
		   res = s->has_res ? blocked_at(s->x[1], n, b) : 0;
	const struct lanes *w = j->w + (size_t)b * (size_t)((t->ky1 - t->ky0) * kw);
	__builtin_memcpy(&r.bias, &j->bias[b], sizeof r.bias);
	if (s->has_res) {
		r.res = s->x[1]->data;
		r.res_bf16 = blocked_of(s->x[1])->bf16;
	}
	for (int y0 = 0; y0 < OH; y0 += j->p->strip) {
		int y1 = least(OH, y0 + j->p->strip), i0 = most(0, y0 * st - s->pad_top + t->ky0),
			i1 = least(H, (y1 - 1) * st - s->pad_top + t->ky1);
		struct filled f = {0};
		if (kw)
			f = fill(s->x[0], from, nd->in.w, i0, i1, t->kx0 - s->pad_left, (OW - 1) * st + kw, 0, buffer);
		for (int oy = y0; oy < y1; oy++) {
			int top = oy * st - s->pad_top;
			r.rows = 0;
			for (int ky = most(t->ky0, -top); ky < least(t->ky1, H - top); ky++) {
				r.x[r.rows] = f.at + (size_t)(top + ky - f.row0) * f.pitch;
				r.w[r.rows++] = w[(ky - t->ky0) * kw].v;
			}
			r.at = to + (size_t)(oy * OW);
			r.res_at = res + (size_t)(oy * OW);
			out_any(&r, OW, kw, st);
		}
	}
}

static void fwd_items(void *ctx, int begin, int end, int thread)
{
	const struct dw_job *j = ctx;
	int blocks = blocked_count(j->s->y);
	for (int i = begin; i < end; i++)
		fwd_plane(j, i / blocks, i % blocks, j->buffers + (size_t)thread * (j->p->fill_bytes + j->p->rows_bytes));
}

static void dw_forward(struct step *s, const struct run *r)
{
	struct dw_job j = job_of(s, r, false);
	wasd_parallel(r->n * blocked_count(s->y), fwd_items, &j);
}

/* ---- backward ---- */

/* Rows iy of dx: uses the taps whose row iy + top - ky of D is a row of dy. */
BLOCKED_HOT static void data_plane(const struct dw_job *j, int n, int b, void *buffer)
{
	const struct step *s = j->s;
	const struct node *nd = s->node;
	const struct taps *t = &j->t;
	int st = nd->stride, H = nd->in.h, W = nd->in.w, OH = nd->shape.h, OW = nd->shape.w, kw = t->kx1 - t->kx0;
	struct out_row r = {.y = s->dx[0]->data, .bf16 = blocked_of(s->dx[0])->bf16};
	size_t from = blocked_at(s->dy, n, b), to = blocked_at(s->dx[0], n, b);
	const struct lanes *w = j->w + (size_t)b * (size_t)((t->ky1 - t->ky0) * kw);
	if (s->dx_add[0]) {
		r.res = s->dx[0]->data;
		r.res_bf16 = r.bf16;
	}
	for (int y0 = 0; y0 < H; y0 += j->p->strip_data) {
		int y1 = least(H, y0 + j->p->strip_data);
		int d0 = most(0, y0 + s->pad_top - t->ky1 + 1) / st,
			d1 = least(OH, most(0, y1 - 1 + s->pad_top - t->ky0 + st) / st);
		struct filled f = {0};
		if (kw)
			f = fill(s->dy, from, OW, d0, d1, s->pad_left - t->kx1 + 1, W + kw - 1, st - 1, buffer);
		for (int iy = y0; iy < y1; iy++) {
			r.rows = 0;
			for (int ky = t->ky0; ky < t->ky1; ky++) {
				int d = iy + s->pad_top - ky;
				if (d < 0 || d % st || d / st >= OH)
					continue;
				r.x[r.rows] = f.at + (size_t)(d / st - f.row0) * f.pitch;
				r.w[r.rows++] = w[(ky - t->ky0) * kw].v;
			}
			r.at = r.res_at = to + (size_t)(iy * W);
			out_any(&r, W, kw, 1);
		}
	}
}

/* Sums of dy times x for one row of taps, over rows of outputs. With few taps, several sums per tap hide the
 * latency. */
struct sum_rows {
	const float *x, *dy;
	size_t x_pitch, dy_pitch;
	int rows, width;
	struct lanes *to;
};

BLOCKED_INLINE void sum_taps(const struct sum_rows *r, int kw, int stride)
{
	enum { MANY = 4 };
	int many = kw <= 3 ? MANY : 2;
	v16 acc[SIDE][MANY];
	UNROLL for (int k = 0; k < kw; k++) UNROLL for (int u = 0; u < many; u++) acc[k][u] = v_set(0);
	for (int y = 0; y < r->rows; y++) {
		const float *x = r->x + (size_t)y * r->x_pitch, *dy = r->dy + (size_t)y * r->dy_pitch;
		int ox = 0;
		for (; ox + many <= r->width; ox += many)
			UNROLL for (int u = 0; u < many; u++)
			{
				v16 d = v_load(dy, (size_t)(ox + u), false);
				UNROLL for (int k = 0; k < kw; k++) acc[k][u] += d * v_load(x, (size_t)((ox + u) * stride + k), false);
			}
		for (; ox < r->width; ox++) {
			v16 d = v_load(dy, (size_t)ox, false);
			UNROLL for (int k = 0; k < kw; k++) acc[k][0] += d * v_load(x, (size_t)(ox * stride + k), false);
		}
	}
	UNROLL for (int k = 0; k < kw; k++)
	{
		v16 sum = v_load(r->to, (size_t)k, false) + (acc[k][0] + acc[k][1]);
		if (many == MANY)
			sum += acc[k][2] + acc[k][3];
		v_store(r->to, (size_t)k, sum, false);
	}
}

BLOCKED_HOT static void sum_any(const struct sum_rows *r, int kw, int stride)
{
#define STRIDE1(k) sum_taps(r, k, 1)
#define STRIDE2(k) sum_taps(r, k, 2)
	if (stride == 1)
		BY_TAPS(kw, STRIDE1)
	else
		BY_TAPS(kw, STRIDE2)
#undef STRIDE1
#undef STRIDE2
}

BLOCKED_HOT static void sum_bias(const struct filled *dy, int rows, int width, struct lanes *to)
{
	v16 a = v_load(to, 0, false), b = v_set(0);
	for (int y = 0; y < rows; y++) {
		const float *d = dy->at + (size_t)y * dy->pitch;
		int ox = 0;
		for (; ox + 2 <= width; ox += 2) {
			a += v_load(d, (size_t)ox, false);
			b += v_load(d, (size_t)ox + 1, false);
		}
		if (ox < width)
			a += v_load(d, (size_t)ox, false);
	}
	v_store(to, 0, a + b, false);
}

BLOCKED_HOT static void weights_plane(const struct dw_job *j, int n, int b, struct lanes *sums, char *buffer)
{
	const struct step *s = j->s;
	const struct node *nd = s->node;
	const struct taps *t = &j->t;
	int st = nd->stride, H = nd->in.h, OH = nd->shape.h, OW = nd->shape.w, kw = t->kx1 - t->kx0;
	for (int y0 = 0; y0 < OH; y0 += j->p->strip) {
		int y1 = least(OH, y0 + j->p->strip), i0 = most(0, y0 * st - s->pad_top + t->ky0),
			i1 = least(H, (y1 - 1) * st - s->pad_top + t->ky1);
		struct filled dy = fill(s->dy, blocked_at(s->dy, n, b), OW, y0, y1, 0, OW, 0, buffer + j->p->fill_bytes),
					  x = {0};
		if (s->dbias)
			sum_bias(&dy, y1 - y0, OW, sums + SIDE * SIDE);
		if (kw)
			x = fill(s->x[0], blocked_at(s->x[0], n, b), nd->in.w, i0, i1, t->kx0 - s->pad_left, (OW - 1) * st + kw, 0,
			         buffer);
		for (int ky = t->ky0; ky < t->ky1; ky++) {
			/* outputs oy with 0 <= oy*st - top + ky < H */
			int o0 = most(y0, (most(0, s->pad_top - ky) + st - 1) / st), room = H - 1 + s->pad_top - ky,
				o1 = room < 0 ? o0 : least(y1, room / st + 1);
			if (o0 >= o1)
				continue;
			struct sum_rows r = {
				.x = x.at + (size_t)(o0 * st - s->pad_top + ky - x.row0) * x.pitch,
				.x_pitch = (size_t)st * x.pitch,
				.dy = dy.at + (size_t)(o0 - y0) * dy.pitch,
				.dy_pitch = dy.pitch,
				.rows = o1 - o0,
				.width = OW,
				.to = sums + (ky - t->ky0) * kw,
			};
			sum_any(&r, kw, st);
		}
	}
}

/* One block of channels of one group of images: its dx, and its part of the weight sums. */
static void bwd_items(void *ctx, int begin, int end, int thread)
{
	const struct dw_job *j = ctx;
	char *buffer = j->buffers + (size_t)thread * (j->p->fill_bytes + j->p->rows_bytes);
	for (int i = begin; i < end; i++) {
		int b = i / j->parts, p = i % j->parts, n0 = (int)((int64_t)j->r->n * p / j->parts),
			n1 = (int)((int64_t)j->r->n * (p + 1) / j->parts);
		struct lanes *sums = j->sums + (size_t)i * (SIDE * SIDE + 1);
		memset(sums, 0, (SIDE * SIDE + 1) * sizeof *sums);
		for (int n = n0; n < n1; n++) {
			weights_plane(j, n, b, sums, buffer);
			if (j->s->dx[0])
				data_plane(j, n, b, buffer);
		}
	}
}

static void dw_backward(struct step *s, const struct run *r)
{
	struct dw_job j = job_of(s, r, true);
	int kw = j.t.kx1 - j.t.kx0, kh = j.t.ky1 - j.t.ky0;
	wasd_parallel(blocked_count(s->y) * j.parts, bwd_items, &j);
	for (int c = 0; c < s->y->shape.c; c++) {
		real *dw = s->dweight + (size_t)c * (size_t)(s->kh * s->kw);
		for (int p = 0; p < j.parts; p++) {
			const struct lanes *sums = j.sums + (size_t)(c / LANES * j.parts + p) * (SIDE * SIDE + 1);
			for (int k = 0; k < kh * kw; k++)
				dw[(j.t.ky0 + k / kw) * s->kw + j.t.kx0 + k % kw] += sums[k].v[c % LANES];
			if (s->dbias)
				s->dbias[c] += sums[SIDE * SIDE].v[c % LANES];
		}
	}
}

void depthwise_measured(struct step *s, const struct tune_result *r)
{
	if (s->plan)
		((struct dw_plan *)s->plan)->measured = *r;
}

static void dw_explain(const struct step *s, cJSON *to)
{
	const struct dw_plan *p = s->plan;
	for (int back = 0; back <= p->training; back++) {
		cJSON *o = cJSON_CreateObject(), *us;
		char kernel[24];
		snprintf(kernel, sizeof kernel, "%dx%d", s->node->kh, s->node->kw);
		cJSON_AddStringToObject(o, "layer", s->node->name);
		cJSON_AddStringToObject(o, "pass", back ? "backward" : "forward");
		cJSON_AddNumberToObject(o, "images", p->batch);
		cJSON_AddStringToObject(o, "kernel", kernel);
		cJSON_AddStringToObject(o, "algorithm", "depthwise");
		cJSON_AddStringToObject(o, "implementation", "wasd");
		/* One measurement for all passes of a step. */
		if (p->measured.us[TUNE_OURS] > 0 && (us = cJSON_AddObjectToObject(o, "us")) != NULL) {
			cJSON_AddNumberToObject(us, "direct", (double)p->measured.us[TUNE_LIBRARY]);
			cJSON_AddNumberToObject(us, "wasd_depthwise", (double)p->measured.us[TUNE_OURS]);
		}
		if (!cJSON_AddItemToArray(to, o))
			cJSON_Delete(o);
	}
}

const struct layer_kernel onednn_depthwise = {.explain = dw_explain,
                                              .plan = dw_plan,
                                              .forward = dw_forward,
                                              .backward = dw_backward,
                                              .unplan = dw_unplan};
