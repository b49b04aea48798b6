/* server/process/ask.h - questions to one engine process from many threads: sent as frames, answered by the number of
 * the frame. */
#ifndef SERVER_PROCESS_ASK_H
#define SERVER_PROCESS_ASK_H

#include "api.h"
#include "process/supervisor.h"

#include <pthread.h>

struct pending;

struct calls {
	pthread_mutex_t lock;
	enum wasd_role role;
	struct proc *proc; /* NULL while there is none */
	struct pending *list;
	int n, max;
	const char *down;  /* what to say while there is none */
	uint32_t late_seq; /* a question that nobody waits for any more and that is not answered yet; 0: none */
	char late_who[72];
};
/* role: of the process that is asked; its rows say what answers what (wasd/protocol.h). */
enum wasd_status calls_init(struct calls *c, enum wasd_role role, int max, const char *down);
void calls_done(struct calls *c);
void calls_attach(struct calls *c, struct proc *p); /* [S] */
/* [S] Before calls_detach: who (call->who, or "") asked the oldest question that is not answered. A process answers in
 * the order of the questions, so that is the one it was at. */
void calls_suspect(struct calls *c, char who[72]);
void calls_detach(struct calls *c); /* [S] before the proc goes: every open call ends with WASD_EBUSY */
/* Sends call->json (taken) with bin and waits for the answer, at most until deadline_us (WASD_EBUSY). An error answer
 * becomes its status, message and pointer; call->reply is then the error object (its "code"). Any thread but the
 * supervisor's. */
enum wasd_status calls_ask(struct calls *c, struct api_call *call, int64_t deadline_us, struct wasd_err *err);
/* The same with a descriptor of the caller's making, taken. */
enum wasd_status calls_ask_fd(struct calls *c, struct api_call *call, int fd, int64_t deadline_us,
                              struct wasd_err *err);
/* [S] An answer that came: takes m's json and bin, or what lies in its memory file (at most call->reply_max bytes).
 * WASD_ECORRUPT when it is not a proper one. */
enum wasd_status calls_answer(struct calls *c, struct wasd_msg *m, struct wasd_err *err);
int calls_open(struct calls *c);

#endif
