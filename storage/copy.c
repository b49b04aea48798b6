/* copy.c - durable copies of files with their digests, for backups. */
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool copy_path_ok(const char *relative)
{
	size_t n = strlen(relative);
	if (!n || n >= STORAGE_PATH / 2 || relative[0] == '/' || relative[n - 1] == '/')
		return false;
	for (const char *p = relative; *p; p += strcspn(p, "/"), p += *p == '/') {
		size_t k = strcspn(p, "/");
		if (!k || (k == 1 && p[0] == '.') || (k == 2 && p[0] == '.' && p[1] == '.'))
			return false;
	}
	return true;
}

/* Reads `from` and writes it to `out` unless out is -1. */
static enum wasd_status pass(int in, int out, const char *from, atomic_bool *stop, char sha256[WASD_SHA256_HEX],
                             int64_t *bytes, struct wasd_err *err)
{
	enum { PIECE = 1 << 20 };
	struct wasd_sha256 *sha = wasd_sha256_create();
	char *buf = wasd_malloc(PIECE);
	enum wasd_status st = sha && buf ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "%s: no memory", from);
	*bytes = 0;
	while (!st) {
		ssize_t k = read(in, buf, PIECE);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			st = wasd_fail_errno(err, errno, "%s", from);
		if (k <= 0)
			break;
		wasd_sha256_update(sha, buf, (size_t)k);
		*bytes += k;
		if (out >= 0)
			st = wasd_write_full(out, buf, (size_t)k, err);
		if (!st && stop && atomic_load(stop))
			st = wasd_fail(err, WASD_ECANCELLED, "the daemon is ending");
	}
	if (!st)
		wasd_sha256_hex(sha, sha256);
	wasd_sha256_destroy(sha);
	wasd_free(buf);
	return st;
}

static int open_regular(const char *path, struct wasd_err *err, enum wasd_status *st)
{
	struct stat sb;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	*st = WASD_OK;
	if (fd < 0)
		*st = errno == ENOENT ? wasd_fail(err, WASD_ENOTFOUND, "%s is missing", path) :
		                        wasd_fail_errno(err, errno, "%s", path);
	else if (fstat(fd, &sb) || !S_ISREG(sb.st_mode))
		*st = wasd_fail(err, WASD_ECORRUPT, "%s is not a regular file", path);
	if (*st && fd >= 0)
		close(fd);
	return *st ? -1 : fd;
}

enum wasd_status hash_file(const char *path, atomic_bool *stop, char sha256[WASD_SHA256_HEX], int64_t *bytes,
                           struct wasd_err *err)
{
	enum wasd_status st;
	int fd = open_regular(path, err, &st);
	if (st)
		return st;
	st = pass(fd, -1, path, stop, sha256, bytes, err);
	close(fd);
	return st;
}

enum wasd_status copy_file(const char *from, const char *to, atomic_bool *stop, char sha256[WASD_SHA256_HEX],
                           int64_t *bytes, struct wasd_err *err)
{
	enum wasd_status st;
	int in = open_regular(from, err, &st), out = -1;
	if (st)
		return st;
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (out < 0)
		st = wasd_fail_errno(err, errno, "%s", to);
	else
		st = pass(in, out, from, stop, sha256, bytes, err);
	if (!st && fsync(out))
		st = wasd_fail_errno(err, errno, "%s", to);
	close(in);
	if (out >= 0)
		close(out);
	return st;
}
