/* augment/mixup.c - weighted means of two images and of their labels (Zhang et al., arXiv 1710.09412), with one weight
 * for the batch from Beta(alpha, alpha). */
#include "augment/mix.h"

enum { ALPHA };
static const struct wasd_field options[] = {
	[ALPHA] = {"alpha", WASD_NUM, "0.2", 0, 100, .summary = "both parameters of the Beta distribution of the weight"},
	{0},
};

static void mixup(const double *o, struct wasd_rng *r, struct augment_batch *b)
{
	size_t image = wasd_shape_count(b->shape);
	double own = mix_beta(r, o[ALPHA]);
	if (own == 1)
		return;
	for (int i = 0; i < b->n / 2; i++) {
		real *x = b->x + (size_t)i * image, *y = b->x + (size_t)(b->n - 1 - i) * image;
		for (size_t k = 0; k < image; k++) {
			real u = x[k], v = y[k];
			x[k] = (real)(own * (double)u + (1 - own) * (double)v);
			y[k] = (real)(own * (double)v + (1 - own) * (double)u);
		}
	}
	mix_labels(b, own);
}

const struct augment_kind augment_mixup = {
	.name = "mixup",
	.summary = "weighted means of two images and of their labels",
	.options = options,
	.batch = mixup,
};
