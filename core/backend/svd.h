/* backend/svd.h - the singular value decomposition of a product of two factors, by the LAPACK of OpenBLAS. No other
 * file calls the library for one. */
#ifndef BACKEND_SVD_H
#define BACKEND_SVD_H

#include "wasd/tensor.h"

/* M = B A with B (m,q), rows ldb apart, and A (q,n), rows lda apart, row-major; q <= m and q <= n. M itself is never
 * formed: QR of B and of A^t, then an SVD of q x q. */
struct svd_factors {
	int m, n, q;
	const real *b, *a;
	int ldb, lda;
};
size_t svd_doubles(int m, int n, int q); /* of the workspace that svd_of needs */
/* M = U diag(s) V^t in double; s falls. U (m,q) and V (n,q) are column-major, within `work`; u and v may be NULL: the
 * values alone. The signs of singular vectors are arbitrary. Single-threaded; the same bits on every call.
 * WASD_ENUMERIC: it did not converge, or the factors are not finite. */
enum wasd_status svd_of(const struct svd_factors *f, double *work, double *s, const double **u, const double **v);

#endif
