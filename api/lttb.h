/* api/lttb.h - choosing few points of a curve that keep its shape. */
#ifndef API_LTTB_H
#define API_LTTB_H

#include <stddef.h>

/* Largest-Triangle-Three-Buckets (Steinarsson 2013): writes the ascending indices of at most max (at least 2) of n
 * points to keep, and returns how many. The first and the last are kept; of each bucket in between, the point that
 * spans the largest triangle with the point kept before it and the mean of the next bucket. A value that is not finite
 * is kept before all others of its bucket. x ascends. */
size_t api_lttb(const double *x, const double *y, size_t n, size_t max, size_t *keep);

#endif
