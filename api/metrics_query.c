/* api/metrics_query.c - the same metrics of several jobs, on one axis. */
#include "internal.h"
#include "lttb.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS_MAX = 100, JOBS_DEFAULT = 10, CELLS_MAX = 200000, FEWEST = 10 };

struct run {
	char *id, *name;
	int64_t start_ms;
	struct storage_point_list l;
	size_t at, to; /* the points of the metric in hand */
	double *x, *y; /* of that metric, x strictly ascending */
	size_t n;
};

struct query {
	struct run runs[JOBS_MAX];
	size_t n_runs, longest; /* points of the longest list */
	enum api_axis axis;
	size_t max; /* points per job and metric */
	double *xs; /* the common axis */
	size_t n_xs;
};

static void query_done(struct query *k)
{
	for (size_t i = 0; i < k->n_runs; i++) {
		wasd_free(k->runs[i].id);
		wasd_free(k->runs[i].name);
		wasd_free(k->runs[i].x);
		wasd_free(k->runs[i].y);
		storage_point_list_done(&k->runs[i].l);
	}
	wasd_free(k->xs);
	wasd_free(k);
}

/* ---- reading ---- */

/* One job of the list. False: the answer is in r. */
static bool add_run(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct query *k,
                    const char *id, const char *names)
{
	struct storage_job job;
	struct wasd_err err = {0};
	if (k->n_runs == JOBS_MAX) {
		api_send_problem(q, r, "bad_parameter", "jobs", "at most %d jobs can be queried at once", JOBS_MAX);
		return false;
	}
	for (size_t i = 0; i < k->n_runs; i++)
		if (!strcmp(k->runs[i].id, id))
			return true;
	enum wasd_status st = storage_job_get(c->db, id, &job, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", "jobs", "no job %.60s", id);
	else if (st)
		api_send_error(q, r, &err);
	if (st)
		return false;
	struct run *run = &k->runs[k->n_runs++];
	run->id = wasd_strdup(job.id);
	run->name = wasd_strdup(job.name);
	run->start_ms = job.started_at ? job.started_at : job.created_at;
	storage_job_done(&job);
	if (!run->id || !run->name)
		api_send_no_memory(r);
	else if (storage_metric_series(c->db, id, names, 0, &run->l, &err))
		api_send_error(q, r, &err);
	else
		return true;
	return false;
}

static bool add_newest(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct query *k,
                       const char *names)
{
	struct storage_job_list l;
	struct storage_job_filter every = {0};
	struct wasd_err err = {0};
	if (storage_job_list(c->db, &every, (struct storage_page){.limit = JOBS_DEFAULT}, &l, &err)) {
		api_send_error(q, r, &err);
		return false;
	}
	bool ok = true;
	for (size_t i = 0; i < l.n && ok; i++)
		ok = add_run(c, q, r, k, l.items[i].id, names);
	storage_job_list_done(&l);
	return ok;
}

static bool read_runs(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct query *k)
{
	const char *list = api_query(q, "jobs"), *names = api_query(q, "names");
	if (!list && !add_newest(c, q, r, k, names))
		return false;
	for (const char *p = list ? list : ""; *p; p += strcspn(p, ","), p += *p == ',') {
		char id[64];
		size_t n = strcspn(p, ",");
		snprintf(id, sizeof id, "%.*s", n < sizeof id ? (int)n : (int)sizeof id - 1, p);
		if (n && !add_run(c, q, r, k, id, names))
			return false;
	}
	for (size_t i = 0; i < k->n_runs; i++)
		if (k->runs[i].l.n > k->longest)
			k->longest = k->runs[i].l.n;
	return true;
}

/* ---- one metric ---- */

/* Times in seconds since the job's start. */
static double place(const struct query *k, const struct run *run, const struct storage_point *p)
{
	double at = api_axis_place(k->axis, p);
	return k->axis == API_BY_TIME ? (at - (double)run->start_ms) / 1000 : at;
}

/* The next name in alphabetical order that some job has; NULL: none. Sets the points of every job. */
static const char *next_name(struct query *k)
{
	const char *name = NULL;
	for (size_t i = 0; i < k->n_runs; i++) {
		struct run *run = &k->runs[i];
		run->at = run->to;
		if (run->at < run->l.n && (!name || strcmp(run->l.items[run->at].name, name) < 0))
			name = run->l.items[run->at].name;
	}
	for (size_t i = 0; i < k->n_runs && name; i++) {
		struct run *run = &k->runs[i];
		while (run->to < run->l.n && !strcmp(run->l.items[run->to].name, name))
			run->to++;
	}
	return name;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Of points at the same place the last counts; a point that goes back (a clock) is left out. */
static void load(const struct query *k, struct run *run)
{
	run->n = 0;
	for (size_t i = run->at; i < run->to; i++) {
		const struct storage_point *p = &run->l.items[i];
		const double x = place(k, run, p);
		if (run->n && x < run->x[run->n - 1])
			continue;
		if (!run->n || x > run->x[run->n - 1])
			run->n++;
		run->x[run->n - 1] = x;
		run->y[run->n - 1] = p->value;
	}
}

/* The common axis: what each job's curve needs to keep its shape. */
static void make_axis(struct query *k, size_t *keep)
{
	k->n_xs = 0;
	for (size_t i = 0; i < k->n_runs; i++) {
		struct run *run = &k->runs[i];
		load(k, run);
		size_t n = api_lttb(run->x, run->y, run->n, k->max, keep);
		for (size_t j = 0; j < n; j++)
			k->xs[k->n_xs++] = run->x[keep[j]];
	}
	qsort(k->xs, k->n_xs, sizeof *k->xs, by_value);
	size_t n = 0;
	for (size_t i = 0; i < k->n_xs; i++)
		if (!n || k->xs[i] != k->xs[n - 1])
			k->xs[n++] = k->xs[i];
	k->n_xs = n;
}

static void put_number(struct wasd_buf *b, bool first, double v)
{
	if (!first)
		wasd_buf_puts(b, ",");
	if (isfinite(v) && v == (double)(int64_t)fmin(fmax(v, -1e15), 1e15))
		wasd_buf_printf(b, "%lld", (long long)v);
	else if (isfinite(v))
		wasd_buf_printf(b, "%.17g", v);
	else
		wasd_buf_puts(b, "null");
}

static cJSON *raw(struct wasd_buf *b)
{
	char *text = wasd_buf_cstr(b);
	cJSON *j = text ? cJSON_CreateRaw(text) : NULL;
	wasd_buf_done(b);
	return j;
}

/* The job's values at the places of the axis, null where it has no point or none that is finite. */
static cJSON *values_json(const struct query *k, const struct run *run)
{
	struct wasd_buf b = {0};
	size_t j = 0;
	wasd_buf_puts(&b, "[");
	for (size_t i = 0; i < k->n_xs; i++) {
		while (j < run->n && run->x[j] < k->xs[i])
			j++;
		put_number(&b, !i, j < run->n && run->x[j] == k->xs[i] ? run->y[j] : NAN);
	}
	wasd_buf_puts(&b, "]");
	return raw(&b);
}

static cJSON *axis_json(const struct query *k)
{
	struct wasd_buf b = {0};
	wasd_buf_puts(&b, "[");
	for (size_t i = 0; i < k->n_xs; i++)
		put_number(&b, !i, k->xs[i]);
	wasd_buf_puts(&b, "]");
	return raw(&b);
}

static cJSON *metric_json(struct query *k, const char *name, size_t *keep)
{
	cJSON *j = cJSON_CreateObject(), *values = api_add_take(j, "values", cJSON_CreateObject());
	make_axis(k, keep);
	api_add_str(j, "name", name);
	api_add_str(j, "mode", wasd_mode_of(name));
	api_add_str(j, "unit", api_metric_unit(name));
	api_add_take(j, "x", axis_json(k));
	for (size_t i = 0; i < k->n_runs; i++)
		if (k->runs[i].n)
			api_add_take(values, k->runs[i].id, values_json(k, &k->runs[i]));
	return j;
}

static size_t count_names(struct query *k)
{
	size_t n = 0;
	while (next_name(k))
		n++;
	for (size_t i = 0; i < k->n_runs; i++)
		k->runs[i].at = k->runs[i].to = 0;
	return n;
}

/* Bounds the answer: fewer points per job and metric when there are many of both. */
static void bound(struct query *k, int64_t wanted)
{
	const size_t cells = count_names(k) * k->n_runs * k->n_runs;
	const size_t most = cells ? CELLS_MAX / cells : CELLS_MAX;
	k->max = (size_t)wanted;
	if (k->max > most)
		k->max = most < FEWEST ? FEWEST : most;
}

static bool make_room(struct query *k, size_t **keep)
{
	const size_t n = k->longest ? k->longest : 1;
	*keep = wasd_calloc(n, sizeof **keep);
	k->xs = wasd_calloc(n * k->n_runs, sizeof *k->xs);
	bool ok = *keep && k->xs;
	for (size_t i = 0; i < k->n_runs; i++) {
		k->runs[i].x = wasd_calloc(n, sizeof(double));
		k->runs[i].y = wasd_calloc(n, sizeof(double));
		ok = ok && k->runs[i].x && k->runs[i].y;
	}
	return ok;
}

enum api_result api_metrics_query(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct query *k = wasd_calloc(1, sizeof *k);
	const char *axis = api_query(q, "x"), *name;
	int64_t max = 1000;
	size_t *keep = NULL;
	if (!k) {
		api_send_no_memory(r);
		return API_DONE;
	}
	k->axis = API_BY_EPOCH;
	if (!api_query_axis(q, r, &k->axis) || !api_query_int(q, r, "max_points", 2, 10000, &max) || !read_runs(c, q, r, k))
		goto done;
	bound(k, max);
	if (!make_room(k, &keep)) {
		api_send_no_memory(r);
		goto done;
	}
	cJSON *j = cJSON_CreateObject(), *jobs = cJSON_CreateArray(), *series = cJSON_CreateArray();
	api_add_str(j, "x", axis ? axis : "epoch");
	api_add_int(j, "max_points", (int64_t)k->max);
	for (size_t i = 0; i < k->n_runs; i++) {
		cJSON *o = cJSON_CreateObject();
		api_add_str(o, "id", k->runs[i].id);
		api_add_str(o, "name", k->runs[i].name);
		api_push(jobs, o);
	}
	api_add_take(j, "jobs", jobs);
	while ((name = next_name(k)))
		api_push(series, metric_json(k, name, keep));
	api_add_take(j, "series", series);
	api_send_json(r, 200, j);
done:
	wasd_free(keep);
	query_done(k);
	return API_DONE;
}
