/* infer/fold.c - folds a network for serving.
 *
 * A convolution (weights W, bias b) followed by batch normalisation with stored mean m and variance v is
 * equivalent to one convolution:
 *
 *     s = gamma / sqrt(v + eps)        W' = s W        b' = s (b - m) + beta          per output channel
 *
 * Convolutions that read the same tensor and whose outputs are added are one convolution too: the sum of their kernels,
 * each tap at its distance from the output's position, and of their biases. A normalisation that reads that tensor
 * itself is such a branch, with one tap: W'[o,o] = s, b' = beta - s m. So a block of RepVGG (Ding et al., arXiv
 * 2101.03697) becomes a single convolution: its 3x3 and 1x1 branches, and its identity branch where the shape stays.
 * Two branches are summed if the rectangle around the taps of both has no more taps than they have together; so a
 * recipe that moves the taps of one away from those of the other leaves them apart.
 *
 * Dead taps are removed, which leaves a smaller kernel with its own padding, so the saved multiply-adds also save
 * time. A kernel with equal taps becomes a sum over its window followed by one tap. Dropout and drop-connect become
 * the identity. */
#include "infer/fold.h"
#include "graph/graph.h"
#include "weights/strategy.h"

#include <math.h>
#include <string.h>

/* A convolution of node `source`, alone or the sum of several. taps: its rectangle of taps, with (0, 0) at the place of
 * the input that belongs to an output's position. */
struct branch {
	wasd_node source, conv; /* conv: one of its convolutions; -1: none is among its parts. source -1: not a branch */
	struct wasd_rect taps;
};

/* What folding does with one node of the source. */
struct fold {
	wasd_node to; /* its counterpart; for a folded normalisation, the convolution's; -1: it has none, a sum has it */
	wasd_node bn; /* for a convolution: the normalisation folded into it, -1 = none */
	bool formed;  /* for a convolution: the recipe forms its weights, in this shape */
	struct weight_shape shape;
	struct branch branch; /* that its output is */
	bool sum;             /* an addition of two branches that is a branch itself */
	bool part;            /* computed by the sum that reads it */
	int users;
};

struct folding {
	struct wasd_model *src;
	const struct wasd_graph *from;
	const struct wasd_recipe *recipe;
	const real *stats;
	struct wasd_graph *to;
	struct fold *node;
	real *kernel; /* room for the kernel of one branch of a sum */
};

static const struct node *node_of(const struct wasd_graph *g, wasd_node i)
{
	return &g->nodes[i];
}

static struct wasd_rect live_of(const struct node *n, const struct fold *how)
{
	return how->formed ? how->shape.live : (struct wasd_rect){0, 0, n->kh, n->kw};
}

static bool boxed(const struct node *n, const struct fold *how)
{
	return how->formed && graph_boxed(n, &how->shape);
}

/* Marks the normalisations to fold into the preceding convolution: those that are its only reader. */
static void pair_up(struct folding *f)
{
	int nodes = wasd_graph_nodes(f->from);
	for (wasd_node i = 0; i < nodes; i++) {
		const struct node *n = node_of(f->from, i);
		f->node[i].bn = -1;
		for (int k = 0; k < n->n_in; k++)
			f->node[n->inputs[k]].users++;
		f->node[i].formed = n->aug >= 0 && f->recipe && f->recipe->by->shape(f->recipe, n->aug, &f->node[i].shape);
	}
	for (wasd_node i = 0; i < nodes; i++) {
		const struct node *n = node_of(f->from, i);
		wasd_node conv = n->layer == &layer_batchnorm ? n->inputs[0] : -1;
		if (conv >= 0 && node_of(f->from, conv)->layer == &layer_conv && f->node[conv].users == 1)
			f->node[conv].bn = i;
	}
}

/* ---- sums of branches ---------------------------------------------------------------------------------------- */

static bool is_folded_bn(const struct folding *f, wasd_node i)
{
	const struct node *n = node_of(f->from, i);
	return n->layer == &layer_batchnorm && f->node[n->inputs[0]].bn == i;
}

static struct branch of_conv(const struct folding *f, wasd_node i)
{
	const struct node *n = node_of(f->from, i);
	struct wasd_rect live = live_of(n, &f->node[i]);
	if (boxed(n, &f->node[i]))
		return (struct branch){.source = -1};
	return (struct branch){n->inputs[0], i, {live.y - n->pad_top, live.x - n->pad_left, live.h, live.w}};
}

/* The smallest rectangle around both. */
static struct wasd_rect around(struct wasd_rect a, struct wasd_rect b)
{
	if (!a.h || !b.h)
		return a.h ? a : b;
	int y = a.y < b.y ? a.y : b.y, x = a.x < b.x ? a.x : b.x;
	int bottom = a.y + a.h > b.y + b.h ? a.y + a.h : b.y + b.h, right = a.x + a.w > b.x + b.w ? a.x + a.w : b.x + b.w;
	return (struct wasd_rect){y, x, bottom - y, right - x};
}

