/* A run whose network becomes smaller while it trains (train/surgery.c): the logits stay, a run cut anywhere ends with
 * the bits of one that was not, what is written is served, exported and imported as the smaller network, and a failed
 * allocation leaves the trainer as it was. */
#include "onnx_run.h"
#include "tiny.h"

#include "wasd/alive.h"
#include "train/checkpoint.h"
#include "train/trainer.h"
#include "wasd/convert.h"
#include "wasd/model.h"
#include "weights/chain.h"

static struct wasd_dataset *data;

/* Residual, depthwise and dropout; halved from the second of four epochs on. */
#define MODEL \
	"{\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":8,\"bias\":false},{\"type\":\"batchnorm\",\"name\":\"abn\"}," \
	"{\"type\":\"relu\",\"name\":\"ar\"},{\"type\":\"conv\",\"name\":\"b\",\"out\":12},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"conv\",\"name\":\"c\",\"out\":8},{\"type\":\"batchnorm\",\"name\":\"cbn\"},{\"type\":\"add\",\"from\":[\"cbn\",\"ar\"]}," \
	"{\"type\":\"maxpool\",\"kernel\":4},{\"type\":\"conv\",\"name\":\"d\",\"depthwise\":true},{\"type\":\"batchnorm\"}," \
	"{\"type\":\"relu\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"e\",\"out\":20},{\"type\":\"relu\"}," \
	"{\"type\":\"dropout\",\"p\":0.2},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]}"
#define ROW "{\"type\":\"structured\",\"end\":1,\"every\":2,\"round_to\":1,\"remove\":\"train\"}"
#define SPEC_OF(weights, optimizer) \
	"{\"model\":" MODEL ",\"weights\":[" weights \
	"],\"train\":{\"epochs\":4,\"batch\":32,\"precision\":\"fp32-strict\",\"optimizer\":" optimizer "}," \
	"\"checkpoint\":{\"every\":1}}"
#define SPEC SPEC_OF(ROW, "{\"type\":\"adamw\",\"lr\":0.002}")
#define SPEC_FIRST \
	SPEC_OF("{\"type\":\"structured\",\"end\":0,\"round_to\":1,\"remove\":\"train\"}", \
	        "{\"type\":\"adamw\",\"lr\":0.002}")
#define SPEC_SGD SPEC_OF(ROW, "{\"type\":\"sgd\",\"lr\":0.05,\"momentum\":0.9}")

static struct wasd_graph *graph_of(const struct tiny_run *r)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	CHECK(!checkpoint_open(r->file, r->len, &c, NULL) && !checkpoint_graph(&c, &g, NULL));
	checkpoint_done(&c);
	return g;
}

static size_t params_of(const struct tiny_run *r)
{
	struct wasd_graph *g = graph_of(r);
	size_t n = wasd_graph_param_count(g);
	wasd_graph_destroy(g);
	return n;
}

/* A trainer in front of the epoch in which its network becomes smaller. */
struct paused {
	struct tiny_run run;
	cJSON *spec;
	struct wasd_trainer *t;
	struct wasd_train_hooks hooks;
};

static void paused_at(struct paused *p, const char *spec)
{
	struct wasd_err err = {0};
	*p = (struct paused){.run = {.until = 1}, .spec = cJSON_Parse(spec)};
	tiny_go(&p->run, spec, data);
	CHECK_MSG(!p->run.status, "%s", p->run.err.msg);
	struct wasd_train_opts o = {.spec = p->spec, .data = data, .resume = p->run.file, .resume_len = p->run.len};
	CHECK_MSG(!wasd_trainer_create(&o, &p->t, &err), "%s", err.msg);
	p->t->hooks = &p->hooks;
	chain_event(p->t->weights, trainer_run_at(p->t, trainer_step(p->t)));
}

static void paused_done(struct paused *p)
{
	wasd_trainer_destroy(p->t);
	cJSON_Delete(p->spec);
	tiny_done(&p->run);
}

