/* api/job_data.c - the data of a job: metrics, log, history, events. */
#include "internal.h"
#include "lttb.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* *batch_statistics (may be NULL): whether evaluations use the statistics of each batch instead of the mode's own. */
static bool job_known_as(struct api_ctx *c, const struct api_request *q, struct api_response *r, char id[128],
                         bool *batch_statistics)
{
	struct storage_job job;
	if (!api_job_find(c, q, r, &job))
		return false;
	snprintf(id, 128, "%s", job.id);
	if (batch_statistics) {
		const char *which = "own";
		cJSON *spec = api_parse_trusted(job.spec);
		wasd_json_str(wasd_json_get(spec, "eval"), "statistics", &which);
		*batch_statistics = !strcmp(which, "batch");
		cJSON_Delete(spec);
	}
	storage_job_done(&job);
	return true;
}

static bool job_known(struct api_ctx *c, const struct api_request *q, struct api_response *r, char id[128])
{
	return job_known_as(c, q, r, id, NULL);
}

/* ---- metrics ---- */

/* Units by the suffix of the name, after the suffixes of a mode and of steps are removed. */
static const struct {
	const char *suffix, *unit;
} units[] = {
	{"_acc", "fraction"}, {"_loss", "nats"},   {"lr", ""},        {"images_per_s", "images/s"},
	{"_s", "s"},          {"_bytes", "bytes"}, {"_percent", "%"}, {"", ""},
};

static bool ends_in(const char *name, size_t n, const char *suffix)
{
	const size_t k = strlen(suffix);
	return n >= k && !strncmp(name + n - k, suffix, k);
}

const char *api_metric_unit(const char *name)
{
	const char *mode = wasd_mode_of(name);
	size_t n = strlen(name) - (mode ? strlen(mode) + 1 : 0), i = 0;
	if (ends_in(name, n, "_step"))
		n -= strlen("_step");
	while (!ends_in(name, n, units[i].suffix))
		i++;
	return units[i].unit;
}

bool api_query_axis(const struct api_request *q, struct api_response *r, enum api_axis *out)
{
	static const char *const axes[] = {"step", "epoch", "time", "ts", NULL}; /* ts: as time */
	static const enum api_axis by[] = {API_BY_STEP, API_BY_EPOCH, API_BY_TIME, API_BY_TIME};
	const char *name = NULL;
	if (!api_query_choice(q, r, "x", axes, &name))
		return false;
	for (size_t i = 0; name && axes[i]; i++)
		if (!strcmp(axes[i], name))
			*out = by[i];
	return true;
}

double api_axis_place(enum api_axis axis, const struct storage_point *p)
{
	return (double)(axis == API_BY_STEP ? p->step : axis == API_BY_EPOCH ? p->epoch : p->ts);
}

static const char *nonfinite(double v)
{
	return isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
}

/* The indices of at most max of n points along the axis, which the caller frees; *kept: how many. NULL: no memory. */
static size_t *choose(const struct storage_point *p, size_t n, enum api_axis axis, size_t max, size_t *kept)
{
	size_t *keep = wasd_calloc(n, sizeof *keep);
	double *x = wasd_calloc(n, sizeof *x), *y = wasd_calloc(n, sizeof *y);
	if (keep && x && y) {
		for (size_t i = 0; i < n; i++) {
			x[i] = api_axis_place(axis, &p[i]);
			y[i] = p[i].value;
		}
		*kept = api_lttb(x, y, n, max, keep);
	} else {
		wasd_free(keep);
		keep = NULL;
		*kept = 0;
	}
	wasd_free(x);
	wasd_free(y);
	return keep;
}

