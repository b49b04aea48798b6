/* Graph, plan and exec: errors of the builder, memory, states, repeatability, dropout, the thread team. */
#include "check.h"
#include "backend/backend.h"
#include "wasd/cpu.h"
#include "wasd/graph.h"
#include "wasd/weights.h"

#include <stdatomic.h>

static const struct wasd_shape image = {3, 12, 12};

/* A small network with every feature that a plan must handle: shadow weights, residuals, pooling, dropout, spare
 * parameters. */
static enum wasd_status build(struct wasd_graph **out, struct wasd_err *err)
{
	struct wasd_graph *g = NULL;
	enum wasd_status s = wasd_graph_create(image, &g, err);
	if (s)
		return s;
	wasd_graph_param(g, "alpha", 3, WASD_INIT_UNIT);
	wasd_graph_spare_stats(g, "spare", 4);
	wasd_node x =
		wasd_graph_relu(g,
	                    wasd_graph_batchnorm(g, wasd_graph_conv(g, wasd_graph_input(g), "stem", 8, 3, 1, 1, 1, false),
	                                         "bn0", 1e-5, 0.1));
	for (int i = 0; i < 2; i++) {
		const char *conv[] = {"block0.conv", "block1.conv"}, *bn[] = {"block0.bn", "block1.bn"};
		wasd_node y = wasd_graph_batchnorm(g, wasd_graph_conv(g, x, conv[i], 8, 3, 1, 1, 1, true), bn[i], 1e-5, 0.1);
		x = wasd_graph_relu(g, wasd_graph_add(g, wasd_graph_dropconnect(g, y, 0.2), x));
		wasd_graph_augmentable(g, conv[i], "alpha", i);
	}
	x = wasd_graph_maxpool(g, x, 2, 2, 0);
	x = wasd_graph_concat(g, (wasd_node[]){x, wasd_graph_conv(g, x, "side", 5, 1, 1, 0, 1, true)}, 2);
	x = wasd_graph_dropout(g, wasd_graph_flatten(g, x), 0.5);
	x = wasd_graph_linear(g, x, "fc", 4, true);
	s = wasd_graph_finish(g, x, err);
	if (s) {
		wasd_graph_destroy(g);
		return s;
	}
	*out = g;
	return WASD_OK;
}

struct net {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct wasd_exec *train, *infer;
};

static void net_done(struct net *n)
{
	wasd_exec_destroy(n->train);
	wasd_exec_destroy(n->infer);
	wasd_model_destroy(n->m);
	wasd_graph_destroy(n->g);
	*n = (struct net){0};
}

static enum wasd_status net_make(struct net *n, struct wasd_err *err)
{
	struct wasd_exec_opts train = {.batch = 6, .training = true}, infer = {.batch = 6};
	enum wasd_status s = build(&n->g, err);
	if (!s)
		s = wasd_model_create(n->g, 3, &n->m, err);
	if (!s)
		s = wasd_exec_create(n->m, &train, &n->train, err);
	if (!s)
		s = wasd_exec_create(n->m, &infer, &n->infer, err);
	return s;
}

static real pixels[6 * 3 * 12 * 12];
static const int32_t labels[6] = {0, 1, 2, 3, 2, 1};

static void fill_pixels(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 9, "pixels", 0, 0);
	for (size_t i = 0; i < sizeof pixels / sizeof pixels[0]; i++)
		pixels[i] = (real)wasd_rng_between(&r, -1, 1);
}

static struct wasd_draw_layer draw_layers[2];
static struct wasd_draw draw = {{&weight_was}, 2, draw_layers};

static void make_draw(double dx)
{
	struct wasd_err err;
	for (int i = 0; i < 2; i++) {
		draw_layers[i] = (struct wasd_draw_layer){.aug = i};
		CHECK_MSG(!wasd_transform_make("translate", 3, (double[6]){i ? dx : 0, 1}, &draw_layers[i].t, &err), "%s",
		          err.msg);
	}
}

