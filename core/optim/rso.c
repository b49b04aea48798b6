/* core/optim/rso.c - Random Search Optimization (Tripathi and Singh, arXiv 2005.05955): no gradients. As the authors'
 * code (rohun-tripathi/RSO-gradient-free, train.py) has it:
 *
 *   per cycle c = 0..C-1, tensors from the last layer to the first, scalars of a tensor in row-major order:
 *       the next mini-batch;  w0 = w (1 - wd);  d ~ N(0, sd_c)
 *       w = argmin of the batch's loss over w0, w0 + d, w0 - d;  the first wins ties
 *   sd_c = sigma (A + (1 - A) (C - c) / C);  sigma = sqrt(2 / fan_in) for weights of convolutions and linear layers
 *
 * One epoch is one cycle. Batch norm uses the statistics of the very batch. A loss that is not finite counts as
 * infinite. Within a layer the order is weight, bias, and of the batch norms behind it offset, then scale; the code has
 * no biases, which are treated as offsets are. Differences from the code, which keeps the activations in front of a
 * tensor for all training images, with moving statistics: here they are computed for each batch, with its own. With
 * weights_per_batch above 1, which is not the authors', several scalars of a tensor are tried on one batch.
 *
 * What a candidate costs. A pass over the whole batch gives the loss of w0 and every node's output. A weight
 * (o,i,ky,kx) of a convolution reaches channel o of its output alone:
 *
 *   y[n,o,v,u] += (w' - w) x[n,i, stride v - pad + ky, stride u - pad + kx]
 *
 * in exact arithmetic; of a linear layer one column, of a bias one channel. The pass then goes on from there
 * (wasd_exec_forward_from), so a candidate costs what lies behind the layer. Batch norm is computed again instead.
 *
 * The changes of a step are drawn from stream "rso" of the seed with its epoch and step as counters. */
#include "optim/rso.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "optim/kinds.h"

enum { ANNEAL, DECAY, BN_SIGMA, PER_BATCH };

/* ---- the order of the visits -------------------------------------------------------------------------------- */

static bool is_batchnorm(const struct node *n)
{
	return n->stats >= 0 && n->weight >= 0;
}

static bool leads(const struct node *n)
{
	return n->weight >= 0 && !is_batchnorm(n);
}

/* The layer that a batch norm stands behind: the nearest one with weights, through its first inputs. Without one the
 * batch norm itself. */
static wasd_node leader(const struct wasd_graph *g, wasd_node bn)
{
	for (wasd_node i = bn; g->nodes[i].n_in; i = g->nodes[i].inputs[0])
		if (leads(&g->nodes[g->nodes[i].inputs[0]]))
			return g->nodes[i].inputs[0];
	return bn;
}

static void add_place(struct rso *r, wasd_node node, int param, bool bias, double bn_sigma)
{
	const struct node *n = &r->graph->nodes[node];
	if (param < 0)
		return;
	const struct param *p = &r->graph->params[param];
	size_t fan_in = p->count / (size_t)p->dims[0];
	r->place[r->n_places++] = (struct rso_place){
		.node = node,
		.param = param,
		.bias = bias,
		.direct = n->layer == &layer_conv || n->layer == &layer_linear,
		.sigma = p->ndims > 1 ? sqrt(2 / (double)fan_in) : bn_sigma,
	};
}

static void order(struct rso *r, double bn_sigma)
{
	const struct wasd_graph *g = r->graph;
	for (wasd_node i = g->n_nodes - 1; i >= 0; i--) {
		if (leads(&g->nodes[i])) {
			add_place(r, i, g->nodes[i].weight, false, bn_sigma);
			add_place(r, i, g->nodes[i].bias, true, bn_sigma);
		}
		for (wasd_node b = i; b < g->n_nodes; b++)
			if (is_batchnorm(&g->nodes[b]) && leader(g, b) == i) {
				add_place(r, b, g->nodes[b].bias, true, bn_sigma);
				add_place(r, b, g->nodes[b].weight, false, bn_sigma);
			}
	}
}

