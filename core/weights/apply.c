/* core/weights/apply.c - SW = alpha PW T^t over rows of k*k taps, and its gradients
 *     dPW += alpha dSW T,    dalpha = <dSW, PW T^t> = <dSW T, PW>
 * so that backward needs the one product dSW T for both. Rows go through in a fixed number of chunks whose partial sums are
 * added in order: the result does not depend on the number of threads.
 *
 * T is kept as the list of its entries (a row of T has at most one for the nearest-sampling kinds and four for crop and resize).
 * When it is a pure copy the taps of a row are moved one by one; else LANES rows at a time are turned so that a tap of all of them is
 * one vector, and each entry is one multiply-add of vectors.
 */
#include <string.h>

#include "wasd/weights.h"

#define KK_MAX (WASD_K_MAX * WASD_K_MAX)
#define LANES 16
#define CHUNKS 64
#define CHUNK_ROWS 512                               /* at least: below this a thread is not worth waking */

struct entry { int8_t to, from; real w; };           /* T[to][from] = w; to counts inside the rectangle */

struct job {
	const real *pw, *dsw;
	real *sw, *dpw;
	size_t rows;
	int chunks;
	int kk, m;                                   /* taps of PW; taps of the rectangle */
	real alpha;
	int n;
	struct entry e[KK_MAX * KK_MAX];
	double partial[CHUNKS];
};

typedef void chunk_fn(struct job *j, size_t begin, size_t end, double *dot);

/* ---- copies ------------------------------------------------------------------------------------- */

static void copy_forward(struct job *j, size_t begin, size_t end, double *dot)
{
	size_t kk = (size_t)j->kk, m = (size_t)j->m;
	int n = j->n, to[KK_MAX], from[KK_MAX];         /* at most one entry per row of T */
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

static void copy_backward(struct job *j, size_t begin, size_t end, double *dot)
{
	size_t kk = (size_t)j->kk, m = (size_t)j->m;
	int n = j->n, to[KK_MAX], from[KK_MAX];
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
			real d = ds[to[i]];
			dw[from[i]] += alpha * d;
			sum += (double)d * w[from[i]];
		}
	}
	*dot = sum;
}

/* ---- blends: LANES rows at a time ------------------------------------------------------------------- */

typedef real lanes[LANES];

/* n <= LANES rows of `taps` values as taps vectors; the lanes of absent rows are 0. */
static inline void turn(const real *rows, size_t n, int taps, lanes *out)
{
	if (n < LANES)
		memset(out, 0, (size_t)taps * sizeof *out);
	for (size_t r = 0; r < n; r++)
		for (int t = 0; t < taps; t++)
			out[t][r] = rows[r * (size_t)taps + (size_t)t];
}

WASD_HOT static void blend_forward(struct job *j, size_t begin, size_t end, double *dot)
{
	lanes x[KK_MAX], y[KK_MAX];
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

WASD_HOT static void blend_backward(struct job *j, size_t begin, size_t end, double *dot)
{
	lanes x[KK_MAX], y[KK_MAX], g[KK_MAX];
	double sum[LANES] = { 0 };
	for (size_t r = begin; r < end; r += LANES) {
		size_t n = end - r < LANES ? end - r : LANES;
		turn(j->pw + r * (size_t)j->kk, n, j->kk, x);
		turn(j->dsw + r * (size_t)j->m, n, j->m, y);
		memset(g, 0, (size_t)j->kk * sizeof *g);
		for (int i = 0; i < j->n; i++) {
			real *to = g[j->e[i].from], w = j->e[i].w;
			const real *from = y[j->e[i].to];
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

/* ---- the two passes ---------------------------------------------------------------------------------- */

static void job_init(struct job *j, const struct wasd_transform *t, real alpha, size_t rows, struct wasd_rect at)
{
	j->alpha = alpha;
	j->rows = rows;
	j->kk = t->k * t->k;
	j->m = at.h * at.w;
	size_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
	j->chunks = chunks > CHUNKS ? CHUNKS : (int)chunks;
	j->n = 0;
	for (int o = 0; o < j->m; o++) {
		const double *row = t->T + ((at.y + o / at.w) * t->k + at.x + o % at.w) * j->kk;
		for (int i = 0; i < j->kk; i++)
			if (row[i] != 0)
				j->e[j->n++] = (struct entry){ (int8_t)o, (int8_t)i, (real)row[i] };
	}
}

struct run { struct job *j; chunk_fn *fn; };

static void run_chunks(void *ctx, int begin, int end, int thread)
{
	struct run *r = ctx;
	(void)thread;
	for (int c = begin; c < end; c++)
		r->fn(r->j, r->j->rows * (size_t)c / (size_t)r->j->chunks, r->j->rows * (size_t)(c + 1) / (size_t)r->j->chunks, &r->j->partial[c]);
}

static void run(struct job *j, chunk_fn *fn)
{
	struct run r = { j, fn };
	if (j->chunks == 1)
		run_chunks(&r, 0, 1, 0);
	else
		wasd_parallel(j->chunks, run_chunks, &r);
}

void wasd_transform_forward(const struct wasd_transform *t, real alpha, const real *pw, size_t rows, struct wasd_rect at, real *sw)
{
	struct job j;
	if (!rows || !at.h || !at.w)
		return;
	job_init(&j, t, alpha, rows, at);
	j.pw = pw;
	j.sw = sw;
	run(&j, t->copy ? copy_forward : blend_forward);
}

double wasd_transform_backward(const struct wasd_transform *t, real alpha, const real *pw, const real *dsw, size_t rows, struct wasd_rect at, real *dpw)
{
	struct job j;
	double dalpha = 0;
	if (!rows || !at.h || !at.w)
		return 0;
	job_init(&j, t, alpha, rows, at);
	j.pw = pw;
	j.dsw = dsw;
	j.dpw = dpw;
	run(&j, t->copy ? copy_backward : blend_backward);
	for (int c = 0; c < j.chunks; c++)
		dalpha += j.partial[c];
	return dalpha;
}
