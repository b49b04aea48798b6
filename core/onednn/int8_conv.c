/* onednn/int8_conv.c - convolutions and linear layers of int8 networks: with 8-bit weights by oneDNN (prim8.h), by
 * minimal filtering (int8_minimal.h) where that is faster, or, one channel per filter, by our own kernel
 * (int8_depthwise.c); with float weights by int8_float.c.
 *
 * A linear layer is a convolution of 1x1 maps. Coarse weights are a 1x1 convolution of their own, whose float output
 * the fine one adds. A residual is copied to y first, unless the plan gave y its memory. */
#include "onednn/int8.h"
#include "onednn/int8_minimal.h"
#include "onednn/prim8.h"
#include "onednn/prim_cpu.h"
#include "onednn/variant.h"
#include "wasd/json.h"

#include <stdio.h>
#include <string.h>

/* Keys of our own forms of packed weights; those of oneDNN's are hashes. */
enum { FORM_DEPTHWISE, FORM_MINIMAL };

struct passes {
	int n;
	struct prim8 *main, *coarse;  /* main NULL: minimal filtering */
	struct tune_result measured;  /* all us 0: there was no choice */
	const void *own, *own_coarse; /* packed weights; NULL before the first pass */
};

struct plan8 {
	struct passes *v; /* one for each number of images that occurred */
	int count, cap;
	bool bound;                         /* bias is filled */
	void *filters;                      /* of our depthwise kernel; NULL: oneDNN computes the layer */
	const void *own;                    /* its packed weights; NULL before the first pass */
	struct prim8_conv shape;            /* of main, for any n */
	struct prim8_conv minimal;          /* the same with the kernel amid zeros, if it has to be; out 0: does not fit */
	float *scale, *bias, *coarse_scale; /* one block: 3 x O */
	size_t coarse_bytes, scratch_bytes; /* planned: the output of the coarse convolution, workspace */
	void *late;                         /* workspace of a primitive that needs more than was planned */
	size_t late_bytes;
};

static bool is_linear(const struct node *nd)
{
	return nd->layer == &layer_linear;
}

/* ---- shapes ---- */

static struct prim8_conv shape_of(const struct step *s)
{
	const struct node *nd = s->node;
	struct prim8_conv c = {.c = nd->in.c,
	                       .h = nd->in.h,
	                       .w = nd->in.w,
	                       .out = nd->shape.c,
	                       .oh = nd->shape.h,
	                       .ow = nd->shape.w,
	                       .kh = 1,
	                       .kw = 1,
	                       .stride = 1,
	                       .groups = 1,
	                       .x = int8_type(s->x[0]),
	                       .y = int8_type(s->y),
	                       .bias = nd->bias >= 0,
	                       .add = s->quant->coarse != NULL,
	                       .residual = s->has_res,
	                       .act = s->act,
	                       .six = (float)(6 / (double)int8_scale(s->y))};
	if (!is_linear(nd)) {
		c.kh = nd->kh;
		c.kw = nd->kw;
		c.stride = nd->stride;
		c.pad_top = nd->pad_top;
		c.pad_left = nd->pad_left;
		c.groups = nd->groups;
		grid_widen(&c.kh, &c.pad_top, c.h, c.oh, c.stride);
		grid_widen(&c.kw, &c.pad_left, c.w, c.ow, c.stride);
	}
	if (s->has_res) {
		const struct tensor *r = s->x[1];
		bool brought = (int8_type(r) == WASD_QUANT_F32) != (c.y == WASD_QUANT_F32);
		c.residual_type = brought ? c.y : int8_type(r);
		c.residual_scale = brought ? 1 : (float)((double)int8_scale(r) / (double)int8_scale(s->y));
	}
	return c;
}

static struct prim8_conv coarse_shape(const struct plan8 *p)
{
	struct prim8_conv c = p->shape;
	c.kh = c.kw = 1;
	c.pad_top = c.pad_left = 0;
	c.y = WASD_QUANT_F32;
	c.scale = p->coarse_scale;
	c.bias = c.add = c.residual = false;
	c.act = ACT_NONE;
	return c;
}

/* ---- planning ---- */

static int8_t *embedded(const struct step *s, const struct prim8_conv *c, const int8_t *w);

