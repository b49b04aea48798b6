/* server/serving/serving.h - deployments: the bundle and mode that each one serves, and the one process that computes.
 */
#ifndef SERVER_SERVING_SERVING_H
#define SERVER_SERVING_SERVING_H

#include "api.h"
#include "storage.h"
#include "process/supervisor.h"

struct serving;

struct serving_config {
	struct storage *db;
	struct supervisor *sup;
	struct metrics *metrics;      /* NULL is fine */
	const char *data_dir;         /* absolute */
	int threads;                  /* compute threads of the process */
	int tune_threads;             /* of a process that tunes a cascade */
	int max_questions;            /* most inference requests that may wait */
	int crashes, crash_window_ms; /* this many crashes within the window suspend a deployment */
	int backoff_ms, aside_ms; /* first delay of a restart of the process; length of the first suspension; both double */
};

enum wasd_status serve_create(const struct serving_config *cfg, struct serving **out, struct wasd_err *err);
/* Loads every deployment in the database, except unloaded and draining ones. */
void serve_restore(struct serving *s);
/* Profiles of that checkpoint were added or deleted: if it is served, loads or unloads them. Any thread, until
 * serve_stop. */
void serve_profiles_changed(struct serving *s, const char *checkpoint);
/* Completed jobs have made or changed deployments (storage_loads_take): loads them. Any thread, until serve_stop. */
void serve_deployed(struct serving *s);
/* A job has another checkpoint: updates the deployments that follow it. Any thread, until serve_stop. */
void serve_checkpoint_stored(struct serving *s, const char *job);
bool serve_any(struct serving *s); /* whether a deployment exists; any thread */
/* Stops loads and restarts, closes the process and ends the loading thread. Call before supervisor_stop. NULL is fine.
 */
void serve_stop(struct serving *s);
void serve_destroy(struct serving *s); /* after supervisor_stop; NULL is fine */

/* Implementations of struct api_serving, with the same contract. Any thread but the supervisor's. */
enum wasd_status serve_changed(struct serving *s, const char *name, struct wasd_err *err);
enum wasd_status serve_tuned(struct serving *s, const char *name, struct wasd_err *err);
void serve_settle(struct serving *s);
enum wasd_status serve_gone(struct serving *s, const char *name, int64_t *in_flight, struct wasd_err *err);
bool serve_live(struct serving *s, const char *name, struct api_live *out);
bool serve_admit(struct serving *s, const char *name, const struct api_request *q, struct api_live *out);
enum wasd_status serve_traffic(struct serving *s, const struct storage_traffic_in *in, struct storage_deployment *out,
                               struct wasd_err *err);
cJSON *serve_traffic_now(struct serving *s, const char *name);
cJSON *serve_window(struct serving *s, const char *name, int64_t seconds);
bool serve_example(struct serving *s, const char *name, int64_t id, struct wasd_buf *out, const char **type);
struct api_facts *serve_facts(struct serving *s, const char *name);
cJSON *serve_info(struct serving *s, const char *name);
enum wasd_status serve_mode(struct serving *s, const char *name, const char *mode, int64_t expect, const char *actor,
                            const char *reason, struct api_live *now, struct api_live *before, int64_t *swap_us,
                            int64_t *in_flight_old, char audit_id[64], struct wasd_err *err);
void serve_ask(struct serving *s, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
void serve_forget(struct serving *s, const void *ctx);
cJSON *serve_stats(struct serving *s, const char *name);
bool serve_begin(struct serving *s, const char *name, const struct api_live *live);
void serve_end(struct serving *s, const char *name, const struct api_live *live, bool ok);
cJSON *serve_status(struct serving *s); /* process, restarts, queue, suspended deployments: for the system page */
struct api_serving serve_api(struct serving *s);

#endif
