/* api/scrape.c - GET /metrics: what is read from rows and processes at each scrape, beside what metrics.h counts. */
#include "internal.h"
#include "metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- this process ------------------------------------------------------------------------------------------ */

/* Seconds since 1970; 0: unknown. */
static double boot_time(void)
{
	char line[256];
	double at = 0;
	FILE *f = fopen("/proc/stat", "re");
	while (f && !at && fgets(line, sizeof line, f))
		if (!strncmp(line, "btime ", 6))
			at = strtod(line + 6, NULL);
	if (f)
		fclose(f);
	return at;
}

static int open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (!d)
		return 0;
	closedir(d);
	return n - 1; /* without the one that counts */
}

static void set_process(struct metrics *m)
{
	double boot = boot_time();
	struct wasd_usage used = {0};
	struct rlimit limit;
	wasd_usage_of(0, &used);
	metric_set(m, METRIC_PROCESS_CPU, used.cpu_s, NULL);
	metric_set(m, METRIC_PROCESS_VIRTUAL, (double)used.virtual_bytes, NULL);
	metric_set(m, METRIC_PROCESS_RESIDENT, (double)used.rss_bytes, NULL);
	if (boot > 0)
		metric_set(m, METRIC_PROCESS_START, boot + used.started_s, NULL);
	metric_set(m, METRIC_PROCESS_FDS, open_files(), NULL);
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		metric_set(m, METRIC_PROCESS_MAX_FDS, (double)limit.rlim_cur, NULL);
}

/* ---- rows -------------------------------------------------------------------------------------------------- */

static void set_storage(struct api_ctx *c)
{
	struct storage_health h;
	struct storage_disk d;
	storage_health(c->db, &h);
	storage_disk(c->db, &d);
	metric_set(c->metrics, METRIC_CHECKPOINT_BYTES, (double)h.ckpt_bytes, NULL);
	metric_set(c->metrics, METRIC_DISK_FREE, (double)d.free, NULL);
	metric_set(c->metrics, METRIC_DISK_LOW, d.low, NULL);
	metric_set_histogram(c->metrics, METRIC_COMMIT, h.commit_hist, (double)h.commit_us / 1e6, NULL);
}

static double number(const cJSON *stats, const char *name)
{
	double v = 0;
	wasd_json_num(stats, name, &v);
	return v;
}

static void set_duration(struct metrics *m, enum metric which, const cJSON *stats, const char *name,
                         const char *const *labels)
{
	metric_set(m, which, number(wasd_json_get(wasd_json_get(stats, "inference_stats"), name), "ns") / 1000, labels);
}

/* Triton's names, from the same counts. */
static void set_triton(struct metrics *m, const char *name, int64_t version, const cJSON *stats)
{
	static const struct {
		const char *outcome, *reason;
	} failures[] = {{API_REJECTED, "REJECTED"},
	                {API_LATE, "REJECTED"},
	                {API_CANCELLED, "CANCELED"},
	                {API_FAILED, "BACKEND"},
	                {API_INVALID, "OTHER"}};
	char v[24];
	snprintf(v, sizeof v, "%lld", (long long)version);
	const char *const labels[] = {name, v};
	metric_set(m, METRIC_NV_SUCCESS, metric_sum(m, METRIC_INFER_REQUESTS, LABELS(name, NULL, API_ANSWERED)), labels);
	for (size_t i = 0; i < API_LEN(failures); i++)
		metric_add(m, METRIC_NV_FAILURE, metric_sum(m, METRIC_INFER_REQUESTS, LABELS(name, NULL, failures[i].outcome)),
		           LABELS(name, v, failures[i].reason));
	metric_set(m, METRIC_NV_COUNT, number(stats, "inference_count"), labels);
	metric_set(m, METRIC_NV_EXECUTIONS, number(stats, "execution_count"), labels);
	metric_set(m, METRIC_NV_PENDING, number(stats, "waiting"), labels);
	set_duration(m, METRIC_NV_REQUEST_US, stats, "success", labels);
	set_duration(m, METRIC_NV_QUEUE_US, stats, "queue", labels);
	set_duration(m, METRIC_NV_INPUT_US, stats, "compute_input", labels);
	set_duration(m, METRIC_NV_INFER_US, stats, "compute_infer", labels);
	set_duration(m, METRIC_NV_OUTPUT_US, stats, "compute_output", labels);
}

static void set_deployment(struct api_ctx *c, const struct storage_deployment *d)
{
	cJSON *stats = c->serving.stats(c->serving.self, d->name);
	metric_set(c->metrics, METRIC_MODE_INFO, 1, LABELS(d->name, d->mode));
	metric_set(c->metrics, METRIC_INFER_DEPTH, number(stats, "waiting"), LABELS(d->name));
	if (c->triton_aliases)
		set_triton(c->metrics, d->name, d->version, stats);
	cJSON_Delete(stats);
}

static enum wasd_status set_deployments(struct api_ctx *c, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	for (char *cursor = NULL; st == WASD_OK;) {
		struct storage_deployment_list l = {0};
		st = storage_deployment_list(c->db, NULL, (struct storage_page){.cursor = cursor, .limit = 500}, &l, err);
		for (size_t i = 0; st == WASD_OK && i < l.n; i++)
			set_deployment(c, &l.items[i]);
		wasd_free(cursor);
		cursor = st == WASD_OK && l.next_cursor ? wasd_strdup(l.next_cursor) : NULL;
		storage_deployment_list_done(&l);
		if (!cursor)
			break;
	}
	return st;
}

static enum wasd_status set_all(struct api_ctx *c, struct wasd_err *err)
{
	struct storage_count counts[STORAGE_JOB_STATES];
	enum wasd_status st = storage_job_counts(c->db, counts, err);
	for (int i = 0; st == WASD_OK && i < STORAGE_JOB_STATES; i++)
		metric_set(c->metrics, METRIC_JOBS, (double)counts[i].n, LABELS(counts[i].state));
	metric_set(c->metrics, METRIC_BUILD_INFO, 1, LABELS(WASD_VERSION));
	set_storage(c);
	set_process(c->metrics);
	return st == WASD_OK ? set_deployments(c, err) : st;
}

enum api_result api_metrics_text(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_err err = {0};
	struct wasd_buf text = {0};
	metrics_scrape_begin(c->metrics);
	enum wasd_status st = set_all(c, &err);
	metrics_scrape_end(c->metrics, c->triton_aliases, &text);
	if (st != WASD_OK || text.failed) {
		wasd_buf_done(&text);
		if (st != WASD_OK)
			api_send_error(q, r, &err);
		else
			api_send_no_memory(r);
		return API_DONE;
	}
	r->body = text;
	r->status = 200;
	r->content_type = "text/plain; version=0.0.4";
	r->etag_auto = false;
	return API_DONE;
}
