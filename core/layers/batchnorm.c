/* layers/batchnorm.c - batch normalisation, with an optional residual and activation after it.
 *
 *   xh = (x - mean) / sqrt(var + eps)      mean and biased var over batch, height, width (M values), or stored ones
 *   y  = act(gamma*xh + beta + residual)
 *
 * Running values: r += momentum * (value - r), with the unbiased variance (M/(M-1)). Backward, with g = dy * act'(y):
 *
 *   dbeta = sum g,  dgamma = sum g*xh,  dresidual = g
 *   dx = gamma/sqrt(var+eps) * (g - dbeta/M - xh*dgamma/M)        batch statistics
 *   dx = gamma/sqrt(var+eps) * g                                  stored statistics
 *
 * Each thread owns whole channels and processes a channel in blocks that fit the L1 cache. Moments: mean and squared
 * deviations take two passes within a block, and Chan's formula joins the blocks in double, so neither a large mean nor
 * many values cost digits. Sums run in LANES independent accumulators: the compiler may vectorise, and the result does
 * not depend on whether it does. */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <math.h>

#define LANES 32
#define BLOCK 1024

struct bn_saved {
	real mean, inv;
}; /* per channel */
struct bn_job {
	struct step *s;
	const struct run *r;
};

static enum wasd_status bn_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (!(n->eps > 0) || !(n->momentum >= 0 && n->momentum <= 1))
		return wasd_fail(err, WASD_EINVAL, "eps %g must be above 0 and momentum %g within [0,1]", n->eps, n->momentum);
	n->shape = *in;
	return WASD_OK;
}

static unsigned bn_keeps(enum act act, bool has_res)
{
	/* Without a residual, backward recomputes the activation's mask from x. */
	return LAYER_KEEPS_X | (act != ACT_NONE && has_res ? LAYER_KEEPS_Y : 0);
}

/* Count, mean and sum of squared deviations of a set of values. */
struct moments {
	double n, mean, m2;
};

static inline __attribute__((always_inline)) double block_sum(const real *x, size_t len)
{
	real acc[LANES] = {0};
	size_t i = 0;
	for (; i + LANES <= len; i += LANES)
		for (int j = 0; j < LANES; j++)
			acc[j] += x[i + (size_t)j];
	double s = 0;
	for (int j = 0; j < LANES; j++)
		s += (double)acc[j];
	for (; i < len; i++)
		s += (double)x[i];
	return s;
}

static inline __attribute__((always_inline)) double block_squares(const real *x, real mean, size_t len)
{
	real acc[LANES] = {0};
	size_t i = 0;
	for (; i + LANES <= len; i += LANES)
		for (int j = 0; j < LANES; j++)
			acc[j] += (x[i + (size_t)j] - mean) * (x[i + (size_t)j] - mean);
	double s = 0;
	for (int j = 0; j < LANES; j++)
		s += (double)acc[j];
	for (; i < len; i++)
		s += (double)((x[i] - mean) * (x[i] - mean));
	return s;
}

WASD_HOT static void moments_add(struct moments *m, const real *x, size_t len)
{
	for (size_t at = 0; at < len; at += BLOCK) {
		size_t l = len - at < BLOCK ? len - at : BLOCK;
		double n = (double)l, shift = block_sum(x + at, l) / n;
		/* Deviations from the mean rounded to `real`; the first term corrects for the rounding. */
		real rounded = (real)shift;
		double off = shift - (double)rounded, m2 = block_squares(x + at, rounded, l) - n * off * off;
		double total = m->n + n, delta = shift - m->mean;
		m->m2 += m2 + delta * delta * m->n * n / total;
		m->mean += delta * n / total;
		m->n = total;
	}
}

/* y = act(x*scale + shift + res); res NULL: none. */
WASD_HOT static void normalise(const real *x, const real *res, real *y, real scale, real shift, enum act act,
                               size_t len)
{
	real lo = act == ACT_NONE ? (real)-INFINITY : 0, hi = act == ACT_RELU6 ? 6 : (real)INFINITY;
	if (res) {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++) {
			real v = x[i] * scale + shift + res[i];
			v = v < lo ? lo : v;
			y[i] = v > hi ? hi : v;
		}
	} else {
		LAYER_IVDEP
		for (size_t i = 0; i < len; i++) {
			real v = x[i] * scale + shift;
			v = v < lo ? lo : v;
			y[i] = v > hi ? hi : v;
		}
	}
}

