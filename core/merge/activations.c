/* merge/activations.c - alignment by what the channels answer. See merge.h. */
#include "merge/merge.h"
#include "merge/assign.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The two networks on the same images, one pass after the other. */
struct pair {
	struct wasd_model *model[2];
	struct wasd_exec *exec[2];
	real *out[2]; /* the outputs of a node, (n,c,h,w) */
};

/* Sums over images and positions for the channels of one group. */
struct correlation {
	int n; /* channels of the group */
	wasd_node node;
	int *at;         /* their places in the node */
	double *product; /* n x n */
	double *sum[2], *square[2];
	double samples;
	real *x, *y; /* one row of a map: n x w of the first, w x n of the other */
};

/* ---- the two networks ------------------------------------------------------------------------------------------- */

static enum wasd_status open_one(struct merging *m, int k, struct wasd_model **model, struct wasd_exec **exec,
                                 struct wasd_err *err)
{
	struct wasd_exec_opts how = {.batch = MERGE_BATCH, .keep_all = true, .backend = m->o->backend, .unmeasured = true};
	bool present;
	enum wasd_status s = wasd_model_create(m->graph, 0, model, err);
	if (s)
		return s;
	memcpy(wasd_model_master(*model), m->param[k], wasd_graph_param_count(m->graph) * sizeof(real));
	s = checkpoint_load_stats(&m->ckpt[k], m->graph, "", wasd_model_stats(*model, WASD_STATS_AOM), &present, err);
	if (!s && !present && wasd_graph_stats(m->graph)) {
		char at[40];
		snprintf(at, sizeof at, "/checkpoints/%d", k);
		s = wasd_fail_at(err, WASD_EINVAL, at,
		                 "%.80s has no statistics, so its activations are not known; align by weights",
		                 m->o->file[k].name);
	}
	return s ? s : wasd_exec_create(*model, &how, exec, err);
}

static size_t largest_output(const struct wasd_graph *g)
{
	size_t most = 0;
	for (wasd_node n = 0; n < wasd_graph_nodes(g); n++) {
		size_t count = wasd_shape_count(wasd_graph_node_info(g, n).shape);
		most = count > most ? count : most;
	}
	return most;
}

static enum wasd_status pair_open(struct merging *m, int k, struct pair *p, struct wasd_err *err)
{
	enum wasd_status s = open_one(m, 0, &p->model[0], &p->exec[0], err);
	if (!s)
		s = open_one(m, k, &p->model[1], &p->exec[1], err);
	for (int i = 0; i < 2 && !s; i++)
		if (!(p->out[i] = wasd_calloc(MERGE_BATCH * largest_output(m->graph), sizeof(real))))
			s = wasd_fail(err, WASD_ENOMEM, "the activations of two networks");
	return s;
}

static void pair_done(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		wasd_free(p->out[i]);
		wasd_exec_destroy(p->exec[i]);
		wasd_model_destroy(p->model[i]);
	}
}

/* ---- the correlations of a group -------------------------------------------------------------------------------- */

/* The last node among those with the largest maps that has each unit of the group once. */
static wasd_node node_of(const struct merge_groups *g, int p)
{
	int most = 0;
	wasd_node best = -1;
	for (wasd_node n = 1; n < wasd_graph_nodes(g->graph); n++) {
		struct wasd_shape s = wasd_graph_node_info(g->graph, n).shape;
		if (s.h * s.w < most || merge_groups_count(g, n, p) != 1)
			continue;
		most = s.h * s.w;
		best = n;
	}
	return best;
}

static void correlation_done(struct correlation *c)
{
	wasd_free(c->at);
	wasd_free(c->product);
	wasd_free(c->x);
	wasd_free(c->y);
	for (int i = 0; i < 2; i++) {
		wasd_free(c->sum[i]);
		wasd_free(c->square[i]);
	}
}

static enum wasd_status correlation_open(const struct merge_groups *g, int p, struct correlation *c,
                                         struct wasd_err *err)
{
	size_t n = (size_t)g->group[p].n;
	c->n = g->group[p].n;
	c->node = node_of(g, p);
	size_t w = (size_t)wasd_graph_node_info(g->graph, c->node).shape.w;
	c->at = wasd_calloc(n, sizeof *c->at);
	c->product = wasd_calloc(n * n, sizeof *c->product);
	c->x = wasd_calloc(n * w, sizeof *c->x);
	c->y = wasd_calloc(n * w, sizeof *c->y);
	bool ok = c->at && c->product && c->x && c->y;
	for (int i = 0; i < 2; i++)
		ok = (c->sum[i] = wasd_calloc(n, sizeof(double))) && (c->square[i] = wasd_calloc(n, sizeof(double))) && ok;
	if (ok)
		merge_groups_channels(g, c->node, p, c->at);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "the activations of two networks");
}

