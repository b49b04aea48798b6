/* merge/views.h - operations on the weights of a network that is seen as data: mixing, and other views of the same
 * network (arXiv 2402.04081; after the authors' augmentations.py). What helps their networks of weights is not claimed
 * here. A view is one row in base/archive.c and its function in views.c. Deterministic: same generator, same bits. */
#ifndef MERGE_VIEWS_H
#define MERGE_VIEWS_H

#include "merge/groups.h"
#include "wasd/archive.h"

/* out = sum of weight[k] * block[k] over `count` values, summed in double. A weight of 1 beside zeros copies its block
 * bit by bit. out may be one of the blocks. */
void merge_mix(const real *const *block, const double *weight, int n, size_t count, real *out);

/* Changes a block of parameters in place by a view of wasd/archive.h. spare: another such block, its content
 * undefined. WASD_VIEW_PERMUTE leaves its permutation in g->map. */
enum wasd_status merge_view(int view, struct merge_groups *g, double option, struct wasd_rng *r, real *w, real *spare,
                            struct wasd_err *err);

/* The unbiased standard deviation, as torch.std; 0 for a single value. */
double merge_std(const real *v, size_t n);
/* The q-quantile of |v| with linear interpolation, as torch.quantile. v is sorted by absolute value. */
double merge_quantile(real *v, size_t n, double q);

#endif
