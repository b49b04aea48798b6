/* backend/im2col.h - a convolution as a matrix product: gathers the values that each tap sees. Channel-major layout. */
#ifndef BACKEND_IM2COL_H
#define BACKEND_IM2COL_H

#include "layers/layer.h"

/* Geometry of one convolution; padding may be negative. */
struct window {
	int h, w, oh, ow, kh, kw, stride, pad_top, pad_left;
};

/* Output columns are numbered by (image, output row, output column). `row0` and `rows` count output rows over all
 * images. col: (channels*kh*kw, rows*ow); row (c,ky,kx) holds what tap (ky,kx) of channel c sees, zero outside the
 * image. x: channel 0; channel c is at x + c*sc, with its n images of h*w next to each other. */
void im2col(const struct window *g, const real *x, size_t sc, int n, int channels, int row0, int rows, real *col);
/* The transpose of im2col: adds col back to the positions it came from. */
void col2im(const struct window *g, real *x, size_t sc, int channels, int row0, int rows, const real *col);

#endif
