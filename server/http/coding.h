/* server/http/coding.h - content codings: gzip, deflate (the zlib format of RFC 9110, not raw deflate) and zstd.
 * Nothing here depends on the connection. */
#ifndef SERVER_HTTP_CODING_H
#define SERVER_HTTP_CODING_H

#include "wasd/base.h"

enum coding { CODING_NONE, CODING_ZSTD, CODING_GZIP, CODING_DEFLATE, CODINGS };
#define CODINGS_READ "gzip, deflate, zstd" /* for Accept-Encoding of a 415 */

const char *coding_name(enum coding c); /* "gzip"; "identity" for CODING_NONE */
/* Reads a Content-Encoding header (NULL: none). False: not one of these, or several of them. */
bool coding_read(const char *value, enum coding *out);
/* The coding that an Accept-Encoding header (NULL: none) wants most: the highest q, among equals in the order above, as
 * zstd is the fastest and gzip the most common. CODING_NONE also if it accepts nothing that is offered. */
enum coding coding_choose(const char *accept);
/* Appends the coded bytes to out. False: no memory, or they would not be fewer. */
bool coding_pack(enum coding c, const void *p, size_t n, struct wasd_buf *out);
/* Appends the decoded bytes to out, which must be empty. WASD_ETOOBIG: more than max bytes; WASD_EINVAL: not the
 * coding's format, cut, or followed by other bytes. */
enum wasd_status coding_unpack(enum coding c, const void *p, size_t n, size_t max, struct wasd_buf *out,
                               struct wasd_err *err);

#endif
