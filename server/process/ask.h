/* server/process/ask.h - questions from many threads to one engine process: sent as frames and matched with their
 * answers by frame number. */
#ifndef SERVER_PROCESS_ASK_H
#define SERVER_PROCESS_ASK_H

#include "api.h"
#include "process/supervisor.h"

#include <pthread.h>

/* One question in flight. It belongs to the asker from asker_post until done is called. */
struct question {
	struct question *next, **pprev;
	uint32_t seq;
	const char *who;    /* the deployment that the question is for, borrowed; NULL: none */
	const char *answer; /* type of the answer, unless it is "error" */
	size_t bulk_max;    /* largest memory file that the answer may carry, in bytes; 0: none */
	/* [S] Called once, without locks, when the answer has arrived or the process has ended (lost). */
	void (*done)(struct question *q);
	bool lost;
	cJSON *reply;
	char *bin;
	size_t bin_len;
	const void *bulk; /* the memory file, mapped; bulk_len bytes */
	size_t bulk_len;
};

struct asker {
	pthread_mutex_t lock;
	enum wasd_role role;
	struct proc *proc; /* NULL: no process */
	struct question *list;
	int n, max;
	const char *down;  /* error message while there is no process */
	uint32_t late_seq; /* an abandoned question whose answer is still to come; 0: none */
	char late_who[72];
};
/* role: the role of the process; its rows in wasd/protocol.h give the answer to each question. */
enum wasd_status asker_init(struct asker *a, enum wasd_role role, int max, const char *down);
void asker_done(struct asker *a);
void asker_attach(struct asker *a, struct proc *p); /* [S] */
/* [S] Call before asker_detach: sets who to call->who of the oldest unanswered question, or "". A process answers in
 * order, so it was working on that question. */
void asker_suspect(struct asker *a, char who[72]);
void asker_detach(struct asker *a); /* [S] before proc is freed: ends every open question with WASD_EBUSY */
/* Sends call->json (taken) and waits for the answer until deadline_us (then WASD_EBUSY). fd: a descriptor to send along
 * (taken); -1: sends call's bin, in the frame or, if it is large, as a memory file. An error answer becomes the
 * returned status, with message and pointer in err; call->reply is then the error object (with its "code"). Any thread
 * but the supervisor's. */
enum wasd_status asker_ask(struct asker *a, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err);
/* Sends json (taken; NULL: no memory) with the bytes of n parts one after the other, without waiting; the parts are
 * copied once. The caller sets who, bulk_max and done of q. done is called if and only if this returns WASD_OK,
 * possibly before it returns. Any thread. */
struct iovec;
enum wasd_status asker_post(struct asker *a, struct question *q, cJSON *json, const struct iovec *part, int n,
                            struct wasd_err *err);
/* After done was called: moves the answer to call, like asker_ask. */
enum wasd_status asker_take(struct asker *a, struct question *q, struct api_call *call, struct wasd_err *err);
/* [S] Handles an answer: takes m's json and bin, or maps its memory file (at most call->reply_max bytes).
 * WASD_ECORRUPT: not a valid answer. */
enum wasd_status asker_answer(struct asker *a, struct wasd_frame *m, struct wasd_err *err);
bool asker_up(struct asker *a, int *waiting); /* True if there is a process; *waiting: number of unanswered questions */

#endif
