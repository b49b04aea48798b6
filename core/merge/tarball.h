/* merge/tarball.h - writes a tar file whose bytes depend only on the names and contents of its entries. */
#ifndef MERGE_TARBALL_H
#define MERGE_TARBALL_H

#include "wasd/base.h"

struct tarball;

/* Begins PATH.part, replacing what is there. At most max_bytes. The caller ends it with tarball_destroy. */
enum wasd_status tarball_create(const char *path, uint64_t max_bytes, struct tarball **out, struct wasd_err *err);
/* name: ASCII, at most 100 bytes. WASD_ETOOBIG: above max_bytes. */
enum wasd_status tarball_add(struct tarball *t, const char *name, const void *data, size_t len, struct wasd_err *err);
/* Writes the end, syncs and renames. Nothing may be added afterwards. */
enum wasd_status tarball_finish(struct tarball *t, uint64_t *bytes, char sha256[WASD_SHA256_HEX], struct wasd_err *err);
void tarball_destroy(struct tarball *t); /* unfinished: removes PATH.part; NULL is fine */

#endif
