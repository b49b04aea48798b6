/* server/jobs/convert.h - exports checkpoints as files for other programs, imports such files as checkpoints, and says
 * what is in a checkpoint, with one short-lived engine process. */
#ifndef SERVER_JOBS_CONVERT_H
#define SERVER_JOBS_CONVERT_H

#include "api.h"
#include "storage.h"
#include "process/supervisor.h"

struct convert;

struct convert_config {
	struct storage *db;
	struct supervisor *sup;
	const char *data_dir;
	int idle_ms; /* an exported file is removed after this time without a request */
};

/* Empties DATA/exports, whose files can be made again. */
enum wasd_status convert_create(const struct convert_config *cfg, struct convert **out, struct wasd_err *err);
void convert_stop(struct convert *c);    /* running conversions fail; any thread; NULL is fine */
void convert_destroy(struct convert *c); /* after supervisor_stop; NULL is fine */

/* Implementations of struct api_files, with the same contract. Any thread but the supervisor's. */
enum wasd_status convert_export(struct convert *c, const char *checkpoint, const char *format, const char *mode,
                                int64_t deadline_us, struct api_file *out, struct wasd_err *err);
enum wasd_status convert_import(struct convert *c, const char *sha256, const cJSON *how, bool dry, int64_t deadline_us,
                                char id[32], struct wasd_err *err);
enum wasd_status convert_inspect(struct convert *c, const char *checkpoint, const cJSON *kernels, int64_t deadline_us,
                                 cJSON **out, struct wasd_err *err);
struct api_files convert_api(struct convert *c);

#endif
