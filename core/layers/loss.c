/* layers/loss.c - softmax cross-entropy with label smoothing e over C classes:
 *
 *   q = (1-e)*onehot(y) + e/C,   loss = mean over images of  -sum_c q_c * log p_c,   p = softmax(z)
 *   d loss/d z_c = (p_c - q_c) / n
 *
 * If another label v has the share r of each label, onehot(y) is (1-r)*onehot(y) + r*onehot(v). With class weights w,
 * an image counts as m = (1-r) w_y + r w_v images (the mean of torch's CrossEntropyLoss):
 *
 *   loss = sum over images of  -sum_c w_c q_c log p_c / sum of m
 *   d loss/d z_c = (p_c sum_k w_k q_k - w_c q_c) / sum of m
 *
 * Against the probabilities t of another network:
 *
 *   loss = mean over images of  -sum_c t_c log p_c,   d loss/d z_c = (p_c sum_k t_k - t_c) / n
 *
 * log p_c = z_c - max - log sum exp(z - max), all in double: it costs little, and people compare losses. */
#include "layers/layer.h"

#include <math.h>

static enum wasd_status check(const struct wasd_targets *t, int n, int classes, struct wasd_err *err)
{
	if (!(t->smoothing >= 0 && t->smoothing < 1))
		return wasd_fail(err, WASD_EINVAL, "label smoothing %g is not within [0,1)", t->smoothing);
	for (int i = 0; i < n; i++) {
		int32_t y = t->y[i] < 0 || t->y[i] >= classes || !t->other ? t->y[i] : t->other[i];
		if (y < 0 || y >= classes)
			return wasd_fail(err, WASD_EINVAL, "label %d of image %d is not within 0..%d", (int)y, i, classes - 1);
	}
	return WASD_OK;
}

/* Returns the class of the largest logit, or -1 if one is not finite. */
static int largest(const real *z, int classes)
{
	int top = 0;
	bool finite = true;
	for (int c = 0; c < classes; c++) {
		finite &= isfinite(z[c]) != 0;
		if (z[c] > z[top])
			top = c;
	}
	return finite ? top : -1;
}

/* One image with one label and no weights. lse: log sum exp. */
static double plain(const struct wasd_targets *t, int i, const real *z, int classes, double lse, int n, real *dz)
{
	double smoothing = t->smoothing, rest = 0;
	if (smoothing > 0)
		for (int c = 0; c < classes; c++)
			rest += lse - (double)z[c];
	for (int c = 0; dz && c < classes; c++) {
		double q = smoothing / classes + (c == t->y[i] ? 1 - smoothing : 0);
		dz[c] = (real)((exp((double)z[c] - lse) - q) / n);
	}
	return (1 - smoothing) * (lse - (double)z[t->y[i]]) + smoothing / classes * rest;
}

static double weight(const struct wasd_targets *t, int c)
{
	return t->weights ? t->weights[c] : 1;
}

/* The number of images that image i counts as. */
static double mass(const struct wasd_targets *t, int i)
{
	return t->other ? (1 - t->rest) * weight(t, t->y[i]) + t->rest * weight(t, t->other[i]) : weight(t, t->y[i]);
}

/* w_c q_c of image i. */
static double target(const struct wasd_targets *t, int i, int c, int classes)
{
	double q = c == t->y[i] ? 1 - (t->other ? t->rest : 0) : 0;
	if (t->other && c == t->other[i])
		q += t->rest;
	return weight(t, c) * ((1 - t->smoothing) * q + t->smoothing / classes);
}

static double mixed(const struct wasd_targets *t, int i, const real *z, int classes, double lse, double n, real *dz)
{
	double sum = 0, total = 0;
	for (int c = 0; c < classes; c++) {
		sum += target(t, i, c, classes);
		total += target(t, i, c, classes) * (lse - (double)z[c]);
	}
	for (int c = 0; dz && c < classes; c++)
		dz[c] = (real)((exp((double)z[c] - lse) * sum - target(t, i, c, classes)) / n);
	return total;
}

/* One image with a probability for each class. */
static double soft(const real *target, const real *z, int classes, double lse, int n, real *dz)
{
	double total = 0, sum = 0;
	for (int c = 0; c < classes; c++) {
		sum += (double)target[c];
		total += (double)target[c] * (lse - (double)z[c]);
	}
	for (int c = 0; dz && c < classes; c++)
		dz[c] = (real)((exp((double)z[c] - lse) * sum - (double)target[c]) / n);
	return total;
}

enum wasd_status loss_softmax_xent(const real *logits, const struct wasd_targets *t, int n, int classes, double *loss,
                                   int *correct, real *dlogits, struct wasd_err *err)
{
	enum wasd_status s = t->soft ? WASD_OK : check(t, n, classes, err);
	bool simple = t->soft || (!t->other && !t->weights);
	double total = 0, images = simple ? n : 0;
	int hits = 0;
	if (s)
		return s;
	for (int i = 0; !simple && i < n; i++)
		images += mass(t, i);
	for (int i = 0; i < n; i++) {
		const real *z = logits + (size_t)i * (size_t)classes;
		real *dz = dlogits ? dlogits + (size_t)i * (size_t)classes : NULL;
		int top = largest(z, classes);
		if (top < 0)
			return wasd_fail(err, WASD_ENUMERIC, "logits of image %d are NaN or infinite", i);
		hits += !t->soft && top == t->y[i];
		double sum = 0;
		for (int c = 0; c < classes; c++)
			sum += exp((double)z[c] - (double)z[top]);
		double lse = (double)z[top] + log(sum);
		total += t->soft ? soft(t->soft + (size_t)i * (size_t)classes, z, classes, lse, n, dz) :
		         simple  ? plain(t, i, z, classes, lse, n, dz) :
		                   mixed(t, i, z, classes, lse, images, dz);
	}
	total /= images;
	if (!isfinite(total))
		return wasd_fail(err, WASD_ENUMERIC, "loss is NaN or infinite");
	*loss = total;
	*correct = hits;
	return WASD_OK;
}
