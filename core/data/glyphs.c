/* glyphs.c - the synthetic set "glyphs": digits drawn as strokes and distorted, on a cluttered and noisy background,
 * 32x32x3.
 *
 * A digit is a few lines and elliptic arcs in a unit box (x right, y down), in two to four styles. An image is drawn
 * from back to front: a two-colour gradient, clutter strokes, the digit under a random affine map and a bend, more
 * clutter, noise. A stroke of thickness t covers a pixel at distance d from its centre line by clamp(t/2 + 1/2 - d, 0,
 * 1): antialiasing without supersampling.
 *
 * Only + - * / and sqrt are used (angles come from a table and from the half-angle form of the rotation). All of them
 * are exactly rounded, so a seed gives the same bytes on every machine. */
#include "data/synthetic.h"

#include <string.h>

enum { SIDE = 32, TURN = 24, STYLES = 4, STROKES = 8, SEGMENTS = 128 };

/* from == to: the line (a,b)-(c,d). Otherwise the arc of the ellipse with centre (a,b) and radii (c,d), from step
 * `from` to step `to`. A step is 15 degrees; step 0 points right and step 6 points down. */
struct stroke {
	float a, b, c, d;
	signed char from, to;
};
struct style {
	int n;
	struct stroke s[STROKES];
};

/* clang-format off */
#define LINE(x0, y0, x1, y1) { x0, y0, x1, y1, 0, 0 }
#define ARC(cx, cy, rx, ry, from, to) { cx, cy, rx, ry, from, to }
/* clang-format on */
#define OVAL(cx, cy, rx, ry) ARC(cx, cy, rx, ry, 0, TURN)

static const struct style digits[10][STYLES] = {
	{{1, {OVAL(.5f, .5f, .5f, .5f)}},
     {2, {OVAL(.5f, .5f, .5f, .5f), LINE(.8f, .2f, .2f, .8f)}},
     {4, {LINE(0, 0, 1, 0), LINE(1, 0, 1, 1), LINE(1, 1, 0, 1), LINE(0, 1, 0, 0)}}},
	{{1, {LINE(.5f, 0, .5f, 1)}},
     {2, {LINE(.15f, .25f, .55f, 0), LINE(.55f, 0, .55f, 1)}},
     {3, {LINE(.2f, .2f, .55f, 0), LINE(.55f, 0, .55f, 1), LINE(.2f, 1, .9f, 1)}}},
	{{3, {ARC(.5f, .28f, .45f, .28f, 13, 26), LINE(.89f, .42f, 0, 1), LINE(0, 1, 1, 1)}},
     {3, {ARC(.5f, .3f, .45f, .3f, 14, 28), LINE(.725f, .56f, .05f, 1), LINE(.05f, 1, .95f, .95f)}},
     {5, {LINE(0, 0, 1, 0), LINE(1, 0, 1, .5f), LINE(1, .5f, 0, .5f), LINE(0, .5f, 0, 1), LINE(0, 1, 1, 1)}}},
	{{2, {ARC(.45f, .25f, .45f, .25f, 14, 30), ARC(.45f, .75f, .5f, .25f, 18, 34)}},
     {3, {LINE(.05f, 0, .95f, 0), LINE(.95f, 0, .42f, .4f), ARC(.42f, .7f, .54f, .3f, 18, 34)}},
     {4, {LINE(0, 0, 1, 0), LINE(1, 0, 1, 1), LINE(1, 1, 0, 1), LINE(.2f, .5f, 1, .5f)}}},
	{{3, {LINE(.7f, 0, 0, .68f), LINE(0, .68f, 1, .68f), LINE(.7f, 0, .7f, 1)}},
     {3, {LINE(.1f, 0, .05f, .55f), LINE(.05f, .55f, 1, .55f), LINE(.8f, .1f, .8f, 1)}},
     {3, {LINE(.35f, 0, 0, .6f), LINE(0, .6f, .95f, .6f), LINE(.65f, .3f, .6f, 1)}}},
	{{3, {LINE(.9f, 0, .15f, 0), LINE(.15f, 0, .1f, .45f), ARC(.45f, .68f, .5f, .32f, 15, 34)}},
     {3, {LINE(1, .05f, .25f, 0), LINE(.25f, 0, .05f, .5f), ARC(.4f, .7f, .52f, .3f, 15, 33)}},
     {5, {LINE(1, 0, 0, 0), LINE(0, 0, 0, .5f), LINE(0, .5f, 1, .5f), LINE(1, .5f, 1, 1), LINE(1, 1, 0, 1)}}},
	{{2, {OVAL(.5f, .7f, .48f, .3f), ARC(.9f, .7f, .88f, .7f, 12, 17)}},
     {2, {OVAL(.5f, .68f, .45f, .32f), LINE(.7f, 0, .09f, .58f)}},
     {5, {LINE(1, 0, 0, 0), LINE(0, 0, 0, 1), LINE(0, 1, 1, 1), LINE(1, 1, 1, .5f), LINE(1, .5f, 0, .5f)}}},
	{{2, {LINE(0, 0, 1, 0), LINE(1, 0, .35f, 1)}},
     {3, {LINE(0, 0, 1, 0), LINE(1, 0, .35f, 1), LINE(.3f, .5f, .95f, .5f)}},
     {3, {LINE(0, 0, 1, 0), LINE(0, 0, 0, .2f), LINE(1, 0, .6f, 1)}}},
	{{2, {OVAL(.5f, .25f, .4f, .25f), OVAL(.5f, .75f, .5f, .25f)}},
     {2, {OVAL(.5f, .22f, .45f, .22f), OVAL(.5f, .72f, .45f, .28f)}},
     {5, {LINE(0, 0, 1, 0), LINE(1, 0, 1, 1), LINE(1, 1, 0, 1), LINE(0, 1, 0, 0), LINE(0, .5f, 1, .5f)}}},
	{{2, {OVAL(.5f, .3f, .48f, .3f), ARC(.1f, .3f, .88f, .7f, 0, 5)}},
     {2, {OVAL(.48f, .3f, .45f, .3f), LINE(.93f, .3f, .75f, 1)}},
     {5, {LINE(0, 1, 1, 1), LINE(1, 1, 1, 0), LINE(1, 0, 0, 0), LINE(0, 0, 0, .5f), LINE(0, .5f, 1, .5f)}}},
};

