#include "backend/gemm.h"

#include <cblas.h>

void gemm(bool ta, bool tb, int m, int n, int k, const real *a, size_t lda, const real *b, size_t ldb, real beta,
          real *c, size_t ldc)
{
	if (m <= 0 || n <= 0)
		return;
#ifdef WASD_DOUBLE
	cblas_dgemm
#else
	cblas_sgemm
#endif
		(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, 1, a, (int)lda, b,
	     (int)ldb, beta, c, (int)ldc);
}

void gemm_alone(void)
{
	openblas_set_num_threads(1);
}
