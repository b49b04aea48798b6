/* onednn/blocked.c - everything but matrix products, in blocks of 16 channels: layout, pooling, add, concat, dropout.
 * core/layers defines these operations; this file does the same arithmetic in another memory order. */
#include "onednn/blocked_vec.h"
#include "layers/hash.h"

static const struct blocked_layout planes = {.plain = true}, planes_bf16 = {.plain = true, .bf16 = true}, blocks = {0},
								   blocks_bf16 = {.bf16 = true};

static bool op_is(const struct tensor *t, const char *op)
{
	return t->by && !strcmp(t->by->layer->op, op);
}

/* Logits and the tensors that lead to them stay float32: they are small, and the loss needs the digits. A convolution
 * has one precision on both sides, so its input takes the precision of its output. An activation, a sum or dropout
 * keeps the precision of its first input. */
static bool stays_float(const struct tensor *t)
{
	static const char *const head[] = {"linear", "flatten", "globalpool"}, *const behind[] = {"relu", "relu6",
	                                                                                          "dropout", "add"};
	if (t->convolved)
		return false;
	for (size_t i = 0; i < sizeof head / sizeof *head; i++)
		if (op_is(t, head[i]))
			return true;
	for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
		if (op_is(t, behind[i]) && t->source)
			return !blocked_of(t->source)->bf16;
	return false;
}

void blocked_layout_set(struct tensor *t, int n, bool bf16)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	bool half = bf16 && !stays_float(t);
	if (op_is(t, "input") && t->shape.c <= 4 && t->reader && !strcmp(t->reader->op, "conv")) {
		t->layout = half ? &planes_bf16 : &planes;
		t->sc = hw;
		t->sn = hw * (size_t)t->shape.c;
	} else {
		t->layout = half ? &blocks_bf16 : &blocks;
		t->sc = hw * LANES;
		t->sn = t->sc * (size_t)blocked_count(t);
	}
	t->bytes = t->sn * (size_t)n * blocked_size(t);
}

/* ---- single values, for borders ---- */

static float get(const struct tensor *t, size_t at)
{
	if (!blocked_of(t)->bf16)
		return ((const float *)t->data)[at];
	uint32_t u = (uint32_t)((const uint16_t *)t->data)[at] << 16;
	float f;
	__builtin_memcpy(&f, &u, sizeof f);
	return f;
}

