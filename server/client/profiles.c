/* profiles.c - `wasd profiles`: prints the profiles of a checkpoint as a table, or requests a search for another. */
#include "client/client.h"
#include "client/commands.h"

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/mode.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAW_MAX = 200 << 10, WAIT_S = CLIENT_PATIENCE_S - 10 };

struct options {
	const char *checkpoint, *macs, *latency_us, *draw, *name, *dataset, *evaluations, *url;
	bool wait;
};

static bool check_options(void *options)
{
	struct options *o = options;
	const char *fault = NULL;
	int desires = (o->macs != NULL) + (o->latency_us != NULL) + (o->draw != NULL);
	if (!o->checkpoint)
		fault = "give the id of a checkpoint";
	else if (!client_word_ok(o->checkpoint))
		fault = "the argument is not the id of a checkpoint";
	else if (desires > 1)
		fault = "give only one of --macs, --latency-us, --draw";
	else if (!desires && (o->name || o->dataset || o->evaluations || o->wait))
		fault = "give one of --macs, --latency-us, --draw";
	if (fault)
		fprintf(stderr, "wasd profiles: %s\n", fault);
	return !fault;
}

/* ---- the request; the daemon checks its values ---- */

static bool add_number(cJSON *o, const char *option, const char *member, const char *text)
{
	char *end;
	double v = text ? strtod(text, &end) : 0;
	if (!text || (*text && !*end && isfinite(v) && cJSON_AddNumberToObject(o, member, v)))
		return true;
	fprintf(stderr, "wasd profiles: %s %s is not a number\n", option, text);
	return false;
}

static bool add_draw(cJSON *o, const char *path)
{
	char *text = NULL;
	size_t len = 0;
	struct wasd_err err = {0};
	cJSON *draw = NULL;
	enum wasd_status s = wasd_file_read(strcmp(path, "-") ? path : "/dev/stdin", DRAW_MAX, &text, &len, &err);
	if (s == WASD_OK)
		s = wasd_json_parse(text, len, WASD_JSON_REQUEST, &draw, &err);
	if (s == WASD_OK && !cJSON_AddItemToObject(o, "draw", draw))
		s = wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (s != WASD_OK)
		fprintf(stderr, "wasd profiles: %s: %s\n", path, err.msg);
	wasd_free(text);
	return s == WASD_OK;
}

static char *request(const struct options *o)
{
	cJSON *j = cJSON_CreateObject();
	const char *desire = o->macs ? "macs" : o->latency_us ? "latency" : "draw";
	bool ok = j && cJSON_AddStringToObject(j, "desire", desire) && add_number(j, "--macs", "budget", o->macs) &&
	          add_number(j, "--latency-us", "budget_us", o->latency_us) &&
	          add_number(j, "--evaluations", "evaluations", o->evaluations) && (!o->draw || add_draw(j, o->draw)) &&
	          (!o->name || cJSON_AddStringToObject(j, "name", o->name)) &&
	          (!o->dataset || cJSON_AddStringToObject(j, "dataset", o->dataset));
	char *text = ok ? wasd_json_print(j) : NULL;
	cJSON_Delete(j);
	return text;
}

/* ---- the table ---- */

static void print_head(void)
{
	printf("%-24s %-9s %14s %7s %9s %9s %8s\n", "MODE", "STATE", "MACS", "SHARE %", "IMG/S 1", "IMG/S 64", "VAL ACC");
}

static void print_row(const char *mode, const char *state, const cJSON *o)
{
	char macs[CLIENT_NUMBER], share[CLIENT_NUMBER], one[CLIENT_NUMBER], many[CLIENT_NUMBER], acc[CLIENT_NUMBER];
	printf("%-24s %-9s %14s %7s %9s %9s %8s\n", mode, state, client_number(o, "macs", 1, 0, macs),
	       client_number(o, "macs_share", 100, 1, share), client_number(o, "images_per_s_1", 1, 0, one),
	       client_number(o, "images_per_s_64", 1, 0, many), client_number(o, "val_acc", 1, 4, acc));
}

