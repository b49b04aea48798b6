/* tests/core/rso.c - the search "rso" against the authors' code: traces of their functions with given changes, their
 * order, annealing and counts (the numbers are those of e_rso in the specification's golden file, made by running
 * train.py of rohun-tripathi/RSO-gradient-free); the exact change of a layer's output against passes over the whole
 * network, on every backend; what holds for any search; and runs. */
#include "optim/rso.h"
#include "optim/kinds.h"

#include "backends.h"
#include "tiny.h"
#include "wasd/model.h"

/* ---- a network with a search --------------------------------------------------------------------------------- */

struct bed {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct wasd_exec *e;
	struct rso *r;
	real *x;
	int32_t *y;
	struct wasd_targets targets;
	struct wasd_search_step step;
};

#define WHOLE_DOUBLE (sizeof(real) == 8)

static struct bed bed_of(struct wasd_graph *g, int n, const double opt[4], const char *backend)
{
	struct bed b = {.g = g};
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = n, .keep_all = true, .backend = backend};
	struct wasd_search_setup setup = {.opt = opt, .graph = g, .batch = n, .epochs = 5, .seed = 3};
	void *self = NULL;
	wasd_graph_initial(g, WASD_INITIAL_HE);
	CHECK_MSG(!wasd_model_create(g, 1, &b.m, &err) && !wasd_exec_create(b.m, &o, &b.e, &err) &&
	              !optim_rso.search->create(&setup, &self, &err) && !optim_rso.search->begin(self, &err),
	          "%s", err.msg);
	b.r = self;
	b.x = wasd_calloc((size_t)n * wasd_shape_count(wasd_graph_input_shape(g)), sizeof *b.x);
	b.y = wasd_calloc((size_t)n, sizeof *b.y);
	b.targets = (struct wasd_targets){.y = b.y};
	b.step = (struct wasd_search_step){.model = b.m, .exec = b.e, .x = b.x, .n = n};
	return b;
}

/* Random images and labels. */
static void fill(struct bed *b)
{
	struct wasd_rng rng;
	wasd_rng_init(&rng, 9, "images", 0, 0);
	for (size_t i = 0; i < (size_t)b->step.n * wasd_shape_count(wasd_graph_input_shape(b->g)); i++)
		b->x[i] = (real)wasd_rng_normal(&rng);
	for (int i = 0; i < b->step.n; i++)
		b->y[i] = (int32_t)wasd_rng_below(&rng, (uint32_t)wasd_graph_classes(b->g));
}

static void bed_done(struct bed *b)
{
	optim_rso.search->destroy(b->r);
	wasd_exec_destroy(b->e);
	wasd_model_destroy(b->m);
	wasd_graph_destroy(b->g);
	wasd_free(b->x);
	wasd_free(b->y);
}

static real *param(struct bed *b, const char *name)
{
	int i = wasd_graph_param_find(b->g, name);
	CHECK_MSG(i >= 0, "%s", name);
	return wasd_model_master(b->m) + wasd_graph_param_info(b->g, i < 0 ? 0 : i).offset;
}

static const struct rso_place *place(struct bed *b, const char *name)
{
	for (int i = 0; i < b->r->n_places; i++)
		if (!strcmp(b->g->params[b->r->place[i].param].name, name))
			return &b->r->place[i];
	CHECK_MSG(false, "%s is not visited", name);
	return &b->r->place[0];
}

static struct wasd_search_result visit(struct bed *b, const char *name, size_t from, size_t n, const double *d)
{
	struct rso_visit v = {.place = place(b, name), .from = from, .n = n, .d = d};
	struct wasd_search_result out = {0};
	struct wasd_err err = {0};
	b->step.targets = &b->targets;
	CHECK_MSG(!rso_visit(b->r, &v, &b->step, &out, &err), "%s: %s", name, err.msg);
	return out;
}

static struct wasd_graph *begin(int c, int h, int w)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){c, h, w}, &g, NULL));
	return g;
}

static struct wasd_graph *finish(struct wasd_graph *g, wasd_node out)
{
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_graph_finish(g, out, &err), "%s", err.msg);
	return g;
}

/* ---- the authors' numbers ------------------------------------------------------------------------------------------
 */

static const double as_published[4] = {0.1, 1e-4, 0.167, 1};

/* One row of a trace: the change that was tried, whether it was taken, and the loss and the weight that it left. */
struct traced {
	double d;
	bool flip;
	double loss, w;
};

static void follow(struct bed *b, const char *name, const struct traced *row, size_t n, const char *backend)
{
	double tol = WHOLE_DOUBLE ? 1e-13 : 1e-6;
	for (size_t k = 0; k < n; k++) {
		struct wasd_search_result r = visit(b, name, k, 1, &row[k].d);
		CHECK_MSG(r.changed == row[k].flip && r.tried == 1, "%s %s[%zu]: flip %u", backend, name, k, r.changed);
		CHECK_MSG(fabs(r.loss * b->step.n - row[k].loss) <= tol * 10, "%s %s[%zu]: loss %.17g, want %.17g", backend,
		          name, k, r.loss * b->step.n, row[k].loss);
		CHECK_NEAR(param(b, name)[k], row[k].w, tol);
	}
}

