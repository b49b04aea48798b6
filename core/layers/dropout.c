/* layers/dropout.c - dropout, of values and of channels, and drop-connect, active only in passes that bring a
 * generator.
 *
 *   dropout       y = x * m / (1-p), m = 0 with probability p, per element
 *   dropchannel   the same with one m for a channel of an image
 *   drop-connect  y = x / keep * floor(keep + U(0,1)), keep = 1 - rate, per image (stochastic depth: an image's branch
 *                 is either kept or dropped)
 *
 * Each pass draws one number per layer from the run's generator; the random number of element i is a hash of that
 * number and i, counted in (n,c,h,w) order. So masks depend on neither layout nor threads, and backward recomputes them
 * instead of storing them. */
#include "layers/hash.h"
#include "layers/layer.h"

struct drop_saved {
	uint64_t seed;
};
struct drop_job {
	struct step *s;
	const struct run *r;
	uint64_t seed;
	bool backward;
};

static enum wasd_status dropout_shape(struct node *n, const struct wasd_shape *in, struct wasd_err *err)
{
	if (!(n->p >= 0 && n->p < 1))
		return wasd_fail(err, WASD_EINVAL, "rate %g is not within [0,1)", n->p);
	n->shape = *in;
	return WASD_OK;
}

static void put(real *dst, bool add, real v)
{
	*dst = add ? *dst + v : v;
}

static void dropout_channels(void *ctx, int begin, int end, int thread)
{
	struct drop_job *j = ctx;
	(void)thread;
	const struct tensor *in = j->backward ? j->s->dy : j->s->x[0], *out = j->backward ? j->s->dx[0] : j->s->y;
	bool add = j->backward && j->s->dx_add[0];
	int hw = in->shape.h * in->shape.w, C = in->shape.c;
	double p = run_rate(j->r, j->s->node);
	real scale = (real)(1 / (1 - p));
	for (int c = begin; c < end; c++)
		for (int n = 0; n < j->r->n; n++) {
			const real *src = tensor_plane(in, n, c);
			real *dst = tensor_plane(out, n, c);
			uint64_t base = ((uint64_t)n * (uint64_t)C + (uint64_t)c) * (uint64_t)hw;
			for (int i = 0; i < hw; i++)
				put(&dst[i], add, p > 0 && hash_uniform(j->seed, base + (uint64_t)i) < p ? 0 : src[i] * scale);
		}
}

static void dropchannel_channels(void *ctx, int begin, int end, int thread)
{
	struct drop_job *j = ctx;
	(void)thread;
	const struct tensor *in = j->backward ? j->s->dy : j->s->x[0], *out = j->backward ? j->s->dx[0] : j->s->y;
	bool add = j->backward && j->s->dx_add[0];
	int hw = in->shape.h * in->shape.w, C = in->shape.c;
	double p = run_rate(j->r, j->s->node);
	for (int c = begin; c < end; c++)
		for (int n = 0; n < j->r->n; n++) {
			const real *src = tensor_plane(in, n, c);
			real *dst = tensor_plane(out, n, c);
			bool gone = p > 0 && hash_uniform(j->seed, (uint64_t)n * (uint64_t)C + (uint64_t)c) < p;
			real scale = (real)(1 / (1 - p));
			for (int i = 0; i < hw; i++)
				put(&dst[i], add, gone ? 0 : src[i] * scale);
		}
}

static void dropconnect_channels(void *ctx, int begin, int end, int thread)
{
	struct drop_job *j = ctx;
	(void)thread;
	const struct tensor *in = j->backward ? j->s->dy : j->s->x[0], *out = j->backward ? j->s->dx[0] : j->s->y;
	bool add = j->backward && j->s->dx_add[0];
	int hw = in->shape.h * in->shape.w;
	double keep = 1 - run_rate(j->r, j->s->node);
	for (int c = begin; c < end; c++)
		for (int n = 0; n < j->r->n; n++) {
			const real *src = tensor_plane(in, n, c);
			real *dst = tensor_plane(out, n, c);
			bool stays = keep == 1 || keep + hash_uniform(j->seed, (uint64_t)n) >= 1;
			real scale = (real)(1 / keep);
			for (int i = 0; i < hw; i++)
				put(&dst[i], add, stays ? src[i] * scale : 0);
		}
}

