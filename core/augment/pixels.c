/* augment/pixels.c - colour operations on one image, by the formulas of torchvision.transforms.functional for uint8. */
#include "augment/augment.h"

#include <math.h>
#include <string.h>

#define RED 0.2989
#define GREEN 0.587
#define BLUE 0.114

uint8_t pixels_blend(double a, double b, double factor)
{
	double v = factor * a + (1 - factor) * b;
	return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

/* Every value v of n pixels becomes to[v]. */
static void map(uint8_t *p, size_t n, const uint8_t to[256])
{
	for (size_t i = 0; i < n; i++)
		p[i] = to[p[i]];
}

/* Every value becomes its blend with `other`. */
static void map_blend(uint8_t *p, size_t n, double other, double factor)
{
	uint8_t to[256];
	for (int v = 0; v < 256; v++)
		to[v] = pixels_blend(v, other, factor);
	map(p, n, to);
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
	map_blend(x->px, wasd_shape_count(x->shape), 0, factor);
}

void pixels_contrast(struct augment_image *x, double factor)
{
	bool colour = x->shape.c == 3;
	size_t all = wasd_shape_count(x->shape), n = colour ? plane(x) : all;
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += colour ? grey(x, i) : x->px[i];
	map_blend(x->px, all, (double)sum / (double)n, factor);
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

/* The inner pixels blended with the mean of their neighbourhood, in which they count five times. */
void pixels_sharpness(struct augment_image *x, double factor)
{
	int h = x->shape.h, w = x->shape.w;
	memcpy(x->spare, x->px, wasd_shape_count(x->shape));
	for (int c = 0; c < x->shape.c; c++)
		for (int i = 1; i < h - 1; i++)
			for (int j = 1; j < w - 1; j++) {
				const uint8_t *p = x->spare + (c * h + i) * w + j;
				int sum = 4 * p[0];
				for (int dy = -w; dy <= w; dy += w)
					sum += p[dy - 1] + p[dy] + p[dy + 1];
				x->px[(c * h + i) * w + j] = pixels_blend(p[0], floor(sum / 13.0 + 0.5), factor);
			}
}

void pixels_posterize(struct augment_image *x, double bits)
{
	uint8_t mask = (uint8_t)(0xFF00 >> (int)bits);
	for (size_t i = 0, n = wasd_shape_count(x->shape); i < n; i++)
		x->px[i] &= mask;
}

void pixels_solarize(struct augment_image *x, double threshold)
{
	uint8_t to[256];
	for (int v = 0; v < 256; v++)
		to[v] = (uint8_t)(v >= threshold ? 255 - v : v);
	map(x->px, wasd_shape_count(x->shape), to);
}

void pixels_autocontrast(struct augment_image *x, double unused)
{
	size_t n = plane(x);
	(void)unused;
	for (int c = 0; c < x->shape.c; c++) {
		uint8_t *p = x->px + (size_t)c * n, to[256], least = 255, most = 0;
		for (size_t i = 0; i < n; i++) {
			least = p[i] < least ? p[i] : least;
			most = p[i] > most ? p[i] : most;
		}
		if (most == least)
			continue;
		for (int v = 0; v < 256; v++)
			to[v] = pixels_blend((v - least) * (255.0 / (most - least)), 0, 1);
		map(p, n, to);
	}
}

/* Every channel's values spread so that all are about equally frequent. */
void pixels_equalize(struct augment_image *x, double unused)
{
	size_t n = plane(x);
	(void)unused;
	for (int c = 0; c < x->shape.c; c++) {
		uint8_t *p = x->px + (size_t)c * n, to[256];
		size_t count[256] = {0}, sum = 0, step;
		int last = 0;
		for (size_t i = 0; i < n; i++)
			count[p[i]]++;
		for (int v = 0; v < 256; v++)
			last = count[v] ? v : last;
		if (!(step = (n - count[last]) / 255))
			continue;
		for (int v = 0; v < 256; sum += count[v++]) {
			size_t put = (sum + step / 2) / step;
			to[v] = put > 255 ? 255 : (uint8_t)put;
		}
		map(p, n, to);
	}
}
