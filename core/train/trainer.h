/* train/trainer.h - the trainer's internals, shared by its files: create.c builds it, trainer.c runs it,
 * snapshot.c saves and resumes it, search.c makes its steps without gradients, adjust.c finds better widths at its end,
 * warnings.c checks its progress. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "models/adjust.h"
#include "modes/mode.h"
#include "train/measure.h"
#include "train/spec.h"
#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/optim.h"
#include "wasd/pixel.h"
#include "wasd/protocol.h"
#include "wasd/train.h"
#include "weights/chain.h"

enum trainer_state { TRAINING, CALIBRATING, EVALUATING, CLOSING, COMPLETED, STOPPED, PAUSED };

#define METRICS_OWN 64 /* of the trainer itself, at most; the strategies may have the rest of WASD_METRICS_MAX */
#define WARNINGS_MAX 32

/* A mode that the run measures and lists in its checkpoints. */
enum trainer_metric { VAL_LOSS, VAL_ACC, TEST_LOSS, TEST_ACC, EVAL_SPEED, TRAINER_METRICS };
struct trainer_mode {
	char name[WASD_MODE_LEN];
	char label[24];                                 /* for display: "AOM" */
	char metric[TRAINER_METRICS][WASD_METRIC_NAME]; /* "val_loss_aom", ... */
	const struct mode_kind *kind;
	const struct wasd_recipe *recipe; /* owned by the chain; NULL: the weights as they are */
	cJSON *recipe_json;               /* null if recipe is NULL */
	enum wasd_stats_set set;
	char statistics[WASD_MODE_LEN + 1]; /* prefix of their tensor names in a file */
	struct weight_network network;      /* a strategy's, with statistics in the set of its model; zeros: the run's */
	bool evaluated;                     /* eval.modes names it */
	bool measured;                      /* a calibration has written the set */
	double images_per_s;                /* of this attempt's last evaluation; 0: none */
	uint32_t *silent;                   /* per class: consecutive evaluations in which the class was never predicted */
};
#define TRAINER_MODES 12

struct wasd_trainer {
	enum trainer_state state;
	struct train_spec spec;
	const cJSON *spec_json;
	const struct wasd_dataset *data;
	const char **class_names;
	struct wasd_pixels pixels;
	double *class_weights; /* NULL: all classes count the same */

	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_exec *exec;
	cJSON *network;             /* of graph, as a spec's "model", once the run has made it smaller; NULL: the spec's */
	struct wasd_exec_opts eval; /* the evaluation plan is made anew each time, since the weights have changed */
	size_t eval_bytes;          /* memory of an evaluation */
	size_t own_bytes;           /* of the strategies: their own networks, what begin takes */
	struct weight_chain *weights;            /* forms the weights of each pass */
	struct weight_run run;                   /* what its strategies see between two steps */
	uint64_t acted;                          /* the last step whose event they had, counted from 1; 0: none */
	struct weight_block *blocks;             /* the optimizer's state; ends at a NULL name */
	struct trainer_mode mode[TRAINER_MODES]; /* AOM first, then DOM if a strategy draws, then networks of a strategy */
	int n_modes, n_own;                      /* n_own: of the run's own network */
	cJSON *was_json;                         /* the drawing strategy's object, or false */
	cJSON *info, *fingerprint;
	uint64_t slim_macs; /* of the network without its dead channels, at the last checkpoint; 0: none are dead */
	struct wasd_optim *optim;
	const struct wasd_optim_kind *optim_kind;
	const struct wasd_search *search; /* of optim_kind; NULL: it follows gradients */
	void *searching;
	struct adjust_net widths; /* that the run adjusts at its end; n 0: none */
	struct wasd_schedule schedule;
	struct wasd_holdout holdout;
	char holdout_digest[WASD_SHA256_HEX]; /* of the held-out indices; "" if none */
	struct wasd_loader *train, *calib;
	struct wasd_loader *val,
		*test; /* val: the images that rank the run, which are the test images if none are held out; NULL: none */
	uint32_t *subset; /* the images of calib */
	bool has_batchnorm;

