/* server/process/ask.h - questions to one engine process from many threads: sent as frames, answered by the number of
 * the frame. */
#ifndef SERVER_PROCESS_ASK_H
#define SERVER_PROCESS_ASK_H

#include "api.h"
#include "process/supervisor.h"

#include <pthread.h>

/* One question on its way; the asker's from asker_post until done is called. */
struct question {
	struct question *next, **pprev;
	uint32_t seq;
	const char *who;    /* the deployment it is for, borrowed; NULL: none */
	const char *answer; /* the type that answers it, unless that is "error" */
	size_t bulk_max;    /* the most that the answer may bring in a memory file; 0: none */
	/* [S] Called once, without locks: the answer has come, or the process has gone (lost). */
	void (*done)(struct question *q);
	bool lost;
	cJSON *reply;
	char *bin;
	size_t bin_len;
	const void *bulk; /* that file, mapped; bulk_len bytes */
	size_t bulk_len;
};

struct asker {
	pthread_mutex_t lock;
	enum wasd_role role;
	struct proc *proc; /* NULL while there is none */
	struct question *list;
	int n, max;
	const char *down;  /* what to say while there is none */
	uint32_t late_seq; /* a question that nobody waits for any more and that is not answered yet; 0: none */
	char late_who[72];
};
/* role: of the process that is asked; its rows say what answers what (wasd/protocol.h). */
enum wasd_status asker_init(struct asker *a, enum wasd_role role, int max, const char *down);
void asker_done(struct asker *a);
void asker_attach(struct asker *a, struct proc *p); /* [S] */
/* [S] Before asker_detach: who (call->who, or "") asked the oldest question that is not answered. A process answers in
 * the order of the questions, so that is the one it was at. */
void asker_suspect(struct asker *a, char who[72]);
void asker_detach(struct asker *a); /* [S] before the proc goes: every open question ends with WASD_EBUSY */
/* Sends call->json (taken) and waits for the answer, at most until deadline_us (WASD_EBUSY). fd: a descriptor that goes
 * with it, taken; -1: call's bin does, inside the frame or as a file by its size. An error answer
 * becomes its status, message and pointer; call->reply is then the error object (its "code"). Any thread but the
 * supervisor's. */
enum wasd_status asker_ask(struct asker *a, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err);
/* Sends call->json (taken) with bin without waiting: who, bulk_max and done of q are set. done is called when this
 * returns WASD_OK, and only then; it may be called before this returns. Any thread. */
enum wasd_status asker_post(struct asker *a, struct question *q, struct api_call *call, struct wasd_err *err);
/* Once done was called: moves the answer to call, like asker_ask. */
enum wasd_status asker_take(struct asker *a, struct question *q, struct api_call *call, struct wasd_err *err);
/* [S] An answer that came: takes m's json and bin, or what lies in its memory file (at most call->reply_max bytes).
 * WASD_ECORRUPT when it is not a proper one. */
enum wasd_status asker_answer(struct asker *a, struct wasd_frame *m, struct wasd_err *err);
bool asker_up(struct asker *a, int *waiting); /* there is a process; *waiting: questions without an answer */

#endif
