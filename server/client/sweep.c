/* sweep.c - `wasd sweep`: submits a sweep and follows it; `wasd sweep list|show|pause|resume|cancel`. */
#include "client/client.h"
#include "client/commands.h"
#include "client/edit.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
	struct client_list words, set;
	const char *reason, *url;
	bool watch, wait, dry_run, json;
};

#define SWEEP_TEXT "SWEEP is an id, or a name: the newest sweep of that name."

/* ---- printing ---- */

/* "/train/optimizer/lr=0.01 /train/batch=32", without the pointers' first parts. */
static void print_values(const cJSON *values)
{
	const cJSON *v;
	cJSON_ArrayForEach(v, values) {
		const char *name = strrchr(v->string, '/');
		char *text = wasd_json_print(v);
		client_say(name ? name + 1 : v->string);
		putchar('=');
		client_say(text ? text : "?");
		putchar(v->next ? ' ' : '\n');
		wasd_free(text);
	}
	if (!cJSON_GetArraySize(values)) /* not known yet, or the template's */
		putchar('\n');
}

/* A loss and an accuracy have the same form: a number of four decimals. */
static void print_trials(const cJSON *sweep)
{
	const cJSON *t;
	printf("%4s %5s %10s %9s %-10s %-30s VALUES\n", "RANK", "TRIAL", "VALUE", "EPOCH", "STATE", "JOB");
	cJSON_ArrayForEach(t, wasd_json_get(sweep, "trials")) {
		char rank[CLIENT_NUMBER], trial[CLIENT_NUMBER], value[CLIENT_NUMBER], epoch[CLIENT_NUMBER], to[CLIENT_NUMBER],
			at[2 * CLIENT_NUMBER];
		const char *reason = client_text(t, "reason");
		snprintf(at, sizeof at, "%s/%s", client_number(t, "epoch", 1, 0, epoch),
		         client_number(t, "to_epoch", 1, 0, to));
		printf("%4s %5s %10s %9s ", client_number(t, "rank", 1, 0, rank), client_number(t, "trial", 1, 0, trial),
		       client_number(t, "value", 1, 4, value), at);
		client_cell(!strcmp(reason, "pruned") ? reason : client_text(t, "state"), 10);
		client_cell(client_text(t, "job"), 30);
		print_values(wasd_json_get(t, "values"));
	}
}

/* "rates is running: 6 trials, 2 active, 1 pruned; best 0.9102, trial 3". */
static void summarise(const cJSON *sweep, char *out, size_t size)
{
	const cJSON *n, *best = wasd_json_get(sweep, "best");
	char value[CLIENT_NUMBER], trial[CLIENT_NUMBER];
	int at = snprintf(out, size, "%.180s is %s:", client_text(sweep, "name"), client_text(sweep, "state"));
	cJSON_ArrayForEach(n, wasd_json_get(sweep, "counts"))
		if (cJSON_GetNumberValue(n) > 0)
			at += snprintf(out + at, size - (size_t)at, "%s %.0f %s", n->prev->next ? "," : "", cJSON_GetNumberValue(n),
			               n->string);
	if (cJSON_IsObject(best))
		snprintf(out + at, size - (size_t)at, "; best %s, trial %s", client_number(best, "value", 1, 4, value),
		         client_number(best, "trial", 1, 0, trial));
}

static int show(const cJSON *sweep, bool json)
{
	char line[600];
	if (json)
		return client_print_json(sweep);
	summarise(sweep, line, sizeof line);
	client_say(line);
	putchar('\n');
	print_trials(sweep);
	return CLIENT_OK;
}

/* ---- following ---- */

/* Follows a sweep until it has ended, also over a restart of the daemon; each: prints a line at each change. Returns
 * its outcome. */
static int follow(const struct client_command *c, const struct options *o, const char *id, bool each)
{
	char head[200], line[600], last[600] = "";
	snprintf(head, sizeof head, "GET /v1/sweeps/%s", id);
	for (;;) {
		cJSON *sweep = client_patient(c->name, o->url, head);
		if (!sweep)
			return CLIENT_FAILED;
		const char *state = client_text(sweep, "state");
		bool ended = client_ended(state);
		summarise(sweep, line, sizeof line);
		if (each && !ended && strcmp(line, last)) {
			if (o->json) {
				client_print_json(sweep);
			} else {
				client_say(line);
				putchar('\n');
			}
			fflush(stdout);
			memcpy(last, line, sizeof last);
		}
		int rc = ended ? client_outcome(state) : CLIENT_OK;
		if (ended)
			show(sweep, o->json);
		cJSON_Delete(sweep);
		if (ended)
			return rc;
		/* Short, since a change between two requests would go unnoticed until the end of the wait. */
		snprintf(head, sizeof head, "GET /v1/sweeps/%s?wait=%s", id, each ? "2s&until=change" : "30s");
	}
}

