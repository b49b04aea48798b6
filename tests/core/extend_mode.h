/* extend_mode.h - a kind of mode that core does not have: every augmentable kernel without its last column of taps,
 * times the recipe's {"factor"}, and each kernel times its value of the mode file's tensor "h.scale" if there is one.
 */
#include "modes/mode.h"
#include "weights/strategy.h"

struct halved {
	struct wasd_recipe recipe;
	const struct wasd_graph *graph;
	double factor;
	const float *scale; /* one per augmentable kernel; NULL: 1 */
};

static enum wasd_status halved_check(const struct wasd_recipe *r, const struct wasd_graph *g, struct wasd_err *err)
{
	return ((const struct halved *)r)->graph == g ? WASD_OK : wasd_fail(err, WASD_EINVAL, "halved: another network");
}

static bool halved_shape(const struct wasd_recipe *r, int index, struct weight_shape *out)
{
	int k = wasd_graph_aug_info(((const struct halved *)r)->graph, index).k;
	*out = (struct weight_shape){.live = {0, 0, k, k - 1}};
	return true;
}

static void halved_forward(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s)
{
	const struct halved *h = (const struct halved *)r;
	double factor = h->factor * (h->scale ? (double)h->scale[k->index] : 1);
	for (size_t row = 0; row < k->rows; row++)
		for (int y = 0; y < at.h; y++)
			for (int x = 0; x < at.w; x++)
				*s++ = (real)(factor *
				              (double)k->w[row * (size_t)(k->k * k->k) + (size_t)((at.y + y) * k->k + at.x + x)]);
}

static const struct weight_strategy by_halved = {.name = "halved",
                                                 .summary = "kernels without their last column, times a factor",
                                                 .check = halved_check,
                                                 .shape = halved_shape,
                                                 .forward = halved_forward};

static enum wasd_status halved_scale(const struct mode *m, const struct wasd_graph *g, const float **out,
                                     struct wasd_err *err)
{
	const struct wasd_st_tensor *t = m->tensors ? wasd_st_find(m->tensors, "h.scale") : NULL;
	if (t && (t->dtype != WASD_F32 || t->ndims != 1 || t->dims[0] != (size_t)wasd_graph_augs(g)))
		return wasd_fail_at(err, WASD_ECORRUPT, "h.scale", "h.scale must have a value for each kernel");
	*out = t ? t->data : NULL;
	return WASD_OK;
}

static enum wasd_status halved_open(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                    struct wasd_err *err)
{
	double factor;
	const float *scale = NULL;
	if (!wasd_json_num(m->recipe, "factor", &factor))
		return wasd_fail_at(err, WASD_EINVAL, "/factor", "must be a number");
	enum wasd_status s = halved_scale(m, g, &scale, err);
	if (s)
		return s;
	struct halved *h = wasd_calloc(1, sizeof *h);
	if (!h)
		return wasd_fail(err, WASD_ENOMEM, "halved");
	*h = (struct halved){{&by_halved}, g, factor, scale};
	*out = &h->recipe;
	return WASD_OK;
}

static void halved_close(struct wasd_recipe *r)
{
	wasd_free(r);
}

static const struct wasd_field halved_options[] = {
	{"factor", WASD_NUM, "0.5", -2, 2, .summary = "of every kernel"},
	{"last", WASD_CHOICE, "\"same\"", .choices = (const char *const[]){"same", "twice", NULL},
     .summary = "what the last kernel is multiplied by beside it"},
	{0},
};

static enum wasd_status halved_make(const struct mode_making *in, struct mode_made *out, struct wasd_err *err)
{
	size_t n = (size_t)wasd_graph_augs(wasd_model_graph(in->model));
	float *scale = wasd_calloc(n, sizeof *scale);
	out->recipe = cJSON_CreateObject();
	if (!scale || !cJSON_AddNumberToObject(out->recipe, "factor", in->option[0])) {
		wasd_free(scale);
		return wasd_fail(err, WASD_ENOMEM, "halved");
	}
	for (size_t i = 0; i < n; i++)
		scale[i] = i + 1 == n && in->option[1] == 1 ? 2 : 1;
	out->measure = true;
	if (!in->go_on(in->ctx, 1, 1)) {
		wasd_free(scale);
		return wasd_fail(err, WASD_ECANCELLED, "cancelled");
	}
	return mode_made_add(out, "h.scale", WASD_F32, 1, &n, scale, err);
}

static const struct mode_desire halved_desires[] = {
	{.name = "halved", .summary = "kernels without their last column", .options = halved_options, .make = halved_make},
	{0},
};

static const struct mode_kind mode_halved = {.name = "halved",
                                             .summary = "kernels without their last column, times a factor",
                                             .family = "halved",
                                             .prefix = "h.",
                                             .desires = halved_desires,
                                             .open = halved_open,
                                             .close = halved_close};
