/* merge/layers.h - which networks are the same. */
#ifndef MERGE_LAYERS_H
#define MERGE_LAYERS_H

#include "train/checkpoint.h"

/* A copy of the network without its initial values: two are the same if these are equal. The caller owns it. NULL: no
 * memory. */
cJSON *merge_layers(const struct checkpoint *c);

#endif
