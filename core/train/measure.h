/* train/measure.h - the two things done with a network between epochs: BatchNorm statistics of a mode, and its accuracy. */
#ifndef TRAIN_MEASURE_H
#define TRAIN_MEASURE_H

#include "wasd/data.h"
#include "wasd/graph.h"

#define CALIBRATION_BATCHES 20

/* Called before every batch with the number of batches done; false stops the measurement (WASD_ECANCELLED). */
struct measure_tick { bool (*go_on)(void *ctx, uint32_t done, uint32_t of); void *ctx; };

/* Statistics of the weights that `draw` makes (NULL = plain), into `set`: one epoch of the loader, each batch normalised by its own
 * statistics, the stored ones their average (weight 1/i for batch i, so what was there before does not matter). */
enum wasd_status measure_statistics(struct wasd_exec *e, struct wasd_loader *l, const struct wasd_draw *draw, enum wasd_stats_set set,
                                    struct measure_tick tick, struct wasd_err *err);
/* Mean cross-entropy and share of top-1 hits over one epoch of the loader, with the statistics of `set`.
 * A loss that is no number is NaN, with WASD_OK. */
enum wasd_status measure_accuracy(struct wasd_exec *e, struct wasd_loader *l, const struct wasd_draw *draw, enum wasd_stats_set set,
                                  struct measure_tick tick, double *loss, double *accuracy, struct wasd_err *err);
/* A fixed random choice of the given images, a multiple of the batch where there are that many: *n of them, *subset for wasd_free. */
enum wasd_status measure_subset(const uint32_t *image, size_t images, int batch, uint64_t seed, uint32_t **subset, size_t *n, struct wasd_err *err);

#endif
