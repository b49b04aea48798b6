/* graph/build.c - builds and inspects a graph. Every call checks shapes at once. The first failure sticks and is
 * returned by wasd_graph_finish, so that a model builder needs no checks and reads like the network. */
#include "graph/graph.h"
#include "weights/strategy.h"

#include <stdio.h>
#include <string.h>

#define MAX_NODES 20000
#define MAX_PARAMS ((size_t)1 << 31) /* scalars */

static void fail(struct wasd_graph *g, enum wasd_status s, const char *name, const char *msg)
{
	if (g->status)
		return;
	g->status = *name ? wasd_fail(&g->err, s, "%s: %s", name, msg) : wasd_fail(&g->err, s, "%s", msg);
}

static bool grow(struct wasd_graph *g, void *array, int n, int *cap, size_t size)
{
	if (n < *cap)
		return true;
	int more = *cap ? 2 * *cap : 16;
	void *p = wasd_realloc(*(void **)array, (size_t)more * size);
	if (!p) {
		fail(g, WASD_ENOMEM, "", "no memory for the graph");
		return false;
	}
	*(void **)array = p;
	*cap = more;
	return true;
}

static int param_find(const struct wasd_graph *g, const char *name)
{
	for (int i = 0; i < g->n_params; i++)
		if (!strcmp(g->params[i].name, name))
			return i;
	return -1;
}

/* Adds parameter NAME.SUFFIX; suffix "" = NAME alone. */
int graph_add_param(struct wasd_graph *g, const char *name, const char *suffix, int ndims, const int *dims,
                    enum param_init init, int fan_in)
{
	if (g->status || !grow(g, &g->params, g->n_params, &g->cap_params, sizeof *g->params))
		return -1;
	struct param p = {.ndims = ndims, .count = 1, .offset = g->param_count, .init = init, .fan_in = fan_in};
	for (int i = 0; i < ndims; i++) {
		p.dims[i] = dims[i];
		p.count *= (size_t)dims[i];
	}
	if (p.count > MAX_PARAMS || g->param_count + p.count > MAX_PARAMS) {
		fail(g, WASD_ETOOBIG, name, "the network has more than 2^31 parameters");
		return -1;
	}
	p.name = *suffix ? wasd_asprintf("%s.%s", name, suffix) : wasd_strdup(name);
	if (!p.name) {
		fail(g, WASD_ENOMEM, name, "no memory for the graph");
		return -1;
	}
	if (param_find(g, p.name) >= 0) {
		fail(g, WASD_EEXIST, p.name, "two parameters have this name");
		wasd_free(p.name);
		return -1;
	}
	g->params[g->n_params] = p;
	g->param_count += p.count;
	return g->n_params++;
}

int graph_add_stats(struct wasd_graph *g, const char *name, int channels, double eps, double momentum)
{
	if (g->status || !grow(g, &g->stats, g->n_stats, &g->cap_stats, sizeof *g->stats))
		return -1;
	for (int i = 0; i < g->n_stats; i++)
		if (!strcmp(g->stats[i].name, name)) {
			fail(g, WASD_EEXIST, name, "two batch norms have this name");
			return -1;
		}
	char *copy = wasd_strdup(name);
	if (!copy) {
		fail(g, WASD_ENOMEM, name, "no memory for the graph");
		return -1;
	}
	g->stats[g->n_stats] = (struct stats){copy, channels, g->stats_count, eps, momentum};
	g->stats_count += 2 * (size_t)channels;
	return g->n_stats++;
}

