/* fsck.c - `wasd fsck`: reads a whole data directory, or a backup, and reports what is damaged; needs no daemon. */
#include "client/client.h"
#include "client/commands.h"

#include "config.h"
#include "storage.h"
#include "wasd/base.h"
#include "wasd/json.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIFFERS = 3 /* exit status of wasd-engine verify */ };

struct options {
	const char *data;
	bool json;
};

struct work {
	char engine[CONFIG_TEXT];
	cJSON *found;
	bool print, no_memory;
};

static void found(void *ctx, bool fault, const char *object, const char *detail)
{
	struct work *w = ctx;
	if (w->print)
		printf("%s %s: %s\n", fault ? "FAULT   " : "leftover", object, detail);
	cJSON *o = cJSON_CreateObject();
	bool ok = o && cJSON_AddStringToObject(o, "kind", fault ? "fault" : "leftover") &&
	          cJSON_AddStringToObject(o, "object", object) && cJSON_AddStringToObject(o, "detail", detail) &&
	          cJSON_AddItemToArray(w->found, o);
	if (!ok)
		cJSON_Delete(o);
	w->no_memory |= !ok;
}

/* Reads up to size - 1 bytes of one line; the rest is dropped. */
static void read_line(int fd, char *out, size_t size)
{
	size_t n = 0;
	char c;
	while (read(fd, &c, 1) == 1)
		if (n + 1 < size && c != '\n')
			out[n++] = c;
	out[n] = 0;
}

/* The engine alone knows the layout of dataset files. */
static enum wasd_status verify(void *ctx, const char *path, const char *digest, struct wasd_err *err)
{
	struct work *w = ctx;
	char *argv[] = {w->engine, (char *)(uintptr_t) "verify", (char *)(uintptr_t)path, (char *)(uintptr_t)digest, NULL};
	char said[256];
	int pipes[2], status = 0;
	pid_t pid;
	posix_spawn_file_actions_t fa;
	if (pipe2(pipes, O_CLOEXEC))
		return wasd_fail(err, WASD_EIO, "no pipe");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, pipes[1], 1);
	extern char **environ;
	int rc = posix_spawn(&pid, w->engine, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(pipes[1]);
	if (!rc)
		read_line(pipes[0], said, sizeof said);
	close(pipes[0]);
	if (rc || waitpid(pid, &status, 0) != pid)
		return wasd_fail_errno(err, rc, "%s", w->engine);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return WASD_OK;
	return wasd_fail(err, WIFEXITED(status) && WEXITSTATUS(status) == DIFFERS ? WASD_ECORRUPT : WASD_EIO, "%s",
	                 said[0] ? said : "the engine ended without an answer");
}

static int print_json(const struct work *w, const char *data, const struct storage_fsck *s)
{
	cJSON *j = cJSON_CreateObject();
	bool ok = j && cJSON_AddStringToObject(j, "data", data) &&
	          cJSON_AddNumberToObject(j, "checkpoints", (double)s->checkpoints) &&
	          cJSON_AddNumberToObject(j, "checkpoint_bytes", (double)s->checkpoint_bytes) &&
	          cJSON_AddNumberToObject(j, "modes", (double)s->modes) &&
	          cJSON_AddNumberToObject(j, "datasets", (double)s->datasets) &&
	          cJSON_AddNumberToObject(j, "dataset_bytes", (double)s->dataset_bytes) &&
	          cJSON_AddNumberToObject(j, "faults", (double)s->faults) &&
	          cJSON_AddNumberToObject(j, "leftovers", (double)s->leftovers) &&
	          cJSON_AddItemReferenceToObject(j, "found", w->found);
	int rc = ok ? client_print_json(j) : CLIENT_FAILED;
	cJSON_Delete(j);
	return rc;
}

static int run(int argc, char **argv)
{
	struct options o = {.data = "./var"};
	struct work w = {.found = cJSON_CreateArray()};
	struct storage_fsck sum;
	struct wasd_err err = {0};
	int rc = client_parse(&client_command_fsck, argc, argv, &o);
	if (rc >= 0) {
		cJSON_Delete(w.found);
		return rc;
	}
	w.print = !o.json;
	struct storage_fsck_hooks h = {.ctx = &w, .found = found, .dataset = verify};
	enum wasd_status st = config_find_engine("", w.engine, &err);
	if (!st)
		st = storage_fsck(o.data, &h, &sum, &err);
	if (!st && w.no_memory)
		st = wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (st) {
		fprintf(stderr, "wasd fsck: %s\n", err.msg);
		rc = CLIENT_FAILED;
	} else {
		rc = sum.faults ? CLIENT_FAILED : CLIENT_OK;
		if (!o.json)
			printf(
				"%s: %lld checkpoints (%.1f MiB), %lld modes, %lld data sets (%.1f MiB): %lld faults, %lld leftovers\n",
				o.data, (long long)sum.checkpoints, (double)sum.checkpoint_bytes / (1 << 20), (long long)sum.modes,
				(long long)sum.datasets, (double)sum.dataset_bytes / (1 << 20), (long long)sum.faults,
				(long long)sum.leftovers);
		else if (print_json(&w, o.data, &sum) != CLIENT_OK)
			rc = CLIENT_FAILED;
	}
	cJSON_Delete(w.found);
	return rc;
}

static const struct client_row rows[] = {
	{"--data", 0, "DIR", CLIENT_VALUE, offsetof(struct options, data), "the directory (default: ./var)", "@files"},
	CLIENT_ROW_JSON(struct options),
	{0},
};
const struct client_command client_command_fsck = {
	.name = "fsck",
	.arguments = "",
	.summary = "check a data directory or a backup; no daemon may use it",
	.text =
		"Reads everything in a data directory (or in a backup) while no daemon uses it: the integrity of both databases, references between rows, and the digest of every checkpoint, mode and data set. Changes nothing.",
	.statuses =
		"0 whole (leftovers are no fault), 1 something is damaged or missing, or it cannot be read, 2 wrong usage",
	.example = "wasd fsck --data /backup/wasd-2026-11-30",
	.run = run,
	.rows = rows,
};
