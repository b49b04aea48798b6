/* server/process/task.h - one engine process for one piece of work: launched, told what to do, listened to, stopped,
 * and its end reported once. An attempt of a job, an upload and a search are tasks; a process that is asked one
 * question after the other is a helper (helper.h).
 *
 * A task is a member of its owner, which says what is particular to its kind in a struct task_kind: the role of the
 * process, the messages that it may send with what is done with each, and what follows its end. States and transitions:
 * task.c.
 *
 * Everything here is [S]: it runs on the supervisor's thread and may only be called there. What others may know of a
 * task (who it is for, how far it is) is the owner's, under the owner's lock.
 */
#ifndef SERVER_PROCESS_TASK_H
#define SERVER_PROCESS_TASK_H

#include "process/supervisor.h"

enum task_state {
	TASK_LAUNCHED, /* or not launched yet */
	TASK_TOLD,     /* what to do, by task_start */
	TASK_WORKING,  /* the process said that it has begun; only where a message of the kind leads here */
	TASK_DONE,     /* the process said its result */
	TASK_FAILED,   /* the process said why there is none */
};

/* A message that the process may send. The frame was checked by its row in wasd/protocol.h. */
struct task_message {
	const char *type;
	/* What it says is used, or copied. Not WASD_OK: the process broke the protocol, err says how; it is killed. NULL:
	 * there is nothing to be done. */
	enum wasd_status (*take)(void *self, struct wasd_frame *m, struct wasd_err *err);
	/* Refused before this state, and from TASK_DONE on. TASK_LAUNCHED: it may come at any time. */
	enum task_state from;
	/* The state that follows it, which it must not lead to twice; TASK_LAUNCHED: none. */
	enum task_state to;
	/* Its handler writes to the database. A process that sends more of them in a tick than should be stored waits until
	 * the next. */
	bool stored;
};

enum task_outcome {
	TASK_ENDED_CRASHED, /* a signal or an exit code of its own; or 0 without a result */
	TASK_ENDED_STOPPED, /* ended by us: asked to, silent for too long, or out of memory */
	TASK_ENDED_BROKE,   /* killed for breaking the protocol */
	TASK_ENDED_FAILED,  /* said why there is no result, however it ended then */
	TASK_ENDED_DONE,    /* said its result and exited with 0 */
};

struct task_end {
	enum task_outcome outcome;
	cJSON *said; /* the message that led to TASK_DONE or TASK_FAILED; NULL: there was none. The owner may change it */
	struct proc_end how;
};

struct task_kind {
	enum wasd_role role;
	bool let_go; /* the process would serve on after its end: it is let go then. false: it exits without that */
	const struct task_message *messages; /* ended by a NULL type. hello is known to all; a row gives it a handler */
	/* Before what is done with any message; NULL: nothing is to be checked. Errors as of take. */
	enum wasd_status (*check)(void *self, const struct wasd_frame *m, struct wasd_err *err);
	/* After task_changed, at most once a second, and for the last change while the process runs in any case. NULL:
	 * nobody follows it. */
	void (*changed)(void *self);
	/* Exactly once, after the last message, if task_launch was WASD_OK. The owner may free itself and the task. */
	void (*ended)(void *self, const struct task_end *end);
};

struct task {
	const struct task_kind *kind;
	void *self;
	enum task_state state;
	bool hello;     /* the process has said it */
	bool over_time; /* it was asked to stop because it took longer than task_limit allows */
	bool ended;     /* the process is gone; end says how */
	struct task_end end;
	/* private */
	struct supervisor *sup;
	struct proc_class cls;
	struct proc *proc; /* NULL: not launched, or gone */
	int stored;        /* messages of this tick that made rows */
	bool cancelled, untold;
	int64_t wall_us, stop_by_us, tell_us;
	int grace_ms;
};

/* self: what the functions of kind are given. t is zeroed before, and stays where it is until task_done. */
void task_init(struct task *t, struct supervisor *sup, const struct task_kind *kind, void *self);
/* Frees what it keeps. Not while the process runs. */
void task_done(struct task *t);

/* Starts the process. Not WASD_OK: there is none, and its end is not reported. */
enum wasd_status task_launch(struct task *t, struct wasd_err *err);
/* Resident size at which it is killed as out of memory, and time from its launch after which it is asked to stop, with
 * grace_ms as of task_cancel. 0: none. */
void task_limit(struct task *t, int64_t memory_mb, int64_t wall_s, int grace_ms);
/* Tells it what to do: m and fd (-1 = none) are taken. A process that cannot be told is killed. */
void task_start(struct task *t, cJSON *m, int fd);
/* One more message, taken; a process to which it cannot be sent is killed for that reason. Nothing happens when it is
 * gone. */
void task_send(struct task *t, cJSON *m, const char *why_not);
/* Asks it to stop by the message "cancel"; grace_ms later it gets SIGTERM, and SIGKILL after the supervisor's kill_ms.
 * Before task_start it is killed at once, for that reason. */
void task_cancel(struct task *t, int grace_ms, const char *why);
void task_kill(struct task *t, const char *why); /* SIGKILL, now. Nothing happens when it does not run */
pid_t task_pid(const struct task *t);            /* 0: it does not run */

/* What others see of it has changed; kind->changed is called now or later, as long as the process runs. */
void task_changed(struct task *t);
/* They have been told otherwise: kind->changed is not due before the next change. */
void task_changes_told(struct task *t);

#endif
