/* core/weights/was_strategy.c - WAS (was.c) as a weight strategy: SW = alpha T(W) for each augmented kernel, with T
 * drawn at random and alpha a parameter of the layer, learned with the weights. */
#include "weights/strategy.h"

#include "base/fields.h"

#include <stdio.h>
#include <string.h>

#define NEAR_ZERO 0.01

struct was {
	const struct wasd_graph *graph;
	struct wasd_was *law;
	struct wasd_draw draw, dom; /* draw of the pass; recorded draw */
	char parts_at[FIELDS_POINTER];
};

/* ---- creation ------------------------------------------------------------------------------------------- */

static void destroy(void *self)
{
	struct was *w = self;
	wasd_draw_done(&w->draw);
	wasd_draw_done(&w->dom);
	wasd_was_destroy(w->law);
	wasd_free(w);
}

/* was.c speaks of "/was"; in a list the object has another place. */
static enum wasd_status read_law(struct was *w, const struct weight_setup *setup, struct wasd_err *err)
{
	struct wasd_err e = {0};
	cJSON *own = setup->spec ? cJSON_Duplicate(setup->spec, true) : NULL;
	if (setup->spec && !own)
		return wasd_fail(err, WASD_ENOMEM, "was");
	if (strcmp(setup->at, "/was"))
		cJSON_DeleteItemFromObjectCaseSensitive(own, "type");
	enum wasd_status s = wasd_was_create(w->graph, own, setup->paper, &w->law, &e);
	cJSON_Delete(own);
	if (s && err) {
		*err = e;
		if (!strncmp(e.pointer, "/was", 4))
			snprintf(err->pointer, sizeof err->pointer, "%.30s%.120s", setup->at, e.pointer + 4);
	}
	return s;
}

static bool has_parts(const struct wasd_draw *d)
{
	for (int i = 0; i < d->n; i++)
		if (d->layer[i].parts > 1)
			return true;
	return false;
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct wasd_rng r;
	struct was *w = wasd_calloc(1, sizeof *w);
	if (!w)
		return wasd_fail(err, WASD_ENOMEM, "was");
	w->graph = setup->graph;
	wasd_rng_init(&r, setup->seed, "was", 0, 0);
	enum wasd_status s = read_law(w, setup, err);
	if (!s && w->law)
		s = wasd_was_record(w->law, w->graph, setup->seed, &w->dom, err);
	if (!s && w->law)
		s = wasd_was_draw(w->law, &r, &w->draw, err); /* allocates the buffers, so that no step does */
	if (!s && w->law) {
		if (has_parts(&w->draw) || has_parts(&w->dom))
			fields_pointer(w->parts_at, setup->at, has_parts(&w->draw) ? "groups" : "profile");
		*self = w;
		return WASD_OK;
	}
	destroy(w);
	return s;
}

static cJSON *to_json(const void *self)
{
	return wasd_was_to_json(((const struct was *)self)->law);
}

/* ---- metrics and warnings --------------------------------------------------------------------------------- */

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	if (i)
		return false;
	*name = "was_probability";
	*value = wasd_was_probability(((const struct was *)self)->law, epoch);
	return true;
}

/* Index of alpha in the parameter block. SIZE_MAX: alpha is the constant 1. */
static size_t alpha_at(const struct wasd_graph *g, const struct wasd_draw_layer *l)
{
	struct wasd_aug_info a = wasd_graph_aug_info(g, l->aug);
	if (l->alpha_one || a.alpha_param < 0)
		return SIZE_MAX;
	return wasd_graph_param_info(g, a.alpha_param).offset + (size_t)a.alpha_index;
}

/* alpha starts as U(0,1). If it starts near 0, the BatchNorm after the layer does not keep it there
 * (web/docs/was.md#alpha) and it may cross zero. The trained kernels then have the opposite sign of the plain weights
 * that AOM computes with, and AOM's accuracy falls below chance. */
