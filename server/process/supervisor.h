/* server/process/supervisor.h - spawns, reads from, watches and ends the engine processes, on one thread.
 *
 * Functions marked [S] run on the supervisor's thread and may be called only there, so the state machines above it
 * (task.c, helper.c, serving/serving.c) need no locks for state used only on that thread. A process is treated as a
 * hostile peer: every frame is checked, and an invalid one kills the process.
 */
#ifndef SERVER_PROCESS_SUPERVISOR_H
#define SERVER_PROCESS_SUPERVISOR_H

#include "wasd/base.h"
#include "wasd/protocol.h"

#include <sys/types.h>

struct cgroups;
struct supervisor;
struct proc;

struct supervisor_config {
	const char *engine; /* path of wasd-engine */
	int heartbeat_ms;   /* a process without a heartbeat for this time is ended: SIGTERM, kill_ms later SIGKILL */
	int kill_ms;
	int tick_ms;
	struct cgroups *cgroups; /* for proc_limit_memory; borrowed until supervisor_destroy. NULL: none */
};

/* How a process ended. */
struct proc_end {
	int exit_code; /* -1 if a signal ended it */
	int signal;
	bool oom;         /* killed for lack of memory: by our limit or by the kernel */
	bool violation;   /* killed for breaking the protocol */
	bool stopped;     /* ended by us for another reason: on request, no heartbeat, or over our memory limit */
	char reason[256]; /* "signal 11 (Segmentation fault)", "exit code 3", "no heartbeat for 30 s", ... */
	char tail[2048];  /* last lines of its stderr */
};

struct proc_class {
	enum wasd_role role; /* the engine's command and the role of its hello */
	/* [S] Handles one message, including the hello. Not WASD_OK: the process broke the protocol, as described in err,
	 * and is killed. */
	enum wasd_status (*message)(struct proc *p, struct wasd_frame *m, struct wasd_err *err);
	/* [S] Called after the last message. The proc is freed when this returns. */
	void (*gone)(struct proc *p, const struct proc_end *end);
	/* [S] Called about every tick_ms while the process runs. NULL is fine. */
	void (*tick)(struct proc *p);
};

enum wasd_status supervisor_create(const struct supervisor_config *cfg, struct supervisor **out, struct wasd_err *err);
/* Kills the remaining processes and ends the thread. Posts after this never run. NULL is fine. */
void supervisor_stop(struct supervisor *s);
void supervisor_destroy(struct supervisor *s); /* after supervisor_stop; NULL is fine */
/* Runs post->fn on the supervisor's thread soon. Never blocks, never fails. The post belongs to the caller and is not
 * used after fn has started. */
struct sup_post {
	struct sup_post *next;
	void (*fn)(void *ctx);
	void *ctx;
};
void supervisor_post(struct supervisor *s, struct sup_post *post);
/* Runs fn on the supervisor's thread and waits until it returns. Not from [S]. */
void supervisor_call(struct supervisor *s, void (*fn)(void *ctx), void *ctx);
/* [S] Registers fn to be called about every tick_ms. At most 8 functions. */
void supervisor_every(struct supervisor *s, void (*fn)(void *ctx), void *ctx);
uint64_t supervisor_beats(struct supervisor *s); /* rounds of the loop, for the watchdog; any thread */
/* JSON array of the running processes: number, pid, role, resident size; any thread. NULL: no memory. */
cJSON *supervisor_processes(struct supervisor *s);

/* [S] Starts `engine ROLE`. proc_owner returns owner. */
enum wasd_status proc_spawn(struct supervisor *s, const struct proc_class *cls, void *owner, struct proc **out,
                            struct wasd_err *err);
void *proc_owner(const struct proc *p);
pid_t proc_pid(const struct proc *p);
int64_t proc_started_us(const struct proc *p);
/* [S] Gives the process a control group with this limit, where there are groups. Without one, it is killed as out of
 * memory above this resident size. 0 = no limit. Once, soon after its start: what it has used before does not count. */
void proc_limit_memory(struct proc *p, int64_t mb);
bool proc_has_cgroup(const struct proc *p);  /* [S] whether it got one */
void proc_pause(struct proc *p, bool pause); /* [S] stops reading from it, as back-pressure */

/* Queues one frame: takes json, bin (NULL = none) and fd (-1 = none). Any thread, as long as the proc cannot be freed
 * meanwhile. Returns the frame's seq, or 0 if it cannot be sent (no memory, or the process is ending). */
uint32_t proc_send(struct proc *p, cJSON *json, char *bin, size_t bin_len, int fd);
/* [S] Ends the process: SIGTERM, then SIGKILL after kill_ms; with now, SIGKILL at once. why becomes the reason unless
 * there is one already. */
void proc_end(struct proc *p, bool now, const char *why);
/* [S] Ends the process gracefully: closes our end for writing, whereupon the engine exits; kills it after kill_ms. */
void proc_close(struct proc *p);

#endif
