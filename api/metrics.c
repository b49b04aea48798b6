/* api/metrics.c - the table of metrics, their series, and Prometheus' text format (version 0.0.4). */
#include "metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds: of a request; of an epoch; of a commit (the bounds of storage/writer.c). Images of a batch. */
static const double request_seconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                         0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30,    0};
static const double epoch_seconds[] = {0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 0};
static const double commit_seconds[] = {0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 0};
static const double batch_images[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 0};

/* clang-format off */
const struct metric_row metric_rows[METRICS] = {
	[METRIC_BUILD_INFO] = {"wasd_build_info", METRIC_GAUGE, "Version of the daemon.", {"version"}, .collected = true},
	[METRIC_HTTP_DURATION] = {"wasd_http_request_duration_seconds", METRIC_HISTOGRAM, "Time from the start of a request until its answer is ready to be sent; for a stream, until it begins.", {"route", "method", "code"}, request_seconds},
	[METRIC_INFER_DURATION] = {"wasd_infer_duration_seconds", METRIC_HISTOGRAM, "Time of an inference request that was answered, from its arrival to its answer.", {"deployment", "mode"}, request_seconds},
	[METRIC_INFER_QUEUE] = {"wasd_infer_queue_seconds", METRIC_HISTOGRAM, "Time that a computed request has waited in the queue.", {"deployment", "mode"}, request_seconds},
	[METRIC_INFER_COMPUTE] = {"wasd_infer_compute_seconds", METRIC_HISTOGRAM, "Time that the engine has computed the batch of a request.", {"deployment", "mode"}, request_seconds},
	[METRIC_INFER_REQUESTS] = {"wasd_infer_requests_total", METRIC_COUNTER, "Inference requests by outcome.", {"deployment", "mode", "outcome"}},
	[METRIC_INFER_BATCH] = {"wasd_infer_batch_size", METRIC_HISTOGRAM, "Images that were computed together.", {"deployment", "mode"}, batch_images},
	[METRIC_INFER_MACS] = {"wasd_infer_macs_total", METRIC_COUNTER, "Multiply-adds of the computed images.", {"deployment", "mode"}},
	[METRIC_INFER_DEPTH] = {"wasd_infer_queue_depth", METRIC_GAUGE, "Inference requests that wait in the queue.", {"deployment"}, .collected = true},
	[METRIC_MODE_SWITCHES] = {"wasd_mode_switches_total", METRIC_COUNTER, "Switches of a deployment's mode, by the new mode.", {"deployment", "mode"}},
	[METRIC_MODE_INFO] = {"wasd_mode_info", METRIC_GAUGE, "The mode that a deployment serves by default.", {"deployment", "mode"}, .collected = true},
	[METRIC_SHADOW] = {"wasd_shadow_agreement_total", METRIC_COUNTER, "Images whose class in the shadow mode was compared with the answer's.", {"deployment", "agree"}},
	[METRIC_JOBS] = {"wasd_jobs", METRIC_GAUGE, "Jobs by state.", {"state"}, .collected = true},
	[METRIC_JOB_EPOCH] = {"wasd_job_epoch_seconds", METRIC_HISTOGRAM, "Time of a training epoch.", {NULL}, epoch_seconds},
	[METRIC_TRAIN_IMAGES] = {"wasd_train_images_total", METRIC_COUNTER, "Images trained in finished epochs.", {NULL}},
	[METRIC_CHECKPOINT_BYTES] = {"wasd_checkpoint_bytes", METRIC_GAUGE, "Size of the checkpoint database.", {NULL}, .collected = true},
	[METRIC_DISK_FREE] = {"wasd_disk_free_bytes", METRIC_GAUGE, "Free space of the data directory.", {NULL}, .collected = true},
	[METRIC_DISK_LOW] = {"wasd_disk_low", METRIC_GAUGE, "1 while jobs pause because the disk or the quota is full, else 0.", {NULL}, .collected = true},
	[METRIC_COMMIT] = {"wasd_sqlite_commit_seconds", METRIC_HISTOGRAM, "Time of a durable commit.", {NULL}, commit_seconds, .collected = true},
	[METRIC_PROCESS_CPU] = {"process_cpu_seconds_total", METRIC_COUNTER, "Processor time of the daemon, without the engine's processes.", {NULL}, .collected = true},
	[METRIC_PROCESS_RESIDENT] = {"process_resident_memory_bytes", METRIC_GAUGE, "Resident memory of the daemon.", {NULL}, .collected = true},
	[METRIC_PROCESS_VIRTUAL] = {"process_virtual_memory_bytes", METRIC_GAUGE, "Virtual memory of the daemon.", {NULL}, .collected = true},
	[METRIC_PROCESS_FDS] = {"process_open_fds", METRIC_GAUGE, "Open file descriptors of the daemon.", {NULL}, .collected = true},
	[METRIC_PROCESS_MAX_FDS] = {"process_max_fds", METRIC_GAUGE, "Limit on its open file descriptors.", {NULL}, .collected = true},
	[METRIC_PROCESS_START] = {"process_start_time_seconds", METRIC_GAUGE, "Start of the daemon, in seconds since 1970.", {NULL}, .collected = true},
	[METRIC_NV_SUCCESS] = {"nv_inference_request_success", METRIC_COUNTER, "Number of successful inference requests.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_FAILURE] = {"nv_inference_request_failure", METRIC_COUNTER, "Number of failed inference requests.", {"model", "version", "reason"}, .collected = true, .triton = true},
	[METRIC_NV_COUNT] = {"nv_inference_count", METRIC_COUNTER, "Number of inferences performed: images.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_EXECUTIONS] = {"nv_inference_exec_count", METRIC_COUNTER, "Number of model executions: batches.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_PENDING] = {"nv_inference_pending_request_count", METRIC_GAUGE, "Number of requests that wait to be executed.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_REQUEST_US] = {"nv_inference_request_duration_us", METRIC_COUNTER, "Cumulative duration of inference requests.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_QUEUE_US] = {"nv_inference_queue_duration_us", METRIC_COUNTER, "Cumulative time of requests in the queue.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_INPUT_US] = {"nv_inference_compute_input_duration_us", METRIC_COUNTER, "Cumulative time of preparing inputs.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_INFER_US] = {"nv_inference_compute_infer_duration_us", METRIC_COUNTER, "Cumulative time of executing the model.", {"model", "version"}, .collected = true, .triton = true},
	[METRIC_NV_OUTPUT_US] = {"nv_inference_compute_output_duration_us", METRIC_COUNTER, "Cumulative time of reading outputs.", {"model", "version"}, .collected = true, .triton = true},
};
/* clang-format on */

enum { CHAINS = 256 };

/* value: of a counter or gauge, the sum of a histogram. counts: not cumulative; the last one used is +Inf. */
struct series {
	struct series *next, *in_order;
	double value;
	uint64_t counts[METRIC_BUCKETS_MAX + 1];
	char *label[METRIC_LABELS_MAX]; /* behind the struct */
};

struct family {
	pthread_mutex_t lock;
	struct series *chain[CHAINS], *first, **last; /* first: in the order of their creation */
	int n;
};

struct metrics {
	pthread_mutex_t scrape; /* taken before a family's lock */
	struct family family[METRICS];
};

static int label_count(const struct metric_row *row)
{
	int n = 0;
	while (n < METRIC_LABELS_MAX && row->labels[n])
		n++;
	return n;
}

/* ---- series; the family's lock held ------------------------------------------------------------------------ */

/* FNV-1a over the values, each with its NUL. */
static unsigned hash(const char *const *labels, int n)
{
	uint32_t h = 2166136261u;
	for (int i = 0; i < n; i++)
		for (const char *p = labels[i];; p++) {
			h = (h ^ (unsigned char)*p) * 16777619u;
			if (!*p)
				break;
		}
	return h % CHAINS;
}

static bool same(const struct series *s, const char *const *labels, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(s->label[i], labels[i]))
			return false;
	return true;
}

