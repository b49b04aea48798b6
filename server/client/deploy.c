/* deploy.c - `wasd deploy`: creates a deployment and waits until it is ready. `wasd undeploy`: ends one. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"
#include "client/wish.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_S = CLIENT_PATIENCE_S - 10, WORD = 120, UPDATE_POLL_US = 200000 };

struct options {
	const char *source, *name, *mode, *batching, *follow, *reason, *url;
	struct client_wish wish;
	bool update, wait, json;
	/* SOURCE in parts: the kind is the member of the request's source that has the id. */
	const char *kind, *alias;
	char id[WORD];
	int64_t version; /* 0: none */
};

static bool starts(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

/* Fills kind, id, alias, version and follow from SOURCE. Returns what is wrong, or NULL. */
static const char *split_source(struct options *o)
{
	size_t n = strcspn(o->source, "@:");
	const char *after = o->source[n] ? o->source + n + 1 : NULL;
	bool version = o->source[n] == ':';
	char *end = o->id; /* the end of an empty number */
	if (n >= sizeof o->id)
		return "SOURCE is too long";
	snprintf(o->id, sizeof o->id, "%.*s", (int)n, o->source);
	bool follows = !after || !strcmp(after, "best") || !strcmp(after, "latest");
	o->kind = starts(o->id, "ckpt_") ? "checkpoint" : starts(o->id, "job_") || (follows && !version) ? "job" : "model";
	bool model = !strcmp(o->kind, "model"), job = !strcmp(o->kind, "job");
	if (!*o->id || (!job && !client_word_ok(o->id)) || (after && !*after) || (model && !after) || (!model && version) ||
	    (after && !model && !job))
		return "SOURCE must be ckpt_..., JOB, JOB@best, JOB@latest, MODEL@ALIAS or MODEL:VERSION";
	if (o->follow && !job)
		return "only a job can be followed to its best or latest checkpoint";
	if (job && after && o->follow && strcmp(after, o->follow))
		return "SOURCE and --follow disagree";
	if (job && after)
		o->follow = after;
	if (version)
		o->version = strtoll(after, &end, 10);
	if (version && (*end || o->version < 1))
		return "the version of a model is a whole number from 1";
	if (model && !version)
		o->alias = after;
	return NULL;
}

static bool check_options(void *options)
{
	struct options *o = options;
	const char *fault = NULL;
	if (!o->source)
		fault = "give a checkpoint, a job or a model";
	else if (!o->name || !client_word_ok(o->name))
		fault = o->name ? "--name is not a valid name" : "give the deployment a --name";
	else if (o->mode && client_wishes(&o->wish))
		fault = "give --mode or a wish, not both";
	else if (o->reason && !o->update)
		fault = "--reason belongs to --update";
	else
		fault = split_source(o);
	if (fault)
		fprintf(stderr, "wasd deploy: %s\n", fault);
	return !fault;
}

/* ---- the request; the daemon checks its values ---- */

/* "MAX" or "MAX,DELAY_US". */
static bool add_batching(cJSON *o, const char *text)
{
	char *end;
	long max = strtol(text, &end, 10), delay = 0;
	bool ok = end > text, both = ok && *end == ',';
	if (both) {
		const char *from = end + 1;
		delay = strtol(from, &end, 10);
		ok = end > from;
	}
	if (!ok || *end) {
		fprintf(stderr, "wasd deploy: --batching %s is not MAX or MAX,DELAY_US\n", text);
		return false;
	}
	cJSON *b = cJSON_AddObjectToObject(o, "batching");
	return b && cJSON_AddNumberToObject(b, "max_batch", (double)max) &&
	       (!both || cJSON_AddNumberToObject(b, "max_queue_delay_us", (double)delay));
}

static char *request(const struct options *o)
{
	cJSON *j = cJSON_CreateObject(), *source = cJSON_AddObjectToObject(j, "source");
	bool ok = source && cJSON_AddStringToObject(source, o->kind, o->id) &&
	          (!o->follow || cJSON_AddStringToObject(source, "follow", o->follow)) &&
	          (!o->alias || cJSON_AddStringToObject(source, "alias", o->alias)) &&
	          (!o->version || cJSON_AddNumberToObject(source, "version", (double)o->version)) &&
	          (o->update || cJSON_AddStringToObject(j, "name", o->name)) &&
	          (!o->reason || cJSON_AddStringToObject(j, "reason", o->reason)) &&
	          (!o->mode || cJSON_AddStringToObject(j, "mode", o->mode)) && client_wish_add("deploy", &o->wish, j) &&
	          (!o->batching || add_batching(j, o->batching));
	char *text = ok ? wasd_json_print(j) : NULL;
	cJSON_Delete(j);
	return text;
}

/* ---- the wait ---- */

static bool updating(const cJSON *d)
{
	return !strcmp(client_text(wasd_json_get(d, "update"), "state"), "loading");
}

static bool loading(const cJSON *d)
{
	const char *state = client_text(d, "state");
	return !strcmp(state, "created") || !strcmp(state, "loading") || !strcmp(state, "warming") || updating(d);
}

/* Asks until it is no longer loading; shows the state and the time on a terminal. Frees d. */
static cJSON *wait_loaded(const char *url, const char *name, cJSON *d)
{
	bool shown = isatty(STDERR_FILENO);
	int64_t began = wasd_mono_us();
	char head[300];
	snprintf(head, sizeof head, "GET /v1/deployments/%.100s?wait=%ds", name, shown ? 1 : WAIT_S);
	while (d && loading(d)) {
		if (shown)
			fprintf(stderr, "\r%s: %s, %.0f s ", name, updating(d) ? "updating" : client_text(d, "state"),
			        (double)(wasd_mono_us() - began) / 1e6);
		if (updating(d))
			usleep(UPDATE_POLL_US); /* it is ready, so the daemon answers at once */
		cJSON_Delete(d);
		d = client_json("deploy", url, head, NULL);
	}
	if (shown)
		fprintf(stderr, "\r%*s\r", (int)strlen(name) + 24, "");
	return d;
}

static void tell(const cJSON *d, const char *url)
{
	char generation[CLIENT_NUMBER], version[CLIENT_NUMBER];
	const char *name = client_text(d, "name");
	bool scheme = starts(url, "http://");
	printf("%s is %s: mode %s, generation %s, version %s, checkpoint %s\n", name, client_text(d, "state"),
	       client_text(d, "mode"), client_number(d, "generation", 1, 0, generation),
	       client_number(d, "version", 1, 0, version), client_text(d, "checkpoint"));
	if (updating(d))
		printf("it answers until checkpoint %s is loaded\n", client_text(wasd_json_get(d, "update"), "checkpoint"));
	printf("try: curl -T image.png %s%.*s/v1/deployments/%s/classify\n", scheme ? "" : "http://",
	       (int)strcspn(url + (scheme ? 7 : 0), "/\n") + (scheme ? 7 : 0), url, name);
}

/* Frees d. */
static int report(cJSON *d, const struct options *o, const char *url)
{
	int rc = CLIENT_OK;
	if (!d)
		return CLIENT_FAILED;
	const cJSON *update = wasd_json_get(d, "update");
	if (!strcmp(client_text(d, "state"), "failed")) {
		fprintf(stderr, "wasd deploy: %s could not be loaded: %s\n", o->name, client_text(d, "message"));
		rc = CLIENT_FAILED;
	} else if (o->wait && !strcmp(client_text(update, "state"), "failed")) {
		fprintf(stderr, "wasd deploy: %s still serves %s: %s\n", o->name, client_text(d, "checkpoint"),
		        client_text(update, "error"));
		rc = CLIENT_FAILED;
	}
	if (o->json && client_print_json(d))
		rc = CLIENT_FAILED;
	if (!o->json && rc == CLIENT_OK)
		tell(d, url);
	cJSON_Delete(d);
	return rc;
}

static int run_deploy(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_deploy, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url), head[200] = "POST /v1/deployments", id[CLIENT_ID];
	if (url && !strcmp(o.kind, "job")) {
		if (!client_job_id("deploy", url, o.id, id)) {
			wasd_free(url);
			return CLIENT_FAILED;
		}
		snprintf(o.id, sizeof o.id, "%s", id);
	}
	char *body = request(&o);
	if (o.update)
		snprintf(head, sizeof head, "PATCH /v1/deployments/%.100s", o.name);
	cJSON *d = url && body ? client_json("deploy", url, head, body) : NULL;
	if (d && o.wait)
		d = wait_loaded(url, o.name, d);
	rc = body ? report(d, &o, url) : CLIENT_USAGE;
	wasd_free(body);
	wasd_free(url);
	return rc;
}