static void count_row(struct correlation *c, int which, const real *row, size_t plane, int w, real *out, bool turned)
{
	for (int i = 0; i < c->n; i++) {
		const real *v = row + (size_t)c->at[i] * plane;
		for (int x = 0; x < w; x++) {
			c->sum[which][i] += (double)v[x];
			c->square[which][i] += (double)v[x] * (double)v[x];
			out[turned ? x * c->n + i : i * w + x] = v[x];
		}
	}
}

static enum wasd_status add_batch(struct correlation *c, struct pair *p, const struct wasd_shape *shape, int images,
                                  struct wasd_err *err)
{
	size_t plane = (size_t)shape->h * (size_t)shape->w, image = plane * (size_t)shape->c;
	enum wasd_status s = wasd_exec_activation(p->exec[0], c->node, p->out[0], err);
	if (s || (s = wasd_exec_activation(p->exec[1], c->node, p->out[1], err)))
		return s;
	for (int n = 0; n < images; n++)
		for (int y = 0; y < shape->h; y++) {
			size_t at = (size_t)n * image + (size_t)y * (size_t)shape->w;
			count_row(c, 0, p->out[0] + at, plane, shape->w, c->x, false);
			count_row(c, 1, p->out[1] + at, plane, shape->w, c->y, true);
			merge_products(c->n, shape->w, c->x, c->y, c->product);
		}
	c->samples += (double)images * (double)plane;
	return WASD_OK;
}

static double variance(const struct correlation *c, int which, int i)
{
	double mean = c->sum[which][i] / c->samples;
	return c->square[which][i] / c->samples - mean * mean;
}

/* A channel that does not vary has the correlation 0 with all. */
static void to_correlations(struct correlation *c)
{
	for (int i = 0; i < c->n; i++)
		for (int j = 0; j < c->n; j++) {
			double *v = &c->product[(size_t)i * (size_t)c->n + (size_t)j];
			double both = variance(c, 0, i) * variance(c, 1, j);
			double covariance = *v / c->samples - c->sum[0][i] / c->samples * (c->sum[1][j] / c->samples);
			*v = both > 1e-24 ? covariance / sqrt(both) : 0;
		}
}

/* ---- all groups ------------------------------------------------------------------------------------------------- */

static enum wasd_status pass(struct pair *p, const struct wasd_batch *b, struct wasd_err *err)
{
	struct wasd_pass how = {.n = b->n, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	enum wasd_status s = wasd_exec_forward(p->exec[0], b->x, &how, err);
	return s ? s : wasd_exec_forward(p->exec[1], b->x, &how, err);
}

static enum wasd_status gather(struct merging *m, struct pair *p, struct correlation *all, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	int images = 0;
	wasd_loader_seek(m->calib, 0, 0);
	for (uint32_t i = 0; i < wasd_loader_batches(m->calib) && images < MERGE_ACTIVATION_IMAGES && !s; i++) {
		const struct wasd_batch *b = wasd_loader_next(m->calib);
		if (!merge_go_on(m))
			return wasd_fail(err, WASD_ECANCELLED, "cancelled");
		s = pass(p, b, err);
		for (int g = 0; g < m->groups->n && !s; g++) {
			struct wasd_shape shape = wasd_graph_node_info(m->graph, all[g].node).shape;
			s = add_batch(&all[g], p, &shape, b->n, err);
		}
		images += b->n;
	}
	return s;
}

static enum wasd_status assign(const struct merge_group *g, struct correlation *c, int *perm, struct wasd_err *err)
{
	int *to = wasd_calloc((size_t)g->n, sizeof *to);
	if (!to)
		return wasd_fail(err, WASD_ENOMEM, "the activations of two networks");
	to_correlations(c);
	enum wasd_status s = merge_assign(g->n, c->product, to, err);
	for (int i = 0; i < g->n && !s; i++)
		perm[g->unit[i]] = g->unit[to[i]];
	wasd_free(to);
	return s;
}

enum wasd_status merge_match_activations(struct merging *m, int k, int *perm, struct wasd_err *err)
{
	struct pair p = {0};
	int n = m->groups->n;
	struct correlation *all = wasd_calloc((size_t)n, sizeof *all);
	enum wasd_status s = all ? pair_open(m, k, &p, err) :
	                           wasd_fail(err, WASD_ENOMEM, "the activations of two networks");
	for (int i = 0; i < n && !s; i++)
		s = correlation_open(m->groups, i, &all[i], err);
	if (!s)
		s = gather(m, &p, all, err);
	for (int i = 0; i < n && !s; i++)
		s = assign(&m->groups->group[i], &all[i], perm, err);
	for (int i = 0; i < n && all; i++)
		correlation_done(&all[i]);
	wasd_free(all);
	pair_done(&p);
	return s;
}
