/* train/measure.h - the two things done with a network between epochs: BatchNorm statistics of a mode, and its
 * accuracy. */
#ifndef TRAIN_MEASURE_H
#define TRAIN_MEASURE_H

#include "wasd/data.h"
#include "wasd/graph.h"

struct wasd_bundle;

#define CALIBRATION_BATCHES 20

/* Called before every batch with the number of batches done; false stops the measurement (WASD_ECANCELLED). */
struct measure_tick {
	bool (*go_on)(void *ctx, uint32_t done, uint32_t of);
	void *ctx;
};

/* Statistics of the weights that recipe r forms (NULL = as they are), into `set`: one epoch of the loader, each batch
 * normalised by its own statistics, the stored ones their average (weight 1/i for batch i, so what was there before
 * does not matter). */
enum wasd_status measure_statistics(struct wasd_exec *e, struct wasd_loader *l, const struct wasd_recipe *r,
                                    enum wasd_stats_set set, struct measure_tick tick, struct wasd_err *err);

/* A mode as it would be served: normalisation folded into the convolutions, dead taps cut off, weights packed. For as
 * long as the model's weights stay; done() also takes a zeroed one. */
struct measure_net {
	struct wasd_bundle *bundle;
	struct wasd_exec *exec;
};
enum wasd_status measure_net_create(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                                    const struct wasd_exec_opts *o, struct measure_net *out, struct wasd_err *err);
void measure_net_done(struct measure_net *n);
size_t measure_net_bytes(const struct measure_net *n);

struct measure_result {
	double loss, accuracy, images_per_s;
};
/* How every batch passes: the recipe and the statistics. Called before each batch; p->n is set. */
struct measure_pass {
	enum wasd_status (*prepare)(void *ctx, struct wasd_pass *p, struct wasd_err *err);
	void *ctx;
};
/* Mean cross-entropy and share of top-1 hits over one epoch of the loader. pass NULL: `e` is a measure_net's. answered
 * (may be NULL): for each class, how many images were answered with it; added to.
 * A loss that is not finite is NaN, with WASD_OK: the caller says what it means. */
enum wasd_status measure_accuracy(struct wasd_exec *e, struct wasd_loader *l, const struct measure_pass *pass,
                                  struct measure_tick tick, uint32_t *answered, struct measure_result *out,
                                  struct wasd_err *err);
/* A fixed random choice of the given images, a multiple of the batch where there are that many: *n of them, *subset for
 * wasd_free. */
enum wasd_status measure_subset(const uint32_t *image, size_t images, int batch, uint64_t seed, uint32_t **subset,
                                size_t *n, struct wasd_err *err);

#endif
