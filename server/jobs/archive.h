/* server/jobs/archive.h - archives of checkpoints (wasd/archive.h), one at a time, each in its own process.
 *
 * An archive is a file DATA/exports/ID.tar until it is deleted, or nobody has asked for it for an hour. The daemon
 * forgets them when it ends; the directory is emptied at the next start (convert.h). */
#ifndef SERVER_JOBS_ARCHIVE_H
#define SERVER_JOBS_ARCHIVE_H

#include "api.h"
#include "process/supervisor.h"
#include "storage.h"

struct archives;

struct archives_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir; /* absolute; borrowed */
	int threads;          /* compute threads of an archive */
	int64_t idle_ms;      /* one that has ended is removed after this time without a request */
	int64_t keep_ms;      /* a ready one does not make room for another before this time without a request */
};

enum wasd_status archives_create(const struct archives_config *cfg, struct archives **out, struct wasd_err *err);
void archives_stop(struct archives *g);    /* ends the running one; any thread; NULL is fine */
void archives_destroy(struct archives *g); /* after supervisor_stop, before the storage closes; NULL is fine */
/* Implements struct api_records. Any thread but the supervisor's. */
struct api_records archives_api(struct archives *g);

#endif
