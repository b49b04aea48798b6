/* core/models/network.c - the spec's "model" object: which network it means. */
#include "models/models.h"

const char *wasd_network_name(const cJSON *model)
{
	const char *arch;
	return wasd_json_str(model, "arch", &arch) ? arch : NULL;
}

/* The name, or why there is none. */
static enum wasd_status named(const cJSON *model, const char **name, struct wasd_err *err)
{
	if (!cJSON_IsObject(model))
		return wasd_fail_at(err, WASD_EINVAL, "/model", "must be an object");
	if (!(*name = wasd_network_name(model)))
		return wasd_fail_at(err, WASD_EINVAL, "/model/arch", "must be the name of a network");
	return WASD_OK;
}

enum wasd_status wasd_network_build(const cJSON *model, struct wasd_shape in, int classes, struct wasd_graph **out, struct wasd_err *err)
{
	const char *name;
	enum wasd_status s = named(model, &name, err);
	return s ? s : wasd_arch_build(name, in, classes, model, out, err);
}

enum wasd_status wasd_network_was(const cJSON *model, const char **out, struct wasd_err *err)
{
	const char *name;
	enum wasd_status s = named(model, &name, err);
	return s ? s : wasd_arch_paper_was(name, model, out, err);
}
