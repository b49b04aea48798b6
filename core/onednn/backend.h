/* onednn/backend.h - kernels of the matrix products, for the table in onednn/backend.c. */
#ifndef ONEDNN_BACKEND_H
#define ONEDNN_BACKEND_H

#include "backend/backend.h"

extern const struct layer_kernel onednn_conv, onednn_linear;

#endif
