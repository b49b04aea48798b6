/* core/models/network.c - finds out which network the spec's "model" object means: a row of the table or a custom
 * one. */
#include "base/fields.h"
#include "models/models.h"

/* *name: the name of a row, or NULL for a custom network. */
static enum wasd_status row_of(const cJSON *model, const char **name, struct wasd_err *err)
{
	*name = NULL;
	if (!cJSON_IsObject(model))
		return wasd_fail_at(err, WASD_EINVAL, "/model", "must be an object");
	bool layers = wasd_json_get(model, "layers");
	if (wasd_json_get(model, "arch") && layers)
		return wasd_fail_at(err, WASD_EINVAL, "/model/layers", "give either arch or layers, not both");
	if (!layers && !wasd_json_str(model, "arch", name))
		return wasd_fail_at(err, WASD_EINVAL, "/model/arch",
		                    "must be the name of a network (or describe a custom network with \"layers\")");
	return WASD_OK;
}

const char *wasd_network_name(const cJSON *model)
{
	const char *name;
	if (wasd_json_get(model, "layers"))
		return wasd_json_str(model, "name", &name) ? name : WASD_NETWORK_CUSTOM;
	return wasd_json_str(model, "arch", &name) ? name : NULL;
}

enum wasd_status wasd_network_build(const cJSON *model, struct wasd_shape in, int classes, struct wasd_graph **out,
                                    struct wasd_err *err)
{
	const char *name;
	int initial = WASD_INITIAL_UNIFORM;
	struct wasd_graph *g = NULL;
	enum wasd_status s = row_of(model, &name, err);
	if (!s)
		s = fields_choice(wasd_json_get(model, "init"), "/model/init", wasd_spec_at("/model/init"), &initial, err);
	if (!s)
		s = name ? wasd_arch_build(name, in, classes, model, &g, err) : own_build(model, in, classes, &g, err);
	if (s)
		return s;
	wasd_graph_initial(g, (enum wasd_initial)initial);
	*out = g;
	return WASD_OK;
}

enum wasd_status wasd_network_was(const cJSON *model, const char **out, struct wasd_err *err)
{
	const char *name;
	enum wasd_status s = row_of(model, &name, err);
	if (s || name)
		return s ? s : wasd_arch_paper_was(name, model, out, err);
	*out = own_augments(model) ? "{\"transforms\":[" PAPER_TRANSLATE "," PAPER_CROP "]}" : "false";
	return WASD_OK;
}