static void traces_on(const char *backend)
{
	static const struct traced fc[] = {
		{0.5, false, 3.403496788728437, -0.49995},  {-0.25, true, 3.0611243401110215, 0.25},
		{0.75, true, 1.6453312475020614, 1.24995},  {0.1, true, 1.48661601981411, -0.149975},
		{-0.6, false, 1.486626260138152, 0.249975}, {0.3, true, 1.3495151746560086, 0.449925},
	};
	static const real x[12] = {1, 2, 3, 3, 1, 0, 0, 1, 2, 2, 2, 1}, w0[6] = {-0.5, 0, 0.5, -0.25, 0.25, 0.75};
	struct wasd_graph *g = begin(3, 1, 1);
	struct bed b = bed_of(finish(g, wasd_graph_linear(g, wasd_graph_input(g), "fc", 2, false)), 4, as_published,
	                      backend);
	memcpy(b.x, x, sizeof x);
	memcpy(b.y, (int32_t[4]){0, 1, 0, 1}, 4 * sizeof *b.y);
	memcpy(param(&b, "fc.weight"), w0, sizeof w0);
	follow(&b, "fc.weight", fc, 6, backend);
	bed_done(&b);

	static const struct traced conv[] = {
		{0.3, true, 8.200249396490772, 0.19995},
		{-0.2, true, 6.502732506612456, -0.29995},
		{0.4, true, 5.353066709734934, -0.150025},
		{0.1, true, 5.012056175776296, 0.1},
	};
	g = begin(1, 4, 4);
	wasd_node map = wasd_graph_conv(g, wasd_graph_input(g), "c", 1, 2, 1, 0, 1, false);
	map = wasd_graph_flatten(g, wasd_graph_maxpool(g, map, 3, 3, 0));
	b = bed_of(finish(g, wasd_graph_linear(g, map, "z", 2, false)), 2, as_published, backend);
	for (int i = 0; i < 32; i++)
		b.x[i] = (real)(3 * i % 11 - 5);
	b.y[1] = 1;
	memcpy(param(&b, "z.weight"), (real[2]){1, -1}, 2 * sizeof(real));
	memcpy(param(&b, "c.weight"), (real[4]){0.5, -0.5, 0.25, 0}, 4 * sizeof(real));
	follow(&b, "c.weight", conv, 4, backend);
	bed_done(&b);
}

static void on_every_backend(void (*test)(const char *backend))
{
	const struct backend *b;
	for (int i = 0; (b = backend_at(i)); i++)
		if (strcmp(b->name, "onednn") || fast_backend_runs())
			test(b->name);
}

static void authors_traces(void)
{
	on_every_backend(traces_on);
}

/* Equal losses keep the value. */
static void ties_keep(void)
{
	static const double none[4] = {0.1, 0, 0.167, 1}, d[] = {0, 0.5};
	struct wasd_graph *g = begin(3, 1, 1);
	struct bed b = bed_of(finish(g, wasd_graph_linear(g, wasd_graph_input(g), "fc", 2, true)), 4, none, NULL);
	for (int i = 0; i < 4; i++) /* feature 2 is 0 in every image */
		b.x[3 * i] = b.x[3 * i + 1] = (real)i;
	real w = param(&b, "fc.weight")[2];
	CHECK_INT(visit(&b, "fc.weight", 0, 1, &d[0]).changed, 0);
	CHECK_INT(visit(&b, "fc.weight", 2, 1, &d[1]).changed, 0);
	CHECK(param(&b, "fc.weight")[2] == w);
	bed_done(&b);
}

static void annealing(void)
{
	static const struct {
		int cycles, cycle;
		double factor;
	} rows[] = {{5, 0, 1},      {5, 1, 0.82},    {5, 2, 0.64}, {5, 4, 0.28},     {50, 0, 1},       {50, 1, 0.982},
	            {50, 25, 0.55}, {50, 49, 0.118}, {500, 0, 1},  {500, 1, 0.9982}, {500, 250, 0.55}, {500, 499, 0.1018}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct rso r = {.anneal = 0.1, .epochs = rows[i].cycles};
		CHECK_NEAR(rso_anneal(&r, rows[i].cycle), rows[i].factor, 1e-15);
	}
}

/* The authors' network for CIFAR-10: nine convolutions, each with batch norm, every second one with the input of the
 * layer before added; pools after 3 and 5. For MNIST six of 16 channels, pools after 2 and 4 in front of the batch
 * norm. */
