/* extend_optimizer.h - an optimizer that core does not have: signSGD with momentum (arXiv 1802.04434),
 * v = mu v + (1 - mu) g; w -= lr sign(v). */
#include "optim/kinds.h"

enum { SIGNSGD_LR, SIGNSGD_MOMENTUM };

static void signsgd_step(const struct wasd_optim_args *a, size_t n, real *w, const real *g, real *const *s)
{
	real lr = (real)a->lr, mu = (real)a->opt[SIGNSGD_MOMENTUM];
	for (size_t i = 0; i < n; i++) {
		real v = s[0][i] = mu * s[0][i] + (1 - mu) * g[i];
		w[i] -= v > 0 ? lr : v < 0 ? -lr : 0;
	}
}

static const struct wasd_optim_kind optim_signsgd = {
	.name = "signsgd",
	.summary = "the sign of the momentum",
	.options =
		{
			[SIGNSGD_LR] = {"lr", WASD_NUM, "0.001", 0, 1e3, .above_min = true, .summary = "learning rate"},
			[SIGNSGD_MOMENTUM] = {"momentum", WASD_NUM, "0.9", 0, 1, .below_max = true, .summary = "of the direction"},
		},
	.states = {"momentum"},
	.step = signsgd_step,
};
