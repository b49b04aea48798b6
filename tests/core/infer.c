/* Bundles and predictors: the folded network agrees with the unfolded one, does the multiply-adds that it declares, and
 * an image's answer does not depend on the batch size. */
#include "tiny.h"

#include "infer/bundle.h"
#include "train/checkpoint.h"
#include "wasd/infer.h"
#include "wasd/model.h"
#include "wasd/weights.h"

static struct wasd_dataset *small, *big;
enum { N = 24 };
static real x32[N * 3 * 32 * 32], x16[N * 3 * 16 * 16];

static void images(const struct wasd_dataset *d, real *x)
{
	size_t image = wasd_shape_count(wasd_dataset_shape(d));
	for (size_t i = 0; i < N; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(d),
		               wasd_dataset_image(d, WASD_TEST, i % wasd_dataset_count(d, WASD_TEST)), x + i * image);
}

static const struct {
	const char *name, *spec;
	bool small, dom;
} nets[] = {
	{"lenet", "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":1,\"batch\":16}}", false, false},
	{"vgg16", "{\"model\":{\"arch\":\"vgg16\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"resnet18",
     "{\"model\":{\"arch\":\"resnet18\"},\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1}]},"
     "\"train\":{\"epochs\":1,\"batch\":16,\"seed\":8}}",
     true, true},
	{"googlenet", "{\"model\":{\"arch\":\"googlenet\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"mobilenetv2", "{\"model\":{\"arch\":\"mobilenetv2\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"efficientnet_lite0", "{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"epochs\":1,\"batch\":16}}", true,
     true},
	{"resnet18 plain", "{\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"train\":{\"epochs\":1,\"batch\":16}}", true,
     false},
};

/* Logits of the checkpoint's own network, unfolded, with the statistics of the mode. */
static void unfolded(const struct tiny_run *r, const char *mode, const real *x, real *logits, uint64_t *macs)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_draw draw = {0};
	struct mode listed = {0};
	struct wasd_err err = {0};
	bool present, dom = !strcmp(mode, "dom");
	enum wasd_stats_set set = dom ? WASD_STATS_DOM : WASD_STATS_AOM;
	CHECK_MSG(!checkpoint_open(r->file, r->len, &c, &err) && !checkpoint_graph(&c, &g, &err), "%s", err.msg);
	CHECK(!wasd_model_create(g, 1, &m, &err));
	CHECK(!checkpoint_load_params(&c, g, "", wasd_model_master(m), &err));
	CHECK(!checkpoint_mode(&c, mode, &listed, &err) && listed.kind == (dom ? &mode_draw : &mode_plain));
	CHECK(!checkpoint_load_stats(&c, g, listed.statistics, wasd_model_stats(m, set), &present, &err));
	if (dom)
		CHECK(!wasd_draw_from_json(listed.recipe, g, &draw, &err));
	struct wasd_exec_opts o = {.batch = N};
	CHECK(!wasd_exec_create(m, &o, &e, &err));
	struct wasd_pass pass = {.n = N, .recipe = dom ? &draw.recipe : NULL, .bn = WASD_BN_SET, .set = set};
	CHECK(!wasd_exec_forward(e, x, &pass, &err));
	memcpy(logits, wasd_exec_logits(e), sizeof *logits * N * 10);
	*macs = wasd_graph_macs(g, dom ? &draw.recipe : NULL);
	wasd_exec_destroy(e);
	wasd_draw_done(&draw);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
}

/* Compares the trainer's report for the epoch of this checkpoint with the network's own plan and an explicit loss. */
static void check_reported(const char *name, const struct tiny_run *r, const char *mode, const struct wasd_dataset *d,
                           const real *x)
{
	real z[N * 10];
	uint64_t macs;
	double loss = 0;
	int hits = 0;
	bool dom = !strcmp(mode, "dom");
	unfolded(r, mode, x, z, &macs);
	for (int i = 0; i < N; i++) {
		int y = wasd_dataset_label(d, WASD_TEST, (size_t)i), top = 0;
		double sum = 0;
		for (int c = 0; c < 10; c++) {
			sum += exp((double)z[i * 10 + c]);
			top = z[i * 10 + c] > z[i * 10 + top] ? c : top;
		}
		loss += (log(sum) - (double)z[i * 10 + y]) / N;
		hits += top == y;
	}
	double reported = r->value[1][dom ? 10 : 8], accuracy = r->value[1][dom ? 11 : 9];
	CHECK_MSG(fabs(reported - loss) <= (sizeof(real) == 8 ? 1e-10 : 1e-4) * fmax(1, loss),
	          "%s %s: loss %.9g, unfolded %.9g", name, mode, reported, loss);
	CHECK_MSG(fabs(accuracy - (double)hits / N) < 1.5 / N, "%s %s: accuracy %g, unfolded %g", name, mode, accuracy,
	          (double)hits / N);
}

static double largest(const real *v, int n)
{
	double m = 0;
	for (int i = 0; i < n; i++)
		m = fmax(m, fabs((double)v[i]));
	return m;
}

static void check_mode(const char *name, const struct tiny_run *r, const char *mode, const real *x)
{
	real want[N * 10], got[N * 10];
	uint64_t macs;
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	unfolded(r, mode, x, want, &macs);
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(r->file, r->len, mode), &b, &err), "%s %s: %s", name, mode, err.msg);
	if (!b)
		return;
	CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err));
	CHECK_MSG(!wasd_predictor_run(p, x, N, got, &err), "%s", err.msg);
	/* float: rounding in a different order of operations, through a few dozen layers */
	double scale = largest(want, N * 10), tol = sizeof(real) == 8 ? 1e-10 : 1e-4, worst = 0;
	for (int i = 0; i < N * 10; i++)
		worst = fmax(worst, fabs((double)got[i] - (double)want[i]) / scale);
	CHECK_MSG(worst <= tol, "%s %s: logits are %g of their largest off", name, mode, worst);
	CHECK_INT(wasd_bundle_macs(b), macs);
	CHECK_STR(wasd_bundle_arch(b), strcmp(name, "resnet18 plain") ? name : "resnet18");
	CHECK_INT(wasd_bundle_classes(b), 10);
	/* The plans for all batch sizes agree up to rounding, and give the same bits every time; of a large network, each
	 * of its plans (for 1, 2, 4, 8, 16 and 32 images), full or not. */
	static const bool each_plan[20] = {[1] = true, [2] = true, [3] = true, [8] = true, [11] = true, [19] = true};
	size_t image = wasd_shape_count(wasd_bundle_shape(b));
	double apart = 0;
	int differ = 0;
	for (int n = 1; n <= 19; n++) {
		real some[19 * 10], again[19 * 10];
		if (macs > 20000000 && !each_plan[n])
			continue;
		CHECK(!wasd_predictor_run(p, x + 3 * image, n, some, &err));
		CHECK(!wasd_predictor_run(p, x + 3 * image, n, again, &err));
		differ += memcmp(some, again, sizeof *some * 10 * (size_t)n) != 0;
		for (int i = 0; i < n * 10; i++)
			apart = fmax(apart, fabs((double)some[i] - (double)got[30 + i]) / scale);
	}
	CHECK_MSG(differ == 0, "%s %s: %d batch sizes do not repeat", name, mode, differ);
	CHECK_MSG(apart <= tol, "%s %s: batch sizes are %g of the largest logit apart", name, mode, apart);
	printf("# %s %s: folded against unfolded %.2g, %.1f M multiply-adds\n", name, mode, worst,
	       (double)wasd_bundle_macs(b) * 1e-6);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

