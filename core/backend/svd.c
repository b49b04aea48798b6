/* backend/svd.c - see svd.h.
 *
 *     B = Qb Rb,  A^t = Qa Ra,  Rb Ra^t = X diag(s) Y^t   ->   U = Qb X,  V = Qa Y */
#include "backend/svd.h"

#include <math.h>
#include <string.h>

/* Fortran passes the lengths of strings behind the arguments. */
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
             int *info);
void dormqr_(const char *side, const char *trans, const int *m, const int *n, const int *k, const double *a,
             const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork, int *info,
             size_t, size_t);
void dgesvd_(const char *jobu, const char *jobvt, const int *m, const int *n, double *a, const int *lda, double *s,
             double *u, const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *info, size_t,
             size_t);

/* What the three calls need with blocks of 64 columns. */
static int work_of(int q)
{
	return 64 * q + 65 * 64 + 5 * q;
}

/* The parts of the workspace, all column-major: Qb (m,q), Qa (n,q), U (m,q), V (n,q), the scale of both Q, C X Y (q,q).
 */
struct parts {
	double *qb, *qa, *u, *v, *tau_b, *tau_a, *c, *x, *yt, *work;
};

static struct parts parts_of(double *at, size_t m, size_t n, size_t q)
{
	struct parts p;
	p.qb = at;
	p.qa = p.qb + m * q;
	p.u = p.qa + n * q;
	p.v = p.u + m * q;
	p.tau_b = p.v + n * q;
	p.tau_a = p.tau_b + q;
	p.c = p.tau_a + q;
	p.x = p.c + q * q;
	p.yt = p.x + q * q;
	p.work = p.yt + q * q;
	return p;
}

size_t svd_doubles(int m, int n, int q)
{
	size_t rows = (size_t)m + (size_t)n, k = (size_t)q;
	return 2 * rows * k + 2 * k + 3 * k * k + (size_t)work_of(q);
}

/* C = Rb Ra^t from the upper triangles. */
static void multiply_triangles(const struct parts *p, int m, int n, int q)
{
	for (int j = 0; j < q; j++)
		for (int i = 0; i < q; i++) {
			double sum = 0;
			for (int k = i > j ? i : j; k < q; k++)
				sum += p->qb[i + (size_t)k * (size_t)m] * p->qa[j + (size_t)k * (size_t)n];
			p->c[i + (size_t)j * (size_t)q] = sum;
		}
}

/* to = Q x, where x (q,q) has its columns in rows if `turned`. */
static int rotate(const double *qr, const double *tau, int rows, int q, const double *x, bool turned, double *to,
                  double *work)
{
	int info = 0, lwork = work_of(q);
	memset(to, 0, (size_t)rows * (size_t)q * sizeof *to);
	for (int j = 0; j < q; j++)
		for (int i = 0; i < q; i++)
			to[i + (size_t)j * (size_t)rows] = turned ? x[j + (size_t)i * (size_t)q] : x[i + (size_t)j * (size_t)q];
	dormqr_("L", "N", &rows, &q, &q, qr, &rows, tau, to, &rows, work, &lwork, &info, 1, 1);
	return info;
}

static bool load(const struct svd_factors *f, const struct parts *p)
{
	double sum = 0;
	for (int j = 0; j < f->q; j++)
		for (int i = 0; i < f->m; i++)
			sum += p->qb[i + (size_t)j * (size_t)f->m] = (double)f->b[(size_t)i * (size_t)f->ldb + (size_t)j];
	for (int j = 0; j < f->q; j++)
		for (int i = 0; i < f->n; i++)
			sum += p->qa[i + (size_t)j * (size_t)f->n] = (double)f->a[(size_t)j * (size_t)f->lda + (size_t)i];
	return isfinite(sum);
}

enum wasd_status svd_of(const struct svd_factors *f, double *work, double *s, const double **u, const double **v)
{
	struct parts p = parts_of(work, (size_t)f->m, (size_t)f->n, (size_t)f->q);
	int m = f->m, n = f->n, q = f->q, lwork = work_of(q), info = 0;
	const char *job = u || v ? "S" : "N";
	if (!load(f, &p))
		return WASD_ENUMERIC;
	dgeqrf_(&m, &q, p.qb, &m, p.tau_b, p.work, &lwork, &info);
	if (!info)
		dgeqrf_(&n, &q, p.qa, &n, p.tau_a, p.work, &lwork, &info);
	if (info)
		return WASD_ENUMERIC;
	multiply_triangles(&p, m, n, q);
	dgesvd_(job, job, &q, &q, p.c, &q, s, p.x, &q, p.yt, &q, p.work, &lwork, &info, 1, 1);
	if (!info && u)
		info = rotate(p.qb, p.tau_b, m, q, p.x, false, p.u, p.work);
	if (!info && v)
		info = rotate(p.qa, p.tau_a, n, q, p.yt, true, p.v, p.work);
	if (info)
		return WASD_ENUMERIC;
	if (u)
		*u = p.u;
	if (v)
		*v = p.v;
	return WASD_OK;
}
