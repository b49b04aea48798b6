/* jobs.c - `wasd jobs`: the list of jobs. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdlib.h>
#include <string.h>

struct options {
	struct client_list states, labels;
	const char *limit, *url;
	bool brief, json;
};

enum { BRIEF_LEAST = 10, DEFAULT_LIMIT = 100 };

/* "evaluating, 12 of 40, 35 s left"; for a job in the queue why it waits, for one that has ended its reason, unless
 * that says nothing. */
static void describe(const cJSON *job, char *out, size_t size)
{
	const cJSON *progress = wasd_json_get(job, "progress");
	const char *phase = "", *reason = "";
	double done, total, eta_s;
	if (wasd_json_str(wasd_json_get(job, "queue"), "message", &phase)) {
		snprintf(out, size, "%.180s", phase);
		return;
	}
	wasd_json_str(progress, "phase", &phase);
	wasd_json_str(job, "reason", &reason);
	bool running = !client_ended(client_text(job, "state"));
	int n = snprintf(out, size, "%.100s", running ? phase : !strcmp(reason, "done") ? "" : reason);
	if (running && *phase && wasd_json_num(progress, "phase_done", &done) &&
	    wasd_json_num(progress, "phase_total", &total))
		n += snprintf(out + n, size - (size_t)n, ", %.0f of %.0f", done, total);
	if (running && wasd_json_num(progress, "eta_s", &eta_s) && eta_s >= 0.5)
		snprintf(out + n, size - (size_t)n, "%s%.0f s left", n ? ", " : "", eta_s);
}

/* How many characters of an id tell all jobs apart. */
static size_t brief_length(const char *url)
{
	cJSON *all = client_all("jobs", url, "/v1/jobs", "fields=id", 0);
	const cJSON *j;
	size_t most = BRIEF_LEAST;
	const char *before = "";
	cJSON_ArrayForEach(j, all) { /* sorted by id: neighbours have the longest common beginning */
		const char *id = client_text(j, "id");
		size_t n = 0;
		while (id[n] && id[n] == before[n])
			n++;
		if (n + 1 > most)
			most = n + 1;
		before = id;
	}
	cJSON_Delete(all);
	return most;
}

static const char *value_of(const cJSON *job, const char *metric, char out[CLIENT_NUMBER])
{
	const cJSON *best = wasd_json_get(job, "best");
	return client_number(cJSON_IsObject(best) ? wasd_json_get(best, "metrics") : NULL, metric, 100, 1, out);
}

static int width_of(const cJSON *jobs, const char *key, int least, int most)
{
	const cJSON *j;
	int width = least;
	cJSON_ArrayForEach(j, jobs) {
		int n = 0;
		for (const char *p = client_text(j, key); *p; p++)
			n += (*p & 0xc0) != 0x80;
		if (n > width)
			width = n;
	}
	return width < most ? width : most;
}

static void print_jobs(const cJSON *jobs, size_t id_length)
{
	const cJSON *j;
	int names = width_of(jobs, "name", 4, 40), states = width_of(jobs, "state", 5, 12);
	printf("%-*s %-*s %9s %6s %6s  %-*s PHASE\n", (int)id_length, "ID", states, "STATE", "EPOCH", "AOM %", "DOM %",
	       names, "NAME");
	cJSON_ArrayForEach(j, jobs) {
		const cJSON *p = wasd_json_get(j, "progress");
		char at[40] = "-", now[200], aom[CLIENT_NUMBER], dom[CLIENT_NUMBER];
		double epoch, epochs;
		if (wasd_json_num(p, "epoch", &epoch) && wasd_json_num(p, "epochs", &epochs))
			snprintf(at, sizeof at, "%.0f/%.0f", epoch, epochs);
		describe(j, now, sizeof now);
		printf("%-*.*s %-*s %9s %6s %6s  ", (int)id_length, (int)id_length, client_text(j, "id"), states,
		       client_text(j, "state"), at, value_of(j, "val_acc_aom", aom), value_of(j, "val_acc_dom", dom));
		if (*now)
			client_cell(client_text(j, "name"), names);
		else
			client_say(client_text(j, "name"));
		printf("%s\n", now);
	}
}

/* state=a,b&label.k=v. Returns NULL after a message. */
static char *query_of(const struct client_command *c, const struct options *o)
{
	struct wasd_buf q = {0};
	for (size_t i = 0; i < o->states.n; i++) {
		wasd_buf_puts(&q, i ? "%2C" : "state=");
		client_escape(&q, o->states.items[i]);
	}
	for (size_t i = 0; i < o->labels.n; i++) {
		const char *label = o->labels.items[i], *eq = strchr(label, '=');
		char *key = eq && eq > label ? wasd_strndup(label, (size_t)(eq - label)) : NULL;
		if (!key) {
			client_misused(c, "--label %s is not KEY=VALUE", label);
			wasd_buf_done(&q);
			return NULL;
		}
		wasd_buf_puts(&q, q.len ? "&label." : "label.");
		client_escape(&q, key);
		wasd_buf_puts(&q, "=");
		client_escape(&q, eq + 1);
		wasd_free(key);
	}
	char *text = wasd_buf_cstr(&q) ? wasd_strdup(q.data) : NULL;
	wasd_buf_done(&q);
	return text;
}

static int run_jobs(int argc, char **argv)
{
	const struct client_command *c = &client_command_jobs;
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	int limit = o.limit ? atoi(o.limit) : DEFAULT_LIMIT;
	if (limit < 1 || (o.limit && o.limit[strspn(o.limit, "0123456789")]))
		return client_misused(c, "--limit %s is not a number of jobs", o.limit);
	char *query = query_of(c, &o);
	if (!query)
		return CLIENT_USAGE;
	char *url = client_url(o.url);
	cJSON *jobs = url ? client_all(c->name, url, "/v1/jobs", query, limit) : NULL;
	rc = CLIENT_FAILED;
	if (jobs && o.json) {
		rc = client_print_items(jobs);
	} else if (jobs) {
		print_jobs(jobs, o.brief ? brief_length(url) : 4 + WASD_ULID_LEN);
		cJSON_Delete(jobs);
		rc = CLIENT_OK;
	}
	wasd_free(query);
	wasd_free(url);
	return rc;
}

static const struct client_row jobs_rows[] = {
	{"--state", 0, "STATE", CLIENT_LIST, offsetof(struct options, states),
     "only jobs in this state, or in one of several",
     "queued held starting running pausing paused retry_wait completed failed cancelled"},
	{"--label", 0, "KEY=VALUE", CLIENT_LIST, offsetof(struct options, labels), "only jobs with this label", NULL},
	{"--limit", 'n', "N", CLIENT_VALUE, offsetof(struct options, limit), "at most N jobs (default: 100)", NULL},
	{"--short", 0, NULL, CLIENT_FLAG, offsetof(struct options, brief),
     "ids only as far as they tell all jobs apart; the commands take them so", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_jobs = {
	.name = "jobs",
	.arguments = "",
	.summary = "list jobs",
	.text = "Lists jobs, newest first. The accuracies are those of the best checkpoint on the validation images.",
	.rows = jobs_rows,
	.example = "wasd jobs --state running --state queued --label team=vision",
	.run = run_jobs,
};