/* cos of i * 15 degrees. */
static float cos_step(int i)
{
	static const float quarter[7] = {1, .9659258f, .8660254f, .70710678f, .5f, .25881905f, 0};
	i = (i % TURN + TURN) % TURN;
	if (i > 12)
		i = TURN - i;
	return i <= 6 ? quarter[i] : -quarter[12 - i];
}

static float sin_step(int i)
{
	return cos_step(i - 6);
}

struct point {
	float x, y;
};
struct segment {
	struct point p, q;
};
struct path {
	int n;
	struct segment s[SEGMENTS];
};

static void path_stroke(struct path *path, const struct stroke *s)
{
	if (s->from == s->to) {
		path->s[path->n++] = (struct segment){{s->a, s->b}, {s->c, s->d}};
		return;
	}
	for (int i = s->from; i < s->to; i++)
		path->s[path->n++] = (struct segment){{s->a + s->c * cos_step(i), s->b + s->d * sin_step(i)},
		                                      {s->a + s->c * cos_step(i + 1), s->b + s->d * sin_step(i + 1)}};
}

/* Maps the unit box to pixels: bends the vertical axis, then applies an affine map. */
struct map {
	float xx, xy, yx, yy, x, y, bend;
};

static struct point map_point(const struct map *m, struct point p)
{
	float v = p.y - .5f, u = p.x - .5f + m->bend * (v * v - .125f);
	return (struct point){m->xx * u + m->xy * v + m->x, m->yx * u + m->yy * v + m->y};
}

static float between(struct wasd_rng *r, double lo, double hi)
{
	return (float)wasd_rng_between(r, lo, hi);
}

/* Shear, aspect and scale, then rotation by up to +-20 degrees (t = tan of half the angle: cos = (1-t^2)/(1+t^2), sin =
 * 2t/(1+t^2)). */
static struct map random_map(struct wasd_rng *r)
{
	float height = between(r, 16, 25), width = height * between(r, .45, .85), shear = between(r, -.25, .25);
	float t = between(r, -.176, .176), c = (1 - t * t) / (1 + t * t), s = 2 * t / (1 + t * t);
	float slack = (SIDE - height) * .5f, x = SIDE * .5f + between(r, -5, 5), y = SIDE * .5f + between(r, -slack, slack);
	float bend = between(r, -.35, .35);
	return (struct map){c * width, (c * shear - s) * height, s * width, (s * shear + c) * height, x, y, bend};
}

static float clamp(float v, float lo, float hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* Distance of (x,y) from a segment. */
static float distance(const struct segment *s, float x, float y)
{
	float dx = s->q.x - s->p.x, dy = s->q.y - s->p.y, px = x - s->p.x, py = y - s->p.y, len2 = dx * dx + dy * dy;
	float t = len2 > 0 ? clamp((px * dx + py * dy) / len2, 0, 1) : 0;
	float ex = px - t * dx, ey = py - t * dy;
	return __builtin_sqrtf(ex * ex + ey * ey);
}

struct colour {
	float c[3];
};
typedef struct colour canvas[SIDE][SIDE];

static void paint(canvas img, const struct path *path, float thickness, struct colour ink, float opacity)
{
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++) {
			float d = 1e9f;
			for (int i = 0; i < path->n; i++) {
				float e = distance(&path->s[i], (float)x + .5f, (float)y + .5f);
				d = e < d ? e : d;
			}
			float cover = opacity * clamp(thickness * .5f + .5f - d, 0, 1);
			for (int c = 0; c < 3; c++)
				img[y][x].c[c] += cover * (ink.c[c] - img[y][x].c[c]);
		}
}

