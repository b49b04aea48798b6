/* backup.c - `wasd backup`: asks a running daemon for a backup and waits for it. `wasd restore`: makes a data directory
 * of a backup; needs no daemon. */
#include "client/client.h"

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

static void backup_usage(FILE *f)
{
	fprintf(
		f,
		"usage: wasd backup DIR [--json] [--url URL]\n"
		"\n"
		"Makes a backup of everything the daemon stores while it goes on: jobs, metrics, checkpoints, data sets,\n"
		"deployments. DIR, a new directory on the daemon's machine, gets its name once every byte was read back and checked.\n"
		"  --json     print what the daemon answers\n");
	client_url_help(f, 10);
	fprintf(f, "Exit status: 0 done, 1 refused or failed, 2 usage.\n"
	           "\n"
	           "  wasd backup /backup/wasd-$(date +%%F)\n");
}

static void restore_usage(FILE *f)
{
	fprintf(
		f,
		"usage: wasd restore BACKUP --data DIR [--json]\n"
		"\n"
		"Copies a backup to DIR, which must be new or empty, and checks every file against the backup's digests. Needs no\n"
		"daemon; start one with `wasd serve --data DIR` afterwards. Jobs that ran continue from their last checkpoint.\n"
		"  --data DIR the data directory to make\n"
		"  --json     print the result as JSON\n"
		"Exit status: 0 done, 1 refused or failed (nothing is left in DIR), 2 usage.\n"
		"\n"
		"  wasd restore /backup/wasd-2026-11-30 --data /var/lib/wasd\n");
}

static bool read_backup(int argc, char **argv, void *options)
{
	struct options *o = options;
	const struct client_option known[] = {{"--json", NULL, &o->json}, {"--url", &o->url, NULL}};
	if (!client_options("backup", argc, argv, known, sizeof known / sizeof *known, &o->where, 1))
		return false;
	if (!o->where)
		fprintf(stderr, "wasd backup: give the directory to make\n");
	return o->where != NULL;
}

static bool read_restore(int argc, char **argv, void *options)
{
	struct options *o = options;
	const struct client_option known[] = {{"--json", NULL, &o->json}, {"--data", &o->data, NULL}};
	if (!client_options("restore", argc, argv, known, sizeof known / sizeof *known, &o->where, 1))
		return false;
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

int client_backup(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_begin(argc, argv, backup_usage, read_backup, &o);
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

int client_restore(int argc, char **argv)
{
	struct options o = {0};
	struct storage_restored sum;
	struct wasd_err err = {0};
	int rc = client_begin(argc, argv, restore_usage, read_restore, &o);
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
