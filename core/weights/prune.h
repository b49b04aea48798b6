/* weights/prune.h - masks over the weights of layers: which weights live, and which die next. For the strategies that
 * prune; each has one struct prune.
 *
 * Dead weights stay dead: masks are nested. A layer keeps at least one weight. Only prune_create allocates. Selection
 * runs on one thread and depends on keys and indices alone. */
#ifndef WEIGHTS_PRUNE_H
#define WEIGHTS_PRUNE_H

#include "wasd/protocol.h"
#include "weights/strategy.h"

struct prune_layer {
	const struct weight_param *param;
	const char *name; /* of the layer */
	uint64_t *alive;  /* bit k of word i: weight 64 i + k */
	size_t first;     /* its place among the weights of all layers */
	size_t n, living;
	size_t last; /* private: the weight that would die last */
};

struct prune {
	struct prune_layer *layer;
	int n_layers;
	size_t n, living; /* of all layers */
	/* private */
	uint64_t *words;
	struct prune_piece *piece;
	int n_pieces;
	size_t *histogram;
	char (*metric)[WASD_METRIC_NAME + 1]; /* per layer; "" if the layer's name is too long */
	real *block;                          /* of the pass in progress */
};

/* What an event ranks: each layer alone, or all together. The names end with NULL. */
enum prune_scope { PRUNE_LAYER, PRUNE_GLOBAL };
extern const char *const prune_scopes[];

/* "applies" of a strategy that prunes: all but depthwise kernels. */
bool prune_applies(const struct wasd_graph *g, wasd_node n);

/* For the parameters of the strategy, all alive. Call prune_done also after a failure. */
enum wasd_status prune_create(struct prune *p, const struct weight_setup *setup, struct wasd_err *err);
void prune_done(struct prune *p);
/* The masks as tensors of a strategy's state, named after the parameters; and what to do after they were loaded. */
bool prune_state(const struct prune *p, int i, struct weight_state *out);
void prune_recount(struct prune *p);
/* "resumed" and "after_step" of a strategy whose struct begins with its struct prune. */
enum wasd_status prune_resumed(void *self, const real *master, struct wasd_err *err);
void prune_after_step(void *self, const struct weight_run *r);
/* Sets the dead values of a block with the layout of the master weights to 0, on the thread team. */
void prune_mask(struct prune *p, real *block);
/* Calls fn for pieces of the layers, on the thread team. */
struct prune_piece {
	int layer;
	size_t from, to; /* from: a multiple of 64 */
};
void prune_each(struct prune *p, void (*fn)(void *ctx, const struct prune_piece *at), void *ctx);
/* The living share of all weights, then that of each layer; false after the last. */
bool prune_metric(const struct prune *p, int i, const char **name, double *value);

static inline bool prune_lives(const struct prune_layer *l, size_t i)
{
	return l->alive[i / 64] >> i % 64 & 1;
}

/* ---- who dies ---- */

#define PRUNE_ALL (-1) /* instead of a layer: all of them, in their order */

/* What living weights are ranked by: the lowest die first. prune_key_of makes a key of a number that is not negative.
 */
typedef uint64_t (*prune_key)(const void *ctx, int layer, size_t i);
uint64_t prune_key_of(double v);
/* Keys without order, from stream "prune" of the seed: a salt for each event and layer. */
uint64_t prune_random_salt(uint64_t seed, uint64_t step, int layer);
uint64_t prune_random_key(uint64_t salt, size_t i);
double prune_key_value(uint64_t key);

enum prune_ties { PRUNE_TIES_LOW, PRUNE_TIES_HIGH }; /* of equal keys, which index dies first */
/* Kills the n lowest, or as many as can die. Returns how many did. */
size_t prune_kill(struct prune *p, int layer, size_t n, prune_key key, const void *ctx, enum prune_ties ties);
/* Kills all below `key`. */
size_t prune_kill_below(struct prune *p, int layer, uint64_t below, prune_key key, const void *ctx);
/* The key at place `rank` of the living, from 0, the lowest first. rank < living. */
uint64_t prune_rank(struct prune *p, int layer, size_t rank, prune_key key, const void *ctx);

/* How the number that die follows from a sparsity, of the range's weights with the dead ones. Only the first gives
 * exact counts; ties of the second and third stay. PRUNE_TIES: the kth largest and all that equal it stay, k by
 * prune_keep_count (TensorFlow's pruning_impl.py). PRUNE_PERCENTILE: what lies below that percentile, interpolated
 * linearly, dies (rewinding-iclr20-public). PRUNE_HISTOGRAM: what lies in the lowest of 255 bins with less than that
 * share dies (TensorFlow contrib's pruning.py). The last two are for keys that are numbers. */
enum prune_rule { PRUNE_EXACT, PRUNE_TIES, PRUNE_PERCENTILE, PRUNE_HISTOGRAM };
/* The keys below it die; 0: none do. With PRUNE_EXACT, some of those that equal it as well. */
uint64_t prune_threshold(struct prune *p, int layer, double sparsity, enum prune_rule rule, prune_key key,
                         const void *ctx);
size_t prune_to(struct prune *p, int layer, double sparsity, enum prune_rule rule, prune_key key, const void *ctx);

/* How many of n weights a sparsity leaves: n (1 - s) in float32, rounded half to even, at least 1
 * (TensorFlow's pruning_impl.py). */
size_t prune_keep_count(size_t n, double sparsity);

#endif
