/* quant/check.c - whether an int8 network is sound. What it checks may come from a mode file. */
#include "quant/quant.h"
#include "graph/graph.h"
#include "wasd/model.h"

#include <math.h>

static enum wasd_status wrong(const struct node *n, const char *what, struct wasd_err *err)
{
	return wasd_fail(err, WASD_EINVAL, "int8: %s %s: %s", n->layer->op, n->name, what);
}

static bool scales_ok(const float *scale, int n)
{
	for (int i = 0; i < n; i++)
		if (!(scale[i] > 0) || !isfinite(scale[i]))
			return false;
	return true;
}

static enum wasd_status check_tensor(const struct node *n, const struct wasd_quant_tensor *t, struct wasd_err *err)
{
	if ((int)t->type < WASD_QUANT_F32 || t->type > WASD_QUANT_S8)
		return wrong(n, "its values have no known type", err);
	return t->type == WASD_QUANT_F32 || scales_ok(&t->scale, 1) ?
	           WASD_OK :
	           wrong(n, "the scale of its values is not above 0", err);
}

/* oneDNN 2.6 adds a map wrongly to groups whose filters do not fill its vectors. */
static bool coarse_groups_ok(const struct node *n)
{
	return n->groups == 1 || (n->groups < n->in.c && n->out / n->groups % 16 == 0);
}

bool quant_has_middle(const struct node *n)
{
	return n->layer == &layer_conv && n->kh % 2 && n->kw % 2 && n->pad_top == n->kh / 2 && n->pad_left == n->kw / 2 &&
	       (n->in.h - 1) / n->stride + 1 == n->shape.h && (n->in.w - 1) / n->stride + 1 == n->shape.w;
}

/* In units of the sums, as kernels add it. */
static bool bias_ok(const struct wasd_model *m, const struct node *n, const struct wasd_quant_tensor *x,
                    const float *scale)
{
	const real *b = n->bias >= 0 ? wasd_model_weights(m, n->bias) : NULL;
	for (int o = 0; b && o < n->shape.c; o++)
		if (!isfinite((float)((double)b[o] / ((double)x->scale * (double)scale[o]))))
			return false;
	return true;
}

static enum wasd_status check_conv(const struct wasd_model *m, const struct node *n, const struct wasd_quant *q,
                                   const struct wasd_quant_conv *c, struct wasd_err *err)
{
	bool linear = n->layer == &layer_linear;
	int64_t products = linear ? n->in.c : (int64_t)(n->in.c / n->groups) * n->kh * n->kw;
	if (n->layer != &layer_conv && !linear)
		return wrong(n, "only convolutions and linear layers have 8-bit weights", err);
	if (products < 1 || products > QUANT_PRODUCTS_MAX)
		return wrong(n, "without taps, or too many for a sum of 32 bits", err);
	if (!c->w || !c->scale || !scales_ok(c->scale, n->shape.c))
		return wrong(n, "weights are missing, or one of their scales is not above 0", err);
	if (q->tensor[n->inputs[0]].type == WASD_QUANT_F32)
		return wrong(n, "8-bit weights need an input of 8 bits", err);
	if (!bias_ok(m, n, &q->tensor[n->inputs[0]], c->scale))
		return wrong(n, "a bias is too large beside the scale of its weights", err);
	if (!c->coarse)
		return WASD_OK;
	if (!linear && !coarse_groups_ok(n))
		return wrong(n, "coarse weights of groups need a multiple of 16 filters in each", err);
	if (!quant_has_middle(n))
		return wrong(n, "coarse weights need a kernel with a tap in the middle of every output", err);
	return c->coarse_scale && scales_ok(c->coarse_scale, n->shape.c) ?
	           WASD_OK :
	           wrong(n, "a scale of the coarse weights is not above 0", err);
}

enum wasd_status quant_check(const struct wasd_model *m, const struct wasd_quant *q, struct wasd_err *err)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	if (q->nodes != g->n_nodes)
		return wasd_fail(err, WASD_EINVAL, "int8: of a network of %d layers, this one has %d", q->nodes, g->n_nodes);
	for (int i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		enum wasd_status s = check_tensor(n, &q->tensor[i], err);
		if (!s && q->conv[i].on)
			s = check_conv(m, n, q, &q->conv[i], err);
		if (s)
			return s;
	}
	return q->tensor[g->output].type == WASD_QUANT_F32 ? WASD_OK :
	                                                     wrong(&g->nodes[g->output], "the output must be float", err);
}
