/* weights/prune_rules.c - how many weights die at a sparsity: four rules. See prune.h. */
#include "weights/prune.h"

#include <math.h>

enum { BINS = 255 };

static void count(const struct prune *p, int layer, size_t *n, size_t *living)
{
	*n = layer == PRUNE_ALL ? p->n : p->layer[layer].n;
	*living = layer == PRUNE_ALL ? p->living : p->layer[layer].living;
}

size_t prune_keep_count(size_t n, double sparsity)
{
	float keep = rintf((float)n * (1 - (float)sparsity));
	return keep < 1 ? 1 : (size_t)keep < n ? (size_t)keep : n;
}

/* The value at place i of all, of which the dead are 0. */
static double value_at(struct prune *p, int layer, size_t i, prune_key key, const void *ctx)
{
	size_t n, living;
	count(p, layer, &n, &living);
	return i < n - living ? 0 : prune_key_value(prune_rank(p, layer, i - (n - living), key, ctx));
}

static double percentile(struct prune *p, int layer, double share, prune_key key, const void *ctx)
{
	size_t n, living;
	count(p, layer, &n, &living);
	double place = share * (double)(n - 1), low = floor(place);
	double a = value_at(p, layer, (size_t)low, key, ctx),
		   b = (size_t)low + 1 < n ? value_at(p, layer, (size_t)low + 1, key, ctx) : a;
	return a + (b - a) * (place - low);
}

/* The upper edge of the bins that together hold less than `share`. */
static double edge(struct prune *p, int layer, double share, prune_key key, const void *ctx)
{
	size_t n, living, bin[BINS] = {0}, sum = 0;
	int first = layer == PRUNE_ALL ? 0 : layer, last = layer == PRUNE_ALL ? p->n_layers : layer + 1, below = 0;
	count(p, layer, &n, &living);
	double most = value_at(p, layer, n - 1, key, ctx);
	bin[0] = n - living;
	for (int l = first; l < last; l++)
		for (size_t i = 0; i < p->layer[l].n; i++)
			if (prune_lives(&p->layer[l], i)) {
				int at = most > 0 ? (int)(prune_key_value(key(ctx, l, i)) / most * BINS) : 0;
				bin[at < BINS ? at : BINS - 1]++;
			}
	while (below < BINS && (double)(sum += bin[below]) / (double)n < share)
		below++;
	return most * below / BINS;
}

uint64_t prune_threshold(struct prune *p, int layer, double sparsity, enum prune_rule rule, prune_key key,
                         const void *ctx)
{
	size_t n, living;
	count(p, layer, &n, &living);
	size_t keep = prune_keep_count(n, sparsity);
	if (!living || sparsity <= 0)
		return 0;
	switch (rule) {
	case PRUNE_EXACT:
	case PRUNE_TIES:
		return living > keep ? prune_rank(p, layer, living - keep, key, ctx) : 0;
	case PRUNE_PERCENTILE:
		return prune_key_of(percentile(p, layer, sparsity, key, ctx));
	case PRUNE_HISTOGRAM:
		return prune_key_of(edge(p, layer, sparsity, key, ctx)) + 1;
	}
	return 0;
}

size_t prune_to(struct prune *p, int layer, double sparsity, enum prune_rule rule, prune_key key, const void *ctx)
{
	size_t n, living;
	count(p, layer, &n, &living);
	size_t keep = prune_keep_count(n, sparsity);
	if (!living || sparsity <= 0)
		return 0;
	if (rule == PRUNE_EXACT)
		return living > keep ? prune_kill(p, layer, living - keep, key, ctx, PRUNE_TIES_HIGH) : 0;
	uint64_t below = prune_threshold(p, layer, sparsity, rule, key, ctx);
	return below ? prune_kill_below(p, layer, below, key, ctx) : 0;
}
