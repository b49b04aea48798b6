/* tests/core/optim.c - every row of the optimizers and schedules, checked by the rules common to all; those of core
 * also against steps computed by PyTorch's formulas in double, and schedules against their definitions. A row that core
 * does not have is tested too. (Options: tests/core/tables.c.) */
#include "check.h"
#include "wasd/cpu.h"
#include "wasd/optim.h"

#include "extend_optimizer.h"

const struct wasd_optim_kind *const wasd_optim_more[] = {&optim_signsgd, NULL};

#define N 5
static const double g0[N] = {0.5, -1, 2, 0, 1e-3}, g1[N] = {-0.25, -1, 0.5, 3, 2e-3}, w0[N] = {1, -2, 0.5, 0, 3};

static double tol(void)
{
	return sizeof(real) == 8 ? 1e-14 : 2e-6;
}

static struct wasd_optim *make(const char *text, size_t n)
{
	struct wasd_optim *o = NULL;
	struct wasd_err err = {0};
	cJSON *j = cJSON_Parse(text);
	enum wasd_status s = wasd_optim_create(j, n, &o, &err);
	CHECK_MSG(s == WASD_OK, "%s: %s", text, err.msg);
	cJSON_Delete(j);
	return o;
}

/* One step of torch.optim.SGD, parameter by parameter. */
static void sgd_by_hand(double *w, double *v, const double *g, bool first, double lr, double mu, bool nesterov,
                        double wd)
{
	for (int i = 0; i < N; i++) {
		double d = g[i] + wd * w[i];
		if (mu != 0) {
			v[i] = first ? d : mu * v[i] + d;
			d = nesterov ? d + mu * v[i] : v[i];
		}
		w[i] -= lr * d;
	}
}

static void step(struct wasd_optim *o, real *w, const double *g, double lr)
{
	real r[N];
	for (int i = 0; i < N; i++)
		r[i] = (real)g[i];
	wasd_optim_step(o, w, r, lr);
	for (int i = 0; i < N; i++)
		CHECK_MSG(r[i] == (real)g[i], "the gradient was changed");
}

static void sgd(void)
{
	static const struct {
		const char *spec;
		double mu;
		bool nesterov;
		double wd;
	} c[] = {
		{"{\"type\":\"sgd\",\"momentum\":0}", 0, false, 0},
		{"{\"type\":\"sgd\"}", 0.9, false, 0},
		{"{\"momentum\":0.9,\"weight_decay\":0.01}", 0.9, false, 0.01},
		{"{\"type\":\"sgd\",\"momentum\":0.8,\"nesterov\":true,\"weight_decay\":0.005}", 0.8, true, 0.005},
		{"{\"type\":\"sgd\",\"momentum\":0,\"weight_decay\":0.1}", 0, false, 0.1},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_optim *o = make(c[i].spec, N);
		double w[N], v[N] = {0};
		real r[N];
		for (int k = 0; k < N; k++)
			r[k] = (real)(w[k] = w0[k]);
		for (int s = 0; s < 3; s++) {
			sgd_by_hand(w, v, s == 1 ? g1 : g0, s == 0, 0.1 / (s + 1), c[i].mu, c[i].nesterov, c[i].wd);
			step(o, r, s == 1 ? g1 : g0, 0.1 / (s + 1));
		}
		const char *name;
		real *m = wasd_optim_state(o, 0, &name);
		CHECK_STR(name, "momentum");
		CHECK(!wasd_optim_state(o, 1, &name));
		for (int k = 0; k < N; k++) {
			CHECK_NEAR(r[k], w[k], tol() * 4);
			CHECK_NEAR(m[k], v[k], tol() * 8);
		}
		CHECK_INT(wasd_optim_steps(o), 3);
		wasd_optim_destroy(o);
	}
}

/* Golden values of torch.optim.Adam (lr 0.01, betas 0.9 and 0.99, weight_decay 0.1), computed from its formula in
 * double. */
