/* quant/range.c - see range.h. */
#include "quant/range.h"

#include <math.h>
#include <string.h>

double quant_divergence(const double *p, const double *q, int n, bool clip)
{
	double sum_p = 0, sum_q = 0, v = 0;
	for (int i = 0; i < n; i++) {
		sum_p += p[i];
		sum_q += q[i];
	}
	double share = log(clip ? sum_p / sum_q : sum_q / sum_p);
	for (int i = 0; i < n; i++)
		if (p[i] > 0 && q[i] > 0)
			v += p[i] / sum_p * (log(p[i] / q[i]) + share);
	return v;
}

/* The values of the first `bins` parts, rounded to levels: the mass of each level, spread over its parts that have
 * values. */
static void rounded(const uint64_t *hist, int bins, int levels, double *q)
{
	memset(q, 0, (size_t)bins * sizeof *q);
	for (int from = 0, to; from < bins; from = to) {
		int level = (int)((int64_t)from * levels / bins), filled = 0;
		double mass = 0;
		for (to = from; to < bins && (int64_t)to * levels / bins == level; to++) {
			mass += (double)hist[to];
			filled += hist[to] > 0;
		}
		for (int j = from; j < to; j++)
			q[j] = hist[j] ? mass / filled : 0;
	}
}

static double mass(const uint64_t *hist, int from, int to)
{
	double m = 0;
	for (int j = from; j < to; j++)
		m += (double)hist[j];
	return m;
}

int quant_threshold(const uint64_t hist[QUANT_BINS], int levels, bool clip)
{
	double p[QUANT_BINS], q[QUANT_BINS], least = INFINITY, all = mass(hist, 0, QUANT_BINS);
	int best = QUANT_BINS;
	for (int bins = 1; bins <= QUANT_BINS; bins++) {
		double tail = mass(hist, bins, QUANT_BINS);
		p[bins - 1] = (double)hist[bins - 1];
		if (bins < levels || tail == all || tail * QUANT_CLIPPED > all)
			continue;
		p[bins - 1] += tail;
		rounded(hist, bins, levels, q);
		double v = quant_divergence(p, q, bins, clip);
		p[bins - 1] = (double)hist[bins - 1];
		if (v < least) {
			least = v;
			best = bins;
		}
	}
	return best;
}
