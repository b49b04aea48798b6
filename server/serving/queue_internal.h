/* server/serving/queue_internal.h - shared by queue.c (life of a request), lanes.c (what is computed next), batch.c
 * (question and answer of a batch) and queue_stats.c. All of it is guarded by the queue's lock, except where a batch is
 * being posted. */
#ifndef SERVER_SERVING_QUEUE_INTERNAL_H
#define SERVER_SERVING_QUEUE_INTERNAL_H

#include "serving/queue.h"

#include <sys/uio.h>

enum { BATCH_MAX = 64 };

/* Images of a request that are computed in the same batch: all, unless the request has more than a batch may have. */
struct part {
	struct part *next, **pprev; /* in its lane's list; pprev NULL: not waiting */
	struct whole *whole;
	int64_t first, images; /* images [first, first + images) of the request */
	const char *bin;       /* their bytes in the request's payload */
	size_t len;
	bool alone; /* its batch has failed: it is asked again without others */
};

/* A request, from queue_ask until its done is called. */
struct whole {
	struct whole *next, **pprev; /* in the queue's list; after the end in a list of those whose done is to be called */
	struct api_ask *ask;
	struct lane *lane;
	int level;         /* 0: computed first; LEVEL_IDLE: only while nothing else waits */
	int waiting, open; /* parts in the lane's list; parts without an answer */
	int pinned;        /* parts whose payload is being read: the request must not end */
	bool ending;       /* it ends, with the status in its ask, as soon as it is not pinned */
	int n;
	struct part part[];
};

enum { LEVELS = API_PRIORITIES, LEVEL_IDLE = LEVELS - 1 };

/* The waiting requests and the statistics of one deployment. Times in microseconds. */
struct lane {
	struct lane *next;
	char name[72];
	bool dropped;                                /* its deployment is deleted: it goes with its last request */
	int wholes, waiting;                         /* requests in the queue; requests with parts that wait */
	int64_t images;                              /* images that wait */
	int64_t max_batch, max_queue_delay_us, most; /* options, as the latest request brought them */
	struct part *first[LEVELS], **last[LEVELS];  /* in order of arrival */
	struct queue_refusals refused;               /* the latest series; over QUEUE_FULL_S after refused_us */
	int64_t refused_us;
	double image_us, batch_us[BATCH_MAX + 1];     /* measured: one image; a batch of that many. 0: unknown */
	int64_t last_ms, answered_images, executions; /* statistics */
	struct counted {
		int64_t count, us;
	} success, fail, queue, input, compute, batches[BATCH_MAX + 1]; /* batches[n]: executions with n images */
};

struct batch {
	struct question question;
	struct queue *queue;
	struct batch *next;             /* in a list of those to post */
	struct part *member[BATCH_MAX]; /* NULL: this request has ended */
	int64_t images[BATCH_MAX];
	int n;
	int64_t total, deadline_us; /* the latest deadline of its members */
	struct lane *lane;          /* valid while a member is left */
	char who[72], mode[WASD_MODE_LEN];
	bool uncounted;         /* not in the statistics */
	bool posting, answered; /* its payload is being read; its answer has come meanwhile */
	struct api_call answer;
	enum wasd_status status;
	struct wasd_err err;
};

struct queue {
	struct asker *asker;
	struct metrics *metrics;
	int most;
	pthread_mutex_t lock;
	struct whole *wholes;
	struct lane *lanes, *turn; /* turn: the lane to look at first; NULL: the first */
	int waiting, asked;
	struct batch *in_process[QUEUE_DEPTH]; /* `asked` entries are used, the oldest first */
	int64_t busy_until_us;                 /* estimate for in_process[0] */
	/* the timer: sleeps until something waits long enough or a deadline passes */
	pthread_t timer;
	pthread_cond_t earlier;
	int64_t due_us, deadline_us; /* when to look next; the earliest deadline, or a time before it */
	int64_t asleep_until_us;
	bool timing, over;
};

/* ---- lanes.c ---- */

/* The lane of a deployment, made if there is none. NULL: no memory. */
struct lane *lane_of(struct queue *q, const char *name);
struct lane *lane_find(struct queue *q, const char *name);
void lane_free_dropped(struct queue *q); /* frees those whose last request has ended */
void lane_append(struct queue *q, struct part *p);
void lane_put_first(struct queue *q, struct part *p);
void lane_take_out(struct queue *q, struct part *p);
/* Takes the parts that are to be computed next. NULL: none may be posted before *due_us, or no memory. */
struct batch *lanes_gather(struct queue *q, int64_t now, int64_t *due_us);
/* Seconds until what waits now has been computed, from measured times; at least 1. */
int64_t lanes_wait_s(const struct queue *q);

/* ---- batch.c ---- */

/* Sends the question. Its members are pinned and no lock is held. */
enum wasd_status batch_post(struct queue *q, struct batch *b, void (*done)(struct question *), struct wasd_err *err);
/* WASD_ECORRUPT: the answer's "crops" do not fit the batch. */
enum wasd_status batch_check(const struct batch *b, struct wasd_err *err);
/* How many images the network computed for n images of an answer, from image `from`: its "crops", or one each. */
int64_t batch_computed(const cJSON *reply, int64_t from, int64_t n);
/* Copies a member's rows of the answer, which begin after `before` images, to its request. */
enum wasd_status batch_hand_out(struct batch *b, const struct part *p, int64_t before, struct wasd_err *err);
/* An error's pointer to an image of a part becomes one to the image of the request. */
void batch_shift_pointer(struct wasd_err *err, int64_t first);

/* ---- queue_stats.c ---- */

void stats_ended(struct queue *q, const struct whole *w, int64_t now);
void stats_computed(struct queue *q, const struct batch *b);

#endif
