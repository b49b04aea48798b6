#include "lttb.h"

#include <math.h>

/* The mean of the finite points in [from, to); the first of them when none is finite. */
static void middle(const double *x, const double *y, size_t from, size_t to, double *mx, double *my)
{
	size_t n = 0;
	*mx = *my = 0;
	for (size_t i = from; i < to; i++) {
		if (!isfinite(y[i]))
			continue;
		*mx += x[i];
		*my += y[i];
		n++;
	}
	*mx = n ? *mx / (double)n : x[from];
	*my = n ? *my / (double)n : 0;
}

size_t api_lttb(const double *x, const double *y, size_t n, size_t max, size_t *keep)
{
	size_t kept = 0;
	if (n <= max || n < 3) {
		for (size_t i = 0; i < n; i++)
			keep[i] = i;
		return n;
	}
	const double width = max > 2 ? (double)(n - 2) / (double)(max - 2) : 0; /* of a bucket, in points */
	double ax = x[0], ay = isfinite(y[0]) ? y[0] : 0;
	keep[kept++] = 0;
	for (size_t b = 0; b + 2 < max; b++) {
		const size_t from = (size_t)((double)b * width) + 1, to = (size_t)((double)(b + 1) * width) + 1;
		size_t end = (size_t)((double)(b + 2) * width) + 1, best = from;
		double cx, cy, area = -1;
		if (end > n || b + 3 == max)
			end = n;
		middle(x, y, to, end, &cx, &cy);
		for (size_t i = from; i < to; i++) {
			if (!isfinite(y[i])) {
				best = i;
				break;
			}
			double a = fabs((ax - cx) * (y[i] - ay) - (ax - x[i]) * (cy - ay));
			if (a > area) {
				area = a;
				best = i;
			}
		}
		keep[kept++] = best;
		if (isfinite(y[best])) {
			ax = x[best];
			ay = y[best];
		}
	}
	keep[kept++] = n - 1;
	return kept;
}
