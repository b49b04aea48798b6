/* server/jobs/ingest.h - makes datasets from uploads and synthetic sets, with one process each, and previews of their
 * images, with one short-lived process for all. */
#ifndef SERVER_JOBS_INGEST_H
#define SERVER_JOBS_INGEST_H

#include "api.h"
#include "storage.h"
#include "process/supervisor.h"

struct ingest;

struct ingest_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir; /* absolute */
	int at_once;          /* processes at the same time; other uploads wait */
	uint64_t max_bytes;   /* size limit of one prepared dataset */
	int64_t max_images;
	void (*dataset_ready)(void *ctx); /* [S] a dataset is ready; a job may be waiting for it */
	void *ctx;
};

enum wasd_status ingest_create(const struct ingest_config *cfg, struct ingest **out, struct wasd_err *err);
void ingest_stop(struct ingest *g);    /* ends running uploads, whose datasets become invalid; any thread */
void ingest_destroy(struct ingest *g); /* after supervisor_stop; NULL is fine */

/* Implementations of struct api_data, with the same contract. Any thread but the supervisor's. */
enum wasd_status ingest_files(struct ingest *g, const char *dataset, int version, const struct api_upload *files,
                              size_t n, const cJSON *options, struct wasd_err *err);
enum wasd_status ingest_synthetic(struct ingest *g, const char *dataset, int version, const char *kind, int64_t train,
                                  int64_t test, int64_t seed, struct wasd_err *err);
enum wasd_status ingest_preview(struct ingest *g, const char *path, const char *split, int64_t index,
                                struct api_call *call, struct wasd_err *err);
struct api_data ingest_api(struct ingest *g);

#endif
