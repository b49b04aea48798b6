/* modes/draw.c - one recorded draw of shadow weights: DOM and profiles. The recipe has the form of
 * wasd_draw_to_json. */
#include "modes/mode.h"

#include <stddef.h>

static struct wasd_draw *draw_of(struct wasd_recipe *r)
{
	return (struct wasd_draw *)((char *)r - offsetof(struct wasd_draw, recipe));
}

static void close_draw(struct wasd_recipe *r)
{
	wasd_draw_done(draw_of(r));
	wasd_free(draw_of(r));
}

static enum wasd_status open_draw(const cJSON *recipe, const struct wasd_graph *g, struct wasd_recipe **out,
                                  struct wasd_err *err)
{
	struct wasd_draw *d = wasd_calloc(1, sizeof *d);
	enum wasd_status s = d ? wasd_draw_from_json(recipe, g, d, err) : wasd_fail(err, WASD_ENOMEM, "draw");
	if (s)
		wasd_free(d);
	else
		*out = &d->recipe;
	return s;
}

const struct mode_kind mode_draw = {.name = "draw",
                                    .summary = "one recorded draw of shadow weights",
                                    .family = WASD_FAMILY_DRAW,
                                    .open = open_draw,
                                    .close = close_draw};
