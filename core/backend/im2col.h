/* backend/im2col.h - a convolution as a matrix product: gathering what the taps see. Channel-major layout. */
#ifndef BACKEND_IM2COL_H
#define BACKEND_IM2COL_H

#include "layers/layer.h"

/* Geometry of one convolution; padding may be negative. */
struct window {
	int h, w, oh, ow, kh, kw, stride, pad_top, pad_left;
};

/* Output columns are counted over (image, output row, output column) in that order. `row0` and `rows` count output rows
 * over all images. col: (channels*kh*kw, rows*ow), row (c,ky,kx) = what tap (ky,kx) of channel c sees, zero outside the
 * image. x: channel 0; channel c at x + c*sc, its n images of h*w next to each other. */
void im2col(const struct window *g, const real *x, size_t sc, int n, int channels, int row0, int rows, real *col);
/* The transpose: adds col back to where it was taken from. */
void col2im(const struct window *g, real *x, size_t sc, int channels, int row0, int rows, const real *col);

#endif
