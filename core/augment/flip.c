/* augment/flip.c - mirrors an image left to right, or leaves it. */
#include "augment/augment.h"

static void flip(const double *o, struct wasd_rng *r, struct augment_image *x)
{
	int w = x->shape.w, rows = x->shape.c * x->shape.h;
	(void)o;
	if (!(wasd_rng_u64(r) >> 63))
		return;
	for (int i = 0; i < rows; i++)
		for (uint8_t *a = x->px + (size_t)i * (size_t)w, *b = a + w - 1; a < b; a++, b--) {
			uint8_t v = *a;
			*a = *b;
			*b = v;
		}
}

const struct augment_kind augment_flip = {
	.name = "flip",
	.summary = "flips left to right with probability 1/2",
	.image = flip,
};
