/* The trainer: the same bits wherever a run is cut, no allocation in a step, ends of runs, and rejected specs. */
#include "tiny.h"

#include "backend/backend.h"
#include "wasd/infer.h"
#include "wasd/model.h"

static struct wasd_dataset *big, *many, *small; /* 200 and 600 of 32x32, 80 of 16x16 */

/* ---- a cut run gives the bits of an uncut one ------------------------------------------------------- */

static const struct {
	const char *name, *spec;
	bool small;
	int cuts;
} resumed[] = {
	{"LeNet, SGD with momentum, augmentation, cosine",
     "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":3,\"batch\":32,\"seed\":5,\"augment\":[\"flip\",{\"type\":\"crop\",\"pad\":2},\"color_jitter\",{\"type\":\"cutout\",\"size\":8}],\"label_smoothing\":0.1,"
     "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.02,\"momentum\":0.9,\"nesterov\":true,\"weight_decay\":0.0005},\"schedule\":{\"type\":\"cosine\",\"warmup_epochs\":1}}}",
     false, 6},
	{"LeNet, AdamW, evaluation every second epoch",
     "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":3,\"batch\":48,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}},\"eval\":{\"every\":2}}",
     false, 6},
	{"LeNet on part of the images",
     "{\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":0.7},\"train\":{\"epochs\":3,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}}}",
     false, 3},
	{"LeNet with WAS on layers by pattern, with a probability that rises",
     "{\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"conv*\",\"transforms\":[{\"type\":\"translate\"},{\"type\":\"rotate\"}],"
     "\"probability\":{\"from\":0.25,\"epochs\":3}},\"train\":{\"epochs\":5,\"batch\":32}}",
     false, 6},
	{"LeNet with WAS in groups, all taps equal in some",
     "{\"model\":{\"arch\":\"lenet\"},\"was\":{\"transforms\":[{\"type\":\"translate\"},{\"type\":\"scale\",\"scale\":[4,5]},{\"type\":\"hflip\"}],\"groups\":3},"
     "\"train\":{\"epochs\":2,\"batch\":32}}",
     false, 4},
	{"LeNet with WAS drawn per epoch, with a probability that falls",
     "{\"model\":{\"arch\":\"lenet\"},\"was\":{\"transforms\":[{\"type\":\"shear\"},{\"type\":\"scale\"}],\"draw\":\"epoch\","
     "\"probability\":{\"from\":1,\"to\":0.5,\"epochs\":2}},\"train\":{\"epochs\":4,\"batch\":32}}",
     false, 6},
	{"LeNet trained for a profile, with fresh draws in between",
     "{\"model\":{\"arch\":\"lenet\"},\"was\":{\"transforms\":[{\"type\":\"translate\"}],\"draw\":\"profile:fast\",\"odds\":{\"plain\":2,\"profile\":2,\"fresh\":1},"
     "\"profile\":[{\"layer\":\"conv1\",\"op\":\"translate\",\"params\":{\"dx\":1,\"dy\":0}},{\"layer\":\"conv2\",\"op\":\"translate\",\"params\":{\"dx\":-1,\"dy\":0}}]},"
     "\"train\":{\"epochs\":3,\"batch\":32}}",
     false, 5},
	{"LeNet pruned by magnitude, with the weights of epoch 1 in epoch 3",
     "{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"magnitude\",\"begin\":0.5,\"end\":2,\"every\":2,\"retrain\":\"weights\",\"to_epoch\":1}],"
     "\"train\":{\"epochs\":3,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001},\"schedule\":{\"type\":\"cosine\"}}}",
     false, 6},
	{"LeNet pruned by its momentum",
     "{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"weightmom\",\"begin\":0.3,\"end\":1.5,\"events\":5,\"score\":\"velocity\"}],"
     "\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.02}}}",
     false, 4},
	{"LeNet through a compander, with WAS, pruned",
     "{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"compander\",\"unit\":\"std\"},{\"type\":\"magnitude\",\"every\":3,\"layers\":\"!conv1\"},"
     "{\"type\":\"was\",\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\"}]}],"
     "\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}}}",
     false, 5},
	{"LeNet with WAS, pruned at random",
     "{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"magnitude\",\"sparsity\":0.5,\"begin\":0,\"every\":3,\"criterion\":\"random\",\"collect\":true,\"scope\":\"global\"},"
     "{\"type\":\"was\",\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\"}]}],\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.05,\"weight_decay\":0.01}}}",
     false, 5},
	{"LeNet that loses filters and rows",
     "{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"structured\",\"end\":1.5,\"every\":3,\"round_to\":2}],"
     "\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}}}",
     false, 5},
	{"VGG-16 with WAS: dropout, a draw per step",
     "{\"model\":{\"arch\":\"vgg16\"},\"train\":{\"epochs\":2,\"batch\":16,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01,\"momentum\":0.9}}}",
     true, 3},
	{"ResNet-18 with WAS: a draw per epoch, AdamW",
     "{\"model\":{\"arch\":\"resnet18\"},\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1},"
     "{\"type\":\"resized_crop\",\"scale\":[0.8,1.0],\"weight\":1}],\"draw\":\"epoch\"},"
     "\"train\":{\"epochs\":2,\"batch\":16,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}}}",
     true, 3},
	{"ResNet-18, plain weights",
     "{\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"train\":{\"epochs\":2,\"batch\":16}}", true, 2},
	{"ResNet-18 with WAS in bfloat16",
     "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":2,\"batch\":16,\"precision\":\"bf16\"}}", true, 2},
	{"ResNet-18 with WAS in plain sums of products",
     "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":2,\"batch\":16,\"precision\":\"fp32-strict\"}}", true,
     2},
};

