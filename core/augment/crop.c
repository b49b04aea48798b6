/* augment/crop.c - shifts an image. Padding by p on every side and cropping at (ay,ax) in 0..2p amounts to a shift by
 * (ay-p, ax-p). */
#include "augment/augment.h"

#include <string.h>

enum { PAD };
static const struct wasd_field options[] = {
	[PAD] = {"pad", WASD_INT, "4", 1, 64, .summary = "maximum shift of an image, in pixels"},
	{0},
};

static enum wasd_status check(const double *o, struct wasd_shape s, struct wasd_err *err)
{
	if (o[PAD] < s.h && o[PAD] < s.w)
		return WASD_OK;
	return wasd_fail(err, WASD_EINVAL, "crop padding %d is too large for %dx%d images", (int)o[PAD], s.h, s.w);
}

static void shift_plane(const uint8_t *from, int h, int w, int dy, int dx, uint8_t *to)
{
	int lo = dx < 0 ? -dx : 0, n = w - (dx < 0 ? -dx : dx);
	memset(to, 0, (size_t)h * (size_t)w);
	for (int i = 0; i < h; i++)
		if (i + dy >= 0 && i + dy < h)
			memcpy(to + i * w + lo, from + (i + dy) * w + lo + dx, (size_t)n);
}

static void crop(const double *o, struct wasd_rng *r, struct augment_image *x)
{
	int pad = (int)o[PAD], h = x->shape.h, w = x->shape.w;
	uint32_t span = 2 * (uint32_t)pad + 1;
	int dy = (int)wasd_rng_below(r, span) - pad, dx = (int)wasd_rng_below(r, span) - pad;
	size_t image = wasd_shape_count(x->shape);
	memcpy(x->spare, x->px, image);
	for (int c = 0; c < x->shape.c; c++)
		shift_plane(x->spare + c * h * w, h, w, dy, dx, x->px + c * h * w);
}

const struct augment_kind augment_crop = {
	.name = "crop",
	.summary = "shifts at random, filled with black",
	.options = options,
	.image = crop,
	.check = check,
};