static const struct client_row deploy_rows[] = {
	{"--name", 0, "NAME", CLIENT_VALUE, offsetof(struct options, name), "name of the deployment, also under /v2", NULL},
	{"--mode", 0, "MODE", CLIENT_VALUE, offsetof(struct options, mode),
     "first mode: aom (default), dom, slim or FAMILY:NAME", "aom dom slim"},
	CLIENT_ROWS_WISH(struct options, "begin in"),
	{"--batching", 0, "MAX[,DELAY]", CLIENT_VALUE, offsetof(struct options, batching),
     "compute up to MAX images of several requests together; a request waits at most DELAY microseconds for others",
     NULL},
	{"--follow", 0, "best|latest", CLIENT_VALUE, offsetof(struct options, follow), "as JOB@best or JOB@latest",
     "best latest"},
	{"--update", 0, NULL, CLIENT_FLAG, offsetof(struct options, update),
     "the deployment is there: swap it to SOURCE; the old one answers until the new one is loaded", NULL},
	{"--reason", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, reason), "with --update: reason for the audit log",
     NULL},
	{"--wait", 0, NULL, CLIENT_FLAG, offsetof(struct options, wait), "wait until it is ready, or the update is served",
     NULL},
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json), "print the deployment as the daemon describes it",
     NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_deploy = {
	.name = "deploy",
	.arguments = "SOURCE",
	.summary = "serve a checkpoint or a model, or follow a job",
	.text =
		"Serves a checkpoint under a name. SOURCE is a checkpoint (ckpt_...); a job to follow: JOB or JOB@best loads each new best checkpoint of it, JOB@latest each new one; or a registered model: MODEL@ALIAS, the version that the alias names now and later, or MODEL:N, its version N. With a wish in place of --mode (several are bounds that all hold) the mode is chosen by what was measured of the modes of the checkpoint, once. " CLIENT_JOB_TEXT,
	.words_at = offsetof(struct options, source),
	.max_words = 1,
	.words_plain = true,
	.offers = "@jobs",
	.statuses = "0 accepted (with --wait: served), 1 refused or failed to load, 2 wrong usage",
	.example = "wasd deploy lenet-digits@best --name reader --wait",
	.run = run_deploy,
	.rows = deploy_rows,
};

