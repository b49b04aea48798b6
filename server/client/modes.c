/* modes.c - `wasd modes`: prints the modes of a checkpoint as a table, makes another, deletes one, or measures them. */
#include "client/client.h"
#include "client/commands.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdio.h>
#include <string.h>

enum { WAIT_S = CLIENT_PATIENCE_S - 10 };

struct options {
	const char *words[2]; /* CHECKPOINT, DESIRE */
	struct client_list set;
	const char *base, *name, *dataset, *remove, *url;
	bool measure, cancel, wait, json;
};

static bool check_options(void *options)
{
	struct options *o = options;
	const char *fault = NULL;
	if (!o->words[0])
		fault = "give the id of a checkpoint";
	else if (!client_word_ok(o->words[0]))
		fault = "the first argument is not the id of a checkpoint";
	else if ((o->words[1] != NULL) + o->measure + o->cancel + (o->remove != NULL) > 1)
		fault = "give one of a desire, --measure, --cancel and --delete";
	else if (o->remove && !client_word_ok(o->remove))
		fault = "--delete takes the name of a mode";
	else if (!o->words[1] && (o->set.n || o->base || o->name))
		fault = "--set, --base and --name belong to a desire";
	else if (!o->words[1] && !o->measure && (o->dataset || o->wait))
		fault = "--dataset and --wait belong to a desire or --measure";
	if (fault)
		fprintf(stderr, "wasd modes: %s\n", fault);
	return !fault;
}

/* ---- the table ---- */

static void print_head(void)
{
	printf("%-24s %-8s %-9s %8s %14s %12s %9s %9s\n", "MODE", "KIND", "STATE", "VAL ACC", "MACS", "BYTES", "US 1",
	       "US 64");
}

static void print_mode(const cJSON *m)
{
	char acc[CLIENT_NUMBER], macs[CLIENT_NUMBER], bytes[CLIENT_NUMBER], one[CLIENT_NUMBER], many[CLIENT_NUMBER];
	client_cell(client_text(m, "name"), 24);
	client_cell(client_text(m, "kind"), 8);
	printf("%-9s %8s %14s %12s %9s %9s\n", client_text(m, "state"), client_number(m, "val_acc", 1, 4, acc),
	       client_number(m, "macs", 1, 0, macs), client_number(m, "bytes", 1, 0, bytes),
	       client_number(m, "us_1", 1, 0, one), client_number(m, "us_64", 1, 0, many));
}

/* Takes j. */
static int print_list(cJSON *j, bool json)
{
	const cJSON *one;
	int rc = !j ? CLIENT_FAILED : json ? client_print_json(j) : CLIENT_OK;
	if (j && !json) {
		print_head();
		cJSON_ArrayForEach(one, wasd_json_get(j, "items"))
			print_mode(one);
	}
	cJSON_Delete(j);
	return rc;
}

static cJSON *list(const char *url, const struct options *o, const char *query)
{
	char head[200];
	snprintf(head, sizeof head, "GET /v1/checkpoints/%.80s/modes%s", o->words[0], query);
	return client_json("modes", url, head, NULL);
}

/* ---- measuring ---- */

static bool add_text(cJSON *o, const char *member, const char *text)
{
	return !text || cJSON_AddStringToObject(o, member, text);
}

static int measure(const char *url, const struct options *o)
{
	char head[200], query[32];
	const char *state = "", *message;
	cJSON *in = cJSON_CreateObject();
	char *body = add_text(in, "dataset", o->dataset) ? wasd_json_print(in) : NULL;
	cJSON_Delete(in);
	snprintf(head, sizeof head, "POST /v1/checkpoints/%.80s/modes:measure", o->words[0]);
	cJSON *j = body ? client_json("modes", url, head, body) : NULL;
	wasd_free(body);
	bool asked = j;
	cJSON_Delete(j);
	if (!asked)
		return CLIENT_FAILED;
	snprintf(query, sizeof query, "?wait=%ds", o->wait ? WAIT_S : 0);
	for (j = list(url, o, query); j && o->wait; j = list(url, o, query)) {
		const cJSON *now = wasd_json_get(j, "measuring");
		if (!wasd_json_str(now, "state", &state) || !strcmp(state, "failed"))
			break;
		cJSON_Delete(j);
	}
	if (o->wait && wasd_json_str(wasd_json_get(j, "measuring"), "message", &message)) {
		fprintf(stderr, "wasd modes: %s\n", message);
		cJSON_Delete(j);
		return CLIENT_FAILED;
	}
	return print_list(j, o->json);
}

/* ---- ending ---- */

static int end(const char *url, const struct options *o)
{
	char head[300];
	if (o->cancel)
		snprintf(head, sizeof head, "DELETE /v1/checkpoints/%.80s/modes:measure", o->words[0]);
	else
		snprintf(head, sizeof head, "DELETE /v1/checkpoints/%.80s/modes/%.100s", o->words[0], o->remove);
	cJSON *done = client_json("modes", url, head, NULL);
	if (done)
		printf("%s\n", o->cancel ? "the measuring has ended" : "deleted");
	cJSON_Delete(done);
	return done ? CLIENT_OK : CLIENT_FAILED;
}

