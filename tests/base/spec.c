/* tests/base/spec.c - the vocabulary of the job spec: every row is whole and agrees with itself, and the lists beside
 * it say what they should. */
#include "check.h"
#include "wasd/spec.h"

static void each_row(const struct wasd_field *rows, const char *at,
                     void (*look)(const struct wasd_field *, const char *))
{
	for (const struct wasd_field *f = rows; f && f->name; f++) {
		char *path = wasd_asprintf("%s/%s", at, f->name);
		char *below = wasd_asprintf("%s%s", path, f->type == WASD_LIST ? "/N" : "");
		look(f, path);
		each_row(f->sub, below, look);
		wasd_free(below);
		wasd_free(path);
	}
}

static void check_default(const struct wasd_field *f, const char *path)
{
	cJSON *def = cJSON_Parse(f->def);
	CHECK_MSG(def, "%s: its default is no JSON: %s", path, f->def);
	double v[2] = {0};
	wasd_field_numbers(f, f->def, v);
	if (cJSON_IsNull(def))
		CHECK_MSG(f->null_ok || f->form, "%s: null is not among its values", path);
	else if (f->type == WASD_INT || f->type == WASD_NUM)
		CHECK_MSG(wasd_field_takes(f, v[0]) && v[0] == def->valuedouble, "%s: does not take its default %s", path,
		          f->def);
	else if (f->type == WASD_BOOL)
		CHECK_MSG(cJSON_IsBool(def) && (v[0] == 1) == cJSON_IsTrue(def), "%s: %s", path, f->def);
	else if (f->type == WASD_CHOICE || f->type == WASD_STR || f->type == WASD_NAME)
		CHECK_MSG(cJSON_IsString(def), "%s: %s", path, f->def);
	else if (f->type == WASD_OBJECT || f->type == WASD_TYPED)
		CHECK_MSG(cJSON_IsObject(def), "%s: %s", path, f->def);
	bool among = f->type != WASD_CHOICE;
	const char *s;
	for (int i = 0; (s = wasd_field_choice(f, i)); i++)
		among |= cJSON_IsString(def) && !strcmp(def->valuestring, s);
	CHECK_MSG(among, "%s: its default %s is none of its choices", path, f->def);
	cJSON_Delete(def);
}

static void look(const struct wasd_field *f, const char *path)
{
	CHECK_MSG(f->summary && *f->summary, "%s has no summary", path);
	CHECK_MSG(wasd_spec_at(path) == f, "%s is not found by its path", path);
	CHECK_MSG(f->min <= f->max, "%s: from %g to %g", path, f->min, f->max);
	CHECK_MSG(!(f->type == WASD_INT || f->type == WASD_NUM) || f->min < f->max, "%s has no range", path);
	CHECK_MSG(f->type != WASD_CHOICE || wasd_field_choice(f, 1) || f->form, "%s has no choice", path);
	CHECK_MSG((f->type == WASD_OBJECT) <= (f->sub != NULL), "%s: an object without members", path);
	CHECK_MSG((f->type == WASD_TYPED) <= (f->table != NULL), "%s: of no table", path);
	CHECK_MSG(!(f->required && f->def), "%s is required and has a default", path);
	if (f->def)
		check_default(f, path);
	double ends[] = {f->min, f->max};
	bool excluded[] = {f->above_min, f->below_max};
	for (int i = 0; i < 2 && (f->type == WASD_INT || f->type == WASD_NUM); i++) {
		double beyond = i ? f->max + 1 : f->min - 1;
		CHECK_MSG(!wasd_field_takes(f, beyond), "%s takes %g", path, beyond);
		CHECK_MSG(wasd_field_takes(f, ends[i]) == !excluded[i], "%s and %g", path, ends[i]);
	}
	CHECK_MSG(!wasd_field_takes(f, NAN) && !wasd_field_takes(f, INFINITY), "%s takes what is no number", path);
}