static cJSON *series_json(const struct storage_point *p, size_t n, enum api_axis axis, size_t max)
{
	cJSON *s = cJSON_CreateObject(), *points = cJSON_CreateArray(), *odd = NULL;
	api_add_str(s, "name", p->name);
	api_add_str(s, "mode", wasd_mode_of(p->name));
	api_add_str(s, "unit", api_metric_unit(p->name));
	size_t kept, *keep = choose(p, n, axis, max, &kept);
	if (!keep)
		api_poison(s);
	for (size_t k = 0; k < kept; k++) {
		const size_t i = keep[k];
		cJSON *row = cJSON_CreateArray();
		api_push(row, cJSON_CreateNumber((double)p[i].step));
		api_push(row, cJSON_CreateNumber((double)p[i].epoch));
		api_push(row, cJSON_CreateNumber((double)p[i].ts));
		api_push(row, isfinite(p[i].value) ? cJSON_CreateNumber(p[i].value) : cJSON_CreateNull());
		api_push(points, row);
		if (isfinite(p[i].value))
			continue;
		if (!odd)
			odd = cJSON_CreateArray();
		cJSON *flag = cJSON_CreateObject();
		api_add_int(flag, "epoch", p[i].epoch);
		api_add_str(flag, "value", nonfinite(p[i].value));
		api_push(odd, flag);
	}
	wasd_free(keep);
	api_add_take(s, "points", points);
	if (odd)
		api_add_take(s, "nonfinite", odd);
	return s;
}

static int64_t last_seq(struct api_ctx *c)
{
	struct storage_event_list l;
	if (storage_event_read(c->db, INT64_MAX - 1, NULL, NULL, 1, &l, NULL))
		return 0;
	int64_t seq = l.last_seq;
	storage_event_list_done(&l);
	return seq;
}

static void metrics_rows(struct api_response *r, const struct storage_point_list *l, bool csv)
{
	if (csv)
		wasd_buf_puts(&r->body, "name,mode,step,epoch,ts,value\r\n");
	for (size_t i = 0; i < l->n; i++) {
		const struct storage_point *p = &l->items[i];
		const char *mode = wasd_mode_of(p->name);
		char t[WASD_RFC3339_LEN];
		wasd_rfc3339(p->ts, t);
		wasd_buf_printf(&r->body,
		                csv ? "%s,%s,%lld,%lld,%s," :
		                      "{\"name\":\"%s\",\"mode\":\"%s\",\"step\":%lld,\"epoch\":%lld,\"ts\":\"%s\",\"value\":",
		                p->name, mode ? mode : "", (long long)p->step, (long long)p->epoch, t);
		if (isfinite(p->value))
			wasd_buf_printf(&r->body, "%.17g", p->value);
		else if (csv)
			wasd_buf_puts(&r->body, nonfinite(p->value));
		else
			wasd_buf_printf(&r->body, "null,\"nonfinite\":\"%s\"", nonfinite(p->value));
		wasd_buf_puts(&r->body, csv ? "\r\n" : "}\n");
	}
	r->status = 200;
	r->content_type = csv ? "text/csv; charset=utf-8" : "application/x-ndjson";
	if (r->body.failed)
		api_send_no_memory(r);
}

/* The format from the query, else from Accept. */
static bool wanted_format(const struct api_request *q, struct api_response *r, const char *const *formats,
                          const char **out)
{
	*out = formats[0];
	if (api_accepts(q, "text/csv"))
		*out = "csv";
	if (api_accepts(q, "application/x-ndjson"))
		*out = "ndjson";
	return api_query_choice(q, r, "format", formats, out);
}