	/* the position, and what checkpoints store with it */
	int epoch;
	uint32_t next, batches; /* batches: steps of an epoch */
	struct wasd_rng rng_dropout;
	double loss_sum;
	uint64_t hits, seen;
	uint64_t tried, changed; /* scalars of the epoch, by an optimizer that searches */
	double point_sum;        /* sum of the losses since the last point of the curve */
	uint64_t point_n;
	double best, stop_best; /* NaN: none yet */
	int stop_bad;           /* evaluations since stop_best */

	/* this attempt only */
	int until; /* as in struct wasd_train_opts */
	const struct wasd_train_hooks *hooks;
	double lr;
	int64_t epoch_us, train_us;      /* start of the epoch in this attempt; training time of the epoch */
	uint64_t trained, stalled_us;    /* images trained, and stall time, since then */
	int64_t step_begun_us, point_us; /* start of the step; time of the steps since the last point of the curves */
	uint64_t point_images;
	uint64_t begun;           /* step at which this attempt began */
	double step_us, close_us; /* averages for the ETA: one batch; the close of an epoch */
	uint64_t phase_ns[WASD_PHASES];
	char phase_names[WASD_PHASES][40];
	struct wasd_metric metric[WASD_METRICS_MAX];
	int n_metrics;
	bool improved;
	const char *warned[WARNINGS_MAX]; /* codes of the warnings already logged; ends at NULL */
	uint32_t
		*answered; /* per class: predictions in the current evaluation; one block with the next two and mode[].silent */
	uint32_t *val_images, *train_images;
	int stands;       /* consecutive epochs whose loss is that of guessing */
	char differs[32]; /* after a resume: the fingerprint's first member that differs */
};

/* Whether a strategy draws. */
static inline bool trainer_draws(const struct wasd_trainer *t)
{
	return t->n_own > 1;
}

/* Whether each mode needs statistics of its own: those of training belong to random shadow weights, or to one of
 * several networks. */
static inline bool trainer_parts_statistics(const struct wasd_trainer *t)
{
	return t->n_modes > 1;
}

/* Whether a calibration measures the statistics that are served: training leaves none that fit. */
static inline bool trainer_measures(const struct wasd_trainer *t)
{
	return (trainer_parts_statistics(t) || t->search) && t->has_batchnorm;
}

/* The statistics that a checkpoint has for a mode of the run's own network: if it is the only mode, those of training.
 */
static inline enum wasd_stats_set trainer_stats(const struct wasd_trainer *t, int mode)
{
	return trainer_parts_statistics(t) ? t->mode[mode].set : WASD_STATS_TRAIN;
}

static inline struct wasd_model *trainer_model(const struct wasd_trainer *t, const struct trainer_mode *m)
{
	return m->network.slim ? m->network.model : t->model;
}

static inline struct wasd_exec *trainer_exec(const struct wasd_trainer *t, const struct trainer_mode *m)
{
	return m->network.slim ? m->network.exec : t->exec;
}

static inline uint64_t trainer_macs(const struct wasd_trainer *t, const struct trainer_mode *m)
{
	return wasd_graph_macs(m->network.slim ? wasd_slim_graph(m->network.slim) : t->graph, m->recipe);
}

/* The mode with the recorded draw, or AOM. */
static inline struct trainer_mode *trainer_drawn(struct wasd_trainer *t)
{
	return &t->mode[t->n_own - 1];
}

/* Values that the strategies learn, at most. */
static inline size_t trainer_learned(const struct wasd_trainer *t)
{
	struct weight_learned l;
	size_t n = 0;
	for (int i = 0; chain_learned(t->weights, i, &l); i++)
		n += l.room ? l.room : weight_learned_elements(&l);
	return n;
}

/* Number of training steps done. */
static inline uint64_t trainer_step(const struct wasd_trainer *t)
{
	return (uint64_t)t->epoch * t->batches + t->next;
}

