/* server/http/parse.h - the checks that every request passes before anything else looks at it: message framing,
 * percent-decoding, header values. libmicrohttpd 0.9.75 lets several kinds of smuggled requests and decoded NULs
 * through; nothing here depends on it. */
#ifndef SERVER_HTTP_PARSE_H
#define SERVER_HTTP_PARSE_H

#include "api.h"

/* Small pieces that live as long as a request. Zero-initialise; arena_done frees. */
struct arena_block;
struct arena {
	struct arena_block *blocks;
};
void *arena_alloc(struct arena *a, size_t n); /* NULL: no memory */
char *arena_strndup(struct arena *a, const char *s, size_t n);
void arena_done(struct arena *a);

enum { URI_MAX = 8192, HEADERS_MAX = 16 << 10, QUERY_PAIRS_MAX = 64, HEADER_COUNT_MAX = 128 };

/* Splits "/a%20b?x=1&y" into a decoded path and decoded query pairs. Refuses %00, an encoded slash, control bytes,
 * empty and dot segments, and what is not UTF-8: false with *why = what is wrong, or "" when out of memory. An absolute
 * URI loses scheme and authority. */
bool uri_parse(struct arena *a, const char *raw, char **path, struct api_pair **query, size_t *n_query,
               const char **why);

struct framing {
	bool chunked, has_length;
	uint64_t length;
	bool keep_reading; /* Expect: 100-continue was asked for */
};
/* Looks at the headers (names as received) of one request. 0 when they are sound, else the HTTP status to refuse with
 * and *why. */
int framing_check(const char *version, const struct api_pair *headers, size_t n, struct framing *out, const char **why);

/* True when the comma list in value (NULL = absent) accepts this coding with q > 0. */
bool accepts_coding(const char *value, const char *coding);
/* If-None-Match / If-Match lists: weak comparison against one entity tag with its quotes; "*" matches. */
bool etag_in_list(const char *list, const char *etag);
/* "bytes=a-b", "bytes=a-", "bytes=-n" against size. 0 = ignore the header, 206 with *first and *last, 416. */
int range_parse(const char *value, uint64_t size, uint64_t *first, uint64_t *last);
/* version 00 of the W3C form: "00-32hex-16hex-2hex", ids not all zero. */
bool traceparent_ok(const char *s);
const char *content_type_of(const char *file_name);

#endif
