/* merge/match.c - weight matching. See match.h. */
#include "merge/match.h"
#include "merge/assign.h"

#include <math.h>
#include <string.h>

enum { DEPTH = 256 }; /* values of a slice that are packed at a time */

/* ---- products --------------------------------------------------------------------------------------------------- */

struct products {
	int n, depth;
	const real *x, *y;
	double *gain;
};

/* Four terms at a time, added in order. */
WASD_HOT static void rows_of(void *ctx, int begin, int end, int thread)
{
	const struct products *p = ctx;
	size_t n = (size_t)p->n;
	(void)thread;
	for (int i = begin; i < end; i++) {
		double *restrict g = p->gain + (size_t)i * n;
		const real *x = p->x + (size_t)i * (size_t)p->depth;
		int k = 0;
		for (; k + 4 <= p->depth; k += 4) {
			const real *restrict y = p->y + (size_t)k * n;
			double x0 = (double)x[k], x1 = (double)x[k + 1], x2 = (double)x[k + 2], x3 = (double)x[k + 3];
			for (size_t j = 0; j < n; j++)
				g[j] = g[j] + x0 * (double)y[j] + x1 * (double)y[n + j] + x2 * (double)y[2 * n + j] +
				       x3 * (double)y[3 * n + j];
		}
		for (; k < p->depth; k++)
			for (size_t j = 0; j < n; j++)
				g[j] += (double)x[k] * (double)p->y[(size_t)k * n + j];
	}
}

void merge_products(int n, int depth, const real *x, const real *y, double *gain)
{
	struct products p = {n, depth, x, y, gain};
	wasd_parallel(n, rows_of, &p);
}

/* ---- the gain of a group ---------------------------------------------------------------------------------------- */

/* A parameter whose rows (or columns) are the group's: `places` are the channels of each of its units there. A slice is
 * m x other x inner values. */
struct side {
	const struct merge_tensor *t;
	bool columns;
	const int *places, *b_other; /* of the units; where b has the other axis (NULL: as it is) */
	int n, m, other;
	const real *a, *b;
	real *x, *y; /* packed: n x depth of a, depth x n of b */
	int depth;
};

static size_t at(const struct side *s, int place, int other)
{
	size_t r = (size_t)(s->columns ? other : place), c = (size_t)(s->columns ? place : other);
	return s->t->offset + (r * (size_t)s->t->cols + c) * s->t->inner;
}

static void flush(struct side *s, double *gain)
{
	/* x is packed with rows of DEPTH; the last piece may be shorter */
	for (int i = 1; s->depth < DEPTH && i < s->n; i++)
		memmove(s->x + (size_t)i * (size_t)s->depth, s->x + (size_t)i * DEPTH, (size_t)s->depth * sizeof *s->x);
	if (s->depth)
		merge_products(s->n, s->depth, s->x, s->y, gain);
	s->depth = 0;
}

static void pack(struct side *s, int k, int other, size_t inner)
{
	int b_other = s->b_other ? s->b_other[other] : other;
	real *y = s->y + (size_t)s->depth * (size_t)s->n;
	for (int i = 0; i < s->n; i++) {
		int place = s->places[i * s->m + k];
		s->x[(size_t)i * DEPTH + (size_t)s->depth] = s->a[at(s, place, other) + inner];
		y[i] = s->b[at(s, place, b_other) + inner];
	}
	s->depth++;
}

static void add_side(struct side *s, double *gain)
{
	for (int k = 0; k < s->m; k++)
		for (int o = 0; o < s->other; o++)
			for (size_t e = 0; e < s->t->inner; e++) {
				pack(s, k, o, e);
				if (s->depth == DEPTH)
					flush(s, gain);
			}
	flush(s, gain);
}

/* One axis of one parameter, if the group is on it. */
static enum wasd_status add_axis(const struct merge_groups *g, int group, struct side *s, double *gain,
                                 struct wasd_err *err)
{
	wasd_node node = s->columns ? s->t->in : s->t->out, other = s->columns ? s->t->out : s->t->in;
	s->m = node < 0 ? 0 : merge_groups_count(g, node, group);
	if (!s->m)
		return WASD_OK;
	int *places = wasd_calloc((size_t)s->n * (size_t)s->m, sizeof *places);
	if (!places)
		return wasd_fail(err, WASD_ENOMEM, "the alignment of a network");
	merge_groups_channels(g, node, group, places);
	s->places = places;
	s->other = s->columns ? s->t->rows : s->t->cols;
	s->b_other = other < 0 ? NULL : g->map + g->first[other];
	add_side(s, gain);
	wasd_free(places);
	return WASD_OK;
}

enum wasd_status merge_gain(const struct merge_groups *g, const real *a, const real *b, int group, double *gain,
                            struct wasd_err *err)
{
	int n = g->group[group].n;
	real *x = wasd_calloc((size_t)n * DEPTH, sizeof *x), *y = wasd_calloc((size_t)n * DEPTH, sizeof *y);
	enum wasd_status s = x && y ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "the alignment of a network");
	memset(gain, 0, (size_t)n * (size_t)n * sizeof *gain);
	for (int t = 0; t < g->n_tensors && !s; t++)
		for (int columns = 0; columns < 2 && !s; columns++) {
			struct side side = {.t = &g->tensor[t], .columns = columns, .n = n, .a = a, .b = b, .x = x, .y = y};
			s = add_axis(g, group, &side, gain, err);
		}
	wasd_free(x);
	wasd_free(y);
	return s;
}