static void folded_equals_unfolded(void)
{
	for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
		struct tiny_run r = {0};
		struct wasd_bundle *none = NULL;
		const real *x = nets[i].small ? x16 : x32;
		tiny_go(&r, nets[i].spec, nets[i].small ? small : big);
		CHECK_MSG(!r.status, "%s: %s", nets[i].name, r.err.msg);
		check_mode(nets[i].name, &r, "aom", x);
		check_reported(nets[i].name, &r, "aom", nets[i].small ? small : big, x);
		if (nets[i].dom) {
			check_mode(nets[i].name, &r, "dom", x);
			check_reported(nets[i].name, &r, "dom", nets[i].small ? small : big, x);
		} else
			CHECK_INT(wasd_bundle_create(TINY_MODE(r.file, r.len, "dom"), &none, NULL), WASD_ENOTFOUND);
		tiny_done(&r);
	}
}

/* Draws that are rare in training, and whose bundle must still equal the pass. taps: the taps each layer multiplies
 * with, of 9. */
static const struct {
	const char *what, *layers, *ops[4];
	int taps[4];
} drawn[] = {
	{"a layer without a tap, one with a single tap",
     "layer1.0.conv1 layer1.0.conv2 layer2.0.conv1",
     {"\"op\":\"translate\",\"params\":{\"dx\":3,\"dy\":0}", "\"op\":\"translate\",\"params\":{\"dx\":-2,\"dy\":2}",
      "\"op\":\"translate\",\"params\":{\"dx\":1,\"dy\":-1}"},
     {0, 1, 4}},
	{"taps that are all equal, with stride 1 and 2",
     "layer1.0.conv1 layer2.0.conv1 layer2.0.conv2",
     {"\"op\":\"scale\",\"params\":{\"scale\":3.2}", "\"op\":\"scale\",\"params\":{\"scale\":3.4}",
      "\"op\":\"scale\",\"params\":{\"scale\":2}"},
     {1, 1, 9}},
	{"groups: shifted apart, equal taps from two places, one equal and one not, one without a tap",
     "layer1.0.conv1 layer1.0.conv2 layer2.0.conv1 layer4.1.conv2",
     {"\"groups\":[{\"op\":\"translate\",\"params\":{\"dx\":1,\"dy\":1}},{\"op\":\"translate\",\"params\":{\"dx\":-1,\"dy\":1}},{\"op\":\"translate\",\"params\":{\"dx\":1,\"dy\":1}}]",
      "\"groups\":[{\"op\":\"scale\",\"params\":{\"scale\":3}},{\"op\":\"crop_resize\",\"params\":{\"i\":0,\"j\":2,\"h\":1,\"w\":1}}]",
      "\"groups\":[{\"op\":\"scale\",\"params\":{\"scale\":3}},{\"op\":\"hflip\",\"params\":{}}]",
      "\"groups\":[{\"op\":\"translate\",\"params\":{\"dx\":9,\"dy\":0}},{\"op\":\"translate\",\"params\":{\"dx\":0,\"dy\":1}}]"},
     {6, 1, 9, 6}},
};

