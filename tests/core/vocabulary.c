/* tests/core/vocabulary.c - the engine keeps to the table of the job spec: what a spec leaves out has the table's
 * default, both ends of a range are taken, and what lies beyond is refused at the member's pointer. */
#include "check.h"
#include "train/spec.h"
#include "wasd/model.h"
#include "wasd/optim.h"
#include "wasd/weights.h"

#define WHOLE \
	"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"early_stop\":{}},\"data\":{},\"eval\":{},\"checkpoint\":{\"keep\":{}}," \
	"\"limits\":{}}"

/* A copy of the spec with a value at a path through objects. */
static cJSON *with(const char *spec, const char *path, cJSON *v)
{
	cJSON *root = cJSON_Parse(spec), *at = root;
	char key[64];
	for (const char *s = path + 1;; s += strlen(key) + 1) {
		snprintf(key, sizeof key, "%.*s", (int)strcspn(s, "/"), s);
		if (!s[strlen(key)])
			break;
		at = cJSON_GetObjectItemCaseSensitive(at, key);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(at, key);
	cJSON_AddItemToObject(at, key, v);
	return root;
}

typedef enum wasd_status reader(const cJSON *spec, struct wasd_err *err);

static enum wasd_status read_spec(const cJSON *spec, struct wasd_err *err)
{
	struct train_spec s;
	return train_spec_read(spec, &s, err);
}

static enum wasd_status read_schedule(const cJSON *spec, struct wasd_err *err)
{
	struct wasd_schedule s;
	return wasd_schedule_init(&s, wasd_json_get(wasd_json_get(spec, "train"), "schedule"), err);
}

static enum wasd_status read_was(const cJSON *spec, struct wasd_err *err)
{
	static struct wasd_graph *g;
	struct wasd_was *w = NULL;
	const char *paper = NULL;
	cJSON *model = cJSON_Parse("{\"arch\":\"resnet18\"}");
	CHECK(!wasd_network_was(model, &paper, NULL));
	if (!g)
		CHECK(!wasd_network_build(model, (struct wasd_shape){3, 16, 16}, 10, &g, NULL));
	enum wasd_status s = wasd_was_create(g, spec ? wasd_json_get(spec, "was") : NULL, paper, &w, err);
	wasd_was_destroy(w);
	cJSON_Delete(model);
	if (!spec)
		wasd_graph_destroy(g);
	return s;
}

static void expect(reader *read, const char *spec, const char *path, cJSON *v, bool taken)
{
	struct wasd_err err = {0};
	cJSON *j = with(spec, path, v);
	char *text = wasd_json_print(v);
	enum wasd_status s = read(j, &err);
	CHECK_MSG((s == WASD_OK) == taken, "%s: %s is %s", path, text, taken ? err.msg : "taken");
	CHECK_MSG(taken || !strcmp(err.pointer, path), "%s: %s is refused at %s", path, text, err.pointer);
	wasd_free(text);
	cJSON_Delete(j);
}

static void walk(reader *read, const char *spec, const char *path)
{
	const struct wasd_field *f = wasd_spec_at(path);
	const char *s;
	if (f->type == WASD_INT || f->type == WASD_NUM) {
		expect(read, spec, path, cJSON_CreateNumber(f->min), !f->above_min);
		expect(read, spec, path, cJSON_CreateNumber(f->max), !f->below_max);
		expect(read, spec, path, cJSON_CreateNumber(f->min - 1), false);
		expect(read, spec, path, cJSON_CreateNumber(f->max + 1), false);
	}
	for (int i = 0; f->type == WASD_CHOICE && (s = wasd_field_choice(f, i)); i++)
		expect(read, spec, path, cJSON_CreateString(s), true);
	expect(read, spec, path, cJSON_CreateString("no such thing"), false);
	if (f->type == WASD_INT)
		expect(read, spec, path, cJSON_CreateNumber(f->min + 0.5), false);
}

/* Every number and choice of these objects. */
static void ranges(void)
{
	static const char *const objects[] = {"/train", "/train/early_stop", "/data",
	                                      "/eval",  "/checkpoint",       "/checkpoint/keep"};
	for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
		for (const struct wasd_field *f = wasd_spec_at(objects[i])->sub; f->name; f++) {
			char path[96];
			snprintf(path, sizeof path, "%s/%s", objects[i], f->name);
			/* How many latest checkpoints stay is the daemon's. */
			if ((f->type == WASD_INT || f->type == WASD_NUM || f->type == WASD_CHOICE) && strcmp(f->name, "latest"))
				walk(read_spec, WHOLE, path);
		}
	walk(read_spec, WHOLE, "/limits/memory_mb");
	walk(read_schedule, "{\"train\":{\"schedule\":{}}}", "/train/schedule/warmup_epochs");
	walk(read_was, "{\"was\":{}}", "/was/alpha");
	walk(read_was, "{\"was\":{}}", "/was/draw");
	walk(read_was, "{\"was\":{}}", "/was/groups");
	walk(read_was, "{\"was\":{}}", "/was/probability");
	walk(read_was, "{\"was\":{\"probability\":{\"epochs\":3}}}", "/was/probability/from");
	walk(read_was, "{\"was\":{\"probability\":{\"epochs\":3}}}", "/was/probability/to");
	walk(read_was, "{\"was\":{\"probability\":{}}}", "/was/probability/epochs");
	walk(read_was, "{\"was\":{\"draw\":\"profile:x\",\"profile\":[],\"odds\":{\"fresh\":1}}}", "/was/odds/plain");
	read_was(NULL, NULL);
}

/* What an empty spec gives is the table's. */
static void defaults(void)
{
	struct train_spec s;
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse("{\"model\":{\"arch\":\"lenet\"},\"train\":{\"early_stop\":{}}}");
	CHECK_MSG(!train_spec_read(j, &s, &err), "%s", err.msg);
	const struct {
		const char *path;
		double got;
	} numbers[] = {{"/train/epochs", s.epochs},
	               {"/train/batch", s.batch},
	               {"/train/seed", (double)s.seed},
	               {"/train/label_smoothing", s.label_smoothing},
	               {"/train/early_stop/patience", s.patience},
	               {"/data/val_fraction", s.val_fraction},
	               {"/data/limit", s.limit},
	               {"/eval/every", s.eval_every},
	               {"/checkpoint/every", s.checkpoint_every},
	               {"/checkpoint/keep/best", s.keep_best},
	               {"/limits/memory_mb", (double)s.memory_bytes}};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		double v[2];
		const struct wasd_field *f = wasd_spec_at(numbers[i].path);
		wasd_field_numbers(f, f->def, v);
		CHECK_MSG(numbers[i].got == v[0], "%s is %g, not %g", numbers[i].path, numbers[i].got, v[0]);
	}
	char word[32];
	wasd_field_word(wasd_spec_at("/train/precision"), word, sizeof word);
	CHECK_STR(wasd_precision_name(s.precision), word);
	wasd_field_word(wasd_spec_at("/eval/test"), word, sizeof word);
	CHECK_STR(wasd_field_choice(wasd_spec_at("/eval/test"), (int)s.test_when), word);
	CHECK_INT(s.test_when, TEST_BEST);
	wasd_field_word(wasd_spec_at("/eval/statistics"), word, sizeof word);
	CHECK_STR(word, s.statistics == STATISTICS_OWN ? "own" : "batch");
	wasd_field_word(wasd_spec_at("/checkpoint/keep/metric"), word, sizeof word);
	CHECK_STR(s.best.metric->name, word);
	CHECK(s.best.max && s.stop.max && s.eval_aom && s.eval_dom && !s.augment.n && !s.val_own);
	cJSON_Delete(j);
}

