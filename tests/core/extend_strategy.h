/* extend_strategy.h - a weight strategy that core does not have: it zeroes a random part of each kernel's weights, in
 * every layer that is not depthwise. The masks are drawn from the job's seed when a run begins, and are its state. */
#include "weights/strategy.h"

struct sparse {
	const struct weight_param *param;
	int n;
	real *mask[64];
};

static void sparse_destroy(void *self)
{
	struct sparse *s = self;
	for (int i = 0; i < s->n; i++)
		wasd_free(s->mask[i]);
	wasd_free(s);
}

static enum wasd_status sparse_create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct sparse *s = *self = wasd_calloc(1, sizeof *s);
	struct wasd_rng r;
	bool ok = s;
	wasd_rng_init(&r, setup->seed, "sparse", 0, 0);
	for (int i = 0; ok && i < setup->n_params && i < 64; i++) {
		ok = (s->mask[s->n++] = wasd_calloc(setup->param[i].info.count, sizeof(real)));
		for (size_t k = 0; ok && k < setup->param[i].info.count; k++)
			s->mask[i][k] = wasd_rng_uniform(&r) >= setup->option[0];
	}
	if (s)
		s->param = setup->param;
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "sparse");
}

static bool sparse_state(void *self, int i, struct weight_state *out)
{
	struct sparse *s = self;
	if (i >= s->n)
		return false;
	const struct wasd_param_info *p = &s->param[i].info;
	*out = (struct weight_state){p->name,
	                             p->ndims,
	                             {(size_t)p->dims[0], (size_t)p->dims[1], (size_t)p->dims[2], (size_t)p->dims[3]},
	                             .values = s->mask[i]};
	return true;
}

static bool sparse_applies(const struct wasd_graph *g, wasd_node n)
{
	return wasd_graph_node_info(g, n).groups < 2;
}

static void sparse_link(void *self, const struct weight_param *p, const real *v, real *w)
{
	for (size_t k = 0; k < p->info.count; k++)
		w[k] = ((struct sparse *)self)->mask[p->index][k] * v[k];
}

static void sparse_back(void *self, const struct weight_param *p, const real *v, real *g)
{
	(void)v;
	sparse_link(self, p, g, g);
}

static const struct wasd_field sparse_options[] = {{"share", WASD_NUM, "0.5", 0, 1,
                                                    .summary = "of the weights that are zero"},
                                                   {0}};
static const struct weight_strategy weight_sparse = {.name = "sparse",
                                                     .summary = "a fixed random part of the weights is zero",
                                                     .options = sparse_options,
                                                     .create = sparse_create,
                                                     .destroy = sparse_destroy,
                                                     .state = sparse_state,
                                                     .applies = sparse_applies,
                                                     .link = sparse_link,
                                                     .link_back = sparse_back};
