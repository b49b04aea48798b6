/* train/spec.c - reads a job spec by the table of its members (base/spec.c). The daemon has already checked it by
 * the same table. The trainer repeats the checks that it relies on, since a spec may also come from a test, a
 * checkpoint or a newer daemon. Members that are not in the table are ignored. */
#include "train/spec.h"

#include "base/fields.h"
#include "wasd/model.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* One object of the spec, and the first error met while reading its members. A null member counts as absent. */
struct reader {
	const cJSON *obj;
	const char *at; /* its JSON pointer */
	const struct wasd_field *rows;
	enum wasd_status status;
	struct wasd_err *err;
};

static void bad(struct reader *r, const char *key, const char *want)
{
	char pointer[FIELDS_POINTER];
	fields_pointer(pointer, r->at, key);
	if (!r->status)
		r->status = wasd_fail_at(r->err, WASD_EINVAL, pointer, "%s must be %s", pointer, want);
}

static const cJSON *member(const struct reader *r, const char *key)
{
	const cJSON *v = r->obj ? wasd_json_get(r->obj, key) : NULL;
	return v && !cJSON_IsNull(v) ? v : NULL;
}

static const struct wasd_field *row_of(const struct reader *r, const char *key)
{
	const struct wasd_field *f = wasd_field_find(r->rows, key);
	assert(f);
	return f;
}

static double get_number(struct reader *r, const char *key)
{
	double v = 0;
	char pointer[FIELDS_POINTER];
	fields_pointer(pointer, r->at, key);
	if (!r->status)
		r->status = fields_number(member(r, key), pointer, row_of(r, key), &v, r->err);
	return v;
}

/* Returns the index among the choices of the row; -1 if the member is absent and has no default. */
static int get_choice(struct reader *r, const char *key)
{
	int i = 0;
	char pointer[FIELDS_POINTER];
	fields_pointer(pointer, r->at, key);
	if (!r->status)
		r->status = fields_choice(member(r, key), pointer, row_of(r, key), &i, r->err);
	return i;
}

static struct reader inside(struct reader *r, const char *key, const char *at)
{
	const cJSON *v = member(r, key);
	if (v && !cJSON_IsObject(v)) {
		bad(r, key, "an object");
		v = NULL;
	}
	return (struct reader){v, at, row_of(r, key)->sub, r->status, r->err};
}

/* A number of images, or below 1 a fraction of them; 0 if absent. */
static double get_limit(struct reader *r)
{
	double v = get_number(r, "limit");
	if (v > 1 && v != floor(v))
		bad(r, "limit", "a number of images, or a share of them above 0 and below 1");
	return v;
}

/* The metric that ranks the run, and whether higher is better. */
static void get_goal(struct reader *r, struct train_goal *goal)
{
	int metric = get_choice(r, "metric"), mode = get_choice(r, "mode");
	goal->metric = wasd_metric_find(wasd_field_choice(row_of(r, "metric"), metric));
	goal->max = mode < 0 ? !goal->metric->less : !strcmp(wasd_field_choice(row_of(r, "mode"), mode), "max");
}

/* "balanced", or a list of numbers, whose length depends on the data set. */
static void get_class_weights(struct reader *r, struct train_spec *s)
{
	const cJSON *v = member(r, "class_weights");
	s->balanced = cJSON_IsString(v) && !strcmp(v->valuestring, "balanced");
	s->class_weights = cJSON_IsArray(v) ? v : NULL;
	if (v && !s->balanced && !s->class_weights)
		bad(r, "class_weights", "\"balanced\" or an array of numbers");
}

/* "half", "set", or an object whose numbers depend on the data set's channels. */
static void get_normalize(struct reader *r, struct train_spec *s)
{
	const cJSON *v = member(r, "normalize");
	s->normalize = cJSON_IsObject(v) ? v : NULL;
	s->normalize_set = !s->normalize && get_choice(r, "normalize") > 0;
}

