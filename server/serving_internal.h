/* server/serving_internal.h - what serving.c and serving_loads.c share. */
#ifndef SERVER_SERVING_INTERNAL_H
#define SERVER_SERVING_INTERNAL_H

#include "calls.h"
#include "pool.h"
#include "serving.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IN_FLIGHT_SLOTS = 16, CRASHES_KEPT = 16 };

/* loaded: the engine's answer, its "modes" with those of profiles ({"macs","bytes","profile": id of the row}); NULL: not in the process now */
struct bundle { struct bundle *next; char id[48]; cJSON *loaded; int64_t threads; };

struct deployment {
	struct deployment *next;
	char name[72];
	char mode[API_MODE_LEN];
	int64_t generation, version;
	char bundle[48];                        /* "" until the first load is over */
	bool wanted;                            /* false: only requests on their way are left */
	struct { int64_t generation, count; } in_flight[IN_FLIGHT_SLOTS];
	int64_t served, failed;
	char condition[200];
};

struct serving {
	struct serving_config cfg;
	struct calls calls;
	struct pool *loads;
	pthread_mutex_t lock;                   /* deployments and bundles */
	pthread_mutex_t switching;              /* commit and swap as one; taken before lock */
	struct deployment *deployments;
	struct bundle *bundles;
	_Atomic bool stopping;
	pthread_cond_t let_go;                  /* a deployment that is to go has one request less, is wanted again, or all ends */
	/* [S] */
	struct proc *proc;
	int64_t crashes[CRASHES_KEPT];
	int n_crashes;
	_Atomic int restarts;
	_Atomic bool given_up;
};

/* Lock held. NULL: there is none. */
struct deployment *serving_find(struct serving *s, const char *name);
struct bundle *serving_bundle(struct serving *s, const char *id);
/* Requests for that mode find it in the process. b may be NULL. */
bool serving_has_mode(const struct bundle *b, const char *mode);
/* Requests on their way, but for those of that generation. */
int64_t serving_in_flight(const struct deployment *d, int64_t generation);

/* The process runs, or is started. Not from the supervisor's thread. */
enum wasd_status serving_up(struct serving *s, struct wasd_err *err);
/* The deployment is loaded as its row says, when its turn comes. respawn: not if serving has been given up meanwhile. Any thread. */
void serving_queue_load(struct serving *s, const char *name, bool respawn);

#endif
