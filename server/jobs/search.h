/* server/jobs/search.h - profiles of checkpoints: searched one after the other, each by a process of its own. */
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
	int threads;          /* of a search */
	/* Profiles of that checkpoint came or went: who serves it wants to know. [S], or the caller of profiles_gone. */
	void (*changed)(void *ctx, const char *checkpoint);
	void (*settled)(void *ctx); /* [S] one was searched, whatever became of it; NULL is fine */
	void *ctx;
};

enum wasd_status profiles_create(const struct profiles_config *cfg, struct profiles **out, struct wasd_err *err);
void profiles_stop(struct profiles *g);    /* the search that runs is ended and is queued again at the next start; any
                                              thread; NULL is fine */
void profiles_destroy(struct profiles *g); /* after supervisor_stop, before the storage closes; NULL is fine */

void profiles_poke(struct profiles *g); /* something may be queued; any thread */
/* Its row was deleted: a search for it ends. Any thread but the supervisor's. */
void profiles_gone(struct profiles *g, const char *checkpoint, const char *id);
/* How far its search is, and how long it still takes (< 0: not known yet); false when it does not run. Any thread. */
bool profiles_progress(struct profiles *g, const char *id, int64_t *done, int64_t *of, double *eta_s);
struct api_profiles profiles_api(struct profiles *g);

#endif
