/* merge/groups.c - groups and permutations of channels, over wasd/channels.h. See groups.h. */
#include "merge/groups.h"
#include "graph/graph.h"
#include "wasd/channels.h"
#include "wasd/weights.h"

#include <stdlib.h>
#include <string.h>

static size_t channels(const struct merge_groups *g, wasd_node n)
{
	return g->first[n + 1] - g->first[n];
}

static bool is_dense(const struct node *n)
{
	return n->layer->channels == LAYER_CHANNELS_WEIGHED && n->groups == 1;
}

/* ---- who may move ----------------------------------------------------------------------------------------------- */

enum { STAYS = -1 };

static int parts_of(const struct node *n, const struct wasd_draw *draw)
{
	const struct wasd_draw_layer *l = draw && n->aug >= 0 ? wasd_draw_find(draw, n->aug) : NULL;
	return l && l->parts > 1 ? l->parts : 1;
}

/* Which part of an augmented layer's outputs channel c belongs to: part i begins at out*i/parts. */
static int part_of(int c, int out, int parts)
{
	int i = 0;
	while (i + 1 < parts && out * (i + 1) / parts <= c)
		i++;
	return i;
}

/* A unit, and what it has in common with those that it may change places with. */
struct of_kind {
	int kind, part, unit;
};

static int by_kind(const void *x, const void *y)
{
	const struct of_kind *a = x, *b = y;
	int d = a->kind != b->kind ? a->kind - b->kind : a->part - b->part;
	return d ? d : a->unit - b->unit;
}

static bool alike(const struct of_kind *a, const struct of_kind *b)
{
	return a->kind == b->kind && a->part == b->part;
}

/* The units of each part of node n's outputs get a kind of their own, from *kinds on. */
static void split(const struct merge_groups *g, wasd_node n, int parts, int *kind, int *kinds, struct of_kind *v)
{
	int count = (int)channels(g, n);
	for (int c = 0; c < count; c++) {
		int u = g->unit[g->first[n] + (size_t)c];
		v[c] = (struct of_kind){kind[u], part_of(c, count, parts), u};
	}
	qsort(v, (size_t)count, sizeof *v, by_kind);
	for (int c = 0; c < count; c++) {
		*kinds += c && !alike(&v[c], &v[c - 1]);
		if (kind[v[c].unit] != STAYS)
			kind[v[c].unit] = *kinds;
	}
	++*kinds;
}

/* v: one per unit. */
static void find_kinds(const struct merge_groups *g, const struct wasd_channels *c, const struct wasd_draw *draw,
                       int *kind, struct of_kind *v)
{
	int kinds = wasd_channels_groups(c);
	for (wasd_node n = 0; n < g->graph->n_nodes; n++)
		for (size_t i = 0; i < channels(g, n); i++) {
			int group = wasd_channels_at(c, n, (int)i).group;
			kind[g->unit[g->first[n] + i]] = wasd_channels_fixed(c, group) ? STAYS : group;
		}
	for (wasd_node n = 0; n < g->graph->n_nodes; n++) {
		int parts = parts_of(&g->graph->nodes[n], draw);
		if (parts > 1)
			split(g, n, parts, kind, &kinds, v);
	}
}

/* ---- the groups ------------------------------------------------------------------------------------------------- */

static int by_first_unit(const void *x, const void *y)
{
	return ((const struct merge_group *)x)->unit[0] - ((const struct merge_group *)y)->unit[0];
}

static int run_length(const struct of_kind *v, int left)
{
	int n = 1;
	while (n < left && alike(&v[n], &v[0]))
		n++;
	return n;
}

static enum wasd_status add_group(struct merge_groups *g, const struct of_kind *v, int n, struct wasd_err *err)
{
	struct merge_group *p = &g->group[g->n];
	p->n = n;
	if (!(p->unit = wasd_calloc((size_t)n, sizeof *p->unit)))
		return wasd_fail(err, WASD_ENOMEM, "the permutations of a network");
	for (int i = 0; i < n; i++)
		p->unit[i] = v[i].unit;
	g->n++;
	return WASD_OK;
}

/* v: one per unit. */
static enum wasd_status form_groups(struct merge_groups *g, const int *kind, struct of_kind *v, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (!(g->group = wasd_calloc((size_t)g->units, sizeof *g->group)))
		return wasd_fail(err, WASD_ENOMEM, "the permutations of a network");
	for (int u = 0; u < g->units; u++)
		v[u] = (struct of_kind){kind[u], 0, u};
	qsort(v, (size_t)g->units, sizeof *v, by_kind);
	for (int i = 0, n; !s && i < g->units; i += n) {
		n = run_length(v + i, g->units - i);
		if (v[i].kind != STAYS && n > 1)
			s = add_group(g, v + i, n, err);
	}
	if (s)
		return s;
	qsort(g->group, (size_t)g->n, sizeof *g->group, by_first_unit);
	for (int u = 0; u < g->units; u++)
		g->group_of[u] = -1;
	for (int p = 0; p < g->n; p++)
		for (int i = 0; i < g->group[p].n; i++) {
			g->group_of[g->group[p].unit[i]] = p;
			g->index[g->group[p].unit[i]] = i;
		}
	return WASD_OK;
}

