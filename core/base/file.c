/* base/file.c - durable files, directories and sealed memory files. */
#include "wasd/base.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum wasd_status wasd_write_full(int fd, const void *p, size_t n, struct wasd_err *err)
{
	const char *c = p;
	while (n) {
		ssize_t k = write(fd, c, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return wasd_fail_errno(err, errno, "write");
		c += k;
		n -= (size_t)k;
	}
	return WASD_OK;
}

enum wasd_status wasd_read_full(int fd, void *p, size_t n, struct wasd_err *err)
{
	char *c = p;
	while (n) {
		ssize_t k = read(fd, c, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return wasd_fail_errno(err, errno, "read");
		if (k == 0)
			return wasd_fail(err, WASD_ECORRUPT, "ends %zu bytes too early", n);
		c += k;
		n -= (size_t)k;
	}
	return WASD_OK;
}

enum wasd_status wasd_fsync_dir(const char *path, struct wasd_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return wasd_fail_errno(err, errno, "%s", path);
	enum wasd_status s = fsync(fd) ? wasd_fail_errno(err, errno, "fsync of %s", path) : WASD_OK;
	close(fd);
	return s;
}

static enum wasd_status fsync_parent(const char *path, struct wasd_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir = !slash ? wasd_strdup(".") : wasd_strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!dir)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	enum wasd_status s = wasd_fsync_dir(dir, err);
	wasd_free(dir);
	return s;
}

enum wasd_status wasd_file_write_atomic(const char *path, const void *data, size_t len, struct wasd_err *err)
{
	char *tmp = wasd_asprintf("%s.tmp-XXXXXX", path);
	if (!tmp)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	enum wasd_status s = WASD_OK;
	int fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0) {
		s = wasd_fail_errno(err, errno, "%s", tmp);
		goto out;
	}
	if ((s = wasd_write_full(fd, data, len, err)))
		goto undo;
	if (fchmod(fd, 0640) || fsync(fd)) {
		s = wasd_fail_errno(err, errno, "fsync of %s", tmp);
		goto undo;
	}
	if (close(fd)) {
		fd = -1;
		s = wasd_fail_errno(err, errno, "close of %s", tmp);
		goto undo;
	}
	fd = -1;
	if (rename(tmp, path)) {
		s = wasd_fail_errno(err, errno, "rename of %s to %s", tmp, path);
		goto undo;
	}
	s = fsync_parent(path, err);
	goto out;
undo:
	if (fd >= 0)
		close(fd);
	unlink(tmp);
out:
	wasd_free(tmp);
	return s;
}

enum wasd_status wasd_file_read(const char *path, size_t max, char **data, size_t *len, struct wasd_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int e = errno;
		wasd_fail_errno(err, e, "%s", path);
		if (e != ENOENT)
			return wasd_fail_errno(NULL, e, "%s", path);
		if (err)
			err->status = WASD_ENOTFOUND;
		return WASD_ENOTFOUND;
	}
	/* Read to the end instead of trusting st_size: /proc files report 0 and other files may grow. */
	struct wasd_buf b = {.max = max};
	enum wasd_status s = WASD_OK;
	char chunk[16384];
	for (;;) {
		ssize_t k = read(fd, chunk, sizeof chunk);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			s = wasd_fail_errno(err, errno, "%s", path);
		else if (k > 0 && b.len + (size_t)k > max)
			s = wasd_fail(err, WASD_ETOOBIG, "%s: larger than %zu bytes", path, max);
		else if (k > 0 && !wasd_buf_append(&b, chunk, (size_t)k))
			s = wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
		if (s || k <= 0)
			break;
	}
	close(fd);
	if (!s && !wasd_buf_cstr(&b))
		s = wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	if (s) {
		wasd_buf_done(&b);
		return s;
	}
	*data = b.data;
	if (len)
		*len = b.len;
	return WASD_OK;
}

enum wasd_status wasd_mkdirs(const char *path, struct wasd_err *err)
{
	char *p = wasd_strdup(path);
	if (!p)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	enum wasd_status s = WASD_OK;
	for (char *c = p + (*p == '/'); !s; c++) {
		if (*c && *c != '/')
			continue;
		char was = *c;
		*c = 0;
		struct stat st;
		if (*p && mkdir(p, 0750)) {
			int e = errno;
			if (e != EEXIST)
				s = wasd_fail_errno(err, e, "%s", p);
			else if (stat(p, &st))
				s = wasd_fail_errno(err, errno, "%s", p);
			else if (!S_ISDIR(st.st_mode))
				s = wasd_fail_errno(err, ENOTDIR, "%s", p);
		}
		if (!was)
			break;
		*c = was;
	}
	wasd_free(p);
	return s;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)at;
	return kind == FTW_DP ? rmdir(path) : unlink(path);
}

enum wasd_status wasd_remove_tree(const char *path, struct wasd_err *err)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
		return WASD_OK;
	return wasd_fail_errno(err, errno, "remove %s", path);
}

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

/* Pieces without bytes (iov_base NULL) are zeros. */
enum wasd_status wasd_memfd_gather(const char *name, const struct iovec *part, int n_parts, int *fd,
                                   struct wasd_err *err)
{
	size_t n = 0;
	for (int i = 0; i < n_parts; i++)
		n += part[i].iov_len;
	if (n > (size_t)LLONG_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "memory file %s: %zu bytes", name, n);
	int f = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f < 0)
		return wasd_fail_errno(err, errno, "memory file %s", name);
	enum wasd_status s = WASD_OK;
	if (ftruncate(f, (off_t)n))
		s = wasd_fail_errno(err, errno, "memory file %s", name);
	for (int i = 0; i < n_parts && !s; i++)
		if (part[i].iov_base)
			s = wasd_write_full(f, part[i].iov_base, part[i].iov_len, err);
	if (!s && fcntl(f, F_ADD_SEALS, SEALS))
		s = wasd_fail_errno(err, errno, "seals of memory file %s", name);
	if (s) {
		close(f);
		return s;
	}
	*fd = f;
	return WASD_OK;
}

enum wasd_status wasd_memfd_sealed(const char *name, const void *p, size_t n, int *fd, struct wasd_err *err)
{
	return wasd_memfd_gather(name, &(struct iovec){(void *)(uintptr_t)p, n}, 1, fd, err);
}

enum wasd_status wasd_memfd_map(int fd, size_t n, const void **p, struct wasd_err *err)
{
	/* Check the seals first: once they are set, the size cannot change, so the mapping can never fault. */
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		return wasd_fail(err, WASD_ECORRUPT,
		                 "the descriptor is not a memory file sealed against write, shrink and grow");
	struct stat st;
	if (fstat(fd, &st))
		return wasd_fail_errno(err, errno, "memory file");
	if (st.st_size < 0 || (uint64_t)st.st_size != n)
		return wasd_fail(err, WASD_ECORRUPT, "memory file has %lld bytes, but %zu were announced",
		                 (long long)st.st_size, n);
	if (n == 0) {
		*p = "";
		return WASD_OK;
	}
	void *m = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return wasd_fail_errno(err, errno, "map of a memory file of %zu bytes", n);
	*p = m;
	return WASD_OK;
}

void wasd_memfd_unmap(const void *p, size_t n)
{
	if (p && n)
		munmap((void *)(uintptr_t)p, n);
}
