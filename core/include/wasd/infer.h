/* wasd/infer.h - serving: a checkpoint compiled for one mode, and predictions from it.
 *
 *   bundle      one mode of one checkpoint: BatchNorm folded into the convolutions, DOM's dead taps removed. Immutable
 *               and ref-counted; any thread may hold one.
 *   predictor   plans of one bundle for a few batch sizes, made when first needed. Belongs to the compute thread. */
#ifndef WASD_INFER_H
#define WASD_INFER_H

#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/json.h"
#include "wasd/mode.h"
#include "wasd/pixel.h"

/* Where a mode comes from: the checkpoint's own list, or a mode file derived from it (wasd/profile.h). Everything
 * is borrowed during a call. */
struct wasd_mode_source {
	const void *file;
	size_t len; /* the checkpoint (protocol.h) */
	const void *mode_file;
	size_t mode_len;  /* NULL: the mode is in the list */
	const char *name; /* its name in the list; for a mode file, the name to give the mode */
	/* A bundle of that mode of the checkpoint's list which there is already, for a mode that is made of several; NULL:
	 * there is none. It is referenced. have NULL: nothing is shared. */
	struct wasd_bundle *(*have)(void *ctx, const char *mode);
	void *ctx;
};
/* The name of entry i of a checkpoint's list. WASD_ENOTFOUND after the last. */
enum wasd_status wasd_mode_at(const void *file, size_t len, int i, char name[WASD_MODE_LEN], struct wasd_err *err);

struct wasd_bundle;
/* WASD_ECORRUPT: a file is damaged, the message says how. WASD_ENOTFOUND: the checkpoint has no such mode (DOM of
 * a run without WAS). WASD_ESTATE: the mode's BatchNorm statistics were never measured. */
enum wasd_status wasd_bundle_create(const struct wasd_mode_source *from, struct wasd_bundle **out,
                                    struct wasd_err *err);
struct wasd_bundle *wasd_bundle_ref(struct wasd_bundle *b);
void wasd_bundle_unref(struct wasd_bundle *b);
const char *wasd_bundle_mode(const struct wasd_bundle *b); /* name of the mode */
const char *wasd_bundle_arch(const struct wasd_bundle *b);
struct wasd_shape wasd_bundle_shape(const struct wasd_bundle *b);
int wasd_bundle_classes(const struct wasd_bundle *b);
const char *wasd_bundle_class(const struct wasd_bundle *b, int i);
const struct wasd_prepare *wasd_bundle_prepare(
	const struct wasd_bundle *b); /* how images are prepared for it, as its training data were */
/* Multiply-adds of one image in this mode; with parts, the mean over the validation images that the mode was made with.
 */
uint64_t wasd_bundle_macs(const struct wasd_bundle *b);
/* Folded weights, including the packed forms that predictors have made so far; with parts those of all of them, which
 * they may share with bundles of their own (have of the source). */
size_t wasd_bundle_bytes(const struct wasd_bundle *b);
/* How many networks the mode chooses among for each image; 0: it has one network. */
int wasd_bundle_parts(const struct wasd_bundle *b);

/* The folded network, and which of its nodes are convolutions made of several branches (infer/fold.h); with parts, that
 * of the first. */
struct wasd_model *wasd_bundle_model(struct wasd_bundle *b);
const bool *wasd_bundle_summed(const struct wasd_bundle *b);

#define WASD_PREDICT_MAX 64
struct wasd_predictor;
struct wasd_predictor_opts {
	enum wasd_precision precision;
	const char *backend;      /* both as in wasd_exec_opts */
	struct wasd_arena *arena; /* shared by the predictors of one thread; NULL = the predictor makes its own */
	/* A predictor of that bundle with these options which there is already, for the parts of a bundle that has some;
	 * NULL: there is none. The new one keeps it as long as it lives itself. have NULL: nothing is shared. Called by
	 * create only. */
	struct wasd_predictor *(*have)(void *ctx, const struct wasd_bundle *b);
	void *ctx;
};
/* Takes a reference on the bundle. */
enum wasd_status wasd_predictor_create(struct wasd_bundle *b, const struct wasd_predictor_opts *o,
                                       struct wasd_predictor **out, struct wasd_err *err);
void wasd_predictor_destroy(struct wasd_predictor *p);
/* Runs one image of zeros, in every part, which plans all that a single image needs. WASD_ENUMERIC: an answer is not
 * finite. */
enum wasd_status wasd_predictor_warm(struct wasd_predictor *p, struct wasd_err *err);
/* x: n images (N,C,H,W), normalised as by the loader; logits: (n,classes). n is not limited: more than
 * WASD_PREDICT_MAX images are run in several passes. The same images in the same order give the same bits; the
 * last bits of one image's logits may depend on the number of images.
 * With parts, the first one computes all n images; an image that it answers has the bits that it gives to these n, one
 * that goes to another part those that this gives to the images that go there, in their order. */
enum wasd_status wasd_predictor_run(struct wasd_predictor *p, const real *x, int n, real *logits, struct wasd_err *err);
/* Multiply-adds of an image, mean over those of the last run; without parts those of the bundle. */
uint64_t wasd_predictor_macs(const struct wasd_predictor *p);
/* Memory planned so far, without a shared arena and shared predictors. */
size_t wasd_predictor_bytes(const struct wasd_predictor *p);

/* Lists the algorithms for passes of n images (wasd_exec_explain). NULL: none has run yet. The caller deletes it. */
struct cJSON *wasd_predictor_explain(const struct wasd_predictor *p, int n);

/* How pixels become the network's input, as in training. */
const struct wasd_pixels *wasd_bundle_pixels(const struct wasd_bundle *b);
/* Converts one image (c,h,w) as the loader does. */
void wasd_normalise(const struct wasd_pixels *p, struct wasd_shape s, const uint8_t *px, real *x);

#endif
