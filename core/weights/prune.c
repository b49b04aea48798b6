/* weights/prune.c - masks over the weights of layers. See prune.h. */
#include "weights/prune.h"

#include <stdio.h>
#include <string.h>

enum { PIECE = 1 << 16, DIGIT = 16, DIGITS = 1 << DIGIT }; /* weights per task: a multiple of 64 */

const char *const prune_scopes[] = {"layer", "global", NULL};

/* ---- the masks ------------------------------------------------------------------------------------------ */

static size_t words_of(size_t n)
{
	return (n + 63) / 64;
}

static void list_pieces(struct prune *p)
{
	for (int l = 0; l < p->n_layers; l++)
		for (size_t from = 0; from < p->layer[l].n; from += PIECE) {
			size_t to = from + PIECE < p->layer[l].n ? from + PIECE : p->layer[l].n;
			p->piece[p->n_pieces++] = (struct prune_piece){l, from, to};
		}
}

enum wasd_status prune_create(struct prune *p, const struct weight_setup *setup, struct wasd_err *err)
{
	size_t words = 0, pieces = 0;
	*p = (struct prune){.n_layers = setup->n_params};
	for (int i = 0; i < setup->n_params; i++) {
		words += words_of(setup->param[i].info.count);
		pieces += (setup->param[i].info.count + PIECE - 1) / PIECE;
	}
	p->layer = wasd_calloc((size_t)setup->n_params + 1, sizeof *p->layer);
	p->words = wasd_calloc(words + 1, sizeof *p->words);
	p->piece = wasd_calloc(pieces + 1, sizeof *p->piece);
	p->histogram = wasd_calloc(DIGITS, sizeof *p->histogram);
	p->metric = wasd_calloc((size_t)setup->n_params + 1, sizeof *p->metric);
	if (!p->layer || !p->words || !p->piece || !p->histogram || !p->metric)
		return wasd_fail(err, WASD_ENOMEM, "masks of %zu weights", 64 * words);
	words = 0;
	size_t first = 0;
	for (int i = 0; i < setup->n_params; i++) {
		const struct weight_param *w = &setup->param[i];
		p->layer[i] = (struct prune_layer){.param = w,
		                                   .name = wasd_graph_node_info(setup->graph, w->node).name,
		                                   .alive = p->words + words,
		                                   .first = first,
		                                   .n = w->info.count};
		words += words_of(w->info.count);
		first += w->info.count;
		for (size_t k = 0; k < w->info.count; k++)
			p->layer[i].alive[k / 64] |= UINT64_C(1) << k % 64;
		if (strlen(p->layer[i].name) < WASD_METRIC_NAME - sizeof "prune_alive")
			snprintf(p->metric[i], sizeof p->metric[i], "prune_alive/%s", p->layer[i].name);
	}
	list_pieces(p);
	prune_recount(p);
	return WASD_OK;
}

void prune_done(struct prune *p)
{
	wasd_free(p->layer);
	wasd_free(p->words);
	wasd_free(p->piece);
	wasd_free(p->histogram);
	wasd_free(p->metric);
}

bool prune_state(const struct prune *p, int i, struct weight_state *out)
{
	if (i >= p->n_layers)
		return false;
	const struct wasd_param_info *w = &p->layer[i].param->info;
	*out = (struct weight_state){.name = w->name, .ndims = w->ndims, .bits = (uint8_t *)p->layer[i].alive};
	for (int d = 0; d < w->ndims; d++)
		out->dims[d] = (size_t)w->dims[d];
	return true;
}

void prune_recount(struct prune *p)
{
	p->n = p->living = 0;
	for (int l = 0; l < p->n_layers; l++) {
		struct prune_layer *at = &p->layer[l];
		at->living = 0;
		for (size_t i = 0; i < words_of(at->n); i++)
			at->living += (size_t)__builtin_popcountll(at->alive[i]);
		p->n += at->n;
		p->living += at->living;
	}
}

