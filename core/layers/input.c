/* layers/input.c - the images. The exec fills this tensor; there is nothing to compute. */
#include "layers/layer.h"

static enum wasd_status input_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (in->c < 1 || in->h < 1 || in->w < 1 || in->c > 4096 || in->h > 4096 || in->w > 4096)
		return wasd_fail(err, WASD_EINVAL, "image shape %dx%dx%d is not within 1..4096", in->c, in->h, in->w);
	n->shape = *in;
	return WASD_OK;
}

const struct layer layer_input = {
	.op = "input",
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = input_shape,
};
