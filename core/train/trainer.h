/* train/trainer.h - the trainer's inside, shared by its three files: create.c builds it, snapshot.c saves and resumes
 * it, trainer.c runs it. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "modes/mode.h"
#include "train/spec.h"
#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/optim.h"
#include "wasd/train.h"
#include "weights/chain.h"

enum trainer_state { TRAINING, CALIBRATING, EVALUATING, CLOSING, COMPLETED, STOPPED };

#define METRICS_MAX 64
#define WARNINGS_MAX 32

/* A mode that the run measures and that its checkpoints list. */
enum trainer_metric { VAL_LOSS, VAL_ACC, TEST_LOSS, TEST_ACC, EVAL_SPEED, TRAINER_METRICS };
struct trainer_mode {
	const char *name;
	char label[8];                       /* for people: "AOM" */
	const char *metric[TRAINER_METRICS]; /* "val_loss_aom", ... */
	const struct mode_kind *kind;
	const struct wasd_recipe *recipe; /* the chain's; NULL: the weights as they are */
	cJSON *recipe_json;               /* null for those */
	enum wasd_stats_set set;
	const char *statistics; /* what their names in a file begin with */
	bool evaluated;         /* eval.modes names it */
	bool measured;          /* the set has been written by a calibration */
	double images_per_s;    /* of the last evaluation of this attempt; 0: none */
	uint32_t *silent;       /* by class: evaluations in a row without such an answer */
};
#define TRAINER_MODES (WASD_STATS_SETS - WASD_STATS_AOM)

struct wasd_trainer {
	enum trainer_state state;
	struct train_spec spec;
	const cJSON *spec_json;
	const struct wasd_dataset *data;
	const char **class_names;

	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_exec *exec;
	struct wasd_exec_opts eval;              /* what evaluation plans, each time anew: the weights have changed */
	size_t eval_bytes;                       /* what that takes while it lasts */
	struct weight_chain *weights;            /* how those that a pass computes with are formed */
	struct trainer_mode mode[TRAINER_MODES]; /* AOM first; behind it DOM, if a strategy draws */
	int n_modes;
	cJSON *was_json; /* the object of the strategy that draws, or false */
	cJSON *info, *fingerprint;
	struct wasd_optim *optim;
	struct wasd_schedule schedule;
	struct wasd_holdout holdout;
	char holdout_digest[WASD_SHA256_HEX]; /* of the indices held out; "" for none */
	struct wasd_loader *train, *calib;
	struct wasd_loader *val,
		*test;        /* val: what the run chooses by, the test images where none are held out; NULL: there are none */
	uint32_t *subset; /* what calib reads */
	bool has_batchnorm;

	/* position and what travels with it */
	int epoch;
	uint32_t next, batches;
	struct wasd_rng rng_dropout;
	double loss_sum;
	uint64_t hits, seen;
	double point_sum; /* losses of the steps since the last point of the curve */
	uint64_t point_n;
	double best, stop_best; /* NaN: none yet */
	int stop_bad;           /* evaluations since stop_best */

	/* this attempt only */
	const struct wasd_train_hooks *hooks;
	double lr;
	int64_t epoch_us, train_us;   /* when the epoch began here; training time of the epoch */
	uint64_t trained, stalled_us; /* images trained and stall since then */
	double step_us, close_us;     /* averages for the ETA: one batch; the end of an epoch */
	uint64_t phase_ns[WASD_PHASES];
	char phase_names[WASD_PHASES][40];
	struct wasd_metric metric[METRICS_MAX];
	int n_metrics;
	bool improved;
	const char *warned[WARNINGS_MAX]; /* codes of the warnings that the log has had; ends at NULL */
	uint32_t *answered;               /* one block with the next three, by class: answers in the evaluation at hand */
	uint32_t *val_images, *train_images;
	int stands;       /* epochs in a row with the loss of guessing */
	char differs[32]; /* resumed, and this member of the fingerprint is another one */
};

/* Whether a strategy draws: then training statistics are of random shadow weights, and each mode needs its own. */
static inline bool trainer_draws(const struct wasd_trainer *t)
{
	return t->n_modes > 1;
}

/* Training steps done. */
static inline uint64_t trainer_step(const struct wasd_trainer *t)
{
	return (uint64_t)t->epoch * t->batches + t->next;
}

void trainer_say(const struct wasd_trainer *t, const char *level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* warnings.c: counts images by class; looks at the images, at an evaluation of t->val by one mode, at a finished epoch.
 */
enum wasd_status warnings_create(struct wasd_trainer *t, struct wasd_err *err);
void warnings_begin(struct wasd_trainer *t);
void warnings_evaluated(struct wasd_trainer *t, const struct trainer_mode *m);
void warnings_epoch(struct wasd_trainer *t, double train_loss);

/* Fails the run: WASD_ENUMERIC, and what to do about it. what: the loss, parameter or statistics that no longer is a
 * number. */
enum wasd_status trainer_diverged(const struct wasd_trainer *t, const char *what, struct wasd_err *err);

/* cJSON says nothing when memory ends between two members: j if it has all of them, else NULL. */
cJSON *trainer_complete(cJSON *j, int members);

/* The whole run as a checkpoint file, a fresh block for wasd_free. WASD_ENUMERIC: a weight or a statistic is not
 * finite. */
enum wasd_status snapshot_write(const struct wasd_trainer *t, void **bytes, size_t *len, struct wasd_err *err);
/* Puts a built trainer where the file was written. */
enum wasd_status snapshot_resume(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err);
/* Weights of another run as the start of this one: parameters and the statistics that training updates. */
enum wasd_status snapshot_start_from(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err);

#endif
