/* tests/core/strategies.c - every row of the table of weight strategies, checked by the rules of weights/strategy.h:
 * without a strategy nothing is done; gradients by finite differences, through the network and for each step of the
 * chain; state round trips; one thread and two give the same bits. A row is tested with its defaults, alone and, unless
 * it draws, in front of WAS; one that makes the passes of a step itself, on steps, alone and with every row that draws.
 * Every other row also acts in a run of a few steps: cut anywhere it goes on with the same bits, its masks are nested
 * and their dead weights zero, and at sparsity 0 it changes nothing. Rows that core does not have are tested too. */
#include "check.h"
#include "wasd/model.h"
#include "weights/chain.h"
#include "weights/prune.h"
#include "weights/schedule.h"

#include "extend_compose.h"
#include "extend_mask.h"
#include "extend_strategy.h"

const struct weight_strategy *const weight_strategy_more[] = {&weight_sparse, &weight_thin, &weight_tied, NULL};

#define PAPER "{\"transforms\":[{\"type\":\"translate\"},{\"type\":\"resized_crop\"},{\"type\":\"rotate\"}]}"
enum { N = 3, CLASSES = 3 };
static const struct wasd_shape input = {2, 6, 6};

/* Kernels of every kind, and no kinks: convolution, depthwise, 1x1, one wide enough for factors, linear, whose units no
 * convolution writes. */
static struct wasd_graph *network(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK(!wasd_graph_create(input, &g, &err));
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "c", 6, 3, 1, 1, 1, true);
	wasd_graph_param(g, "alpha", 1, WASD_INIT_UNIT);
	wasd_graph_augmentable(g, "c", "alpha", 0);
	x = wasd_graph_conv(g, x, "d", 6, 3, 1, 1, 6, false);
	x = wasd_graph_conv(g, x, "p", 5, 1, 1, 0, 1, false);
	x = wasd_graph_conv(g, x, "q", 8, 3, 1, 1, 1, false);
	x = wasd_graph_linear(g, wasd_graph_flatten(g, wasd_graph_globalpool(g, x)), "h", 4, false);
	CHECK_MSG(!wasd_graph_finish(g, wasd_graph_linear(g, x, "f", CLASSES, true), &err), "%s", err.msg);
	return g;
}

struct bed {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct weight_chain *c;
	const struct wasd_recipe *recipe;
};

static struct bed bed_of(const char *weights, uint64_t seed)
{
	struct bed b = {.g = network()};
	struct wasd_err err = {0};
	cJSON *list = cJSON_Parse(weights);
	struct chain_spec spec = {.weights = list, .paper = PAPER, .seed = seed};
	CHECK_MSG(!wasd_model_create(b.g, 1, &b.m, &err) && !chain_create(b.g, &spec, &b.c, &err) &&
	              !chain_attach(b.c, b.m, &err),
	          "%s: %s", weights, err.msg);
	CHECK(!chain_draw(b.c, &(struct weight_when){0}, NULL, &b.recipe, &err));
	cJSON_Delete(list);
	return b;
}

static void bed_done(struct bed *b)
{
	chain_destroy(b->c);
	wasd_model_destroy(b->m);
	wasd_graph_destroy(b->g);
}

static void fill(real *v, size_t n, uint64_t seed)
{
	struct wasd_rng r;
	wasd_rng_init(&r, seed, "values", 0, 0);
	for (size_t i = 0; i < n; i++)
		v[i] = (real)wasd_rng_between(&r, -1, 1);
}

static double dot(const real *a, const real *b, size_t n)
{
	double s = 0;
	for (size_t i = 0; i < n; i++)
		s += (double)a[i] * (double)b[i];
	return s;
}

static bool has_option(const struct weight_strategy *s, const char *name)
{
	return !s->reads_spec && wasd_field_find(s->options, name);
}

/* Members that a row needs on this small network, with a comma before them. */
static const char *needed(const struct weight_strategy *s)
{
	return has_option(s, "budget") ? ",\"budget\":1.3,\"bins\":1" : "";
}

/* Lists to test a row with: alone, in front of WAS, and before what it searches for is found; false after the last. */
static bool list_of(const struct weight_strategy *s, int i, char out[128])
{
	int usual = s->passes ? 0 : s->draw ? 1 : 2;
	snprintf(out, 128, "[{\"type\":\"%s\"%s%s}%s]", s->name, needed(s), i == usual ? ",\"search_epochs\":2" : "",
	         i == 1 && usual == 2 ? ",{\"type\":\"was\"}" : "");
	return i < usual || (i == usual && has_option(s, "search_epochs"));
}

static void each(void (*test)(const char *weights))
{
	const struct weight_strategy *s;
	char weights[128];
	for (int i = 0; (s = weight_strategy_at(i)); i++)
		for (int k = 0; list_of(s, k, weights); k++)
			test(weights);
}

