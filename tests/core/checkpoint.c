/* Checkpoint files: a file that was written is read back, and a damaged file is rejected with the name of the faulty
 * part. */
#include "tiny.h"

#include "train/checkpoint.h"
#include "wasd/infer.h"
#include "wasd/model.h"

static struct wasd_dataset *data, *small;
static struct tiny_run lenet, resnet;
static const char *const lenet_spec = "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":32}}";
static const char *const resnet_spec = "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":32}}";

/* The list of modes: AOM, the weights as they are, and with WAS the recorded draw. */
static void has_modes(const struct tiny_run *r, int n)
{
	struct checkpoint c = {0};
	struct mode m;
	double macs[2] = {0};
	CHECK(!checkpoint_open(r->file, r->len, &c, NULL));
	CHECK_INT(cJSON_GetArraySize(c.modes), n);
	for (int i = 0; i < n; i++) {
		CHECK(!mode_read(cJSON_GetArrayItem(c.modes, i), &m, NULL) && m.measured);
		CHECK_STR(m.name, tiny_modes[i]);
		CHECK(m.kind == (i ? &mode_draw : &mode_plain) && cJSON_IsArray(m.recipe) == (i == 1));
		CHECK_STR(m.statistics, i ? "dom." : "");
		CHECK(wasd_json_num(cJSON_GetArrayItem(c.modes, i), "macs", &macs[i]) && macs[i] > 0 && macs[i] <= macs[0]);
	}
	checkpoint_done(&c);
}

static void holds_everything(void)
{
	struct wasd_st *st = NULL;
	CHECK(!wasd_st_open(resnet.file, resnet.len, &st, NULL));
	static const char *const tensors[] = {"conv.weight",
	                                      "bn.running_mean",
	                                      "dom.bn.running_var",
	                                      "train.bn.running_mean",
	                                      "optim.momentum.conv.weight",
	                                      "state.rng.was",
	                                      "state.rng.dropout"};
	for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
		CHECK_MSG(wasd_st_find(st, tensors[i]), "%s is missing", tensors[i]);
	static const char *const meta[] = {"format", "spec",     "arch",        "classes",        "input",  "modes",
	                                   "was",    "progress", "fingerprint", "dataset_digest", "prepare"};
	for (size_t i = 0; i < sizeof meta / sizeof *meta; i++)
		CHECK_MSG(wasd_st_meta(st, meta[i]), "%s is missing", meta[i]);
	CHECK_STR(wasd_st_meta(st, "format"), "wasd-checkpoint-2");
	CHECK_STR(wasd_st_meta(st, "arch"), "resnet18");
	CHECK_STR(wasd_st_meta(st, "dataset_digest"), wasd_dataset_digest(small));
	wasd_st_close(st);
	CHECK(!wasd_st_open(lenet.file, lenet.len, &st, NULL));
	has_modes(&lenet, 1);
	has_modes(&resnet, 2);
	CHECK_STR(wasd_st_meta(st, "was"), "false");
	wasd_st_close(st);
}

/* ---- damage ------------------------------------------------------------------------------------------------ */

/* A copy of a checkpoint with one change: a metadata value, or a tensor's name, shape or first value. */
struct damage {
	const char *why, *meta, *value; /* metadata member and its new value; value NULL: omitted */
	const char *tensor, *renamed;   /* renamed NULL: omitted */
	bool reshape;                   /* (a,b) becomes (a*b) */
	double first;                   /* if not 0: new value of the first element */
	const char *culprit;            /* err.pointer */
};

