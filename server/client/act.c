/* act.c - commands that change the state of jobs: `wasd cancel|pause|resume|retry`. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <string.h>

struct options {
	struct client_list jobs;
	const char *reason, *url;
	bool kill, json;
};

/* POST /v1/jobs/{id}:verb for one job. Returns false after a message. */
static bool act(const struct client_command *c, const struct options *o, const char *url, const char *job)
{
	char id[CLIENT_ID], head[160];
	if (!client_job_id(c->name, url, job, id))
		return false;
	cJSON *in = cJSON_CreateObject();
	if (o->kill)
		cJSON_AddStringToObject(in, "mode", "kill");
	if (o->reason)
		cJSON_AddStringToObject(in, "reason", o->reason);
	char *body = wasd_json_print(in);
	snprintf(head, sizeof head, "POST /v1/jobs/%s:%s", id, c->name);
	cJSON *now = body ? client_json(c->name, url, head, body) : NULL;
	if (now && o->json)
		client_print_json(now);
	else if (now)
		printf("%s is %s\n", id, client_text(now, "state"));
	cJSON_Delete(in);
	cJSON_Delete(now);
	wasd_free(body);
	return now != NULL;
}

static int act_on_all(const struct client_command *c, int argc, char **argv)
{
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.jobs.n)
		return client_misused(c, "give one or more jobs");
	char *url = client_url(o.url);
	rc = url ? CLIENT_OK : CLIENT_FAILED;
	for (size_t i = 0; url && i < o.jobs.n; i++)
		if (!act(c, &o, url, o.jobs.items[i]))
			rc = CLIENT_FAILED;
	wasd_free(url);
	return rc;
}

static int run_cancel(int argc, char **argv)
{
	return act_on_all(&client_command_cancel, argc, argv);
}

#define JSON_ROW \
	{ \
		"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json), "print each job as a line of JSON", NULL \
	}

static const struct client_row cancel_rows[] = {
	{"--kill", 0, NULL, CLIENT_FLAG, offsetof(struct options, kill),
     "end the process at once, without a last checkpoint", NULL},
	{"--reason", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, reason),
     "reason for the job's message and the audit log", NULL},
	JSON_ROW,
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_cancel = {
	.name = "cancel",
	.arguments = "JOB...",
	.summary = "cancel jobs",
	.text =
		"Cancels jobs: at once if they are queued, within a mini-batch if they train; a checkpoint is kept. All are "
		"tried, also after one that is refused. " CLIENT_JOB_TEXT,
	.rows = cancel_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 200,
	.offers = "@jobs",
	.statuses = "0 all are cancelled or will be, 1 one was refused, 2 wrong usage",
	.example = "wasd cancel lenet-digits --reason \"wrong data\"",
	.run = run_cancel,
};

/* ---- pause, resume, retry ---- */

static int run_pause(int argc, char **argv)
{
	return act_on_all(&client_command_pause, argc, argv);
}

static int run_resume(int argc, char **argv)
{
	return act_on_all(&client_command_resume, argc, argv);
}

static int run_retry(int argc, char **argv)
{
	return act_on_all(&client_command_retry, argc, argv);
}

static const struct client_row change_rows[] = {
	{"--reason", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, reason), "reason for the audit log", NULL},
	JSON_ROW,
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_pause = {
	.name = "pause",
	.arguments = "JOB...",
	.summary = "pause jobs",
	.text =
		"Pauses jobs: one that trains stores a checkpoint at once and frees its worker, one that has not begun is held. All "
		"are tried, also after one that is refused. " CLIENT_JOB_TEXT,
	.rows = change_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 200,
	.offers = "@jobs",
	.statuses = "0 all are paused or will be, 1 one was refused, 2 wrong usage",
	.example = "wasd pause lenet-digits",
	.run = run_pause,
};
const struct client_command client_command_resume = {
	.name = "resume",
	.arguments = "JOB...",
	.summary = "resume paused jobs",
	.text =
		"Puts paused jobs back into the queue; they go on from their checkpoint with the same losses as without the pause. "
		"All are tried, also after one that is refused. " CLIENT_JOB_TEXT,
	.rows = change_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 200,
	.offers = "@jobs",
	.statuses = "0 all are in the queue or go on, 1 one was refused, 2 wrong usage",
	.example = "wasd resume lenet-digits",
	.run = run_resume,
};
const struct client_command client_command_retry = {
	.name = "retry",
	.arguments = "JOB...",
	.summary = "try failed or cancelled jobs again",
	.text =
		"Puts failed or cancelled jobs back into the queue for a new attempt, from their latest checkpoint. All are tried, "
		"also after one that is refused. " CLIENT_JOB_TEXT,
	.rows = change_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = 200,
	.offers = "@jobs",
	.statuses = "0 all are in the queue, 1 one was refused, 2 wrong usage",
	.example = "wasd retry lenet-digits",
	.run = run_retry,
};
