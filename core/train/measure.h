/* train/measure.h - what the trainer measures between epochs: the BatchNorm statistics of a mode, and its
 * accuracy. */
#ifndef TRAIN_MEASURE_H
#define TRAIN_MEASURE_H

#include "wasd/data.h"
#include "wasd/graph.h"

struct wasd_bundle;

#define CALIBRATION_BATCHES 20

/* Called before every batch with the number of finished batches; false stops the measurement with WASD_ECANCELLED. */
struct measure_tick {
	bool (*go_on)(void *ctx, uint32_t done, uint32_t of);
	void *ctx;
};

/* Measures the statistics of the weights that recipe r forms (NULL: the weights as they are) and stores them in
 * `set`. Runs one epoch of the loader: each batch is normalised by its own statistics, and the stored values are
 * the average (batch i has weight 1/i, so earlier contents of the set do not matter). */
enum wasd_status measure_statistics(struct wasd_exec *e, struct wasd_loader *l, const struct wasd_recipe *r,
                                    enum wasd_stats_set set, struct measure_tick tick, struct wasd_err *err);

/* A mode as it is served: normalisation folded into the convolutions, dead taps removed, weights packed. Valid
 * until the model's weights change; done() accepts a zeroed struct. */
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
/* Sets the recipe and the statistics of a pass. Called before each batch; p->n is already set. */
struct measure_pass {
	enum wasd_status (*prepare)(void *ctx, struct wasd_pass *p, struct wasd_err *err);
	void *ctx;
};
/* Mean cross-entropy and top-1 accuracy over one epoch of the loader. pass NULL: `e` belongs to a measure_net.
 * answered (may be NULL): per class, the number of images predicted as that class is added.
 * A loss that is not finite is returned as NaN, with WASD_OK; the caller decides what it means. */
enum wasd_status measure_accuracy(struct wasd_exec *e, struct wasd_loader *l, const struct measure_pass *pass,
                                  struct measure_tick tick, uint32_t *answered, struct measure_result *out,
                                  struct wasd_err *err);
/* Chooses a random but reproducible subset of the given images: *n of them, a multiple of the batch size if there
 * are enough. Free *subset with wasd_free. */
enum wasd_status measure_subset(const uint32_t *image, size_t images, int batch, uint64_t seed, uint32_t **subset,
                                size_t *n, struct wasd_err *err);

#endif
