/* api/mlflow.c - the part of MLflow's REST interface that reads runs, so that an unmodified MlflowClient can: one
 * experiment "wasd", whose runs are the jobs. Params are the flattened spec, tags the labels, metrics the series. */
#include "internal.h"
#include "mlflow_filter.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define EXPERIMENT "0"
#define EXPERIMENT_NAME "wasd"
enum { RUNS_MAX = 50000, RUNS_DEFAULT = 1000, PAGE = 500 };

/* Every state of a job, as MLflow calls it. */
static const struct {
	const char *state, *status;
} statuses[] = {
	{"queued", "SCHEDULED"},   {"held", "SCHEDULED"},     {"paused", "SCHEDULED"}, {"retry_wait", "SCHEDULED"},
	{"starting", "RUNNING"},   {"running", "RUNNING"},    {"pausing", "RUNNING"},  {"preempting", "RUNNING"},
	{"cancelling", "RUNNING"}, {"completed", "FINISHED"}, {"cancelled", "KILLED"}, {"failed", "FAILED"},
};

/* Errors have MLflow's form, because its client reads the code from there. */
static void refuse(struct api_response *r, int status, const char *code, const char *fmt, const char *what)
{
	char text[400];
	cJSON *j = cJSON_CreateObject();
	snprintf(text, sizeof text, fmt, what);
	api_add_str(j, "error_code", code);
	api_add_str(j, "message", text);
	api_send_json(r, status, j);
}

static void failed(struct api_response *r, const struct wasd_err *err)
{
	if (err->status == WASD_ENOTFOUND)
		refuse(r, 404, "RESOURCE_DOES_NOT_EXIST", "%s", err->msg);
	else if (err->status == WASD_ENOMEM)
		api_send_no_memory(r);
	else
		refuse(r, 500, "INTERNAL_ERROR", "%s", err->msg);
}

/* ---- experiments ---- */

static cJSON *experiment_json(void)
{
	cJSON *e = cJSON_CreateObject();
	api_add_str(e, "experiment_id", EXPERIMENT);
	api_add_str(e, "name", EXPERIMENT_NAME);
	api_add_str(e, "artifact_location", "");
	api_add_str(e, "lifecycle_stage", "active");
	api_add_take(e, "tags", cJSON_CreateArray());
	return e;
}

enum api_result api_mlflow_experiments(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	cJSON *in = api_body_json(q, r, WASD_JSON_REQUEST, true), *e = NULL;
	const char *filter = "", *view = "";
	struct mlflow_filter *f = NULL;
	struct wasd_err err = {0};
	(void)c;
	if (!in)
		return API_DONE;
	wasd_json_str(in, "filter", &filter);
	wasd_json_str(in, "view_type", &view);
	if (mlflow_filter_parse(filter, &f, &err)) {
		refuse(r, 400, "INVALID_PARAMETER_VALUE", "%s", err.msg);
	} else {
		cJSON *j = cJSON_CreateObject(), *list = api_add_take(j, "experiments", cJSON_CreateArray());
		e = experiment_json();
		if (strcmp(view, "DELETED_ONLY") && mlflow_filter_takes(f, e))
			api_push(list, e);
		else
			cJSON_Delete(e);
		api_send_json(r, 200, j);
	}
	mlflow_filter_free(f);
	cJSON_Delete(in);
	return API_DONE;
}

enum api_result api_mlflow_experiment(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	const char *id = api_query(q, "experiment_id"), *name = api_query(q, "experiment_name");
	(void)c;
	if (!id && !name) {
		refuse(r, 400, "INVALID_PARAMETER_VALUE", "%s", "experiment_id or experiment_name is missing");
	} else if ((id && strcmp(id, EXPERIMENT)) || (name && strcmp(name, EXPERIMENT_NAME))) {
		refuse(r, 404, "RESOURCE_DOES_NOT_EXIST", "there is no experiment %.200s; its id is 0 and its name wasd",
		       id ? id : name);
	} else {
		cJSON *j = cJSON_CreateObject();
		api_add_take(j, "experiment", experiment_json());
		api_send_json(r, 200, j);
	}
	return API_DONE;
}

