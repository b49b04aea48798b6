/* watch.c - `wasd watch`: follows the events of a job until it ends, also over a restart of the daemon. */
#include "client/watch.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"
#include "client/watch_view.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { QUIET_MS = 250, DRAW_US = 100000, RETRY_MS = 200 };

struct watch {
	const char *command, *given;
	bool json, drawing;
	struct view view;
	int64_t told;     /* the last epoch whose line was printed */
	int64_t drawn_us; /* when it was drawn */
	bool dirty;
	bool ended;
	cJSON *warned; /* its members: the codes of the warnings that were said */
};

/* ---- epochs ---- */

static void tell_epoch(struct watch *w, int64_t epoch, const cJSON *metrics)
{
	if (epoch <= w->told)
		return;
	w->told = epoch;
	if (!w->json && !w->drawing)
		view_epoch_line(&w->view, epoch, metrics);
}

/* Sorts the series of GET /v1/jobs/{id}/metrics by epoch: rows[e] gets the metrics of epoch e. Losses by step go to
 * the view. */
static void sort_series(struct watch *w, const cJSON *all, cJSON **rows, int64_t epochs)
{
	const cJSON *s, *p;
	cJSON_ArrayForEach(s, all) {
		const char *name = client_text(s, "name");
		bool steps = !strcmp(name, "train_loss_step");
		cJSON_ArrayForEach(p, wasd_json_get(s, "points")) {
			const cJSON *at = cJSON_GetArrayItem(p, 1), *value = cJSON_GetArrayItem(p, 3);
			if (!cJSON_IsNumber(at) || !cJSON_IsNumber(value))
				continue;
			int64_t epoch = (int64_t)at->valuedouble;
			if (steps)
				view_loss(&w->view, value->valuedouble);
			else if (epoch > w->told && epoch <= epochs && (rows[epoch] || (rows[epoch] = cJSON_CreateObject())))
				cJSON_AddNumberToObject(rows[epoch], name, value->valuedouble);
		}
	}
}

/* The epochs that ended before the stream began, or while there was none. */
static void catch_up(struct watch *w)
{
	char head[300];
	snprintf(head, sizeof head, "GET /v1/jobs/%s", w->view.id);
	cJSON *job = client_patient(w->command, w->given, head);
	if (!job)
		return;
	view_job(&w->view, job);
	w->ended = client_ended(w->view.state);
	cJSON_Delete(job);
	snprintf(head, sizeof head,
	         "GET /v1/jobs/%s/metrics?names=train_loss_step,train_loss,train_acc,val_acc_aom,val_acc_dom,images_per_s",
	         w->view.id);
	cJSON *metrics = w->json ? NULL : client_patient(w->command, w->given, head);
	int64_t epochs = w->view.epochs > 0 && w->view.epochs < 10000000 ? w->view.epochs : 0;
	cJSON **rows = metrics ? wasd_calloc((size_t)epochs + 1, sizeof *rows) : NULL;
	view_forget_losses(&w->view);
	if (rows)
		sort_series(w, wasd_json_get(metrics, "series"), rows, epochs);
	for (int64_t e = 1; rows && e <= epochs; e++) {
		if (wasd_json_get(rows[e], "train_loss")) {
			tell_epoch(w, e, rows[e]);
			view_metrics(&w->view, rows[e]);
		}
		cJSON_Delete(rows[e]);
	}
	wasd_free(rows);
	cJSON_Delete(metrics);
}

/* ---- events ---- */

static void print_event(const struct client_event *e)
{
	cJSON *o = cJSON_CreateObject();
	cJSON_AddNumberToObject(o, "id", (double)e->id);
	cJSON_AddStringToObject(o, "event", e->type);
	cJSON_AddItemToObject(o, "data", cJSON_Duplicate(e->data, true));
	client_print_json(o);
	fflush(stdout);
	cJSON_Delete(o);
}

static void on_metrics(struct watch *w, const cJSON *data)
{
	const cJSON *metrics = wasd_json_get(data, "metrics"), *p;
	int64_t epoch = 0;
	double loss;
	cJSON_ArrayForEach(p, wasd_json_get(data, "points"))
		if (cJSON_IsNumber(cJSON_GetArrayItem(p, 3)))
			view_loss(&w->view, cJSON_GetArrayItem(p, 3)->valuedouble);
	view_metrics(&w->view, metrics);
	if (wasd_json_num(metrics, "train_loss", &loss) && wasd_json_i64(data, "epoch", &epoch))
		tell_epoch(w, epoch, metrics);
}

static void on_state(struct watch *w, const cJSON *data)
{
	const char *to = "", *reason = "";
	int64_t attempt = 0;
	wasd_json_str(data, "to", &to);
	wasd_json_str(data, "reason", &reason);
	snprintf(w->view.state, sizeof w->view.state, "%s", to);
	snprintf(w->view.reason, sizeof w->view.reason, "%s", reason);
	if (wasd_json_i64(data, "attempt", &attempt))
		w->view.attempt = (int)attempt;
	w->ended = client_ended(to);
}

