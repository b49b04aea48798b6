/* augment/color_jitter.c - brightness, contrast, saturation and hue at random strength, in random order: ColorJitter of
 * torchvision. */
#include "augment/augment.h"

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE, P };
static const struct wasd_field options[] = {
	[BRIGHTNESS] = {"brightness", WASD_NUM, "0.4", 0, 1, .summary = "b: factor of the brightness, from 1 - b to 1 + b"},
	[CONTRAST] = {"contrast", WASD_NUM, "0.4", 0, 1, .summary = "the same for the contrast"},
	[SATURATION] = {"saturation", WASD_NUM, "0.4", 0, 1, .summary = "the same for the saturation"},
	[HUE] = {"hue", WASD_NUM, "0.1", 0, 0.5, .summary = "maximum turn of the hue, as a part of the colour circle"},
	[P] = {"p", WASD_NUM, "1", 0, 1, .summary = "probability that an image is changed"},
	{0},
};

/* Every number is drawn, also for a strength of 0, so that one strength does not change the draws of the others. */
static void color_jitter(const double *o, struct wasd_rng *r, struct augment_image *x)
{
	static void (*const change[])(struct augment_image *, double) = {pixels_brightness, pixels_contrast,
	                                                                 pixels_saturation, pixels_hue};
	uint32_t order[] = {BRIGHTNESS, CONTRAST, SATURATION, HUE};
	double by[P];
	bool changed = wasd_rng_uniform(r) < o[P];
	wasd_rng_shuffle(r, order, P);
	for (int i = 0; i < P; i++)
		by[i] = (i == HUE ? 0 : 1) + wasd_rng_between(r, -o[i], o[i]);
	for (int i = 0; changed && i < P; i++)
		if (o[order[i]] > 0)
			change[order[i]](x, by[order[i]]);
}

const struct augment_kind augment_color_jitter = {
	.name = "color_jitter",
	.summary = "brightness, contrast, saturation and hue at random",
	.options = options,
	.image = color_jitter,
};