/* ---- a run ---- */

static void add_pair(cJSON *list, const char *key, const char *value)
{
	cJSON *o = cJSON_CreateObject();
	api_add_str(o, "key", key);
	api_add_str(o, "value", value ? value : "");
	api_push(list, o);
}

/* {"train":{"epochs":3}} -> train.epochs = 3. A list is one param, as JSON. */
static void flatten(cJSON *list, const char *at, const cJSON *v)
{
	if (cJSON_IsObject(v) && v->child) {
		const cJSON *m;
		cJSON_ArrayForEach(m, v) {
			char *path = wasd_asprintf("%s%s%s", at, *at ? "." : "", m->string);
			if (path)
				flatten(list, path, m);
			else
				api_poison(list);
			wasd_free(path);
		}
	} else if (cJSON_IsString(v)) {
		add_pair(list, at, v->valuestring);
	} else {
		char *text = wasd_json_print(v);
		if (text)
			add_pair(list, at, text);
		else
			api_poison(list);
		wasd_free(text);
	}
}

/* protobuf's JSON writes these three as strings. */
static cJSON *value_json(double v)
{
	return isfinite(v) ? cJSON_CreateNumber(v) :
	                     cJSON_CreateString(isnan(v) ? "NaN" :
	                                        v > 0    ? "Infinity" :
	                                                   "-Infinity");
}

static cJSON *metric_json(const struct storage_point *p)
{
	cJSON *m = cJSON_CreateObject();
	api_add_str(m, "key", p->name);
	api_add_take(m, "value", value_json(p->value));
	api_add_int(m, "timestamp", p->ts);
	api_add_int(m, "step", p->step);
	return m;
}

static const char *status_of(const char *state)
{
	for (size_t i = 0; i < API_LEN(statuses); i++)
		if (!strcmp(statuses[i].state, state))
			return statuses[i].status;
	return "RUNNING";
}

static cJSON *info_json(const struct storage_job *job)
{
	cJSON *i = cJSON_CreateObject();
	api_add_str(i, "run_id", job->id);
	api_add_str(i, "run_uuid", job->id);
	api_add_str(i, "run_name", job->name);
	api_add_str(i, "experiment_id", EXPERIMENT);
	api_add_str(i, "user_id", job->created_by ? job->created_by : "");
	api_add_str(i, "status", status_of(job->state));
	api_add_int(i, "start_time", job->started_at ? job->started_at : job->created_at);
	if (job->finished_at)
		api_add_int(i, "end_time", job->finished_at);
	api_add_str(i, "artifact_uri", "");
	api_add_str(i, "lifecycle_stage", "active");
	return i;
}

static cJSON *tags_json(const struct storage_job *job)
{
	cJSON *tags = cJSON_CreateArray(), *labels = api_parse_trusted(job->labels);
	const cJSON *m;
	cJSON_ArrayForEach(m, labels)
		add_pair(tags, m->string, cJSON_IsString(m) ? m->valuestring : "");
	cJSON_Delete(labels);
	add_pair(tags, "mlflow.runName", job->name);
	add_pair(tags, "mlflow.user", job->created_by);
	add_pair(tags, "mlflow.source.name", "wasd");
	if (job->note && *job->note)
		add_pair(tags, "mlflow.note.content", job->note);
	add_pair(tags, "wasd.state", job->state);
	if (job->reason)
		add_pair(tags, "wasd.reason", job->reason);
	return tags;
}

