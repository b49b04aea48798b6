/* weights/chain.h - the strategies of one run, in the order of its job spec (see strategy.h).
 *
 *     create, attach                    allocates effective weights for the model's linked parameters
 *     apply                             after every change of the master weights: creation, resume, optimizer step
 *     plan, begin                       when the run's own plan and the optimizer's state exist; may allocate
 *     event                             before every step, and after the last one
 *     draw, passes                      forward, loss and backward, once or several times per step
 *     pull                              turns the gradient block into the gradient of the master; then the optimizer
 *     after_step                        then apply
 *
 * Without strategies every call is free. Used by the training thread only. Only create, attach, plan and begin
 * allocate.
 */
#ifndef WEIGHTS_CHAIN_H
#define WEIGHTS_CHAIN_H

#include "weights/strategy.h"

struct weight_chain;
/* From the job spec: `weights`, a list of {"type", options}, or `was`, the short form of a list with WAS alone: its
 * object, false for plain weights, or NULL for the settings of the network's authors (paper). All are borrowed during
 * create; the graph is borrowed for the lifetime of the chain. */
struct chain_spec {
	const cJSON *was, *weights;
	const char *paper;
	uint64_t seed;
	int epochs;    /* 0: unknown */
	size_t stored; /* as in struct weight_setup */
	bool smaller;  /* the network is not the spec's, but what a strategy has made of it (cuts) */
};
/* Errors carry the pointer "/was/..." or "/weights/0/...". WASD_EINVAL if both are given. */
enum wasd_status chain_create(const struct wasd_graph *g, const struct chain_spec *spec, struct weight_chain **out,
                              struct wasd_err *err);
void chain_destroy(struct weight_chain *c);

/* ---- links */

/* Call before the model's first exec. The model is borrowed for the lifetime of the chain. */
enum wasd_status chain_attach(struct weight_chain *c, struct wasd_model *m, struct wasd_err *err);
void chain_apply(struct weight_chain *c);
/* Call once after the backward passes of a step. They add the gradient of the effective weights to linked parameters;
 * this turns it into the gradient of the master weights. */
void chain_pull(struct weight_chain *c);
/* A step of the learned tensors; call after pull. steps: those that the optimizer has done. */
void chain_learn(struct weight_chain *c, double lr, uint64_t steps);
/* True if a strategy changes the master weights between the steps, as those do that prune. */
bool chain_masks(const struct weight_chain *c);
/* True if parameter `param` has a link. */
bool chain_links(const struct weight_chain *c, int param);
/* True if a strategy composes it: its place in the master block is then written by apply, and its gradient is 0 after
 * pull. */
bool chain_composes(const struct weight_chain *c, int param);
/* The strategy that composes any; NULL: none. */
const struct weight_strategy *chain_composer(const struct weight_chain *c);
/* The compact one, which composes parameter `param` (-1: any); NULL: none. */
const struct weight_strategy *chain_compact(const struct weight_chain *c, int param);
/* Composes into a block of parameters; those that are not composed stay. */
void chain_compose(const struct weight_chain *c, real *block);
/* Tensor i of those that the strategies learn, from create on; false after the last. */
bool chain_learned(const struct weight_chain *c, int i, struct weight_learned *out);

/* ---- passes (strategy.h) */

/* Plans the networks of the strategies. Call after attach, when the run's own exec exists. */
enum wasd_status chain_plan(struct weight_chain *c, const struct weight_plan *p, struct wasd_err *err);
/* Bytes that chain_plan takes; may be called before. */
enum wasd_status chain_price(const struct weight_chain *c, const struct wasd_exec_opts *o, size_t *bytes,
                             struct wasd_err *err);
/* Forward, loss and backward of a step: adds to the gradient of the effective weights. */
enum wasd_status chain_passes(struct weight_chain *c, const struct weight_passes *p, double *loss, int *hits,
                              struct wasd_err *err);
/* Network i of the strategies; false after the last. */
bool chain_network(const struct weight_chain *c, int i, struct weight_network *out);

/* ---- during the run (strategy.h) */

/* Call after attach, when the optimizer exists. optimizer: its object in the job spec (may be NULL), by which learned
 * tensors of strategies are updated too. */
enum wasd_status chain_begin(struct weight_chain *c, const cJSON *optimizer, const struct weight_run *now,
                             struct wasd_err *err);
/* Bytes that chain_begin takes beside the optimizer's state of what is learned; states: of the optimizer. May be called
 * before. */
size_t chain_begin_bytes(const struct weight_chain *c, int states);
/* Forms the effective weights again if a strategy has changed the master weights. */
void chain_event(struct weight_chain *c, const struct weight_run *now);
void chain_after_step(struct weight_chain *c, const struct weight_run *now);
void chain_at_epoch(struct weight_chain *c, const struct weight_run *now);
/* Will the run begin again? */
bool chain_rehearses(const struct weight_chain *c);
/* Is the network to lose its dead channels before the epoch that comes next? */
bool chain_cuts(const struct weight_chain *c, const struct weight_run *now);
/* The JSON pointer of the member that asks for it; NULL: at no time of the run. */
const char *chain_cuts_at(const struct weight_chain *c);
/* Layer i of those that become two; false after the last. */
bool chain_split(const struct weight_chain *c, int i, struct weight_split *out);
/* Tensor `learned` of the strategy that splits: its values (block -1), or block `block` of the optimizer's state for
 * them, in the tensor's shape. */
const real *chain_split_values(const struct weight_chain *c, int learned, int block);
struct weight_pace chain_pace(const struct weight_chain *c, const struct weight_run *now);

/* ---- the draw */

/* Draws the recipe of a pass; NULL = the effective weights unchanged. r: the generator; NULL = the chain's own, for
 * training steps. */
enum wasd_status chain_draw(struct weight_chain *c, const struct weight_when *when, struct wasd_rng *r,
                            const struct wasd_recipe **out, struct wasd_err *err);
/* The recorded recipe. NULL: no strategy draws, so there is no DOM. */
const struct wasd_recipe *chain_recorded(const struct weight_chain *c);
/* The same as JSON; JSON null if no strategy draws. NULL: no memory. */
cJSON *chain_recorded_json(const struct weight_chain *c);
/* The JSON object of the strategy that draws, or JSON false; NULL: no memory. */
cJSON *chain_draw_json(const struct weight_chain *c);

/* ---- checkpoint contents */

/* Tensor i of the states of all strategies, named STRATEGY.NAME; false after the last. First the states themselves,
 * then the learned tensors with the optimizer's state for them, whose sizes may depend on the former: a reader calls
 * chain_arrange in between. */
struct chain_state {
	const struct weight_strategy *of;
	bool learned;
	struct weight_state tensor;
};
bool chain_state(const struct weight_chain *c, int i, struct chain_state *out);
enum wasd_status chain_arrange(struct weight_chain *c, struct wasd_err *err);
/* The generator's four words for a run that resumes before `batch` of an epoch, and the stream's name. */
const uint64_t *chain_generator(const struct weight_chain *c, uint32_t batch, const char **stream);
/* Restores generator and recorded recipe from a checkpoint written at `when`. Call after the states have been loaded.
 */
enum wasd_status chain_resume(struct weight_chain *c, const uint64_t generator[4], const cJSON *recorded,
                              const struct weight_when *when, struct wasd_err *err);

/* ---- metrics and warnings */

/* Metric i of an epoch, warning i; false after the last. */
bool chain_metric(const struct weight_chain *c, int i, int epoch, const char **name, double *value);
bool chain_warning(const struct weight_chain *c, int i, const char **code, char *text, size_t size);

#endif
