/* base/merge.c - the request of a merge (wasd/merge.h), which the daemon checks and the engine carries out. */
#include "wasd/merge.h"
#include "base/fields.h"

#include <math.h>
#include <stdio.h>

enum { WEIGHTS, ALIGN, RECALIBRATE, PATH };
const char *const wasd_aligns[] = {"weights", "activations", "none", NULL};
const struct wasd_field wasd_merge_fields[] = {
	[WEIGHTS] = {"weights", WASD_LIST, NULL, 2, WASD_MERGE_MAX, .items = "weights",
                 .summary = "share of each checkpoint, together 1; default: equal shares"},
	[ALIGN] = {"align", WASD_CHOICE, "\"weights\"", .choices = wasd_aligns,
               .summary = "by what the channels of the others are matched with those of the first"},
	[RECALIBRATE] =
		{"recalibrate", WASD_BOOL, "true",
         .summary = "measure the statistics; without them nothing can serve the result, but a run can start from it"},
	[PATH] = {"path", WASD_INT, "0", 0, WASD_MERGE_PATH_MAX,
              .summary = "points from one checkpoint to the other at which loss and accuracy are measured; 0: none"},
	{0},
};
/* Shares that a person writes with two digits. */
#define SUM_TOLERANCE 0.01

static enum wasd_status read_weights(const cJSON *list, int n, double *weight, struct wasd_err *err)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		weight[i] = 1.0 / n;
	if (!list)
		return WASD_OK;
	if (cJSON_GetArraySize(list) != n)
		return wasd_fail_at(err, WASD_EINVAL, "/weights", "/weights: %d shares for %d checkpoints",
		                    cJSON_GetArraySize(list), n);
	for (int i = 0; i < n; i++) {
		const cJSON *v = cJSON_GetArrayItem(list, i);
		char at[40];
		snprintf(at, sizeof at, "/weights/%d", i);
		if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1))
			return wasd_fail_at(err, WASD_EINVAL, at, "%s: must be a number from 0 to 1", at);
		sum += weight[i] = v->valuedouble;
	}
	if (fabs(sum - 1) > SUM_TOLERANCE)
		return wasd_fail_at(err, WASD_EINVAL, "/weights", "/weights: they sum to %g, not to 1", sum);
	for (int i = 0; i < n && sum != 1; i++)
		weight[i] /= sum;
	return WASD_OK;
}

static enum wasd_status read_path(const cJSON *v, int n, int *points, struct wasd_err *err)
{
	double x;
	enum wasd_status s = fields_number(v, "/path", &wasd_merge_fields[PATH], &x, err);
	if (s)
		return s;
	*points = (int)x;
	if (*points == 1)
		return wasd_fail_at(err, WASD_EINVAL, "/path", "/path: a path has at least its two ends");
	if (*points && n != 2)
		return wasd_fail_at(err, WASD_EINVAL, "/path", "/path: a path leads between two checkpoints, there are %d", n);
	return WASD_OK;
}

enum wasd_status wasd_merge_read(const cJSON *request, int n, struct wasd_merge_how *out, struct wasd_err *err)
{
	double recalibrate;
	int align;
	struct wasd_merge_how how;
	enum wasd_status s = read_weights(wasd_json_get(request, "weights"), n, how.weight, err);
	if (s || (s = fields_choice(wasd_json_get(request, "align"), "/align", &wasd_merge_fields[ALIGN], &align, err)) ||
	    (s = fields_number(wasd_json_get(request, "recalibrate"), "/recalibrate", &wasd_merge_fields[RECALIBRATE],
	                       &recalibrate, err)) ||
	    (s = read_path(wasd_json_get(request, "path"), n, &how.points, err)))
		return s;
	how.align = (enum wasd_align)align;
	how.recalibrate = recalibrate != 0;
	*out = how;
	return WASD_OK;
}

bool wasd_merge_measures(const struct wasd_merge_how *how)
{
	return how->recalibrate || how->points || how->align == WASD_ALIGN_ACTIVATIONS;
}
