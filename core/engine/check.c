/* engine/check.c - finds out when a job is submitted whether its process would refuse it at the start.
 *
 * The request is {"spec","data","dataset","profiles","modes"}: dataset is the path of a prepared dataset below the
 * folder `data`; profiles and modes are requests for wasd_mode_make, each of which is checked. Without a dataset only
 * these are checked, for images of "input" [c,h,w] and "classes". The answer is
 * {"warnings":[{"code","message"}]}. The pointer of an error in a profile is "/profiles/N/...", in a mode
 * "/modes/N/..." */
#include "engine/commands.h"
#include "engine/confine.h"
#include "engine/link.h"
#include "wasd/data.h"
#include "wasd/making.h"
#include "wasd/spec.h"
#include "wasd/train.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static void heard(void *ctx, const char *code, int epoch, const char *message)
{
	cJSON *j = cJSON_CreateObject();
	(void)epoch;
	if (!j || !cJSON_AddStringToObject(j, "code", code) || !cJSON_AddStringToObject(j, "message", message) ||
	    !cJSON_AddItemToArray(ctx, j))
		cJSON_Delete(j);
}

static enum wasd_status open_dataset(const cJSON *request, struct wasd_dataset **out, struct wasd_err *err)
{
	const char *folder = "", *name = "";
	char path[PATH_MAX];
	wasd_json_str(request, "data", &folder);
	wasd_json_str(request, "dataset", &name);
	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return wasd_fail(err, WASD_EINVAL, "the path of the dataset is too long");
	enum wasd_status s = wasd_dataset_open(path, out, err);
	return s ? s : wasd_train_select(*out, wasd_json_get(request, "spec"), err);
}

static enum wasd_status check_run(const cJSON *request, cJSON *warnings, struct wasd_shape *shape, int *classes,
                                  struct wasd_err *err)
{
	struct wasd_dataset *data = NULL;
	struct wasd_train_opts o = {.spec = wasd_json_get(request, "spec")};
	struct wasd_train_hooks h = {.ctx = warnings, .warning = heard};
	enum wasd_status s = open_dataset(request, &data, err);
	o.data = data;
	if (!s)
		s = wasd_train_check(&o, &h, err);
	if (!s) {
		*shape = wasd_dataset_shape(data);
		*classes = wasd_dataset_classes(data);
	}
	wasd_dataset_close(data);
	return s;
}

static enum wasd_status read_input(const cJSON *request, struct wasd_shape *shape, int *classes, struct wasd_err *err)
{
	const cJSON *in = wasd_json_get(request, "input");
	int64_t n = 0, v[3];
	for (int i = 0; i < 3; i++) {
		const cJSON *side = cJSON_GetArrayItem(in, i);
		v[i] = cJSON_IsNumber(side) && side->valuedouble >= 1 && side->valuedouble <= 1 << 20 ?
		           (int64_t)side->valuedouble :
		           0;
	}
	if (!wasd_json_i64(request, "classes", &n) || n < 1 || n > 1 << 20 || !v[0] || !v[1] || !v[2])
		return wasd_fail(err, WASD_EINVAL, "a request has a spec and a dataset, or input [c,h,w] and classes");
	*shape = (struct wasd_shape){(int)v[0], (int)v[1], (int)v[2]};
	*classes = (int)n;
	return WASD_OK;
}

/* Checks the requests of the list of that name. */
static enum wasd_status check_modes(const cJSON *request, const char *list, struct wasd_shape shape, int classes,
                                    struct wasd_err *err)
{
	const cJSON *spec = wasd_json_get(request, "spec"), *one;
	struct wasd_err e = {0};
	char at[sizeof e.pointer];
	int i = 0;
	cJSON_ArrayForEach(one, wasd_json_get(request, list)) {
		enum wasd_status s = wasd_mode_check(spec, shape, classes, one, &e);
		snprintf(at, sizeof at, "/%s/%d%.120s", list, i++, e.pointer);
		if (s)
			return wasd_fail_at(err, s, at, "%s", e.msg);
	}
	return WASD_OK;
}

enum wasd_status engine_check(const cJSON *request, cJSON **out, struct wasd_err *err)
{
	cJSON *answer = cJSON_CreateObject(), *warnings = cJSON_AddArrayToObject(answer, "warnings");
	const cJSON *spec = wasd_json_get(request, "spec");
	struct wasd_shape shape = {0};
	int classes = 0;
	enum wasd_status s = !warnings ? wasd_fail(err, WASD_ENOMEM, "no memory for the answer") :
	                     spec && wasd_json_get(request, "dataset") ?
	                                 check_run(request, warnings, &shape, &classes, err) :
	                                 read_input(request, &shape, &classes, err);
	if (!s)
		s = check_modes(request, "profiles", shape, classes, err);
	if (!s)
		s = check_modes(request, "modes", shape, classes, err);
	if (s)
		cJSON_Delete(answer);
	else
		*out = answer;
	return s;
}

/* ---- what a job would take ---- */

static int threads_of(const cJSON *request)
{
	int64_t n = 0;
	wasd_json_i64(request, "threads", &n);
	return (int)n;
}

enum wasd_status engine_estimate(const cJSON *request, cJSON **out, struct wasd_err *err)
{
	struct wasd_dataset *data = NULL;
	struct wasd_train_opts o = {.spec = wasd_json_get(request, "spec")};
	enum wasd_status s = wasd_threads_init(threads_of(request), err);
	if (!s && !(s = open_dataset(request, &data, err))) {
		o.data = data;
		s = wasd_train_estimate(&o, out, err);
	}
	wasd_dataset_close(data);
	return s;
}

enum wasd_status engine_measure(const cJSON *request, struct wasd_train_times *out, struct wasd_err *err)
{
	struct wasd_dataset *data = NULL;
	const cJSON *spec = wasd_json_get(request, "spec");
	struct wasd_train_opts o = {.spec = spec};
	int64_t budget_ms = 1, mb = 0;
	wasd_json_i64(request, "budget_ms", &budget_ms);
	wasd_json_i64(request, "memory_mb", &mb);
	engine_be_nice(request);
	bool limited = cJSON_IsTrue(wasd_json_get(request, "cgroup")); /* a control group has been set up already */
	enum wasd_status s = engine_limit_memory(limited ? 0 : mb, err);
	if (!s && !(s = wasd_threads_init(threads_of(request), err)) && !(s = open_dataset(request, &data, err))) {
		o.data = data;
		s = wasd_train_measure(&o, (int)wasd_spec_number(spec, "/train/batch"), budget_ms * 1000, out, err);
	}
	wasd_dataset_close(data);
	return s;
}
