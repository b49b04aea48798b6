/* layers/packs.c - a list of packed forms of constant weights. */
#include "layers/packs.h"
#include "layers/layer.h"

#include <pthread.h>

struct pack {
	const void *weight;
	uint64_t key;
	size_t bytes;
	void *data;
};
struct packs {
	pthread_mutex_t lock;
	struct pack *pack;
	int count, cap;
	size_t bytes;
};

struct packs *packs_create(void)
{
	struct packs *p = wasd_calloc(1, sizeof *p);
	if (p)
		pthread_mutex_init(&p->lock, NULL);
	return p;
}

void packs_destroy(struct packs *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->count; i++)
		tensor_free(p->pack[i].data);
	pthread_mutex_destroy(&p->lock);
	wasd_free(p->pack);
	wasd_free(p);
}

size_t packs_bytes(struct packs *p)
{
	pthread_mutex_lock(&p->lock);
	size_t b = p->bytes;
	pthread_mutex_unlock(&p->lock);
	return b;
}

static const void *find(const struct packs *p, const void *weight, uint64_t key, size_t bytes)
{
	for (int i = 0; i < p->count; i++)
		if (p->pack[i].weight == weight && p->pack[i].key == key && p->pack[i].bytes == bytes)
			return p->pack[i].data;
	return NULL;
}

static bool room(struct packs *p)
{
	if (p->count < p->cap)
		return true;
	int cap = p->cap ? 2 * p->cap : 32;
	struct pack *more = wasd_realloc(p->pack, (size_t)cap * sizeof *more);
	if (!more)
		return false;
	p->pack = more;
	p->cap = cap;
	return true;
}

const void *packs_get(struct packs *p, const void *weight, uint64_t key, size_t bytes,
                      bool (*fill)(void *ctx, void *to), void *ctx)
{
	pthread_mutex_lock(&p->lock);
	const void *found = find(p, weight, key, bytes);
	void *data = NULL;
	if (!found && room(p) && (data = tensor_alloc(bytes)) != NULL) {
		if (fill(ctx, data)) {
			p->pack[p->count++] = (struct pack){weight, key, bytes, data};
			p->bytes += bytes;
			found = data;
		} else {
			tensor_free(data);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return found;
}
