/* weights/compander.c - every weight through one nonlinear function, W = a f(V / b), after Weight Compander
 * (arXiv 2306.16993), of which only the abstract was read: the function and its defaults are our reading.
 * web/docs/strategies.md. a and b belong to a layer and are learned with the weights. */
#include "weights/compander.h"
#include "weights/layers.h"

#include "base/fields.h"
#include "weights/strategy.h"

#include <math.h>
#include <string.h>

#define LEAST 1e-3 /* of a and b */
enum { PIECE = 1 << 14 };

enum { FUNCTION, A, B, UNIT, LEARN, INIT };
enum unit { ONE, STD };
enum init { INVERSE, DIRECT };

struct compander {
	const struct compander_function *f;
	bool learn;
	enum init init;
	double a, b;
	const struct weight_param *param;
	int n_params;
	real *ab, *grad;   /* per parameter a, b; and their gradients */
	double (*sums)[2]; /* per piece of the parameter in progress */
};

static void destroy(void *self)
{
	struct compander *c = self;
	wasd_free(c->ab);
	wasd_free(c->grad);
	wasd_free(c->sums);
	wasd_free(c);
}

/* The bound of the uniform law that the weights start from (graph/model.c). */
static double bound_of(const struct wasd_param_info *p)
{
	double fan_in = 1;
	for (int d = 1; d < p->ndims; d++)
		fan_in *= p->dims[d];
	return 1 / sqrt(fan_in);
}

/* With the inverse as the start, every first weight must be one that the function reaches. */
static enum wasd_status set_start(struct compander *c, const struct weight_setup *s, struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	fields_pointer(ptr, s->at, "a");
	for (int i = 0; i < c->n_params; i++) {
		bool std = (int)s->option[UNIT] == STD;
		double bound = bound_of(&c->param[i].info), unit = std ? bound / sqrt(3) : 1, a = c->a * (std ? 2 : 1) * unit;
		c->ab[2 * i] = (real)a;
		c->ab[2 * i + 1] = (real)(c->b * unit);
		if (c->init == INVERSE && bound >= 0.99 * a * c->f->limit)
			return wasd_fail_at(err, WASD_EINVAL, ptr,
			                    "%s: weights of %s start up to %.3g, W stays below %.3g there: take a larger a, or "
			                    "\"init\": \"direct\"",
			                    ptr, c->param[i].info.name, bound, a * c->f->limit);
	}
	return WASD_OK;
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct compander *c = *self = wasd_calloc(1, sizeof *c);
	size_t n = (size_t)setup->n_params, most = 0;
	if (!c)
		return wasd_fail(err, WASD_ENOMEM, "compander");
	*c = (struct compander){.f = &compander_functions[(int)setup->option[FUNCTION]],
	                        .learn = setup->option[LEARN] != 0,
	                        .init = (enum init)setup->option[INIT],
	                        .a = setup->option[A],
	                        .b = setup->option[B],
	                        .param = setup->param,
	                        .n_params = setup->n_params};
	for (int i = 0; i < setup->n_params; i++)
		most = setup->param[i].info.count > most ? setup->param[i].info.count : most;
	c->ab = wasd_calloc(2 * n + 1, sizeof *c->ab);
	c->grad = wasd_calloc(2 * n + 1, sizeof *c->grad);
	c->sums = wasd_calloc(most / PIECE + 1, sizeof *c->sums);
	return c->ab && c->grad && c->sums ? set_start(c, setup, err) : wasd_fail(err, WASD_ENOMEM, "compander");
}

static bool state(void *self, int i, struct weight_state *out)
{
	struct compander *c = self;
	*out = (struct weight_state){.name = "a_b", .ndims = 2, .dims = {(size_t)c->n_params, 2}, .values = c->ab};
	return !i;
}

static enum wasd_status resumed(void *self, const real *master, struct wasd_err *err)
{
	const struct compander *c = self;
	(void)master;
	for (int i = 0; i < 2 * c->n_params; i++)
		if (!(c->ab[i] > 0))
			return wasd_fail(err, WASD_ECORRUPT, "checkpoint: weights.compander.a_b: %g is not above 0",
			                 (double)c->ab[i]);
	return WASD_OK;
}

static bool learned(void *self, int i, struct weight_learned *out)
{
	struct compander *c = self;
	*out = (struct weight_learned){.ndims = 1, .dims = {2 * (size_t)c->n_params}, .values = c->ab, .grad = c->grad};
	return c->learn && !i;
}

/* ---- the link ------------------------------------------------------------------------------------------- */

struct pass {
	struct compander *c;
	const struct weight_param *p;
	const real *v;
	real *w; /* of the link; in the way back the gradient */
};

static size_t piece_end(const struct pass *k, size_t i)
{
	return (i + 1) * PIECE < k->p->info.count ? (i + 1) * PIECE : k->p->info.count;
}

static void forward(void *ctx, int begin, int end, int thread)
{
	const struct pass *k = ctx;
	const real *ab = k->c->ab + 2 * k->p->index;
	(void)thread;
	for (size_t i = (size_t)begin; i < (size_t)end; i++)
		compander_link(k->c->f, ab[0], ab[1], piece_end(k, i) - i * PIECE, k->v + i * PIECE, k->w + i * PIECE);
}

