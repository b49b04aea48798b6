/* server/process/cgroup.h - a control group of its own for an engine process whose memory is limited (cgroup v2).
 *
 * The daemon's group must have been delegated to it (systemd: Delegate=memory) and hold nothing but the daemon. Then
 * the daemon moves itself into the child group `wasd-daemon`, since a group whose children have limits may not hold
 * processes, and a process with a limit gets a child group `wasd-engine-PID-N`, PID being the daemon's:
 *
 *     memory.max = the limit, memory.swap.max = 0, memory.oom.group = 1, cgroup.procs = the process
 *
 * See Documentation/admin-guide/cgroup-v2.rst of Linux, "Memory", "No Internal Process Constraint" and "Delegation
 * Containment", and CGROUP_DELEGATION.md of systemd. */
#ifndef SERVER_PROCESS_CGROUP_H
#define SERVER_PROCESS_CGROUP_H

#include "wasd/base.h"

#include <sys/types.h>

struct cgroups;
struct cgroup;

struct cgroup_files {
	const char *root; /* "", or in tests the folder in which /proc and /sys/fs/cgroup are looked for */
	/* What makes and removes the folder of a group: 0, or -1 with errno. NULL: mkdir (0700) and rmdir, for the kernel
	 * makes and removes the files in it. Tests do that themselves. */
	int (*make)(const char *path);
	int (*remove)(const char *path);
};

/* Takes over the daemon's group and removes the groups that a daemon that is no more has left there. To be called
 * before any engine process starts. WASD_EUNSUPPORTED: there are no groups to be had, and err says why; nothing has
 * changed. */
enum wasd_status cgroups_open(const struct cgroup_files *files, struct cgroups **out, struct wasd_err *err);
/* Not while groups exist. The daemon stays in its child group. NULL is fine. */
void cgroups_close(struct cgroups *g);
const char *cgroups_path(const struct cgroups *g); /* of the delegated group; valid until cgroups_close */

/* Moves process pid into a new group that may use mb MiB. Not WASD_OK: there is no group, and the process stays where
 * it was. One thread at a time. */
enum wasd_status cgroup_create(struct cgroups *g, pid_t pid, int64_t mb, struct cgroup **out, struct wasd_err *err);

enum cgroup_kill {
	CGROUP_NO_KILL,
	CGROUP_KILL_LIMIT, /* the group had reached its limit */
	CGROUP_KILL_ABOVE, /* a group above it had, or the machine */
};
/* Whether the kernel has killed a process of the group for lack of memory. */
enum cgroup_kill cgroup_killed(const struct cgroup *c);
/* Removes the group, once its process was reaped. One that still holds a process is removed by the next cgroup_create
 * or cgroups_open. NULL is fine. */
void cgroup_destroy(struct cgroup *c);

#endif