static void types_by_default(void)
{
	struct wasd_optim *o = NULL;
	struct wasd_schedule s;
	cJSON *want = cJSON_Parse(wasd_spec_at("/train/optimizer")->def), *got = NULL;
	CHECK(!wasd_optim_create(NULL, 1, &o, NULL) && (got = wasd_optim_to_json(o)));
	CHECK(cJSON_Compare(wasd_json_get(got, "type"), wasd_json_get(want, "type"), true));
	cJSON_Delete(want);
	cJSON_Delete(got);
	wasd_optim_destroy(o);
	want = cJSON_Parse(wasd_spec_at("/train/schedule")->def);
	CHECK(!wasd_schedule_init(&s, NULL, NULL) && (got = wasd_schedule_to_json(&s)));
	CHECK(cJSON_Compare(wasd_json_get(got, "type"), wasd_json_get(want, "type"), true));
	CHECK(wasd_json_get(got, "warmup_epochs")->valuedouble == 0);
	cJSON_Delete(want);
	cJSON_Delete(got);
}

/* A spec without "was" draws as the table says. */
static void was_by_default(void)
{
	const struct wasd_field *rows = wasd_spec_was;
	struct wasd_was *w = NULL;
	struct wasd_graph *g = NULL;
	cJSON *model = cJSON_Parse("{\"arch\":\"resnet18\"}");
	const char *paper = NULL;
	CHECK(!wasd_network_build(model, (struct wasd_shape){3, 16, 16}, 10, &g, NULL));
	CHECK(!wasd_network_was(model, &paper, NULL) && !wasd_was_create(g, NULL, paper, &w, NULL));
	cJSON *got = wasd_was_to_json(w);
	for (; rows->name; rows++) {
		cJSON *def = rows->def && !rows->implied ? cJSON_Parse(rows->def) : NULL;
		const cJSON *v = wasd_json_get(got, rows->name);
		if (def && !cJSON_IsNull(def))
			CHECK_MSG(cJSON_Compare(v, def, true), "%s is not %s", rows->name, rows->def);
		cJSON_Delete(def);
	}
	CHECK(wasd_json_get(cJSON_GetArrayItem(wasd_json_get(got, "transforms"), 0), "weight")->valuedouble == 1);
	wasd_was_destroy(w);
	wasd_graph_destroy(g);
	cJSON_Delete(got);
	cJSON_Delete(model);
}

/* GET /v1/capabilities shows the table and the lists beside it, and nothing of its own. */
static void capabilities(void)
{
	cJSON *caps = wasd_capabilities(), *spec = wasd_spec_to_json(), *metrics = wasd_metrics_to_json();
	CHECK(caps && cJSON_Compare(wasd_json_get(caps, "spec"), spec, true));
	CHECK(caps && cJSON_Compare(wasd_json_get(caps, "metrics"), metrics, true));
	const cJSON *m, *modes = wasd_json_get(caps, "modes");
	int n = 0;
	cJSON_ArrayForEach(m, modes)
		CHECK_STR(m->valuestring, wasd_modes[n++]);
	CHECK(n == 2 && !wasd_modes[n]);
	cJSON_Delete(metrics);
	cJSON_Delete(spec);
	cJSON_Delete(caps);
}

int main(void)
{
	TEST_RUN(ranges);
	TEST_RUN(defaults);
	TEST_RUN(types_by_default);
	TEST_RUN(was_by_default);
	TEST_RUN(capabilities);
	TEST_END();
}
