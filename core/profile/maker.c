/* profile/maker.c - what every making of a mode begins with: the checkpoint's network, and the images that judge and
 * calibrate; and the speed of a mode. See maker.h. */
#include "profile/maker.h"
#include "backend/backend.h"
#include "wasd/infer.h"
#include "wasd/model.h"

#include <math.h>
#include <stdlib.h>

enum { JUDGE_BATCHES = 5 };
#define HOLDOUT 0.1 /* share of the training images, if the run held out none */

static enum wasd_status build_network(struct maker *m, struct wasd_err *err)
{
	const struct backend *b;
	bool present;
	enum wasd_status s = checkpoint_open(m->o->file, m->o->len, &m->ckpt, err);
	if (s || (s = train_spec_read(m->ckpt.spec, &m->spec, err)) || (s = checkpoint_graph(&m->ckpt, &m->graph, err)) ||
	    (s = checkpoint_check_names(&m->ckpt, m->graph, err)) || (s = wasd_model_create(m->graph, 0, &m->model, err)) ||
	    (s = checkpoint_load_params(&m->ckpt, m->graph, "", wasd_model_master(m->model), err)) ||
	    (s = checkpoint_load_stats(&m->ckpt, m->graph, "", wasd_model_stats(m->model, WASD_STATS_AOM), &present, err)))
		return s;
	struct wasd_shape a = wasd_graph_input_shape(m->graph), d = wasd_dataset_shape(m->o->data);
	if (a.c != d.c || a.h != d.h || a.w != d.w || wasd_graph_classes(m->graph) != wasd_dataset_classes(m->o->data))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset",
		                    "its images are %dx%dx%d in %d classes, the network takes %dx%dx%d in %d", d.c, d.h, d.w,
		                    wasd_dataset_classes(m->o->data), a.c, a.h, a.w, wasd_graph_classes(m->graph));
	if (backend_choose(m->o->backend, m->spec.precision, &b, NULL))
		m->spec.precision = WASD_PRECISION_FP32; /* trained on a machine with another backend */
	return WASD_OK;
}

/* Number of images in whole batches of MAKER_BATCH, or all images if they fit in one batch. The last batch is never a
 * single image. */
static size_t whole_batches(size_t images, size_t most)
{
	size_t n = images < most ? images : most;
	return n > MAKER_BATCH ? n - n % MAKER_BATCH : n;
}

enum wasd_status maker_holdout(const struct wasd_dataset *data, const struct train_spec *spec, struct wasd_holdout *out,
                               struct wasd_err *err)
{
	bool own = spec->val_own && wasd_dataset_val(data);
	enum wasd_status s = own ?
	                         wasd_holdout_own(data, spec->limit, spec->split_seed, spec->stratified, out, err) :
	                         wasd_holdout_make(data, spec->limit, spec->val_fraction > 0 ? spec->val_fraction : HOLDOUT,
	                                           spec->split_seed, spec->stratified, out, err);
	if (s == WASD_EINVAL || (!s && out->n_val < 2))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "too few training images to judge a mode by");
	return s;
}

