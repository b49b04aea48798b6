/* quant/copy.c - a copy of an int8 network in one block. */
#include "quant/quant.h"
#include "graph/graph.h"

#include <string.h>

struct sizes {
	size_t w, coarse; /* weights of a layer */
};

static struct sizes sizes_of(const struct node *n)
{
	if (n->layer == &layer_linear)
		return (struct sizes){(size_t)n->in.c * (size_t)n->shape.c, 0};
	size_t rows = (size_t)n->out * (size_t)(n->in.c / n->groups);
	return (struct sizes){rows * (size_t)(n->kh * n->kw), rows};
}

/* Where the parts of the copy are; with at NULL it only counts. */
struct block {
	char *at;
	size_t used;
};

static const void *put(struct block *b, const void *from, size_t bytes)
{
	char *to = b->at ? b->at + b->used : NULL;
	if (to)
		memcpy(to, from, bytes);
	b->used += wasd_aligned(bytes);
	return to;
}

static struct wasd_quant_conv copy_conv(struct block *b, const struct node *n, const struct wasd_quant_conv *c)
{
	struct wasd_quant_conv to = {.on = c->on};
	if (!c->on)
		return to;
	struct sizes s = sizes_of(n);
	size_t scales = (size_t)n->shape.c * sizeof(float);
	to.w = put(b, c->w, s.w);
	to.scale = put(b, c->scale, scales);
	if (c->coarse) {
		to.coarse = put(b, c->coarse, s.coarse);
		to.coarse_scale = put(b, c->coarse_scale, scales);
	}
	return to;
}

static void copy_all(struct block *b, const struct wasd_graph *g, const struct wasd_quant *q)
{
	size_t n = (size_t)q->nodes;
	struct wasd_quant *to = (struct wasd_quant *)(uintptr_t)put(b, q, sizeof *q);
	const void *tensor = put(b, q->tensor, n * sizeof *q->tensor), *conv = put(b, q->conv, n * sizeof *q->conv);
	if (to) {
		to->tensor = (struct wasd_quant_tensor *)(uintptr_t)tensor;
		to->conv = (struct wasd_quant_conv *)(uintptr_t)conv;
	}
	for (size_t i = 0; i < n; i++) {
		struct wasd_quant_conv c = copy_conv(b, &g->nodes[i], &q->conv[i]);
		if (to)
			to->conv[i] = c;
	}
}

size_t quant_bytes(const struct wasd_graph *g, const struct wasd_quant *q)
{
	struct block b = {0};
	copy_all(&b, g, q);
	return b.used;
}

enum wasd_status quant_copy(const struct wasd_graph *g, const struct wasd_quant *q, struct wasd_quant **out,
                            struct wasd_err *err)
{
	struct block b = {.at = wasd_malloc(quant_bytes(g, q))};
	if (!b.at)
		return wasd_fail(err, WASD_ENOMEM, "8-bit weights");
	copy_all(&b, g, q);
	*out = (struct wasd_quant *)(void *)b.at;
	return WASD_OK;
}

void quant_destroy(struct wasd_quant *q)
{
	wasd_free(q);
}
