/* layers/loss.c - softmax cross-entropy with label smoothing e over C classes:
 *
 *   q = (1-e)*onehot(y) + e/C,   loss = mean over images of  -sum_c q_c * log p_c,   p = softmax(z)
 *   d loss/d z_c = (p_c - q_c) / n
 *
 * log p_c = z_c - max - log sum exp(z - max), all in double: it costs little, and people compare losses. */
#include "layers/layer.h"

#include <math.h>

enum wasd_status loss_softmax_xent(const real *logits, const int32_t *y, int n, int classes, double smoothing,
                                   double *loss, int *correct, real *dlogits, struct wasd_err *err)
{
	if (!(smoothing >= 0 && smoothing < 1))
		return wasd_fail(err, WASD_EINVAL, "label smoothing %g is not within [0,1)", smoothing);
	double total = 0;
	int hits = 0;
	for (int i = 0; i < n; i++) {
		const real *z = logits + (size_t)i * (size_t)classes;
		if (y[i] < 0 || y[i] >= classes)
			return wasd_fail(err, WASD_EINVAL, "label %d of image %d is not within 0..%d", (int)y[i], i, classes - 1);
		int top = 0;
		bool finite = true;
		for (int c = 0; c < classes; c++) {
			finite &= isfinite(z[c]) != 0;
			if (z[c] > z[top])
				top = c;
		}
		if (!finite)
			return wasd_fail(err, WASD_ENUMERIC, "logits of image %d are NaN or infinite", i);
		hits += top == y[i];
		double sum = 0;
		for (int c = 0; c < classes; c++)
			sum += exp((double)z[c] - (double)z[top]);
		double lse = (double)z[top] + log(sum), rest = 0;
		if (smoothing > 0)
			for (int c = 0; c < classes; c++)
				rest += lse - (double)z[c];
		total += (1 - smoothing) * (lse - (double)z[y[i]]) + smoothing / classes * rest;
		for (int c = 0; dlogits && c < classes; c++) {
			double q = smoothing / classes + (c == y[i] ? 1 - smoothing : 0);
			dlogits[(size_t)i * (size_t)classes + (size_t)c] = (real)((exp((double)z[c] - lse) - q) / n);
		}
	}
	total /= n;
	if (!isfinite(total))
		return wasd_fail(err, WASD_ENUMERIC, "loss is NaN or infinite");
	*loss = total;
	*correct = hits;
	return WASD_OK;
}
