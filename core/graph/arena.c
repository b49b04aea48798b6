/* graph/arena.c - one block of memory for the passes of many plans. What a plan keeps there matters during its own pass
 * only, so plans that never run at the same time can lie over each other; the block is as large as the largest of them.
 * A plan reserves its bytes when it is made and binds its tensors to the block before a pass, whenever the block has
 * grown since. */
#include "graph/plan.h"

enum wasd_status wasd_arena_create(struct wasd_arena **out, struct wasd_err *err)
{
	struct wasd_arena *a = wasd_calloc(1, sizeof *a);
	if (!a)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an arena");
	*out = a;
	return WASD_OK;
}

void wasd_arena_destroy(struct wasd_arena *a)
{
	if (!a)
		return;
	tensor_free(a->block);
	wasd_free(a);
}

size_t wasd_arena_bytes(const struct wasd_arena *a)
{
	return a->bytes;
}

enum wasd_status arena_reserve(struct wasd_arena *a, size_t bytes, struct wasd_err *err)
{
	if (bytes <= a->bytes)
		return WASD_OK;
	char *block = tensor_alloc(bytes);
	if (!block)
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu bytes of activations and workspace", bytes);
	tensor_free(a->block);
	a->block = block;
	a->bytes = bytes;
	return WASD_OK;
}