static void adam(void)
{
	double lr = 0.01, wd = 0.1, b1 = 0.9, b2 = 0.99, eps = 1e-8, w[N], m[N] = {0}, v[N] = {0};
	struct wasd_optim *o = make("{\"type\":\"adam\",\"lr\":0.01,\"beta2\":0.99,\"weight_decay\":0.1}", N);
	real r[N];
	const char *name;
	for (int k = 0; k < N; k++)
		r[k] = (real)(w[k] = w0[k]);
	for (int t = 1; t <= 4; t++) {
		const double *g = t % 2 ? g0 : g1;
		for (int i = 0; i < N; i++) {
			double d = g[i] + wd * w[i];
			m[i] = b1 * m[i] + (1 - b1) * d;
			v[i] = b2 * v[i] + (1 - b2) * d * d;
			w[i] -= lr / (1 - pow(b1, t)) * m[i] / (sqrt(v[i]) / sqrt(1 - pow(b2, t)) + eps);
		}
		step(o, r, g, lr);
	}
	for (int i = 0; i < N; i++) {
		CHECK_NEAR(r[i], w[i], tol() * 4);
		CHECK_NEAR(wasd_optim_state(o, 0, &name)[i], m[i], tol() * 4);
		CHECK_NEAR(wasd_optim_state(o, 1, &name)[i], v[i], tol() * 4);
	}
	wasd_optim_destroy(o);
}

static void adamw(void)
{
	double lr = 0.01, wd = 0.1, b1 = 0.9, b2 = 0.99, eps = 1e-8, w[N], m[N] = {0}, v[N] = {0};
	struct wasd_optim *o = make("{\"type\":\"adamw\",\"lr\":0.01,\"beta2\":0.99,\"weight_decay\":0.1}", N);
	real r[N];
	for (int k = 0; k < N; k++)
		r[k] = (real)(w[k] = w0[k]);
	for (int t = 1; t <= 4; t++) {
		const double *g = t % 2 ? g0 : g1;
		for (int i = 0; i < N; i++) {
			w[i] *= 1 - lr * wd;
			m[i] = b1 * m[i] + (1 - b1) * g[i];
			v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
			w[i] -= lr / (1 - pow(b1, t)) * m[i] / (sqrt(v[i]) / sqrt(1 - pow(b2, t)) + eps);
		}
		step(o, r, g, lr);
	}
	CHECK_NEAR(wasd_optim_lr(o), lr, 0);
	const char *name;
	real *sm = wasd_optim_state(o, 0, &name);
	CHECK_STR(name, "m");
	real *sv = wasd_optim_state(o, 1, &name);
	CHECK_STR(name, "v");
	CHECK(!wasd_optim_state(o, 2, &name));
	for (int i = 0; i < N; i++) {
		CHECK_NEAR(r[i], w[i], tol() * 4);
		CHECK_NEAR(sm[i], m[i], tol() * 4);
		CHECK_NEAR(sv[i], v[i], tol() * 4);
	}

	/* Resuming: the same state blocks and step count continue to the same bits. */
	struct wasd_optim *again = make("{\"type\":\"adamw\",\"lr\":0.01,\"beta2\":0.99,\"weight_decay\":0.1}", N);
	real copy[N];
	memcpy(copy, r, sizeof r);
	for (int i = 0; i < 2; i++)
		memcpy(wasd_optim_state(again, i, NULL), wasd_optim_state(o, i, NULL), sizeof r);
	wasd_optim_set_steps(again, wasd_optim_steps(o));
	step(o, r, g1, lr);
	step(again, copy, g1, lr);
	CHECK(!memcmp(copy, r, sizeof r));
	wasd_optim_destroy(o);
	wasd_optim_destroy(again);
}