/* Multiply-adds of the draw: each layer's, in proportion to its taps. */
static void check_macs(const struct wasd_graph *g, const struct wasd_draw *d, const int *taps, const char *what)
{
	uint64_t want = wasd_graph_macs(g, NULL);
	for (int i = 0; i < d->n; i++)
		for (wasd_node n = 0; n < wasd_graph_nodes(g); n++) {
			struct wasd_node_info info = wasd_graph_node_info(g, n);
			if (info.aug == d->layer[i].aug)
				want -= info.macs / 9 * (uint64_t)(9 - taps[i]);
		}
	CHECK_MSG(wasd_graph_macs(g, wasd_draw_recipe(d)) == want, "%s: %llu multiply-adds, want %llu", what,
	          (unsigned long long)wasd_graph_macs(g, wasd_draw_recipe(d)), (unsigned long long)want);
}

static void draws_at_the_limit(void)
{
	for (size_t k = 0; k < sizeof drawn / sizeof *drawn; k++) {
		struct wasd_graph *g = NULL;
		struct wasd_model *m = NULL;
		struct wasd_exec *e = NULL;
		struct wasd_bundle *b = NULL;
		struct wasd_predictor *p = NULL;
		struct wasd_draw draw = {0};
		struct wasd_err err = {0};
		real got[N * 10];
		char text[1200] = "[", name[40];
		const char *at = drawn[k].layers;
		for (int i = 0, n; i < 4 && sscanf(at, "%39s%n", name, &n) == 1; i++, at += n)
			snprintf(text + strlen(text), sizeof text - strlen(text), "%s{\"layer\":\"%s\",%s}", i ? "," : "", name,
			         drawn[k].ops[i]);
		strcat(text, "]");
		cJSON *j = cJSON_Parse(text);
		CHECK(!wasd_arch_build("resnet18", (struct wasd_shape){3, 16, 16}, 10, NULL, &g, &err) &&
		      !wasd_model_create(g, 3, &m, &err));
		CHECK_MSG(!wasd_draw_from_json(j, g, &draw, &err), "%s: %s %s", drawn[k].what, err.pointer, err.msg);
		check_macs(g, &draw, drawn[k].taps, drawn[k].what);
		cJSON *back = wasd_draw_to_json(&draw, g);
		CHECK_MSG(cJSON_Compare(j, back, true), "%s", drawn[k].what);
		CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = N}, &e, &err));
		CHECK(!wasd_exec_forward(e, x16,
		                         &(struct wasd_pass){.n = N,
		                                             .recipe = &draw.recipe,
		                                             .bn = WASD_BN_SET,
		                                             .set = WASD_STATS_DOM},
		                         &err));
		CHECK_MSG(!bundle_compile(m, &draw.recipe, WASD_STATS_DOM, &b, &err), "%s", err.msg);
		CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err) &&
		      !wasd_predictor_run(p, x16, N, got, &err));
		CHECK_INT(wasd_bundle_macs(b), wasd_graph_macs(g, &draw.recipe));
		double worst = 0, top = 0;
		for (int i = 0; i < N * 10; i++) {
			worst = fmax(worst, fabs((double)got[i] - (double)wasd_exec_logits(e)[i]));
			top = fmax(top, fabs((double)got[i]));
		}
		CHECK_MSG(worst < (sizeof(real) == 8 ? 1e-10 : 1e-4) * fmax(top, 1) && top > 0.01, "%s: %g of %g",
		          drawn[k].what, worst, top);
		wasd_predictor_destroy(p);
		wasd_bundle_unref(b);
		wasd_exec_destroy(e);
		wasd_draw_done(&draw);
		wasd_model_destroy(m);
		wasd_graph_destroy(g);
		cJSON_Delete(j);
		cJSON_Delete(back);
	}
}

