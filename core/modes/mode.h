/* modes/mode.h - a mode: a named recipe for the weights that are served, with BatchNorm statistics measured under them.
 *
 * A checkpoint has a list of modes in its metadata (train/checkpoint.h); one that is made of it later is a mode file
 * (train/mode_file.h). Both say the kind's name and its recipe as JSON. A kind is one file that ends with a descriptor,
 * and one row in table.c: bundles, files, exports and the infer process never ask which kind it is. */
#ifndef MODES_MODE_H
#define MODES_MODE_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/mode.h"
#include "wasd/weights.h"

struct mode_kind {
	const char *name;    /* in files and lists: [a-z0-9_]+ */
	const char *summary; /* one line for people */
	const char *family;  /* of the names of those that are made of a checkpoint (wasd/mode.h); NULL: none are */
	/* What bundle_compile forms the weights by. recipe: as in the file, or null; borrowed for as long as *out lives,
	 * and so is g. *out NULL, with WASD_OK: the weights as they are. Errors carry the pointer below the recipe. */
	enum wasd_status (*open)(const cJSON *recipe, const struct wasd_graph *g, struct wasd_recipe **out,
	                         struct wasd_err *err);
	void (*close)(struct wasd_recipe *r); /* of what open made, never NULL; NULL: open makes nothing */
};
const struct mode_kind *mode_kind_at(int i);              /* NULL after the last */
const struct mode_kind *mode_kind_find(const char *name); /* NULL */
/* Rows of the program that core is linked into, after those of the table; ended by NULL. A program without any defines
 * nothing. */
extern const struct mode_kind *const mode_kind_more[] __attribute__((weak));
extern const struct mode_kind mode_plain, mode_draw;

/* An entry of a list, read. */
struct mode {
	char name[WASD_MODE_LEN];
	const struct mode_kind *kind;
	const cJSON *recipe;    /* borrowed from the entry; so is statistics */
	const char *statistics; /* what the names of their tensors begin with: "" or "dom." */
	bool measured;          /* they are those of a calibration */
};
/* {"name","kind","recipe","statistics","measured"}; other members are passed over. WASD_ECORRUPT. */
enum wasd_status mode_read(const cJSON *entry, struct mode *out, struct wasd_err *err);
/* Such an entry. Takes recipe (NULL: null). NULL: no memory. */
cJSON *mode_entry(const char *name, const struct mode_kind *kind, cJSON *recipe, const char *statistics, bool measured);

#endif
