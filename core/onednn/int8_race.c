/* onednn/int8_race.c - measures which is faster for a convolution of 8-bit integers: oneDNN's direct kernel or minimal
 * filtering. Both compute the same bits. Both run on memory of their own, once per machine and shape (tune.h). */
#include "onednn/int8_minimal.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS 10            /* upper limit; each kernel runs once per round */
#define ROUNDS_US 20000      /* time limit, except for the first three rounds */
#define COLD_BYTES (4 << 20) /* of each thread: in a network, other layers' data fill its core's cache in between */

struct race {
	struct prim8_conv direct, minimal;
	struct prim8 *prim;
	void *x, *y, *bias, *own[2], *scratch[2];
	char *cold;
};

static void race_done(struct race *r)
{
	void *const all[] = {r->x, r->y, r->bias, r->own[0], r->own[1], r->scratch[0], r->scratch[1], r->cold};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		tensor_free(all[i]);
	prim8_destroy(r->prim);
}

static void walk(void *ctx, int begin, int end, int thread)
{
	char *cold = ctx;
	(void)thread;
	for (size_t i = (size_t)begin * COLD_BYTES; i < (size_t)end * COLD_BYTES; i += 64)
		cold[i]++;
}

/* Memory that has been written: pages that were only read would all be one page of zeros. */
static void *memory(size_t bytes)
{
	void *p = tensor_alloc(bytes);
	return p ? memset(p, 1, bytes) : NULL;
}

static size_t map_bytes(int n, int c, int h, int w, enum wasd_quant_type type)
{
	return (size_t)n * (size_t)c * (size_t)(h * w) * (type == WASD_QUANT_F32 ? sizeof(float) : 1);
}

static bool race_make(struct race *r)
{
	const struct prim8_conv *c = &r->direct;
	r->prim = prim8_create(c);
	return r->prim && (r->x = memory(map_bytes(c->n, c->c, c->h, c->w, c->x))) &&
	       (r->y = memory(map_bytes(c->n, c->out, c->oh, c->ow, c->y))) &&
	       (r->bias = memory((size_t)c->out * sizeof(float))) && (r->own[0] = memory(prim8_weight_bytes(r->prim))) &&
	       (r->own[1] = memory(int8_minimal_weight_bytes(&r->minimal))) &&
	       (r->scratch[0] = memory(prim8_scratch_bytes(r->prim) + 64)) &&
	       (r->scratch[1] = memory(int8_minimal_scratch_bytes(&r->minimal, wasd_threads()))) &&
	       (r->cold = memory((size_t)wasd_threads() * COLD_BYTES));
}

/* Microseconds of one pass; 0: it failed. */
static float run_once(void *ctx, int candidate)
{
	const struct race *r = ctx;
	wasd_parallel(wasd_threads(), walk, r->cold);
	int64_t t = wasd_mono_us();
	bool good = true;
	if (candidate == TUNE_OURS)
		int8_minimal_run(&r->minimal, r->x, r->own[1], r->bias, r->y, r->scratch[1]);
	else
		good = prim8_run(r->prim, r->x, r->own[0], r->bias, NULL, r->y, r->scratch[0]);
	return good ? (float)(wasd_mono_us() - t) + 0.1f : 0;
}

/* Few of the many batch sizes are measured, so that a process that meets them one by one does not stop for each. */
static int measured_images(int n)
{
	return n < 4 ? 1 : n < 32 ? 8 : 64;
}

static const char *type_name(enum wasd_quant_type t)
{
	return t == WASD_QUANT_F32 ? "f32" : t == WASD_QUANT_U8 ? "u8" : "s8";
}

bool int8_minimal_wins(const struct prim8_conv *direct, const struct prim8_conv *minimal, bool unmeasured,
                       struct tune_result *t)
{
	struct race r = {.direct = *direct, .minimal = *minimal};
	char key[TUNE_KEY];
	*t = (struct tune_result){.choice = TUNE_LIBRARY};
	r.direct.n = r.minimal.n = measured_images(direct->n);
	snprintf(key, sizeof key, "int8 n%d %dx%dx%d %s o%d %s k%dx%d%s%s%s", r.direct.n, direct->c, direct->h, direct->w,
	         type_name(direct->x), direct->out, type_name(direct->y), direct->kh, direct->kw,
	         direct->residual ? " add " : "", direct->residual ? type_name(direct->residual_type) : "",
	         direct->act == ACT_NONE ? "" :
	         direct->act == ACT_RELU ? " relu" :
	                                   " relu6");
	if (tune_find(key, t) || unmeasured)
		return t->choice == TUNE_OURS;
	*t = (struct tune_result){.us = {[TUNE_LIBRARY + 1] = -1, [TUNE_OURS - 1] = -1}};
	if (race_make(&r) && tune_race(run_once, &r, ROUNDS, ROUNDS_US, t))
		tune_store(key, t);
	else
		*t = (struct tune_result){.choice = TUNE_LIBRARY};
	race_done(&r);
	return t->choice == TUNE_OURS;
}
