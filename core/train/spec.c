/* train/spec.c - reading a job spec. The daemon has validated it against the capabilities; this checks again what the
 * trainer itself relies on, since a spec may also come from a test or a newer daemon. */
#include "train/spec.h"
#include "wasd/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One object of the spec and the first error met while reading members of it. */
struct reader {
	const cJSON *obj;
	const char *at;
	enum wasd_status status;
	struct wasd_err *err;
};

static void bad(struct reader *r, const char *key, const char *want)
{
	char pointer[96];
	snprintf(pointer, sizeof pointer, "%s/%s", r->at, key);
	if (!r->status)
		r->status = wasd_fail_at(r->err, WASD_EINVAL, pointer, "%s: must be %s", key, want);
}

static const cJSON *member(const struct reader *r, const char *key)
{
	const cJSON *v = r->obj ? wasd_json_get(r->obj, key) : NULL;
	return v && !cJSON_IsNull(v) ? v : NULL;
}

static int64_t get_int(struct reader *r, const char *key, int64_t def, int64_t lo, int64_t hi)
{
	int64_t v = def;
	if (member(r, key) && (!wasd_json_i64(r->obj, key, &v) || v < lo || v > hi)) {
		char want[80];
		snprintf(want, sizeof want, "a whole number from %lld to %lld", (long long)lo, (long long)hi);
		bad(r, key, want);
		v = def;
	}
	return v;
}

/* 0 to 0.5, both included. */
static double get_fraction(struct reader *r, const char *key, double def)
{
	double v = def;
	if (member(r, key) && (!wasd_json_num(r->obj, key, &v) || !(v >= 0 && v <= 0.5))) {
		bad(r, key, "a number from 0 to 0.5");
		v = def;
	}
	return v;
}

/* Images, or a share of them below 1; 0 when it is left out. */
static double get_limit(struct reader *r, const char *key)
{
	double v = 0;
	if (member(r, key) &&
	    (!wasd_json_num(r->obj, key, &v) || !(v > 0 && v <= INT32_MAX) || (v >= 1 && v != floor(v)))) {
		bad(r, key, "a number of images, or a share of them above 0 and below 1");
		v = 0;
	}
	return v;
}

static double get_num(struct reader *r, const char *key, double def, double lo, double below)
{
	double v = def;
	if (member(r, key) && (!wasd_json_num(r->obj, key, &v) || v < lo || v >= below)) {
		char want[80];
		snprintf(want, sizeof want, "a number, at least %g and below %g", lo, below);
		bad(r, key, want);
		v = def;
	}
	return v;
}

static const char *get_str(struct reader *r, const char *key, const char *def)
{
	const char *v = def;
	if (member(r, key) && !wasd_json_str(r->obj, key, &v)) {
		bad(r, key, "a string");
		v = def;
	}
	return v;
}

static struct reader inside(struct reader *r, const char *key, const char *at)
{
	const cJSON *v = member(r, key);
	if (v && !cJSON_IsObject(v)) {
		bad(r, key, "an object");
		v = NULL;
	}
	return (struct reader){v, at, r->status, r->err};
}

/* A metric that says how good the run is, and which way is better. */
static void get_goal(struct reader *r, char metric[32], bool *max)
{
	static const char *const names[] = {"val_acc_aom",  "val_acc_dom", "val_loss_aom",
	                                    "val_loss_dom", "train_acc",   "train_loss"};
	const char *name = get_str(r, "metric", "val_acc_aom"), *mode;
	bool known = false;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		known |= !strcmp(name, names[i]);
	if (!known)
		bad(r, "metric", "val_acc_aom, val_acc_dom, val_loss_aom, val_loss_dom, train_acc or train_loss");
	snprintf(metric, 32, "%s", name);
	mode = get_str(r, "mode", strstr(name, "loss") ? "min" : "max");
	if (strcmp(mode, "min") && strcmp(mode, "max"))
		bad(r, "mode", "\"min\" or \"max\"");
	*max = !strcmp(mode, "max");
}