static double train_step(struct net *n, struct wasd_rng *r, int images)
{
	struct wasd_err err = {0};
	struct wasd_pass p = {.n = images, .recipe = &draw.recipe, .bn = WASD_BN_BATCH, .update = true, .dropout = r};
	double loss = NAN;
	int hits;
	CHECK_MSG(!wasd_exec_forward(n->train, pixels, &p, &err), "%s", err.msg);
	CHECK_MSG(!wasd_exec_loss(n->train, labels, 0.1, &loss, &hits, &err), "%s", err.msg);
	wasd_model_grad_zero(n->m);
	CHECK_MSG(!wasd_exec_backward(n->train, &err), "%s", err.msg);
	for (size_t i = 0; i < wasd_graph_param_count(n->g); i++)
		wasd_model_master(n->m)[i] -= (real)0.05 * wasd_model_grad(n->m)[i];
	return loss;
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void step_allocates_nothing(void)
{
	struct net n = {0};
	struct wasd_err err = {0};
	struct wasd_rng r;
	CHECK_MSG(!net_make(&n, &err), "%s", err.msg);
	wasd_rng_init(&r, 1, "dropout", 0, 0);
	/* Objects specific to a kernel size and a number of images may be created on first use, and are kept. */
	struct wasd_mem_stats before;
	for (int round = 0; round < 2; round++) {
		before = wasd_mem_stats();
		for (int i = 0; i < 4; i++) {
			make_draw(i - 2);
			train_step(&n, &r, 6 - i);
		}
	}
	CHECK_INT(wasd_mem_stats().allocs, before.allocs);
	CHECK(wasd_exec_bytes(n.train) > wasd_exec_bytes(n.infer));
	net_done(&n);
}

static void every_allocation_may_fail(void)
{
	struct wasd_err err = {0};
	struct net whole = {0};
	uint64_t before = wasd_mem_stats().allocs, refused = 0;
	CHECK_MSG(!net_make(&whole, &err), "%s", err.msg);
	uint64_t count = wasd_mem_stats().allocs - before;
	net_done(&whole);
	for (uint64_t nth = 1; nth <= count; nth++) {
		struct net n = {0};
		struct wasd_mem_stats a = wasd_mem_stats();
		memset(&err, 0, sizeof err);
		wasd_mem_fail_at(nth);
		enum wasd_status s = net_make(&n, &err);
		wasd_mem_fail_at(0);
		net_done(&n);
		struct wasd_mem_stats b = wasd_mem_stats();
		CHECK_MSG(b.allocs - a.allocs == b.frees - a.frees, "allocation %llu: %llu allocated, %llu freed",
		          (unsigned long long)nth, (unsigned long long)(b.allocs - a.allocs),
		          (unsigned long long)(b.frees - a.frees));
		/* A plan may work without one of several ways to compute a convolution. */
		CHECK_MSG(s == WASD_OK || (s == WASD_ENOMEM && err.msg[0]), "allocation %llu: %s \"%s\"",
		          (unsigned long long)nth, wasd_status_name(s), err.msg);
		refused += s != WASD_OK;
	}
	CHECK_MSG(refused > 100, "%llu of %llu allocations count", (unsigned long long)refused, (unsigned long long)count);
}

/* ---- results ----------------------------------------------------------------------------------------- */

static void training_is_repeatable(void)
{
	struct wasd_err err = {0};
	for (int threads = 1; threads <= 3; threads++) {
		CHECK(!wasd_threads_init(threads, &err));
		double loss[2][40];
		real w[2][4];
		for (int k = 0; k < 2; k++) {
			struct net n = {0};
			struct wasd_rng r;
			wasd_rng_init(&r, 1, "dropout", 0, 0);
			CHECK_MSG(!net_make(&n, &err), "%s", err.msg);
			make_draw(1);
			for (int i = 0; i < 40; i++)
				loss[k][i] = train_step(&n, &r, 6);
			memcpy(w[k], wasd_model_master(n.m) + wasd_graph_param_count(n.g) - 4, sizeof w[k]);
			net_done(&n);
		}
		CHECK_MSG(!memcmp(loss[0], loss[1], sizeof loss[0]) && !memcmp(w[0], w[1], sizeof w[0]),
		          "two runs on %d threads differ", threads);
		double early = 0, late = 0;
		for (int i = 0; i < 10; i++) {
			early += loss[0][i];
			late += loss[0][30 + i];
		}
		CHECK_MSG(late < 0.8 * early, "ten first losses sum to %g, ten last to %g", early, late);
	}
	wasd_threads_done();
}

static void activations_match_reference(void)
{
	struct net n = {0};
	struct wasd_err err = {0};
	CHECK_MSG(!net_make(&n, &err), "%s", err.msg);
	make_draw(-1);
	struct wasd_exec *e[2];
	for (int k = 0; k < 2; k++) {
		struct wasd_exec_opts o = {.batch = 5, .training = true, .keep_all = true, .backend = k ? "ref" : "openblas"};
		struct wasd_pass p = {.n = 4, .recipe = &draw.recipe, .bn = WASD_BN_BATCH};
		CHECK_MSG(!wasd_exec_create(n.m, &o, &e[k], &err), "%s", err.msg);
		CHECK(!wasd_exec_forward(e[k], pixels, &p, &err));
	}
	for (wasd_node i = 0; i < wasd_graph_nodes(n.g); i++) {
		size_t count = 4 * wasd_shape_count(wasd_graph_node_info(n.g, i).shape);
		real *a = malloc(count * sizeof *a), *b = malloc(count * sizeof *b);
		double d = 0;
		CHECK(!wasd_exec_activation(e[0], i, a, &err) && !wasd_exec_activation(e[1], i, b, &err));
		for (size_t k = 0; k < count; k++)
			d = fmax(d, fabs((double)a[k] - (double)b[k]));
		CHECK_MSG(d < (sizeof(real) == 8 ? 1e-12 : 2e-5), "node %d (%s): %g", i, wasd_graph_node_info(n.g, i).op, d);
		free(a);
		free(b);
	}
	CHECK_INT(wasd_exec_activation(n.train, 0, NULL, &err), WASD_ESTATE);
	wasd_exec_destroy(e[0]);
	wasd_exec_destroy(e[1]);
	net_done(&n);
}

static void running_statistics(void)
{
	/* One batch norm on the input: running values follow the formulas, in the requested set, with the momentum
	 * overridden. */
	struct wasd_graph *g;
	struct wasd_model *m = NULL;
	struct wasd_exec *e;
	struct wasd_err err = {0};
	CHECK(!wasd_graph_create(image, &g, &err));
	wasd_node x = wasd_graph_globalpool(g, wasd_graph_batchnorm(g, wasd_graph_input(g), "bn", 1e-5, 0.1));
	CHECK(!wasd_graph_finish(g, x, &err) && !wasd_model_create(g, 1, &m, &err));
	CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 6}, &e, &err));
	for (int i = 1; i <= 2; i++)
		CHECK(!wasd_exec_forward(e, pixels,
		                         &(struct wasd_pass){.n = 6,
		                                             .bn = WASD_BN_BATCH,
		                                             .set = WASD_STATS_DOM,
		                                             .update = true,
		                                             .momentum = 1.0 / i},
		                         &err));
	double sum = 0, sq = 0, count = 6 * 144;
	for (int n = 0; n < 6; n++)
		for (int i = 0; i < 144; i++)
			sum += (double)pixels[n * 432 + i];
	for (int n = 0; n < 6; n++)
		for (int i = 0; i < 144; i++)
			sq += ((double)pixels[n * 432 + i] - sum / count) * ((double)pixels[n * 432 + i] - sum / count);
	struct wasd_stats_info st = wasd_graph_stats_info(g, 0);
	CHECK_NEAR((double)wasd_model_stats(m, WASD_STATS_DOM)[st.mean_offset], sum / count, 1e-7);
	CHECK_NEAR((double)wasd_model_stats(m, WASD_STATS_DOM)[st.var_offset], sq / (count - 1), 1e-6);
	CHECK_NEAR((double)wasd_model_stats(m, WASD_STATS_TRAIN)[st.mean_offset], 0, 0);
	CHECK_NEAR((double)wasd_model_stats(m, WASD_STATS_AOM)[st.var_offset], 1, 0);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

