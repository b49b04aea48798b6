/* train/measure.c - see measure.h. Each mode needs its own statistics: training gathers them under random shadow
 * weights, which are scaled by alpha and lack some taps. Under plain weights every augmented layer has a different
 * mean and scale, and with the wrong statistics the network's accuracy drops to chance
 * (web/docs/was.md#statistics). */
#include "train/measure.h"
#include "infer/bundle.h"

#include <math.h>
#include <string.h>

enum wasd_status measure_statistics(struct wasd_exec *e, struct wasd_loader *l, const struct wasd_recipe *r,
                                    enum wasd_stats_set set, struct measure_tick tick, struct wasd_err *err)
{
	uint32_t batches = wasd_loader_batches(l);
	wasd_loader_seek(l, 0, 0);
	for (uint32_t i = 0; i < batches; i++) {
		if (!tick.go_on(tick.ctx, i, batches))
			return WASD_ECANCELLED;
		const struct wasd_batch *b = wasd_loader_next(l);
		struct wasd_pass pass =
			{.n = b->n, .recipe = r, .bn = WASD_BN_BATCH, .set = set, .update = true, .momentum = 1.0 / (i + 1)};
		enum wasd_status s = wasd_exec_forward(e, b->x, &pass, err);
		if (s)
			return s;
	}
	return WASD_OK;
}

enum wasd_status measure_net_create(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                                    const struct wasd_exec_opts *o, struct measure_net *out, struct wasd_err *err)
{
	struct measure_net n = {0};
	struct wasd_exec_opts folded = {.batch = o->batch,
	                                .constant_weights = true,
	                                .precision = o->precision,
	                                .backend = o->backend,
	                                .unmeasured = o->unmeasured,
	                                .planned = o->planned,
	                                .ctx = o->ctx};
	enum wasd_status s = bundle_compile(m, r, set, &n.bundle, err);
	if (!s)
		s = wasd_exec_create(bundle_model(n.bundle), &folded, &n.exec, err);
	if (s)
		measure_net_done(&n);
	else
		*out = n;
	return s;
}

void measure_net_done(struct measure_net *n)
{
	wasd_exec_destroy(n->exec);
	wasd_bundle_unref(n->bundle);
	*n = (struct measure_net){0};
}

size_t measure_net_bytes(const struct measure_net *n)
{
	return wasd_bundle_bytes(n->bundle) + wasd_exec_bytes(n->exec);
}

static void count_answers(const real *logits, int n, int classes, uint32_t *answered)
{
	for (int i = 0; i < n; i++, logits += classes) {
		int top = 0;
		for (int c = 1; c < classes; c++)
			if (logits[c] > logits[top])
				top = c;
		answered[top]++;
	}
}

enum wasd_status measure_accuracy(struct wasd_exec *e, struct wasd_loader *l, const struct measure_pass *how,
                                  struct measure_tick tick, uint32_t *answered, struct measure_result *out,
                                  struct wasd_err *err)
{
	uint32_t batches = wasd_loader_batches(l);
	int64_t begin = wasd_mono_us();
	double sum = 0;
	uint64_t hits = 0, images = 0;
	int classes = wasd_exec_classes(e);
	wasd_loader_seek(l, 0, 0);
	for (uint32_t i = 0; i < batches; i++) {
		if (!tick.go_on(tick.ctx, i, batches))
			return WASD_ECANCELLED;
		const struct wasd_batch *b = wasd_loader_next(l);
		struct wasd_pass pass = {.n = b->n,
		                         .bn = WASD_BN_SET,
		                         .set = WASD_STATS_AOM}; /* the only set of a folded network */
		double mean;
		int correct;
		enum wasd_status s = how ? how->prepare(how->ctx, &pass, err) : WASD_OK;
		if (s || (s = wasd_exec_forward(e, b->x, &pass, err)))
			return s;
		s = wasd_exec_loss(e, b->y, 0, &mean, &correct, err);
		if (s == WASD_ENUMERIC) { /* one mode may overflow while another does not: a result, not a failure */
			mean = NAN;
			correct = 0;
		} else if (s) {
			return s;
		}
		if (answered)
			count_answers(wasd_exec_logits(e), b->n, classes, answered);
		sum += mean * b->n;
		hits += (uint64_t)correct;
		images += (uint64_t)b->n;
	}
	int64_t us = wasd_mono_us() - begin;
	*out = (struct measure_result){sum / (double)images, (double)hits / (double)images,
	                               us > 0 ? (double)images * 1e6 / (double)us : 0};
	return WASD_OK;
}

enum wasd_status measure_subset(const uint32_t *image, size_t images, int batch, uint64_t seed, uint32_t **subset,
                                size_t *n, struct wasd_err *err)
{
	uint32_t *v = wasd_calloc(images, sizeof *v);
	if (!v)
		return wasd_fail(err, WASD_ENOMEM, "calibration subset of %zu images", images);
	struct wasd_rng r;
	wasd_rng_init(&r, seed, "calibrate", 0, 0);
	memcpy(v, image, images * sizeof *v);
	wasd_rng_shuffle(&r, v, images);
	size_t want = (size_t)CALIBRATION_BATCHES * (size_t)batch;
	*n = images < (size_t)batch ? images : images < want ? images - images % (size_t)batch : want;
	*subset = v;
	return WASD_OK;
}