/* ---- the parameters --------------------------------------------------------------------------------------------- */

static void add_vector(struct merge_groups *g, wasd_node n, int param)
{
	if (param >= 0)
		g->tensor[g->n_tensors++] = (struct merge_tensor){.offset = g->graph->params[param].offset,
		                                                  .inner = 1,
		                                                  .rows = g->graph->nodes[n].shape.c,
		                                                  .cols = 1,
		                                                  .out = n,
		                                                  .in = -1};
}

static void add_weights(struct merge_groups *g, wasd_node n)
{
	const struct node *node = &g->graph->nodes[n];
	const struct param *p = &g->graph->params[node->weight];
	int cols = is_dense(node) ? node->in.c : 1;
	g->tensor[g->n_tensors++] = (struct merge_tensor){.offset = p->offset,
	                                                  .inner = p->count / ((size_t)node->shape.c * (size_t)cols),
	                                                  .rows = node->shape.c,
	                                                  .cols = cols,
	                                                  .out = n,
	                                                  .in = is_dense(node) ? node->inputs[0] : -1};
}

static void list_tensors(struct merge_groups *g)
{
	for (wasd_node n = 1; n < g->graph->n_nodes; n++) {
		const struct node *node = &g->graph->nodes[n];
		if (node->weight >= 0 && node->layer->channels == LAYER_CHANNELS_WEIGHED)
			add_weights(g, n);
		else
			add_vector(g, n, node->weight);
		add_vector(g, n, node->bias);
	}
}

static void find_coupled(struct merge_groups *g)
{
	for (int t = 0; t < g->n_tensors; t++) {
		const struct merge_tensor *w = &g->tensor[t];
		for (size_t o = 0; w->in >= 0 && o < channels(g, w->out); o++) {
			int p = g->group_of[g->unit[g->first[w->out] + o]];
			for (size_t i = 0; p >= 0 && !g->group[p].coupled && i < channels(g, w->in); i++)
				g->group[p].coupled = g->group_of[g->unit[g->first[w->in] + i]] == p;
		}
	}
}

/* ---- the object ------------------------------------------------------------------------------------------------- */

void merge_groups_destroy(struct merge_groups *g)
{
	if (!g)
		return;
	for (int p = 0; p < g->n; p++)
		wasd_free(g->group[p].unit);
	wasd_free(g->group);
	wasd_free(g->group_of);
	wasd_free(g->index);
	wasd_free(g->tensor);
	wasd_free(g->first);
	wasd_free(g->unit);
	wasd_free(g->map);
	wasd_free(g->scratch);
	wasd_free(g);
}

/* Members of groups get numbers one group after the other. */
static void number_units(struct merge_groups *g, const struct wasd_channels *c, int *begin)
{
	for (int p = 0; p < wasd_channels_groups(c); p++) {
		begin[p] = g->units;
		g->units += wasd_channels_size(c, p);
	}
	for (wasd_node n = 0; n < g->graph->n_nodes; n++)
		for (size_t i = 0; i < channels(g, n); i++) {
			struct wasd_channel at = wasd_channels_at(c, n, (int)i);
			g->unit[g->first[n] + i] = begin[at.group] + at.member;
		}
}

static bool allocate(struct merge_groups *g, const struct wasd_channels *c)
{
	size_t n = 0;
	g->first = wasd_calloc((size_t)g->graph->n_nodes + 1, sizeof *g->first);
	for (wasd_node i = 0; g->first && i < g->graph->n_nodes; i++)
		g->first[i + 1] = n += (size_t)g->graph->nodes[i].shape.c;
	int *begin = wasd_calloc((size_t)wasd_channels_groups(c), sizeof *begin);
	g->tensor = wasd_calloc(2 * (size_t)g->graph->n_nodes, sizeof *g->tensor);
	g->unit = wasd_calloc(n, sizeof *g->unit);
	g->map = wasd_calloc(n, sizeof *g->map);
	bool ok = g->first && begin && g->tensor && g->unit && g->map;
	if (ok) {
		number_units(g, c, begin);
		g->group_of = wasd_calloc((size_t)g->units, sizeof *g->group_of);
		g->index = wasd_calloc((size_t)g->units, sizeof *g->index);
		g->scratch = wasd_calloc(2 * (size_t)g->units + n, sizeof *g->scratch);
		ok = g->group_of && g->index && g->scratch;
	}
	wasd_free(begin);
	return ok;
}