static void resume_is_bit_exact(void)
{
	struct wasd_rng random;
	wasd_rng_init(&random, 20, "test", 0, 0);
	for (size_t i = 0; i < sizeof resumed / sizeof *resumed; i++) {
		const struct backend *any;
		if (resumed[i].small && sizeof(real) == 8)
			continue; /* the large networks: the float build tests the same in half the time */
		if (strstr(resumed[i].spec, "bf16") && backend_choose(NULL, WASD_PRECISION_BF16, &any, NULL))
			continue; /* this processor does not support it */
		const struct wasd_dataset *data = resumed[i].small ? small : big;
		struct tiny_run straight = {0}, cut = {0};
		tiny_go(&straight, resumed[i].spec, data);
		CHECK_MSG(!straight.status, "%s: %s", resumed[i].name, straight.err.msg);
		CHECK_INT(straight.end, WASD_TRAIN_DONE);
		CHECK_STR(straight.reason, "final");
		int attempts = 0, most = straight.polls;
		do {
			cut.stop_at = attempts < resumed[i].cuts ?
			                  1 + (int)wasd_rng_below(&random, (uint32_t)most * 2 / (uint32_t)resumed[i].cuts) :
			                  0;
			tiny_go(&cut, resumed[i].spec, data);
			CHECK_MSG(!cut.status, "%s: %s", resumed[i].name, cut.err.msg);
			if (cut.end == WASD_TRAIN_CANCELLED)
				CHECK_STR(cut.reason, "cancel");
			attempts++;
		} while (!cut.status && cut.end == WASD_TRAIN_CANCELLED && attempts < 50);
		CHECK_MSG(attempts > 1, "%s: was never cut", resumed[i].name);
		CHECK_INT(cut.end, WASD_TRAIN_DONE);
		CHECK_MSG(!strcmp(cut.sha, straight.sha), "%s: weights differ after %d attempts", resumed[i].name, attempts);
		for (int e = 1; e <= straight.epoch; e++)
			for (int k = 0; k < TINY_NAMES; k++) {
				double a = straight.value[e][k], b = cut.value[e][k];
				CHECK_MSG(a == b || (isnan(a) && isnan(b)), "%s: epoch %d: %s is %.17g, uncut %.17g", resumed[i].name,
				          e, tiny_names[k], b, a);
			}
		printf("# %s: %d attempts, train_loss %.4f\n", resumed[i].name, attempts, straight.value[straight.epoch][0]);
		tiny_done(&straight);
		tiny_done(&cut);
	}
}

/* Pauses at the end of given epochs, whether evaluations and checkpoints are due there or not, evaluates there, and
 * ends with the bits of a run without pauses. */
static void pauses_at_an_epoch(void)
{
	static const char spec[] =
		"{\"model\":{\"arch\":\"lenet\"},\"was\":{\"transforms\":[{\"type\":\"translate\"}],\"layers\":\"all\"},\"train\":{\"epochs\":9,\"batch\":64,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.05,\"momentum\":0.9},"
		"\"schedule\":{\"type\":\"cosine\"}},\"eval\":{\"every\":4},\"checkpoint\":{\"every\":5,\"keep\":{\"best\":0}}}";
	struct tiny_run straight = {0}, cut = {0};
	tiny_go(&straight, spec, big);
	CHECK_MSG(!straight.status, "%s", straight.err.msg);
	for (int k = 0; k < 3; k++) {
		cut.until = (const int[]){1, 3, 0}[k];
		for (int again = 0; again < (cut.until ? 2 : 1);
		     again++) { /* resumed where it is to pause: again nothing to do */
			int checkpoints = cut.checkpoints;
			tiny_go(&cut, spec, big);
			CHECK_MSG(!cut.status, "%s", cut.err.msg);
			CHECK_INT(cut.end, cut.until ? WASD_TRAIN_PAUSED : WASD_TRAIN_DONE);
			CHECK_STR(cut.reason, cut.until ? "epoch" : "final");
			if (cut.until)
				CHECK(cut.epoch == cut.until && cut.checkpoints == checkpoints + !again);
		}
	}
	CHECK_STR(cut.sha, straight.sha);
	for (int e = 1; e <= 9; e++)
		for (int v = 0; v < TINY_NAMES; v++) {
			double a = straight.value[e][v], b = cut.value[e][v];
			bool extra = (e == 1 || e == 3) && !strncmp(tiny_names[v], "val_", 4);
			CHECK_MSG(extra ? isnan(a) && !isnan(b) : a == b || (isnan(a) && isnan(b)),
			          "epoch %d: %s is %.17g, without pauses %.17g", e, tiny_names[v], b, a);
		}
	tiny_done(&straight);
	tiny_done(&cut);
	cut.until = 9; /* the last epoch is the end */
	tiny_go(&cut, spec, big);
	CHECK_INT(cut.end, WASD_TRAIN_DONE);
	tiny_done(&cut);
}

/* The evaluation of a pause counts for the sweep, not for early stopping. */
static void a_pause_stops_nothing_early(void)
{
	static const char spec[] =
		"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":9,\"batch\":64,\"early_stop\":{\"patience\":1,\"metric\":\"val_loss_aom\",\"mode\":\"max\"}},"
		"\"eval\":{\"every\":4},\"checkpoint\":{\"every\":9,\"keep\":{\"best\":0}}}";
	struct tiny_run cut = {.until = 1};
	tiny_go(&cut, spec, big);
	CHECK_MSG(!cut.status, "%s", cut.err.msg);
	CHECK_INT(cut.end, WASD_TRAIN_PAUSED);
	cut.until = 0;
	tiny_go(&cut, spec, big);
	CHECK_MSG(!cut.status, "%s", cut.err.msg);
	CHECK_INT(cut.end, WASD_TRAIN_EARLY_STOPPED);
	CHECK_MSG(cut.epoch == 8 && cut.value[1][2] > cut.value[4][2], "epoch %d", cut.epoch);
	tiny_done(&cut);
}

/* ---- the curves by step ---- */