/* With stored statistics, or with those of the batch. */
static void logits(struct wasd_trainer *t, enum wasd_bn bn, real out[80])
{
	struct wasd_shape in = wasd_graph_input_shape(t->graph);
	real *x = wasd_calloc(8 * wasd_shape_count(in), sizeof *x);
	struct wasd_pass pass = {.n = 8, .bn = bn, .set = WASD_STATS_TRAIN};
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "images", 0, 0);
	for (size_t i = 0; i < 8 * wasd_shape_count(in); i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	CHECK(!wasd_exec_forward(t->exec, x, &pass, NULL));
	memcpy(out, wasd_exec_logits(t->exec), 80 * sizeof *out);
	wasd_free(x);
}

static void the_logits_stay(void)
{
	static const char *const specs[] = {SPEC, SPEC_SGD};
	for (size_t k = 0; k < 2; k++) {
		struct paused p;
		struct wasd_err err = {0};
		struct wasd_alive *a = NULL;
		real before[2][80], after[2][80];
		double most = sizeof(real) == 8 ? 1e-12 : 1e-5;
		paused_at(&p, specs[k]);
		CHECK(chain_cuts(p.t->weights, trainer_run_at(p.t, trainer_step(p.t))));
		for (int bn = 0; bn < 2; bn++)
			logits(p.t, (enum wasd_bn)bn, before[bn]);
		CHECK(!wasd_alive_create(p.t->graph, wasd_model_master(p.t->model), NULL, &a, NULL));
		uint64_t macs = wasd_alive_macs(a);
		CHECK(macs * 2 < wasd_graph_macs(p.t->graph, NULL));
		wasd_alive_destroy(a);
		CHECK_MSG(!trainer_cut(p.t, &err), "%s", err.msg);
		CHECK(wasd_graph_macs(p.t->graph, NULL) == macs);
		CHECK(wasd_json_get(wasd_json_get(p.t->info, "macs"), "aom")->valuedouble == (double)macs);
		for (int bn = 0; bn < 2; bn++) {
			logits(p.t, (enum wasd_bn)bn, after[bn]);
			for (int i = 0; i < 80; i++)
				CHECK_NEAR((double)after[bn][i], (double)before[bn][i], most * (1 + fabs((double)before[bn][i])));
		}
		/* nothing is left to remove, and the optimizer's state came along */
		CHECK(!chain_cuts(p.t->weights, trainer_run_at(p.t, trainer_step(p.t))));
		size_t n = wasd_graph_param_count(p.t->graph), zeros = 0;
		for (size_t i = 0; i < n; i++)
			zeros += p.t->blocks[0].values[i] == 0;
		CHECK_MSG(zeros * 4 < n, "%zu of %zu values of the optimizer are 0", zeros, n);
		paused_done(&p);
	}
}

/* Stopped at every poll: before, right after, and long after the surgery, which comes before the second epoch or before
 * the first one. */
static void a_cut_run_has_the_same_bits(void)
{
	static const char *const specs[] = {SPEC, SPEC_FIRST};
	for (size_t s = 0; s < 2; s++) {
		struct tiny_run straight = {0};
		tiny_go(&straight, specs[s], data);
		CHECK_MSG(!straight.status, "%s", straight.err.msg);
		CHECK_INT(straight.end, WASD_TRAIN_DONE);
		for (int at = 1; at < straight.polls; at++) {
			struct tiny_run cut = {.stop_at = at};
			tiny_go(&cut, specs[s], data);
			CHECK_INT(cut.end, WASD_TRAIN_CANCELLED);
			cut.stop_at = 0;
			tiny_go(&cut, specs[s], data);
			CHECK_MSG(!cut.status, "%s", cut.err.msg);
			CHECK_MSG(!strcmp(cut.sha, straight.sha), "spec %zu, stopped at poll %d, other weights", s, at);
			for (int k = 0; k < TINY_NAMES; k++)
				CHECK(cut.value[4][k] == straight.value[4][k] || isnan(straight.value[4][k]));
			tiny_done(&cut);
		}
		tiny_done(&straight);
	}
}

