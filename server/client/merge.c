/* merge.c - `wasd merge`: asks for a merge of checkpoints, follows it, and prints the path between them. */
#include "client/client.h"
#include "client/commands.h"
#include "client/record.h"

#include "wasd/json.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
	struct client_list checkpoints;
	const char *weights, *align, *path, *dataset, *url;
	bool bare, json;
};

static bool check_options(void *options)
{
	const struct options *o = options;
	return client_ids_ok("merge", &o->checkpoints, 2, "a checkpoint", "the ids of two checkpoints or more");
}

/* ---- the request; the daemon checks its values ---- */

static bool add_numbers(cJSON *o, const char *text)
{
	cJSON *list = cJSON_AddArrayToObject(o, "weights");
	for (char *end; list; text = end + 1) {
		double v = strtod(text, &end);
		cJSON *one = end == text || !isfinite(v) || (*end && *end != ',') ? NULL : cJSON_CreateNumber(v);
		if (!one || !cJSON_AddItemToArray(list, one)) {
			fprintf(stderr, "wasd merge: --weights are numbers with commas between them, as in 0.5,0.5\n");
			return false;
		}
		if (!*end)
			return true;
	}
	return false;
}

static bool add_path(cJSON *o, const char *text)
{
	char *end;
	long v = strtol(text, &end, 10);
	if (*text && !*end)
		return cJSON_AddNumberToObject(o, "path", (double)v);
	fprintf(stderr, "wasd merge: --path %s is not a number of points\n", text);
	return false;
}

static char *request(const struct options *o)
{
	cJSON *j = cJSON_CreateObject(), *ids = cJSON_CreateStringArray(o->checkpoints.items, (int)o->checkpoints.n);
	bool ok = j && cJSON_AddItemToObject(j, "checkpoints", ids) && (!o->weights || add_numbers(j, o->weights)) &&
	          (!o->align || cJSON_AddStringToObject(j, "align", o->align)) && (!o->path || add_path(j, o->path)) &&
	          (!o->dataset || cJSON_AddStringToObject(j, "dataset", o->dataset)) &&
	          (!o->bare || cJSON_AddBoolToObject(j, "recalibrate", false));
	char *text = ok ? wasd_json_print(j) : NULL;
	cJSON_Delete(j);
	return text;
}

/* ---- what comes of it ---- */

static void print_path(const cJSON *merge)
{
	char barrier[CLIENT_NUMBER], loss[CLIENT_NUMBER], accuracy[CLIENT_NUMBER], lambda[CLIENT_NUMBER];
	const cJSON *p;
	if (!cJSON_GetArraySize(wasd_json_get(merge, "path")))
		return;
	printf("%8s %10s %10s\n", "LAMBDA", "LOSS", "ACCURACY");
	cJSON_ArrayForEach(p, wasd_json_get(merge, "path"))
		printf("%8s %10s %10s\n", client_number(p, "lambda", 1, 3, lambda), client_number(p, "loss", 1, 4, loss),
		       client_number(p, "accuracy", 1, 4, accuracy));
	printf("barrier: %s above the line between the ends\n", client_number(merge, "barrier", 1, 4, barrier));
}

static int print_end(const cJSON *m)
{
	char aom[CLIENT_NUMBER], dom[CLIENT_NUMBER];
	const cJSON *v = wasd_json_get(m, "metrics");
	if (!client_record_ready(m)) {
		fprintf(stderr, "wasd merge: %s\n", client_text(m, "message"));
		return CLIENT_FAILED;
	}
	print_path(wasd_json_get(m, "merge"));
	printf("%s", client_text(m, "checkpoint"));
	if (wasd_json_get(v, "val_acc_aom"))
		printf(": aom %s", client_number(v, "val_acc_aom", 1, 4, aom));
	if (wasd_json_get(v, "val_acc_dom"))
		printf(", dom %s", client_number(v, "val_acc_dom", 1, 4, dom));
	printf("\n");
	return CLIENT_OK;
}

static const struct client_record_kind merge_kind = {
	.command = "merge",
	.path = "/v1/merges",
	.units = "batches",
	.wait_s = 2,
};

static int run_merge(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_merge, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *body = request(&o), *url = body ? client_url(o.url) : NULL;
	cJSON *m = url ? client_json("merge", url, "POST /v1/checkpoints:merge", body) : NULL;
	m = client_record_follow(&merge_kind, url, m);
	rc = !body ? CLIENT_USAGE : !m ? CLIENT_FAILED : o.json ? client_print_json(m) : print_end(m);
	if (m && o.json && !client_record_ready(m))
		rc = CLIENT_FAILED;
	cJSON_Delete(m);
	wasd_free(url);
	wasd_free(body);
	return rc;
}

static const struct client_row merge_rows[] = {
	{"--weights", 0, "X,X...", CLIENT_VALUE, offsetof(struct options, weights),
     "share of each checkpoint, together 1 (default: equal shares)", NULL},
	{"--align", 0, "BY", CLIENT_VALUE, offsetof(struct options, align),
     "match channels with those of the first by their weights, by their activations, or none (default: weights)",
     "weights activations none"},
	{"--path", 0, "POINTS", CLIENT_VALUE, offsetof(struct options, path),
     "measure loss and accuracy at so many points from the second checkpoint to the first", NULL},
	{"--dataset", 0, "NAME", CLIENT_VALUE, offsetof(struct options, dataset),
     "data set to measure on (default: that of the first checkpoint's job)", "@datasets"},
	{"--bare", 0, NULL, CLIENT_FLAG, offsetof(struct options, bare),
     "measure no statistics: a job can start from the result, nothing can serve it", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_merge = {
	.name = "merge",
	.arguments = "CHECKPOINT CHECKPOINT...",
	.summary = "mix the weights of checkpoints into one",
	.text =
		"Mixes checkpoints (ckpt_...) of the same network into a new one: the channels of the others change places so that they match those of the first, the weights are mixed, and the statistics are measured anew. Waits for the result and prints its id. Ctrl-C ends the waiting, not the merge.",
	.words_at = offsetof(struct options, checkpoints),
	.max_words = WASD_MERGE_MAX,
	.example = "wasd merge ckpt_01J8ZQ ckpt_01J9AB --path 11",
	.statuses = "0 merged, 1 refused or failed, 2 usage",
	.run = run_merge,
	.rows = merge_rows,
};
