/* server/jobs/blobs.h - files that clients sent to be used by a later request, under their SHA-256 in DATA/blobs. They
 * stay for a day after they came. */
#ifndef SERVER_JOBS_BLOBS_H
#define SERVER_JOBS_BLOBS_H

#include "api.h"

enum { BLOB_KEEP_S = 24 * 3600 };

enum wasd_status blobs_init(const char *data_dir, struct wasd_err *err); /* makes the directory */
void blobs_sweep(const char *data_dir);                                  /* removes what is too old; any thread */
char *blobs_path(const char *data_dir, const char *sha256);              /* for wasd_free; NULL: no memory */
/* Moves a staged, synced file there, durably. *existed: it was there; the staged file is then left alone. Any thread.
 */
enum wasd_status blobs_put(const char *data_dir, const struct api_upload *file, bool *existed, struct wasd_err *err);
/* WASD_ENOTFOUND: there is none. */
enum wasd_status blobs_open(const char *data_dir, const char *sha256, struct api_file *out, struct wasd_err *err);
struct api_blobs blobs_api(const char *data_dir);

#endif
