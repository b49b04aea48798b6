/* convert/state_dict.h - the file of wasd_export_safetensors with other values. */
#ifndef CONVERT_STATE_DICT_H
#define CONVERT_STATE_DICT_H

#include "train/checkpoint.h"

/* m: a model of c's network. Writes its parameters and, if the network has any, its statistics of AOM, which is the
 * only mode of the file; all else is c's. *out: a new block (free with wasd_free). */
enum wasd_status state_dict_write(const struct checkpoint *c, struct wasd_model *m, void **out, size_t *len,
                                  struct wasd_err *err);

#endif
