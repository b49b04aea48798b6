/* weights/weightmom.h - the parts of weightmom.c that its golden numbers are about. */
#ifndef WEIGHTS_WEIGHTMOM_H
#define WEIGHTS_WEIGHTMOM_H

#include "weights/prune.h"

/* m <- beta m + (1 - beta) |v|, n values. */
void weightmom_follow(double beta, size_t n, real *m, const real *v);
/* The share of the weights that are dead after event e of `events`, from 1: 1 - (1 - sparsity)^(e / events). */
double weightmom_share(double sparsity, int e, int events);
/* Kills n weights: the quota of a layer is n living^g / (sum of living^g), rounded by the largest remainder; of equal
 * remainders the first layer goes first, of equal keys the lowest index. A layer keeps one, and what it cannot give the
 * others give. Returns how many died. quota: room for one per layer. */
struct weightmom_quota {
	size_t n;
	double rest;
};
size_t weightmom_kill(struct prune *p, size_t n, double g, struct weightmom_quota *quota, prune_key key,
                      const void *ctx);

#endif