static void get_modes(struct reader *r, struct train_spec *s)
{
	const struct wasd_field *f = row_of(r, "modes");
	const cJSON *given = member(r, "modes"), *list = given, *m;
	cJSON *def = given ? NULL : cJSON_Parse(f->def);
	if (!given)
		list = def;
	if (!list && !r->status)
		r->status = wasd_fail(r->err, WASD_ENOMEM, "job spec");
	if (given && !cJSON_IsArray(given))
		bad(r, "modes", "an array");
	cJSON_ArrayForEach(m, list) {
		if (cJSON_IsString(m) && !strcmp(m->valuestring, WASD_MODE_AOM))
			s->eval_aom = true;
		else if (cJSON_IsString(m) && !strcmp(m->valuestring, WASD_MODE_DOM))
			s->eval_dom = true;
		else
			bad(r, "modes", "some of \"" WASD_MODE_AOM "\" and \"" WASD_MODE_DOM "\"");
	}
	cJSON_Delete(def);
}

static void get_adjust(struct reader *top, struct train_adjust_spec *a)
{
	struct reader r = inside(top, "adjust", "/adjust");
	a->on = r.obj != NULL;
	if (a->on) {
		a->iteration = (int)get_number(&r, "iteration");
		a->iterations = (int)get_number(&r, "iterations");
		a->times = (int)get_number(&r, "times");
		a->rate = get_number(&r, "rate");
		a->update = get_number(&r, "update");
		a->update_decay = get_number(&r, "update_decay");
		a->step = get_number(&r, "step");
		a->step_decay = get_number(&r, "step_decay");
		a->macs = (uint64_t)get_number(&r, "macs");
		a->first = member(&r, "first");
	}
	top->status = r.status;
}

enum wasd_status train_spec_read(const cJSON *spec, struct train_spec *out, struct wasd_err *err)
{
	struct train_spec s = {0};
	struct reader top = {spec, "", wasd_spec, WASD_OK, err};
	if (!cJSON_IsObject(spec))
		return wasd_fail_at(err, WASD_EINVAL, "", "the job spec must be an object");

	struct reader r = inside(&top, "model", "/model");
	s.model = r.obj;
	s.arch = wasd_network_name(s.model);
	if (!s.arch)
		bad(&r, "arch", "the name of a network, unless layers describe one");

	top.status = r.status;
	s.was = member(&top, "was");
	s.weights = member(&top, "weights");

	r = inside(&top, "train", "/train");
	s.epochs = (int)get_number(&r, "epochs");
	s.batch = (int)get_number(&r, "batch");
	s.seed = (uint64_t)get_number(&r, "seed");
	s.label_smoothing = get_number(&r, "label_smoothing");
	get_class_weights(&r, &s);
	s.optimizer = member(&r, "optimizer");
	s.schedule = member(&r, "schedule");
	s.precision = (enum wasd_precision)get_choice(&r, "precision");
	if (!r.status)
		r.status = augment_read(member(&r, "augment"), "/train/augment", &s.augment, err);
	struct reader stop = inside(&r, "early_stop", "/train/early_stop");
	s.early_stop = stop.obj != NULL;
	if (s.early_stop) {
		s.patience = (int)get_number(&stop, "patience");
		get_goal(&stop, &s.stop);
	}
	top.status = stop.status;

	r = inside(&top, "data", "/data");
	s.limit = get_limit(&r);
	get_normalize(&r, &s);
	struct reader split = inside(&r, "split", "/data/split");
	s.split_seed = member(&split, "seed") ? (uint64_t)get_number(&split, "seed") : s.seed;
	s.stratified = get_number(&split, "stratified") > 0;
	r.status = split.status;
	s.val_own = cJSON_IsNull(wasd_json_get(r.obj, "val_fraction"));
	s.val_fraction = s.val_own ? 0 : get_number(&r, "val_fraction");
	top.status = r.status;

	r = inside(&top, "eval", "/eval");
	s.eval_every = (int)get_number(&r, "every");
	get_modes(&r, &s);
	s.test_when = (enum train_test_when)get_choice(&r, "test");
	s.statistics = (enum train_statistics)get_choice(&r, "statistics");
	top.status = r.status;

	r = inside(&top, "checkpoint", "/checkpoint");
	s.checkpoint_every = (int)get_number(&r, "every");
	struct reader keep = inside(&r, "keep", "/checkpoint/keep");
	s.keep_best = get_number(&keep, "best") > 0;
	get_goal(&keep, &s.best);
	top.status = keep.status;

	get_adjust(&top, &s.adjust);
	r = inside(&top, "limits", "/limits");
	s.memory_bytes = (size_t)get_number(&r, "memory_mb") << 20;
	if (r.status)
		return r.status;
	*out = s;
	return WASD_OK;
}
