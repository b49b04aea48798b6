/* onednn/conv.c - the convolution layer. A variant (variant.h) holds the algorithm of each pass.
 *
 * Weights are master weights or compact shadow weights, float32 (O,I/groups,kh,kw), and each algorithm needs them in
 * its own form. Training changes them in every step, so every pass converts them. The constant weights of a served
 * model are converted once and kept (packs.h). */
#include "onednn/backend.h"
#include "onednn/blocked.h"
#include "onednn/depthwise.h"
#include "onednn/variant.h"

#include <string.h>

struct conv_plan {
	struct variant *v;
	int count, cap;
	bool training, keeps;
	size_t own_bytes, full_bytes, dx_bytes, prim_bytes, x_bytes;
	void *late;
	size_t late_bytes;
	void *sums;
};

static size_t full_count(const struct step *s)
{
	struct grid g = grid_of(s->node);
	return (size_t)s->node->out * (size_t)filter_channels(s) * (size_t)(g.kh * g.kw);
}

/* Returns the variant for n images and the kernel of the pass, creating it on first use; NULL, with s->status set, on
 * failure. */
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
	cp->v[cp->count] =
		(struct variant){.n = n, .kh = s->kh, .kw = s->kw, .pad_top = s->pad_top, .pad_left = s->pad_left};
	return variant_create(s, &cp->v[cp->count], cp->training) ? &cp->v[cp->count++] : NULL;
}

/* ---- scratch: converted weights, plain full kernel, input gradient to add, workspace of the primitive ---- */

struct parts {
	void *own, *prim;
	float *full;
	void *dx;
};

static size_t own_bytes(const struct conv_plan *cp, const struct direction *d)
{
	return cp->keeps ? 0 : wasd_aligned(direction_weight_bytes(d));
}
static size_t prim_bytes(const struct direction *d)
{
	return wasd_aligned(direction_scratch_bytes(d));
}

/* Finds the scratch parts of a pass. A variant created after planning (a rare draw) may need more than was planned: its
 * weights and workspace are then in a block allocated on first use and kept. False: no memory. */
static bool parts_of(struct step *s, const struct direction *d, void *scratch, struct parts *p)
{
	struct conv_plan *cp = s->plan;
	p->own = scratch;
	p->full = (float *)((char *)scratch + cp->own_bytes);
	p->dx = (char *)p->full + cp->full_bytes;
	p->prim = (char *)p->dx + cp->dx_bytes;
	size_t own = own_bytes(cp, d), prim = prim_bytes(d);
	if (own <= cp->own_bytes && prim <= cp->prim_bytes)
		return true;
	if (own + prim > cp->late_bytes) {
		tensor_free(cp->late);
		cp->late = tensor_alloc(own + prim);
		cp->late_bytes = cp->late ? own + prim : 0;
	}
	p->own = cp->late;
	p->prim = (char *)cp->late + own;
	if (!cp->late)
		s->status = WASD_ENOMEM;
	return cp->late != NULL;
}

static void grow(struct conv_plan *cp, const struct variant *v)
{
	for (int p = 0; p < PRIM_PASSES; p++) {
		size_t own = own_bytes(cp, &v->dir[p]), prim = prim_bytes(&v->dir[p]);
		cp->own_bytes = own > cp->own_bytes ? own : cp->own_bytes;
		cp->prim_bytes = prim > cp->prim_bytes ? prim : cp->prim_bytes;
	}
}

static void conv_unplan(struct step *s)
{
	struct conv_plan *cp = s->plan;
	for (int i = 0; cp && i < cp->count; i++)
		variant_done(&cp->v[i]);
	if (cp) {
		tensor_free(cp->late);
		tensor_free(cp->sums);
		wasd_free(cp->v);
	}
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
	cp->keeps = s->packs && nd->weight >= 0;
	cp->full_bytes = wasd_aligned(full_count(s) * sizeof(float) + (size_t)nd->out * sizeof(float));
	cp->x_bytes = wasd_aligned(s->x[0]->bytes);
	cp->dx_bytes = training && s->dx[0] ? wasd_aligned(s->dx[0]->bytes) : 0;
	bool shifts = training && s->varies && nd->kh >= 3 && nd->kw >= 3;
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
	s->scratch_bytes = cp->own_bytes + cp->full_bytes + cp->dx_bytes + cp->prim_bytes;
}

/* ---- passes ---- */

