/* train/spec.h - the job spec as the trainer reads it. */
#ifndef TRAIN_SPEC_H
#define TRAIN_SPEC_H

#include "augment/augment.h"
#include "wasd/graph.h"
#include "wasd/spec.h"

/* Both enums follow the order of the choices in their rows. test_when: test images are measured at every
 * evaluation; at a new best and at the end; at the end. statistics: evaluation uses each mode's own statistics, or
 * those of each batch, as in training. */
enum train_test_when { TEST_EVERY, TEST_BEST, TEST_LAST };
enum train_statistics { STATISTICS_OWN, STATISTICS_BATCH };

/* The metric that a run is ranked by. */
struct train_goal {
	const struct wasd_metric_kind *metric;
	bool max;
};

/* The member "adjust" (models/adjust.h). */
struct train_adjust_spec {
	bool on;
	int iteration, iterations, times; /* iteration: from 1 */
	double rate, update, update_decay, step, step_decay;
	const cJSON *first; /* borrowed: widths of the first network; NULL: this one is the first */
	uint64_t macs;      /* of the first network; 0: this one is the first */
};

struct train_spec {
	const char *arch;           /* name of the network */
	const cJSON *model;         /* borrowed object */
	const cJSON *was, *weights; /* borrowed: input of the chain (weights/chain.h) */
	int epochs, batch;
	uint64_t seed;
	const cJSON *optimizer, *schedule; /* borrowed; NULL = default */
	struct augment_list augment;
	double label_smoothing;
	bool balanced;              /* train.class_weights is "balanced" */
	const cJSON *class_weights; /* borrowed: the list of train.class_weights; NULL: none */
	enum wasd_precision precision;
	double limit;        /* data.limit: number of training images, below 1 a fraction; 0: all */
	bool val_own;        /* the dataset's own validation images are the hold-out: val_fraction is null */
	double val_fraction; /* fraction of the training images held out; 0: the test images rank the run */
	uint64_t split_seed; /* of data.limit and the hold-out */
	bool stratified;
	const cJSON *normalize; /* borrowed: the object of data.normalize; NULL: none */
	bool normalize_set;     /* data.normalize is "set" */
	int eval_every;
	enum train_test_when test_when;
	enum train_statistics statistics;
	bool eval_aom, eval_dom;
	int checkpoint_every;
	bool keep_best;
	struct train_goal best;
	bool early_stop;
	int patience;
	struct train_goal stop;
	struct train_adjust_spec adjust;
	size_t memory_bytes; /* 0: no limit */
};

/* Reads and checks a spec. Errors carry the JSON pointer of the member. */
enum wasd_status train_spec_read(const cJSON *spec, struct train_spec *out, struct wasd_err *err);

#endif