static const struct damage damages[] = {
	{.why = "another format version", .meta = "format", .value = "wasd-checkpoint-9", .culprit = "format"},
	{.why = "no format", .meta = "format", .culprit = "format"},
	{.why = "unknown network", .meta = "arch", .value = "lenet9", .culprit = "arch"},
	{.why = "spec is no JSON", .meta = "spec", .value = "{", .culprit = "spec"},
	{.why = "spec is no object", .meta = "spec", .value = "[]", .culprit = "spec"},
	{.why = "no progress", .meta = "progress", .culprit = "progress"},
	{.why = "progress without an epoch", .meta = "progress", .value = "{}", .culprit = "progress"},
	{.why = "class names are numbers", .meta = "classes", .value = "[1,2]", .culprit = "classes"},
	{.why = "no class", .meta = "classes", .value = "[]", .culprit = "classes"},
	{.why = "input of two dimensions", .meta = "input", .value = "[3,32]", .culprit = "input"},
	{.why = "input of no pixels", .meta = "input", .value = "[3,0,32]", .culprit = "input"},
	{.why = "pictures prepared in no known way",
     .meta = "prepare",
     .value = "{\"fit\":\"tile\"}",
     .culprit = "prepare"},
#define MODE_REST "\"recipe\":null,\"statistics\":\"\",\"measured\":true"
	{.why = "modes is a word", .meta = "modes", .value = "\"left\"", .culprit = "modes"},
	{.why = "no modes", .meta = "modes", .value = "[]", .culprit = "modes"},
	{.why = "a mode without a name",
     .meta = "modes",
     .value = "[{\"kind\":\"plain\"," MODE_REST "}]",
     .culprit = "modes"},
	{.why = "a mode with no possible name",
     .meta = "modes",
     .value = "[{\"name\":\"Aom\",\"kind\":\"plain\"," MODE_REST "}]",
     .culprit = "modes"},
	{.why = "a mode of an unknown kind",
     .meta = "modes",
     .value = "[{\"name\":\"aom\",\"kind\":\"plainer\"," MODE_REST "}]",
     .culprit = "modes"},
	{.why = "a mode without statistics",
     .meta = "modes",
     .value = "[{\"name\":\"aom\",\"kind\":\"plain\",\"measured\":true}]",
     .culprit = "modes"},
	{.why = "a mode twice",
     .meta = "modes",
     .value = "[{\"name\":\"aom\",\"kind\":\"plain\"," MODE_REST "},{\"name\":\"aom\",\"kind\":\"plain\"," MODE_REST
              "}]",
     .culprit = "modes"},
	{.why = "a weight is missing", .tensor = "f2.weight", .culprit = "f2.weight"},
	{.why = "a weight has another name", .tensor = "f2.weight", .renamed = "f9.weight", .culprit = "f9.weight"},
	{.why = "a weight has another shape",
     .tensor = "f2.weight",
     .renamed = "f2.weight",
     .reshape = true,
     .culprit = "f2.weight"},
	{.why = "a weight is NaN", .tensor = "conv2.bias", .renamed = "conv2.bias", .first = NAN, .culprit = "conv2.bias"},
	{.why = "a weight is infinite",
     .tensor = "conv2.bias",
     .renamed = "conv2.bias",
     .first = INFINITY,
     .culprit = "conv2.bias"},
	{.why = "momentum is missing", .tensor = "optim.momentum.f1.bias", .culprit = "optim.momentum.f1.bias"},
	{.why = "a momentum is NaN",
     .tensor = "optim.momentum.f1.bias",
     .renamed = "optim.momentum.f1.bias",
     .first = NAN,
     .culprit = "optim.momentum.f1.bias"},
	{.why = "no generator", .tensor = "state.rng.dropout", .culprit = "state.rng.dropout"},
};

static char *damaged(const struct tiny_run *from, const struct damage *d, size_t *len)
{
	static const char *const meta[] = {"format", "spec",     "arch",        "classes",        "input",  "modes",
	                                   "was",    "progress", "fingerprint", "dataset_digest", "prepare"};
	struct wasd_st *st = NULL;
	struct wasd_st_writer *w = wasd_st_writer_create();
	char *copy = wasd_malloc(from->len), *out;
	memcpy(copy, from->file, from->len);
	CHECK(!wasd_st_open(copy, from->len, &st, NULL));
	for (size_t i = 0; i < sizeof meta / sizeof *meta; i++) {
		const char *value = d->meta && !strcmp(d->meta, meta[i]) ? d->value : wasd_st_meta(st, meta[i]);
		if (value)
			wasd_st_writer_meta(w, meta[i], value);
	}
	for (size_t i = 0; i < wasd_st_count(st); i++) {
		const struct wasd_st_tensor *t = wasd_st_at(st, i);
		const char *name = d->tensor && !strcmp(d->tensor, t->name) ? d->renamed : t->name;
		bool hit = d->tensor && !strcmp(d->tensor, t->name);
		if (!name)
			continue;
		if (hit && d->first != 0) {
			if (t->dtype == WASD_F32)
				memcpy((char *)t->data, &(float){(float)d->first}, 4);
			else
				memcpy((char *)t->data, &d->first, 8);
		}
		if (hit && d->reshape)
			wasd_st_writer_add(w, name, t->dtype, 1, &t->count, t->data);
		else
			wasd_st_writer_add(w, name, t->dtype, t->ndims, t->dims, t->data);
	}
	CHECK(!wasd_st_writer_size(w, len, NULL));
	out = wasd_malloc(*len);
	CHECK(!wasd_st_writer_write(w, out, *len, NULL));
	wasd_st_writer_destroy(w);
	wasd_st_close(st);
	wasd_free(copy);
	return out;
}

static enum wasd_status try_resume(const char *spec, const struct wasd_dataset *d, const void *file, size_t len,
                                   struct wasd_err *err)
{
	cJSON *j = cJSON_Parse(spec);
	struct wasd_trainer *t = NULL;
	struct wasd_train_opts o = {.spec = j, .data = d, .resume = file, .resume_len = len};
	enum wasd_status s = wasd_trainer_create(&o, &t, err);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	return s;
}

static void damage_is_refused(void)
{
	for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
		const struct damage *d = &damages[i];
		struct wasd_err err = {0};
		size_t len = 0;
		char *file = damaged(&lenet, d, &len);
		enum wasd_status s = try_resume(lenet_spec, data, file, len, &err);
		CHECK_MSG(s == WASD_ECORRUPT, "%s: %s (%s)", d->why, wasd_status_name(s), err.msg);
		CHECK_MSG(!strcmp(err.pointer, d->culprit), "%s: culprit %s, want %s (%s)", d->why, err.pointer, d->culprit,
		          err.msg);
		wasd_free(file);
	}
	/* Copying works: an undamaged copy is accepted. */
	struct wasd_err err = {0};
	size_t len = 0;
	char *file = damaged(&lenet, &(struct damage){0}, &len);
	CHECK_MSG(!try_resume(lenet_spec, data, file, len, &err), "%s", err.msg);
	wasd_free(file);
}

