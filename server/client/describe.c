/* describe.c - `wasd describe`: a network layer by layer, which the engine lists without a daemon; or what the weights
 * of a job's checkpoint are. A word that is no network of the engine's table is a job. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"
#include "config.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 250, UNKNOWN_NETWORK = 4 /* of wasd-engine describe --or-other */ };

struct options {
	const char *what, *input, *classes, *model, *checkpoint, *url;
	bool networks, json;
};

/* ---- networks ---- */

/* Runs the engine with the same arguments. Returns its exit status. */
static int ask_engine(int argc, char **argv)
{
	char engine[CONFIG_TEXT], command[] = "describe", other[] = "--or-other";
	char *args[ARGUMENTS_MAX + 4] = {engine, command, other};
	struct wasd_err err;
	int status = 0;
	if (config_find_engine("", engine, &err) != WASD_OK) {
		fprintf(stderr, "wasd describe: %s\n", err.msg);
		return CLIENT_FAILED;
	}
	for (int i = 0; i < argc; i++)
		args[3 + i] = argv[i];
	fflush(NULL);
	pid_t pid = fork();
	if (!pid) {
		execv(engine, args);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			pid = -1;
	if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 127)
		return WEXITSTATUS(status);
	fprintf(stderr, "wasd describe: %s could not be run\n", engine);
	return CLIENT_FAILED;
}

/* ---- checkpoints ---- */

/* The path of a checkpoint, borrowed from the options or from *job, which the caller frees. NULL after a message. */
static const char *find_checkpoint(const struct options *o, const char *url, cJSON **job)
{
	char id[CLIENT_ID], head[120];
	const char *ckpt;
	if (!strncmp(o->what, "ckpt_", 5))
		return o->what;
	if (!client_job_id("describe", url, o->what, id)) {
		fprintf(stderr, "wasd describe: %.80s is an unknown network, too; wasd describe --networks lists them\n",
		        o->what);
		return NULL;
	}
	snprintf(head, sizeof head, "GET /v1/jobs/%s", id);
	*job = client_json("describe", url, head, NULL);
	if (!*job || o->checkpoint)
		return *job ? o->checkpoint : NULL;
	if (wasd_json_str(wasd_json_get(*job, "best"), "checkpoint", &ckpt))
		return ckpt;
	fprintf(stderr, "wasd describe: job %s has no checkpoint that was evaluated yet\n", id);
	return NULL;
}

static const char *joined(const cJSON *masks, char out[80])
{
	const cJSON *m;
	size_t n = 0;
	out[0] = 0;
	cJSON_ArrayForEach(m, masks)
		if (cJSON_IsString(m) && n < 79)
			n += (size_t)snprintf(out + n, 80 - n, "%s%s", n ? ", " : "", m->valuestring);
	return out;
}

static const char *shape_text(const cJSON *shape, char out[80])
{
	const cJSON *d;
	size_t n = 0;
	out[0] = 0;
	cJSON_ArrayForEach(d, shape)
		if (n < 79)
			n += (size_t)snprintf(out + n, 80 - n, "%s%d", n ? "x" : "", d->valueint);
	return out;
}

static int name_width(const cJSON *layers)
{
	const cJSON *l;
	int most = 5;
	cJSON_ArrayForEach(l, layers) {
		int n = (int)strlen(client_text(l, "name"));
		most = n > most ? n : most;
	}
	return most < 60 ? most : 60;
}

static void print_layer(const cJSON *l, int width)
{
	char text[80], number[4][CLIENT_NUMBER];
	client_cell(client_text(l, "name"), width);
	client_cell(client_text(l, "op"), 7);
	client_cell(shape_text(wasd_json_get(l, "shape"), text), 15);
	printf("%10s %10s %10s %8s  ", client_number(l, "params", 1, 0, number[0]),
	       client_number(l, "weights", 1, 0, number[1]), client_number(l, "alive", 1, 0, number[2]),
	       client_number(l, "share", 100, 1, number[3]));
	client_say(joined(wasd_json_get(l, "masks"), text));
	putchar('\n');
}

static void print_table(const cJSON *o)
{
	const cJSON *layers = wasd_json_get(o, "layers"), *l;
	char number[8][CLIENT_NUMBER];
	int width = name_width(layers);
	client_say(client_text(o, "arch"));
	printf(", checkpoint ");
	client_say(client_text(o, "checkpoint"));
	printf(" of epoch %s\n%s parameters; %s of %s weights are alive (%s %%), %s are zero; %s of %s input values are "
	       "read\n\n",
	       client_number(o, "epoch", 1, 0, number[0]), client_number(o, "params", 1, 0, number[1]),
	       client_number(o, "alive", 1, 0, number[2]), client_number(o, "weights", 1, 0, number[3]),
	       client_number(o, "share", 100, 1, number[4]), client_number(o, "zeros", 1, 0, number[5]),
	       client_number(o, "read", 1, 0, number[6]), client_number(o, "inputs", 1, 0, number[7]));
	printf("%-*s %-7s %-15s %10s %10s %10s %8s  %s\n", width, "LAYER", "WHAT", "SHAPE", "PARAMETERS", "WEIGHTS",
	       "ALIVE", "SHARE, %", "MASK");
	cJSON_ArrayForEach(l, layers)
		print_layer(l, width);
}