/* Whether a convolution like n can have those taps (layers/conv.c). */
static bool possible(const struct node *n, struct wasd_rect taps)
{
	return taps.h <= 64 && taps.w <= 64 && (int64_t)(n->in.c / n->groups) * taps.h * taps.w <= 1 << 24;
}

static bool alike(const struct node *a, const struct node *b)
{
	return a->stride == b->stride && a->groups == b->groups;
}

/* Of outputs of equal shape, which are added. */
static struct branch sum_of(const struct folding *f, const struct branch *a, const struct branch *b)
{
	struct branch none = {.source = -1}, sum = {a->source, a->conv >= 0 ? a->conv : b->conv, around(a->taps, b->taps)};
	int apart = a->taps.h * a->taps.w + b->taps.h * b->taps.w;
	if (a->source < 0 || a->source != b->source || sum.conv < 0 || sum.taps.h * sum.taps.w > apart)
		return none;
	if (a->conv >= 0 && b->conv >= 0 && !alike(node_of(f->from, a->conv), node_of(f->from, b->conv)))
		return none;
	const struct node *n = node_of(f->from, sum.conv);
	bool strided = n->stride > 1 && (a->conv < 0 || b->conv < 0);
	return strided || !possible(n, sum.taps) ? none : sum;
}

/* An output that others read as well is computed by itself. */
static struct branch branch_of(const struct folding *f, wasd_node i)
{
	return f->node[i].users == 1 ? f->node[i].branch : (struct branch){.source = -1};
}

static void mark_part(struct folding *f, wasd_node i)
{
	f->node[i].part = true;
	if (is_folded_bn(f, i))
		f->node[node_of(f->from, i)->inputs[0]].part = true;
}

static void find_sums(struct folding *f)
{
	for (wasd_node i = 0; i < wasd_graph_nodes(f->from); i++) {
		const struct node *n = node_of(f->from, i);
		struct fold *how = &f->node[i];
		how->branch = (struct branch){.source = -1};
		if (n->layer == &layer_conv)
			how->branch = of_conv(f, i);
		else if (is_folded_bn(f, i))
			how->branch = f->node[n->inputs[0]].branch;
		else if (n->layer == &layer_batchnorm)
			how->branch = (struct branch){n->inputs[0], -1, {0, 0, 1, 1}};
		else if (n->layer->is_add) {
			struct branch a = branch_of(f, n->inputs[0]), b = branch_of(f, n->inputs[1]);
			how->branch = sum_of(f, &a, &b);
			how->sum = how->branch.source >= 0;
		}
		for (int k = 0; how->sum && k < 2; k++)
			mark_part(f, n->inputs[k]);
	}
}

/* ---- the folded graph ---------------------------------------------------------------------------------------- */

static wasd_node build_conv(struct folding *f, const struct node *n, const struct fold *how, wasd_node x)
{
	struct wasd_rect live = live_of(n, how);
	bool bias = n->bias >= 0 || how->bn >= 0 || live.h == 0;
	if (boxed(n, how)) {
		x = wasd_graph_boxsum(f->to, x, live.h, live.w, n->stride, n->pad_top - live.y, n->pad_left - live.x,
		                      n->shape.h, n->shape.w);
		return wasd_graph_conv_rect(f->to, x, n->name, n->out, 1, 1, 1, 0, 0, n->shape.h, n->shape.w, n->groups, bias);
	}
	return wasd_graph_conv_rect(f->to, x, n->name, n->out, live.h, live.w, n->stride, n->pad_top - live.y,
	                            n->pad_left - live.x, n->shape.h, n->shape.w, n->groups, bias);
}

static wasd_node build_sum(struct folding *f, const struct branch *b)
{
	const struct node *n = node_of(f->from, b->conv);
	return wasd_graph_conv_rect(f->to, f->node[b->source].to, n->name, n->out, b->taps.h, b->taps.w, n->stride,
	                            -b->taps.y, -b->taps.x, n->shape.h, n->shape.w, n->groups, true);
}

static wasd_node copy(struct folding *f, const struct node *n)
{
	wasd_node in[64]; /* upper bound on the inputs of a node */
	for (int k = 0; k < n->n_in; k++)
		in[k] = f->node[n->inputs[k]].to;
	return graph_copy_node(f->to, f->from, n, in);
}

static wasd_node counterpart(struct folding *f, wasd_node i)
{
	const struct node *n = node_of(f->from, i);
	const struct fold *how = &f->node[i];
	if (how->part)
		return -1;
	if (how->sum)
		return build_sum(f, &how->branch);
	if (!n->n_in)
		return wasd_graph_input(f->to);
	wasd_node x = f->node[n->inputs[0]].to;
	if (is_folded_bn(f, i) || n->layer->trains_only)
		return x;
	return n->layer == &layer_conv ? build_conv(f, n, how, x) : copy(f, n);
}

