/* quant/model.c - see model.h. A stored value is kept as a float here: the integer q of u8 and s8, which float holds
 * exactly. Maps are (C,H,W), one image at a time. */
#include "quant/model.h"
#include "graph/plan.h"

#include <math.h>
#include <string.h>

struct model {
	const struct wasd_graph *g;
	const struct wasd_model *m;
	const struct wasd_quant *q;
	float **value; /* per node that is stored */
	wasd_node *tail, *residual;
	bool *inner;
};

/* One chain: a layer, and what is computed with it. */
struct chain {
	const struct node *n;
	const struct wasd_quant_conv *conv;
	const struct wasd_quant_tensor *x, *r, *y;
	const float *in, *res; /* res NULL: no residual */
	float *out;
	const real *weight, *bias;
	enum act act;
};

static float scale_of(const struct wasd_quant_tensor *t)
{
	return t->type == WASD_QUANT_F32 ? 1 : t->scale;
}

static float inverse_of(const struct wasd_quant_tensor *t)
{
	return (float)(1 / (double)scale_of(t));
}

/* t rounded to nearest even and saturated, or as it is. Integers have no -0. */
static float stored(float t, const struct wasd_quant_tensor *as)
{
	float lo = as->type == WASD_QUANT_U8 ? 0 : -128, hi = as->type == WASD_QUANT_U8 ? 255 : 127;
	return as->type == WASD_QUANT_F32 ? t : nearbyintf(fmaxf(fminf(t, hi), lo)) + 0;
}

static float act_of(enum act act, float t, float six)
{
	if (act != ACT_NONE)
		t = fmaxf(t, 0);
	return act == ACT_RELU6 ? fminf(t, six) : t;
}

static float brought(float v, const struct wasd_quant_tensor *from, const struct wasd_quant_tensor *to)
{
	float t = scale_of(from) * v;
	return stored(t * inverse_of(to), to);
}

/* ---- convolutions and linear layers ---- */

struct place {
	int o, y, x;
};

/* Input channel i of o's group at tap (ky,kx) of the output; 0 outside the image. */
static float input_at(const struct chain *c, const struct place *p, int i, int ky, int kx)
{
	const struct node *n = c->n;
	bool linear = n->layer == &layer_linear;
	int y = linear ? 0 : p->y * n->stride - n->pad_top + ky, x = linear ? 0 : p->x * n->stride - n->pad_left + kx;
	int each = linear ? n->in.c : n->in.c / n->groups, first = linear ? 0 : p->o / (n->out / n->groups) * each;
	if (y < 0 || y >= n->in.h || x < 0 || x >= n->in.w)
		return 0;
	return c->in[((first + i) * n->in.h + y) * n->in.w + x];
}

struct kernel {
	int each, kh, kw;
};

static struct kernel kernel_of(const struct node *n)
{
	return n->layer == &layer_linear ? (struct kernel){n->in.c, 1, 1} :
	                                   (struct kernel){n->in.c / n->groups, n->kh, n->kw};
}

static float sum_of(const struct chain *c, const struct place *p)
{
	struct kernel k = kernel_of(c->n);
	int64_t acc = 0;
	const int8_t *w = c->conv->w + (size_t)p->o * (size_t)(k.each * k.kh * k.kw);
	for (int i = 0; i < k.each; i++)
		for (int ky = 0; ky < k.kh; ky++)
			for (int kx = 0; kx < k.kw; kx++)
				acc += *w++ * (int64_t)input_at(c, p, i, ky, kx);
	return (float)acc;
}

static float coarse_sum_of(const struct chain *c, const struct place *p)
{
	struct kernel k = kernel_of(c->n);
	int64_t acc = 0;
	for (int i = 0; i < k.each; i++)
		acc += c->conv->coarse[(size_t)p->o * (size_t)k.each + (size_t)i] *
		       (int64_t)input_at(c, p, i, k.kh / 2, k.kw / 2);
	return (float)acc;
}

/* A residual of integers behind a float output, or the reverse, is brought to the output's type first. */
static float with_residual(const struct chain *c, float t, float r)
{
	if ((c->r->type == WASD_QUANT_F32) != (c->y->type == WASD_QUANT_F32))
		return fmaf(1, brought(r, c->r, c->y), t);
	return fmaf((float)((double)scale_of(c->r) / (double)scale_of(c->y)), r, t);
}

static float integer_output(const struct chain *c, const struct place *p, size_t at)
{
	double sx = (double)c->x->scale, sw = (double)c->conv->scale[p->o], sy = (double)scale_of(c->y);
	float t = sum_of(c, p) + (c->bias ? (float)((double)c->bias[p->o] / (sx * sw)) : 0);
	t = t * (float)(sx * sw / sy);
	if (c->conv->coarse)
		t = t + coarse_sum_of(c, p) * (float)(sx * (double)c->conv->coarse_scale[p->o] / sy);
	if (c->res)
		t = with_residual(c, t, c->res[at]);
	return stored(act_of(c->act, t, (float)(6 / sy)), c->y);
}

