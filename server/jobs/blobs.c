#include "jobs/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static enum wasd_status no_memory(struct wasd_err *err)
{
	return wasd_fail(err, WASD_ENOMEM, "no memory for a blob");
}

char *blobs_path(const char *data_dir, const char *sha256)
{
	return wasd_asprintf("%s/blobs/%s", data_dir, sha256);
}

enum wasd_status blobs_init(const char *data_dir, struct wasd_err *err)
{
	char *dir = blobs_path(data_dir, "");
	enum wasd_status s = dir ? wasd_mkdirs(dir, err) : no_memory(err);
	wasd_free(dir);
	return s;
}

void blobs_sweep(const char *data_dir)
{
	char *dir = blobs_path(data_dir, "");
	DIR *d = dir ? opendir(dir) : NULL;
	time_t now = time(NULL);
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		if (e->d_name[0] != '.' && !fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
		    now - st.st_mtime > BLOB_KEEP_S)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
	wasd_free(dir);
}

enum wasd_status blobs_put(const char *data_dir, const struct api_upload *file, bool *existed, struct wasd_err *err)
{
	char *path = blobs_path(data_dir, file->sha256), *dir = blobs_path(data_dir, "");
	enum wasd_status s = path && dir ? WASD_OK : no_memory(err);
	if (s == WASD_OK) {
		*existed = utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0; /* uploaded again: the day starts over */
		if (!*existed && rename(file->path, path))
			s = wasd_fail_errno(err, errno, "cannot store the blob");
		else if (!*existed)
			s = wasd_fsync_dir(dir, err);
	}
	wasd_free(path);
	wasd_free(dir);
	return s;
}

enum wasd_status blobs_open(const char *data_dir, const char *sha256, struct api_file *out, struct wasd_err *err)
{
	char *path = blobs_path(data_dir, sha256);
	struct stat st;
	if (!path)
		return no_memory(err);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int why = fd < 0 || fstat(fd, &st) ? errno : 0;
	wasd_free(path);
	if (why && fd >= 0)
		close(fd);
	if (why == ENOENT)
		return wasd_fail(err, WASD_ENOTFOUND, "no blob %s", sha256);
	if (why)
		return wasd_fail_errno(err, why, "blob %s", sha256);
	*out = (struct api_file){.fd = fd, .bytes = st.st_size};
	snprintf(out->sha256, sizeof out->sha256, "%s", sha256);
	return WASD_OK;
}

struct api_blobs blobs_api(const char *data_dir)
{
	return (struct api_blobs){.self = data_dir, .put = blobs_put, .open = blobs_open};
}
