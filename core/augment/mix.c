/* augment/mix.c - see mix.h. */
#include "augment/mix.h"

#include <math.h>

static double normal(struct wasd_rng *r)
{
	double u = 1 - wasd_rng_uniform(r), v = wasd_rng_uniform(r);
	return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

/* Gamma(a, 1) for a of at least 1, by Marsaglia and Tsang (2000). */
static double gamma_of(struct wasd_rng *r, double a)
{
	double d = a - 1.0 / 3, c = 1 / sqrt(9 * d);
	for (;;) {
		double x = normal(r), v = 1 + c * x, u = 1 - wasd_rng_uniform(r);
		v = v * v * v;
		if (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
			return d * v;
	}
}

/* Beta(a, a) = X/(X + Y) with X, Y of Gamma(a), where Gamma(a) = Gamma(a + 1) U^(1/a). In logarithms, since the powers
 * of a small a are 0. */
double mix_beta(struct wasd_rng *r, double alpha)
{
	double log_of[2];
	if (alpha == 0)
		return 1;
	for (int i = 0; i < 2; i++) {
		double u = 1 - wasd_rng_uniform(r);
		log_of[i] = log(gamma_of(r, alpha + 1)) + log(u) / alpha;
	}
	return 1 / (1 + exp(log_of[1] - log_of[0]));
}

void mix_labels(struct augment_batch *b, double own)
{
	bool swap = own < 0.5;
	for (int i = 0; i < b->n; i++)
		b->other[i] = b->y[b->n - 1 - i];
	for (int i = 0; swap && i < b->n; i++) {
		int32_t y = b->y[i];
		b->y[i] = b->other[i];
		b->other[i] = y;
	}
	b->rest = swap ? own : 1 - own;
}
