/* onednn/blocked_bn.c - batch normalisation with residual and activation in blocks of 16 channels; the formulas are in
 * layers/batchnorm.c.
 *
 * Work items are (group of images) x (block of channels). Moments and gradient sums of the items are joined over the
 * groups in fixed order, so the result depends on the plan but not on which thread ran which item.
 *
 * Most maps are larger than the caches, and the previous pass, here or in a convolution, went through the images
 * forwards. So the passes that only sum go backwards, which meets recently touched data first, and the pass that writes
 * goes forwards again. */
#include "onednn/blocked_vec.h"

#include <math.h>

#define PIXELS 128 /* per chunk, which is summed in float */

struct lanes {
	float v[LANES];
};
struct bn_saved {
	struct lanes mean, inv;
}; /* per block of channels */
struct bn_part {
	double n, a[LANES], b[LANES];
}; /* forward: mean, squared deviations; backward: sum g, sum g(x-mean) */
struct bn_coef {
	struct lanes p, q, r, scale, shift, mean;
};
struct bn_job {
	struct step *s;
	const struct run *r;
	int parts;
	struct bn_part *part;
	struct bn_coef *coef;
};

#define PIECE 262144 /* approximate bytes per work item */

static int parts_for(const struct step *s, int n, int threads)
{
	int blocks = blocked_count(s->y), parts = (4 * threads + blocks - 1) / blocks;
	size_t by_size = (size_t)n * s->y->sc * blocked_size(s->y) / PIECE;
	parts = by_size > (size_t)parts ? (int)by_size : parts;
	return parts < 1 ? 1 : parts > n ? n : parts;
}

static void bn_plan(struct step *s, int batch, bool training, int threads)
{
	int blocks = blocked_count(s->y);
	s->saved_bytes = training ? (size_t)blocks * sizeof(struct bn_saved) : 0;
	s->scratch_bytes = (size_t)blocks *
	                   ((size_t)parts_for(s, batch, threads) * sizeof(struct bn_part) + sizeof(struct bn_coef));
}

static struct bn_job job_of(struct step *s, const struct run *r)
{
	struct bn_job j = {.s = s, .r = r, .parts = parts_for(s, r->n, r->threads), .part = r->scratch};
	j.coef = (struct bn_coef *)(j.part + (size_t)blocked_count(s->y) * (size_t)j.parts);
	return j;
}

/* Chan's formula: joins two parts with means and squared deviations of their own. */
static void join(struct bn_part *m, const struct bn_part *o)
{
	double total = m->n + o->n;
	for (int l = 0; l < LANES; l++) {
		double d = o->a[l] - m->a[l];
		m->b[l] += o->b[l] + d * d * m->n * o->n / total;
		m->a[l] += d * o->n / total;
	}
	m->n = total;
}

typedef double d16 __attribute__((vector_size(128)));

/* Sums of x-pivot and their squares over all pixels of images n0 to n1 of a block: in float within a chunk, in double
 * over the chunks. The pivot is the mean of the first chunk, so the squares stay about as small as the variance. */
BLOCKED_INLINE void moments(struct bn_part *m, const struct tensor *x, int n0, int n1, int block, bool bf16)
{
	size_t pixels = (size_t)x->shape.h * (size_t)x->shape.w, first = pixels < PIXELS ? pixels : PIXELS;
	v16 pivot = v_set(0);
	for (size_t i = 0; i < first; i++)
		pivot += v_load(x->data, blocked_at(x, n0, block) + i, bf16);
	pivot /= (float)first;
	d16 sum = {0}, squares = {0};
	for (int n = n0; n < n1; n++)
		for (size_t p = 0, at = blocked_at(x, n, block); p < pixels; p += PIXELS) {
			size_t len = pixels - p < PIXELS ? pixels - p : PIXELS, i = 0;
			v16 s0 = v_set(0), s1 = s0, q0 = s0, q1 = s0;
			for (; i + 2 <= len; i += 2) {
				v16 a = v_load(x->data, at + p + i, bf16) - pivot, b = v_load(x->data, at + p + i + 1, bf16) - pivot;
				s0 += a;
				s1 += b;
				q0 += a * a;
				q1 += b * b;
			}
			if (i < len) {
				v16 a = v_load(x->data, at + p + i, bf16) - pivot;
				s0 += a;
				q0 += a * a;
			}
			sum += __builtin_convertvector(s0 + s1, d16);
			squares += __builtin_convertvector(q0 + q1, d16);
		}
	m->n = (double)(n1 - n0) * (double)pixels;
	for (int l = 0; l < LANES; l++) {
		double off = sum[l] / m->n;
		m->a[l] = (double)pivot[l] + off;
		m->b[l] = squares[l] - m->n * off * off;
	}
}