void trainer_say(const struct wasd_trainer *t, const char *level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* What the strategies of the weights see when `step` steps are done. */
const struct weight_run *trainer_run_at(struct wasd_trainer *t, uint64_t step);

/* warnings.c: create counts images per class; begin checks the images; evaluated checks one mode's evaluation on
 * t->val; epoch checks a finished epoch. */
enum wasd_status warnings_create(struct wasd_trainer *t, struct wasd_err *err);
void warnings_begin(struct wasd_trainer *t);
void warnings_evaluated(struct wasd_trainer *t, const struct trainer_mode *m);
void warnings_epoch(struct wasd_trainer *t, double train_loss);

/* adjust.c: create checks that the widths can be adjusted; measure finds how, on t->val with the statistics of AOM, and
 * puts it into t->info. */
enum wasd_status train_adjust_create(struct wasd_trainer *t, struct wasd_err *err);
enum wasd_status train_adjust_measure(struct wasd_trainer *t, struct measure_tick tick, struct wasd_err *err);

/* search.c (train_search_): create finds the kind of the optimizer, and makes its search if it has one, by settings
 * alone. */
enum wasd_status train_search_create(struct wasd_trainer *t, struct wasd_err *err);
/* Of any run, also without a search: the memory of its steps; how its passes are planned. */
enum wasd_status train_search_begin(struct wasd_trainer *t, struct wasd_err *err);
void train_search_destroy(struct wasd_trainer *t);
void train_search_plan(const struct wasd_trainer *t, struct wasd_exec_opts *o);
enum wasd_status train_search_step(struct wasd_trainer *t, const struct wasd_batch *b,
                                   const struct wasd_targets *targets, double *loss, int *hits, struct wasd_err *err);
size_t train_search_bytes(const struct wasd_trainer *t); /* of train_search_begin; of any run */
/* The cost of an epoch's mean step, relative to the mean of steps [from, to). */
double train_search_mean_step(const struct wasd_trainer *t, uint32_t from, uint32_t to);
void train_search_describe(const struct wasd_trainer *t, char *text, size_t size); /* what the run costs, for people */
/* Call after every step of any run: logs what the run takes when enough steps have been made since step `begun`. */
void train_search_say_time(const struct wasd_trainer *t, uint64_t begun);

/* Fails the run with WASD_ENUMERIC and a message that suggests a remedy. what: the loss, parameter or statistics
 * that became NaN or infinite. */
enum wasd_status trainer_diverged(const struct wasd_trainer *t, const char *what, struct wasd_err *err);

/* What depends on the network's shape: create.c. */
struct trainer_net {
	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_exec *exec;
	struct weight_chain *weights;
	struct weight_block *blocks;
	struct wasd_optim *optim;
	cJSON *network;
};
/* Puts another network, with its first weights and a strategy that has not acted yet, in the place of the trainer's.
 * The position stays. network: a spec's "model" for the same images and classes. *old: what it replaces, for
 * trainer_net_done. The trainer is unchanged after a failure. Only for runs whose strategy cuts. A recipe that the
 * trainer's modes have is that of the strategies that go. */
enum wasd_status trainer_reshape(struct wasd_trainer *t, const cJSON *network, struct trainer_net *old,
                                 struct wasd_err *err);
void trainer_net_done(struct trainer_net *n);
/* The facts that come with every checkpoint. NULL: no memory. */
cJSON *trainer_make_info(const struct wasd_trainer *t);
/* surgery.c: the trainer goes on without the channels that are dead, or with two layers for each that is split, with
 * the same logits; and before the run, whether that can be done to its network: WASD_EINVAL with a pointer, of a run
 * whose strategy cuts. */
enum wasd_status trainer_check_cut(const struct wasd_trainer *t, struct wasd_err *err);
enum wasd_status trainer_cut(struct wasd_trainer *t, struct wasd_err *err);

/* Makes everything that follows from spec and dataset alone: small, and without measurements. */
enum wasd_status trainer_settings(struct wasd_trainer *t, const struct wasd_train_opts *o, struct wasd_err *err);
double trainer_rss_bytes(void); /* resident memory of this process */

/* cJSON does not report running out of memory between two members. Returns j if it has all of them, else NULL. */
cJSON *trainer_complete(cJSON *j, int members);
/* Adds the item, or deletes it if there is no memory for that. */
void trainer_add(cJSON *j, const char *key, cJSON *item);

/* Writes the whole run as a checkpoint file, a new block to be freed with wasd_free. WASD_ENUMERIC: a weight or a
 * statistic is not finite. */
enum wasd_status snapshot_write(const struct wasd_trainer *t, void **bytes, size_t *len, struct wasd_err *err);
/* Moves a newly built trainer to the position of the file. */
enum wasd_status snapshot_resume(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err);
/* Starts this run from the weights of another: parameters and the statistics that training updates. */
enum wasd_status snapshot_start_from(struct wasd_trainer *t, const void *bytes, size_t len, struct wasd_err *err);

#endif
