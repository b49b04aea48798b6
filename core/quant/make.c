/* quant/make.c - see make.h. */
#include "quant/make.h"
#include "graph/plan.h"
#include "quant/range.h"
#include "quant/split.h"

#include <math.h>
#include <string.h>

struct maker {
	struct wasd_model *m;
	const struct wasd_graph *g;
	const bool *summed;
	const struct quant_how *how;
	struct wasd_exec *exec;
	real *value;                  /* of one node */
	double *range;                /* per node: the largest |value| that is not clipped */
	uint64_t (*hist)[QUANT_BINS]; /* per node; NULL with min-max */
	struct wasd_quant *q;
	wasd_node *tail, *residual; /* of plan_chains, as is inner */
	bool *inner;
};

static bool chains(struct maker *k)
{
	size_t n = (size_t)k->g->n_nodes;
	return (k->tail = wasd_calloc(n, sizeof *k->tail)) && (k->residual = wasd_calloc(n, sizeof *k->residual)) &&
	       (k->inner = wasd_calloc(n, sizeof *k->inner)) && plan_chains(k->g, k->tail, k->residual, k->inner);
}

static size_t largest_node(const struct wasd_graph *g)
{
	size_t n = 0;
	for (int i = 0; i < g->n_nodes; i++)
		n = wasd_shape_count(g->nodes[i].shape) > n ? wasd_shape_count(g->nodes[i].shape) : n;
	return n;
}

/* ---- types --------------------------------------------------------------------------------------------------- */

static bool moves(const struct node *n)
{
	return n->layer == &layer_maxpool || n->layer == &layer_concat || n->layer == &layer_flatten;
}

/* Behind an activation, and where values only move or are averaged, none is below 0. */
static bool is_positive(const struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	bool all = n->n_in > 0 && (moves(n) || n->layer == &layer_avgpool);
	for (int j = 0; all && j < n->n_in; j++)
		all = k->q->tensor[n->inputs[j]].type == WASD_QUANT_U8;
	return n->layer->is_act || all;
}

static bool stays_float(const struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	bool sums = n->layer == &layer_boxsum || n->layer == &layer_globalpool,
		 of_float = n->layer == &layer_flatten && k->q->tensor[n->inputs[0]].type == WASD_QUANT_F32;
	return i == k->g->output || sums || of_float;
}

static void set_types(struct maker *k)
{
	for (int i = 0; i < k->g->n_nodes; i++)
		k->q->tensor[i] = (struct wasd_quant_tensor){stays_float(k, i) ? WASD_QUANT_F32 :
		                                             is_positive(k, i) ? WASD_QUANT_U8 :
		                                                                 WASD_QUANT_S8,
		                                             1};
}

/* The largest integer with a sign. */
static int top_of(const struct maker *k)
{
	return quant_top(k->how->bits ? k->how->bits : 8);
}

static int levels_of(const struct maker *k, wasd_node i)
{
	return k->q->tensor[i].type == WASD_QUANT_U8 ? 2 * top_of(k) + 1 : top_of(k);
}

/* ---- ranges -------------------------------------------------------------------------------------------------- */

static enum wasd_status see_largest(struct maker *k, wasd_node i, const real *v, size_t n, struct wasd_err *err)
{
	for (size_t j = 0; j < n; j++) {
		if (!isfinite(v[j]))
			return wasd_fail(err, WASD_ENUMERIC, "calibration: %s %s computes a value that is not finite",
			                 k->g->nodes[i].layer->op, k->g->nodes[i].name);
		k->range[i] = fmax(k->range[i], fabs((double)v[j]));
	}
	return WASD_OK;
}

static enum wasd_status count_values(struct maker *k, wasd_node i, const real *v, size_t n, struct wasd_err *err)
{
	(void)err;
	for (size_t j = 0; j < n && k->range[i] > 0; j++) {
		double a = fabs((double)v[j]) * QUANT_BINS / k->range[i];
		if (a > 0)
			k->hist[i][a < QUANT_BINS ? (int)a : QUANT_BINS - 1]++;
	}
	return WASD_OK;
}

typedef enum wasd_status see_fn(struct maker *k, wasd_node i, const real *v, size_t n, struct wasd_err *err);