BLOCKED_HOT static void moments_any(struct bn_part *m, const struct tensor *x, int n0, int n1, int block)
{
	if (blocked_of(x)->bf16)
		moments(m, x, n0, n1, block, true);
	else
		moments(m, x, n0, n1, block, false);
}

/* Work item i: a block of channels in images n0 to n1-1, and the place for its sums. */
struct piece {
	int block, n0, n1;
	struct bn_part *part;
};

static struct piece piece_of(const struct bn_job *j, int i)
{
	int blocks = blocked_count(j->s->y), block = i % blocks, part = i / blocks, n = j->r->n;
	return (struct piece){block, (int)((int64_t)n * part / j->parts), (int)((int64_t)n * (part + 1) / j->parts),
	                      &j->part[block * j->parts + part]};
}

static void moments_items(void *ctx, int begin, int end, int thread)
{
	const struct bn_job *j = ctx;
	(void)thread;
	for (int i = end - 1; i >= begin; i--) {
		struct piece w = piece_of(j, i);
		memset(w.part, 0, sizeof *w.part);
		if (w.n1 > w.n0)
			moments_any(w.part, j->s->x[0], w.n0, w.n1, w.block);
	}
}

/* Mean and variance of a block, from its parts (batch) or from the stored set; updates running values; computes scale
 * and shift. */
static void prepare_block(struct bn_job *j, int block)
{
	struct step *s = j->s;
	struct bn_coef *c = &j->coef[block];
	struct bn_part m = {0};
	for (int p = 0; j->r->bn == WASD_BN_BATCH && p < j->parts; p++)
		if (j->part[block * j->parts + p].n > 0)
			join(&m, &j->part[block * j->parts + p]);
	memset(c, 0, sizeof *c);
	for (int l = 0; l < LANES && block * LANES + l < s->y->shape.c; l++) {
		int ch = block * LANES + l;
		double mean, var;
		if (j->r->bn == WASD_BN_BATCH) {
			mean = m.a[l];
			var = m.b[l] > 0 ? m.b[l] / m.n : m.b[l] * 0;
			if (j->r->update) {
				double mom = j->r->momentum > 0 ? j->r->momentum : s->momentum,
					   unbiased = m.n > 1 ? m.b[l] / (m.n - 1) : var;
				s->mean[ch] = layer_running(s->mean[ch], mean, mom);
				s->var[ch] = layer_running(s->var[ch], unbiased, mom);
			}
		} else {
			mean = (double)s->mean[ch];
			var = (double)s->var[ch];
		}
		double inv = 1 / sqrt(var + s->eps);
		c->scale.v[l] = (float)((double)s->weight[ch] * inv);
		c->shift.v[l] = (float)((double)s->bias[ch] - mean * (double)s->weight[ch] * inv);
		if (s->saved) {
			((struct bn_saved *)s->saved)[block].mean.v[l] = (float)mean;
			((struct bn_saved *)s->saved)[block].inv.v[l] = (float)inv;
		}
	}
}

/* Which of a step's tensors are bfloat16. What leads to the logits is float32 beside them. */
struct halves {
	bool x, res, y;
};

BLOCKED_INLINE struct halves halves_of(const struct step *s)
{
	bool y = blocked_of(s->y)->bf16;
	return (struct halves){blocked_of(s->x[0])->bf16, s->has_res ? blocked_of(s->x[1])->bf16 : y, y};
}

BLOCKED_INLINE bool mixed(struct halves h)
{
	return h.x != h.y || h.res != h.y;
}

BLOCKED_INLINE struct halves alike(bool bf16)
{
	return (struct halves){bf16, bf16, bf16};
}

BLOCKED_INLINE void normalise(const struct step *s, const struct bn_coef *c, size_t xa, size_t ra, size_t ya,
                              size_t len, struct halves h, enum act act, bool res)
{
	v16 scale, shift;
	__builtin_memcpy(&scale, &c->scale, sizeof scale);
	__builtin_memcpy(&shift, &c->shift, sizeof shift);
	for (size_t i = 0; i < len; i++) {
		v16 v = v_load(s->x[0]->data, xa + i, h.x) * scale + shift;
		if (res)
			v += v_load(s->x[1]->data, ra + i, h.res);
		v_store(s->y->data, ya + i, v_act(act, v), h.y);
	}
}

