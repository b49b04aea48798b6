/* webhook.c - `wasd webhook add|ls|rm|test`: URLs that get the daemon's events. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <string.h>

struct options {
	struct client_list words, events;
	const char *secret, *url;
	bool json;
};

static int run_add(int argc, char **argv)
{
	const struct client_command *c = &client_command_webhook_add;
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n || !o.events.n)
		return client_misused(c, o.words.n ? "give --event" : "give a URL");
	cJSON *in = cJSON_CreateObject(), *events = cJSON_AddArrayToObject(in, "events");
	cJSON_AddStringToObject(in, "url", o.words.items[0]);
	for (size_t i = 0; i < o.events.n; i++)
		cJSON_AddItemToArray(events, cJSON_CreateString(o.events.items[i]));
	if (o.secret)
		cJSON_AddStringToObject(in, "secret", o.secret);
	char *body = wasd_json_print(in), *url = client_url(o.url);
	cJSON *w = body && url ? client_json(c->name, url, "POST /v1/webhooks", body) : NULL;
	if (w && o.json) {
		client_print_json(w);
	} else if (w) {
		printf("%s\n", client_text(w, "id"));
		if (!o.secret)
			printf("secret %s (it is not shown again)\n", client_text(w, "secret"));
	}
	rc = w ? CLIENT_OK : CLIENT_FAILED;
	cJSON_Delete(w);
	cJSON_Delete(in);
	wasd_free(url);
	wasd_free(body);
	return rc;
}

static const struct client_row add_rows[] = {
	{"--event", 'e', "NAME", CLIENT_LIST, offsetof(struct options, events),
     "an event type (job.state), a topic (jobs) or * for all; may be repeated",
     "job.state job.checkpoint sweep.state deployment.state deployment.mode jobs sweeps datasets deployments checkpoints models system *"},
	{"--secret", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, secret),
     "key of the signature, 8 to 200 characters (default: the daemon makes one and shows it once)", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_webhook_add = {
	.name = "webhook add",
	.arguments = "URL",
	.summary = "send events to a URL",
	.text =
		"Has the daemon POST its events to a URL, signed with HMAC-SHA256, in order and at least once: an event that is not "
		"answered with 2xx is sent again after a growing wait.",
	.rows = add_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.example = "wasd webhook add http://127.0.0.1:9000/wasd --event job.state",
	.run = run_add,
};

static int run_ls(int argc, char **argv)
{
	const struct client_command *c = &client_command_webhook_ls;
	struct options o = {0};
	const cJSON *w;
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	cJSON *list = url ? client_json(c->name, url, "GET /v1/webhooks", NULL) : NULL;
	if (list && o.json) {
		client_print_json(list);
	} else if (list) {
		printf("%-31s %-9s %8s  %s\n", "ID", "STATE", "FAILURES", "URL");
		cJSON_ArrayForEach(w, wasd_json_get(list, "items")) {
			char failures[CLIENT_NUMBER];
			printf("%-31s %-9s %8s  ", client_text(w, "id"), client_text(w, "state"),
			       client_number(w, "failures", 1, 0, failures));
			client_say(client_text(w, "url"));
			putchar('\n');
		}
	}
	rc = list ? CLIENT_OK : CLIENT_FAILED;
	cJSON_Delete(list);
	wasd_free(url);
	return rc;
}

static const struct client_row plain_rows[] = {CLIENT_ROW_JSON(struct options), CLIENT_ROW_URL(struct options), {0}};
const struct client_command client_command_webhook_ls = {
	.name = "webhook ls",
	.arguments = "",
	.summary = "list webhooks",
	.text = "Lists the URLs that get events, and whether the last attempts failed.",
	.rows = plain_rows,
	.example = "wasd webhook ls",
	.run = run_ls,
};

/* Asks METHOD /v1/webhooks/ID followed by `verb` and prints the answer with `say`. */
static int ask(const struct client_command *c, int argc, char **argv, const char *method, const char *verb,
               int (*say)(const cJSON *answer, const char *id))
{
	struct options o = {0};
	char head[160];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n || !client_word_ok(o.words.items[0]))
		return client_misused(c, "give the id of a webhook; wasd webhook ls lists them");
	char *url = client_url(o.url);
	snprintf(head, sizeof head, "%s /v1/webhooks/%.100s%s", method, o.words.items[0], verb);
	cJSON *answer = url ? client_json(c->name, url, head, NULL) : NULL;
	rc = answer ? CLIENT_OK : CLIENT_FAILED;
	if (answer && o.json)
		client_print_json(answer);
	else if (answer)
		rc = say(answer, o.words.items[0]);
	cJSON_Delete(answer);
	wasd_free(url);
	return rc;
}

static int say_removed(const cJSON *answer, const char *id)
{
	(void)answer;
	printf("%s is removed\n", id);
	return CLIENT_OK;
}

static int run_rm(int argc, char **argv)
{
	return ask(&client_command_webhook_rm, argc, argv, "DELETE", "", say_removed);
}

const struct client_command client_command_webhook_rm = {
	.name = "webhook rm",
	.arguments = "ID",
	.summary = "remove a webhook",
	.text = "Sends no more events to this URL and forgets the deliveries.",
	.rows = plain_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.example = "wasd webhook rm hook_01J5Z8V1E7Q2M4N6P8R0S2T4V6",
	.run = run_rm,
};

static int say_tested(const cJSON *answer, const char *id)
{
	char status[CLIENT_NUMBER], ms[CLIENT_NUMBER];
	bool ok = cJSON_IsTrue(wasd_json_get(answer, "delivered"));
	printf("%s: %s, status %s, %s ms\n", id, ok ? "delivered" : client_text(answer, "error"),
	       client_number(answer, "status", 1, 0, status), client_number(answer, "ms", 1, 0, ms));
	return ok ? CLIENT_OK : CLIENT_FAILED;
}

static int run_test(int argc, char **argv)
{
	return ask(&client_command_webhook_test, argc, argv, "POST", ":test", say_tested);
}

const struct client_command client_command_webhook_test = {
	.name = "webhook test",
	.arguments = "ID",
	.summary = "send a test event",
	.text = "Sends an event webhook.test at once and says how it was answered.",
	.rows = plain_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.statuses = "0 delivered, 1 not delivered, 2 wrong usage",
	.example = "wasd webhook test hook_01J5Z8V1E7Q2M4N6P8R0S2T4V6",
	.run = run_test,
};
