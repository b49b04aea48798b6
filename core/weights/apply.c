/* core/weights/apply.c - SW = alpha PW T^t over rows of k*k taps, and its gradients
 *     dPW += alpha dSW T,    dalpha = <dSW, PW T^t> = <dSW T, PW>
 * so that backward needs the one product dSW T for both. Rows go through in a fixed number of chunks whose partial sums are
 * added in order: the result does not depend on the number of threads.
 *
 * Two forms: a list of copied taps when T is a pure copy (shifts, flips, rotations), else a small dense product whose inner
 * loop runs over taps padded to a vector's width.
 */
#include <string.h>

#include "wasd/weights.h"

#define KK_MAX (WASD_K_MAX * WASD_K_MAX)
#define PAD_MAX 64
#define CHUNKS 64
#define CHUNK_ROWS 512                               /* at least: below this a thread is not worth waking */

struct job {
	const real *pw, *dsw;
	real *sw, *dpw;
	size_t rows;
	int chunks;
	int kk, m;                                   /* taps of PW; taps of the rectangle */
	real alpha;
	int n;                                       /* copy: tap to[i] of the rectangle comes from tap from[i] */
	int8_t to[KK_MAX], from[KK_MAX];
	real mat[KK_MAX * PAD_MAX];                  /* dense: forward [kk][pad over m], backward [m][pad over kk] */
	double partial[CHUNKS];
};

typedef void chunk_fn(struct job *j, size_t begin, size_t end, double *dot);

/* ---- copies ------------------------------------------------------------------------------------- */

static void copy_forward(struct job *j, size_t begin, size_t end, double *dot)
{
	(void)dot;
	for (size_t r = begin; r < end; r++) {
		const real *w = j->pw + r * (size_t)j->kk;
		real *s = j->sw + r * (size_t)j->m;
		if (j->n < j->m)
			memset(s, 0, (size_t)j->m * sizeof *s);
		for (int i = 0; i < j->n; i++)
			s[j->to[i]] = j->alpha * w[j->from[i]];
	}
}

static void copy_backward(struct job *j, size_t begin, size_t end, double *dot)
{
	double sum = 0;
	for (size_t r = begin; r < end; r++) {
		const real *w = j->pw + r * (size_t)j->kk, *ds = j->dsw + r * (size_t)j->m;
		real *dw = j->dpw + r * (size_t)j->kk;
		for (int i = 0; i < j->n; i++) {
			real d = ds[j->to[i]];
			dw[j->from[i]] += j->alpha * d;
			sum += (double)d * w[j->from[i]];
		}
	}
	*dot = sum;
}

/* ---- dense ----------------------------------------------------------------------------------------- */

/* in: n values, out: pad >= outputs, mat [n][pad]. */
__attribute__((always_inline)) static inline void product(const real *in, int n, const real *mat, int pad, real *out)
{
	for (int o = 0; o < pad; o++)
		out[o] = 0;
	for (int i = 0; i < n; i++)
		for (int o = 0; o < pad; o++)
			out[o] += in[i] * mat[i * pad + o];
}

__attribute__((always_inline)) static inline void dense_forward(struct job *j, size_t begin, size_t end, int kk, int pad)
{
	real acc[PAD_MAX] = { 0 };
	for (size_t r = begin; r < end; r++) {
		product(j->pw + r * (size_t)kk, kk, j->mat, pad, acc);
		real *s = j->sw + r * (size_t)j->m;
		for (int o = 0; o < j->m; o++)
			s[o] = j->alpha * acc[o];
	}
}