/* Appends a copy of proto with the given inputs, after its layer has computed the shape. */
static wasd_node add_node(struct wasd_graph *g, const struct node *proto, const char *name, const wasd_node *x, int n)
{
	struct wasd_shape shapes[64], *in = shapes;
	struct wasd_err err = {0};
	char *copy = NULL;
	wasd_node *inputs = NULL;
	if (g->status)
		return -1;
	if (g->output >= 0 || n < 1 || n > 64 || g->n_nodes >= MAX_NODES) {
		fail(g, WASD_EINVAL, name,
		     g->output >= 0 ? "the graph is finished" :
		                      "a node must have 1 to 64 inputs, and a graph at most 20000 nodes");
		return -1;
	}
	for (int i = 0; i < n; i++) {
		if (x[i] < 0 || x[i] >= g->n_nodes) {
			fail(g, WASD_EINVAL, *name ? name : proto->layer->op, "an input is not a node of this graph");
			return -1;
		}
		in[i] = g->nodes[x[i]].shape;
	}
	struct node nd = *proto;
	nd.n_in = n;
	nd.in = in[0];
	if (nd.layer->shape(&nd, in, &err)) {
		fail(g, err.status, *name ? name : proto->layer->op, err.msg);
		return -1;
	}
	if (!grow(g, &g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes))
		return -1;
	copy = wasd_strdup(name);
	inputs = wasd_calloc((size_t)n, sizeof *inputs);
	if (!copy || !inputs) {
		wasd_free(copy);
		wasd_free(inputs);
		fail(g, WASD_ENOMEM, name, "no memory for the graph");
		return -1;
	}
	memcpy(inputs, x, (size_t)n * sizeof *inputs);
	nd.name = copy;
	nd.inputs = inputs;
	g->nodes[g->n_nodes] = nd;
	return g->n_nodes++;
}

struct node graph_node(const struct layer *l)
{
	return (struct node){.layer = l, .weight = -1, .bias = -1, .stats = -1, .aug = -1, .groups = 1, .stride = 1};
}

wasd_node graph_add(struct wasd_graph *g, const struct node *n, const char *name, const wasd_node *x, int n_in)
{
	wasd_node i = add_node(g, n, name, x, n_in);
	if (i >= 0 && n->layer->params)
		n->layer->params(g, &g->nodes[i]);
	return g->status ? -1 : i;
}

enum wasd_status wasd_graph_create(struct wasd_shape input, struct wasd_graph **out, struct wasd_err *err)
{
	struct wasd_graph *g = wasd_calloc(1, sizeof *g);
	if (!g)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the graph");
	atomic_init(&g->refs, 1);
	g->output = -1;
	struct node nd = graph_node(&layer_input);
	nd.in = nd.shape = input;
	nd.name = wasd_strdup("");
	enum wasd_status s = layer_input.shape(&nd, &input, err);
	if (s == WASD_OK && (!nd.name || !grow(g, &g->nodes, 0, &g->cap_nodes, sizeof *g->nodes)))
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the graph");
	if (s) {
		wasd_free((char *)nd.name);
		wasd_graph_destroy(g);
		return s;
	}
	g->nodes[g->n_nodes++] = nd;
	*out = g;
	return WASD_OK;
}

void wasd_graph_destroy(struct wasd_graph *g)
{
	if (!g || atomic_fetch_sub(&g->refs, 1) > 1)
		return;
	for (int i = 0; i < g->n_nodes; i++) {
		wasd_free((char *)g->nodes[i].name);
		wasd_free(g->nodes[i].inputs);
	}
	for (int i = 0; i < g->n_params; i++)
		wasd_free(g->params[i].name);
	for (int i = 0; i < g->n_stats; i++)
		wasd_free(g->stats[i].name);
	for (int i = 0; i < g->n_augs; i++)
		wasd_free(g->augs[i].alpha_name);
	wasd_free(g->nodes);
	wasd_free(g->params);
	wasd_free(g->stats);
	wasd_free(g->augs);
	wasd_free(g);
}

wasd_node wasd_graph_input(struct wasd_graph *g)
{
	return g->status ? -1 : 0;
}

/* ---- building calls -------------------------------------------------------------------------------- */

wasd_node wasd_graph_conv(struct wasd_graph *g, wasd_node x, const char *name, int out, int k, int stride, int padding,
                          int groups, bool bias)
{
	struct node nd = graph_node(&layer_conv);
	nd.out = out;
	nd.kh = nd.kw = k;
	nd.stride = stride;
	nd.pad_top = nd.pad_left = padding;
	nd.groups = groups;
	nd.biased = bias;
	return graph_add(g, &nd, name, &x, 1);
}

