/* infer/bundle.c - compiles one mode of a network for serving.
 *
 * A convolution (weights W, bias b) followed by batch normalisation with stored mean m and variance v is
 * equivalent to one convolution:
 *
 *     s = gamma / sqrt(v + eps)        W' = s W        b' = s (b - m) + beta          per output channel
 *
 * AOM uses the weights as they are, with the statistics measured under them. DOM uses the weights that the
 * recorded recipe forms, W = alpha T(PW), with the statistics measured under those. Dead taps are removed, which
 * leaves a smaller kernel with its own padding, so the saved multiply-adds also save time. A kernel with equal
 * taps becomes a sum over its window followed by one tap. Dropout and drop-connect become the identity. A mode may
 * replace the network first (modes/slim.c: without its dead channels). */
#include "infer/bundle.h"
#include "graph/graph.h"
#include "quant/quant.h"
#include "train/checkpoint.h"
#include "train/mode_file.h"
#include "wasd/pixel.h"
#include "wasd/weights.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct wasd_bundle {
	atomic_uint refs;
	char mode[WASD_MODE_LEN];
	const struct mode_kind *kind;
	cJSON *recipe;
	char *arch; /* this, the class names and the members above are empty for a model compiled from memory */
	cJSON *class_names;
	struct wasd_prepare prepare;
	struct wasd_pixels pixels;
	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_quant *quant; /* NULL: float */
	uint64_t macs;
};

void wasd_normalise(const struct wasd_pixels *p, struct wasd_shape s, const uint8_t *px, real *x)
{
	size_t plane = (size_t)s.h * (size_t)s.w;
	real value[256];
	for (int c = 0; c < s.c; c++) {
		wasd_pixels_table(p, c, value);
		for (size_t i = 0; i < plane; i++)
			*x++ = value[*px++];
	}
}

/* ---- folding ------------------------------------------------------------------------------------------------ */

/* What folding does with one node of the source. */
struct fold {
	wasd_node to; /* its counterpart; for a folded normalisation, the convolution's */
	wasd_node bn; /* for a convolution: the normalisation folded into it, -1 = none */
	bool formed;  /* for a convolution: the recipe forms its weights, in this shape */
	struct weight_shape shape;
	int users;
};

