/* weights/weightmom.c - pruning by the momentum of weights, after Johari et al. (arXiv 2208.05970), of which only the
 * abstract was read: everything below is our reading. web/docs/strategies.md.
 *
 *     score    M <- beta M + (1 - beta) |w| after every step of the optimizer up to the last event, M0 = |w0|;
 *              or of |v|, the optimizer's momentum
 *     events   in equal steps from begin to end, each with the same share of the living weights
 *     quota    of a layer by what lives in it (weightmom.h); or one ranking of all layers */
#include "weights/weightmom.h"
#include "weights/layers.h"
#include "weights/schedule.h"

#include "base/fields.h"

#include <math.h>
#include <string.h>

enum { SPARSITY, BEGIN, END, EVENTS, BETA, SCORE, PROTECT, SCOPE };
enum score { WEIGHT, VELOCITY };

struct weightmom {
	struct prune masks; /* first: prune_resumed */
	double sparsity, begin, end, beta, protect;
	int events;
	enum score score;
	enum prune_scope scope;
	char at[FIELDS_POINTER];       /* of the member "score" */
	real *moment;                  /* the weights of all layers, one after the other */
	struct weightmom_quota *quota; /* per layer */
};

/* ---- the rules ------------------------------------------------------------------------------------------ */

WASD_HOT static void follow(real beta, size_t n, real *restrict m, const real *restrict v)
{
	for (size_t i = 0; i < n; i++)
		m[i] = beta * m[i] + (1 - beta) * (v[i] < 0 ? -v[i] : v[i]);
}

void weightmom_follow(double beta, size_t n, real *m, const real *v)
{
	follow((real)beta, n, m, v);
}

double weightmom_share(double sparsity, int e, int events)
{
	return e == events ? sparsity : 1 - pow(1 - sparsity, (double)e / events);
}

static size_t room(const struct prune_layer *l)
{
	return l->living ? l->living - 1 : 0;
}

/* Gives each layer with room the whole part of its quota. Returns how many are left over. */
static size_t whole_parts(const struct prune *p, size_t n, double g, struct weightmom_quota *quota)
{
	double sum = 0;
	size_t whole = 0;
	for (int l = 0; l < p->n_layers; l++)
		sum += room(&p->layer[l]) ? pow((double)p->layer[l].living, g) : 0;
	for (int l = 0; l < p->n_layers; l++) {
		double q = room(&p->layer[l]) ? (double)n * pow((double)p->layer[l].living, g) / sum : 0;
		size_t part = (size_t)q;
		quota[l] = (struct weightmom_quota){part < room(&p->layer[l]) ? part : room(&p->layer[l]), q - floor(q)};
		whole += part;
	}
	return whole < n ? n - whole : 0;
}

/* One more for the layer with the largest remainder, each layer once. False: none has room. */
static bool one_more(const struct prune *p, struct weightmom_quota *quota)
{
	int best = -1;
	for (int l = 0; l < p->n_layers; l++)
		if (quota[l].rest >= 0 && quota[l].n < room(&p->layer[l]) && (best < 0 || quota[l].rest > quota[best].rest))
			best = l;
	if (best < 0)
		return false;
	quota[best].n++;
	quota[best].rest = -1;
	return true;
}

size_t weightmom_kill(struct prune *p, size_t n, double g, struct weightmom_quota *quota, prune_key key,
                      const void *ctx)
{
	size_t died = 0, now = 1;
	while (died < n && now) {
		size_t left = whole_parts(p, n - died, g, quota);
		while (left && one_more(p, quota))
			left--;
		now = 0;
		for (int l = 0; l < p->n_layers; l++)
			now += prune_kill(p, l, quota[l].n, key, ctx, PRUNE_TIES_LOW);
		died += now;
	}
	return died;
}

/* ---- creation ------------------------------------------------------------------------------------------- */

static void destroy(void *self)
{
	struct weightmom *m = self;
	prune_done(&m->masks);
	wasd_free(m->moment);
	wasd_free(m->quota);
	wasd_free(m);
}

static enum wasd_status read(struct weightmom *m, const struct weight_setup *s, struct wasd_err *err)
{
	const double *o = s->option;
	m->sparsity = o[SPARSITY];
	m->begin = isnan(o[BEGIN]) ? 0.2 * s->epochs : o[BEGIN];
	m->end = isnan(o[END]) ? 0.8 * s->epochs : o[END];
	m->events = (int)o[EVENTS];
	m->beta = o[BETA];
	m->score = (enum score)o[SCORE];
	m->protect = o[PROTECT];
	m->scope = (enum prune_scope)o[SCOPE];
	fields_pointer(m->at, s->at, "score");
	return prune_check_times(m->begin, m->end, s->epochs, s->at, err);
}

static enum wasd_status create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct weightmom *m = *self = wasd_calloc(1, sizeof *m);
	if (!m)
		return wasd_fail(err, WASD_ENOMEM, "weightmom");
	enum wasd_status s = read(m, setup, err);
	if (s || (s = prune_create(&m->masks, setup, err)))
		return s;
	m->moment = wasd_calloc(m->masks.n + 1, sizeof *m->moment);
	m->quota = wasd_calloc((size_t)setup->n_params + 1, sizeof *m->quota);
	if (!m->moment || !m->quota)
		return wasd_fail(err, WASD_ENOMEM, "weightmom");
	return WASD_OK;
}

static const real *momentum(const struct weight_run *r)
{
	for (const struct weight_block *b = r->optim; b->name; b++)
		if (!strcmp(b->name, "momentum"))
			return b->values;
	return NULL;
}

