/* core/optim/adam.c - Adam (Kingma and Ba, arXiv 1412.6980) with L2 decay in the gradient, PyTorch's form:
 *     g += wd w;   m = b1 m + (1-b1) g;   v = b2 v + (1-b2) g^2;
 *     w -= lr / (1-b1^t) * m / (sqrt(v) / sqrt(1-b2^t) + eps) */
#include <math.h>

#include "optim/kinds.h"

enum { LR, BETA1, BETA2, EPS, DECAY };

struct factors {
	real decay, step, b1, b2, c1, c2, root, eps;
};

WASD_HOT static void update(struct factors f, size_t n, real *restrict w, const real *restrict g, real *restrict m,
                            real *restrict v)
{
	for (size_t i = 0; i < n; i++) {
		real d = g[i] + f.decay * w[i];
		m[i] = f.b1 * m[i] + f.c1 * d;
		v[i] = f.b2 * v[i] + f.c2 * d * d;
#ifdef WASD_DOUBLE
		real root = sqrt(v[i]);
#else
		real root = sqrtf(v[i]);
#endif
		w[i] -= f.step * m[i] / (root * f.root + f.eps);
	}
}

static void step(const struct wasd_optim_args *a, size_t n, real *w, const real *g, real *const *s)
{
	double b1 = a->opt[BETA1], b2 = a->opt[BETA2], t = (double)a->t;
	struct factors f = {
		.decay = (real)a->opt[DECAY],
		.step = (real)(a->lr / (1 - pow(b1, t))),
		.b1 = (real)b1,
		.b2 = (real)b2,
		.c1 = (real)(1 - b1),
		.c2 = (real)(1 - b2),
		.root = (real)(1 / sqrt(1 - pow(b2, t))),
		.eps = (real)a->opt[EPS],
	};
	update(f, n, w, g, s[0], s[1]);
}

const struct wasd_optim_kind optim_adam = {
	.name = "adam",
	.summary = "Adam; weight decay is added to the gradient",
	.options =
		{
			[LR] = {"lr", WASD_NUM, "0.001", 0, 1e3, .above_min = true, .summary = "learning rate"},
			[BETA1] = {"beta1", WASD_NUM, "0.9", 0, 1, .below_max = true,
                       .summary = "how slowly the mean of the gradient changes"},
			[BETA2] = {"beta2", WASD_NUM, "0.999", 0, 1, .below_max = true,
                       .summary = "how slowly the mean of its square changes"},
			[EPS] = {"eps", WASD_NUM, "1e-8", 0, 1, .above_min = true, .summary = "added to the root of that mean"},
			[DECAY] = {"weight_decay", WASD_NUM, "0", 0, 1, .summary = "share of the weights added to the gradient"},
		},
	.states = {"m", "v"},
	.step = step,
};
