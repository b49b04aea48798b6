/* layers/packs.h - constant weights, packed in the forms that kernels need. The weights of a bundle never change, so
 * each form is made once, when a kernel first asks for it, and shared by every plan of the model, whatever its batch
 * size. */
#ifndef LAYERS_PACKS_H
#define LAYERS_PACKS_H

#include "wasd/base.h"

struct packs;

struct packs *packs_create(void); /* NULL: no memory */
void packs_destroy(struct packs *p);
size_t packs_bytes(struct packs *p);
/* Returns the form `key` of the weights at `weight`. If it does not exist yet, fill writes it to `to` (64-byte aligned,
 * `bytes` long, zeroed). Valid until packs_destroy. NULL: no memory, or fill failed. Callable from any thread; fill
 * runs under a lock. */
const void *packs_get(struct packs *p, const void *weight, uint64_t key, size_t bytes,
                      bool (*fill)(void *ctx, void *to), void *ctx);

#endif
