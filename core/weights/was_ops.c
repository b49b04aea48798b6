/* core/weights/was_ops.c - the spatial transforms of a k x k kernel, each as the k*k x k*k matrix T of
 * web/docs/was.md#transforms: SW[out] = sum over in of T[out][in] PW[in], with tap index y*k+x.
 *
 * Coordinates: x right, y down, centre (c,c) with c = (k-1)/2, pixel centres at integers.
 */
#include <math.h>
#include <string.h>

#include "wasd/weights.h"

#define RAD (3.14159265358979323846 / 180)
#define MAX_SHIFT 64.0 /* beyond any kernel side: larger shifts also give an empty kernel */

/* ---- affine family: nearest sampling, zero fill --------------------------------------------- */

struct affine {
	double angle, dx, dy, scale, sx, sy;
}; /* angles in degrees */

/* T(W)[y,x] = W[rint(u_y), rint(u_x)],  u = A^-1 ((x,y) - (c,c) - (dx,dy)) + (c,c),
 * A = s R(t) [1 0; -tan(sy) 1] [1 -tan(sx); 0 1], so A^-1 = 1/s [1 tan(sx); 0 1] [1 0; tan(sy) 1] R(-t). */
static void affine_matrix(struct wasd_transform *t, struct affine a)
{
	int k = t->k, kk = k * k;
	double c = (k - 1) / 2.0, cs = cos(a.angle * RAD), sn = sin(a.angle * RAD), tx = tan(a.sx * RAD),
		   ty = tan(a.sy * RAD);
	for (int y = 0; y < k; y++)
		for (int x = 0; x < k; x++) {
			double px = x - c - a.dx, py = y - c - a.dy;
			double rx = cs * px + sn * py, ry = -sn * px + cs * py; /* R(-t) */
			ry += ty * rx;
			rx += tx * ry;
			double ux = rint(rx / a.scale + c), uy = rint(ry / a.scale + c);
			if (ux >= 0 && ux < k && uy >= 0 && uy < k)
				t->T[(y * k + x) * kk + (int)uy * k + (int)ux] = 1;
		}
}

static void identity_matrix(struct wasd_transform *t)
{
	affine_matrix(t, (struct affine){.scale = 1});
}
static void translate_matrix(struct wasd_transform *t)
{
	affine_matrix(t, (struct affine){.dx = t->p[0], .dy = t->p[1], .scale = 1});
}
static void scale_matrix(struct wasd_transform *t)
{
	affine_matrix(t, (struct affine){.scale = t->p[0]});
}
static void shear_matrix(struct wasd_transform *t)
{
	affine_matrix(t, (struct affine){.scale = 1, .sx = t->p[0], .sy = t->p[1]});
}
static void rotate_matrix(struct wasd_transform *t)
{
	affine_matrix(t, (struct affine){.angle = -t->p[0], .scale = 1});
} /* R(-t) */

static void general_matrix(struct wasd_transform *t)
{
	affine_matrix(t, (struct affine){t->p[0], t->p[1], t->p[2], t->p[3], t->p[4], t->p[5]});
}

/* Independent shifts round(U(-t k, t k)), x before y. */
static bool translate_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	for (int axis = 0; axis < 2; axis++)
		p[axis] = rint(wasd_rng_between(r, -law[axis] * k, law[axis] * k));
	return true;
}

/* s ~ U(lo, hi). */
static bool scale_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	(void)k;
	p[0] = wasd_rng_between(r, law[0], law[1]);
	return true;
}

/* sx ~ U(lo, hi) degrees; sy = 0. */
static bool shear_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	(void)k;
	p[0] = wasd_rng_between(r, law[0], law[1]);
	p[1] = 0;
	return true;
}

/* t ~ U(-degrees, degrees). */
static bool rotate_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	(void)k;
	p[0] = wasd_rng_between(r, -law[0], law[0]);
	return true;
}

/* ---- crop and resize --------------------------------------------------------------------------- */

/* Bilinear resize of n samples from offset off to k samples, corners not aligned. Row o of R(off,n) (k x k):
 * s = max((o+0.5) n/k - 0.5, 0), q = floor(s), f = s-q:  R[off+q] += 1-f, R[off+min(q+1,n-1)] += f. */
static void resize_row(int k, int off, int n, int o, double *row)
{
	double s = fmax((o + 0.5) * n / k - 0.5, 0), f = s - floor(s);
	int q = (int)floor(s), next = q + 1 < n ? q + 1 : n - 1;
	row[off + q] += 1 - f;
	row[off + next] += f;
}

