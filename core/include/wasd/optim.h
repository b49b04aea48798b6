/* wasd/optim.h - optimizers and learning-rate schedules: two tables of rows with a name and options. */
#ifndef WASD_OPTIM_H
#define WASD_OPTIM_H

#include "wasd/graph.h"
#include "wasd/spec.h"

#define WASD_OPTIM_OPTIONS 8
#define WASD_OPTIM_STATES 8

/* ---- optimizers ------------------------------------------------------------------------------ */

struct wasd_optim_args {
	const double *opt;
	double lr;
	uint64_t t; /* number of this step, from 1 */
};
struct wasd_optim_kind {
	const char *name, *summary;
	/* Numbers and booleans; terminated by a NULL name. The first is "lr", unless it searches. */
	struct wasd_field options[WASD_OPTIM_OPTIONS];
	const char *states[WASD_OPTIM_STATES + 1]; /* blocks of one value per parameter, initially 0; terminated by NULL */
	/* Updates elements 0..n-1 of one range in one pass over weights w, gradients g (unchanged) and state s[]. */
	void (*step)(const struct wasd_optim_args *a, size_t n, real *w, const real *g, real *const *s);
	const struct wasd_search *search; /* instead of states and step; NULL: it follows gradients */
};
const struct wasd_optim_kind *wasd_optim_kind_at(int i); /* NULL after the last */
/* Rows added by the program that links core, after those of the table; ends with NULL. A program without extra rows
 * defines nothing. */
extern const struct wasd_optim_kind *const wasd_optim_more[] __attribute__((weak));

struct wasd_optim;
/* spec: the job's "optimizer" object ({"type":"sgd","lr":0.01,...}; NULL: sgd with its defaults) for n parameters.
 * Errors carry "/train/optimizer/...". */
enum wasd_status wasd_optim_create(const cJSON *spec, size_t n, struct wasd_optim **out, struct wasd_err *err);
void wasd_optim_destroy(struct wasd_optim *o);
/* True with "decay": "weights": the caller lists what weight decay leaves alone, ranges [from, to) in rising order. */
bool wasd_optim_spares(const struct wasd_optim *o);
enum wasd_status wasd_optim_spare(struct wasd_optim *o, size_t from, size_t to, struct wasd_err *err);
/* A range of the same list that the optimizer does not touch at all. */
enum wasd_status wasd_optim_leave(struct wasd_optim *o, size_t from, size_t to, struct wasd_err *err);
/* From now on the block has n elements, at most as many as when the optimizer was created. */
void wasd_optim_resize(struct wasd_optim *o, size_t n);
/* Updates the master block from the gradient block once, on the thread team, with learning rate lr (the schedule's
 * value, not the option). Allocates nothing. */
void wasd_optim_step(struct wasd_optim *o, real *master, const real *grad, double lr);
double wasd_optim_lr(const struct wasd_optim *o); /* option "lr", the base rate of schedules; 0: it searches */
/* State for checkpoints: block i (n values) and its name ("momentum" | "m", "v"), NULL after the last; and the number
 * of steps done. */
real *wasd_optim_state(struct wasd_optim *o, int i, const char **name);
uint64_t wasd_optim_steps(const struct wasd_optim *o);
void wasd_optim_set_steps(struct wasd_optim *o, uint64_t t);
cJSON *wasd_optim_to_json(const struct wasd_optim *o); /* the object with every default filled in */

const struct wasd_optim_kind *wasd_optim_kind_of(const struct wasd_optim *o);
const double *wasd_optim_options(const struct wasd_optim *o); /* values of the row's options */

/* ---- optimizers that search ---------------------------------------------------------------------
 *
 * They need no gradient: a step tries changes of some parameters on one batch and keeps those that lower its loss. An
 * epoch has as many steps as the search needs to try every parameter once. Nothing but the parameters is carried from
 * step to step: what a step tries depends on the seed, the epoch and the step alone, so a resumed run does the same. */

struct wasd_search_setup {
	const double *opt;              /* values of the row's options */
	bool spares;                    /* "decay": "weights" */
	const struct wasd_graph *graph; /* borrowed for the lifetime of the search */
	int batch, epochs;
	uint64_t seed;
};
struct wasd_search_step {
	struct wasd_model *model;
	struct wasd_exec *exec; /* of the model, without training, with keep_all */
	int epoch;
	uint32_t step; /* of the epoch; both from 0 */
	const real *x; /* the batch's images and targets */
	int n;
	const struct wasd_targets *targets;
};
struct wasd_search_result {
	double loss; /* of the values that were kept */
	int hits;
	uint32_t tried, changed; /* scalars; changed: those that did not keep their value */
};
struct wasd_search {
	/* Small; the errors of the setup. WASD_EINVAL carries a JSON pointer. */
	enum wasd_status (*create)(const struct wasd_search_setup *setup, void **self, struct wasd_err *err);
	void (*destroy)(void *self);
	uint32_t (*steps)(const void *self); /* of an epoch */
	/* What steps [from, to) of an epoch cost, in forward passes of a whole batch. */
	double (*passes)(const void *self, uint32_t from, uint32_t to);
	size_t (*bytes)(const void *self);                           /* that begin allocates */
	enum wasd_status (*begin)(void *self, struct wasd_err *err); /* before the first step; may allocate */
	/* WASD_ENUMERIC: no value that was tried gives a finite loss. Allocates nothing. */
	enum wasd_status (*step)(void *self, const struct wasd_search_step *s, struct wasd_search_result *out,
	                         struct wasd_err *err);
	const char *changed; /* the metric of the share of scalars that an epoch changed */
};

/* ---- schedules --------------------------------------------------------------------------------- */

struct wasd_schedule_kind {
	const char *name, *summary;
	struct wasd_field options[WASD_OPTIM_OPTIONS]; /* without "warmup_epochs", which all kinds have */
	/* Factor on the base rate after warm-up. All three arguments are in epochs: position of the step (fractional), end
	 * of warm-up, length of the run. */
	double (*factor)(const double *opt, double epoch, double warmup, double epochs);
};
const struct wasd_schedule_kind *wasd_schedule_kind_at(int i);

struct wasd_schedule {
	const struct wasd_schedule_kind *kind;
	double opt[WASD_OPTIM_OPTIONS], warmup;
};
/* spec: the job's "schedule" object; NULL: constant. Errors carry "/train/schedule/...". */
enum wasd_status wasd_schedule_init(struct wasd_schedule *s, const cJSON *spec, struct wasd_err *err);
/* Learning rate of training step `step` (from 0) in a run of `epochs` epochs of `steps_per_epoch` steps. During warm-up
 * it rises linearly, (step+1)/(warmup steps) of the base rate; step 0 never has rate 0. A pure function: resuming needs
 * no state. */
double wasd_schedule_lr(const struct wasd_schedule *s, double base, uint64_t step, uint64_t steps_per_epoch,
                        int epochs);
cJSON *wasd_schedule_to_json(const struct wasd_schedule *s);

#endif
