/* halving.h - a weight strategy for tests: from the first event on, nobody reads the odd channels of layers that have
 * more than three, so that half of all filters are dead. */
#ifndef TESTS_HALVING_H
#define TESTS_HALVING_H

#include "weights/strategy.h"

struct halving {
	const struct weight_param *param;
	int n;
};

static void halving_destroy(void *self)
{
	wasd_free(self);
}

static enum wasd_status halving_create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct halving *h = *self = wasd_calloc(1, sizeof *h);
	if (!h)
		return wasd_fail(err, WASD_ENOMEM, "halving");
	*h = (struct halving){setup->param, setup->n_params};
	return WASD_OK;
}

static void halving_mask(void *self, const struct weight_run *r)
{
	const struct halving *h = self;
	for (int i = 0; i < h->n && r->step; i++) {
		const struct wasd_param_info *p = &h->param[i].info;
		size_t in = (size_t)p->dims[1], taps = p->count / ((size_t)p->dims[0] * in);
		for (size_t k = 0; in > 3 && k < p->count; k++)
			if (k / taps % in % 2)
				r->master[p->offset + k] = 0;
	}
}

static bool halving_event(void *self, const struct weight_run *r)
{
	halving_mask(self, r);
	return true;
}

static const struct weight_strategy weight_halving = {.name = "halving",
                                                      .summary = "odd input channels are not read",
                                                      .create = halving_create,
                                                      .destroy = halving_destroy,
                                                      .event = halving_event,
                                                      .after_step = halving_mask};
const struct weight_strategy *const weight_strategy_more[] = {&weight_halving, NULL};

#endif