wasd_node wasd_graph_conv_rect(struct wasd_graph *g, wasd_node x, const char *name, int out, int kh, int kw, int stride,
                               int pad_top, int pad_left, int out_h, int out_w, int groups, bool bias)
{
	struct node nd = graph_node(&layer_conv);
	nd.out = out;
	nd.kh = kh;
	nd.kw = kw;
	nd.stride = stride;
	nd.pad_top = pad_top;
	nd.pad_left = pad_left;
	nd.groups = groups;
	nd.biased = bias;
	nd.shape.h = out_h;
	nd.shape.w = out_w;
	if (out_h < 1 || out_w < 1 || pad_top < -8192 || pad_top > 8192 || pad_left < -8192 || pad_left > 8192) {
		fail(g, WASD_EINVAL, name, "the output size is below 1 or the padding is outside -8192..8192");
		return -1;
	}
	return graph_add(g, &nd, name, &x, 1);
}

wasd_node wasd_graph_boxsum(struct wasd_graph *g, wasd_node x, int kh, int kw, int stride, int pad_top, int pad_left,
                            int out_h, int out_w)
{
	struct node nd = graph_node(&layer_boxsum);
	nd.kh = kh;
	nd.kw = kw;
	nd.stride = stride;
	nd.pad_top = pad_top;
	nd.pad_left = pad_left;
	nd.shape.h = out_h;
	nd.shape.w = out_w;
	if (pad_top < -8192 || pad_top > 8192 || pad_left < -8192 || pad_left > 8192) {
		fail(g, WASD_EINVAL, "boxsum", "the padding is outside -8192..8192");
		return -1;
	}
	return graph_add(g, &nd, "", &x, 1);
}

wasd_node wasd_graph_batchnorm(struct wasd_graph *g, wasd_node x, const char *name, double eps, double momentum)
{
	struct node nd = graph_node(&layer_batchnorm);
	nd.eps = eps;
	nd.momentum = momentum;
	return graph_add(g, &nd, name, &x, 1);
}

static wasd_node add_simple(struct wasd_graph *g, const struct layer *l, const wasd_node *x, int n)
{
	struct node nd = graph_node(l);
	return graph_add(g, &nd, "", x, n);
}

wasd_node wasd_graph_relu(struct wasd_graph *g, wasd_node x)
{
	return add_simple(g, &layer_relu, &x, 1);
}
wasd_node wasd_graph_relu6(struct wasd_graph *g, wasd_node x)
{
	return add_simple(g, &layer_relu6, &x, 1);
}
wasd_node wasd_graph_globalpool(struct wasd_graph *g, wasd_node x)
{
	return add_simple(g, &layer_globalpool, &x, 1);
}
wasd_node wasd_graph_flatten(struct wasd_graph *g, wasd_node x)
{
	return add_simple(g, &layer_flatten, &x, 1);
}
wasd_node wasd_graph_add(struct wasd_graph *g, wasd_node a, wasd_node b)
{
	return add_simple(g, &layer_add, (wasd_node[]){a, b}, 2);
}
wasd_node wasd_graph_concat(struct wasd_graph *g, const wasd_node *x, int n)
{
	return add_simple(g, &layer_concat, x, n);
}

static wasd_node add_pool(struct wasd_graph *g, const struct layer *l, wasd_node x, int k, int stride, int padding)
{
	struct node nd = graph_node(l);
	nd.kh = nd.kw = k;
	nd.stride = stride;
	nd.pad_top = nd.pad_left = padding;
	return graph_add(g, &nd, "", &x, 1);
}

wasd_node wasd_graph_maxpool(struct wasd_graph *g, wasd_node x, int k, int stride, int padding)
{
	return add_pool(g, &layer_maxpool, x, k, stride, padding);
}
wasd_node wasd_graph_avgpool(struct wasd_graph *g, wasd_node x, int k, int stride)
{
	return add_pool(g, &layer_avgpool, x, k, stride, 0);
}

wasd_node wasd_graph_linear(struct wasd_graph *g, wasd_node x, const char *name, int out, bool bias)
{
	struct node nd = graph_node(&layer_linear);
	nd.out = out;
	nd.biased = bias;
	return graph_add(g, &nd, name, &x, 1);
}

static wasd_node add_drop(struct wasd_graph *g, const struct layer *l, wasd_node x, double p)
{
	struct node nd = graph_node(l);
	nd.p = p;
	return graph_add(g, &nd, "", &x, 1);
}

wasd_node wasd_graph_dropout(struct wasd_graph *g, wasd_node x, double p)
{
	return add_drop(g, &layer_dropout, x, p);
}
wasd_node wasd_graph_dropconnect(struct wasd_graph *g, wasd_node x, double rate)
{
	return add_drop(g, &layer_dropconnect, x, rate);
}

