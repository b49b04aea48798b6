/* core/weights/chain.c - master weights to effective weights and back, for one parameter. The chain has one link, the
 * transform of the pass; without it the master itself is the effective weight. */
#include "weights/apply.h"
#include "weights/chain.h"

void chain_forward(const struct chain_param *p, const struct wasd_transform *t, real *buf, struct wasd_effective *out)
{
	if (!t) {
		*out = (struct wasd_effective){ p->pw, { 0, 0, p->k, p->k } };
		return;
	}
	wasd_transform_forward(t, p->alpha ? *p->alpha : 1, p->pw, p->rows, t->live, buf);
	*out = (struct wasd_effective){ buf, t->live };
}

void chain_backward(const struct chain_param *p, const struct wasd_transform *t, real *dsw)
{
	double dalpha = apply_backward_clear(t, p->alpha ? *p->alpha : 1, p->pw, dsw, p->rows, t->live, p->dpw);
	if (p->dalpha)
		*p->dalpha += (real)dalpha;
}