/* NULL: err says why. */
static cJSON *run_json(struct api_ctx *c, const struct storage_job *job, struct wasd_err *err)
{
	struct storage_point_list l;
	if (storage_metric_latest(c->db, job->id, &l, err))
		return NULL;
	cJSON *run = cJSON_CreateObject(), *data = cJSON_CreateObject(), *metrics = cJSON_CreateArray(),
		  *params = cJSON_CreateArray(), *spec = api_parse_trusted(job->spec);
	for (size_t i = 0; i < l.n; i++)
		api_push(metrics, metric_json(&l.items[i]));
	storage_point_list_done(&l);
	if (spec)
		flatten(params, "", spec);
	cJSON_Delete(spec);
	api_add_take(run, "info", info_json(job));
	api_add_take(data, "metrics", metrics);
	api_add_take(data, "params", params);
	api_add_take(data, "tags", tags_json(job));
	api_add_take(run, "data", data);
	return run;
}

static const char *run_id(const struct api_request *q)
{
	const char *id = api_query(q, "run_id");
	return id ? id : api_query(q, "run_uuid");
}

enum api_result api_mlflow_run(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_job job;
	struct wasd_err err = {0};
	const char *id = run_id(q);
	if (!id) {
		refuse(r, 400, "INVALID_PARAMETER_VALUE", "%s", "run_id is missing");
		return API_DONE;
	}
	if (storage_job_get(c->db, id, &job, &err)) {
		failed(r, &err);
		return API_DONE;
	}
	cJSON *run = run_json(c, &job, &err);
	storage_job_done(&job);
	if (!run) {
		failed(r, &err);
		return API_DONE;
	}
	cJSON *j = cJSON_CreateObject();
	api_add_take(j, "run", run);
	api_send_json(r, 200, j);
	return API_DONE;
}

/* ---- search ---- */

struct search {
	struct mlflow_filter *filter;
	struct mlflow_order *order;
	int64_t max, skip;
	cJSON **runs;
	size_t n, room;
};

static bool keep(struct search *s, cJSON *run)
{
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		cJSON **more = wasd_realloc(s->runs, room * sizeof *more);
		if (!more)
			return false;
		s->runs = more;
		s->room = room;
	}
	s->runs[s->n++] = run;
	return true;
}

/* All jobs when they must be sorted, else until the page and one more run are full. Jobs before the page are not read
 * further when nothing filters them. */
static enum wasd_status gather(struct api_ctx *c, struct search *s, struct wasd_err *err)
{
	char *cursor = NULL;
	enum wasd_status st = WASD_OK;
	int64_t passed = 0;
	const bool plain = !s->filter && !s->order;
	do {
		struct storage_job_list l;
		struct storage_job_filter every = {0};
		st = storage_job_list(c->db, &every, (struct storage_page){.limit = PAGE, .cursor = cursor}, &l, err);
		wasd_free(cursor);
		cursor = NULL;
		if (st)
			break;
		for (size_t i = 0; i < l.n && !st; i++) {
			if (plain && passed++ < s->skip)
				continue;
			if (!s->order && (int64_t)s->n > s->max + (plain ? 0 : s->skip))
				break;
			cJSON *run = run_json(c, &l.items[i], err);
			if (!run)
				st = err->status;
			else if (!mlflow_filter_takes(s->filter, run))
				cJSON_Delete(run);
			else if (!keep(s, run)) {
				cJSON_Delete(run);
				st = wasd_fail(err, WASD_ENOMEM, "no memory");
			}
		}
		if (!st && l.next_cursor && (s->order || (int64_t)s->n <= s->max + (plain ? 0 : s->skip))) {
			cursor = l.next_cursor;
			l.next_cursor = NULL;
		}
		storage_job_list_done(&l);
	} while (cursor && !st);
	if (plain)
		s->skip = 0; /* they were not kept */
	return st;
}

static bool of_experiment(const cJSON *in)
{
	const cJSON *ids = wasd_json_get(in, "experiment_ids"), *v;
	bool ours = !ids || !ids->child;
	cJSON_ArrayForEach(v, ids)
		ours |= cJSON_IsString(v) && !strcmp(v->valuestring, EXPERIMENT);
	return ours;
}