WASD_HOT static void mask_word(uint64_t alive, size_t n, real *restrict w)
{
	for (size_t k = 0; k < n; k++)
		w[k] = alive >> k & 1 ? w[k] : 0;
}

struct each {
	const struct prune *p;
	void (*fn)(void *ctx, const struct prune_piece *at);
	void *ctx;
};

static void each_piece(void *ctx, int begin, int end, int thread)
{
	const struct each *e = ctx;
	(void)thread;
	for (int i = begin; i < end; i++)
		e->fn(e->ctx, &e->p->piece[i]);
}

void prune_each(struct prune *p, void (*fn)(void *ctx, const struct prune_piece *at), void *ctx)
{
	wasd_parallel(p->n_pieces, each_piece, &(struct each){p, fn, ctx});
}

static void mask_piece(void *ctx, const struct prune_piece *at)
{
	const struct prune *p = ctx;
	const struct prune_layer *l = &p->layer[at->layer];
	real *w = p->block + l->param->info.offset;
	for (size_t k = at->from; k < at->to && l->living < l->n; k += 64)
		if (~l->alive[k / 64])
			mask_word(l->alive[k / 64], at->to - k < 64 ? at->to - k : 64, w + k);
}

void prune_mask(struct prune *p, real *block)
{
	if (p->living == p->n)
		return;
	p->block = block;
	prune_each(p, mask_piece, p);
}

enum wasd_status prune_resumed(void *self, const real *master, struct wasd_err *err)
{
	(void)master;
	(void)err;
	prune_recount(self);
	return WASD_OK;
}

void prune_after_step(void *self, const struct weight_run *r)
{
	prune_mask(self, r->master);
}

bool prune_applies(const struct wasd_graph *g, wasd_node n)
{
	struct wasd_node_info i = wasd_graph_node_info(g, n);
	return i.groups < 2 || wasd_graph_param_info(g, i.weight).dims[1] > 1;
}

static double share(size_t part, size_t of)
{
	return of ? (double)part / (double)of : 0;
}

bool prune_metric(const struct prune *p, int i, const char **name, double *value)
{
	*name = "prune_alive";
	*value = share(p->living, p->n);
	if (!i)
		return true;
	for (int l = 0; l < p->n_layers; l++)
		if (*p->metric[l] && !--i) {
			*name = p->metric[l];
			*value = share(p->layer[l].living, p->layer[l].n);
			return true;
		}
	return false;
}

/* ---- ranking -------------------------------------------------------------------------------------------- */

uint64_t prune_key_of(double v)
{
	uint64_t key;
	memcpy(&key, &v, sizeof key); /* numbers that are not negative have the order of their bits */
	return key;
}

double prune_key_value(uint64_t key)
{
	double v;
	memcpy(&v, &key, sizeof v);
	return v;
}

uint64_t prune_random_salt(uint64_t seed, uint64_t step, int layer)
{
	struct wasd_rng r;
	wasd_rng_init(&r, seed, "prune", step, (uint64_t)layer);
	return wasd_rng_u64(&r);
}

