/* augment/table.c - the table of augmentations, in the order of application: first where things are, then what they
 * look like, then what is missing of them; last what mixes whole images. */
#include "augment/augment.h"

#include "base/fields.h"

#include <string.h>

static const struct augment_kind *const table[] = {&augment_crop,         &augment_flip,   &augment_randaugment,
                                                   &augment_color_jitter, &augment_cutout, &augment_mixup,
                                                   &augment_cutmix};
#define ROWS ((int)(sizeof table / sizeof *table))
_Static_assert(ROWS <= AUGMENT_MAX, "a list has room for every kind");

const struct augment_kind *augment_kind_at(int i)
{
	return i >= 0 && i < ROWS ? table[i] : NULL;
}

const struct augment_kind *augment_kind_find(const char *name)
{
	for (int i = 0; i < ROWS; i++)
		if (!strcmp(table[i]->name, name))
			return table[i];
	return NULL;
}

/* Finds the entry of this kind in the list. */
static const cJSON *entry_of(const cJSON *list, const struct augment_kind *k)
{
	const cJSON *a;
	const char *type;
	cJSON_ArrayForEach(a, list) {
		type = cJSON_IsString(a) ? a->valuestring : "";
		wasd_json_str(a, "type", &type);
		if (!strcmp(type, k->name))
			return a;
	}
	return NULL;
}

static enum wasd_status check_names(const cJSON *list, const char *at, struct wasd_err *err)
{
	char pointer[FIELDS_POINTER];
	const cJSON *a;
	fields_pointer(pointer, at, "type");
	cJSON_ArrayForEach(a, list) {
		const char *type = cJSON_IsString(a) ? a->valuestring : "";
		wasd_json_str(a, "type", &type);
		const struct augment_kind *k = augment_kind_find(type);
		if (!k)
			return wasd_fail_at(err, WASD_EINVAL, pointer, "%s must be the name of an augmentation", pointer);
		if (entry_of(list, k) != a)
			return wasd_fail_at(err, WASD_EINVAL, pointer, "%s is there twice", type);
	}
	return WASD_OK;
}

enum wasd_status augment_read(const cJSON *list, const char *at, struct augment_list *out, struct wasd_err *err)
{
	struct augment_list a = {0};
	if (list && !cJSON_IsArray(list))
		return wasd_fail_at(err, WASD_EINVAL, at, "%s must be an array", at);
	enum wasd_status s = check_names(list, at, err);
	for (int i = 0; i < ROWS && !s; i++) {
		const cJSON *entry = entry_of(list, table[i]);
		if (!entry)
			continue;
		a.item[a.n].kind = table[i];
		s = fields_numbers(cJSON_IsObject(entry) ? entry : NULL, at, table[i]->options, a.item[a.n++].option, err);
	}
	if (!s)
		*out = a;
	return s;
}

enum wasd_status augment_check(const struct augment_list *a, struct wasd_shape shape, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < a->n && !s; i++)
		if (a->item[i].kind->check)
			s = a->item[i].kind->check(a->item[i].option, shape, err);
	return s;
}

bool augment_changes_images(const struct augment_list *a)
{
	for (int i = 0; i < a->n; i++)
		if (a->item[i].kind->image)
			return true;
	return false;
}

bool augment_mixes(const struct augment_list *a)
{
	for (int i = 0; i < a->n; i++)
		if (a->item[i].kind->batch)
			return true;
	return false;
}

void augment_image(const struct augment_list *a, struct wasd_rng *r, struct augment_image *x)
{
	for (int i = 0; i < a->n; i++)
		if (a->item[i].kind->image)
			a->item[i].kind->image(a->item[i].option, r, x);
}

void augment_batch(const struct augment_list *a, struct wasd_rng *r, struct augment_batch *b)
{
	int kinds = 0, taken;
	for (int i = 0; i < a->n; i++)
		kinds += a->item[i].kind->batch != NULL;
	taken = kinds > 1 ? (int)wasd_rng_below(r, (uint32_t)kinds) : 0;
	for (int i = 0; i < a->n; i++)
		if (a->item[i].kind->batch && !taken--)
			a->item[i].kind->batch(a->item[i].option, r, b);
}
