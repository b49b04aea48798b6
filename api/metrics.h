/* api/metrics.h - the daemon's numbers for Prometheus (GET /metrics): counters, gauges and histograms, one row each in
 * the table of metrics.c. To add one, add a name to enum metric, a row to the table, and a call where it happens; the
 * reference takes its list from the table.
 *
 * A series is one combination of label values. Label values are names from tables, names of deployments or modes, and
 * status codes: never ids of jobs or requests, never text of a client. A metric keeps at most METRIC_SERIES_MAX series;
 * what would need more is counted in one series whose label values are all "other".
 *
 * Any thread may call any function. A call costs one lookup in a hash table under the metric's own lock. m may be NULL:
 * then nothing is counted. Without memory for a new series the call counts nothing. */
#ifndef API_METRICS_H
#define API_METRICS_H

#include "wasd/base.h"

enum metric {
	METRIC_BUILD_INFO,
	METRIC_HTTP_DURATION, /* route, method, code; seconds */
	METRIC_INFER_DURATION,
	METRIC_INFER_QUEUE,
	METRIC_INFER_COMPUTE,  /* deployment, mode; seconds */
	METRIC_INFER_REQUESTS, /* deployment, mode, outcome: see api/inference.c */
	METRIC_INFER_BATCH,    /* deployment, mode; images of one execution */
	METRIC_INFER_MACS,     /* deployment, mode */
	METRIC_INFER_DEPTH,    /* deployment */
	METRIC_MODE_SWITCHES,  /* deployment, mode: the new one */
	METRIC_MODE_INFO,      /* deployment, mode */
	METRIC_SHADOW,         /* deployment, agree: "true" or "false" */
	METRIC_JOBS,           /* state */
	METRIC_JOB_EPOCH,      /* seconds */
	METRIC_TRAIN_IMAGES,
	METRIC_CHECKPOINT_BYTES,
	METRIC_DISK_FREE,
	METRIC_DISK_LOW,
	METRIC_COMMIT, /* seconds */
	METRIC_PROCESS_CPU,
	METRIC_PROCESS_RESIDENT,
	METRIC_PROCESS_VIRTUAL,
	METRIC_PROCESS_FDS,
	METRIC_PROCESS_MAX_FDS,
	METRIC_PROCESS_START,
	/* Triton's names: model, version; NV_FAILURE also reason */
	METRIC_NV_SUCCESS,
	METRIC_NV_FAILURE,
	METRIC_NV_COUNT,
	METRIC_NV_EXECUTIONS,
	METRIC_NV_PENDING,
	METRIC_NV_REQUEST_US,
	METRIC_NV_QUEUE_US,
	METRIC_NV_INPUT_US,
	METRIC_NV_INFER_US,
	METRIC_NV_OUTPUT_US,
	METRICS
};

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum { METRIC_LABELS_MAX = 3, METRIC_SERIES_MAX = 4096, METRIC_BUCKETS_MAX = 20 };

struct metric_row {
	const char *name;
	enum metric_type type;
	const char *help;
	const char *labels[METRIC_LABELS_MAX]; /* NULL ends a shorter list */
	const double *buckets;                 /* histogram: upper bounds, ascending; 0 ends the list */
	bool collected; /* set at each scrape, from rows and processes; otherwise counted as it happens */
	bool triton;    /* shown only with the setting metrics_triton_aliases */
};
extern const struct metric_row metric_rows[METRICS];

/* The label values of a series, in the order of the row's labels: metric_add(m, METRIC_JOBS, 1, LABELS("queued")). NULL
 * for a metric without labels. */
#define LABELS(...) ((const char *const[]){__VA_ARGS__})

struct metrics;
struct metrics *metrics_create(void);    /* NULL: no memory */
void metrics_destroy(struct metrics *m); /* NULL is fine */
/* A counter or a gauge grows by n. */
void metric_add(struct metrics *m, enum metric which, double n, const char *const *labels);
void metric_set(struct metrics *m, enum metric which, double value, const char *const *labels);
/* A histogram gets one value. */
void metric_observe(struct metrics *m, enum metric which, double value, const char *const *labels);
/* Sets a whole collected histogram: counts of its buckets (not cumulative; the last one is +Inf) and the sum of its
 * values. */
void metric_set_histogram(struct metrics *m, enum metric which, const uint64_t *counts, double sum,
                          const char *const *labels);
/* The sum of a counter or gauge over all series whose labels match; NULL matches every value. */
double metric_sum(struct metrics *m, enum metric which, const char *const *labels);
/* Forgets the counted series of a deployment: it was deleted, and one of the same name begins at zero. */
void metrics_drop_deployment(struct metrics *m, const char *name);

/* A scrape: begin forgets the collected series, then the caller sets them, then end appends the text to out. Scrapes
 * wait for each other in begin. */
void metrics_scrape_begin(struct metrics *m);
void metrics_scrape_end(struct metrics *m, bool triton, struct wasd_buf *out);

#endif