static void unmeasured_statistics_are_refused(void)
{
	struct tiny_run r = {.stop_at = 3};
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	tiny_go(&r, nets[2].spec, small);
	CHECK_INT(r.end, WASD_TRAIN_CANCELLED);
	CHECK_INT(wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &b, &err), WASD_ESTATE);
	CHECK_INT(wasd_bundle_create(TINY_MODE(r.file, r.len, "dom"), &b, &err), WASD_ESTATE);
	CHECK_MSG(strstr(err.msg, "dom"), "%s", err.msg);
	tiny_done(&r);
}

static void predicting_allocates_nothing(void)
{
	struct tiny_run r = {0};
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	real y[N * 10];
	tiny_go(&r, nets[0].spec, big);
	CHECK(!wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &b, NULL) &&
	      !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, NULL));
	CHECK(!wasd_predictor_run(p, x32, N, y, NULL));
	uint64_t before = wasd_mem_stats().allocs;
	for (int i = 0; i < 5; i++)
		CHECK(!wasd_predictor_run(p, x32, N, y, NULL));
	CHECK_INT(wasd_mem_stats().allocs - before, 0);
	/* The predictor holds its own reference. */
	wasd_bundle_unref(b);
	CHECK(!wasd_predictor_run(p, x32, 3, y, NULL));
	wasd_predictor_destroy(p);
	tiny_done(&r);
}

static size_t run_of(struct wasd_predictor *p, int n, real *y)
{
	CHECK(!wasd_predictor_run(p, x32, n, y, NULL));
	return wasd_predictor_bytes(p);
}