/* A warning may come again in every epoch: it is said once. */
static void warn(struct watch *w, const cJSON *data)
{
	const char *code = client_text(data, "code");
	if (cJSON_GetObjectItemCaseSensitive(w->warned, code) || !cJSON_AddTrueToObject(w->warned, code))
		return;
	fprintf(stderr, "wasd %s: warning: %s\n", w->command, client_text(data, "message"));
}

static void on_event(struct watch *w, const struct client_event *e)
{
	if (w->json)
		print_event(e);
	if (!strcmp(e->type, "job.state"))
		on_state(w, e->data);
	else if (!strcmp(e->type, "job.metric"))
		on_metrics(w, e->data);
	else if (!strcmp(e->type, "job.progress"))
		view_progress(&w->view, wasd_json_get(e->data, "progress"));
	else if (!strcmp(e->type, "reset"))
		catch_up(w);
	else if (!strcmp(e->type, "job.warning") && !w->json && !w->drawing)
		warn(w, e->data);
	w->dirty = true;
}

static void draw(struct watch *w, bool now)
{
	if (!w->drawing || !w->dirty || (!now && wasd_mono_us() - w->drawn_us < DRAW_US))
		return;
	view_draw(&w->view);
	w->dirty = false;
	w->drawn_us = wasd_mono_us();
}

/* Follows the stream from the event after *e until the job has ended or the stream has. Returns the HTTP status. */
static int follow_stream(struct watch *w, struct client_event *e)
{
	char head[160], last[60] = "Accept: text/event-stream\r\n";
	struct client_lines l = {.fd = -1};
	if (e->id)
		snprintf(last, sizeof last, "Last-Event-ID: %lld\r\n", (long long)e->id);
	snprintf(head, sizeof head, "GET /v1/jobs/%s/events", w->view.id);
	char *url = client_url(w->given);
	int status = url ? client_lines_open(&l, url, head, last) : 0;
	wasd_free(url);
	if (status == 200) {
		catch_up(w);
		w->dirty = true;
		draw(w, true);
		while (!w->ended && !l.over) {
			if (client_event_next(&l, e, QUIET_MS))
				on_event(w, e);
			draw(w, false);
		}
	}
	client_event_done(e);
	client_lines_close(&l);
	return status;
}

static int finish(struct watch *w)
{
	char head[120];
	snprintf(head, sizeof head, "GET /v1/jobs/%s", w->view.id);
	cJSON *job = client_patient(w->command, w->given, head);
	if (!job)
		return CLIENT_FAILED;
	view_job(&w->view, job);
	w->dirty = true;
	draw(w, true);
	int rc = client_outcome(client_text(job, "state"));
	if (w->json) {
		cJSON *o = cJSON_CreateObject();
		cJSON_AddStringToObject(o, "event", "job");
		cJSON_AddItemToObject(o, "data", job);
		client_print_json(o);
		cJSON_Delete(o);
		return rc;
	}
	view_end_line(job);
	cJSON_Delete(job);
	return rc;
}

int client_follow(const char *command, const char *given, const char *job, bool json)
{
	struct watch w = {.command = command,
	                  .given = given,
	                  .json = json,
	                  .drawing = !json && isatty(STDOUT_FILENO),
	                  .warned = cJSON_CreateObject()};
	struct client_event e = {0};
	view_init(&w.view, job);
	for (int64_t seen = wasd_mono_us(); !w.ended;) {
		int status = follow_stream(&w, &e);
		if (status == 200)
			seen = wasd_mono_us();
		else if (status && status != 503)
			break; /* the job is gone; finish() says so */
		if (!w.ended && wasd_mono_us() - seen > CLIENT_RESTART_S * 1000000LL) {
			fprintf(stderr, "wasd %s: the daemon does not answer; %s goes on when it is there again\n", command, job);
			cJSON_Delete(w.warned);
			return CLIENT_FAILED;
		}
		if (!w.ended)
			nanosleep(&(struct timespec){0, RETRY_MS * 1000000L}, NULL);
	}
	int rc = finish(&w);
	cJSON_Delete(w.warned);
	return rc;
}

/* ---- waiting ---- */

