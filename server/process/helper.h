/* server/process/helper.h - an engine process that is started on demand and answers one question after the other.
 * Previews, conversions and inference are helpers; a process for one piece of work is a task (task.h).
 *
 *   down -> up      by a question, or by helper_start
 *   up -> down      nothing was asked for a while: it is let go
 *                   it died: the questions that wait end with WASD_EBUSY, the next one starts another
 *
 * [S] as in supervisor.h: on the supervisor's thread, and only there.
 */
#ifndef SERVER_PROCESS_HELPER_H
#define SERVER_PROCESS_HELPER_H

#include "process/ask.h"

#include <stdatomic.h>

struct helper_kind {
	enum wasd_role role;
	int idle_ms;      /* it is let go when nothing was asked for so long; 0: it is kept */
	const char *down; /* what a question is told that finds no process, or that the process took with it */
	/* [S] Whether a question may start it. Not WASD_OK: err says why not. NULL: any may. */
	enum wasd_status (*may_start)(void *self, struct wasd_err *err);
	/* [S] A line of its log; NULL: they are not kept. */
	void (*log)(void *self, const char *level, const char *text);
	/* [S] It died, not for helper_stop: before the questions that wait are told. who: call->who of the one it was at,
	 * or "". NULL is fine.
	 */
	void (*dying)(void *self, const char *who, const char *reason);
	/* [S] After they were told. NULL is fine. */
	void (*died)(void *self);
};

struct helper {
	const struct helper_kind *kind;
	void *self;
	struct asker asker;
	/* private */
	_Atomic int asking; /* questions from before the process is started until they are answered */
	/* private; [S] */
	struct supervisor *sup;
	struct proc_class cls;
	struct proc *proc;
	int64_t used_us;
	bool stopping;
};

/* max: questions that may wait at a time. self: what the functions of kind are given. h stays where it is until
 * helper_done. */
enum wasd_status helper_init(struct helper *h, struct supervisor *sup, const struct helper_kind *kind, int max,
                             void *self);
/* As asker_ask, with the process started where there is none. Any thread but the supervisor's. */
enum wasd_status helper_ask(struct helper *h, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err);
/* The same only where it runs already, without a word to the supervisor's thread. */
enum wasd_status helper_ask_running(struct helper *h, struct api_call *call, int fd, int64_t deadline_us,
                                    struct wasd_err *err);
enum wasd_status helper_start(struct helper *h, struct wasd_err *err); /* [S] where it does not run; may_start or not */
/* Kills the process; the questions that wait end as at its death, without dying and died, and the next one starts
 * another. Any thread but the supervisor's. */
void helper_end(struct helper *h, const char *why);
void helper_stop(struct helper *h); /* [S] it is let go; later questions are refused */
void helper_done(struct helper *h); /* after supervisor_stop */

#endif
