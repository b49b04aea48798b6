/* wasd/train.h - one training run: turns a canonical job spec (web/docs/job-spec.md) and a dataset into metrics
 * and checkpoints.
 *
 * The trainer knows nothing about sockets, jobs or databases. It reports through hooks, which it calls on the
 * thread that called wasd_trainer_run. All reports count epochs and steps from 1; `step` counts over the whole
 * run. The same spec, dataset, thread count, backend and machine give the same bits, even if the run was
 * interrupted and resumed. */
#ifndef WASD_TRAIN_H
#define WASD_TRAIN_H

#include "wasd/tensor.h"
#include "wasd/json.h"

struct wasd_dataset;
struct wasd_graph;
struct wasd_model;
struct wasd_trainer;

enum wasd_train_phase {
	WASD_TRAIN_LOAD,
	WASD_TRAIN_PLAN,
	WASD_TRAIN_STEP,
	WASD_TRAIN_CALIBRATE,
	WASD_TRAIN_EVAL,
	WASD_TRAIN_CHECKPOINT
};
const char *wasd_train_phase_name(
	enum wasd_train_phase p); /* WASD_TRAIN_PHASES of protocol.h; the first two precede the run */

/* done of total: batches of the phase. step of steps: training batches of the epoch. loss: mean training loss of
 * the epoch so far, NaN before its first batch. eta_s: seconds to the end of the run, < 0: unknown. */
struct wasd_train_progress {
	int epoch, epochs;
	uint32_t step, steps, done, total;
	enum wasd_train_phase phase;
	double img_per_s, eta_s, loss;
};

/* The metrics of one epoch. Names are those of web/docs/api.md#metrics, and "<phase>_s" for the phases of
 * wasd_exec_times; a value may be NaN or infinite. */
struct wasd_metric {
	const char *name;
	double value;
};
struct wasd_train_metrics {
	int epoch;
	uint64_t step;
	uint64_t images; /* images of this epoch that this trainer has trained; 0: it resumed after the epoch's end */
	int n;
	const struct wasd_metric *v;
};

/* A complete checkpoint file in memory, borrowed during the hook. metrics: those of the last evaluated epoch (n
 * may be 0). info: {"arch","classes","input","was","draw","macs":{"aom","dom","slim"}}, borrowed; at the end of a run
 * with "adjust" also "adjusted": {"channels":[width,...],"macs","loss","rates":[rate,...],"fur":[X,...],
 * "next":{"values":{"channels":[width,...],"macs"},"spec":{"model":{...},"adjust":{...}|null}}}: what differs in the
 * spec of the next iteration, or of a job that trains the last network. */
struct wasd_train_checkpoint {
	int epoch;
	uint64_t step;
	const char *reason; /* "epoch", "cancel", "final" */
	const void *bytes;
	size_t len;
	struct wasd_train_metrics metrics;
	const cJSON *info;
};

/* The curves along the steps: the distance from the point at step s to the one before. A run of any length
 * has at most WASD_LOSS_POINTS points if pairs of points are merged whenever that number is reached. */
#define WASD_LOSS_POINTS 1000
uint64_t wasd_loss_stride(uint64_t step);

struct wasd_train_point {
	int epoch;
	uint64_t step;
	double loss;         /* mean of the batches' losses since the previous point */
	double lr;           /* of this step */
	double images_per_s; /* of the steps since the previous point that this process has trained; 0: not measurable */
};

struct wasd_train_hooks {
	void *ctx;                      /* any hook may be NULL */
	bool (*should_stop)(void *ctx); /* called before every mini-batch of every phase */
	void (*progress)(void *ctx, const struct wasd_train_progress
	                                *p); /* called after every mini-batch; must not allocate if the run should not */
	enum wasd_status (*metrics)(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err);
	enum wasd_status (*checkpoint)(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err);
	void (*log)(void *ctx, const char *level, const char *text); /* level: "info", "warn" */
	/* Called for something the user should know about the run; log also receives the first of each code. Codes:
	 * "class_never_predicted", "loss_stands_still", "alpha_near_zero", "alpha_negative", "few_validation_images",
	 * "class_without_training_images", "classes_unbalanced", "long_search". epoch 0: before the first. A warning is
	 * repeated while its condition lasts. */
	void (*warning)(void *ctx, const char *code, int epoch, const char *message);
	/* Called after a step that wasd_loss_stride divides. Must not allocate if the run should not. */
	void (*loss)(void *ctx, const struct wasd_train_point *p);
};

/* Limits a data set to what a job spec selects (wasd_dataset_select), or the spec of a checkpoint. Call it on the data
 * that the functions below, or those of wasd/profile.h, take. */
