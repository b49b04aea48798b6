/* server/jobs/search.h - searches for profiles of checkpoints, one at a time, each in its own process. */
#ifndef SERVER_JOBS_SEARCH_H
#define SERVER_JOBS_SEARCH_H

#include "api.h"
#include "storage.h"
#include "process/supervisor.h"

struct profiles;

struct profiles_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir; /* absolute */
	int threads;          /* compute threads of a search */
	/* Profiles of that checkpoint were added or deleted. Called on [S], or by the caller of profiles_gone. */
	void (*changed)(void *ctx, const char *checkpoint);
	void (*settled)(void *ctx); /* [S] a search has ended, successfully or not; NULL is fine */
	void *ctx;
};

enum wasd_status profiles_create(const struct profiles_config *cfg, struct profiles **out, struct wasd_err *err);
void profiles_stop(struct profiles *g); /* ends the running search, which is queued again at the next start; any thread;
                                           NULL is fine */
void profiles_destroy(struct profiles *g); /* after supervisor_stop, before the storage closes; NULL is fine */

void profiles_poke(struct profiles *g); /* a profile may be queued; any thread */
/* The profile's row was deleted: ends a search for it. Any thread but the supervisor's. */
void profiles_gone(struct profiles *g, const char *checkpoint, const char *id);
/* Progress of the profile's search and the remaining seconds (< 0: unknown). False: the search is not running. Any
 * thread. */
bool profiles_progress(struct profiles *g, const char *id, int64_t *done, int64_t *of, double *eta_s);
struct api_profiles profiles_api(struct profiles *g);

#endif
