/* base/pixel.c - how pixels become numbers: its record as JSON and as text. */
#include "wasd/pixel.h"

#include "base/fields.h"

#include <stdio.h>
#include <string.h>

const struct wasd_pixels wasd_pixels_half = {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};

void wasd_pixels_table(const struct wasd_pixels *p, int channel, real value[256])
{
	for (int v = 0; v < 256; v++)
		value[v] = (real)wasd_pixel(p, channel, v);
}

bool wasd_pixels_are_half(const struct wasd_pixels *p)
{
	return !memcmp(p, &wasd_pixels_half, sizeof *p);
}

cJSON *wasd_pixels_to_json(const struct wasd_pixels *p, int c)
{
	cJSON *j = cJSON_CreateObject(), *mean = cJSON_CreateDoubleArray(p->mean, c),
		  *std = cJSON_CreateDoubleArray(p->std, c);
	bool first = mean && cJSON_AddItemToObject(j, "mean", mean), second = std && cJSON_AddItemToObject(j, "std", std);
	if (first && second)
		return j;
	if (!first)
		cJSON_Delete(mean);
	if (!second)
		cJSON_Delete(std);
	cJSON_Delete(j);
	return NULL;
}

static const struct wasd_field mean_range = {"mean", WASD_NUM, .min = 0, .max = 1};
static const struct wasd_field std_range = {"std", WASD_NUM, .min = 0, .max = 10, .above_min = true};

static enum wasd_status read_one(const cJSON *j, const char *at, const char *key, const struct wasd_field *each, int c,
                                 double out[3], struct wasd_err *err)
{
	char pointer[FIELDS_POINTER], item[FIELDS_POINTER], index[12];
	const cJSON *list = wasd_json_get(j, key);
	int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
	fields_pointer(pointer, at, key);
	if (n != 1 && n != c)
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s must be an array of one number%s", pointer,
		                    c == 1 ? "" : ", or of one for each channel");
	for (int i = 0; i < 3; i++) {
		int k = n == 1 || i >= n ? 0 : i;
		snprintf(index, sizeof index, "%d", k);
		fields_pointer(item, pointer, index);
		enum wasd_status s = fields_number(cJSON_GetArrayItem(list, k), item, each, &out[i], err);
		if (s)
			return s;
	}
	return WASD_OK;
}

enum wasd_status wasd_pixels_read(const cJSON *j, const char *at, int c, struct wasd_pixels *out, struct wasd_err *err)
{
	struct wasd_pixels p;
	enum wasd_status s;
	if ((s = read_one(j, at, "mean", &mean_range, c, p.mean, err)) ||
	    (s = read_one(j, at, "std", &std_range, c, p.std, err)))
		return s;
	*out = p;
	return WASD_OK;
}

char *wasd_pixels_rule(const struct wasd_pixels *p, int c)
{
	const double *m = p->mean, *d = p->std;
	if (c == 1 || (m[0] == m[1] && m[0] == m[2] && d[0] == d[1] && d[0] == d[2]))
		return wasd_asprintf("(v / 255 - %.9g) / %.9g", m[0], d[0]);
	return wasd_asprintf("(v / 255 - mean) / std; mean = [%.9g, %.9g, %.9g], std = [%.9g, %.9g, %.9g]", m[0], m[1],
	                     m[2], d[0], d[1], d[2]);
}
