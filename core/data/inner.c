/* inner.c - handles an archive whose only file is another archive: writes the inner one to a file of its own, which is
 * then read. */
#include "data/ingest.h"

#include <fcntl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 64 << 10 };

bool ingest_has_inner(const struct ingest *in)
{
	static const char *const magics[] = {"PK\3\4",
	                                     "\xfd"
	                                     "7zX",
	                                     "BZh", "\x28\xb5\x2f\xfd"};
	if (in->n != 1 || in->entry[0].bare || in->entry[0].text)
		return false;
	const struct entry *e = &in->entry[0];
	for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
		if (!memcmp(e->head, magics[i], strlen(magics[i])))
			return true;
	return e->gz || name_ends(entry_base(in, 0), ".tar");
}

struct copy {
	int fd;
	const char *path;
};

static enum wasd_status copy_out(void *plan, size_t i, struct stream *s, struct wasd_err *err)
{
	const struct copy *c = plan;
	size_t got = 0;
	char *buf = wasd_malloc(CHUNK);
	(void)i;
	enum wasd_status st = buf ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
	while (!st && !(st = stream_read(s, buf, CHUNK, &got, err)) && got)
		st = wasd_write_full(c->fd, buf, got, err);
	wasd_free(buf);
	return st;
}

enum wasd_status ingest_inner(struct ingest *in, char **path, struct wasd_err *err)
{
	struct copy c = {.fd = -1};
	char *tmp = wasd_asprintf("%s.inner-XXXXXX", in->out_path);
	if (!tmp)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	c.fd = mkostemp(tmp, O_CLOEXEC);
	enum wasd_status s = c.fd < 0 ? wasd_fail_errno(err, errno, "%s", tmp) : ingest_replay(in, NULL, copy_out, &c, err);
	if (c.fd >= 0)
		close(c.fd);
	if (!s) {
		*path = tmp;
		return WASD_OK;
	}
	if (c.fd >= 0)
		unlink(tmp);
	wasd_free(tmp);
	return s;
}