static void bn_fwd_channels(void *ctx, int begin, int end, int thread)
{
	struct bn_job *j = ctx;
	struct step *s = j->s;
	const struct run *r = j->r;
	(void)thread;
	struct bn_saved *saved = s->saved;
	size_t len;
	int runs = tensor_runs(s->y, r->n, &len);
	for (int c = begin; c < end; c++) {
		double mean, var;
		if (r->bn == WASD_BN_BATCH) {
			struct moments m = {0, 0, 0};
			for (int i = 0; i < runs; i++)
				moments_add(&m, tensor_plane(s->x[0], i, c), len);
			mean = m.mean;
			var = m.m2 > 0 ? m.m2 / m.n : m.m2 * 0; /* a negative rounding error becomes 0; NaN stays NaN */
			if (r->update) {
				double mom = r->momentum > 0 ? r->momentum : s->momentum, unbiased = m.n > 1 ? m.m2 / (m.n - 1) : var;
				s->mean[c] = layer_running(s->mean[c], mean, mom);
				s->var[c] = layer_running(s->var[c], unbiased, mom);
			}
		} else {
			mean = (double)s->mean[c];
			var = (double)s->var[c];
		}
		double inv = 1 / sqrt(var + s->eps);
		real scale = (real)((double)s->weight[c] * inv),
			 shift = (real)((double)s->bias[c] - mean * (double)s->weight[c] * inv);
		if (saved)
			saved[c] = (struct bn_saved){(real)mean, (real)inv};
		for (int i = 0; i < runs; i++)
			normalise(tensor_plane(s->x[0], i, c), s->has_res ? tensor_plane(s->x[1], i, c) : NULL,
			          tensor_plane(s->y, i, c), scale, shift, s->act, len);
	}
}

/* g = dy * act'(y) into g[len]. y is recomputed from x if there is no residual. */
static inline __attribute__((always_inline)) void mask(const struct step *s, const real *x, const real *y,
                                                       const real *dy, real *g, real scale, real shift, size_t len)
{
	real hi = s->act == ACT_RELU6 ? 6 : (real)INFINITY;
	if (s->act == ACT_NONE) {
		for (size_t i = 0; i < len; i++)
			g[i] = dy[i];
	} else if (s->has_res) {
		for (size_t i = 0; i < len; i++) {
			real d = dy[i], v = y[i];
			g[i] = v > 0 && v < hi ? d : 0;
		}
	} else {
		for (size_t i = 0; i < len; i++) {
			real d = dy[i], v = x[i] * scale + shift;
			g[i] = v > 0 && v < hi ? d : 0;
		}
	}
}

/* Sums of g and g*(x-mean) over one run. */
WASD_HOT static void back_sums(const struct step *s, const real *x, const real *y, const real *dy, real mean,
                               real scale, real shift, size_t len, double *sum_g, double *sum_gx)
{
	real g[BLOCK];
	for (size_t at = 0; at < len; at += BLOCK) {
		size_t l = len - at < BLOCK ? len - at : BLOCK, i = 0;
		mask(s, x + at, y + at, dy + at, g, scale, shift, l);
		real a[LANES] = {0}, b[LANES] = {0};
		const real *xb = x + at;
		for (; i + LANES <= l; i += LANES)
			for (int j = 0; j < LANES; j++) {
				a[j] += g[i + (size_t)j];
				b[j] += g[i + (size_t)j] * (xb[i + (size_t)j] - mean);
			}
		double sa = 0, sb = 0;
		for (int j = 0; j < LANES; j++) {
			sa += (double)a[j];
			sb += (double)b[j];
		}
		for (; i < l; i++) {
			sa += (double)g[i];
			sb += (double)(g[i] * (xb[i] - mean));
		}
		*sum_g += sa;
		*sum_gx += sb;
	}
}

/* dx = (or +=) a*g + b*(x-mean) + c, dres = (or +=) g. dx or dres may alias dy: a block of dy is read before anything
 * is written. */
WASD_HOT static void back_apply(const struct step *s, const real *x, const real *y, const real *dy, real *dx,
                                bool dx_add, real *dres, bool dres_add, real mean, real scale, real shift, real a,
                                real b, real c, size_t len)
{
	real g[BLOCK];
	for (size_t at = 0; at < len; at += BLOCK) {
		size_t l = len - at < BLOCK ? len - at : BLOCK;
		mask(s, x + at, y + at, dy + at, g, scale, shift, l);
		const real *xb = x + at;
		if (dx && dx_add) {
			real *d = dx + at;
			LAYER_IVDEP
			for (size_t i = 0; i < l; i++)
				d[i] += a * g[i] + b * (xb[i] - mean) + c;
		} else if (dx) {
			real *d = dx + at;
			LAYER_IVDEP
			for (size_t i = 0; i < l; i++)
				d[i] = a * g[i] + b * (xb[i] - mean) + c;
		}
		if (dres && dres_add) {
			real *d = dres + at;
			LAYER_IVDEP
			for (size_t i = 0; i < l; i++)
				d[i] += g[i];
		} else if (dres) {
			real *d = dres + at;
			LAYER_IVDEP
			for (size_t i = 0; i < l; i++)
				d[i] = g[i];
		}
	}
}