static void rows_are_sound(void)
{
	const struct weight_strategy *s;
	for (int i = 0; (s = weight_strategy_at(i)); i++) {
		CHECK(s->name && strcmp(s->name, "master") &&
		      s->name[strspn(s->name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0);
		CHECK_MSG(s->summary && s->create && s->destroy &&
		              (s->link || s->draw || s->event || s->after_step || s->compose || s->passes),
		          "%s", s->name);
		CHECK_MSG(!s->compose == !s->compose_back && (!s->compose || (s->learned && !s->link)),
		          "%s: a composition, its gradient and what is learned go together", s->name);
		CHECK_MSG(!s->link == !s->link_back, "%s: a link and its gradient go together", s->name);
		CHECK_MSG(!s->draw || (s->to_json && s->recorded && s->recorded_json && s->recall && s->shape && s->forward &&
		                       s->backward),
		          "%s draws", s->name);
		CHECK_MSG(!s->passes == !s->price && !s->passes == !s->plan && (!s->network || s->passes), "%s: a step",
		          s->name);
		CHECK(weight_strategy_find(s->name) == s);
		int n = 0;
		for (const struct wasd_field *o = s->options; o && o->name; o++, n++) {
			CHECK_MSG(o->summary && (s->reads_spec || o->def || strstr(o->summary, "default:")),
			          "%s: %s has no default", s->name, o->name);
			if (!s->reads_spec && o->def && o->type <= WASD_PAIR) {
				double v[2];
				wasd_field_numbers(o, o->def, v);
				CHECK_MSG(o->type == WASD_BOOL || wasd_field_takes(o, v[0]), "%s: %s", s->name, o->name);
			}
		}
		CHECK(n < WEIGHT_OPTIONS);
	}
	CHECK(!weight_strategy_find("nothing"));
}

static void none_is_free(void)
{
	struct bed b = bed_of("[]", 1);
	CHECK(!b.recipe && !chain_recorded(b.c) && !wasd_model_effective(b.m));
	for (int i = 0; i < wasd_graph_params(b.g); i++)
		CHECK(wasd_model_weights(b.m, i) == wasd_model_master(b.m) + wasd_graph_param_info(b.g, i).offset);
	struct wasd_mem_stats before = wasd_mem_stats();
	chain_apply(b.c);
	chain_pull(b.c);
	CHECK_INT(wasd_mem_stats().allocs, before.allocs);
	bed_done(&b);
}

/* ---- gradients ------------------------------------------------------------------------------------------ */

static double loss_of(struct bed *b, struct wasd_exec *e, const real *x)
{
	static const int32_t y[N] = {2, 0, 1};
	double loss = NAN;
	int hits;
	struct wasd_err err = {0};
	chain_apply(b->c);
	CHECK_MSG(!wasd_exec_forward(e, x, &(struct wasd_pass){.n = N, .recipe = b->recipe, .bn = WASD_BN_BATCH}, &err) &&
	              !wasd_exec_loss(e, y, 0, &loss, &hits, &err),
	          "%s", err.msg);
	return loss;
}

static bool differs(struct bed *b, struct wasd_exec *e, const real *x, real *v, real grad, double h, double most)
{
	real was = *v;
	*v = was + (real)h;
	double up = loss_of(b, e, x);
	*v = was - (real)h;
	double down = loss_of(b, e, x);
	*v = was;
	return !(fabs((up - down) / (2 * h) - (double)grad) < most);
}

static void by_differences(const char *weights)
{
	struct weight_learned l;
	real x[N * 2 * 6 * 6];
	double h = sizeof(real) == 8 ? 1e-5 : 2e-2, most = sizeof(real) == 8 ? 1e-8 : 2e-3;
	struct bed b = bed_of(weights, 5);
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	size_t n = wasd_graph_param_count(b.g), wrong = 0;
	fill(x, sizeof x / sizeof *x, 3);
	CHECK_MSG(!wasd_exec_create(b.m,
	                            &(struct wasd_exec_opts){.batch = N,
	                                                     .training = true,
	                                                     .backend = "openblas",
	                                                     .precision = WASD_PRECISION_FP32_STRICT},
	                            &e, &err),
	          "%s", err.msg);
	loss_of(&b, e, x);
	wasd_model_grad_zero(b.m);
	CHECK(!wasd_exec_backward(e, &err));
	chain_pull(b.c);
	for (size_t i = 0; i < n; i++)
		wrong += differs(&b, e, x, wasd_model_master(b.m) + i, wasd_model_grad(b.m)[i], h, most);
	CHECK_MSG(!wrong, "%s: %zu of %zu gradients are not what differences give", weights, wrong, n);
	for (int i = 0; chain_learned(b.c, i, &l); i++)
		for (size_t k = 0; k < weight_learned_elements(&l); k++)
			wrong += differs(&b, e, x, l.values + k, l.grad[k], h, most);
	CHECK_MSG(!wrong, "%s: %zu gradients of learned values are not what differences give", weights, wrong);
	wasd_exec_destroy(e);
	bed_done(&b);
}

static void gradients(void)
{
	each(by_differences);
}

/* <psi'(v) x, y> = <x, psi'(v)^t y>; the left side by differences of the whole chain of links. */
static void links_are_adjoint(const char *weights)
{
	struct bed b = bed_of(weights, 6);
	size_t n = wasd_graph_param_count(b.g);
	real *v = wasd_model_master(b.m), *all = wasd_calloc(5 * n, sizeof *all), *at = all, *x = all + n, *y = x + n,
		 *up = y + n, *down = up + n;
	double h = sizeof(real) == 8 ? 1e-6 : 1e-2, eps = sizeof(real) == 8 ? 1e-8 : 1e-2;
	memcpy(at, v, n * sizeof *v);
	fill(x, n, 7);
	fill(y, n, 8);
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < n; i++)
			v[i] = at[i] + (real)(side ? -h : h) * x[i];
		chain_apply(b.c);
		for (int i = 0; i < wasd_graph_params(b.g); i++) {
			struct wasd_param_info p = wasd_graph_param_info(b.g, i);
			memcpy((side ? down : up) + p.offset, wasd_model_weights(b.m, i), p.count * sizeof *v);
		}
	}
	memcpy(v, at, n * sizeof *v);
	chain_apply(b.c);
	struct wasd_exec *e = NULL;
	CHECK(!wasd_exec_create(b.m, &(struct wasd_exec_opts){.batch = 1, .training = true, .backend = "openblas"}, &e,
	                        NULL)); /* the gradient block is its */
	memcpy(wasd_model_grad(b.m), y, n * sizeof *y);
	chain_pull(b.c);
	for (size_t i = 0; i < n; i++)
		up[i] = (up[i] - down[i]) / (real)(2 * h);
	double left = dot(up, y, n), right = dot(x, wasd_model_grad(b.m), n);
	CHECK_MSG(fabs(left - right) < eps * (1 + fabs(right)), "%s: %.12g and %.12g", weights, left, right);
	wasd_exec_destroy(e);
	wasd_free(all);
	bed_done(&b);
}

