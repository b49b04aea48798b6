/* core/weights/chain.c - master weights to effective weights and back, for one parameter. The chain has one link, the
 * draw of the pass; without it the master itself is the effective weight. */
#include "weights/chain.h"

void chain_forward(const struct chain_param *p, const struct wasd_draw_layer *l, struct wasd_rect at, real *buf, struct wasd_effective *out)
{
	if (!l) {
		*out = (struct wasd_effective){ p->pw, { 0, 0, p->k, p->k } };
		return;
	}
	*out = (struct wasd_effective){ buf, at };
	wasd_draw_forward(l, p->alpha ? *p->alpha : 1, p->pw, p->outs, p->rows, at, buf);
}

void chain_backward(const struct chain_param *p, const struct wasd_draw_layer *l, struct wasd_rect at, real *dsw)
{
	double dalpha = wasd_draw_backward(l, p->alpha ? *p->alpha : 1, p->pw, dsw, p->outs, p->rows, at, p->dpw);
	if (p->dalpha)
		*p->dalpha += (real)dalpha;
}
