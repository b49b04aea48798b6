/* base/fields.h - reads the members of a spec object. Every error names its member by an RFC 6901 pointer, formed
 * by extending the object's own pointer `at` ("/was/transforms/0"). Private to core. */
#ifndef WASD_BASE_FIELDS_H
#define WASD_BASE_FIELDS_H

#include "wasd/spec.h"

#define FIELDS_POINTER 160

static inline void fields_pointer(char out[FIELDS_POINTER], const char *at, const char *name)
{
	wasd_json_pointer(out, FIELDS_POINTER, at, name);
}
/* Fails with WASD_EINVAL at the first member of obj that is not in names (ends at NULL); the message lists the
 * names. */
enum wasd_status fields_known(const cJSON *obj, const char *at, const char *const *names, struct wasd_err *err);

/* Fails the same way at the first member that is neither `key` nor a row of one of the tables. key and each table
 * may be NULL. */
enum wasd_status fields_known_rows(const cJSON *obj, const char *at, const char *key, const struct wasd_field *rows,
                                   const struct wasd_field *more, struct wasd_err *err);

/* The functions below check v against row f and return its value. v NULL: the member is absent and the default
 * applies. Without a default the value is 0, or -1 for a choice; WASD_EINVAL if the member is required. */
/* The value as numbers: 1 for true, two for a WASD_PAIR. */
enum wasd_status fields_number(const cJSON *v, const char *at, const struct wasd_field *f, double *out,
                               struct wasd_err *err);
/* Reads the numbers of every row, in order, from the members of obj (NULL: all are absent). A row that is not
 * numeric takes one place, with the value 0. */
enum wasd_status fields_numbers(const cJSON *obj, const char *at, const struct wasd_field *rows, double *v,
                                struct wasd_err *err);
/* Adds such numbers to obj as members. Returns false when out of memory. */
bool fields_put(cJSON *obj, const struct wasd_field *rows, const double *v);
/* The value as an index among the choices. */
enum wasd_status fields_choice(const cJSON *v, const char *at, const struct wasd_field *f, int *out,
                               struct wasd_err *err);

#endif