/* Every block of a large vector is stepped exactly once, however the team divides it. */
static void large(void)
{
	enum { M = 3 * 4096 + 77 };
	struct wasd_optim *o = make("{\"type\":\"sgd\",\"momentum\":0.5}", M);
	real *w = wasd_calloc(M, sizeof *w), *g = wasd_calloc(M, sizeof *g);
	for (int i = 0; i < M; i++)
		g[i] = (real)(i % 7);
	struct wasd_mem_stats before = wasd_mem_stats();
	wasd_optim_step(o, w, g, 1);
	wasd_optim_step(o, w, g, 1);
	CHECK_INT(wasd_mem_stats().allocs, before.allocs);
	for (int i = 0; i < M; i++)
		CHECK_MSG(w[i] == (real)(-2.5 * (i % 7)), "element %d", i);
	wasd_optim_destroy(o);
	wasd_free(w);
	wasd_free(g);
	wasd_optim_destroy(NULL);
}

static double lr_at(const char *text, double base, uint64_t step_no, uint64_t per_epoch, int epochs)
{
	struct wasd_schedule s;
	struct wasd_err err = {0};
	cJSON *j = text ? cJSON_Parse(text) : NULL;
	enum wasd_status st = wasd_schedule_init(&s, j, &err);
	CHECK_MSG(st == WASD_OK, "%s: %s", text, err.msg);
	cJSON_Delete(j);
	return st == WASD_OK ? wasd_schedule_lr(&s, base, step_no, per_epoch, epochs) : NAN;
}

