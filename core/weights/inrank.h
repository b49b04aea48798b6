/* weights/inrank.h - the arithmetic of InRank-Efficient (arXiv 2306.11250; the authors' in_rank_efficient.py, commit
 * 72cfc61): how the rank of a product of two factors grows, and what it costs. web/docs/strategies.md. */
#ifndef WEIGHTS_INRANK_H
#define WEIGHTS_INRANK_H

#include "wasd/tensor.h"

/* The variance that the first j of n singular values explain: 1 - Var(s with the first j set to 0) / Var(s), unbiased.
 * s: the first n_s of them, falling; the others are 0. 1 if all are equal. */
double inrank_explained(const double *s, int n_s, int n, int j);

/* A check of the rank r: the first j in [r, min(r + buffer, most - buffer)) that explains more than the threshold, or
 * the last one; r itself where there is none. most: rows of the factors. */
int inrank_grow(const double *s, int n_s, int n, int r, int buffer, int most, double threshold);

/* Above this rank two layers (r x ins, outs x r) multiply at least as much as one (outs x ins). */
double inrank_break_even(int outs, int ins);

/* b (m,r) = U_r sqrt(S_r), a (r,n) = sqrt(S_r) V_r^t, row-major, of column-major U (m,q) and V (n,q), r <= q. */
void inrank_balance(const double *u, const double *s, const double *v, int m, int n, int r, real *b, real *a);

#endif