/* Places the compact kernel in the middle of zeros, or extracts it from the full kernel and adds it. */
struct embed_job {
	const struct step *s;
	float *full;
	const float *compact;
	float *sum;
};

static void embed_rows(void *ctx, int begin, int end, int thread)
{
	const struct embed_job *j = ctx;
	const struct node *nd = j->s->node;
	struct grid g = grid_of(nd);
	int kh = j->s->kh, kw = j->s->kw, y0 = g.pad_top - j->s->pad_top, x0 = g.pad_left - j->s->pad_left;
	size_t each = (size_t)(nd->in.c / nd->groups), room = (size_t)filter_channels(j->s), k2 = (size_t)(g.kh * g.kw),
		   c2 = (size_t)(kh * kw);
	(void)thread;
	if (j->compact)
		memset(j->full + (size_t)begin * room * k2, 0, (size_t)(end - begin) * room * k2 * sizeof *j->full);
	for (size_t r = (size_t)begin * each; r < (size_t)end * each; r++) {
		float *f = j->full + (r / each * room + r % each) * k2;
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

struct bring {
	const struct step *s;
	const struct direction *d;
	const struct parts *p;
	bool back;
};

static bool bring(void *ctx, void *to)
{
	const struct bring *b = ctx;
	const float *w = b->s->weight;
	if (b->d->minimal.n) {
		minimal_weights_in(&b->d->minimal, b->back, w, to);
		return true;
	}
	if (b->d->taps.n) {
		taps_weights_in(&b->d->taps, b->back, w, to);
		return true;
	}
	if (b->d->embedded) {
		wasd_parallel(b->s->node->out, embed_rows, &(struct embed_job){.s = b->s, .full = b->p->full, .compact = w});
		w = b->p->full;
	}
	return prim_weights_in(b->d->prim, w, to, b->p->prim);
}

/* Returns the weights of the pass in the form that d needs; NULL on failure. */
static const void *weights_for(const struct step *s, const struct direction *d, const struct parts *p, bool back)
{
	struct bring b = {s, d, p, back};
	if (((const struct conv_plan *)s->plan)->keeps)
		return packs_get(s->packs, s->weight, direction_form(d), direction_weight_bytes(d), bring, &b);
	return bring(&b, p->own) ? p->own : NULL;
}

/* Returns the input that the weights apply to: x, or its sums over the windows of a box. There is one copy of the sums,
 * recomputed in each pass: reading x once more is cheaper than keeping them. The block behind the sums is for their
 * gradient. NULL: no memory. */
static const void *input_of(struct step *s, const struct run *r)
{
	struct conv_plan *cp = s->plan;
	if (!s->box.h)
		return s->x[0]->data;
	if (!cp->sums && !(cp->sums = tensor_alloc(cp->training ? 2 * cp->x_bytes : cp->x_bytes))) {
		s->status = WASD_ENOMEM;
		return NULL;
	}
	struct tensor sums = *s->x[0];
	sums.data = cp->sums;
	blocked_box_sum(s->x[0], &sums, s->box, r->n);
	return sums.data;
}

static void conv_forward(struct step *s, const struct run *r)
{
	struct variant *v = variant_of(s, r->n);
	struct parts p;
	if (!v || !parts_of(s, &v->dir[PRIM_FORWARD], r->scratch, &p))
		return;
	const void *x = input_of(s, r);
	if (!x)
		return;
	const struct direction *d = &v->dir[PRIM_FORWARD];
	const void *w = weights_for(s, d, &p, false);
	const void *residual = s->has_res ? s->x[1]->data : NULL;
	if (w && d->minimal.n) {
		minimal_forward(&d->minimal, x, w, s->bias, residual, s->y->data, p.prim);
		return;
	}
	if (w && d->taps.n) {
		taps_forward(&d->taps, x, w, s->bias, residual, s->y->data, p.prim);
		return;
	}
	if (s->has_res)
		blocked_copy(s->x[1], s->y, r->n, false);
	if (!w || !prim_run(d->prim, (void *)(uintptr_t)x, w, (float *)(uintptr_t)s->bias, s->y->data, p.prim))
		s->status = WASD_EINTERNAL;
}

static bool weight_gradient(struct step *s, const void *x, const struct direction *d, const struct parts *p)
{
	const struct node *nd = s->node;
	if (d->minimal.n) {
		minimal_weights(&d->minimal, x, s->dy->data, s->dweight, s->dbias, p->prim);
		return true;
	}
	if (d->taps.n) {
		taps_weights(&d->taps, x, s->dy->data, s->dweight, s->dbias, p->prim);
		return true;
	}
	float *bias = p->full + full_count(s);
	if (!prim_run(d->prim, (void *)(uintptr_t)x, p->own, bias, s->dy->data, p->prim))
		return false;
	for (int o = 0; s->dbias && o < nd->out; o++)
		s->dbias[o] += bias[o];
	if (!d->embedded)
		return prim_weights_add(d->prim, p->own, s->dweight, p->prim);
	memset(p->full, 0, full_count(s) * sizeof(float));
	if (!prim_weights_add(d->prim, p->own, p->full, p->prim))
		return false;
	wasd_parallel(nd->out, embed_rows, &(struct embed_job){.s = s, .full = p->full, .sum = s->dweight});
	return true;
}

/* Writes dx or adds to it. */
static bool data_gradient(struct step *s, const struct run *r, const struct direction *d, const struct parts *p,
                          const struct tensor *dx, bool add)
{
	const void *w = weights_for(s, d, p, true);
	if (!w)
		return false;
	if (d->minimal.n) {
		minimal_data(&d->minimal, s->dy->data, w, dx->data, add, p->prim);
		return true;
	}
	if (d->taps.n) {
		taps_data(&d->taps, s->dy->data, w, dx->data, add, p->prim);
		return true;
	}
	if (!add)
		return prim_run(d->prim, dx->data, w, NULL, s->dy->data, p->prim);
	struct tensor sum = *dx;
	sum.data = p->dx;
	if (!prim_run(d->prim, sum.data, w, NULL, s->dy->data, p->prim))
		return false;
	blocked_copy(&sum, dx, r->n, true);
	return true;
}

/* The same through the sums over a box: computes the gradient of the sums first, from which each pixel's gradient is
 * again a sum. */
static bool input_gradient(struct step *s, const struct run *r, const struct direction *d, const struct parts *p)
{
	const struct conv_plan *cp = s->plan;
	if (!s->box.h)
		return data_gradient(s, r, d, p, s->dx[0], s->dx_add[0]);
	struct tensor sums = *s->dx[0];
	sums.data = (char *)cp->sums + cp->x_bytes;
	if (!data_gradient(s, r, d, p, &sums, false))
		return false;
	blocked_box_back(&sums, s->dx[0], s->box, r->n, s->dx_add[0]);
	return true;
}

static void conv_backward(struct step *s, const struct run *r)
{
	struct variant *v = variant_of(s, r->n);
	struct parts p;
	const void *x = v ? input_of(s, r) : NULL;
	bool good = x && parts_of(s, &v->dir[PRIM_WEIGHTS], r->scratch, &p) &&
	            weight_gradient(s, x, &v->dir[PRIM_WEIGHTS], &p);
	if (good && s->dx[0])
		good = parts_of(s, &v->dir[PRIM_DATA], r->scratch, &p) && input_gradient(s, r, &v->dir[PRIM_DATA], &p);
	if (!good && !s->status)
		s->status = WASD_EINTERNAL;
}

static void conv_explain(const struct step *s, cJSON *to)
{
	const struct conv_plan *cp = s->plan;
	for (int i = 0; i < cp->count; i++)
		variant_explain(s, &cp->v[i], to);
}

#define LIBRARY \
	.explain = conv_explain, .plan = conv_plan, .forward = conv_forward, .backward = conv_backward, \
	.unplan = conv_unplan
static const struct layer_kernel library = {.boxes = true, LIBRARY};
static const struct layer_kernel of_planes = {LIBRARY}; /* sums over windows (box.c) are made of blocks */

/* A depthwise step may run entirely on our own kernels. From here on, the step's kernel says what runs it. */
static void conv_choose(struct step *s, int batch, bool training, int threads)
{
	struct tune_result measured;
	bool ours = depthwise_takes(s) && depthwise_wins(s, batch, training, threads, &library, &measured);
	s->kernel = ours ? &onednn_depthwise : blocked_of(s->x[0])->plain ? &of_planes : &library;
	s->kernel->plan(s, batch, training, threads);
	if (ours)
		depthwise_measured(s, &measured);
}

const struct layer_kernel onednn_conv = {.plan = conv_choose, .forward = conv_forward, .backward = conv_backward};
