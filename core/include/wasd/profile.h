/* wasd/profile.h - profiles: trading accuracy for speed with DOM (our extension of the recorded draw in arXiv
 * 2405.19590, section 3.3).
 *
 * A profile of a checkpoint is a draw for its augmented layers, chosen to meet a goal (fewer multiply-adds, a
 * latency), with its own BatchNorm statistics. It is a mode of the kind "draw" and is stored as a mode file, which
 * can be used only with its checkpoint (core's train/mode_file.h). */
#ifndef WASD_PROFILE_H
#define WASD_PROFILE_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/weights.h"

struct wasd_dataset;
struct wasd_making;

/* How the kind of mode "draw" is made (core's modes/mode.h); the request:
 *     {"desire":"macs","budget":X}        multiply-adds of the network: at most X of the plain one's, 0 < X <= 1
 *     {"desire":"latency","budget_us":N}  time of a single image: at most N microseconds, on this machine and threads
 *     {"desire":"draw","draw":[...]}      exactly this draw
 * The first two also take "evaluations", the number of draws to evaluate (optional). Searches the transforms that the
 * checkpoint's training law allows (for a run without WAS: the law of the published network) for the draw with the
 * best accuracy within the budget; profile/search.c describes the method. Adds "draw" and "evaluations" to the info.
 * For "macs" and "draw" the same file, data, request, threads and backend give the same draw; a latency depends on the
 * machine. WASD_ENOTFOUND at "/budget" or "/budget_us": the law has no draw that cheap. */
struct mode_made;
struct mode_making;
enum wasd_status wasd_profile_make(const struct mode_making *in, struct mode_made *out, struct wasd_err *err);
/* Refuses a faulty draw, a budget of multiply-adds that no draw of the law meets, a law without any draw. spec NULL:
 * only what the request alone shows. */
enum wasd_status wasd_profile_check(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                    struct wasd_err *err);

/* Compares the profile that a request of desire "macs" finds with `draws` random draws of the same law and the
 * same multiply-adds: layers in random order take a random transform that saves something, until the budget is
 * met. Each gets its own statistics and is evaluated on at most 1280 test images. go_on receives (evaluated draws,
 * total). The caller owns *out:
 *     {"budget":X,"images":N,"aom":X,"searched":{"macs_share","accuracy"},"random":[{"macs_share","accuracy"},...],"evaluations":N}
 */
enum wasd_status wasd_profile_compare(const struct wasd_making *o, int draws, cJSON **out, struct wasd_err *err);

struct wasd_mode_source;

struct wasd_cascade_opts {
	const struct wasd_mode_source *aom, *cheap; /* of one checkpoint; borrowed */
	const struct wasd_dataset *data;            /* borrowed */
	double keep;                                /* share of AOM's accuracy that the cascade must have, above 0 to 1 */
	/* Called before each batch; false ends it with WASD_ECANCELLED. NULL: not called. */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
};

/* Finds the threshold of a cascade on the images that a search would use: images whose two likeliest classes have
 * probabilities that differ by less are repeated in AOM. It is the smallest one from which on every larger one keeps
 * the wanted share. Both modes compute as served. Needs the thread team. The caller owns *out:
 *     {"threshold":X,"images":N,"accuracy":{"aom":X,"cheap":X,"cascade":X},"repeated":X,"macs":{"aom":N,"cheap":N,"mean":X},
 *      "curve":[[threshold, accuracy, share repeated, mean multiply-adds],...]}  about 50 points, by rising threshold
 */
enum wasd_status wasd_cascade_tune(const struct wasd_cascade_opts *o, cJSON **out, struct wasd_err *err);

struct wasd_mode_source;
struct wasd_report_opts {
	const void *file;
	size_t len;                          /* the checkpoint; borrowed */
	const struct wasd_mode_source *more; /* modes beside those of its list; borrowed */
	int n_more;
	bool test;                                  /* on the test images instead */
	const struct wasd_dataset *data;            /* borrowed */
	bool (*go_on)(void *ctx, int done, int of); /* as above */
	void *ctx;
};

/* What each measured mode of a checkpoint gets right and wrong on the images that its run held out (or a tenth of the
 * training images), or on the test images, computed as served. Images are indices among the training (test) images.
 * Needs the thread team. The caller owns *out:
 *     {"images":N,"modes":{"aom":{"accuracy":X,"loss":X,"macs":N,"ece":X,
 *      "calibration":[[n, mean confidence, accuracy],...]  10 bins of the probability of the answer; ece is their mean
 *                                                         distance, weighted by images
 *      "per_class":[[n, accuracy],...],
 *      "confusion":[[n,...],...]      row = label, column = answer; only up to 100 classes
 *      "top_errors":[[label, answer, n],...]                 at most 20, most frequent first
 *      "worst":[[image, label, answer, probability],...]}}}  at most 20 mistakes, most confident first
 */
enum wasd_status wasd_report_make(const struct wasd_report_opts *o, cJSON **out, struct wasd_err *err);

#endif
