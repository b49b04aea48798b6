/* tests/core/models.c - every network of the table: published parameter and multiply-add counts, savings of draws,
 * image sizes, rejections, equal logits for every batch size, and a falling loss. */
#include "check.h"
#include "graph/graph.h"
#include "wasd/graph.h"
#include "wasd/model.h"
#include "wasd/weights.h"

static struct wasd_graph *build(const char *arch, struct wasd_shape in, int classes, const char *options)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	cJSON *j = options ? cJSON_Parse(options) : NULL;
	enum wasd_status s = wasd_arch_build(arch, in, classes, j, &g, &err);
	CHECK_MSG(s == WASD_OK, "%s %dx%dx%d: %s", arch, in.c, in.h, in.w, err.msg);
	cJSON_Delete(j);
	return g;
}

static const struct wasd_shape cifar = {3, 32, 32};

/* web/docs/was.md#multiply-adds and #networks: parameters, multiply-adds of one image in millions, share of augmented
 * layers, and the savings when every augmented layer is shifted along one axis, or along both (per cent of the
 * network). EfficientNet-Lite's share is printed there as 8.8, rounded twice: 704 736 of 7 962 848 are 8.8503. */
static const struct published {
	const char *arch, *options;
	int classes;
	size_t params;
	int augmented;
	double mmacs, share, one, both, mean, sd, mean4,
		identity; /* mean, sd: "translate .3 always"; mean4: .4; identity: P(T = 1) with the default transforms */
} published[] = {
	{"lenet", NULL, 10, 62006, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"vgg16", NULL, 100, 15300817, 9, 313.8, 81.2, 27.1, 45.1, 22.3, 6.0, 28.5, .309},
	{"vgg16", "{\"head\":4096}", 100, 34016465, 9, 332.5, 76.6, 25.5, 42.6, 21.0, 5.7, 26.9, .844},
	{"resnet18", NULL, 10, 12550250, 16, 605.8, 90.4, 30.1, 50.2, 24.8, 4.7, 31.7, .576},
	{"resnet18", NULL, 100, 12550250 + 46170, 16, 0, 0, 0, 0, 0, 0, 0, 0},
	{"resnet34", NULL, 10, 22658442, 32, 1209.7, 95.2, 31.7, 52.9, 26.1, 3.4, 33.4, .576},
	{"resnet34", NULL, 100, 22658442 + 46170, 32, 0, 0, 0, 0, 0, 0, 0, 0},
	{"googlenet", NULL, 100, 5971388, 18, 1447.3, 67.5, 20.9, 35.2, 18.2, 4.5, 23.8, (.221 + .056) / 2},
	{"mobilenetv2", NULL, 100, 2369414, 17, 44.1, 4.7, 1.6, 2.6, 1.3, 0.3, 1.6, .576},
	{"efficientnet_lite0", NULL, 100, 3499140, 16, 8.0, 8.8503, 2.2, 3.8, 2.3, 0.4, 3.2, (7 * .576 + 9 * .250) / 16},
	/* our own sums over its layers, whose shapes are from memory; no multiply-adds were published for small images */
	{"repvgg", NULL, 1000, 9109064, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"repvgg", "{\"width\":100}", 1000, 14092392, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"repvgg", "{\"blocks\":28,\"width\":100}", 1000, 15818088, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"repvgg", "{\"blocks\":28,\"width\":200}", 1000, 57415016, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"repvgg", "{\"width\":25}", 10, 768042, 0, 0, 0, 0, 0, 0, 0, 0, 0},
};
enum { ROWS = sizeof published / sizeof *published };

/* Percentage of the multiply-adds that a draw with the same shift in all layers of d saves. */
static double saved(const struct wasd_graph *g, struct wasd_draw *d, double dx, double dy)
{
	for (int i = 0; i < d->n; i++)
		wasd_transform_make("translate", d->layer[i].t.k, (double[6]){dx, dy}, &d->layer[i].t, NULL);
	double whole = (double)wasd_graph_macs(g, NULL);
	return 100 * (whole - (double)wasd_graph_macs(g, wasd_draw_recipe(d))) / whole;
}

