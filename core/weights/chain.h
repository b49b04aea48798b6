/* weights/chain.h - what stands between the master weights of a convolution and the weights that a pass computes with.
 *
 * graph/exec.c calls it once per pass and augmented layer; layers and backends only meet the outcome (a kernel with its own
 * size and padding). Rows are the (o, i) slices of (O, I/groups, k, k). Called by the thread that owns the team; may use
 * wasd_parallel over rows. Allocates nothing.
 */
#ifndef WEIGHTS_CHAIN_H
#define WEIGHTS_CHAIN_H

#include "wasd/weights.h"

struct chain_param {
	const real *pw;                 /* master weights, rows x k*k */
	const real *alpha;              /* the layer's scalar; NULL: the constant 1 (wasd_draw_layer.alpha_one, or alpha_param = -1) */
	real *dpw, *dalpha;             /* their gradients, added to; NULL in inference; dalpha NULL with alpha */
	size_t rows;
	int outs;                       /* output channels: rows / outs rows each */
	int k;
};

/* Effective weights alpha * pw * T^t, only the rectangle `at`: out->data = (rows, at.h, at.w), out->live = at. That is wasd_draw_live(l), or one tap of it
 * when all are equal (wasd_draw_box) and the layer computes with their sum over the window.
 * buf: rows*k*k elements, holds the result. l NULL (plain weights): out->data = pw, the whole kernel, nothing is copied and alpha is not
 * applied. at.h = 0 (a draw that shifts everything out): data is buf, nothing in it. */
void chain_forward(const struct chain_param *p, const struct wasd_draw_layer *l, struct wasd_rect at, real *buf, struct wasd_effective *out);

/* dsw: gradient of out->data, same compact shape (of one tap for all that are equal: the sum of theirs); it is taken and left zero, ready for the next layer's sum. Adds to p->dpw and *p->dalpha
 * (the dot product in double, in a fixed order). l is not NULL. */
void chain_backward(const struct chain_param *p, const struct wasd_draw_layer *l, struct wasd_rect at, real *dsw);

#endif
