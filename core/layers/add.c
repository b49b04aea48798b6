/* layers/add.c - y = act(a + b), same shapes. Backward hands g = dy * act'(y) to both. */
#include "layers/onnx.h"
#include "layers/layer.h"

#include <math.h>

static enum wasd_status add_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (in[0].c != in[1].c || in[0].h != in[1].h || in[0].w != in[1].w)
		return wasd_fail(err, WASD_EINVAL, "cannot add %dx%dx%d and %dx%dx%d", in[0].c, in[0].h, in[0].w, in[1].c,
		                 in[1].h, in[1].w);
	n->shape = in[0];
	return WASD_OK;
}

static unsigned add_keeps(enum act act, bool has_res)
{
	(void)has_res;
	return act == ACT_NONE ? 0 : LAYER_KEEPS_Y;
}

struct add_job {
	struct step *s;
	const struct run *r;
};

WASD_HOT static void add_run(enum act act, const real *a, const real *b, real *y, size_t len)
{
	real lo = act == ACT_NONE ? (real)-INFINITY : 0, hi = act == ACT_RELU6 ? 6 : (real)INFINITY;
	LAYER_IVDEP
	for (size_t i = 0; i < len; i++) {
		real v = a[i] + b[i];
		v = v < lo ? lo : v;
		y[i] = v > hi ? hi : v;
	}
}

static void add_fwd_channels(void *ctx, int begin, int end, int thread)
{
	struct add_job *j = ctx;
	(void)thread;
	size_t len;
	int runs = tensor_runs(j->s->y, j->r->n, &len);
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++)
			add_run(j->s->act, tensor_plane(j->s->x[0], i, c), tensor_plane(j->s->x[1], i, c),
			        tensor_plane(j->s->y, i, c), len);
}

/* Process an input whose gradient shares dy's memory last, after the other has read dy. Masking dy twice is
 * harmless. */
static void add_bwd_channels(void *ctx, int begin, int end, int thread)
{
	struct add_job *j = ctx;
	(void)thread;
	size_t len;
	struct step *s = j->s;
	int runs = tensor_runs(s->y, j->r->n, &len), last = s->dx[0] && s->dx[0]->data == s->dy->data ? 0 : 1;
	if (s->dx[0] == s->dx[1])
		last = 1; /* add(x, x): write first, then add */
	for (int c = begin; c < end; c++)
		for (int i = 0; i < runs; i++)
			for (int k = 0; k < 2; k++) {
				int in = k ? last : 1 - last;
				if (s->dx[in])
					act_backward(s->act, tensor_plane(s->y, i, c), tensor_plane(s->dy, i, c),
					             tensor_plane(s->dx[in], i, c), s->dx_add[in], len);
			}
}

static void add_forward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, add_fwd_channels, &(struct add_job){s, r});
}

static void add_backward(struct step *s, const struct run *r)
{
	wasd_parallel(s->y->shape.c, add_bwd_channels, &(struct add_job){s, r});
}

static void add_onnx(struct onnx *o, const struct node *n)
{
	(void)n;
	const char *a = onnx_maps(o, 0), *b = onnx_maps(o, 1);
	onnx_begin(o, "Add");
	onnx_in(o, a);
	onnx_in(o, b);
	onnx_end(o, "", false);
}

static const struct layer_kernel add_kernel = {.forward = add_forward, .backward = add_backward};

const struct layer layer_add = {
	.op = "add",
	.summary = "sum of two layers of equal shape, as at the end of a residual block",
	.inputs = 2,
	.blame = "from",
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = add_shape,
	.onnx = add_onnx,
	.keeps = add_keeps,
	.in_place = true,
	.in_place_bwd = true,
	.fuses_training = true,
	.fuses_inference = true,
	.is_add = true,
	.kernel = &add_kernel,
};
