/* server/http/parse.h - checks on every request before other code sees it: message framing, percent-decoding, header
 * values. libmicrohttpd 0.9.75 lets several kinds of smuggled requests and decoded NULs through. Nothing here depends
 * on the library. */
#ifndef SERVER_HTTP_PARSE_H
#define SERVER_HTTP_PARSE_H

#include "api.h"

/* Small allocations that live as long as a request. Zero-initialise; arena_done frees all of them. */
struct arena_block;
struct arena {
	struct arena_block *blocks;
};
void *arena_alloc(struct arena *a, size_t n); /* NULL: no memory */
char *arena_strndup(struct arena *a, const char *s, size_t n);
void arena_done(struct arena *a);

enum { URI_MAX = 8192, HEADERS_MAX = 16 << 10, QUERY_PAIRS_MAX = 64, HEADER_COUNT_MAX = 128 };

/* Splits "/a%20b?x=1&y" into a decoded path and decoded query pairs. Refuses %00, an encoded slash, control bytes,
 * empty and dot segments, and invalid UTF-8: returns false with the reason in *why, or "" when out of memory. Drops the
 * scheme and authority of an absolute URI. */
bool uri_parse(struct arena *a, const char *raw, char **path, struct api_pair **query, size_t *n_query,
               const char **why);

struct framing {
	bool chunked, has_length;
	uint64_t length;
	bool keep_reading; /* the client sent Expect: 100-continue */
};
/* Checks the headers (names as received) of one request. Returns 0 if they are valid, else the HTTP status to refuse
 * with, and the reason in *why. */
int framing_check(const char *version, const struct api_pair *headers, size_t n, struct framing *out, const char **why);

/* Weak comparison of an If-None-Match or If-Match list with one entity tag, quotes included; "*" matches. */
bool etag_in_list(const char *list, const char *etag);
/* Parses "bytes=a-b", "bytes=a-" or "bytes=-n" for a file of size bytes. Returns 0 = ignore the header, 206 with *first
 * and *last set, or 416. */
int range_parse(const char *value, uint64_t size, uint64_t *first, uint64_t *last);
/* True for version 00 of the W3C format, "00-32hex-16hex-2hex", with ids that are not all zero. */
bool traceparent_ok(const char *s);
const char *content_type_of(const char *file_name);

#endif
