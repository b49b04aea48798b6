/* weights/superweights_compose.c - weights as sums of templates. See superweights.h. */
#include "weights/superweights.h"

WASD_HOT void sw_compose(size_t n, int k, const real *t, size_t stride, const real *c, real *w)
{
	for (size_t i = 0; i < n; i++)
		w[i] = c[0] * t[i];
	for (int j = 1; j < k; j++)
		for (size_t i = 0; i < n; i++)
			w[i] += c[j] * t[(size_t)j * stride + i];
}

WASD_HOT void sw_compose_back(size_t n, int k, const real *t, size_t stride, const real *c, const real *dw, real *dt,
                              double *dc)
{
	for (int j = 0; j < k; j++) {
		const real *own = t + (size_t)j * stride;
		real *d = dt + (size_t)j * stride;
		double sum = 0;
		for (size_t i = 0; i < n; i++) {
			d[i] += c[j] * dw[i];
			sum += (double)own[i] * (double)dw[i];
		}
		dc[j] += sum;
	}
}

struct sw_run sw_run_of(const struct sw_strip *s, int ins, int o)
{
	size_t row = (size_t)ins * s->taps, more = (size_t)(s->ins - s->ins0) * s->taps, whole = (size_t)s->ins * s->taps;
	if (o < s->outs0)
		return (struct sw_run){(size_t)o * row + (size_t)s->ins0 * s->taps, (size_t)o * more, more};
	return (struct sw_run){(size_t)o * row, (size_t)s->outs0 * more + (size_t)(o - s->outs0) * whole, whole};
}
