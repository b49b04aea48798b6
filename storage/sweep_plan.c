/* sweep_plan.c - see sweep_plan.h. */
#include "sweep_plan.h"
#include <string.h>

bool sweep_better(bool max, const struct sweep_result *a, size_t na, const struct sweep_result *b, size_t nb)
{
	if (a->has != b->has)
		return a->has;
	if (!a->has || a->value == b->value)
		return na < nb;
	return max ? a->value > b->value : a->value < b->value;
}

/* One rung while it is read. */
struct rung {
	const struct sweep_rules *r;
	const struct sweep_result *results;
	size_t k;       /* its number */
	size_t *ranked; /* the trials read so far, the best first */
	size_t n;
};

static const struct sweep_result *result_of(const struct rung *g, size_t trial)
{
	return &g->results[trial * g->r->rungs + g->k];
}

static void rank(struct rung *g, size_t trial)
{
	size_t at = g->n++;
	for (; at > 0; at--) {
		size_t other = g->ranked[at - 1];
		if (!sweep_better(g->r->max, result_of(g, trial), trial, result_of(g, other), other))
			break;
		g->ranked[at] = other;
	}
	g->ranked[at] = trial;
}

/* Promotes those of the best share that are not yet; *next is the order of the next rung. */
static void promote(const struct rung *g, struct sweep_verdict *out, size_t *next, size_t *n_next)
{
	for (size_t i = 0; i < g->n / (size_t)g->r->divisor; i++) {
		size_t trial = g->ranked[i];
		if (!result_of(g, trial)->has || out[trial].rung > g->k)
			continue;
		out[trial].rung = g->k + 1;
		next[(*n_next)++] = trial;
	}
}

/* Of at most `most` trials in this rung the best share can go on; a trial's rank only gets worse. Returns how many
 * trials of the rung will never go on. */
static size_t prune(const struct rung *g, size_t most, struct sweep_verdict *out)
{
	size_t settled = 0;
	for (size_t i = 0; i < g->n; i++) {
		size_t trial = g->ranked[i];
		if (out[trial].rung > g->k || (result_of(g, trial)->has && i < most / (size_t)g->r->divisor))
			continue;
		out[trial].pruned = true;
		settled++;
	}
	return settled;
}

enum wasd_status sweep_decide(const struct sweep_rules *r, const struct sweep_result *results,
                              struct sweep_verdict *out, struct wasd_err *err)
{
	size_t n = r->trials, most = n, n_next, *order = wasd_calloc(3 * n, sizeof *order);
	if (!order)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a sweep");
	size_t *next = order + n, *ranked = next + n;
	memset(out, 0, n * sizeof *out);
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	for (size_t k = 0; k + 1 < r->rungs; k++) {
		struct rung g = {r, results, k, ranked, 0};
		n_next = 0;
		for (size_t i = 0; i < n && result_of(&g, order[i])->known; i++) {
			rank(&g, order[i]);
			promote(&g, out, next, &n_next);
		}
		most -= prune(&g, most, out);
		memcpy(order, next, n_next * sizeof *order);
		n = n_next;
	}
	wasd_free(order);
	return WASD_OK;
}
