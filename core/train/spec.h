/* train/spec.h - the job spec as the trainer reads it. */
#ifndef TRAIN_SPEC_H
#define TRAIN_SPEC_H

#include "wasd/graph.h"
#include "wasd/spec.h"

/* In the order of the choices of their rows. When the test images are measured: with every evaluation; with a new best
 * and at the end; at the end. By which statistics: each mode's own, or those of each batch, as in training. */
enum train_test_when { TEST_EVERY, TEST_BEST, TEST_LAST };
enum train_statistics { STATISTICS_OWN, STATISTICS_BATCH };

/* What a run chooses by. */
struct train_goal {
	const struct wasd_metric_kind *metric;
	bool max;
};

struct train_spec {
	const char *arch;           /* what the network is called */
	const cJSON *model;         /* borrowed: the object */
	const cJSON *was, *weights; /* borrowed: what a chain is made from (weights/chain.h) */
	int epochs, batch;
	uint64_t seed;
	const cJSON *optimizer, *schedule; /* borrowed; NULL = default */
	bool flip;
	int crop_pad;
	double label_smoothing;
	enum wasd_precision precision;
	double limit;        /* data.limit: training images, below 1 a share of them; 0: all */
	bool val_own;        /* the dataset's own validation images are held out: val_fraction is null */
	double val_fraction; /* of the training images, held out; 0: the test images are chosen by */
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
	size_t memory_bytes; /* 0: no limit */
};

/* Reads and checks. Errors carry the member's JSON pointer. */
enum wasd_status train_spec_read(const cJSON *spec, struct train_spec *out, struct wasd_err *err);

#endif
