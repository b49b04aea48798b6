/* Why every mode has its own BatchNorm statistics: the accuracy of one trained network evaluated with the statistics
 * gathered in training (which belong to random shadow weights) and with the mode's own. The numbers are printed, and
 * the difference is checked. */
#include "tiny.h"

#include "train/measure.h"
#include "wasd/weights.h"

static struct wasd_dataset *data;

/* Gratings: five directions, random phase, contrast and noise. They are learned in a few dozen steps, which keeps the
 * test short. */
enum { CLASSES = 5, SIDE = 16, N_TRAIN = 320, N_TEST = 100 };

static void grating(struct wasd_rng *r, int label, uint8_t *chw)
{
	double angle = label * 3.141592653589793 / CLASSES, phase = wasd_rng_between(r, 0, 6.283),
		   contrast = wasd_rng_between(r, 40, 90);
	for (int c = 0; c < 3; c++)
		for (int y = 0; y < SIDE; y++)
			for (int x = 0; x < SIDE; x++)
				*chw++ = (uint8_t)(128 + contrast * sin(0.9 * (x * cos(angle) + y * sin(angle)) + phase) +
				                   wasd_rng_between(r, -30, 30));
}

static void make_data(void)
{
	char path[96];
	uint8_t image[3 * SIDE * SIDE];
	struct wasd_dataset_writer *w = NULL;
	struct wasd_err err = {0};
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "test", 0, 0);
	snprintf(path, sizeof path, "%s/gratings.wds", tiny_dir);
	CHECK(!wasd_dataset_writer_create(path, (struct wasd_shape){3, SIDE, SIDE},
	                                  (const char *[]){"0", "36", "72", "108", "144"}, CLASSES, "test", &w, &err));
	for (int i = 0; i < N_TRAIN + N_TEST; i++) {
		grating(&r, i % CLASSES, image);
		CHECK(!wasd_dataset_writer_add(w, i < N_TRAIN ? WASD_TRAIN : WASD_TEST, image, i % CLASSES, &err));
	}
	CHECK(!wasd_dataset_writer_finish(w, &err));
	wasd_dataset_writer_abort(w);
	CHECK_MSG(!wasd_dataset_open(path, &data, &err), "%s", err.msg);
}

static bool go_on(void *ctx, uint32_t done, uint32_t of)
{
	(void)ctx;
	(void)done;
	(void)of;
	return true;
}

/* One way to evaluate the network: a draw and a set of statistics. */
struct reading {
	const struct wasd_draw *draw;
	enum wasd_stats_set set;
};

static enum wasd_status read_so(void *ctx, struct wasd_pass *p, struct wasd_err *err)
{
	const struct reading *r = ctx;
	(void)err;
	p->recipe = wasd_draw_recipe(r->draw);
	p->bn = WASD_BN_SET;
	p->set = r->set;
	return WASD_OK;
}

static double accuracy(struct wasd_exec *e, struct wasd_loader *l, const struct wasd_draw *draw,
                       enum wasd_stats_set set)
{
	struct reading reading = {draw, set};
	struct measure_pass pass = {read_so, &reading};
	struct measure_result r = {.accuracy = NAN};
	struct wasd_err err = {0};
	CHECK_MSG(!measure_accuracy(e, l, &pass, (struct measure_tick){go_on, NULL}, NULL, &r, &err), "%s", err.msg);
	return r.accuracy;
}

static cJSON *recorded_draw;

static enum wasd_status keep_draw(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	(void)ctx;
	(void)err;
	cJSON_Delete(recorded_draw);
	recorded_draw = cJSON_Duplicate(wasd_json_get(c->info, "draw"), true);
	return WASD_OK;
}

static void own_statistics_matter(void)
{
	cJSON *spec = cJSON_Parse(
		"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":4,\"batch\":32,\"seed\":3,"
		"\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}},\"eval\":{\"every\":100},\"checkpoint\":{\"every\":1000}}");
	struct wasd_trainer *t = NULL;
	struct wasd_err err = {0};
	struct wasd_train_opts o = {.spec = spec, .data = data};
	struct wasd_train_hooks h = {.checkpoint = keep_draw};
	struct wasd_loader_opts lo = {.data = data, .split = WASD_TEST, .batch = 50};
	struct wasd_loader *l = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_draw draw = {0};
	enum wasd_train_end end;
	CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s", err.msg);
	CHECK_MSG(!wasd_trainer_run(t, &h, &end, NULL, &err), "%s", err.msg);
	struct wasd_model *m = wasd_trainer_model(t);
	CHECK(!wasd_loader_create(&lo, &l, &err) && !wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 50}, &e, &err));
	CHECK_MSG(!wasd_draw_from_json(recorded_draw, wasd_model_graph(m), &draw, &err), "%s", err.msg);
	double aom_train = accuracy(e, l, NULL, WASD_STATS_TRAIN), aom = accuracy(e, l, NULL, WASD_STATS_AOM);
	double dom_train = accuracy(e, l, &draw, WASD_STATS_TRAIN), dom = accuracy(e, l, &draw, WASD_STATS_DOM);
	printf(
		"# ResNet-18 with WAS, 4 epochs on 320 gratings of 16x16 in five directions, accuracy on 100:\n"
		"#   AOM  training statistics %5.1f %%   its own %5.1f %%\n#   DOM  training statistics %5.1f %%   its own %5.1f %%   (one recorded draw)\n",
		100 * aom_train, 100 * aom, 100 * dom_train, 100 * dom);
	CHECK_MSG(aom > 0.4, "AOM with its own statistics: %g", aom);
	CHECK_MSG(aom > aom_train + 0.1, "AOM: %g with its own statistics, %g with those of training", aom, aom_train);
	wasd_draw_done(&draw);
	wasd_exec_destroy(e);
	wasd_loader_destroy(l);
	wasd_trainer_destroy(t);
	cJSON_Delete(recorded_draw);
	cJSON_Delete(spec);
}

int main(void)
{
	if (sizeof(real) == 8) {
		printf("skip own_statistics_matter: the float build says it\n");
		return 0;
	}
	wasd_threads_init(2, NULL);
	tiny_begin();
	make_data();
	TEST_RUN(own_statistics_matter);
	wasd_dataset_close(data);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