static void batchnorm_keeps_digits(void)
{
	/* Mean 1000 and deviation 0.1: sums of squares in float would lose the variance completely. */
	struct wasd_graph *g;
	struct wasd_model *m = NULL;
	struct wasd_exec *e;
	struct wasd_err err = {0};
	struct wasd_shape in = {1, 64, 64};
	static real x[16 * 64 * 64];
	struct wasd_rng r;
	double mean = 0, var = 0, count = sizeof x / sizeof x[0];
	wasd_rng_init(&r, 4, "x", 0, 0);
	for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
		mean += (double)(x[i] = (real)(1000 + wasd_rng_between(&r, -0.17, 0.17)));
	mean /= count;
	for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
		var += ((double)x[i] - mean) * ((double)x[i] - mean) / (count - 1);
	CHECK(!wasd_graph_create(in, &g, &err));
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, wasd_graph_batchnorm(g, 0, "bn", 1e-5, 0.1)), &err) &&
	      !wasd_model_create(g, 1, &m, &err));
	CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 16}, &e, &err));
	CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = 16, .bn = WASD_BN_BATCH, .update = true, .momentum = 1},
	                         &err));
	CHECK_NEAR((double)wasd_model_stats(m, WASD_STATS_TRAIN)[0] / mean, 1, 1e-7);
	CHECK_NEAR((double)wasd_model_stats(m, WASD_STATS_TRAIN)[1] / var, 1, 1e-5);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* ---- dropout ------------------------------------------------------------------------------------------- */

