/* api/wish.c - a mode chosen by a wish instead of its name: {"within_us":900} is the most accurate mode that computes
 * one image within that time, {"min_accuracy":0.9} the fastest of at least that accuracy. What the checkpoint's list of
 * modes says was measured decides. */
#include "internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A bound on one figure of a mode. */
static const struct bound {
	struct wasd_field field;
	const char *figure;
	bool least; /* it is a lower bound */
	const char *unit;
} bounds[] = {
	{{"within_us", WASD_NUM, NULL, 1, 1e9, .required = false}, "us_1", false, " us"},
	{{"max_macs", WASD_NUM, NULL, 1, 1e18, .required = false}, "macs", false, " multiply-adds"},
	{{"max_bytes", WASD_NUM, NULL, 1, 1e15, .required = false}, "bytes", false, " bytes"},
	{{"min_accuracy", WASD_NUM, NULL, 0, 1, .required = false}, "val_acc", true, " of validation accuracy"},
};

cJSON *api_wish_canon(struct field_ctx *c, const char *pointer, const cJSON *v)
{
	struct wasd_field fields[API_LEN(bounds) + 1] = {{0}};
	for (size_t i = 0; i < API_LEN(bounds); i++)
		fields[i] = bounds[i].field;
	cJSON *in = fields_canon(c, pointer, fields, v);
	if (in && !in->child) {
		api_fault(c->faults, "invalid_field", pointer,
		          "%s must have one of within_us, max_macs, max_bytes and min_accuracy", pointer);
		cJSON_Delete(in);
		return NULL;
	}
	return in;
}

/* How far a mode misses a bound, as a share of it; 0: it holds. False: the figure was never measured. */
static bool misses(const struct bound *b, const cJSON *wish, const cJSON *mode, double *by)
{
	double want, is;
	*by = 0;
	if (!wasd_json_num(wish, b->field.name, &want))
		return true;
	if (!wasd_json_num(mode, b->figure, &is))
		return false;
	double over = b->least ? want - is : is - want;
	*by = over > 0 ? over / (want > 0 ? want : 1) : 0;
	return true;
}

struct fit {
	const cJSON *mode;
	double by, accuracy, us;
};

/* False: something that the wish is about was never measured. fast: the time for one image decides. */
static bool fit_of(const cJSON *wish, const cJSON *mode, bool fast, struct fit *out)
{
	double by;
	*out = (struct fit){.mode = mode, .us = INFINITY};
	for (size_t i = 0; i < API_LEN(bounds); i++) {
		if (!misses(&bounds[i], wish, mode, &by))
			return false;
		out->by = fmax(out->by, by);
	}
	bool timed = wasd_json_num(mode, "us_1", &out->us);
	return wasd_json_num(mode, "val_acc", &out->accuracy) && (timed || !fast);
}

/* Is a the better choice? One that misses less goes first; then the faster where only accuracy is bounded, else the
 * more accurate. */
static bool better(const struct fit *a, const struct fit *b, bool fast)
{
	if (!b->mode || a->by != b->by)
		return !b->mode || a->by < b->by;
	if (fast)
		return a->us != b->us ? a->us < b->us : a->accuracy > b->accuracy;
	return a->accuracy != b->accuracy ? a->accuracy > b->accuracy : a->us < b->us;
}

/* "dom:fast has 950 us" */
static void nearest_text(const cJSON *wish, const cJSON *mode, char *out, size_t room)
{
	const char *name = "";
	double by, v = 0;
	size_t n;
	wasd_json_str(mode, "name", &name);
	n = (size_t)snprintf(out, room, "the nearest is %s:", name);
	for (size_t i = 0; i < API_LEN(bounds); i++)
		if (misses(&bounds[i], wish, mode, &by) && by > 0 && wasd_json_num(mode, bounds[i].figure, &v) && n < room)
			n += (size_t)snprintf(out + n, room - n, " %.6g%s", v, bounds[i].unit);
}

bool api_wish_choose(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *checkpoint,
                     const cJSON *wish, char out[WASD_MODE_LEN])
{
	struct storage_ckpt k;
	struct wasd_err err = {0};
	struct fit best = {0}, f;
	const cJSON *one;
	const char *state = "", *name = "";
	char text[300];
	bool fast = wish->child && !wish->child->next && wasd_json_get(wish, "min_accuracy");
	int unmeasured = 0;
	if (storage_ckpt_get(c->db, checkpoint, &k, &err)) {
		api_send_error(q, r, &err);
		return false;
	}
	cJSON *items = api_mode_items(c, q, r, &k);
	cJSON_ArrayForEach(one, items) {
		if (!wasd_json_str(one, "state", &state) || strcmp(state, "ready"))
			continue;
		bool known = fit_of(wish, one, fast, &f);
		unmeasured += !known;
		if (known && better(&f, &best, fast))
			best = f;
	}
	bool fits = best.mode && best.by == 0 && wasd_json_str(best.mode, "name", &name);
	if (fits)
		snprintf(out, WASD_MODE_LEN, "%s", name);
	if (items && !fits && best.mode)
		nearest_text(wish, best.mode, text, sizeof text);
	else
		snprintf(text, sizeof text, "no mode was measured");
	if (items && !fits)
		api_send_problem(q, r, "invalid_field", "/mode", "/mode: no mode of checkpoint %s fits the wish; %s%s%s%s",
		                 k.id, text, unmeasured ? "; POST /v1/checkpoints/" : "", unmeasured ? k.id : "",
		                 unmeasured ? "/modes:measure measures those that were never measured" : "");
	cJSON_Delete(items);
	storage_ckpt_done(&k);
	return fits;
}