static bool warning(const void *self, int i, const real *master, const char **code, char *text, size_t size)
{
	const struct was *w = self;
	for (int k = w->dom.n - 1; k >= 0; k--) {
		size_t at = alpha_at(w->graph, &w->dom.layer[k]);
		if (at == SIZE_MAX || !((double)master[at] < NEAR_ZERO) || i--)
			continue;
		const char *layer = wasd_graph_aug_info(w->graph, w->dom.layer[k].aug).layer;
		double alpha = (double)master[at];
		*code = alpha < 0 ? "alpha_negative" : "alpha_near_zero";
		wasd_line(
			text, size,
			alpha < 0 ?
				"alpha of %s has become negative (%.3g): DOM's kernels have the other sign than AOM's, whose accuracy may stay below chance; "
				"\"was\": {\"alpha\": \"fixed\"} avoids that" :
				"alpha of %s is near 0 (%.3g): the layer passes almost nothing on, and alpha may become negative; "
				"\"was\": {\"alpha\": \"fixed\"} avoids that",
			layer, alpha);
		return true;
	}
	return false;
}

/* ---- drawing -------------------------------------------------------------------------------------------- */

static enum wasd_status draw(void *self, const struct weight_when *when, struct wasd_rng *r,
                             const struct wasd_recipe **out, struct wasd_err *err)
{
	struct was *w = self;
	enum wasd_was_turn turn = when->evaluation ? WASD_TURN_FRESH : wasd_was_turn(w->law, r);
	*out = turn == WASD_TURN_PROFILE ? &w->dom.recipe : turn == WASD_TURN_PLAIN ? NULL : &w->draw.recipe;
	return turn == WASD_TURN_FRESH ? wasd_was_draw_in(w->law, when->epoch, r, &w->draw, err) : WASD_OK;
}

static bool holds(const void *self)
{
	return wasd_was_per_epoch(((const struct was *)self)->law);
}

static const char *parts_at(const void *self)
{
	const struct was *w = self;
	return *w->parts_at ? w->parts_at : NULL;
}

static const struct wasd_recipe *recorded(const void *self)
{
	return &((const struct was *)self)->dom.recipe;
}

static cJSON *recorded_json(const void *self)
{
	const struct was *w = self;
	return wasd_draw_to_json(&w->dom, w->graph);
}

static enum wasd_status recall(void *self, const cJSON *j, struct wasd_err *err)
{
	struct was *w = self;
	struct wasd_draw d = {0};
	enum wasd_status s = wasd_draw_from_json(j, w->graph, &d, err);
	if (s)
		return s;
	wasd_draw_done(&w->dom);
	w->dom = d;
	return WASD_OK;
}

/* ---- a pass --------------------------------------------------------------------------------------------- */

static const struct wasd_draw *draw_of(const struct wasd_recipe *r)
{
	return (const struct wasd_draw *)r; /* recipe is its first member */
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
		*out = (struct weight_shape){wasd_draw_live(l), wasd_draw_box(l)};
	return l;
}

static void forward(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s)
{
	const struct wasd_draw_layer *l = wasd_draw_find(draw_of(r), k->index);
	size_t alpha = alpha_at(k->graph, l);
	wasd_draw_forward(l, alpha != SIZE_MAX ? k->master[alpha] : 1, k->w, k->outs, k->rows, at, s);
}

static void backward(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *ds)
{
	const struct wasd_draw_layer *l = wasd_draw_find(draw_of(r), k->index);
	size_t alpha = alpha_at(k->graph, l);
	double dalpha = wasd_draw_backward(l, alpha != SIZE_MAX ? k->master[alpha] : 1, k->w, ds, k->outs, k->rows, at,
	                                   k->dw);
	if (alpha != SIZE_MAX)
		k->grad[alpha] += (real)dalpha;
}

const struct weight_strategy weight_was = {
	.name = "was",
	.summary =
		"weight augmentation: kernels under random spatial transforms, with AOM and DOM as the two modes of what is learned",
	.options = wasd_spec_was,
	.reads_spec = true,
	.create = create,
	.destroy = destroy,
	.to_json = to_json,
	.metric = metric,
	.warning = warning,
	.draw = draw,
	.holds = holds,
	.parts_at = parts_at,
	.recorded = recorded,
	.recorded_json = recorded_json,
	.recall = recall,
	.check = check,
	.shape = shape,
	.forward = forward,
	.backward = backward,
};