/* Serving prepares pictures as recorded with the training data; for a file without such a record, it uses the old
 * behaviour. */
static void pictures_are_read_as_recorded(void)
{
	static const struct {
		struct damage change;
		bool recorded;
		enum wasd_fit fit;
	} rows[] = {
		{{0}, true, WASD_SQUEEZE},
		{{.meta = "prepare"}, false, WASD_SQUEEZE},
		{{.meta = "prepare", .value = "{\"fit\":\"crop\"}"}, true, WASD_CROP},
		{{.meta = "prepare", .value = "{\"fit\":\"crops\"}"}, true, WASD_CROPS},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_bundle *b = NULL;
		struct wasd_err err = {0};
		size_t len = 0;
		char *file = damaged(&lenet, &rows[i].change, &len);
		CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, "aom"), &b, &err), "%s", err.msg);
		if (b) {
			const struct wasd_prepare *p = wasd_bundle_prepare(b);
			int white = rows[i].recorded ? 255 : 0;
			CHECK(p->fit == rows[i].fit && p->upright == rows[i].recorded && p->reduce == rows[i].recorded);
			CHECK(p->background[0] == white && p->background[1] == white && p->background[2] == white);
		}
		wasd_bundle_unref(b);
		wasd_free(file);
	}
}

static void negative_variance_is_refused(void)
{
	static const struct damage d = {.tensor = "dom.bn.running_var", .renamed = "dom.bn.running_var", .first = -1};
	struct wasd_err err = {0};
	struct wasd_bundle *b = NULL;
	size_t len = 0;
	char *file = damaged(&resnet, &d, &len);
	CHECK_INT(wasd_bundle_create(TINY_MODE(file, len, "dom"), &b, &err), WASD_ECORRUPT);
	CHECK_STR(err.pointer, d.tensor);
	wasd_free(file);
}

static void truncation_and_noise_are_refused(void)
{
	struct wasd_err err = {0};
	for (size_t cut = 1; cut < lenet.len; cut = cut * 3 + 1)
		CHECK_MSG(try_resume(lenet_spec, data, lenet.file, lenet.len - cut, &err) == WASD_ECORRUPT,
		          "%zu bytes short: %s", cut, err.msg);
	/* A flipped bit in the header is rejected or, inside a string that nothing compares, harmless; it never crashes. */
	struct wasd_rng r;
	wasd_rng_init(&r, 3, "test", 0, 0);
	char *copy = wasd_malloc(lenet.len);
	for (int i = 0; i < 300; i++) {
		memcpy(copy, lenet.file, lenet.len);
		copy[wasd_rng_below(&r, 6000)] ^= (char)(1 << wasd_rng_below(&r, 8));
		try_resume(lenet_spec, data, copy, lenet.len, &err);
	}
	wasd_free(copy);
}

static void another_run_is_refused(void)
{
	static const struct {
		const char *why, *spec, *culprit;
	} cases[] = {
		{"another network", "{\"model\":{\"arch\":\"vgg16\"},\"train\":{\"epochs\":1,\"batch\":32}}", "arch"},
		{"another batch", "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":16}}", "spec"},
		{"other settings",
	     "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":32,\"label_smoothing\":0.1}}", "spec"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wasd_err err = {0};
		CHECK_MSG(try_resume(cases[i].spec, data, lenet.file, lenet.len, &err) == WASD_ECORRUPT, "%s: taken",
		          cases[i].why);
		CHECK_MSG(!strcmp(err.pointer, cases[i].culprit), "%s: %s", cases[i].why, err.msg);
	}
	char path[96];
	struct wasd_err err = {0};
	struct wasd_dataset *other = tiny_glyphs("other", 60, 20, 32, path);
	CHECK_INT(try_resume(lenet_spec, other, lenet.file, lenet.len, &err), WASD_ECORRUPT);
	CHECK_STR(err.pointer, "dataset_digest");
	wasd_dataset_close(other);
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	data = tiny_glyphs("data", 64, 20, 32, path);
	small = tiny_glyphs("small", 32, 8, 16, path);
	tiny_go(&lenet, lenet_spec, data);
	tiny_go(&resnet, resnet_spec, small);
	if (lenet.status || resnet.status)
		printf("not ok training for the checkpoints: %s%s\n", lenet.err.msg, resnet.err.msg);
	TEST_RUN(holds_everything);
	TEST_RUN(damage_is_refused);
	TEST_RUN(pictures_are_read_as_recorded);
	TEST_RUN(negative_variance_is_refused);
	TEST_RUN(truncation_and_noise_are_refused);
	TEST_RUN(another_run_is_refused);
	tiny_done(&lenet);
	tiny_done(&resnet);
	wasd_dataset_close(data);
	wasd_dataset_close(small);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
