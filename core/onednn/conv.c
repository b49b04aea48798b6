/* onednn/conv.c - the convolution layer on oneDNN primitives.
 *
 * A pass's kernel may be smaller than the node's (dead taps cut off), so a step keeps a small list of variants: one per (images, kernel size,
 * padding), each with a primitive for every direction. A variant is made when it is first met; those of the training law's shifts by one tap
 * are made with the plan. For each direction a variant takes the cheapest of
 *
 *   direct     the kernel as it is, with the unequal padding that follows from the cut
 *   Winograd   F(4x4,3x3), stride 1, float32: all nine taps at about 4/9 of the multiplications. A smaller kernel is laid into 3x3 zeros
 *              ("embedded") when that still wins; so is a kernel without taps or one that lies outside the padding.
 *
 * Weights are master or compact shadow weights, float32 (O,I/groups,kh,kw); they are brought into the primitive's own form in every pass,
 * since every step of training changes them. */
#include "onednn/backend.h"
#include "onednn/blocked.h"
#include "onednn/prim.h"

#include <string.h>

struct direction { struct prim *prim; bool embedded; };
struct variant { int n, kh, kw, pad_top, pad_left; struct direction dir[PRIM_PASSES]; };
struct conv_plan { struct variant *v; int count, cap; bool training; size_t own_bytes, full_bytes, dx_bytes, prim_bytes; };

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* The kernel that smaller ones are laid into: the node's own, with zero rows and columns in place of negative padding, which oneDNN does not take. */
struct grid { int kh, kw, pad_top, pad_left; };

static void widen(int *k, int *begin, int in, int out, int stride)
{
	if (*k < 1)
		*k = 1;
	if (*begin < 0) {
		*k -= *begin;
		*begin = 0;
	}
	int end = (out - 1) * stride + *k - in - *begin;
	if (end < 0)
		*k -= end;
}

static struct grid grid_of(const struct node *nd)
{
	struct grid g = { nd->kh, nd->kw, nd->pad_top, nd->pad_left };
	widen(&g.kh, &g.pad_top, nd->in.h, nd->shape.h, nd->stride);
	widen(&g.kw, &g.pad_left, nd->in.w, nd->shape.w, nd->stride);
	return g;
}

static size_t full_count(const struct node *nd)
{
	struct grid g = grid_of(nd);
	return (size_t)nd->out * (size_t)(nd->in.c / nd->groups) * (size_t)(g.kh * g.kw);
}

/* Whether the windows of a kernel end at least `stride` short of the image's edge, or begin inside it. */
static bool cropped(int k, int begin, int in, int out, int stride)
{
	return k < 1 || begin < 0 || (out - 1) * stride + k - in - begin <= -stride;
}

static struct prim_conv shape_of(const struct step *s, const struct variant *v, bool training, bool embedded)
{
	const struct node *nd = s->node;
	struct grid g = embedded ? grid_of(nd) : (struct grid){ v->kh, v->kw, v->pad_top, v->pad_left };
	struct prim_conv c = {
		.n = v->n, .c = nd->in.c, .h = nd->in.h, .w = nd->in.w, .out = nd->out, .oh = nd->shape.h, .ow = nd->shape.w, .stride = nd->stride, .groups = nd->groups,
		.kh = g.kh, .kw = g.kw, .pad_top = g.pad_top, .pad_left = g.pad_left,
		.x_plain = blocked_of(s->x[0])->plain, .x_bf16 = blocked_of(s->x[0])->bf16, .y_bf16 = blocked_of(s->y)->bf16,
		.bias = nd->bias >= 0, .training = training,
	};
	if (!training) {
		c.residual = s->has_res;
		c.act = s->act;
	}
	return c;
}

/* Cost of Winograd in taps of the direct algorithm, per direction. */
static const double winograd_taps[PRIM_PASSES] = { 4.5, 4.5, 5.6 };

static struct direction pick(const struct step *s, const struct variant *v, bool training, enum prim_pass pass)
{
	const struct node *nd = s->node;
	bool must = cropped(v->kh, v->pad_top, nd->in.h, nd->shape.h, nd->stride) || cropped(v->kw, v->pad_left, nd->in.w, nd->shape.w, nd->stride);
	struct direction d = { NULL, must };
	struct prim_conv c = shape_of(s, v, training, true);
	bool full = v->kh == c.kh && v->kw == c.kw;
	bool try = !s->strict && c.kh == 3 && c.kw == 3 && nd->stride == 1 && nd->groups == 1 && !c.y_bf16 && nd->in.c >= LANES;
	if (try && (must || v->kh * v->kw > winograd_taps[pass]) && (d.prim = prim_create(pass, PRIM_WINOGRAD, &c)) != NULL) {
		d.embedded = !full;
		return d;
	}
	c = shape_of(s, v, training, must);
	d.prim = prim_create(pass, PRIM_DIRECT, &c);
	if (!d.prim)
		d.prim = prim_create(pass, PRIM_ANY, &c);
	return d;
}