/* ---- undeploy ---- */

static bool check_undeploy(void *options)
{
	struct options *o = options;
	if (!o->name || !client_word_ok(o->name))
		fprintf(stderr, "wasd undeploy: %s\n", o->name ? "that is not a valid name" : "give the name of a deployment");
	return o->name && client_word_ok(o->name);
}

static int run_undeploy(int argc, char **argv)
{
	struct options o = {0};
	char head[200];
	int rc = client_start(&client_command_undeploy, argc, argv, check_undeploy, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	snprintf(head, sizeof head, "DELETE /v1/deployments/%.100s", o.name);
	cJSON *done = url ? client_json("undeploy", url, head, NULL) : NULL;
	if (done)
		printf(o.json ? "{\"name\":\"%s\",\"state\":\"%s\"}\n" : "%s is %s\n", o.name,
		       cJSON_IsNull(done) ? "gone" : "draining");
	cJSON_Delete(done);
	wasd_free(url);
	return done ? CLIENT_OK : CLIENT_FAILED;
}

static const struct client_row undeploy_rows[] = {
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json),
     "print {\"name\":NAME,\"state\":\"gone\"}, or \"draining\" while requests are in flight", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_undeploy = {
	.name = "undeploy",
	.arguments = "NAME",
	.summary = "end a deployment",
	.text = "Ends a deployment; requests in flight are still answered. Its checkpoint stays.",
	.words_at = offsetof(struct options, name),
	.max_words = 1,
	.words_plain = true,
	.offers = "@deployments",
	.statuses = "0 ended, 1 refused, 2 wrong usage",
	.example = "wasd undeploy reader",
	.run = run_undeploy,
	.rows = undeploy_rows,
};
