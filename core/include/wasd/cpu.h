/* wasd/cpu.h - makes OpenBLAS use the right kernels for this CPU. A release older than the CPU falls back to slower or
 * wrong kernels. */
#ifndef WASD_CPU_H
#define WASD_CPU_H

#include "wasd/base.h"

/* Value for OPENBLAS_CORETYPE, chosen from CPUID and the registers that the system saves: "SkylakeX", "Haswell", or
 * NULL (keep OpenBLAS's own choice). */
const char *wasd_cpu_openblas_coretype(void);

/* Call this first in a main that computes, before starting any thread. OpenBLAS reads its environment when it is
 * loaded, so this function sets OPENBLAS_CORETYPE (the user's WASD_OPENBLAS_CORETYPE takes precedence),
 * OPENBLAS_NUM_THREADS=1 and, if unset, OPENBLAS_L2_SIZE and GOMP_SPINCOUNT, and executes /proc/self/exe once more; a
 * marker in the environment ends the recursion. The restarted process checks the kernels (wasd_cpu_check) and, if they
 * compute wrong products, restarts with "Haswell" in the same way. Returns when nothing is left to do. coretype: the
 * core type to use; NULL: choose. */
void wasd_cpu_prepare(char **argv, const char *coretype);

/* Multiplies small matrices with the loaded OpenBLAS and with plain loops. WASD_EUNSUPPORTED names the core type if the
 * results differ. */
enum wasd_status wasd_cpu_check(struct wasd_err *err);
const char *wasd_cpu_openblas_loaded(void); /* core type in use, "SkylakeX" */

#endif
