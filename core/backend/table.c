/* backend/table.c - the backends, best first; the reference stays last. */
#include "backend/backend.h"

#include <string.h>

extern const struct backend backend_openblas, backend_ref, backend_onednn, backend_onednn_bf16;

const struct backend *backend_at(int i)
{
	static const struct backend *const table[] = {
		&backend_openblas,
#ifdef WASD_ONEDNN
		&backend_onednn, &backend_onednn_bf16,
#endif
		&backend_ref,
	};
	return i >= 0 && i < (int)(sizeof table / sizeof table[0]) ? table[i] : NULL;
}

const struct backend *backend_find(const char *name)
{
	const struct backend *b;
	for (int i = 0; (b = backend_at(i)) != NULL; i++)
		if (!name || !strcmp(name, b->name))
			return b;
	return NULL;
}

const struct layer_kernel *backend_kernel_of(const struct backend *b, const struct layer *l)
{
	for (const struct backend_kernel *k = b->kernels; k->op; k++)
		if (!strcmp(k->op, l->op))
			return k->kernel;
	return l->kernel;
}

void planes_import(const struct tensor *t, int n, const real *nchw)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	for (int i = 0; i < n; i++)
		for (int c = 0; c < t->shape.c; c++, nchw += hw)
			memcpy(tensor_plane(t, i, c), nchw, hw * sizeof(real));
}

void planes_export(const struct tensor *t, int n, real *nchw)
{
	size_t hw = (size_t)t->shape.h * (size_t)t->shape.w;
	for (int i = 0; i < n; i++)
		for (int c = 0; c < t->shape.c; c++, nchw += hw)
			memcpy(nchw, tensor_plane(t, i, c), hw * sizeof(real));
}