/* "augment": ["flip", "crop"], or objects when they take options: {"type":"crop","pad":4}. */
static void get_augment(struct reader *r, struct train_spec *s)
{
	const cJSON *list = member(r, "augment"), *a;
	if (list && !cJSON_IsArray(list))
		bad(r, "augment", "an array");
	cJSON_ArrayForEach(a, list) {
		struct reader one = {cJSON_IsObject(a) ? a : NULL, "/train/augment", r->status, r->err};
		const char *type = cJSON_IsString(a) ? a->valuestring : get_str(&one, "type", "");
		if (!strcmp(type, "flip"))
			s->flip = true;
		else if (!strcmp(type, "crop"))
			s->crop_pad = (int)get_int(&one, "pad", 4, 1, 64);
		else
			bad(&one, "type", "\"flip\" or \"crop\"");
		r->status = one.status;
	}
}

static void get_modes(struct reader *r, struct train_spec *s)
{
	const cJSON *list = member(r, "modes"), *m;
	s->eval_aom = s->eval_dom = !list;
	if (list && !cJSON_IsArray(list))
		bad(r, "modes", "an array");
	cJSON_ArrayForEach(m, list) {
		if (cJSON_IsString(m) && !strcmp(m->valuestring, "aom"))
			s->eval_aom = true;
		else if (cJSON_IsString(m) && !strcmp(m->valuestring, "dom"))
			s->eval_dom = true;
		else
			bad(r, "modes", "some of \"aom\" and \"dom\"");
	}
}

static void get_test(struct reader *r, struct train_spec *s)
{
	static const char *const names[] = {[TEST_EVERY] = "every", [TEST_BEST] = "best", [TEST_LAST] = "last"};
	const char *name = get_str(r, "test", "best");
	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
		if (!strcmp(name, names[i])) {
			s->test_when = (enum train_test_when)i;
			return;
		}
	bad(r, "test", "\"every\", \"best\" or \"last\"");
}

enum wasd_status train_spec_read(const cJSON *spec, struct train_spec *out, struct wasd_err *err)
{
	struct train_spec s = {0};
	struct reader top = {spec, "", WASD_OK, err};
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
	s.epochs = (int)get_int(&r, "epochs", 10, 1, 1000000);
	s.batch = (int)get_int(&r, "batch", 128, 1, 65536);
	s.seed = (uint64_t)get_int(&r, "seed", 123, 0, 1LL << 53);
	s.label_smoothing = get_num(&r, "label_smoothing", 0, 0, 1);
	s.optimizer = member(&r, "optimizer");
	s.schedule = member(&r, "schedule");
	const char *precision = get_str(&r, "precision", "fp32");
	if (!wasd_precision_from_name(precision, &s.precision))
		bad(&r, "precision", "fp32, fp32-strict or bf16");
	get_augment(&r, &s);
	struct reader stop = inside(&r, "early_stop", "/train/early_stop");
	s.early_stop = stop.obj != NULL;
	if (s.early_stop) {
		s.patience = (int)get_int(&stop, "patience", 5, 1, 1000000);
		get_goal(&stop, s.stop_metric, &s.stop_max);
	}
	top.status = stop.status;

	r = inside(&top, "data", "/data");
	s.limit = get_limit(&r, "limit");
	s.val_own = cJSON_IsNull(wasd_json_get(r.obj, "val_fraction"));
	s.val_fraction = s.val_own ? 0 : get_fraction(&r, "val_fraction", 0.1);
	top.status = r.status;

	r = inside(&top, "eval", "/eval");
	s.eval_every = (int)get_int(&r, "every", 1, 1, 1000000);
	get_modes(&r, &s);
	get_test(&r, &s);
	const char *statistics = get_str(&r, "statistics", "own");
	s.batch_statistics = !strcmp(statistics, "batch");
	if (!s.batch_statistics && strcmp(statistics, "own"))
		bad(&r, "statistics", "\"own\" or \"batch\"");
	top.status = r.status;

	r = inside(&top, "checkpoint", "/checkpoint");
	s.checkpoint_every = (int)get_int(&r, "every", 1, 0, 1000000);
	struct reader keep = inside(&r, "keep", "/checkpoint/keep");
	s.keep_best = get_int(&keep, "best", 1, 0, 1000000) > 0;
	get_goal(&keep, s.best_metric, &s.best_max);
	top.status = keep.status;

	r = inside(&top, "limits", "/limits");
	s.memory_bytes = (size_t)get_int(&r, "memory_mb", 0, 0, 1LL << 30) << 20;
	if (r.status)
		return r.status;
	*out = s;
	return WASD_OK;
}