static void drop_plan(struct step *s, int batch, bool training, int threads)
{
	(void)batch;
	(void)training;
	(void)threads;
	s->saved_bytes = sizeof(struct drop_saved);
}

static void drop_forward(struct step *s, const struct run *r, void (*channels)(void *, int, int, int))
{
	struct drop_saved *sv = s->saved;
	sv->seed = r->dropping ? wasd_rng_u64(r->dropout) : 0;
	if (!r->dropping && s->y->data == s->x[0]->data)
		return;
	wasd_parallel(s->y->shape.c, channels, &(struct drop_job){s, r, sv->seed, false});
}

static void drop_backward(struct step *s, const struct run *r, void (*channels)(void *, int, int, int))
{
	struct drop_saved *sv = s->saved;
	if (s->dx[0])
		wasd_parallel(s->y->shape.c, channels, &(struct drop_job){s, r, sv->seed, true});
}

static void dropout_forward(struct step *s, const struct run *r)
{
	drop_forward(s, r, dropout_channels);
}
static void dropout_backward(struct step *s, const struct run *r)
{
	drop_backward(s, r, dropout_channels);
}
static void dropchannel_forward(struct step *s, const struct run *r)
{
	drop_forward(s, r, dropchannel_channels);
}
static void dropchannel_backward(struct step *s, const struct run *r)
{
	drop_backward(s, r, dropchannel_channels);
}
static void dropconnect_forward(struct step *s, const struct run *r)
{
	drop_forward(s, r, dropconnect_channels);
}
static void dropconnect_backward(struct step *s, const struct run *r)
{
	drop_backward(s, r, dropconnect_channels);
}

static const struct layer_kernel dropout_kernel = {.plan = drop_plan,
                                                   .forward = dropout_forward,
                                                   .backward = dropout_backward};
static const struct layer_kernel dropchannel_kernel = {.plan = drop_plan,
                                                       .forward = dropchannel_forward,
                                                       .backward = dropchannel_backward};
static const struct layer_kernel dropconnect_kernel = {.plan = drop_plan,
                                                       .forward = dropconnect_forward,
                                                       .backward = dropconnect_backward};

const struct layer layer_dropout = {
	.op = "dropout",
	.summary = "in training, each value is zeroed with probability p",
	.blame = "p",
	.fields = {{{"p", WASD_NUM, "0.5", 0, 1, .below_max = true, .summary = "chance that a value is dropped"},
                offsetof(struct node, p)}},
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = dropout_shape,
	.in_place = true,
	.in_place_bwd = true,
	.trains_only = true,
	.kernel = &dropout_kernel,
};
const struct layer layer_dropchannel = {
	.op = "dropchannel",
	.summary = "in training, each channel of an image is zeroed with probability p; names a width for \"adjust\"",
	.blame = "p",
	.fields = {{{"p", WASD_NUM, "0", 0, 1, .below_max = true, .summary = "chance that a channel is dropped"},
                offsetof(struct node, p)}},
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = dropout_shape,
	.in_place = true,
	.in_place_bwd = true,
	.trains_only = true,
	.kernel = &dropchannel_kernel,
};
const struct layer layer_dropconnect = {
	.op = "dropconnect",
	.summary = "in training, an image's whole branch is zeroed with probability p",
	.blame = "p",
	.fields = {{{"p", WASD_NUM, "0.2", 0, 1, .below_max = true, .summary = "chance that an image's branch is dropped"},
                offsetof(struct node, p)}},
	.channels = LAYER_CHANNELS_SAME,
	.phase_fwd = WASD_PHASE_OTHER,
	.phase_bwd = WASD_PHASE_OTHER,
	.shape = dropout_shape,
	.in_place = true,
	.in_place_bwd = true,
	.trains_only = true,
	.kernel = &dropconnect_kernel,
};
