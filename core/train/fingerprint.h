/* train/fingerprint.h - compares fingerprints (wasd_fingerprint): what the bits of a run depend on besides spec
 * and data. */
#ifndef TRAIN_FINGERPRINT_H
#define TRAIN_FINGERPRINT_H

#include "wasd/json.h"

/* Returns the name of the first member that differs, or NULL if the two agree. */
const char *train_fingerprint_diff(const cJSON *a, const cJSON *b);

#endif
