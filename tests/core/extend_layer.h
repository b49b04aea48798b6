/* extend_layer.h - a layer that core does not have: y = x * x, on plane layouts. */
#include "layers/layer.h"

static enum wasd_status square_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	(void)err;
	n->shape = *in;
	return WASD_OK;
}

static unsigned square_keeps(enum act act, bool has_res)
{
	(void)act;
	(void)has_res;
	return LAYER_KEEPS_X;
}

static void square_forward(struct step *s, const struct run *r)
{
	int hw = s->y->shape.h * s->y->shape.w;
	for (int n = 0; n < r->n; n++)
		for (int c = 0; c < s->y->shape.c; c++)
			for (int i = 0; i < hw; i++) {
				real x = tensor_plane(s->x[0], n, c)[i];
				tensor_plane(s->y, n, c)[i] = x * x;
			}
}

static void square_backward(struct step *s, const struct run *r)
{
	int hw = s->y->shape.h * s->y->shape.w;
	for (int n = 0; s->dx[0] && n < r->n; n++)
		for (int c = 0; c < s->y->shape.c; c++)
			for (int i = 0; i < hw; i++) {
				real *dx = &tensor_plane(s->dx[0], n, c)[i],
					 g = 2 * tensor_plane(s->x[0], n, c)[i] * tensor_plane(s->dy, n, c)[i];
				*dx = s->dx_add[0] ? *dx + g : g;
			}
}

static const struct layer_kernel square_kernel = {.forward = square_forward, .backward = square_backward};
static const struct layer layer_square = {.op = "square",
                                          .summary = "x * x",
                                          .phase_fwd = WASD_PHASE_OTHER,
                                          .phase_bwd = WASD_PHASE_OTHER,
                                          .shape = square_shape,
                                          .keeps = square_keeps,
                                          .kernel = &square_kernel};
