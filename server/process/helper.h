/* server/process/helper.h - an engine process that is started when something is first asked of it, answers one question
 * after the other, and is let go when nothing was asked for a while. One that dies takes the questions with it
 * (WASD_EBUSY); the next question starts another. */
#ifndef SERVER_PROCESS_HELPER_H
#define SERVER_PROCESS_HELPER_H

#include "process/ask.h"

struct helper {
	struct supervisor *sup;
	struct proc_class cls;
	struct asker asker;
	/* [S] */
	struct proc *proc;
	int64_t used_us;
	bool stopping, ticks; /* ticks: helper_tick is called */
};

/* max: questions that may wait at a time. down: what to say when the process ended. h stays where it is until
 * helper_done. */
enum wasd_status helper_init(struct helper *h, struct supervisor *sup, enum wasd_role role, int max, const char *down);
/* As asker_ask and asker_ask_fd, with the process started where there is none. Any thread but the supervisor's. */
enum wasd_status helper_ask(struct helper *h, struct api_call *call, int64_t deadline_us, struct wasd_err *err);
enum wasd_status helper_ask_fd(struct helper *h, struct api_call *call, int fd, int64_t deadline_us,
                               struct wasd_err *err);
void helper_stop(struct helper *h); /* [S] ends the process; later questions are refused */
void helper_done(struct helper *h); /* after supervisor_stop */

#endif
