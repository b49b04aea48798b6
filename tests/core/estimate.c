/* estimate.c - what a run would take, compared with what the runs that follow take. */
#include "tiny.h"
#include "wasd/json.h"

#include <stdlib.h>

static struct wasd_dataset *big, *small; /* 200 of 32x32, 80 of 16x16 */

static double at(const cJSON *j, const char *part, const char *name)
{
	double v = -1;
	wasd_json_num(part ? wasd_json_get(j, part) : j, name, &v);
	return v;
}

static cJSON *estimate(const cJSON *spec, const struct wasd_dataset *d)
{
	struct wasd_train_opts o = {.spec = spec, .data = d};
	struct wasd_err err = {0};
	cJSON *j = NULL;
	CHECK_MSG(wasd_train_estimate(&o, &j, &err) == WASD_OK, "%s: %s", err.pointer, err.msg);
	return j;
}

struct seen {
	size_t bytes;
	double aom, dom;
};

static enum wasd_status see(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	struct seen *s = ctx;
	(void)err;
	s->bytes = c->len;
	s->aom = at(c->info, "macs", "aom");
	s->dom = at(c->info, "macs", "dom");
	return WASD_OK;
}

static double sum(const cJSON *memory, const char *const *names)
{
	double v = 0;
	for (; *names; names++)
		v += at(memory, NULL, *names);
	return v;
}

/* The numbers of a run's own plan and checkpoint. Only the evaluation's plan is not made for the estimate. */
static void sizes_are_those_of_the_run(void)
{
	static const char *const specs[] = {
		"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":2,\"batch\":50}}",
		"{\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\"}]},"
		"\"train\":{\"epochs\":3,\"batch\":33,\"optimizer\":{\"type\":\"adamw\"}},\"checkpoint\":{\"every\":2}}",
		"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":4,\"precision\":\"fp32-strict\"},\"data\":{\"limit\":9},"
		"\"eval\":{\"modes\":[\"aom\"],\"test\":\"last\"}}",
		"{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"magnitude\"}],\"train\":{\"epochs\":1,\"batch\":50}}",
	};
	static const char *const planned[] = {"parameters", "gradients",  "optimizer", "activations",
	                                      "workspace",  "evaluation", NULL};
	for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
		cJSON *spec = cJSON_Parse(specs[i]), *j = estimate(spec, big);
		struct wasd_train_opts o = {.spec = spec, .data = big};
		struct wasd_trainer *t = NULL;
		struct wasd_err err = {0};
		struct seen seen = {0};
		struct wasd_train_hooks h = {.ctx = &seen, .checkpoint = see};
		enum wasd_train_end end;
		CHECK_MSG(wasd_trainer_create(&o, &t, &err) == WASD_OK, "%s", err.msg);
		struct wasd_train_info info = wasd_trainer_info(t);
		double share = sum(wasd_json_get(j, "memory"), planned) / (double)info.planned_bytes;
		CHECK_MSG(share > 0.8 && share < 1.5, "%s: %.3f of the plan's memory", specs[i], share);
		CHECK_INT(at(j, NULL, "params"), info.params);
		CHECK_INT(at(j, NULL, "steps"), info.steps_per_epoch);
		CHECK_INT(at(j, NULL, "epochs"), info.epochs);
		CHECK_MSG(wasd_trainer_run(t, &h, &end, NULL, &err) == WASD_OK, "%s", err.msg);
		CHECK_INT(at(j, "macs", "aom"), seen.aom);
		CHECK_INT(at(j, "macs", "dom"), seen.dom);
		double head = (double)seen.bytes - at(j, NULL, "checkpoint_bytes");
		CHECK_MSG(head > 0 && head < 40000, "%s: %.0f bytes besides the values", specs[i], head);
		wasd_trainer_destroy(t);
		cJSON_Delete(j);
		cJSON_Delete(spec);
	}
}

static void too_large_is_still_estimated(void)
{
	cJSON *spec = cJSON_Parse("{\"model\":{\"arch\":\"vgg16\"},\"train\":{\"batch\":16384}}"), *j = estimate(spec, big);
	CHECK_MSG(at(j, "memory", "activations") > 4e9, "%g", at(j, "memory", "activations"));
	cJSON_Delete(j);
	cJSON_Delete(spec);
}

/* Whatever the machine does meanwhile, there is a time for a step and for an image. */
static void times_are_measured(void)
{
	static const struct {
		const char *spec;
		int batch;
	} rows[] = {
		{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"batch\":20}}", 20},
		{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"batch\":2},\"data\":{\"limit\":11}}", 2},
		{"{\"model\":{\"arch\":\"lenet\"},\"train\":{\"batch\":80},\"data\":{\"val_fraction\":0}}", 80},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		cJSON *spec = cJSON_Parse(rows[i].spec);
		struct wasd_train_opts o = {.spec = spec, .data = big};
		struct wasd_train_times t = {0};
		struct wasd_err err = {0};
		CHECK_MSG(wasd_train_measure(&o, rows[i].batch, 200000, &t, &err) == WASD_OK, "%s: %s", rows[i].spec, err.msg);
		CHECK_MSG(t.step_s > 0 && t.image_s > 0 && t.steps >= 1 && t.batch >= 2 && t.batch <= rows[i].batch,
		          "%s: %g s, %g s, %d steps of %d", rows[i].spec, t.step_s, t.image_s, t.steps, t.batch);
		cJSON_Delete(spec);
	}
}

/* The measurements change neither what is remembered nor what a run computes. */
static void leaves_no_trace(void)
{
	char file[96];
	struct wasd_err err = {0};
	struct wasd_train_times times;
	cJSON *spec = cJSON_Parse("{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"batch\":2},\"data\":{\"limit\":8}}");
	struct wasd_train_opts o = {.spec = spec, .data = small};
	snprintf(file, sizeof file, "%s/tuning.tsv", tiny_dir);
	setenv("WASD_TUNING", file, 1);
	CHECK_MSG(wasd_train_measure(&o, 2, 100000, &times, &err) == WASD_OK, "%s", err.msg);
	CHECK(access(file, F_OK));
	unsetenv("WASD_TUNING");
	cJSON_Delete(spec);
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	big = tiny_glyphs("train", 200, 50, 32, path);
	small = tiny_glyphs("train", 80, 24, 16, path);
	TEST_RUN(sizes_are_those_of_the_run);
	TEST_RUN(too_large_is_still_estimated);
	TEST_RUN(times_are_measured);
	TEST_RUN(leaves_no_trace);
	wasd_dataset_close(big);
	wasd_dataset_close(small);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
