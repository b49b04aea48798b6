/* wasd/cpu.h - making OpenBLAS use the kernels of this CPU. Releases older than a CPU fall back to slower or wrong
 * ones. */
#ifndef WASD_CPU_H
#define WASD_CPU_H

#include "wasd/base.h"

/* Name for OPENBLAS_CORETYPE by what CPUID reports and the system saves: "SkylakeX", "Haswell", or NULL (leave
 * OpenBLAS's own detection alone). */
const char *wasd_cpu_openblas_coretype(void);

/* First thing in a main that computes, before any thread. OpenBLAS reads its environment when it is loaded, so this
 * sets OPENBLAS_CORETYPE (WASD_OPENBLAS_CORETYPE of the user wins), OPENBLAS_NUM_THREADS=1 and, where unset,
 * OPENBLAS_L2_SIZE and GOMP_SPINCOUNT, and executes /proc/self/exe again, once: a marker in the environment ends the
 * recursion. Started again, it checks the kernels (wasd_cpu_check) and, when they compute wrong products, goes on to
 * "Haswell" in the same way. Returns when there is nothing (more) to do. coretype forces one; NULL = choose. */
void wasd_cpu_prepare(char **argv, const char *coretype);

/* Multiplies small matrices with the loaded OpenBLAS and with plain loops. WASD_EUNSUPPORTED names the core type when
 * they differ. */
enum wasd_status wasd_cpu_check(struct wasd_err *err);
const char *wasd_cpu_openblas_loaded(void); /* core type in use, "SkylakeX" */

#endif