static void backward(void *ctx, int begin, int end, int thread)
{
	const struct pass *k = ctx;
	const real *ab = k->c->ab + 2 * k->p->index;
	(void)thread;
	for (size_t i = (size_t)begin; i < (size_t)end; i++)
		compander_back(k->c->f, ab[0], ab[1], piece_end(k, i) - i * PIECE, k->v + i * PIECE, k->w + i * PIECE,
		               k->c->sums[i]);
}

static int pieces(const struct weight_param *p)
{
	return (int)((p->info.count + PIECE - 1) / PIECE);
}

static void link(void *self, const struct weight_param *p, const real *v, real *w)
{
	wasd_parallel(pieces(p), forward, &(struct pass){self, p, v, w});
}

static void link_back(void *self, const struct weight_param *p, const real *v, real *g)
{
	struct compander *c = self;
	double da = 0, db = 0;
	wasd_parallel(pieces(p), backward, &(struct pass){self, p, v, g});
	for (int i = 0; i < pieces(p); i++) {
		da += c->sums[i][0];
		db += c->sums[i][1];
	}
	c->grad[2 * p->index] = (real)da;
	c->grad[2 * p->index + 1] = (real)db;
}

/* ---- the run -------------------------------------------------------------------------------------------- */

/* Before the first step: the weights that the network starts with become W. */
static bool event(void *self, const struct weight_run *r)
{
	struct compander *c = self;
	size_t beyond = 0;
	if (r->step || c->init == DIRECT)
		return false;
	for (int i = 0; i < c->n_params; i++) {
		real *v = r->master + c->param[i].info.offset;
		double a = (double)c->ab[2 * i], b = (double)c->ab[2 * i + 1], most = 0.99 * c->f->limit;
		for (size_t k = 0; k < c->param[i].info.count; k++) {
			double y = (double)v[k] / a;
			beyond += fabs(y) > most;
			v[k] = (real)(b * c->f->inverse(fmax(-most, fmin(most, y))));
		}
	}
	if (beyond)
		weight_say(r, "warn", "compander: %zu first weights are larger than the function allows, and were cut", beyond);
	return true;
}

static void after_step(void *self, const struct weight_run *r)
{
	struct compander *c = self;
	(void)r;
	for (int i = 0; i < 2 * c->n_params; i++)
		c->ab[i] = c->ab[i] < (real)LEAST ? (real)LEAST : c->ab[i];
}

static double mean(const struct compander *c, int which)
{
	double sum = 0;
	for (int i = 0; i < c->n_params; i++)
		sum += (double)c->ab[2 * i + which];
	return sum / c->n_params;
}

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	static const char *const names[] = {"compander_a", "compander_b"};
	(void)epoch;
	if (i > 1)
		return false;
	*name = names[i];
	*value = mean(self, i);
	return true;
}

static bool warning(const void *self, int i, const real *master, const char **code, char *text, size_t size)
{
	const struct compander *c = self;
	(void)master;
	for (int k = 0; k < c->n_params; k++) {
		if (c->ab[2 * k] >= c->ab[2 * k + 1] || i--)
			continue;
		*code = "compander_shrinks";
		wasd_line(text, size, "a/b of %s is below 1 (%.3g): small weights are made smaller, not larger",
		          c->param[k].info.name, (double)c->ab[2 * k] / (double)c->ab[2 * k + 1]);
		return true;
	}
	return false;
}

static const char *function_at(int i)
{
	return compander_functions[i].name;
}

static const char *const units[] = {"one", "std", NULL};
static const char *const inits[] = {"inverse", "direct", NULL};

static const struct wasd_field options[] = {
	[FUNCTION] = {"function", WASD_CHOICE, "\"atan\"", .choice_at = function_at, .summary = "f of W = a f(V / b)"},
	[A] = {"a", WASD_NUM, "1", 0, 1000, .above_min = true, .summary = "how large W can become, times the limit of f"},
	[B] = {"b", WASD_NUM, "1", 0, 1000, .above_min = true,
           .summary = "how large V is where the function bends; a/b is the slope at 0"},
	[UNIT] = {"unit", WASD_CHOICE, "\"one\"", .choices = units,
              .summary =
                  "1; or that of b is the standard deviation of the layer's first weights, that of a twice as much"},
	[LEARN] = {"learn", WASD_BOOL, "true", .summary = "a and b are learned with the weights"},
	[INIT] = {"init", WASD_CHOICE, "\"inverse\"", .choices = inits,
              .summary = "the network's first weights are W, or V"},
	LAYERS_OPTION,
	{0},
};

const struct weight_strategy weight_compander = {
	.name = "compander",
	.summary = "weights through a bounded function, after Weight Compander 2023 (a reading of its abstract)",
	.options = options,
	.create = create,
	.destroy = destroy,
	.state = state,
	.metric = metric,
	.warning = warning,
	.link = link,
	.link_back = link_back,
	.learned = learned,
	.event = event,
	.after_step = after_step,
	.resumed = resumed,
};
