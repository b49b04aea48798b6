/* weights/compander_functions.c - the functions of compander.h, and the passes through them.
 *
 *     W = a f(u), u = V / b     dV = G a/b f'(u)     da = sum G f(u)     db = -sum G a/b u f'(u) */
#include "weights/compander.h"

#include <math.h>

enum { CHUNK = 512 }; /* elements at a time, on the stack */

/* ---- atan ---- */

#ifdef WASD_DOUBLE
static void atan_value(size_t n, const real *u, real *f)
{
	for (size_t i = 0; i < n; i++)
		f[i] = atan(u[i]);
}
#else
/* Cephes' atanf without branches, so that it is vectorised: at most 2 units in the last place from atan. */
WASD_HOT static void atan_value(size_t n, const real *u, real *f)
{
	for (size_t i = 0; i < n; i++) {
		float x = fabsf(u[i]);
		bool far = x > 2.414213562373095f, mid = x > 0.4142135623730950f;
		float start = far ? 1.5707963267948966f : mid ? 0.7853981633974483f : 0;
		float up = far ? -1 : mid ? x - 1 : x, down = far ? x : mid ? x + 1 : 1;
		float t = up / down, z = t * t;
		float p = ((8.05374449538e-2f * z - 1.38776856032e-1f) * z + 1.99777106478e-1f) * z - 3.33329491539e-1f;
		f[i] = copysignf(start + (p * z * t + t), u[i]);
	}
}
#endif

WASD_HOT static void atan_slope(size_t n, const real *u, const real *f, real *s)
{
	(void)f;
	for (size_t i = 0; i < n; i++)
		s[i] = 1 / (1 + u[i] * u[i]);
}

/* ---- tanh, softsign, erf ---- */

static void tanh_value(size_t n, const real *u, real *f)
{
	for (size_t i = 0; i < n; i++)
		f[i] = (real)tanh((double)u[i]);
}

WASD_HOT static void tanh_slope(size_t n, const real *u, const real *f, real *s)
{
	(void)u;
	for (size_t i = 0; i < n; i++)
		s[i] = 1 - f[i] * f[i];
}

WASD_HOT static void softsign_value(size_t n, const real *u, real *f)
{
	for (size_t i = 0; i < n; i++)
		f[i] = u[i] / (1 + (u[i] < 0 ? -u[i] : u[i]));
}

WASD_HOT static void softsign_slope(size_t n, const real *u, const real *f, real *s)
{
	(void)f;
	for (size_t i = 0; i < n; i++) {
		real d = 1 + (u[i] < 0 ? -u[i] : u[i]);
		s[i] = 1 / (d * d);
	}
}

static double softsign_inverse(double f)
{
	return f / (1 - fabs(f));
}

static void erf_value(size_t n, const real *u, real *f)
{
	for (size_t i = 0; i < n; i++)
		f[i] = (real)erf((double)u[i]);
}

#define TWO_BY_ROOT_PI 1.1283791670955126

static void erf_slope(size_t n, const real *u, const real *f, real *s)
{
	(void)f;
	for (size_t i = 0; i < n; i++)
		s[i] = (real)(TWO_BY_ROOT_PI * exp(-(double)u[i] * (double)u[i]));
}

/* By Newton's method, from below: erf is concave for positive numbers. */
static double erf_inverse(double f)
{
	double u = 0, want = fabs(f);
	for (int i = 0; i < 60; i++)
		u += (want - erf(u)) / (TWO_BY_ROOT_PI * exp(-u * u));
	return copysign(u, f);
}

const struct compander_function compander_functions[] = {
	{"atan", 1.5707963267948966, atan_value, atan_slope, tan},
	{"tanh", 1, tanh_value, tanh_slope, atanh},
	{"softsign", 1, softsign_value, softsign_slope, softsign_inverse},
	{"erf", 1, erf_value, erf_slope, erf_inverse},
	{0},
};

/* ---- passes ---- */

void compander_link(const struct compander_function *f, real a, real b, size_t n, const real *v, real *w)
{
	real u[CHUNK];
	for (size_t at = 0; at < n; at += CHUNK) {
		size_t m = n - at < CHUNK ? n - at : CHUNK;
		for (size_t i = 0; i < m; i++)
			u[i] = v[at + i] / b;
		f->value(m, u, u);
		for (size_t i = 0; i < m; i++)
			w[at + i] = a * u[i];
	}
}

void compander_back(const struct compander_function *f, real a, real b, size_t n, const real *v, real *g, double dab[2])
{
	real u[CHUNK], y[CHUNK], s[CHUNK], k = a / b;
	dab[0] = dab[1] = 0;
	for (size_t at = 0; at < n; at += CHUNK) {
		size_t m = n - at < CHUNK ? n - at : CHUNK;
		double da = 0, db = 0;
		for (size_t i = 0; i < m; i++)
			u[i] = v[at + i] / b;
		f->value(m, u, y);
		f->slope(m, u, y, s);
		for (size_t i = 0; i < m; i++) {
			da += (double)(g[at + i] * y[i]);
			g[at + i] *= k * s[i];
			db -= (double)(g[at + i] * u[i]);
		}
		dab[0] += da;
		dab[1] += db;
	}
}