/* T = R(i,h) (x) R(j,w). */
static void crop_matrix(struct wasd_transform *t)
{
	int k = t->k, kk = k * k, i = (int)t->p[0], j = (int)t->p[1], h = (int)t->p[2], w = (int)t->p[3];
	for (int y = 0; y < k; y++)
		for (int x = 0; x < k; x++) {
			double ry[WASD_K_MAX] = {0}, rx[WASD_K_MAX] = {0};
			resize_row(k, i, h, y, ry);
			resize_row(k, j, w, x, rx);
			double *row = t->T + (y * k + x) * kk;
			for (int a = 0; a < k; a++)
				for (int b = 0; b < k; b++)
					row[a * k + b] = ry[a] * rx[b];
		}
}

static int crop_check(int k, const double *p)
{
	if (p[2] > k)
		return 2;
	if (p[3] > k)
		return 3;
	if (p[0] > k - p[2])
		return 0;
	if (p[1] > k - p[3])
		return 1;
	return -1;
}

/* Tries up to ten times to draw an area k*k U(lo,hi) and an aspect exp(U(log lo, log hi)) that fit; else takes the
 * whole kernel. law: scale, ratio. */
static bool crop_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	p[0] = p[1] = 0;
	p[2] = p[3] = k;
	for (int try = 0; try < 10; try++) {
		double area = k * k * wasd_rng_between(r, law[0], law[1]);
		double aspect = exp(wasd_rng_between(r, log(law[2]), log(law[3])));
		double w = rint(sqrt(area * aspect)), h = rint(sqrt(area / aspect));
		if (w < 1 || w > k || h < 1 || h > k)
			continue;
		p[0] = wasd_rng_below(r, (uint32_t)(k - h + 1));
		p[1] = wasd_rng_below(r, (uint32_t)(k - w + 1));
		p[2] = h;
		p[3] = w;
		break;
	}
	return true;
}

/* ---- flips ---------------------------------------------------------------------------------------- */

static void hflip_matrix(struct wasd_transform *t)
{
	int k = t->k, kk = k * k;
	for (int y = 0; y < k; y++)
		for (int x = 0; x < k; x++)
			t->T[(y * k + x) * kk + y * k + k - 1 - x] = 1;
}

static void vflip_matrix(struct wasd_transform *t)
{
	int k = t->k, kk = k * k;
	for (int y = 0; y < k; y++)
		for (int x = 0; x < k; x++)
			t->T[(y * k + x) * kk + (k - 1 - y) * k + x] = 1;
}

/* Flipped with probability p. */
static bool flip_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	(void)k;
	(void)p;
	return wasd_rng_uniform(r) < law[0];
}

/* ---- the table --------------------------------------------------------------------------------------- */

/* clang-format off */
#define SHIFT(n) { n, WASD_INT, NULL, -MAX_SHIFT, MAX_SHIFT, .required = true }
#define ANGLE(n) { n, WASD_NUM, NULL, -360, 360, .required = true }
#define SCALE { "scale", WASD_NUM, NULL, 1e-3, 1e3, .required = true }
#define FLIP_LAW { "p", WASD_NUM, "0.5", 0, 1, .summary = "how often it is mirrored" }
#define CROP(n, least) { n, WASD_INT, NULL, least, WASD_K_MAX, .required = true }
/* clang-format on */

static const struct wasd_transform_op ops[] = {
	{.name = "identity", .summary = "leaves the kernel unchanged", .matrix = identity_matrix},
	{
		.name = "translate",
		.summary = "shifts by whole taps, filling with zeros",
		.params = {SHIFT("dx"), SHIFT("dy")},
		.matrix = translate_matrix,
		.type = "translate",
		.law = {{"x", WASD_NUM, "0.3", 0, 1, .summary = "share of the width by which it is shifted at most"},
                {"y", WASD_NUM, "0.3", 0, 1, .summary = "share of the height"}},
		.sample = translate_sample,
	},
	{
		.name = "crop_resize",
		.summary = "enlarges a part of the kernel to the full size",
		.check = crop_check,
		.matrix = crop_matrix,
		.params = {CROP("i", 0), CROP("j", 0), CROP("h", 1), CROP("w", 1)},
		.type = "resized_crop",
		.sample = crop_sample,
		.law = {{"scale", WASD_PAIR, "[0.8,1]", 0.01, 1, .summary = "area of the part"},
                {"ratio", WASD_PAIR, "[0.75,1.3333333333333333]", 0.05, 20, .summary = "its width by its height"}},
	},
	{
		.name = "scale",
		.summary = "enlarges about the centre",
		.params = {SCALE},
		.matrix = scale_matrix,
		.type = "scale",
		.law = {{"scale", WASD_PAIR, "[3,3.5]", 0.01, 100, .summary = "factor"}},
		.sample = scale_sample,
	},
	{
		.name = "shear",
		.summary = "shears about the centre",
		.params = {ANGLE("shear_x"), ANGLE("shear_y")},
		.matrix = shear_matrix,
		.type = "shear",
		.law = {{"degrees", WASD_PAIR, "[135,135]", -360, 360, .summary = "angle"}},
		.sample = shear_sample,
	},
	{
		.name = "rotate",
		.summary = "rotates about the centre",
		.params = {ANGLE("angle")},
		.matrix = rotate_matrix,
		.type = "rotate",
		.law = {{"degrees", WASD_NUM, "90", 0, 180, .summary = "the largest angle, either way"}},
		.sample = rotate_sample,
	},
	{
		.name = "affine",
		.summary = "rotates, shifts, scales and shears; only in draws given explicitly",
		.matrix = general_matrix,
		.params = {ANGLE("angle"), SHIFT("dx"), SHIFT("dy"), SCALE, ANGLE("shear_x"), ANGLE("shear_y")},
	},
	{.name = "hflip",
     .summary = "mirrors left to right",
     .matrix = hflip_matrix,
     .type = "hflip",
     .law = {FLIP_LAW},
     .sample = flip_sample},
	{.name = "vflip",
     .summary = "mirrors top to bottom",
     .matrix = vflip_matrix,
     .type = "vflip",
     .law = {FLIP_LAW},
     .sample = flip_sample},
};
#define OPS ((int)(sizeof ops / sizeof *ops))