BLOCKED_HOT static void normalise_any(const struct step *s, const struct bn_coef *c, size_t xa, size_t ra, size_t ya,
                                      size_t len)
{
	struct halves h = halves_of(s);
	if (mixed(h)) {
		normalise(s, c, xa, ra, ya, len, h, s->act, s->has_res);
	} else if (h.y) {
		if (s->has_res)
			normalise(s, c, xa, ra, ya, len, alike(true), s->act, true);
		else
			normalise(s, c, xa, ra, ya, len, alike(true), s->act, false);
	} else if (s->has_res) {
		normalise(s, c, xa, ra, ya, len, alike(false), s->act, true);
	} else {
		normalise(s, c, xa, ra, ya, len, alike(false), s->act, false);
	}
}

static void normalise_items(void *ctx, int begin, int end, int thread)
{
	struct bn_job *j = ctx;
	(void)thread;
	const struct step *s = j->s;
	size_t hw = (size_t)s->y->shape.h * (size_t)s->y->shape.w;
	for (int i = begin; i < end; i++) {
		struct piece w = piece_of(j, i);
		for (int n = w.n0; n < w.n1; n++)
			normalise_any(s, &j->coef[w.block], blocked_at(s->x[0], n, w.block),
			              s->has_res ? blocked_at(s->x[1], n, w.block) : 0, blocked_at(s->y, n, w.block), hw);
	}
}

static void bn_forward(struct step *s, const struct run *r)
{
	struct bn_job j = job_of(s, r);
	int blocks = blocked_count(s->y);
	if (r->bn == WASD_BN_BATCH)
		wasd_parallel(blocks * j.parts, moments_items, &j);
	for (int b = 0; b < blocks; b++)
		prepare_block(&j, b);
	wasd_parallel(blocks * j.parts, normalise_items, &j);
}

/* ---- backward ---- */

/* g = dy * act'(y); y is recomputed from x if there is no residual. */
BLOCKED_INLINE v16 gradient(const struct step *s, v16 x, v16 scale, v16 shift, size_t ya, size_t i, bool bf16)
{
	v16 g = v_load(s->dy->data, ya + i, bf16);
	if (s->act == ACT_NONE)
		return g;
	return v_mask(s->act, s->has_res ? v_load(s->y->data, ya + i, bf16) : x * scale + shift, g);
}

BLOCKED_INLINE void sums(const struct step *s, const struct bn_coef *c, struct bn_part *part, size_t xa, size_t ya,
                         size_t pixels, struct halves h)
{
	v16 scale, shift, mean;
	__builtin_memcpy(&scale, &c->scale, sizeof scale);
	__builtin_memcpy(&shift, &c->shift, sizeof shift);
	__builtin_memcpy(&mean, &c->mean, sizeof mean);
	d16 tg, tx;
	__builtin_memcpy(&tg, part->a, sizeof tg);
	__builtin_memcpy(&tx, part->b, sizeof tx);
	for (size_t p = 0; p < pixels; p += PIXELS) {
		size_t len = pixels - p < PIXELS ? pixels - p : PIXELS;
		v16 sg = v_set(0), sx = sg;
		for (size_t i = p; i < p + len; i++) {
			v16 x = v_load(s->x[0]->data, xa + i, h.x), g = gradient(s, x, scale, shift, ya, i, h.y);
			sg += g;
			sx += g * (x - mean);
		}
		tg += __builtin_convertvector(sg, d16);
		tx += __builtin_convertvector(sx, d16);
	}
	__builtin_memcpy(part->a, &tg, sizeof tg);
	__builtin_memcpy(part->b, &tx, sizeof tx);
}

BLOCKED_HOT static void sums_any(const struct step *s, const struct bn_coef *c, struct bn_part *part, size_t xa,
                                 size_t ya, size_t pixels)
{
	struct halves h = halves_of(s);
	if (mixed(h))
		sums(s, c, part, xa, ya, pixels, h);
	else if (h.y)
		sums(s, c, part, xa, ya, pixels, alike(true));
	else
		sums(s, c, part, xa, ya, pixels, alike(false));
}

static void sums_items(void *ctx, int begin, int end, int thread)
{
	struct bn_job *j = ctx;
	(void)thread;
	const struct step *s = j->s;
	size_t hw = (size_t)s->y->shape.h * (size_t)s->y->shape.w;
	for (int i = end - 1; i >= begin; i--) {
		struct piece w = piece_of(j, i);
		memset(w.part, 0, sizeof *w.part);
		for (int n = w.n0; n < w.n1; n++)
			sums_any(s, &j->coef[w.block], w.part, blocked_at(s->x[0], n, w.block), blocked_at(s->y, n, w.block), hw);
	}
}

