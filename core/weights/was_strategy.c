/* core/weights/was_strategy.c - WAS (was.c) as a row of the strategies: SW = alpha T(W) for each augmented kernel, T as drawn and alpha the layer's own
 * parameter, which is learned with the weights. */
#include "wasd/graph.h"
#include "weights/strategy.h"

static const struct wasd_draw *draw_of(const struct wasd_recipe *r)
{
	return (const struct wasd_draw *)r;      /* its first member */
}

static enum wasd_status check_layer(const struct wasd_draw_layer *l, const struct wasd_graph *g, struct wasd_err *err)
{
	if (l->aug < 0 || l->aug >= wasd_graph_augs(g))
		return wasd_fail(err, WASD_EINVAL, "the draw names augmentable layer %d of %d", l->aug, wasd_graph_augs(g));
	struct wasd_aug_info a = wasd_graph_aug_info(g, l->aug);
	if (l->parts > a.out)
		return wasd_fail(err, WASD_EINVAL, "%s: the draw is for %d groups of %d channels", a.layer, l->parts, a.out);
	for (int p = 0; p < 1 || p < l->parts; p++) {
		int k = wasd_draw_part(l, p)->k;
		if (k != a.k)
			return wasd_fail(err, WASD_EINVAL, "%s: the draw's transform is for %dx%d kernels", a.layer, k, k);
	}
	return WASD_OK;
}

static enum wasd_status check(const struct wasd_recipe *r, const struct wasd_graph *g, struct wasd_err *err)
{
	const struct wasd_draw *d = draw_of(r);
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < d->n && !s; i++)
		s = check_layer(&d->layer[i], g, err);
	return s;
}

static bool shape(const struct wasd_recipe *r, int index, struct weight_shape *out)
{
	const struct wasd_draw_layer *l = wasd_draw_find(draw_of(r), index);
	if (l)
		*out = (struct weight_shape){ wasd_draw_live(l), wasd_draw_box(l) };
	return l;
}

/* Where alpha is among the parameters. SIZE_MAX: it is the constant 1. */
static size_t alpha_at(const struct wasd_draw_layer *l, const struct weight_kernel *k)
{
	struct wasd_aug_info a = wasd_graph_aug_info(k->graph, k->index);
	if (l->alpha_one || a.alpha_param < 0)
		return SIZE_MAX;
	return wasd_graph_param_info(k->graph, a.alpha_param).offset + (size_t)a.alpha_index;
}

static void forward(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s)
{
	const struct wasd_draw_layer *l = wasd_draw_find(draw_of(r), k->index);
	size_t alpha = alpha_at(l, k);
	wasd_draw_forward(l, alpha != SIZE_MAX ? k->master[alpha] : 1, k->w, k->outs, k->rows, at, s);
}

static void backward(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *ds)
{
	const struct wasd_draw_layer *l = wasd_draw_find(draw_of(r), k->index);
	size_t alpha = alpha_at(l, k);
	double dalpha = wasd_draw_backward(l, alpha != SIZE_MAX ? k->master[alpha] : 1, k->w, ds, k->outs, k->rows, at, k->dw);
	if (alpha != SIZE_MAX)
		k->grad[alpha] += (real)dalpha;
}

const struct weight_strategy weight_was = { .name = "was", .check = check, .shape = shape, .forward = forward, .backward = backward };