static void counts(void)
{
	for (int i = 0; i < ROWS; i++) {
		const struct published *p = &published[i];
		struct wasd_graph *g = build(p->arch, cifar, p->classes, p->options);
		if (!g)
			continue;
		int augmented = 0;
		for (int a = 0; a < wasd_graph_augs(g); a++)
			augmented += wasd_graph_aug_info(g, a).alpha_param >= 0;
		CHECK_MSG(wasd_graph_param_count(g) == p->params, "%s: %zu parameters, published %zu", p->arch,
		          wasd_graph_param_count(g), p->params);
		CHECK_INT(augmented, p->augmented);
		CHECK_INT(wasd_graph_classes(g), p->classes);
		if (p->mmacs > 0)
			CHECK_NEAR((double)wasd_graph_macs(g, NULL) / 1e6, p->mmacs, 0.05001);
		wasd_graph_destroy(g);
	}
}

/* Probabilities of dx = 0, +-1, +-2, ... of round(U(-t k, t k)): an integer d covers the interval d - 1/2 .. d +
 * 1/2. */
static void shift_law(int k, double t, double p[WASD_K_MAX])
{
	double half = t * k;
	for (int d = 0; d < WASD_K_MAX; d++) {
		double lo = d - 0.5, hi = fmin(d + 0.5, half);
		p[d] = d ? (hi > lo ? (hi - lo) / half : 0) : fmin(0.5, half) / half; /* both signs together */
	}
}

/* Mean and standard deviation, exactly from the law, of the percentage of multiply-adds that a draw saves if each
 * augmented layer is translated; layers and axes are independent. */
static void saved_by_law(const struct wasd_graph *g, double t, double *mean, double *sd)
{
	double whole = (double)wasd_graph_macs(g, NULL), m = 0, var = 0;
	for (wasd_node i = 0; i < wasd_graph_nodes(g); i++) {
		struct wasd_node_info n = wasd_graph_node_info(g, i);
		if (n.aug < 0 || wasd_graph_aug_info(g, n.aug).alpha_param < 0)
			continue;
		double p[WASD_K_MAX], e = 0, e2 = 0, k = n.kh;
		shift_law(n.kh, t, p);
		for (int dy = 0; dy < n.kh; dy++)
			for (int dx = 0; dx < n.kh; dx++) {
				double share = 1 - (k - dx) * (k - dy) / (k * k);
				e += p[dx] * p[dy] * share;
				e2 += p[dx] * p[dy] * share * share;
			}
		m += (double)n.macs / whole * e;
		var += pow((double)n.macs / whole, 2) * (e2 - e * e);
	}
	*mean = 100 * m;
	*sd = 100 * sqrt(var);
}

/* The table of multiply-adds, to the digits shown. */
static void section_3(void)
{
	for (int i = 0; i < ROWS; i++) {
		const struct published *p = &published[i];
		if (p->mmacs <= 0)
			continue;
		struct wasd_graph *g = build(p->arch, cifar, p->classes, p->options);
		cJSON *model = p->options ? cJSON_Parse(p->options) : cJSON_CreateObject(), *d = NULL;
		cJSON_AddStringToObject(model, "arch", p->arch);
		CHECK_INT(wasd_network_describe(model, NULL, cifar, p->classes, &d, NULL), WASD_OK);
		const cJSON *a = wasd_json_get(d, "augmented"), *dom = wasd_json_get(a, "dom_macs");
		double mean, sd, mean4, sd4, macs = 0, share = 0, one = 0, both = 0;
		wasd_json_num(d, "macs", &macs);
		wasd_json_num(a, "share", &share);
		wasd_json_num(dom, "one_axis", &one);
		wasd_json_num(dom, "both_axes", &both);
		saved_by_law(g, 0.3, &mean, &sd);
		saved_by_law(g, 0.4, &mean4, &sd4);
		char shown[160], want[160];
		snprintf(shown, sizeof shown, "%.1f M, %.1f %%, %.1f, %.1f, %.1f, %.1f, %.1f", macs / 1e6, 100 * share, mean,
		         sd, mean4, 100 * (1 - one / macs), 100 * (1 - both / macs));
		snprintf(want, sizeof want, "%.1f M, %.1f %%, %.1f, %.1f, %.1f, %.1f, %.1f", p->mmacs, p->share, p->mean, p->sd,
		         p->mean4, p->one, p->both);
		CHECK_MSG(!strcmp(shown, want), "%s %s: counted %s; published %s", p->arch, p->options ? p->options : "", shown,
		          want);
		CHECK(macs == (double)wasd_graph_macs(g, NULL));
		cJSON_Delete(d);
		cJSON_Delete(model);
		wasd_graph_destroy(g);
	}
}

