/* onednn/variant.h - which primitives compute a convolution step: one variant for each (images, kernel size, padding) that its passes bring.
 *
 * Shadow weights with dead taps come as a smaller kernel with unequal padding. For each direction a variant takes the fastest of
 *
 *   direct     the kernel as it is
 *   Winograd   F(4x4,3x3), stride 1, float32: all nine taps at about 4/9 of the multiplications. A smaller kernel is laid into 3x3 zeros
 *              ("embedded")
 *
 * by measurement (tune.h). A kernel without taps, or one whose windows leave the image (a crop), is always embedded: oneDNN takes neither. */
#ifndef ONEDNN_VARIANT_H
#define ONEDNN_VARIANT_H

#include "onednn/prim.h"
#include "onednn/tune.h"

/* The kernel that smaller ones are laid into, and its padding. */
struct grid { int kh, kw, pad_top, pad_left; };

struct direction { struct prim *prim; bool embedded; struct tune_result measured; };      /* measured.us 0: there was no choice */
struct variant { int n, kh, kw, pad_top, pad_left; struct direction dir[PRIM_PASSES]; };

struct grid grid_of(const struct node *nd);
/* Makes *v from its first five members. PRIM_DATA where s->dx[0] is. False, with s->status set: no primitive, or no memory. */
bool variant_create(struct step *s, struct variant *v, bool training);
void variant_done(struct variant *v);
void variant_explain(const struct step *s, const struct variant *v, cJSON *to);

#endif
