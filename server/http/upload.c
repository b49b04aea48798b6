#include "http/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct stage {
	int fd;
	bool keep;
	char *path;
	uint64_t bytes, max, checked;
	struct upload_space space;
	struct wasd_sha256 *sha;
	struct wasd_err failed;
};

enum wasd_status stage_create(const char *dir, uint64_t max, struct upload_space space, struct stage **out,
                              struct wasd_err *err)
{
	char id[WASD_ULID_LEN + 8];
	wasd_ulid("up_", id);
	struct stage *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an upload");
	s->fd = -1;
	s->max = max;
	s->space = space;
	s->path = wasd_asprintf("%s/%s", dir, id);
	s->sha = wasd_sha256_create();
	if (!s->path || !s->sha) {
		stage_destroy(s);
		return wasd_fail(err, WASD_ENOMEM, "no memory for an upload");
	}
	s->fd = open(s->path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0) {
		enum wasd_status st = wasd_fail_errno(err, errno, "cannot create %s", s->path);
		s->keep = true; /* nothing to unlink */
		stage_destroy(s);
		return st;
	}
	*out = s;
	return WASD_OK;
}

/* Sets s->failed if there is no room for n more bytes; looks only every 16 MiB. */
static void check_room(struct stage *s, size_t n)
{
	if (s->bytes + n - s->checked <= (16u << 20))
		return;
	s->checked = s->bytes + n;
	if (s->space.check)
		s->space.check(s->space.ctx, n, &s->failed);
}

enum wasd_status stage_write(struct stage *s, const void *p, size_t n, struct wasd_err *err)
{
	if (!s->failed.status && s->bytes + n > s->max)
		wasd_fail(&s->failed, WASD_ETOOBIG, "the upload is larger than the limit of %llu bytes",
		          (unsigned long long)s->max);
	if (!s->failed.status)
		check_room(s, n);
	if (!s->failed.status && wasd_write_full(s->fd, p, n, &s->failed) == WASD_OK) {
		wasd_sha256_update(s->sha, p, n);
		s->bytes += n;
		return WASD_OK;
	}
	if (err)
		*err = s->failed;
	return s->failed.status;
}

enum wasd_status stage_finish(struct stage *s, struct api_upload *up, struct wasd_err *err)
{
	if (!s->failed.status && fsync(s->fd))
		wasd_fail_errno(&s->failed, errno, "cannot sync the upload");
	if (s->failed.status) {
		if (err)
			*err = s->failed;
		return s->failed.status;
	}
	close(s->fd);
	s->fd = -1;
	*up = (struct api_upload){.path = s->path, .bytes = s->bytes, .name = ""};
	wasd_sha256_hex(s->sha, up->sha256);
	return WASD_OK;
}

void stage_keep(struct stage *s)
{
	s->keep = true;
}

void stage_destroy(struct stage *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	if (s->path && !s->keep)
		unlink(s->path);
	wasd_sha256_destroy(s->sha);
	wasd_free(s->path);
	wasd_free(s);
}