static enum wasd_status build(struct folding *f, struct wasd_err *err)
{
	for (wasd_node i = 0; i < wasd_graph_nodes(f->from); i++)
		f->node[i].to = counterpart(f, i);
	return wasd_graph_finish(f->to, f->node[f->from->output].to, err);
}

/* ---- its weights --------------------------------------------------------------------------------------------- */

/* Writes a convolution's effective weights, before normalisation, compactly into w. */
static void effective(const struct folding *f, const struct node *n, const struct fold *how, size_t rows, real *w)
{
	const real *pw = wasd_model_weights(f->src, n->weight);
	if (!how->formed) {
		memcpy(w, pw, rows * (size_t)n->kh * (size_t)n->kw * sizeof *w);
		return;
	}
	struct weight_kernel k = {.graph = f->from,
	                          .index = n->aug,
	                          .w = pw,
	                          .master = wasd_model_master(f->src),
	                          .rows = rows,
	                          .outs = n->out,
	                          .k = n->kh};
	struct wasd_rect at = live_of(n, how);
	if (boxed(n, how))
		at.h = at.w = 1; /* any tap will do, as all are equal */
	f->recipe->by->forward(f->recipe, &k, at, w);
}

/* The scale of normalisation bn in channel o; *bias becomes the bias behind it. */
static double normalise(const struct folding *f, const struct node *bn, int o, real *bias)
{
	struct wasd_stats_info st = wasd_graph_stats_info(f->from, bn->stats);
	double gamma = (double)wasd_model_weights(f->src, bn->weight)[o],
		   beta = (double)wasd_model_weights(f->src, bn->bias)[o],
		   scale = gamma / sqrt((double)f->stats[st.var_offset + (size_t)o] + st.eps);
	*bias = (real)(((double)*bias - (double)f->stats[st.mean_offset + (size_t)o]) * scale + beta);
	return scale;
}

/* w: per_out weights for each output channel; b: a bias for each, NULL: it has none. */
static void fill_conv(const struct folding *f, const struct node *n, const struct fold *how, size_t per_out, real *w,
                      real *b)
{
	const real *bias = n->bias >= 0 ? wasd_model_weights(f->src, n->bias) : NULL;
	if (per_out)
		effective(f, n, how, (size_t)n->out * (size_t)(n->in.c / n->groups), w);
	for (int o = 0; b && o < n->out; o++)
		b[o] = bias ? bias[o] : 0;
	for (int o = 0; how->bn >= 0 && o < n->out; o++) {
		double s = normalise(f, node_of(f->from, how->bn), o, &b[o]);
		for (size_t i = 0; i < per_out; i++)
			w[(size_t)o * per_out + i] = (real)((double)w[(size_t)o * per_out + i] * s);
	}
}

/* A sum while it is filled. */
struct summing {
	struct wasd_rect taps;
	size_t per_group; /* input channels of one group */
	real *w, *b;
};

static real *tap(const struct summing *s, size_t row, int y, int x)
{
	return s->w + (row * (size_t)s->taps.h + (size_t)(y - s->taps.y)) * (size_t)s->taps.w + (size_t)(x - s->taps.x);
}

static void add_conv(const struct folding *f, wasd_node i, const struct summing *s)
{
	const struct node *n = node_of(f->from, i);
	struct wasd_rect at = f->node[i].branch.taps;
	size_t rows = (size_t)n->out * s->per_group;
	real *w = f->kernel + n->out;
	fill_conv(f, n, &f->node[i], s->per_group * (size_t)(at.h * at.w), w, f->kernel);
	for (int o = 0; o < n->out; o++)
		s->b[o] += f->kernel[o];
	for (size_t row = 0; row < rows; row++)
		for (int y = 0; y < at.h; y++)
			for (int x = 0; x < at.w; x++)
				*tap(s, row, at.y + y, at.x + x) += *w++;
}

static void add_identity(const struct folding *f, const struct node *bn, const struct summing *s)
{
	for (int o = 0; o < bn->shape.c; o++) {
		real bias = 0;
		*tap(s, (size_t)o * s->per_group + (size_t)o % s->per_group, 0, 0) += (real)normalise(f, bn, o, &bias);
		s->b[o] += bias;
	}
}

static void add_branch(const struct folding *f, wasd_node i, const struct summing *s)
{
	const struct node *n = node_of(f->from, i);
	if (f->node[i].sum) {
		add_branch(f, n->inputs[0], s);
		add_branch(f, n->inputs[1], s);
	} else if (n->layer == &layer_conv) {
		add_conv(f, i, s);
	} else if (is_folded_bn(f, i)) {
		add_conv(f, n->inputs[0], s);
	} else {
		add_identity(f, n, s);
	}
}

