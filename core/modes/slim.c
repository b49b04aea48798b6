/* modes/slim.c - the weights as they are, in the network without its dead channels (wasd/slim.h). What is dead
 * follows from the weights, so that there is no recipe. */
#include "wasd/slim.h"
#include "modes/mode.h"

static enum wasd_status open_slim(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                  struct wasd_err *err)
{
	(void)g;
	*out = NULL;
	return !m->recipe || cJSON_IsNull(m->recipe) ?
	           WASD_OK :
	           wasd_fail(err, WASD_EINVAL, "the mode without dead channels has no recipe");
}

static enum wasd_status smaller(const struct mode *mode, struct wasd_model *m, const char *arch, struct wasd_slim **out,
                                struct wasd_err *err)
{
	char name[WASD_SLIM_NAME];
	(void)mode;
	wasd_slim_name(arch, name);
	return wasd_slim_of(wasd_model_graph(m), wasd_model_master(m), wasd_model_stats(m, WASD_STATS_AOM), name, out, err);
}

static enum wasd_status reshape(const struct mode *mode, struct wasd_model *m, struct wasd_model **out,
                                struct wasd_err *err)
{
	struct wasd_slim *s = NULL;
	enum wasd_status st = smaller(mode, m, WASD_MODE_SLIM, &s, err);
	if (!st)
		st = wasd_slim_carry(s, m, out, err);
	wasd_slim_destroy(s);
	return st;
}

const struct mode_kind mode_slim = {.name = "slim",
                                    .summary = "the weights as they are, without the network's dead channels",
                                    .open = open_slim,
                                    .reshape = reshape,
                                    .smaller = smaller};
