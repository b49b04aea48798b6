/* export.c - `wasd export`: downloads one checkpoint from a running daemon into a file. The file gets its name when it
 * is complete. */
#include "client/client.h"
#include "client/commands.h"

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
	const char *checkpoint, *format, *mode, *output, *url;
};

/* Returns false after printing a message to stderr. */
static bool check_options(void *options)
{
	struct options *o = options;
	/* These go into the request line: no space, slash or question mark. */
	const char *const words[] = {o->checkpoint, o->format, o->mode};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (words[i] && !client_word_ok(words[i])) {
			fprintf(stderr, "wasd export: %s is not a valid id, format or mode\n", words[i]);
			return false;
		}
	if (!o->checkpoint)
		fprintf(stderr, "wasd export: give the id of a checkpoint\n");
	return o->checkpoint != NULL;
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

static int run_export(int argc, char **argv)
{
	static char head[HEAD_MAX + 1];
	struct options o = {.format = "safetensors"};
	char ask[400], where[CLIENT_WHERE], *body;
	size_t len;
	int rc = client_start(&client_command_export, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url),
		 *path = o.output ? wasd_strdup(o.output) :
	                        wasd_asprintf("%s%s%s.%s", o.checkpoint, o.mode ? "-" : "", o.mode ? o.mode : "", o.format);
	for (char *colon = path && !o.output ? strchr(path, ':') : NULL; colon; colon = strchr(colon, ':'))
		*colon = '-'; /* dom:NAME; some file systems do not allow a colon */
	snprintf(ask, sizeof ask, "GET /v1/checkpoints/%s/file?format=%s%s%s", o.checkpoint, o.format,
	         o.mode ? "&mode=" : "", o.mode ? o.mode : "");
	int fd = path && url ? client_ask(url, ask, NULL, where) : -1;
	rc = 1;
	if (fd >= 0 && !read_head(fd, head, &len, &body))
		fprintf(stderr, "wasd export: %s did not answer\n", where);
	else if (fd >= 0 && (strncmp(head, "HTTP/1.", 7) || strncmp(head + 8, " 200", 4)))
		say_refusal(fd, head, body, len - (size_t)(body - head));
	else if (fd >= 0)
		rc = save(fd, path, body, len - (size_t)(body - head), content_length(head));
	if (fd >= 0)
		close(fd);
	wasd_free(url);
	wasd_free(path);
	return rc;
}

static const struct client_row export_rows[] = {
	{"--format", 0, "FORMAT", CLIENT_VALUE, offsetof(struct options, format),
     "safetensors (default): weights, statistics of every mode, labels and settings, with PyTorch's names; onnx: one mode as deployed, for ONNX Runtime and other programs; wasd: as the daemon stores it, with the training state",
     "safetensors onnx wasd"},
	{"--mode", 0, "MODE", CLIENT_VALUE, offsetof(struct options, mode),
     "mode of an onnx file: aom (default), dom or dom:PROFILE", "aom dom"},
	{"--output", 0, "FILE", CLIENT_VALUE, offsetof(struct options, output),
     "file to write (default: CHECKPOINT[-MODE].FORMAT in the current directory)", "@files"},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_export = {
	.name = "export",
	.arguments = "CHECKPOINT",
	.summary = "download a checkpoint as a file for other programs",
	.text = "Downloads a checkpoint. CHECKPOINT is an id (ckpt_...) from GET /v1/jobs/JOB/checkpoints.",
	.words_at = offsetof(struct options, checkpoint),
	.max_words = 1,
	.words_plain = true,
	.statuses = "0 written, 1 refused or the download failed, 2 wrong usage",
	.example = "wasd export ckpt_01J8ZQ --format onnx --mode dom",
	.run = run_export,
	.rows = export_rows,
};
