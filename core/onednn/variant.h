/* onednn/variant.h - what computes a convolution step: one variant for each (images, kernel size, padding) that its
 * passes bring.
 *
 * Shadow weights with dead taps come as a smaller kernel with unequal padding. For each direction a variant takes the
 * fastest of
 *
 *   direct     oneDNN's, the kernel as it is
 *   Winograd   oneDNN's F(4x4,3x3), stride 1, float32. A smaller kernel is laid into 3x3 zeros ("embedded")
 *   taps       our own direct kernels (taps.h), for few images, strides and single taps
 *   minimal    our own F(4x4, kh x kw) for 2 and 3 taps a side (minimal.h), stride 1, float32: dropped taps are less
 *              work here too
 *
 * by measurement (tune.h). fp32-strict takes direct only. oneDNN takes neither a kernel without taps nor one whose
 * windows leave the image (a crop): for it such kernels are always embedded. */
#ifndef ONEDNN_VARIANT_H
#define ONEDNN_VARIANT_H

#include "onednn/minimal.h"
#include "onednn/prim.h"
#include "onednn/taps.h"
#include "onednn/tune.h"

/* The kernel that smaller ones are laid into, and its padding. */
struct grid {
	int kh, kw, pad_top, pad_left;
};

struct direction {
	struct prim *prim;      /* at most one of these three; none: the variant has no such direction */
	struct minimal minimal; /* n 0: not this one */
	struct taps taps;
	bool embedded;
	struct tune_result measured; /* all us 0: there was no choice */
};
struct variant {
	int n, kh, kw, pad_top, pad_left;
	struct direction dir[PRIM_PASSES];
};

struct grid grid_of(const struct node *nd);
/* Input channels of a filter as oneDNN gets them: a map of fewer than 16 in a block counts as 16, the rest being zeros,
 * since oneDNN has only plain loops for it otherwise. Its kernels are embedded. */
int filter_channels(const struct step *s);
/* Makes *v from its first five members. PRIM_DATA where s->dx[0] is. False, with s->status set: no primitive, or no
 * memory. */
bool variant_create(struct step *s, struct variant *v, bool training);
void variant_done(struct variant *v);
/* Of the weights in the form that this direction wants, and of its workspace. */
size_t direction_weight_bytes(const struct direction *d);
size_t direction_scratch_bytes(const struct direction *d);
/* Which form that is: equal for directions that can share packed weights. */
uint64_t direction_form(const struct direction *d);
void variant_explain(const struct step *s, const struct variant *v, cJSON *to);

#endif
