/* wasd/tensor.h - the number type of a build, shapes, the run's generator, and the thread team. */
#ifndef WASD_TENSOR_H
#define WASD_TENSOR_H

#include "wasd/base.h"

/* float32, except in the double flavour (make double), which exists to match the golden fixtures within 1e-7. */
#ifdef WASD_DOUBLE
typedef double real;
#else
typedef float real;
#endif

struct wasd_shape {
	int c, h, w;
}; /* per image, without the batch */
static inline size_t wasd_shape_count(struct wasd_shape s)
{
	return (size_t)s.c * (size_t)s.h * (size_t)s.w;
}

/* For hot loops: the compiler makes AVX-512, AVX2 and baseline copies, and the loader picks one by the features that
 * the CPU reports (naming a CPU model would leave CPUs of other makers with the baseline). */
#if defined(__x86_64__) && !defined(WASD_SANITIZED) && !defined(__clang__)
#define WASD_HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WASD_HOT
#endif

/* ---- random numbers: xoshiro256**, seeded by splitmix64 -------------------------------- */

struct wasd_rng {
	uint64_t s[4];
}; /* the complete state, saved as 4 little-endian u64 */
/* An independent stream: the same (seed, stream, a, b) always gives the same numbers. Streams are named ("init", "was",
 * "dropout", "shuffle", "augment", "dom"); a and b are counters (epoch, sample), 0 if unused. */
void wasd_rng_init(struct wasd_rng *r, uint64_t seed, const char *stream, uint64_t a, uint64_t b);
uint64_t wasd_rng_u64(struct wasd_rng *r);
double wasd_rng_uniform(struct wasd_rng *r); /* [0,1), 53 bits */
double wasd_rng_between(struct wasd_rng *r, double lo, double hi);
double wasd_rng_normal(struct wasd_rng *r);              /* mean 0, variance 1; takes two numbers of the stream */
uint32_t wasd_rng_below(struct wasd_rng *r, uint32_t n); /* 0..n-1, unbiased; n > 0 */
void wasd_rng_shuffle(struct wasd_rng *r, uint32_t *v, size_t n);

/* ---- the thread team: one owner of threads (web/docs/architecture.md#threads) --------------------------- */

#define WASD_THREADS_MAX 64
/* Starts n-1 helper threads for the whole process (n = 0: every core this process may use; at most WASD_THREADS_MAX). A
 * main calls it once before any compute; another call with another n rebuilds the team (bench). */
enum wasd_status wasd_threads_init(int n, struct wasd_err *err);
int wasd_threads(void);
void wasd_threads_done(void);
/* Runs fn(ctx, begin, end, thread) over a fixed split of 0..n-1 into at most wasd_threads() contiguous ranges, and
 * waits. The split depends only on n and the team size, so sums over per-thread partials are repeatable. Only the
 * thread that called wasd_threads_init may call this, and never from inside fn. Allocates nothing. */
void wasd_parallel(int n, void (*fn)(void *ctx, int begin, int end, int thread), void *ctx);
/* From now on, a library with its own thread pool runs the team's work, so that two pools never spin against each
 * other. on_all must call member(thread) for thread = 0 to wasd_threads()-1, each once and concurrently, and return
 * when all have returned. NULL: back to the team's own helpers. Call between jobs. */
void wasd_threads_lend(void (*on_all)(int threads, void (*member)(int thread)));

#endif
