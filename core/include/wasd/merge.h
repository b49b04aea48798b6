/* wasd/merge.h - merging checkpoints: the channels of all but the first change places so that they resemble the
 * first's, the weights are mixed, and the BatchNorm statistics are measured anew (web/docs/merge.md).
 *
 * Mixed statistics would be wrong: activations of mixed weights vary less than the mean of their variances says, and
 * accuracy falls to chance. Alphas mix like weights. The state of optimizers and strategies is dropped. */
#ifndef WASD_MERGE_H
#define WASD_MERGE_H

#include "wasd/protocol.h"
#include "wasd/spec.h"

struct wasd_dataset;

#define WASD_MERGE_PATH_MAX 101 /* points */

/* The members of a request: "weights", "align", "recalibrate", "path". */
extern const struct wasd_field wasd_merge_fields[];
extern const char *const wasd_aligns[]; /* ends at NULL */

enum wasd_align { WASD_ALIGN_WEIGHTS, WASD_ALIGN_ACTIVATIONS, WASD_ALIGN_NONE }; /* in the order of wasd_aligns */
struct wasd_merge_how {
	double weight[WASD_MERGE_MAX];
	enum wasd_align align;
	bool recalibrate;
	int points;
};
/* Reads the request of a merge of n checkpoints; other members are ignored. WASD_EINVAL carries the member's pointer.
 */
enum wasd_status wasd_merge_read(const cJSON *request, int n, struct wasd_merge_how *out, struct wasd_err *err);
bool wasd_merge_measures(const struct wasd_merge_how *how); /* whether it needs images */

struct wasd_merge_opts {
	int n; /* 2 to WASD_MERGE_MAX */
	struct wasd_merge_file {
		const char *name; /* of the checkpoint, for the metadata */
		const void *data;
		size_t len;
	} file[WASD_MERGE_MAX]; /* borrowed */
	/* Training images for the statistics; those that the first checkpoint's run held out (or a tenth) for loss and
	 * accuracy. Borrowed. NULL: only for a request without recalibrate, path and activations. */
	const struct wasd_dataset *data;
	const cJSON *request; /* borrowed */
	const char *backend;  /* as in wasd_exec_opts */
	/* Called before each batch and each step of the alignment; false ends the merge with WASD_ECANCELLED. NULL: not
	 * called. */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
};

/* *out: a checkpoint with the modes "aom", "dom" if the first has it (with its recorded draw), and "slim" if channels
 * are dead; its metadata "merged_from" has the "merge" below, up to "inner". Without recalibrate its statistics are
 * missing: a run can start from it, nothing can serve it (unless the network has none). Free it with wasd_free. *info,
 * the caller's: the listed properties of a checkpoint, as from a run, and
 *     "merge":{"align":"weights","from":[{"checkpoint","weight"},...],
 *              "sweeps":[N,...],"inner":[[before, after],...]     alignments by weights: inner products with the
 * first's "path":[{"lambda","loss","accuracy"},...],"barrier":X}   lambda: share of the first, from 0 to 1 barrier: how
 * far the loss rises above the straight line between its ends, at most. *metrics, the caller's: {"val_acc_aom",
 * "val_loss_aom","val_acc_dom","val_loss_dom"}, those that were measured.
 * Needs the thread team. WASD_EINVAL carries "/checkpoints/1" and so on for a file that does not fit the first, or the
 * pointer of a member, or "/dataset". WASD_ENUMERIC: the mixed network has no finite statistics. */
enum wasd_status wasd_merge(const struct wasd_merge_opts *o, void **out, size_t *len, cJSON **info, cJSON **metrics,
                            struct wasd_err *err);

#endif
