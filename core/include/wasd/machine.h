/* wasd/machine.h - what of the machine this process may use: the processors that its affinity mask and the quota of its
 * control group leave it, and memory. */
#ifndef WASD_MACHINE_H
#define WASD_MACHINE_H

#include "wasd/base.h"

struct wasd_machine {
	int affinity;   /* processors in the affinity mask */
	double quota;   /* processors' worth of time: the smallest cpu.max of its groups (cgroup v2); 0: no quota */
	int processors; /* the smaller of the two, the quota rounded up; at least 1 */
	int64_t memory, available; /* bytes of RAM, and those that programs may still take; 0: unknown */
	int64_t memory_limit;      /* the smallest memory.max of its groups; 0: none */
};
/* root: "" or, in tests, a folder in which the files of /proc and /sys/fs/cgroup are looked for. */
void wasd_machine_read(const char *root, struct wasd_machine *out);
int wasd_processors(void); /* processors of wasd_machine_read: how many threads are worth starting */

#endif