/* A kernel that lost taps on one side becomes one of 3x3 around the same centre. */
static void plan_minimal(const struct step *s, struct plan8 *p)
{
	const struct node *nd = s->node;
	struct prim8_conv c = p->shape;
	if (is_linear(nd) || s->quant->coarse || nd->stride != 1 || nd->kh < 2 || nd->kw < 2 || nd->pad_top < 0 ||
	    nd->pad_top > 1 || nd->pad_left < 0 || nd->pad_left > 1 || 1 - nd->pad_top + nd->kh > 3 ||
	    1 - nd->pad_left + nd->kw > 3)
		return;
	c.kh = c.kw = 3;
	c.pad_top = c.pad_left = 1;
	if (!int8_minimal_fits(&c) || c.oh != c.h || c.ow != c.w)
		return;
	int8_t *all = embedded(s, &c, s->quant->w);
	if (all && int8_minimal_exact(&c, all))
		p->minimal = c;
	wasd_free(all);
}

static void fill_factors(struct step *s, struct plan8 *p)
{
	double sx = (double)int8_scale(s->x[0]), sy = (double)int8_scale(s->y);
	p->bias = p->scale + s->y->shape.c;
	p->coarse_scale = p->bias + s->y->shape.c;
	for (int o = 0; o < s->y->shape.c; o++) {
		p->scale[o] = (float)(sx * (double)s->quant->scale[o] / sy);
		if (s->quant->coarse)
			p->coarse_scale[o] = (float)(sx * (double)s->quant->coarse_scale[o] / sy);
	}
	p->shape.scale = p->scale;
}

/* The bias in units of acc. Weights are bound after planning. */
static const float *bias_of(const struct step *s, struct plan8 *p)
{
	double sx = (double)int8_scale(s->x[0]);
	for (int o = 0; !p->bound && o < s->y->shape.c; o++)
		p->bias[o] = s->bias ? (float)((double)s->bias[o] / (sx * (double)s->quant->scale[o])) : 0;
	p->bound = true;
	return p->bias;
}

static struct passes *passes_of(struct step *s, int n)
{
	struct plan8 *p = s->plan;
	for (int i = 0; i < p->count; i++)
		if (p->v[i].n == n)
			return &p->v[i];
	if (p->count == p->cap) {
		int cap = p->cap ? 2 * p->cap : 4;
		struct passes *v = wasd_realloc(p->v, (size_t)cap * sizeof *v);
		if (!v) {
			s->status = WASD_ENOMEM;
			return NULL;
		}
		p->v = v;
		p->cap = cap;
	}
	struct passes *v = &p->v[p->count];
	struct prim8_conv main = p->shape, coarse = coarse_shape(p), minimal = p->minimal;
	main.n = coarse.n = minimal.n = n;
	*v = (struct passes){.n = n};
	/* Later numbers of images come up while requests wait: they take what is known. */
	if (minimal.out && int8_minimal_wins(&main, &minimal, s->unmeasured || p->count, &v->measured)) {
		p->count++;
		return v;
	}
	v->main = prim8_create(&main);
	if (v->main && s->quant->coarse)
		v->coarse = prim8_create(&coarse);
	if (!v->main || (s->quant->coarse && !v->coarse)) {
		prim8_destroy(v->main);
		s->status = prim_memory_left() ? WASD_EINTERNAL : WASD_ENOMEM;
		return NULL;
	}
	p->count++;
	return v;
}

static struct prim8_conv minimal_of(const struct plan8 *p, const struct passes *v)
{
	struct prim8_conv c = p->minimal;
	c.n = v->n;
	return c;
}

