/* backend/ref.c - the definition: every operation as plain loops over (n,c,y,x), NCHW, single-threaded. The oracle of
 * the tests, and the last row of the table. */
#include "backend/backend.h"

#include <math.h>

static real *at(const struct tensor *t, int n, int c, int y, int x)
{
	return tensor_plane(t, n, c) + y * t->shape.w + x;
}

/* Every (n,c,y,x) of a tensor. */
#define EACH(t, r) \
	for (int n = 0; n < (r)->n; n++) \
		for (int c = 0; c < (t)->shape.c; c++) \
			for (int y = 0; y < (t)->shape.h; y++) \
				for (int x = 0; x < (t)->shape.w; x++)

static void give(struct step *s, int i, int n, int c, int y, int x, real v)
{
	*at(s->dx[i], n, c, y, x) += v;
}

/* Clears the gradients that this step writes first, so that all loops can add. */
static void clear_dx(struct step *s, const struct run *r)
{
	for (int i = 0; i < s->n_in; i++)
		if (s->dx[i] && !s->dx_add[i])
			EACH(s->dx[i], r)
	*at(s->dx[i], n, c, y, x) = 0;
}

static void conv_walk(struct step *s, const struct run *r, bool backward)
{
	const struct node *nd = s->node;
	int ipg = nd->in.c / nd->groups, opg = nd->out / nd->groups;
	const struct tensor *out = backward ? s->dy : s->y;
	EACH(out, r)
	{
		double sum = s->bias ? (double)s->bias[c] : 0;
		real g = backward ? *at(s->dy, n, c, y, x) : 0;
		if (backward && s->dbias)
			s->dbias[c] += g;
		for (int i = 0; i < ipg; i++)
			for (int ky = 0; ky < s->kh; ky++)
				for (int kx = 0; kx < s->kw; kx++) {
					int iy = y * nd->stride - s->pad_top + ky, ix = x * nd->stride - s->pad_left + kx,
						ic = c / opg * ipg + i;
					if (iy < 0 || iy >= nd->in.h || ix < 0 || ix >= nd->in.w)
						continue;
					size_t w = (((size_t)c * (size_t)ipg + (size_t)i) * (size_t)s->kh + (size_t)ky) * (size_t)s->kw +
					           (size_t)kx;
					if (!backward) {
						sum += (double)s->weight[w] * (double)*at(s->x[0], n, ic, iy, ix);
						continue;
					}
					s->dweight[w] += g * *at(s->x[0], n, ic, iy, ix);
					if (s->dx[0])
						give(s, 0, n, ic, iy, ix, g * s->weight[w]);
				}
		if (!backward)
			*at(s->y, n, c, y, x) = (real)sum;
	}
}

static void conv_forward(struct step *s, const struct run *r)
{
	conv_walk(s, r, false);
}
static void conv_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	conv_walk(s, r, true);
}

static void linear_forward(struct step *s, const struct run *r)
{
	EACH(s->y, r)
	{
		double sum = s->bias ? (double)s->bias[c] : 0;
		for (int f = 0; f < s->node->in.c; f++)
			sum += (double)s->weight[(size_t)c * (size_t)s->node->in.c + (size_t)f] * (double)*at(s->x[0], n, f, 0, 0);
		*at(s->y, n, c, y, x) = (real)sum;
	}
}

static void linear_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	EACH(s->dy, r)
	{
		real g = *at(s->dy, n, c, y, x);
		if (s->dbias)
			s->dbias[c] += g;
		for (int f = 0; f < s->node->in.c; f++) {
			size_t w = (size_t)c * (size_t)s->node->in.c + (size_t)f;
			s->dweight[w] += g * *at(s->x[0], n, f, 0, 0);
			if (s->dx[0])
				give(s, 0, n, f, 0, 0, g * s->weight[w]);
		}
	}
}

/* Mean and inverse standard deviation of a channel, as in the forward of this pass. M: number of values; *biased,
 * *mean: for the running statistics. */