static void run_drop(bool connect, int threads, uint64_t seed, bool on, real *out)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e;
	struct wasd_err err = {0};
	struct wasd_rng r;
	static real ones[200 * 3 * 10 * 10];
	for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++)
		ones[i] = 1;
	wasd_rng_init(&r, seed, "dropout", 0, 0);
	CHECK(!wasd_threads_init(threads, &err) && !wasd_graph_create((struct wasd_shape){3, 10, 10}, &g, &err));
	wasd_node d = connect ? wasd_graph_dropconnect(g, 0, 0.3) : wasd_graph_dropout(g, 0, 0.3);
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, d), &err) && !wasd_model_create(g, 1, &m, &err));
	CHECK(!wasd_exec_create(m, &(struct wasd_exec_opts){.batch = 200, .keep_all = true}, &e, &err));
	CHECK(!wasd_exec_forward(e, ones, &(struct wasd_pass){.n = 200, .dropout = on ? &r : NULL}, &err));
	CHECK(!wasd_exec_activation(e, d, out, &err));
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	wasd_threads_done();
}

static void dropout_statistics(void)
{
	enum { N = 200, PER = 300 };
	static real a[N * PER], b[N * PER];
	for (int connect = 0; connect < 2; connect++) {
		int zeros = 0, wrong = 0, split = 0;
		run_drop(connect, 1, 7, true, a);
		run_drop(connect, 3, 7, true, b);
		CHECK(!memcmp(a, b, sizeof a)); /* the same mask whatever the number of threads */
		run_drop(connect, 1, 8, true, b);
		CHECK(memcmp(a, b, sizeof a) != 0); /* another mask for another generator */
		for (int i = 0; i < N * PER; i++) {
			zeros += a[i] == 0;
			wrong += a[i] != 0 && fabs((double)a[i] - 1 / 0.7) > 1e-6;
			split += connect && a[i] != a[i / PER * PER]; /* drop-connect: whole images */
		}
		CHECK_INT(wrong, 0);
		CHECK_INT(split, 0);
		/* Five standard deviations of the share of zeros around 0.3. */
		double share = (double)zeros / (N * PER), sd = sqrt(0.21 / (connect ? N : N * PER));
		CHECK_MSG(fabs(share - 0.3) < 5 * sd, "%s: share of zeros %g", connect ? "dropconnect" : "dropout", share);
		run_drop(connect, 1, 7, false, b);
		for (int i = 0; i < N * PER; i++)
			wrong += b[i] != 1;
		CHECK_INT(wrong, 0);
	}
}

/* ---- errors ----------------------------------------------------------------------------------------------- */

