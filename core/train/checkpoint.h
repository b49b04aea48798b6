/* train/checkpoint.h - the checkpoint file (protocol.h): one safetensors file that holds a run completely. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "modes/mode.h"
#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/safetensors.h"
#include "weights/chain.h"

/* What is written, and what earlier versions have written, which is read as well. */
#define CHECKPOINT_FORMAT "wasd-checkpoint-2"
#define CHECKPOINT_FORMAT_1 "wasd-checkpoint-1"
bool checkpoint_is(const char *format);

/* An opened file over borrowed bytes. Everything in it is parsed and of the right kind; values are checked as they are
 * loaded. */
struct checkpoint {
	struct wasd_st *st;
	const char *arch, *dataset_digest;          /* borrowed from st */
	cJSON *spec, *was, *progress, *fingerprint; /* was: object or false */
	cJSON *modes;                               /* entries for mode_read, each of which it can read */
	cJSON *class_names;
	struct wasd_shape input;
	struct wasd_prepare prepare; /* of the pictures that it was trained on; zeros where the file does not say */
	int classes;
};
enum wasd_status checkpoint_open(const void *bytes, size_t len, struct checkpoint *c, struct wasd_err *err);
void checkpoint_done(struct checkpoint *c); /* safe on a zeroed struct */
/* The list of modes alone, of a file that may not be whole otherwise. *list is the caller's. */
enum wasd_status checkpoint_read_modes(const struct wasd_st *st, cJSON **list, struct wasd_err *err);
/* The mode of that name; its recipe lives as long as c. WASD_ENOTFOUND says which there are. */
enum wasd_status checkpoint_mode(const struct checkpoint *c, const char *name, struct mode *out, struct wasd_err *err);

/* The network that the file says it is for. *g is the caller's. */
enum wasd_status checkpoint_graph(const struct checkpoint *c, struct wasd_graph **g, struct wasd_err *err);
/* Every tensor has a name that this graph knows: a parameter, a statistic of some set, state of the optimizer, of
 * strategies or of a generator. */
enum wasd_status checkpoint_check_names(const struct checkpoint *c, const struct wasd_graph *g, struct wasd_err *err);
/* Copies a block of the graph's parameters, each tensor named prefix + parameter ("" = the weights themselves,
 * "optim.momentum."). Name, shape and finiteness of each are checked; errors name the tensor. dst is undefined after a
 * failure. */
enum wasd_status checkpoint_load_params(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                        real *dst, struct wasd_err *err);
/* The same for one statistics set, whose names begin with prefix. *present: whether the file has that set (no error
 * then). */
#define CHECKPOINT_TRAIN "train." /* what training batches update under random shadow weights */
enum wasd_status checkpoint_load_stats(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                       real *dst, bool *present, struct wasd_err *err);
/* The same of any file, for a network that is called arch. */
enum wasd_status checkpoint_read_stats(const struct wasd_st *st, const char *arch, const struct wasd_graph *g,
                                       const char *prefix, real *dst, bool *present, struct wasd_err *err);
bool checkpoint_is_statistic(const struct wasd_graph *g, const char *name); /* without its prefix */
/* What `weights` needs to go on: the master of every linked parameter, into its place in `master`, and the states of
 * its strategies. */
enum wasd_status checkpoint_load_weights(const struct checkpoint *c, const struct wasd_graph *g,
                                         struct weight_chain *weights, real *master, struct wasd_err *err);
/* n 64-bit words ("state.rng.was"). */
enum wasd_status checkpoint_load_u64(const struct checkpoint *c, const char *name, uint64_t *v, size_t n,
                                     struct wasd_err *err);

/* What a file is written from; every pointer borrowed. */
#define CHECKPOINT_WORDS 4
struct checkpoint_block {
	const char *name;
	const real *block;
};
struct checkpoint_source {
	const struct wasd_graph *graph;
	struct wasd_model *model;           /* its effective weights, and beside those of linked parameters their master */
	const struct weight_chain *weights; /* NULL: there is none */
	const real *train;                  /* the statistics that training updates; NULL: not in the file */
	const cJSON *modes;                 /* entries (modes/mode.h), with more members for people as may be */
	const real *const *stats;           /* of each of them: its statistics; NULL: not in the file */
	const struct checkpoint_block *optim; /* ends at a NULL name; NULL: there are none */
	struct {
		const char *name;
		const uint64_t *v;
		size_t n;
	} words[CHECKPOINT_WORDS]; /* "rng.was", ...; ends at a NULL name */
	const char *arch, *dataset_digest;
	const char *const *class_names;
	const cJSON *spec, *was, *progress, *fingerprint;
	const struct wasd_prepare *prepare; /* of data without a record: not written */
};
/* Adds the tensors of one statistics set, with names that begin with prefix. */
void checkpoint_add_stats(struct wasd_st_writer *w, const struct wasd_graph *g, const char *prefix, const real *block);
/* *bytes: a fresh block for wasd_free. */
enum wasd_status checkpoint_write(const struct checkpoint_source *s, void **bytes, size_t *len, struct wasd_err *err);

#endif
