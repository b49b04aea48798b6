/* models.c - `wasd models`, `wasd models add|alias`: the registry. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdlib.h>
#include <string.h>

struct options {
	struct client_list words;
	const char *alias, *note, *reason, *url;
	bool json;
};

static int run_list(int argc, char **argv)
{
	const struct client_command *c = &client_command_models;
	struct options o = {0};
	const cJSON *m, *a;
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	cJSON *all = url ? client_all(c->name, url, "/v1/models", "", 0) : NULL;
	if (all && o.json) {
		client_print_items(all);
	} else if (all) {
		printf("%-24s %8s  %s\n", "NAME", "VERSIONS", "ALIASES");
		cJSON_ArrayForEach(m, all) {
			char latest[CLIENT_NUMBER];
			client_cell(client_text(m, "name"), 24);
			printf("%8s  ", client_number(m, "latest_version", 1, 0, latest));
			cJSON_ArrayForEach(a, wasd_json_get(m, "aliases"))
				printf("%s=%.0f%s", a->string, cJSON_GetNumberValue(a), a->next ? " " : "");
			putchar('\n');
		}
		cJSON_Delete(all);
	}
	wasd_free(url);
	return all ? CLIENT_OK : CLIENT_FAILED;
}

static const struct client_row list_rows[] = {CLIENT_ROW_JSON(struct options), CLIENT_ROW_URL(struct options), {0}};
const struct client_command client_command_models = {
	.name = "models",
	.arguments = "",
	.summary = "list the registered models",
	.text = "Lists the models of the registry: the number of the latest version, and the aliases with their versions.",
	.rows = list_rows,
	.example = "wasd models",
	.run = run_list,
};

/* ---- add ---- */

/* Registers the name, unless it is there. */
static bool have_name(const struct client_command *c, const char *url, const char *name)
{
	char head[160], where[CLIENT_WHERE];
	int status = 0;
	snprintf(head, sizeof head, "GET /v1/models/%.100s", name);
	int fd = client_send(url, &(struct client_call){.head = head}, where);
	if (fd < 0)
		return false;
	cJSON_Delete(client_receive(fd, &status));
	if (status == 200)
		return true;
	cJSON *in = cJSON_CreateObject();
	cJSON_AddStringToObject(in, "name", name);
	char *body = wasd_json_print(in);
	cJSON *made = body ? client_json(c->name, url, "POST /v1/models", body) : NULL;
	bool ok = made != NULL;
	cJSON_Delete(made);
	cJSON_Delete(in);
	wasd_free(body);
	return ok;
}

/* {"checkpoint"} or {"job","follow"} of CHECKPOINT, JOB, JOB@best or JOB@latest. NULL after a message. */
static cJSON *source_of(const struct client_command *c, const struct options *o, const char *url)
{
	const char *word = o->words.items[1], *at = strrchr(word, '@');
	bool follow = at && (!strcmp(at, "@best") || !strcmp(at, "@latest"));
	char *job = follow ? wasd_strndup(word, (size_t)(at - word)) : wasd_strdup(word), id[CLIENT_ID];
	cJSON *in = cJSON_CreateObject();
	bool ok = job && in;
	if (ok && !strncmp(word, "ckpt_", 5)) {
		cJSON_AddStringToObject(in, "checkpoint", word);
	} else if (ok && (ok = client_job_id(c->name, url, job, id))) {
		cJSON_AddStringToObject(in, "job", id);
		cJSON_AddStringToObject(in, "follow", follow ? at + 1 : "best");
	}
	if (o->alias)
		cJSON_AddStringToObject(in, "alias", o->alias);
	if (o->note)
		cJSON_AddStringToObject(in, "note", o->note);
	wasd_free(job);
	if (ok)
		return in;
	cJSON_Delete(in);
	return NULL;
}

