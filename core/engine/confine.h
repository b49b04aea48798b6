/* engine/confine.h - what a process that reads files of strangers gives up first. */
#ifndef WASD_ENGINE_CONFINE_H
#define WASD_ENGINE_CONFINE_H

/* What a decoder never needs and an intruder would: other programs, the network, other processes. They fail with EPERM
 * in every thread from here on. A kernel without seccomp leaves the process as it is. */
void engine_confine(void);

#endif
