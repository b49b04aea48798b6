/* download.c - see download.h. */
#include "client/download.h"
#include "client/client.h"

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
static void say_refusal(const char *command, int fd, const char *head, const char *body, size_t have)
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
	fprintf(stderr, "wasd %s: %s\n", command, *detail ? detail : head + strcspn(head, " "));
	cJSON_Delete(o);
	wasd_buf_done(&b);
}

/* Writes the body to path.part, then renames it to path. */
static int save(const char *command, int fd, const char *path, const char *first, size_t have, int64_t want)
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
		fprintf(stderr, "wasd %s: %s\n", command, err.msg);
	if (out >= 0)
		close(out);
	if (s != WASD_OK && out >= 0)
		unlink(part);
	wasd_free(part);
	return s == WASD_OK ? CLIENT_OK : CLIENT_FAILED;
}

int client_download(const char *command, const char *url, const char *head, const char *path)
{
	static char reply[HEAD_MAX + 1];
	char where[CLIENT_WHERE], *body;
	size_t len;
	int fd = client_ask(url, head, NULL, where), rc = CLIENT_FAILED;
	if (fd < 0)
		return rc;
	if (!read_head(fd, reply, &len, &body))
		fprintf(stderr, "wasd %s: %s did not answer\n", command, where);
	else if (strncmp(reply, "HTTP/1.", 7) || strncmp(reply + 8, " 200", 4))
		say_refusal(command, fd, reply, body, len - (size_t)(body - reply));
	else
		rc = save(command, fd, path, body, len - (size_t)(body - reply), content_length(reply));
	close(fd);
	return rc;
}