static void builder_errors(void)
{
	struct wasd_err err;
	for (int i = 0; i < 16; i++) {
		struct wasd_graph *g;
		CHECK(!wasd_graph_create(image, &g, &err));
		wasd_node x = 0, c = wasd_graph_conv(g, x, "c1", 4, 3, 1, 1, 1, false);
		wasd_graph_param(g, "alpha", 2, WASD_INIT_UNIT);
		const char *want = "";
		switch (i) {
		case 0:
			c = wasd_graph_conv(g, c, "c2", 4, 15, 1, 0, 1, false);
			want = "c2: kernel 15x15";
			break;
		case 1:
			c = wasd_graph_conv(g, c, "c2", 6, 3, 1, 1, 4, false);
			want = "c2: 4 groups do not divide 4 input and 6 output channels";
			break;
		case 2:
			c = wasd_graph_conv(g, c, "c1", 4, 3, 1, 1, 1, false);
			want = "c1.weight: two parameters";
			break;
		case 3:
			c = wasd_graph_linear(g, c, "fc", 3, true);
			want = "fc: the input is 4x12x12: flatten it first";
			break;
		case 4:
			c = wasd_graph_add(g, c, x);
			want = "add: cannot add 4x12x12 and 3x12x12";
			break;
		case 5:
			c = wasd_graph_maxpool(g, c, 3, 1, 2);
			want = "maxpool: invalid pooling: window 3";
			break;
		case 6:
			c = wasd_graph_dropout(g, c, 1.0);
			want = "dropout: rate 1";
			break;
		case 7:
			wasd_graph_augmentable(g, "nothing", "alpha", 0);
			want = "nothing: no convolution";
			break;
		case 8:
			wasd_graph_augmentable(g, "c1", "alpha", 2);
			want = "c1: alpha";
			break;
		case 9:
			c = wasd_graph_relu(g, 77);
			want = "relu: an input is not a node";
			break;
		case 10:
			want = "output: must be a node of shape (classes,1,1)";
			break;
		case 11:
			c = wasd_graph_batchnorm(g, c, "bn", -1, 0.1);
			want = "bn: eps -1";
			break;
		case 12:
			wasd_graph_param(g, "alpha", 1, WASD_INIT_ONE);
			want = "alpha: two parameters";
			break;
		case 13:
			c = wasd_graph_conv(g, c, "c2", 0, 3, 1, 1, 1, false);
			want = "c2: invalid convolution: 0 output channels";
			break;
		case 14:
			wasd_graph_spare_stats(g, "s", 2);
			wasd_graph_spare_stats(g, "s", 2);
			want = "s: two batch norms";
			break;
		case 15:
			c = wasd_graph_concat(g, (wasd_node[]){c, wasd_graph_maxpool(g, c, 2, 2, 0)}, 2);
			want = "concat: input 1 has maps of 6x6";
			break;
		}
		c = wasd_graph_relu(g, c); /* after a failure nothing else happens, and the first message is kept */
		CHECK(wasd_graph_finish(g, c, &err) != WASD_OK);
		CHECK_MSG(!strncmp(err.msg, want, strlen(want)), "case %d: \"%s\"", i, err.msg);
		wasd_graph_destroy(g);
	}
	struct wasd_graph *g;
	CHECK_INT(wasd_graph_create((struct wasd_shape){0, 5, 5}, &g, &err), WASD_EINVAL);
}

static void exec_errors(void)
{
	struct net n = {0};
	struct wasd_err err = {0};
	struct wasd_exec *e;
	double loss;
	int hits;
	CHECK_MSG(!net_make(&n, &err), "%s", err.msg);
	make_draw(0);
	CHECK_INT(wasd_exec_create(n.m, &(struct wasd_exec_opts){.batch = 2, .backend = "abacus"}, &e, &err),
	          WASD_ENOTFOUND);
	CHECK_INT(wasd_exec_create(n.m, &(struct wasd_exec_opts){.batch = 0}, &e, &err), WASD_EINVAL);
	CHECK_INT(wasd_exec_loss(n.train, labels, 0, &loss, &hits, &err), WASD_ESTATE);
	CHECK_INT(wasd_exec_backward(n.train, &err), WASD_ESTATE);
	struct wasd_pass p = {.n = 7};
	CHECK_INT(wasd_exec_forward(n.train, pixels, &p, &err), WASD_EINVAL);
	p.n = 6;
	CHECK_INT(wasd_exec_forward(n.infer, pixels, &p, &err), WASD_OK);
	CHECK_INT(wasd_exec_loss(n.infer, labels, 0, &loss, &hits, &err), WASD_OK);
	CHECK_INT(wasd_exec_backward(n.infer, &err), WASD_ESTATE);
	CHECK_INT(wasd_exec_forward(n.train, pixels, &p, &err), WASD_OK);
	CHECK_INT(wasd_exec_loss(n.train, (int32_t[6]){0, 0, 4}, 0, &loss, &hits, &err), WASD_EINVAL);
	CHECK_STR(err.msg, "label 4 of image 2 is not within 0..3");
	draw_layers[0].aug = 9;
	p.recipe = &draw.recipe;
	CHECK_INT(wasd_exec_forward(n.train, pixels, &p, &err), WASD_EINVAL);
	p.recipe = NULL;
	/* A NaN anywhere reaches the loss, through activations and pooling. */
	real keep = pixels[40];
	pixels[40] = (real)NAN;
	CHECK_INT(wasd_exec_forward(n.train, pixels, &p, &err), WASD_OK);
	CHECK_INT(wasd_exec_loss(n.train, labels, 0, &loss, &hits, &err), WASD_ENUMERIC);
	pixels[40] = keep;
	CHECK(!wasd_threads_init(2, &err));
	CHECK_INT(wasd_exec_forward(n.train, pixels, &p, &err), WASD_ESTATE);
	wasd_threads_done();
	net_done(&n);
}

