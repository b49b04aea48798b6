/* merge/match.h - alignment: the permutation of one network's channels with which its weights, or its activations, are
 * most like another's.
 *
 * By weights (Git Re-Basin, arXiv 2209.04836; after the authors' git_rebasin.py in the repository of arXiv 2402.04081):
 * one group after the other gets the permutation that maximises the inner product of the weights while the others stay
 * as they are,
 *     G[i,j] = sum over the parameters and axes of the group: <a's slice i, b's slice j, other axes as placed now>
 *     perm   = argmax sum_i G[i, perm(i)],
 * until no group gains more than 1e-6 of that sum. The authors take the groups in random order; here the order is that
 * of the network, so that results can be repeated. A group whose parameter has it on both axes (a block of one
 * convolution around which it is added) changes only if the inner product really grows, since G is then no longer exact
 * [ours]. */
#ifndef MERGE_MATCH_H
#define MERGE_MATCH_H

#include "merge/groups.h"

enum { MERGE_SWEEPS_MAX = 100 };

struct merge_match {
	int sweeps;
	double before, after; /* inner products of the weights */
};

/* Called before every group; false ends the alignment with WASD_ECANCELLED. */
struct merge_tick {
	bool (*go_on)(void *ctx);
	void *ctx;
};

/* a, b: blocks of parameters of g->graph. perm: the permutation to begin with (merge_groups_identity), and the one
 * found; g->map is left as that. The order of the groups: order[0 .. g->n-1], NULL: as they are. The sums of G are in
 * double and in a fixed order: the result does not depend on the number of threads. Needs the thread team. WASD_EINVAL
 * names a parameter that is not finite. */
enum wasd_status merge_match_weights(struct merge_groups *g, const real *a, const real *b, const int *order, int *perm,
                                     struct merge_tick tick, struct merge_match *out, struct wasd_err *err);
/* G of one group; n x n, zeroed by the call. With b as g->map places it. */
enum wasd_status merge_gain(const struct merge_groups *g, const real *a, const real *b, int group, double *gain,
                            struct wasd_err *err);
/* <a, b> with b as g->map places it, of all parameters that layers read. */
double merge_inner(const struct merge_groups *g, const real *a, const real *b);

/* gain[i*n + j] += sum over k < depth of x[i*depth + k] * y[k*n + j]. */
void merge_products(int n, int depth, const real *x, const real *y, double *gain);

#endif