static int copy_param(struct wasd_graph *g, const struct wasd_graph *from, int i)
{
	if (i < 0)
		return -1;
	const struct param *p = &from->params[i];
	return graph_add_param(g, p->name, "", p->ndims, p->dims, p->init, p->fan_in);
}

wasd_node graph_copy_node(struct wasd_graph *g, const struct wasd_graph *from, const struct node *n, const wasd_node *x)
{
	struct node nd = *n;
	nd.weight = nd.bias = nd.stats = nd.aug = -1;
	wasd_node c = add_node(g, &nd, n->name, x, n->n_in);
	if (c < 0)
		return -1;
	int w = copy_param(g, from, n->weight), b = copy_param(g, from, n->bias);
	g->nodes[c].weight = w;
	g->nodes[c].bias = b;
	if (n->stats >= 0)
		g->nodes[c].stats = graph_add_stats(g, from->stats[n->stats].name, from->stats[n->stats].channels, n->eps,
		                                    n->momentum);
	return g->status ? -1 : c;
}

void wasd_graph_param(struct wasd_graph *g, const char *name, int count, enum wasd_init kind)
{
	if (count < 1)
		fail(g, WASD_EINVAL, name, "a parameter must have at least one element");
	else
		graph_add_param(g, name, "", 1, &count, (enum param_init)kind, 0);
}

void wasd_graph_spare_stats(struct wasd_graph *g, const char *name, int channels)
{
	if (channels < 1)
		fail(g, WASD_EINVAL, name, "statistics must have at least one channel");
	else
		graph_add_stats(g, name, channels, 1e-5, 0.1);
}

void wasd_graph_initial(struct wasd_graph *g, enum wasd_initial initial)
{
	g->initial = initial;
}

void wasd_graph_augmentable(struct wasd_graph *g, const char *conv, const char *alpha_param, int index)
{
	wasd_node c = -1;
	for (int i = 0; i < g->n_nodes && c < 0; i++)
		if (g->nodes[i].layer == &layer_conv && !strcmp(g->nodes[i].name, conv))
			c = i;
	if (g->status)
		return;
	if (c < 0 || g->nodes[c].aug >= 0 || g->nodes[c].kh != g->nodes[c].kw || g->nodes[c].kh < 1 ||
	    g->nodes[c].kh > WASD_K_MAX) {
		fail(g, WASD_EINVAL, conv,
		     c < 0                ? "no convolution has this name" :
		     g->nodes[c].aug >= 0 ? "already augmentable" :
		                            "only square kernels up to 7x7 can be augmented");
		return;
	}
	if (!grow(g, &g->augs, g->n_augs, &g->cap_augs, sizeof *g->augs))
		return;
	char *copy = alpha_param ? wasd_strdup(alpha_param) : NULL;
	if (alpha_param && !copy) {
		fail(g, WASD_ENOMEM, conv, "no memory for the graph");
		return;
	}
	/* Keep execution order: insert before the first entry of a later node. */
	int at = g->n_augs;
	for (; at > 0 && g->augs[at - 1].conv > c; at--) {
		g->augs[at] = g->augs[at - 1];
		g->nodes[g->augs[at].conv].aug = at;
	}
	g->augs[at] = (struct aug){c, copy, -1, alpha_param ? index : 0};
	g->nodes[c].aug = at;
	g->n_augs++;
}

enum wasd_status wasd_graph_finish(struct wasd_graph *g, wasd_node output, struct wasd_err *err)
{
	for (int i = 0; i < g->n_augs && !g->status; i++) {
		struct aug *a = &g->augs[i];
		if (!a->alpha_name)
			continue;
		a->alpha_param = param_find(g, a->alpha_name);
		if (a->alpha_param < 0 || a->alpha_index < 0 || (size_t)a->alpha_index >= g->params[a->alpha_param].count)
			fail(g, WASD_EINVAL, g->nodes[a->conv].name, "alpha is not an element of a parameter");
	}
	if (!g->status &&
	    (output < 0 || output >= g->n_nodes || g->nodes[output].shape.h != 1 || g->nodes[output].shape.w != 1))
		fail(g, WASD_EINVAL, "output", "must be a node of shape (classes,1,1)");
	if (g->status) {
		if (err)
			*err = g->err;
		return g->status;
	}
	g->output = output;
	return WASD_OK;
}

