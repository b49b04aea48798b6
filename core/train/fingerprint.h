/* train/fingerprint.h - what bits depend on besides spec and data (wasd_fingerprint), compared. */
#ifndef TRAIN_FINGERPRINT_H
#define TRAIN_FINGERPRINT_H

#include "wasd/json.h"

/* Name of the first member in which the two fingerprints differ; NULL when they agree. */
const char *train_fingerprint_diff(const cJSON *a, const cJSON *b);

#endif