static struct wasd_graph *published(bool cifar)
{
	struct wasd_graph *g = begin(cifar ? 3 : 1, cifar ? 32 : 28, cifar ? 32 : 28);
	wasd_node x = wasd_graph_input(g), before = x;
	char name[20];
	for (int i = 0; i < (cifar ? 9 : 6); i++) {
		int out = cifar && i > 2 ? 32 : 16;
		bool add = cifar && i && i % 2 == 0, pool = cifar ? i == 3 || i == 5 : i == 2 || i == 4;
		wasd_node shortcut = before, y;
		if (add && i == 4) {
			shortcut = wasd_graph_maxpool(g, wasd_graph_conv(g, before, "increase", out, 1, 1, 0, 1, false), 2, 2, 0);
			shortcut = wasd_graph_batchnorm(g, shortcut, "increase_bn", 1e-5, 0.1);
		} else if (add && i == 6) {
			shortcut = wasd_graph_maxpool(g, before, 2, 2, 0);
		}
		snprintf(name, sizeof name, "conv%d", i);
		y = wasd_graph_conv(g, x, name, out, 3, 1, 1, 1, false);
		if (pool && !cifar)
			y = wasd_graph_avgpool(g, y, 2, 2);
		snprintf(name, sizeof name, "bn%d", i);
		y = wasd_graph_batchnorm(g, y, name, 1e-5, 0.1);
		if (add)
			y = wasd_graph_add(g, y, shortcut);
		before = add || !i ? before : x;
		y = wasd_graph_relu(g, y);
		if (pool && cifar)
			y = wasd_graph_maxpool(g, y, 2, 2, 0);
		before = x;
		x = y;
	}
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	return finish(g, wasd_graph_linear(g, x, "fc", 10, false));
}

static void authors_order(void)
{
	static const char *const cifar[] = {"fc.weight",       "conv8.weight",     "bn8.bias",           "bn8.weight",
	                                    "conv7.weight",    "bn7.bias",         "bn7.weight",         "conv6.weight",
	                                    "bn6.bias",        "bn6.weight",       "conv5.weight",       "bn5.bias",
	                                    "bn5.weight",      "conv4.weight",     "bn4.bias",           "bn4.weight",
	                                    "increase.weight", "increase_bn.bias", "increase_bn.weight", "conv3.weight",
	                                    "bn3.bias",        "bn3.weight",       "conv2.weight",       "bn2.bias",
	                                    "bn2.weight",      "conv1.weight",     "bn1.bias",           "bn1.weight",
	                                    "conv0.weight",    "bn0.bias",         "bn0.weight"};
	for (int set = 0; set < 2; set++) {
		struct wasd_graph *g = published(set == 1);
		struct wasd_search_setup setup = {.opt = as_published, .graph = g, .batch = 1, .epochs = 5};
		void *self = NULL;
		CHECK(!optim_rso.search->create(&setup, &self, NULL));
		const struct rso *r = self;
		CHECK_INT(optim_rso.search->steps(r), set ? 57104 : 12016);
		CHECK_INT(r->n_places, set ? 31 : 19);
		for (int i = 0; set && i < r->n_places && i < 31; i++) {
			CHECK_STR(g->params[r->place[i].param].name, cifar[i]);
			CHECK_INT(r->place[i].first, i ? r->place[i - 1].first + g->params[r->place[i - 1].param].count : 0);
		}
		CHECK_NEAR(r->place[0].sigma, sqrt(2.0 / (set ? 32 : 16)), 1e-15);
		CHECK_NEAR(r->place[1].sigma, sqrt(2.0 / (set ? 288 : 144)), 1e-15);
		CHECK_NEAR(r->place[2].sigma, 0.167, 0);
		optim_rso.search->destroy(self);
		wasd_graph_destroy(g);
	}
}

/* w[2][1][0][2] += 0.5 changes output channel 2 alone, and as a whole convolution does. The numbers are small integers
 * and halves, so every sum is exact in any order. */
static void incremental_convolution(void)
{
	enum { N = 2, C = 2, O = 4, S = 5, K = 3 };
	struct wasd_graph *g = begin(C, S, S);
	wasd_node map = wasd_graph_conv(g, wasd_graph_input(g), "c", O, K, 1, 1, 1, false);
	map = wasd_graph_globalpool(g, map);
	struct bed b = bed_of(finish(g, wasd_graph_flatten(g, map)), N, as_published, NULL);
	real *w = param(&b, "c.weight"), before[N * O * S * S], after[N * O * S * S];
	struct wasd_pass pass = {.n = N, .bn = WASD_BN_BATCH};
	size_t k = (2 * C + 1) * K * K + 2;
	for (int i = 0; i < N * C * S * S; i++)
		b.x[i] = (real)(7 * (i % (C * S * S)) % 13 - 6 + i / (C * S * S));
	for (int i = 0; i < O * C * K * K; i++)
		w[i] = (real)(5 * i % 9 - 4);
	CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL));
	CHECK(!wasd_exec_activation(b.e, 0, b.r->x, NULL) && !wasd_exec_activation(b.e, 1, b.r->y, NULL));
	memcpy(before, b.r->y, sizeof before);
	rso_add_change(b.r, place(&b, "c.weight"), k, N, 0.5);
	w[k] += (real)0.5;
	CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL) && !wasd_exec_activation(b.e, 1, after, NULL));
	double tol = WHOLE_DOUBLE ? 0 : 1e-4; /* float32: Winograd rounds */
	int moved = 0;
	for (int i = 0; i < N * O * S * S; i++) {
		CHECK_NEAR(b.r->y[i], after[i], tol);
		CHECK(i / (S * S) % O == 2 || b.r->y[i] == before[i]);
		moved += b.r->y[i] != before[i];
	}
	CHECK_MSG(moved > N * S, "%d values moved", moved);
	bed_done(&b);
}