/* The description is consistent: its layers give the totals, inputs come before their readers, and its augmented layers
 * are those that a job draws for. */
static void descriptions(void)
{
	const struct wasd_arch *a;
	for (int i = 0; (a = wasd_arch_at(i)); i++) {
		cJSON *model = cJSON_CreateObject(), *d = NULL,
			  *all = cJSON_Parse("{\"transforms\":[{\"type\":\"translate\"}],\"layers\":\"all\"}");
		cJSON_AddStringToObject(model, "arch", a->name);
		for (int with_all = 0; with_all < 2; with_all++) {
			CHECK_INT(wasd_network_describe(model, with_all ? all : NULL, cifar, 10, &d, NULL), WASD_OK);
			double params = 0, macs = 0, total_params = 0, total_macs = 0, other = 0, layers = 0;
			int at = 0, augmented = 0, plain = 0;
			const cJSON *l, *in;
			cJSON_ArrayForEach(l, wasd_json_get(d, "layers")) {
				double v;
				CHECK(wasd_json_num(l, "params", &v));
				params += v;
				CHECK(wasd_json_num(l, "macs", &v));
				macs += v;
				cJSON_ArrayForEach(in, wasd_json_get(l, "inputs"))
					CHECK(in->valueint >= 0 && in->valueint < at);
				augmented += cJSON_IsTrue(wasd_json_get(l, "augmented"));
				plain += cJSON_IsFalse(wasd_json_get(l, "augmented"));
				at++;
			}
			wasd_json_num(d, "params", &total_params);
			wasd_json_num(d, "other_params", &other);
			wasd_json_num(d, "macs", &total_macs);
			wasd_json_num(wasd_json_get(d, "augmented"), "layers", &layers);
			CHECK(params + other == total_params && macs == total_macs && layers == augmented && total_macs > 0);
			CHECK(!with_all || (plain == 0 && augmented > 0));
			CHECK((augmented == 0) == cJSON_IsFalse(wasd_json_get(d, "was")));
			cJSON_Delete(d);
			d = NULL;
		}
		cJSON_Delete(all);
		cJSON_Delete(model);
	}
}

static void savings(void)
{
	for (int i = 0; i < ROWS; i++) {
		const struct published *p = &published[i];
		if (p->mmacs <= 0)
			continue;
		struct wasd_graph *g = build(p->arch, cifar, p->classes, p->options);
		cJSON *options = p->options ? cJSON_Parse(p->options) : NULL,
			  *always = cJSON_Parse("{\"transforms\":[{\"type\":\"translate\"}]}");
		const char *paper;
		struct wasd_was *w = NULL, *own = NULL;
		struct wasd_draw d = {0};
		struct wasd_rng r;
		CHECK_INT(wasd_arch_paper_was(p->arch, options, &paper, NULL), WASD_OK);
		CHECK_INT(wasd_was_create(g, always, paper, &w, NULL), WASD_OK);
		CHECK_INT(wasd_was_create(g, NULL, paper, &own, NULL), WASD_OK);
		wasd_rng_init(&r, 11, "was", 0, 0);

		enum { N = 4000 };
		double sum = 0, sq = 0, whole = (double)wasd_graph_macs(g, NULL);
		for (int k = 0; k < N; k++) {
			CHECK_INT(wasd_was_draw(w, &r, &d, NULL), WASD_OK);
			double s = 100 * (1 - (double)wasd_graph_macs(g, &d.recipe) / whole);
			sum += s;
			sq += s * s;
		}
		double mean = sum / N, sd = sqrt(sq / N - mean * mean);
		CHECK_NEAR(mean, p->mean, 0.05 + 4 * p->sd / sqrt(N));
		CHECK_NEAR(sd, p->sd, 0.05 + 4 * p->sd / sqrt(2.0 * N));
		CHECK_NEAR(saved(g, &d, 9, 0), p->share, 0.0501); /* no live taps: the whole cost of the augmented layers */
		CHECK_NEAR(saved(g, &d, 1, 0), p->one, 0.0501);
		CHECK_NEAR(saved(g, &d, 0, -1), p->one, 0.0501);
		CHECK_NEAR(saved(g, &d, -1, 1), p->both, 0.0501);
		CHECK_NEAR(saved(g, &d, 0, 0), 0, 0);

		int same = 0, total = 0;
		for (int k = 0; k < N; k++) {
			CHECK_INT(wasd_was_draw(own, &r, &d, NULL), WASD_OK);
			for (int l = 0; l < d.n; l++, total++)
				same += d.layer[l].t.identity;
		}
		CHECK_NEAR((double)same / total, p->identity, 0.0005 + 4 * 0.5 / sqrt(total));
		wasd_draw_done(&d);
		wasd_was_destroy(w);
		wasd_was_destroy(own);
		cJSON_Delete(options);
		cJSON_Delete(always);
		wasd_graph_destroy(g);
	}
}

