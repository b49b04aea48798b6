/* modes/mode.h - a mode: a named recipe for the served weights, with BatchNorm statistics measured under them.
 *
 * A checkpoint lists its modes in its metadata (train/checkpoint.h); a mode derived later is a mode file
 * (train/mode_file.h). Both store the kind's name and its recipe as JSON. A kind is one file that ends with a
 * descriptor, plus one row in table.c; bundles, files, exports and the infer process never test for a particular
 * kind. */
#ifndef MODES_MODE_H
#define MODES_MODE_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/mode.h"
#include "wasd/weights.h"

struct mode_kind {
	const char *name;    /* in files and lists: [a-z0-9_]+ */
	const char *summary; /* one line for display */
	const char *family; /* family of modes of this kind that are derived from a checkpoint (wasd/mode.h); NULL: none can
	                       be derived */
	/* Makes the recipe that bundle_compile forms the weights by. recipe: as in the file, or null. recipe and g are
	 * borrowed for the lifetime of *out. *out NULL with WASD_OK: the weights as they are. Errors carry the JSON
	 * pointer below the recipe. */
	enum wasd_status (*open)(const cJSON *recipe, const struct wasd_graph *g, struct wasd_recipe **out,
	                         struct wasd_err *err);
	void (*close)(struct wasd_recipe *r); /* frees what open made, never called with NULL; NULL: open makes nothing */
	/* Makes the network that the mode computes with of the checkpoint's, which has the mode's statistics in
	 * WASD_STATS_AOM, as *out has then. NULL: the checkpoint's own. */
	enum wasd_status (*reshape)(struct wasd_model *m, struct wasd_model **out, struct wasd_err *err);
};
const struct mode_kind *mode_kind_at(int i);              /* NULL after the last */
const struct mode_kind *mode_kind_find(const char *name); /* NULL: unknown */
/* Further rows, defined by the program that core is linked into; they follow those of the table and end at NULL.
 * Optional: the symbol is weak. */
extern const struct mode_kind *const mode_kind_more[] __attribute__((weak));
extern const struct mode_kind mode_plain, mode_draw, mode_slim;

/* A parsed entry of the list. */
struct mode {
	char name[WASD_MODE_LEN];
	const struct mode_kind *kind;
	const cJSON *recipe;    /* borrowed from the entry, as is statistics */
	const char *statistics; /* prefix of their tensor names: "" or "dom." */
	bool measured;          /* the statistics come from a calibration */
};
/* Reads {"name","kind","recipe","statistics","measured"} and ignores other members. Fails with WASD_ECORRUPT. */
enum wasd_status mode_read(const cJSON *entry, struct mode *out, struct wasd_err *err);
/* Makes such an entry. Takes ownership of recipe (NULL: null). NULL: out of memory. */
cJSON *mode_entry(const char *name, const struct mode_kind *kind, cJSON *recipe, const char *statistics, bool measured);

#endif
