/* tests/core/int8_nets.h - int8 networks with random integers, for the tests of their arithmetic. */
#ifndef TESTS_INT8_NETS_H
#define TESTS_INT8_NETS_H

#include "check.h"
#include "graph/graph.h"
#include "infer/bundle.h"
#include "quant/quant.h"

static struct wasd_rng dice;

static double between(double lo, double hi)
{
	return wasd_rng_between(&dice, lo, hi);
}

static int below(int n)
{
	return (int)wasd_rng_below(&dice, (uint32_t)n);
}

/* Arrays of an int8 network, all F32 and off. */
struct nets_quant {
	struct wasd_quant q;
};

static struct nets_quant *nets_quant(const struct wasd_graph *g)
{
	struct nets_quant *n = wasd_calloc(1, sizeof *n);
	n->q.nodes = g->n_nodes;
	n->q.tensor = wasd_calloc((size_t)g->n_nodes, sizeof *n->q.tensor);
	n->q.conv = wasd_calloc((size_t)g->n_nodes, sizeof *n->q.conv);
	for (int i = 0; i < g->n_nodes; i++)
		n->q.tensor[i].scale = 1;
	return n;
}

static void nets_done(struct nets_quant *n)
{
	for (int i = 0; i < n->q.nodes; i++) {
		wasd_free((void *)(uintptr_t)n->q.conv[i].w);
		wasd_free((void *)(uintptr_t)n->q.conv[i].scale);
		wasd_free((void *)(uintptr_t)n->q.conv[i].coarse);
		wasd_free((void *)(uintptr_t)n->q.conv[i].coarse_scale);
	}
	wasd_free(n->q.tensor);
	wasd_free(n->q.conv);
	wasd_free(n);
}

static size_t fan_of(const struct node *n)
{
	return n->layer == &layer_linear ? (size_t)n->in.c : (size_t)(n->in.c / n->groups) * (size_t)(n->kh * n->kw);
}

static int8_t *random_bytes(size_t n)
{
	int8_t *w = wasd_malloc(n + 1);
	for (size_t i = 0; i < n; i++)
		w[i] = (int8_t)(below(256) - 128);
	return w;
}

static float *random_scales(int n, double about)
{
	float *s = wasd_malloc((size_t)n * sizeof *s);
	for (int i = 0; i < n; i++)
		s[i] = (float)(about * between(0.5, 1.5));
	return s;
}

/* 8-bit weights that spread the outputs over the range of sy. */
static void random_conv(const struct node *n, struct wasd_quant *q, wasd_node i, double sy, bool coarse)
{
	struct wasd_quant_conv *c = &q->conv[i];
	size_t fan = fan_of(n);
	double about = sy * 100 / ((double)q->tensor[n->inputs[0]].scale * 127 * 74 * sqrt((double)fan));
	c->on = true;
	c->w = random_bytes(fan * (size_t)n->shape.c);
	c->scale = random_scales(n->shape.c, about);
	if (!coarse)
		return;
	c->coarse = random_bytes((size_t)n->shape.c * (size_t)(n->in.c / n->groups));
	c->coarse_scale = random_scales(n->shape.c, about);
}

static bool has_middle(const struct node *n)
{
	return n->layer == &layer_conv && (n->groups == 1 || (n->groups < n->in.c && n->out / n->groups % 16 == 0)) &&
	       n->kh % 2 && n->kw % 2 && n->pad_top == n->kh / 2 && n->pad_left == n->kw / 2 &&
	       (n->in.h - 1) / n->stride + 1 == n->shape.h && (n->in.w - 1) / n->stride + 1 == n->shape.w;
}

/* Any types and scales; `floats`: the share of tensors and layers that stay float. */
static struct nets_quant *random_quant(const struct wasd_graph *g, double floats)
{
	struct nets_quant *r = nets_quant(g);
	for (int i = 0; i < g->n_nodes; i++) {
		bool out = i == g->output;
		r->q.tensor[i].type = out || between(0, 1) < floats ? WASD_QUANT_F32 : below(3) ? WASD_QUANT_U8 : WASD_QUANT_S8;
		r->q.tensor[i].scale = (float)between(0.005, 0.02);
	}
	for (int i = 1; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		bool weighs = n->layer == &layer_linear || (n->layer == &layer_conv && n->kh);
		if (weighs && r->q.tensor[n->inputs[0]].type != WASD_QUANT_F32 && between(0, 1) >= floats)
			random_conv(n, &r->q, i, i == g->output ? 0.01 : (double)r->q.tensor[i].scale, has_middle(n) && !below(3));
	}
	return r;
}