/* Specs stored before LeNet had an option mean the authors' network, whose logits pass a ReLU. A request is completed
 * to the classic network, unless it refers to a file of the authors' network. */
static void lenet_as_published(void)
{
	static const struct {
		const char *model, *last;
	} nets[] = {
		{"{\"arch\":\"lenet\"}", "relu"},
		{"{\"arch\":\"lenet\",\"published\":true}", "relu"},
		{"{\"arch\":\"lenet\",\"published\":false}", "linear"},
	};
	static const struct {
		const char *request, *stored, *want;
	} rows[] = {
		{"{\"arch\":\"lenet\"}", "null", "{\"arch\":\"lenet\",\"published\":false}"},
		{"{\"arch\":\"lenet\",\"published\":true}", "null", "{\"arch\":\"lenet\",\"published\":true}"},
		{"{\"arch\":\"lenet\"}", "{\"arch\":\"lenet\"}", "{\"arch\":\"lenet\",\"published\":true}"},
		{"{\"arch\":\"lenet\",\"published\":false}", "{\"arch\":\"lenet\"}",
	     "{\"arch\":\"lenet\",\"published\":false}"},
		{"{\"arch\":\"lenet\"}", "{\"arch\":\"lenet\",\"published\":false}",
	     "{\"arch\":\"lenet\",\"published\":false}"},
		{"{\"arch\":\"lenet\"}", "{\"arch\":\"vgg16\"}", "{\"arch\":\"lenet\",\"published\":false}"},
		{"{\"arch\":\"vgg16\"}", "{\"arch\":\"vgg16\",\"head\":4096}", "{\"arch\":\"vgg16\",\"head\":4096}"},
		{"{\"layers\":[]}", "null", "{\"layers\":[]}"},
		{"{\"arch\":\"alexnet\"}", "null", "{\"arch\":\"alexnet\"}"},
	};
	for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		cJSON *model = cJSON_Parse(nets[i].model);
		CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){1, 28, 28}, 10, &g, &err), "%s", err.msg);
		CHECK_STR(wasd_graph_node_info(g, wasd_graph_nodes(g) - 1).op, nets[i].last);
		wasd_graph_destroy(g);
		cJSON_Delete(model);
	}
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		cJSON *request = cJSON_Parse(rows[i].request), *stored = cJSON_Parse(rows[i].stored);
		CHECK(!wasd_network_complete(request, stored, NULL));
		char *text = wasd_json_print(request);
		CHECK_STR(text, rows[i].want);
		wasd_free(text);
		cJSON_Delete(request);
		cJSON_Delete(stored);
	}
}