static void put(const struct tensor *t, size_t at, float f)
{
	if (!blocked_of(t)->bf16) {
		((float *)t->data)[at] = f;
		return;
	}
	uint32_t u;
	__builtin_memcpy(&u, &f, sizeof u);
	((uint16_t *)t->data)[at] = (uint16_t)(f != f ? (u >> 16) | 0x40 : (u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static size_t place(const struct tensor *t, int n, int c, size_t pixel)
{
	if (blocked_of(t)->plain)
		return (size_t)n * t->sn + (size_t)c * t->sc + pixel;
	return (size_t)n * t->sn + (size_t)(c / LANES) * t->sc + pixel * LANES + (size_t)(c % LANES);
}

void blocked_import(const struct tensor *t, int n, const real *nchw)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	if (blocked_of(t)->plain && !blocked_of(t)->bf16) {
		__builtin_memcpy(t->data, nchw, (size_t)n * t->sn * sizeof(float));
		return;
	}
	if (!blocked_of(t)->plain)
		memset(t->data, 0, (size_t)n * t->sn * blocked_size(t));
	for (int i = 0; i < n; i++)
		for (int c = 0; c < t->shape.c; c++)
			for (size_t p = 0; p < hw; p++)
				put(t, place(t, i, c, p), (float)*nchw++);
}

void blocked_export(const struct tensor *t, int first, int count, real *nchw)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	for (int i = first; i < first + count; i++)
		for (size_t p = 0; p < hw; p++)
			*nchw++ = (real)get(t, place(t, i / t->shape.c, i % t->shape.c, p));
}

/* ---- runs of blocks: everything elementwise is one flat array ---- */

#define RUN 256 /* blocks per work item */

struct flat {
	const struct step *s;
	const struct tensor *a, *b, *y;
	enum act act;
	bool add;
	size_t count;
};

static size_t flat_count(const struct tensor *t, int n)
{
	return (size_t)n * t->sn / LANES;
}

static void flat_range(const struct flat *f, int begin, int end, size_t *from, size_t *to)
{
	*from = (size_t)begin * RUN;
	*to = (size_t)end * RUN < f->count ? (size_t)end * RUN : f->count;
}

static void flat_run(struct flat *f, void (*fn)(void *, int, int, int))
{
	wasd_parallel((int)((f->count + RUN - 1) / RUN), fn, f);
}

/* y = act(a + b), or y += that if f->add; b may be absent. */
BLOCKED_INLINE void sum_range(const struct flat *f, size_t from, size_t to, bool ba, bool bb, bool by)
{
	const void *a = f->a->data, *b = f->b ? f->b->data : NULL;
	for (size_t i = from; i < to; i++) {
		v16 v = v_load(a, i, ba);
		if (b)
			v += v_load(b, i, bb);
		v = v_act(f->act, v);
		if (f->add)
			v += v_load(f->y->data, i, by);
		v_store(f->y->data, i, v, by);
	}
}

BLOCKED_HOT static void sum_items(void *ctx, int begin, int end, int thread)
{
	const struct flat *f = ctx;
	size_t from, to;
	(void)thread;
	flat_range(f, begin, end, &from, &to);
	bool ba = blocked_of(f->a)->bf16, bb = f->b ? blocked_of(f->b)->bf16 : ba, by = blocked_of(f->y)->bf16;
	if (ba && bb && by)
		sum_range(f, from, to, true, true, true);
	else if (!ba && !bb && !by)
		sum_range(f, from, to, false, false, false);
	else
		sum_range(f, from, to, ba, bb, by);
}

void blocked_copy(const struct tensor *src, const struct tensor *dst, int n, bool add)
{
	flat_run(&(struct flat){.a = src, .y = dst, .add = add, .count = flat_count(dst, n)}, sum_items);
}

/* y = (or +=) a, masked by the activation whose output is b. */
BLOCKED_INLINE void mask_range(const struct flat *f, size_t from, size_t to, bool bb, bool ba, bool by)
{
	for (size_t i = from; i < to; i++) {
		v16 v = v_load(f->a->data, i, ba);
		if (f->act != ACT_NONE)
			v = v_mask(f->act, v_load(f->b->data, i, bb), v);
		if (f->add)
			v += v_load(f->y->data, i, by);
		v_store(f->y->data, i, v, by);
	}
}

BLOCKED_HOT static void mask_items(void *ctx, int begin, int end, int thread)
{
	const struct flat *f = ctx;
	size_t from, to;
	(void)thread;
	flat_range(f, begin, end, &from, &to);
	bool ba = blocked_of(f->a)->bf16, bb = blocked_of(f->b)->bf16, by = blocked_of(f->y)->bf16;
	if (ba && bb && by)
		mask_range(f, from, to, true, true, true);
	else if (!ba && !bb && !by)
		mask_range(f, from, to, false, false, false);
	else
		mask_range(f, from, to, bb, ba, by);
}

static void relu_forward(struct step *s, const struct run *r)
{
	flat_run(&(struct flat){.a = s->x[0], .y = s->y, .act = s->node->layer->is_act, .count = flat_count(s->y, r->n)},
	         sum_items);
}

static void relu_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		flat_run(&(struct flat){.a = s->dy,
		                        .b = s->y,
		                        .y = s->dx[0],
		                        .act = s->node->layer->is_act,
		                        .add = s->dx_add[0],
		                        .count = flat_count(s->y, r->n)},
		         mask_items);
}

static void add_forward(struct step *s, const struct run *r)
{
	flat_run(&(struct flat){.a = s->x[0], .b = s->x[1], .y = s->y, .act = s->act, .count = flat_count(s->y, r->n)},
	         sum_items);
}

/* Process an input whose gradient shares dy's memory last, after the other has read dy. */
static void add_backward(struct step *s, const struct run *r)
{
	int last = s->dx[0] && s->dx[0]->data == s->dy->data ? 0 : 1;
	if (s->dx[0] == s->dx[1])
		last = 1;
	for (int k = 0; k < 2; k++) {
		int in = k ? last : 1 - last;
		if (s->dx[in])
			flat_run(&(struct flat){.a = s->dy,
			                        .b = s->y,
			                        .y = s->dx[in],
			                        .act = s->act,
			                        .add = s->dx_add[in],
			                        .count = flat_count(s->y, r->n)},
			         mask_items);
	}
}

/* ---- planes: one image's block of channels is one work item ---- */

struct plane_job {
	struct step *s;
	const struct run *r;
	int input, first;
	uint64_t seed;
	bool backward;
};

