/* modes/mode.h - a mode: a named recipe for the served weights, with BatchNorm statistics measured under them.
 *
 * A checkpoint lists its modes in its metadata (train/checkpoint.h); a mode derived later is a mode file
 * (train/mode_file.h). Both store the kind's name and its recipe as JSON. A kind is one file that ends with a
 * descriptor, plus one row in table.c; bundles, files, exports and the infer process never test for a particular
 * kind. */
#ifndef MODES_MODE_H
#define MODES_MODE_H

#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/mode.h"
#include "wasd/safetensors.h"
#include "wasd/spec.h"
#include "wasd/weights.h"

struct maker;
struct mode;
struct mode_made;
struct mode_making;
struct wasd_bundle;
struct wasd_slim;
struct wasd_quant;

/* How a mode answers each image with one of several modes of the checkpoint's own list, its parts. All images go
 * through the first part, and the means over the maps of one of its layers decide which part answers. */
enum { MODE_PARTS_MAX = 8 };
struct mode_router {
	wasd_node at;  /* that layer, of the first part's folded network: the last of its chain (graph/plan.h) */
	int channels;  /* of it */
	int scratch;   /* floats that choose needs room for */
	uint64_t own;  /* multiply-adds of choose */
	uint64_t macs; /* of an image altogether, mean over the validation images */
	size_t bytes;  /* of what choose reads */
	/* The index of the part that answers the image of these means, (channels). Any thread. */
	int (*choose)(const struct mode_router *r, const float *means, float *scratch);
	void (*destroy)(struct mode_router *r);
};

/* A way to ask for a mode of a kind: the value of "desire" in a request, and what belongs to it. */
struct mode_desire {
	const char *name;                 /* "int8"; no two desires of all kinds have the same */
	const char *summary;              /* one line for display */
	const struct wasd_field *options; /* the members of a request beside desire, name, dataset and base: no objects or
	                                     pairs. Ends at a NULL name; NULL: none */
	bool based;                       /* "base" may name another mode of the checkpoint than aom */
	/* Refuses what can be refused from the job's spec (NULL: it has none), the shape of its images and the request
	 * alone, as make would. NULL: nothing beyond the table. */
	enum wasd_status (*check)(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
	                          struct wasd_err *err);
	/* Makes a mode. Errors carry the pointer of a member of the request ("/images"), or "/dataset". out is zeroed
	 * before; what it has after a failure is freed by the caller. Runs with the thread team. */
	enum wasd_status (*make)(const struct mode_making *in, struct mode_made *out, struct wasd_err *err);
};

struct mode_kind {
	const char *name;    /* in files and lists: [a-z0-9_]+ */
	const char *summary; /* one line for display */
	const char *family; /* family of modes of this kind that are derived from a checkpoint (wasd/mode.h); NULL: none can
	                       be derived */
	const char *prefix; /* of the tensors of its own in a mode file ("q."); it ends in a point. NULL: it has none */
	const struct mode_desire *desires; /* how it is asked for; ends at a NULL name. NULL: it is not made on request */
	/* Makes the recipe that bundle_compile forms the weights by, of m->recipe (as in the file, or null) and m->tensors.
	 * m and g are borrowed for the lifetime of *out. *out NULL with WASD_OK: the weights as they are. Errors carry the
	 * JSON pointer below the recipe. */
	enum wasd_status (*open)(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
	                         struct wasd_err *err);
	void (*close)(struct wasd_recipe *r); /* frees what open made, never called with NULL; NULL: open makes nothing */
	/* Makes the network that the mode computes with of the checkpoint's, which has the mode's statistics in
	 * WASD_STATS_AOM, as *out has then. NULL, or *out NULL with WASD_OK: the checkpoint's own. */
	enum wasd_status (*reshape)(const struct mode *m, struct wasd_model *from, struct wasd_model **out,
	                            struct wasd_err *err);
	/* The same network as what is left of the checkpoint's, called after its name `arch`: for exports of the mode
	 * alone. NULL: the mode has the checkpoint's own network. */
	enum wasd_status (*smaller)(const struct mode *m, struct wasd_model *from, const char *arch, struct wasd_slim **out,
	                            struct wasd_err *err);
	/* Makes what the mode's folded network g computes with in 8 bits, for quant_made_destroy (quant/make.h). NULL: it
	 * computes in float. */
	enum wasd_status (*quant)(const struct mode *m, const struct wasd_graph *g, struct wasd_quant **out,
	                          struct wasd_err *err);
	/* Names the parts of a mode that has several, in place of reshape; 2 to MODE_PARTS_MAX. Anyone may have written the
	 * recipe: the caller checks that the checkpoint has them, and that they have no parts. NULL: it has one network. */
	enum wasd_status (*parts)(const struct mode *m, char part[MODE_PARTS_MAX][WASD_MODE_LEN], int *n,
	                          struct wasd_err *err);
	/* Makes what chooses among them, for the folded network of the first and the multiply-adds of each. */
	enum wasd_status (*route)(const struct mode *m, const struct wasd_graph *first, const uint64_t *macs,
	                          struct mode_router **out, struct wasd_err *err);
};
const struct mode_kind *mode_kind_at(int i);              /* NULL after the last */
const struct mode_kind *mode_kind_find(const char *name); /* NULL: unknown */
/* Further rows, defined by the program that core is linked into; they follow those of the table and end at NULL.
 * Optional: the symbol is weak. */
