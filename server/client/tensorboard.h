/* server/client/tensorboard.h - the curves of a job as an event file of TensorBoard. */
#ifndef SERVER_CLIENT_TENSORBOARD_H
#define SERVER_CLIENT_TENSORBOARD_H

#include "wasd/base.h"

struct cJSON;

/* Appends the file to out. job: GET /v1/jobs/{id}; metrics: GET /v1/jobs/{id}/metrics. The tag of a curve is the name
 * of the metric, the members of the spec are hyperparameters. A file that is incomplete for want of memory has
 * out->failed. */
void tensorboard_events(const struct cJSON *job, const struct cJSON *metrics, struct wasd_buf *out);

#endif