/* ---- networks ---- */

static wasd_node random_layer(struct wasd_graph *g, wasd_node x, int i)
{
	char name[24];
	struct wasd_shape s = g->nodes[x].shape;
	int k = 1 + below(4), stride = 1 + !below(3), out = 1 + below(40), pad = below(k), groups = 1;
	snprintf(name, sizeof name, "l%d", i);
	switch (below(9)) {
	case 0:
		return s.h >= 2 && s.w >= 2 ? wasd_graph_maxpool(g, x, 2, 1 + below(2), 0) : x;
	case 1:
		return s.h >= 3 && s.w >= 3 ? below(2) ? wasd_graph_maxpool(g, x, 3, 1, 1) : wasd_graph_avgpool(g, x, 2, 1) : x;
	case 2:
		return s.h >= 2 && s.w >= 2 ? wasd_graph_boxsum(g, x, 2, 2, 1, 1, 0, s.h, s.w) : x;
	case 3: /* uneven padding, and windows that leave the image or do not reach its end */
		return wasd_graph_conv_rect(g, x, name, out, 1 + below(3), 1 + below(3), stride, below(3) - 1, below(3) - 1,
		                            (s.h - 1) / stride + 1, (s.w - 1) / stride + 1, 1, below(2));
	case 4:
		groups = s.c; /* one channel per filter */
		out = s.c;
		break;
	case 5:
		groups = s.c % 2 ? 1 : 2;
		out = 2 * (1 + below(20));
		break;
	case 6:
		k = 3;
		pad = 1;
		break;
	default:
		break;
	}
	if (s.h + 2 * pad < k || s.w + 2 * pad < k)
		k = 1, pad = 0;
	return wasd_graph_conv(g, x, name, out, k, stride, pad, groups, below(4) != 0);
}

static wasd_node random_act(struct wasd_graph *g, wasd_node x)
{
	int k = below(4);
	return k == 0 ? x : k == 1 ? wasd_graph_relu6(g, x) : wasd_graph_relu(g, x);
}

/* Two branches that an add or a concat joins. */
static wasd_node random_block(struct wasd_graph *g, wasd_node x, int i)
{
	char name[24];
	int out = 1 + below(40), k = 1 + 2 * below(2);
	snprintf(name, sizeof name, "a%d", i);
	wasd_node a = random_act(g, wasd_graph_conv(g, x, name, out, k, 1, k / 2, 1, true));
	if (below(2)) {
		snprintf(name, sizeof name, "b%d", i);
		wasd_node b = wasd_graph_conv(g, x, name, below(2) ? out : 1 + below(40), 3, 1, 1, 1, true);
		wasd_node joined[] = {a, below(2) ? random_act(g, b) : b};
		return g->nodes[b].shape.c == out && below(2) ? random_act(g, wasd_graph_add(g, joined[0], joined[1])) :
		                                                wasd_graph_concat(g, joined, 2);
	}
	snprintf(name, sizeof name, "c%d", i);
	wasd_node b = wasd_graph_conv(g, a, name, g->nodes[x].shape.c, 3, 1, 1, 1, true);
	return random_act(g, wasd_graph_add(g, b, x)); /* the block's input, which nobody reads later */
}

static inline struct wasd_graph *random_graph(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	struct wasd_shape in = {below(2) ? 3 : 1 + below(20), 2 + below(10), 2 + below(10)};
	CHECK(!wasd_graph_create(in, &g, &err));
	wasd_node x = wasd_graph_input(g);
	for (int i = 0, n = 1 + below(5); i < n; i++)
		x = below(3) ? random_act(g, random_layer(g, x, i)) : random_block(g, x, i);
	if (below(2))
		x = wasd_graph_globalpool(g, x);
	x = wasd_graph_flatten(g, x);
	if (below(3))
		x = wasd_graph_linear(g, x, "fc", 1 + below(30), below(2));
	CHECK_MSG(!wasd_graph_finish(g, x, &err), "%s", err.msg);
	return g;
}

#endif