static enum wasd_status open_images(struct maker *m, size_t calibration, struct wasd_err *err)
{
	enum wasd_status s = maker_holdout(m->o->data, &m->spec, &m->holdout, err);
	size_t n_subset, n_some;
	const struct wasd_holdout *h = &m->holdout;
	int batch = h->n_val < MAKER_BATCH ? (int)h->n_val : MAKER_BATCH;
	if (s || (s = measure_subset(h->train, h->n_train, MAKER_BATCH, m->spec.seed, &m->subset, &n_subset, err)) ||
	    (s = measure_subset(h->val, h->n_val, batch, m->spec.seed, &m->some, &n_some, err)))
		return s;
	struct wasd_exec_opts judge = {.batch = MAKER_BATCH, .precision = m->spec.precision, .backend = m->o->backend};
	struct wasd_loader_opts some = {.data = m->o->data,
	                                .split = WASD_TRAIN,
	                                .subset = m->some,
	                                .n_subset = whole_batches(n_some, MAKER_BATCH * JUDGE_BATCHES),
	                                .batch = MAKER_BATCH,
	                                .pixels = &m->ckpt.pixels};
	struct wasd_loader_opts val = {.data = m->o->data,
	                               .split = WASD_TRAIN,
	                               .subset = h->val,
	                               .n_subset = h->n_val,
	                               .batch = MAKER_BATCH,
	                               .pixels = &m->ckpt.pixels,
	                               .prefetch = true};
	struct wasd_loader_opts calib = {.data = m->o->data,
	                                 .split = WASD_TRAIN,
	                                 .subset = m->subset,
	                                 .n_subset = whole_batches(n_subset,
	                                                           calibration ? calibration * MAKER_BATCH : n_subset),
	                                 .batch = MAKER_BATCH,
	                                 .pixels = &m->ckpt.pixels,
	                                 .prefetch = true};
	m->eval = (struct wasd_exec_opts){.batch = MAKER_BATCH, .precision = m->spec.precision, .backend = m->o->backend};
	if ((s = wasd_loader_create(&some, &m->some_val, err)) || (s = wasd_loader_create(&val, &m->val, err)) ||
	    (s = wasd_loader_create(&calib, &m->calib, err)))
		return s;
	return wasd_exec_create(m->model, &judge, &m->exec, err);
}

void maker_done(struct maker *m)
{
	wasd_loader_destroy(m->some_val);
	wasd_loader_destroy(m->val);
	wasd_loader_destroy(m->calib);
	wasd_holdout_done(&m->holdout);
	wasd_free(m->some);
	wasd_free(m->subset);
	search_space_done(&m->space);
	wasd_draw_done(&m->draw);
	wasd_exec_destroy(m->exec);
	wasd_model_destroy(m->model);
	wasd_graph_destroy(m->graph);
	checkpoint_done(&m->ckpt);
}

enum wasd_status maker_open(struct maker *m, const struct wasd_making *o, size_t calibration, struct wasd_err *err)
{
	*m = (struct maker){.o = o};
	enum wasd_status s = build_network(m, err);
	return s ? s : open_images(m, calibration, err);
}

static bool go_on(void *ctx, uint32_t done, uint32_t of)
{
	struct maker *m = ctx;
	(void)done, (void)of;
	m->stopped = m->stopped || (m->o->go_on && !m->o->go_on(m->o->ctx, m->done, m->evaluations));
	return !m->stopped;
}

struct measure_tick maker_tick(struct maker *m)
{
	return (struct measure_tick){go_on, m};
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

enum wasd_status maker_time(struct wasd_predictor *p, const struct wasd_bundle *b, const struct maker_timing *o,
                            double *us, struct wasd_err *err)
{
	enum { MOST = 64, LEAST = 5 };
	double t[MOST];
	int k = 0, n = o->n;
	real *zeros = o->x ? NULL : wasd_calloc((size_t)n * wasd_shape_count(wasd_bundle_shape(b)), sizeof *zeros),
		 *y = wasd_calloc((size_t)n * (size_t)wasd_bundle_classes(b), sizeof *y);
	const real *x = o->x ? o->x : zeros;
	enum wasd_status s = x && y ? wasd_predictor_run(p, x, n, y, err) : wasd_fail(err, WASD_ENOMEM, "%d images", n);
	for (int64_t begin = wasd_mono_us(); !s && k < MOST && (k < LEAST || wasd_mono_us() - begin < o->us); k++) {
		int64_t at = wasd_mono_us();
		s = wasd_predictor_run(p, x, n, y, err);
		t[k] = (double)(wasd_mono_us() - at);
	}
	wasd_free(zeros);
	wasd_free(y);
	if (s)
		return s;
	qsort(t, (size_t)k, sizeof *t, ascending);
	*us = fmax(t[k / 2], 1);
	return WASD_OK;
}
