/* tests/api/vocabulary.c - checks the API against the table of the job spec: it fills in the table's defaults,
 * accepts both ends of each range and refuses values beyond them, at the member's pointer. */
#include "harness.h"

/* Specs that together have every object; a path's N stands for each item in turn. */
static const char *const whole[] = {
	"{\"dataset\":{\"name\":\"d\"},\"model\":{\"arch\":\"resnet18\"},\"labels\":{},\"data\":{\"split\":{},\"normalize\":{\"mean\":[0.5],\"std\":[0.5]}},"
	"\"was\":{\"transforms\":[{\"type\":\"translate\"}],\"draw\":\"profile:x\",\"profile\":[],\"odds\":{\"plain\":1,\"fresh\":1},"
	"\"probability\":{\"epochs\":3}},\"train\":{\"optimizer\":{\"type\":\"sgd\"},\"schedule\":{\"type\":\"constant\"},\"early_stop\":{}},"
	"\"eval\":{},\"checkpoint\":{\"keep\":{}},\"profiles\":[{\"name\":\"a\",\"desire\":\"macs\",\"budget\":0.5},"
	"{\"name\":\"b\",\"desire\":\"latency\",\"budget_us\":1},{\"name\":\"c\",\"draw\":[{}]}],\"modes\":[{\"draw\":[{}]}],\"init_from\":{\"checkpoint\":\"c\"},"
	"\"adjust\":{},\"limits\":{},\"retry\":{},\"on_complete\":{\"if\":[{\"metric\":\"val_acc_aom\",\"value\":1}],\"register\":{\"model\":\"m\"},"
	"\"deploy\":{\"name\":\"d\",\"batching\":{},\"queue\":{},\"limits\":{}}}}",
	"{\"dataset\":\"d\",\"model\":{\"layers\":[{\"type\":\"conv\",\"augment\":true}]}}",
};
enum { ITEMS = 3 };

/* Sets a value in a copy of a spec and gives its pointer; NULL: the spec has no such place. */
static cJSON *with(const char *spec, const char *path, int item, const cJSON *v, char pointer[128])
{
	cJSON *root = cJSON_Parse(spec), *at = root;
	size_t n = 0;
	char key[64] = "";
	for (const char *s = path; *s;) {
		size_t len = strcspn(++s, "/");
		snprintf(key, sizeof key, "%.*s", (int)len, s);
		bool numbered = !strcmp(key, "N");
		if (numbered)
			snprintf(key, sizeof key, "%d", item);
		n += (size_t)snprintf(pointer + n, 128 - n, "/%s", key);
		s += len;
		if (*s)
			at = numbered ? cJSON_GetArrayItem(at, item) : cJSON_GetObjectItemCaseSensitive(at, key);
	}
	if (!cJSON_IsObject(at)) {
		cJSON_Delete(root);
		return NULL;
	}
	cJSON_DeleteItemFromObjectCaseSensitive(at, key);
	cJSON_AddItemToObject(at, key, cJSON_Duplicate(v, 1));
	return root;
}

/* 1: the first fault is at `pointer`; 0: no fault; -1: it is elsewhere. init_from counts as a whole, since its forms
 * exclude each other. */
static int outcome(const cJSON *spec, const char *pointer)
{
	struct api_faults faults = {0};
	cJSON *out = spec_canon(spec, t.caps, &faults);
	const char *at = "", *whole_of = !strncmp(pointer, "/init_from", 10) ? "/init_from" : pointer;
	wasd_json_str(cJSON_GetArrayItem(faults.list, 0), "pointer", &at);
	int r = out ? 0 : !strncmp(at, whole_of, strlen(whole_of)) ? 1 : -1;
	api_faults_done(&faults);
	cJSON_Delete(out);
	return r;
}

/* taken: one of the specs accepts the value. Otherwise all refuse it, and a spec with no other fault reports the
 * member. */
static void expect_value(const char *path, const cJSON *v, bool taken)
{
	bool some = false, place = false, at = false;
	char pointer[128], *text = wasd_json_print(v);
	for (size_t k = 0; k < API_LEN(whole); k++)
		for (int i = 0; i < (strstr(path, "/N") ? ITEMS : 1); i++) {
			cJSON *spec = with(whole[k], path, i, v, pointer);
			int r = spec ? outcome(spec, pointer) : -1;
			place |= spec != NULL;
			some |= r == 0;
			at |= r == 1;
			cJSON_Delete(spec);
		}
	CHECK_MSG(place, "%s: no spec has it", path);
	CHECK_MSG(taken ? some : at && !some, "%s: %.80s %s", path, text,
	          taken ? "is refused" : "is taken, or refused elsewhere");
	wasd_free(text);
}

static void expect_number(const char *path, double v, bool taken)
{
	cJSON *j = cJSON_CreateNumber(v);
	expect_value(path, j, taken);
	cJSON_Delete(j);
}

static void expect_string(const char *path, size_t bytes, bool taken)
{
	char *s = wasd_calloc(bytes + 1, 1);
	memset(s, 'a', bytes);
	cJSON *j = cJSON_CreateString(s);
	expect_value(path, j, taken);
	cJSON_Delete(j);
	wasd_free(s);
}

