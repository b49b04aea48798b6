/* onednn/backend.h - kernels of the matrix products, for the rows of onednn/backend.c. */
#ifndef ONEDNN_BACKEND_H
#define ONEDNN_BACKEND_H

#include "backend/backend.h"

extern const struct layer_kernel onednn_conv, onednn_linear;

/* Depthwise convolution of small kernels without a library: whether a step can be run so, and its kernel. */
bool depthwise_takes(const struct step *s);
extern const struct layer_kernel onednn_depthwise;

#endif
