/* extend_mode.h - a kind of mode that core does not have: every augmentable kernel without its last column of taps,
 * times the recipe's {"factor"}. */
#include "modes/mode.h"
#include "weights/strategy.h"

struct halved {
	struct wasd_recipe recipe;
	const struct wasd_graph *graph;
	double factor;
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
	for (size_t row = 0; row < k->rows; row++)
		for (int y = 0; y < at.h; y++)
			for (int x = 0; x < at.w; x++)
				*s++ = (real)(((const struct halved *)r)->factor *
				              (double)k->w[row * (size_t)(k->k * k->k) + (size_t)((at.y + y) * k->k + at.x + x)]);
}

static const struct weight_strategy by_halved = {.name = "halved",
                                                 .summary = "kernels without their last column, times a factor",
                                                 .check = halved_check,
                                                 .shape = halved_shape,
                                                 .forward = halved_forward};

static enum wasd_status halved_open(const cJSON *recipe, const struct wasd_graph *g, struct wasd_recipe **out,
                                    struct wasd_err *err)
{
	double factor;
	if (!wasd_json_num(recipe, "factor", &factor))
		return wasd_fail_at(err, WASD_EINVAL, "/factor", "must be a number");
	struct halved *h = wasd_calloc(1, sizeof *h);
	if (!h)
		return wasd_fail(err, WASD_ENOMEM, "halved");
	*h = (struct halved){{&by_halved}, g, factor};
	*out = &h->recipe;
	return WASD_OK;
}

static void halved_close(struct wasd_recipe *r)
{
	wasd_free(r);
}

static const struct mode_kind mode_halved = {.name = "halved",
                                             .summary = "kernels without their last column, times a factor",
                                             .family = "halved",
                                             .open = halved_open,
                                             .close = halved_close};