/* ---- changes in place of passes --------------------------------------------------------------------------------- */

/* Every kind of layer that has weights, and every way on from it. */
static struct wasd_graph *everything(void)
{
	struct wasd_graph *g = begin(3, 9, 7);
	wasd_node x = wasd_graph_batchnorm(g, wasd_graph_input(g), "first", 1e-5, 0.1);
	wasd_node a = wasd_graph_relu(g, wasd_graph_batchnorm(g, wasd_graph_conv(g, x, "a", 6, 3, 2, 1, 1, false), "abn",
	                                                      1e-5, 0.1));
	wasd_node b = wasd_graph_conv(g, a, "b", 8, 3, 1, 1, 2, false);
	wasd_node c = wasd_graph_conv(g, a, "c", 8, 1, 1, 0, 1, true);
	wasd_node d = wasd_graph_relu(g, wasd_graph_add(g, wasd_graph_batchnorm(g, b, "bbn", 1e-5, 0.1), c));
	wasd_node e = wasd_graph_relu6(g, wasd_graph_conv(g, d, "e", 8, 3, 2, 1, 8, false));
	wasd_node f = wasd_graph_conv(g, d, "f", 4, 5, 2, 2, 1, false);
	x = wasd_graph_concat(g, (wasd_node[]){e, f}, 2);
	x = wasd_graph_flatten(g, wasd_graph_maxpool(g, x, 2, 1, 0));
	x = wasd_graph_relu(g, wasd_graph_linear(g, x, "g", 9, true));
	return finish(g, wasd_graph_linear(g, x, "h", 5, true));
}

static void changes_on(const char *backend)
{
	static const double opt[4] = {0.1, 1e-3, 0.167, 3};
	struct bed b = bed_of(everything(), 6, opt, backend);
	size_t n = wasd_graph_param_count(b.g);
	real *master = wasd_model_master(b.m), *start = wasd_calloc(n, sizeof *start), *fast = wasd_calloc(n, sizeof *fast);
	double tol = WHOLE_DOUBLE ? 1e-12 : 2e-5, worst = 0;
	int visits = 0, flips = 0;
	struct wasd_rng rng;
	wasd_rng_init(&rng, 5, "test", 0, 0);
	fill(&b);
	memcpy(start, master, n * sizeof *start);
	for (int i = 0; i < b.r->n_places; i++) {
		const struct param *p = &b.g->params[b.r->place[i].param];
		for (size_t at = 0; at < p->count; at += 1 + p->count / 25) {
			size_t m = p->count - at < 3 ? p->count - at : 3;
			double d[3];
			for (int k = 0; k < 3; k++)
				d[k] = b.r->place[i].sigma * wasd_rng_normal(&rng);
			b.r->whole = false;
			struct wasd_search_result r = visit(&b, p->name, at, m, d);
			memcpy(fast, master, n * sizeof *fast);
			memcpy(master, start, n * sizeof *fast);
			b.r->whole = true;
			struct wasd_search_result whole = visit(&b, p->name, at, m, d);
			worst = fmax(worst, fabs(r.loss - whole.loss));
			CHECK_MSG(fabs(r.loss - whole.loss) <= tol && r.tried == m && whole.tried == m,
			          "%s: %s[%zu]: loss %.9g, by whole passes %.9g", backend, p->name, at, r.loss, whole.loss);
			CHECK_MSG(r.changed == whole.changed && !memcmp(fast, master, n * sizeof *fast),
			          "%s: %s[%zu]: other values were kept", backend, p->name, at);
			memcpy(master, start, n * sizeof *fast);
			visits++;
			flips += (int)r.changed;
		}
	}
	CHECK_MSG(flips > visits / 2, "%d of %d visits changed anything", flips, visits);
	printf("# %s: %d visits, the losses differ by at most %.1e\n", backend, visits, worst);
	wasd_free(start);
	wasd_free(fast);
	bed_done(&b);
}

static void changes_equal_passes(void)
{
	on_every_backend(changes_on);
}

/* A pass that goes on from any node, with the outputs that it has or computed again, gives the logits of a whole pass;
 * after a change of the parameters it gives those of a pass with the new ones. */