/* ---- inspection --------------------------------------------------------------------------------------- */

struct wasd_shape wasd_graph_input_shape(const struct wasd_graph *g)
{
	return g->nodes[0].shape;
}
int wasd_graph_classes(const struct wasd_graph *g)
{
	return g->output < 0 ? 0 : g->nodes[g->output].shape.c;
}
int wasd_graph_params(const struct wasd_graph *g)
{
	return g->n_params;
}
int wasd_graph_param_find(const struct wasd_graph *g, const char *name)
{
	return param_find(g, name);
}
size_t wasd_graph_param_count(const struct wasd_graph *g)
{
	return g->param_count;
}
int wasd_graph_stats(const struct wasd_graph *g)
{
	return g->n_stats;
}
size_t wasd_graph_stats_count(const struct wasd_graph *g)
{
	return g->stats_count;
}
int wasd_graph_augs(const struct wasd_graph *g)
{
	return g->n_augs;
}
int wasd_graph_nodes(const struct wasd_graph *g)
{
	return g->n_nodes;
}

struct wasd_param_info wasd_graph_param_info(const struct wasd_graph *g, int i)
{
	const struct param *p = &g->params[i];
	struct wasd_param_info info = {.name = p->name, .ndims = p->ndims, .count = p->count, .offset = p->offset};
	memcpy(info.dims, p->dims, sizeof info.dims);
	return info;
}

struct wasd_stats_info wasd_graph_stats_info(const struct wasd_graph *g, int i)
{
	const struct stats *s = &g->stats[i];
	return (struct wasd_stats_info){s->name, s->channels, s->offset, s->offset + (size_t)s->channels,
	                                s->eps,  s->momentum};
}

struct wasd_aug_info wasd_graph_aug_info(const struct wasd_graph *g, int i)
{
	const struct aug *a = &g->augs[i];
	const struct node *n = &g->nodes[a->conv];
	return (struct wasd_aug_info){n->name,   n->kh,     n->in.c,        n->out,
	                              n->groups, n->weight, a->alpha_param, a->alpha_index};
}

struct wasd_node_info wasd_graph_node_info(const struct wasd_graph *g, wasd_node i)
{
	const struct node *n = &g->nodes[i];
	bool window = n->kh > 0;
	struct wasd_node_info info = {
		.op = n->layer->op,
		.name = n->name,
		.shape = n->shape,
		.n_inputs = n->n_in,
		.inputs = n->inputs,
		.macs = n->layer->macs ? n->layer->macs(n, n->kh * n->kw) : 0,
		.kh = n->kh,
		.kw = n->kw,
		.stride = window ? n->stride : 0,
		.groups = window && n->weight >= 0 ? n->groups : 0,
		.weight = n->weight,
		.bias = n->bias,
		.aug = n->aug,
	};
	const int own[] = {n->weight, n->bias};
	for (int k = 0; k < 2; k++)
		info.params += own[k] >= 0 ? g->params[own[k]].count : 0;
	return info;
}

const char *wasd_graph_lone_value(const struct wasd_graph *g)
{
	for (int i = 0; i < g->n_nodes; i++)
		if (g->nodes[i].stats >= 0 && g->nodes[i].shape.h == 1 && g->nodes[i].shape.w == 1)
			return g->nodes[i].name;
	return NULL;
}

bool graph_boxed(const struct node *n, const struct weight_shape *shape)
{
	return n->in.c > n->groups && shape->equal;
}

/* Number of taps that a convolution computes. */
static int taps_of(const struct node *n, const struct wasd_recipe *r)
{
	struct weight_shape shape;
	if (!r || n->aug < 0 || !r->by->shape(r, n->aug, &shape))
		return n->kh * n->kw;
	return graph_boxed(n, &shape) ? 1 : shape.live.h * shape.live.w;
}

uint64_t wasd_graph_macs(const struct wasd_graph *g, const struct wasd_recipe *r)
{
	uint64_t sum = 0;
	for (int i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		if (n->layer->macs)
			sum += n->layer->macs(n, taps_of(n, r));
	}
	return sum;
}