static void planes_run(struct step *s, const struct run *r, const struct tensor *t, void (*fn)(void *, int, int, int))
{
	wasd_parallel(r->n * blocked_count(t), fn, &(struct plane_job){.s = s, .r = r});
}

/* Average over k x k windows; the global average is one window over the whole map. */
static int window_h(const struct node *nd)
{
	return nd->kh ? nd->kh : nd->in.h;
}
static int window_w(const struct node *nd)
{
	return nd->kh ? nd->kh : nd->in.w;
}
static int window_stride(const struct node *nd)
{
	return nd->kh ? nd->stride : 1;
}

BLOCKED_HOT static void avg_fwd_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	const struct tensor *x = s->x[0], *y = s->y;
	int W = nd->in.w, kh = window_h(nd), kw = window_w(nd), st = window_stride(nd), cb = blocked_count(y);
	bool bf = blocked_of(x)->bf16, bfy = blocked_of(y)->bf16;
	for (int i = begin; i < end; i++) {
		size_t xa = blocked_at(x, i / cb, i % cb), ya = blocked_at(y, i / cb, i % cb);
		for (int oy = 0; oy < nd->shape.h; oy++)
			for (int ox = 0; ox < nd->shape.w; ox++, ya++) {
				v16 sum = v_set(0);
				for (int ky = 0; ky < kh; ky++) {
					v16 row = v_set(0);
					for (int kx = 0; kx < kw; kx++)
						row += v_load(x->data, xa + (size_t)((oy * st + ky) * W + ox * st + kx), bf);
					sum += row;
				}
				v_store(y->data, ya, sum / (float)(kh * kw), bfy);
			}
	}
}

BLOCKED_HOT static void avg_bwd_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct node *nd = s->node;
	const struct tensor *dx = s->dx[0], *dy = s->dy;
	int H = nd->in.h, W = nd->in.w, OH = nd->shape.h, OW = nd->shape.w, kh = window_h(nd), kw = window_w(nd),
		st = window_stride(nd), cb = blocked_count(dy);
	bool bf = blocked_of(dx)->bf16, bfy = blocked_of(dy)->bf16;
	float inv = 1 / (float)(kh * kw);
	for (int i = begin; i < end; i++) {
		size_t xa = blocked_at(dx, i / cb, i % cb), ya = blocked_at(dy, i / cb, i % cb);
		for (int iy = 0; iy < H; iy++)
			for (int ix = 0; ix < W; ix++, xa++) {
				int oy0 = most(iy - kh + st, 0) / st, oy1 = least(iy / st + 1, OH), ox0 = most(ix - kw + st, 0) / st,
					ox1 = least(ix / st + 1, OW);
				v16 sum = v_set(0);
				for (int oy = oy0; oy < oy1; oy++)
					for (int ox = ox0; ox < ox1; ox++)
						sum += v_load(dy->data, ya + (size_t)(oy * OW + ox), bfy);
				sum = sum * inv;
				v_store(dx->data, xa, s->dx_add[0] ? sum + v_load(dx->data, xa, bf) : sum, bf);
			}
	}
}

static void avg_forward(struct step *s, const struct run *r)
{
	planes_run(s, r, s->y, avg_fwd_items);
}

static void avg_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		planes_run(s, r, s->y, avg_bwd_items);
}

/* ---- concat: whole blocks where an input starts at a block, else value by value ---- */

static void concat_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct tensor *part = j->backward ? s->dx[j->input] : s->x[j->input], *whole = j->backward ? s->dy : s->y;
	size_t hw = (size_t)whole->shape.h * (size_t)whole->shape.w, bytes = hw * LANES * blocked_size(whole);
	int cb = blocked_count(part);
	bool add = j->backward && s->dx_add[j->input];
	for (int i = begin; i < end; i++) {
		int n = i / cb, b = i % cb, left = part->shape.c - b * LANES, lanes = left < LANES ? left : LANES;
		size_t pa = blocked_at(part, n, b) * LANES,
			   wa = j->first % LANES ? 0 : blocked_at(whole, n, j->first / LANES + b) * LANES;
		if (j->first % LANES == 0 && lanes == LANES && !add && blocked_of(part)->bf16 == blocked_of(whole)->bf16) {
			char *p = (char *)part->data + pa * blocked_size(part), *w = (char *)whole->data + wa * blocked_size(whole);
			__builtin_memcpy(j->backward ? p : w, j->backward ? w : p, bytes);
			continue;
		}
		for (size_t px = 0; px < hw; px++)
			for (int l = 0; l < lanes; l++) {
				size_t at = pa + px * LANES + (size_t)l, to = place(whole, n, j->first + b * LANES + l, px);
				if (j->backward)
					put(part, at, get(whole, to) + (add ? get(part, at) : 0));
				else
					put(whole, to, get(part, at));
			}
		for (size_t px = 0; j->backward && !add && lanes < LANES && px < hw; px++)
			for (int l = lanes; l < LANES; l++)
				put(part, pa + px * LANES + (size_t)l, 0);
	}
}

