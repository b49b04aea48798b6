/* core/weights/apply.c - SW = alpha PW T^t over rows of k*k taps, and its gradients
 *     dPW += alpha dSW T,    dalpha = <dSW, PW T^t> = <dSW T, PW>
 * so that backward needs only the product dSW T for both. Rows are processed in a fixed number of chunks whose partial
 * sums are added in order, so the result does not depend on the number of threads.
 *
 * T is stored as the list of its entries (a row of T has at most one entry for nearest sampling and four for crop and
 * resize). The kernels of this file support every CPU and number type. If T is a pure copy, the taps of a row are moved
 * one by one; else LANES rows at a time are transposed, so that one tap of all rows is one vector and each entry is one
 * vector multiply-add.
 */
#include <string.h>

#include "weights/apply.h"

#define LANES APPLY_LANES
#define CHUNK_ROWS 512 /* minimum: fewer rows are not worth waking a thread */

/* ---- copies ------------------------------------------------------------------------------------- */

static void copy_forward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	size_t kk = (size_t)j->kk, m = (size_t)j->m;
	int n = j->n, to[APPLY_TAPS], from[APPLY_TAPS]; /* at most one entry per row of T */
	real alpha = j->alpha;
	(void)dot;
	for (int i = 0; i < n; i++) {
		to[i] = j->e[i].to;
		from[i] = j->e[i].from;
	}
	for (size_t r = begin; r < end; r++) {
		const real *restrict w = j->pw + r * kk;
		real *restrict s = j->sw + r * m;
		if (n < (int)m)
			memset(s, 0, m * sizeof *s);
		for (int i = 0; i < n; i++)
			s[to[i]] = alpha * w[from[i]];
	}
}

static void copy_backward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	size_t kk = (size_t)j->kk, m = (size_t)j->m;
	int n = j->n, to[APPLY_TAPS], from[APPLY_TAPS];
	real alpha = j->alpha;
	double sum = 0;
	for (int i = 0; i < n; i++) {
		to[i] = j->e[i].to;
		from[i] = j->e[i].from;
	}
	for (size_t r = begin; r < end; r++) {
		const real *restrict w = j->pw + r * kk, *restrict ds = j->dsw + r * m;
		real *restrict dw = j->dpw + r * kk;
		for (int i = 0; i < n; i++) {
			real d = ds[from[i]];
			dw[to[i]] += alpha * d;
			sum += (double)d * w[to[i]];
		}
	}
	*dot = sum;
}

/* ---- blends: LANES rows at a time ------------------------------------------------------------------- */

typedef real lanes[LANES];

/* Transposes n <= LANES rows of `taps` values into taps vectors; the lanes of absent rows are 0. */
static inline void turn(const real *rows, size_t n, int taps, lanes *out)
{
	if (n < LANES)
		memset(out, 0, (size_t)taps * sizeof *out);
	for (size_t r = 0; r < n; r++)
		for (int t = 0; t < taps; t++)
			out[t][r] = rows[r * (size_t)taps + (size_t)t];
}

WASD_HOT static void blend_forward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	lanes x[APPLY_TAPS], y[APPLY_TAPS];
	(void)dot;
	for (size_t r = begin; r < end; r += LANES) {
		size_t n = end - r < LANES ? end - r : LANES;
		turn(j->pw + r * (size_t)j->kk, n, j->kk, x);
		memset(y, 0, (size_t)j->m * sizeof *y);
		for (int i = 0; i < j->n; i++) {
			real *to = y[j->e[i].to], w = j->e[i].w * j->alpha;
			const real *from = x[j->e[i].from];
			for (int l = 0; l < LANES; l++)
				to[l] += w * from[l];
		}
		real *s = j->sw + r * (size_t)j->m;
		for (size_t k = 0; k < n; k++)
			for (int t = 0; t < j->m; t++)
				*s++ = y[t][k];
	}
}

WASD_HOT static void blend_backward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	lanes x[APPLY_TAPS], y[APPLY_TAPS], g[APPLY_TAPS];
	double sum[LANES] = {0};
	for (size_t r = begin; r < end; r += LANES) {
		size_t n = end - r < LANES ? end - r : LANES;
		turn(j->pw + r * (size_t)j->kk, n, j->kk, x);
		turn(j->dsw + r * (size_t)j->m, n, j->m, y);
		memset(g, 0, (size_t)j->kk * sizeof *g);
		for (int i = 0; i < j->n; i++) {
			real *to = g[j->e[i].to], w = j->e[i].w;
			const real *from = y[j->e[i].from];
			for (int l = 0; l < LANES; l++)
				to[l] += w * from[l];
		}
		for (int t = 0; t < j->kk; t++)
			for (int l = 0; l < LANES; l++)
				sum[l] += (double)g[t][l] * x[t][l];
		real *d = j->dpw + r * (size_t)j->kk;
		for (size_t k = 0; k < n; k++)
			for (int t = 0; t < j->kk; t++)
				*d++ += j->alpha * g[t][k];
	}
	*dot = 0;
	for (int l = 0; l < LANES; l++)
		*dot += sum[l];
}

static void any_forward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	(j->copy ? copy_forward : blend_forward)(j, begin, end, dot);
}

