/* backup.c - `wasd backup`: asks a running daemon for a backup and waits for it. `wasd restore`: makes a data directory
 * of a backup; needs no daemon. */
#include "client/client.h"
#include "client/commands.h"

#include "storage.h"
#include "wasd/base.h"
#include "wasd/json.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct options {
	const char *where, *data, *url;
	bool json;
};

static bool check_backup(void *options)
{
	struct options *o = options;
	if (!o->where)
		fprintf(stderr, "wasd backup: give the directory to make\n");
	return o->where != NULL;
}

static bool check_restore(void *options)
{
	struct options *o = options;
	if (!o->where || !o->data)
		fprintf(stderr, "wasd restore: give %s\n", o->where ? "--data DIR, the directory to make" : "a backup");
	return o->where && o->data;
}

/* The request's body, with an absolute path, because the daemon has another working directory. NULL after a message. */
static char *backup_body(const char *where)
{
	char here[PATH_MAX], *path = NULL, *body = NULL;
	while (!strncmp(where, "./", 2))
		where += 2;
	if (where[0] == '/')
		path = wasd_strdup(where);
	else if (getcwd(here, sizeof here))
		path = wasd_asprintf("%s/%s", here, where);
	cJSON *in = cJSON_CreateObject();
	if (path && in && cJSON_AddStringToObject(in, "path", path))
		body = wasd_json_print(in);
	if (!body)
		fprintf(stderr, "wasd backup: no memory, or no working directory\n");
	cJSON_Delete(in);
	wasd_free(path);
	return body;
}

static int run_backup(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_start(&client_command_backup, argc, argv, check_backup, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url), *body = backup_body(o.where), mib[CLIENT_NUMBER], files[CLIENT_NUMBER],
		 checkpoints[CLIENT_NUMBER];
	cJSON *now = url && body ? client_json("backup", url, "POST /v1/admin/backup?wait=20s", body) : NULL;
	while (now && !strcmp(client_text(now, "state"), "running")) {
		cJSON_Delete(now);
		now = client_json("backup", url, "GET /v1/admin/backup?wait=20s", NULL);
	}
	rc = now ? CLIENT_OK : CLIENT_FAILED;
	if (now && o.json)
		rc = client_print_json(now);
	else if (now)
		printf("%s: %s files, %s MiB, %s checkpoints, checked\n", client_text(now, "path"),
		       client_number(now, "files", 1, 0, files), client_number(now, "bytes", 1.0 / (1 << 20), 1, mib),
		       client_number(now, "checkpoints", 1, 0, checkpoints));
	cJSON_Delete(now);
	wasd_free(body);
	wasd_free(url);
	return rc;
}

static int run_restore(int argc, char **argv)
{
	struct options o = {0};
	struct storage_restored sum;
	struct wasd_err err = {0};
	int rc = client_start(&client_command_restore, argc, argv, check_restore, &o);
	if (rc >= 0)
		return rc;
	if (storage_restore(o.where, o.data, &sum, &err)) {
		fprintf(stderr, "wasd restore: %s\n", err.msg);
		return CLIENT_FAILED;
	}
	if (!o.json) {
		printf("%s: %lld files, %.1f MiB, as of %s, checked\n", o.data, (long long)sum.files,
		       (double)sum.bytes / (1 << 20), sum.made_at);
		return CLIENT_OK;
	}
	cJSON *j = cJSON_CreateObject();
	bool ok = j && cJSON_AddStringToObject(j, "data", o.data) && cJSON_AddStringToObject(j, "made_at", sum.made_at) &&
	          cJSON_AddNumberToObject(j, "files", (double)sum.files) &&
	          cJSON_AddNumberToObject(j, "bytes", (double)sum.bytes);
	rc = ok ? client_print_json(j) : CLIENT_FAILED;
	cJSON_Delete(j);
	return rc;
}

static const struct client_row backup_rows[] = {
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_backup = {
	.name = "backup",
	.arguments = "DIR",
	.summary = "copy everything the daemon stores, while it goes on",
	.text =
		"Makes a backup of everything the daemon stores while it goes on: jobs, metrics, checkpoints, data sets, deployments. DIR, a new directory on the daemon's machine, gets its name once every byte was read back and checked.",
	.words_at = offsetof(struct options, where),
	.max_words = 1,
	.words_plain = true,
	.offers = "@files",
	.statuses = "0 done, 1 refused or failed, 2 wrong usage",
	.example = "wasd backup /backup/wasd-$(date +%F)",
	.run = run_backup,
	.rows = backup_rows,
};

static const struct client_row restore_rows[] = {
	{"--data", 0, "DIR", CLIENT_VALUE, offsetof(struct options, data), "the data directory to make", "@files"},
	CLIENT_ROW_JSON(struct options),
	{0},
};
const struct client_command client_command_restore = {
	.name = "restore",
	.arguments = "BACKUP",
	.summary = "make a data directory of a backup; needs no daemon",
	.text =
		"Copies a backup to DIR, which must be new or empty, and checks every file against the digests of the backup. Needs no daemon; start one with wasd serve --data DIR afterwards. Jobs that ran continue from their last checkpoint.",
	.words_at = offsetof(struct options, where),
	.max_words = 1,
	.words_plain = true,
	.offers = "@files",
	.statuses = "0 done, 1 refused or failed (nothing is left in DIR), 2 wrong usage",
	.example = "wasd restore /backup/wasd-2026-11-30 --data /var/lib/wasd",
	.run = run_restore,
	.rows = restore_rows,
};