/* ---- submit ---- */

static int submit(const struct client_command *c, const struct options *o, const char *url, const cJSON *in)
{
	char *body = wasd_json_print(in), id[CLIENT_ID];
	cJSON *sweep = body ? client_json(c->name, url, o->dry_run ? "POST /v1/sweeps?dry_run=true" : "POST /v1/sweeps",
	                                  body) :
	                      NULL;
	int rc = CLIENT_OK;
	wasd_free(body);
	if (!sweep)
		return CLIENT_FAILED;
	bool on = !o->dry_run && (o->watch || o->wait);
	snprintf(id, sizeof id, "%s", client_text(sweep, "id"));
	if (o->dry_run || (o->json && !on))
		rc = client_print_json(sweep);
	else if (!o->json)
		puts(id);
	if (!on && !o->dry_run && isatty(STDERR_FILENO) && isatty(STDOUT_FILENO))
		fprintf(stderr, "%s is %s; see it: wasd sweep show %s\n", client_text(sweep, "name"),
		        client_text(sweep, "state"), id);
	cJSON_Delete(sweep);
	fflush(stdout);
	return on ? follow(c, o, id, o->watch) : rc;
}

static int run_sweep(int argc, char **argv)
{
	const struct client_command *c = &client_command_sweep;
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n)
		return client_misused(c, "give a file with the template, the space and the search");
	if (o.watch && o.wait)
		return client_misused(c, "give --watch or --wait, not both");
	cJSON *in = client_read_spec(c, o.words.items[0]);
	bool ok = in != NULL;
	for (size_t i = 0; i < o.set.n && ok; i++)
		ok = client_set(c, in, o.set.items[i]);
	char *url = ok ? client_url(o.url) : NULL;
	rc = !ok ? CLIENT_USAGE : url ? submit(c, &o, url, in) : CLIENT_FAILED;
	cJSON_Delete(in);
	wasd_free(url);
	return rc;
}