static double inner_of(const struct merge_groups *g, const struct merge_tensor *t, const real *a, const real *b)
{
	const int *rows = g->map + g->first[t->out], *cols = t->in >= 0 ? g->map + g->first[t->in] : NULL;
	double sum = 0;
	for (int r = 0; r < t->rows; r++)
		for (int c = 0; c < t->cols; c++) {
			const real *x = a + t->offset + ((size_t)r * (size_t)t->cols + (size_t)c) * t->inner;
			const real *y = b + t->offset +
			                ((size_t)rows[r] * (size_t)t->cols + (size_t)(cols ? cols[c] : c)) * t->inner;
			for (size_t e = 0; e < t->inner; e++)
				sum += (double)x[e] * (double)y[e];
		}
	return sum;
}

double merge_inner(const struct merge_groups *g, const real *a, const real *b)
{
	double sum = 0;
	for (int t = 0; t < g->n_tensors; t++)
		sum += inner_of(g, &g->tensor[t], a, b);
	return sum;
}

/* ---- sweeps ----------------------------------------------------------------------------------------------------- */

#define LEAST_GAIN 1e-6

struct matching {
	struct merge_groups *g;
	const real *a, *b;
	int *perm;
	double *gain;    /* of the largest group */
	int *now, *next; /* columns of the group's units */
};

static bool gains(double before, double after)
{
	return after - before > LEAST_GAIN * fabs(after);
}

static void set_columns(struct matching *m, const struct merge_group *p, const int *to)
{
	for (int i = 0; i < p->n; i++)
		m->perm[p->unit[i]] = p->unit[to[i]];
	merge_groups_place(m->g, m->perm);
}

static double sum_of(const struct matching *m, int n, const int *to)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += m->gain[(size_t)i * (size_t)n + (size_t)to[i]];
	return sum;
}

/* *moved: whether the group has got another permutation. */
static enum wasd_status match_group(struct matching *m, int group, bool *moved, struct wasd_err *err)
{
	const struct merge_group *p = &m->g->group[group];
	double before = p->coupled ? merge_inner(m->g, m->a, m->b) : 0;
	enum wasd_status s = merge_gain(m->g, m->a, m->b, group, m->gain, err);
	for (int i = 0; i < p->n; i++)
		m->now[i] = m->g->index[m->perm[p->unit[i]]];
	if (s || (s = merge_assign(p->n, m->gain, m->next, err)))
		return s;
	*moved = gains(sum_of(m, p->n, m->now), sum_of(m, p->n, m->next));
	if (!*moved)
		return WASD_OK;
	set_columns(m, p, m->next);
	if (p->coupled && !gains(before, merge_inner(m->g, m->a, m->b))) {
		set_columns(m, p, m->now);
		*moved = false;
	}
	return WASD_OK;
}

static enum wasd_status sweep(struct matching *m, const int *order, struct merge_tick tick, bool *moved,
                              struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	*moved = false;
	for (int i = 0; i < m->g->n && !s; i++) {
		bool one = false;
		if (tick.go_on && !tick.go_on(tick.ctx))
			return wasd_fail(err, WASD_ECANCELLED, "cancelled");
		s = match_group(m, order ? order[i] : i, &one, err);
		*moved |= one;
	}
	return s;
}

static enum wasd_status check_finite(const struct wasd_graph *g, const real *v, struct wasd_err *err)
{
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		for (size_t k = 0; k < p.count; k++)
			if (!isfinite((double)v[p.offset + k]))
				return wasd_fail_at(err, WASD_EINVAL, p.name, "%.120s: element %zu is %g", p.name, k,
				                    (double)v[p.offset + k]);
	}
	return WASD_OK;
}

static int largest(const struct merge_groups *g)
{
	int n = 1;
	for (int p = 0; p < g->n; p++)
		n = g->group[p].n > n ? g->group[p].n : n;
	return n;
}

enum wasd_status merge_match_weights(struct merge_groups *g, const real *a, const real *b, const int *order, int *perm,
                                     struct merge_tick tick, struct merge_match *out, struct wasd_err *err)
{
	size_t n = (size_t)largest(g);
	struct matching m =
		{g, a, b, perm, wasd_calloc(n * n, sizeof(double)), wasd_calloc(n, sizeof(int)), wasd_calloc(n, sizeof(int))};
	bool moved = true;
	enum wasd_status s = check_finite(g->graph, a, err);
	if (!s && !(s = check_finite(g->graph, b, err)) && (!m.gain || !m.now || !m.next))
		s = wasd_fail(err, WASD_ENOMEM, "the alignment of a network");
	*out = (struct merge_match){0};
	if (!s) {
		merge_groups_place(g, perm);
		out->before = merge_inner(g, a, b);
	}
	while (!s && moved && out->sweeps < MERGE_SWEEPS_MAX) {
		s = sweep(&m, order, tick, &moved, err);
		out->sweeps++;
	}
	if (!s)
		out->after = merge_inner(g, a, b);
	wasd_free(m.gain);
	wasd_free(m.now);
	wasd_free(m.next);
	return s;
}