static enum wasd_status see_batch(struct maker *k, const struct wasd_batch *b, see_fn *see, struct wasd_err *err)
{
	struct wasd_pass p = {.n = b->n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	enum wasd_status s = wasd_exec_forward(k->exec, b->x, &p, err);
	for (int i = 0; !s && i < k->g->n_nodes; i++) {
		s = wasd_exec_activation(k->exec, i, k->value, err);
		if (!s)
			s = see(k, i, k->value, (size_t)b->n * wasd_shape_count(k->g->nodes[i].shape), err);
	}
	return s;
}

/* part of parts: which of the passes over the images. */
static enum wasd_status see_images(struct maker *k, const struct quant_images *im, see_fn *see, int part, int parts,
                                   struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (im->given)
		return see_batch(k, im->given, see, err);
	wasd_loader_seek(im->loader, 0, 0);
	for (uint32_t i = 0; i < im->batches && !s; i++) {
		if (!im->go_on(im->ctx, part * (int)im->batches + (int)i, parts * (int)im->batches))
			return wasd_fail(err, WASD_ECANCELLED, "cancelled");
		const struct wasd_batch *b = wasd_loader_next(im->loader);
		s = see_batch(k, b, see, err);
		if (im->seen && !part)
			*im->seen += b->n;
	}
	return s;
}

/* Of what is stored: the ends of the chains. */
static enum wasd_status clip_ranges(struct maker *k, const struct quant_images *im, struct wasd_err *err)
{
	int of = 2 * (int)im->batches;
	for (int head = 1; head < k->g->n_nodes; head++) {
		wasd_node i = k->tail[head];
		if (k->inner[head] || k->q->tensor[i].type == WASD_QUANT_F32 || !(k->range[i] > 0))
			continue;
		if (!im->given && !im->go_on(im->ctx, of - 1, of))
			return wasd_fail(err, WASD_ECANCELLED, "cancelled");
		k->range[i] *= (double)quant_threshold(k->hist[i], levels_of(k, i), k->how->ranges == QUANT_KL_CLIP) /
		               QUANT_BINS;
	}
	return WASD_OK;
}

static enum wasd_status find_ranges(struct maker *k, const struct quant_images *im, struct wasd_err *err)
{
	bool clip = k->how->ranges != QUANT_MINMAX;
	struct wasd_exec_opts o = {.batch = im->batch, .keep_all = true, .unmeasured = true};
	enum wasd_status s = wasd_exec_create(k->m, &o, &k->exec, err);
	k->value = wasd_calloc((size_t)im->batch * largest_node(k->g), sizeof *k->value);
	k->hist = clip ? wasd_calloc((size_t)k->g->n_nodes, sizeof *k->hist) : NULL;
	if (!s && (!k->value || (clip && !k->hist)))
		s = wasd_fail(err, WASD_ENOMEM, "calibration");
	if (!s)
		s = see_images(k, im, see_largest, 0, 1 + clip, err);
	if (s || !clip)
		return s;
	s = see_images(k, im, count_values, 1, 2, err);
	return s ? s : clip_ranges(k, im, err);
}

/* Where values only move, both sides have the largest range of all. True: something has changed. */
static bool share_range(struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	double top = k->range[i];
	bool changed = false;
	for (int j = 0; j < n->n_in; j++)
		top = fmax(top, k->range[n->inputs[j]]);
	for (int j = 0; j <= n->n_in; j++) {
		double *r = &k->range[j < n->n_in ? n->inputs[j] : i];
		changed |= *r < top;
		*r = top;
	}
	return changed;
}

static void set_scales(struct maker *k)
{
	bool again = true;
	while (again) {
		again = false;
		for (int i = 1; i < k->g->n_nodes; i++)
			again |= moves(&k->g->nodes[i]) && share_range(k, i);
	}
	for (int i = 1; i < k->g->n_nodes; i++)
		if (k->range[i] > 0)
			k->q->tensor[i].scale = (float)(k->range[i] / levels_of(k, i));
	/* Pixels are v/127.5 - 1, whatever the images have of that; by a rule of the job's they may be larger. */
	k->q->tensor[0].scale = (float)(fmax(k->range[0], 1) / top_of(k));
}

/* ---- weights ------------------------------------------------------------------------------------------------- */

static bool in_8_bits(const struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	bool conv = n->layer == &layer_conv && n->kh > 0;
	int64_t products = conv ? (int64_t)(n->in.c / n->groups) * n->kh * n->kw : n->in.c;
	return (conv || (n->layer == &layer_linear && k->tail[i] != k->g->output)) && products <= QUANT_PRODUCTS_MAX &&
	       k->q->tensor[n->inputs[0]].type != WASD_QUANT_F32;
}

/* The split needs a tap at the centre (quant_check), and groups whose filters fill vectors. */
static bool splits(const struct maker *k, wasd_node i)
{
	const struct node *n = &k->g->nodes[i];
	return k->how->split && k->summed[i] && quant_has_middle(n) && n->kh * n->kw > 1 && n->groups == 1;
}

static enum wasd_status split_weights(struct wasd_quant_conv *c, const struct node *n, const real *w, int top,
                                      int8_t *q, struct wasd_err *err)
{
	size_t outs = (size_t)n->out, ins = (size_t)(n->in.c / n->groups), fan = ins * (size_t)(n->kh * n->kw);
	real *coarse = wasd_calloc(outs * ins, sizeof *coarse), *fine = wasd_calloc(outs * fan, sizeof *fine);
	float *d = wasd_calloc(outs, sizeof *d), *sc = wasd_calloc(outs, sizeof *sc);
	int8_t *qc = wasd_calloc(outs * ins, 1);
	bool ok = coarse && fine && d && sc && qc;
	c->coarse = qc;
	c->coarse_scale = sc;
	if (ok) {
		quant_split(&(struct quant_split){0}, w, n->out, (int)ins, n->kh, n->kw, top, coarse, fine, d);
		quant_rows(coarse, n->out, ins, top, qc, sc);
		quant_rows(fine, n->out, fan, top, q, (float *)(uintptr_t)c->scale);
	}
	wasd_free(coarse);
	wasd_free(fine);
	wasd_free(d);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "8-bit weights");
}