static void expect_items(const char *path, int n, bool taken)
{
	cJSON *j = cJSON_CreateArray();
	for (int i = 0; i < n; i++)
		cJSON_AddItemToArray(j, cJSON_CreateObject());
	expect_value(path, j, taken);
	cJSON_Delete(j);
}

/* True unless path is in names (members with a rule beyond their row). */
static bool free_of(const char *path, const char *const *names)
{
	for (; *names; names++)
		if (!strcmp(path, *names))
			return false;
	return true;
}

static void look(const struct wasd_field *f, const char *path)
{
	static const char *const odd_items[] = {"/train/augment", "/eval/modes", NULL};
	static const char *const judged_items[] = {"/after",
	                                           "/was/transforms",
	                                           "/was/layers",
	                                           "/weights",
	                                           "/profiles",
	                                           "/modes",
	                                           "/data/normalize/mean",
	                                           "/data/normalize/std",
	                                           "/train/class_weights",
	                                           "/data/classes",
	                                           "/on_complete/if",
	                                           NULL};
	static const char *const odd_strings[] = {"/model/arch",     "/init_from/blob", "/on_complete/deploy/mode",
	                                          "/modes/N/desire", "/modes/N/base",   NULL};
	if (f->type == WASD_INT || f->type == WASD_NUM) {
		expect_number(path, f->min, !f->above_min);
		expect_number(path, f->max, !f->below_max);
		expect_number(path, f->min - 1, false);
		expect_number(path, f->max + 1, false);
	} else if (f->type == WASD_STR && free_of(path, odd_strings)) {
		if (f->min > 0)
			expect_string(path, (size_t)f->min - 1, false);
		expect_string(path, (size_t)f->max, true);
		expect_string(path, (size_t)f->max + 1, false);
	} else if (f->type == WASD_LIST && free_of(path, odd_items)) {
		if (f->min > 0)
			expect_items(path, (int)f->min - 1, false);
		if (free_of(path, judged_items))
			expect_items(path, (int)f->max, true);
		expect_items(path, (int)f->max + 1, false);
	} else if (f->type == WASD_CHOICE || f->type == WASD_NAME) {
		expect_string(path, 64, false);
	}
	cJSON *wrong = f->type == WASD_BOOL ? cJSON_CreateNumber(1) : cJSON_CreateBool(1);
	expect_value(path, wrong, false);
	cJSON_Delete(wrong);
}

static void walk(const struct wasd_field *rows, const char *at)
{
	for (const struct wasd_field *f = rows; f && f->name; f++) {
		char *path = wasd_asprintf("%s/%s", at, f->name);
		char *below = wasd_asprintf("%s%s", path, f->type == WASD_LIST ? "/N" : "");
		look(f, path);
		walk(f->sub, below);
		wasd_free(below);
		wasd_free(path);
	}
}

static void ranges(void)
{
	walk(wasd_spec, "");
}

/* A spec of only a dataset and a network gets every member that has a default. */
static void check_defaults(const struct wasd_field *rows, const char *at, const cJSON *canon)
{
	for (const struct wasd_field *f = rows; f && f->name; f++) {
		const cJSON *got = wasd_json_get(canon, f->name);
		cJSON *def = f->def && !f->implied ? cJSON_Parse(f->def) : NULL;
		if (!def)
			CHECK_MSG(!got || f->required || f->form || !strcmp(f->name, "mode"), "%s/%s is there without a default",
			          at, f->name);
		else if (cJSON_IsNumber(def) || cJSON_IsString(def) || cJSON_IsBool(def) || f->null_ok)
			CHECK_MSG(cJSON_Compare(got, def, true), "%s/%s is not %s", at, f->name, f->def);
		else
			CHECK_MSG(got, "%s/%s is missing", at, f->name);
		cJSON_Delete(def);
		char *below = wasd_asprintf("%s/%s", at, f->name);
		if (f->type == WASD_OBJECT && cJSON_IsObject(got) && strcmp(f->name, "model"))
			check_defaults(f->sub, below, got);
		wasd_free(below);
	}
}

static void defaults(void)
{
	struct api_faults faults = {0};
	cJSON *in = cJSON_Parse("{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"train\":{\"early_stop\":{}}}");
	cJSON *out = spec_canon(in, t.caps, &faults);
	cJSON_ReplaceItemInObject(wasd_json_get(in, "train") ? cJSON_GetObjectItem(in, "train") : in, "early_stop",
	                          cJSON_CreateNull());
	CHECK(out);
	const cJSON *stop = wasd_json_get(wasd_json_get(out, "train"), "early_stop");
	check_defaults(wasd_spec_at("/train/early_stop")->sub, "/train/early_stop", stop);
	cJSON_Delete(out);
	out = spec_canon(in, t.caps, &faults);
	check_defaults(wasd_spec, "", out);
	api_faults_done(&faults);
	cJSON_Delete(out);
	cJSON_Delete(in);
}

/* Every form named by a row has a function, and each is named once. */
static void forms(void)
{
	for (const struct field_form *f = field_forms; f->name; f++)
		for (const struct field_form *g = f + 1; g->name; g++)
			CHECK_MSG(strcmp(f->name, g->name), "%s is there twice", f->name);
}

int main(void)
{
	t.caps = cJSON_Parse(test_caps);
	TEST_RUN(ranges);
	TEST_RUN(defaults);
	TEST_RUN(forms);
	cJSON_Delete(t.caps);
	TEST_END();
}
