/* layers/packs.h - constant weights in the forms that kernels want them in. A bundle's weights never change: each form
 * is made once, when a kernel first asks for it, and shared by every plan of the model, whatever its batch size. */
#ifndef LAYERS_PACKS_H
#define LAYERS_PACKS_H

#include "wasd/base.h"

struct packs;

struct packs *packs_create(void); /* NULL: no memory */
void packs_destroy(struct packs *p);
size_t packs_bytes(struct packs *p);
/* The form `key` of the weights at `weight`; fill makes it in `to` (64-byte aligned, `bytes` long, zeroed) when it is
 * not there yet. Valid until packs_destroy. NULL: no memory, or fill failed. Any thread; fill runs under a lock. */
const void *packs_get(struct packs *p, const void *weight, uint64_t key, size_t bytes,
                      bool (*fill)(void *ctx, void *to), void *ctx);

#endif
