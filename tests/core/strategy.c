/* tests/core/strategy.c - the job's "was" object compiled for a network: defaults, choices, draws, JSON in both
 * directions, and every error with the pointer of the faulty member. */
#include "check.h"
#include "wasd/graph.h"
#include "wasd/model.h"
#include "wasd/weights.h"

static struct wasd_graph *graph_of(const char *arch)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_arch_build(arch, (struct wasd_shape){3, 32, 32}, 10, NULL, &g, &err), "%s", err.msg);
	return g;
}

static const char *paper_of(const char *arch)
{
	const char *p = "false";
	wasd_arch_paper_was(arch, NULL, &p, NULL);
	return p;
}

/* text NULL: the member is absent. */
static enum wasd_status create(const struct wasd_graph *g, const char *arch, const char *text, struct wasd_was **w,
                               struct wasd_err *err)
{
	cJSON *j = text ? cJSON_Parse(text) : NULL;
	*w = NULL;
	enum wasd_status s = wasd_was_create(g, j, paper_of(arch), w, err);
	cJSON_Delete(j);
	return s;
}

static void refusals(void)
{
	static const struct {
		const char *was, *pointer;
	} c[] = {
		{"true", "/was"},
		{"null", "/was"},
		{"[]", "/was"},
		{"{\"transform\":[]}", "/was/transform"},
		{"{\"transforms\":{}}", "/was/transforms"},
		{"{\"transforms\":[]}", "/was/transforms"},
		{"{\"transforms\":[{\"type\":\"translate\"},7]}", "/was/transforms/1"},
		{"{\"transforms\":[{}]}", "/was/transforms/0/type"},
		{"{\"transforms\":[{\"type\":3}]}", "/was/transforms/0/type"},
		{"{\"transforms\":[{\"type\":\"warp\"}]}", "/was/transforms/0/type"},
		{"{\"transforms\":[{\"type\":\"crop_resize\"}]}", "/was/transforms/0/type"},
		{"{\"transforms\":[{\"type\":\"translate\",\"scale\":[0.8,1]}]}", "/was/transforms/0/scale"},
		{"{\"transforms\":[{\"type\":\"translate\",\"x\":1.5}]}", "/was/transforms/0/x"},
		{"{\"transforms\":[{\"type\":\"translate\",\"y\":-0.1}]}", "/was/transforms/0/y"},
		{"{\"transforms\":[{\"type\":\"translate\",\"x\":[0.1,0.2]}]}", "/was/transforms/0/x"},
		{"{\"transforms\":[{\"type\":\"translate\",\"weight\":0}]}", "/was/transforms/0/weight"},
		{"{\"transforms\":[{\"type\":\"translate\",\"weight\":\"1\"}]}", "/was/transforms/0/weight"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":0.8}]}", "/was/transforms/0/scale"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0.8]}]}", "/was/transforms/0/scale"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0.8,1,1]}]}", "/was/transforms/0/scale"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[1,0.8]}]}", "/was/transforms/0/scale"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0,1]}]}", "/was/transforms/0/scale/0"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0.8,1.1]}]}", "/was/transforms/0/scale/1"},
		{"{\"transforms\":[{\"type\":\"resized_crop\",\"ratio\":[0.75,\"2\"]}]}", "/was/transforms/0/ratio/1"},
		{"{\"layers\":\"some\"}", "/was/layers"},
		{"{\"layers\":[]}", "/was/layers"},
		{"{\"layers\":7}", "/was/layers"},
		{"{\"layers\":[7]}", "/was/layers/0"},
		{"{\"layers\":[\"layer1.0.conv1\",\"layer9.0.conv1\"]}", "/was/layers/1"},
		{"{\"layers\":[\"fc\"]}", "/was/layers/0"},
		{"{\"layers\":[\"layer1.0.conv1\",\"layer1.0.conv1\"]}", "/was/layers/1"},
		{"{\"layers\":\"\"}", "/was/layers"},
		{"{\"layers\":\"layer9.*\"}", "/was/layers"},
		{"{\"layers\":[\"layer1.*\",\"*.conv3\"]}", "/was/layers/1"},
		{"{\"layers\":[\"layer1.*\",\"layer1.*\"]}", "/was/layers/1"},
		{"{\"layers\":[\"paper\"]}", "/was/layers/0"},
		{"{\"alpha\":\"one\"}", "/was/alpha"},
		{"{\"alpha\":1}", "/was/alpha"},
		{"{\"draw\":\"batch\"}", "/was/draw"},
		{"{\"a/b\":1}", "/was/a~1b"},
		{"{\"draw\":\"profile:\"}", "/was/draw"},
		{"{\"draw\":\"profile:fast\"}", "/was/profile"},
		{"{\"profile\":[]}", "/was/profile"},
		{"{\"odds\":{}}", "/was/odds"},
		{"{\"draw\":\"profile:fast\",\"profile\":[{\"layer\":\"nowhere\",\"op\":\"identity\",\"params\":{}}]}",
	     "/was/profile/0/layer"},
		{"{\"draw\":\"profile:fast\",\"profile\":[],\"odds\":3}", "/was/odds"},
		{"{\"draw\":\"profile:fast\",\"profile\":[],\"odds\":{}}", "/was/odds"},
		{"{\"draw\":\"profile:fast\",\"profile\":[],\"odds\":{\"plain\":-1}}", "/was/odds/plain"},
		{"{\"draw\":\"profile:fast\",\"profile\":[],\"odds\":{\"aom\":1}}", "/was/odds/aom"},
		{"{\"probability\":1.1}", "/was/probability"},
		{"{\"probability\":-0.1}", "/was/probability"},
		{"{\"probability\":\"half\"}", "/was/probability"},
		{"{\"probability\":[0,1]}", "/was/probability"},
		{"{\"probability\":{\"from\":0,\"to\":1}}", "/was/probability/epochs"},
		{"{\"probability\":{\"epochs\":0}}", "/was/probability/epochs"},
		{"{\"probability\":{\"epochs\":2.5}}", "/was/probability/epochs"},
		{"{\"probability\":{\"from\":-1,\"epochs\":2}}", "/was/probability/from"},
		{"{\"probability\":{\"to\":\"1\",\"epochs\":2}}", "/was/probability/to"},
		{"{\"probability\":{\"over\":2,\"epochs\":2}}", "/was/probability/over"},
		{"{\"groups\":0}", "/was/groups"},
		{"{\"groups\":65}", "/was/groups"},
		{"{\"groups\":1.5}", "/was/groups"},
		{"{\"groups\":[2]}", "/was/groups"},
		{"{\"transforms\":[{\"type\":\"scale\",\"scale\":3}]}", "/was/transforms/0/scale"},
		{"{\"transforms\":[{\"type\":\"scale\",\"scale\":[0,3]}]}", "/was/transforms/0/scale/0"},
		{"{\"transforms\":[{\"type\":\"shear\",\"degrees\":135}]}", "/was/transforms/0/degrees"},
		{"{\"transforms\":[{\"type\":\"shear\",\"degrees\":[0,361]}]}", "/was/transforms/0/degrees/1"},
		{"{\"transforms\":[{\"type\":\"rotate\",\"degrees\":[0,90]}]}", "/was/transforms/0/degrees"},
		{"{\"transforms\":[{\"type\":\"rotate\",\"degrees\":181}]}", "/was/transforms/0/degrees"},
		{"{\"transforms\":[{\"type\":\"hflip\",\"p\":2}]}", "/was/transforms/0/p"},
		{"{\"transforms\":[{\"type\":\"vflip\",\"q\":0.5}]}", "/was/transforms/0/q"},
		{"{\"transforms\":[{\"type\":\"affine\"}]}", "/was/transforms/0/type"},
	};
	struct wasd_graph *g = graph_of("resnet18");
	for (size_t i = 0; g && i < sizeof c / sizeof *c; i++) {
		struct wasd_was *w;
		struct wasd_err err = {0};
		CHECK_MSG(create(g, "resnet18", c[i].was, &w, &err) == WASD_EINVAL, "%s was taken", c[i].was);
		CHECK_MSG(!strcmp(err.pointer, c[i].pointer), "%s: pointer \"%s\", want \"%s\" (%s)", c[i].was, err.pointer,
		          c[i].pointer, err.msg);
		CHECK(!w && err.msg[0]);
	}
	wasd_graph_destroy(g);

	/* A network that the published method does not augment: no default transforms, no default layers. */
	struct wasd_was *w;
	struct wasd_err err = {0};
	g = graph_of("lenet");
	CHECK_INT(create(g, "lenet", "{}", &w, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/was/transforms");
	CHECK_INT(create(g, "lenet", "{\"transforms\":[{\"type\":\"translate\"}],\"layers\":\"paper\"}", &w, &err),
	          WASD_EINVAL);
	CHECK_STR(err.pointer, "/was/layers");
	CHECK_INT(create(g, "lenet", "{\"transforms\":[{\"type\":\"translate\"}],\"groups\":7}", &w, &err),
	          WASD_EINVAL); /* conv1 has 6 */
	CHECK_STR(err.pointer, "/was/groups");
	CHECK(strstr(err.msg, "conv1"));
	wasd_graph_destroy(g);
}

static void plain_weights(void)
{
	struct wasd_was *w;
	struct wasd_graph *g = graph_of("lenet"), *r = graph_of("resnet18");
	CHECK_INT(create(g, "lenet", NULL, &w, NULL), WASD_OK);
	CHECK(!w); /* the default of LeNet */
	CHECK_INT(create(r, "resnet18", "false", &w, NULL), WASD_OK);
	CHECK(!w);
	CHECK_INT(create(r, "resnet18", NULL, &w, NULL), WASD_OK);
	CHECK(w);
	wasd_was_destroy(w);
	wasd_was_destroy(NULL);
	wasd_graph_destroy(g);
	wasd_graph_destroy(r);
}

/* Which layers a spec augments, and with which alphas. */
static void layers(void)
{
	static const struct {
		const char *arch, *was;
		int n, ones;
		const char *first, *last;
	} c[] = {
		{"resnet18", NULL, 16, 0, "layer1.0.conv1", "layer4.1.conv2"},
		{"resnet18", "{\"layers\":\"all\"}", 20, 4, "conv", "layer4.1.conv2"},
		{"resnet18", "{\"alpha\":\"fixed\"}", 16, 16, "layer1.0.conv1", "layer4.1.conv2"},
		{"resnet18", "{\"layers\":[\"layer4.1.conv2\",\"layer2.0.shortcut.0\",\"layer1.0.conv2\"]}", 3, 1,
	     "layer1.0.conv2", "layer4.1.conv2"},
		{"resnet18", "{\"layers\":\"layer2.*\"}", 5, 1, "layer2.0.conv1", "layer2.1.conv2"},
		{"resnet18", "{\"layers\":[\"*.conv2\",\"conv\",\"layer1.0.*\"]}", 10, 1, "conv", "layer4.1.conv2"},
		{"resnet18", "{\"layers\":\"layer?.0.conv1\"}", 4, 0, "layer1.0.conv1", "layer4.0.conv1"},
		{"resnet18", "{\"layers\":\"*\"}", 20, 4, "conv", "layer4.1.conv2"},
		{"vgg16", NULL, 9, 0, "conv.3", "conv.40"},
		{"vgg16", "{\"layers\":\"all\"}", 13, 4, "conv.0", "conv.40"},
		{"lenet", "{\"transforms\":[{\"type\":\"translate\"}]}", 2, 2, "conv1", "conv2"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_graph *g = graph_of(c[i].arch);
		struct wasd_was *w;
		struct wasd_err err = {0};
		struct wasd_draw d = {0};
		struct wasd_rng r;
		wasd_rng_init(&r, 1, "was", 0, 0);
		CHECK_MSG(!create(g, c[i].arch, c[i].was, &w, &err) && w, "case %zu: %s", i, err.msg);
		if (w && !wasd_was_draw(w, &r, &d, &err)) {
			int ones = 0;
			for (int k = 0; k < d.n; k++) {
				ones += d.layer[k].alpha_one;
				CHECK(!k || d.layer[k].aug > d.layer[k - 1].aug);
				CHECK_INT(d.layer[k].t.k, wasd_graph_aug_info(g, d.layer[k].aug).k);
				CHECK(wasd_draw_find(&d, d.layer[k].aug) == &d.layer[k]);
			}
			CHECK_INT(d.n, c[i].n);
			CHECK_INT(ones, c[i].ones);
			CHECK_STR(wasd_graph_aug_info(g, d.layer[0].aug).layer, c[i].first);
			CHECK_STR(wasd_graph_aug_info(g, d.layer[d.n - 1].aug).layer, c[i].last);
			CHECK(!wasd_draw_find(&d, 1000) && !wasd_draw_find(NULL, 0));
		}
		wasd_draw_done(&d);
		wasd_was_destroy(w);
		wasd_graph_destroy(g);
	}
}

#define PROFILE \
	"{\"draw\":\"profile:fast\",\"profile\":[{\"layer\":\"layer1.0.conv1\",\"op\":\"translate\",\"params\":{\"dx\":1,\"dy\":0}}]," \
	"\"odds\":{\"plain\":1,\"profile\":2,\"fresh\":5}}"

/* Printed with every default, read back, printed again: the same. */
static void to_json(void)
{
	static const char *const spec[] = {
		NULL,
		"{\"draw\":\"epoch\",\"alpha\":\"fixed\",\"layers\":[\"layer1.1.conv1\"]}",
		"{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0.6,0.8],\"weight\":2},{\"type\":\"translate\",\"x\":0.4}]}",
		"{\"transforms\":[{\"type\":\"scale\"},{\"type\":\"shear\",\"degrees\":[-20,40]},{\"type\":\"rotate\",\"degrees\":30},{\"type\":\"hflip\",\"p\":0.3},{\"type\":\"vflip\"}],\"probability\":0.5}",
		"{\"layers\":\"layer?.1.*\",\"probability\":{\"from\":0.25,\"epochs\":7}}",
		"{\"groups\":5}",
		PROFILE,
	};
	struct wasd_graph *g = graph_of("resnet18");
	for (size_t i = 0; i < sizeof spec / sizeof *spec; i++) {
		struct wasd_was *w, *v = NULL;
		CHECK_INT(create(g, "resnet18", spec[i], &w, NULL), WASD_OK);
		cJSON *one = wasd_was_to_json(w);
		CHECK_INT(wasd_was_create(g, one, "false", &v, NULL), WASD_OK);
		cJSON *two = wasd_was_to_json(v);
		CHECK(one && two && cJSON_Compare(one, two, true));
		CHECK_INT(wasd_was_per_epoch(w), i == 1);
		/* Both draw the same numbers. */
		struct wasd_rng a, b;
		struct wasd_draw x = {0}, y = {0};
		wasd_rng_init(&a, 9, "was", 0, 0);
		wasd_rng_init(&b, 9, "was", 0, 0);
		for (int k = 0; k < 3; k++) {
			wasd_was_draw(w, &a, &x, NULL);
			wasd_was_draw(v, &b, &y, NULL);
			for (int l = 0; l < x.n; l++)
				CHECK(x.layer[l].t.op == y.layer[l].t.op &&
				      !memcmp(x.layer[l].t.p, y.layer[l].t.p, sizeof x.layer[l].t.p));
		}
		wasd_draw_done(&x);
		wasd_draw_done(&y);
		cJSON_Delete(one);
		cJSON_Delete(two);
		wasd_was_destroy(w);
		wasd_was_destroy(v);
	}
	wasd_graph_destroy(g);
}

static void draw_json(void)
{
	struct wasd_graph *g = graph_of("resnet18");
	struct wasd_was *w;
	CHECK_INT(create(g, "resnet18", "{\"layers\":\"all\",\"alpha\":\"fixed\"}", &w, NULL), WASD_OK);
	struct wasd_rng r;
	struct wasd_draw d = {0}, e = {0};
	wasd_rng_init(&r, 5, "was", 0, 0);
	for (int round = 0; round < 20; round++) {
		struct wasd_err err = {0};
		CHECK_INT(wasd_was_draw(w, &r, &d, NULL), WASD_OK);
		cJSON *j = wasd_draw_to_json(&d, g);
		char *text = wasd_json_print(j);
		cJSON *back = cJSON_Parse(text);
		CHECK_MSG(!wasd_draw_from_json(back, g, &e, &err), "%s: %s", err.pointer, err.msg);
		CHECK_INT(e.n, d.n);
		for (int i = 0; i < d.n && i < e.n; i++) {
			const struct wasd_transform *a = &d.layer[i].t, *b = &e.layer[i].t;
			CHECK(d.layer[i].aug == e.layer[i].aug && d.layer[i].alpha_one == e.layer[i].alpha_one && a->op == b->op &&
			      a->k == b->k);
			CHECK(!memcmp(a->T, b->T, (size_t)(a->k * a->k * a->k * a->k) * sizeof *a->T));
			CHECK(!memcmp(&a->live, &b->live, sizeof a->live));
		}
		wasd_draw_done(&e);
		cJSON_Delete(j);
		cJSON_Delete(back);
		wasd_free(text);
	}
	/* A second draw into the same object allocates nothing. */
	struct wasd_mem_stats before = wasd_mem_stats();
	wasd_was_draw(w, &r, &d, NULL);
	CHECK_INT(wasd_mem_stats().allocs, before.allocs);
	wasd_draw_done(&d);
	wasd_draw_done(NULL);
	wasd_was_destroy(w);

	static const struct {
		const char *text, *pointer;
	} bad[] = {
		{"{}", ""},
		{"[7]", "/0"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"identity\",\"seed\":1}]", "/0/seed"},
		{"[{\"op\":\"identity\"}]", "/0/layer"},
		{"[{\"layer\":\"fc\",\"op\":\"identity\"}]", "/0/layer"},
		{"[{\"layer\":\"layer1.0.conv1\"}]", "/0/op"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"warp\"}]", "/0/op"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"translate\"}]", "/0/params"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"translate\",\"params\":{\"dx\":1}}]", "/0/params/dy"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"translate\",\"params\":{\"dx\":1,\"dy\":0,\"dz\":0}}]",
	     "/0/params/dz"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"translate\",\"params\":{\"dx\":0.5,\"dy\":0}}]", "/0/params/dx"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"crop_resize\",\"params\":{\"i\":0,\"j\":0,\"h\":5,\"w\":1}}]",
	     "/0/params"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"identity\",\"alpha\":2}]", "/0/alpha"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":[{\"op\":\"identity\"}],\"op\":\"identity\"}]", "/0/op"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":[]}]", "/0/groups"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":3}]", "/0/groups"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":[{\"op\":\"identity\"},7]}]", "/0/groups/1"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":[{\"op\":\"identity\"},{\"op\":\"identity\",\"layer\":\"fc\"}]}]",
	     "/0/groups/1/layer"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":[{\"op\":\"identity\"},{\"op\":\"translate\",\"params\":{\"dx\":1}}]}]",
	     "/0/groups/1/params/dy"},
		{"[{\"layer\":\"layer1.0.conv1\",\"groups\":[{\"op\":\"identity\"}]},{\"layer\":\"layer1.0.conv2\",\"groups\":[{\"op\":\"identity\"},{\"op\":\"warp\"}]}]",
	     "/1/groups/1/op"},
		{"[{\"layer\":\"layer1.0.conv2\",\"op\":\"identity\"},{\"layer\":\"layer1.0.conv1\",\"op\":\"identity\"}]",
	     "/1"},
		{"[{\"layer\":\"layer1.0.conv1\",\"op\":\"identity\"},{\"layer\":\"layer1.0.conv1\",\"op\":\"identity\"}]",
	     "/1"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wasd_err err = {0};
		cJSON *j = cJSON_Parse(bad[i].text);
		CHECK_MSG(wasd_draw_from_json(j, g, &e, &err) == WASD_EINVAL, "%s was taken", bad[i].text);
		CHECK_MSG(!strcmp(err.pointer, bad[i].pointer), "%s: pointer \"%s\", want \"%s\" (%s)", bad[i].text,
		          err.pointer, bad[i].pointer, err.msg);
		CHECK(!e.layer);
		cJSON_Delete(j);
	}
	cJSON *empty = cJSON_Parse("[]");
	CHECK_INT(wasd_draw_from_json(empty, g, &e, NULL), WASD_OK);
	CHECK_INT(e.n, 0);
	cJSON_Delete(empty);
	wasd_graph_destroy(g);
}

/* Weights are probabilities: 3 to 1 between the two kinds, over 16 layers and 2000 draws. */
static void choice_weights(void)
{
	struct wasd_graph *g = graph_of("resnet18");
	struct wasd_was *w;
	CHECK_INT(create(g, "resnet18",
	                 "{\"transforms\":[{\"type\":\"translate\",\"weight\":3},{\"type\":\"resized_crop\"}]}", &w, NULL),
	          WASD_OK);
	struct wasd_rng r;
	struct wasd_draw d = {0};
	int first = 0, n = 0;
	wasd_rng_init(&r, 6, "was", 0, 0);
	for (int i = 0; i < 2000; i++) {
		wasd_was_draw(w, &r, &d, NULL);
		for (int l = 0; l < d.n; l++, n++)
			first += !strcmp(d.layer[l].t.op->name, "translate");
	}
	CHECK_NEAR(first / (double)n, 0.75, 4 * sqrt(0.75 * 0.25 / n));
	wasd_draw_done(&d);
	wasd_was_destroy(w);

	/* All kinds in one mixture: each with its share; a flip that does not happen is the identity. Chi-square of 7
	 * degrees of freedom: 29.9 is its upper 1e-4 point. */
	static const struct {
		const char *op;
		double p;
	} share[] = {
		{"translate", 1}, {"crop_resize", 2}, {"scale", 3},        {"shear", 4},
		{"rotate", 5},    {"hflip", 6 * 0.5}, {"vflip", 4 * 0.25}, {"identity", 6 * 0.5 + 4 * 0.75},
	};
	CHECK_INT(
		create(
			g, "resnet18",
			"{\"transforms\":[{\"type\":\"translate\"},{\"type\":\"resized_crop\",\"weight\":2},{\"type\":\"scale\",\"weight\":3},{\"type\":\"shear\",\"weight\":4},"
			"{\"type\":\"rotate\",\"weight\":5},{\"type\":\"hflip\",\"weight\":6},{\"type\":\"vflip\",\"weight\":4,\"p\":0.25}]}",
			&w, NULL),
		WASD_OK);
	double seen[8] = {0}, chi = 0;
	for (int i = 0; i < 2000; i++) {
		wasd_was_draw(w, &r, &d, NULL);
		for (int l = 0; l < d.n; l++)
			for (int k = 0; k < 8; k++)
				seen[k] += !strcmp(d.layer[l].t.op->name, share[k].op);
	}
	for (int k = 0; k < 8; k++)
		chi += (seen[k] - share[k].p / 25 * n) * (seen[k] - share[k].p / 25 * n) / (share[k].p / 25 * n);
	CHECK_MSG(chi < 29.9, "chi-square %g", chi);
	wasd_draw_done(&d);
	wasd_was_destroy(w);
	wasd_graph_destroy(g);
}

/* With a profile: the kinds of draws that steps take, as often as the odds say; without one, always fresh transforms
 * and no number taken from the generator. */
static void turns(void)
{
	enum { STEPS = 8000 };
	struct wasd_graph *g = graph_of("resnet18");
	struct wasd_was *w;
	struct wasd_rng r, before;
	struct wasd_draw d = {0};
	int n[WASD_TURNS] = {0};
	wasd_rng_init(&r, 4, "was", 0, 0);
	CHECK_INT(create(g, "resnet18", PROFILE, &w, NULL), WASD_OK);
	for (int i = 0; i < STEPS; i++)
		n[wasd_was_turn(w, &r)]++;
	CHECK_NEAR(n[WASD_TURN_PLAIN], STEPS / 8.0, 4 * sqrt(STEPS * 7 / 64.0));
	CHECK_NEAR(n[WASD_TURN_PROFILE], STEPS / 4.0, 4 * sqrt(STEPS * 3 / 16.0));
	/* The profile is what DOM serves. */
	CHECK_INT(wasd_was_record(w, g, 1, &d, NULL), WASD_OK);
	CHECK(d.n == 1 && d.layer[0].t.live.w == 2 && d.layer[0].t.live.h == 3);
	wasd_draw_done(&d);
	wasd_was_destroy(w);
	CHECK_INT(create(g, "resnet18", NULL, &w, NULL), WASD_OK);
	before = r;
	CHECK(wasd_was_turn(w, &r) == WASD_TURN_FRESH && !memcmp(&before, &r, sizeof r));
	wasd_was_destroy(w);
	wasd_graph_destroy(g);
}

/* probability: this share of layers is transformed, the others are the identity with their alpha; 1 gives the same
 * draws as without the member. */
static void probability(void)
{
	static const struct {
		double p;
		const char *was;
	} c[] = {
		{0, "{\"transforms\":[{\"type\":\"shear\"}],\"probability\":0}"},
		{0.3, "{\"transforms\":[{\"type\":\"shear\"}],\"probability\":0.3}"},
		{1, "{\"transforms\":[{\"type\":\"shear\"}],\"probability\":1}"},
		{0.25 * 0.6, "{\"transforms\":[{\"type\":\"hflip\",\"p\":0.25}],\"probability\":0.6}"},
	};
	enum { DRAWS = 2000 };
	struct wasd_graph *g = graph_of("resnet18");
	struct wasd_rng r, a, b;
	struct wasd_was *w, *v;
	wasd_rng_init(&r, 16, "was", 0, 0);
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_draw d = {0};
		int moved = 0, n = 0, ones = 0;
		CHECK_INT(create(g, "resnet18", c[i].was, &w, NULL), WASD_OK);
		for (int k = 0; k < DRAWS; k++) {
			CHECK_INT(wasd_was_draw(w, &r, &d, NULL), WASD_OK);
			for (int l = 0; l < d.n; l++, n++) {
				moved += strcmp(d.layer[l].t.op->name, "identity") != 0;
				CHECK(d.layer[l].t.identity == !strcmp(d.layer[l].t.op->name, "identity"));
				ones += d.layer[l].alpha_one;
			}
		}
		CHECK_INT(n, DRAWS * 16);
		CHECK_INT(ones, 0);
		CHECK_NEAR(moved / (double)n, c[i].p, 4 * sqrt(c[i].p * (1 - c[i].p) / n));
		wasd_draw_done(&d);
		wasd_was_destroy(w);
	}
	CHECK_INT(create(g, "resnet18", "{\"probability\":1}", &w, NULL), WASD_OK);
	CHECK_INT(create(g, "resnet18", "{}", &v, NULL), WASD_OK);
	struct wasd_draw x = {0}, y = {0};
	wasd_rng_init(&a, 9, "was", 0, 0);
	b = a;
	wasd_was_draw(w, &a, &x, NULL);
	wasd_was_draw(v, &b, &y, NULL);
	CHECK(wasd_rng_u64(&a) == wasd_rng_u64(&b));
	wasd_draw_done(&x);
	wasd_draw_done(&y);
	wasd_was_destroy(w);
	wasd_was_destroy(v);
	wasd_graph_destroy(g);
}

/* groups: each group of a layer draws separately, by the law of a whole layer; the JSON form holds all of them. */
static void groups(void)
{
	enum { GROUPS = 4, DRAWS = 500 };
	struct wasd_graph *g = graph_of("resnet18");
	struct wasd_rng r;
	struct wasd_was *w;
	struct wasd_draw d = {0}, e = {0};
	struct wasd_err err = {0};
	int flipped[GROUPS] = {0}, together = 0, n = 0;
	wasd_rng_init(&r, 18, "was", 0, 0);
	CHECK_INT(create(g, "resnet18", "{\"transforms\":[{\"type\":\"hflip\"}],\"groups\":4,\"probability\":0.5}", &w,
	                 NULL),
	          WASD_OK);
	CHECK_INT(wasd_was_draw(w, &r, &d, NULL), WASD_OK);
	struct wasd_mem_stats before = wasd_mem_stats();
	for (int k = 0; k < DRAWS; k++) {
		CHECK_INT(wasd_was_draw(w, &r, &d, NULL), WASD_OK);
		for (int l = 0; l < d.n; l++, n++) {
			int all = 0;
			CHECK_INT(d.layer[l].parts, GROUPS);
			for (int i = 0; i < GROUPS; i++) {
				bool is = !wasd_draw_part(&d.layer[l], i)->identity;
				flipped[i] += is;
				all += is;
			}
			together += all == GROUPS;
		}
	}
	CHECK_INT(wasd_mem_stats().allocs, before.allocs); /* a second draw into the same object allocates nothing */
	for (int i = 0; i < GROUPS; i++)
		CHECK_NEAR(flipped[i] / (double)n, 0.25, 4 * sqrt(0.25 * 0.75 / n));
	CHECK_NEAR(together / (double)n, 1 / 256.0, 4 * sqrt(1 / 256.0 / n));
	cJSON *j = wasd_draw_to_json(&d, g);
	CHECK_MSG(!wasd_draw_from_json(j, g, &e, &err), "%s: %s", err.pointer, err.msg);
	cJSON *again = wasd_draw_to_json(&e, g);
	CHECK(cJSON_Compare(j, again, true) && cJSON_GetArraySize(wasd_json_get(j->child, "groups")) == GROUPS);
	cJSON_Delete(j);
	cJSON_Delete(again);
	wasd_draw_done(&d);
	wasd_draw_done(&e);
	wasd_was_destroy(w);
	wasd_graph_destroy(g);
}

/* A ramp: equal steps from `from` to `to`, one per epoch. In an epoch this share of layers is transformed, and in a
 * draw outside training the share `to`. */
static void ramp(void)
{
	static const struct {
		const char *was;
		double at[6];
	} c[] = {
		{"{\"transforms\":[{\"type\":\"shear\"}],\"probability\":{\"epochs\":4}}", {0, 0.25, 0.5, 0.75, 1, 1}},
		{"{\"transforms\":[{\"type\":\"shear\"}],\"probability\":{\"from\":0.9,\"to\":0.4,\"epochs\":2}}",
	     {0.9, 0.65, 0.4, 0.4, 0.4, 0.4}},
		{"{\"transforms\":[{\"type\":\"shear\"}],\"probability\":0.3}", {0.3, 0.3, 0.3, 0.3, 0.3, 0.3}},
	};
	enum { DRAWS = 1000 };
	struct wasd_graph *g = graph_of("resnet18");
	struct wasd_rng r;
	wasd_rng_init(&r, 17, "was", 0, 0);
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_was *w;
		struct wasd_draw d = {0};
		CHECK_INT(create(g, "resnet18", c[i].was, &w, NULL), WASD_OK);
		for (int epoch = 0; epoch <= 6; epoch++) { /* 6: outside training */
			double p = c[i].at[epoch < 6 ? epoch : 5];
			int moved = 0, n = 0;
			for (int k = 0; k < DRAWS; k++) {
				CHECK_INT(epoch < 6 ? wasd_was_draw_in(w, epoch, &r, &d, NULL) : wasd_was_draw(w, &r, &d, NULL),
				          WASD_OK);
				for (int l = 0; l < d.n; l++, n++)
					moved += !d.layer[l].t.identity;
			}
			CHECK_NEAR(moved / (double)n, p, 4 * sqrt(p * (1 - p) / n));
			if (epoch < 6)
				CHECK_NEAR(wasd_was_probability(w, epoch), p, 1e-15);
		}
		wasd_draw_done(&d);
		wasd_was_destroy(w);
	}
	wasd_graph_destroy(g);
}

/* The nth allocation fails, for all n until the call succeeds. */
static void out_of_memory(void)
{
	struct wasd_graph *g = graph_of("vgg16");
	cJSON *spec = cJSON_Parse(
		"{\"layers\":[\"conv.3\",\"conv.10\"],\"alpha\":\"fixed\",\"groups\":2,\"probability\":{\"epochs\":3}}");
	for (uint64_t nth = 1;; nth++) {
		struct wasd_was *w = NULL;
		struct wasd_draw d = {0};
		struct wasd_rng r;
		cJSON *j = NULL;
		wasd_rng_init(&r, 1, "was", 0, 0);
		wasd_mem_fail_at(nth);
		enum wasd_status s = wasd_was_create(g, spec, paper_of("vgg16"), &w, NULL);
		if (s == WASD_OK)
			s = wasd_was_draw(w, &r, &d, NULL);
		if (s == WASD_OK && !(j = wasd_draw_to_json(&d, g)))
			s = WASD_ENOMEM;
		cJSON_Delete(j);
		if (s == WASD_OK && !(j = wasd_was_to_json(w)))
			s = WASD_ENOMEM;
		else if (s != WASD_OK)
			j = NULL;
		wasd_mem_fail_at(0);
		cJSON_Delete(j);
		wasd_draw_done(&d);
		wasd_was_destroy(w);
		CHECK_MSG(s == WASD_OK || s == WASD_ENOMEM, "allocation %llu: %s", (unsigned long long)nth,
		          wasd_status_name(s));
		if (s == WASD_OK || nth > 500) {
			CHECK(nth > 2 && nth <= 500);
			break;
		}
	}
	cJSON_Delete(spec);
	wasd_graph_destroy(g);
}

int main(void)
{
	TEST_RUN(plain_weights);
	TEST_RUN(layers);
	TEST_RUN(refusals);
	TEST_RUN(to_json);
	TEST_RUN(draw_json);
	TEST_RUN(choice_weights);
	TEST_RUN(turns);
	TEST_RUN(probability);
	TEST_RUN(ramp);
	TEST_RUN(groups);
	TEST_RUN(out_of_memory);
	TEST_END();
}
