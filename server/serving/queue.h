/* server/serving/queue.h - the queue of inference requests. They wait in the daemon, not in the inference process.
 *
 * At most QUEUE_DEPTH questions are in the process at a time: one being computed and the next. A waiting request can
 * still be dropped (the client hung up, its deadline passed) or batched with others (lanes.c says when). A request with
 * more images than a batch may have is computed in parts. No thread blocks for an answer; one thread keeps the time. */
#ifndef SERVER_SERVING_QUEUE_H
#define SERVER_SERVING_QUEUE_H

#include "process/ask.h"

enum { QUEUE_DEPTH = 2 };

struct queue;
/* asker: the connection to the process. most: most requests that may wait. metrics: NULL is fine. */
enum wasd_status queue_create(struct asker *asker, int most, struct metrics *metrics, struct queue **out,
                              struct wasd_err *err);
void queue_destroy(struct queue *q); /* after the process has ended; NULL is fine */

/* Implements ask and forget of struct api_serving. done is called once, without locks, on any thread, possibly on this
 * one before the call returns. After that ask belongs to the caller again. */
void queue_ask(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
/* The same for work that must not delay anybody. False: requests wait or are computed, and ask was not taken. */
bool queue_ask_idle(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
/* For ask->over: the request belongs to its asker again. */
void queue_done(struct api_ask *ask);
/* Ends the request with that ctx and calls its done, unless it has ended already. */
void queue_forget(struct queue *q, const void *ctx);

/* waiting: requests in the queue; asked: questions in the process. */
void queue_length(struct queue *q, int *waiting, int *asked);
/* Requests without an answer yet: those that wait and those in the questions. */
int queue_requests(struct queue *q);
/* Requests that a deployment's queue had no room for, since none was refused for QUEUE_FULL_S. count 0: none. */
enum { QUEUE_FULL_S = 10 };
struct queue_refusals {
	int64_t count, since_ms; /* the first of them */
	int waiting;             /* requests that waited when the last one was refused */
};
struct queue_refusals queue_refusals(struct queue *q, const char *name);
/* Statistics of a deployment in Triton's form: {"last_inference","inference_count","execution_count",
 * "inference_stats","batch_stats"}, and "waiting": requests in the queue. NULL: no memory. */
cJSON *queue_stats(struct queue *q, const char *name);
/* The deployment is deleted: one of the same name begins at zero. */
void queue_drop_stats(struct queue *q, const char *name);

#endif
