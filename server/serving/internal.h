/* server/serving/internal.h - shared by serving.c, loads.c and deaths.c. [S]: the supervisor's thread only. */
#ifndef SERVER_SERVING_INTERNAL_H
#define SERVER_SERVING_INTERNAL_H

#include "process/helper.h"
#include "pool.h"
#include "serving/options.h"
#include "serving/queue.h"
#include "serving/serving.h"
#include "serving/shadow.h"
#include "serving/traffic.h"
#include "serving/window.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IN_FLIGHT_SLOTS = 16 };

/* loaded: the engine's answer; its "modes" include those of profiles ({"macs","bytes","profile": id of the row}). NULL:
 * not in the process now */
struct bundle {
	struct bundle *next;
	char id[48];
	struct api_facts *facts; /* shared with requests, so replaced and never changed */
	const cJSON *loaded;     /* facts->json */
	int64_t threads;
	int64_t users; /* requests between serve_begin and serve_end; it is not unloaded before the last has ended */
	bool retired;  /* no deployment serves it any more */
};

struct deployment {
	struct deployment *next;
	char name[72];
	char mode[WASD_MODE_LEN];
	int64_t generation, version;
	struct serving_options options;
	struct {
		struct traffic_policy policy;
		struct traffic_turns turns;
		struct traffic_load load;
		struct shadow shadow;
		double shadow_owed;
		struct window window;
		char why[200]; /* the last switch of auto */
		int64_t why_ms;
	} traffic;
	char bundle[48]; /* "" until the first load is complete */
	bool wanted;     /* false: deleted; only requests in flight are left */
	struct {
		int64_t generation, count;
	} in_flight[IN_FLIGHT_SLOTS]; /* by generation, as far as there is room */
	int64_t in_flight_all;
	int64_t served, failed;
	bool swapped;      /* to another version, since it was loaded first */
	int64_t swap_us;   /* then: from the commit of the last swap until it was live */
	int update_deaths; /* of the process during the pending update */
	char condition[400];
	char not_following[300]; /* why the newest checkpoint of the job is not served; "": it is, or none is followed */
	/* owned by deaths.c */
	int deaths, asides;               /* recent deaths of the process at its work; recent suspensions */
	int64_t death_us, aside_until_us; /* time of the last death; end of the suspension, 0: not suspended */
};

struct serving {
	struct serving_config cfg;
	struct helper helper;
	struct queue *queue;
	struct pool *loads;
	pthread_mutex_t lock;       /* deployments and bundles */
	pthread_mutex_t submitting; /* loads, which serve_stop sets to NULL */
	pthread_mutex_t switching;  /* makes commit and swap atomic; taken before lock */
	struct deployment *deployments;
	struct bundle *bundles;
	_Atomic bool stopping;
	/* [S] */
	struct task *tuning_task; /* the process of tuning; NULL: none */
	int deaths;               /* owned by deaths.c */
	int64_t death_us;
	_Atomic int64_t up_at_us; /* time of the next restart of the process; 0: none is scheduled */
	_Atomic int restarts;
	struct tuning *tunings, *tuning; /* those that wait, the first one may run: tuning; lock held */
	bool mirroring;                  /* a shadow is computed; lock held */
	/* loading thread only: the deployment being loaded, and its largest batch */
	char loading[72];
	int64_t loading_batch;
};

/* Lock held. Takes the reference; NULL: the bundle is not in the process. */
void serving_set_facts(struct bundle *b, struct api_facts *facts);
/* Lock held. NULL: not found. */
struct deployment *serving_find(struct serving *s, const char *name);
struct bundle *serving_bundle(struct serving *s, const char *id);
/* True if the mode is loaded. b may be NULL. */
bool serving_has_mode(const struct bundle *b, const char *mode);
/* Number of requests in flight, without those of that generation. */
int64_t serving_in_flight(const struct deployment *d, int64_t generation);

/* Queues a load of the deployment from its row; skipped if it is suspended when its turn comes. Any thread. */
void serving_queue_load(struct serving *s, const char *name);

/* Queues what follows the last answer of a deployment that is deleted or unloaded, or of a bundle. Any thread. */
void serving_queue_drained(struct serving *s, const char *name);
/* Makes the row live. Lock held. */
void serving_set_live(struct deployment *d, const struct storage_deployment *row);
bool serving_mode_in_process(struct serving *s, const char *id, const char *mode);
/* Loads a checkpoint and its profiles, and warms up what it is to answer in. tell: sets the row's state. */
enum wasd_status serving_prepare(struct serving *s, const char *id, const char *mode, int64_t threads, bool tell,
                                 struct wasd_err *err);

/* ---- updates.c: on the loading thread ---- */

/* Is there another checkpoint to be loaded, which has not failed? */
bool serving_update_pending(const struct storage_deployment *row);
/* Does the deployment answer with this bundle now? */
bool serving_serves(struct serving *s, const char *name, const char *id);
/* Loads the pending checkpoint of the deployment and swaps, or stores why not. */
void serving_update(struct serving *s, const char *name);
/* If its source follows a job whose best or latest checkpoint is another one now, makes that pending. True: so it is.
 */
bool serving_catch_up(struct serving *s, const char *name);

/* ---- choice.c ---- */

/* Lock held. The mode that must be loaded for the deployment to answer at all: its own, or AOM for auto and cascade. */
const char *serving_base_mode(const struct deployment *d);
/* Lock held. Sets out->pick. q: the inference request that is admitted; NULL: none, and no turn is taken. */
void serving_pick(struct serving *s, struct deployment *d, const struct api_request *q, struct api_live *out);
/* Lock held. Follows the policy of the row for the bundle that d serves. */
void serving_follow_policy(struct deployment *d, const struct storage_deployment *row);

void serving_traffic_done(struct deployment *d); /* frees what it keeps */
/* Lock held. Adds the condition Degraded to the deployment's object o while auto has left AOM. */
void serving_add_degraded(const struct deployment *d, cJSON *o);
/* Appends {"type","reason"} to "conditions" of o. Returns it, for further members; NULL: no memory. */
cJSON *serving_add_condition(cJSON *o, const char *type, const char *reason);
/* [S] Lets auto decide, for every deployment. */
void serving_balance(struct serving *s);

/* ---- tune.c ---- */

/* Has the threshold of the row's cascade found, if it wants that. Any thread but [S], without locks. */
void serving_tune(struct serving *s, const struct storage_deployment *row);
/* Lock held. Adds "tuning" to o: {"state","cheap","keep","done","of"}, or null. */
void serving_add_tuning(struct serving *s, const char *name, cJSON *o);
void serving_tunings_stop(struct serving *s); /* [S] */
void serving_tunings_done(struct serving *s); /* after supervisor_stop */

/* ---- deaths.c ---- */

/* [S] The process has died at the work of deployment who ("": of none). */
void serving_died(struct serving *s, const char *who, const char *reason);
/* [S] Does what is due: restarts the process, resumes suspended deployments. */
void serving_tick(void *ctx);
/* Ends the deployment's suspension and the process's backoff at once. Any thread, without lock. */
void serving_forgive(struct serving *s, const char *name);
/* Seconds until the process is restarted (0: no restart is scheduled), and until a deployment may answer again (lock
 * held). */
int64_t serving_restart_s(struct serving *s);
int64_t serving_retry_s(struct serving *s, const struct deployment *d);
/* Adds the condition Suspended to the deployment's object o. Lock held. */
void serving_add_suspended(const struct deployment *d, cJSON *o);

#endif
