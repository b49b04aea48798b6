/* extend_mask.h - a weight strategy that core does not have: before every second step the first weight that is left of
 * each kernel dies. The masks are its state. */
#include "weights/strategy.h"

struct thin {
	const struct weight_param *param;
	int n;
	uint8_t *alive[64];
};

static void thin_destroy(void *self)
{
	struct thin *t = self;
	for (int i = 0; i < t->n; i++)
		wasd_free(t->alive[i]);
	wasd_free(t);
}

static enum wasd_status thin_create(const struct weight_setup *setup, void **self, struct wasd_err *err)
{
	struct thin *t = *self = wasd_calloc(1, sizeof *t);
	bool ok = t;
	for (int i = 0; ok && i < setup->n_params && i < 64; i++) {
		ok = (t->alive[t->n++] = wasd_calloc(setup->param[i].info.count / 8 + 1, 1));
		for (size_t k = 0; ok && k < setup->param[i].info.count; k++)
			t->alive[i][k / 8] |= (uint8_t)(1u << k % 8);
	}
	if (t)
		t->param = setup->param;
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "thin");
}

static bool thin_state(void *self, int i, struct weight_state *out)
{
	struct thin *t = self;
	if (i < t->n)
		*out = (struct weight_state){t->param[i].info.name, 1, {t->param[i].info.count}, .bits = t->alive[i]};
	return i < t->n;
}

static void thin_mask(void *self, const struct weight_run *r)
{
	struct thin *t = self;
	for (int i = 0; i < t->n; i++)
		for (size_t k = 0; k < t->param[i].info.count; k++)
			if (!(t->alive[i][k / 8] >> k % 8 & 1))
				r->master[t->param[i].info.offset + k] = 0;
}

static bool thin_event(void *self, const struct weight_run *r)
{
	struct thin *t = self;
	for (int i = 0; i < t->n && r->step % 2; i++)
		if (r->step / 2 < t->param[i].info.count)
			t->alive[i][r->step / 16] &= (uint8_t) ~(1u << r->step / 2 % 8);
	thin_mask(t, r);
	return r->step % 2;
}

static const struct weight_strategy weight_thin = {.name = "thin",
                                                   .summary = "the first weights die, one before every second step",
                                                   .create = thin_create,
                                                   .destroy = thin_destroy,
                                                   .state = thin_state,
                                                   .event = thin_event,
                                                   .after_step = thin_mask};