/* The same for what is learned: <W(l + h x) - W(l - h x), y> / 2h = <x, dl>, over all tensors. */
static void compositions_are_adjoint(const char *weights)
{
	struct bed b = bed_of(weights, 17);
	struct wasd_exec *e = NULL;
	struct weight_learned l;
	size_t n = wasd_graph_param_count(b.g);
	real *y = wasd_calloc(n, sizeof *y), x[1024];
	double h = sizeof(real) == 8 ? 1e-6 : 1e-2, left = 0, right = 0;
	CHECK(!wasd_exec_create(b.m, &(struct wasd_exec_opts){.batch = 1, .training = true, .backend = "openblas"}, &e,
	                        NULL));
	fill(y, n, 8);
	for (int sign = 1; sign >= -2; sign -= sign > 0 ? 2 : 1) {
		for (int i = 0; chain_learned(b.c, i, &l); i++) {
			CHECK(weight_learned_elements(&l) <= 1024);
			fill(x, weight_learned_elements(&l), (uint64_t)(20 + i));
			for (size_t k = 0; k < weight_learned_elements(&l); k++)
				l.values[k] += (real)(h * (sign == -1 ? -2 : 1)) * x[k];
		}
		chain_apply(b.c);
		for (int i = 0; sign > -2 && i < wasd_graph_params(b.g); i++) {
			struct wasd_param_info p = wasd_graph_param_info(b.g, i);
			left += sign * dot(wasd_model_weights(b.m, i), y + p.offset, p.count) / (2 * h);
		}
	}
	memcpy(wasd_model_grad(b.m), y, n * sizeof *y);
	chain_pull(b.c);
	for (int i = 0; chain_learned(b.c, i, &l); i++) {
		fill(x, weight_learned_elements(&l), (uint64_t)(20 + i));
		right += dot(x, l.grad, weight_learned_elements(&l));
	}
	CHECK_MSG(fabs(left - right) < (sizeof(real) == 8 ? 1e-8 : 1e-2) * (1 + fabs(right)), "%s: %.12g and %.12g",
	          weights, left, right);
	wasd_exec_destroy(e);
	wasd_free(y);
	bed_done(&b);
}

/* A draw is linear in the weights: <S(x), y> = <x, S^t(y)>. */
static void draws_are_adjoint(const char *weights)
{
	real x[108], s[108], y[108], kept[108], dx[108] = {0}, grad[1024] = {0};
	struct bed b = bed_of(weights, 9);
	struct weight_when when = {0};
	struct wasd_aug_info a = wasd_graph_aug_info(b.g, 0);
	struct weight_shape shape;
	CHECK(wasd_graph_param_count(b.g) <= 1024 && wasd_graph_param_info(b.g, a.param).count == 108);
	for (int round = 0; round < 20; round++, when.epoch++) {
		CHECK(!chain_draw(b.c, &when, NULL, &b.recipe, NULL));
		if (!b.recipe || !b.recipe->by->shape(b.recipe, 0, &shape))
			continue;
		struct weight_kernel k = {.graph = b.g,
		                          .w = x,
		                          .dw = dx,
		                          .master = wasd_model_master(b.m),
		                          .grad = grad,
		                          .rows = 12,
		                          .outs = 6,
		                          .k = 3};
		size_t n = 12 * (size_t)(shape.live.h * shape.live.w);
		fill(x, 108, 10);
		fill(y, n, 11);
		memcpy(kept, y, n * sizeof *y);
		memset(dx, 0, sizeof dx);
		b.recipe->by->forward(b.recipe, &k, shape.live, s);
		b.recipe->by->backward(b.recipe, &k, shape.live, y);
		CHECK_NEAR(dot(s, kept, n), dot(x, dx, 108), sizeof(real) == 8 ? 1e-12 : 1e-4);
		for (size_t i = 0; i < n; i++)
			CHECK(y[i] == 0);
	}
	bed_done(&b);
}

static void adjoints(void)
{
	each(links_are_adjoint);
	each(compositions_are_adjoint);
	each(draws_are_adjoint);
}

/* ---- states and threads ----------------------------------------------------------------------------------- */

static bool same_effective(const struct bed *a, const struct bed *b)
{
	bool same = true;
	for (int i = 0; i < wasd_graph_params(a->g); i++)
		same = same && !memcmp(wasd_model_weights(a->m, i), wasd_model_weights(b->m, i),
		                       wasd_graph_param_info(a->g, i).count * sizeof(real));
	return same;
}

/* Tensor i of a, and of b in the shape that b's state says. */
static bool next_state(const struct weight_chain *a, struct weight_chain *b, int i, struct chain_state *from,
                       struct chain_state *to)
{
	if (!chain_state(a, i, from))
		return false;
	if (from->learned && (!i || (chain_state(b, i - 1, to) && !to->learned)))
		CHECK(!chain_arrange(b, NULL));
	return chain_state(b, i, to);
}

/* A chain with another seed, given the state, generator and recorded recipe of the first, continues as the first
 * does. */
static void round_trip(const char *weights)
{
	struct bed a = bed_of(weights, 12), b = bed_of(weights, 13);
	struct chain_state from, to;
	struct weight_when when = {.epoch = 1};
	struct wasd_err err = {0};
	const char *stream;
	int n = 0;
	for (; next_state(a.c, b.c, n, &from, &to); n++) {
		size_t count = 1;
		CHECK(!strcmp(from.tensor.name, to.tensor.name) && from.of == to.of && from.tensor.ndims == to.tensor.ndims);
		for (int d = 0; d < from.tensor.ndims; d++)
			count *= from.tensor.dims[d];
		CHECK(!from.tensor.values != !from.tensor.bits && !to.tensor.bits == !from.tensor.bits);
		if (from.tensor.bits)
			memcpy(to.tensor.bits, from.tensor.bits, (count + 7) / 8);
		else
			memcpy(to.tensor.values, from.tensor.values, count * sizeof(real));
	}
	CHECK(!chain_state(a.c, n, &from) && !chain_state(b.c, n, &to));
	cJSON *recorded = chain_recorded_json(a.c), *again = NULL;
	CHECK_MSG(!chain_resume(b.c, chain_generator(a.c, 0, &stream), recorded, &when, &err), "%s: %s", weights, err.msg);
	CHECK_MSG(same_effective(&a, &b), "%s: other effective weights", weights);
	again = chain_recorded_json(b.c);
	CHECK_MSG(cJSON_Compare(recorded, again, true), "%s: another recorded recipe", weights);
	for (int round = 0; round < 3; round++, when.batch++) {
		CHECK(!chain_draw(a.c, &when, NULL, &a.recipe, NULL) && !chain_draw(b.c, &when, NULL, &b.recipe, NULL) &&
		      !a.recipe == !b.recipe);
		CHECK_MSG(wasd_graph_macs(a.g, a.recipe) == wasd_graph_macs(b.g, b.recipe), "%s: another draw", weights);
	}
	cJSON_Delete(recorded);
	cJSON_Delete(again);
	bed_done(&a);
	bed_done(&b);
}

