/* wasd/profile.h - profiles: the DOM dial (our own, on top of arXiv 2405.19590, section 3.3's recorded draw).
 *
 * A profile of a checkpoint is a draw for its augmented layers, chosen for what a user desires (fewer multiply-adds, a
 * latency), with BatchNorm statistics of its own. It is a mode of the kind "draw", and travels as a mode file, beside
 * which its checkpoint is needed (core's train/mode_file.h). */
#ifndef WASD_PROFILE_H
#define WASD_PROFILE_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/weights.h"

struct wasd_dataset;

struct wasd_profile_opts {
	const void *file;
	size_t len; /* the checkpoint; borrowed */
	const struct wasd_dataset
		*data; /* its validation images judge, its training images give the statistics; borrowed */
	/* {"desire":"macs","budget":X}        multiply-adds of the whole network at most X of the plain one's, 0 < X <= 1
	 * {"desire":"latency","budget_us":N}  one image by itself in at most N microseconds, on this machine with these
	 *                                     threads
	 * {"desire":"draw","draw":[...]}      this draw, as it is
	 * and, in the first two, optionally "evaluations": how many draws are judged. Borrowed. */
	const cJSON *request;
	const char *backend; /* as in wasd_exec_opts */
	/* After each draw that was judged, and now and then in between; false ends the search with WASD_ECANCELLED. NULL:
	 * none. */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
};

/* Searches the transforms that the checkpoint's training law allows (of a run without WAS: the published network's) for
 * the draw that keeps most accuracy within the budget; see profile/search.c for how. Images: those that the
 * checkpoint's run held out (a tenth where it held out none). *mode_file for wasd_free; *info, the caller's:
 *     {"draw":[...],"macs":N,"macs_share":X,"val_loss":X,"val_acc":X,"images_per_s_1":X,"images_per_s_64":X,"latency_us":X,"bytes":N,"evaluations":N,
 *      "aom":{the same numbers of the plain weights, from "macs" on}}
 * measured as served: folded, packed, float32, val_* on all validation images. Same file, data, request, threads and
 * backend: the same draw of "macs" and "draw"; a latency is the machine's. Needs the thread team (wasd_threads_init).
 * WASD_EINVAL carries the pointer of a member of the request, "/draw/3/layer" and the like, or "/dataset";
 * WASD_ENOTFOUND at "/budget" or "/budget_us": the law has nothing as cheap. */
enum wasd_status wasd_profile_search(const struct wasd_profile_opts *o, void **mode_file, size_t *len, cJSON **info,
                                     struct wasd_err *err);

/* What a search would refuse by the job's spec and the shape of its images alone: the draw that is given, a budget of
 * multiply-adds that the law has no draw for, a law without any. The same statuses and pointers; the spec's own errors
 * have the pointers of the spec. */
enum wasd_status wasd_profile_check(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                    struct wasd_err *err);

/* What the search is worth: the profile that it finds for a request of desire "macs" beside `draws` random draws of the
 * same law with as many multiply-adds (layers in random order take a random transform that saves something, until the
 * budget is met), all judged alike: statistics of their own, accuracy on at most 1280 test images. go_on is told (draws
 * judged, of). *out, the caller's:
 *     {"budget":X,"images":N,"aom":X,"searched":{"macs_share","accuracy"},"random":[{"macs_share","accuracy"},...],"evaluations":N}
 */
enum wasd_status wasd_profile_compare(const struct wasd_profile_opts *o, int draws, cJSON **out, struct wasd_err *err);

#endif