/* A finalizer of splitmix64: neighbours get keys that have nothing in common. */
static uint64_t scatter(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

uint64_t prune_random_key(uint64_t salt, size_t i)
{
	return scatter(salt + i * UINT64_C(0x9e3779b97f4a7c15)) >> 1;
}

struct range {
	int first, last;
};

static struct range layers_of(const struct prune *p, int layer)
{
	return layer == PRUNE_ALL ? (struct range){0, p->n_layers} : (struct range){layer, layer + 1};
}

/* A ranking of living weights; without the last of each layer if they are `spared`. */
struct ranking {
	struct range r;
	prune_key key;
	const void *ctx;
	bool spared;
};

/* Counts the digit above `shift` of the keys whose higher digits are `prefix`. */
static void count_digits(struct prune *p, const struct ranking *by, int shift, uint64_t prefix)
{
	memset(p->histogram, 0, DIGITS * sizeof *p->histogram);
	for (int l = by->r.first; l < by->r.last; l++)
		for (size_t i = 0; i < p->layer[l].n; i++) {
			if (!prune_lives(&p->layer[l], i) || (by->spared && i == p->layer[l].last))
				continue;
			uint64_t k = by->key(by->ctx, l, i);
			if (shift + DIGIT == 64 || k >> (shift + DIGIT) == prefix)
				p->histogram[k >> shift & (DIGITS - 1)]++;
		}
}

/* The key at place *rank; then *rank is its place among the equal ones. */
static uint64_t find_rank(struct prune *p, const struct ranking *by, size_t *rank)
{
	uint64_t found = 0;
	for (int shift = 64 - DIGIT; shift >= 0; shift -= DIGIT) {
		size_t digit = 0;
		count_digits(p, by, shift, found);
		while (digit + 1 < DIGITS && *rank >= p->histogram[digit])
			*rank -= p->histogram[digit++];
		found = found << DIGIT | digit;
	}
	return found;
}

uint64_t prune_rank(struct prune *p, int layer, size_t rank, prune_key key, const void *ctx)
{
	return find_rank(p, &(struct ranking){layers_of(p, layer), key, ctx, false}, &rank);
}

static void kill(struct prune *p, int layer, size_t i)
{
	p->layer[layer].alive[i / 64] &= ~(UINT64_C(1) << i % 64);
	p->layer[layer].living--;
	p->living--;
}

/* Finds the weight of each layer that would die last. */
static void find_last(struct prune *p, const struct ranking *by, enum prune_ties ties)
{
	for (int l = by->r.first; l < by->r.last; l++) {
		struct prune_layer *at = &p->layer[l];
		uint64_t most = 0;
		at->last = SIZE_MAX;
		for (size_t i = 0; i < at->n; i++) {
			if (!prune_lives(at, i))
				continue;
			uint64_t k = by->key(by->ctx, l, i);
			if (at->last == SIZE_MAX || k > most || (k == most && ties == PRUNE_TIES_LOW)) {
				at->last = i;
				most = k;
			}
		}
	}
}

/* Kills the keys below `below`, and `equal` of those that are equal to it. */
static size_t kill_lowest(struct prune *p, const struct ranking *by, uint64_t below, size_t equal, enum prune_ties ties)
{
	size_t before = p->living;
	bool up = ties == PRUNE_TIES_LOW;
	for (int n = 0; n < by->r.last - by->r.first; n++) {
		int at = up ? by->r.first + n : by->r.last - 1 - n;
		struct prune_layer *l = &p->layer[at];
		for (size_t k = 0; k < l->n; k++) {
			size_t i = up ? k : l->n - 1 - k;
			if (i == l->last || !prune_lives(l, i))
				continue;
			uint64_t of = by->key(by->ctx, at, i);
			if (of < below || (of == below && equal)) {
				equal -= of == below;
				kill(p, at, i);
			}
		}
	}
	return before - p->living;
}

size_t prune_kill(struct prune *p, int layer, size_t n, prune_key key, const void *ctx, enum prune_ties ties)
{
	struct ranking by = {layers_of(p, layer), key, ctx, true};
	size_t can = 0;
	for (int l = by.r.first; l < by.r.last; l++)
		can += p->layer[l].living ? p->layer[l].living - 1 : 0;
	n = n < can ? n : can;
	if (!n)
		return 0;
	find_last(p, &by, ties);
	size_t rank = n - 1;
	uint64_t below = find_rank(p, &by, &rank);
	return kill_lowest(p, &by, below, rank + 1, ties);
}

size_t prune_kill_below(struct prune *p, int layer, uint64_t below, prune_key key, const void *ctx)
{
	struct ranking by = {layers_of(p, layer), key, ctx, true};
	find_last(p, &by, PRUNE_TIES_HIGH);
	return kill_lowest(p, &by, below, 0, PRUNE_TIES_HIGH);
}
