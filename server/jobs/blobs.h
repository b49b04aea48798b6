/* server/jobs/blobs.h - files that clients upload for use by a later request, stored under their SHA-256 in DATA/blobs
 * and kept for a day. */
#ifndef SERVER_JOBS_BLOBS_H
#define SERVER_JOBS_BLOBS_H

#include "api.h"

enum { BLOB_KEEP_S = 24 * 3600 };

enum wasd_status blobs_init(const char *data_dir, struct wasd_err *err); /* creates the directory */
void blobs_sweep(const char *data_dir);                                  /* removes expired blobs; any thread */
char *blobs_path(const char *data_dir, const char *sha256);              /* for wasd_free; NULL: no memory */
/* Moves a staged, synced file into the directory, durably. *existed: the blob already existed; the staged file then
 * stays where it is. Any thread. */
enum wasd_status blobs_put(const char *data_dir, const struct api_upload *file, bool *existed, struct wasd_err *err);
/* WASD_ENOTFOUND: no such blob. */
enum wasd_status blobs_open(const char *data_dir, const char *sha256, struct api_file *out, struct wasd_err *err);
struct api_blobs blobs_api(const char *data_dir);

#endif
