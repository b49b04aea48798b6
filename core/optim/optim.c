/* core/optim/optim.c - the optimizers by name, their state blocks, and the threaded pass over the parameter block.
 * Every element is updated independently, so the result does not depend on the number of threads. */
#include <limits.h>

#include "optim/kinds.h"

#define BLOCK 4096 /* elements per work unit */

static const struct wasd_optim_kind *const table[] = {&optim_sgd, &optim_adamw, &optim_adam};
#define ROWS ((int)(sizeof table / sizeof *table))

struct wasd_optim {
	const struct wasd_optim_kind *kind;
	double opt[WASD_OPTIM_OPTIONS];
	size_t n;
	uint64_t t; /* steps done */
	real *state[WASD_OPTIM_STATES];
};

const struct wasd_optim_kind *wasd_optim_kind_at(int i)
{
	if (i < ROWS)
		return i >= 0 ? table[i] : NULL;
	for (int k = 0; wasd_optim_more && wasd_optim_more[k]; k++)
		if (k == i - ROWS)
			return wasd_optim_more[k];
	return NULL;
}

static const char *name_at(int i)
{
	const struct wasd_optim_kind *k = wasd_optim_kind_at(i);
	return k ? k->name : NULL;
}

enum wasd_status wasd_optim_create(const cJSON *spec, size_t n, struct wasd_optim **out, struct wasd_err *err)
{
	int row;
	enum wasd_status s = optim_read_type(spec, "/train/optimizer", name_at, &row, err);
	if (s != WASD_OK)
		return s;
	if (n / BLOCK >= INT_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%zu parameters are too many for an optimizer", n);
	struct wasd_optim *o = wasd_calloc(1, sizeof *o);
	if (!o)
		return wasd_fail(err, WASD_ENOMEM, "optimizer");
	o->kind = wasd_optim_kind_at(row);
	o->n = n;
	s = optim_read_options(spec, "/train/optimizer", o->kind->options, NULL, o->opt, err);
	for (int i = 0; s == WASD_OK && o->kind->states[i]; i++)
		if (!(o->state[i] = wasd_alloc_aligned(n ? n : 1, sizeof(real))))
			s = wasd_fail(err, WASD_ENOMEM, "no memory for optimizer state \"%s\" of %zu values", o->kind->states[i],
			              n);
	if (s != WASD_OK) {
		wasd_optim_destroy(o);
		return s;
	}
	*out = o;
	return WASD_OK;
}

void wasd_optim_destroy(struct wasd_optim *o)
{
	if (!o)
		return;
	for (int i = 0; i < WASD_OPTIM_STATES; i++)
		wasd_free(o->state[i]);
	wasd_free(o);
}

struct pass {
	struct wasd_optim *o;
	struct wasd_optim_args args;
	real *w;
	const real *g;
};

static void step_blocks(void *ctx, int begin, int end, int thread)
{
	struct pass *p = ctx;
	(void)thread;
	size_t from = (size_t)begin * BLOCK, to = (size_t)end * BLOCK;
	if (to > p->o->n)
		to = p->o->n;
	real *s[WASD_OPTIM_STATES] = {NULL};
	for (int i = 0; p->o->kind->states[i]; i++)
		s[i] = p->o->state[i] + from;
	p->o->kind->step(&p->args, to - from, p->w + from, p->g + from, s);
}

void wasd_optim_step(struct wasd_optim *o, real *master, const real *grad, double lr)
{
	struct pass p = {o, {o->opt, lr, ++o->t}, master, grad};
	wasd_parallel((int)((o->n + BLOCK - 1) / BLOCK), step_blocks, &p);
}

double wasd_optim_lr(const struct wasd_optim *o)
{
	return o->opt[0];
}

real *wasd_optim_state(struct wasd_optim *o, int i, const char **name)
{
	if (i < 0 || i >= WASD_OPTIM_STATES || !o->kind->states[i])
		return NULL;
	if (name)
		*name = o->kind->states[i];
	return o->state[i];
}

uint64_t wasd_optim_steps(const struct wasd_optim *o)
{
	return o->t;
}
void wasd_optim_set_steps(struct wasd_optim *o, uint64_t t)
{
	o->t = t;
}

cJSON *wasd_optim_to_json(const struct wasd_optim *o)
{
	return optim_options_to_json(o->kind->name, o->kind->options, o->opt);
}
