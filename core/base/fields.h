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

struct fields_range {
	double min, max;
	bool above_min, below_max; /* the bound itself is excluded */
};
/* Reads v as a finite number within r. */
enum wasd_status fields_number(const cJSON *v, const char *at, struct fields_range r, double *out,
                               struct wasd_err *err);

#endif