static void points_have_a_stride(void)
{
	static const struct {
		uint64_t step, stride;
	} rows[] = {{1, 1},    {1000, 1},       {1001, 2},
	            {2000, 2}, {2001, 4},       {4000, 4},
	            {4001, 8}, {1000000, 1024}, {UINT64_C(1) << 40, UINT64_C(1) << 31}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		CHECK_INT(wasd_loss_stride(rows[i].step), rows[i].stride);
}

#define LONG \
	"{\"model\":{\"arch\":\"lenet\"},\"was\":false,\"train\":{\"epochs\":7,\"batch\":1,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01},\"schedule\":{\"type\":\"cosine\"}},\"eval\":{\"every\":7},\"checkpoint\":{\"every\":1000}}"

/* Cut between two points of a stride of 2: the resumed run has bit-identical points to an uncut one. */
static void points_survive_a_cut(void)
{
	static double straight_points[2000][3], cut_points[2000][3];
	struct tiny_run straight = {.points = straight_points}, cut = {.points = cut_points, .stop_at = 1104};
	tiny_go(&straight, LONG, big);
	tiny_go(&cut, LONG, big);
	CHECK_INT(cut.end, WASD_TRAIN_CANCELLED);
	CHECK(cut.n_points > 1000 && cut.n_points < straight.n_points);
	cut.stop_at = 0;
	tiny_go(&cut, LONG, big);
	CHECK_MSG(!cut.status && !straight.status, "%s%s", cut.err.msg, straight.err.msg);
	CHECK_INT(cut.n_points, straight.n_points);
	for (int i = 0; i < straight.n_points && i < cut.n_points; i++)
		CHECK_MSG(!memcmp(cut_points[i], straight_points[i], sizeof cut_points[i]),
		          "point %d: step %g %.17g, uncut step %g %.17g", i, cut_points[i][0], cut_points[i][1],
		          straight_points[i][0], straight_points[i][1]);
	CHECK(straight_points[999][0] == 1000 && straight_points[1000][0] == 1002);
	CHECK(straight_points[1][2] < 0.01 && straight_points[1000][2] < straight_points[999][2]);
	tiny_done(&straight);
	tiny_done(&cut);
}

/* ---- no allocation between two steps -------------------------------------------------------------------- */

static uint64_t allocs_at[64];
static int allocs_n;

static bool note_allocs(void *ctx)
{
	(void)ctx;
	if (allocs_n < 64)
		allocs_at[allocs_n++] = wasd_mem_stats().allocs;
	return false;
}

static void steps_allocate_nothing(void)
{
	static const struct {
		const char *arch;
		struct wasd_dataset **data;
	} nets[] = {{"lenet", &big}, {"vgg16", &small}, {"resnet18", &small}};
	for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
		char spec[160];
		snprintf(
			spec, sizeof spec,
			"{\"model\":{\"arch\":\"%s\"},\"train\":{\"epochs\":1,\"batch\":16,\"augment\":[\"flip\",\"crop\"]},\"checkpoint\":{\"every\":1000}}",
			nets[i].arch);
		cJSON *j = cJSON_Parse(spec);
		struct wasd_trainer *t = NULL;
		struct wasd_err err = {0};
		struct wasd_train_opts o = {.spec = j, .data = *nets[i].data};
		struct wasd_train_hooks h = {.should_stop = note_allocs};
		enum wasd_train_end end;
		allocs_n = 0;
		CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s", err.msg);
		int steps = (int)wasd_trainer_info(t).steps_per_epoch;
		CHECK_MSG(!wasd_trainer_run(t, &h, &end, NULL, &err), "%s", err.msg);
		CHECK(steps >= 3 && allocs_n > steps);
		for (int k = 1; k < steps; k++)
			CHECK_MSG(allocs_at[k] == allocs_at[0], "%s: %d allocations before step %d", nets[i].arch,
			          (int)(allocs_at[k] - allocs_at[0]), k + 1);
		wasd_trainer_destroy(t);
		cJSON_Delete(j);
	}
}

/* ---- the ends of a run --------------------------------------------------------------------------------------- */

#define LEARNS \
	"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"batch\":16,\"seed\":3,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001},"

static void learns(void)
{
	struct tiny_run r = {0};
	tiny_go(&r, LEARNS "\"epochs\":5},\"checkpoint\":{\"every\":2}}", many);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK_INT(r.epoch, 5);
	CHECK_MSG(r.value[5][0] < 0.92 * r.value[1][0], "train_loss went from %g to %g", r.value[1][0], r.value[5][0]);
	CHECK(r.checkpoints >= 3);
	CHECK(isnan(r.value[5][4])); /* LeNet is not augmented: no DOM */
	tiny_done(&r);
}

/* A run reports the probability of transforming layers in each epoch; a run without WAS reports none. */
static void probability_is_reported(void)
{
	static const double want[] = {0.2, 0.6, 1, 1};
	struct tiny_run r = {0}, plain = {0};
	tiny_go(
		&r,
		"{\"model\":{\"arch\":\"lenet\"},\"was\":{\"transforms\":[{\"type\":\"translate\"}],\"probability\":{\"from\":0.2,\"epochs\":2}},"
		"\"train\":{\"epochs\":4,\"batch\":64}}",
		big);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	for (int e = 0; e < 4; e++)
		CHECK_NEAR(r.value[e + 1][7], want[e], 1e-15);
	tiny_go(&plain, "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":64}}", big);
	CHECK(isnan(plain.value[1][7]));
	tiny_done(&r);
	tiny_done(&plain);
}

static void note_warning(void *ctx, const char *level, const char *text)
{
	char(*warnings)[900] = ctx;
	if (!strcmp(level, "warn"))
		snprintf(*warnings + strlen(*warnings), sizeof *warnings - strlen(*warnings), "%s\n", text);
}

