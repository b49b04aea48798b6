/* wasd/train.h - one training run: a canonical job spec (web/docs/job-spec.md) and a dataset become metrics and
 * checkpoints.
 *
 * The trainer knows nothing of sockets, jobs or databases: everything leaves through the hooks, which are called on the
 * thread that called wasd_trainer_run. Epochs and steps are counted from 1 in everything that is reported; `step` is
 * global. Equal spec, dataset, thread count, backend and machine give equal bits, also when the run was cut and resumed
 * anywhere. */
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
	enum wasd_train_phase p); /* WASD_TRAIN_PHASES of protocol.h; the first two are before the run */

/* done of total: batches of the phase. step of steps: training batches of the epoch. loss: running mean of the epoch's
 * training loss, NaN before its first. eta_s: until the end of the run, < 0: not known yet. */
struct wasd_train_progress {
	int epoch, epochs;
	uint32_t step, steps, done, total;
	enum wasd_train_phase phase;
	double img_per_s, eta_s, loss;
};

/* One epoch's numbers. Names are those of web/docs/api.md#metrics and "<phase>_s" for the phases of wasd_exec_times;
 * a value may be NaN or Inf. */
struct wasd_metric {
	const char *name;
	double value;
};
struct wasd_train_metrics {
	int epoch;
	uint64_t step;
	int n;
	const struct wasd_metric *v;
};

/* A finished checkpoint file in memory, borrowed during the hook. metrics: those of the last evaluated epoch (n may be
 * 0). info: {"arch","classes","input","was","draw","macs":{"aom","dom"}}, borrowed. */
struct wasd_train_checkpoint {
	int epoch;
	uint64_t step;
	const char *reason; /* "epoch", "cancel", "final" */
	const void *bytes;
	size_t len;
	struct wasd_train_metrics metrics;
	const cJSON *info;
};

/* The training loss along the steps: at step s a point follows the one before by this much, so that a run of any length
 * has at most WASD_LOSS_POINTS points when, each time there are so many, pairs of them are made one. */
#define WASD_LOSS_POINTS 1000
uint64_t wasd_loss_stride(uint64_t step);

struct wasd_train_hooks {
	void *ctx;                      /* any hook may be NULL */
	bool (*should_stop)(void *ctx); /* asked before every mini-batch of every phase */
	void (*progress)(
		void *ctx,
		const struct wasd_train_progress *p); /* after every mini-batch; allocates nothing if the run is to */
	enum wasd_status (*metrics)(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err);
	enum wasd_status (*checkpoint)(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err);
	void (*log)(void *ctx, const char *level, const char *text); /* level: "info", "warn" */
	/* Something about the run that its user should know; also told by log, once for each code. Codes:
	 * "class_never_predicted", "loss_stands_still", "alpha_near_zero", "alpha_negative", "few_validation_images",
	 * "class_without_training_images". epoch 0: before the first. Comes again while it lasts. */
	void (*warning)(void *ctx, const char *code, int epoch, const char *message);
	/* After a step whose number wasd_loss_stride divides: the mean of the batches' losses since the point before.
	 * Allocates nothing if the run is to. */
	void (*loss)(void *ctx, int epoch, uint64_t step, double mean);
};

struct wasd_train_opts {
	const cJSON *spec;               /* borrowed until destroy; absent members take their defaults */
	const struct wasd_dataset *data; /* borrowed until destroy */
	const void *resume;
	size_t resume_len; /* a checkpoint of the same spec and dataset, or NULL; borrowed during create */
	const void *init;
	size_t init_len;     /* a checkpoint whose weights start the run (same architecture), or NULL */
	const char *backend; /* NULL = the default */
	void (*planned)(void *ctx, int done, int of);
	void *ctx; /* NULL: nobody asks. While create measures algorithms: layers done */
};

/* What wasd_trainer_create refuses by spec and data set alone, with its errors, without measuring or planning anything;
 * resume and init are not looked at. Warnings that are known before the first step go to h->warning. */
enum wasd_status wasd_train_check(const struct wasd_train_opts *o, const struct wasd_train_hooks *h,
                                  struct wasd_err *err);

/* Builds everything and allocates everything. Errors: WASD_EINVAL with the JSON pointer of a faulty member,
 * WASD_ECORRUPT for a checkpoint (names the tensor), WASD_EUNSUPPORTED, WASD_ENOMEM (also when limits.memory_mb is too
 * little for the plan). */
enum wasd_status wasd_trainer_create(const struct wasd_train_opts *o, struct wasd_trainer **out, struct wasd_err *err);
void wasd_trainer_destroy(struct wasd_trainer *t);

struct wasd_train_info {
	size_t params;
	uint64_t macs;           /* of one image, by the weights as they are */
	int epochs, first_epoch; /* first_epoch: the epoch that run() goes on with, from 1 */
	uint32_t steps_per_epoch;
	size_t planned_bytes;
	const cJSON *was; /* the object with all defaults, or false; borrowed */
};
struct wasd_train_info wasd_trainer_info(const struct wasd_trainer *t);
struct wasd_model *wasd_trainer_model(struct wasd_trainer *t);

enum wasd_train_end { WASD_TRAIN_DONE, WASD_TRAIN_EARLY_STOPPED, WASD_TRAIN_CANCELLED };
const char *wasd_train_end_name(enum wasd_train_end e); /* "done", "early_stopped", "cancelled" */
/* Runs to the end or until should_stop; the checkpoint hook has then had a "final" or "cancel" checkpoint. *epoch (may
 * be NULL): the last epoch that was begun. WASD_ENUMERIC: the loss became NaN or infinite. What a failing hook returned
 * ends the run. Once per trainer. */
enum wasd_status wasd_trainer_run(struct wasd_trainer *t, const struct wasd_train_hooks *h, enum wasd_train_end *end,
                                  int *epoch, struct wasd_err *err);

/* What the bits of a run depend on besides spec and data:
 * {"wasd","build","real","isa","openblas","coretype","threads"}. The caller's; NULL when out of memory. And the
 * program's version with its compiler's. */
cJSON *wasd_fingerprint(void);
const char *wasd_build_id(void);

#endif
