/* server/process/supervisor.h - the engine processes: spawned, listened to, watched, ended, from one thread.
 *
 * Everything marked [S] runs on the supervisor's thread and may only be called there; the state machines above it
 * (task.c, helper.c, serving/serving.c) need no locks of their own for what they keep there. A process is
 * a hostile peer: what it sends is checked frame by frame, and anything wrong kills it.
 */
#ifndef SERVER_PROCESS_SUPERVISOR_H
#define SERVER_PROCESS_SUPERVISOR_H

#include "wasd/base.h"
#include "wasd/protocol.h"

#include <sys/types.h>

struct supervisor;
struct proc;

struct supervisor_config {
	const char *engine; /* path of wasd-engine */
	int heartbeat_ms;   /* silence after which a process is ended: SIGTERM, kill_ms later SIGKILL */
	int kill_ms;
	int tick_ms;
};

/* How a process ended. */
struct proc_end {
	int exit_code; /* -1 when a signal ended it */
	int signal;
	bool oom;         /* the kernel's or our memory limit */
	bool violation;   /* killed for breaking the protocol */
	bool stopped;     /* ended by us for another reason: asked to, silent for too long, or over our memory limit */
	char reason[256]; /* "signal 11 (Segmentation fault)", "exit code 3", "no heartbeat for 30 s", ... */
	char tail[2048];  /* last lines of its stderr */
};

struct proc_class {
	enum wasd_role role; /* the engine's command and the role of its hello */
	/* [S] One message, the hello included. Not WASD_OK: the process broke the protocol, err says how; it is killed. */
	enum wasd_status (*message)(struct proc *p, struct wasd_frame *m, struct wasd_err *err);
	/* [S] After the last message. The proc is freed when this returns. */
	void (*gone)(struct proc *p, const struct proc_end *end);
	/* [S] About every tick_ms while it runs; NULL: nothing is to be done then. */
	void (*tick)(struct proc *p);
};

enum wasd_status supervisor_create(const struct supervisor_config *cfg, struct supervisor **out, struct wasd_err *err);
/* Kills every process that is left and ends the thread. What is posted afterwards is never run. NULL is fine. */
void supervisor_stop(struct supervisor *s);
void supervisor_destroy(struct supervisor *s); /* after supervisor_stop; NULL is fine */
/* Runs post->fn on the supervisor's thread soon. Never blocks, never fails; the post is the caller's and is not touched
 * after fn began. */
struct sup_post {
	struct sup_post *next;
	void (*fn)(void *ctx);
	void *ctx;
};
void supervisor_post(struct supervisor *s, struct sup_post *post);
/* Runs fn there and waits until it is done. Not from [S]. */
void supervisor_call(struct supervisor *s, void (*fn)(void *ctx), void *ctx);
/* [S] fn is called about every tick_ms. At most 8. */
void supervisor_every(struct supervisor *s, void (*fn)(void *ctx), void *ctx);
uint64_t supervisor_beats(struct supervisor *s); /* rounds of the loop: the watchdog's evidence; any thread */
/* Number, pid, role and resident size of what runs now, as JSON; any thread. NULL: no memory. */
cJSON *supervisor_processes(struct supervisor *s);

/* [S] Starts `engine ROLE`. owner is what proc_owner gives back. */
enum wasd_status proc_spawn(struct supervisor *s, const struct proc_class *cls, void *owner, struct proc **out,
                            struct wasd_err *err);
void *proc_owner(const struct proc *p);
pid_t proc_pid(const struct proc *p);
int64_t proc_started_us(const struct proc *p);
void proc_limit_memory(struct proc *p,
                       int64_t mb);          /* [S] resident size at which it is killed as out of memory; 0 = none */
void proc_pause(struct proc *p, bool pause); /* [S] stop reading from it for a while: back-pressure */

/* Queues one frame; json and fd (-1 = none) are taken, bin is copied. Any thread as long as the proc cannot go away
 * meanwhile. Returns the frame's seq, 0 when it cannot be sent any more (no memory, or the process is ending). */
uint32_t proc_send(struct proc *p, cJSON *json, const void *bin, size_t bin_len, int fd);
/* [S] Ends it: SIGTERM now, SIGKILL after kill_ms; or SIGKILL now. why becomes the reason unless there was one before.
 */
void proc_end(struct proc *p, bool now, const char *why);
/* [S] Lets it go in peace: closes our end for writing, the engine then exits; kill_ms later it is killed. */
void proc_close(struct proc *p);

#endif