static void graph_describes_itself(void)
{
	struct wasd_graph *g;
	struct wasd_err err = {0};
	CHECK(!build(&g, &err));
	make_draw(1);
	CHECK_INT(wasd_graph_augs(g), 2);
	CHECK_STR(wasd_graph_aug_info(g, 1).layer, "block1.conv");
	CHECK_INT(wasd_graph_aug_info(g, 1).alpha_index, 1);
	CHECK_INT(wasd_graph_classes(g), 4);
	CHECK_INT(wasd_graph_param_count(g), 3 + 216 + 16 + 2 * (576 + 8 + 16) + 40 + 5 + 13 * 36 * 4 + 4);
	CHECK_INT(wasd_graph_stats_count(g), 8 + 2 * 8 * 3);
	/* One row of taps is dead in the first, 5 of 9 taps in the second block. */
	uint64_t conv = 144 * 8 * 8;
	CHECK_INT(wasd_graph_macs(g, NULL) - wasd_graph_macs(g, &draw.recipe), conv * (3 + 5));
	wasd_graph_destroy(g);
}

/* ---- threads and CPU ----------------------------------------------------------------------------------------- */

struct cover {
	atomic_int seen[1000];
	int begin[WASD_THREADS_MAX], end[WASD_THREADS_MAX];
};

static void cover_range(void *ctx, int begin, int end, int thread)
{
	struct cover *c = ctx;
	c->begin[thread] = begin;
	c->end[thread] = end;
	for (int i = begin; i < end; i++)
		atomic_fetch_add(&c->seen[i], 1);
}

static void team_covers_once(void)
{
	static struct cover c, again;
	struct wasd_err err = {0};
	for (int threads = 1; threads <= 5; threads++) {
		CHECK_MSG(!wasd_threads_init(threads, &err), "%s", err.msg);
		CHECK_INT(wasd_threads(), threads);
		for (int n = 0; n < 1000; n += n < 12 ? 1 : 123) {
			memset(&c, 0, sizeof c);
			memset(&again, 0, sizeof again);
			wasd_parallel(n, cover_range, &c);
			wasd_parallel(n, cover_range, &again);
			for (int i = 0; i < 1000; i++)
				if (c.seen[i] != (i < n))
					CHECK_MSG(false, "%d threads, n %d: item %d done %d times", threads, n, i, c.seen[i]);
			CHECK(!memcmp(c.begin, again.begin, sizeof c.begin) && !memcmp(c.end, again.end, sizeof c.end));
		}
	}
	for (int i = 0; i < 20000; i++)
		wasd_parallel(5, cover_range, &c);
	wasd_threads_done();
	CHECK_INT(wasd_threads(), 1);
	CHECK_INT(wasd_threads_init(-1, &err), WASD_EINVAL);
	CHECK_INT(wasd_threads_init(WASD_THREADS_MAX + 1, &err), WASD_EINVAL);
}

/* Minimal filtering rounds differently from the plain sum: an exec that is not strict shows this on a suitable shape; a
 * strict exec does not use minimal filtering. */
