/* merge/images.c - what a merge measures on images. */
#include "merge/merge.h"
#include "profile/maker.h"

static bool tick(void *ctx, uint32_t done, uint32_t of)
{
	struct merging *m = ctx;
	(void)done, (void)of;
	m->done++;
	return merge_go_on(m);
}

enum wasd_status merge_images_open(struct merging *m, struct wasd_err *err)
{
	size_t n;
	enum wasd_status s = maker_holdout(m->o->data, &m->spec, &m->holdout, err);
	if (s || (s = measure_subset(m->holdout.train, m->holdout.n_train, MERGE_BATCH, m->spec.seed, &m->subset, &n, err)))
		return s;
	struct wasd_loader_opts images = {.data = m->o->data,
	                                  .split = WASD_TRAIN,
	                                  .subset = m->subset,
	                                  .n_subset = n,
	                                  .batch = MERGE_BATCH,
	                                  .pixels = &m->ckpt[0].pixels,
	                                  .prefetch = true};
	struct wasd_exec_opts how = {.batch = MERGE_BATCH, .backend = m->o->backend, .unmeasured = true};
	if ((s = wasd_loader_create(&images, &m->calib, err)))
		return s;
	images.subset = m->holdout.val;
	images.n_subset = m->holdout.n_val;
	if ((s = wasd_loader_create(&images, &m->held, err)) || (s = wasd_exec_create(m->model, &how, &m->exec, err)))
		return s;
	m->of = (int)(wasd_loader_batches(m->calib) + wasd_loader_batches(m->held)) * (m->how.points + 1 + m->has_dom);
	return WASD_OK;
}

void merge_images_done(struct merging *m)
{
	wasd_exec_destroy(m->exec);
	wasd_loader_destroy(m->calib);
	wasd_loader_destroy(m->held);
	wasd_holdout_done(&m->holdout);
	wasd_free(m->subset);
}

enum wasd_status merge_examine(struct merging *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                               struct measure_result *out, struct wasd_err *err)
{
	struct measure_net net = {0};
	struct measure_tick t = {tick, m};
	struct wasd_exec_opts how = {.batch = MERGE_BATCH, .backend = m->o->backend, .unmeasured = true};
	enum wasd_status s = measure_statistics(m->exec, m->calib, r, set, t, err);
	if (!s)
		s = measure_net_create(m->model, r, set, &how, &net, err);
	if (!s)
		s = measure_accuracy(net.exec, m->held, NULL, t, NULL, out, err);
	measure_net_done(&net);
	return s;
}
