/* server/http/upload.h - an upload on its way to disk: written, hashed and counted piece by piece, synced at the end,
 * unlinked unless kept. */
#ifndef SERVER_HTTP_UPLOAD_H
#define SERVER_HTTP_UPLOAD_H

#include "api.h"

struct stage;
/* A new file in dir. max: bytes it may hold. low_water: free bytes the file system must keep. */
enum wasd_status stage_create(const char *dir, uint64_t max, uint64_t low_water, struct stage **out,
                              struct wasd_err *err);
/* After a failure every later call gives the same status. */
enum wasd_status stage_write(struct stage *s, const void *p, size_t n, struct wasd_err *err);
/* Syncs and fills up (strings borrowed from s). */
enum wasd_status stage_finish(struct stage *s, struct api_upload *up, struct wasd_err *err);
void stage_keep(struct stage *s);    /* the file now belongs to somebody else */
void stage_destroy(struct stage *s); /* NULL is fine */

#endif