static struct series *series_add(struct family *f, unsigned at, const char *const *labels, int n)
{
	size_t room = 0;
	for (int i = 0; i < n; i++)
		room += strlen(labels[i]) + 1;
	struct series *s = wasd_calloc(1, sizeof *s + room);
	if (!s)
		return NULL;
	char *text = (char *)(s + 1);
	for (int i = 0; i < n; i++) {
		size_t len = strlen(labels[i]) + 1;
		s->label[i] = memcpy(text, labels[i], len);
		text += len;
	}
	s->next = f->chain[at];
	f->chain[at] = s;
	*f->last = s;
	f->last = &s->in_order;
	f->n++;
	return s;
}

/* NULL: no memory. */
static struct series *series_of(struct family *f, const char *const *labels, int n)
{
	static const char *const other[METRIC_LABELS_MAX] = {"other", "other", "other"};
	for (;;) {
		unsigned at = hash(labels, n);
		struct series *s = f->chain[at];
		while (s && !same(s, labels, n))
			s = s->next;
		if (s || f->n < METRIC_SERIES_MAX || labels == other)
			return s ? s : series_add(f, at, labels, n);
		labels = other;
	}
}

/* Forgets the series whose label number at is value; value NULL: all. */
static void forget(struct family *f, int at, const char *value, int n)
{
	struct series *old = f->first;
	memset(f->chain, 0, sizeof f->chain);
	f->first = NULL;
	f->last = &f->first;
	f->n = 0;
	for (struct series *s = old, *next; s; s = next) {
		next = s->in_order;
		if (!value || !strcmp(s->label[at], value)) {
			wasd_free(s);
			continue;
		}
		unsigned h = hash((const char *const *)s->label, n);
		s->next = f->chain[h];
		f->chain[h] = s;
		s->in_order = NULL;
		*f->last = s;
		f->last = &s->in_order;
		f->n++;
	}
}