/* ---- making ---- */

/* OPTION=VALUE; the value is JSON, or else a string. */
static bool add_set(cJSON *in, const char *set)
{
	const char *eq = strchr(set, '=');
	char *key = eq && eq > set ? wasd_strndup(set, (size_t)(eq - set)) : NULL;
	cJSON *v = NULL;
	if (!key) {
		fprintf(stderr, "wasd modes: --set %s is not OPTION=VALUE\n", set);
		return false;
	}
	if (wasd_json_parse(eq + 1, strlen(eq + 1), WASD_JSON_REQUEST, &v, NULL) != WASD_OK)
		v = cJSON_CreateString(eq + 1);
	bool ok = v && cJSON_AddItemToObject(in, key, v);
	if (!ok)
		cJSON_Delete(v);
	wasd_free(key);
	return ok;
}

static char *request(const struct options *o)
{
	cJSON *in = cJSON_CreateObject();
	bool ok = add_text(in, "desire", o->words[1]) && add_text(in, "base", o->base) && add_text(in, "name", o->name) &&
	          add_text(in, "dataset", o->dataset);
	for (size_t i = 0; ok && i < o->set.n; i++)
		ok = add_set(in, o->set.items[i]);
	char *text = ok ? wasd_json_print(in) : NULL;
	cJSON_Delete(in);
	return text;
}

/* Frees m. */
static int tell(cJSON *m, bool json)
{
	const char *message = NULL;
	int rc = CLIENT_OK;
	if (wasd_json_str(m, "message", &message)) {
		fprintf(stderr, "wasd modes: %s: %s\n", client_text(m, "name"), message);
		rc = CLIENT_FAILED;
	} else if (json) {
		rc = client_print_json(m);
	} else {
		print_head();
		print_mode(m);
	}
	cJSON_Delete(m);
	return rc;
}

static int make(const char *url, const struct options *o)
{
	char head[300];
	char *body = request(o);
	snprintf(head, sizeof head, "POST /v1/checkpoints/%.80s/modes", o->words[0]);
	cJSON *m = body ? client_json("modes", url, head, body) : NULL;
	wasd_free(body);
	for (const char *state, *name; m && o->wait && wasd_json_str(m, "state", &state) &&
	                               wasd_json_str(m, "name", &name) && strcmp(state, "ready") &&
	                               strcmp(state, "failed");) {
		snprintf(head, sizeof head, "GET /v1/checkpoints/%.80s/modes/%.72s?wait=%ds", o->words[0], name, WAIT_S);
		cJSON_Delete(m);
		m = client_json("modes", url, head, NULL);
	}
	return m ? tell(m, o->json) : CLIENT_FAILED;
}

static int run_modes(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_modes, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	rc = !url                 ? CLIENT_FAILED :
	     o.words[1]           ? make(url, &o) :
	     o.measure            ? measure(url, &o) :
	     o.cancel || o.remove ? end(url, &o) :
	                            print_list(list(url, &o, ""), o.json);
	wasd_free(url);
	return rc;
}

static const struct client_row modes_rows[] = {
	{"--set", 's', "OPTION=VALUE", CLIENT_LIST, offsetof(struct options, set), "an option of the desire", NULL},
	{"--base", 0, "MODE", CLIENT_VALUE, offsetof(struct options, base), "make it of this mode (default: aom)", NULL},
	{"--name", 0, "NAME", CLIENT_VALUE, offsetof(struct options, name),
     "name behind the colon (default: derived from the options)", NULL},
	{"--dataset", 0, "NAME", CLIENT_VALUE, offsetof(struct options, dataset),
     "data set that calibrates and judges (default: that of the checkpoint's job)", "@datasets"},
	{"--measure", 0, NULL, CLIENT_FLAG, offsetof(struct options, measure),
     "measure the checkpoint's own modes as they are served here", NULL},
	{"--cancel", 0, NULL, CLIENT_FLAG, offsetof(struct options, cancel), "end a measuring that waits or runs", NULL},
	{"--delete", 0, "MODE", CLIENT_VALUE, offsetof(struct options, remove),
     "delete a mode that was made, or end its making", NULL},
	{"--wait", 0, NULL, CLIENT_FLAG, offsetof(struct options, wait), "wait for the result; exit status 1 if it fails",
     NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_modes = {
	.name = "modes",
	.arguments = "CHECKPOINT [DESIRE]",
	.summary = "list the modes of a checkpoint, or make another",
	.text =
		"Lists the modes of a checkpoint (ckpt_...) with accuracy, multiply-adds, bytes and microseconds for 1 image and for 64. "
		"With DESIRE (macs, latency, draw, and what else GET /v1/capabilities lists under mode_kinds) makes another mode.",
	.words_at = offsetof(struct options, words),
	.max_words = 2,
	.words_plain = true,
	.statuses = "0 done, 1 refused or failed, 2 wrong usage",
	.example = "wasd modes ckpt_01J8ZQ macs --set budget=0.7 --name light --wait",
	.run = run_modes,
	.rows = modes_rows,
};
