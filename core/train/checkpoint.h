/* train/checkpoint.h - the checkpoint file (protocol.h): one safetensors file that holds the complete state of a
 * run. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "modes/mode.h"
#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/pixel.h"
#include "wasd/safetensors.h"
#include "weights/chain.h"

/* The format that is written; that of files whose parameters a compact strategy composes; and the earlier one, which
 * can still be read. */
#define CHECKPOINT_FORMAT "wasd-checkpoint-2"
#define CHECKPOINT_FORMAT_COMPACT "wasd-checkpoint-3"
#define CHECKPOINT_FORMAT_1 "wasd-checkpoint-1"
bool checkpoint_is(const char *format);

/* An opened file over borrowed bytes. Opening parses everything and checks its types; values are checked when they
 * are loaded. */
struct checkpoint {
	struct wasd_st *st;
	const char *arch, *dataset_digest;          /* borrowed from st */
	cJSON *spec, *was, *progress, *fingerprint; /* was: object or false */
	cJSON *network; /* the network of a run that made it smaller, as a spec's "model"; NULL: that of the spec */
	cJSON *modes;   /* entries for mode_read, all of them readable */
	cJSON *class_names;
	struct wasd_shape input;
	struct wasd_prepare prepare; /* how the training images were prepared; zeros if the file has no record */
	struct wasd_pixels pixels;   /* wasd_pixels_half if the file has no record */
	int classes;
	struct checkpoint_composed *composed; /* of a compact file; NULL: every parameter has a tensor */
};
enum wasd_status checkpoint_open(const void *bytes, size_t len, struct checkpoint *c, struct wasd_err *err);
void checkpoint_done(struct checkpoint *c); /* safe on a zeroed struct */
/* Reads only the list of modes; the rest of the file may be damaged. The caller owns *list. */
enum wasd_status checkpoint_read_modes(const struct wasd_st *st, cJSON **list, struct wasd_err *err);
/* Finds a mode by name; its recipe lives as long as c. The message of WASD_ENOTFOUND lists the modes of the file. */
enum wasd_status checkpoint_mode(const struct checkpoint *c, const char *name, struct mode *out, struct wasd_err *err);

/* The network of the weights, as a spec's "model". Borrowed from c. */
const cJSON *checkpoint_network(const struct checkpoint *c);
/* Builds it. The caller owns *g. */
enum wasd_status checkpoint_graph(const struct checkpoint *c, struct wasd_graph **g, struct wasd_err *err);
/* Checks that this graph knows the name of every tensor: a parameter, a statistic of some set, or state of the
 * optimizer, a strategy or a generator. */
enum wasd_status checkpoint_check_names(const struct checkpoint *c, const struct wasd_graph *g, struct wasd_err *err);
/* The values of a parameter: the tensor of the file, or what its strategy composes, borrowed from c. All readers get
 * parameters from here. Only for the thread that owns the team. */
enum wasd_status checkpoint_param(const struct checkpoint *c, const struct wasd_graph *g, int param,
                                  struct wasd_st_tensor *out, struct wasd_err *err);
/* Copies a block of the graph's parameters; each tensor is named prefix + parameter ("" for the weights,
 * "optim.momentum." for momentum). Checks name, shape and finiteness of each; errors name the tensor. After a
 * failure the content of dst is undefined. */
enum wasd_status checkpoint_load_params(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                        real *dst, struct wasd_err *err);
/* Does the same for one statistics set, whose names begin with prefix. *present: whether the file has the set; a
 * missing set is not an error. */
#define CHECKPOINT_TRAIN "train." /* the set that training batches update under random shadow weights */
enum wasd_status checkpoint_load_stats(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                       real *dst, bool *present, struct wasd_err *err);
/* Does the same for any file of a network named arch. */
enum wasd_status checkpoint_read_stats(const struct wasd_st *st, const char *arch, const struct wasd_graph *g,
                                       const char *prefix, real *dst, bool *present, struct wasd_err *err);
bool checkpoint_is_statistic(const struct wasd_graph *g, const char *name); /* name: without its prefix */
/* Copies block `name` of the optimizer's state. Parameters that `weights` composes have none: dst stays as it is there.
 */
enum wasd_status checkpoint_load_optim(const struct checkpoint *c, const struct wasd_graph *g,
                                       const struct weight_chain *weights, const char *name, real *dst,
                                       struct wasd_err *err);
/* Loads what `weights` needs to resume: the master of every linked parameter into its place in `master`, and the
 * state of its strategies. */
enum wasd_status checkpoint_load_weights(const struct checkpoint *c, const struct wasd_graph *g,
                                         struct weight_chain *weights, real *master, struct wasd_err *err);
/* Loads n 64-bit words, such as "state.rng.was". */
enum wasd_status checkpoint_load_u64(const struct checkpoint *c, const char *name, uint64_t *v, size_t n,
                                     struct wasd_err *err);

/* The contents of a new file; every pointer is borrowed. */
#define CHECKPOINT_WORDS 4
struct checkpoint_source {
	const struct wasd_graph *graph;
	struct wasd_model *model;           /* gives the effective weights and, for linked parameters, the master as well */
	const struct weight_chain *weights; /* NULL: no chain */
	const real *train;                  /* the statistics that training updates; NULL: not written */
	const cJSON *modes;                 /* entries (modes/mode.h), which may have further members for display */
	const real *const *stats;           /* the statistics of each mode; NULL: not written */
	const struct weight_block *optim;   /* ends at a NULL name; NULL: none */
	struct {
		const char *name;
		const uint64_t *v;
		size_t n;
	} words[CHECKPOINT_WORDS]; /* "rng.was", ...; ends at a NULL name */
	const char *arch, *dataset_digest;
	const cJSON *network;     /* as in struct checkpoint */
	const cJSON *merged_from; /* the checkpoints that were mixed, for people (wasd/merge.h); NULL: not written */
	const char *const *class_names;
	const cJSON *spec, *was, *progress, *fingerprint;
	const struct wasd_prepare *prepare; /* not written if the data have no record of it */
	const struct wasd_pixels *pixels;   /* not written if it is wasd_pixels_half; NULL: the same */
};
/* Adds the tensors of one statistics set under names that begin with prefix. */
void checkpoint_add_stats(struct wasd_st_writer *w, const struct wasd_graph *g, const char *prefix, const real *block);
/* *bytes: a new block; free it with wasd_free. */
enum wasd_status checkpoint_write(const struct checkpoint_source *s, void **bytes, size_t *len, struct wasd_err *err);

#endif