static float float_output(const struct chain *c, const struct place *p, size_t at)
{
	struct kernel k = kernel_of(c->n);
	float sum = 0;
	for (int ky = 0; ky < k.kh; ky++)
		for (int kx = 0; kx < k.kw; kx++)
			for (int i = 0; i < k.each; i++) {
				float w = (float)c->weight[((p->o * k.each + i) * k.kh + ky) * k.kw + kx];
				sum = fmaf(input_at(c, p, i, ky, kx), w, sum);
			}
	float t = fmaf(scale_of(c->x), sum, c->bias ? (float)c->bias[p->o] : 0);
	if (c->res)
		t = fmaf(scale_of(c->r), c->res[at], t);
	return stored(act_of(c->act, t, 6) * inverse_of(c->y), c->y);
}

static void run_conv(const struct chain *c)
{
	size_t at = 0;
	struct wasd_shape s = c->n->shape;
	for (struct place p = {0}; p.o < s.c; p.o++)
		for (p.y = 0; p.y < s.h; p.y++)
			for (p.x = 0; p.x < s.w; p.x++, at++)
				c->out[at] = c->conv->on ? integer_output(c, &p, at) : float_output(c, &p, at);
}

/* ---- windows ---- */

static float max_in(const struct chain *c, const float *x, int y0, int x0)
{
	float best = -INFINITY;
	for (int y = y0; y < y0 + c->n->kh; y++)
		for (int u = x0; u < x0 + c->n->kh; u++)
			if (y >= 0 && y < c->n->in.h && u >= 0 && u < c->n->in.w)
				best = fmaxf(best, x[y * c->n->in.w + u]);
	return best;
}

static void run_maxpool(const struct chain *c)
{
	const struct node *n = c->n;
	size_t at = 0;
	for (int k = 0; k < n->shape.c; k++)
		for (int y = 0; y < n->shape.h; y++)
			for (int x = 0; x < n->shape.w; x++, at++) {
				float m = max_in(c, c->in + k * n->in.h * n->in.w, y * n->stride - n->pad_top,
				                 x * n->stride - n->pad_left);
				c->out[at] = brought(m, c->x, c->y);
			}
}

/* Over the part of the window at (y0,x0) that is in the image; of integers, exact. */
static float window_sum(const struct chain *c, const float *x, int y0, int x0, int kh, int kw)
{
	const struct node *n = c->n;
	int64_t whole = 0;
	float sum = 0;
	for (int v = y0; v < y0 + kh; v++)
		for (int u = x0; u < x0 + kw; u++)
			if (v >= 0 && v < n->in.h && u >= 0 && u < n->in.w) {
				float q = x[v * n->in.w + u];
				if (c->x->type == WASD_QUANT_F32)
					sum += q;
				else
					whole += (int64_t)q;
			}
	return c->x->type == WASD_QUANT_F32 ? sum : (float)whole;
}

static void run_sums(const struct chain *c, int kh, int kw, int count)
{
	const struct node *n = c->n;
	float factor = (float)((double)scale_of(c->x) / count / (double)scale_of(c->y));
	size_t at = 0;
	for (int k = 0; k < n->shape.c; k++)
		for (int y = 0; y < n->shape.h; y++)
			for (int x = 0; x < n->shape.w; x++, at++) {
				float sum = window_sum(c, c->in + (size_t)k * (size_t)(n->in.h * n->in.w), y * n->stride - n->pad_top,
				                       x * n->stride - n->pad_left, kh, kw);
				c->out[at] = stored(sum * factor, c->y);
			}
}

static void run_avgpool(const struct chain *c)
{
	run_sums(c, c->n->kh, c->n->kh, c->n->kh * c->n->kh);
}

static void run_globalpool(const struct chain *c)
{
	run_sums(c, c->n->in.h, c->n->in.w, c->n->in.h * c->n->in.w);
}

static void run_boxsum(const struct chain *c)
{
	run_sums(c, c->n->kh, c->n->kw, 1);
}

/* ---- the rest ---- */

static void run_relu(const struct chain *c)
{
	for (size_t i = 0; i < wasd_shape_count(c->n->shape); i++) {
		float t = scale_of(c->x) * c->in[i];
		c->out[i] = stored(act_of(c->n->layer->is_act, t, 6) * inverse_of(c->y), c->y);
	}
}

static void run_flatten(const struct chain *c)
{
	for (size_t i = 0; i < wasd_shape_count(c->n->shape); i++)
		c->out[i] = brought(c->in[i], c->x, c->y);
}

