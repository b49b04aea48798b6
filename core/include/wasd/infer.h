/* wasd/infer.h - serving: a checkpoint compiled for one mode, and predictions from it.
 *
 *   bundle      one mode of one checkpoint: BatchNorm folded into the convolutions, DOM's dead taps dropped. Immutable
 *               and ref-counted; any thread may hold one.
 *   predictor   plans of one bundle for a few batch sizes, made when first needed. Belongs to the compute thread.
 */
#ifndef WASD_INFER_H
#define WASD_INFER_H

#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/mode.h"

/* A mode of a checkpoint: of the checkpoint's own list, or of a mode file that was made of it (wasd/profile.h). All
 * borrowed during a call. */
struct wasd_mode_source {
	const void *file;
	size_t len; /* the checkpoint (protocol.h) */
	const void *mode_file;
	size_t mode_len;  /* NULL: the list's */
	const char *name; /* in the list; of a mode file: what the mode is called */
};
/* Entry i of a checkpoint's list: its name. WASD_ENOTFOUND after the last. */
enum wasd_status wasd_mode_at(const void *file, size_t len, int i, char name[WASD_MODE_LEN], struct wasd_err *err);

struct wasd_bundle;
/* WASD_ECORRUPT names what is wrong with a file; WASD_ENOTFOUND: this checkpoint has no such mode (DOM of a run without
 * WAS); WASD_ESTATE: the mode's BatchNorm statistics were never measured. */
enum wasd_status wasd_bundle_create(const struct wasd_mode_source *from, struct wasd_bundle **out,
                                    struct wasd_err *err);
struct wasd_bundle *wasd_bundle_ref(struct wasd_bundle *b);
void wasd_bundle_unref(struct wasd_bundle *b);
const char *wasd_bundle_mode(const struct wasd_bundle *b); /* its name */
const char *wasd_bundle_arch(const struct wasd_bundle *b);
struct wasd_shape wasd_bundle_shape(const struct wasd_bundle *b);
int wasd_bundle_classes(const struct wasd_bundle *b);
const char *wasd_bundle_class(const struct wasd_bundle *b, int i);
const struct wasd_prepare *wasd_bundle_prepare(
	const struct wasd_bundle *b);                       /* how pictures become its input: as for its training data */
uint64_t wasd_bundle_macs(const struct wasd_bundle *b); /* multiply-adds of one image in this mode */
size_t wasd_bundle_bytes(
	const struct wasd_bundle *b); /* folded weights, also in the packed forms that predictors made so far */

#define WASD_PREDICT_MAX 64
struct wasd_predictor;
struct wasd_predictor_opts {
	enum wasd_precision precision;
	const char *backend;      /* both as in wasd_exec_opts */
	struct wasd_arena *arena; /* shared by the predictors of one thread; NULL = one of its own */
};
/* Takes a reference on the bundle. */
enum wasd_status wasd_predictor_create(struct wasd_bundle *b, const struct wasd_predictor_opts *o,
                                       struct wasd_predictor **out, struct wasd_err *err);
void wasd_predictor_destroy(struct wasd_predictor *p);
/* x: n images (N,C,H,W), normalised as the loader does; logits: (n,classes). Any n: more than WASD_PREDICT_MAX go in
 * several passes. The same images in the same order give the same bits; the last bits of one image may differ with the
 * number that goes with it. */
enum wasd_status wasd_predictor_run(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err);
size_t wasd_predictor_bytes(const struct wasd_predictor *p); /* planned memory so far, without a shared arena's */

/* How passes of n images are computed (wasd_exec_explain); NULL: none has been. The caller deletes it. */
struct cJSON *wasd_predictor_explain(const struct wasd_predictor *p, int n);

/* Decoded pixels to network input: (v/255 - 0.5)/0.5, as the loader's. n values. */
void wasd_normalise(const uint8_t *px, size_t n, real *x);

#endif