static void goes_on_from(const char *backend)
{
	struct bed b = bed_of(everything(), 4, as_published, backend);
	struct wasd_pass pass = {.n = 3, .bn = WASD_BN_BATCH, .update = true, .set = WASD_STATS_TRAIN};
	struct wasd_err err = {0};
	real want[3 * 5], *stats = wasd_model_stats(b.m, WASD_STATS_TRAIN), mean;
	fill(&b);
	CHECK_INT(wasd_exec_forward_from(b.e, 1, NULL, &err), WASD_ESTATE);
	CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL));
	memcpy(want, wasd_exec_logits(b.e), sizeof want);
	mean = stats[0];
	for (wasd_node i = 0; i < wasd_graph_nodes(b.g); i++) {
		struct wasd_shape s = wasd_graph_node_info(b.g, i).shape;
		real *values = wasd_calloc(3 * wasd_shape_count(s), sizeof *values);
		CHECK(!wasd_exec_activation(b.e, i, values, NULL));
		CHECK_MSG(!wasd_exec_forward_from(b.e, i, values, &err), "%s", err.msg);
		CHECK_MSG(!memcmp(want, wasd_exec_logits(b.e), sizeof want), "%s: from node %d", backend, i);
		CHECK_INT(wasd_exec_forward_from(b.e, i, NULL, &err), i ? WASD_OK : WASD_EINVAL);
		CHECK_MSG(!i || !memcmp(want, wasd_exec_logits(b.e), sizeof want), "%s: from node %d, computed again", backend,
		          i);
		if (!i)
			CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL));
		wasd_free(values);
	}
	pass.update = false;
	for (int i = 0; i < b.r->n_places; i++) {
		const char *name = b.g->params[b.r->place[i].param].name;
		CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL));
		mean = stats[0];
		param(&b, name)[0] += (real)0.25;
		CHECK(!wasd_exec_forward_from(b.e, b.r->place[i].node, NULL, NULL));
		memcpy(want, wasd_exec_logits(b.e), sizeof want);
		CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL));
		CHECK_MSG(!memcmp(want, wasd_exec_logits(b.e), sizeof want), "%s: %s has changed", backend, name);
	}
	CHECK_MSG(stats[0] == mean && mean != 0, "statistics were updated by a pass that went on");
	CHECK_INT(wasd_exec_forward_from(b.e, -1, NULL, &err), WASD_EINVAL);
	CHECK_INT(wasd_exec_forward_from(b.e, 1000, NULL, &err), WASD_EINVAL);
	pass.dropout = &(struct wasd_rng){{1, 2, 3, 4}};
	CHECK(!wasd_exec_forward(b.e, b.x, &pass, NULL));
	CHECK_INT(wasd_exec_forward_from(b.e, 1, NULL, &err), WASD_ESTATE);
	bed_done(&b);
}

static void passes_go_on(void)
{
	on_every_backend(goes_on_from);
}

/* ---- what holds for any search --------------------------------------------------------------------------------------
 */

/* On one batch, without decay, the loss never rises; the results of a step and its allocations. */
static void loss_never_rises(void)
{
	static const double opt[4] = {0.1, 0, 0.167, 5};
	for (int whole = 0; whole < 2; whole++) {
		struct bed b = bed_of(everything(), 20, opt, NULL);
		struct wasd_search_result r;
		double last = INFINITY, first = 0;
		uint32_t changed = 0, tried = 0;
		fill(&b);
		b.r->whole = whole;
		b.step.targets = &b.targets;
		uint32_t steps = optim_rso.search->steps(b.r);
		CHECK(!optim_rso.search->step(b.r, &b.step, &r, NULL));
		uint64_t allocs = wasd_mem_stats().allocs;
		for (b.step.step = 0; b.step.step < steps; b.step.step++) {
			CHECK(!optim_rso.search->step(b.r, &b.step, &r, NULL));
			/* Without whole passes a kept loss and its repetition differ by rounding. */
			CHECK_MSG(r.loss <= last + (whole || WHOLE_DOUBLE ? 1e-14 : 2e-5), "step %u: from %.9g to %.9g",
			          b.step.step, last, r.loss);
			last = r.loss;
			first = b.step.step ? first : r.loss;
			changed += r.changed;
			tried += r.tried;
			CHECK(r.hits >= 0 && r.hits <= 20 && r.changed <= r.tried);
		}
		CHECK_INT(wasd_mem_stats().allocs, allocs);
		CHECK_INT(tried, wasd_graph_param_count(b.g));
		CHECK_MSG(last < 0.5 * first && changed > tried / 4, "from %g to %g, %u of %u scalars", first, last, changed,
		          tried);
		bed_done(&b);
	}
}

