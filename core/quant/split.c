/* quant/split.c - see split.h. */
#include "quant/split.h"

#include <math.h>
#include <string.h>

static double largest(const real *w, size_t n, size_t step)
{
	double top = 0;
	for (size_t i = 0; i < n; i++)
		top = fmax(top, fabs((double)w[i * step]));
	return top;
}

void quant_rows(const real *w, int outs, size_t fan, int top, int8_t *q, float *scale)
{
	for (int o = 0; o < outs; o++, w += fan, q += fan) {
		double most = largest(w, fan, 1);
		scale[o] = most < QUANT_ZERO ? 1 : (float)(most / top);
		for (size_t i = 0; i < fan; i++)
			q[i] = (int8_t)fmax(-top - 1, fmin(top, nearbyint((double)w[i] / (double)scale[o])));
	}
}

void quant_split(const struct quant_split *how, const real *w, int outs, int ins, int kh, int kw, int top, real *coarse,
                 real *fine, float *d)
{
	size_t taps = (size_t)(kh * kw), fan = (size_t)ins * taps, step = how->whole ? 1 : taps,
		   n = how->whole ? fan : (size_t)ins, first = how->whole ? 0 : (size_t)(kh / 2 * kw + kw / 2);
	float most = 0;
	memcpy(fine, w, (size_t)outs * fan * sizeof *fine);
	for (int o = 0; o < outs; o++) {
		d[o] = (float)largest(w + (size_t)o * fan + first, n, step) / (float)top;
		most = fmaxf(most, d[o]);
	}
	for (int o = 0; o < outs; o++) {
		d[o] = how->one ? most : d[o];
		for (size_t i = 0; i < n; i++) {
			size_t at = (size_t)o * fan + first + i * step;
			float c = d[o] > 0 ? floorf((float)w[at] / d[o] + 0.5f) * d[o] : 0;
			*coarse++ = (real)c;
			fine[at] = w[at] - (real)c;
		}
	}
}