/* A layer with a negative alpha is named once; a layer with the constant alpha 1 is not. */
static void negative_alpha_is_told(void)
{
#define SIGNS \
	"{\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":4},{\"type\":\"conv\",\"augment\":true,\"name\":\"odd\"},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},\"train\":{\"epochs\":2,\"batch\":64,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.0001}},"
	static const struct {
		const char *spec;
		double alpha;
		bool told;
	} rows[] = {
		{SIGNS "\"was\":{\"alpha\":\"learned\"}}", 0.5, false},
		{SIGNS "\"was\":{\"alpha\":\"learned\"}}", -0.5, true},
		{SIGNS "\"was\":{\"alpha\":\"fixed\"}}", -0.5, false},
		{SIGNS "\"was\":{\"alpha\":\"learned\"}}", 0.004, false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char warnings[900] = "";
		cJSON *j = cJSON_Parse(rows[i].spec);
		struct wasd_trainer *t = NULL;
		struct wasd_err err = {0};
		enum wasd_train_end end;
		struct wasd_train_opts o = {.spec = j, .data = big};
		struct wasd_train_hooks h = {.ctx = warnings, .log = note_warning};
		CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s: %s", err.pointer, err.msg);
		if (t) {
			struct wasd_model *m = wasd_trainer_model(t);
			struct wasd_aug_info a = wasd_graph_aug_info(wasd_model_graph(m), 1);
			CHECK_STR(a.layer, "odd");
			wasd_model_master(
				m)[wasd_graph_param_info(wasd_model_graph(m), a.alpha_param).offset + (size_t)a.alpha_index] =
				(real)rows[i].alpha;
			CHECK_MSG(!wasd_trainer_run(t, &h, &end, NULL, &err), "%s", err.msg);
			const char *told = strstr(warnings, "alpha of odd has become negative (-0.5)");
			CHECK_MSG((strstr(warnings, "alpha of odd is near 0 (") != NULL) == (rows[i].alpha == 0.004), "row %zu: %s",
			          i, warnings);
			CHECK_MSG((told != NULL) == rows[i].told && !(told && strstr(told + 1, "alpha of")), "row %zu: %s", i,
			          warnings);
		}
		wasd_trainer_destroy(t);
		cJSON_Delete(j);
	}
}

static void cancel_stops_within_a_batch(void)
{
	for (int at = 1; at < 12; at += 5) {
		struct tiny_run r = {.stop_at = at};
		tiny_go(&r, "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":3,\"batch\":32}}", big);
		CHECK_MSG(!r.status, "%s", r.err.msg);
		CHECK_INT(r.polls, at);
		CHECK_INT(r.end, WASD_TRAIN_CANCELLED);
		CHECK_STR(r.reason, "cancel");
		tiny_done(&r);
	}
}

struct heard {
	int n;
	struct {
		char code[40];
		int epoch;
		char message[400];
	} last[8];
};

static void hear(void *ctx, const char *code, int epoch, const char *message)
{
	struct heard *h = ctx;
	int i = 0;
	while (i < h->n && strcmp(h->last[i].code, code))
		i++;
	if (i == 8)
		return;
	h->n += i == h->n;
	snprintf(h->last[i].code, sizeof h->last[i].code, "%s", code);
	snprintf(h->last[i].message, sizeof h->last[i].message, "%s", message);
	h->last[i].epoch = epoch;
}

/* The warnings of a run: each code with the last epoch in which it was true, and nothing else. A network of zeros
 * predicts class 0 with the loss of guessing. */
static void warnings_of_a_run(void)
{
	static const struct {
		const char *spec;
		double scale;
		const char *codes[3];
		int epochs[3];
		const char *says, *why;
	} rows[] = {
		{"{\"model\":{\"arch\":\"lenet\",\"published\":false},\"train\":{\"epochs\":4,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-9,\"momentum\":0}}}",
	     0,
	     {"few_validation_images", "class_never_predicted", "loss_stands_still"},
	     {0, 4, 4},
	     "of the 10 classes",
	     "a dead network"},
		{"{\"model\":{\"arch\":\"lenet\",\"published\":false},\"train\":{\"epochs\":2,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-9,\"momentum\":0}}}",
	     0,
	     {"few_validation_images", "class_never_predicted", NULL},
	     {0, 2},
	     "19 images are held out",
	     "one epoch behind the first says nothing of the loss"},
		{"{\"model\":{\"arch\":\"lenet\",\"published\":false},\"data\":{\"val_fraction\":0},\"train\":{\"epochs\":1,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01}}}",
	     1,
	     {NULL},
	     {0},
	     "",
	     "one evaluation by the test images"},
		{"{\"model\":{\"arch\":\"lenet\",\"published\":false},\"data\":{\"limit\":9},\"train\":{\"epochs\":1,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01}}}",
	     1,
	     {"few_validation_images", "class_without_training_images"},
	     {0, 0},
	     "of 10 classes have no training image",
	     "fewer images than classes"},
	};
	struct wasd_dataset *data;
	char path[96];
	data = tiny_glyphs("few", 190, 50, 32, path);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		cJSON *j = cJSON_Parse(rows[i].spec);
		struct wasd_trainer *t = NULL;
		struct wasd_err err = {0};
		struct heard h = {0};
		enum wasd_train_end end;
		struct wasd_train_opts o = {.spec = j, .data = data};
		struct wasd_train_hooks hooks = {.ctx = &h, .warning = hear};
		CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s", err.msg);
		for (size_t k = 0; t && k < wasd_trainer_info(t).params; k++)
			wasd_model_master(wasd_trainer_model(t))[k] *= (real)rows[i].scale;
		CHECK_MSG(t && !wasd_trainer_run(t, &hooks, &end, NULL, &err), "%s", err.msg);
		int want = 0;
		bool said = !*rows[i].says;
		for (; want < 3 && rows[i].codes[want]; want++) {
			bool found = false;
			for (int k = 0; k < h.n; k++)
				found |= !strcmp(h.last[k].code, rows[i].codes[want]) && h.last[k].epoch == rows[i].epochs[want];
			CHECK_MSG(found, "%s: no %s of epoch %d", rows[i].why, rows[i].codes[want], rows[i].epochs[want]);
		}
		for (int k = 0; k < h.n; k++)
			said |= strstr(h.last[k].message, rows[i].says) != NULL;
		CHECK_MSG(h.n == want && said, "%s: %d warnings, first %s: %s", rows[i].why, h.n, h.last[0].code,
		          h.last[0].message);
		wasd_trainer_destroy(t);
		cJSON_Delete(j);
	}
	wasd_dataset_close(data);
}

struct log_and_run {
	struct tiny_run *run;
	char *line;
};

static enum wasd_status scaled_metrics(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err)
{
	return tiny_metrics(((struct log_and_run *)ctx)->run, m, err);
}

static enum wasd_status scaled_checkpoint(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	return tiny_checkpoint(((struct log_and_run *)ctx)->run, c, err);
}

static void scaled_line(void *ctx, const char *level, const char *text)
{
	(void)level;
	if (strstr(text, "training loss"))
		snprintf(((struct log_and_run *)ctx)->line, 400, "%s", text);
}