static void states(void)
{
	each(round_trip);
}

/* Effective weights, the draw's result for them, and a gradient on its way back. */
static void run_with(const char *weights, int threads, real out[3072])
{
	struct wasd_exec *e = NULL;
	struct weight_shape shape;
	CHECK(!wasd_threads_init(threads, NULL));
	struct bed b = bed_of(weights, 14);
	size_t n = wasd_graph_param_count(b.g), used = 0;
	CHECK(!wasd_exec_create(b.m, &(struct wasd_exec_opts){.batch = 1, .training = true, .backend = "openblas"}, &e,
	                        NULL));
	fill(wasd_model_grad(b.m), n, 15);
	memset(out, 0, 3072 * sizeof *out);
	struct weight_kernel k = {.graph = b.g,
	                          .w = wasd_model_weights(b.m, 0),
	                          .dw = wasd_model_grad(b.m),
	                          .master = wasd_model_master(b.m),
	                          .grad = wasd_model_grad(b.m),
	                          .rows = 12,
	                          .outs = 6,
	                          .k = 3};
	if (b.recipe && b.recipe->by->shape(b.recipe, 0, &shape)) {
		b.recipe->by->forward(b.recipe, &k, shape.live, out);
		real ds[108];
		fill(ds, 108, 16);
		b.recipe->by->backward(b.recipe, &k, shape.live, ds);
		used = 108;
	}
	chain_pull(b.c);
	memcpy(out + used, wasd_model_grad(b.m), n * sizeof *out);
	used += n;
	for (int i = 0; i < wasd_graph_params(b.g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(b.g, i);
		memcpy(out + used, wasd_model_weights(b.m, i), p.count * sizeof *out);
		used += p.count;
	}
	CHECK(used <= 3072);
	wasd_exec_destroy(e);
	bed_done(&b);
}

static void one_thread_and_two(const char *weights)
{
	real one[3072], two[3072];
	run_with(weights, 1, one);
	run_with(weights, 2, two);
	CHECK_MSG(!memcmp(one, two, sizeof one), "%s: other bits with two threads", weights);
}

static void threads(void)
{
	each(one_thread_and_two);
}

/* ---- a run ------------------------------------------------------------------------------------------------- */

enum { RUN_EPOCHS = 4, RUN_BATCHES = 3, RUN_STEPS = RUN_EPOCHS * RUN_BATCHES };

/* The row with events at many steps, and `more` in front of its other members. */
static char *eager(const struct weight_strategy *s, const char *more)
{
	return wasd_asprintf("[{\"type\":\"%s\"%s%s%s%s%s%s%s}]", s->name, needed(s), more,
	                     has_option(s, "every") ? ",\"every\":1" : "", has_option(s, "first") ? ",\"first\":1" : "",
	                     has_option(s, "end") ? ",\"begin\":0.5,\"end\":3" : "",
	                     has_option(s, "round_to") ? ",\"round_to\":1" : "",
	                     has_option(s, "search_epochs") ? ",\"search_epochs\":2" : "");
}

struct sim {
	struct bed b;
	real *block[2]; /* momentum, statistics */
	struct weight_block optim[2];
	struct weight_run run;
	struct wasd_exec *e; /* has the gradient block */
};

static struct sim *sim_create(const char *weights, uint64_t seed)
{
	struct sim *s = wasd_calloc(1, sizeof *s);
	struct wasd_err err = {0};
	s->b = (struct bed){.g = network()};
	cJSON *list = cJSON_Parse(weights);
	struct chain_spec spec = {.weights = list, .paper = PAPER, .seed = seed, .epochs = RUN_EPOCHS};
	size_t n = wasd_graph_param_count(s->b.g);
	s->block[0] = wasd_calloc(n, sizeof(real));
	s->block[1] = wasd_calloc(wasd_graph_stats_count(s->b.g) + 1, sizeof(real));
	s->optim[0] = (struct weight_block){"momentum", s->block[0]};
	CHECK_MSG(!wasd_model_create(s->b.g, 1, &s->b.m, &err) && !chain_create(s->b.g, &spec, &s->b.c, &err) &&
	              !chain_attach(s->b.c, s->b.m, &err),
	          "%s: %s %s", weights, err.pointer, err.msg);
	s->run = (struct weight_run){.batches = RUN_BATCHES,
	                             .epochs = RUN_EPOCHS,
	                             .master = wasd_model_master(s->b.m),
	                             .optim = s->optim,
	                             .stats = s->block[1]};
	cJSON *optimizer = cJSON_Parse("{\"type\":\"sgd\",\"momentum\":0.9,\"weight_decay\":0.01}");
	CHECK_MSG(!chain_begin(s->b.c, optimizer, &s->run, &err), "%s: %s", weights, err.msg);
	CHECK(!wasd_exec_create(s->b.m, &(struct wasd_exec_opts){.batch = 1, .training = true, .backend = "openblas"},
	                        &s->e, NULL));
	cJSON_Delete(optimizer);
	cJSON_Delete(list);
	return s;
}

static void sim_destroy(struct sim *s)
{
	wasd_exec_destroy(s->e);
	bed_done(&s->b);
	wasd_free(s->block[0]);
	wasd_free(s->block[1]);
	wasd_free(s);
}

/* Weights whose bit in a mask is 0 are 0, and a mask that a strategy has once it never gets back. */
static void masks_hold(struct sim *s, const char *weights, uint8_t *seen)
{
	struct chain_state one;
	for (int i = 0; chain_state(s->b.c, i, &one); i++) {
		int param = one.tensor.bits ? wasd_graph_param_find(s->b.g, one.tensor.name) : -1;
		if (param < 0)
			continue;
		struct wasd_param_info p = wasd_graph_param_info(s->b.g, param);
		for (size_t k = 0; k < p.count; k++) {
			bool alive = one.tensor.bits[k / 8] >> k % 8 & 1;
			CHECK_MSG(alive || s->run.master[p.offset + k] == 0, "%s: a dead weight of %s is not 0", weights, p.name);
			CHECK_MSG(!alive || !seen[p.offset + k], "%s: a weight of %s lives again", weights, p.name);
			seen[p.offset + k] |= !alive;
		}
	}
}

/* Steps with any gradient, as the trainer takes them. */
static void sim_go(struct sim *s, uint64_t to, const char *weights, uint8_t *seen)
{
	size_t n = wasd_graph_param_count(s->b.g);
	struct wasd_rng r;
	for (;; s->run.step++) {
		if (s->run.step == to && to < RUN_STEPS)
			return;
		chain_event(s->b.c, &s->run);
		masks_hold(s, weights, seen);
		if (s->run.step == to)
			return;
		struct weight_pace pace = chain_pace(s->b.c, &s->run);
		CHECK(pace.epochs <= RUN_EPOCHS && pace.step <= s->run.step);
		fill(wasd_model_grad(s->b.m), n, 30 + s->run.step);
		chain_pull(s->b.c);
		chain_learn(s->b.c, 0.01, pace.optim_steps);
		wasd_rng_init(&r, 3, "gradient", s->run.step, 0);
		for (size_t i = 0; i < n; i++) {
			s->block[0][i] = (real)0.5 * s->block[0][i] + (real)wasd_rng_between(&r, -0.01, 0.01);
			s->run.master[i] -= s->block[0][i];
		}
		struct weight_run after = s->run;
		after.step++;
		chain_after_step(s->b.c, &after);
		chain_apply(s->b.c);
		masks_hold(s, weights, seen);
	}
}

static void copy_state(struct sim *to, const struct sim *from)
{
	struct chain_state a, b;
	const char *stream;
	cJSON *recorded = chain_recorded_json(from->b.c);
	memcpy(to->run.master, from->run.master, wasd_graph_param_count(from->b.g) * sizeof(real));
	memcpy(to->block[0], from->block[0], wasd_graph_param_count(from->b.g) * sizeof(real));
	for (int i = 0; next_state(from->b.c, to->b.c, i, &a, &b); i++) {
		size_t n = 1;
		for (int d = 0; d < a.tensor.ndims; d++)
			n *= a.tensor.dims[d];
		CHECK(weight_state_elements(&b.tensor) == n);
		if (a.tensor.bits)
			memcpy(b.tensor.bits, a.tensor.bits, (n + 7) / 8);
		else
			memcpy(b.tensor.values, a.tensor.values, n * sizeof(real));
	}
	to->run.step = from->run.step;
	CHECK(!chain_resume(to->b.c, chain_generator(from->b.c, 0, &stream), recorded, &(struct weight_when){0}, NULL));
	cJSON_Delete(recorded);
}

static bool same_states(const struct sim *a, const struct sim *b)
{
	struct chain_state x, y;
	bool same = !memcmp(a->run.master, b->run.master, wasd_graph_param_count(a->b.g) * sizeof(real)) &&
	            same_effective(&a->b, &b->b);
	for (int i = 0; chain_state(a->b.c, i, &x) && chain_state(b->b.c, i, &y); i++) {
		size_t n = 1;
		for (int d = 0; d < x.tensor.ndims; d++)
			n *= x.tensor.dims[d];
		same = same && weight_state_elements(&y.tensor) == n &&
		       (x.tensor.bits ? !memcmp(x.tensor.bits, y.tensor.bits, (n + 7) / 8) :
		                        !memcmp(x.tensor.values, y.tensor.values, n * sizeof(real)));
	}
	return same;
}

static void run_is_the_same(const char *weights)
{
	uint8_t seen[1024], again[1024];
	CHECK(!wasd_threads_init(1, NULL));
	struct sim *whole = sim_create(weights, 4);
	memset(seen, 0, sizeof seen);
	sim_go(whole, RUN_STEPS, weights, seen);
	for (uint64_t cut = 0; cut <= RUN_STEPS; cut += 1 + cut / 4) {
		struct sim *first = sim_create(weights, 4), *second = sim_create(weights, 4);
		CHECK(wasd_graph_param_count(first->b.g) <= sizeof seen);
		CHECK(!wasd_threads_init(2, NULL));
		memset(again, 0, sizeof again);
		sim_go(first, cut, weights, again);
		copy_state(second, first);
		if (cut < RUN_STEPS)
			sim_go(second, RUN_STEPS, weights, again);
		CHECK_MSG(same_states(whole, second), "%s: cut at step %d and with two threads, other bits", weights, (int)cut);
		sim_destroy(first);
		sim_destroy(second);
	}
	sim_destroy(whole);
}

static void runs(void)
{
	const struct weight_strategy *s;
	for (int i = 0; (s = weight_strategy_at(i)); i++) {
		const struct wasd_field *f = s->reads_spec ? NULL : s->options;
		if (s->passes)
			continue;
		char *weights = eager(s, "");
		run_is_the_same(weights);
		wasd_free(weights);
		for (; f && f->name; f++)
			for (int k = 0; f->type == WASD_CHOICE && wasd_field_choice(f, k); k++) {
				char more[64];
				snprintf(more, sizeof more, ",\"%s\":\"%s\"%s", f->name, wasd_field_choice(f, k),
				         !strcmp(f->name, "retrain") && k ? ",\"to_epoch\":2" : "");
				weights = eager(s, more);
				run_is_the_same(weights);
				wasd_free(weights);
			}
	}
}

/* At sparsity 0 the weights are those of a run without the row; at the default they are not. */
static void zero_is_off(void)
{
	const struct weight_strategy *s;
	uint8_t seen[1024] = {0};
	struct sim *plain = sim_create("[]", 4);
	sim_go(plain, RUN_STEPS, "[]", seen);
	for (int i = 0; (s = weight_strategy_at(i)); i++) {
		if (s->reads_spec || !wasd_field_find(s->options, "sparsity"))
			continue;
		for (int on = 0; on < 2; on++) {
			char *weights = eager(s, on ? "" : ",\"sparsity\":0");
			struct sim *off = sim_create(weights, 4);
			memset(seen, 0, sizeof seen);
			sim_go(off, RUN_STEPS, weights, seen);
			CHECK_MSG(!memcmp(off->run.master, plain->run.master, wasd_graph_param_count(off->b.g) * sizeof(real)) ==
			              !on,
			          "%s at %s changes weights", s->name, on ? "its default never" : "sparsity 0");
			sim_destroy(off);
			wasd_free(weights);
		}
	}
	sim_destroy(plain);
}

/* There is nothing to train again after pruning nothing: the rate is that of a run without the row. */
static void zero_retrains_nothing(void)
{
	static const char *const kinds[] = {"finetune", "weights", "lr"};
	uint8_t seen[1024] = {0};
	struct sim *plain = sim_create("[]", 4);
	sim_go(plain, RUN_STEPS, "[]", seen);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		char *more = wasd_asprintf(",\"sparsity\":0,\"retrain\":\"%s\",\"to_epoch\":2", kinds[i]);
		char *weights = eager(weight_strategy_find("magnitude"), more);
		struct sim *off = sim_create(weights, 4);
		for (uint64_t step = 0; step <= RUN_STEPS; step++) {
			sim_go(off, step, weights, seen);
			struct weight_pace pace = chain_pace(off->b.c, &off->run);
			CHECK_MSG(pace.step == step && pace.optim_steps == step && pace.epochs == RUN_EPOCHS, "%s: step %d is %d",
			          kinds[i], (int)step, (int)pace.step);
		}
		CHECK(!memcmp(off->run.master, plain->run.master, wasd_graph_param_count(off->b.g) * sizeof(real)));
		sim_destroy(off);
		wasd_free(weights);
		wasd_free(more);
	}
	sim_destroy(plain);
}

