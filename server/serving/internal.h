/* server/serving/internal.h - what serving.c and loads.c share. */
#ifndef SERVER_SERVING_INTERNAL_H
#define SERVER_SERVING_INTERNAL_H

#include "process/helper.h"
#include "pool.h"
#include "serving/queue.h"
#include "serving/serving.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IN_FLIGHT_SLOTS = 16 };

/* loaded: the engine's answer, its "modes" with those of profiles ({"macs","bytes","profile": id of the row}); NULL:
 * not in the process now */
struct bundle {
	struct bundle *next;
	char id[48];
	cJSON *loaded;
	int64_t threads;
};

struct deployment {
	struct deployment *next;
	char name[72];
	char mode[WASD_MODE_LEN];
	int64_t generation, version;
	int64_t batch;   /* the most images computed together; 0: each request alone */
	char bundle[48]; /* "" until the first load is over */
	bool wanted;     /* false: only requests on their way are left */
	struct {
		int64_t generation, count;
	} in_flight[IN_FLIGHT_SLOTS];
	int64_t served, failed;
	char condition[400];
	/* deaths.c's */
	int deaths, asides;               /* the process's at its work, lately; how often set aside, lately */
	int64_t death_us, aside_until_us; /* the last of them; 0: not set aside */
};

struct serving {
	struct serving_config cfg;
	struct helper helper;
	struct queue *queue;
	struct pool *loads;
	pthread_mutex_t lock;      /* deployments and bundles */
	pthread_mutex_t switching; /* commit and swap as one; taken before lock */
	struct deployment *deployments;
	struct bundle *bundles;
	_Atomic bool stopping;
	pthread_cond_t let_go; /* a deployment that is to go has one request less, is wanted again, or all ends */
	/* [S] */
	int deaths; /* deaths.c */
	int64_t death_us;
	_Atomic int64_t up_at_us; /* when the process is to be started again; 0: it runs, or nobody wants it */
	_Atomic int restarts;
	char loading[72]; /* the loads' thread: the deployment that it is at */
};

/* Lock held. NULL: there is none. */
struct deployment *serving_find(struct serving *s, const char *name);
struct bundle *serving_bundle(struct serving *s, const char *id);
/* Requests for that mode find it in the process. b may be NULL. */
bool serving_has_mode(const struct bundle *b, const char *mode);
/* Requests on their way, but for those of that generation. */
int64_t serving_in_flight(const struct deployment *d, int64_t generation);

/* The deployment is loaded as its row says, when its turn comes, unless it is set aside then. Any thread. */
void serving_queue_load(struct serving *s, const char *name);

/* ---- deaths.c ---- */

/* [S] The process is gone, at the work of that deployment ("": nobody's). */
void serving_died(struct serving *s, const char *who, const char *reason);
/* [S] Does what is due: starts the process again, takes deployments back. */
void serving_tick(void *ctx);
/* A new chance at once, for that deployment and for the process. Any thread, without lock. */
void serving_forgive(struct serving *s, const char *name);
/* Seconds until the process is started again, 0: it is not waited for; and until a deployment may answer again (lock
 * held). */
int64_t serving_restart_s(struct serving *s);
int64_t serving_retry_s(struct serving *s, const struct deployment *d);
/* The condition Suspended of its object. Lock held. */
void serving_add_suspended(const struct deployment *d, cJSON *o);

#endif