/* A run that starts with its weights multiplied by `scale`: LeNet's five layers scale the logits by about its fifth
 * power. line: the last epoch in the log. */
static enum wasd_status scaled_run(const char *members, double scale, char line[400], struct tiny_run *r)
{
	char spec[500];
	snprintf(spec, sizeof spec, "{\"model\":{\"arch\":\"lenet\"},%s}", members);
	cJSON *j = cJSON_Parse(spec);
	struct wasd_trainer *t = NULL;
	struct wasd_train_opts o = {.spec = j, .data = big};
	struct log_and_run both = {r, line};
	struct wasd_train_hooks h = {.ctx = &both,
	                             .metrics = scaled_metrics,
	                             .checkpoint = scaled_checkpoint,
	                             .log = scaled_line};
	r->status = wasd_trainer_create(&o, &t, &r->err);
	real *w = t ? wasd_model_master(wasd_trainer_model(t)) : NULL;
	for (size_t i = 0; t && i < wasd_trainer_info(t).params; i++)
		w[i] *= (real)scale;
	if (!r->status)
		r->status = wasd_trainer_run(t, &h, &r->end, NULL, &r->err);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	return r->status;
}

/* A NaN or infinite loss ends the run wherever it occurs, and no checkpoint of such weights is written. A step with
 * this decay multiplies the weights by 999: 180 images are one step, whose loss is finite while the loss of the weights
 * after it is not. */
#define ONE_STEP "\"batch\":180,\"optimizer\":{\"type\":\"sgd\",\"lr\":1000,\"weight_decay\":1}}"
static const struct {
	const char *spec;
	double scale;
	const char *says, *why;
} diverge[] = {
	{"\"train\":{\"epochs\":1," ONE_STEP, 1e9, "loss is NaN or infinite in epoch 1", "a training step"},
	{"\"train\":{\"epochs\":1," ONE_STEP, 1e6, "AOM's validation loss is NaN or infinite in epoch 1", "an evaluation"},
	{"\"data\":{\"val_fraction\":0},\"train\":{\"epochs\":1,\"batch\":200,\"optimizer\":{\"type\":\"sgd\",\"lr\":1000,\"weight_decay\":1}}",
     1e6, "AOM's validation loss is NaN or infinite in epoch 1", "one by test images"},
	{"\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\"}]},\"eval\":{\"modes\":[\"dom\"]},\"train\":{\"epochs\":1," ONE_STEP,
     1e6, "DOM's validation loss is NaN or infinite in epoch 1", "the other mode"},
	{"\"eval\":{\"every\":2},\"train\":{\"epochs\":3," ONE_STEP, 1e6, "loss is NaN or infinite in epoch 1",
     "a checkpoint that is due without an evaluation"},
	{"\"eval\":{\"every\":3},\"checkpoint\":{\"every\":1000},\"train\":{\"epochs\":3," ONE_STEP, 1e6,
     "loss is NaN or infinite in epoch 2", "the first step of an epoch"},
};

static void loss_that_is_not_finite_fails(void)
{
	if (sizeof(real) == 8)
		TEST_SKIP("a double does not overflow so soon");
	for (size_t i = 0; i < sizeof diverge / sizeof *diverge; i++) {
		struct tiny_run r = {0};
		char line[400] = "";
		scaled_run(diverge[i].spec, diverge[i].scale, line, &r);
		CHECK_MSG(r.status == WASD_ENUMERIC, "%s: %s %s", diverge[i].why, wasd_status_name(r.status), r.err.msg);
		CHECK_MSG(strstr(r.err.msg, diverge[i].says) && strstr(r.err.msg, "/train/optimizer/lr"), "%s: %s",
		          diverge[i].why, r.err.msg);
		CHECK_MSG(!r.checkpoints, "%s: %d checkpoints", diverge[i].why, r.checkpoints);
		tiny_done(&r);
	}
}

/* A loss of any size is logged in full. */
static void large_loss_is_told_whole(void)
{
	char line[400] = "";
	struct tiny_run r = {0};
	CHECK_MSG(!scaled_run("\"train\":{\"epochs\":1,\"batch\":180,\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-30}}", 1e6,
	                      line, &r),
	          "%s", r.err.msg);
	const char *told = strstr(line, "training loss ");
	double loss = told ? strtod(told + 14, NULL) : NAN;
	CHECK_MSG(r.value[1][0] > 1e26 && fabs(loss / r.value[1][0] - 1) < 1e-3, "%g is told as: %s", r.value[1][0], line);
	tiny_done(&r);
}

static void stops_early(void)
{
	struct tiny_run r = {0};
	/* The training loss falls, so with "larger is better" it never improves after the first epoch. */
	const char *spec =
		"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":9,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.002},"
		"\"early_stop\":{\"patience\":2,\"metric\":\"train_loss\",\"mode\":\"max\"}}}";
	tiny_go(&r, spec, big);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK_INT(r.end, WASD_TRAIN_EARLY_STOPPED);
	CHECK_INT(r.epoch, 3);
	CHECK_STR(r.reason, "final");
	/* Resumed from its own end, it only reports that. */
	tiny_go(&r, spec, big);
	CHECK_INT(r.end, WASD_TRAIN_EARLY_STOPPED);
	CHECK_INT(r.polls, 0);
	tiny_done(&r);
}

/* ---- how a run decides ----------------------------------------------------------------------------------------- */

#define CHOOSES \
	"{\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\"}]},\"train\":{\"epochs\":6,\"batch\":32,\"seed\":3," \
	"\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}},\"data\":{\"val_fraction\":%s},\"eval\":{\"test\":\"%s\"}}"