static void concat_run(struct step *s, const struct run *r, bool backward)
{
	if (!backward && s->y->shape.c % LANES) /* clear the lanes that belong to no channel */
		memset(s->y->data, 0, (size_t)r->n * s->y->sn * blocked_size(s->y));
	for (int i = 0, first = 0; i < s->n_in; first += s->x[i++]->shape.c)
		if (!backward || s->dx[i])
			wasd_parallel(r->n * blocked_count(s->x[i]), concat_items,
			              &(struct plane_job){.s = s, .r = r, .input = i, .first = first, .backward = backward});
}

static void concat_forward(struct step *s, const struct run *r)
{
	concat_run(s, r, false);
}
static void concat_backward(struct step *s, const struct run *r)
{
	concat_run(s, r, true);
}

/* ---- flatten, dropout, drop-connect: by image ---- */

static void flatten_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	struct step *s = j->s;
	(void)thread;
	const struct tensor *map = j->backward ? s->dx[0] : s->x[0], *row = j->backward ? s->dy : s->y;
	size_t hw = (size_t)map->shape.h * (size_t)map->shape.w;
	for (int n = begin; n < end; n++) {
		const struct tensor *out = j->backward ? map : row;
		if (!j->backward || !s->dx_add[0])
			memset((char *)out->data + (size_t)n * out->sn * blocked_size(out), 0, out->sn * blocked_size(out));
		for (int c = 0; c < map->shape.c; c++)
			for (size_t p = 0; p < hw; p++) {
				size_t m = place(map, n, c, p), f = place(row, n, (int)((size_t)c * hw + p), 0);
				if (j->backward)
					put(map, m, get(map, m) + get(row, f));
				else
					put(row, f, get(map, m));
			}
	}
}

static void flatten_forward(struct step *s, const struct run *r)
{
	wasd_parallel(r->n, flatten_items, &(struct plane_job){.s = s, .r = r});
}

static void flatten_backward(struct step *s, const struct run *r)
{
	if (s->dx[0])
		wasd_parallel(r->n, flatten_items, &(struct plane_job){.s = s, .r = r, .backward = true});
}

static void dropout_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	(void)thread;
	const struct tensor *in = j->backward ? j->s->dy : j->s->x[0], *out = j->backward ? j->s->dx[0] : j->s->y;
	size_t hw = (size_t)in->shape.h * (size_t)in->shape.w;
	int cb = blocked_count(in), C = in->shape.c;
	double p = run_rate(j->r, j->s->node);
	float scale = (float)(1 / (1 - p));
	bool add = j->backward && j->s->dx_add[0];
	for (int i = begin; i < end; i++) {
		int n = i / cb, b = i % cb;
		size_t ia = blocked_at(in, n, b) * LANES, oa = blocked_at(out, n, b) * LANES;
		for (size_t px = 0; px < hw; px++)
			for (int l = 0; l < LANES; l++) {
				uint64_t at = ((uint64_t)n * (uint64_t)C + (uint64_t)(b * LANES + l)) * hw + px;
				bool out_of_it = b * LANES + l >= C || (p > 0 && hash_uniform(j->seed, at) < p);
				float v = out_of_it ? 0 : get(in, ia + px * LANES + (size_t)l) * scale;
				put(out, oa + px * LANES + (size_t)l, add ? v + get(out, oa + px * LANES + (size_t)l) : v);
			}
	}
}