static enum wasd_status make_weights(struct maker *k, wasd_node i, struct wasd_err *err)
{
	const struct node *n = &k->g->nodes[i];
	const struct wasd_param_info p = wasd_graph_param_info(k->g, n->weight);
	struct wasd_quant_conv *c = &k->q->conv[i];
	const real *w = wasd_model_weights(k->m, n->weight);
	int8_t *q = wasd_calloc(p.count, 1);
	float *scale = wasd_calloc((size_t)p.dims[0], sizeof *scale);
	c->w = q;
	c->scale = scale;
	if (!q || !scale)
		return wasd_fail(err, WASD_ENOMEM, "8-bit weights");
	c->on = true;
	if (splits(k, i))
		return split_weights(c, n, w, top_of(k), q, err);
	quant_rows(w, p.dims[0], p.count / (size_t)p.dims[0], top_of(k), q, scale);
	return WASD_OK;
}

static enum wasd_status set_weights(struct maker *k, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	int on = 0;
	for (int i = 1; i < k->g->n_nodes && !s; i++)
		if (in_8_bits(k, i)) {
			s = make_weights(k, i, err);
			on++;
		}
	return s || on ? s : wasd_fail(err, WASD_EUNSUPPORTED, "no layer of this network can compute in 8 bits");
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

void quant_made_destroy(struct wasd_quant *q)
{
	if (!q)
		return;
	for (int i = 0; q->conv && i < q->nodes; i++) {
		wasd_free((void *)(uintptr_t)q->conv[i].w);
		wasd_free((void *)(uintptr_t)q->conv[i].scale);
		wasd_free((void *)(uintptr_t)q->conv[i].coarse);
		wasd_free((void *)(uintptr_t)q->conv[i].coarse_scale);
	}
	wasd_free(q->tensor);
	wasd_free(q->conv);
	wasd_free(q);
}

struct wasd_quant *quant_made_create(int nodes)
{
	struct wasd_quant *q = wasd_calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->nodes = nodes;
	q->tensor = wasd_calloc((size_t)nodes, sizeof *q->tensor);
	q->conv = wasd_calloc((size_t)nodes, sizeof *q->conv);
	if (q->tensor && q->conv)
		return q;
	quant_made_destroy(q);
	return NULL;
}

enum wasd_status quant_make(struct wasd_model *m, const bool *summed, const struct quant_images *images,
                            const struct quant_how *how, struct wasd_quant **out, struct wasd_err *err)
{
	struct maker k = {.m = m, .g = wasd_model_graph(m), .summed = summed, .how = how};
	k.q = quant_made_create(k.g->n_nodes);
	k.range = wasd_calloc((size_t)k.g->n_nodes, sizeof *k.range);
	enum wasd_status s = k.q && k.range && chains(&k) ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "8-bit weights");
	if (!s) {
		set_types(&k);
		s = find_ranges(&k, images, err);
	}
	if (!s) {
		set_scales(&k);
		s = set_weights(&k, err);
	}
	if (!s)
		s = quant_check(m, k.q, err);
	wasd_exec_destroy(k.exec);
	wasd_free(k.value);
	wasd_free(k.hist);
	wasd_free(k.range);
	wasd_free(k.tail);
	wasd_free(k.residual);
	wasd_free(k.inner);
	if (s)
		quant_made_destroy(k.q);
	else
		*out = k.q;
	return s;
}