/* The weights, statistics and optimizer state after the surgery alone. */
static void with_two_threads(void)
{
	char sha[2][WASD_SHA256_HEX], state[2][WASD_SHA256_HEX];
	struct tiny_run r = {0};
	tiny_go(&r, SPEC, data);
	size_t whole = params_of(&r);
	tiny_done(&r);
	for (int threads = 1; threads <= 2; threads++) {
		struct paused p;
		paused_at(&p, SPEC);
		CHECK(!wasd_threads_init(threads, NULL) && !trainer_cut(p.t, NULL) && !wasd_threads_init(1, NULL));
		CHECK_INT(wasd_graph_param_count(p.t->graph), whole); /* the run pruned nothing after it */
		tiny_digest(p.t, sha[threads - 1]);
		wasd_sha256_of(p.t->blocks[1].values, wasd_graph_param_count(p.t->graph) * sizeof(real), state[threads - 1]);
		paused_done(&p);
	}
	CHECK_STR(sha[1], sha[0]);
	CHECK_STR(state[1], state[0]);
}

enum { IMAGES = 4, PIXELS = 3 * 16 * 16 };

static void images(float x[IMAGES * PIXELS])
{
	struct wasd_rng r;
	wasd_rng_init(&r, 2, "images", 0, 0);
	for (size_t i = 0; i < IMAGES * PIXELS; i++)
		x[i] = (float)wasd_rng_between(&r, -1, 1);
}

static void served(const void *file, size_t len, real out[10 * IMAGES])
{
	float x[IMAGES * PIXELS];
	real given[IMAGES * PIXELS];
	struct wasd_bundle *bundle = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	images(x);
	for (size_t i = 0; i < IMAGES * PIXELS; i++)
		given[i] = (real)x[i];
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, "aom"), &bundle, &err) &&
	              !wasd_predictor_create(bundle, &(struct wasd_predictor_opts){.precision = WASD_PRECISION_FP32_STRICT},
	                                     &p, &err) &&
	              !wasd_predictor_run(p, given, IMAGES, out, &err),
	          "%s", err.msg);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(bundle);
}

