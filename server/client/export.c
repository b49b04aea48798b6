/* export.c - `wasd export`: downloads one checkpoint from a running daemon into a file, or writes the curves of a job
 * as an event file of TensorBoard. A file gets its name when it is complete. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"
#include "client/tensorboard.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { HEAD_MAX = 16 << 10, PIECE = 64 << 10, ERROR_MAX = 64 << 10 };

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

/* Reads up to the end of the headers. buf is NUL-terminated there, and *body points to the body bytes already read. */
static bool read_head(int fd, char *buf, size_t *len, char **body)
{
	for (*len = 0; *len < HEAD_MAX;) {
		ssize_t r = read(fd, buf + *len, HEAD_MAX - *len);
		if (r <= 0)
			return false;
		*len += (size_t)r;
		buf[*len] = 0;
		char *end = strstr(buf, "\r\n\r\n");
		if (end) {
			*end = 0;
			*body = end + 4;
			return true;
		}
	}
	return false;
}

static int64_t content_length(const char *head)
{
	for (const char *line = head; (line = strstr(line, "\r\n")); line += 2)
		if (!strncasecmp(line + 2, "Content-Length:", 15))
			return strtoll(line + 17, NULL, 10);
	return -1;
}

/* Prints the detail of the daemon's problem document. */
static void say_refusal(int fd, const char *head, const char *body, size_t have)
{
	struct wasd_buf b = {.max = ERROR_MAX};
	char piece[4096];
	const char *detail = "";
	cJSON *o = NULL;
	wasd_buf_append(&b, body, have);
	for (ssize_t r; (r = read(fd, piece, sizeof piece)) > 0;)
		wasd_buf_append(&b, piece, (size_t)r);
	if (b.len && wasd_json_parse(b.data, b.len, WASD_JSON_REQUEST, &o, NULL) == WASD_OK)
		wasd_json_str(o, "detail", &detail);
	fprintf(stderr, "wasd export: %s\n", *detail ? detail : head + strcspn(head, " "));
	cJSON_Delete(o);
	wasd_buf_done(&b);
}

/* Writes the body to path.part, then renames it to path. */
static int save(int fd, const char *path, const char *first, size_t have, int64_t want)
{
	static char piece[PIECE];
	struct wasd_err err = {0};
	char *part = wasd_asprintf("%s.part", path);
	int out = part ? open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
	enum wasd_status s = out < 0 ? wasd_fail_errno(&err, part ? errno : ENOMEM, "%s", path) :
	                               wasd_write_full(out, first, have, &err);
	int64_t total = (int64_t)have;
	for (ssize_t r; s == WASD_OK && (r = read(fd, piece, sizeof piece)) > 0; total += r)
		s = wasd_write_full(out, piece, (size_t)r, &err);
	if (s == WASD_OK && total != want)
		s = wasd_fail(&err, WASD_EIO, "the download ended after %lld of %lld bytes", (long long)total, (long long)want);
	if (s == WASD_OK && (fsync(out) || rename(part, path)))
		s = wasd_fail_errno(&err, errno, "%s", path);
	if (s == WASD_OK)
		printf("%s: %lld bytes\n", path, (long long)total);
	else
		fprintf(stderr, "wasd export: %s\n", err.msg);
	if (out >= 0)
		close(out);
	if (s != WASD_OK && out >= 0)
		unlink(part);
	wasd_free(part);
	return s == WASD_OK ? 0 : 1;
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
	static char head[HEAD_MAX + 1];
	char ask[400], where[CLIENT_WHERE], *body;
	size_t len;
	char *path = o->output ? wasd_strdup(o->output) :
	                         wasd_asprintf("%s%s%s.%s", o->what, o->mode ? "-" : "", o->mode ? o->mode : "", o->format);
	for (char *colon = path && !o->output ? strchr(path, ':') : NULL; colon; colon = strchr(colon, ':'))
		*colon = '-'; /* dom:NAME; some file systems do not allow a colon */
	snprintf(ask, sizeof ask, "GET /v1/checkpoints/%s/file?format=%s%s%s", o->what, o->format, o->mode ? "&mode=" : "",
	         o->mode ? o->mode : "");
	int fd = path ? client_ask(url, ask, NULL, where) : -1, rc = 1;
	if (fd >= 0 && !read_head(fd, head, &len, &body))
		fprintf(stderr, "wasd export: %s did not answer\n", where);
	else if (fd >= 0 && (strncmp(head, "HTTP/1.", 7) || strncmp(head + 8, " 200", 4)))
		say_refusal(fd, head, body, len - (size_t)(body - head));
	else if (fd >= 0)
		rc = save(fd, path, body, len - (size_t)(body - head), content_length(head));
	if (fd >= 0)
		close(fd);
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
		"writes all curves of a job as an event file of TensorBoard. " CLIENT_JOB_TEXT,
	.words_at = offsetof(struct options, what),
	.max_words = 1,
	.words_plain = true,
	.statuses = "0 written, 1 refused or the download failed, 2 wrong usage",
	.example = "wasd export ckpt_01J8ZQ --format onnx --mode dom",
	.run = run_export,
	.rows = export_rows,
};