static void refusals(void)
{
	static const struct {
		const char *arch;
		struct wasd_shape in;
		int classes;
		const char *model, *pointer;
	} c[] = {
		{"alexnet", {3, 32, 32}, 10, NULL, "/model/arch"},
		{"resnet18", {2, 32, 32}, 10, NULL, "/dataset"},
		{"resnet18", {3, 8, 8}, 10, NULL, "/dataset"},
		{"resnet18", {3, 32, 15}, 10, NULL, "/dataset"},
		{"resnet18", {3, 5000, 5000}, 10, NULL, "/dataset"},
		{"lenet", {1, 30, 30}, 10, NULL, "/dataset"},
		{"lenet", {1, 28, 32}, 10, NULL, "/dataset"},
		{"lenet", {1, 16, 16}, 10, NULL, "/dataset"},
		{"vgg16", {3, 32, 32}, 1, NULL, "/dataset"},
		{"vgg16", {3, 32, 32}, 70000, NULL, "/dataset"},
		{"vgg16", {3, 32, 32}, 10, "{\"arch\":\"vgg16\",\"head\":1024}", "/model/head"},
		{"vgg16", {3, 32, 32}, 10, "{\"arch\":\"vgg16\",\"head\":\"512\"}", "/model/head"},
		{"vgg16", {3, 32, 32}, 10, "{\"heads\":512}", "/model/heads"},
		{"resnet18", {3, 32, 32}, 10, "{\"head\":512}", "/model/head"},
		{"resnet18", {3, 32, 32}, 10, "{\"published\":true}", "/model/published"},
		{"lenet", {3, 32, 32}, 10, "{\"published\":1}", "/model/published"},
		{"resnet18", {3, 32, 32}, 10, "[]", "/model"},
		{"googlenet", {3, 7, 32}, 10, NULL, "/dataset"},
		{"mobilenetv2", {3, 32, 7}, 10, NULL, "/dataset"},
		{"mobilenetv2", {4, 32, 32}, 10, NULL, "/dataset"},
		{"efficientnet_lite0", {3, 15, 15}, 10, NULL, "/dataset"},
		{"efficientnet_lite0", {3, 32, 32}, 10, "{\"width\":1}", "/model/width"},
		{"repvgg", {3, 15, 32}, 10, NULL, "/dataset"},
		{"repvgg", {3, 32, 32}, 10, "{\"width\":50}", "/model/width"},
		{"repvgg", {3, 32, 32}, 10, "{\"blocks\":23}", "/model/blocks"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		cJSON *j = c[i].model ? cJSON_Parse(c[i].model) : NULL;
		CHECK_MSG(wasd_arch_build(c[i].arch, c[i].in, c[i].classes, j, &g, &err) == WASD_EINVAL, "case %zu was taken",
		          i);
		CHECK_MSG(!strcmp(err.pointer, c[i].pointer), "case %zu: pointer \"%s\", want \"%s\" (%s)", i, err.pointer,
		          c[i].pointer, err.msg);
		CHECK(!g && err.msg[0]);
		cJSON_Delete(j);
		wasd_graph_destroy(g);
	}
}

/* A network of the spec's "model" object with its values for this seed; NULL if it was refused, with the error. */
static struct wasd_model *valued(const char *model, uint64_t seed, struct wasd_err *err)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	cJSON *j = cJSON_Parse(model);
	enum wasd_status s = wasd_network_build(j, (struct wasd_shape){3, 16, 16}, 10, &g, err);
	if (!s)
		s = wasd_model_create(g, seed, &m, err);
	CHECK((s == WASD_OK) == (m != NULL));
	cJSON_Delete(j);
	wasd_graph_destroy(g);
	return m;
}

static bool same_values(struct wasd_model *a, struct wasd_model *b)
{
	return a && b &&
	       !memcmp(wasd_model_master(a), wasd_model_master(b),
	               wasd_graph_param_count(wasd_model_graph(a)) * sizeof(real));
}

/* Mean and variance of each weight, in units of what He's rule gives them: within 5 standard errors, sqrt(1/n) and
 * sqrt(2/n). What has one dimension: biases 0, the rest as ever. */
static void check_he(struct wasd_model *he, struct wasd_model *uniform, const char *name)
{
	const struct wasd_graph *g = wasd_model_graph(he);
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		const real *v = wasd_model_master(he) + p.offset, *u = wasd_model_master(uniform) + p.offset;
		double sum = 0, squares = 0, n = (double)p.count, fan_in = n / p.dims[0];
		bool normed = p.ndims == 1 && (u[0] == 0 || u[0] == 1);
		for (size_t k = 0; k < p.count; k++) {
			double z = v[k] * sqrt(fan_in / 2);
			sum += z;
			squares += z * z;
			if (normed || (p.ndims == 1 && strstr(p.name, "bias")))
				CHECK_MSG(v[k] == (normed ? u[k] : 0), "%s %s[%zu] is %g", name, p.name, k, v[k]);
		}
		if (p.ndims == 1)
			continue;
		CHECK_MSG(fabs(sum / n) < 5 / sqrt(n), "%s %s: mean %g", name, p.name, sum / n);
		CHECK_MSG(fabs(squares / n - 1) < 5 * sqrt(2 / n), "%s %s: variance %g", name, p.name, squares / n);
	}
}