static void variant_done(struct variant *v)
{
	for (int p = 0; p < PRIM_PASSES; p++)
		prim_destroy(v->dir[p].prim);
}

/* The variant for n images and the kernel of the pass; NULL with s->status set when it cannot be made. */
static struct variant *variant_of(struct step *s, int n)
{
	struct conv_plan *cp = s->plan;
	for (int i = 0; i < cp->count; i++) {
		struct variant *v = &cp->v[i];
		if (v->n == n && v->kh == s->kh && v->kw == s->kw && v->pad_top == s->pad_top && v->pad_left == s->pad_left)
			return v;
	}
	if (cp->count == cp->cap) {
		int cap = cp->cap ? 2 * cp->cap : 4;
		struct variant *v = wasd_realloc(cp->v, (size_t)cap * sizeof *v);
		if (!v) {
			s->status = WASD_ENOMEM;
			return NULL;
		}
		cp->v = v;
		cp->cap = cap;
	}
	struct variant v = { .n = n, .kh = s->kh, .kw = s->kw, .pad_top = s->pad_top, .pad_left = s->pad_left };
	for (int p = 0; p < PRIM_PASSES; p++) {
		if (p == PRIM_FORWARD || (cp->training && (p == PRIM_WEIGHTS || s->dx[0]))) {
			v.dir[p] = pick(s, &v, cp->training, p);
			if (!v.dir[p].prim) {
				variant_done(&v);
				s->status = WASD_EUNSUPPORTED;
				return NULL;
			}
		}
	}
	cp->v[cp->count] = v;
	return &cp->v[cp->count++];
}

/* ---- scratch: own weights, plain full kernel, input gradient to be added, the primitive's own ---- */

struct parts { void *own, *prim; float *full; void *dx; };

static struct parts parts_of(const struct conv_plan *cp, void *scratch)
{
	struct parts p;
	p.own = scratch;
	p.full = (float *)((char *)scratch + cp->own_bytes);
	p.dx = (char *)p.full + cp->full_bytes;
	p.prim = (char *)p.dx + cp->dx_bytes;
	return p;
}

static void grow(struct conv_plan *cp, const struct variant *v)
{
	for (int p = 0; p < PRIM_PASSES; p++) {
		if (!v->dir[p].prim)
			continue;
		size_t own = aligned(prim_weight_bytes(v->dir[p].prim)), prim = aligned(prim_scratch_bytes(v->dir[p].prim));
		cp->own_bytes = own > cp->own_bytes ? own : cp->own_bytes;
		cp->prim_bytes = prim > cp->prim_bytes ? prim : cp->prim_bytes;
	}
}

/* A variant that came after the plan may not need more than was planned; half as much again is put aside for it. */
static bool fits(struct step *s, const struct direction *d)
{
	const struct conv_plan *cp = s->plan;
	if (prim_weight_bytes(d->prim) <= cp->own_bytes && prim_scratch_bytes(d->prim) <= cp->prim_bytes)
		return true;
	s->status = WASD_ENOMEM;
	return false;
}

static void conv_unplan(struct step *s)
{
	struct conv_plan *cp = s->plan;
	for (int i = 0; cp && i < cp->count; i++)
		variant_done(&cp->v[i]);
	if (cp)
		wasd_free(cp->v);
	wasd_free(cp);
	s->plan = NULL;
}

static void conv_plan(struct step *s, int batch, bool training, int threads)
{
	const struct node *nd = s->node;
	(void)threads;
	struct conv_plan *cp = s->plan = wasd_calloc(1, sizeof *cp);
	if (!cp) {
		s->status = WASD_ENOMEM;
		return;
	}
	cp->training = training;
	cp->full_bytes = aligned(full_count(nd) * sizeof(float) + (size_t)nd->out * sizeof(float));
	cp->dx_bytes = training && s->dx[0] ? aligned(s->dx[0]->bytes) : 0;
	bool shifts = training && nd->aug >= 0 && nd->kh >= 3 && nd->kw >= 3;
	for (int dy = -shifts; dy <= shifts; dy++)
		for (int dx = -shifts; dx <= shifts; dx++) {
			s->kh = nd->kh - (dy != 0);
			s->kw = nd->kw - (dx != 0);
			s->pad_top = nd->pad_top - (dy > 0);
			s->pad_left = nd->pad_left - (dx > 0);
			const struct variant *v = variant_of(s, batch);
			if (!v)
				return;
			grow(cp, v);
		}
	cp->prim_bytes += cp->prim_bytes / 2;
	cp->own_bytes += cp->own_bytes / 2;
	s->scratch_bytes = cp->own_bytes + cp->full_bytes + cp->dx_bytes + cp->prim_bytes;
}

