/* extend_compose.h - a weight strategy that core does not have: W = c t + m, with one template t for all layers, a
 * factor c of each layer's own, which does not decay, and further values m of the first layer. Before step 4 half of m
 * goes, before step 8 it comes back, and before step 6 the factors begin anew. */
#include "weights/strategy.h"

struct tied {
	const struct weight_param *param;
	int n;
	size_t most;                            /* elements of t */
	real *t, *c, *m, *dt, *dc, *dm, length; /* length: of m; the strategy's own state, like again */
	real again;
};

static void tied_destroy(void *self)
{
	struct tied *s = self;
	wasd_free(s->t);
	wasd_free(s->c);
	wasd_free(s->m);
	wasd_free(s->dt);
	wasd_free(s->dc);
	wasd_free(s->dm);
	wasd_free(s);
}

static enum wasd_status tied_create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct tied *s = *self = wasd_calloc(1, sizeof *s);
	struct wasd_rng r;
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "tied");
	s->param = setup->param;
	s->n = setup->n_params;
	for (int i = 0; i < s->n; i++)
		s->most = s->param[i].info.count > s->most ? s->param[i].info.count : s->most;
	size_t m = s->param[0].info.count, n = (size_t)s->n;
	s->length = (real)m;
	if (!(s->t = wasd_calloc(s->most, sizeof(real))) || !(s->c = wasd_calloc(n, sizeof(real))) ||
	    !(s->m = wasd_calloc(m, sizeof(real))) || !(s->dt = wasd_calloc(s->most, sizeof(real))) ||
	    !(s->dc = wasd_calloc(n, sizeof(real))) || !(s->dm = wasd_calloc(m, sizeof(real))))
		return wasd_fail(err, WASD_ENOMEM, "tied");
	wasd_rng_init(&r, setup->seed, "tied", 0, 0);
	for (size_t i = 0; i < s->most; i++)
		s->t[i] = (real)wasd_rng_between(&r, -0.5, 0.5);
	for (size_t i = 0; i < n; i++)
		s->c[i] = (real)wasd_rng_between(&r, 0.5, 1);
	for (size_t i = 0; i < m; i++)
		s->m[i] = (real)wasd_rng_between(&r, -0.1, 0.1);
	return WASD_OK;
}

static bool tied_state(void *self, int i, struct weight_state *out)
{
	struct tied *s = self;
	*out = (struct weight_state){i ? "again" : "length", 0, {0}, .values = i ? &s->again : &s->length};
	return i < 2;
}

static bool tied_learned(void *self, int i, struct weight_learned *out)
{
	struct tied *s = self;
	size_t n = (size_t)s->n, m = s->param[0].info.count, rows = (size_t)s->length / 2;
	const struct weight_learned list[] = {
		{"t", 1, {s->most}, 0, s->t, s->dt, true, 0},
		{"c", 1, {n}, 0, s->c, s->dc, false, (unsigned)s->again},
		{"m", 2, {2, rows}, m, s->m, s->dm, true, 0},
	};
	if (i < 3)
		*out = list[i];
	return i < 3;
}

static enum wasd_status tied_arrange(void *self, struct wasd_err *err)
{
	struct tied *s = self;
	size_t m = s->param[0].info.count;
	return s->length == (real)m || s->length == (real)(m / 2) ? WASD_OK : wasd_fail(err, WASD_ECORRUPT, "tied");
}

static bool tied_event(void *self, const struct weight_run *r)
{
	struct tied *s = self;
	if (r->step == 4)
		s->length /= 2;
	if (r->step == 8) {
		s->length *= 2;
		for (size_t i = s->param[0].info.count / 2; i < s->param[0].info.count; i++)
			s->m[i] = 1;
	}
	s->again += r->step == 6;
	return r->step == 4 || r->step == 6 || r->step == 8;
}

static void tied_compose(void *self, const struct weight_param *p, real *w)
{
	struct tied *s = self;
	for (size_t k = 0; k < p->info.count; k++)
		w[k] = s->c[p->index] * s->t[k] + (!p->index && k < (size_t)s->length ? s->m[k] : 0);
}

static void tied_back(void *self, const struct weight_param *p, const real *g)
{
	struct tied *s = self;
	double dc = 0;
	for (size_t k = 0; k < p->info.count; k++) {
		s->dt[k] += s->c[p->index] * g[k];
		dc += (double)(s->t[k] * g[k]);
		if (!p->index && k < (size_t)s->length)
			s->dm[k] += g[k];
	}
	s->dc[p->index] += (real)dc;
}

static const struct weight_strategy weight_tied = {.name = "tied",
                                                   .summary = "all layers share one template",
                                                   .create = tied_create,
                                                   .destroy = tied_destroy,
                                                   .state = tied_state,
                                                   .learned = tied_learned,
                                                   .arrange = tied_arrange,
                                                   .event = tied_event,
                                                   .compose = tied_compose,
                                                   .compose_back = tied_back};
