/* backend/conv_job.h - shared by the convolution algorithms of the OpenBLAS backend. Channel-major layout. */
#ifndef BACKEND_CONV_JOB_H
#define BACKEND_CONV_JOB_H

#include "backend/im2col.h"

/* One convolution of one group: forward, or the input gradient as a convolution with rotated weights. */
struct conv_job {
	struct window win;
	int n, channels, outs; /* images, input and output channels */
	const real *w;         /* (outs, channels, kh, kw) */
	const real *x;
	size_t xsc; /* stride between channels */
	real *y;
	size_t ysc;
	bool add;               /* y += instead of y = */
	const real *bias, *res; /* NULL = none */
	size_t rsc;
	enum act act;
	int tile_rows, tiles, parts; /* output rows per tile; tiles; parts of the output channels, if tiles are few */
	real *scratch;
	size_t scratch_each; /* elements per thread */
};

/* Applies bias, residual and activation to columns first..first+cols-1 of output channels o0..o1-1. */
void conv_finish(const struct conv_job *j, int o0, int o1, size_t first, int cols);

/* ---- winograd.c ------------------------------------------------------------------------------- */

/* Whether the algorithm applies to this shape and pays off. */
bool winograd_fits(const struct window *g, int n, int channels, int outs);
/* Elements of scratch for winograd_run and, if weights, winograd_weights; kernels up to 3x3. */
size_t winograd_scratch(int channels, int outs, int tiles_wide, int threads, bool weights);
void winograd_run(const struct conv_job *j, int threads);
/* dw (outs,channels,kh,kw) += gradient; dy: (outs rows, dysc), x as above. Uses j's win, n, channels, outs, x, xsc,
 * scratch. */
void winograd_weights(const struct conv_job *j, const real *dy, size_t dysc, real *dw, int threads);

#endif