/* The checkpoint names the smaller network: it is served, exported and imported as that. */
static void others_read_it(void)
{
	struct tiny_run r = {0}, early = {.until = 1};
	struct wasd_err err = {0};
	void *st = NULL, *onnx = NULL, *back = NULL;
	size_t n_st, n_onnx, n_back;
	cJSON *info = NULL;
	real mine[10 * IMAGES], theirs[10 * IMAGES];
	float x[IMAGES * PIXELS], logits_of[10 * IMAGES];
	struct onnx_run run;
	tiny_go(&early, SPEC, data);
	tiny_go(&r, SPEC, data);
	CHECK_MSG(params_of(&r) * 2 < params_of(&early), "%zu parameters of %zu", params_of(&r), params_of(&early));
	CHECK_MSG(!wasd_checkpoint_layers(r.file, r.len, &info, &err), "%s", err.msg);
	CHECK(wasd_json_get(info, "share")->valuedouble == 1);
	cJSON_Delete(info);
	CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &st, &n_st, &err), "%s", err.msg);
	CHECK_MSG(!wasd_import(st, n_st, &(struct wasd_import){0}, &back, &n_back, &info, &err), "%s", err.msg);
	served(r.file, r.len, mine);
	served(back, n_back, theirs);
	CHECK(!memcmp(mine, theirs, sizeof mine));
	wasd_free(back);
	cJSON_Delete(info);
	CHECK_MSG(!wasd_import(r.file, r.len, &(struct wasd_import){0}, &back, &n_back, &info, &err), "%s", err.msg);
	served(back, n_back, theirs);
	CHECK(!memcmp(mine, theirs, sizeof mine));
	CHECK_MSG(!wasd_export_onnx(TINY_MODE(r.file, r.len, "aom"), &onnx, &n_onnx, &err), "%s", err.msg);
	images(x);
	onnx_execute(&run, onnx, n_onnx, x, IMAGES, 3, 16, 16, 10, logits_of);
	CHECK_MSG(!run.fault[0], "%s", run.fault);
	for (int i = 0; i < 10 * IMAGES; i++)
		CHECK_NEAR((double)logits_of[i], (double)mine[i], 1e-4);
	struct wasd_graph *g = graph_of(&r);
	CHECK(run.macs == wasd_graph_macs(g, NULL));
	wasd_graph_destroy(g);
	onnx_done(&run);
	wasd_free(st);
	wasd_free(back);
	wasd_free(onnx);
	cJSON_Delete(info);
	/* another job cannot start from it, and a job that keeps its network cannot go on with it */
	cJSON *plain = cJSON_Parse("{\"model\":" MODEL ",\"train\":{\"epochs\":4,\"batch\":32}}");
	struct wasd_trainer *t = NULL;
	struct wasd_train_opts o = {.spec = plain, .data = data, .init = r.file, .init_len = r.len};
	CHECK_MSG(wasd_trainer_create(&o, &t, &err) == WASD_EINVAL && !strcmp(err.pointer, "/init_from"), "%s", err.msg);
	o = (struct wasd_train_opts){.spec = plain, .data = data, .resume = r.file, .resume_len = r.len};
	CHECK(wasd_trainer_create(&o, &t, &err) == WASD_ECORRUPT && !t);
	cJSON_Delete(plain);
	tiny_done(&r);
	tiny_done(&early);
}

/* What reads the sum of the images and a convolution keeps its columns, and the others become fewer. */
static void images_in_an_add(void)
{
	static const char spec[] =
		"{\"model\":{\"layers\":[{\"type\":\"conv\",\"name\":\"a\",\"out\":3},{\"type\":\"add\",\"from\":[\"a\","
		"\"input\"]},{\"type\":\"conv\",\"name\":\"b\",\"out\":8},{\"type\":\"relu\"},{\"type\":\"globalpool\"},"
		"{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]},\"weights\":[{\"type\":\"structured\",\"granularity\":\"channel\",\"end\":1,"
		"\"round_to\":1,\"remove\":\"train\"}],\"train\":{\"epochs\":2,\"batch\":32}}";
	struct tiny_run r = {0};
	tiny_go(&r, spec, data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK_INT(params_of(&r), (3 * 27 + 3) + (4 * 27 + 4) + (4 * 10 + 10));
	tiny_done(&r);
}

/* How often the log tells of what may die, and of what died before the first step and before the one of the surgery. */
static void count_lines(void *ctx, const char *level, const char *text)
{
	int *n = ctx;
	(void)level;
	n[0] += strstr(text, "may die") != NULL;
	n[1] += strstr(text, "before step 1,") != NULL;
	n[2] += strstr(text, "before step 7,") != NULL;
	n[3] += strstr(text, "before epoch 2 the network lost") != NULL;
}

static void it_is_told_once(void)
{
	int lines[4] = {0};
	cJSON *spec = cJSON_Parse(SPEC);
	struct wasd_trainer *t = NULL;
	enum wasd_train_end end;
	CHECK(!wasd_trainer_create(&(struct wasd_train_opts){.spec = spec, .data = data}, &t, NULL));
	CHECK_INT(wasd_trainer_info(t).steps_per_epoch, 6);
	CHECK(!wasd_trainer_run(t, &(struct wasd_train_hooks){.ctx = lines, .log = count_lines}, &end, NULL, NULL));
	for (int i = 0; i < 4; i++)
		CHECK_INT(lines[i], 1);
	wasd_trainer_destroy(t);
	cJSON_Delete(spec);
}

static void no_memory(void)
{
	struct paused p;
	struct wasd_err err = {0};
	enum wasd_status s = WASD_ENOMEM;
	real before[80], after[80];
	paused_at(&p, SPEC);
	logits(p.t, WASD_BN_SET, before);
	for (uint64_t nth = 1; s == WASD_ENOMEM && nth < 4000; nth++) {
		struct wasd_graph *g = p.t->graph;
		struct wasd_exec *e = p.t->exec;
		wasd_mem_fail_at(nth);
		s = trainer_cut(p.t, &err);
		wasd_mem_fail_at(0);
		CHECK_MSG(!s || s == WASD_ENOMEM, "allocation %d: %s", (int)nth, err.msg);
		if (s && (p.t->graph != g || p.t->exec != e))
			break; /* the smaller network stands; only the facts about it are missing */
	}
	logits(p.t, WASD_BN_SET, after);
	for (int i = 0; i < 80; i++)
		CHECK_NEAR((double)after[i], (double)before[i], 1e-5 * (1 + fabs((double)before[i])));
	CHECK(wasd_graph_param_count(p.t->graph) * 2 < params_of(&p.run));
	paused_done(&p);
}

static enum wasd_status oblong_build(struct wasd_graph *g, int classes, const int *options, struct wasd_err *err)
{
	(void)options;
	wasd_node x = wasd_graph_conv_rect(g, wasd_graph_input(g), "a", 4, 3, 2, 1, 1, 0, 16, 16, 1, true);
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, wasd_graph_relu(g, x)));
	return wasd_graph_finish(g, wasd_graph_linear(g, x, "fc", classes, true), err);
}

