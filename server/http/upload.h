/* server/http/upload.h - writes an upload to disk: hashes and counts it as it arrives, syncs it at the end, and unlinks
 * it unless it is kept. */
#ifndef SERVER_HTTP_UPLOAD_H
#define SERVER_HTTP_UPLOAD_H

#include "api.h"

struct stage;
/* Creates a file in dir. max: its largest size in bytes. low_water: bytes of the file system that must stay free. */
enum wasd_status stage_create(const char *dir, uint64_t max, uint64_t low_water, struct stage **out,
                              struct wasd_err *err);
/* After a failure every later call returns the same status. */
enum wasd_status stage_write(struct stage *s, const void *p, size_t n, struct wasd_err *err);
/* Syncs the file and fills *up, whose strings are borrowed from s. */
enum wasd_status stage_finish(struct stage *s, struct api_upload *up, struct wasd_err *err);
void stage_keep(struct stage *s);    /* the file now belongs to the caller */
void stage_destroy(struct stage *s); /* NULL is fine */

#endif