static void bn_moments(const struct step *s, const struct run *r, int c, double *mean, double *inv, double *biased)
{
	double sum = 0, sq = 0, m = (double)r->n * s->node->in.h * s->node->in.w;
	if (r->bn == WASD_BN_SET) {
		*mean = (double)s->mean[c];
		*biased = (double)s->var[c];
	} else {
		for (int n = 0; n < r->n; n++)
			for (int y = 0; y < s->node->in.h; y++)
				for (int x = 0; x < s->node->in.w; x++)
					sum += (double)*at(s->x[0], n, c, y, x);
		*mean = sum / m;
		for (int n = 0; n < r->n; n++)
			for (int y = 0; y < s->node->in.h; y++)
				for (int x = 0; x < s->node->in.w; x++) {
					double d = (double)*at(s->x[0], n, c, y, x) - *mean;
					sq += d * d;
				}
		*biased = sq / m;
	}
	*inv = 1 / sqrt(*biased + s->eps);
}

static void bn_forward(struct step *s, const struct run *r)
{
	double m = (double)r->n * s->node->in.h * s->node->in.w;
	for (int c = 0; c < s->y->shape.c; c++) {
		double mean, inv, var;
		bn_moments(s, r, c, &mean, &inv, &var);
		if (r->bn == WASD_BN_BATCH && r->update) {
			double mom = r->momentum > 0 ? r->momentum : s->momentum;
			s->mean[c] = (real)((1 - mom) * (double)s->mean[c] + mom * mean);
			s->var[c] = (real)((1 - mom) * (double)s->var[c] + mom * var * (m > 1 ? m / (m - 1) : 1));
		}
		for (int n = 0; n < r->n; n++)
			for (int y = 0; y < s->y->shape.h; y++)
				for (int x = 0; x < s->y->shape.w; x++)
					*at(s->y, n, c, y,
					    x) = (real)((double)s->weight[c] * ((double)*at(s->x[0], n, c, y, x) - mean) * inv +
					                (double)s->bias[c]);
	}
}

static void bn_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	double m = (double)r->n * s->node->in.h * s->node->in.w;
	for (int c = 0; c < s->y->shape.c; c++) {
		double mean, inv, var, db = 0, dg = 0;
		bn_moments(s, r, c, &mean, &inv, &var);
		for (int pass = 0; pass < 2; pass++)
			for (int n = 0; n < r->n; n++)
				for (int y = 0; y < s->y->shape.h; y++)
					for (int x = 0; x < s->y->shape.w; x++) {
						double g = (double)*at(s->dy, n, c, y, x), xh = ((double)*at(s->x[0], n, c, y, x) - mean) * inv;
						if (pass == 0) {
							db += g;
							dg += g * xh;
						} else if (s->dx[0]) {
							give(s, 0, n, c, y, x,
							     (real)((double)s->weight[c] * inv *
							            (r->bn == WASD_BN_SET ? g : g - db / m - xh * dg / m)));
						}
					}
		s->dbias[c] += (real)db;
		s->dweight[c] += (real)dg;
	}
}

static void relu_forward(struct step *s, const struct run *r)
{
	EACH(s->y, r)
	*at(s->y, n, c, y, x) = act_apply(s->node->layer->is_act, *at(s->x[0], n, c, y, x));
}

static void relu_backward(struct step *s, const struct run *r)
{
	EACH(s->y, r)
	{
		real g = act_passes(s->node->layer->is_act, *at(s->y, n, c, y, x)) ? *at(s->dy, n, c, y, x) : 0;
		if (s->dx[0])
			*at(s->dx[0], n, c, y, x) = s->dx_add[0] ? *at(s->dx[0], n, c, y, x) + g : g;
	}
}

/* Walks the window of each output: the winner's source (max), or a share for every pixel (average). */
static void pool_walk(struct step *s, const struct run *r, bool max, bool backward)
{
	const struct node *nd = s->node;
	EACH(s->y, r)
	{
		int wy = 0, wx = 0;
		double best = -INFINITY, sum = 0;
		bool any = false;
		real share = backward ? *at(s->dy, n, c, y, x) / (real)(nd->kh * nd->kh) : 0;
		for (int ky = 0; ky < nd->kh; ky++)
			for (int kx = 0; kx < nd->kh; kx++) {
				int iy = y * nd->stride - nd->pad_top + ky, ix = x * nd->stride - nd->pad_top + kx;
				if (iy < 0 || iy >= nd->in.h || ix < 0 || ix >= nd->in.w)
					continue;
				double v = (double)*at(s->x[0], n, c, iy, ix);
				if (!any || v > best || isnan(v)) {
					best = v;
					wy = iy;
					wx = ix;
				}
				any = true;
				sum += v;
				if (backward && !max && s->dx[0])
					give(s, 0, n, c, iy, ix, share);
			}
		if (!backward)
			*at(s->y, n, c, y, x) = (real)(max ? best : sum / (nd->kh * nd->kh));
		else if (max && s->dx[0])
			give(s, 0, n, c, wy, wx, *at(s->dy, n, c, y, x));
	}
}