int client_await(const char *command, const char *given, const char *job, bool json, long long end_us)
{
	for (;;) {
		long long left = end_us ? (end_us - wasd_mono_us() + 999999) / 1000000 : CLIENT_PATIENCE_S;
		char head[200];
		if (left < 0)
			left = 0;
		if (left > CLIENT_PATIENCE_S - 10)
			left = CLIENT_PATIENCE_S - 10;
		snprintf(head, sizeof head, "GET /v1/jobs/%s?wait=%llds&until=terminal", job, left);
		cJSON *o = client_patient(command, given, head);
		const char *state = o ? client_text(o, "state") : "";
		bool ended = client_ended(state), late = end_us && wasd_mono_us() >= end_us;
		int rc = !o ? CLIENT_FAILED : ended ? client_outcome(state) : CLIENT_TIMEOUT;
		if (o && ended && json)
			client_print_json(o);
		else if (o && ended)
			view_end_line(o);
		else if (o && late)
			fprintf(stderr, "wasd %s: %s is still %s\n", command, job, state);
		cJSON_Delete(o);
		if (!o || ended || late)
			return rc;
	}
}

/* ---- the commands ---- */

struct options {
	struct client_list jobs;
	const char *timeout, *url;
	bool json;
};

static int run_watch(int argc, char **argv)
{
	struct options o = {0};
	char id[CLIENT_ID];
	int rc = client_parse(&client_command_watch, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.jobs.n)
		return client_misused(&client_command_watch, "give a job");
	char *url = client_url(o.url);
	bool found = url && client_job_id("watch", url, o.jobs.items[0], id);
	wasd_free(url);
	return found ? client_follow("watch", o.url, id, o.json) : CLIENT_FAILED;
}

static const struct client_row watch_rows[] = {
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json),
     "print each event as a line {\"id\",\"event\",\"data\"}, and at the end the job as {\"event\":\"job\",\"data\"}",
     NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_watch = {
	.name = "watch",
	.arguments = "JOB",
	.summary = "follow a job until it ends",
	.text =
		"Follows a job until it ends. On a terminal: progress, speed, time left, both accuracies and the course of the "
		"loss; elsewhere a line per epoch, also for the epochs before. It outlives a restart of the daemon. Ctrl-C ends "
		"the watching, not the job.\n" CLIENT_JOB_TEXT,
	.rows = watch_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 1,
	.offers = "@jobs",
	.statuses = CLIENT_OUTCOME_TEXT,
	.example = "wasd watch lenet-digits",
	.run = run_watch,
};

/* "10m", "90s", "2h" or seconds; in microseconds. -1: neither. */
static long long duration_us(const char *text)
{
	char *end;
	double v = strtod(text, &end);
	double unit = !*end || !strcmp(end, "s") ? 1 : !strcmp(end, "m") ? 60 : !strcmp(end, "h") ? 3600 : -1;
	return end == text || unit < 0 || !isfinite(v) || v < 0 || v > 1e7 ? -1 : (long long)(v * unit * 1e6);
}

static int run_wait(int argc, char **argv)
{
	struct options o = {0};
	char(*ids)[CLIENT_ID] = NULL;
	int rc = client_parse(&client_command_wait, argc, argv, &o);
	if (rc >= 0)
		return rc;
	long long us = o.timeout ? duration_us(o.timeout) : 0;
	if (!o.jobs.n)
		return client_misused(&client_command_wait, "give one or more jobs");
	if (us < 0)
		return client_misused(&client_command_wait, "--timeout %s is not a time like 90s, 10m or 2h", o.timeout);
	long long end = o.timeout ? wasd_mono_us() + us : 0;
	char *url = client_url(o.url);
	ids = wasd_calloc(o.jobs.n, sizeof *ids);
	bool known = url && ids;
	for (size_t i = 0; known && i < o.jobs.n; i++)
		known = client_job_id("wait", url, o.jobs.items[i], ids[i]);
	rc = known ? CLIENT_OK : CLIENT_FAILED;
	/* The status of the whole: failed before late before cancelled. */
	static const int rank[] = {[CLIENT_OK] = 0, [CLIENT_FAILED] = 3, [CLIENT_CANCELLED] = 1, [CLIENT_TIMEOUT] = 2};
	for (size_t i = 0; known && i < o.jobs.n; i++) {
		int one = client_await("wait", o.url, ids[i], o.json, end);
		if (rank[one] > rank[rc])
			rc = one;
	}
	wasd_free(ids);
	wasd_free(url);
	return rc;
}

static const struct client_row wait_rows[] = {
	{"--timeout", 0, "TIME", CLIENT_VALUE, offsetof(struct options, timeout),
     "give up after this time: 90s, 10m, 2h (default: never)", NULL},
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json),
     "print each job as a line of JSON when it has ended", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_wait = {
	.name = "wait",
	.arguments = "JOB...",
	.summary = "wait until jobs have ended",
	.text = "Waits until all these jobs have ended and prints a line for each. " CLIENT_JOB_TEXT,
	.rows = wait_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 200,
	.offers = "@jobs",
	.statuses = "0 all completed, 1 one failed, 3 one was cancelled (none failed), 4 time is up, 2 wrong usage",
	.example = "wasd wait first second --timeout 10m",
	.run = run_wait,
};