extern const struct mode_kind *const mode_kind_more[] __attribute__((weak));
extern const struct mode_kind mode_plain, mode_draw, mode_slim, mode_width, mode_int8, mode_dynamic;

/* A parsed entry of the list. */
struct mode {
	char name[WASD_MODE_LEN];
	const struct mode_kind *kind;
	const cJSON *recipe;    /* borrowed from the entry, as is statistics */
	const char *statistics; /* prefix of their tensor names: "" or "dom." */
	bool measured;          /* the statistics come from a calibration */
	const struct wasd_st
		*tensors; /* the file that it comes from: its mode file, or the checkpoint; borrowed. Of a file
	                 that anyone may have written: the kind checks names, types and sizes. NULL: none */
};
/* Reads {"name","kind","recipe","statistics","measured"} and ignores other members. Fails with WASD_ECORRUPT. */
enum wasd_status mode_read(const cJSON *entry, struct mode *out, struct wasd_err *err);
/* Makes such an entry. Takes ownership of recipe (NULL: null). NULL: out of memory. */
cJSON *mode_entry(const char *name, const struct mode_kind *kind, cJSON *recipe, const char *statistics, bool measured);

/* ---- making (modes/making.c; run by profile/make.c) ---- */

/* The desire of that name and its kind; NULL: no kind has it. kind may be NULL. */
const struct mode_desire *mode_desire_find(const char *name, const struct mode_kind **kind);

enum { MODE_OPTIONS_MAX = 16 /* rows of a table of options */ };
/* Checks the request's members by the rows of the desire and reads one value per row: a number, 1 for true, the index
 * of a choice (-1: none); 0 for a row of another type. Knows no other members than these and "desire", "base". */
enum wasd_status mode_options(const struct mode_desire *d, const cJSON *request, double v[MODE_OPTIONS_MAX],
                              struct wasd_err *err);

/* What a mode is made of. All of it is borrowed until make returns. */
struct mode_making {
	const cJSON *request; /* desire and options, checked */
	const double *option; /* of mode_options */
	/* The checkpoint's network with its parameters. WASD_STATS_AOM has the statistics of the base mode; the other sets
	 * are free to use. */
	struct wasd_model *model;
	const void *file; /* the checkpoint */
	size_t len;
	const struct mode *base;    /* name, kind, recipe and tensors of the base mode */
	struct wasd_bundle *served; /* the base mode as it is served: folded */
	/* The training images without those held out, and those: templates for wasd_loader_create, without augmentation, in
	 * batches of .batch; a kind may change batch, subset and prefetch. */
	const struct wasd_loader_opts *train, *val;
	uint64_t seed;       /* of the run */
	const char *backend; /* as in wasd_exec_opts */
	/* Tells the progress, and whether to go on: false ends the making with WASD_ECANCELLED. Never NULL. */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
	struct maker *maker; /* private to profile/ */
};
struct mode_tensor {
	char name[128];
	enum wasd_dtype dtype;
	int ndims;
	size_t dims[4];
	void *data;
};
struct mode_made {
	cJSON *recipe; /* NULL: null */
	struct mode_tensor *tensor;
	int n_tensors;
	real *stats;  /* wasd_graph_stats_count elements; NULL: those of the base mode */
	bool measure; /* the statistics are to be measured under the recipe; not of a kind with reshape */
	cJSON *info;  /* further members of what is told of the mode; NULL: none */
};
/* Adds a tensor, whose name begins with the kind's prefix, and takes data, which is freed also after a failure. */
enum wasd_status mode_made_add(struct mode_made *m, const char *name, enum wasd_dtype dtype, int ndims,
                               const size_t *dims, void *data, struct wasd_err *err);
void mode_made_done(struct mode_made *m);

#endif
