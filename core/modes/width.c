/* modes/width.c - the first channels of each layer, in a network of that width (wasd/slice.h), with statistics of its
 * own. The recipe is {"width"}. */
#include "wasd/slice.h"
#include "modes/mode.h"

#include <stdio.h>

static enum wasd_status open_width(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                   struct wasd_err *err)
{
	double width;
	(void)g;
	*out = NULL;
	return wasd_json_num(m->recipe, "width", &width) && width > 0 && width <= 1 ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, "/width", "must be a number above 0 and at most 1");
}

static enum wasd_status smaller(const struct mode *mode, struct wasd_model *m, const char *arch, struct wasd_slim **out,
                                struct wasd_err *err)
{
	char name[WASD_SLIM_NAME];
	double width = 1;
	wasd_json_num(mode->recipe, "width", &width);
	snprintf(name, sizeof name, "%.40s-%.4g", arch, width);
	return wasd_slice_create(wasd_model_graph(m), width, name, out, err);
}

static enum wasd_status reshape(const struct mode *mode, struct wasd_model *m, struct wasd_model **out,
                                struct wasd_err *err)
{
	struct wasd_slim *s = NULL;
	enum wasd_status st = smaller(mode, m, WASD_FAMILY_WIDTH, &s, err);
	if (!st)
		st = wasd_slim_carry(s, m, out, err);
	wasd_slim_destroy(s);
	return st;
}

const struct mode_kind mode_width = {.name = "width",
                                     .summary = "the first channels of each layer: a narrower network",
                                     .open = open_width,
                                     .reshape = reshape,
                                     .smaller = smaller};
