/* server/process/task.h - an engine process for one piece of work: launches and starts it, handles its messages, stops
 * it, and reports its end once. An attempt of a job, an upload and a search are tasks; a process that answers many
 * questions is a helper (helper.h).
 *
 * A task is a member of its owner, which describes its kind in a struct task_kind: the role of the process, its
 * messages and their handlers, and the handler of its end. States and transitions: task.c.
 *
 * Everything here is [S]: it runs on the supervisor's thread and may be called only there. What other threads may read
 * about a task (its subject, its progress) is kept by the owner, under the owner's lock.
 */
#ifndef SERVER_PROCESS_TASK_H
#define SERVER_PROCESS_TASK_H

#include "process/supervisor.h"

enum task_state {
	TASK_LAUNCHED, /* launched, or not launched yet */
	TASK_TOLD,     /* task_start has sent the request */
	TASK_WORKING,  /* the process reported that it has started; only for kinds with such a message */
	TASK_DONE,     /* the process sent its result */
	TASK_FAILED,   /* the process sent the reason of its failure */
};

/* A message that the process may send. Its frame has been checked against its row in wasd/protocol.h. */
struct task_message {
	const char *type;
	/* Handles the message and copies what it keeps. Not WASD_OK: the process broke the protocol, as described in err,
	 * and is killed. NULL: no action. */
	enum wasd_status (*take)(void *self, struct wasd_frame *m, struct wasd_err *err);
	/* The message is refused before this state, and from TASK_DONE on. TASK_LAUNCHED: allowed at any time. */
	enum task_state from;
	/* The state that the message leads to, at most once; TASK_LAUNCHED: none. */
	enum task_state to;
	/* The handler writes to the database. A process that sends too many of these within a tick is paused until the
	 * next. */
	bool stored;
};

enum task_outcome {
	TASK_ENDED_CRASHED, /* ended by a signal or a nonzero exit code, or by 0 without a result */
	TASK_ENDED_STOPPED, /* ended by us: on request, no heartbeat, or out of memory */
	TASK_ENDED_BROKE,   /* killed for breaking the protocol */
	TASK_ENDED_FAILED,  /* sent the reason of its failure, whatever its exit status */
	TASK_ENDED_DONE,    /* sent its result and exited with 0 */
};

struct task_end {
	enum task_outcome outcome;
	cJSON *said; /* the message that led to TASK_DONE or TASK_FAILED; NULL: none. The owner may change it */
	struct proc_end how;
};

struct task_kind {
	enum wasd_role role;
	bool let_go; /* true: the process keeps running after its result, so close it then; false: it exits */
	const struct task_message *messages; /* ended by a NULL type. hello is always allowed; a row gives it a handler */
	/* Checks every message before it is handled; errors as for take. NULL: no check. */
	enum wasd_status (*check)(void *self, const struct wasd_frame *m, struct wasd_err *err);
	/* Called after task_changed, at most once a second, and always for the last change while the process runs. NULL is
	 * fine. */
	void (*changed)(void *self);
	/* Called exactly once, after the last message, if task_launch returned WASD_OK. The owner may free itself and the
	 * task. */
	void (*ended)(void *self, const struct task_end *end);
};

struct task {
	const struct task_kind *kind;
	void *self;
	enum task_state state;
	bool hello;     /* the process has sent its hello */
	bool over_time; /* the process was asked to stop because it exceeded the time of task_limit */
	bool ended;     /* the process has ended; see end */
	struct task_end end;
	/* private */
	struct supervisor *sup;
	struct proc_class cls;
	struct proc *proc; /* NULL: not launched, or gone */
	int stored;        /* `stored` messages of this tick */
	bool cancelled, untold;
	int64_t wall_us, stop_by_us, tell_us;
	int grace_ms;
};

/* self: passed to the functions of kind. t must be zeroed before, and must not move until task_done. */
void task_init(struct task *t, struct supervisor *sup, const struct task_kind *kind, void *self);
/* Frees the task's memory. Not while the process runs. */
void task_done(struct task *t);

/* Starts the process. Not WASD_OK: there is no process, and no end is reported. */
enum wasd_status task_launch(struct task *t, struct wasd_err *err);
/* Limits the process to memory_mb (proc_limit_memory), and cancels it wall_s after its launch, with grace_ms as in
 * task_cancel. 0: no limit. */
void task_limit(struct task *t, int64_t memory_mb, int64_t wall_s, int grace_ms);
/* The time limit alone, in microseconds since the launch; it may change while the process runs. */
void task_limit_time(struct task *t, int64_t wall_us);
/* Sends the request m with fd (-1 = none); takes both. Kills the process if that fails. */
void task_start(struct task *t, cJSON *m, int fd);
/* Sends another message with fd (-1 = none); takes both. If that fails, kills the process with reason why_not. No
 * effect after its end. */
void task_send_file(struct task *t, cJSON *m, int fd, const char *why_not);
void task_send(struct task *t, cJSON *m, const char *why_not); /* without a file */
/* Asks the process to stop with the message "cancel"; sends SIGTERM after grace_ms, and SIGKILL after the supervisor's
 * kill_ms. Before task_start, kills it at once with reason why. */
void task_cancel(struct task *t, int grace_ms, const char *why);
void task_kill(struct task *t, const char *why); /* SIGKILL at once; no effect if not running */
pid_t task_pid(const struct task *t);            /* 0: not running */
bool task_has_cgroup(const struct task *t);      /* whether a control group limits its memory */

/* The state that others see has changed: calls kind->changed now or later, as long as the process runs. */
void task_changed(struct task *t);
/* The change was published by other means: kind->changed is not due before the next change. */
void task_changes_told(struct task *t);

#endif