enum api_result api_jobs_metrics(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const formats[] = {"json", "csv", "ndjson", NULL};
	char id[128];
	const char *format;
	enum api_axis axis = API_BY_STEP;
	int64_t from = 0, max = 1000000;
	bool batch_statistics = false;
	struct storage_point_list l;
	struct wasd_err err = {0};
	if (!api_query_int(q, r, "from_step", 0, WASD_JSON_INT_MAX, &from) ||
	    !api_query_int(q, r, "max_points", 2, 1000000, &max) || !api_query_axis(q, r, &axis) ||
	    !wanted_format(q, r, formats, &format) || !job_known_as(c, q, r, id, &batch_statistics))
		return API_DONE;
	int64_t seq = last_seq(c); /* before the points: an event in between is read twice rather than missed */
	if (storage_metric_series(c->db, id, api_query(q, "names"), from, &l, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	if (strcmp(format, "json")) {
		metrics_rows(r, &l, !strcmp(format, "csv"));
	} else {
		cJSON *j = cJSON_CreateObject(), *list = cJSON_CreateArray();
		for (size_t i = 0, n; i < l.n; i += n) {
			for (n = 1; i + n < l.n && !strcmp(l.items[i + n].name, l.items[i].name);)
				n++;
			cJSON *s = series_json(&l.items[i], n, axis, (size_t)max);
			if (!strncmp(l.items[i].name, "val_", 4) || !strncmp(l.items[i].name, "test_", 5))
				api_add_str(s, "statistics", batch_statistics ? "batch" : "own");
			api_push(list, s);
		}
		api_add_take(j, "series", list);
		api_add_int(j, "last_seq", seq);
		api_send_json(r, 200, j);
	}
	storage_point_list_done(&l);
	return API_DONE;
}

/* ---- log ---- */

static void log_text(struct wasd_buf *b, const struct storage_log *l)
{
	char t[WASD_RFC3339_LEN];
	wasd_rfc3339(l->ts, t);
	wasd_buf_printf(b, "%s %-5s %s\n", t, l->level, l->text);
}

static bool log_json(struct wasd_buf *b, const struct storage_log *l)
{
	cJSON *j = cJSON_CreateObject();
	api_add_int(j, "n", l->n);
	api_add_int(j, "attempt", l->attempt);
	api_add_time(j, "ts", l->ts);
	api_add_str(j, "level", l->level);
	api_add_str(j, "text", l->text);
	char *text = j ? wasd_json_print(j) : NULL;
	bool ok = text && wasd_buf_puts(b, text) && wasd_buf_puts(b, "\n");
	wasd_free(text);
	cJSON_Delete(j);
	return ok;
}

/* since: a time, or the number of the last line that the client has. */
static bool query_since(const struct api_request *q, struct api_response *r, struct storage_log_query *lq)
{
	const char *s = api_query(q, "since");
	if (!s)
		return true;
	if (*s && strspn(s, "0123456789") == strlen(s) && strlen(s) <= 15) {
		lq->after_n = strtoll(s, NULL, 10);
		return true;
	}
	return api_query_time(q, r, "since", &lq->since);
}

enum api_result api_jobs_logs(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
	struct storage_log_query lq = {.contains = api_query(q, "q")};
	struct storage_log_list l;
	struct wasd_err err = {0};
	char id[128];
	bool follow = false;
	int64_t tail = 0;
	if (!api_query_bool(q, r, "follow", &follow) || !api_query_int(q, r, "tail", 1, 10000, &tail) ||
	    !api_query_int(q, r, "attempt", 1, 1000000, &lq.attempt) ||
	    !api_query_choice(q, r, "level", levels, &lq.level) || !query_since(q, r, &lq) || !job_known(c, q, r, id))
		return API_DONE;
	if (lq.contains && strlen(lq.contains) >= sizeof r->follow_log.filter.contains) {
		api_send_problem(q, r, "bad_parameter", "q", "query parameter q has at most %zu bytes",
		                 sizeof r->follow_log.filter.contains - 1);
		return API_DONE;
	}
	lq.limit = tail ? (int)tail : 10000;
	lq.tail = tail != 0;
	if (storage_log_read(c->db, id, &lq, &l, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	r->status = 200;
	if (follow) {
		/* The stream starts after a line: the one that `since` names, or the last one before the tail. */
		r->follow_log.on = true;
		snprintf(r->follow_log.job, sizeof r->follow_log.job, "%.63s", id);
		r->follow_log.filter.attempt = lq.attempt;
		snprintf(r->follow_log.filter.level, sizeof r->follow_log.filter.level, "%s", lq.level ? lq.level : "");
		snprintf(r->follow_log.filter.contains, sizeof r->follow_log.filter.contains, "%s",
		         lq.contains ? lq.contains : "");
		r->follow_log.after = l.n ? l.items[0].n - 1 : l.last_n;
		r->content_type = "text/plain; charset=utf-8";
	} else {
		bool json = api_accepts(q, "application/x-ndjson");
		for (size_t i = 0; i < l.n; i++) {
			if (json)
				log_json(&r->body, &l.items[i]);
			else
				log_text(&r->body, &l.items[i]);
		}
		r->content_type = json ? "application/x-ndjson" : "text/plain; charset=utf-8";
		if (r->body.failed)
			api_send_no_memory(r);
	}
	storage_log_list_done(&l);
	return API_DONE;
}

/* ---- history ---- */

enum api_result api_jobs_transitions(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_transition_list l;
	struct wasd_err err = {0};
	char id[128];
	if (!job_known(c, q, r, id))
		return API_DONE;
	if (storage_transition_list(c->db, id, &l, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		const struct storage_transition *t = &l.items[i];
		cJSON *j = cJSON_CreateObject();
		api_add_int(j, "seq", t->seq);
		api_add_str(j, "from", t->from);
		api_add_str(j, "to", t->to);
		api_add_str(j, "reason", t->reason);
		api_add_str(j, "message", t->message);
		api_add_int(j, "attempt", t->attempt);
		api_add_time(j, "at", t->at);
		api_push(items, j);
	}
	storage_transition_list_done(&l);
	api_send_list(q, r, items, NULL);
	return API_DONE;
}

enum api_result api_jobs_checkpoints(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char id[128];
	return job_known(c, q, r, id) ? api_send_checkpoints(c, id, q, r) : API_DONE;
}

/* ---- events ---- */

/* A reconnecting client names the last event it saw: an EventSource in a header, any other client in a parameter. */
static bool start_events(const struct api_request *q, struct api_response *r, const char *topics, const char *object)
{
	const char *last = api_header(q, "last-event-id");
	int64_t after = -1;
	if (!last || !*last)
		last = api_query(q, "last_event_id");
	if (last && *last) {
		if (strspn(last, "0123456789") != strlen(last) || strlen(last) > 18) {
			api_send_problem(q, r, "bad_parameter", "last_event_id",
			                 "the last event id must be the number of an event, not \"%.40s\"", last);
			return false;
		}
		after = strtoll(last, NULL, 10);
	}
	r->status = 200;
	r->content_type = "text/event-stream";
	r->events.on = true;
	r->events.after_seq = after;
	snprintf(r->events.topics, sizeof r->events.topics, "%s", topics);
	snprintf(r->events.object, sizeof r->events.object, "%s", object);
	return true;
}

enum api_result api_jobs_events(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char id[128];
	if (job_known(c, q, r, id))
		start_events(q, r, "jobs", id);
	return API_DONE;
}

static const char topic_names[] = "jobs, sweeps, datasets, deployments, checkpoints, models, system";

bool api_is_topic(const char *name, size_t n)
{
	for (const char *s = topic_names; *s; s += strspn(s, ", ")) {
		size_t len = strcspn(s, ",");
		if (len == n && !strncmp(s, name, n))
			return true;
		s += len;
	}
	return false;
}

enum api_result api_events_stream(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	const char *topics = api_query(q, "topics");
	(void)c;
	for (const char *s = topics; s && *s; s += strcspn(s, ","), s += *s == ',') {
		size_t n = strcspn(s, ",");
		if (api_is_topic(s, n))
			continue;
		api_send_problem(q, r, "bad_parameter", "topics", "query parameter topics: \"%.*s\" is none of %s",
		                 n > 40 ? 40 : (int)n, s, topic_names);
		return API_DONE;
	}
	if (topics && strlen(topics) >= sizeof r->events.topics)
		api_send_problem(q, r, "bad_parameter", "topics", "query parameter topics names each topic once at most");
	else
		start_events(q, r, topics ? topics : "", "");
	return API_DONE;
}
