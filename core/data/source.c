/* source.c - the bytes of an upload. We unpack gzip ourselves because libarchive 3.6 does not verify the checksum of a
 * gzip file: a flipped bit would become a wrong pixel. */
#include "data/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK = 128 << 10 };

/* ---- gzip ------------------------------------------------------------------------------ */

struct gunzip {
	gunzip_read *read;
	void *ctx;
	z_stream z;
	bool inside, any; /* inside: inside a member; any: at least one member is complete */
	uint8_t in[CHUNK];
};

static void *z_alloc(void *ctx, unsigned n, unsigned size)
{
	(void)ctx;
	return wasd_calloc(n, size);
}
static void z_free(void *ctx, void *p)
{
	(void)ctx;
	wasd_free(p);
}

struct gunzip *gunzip_create(gunzip_read *read, void *ctx)
{
	struct gunzip *g = wasd_calloc(1, sizeof *g);
	if (!g)
		return NULL;
	g->read = read;
	g->ctx = ctx;
	g->z.zalloc = z_alloc;
	g->z.zfree = z_free;
	if (inflateInit2(&g->z, 16 + MAX_WBITS) == Z_OK) /* 16: gzip header and trailer, checksum verified */
		return g;
	wasd_free(g);
	return NULL;
}

void gunzip_destroy(struct gunzip *g)
{
	if (g)
		inflateEnd(&g->z);
	wasd_free(g);
}

/* Zeros after the last member are tape padding and are accepted. */
static bool only_zeros(const struct gunzip *g)
{
	for (unsigned i = 0; i < g->z.avail_in; i++)
		if (g->z.next_in[i])
			return false;
	return true;
}

enum wasd_status gunzip_next(struct gunzip *g, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	g->z.next_out = p;
	g->z.avail_out = (unsigned)n;
	while (g->z.avail_out) {
		if (!g->z.avail_in) {
			size_t k;
			enum wasd_status s = g->read(g->ctx, g->in, sizeof g->in, &k, err);
			if (s)
				return s;
			if (!k && g->inside)
				return wasd_fail(err, WASD_ECORRUPT, "the gzip data is cut off");
			if (!k)
				break;
			g->z.next_in = g->in;
			g->z.avail_in = (unsigned)k;
		}
		if (!g->inside && g->any && only_zeros(g)) {
			g->z.avail_in = 0;
			continue;
		}
		g->inside = true;
		int e = inflate(&g->z, Z_NO_FLUSH);
		if (e == Z_STREAM_END) {
			g->inside = false;
			g->any = true;
			inflateReset(&g->z);
		} else if (e == Z_MEM_ERROR)
			return wasd_fail(err, WASD_ENOMEM, "no memory to unpack gzip");
		else if (e != Z_OK && e != Z_BUF_ERROR)
			return wasd_fail(err, WASD_ECORRUPT, "damaged gzip data: %s", g->z.msg ? g->z.msg : "bad stream");
	}
	*got = n - g->z.avail_out;
	return WASD_OK;
}

/* ---- the file ---------------------------------------------------------------------------- */

struct source {
	int fd;
	uint64_t size;
	struct gunzip *gz;
	uint8_t buf[CHUNK];
	size_t ahead; /* bytes at the front of buf that were peeked at but not consumed */
};

static enum wasd_status read_fd(void *ctx, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	const struct source *s = ctx;
	ssize_t k;
	do
		k = read(s->fd, p, n);
	while (k < 0 && errno == EINTR);
	if (k < 0)
		return wasd_fail_errno(err, errno, "read");
	*got = (size_t)k;
	return WASD_OK;
}

enum wasd_status source_open(const char *path, struct source **out, struct wasd_err *err)
{
	uint8_t magic[2] = {0};
	struct stat st;
	struct source *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	enum wasd_status e = WASD_OK;
	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->fd < 0)
		e = wasd_fail_errno(err, errno, "open");
	else if (fstat(s->fd, &st) || !S_ISREG(st.st_mode))
		e = wasd_fail(err, WASD_EINVAL, "not a regular file");
	else if (pread(s->fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b &&
	         !(s->gz = gunzip_create(read_fd, s)))
		e = wasd_fail(err, WASD_ENOMEM, "no memory to unpack gzip");
	if (e) {
		source_close(s);
		return e;
	}
	s->size = (uint64_t)st.st_size;
	*out = s;
	return WASD_OK;
}

void source_close(struct source *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	gunzip_destroy(s->gz);
	wasd_free(s);
}

uint64_t source_size(const struct source *s)
{
	return s->size;
}
bool source_is_gzip(const struct source *s)
{
	return s->gz;
}

static enum wasd_status fill(struct source *s, size_t from, size_t to, size_t *got, struct wasd_err *err)
{
	return s->gz ? gunzip_next(s->gz, s->buf + from, to - from, got, err) :
	               read_fd(s, s->buf + from, to - from, got, err);
}

enum wasd_status source_next(struct source *s, const void **p, size_t *n, struct wasd_err *err)
{
	enum wasd_status e = WASD_OK;
	if (s->ahead)
		*n = s->ahead;
	else
		e = fill(s, 0, sizeof s->buf, n, err);
	s->ahead = 0;
	*p = s->buf;
	return e;
}

enum wasd_status source_peek(struct source *s, uint8_t *head, size_t want, size_t *n, struct wasd_err *err)
{
	while (s->ahead < want) {
		size_t k;
		enum wasd_status e = fill(s, s->ahead, want, &k, err);
		if (e)
			return e;
		if (!k)
			break;
		s->ahead += k;
	}
	*n = s->ahead < want ? s->ahead : want;
	memcpy(head, s->buf, *n);
	return WASD_OK;
}

bool source_seek(struct source *s, int64_t offset, int whence, int64_t *at)
{
	if (s->gz)
		return false;
	off_t r = lseek(s->fd, offset, whence);
	s->ahead = 0;
	*at = r;
	return r >= 0;
}

bool source_read_at(const struct source *s, uint64_t at, void *p, size_t n)
{
	while (n) {
		ssize_t k = pread(s->fd, p, n, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p = (char *)p + k, at += (uint64_t)k, n -= (size_t)k;
	}
	return true;
}
