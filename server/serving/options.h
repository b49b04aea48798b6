/* server/serving/options.h - the options of a deployment: the JSON text in its row, as a struct. */
#ifndef SERVER_SERVING_OPTIONS_H
#define SERVER_SERVING_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct serving_options {
	/* "batching" */
	int64_t max_batch;          /* most images per batch of several requests; 0: each request is computed alone */
	int64_t max_queue_delay_us; /* longest time that a request waits for others; 0: none waits */
	/* "queue" */
	int64_t queue_max;          /* most requests that may wait; 0: only the daemon's limit counts */
	int64_t default_timeout_us; /* of a request without a timeout of its own; 0: only the daemon's limit counts */
	/* "limits" */
	int64_t threads; /* compute threads; 0: the daemon's setting */
	bool required;   /* the daemon is not ready while this deployment cannot answer */
};

/* json: storage_deployment.options; NULL counts as {}. Members that are absent, null or damaged get their default. Any
 * thread. */
void serving_options_read(const char *json, struct serving_options *out);

#endif
