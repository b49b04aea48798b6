/* wasd/making.h - modes that are made of a checkpoint after its training: searched draws (wasd/profile.h), and what
 * else the kinds of modes offer (core's modes/mode.h).
 *
 * A made mode is stored as a mode file, which can be used only with its checkpoint (core's train/mode_file.h). */
#ifndef WASD_MAKING_H
#define WASD_MAKING_H

#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/mode.h"

struct wasd_dataset;

struct wasd_making {
	const void *file;
	size_t len; /* the checkpoint; borrowed, as is all below */
	const void *base_file;
	size_t base_len; /* the mode file of the mode that "base" names; NULL: the mode is in the checkpoint's list */
	const struct wasd_dataset *data; /* validation images judge the mode, training images calibrate it */
	/* {"desire":NAME, its options, "base":MODE}; the desires and their options: "mode_kinds" of wasd_capabilities. */
	const cJSON *request;
	bool own;            /* also measure the modes of the checkpoint's own list */
	const char *backend; /* as in wasd_exec_opts */
	/* Called with the progress, and occasionally in between; false ends the making with WASD_ECANCELLED. NULL: not
	 * called. */
	bool (*go_on)(void *ctx, int done, int of);
	void *ctx;
};

/* Makes the mode that the request asks for and measures it and the plain weights as they are served: folded, packed,
 * float32; val_* on the images that the checkpoint's run held out, or a tenth of the training images if it held out
 * none. Free *mode_file with wasd_free. The caller owns *info:
 *     {"kind":NAME,"macs":N,"macs_share":X,"val_loss":X,"val_acc":X,"images_per_s_1":X,"images_per_s_64":X,
 *      "latency_us":X,"bytes":N, and what the kind adds,"aom":{the same numbers of the plain weights, from "macs" on},
 *      "own":{"aom":{"kind":NAME,...},"dom":{...}} if they are to be measured}
 * The same file, data, request, threads and backend give the same mode file, unless the request names a time.
 * Needs the thread team (wasd_threads_init). WASD_EINVAL carries the pointer of a member of the request, such as
 * "/draw/3/layer", or "/dataset". WASD_ENOTFOUND at a member: what it asks for is out of reach. */
enum wasd_status wasd_mode_make(const struct wasd_making *o, void **mode_file, size_t *len, cJSON **info,
                                struct wasd_err *err);

/* Measures only the modes of the checkpoint's own list, without a request: {"aom":{...},"dom":{...}}, those whose
 * statistics the checkpoint has. The caller owns *own. */
enum wasd_status wasd_modes_measure(const struct wasd_making *o, cJSON **own, struct wasd_err *err);

/* Refuses what the making can refuse from the job's spec (NULL: there is none, as of an import), and the shape of its
 * images alone. Statuses and pointers are
 * those of wasd_mode_make; errors in the spec have pointers into the spec. */
enum wasd_status wasd_mode_check(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                 struct wasd_err *err);

#endif
