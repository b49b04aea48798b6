/* backend/backend.h - what computes: one file per backend plus a row in table.c.
 *
 * A backend owns the layout of activations. It says how many bytes a tensor takes and how images come in and out;
 * between the two ends nothing else touches the data but the kernels that it lists and, when its layout is one of
 * planes, the layers' own kernels.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "layers/layer.h"

struct backend_kernel {
	const char *op;
	const struct layer_kernel *kernel;
};

struct backend {
	const char *name, *summary;
	/* Writes version and kernels of the library underneath: bits depend on them. */
	void (*library)(char *out, size_t size); /* NULL: there is none */
	/* Whether this processor can compute in p; err says what it lacks. Changes nothing. */
	enum wasd_status (*offers)(enum wasd_precision p, struct wasd_err *err); /* NULL: float32 on any */
	/* Called for every exec in an offered precision; checks that the library underneath can be trusted. */
	enum wasd_status (*open)(struct wasd_err *err); /* NULL: nothing to check */
	/* Strides and bytes of t for n images. Called with the largest batch when planning, and again whenever a pass has
	 * another n. */
	void (*layout)(struct tensor *t, int n, enum wasd_precision p);
	void (*import)(const struct tensor *t, int n, const real *nchw);
	void (*export)(const struct tensor *t, int n, real *nchw);
	const struct backend_kernel *kernels; /* ended by op NULL; an operation that is missing uses its layer's kernel */
	bool planes; /* tensors are planes of `real`: the layers' kernels compute on them; else on copies (relaid.c) */
	bool plain;  /* kernels know no fused residual or activation, nothing in place, and want every tensor of the pass
	                kept */
};

const struct backend *backend_at(int i);              /* table.c; NULL after the last */
const struct backend *backend_find(const char *name); /* NULL when there is no such row */
/* The row of that name, or for NULL the first one, that can compute in p here. WASD_ENOTFOUND: no such row.
 * WASD_EUNSUPPORTED: it cannot, and why. */
enum wasd_status backend_choose(const char *name, enum wasd_precision p, const struct backend **out,
                                struct wasd_err *err);
/* NULL: neither the backend nor the layer has one. */
const struct layer_kernel *backend_kernel_of(const struct backend *b, const struct layer *l);
/* A layer's own kernel on copies in planes, for backends with another layout. */
extern const struct layer_kernel relaid_kernel;

/* For plane layouts. */
void planes_import(const struct tensor *t, int n, const real *nchw);
void planes_export(const struct tensor *t, int n, real *nchw);

/* Depthwise convolution (one input channel per group) in plane layouts, used where a matrix product would be one row
 * high. */
extern const struct layer_kernel depthwise_kernel;

#endif
