/* base/fields.h - reads the members of a spec object. Every error names its member by an RFC 6901 pointer, built on the
 * object's own pointer `at` ("/was/transforms/0"). Private to core. */
#ifndef WASD_BASE_FIELDS_H
#define WASD_BASE_FIELDS_H

#include "wasd/spec.h"

#define FIELDS_POINTER 160

static inline void fields_pointer(char out[FIELDS_POINTER], const char *at, const char *name)
{
	wasd_json_pointer(out, FIELDS_POINTER, at, name);
}
/* Fails with WASD_EINVAL at the first member of obj whose name is not among names (ends with NULL); the message lists
 * them. */
enum wasd_status fields_known(const cJSON *obj, const char *at, const char *const *names, struct wasd_err *err);

/* The same at the first member that is neither `key` nor a row of the tables; each may be NULL. */
enum wasd_status fields_known_rows(const cJSON *obj, const char *at, const char *key, const struct wasd_field *rows,
                                   const struct wasd_field *more, struct wasd_err *err);

/* What v says of the row f, checked against it. v NULL: the member is left out, which means its default; a row without
 * a default gives 0, or -1 of a choice, and WASD_EINVAL where it is required. */
/* As numbers: 1 for true, two for a WASD_PAIR. */
enum wasd_status fields_number(const cJSON *v, const char *at, const struct wasd_field *f, double *out,
                               struct wasd_err *err);
/* Those of every row, one after the other, from the members of obj (NULL: all are left out). A row of another type has
 * one value, which is 0. */
enum wasd_status fields_numbers(const cJSON *obj, const char *at, const struct wasd_field *rows, double *v,
                                struct wasd_err *err);
/* Adds such values to obj as members. false: no memory. */
bool fields_put(cJSON *obj, const struct wasd_field *rows, const double *v);
/* The index of a choice. */
enum wasd_status fields_choice(const cJSON *v, const char *at, const struct wasd_field *f, int *out,
                               struct wasd_err *err);

#endif
