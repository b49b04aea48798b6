/* quant/minmax.c - the int8 network that follows from a folded network and some images, without options: ranges by the
 * largest values seen, symmetric weights with one scale per output channel, s = max |W| / 127, q = round(W / s). */
#include "graph/graph.h"
#include "quant/quant.h"

#include <math.h>
#include <string.h>

struct maker {
	struct wasd_model *m;
	const struct wasd_graph *g;
	float *range; /* per node: its largest |value| */
	struct wasd_quant q;
	int8_t *w; /* all 8-bit weights, as the master block has them */
	float *sw; /* their scales, layer after layer */
};

static size_t largest_node(const struct wasd_graph *g)
{
	size_t n = 0;
	for (int i = 0; i < g->n_nodes; i++)
		n = wasd_shape_count(g->nodes[i].shape) > n ? wasd_shape_count(g->nodes[i].shape) : n;
	return n;
}

/* ---- ranges ---- */

static enum wasd_status read_ranges(struct maker *k, struct wasd_exec *e, int n, struct wasd_err *err)
{
	real *v = wasd_malloc((size_t)n * largest_node(k->g) * sizeof *v);
	enum wasd_status s = v ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "ranges");
	for (int i = 0; !s && i < k->g->n_nodes; i++) {
		s = wasd_exec_activation(e, i, v, err);
		for (size_t j = 0; !s && j < (size_t)n * wasd_shape_count(k->g->nodes[i].shape); j++)
			k->range[i] = fmaxf(k->range[i], fabsf((float)v[j]));
	}
	wasd_free(v);
	return s;
}

static enum wasd_status find_ranges(struct maker *k, const real *x, int n, struct wasd_err *err)
{
	struct wasd_exec *e = NULL;
	struct wasd_exec_opts o = {.batch = n, .keep_all = true, .unmeasured = true};
	struct wasd_pass p = {.n = n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	enum wasd_status s = wasd_exec_create(k->m, &o, &e, err);
	if (!s)
		s = wasd_exec_forward(e, x, &p, err);
	if (!s)
		s = read_ranges(k, e, n, err);
	wasd_exec_destroy(e);
	return s;
}

/* ---- types and scales ---- */

static bool passes_on(const struct layer *l)
{
	return l == &layer_maxpool || l == &layer_avgpool || l == &layer_globalpool || l == &layer_concat ||
	       l == &layer_flatten;
}

static enum wasd_quant_type type_of(const struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	if (n->layer->is_act)
		return WASD_QUANT_U8;
	if (n->layer == &layer_boxsum || n->layer == &layer_globalpool)
		return WASD_QUANT_F32; /* sums: rounding them again would cost accuracy */
	if (!n->n_in || !passes_on(n->layer))
		return WASD_QUANT_S8;
	enum wasd_quant_type type = k->q.tensor[n->inputs[0]].type;
	for (int j = 1; j < n->n_in; j++)
		type = k->q.tensor[n->inputs[j]].type == type ? type : WASD_QUANT_S8;
	return type;
}

/* Gives the inputs and the output of a concat or a max-pool one range; true: something changed. */
static bool share(struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	float top = k->range[i];
	bool changed = false;
	if (n->layer != &layer_concat && n->layer != &layer_maxpool && n->layer != &layer_flatten)
		return false;
	for (int j = 0; j < n->n_in; j++)
		top = fmaxf(top, k->range[n->inputs[j]]);
	for (int j = 0; j <= n->n_in; j++) {
		float *r = &k->range[j < n->n_in ? n->inputs[j] : i];
		changed |= *r != top;
		*r = top;
	}
	return changed;
}

static void set_tensors(struct maker *k)
{
	for (bool again = true; again;) {
		again = false;
		for (int i = 1; i < k->g->n_nodes; i++)
			again |= share(k, i);
	}
	for (int i = 0; i < k->g->n_nodes; i++) {
		struct wasd_quant_tensor *t = &k->q.tensor[i];
		t->type = i == k->g->output ? WASD_QUANT_F32 : type_of(k, i);
		t->scale = k->range[i] > 0 ? k->range[i] / (t->type == WASD_QUANT_U8 ? 255 : 127) : 1;
	}
}

/* ---- weights ---- */

static bool suits(const struct maker *k, const struct node *n, wasd_node i)
{
	if (n->weight < 0 || k->q.tensor[n->inputs[0]].type == WASD_QUANT_F32)
		return false;
	if (n->layer == &layer_linear)
		return i != k->g->output && n->in.c <= QUANT_PRODUCTS_MAX;
	return n->layer == &layer_conv && (int64_t)(n->in.c / n->groups) * n->kh * n->kw <= QUANT_PRODUCTS_MAX;
}

void quant_channels(const real *w, int outs, size_t fan, int8_t *q, float *scale)
{
	for (int o = 0; o < outs; o++, w += fan, q += fan) {
		double top = 0;
		for (size_t i = 0; i < fan; i++)
			top = fmax(top, fabs((double)w[i]));
		scale[o] = top > 0 ? (float)(top / 127) : 1;
		for (size_t i = 0; i < fan; i++)
			q[i] = (int8_t)fmax(-128, fmin(127, nearbyint((double)w[i] / (double)scale[o])));
	}
}

static void set_weights(struct maker *k)
{
	float *sw = k->sw;
	for (int i = 1; i < k->g->n_nodes; i++) {
		const struct node *n = &k->g->nodes[i];
		if (!suits(k, n, i))
			continue;
		struct wasd_param_info p = wasd_graph_param_info(k->g, n->weight);
		int8_t *w = k->w + p.offset;
		quant_channels(wasd_model_weights(k->m, n->weight), p.dims[0], p.count / (size_t)p.dims[0], w, sw);
		k->q.conv[i] = (struct wasd_quant_conv){.on = true, .w = w, .scale = sw};
		sw += p.dims[0];
	}
}

static size_t outputs_of(const struct wasd_graph *g)
{
	size_t n = 1;
	for (int i = 0; i < g->n_nodes; i++)
		n += (size_t)g->nodes[i].shape.c;
	return n;
}

enum wasd_status quant_minmax(struct wasd_model *m, const real *x, int n, struct wasd_quant **out, struct wasd_err *err)
{
	struct maker k = {.m = m, .g = wasd_model_graph(m)};
	size_t nodes = (size_t)k.g->n_nodes;
	k.q.nodes = k.g->n_nodes;
	enum wasd_status s = WASD_OK;
	if (!(k.range = wasd_calloc(nodes, sizeof *k.range)) || !(k.q.tensor = wasd_calloc(nodes, sizeof *k.q.tensor)) ||
	    !(k.q.conv = wasd_calloc(nodes, sizeof *k.q.conv)) || !(k.w = wasd_malloc(k.g->param_count + 1)) ||
	    !(k.sw = wasd_calloc(outputs_of(k.g), sizeof *k.sw)))
		s = wasd_fail(err, WASD_ENOMEM, "8-bit weights");
	if (!s)
		s = find_ranges(&k, x, n, err);
	if (!s) {
		set_tensors(&k);
		set_weights(&k);
		s = quant_check(k.g, &k.q, err);
	}
	if (!s)
		s = quant_copy(k.g, &k.q, out, err);
	wasd_free(k.range);
	wasd_free(k.q.tensor);
	wasd_free(k.q.conv);
	wasd_free(k.w);
	wasd_free(k.sw);
	return s;
}
