/* weights/chain.h - the strategies of one run, in the order of its job spec (strategy.h says what each does).
 *
 *     create, attach                    the model's linked parameters get a place for their effective weights
 *     apply                             after every change of the master: creation, resuming, the optimizer's step
 *     draw, forward, loss, backward     as often as a step takes
 *     pull                              the gradient block becomes that of the master; then the optimizer
 *
 * Without strategies every call is free. Belongs to the thread that trains; only create and attach allocate.
 */
#ifndef WEIGHTS_CHAIN_H
#define WEIGHTS_CHAIN_H

#include "weights/strategy.h"

struct weight_chain;
/* What the job says: `weights`, a list of {"type", options}, or `was`, the short form of a list of one: its object,
 * false for the weights as they are, NULL for what the network's authors did (paper). All borrowed during create; the
 * graph for as long as the chain lives. */
struct chain_spec {
	const cJSON *was, *weights;
	const char *paper;
	uint64_t seed;
};
/* Errors carry the pointer "/was/..." or "/weights/0/...". WASD_EINVAL where both are given. */
enum wasd_status chain_create(const struct wasd_graph *g, const struct chain_spec *spec, struct weight_chain **out,
                              struct wasd_err *err);
void chain_destroy(struct weight_chain *c);

/* ---- links */

/* Before the model's first exec. The model is borrowed from now on. */
enum wasd_status chain_attach(struct weight_chain *c, struct wasd_model *m, struct wasd_err *err);
void chain_apply(struct weight_chain *c);
/* Once after the backward passes of a step: what they added to linked parameters was the gradient of the effective
 * weights. */
void chain_pull(struct weight_chain *c);
/* Whether parameter `param` has a link. */
bool chain_links(const struct weight_chain *c, int param);

/* ---- the draw */

/* The recipe of a pass, NULL = the effective weights as they are. r NULL: the chain's own generator, for training
 * steps; else that one. */
enum wasd_status chain_draw(struct weight_chain *c, const struct weight_when *when, struct wasd_rng *r,
                            const struct wasd_recipe **out, struct wasd_err *err);
const struct wasd_recipe *chain_recorded(const struct weight_chain *c); /* NULL: no strategy draws, there is no DOM */
cJSON *chain_recorded_json(const struct weight_chain *c);               /* null when none draws; NULL: no memory */
cJSON *chain_draw_json(
	const struct weight_chain *c); /* the object of the strategy that draws, or false; NULL: no memory */

/* ---- what travels in a checkpoint */

/* Tensor i of all strategies' states, named STRATEGY.NAME; false after the last. */
struct chain_state {
	const struct weight_strategy *of;
	struct weight_state tensor;
};
bool chain_state(const struct weight_chain *c, int i, struct chain_state *out);
/* The generator's four words as a run needs them that goes on in front of `batch` of an epoch, and the stream's name.
 */
const uint64_t *chain_generator(const struct weight_chain *c, uint32_t batch, const char **stream);
/* Generator and recorded recipe of a checkpoint that was written at `when`; after the states have been loaded. */
enum wasd_status chain_resume(struct weight_chain *c, const uint64_t generator[4], const cJSON *recorded,
                              const struct weight_when *when, struct wasd_err *err);

/* ---- what is told of it */

bool chain_metric(const struct weight_chain *c, int i, int epoch, const char **name,
                  double *value); /* false after the last */
bool chain_warning(const struct weight_chain *c, int i, const char **code, char *text,
                   size_t size); /* false after the last */

#endif