static void any_backward(const struct apply_job *j, size_t begin, size_t end, double *dot)
{
	(j->copy ? copy_backward : blend_backward)(j, begin, end, dot);
}

const struct apply_kernel apply_portable = {.name = "portable", .forward = any_forward, .backward = any_backward};

static const struct apply_kernel *const kernels[] = {
#if defined(__x86_64__) && !defined(WASD_DOUBLE)
	&apply_avx512,
#endif
	&apply_portable,
};

const struct apply_kernel *apply_kernel_at(int i)
{
	return i >= 0 && (size_t)i < sizeof kernels / sizeof *kernels ? kernels[i] : NULL;
}

/* ---- the two passes ---------------------------------------------------------------------------------- */

/* T[o][i] of tap o of the rectangle. */
static real entry_at(const struct wasd_transform *t, struct wasd_rect at, int o, int i)
{
	return (real)t->T[((at.y + o / at.w) * t->k + at.x + o % at.w) * t->k * t->k + i];
}

static void job_init(struct apply_job *j, const struct wasd_transform *t, real alpha, size_t rows, struct wasd_rect at,
                     bool backward)
{
	j->alpha = alpha;
	j->rows = rows;
	j->kk = t->k * t->k;
	j->m = at.h * at.w;
	j->copy = t->copy;
	size_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
	j->chunks = chunks > APPLY_CHUNKS ? APPLY_CHUNKS : (int)chunks;
	j->n = 0;
	for (int to = 0; to < (backward ? j->kk : j->m); to++)
		for (int from = 0; from < (backward ? j->m : j->kk); from++) {
			real w = backward ? entry_at(t, at, from, to) : entry_at(t, at, to, from);
			if (w != 0)
				j->e[j->n++] = (struct apply_entry){(int8_t)to, (int8_t)from, w};
		}
}

struct chunks {
	struct apply_job *j;
	apply_chunk *fn;
};

static size_t chunk_begin(const struct apply_job *j, int c)
{
	return c == j->chunks ? j->rows : j->rows * (size_t)c / (size_t)j->chunks / LANES * LANES;
}

static void run_chunks(void *ctx, int begin, int end, int thread)
{
	struct chunks *r = ctx;
	struct apply_job *j = r->j;
	(void)thread;
	for (int c = begin; c < end; c++) {
		size_t first = chunk_begin(j, c), last = chunk_begin(j, c + 1);
		r->fn(j, first, last, &j->dot[c]);
		if (j->clear)
			memset(j->dsw + first * (size_t)j->m, 0, (last - first) * (size_t)j->m * sizeof *j->dsw);
	}
}

static void run(struct apply_job *j, apply_chunk *fn)
{
	struct chunks r = {j, fn};
	if (j->chunks == 1)
		run_chunks(&r, 0, 1, 0);
	else
		wasd_parallel(j->chunks, run_chunks, &r);
}

bool apply_forward(const struct apply_kernel *kn, const struct wasd_transform *t, real alpha, const real *pw,
                   size_t rows, struct wasd_rect at, real *sw)
{
	struct apply_job j;
	if (!rows || !at.h || !at.w)
		return true;
	job_init(&j, t, alpha, rows, at, false);
	j.pw = pw;
	j.sw = sw;
	j.dsw = NULL;
	j.clear = false;
	if (kn->prepare && !kn->prepare(&j))
		return false;
	run(&j, kn->forward);
	return true;
}

bool apply_backward(const struct apply_kernel *kn, const struct wasd_transform *t, real alpha, const real *pw,
                    real *dsw, bool clear, size_t rows, struct wasd_rect at, real *dpw, double *dot)
{
	struct apply_job j;
	*dot = 0;
	if (!rows || !at.h || !at.w)
		return true;
	job_init(&j, t, alpha, rows, at, true);
	j.pw = pw;
	j.dsw = dsw;
	j.dpw = dpw;
	j.clear = clear;
	if (kn->prepare && !kn->prepare(&j))
		return false;
	run(&j, kn->backward);
	for (int c = 0; c < j.chunks; c++)
		*dot += j.dot[c];
	return true;
}

void wasd_transform_forward(const struct wasd_transform *t, real alpha, const real *pw, size_t rows,
                            struct wasd_rect at, real *sw)
{
	int i = 0;
	while (!apply_forward(kernels[i], t, alpha, pw, rows, at, sw))
		i++;
}

static double backward(const struct wasd_transform *t, real alpha, const real *pw, real *dsw, bool clear, size_t rows,
                       struct wasd_rect at, real *dpw)
{
	double dot;
	int i = 0;
	while (!apply_backward(kernels[i], t, alpha, pw, dsw, clear, rows, at, dpw, &dot))
		i++;
	return dot;
}

double wasd_transform_backward(const struct wasd_transform *t, real alpha, const real *pw, const real *dsw, size_t rows,
                               struct wasd_rect at, real *dpw)
{
	return backward(t, alpha, pw, (real *)(uintptr_t)dsw, false, rows, at, dpw);
}

double apply_backward_clear(const struct wasd_transform *t, real alpha, const real *pw, real *dsw, size_t rows,
                            struct wasd_rect at, real *dpw)
{
	return backward(t, alpha, pw, dsw, true, rows, at, dpw);
}
