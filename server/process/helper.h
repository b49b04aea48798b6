/* server/process/helper.h - an engine process that is started on demand and answers questions in order. Previews,
 * conversions and inference are helpers; a process for one piece of work is a task (task.h).
 *
 *   down -> up      by a question, or by helper_start
 *   up -> down      closed after idle_ms without a question, or
 *                   died: waiting questions end with WASD_EBUSY, the next question starts a new process
 *
 * [S] as in supervisor.h: on the supervisor's thread only.
 */
#ifndef SERVER_PROCESS_HELPER_H
#define SERVER_PROCESS_HELPER_H

#include "process/ask.h"

#include <stdatomic.h>

struct helper_kind {
	enum wasd_role role;
	int idle_ms;      /* the process is closed after this time without a question; 0: never */
	const char *down; /* error message of a question that finds no process, or whose process dies */
	/* [S] WASD_OK: a question may start the process; else err says why not. NULL: always. */
	enum wasd_status (*may_start)(void *self, struct wasd_err *err);
	/* [S] A log line of the process. NULL: log lines are dropped. */
	void (*log)(void *self, const char *level, const char *text);
	/* [S] It died, not for helper_stop: before the questions that wait are told. who: call->who of the one it was at,
	 * or "". NULL is fine.
	 */
	void (*dying)(void *self, const char *who, const char *reason);
	/* [S] Called after the waiting questions have ended. NULL is fine. */
	void (*died)(void *self);
};

struct helper {
	const struct helper_kind *kind;
	void *self;
	struct asker asker;
	/* private */
	_Atomic int asking; /* open questions, counted from before the process is started */
	/* private; [S] */
	struct supervisor *sup;
	struct proc_class cls;
	struct proc *proc;
	int64_t used_us;
	bool stopping;
};

/* max: most questions that may wait. self: passed to the functions of kind. h must not move until helper_done. */
enum wasd_status helper_init(struct helper *h, struct supervisor *sup, const struct helper_kind *kind, int max,
                             void *self);
/* Like asker_ask, but starts the process if there is none. Any thread but the supervisor's. */
enum wasd_status helper_ask(struct helper *h, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err);
/* The same, but only if the process is already running; does not involve the supervisor's thread. */
enum wasd_status helper_ask_running(struct helper *h, struct api_call *call, int fd, int64_t deadline_us,
                                    struct wasd_err *err);
enum wasd_status helper_start(
	struct helper *h, struct wasd_err *err); /* [S] starts the process unless it is running; ignores may_start */
/* Kills the process; the questions that wait end as at its death, without dying and died, and the next one starts
 * another. Any thread but the supervisor's. */
void helper_end(struct helper *h, const char *why);
void helper_stop(struct helper *h); /* [S] closes the process; later questions are refused */
void helper_done(struct helper *h); /* after supervisor_stop */

#endif