/* The test images are evaluated when a new best is kept and at the end; "every": always; "last": at the end. */
static void test_images_are_only_reported(void)
{
	static const char *const when[] = {"every", "best", "last"};
	char spec[500];
	for (int w = 0; w < 3; w++) {
		struct tiny_run r = {0};
		double best = -1;
		snprintf(spec, sizeof spec, CHOOSES, "0.25", when[w]);
		tiny_go(&r, spec, many);
		CHECK_MSG(!r.status, "%s", r.err.msg);
		for (int e = 1; e <= 6; e++) {
			bool better = r.value[e][3] > best, want = !w || e == 6 || (w == 1 && better);
			best = better ? r.value[e][3] : best;
			for (int k = 2; k < 6; k++)
				CHECK_MSG(!isnan(r.value[e][k]), "epoch %d: no %s", e, tiny_names[k]);
			for (int k = 8; k < 12; k++)
				CHECK_MSG(!isnan(r.value[e][k]) == want, "%s, epoch %d: %s is %g", when[w], e, tiny_names[k],
				          r.value[e][k]);
			/* 150 images held out and 50 for the test: an accuracy is a multiple of one image. */
			CHECK(fabs(r.value[e][3] * 150 - rint(r.value[e][3] * 150)) < 1e-9);
			CHECK(!want || fabs(r.value[e][9] * 50 - rint(r.value[e][9] * 50)) < 1e-9);
		}
		tiny_done(&r);
	}
}

/* Without a validation split the test images replace it, and the numbers have both names. */
static void test_images_take_the_place(void)
{
	struct tiny_run r = {0};
	char spec[500];
	snprintf(spec, sizeof spec, CHOOSES, "0", "last");
	tiny_go(&r, spec, big);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	for (int e = 1; e <= 6; e++)
		for (int k = 0; k < 4; k++)
			CHECK_MSG(r.value[e][2 + k] == r.value[e][8 + k], "epoch %d: %s %g, %s %g", e, tiny_names[2 + k],
			          r.value[e][2 + k], tiny_names[8 + k], r.value[e][8 + k]);
	CHECK(fabs(r.value[6][3] * 50 - rint(r.value[6][3] * 50)) < 1e-9);
	tiny_done(&r);
}

/* The run does not train on held-out images: the training set shrinks by them, and pixels that only those images have
 * change no weight. */
static void held_out_images_are_not_trained_on(void)
{
	struct wasd_holdout h = {0};
	struct wasd_err err = {0};
	struct wasd_dataset_writer *w = NULL;
	struct wasd_dataset *spoilt = NULL;
	const char *names[10];
	char path[96], spec[400];
	size_t n = wasd_dataset_count(big, WASD_TRAIN), next = 0, size = wasd_shape_count(wasd_dataset_shape(big));
	uint8_t *noise = wasd_malloc(size);
	memset(noise, 77, size);
	CHECK(!wasd_holdout_make(big, 0, 0.25, 3, true, &h, &err));
	for (int i = 0; i < 10; i++)
		names[i] = wasd_dataset_class(big, i);
	snprintf(path, sizeof path, "%s/spoilt.wds", tiny_dir);
	CHECK(!wasd_dataset_writer_create(path, wasd_dataset_shape(big), names, 10, "test", &w, &err));
	for (size_t i = 0; i < n; i++) {
		bool held = next < h.n_val && h.val[next] == i;
		next += held;
		CHECK(!wasd_dataset_writer_add(w, WASD_TRAIN, held ? noise : wasd_dataset_image(big, WASD_TRAIN, i),
		                               wasd_dataset_label(big, WASD_TRAIN, i), &err));
	}
	CHECK_INT(next, h.n_val);
	CHECK(!wasd_dataset_writer_add(w, WASD_TEST, noise, 0, &err));
	CHECK(!wasd_dataset_writer_finish(w, &err));
	wasd_dataset_writer_abort(w);
	CHECK(!wasd_dataset_open(path, &spoilt, &err));
	struct tiny_run sound = {0}, other = {0};
	snprintf(spec, sizeof spec, CHOOSES, "0.25", "best");
	tiny_go(&sound, spec, big);
	tiny_go(&other, spec, spoilt);
	CHECK_MSG(!sound.status && !other.status, "%s%s", sound.err.msg, other.err.msg);
	CHECK_STR(other.sha, sound.sha);
	CHECK(other.value[6][2] != sound.value[6][2] && other.value[6][0] == sound.value[6][0]);
	tiny_done(&sound);
	tiny_done(&other);
	wasd_dataset_close(spoilt);
	wasd_holdout_done(&h);
	wasd_free(noise);
}

static void another_split_does_not_resume(void)
{
	static const char *const fractions[] = {"0.2", "0"};
	struct tiny_run r = {.stop_at = 9};
	char spec[500];
	snprintf(spec, sizeof spec, CHOOSES, "0.25", "best");
	tiny_go(&r, spec, big);
	CHECK_INT(r.end, WASD_TRAIN_CANCELLED);
	for (int i = 0; i < 2; i++) {
		snprintf(spec, sizeof spec, CHOOSES, fractions[i], "best");
		tiny_go(&r, spec, big);
		CHECK_INT(r.status, WASD_ECORRUPT);
		CHECK_MSG(strstr(r.err.msg, "val_fraction"), "%s", r.err.msg);
	}
	tiny_done(&r);
}

/* The images of a run are part of its identity: no limit, or a limit as large as the set, is the same run; with any
 * other limit, its files do not resume. */
static void another_limit_does_not_resume(void)
{
	static const struct {
		const char *data;
		enum wasd_status status;
	} rows[] = {
		{"{\"val_fraction\":0,\"limit\":100}", WASD_OK},
		{"{\"val_fraction\":0,\"limit\":101}", WASD_ECORRUPT},
		{"{\"val_fraction\":0}", WASD_ECORRUPT},
		{"{\"val_fraction\":0,\"limit\":null}", WASD_ECORRUPT},
	};
	struct tiny_run r = {.stop_at = 9}, all = {0}, none = {0};
	char spec[400];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(spec, sizeof spec,
		         "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":4,\"batch\":32,\"seed\":3},\"data\":%s}",
		         rows[i].data);
		if (!i) {
			tiny_go(&r, spec, big);
			CHECK_INT(r.end, WASD_TRAIN_CANCELLED);
		}
		tiny_go(&r, spec, big);
		CHECK_MSG(r.status == rows[i].status, "%s: %s", rows[i].data, r.err.msg);
		CHECK_MSG(!r.status || strstr(r.err.msg, "data.limit"), "%s: %s", rows[i].data, r.err.msg);
	}
	tiny_done(&r);
	tiny_go(&none, "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":32}}", big);
	tiny_go(&all, "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":32},\"data\":{\"limit\":200}}",
	        big);
	CHECK_STR(all.sha, none.sha);
	tiny_done(&all);
	tiny_done(&none);
}

