/* merge/views.c - see views.h. All act on the weights that layers read, in the order of the tensors of groups.h; alphas
 * and other parameters of no layer stay. */
#include "merge/views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void merge_mix(const real *const *block, const double *weight, int n, size_t count, real *out)
{
	for (size_t i = 0; i < count; i++) {
		double sum = 0;
		for (int k = 0; k < n; k++)
			if (weight[k] != 0) /* adding 0 would turn -0 into 0 */
				sum = sum != 0 ? sum + weight[k] * (double)block[k][i] : weight[k] * (double)block[k][i];
		out[i] = (real)sum;
	}
}

/* ---- numbers of a tensor ---------------------------------------------------------------------------------------- */

static size_t count_of(const struct merge_tensor *t)
{
	return (size_t)t->rows * (size_t)t->cols * t->inner;
}

double merge_std(const real *v, size_t n)
{
	double mean = 0, sum = 0;
	for (size_t i = 0; i < n; i++)
		mean += (double)v[i] / (double)n;
	for (size_t i = 0; i < n; i++)
		sum += ((double)v[i] - mean) * ((double)v[i] - mean);
	return n > 1 ? sqrt(sum / (double)(n - 1)) : 0;
}

static int by_magnitude(const void *a, const void *b)
{
	double x = fabs((double)*(const real *)a), y = fabs((double)*(const real *)b);
	return (x > y) - (x < y);
}

double merge_quantile(real *v, size_t n, double q)
{
	qsort(v, n, sizeof *v, by_magnitude);
	double at = q * (double)(n - 1);
	size_t low = (size_t)at;
	double x = fabs((double)v[low]), y = fabs((double)v[low + 1 < n ? low + 1 : low]);
	return x + (at - (double)low) * (y - x);
}

/* ---- the views -------------------------------------------------------------------------------------------------- */

static enum wasd_status dropout(struct merge_groups *g, double p, struct wasd_rng *r, real *w, real *spare,
                                struct wasd_err *err)
{
	(void)spare, (void)err;
	for (int t = 0; t < g->n_tensors; t++) {
		real *v = w + g->tensor[t].offset;
		for (size_t i = 0; i < count_of(&g->tensor[t]); i++)
			v[i] = wasd_rng_uniform(r) < p ? 0 : (real)((double)v[i] / (1 - p));
	}
	return WASD_OK;
}

static enum wasd_status noise(struct merge_groups *g, double share, struct wasd_rng *r, real *w, real *spare,
                              struct wasd_err *err)
{
	(void)spare, (void)err;
	for (int t = 0; t < g->n_tensors; t++) {
		real *v = w + g->tensor[t].offset;
		size_t n = count_of(&g->tensor[t]);
		double sd = share * merge_std(v, n);
		for (size_t i = 0; i < n; i++)
			v[i] = (real)((double)v[i] + sd * wasd_rng_normal(r));
	}
	return WASD_OK;
}

static enum wasd_status quantile(struct merge_groups *g, double most, struct wasd_rng *r, real *w, real *spare,
                                 struct wasd_err *err)
{
	size_t n = 0;
	(void)err;
	for (int t = 0; t < g->n_tensors; t++) {
		memcpy(spare + n, w + g->tensor[t].offset, count_of(&g->tensor[t]) * sizeof *w);
		n += count_of(&g->tensor[t]);
	}
	double limit = merge_quantile(spare, n, wasd_rng_between(r, 0, most));
	for (int t = 0; t < g->n_tensors; t++)
		for (size_t i = 0; i < count_of(&g->tensor[t]); i++) {
			real *v = &w[g->tensor[t].offset + i];
			*v = fabs((double)*v) < limit ? 0 : *v;
		}
	return WASD_OK;
}

/* The weights of the first layer; its bias stays. */
static enum wasd_status scale(struct merge_groups *g, double most, struct wasd_rng *r, real *w, real *spare,
                              struct wasd_err *err)
{
	double by = 1 + wasd_rng_between(r, -most, most);
	(void)spare, (void)err;
	for (size_t i = 0; i < count_of(&g->tensor[0]); i++)
		w[g->tensor[0].offset + i] = (real)((double)w[g->tensor[0].offset + i] * by);
	return WASD_OK;
}

static enum wasd_status permute(struct merge_groups *g, double option, struct wasd_rng *r, real *w, real *spare,
                                struct wasd_err *err)
{
	int *perm = wasd_calloc((size_t)g->units, sizeof *perm);
	uint32_t *order = wasd_calloc((size_t)g->units, sizeof *order);
	(void)option;
	if (perm && order) {
		merge_groups_identity(g, perm);
		for (int p = 0; p < g->n; p++) {
			const struct merge_group *q = &g->group[p];
			for (int i = 0; i < q->n; i++)
				order[i] = (uint32_t)i;
			wasd_rng_shuffle(r, order, (size_t)q->n);
			for (int i = 0; i < q->n; i++)
				perm[q->unit[i]] = q->unit[order[i]];
		}
		merge_groups_place(g, perm);
		memcpy(spare, w, wasd_graph_param_count(g->graph) * sizeof *w);
		merge_permute_params(g, spare, w);
	}
	bool ok = perm && order;
	wasd_free(perm);
	wasd_free(order);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "a permutation");
}

enum wasd_status merge_view(int view, struct merge_groups *g, double option, struct wasd_rng *r, real *w, real *spare,
                            struct wasd_err *err)
{
	static enum wasd_status (*const views[WASD_VIEWS])(struct merge_groups *, double, struct wasd_rng *, real *, real *,
	                                                   struct wasd_err *) = {
		[WASD_VIEW_DROPOUT] = dropout, [WASD_VIEW_NOISE] = noise,     [WASD_VIEW_QUANTILE] = quantile,
		[WASD_VIEW_SCALE] = scale,     [WASD_VIEW_PERMUTE] = permute,
	};
	return views[view](g, option, r, w, spare, err);
}