const struct wasd_transform_op *wasd_transform_op_at(int i)
{
	if (i < OPS)
		return i >= 0 ? &ops[i] : NULL;
	for (int k = 0; wasd_transform_op_more && wasd_transform_op_more[k]; k++)
		if (k == i - OPS)
			return wasd_transform_op_more[k];
	return NULL;
}

const struct wasd_transform_op *wasd_transform_op_find(const char *name)
{
	const struct wasd_transform_op *op;
	for (int i = 0; (op = wasd_transform_op_at(i)); i++)
		if (!strcmp(op->name, name))
			return op;
	return NULL;
}

/* Derives identity, copy/from, live and box from T. */
static void derive(struct wasd_transform *t)
{
	int k = t->k, kk = k * k, y0 = k, x0 = k, y1 = -1, x1 = -1;
	t->copy = true;
	t->identity = true;
	for (int o = 0; o < kk; o++) {
		const double *row = t->T + o * kk;
		int entries = 0;
		t->from[o] = -1;
		for (int i = 0; i < kk; i++) {
			if (row[i] == 0)
				continue;
			entries++;
			t->from[o] = (int8_t)i;
			if (row[i] != 1)
				t->copy = false;
		}
		if (entries > 1)
			t->copy = false;
		if (entries != 1 || t->from[o] != o || row[o] != 1)
			t->identity = false;
		if (entries) {
			int y = o / k, x = o % k;
			y0 = y < y0 ? y : y0;
			x0 = x < x0 ? x : x0;
			y1 = y > y1 ? y : y1;
			x1 = x > x1 ? x : x1;
		}
	}
	t->box = y1 >= 0 && (y1 - y0 + 1) * (x1 - x0 + 1) > 1;
	for (int y = y0; y <= y1; y++)
		for (int x = x0; x <= x1; x++)
			t->box = t->box && !memcmp(t->T + (y * k + x) * kk, t->T + (y0 * k + x0) * kk, (size_t)kk * sizeof *t->T);
	t->live = y1 < 0 ? (struct wasd_rect){0, 0, 0, 0} : (struct wasd_rect){y0, x0, y1 - y0 + 1, x1 - x0 + 1};
}

enum wasd_status wasd_transform_make(const char *op, int k, const double *p, struct wasd_transform *t,
                                     struct wasd_err *err)
{
	const struct wasd_transform_op *row = wasd_transform_op_find(op);
	if (!row)
		return wasd_fail(err, WASD_EINVAL, "unknown transform \"%.60s\"", op);
	if (k < 1 || k > WASD_K_MAX)
		return wasd_fail(err, WASD_EINVAL, "%s: kernel side %d is outside 1..%d", op, k, WASD_K_MAX);
	int n = 0;
	for (; row->params[n].name; n++) {
		char range[WASD_FIELD_RANGE];
		if (wasd_field_takes(&row->params[n], p[n]))
			continue;
		wasd_field_range(&row->params[n], range);
		return wasd_fail(err, WASD_EINVAL, "%s: %s = %g is not %s", op, row->params[n].name, p[n], range);
	}
	int bad = row->check ? row->check(k, p) : -1;
	if (bad >= 0)
		return wasd_fail(err, WASD_EINVAL, "%s: %s = %g does not fit a kernel of side %d", op, row->params[bad].name,
		                 p[bad], k);

	t->op = row;
	t->k = k;
	memset(t->p, 0, sizeof t->p);
	for (int i = 0; i < n; i++)
		t->p[i] = p[i];
	memset(t->T, 0, (size_t)(k * k * k * k) * sizeof *t->T);
	row->matrix(t);
	derive(t);
	return WASD_OK;
}
