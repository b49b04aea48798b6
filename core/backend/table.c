/* backend/table.c - the backends, best first; the reference stays last. */
#include "backend/backend.h"

#include <string.h>

extern const struct backend backend_openblas, backend_ref, backend_onednn, backend_onednn_int8;

const struct backend *backend_at(int i)
{
	static const struct backend *const table[] = {
#ifdef WASD_ONEDNN
		&backend_onednn,
#endif
		&backend_openblas,
		&backend_ref,
	};
	return i >= 0 && i < (int)(sizeof table / sizeof table[0]) ? table[i] : NULL;
}

const struct backend *backend_find(const char *name)
{
	const struct backend *b;
	for (int i = 0; (b = backend_at(i)) != NULL; i++)
		if (!strcmp(name, b->name))
			return b;
	return NULL;
}

static enum wasd_status offers(const struct backend *b, enum wasd_precision p, struct wasd_err *err)
{
	if (b->offers)
		return b->offers(p, err);
	if (p == WASD_PRECISION_BF16)
		return wasd_fail(err, WASD_EUNSUPPORTED, "the %s backend computes in float32 only", b->name);
	return WASD_OK;
}

enum wasd_status backend_choose(const char *name, enum wasd_precision p, const struct backend **out,
                                struct wasd_err *err)
{
	const struct backend *b;
	struct wasd_err why = {0};
	enum wasd_status s = WASD_EUNSUPPORTED;
	if (name) {
		if (!(b = backend_find(name)))
			return wasd_fail(err, WASD_ENOTFOUND, "unknown backend \"%s\"", name);
		if ((s = offers(b, p, err)) == WASD_OK)
			*out = b;
		return s;
	}
	wasd_fail(&why, s, "no backend of this build computes in %s", wasd_precision_name(p));
	for (int i = 0; (b = backend_at(i)) != NULL; i++) {
		/* Prefer the reason from a row that supports this precision, just not on this processor. */
		if ((s = offers(b, p, b->offers ? &why : NULL)) == WASD_OK) {
			*out = b;
			return WASD_OK;
		}
	}
	if (err)
		*err = why;
	return s;
}

enum wasd_status backend_int8(const struct backend **out, struct wasd_err *err)
{
#ifdef WASD_ONEDNN
	*out = &backend_onednn_int8;
	return backend_onednn_int8.offers(WASD_PRECISION_FP32, err);
#else
	(void)out;
	return wasd_fail(err, WASD_EUNSUPPORTED, "int8 needs oneDNN, which this build lacks");
#endif
}

enum wasd_status wasd_int8_offers(struct wasd_err *err)
{
	const struct backend *b;
	return backend_int8(&b, err);
}

const char *wasd_precision_name(enum wasd_precision p)
{
	return wasd_precisions[p];
}

bool wasd_precision_from_name(const char *name, enum wasd_precision *out)
{
	for (int p = 0; p < WASD_PRECISIONS; p++)
		if (!strcmp(name, wasd_precision_name((enum wasd_precision)p))) {
			*out = (enum wasd_precision)p;
			return true;
		}
	return false;
}

const struct layer_kernel *backend_kernel_of(const struct backend *b, const struct layer *l)
{
	for (const struct backend_kernel *k = b->kernels; k->op; k++)
		if (!strcmp(k->op, l->op))
			return k->kernel;
	return b->planes || !l->kernel ? l->kernel : &relaid_kernel;
}

void planes_import(const struct tensor *t, int n, const real *nchw)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	for (int i = 0; i < n; i++)
		for (int c = 0; c < t->shape.c; c++, nchw += hw)
			memcpy(tensor_plane(t, i, c), nchw, hw * sizeof(real));
}

void planes_export(const struct tensor *t, int first, int count, real *nchw)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	for (int i = first; i < first + count; i++, nchw += hw)
		memcpy(nchw, tensor_plane(t, i / t->shape.c, i % t->shape.c), hw * sizeof(real));
}
