/* submit.c - `wasd submit`: a spec from a file, changed by --set, becomes a job. `wasd clone`: the spec of a job that
 * is there. */
#include "client/client.h"
#include "client/commands.h"
#include "client/edit.h"
#include "client/estimate.h"
#include "client/remote.h"
#include "client/watch.h"

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/spec.h"

#include <string.h>
#include <unistd.h>

struct options {
	struct client_list words, set;
	const char *url;
	bool watch, wait, dry_run, quick, json;
};

static bool apply(const struct client_command *c, cJSON *spec, const struct client_list *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (!client_set(c, spec, set->items[i]))
			return false;
	return true;
}

/* Sends the spec, and goes on as the options say. Frees spec. */
static int send_spec(const struct client_command *c, const struct options *o, const char *url, cJSON *spec)
{
	char *body = wasd_json_print(spec), id[CLIENT_ID];
	cJSON_Delete(spec);
	const char *head = !o->dry_run ? "POST /v1/jobs" :
	                   o->quick    ? "POST /v1/jobs?dry_run=true&bench=false" :
	                                 "POST /v1/jobs?dry_run=true";
	cJSON *job = body ? client_json(c->name, url, head, body) : NULL;
	wasd_free(body);
	if (!job)
		return CLIENT_FAILED;
	bool follow = !o->dry_run && (o->watch || o->wait);
	int rc = CLIENT_OK;
	snprintf(id, sizeof id, "%s", client_text(job, "id"));
	if (o->json && !follow)
		rc = client_print_json(job);
	else if (o->dry_run)
		rc = client_print_estimate(job);
	else if (!o->json)
		puts(id); /* alone, for job=$(wasd submit ...) */
	if (!follow && !o->dry_run && isatty(STDERR_FILENO) && isatty(STDOUT_FILENO))
		fprintf(stderr, "%s is %s; follow it: wasd watch %s\n", client_text(job, "name"), client_text(job, "state"),
		        id);
	cJSON_Delete(job);
	fflush(stdout);
	if (!follow)
		return rc;
	return o->watch ? client_follow(c->name, o->url, id, o->json) : client_await(c->name, o->url, id, o->json, 0);
}

/* ---- submit ---- */

static int run_submit(int argc, char **argv)
{
	const struct client_command *c = &client_command_submit;
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n && !o.set.n)
		return client_misused(c, "give a file with a spec, or --set dataset=NAME --set model.arch=NETWORK");
	if (o.watch && o.wait)
		return client_misused(c, "give --watch or --wait, not both");
	if (o.quick && !o.dry_run)
		return client_misused(c, "--quick belongs to --dry-run");
	cJSON *spec = o.words.n ? client_read_spec(c, o.words.items[0]) : cJSON_CreateObject();
	if (!spec || !apply(c, spec, &o.set)) {
		cJSON_Delete(spec);
		return CLIENT_USAGE;
	}
	char *url = client_url(o.url);
	rc = url ? send_spec(c, &o, url, spec) : CLIENT_FAILED;
	wasd_free(url);
	return rc;
}

#define FOLLOW_ROWS \
	{"--watch", 0, NULL, CLIENT_FLAG, offsetof(struct options, watch), "follow it as wasd watch does", NULL}, \
		{"--wait", 0, NULL, CLIENT_FLAG, offsetof(struct options, wait), "wait until it has ended", NULL}, \
		{"--dry-run", \
	     0, \
	     NULL, \
	     CLIENT_FLAG, \
	     offsetof(struct options, dry_run), \
	     "submit nothing: check the spec and print what the job would take; with --json the spec with every default, too", \
	     NULL}, \
		{"--quick", \
	     0, \
	     NULL, \
	     CLIENT_FLAG, \
	     offsetof(struct options, quick), \
	     "with --dry-run: without times, which take two seconds to measure", \
	     NULL}, \
		CLIENT_ROW_JSON(struct options), CLIENT_ROW_URL(struct options)

static const struct client_row submit_rows[] = {
	{"--set", 's', "KEY=VALUE", CLIENT_LIST, offsetof(struct options, set), CLIENT_SET_TEXT, "@spec"},
	FOLLOW_ROWS,
	{0},
};
const struct client_command client_command_submit = {
	.name = "submit",
	.arguments = "[SPEC]",
	.summary = "submit a training job",
	.text =
		"Submits a job and prints its id. SPEC is a file with the job spec as JSON; - reads standard input. Without "
		"SPEC, --set gives all of it: dataset and model.arch are enough. wasd spec lists the members. The daemon names "
		"each fault by its pointer in the spec.",
	.rows = submit_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@files",
	.statuses =
		"0 submitted, 1 refused, 2 wrong usage; with --watch or --wait the outcome: 0 completed, 1 failed, 3 cancelled",
	.example = "wasd submit --set dataset=digits --set model.arch=lenet --set train.epochs=5 --watch\n"
			   "wasd submit spec.json --set train.optimizer.lr=0.05",
	.run = run_submit,
};

/* ---- clone ---- */

/* The members of the job that are members of a spec. */
static cJSON *spec_of(cJSON *job)
{
	char path[80];
	for (cJSON *m = job->child, *next; m; m = next) {
		next = m->next;
		snprintf(path, sizeof path, "/%.60s", m->string);
		const struct wasd_field *f = wasd_spec_at(path);
		if (!f || f->type == WASD_REFUSED)
			cJSON_Delete(cJSON_DetachItemViaPointer(job, m));
	}
	return job;
}

static int run_clone(int argc, char **argv)
{
	const struct client_command *c = &client_command_clone;
	struct options o = {0};
	char id[CLIENT_ID], head[120];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n)
		return client_misused(c, "give a job");
	if (o.watch && o.wait)
		return client_misused(c, "give --watch or --wait, not both");
	if (o.quick && !o.dry_run)
		return client_misused(c, "--quick belongs to --dry-run");
	char *url = client_url(o.url);
	cJSON *job = NULL;
	if (url && client_job_id(c->name, url, o.words.items[0], id)) {
		snprintf(head, sizeof head, "GET /v1/jobs/%s", id);
		job = client_json(c->name, url, head, NULL);
	}
	rc = CLIENT_FAILED;
	if (job && !apply(c, spec_of(job), &o.set)) {
		cJSON_Delete(job);
		rc = CLIENT_USAGE;
	} else if (job) {
		rc = send_spec(c, &o, url, job);
	}
	wasd_free(url);
	return rc;
}

static const struct client_row clone_rows[] = {
	{"--set", 's', "KEY=VALUE", CLIENT_LIST, offsetof(struct options, set), CLIENT_SET_TEXT, "@spec"},
	FOLLOW_ROWS,
	{0},
};
const struct client_command client_command_clone = {
	.name = "clone",
	.arguments = "JOB",
	.summary = "submit the spec of a job again, with changes",
	.text = "Submits a new job with the spec of JOB, the same version of the data set included, and prints its id. "
			"--set changes the spec as in wasd submit. " CLIENT_JOB_TEXT,
	.rows = clone_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@jobs",
	.statuses =
		"0 submitted, 1 refused, 2 wrong usage; with --watch or --wait the outcome: 0 completed, 1 failed, 3 cancelled",
	.example = "wasd clone lenet-digits --set train.seed=2 --set name=second --watch",
	.run = run_clone,
};
