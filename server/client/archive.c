/* archive.c - `wasd archive`: asks for an archive of checkpoints, follows it, downloads it, and removes it from the
 * daemon. A signal in the meantime removes it too, so that nothing is made for nobody. */
#include "client/client.h"
#include "client/commands.h"
#include "client/download.h"
#include "client/record.h"
#include "client/remote.h"

#include "wasd/json.h"
#include "wasd/protocol.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
	struct client_list what, views;
	const char *which, *per_checkpoint, *seed, *output, *url;
};

static bool check_options(void *options)
{
	const struct options *o = options;
	return client_ids_ok("archive", &o->what, 1, "a checkpoint, a job or a sweep",
	                     "ids of checkpoints, jobs or sweeps");
}

/* ---- the request; the daemon checks its values ---- */

/* A number if it is one, else a string. */
static cJSON *value(const char *text)
{
	char *end;
	double v = strtod(text, &end);
	return *text && !*end ? cJSON_CreateNumber(v) : cJSON_CreateString(text);
}

/* "noise", "noise:std=0.3", "mixup:align=none,with=dropout", or a JSON object. */
static cJSON *view(char *text)
{
	cJSON *o = *text == '{' ? cJSON_Parse(text) : cJSON_CreateObject();
	if (!o || *text == '{')
		return o;
	char *rest = strchr(text, ':'), *next = NULL;
	if (rest)
		*rest++ = 0;
	bool ok = wasd_json_put(o, "type", cJSON_CreateString(text));
	for (char *pair = rest ? strtok_r(rest, ",", &next) : NULL; pair && ok; pair = strtok_r(NULL, ",", &next)) {
		char *is = strchr(pair, '=');
		if (is)
			*is++ = 0;
		ok = is && wasd_json_put(o, pair, value(is));
	}
	if (ok)
		return o;
	cJSON_Delete(o);
	return NULL;
}

static bool add_views(cJSON *o, const struct client_list *views)
{
	cJSON *list = views->n ? cJSON_AddArrayToObject(o, "views") : NULL;
	for (size_t i = 0; i < views->n; i++) {
		char *text = wasd_strdup(views->items[i]);
		bool ok = text && list && wasd_json_push(list, view(text));
		wasd_free(text);
		if (!ok) {
			fprintf(stderr, "wasd archive: --view %s: write NAME, or NAME:KEY=VALUE,...\n", views->items[i]);
			return false;
		}
	}
	return true;
}

/* A word that begins like an id of a checkpoint or a sweep is one; any other is a job. */
static bool add_word(cJSON *o, const char *url, const char *word)
{
	char job[CLIENT_ID];
	const char *kind = !strncmp(word, "ckpt_", 5) ? "checkpoints" : !strncmp(word, "swp_", 4) ? "sweeps" : "jobs";
	if (!strcmp(kind, "jobs")) {
		if (!client_job_id("archive", url, word, job))
			return false;
		word = job;
	}
	cJSON *list = cJSON_GetObjectItemCaseSensitive(o, kind);
	if (!list)
		list = cJSON_AddArrayToObject(o, kind);
	return list && wasd_json_push(list, cJSON_CreateString(word));
}

static char *request(const struct options *o, const char *url)
{
	cJSON *j = cJSON_CreateObject();
	bool ok = j && add_views(j, &o->views) && (!o->which || cJSON_AddStringToObject(j, "which", o->which)) &&
	          (!o->per_checkpoint || wasd_json_put(j, "per_checkpoint", value(o->per_checkpoint))) &&
	          (!o->seed || wasd_json_put(j, "seed", value(o->seed)));
	for (size_t i = 0; i < o->what.n && ok; i++)
		ok = add_word(j, url, o->what.items[i]);
	char *text = ok ? wasd_json_print(j) : NULL;
	cJSON_Delete(j);
	return text;
}

/* ---- what comes of it ---- */

/* Signals that end the command wait until the archive is gone from the daemon. */
static void hold_signals(int how)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(how, &set, NULL);
}

static bool signalled(void)
{
	sigset_t set;
	return !sigpending(&set) && (sigismember(&set, SIGINT) || sigismember(&set, SIGTERM));
}

