/* tests/core/backends.h - the backends that this machine can test. */
#ifndef TESTS_BACKENDS_H
#define TESTS_BACKENDS_H

#include "backend/backend.h"

/* Whether the oneDNN backend is built in and this processor can run it. */
static inline bool fast_backend_runs(void)
{
	struct wasd_err err;
	const struct backend *b = backend_find("onednn");
	return b && b->open(&err) == WASD_OK;
}

#endif
