/* modes/draw.c - one recorded draw of shadow weights: DOM and profiles. The recipe has the form of
 * wasd_draw_to_json. */
#include "modes/mode.h"
#include "wasd/profile.h"

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

static enum wasd_status open_draw(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                  struct wasd_err *err)
{
	struct wasd_draw *d = wasd_calloc(1, sizeof *d);
	enum wasd_status s = d ? wasd_draw_from_json(m->recipe, g, d, err) : wasd_fail(err, WASD_ENOMEM, "draw");
	if (s)
		wasd_free(d);
	else
		*out = &d->recipe;
	return s;
}

static const struct mode_desire desires[] = {
	{.name = "macs",
     .summary = "the best draw that the law allows within a budget of multiply-adds",
     .options = wasd_spec_macs,
     .check = wasd_profile_check,
     .make = wasd_profile_make},
	{.name = "latency",
     .summary = "the best draw that the law allows within a time for one image",
     .options = wasd_spec_latency,
     .check = wasd_profile_check,
     .make = wasd_profile_make},
	{.name = "draw",
     .summary = "a draw that is given",
     .options = wasd_spec_draw,
     .check = wasd_profile_check,
     .make = wasd_profile_make},
	{0},
};

const struct mode_kind mode_draw = {.name = "draw",
                                    .summary = "one recorded draw of shadow weights",
                                    .family = WASD_FAMILY_DRAW,
                                    .desires = desires,
                                    .open = open_draw,
                                    .close = close_draw};
