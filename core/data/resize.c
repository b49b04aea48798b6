/* resize.c - bilinear resampling with antialiasing, one axis after the other.
 *
 * Output sample i has its centre at (i + 1/2) * n/m - 1/2 of the input (pixel centres at integers, corners not
 * aligned). Its weights form a triangle of half width max(n/m, 1) around that, cut at the borders and scaled to sum 1.
 * That interpolates between two neighbours when enlarging, and averages everything that falls into the new pixel when
 * shrinking. */
#include "data/image.h"

#include <math.h>

/* For each output sample: the first input sample, their number, and their weights at weight[i * most]. */
struct taps {
	int most;
	int *first, *count;
	float *weight;
};

static void taps_done(struct taps *t)
{
	wasd_free(t->first);
	wasd_free(t->count);
	wasd_free(t->weight);
}

/* Computes m samples over the range of length `len` that starts at `from`, out of n input samples. */
static bool taps_init(struct taps *t, int n, double from, double len, int m)
{
	double scale = len / m, half = scale > 1 ? scale : 1;
	size_t weights;
	t->most = (int)ceil(half) * 2 + 1;
	t->first = wasd_calloc((size_t)m, sizeof *t->first);
	t->count = wasd_calloc((size_t)m, sizeof *t->count);
	t->weight = wasd_mul_size((size_t)m, (size_t)t->most, &weights) ? wasd_calloc(weights, sizeof *t->weight) : NULL;
	if (!t->first || !t->count || !t->weight)
		return false;
	for (int i = 0; i < m; i++) {
		double centre = from + (i + 0.5) * scale - 0.5, sum = 0;
		int lo = (int)ceil(centre - half), hi = (int)floor(centre + half);
		lo = lo < 0 ? 0 : lo;
		hi = hi > n - 1 ? n - 1 : hi;
		float *w = t->weight + (size_t)i * (size_t)t->most;
		for (int k = lo; k <= hi; k++)
			sum += 1 - fabs(k - centre) / half;
		for (int k = lo; k <= hi; k++)
			w[k - lo] = (float)((1 - fabs(k - centre) / half) / sum);
		t->first[i] = lo;
		t->count[i] = hi - lo + 1;
	}
	return true;
}

struct window {
	double x, y, w, h;
};

static enum wasd_status resample(const uint8_t *chw, int c, int h, int w, const struct window *part, int oh, int ow,
                                 uint8_t *out, struct wasd_err *err)
{
	struct taps tx = {0}, ty = {0};
	size_t n;
	float *mid = wasd_mul_size((size_t)h, (size_t)ow, &n) ? wasd_calloc(n, sizeof *mid) :
	                                                        NULL; /* (h,ow) of one channel */
	enum wasd_status s = WASD_OK;
	if (!mid || !taps_init(&tx, w, part->x, part->w, ow) || !taps_init(&ty, h, part->y, part->h, oh)) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory to resize %dx%d to %dx%d", w, h, ow, oh);
		goto done;
	}
	for (int k = 0; k < c; k++) {
		const uint8_t *src = chw + (size_t)k * (size_t)h * (size_t)w;
		uint8_t *dst = out + (size_t)k * (size_t)oh * (size_t)ow;
		for (int y = 0; y < h; y++)
			for (int x = 0; x < ow; x++) {
				const uint8_t *p = src + (size_t)y * (size_t)w + tx.first[x];
				const float *f = tx.weight + (size_t)x * (size_t)tx.most;
				float v = 0;
				for (int i = 0; i < tx.count[x]; i++)
					v += f[i] * p[i];
				mid[(size_t)y * (size_t)ow + (size_t)x] = v;
			}
		for (int y = 0; y < oh; y++)
			for (int x = 0; x < ow; x++) {
				const float *f = ty.weight + (size_t)y * (size_t)ty.most;
				float v = 0.5f;
				for (int i = 0; i < ty.count[y]; i++)
					v += f[i] * mid[(size_t)(ty.first[y] + i) * (size_t)ow + (size_t)x];
				dst[(size_t)y * (size_t)ow + (size_t)x] = (uint8_t)(v > 255 ? 255 : v);
			}
	}
done:
	taps_done(&tx);
	taps_done(&ty);
	wasd_free(mid);
	return s;
}

enum wasd_status image_resize(const uint8_t *chw, int c, int h, int w, int oh, int ow, uint8_t *out,
                              struct wasd_err *err)
{
	return resample(chw, c, h, w, &(struct window){0, 0, w, h}, oh, ow, out, err);
}

int image_crops(int h, int w, int oh, int ow)
{
	int64_t wider = (int64_t)w * oh - (int64_t)h * ow; /* oh times the columns outside a crop, or -ow times the rows */
	return wider > oh || -wider > ow ? WASD_CROPS_MAX : 1;
}

enum wasd_status image_crop(const uint8_t *chw, int c, int h, int w, enum crop_at at, int oh, int ow, uint8_t *out,
                            struct wasd_err *err)
{
	struct window part = {0, 0, w, h};
	if ((int64_t)w * oh > (int64_t)h * ow)
		part.w = (double)h * ow / oh;
	else
		part.h = (double)w * oh / ow;
	part.x = (w - part.w) * at / CROP_END;
	part.y = (h - part.h) * at / CROP_END;
	return resample(chw, c, h, w, &part, oh, ow, out, err);
}

enum wasd_status image_fit(const uint8_t *chw, int c, int h, int w, enum wasd_fit fit, int oh, int ow, uint8_t *out,
                           struct wasd_err *err)
{
	return fit == WASD_SQUEEZE ? image_resize(chw, c, h, w, oh, ow, out, err) :
	                             image_crop(chw, c, h, w, CROP_CENTRE, oh, ow, out, err);
}
