/* layers/tensor.c - allocates the memory of tensors. A backend for another device replaces these two functions.
 *
 * Large blocks are aligned to huge pages and request them: channel-major rows lie far apart, and with small pages every
 * row of a tile would miss the TLB. The address of the allocated block is stored right before the pointer returned. */
#include "layers/layer.h"

#include <sys/mman.h>

#define LINE 64
#define HUGE_PAGE ((size_t)2 << 20)

void *tensor_alloc(size_t bytes)
{
	size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE, total;
	if (!wasd_add_size(bytes, align + LINE, &total))
		return NULL;
	char *raw = wasd_calloc(1, total);
	if (!raw)
		return NULL;
	char *p = (char *)(((uintptr_t)raw + sizeof raw + align - 1) / align * align);
	((char **)p)[-1] = raw;
	if (align == HUGE_PAGE)
		madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* only advice; a refusal costs speed */
	return p;
}

void tensor_free(void *p)
{
	if (p)
		wasd_free(((char **)p)[-1]);
}
