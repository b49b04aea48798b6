/* merge/assign.h - linear assignment: the Hungarian method with potentials and shortest paths (Kuhn; Jonker and
 * Volgenant), O(n^3). */
#ifndef MERGE_ASSIGN_H
#define MERGE_ASSIGN_H

#include "wasd/tensor.h"

/* to[i] = j maximises the sum of gain[i*n + to[i]] over all permutations. Ties: no two rows with i < k, to[i] > to[k]
 * could change columns without a loss, so equal rows take equal columns in ascending order. The same numbers give the
 * same answer. WASD_ENUMERIC if a gain is not finite, WASD_ENOMEM; then `to` is as it was. */
enum wasd_status merge_assign(int n, const double *gain, int *to, struct wasd_err *err);

#endif