/* If every change is 0, a weight only decays; with "decay": "weights" what has one dimension does not. */
static void without_changes_it_decays(void)
{
	static const double opt[4] = {0.1, 0.01, 0.167, 1}, zero[4] = {0};
	for (int spares = 0; spares < 2; spares++) {
		struct bed b = bed_of(everything(), 3, opt, NULL);
		fill(&b);
		b.r->spares = spares;
		for (int i = 0; i < b.r->n_places; i++) {
			const struct param *p = &b.g->params[b.r->place[i].param];
			real *w = wasd_model_master(b.m) + p->offset, before = w[0] = w[0] == 0 ? (real)0.5 : w[0];
			for (int k = 0; k < 3; k++)
				CHECK_INT(visit(&b, p->name, 0, p->count < 4 ? p->count : 4, zero).changed, 0);
			double want = (double)before * (spares && p->ndims < 2 ? 1 : pow(0.99, 3));
			CHECK_NEAR(w[0], want, (WHOLE_DOUBLE ? 1e-15 : 1e-6) * fabs(want));
		}
		bed_done(&b);
	}
}

/* A candidate whose loss is not finite is not taken; if no value gives a finite loss, the step fails. */
static void losses_that_are_not_finite(void)
{
	static const double none[4] = {0.1, 0, 0.167, 1};
	double huge = WHOLE_DOUBLE ? 1e308 : 3e38;
	struct wasd_graph *g = begin(3, 1, 1);
	struct bed b = bed_of(finish(g, wasd_graph_linear(g, wasd_graph_input(g), "fc", 2, false)), 4, none, NULL);
	struct wasd_search_result r;
	struct wasd_err err = {0};
	fill(&b);
	for (int i = 0; i < 12; i++)
		b.x[i] += b.x[i] < 0 ? -2 : 2;
	real *w = param(&b, "fc.weight"), before = w[0];
	CHECK_INT(visit(&b, "fc.weight", 0, 1, &huge).changed, 0);
	CHECK(w[0] == before);
	w[0] = (real)NAN;
	b.step.targets = &b.targets;
	CHECK_INT(optim_rso.search->step(b.r, &b.step, &r, &err), WASD_ENUMERIC);
	CHECK_MSG(strstr(err.msg, "fc.weight"), "%s", err.msg);
	bed_done(&b);
}

/* The cost of an epoch is the sum of those of its steps. */
static void costs_add_up(void)
{
	for (int per = 1; per <= 7; per += 3)
		for (int decays = 0; decays < 2; decays++) {
			double opt[4] = {0.1, decays * 0.1, 0.167, per}, sum = 0;
			struct wasd_graph *g = everything();
			struct wasd_search_setup setup = {.opt = opt, .graph = g, .batch = 4, .epochs = 2};
			void *self = NULL;
			CHECK(!optim_rso.search->create(&setup, &self, NULL));
			uint32_t steps = optim_rso.search->steps(self);
			for (uint32_t i = 0; i < steps; i++) {
				double one = optim_rso.search->passes(self, i, i + 1);
				CHECK_MSG(one >= 1 && one <= 1 + 3 * per, "step %u costs %g passes", i, one);
				sum += one;
			}
			CHECK_NEAR(optim_rso.search->passes(self, 0, steps), sum, 1e-9 * sum);
			CHECK_NEAR(optim_rso.search->passes(self, 0, 10) + optim_rso.search->passes(self, 10, steps), sum,
			           1e-9 * sum);
			/* Nothing is behind the last layer, so one pass is all that its steps cost. */
			CHECK_NEAR(optim_rso.search->passes(self, 0, 1), 1, 1e-12);
			optim_rso.search->destroy(self);
			wasd_graph_destroy(g);
		}
}

static void out_of_memory(void)
{
	struct wasd_graph *g = everything();
	struct wasd_search_setup setup = {.opt = as_published, .graph = g, .batch = 4, .epochs = 2};
	for (uint64_t nth = 1; nth < 20; nth++) {
		void *self = NULL;
		wasd_mem_fail_at(nth);
		enum wasd_status s = optim_rso.search->create(&setup, &self, NULL);
		if (!s)
			s = optim_rso.search->begin(self, NULL);
		wasd_mem_fail_at(0);
		optim_rso.search->destroy(self);
		if (!s) {
			CHECK(nth > 5);
			wasd_graph_destroy(g);
			return;
		}
		CHECK_INT(s, WASD_ENOMEM);
	}
	CHECK_MSG(false, "it never succeeded");
}

/* ---- runs ---------------------------------------------------------------------------------------------------------
 */

static struct wasd_dataset *glyphs;

#define NET \
	"\"model\":{\"init\":\"he\",\"layers\":[{\"type\":\"conv\",\"out\":8,\"stride\":2,\"bias\":false},{\"type\":\"batchnorm\"}," \
	"{\"type\":\"relu\"},{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}"
#define RUN(more, train) \
	"{" NET ",\"data\":{\"val_fraction\":0.1}" more ",\"train\":{\"batch\":100,\"seed\":4" train "}}"
#define RSO ",\"optimizer\":{\"type\":\"rso\",\"weights_per_batch\":20}"

