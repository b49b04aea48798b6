/* logs.c - `wasd logs`: the lines of a job's log, and those that come. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
	struct client_list jobs;
	const char *tail, *level, *url;
	bool follow, json;
	int64_t last; /* number of the last line printed */
};

static void print_line(struct options *o, const char *line)
{
	cJSON *l = NULL;
	if (wasd_json_parse(line, strlen(line), WASD_JSON_REQUEST, &l, NULL) != WASD_OK)
		return;
	wasd_json_i64(l, "n", &o->last);
	if (o->json) {
		puts(line);
	} else {
		printf("%s %-5s ", client_text(l, "ts"), client_text(l, "level"));
		client_say(client_text(l, "text"));
		putchar('\n');
	}
	fflush(stdout);
	cJSON_Delete(l);
}

enum { PAGE = 10000 /* lines of one answer at most */ };

/* Prints the lines after the last one printed; `tail`: only so many of them, or NULL. Returns the HTTP status. */
static int read_lines(struct options *o, const char *url, const char *id, const char *tail)
{
	int status = 0, n = PAGE;
	while (n == PAGE) {
		struct wasd_buf head = {0};
		struct client_lines l;
		char *line;
		n = 0;
		wasd_buf_printf(&head, "GET /v1/jobs/%s/logs?since=%lld%s%.10s", id, (long long)o->last, tail ? "&tail=" : "",
		                tail ? tail : "");
		if (o->level)
			wasd_buf_printf(&head, "&level=%.10s", o->level);
		status = wasd_buf_cstr(&head) ? client_lines_open(&l, url, head.data, "Accept: application/x-ndjson\r\n") : 0;
		for (; status == 200 && (line = client_lines_next(&l, CLIENT_PATIENCE_S * 1000)); n++)
			print_line(o, line);
		if (status)
			client_lines_close(&l);
		wasd_buf_done(&head);
		if (tail)
			break;
	}
	return status;
}

/* Whether the job has ended; waits for a daemon that restarts. */
static bool over(const struct options *o, const char *id)
{
	char head[120];
	snprintf(head, sizeof head, "GET /v1/jobs/%s?fields=state", id);
	cJSON *job = client_patient("logs", o->url, head);
	bool ended = !job || client_ended(client_text(job, "state"));
	cJSON_Delete(job);
	return ended;
}

/* The events of the job tell when there are new lines. */
static void follow(struct options *o, const char *id)
{
	char head[120];
	snprintf(head, sizeof head, "GET /v1/jobs/%s/events", id);
	for (bool ended = false; !ended;) {
		struct client_lines l;
		struct client_event e = {0};
		char *url = client_url(o->url);
		if (url && client_lines_open(&l, url, head, NULL) == 200) {
			ended = over(o, id); /* ask before reading the lines: then all lines before the end are read */
			read_lines(o, url, id, NULL);
			while (!ended && !l.over) {
				if (!client_event_next(&l, &e, 1000))
					continue;
				ended = !strcmp(e.type, "job.state") && client_ended(client_text(e.data, "to"));
				if (ended || !strcmp(e.type, "job.log"))
					read_lines(o, url, id, NULL);
			}
		} else {
			ended = over(o, id);
			nanosleep(&(struct timespec){0, 200000000L}, NULL);
		}
		client_event_done(&e);
		if (url)
			client_lines_close(&l);
		wasd_free(url);
	}
}

static int print_logs(struct options *o, const char *url, const char *id)
{
	char head[200];
	int status = read_lines(o, url, id, o->tail);
	if (status != 200) { /* ask again for the reason */
		snprintf(head, sizeof head, "GET /v1/jobs/%s/logs?tail=%.10s%s%.10s", id, o->tail ? o->tail : "1",
		         o->level ? "&level=" : "", o->level ? o->level : "");
		cJSON_Delete(client_json("logs", url, head, NULL));
		return CLIENT_FAILED;
	}
	if (o->follow)
		follow(o, id);
	return CLIENT_OK;
}

static int run_logs(int argc, char **argv)
{
	const struct client_command *c = &client_command_logs;
	struct options o = {0};
	char id[CLIENT_ID];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.jobs.n)
		return client_misused(c, "give a job");
	if (o.tail && (!*o.tail || o.tail[strspn(o.tail, "0123456789")]))
		return client_misused(c, "--tail %s is not a number of lines", o.tail);
	if (o.level && !client_word_ok(o.level))
		return client_misused(c, "--level %s is not a level", o.level);
	char *url = client_url(o.url);
	rc = url && client_job_id(c->name, url, o.jobs.items[0], id) ? print_logs(&o, url, id) : CLIENT_FAILED;
	wasd_free(url);
	return rc;
}

static const struct client_row logs_rows[] = {
	{"--follow", 'f', NULL, CLIENT_FLAG, offsetof(struct options, follow),
     "go on with new lines until the job has ended", NULL},
	{"--tail", 'n', "N", CLIENT_VALUE, offsetof(struct options, tail), "begin with the last N lines", NULL},
	{"--level", 0, "LEVEL", CLIENT_VALUE, offsetof(struct options, level), "only lines of this level or a graver one",
     "debug info warn error"},
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json), "print each line as JSON", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_logs = {
	.name = "logs",
	.arguments = "JOB",
	.summary = "print the log of a job",
	.text =
		"Prints the log of a job: time, level, text. With --follow it also outlives a restart of the daemon. " CLIENT_JOB_TEXT,
	.rows = logs_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 1,
	.offers = "@jobs",
	.example = "wasd logs lenet-digits -f --level warn",
	.run = run_logs,
};
