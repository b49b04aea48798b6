/* wasd/tensor.h - the number type of a build, shapes, the run's generator, and the thread team. */
#ifndef WASD_TENSOR_H
#define WASD_TENSOR_H

#include "wasd/base.h"

/* float32 everywhere but in the double flavour (make double), which exists to meet the golden fixtures at 1e-7. */
#ifdef WASD_DOUBLE
typedef double real;
#else
typedef float real;
#endif

struct wasd_shape {
	int c, h, w;
}; /* per image; the batch is said elsewhere */
static inline size_t wasd_shape_count(struct wasd_shape s)
{
	return (size_t)s.c * (size_t)s.h * (size_t)s.w;
}

/* Hot loops carry this: the compiler makes AVX-512, AVX2 and baseline copies and the loader picks one by the features
 * that the CPU reports (naming a CPU model instead would leave every other maker's CPU with the baseline). */
#if defined(__x86_64__) && !defined(WASD_SANITIZED) && !defined(__clang__)
#define WASD_HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WASD_HOT
#endif

/* ---- random numbers: xoshiro256**, seeded by splitmix64 -------------------------------- */

struct wasd_rng {
	uint64_t s[4];
}; /* the whole state: saved as 4 little-endian u64 */
/* An independent stream: the same (seed, stream, a, b) always gives the same numbers. Streams are names ("init",
 * "was", "dropout", "shuffle", "augment", "dom"), a and b counters (epoch, sample), 0 when unused. */
void wasd_rng_init(struct wasd_rng *r, uint64_t seed, const char *stream, uint64_t a, uint64_t b);
uint64_t wasd_rng_u64(struct wasd_rng *r);
double wasd_rng_uniform(struct wasd_rng *r); /* [0,1), 53 bits */
double wasd_rng_between(struct wasd_rng *r, double lo, double hi);
uint32_t wasd_rng_below(struct wasd_rng *r, uint32_t n); /* 0..n-1, unbiased; n > 0 */
void wasd_rng_shuffle(struct wasd_rng *r, uint32_t *v, size_t n);

/* ---- the thread team: one owner of threads (web/docs/architecture.md#threads) --------------------------- */

#define WASD_THREADS_MAX 64
/* Starts n-1 helpers for the whole process (n = 0: every core this process may use; at most WASD_THREADS_MAX). Called
 * once by a main before any compute; calling again with another n rebuilds the team (bench). */
enum wasd_status wasd_threads_init(int n, struct wasd_err *err);
int wasd_threads(void);
void wasd_threads_done(void);
/* Runs fn(ctx, begin, end, thread) over a fixed split of 0..n-1 into at most wasd_threads() contiguous ranges and
 * waits. The split depends on n and the team size only, so sums over per-thread partials are repeatable. Only the
 * thread that called wasd_threads_init calls this, never from inside fn. Allocates nothing. */
void wasd_parallel(int n, void (*fn)(void *ctx, int begin, int end, int thread), void *ctx);
/* A library that brings a thread pool of its own runs the team's work from now on, so that two pools never wait
 * actively for each other's cores: on_all calls member(thread) for thread = 0 to wasd_threads()-1, each once and at the
 * same time, and returns when all have. NULL: the team's own helpers again. Called between jobs. */
void wasd_threads_lend(void (*on_all)(int threads, void (*member)(int thread)));

#endif