/* ---- steps of a strategy's own ----------------------------------------------------------------------------- */

/* Layers with channels enough for networks of several widths. */
static struct wasd_graph *wide_network(void)
{
	struct wasd_graph *g = NULL;
	CHECK(!wasd_graph_create((struct wasd_shape){3, 6, 6}, &g, NULL));
	wasd_node x = wasd_graph_conv(g, wasd_graph_input(g), "c", 32, 3, 1, 1, 1, true);
	wasd_graph_param(g, "alpha", 1, WASD_INIT_UNIT);
	wasd_graph_augmentable(g, "c", "alpha", 0);
	x = wasd_graph_relu(g, wasd_graph_batchnorm(g, x, "bn", 1e-5, 0.1));
	x = wasd_graph_flatten(g, wasd_graph_globalpool(g, x));
	CHECK(!wasd_graph_finish(g, wasd_graph_linear(g, x, "f", CLASSES, true), NULL));
	return g;
}

/* A run's step, without an optimizer. */
struct stepping {
	struct bed b;
	struct wasd_exec *e;
	size_t price;
};

static struct stepping stepping_of(const char *weights)
{
	struct stepping s = {.b = {.g = wide_network()}};
	struct wasd_err err = {0};
	cJSON *list = cJSON_Parse(weights);
	struct chain_spec spec = {.weights = list, .paper = PAPER, .seed = 1};
	struct wasd_exec_opts o = {.batch = N,
	                           .training = true,
	                           .backend = "ref",
	                           .precision = WASD_PRECISION_FP32_STRICT,
	                           .unmeasured = true};
	CHECK_MSG(!wasd_model_create(s.b.g, 1, &s.b.m, &err) && !chain_create(s.b.g, &spec, &s.b.c, &err) &&
	              !chain_attach(s.b.c, s.b.m, &err) && !wasd_exec_create(s.b.m, &o, &s.e, &err) &&
	              !chain_price(s.b.c, &o, &s.price, &err) &&
	              !chain_plan(s.b.c, &(struct weight_plan){.graph = s.b.g, .model = s.b.m, .exec = &o}, &err) &&
	              !chain_begin(s.b.c, NULL, &(struct weight_run){.master = wasd_model_master(s.b.m)}, &err),
	          "%s: %s", weights, err.msg);
	cJSON_Delete(list);
	return s;
}