static size_t most(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Other numbers of images may take the other kernel, which is why minimal filtering's counts wherever it fits. */
static size_t workspace(const struct plan8 *p, const struct passes *v)
{
	struct prim8_conv c = minimal_of(p, v);
	size_t direct = most(v->main ? prim8_scratch_bytes(v->main) : 0, v->coarse ? prim8_scratch_bytes(v->coarse) : 0);
	return wasd_aligned(most(direct, c.out ? int8_minimal_scratch_bytes(&c, wasd_threads()) : 0));
}

static void conv_unplan(struct step *s)
{
	struct plan8 *p = s->plan;
	for (int i = 0; p && i < p->count; i++) {
		prim8_destroy(p->v[i].main);
		prim8_destroy(p->v[i].coarse);
	}
	if (p) {
		tensor_free(p->late);
		tensor_free(p->filters);
		wasd_free(p->v);
		wasd_free(p->scale);
	}
	wasd_free(p);
	s->plan = NULL;
}

static void conv_plan(struct step *s, int batch, bool training, int threads)
{
	(void)training;
	struct plan8 *p = s->plan = wasd_calloc(1, sizeof *p);
	if (!p || !(p->scale = wasd_calloc(3 * (size_t)s->y->shape.c, sizeof *p->scale))) {
		s->status = WASD_ENOMEM;
		return;
	}
	p->shape = shape_of(s);
	fill_factors(s, p);
	plan_minimal(s, p);
	if (int8_depthwise_takes(s)) {
		s->scratch_bytes = int8_depthwise_scratch_bytes(s, threads);
		if (!(p->filters = tensor_alloc(int8_depthwise_filters_bytes(s))))
			s->status = WASD_ENOMEM;
		return;
	}
	const struct passes *v = passes_of(s, batch);
	if (!v)
		return;
	p->coarse_bytes = s->quant->coarse ? wasd_aligned((size_t)batch * s->y->sn * sizeof(float)) : 0;
	p->scratch_bytes = workspace(p, v);
	s->scratch_bytes = p->coarse_bytes + p->scratch_bytes;
}

/* ---- weights ---- */

struct bring {
	const struct step *s;
	struct prim8 *prim;
	const int8_t *w;
	void *scratch;
};

/* The kernel in the middle of the zeros that oneDNN needs around it. */
static int8_t *embedded(const struct step *s, const struct prim8_conv *c, const int8_t *w)
{
	const struct node *nd = s->node;
	size_t rows = (size_t)c->out * (size_t)(c->c / c->groups), big = (size_t)(c->kh * c->kw);
	int8_t *all = wasd_calloc(rows * big, 1);
	for (size_t r = 0; all && r < rows; r++)
		for (int y = 0; y < nd->kh; y++)
			memcpy(all + r * big + (size_t)((c->pad_top - nd->pad_top + y) * c->kw + c->pad_left - nd->pad_left),
			       w + (r * (size_t)nd->kh + (size_t)y) * (size_t)nd->kw, (size_t)nd->kw);
	return all;
}

static bool fill_weights(void *ctx, void *to)
{
	const struct bring *b = ctx;
	const struct node *nd = b->s->node;
	const struct prim8_conv *c = &((const struct plan8 *)b->s->plan)->shape;
	if (is_linear(nd) || b->w != b->s->quant->w || (c->kh == nd->kh && c->kw == nd->kw))
		return prim8_weights_in(b->prim, b->w, to, b->scratch);
	int8_t *all = embedded(b->s, c, b->w);
	bool good = all && prim8_weights_in(b->prim, all, to, b->scratch);
	wasd_free(all);
	return good;
}

static const void *weights_for(const struct step *s, struct prim8 *prim, const int8_t *w, void *scratch)
{
	struct bring b = {s, prim, w, scratch};
	return packs_get(s->packs, w, prim8_weights_form(prim), prim8_weight_bytes(prim), fill_weights, &b);
}

static bool fill_minimal(void *ctx, void *to)
{
	const struct bring *b = ctx;
	const struct prim8_conv *c = &((const struct plan8 *)b->s->plan)->minimal;
	int8_t *all = embedded(b->s, c, b->w);
	if (all)
		int8_minimal_weights_in(c, all, to);
	wasd_free(all);
	return all != NULL;
}

static const void *minimal_pack(const struct step *s)
{
	struct bring b = {.s = s, .w = s->quant->w};
	const struct plan8 *p = s->plan;
	return packs_get(s->packs, b.w, FORM_MINIMAL, int8_minimal_weight_bytes(&p->minimal), fill_minimal, &b);
}

static bool fill_depthwise(void *ctx, void *to)
{
	int8_depthwise_weights_in(ctx, to);
	return true;
}

static bool pack_depthwise(struct step *s, struct plan8 *p)
{
	if (p->own)
		return true;
	p->own = packs_get(s->packs, s->quant->w, FORM_DEPTHWISE, int8_depthwise_weight_bytes(s), fill_depthwise, s);
	if (p->own)
		int8_depthwise_filters(s, p->own, bias_of(s, p), p->scale, p->filters);
	return p->own != NULL;
}

/* ---- the pass ---- */

static void bring_pieces(void *ctx, int begin, int end, int thread)
{
	const struct step *s = ctx;
	const struct tensor *from = s->x[1], *y = s->y;
	struct tensor to = *y;
	struct wasd_quant_tensor as =
		*((int8_type(from) == WASD_QUANT_F32) == (int8_type(y) == WASD_QUANT_F32) ? from : y)->quant;
	(void)thread;
	to.quant = &as;
	for (int i = begin; i < end; i++)
		int8_bring((const char *)from->data + (size_t)i * y->sn * int8_size(from), from,
		           (char *)y->data + (size_t)i * y->sn * int8_size(y), &to, ACT_NONE, y->sn);
}

static void *workspace_for(struct step *s, const struct passes *v, void *planned)
{
	struct plan8 *p = s->plan;
	size_t bytes = workspace(p, v);
	if (bytes <= p->scratch_bytes)
		return planned;
	if (bytes > p->late_bytes) {
		tensor_free(p->late);
		p->late = tensor_alloc(bytes);
		p->late_bytes = p->late ? bytes : 0;
	}
	if (!p->late)
		s->status = WASD_ENOMEM;
	return p->late;
}

static bool pack(const struct step *s, struct passes *v, void *space)
{
	if (!v->own)
		v->own = v->main ? weights_for(s, v->main, s->quant->w, space) : minimal_pack(s);
	if (v->coarse && !v->own_coarse)
		v->own_coarse = weights_for(s, v->coarse, s->quant->coarse, space);
	return v->own && (!v->coarse || v->own_coarse);
}

static bool run_passes(struct step *s, const struct run *r, struct passes *v)
{
	struct plan8 *p = s->plan;
	float *sums = r->scratch;
	void *space = workspace_for(s, v, (char *)r->scratch + p->coarse_bytes);
	const void *x = s->x[0]->data;
	if (s->status || !pack(s, v, space) ||
	    (v->coarse && !prim8_run(v->coarse, x, v->own_coarse, NULL, NULL, sums, space)))
		return false;
	if (s->has_res && s->x[1]->data != s->y->data)
		wasd_parallel(r->n, bring_pieces, s);
	if (v->main)
		return prim8_run(v->main, x, v->own, bias_of(s, p), sums, s->y->data, space);
	struct prim8_conv c = minimal_of(p, v);
	int8_minimal_run(&c, x, v->own, bias_of(s, p), s->y->data, space);
	return true;
}

static void conv_forward(struct step *s, const struct run *r)
{
	struct plan8 *p = s->plan;
	if (p->filters) {
		if (pack_depthwise(s, p))
			int8_depthwise_run(s, r, p->own, p->filters, p->shape.six);
		else
			s->status = WASD_ENOMEM;
		return;
	}
	struct passes *v = passes_of(s, r->n);
	if (v && !run_passes(s, r, v) && !s->status)
		s->status = WASD_EINTERNAL;
}

void int8_describe(const struct step *s, const char *algorithm, const char *implementation, int images,
                   const struct tune_result *measured, cJSON *to)
{
	char kernel[24];
	cJSON *o = cJSON_CreateObject(), *us;
	snprintf(kernel, sizeof kernel, "%dx%d", is_linear(s->node) ? 1 : s->node->kh,
	         is_linear(s->node) ? 1 : s->node->kw);
	cJSON_AddStringToObject(o, "layer", s->node->name);
	cJSON_AddStringToObject(o, "pass", "forward");
	if (images)
		cJSON_AddNumberToObject(o, "images", images);
	cJSON_AddStringToObject(o, "kernel", kernel);
	cJSON_AddStringToObject(o, "algorithm", algorithm);
	cJSON_AddStringToObject(o, "implementation", implementation);
	if (measured && measured->us[measured->choice] > 0 && (us = cJSON_AddObjectToObject(o, "us")) != NULL) {
		cJSON_AddNumberToObject(us, "direct", (double)measured->us[TUNE_LIBRARY]);
		cJSON_AddNumberToObject(us, "wasd_winograd", (double)measured->us[TUNE_OURS]);
	}
	if (!cJSON_AddItemToArray(to, o))
		cJSON_Delete(o);
}

static void conv_explain(const struct step *s, cJSON *to)
{
	const struct plan8 *p = s->plan;
	if (p->filters)
		int8_describe(s, "int8 depthwise", "wasd", 0, NULL, to);
	for (int i = 0; i < p->count; i++) {
		bool minimal = !p->v[i].main;
		int8_describe(s, minimal ? "int8, minimal filtering" : "int8", minimal ? "wasd" : prim8_info(p->v[i].main),
		              p->v[i].n, &p->v[i].measured, to);
		if (p->v[i].coarse)
			int8_describe(s, "int8, coarse", prim8_info(p->v[i].coarse), p->v[i].n, NULL, to);
	}
}

static const struct layer_kernel eight = {.plan = conv_plan,
                                          .forward = conv_forward,
                                          .unplan = conv_unplan,
                                          .explain = conv_explain,
                                          .onto_residual = true};

/* From here on, the step's kernel says what runs it. */
static void conv_choose(struct step *s, int batch, bool training, int threads)
{
	s->kernel = s->quant->on ? &eight : &int8_float_conv;
	if (s->kernel->plan)
		s->kernel->plan(s, batch, training, threads);
}

const struct layer_kernel int8_conv = {.plan = conv_choose};