/* Batch statistics change what is reported, but not the training; a resumed run reports the same. */
static void batch_statistics(void)
{
	static const char form[] =
		"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":2,\"batch\":16},\"eval\":{\"statistics\":\"%s\",\"test\":\"every\"}}";
	struct tiny_run own = {0}, batch = {0}, cut = {.stop_at = 7};
	char spec[300];
	if (sizeof(real) == 8)
		return; /* a large network: the float build tests the same in half the time */
	snprintf(spec, sizeof spec, form, "own");
	tiny_go(&own, spec, small);
	snprintf(spec, sizeof spec, form, "batch");
	tiny_go(&batch, spec, small);
	CHECK_MSG(!own.status && !batch.status, "%s%s", own.err.msg, batch.err.msg);
	CHECK_STR(batch.sha, own.sha);
	for (int k = 2; k < 6; k += 2)
		CHECK_MSG(isfinite(batch.value[2][k]) && batch.value[2][k] != own.value[2][k], "%s is %g in both",
		          tiny_names[k], own.value[2][k]);
	tiny_go(&cut, spec, small);
	cut.stop_at = 0;
	tiny_go(&cut, spec, small);
	for (int k = 0; k < TINY_NAMES; k++)
		CHECK_MSG(cut.value[2][k] == batch.value[2][k], "%s is %.17g, uncut %.17g", tiny_names[k], cut.value[2][k],
		          batch.value[2][k]);
	tiny_done(&own);
	tiny_done(&batch);
	tiny_done(&cut);
}

/* Early stopping and a best epoch chosen by training metrics may fall where no evaluation was due: then the evaluation
 * is made for them. */
static void what_is_kept_is_measured(void)
{
	struct tiny_run r = {0};
	tiny_go(
		&r,
		"{\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\"}]},\"train\":{\"epochs\":9,\"batch\":32,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.002},"
		"\"early_stop\":{\"patience\":2,\"metric\":\"train_loss\",\"mode\":\"max\"}},\"eval\":{\"every\":9},\"checkpoint\":{\"every\":9}}",
		big);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK_INT(r.end, WASD_TRAIN_EARLY_STOPPED);
	CHECK_INT(r.epoch, 3);
	for (int k = 2; k < TINY_NAMES; k++)
		CHECK_MSG(!isnan(r.value[3][k]), "no %s", tiny_names[k]);
	struct wasd_bundle *b = NULL;
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(r.file, r.len, "dom"), &b, &r.err), "%s", r.err.msg);
	wasd_bundle_unref(b);
	tiny_done(&r);
}

static void weights_of_another_run_start_this_one(void)
{
	struct tiny_run first = {0};
	tiny_go(&first, LEARNS "\"epochs\":4}}", many);
	cJSON *j = cJSON_Parse(
		"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.0001}}}");
	struct wasd_trainer *t = NULL;
	struct wasd_err err = {0};
	struct wasd_train_opts o = {.spec = j, .data = many, .init = first.file, .init_len = first.len};
	struct tiny_run second = {0};
	struct wasd_train_hooks h = {.ctx = &second, .metrics = tiny_metrics};
	CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s", err.msg);
	CHECK(!wasd_trainer_run(t, &h, &second.end, NULL, &err));
	CHECK_MSG(second.value[1][0] < first.value[4][0], "loss %g, the first run had %g in its last epoch",
	          second.value[1][0], first.value[4][0]);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	tiny_done(&first);
}

/* ---- refusals ----------------------------------------------------------------------------------------------- */

static const struct {
	const char *spec, *pointer;
	enum wasd_status want;
	const char *why;
} refused[] = {
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":0}}", "/train/epochs", WASD_EINVAL, "no epoch"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"batch\":1.5}}", "/train/batch", WASD_EINVAL, "half an image"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"seed\":-1}}", "/train/seed", WASD_EINVAL, "negative seed"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"label_smoothing\":1}}", "/train/label_smoothing", WASD_EINVAL,
     "nothing of the label is left"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"augment\":[\"blur\"]}}", "/train/augment/type", WASD_EINVAL,
     "unknown augmentation"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"precision\":\"fp8\"}}", "/train/precision", WASD_EINVAL,
     "unknown precision"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"early_stop\":{\"metric\":\"val_acc_dom\"}}}",
     "/train/early_stop/metric", WASD_EINVAL, "LeNet has no DOM"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"early_stop\":{\"metric\":\"speed\"}}}", "/train/early_stop/metric",
     WASD_EINVAL, "unknown metric"},
	{"{\"model\":{\"arch\":\"lenet\"},\"eval\":{\"modes\":[\"som\"]}}", "/eval/modes", WASD_EINVAL, "unknown mode"},
	{"{\"model\":{\"arch\":\"lenet\"},\"eval\":{\"every\":0}}", "/eval/every", WASD_EINVAL, "never"},
	{"{\"model\":{\"arch\":\"lenet\"},\"checkpoint\":{\"keep\":{\"mode\":\"up\"}}}", "/checkpoint/keep/mode",
     WASD_EINVAL, "neither min nor max"},
	{"{\"model\":{\"arch\":\"lenet\"},\"checkpoint\":7}", "/checkpoint", WASD_EINVAL, "not an object"},
	{"{\"model\":{}}", "/model/arch", WASD_EINVAL, "no network"},
	{"{\"model\":{\"arch\":\"perceptron\"}}", "/model/arch", WASD_EINVAL, "unknown network"},
	{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"optimizer\":{\"type\":\"sgd\",\"lr\":-1}}}", "/train/optimizer/lr",
     WASD_EINVAL, "uphill"},
	{"{\"model\":{\"arch\":\"resnet18\"},\"limits\":{\"memory_mb\":1}}", "/limits/memory_mb", WASD_ENOMEM,
     "less memory than the plan needs"},
	{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"batch\":1}}", "/train/batch", WASD_EINVAL,
     "one image has no batch statistics at 1x1 maps"},
	{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"batch\":179}}", "/train/batch", WASD_EINVAL,
     "the last of 180 training images would be alone"},
	{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"val_fraction\":0.6}}", "/data/val_fraction", WASD_EINVAL,
     "more than half"},
	{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":0}}", "/data/limit", WASD_EINVAL, "no image"},
	{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":2.5}}", "/data/limit", WASD_EINVAL, "half an image"},
	{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"val_fraction\":-0.1}}", "/data/val_fraction", WASD_EINVAL,
     "less than nothing"},
	{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"val_fraction\":null}}", "/data/val_fraction", WASD_EINVAL,
     "validation images of a set that has none"},
	{"{\"model\":{\"arch\":\"lenet\"},\"eval\":{\"statistics\":\"none\"}}", "/eval/statistics", WASD_EINVAL,
     "unknown statistics"},
	{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"batch\":49},\"eval\":{\"statistics\":\"batch\"}}",
     "/train/batch", WASD_EINVAL, "the last of 50 test images would be alone"},
	{"{\"model\":{\"arch\":\"lenet\"},\"data\":[]}", "/data", WASD_EINVAL, "not an object"},
	{"{\"model\":{\"arch\":\"lenet\"},\"eval\":{\"test\":\"never\"}}", "/eval/test", WASD_EINVAL, "unknown time"},
};