/* Adds what the checkpoint is; takes it. */
static void add_origin(cJSON *found, cJSON *checkpoint)
{
	static const char *const members[] = {"job", "epoch", "step"};
	cJSON_AddItemToObject(found, "checkpoint", cJSON_DetachItemFromObjectCaseSensitive(checkpoint, "id"));
	for (size_t i = 0; i < sizeof members / sizeof *members; i++)
		cJSON_AddItemToObject(found, members[i], cJSON_DetachItemFromObjectCaseSensitive(checkpoint, members[i]));
	cJSON_Delete(checkpoint);
}

static int describe_checkpoint(const struct options *o, const char *url)
{
	char head[200];
	cJSON *job = NULL, *ckpt = NULL, *found = NULL;
	const char *id = find_checkpoint(o, url, &job);
	if (id && !client_word_ok(id)) {
		fprintf(stderr, "wasd describe: %s is not the id of a checkpoint\n", id);
		id = NULL;
	}
	if (id) {
		snprintf(head, sizeof head, "GET /v1/checkpoints/%.100s", id);
		ckpt = client_json("describe", url, head, NULL);
	}
	if (ckpt) {
		snprintf(head, sizeof head, "GET /v1/checkpoints/%.100s/layers", id);
		found = client_json("describe", url, head, NULL);
	}
	if (found) {
		add_origin(found, ckpt);
		ckpt = NULL;
		if (o->json)
			client_print_json(found);
		else
			print_table(found);
	}
	int rc = found ? CLIENT_OK : CLIENT_FAILED;
	cJSON_Delete(found);
	cJSON_Delete(ckpt);
	cJSON_Delete(job);
	return rc;
}

/* ---- the command ---- */

static bool is_row(const char *arg)
{
	size_t n = strcspn(arg, "=");
	for (const struct client_row *r = client_command_describe.rows; r->name; r++)
		if (strlen(r->name) == n && !strncmp(r->name, arg, n))
			return true;
	return !strcmp(arg, "--help");
}

/* Leaves out the options of a network, such as --head 4096 behind its name: the engine checks them. */
static int without_network_options(int argc, char **argv, char **out)
{
	bool named = false;
	int n = 0;
	for (int i = 0; i < argc; i++) {
		named |= argv[i][0] != '-';
		if (named && !strncmp(argv[i], "--", 2) && !is_row(argv[i]) && !strchr(argv[i], '=') && i + 1 < argc)
			i++;
		else
			out[n++] = argv[i];
	}
	return n;
}

static int run_describe(int argc, char **argv)
{
	const struct client_command *c = &client_command_describe;
	struct options o = {0};
	char *own[ARGUMENTS_MAX];
	if (argc > ARGUMENTS_MAX)
		return client_misused(c, "too many arguments");
	const int n = without_network_options(argc, argv, own);
	int rc = client_parse(c, n, own, &o);
	if (rc >= 0)
		return rc;
	if (!o.what && !o.model && !o.networks)
		return client_misused(c, "give a network, a job or a checkpoint");
	bool stored = o.what && (o.checkpoint || !strncmp(o.what, "job_", 4) || !strncmp(o.what, "ckpt_", 5));
	if (!stored && !o.url && (rc = ask_engine(argc, argv)) != UNKNOWN_NETWORK)
		return rc;
	if (!o.what || o.input || o.classes || o.model)
		return client_misused(c, "--input, --classes and --model are for networks");
	if (n < argc && !stored && !o.url)
		fprintf(stderr, "wasd describe: %.80s is an unknown network; wasd describe --networks lists them\n", o.what);
	if ((rc = client_parse(c, argc, argv, &o)) >= 0) /* now with what was left out: only a network has such options */
		return rc;
	char *url = client_url(o.url);
	rc = url ? describe_checkpoint(&o, url) : CLIENT_FAILED;
	wasd_free(url);
	return rc;
}

static const struct client_row describe_rows[] = {
	{"--input", 0, "CxHxW", CLIENT_VALUE, offsetof(struct options, input),
     "of a network: image shape (default: 3x32x32)", NULL},
	{"--classes", 0, "N", CLIENT_VALUE, offsetof(struct options, classes), "of a network (default: 10)", NULL},
	{"--model", 0, "FILE", CLIENT_VALUE, offsetof(struct options, model),
     "a network in a file: a job spec's \"model\" object, or a whole job spec", "@files"},
	{"--networks", 0, NULL, CLIENT_FLAG, offsetof(struct options, networks),
     "list the networks and their own options, such as --head 4096 of vgg16", NULL},
	{"--checkpoint", 0, "ID", CLIENT_VALUE, offsetof(struct options, checkpoint),
     "of a job: this checkpoint (default: the best)", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_describe = {
	.name = "describe",
	.arguments = "NETWORK|JOB|CHECKPOINT",
	.summary = "list a network, or the weights of a job, layer by layer",
	.text =
		"Of a network, and without a daemon: shapes, parameters, multiply-adds, what is augmented. Of a job or a "
		"checkpoint: how many weights of each layer there are, and how many of them are alive, that is not removed by a "
		"strategy, or without a strategy that removes weights not zero. " CLIENT_JOB_TEXT
		" A word that is the name of a network means the network.",
	.rows = describe_rows,
	.words_plain = true,
	.words_at = offsetof(struct options, what),
	.max_words = 1,
	.offers = "@jobs",
	.example = "wasd describe resnet18\nwasd describe pruned",
	.run = run_describe,
};