/* PyTorch's rule, number by number, from the same stream. */
static void check_uniform(struct wasd_model *m)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	struct wasd_rng r;
	wasd_rng_init(&r, 7, "init", 0, 0);
	for (int i = 0; i < g->n_params; i++) {
		const struct param *p = &g->params[i];
		for (size_t k = 0; k < p->count && p->init == PARAM_FAN_IN; k++) {
			double bound = 1 / sqrt(p->fan_in);
			real want = (real)wasd_rng_between(&r, -bound, bound);
			CHECK_MSG(m->master[p->offset + k] == want, "%s[%zu] is %g, want %g", p->name, k, m->master[p->offset + k],
			          want);
		}
	}
}

/* "init" of networks of the table and of one of the job's own. */
static void initial_values(void)
{
	static const char *const models[] = {
		"\"arch\":\"vgg16\"", "\"arch\":\"mobilenetv2\"",
		"\"layers\":[{\"type\":\"conv\",\"out\":32},{\"type\":\"batchnorm\"},{\"type\":\"relu\"},{\"type\":\"flatten\"},"
		"{\"type\":\"linear\",\"out\":\"classes\"}]"};
	struct wasd_err err = {0};
	char text[400];
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct wasd_model *m[5];
		static const char *const init[] = {"", ",\"init\":\"uniform\"", ",\"init\":\"he\"", ",\"init\":\"he\"",
		                                   ",\"init\":\"he\""};
		for (int k = 0; k < 5; k++) {
			snprintf(text, sizeof text, "{%s%s}", models[i], init[k]);
			m[k] = valued(text, k == 4 ? 8 : 7, &err);
			CHECK_MSG(m[k], "%s: %s", text, err.msg);
		}
		CHECK_MSG(same_values(m[0], m[1]), "%s: \"uniform\" is not the default", models[i]);
		CHECK_MSG(same_values(m[2], m[3]), "%s: the seed does not determine the values", models[i]);
		CHECK_MSG(!same_values(m[2], m[4]), "%s: two seeds give the same values", models[i]);
		if (m[0] && m[2])
			check_he(m[2], m[0], models[i]);
		if (i == 2 && m[0]) /* no alphas, which take numbers of the stream in between */
			check_uniform(m[0]);
		for (int k = 0; k < 5; k++)
			wasd_model_destroy(m[k]);
		snprintf(text, sizeof text, "{%s,\"init\":\"xavier\"}", models[i]);
		CHECK(!valued(text, 7, &err));
		CHECK_STR(err.pointer, "/model/init");
	}
}

/* Trains plain weights on the same 6 images, each with a bright band at the height of its class, until the loss has
 * fallen; checks that one image alone has the same logits as in the batch. */
