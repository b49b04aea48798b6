/* backend/backend.h - a backend computes the layers: one file per backend plus a row in table.c.
 *
 * A backend owns the layout of activations. It says how many bytes a tensor takes, and imports and exports images. In
 * between, only the kernels that it lists touch the data and, if its layout consists of planes, the layers' own
 * kernels. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "layers/layer.h"

struct backend_kernel {
	const char *op;
	const struct layer_kernel *kernel;
};

struct backend {
	const char *name, *summary;
	/* Writes version and kernels of the underlying library, because the bits of results depend on them. */
	void (*library)(char *out, size_t size); /* NULL: no library */
	/* Whether this processor can compute in precision p; err says what it lacks. Changes nothing. */
	enum wasd_status (*offers)(enum wasd_precision p, struct wasd_err *err); /* NULL: float32 on any processor */
	/* Called for every exec in an offered precision; checks that the underlying library can be trusted. */
	enum wasd_status (*open)(struct wasd_err *err); /* NULL: nothing to check */
	/* Sets strides and bytes of t for n images. Called with the largest batch when planning, and again when a pass has
	 * another n. */
	void (*layout)(struct tensor *t, int n, enum wasd_precision p);
	void (*import)(const struct tensor *t, int n, const real *nchw);
	/* Planes first .. first+count-1 of the maps; plane i is channel i % C of image i / C. */
	void (*export)(const struct tensor *t, int first, int count, real *nchw);
	const struct backend_kernel *kernels; /* ends with op NULL; an operation not listed uses its layer's own kernel */
	bool planes; /* tensors are planes of `real`, so the layers' own kernels work on them directly; otherwise on copies
	                (relaid.c) */
	int block;   /* channels that its kernels compute together; 0: 1 */
	bool plain;  /* the kernels support no fused residual or activation and nothing in place, and need every tensor of
	                the pass kept */
};

const struct backend *backend_at(int i);              /* table.c; NULL after the last */
const struct backend *backend_find(const char *name); /* NULL if there is no such row */
/* Returns the row of that name or, for NULL, the first row that can compute in p on this machine. WASD_ENOTFOUND: no
 * such row. WASD_EUNSUPPORTED: it cannot; err says why. */
enum wasd_status backend_choose(const char *name, enum wasd_precision p, const struct backend **out,
                                struct wasd_err *err);
/* The backend of int8 networks, whose tensors have a quant; it is no row of the table. WASD_EUNSUPPORTED: this build or
 * this processor has none; err says why. */
enum wasd_status backend_int8(const struct backend **out, struct wasd_err *err);
/* NULL: neither the backend nor the layer has a kernel. */
const struct layer_kernel *backend_kernel_of(const struct backend *b, const struct layer *l);
/* Runs a layer's own kernel on copies in planes, for backends with another layout. */
extern const struct layer_kernel relaid_kernel;

/* For plane layouts. */
void planes_import(const struct tensor *t, int n, const real *nchw);
void planes_export(const struct tensor *t, int first, int count, real *nchw);

/* Depthwise convolution (one input channel per group) in plane layouts, where a matrix product would have a single
 * row. */
extern const struct layer_kernel depthwise_kernel;

#endif
