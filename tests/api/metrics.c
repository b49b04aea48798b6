/* The registry of metrics and its text. */
#include "check.h"
#include "../../api/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static char *text(struct metrics *m, struct wasd_buf *out)
{
	out->len = 0;
	metrics_scrape_begin(m);
	metrics_scrape_end(m, true, out);
	return wasd_buf_cstr(out);
}

static void the_table(void)
{
	for (int i = 0; i < METRICS; i++) {
		const struct metric_row *row = &metric_rows[i];
		CHECK_MSG(row->name && row->help && strlen(row->help) > 10, "row %d", i);
		CHECK_MSG((row->type == METRIC_HISTOGRAM) == (row->buckets != NULL), "%s", row->name);
		CHECK_MSG(row->triton || row->type != METRIC_COUNTER || strstr(row->name, "_total"), "%s", row->name);
		int n = 0;
		for (; row->buckets && row->buckets[n] > 0; n++)
			CHECK_MSG(!n || row->buckets[n] > row->buckets[n - 1], "%s: bucket %d", row->name, n);
		CHECK_MSG(n <= METRIC_BUCKETS_MAX, "%s", row->name);
		for (int k = 0; k < i; k++)
			CHECK_MSG(strcmp(row->name, metric_rows[k].name), "%s stands twice", row->name);
	}
}

static void numbers(void)
{
	struct metrics *m = metrics_create();
	struct wasd_buf out = {0};
	metric_add(m, METRIC_INFER_MACS, 605800000, LABELS("a", "aom"));
	metric_add(m, METRIC_INFER_MACS, 1, LABELS("a", "aom"));
	metric_add(m, METRIC_INFER_MACS, 0.5, LABELS("a\"\\\n", "dom"));
	metric_observe(m, METRIC_INFER_BATCH, 1, LABELS("a", "aom"));
	metric_observe(m, METRIC_INFER_BATCH, 3, LABELS("a", "aom"));
	metric_observe(m, METRIC_INFER_BATCH, 1000, LABELS("a", "aom"));
	metric_set(m, METRIC_JOBS, 7, LABELS("queued"));
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS("a", NULL)) == 605800001);
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS(NULL, NULL)) == 605800001.5);
	static const char *const lines[] = {
		"# HELP wasd_infer_macs_total Multiply-adds of the computed images.\n# TYPE wasd_infer_macs_total counter\n",
		"\nwasd_infer_macs_total{deployment=\"a\",mode=\"aom\"} 605800001\n",
		"\nwasd_infer_macs_total{deployment=\"a\\\"\\\\\\n\",mode=\"dom\"} 0.5\n",
		"# TYPE wasd_infer_batch_size histogram\n"
		"wasd_infer_batch_size_bucket{deployment=\"a\",mode=\"aom\",le=\"1\"} 1\n"
		"wasd_infer_batch_size_bucket{deployment=\"a\",mode=\"aom\",le=\"2\"} 1\n"
		"wasd_infer_batch_size_bucket{deployment=\"a\",mode=\"aom\",le=\"4\"} 2\n",
		"wasd_infer_batch_size_bucket{deployment=\"a\",mode=\"aom\",le=\"256\"} 2\n"
		"wasd_infer_batch_size_bucket{deployment=\"a\",mode=\"aom\",le=\"+Inf\"} 3\n"
		"wasd_infer_batch_size_sum{deployment=\"a\",mode=\"aom\"} 1004\n"
		"wasd_infer_batch_size_count{deployment=\"a\",mode=\"aom\"} 3\n",
		"\nwasd_train_images_total 0\n", /* without labels: there from the start */
		"\nwasd_job_epoch_seconds_bucket{le=\"+Inf\"} 0\n",
	};
	const char *all = text(m, &out);
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		CHECK_MSG(strstr(all, lines[i]), "%s", lines[i]);
	CHECK(!strstr(all, "wasd_jobs{")); /* collected: each scrape begins without it */
	metrics_drop_deployment(m, "a");
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS(NULL, NULL)) == 0.5);
	CHECK(!strstr(text(m, &out), "wasd_infer_batch_size_count"));
	metric_add(m, METRIC_INFER_MACS, 3, LABELS("a", "aom"));
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS("a", NULL)) == 3);
	metrics_scrape_begin(m);
	metrics_scrape_end(m, false, &out);
	wasd_buf_done(&out);
	metrics_destroy(m);
	metric_add(NULL, METRIC_TRAIN_IMAGES, 1, NULL);
	metrics_drop_deployment(NULL, "a");
	metrics_destroy(NULL);
}

/* Names that clients choose cannot fill the memory. */
static void bounded(void)
{
	struct metrics *m = metrics_create();
	char name[32];
	for (int i = 0; i < METRIC_SERIES_MAX + 100; i++) {
		snprintf(name, sizeof name, "d%d", i);
		metric_add(m, METRIC_INFER_MACS, 1, LABELS(name, "aom"));
	}
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS(NULL, NULL)) == METRIC_SERIES_MAX + 100);
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS("other", "other")) == 100);
	metric_add(m, METRIC_INFER_MACS, 1, LABELS("d7", "aom"));
	CHECK(metric_sum(m, METRIC_INFER_MACS, LABELS("d7", "aom")) == 2);
	metrics_destroy(m);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *count(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		metric_add(arg, METRIC_SHADOW, 1, LABELS("a", i % 2 ? "true" : "false"));
		metric_observe(arg, METRIC_INFER_BATCH, 2, LABELS("a", "aom"));
	}
	return NULL;
}

/* Scrapes and counting threads at the same time lose nothing. */
static void threads(void)
{
	struct metrics *m = metrics_create();
	struct wasd_buf out = {0};
	pthread_t t[THREADS];
	char want[80];
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&t[i], NULL, count, m));
	for (int i = 0; i < 20; i++)
		CHECK(text(m, &out) != NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK(metric_sum(m, METRIC_SHADOW, LABELS("a", "true")) == THREADS * ROUNDS / 2);
	snprintf(want, sizeof want, "\nwasd_infer_batch_size_count{deployment=\"a\",mode=\"aom\"} %d\n", THREADS * ROUNDS);
	CHECK(strstr(text(m, &out), want) != NULL);
	wasd_buf_done(&out);
	metrics_destroy(m);
}

static void no_memory(void)
{
	struct wasd_mem_stats before = wasd_mem_stats();
	for (uint64_t n = 1; n < 12; n++) {
		struct wasd_buf out = {0};
		wasd_mem_fail_at(n);
		struct metrics *m = metrics_create();
		metric_add(m, METRIC_INFER_MACS, 1, LABELS("a", "aom"));
		metric_observe(m, METRIC_JOB_EPOCH, 1, NULL);
		if (m)
			text(m, &out);
		wasd_mem_fail_at(0);
		wasd_buf_done(&out);
		metrics_destroy(m);
	}
	struct wasd_mem_stats after = wasd_mem_stats();
	CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
}

int main(void)
{
	TEST_RUN(the_table);
	TEST_RUN(numbers);
	TEST_RUN(bounded);
	TEST_RUN(threads);
	TEST_RUN(no_memory);
	TEST_END();
}
