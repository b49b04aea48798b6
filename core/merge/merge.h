/* merge/merge.h - the state of a merge, shared by its parts: files and result (merge.c), images (images.c), alignment
 * by activations (activations.c). */
#ifndef MERGE_MERGE_H
#define MERGE_MERGE_H

#include "merge/match.h"
#include "train/checkpoint.h"
#include "train/measure.h"
#include "train/spec.h"
#include "wasd/merge.h"
#include "wasd/weights.h"

enum { MERGE_BATCH = 128, MERGE_ACTIVATION_IMAGES = 256 };

struct merge_point {
	double lambda;
	struct measure_result val;
};

struct merging {
	const struct wasd_merge_opts *o;
	struct wasd_merge_how how;
	/* the files */
	struct checkpoint ckpt[WASD_MERGE_MAX];
	struct train_spec spec; /* of the first */
	struct wasd_graph *graph;
	struct wasd_draw draw; /* of the first's DOM, if has_dom */
	bool has_dom;
	real *param[WASD_MERGE_MAX]; /* those behind the first are aligned to it */
	struct merge_groups *groups;
	struct merge_match match[WASD_MERGE_MAX];
	/* the result */
	struct wasd_model *model;
	struct measure_result val[2]; /* AOM, DOM */
	struct merge_point *path;
	double barrier;     /* NAN: a loss on the path is not finite */
	uint64_t slim_macs; /* 0: no channel is dead */
	/* the images */
	struct wasd_holdout holdout;
	uint32_t *subset;
	struct wasd_loader *calib, *held;
	struct wasd_exec *exec;
	int done, of;
	bool stopped;
};

bool merge_go_on(struct merging *m);

/* Opens the images, and plans the passes of m->model. */
enum wasd_status merge_images_open(struct merging *m, struct wasd_err *err);
void merge_images_done(struct merging *m);
/* Measures the statistics of m->model under r (NULL: plain weights) in `set`, then loss and accuracy. */
enum wasd_status merge_examine(struct merging *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                               struct measure_result *out, struct wasd_err *err);

/* The permutation by which the channels of file k behave most like the first's, on some hundred training images: in
 * each group, the sum of the correlations of paired channels is the largest (after Git Re-Basin's activation matching
 * [ours: correlation over images and positions, at the last node of the largest maps that has the group]). Both need
 * their AOM statistics. */
enum wasd_status merge_match_activations(struct merging *m, int k, int *perm, struct wasd_err *err);

#endif