static enum wasd_status begin(void *self, const struct weight_run *r, struct wasd_err *err)
{
	const struct weightmom *m = self;
	return m->score == WEIGHT || momentum(r) ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, m->at, "%s: \"velocity\" needs an optimizer with momentum (sgd)", m->at);
}

static bool state(void *self, int i, struct weight_state *out)
{
	struct weightmom *m = self;
	if (prune_state(&m->masks, i, out))
		return true;
	*out = (struct weight_state){.name = "moment", .ndims = 1, .dims = {m->masks.n}, .values = m->moment};
	return i == m->masks.n_layers;
}

/* ---- the run -------------------------------------------------------------------------------------------- */

struct pass {
	const struct weightmom *m;
	double beta;
	const real *from; /* the block whose values are followed */
};

static void follow_piece(void *ctx, const struct prune_piece *at)
{
	const struct pass *p = ctx;
	const struct prune_layer *l = &p->m->masks.layer[at->layer];
	weightmom_follow(p->beta, at->to - at->from, p->m->moment + l->first + at->from,
	                 p->from + l->param->info.offset + at->from);
}

static uint64_t key(const void *ctx, int layer, size_t i)
{
	const struct weightmom *m = ctx;
	return prune_key_of((double)m->moment[m->masks.layer[layer].first + i]);
}

/* The step of event e, from 1. */
static uint64_t step_of(const struct weightmom *m, int e, uint32_t batches)
{
	double part = m->events > 1 ? (double)(e - 1) / (m->events - 1) : 1;
	return prune_step_of(m->begin + (m->end - m->begin) * part, batches);
}

/* The last event at a step; 0: none. */
static int event_at(const struct weightmom *m, const struct weight_run *r)
{
	int e = m->events;
	while (e && step_of(m, e, r->batches) != r->step)
		e--;
	return e;
}

static bool event(void *self, const struct weight_run *r)
{
	struct weightmom *m = self;
	if (!r->step)
		prune_each(&m->masks, follow_piece, &(struct pass){m, 0, r->master});
	int e = m->sparsity > 0 ? event_at(m, r) : 0;
	if (!e)
		return false;
	size_t dead = m->masks.n - m->masks.living,
		   want = (size_t)llround(weightmom_share(m->sparsity, e, m->events) * (double)m->masks.n);
	size_t n = want > dead ? want - dead : 0;
	size_t died = m->scope == PRUNE_GLOBAL ? prune_kill(&m->masks, PRUNE_ALL, n, key, m, PRUNE_TIES_LOW) :
	                                         weightmom_kill(&m->masks, n, m->protect, m->quota, key, m);
	prune_mask(&m->masks, r->master);
	for (const struct weight_block *b = r->optim; b->name; b++)
		prune_mask(&m->masks, b->values);
	weight_say(r, "info", "weightmom: event %d of %d before step %llu, %zu weights died: %zu of %zu are zero (%.2f %%)",
	           e, m->events, (unsigned long long)r->step + 1, died, dead + died, m->masks.n,
	           100 * (double)(dead + died) / (double)m->masks.n);
	return died > 0;
}

/* After the last event nothing asks for the moment. */
static void after_step(void *self, const struct weight_run *r)
{
	struct weightmom *m = self;
	prune_after_step(m, r);
	if (m->sparsity == 0 || r->step > step_of(m, m->events, r->batches))
		return;
	const real *from = m->score == VELOCITY ? momentum(r) : r->master;
	prune_each(&m->masks, follow_piece, &(struct pass){m, m->beta, from});
}

static bool metric(const void *self, int i, int epoch, const char **name, double *value)
{
	(void)epoch;
	return prune_metric(&((const struct weightmom *)self)->masks, i, name, value);
}

static const char *const scores[] = {"weight", "velocity", NULL};

static const struct wasd_field options[] = {
	[SPARSITY] = {"sparsity", WASD_NUM, "0.9", 0, 1, .below_max = true,
                  .summary = "share of the weights that are zero at the end; 0: off"},
	[BEGIN] = {"begin", WASD_NUM, NULL, 0, 1e5, .summary = "first event, in epochs; default: a fifth of the run"},
	[END] = {"end", WASD_NUM, NULL, 0, 1e5, .summary = "last event, in epochs; default: four fifths of the run"},
	[EVENTS] = {"events", WASD_INT, "10", 1, 10000, .summary = "number of events, with equal steps between them"},
	[BETA] = {"beta", WASD_NUM, "0.9", 0, 1, .below_max = true,
              .summary = "how slowly the moving average changes; 0: the magnitude at the event"},
	[SCORE] = {"score", WASD_CHOICE, "\"weight\"", .choices = scores,
               .summary = "average of the weights' magnitudes, or of the optimizer's momentum"},
	[PROTECT] = {"protect", WASD_NUM, "1", 0, 8,
                 .summary =
                     "a layer's quota grows with this power of its living weights; above 1, sparse layers lose less"},
	[SCOPE] = {"scope", WASD_CHOICE, "\"layer\"", .choices = prune_scopes,
               .summary = "a quota for each layer, or one ranking of all layers"},
	LAYERS_OPTION,
	{0},
};

const struct weight_strategy weight_weightmom = {
	.name = "weightmom",
	.summary = "pruning by the moving average of magnitudes, after Johari et al. 2022 (a reading of its abstract)",
	.options = options,
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.state = state,
	.metric = metric,
	.applies = prune_applies,
	.event = event,
	.after_step = after_step,
	.resumed = prune_resumed,
};
