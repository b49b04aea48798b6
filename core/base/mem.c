/* base/mem.c - counted memory. All our allocations pass through here, so that a test can count them and fail the
 * nth. */
#include "wasd/base.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The process-wide counters are the only exception to "no mutable globals": they belong to the heap, which is global
 * too. */
static atomic_uint_fast64_t n_allocs, n_frees, fail_countdown;

static bool should_fail(void)
{
	uint_fast64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
	while (left && !atomic_compare_exchange_weak_explicit(&fail_countdown, &left, left - 1, memory_order_relaxed,
	                                                      memory_order_relaxed)) {
	}
	return left == 1;
}

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
	return p;
}

/* A size of 0 is treated as 1, so that NULL always means failure. */
void *wasd_malloc(size_t size)
{
	return should_fail() ? NULL : counted(malloc(size ? size : 1));
}

void *wasd_calloc(size_t n, size_t size)
{
	size_t bytes;
	if (should_fail() || !wasd_mul_size(n, size, &bytes))
		return NULL;
	return counted(calloc(1, bytes ? bytes : 1));
}

void *wasd_realloc(void *p, size_t size)
{
	if (should_fail())
		return NULL;
	void *q = counted(realloc(p, size ? size : 1));
	if (q && p)
		atomic_fetch_add_explicit(&n_frees, 1, memory_order_relaxed);
	return q;
}

void *wasd_alloc_aligned(size_t n, size_t size)
{
	size_t bytes, padded;
	if (should_fail() || !wasd_mul_size(n, size, &bytes) || !wasd_add_size(bytes, 63, &padded))
		return NULL;
	padded &= ~(size_t)63;
	if (!padded)
		padded = 64;
	void *p = counted(aligned_alloc(64, padded));
	if (p)
		memset(p, 0, padded);
	return p;
}

char *wasd_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = wasd_malloc(len + 1);
	if (!p)
		return NULL;
	memcpy(p, s, len);
	p[len] = 0;
	return p;
}

char *wasd_strdup(const char *s)
{
	return wasd_strndup(s, SIZE_MAX - 1);
}

char *wasd_asprintf(const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	char *p = n < 0 ? NULL : wasd_malloc((size_t)n + 1);
	if (p)
		vsnprintf(p, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return p;
}

void wasd_free(void *p)
{
	if (!p)
		return;
	atomic_fetch_add_explicit(&n_frees, 1, memory_order_relaxed);
	free(p);
}

struct wasd_mem_stats wasd_mem_stats(void)
{
	return (struct wasd_mem_stats){atomic_load(&n_allocs), atomic_load(&n_frees)};
}

void wasd_mem_fail_at(uint64_t nth)
{
	atomic_store(&fail_countdown, nth);
}
