/* backend/cpu.c - OpenBLAS picks its kernels at load time from a list of CPUs that ends with its release: a newer CPU
 * gets old kernels, and the environment may hold a choice made for another machine. This file chooses by CPU features
 * instead of names, and checks the arithmetic. */
#include "wasd/cpu.h"
#include "backend/gemm.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARKER "WASD_CPU_PREPARED"
#define FALLBACK "Haswell"

const char *wasd_cpu_openblas_coretype(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init(); /* uses CPUID, and XGETBV for whether the system saves the registers */
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
		return "SkylakeX";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return "Haswell";
#endif
	return NULL;
}

const char *wasd_cpu_openblas_loaded(void)
{
	return openblas_get_corename();
}

/* Size of core 0's L2 cache in KiB as reported by the system; 0: not reported. */
static long l2_kib(void)
{
	char text[32] = "";
	FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index2/size", "r");
	if (!f)
		return 0;
	if (!fgets(text, sizeof text, f))
		text[0] = 0;
	fclose(f);
	char *end;
	long v = strtol(text, &end, 10);
	return v > 0 && (*end == 'M') ? v * 1024 : v > 0 ? v : 0;
}

void wasd_cpu_prepare(char **argv, const char *coretype)
{
	const char *marker = getenv(MARKER), *user = getenv("WASD_OPENBLAS_CORETYPE");
	const char *want = coretype ? coretype : user && *user ? user : wasd_cpu_openblas_coretype();
	/* The marker holds the choice that this process was started with. If those kernels multiply wrongly here, fall back
	 * to the generic ones. */
	if (marker && !coretype && strcmp(marker, FALLBACK) && wasd_cpu_openblas_coretype() && wasd_cpu_check(NULL))
		want = coretype = FALLBACK;
	if (marker && (!coretype || !strcmp(marker, coretype)))
		return;
	setenv(MARKER, want ? want : "own", 1);
	if (want)
		setenv("OPENBLAS_CORETYPE", want, 1);
	else
		unsetenv("OPENBLAS_CORETYPE");
	setenv("OPENBLAS_NUM_THREADS", "1", 1);
	setenv("GOMP_SPINCOUNT", "4000", 0); /* oneDNN's thread pool: spin as briefly as our team (base/threads.c) */
	long l2 = l2_kib();
	if (l2 > 0) {
		char text[24];
		snprintf(text, sizeof text, "%ld", l2);
		setenv("OPENBLAS_L2_SIZE", text, 0);
	}
	execv("/proc/self/exe", argv);
	/* No /proc, or no memory: use the kernels already loaded; the check below still guards the results. */
}

enum wasd_status wasd_cpu_check(struct wasd_err *err)
{
	/* Sizes around the kernels' tiles, with edges. The values are small whole numbers, so every sum is exact. */
	enum { M = 37, N = 71, K = 53 };
	static const int sizes[][3] = {{1, 1, 1}, {4, 16, 8}, {16, 64, 48}, {M, N, K}};
	real a[M * K], b[K * N], c[M * N];
	for (int i = 0; i < M * K; i++)
		a[i] = (real)(i * 7 % 11 - 5);
	for (int i = 0; i < K * N; i++)
		b[i] = (real)(i * 5 % 13 - 6);
	for (int form = 0; form < 4; form++)
		for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
			int m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
			bool ta = form & 1, tb = form & 2;
			for (int i = 0; i < m * n; i++)
				c[i] = (real)(i % 3);
			gemm(ta, tb, m, n, k, a, (size_t)(ta ? m : k), b, (size_t)(tb ? k : n), 1, c, (size_t)n);
			for (int i = 0; i < m; i++)
				for (int j = 0; j < n; j++) {
					double want = (i * n + j) % 3;
					for (int p = 0; p < k; p++)
						want += (double)(ta ? a[p * m + i] : a[i * k + p]) * (double)(tb ? b[j * k + p] : b[p * n + j]);
					if ((double)c[i * n + j] != want)
						return wasd_fail(
							err, WASD_EUNSUPPORTED,
							"OpenBLAS kernels \"%s\" compute wrong products on this CPU (%dx%dx%d: %g instead of %g)",
							openblas_get_corename(), m, n, k, (double)c[i * n + j], want);
				}
		}
	return WASD_OK;
}