/* The share of the multiply-adds that depend on the output of `from`. reached: per node. */
static double behind(const struct wasd_graph *g, wasd_node from, bool *reached)
{
	double sum = 0, all = (double)wasd_graph_macs(g, NULL);
	memset(reached, 0, (size_t)g->n_nodes * sizeof *reached);
	reached[from] = true;
	for (wasd_node i = from + 1; i < g->n_nodes; i++) {
		for (int k = 0; k < g->nodes[i].n_in; k++)
			reached[i] |= reached[g->nodes[i].inputs[k]];
		if (reached[i])
			sum += (double)wasd_graph_node_info(g, i).macs;
	}
	return all > 0 ? sum / all : 1;
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t count_of(const struct rso *r, const struct rso_place *p)
{
	return r->graph->params[p->param].count;
}

/* Steps, costs and sizes of the buffers. */
static enum wasd_status measure(struct rso *r, struct wasd_err *err)
{
	uint64_t steps = 0;
	bool *reached = wasd_calloc((size_t)r->graph->n_nodes, sizeof *reached);
	if (!reached)
		return wasd_fail(err, WASD_ENOMEM, "search");
	for (int i = 0; i < r->n_places; i++) {
		struct rso_place *p = &r->place[i];
		const struct node *n = &r->graph->nodes[p->node];
		p->first = (uint32_t)steps;
		p->share = behind(r->graph, p->node, reached);
		steps += (count_of(r, p) + r->per_batch - 1) / r->per_batch;
		if (!p->direct)
			continue;
		r->in = larger(r->in, wasd_shape_count(n->in));
		r->out = larger(r->out, wasd_shape_count(n->shape));
		r->plane = larger(r->plane, (size_t)n->shape.h * (size_t)n->shape.w);
	}
	wasd_free(reached);
	if (!steps || steps > INT_MAX)
		return wasd_fail_at(err, WASD_EINVAL, "/model",
		                    "the network has %llu batches of scalars to search, not 1 to %d", (unsigned long long)steps,
		                    INT_MAX);
	r->steps = (uint32_t)steps;
	return WASD_OK;
}

static void destroy(void *self)
{
	struct rso *r = self;
	if (!r)
		return;
	wasd_free(r->place);
	wasd_free(r->x);
	wasd_free(r->y);
	wasd_free(r->channel);
	wasd_free(r->delta);
	wasd_free(r);
}

static enum wasd_status create(const struct wasd_search_setup *s, void **self, struct wasd_err *err)
{
	struct rso *r = wasd_calloc(1, sizeof *r);
	if (!r || !(r->place = wasd_calloc((size_t)s->graph->n_params + 1, sizeof *r->place))) {
		destroy(r);
		return wasd_fail(err, WASD_ENOMEM, "search");
	}
	r->graph = s->graph;
	r->anneal = s->opt[ANNEAL];
	r->decay = s->opt[DECAY];
	r->per_batch = (size_t)s->opt[PER_BATCH];
	r->spares = s->spares;
	r->batch = s->batch;
	r->epochs = s->epochs;
	r->seed = s->seed;
	order(r, s->opt[BN_SIGMA]);
	enum wasd_status st = measure(r, err);
	if (st)
		destroy(r);
	else
		*self = r;
	return st;
}

static uint32_t steps(const void *self)
{
	return ((const struct rso *)self)->steps;
}

static double weight_decay(const struct rso *r, const struct rso_place *p)
{
	return r->spares && r->graph->params[p->param].ndims < 2 ? 0 : r->decay;
}

/* The scalars of step k of a place. */
static size_t scalars(const struct rso *r, const struct rso_place *p, uint32_t k, size_t *from)
{
	size_t left = count_of(r, p) - (*from = (k - p->first) * r->per_batch);
	return left < r->per_batch ? left : r->per_batch;
}

static const struct rso_place *place_of(const struct rso *r, uint32_t step)
{
	int i = r->n_places - 1;
	while (r->place[i].first > step)
		i--;
	return &r->place[i];
}

static double passes(const void *self, uint32_t from, uint32_t to)
{
	const struct rso *r = self;
	double sum = 0;
	for (int i = 0; i < r->n_places; i++) {
		const struct rso_place *p = &r->place[i];
		uint32_t end = i + 1 < r->n_places ? p[1].first : r->steps, a = from > p->first ? from : p->first,
				 b = to < end ? to : end;
		if (a >= b)
			continue;
		size_t first, last, n = scalars(r, p, b - 1, &last);
		scalars(r, p, a, &first);
		n += last - first; /* scalars; the loss of the first of each batch comes with the whole pass */
		double tries = (weight_decay(r, p) > 0 ? 3.0 : 2.0) * (double)n - (weight_decay(r, p) > 0 ? b - a : 0);
		sum += (double)(b - a) + tries * (r->whole ? 1 : p->share);
	}
	return sum;
}

static size_t bytes(const void *self)
{
	const struct rso *r = self;
	return (r->in + r->out + r->plane) * (size_t)r->batch * sizeof(real);
}

static enum wasd_status begin(void *self, struct wasd_err *err)
{
	struct rso *r = self;
	size_t n = (size_t)r->batch;
	r->x = wasd_calloc(r->in * n + 1, sizeof(real));
	r->y = wasd_calloc(r->out * n + 1, sizeof(real));
	r->channel = wasd_calloc(r->plane * n + 1, sizeof(real));
	r->delta = wasd_calloc(r->per_batch, sizeof *r->delta);
	return r->x && r->y && r->channel && r->delta ? WASD_OK :
	                                                wasd_fail(err, WASD_ENOMEM, "no memory for the search's batches");
}

/* ---- a change in the output of its layer ----------------------------------------------------------------- */

/* One scalar of a direct place: it reaches channel o of y, from channel i of x by a shift; i < 0: a bias. */
struct reach {
	const struct node *node;
	int o, i, ky, kx, n;
};

static struct reach reach_of(const struct rso *r, const struct rso_place *p, size_t k, int n)
{
	const struct node *nd = &r->graph->nodes[p->node];
	struct reach at = {.node = nd, .o = (int)k, .i = -1, .n = n};
	if (p->bias)
		return at;
	bool conv = nd->layer == &layer_conv;
	size_t taps = conv ? (size_t)(nd->kh * nd->kw) : 1, ins = (size_t)(nd->in.c / (conv ? nd->groups : 1));
	at.o = (int)(k / (ins * taps));
	at.i = (int)(k / taps % ins) + (conv ? at.o / (nd->shape.c / nd->groups) * (int)ins : 0);
	at.ky = conv ? (int)(k % taps) / nd->kw : 0;
	at.kx = conv ? (int)(k % taps) % nd->kw : 0;
	return at;
}

static size_t plane_of(struct wasd_shape s)
{
	return (size_t)s.h * (size_t)s.w;
}

/* Copies the channel between y and the spare buffer. */
static void save_channel(struct rso *r, const struct reach *at, bool restore)
{
	size_t hw = plane_of(at->node->shape), c = (size_t)at->node->shape.c;
	for (size_t n = 0; n < (size_t)at->n; n++) {
		real *y = r->y + (n * c + (size_t)at->o) * hw, *kept = r->channel + n * hw;
		memcpy(restore ? y : kept, restore ? kept : y, hw * sizeof *y);
	}
}

/* The first and one past the last output whose tap k lies within the input. */
static void inside(int outputs, int inputs, int stride, int offset, int *from, int *to)
{
	*from = offset < 0 ? (-offset + stride - 1) / stride : 0;
	*to = offset < inputs ? (inputs - 1 - offset) / stride + 1 : 0;
	*to = *to < outputs ? *to : outputs;
}

static void add_shifted(const struct reach *at, real delta, const real *x, real *y)
{
	const struct node *nd = at->node;
	bool conv = nd->layer == &layer_conv;
	int stride = conv ? nd->stride : 1, dy = conv ? at->ky - nd->pad_top : 0, dx = conv ? at->kx - nd->pad_left : 0;
	int top, bottom, left, right;
	inside(nd->shape.h, nd->in.h, stride, dy, &top, &bottom);
	inside(nd->shape.w, nd->in.w, stride, dx, &left, &right);
	for (int v = top; v < bottom; v++) {
		real *to = y + (size_t)v * (size_t)nd->shape.w;
		const real *from = x + (size_t)(v * stride + dy) * (size_t)nd->in.w;
		for (int u = left; u < right; u++)
			to[u] += delta * from[u * stride + dx];
	}
}

static void add_change(struct rso *r, const struct reach *at, real delta)
{
	struct wasd_shape in = at->node->in, out = at->node->shape;
	for (int n = 0; n < at->n; n++) {
		real *y = r->y + ((size_t)n * (size_t)out.c + (size_t)at->o) * plane_of(out);
		if (at->i >= 0)
			add_shifted(at, delta, r->x + ((size_t)n * (size_t)in.c + (size_t)at->i) * plane_of(in), y);
		else
			for (size_t k = 0; k < plane_of(out); k++)
				y[k] += delta;
	}
}

void rso_add_change(struct rso *r, const struct rso_place *p, size_t k, int n, real delta)
{
	struct reach at = reach_of(r, p, k, n);
	add_change(r, &at, delta);
}

/* ---- a step --------------------------------------------------------------------------------------------------- */

struct trial {
	double loss;
	int hits;
};

/* The loss of the last pass; infinite if it is not finite. */
static enum wasd_status judge(const struct wasd_search_step *s, struct trial *out, struct wasd_err *err)
{
	enum wasd_status st = wasd_exec_loss_of(s->exec, s->targets, &out->loss, &out->hits, err);
	if (st != WASD_ENUMERIC)
		return st;
	*out = (struct trial){INFINITY, 0};
	return WASD_OK;
}

static enum wasd_status whole_pass(const struct wasd_search_step *s, struct trial *out, struct wasd_err *err)
{
	struct wasd_pass pass = {.n = s->n, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN};
	enum wasd_status st = wasd_exec_forward(s->exec, s->x, &pass, err);
	return st ? st : judge(s, out, err);
}

/* One scalar under trial. */
struct scalar {
	struct rso *r;
	const struct rso_visit *v;
	const struct wasd_search_step *s;
	struct reach at;
	real *w; /* in the master block */
	real of; /* the value that the kept channel belongs to */
};

/* The loss with the value that *c->w has now. */
static enum wasd_status try(struct scalar *c, struct trial *out, struct wasd_err *err)
{
	const struct rso_place *p = c->v->place;
	if (c->r->whole)
		return whole_pass(c->s, out, err);
	if (p->direct) {
		save_channel(c->r, &c->at, true);
		add_change(c->r, &c->at, *c->w - c->of);
	}
	enum wasd_status st = wasd_exec_forward_from(c->s->exec, p->node, p->direct ? c->r->y : NULL, err);
	return st ? st : judge(c->s, out, err);
}

/* Tries w + d and w - d after w, whose loss is *best, and leaves the best of the three in place. */
static enum wasd_status try_changes(struct scalar *c, double d, struct trial *best, bool *changed, struct wasd_err *err)
{
	real kept = *c->w, value = kept;
	enum wasd_status st = WASD_OK;
	*changed = false;
	for (int sign = 1; !st && sign >= -1; sign -= 2) {
		struct trial t;
		*c->w = (real)((double)kept + sign * d);
		if (*c->w == kept) /* the loss would be the same, and the first wins ties */
			continue;
		if ((st = try(c, &t, err)))
			break;
		if (!(t.loss < best->loss))
			continue;
		*best = t;
		*changed = true;
		value = *c->w;
	}
	*c->w = value;
	return st;
}

/* With the first pass of the step behind it: keeps what the changes of a direct layer start from. */
static enum wasd_status keep_layer(struct rso *r, const struct rso_visit *v, const struct wasd_search_step *s,
                                   struct wasd_err *err)
{
	wasd_node node = v->place->node;
	if (r->whole || !v->place->direct)
		return WASD_OK;
	enum wasd_status st = v->place->bias ? WASD_OK :
	                                       wasd_exec_activation(s->exec, r->graph->nodes[node].inputs[0], r->x, err);
	return st ? st : wasd_exec_activation(s->exec, node, r->y, err);
}

/* Scalar k of the visit. *best: its loss as it stands, after the first. */
static enum wasd_status visit_scalar(struct rso *r, const struct rso_visit *v, size_t k,
                                     const struct wasd_search_step *s, struct trial *best, bool *changed,
                                     struct wasd_err *err)
{
	struct scalar c = {.r = r, .v = v, .s = s};
	enum wasd_status st = WASD_OK;
	c.w = wasd_model_master(s->model) + r->graph->params[v->place->param].offset + v->from + k;
	real before = *c.w;
	*c.w = (real)((double)before * (1 - weight_decay(r, v->place)));
	if (!k && ((st = whole_pass(s, best, err)) || (st = keep_layer(r, v, s, err))))
		return st;
	c.of = k ? before : *c.w;
	if (v->place->direct && !r->whole) {
		c.at = reach_of(r, v->place, v->from + k, s->n);
		save_channel(r, &c.at, false);
	}
	if (k && *c.w != before)
		st = try(&c, best, err);
	if (!st)
		st = try_changes(&c, v->d[k], best, changed, err);
	if (!st && v->place->direct && !r->whole) { /* for the next scalar of this batch */
		save_channel(r, &c.at, true);
		add_change(r, &c.at, *c.w - c.of);
	}
	return st;
}

enum wasd_status rso_visit(struct rso *r, const struct rso_visit *v, const struct wasd_search_step *s,
                           struct wasd_search_result *out, struct wasd_err *err)
{
	struct trial best = {INFINITY, 0};
	enum wasd_status st = WASD_OK;
	uint32_t flips = 0;
	for (size_t k = 0; !st && k < v->n; k++) {
		bool changed;
		st = visit_scalar(r, v, k, s, &best, &changed, err);
		flips += !st && changed;
	}
	if (st)
		return st;
	if (!isfinite(best.loss))
		return wasd_fail(err, WASD_ENUMERIC, "%s: the loss is NaN or infinite with every value that was tried",
		                 r->graph->params[v->place->param].name);
	*out = (struct wasd_search_result){best.loss, best.hits, (uint32_t)v->n, flips};
	return WASD_OK;
}

double rso_anneal(const struct rso *r, int cycle)
{
	return r->anneal + (1 - r->anneal) * (r->epochs - cycle) / r->epochs;
}

static enum wasd_status step(void *self, const struct wasd_search_step *s, struct wasd_search_result *out,
                             struct wasd_err *err)
{
	struct rso *r = self;
	struct wasd_rng rng;
	struct rso_visit v = {.place = place_of(r, s->step), .d = r->delta};
	double sd = v.place->sigma * rso_anneal(r, s->epoch);
	v.n = scalars(r, v.place, s->step, &v.from);
	wasd_rng_init(&rng, r->seed, "rso", (uint64_t)s->epoch, s->step);
	for (size_t k = 0; k < v.n; k++)
		r->delta[k] = sd * wasd_rng_normal(&rng);
	return rso_visit(r, &v, s, out, err);
}

static const struct wasd_search search = {
	.create = create,
	.destroy = destroy,
	.steps = steps,
	.passes = passes,
	.bytes = bytes,
	.begin = begin,
	.step = step,
	.changed = "rso_flips",
};

const struct wasd_optim_kind optim_rso = {
	.name = "rso",
	.summary = "random search, weight by weight, without gradients",
	.options =
		{
			[ANNEAL] = {"anneal", WASD_NUM, "0.1", 0, 1, .above_min = true,
                        .summary = "share of the changes' deviation towards which it falls"},
			[DECAY] = {"weight_decay", WASD_NUM, "0.0001", 0, 1,
                       .summary = "share by which a weight shrinks whenever it is tried"},
			[BN_SIGMA] = {"bn_sigma", WASD_NUM, "0.167", 0, 1e3, .above_min = true,
                          .summary = "deviation of the changes of batch norms and biases at first"},
			[PER_BATCH] = {"weights_per_batch", WASD_INT, "1", 1, 4096,
                           .summary = "weights that are tried on one batch"},
		},
	.search = &search,
};