__attribute__((always_inline)) static inline double dense_backward(struct job *j, size_t begin, size_t end, int kk, int pad)
{
	real g[PAD_MAX] = { 0 };
	double lane[PAD_MAX] = { 0 }, sum = 0;
	for (size_t r = begin; r < end; r++) {
		product(j->dsw + r * (size_t)j->m, j->m, j->mat, pad, g);
		const real *w = j->pw + r * (size_t)kk;
		real *dw = j->dpw + r * (size_t)kk;
		for (int i = 0; i < kk; i++) {
			dw[i] += j->alpha * g[i];
			lane[i] += (double)g[i] * w[i];
		}
	}
	for (int i = 0; i < kk; i++)
		sum += lane[i];
	return sum;
}

/* The kernel sides in use get loops of constant length. */
#define DENSE(name, KK, PAD) \
	WASD_HOT static void name##_forward(struct job *j, size_t b, size_t e, double *dot) { (void)dot; dense_forward(j, b, e, KK, PAD); } \
	WASD_HOT static void name##_backward(struct job *j, size_t b, size_t e, double *dot) { *dot = dense_backward(j, b, e, KK, PAD); }
DENSE(dense3, 9, 16)
DENSE(dense5, 25, 32)
DENSE(dense_any, j->kk, PAD_MAX)

/* ---- the two passes ---------------------------------------------------------------------------------- */

static int pad_of(int kk) { return kk == 9 ? 16 : kk == 25 ? 32 : PAD_MAX; }

static void job_init(struct job *j, const struct wasd_transform *t, real alpha, size_t rows, struct wasd_rect at)
{
	j->alpha = alpha;
	j->rows = rows;
	j->kk = t->k * t->k;
	j->m = at.h * at.w;
	j->n = 0;
	size_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
	j->chunks = chunks > CHUNKS ? CHUNKS : (int)chunks;
}

/* Output tap o of the rectangle as a tap of the whole kernel. */
static int tap(const struct wasd_transform *t, struct wasd_rect at, int o)
{
	return (at.y + o / at.w) * t->k + at.x + o % at.w;
}

static void list_copies(struct job *j, const struct wasd_transform *t, struct wasd_rect at)
{
	for (int o = 0; o < j->m; o++) {
		int from = t->from[tap(t, at, o)];
		if (from < 0)
			continue;
		j->to[j->n] = (int8_t)o;
		j->from[j->n++] = (int8_t)from;
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
	job_init(&j, t, alpha, rows, at);
	if (!rows || !j.m)
		return;
	j.pw = pw;
	j.sw = sw;
	if (t->copy) {
		list_copies(&j, t, at);
		run(&j, copy_forward);
		return;
	}
	int pad = pad_of(j.kk);
	memset(j.mat, 0, (size_t)j.kk * (size_t)pad * sizeof *j.mat);
	for (int o = 0; o < j.m; o++)
		for (int i = 0; i < j.kk; i++)
			j.mat[i * pad + o] = (real)t->T[tap(t, at, o) * j.kk + i];
	run(&j, j.kk == 9 ? dense3_forward : j.kk == 25 ? dense5_forward : dense_any_forward);
}

double wasd_transform_backward(const struct wasd_transform *t, real alpha, const real *pw, const real *dsw, size_t rows, struct wasd_rect at, real *dpw)
{
	struct job j;
	job_init(&j, t, alpha, rows, at);
	if (!rows || !j.m)
		return 0;
	j.pw = pw;
	j.dsw = dsw;
	j.dpw = dpw;
	if (t->copy) {
		list_copies(&j, t, at);
		run(&j, copy_backward);
	} else {
		int pad = pad_of(j.kk);
		memset(j.mat, 0, (size_t)j.m * (size_t)pad * sizeof *j.mat);
		for (int o = 0; o < j.m; o++)
			for (int i = 0; i < j.kk; i++)
				j.mat[o * pad + i] = (real)t->T[tap(t, at, o) * j.kk + i];
		run(&j, j.kk == 9 ? dense3_backward : j.kk == 25 ? dense5_backward : dense_any_backward);
	}
	double dalpha = 0;
	for (int c = 0; c < j.chunks; c++)
		dalpha += j.partial[c];
	return dalpha;
}
