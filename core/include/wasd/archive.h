/* wasd/archive.h - many checkpoints of one network as one archive: a data set of weights, with views of each
 * (web/docs/merge.md#archives). The views are those of arXiv 2402.04081, with the defaults of the authors'
 * augmentations.py. */
#ifndef WASD_ARCHIVE_H
#define WASD_ARCHIVE_H

#include "wasd/protocol.h"
#include "wasd/spec.h"

#define WASD_ARCHIVE_VIEWS 16 /* views in a request */
#define WASD_ARCHIVE_FILES 10000
#define WASD_ARCHIVE_BYTES ((uint64_t)16 << 30)

/* The views of one network. */
enum { WASD_VIEW_DROPOUT, WASD_VIEW_NOISE, WASD_VIEW_QUANTILE, WASD_VIEW_SCALE, WASD_VIEW_PERMUTE, WASD_VIEWS };
struct wasd_view {
	const char *name, *summary;
	struct wasd_field option; /* one number; NULL name: none */
};
extern const struct wasd_view wasd_views[WASD_VIEWS + 1]; /* ends at a NULL name */

/* The view "mixup": lambda * a + (1 - lambda) * b. */
#define WASD_MIXUP "mixup"
enum wasd_mix_align { WASD_MIX_WEIGHTS, WASD_MIX_RANDOM, WASD_MIX_NONE };
extern const char *const wasd_mix_aligns[]; /* ends at NULL */
extern const struct wasd_field wasd_mixup_fields[];

/* The members of a request: "views", "per_checkpoint", "seed". */
extern const struct wasd_field wasd_archive_fields[];
struct wasd_view_how {
	int view;      /* WASD_VIEWS: a mix */
	double option; /* of the view */
	enum wasd_mix_align align;
	int with;         /* the mix is with the checkpoint's own copy under this view, with its default; -1: with another
	                     checkpoint */
	double low, high; /* of lambda */
};
struct wasd_archive_how {
	int n_views, per_checkpoint; /* view v of a checkpoint is views[v % n_views] */
	struct wasd_view_how views[WASD_ARCHIVE_VIEWS];
	uint64_t seed;
};
/* Reads the request of an archive of n checkpoints; other members are ignored. WASD_EINVAL carries the member's
 * pointer. */
enum wasd_status wasd_archive_read(const cJSON *request, int n, struct wasd_archive_how *out, struct wasd_err *err);

/* One checkpoint, until it is closed. */
struct wasd_archive_file {
	const void *data;
	size_t len;
	const char *checkpoint, *job; /* ids; job NULL: none */
	const cJSON *metrics;         /* "val_acc_aom", "val_loss_aom", as far as they are known */
	void *own;                    /* of the caller */
};
struct wasd_archive_opts {
	int n;                /* checkpoints */
	const cJSON *request; /* borrowed */
	/* Opens checkpoint `index`; at most two are open, and one may be opened several times. bytes: about the size of the
	 * archive, 0 before the first was read. */
	enum wasd_status (*open)(void *ctx, int index, uint64_t bytes, struct wasd_archive_file *out, struct wasd_err *err);
	void (*close)(void *ctx, struct wasd_archive_file *f);
	/* Called before each file; false ends the work with WASD_ECANCELLED. NULL: not called. */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
};
struct wasd_archive_made {
	int files; /* of weights */
	uint64_t bytes;
	char sha256[WASD_SHA256_HEX];
};
/* Writes a tar to path, which appears when it is complete:
 *     weights/CHECKPOINT.safetensors         as of wasd_export_safetensors, with the statistics of AOM alone
 *     weights/CHECKPOINT.view-N.safetensors  its views, from 1
 *     specs/JOB.json                         the spec that the checkpoint was trained by
 *     checkpoints.csv                        a row for each file of weights
 * The same checkpoints and request give the same bytes. Needs the thread team. What is wrong with a checkpoint carries
 * "/checkpoints/N": another network than the first, no statistics, a view that is not finite. WASD_ETOOBIG: above
 * WASD_ARCHIVE_FILES or WASD_ARCHIVE_BYTES. */
enum wasd_status wasd_archive(const struct wasd_archive_opts *o, const char *path, struct wasd_archive_made *out,
                              struct wasd_err *err);

#endif