enum wasd_status wasd_train_select(struct wasd_dataset *d, const cJSON *spec, struct wasd_err *err);
enum wasd_status wasd_train_select_as(struct wasd_dataset *d, const void *file, size_t len, struct wasd_err *err);

struct wasd_train_opts {
	const cJSON *spec;               /* borrowed until destroy; absent members have their defaults */
	const struct wasd_dataset *data; /* borrowed until destroy */
	const void *resume;
	size_t resume_len; /* a checkpoint of the same spec and dataset, or NULL; borrowed during create */
	const void *init;
	size_t init_len; /* a checkpoint whose weights initialise the run (same architecture), or NULL */
	int until;       /* the run evaluates and pauses at the end of this epoch, unless it ends there; 0: it does not */
	const char *backend; /* NULL = the default */
	/* For estimates: 0, or a batch size instead of the spec's; as in wasd_exec_opts. */
	int batch;
	bool unmeasured;
	void (*planned)(void *ctx, int done, int of);
	void *ctx; /* for planned, which may be NULL; create calls it while it measures algorithms: layers done, of all */
};

/* Returns the errors of wasd_trainer_create that follow from spec and dataset alone, without measuring or
 * planning; ignores resume and init. Passes warnings that are known before the first step to h->warning. */
enum wasd_status wasd_train_check(const struct wasd_train_opts *o, const struct wasd_train_hooks *h,
                                  struct wasd_err *err);

/* What the run would take, without measuring, training or memory of its size; the errors of wasd_train_check. The
 * caller owns *out:
 * {"params","macs":{"aom","dom"},"memory":{PART:bytes},"images":{"train","val","test","evaluated","epoch"},
 * "checkpoint_bytes","epochs","steps"}. macs: for one image, dom with the recorded draw. evaluated: forward
 * passes of single images in all evaluations. epoch, steps: images and steps of an epoch. */
enum wasd_status wasd_train_estimate(const struct wasd_train_opts *o, cJSON **out, struct wasd_err *err);

/* Times steps of the run with batches of `batch` images, which is the spec's, for about budget_us. If they take longer,
 * it times smaller batches and scales. Leaves no trace: the tuning file is read, not written. */
struct wasd_train_times {
	int batch, steps; /* that were timed */
	double step_s;    /* one step of the whole batch */
	double image_s;   /* one image in an evaluation */
};
enum wasd_status wasd_train_measure(const struct wasd_train_opts *o, int batch, int64_t budget_us,
                                    struct wasd_train_times *out, struct wasd_err *err);

/* The thread count of the run that wrote a checkpoint, on which the last bits of its numbers depend; 0: not recorded.
 */
int wasd_train_threads(const void *checkpoint, size_t len);

/* Builds and allocates everything. Errors: WASD_EINVAL with the JSON pointer of a faulty member, WASD_ECORRUPT for
 * a checkpoint (names the tensor), WASD_EUNSUPPORTED, WASD_ENOMEM (also if the plan exceeds limits.memory_mb). */
enum wasd_status wasd_trainer_create(const struct wasd_train_opts *o, struct wasd_trainer **out, struct wasd_err *err);
void wasd_trainer_destroy(struct wasd_trainer *t);

struct wasd_train_info {
	size_t params;
	uint64_t macs;           /* for one image, with the weights as they are */
	int epochs, first_epoch; /* first_epoch: the epoch, counted from 1, in which run() continues */
	uint32_t steps_per_epoch;
	size_t planned_bytes;
	const cJSON *was; /* the object with all defaults, or false; borrowed */
};
struct wasd_train_info wasd_trainer_info(const struct wasd_trainer *t);
struct wasd_model *wasd_trainer_model(struct wasd_trainer *t);

enum wasd_train_end { WASD_TRAIN_DONE, WASD_TRAIN_EARLY_STOPPED, WASD_TRAIN_CANCELLED, WASD_TRAIN_PAUSED };
const char *wasd_train_end_name(enum wasd_train_end e); /* "done", "early_stopped", "cancelled", "paused" */
/* Runs to the end, to opts.until or until should_stop; by then the checkpoint hook has received a "final" or "cancel"
 * checkpoint, or at opts.until an "epoch" one.
 * *epoch (may be NULL): the last epoch begun. WASD_ENUMERIC: the loss became NaN or infinite. An error returned by
 * a hook ends the run. Call it once per trainer. */
enum wasd_status wasd_trainer_run(struct wasd_trainer *t, const struct wasd_train_hooks *h, enum wasd_train_end *end,
                                  int *epoch, struct wasd_err *err);

/* What the bits of a run depend on besides spec and data:
 * {"wasd","build","real","isa","openblas","coretype","threads"}. The caller owns it; NULL when out of memory.
 * wasd_build_id: the version of the program and of its compiler. */
cJSON *wasd_fingerprint(void);
const char *wasd_build_id(void);

#endif