static void schedules(void)
{
	static const struct {
		const char *spec;
		uint64_t step;
		double want;
		const char *why;
	} c[] = {
		{NULL, 999, 0.1, "no object: constant"},
		{"{\"type\":\"constant\",\"warmup_epochs\":2}", 0, 0.1 / 20, "warm-up never starts at 0"},
		{"{\"type\":\"constant\",\"warmup_epochs\":2}", 9, 0.05, "half of 20 steps"},
		{"{\"type\":\"constant\",\"warmup_epochs\":2}", 19, 0.1, "the last warm-up step has the full rate"},
		{"{\"type\":\"constant\",\"warmup_epochs\":0.5}", 2, 0.1 * 3 / 5, "half an epoch of warm-up"},
		{"{\"type\":\"step\",\"every\":3,\"gamma\":0.1}", 29, 0.1, "epochs 0 to 2"},
		{"{\"type\":\"step\",\"every\":3,\"gamma\":0.1}", 30, 0.01, "epoch 3"},
		{"{\"type\":\"step\",\"every\":3,\"gamma\":0.1}", 95, 0.0001, "epoch 9"},
		{"{\"type\":\"cosine\"}", 0, 0.1, "starts at the base rate"},
		{"{\"type\":\"cosine\"}", 50, 0.05, "half way"},
		{"{\"type\":\"cosine\",\"min_factor\":0.2}", 100, 0.02, "ends at the floor"},
		{"{\"type\":\"cosine\",\"warmup_epochs\":2}", 20, 0.1, "begins where warm-up ends"},
		{"{\"type\":\"cosine\",\"warmup_epochs\":2}", 60, 0.05, "half of the rest"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		double got = lr_at(c[i].spec, 0.1, c[i].step, 10, 10);
		CHECK_MSG(fabs(got - c[i].want) < 1e-12, "%s: %g, want %g", c[i].why, got, c[i].want);
	}
}

static void refusals(void)
{
	static const struct {
		const char *spec, *pointer;
		bool schedule;
	} c[] = {
		{"{\"type\":\"lion\"}", "/train/optimizer/type", false},
		{"{\"type\":7}", "/train/optimizer/type", false},
		{"[]", "/train/optimizer", false},
		{"{\"type\":\"sgd\",\"beta1\":0.9}", "/train/optimizer/beta1", false},
		{"{\"type\":\"sgd\",\"lr\":0}", "/train/optimizer/lr", false},
		{"{\"type\":\"sgd\",\"lr\":-1}", "/train/optimizer/lr", false},
		{"{\"type\":\"sgd\",\"lr\":\"0.1\"}", "/train/optimizer/lr", false},
		{"{\"type\":\"sgd\",\"momentum\":1}", "/train/optimizer/momentum", false},
		{"{\"type\":\"sgd\",\"nesterov\":1}", "/train/optimizer/nesterov", false},
		{"{\"type\":\"sgd\",\"weight_decay\":-0.1}", "/train/optimizer/weight_decay", false},
		{"{\"type\":\"adamw\",\"eps\":0}", "/train/optimizer/eps", false},
		{"{\"type\":\"adamw\",\"momentum\":0.9}", "/train/optimizer/momentum", false},
		{"{\"type\":\"sgd\",\"a/b~c\":1}", "/train/optimizer/a~1b~0c", false},
		{"{\"type\":\"linear\"}", "/train/schedule/type", true},
		{"{\"type\":\"step\",\"every\":0}", "/train/schedule/every", true},
		{"{\"type\":\"step\",\"min_factor\":0}", "/train/schedule/min_factor", true},
		{"{\"type\":\"cosine\",\"min_factor\":1.5}", "/train/schedule/min_factor", true},
		{"{\"type\":\"constant\",\"warmup_epochs\":-1}", "/train/schedule/warmup_epochs", true},
		{"3", "/train/schedule", true},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct wasd_err err = {0};
		struct wasd_optim *o = NULL;
		struct wasd_schedule s;
		cJSON *j = cJSON_Parse(c[i].spec);
		enum wasd_status st = c[i].schedule ? wasd_schedule_init(&s, j, &err) : wasd_optim_create(j, 4, &o, &err);
		CHECK_MSG(st == WASD_EINVAL, "%s was taken", c[i].spec);
		CHECK_MSG(!strcmp(err.pointer, c[i].pointer), "%s: pointer \"%s\", want \"%s\" (%s)", c[i].spec, err.pointer,
		          c[i].pointer, err.msg);
		CHECK(!o);
		cJSON_Delete(j);
	}
}

/* Printed objects are read back as the same objects. */
static void to_json(void)
{
	static const char *const spec[] = {NULL, "{\"type\":\"adamw\",\"lr\":0.5}", "{\"type\":\"sgd\",\"nesterov\":true}"};
	for (int i = 0; i < 3; i++) {
		cJSON *j = spec[i] ? cJSON_Parse(spec[i]) : NULL, *first, *second;
		struct wasd_optim *o = NULL, *p = NULL;
		CHECK_INT(wasd_optim_create(j, 1, &o, NULL), WASD_OK);
		first = wasd_optim_to_json(o);
		CHECK_INT(wasd_optim_create(first, 1, &p, NULL), WASD_OK);
		second = wasd_optim_to_json(p);
		CHECK(first && cJSON_Compare(first, second, true));
		cJSON_Delete(j);
		cJSON_Delete(first);
		cJSON_Delete(second);
		wasd_optim_destroy(o);
		wasd_optim_destroy(p);
	}
	struct wasd_schedule s;
	cJSON *j = cJSON_Parse("{\"type\":\"cosine\",\"warmup_epochs\":3}");
	CHECK_INT(wasd_schedule_init(&s, j, NULL), WASD_OK);
	cJSON *out = wasd_schedule_to_json(&s);
	CHECK(out && wasd_json_get(out, "min_factor") && wasd_json_get(out, "warmup_epochs")->valuedouble == 3);
	cJSON_Delete(j);
	cJSON_Delete(out);
}

/* Every allocation fails once: a status, no leak (the sanitizer build checks this), no object. */
static void out_of_memory(void)
{
	for (uint64_t nth = 1; nth < 20; nth++) {
		struct wasd_optim *o = NULL;
		wasd_mem_fail_at(nth);
		enum wasd_status s = wasd_optim_create(NULL, 10, &o, NULL);
		wasd_mem_fail_at(0);
		if (s == WASD_OK) {
			wasd_optim_destroy(o);
			CHECK(nth > 1);
			return;
		}
		CHECK_INT(s, WASD_ENOMEM);
		CHECK(!o);
	}
	CHECK_MSG(false, "it never succeeded");
}

/* ---- every row -------------------------------------------------------------------------------------- */

/* The row with its defaults, but without weight decay if it has such an option and `plain` is set. */
static struct wasd_optim *row_of(const struct wasd_optim_kind *k, bool plain, size_t n)
{
	struct wasd_optim *o = NULL;
	cJSON *j = cJSON_CreateObject();
	struct wasd_err err = {0};
	cJSON_AddStringToObject(j, "type", k->name);
	CHECK_MSG(!wasd_optim_create(j, 1, &o, &err), "%s: %s", k->name, err.msg);
	cJSON *whole = wasd_optim_to_json(o);
	wasd_optim_destroy(o);
	o = NULL;
	if (plain && wasd_json_get(whole, "weight_decay"))
		cJSON_ReplaceItemInObject(whole, "weight_decay", cJSON_CreateNumber(0));
	CHECK_MSG(!wasd_optim_create(whole, n, &o, &err), "%s: %s", k->name, err.msg);
	cJSON *again = wasd_optim_to_json(o);
	CHECK_MSG(cJSON_Compare(whole, again, true), "%s: written out it is read as something else", k->name);
	CHECK_MSG(!strcmp(whole->child->next->string, "lr") == !k->search, "%s: %s", k->name, whole->child->next->string);
	cJSON_Delete(j);
	cJSON_Delete(whole);
	cJSON_Delete(again);
	return o;
}

/* More than one block of the team's work, plus part of one. */
enum { MANY = 2 * 4096 + 5, STEPS = 9, CUT = 4 };

static void noise(real *v, uint64_t seed)
{
	struct wasd_rng r;
	wasd_rng_init(&r, seed, "optim", 0, 0);
	for (int i = 0; i < MANY; i++)
		v[i] = i % 9 ? (real)wasd_rng_between(&r, -2, 2) : 0;
}

/* Steps from..to of a run whose gradients depend only on the step. */
static void go(struct wasd_optim *o, real *w, int from, int to)
{
	real *g = wasd_calloc(MANY, sizeof *g);
	for (int t = from; t < to; t++) {
		noise(g, (uint64_t)t + 1);
		wasd_optim_step(o, w, g, 0.01 / (1 + t));
	}
	wasd_free(g);
}

/* A row remembers nothing but states and steps: a cut run resumes to the same bits, also on another team. */
static void resumes(const struct wasd_optim_kind *k)
{
	real *w = wasd_calloc(MANY, sizeof *w), *v = wasd_calloc(MANY, sizeof *v);
	struct wasd_optim *whole = row_of(k, false, MANY), *first = row_of(k, false, MANY),
					  *second = row_of(k, false, MANY);
	const char *name = NULL, *other = NULL;
	noise(w, 0);
	memcpy(v, w, MANY * sizeof *w);
	CHECK(!wasd_threads_init(1, NULL));
	go(whole, w, 0, STEPS);
	CHECK(!wasd_threads_init(3, NULL));
	go(first, v, 0, CUT);
	real *from;
	for (int i = 0; (from = wasd_optim_state(first, i, &name)); i++) {
		real *to = wasd_optim_state(second, i, &other);
		CHECK_STR(name, other);
		memcpy(to, from, MANY * sizeof *to);
	}
	wasd_optim_set_steps(second, wasd_optim_steps(first));
	go(second, v, CUT, STEPS);
	CHECK_MSG(!memcmp(w, v, MANY * sizeof *w), "%s: resumed to other weights", k->name);
	for (int i = 0; (from = wasd_optim_state(whole, i, &name)); i++)
		CHECK_MSG(!memcmp(from, wasd_optim_state(second, i, NULL), MANY * sizeof *from), "%s: resumed to another %s",
		          k->name, name);
	CHECK_INT(wasd_optim_steps(second), STEPS);
	wasd_threads_done();
	wasd_optim_destroy(whole);
	wasd_optim_destroy(first);
	wasd_optim_destroy(second);
	wasd_free(w);
	wasd_free(v);
}

/* Without gradient and decay the weights stay unchanged, and also at rate 0. */
static void leaves_alone(const struct wasd_optim_kind *k)
{
	real *w = wasd_calloc(MANY, sizeof *w), *v = wasd_calloc(MANY, sizeof *v), *g = wasd_calloc(MANY, sizeof *g);
	noise(w, 0);
	memcpy(v, w, MANY * sizeof *w);
	struct wasd_optim *o = row_of(k, true, MANY);
	for (int t = 0; t < 3; t++)
		wasd_optim_step(o, w, g, 0.1);
	CHECK_MSG(!memcmp(w, v, MANY * sizeof *w), "%s: moves without a gradient", k->name);
	wasd_optim_destroy(o);
	o = row_of(k, false, MANY);
	noise(g, 1);
	for (int t = 0; t < 3; t++)
		wasd_optim_step(o, w, g, 0);
	CHECK_MSG(!memcmp(w, v, MANY * sizeof *w), "%s: moves at rate 0", k->name);
	wasd_optim_destroy(o);
	wasd_free(w);
	wasd_free(v);
	wasd_free(g);
}

/* Descends a bowl, the sum of w^2 / 2, and stays finite. */
static void descends(const struct wasd_optim_kind *k)
{
	real *w = wasd_calloc(MANY, sizeof *w), *g = wasd_calloc(MANY, sizeof *g);
	struct wasd_optim *o = row_of(k, true, MANY);
	double before = 0, after = 0;
	noise(w, 0);
	for (int t = 0; t < 300; t++) {
		for (int i = 0; i < MANY; i++) {
			g[i] = w[i];
			before += t ? 0 : (double)w[i] * (double)w[i];
		}
		wasd_optim_step(o, w, g, 0.01);
	}
	for (int i = 0; i < MANY; i++)
		after += (double)w[i] * (double)w[i];
	CHECK_MSG(after < 0.05 * before, "%s: from %g to %g", k->name, before, after);
	wasd_optim_destroy(o);
	wasd_free(w);
	wasd_free(g);
}

/* A row that searches has no state, no rate and no step of its own, and all functions of a search. What a step does:
 * tests/core/rso.c. */
static void searches(const struct wasd_optim_kind *k)
{
	const struct wasd_search *s = k->search;
	struct wasd_optim *o = row_of(k, false, MANY);
	CHECK_MSG(!wasd_optim_state(o, 0, NULL) && wasd_optim_lr(o) == 0 && !wasd_field_find(k->options, "lr") && !k->step,
	          "%s", k->name);
	CHECK_MSG(s->create && s->destroy && s->steps && s->passes && s->bytes && s->begin && s->step && s->changed, "%s",
	          k->name);
	CHECK(wasd_optim_kind_of(o) == k && !wasd_optim_spares(o));
	s->destroy(NULL);
	wasd_optim_destroy(o);
}

static void every_optimizer(void)
{
	const struct wasd_optim_kind *k;
	for (int i = 0; (k = wasd_optim_kind_at(i)); i++) {
		if (k->search) {
			searches(k);
			continue;
		}
		resumes(k);
		leaves_alone(k);
		descends(k);
	}
	CHECK(!wasd_optim_kind_at(-1));
}

/* Every row: at most the base rate, never negative or NaN, warm-up from above 0, a pure function of the step, and read
 * back as printed. */
static void every_schedule(void)
{
	const struct wasd_schedule_kind *k;
	for (int i = 0; (k = wasd_schedule_kind_at(i)); i++)
		for (int warm = 0; warm < 3; warm++) {
			struct wasd_schedule s, t;
			cJSON *j = cJSON_CreateObject();
			cJSON_AddStringToObject(j, "type", k->name);
			cJSON_AddNumberToObject(j, "warmup_epochs", warm * 1.25);
			CHECK(!wasd_schedule_init(&s, j, NULL));
			cJSON *whole = wasd_schedule_to_json(&s);
			CHECK_MSG(!wasd_schedule_init(&t, whole, NULL), "%s", k->name);
			cJSON *again = wasd_schedule_to_json(&t);
			CHECK_MSG(cJSON_Compare(whole, again, true), "%s", k->name);
			for (uint64_t step = 0; step < 200; step++) { /* beyond the 12 epochs of 7 steps too */
				double lr = wasd_schedule_lr(&s, 0.5, step, 7, 12);
				CHECK_MSG(lr >= 0 && lr <= 0.5 && (step || lr > 0), "%s: %g at step %d", k->name, lr, (int)step);
				CHECK(lr == wasd_schedule_lr(&t, 0.5, step, 7, 12) && 2 * lr == wasd_schedule_lr(&s, 1, step, 7, 12));
			}
			CHECK_NEAR(wasd_schedule_lr(&s, 0.5, (uint64_t)ceil(warm * 1.25 * 7), 7, 12), 0.5, 1e-12);
			cJSON_Delete(j);
			cJSON_Delete(whole);
			cJSON_Delete(again);
		}
	CHECK(!wasd_schedule_kind_at(-1));
}

/* With "decay": "weights", the ranges that are spared move as without weight decay, all others as with it. */
static void decay_of_weights_only(void)
{
	static const size_t spared[][2] = {{0, 7}, {4000, 4200}, {4200, 4201}, {8190, MANY}};
	static const char *const members[] = {"", ",\"decay\":\"all\"", ",\"decay\":\"weights\""};
	static real w[3][MANY], g[MANY];
	const struct wasd_optim_kind *k;
	for (int row = 0; (k = wasd_optim_kind_at(row)); row++) {
		if (!wasd_field_find(k->options, "weight_decay") || k->search) /* of a search: tests/core/rso.c */
			continue;
		for (int i = 0; i < 3; i++) {
			char text[160];
			struct wasd_optim *o = NULL;
			struct wasd_err err = {0};
			snprintf(text, sizeof text, "{\"type\":\"%s\",\"weight_decay\":%g%s}", k->name, i ? 0.1 : 0, members[i]);
			cJSON *j = cJSON_Parse(text);
			CHECK_MSG(!wasd_optim_create(j, MANY, &o, &err), "%s: %s", text, err.msg);
			CHECK(wasd_optim_spares(o) == (i == 2));
			for (int r = 0; i == 2 && r < 4; r++)
				CHECK(!wasd_optim_spare(o, spared[r][0], spared[r][1], NULL));
			noise(w[i], 1);
			for (int step = 0; step < STEPS; step++) {
				noise(g, (uint64_t)step + 2);
				wasd_optim_step(o, w[i], g, 0.01);
			}
			cJSON *said = wasd_optim_to_json(o);
			CHECK(!wasd_json_get(said, "decay") == (i < 2));
			cJSON_Delete(said);
			cJSON_Delete(j);
			wasd_optim_destroy(o);
		}
		size_t wrong = 0, range = 0;
		for (size_t i = 0; i < MANY; i++) {
			while (range < 4 && i >= spared[range][1])
				range++;
			wrong += w[2][i] != w[range < 4 && i >= spared[range][0] ? 0 : 1][i];
		}
		CHECK_MSG(!wrong && memcmp(w[0], w[1], sizeof g), "%s: %zu of %d weights differ", k->name, wrong, (int)MANY);
	}
}

int main(void)
{
	TEST_RUN(every_optimizer);
	TEST_RUN(every_schedule);
	TEST_RUN(sgd);
	TEST_RUN(adamw);
	TEST_RUN(adam);
	TEST_RUN(large);
	TEST_RUN(schedules);
	TEST_RUN(refusals);
	TEST_RUN(to_json);
	TEST_RUN(out_of_memory);
	TEST_RUN(decay_of_weights_only);
	TEST_END();
}