static void print_profile(const cJSON *p)
{
	const char *name = "?", *state = "?";
	char mode[WASD_MODE_LEN];
	wasd_json_str(p, "name", &name);
	wasd_json_str(p, "state", &state);
	wasd_mode_join(WASD_FAMILY_DRAW, name, mode);
	print_row(mode, state, p);
}

static int list(const char *url, const char *checkpoint)
{
	char ask[200];
	snprintf(ask, sizeof ask, "GET /v1/checkpoints/%s/profiles", checkpoint);
	cJSON *o = client_json("profiles", url, ask, NULL), *aom = cJSON_GetObjectItemCaseSensitive(o, "aom");
	const cJSON *p;
	if (!o)
		return 1;
	print_head();
	if (cJSON_IsObject(aom)) {
		cJSON_AddNumberToObject(aom, "macs_share", 1);
		print_row("aom", "ready", aom);
	}
	cJSON_ArrayForEach(p, wasd_json_get(o, "items"))
		print_profile(p);
	cJSON_Delete(o);
	return 0;
}

/* ---- the search ---- */

/* Frees p. */
static int tell(cJSON *p)
{
	const char *state = "", *name = "", *message = NULL;
	wasd_json_str(p, "state", &state);
	wasd_json_str(p, "name", &name);
	wasd_json_str(p, "message", &message);
	if (message) {
		fprintf(stderr, "wasd profiles: %s: %s\n", name, message);
	} else {
		print_head();
		print_profile(p);
	}
	cJSON_Delete(p);
	return message ? 1 : 0;
}

static int ask(const char *url, const struct options *o)
{
	char line[300];
	char *body = request(o);
	snprintf(line, sizeof line, "POST /v1/checkpoints/%s/profiles", o->checkpoint);
	cJSON *p = body ? client_json("profiles", url, line, body) : NULL;
	wasd_free(body);
	for (const char *state, *id; p && o->wait && wasd_json_str(p, "state", &state) && wasd_json_str(p, "id", &id) &&
	                             strcmp(state, "ready") && strcmp(state, "failed");) {
		snprintf(line, sizeof line, "GET /v1/checkpoints/%s/profiles/%.60s?wait=%ds", o->checkpoint, id, WAIT_S);
		cJSON_Delete(p);
		p = client_json("profiles", url, line, NULL);
	}
	return p ? tell(p) : 1;
}

static int run_profiles(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_profiles, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	rc = !url ? 1 : o.macs || o.latency_us || o.draw ? ask(url, &o) : list(url, o.checkpoint);
	wasd_free(url);
	return rc;
}

static const struct client_row profiles_rows[] = {
	{"--macs", 0, "SHARE", CLIENT_VALUE, offsetof(struct options, macs),
     "best accuracy with at most this share of the plain multiply-adds, e.g. 0.7", NULL},
	{"--latency-us", 0, "N", CLIENT_VALUE, offsetof(struct options, latency_us),
     "best accuracy with at most N microseconds for one image", NULL},
	{"--draw", 0, "FILE", CLIENT_VALUE, offsetof(struct options, draw),
     "the draw in FILE, a JSON array; - reads standard input", "@files"},
	{"--name", 0, "NAME", CLIENT_VALUE, offsetof(struct options, name),
     "name of the mode, dom:NAME (default: derived from the option above)", NULL},
	{"--evaluations", 0, "N", CLIENT_VALUE, offsetof(struct options, evaluations), "number of draws to evaluate", NULL},
	{"--dataset", 0, "NAME", CLIENT_VALUE, offsetof(struct options, dataset),
     "data set to evaluate on (default: the data set of the checkpoint's job)", "@datasets"},
	{"--wait", 0, NULL, CLIENT_FLAG, offsetof(struct options, wait),
     "wait for the result; exit status 1 if the search fails", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_profiles = {
	.name = "profiles",
	.arguments = "CHECKPOINT",
	.summary = "list the profiles of a checkpoint, or search for another",
	.text =
		"Lists the profiles of a checkpoint (ckpt_...). With --macs, --latency-us or --draw, searches for a new profile on validation images.",
	.words_at = offsetof(struct options, checkpoint),
	.max_words = 1,
	.words_plain = true,
	.example = "wasd profiles ckpt_01J8ZQ --macs 0.7 --name light --wait",
	.run = run_profiles,
	.rows = profiles_rows,
};
