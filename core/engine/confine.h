/* engine/confine.h - drops the privileges of a process before it reads untrusted files. */
#ifndef WASD_ENGINE_CONFINE_H
#define WASD_ENGINE_CONFINE_H

/* Blocks what an intruder would need and a decoder does not: starting programs, the network, access to other
 * processes. These calls then fail with EPERM in every thread. On a kernel without seccomp the call has no effect. */
void engine_confine(void);

#endif
