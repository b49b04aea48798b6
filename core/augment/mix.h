/* augment/mix.h - what MixUp and CutMix share. Image i is mixed with image n-1-i of its batch, which is as random as
 * any pairing, since the order of the images is; the middle one of an odd batch stays as it is. */
#ifndef AUGMENT_MIX_H
#define AUGMENT_MIX_H

#include "augment/augment.h"

/* A number from Beta(alpha, alpha); 1 if alpha is 0. */
double mix_beta(struct wasd_rng *r, double alpha);
/* Sets the labels of a batch in which every image keeps the share `own` of itself and has the rest of its partner. The
 * label of the larger part comes first. */
void mix_labels(struct augment_batch *b, double own);

#endif