static void bn_bwd_channels(void *ctx, int begin, int end, int thread)
{
	struct bn_job *j = ctx;
	struct step *s = j->s;
	const struct run *r = j->r;
	(void)thread;
	const struct bn_saved *saved = s->saved;
	size_t len;
	int runs = tensor_runs(s->y, r->n, &len);
	for (int c = begin; c < end; c++) {
		double mean = (double)saved[c].mean, inv = (double)saved[c].inv, gamma = (double)s->weight[c], sum_g = 0,
			   sum_gx = 0;
		real scale = (real)(gamma * inv), shift = (real)((double)s->bias[c] - mean * gamma * inv);
		for (int i = 0; i < runs; i++)
			back_sums(s, tensor_plane(s->x[0], i, c), tensor_plane(s->y, i, c), tensor_plane(s->dy, i, c), (real)mean,
			          scale, shift, len, &sum_g, &sum_gx);
		s->dbias[c] += (real)sum_g;
		s->dweight[c] += (real)(sum_gx * inv);
		double m = (double)len * runs, a = gamma * inv, b = 0, k = 0;
		if (r->bn == WASD_BN_BATCH) {
			b = -a * sum_gx * inv * inv / m;
			k = -a * sum_g / m;
		}
		struct tensor *dres = s->has_res ? s->dx[1] : NULL;
		for (int i = 0; i < runs; i++)
			back_apply(s, tensor_plane(s->x[0], i, c), tensor_plane(s->y, i, c), tensor_plane(s->dy, i, c),
			           s->dx[0] ? tensor_plane(s->dx[0], i, c) : NULL, s->dx_add[0],
			           dres ? tensor_plane(dres, i, c) : NULL, dres && s->dx_add[1], (real)mean, scale, shift, (real)a,
			           (real)b, (real)k, len);
	}
}

static void bn_plan(struct step *s, int batch, bool training, int threads)
{
	(void)batch;
	(void)threads;
	s->saved_bytes = training ? (size_t)s->y->shape.c * sizeof(struct bn_saved) : 0;
}

static void bn_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, bn_fwd_channels, &(struct bn_job){s, r});
}

static void bn_backward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, bn_bwd_channels, &(struct bn_job){s, r});
}

static void bn_params(struct wasd_graph *g, struct node *n)
{
	n->weight = graph_add_param(g, n->name, "weight", 1, &n->shape.c, PARAM_ONE, 0);
	n->bias = graph_add_param(g, n->name, "bias", 1, &n->shape.c, PARAM_ZERO, 0);
	n->stats = graph_add_stats(g, n->name, n->shape.c, n->eps, n->momentum);
}

static const struct layer_kernel bn_kernel = {.plan = bn_plan, .forward = bn_forward, .backward = bn_backward};

/* A batch norm that could not be folded into the convolution before it. */
static void batchnorm_onnx(struct onnx *o, const struct node *n)
{
	const char *x = onnx_maps(o, 0), *scale = onnx_param(o, n->weight), *shift = onnx_param(o, n->bias);
	const char *mean = onnx_mean(o, n), *var = onnx_variance(o, n);
	onnx_begin(o, "BatchNormalization");
	onnx_in(o, x);
	onnx_in(o, scale);
	onnx_in(o, shift);
	onnx_in(o, mean);
	onnx_in(o, var);
	onnx_attr_float(o, "epsilon", n->eps);
	onnx_end(o, "", false);
}

const struct layer layer_batchnorm = {
	.op = "batchnorm",
	.summary = "batch normalisation with scale and shift",
	.params = bn_params,
	.fields =
		{
			{{"eps", WASD_NUM, "1e-5", 1e-12, 1, .summary = "added to the variance"}, offsetof(struct node, eps)},
			{{"momentum", WASD_NUM, "0.1", 0, 1, .summary = "weight of a batch in the running statistics"},
             offsetof(struct node, momentum)},
		},
	.channels = LAYER_CHANNELS_SCALED,
	.phase_fwd = WASD_PHASE_BATCHNORM,
	.phase_bwd = WASD_PHASE_BATCHNORM,
	.shape = bn_shape,
	.onnx = batchnorm_onnx,
	.keeps = bn_keeps,
	.in_place = true,
	.in_place_bwd = true,
	.fuses_training = true,
	.fuses_inference = true,
	.kernel = &bn_kernel,
};
