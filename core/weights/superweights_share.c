/* weights/superweights_share.c - which layers share templates, by the similarity of their gradients. See
 * superweights.h. */
#include "weights/superweights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double sw_cosine(const struct sw_layer *a, const real *ga, const struct sw_layer *b, const real *gb)
{
	int outs = a->outs < b->outs ? a->outs : b->outs, ins = a->ins < b->ins ? a->ins : b->ins;
	size_t taps = (size_t)a->kh * (size_t)a->kw, row = (size_t)ins * taps;
	double ab = 0, aa = 0, bb = 0;
	for (int o = 0; o < outs; o++) {
		const real *x = ga + (size_t)o * (size_t)a->ins * taps, *y = gb + (size_t)o * (size_t)b->ins * taps;
		for (size_t i = 0; i < row; i++) {
			ab += (double)x[i] * (double)y[i];
			aa += (double)x[i] * (double)x[i];
			bb += (double)y[i] * (double)y[i];
		}
	}
	return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

void sw_queue(const struct sw_pair *pair, size_t n, double threshold, int *cluster)
{
	for (size_t i = 0; i < n && pair[i].similar > threshold; i++)
		cluster[pair[i].j] = cluster[pair[i].i];
}

static int falling(const void *a, const void *b)
{
	const struct sw_pair *x = a, *y = b;
	if (x->similar != y->similar)
		return x->similar > y->similar ? -1 : 1;
	return x->i != y->i ? y->i - x->i : y->j - x->j;
}

size_t sw_pairs(const struct sw_layer *layer, int n, const int *bin, const real *const *grad, struct sw_pair *pair)
{
	size_t pairs = 0;
	for (int i = 0; i < n; i++)
		for (int j = i + 1; j < n; j++) {
			if (bin[i] != bin[j])
				continue;
			double similar = sw_cosine(&layer[i], grad[i], &layer[j], grad[j]);
			pair[pairs++] = (struct sw_pair){similar, i, j};
			pair[pairs++] = (struct sw_pair){similar, j, i};
		}
	qsort(pair, pairs, sizeof *pair, falling);
	return pairs;
}

bool sw_cluster(struct sw_plan *p, const struct sw_layer *layer, const struct sw_pair *pair, size_t n, size_t room,
                double *threshold)
{
	for (int step = 0; step <= 22; step++) {
		*threshold = (2 - step) * 0.05;
		for (int i = 0; i < p->n_layers; i++)
			p->cluster[i] = i;
		sw_queue(pair, n, *threshold, p->cluster);
		sw_nest(layer, p->n_layers, p->cluster);
		sw_plan_banks(p, layer);
		if (p->values <= room)
			return true;
	}
	return false;
}

/* Takes from v its parts along the n rows before it, and makes its length 1. False: nothing is left. */
static bool straighten(const double *m, int n, int len, double *v)
{
	double norm = 0;
	for (int again = 0; again < 2; again++)
		for (int i = 0; i < n; i++) {
			double along = 0;
			for (int k = 0; k < len; k++)
				along += m[i * len + k] * v[k];
			for (int k = 0; k < len; k++)
				v[k] -= along * m[i * len + k];
		}
	for (int k = 0; k < len; k++)
		norm += v[k] * v[k];
	for (int k = 0; k < len; k++)
		v[k] /= sqrt(norm);
	return norm > 1e-12;
}

/* The fewer of rows and columns are made first, one after the other. */
void sw_orthogonal(struct wasd_rng *r, int rows, int cols, double *m)
{
	int n = rows < cols ? rows : cols, len = rows < cols ? cols : rows;
	for (int i = 0; i < n; i++) {
		double *v = m + i * len;
		do {
			for (int k = 0; k < len; k++)
				v[k] = wasd_rng_normal(r);
		} while (!straighten(m, i, len, v));
	}
	if (rows <= cols)
		return;
	/* transposed in place: element e of (n, len) goes to e / len + (e % len) n */
	for (int start = 0; start < n * len; start++) {
		int e = start;
		do
			e = e % n * len + e / n; /* where the element for place e lies */
		while (e < start);
		double other = m[start];
		m[start] = m[e];
		m[e] = other;
	}
}
