/* tests/core/blocked_sums.h - shared by the tests of convolutions in blocks of 16 channels: values, indices, team
 * sizes. */
#ifndef TESTS_BLOCKED_SUMS_H
#define TESTS_BLOCKED_SUMS_H

#include "backends.h"

#define LANES 16

/* -1 to 1; the same numbers in every run. */
static inline float uniform(void)
{
	static uint64_t state = 1;
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(state >> 40) / (1 << 23) - 1);
}

/* Index of an element in a blocked tensor. */
static inline size_t at(int channels, int h, int w, int n, int c, int y, int x)
{
	return ((((size_t)n * (size_t)(channels / LANES) + (size_t)(c / LANES)) * (size_t)h + (size_t)y) * (size_t)w +
	        (size_t)x) *
	           LANES +
	       (size_t)(c % LANES);
}

static void every_kernel(int threads);

static void one_thread(void)
{
	if (!fast_backend_runs())
		TEST_SKIP("this processor has no AVX-512");
	every_kernel(1);
}

static void two_threads(void)
{
	if (!fast_backend_runs())
		TEST_SKIP("this processor has no AVX-512");
	every_kernel(2);
}

#endif
