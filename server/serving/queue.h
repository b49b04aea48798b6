/* server/serving/queue.h - inference requests on their way: they wait in the daemon, not in the process.
 *
 * At most QUEUE_DEPTH questions are in the process at a time: one that it computes and one that it takes next. What
 * waits here can still go away (a client that hung up, a deadline) and can be computed together with others. No thread
 * waits for an answer.
 */
#ifndef SERVER_SERVING_QUEUE_H
#define SERVER_SERVING_QUEUE_H

#include "process/ask.h"

enum { QUEUE_DEPTH = 2 };

struct queue;
/* asker: of the process. most: requests that may wait. */
enum wasd_status queue_create(struct asker *asker, int most, struct queue **out, struct wasd_err *err);
void queue_destroy(struct queue *q); /* after the process has gone; NULL is fine */

/* struct api_serving's ask and forget. done is called once, without locks, on any thread, also on this one before the
 * call returns; ask is the caller's again then. */
void queue_ask(struct queue *q, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
/* Ends what was asked with that ctx, if it is not over: done is called. */
void queue_forget(struct queue *q, const void *ctx);

/* [S] Ends those whose deadline is over. */
void queue_tick(struct queue *q);
/* Requests that wait, and questions in the process. */
void queue_length(struct queue *q, int *waiting, int *asked);
/* What was done for a deployment, as Triton's statistics: {"last_inference","inference_count","execution_count",
 * "inference_stats","batch_stats"}. NULL: no memory. */
cJSON *queue_stats(struct queue *q, const char *name);

#endif