BLOCKED_HOT static void dropchannel_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	(void)thread;
	const struct tensor *in = j->backward ? j->s->dy : j->s->x[0], *out = j->backward ? j->s->dx[0] : j->s->y;
	size_t hw = (size_t)in->shape.h * (size_t)in->shape.w;
	int cb = blocked_count(in), C = in->shape.c;
	double p = run_rate(j->r, j->s->node);
	bool add = j->backward && j->s->dx_add[0], bi = blocked_of(in)->bf16, bo = blocked_of(out)->bf16;
	for (int i = begin; i < end; i++) {
		int n = i / cb, b = i % cb;
		v16 scale = v_set(0);
		for (int l = 0; l < LANES && b * LANES + l < C; l++) {
			uint64_t at = (uint64_t)n * (uint64_t)C + (uint64_t)(b * LANES + l);
			scale[l] = p > 0 && hash_uniform(j->seed, at) < p ? 0 : (float)(1 / (1 - p));
		}
		size_t ia = blocked_at(in, n, b), oa = blocked_at(out, n, b);
		for (size_t px = 0; px < hw; px++) {
			v16 v = v_load(in->data, ia + px, bi) * scale;
			v_store(out->data, oa + px, add ? v + v_load(out->data, oa + px, bo) : v, bo);
		}
	}
}

BLOCKED_HOT static void dropconnect_items(void *ctx, int begin, int end, int thread)
{
	struct plane_job *j = ctx;
	(void)thread;
	const struct tensor *in = j->backward ? j->s->dy : j->s->x[0], *out = j->backward ? j->s->dx[0] : j->s->y;
	size_t hw = (size_t)in->shape.h * (size_t)in->shape.w;
	int cb = blocked_count(in);
	double keep = 1 - run_rate(j->r, j->s->node);
	bool add = j->backward && j->s->dx_add[0], bi = blocked_of(in)->bf16, bo = blocked_of(out)->bf16;
	for (int i = begin; i < end; i++) {
		int n = i / cb, b = i % cb;
		float scale = keep == 1 || keep + hash_uniform(j->seed, (uint64_t)n) >= 1 ? (float)(1 / keep) : 0;
		size_t ia = blocked_at(in, n, b), oa = blocked_at(out, n, b);
		for (size_t px = 0; px < hw; px++) {
			v16 v = scale > 0 ? v_load(in->data, ia + px, bi) * scale : v_set(0);
			v_store(out->data, oa + px, add ? v + v_load(out->data, oa + px, bo) : v, bo);
		}
	}
}

static void drop_plan(struct step *s, int batch, bool training, int threads)
{
	(void)batch;
	(void)training;
	(void)threads;
	s->saved_bytes = sizeof(uint64_t);
}

static void drop_run(struct step *s, const struct run *r, bool backward, void (*items)(void *, int, int, int))
{
	uint64_t *seed = s->saved;
	if (!backward)
		*seed = r->dropping ? wasd_rng_u64(r->dropout) : 0;
	if (!backward && !r->dropping && s->y->data == s->x[0]->data)
		return;
	if (!backward || s->dx[0])
		wasd_parallel(r->n * blocked_count(s->y), items,
		              &(struct plane_job){.s = s, .r = r, .seed = *seed, .backward = backward});
}

static void dropout_forward(struct step *s, const struct run *r)
{
	drop_run(s, r, false, dropout_items);
}
static void dropout_backward(struct step *s, const struct run *r)
{
	drop_run(s, r, true, dropout_items);
}
static void dropchannel_forward(struct step *s, const struct run *r)
{
	drop_run(s, r, false, dropchannel_items);
}
static void dropchannel_backward(struct step *s, const struct run *r)
{
	drop_run(s, r, true, dropchannel_items);
}
static void dropconnect_forward(struct step *s, const struct run *r)
{
	drop_run(s, r, false, dropconnect_items);
}
static void dropconnect_backward(struct step *s, const struct run *r)
{
	drop_run(s, r, true, dropconnect_items);
}

const struct layer_kernel blocked_relu = {.forward = relu_forward, .backward = relu_backward};
const struct layer_kernel blocked_add = {.forward = add_forward, .backward = add_backward};
const struct layer_kernel blocked_concat = {.forward = concat_forward, .backward = concat_backward};
const struct layer_kernel blocked_avgpool = {.forward = avg_forward, .backward = avg_backward};
const struct layer_kernel blocked_globalpool = {.forward = avg_forward, .backward = avg_backward};
const struct layer_kernel blocked_flatten = {.forward = flatten_forward, .backward = flatten_backward};
const struct layer_kernel blocked_dropout = {.plan = drop_plan,
                                             .forward = dropout_forward,
                                             .backward = dropout_backward};
const struct layer_kernel blocked_dropchannel = {.plan = drop_plan,
                                                 .forward = dropchannel_forward,
                                                 .backward = dropchannel_backward};
const struct layer_kernel blocked_dropconnect = {.plan = drop_plan,
                                                 .forward = dropconnect_forward,
                                                 .backward = dropconnect_backward};