static void run_add(const struct chain *c)
{
	for (size_t i = 0; i < wasd_shape_count(c->n->shape); i++) {
		float t = scale_of(c->x) * c->in[i];
		t = act_of(c->act, fmaf(scale_of(c->r), c->res[i], t), 6);
		c->out[i] = stored(t * inverse_of(c->y), c->y);
	}
}

static void run_concat(const struct model *m, const struct chain *c)
{
	size_t at = 0;
	for (int k = 0; k < c->n->n_in; k++) {
		wasd_node in = c->n->inputs[k];
		for (size_t i = 0; i < wasd_shape_count(m->g->nodes[in].shape); i++)
			c->out[at++] = brought(m->value[in][i], &m->q->tensor[in], c->y);
	}
}

static enum wasd_status run_chain(const struct model *m, wasd_node head, struct wasd_err *err)
{
	static const struct {
		const struct layer *layer;
		void (*run)(const struct chain *c);
	} known[] = {{&layer_conv, run_conv},       {&layer_linear, run_conv},   {&layer_maxpool, run_maxpool},
	             {&layer_avgpool, run_avgpool}, {&layer_boxsum, run_boxsum}, {&layer_globalpool, run_globalpool},
	             {&layer_relu, run_relu},       {&layer_relu6, run_relu},    {&layer_flatten, run_flatten},
	             {&layer_add, run_add}};
	const struct node *n = &m->g->nodes[head];
	wasd_node out = m->tail[head], res = n->layer->is_add ? n->inputs[1] : m->residual[head];
	struct chain c = {.n = n,
	                  .conv = &m->q->conv[head],
	                  .x = &m->q->tensor[n->inputs[0]],
	                  .y = &m->q->tensor[out],
	                  .in = m->value[n->inputs[0]],
	                  .out = m->value[out],
	                  .weight = n->weight >= 0 ? wasd_model_weights(m->m, n->weight) : NULL,
	                  .bias = n->bias >= 0 ? wasd_model_weights(m->m, n->bias) : NULL,
	                  .act = out == head ? ACT_NONE : m->g->nodes[out].layer->is_act};
	if (res >= 0) {
		c.r = &m->q->tensor[res];
		c.res = m->value[res];
	}
	if (n->layer == &layer_concat) {
		run_concat(m, &c);
		return WASD_OK;
	}
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].layer == n->layer) {
			known[i].run(&c);
			return WASD_OK;
		}
	return wasd_fail(err, WASD_EUNSUPPORTED, "the plain int8 model has no layer %s", n->layer->op);
}

static enum wasd_status run_image(const struct model *m, const real *x, real *logits, struct wasd_err *err)
{
	const struct wasd_quant_tensor *t = &m->q->tensor[0];
	for (size_t i = 0; i < wasd_shape_count(m->g->nodes[0].shape); i++)
		m->value[0][i] = stored((float)x[i] * inverse_of(t), t);
	for (wasd_node out = 1; out < m->g->n_nodes; out++)
		for (wasd_node head = 1; head <= out; head++) {
			if (m->inner[head] || m->tail[head] != out)
				continue;
			enum wasd_status s = run_chain(m, head, err);
			if (s)
				return s;
		}
	for (int i = 0; i < wasd_graph_classes(m->g); i++)
		logits[i] = (real)m->value[m->g->output][i];
	return WASD_OK;
}

static bool arrays(struct model *m)
{
	size_t n = (size_t)m->g->n_nodes;
	bool ok = (m->value = wasd_calloc(n, sizeof *m->value)) && (m->tail = wasd_calloc(n, sizeof *m->tail)) &&
	          (m->residual = wasd_calloc(n, sizeof *m->residual)) && (m->inner = wasd_calloc(n, sizeof *m->inner));
	for (size_t i = 0; ok && i < n; i++)
		ok = (m->value[i] = wasd_calloc(wasd_shape_count(m->g->nodes[i].shape), sizeof(float))) != NULL;
	return ok && plan_chains(m->g, m->tail, m->residual, m->inner);
}

enum wasd_status quant_model_run(const struct wasd_model *model, const struct wasd_quant *q, const real *x, int n,
                                 real *logits, struct wasd_err *err)
{
	struct model m = {.g = wasd_model_graph(model), .m = model, .q = q};
	enum wasd_status s = arrays(&m) ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "the plain int8 model");
	for (int i = 0; !s && i < n; i++)
		s = run_image(&m, x + (size_t)i * wasd_shape_count(m.g->nodes[0].shape),
		              logits + (size_t)i * (size_t)wasd_graph_classes(m.g), err);
	for (int i = 0; m.value && i < m.g->n_nodes; i++)
		wasd_free(m.value[i]);
	wasd_free(m.value);
	wasd_free(m.tail);
	wasd_free(m.residual);
	wasd_free(m.inner);
	return s;
}
