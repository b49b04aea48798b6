/* graph/arena.c - one block of memory shared by the passes of many plans. A plan's data in it is needed only during its
 * own pass, so plans that never run at the same time can overlap, and the block is as large as the largest plan. A plan
 * reserves its bytes when it is created, and binds its tensors to the block again before a pass if the block has moved.
 */
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
