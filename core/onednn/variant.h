/* onednn/variant.h - the algorithms of a convolution step: one variant for each (images, kernel size, padding) that
 * occurs.
 *
 * Shadow weights with dead taps arrive as a smaller kernel with unequal padding. For each direction a variant takes the
 * fastest of
 *
 *   direct     oneDNN's direct convolution, with the kernel as it is
 *   Winograd   oneDNN's F(4x4,3x3), stride 1, float32. A smaller kernel is embedded into 3x3 zeros
 *   taps       our own direct kernels (taps.h), for few images, strides and single taps
 *   minimal    our own F(4x4, kh x kw) for 2 and 3 taps per side (minimal.h), stride 1, float32: dropped taps save work
 *              here too
 *
 * as measured (tune.h). fp32-strict uses only direct. oneDNN accepts neither a kernel without taps nor one whose
 * windows leave the image (a crop): such kernels are always embedded for it. */
#ifndef ONEDNN_VARIANT_H
#define ONEDNN_VARIANT_H

#include "onednn/minimal.h"
#include "onednn/prim.h"
#include "onednn/taps.h"
#include "onednn/tune.h"

/* The kernel that smaller kernels are embedded into, and its padding. */
struct grid {
	int kh, kw, pad_top, pad_left;
};

struct direction {
	struct prim *prim;      /* at most one of these three; none: the variant lacks this direction */
	struct minimal minimal; /* n = 0: not used */
	struct taps taps;
	bool embedded;
	struct tune_result measured; /* all us 0: there was no choice */
};
struct variant {
	int n, kh, kw, pad_top, pad_left;
	struct direction dir[PRIM_PASSES];
};

struct grid grid_of(const struct node *nd);
/* Makes the kernel acceptable for oneDNN on one axis: at least one tap, zeros instead of negative padding, windows that
 * reach the end of the image. */
void grid_widen(int *k, int *begin, int in, int out, int stride);
/* Input channels of a filter as passed to oneDNN: fewer than 16 channels in a block count as 16, padded with zeros,
 * because oneDNN has only plain loops otherwise. Such kernels are embedded. */
int filter_channels(const struct step *s);
/* Completes *v from its first five members; PRIM_DATA only if s->dx[0] exists. False, with s->status set: no primitive,
 * or no memory. */
bool variant_create(struct step *s, struct variant *v, bool training);
void variant_done(struct variant *v);
/* Bytes of the weights in the form of this direction, and of its workspace. */
size_t direction_weight_bytes(const struct direction *d);
size_t direction_scratch_bytes(const struct direction *d);
/* Identifies that form: equal for directions that can share packed weights. */
uint64_t direction_form(const struct direction *d);
void variant_explain(const struct step *s, const struct variant *v, cJSON *to);

#endif
