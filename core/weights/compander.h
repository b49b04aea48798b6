/* weights/compander.h - W = a f(V / b), element by element, for four odd, increasing, bounded functions f. */
#ifndef WEIGHTS_COMPANDER_H
#define WEIGHTS_COMPANDER_H

#include "wasd/tensor.h"

struct compander_function {
	const char *name;
	double limit;                                                   /* of f(u) for large u */
	void (*value)(size_t n, const real *u, real *f);                /* f(u); f may be u */
	void (*slope)(size_t n, const real *u, const real *f, real *s); /* f'(u), from u and f(u); s may be u or f */
	double (*inverse)(double f);                                    /* |f| < limit */
};
extern const struct compander_function compander_functions[]; /* ends at a NULL name */

/* w = a f(v / b); w may be v. */
void compander_link(const struct compander_function *f, real a, real b, size_t n, const real *v, real *w);
/* Replaces g = dL/dw by dL/dv. dab[0], dab[1]: dL/da and dL/db. */
void compander_back(const struct compander_function *f, real a, real b, size_t n, const real *v, real *g,
                    double dab[2]);

#endif