static void remove_archive(const char *url, const char *id)
{
	char line[160];
	snprintf(line, sizeof line, "DELETE /v1/archives/%.80s", id);
	cJSON_Delete(client_json("archive", url, line, NULL));
}

static const struct client_record_kind archive_kind = {
	.command = "archive",
	.path = "/v1/archives",
	.units = "files",
	.wait_s = 1,
	.stop = signalled,
};

static int fetch(const struct options *o, const char *url, const char *id, const cJSON *m)
{
	char line[160];
	if (!client_record_ready(m)) {
		fprintf(stderr, "wasd archive: %s\n", client_text(m, "message"));
		return CLIENT_FAILED;
	}
	snprintf(line, sizeof line, "GET /v1/archives/%.80s/file", id);
	char *path = o->output ? wasd_strdup(o->output) : wasd_asprintf("%s.tar", id);
	int rc = path ? client_download("archive", url, line, path) : CLIENT_FAILED;
	wasd_free(path);
	return rc;
}

static int run_archive(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_archive, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char id[CLIENT_ID], *url = client_url(o.url), *body = url ? request(&o, url) : NULL;
	hold_signals(SIG_BLOCK);
	cJSON *m = body ? client_json("archive", url, "POST /v1/checkpoints:archive", body) : NULL;
	snprintf(id, sizeof id, "%s", m ? client_text(m, "id") : "");
	m = client_record_follow(&archive_kind, url, m);
	bool made = m && client_record_ready(m);
	if (made)
		hold_signals(SIG_UNBLOCK); /* the daemon removes what is left after an hour */
	rc = m ? fetch(&o, url, id, m) : CLIENT_FAILED;
	if (made && rc != CLIENT_OK)
		fprintf(stderr, "wasd archive: the archive is kept for an hour: GET /v1/archives/%s/file\n", id);
	else if (*id)
		remove_archive(url, id);
	if (!made)
		hold_signals(SIG_UNBLOCK);
	cJSON_Delete(m);
	wasd_free(url);
	wasd_free(body);
	return rc;
}

static const struct client_row archive_rows[] = {
	{"--which", 0, "WHICH", CLIENT_VALUE, offsetof(struct options, which),
     "of each job all checkpoints, the best or the latest (default: all)", "all best latest"},
	{"--view", 0, "VIEW", CLIENT_LIST, offsetof(struct options, views),
     "a view of each checkpoint besides itself: dropout, noise, quantile, scale, permute or mixup, with options as in noise:std=0.3 or mixup:align=none; may be repeated",
     "dropout noise quantile scale permute mixup"},
	{"--per-checkpoint", 0, "N", CLIENT_VALUE, offsetof(struct options, per_checkpoint),
     "views of each checkpoint, the kinds in turn (default: one of each kind)", NULL},
	{"--seed", 0, "SEED", CLIENT_VALUE, offsetof(struct options, seed), "of all that the views draw (default: 0)",
     NULL},
	{"--output", 0, "FILE", CLIENT_VALUE, offsetof(struct options, output),
     "file to write (default: ARCHIVE.tar in the current directory)", "@files"},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_archive = {
	.name = "archive",
	.arguments = "CHECKPOINT|JOB|SWEEP...",
	.summary = "download many checkpoints of one network, and views of them, as one tar",
	.text =
		"Writes a tar with the weights of the checkpoints (ckpt_...), of all checkpoints of the jobs, and of the jobs of the sweeps (swp_...), all in one layout, with the specs of their jobs and checkpoints.csv, which says where each comes from and how accurate it is. Of views nothing is measured. The same request gives the same bytes.",
	.words_at = offsetof(struct options, what),
	.max_words = CLIENT_LIST_MAX,
	.offers = "@jobs",
	.example = "wasd archive swp_01J8ZQ --which best --view noise --view mixup --per-checkpoint 4 --output zoo.tar",
	.statuses = "0 written, 1 refused, failed or not downloaded, 2 usage",
	.run = run_archive,
	.rows = archive_rows,
};