static void strict_means_plain_sums(void)
{
	enum { N = 2, C = 16, S = 32, COUNT = N * C * S * S };
	static real x[COUNT], y[2][COUNT];
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_err err;
	struct wasd_rng r;
	CHECK(!wasd_graph_create((struct wasd_shape){C, S, S}, &g, &err));
	wasd_node conv = wasd_graph_conv(g, wasd_graph_input(g), "conv", C, 3, 1, 1, 1, false);
	CHECK(!wasd_graph_finish(g, wasd_graph_globalpool(g, conv), &err));
	CHECK(!wasd_model_create(g, 5, &m, &err));
	wasd_rng_init(&r, 11, "test", 0, 0);
	for (int i = 0; i < COUNT; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	for (int strict = 0; strict < 2; strict++) {
		struct wasd_exec *e = NULL;
		CHECK(!wasd_exec_create(m,
		                        &(struct wasd_exec_opts){.batch = N,
		                                                 .precision = strict ? WASD_PRECISION_FP32_STRICT :
		                                                                       WASD_PRECISION_FP32,
		                                                 .backend = "openblas",
		                                                 .keep_all = true},
		                        &e, &err));
		CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = N, .bn = WASD_BN_BATCH}, &err));
		CHECK(!wasd_exec_activation(e, conv, y[strict], &err));
		wasd_exec_destroy(e);
	}
	int differ = 0;
	double worst = 0;
	for (int i = 0; i < COUNT; i++) {
		differ += y[0][i] != y[1][i];
		worst = fmax(worst, fabs((double)(y[0][i] - y[1][i])));
	}
	CHECK(differ > COUNT / 4);
	CHECK(worst < 1e-4);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* Every backend says what it offers before it is opened, and accepts what it offers; names and values agree. */
static void precisions(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_err err;
	const struct backend *b;
	CHECK(!wasd_graph_create((struct wasd_shape){3, 4, 4}, &g, &err));
	CHECK(!wasd_graph_finish(g,
	                         wasd_graph_globalpool(g, wasd_graph_conv(g, wasd_graph_input(g), "conv", 4, 3, 1, 1, 1,
	                                                                  false)),
	                         &err));
	CHECK(!wasd_model_create(g, 5, &m, &err));
	for (int p = 0; p < WASD_PRECISIONS; p++) {
		enum wasd_precision back = WASD_PRECISIONS;
		CHECK(wasd_precision_from_name(wasd_precision_name((enum wasd_precision)p), &back) && (int)back == p);
		bool any = false;
		for (int i = -1; i < 0 || backend_at(i); i++) {
			const char *name = i < 0 ? NULL : backend_at(i)->name;
			struct wasd_exec *e = NULL;
			memset(&err, 0, sizeof err);
			enum wasd_status offered = backend_choose(name, (enum wasd_precision)p, &b, &err);
			CHECK_MSG(!offered || (offered == WASD_EUNSUPPORTED && err.msg[0]), "%s: %s", name ? name : "any", err.msg);
			CHECK_INT(wasd_exec_create(m,
			                           &(struct wasd_exec_opts){.batch = 1,
			                                                    .precision = (enum wasd_precision)p,
			                                                    .backend = name},
			                           &e, &err),
			          offered);
			any |= i >= 0 && !offered;
			CHECK(i >= 0 || p == WASD_PRECISION_BF16 || !offered);
			wasd_exec_destroy(e);
		}
		CHECK(any == !backend_choose(NULL, (enum wasd_precision)p, &b, NULL));
	}
	enum wasd_precision none;
	CHECK(!wasd_precision_from_name("fp8", &none) && !wasd_precision_from_name("", &none));
	CHECK_INT(backend_choose("abacus", WASD_PRECISION_FP32, &b, &err), WASD_ENOTFOUND);
	CHECK_INT(backend_choose("ref", WASD_PRECISION_BF16, &b, &err), WASD_EUNSUPPORTED);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

static void openblas_is_right(void)
{
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_cpu_check(&err), "%s", err.msg);
	CHECK(wasd_cpu_openblas_loaded() && wasd_cpu_openblas_loaded()[0]);
	if (wasd_cpu_openblas_coretype())
		CHECK_STR(wasd_cpu_openblas_loaded(),
		          getenv("WASD_OPENBLAS_CORETYPE") ? getenv("WASD_OPENBLAS_CORETYPE") : wasd_cpu_openblas_coretype());
}

int main(int argc, char **argv)
{
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	fill_pixels();
	TEST_RUN(step_allocates_nothing);
	TEST_RUN(every_allocation_may_fail);
	TEST_RUN(training_is_repeatable);
	TEST_RUN(activations_match_reference);
	TEST_RUN(running_statistics);
	TEST_RUN(batchnorm_keeps_digits);
	TEST_RUN(dropout_statistics);
	TEST_RUN(builder_errors);
	TEST_RUN(exec_errors);
	TEST_RUN(graph_describes_itself);
	TEST_RUN(team_covers_once);
	TEST_RUN(strict_means_plain_sums);
	TEST_RUN(precisions);
	TEST_RUN(openblas_is_right);
	TEST_END();
}