static void copy_param(const struct folding *f, int from, int to, real *out)
{
	if (from < 0)
		return;
	struct wasd_param_info p = wasd_graph_param_info(f->from, from);
	memcpy(out + wasd_graph_param_info(f->to, to).offset, wasd_model_weights(f->src, from), p.count * sizeof *out);
}

static void copy_stats(const struct folding *f, int from, int to, real *stats)
{
	struct wasd_stats_info a = wasd_graph_stats_info(f->from, from), b = wasd_graph_stats_info(f->to, to);
	memcpy(stats + b.mean_offset, f->stats + a.mean_offset, (size_t)a.channels * sizeof *stats);
	memcpy(stats + b.var_offset, f->stats + a.var_offset, (size_t)a.channels * sizeof *stats);
}

/* A normalisation that was not folded keeps its statistics. */
static void fill_node(const struct folding *f, wasd_node i, struct wasd_model *m)
{
	const struct node *n = node_of(f->from, i), *dst = node_of(f->to, f->node[i].to);
	const struct fold *how = &f->node[i];
	real *out = wasd_model_master(m);
	if (dst->layer == &layer_conv && (how->sum || n->layer == &layer_conv)) {
		size_t per_group = (size_t)(dst->in.c / dst->groups), taps = (size_t)(dst->kh * dst->kw);
		real *w = taps ? out + wasd_graph_param_info(f->to, dst->weight).offset : NULL;
		real *b = dst->bias >= 0 ? out + wasd_graph_param_info(f->to, dst->bias).offset : NULL;
		if (how->sum) {
			if (w)
				memset(w, 0, (size_t)dst->out * per_group * taps * sizeof *w);
			memset(b, 0, (size_t)dst->out * sizeof *b);
			add_branch(f, i, &(struct summing){how->branch.taps, per_group, w, b});
		} else
			fill_conv(f, n, how, per_group * taps, w, b);
	} else if (dst->layer == n->layer) {
		copy_param(f, n->weight, dst->weight, out);
		copy_param(f, n->bias, dst->bias, out);
		if (n->stats >= 0)
			copy_stats(f, n->stats, dst->stats, wasd_model_stats(m, WASD_STATS_AOM));
	}
}

/* Of the kernel and the biases of any branch of a sum. */
static size_t room(const struct folding *f)
{
	size_t most = 1;
	for (wasd_node i = 0; i < wasd_graph_nodes(f->from); i++) {
		const struct node *n = node_of(f->from, i);
		size_t ins = n->layer == &layer_conv ? (size_t)(n->in.c / n->groups) : 0,
			   size = (size_t)n->out * (1 + ins * (size_t)n->kh * (size_t)n->kw);
		if (f->node[i].part && size > most)
			most = size;
	}
	return most;
}

static enum wasd_status fill(struct folding *f, struct folded *to, struct wasd_err *err)
{
	f->kernel = wasd_calloc(room(f), sizeof *f->kernel);
	to->summed = wasd_calloc((size_t)wasd_graph_nodes(f->to), sizeof *to->summed);
	if (!f->kernel || !to->summed)
		return wasd_fail(err, WASD_ENOMEM, "bundle");
	for (wasd_node i = 0; i < wasd_graph_nodes(f->from); i++)
		if (!f->node[i].part) {
			fill_node(f, i, to->model);
			to->summed[f->node[i].to] |= f->node[i].sum;
		}
	return WASD_OK;
}

void folded_done(struct folded *f)
{
	wasd_model_destroy(f->model);
	wasd_graph_destroy(f->graph);
	wasd_free(f->summed);
	*f = (struct folded){0};
}

enum wasd_status fold_network(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                              struct folded *out, struct wasd_err *err)
{
	struct folding f = {.src = m, .from = wasd_model_graph(m), .recipe = r, .stats = wasd_model_stats(m, set)};
	struct folded to = {0};
	f.node = wasd_calloc((size_t)wasd_graph_nodes(f.from), sizeof *f.node);
	enum wasd_status s = f.node ? wasd_graph_create(wasd_graph_input_shape(f.from), &to.graph, err) :
	                              wasd_fail(err, WASD_ENOMEM, "bundle");
	if (!s) {
		f.to = to.graph;
		pair_up(&f);
		find_sums(&f);
		s = build(&f, err);
	}
	if (!s)
		s = wasd_model_create(to.graph, 0, &to.model, err);
	if (!s)
		s = fill(&f, &to, err);
	wasd_free(f.kernel);
	wasd_free(f.node);
	if (s)
		folded_done(&to);
	else
		*out = to;
	return s;
}