static void rows(void)
{
	each_row(wasd_spec, "", look);
	CHECK(!wasd_spec_at(""));
	CHECK(!wasd_spec_at("/"));
	CHECK(!wasd_spec_at("/epochs"));
	CHECK(!wasd_spec_at("/train/epochs/"));
	CHECK(!wasd_spec_at("/train/epoch"));
	CHECK(!wasd_spec_at("/profiles/budget/x"));
	CHECK_STR(wasd_spec_at("/was/transforms/N/weight")->name, "weight");
	CHECK_STR(wasd_spec_at("/checkpoint/keep/best")->name, "best");
}

static int counted;
static void count(const struct wasd_field *f, const char *path)
{
	(void)f, (void)path;
	counted++;
}

/* The JSON has every row once, by its path, with what the row says. */
static void as_json(void)
{
	cJSON *list = wasd_spec_to_json(), *j;
	each_row(wasd_spec, "", count);
	CHECK_INT(cJSON_GetArraySize(list), counted);
	cJSON_ArrayForEach(j, list) {
		const char *path = "", *type = "";
		const struct wasd_field *f = wasd_json_str(j, "path", &path) ? wasd_spec_at(path) : NULL;
		CHECK_MSG(f, "%s is no row", path);
		CHECK_MSG(wasd_json_str(j, "type", &type), "%s has no type", path);
		double min = f->min, max = f->max;
		wasd_json_num(j, "min", &min);
		wasd_json_num(j, "max", &max);
		CHECK_MSG(min == f->min && max == f->max, "%s: from %g to %g", path, min, max);
		CHECK_MSG((wasd_json_get(j, "default") != NULL) == (f->def != NULL), "%s: default", path);
		CHECK_MSG((cJSON_GetArraySize(wasd_json_get(j, "choices")) > 0) == (wasd_field_choice(f, 0) != NULL),
		          "%s: choices", path);
	}
	cJSON_Delete(list);
	char *text = NULL;
	j = wasd_field_to_json(wasd_spec_at("/train/label_smoothing"));
	text = wasd_json_print(j);
	CHECK_STR(text, "{\"name\":\"label_smoothing\",\"type\":\"number\",\"n\":1,\"default\":0,\"min\":0,\"max\":1,"
	                "\"below_max\":true,\"summary\":\"share of the label distributed over all classes\"}");
	wasd_free(text);
	cJSON_Delete(j);
}