static struct colour random_colour(struct wasd_rng *r, double lo, double hi)
{
	struct colour a;
	for (int c = 0; c < 3; c++) /* a loop, not an initialiser: the order of draws must be fixed */
		a.c[c] = between(r, lo, hi);
	return a;
}

static float luma(struct colour a)
{
	return .299f * a.c[0] + .587f * a.c[1] + .114f * a.c[2];
}

/* Blends two colours across the image in a random direction; dark colours three times out of four, else light ones.
 * Returns the mean luma. */
static float ground(struct wasd_rng *r, canvas img)
{
	double lo = wasd_rng_below(r, 4) ? 0 : 115, hi = lo + 140;
	struct colour a = random_colour(r, lo, hi), b = random_colour(r, lo, hi);
	for (int c = 0; c < 3; c++)
		b.c[c] = a.c[c] + .6f * (b.c[c] - a.c[c]);
	float gx = between(r, -1, 1), gy = between(r, -1, 1);
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++) {
			float t = clamp(.5f + (gx * ((float)x - 15.5f) + gy * ((float)y - 15.5f)) / 31, 0, 1);
			for (int c = 0; c < 3; c++)
				img[y][x].c[c] = a.c[c] + t * (b.c[c] - a.c[c]);
		}
	return .5f * (luma(a) + luma(b));
}

/* Returns a colour whose luma differs from the background's by at least 80. One of the two extremes is always far
 * enough away. */
static struct colour contrasting(struct wasd_rng *r, float ground_luma)
{
	for (int i = 0; i < 20; i++) {
		struct colour a = random_colour(r, 0, 255);
		float d = luma(a) - ground_luma;
		if (d > 80 || d < -80)
			return a;
	}
	float v = ground_luma < 128 ? 240 : 15;
	return (struct colour){{v, v, v}};
}

/* Draws n short lines and arcs anywhere, thinner and more transparent than a digit. */
static void clutter(struct wasd_rng *r, canvas img, int n)
{
	while (n-- > 0) {
		struct path path = {0};
		struct stroke s = {0};
		s.a = between(r, 0, SIDE), s.b = between(r, 0, SIDE);
		if (wasd_rng_below(r, 2)) {
			s.c = between(r, 2, 8), s.d = between(r, 2, 8);
			s.from = (signed char)wasd_rng_below(r, TURN);
			s.to = (signed char)(s.from + 4 + (int)wasd_rng_below(r, 8));
		} else
			s.c = s.a + between(r, -11, 11), s.d = s.b + between(r, -11, 11);
		path_stroke(&path, &s);
		float thickness = between(r, .6, 1.6), opacity = between(r, .3, .9);
		paint(img, &path, thickness, random_colour(r, 0, 255), opacity);
	}
}

static void glyphs_render(struct wasd_rng *r, int label, uint8_t *chw)
{
	canvas img;
	struct path path = {0};
	uint32_t styles = 0;
	float ground_luma = ground(r, img);
	clutter(r, img, 1 + (int)wasd_rng_below(r, 3));

	while (styles < STYLES && digits[label][styles].n)
		styles++;
	const struct style *style = &digits[label][wasd_rng_below(r, styles)];
	struct map m = random_map(r);
	for (int i = 0; i < style->n; i++)
		path_stroke(&path, &style->s[i]);
	for (int i = 0; i < path.n; i++)
		path.s[i] = (struct segment){map_point(&m, path.s[i].p), map_point(&m, path.s[i].q)};
	float thickness = between(r, 1.3, 3.2);
	paint(img, &path, thickness, contrasting(r, ground_luma), 1);
	clutter(r, img, (int)wasd_rng_below(r, 3));

	/* Noise: the sum of two uniform variables, i.e. a triangular distribution with the given half width. */
	float noise = between(r, 5, 40);
	for (int c = 0; c < 3; c++)
		for (int y = 0; y < SIDE; y++)
			for (int x = 0; x < SIDE; x++) {
				uint64_t u = wasd_rng_u64(r);
				float e = ((float)(u >> 40) + (float)(u & 0xffffff)) / 16777216.0f - 1;
				*chw++ = (uint8_t)clamp(img[y][x].c[c] + noise * e + .5f, 0, 255);
			}
}

static const char *const names[10] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

const struct synthetic synthetic_glyphs = {
	.name = "glyphs",
	.shape = {3, SIDE, SIDE},
	.n_classes = 10,
	.classes = names,
	.render = glyphs_render,
};