/* ---- counting ---------------------------------------------------------------------------------------------- */

/* The family, locked, and the series; NULL and nothing locked: there is nothing to count into. */
static struct family *enter(struct metrics *m, enum metric which, const char *const *labels, struct series **s)
{
	if (!m)
		return NULL;
	struct family *f = &m->family[which];
	pthread_mutex_lock(&f->lock);
	*s = series_of(f, labels, label_count(&metric_rows[which]));
	if (*s)
		return f;
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

void metric_add(struct metrics *m, enum metric which, double n, const char *const *labels)
{
	struct series *s;
	struct family *f = enter(m, which, labels, &s);
	if (!f)
		return;
	s->value += n;
	pthread_mutex_unlock(&f->lock);
}

void metric_set(struct metrics *m, enum metric which, double value, const char *const *labels)
{
	struct series *s;
	struct family *f = enter(m, which, labels, &s);
	if (!f)
		return;
	s->value = value;
	pthread_mutex_unlock(&f->lock);
}

void metric_observe(struct metrics *m, enum metric which, double value, const char *const *labels)
{
	struct series *s;
	const double *edge = metric_rows[which].buckets;
	int i = 0;
	while (edge[i] > 0 && value > edge[i])
		i++;
	struct family *f = enter(m, which, labels, &s);
	if (!f)
		return;
	s->value += value;
	s->counts[i]++;
	pthread_mutex_unlock(&f->lock);
}

void metric_set_histogram(struct metrics *m, enum metric which, const uint64_t *counts, double sum,
                          const char *const *labels)
{
	struct series *s;
	struct family *f = enter(m, which, labels, &s);
	if (!f)
		return;
	int n = 0;
	while (metric_rows[which].buckets[n] > 0)
		n++;
	memcpy(s->counts, counts, (size_t)(n + 1) * sizeof *counts);
	s->value = sum;
	pthread_mutex_unlock(&f->lock);
}

double metric_sum(struct metrics *m, enum metric which, const char *const *labels)
{
	double sum = 0;
	int n = label_count(&metric_rows[which]);
	if (!m)
		return 0;
	struct family *f = &m->family[which];
	pthread_mutex_lock(&f->lock);
	for (const struct series *s = f->first; s; s = s->in_order) {
		bool match = true;
		for (int i = 0; i < n; i++)
			match = match && (!labels[i] || !strcmp(labels[i], s->label[i]));
		sum += match ? s->value : 0;
	}
	pthread_mutex_unlock(&f->lock);
	return sum;
}

void metrics_drop_deployment(struct metrics *m, const char *name)
{
	for (int i = 0; m && i < METRICS; i++) {
		struct family *f = &m->family[i];
		for (int k = 0, n = label_count(&metric_rows[i]); k < n && !metric_rows[i].collected; k++)
			if (!strcmp(metric_rows[i].labels[k], "deployment")) {
				pthread_mutex_lock(&f->lock);
				forget(f, k, name, n);
				pthread_mutex_unlock(&f->lock);
			}
	}
}

/* ---- text -------------------------------------------------------------------------------------------------- */

/* Prometheus' parsers read any decimal notation; the shortest one that gives the same number is used. */
static void put_number(struct wasd_buf *b, double v)
{
	char text[40];
	snprintf(text, sizeof text, "%.15g", v);
	if (strtod(text, NULL) != v)
		snprintf(text, sizeof text, "%.17g", v);
	wasd_buf_puts(b, isnan(v) ? "NaN" : isinf(v) ? (v > 0 ? "+Inf" : "-Inf") : text);
}

static void put_label(struct wasd_buf *b, const char *name, const char *value, bool first)
{
	wasd_buf_printf(b, "%s%s=\"", first ? "" : ",", name);
	for (const char *p = value; *p; p++) {
		if (*p == '\n')
			wasd_buf_puts(b, "\\n");
		else if (*p == '"' || *p == '\\')
			wasd_buf_printf(b, "\\%c", *p);
		else
			wasd_buf_append(b, p, 1);
	}
	wasd_buf_puts(b, "\"");
}

/* One line. le NULL: no such label. */
static void put_line(struct wasd_buf *b, const struct metric_row *row, const char *suffix, const struct series *s,
                     const char *le, double v)
{
	int n = label_count(row);
	wasd_buf_printf(b, "%s%s", row->name, suffix);
	if (n || le)
		wasd_buf_puts(b, "{");
	for (int i = 0; i < n; i++)
		put_label(b, row->labels[i], s->label[i], i == 0);
	if (le)
		put_label(b, "le", le, n == 0);
	wasd_buf_puts(b, n || le ? "} " : " ");
	put_number(b, v);
	wasd_buf_puts(b, "\n");
}

static void put_histogram(struct wasd_buf *b, const struct metric_row *row, const struct series *s)
{
	uint64_t so_far = 0;
	int i = 0;
	for (; row->buckets[i] > 0; i++) {
		char edge[32];
		so_far += s->counts[i];
		snprintf(edge, sizeof edge, "%g", row->buckets[i]);
		put_line(b, row, "_bucket", s, edge, (double)so_far);
	}
	so_far += s->counts[i];
	put_line(b, row, "_bucket", s, "+Inf", (double)so_far);
	put_line(b, row, "_sum", s, NULL, s->value);
	put_line(b, row, "_count", s, NULL, (double)so_far);
}

static void put_family(struct wasd_buf *b, const struct metric_row *row, struct family *f)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	wasd_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name, types[row->type]);
	pthread_mutex_lock(&f->lock);
	if (!f->first && !row->labels[0])
		series_of(f, NULL, 0); /* a counter without labels is there from the start */
	for (const struct series *s = f->first; s; s = s->in_order)
		if (row->type == METRIC_HISTOGRAM)
			put_histogram(b, row, s);
		else
			put_line(b, row, "", s, NULL, s->value);
	pthread_mutex_unlock(&f->lock);
}

