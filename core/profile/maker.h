/* profile/maker.h - the state of a making (make.c): the network, the images; and what the search for a profile
 * (profile.c) and the comparison with random draws (compare.c) add to it. */
#ifndef PROFILE_MAKER_H
#define PROFILE_MAKER_H

#include "profile/search.h"
#include "train/checkpoint.h"
#include "train/measure.h"
#include "train/spec.h"
#include "wasd/making.h"
#include "wasd/profile.h"

#define MAKER_BATCH 128

enum desire { MACS, LATENCY, DRAW }; /* in the order of the desires of mode_draw */
struct request {
	enum desire desire;
	double budget;
	const cJSON *draw;
};

struct verdict {
	uint64_t macs;
	struct measure_result val;
};

struct wasd_bundle;
struct wasd_predictor;

struct maker {
	const struct wasd_making *o;
	struct checkpoint ckpt;
	struct train_spec spec;
	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_exec *exec; /* for evaluation and calibration */
	struct wasd_exec_opts eval;
	struct wasd_holdout holdout;
	struct wasd_loader *some_val, *val, *calib; /* some_val: the images that a search evaluates choices on */
	uint32_t *some, *subset;
	struct search_space space;
	struct wasd_draw draw; /* draw of the current choice, with one layer for each layer of space */
	int evaluations, done;
	bool stopped;
};

/* Builds the network, opens the images. calibration: number of batches for measuring statistics, 0 = as in training.
 * Call maker_done even after a failure. */
enum wasd_status maker_open(struct maker *m, const struct wasd_making *o, size_t calibration, struct wasd_err *err);
void maker_done(struct maker *m);
/* The images that the run of a checkpoint held out, or a tenth of the training images if it held out none. */
enum wasd_status maker_holdout(const struct wasd_dataset *data, const struct train_spec *spec, struct wasd_holdout *out,
                               struct wasd_err *err);
/* Reads m->o->request, one for a profile. */
enum wasd_status maker_request(struct maker *m, struct request *r, struct wasd_err *err);
/* Leaves the draw that the search finds in m->draw, and its statistics in the DOM set. */
enum wasd_status maker_search(struct maker *m, const struct request *r, struct verdict *out, struct wasd_err *err);
void maker_set_draw(struct maker *m, const int *pick);
/* A tick that calls the caller's go_on. */
struct measure_tick maker_tick(struct maker *m);
/* Median time of n images, in microseconds. */
#define MAKER_TIMING_US 200000
struct maker_timing {
	int n;
	const real *x; /* NULL: zeros, which take as long as any images in one network */
	int64_t us;    /* duration of the measurement; 0: five runs */
};
enum wasd_status maker_time(struct wasd_predictor *p, const struct wasd_bundle *b, const struct maker_timing *o,
                            double *us, struct wasd_err *err);

#endif