static void stepping_done(struct stepping *s)
{
	wasd_exec_destroy(s->e);
	bed_done(&s->b);
}

static double step_of(struct stepping *s, uint64_t step)
{
	static const int32_t y[N] = {2, 0, 1};
	struct wasd_pass pass = {.n = N, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN, .update = true};
	real x[N * 3 * 6 * 6];
	double loss = NAN;
	int hits;
	fill(x, sizeof x / sizeof *x, 3);
	uint64_t allocs = wasd_mem_stats().allocs;
	CHECK(!chain_draw(s->b.c, &(struct weight_when){.batch = (uint32_t)step}, NULL, &pass.recipe, NULL));
	wasd_model_grad_zero(s->b.m);
	CHECK(!chain_passes(s->b.c, &(struct weight_passes){step, s->e, x, &pass, &(struct wasd_targets){.y = y}}, &loss,
	                    &hits, NULL));
	CHECK_INT(wasd_mem_stats().allocs, allocs);
	for (size_t i = 0; i < wasd_graph_param_count(s->b.g); i++)
		wasd_model_master(s->b.m)[i] -= (real)0.1 * wasd_model_grad(s->b.m)[i];
	return loss;
}

/* Weights, statistics, the state of the strategies, and the draws that come. */
static void copy_stepping(struct stepping *to, const struct stepping *from)
{
	struct chain_state a, b;
	const char *stream;
	cJSON *recorded = chain_recorded_json(from->b.c);
	memcpy(wasd_model_master(to->b.m), wasd_model_master(from->b.m), wasd_graph_param_count(to->b.g) * sizeof(real));
	memcpy(wasd_model_stats(to->b.m, WASD_STATS_TRAIN), wasd_model_stats(from->b.m, WASD_STATS_TRAIN),
	       wasd_graph_stats_count(to->b.g) * sizeof(real));
	for (int i = 0; chain_state(from->b.c, i, &a) && chain_state(to->b.c, i, &b); i++)
		memcpy(b.tensor.values, a.tensor.values, weight_state_bytes(&a.tensor));
	CHECK(!chain_resume(to->b.c, chain_generator(from->b.c, 1, &stream), recorded, &(struct weight_when){.batch = 1},
	                    NULL));
	cJSON_Delete(recorded);
}

