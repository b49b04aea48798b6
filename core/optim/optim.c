/* core/optim/optim.c - the optimizers by name, their state blocks, and the threaded pass over the parameter block.
 * Every element is updated independently, so the result does not depend on the number of threads. */
#include <assert.h>
#include <limits.h>
#include <string.h>

#include "base/fields.h"
#include "optim/kinds.h"

#define BLOCK 4096 /* elements per work unit */

static const struct wasd_optim_kind *const table[] = {&optim_sgd, &optim_adamw, &optim_adam, &optim_rso};
#define ROWS ((int)(sizeof table / sizeof *table))

struct wasd_optim {
	const struct wasd_optim_kind *kind;
	double opt[WASD_OPTIM_OPTIONS];
	size_t n;
	uint64_t t; /* steps done */
	real *state[WASD_OPTIM_STATES];
	bool spares;                           /* "decay": "weights" */
	double spared_opt[WASD_OPTIM_OPTIONS]; /* opt without weight decay */
	struct spared {
		size_t from, to;
		bool left; /* not touched at all */
	} * spared;    /* in rising order */
	int n_spared, room;
	size_t most; /* of n */
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

static enum wasd_status read_decay(struct wasd_optim *o, const cJSON *spec, struct wasd_err *err)
{
	static const char at[] = "/train/optimizer/decay";
	int choice;
	enum wasd_status s = fields_choice(spec ? wasd_json_get(spec, "decay") : NULL, at, wasd_spec_at(at), &choice, err);
	o->spares = choice == 1;
	memcpy(o->spared_opt, o->opt, sizeof o->opt);
	for (int i = 0; o->kind->options[i].name; i++)
		if (!strcmp(o->kind->options[i].name, "weight_decay"))
			o->spared_opt[i] = 0;
	return s;
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
	o->n = o->most = n;
	s = optim_read_options(spec, "/train/optimizer", o->kind->options, wasd_spec_at("/train/optimizer")->sub, o->opt,
	                       err);
	if (s == WASD_OK)
		s = read_decay(o, spec, err);
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
	wasd_free(o->spared);
	wasd_free(o);
}

bool wasd_optim_spares(const struct wasd_optim *o)
{
	return o->spares;
}

static enum wasd_status except(struct wasd_optim *o, struct spared what, struct wasd_err *err)
{
	assert(what.from <= what.to && what.to <= o->most && (!o->n_spared || o->spared[o->n_spared - 1].to <= what.from));
	if (o->n_spared == o->room) {
		int room = o->room ? 2 * o->room : 64;
		struct spared *more = wasd_realloc(o->spared, (size_t)room * sizeof *more);
		if (!more)
			return wasd_fail(err, WASD_ENOMEM, "optimizer");
		o->spared = more;
		o->room = room;
	}
	o->spared[o->n_spared++] = what;
	return WASD_OK;
}

enum wasd_status wasd_optim_spare(struct wasd_optim *o, size_t from, size_t to, struct wasd_err *err)
{
	return except(o, (struct spared){from, to, false}, err);
}

enum wasd_status wasd_optim_leave(struct wasd_optim *o, size_t from, size_t to, struct wasd_err *err)
{
	return except(o, (struct spared){from, to, true}, err);
}

void wasd_optim_resize(struct wasd_optim *o, size_t n)
{
	assert(n <= o->most);
	o->n = n;
}

struct pass {
	struct wasd_optim *o;
	struct wasd_optim_args args;
	real *w;
	const real *g;
};

static void step_range(const struct pass *p, const double *opt, size_t from, size_t to)
{
	struct wasd_optim_args args = p->args;
	real *s[WASD_OPTIM_STATES] = {NULL};
	args.opt = opt;
	for (int i = 0; p->o->kind->states[i]; i++)
		s[i] = p->o->state[i] + from;
	if (from < to)
		p->o->kind->step(&args, to - from, p->w + from, p->g + from, s);
}

static void step_blocks(void *ctx, int begin, int end, int thread)
{
	const struct pass *p = ctx;
	const struct wasd_optim *o = p->o;
	(void)thread;
	size_t from = (size_t)begin * BLOCK, to = (size_t)end * BLOCK;
	to = to < o->n ? to : o->n;
	for (int i = 0; i < o->n_spared && from < to; i++) {
		size_t first = o->spared[i].from < to ? o->spared[i].from : to,
			   last = o->spared[i].to < to ? o->spared[i].to : to;
		if (last <= from)
			continue;
		first = first > from ? first : from;
		step_range(p, o->opt, from, first);
		if (!o->spared[i].left)
			step_range(p, o->spared_opt, first, last);
		from = last;
	}
	step_range(p, o->opt, from, to);
}

void wasd_optim_step(struct wasd_optim *o, real *master, const real *grad, double lr)
{
	struct pass p = {o, {o->opt, lr, ++o->t}, master, grad};
	wasd_parallel((int)((o->n + BLOCK - 1) / BLOCK), step_blocks, &p);
}

double wasd_optim_lr(const struct wasd_optim *o)
{
	return o->kind->search ? 0 : o->opt[0];
}

const struct wasd_optim_kind *wasd_optim_kind_of(const struct wasd_optim *o)
{
	return o->kind;
}

const double *wasd_optim_options(const struct wasd_optim *o)
{
	return o->opt;
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
	cJSON *j = optim_options_to_json(o->kind->name, o->kind->options, o->opt);
	if (!j || !o->spares || cJSON_AddStringToObject(j, "decay", "weights"))
		return j;
	cJSON_Delete(j);
	return NULL;
}