/* With all 540 training images in every batch; chance is 0.1, and 0.013 a standard deviation of it. */
static void learns(void)
{
	struct tiny_run r = {0};
	tiny_go(
		&r,
		"{\"model\":{\"init\":\"he\",\"layers\":[{\"type\":\"avgpool\",\"kernel\":2},{\"type\":\"conv\",\"out\":6,\"stride\":2,\"bias\":false},"
		"{\"type\":\"batchnorm\"},{\"type\":\"relu\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},"
		"\"data\":{\"val_fraction\":0.1},\"train\":{\"batch\":540,\"epochs\":4,\"optimizer\":{\"type\":\"rso\",\"weights_per_batch\":10}}}",
		glyphs);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK_INT(r.end, WASD_TRAIN_DONE);
	printf("# training accuracy %.3f, %.3f, %.3f, %.3f\n", r.value[1][1], r.value[2][1], r.value[3][1], r.value[4][1]);
	CHECK_MSG(r.value[4][1] > 0.25, "training accuracy %.3f", r.value[4][1]);
	CHECK_MSG(isfinite(r.value[4][2]) && isnan(r.value[1][6]), "loss %g, rate %g", r.value[4][2], r.value[1][6]);
	for (int e = 2; e <= 4; e++)
		CHECK_MSG(r.value[e][0] < r.value[e - 1][0], "loss of epoch %d: %g after %g", e, r.value[e][0],
		          r.value[e - 1][0]);
	tiny_done(&r);
}

/* One thread and two give the same bits, where the backend's passes do (those of oneDNN add in another order). */
static void threads_agree(void)
{
	struct tiny_run r[2] = {{.backend = "ref"}, {.backend = "ref"}};
	for (int n = 1; n <= 2; n++) {
		wasd_threads_init(n, NULL);
		tiny_go(&r[n - 1], RUN("", ",\"epochs\":1" RSO), glyphs);
		CHECK_MSG(!r[n - 1].status, "%s", r[n - 1].err.msg);
	}
	CHECK_MSG(!strcmp(r[0].sha, r[1].sha), "one thread and two end with other weights");
	CHECK(r[0].value[1][0] == r[1].value[1][0]);
	tiny_done(&r[0]);
	tiny_done(&r[1]);
}

/* The same bits after any number of cuts in the middle of a cycle. */
static void resumes(void)
{
	static const char spec[] = RUN(",\"eval\":{\"every\":2}", ",\"epochs\":2,\"augment\":[\"crop\"]" RSO);
	struct tiny_run straight = {0}, cut = {0};
	struct wasd_rng random;
	int attempts = 0;
	wasd_rng_init(&random, 8, "test", 0, 0);
	tiny_go(&straight, spec, glyphs);
	CHECK_MSG(!straight.status, "%s", straight.err.msg);
	do {
		cut.stop_at = attempts < 5 ? 1 + (int)wasd_rng_below(&random, (uint32_t)straight.polls / 3) : 0;
		tiny_go(&cut, spec, glyphs);
		CHECK_MSG(!cut.status, "%s", cut.err.msg);
	} while (!cut.status && cut.end == WASD_TRAIN_CANCELLED && ++attempts < 20);
	CHECK_MSG(attempts > 2 && cut.end == WASD_TRAIN_DONE, "%d cuts", attempts);
	CHECK_MSG(!strcmp(cut.sha, straight.sha), "other weights after %d cuts", attempts);
	for (int e = 1; e <= 2; e++)
		for (int k = 0; k < TINY_NAMES; k++)
			CHECK_MSG(cut.value[e][k] == straight.value[e][k] || isnan(straight.value[e][k]), "epoch %d: %s", e,
			          tiny_names[k]);
	tiny_done(&straight);
	tiny_done(&cut);
}

/* What a run says: its cost before it begins, the time after some steps, the share of changes. */
struct heard {
	int cost, time, flips;
	double share;
};

static void hear_log(void *ctx, const char *level, const char *text)
{
	struct heard *h = ctx;
	(void)level;
	h->time += strstr(text, "by the first 16 steps an epoch takes about") != NULL;
}
static void hear_warning(void *ctx, const char *code, int epoch, const char *text)
{
	struct heard *h = ctx;
	h->cost += !epoch && !strcmp(code, "long_search") &&
	           strstr(text, "rso tries every weight once per epoch: 78 steps");
}
static enum wasd_status hear_metrics(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err)
{
	struct heard *h = ctx;
	(void)err;
	for (int i = 0; i < m->n; i++)
		if (!strcmp(m->v[i].name, "rso_flips")) {
			h->flips++;
			h->share = m->v[i].value;
		}
	return WASD_OK;
}

