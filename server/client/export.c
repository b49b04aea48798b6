/* export.c - `wasd export`: downloads one checkpoint from a running daemon into a file, or writes the curves of a job
 * as an event file of TensorBoard. A file gets its name when it is complete. */
#include "client/client.h"
#include "client/commands.h"
#include "client/download.h"
#include "client/remote.h"
#include "client/tensorboard.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <stdio.h>
#include <string.h>

struct options {
	const char *what, *format, *mode, *output, *out, *url;
};

/* Returns false after printing a message to stderr. */
static bool check_options(void *options)
{
	struct options *o = options;
	const bool events = !strcmp(o->format, "tensorboard");
	if (o->what && (events ? o->mode || o->output : o->out != NULL)) {
		fprintf(stderr,
		        "wasd export: --out is for --format tensorboard, --mode and --output are for the other formats\n");
		return false;
	}
	/* These go into the request line: no space, slash or question mark. */
	const char *const words[] = {events ? NULL : o->what, o->format, o->mode};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (words[i] && !client_word_ok(words[i])) {
			fprintf(stderr, "wasd export: %s is not a valid id, format or mode\n", words[i]);
			return false;
		}
	if (!o->what)
		fprintf(stderr, "wasd export: give the id of a checkpoint, or a job with --format tensorboard\n");
	return o->what != NULL;
}

/* ---- curves ---- */

/* The directory of a job's events below `out`: its name and id. TensorBoard shows the directory as the run's name. */
static char *run_directory(const char *out, const cJSON *job)
{
	char name[64];
	snprintf(name, sizeof name, "%s", client_text(job, "name"));
	for (char *p = name; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *p))
			*p = '-';
	if (*name == '.')
		*name = '-';
	return wasd_asprintf("%s/%s%s%s", out, name, *name ? "." : "", client_text(job, "id"));
}

static int save_events(const char *out, const cJSON *job, const cJSON *metrics)
{
	struct wasd_buf b = {0};
	struct wasd_err err = {0};
	tensorboard_events(job, metrics, &b);
	char *dir = run_directory(out, job),
		 *path = dir ? wasd_asprintf("%s/events.out.tfevents.%s", dir, client_text(job, "id")) : NULL;
	enum wasd_status s = path && !b.failed ? wasd_mkdirs(dir, &err) : wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (s == WASD_OK)
		s = wasd_file_write_atomic(path, b.data, b.len, &err);
	if (s == WASD_OK)
		printf("%s: %zu bytes\n", path, b.len);
	else
		fprintf(stderr, "wasd export: %s\n", err.msg);
	wasd_free(path);
	wasd_free(dir);
	wasd_buf_done(&b);
	return s == WASD_OK ? 0 : 1;
}

static int export_events(const struct options *o, const char *url)
{
	char id[CLIENT_ID], head[100];
	if (!client_job_id("export", url, o->what, id))
		return 1;
	snprintf(head, sizeof head, "GET /v1/jobs/%s", id);
	cJSON *job = client_json("export", url, head, NULL);
	snprintf(head, sizeof head, "GET /v1/jobs/%s/metrics", id);
	cJSON *metrics = job ? client_json("export", url, head, NULL) : NULL;
	int rc = metrics ? save_events(o->out ? o->out : "tensorboard", job, metrics) : 1;
	cJSON_Delete(metrics);
	cJSON_Delete(job);
	return rc;
}

/* ---- checkpoints ---- */

static int export_checkpoint(const struct options *o, const char *url)
{
	char ask[400];
	char *path = o->output ? wasd_strdup(o->output) :
	                         wasd_asprintf("%s%s%s.%s", o->what, o->mode ? "-" : "", o->mode ? o->mode : "", o->format);
	for (char *colon = path && !o->output ? strchr(path, ':') : NULL; colon; colon = strchr(colon, ':'))
		*colon = '-'; /* dom:NAME; some file systems do not allow a colon */
	snprintf(ask, sizeof ask, "GET /v1/checkpoints/%s/file?format=%s%s%s", o->what, o->format, o->mode ? "&mode=" : "",
	         o->mode ? o->mode : "");
	int rc = path ? client_download("export", url, ask, path) : CLIENT_FAILED;
	wasd_free(path);
	return rc;
}

static int run_export(int argc, char **argv)
{
	struct options o = {.format = "safetensors"};
	int rc = client_start(&client_command_export, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	rc = 1;
	if (url)
		rc = strcmp(o.format, "tensorboard") ? export_checkpoint(&o, url) : export_events(&o, url);
	wasd_free(url);
	return rc;
}

static const struct client_row export_rows[] = {
	{"--format", 0, "FORMAT", CLIENT_VALUE, offsetof(struct options, format),
     "safetensors (default): weights, statistics of every mode, labels and settings, with PyTorch's names; onnx: one mode as deployed, for ONNX Runtime and other programs; wasd: as the daemon stores it, with the training state; tensorboard: the curves and settings of a job",
     "safetensors onnx wasd tensorboard"},
	{"--mode", 0, "MODE", CLIENT_VALUE, offsetof(struct options, mode),
     "mode of an onnx file: aom (default), dom, slim or FAMILY:NAME; with safetensors only slim: the smaller network",
     "aom dom slim"},
	{"--output", 0, "FILE", CLIENT_VALUE, offsetof(struct options, output),
     "file to write (default: CHECKPOINT[-MODE].FORMAT in the current directory)", "@files"},
	{"--out", 0, "DIR", CLIENT_VALUE, offsetof(struct options, out),
     "for tensorboard: directory that gets a directory for each job (default: tensorboard); an earlier file of the job is replaced",
     "@files"},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_export = {
	.name = "export",
	.arguments = "CHECKPOINT|JOB",
	.summary = "download a checkpoint, or a job's curves, as a file for other programs",
	.text =
		"Downloads a checkpoint. CHECKPOINT is an id (ckpt_...) from GET /v1/jobs/JOB/checkpoints. With --format tensorboard, "
		"writes all curves of a job as an event file of TensorBoard. For many checkpoints in one file see wasd archive. " CLIENT_JOB_TEXT,
	.words_at = offsetof(struct options, what),
	.max_words = 1,
	.words_plain = true,
	.statuses = "0 written, 1 refused or the download failed, 2 wrong usage",
	.example = "wasd export ckpt_01J8ZQ --format onnx --mode dom",
	.run = run_export,
	.rows = export_rows,
};