static const struct client_row sweep_rows[] = {
	{"--set", 's', "KEY=VALUE", CLIENT_LIST, offsetof(struct options, set),
     "set a member of the file: search.max_trials=8 or template.train.epochs=3, as in wasd submit", NULL},
	{"--watch", 0, NULL, CLIENT_FLAG, offsetof(struct options, watch), "print a line at each change, and the end",
     NULL},
	{"--wait", 0, NULL, CLIENT_FLAG, offsetof(struct options, wait), "wait until it has ended", NULL},
	{"--dry-run", 0, NULL, CLIENT_FLAG, offsetof(struct options, dry_run),
     "submit nothing: check every trial and print their values", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_sweep = {
	.name = "sweep",
	.arguments = "FILE",
	.summary = "search values of a spec with many jobs",
	.text =
		"Submits a sweep and prints its id. FILE has the template, the space and the search as JSON; - reads standard "
		"input. The daemon makes a job of each trial and ranks them by the metric of the search.",
	.rows = sweep_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@files",
	.statuses =
		"0 submitted, 1 refused, 2 wrong usage; with --watch or --wait the outcome: 0 completed, 1 failed, 3 cancelled",
	.example = "wasd sweep rates.json --set search.max_trials=8 --watch",
	.run = run_sweep,
};

/* ---- list ---- */

static int run_list(int argc, char **argv)
{
	const struct client_command *c = &client_command_sweep_list;
	struct options o = {0};
	const cJSON *w;
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	cJSON *all = url ? client_all(c->name, url, "/v1/sweeps", "", 0) : NULL;
	wasd_free(url);
	if (all && o.json) {
		client_print_items(all);
	} else if (all) {
		printf("%-30s %-10s %6s %6s %10s  NAME\n", "ID", "STATE", "TRIALS", "ENDED", "BEST");
		cJSON_ArrayForEach(w, all) {
			const cJSON *n = wasd_json_get(w, "counts"), *best = wasd_json_get(w, "best");
			char trials[CLIENT_NUMBER], value[CLIENT_NUMBER];
			static const char *const ends[] = {"completed", "pruned", "failed", "cancelled"};
			double ended = 0, one;
			for (int i = 0; i < 4; i++)
				ended += wasd_json_num(n, ends[i], &one) ? one : 0;
			printf("%-30s %-10s %6s %6.0f %10s  ", client_text(w, "id"), client_text(w, "state"),
			       client_number(n, "trials", 1, 0, trials), ended,
			       client_number(cJSON_IsObject(best) ? best : NULL, "value", 1, 4, value));
			client_say(client_text(w, "name"));
			putchar('\n');
		}
		cJSON_Delete(all);
	}
	return all ? CLIENT_OK : CLIENT_FAILED;
}

static const struct client_row list_rows[] = {CLIENT_ROW_JSON(struct options), CLIENT_ROW_URL(struct options), {0}};
const struct client_command client_command_sweep_list = {
	.name = "sweep list",
	.arguments = "",
	.summary = "list sweeps",
	.text = "Lists sweeps, newest first: how many trials each has, how many of them have ended, and the best value.",
	.rows = list_rows,
	.example = "wasd sweep list",
	.run = run_list,
};

/* ---- one sweep ---- */

static bool find(const struct client_command *c, const char *url, const char *word, char id[CLIENT_ID])
{
	const cJSON *w;
	id[0] = 0;
	if (!strncmp(word, "swp_", 4) && strlen(word) < CLIENT_ID && client_word_ok(word)) {
		snprintf(id, CLIENT_ID, "%s", word);
		return true;
	}
	cJSON *all = client_all(c->name, url, "/v1/sweeps", "", 0);
	cJSON_ArrayForEach(w, all)
		if (!id[0] && !strcmp(client_text(w, "name"), word))
			snprintf(id, CLIENT_ID, "%s", client_text(w, "id"));
	if (all && !id[0])
		fprintf(stderr, "wasd %s: no sweep has the id or the name %.200s; wasd sweep list lists them\n", c->name, word);
	cJSON_Delete(all);
	return id[0] != 0;
}

/* verb NULL: shows the sweep. */
static int act(const struct client_command *c, int argc, char **argv, const char *verb)
{
	struct options o = {0};
	char id[CLIENT_ID], head[200];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n)
		return client_misused(c, "give a sweep");
	char *url = client_url(o.url), *body = NULL;
	cJSON *in = cJSON_CreateObject(), *now = NULL;
	if (o.reason)
		cJSON_AddStringToObject(in, "reason", o.reason);
	rc = CLIENT_FAILED;
	if (url && (body = wasd_json_print(in)) && find(c, url, o.words.items[0], id)) {
		snprintf(head, sizeof head, verb ? "POST /v1/sweeps/%s:%s" : "GET /v1/sweeps/%s", id, verb);
		now = client_json(c->name, url, head, verb ? body : NULL);
	}
	if (now && (!verb || o.json))
		rc = show(now, o.json);
	else if (now)
		rc = printf("%s is %s\n", id, client_text(now, "state")) < 0;
	cJSON_Delete(in);
	cJSON_Delete(now);
	wasd_free(body);
	wasd_free(url);
	return rc;
}

static int run_show(int argc, char **argv)
{
	return act(&client_command_sweep_show, argc, argv, NULL);
}

static int run_pause(int argc, char **argv)
{
	return act(&client_command_sweep_pause, argc, argv, "pause");
}

static int run_resume(int argc, char **argv)
{
	return act(&client_command_sweep_resume, argc, argv, "resume");
}

static int run_cancel(int argc, char **argv)
{
	return act(&client_command_sweep_cancel, argc, argv, "cancel");
}

const struct client_command client_command_sweep_show = {
	.name = "sweep show",
	.arguments = "SWEEP",
	.summary = "show a sweep and its trials",
	.text =
		"Shows a sweep and its trials, the best first: the best value of the metric so far, the epoch, the job and the "
		"values of the space. " SWEEP_TEXT,
	.rows = list_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@sweeps",
	.example = "wasd sweep show rates",
	.run = run_show,
};

static const struct client_row act_rows[] = {
	{"--reason", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, reason), "reason for the audit log", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_sweep_pause = {
	.name = "sweep pause",
	.arguments = "SWEEP",
	.summary = "pause a sweep with its trials",
	.text = "Pauses a sweep: trials in training store a checkpoint at once, those in the queue are held. " SWEEP_TEXT,
	.rows = act_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@sweeps",
	.example = "wasd sweep pause rates",
	.run = run_pause,
};
const struct client_command client_command_sweep_resume = {
	.name = "sweep resume",
	.arguments = "SWEEP",
	.summary = "go on with a paused sweep",
	.text = "Goes on with a paused sweep; its ranking is the same as without the pause. " SWEEP_TEXT,
	.rows = act_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@sweeps",
	.example = "wasd sweep resume rates",
	.run = run_resume,
};
const struct client_command client_command_sweep_cancel = {
	.name = "sweep cancel",
	.arguments = "SWEEP",
	.summary = "cancel a sweep with its trials",
	.text = "Cancels a sweep and all its trials that have not ended. " SWEEP_TEXT,
	.rows = act_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@sweeps",
	.example = "wasd sweep cancel rates --reason \"seen enough\"",
	.run = run_cancel,
};
