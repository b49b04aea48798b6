/* backend/gemm.h - the matrix product of OpenBLAS. No other file calls the library for one. */
#ifndef BACKEND_GEMM_H
#define BACKEND_GEMM_H

#include "wasd/tensor.h"

/* Row-major C = A*B + beta*C with A (m,k), B (k,n), stored transposed if ta, tb. Single-threaded. */
void gemm(bool ta, bool tb, int m, int n, int k, const real *a, size_t lda, const real *b, size_t ldb, real beta,
          real *c, size_t ldc);
/* Every later call of OpenBLAS computes in the caller's thread alone. Backends that use it do this themselves. */
void gemm_alone(void);

#endif