static void says_what_it_does(void)
{
	cJSON *j = cJSON_Parse(RUN("", ",\"epochs\":1" RSO)), *sizes = NULL;
	struct wasd_err err = {0};
	struct wasd_train_opts o = {.spec = j, .data = glyphs};
	struct heard h = {0};
	struct wasd_train_hooks hooks = {.ctx = &h, .log = hear_log, .warning = hear_warning, .metrics = hear_metrics};
	struct wasd_trainer *t = NULL;
	enum wasd_train_end end;
	double steps = 0, gradients = 1;
	CHECK_MSG(!wasd_train_check(&o, &hooks, &err), "%s", err.msg);
	CHECK_INT(h.cost, 1);
	CHECK_MSG(!wasd_train_estimate(&o, &sizes, &err), "%s", err.msg);
	CHECK(wasd_json_num(sizes, "steps", &steps) && steps == 78);
	CHECK(wasd_json_num(wasd_json_get(sizes, "memory"), "gradients", &gradients) && gradients == 0);
	CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s", err.msg);
	CHECK_INT(wasd_trainer_info(t).steps_per_epoch, 78);
	CHECK(!wasd_trainer_run(t, &hooks, &end, NULL, &err));
	CHECK_INT(h.cost, 2);
	CHECK_INT(h.time, 1);
	CHECK_INT(h.flips, 1);
	CHECK_MSG(h.share > 0.2 && h.share <= 1, "%g of the weights changed", h.share);
	const real *train = wasd_model_stats(wasd_trainer_model(t), WASD_STATS_TRAIN),
			   *aom = wasd_model_stats(wasd_trainer_model(t), WASD_STATS_AOM);
	size_t n = wasd_graph_stats_count(wasd_model_graph(wasd_trainer_model(t)));
	for (size_t i = 0; i < n / 2; i++)
		CHECK_MSG(train[i] != 0 && train[n / 2 + i] != 1, "the statistics of channel %zu were not measured", i);
	CHECK(!memcmp(train, aom, n * sizeof *aom));
	wasd_trainer_destroy(t);
	cJSON_Delete(sizes);
	cJSON_Delete(j);
}

/* Every allocation of a run's creation fails once. */
static void run_out_of_memory(void)
{
	cJSON *j = cJSON_Parse(RUN("", ",\"epochs\":1" RSO));
	struct wasd_train_opts o = {.spec = j, .data = glyphs, .backend = "ref"};
	tiny_without_memory(&o);
	cJSON_Delete(j);
}

static void refuses(void)
{
	static const struct {
		const char *spec, *pointer;
	} rows[] = {
		{RUN(",\"was\":{\"transforms\":[{\"type\":\"translate\"}],\"layers\":\"all\"}", RSO), "/was"},
		{RUN(",\"weights\":[{\"type\":\"magnitude\"}]", RSO), "/weights"},
		{"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"batch\":100" RSO "}}", "/was"},
		{RUN("", ",\"label_smoothing\":0.1" RSO), "/train/label_smoothing"},
		{RUN("", ",\"class_weights\":\"balanced\"" RSO), "/train/class_weights"},
		{RUN("", ",\"augment\":[{\"type\":\"mixup\"}]" RSO), "/train/augment"},
		{RUN("", ",\"schedule\":{\"type\":\"cosine\"}" RSO), "/train/schedule"},
		{RUN("", ",\"schedule\":{\"warmup_epochs\":1}" RSO), "/train/schedule"},
		{RUN("", ",\"optimizer\":{\"type\":\"rso\",\"lr\":0.1}"), "/train/optimizer/lr"},
		{RUN("", ",\"optimizer\":{\"type\":\"rso\",\"cycles\":5}"), "/train/optimizer/cycles"},
		{RUN("", ",\"optimizer\":{\"type\":\"rso\",\"anneal\":0}"), "/train/optimizer/anneal"},
		{RUN("", ",\"optimizer\":{\"type\":\"rso\",\"weights_per_batch\":0}"), "/train/optimizer/weights_per_batch"},
		{RUN("", ",\"precision\":\"bf16\"" RSO), "/train/precision"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		cJSON *j = cJSON_Parse(rows[i].spec);
		struct wasd_err err = {0};
		struct wasd_train_opts o = {.spec = j, .data = glyphs};
		enum wasd_status s = wasd_train_check(&o, &(struct wasd_train_hooks){0}, &err);
		CHECK_MSG(j && s && !strcmp(err.pointer, rows[i].pointer) && err.msg[0], "%s: %s at \"%s\": %s", rows[i].spec,
		          wasd_status_name(s), err.pointer, err.msg);
		cJSON_Delete(j);
	}
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	glyphs = tiny_glyphs("rso", 600, 50, 16, path);
	TEST_RUN(authors_traces);
	TEST_RUN(ties_keep);
	TEST_RUN(annealing);
	TEST_RUN(authors_order);
	TEST_RUN(incremental_convolution);
	TEST_RUN(passes_go_on);
	TEST_RUN(changes_equal_passes);
	TEST_RUN(loss_never_rises);
	TEST_RUN(without_changes_it_decays);
	TEST_RUN(losses_that_are_not_finite);
	TEST_RUN(costs_add_up);
	TEST_RUN(out_of_memory);
	TEST_RUN(run_out_of_memory);
	TEST_RUN(refuses);
	TEST_RUN(says_what_it_does);
	TEST_RUN(resumes);
	TEST_RUN(learns);
	TEST_RUN(threads_agree);
	wasd_dataset_close(glyphs);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