/* Three steps; cut: the last two with another chain, which has the state of the first. Returns the first loss. */
static double steps_with(const char *weights, int threads, bool cut, real out[2048], size_t *price)
{
	CHECK(!wasd_threads_init(threads, NULL));
	struct stepping a = stepping_of(weights), b = stepping_of(weights), *s = cut ? &b : &a;
	size_t n = wasd_graph_param_count(a.b.g);
	double loss = step_of(&a, 0);
	CHECK(n <= 2048);
	if (cut)
		copy_stepping(&b, &a);
	for (uint64_t step = 1; step < 3; step++)
		step_of(s, step);
	memcpy(out, wasd_model_master(s->b.m), n * sizeof *out);
	*price = a.price;
	stepping_done(&a);
	stepping_done(&b);
	return loss;
}

/* A step gives the loss of the run's own pass and a gradient with more in it, allocates nothing, has a price in memory,
 * and the same bits with two threads and from a resumed state on. Returns the number of lists. */
static int own_steps_of(const struct weight_strategy *s, const char *draw)
{
	real plain[2048] = {0}, one[2048] = {0}, other[2048] = {0};
	size_t none, price;
	char weights[160];
	int steps = 0;
	snprintf(weights, sizeof weights, "[%s]", draw);
	double loss = steps_with(weights, 1, false, plain, &none);
	for (const struct wasd_field *f = s->options; f && f->name; f++)
		for (int k = 0; f->type == WASD_CHOICE && wasd_field_choice(f, k); k++, steps++) {
			snprintf(weights, sizeof weights, "[{\"type\":\"%s\",\"%s\":\"%s\"}%s%s]", s->name, f->name,
			         wasd_field_choice(f, k), *draw ? "," : "", draw);
			CHECK_MSG(steps_with(weights, 1, false, one, &price) == loss, "%s: another loss than the run's own pass",
			          weights);
			CHECK_MSG(memcmp(one, plain, sizeof one), "%s: the steps of the run's own pass", weights);
			CHECK_MSG(!none && price, "%s: %zu bytes", weights, price);
			steps_with(weights, 2, false, other, &price);
			CHECK_MSG(!memcmp(one, other, sizeof one), "%s: other bits with two threads", weights);
			steps_with(weights, 1, true, other, &price);
			CHECK_MSG(!memcmp(one, other, sizeof one), "%s: other bits after a cut", weights);
		}
	return steps;
}

static void own_steps(void)
{
	const struct weight_strategy *s, *d;
	char draw[64];
	int alone = 0, drawn = 0;
	for (int i = 0; (s = weight_strategy_at(i)); i++) {
		alone += s->passes ? own_steps_of(s, "") : 0;
		for (int k = 0; s->passes && (d = weight_strategy_at(k)); k++) {
			snprintf(draw, sizeof draw, "{\"type\":\"%s\"}", d->name);
			drawn += d->draw ? own_steps_of(s, draw) : 0;
		}
	}
	CHECK(alone > 0 && drawn > 0);
	CHECK(!wasd_threads_init(1, NULL));
}

/* An option that is not in the table, or out of its range, is refused at its pointer. */
static void refused_at(const char *weights, const char *pointer)
{
	struct wasd_graph *g = network();
	struct weight_chain *c = NULL;
	struct wasd_err err = {0};
	cJSON *list = cJSON_Parse(weights);
	struct chain_spec spec = {.weights = list, .paper = PAPER, .seed = 1, .epochs = RUN_EPOCHS};
	CHECK_MSG(chain_create(g, &spec, &c, &err) == WASD_EINVAL && !strcmp(err.pointer, pointer),
	          "%s: at \"%s\", want \"%s\" (%s)", weights, err.pointer, pointer, err.msg);
	chain_destroy(c);
	cJSON_Delete(list);
	wasd_graph_destroy(g);
}

static void options_are_checked(void)
{
	const struct weight_strategy *s;
	char weights[160], pointer[64];
	for (int i = 0; (s = weight_strategy_at(i)); i++) {
		snprintf(weights, sizeof weights, "[{\"type\":\"%s\",\"no such\":1}]", s->name);
		refused_at(weights, "/weights/0/no such");
		for (const struct wasd_field *f = s->reads_spec ? NULL : s->options; f && f->name; f++) {
			bool text = f->type == WASD_CHOICE || f->type == WASD_STR;
			snprintf(pointer, sizeof pointer, "/weights/0/%s", f->name);
			snprintf(weights, sizeof weights, "[{\"type\":\"%s\",\"%s\":%s}]", s->name, f->name,
			         text ? "7" : "\"seven\"");
			refused_at(weights, pointer);
			if (f->type != WASD_INT && f->type != WASD_NUM)
				continue;
			snprintf(weights, sizeof weights, "[{\"type\":\"%s\",\"%s\":%g}]", s->name, f->name, f->max * 2 + 1);
			refused_at(weights, pointer);
		}
	}
}

/* After every event exactly as many weights of each layer, or of all, are left as the schedule says. */
static void magnitude_counts(void)
{
	struct prune_schedule when = {0.5, 3, 1, 0, 0.9, 3};
	for (int global = 0; global < 2; global++) {
		char *weights = eager(weight_strategy_find("magnitude"), global ? ",\"scope\":\"global\"" : "");
		struct sim *s = sim_create(weights, 4);
		uint8_t seen[1024] = {0};
		for (uint64_t step = 0; step < RUN_STEPS; step++) {
			struct chain_state one;
			size_t all = 0, left = 0;
			sim_go(s, step, weights, seen);
			chain_event(s->b.c, &s->run);
			uint64_t at = step < 9 ? step : 9; /* the last event */
			for (int i = 0; chain_state(s->b.c, i, &one) && one.tensor.bits; i++) {
				size_t n = 1, living = 0;
				for (int d = 0; d < one.tensor.ndims; d++)
					n *= one.tensor.dims[d];
				for (size_t k = 0; k < n; k++)
					living += one.tensor.bits[k / 8] >> k % 8 & 1;
				all += n;
				left += living;
				size_t want = at < 2 ? n : prune_keep_count(n, prune_sparsity(&when, at, RUN_BATCHES));
				CHECK_MSG(global || living == want, "%s: step %d: %zu, want %zu", weights, (int)step, living, want);
			}
			size_t want = at < 2 ? all : prune_keep_count(all, prune_sparsity(&when, at, RUN_BATCHES));
			CHECK_MSG(!global || left == want, "%s: step %d: %zu, want %zu", weights, (int)step, left, want);
		}
		sim_destroy(s);
		wasd_free(weights);
	}
}

