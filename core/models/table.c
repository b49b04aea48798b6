/* core/models/table.c - the networks by name, and the checks that they share. */
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "models/models.h"

#define MAX_SIDE 1024
#define MAX_CLASSES 65535 /* labels are stored as 16 bits */

static const struct wasd_arch *const table[] = {
	&arch_lenet,     &arch_vgg16,       &arch_resnet18,           &arch_resnet34,
	&arch_googlenet, &arch_mobilenetv2, &arch_efficientnet_lite0, &arch_repvgg,
};
#define ROWS ((int)(sizeof table / sizeof *table))

const struct wasd_arch *wasd_arch_at(int i)
{
	if (i < ROWS)
		return i >= 0 ? table[i] : NULL;
	for (int k = 0; wasd_arch_more && wasd_arch_more[k]; k++)
		if (k == i - ROWS)
			return wasd_arch_more[k];
	return NULL;
}

const struct wasd_arch *wasd_arch_find(const char *name)
{
	const struct wasd_arch *a;
	for (int i = 0; (a = wasd_arch_at(i)); i++)
		if (!strcmp(a->name, name))
			return a;
	return NULL;
}

static enum wasd_status find(const char *name, const struct wasd_arch **out, struct wasd_err *err)
{
	if ((*out = wasd_arch_find(name)))
		return WASD_OK;
	char list[160] = "";
	size_t n = 0;
	for (int i = 0; wasd_arch_at(i) && n < sizeof list; i++)
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", wasd_arch_at(i)->name);
	return wasd_fail_at(err, WASD_EINVAL, "/model/arch", "unknown network \"%.60s\"; known: %s", name, list);
}

/* A stored model may lack an option from before there was one. */
static enum wasd_status read_options(const struct wasd_arch *a, const cJSON *j, int *v, struct wasd_err *err)
{
	if (j && !cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, "/model", "must be an object");
	enum wasd_status s = j ? fields_known_rows(j, "/model", "arch", a->options, wasd_spec_network, err) : WASD_OK;
	for (int i = 0; s == WASD_OK && a->options[i].name; i++) {
		const struct wasd_field *f = &a->options[i];
		const cJSON *m = j ? wasd_json_get(j, f->name) : NULL;
		double d[2];
		char at[FIELDS_POINTER];
		fields_pointer(at, "/model", f->name);
		if (m)
			s = fields_number(m, at, f, d, err);
		else
			wasd_field_numbers(f, f->stored ? f->stored : f->def, d);
		if (s == WASD_OK)
			v[i] = (int)d[0];
	}
	return s;
}

enum wasd_status wasd_network_complete(cJSON *model, const cJSON *stored, struct wasd_err *err)
{
	const char *name, *of = "";
	const struct wasd_arch *a = wasd_json_str(model, "arch", &name) && !wasd_json_get(model, "layers") ?
	                                wasd_arch_find(name) :
	                                NULL;
	bool same = a && wasd_json_str(stored, "arch", &of) && !strcmp(of, name);
	for (int i = 0; a && a->options[i].name; i++) {
		const struct wasd_field *o = &a->options[i];
		const cJSON *there = same ? wasd_json_get(stored, o->name) : NULL;
		if (wasd_json_get(model, o->name))
			continue;
		cJSON *item = there ? cJSON_Duplicate(there, true) : cJSON_Parse(same && o->stored ? o->stored : o->def);
		if (cJSON_AddItemToObject(model, o->name, item))
			continue;
		cJSON_Delete(item);
		return wasd_fail(err, WASD_ENOMEM, "network");
	}
	return WASD_OK;
}

enum wasd_status wasd_arch_paper_was(const char *name, const cJSON *options, const char **out, struct wasd_err *err)
{
	const struct wasd_arch *a;
	int v[WASD_ARCH_OPTIONS] = {0};
	enum wasd_status s = find(name, &a, err);
	if (s == WASD_OK && (s = read_options(a, options, v, err)) == WASD_OK)
		*out = a->paper_was(v);
	return s;
}

enum wasd_status models_check_input(const char *name, int min_side, struct wasd_shape in, int classes,
                                    struct wasd_err *err)
{
	if (in.c != 1 && in.c != 3)
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "%.60s takes images of 1 or 3 channels, not %d", name, in.c);
	if (in.h < min_side || in.w < min_side || in.h > MAX_SIDE || in.w > MAX_SIDE)
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "%.60s takes images of %d to %d pixels a side, not %dx%d",
		                    name, min_side, MAX_SIDE, in.h, in.w);
	if (classes < 2 || classes > MAX_CLASSES)
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "%d classes: a classifier needs 2 to %d", classes,
		                    MAX_CLASSES);
	return WASD_OK;
}

static enum wasd_status check_input(const struct wasd_arch *a, struct wasd_shape in, int classes, struct wasd_err *err)
{
	enum wasd_status s = models_check_input(a->name, a->min_side, in, classes, err);
	if (s)
		return s;
	char list[48] = "";
	size_t n = 0;
	for (int i = 0; a->sides[i] && n < sizeof list; i++) {
		if (in.h == a->sides[i] && in.w == in.h)
			return WASD_OK;
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%dx%d", i ? " or " : "", a->sides[i], a->sides[i]);
	}
	if (n)
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "%s takes images of %s, not %dx%d", a->name, list, in.h,
		                    in.w);
	return WASD_OK;
}

enum wasd_status wasd_arch_build(const char *name, struct wasd_shape in, int classes, const cJSON *options,
                                 struct wasd_graph **out, struct wasd_err *err)
{
	const struct wasd_arch *a;
	struct wasd_graph *g = NULL;
	int v[WASD_ARCH_OPTIONS] = {0};
	enum wasd_status s = find(name, &a, err);
	if (s == WASD_OK)
		s = read_options(a, options, v, err);
	if (s == WASD_OK)
		s = check_input(a, in, classes, err);
	if (s == WASD_OK)
		s = wasd_graph_create(in, &g, err);
	if (s == WASD_OK)
		s = a->build(g, classes, v, err);
	if (s != WASD_OK) {
		wasd_graph_destroy(g);
		return s;
	}
	*out = g;
	return WASD_OK;
}
