/* core/optim/sgd.c - stochastic gradient descent, PyTorch's form:
 *     g' = g + wd w;   v = mu v + g' (v = g' in the first step, as v starts at 0);   w -= lr (nesterov ? g' + mu v : v)
 *                      */
#include "optim/kinds.h"

enum { LR, MOMENTUM, NESTEROV, DECAY };

WASD_HOT static void plain(real lr, real decay, size_t n, real *restrict w, const real *restrict g)
{
	for (size_t i = 0; i < n; i++)
		w[i] -= lr * (g[i] + decay * w[i]);
}

WASD_HOT static void heavy_ball(real lr, real decay, real mu, size_t n, real *restrict w, const real *restrict g,
                                real *restrict v)
{
	for (size_t i = 0; i < n; i++) {
		v[i] = mu * v[i] + (g[i] + decay * w[i]);
		w[i] -= lr * v[i];
	}
}

WASD_HOT static void nesterov(real lr, real decay, real mu, size_t n, real *restrict w, const real *restrict g,
                              real *restrict v)
{
	for (size_t i = 0; i < n; i++) {
		real d = g[i] + decay * w[i];
		v[i] = mu * v[i] + d;
		w[i] -= lr * (d + mu * v[i]);
	}
}

static void step(const struct wasd_optim_args *a, size_t n, real *w, const real *g, real *const *s)
{
	real lr = (real)a->lr, decay = (real)a->opt[DECAY], mu = (real)a->opt[MOMENTUM];
	if (mu == 0)
		plain(lr, decay, n, w, g);
	else if (a->opt[NESTEROV] != 0)
		nesterov(lr, decay, mu, n, w, g, s[0]);
	else
		heavy_ball(lr, decay, mu, n, w, g, s[0]);
}

const struct wasd_optim_kind optim_sgd = {
	.name = "sgd",
	.summary = "stochastic gradient descent with momentum",
	.options =
		{
			[LR] = {"lr", WASD_NUM, "0.01", 0, 1e3, .above_min = true, .summary = "learning rate"},
			[MOMENTUM] = {"momentum", WASD_NUM, "0.9", 0, 1, .below_max = true,
                          .summary = "share of the last step's direction"},
			[NESTEROV] = {"nesterov", WASD_BOOL, "false", .summary = "the direction is looked at one step ahead"},
			[DECAY] = {"weight_decay", WASD_NUM, "0", 0, 1, .summary = "share of the weights added to the gradient"},
		},
	.states = {"momentum"},
	.step = step,
};