static void magnitude_fits_the_run(void)
{
	static const char *const c[][2] = {
		{"\"begin\":3,\"end\":2", "begin"},
		{"\"end\":5", "end"},
		{"\"initial\":0.95", "initial"},
		{"\"layers\":\"c,x*\"", "layers"},
		{"\"layers\":\"!all\"", "layers"},
		{"\"retrain\":\"lr\",\"to_epoch\":1", "to_epoch"},
		{"\"retrain\":\"weights\",\"to_epoch\":3,\"end\":3", "to_epoch"},
		{"\"criterion\":\"random\",\"rule\":\"percentile\"", "rule"},
	};
	refused_at("[{\"type\":\"compander\",\"a\":0.1}]", "/weights/0/a");
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		char weights[160], pointer[40];
		snprintf(weights, sizeof weights, "[{\"type\":\"magnitude\",%s}]", c[i][0]);
		snprintf(pointer, sizeof pointer, "/weights/0/%s", c[i][1]);
		refused_at(weights, pointer);
	}
}

static bool no_memory_for(const char *weights)
{
	struct wasd_graph *g = network();
	struct wasd_model *m = NULL;
	struct weight_chain *c = NULL;
	cJSON *list = cJSON_Parse(weights);
	struct chain_spec spec = {.weights = list, .paper = PAPER, .seed = 1};
	CHECK(!wasd_model_create(g, 1, &m, NULL));
	bool failed = true;
	for (uint64_t nth = 1; failed && nth < 2000; nth++) {
		wasd_mem_fail_at(nth);
		enum wasd_status s = chain_create(g, &spec, &c, NULL);
		if (!s)
			s = chain_attach(c, m, NULL);
		wasd_mem_fail_at(0);
		failed = s == WASD_ENOMEM;
		CHECK(!s || failed);
		chain_destroy(c);
		c = NULL;
	}
	cJSON_Delete(list);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	return !failed;
}

static void out_of_memory(const char *weights)
{
	CHECK_MSG(no_memory_for(weights), "%s", weights);
}

/* What the optimizer holds for a tensor follows its size and life, and decay spares what does not decay. */
static void optimizer_state_follows(void)
{
	uint8_t seen[1024] = {0};
	struct sim *s = sim_create("[{\"type\":\"tied\"}]", 4);
	struct chain_state one;
	real before[256] = {0}, *m = NULL;
	size_t rows = wasd_graph_param_info(s->b.g, 0).count / 2;
	sim_go(s, 4, "tied", seen);
	for (int i = 0; chain_state(s->b.c, i, &one); i++)
		if (!strcmp(one.tensor.name, "learned.momentum.m"))
			memcpy(before, m = one.tensor.values, 2 * rows * sizeof *m);
	CHECK(m && before[0] != 0 && before[2 * rows - 1] != 0);
	chain_event(s->b.c, &s->run);
	for (size_t i = 0; i < rows; i++)
		CHECK_MSG(m[i] == before[i < rows / 2 ? i : rows + i - rows / 2], "element %zu", i);
	sim_go(s, 6, "tied", seen);
	chain_event(s->b.c, &s->run);
	for (int i = 0; chain_state(s->b.c, i, &one); i++)
		for (size_t k = 0; !strcmp(one.tensor.name, "learned.momentum.c") && k < one.tensor.dims[0]; k++)
			CHECK(one.tensor.values[k] == 0);
	CHECK(sizeof(before) / sizeof *before >= 2 * rows);
	sim_destroy(s);
}

/* What is composed is not linked or masked as well, and its place in the gradient is empty after pull. */
static void composed_alone(void)
{
	struct bed b = bed_of("[{\"type\":\"tied\"},{\"type\":\"was\"}]", 1);
	struct wasd_exec *e = NULL;
	CHECK(!wasd_model_effective(b.m) && !chain_masks(b.c) && chain_composer(b.c) == &weight_tied);
	CHECK(!wasd_exec_create(b.m, &(struct wasd_exec_opts){.batch = 1, .training = true, .backend = "openblas"}, &e,
	                        NULL));
	fill(wasd_model_grad(b.m), wasd_graph_param_count(b.g), 2);
	chain_pull(b.c);
	for (int i = 0; i < wasd_graph_params(b.g); i++)
		CHECK((wasd_model_grad(b.m)[wasd_graph_param_info(b.g, i).offset] == 0) == chain_composes(b.c, i));
	wasd_exec_destroy(e);
	bed_done(&b);
	refused_at("[{\"type\":\"tied\"},{\"type\":\"compander\"}]", "/weights/1");
	refused_at("[{\"type\":\"magnitude\",\"end\":3},{\"type\":\"tied\"}]", "/weights/1");
}

static void memory(void)
{
	each(out_of_memory);
}

int main(void)
{
	CHECK(!wasd_threads_init(1, NULL));
	TEST_RUN(rows_are_sound);
	TEST_RUN(none_is_free);
	TEST_RUN(gradients);
	TEST_RUN(adjoints);
	TEST_RUN(states);
	TEST_RUN(threads);
	TEST_RUN(runs);
	TEST_RUN(own_steps);
	TEST_RUN(zero_is_off);
	TEST_RUN(zero_retrains_nothing);
	TEST_RUN(options_are_checked);
	TEST_RUN(magnitude_counts);
	TEST_RUN(magnitude_fits_the_run);
	TEST_RUN(optimizer_state_follows);
	TEST_RUN(composed_alone);
	TEST_RUN(memory);
	TEST_END();
}
