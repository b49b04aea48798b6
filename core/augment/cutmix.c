/* augment/cutmix.c - a rectangle of each image is replaced by that of another one, and the labels are mixed by area
 * (Yun et al., arXiv 1905.04899). The rectangle of a batch has the image's proportions and the area that Beta(alpha,
 * alpha) leaves; its centre lies anywhere, so the border may cut it. */
#include "augment/mix.h"

#include <math.h>

enum { ALPHA };
static const struct wasd_field options[] = {
	[ALPHA] = {"alpha", WASD_NUM, "1", 0, 100, .summary = "both parameters of the Beta distribution of the area kept"},
	{0},
};

struct rect {
	int y, x, h, w;
};

static void swap_rect(real *a, real *b, int w, struct rect r)
{
	for (int y = r.y; y < r.y + r.h; y++)
		for (int x = r.x; x < r.x + r.w; x++) {
			real v = a[y * w + x];
			a[y * w + x] = b[y * w + x];
			b[y * w + x] = v;
		}
}

/* The part of a side of the image from `centre` - size/2 on that lies inside. */
static void cut(int centre, int size, int side, int *begin, int *len)
{
	int from = centre - size / 2, to = from + size;
	*begin = from < 0 ? 0 : from;
	*len = (to > side ? side : to) - *begin;
}

static void cutmix(const double *o, struct wasd_rng *r, struct augment_batch *b)
{
	int h = b->shape.h, w = b->shape.w;
	size_t image = wasd_shape_count(b->shape), plane = (size_t)h * (size_t)w;
	double share = sqrt(1 - mix_beta(r, o[ALPHA]));
	int cy = (int)wasd_rng_below(r, (uint32_t)h), cx = (int)wasd_rng_below(r, (uint32_t)w);
	struct rect at;
	cut(cy, (int)(share * h), h, &at.y, &at.h);
	cut(cx, (int)(share * w), w, &at.x, &at.w);
	if (!at.h || !at.w)
		return;
	for (int i = 0; i < b->n / 2; i++)
		for (int c = 0; c < b->shape.c; c++)
			swap_rect(b->x + (size_t)i * image + (size_t)c * plane,
			          b->x + (size_t)(b->n - 1 - i) * image + (size_t)c * plane, w, at);
	mix_labels(b, 1 - (double)at.h * at.w / (double)plane);
}

const struct augment_kind augment_cutmix = {
	.name = "cutmix",
	.summary = "rectangles of other images, with labels by area",
	.options = options,
	.batch = cutmix,
};
