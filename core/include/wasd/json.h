/* wasd/json.h - strict JSON in, exact JSON out, around cJSON 1.7.15 (web/docs/reliability.md#cjson says why).
 * Everything from outside (requests, workers, checkpoint metadata, config) is parsed here. */
#ifndef WASD_JSON_H
#define WASD_JSON_H

#include "wasd/base.h"
#include <cjson/cJSON.h>

struct wasd_json_limits {
	size_t bytes;
	unsigned depth, nodes;
};
#define WASD_JSON_REQUEST ((struct wasd_json_limits){256 << 10, 32, 20000}) /* job specs and small bodies */
#define WASD_JSON_BULK ((struct wasd_json_limits){1 << 20, 32, 600000})     /* infer bodies: arrays of numbers */

/* Parses exactly one JSON value that fills text[0..len). Rejects what cJSON lets through: invalid UTF-8, BOM, raw
 * control bytes, \u0000, lone surrogates, duplicate keys, number forms outside RFC 8259, trailing bytes, numbers that
 * overflow to infinity, and anything over the limits (WASD_ETOOBIG for bytes/depth/nodes, else WASD_EINVAL).
 * err->pointer is the JSON pointer of the fault if known; the message gives the byte offset. The caller frees *out with
 * cJSON_Delete. */
enum wasd_status wasd_json_parse(const char *text, size_t len, struct wasd_json_limits lim, cJSON **out,
                                 struct wasd_err *err);

/* Prints v as compact text, NUL-terminated (free with wasd_free); NULL when out of memory. NaN and Inf are printed as
 * null; use wasd_json_add_real where the flag matters. Doubles are printed with the fewest digits that are exact (at
 * most 17). */
char *wasd_json_print(const cJSON *v);

/* Typed look-ups, case-sensitive. They return false if the member is absent or has another type. */
const cJSON *wasd_json_get(const cJSON *obj, const char *key);           /* NULL if absent */
bool wasd_json_str(const cJSON *obj, const char *key, const char **out); /* borrowed */
#define WASD_JSON_INT_MAX 9007199254740991LL /* 2^53 - 1: beyond this, neighbouring integers are the same double */
bool wasd_json_i64(const cJSON *obj, const char *key, int64_t *out); /* integral and |v| <= 2^53 */
bool wasd_json_num(const cJSON *obj, const char *key, double *out);  /* finite */
bool wasd_json_bool(const cJSON *obj, const char *key, bool *out);

/* Building. They take v; NULL stands for no memory. False: no memory, v is freed. */
bool wasd_json_put(cJSON *obj, const char *key, cJSON *v); /* in place of a member of that name, if there is one */
bool wasd_json_push(cJSON *list, cJSON *v);                /* at the end */

/* out = at + "/" + name with ~ and / escaped (RFC 6901), truncated to the room. */
void wasd_json_pointer(char *out, size_t size, const char *at, const char *name);

/* Reals that may be NaN or infinite (losses, metrics): JSON has no such numbers, so they are written as key: null
 * beside "KEY_nonfinite": "nan" | "inf" | "-inf". add: false when out of memory. */
bool wasd_json_add_real(cJSON *obj, const char *key, double v);
bool wasd_json_real(const cJSON *obj, const char *key, double *out);

#endif
