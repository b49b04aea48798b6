/* augment/pixels.c - colour operations on one image, by the formulas of torchvision.transforms.functional for uint8. */
#include "augment/augment.h"

#include <math.h>

#define RED 0.2989
#define GREEN 0.587
#define BLUE 0.114

uint8_t pixels_blend(double a, double b, double factor)
{
	double v = factor * a + (1 - factor) * b;
	return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

static size_t plane(const struct augment_image *x)
{
	return (size_t)x->shape.h * (size_t)x->shape.w;
}

/* The grey value of pixel i of a colour image. */
static uint8_t grey(const struct augment_image *x, size_t i)
{
	size_t n = plane(x);
	return (uint8_t)(RED * x->px[i] + GREEN * x->px[n + i] + BLUE * x->px[2 * n + i]);
}

void pixels_brightness(struct augment_image *x, double factor)
{
	for (size_t i = 0, n = wasd_shape_count(x->shape); i < n; i++)
		x->px[i] = pixels_blend(x->px[i], 0, factor);
}

void pixels_contrast(struct augment_image *x, double factor)
{
	bool colour = x->shape.c == 3;
	size_t all = wasd_shape_count(x->shape), n = colour ? plane(x) : all;
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += colour ? grey(x, i) : x->px[i];
	double mean = (double)sum / (double)n;
	for (size_t i = 0; i < all; i++)
		x->px[i] = pixels_blend(x->px[i], mean, factor);
}

void pixels_saturation(struct augment_image *x, double factor)
{
	size_t n = plane(x);
	for (size_t i = 0; x->shape.c == 3 && i < n; i++) {
		double g = grey(x, i);
		for (int c = 0; c < 3; c++)
			x->px[(size_t)c * n + i] = pixels_blend(x->px[(size_t)c * n + i], g, factor);
	}
}

/* Red, green and blue of 0 to 1 -> hue, saturation and value of 0 to 1. */
static void to_hsv(const double rgb[3], double hsv[3])
{
	double r = rgb[0], g = rgb[1], b = rgb[2], most = fmax(r, fmax(g, b)), least = fmin(r, fmin(g, b)),
		   range = most - least, sector;
	if (range == 0)
		sector = 0;
	else if (most == r)
		sector = (g - b) / range;
	else if (most == g)
		sector = 2 + (b - r) / range;
	else
		sector = 4 + (r - g) / range;
	hsv[0] = fmod(sector / 6 + 1, 1);
	hsv[1] = range == 0 ? 0 : range / most;
	hsv[2] = most;
}

static void from_hsv(const double hsv[3], double rgb[3])
{
	int sector = (int)floor(hsv[0] * 6);
	double f = hsv[0] * 6 - sector, v = hsv[2], s = hsv[1], p = v * (1 - s), q = v * (1 - s * f),
		   t = v * (1 - s * (1 - f));
	const double sectors[6][3] = {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}};
	for (int c = 0; c < 3; c++)
		rgb[c] = sectors[sector % 6][c];
}

void pixels_hue(struct augment_image *x, double turn)
{
	size_t n = plane(x);
	for (size_t i = 0; x->shape.c == 3 && i < n; i++) {
		double rgb[3], hsv[3];
		for (size_t c = 0; c < 3; c++)
			rgb[c] = x->px[c * n + i] / 255.0;
		to_hsv(rgb, hsv);
		hsv[0] = fmod(hsv[0] + turn + 1, 1);
		from_hsv(hsv, rgb);
		for (size_t c = 0; c < 3; c++)
			x->px[c * n + i] = pixels_blend(rgb[c] * 255.999, 0, 1);
	}
}