static int run_add(int argc, char **argv)
{
	const struct client_command *c = &client_command_models_add;
	struct options o = {0};
	char head[160], number[CLIENT_NUMBER];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (o.words.n < 2)
		return client_misused(c, "give a name, and a job or a checkpoint");
	if (!client_word_ok(o.words.items[0]))
		return client_misused(c, "%s is not a valid name", o.words.items[0]);
	char *url = client_url(o.url);
	cJSON *in = url ? source_of(c, &o, url) : NULL, *made = NULL;
	char *body = in && have_name(c, url, o.words.items[0]) ? wasd_json_print(in) : NULL;
	snprintf(head, sizeof head, "POST /v1/models/%.100s/versions", o.words.items[0]);
	if (body)
		made = client_json(c->name, url, head, body);
	if (made && o.json)
		client_print_json(made);
	else if (made)
		printf("%s, version %s: %s%s%s\n", o.words.items[0], client_number(made, "version", 1, 0, number),
		       client_text(made, "checkpoint"), o.alias ? ", alias " : "", o.alias ? o.alias : "");
	cJSON_Delete(in);
	cJSON_Delete(made);
	wasd_free(body);
	wasd_free(url);
	return made ? CLIENT_OK : CLIENT_FAILED;
}

static const struct client_row add_rows[] = {
	{"--alias", 0, "ALIAS", CLIENT_VALUE, offsetof(struct options, alias), "set this alias to the new version", NULL},
	{"--note", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, note), "a note on the version", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_models_add = {
	.name = "models add",
	.arguments = "NAME JOB|CHECKPOINT",
	.summary = "add a version to a registered model",
	.text =
		"Adds a version to the model NAME, which is registered if it is new: a checkpoint, or the best one of a job (JOB or "
		"JOB@best; JOB@latest). " CLIENT_JOB_TEXT,
	.rows = add_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 2,
	.offers = "@models @jobs",
	.example = "wasd models add digits lenet-digits --alias champion",
	.run = run_add,
};

/* ---- alias ---- */

static int run_alias(int argc, char **argv)
{
	const struct client_command *c = &client_command_models_alias;
	struct options o = {0};
	char head[300];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (o.words.n < 3)
		return client_misused(c, "give a model, an alias and a version");
	const char *name = o.words.items[0], *alias = o.words.items[1], *version = o.words.items[2];
	if (!client_word_ok(name) || !client_word_ok(alias))
		return client_misused(c, "%s is not a valid name", client_word_ok(name) ? alias : name);
	if (!*version || version[strspn(version, "0123456789")] || strlen(version) > 15)
		return client_misused(c, "%s is not the number of a version", version);
	cJSON *in = cJSON_CreateObject(), *done = NULL;
	cJSON_AddNumberToObject(in, "version", strtod(version, NULL));
	if (o.reason)
		cJSON_AddStringToObject(in, "reason", o.reason);
	char *url = client_url(o.url), *body = wasd_json_print(in);
	snprintf(head, sizeof head, "PUT /v1/models/%.100s/aliases/%.100s", name, alias);
	if (url && body)
		done = client_json(c->name, url, head, body);
	if (done && o.json)
		client_print_json(done);
	else if (done)
		printf("%s@%s is version %s\n", name, alias, version);
	cJSON_Delete(in);
	cJSON_Delete(done);
	wasd_free(body);
	wasd_free(url);
	return done ? CLIENT_OK : CLIENT_FAILED;
}

static const struct client_row alias_rows[] = {
	{"--reason", 0, "TEXT", CLIENT_VALUE, offsetof(struct options, reason), "reason for the history of the alias",
     NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_models_alias = {
	.name = "models alias",
	.arguments = "NAME ALIAS VERSION",
	.summary = "set or move an alias",
	.text =
		"Sets an alias of a model, or moves it to another version. Deployments that follow it load that version without "
		"interruption.",
	.rows = alias_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 3,
	.offers = "@models",
	.example = "wasd models alias digits champion 2 --reason \"better on small digits\"",
	.run = run_alias,
};
