/* train/spec.h - the job spec as the trainer reads it. */
#ifndef TRAIN_SPEC_H
#define TRAIN_SPEC_H

#include "wasd/graph.h"
#include "wasd/json.h"

/* When the test images are measured: with every evaluation; with a new best and at the end; at the end. */
enum train_test_when { TEST_EVERY, TEST_BEST, TEST_LAST };

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
	bool batch_statistics; /* eval.statistics: of each batch that is measured, as in training */
	bool eval_aom, eval_dom;
	int checkpoint_every; /* 0: only the last */
	bool keep_best;
	char best_metric[32];
	bool best_max;
	bool early_stop;
	int patience;
	char stop_metric[32];
	bool stop_max;
	size_t memory_bytes; /* 0: no limit */
};

/* Reads and checks. Errors carry the member's JSON pointer. */
enum wasd_status train_spec_read(const cJSON *spec, struct train_spec *out, struct wasd_err *err);

#endif
