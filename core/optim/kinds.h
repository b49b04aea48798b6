/* optim/kinds.h - the rows of the tables in optim/optim.c and optim/schedule.c, and how to read their options. */
#ifndef OPTIM_KINDS_H
#define OPTIM_KINDS_H

#include "wasd/optim.h"

extern const struct wasd_optim_kind optim_sgd, optim_adamw, optim_adam, optim_rso;

/* v[i] = member options[i].name of obj (NULL: none is given), or its default. Besides these, obj may have only the
 * members `type` and those of `common` (may be NULL). at: the object's JSON pointer. */
enum wasd_status optim_read_options(const cJSON *obj, const char *at, const struct wasd_field *options,
                                    const struct wasd_field *common, double *v, struct wasd_err *err);
/* {"type":name, every option}; NULL when out of memory. */
cJSON *optim_options_to_json(const char *name, const struct wasd_field *options, const double *v);
/* Index of the row that obj.type names; if obj is NULL or has no type, that of the default of the spec's row `at`.
 * name_at: the names of the table, NULL after the last. */
enum wasd_status optim_read_type(const cJSON *obj, const char *at, const char *(*name_at)(int i), int *row,
                                 struct wasd_err *err);

#endif