static void max_forward(struct step *s, const struct run *r)
{
	pool_walk(s, r, true, false);
}
static void max_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	pool_walk(s, r, true, true);
}
static void avg_forward(struct step *s, const struct run *r)
{
	pool_walk(s, r, false, false);
}
static void avg_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	pool_walk(s, r, false, true);
}

static void global_forward(struct step *s, const struct run *r)
{
	EACH(s->y, r)
	*at(s->y, n, c, y, x) = 0;
	EACH(s->x[0], r)
	*at(s->y, n, c, 0, 0) += *at(s->x[0], n, c, y, x) / (real)(s->node->in.h * s->node->in.w);
}

static void global_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	if (s->dx[0])
		EACH(s->dx[0], r)
	give(s, 0, n, c, y, x, *at(s->dy, n, c, 0, 0) / (real)(s->node->in.h * s->node->in.w));
}

static void add_forward(struct step *s, const struct run *r)
{
	EACH(s->y, r)
	*at(s->y, n, c, y, x) = *at(s->x[0], n, c, y, x) + *at(s->x[1], n, c, y, x);
}

/* dy may alias one of the two, so read it before writing either. */
static void add_backward(struct step *s, const struct run *r)
{
	EACH(s->y, r)
	{
		real g = *at(s->dy, n, c, y, x);
		for (int i = 0; i < 2; i++)
			if (s->dx[i])
				*at(s->dx[i], n, c, y, x) = s->dx_add[i] ? *at(s->dx[i], n, c, y, x) + g : g;
	}
}

static void concat_forward(struct step *s, const struct run *r)
{
	for (int i = 0, first = 0; i < s->n_in; first += s->x[i++]->shape.c)
		EACH(s->x[i], r)
	*at(s->y, n, first + c, y, x) = *at(s->x[i], n, c, y, x);
}

static void concat_backward(struct step *s, const struct run *r)
{
	clear_dx(s, r);
	for (int i = 0, first = 0; i < s->n_in; first += s->x[i++]->shape.c)
		if (s->dx[i])
			EACH(s->x[i], r)
	give(s, i, n, c, y, x, *at(s->dy, n, first + c, y, x));
}

/* Forward keeps only the tensors; backward recomputes everything else. */
#define KERNEL(name) \
	static const struct layer_kernel name##_kernel = {.forward = name##_forward, .backward = name##_backward}
KERNEL(conv);
KERNEL(linear);
KERNEL(bn);
KERNEL(relu);
KERNEL(max);
KERNEL(avg);
KERNEL(global);
KERNEL(add);
KERNEL(concat);

/* Flatten, dropout and drop-connect use the layers' own kernels: a copy, and plain loops over a mask, which already
 * serve as the definition. */
static const struct backend_kernel kernels[] = {
	{"conv", &conv_kernel},
	{"linear", &linear_kernel},
	{"batchnorm", &bn_kernel},
	{"relu", &relu_kernel},
	{"relu6", &relu_kernel},
	{"maxpool", &max_kernel},
	{"avgpool", &avg_kernel},
	{"globalpool", &global_kernel},
	{"add", &add_kernel},
	{"concat", &concat_kernel},
	{NULL, NULL},
};

static void ref_layout(struct tensor *t, int n, enum wasd_precision p)
{
	(void)p;
	t->sc = (size_t)t->shape.h * (size_t)t->shape.w;
	t->sn = t->sc * (size_t)t->shape.c;
	t->bytes = t->sn * (size_t)n * sizeof(real);
}

extern const struct backend backend_ref;
const struct backend backend_ref = {
	.name = "ref",
	.summary = "plain loops that define the operations; for tests",
	.layout = ref_layout,
	.import = planes_import,
	.export = planes_export,
	.kernels = kernels,
	.planes = true,
	.plain = true,
};
