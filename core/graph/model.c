/* graph/model.c - a model: a graph with parameter values and statistics. */
#include "graph/graph.h"

#include <math.h>
#include <string.h>

/* A value of a weight, or with one dimension a bias, of a convolution or linear layer. */
static double by_fan_in(const struct param *p, enum wasd_initial initial, struct wasd_rng *r)
{
	double bound = p->fan_in > 0 ? 1 / sqrt(p->fan_in) : 0;
	if (initial == WASD_INITIAL_UNIFORM)
		return wasd_rng_between(r, -bound, bound);
	return p->ndims > 1 ? sqrt(2) * bound * wasd_rng_normal(r) : 0;
}

void wasd_graph_first_values(const struct wasd_graph *g, uint64_t seed, real *block)
{
	struct wasd_rng r;
	wasd_rng_init(&r, seed, "init", 0, 0);
	for (int i = 0; i < g->n_params; i++) {
		const struct param *p = &g->params[i];
		for (size_t k = 0; k < p->count; k++) {
			double v = 0;
			switch (p->init) {
			case PARAM_UNIT:
				v = wasd_rng_uniform(&r);
				break;
			case PARAM_ONE:
				v = 1;
				break;
			case PARAM_ZERO:
				break;
			case PARAM_FAN_IN:
				v = by_fan_in(p, g->initial, &r);
				break;
			}
			block[p->offset + k] = (real)v;
		}
	}
}

enum wasd_status wasd_model_create(struct wasd_graph *g, uint64_t seed, struct wasd_model **out, struct wasd_err *err)
{
	if (g->output < 0)
		return wasd_fail(err, WASD_ESTATE, "the graph is not finished");
	struct wasd_model *m = wasd_calloc(1, sizeof *m);
	if (!m)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the model");
	atomic_fetch_add(&g->refs, 1);
	m->graph = g;
	m->master = tensor_alloc(g->param_count * sizeof(real));
	bool ok = m->master != NULL;
	for (int s = 0; s < WASD_STATS_SETS; s++) {
		m->stats[s] = tensor_alloc(g->stats_count * sizeof(real));
		ok &= m->stats[s] != NULL;
	}
	if (!ok) {
		wasd_model_destroy(m);
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu parameters", g->param_count);
	}
	wasd_graph_first_values(g, seed, m->master);
	for (int s = 0; s < WASD_STATS_SETS; s++)
		for (int i = 0; i < g->n_stats; i++)
			for (int c = 0; c < g->stats[i].channels; c++)
				m->stats[s][g->stats[i].offset + (size_t)(g->stats[i].channels + c)] = 1;
	*out = m;
	return WASD_OK;
}

void wasd_model_destroy(struct wasd_model *m)
{
	if (!m)
		return;
	for (int s = 0; s < WASD_STATS_SETS; s++)
		tensor_free(m->stats[s]);
	tensor_free(m->master);
	tensor_free(m->grad);
	tensor_free(m->effective);
	wasd_free(m->linked);
	packs_destroy(m->packs);
	wasd_graph_destroy(m->graph);
	wasd_free(m);
}

const struct wasd_graph *wasd_model_graph(const struct wasd_model *m)
{
	return m->graph;
}
real *wasd_model_master(struct wasd_model *m)
{
	return m->master;
}
real *wasd_model_effective(struct wasd_model *m)
{
	return m->effective;
}
real *wasd_model_grad(struct wasd_model *m)
{
	return m->grad;
}
size_t wasd_model_packed_bytes(const struct wasd_model *m)
{
	return m->packs ? packs_bytes(m->packs) : 0;
}
real *wasd_model_stats(struct wasd_model *m, enum wasd_stats_set set)
{
	return m->stats[set];
}

const real *wasd_model_weights(const struct wasd_model *m, int param)
{
	if (m->graph->params[param].dropped)
		return NULL;
	const real *block = m->effective && m->linked[param] ? m->effective : m->master;
	return block + m->graph->params[param].offset;
}

enum wasd_status model_drop(struct wasd_model *m, const bool *drop, struct wasd_err *err)
{
	struct wasd_graph *g = m->graph;
	size_t left = 0;
	for (int i = 0; i < g->n_params; i++)
		left += drop[i] || g->params[i].dropped ? 0 : g->params[i].count;
	real *block = tensor_alloc(left * sizeof *block);
	if (!block)
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu parameters", left);
	g->param_count = 0;
	for (int i = 0; i < g->n_params; i++) {
		struct param *p = &g->params[i];
		if ((p->dropped |= drop[i]))
			continue;
		memcpy(block + g->param_count, m->master + p->offset, p->count * sizeof *block);
		p->offset = g->param_count;
		g->param_count += p->count;
	}
	tensor_free(m->master);
	m->master = block;
	return WASD_OK;
}

enum wasd_status wasd_model_link(struct wasd_model *m, int param, struct wasd_err *err)
{
	if (!m->linked)
		m->linked = wasd_calloc((size_t)m->graph->n_params, sizeof *m->linked);
	if (!m->effective)
		m->effective = tensor_alloc(m->graph->param_count * sizeof(real));
	if (!m->linked || !m->effective)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the effective weights of %zu parameters",
		                 m->graph->param_count);
	m->linked[param] = true;
	return WASD_OK;
}

#define ZERO_PIECE 65536 /* elements per task; fewer are not worth waking a thread */

static void zero_pieces(void *ctx, int begin, int end, int thread)
{
	const struct wasd_model *m = ctx;
	size_t from = (size_t)begin * ZERO_PIECE, to = (size_t)end * ZERO_PIECE;
	(void)thread;
	to = to < m->graph->param_count ? to : m->graph->param_count;
	memset(m->grad + from, 0, (to - from) * sizeof(real));
}

void wasd_model_grad_zero(struct wasd_model *m)
{
	if (m->grad)
		wasd_parallel((int)((m->graph->param_count + ZERO_PIECE - 1) / ZERO_PIECE), zero_pieces, m);
}