/* The plans of two predictors share one arena as large as the largest plan, and do not disturb each other's answers. */
static void plans_share_an_arena(void)
{
	enum { LARGE = 20 };
	static const int sizes[] = {1, 3, LARGE, 2, 1, LARGE, 5};
	struct tiny_run r = {0};
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *alone[2] = {0}, *shared[2] = {0}, *fresh = NULL;
	struct wasd_arena *arena = NULL;
	real want[LARGE * 10], got[LARGE * 10];
	tiny_go(&r, nets[0].spec, big);
	CHECK(!wasd_arena_create(&arena, NULL) && !wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &b, NULL));
	for (int k = 0; k < 2; k++) {
		CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){.backend = k ? "openblas" : NULL}, &alone[k],
		                             NULL));
		CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){.backend = k ? "openblas" : NULL, .arena = arena},
		                             &shared[k], NULL));
	}
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (int k = 0; k < 2; k++) {
			run_of(alone[k], sizes[i], want);
			run_of(shared[k], sizes[i], got);
			CHECK_MSG(!memcmp(want, got, sizeof *got * 10 * (size_t)sizes[i]), "%d images on %s", sizes[i],
			          k ? "openblas" : "the default");
		}
	/* Predictors report their true memory: a plan for one image beside a plan for 32 adds its logits, not another set
	 * of activations. */
	for (int k = 0; k < 2; k++) {
		CHECK(!wasd_predictor_create(b, &(struct wasd_predictor_opts){.backend = k ? "openblas" : NULL}, &fresh, NULL));
		size_t large = run_of(fresh, LARGE, got), both = run_of(fresh, 1, got);
		CHECK_MSG(both - large <= 64 * sizeof(real) && large > sizeof(real) * LARGE * 3 * 32 * 32,
		          "%zu bytes, with the small plan %zu", large, both);
		CHECK_MSG(wasd_predictor_bytes(alone[k]) - wasd_predictor_bytes(shared[k]) <= wasd_arena_bytes(arena),
		          "arena of %zu bytes", wasd_arena_bytes(arena));
		wasd_predictor_destroy(fresh);
		wasd_predictor_destroy(alone[k]);
		wasd_predictor_destroy(shared[k]);
	}
	wasd_arena_destroy(arena);
	wasd_bundle_unref(b);
	tiny_done(&r);
}

/* Every allocation of a load fails once: an error each time, no leaks, no partial results. */
static void loading_survives_lack_of_memory(void)
{
	struct tiny_run r = {0};
	struct wasd_bundle *b = NULL;
	uint64_t n = 0;
	tiny_go(&r, nets[0].spec, big);
	while (!b && ++n < 2000) {
		struct wasd_err err = {0};
		wasd_mem_fail_at(n);
		enum wasd_status s = wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &b, &err);
		wasd_mem_fail_at(0);
		CHECK_MSG((s == WASD_OK) == (b != NULL), "allocation %llu: %s", (unsigned long long)n, wasd_status_name(s));
		CHECK_MSG(!s || s == WASD_ENOMEM, "allocation %llu: %s: %s", (unsigned long long)n, wasd_status_name(s),
		          err.msg);
	}
	CHECK_MSG(b && n > 20, "loaded after %llu", (unsigned long long)n);
	wasd_bundle_unref(b);
	tiny_done(&r);
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	big = tiny_glyphs("infer", 64, N, 32, path);
	small = tiny_glyphs("infer", 64, N, 16, path);
	images(big, x32);
	images(small, x16);
	TEST_RUN(folded_equals_unfolded);
	TEST_RUN(draws_at_the_limit);
	TEST_RUN(unmeasured_statistics_are_refused);
	TEST_RUN(predicting_allocates_nothing);
	TEST_RUN(plans_share_an_arena);
	TEST_RUN(loading_survives_lack_of_memory);
	wasd_dataset_close(big);
	wasd_dataset_close(small);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