/* ---- passes ---- */

/* The compact kernel in the middle of zeros, or taken out of the full one and added. */
struct embed_job { const struct step *s; float *full; const float *compact; float *sum; };

static void embed_rows(void *ctx, int begin, int end, int thread)
{
	const struct embed_job *j = ctx;
	const struct node *nd = j->s->node;
	struct grid g = grid_of(nd);
	int kh = j->s->kh, kw = j->s->kw, y0 = g.pad_top - j->s->pad_top, x0 = g.pad_left - j->s->pad_left;
	size_t each = (size_t)(nd->in.c / nd->groups), k2 = (size_t)(g.kh * g.kw), c2 = (size_t)(kh * kw);
	(void)thread;
	for (size_t r = (size_t)begin * each; r < (size_t)end * each; r++) {
		float *f = j->full + r * k2;
		if (j->compact)
			memset(f, 0, k2 * sizeof *f);
		for (int y = 0; y < kh; y++)
			for (int x = 0; x < kw; x++) {
				size_t at = (size_t)((y0 + y) * g.kw + x0 + x), c = r * c2 + (size_t)(y * kw + x);
				if (j->compact)
					f[at] = j->compact[c];
				else
					j->sum[c] += f[at];
			}
	}
}

static bool bring_weights(const struct step *s, const struct direction *d, const struct parts *p)
{
	const float *w = s->weight;
	if (d->embedded) {
		wasd_parallel(s->node->out, embed_rows, &(struct embed_job){ .s = s, .full = p->full, .compact = w });
		w = p->full;
	}
	return prim_weights_in(d->prim, w, p->own, p->prim);
}

static void conv_forward(struct step *s, const struct run *r)
{
	struct variant *v = variant_of(s, r->n);
	if (!v || !fits(s, &v->dir[PRIM_FORWARD]))
		return;
	struct parts p = parts_of(s->plan, r->scratch);
	if (s->has_res)
		blocked_copy(s->x[1], s->y, r->n, false);
	if (!bring_weights(s, &v->dir[PRIM_FORWARD], &p) ||
	    !prim_run(v->dir[PRIM_FORWARD].prim, s->x[0]->data, p.own, (float *)(uintptr_t)s->bias, s->y->data, p.prim))
		s->status = WASD_EINTERNAL;
}

static bool weight_gradient(struct step *s, const struct direction *d, const struct parts *p)
{
	const struct node *nd = s->node;
	float *bias = p->full + full_count(nd);
	if (!prim_run(d->prim, s->x[0]->data, p->own, bias, s->dy->data, p->prim))
		return false;
	for (int o = 0; s->dbias && o < nd->out; o++)
		s->dbias[o] += bias[o];
	if (!d->embedded)
		return prim_weights_add(d->prim, p->own, s->dweight, p->prim);
	memset(p->full, 0, full_count(nd) * sizeof(float));
	if (!prim_weights_add(d->prim, p->own, p->full, p->prim))
		return false;
	wasd_parallel(nd->out, embed_rows, &(struct embed_job){ .s = s, .full = p->full, .sum = s->dweight });
	return true;
}

static bool data_gradient(struct step *s, const struct run *r, const struct direction *d, const struct parts *p)
{
	if (!bring_weights(s, d, p))
		return false;
	if (!s->dx_add[0])
		return prim_run(d->prim, s->dx[0]->data, p->own, NULL, s->dy->data, p->prim);
	struct tensor sum = *s->dx[0];
	sum.data = p->dx;
	if (!prim_run(d->prim, sum.data, p->own, NULL, s->dy->data, p->prim))
		return false;
	blocked_copy(&sum, s->dx[0], r->n, true);
	return true;
}

static void conv_backward(struct step *s, const struct run *r)
{
	struct variant *v = variant_of(s, r->n);
	if (!v || !fits(s, &v->dir[PRIM_WEIGHTS]) || (s->dx[0] && !fits(s, &v->dir[PRIM_DATA])))
		return;
	struct parts p = parts_of(s->plan, r->scratch);
	if (!weight_gradient(s, &v->dir[PRIM_WEIGHTS], &p) || (s->dx[0] && !data_gradient(s, r, &v->dir[PRIM_DATA], &p)))
		s->status = WASD_EINTERNAL;
}

const struct layer_kernel onednn_conv = { .plan = conv_plan, .forward = conv_forward, .backward = conv_backward, .unplan = conv_unplan };