struct folding {
	struct wasd_model *src;
	const struct wasd_graph *from;
	const struct wasd_recipe *recipe;
	const real *stats;
	struct wasd_graph *to;
	struct fold *node;
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

static wasd_node copy(struct folding *f, const struct node *n)
{
	wasd_node in[64]; /* upper bound on the inputs of a node */
	for (int k = 0; k < n->n_in; k++)
		in[k] = f->node[n->inputs[k]].to;
	return graph_copy_node(f->to, f->from, n, in);
}

static enum wasd_status build(struct folding *f, struct wasd_err *err)
{
	int nodes = wasd_graph_nodes(f->from);
	for (wasd_node i = 0; i < nodes; i++) {
		const struct node *n = node_of(f->from, i);
		wasd_node x = n->n_in ? f->node[n->inputs[0]].to : wasd_graph_input(f->to);
		bool folded = n->layer == &layer_batchnorm && f->node[n->inputs[0]].bn == i;
		if (!n->n_in || folded || n->layer->trains_only)
			f->node[i].to = x;
		else if (n->layer == &layer_conv)
			f->node[i].to = build_conv(f, n, &f->node[i], x);
		else
			f->node[i].to = copy(f, n);
	}
	return wasd_graph_finish(f->to, f->node[f->from->output].to, err);
}

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

static void fill_conv(const struct folding *f, const struct node *n, const struct fold *how, const struct node *dst,
                      real *out)
{
	size_t rows = (size_t)n->out * (size_t)(n->in.c / n->groups),
		   per_out = (size_t)(n->in.c / n->groups) * (size_t)dst->kh * (size_t)dst->kw;
	real *w = dst->weight >= 0 ? out + wasd_graph_param_info(f->to, dst->weight).offset : NULL;
	real *b = dst->bias >= 0 ? out + wasd_graph_param_info(f->to, dst->bias).offset : NULL;
	const real *bias = n->bias >= 0 ? wasd_model_weights(f->src, n->bias) : NULL;
	if (w)
		effective(f, n, how, rows, w);
	for (int o = 0; b && o < n->out; o++)
		b[o] = bias ? bias[o] : 0;
	if (how->bn < 0)
		return;
	const struct node *bn = node_of(f->from, how->bn);
	struct wasd_stats_info st = wasd_graph_stats_info(f->from, bn->stats);
	const real *gamma = wasd_model_weights(f->src, bn->weight);
	const real *beta = wasd_model_weights(f->src, bn->bias);
	for (int o = 0; o < n->out; o++) {
		double s = (double)gamma[o] / sqrt((double)f->stats[st.var_offset + (size_t)o] + st.eps);
		b[o] = (real)(((double)b[o] - (double)f->stats[st.mean_offset + (size_t)o]) * s + (double)beta[o]);
		for (size_t i = 0; w && i < per_out; i++)
			w[(size_t)o * per_out + i] = (real)((double)w[(size_t)o * per_out + i] * s);
	}
}

static void copy_param(const struct folding *f, int from, int to, real *out)
{
	if (from < 0)
		return;
	struct wasd_param_info p = wasd_graph_param_info(f->from, from);
	memcpy(out + wasd_graph_param_info(f->to, to).offset, wasd_model_weights(f->src, from), p.count * sizeof *out);
}

/* Fills the weights of every node; a normalisation that was not folded keeps its statistics. */
static void fill(const struct folding *f, struct wasd_model *m)
{
	real *out = wasd_model_master(m), *stats = wasd_model_stats(m, WASD_STATS_AOM);
	for (wasd_node i = 0; i < wasd_graph_nodes(f->from); i++) {
		const struct node *n = node_of(f->from, i);
		const struct node *dst = node_of(f->to, f->node[i].to);
		if (n->layer == &layer_conv) {
			fill_conv(f, n, &f->node[i], dst, out);
		} else if (dst->layer == n->layer) {
			copy_param(f, n->weight, dst->weight, out);
			copy_param(f, n->bias, dst->bias, out);
			if (n->stats < 0)
				continue;
			struct wasd_stats_info a = wasd_graph_stats_info(f->from, n->stats),
								   b = wasd_graph_stats_info(f->to, dst->stats);
			memcpy(stats + b.mean_offset, f->stats + a.mean_offset, (size_t)a.channels * sizeof *stats);
			memcpy(stats + b.var_offset, f->stats + a.var_offset, (size_t)a.channels * sizeof *stats);
		}
	}
}

enum wasd_status bundle_compile(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                                struct wasd_bundle **out, struct wasd_err *err)
{
	struct folding f = {.src = m, .from = wasd_model_graph(m), .recipe = r, .stats = wasd_model_stats(m, set)};
	struct wasd_bundle *b = wasd_calloc(1, sizeof *b);
	enum wasd_status s = WASD_OK;
	f.node = wasd_calloc((size_t)wasd_graph_nodes(f.from), sizeof *f.node);
	if (!b || !f.node) {
		s = wasd_fail(err, WASD_ENOMEM, "bundle");
		goto end;
	}
	atomic_init(&b->refs, 1);
	b->pixels = wasd_pixels_half;
	pair_up(&f);
	if ((s = wasd_graph_create(wasd_graph_input_shape(f.from), &b->graph, err)))
		goto end;
	f.to = b->graph;
	if ((s = build(&f, err)) || (s = wasd_model_create(b->graph, 0, &b->model, err)))
		goto end;
	fill(&f, b->model);
	b->macs = wasd_graph_macs(b->graph, NULL);
	*out = b;
	b = NULL;
end:
	wasd_free(f.node);
	wasd_bundle_unref(b);
	return s;
}

/* ---- from a checkpoint ---------------------------------------------------------------------------------------- */

/* The files that are open while a bundle is made. */
struct source {
	struct checkpoint ckpt;
	struct mode_file file; /* zeroed if the mode is in the checkpoint's list */
	struct mode mode;
	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_recipe *recipe;
};

static void source_done(struct source *s)
{
	if (s->recipe)
		s->mode.kind->close(s->recipe);
	wasd_model_destroy(s->model);
	wasd_graph_destroy(s->graph);
	mode_file_done(&s->file);
	checkpoint_done(&s->ckpt);
}

static enum wasd_status find_mode(struct source *s, const struct wasd_mode_source *from, struct wasd_err *err)
{
	enum wasd_status st = checkpoint_open(from->file, from->len, &s->ckpt, err);
	if (st)
		return st;
	if (!from->mode_file) {
		st = checkpoint_mode(&s->ckpt, from->name, &s->mode, err);
	} else if (!(st = mode_file_open(from->mode_file, from->mode_len, s->ckpt.arch, &s->file, err))) {
		s->mode = s->file.mode;
		snprintf(s->mode.name, sizeof s->mode.name, "%s", from->name);
	}
	return st || s->mode.measured ?
	           st :
	           wasd_fail(err, WASD_ESTATE,
	                     "this checkpoint was written before the statistics of %s were first measured", s->mode.name);
}

static enum wasd_status load_stats(struct source *s, real *stats, struct wasd_err *err)
{
	bool present;
	if (s->file.st)
		return mode_file_load_stats(&s->file, s->ckpt.arch, s->graph, stats, err);
	enum wasd_status st = checkpoint_load_stats(&s->ckpt, s->graph, s->mode.statistics, stats, &present, err);
	return st || present ? st :
	                       wasd_fail_at(err, WASD_ECORRUPT, "",
	                                    "checkpoint: BatchNorm statistics of mode %s are missing", s->mode.name);
}

static enum wasd_status reshape(struct source *s, struct wasd_err *err)
{
	struct wasd_model *m = NULL;
	enum wasd_status st = s->mode.kind->reshape(s->model, &m, err);
	if (st)
		return st;
	wasd_model_destroy(s->model);
	s->model = m;
	return WASD_OK;
}

static enum wasd_status load_model(struct source *s, struct wasd_err *err)
{
	enum wasd_status st = checkpoint_graph(&s->ckpt, &s->graph, err);
	if (!st)
		st = checkpoint_check_names(&s->ckpt, s->graph, err);
	if (!st)
		st = wasd_model_create(s->graph, 0, &s->model, err);
	if (!st)
		st = checkpoint_load_params(&s->ckpt, s->graph, "", wasd_model_master(s->model), err);
	if (!st)
		st = load_stats(s, wasd_model_stats(s->model, WASD_STATS_AOM), err);
	if (!st)
		st = s->mode.kind->open(s->mode.recipe, s->graph, &s->recipe, err);
	if (!st && s->mode.kind->reshape)
		st = reshape(s, err);
	return st;
}

enum wasd_status wasd_bundle_create(const struct wasd_mode_source *from, struct wasd_bundle **out, struct wasd_err *err)
{
	struct source src = {0};
	struct wasd_bundle *b = NULL;
	enum wasd_status s = find_mode(&src, from, err);
	if (s || (s = load_model(&src, err)) || (s = bundle_compile(src.model, src.recipe, WASD_STATS_AOM, &b, err)))
		goto end;
	memcpy(b->mode, src.mode.name, sizeof b->mode);
	b->kind = src.mode.kind;
	b->recipe = cJSON_Duplicate(src.mode.recipe, true);
	if (!(b->arch = wasd_strdup(src.ckpt.arch)) || (src.mode.recipe && !b->recipe)) {
		s = wasd_fail(err, WASD_ENOMEM, "bundle");
		goto end;
	}
	b->class_names = src.ckpt.class_names;
	src.ckpt.class_names = NULL;
	b->prepare = src.ckpt.prepare;
	b->pixels = src.ckpt.pixels;
	*out = b;
	b = NULL;
end:
	wasd_bundle_unref(b);
	source_done(&src);
	return s;
}

enum wasd_status wasd_mode_at(const void *file, size_t len, int i, char name[WASD_MODE_LEN], struct wasd_err *err)
{
	struct checkpoint c = {0};
	struct mode m;
	enum wasd_status s = checkpoint_open(file, len, &c, err);
	const cJSON *entry = s ? NULL : cJSON_GetArrayItem(c.modes, i);
	if (!s)
		s = entry ? mode_read(entry, &m, err) : wasd_fail(err, WASD_ENOTFOUND, "%d modes", i);
	if (!s)
		memcpy(name, m.name, WASD_MODE_LEN);
	checkpoint_done(&c);
	return s;
}

struct wasd_bundle *wasd_bundle_ref(struct wasd_bundle *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

void wasd_bundle_unref(struct wasd_bundle *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
		return;
	quant_destroy(b->quant);
	wasd_model_destroy(b->model);
	wasd_graph_destroy(b->graph);
	cJSON_Delete(b->class_names);
	cJSON_Delete(b->recipe);
	wasd_free(b->arch);
	wasd_free(b);
}

const char *wasd_bundle_mode(const struct wasd_bundle *b)
{
	return b->mode;
}
const char *wasd_bundle_arch(const struct wasd_bundle *b)
{
	return b->arch ? b->arch : "";
}
struct wasd_shape wasd_bundle_shape(const struct wasd_bundle *b)
{
	return wasd_graph_input_shape(b->graph);
}
int wasd_bundle_classes(const struct wasd_bundle *b)
{
	return wasd_graph_classes(b->graph);
}
const struct wasd_prepare *wasd_bundle_prepare(const struct wasd_bundle *b)
{
	return &b->prepare;
}
const struct wasd_pixels *wasd_bundle_pixels(const struct wasd_bundle *b)
{
	return &b->pixels;
}
uint64_t wasd_bundle_macs(const struct wasd_bundle *b)
{
	return b->macs;
}
size_t wasd_bundle_bytes(const struct wasd_bundle *b)
{
	return wasd_graph_param_count(b->graph) * sizeof(real) + wasd_model_packed_bytes(b->model) +
	       (b->quant ? quant_bytes(b->graph, b->quant) : 0);
}
struct wasd_model *bundle_model(struct wasd_bundle *b)
{
	return b->model;
}

enum wasd_status bundle_quantise(struct wasd_bundle *b, const struct wasd_quant *q, struct wasd_err *err)
{
	struct wasd_quant *own = NULL;
	enum wasd_status s = quant_check(b->graph, q, err);
	if (s || (s = quant_copy(b->graph, q, &own, err)))
		return s;
	quant_destroy(b->quant);
	b->quant = own;
	return WASD_OK;
}

const struct wasd_quant *bundle_quant(const struct wasd_bundle *b)
{
	return b->quant;
}

const char *wasd_bundle_class(const struct wasd_bundle *b, int i)
{
	const cJSON *name = cJSON_GetArrayItem(b->class_names, i);
	return name ? name->valuestring : "";
}

const cJSON *bundle_class_names(const struct wasd_bundle *b)
{
	return b->class_names;
}

const cJSON *bundle_recipe(const struct wasd_bundle *b, const struct mode_kind *kind)
{
	return b->kind == kind ? b->recipe : NULL;
}