/* False: the answer is in r. */
static bool read_search(const cJSON *in, struct api_response *r, struct search *s)
{
	const char *filter = "", *token = "";
	struct wasd_err err = {0};
	s->max = RUNS_DEFAULT;
	wasd_json_str(in, "filter", &filter);
	wasd_json_str(in, "page_token", &token);
	wasd_json_i64(in, "max_results", &s->max);
	if (*token)
		s->skip = strtoll(token, NULL, 10);
	if (s->max < 1 || s->max > RUNS_MAX || s->skip < 0 || s->skip > INT32_MAX)
		wasd_fail(&err, WASD_EINVAL, "max_results must be 1 to 50000, page_token one of a previous answer");
	else if (!mlflow_filter_parse(filter, &s->filter, &err))
		mlflow_order_parse(wasd_json_get(in, "order_by"), &s->order, &err);
	if (err.status)
		refuse(r, 400, "INVALID_PARAMETER_VALUE", "%s", err.msg);
	return !err.status;
}

enum api_result api_mlflow_runs(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct search s = {0};
	struct wasd_err err = {0};
	const char *view = "";
	cJSON *in = api_body_json(q, r, WASD_JSON_REQUEST, true);
	if (!in || !read_search(in, r, &s))
		goto done;
	wasd_json_str(in, "run_view_type", &view);
	const int64_t first = s.skip;
	if (of_experiment(in) && strcmp(view, "DELETED_ONLY") && gather(c, &s, &err)) {
		failed(r, &err);
		goto done;
	}
	mlflow_order_sort(s.order, s.runs, s.n);
	cJSON *j = cJSON_CreateObject(), *runs = api_add_take(j, "runs", cJSON_CreateArray());
	for (size_t i = 0; i < s.n; i++)
		if ((int64_t)i >= s.skip && (int64_t)i < s.skip + s.max) {
			api_push(runs, s.runs[i]);
			s.runs[i] = NULL;
		}
	if ((int64_t)s.n > s.skip + s.max) {
		char token[24];
		snprintf(token, sizeof token, "%lld", (long long)(first + s.max));
		api_add_str(j, "next_page_token", token);
	}
	api_send_json(r, 200, j);
done:
	for (size_t i = 0; i < s.n; i++)
		cJSON_Delete(s.runs[i]);
	wasd_free(s.runs);
	mlflow_filter_free(s.filter);
	mlflow_order_free(s.order);
	cJSON_Delete(in);
	return API_DONE;
}

/* ---- history ---- */

enum api_result api_mlflow_history(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	const char *id = run_id(q), *key = api_query(q, "metric_key"), *token = api_query(q, "page_token"),
			   *most = api_query(q, "max_results");
	struct storage_job job;
	struct storage_point_list l;
	struct wasd_err err = {0};
	const long long max = most ? strtoll(most, NULL, 10) : INT32_MAX, skip = token ? strtoll(token, NULL, 10) : 0;
	if (!id || !key || max < 1 || skip < 0) {
		refuse(r, 400, "INVALID_PARAMETER_VALUE", "%s", "run_id or metric_key is missing, or max_results is below 1");
		return API_DONE;
	}
	if (storage_job_get(c->db, id, &job, &err)) {
		failed(r, &err);
		return API_DONE;
	}
	storage_job_done(&job);
	if (storage_metric_series(c->db, id, key, 0, &l, &err)) {
		failed(r, &err);
		return API_DONE;
	}
	cJSON *j = cJSON_CreateObject(), *list = api_add_take(j, "metrics", cJSON_CreateArray());
	long long n = 0;
	for (size_t i = 0; i < l.n; i++) {
		if (strcmp(l.items[i].name, key))
			continue;
		if (n >= skip && n - skip < max)
			api_push(list, metric_json(&l.items[i]));
		n++;
	}
	if (n > skip && n - skip > max) {
		char next[24];
		snprintf(next, sizeof next, "%lld", skip + max);
		api_add_str(j, "next_page_token", next);
	}
	storage_point_list_done(&l);
	api_send_json(r, 200, j);
	return API_DONE;
}