static void refuses(void)
{
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		struct tiny_run r = {0};
		tiny_go(&r, refused[i].spec, big);
		CHECK_MSG(r.status == refused[i].want, "%s: %s (%s)", refused[i].why, wasd_status_name(r.status), r.err.msg);
		CHECK_MSG(!strcmp(r.err.pointer, refused[i].pointer), "%s: pointer %s, want %s", refused[i].why, r.err.pointer,
		          refused[i].pointer);
		CHECK_MSG(*r.err.msg, "%s: no message", refused[i].why);
		tiny_done(&r);
	}
}

/* Every allocation of create fails once: an error each time, nothing leaks (the sanitizer tree sees that), and then it
 * works. */
/* The check rejects what create would reject by spec and data, at the same member, before anything is planned; likewise
 * for warnings. */
static void checked_before_it_begins(void)
{
	static const struct {
		const char *spec, *pointer, *says;
	} rows[] = {
		{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":0.5}}", NULL, "few_validation_images"},
		{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":9,\"val_fraction\":0}}", NULL,
	     "class_without_training_images"},
		{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"batch\":1}}", "/train/batch",
	     "one image has no batch statistics"},
		{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"batch\":179}}", "/train/batch",
	     "the last of 180 training images would be alone"},
		{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"data\":{\"val_fraction\":0,\"limit\":33},\"train\":{\"batch\":32}}",
	     "/train/batch", "the last of 33 training images would be alone"},
		{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"data\":{\"val_fraction\":0},\"train\":{\"batch\":32}}", NULL,
	     ""},
		{"{\"model\":{\"arch\":\"resnet18\"},\"was\":{\"layers\":[\"nowhere\"]}}", "/was/layers/0", "nowhere"},
		{"{\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":1}}", "/data/val_fraction",
	     "none of 1 training image can be held out"},
		{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"early_stop\":{\"metric\":\"val_acc_dom\"}}}",
	     "/train/early_stop/metric", "no DOM"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		cJSON *j = cJSON_Parse(rows[i].spec);
		struct heard h = {0};
		struct wasd_err err = {0};
		struct wasd_train_hooks hooks = {.ctx = &h, .warning = hear};
		struct wasd_train_opts o = {.spec = j, .data = big};
		struct wasd_trainer *t = NULL;
		enum wasd_status s = wasd_train_check(&o, &hooks, &err);
		bool said = !*rows[i].says || strstr(err.msg, rows[i].says);
		for (int k = 0; k < h.n; k++)
			said |= !strcmp(h.last[k].code, rows[i].says);
		CHECK_MSG(!s == !rows[i].pointer && said, "%s: %s: %s", rows[i].spec, err.pointer, err.msg);
		if (rows[i].pointer) {
			CHECK_STR(err.pointer, rows[i].pointer);
			CHECK_INT(wasd_trainer_create(&o, &t, &err), s);
			CHECK_STR(err.pointer, rows[i].pointer);
		}
		cJSON_Delete(j);
	}
}

static void survives_lack_of_memory(void)
{
	cJSON *j = cJSON_Parse("{\"model\":{\"arch\":\"lenet\"},\"train\":{\"batch\":8}}");
	struct wasd_train_opts o = {.spec = j, .data = big};
	tiny_without_memory(&o);
	cJSON_Delete(j);
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	big = tiny_glyphs("train", 200, 50, 32, path);
	many = tiny_glyphs("many", 600, 50, 32, path);
	small = tiny_glyphs("train", 80, 24, 16, path);
	TEST_RUN(resume_is_bit_exact);
	TEST_RUN(pauses_at_an_epoch);
	TEST_RUN(a_pause_stops_nothing_early);
	TEST_RUN(points_have_a_stride);
	TEST_RUN(points_survive_a_cut);
	TEST_RUN(steps_allocate_nothing);
	TEST_RUN(learns);
	TEST_RUN(probability_is_reported);
	TEST_RUN(negative_alpha_is_told);
	TEST_RUN(warnings_of_a_run);
	TEST_RUN(cancel_stops_within_a_batch);
	TEST_RUN(loss_that_is_not_finite_fails);
	TEST_RUN(large_loss_is_told_whole);
	TEST_RUN(stops_early);
	TEST_RUN(test_images_are_only_reported);
	TEST_RUN(test_images_take_the_place);
	TEST_RUN(held_out_images_are_not_trained_on);
	TEST_RUN(another_split_does_not_resume);
	TEST_RUN(another_limit_does_not_resume);
	TEST_RUN(batch_statistics);
	TEST_RUN(what_is_kept_is_measured);
	TEST_RUN(weights_of_another_run_start_this_one);
	TEST_RUN(refuses);
	TEST_RUN(checked_before_it_begins);
	TEST_RUN(survives_lack_of_memory);
	wasd_dataset_close(big);
	wasd_dataset_close(many);
	wasd_dataset_close(small);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
