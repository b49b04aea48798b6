/* layers/addpad.c - y = a + b for maps of equal size, where the input with fewer channels gets zero channels in front
 * (Chen et al., "Network Adjustment", arXiv 2004.02767, channel_padding "max" of the authors' code). So the widths of
 * both branches of a residual block may differ, and the shortcut needs no projection:
 *
 *   y[c] = a[c - (C - Ca)] + b[c - (C - Cb)],   C = max(Ca, Cb), a term with a negative index is 0 */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <string.h>

static enum wasd_status addpad_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (in[0].h != in[1].h || in[0].w != in[1].w)
		return wasd_fail(err, WASD_EINVAL, "cannot add maps of %dx%d and %dx%d", in[0].h, in[0].w, in[1].h, in[1].w);
	n->shape = in[0].c > in[1].c ? in[0] : in[1];
	return WASD_OK;
}

struct addpad_job {
	struct step *s;
	const struct run *r;
};

/* The channel of x that is added to channel c of y; negative: a zero. */
static int source(const struct tensor *y, const struct tensor *x, int c)
{
	return c - (y->shape.c - x->shape.c);
}

static void addpad_fwd_channels(void *ctx, int begin, int end, int thread)
{
	struct addpad_job *j = ctx;
	(void)thread;
	struct step *s = j->s;
	size_t len;
	int runs = tensor_runs(s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++) {
			real *y = tensor_plane(s->y, i, c);
			int k = source(s->y, s->x[0], c) >= 0 ? 0 : 1, at = source(s->y, s->x[1 - k], c);
			const real *first = tensor_plane(s->x[k], i, source(s->y, s->x[k], c));
			const real *other = at < 0 ? NULL : tensor_plane(s->x[1 - k], i, at);
			memcpy(y, first, len * sizeof *y);
			for (size_t p = 0; other && p < len; p++)
				y[p] += other[p];
		}
}

static void addpad_bwd_channels(void *ctx, int begin, int end, int thread)
{
	struct addpad_job *j = ctx;
	(void)thread;
	struct step *s = j->s;
	size_t len;
	int runs = tensor_runs(s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++)
			for (int k = 0; k < 2; k++) {
				int at = s->dx[k] ? source(s->y, s->dx[k], c) : -1;
				if (at >= 0)
					act_backward(ACT_NONE, NULL, tensor_plane(s->dy, i, c), tensor_plane(s->dx[k], i, at), s->dx_add[k],
					             len);
			}
}

static void addpad_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, addpad_fwd_channels, &(struct addpad_job){s, r});
}

static void addpad_backward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, addpad_bwd_channels, &(struct addpad_job){s, r});
}

static const char *padded(struct onnx *o, const struct node *n, int k)
{
	const char *x = onnx_maps(o, k);
	int missing = n->shape.c - onnx_channels(o, k);
	if (!missing)
		return x;
	const char *pads = onnx_ints(o, "pads", (int64_t[]){0, missing, 0, 0, 0, 0, 0, 0}, 8);
	onnx_begin(o, "Pad");
	onnx_in(o, x);
	onnx_in(o, pads);
	return onnx_end(o, "padded", false);
}

static void addpad_onnx(struct onnx *o, const struct node *n)
{
	const char *a = padded(o, n, 0), *b = padded(o, n, 1);
	onnx_begin(o, "Add");
	onnx_in(o, a);
	onnx_in(o, b);
	onnx_end(o, "", false);
}

static const struct layer_kernel addpad_kernel = {.forward = addpad_forward, .backward = addpad_backward};

const struct layer layer_addpad = {
	.op = "addpad",
	.summary = "sum of two layers of equal maps; the one with fewer channels gets zero channels in front",
	.inputs = 2,
	.blame = "from",
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = addpad_shape,
	.onnx = addpad_onnx,
	.kernel = &addpad_kernel,
};