static const char *oblong_was(const int *options)
{
	(void)options;
	return "{\"transforms\":[]}";
}

static const struct wasd_arch oblong = {.name = "oblong",
                                        .summary = "kernels that no list of layers has",
                                        .paper_was = oblong_was,
                                        .min_side = 4,
                                        .build = oblong_build};
const struct wasd_arch *const wasd_arch_more[] = {&oblong, NULL};

static void refusals(void)
{
	static const char *const c[][3] = {
		{MODEL, "{\"type\":\"structured\",\"granularity\":\"tap\",\"remove\":\"train\"}", "/weights/0/remove"},
		{MODEL, "{\"type\":\"compander\"}," ROW, "/weights/1/remove"},
		{MODEL, ROW ",{\"type\":\"magnitude\"}", "/weights/0/remove"},
		{"{\"arch\":\"oblong\"}", ROW, "/weights/0/remove"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		char *text = wasd_asprintf("{\"model\":%s,\"weights\":[%s],\"train\":{\"epochs\":4,\"batch\":32}}", c[i][0],
		                           c[i][1]);
		cJSON *spec = cJSON_Parse(text);
		struct wasd_trainer *t = NULL;
		struct wasd_err err = {0};
		CHECK_MSG(wasd_trainer_create(&(struct wasd_train_opts){.spec = spec, .data = data}, &t, &err) == WASD_EINVAL &&
		              !strcmp(err.pointer, c[i][2]),
		          "%s: at %s: %s", c[i][1], err.pointer, err.msg);
		wasd_trainer_destroy(t);
		cJSON_Delete(spec);
		wasd_free(text);
	}
}

int main(void)
{
	char path[96];
	CHECK(!wasd_threads_init(1, NULL));
	tiny_begin();
	data = tiny_glyphs("glyphs", 200, 40, 16, path);
	TEST_RUN(the_logits_stay);
	TEST_RUN(a_cut_run_has_the_same_bits);
	TEST_RUN(with_two_threads);
	TEST_RUN(others_read_it);
	TEST_RUN(images_in_an_add);
	TEST_RUN(it_is_told_once);
	TEST_RUN(no_memory);
	TEST_RUN(refusals);
	wasd_dataset_close(data);
	tiny_end();
	TEST_END();
}
