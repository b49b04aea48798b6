/* engine/confine.h - what a process may do and take: drops its privileges before it reads untrusted files, limits its
 * memory. */
#ifndef WASD_ENGINE_CONFINE_H
#define WASD_ENGINE_CONFINE_H

#include "wasd/base.h"

/* Blocks what an intruder would need and a decoder does not: starting programs, the network, access to other
 * processes. These calls then fail with EPERM in every thread. On a kernel without seccomp the call has no effect. */
void engine_confine(void);
/* Bounds the private memory of the process, which RLIMIT_DATA counts: mapped datasets and memory files do not. Beyond
 * it allocations fail. 0: no limit. */
enum wasd_status engine_limit_memory(int64_t mb, struct wasd_err *err);

#endif