/* dx = p*g + q*(x-mean) + r */
BLOCKED_INLINE void apply(const struct step *s, const struct bn_coef *c, size_t at, size_t len, struct halves h)
{
	v16 p, q, r, scale, shift, mean;
	__builtin_memcpy(&p, &c->p, sizeof p);
	__builtin_memcpy(&q, &c->q, sizeof q);
	__builtin_memcpy(&r, &c->r, sizeof r);
	__builtin_memcpy(&scale, &c->scale, sizeof scale);
	__builtin_memcpy(&shift, &c->shift, sizeof shift);
	__builtin_memcpy(&mean, &c->mean, sizeof mean);
	void *dx = s->dx[0] ? s->dx[0]->data : NULL, *dres = s->has_res && s->dx[1] ? s->dx[1]->data : NULL;
	bool dx_add = s->dx_add[0], res_add = s->has_res && s->dx_add[1];
	for (size_t i = at; i < at + len; i++) {
		v16 x = v_load(s->x[0]->data, i, h.x), g = gradient(s, x, scale, shift, i, 0, h.y);
		if (dx) {
			v16 d = p * g + q * (x - mean) + r;
			v_store(dx, i, dx_add ? d + v_load(dx, i, h.x) : d, h.x);
		}
		if (dres)
			v_store(dres, i, res_add ? g + v_load(dres, i, h.res) : g, h.res);
	}
}

BLOCKED_HOT static void apply_any(const struct step *s, const struct bn_coef *c, size_t at, size_t len)
{
	struct halves h = halves_of(s);
	if (mixed(h))
		apply(s, c, at, len, h);
	else if (h.y)
		apply(s, c, at, len, alike(true));
	else
		apply(s, c, at, len, alike(false));
}

static void apply_items(void *ctx, int begin, int end, int thread)
{
	struct bn_job *j = ctx;
	(void)thread;
	const struct step *s = j->s;
	size_t hw = (size_t)s->y->shape.h * (size_t)s->y->shape.w;
	for (int i = begin; i < end; i++) {
		struct piece w = piece_of(j, i);
		for (int n = w.n0; n < w.n1; n++)
			apply_any(s, &j->coef[w.block], blocked_at(s->y, n, w.block), hw);
	}
}

static void bn_backward(struct step *s, const struct run *r)
{
	struct bn_job j = job_of(s, r);
	const struct bn_saved *saved = s->saved;
	int blocks = blocked_count(s->y), C = s->y->shape.c;
	memset(j.coef, 0, (size_t)blocks * sizeof *j.coef);
	for (int c = 0; c < C; c++) {
		struct bn_coef *k = &j.coef[c / LANES];
		double inv = (double)saved[c / LANES].inv.v[c % LANES], mean = (double)saved[c / LANES].mean.v[c % LANES];
		k->mean.v[c % LANES] = (float)mean;
		k->scale.v[c % LANES] = (float)((double)s->weight[c] * inv);
		k->shift.v[c % LANES] = (float)((double)s->bias[c] - mean * (double)s->weight[c] * inv);
	}
	wasd_parallel(blocks * j.parts, sums_items, &j);
	double m = (double)r->n * s->y->shape.h * s->y->shape.w;
	for (int c = 0; c < C; c++) {
		struct bn_coef *k = &j.coef[c / LANES];
		int l = c % LANES;
		double g = 0, gx = 0, inv = (double)saved[c / LANES].inv.v[l], a = (double)s->weight[c] * inv;
		for (int p = 0; p < j.parts; p++) {
			g += j.part[c / LANES * j.parts + p].a[l];
			gx += j.part[c / LANES * j.parts + p].b[l];
		}
		s->dbias[c] += (real)g;
		s->dweight[c] += (real)(gx * inv);
		k->p.v[l] = (float)a;
		if (r->bn == WASD_BN_BATCH) {
			k->q.v[l] = (float)(-a * gx * inv * inv / m);
			k->r.v[l] = (float)(-a * g / m);
		}
	}
	wasd_parallel(blocks * j.parts, apply_items, &j);
}

const struct layer_kernel blocked_batchnorm = {.plan = bn_plan, .forward = bn_forward, .backward = bn_backward};
