/* layers/concat.c - concatenates the channels of its inputs. Backward hands each input its slice of dy. */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <string.h>

#define CHANNELS_MAX (1 << 24)

static enum wasd_status concat_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	n->shape = in[0];
	for (int i = 1; i < n->n_in; i++) {
		if (in[i].h != in[0].h || in[i].w != in[0].w)
			return wasd_fail(err, WASD_EINVAL, "input %d has maps of %dx%d, but input 0 has maps of %dx%d", i, in[i].h,
			                 in[i].w, in[0].h, in[0].w);
		if (in[i].c > CHANNELS_MAX - n->shape.c)
			return wasd_fail(err, WASD_ETOOBIG, "the sum of channels exceeds %d", CHANNELS_MAX);
		n->shape.c += in[i].c;
	}
	return WASD_OK;
}

struct concat_job {
	struct step *s;
	const struct run *r;
	int input, first;
};

static void concat_fwd_channels(void *ctx, int begin, int end, int thread)
{
	struct concat_job *j = ctx;
	(void)thread;
	size_t len;
	int runs = tensor_runs(j->s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++)
			memcpy(tensor_plane(j->s->y, i, j->first + c), tensor_plane(j->s->x[j->input], i, c), len * sizeof(real));
}

static void concat_bwd_channels(void *ctx, int begin, int end, int thread)
{
	struct concat_job *j = ctx;
	(void)thread;
	size_t len;
	int runs = tensor_runs(j->s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++) {
			const real *src = tensor_plane(j->s->dy, i, j->first + c);
			real *dst = tensor_plane(j->s->dx[j->input], i, c);
			if (!j->s->dx_add[j->input])
				memcpy(dst, src, len * sizeof(real));
			else
				for (size_t k = 0; k < len; k++)
					dst[k] += src[k];
		}
}

static void concat_forward(struct step *s, const struct run *r)
{
	for (int i = 0, first = 0; i < s->n_in; first += s->x[i++]->shape.c)
		wasd_parallel(s->x[i]->shape.c, concat_fwd_channels, &(struct concat_job){s, r, i, first});
}

static void concat_backward(struct step *s, const struct run *r)
{
	for (int i = 0, first = 0; i < s->n_in; first += s->x[i++]->shape.c)
		if (s->dx[i])
			wasd_parallel(s->x[i]->shape.c, concat_bwd_channels, &(struct concat_job){s, r, i, first});
}

/* Flat inputs count as maps of one pixel, and so do the other inputs beside them. */
static void concat_onnx(struct onnx *o, const struct node *n)
{
	const char *x[64];
	for (int i = 0; i < n->n_in; i++)
		x[i] = onnx_maps(o, i);
	onnx_begin(o, "Concat");
	for (int i = 0; i < n->n_in; i++)
		onnx_in(o, x[i]);
	onnx_attr_int(o, "axis", 1);
	onnx_end(o, "", false);
}

static const struct layer_kernel concat_kernel = {.forward = concat_forward, .backward = concat_backward};

const struct layer layer_concat = {
	.op = "concat",
	.summary = "channels of several layers, concatenated",
	.inputs = -1,
	.blame = "from",
	.channels = LAYER_CHANNELS_STACKED,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = concat_shape,
	.onnx = concat_onnx,
	.kernel = &concat_kernel,
};
