/* merge/tarball.c - see tarball.h: ustar by libarchive, without times and owners. */
#include "merge/tarball.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct tarball {
	struct archive *a;
	char *path, *part;
	int fd;
	uint64_t bytes, max;
	struct wasd_sha256 *sha;
	struct wasd_err why; /* what libarchive would not report */
};

static la_ssize_t on_bytes(struct archive *a, void *ctx, const void *p, size_t n)
{
	struct tarball *t = ctx;
	enum wasd_status s = t->bytes + n > t->max ?
	                         wasd_fail(&t->why, WASD_ETOOBIG, "the archive would have more than %llu bytes",
	                                   (unsigned long long)t->max) :
	                         wasd_write_full(t->fd, p, n, &t->why);
	if (s) {
		archive_set_error(a, EIO, "write");
		return ARCHIVE_FATAL;
	}
	wasd_sha256_update(t->sha, p, n);
	t->bytes += n;
	return (la_ssize_t)n;
}

static enum wasd_status failed(struct tarball *t, struct wasd_err *err)
{
	if (t->why.status)
		return wasd_fail(err, t->why.status, "%s", t->why.msg);
	const char *why = archive_error_string(t->a);
	return wasd_fail(err, archive_errno(t->a) == ENOMEM ? WASD_ENOMEM : WASD_EIO, "tar: %.200s", why ? why : "failed");
}

enum wasd_status tarball_create(const char *path, uint64_t max_bytes, struct tarball **out, struct wasd_err *err)
{
	struct tarball *t = wasd_calloc(1, sizeof *t);
	enum wasd_status s = WASD_OK;
	if (!t)
		return wasd_fail(err, WASD_ENOMEM, "tar");
	*t = (struct tarball){.fd = -1, .max = max_bytes};
	t->a = archive_write_new();
	t->sha = wasd_sha256_create();
	t->path = wasd_strdup(path);
	t->part = wasd_asprintf("%s.part", path);
	if (!t->a || !t->sha || !t->path || !t->part)
		s = wasd_fail(err, WASD_ENOMEM, "tar");
	else if ((t->fd = open(t->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640)) < 0)
		s = wasd_fail_errno(err, errno, "%s", t->part);
	else if (archive_write_set_format_ustar(t->a) || archive_write_open(t->a, t, NULL, on_bytes, NULL))
		s = failed(t, err);
	if (s)
		tarball_destroy(t);
	else
		*out = t;
	return s;
}

enum wasd_status tarball_add(struct tarball *t, const char *name, const void *data, size_t len, struct wasd_err *err)
{
	struct archive_entry *e = archive_entry_new();
	if (!e)
		return wasd_fail(err, WASD_ENOMEM, "tar");
	archive_entry_set_pathname(e, name);
	archive_entry_set_size(e, (la_int64_t)len);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_mtime(e, 0, 0);
	bool ok = archive_write_header(t->a, e) == ARCHIVE_OK && archive_write_data(t->a, data, len) == (la_ssize_t)len;
	archive_entry_free(e);
	return ok ? WASD_OK : failed(t, err);
}

enum wasd_status tarball_finish(struct tarball *t, uint64_t *bytes, char sha256[WASD_SHA256_HEX], struct wasd_err *err)
{
	if (archive_write_close(t->a) != ARCHIVE_OK)
		return failed(t, err);
	if (fsync(t->fd) || rename(t->part, t->path))
		return wasd_fail_errno(err, errno, "%s", t->path);
	wasd_free(t->part);
	t->part = NULL;
	*bytes = t->bytes;
	wasd_sha256_hex(t->sha, sha256);
	return WASD_OK;
}

void tarball_destroy(struct tarball *t)
{
	if (!t)
		return;
	if (t->a)
		archive_write_free(t->a); /* may write once more */
	if (t->fd >= 0)
		close(t->fd);
	if (t->part && t->fd >= 0)
		unlink(t->part);
	wasd_sha256_destroy(t->sha);
	wasd_free(t->path);
	wasd_free(t->part);
	wasd_free(t);
}
