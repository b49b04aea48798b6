/* server/jobs/merge.h - merges of checkpoints, one at a time, each in its own process.
 *
 * A merge is a file DATA/merges/ID.json until it is deleted: the request, and how it ended. One that had not ended when
 * the daemon did begins anew at the next start; the same request gives the same checkpoint, which storage keeps once.
 */
#ifndef SERVER_JOBS_MERGE_H
#define SERVER_JOBS_MERGE_H

#include "api.h"
#include "process/supervisor.h"
#include "storage.h"

struct merges;

struct merges_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir; /* absolute; borrowed */
	int threads;          /* compute threads of a merge */
};

/* Reads the files of earlier merges; merges_poke begins those that have not ended. */
enum wasd_status merges_create(const struct merges_config *cfg, struct merges **out, struct wasd_err *err);
void merges_poke(struct merges *g); /* any thread */
void merges_stop(struct merges *g); /* ends the running merge, which begins anew at the next start; any thread; NULL is
                                       fine */
void merges_destroy(struct merges *g); /* after supervisor_stop, before the storage closes; NULL is fine */
/* Implements struct api_records. Any thread but the supervisor's. */
struct api_records merges_api(struct merges *g);

#endif
