/* modes/plain.c - the weights as they are: AOM. It needs no recipe. */
#include "modes/mode.h"

static enum wasd_status open_plain(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                   struct wasd_err *err)
{
	(void)g;
	*out = NULL;
	return !m->recipe || cJSON_IsNull(m->recipe) ? WASD_OK :
	                                               wasd_fail(err, WASD_EINVAL, "the plain weights have no recipe");
}

const struct mode_kind mode_plain = {.name = "plain", .summary = "the weights as they are", .open = open_plain};