static enum wasd_status form(struct merge_groups *g, const struct wasd_channels *c, const struct wasd_draw *draw,
                             struct wasd_err *err)
{
	if (!allocate(g, c))
		return wasd_fail(err, WASD_ENOMEM, "the permutations of a network");
	int *kind = wasd_calloc((size_t)g->units, sizeof *kind);
	struct of_kind *v = wasd_calloc(g->first[g->graph->n_nodes], sizeof *v);
	enum wasd_status s = kind && v ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "the permutations of a network");
	if (!s) {
		find_kinds(g, c, draw, kind, v);
		s = form_groups(g, kind, v, err);
	}
	if (!s) {
		list_tensors(g);
		find_coupled(g);
		merge_groups_identity(g, kind);
		merge_groups_place(g, kind);
	}
	wasd_free(kind);
	wasd_free(v);
	return s;
}

enum wasd_status merge_groups_create(const struct wasd_graph *graph, const struct wasd_draw *draw,
                                     struct merge_groups **out, struct wasd_err *err)
{
	struct wasd_channels *c = NULL;
	enum wasd_status s = wasd_channels_create(graph, &c, err);
	if (s)
		return s;
	struct merge_groups *g = wasd_calloc(1, sizeof *g);
	if (g)
		g->graph = graph;
	s = g ? form(g, c, draw, err) : wasd_fail(err, WASD_ENOMEM, "the permutations of a network");
	wasd_channels_destroy(c);
	if (s)
		merge_groups_destroy(g);
	else
		*out = g;
	return s;
}

/* ---- permutations ----------------------------------------------------------------------------------------------- */

void merge_groups_identity(const struct merge_groups *g, int *p)
{
	for (int u = 0; u < g->units; u++)
		p[u] = u;
}

/* Lists the channels of each unit in node n, ascending: head per unit, next per channel. */
static void list_channels(const struct merge_groups *g, wasd_node n, int *head, int *next)
{
	const int *unit = g->unit + g->first[n];
	int count = (int)channels(g, n);
	for (int c = 0; c < count; c++)
		head[unit[c]] = -1;
	for (int c = count - 1; c >= 0; c--) {
		next[c] = head[unit[c]];
		head[unit[c]] = c;
	}
}

/* The k-th channel of a unit takes the place of the k-th one of its partner. */
void merge_groups_place(struct merge_groups *g, const int *p)
{
	int *head = g->scratch, *at = head + g->units, *next = at + g->units;
	for (wasd_node n = 0; n < g->graph->n_nodes; n++) {
		const int *unit = g->unit + g->first[n];
		int *map = g->map + g->first[n], count = (int)channels(g, n);
		list_channels(g, n, head, next);
		for (int c = 0; c < count; c++)
			at[unit[c]] = head[p[unit[c]]];
		for (int c = 0; c < count; c++) {
			map[c] = at[unit[c]];
			at[unit[c]] = next[map[c]];
		}
	}
}

int merge_groups_count(const struct merge_groups *g, wasd_node n, int p)
{
	int count = 0;
	for (size_t c = 0; c < channels(g, n); c++)
		count += g->group_of[g->unit[g->first[n] + c]] == p;
	return count / g->group[p].n;
}

void merge_groups_channels(const struct merge_groups *g, wasd_node n, int p, int *at)
{
	int m = merge_groups_count(g, n, p), *found = g->scratch;
	for (int i = 0; i < g->group[p].n; i++)
		found[i] = 0;
	for (size_t c = 0; c < channels(g, n); c++) {
		int u = g->unit[g->first[n] + c], i = g->index[u];
		if (g->group_of[u] == p)
			at[i * m + found[i]++] = (int)c;
	}
}

static void permute(const struct merge_groups *g, const struct merge_tensor *t, const real *from, real *to)
{
	const int *rows = g->map + g->first[t->out], *cols = t->in >= 0 ? g->map + g->first[t->in] : NULL;
	for (int r = 0; r < t->rows; r++)
		for (int c = 0; c < t->cols; c++) {
			size_t at = t->offset + ((size_t)r * (size_t)t->cols + (size_t)c) * t->inner;
			size_t source = (size_t)rows[r] * (size_t)t->cols + (size_t)(cols ? cols[c] : c);
			memcpy(to + at, from + t->offset + source * t->inner, t->inner * sizeof *to);
		}
}

void merge_permute_params(const struct merge_groups *g, const real *from, real *to)
{
	memcpy(to, from, g->graph->param_count * sizeof *to); /* those that no layer reads stay */
	for (int t = 0; t < g->n_tensors; t++)
		permute(g, &g->tensor[t], from, to);
}

void merge_permute_stats(const struct merge_groups *g, const real *from, real *to)
{
	memcpy(to, from, g->graph->stats_count * sizeof *to);
	for (wasd_node n = 1; n < g->graph->n_nodes; n++) {
		const struct node *node = &g->graph->nodes[n];
		if (node->stats < 0)
			continue;
		size_t mean = g->graph->stats[node->stats].offset, count = channels(g, n);
		for (size_t c = 0; c < count; c++) {
			size_t source = (size_t)g->map[g->first[n] + c];
			to[mean + c] = from[mean + source];
			to[mean + count + c] = from[mean + count + source];
		}
	}
}
