/* train/mode_file.h - a mode that was derived from an existing checkpoint, stored as a small safetensors file of
 * its own.
 *
 * Metadata: "format":"wasd-mode-1", "arch", and, as in an entry of a checkpoint's list, "kind" and "recipe"
 * (JSON). Tensors: <bn>.running_mean and .running_var, and those of the kind's own, whose names begin with its prefix.
 * The weights stay in the checkpoint. The older format
 * "wasd-profile-1" can be read as well: a draw in "draw", with dom.<bn>.running_mean and .running_var. */
#ifndef TRAIN_MODE_FILE_H
#define TRAIN_MODE_FILE_H

#include "modes/mode.h"
#include "wasd/safetensors.h"

/* An opened file over borrowed bytes. */
struct mode_file {
	struct wasd_st *st;
	cJSON *recipe;
	struct mode mode; /* its name is "": the owner of the file names it */
};
/* Opens a file for a network named arch. The message of WASD_ECORRUPT says what is wrong. */
enum wasd_status mode_file_open(const void *bytes, size_t len, const char *arch, struct mode_file *out,
                                struct wasd_err *err);
void mode_file_done(struct mode_file *f); /* safe on a zeroed struct */
/* Loads the statistics into a set of g (wasd_graph_stats_count elements). Fails if the file has other tensors than
 * statistics and those of the kind. */
enum wasd_status mode_file_load_stats(const struct mode_file *f, const char *arch, const struct wasd_graph *g,
                                      real *dst, struct wasd_err *err);
/* Writes the recipe and tensors of made; stats: a set of g. Free *out with wasd_free. */
enum wasd_status mode_file_write(const struct wasd_graph *g, const char *arch, const struct mode_kind *kind,
                                 const struct mode_made *made, const real *stats, void **out, size_t *len,
                                 struct wasd_err *err);

#endif