static void run(const char *arch, const char *options, struct wasd_shape in, int steps, double lr)
{
	enum { BATCH = 6, CLASSES = 3 };
	struct wasd_graph *g = build(arch, in, CLASSES, options);
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	size_t pixels = wasd_shape_count(in);
	real *x = wasd_malloc(BATCH * pixels * sizeof *x);
	struct wasd_exec_opts o = {.batch = BATCH, .training = true};
	if (!g || wasd_model_create(g, 3, &m, &err) || wasd_exec_create(m, &o, &e, &err)) {
		CHECK_MSG(false, "%s: %s", arch, err.msg);
		goto out;
	}
	struct wasd_rng r;
	int32_t y[BATCH] = {0, 1, 2, 0, 1, 2};
	wasd_rng_init(&r, 4, "images", 0, 0);
	for (size_t i = 0; i < BATCH * pixels; i++) {
		int row = (int)(i % pixels) / in.w % in.h, image = (int)(i / pixels);
		x[i] = (real)(wasd_rng_between(&r, -0.3, 0.3) + (row * CLASSES / in.h == y[image]));
	}

	double first = 0, loss = 0;
	int hits;
	struct wasd_pass train = {.n = BATCH, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN, .update = true};
	for (int s = 0; s < steps; s++) {
		wasd_model_grad_zero(m);
		CHECK_MSG(!wasd_exec_forward(e, x, &train, &err) && !wasd_exec_loss(e, y, 0, &loss, &hits, &err) &&
		              !wasd_exec_backward(e, &err),
		          "%s: %s", arch, err.msg);
		first = s ? first : loss;
		real *w = wasd_model_master(m), *d = wasd_model_grad(m);
		for (size_t i = 0; i < wasd_graph_param_count(g); i++)
			w[i] -= (real)lr * d[i];
	}
	CHECK_MSG(loss < 0.9 * first, "%s %dx%dx%d: loss %g after %g", arch, in.c, in.h, in.w, loss, first);

	struct wasd_pass eval = {.n = BATCH, .bn = WASD_BN_SET, .set = WASD_STATS_TRAIN};
	real all[BATCH * CLASSES], largest = 0;
	CHECK_INT(wasd_exec_forward(e, x, &eval, &err), WASD_OK);
	memcpy(all, wasd_exec_logits(e), sizeof all);
	for (int i = 0; i < BATCH * CLASSES; i++)
		largest = (real)fmax(largest, fabs((double)all[i]));
	eval.n = 1;
	for (int i = 0; i < BATCH; i += BATCH - 1) {
		CHECK_INT(wasd_exec_forward(e, x + (size_t)i * pixels, &eval, &err), WASD_OK);
		for (int c = 0; c < CLASSES; c++)
			CHECK_NEAR(wasd_exec_logits(e)[c], all[i * CLASSES + c], 1e-4 * (double)largest);
	}
out:
	wasd_free(x);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

static void learns_lenet(void)
{
	run("lenet", NULL, (struct wasd_shape){1, 28, 28}, 80, 0.1);
	run("lenet", NULL, (struct wasd_shape){3, 28, 28}, 80, 0.1);
	run("lenet", NULL, (struct wasd_shape){1, 32, 32}, 80, 0.1);
}

static void learns_vgg(void)
{
	run("vgg16", NULL, (struct wasd_shape){1, 16, 16}, 6, 0.02);
	run("vgg16", NULL, (struct wasd_shape){3, 28, 28}, 6, 0.02);
	run("vgg16", NULL, (struct wasd_shape){3, 40, 24}, 6, 0.02);
}

static void learns_resnet(void)
{
	run("resnet18", NULL, (struct wasd_shape){1, 16, 16}, 6, 0.02);
	run("resnet18", NULL, (struct wasd_shape){3, 20, 28}, 6, 0.02);
	run("resnet34", NULL, (struct wasd_shape){3, 16, 16}, 6, 0.02);
}

static void learns_googlenet(void)
{
	run("googlenet", NULL, (struct wasd_shape){1, 8, 8}, 4, 0.05);
	run("googlenet", NULL, (struct wasd_shape){3, 9, 17}, 4, 0.05);
}

static void learns_mobilenet(void)
{
	run("mobilenetv2", NULL, (struct wasd_shape){1, 8, 8}, 12, 0.05);
	run("mobilenetv2", NULL, (struct wasd_shape){3, 21, 16}, 12, 0.05);
}

static void learns_repvgg(void)
{
	run("repvgg", "{\"width\":25}", (struct wasd_shape){1, 16, 16}, 12, 0.05);
	run("repvgg", "{\"width\":25}", (struct wasd_shape){3, 19, 24}, 12, 0.05);
}

static void learns_efficientnet(void)
{
	run("efficientnet_lite0", NULL, (struct wasd_shape){1, 16, 16}, 12, 0.05);
	run("efficientnet_lite0", NULL, (struct wasd_shape){3, 32, 33}, 12, 0.05);
}

/* Batch norm and drop-connect of EfficientNet-Lite: the rate of block b of 16 is 0.2 b/7, where the branch is added to
 * its input. */
static void efficientnet_rates(void)
{
	static const int skips[] = {2, 4, 6, 7, 9, 10, 12, 13, 14}; /* stride 1 and as many channels as before */
	struct wasd_graph *g = build("efficientnet_lite0", cifar, 10, NULL);
	int found = 0;
	for (int i = 0; g && i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		if (!strcmp(n->layer->op, "batchnorm"))
			CHECK_MSG(n->eps == 1e-3 && n->momentum == 0.01, "%s: eps %g, momentum %g", n->name, n->eps, n->momentum);
		else if (!strcmp(n->layer->op, "dropout"))
			CHECK_NEAR(n->p, 0.2, 0);
		else if (!strcmp(n->layer->op, "dropconnect") && found < 9)
			CHECK_NEAR(n->p, 0.2 * skips[found++] / 7, 1e-15);
	}
	CHECK_INT(found, 9);
	wasd_graph_destroy(g);
}

/* On 1x1 maps one image has no batch statistics: the pass names the layer. Two images, or stored statistics, work. */
static void one_image(void)
{
	static const struct {
		const char *arch;
		struct wasd_shape in;
		const char *layer;
	} c[] = {
		{"efficientnet_lite0", {3, 32, 32}, "blocks.5.0._bn1"},
		{"mobilenetv2", {1, 8, 8}, "stage4.0.residual_1.0"},
		{"mobilenetv2", {1, 9, 8}, NULL},
		{"vgg16", {3, 16, 16}, "conv.35"},
		{"resnet18", {3, 16, 16}, NULL},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_graph *g = build(c[i].arch, c[i].in, 4, NULL);
		struct wasd_model *m = NULL;
		struct wasd_exec *e = NULL;
		struct wasd_err err = {0};
		struct wasd_exec_opts o = {.batch = 2};
		real *x = wasd_calloc(2 * wasd_shape_count(c[i].in), sizeof *x);
		const char *layer = wasd_graph_lone_value(g);
		CHECK_MSG(c[i].layer ? layer && !strcmp(layer, c[i].layer) : !layer, "%s: %s", c[i].arch,
		          layer ? layer : "none");
		CHECK(!wasd_model_create(g, 1, &m, &err) && !wasd_exec_create(m, &o, &e, &err));
		struct wasd_pass pass = {.n = 1, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN};
		CHECK_INT(wasd_exec_forward(e, x, &pass, &err), layer ? WASD_EINVAL : WASD_OK);
		CHECK_MSG(!layer || strstr(err.msg, layer), "\"%s\" does not name %s", err.msg, layer);
		pass.bn = WASD_BN_SET;
		CHECK_INT(wasd_exec_forward(e, x, &pass, &err), WASD_OK);
		pass.bn = WASD_BN_BATCH;
		pass.n = 2;
		CHECK_INT(wasd_exec_forward(e, x, &pass, &err), WASD_OK);
		wasd_free(x);
		wasd_exec_destroy(e);
		wasd_model_destroy(m);
		wasd_graph_destroy(g);
	}
}

/* The object is complete, and building it survives any failed allocation. */
static void capabilities(void)
{
	static const char *const lists[] = {"archs",   "layers",     "transforms", "optimizers", "schedules",
	                                    "augment", "precisions", "backends",   "formats",    "synthetic"};
	cJSON *c = wasd_capabilities();
	CHECK(c);
	for (size_t i = 0; c && i < sizeof lists / sizeof *lists; i++)
		CHECK_MSG(cJSON_IsArray(wasd_json_get(c, lists[i])) && wasd_json_get(c, lists[i])->child,
		          "%s is missing or empty", lists[i]);
	const cJSON *a;
	cJSON_ArrayForEach(a, wasd_json_get(c, "archs")) {
		const char *name = "";
		const cJSON *first = wasd_json_get(a, "variants");
		CHECK(wasd_json_str(a, "name", &name) && first && first->child);
		for (int i = 0; i < ROWS; i++)
			if (!strcmp(published[i].arch, name) && published[i].classes == 10 && !published[i].options)
				CHECK_INT(wasd_json_get(first->child, "params")->valuedouble, published[i].params);
		if (!strcmp(name, "vgg16"))
			CHECK_INT(cJSON_GetArraySize(first), 2);
	}
	cJSON_Delete(c);
	uint64_t before = wasd_mem_stats().allocs;
	c = wasd_capabilities();
	uint64_t n = wasd_mem_stats().allocs - before;
	cJSON_Delete(c);
	for (uint64_t nth = 1; nth <= n; nth += nth < 50 ? 1 : n / 40 + 1) {
		wasd_mem_fail_at(nth);
		c = wasd_capabilities();
		wasd_mem_fail_at(0);
		CHECK_MSG(!c, "allocation %llu failed unnoticed", (unsigned long long)nth);
		cJSON_Delete(c);
	}
}

int main(void)
{
	TEST_RUN(counts);
	TEST_RUN(section_3);
	TEST_RUN(descriptions);
	TEST_RUN(savings);
	TEST_RUN(lenet_as_published);
	TEST_RUN(refusals);
	TEST_RUN(initial_values);
	TEST_RUN(learns_lenet);
	TEST_RUN(learns_vgg);
	TEST_RUN(learns_resnet);
	TEST_RUN(learns_googlenet);
	TEST_RUN(learns_mobilenet);
	TEST_RUN(learns_efficientnet);
	TEST_RUN(learns_repvgg);
	TEST_RUN(efficientnet_rates);
	TEST_RUN(one_image);
	TEST_RUN(capabilities);
	TEST_END();
}