static void ranges_in_words(void)
{
	static const char *const heads[] = {"512", "4096", NULL};
	static const struct {
		struct wasd_field f;
		const char *want;
	} c[] = {
		{{"", WASD_INT, .min = 1, .max = 100000}, "a whole number from 1 to 100000"},
		{{"", WASD_NUM, .min = 0, .max = 0.5}, "a number of at least 0 and at most 0.5"},
		{{"", WASD_NUM, .min = 0, .max = 1, .above_min = true, .below_max = true}, "a number above 0 and below 1"},
		{{"", WASD_PAIR, .min = 0.05, .max = 20}, "two numbers [low, high] from 0.05 to 20"},
		{{"", WASD_BOOL, .max = 1}, "true or false"},
		{{"", WASD_INT, .choices = heads}, "one of [512,4096]"},
		{{"", WASD_STR, .min = 1, .max = 199}, "a string of 1 to 199 bytes"},
		{{"", WASD_STR, .max = 4096}, "a string of at most 4096 bytes"},
		{{"", WASD_CHOICE, .choices = heads}, "\"512\" or \"4096\""},
		{{"", WASD_OBJECT, .null_ok = true}, "an object or null"},
		{{"", WASD_OBJECT, .max = 32}, "an object of at most 32 members"},
		{{"", WASD_LIST, .max = 8, .items = "layers"}, "an array of 0 to 8 layers"},
		{{"", WASD_LIST, .choices = heads}, "an array with some of \"512\" and \"4096\", each once"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		char got[WASD_FIELD_RANGE];
		wasd_field_range(&c[i].f, got);
		CHECK_STR(got, c[i].want);
	}
	CHECK(wasd_field_takes(&c[5].f, 512) && !wasd_field_takes(&c[5].f, 513));
	CHECK(!wasd_field_takes(&c[0].f, 1.5));
}

static void defaults_as_values(void)
{
	static const struct wasd_field pair = {"", WASD_PAIR, "[0.75,1.3333333333333333]", 0, 20, .summary = ""},
								   truth = {"", WASD_BOOL, "true", .max = 1}, none = {"", WASD_INT, .max = 1};
	double v[2];
	char word[8];
	wasd_field_numbers(&pair, pair.def, v);
	CHECK(v[0] == 0.75 && v[1] == 4.0 / 3);
	wasd_field_numbers(&truth, truth.def, v);
	CHECK(v[0] == 1);
	wasd_field_numbers(&none, none.def, v);
	CHECK(v[0] == 0);
	cJSON *spec = cJSON_Parse("{\"retry\":{\"backoff_s\":2.5},\"limits\":{\"nice\":null}}");
	CHECK(wasd_spec_number(spec, "/retry/backoff_s") == 2.5 && wasd_spec_number(spec, "/retry/max") == 2);
	CHECK(wasd_spec_number(spec, "/limits/nice") == 10 && wasd_spec_number(NULL, "/priority") == 50);
	cJSON_Delete(spec);
	wasd_field_word(wasd_spec_at("/eval/statistics"), word, sizeof word);
	CHECK_STR(word, "own");
	wasd_field_word(wasd_spec_at("/train/epochs"), word, sizeof word);
	CHECK_STR(word, "");
}

static void metrics(void)
{
	static const char *const goals[] = {"val_acc_aom",  "val_acc_dom", "val_loss_aom",
	                                    "val_loss_dom", "train_acc",   "train_loss"};
	const struct wasd_metric_kind *m;
	int n = 0;
	for (int i = 0; (m = wasd_metric_at(i)); i++) {
		CHECK_MSG(wasd_metric_find(m->name) == m, "%s stands twice", m->name);
		CHECK_MSG(wasd_metric_of(m->quantity, m->mode) == m, "%s stands twice", m->name);
		CHECK_MSG(*m->summary, "%s has no summary", m->name);
		CHECK_MSG(m->mode == wasd_mode_of(m->name) || !strcmp(m->mode, wasd_mode_of(m->name)), "%s", m->name);
		CHECK_MSG(m->less || !strstr(m->name, "loss"), "%s: the more the better?", m->name);
		if (m->goal)
			CHECK_STR(m->name, goals[n++]);
	}
	CHECK_INT(n, 6);
	CHECK(!wasd_metric_find("accuracy"));
	CHECK(!wasd_metric_of("val_acc", NULL));
	CHECK(!wasd_mode_of("_dom") && !wasd_mode_of("random") && !wasd_mode_of("val_acc"));
	const struct wasd_field *f = wasd_spec_at("/train/early_stop/metric");
	for (int i = 0; i < 6; i++)
		CHECK_STR(wasd_field_choice(f, i), goals[i]);
	CHECK(!wasd_field_choice(f, 6));
	cJSON *list = wasd_metrics_to_json();
	CHECK_STR(cJSON_GetArrayItem(list, 3)->child->valuestring, "val_loss_dom");
	cJSON_Delete(list);
}

/* Every allocation fails once: NULL, and nothing leaks (the sanitizer tree sees that). */
static void out_of_memory(void)
{
	cJSON *(*const made[])(void) = {wasd_spec_to_json, wasd_metrics_to_json};
	for (size_t k = 0; k < 2; k++) {
		cJSON *j = NULL;
		uint64_t nth = 1;
		for (; nth < 20000 && !j; nth += 7) {
			wasd_mem_fail_at(nth);
			j = made[k]();
			wasd_mem_fail_at(0);
		}
		CHECK_MSG(j && nth > 8, "after %d", (int)nth);
		cJSON_Delete(j);
	}
}

int main(void)
{
	TEST_RUN(rows);
	TEST_RUN(as_json);
	TEST_RUN(ranges_in_words);
	TEST_RUN(defaults_as_values);
	TEST_RUN(metrics);
	TEST_RUN(out_of_memory);
	TEST_END();
}