void metrics_scrape_begin(struct metrics *m)
{
	pthread_mutex_lock(&m->scrape);
	for (int i = 0; i < METRICS; i++)
		if (metric_rows[i].collected) {
			pthread_mutex_lock(&m->family[i].lock);
			forget(&m->family[i], 0, NULL, label_count(&metric_rows[i]));
			pthread_mutex_unlock(&m->family[i].lock);
		}
}

void metrics_scrape_end(struct metrics *m, bool triton, struct wasd_buf *out)
{
	for (int i = 0; i < METRICS; i++)
		if (triton || !metric_rows[i].triton)
			put_family(out, &metric_rows[i], &m->family[i]);
	pthread_mutex_unlock(&m->scrape);
}

/* ---- create and destroy ------------------------------------------------------------------------------------ */

struct metrics *metrics_create(void)
{
	struct metrics *m = wasd_calloc(1, sizeof *m);
	if (!m)
		return NULL;
	pthread_mutex_init(&m->scrape, NULL);
	for (int i = 0; i < METRICS; i++) {
		pthread_mutex_init(&m->family[i].lock, NULL);
		m->family[i].last = &m->family[i].first;
	}
	return m;
}

void metrics_destroy(struct metrics *m)
{
	if (!m)
		return;
	for (int i = 0; i < METRICS; i++) {
		forget(&m->family[i], 0, NULL, 0);
		pthread_mutex_destroy(&m->family[i].lock);
	}
	pthread_mutex_destroy(&m->scrape);
	wasd_free(m);
}
