/* augment/randaugment.c - a few operations at random from a list, all of one strength: RandAugment (Cubuk et al., arXiv
 * 1909.13719), with the list and the ranges of torchvision. Magnitude M of 30 stands for the share m = M/30 of the
 * greatest strength. Where nothing of the image is left, the data set's mean colour is filled in. */
#include "augment/augment.h"

#include <math.h>
#include <string.h>

enum { OPS, MAGNITUDE };
#define MOST 30
static const struct wasd_field options[] = {
	[OPS] = {"ops", WASD_INT, "2", 0, 8, .summary = "operations per image"},
	[MAGNITUDE] = {"magnitude", WASD_INT, "9", 0, MOST, .summary = "strength of all operations"},
	{0},
};

/* ---- where things are ------------------------------------------------------------------------------------------ */

/* The pixel at the offset (x,y) from the centre comes from (xx x + xy y + x0, yx x + yy y + y0), the nearest one. */
struct affine {
	double xx, xy, x0, yx, yy, y0;
};

static void move(struct augment_image *im, struct affine a)
{
	int h = im->shape.h, w = im->shape.w;
	double cy = (h - 1) / 2.0, cx = (w - 1) / 2.0;
	memcpy(im->spare, im->px, wasd_shape_count(im->shape));
	for (int i = 0; i < h; i++)
		for (int j = 0; j < w; j++) {
			double x = j - cx, y = i - cy, fx = floor(a.xx * x + a.xy * y + a.x0 + cx + 0.5),
				   fy = floor(a.yx * x + a.yy * y + a.y0 + cy + 0.5);
			bool inside = fx >= 0 && fx < w && fy >= 0 && fy < h;
			size_t from = inside ? (size_t)fy * (size_t)w + (size_t)fx : 0;
			for (int c = 0; c < im->shape.c; c++)
				im->px[(c * h + i) * w + j] = inside ? im->spare[(size_t)(c * h * w) + from] : im->mean[c];
		}
}

static void rotate(struct augment_image *im, double m)
{
	double angle = m * 30 * 3.14159265358979323846 / 180, s = sin(angle), c = cos(angle);
	move(im, (struct affine){c, s, 0, -s, c, 0});
}

static void shear_x(struct augment_image *im, double m)
{
	move(im, (struct affine){1, 0.3 * m, 0, 0, 1, 0});
}

static void shear_y(struct augment_image *im, double m)
{
	move(im, (struct affine){1, 0, 0, 0.3 * m, 1, 0});
}

static void translate_x(struct augment_image *im, double m)
{
	move(im, (struct affine){1, 0, trunc(m * 150 / 331 * im->shape.w), 0, 1, 0});
}

static void translate_y(struct augment_image *im, double m)
{
	move(im, (struct affine){1, 0, 0, 0, 1, trunc(m * 150 / 331 * im->shape.h)});
}

/* ---- what they look like --------------------------------------------------------------------------------------- */

static void identity(struct augment_image *im, double m)
{
	(void)im, (void)m;
}

static void brightness(struct augment_image *im, double m)
{
	pixels_brightness(im, 1 + 0.9 * m);
}

static void saturation(struct augment_image *im, double m)
{
	pixels_saturation(im, 1 + 0.9 * m);
}

static void contrast(struct augment_image *im, double m)
{
	pixels_contrast(im, 1 + 0.9 * m);
}

static void sharpness(struct augment_image *im, double m)
{
	pixels_sharpness(im, 1 + 0.9 * m);
}

static void posterize(struct augment_image *im, double m)
{
	pixels_posterize(im, 8 - floor(4 * m + 0.5));
}

static void solarize(struct augment_image *im, double m)
{
	pixels_solarize(im, 256 - 256 * m);
}

static const struct {
	void (*change)(struct augment_image *im, double m);
	bool both_ways; /* m is negative in half of the cases */
} ops[] = {
	{identity, false},
	{shear_x, true},
	{shear_y, true},
	{translate_x, true},
	{translate_y, true},
	{rotate, true},
	{brightness, true},
	{saturation, true},
	{contrast, true},
	{sharpness, true},
	{posterize, false},
	{solarize, false},
	{pixels_autocontrast, false},
	{pixels_equalize, false},
};

static void randaugment(const double *o, struct wasd_rng *r, struct augment_image *im)
{
	for (int i = 0; i < (int)o[OPS]; i++) {
		uint32_t k = wasd_rng_below(r, sizeof ops / sizeof *ops);
		bool minus = wasd_rng_u64(r) >> 63;
		double m = o[MAGNITUDE] / MOST;
		ops[k].change(im, minus && ops[k].both_ways ? -m : m);
	}
}

const struct augment_kind augment_randaugment = {
	.name = "randaugment",
	.summary = "a few operations on place and colour at random",
	.options = options,
	.image = randaugment,
};
