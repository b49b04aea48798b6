/* augment/cutout.c - a square of the image becomes the mean colour of the data set (DeVries and Taylor, arXiv
 * 1708.04552). Its centre lies anywhere in the image, so the square may be cut by the border. */
#include "augment/augment.h"

#include <string.h>

enum { SIZE, P };
static const struct wasd_field options[] = {
	[SIZE] = {"size", WASD_INT, "16", 1, 4096, .summary = "side of the square, in pixels"},
	[P] = {"p", WASD_NUM, "1", 0, 1, .summary = "probability that an image is changed"},
	{0},
};

static enum wasd_status check(const double *o, struct wasd_shape s, struct wasd_err *err)
{
	if (o[SIZE] <= s.h && o[SIZE] <= s.w)
		return WASD_OK;
	return wasd_fail(err, WASD_EINVAL, "cutout: a square of side %d is larger than %dx%d images", (int)o[SIZE], s.h,
	                 s.w);
}

static void cutout(const double *o, struct wasd_rng *r, struct augment_image *x)
{
	int size = (int)o[SIZE], h = x->shape.h, w = x->shape.w;
	bool changed = wasd_rng_uniform(r) < o[P];
	int y0 = (int)wasd_rng_below(r, (uint32_t)h) - size / 2, x0 = (int)wasd_rng_below(r, (uint32_t)w) - size / 2;
	int y1 = y0 + size < h ? y0 + size : h, x1 = x0 + size < w ? x0 + size : w;
	y0 = y0 < 0 ? 0 : y0;
	x0 = x0 < 0 ? 0 : x0;
	for (int c = 0; changed && c < x->shape.c; c++)
		for (int y = y0; y < y1; y++)
			memset(x->px + (c * h + y) * w + x0, x->mean[c], (size_t)(x1 - x0));
}

const struct augment_kind augment_cutout = {
	.name = "cutout",
	.summary = "covers a square with the data set's mean colour",
	.options = options,
	.image = cutout,
	.check = check,
};
