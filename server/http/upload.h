/* server/http/upload.h - writes an upload to disk: hashes and counts it as it arrives, syncs it at the end, and unlinks
 * it unless it is kept. */
#ifndef SERVER_HTTP_UPLOAD_H
#define SERVER_HTTP_UPLOAD_H

#include "api.h"

struct stage;
/* Asked before an upload and every 16 MiB of it whether there is room for more bytes; WASD_EFULL if not. A NULL check
 * allows everything. */
struct upload_space {
	enum wasd_status (*check)(void *ctx, uint64_t more, struct wasd_err *err);
	void *ctx;
};

/* Creates a file in dir. max: its largest size in bytes. */
enum wasd_status stage_create(const char *dir, uint64_t max, struct upload_space space, struct stage **out,
                              struct wasd_err *err);
/* After a failure every later call returns the same status. */
enum wasd_status stage_write(struct stage *s, const void *p, size_t n, struct wasd_err *err);
/* Syncs the file and fills *up, whose strings are borrowed from s. */
enum wasd_status stage_finish(struct stage *s, struct api_upload *up, struct wasd_err *err);
void stage_keep(struct stage *s);    /* the file now belongs to the caller */
void stage_destroy(struct stage *s); /* NULL is fine */

#endif
